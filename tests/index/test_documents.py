"""Aligning two recordings of one talk: on handcrafted frames, on synthetic sound, and on real prompts."""

import json
import wave

import numpy as np
import pyarrow.parquet as pq
import pytest

from helpers import write_wav
from interlingua import cli
from interlingua.encoding.whisper import WhisperEncoder
from interlingua.errors import AudioError, AudioNotFoundError, NotAudioError, UsageError
from interlingua.index import documents
from interlingua.index.documents import (
    DocumentOptions,
    DocumentPair,
    SpanScores,
    align_documents,
    align_segments,
    around,
    as_textgrid,
    corrected,
    span_scores,
    write_documents,
)
from interlingua.index.pairs import as_tsv
from interlingua.retrieval.features import with_position
from interlingua.retrieval.reference import seqsim_pair
from interlingua.types import SAMPLE_RATE, AudioRef

WIDTH = 24


def words(rng, n):
    """Frames of ``n`` segments that have nothing in common, 3 to 6 each."""
    return [rng.normal(size=(rng.integers(3, 7), WIDTH)).astype(np.float32) for _ in range(n)]


def times_of(frames, start=0.5):
    """Segments of a tenth of a second a frame, half a second apart."""
    times = []
    for f in frames:
        times.append((start, start + len(f) / 10))
        start = times[-1][1] + 0.5
    return times


def translated(rng, frames, noise=0.3):
    return [f + noise * rng.normal(size=f.shape).astype(np.float32) for f in frames]


def aligned(a, b, **options):
    steps = align_segments(a, b, times_of(a), times_of(b), DocumentOptions(**options))
    return [(s.i, s.m, s.j, s.n) for s in steps]


# --- scores: fast paths and their specification -----------------------------------------------------------


@pytest.mark.parametrize(("n_a", "n_b"), [(5, 4), (1, 3), (2, 1)])
def test_joined_scores_equal_the_reference(n_a, n_b):
    rng = np.random.default_rng(n_a)
    a, b = words(rng, n_a), words(rng, n_b)
    b[0][:] = -np.abs(b[0])  # negative maxima, too
    found = SpanScores(a, b, 3)
    for m in range(1, min(3, n_a) + 1):
        for n in range(1, min(3, n_b) + 1):
            expected = [
                [
                    seqsim_pair(np.concatenate(a[i : i + m]), np.concatenate(b[j : j + n]))["f1"]
                    for j in range(n_b - n + 1)
                ]
                for i in range(n_a - m + 1)
            ]
            np.testing.assert_allclose(found(m, n), expected, atol=1e-5)


def test_positioned_scores_equal_the_reference_where_they_are_wanted():
    rng = np.random.default_rng(0)
    a, b = words(rng, 20), words(rng, 6)
    near = rng.random((20, 6)) < 0.5
    found = span_scores(a, b, (2, 1), near)
    assert found.shape == (19, 6)
    for i in range(19):
        for j in range(6):
            pair = seqsim_pair(with_position(np.concatenate(a[i : i + 2]), 0.1), with_position(b[j], 0.1))
            assert np.isnan(found[i, j]) if not near[i, j] else abs(found[i, j] - pair["f1"]) < 1e-4


# --- the path ---------------------------------------------------------------------------------------------


def test_the_same_order_is_found():
    rng = np.random.default_rng(1)
    a = words(rng, 12)
    assert aligned(a, translated(rng, a)) == [(i, 1, i, 1) for i in range(12)]


def test_omissions_and_insertions_are_left_out():
    rng = np.random.default_rng(2)
    a = words(rng, 14)
    b = translated(rng, a)
    b[9:9] = words(rng, 2)  # said in B alone
    del b[3:5]  # said in A alone
    expected = [*((i, 1, i, 1) for i in range(3)), *((i, 1, i - 2, 1) for i in range(5, 9))]
    assert aligned(a, b) == [*expected, *((i, 1, i, 1) for i in range(9, 14))]


@pytest.mark.parametrize("swapped", [False, True])
def test_segments_are_joined(swapped):
    rng = np.random.default_rng(3)
    a = words(rng, 12)
    b = translated(rng, a)
    b[5:8] = [np.concatenate(b[5:8])]
    b[1:3] = [np.concatenate(b[1:3])]
    expected = [(0, 1, 0, 1), (1, 2, 1, 1), (3, 1, 2, 1), (4, 1, 3, 1), (5, 3, 4, 1)]
    expected += [(i, 1, i - 3, 1) for i in range(8, 12)]
    if swapped:
        assert aligned(b, a) == [(j, n, i, m) for i, m, j, n in expected]
    else:
        assert aligned(a, b) == expected


def test_a_joined_stretch_is_not_longer_than_allowed():
    rng = np.random.default_rng(4)
    a = words(rng, 12)
    b = translated(rng, a)
    b[5:7] = [np.concatenate(b[5:7])]
    assert (5, 2, 5, 1) in aligned(a, b)
    assert (5, 2, 5, 1) not in aligned(a, b, longest=0.6)
    assert all(m == n == 1 for _, m, _, n in aligned(a, b, join=1))


