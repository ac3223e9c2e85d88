"""Mining: against plain loops, one index or two, copies, thresholds, the command."""

import csv
import json
from pathlib import Path

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from test_index import DIM, SPEC, frames, made

from helpers import sweep, victims, write_wav
from interlingua import cli
from interlingua.corpora import read_manifest
from interlingua.encoding.store import FrameStore
from interlingua.errors import StoreMismatchError, UsageError
from interlingua.experiments.run import work_folder
from interlingua.index import index as index_module
from interlingua.index import mine as mining
from interlingua.index.mine import MinedPair, Side, mine, sides, write_mined_manifest
from interlingua.index.pairs import read_pairs, write_pairs
from interlingua.retrieval.features import with_position
from interlingua.retrieval.reference import seqsim_pair
from interlingua.types import Frames


@pytest.fixture
def uri(tmp_path):
    """English and French, of which meanings 10 to 24 are in both; and Russian."""
    held = [*(frames("en", m) for m in range(25)), *(frames("fr", m) for m in range(10, 40))]
    uri = f"{tmp_path}/speech.lance"
    made(uri, [*held, *(frames("ru", m) for m in range(30))])
    return uri


def loops(a: Side, b: Side, k: int) -> dict[tuple[str, str], dict[str, float]]:
    """All pairs' figures, one at a time."""

    def changed(side: Side, u) -> np.ndarray:
        (f,) = side.index.store.read([u.id])
        return with_position(side.index.statistics.transform(u.language, f.speech), 0.1)

    own, others = ({u.id: changed(side, u) for u in side.utterances} for side in (a, b))
    score = {(i, j): seqsim_pair(x, y)["f1"] for i, x in own.items() for j, y in others.items()}
    around_a = {i: np.mean(sorted(score[i, j] for j in others)[-k:]) for i in own}
    around_b = {j: np.mean(sorted(score[i, j] for i in own)[-k:]) for j in others}
    csls = {(i, j): 2 * s - around_a[i] - around_b[j] for (i, j), s in score.items()}
    return {
        (i, j): {
            "score": score[i, j],
            "csls": csls[i, j],
            "margin": score[i, j] / ((around_a[i] + around_b[j]) / 2),
            "rank_ab": 1 + sum(csls[i, other] > csls[i, j] for other in others),
            "rank_ba": 1 + sum(csls[other, j] > csls[i, j] for other in own),
        }
        for i, j in score
    }


@pytest.mark.parametrize("k", [1, 4])
def test_figures_equal_plain_loops(uri, k, monkeypatch):
    monkeypatch.setattr(mining, "CHUNK", 7)
    index = index_module.Index.open(uri)
    a, b = Side(index, "en"), Side(index, "fr")
    found = mine(a, b, neighbours=k)
    expected = loops(a, b, k)
    rows = found.table(np.arange(len(found.i)))
    assert {(p.id_a, p.id_b) for p in rows} == expected.keys()
    for p in rows:
        wanted = expected[p.id_a, p.id_b]
        assert [p.score, p.csls, p.margin] == pytest.approx([wanted[n] for n in ("score", "csls", "margin")], abs=1e-3)
        assert (p.rank_ab, p.rank_ba) == (wanted["rank_ab"], wanted["rank_ba"])
        assert p.one_to_one == (p.rank_ab == p.rank_ba == 1)
    best = {(p.id_a, p.id_b) for p in found.table(found.chosen())}
    assert best == {pair for pair, w in expected.items() if w["rank_ab"] == w["rank_ba"] == 1}
    either = {(p.id_a, p.id_b) for p in found.table(found.chosen(one_way=True))}
    assert either == {pair for pair, w in expected.items() if 1 in (w["rank_ab"], w["rank_ba"])}


def test_what_means_the_same_is_mined(uri):
    index = index_module.Index.open(uri)
    found = mine(Side(index, "en"), Side(index, "fr"))
    rows = found.table(found.chosen())
    assert [p.csls for p in rows] == sorted((p.csls for p in rows), reverse=True)
    first = rows[:12]
    assert all(p.id_a.partition("/")[2] == p.id_b.partition("/")[2] for p in first)
    assert first[0].language_a == "en"
    assert (first[0].text_a, first[0].duration_ratio) == (f"text {first[0].id_a[3:]}", 1.0)
    assert not any(p.near_copy for p in rows)
    least = rows[5].csls
    assert 1 <= len(found.chosen(threshold=least + 1e-3)) <= 6
    swapped = mine(Side(index, "fr"), Side(index, "en"))
    back = swapped.table(swapped.chosen())
    assert {(p.id_b, p.id_a) for p in back} == {(p.id_a, p.id_b) for p in rows}


