"""`interlingua corpus check`: each fault is found, and one that many utterances share is told once."""

import json
import wave
from pathlib import Path

import numpy as np
import pytest

from helpers import sweep, utterance, write_wav
from interlingua.corpora import write_manifest
from interlingua.corpora.check import PROBLEMS, check_utterances
from interlingua.metrics import has_words
from interlingua.metrics.offtarget import written_in
from interlingua.types import AudioRef
from trees import command, fleurs_tree


def write_at(path, samples, rate):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes((samples * 32767).astype("<i2").tobytes())
    return path


ENGLISH = "The quick brown fox jumps over the lazy dog."


@pytest.fixture
def faults(tmp_path):
    """One utterance for each problem, called after it, and two that are good."""
    good = write_wav(tmp_path / "good.wav", sweep(1, 300))
    sound = sweep(1, 400)
    text = tmp_path / "text.wav"
    text.write_text("no audio")
    cut = write_wav(tmp_path / "cut.wav", sound)
    cut.write_bytes(cut.read_bytes()[:20_000])
    files = {
        "good": good,
        "duplicate": good,
        "missing": tmp_path / "none.wav",
        "unreadable": text,
        "truncated": cut,
        "empty": write_wav(tmp_path / "short.wav", sound[:800]),
        "silent": write_wav(tmp_path / "silent.wav", 0 * sound),
        "clipped": write_wav(tmp_path / "loud.wav", 5 * sound),
        "rate": write_at(tmp_path / "rate.wav", sound[::2], 8000),
        "duration": write_wav(tmp_path / "duration.wav", sweep(1, 500)),
        "text": write_wav(tmp_path / "no_text.wav", sweep(1, 600)),
        "language": write_wav(tmp_path / "french.wav", sweep(1, 700)),
        "no speech known": write_wav(tmp_path / "no_transcript.wav", sweep(1, 800)),
    }
    said = {"text": " ", "language": "Le renard brun saute par-dessus le chien paresseux.", "no speech known": None}
    return [
        utterance(
            "en",
            None,
            id=name,
            audio=AudioRef(str(path)),
            text=said.get(name, ENGLISH),
            duration={"duration": 2.0, "rate": 1.0}.get(name),
        )
        for name, path in files.items()
    ]


def test_each_fault_is_found_and_nothing_else(faults):

    done: list[int] = []
    found = list(check_utterances(faults, written_in=written_in, done=done.append))
    assert [(f.id, f.problem) for f in found] == [(name, name) for name in (u.id for u in faults) if name in PROBLEMS]
    assert {f.problem for f in found} == PROBLEMS.keys() - {"id"}
    assert sum(done) == len(faults)


def test_a_quick_check_decodes_nothing(faults):
    found = {f.problem for f in check_utterances(faults, decode=False)}
    assert found == {"missing", "duplicate", "text"}


def test_a_translation_is_checked_like_a_text(faults):

    good = utterance("en", audio=faults[0].audio, text=ENGLISH, translations={"ru": "", "fr": ENGLISH, "zh": "好"})
    details = [f.detail for f in check_utterances([good], written_in=written_in)]
    assert details == ["its translation into ru is empty", f"its translation into fr doesn't look like 'fr': {ENGLISH}"]


def test_silence_of_a_quiet_recording_is_no_fault(tmp_path):
    path = write_wav(tmp_path / "quiet.wav", (0.01 * np.asarray(sweep(1, 300))).astype(np.float32))
    assert not list(check_utterances([utterance("en", audio=AudioRef(str(Path(path))))]))


def test_the_check_of_a_manifest_ends_with_1(tmp_path, faults, capsys):
    write_manifest(tmp_path / "m.jsonl", [*faults, faults[0]])
    code, out, err = command(capsys, "check", tmp_path / "m.jsonl")
    assert code == 1
    assert f"missing: missing: {tmp_path / 'none.wav'}: no such file" in out
    assert "good: id: another utterance has it" in out
    assert f"{tmp_path / 'm.jsonl'}: 14 utterances, 13 findings" in err
    code, out, _ = command(capsys, "check", tmp_path / "m.jsonl", "--json", "--quick")
    assert {json.loads(line)["problem"] for line in out.splitlines()} == {
        "missing",
        "duplicate",
        "text",
        "language",
        "id",
    }


@pytest.fixture
def telephone(tmp_path):
    """A manifest of 25 recordings at 8 kHz, of which 5 break off and the last is silent."""
    sound = sweep(0.5, 400)
    made = []
    for n in range(25):
        path = write_at(tmp_path / f"{n}.wav", sound[::2] * (0 if n == 24 else 1 - n / 50), 8000)
        duration = 2.0 + n if n < 5 else None
        made.append(utterance("en", None, id=f"u{n}", audio=AudioRef(str(path)), text=ENGLISH, duration=duration))
    write_manifest(tmp_path / "m.jsonl", made)
    return tmp_path / "m.jsonl"


def test_a_finding_that_many_share_is_told_once_with_three_examples(telephone, capsys):
    code, out, err = command(capsys, "check", telephone)
    assert code == 1
    assert out.splitlines() == [
        "rate: 8000 Hz: 25 utterances, such as u0, u1, u2",
        *(f"u{n}: duration: 0.50 s, the manifest says {2 + n}.00 s" for n in range(3)),
        "duration: 2 more utterances; --all prints every line",
        "u24: silent: its peak is 0.0e+00",
    ]
    assert f"{telephone}: 25 utterances, 31 findings" in err
    assert "rate: 25 (recorded at less than 16000 Hz" in err


def test_every_finding_on_demand_and_always_as_json(telephone, capsys):
    code, out, err = command(capsys, "check", telephone, "--all")
    assert (code, len(out.splitlines())) == (1, 31)
    assert [line for line in out.splitlines() if line.startswith("u3: ")] == [
        "u3: rate: 8000 Hz",
        "u3: duration: 0.50 s, the manifest says 5.00 s",
    ]
    code, out, same = command(capsys, "check", telephone, "--json")
    found = [json.loads(line) for line in out.splitlines()]
    assert (code, len(found), same) == (1, 31, err)
    assert found[0] == {"id": "u0", "problem": "rate", "detail": "8000 Hz"}


def test_a_good_corpus_ends_with_0_and_is_checked_inside_its_archive(tmp_path, spoken, capsys):
    root = fleurs_tree(tmp_path / "root", spoken, layout="tar")
    command(capsys, "prepare", "fleurs", "--root", root, "--out", tmp_path / "m.jsonl")
    assert command(capsys, "check", tmp_path / "m.jsonl")[:2] == (0, "")
    (root / "data" / "fr_fr" / "audio" / "test.tar").unlink()
    code, out, _ = command(capsys, "check", tmp_path / "m.jsonl")
    assert (code, out.count("\n"), out.count(": missing: ")) == (1, 3, 3)


@pytest.mark.parametrize("text", ["(Applause)", "[Musik]", "...", "♪ ♪", "Hmm."])
def test_a_transcript_without_words_is_found(tmp_path, text):
    audio = write_wav(tmp_path / "a.wav", sweep(1, 300))
    said = utterance(
        "en", None, id="a", audio=AudioRef(str(audio)), text=text, translations={"fr": "…", "de": "(Beifall)"}
    )
    found = [(f.problem, f.detail) for f in check_utterances([said], has_words=has_words)]
    assert found == [
        ("text", f"its text has no words, and isn't scored: {text}"),
        ("text", "its translation into fr has no words, and isn't scored: …"),
    ]
