"""`interlingua corpus`: what is written, checked and counted, from trees in the real layout."""

import json
import os
import re
import shlex
import threading
import wave
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from helpers import ROOT, sweep, utterance, write_wav
from interlingua.cli import run
from interlingua.corpora import fleurs, read_manifest, write_manifest
from interlingua.corpora.check import PROBLEMS, check_utterances
from interlingua.corpora.prepare import RULES, corpus_statistics, measured, prepare_manifest
from interlingua.errors import CorpusError, UsageError
from interlingua.languages import normalise_languages
from interlingua.types import AudioRef
from trees import fleurs_tree


@pytest.fixture
def spoken(tmp_path):
    """One to four in English and French; French "one" was read by two people, "four" is English only."""
    made = []
    said = [("en", m) for m in ("four", "one", "three", "two")] + [("fr", m) for m in ("one", "two", "three", "one")]
    for n, (language, meaning) in enumerate(said):
        path = write_wav(tmp_path / "spoken" / f"{n}.wav", sweep(0.5, pitch=200 + 50 * n, seed=n))
        audio = AudioRef(str(path))
        made.append(utterance(language, meaning, id=f"{language}/{n}", audio=audio, text=meaning, duration=0.5))
    return made


def prepare(out, utterances, **options):
    log: list[str] = []
    return prepare_manifest(lambda _: iter(utterances), out, log=log.append, **options), log


# ---------------------------------------------------------------- prepare


def test_all_recordings_of_a_sentence_are_kept_and_the_rule_is_named(tmp_path, spoken):
    done, log = prepare(tmp_path / "m.jsonl", spoken)
    assert read_manifest(tmp_path / "m.jsonl") == spoken
    assert log == []
    assert done.as_dict() == {
        "utterances": 8,
        "meanings": 4,
        "clusters": 4,
        "seconds": 4.0,
        "without_duration": 0,
        "languages": {"en": 4, "fr": 4},
        "several_recordings": {"rule": RULES["all"], "sentences": 1, "most": 2, "left_out": 0},
        "repeated_ids": 0,
    }


def test_the_first_recording_of_a_sentence(tmp_path, spoken):
    done, _ = prepare(tmp_path / "m.jsonl", spoken, positives="first")
    assert [u.id for u in read_manifest(tmp_path / "m.jsonl")] == [u.id for u in spoken[:-1]]
    several = {"rule": RULES["first"], "sentences": 0, "most": 1, "left_out": 1}
    assert done.as_dict()["several_recordings"] == several


@pytest.mark.parametrize(
    ("most", "options", "kept"),
    [
        (1, {}, ["en/1", "fr/5"]),  # the two French recordings of "one" don't fit: "two" does
        (2, {}, ["en/1", "en/2", "fr/4", "fr/7"]),
        (2, {"positives": "first"}, ["en/1", "en/2", "fr/4", "fr/6"]),
        (99, {}, None),
    ],
)
def test_few_utterances_are_those_that_languages_share(tmp_path, spoken, most, options, kept):
    prepare(tmp_path / "m.jsonl", spoken, max_utterances=most, **options)
    found = [u.id for u in read_manifest(tmp_path / "m.jsonl")]
    if kept is None:
        assert found == [u.id for u in spoken]
    else:
        assert len(found) == len(kept)
        assert "en/0" not in found  # "four", which only English has
        assert sum(i.startswith("fr") for i in found) == sum(i.startswith("fr") for i in kept)


def test_an_id_that_comes_twice_is_written_once_and_counted(tmp_path, spoken):
    done, log = prepare(tmp_path / "m.jsonl", [*spoken, spoken[0]])
    assert read_manifest(tmp_path / "m.jsonl") == spoken
    assert done.repeated_ids == 1
    assert log == ["m.jsonl: skipped 1 (its id stands already before): en/0"]


def test_nothing_left_is_an_error_and_writes_nothing(tmp_path):
    with pytest.raises(CorpusError, match=r"no utterance is left to write"):
        prepare(tmp_path / "m.jsonl", [])
    assert not list(tmp_path.iterdir())
    with pytest.raises(UsageError, match=r"--max-utterances 0: use 1 or more"):
        prepare(tmp_path / "m.jsonl", [], max_utterances=0)