@pytest.mark.parametrize("dense", [0.0, 2.0])
def test_candidates_of_either_side_are_scored(uri, monkeypatch, dense):
    """With room for three, the pairs are those of which one is among the three nearest of the other."""
    monkeypatch.setattr(mining, "EXHAUSTIVE", 0)
    monkeypatch.setattr(mining, "CANDIDATES", 3)
    monkeypatch.setattr(index_module, "VECTORS", 4)
    monkeypatch.setattr(mining, "DENSE", dense)
    monkeypatch.setattr(mining, "CHUNK", 10)
    monkeypatch.setattr(mining, "SHARE", 60)
    index = index_module.Index.open(uri)
    a, b = Side(index, "en"), Side(index, "fr")
    best: set[tuple[int, int]] = set()
    for own, others, turn in ((a, b, 1), (b, a, -1)):
        gallery = {row: v for rows, vectors in others.vectors() for row, v in zip(rows, vectors, strict=True)}
        for row, vector in enumerate(own.queries(others, np.arange(len(own)))):
            nearest = sorted(gallery, key=lambda other: -float(vector @ gallery[other]))[:3]
            best |= {(row, int(other))[::turn] for other in nearest}
    found = mine(a, b)
    assert set(zip(found.i, found.j, strict=True)) == best
    exact = loops(a, b, 4)
    for p in found.table(np.arange(len(found.i))):
        assert p.score == pytest.approx(exact[p.id_a, p.id_b]["score"], abs=1e-3)


def test_two_indexes_are_whitened_each_by_itself(uri, tmp_path, monkeypatch):
    one = index_module.Index.open(uri)
    a = made(f"{tmp_path}/a", [frames("en", m) for m in range(25)])
    b = made(f"{tmp_path}/b", [frames("fr", m) for m in range(10, 40)])
    apart, together = mine(Side(a), Side(b)), mine(Side(one, "en"), Side(one, "fr"))
    assert apart.score == pytest.approx(together.score, abs=1e-4)
    monkeypatch.setattr(mining, "EXHAUSTIVE", 0)
    monkeypatch.setattr(mining, "CANDIDATES", 5)
    few = mine(Side(a), Side(b))
    assert 25 * 5 <= len(few.i) < 55 * 5
    right = few.table(few.chosen())[:12]
    assert all(p.id_a.partition("/")[2] == p.id_b.partition("/")[2] for p in right)


def test_too_few_on_one_side_are_compared_as_they_are(uri, tmp_path):
    small = made(f"{tmp_path}/small", [frames("fr", m) for m in range(12, 15)])
    found = mine(Side(index_module.Index.open(uri), "en"), Side(small))
    raw = seqsim_pair(*(with_position(frames(lang, 13).values, 0.1) for lang in ("en", "fr")))["f1"]
    (p,) = (p for p in found.table(np.arange(75)) if (p.id_a, p.id_b) == ("en/13", "fr/13"))
    assert p.score == pytest.approx(raw, abs=1e-4)


def test_an_empty_side_has_no_pairs(uri, tmp_path):
    nothing, index = made(f"{tmp_path}/none", []), index_module.Index.open(uri)
    for a, b in ((Side(nothing), Side(index, "fr")), (Side(index, "fr"), Side(nothing)), (Side(nothing),) * 2):
        if a is not b:
            found = mine(a, b)
            assert found.table(found.chosen()) == []