def test_the_band_follows_the_path(monkeypatch):
    rng = np.random.default_rng(5)
    a = words(rng, 60)
    b = translated(rng, a)
    del b[10:40]
    expected = [*((i, 1, i, 1) for i in range(10)), *((i, 1, i - 30, 1) for i in range(40, 60))]
    assert aligned(a, b) == expected
    calls = []

    def counted(a, b, move, near, **how):
        calls.append(near.mean())
        return span_scores(a, b, move, near, **how)

    monkeypatch.setattr(documents, "BAND", 5)
    monkeypatch.setattr(documents, "span_scores", counted)
    assert aligned(a, b) == expected
    assert max(calls) < 0.5


def test_around_holds_the_path_and_both_ends():
    near = around([(4, 20, (1, 1))], (10, 40), 2)
    assert near[0, 0]
    assert near[4, 20]
    assert near[9, 39]
    assert not near[0, 39]
    assert not near[9, 0]
    assert near.any(axis=0).all()
    assert near.any(axis=1).all()


def test_one_segment_each_is_a_pair():
    rng = np.random.default_rng(6)
    a = words(rng, 1)
    assert aligned(a, translated(rng, a)) == [(0, 1, 0, 1)]


def test_pairs_are_monotone_whatever_the_frames():
    rng = np.random.default_rng(7)
    for _ in range(5):
        steps = aligned(words(rng, 9), words(rng, 11))
        ends = [(0, 0), *((i + m, j + n) for i, m, j, n in steps)]
        assert all(i >= x and j >= y for (i, _, j, _), (x, y) in zip(steps, ends[:-1], strict=True))


def test_few_segments_stay_as_they_are_and_many_are_whitened():
    rng = np.random.default_rng(8)
    few, many = words(rng, 19), words(rng, 20)
    a, b = corrected(few, many)
    assert all(x is y for x, y in zip([*a, *b], [*few, *many], strict=True))
    whitened = np.concatenate(corrected(many, many)[0])
    np.testing.assert_allclose(whitened.mean(axis=0), 0, atol=1e-5)


@pytest.mark.parametrize("wrong", [{"join": 0}, {"join": 9}, {"skip": 0.0}, {"skip": 1.0}, {"longest": 0.0}])
def test_options_are_checked(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        DocumentOptions(**wrong)


# --- files ------------------------------------------------------------------------------------------------


def pair(number, start, **fields):
    given = {
        "id_a": f"a-{number:04}", "audio_a": "a b.wav", "start_a": start, "end_a": start + 1.2, "language_a": "en",
        "id_b": f"b-{number:04}", "audio_b": "b.wav", "start_b": start + 1, "end_b": start + 2, "language_b": "fr",
        "score": 0.5, "margin": 0.1, "kind": "1-1",
    }  # fmt: skip
    return DocumentPair(**given | fields)


def test_every_format_holds_the_pairs(tmp_path):
    pairs = [pair(1, 0.5), pair(2, 1.6, kind="2-1")]
    for suffix in (".tsv", ".parquet", ".json"):
        write_documents(tmp_path / f"pairs{suffix}", pairs)
    rows = pq.read_table(tmp_path / "pairs.parquet").to_pylist()
    assert json.loads((tmp_path / "pairs.json").read_text())["pairs"] == rows
    assert [r["kind"] for r in rows] == ["1-1", "2-1"]
    head, *lines = [line.split("\t") for line in (tmp_path / "pairs.tsv").read_text().splitlines()]
    assert [dict(zip(head, line, strict=True)) for line in lines] == [{k: str(v) for k, v in r.items()} for r in rows]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pairs.json", "pairs.parquet", "pairs.tsv"]


def test_no_pairs_keep_the_columns(tmp_path):
    write_documents(tmp_path / "none.parquet", [])
    assert pq.read_table(tmp_path / "none.parquet").column_names == as_tsv([], DocumentPair).split()


def test_a_text_grid_has_a_tier_a_recording(tmp_path):
    write_documents(tmp_path / "talk.TextGrid", [pair(1, 0.5), pair(2, 1.6)])
    text = (tmp_path / "talk.TextGrid").read_text()
    assert text.count('class = "IntervalTier"') == 2
    assert 'name = "en"' in text
    assert 'name = "fr"' in text
    ends = [float(line.split("=")[1]) for line in text.splitlines() if "xm" in line]
    assert max(ends) == ends[1] == 3.6
    for tier in text.split("item [")[2:]:  # without gaps or overlaps, from 0 to the end
        times = [float(line.split("=")[1]) for line in tier.splitlines() if "xm" in line][2:]
        assert times[0] == 0
        assert times[-1] == 3.6
        assert times[1:-1:2] == times[2::2]
    assert 'text = "2"' in text
    assert as_textgrid([]).count("size = 1") == 2


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"pairs\.csv: name a file that ends in"):
        write_documents(tmp_path / "pairs.csv", [])