@pytest.fixture
def tree(tmp_path, spoken):
    return fleurs_tree(tmp_path / "fleurs", spoken)


def command(capsys, *arguments):
    """(exit code, stdout, stderr) of ``interlingua corpus``."""
    code = run(["corpus", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_prepare_says_what_it_wrote_and_by_which_rule(tmp_path, tree, capsys):
    out = tmp_path / "m.jsonl"
    code, said, notes = command(capsys, "prepare", "fleurs", "--root", tree, "--out", out, "--split", "test")
    assert code == 0
    assert said.splitlines() == [
        f"{out}: 8 utterances of 4 meanings (4 clusters), 4.0 s",
        "1 sentences have several recordings, 2 at most",
        f"rule: {RULES['all']}",
    ]
    assert "unpack it where speed matters" in notes
    assert len(read_manifest(out)) == 8


def test_prepare_as_json(tmp_path, tree, capsys):
    arguments = ("--languages", "fr", "--positives", "first", "--max-utterances", "2", "--option", "references=en_us")
    code, said, _ = command(
        capsys, "prepare", "fleurs", "--root", tree, "--out", tmp_path / "m.jsonl", *arguments, "--json"
    )
    found = json.loads(said)
    assert code == 0
    assert (found["corpus"], found["licence"], found["synthetic"]) == ("fleurs", "CC-BY 4.0", False)
    assert (found["utterances"], found["languages"]) == (2, {"fr": 2})
    assert found["several_recordings"]["rule"] == RULES["first"]
    assert all(u.translations == {"en": u.text} for u in read_manifest(tmp_path / "m.jsonl"))


def test_prepare_can_split(tmp_path, spoken, capsys):
    many = [
        utterance("en", f"m{n}", audio=AudioRef(str(write_wav(tmp_path / f"{n}.wav", sweep(0.2, 300, n)))), text="a")
        for n in range(5)
    ]
    root = fleurs_tree(tmp_path / "root", many, layout="unpacked")
    command(capsys, "prepare", "fleurs", "--root", root, "--out", tmp_path / "m.jsonl", "--rotation", "0")
    assert sorted(u.split for u in read_manifest(tmp_path / "m.jsonl")) == ["dev", "test", "train", "train", "train"]


def test_download_comes_first(tmp_path, spoken, capsys, monkeypatch):
    asked = []

    def fetch(repository, names, root, *, by_hand, log):
        asked.extend(names)
        fleurs_tree(root, spoken)

    monkeypatch.setattr(fleurs, "download_files", fetch)
    code, _, err = command(
        capsys, "prepare", "fleurs", "--root", tmp_path / "new", "--out", tmp_path / "m.jsonl", "--download",
        "--languages", "fr", "--split", "test",
    )  # fmt: skip
    assert (code, asked) == (0, ["data/fr_fr/test.tsv", "data/fr_fr/audio/test.tar.gz"]), err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("covost", "--download", "--root", "x"),
            "--download: covost can't be fetched by a program. covost: fetch Common",
        ),
        (("fleurs", "--download", "--languages", "fr"), "--download needs --root"),
        (("fleurs", "--root", "nowhere"), "nowhere: no such file or folder. fleurs: fetch data/<lang>/"),
        (("mass", "--min-words", "3"), "--min-words is of the prompts corpus"),
        (("prompts", "--split", "test"), "--split test: the prompts corpus has no splits"),
    ],
)
def test_what_can_t_be_prepared_is_one_line(tmp_path, capsys, arguments, said):
    code, out, err = command(capsys, "prepare", *arguments, "--out", tmp_path / "m.jsonl")
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


DOCS = ROOT / "docs"
WRITTEN = [
    line.replace("\\\n", "")
    for page in ("data.md", "data-more.md")
    for line in re.findall(r"^interlingua (corpus prepare (?:[^#\n\\]|\\\n)+)", (DOCS / page).read_text(), re.M)
    if "NAME" not in line
]