def test_copies_are_flagged(tmp_path):
    """One recording in both collections, by its hash; another that was only coded again, by its frames."""
    english, french = [frames("en", m) for m in range(25)], [frames("fr", m) for m in range(25, 50)]
    same = Frames("fr/3", english[3].values, english[3].n_speech, english[3].audio_hash, frames("fr", 3).utterance)
    noise = np.random.default_rng(0).normal(0, 0.01, english[4].values.shape).astype(np.float16)
    again = Frames("fr/4", english[4].values + noise, english[4].n_speech, "another", frames("fr", 4).utterance)
    a, b = made(f"{tmp_path}/a", english), made(f"{tmp_path}/b", [*french, same, again])
    found = mine(Side(a), Side(b))
    flagged = {(p.id_a, p.id_b) for p in found.table(np.arange(len(found.i))) if p.near_copy}
    assert flagged >= {("en/3", "fr/3"), ("en/4", "fr/4")}
    assert not any(i[3:] != j[3:] for i, j in flagged)


def test_frames_that_are_not_finite_make_no_pairs(tmp_path):
    bad = frames("en", 2)
    broken = Frames(bad.id, np.full_like(bad.values, np.nan), bad.n_speech, bad.audio_hash, bad.utterance)
    a = made(f"{tmp_path}/a", [*(frames("en", m) for m in range(3, 25)), broken])
    b = made(f"{tmp_path}/b", [frames("fr", m) for m in range(25)])
    found = mine(Side(a), Side(b))
    assert "en/2" not in {p.id_a for p in found.table(np.arange(len(found.i)))}
    assert len(found.chosen()) > 10


@pytest.mark.parametrize(
    ("names", "languages", "reason"),
    [
        (1, None, "name B, or two languages of A"),
        (1, ("en", "en"), "A and B share utterances"),
        (2, None, "A and B share utterances"),
        (1, ("en", "sw"), r"--languages sw: .* holds en, fr, ru"),
    ],
)
def test_wrong_sides_are_named(uri, names, languages, reason):
    with pytest.raises(UsageError, match=reason), sides(uri, uri if names == 2 else None, languages) as (a, b, _):
        mine(a, b)


def test_frames_of_two_kinds_are_refused(uri, tmp_path):
    store = FrameStore.open_or_create(
        f"{tmp_path}/other/frames.lance", SPEC.__class__(**{**vars(SPEC), "layer": 1}), DIM
    )
    other = index_module.Index.of(f"{tmp_path}/other", store)
    with pytest.raises(StoreMismatchError, match="layer"):
        mine(Side(index_module.Index.open(uri), "en"), Side(other))


# ---------------------------------------------------------------- what is written


def test_a_manifest_to_fine_tune_on(uri, tmp_path):
    index = index_module.Index.open(uri)
    found = mine(Side(index, "en"), Side(index, "fr"))
    pairs = found.table(found.chosen()[:5])
    copy = msgspec.structs.replace(found.table(found.chosen()[5:6])[0], near_copy=True)
    path = tmp_path / "pairs.jsonl"
    assert write_mined_manifest(path, found, [*pairs, copy]) == 5
    lines = {u.id: u for u in read_manifest(path)}
    assert len(lines) == 10
    for p in pairs:
        a, b = lines[p.id_a], lines[p.id_b]
        assert a.translations == {"fr": p.text_b}
        assert b.translations == {"en": p.text_a}
        assert a.meaning == b.meaning is not None
    assert len({u.meaning for u in lines.values()}) == 5


def test_ids_of_both_sides_may_not_clash_in_a_manifest(tmp_path):
    a = made(f"{tmp_path}/a", [frames("en", m) for m in range(25)])
    b = made(
        f"{tmp_path}/b",
        [
            Frames(f.id.replace("fr", "en"), f.values, f.n_speech, f.audio_hash, _renamed(f))
            for f in (frames("fr", m) for m in range(25))
        ],
    )
    found = mine(Side(a), Side(b))
    with pytest.raises(UsageError, match="A and B both hold 'en/"):
        write_mined_manifest(tmp_path / "pairs.jsonl", found, found.table(found.chosen()))
    assert not (tmp_path / "pairs.jsonl").exists()


def _renamed(f: Frames):
    return msgspec.structs.replace(f.utterance, id=f.id.replace("fr", "en"))


def test_nothing_half_written_stays(uri, tmp_path, monkeypatch):
    index = index_module.Index.open(uri)
    found = mine(Side(index, "en"), Side(index, "fr"))
    rows = found.table(found.chosen())
    out = tmp_path / "out" / "pairs.parquet"
    write_pairs(out, rows[:1], MinedPair)
    before = out.read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OSError, match="No space"):
        write_pairs(out, rows, MinedPair)
    assert out.read_bytes() == before
    assert [p.name for p in out.parent.iterdir()] == ["pairs.parquet"]


