"""The benchmark of mining: what it mines from tells it nothing, and what it keeps belongs to one code and input."""

import importlib.util
import sys

import msgspec
import numpy as np
import pytest
from test_index import DIM, SPEC, frames

from helpers import ROOT
from interlingua.corpora import read_manifest
from interlingua.encoding.store import FrameStore
from interlingua.types import AudioRef, Utterance


@pytest.fixture(scope="module")
def bench():
    """The modules mine, mine_training and stores of benchmarks/."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    found = []
    try:
        for name in ("stores", "mine_training", "mine"):
            spec = importlib.util.spec_from_file_location(f"bench_{name}", ROOT / "benchmarks" / f"{name}.py")
            module = importlib.util.module_from_spec(spec)
            sys.modules[f"bench_{name}"] = module  # dataclasses look their module up
            spec.loader.exec_module(module)
            found.append(module)
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    return found


def prompts(n: int):
    """As many meanings in English, French and Italian, two in a cluster."""
    return [
        Utterance(
            id=f"{language}/{m}",
            audio=AudioRef(f"{language}/{m}.wav"),
            language=language,
            text=f"{language} {m}",
            translations={"fr": f"fr {m}"},
            meaning=f"m{m}",
            cluster=f"c{m // 2}",
            split="train",
        )
        for language in ("en", "fr", "it")
        for m in range(n)
    ]


@pytest.mark.parametrize(("ratio", "n", "of_each"), [(0, 30, 30), (1, 10, 20)])
def test_collections_hold_what_is_said_and_no_hint(bench, ratio, n, of_each):
    _, training, _ = bench
    there, sides = training.collections(prompts(30), ratio, 0)
    meanings = [{u.id.partition("/")[2] for u in side} for side in sides]
    assert [len(side) for side in sides] == [of_each, of_each]
    assert {f"m{m}" for m in meanings[0] & meanings[1]} == there
    assert len(there) == n
    assert [{u.language for u in side} for side in sides] == [{"en"}, {"fr"}]
    for u in [*sides[0], *sides[1]]:
        assert (u.meaning, u.cluster, u.split, u.translations) == (None, None, None, {})
        assert u.group == u.id
        assert u.text


def test_texts_of_the_mined_recordings(bench, tmp_path):
    _, training, _ = bench
    described = {u.id: u for u in prompts(12)}
    lines = []
    for m in range(12):  # each English recording is mined with the next French one
        a, b = described[f"en/{m}"], described[f"fr/{(m + 1) % 12}"]
        lines.append(msgspec.structs.replace(a, translations={"fr": b.text}, meaning=f"mined {a.id}"))
        lines.append(msgspec.structs.replace(b, translations={"en": a.text}, meaning=f"mined {a.id}"))
    texts = {}
    for kind in training.TEXTS:
        made = read_manifest(training.write_texts(kind, lines, described, tmp_path / f"{kind}.jsonl", 0))
        assert [u.id for u in made] == [f"en/{m}" for m in range(12)]
        texts[kind] = [u.translations["fr"] for u in made]
    assert texts["mined"] == [f"fr {(m + 1) % 12}" for m in range(12)]
    assert texts["gold"] == [f"fr {m}" for m in range(12)]
    assert sorted(texts["wrong"]) == sorted(texts["mined"])
    assert not any(w == m for w, m in zip(texts["wrong"], texts["mined"], strict=True))
    figures = training.judged(lines, described, {"m1", "m2"})
    assert figures == {"pairs": 12, "there": 2, "right": 0.0, "near": 0.5}


def test_pairs_that_are_best_both_ways(bench):
    *_, bench_mine = bench
    sides = bench_mine.Named("a", range(2)), bench_mine.Named("b", range(3))
    scores = np.array([[0.9, 0.8, 0.1], [0.7, 0.6, 0.2]], dtype=np.float32)
    scored = bench_mine.ranked(*sides, *np.divmod(np.arange(6), 3), scores.ravel(), 1)
    best = bench_mine.both_ways(scored, scored.score)
    assert [(scored.i[p], scored.j[p]) for p in best] == [(0, 0)]


def test_the_best_threshold_of_a_collection(bench):
    *_, bench_mine = bench
    n = bench_mine.HELD
    sides = bench_mine.Named("a", range(n)), bench_mine.Named("b", range(n))
    scores = np.eye(n, dtype=np.float32) * np.linspace(1, 0.5, n, dtype=np.float32)
    names = [np.array([f"m{m}" for m in range(n)]) for _ in range(2)]
    names[1][n // 2 :] = "another"  # the weaker half has no partner
    scored = bench_mine.ranked(*sides, *np.divmod(np.arange(n * n), n), scores.ravel(), 1)
    found = bench_mine.at_best(scored, scored.score, names)
    assert (found["precision"], found["recall"], found["ap"]) == (1.0, 0.5, 0.5)


def test_what_is_kept_is_named_by_code_and_inputs(bench, tmp_path, monkeypatch):
    stores, *_ = bench
    (tmp_path / "retrieval").mkdir()
    (tmp_path / "retrieval" / "seqsim.py").write_text("a = 1")
    monkeypatch.setattr(stores, "PACKAGE", tmp_path)
    name = stores.key(["retrieval"], "x", 1)
    assert name == stores.key(["retrieval"], "x", 1)
    assert name != stores.key(["retrieval"], "x", 2)
    (tmp_path / "retrieval" / "seqsim.py").write_text("a = 2")
    assert name != stores.key(["retrieval"], "x", 1)
    with pytest.raises(FileNotFoundError):
        stores.key(["renamed"], "x", 1)


def test_a_subset_of_a_store_is_described_as_given(bench, tmp_path):
    stores, *_ = bench
    store = FrameStore.create(tmp_path / "all.lance", SPEC, DIM)
    store.write([frames("en", m) for m in range(5)])
    some = [msgspec.structs.replace(frames("en", m).utterance, meaning=None) for m in (3, 1)]
    made = stores.subset(store, some, tmp_path / "some.lance")
    assert made.hashes() == {u.id: store.hashes()[u.id] for u in some}
    for f, g in zip(made.read([u.id for u in some]), store.read([u.id for u in some]), strict=True):
        np.testing.assert_array_equal(f.values, g.values)
    assert all('"meaning"' not in line for line in made.lines().values())