@pytest.mark.parametrize("written", WRITTEN)
def test_what_the_pages_say_can_be_typed(written, monkeypatch, capsys):
    """As far as its options go: the corpora aren't here."""
    asked = []

    def read(name, root, *, languages, split, log, **options):
        asked.append((name, normalise_languages(languages or ())))
        return iter(())

    monkeypatch.setattr("interlingua.corpora.base.read_corpus", read)
    monkeypatch.setattr(fleurs, "download_files", lambda *_, **__: None)
    code, _, err = command(capsys, *shlex.split(written)[1:])
    assert (code, "no utterance is left to write" in err) == (2, True), err
    assert [name for name, _ in asked] == [written.split()[2]]


def test_the_pages_tell_every_corpus_that_has_files():
    from interlingua.corpora.base import CORPORA

    told = {written.split()[2] for written in WRITTEN}
    assert told == {name for name, corpus in CORPORA.items() if not corpus.self_fetching}


def test_languages_with_commas_between_them(tmp_path, tree, capsys):
    out = tmp_path / "m.jsonl"
    assert command(capsys, "prepare", "fleurs", "--root", tree, "--out", out, "--languages", "fr,en")[0] == 0
    assert [u.language for u in read_manifest(out)] == ["fr"] * 4 + ["en"] * 4