@pytest.mark.parametrize("suffix", [".tsv", ".parquet", ".json"])
def test_a_table_is_read_as_it_was_written(uri, tmp_path, suffix):
    index = index_module.Index.open(uri)
    found = mine(Side(index, "en"), Side(index, "fr"))
    rows = found.table(found.chosen())
    write_pairs(tmp_path / f"pairs{suffix}", rows, MinedPair)
    assert read_pairs(tmp_path / f"pairs{suffix}", MinedPair) == rows
    (tmp_path / f"other{suffix}").write_bytes(b"id\ttext\n1\tnothing of ours\n")
    with pytest.raises(UsageError, match="no table of mined pairs"):
        read_pairs(tmp_path / f"other{suffix}", MinedPair)


# ---------------------------------------------------------------- killed and resumed


def test_pairs_are_cut_into_shares_of_whole_utterances(monkeypatch):
    monkeypatch.setattr(mining, "CHUNK", 3)
    monkeypatch.setattr(mining, "SHARE", 6)
    i = np.repeat([0, 1, 2, 4, 5, 6, 7, 9], [2, 3, 2, 9, 1, 1, 1, 1])
    assert list(mining._cuts(i)) == [(0, 5), (5, 7), (7, 16), (16, 19), (19, 20)]
    assert list(mining._cuts(i[:0])) == []


@pytest.mark.parametrize("exhaustive", [0, 500])
def test_what_was_made_is_kept_and_not_made_again(uri, tmp_path, monkeypatch, exhaustive):
    monkeypatch.setattr(mining, "EXHAUSTIVE", exhaustive)
    monkeypatch.setattr(mining, "CANDIDATES", 5)
    monkeypatch.setattr(mining, "SHARE", 50)
    index = index_module.Index.open(uri)
    sides_of, made = (Side(index, "en"), Side(index, "fr")), []

    def broken(a, b, shares, advance):
        for name, array in mining.mine_here(a, b, shares, advance):
            if len(made) == 3:
                raise KeyboardInterrupt
            made.append(name)
            yield name, array

    def told(a, b, shares, advance):
        made.extend(s.name for s in shares)
        yield from mining.mine_here(a, b, shares[::-1], advance)  # in any order

    whole = mine(*sides_of)
    kept = tmp_path / "kept"
    with pytest.raises(KeyboardInterrupt):
        mine(*sides_of, kept=kept, engine=broken)
    assert len(made) == 3
    found = mine(*sides_of, kept=kept, engine=told)
    assert len(made) == len(set(made)) >= 5  # none of them twice
    np.testing.assert_array_equal((found.i, found.j), (whole.i, whole.j))
    np.testing.assert_array_equal(found.score, whole.score)
    made.clear()
    mine(*sides_of, kept=kept, engine=told)
    assert not made
    index.store.write([frames("fr", 99)])
    index.refresh()
    mine(Side(index, "en"), Side(index, "fr"), kept=kept, engine=told)
    assert len(made) >= 5  # the index has changed
    assert len({p.name.partition("-")[0] for p in kept.iterdir()}) == 1


KILLED = """
    from interlingua import cli
    from interlingua.index import mine
    mine.CHUNK, mine.SHARE, mine.EXHAUSTIVE, mine.CANDIDATES = 10, 100, 0, 10
    POINTS = [(__import__("pathlib").Path, "replace")]  # each file that is written

    def job(uri, out):
        assert cli.run(["mine", uri, "--languages", "en", "fr", "--out", out, "--manifest", out + ".jsonl"]) == 0
"""


