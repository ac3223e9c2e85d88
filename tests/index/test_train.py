"""A head for an index: trained on meanings or on pairs, used by search and mining, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from test_index import DIM, SPEC, frames, made, slow_scores

from helpers import victims
from interlingua import cli
from interlingua.encoding.store import FrameStore
from interlingua.errors import StoreError, UsageError
from interlingua.index import Index
from interlingua.index.mine import MinedPair, Side, mine
from interlingua.index.pairs import write_pairs
from interlingua.index.train import train
from interlingua.retrieval.head import Head, HeadSettings, head_path, sentence
from interlingua.types import Frames

QUICK = HeadSettings(steps=10, batch=16, pooling=1, drop=0.0)


def described(language: str, m: int) -> Frames:
    """As `frames`, and the manifest says the meaning."""
    f = frames(language, m)
    return replace(f, utterance=msgspec.structs.replace(f.utterance, meaning=f"m{m}"))


@pytest.fixture
def uri(tmp_path):
    uri = f"{tmp_path}/speech.lance"
    made(uri, [described(language, m) for language in ("en", "fr", "ru") for m in range(30)])
    return uri


def query(m: int) -> Frames:
    f = frames("en", m)
    return Frames("query", f.values, f.n_speech)


def test_scores_with_a_head_equal_plain_loops(uri):
    index = Index.open(uri)
    before = index.statistics.languages["en"].transform.matrix
    head = train([index], settings=QUICK)
    assert index.statistics.head == head.digest
    np.testing.assert_allclose(index.statistics.languages["en"].transform.matrix, before @ head.matrix, atol=1e-4)
    expected = slow_scores(index, query(3), "en")
    hits = Index.open(uri).search(query(3), 90, language="en")
    assert {h.utterance.id: h.score for h in hits} == pytest.approx(expected, abs=1e-2)
    assert head.about["pairs"] == {"en-fr": 30, "en-ru": 30, "fr-ru": 30}
    assert head.about["from"] == "meanings"
    assert sentence("m3") in head.groups


def test_training_again_starts_from_the_whitening_alone(uri):
    index = Index.open(uri)
    assert train([index], settings=QUICK).digest == train([index], settings=QUICK).digest


def test_a_head_that_is_deleted_is_gone_with_the_next_refresh(uri):
    index = Index.open(uri)
    plain = index.statistics.version
    train([index], settings=QUICK)
    assert index.statistics.version == f"{plain}-{index.head.digest}"
    head_path(index.store.path).unlink()
    index.refresh()
    assert index.statistics.version == plain


def test_new_utterances_are_placed_by_the_head(uri):
    index = Index.open(uri)
    head = train([index], settings=QUICK)
    again = made(uri, [described("en", m) for m in range(30, 70)])  # English doubles: statistics are made anew
    assert again.statistics.head == head.digest
    assert len(again) == 130


def test_two_indexes_share_a_head_to_be_mined(tmp_path):
    uris = [f"{tmp_path}/{language}" for language in ("en", "fr")]
    a, b = (made(uri, [described(Path(uri).name, m) for m in range(30)]) for uri in uris)
    train([a, b], settings=QUICK)
    found = mine(Side(a), Side(b))
    assert sum(p.id_a[3:] == p.id_b[3:] for p in found.table(found.chosen())) >= 25
    train([a, b], settings=replace(QUICK, seed=1))
    head_path(b.store.path).unlink()
    b.refresh()
    with pytest.raises(UsageError, match="their heads differ; train one for both"):
        mine(Side(a), Side(b))


def test_pairs_of_a_table_in_place_of_meanings(tmp_path):
    """Near copies, pairs that are best one way only, and those that are marked as wrong teach nothing."""
    uri = f"{tmp_path}/speech"
    index = made(uri, [frames(language, m) for language in ("en", "fr") for m in range(60)])
    with pytest.raises(UsageError, match="no two utterances have one `meaning`; name pairs with --pairs"):
        train([index], settings=QUICK)
    found = mine(Side(index, "en"), Side(index, "fr"))
    rows = found.table(found.chosen())
    assert len(rows) >= 42
    rows = [
        msgspec.structs.replace(rows[0], near_copy=True),
        msgspec.structs.replace(rows[1], one_to_one=False),
        *rows[2:],
    ]
    write_pairs(tmp_path / "mined.tsv", rows, MinedPair)
    assert sum(train([index], tmp_path / "mined.tsv", QUICK).about["pairs"].values()) == round((len(rows) - 2) / 2)
    marked = [f"{p.id_a}\t{p.id_b}\t{p.csls}\tyes" for p in rows]
    (tmp_path / "marked.tsv").write_text("\n".join(["id_a\tid_b\tcsls\tright", *marked]) + "\n")
    assert sum(train([index], tmp_path / "marked.tsv", QUICK).about["pairs"].values()) == len(rows)
    lines = [f"{p.id_a}\t{p.id_b}\t{'no' if n == 2 else 'yes'}" for n, p in enumerate(rows)]
    (tmp_path / "own.tsv").write_text("\n".join(["id_a\tid_b\tright", *lines]) + "\n")
    assert sum(train([index], tmp_path / "own.tsv", QUICK).about["pairs"].values()) == len(rows) - 1
    (tmp_path / "own.tsv").write_text("\n".join(["id_a\tid_b\tright", *lines[:3]]) + "\n")
    with pytest.raises(UsageError, match=r"--pairs .*own.tsv: 2 pairs of .* 20 are needed"):
        train([index], tmp_path / "own.tsv", QUICK)
    (tmp_path / "own.tsv").write_text("id_a\tid_b\nen/1\tfr/none\n")
    with pytest.raises(UsageError, match=r"--pairs .*own.tsv: 'fr/none' isn't in the index"):
        train([index], tmp_path / "own.tsv", QUICK)


def test_what_cannot_be_trained_is_refused_and_nothing_is_written(uri, tmp_path):
    index = Index.open(uri)
    shared = Index.of(
        f"{tmp_path}/shard",
        FrameStore.open_or_create(f"{tmp_path}/shard/frames.lance", SPEC, DIM),
        shared=index.statistics,
    )
    small = made(f"{tmp_path}/small", [described("ru", m) for m in range(40, 45)])
    twice = made(f"{tmp_path}/twice", [described("en", m) for m in range(25)])
    for indexes, reason in (
        ([shared], "shares another index's statistics"),
        ([index, small], "5 utterances; 20 are needed"),
        ([index, twice], "both hold 'en/0'"),
        ([small], "no two utterances have one `meaning`"),
    ):
        with pytest.raises(UsageError, match=reason):
            train(indexes, settings=QUICK)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_head_of_other_frames_is_refused(uri):
    index = Index.open(uri)
    Head(np.eye(3, dtype=np.float32)).save(head_path(index.store.path))
    with pytest.raises(StoreError, match="3 wide, and these are 6"):
        index.refresh()


# ---------------------------------------------------------------- the command


def test_the_command(uri, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("interlingua.retrieval.head.HeadSettings", lambda seed: replace(QUICK, seed=seed))
    assert cli.run(["index", "train", uri]) == 0
    shown = capsys.readouterr().out
    assert "trained on 90 pairs (en-fr 30, en-ru 30, fr-ru 30)" in shown
    assert f"{uri}/frames.head.safetensors" in shown
    assert cli.run(["index", "train", uri, "--seed", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["head"] == Index.open(uri).statistics.head
    assert cli.run(["index", "info", uri]) == 0
    assert f"head:       {found['head']}" in capsys.readouterr().out
    assert cli.run(["index", "train", uri, uri]) == 2
    assert cli.run(["index", "train", uri, "--pairs", str(tmp_path / "none.tsv")]) == 2
    assert "none.tsv: no table of mined pairs" in capsys.readouterr().err


def test_evaluation_uses_the_head_beside_the_store(uri, tmp_path, capsys):
    index = Index.open(uri)
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("".join(f"{line}\n" for line in index.store.lines().values()))
    asked = ["evaluate", "retrieval", str(manifest), f"{uri}/frames.lance", "--method", "head"]
    assert cli.run(asked) == 2
    assert "frames.head.safetensors: no head here; make one with `interlingua index train`" in capsys.readouterr().err
    head = train([index], settings=QUICK)
    assert cli.run([*asked, "--json"]) == 0
    shown = capsys.readouterr()
    assert "the head was trained on sentences of 90 of 90 utterances" in shown.err
    found = json.loads(shown.out)
    assert {row["method"] for row in found["retrieval"]} == {"head"}
    assert found["settings"]["head"] == head.digest
    moved = tmp_path / "other.safetensors"
    head_path(index.store.path).rename(moved)
    assert cli.run([*asked, "--head", str(moved)]) == 0
    assert cli.run([*asked[:4], "--head", str(moved)]) == 2


KILLED = """
    from interlingua.index import Index
    from interlingua.index.train import train
    from interlingua.retrieval.head import HeadSettings
    import lance
    POINTS = [(__import__("pathlib").Path, "replace"), (lance, "write_dataset")]

    def job(uri):
        train([Index.open(uri)], settings=HeadSettings(steps=2, batch=16, pooling=1))
"""


def test_a_killed_training_leaves_a_whole_index(tmp_path, uri):
    import shutil

    with victims(KILLED) as run:
        moment = 1
        while True:
            copy = f"{tmp_path}/copy-{moment}"
            shutil.copytree(uri, copy)
            done = run(moment, copy)
            index = Index.open(copy)
            hits = index.search(query(3), 1, language="en", where="language = 'fr'")
            assert hits[0].utterance.language == "fr"
            index.refresh()
            assert index.statistics.head == (index.head.digest if index.head else "")
            if done is not None:
                assert index.head
                break
            moment += 1
    assert moment > 2