def test_what_is_there_is_looked_at_before_anything_is_fetched(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(fleurs, "download_files", None)
    (tmp_path / "m.jsonl").write_text("mine")
    arguments = ("--root", tmp_path / "new", "--languages", "fr", "--download", "--out", tmp_path / "m.jsonl")
    code, _, err = command(capsys, "prepare", "fleurs", *arguments)
    assert (code, "is there and is no manifest" in err) == (2, True)


# ---------------------------------------------------------------- check


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
    from interlingua.metrics.offtarget import written_in

    done: list[int] = []
    found = list(check_utterances(faults, written_in=written_in, done=done.append))
    assert [(f.id, f.problem) for f in found] == [(name, name) for name in (u.id for u in faults) if name in PROBLEMS]
    assert {f.problem for f in found} == PROBLEMS.keys() - {"id"}
    assert sum(done) == len(faults)


def test_a_quick_check_decodes_nothing(faults):
    found = {f.problem for f in check_utterances(faults, decode=False)}
    assert found == {"missing", "duplicate", "text"}


def test_a_translation_is_checked_like_a_text(faults):
    from interlingua.metrics.offtarget import written_in

    good = utterance("en", audio=faults[0].audio, text=ENGLISH, translations={"ru": "", "fr": ENGLISH, "zh": "好"})
    details = [f.detail for f in check_utterances([good], written_in=written_in)]
    assert details == ["its translation into ru is empty", f"its translation into fr doesn't look like 'fr': {ENGLISH}"]


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


def test_a_good_manifest_ends_with_0(tmp_path, tree, capsys):
    command(capsys, "prepare", "fleurs", "--root", tree, "--out", tmp_path / "m.jsonl")
    assert command(capsys, "check", tmp_path / "m.jsonl")[:2] == (0, "")


def test_a_corpus_is_checked_inside_its_archive(tmp_path, spoken, capsys):
    root = fleurs_tree(tmp_path / "root", spoken, layout="tar")
    command(capsys, "prepare", "fleurs", "--root", root, "--out", tmp_path / "m.jsonl")
    (root / "data" / "fr_fr" / "audio" / "test.tar").unlink()
    code, out, _ = command(capsys, "check", tmp_path / "m.jsonl")
    assert (code, out.count("\n")) == (1, 1)
    assert out.startswith(
        f"missing: {root}/data/fr_fr/audio/test.tar: no such file; check the path: 4 utterances, such"
    )


# ---------------------------------------------------------------- stats


def test_statistics_of_a_manifest(spoken):
    more = [
        *spoken,
        utterance("de", "one", speaker="anna", gender="female", split="dev", translations={"en": "one"}),
        utterance("de", None, id="bare", speaker="anna"),
    ]
    found = corpus_statistics(more)
    assert (found["utterances"], found["hours"]) == (10, round(8 * 0.5 / 3600, 3))
    assert found["overlap"] == {"en-fr": 3, "en-de": 1, "fr-de": 1}
    assert found["common_to_all"] == 1
    assert found["languages"]["fr"] == {
        "utterances": 4,
        "hours": 0.001,
        "without_duration": 0,
        "speakers": 0,
        "without_speaker": 4,
        "sentences": 3,
        "sentences_with_several_recordings": 1,
        "most_recordings_of_a_sentence": 2,
        "without_text": 0,
        "genders": {"unknown": 4},
        "splits": {"none": 4},
        "translations": {},
    }
    german = found["languages"]["de"]
    assert (german["speakers"], german["sentences"], german["without_duration"], german["without_text"]) == (1, 1, 2, 2)
    assert (german["genders"], german["splits"]) == ({"female": 1, "unknown": 1}, {"dev": 1, "none": 1})
    assert german["translations"] == {"en": 1}


def test_statistics_in_words_and_as_json(tmp_path, spoken, capsys):
    write_manifest(tmp_path / "m.jsonl", spoken)
    code, out, _ = command(capsys, "stats", tmp_path / "m.jsonl")
    assert code == 0
    assert out.splitlines()[1].split() == ["en", "4", "0.00", "unknown", "4", "0", "none", "4"]
    assert "en-fr: 3 sentences in both" in out
    assert "fr: 4 of 4 without a known speaker" in out
    assert json.loads(command(capsys, "stats", tmp_path / "m.jsonl", "--json")[1])["utterances"] == 8


def test_durations_come_from_headers_where_the_manifest_has_none(spoken, tmp_path):
    silent = [replace(u, duration=None) for u in spoken]
    gone = replace(silent[0], id="gone", audio=AudioRef(str(tmp_path / "gone.wav")))
    cut = replace(silent[1], id="cut", audio=AudioRef(silent[1].audio.path, 0.1, 0.2))
    own = replace(silent[2], id="own", duration=7.0)
    done: list[int] = []
    found = [u.duration for u in measured([*silent, gone, cut, own], done.append)]
    assert found == [0.5] * 8 + [None, None, 7.0]
    assert sum(done) == 9
    english = corpus_statistics(measured([gone, cut, own]))["languages"]["en"]
    assert (english["hours"], english["without_duration"]) == (round(7.2 / 3600, 3), 1)


def test_statistics_without_durations_invent_none(tmp_path, capsys):
    write_manifest(tmp_path / "m.jsonl", [utterance("en", audio=AudioRef(str(tmp_path / "a.wav")))])
    assert "unknown" in command(capsys, "stats", tmp_path / "m.jsonl")[1].splitlines()[1].split()[2]


@pytest.mark.parametrize("verb", ["check", "stats"])
def test_what_comes_through_a_pipe_is_read_once(tmp_path, spoken, capsys, verb):
    write_manifest(tmp_path / "m.jsonl", spoken)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=((tmp_path / "m.jsonl").read_bytes(),))
    writer.start()
    through = command(capsys, verb, pipe)
    writer.join()
    assert through[:2] == command(capsys, verb, tmp_path / "m.jsonl")[:2]


# ---------------------------------------------------------------- list


def test_list_names_every_corpus_and_tells_all_of_one(capsys):
    from interlingua.corpora.base import CORPORA

    _, out, _ = command(capsys, "list")
    assert [line.split()[0] for line in out.splitlines()] == list(CORPORA)
    _, out, _ = command(capsys, "list", "mass")
    assert "fetch: clone https://github.com/getalp/mass-dataset as ROOT" in out
    assert "--option titles=… (yes or no)" in out
    described = json.loads(command(capsys, "list", "fleurs", "--json")[1])["fleurs"]
    assert (described["downloads"], described["licence"]) == (True, "CC-BY 4.0")
    assert command(capsys, "list", "flores")[0] == 2


def test_silence_of_a_quiet_recording_is_no_fault(tmp_path):
    path = write_wav(tmp_path / "quiet.wav", (0.01 * np.asarray(sweep(1, 300))).astype(np.float32))
    assert not list(check_utterances([utterance("en", audio=AudioRef(str(Path(path))))]))