# --- recordings -------------------------------------------------------------------------------------------


@pytest.fixture
def encoder(tiny_whisper):
    return WhisperEncoder(tiny_whisper)


def test_a_recording_without_speech_is_named(tmp_path, encoder):
    silent = write_wav(tmp_path / "silent.wav", np.zeros(3 * SAMPLE_RATE, np.float32))
    with pytest.raises(AudioError, match=r"silent\.wav: no speech is found in it"):
        align_documents(silent, silent, encoder)


def test_an_unreadable_recording_is_named(tmp_path, encoder):
    text = tmp_path / "talk.mp3"
    text.write_text("no audio at all\n" * 99)
    with pytest.raises(AudioNotFoundError, match=r"gone\.wav"):
        align_documents(tmp_path / "gone.wav", text, encoder)
    sound = write_wav(tmp_path / "sound.wav", np.zeros(SAMPLE_RATE, np.float32))
    with pytest.raises(NotAudioError, match=r"talk\.mp3"):  # before anything is encoded
        align_documents(sound, text, encoder)
    with pytest.raises(NotAudioError, match=r"talk\.mp3"):
        align_documents(text, text, encoder)


def test_a_command_with_one_recording_or_a_wrong_option_is_refused(capsys, tmp_path):
    assert cli.run(["mine", "a.wav", "--document"]) == 2
    assert "name two recordings" in capsys.readouterr().err
    assert cli.run(["mine", "a.wav", "b.wav", "--document", "--out", str(tmp_path / "pairs.csv")]) == 2
    assert ".TextGrid" in capsys.readouterr().err
    assert cli.run(["mine", "a.wav", "b.wav", "--document", "--languages", "en", "xyzzy"]) == 2
    assert "xyzzy" in capsys.readouterr().err


TALK = ("conf-onlyperson", "vm-mailboxfull", "tt-weasels", "vm-nobox", "demo-thanks", "vm-whichbox")


@pytest.fixture(scope="module")
def talk(prompts_manifest, tmp_path_factory):
    """The same six prompts in English and French, a second apart, of which French lacks the fourth; their times."""
    from interlingua.audio import load_audio

    folder = tmp_path_factory.mktemp("talk")
    by_id = {u.id: u for u in prompts_manifest}
    times = {}
    for language in ("en", "fr"):
        parts, at = [np.zeros(SAMPLE_RATE, np.float32)], 1.0
        for name in TALK:
            if language == "fr" and name == TALK[3]:
                continue
            samples = load_audio(by_id[f"{language}/{name}"].audio)
            times[language, name] = (at, at + len(samples) / SAMPLE_RATE)
            parts += [samples, np.zeros(SAMPLE_RATE, np.float32)]
            at = times[language, name][1] + 1
        write_wav(folder / f"talk_{language}.wav", np.concatenate(parts))
    return folder, times


@pytest.mark.model
def test_real_prompts_are_aligned(talk, capsys):
    folder, times = talk
    out = folder / "pairs.json"
    command = [
        "mine",
        str(folder / "talk_en.wav"),
        str(folder / "talk_fr.wav"),
        "--document",
        "--languages",
        "en",
        "fr",
    ]
    assert cli.run([*command, "--out", str(out)]) == 0
    assert capsys.readouterr().out.startswith(f"{out}: ")
    pairs = json.loads(out.read_text())["pairs"]
    with wave.open(str(folder / "talk_fr.wav")) as file:
        assert max(p["end_b"] for p in pairs) <= file.getnframes() / SAMPLE_RATE
    covered = [
        {
            name
            for name in TALK
            if ("fr", name) in times
            and all(
                min(p[f"end_{side}"], times[language, name][1]) - max(p[f"start_{side}"], times[language, name][0])
                > 0.5
                for side, language in (("a", "en"), ("b", "fr"))
            )
        }
        for p in pairs
    ]
    assert {"conf-onlyperson"} in covered
    assert {"vm-whichbox"} in covered
    assert [p["start_a"] for p in pairs] == sorted(p["start_a"] for p in pairs)
    assert cli.run([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pairs"] == pairs


@pytest.mark.model
def test_the_same_language_or_recording_twice_is_warned_of(talk, base_whisper):
    folder, _ = talk
    warnings = []
    en, fr = folder / "talk_en.wav", folder / "talk_fr.wav"
    align_documents(en, fr, WhisperEncoder(base_whisper), languages=("en", "en"), log=warnings.append)
    stretch = AudioRef(str(en), offset=0.5)
    pairs = align_documents(stretch, stretch, WhisperEncoder(base_whisper), log=warnings.append)
    assert ["both recordings are English" in w for w in warnings] == [True, False]
    assert "same recording" in warnings[1]
    assert all((p.start_a, p.end_a) == (p.start_b, p.end_b) for p in pairs)
    assert abs(pairs[0].start_a - 1.0) < 0.5  # in the file, not in the stretch