def test_a_killed_run_goes_on_and_leaves_nothing(uri, tmp_path):
    with victims(KILLED) as run:
        whole = tmp_path / "whole" / "pairs.tsv"
        total = run(None, uri, str(whole))
        shares = total - 3  # the manifest, the table and its curve
        assert shares > 8
        expected = {p.name: p.read_bytes() for p in whole.parent.iterdir()}
        assert sorted(expected) == ["pairs.curve.json", "pairs.tsv", "pairs.tsv.jsonl"]
        for moment in (4, total // 2, total - 2, total):
            out = tmp_path / str(moment) / "pairs.tsv"
            assert run(moment, uri, str(out)) is None
            held = {p.name: p.read_bytes() for p in out.parent.iterdir() if p.name in expected}
            assert held == {name: expected[name] for name in held}  # none that is half there
            again = run(None, uri, str(out))
            assert again == total - min(moment - 1, shares)  # what was kept isn't made again
            assert {p.name: p.read_bytes() for p in out.parent.iterdir()} == expected


def test_a_second_process_on_one_output_is_refused(uri, tmp_path, capsys):
    out = tmp_path / "pairs.tsv"
    with work_folder(out):
        assert cli.run(["mine", uri, "--languages", "en", "fr", "--out", str(out)]) == 2
    assert capsys.readouterr().err == (
        f"interlingua: {out}: another process is writing it; wait for it, or name another --out\n"
    )
    assert not out.exists()
    assert cli.run(["mine", uri, "--languages", "en", "fr", "--out", str(out)]) == 0


# ---------------------------------------------------------------- the command


def test_the_command_on_an_index(uri, tmp_path, capsys):
    out, manifest = tmp_path / "pairs.parquet", tmp_path / "pairs.jsonl"
    command = ["mine", uri, "--languages", "en", "fr"]
    assert cli.run([*command, "--out", str(out), "--manifest", str(manifest)]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"{out}: ")
    assert said.out.splitlines()[0].endswith("pairs of 25 and 30 utterances")
    rows = pq.read_table(out).to_pylist()
    assert list(rows[0]) == list(MinedPair.__struct_fields__)
    assert all(r["one_to_one"] for r in rows)
    assert len(read_manifest(manifest)) == 2 * len(rows)
    assert cli.run([*command, "--threshold", "99"]) == 0
    assert capsys.readouterr().out == "\t".join(MinedPair.__struct_fields__) + "\n"
    assert cli.run([*command, "--one-way", "--neighbours", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["pairs"]
    assert len(found) > len(rows)


def test_folders_are_indexed_beside_the_output(tmp_path, tiny_whisper_folder, capsys):
    for language in ("en", "fr"):
        for n in range(3):
            write_wav(tmp_path / language / f"{n}.wav", sweep(1 + 0.1 * n, pitch=200 + 100 * n))
    out = tmp_path / "pairs.tsv"
    command = ["mine", str(tmp_path / "en"), str(tmp_path / "fr"), "--languages", "en", "fr"]
    command += ["--model", str(tiny_whisper_folder)]
    assert cli.run([*command, "--out", str(out)]) == 0
    assert "pairs-a.lance" in capsys.readouterr().err
    with out.open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert rows
    assert {r["near_copy"] for r in rows} == {"True"}  # French is English here
    assert all(Path(r["audio_a"]).name == Path(r["audio_b"]).name for r in rows)
    (tmp_path / "fr" / "3.wav").write_bytes(b"no sound")
    assert cli.run(command) == 1
    said = capsys.readouterr()
    assert "3.wav" in said.err
    assert "indexed for this run" in said.err
    assert said.out.startswith("id_a\t")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["speech.lance"], "name B, or two languages"),
        (["en", "fr", "--out", "pairs.csv"], "--out pairs.csv: name a file that ends in .tsv"),
        (["a.wav", "b.wav", "--document", "--threshold", "1"], "--threshold: for collections"),
        (["en", "fr", "--compute", "float32"], "--compute: for --document"),
        (["a.wav", "b.wav", "--document", "--engine", "ray"], "--engine: for collections"),
        (["en", "fr", "--address", "auto"], "--address is the Ray cluster's; add --engine ray"),
        (["en", "fr", "--engine", "ray"], "en is indexed first, where all nodes see it; name --out"),
        (["en", "fr", "--languages", "en", "fr", "--out", "pairs.tsv"], "en: no such file or folder"),
        (["a.wav", "--document"], "name two recordings"),
        (["nothing.lance", "fr"], "no index here"),
    ],
)
def test_wrong_options_are_named_in_one_line(arguments, reason, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.run(["mine", *arguments]) == 2
    said = capsys.readouterr()
    assert reason in said.err
    assert said.err.count("\n") == 1
    assert not said.out
    assert not list(tmp_path.iterdir())
