"""`interlingua corpus prepare` and `stats`: what is written and counted; near-duplicate clusters."""

import json
import os
import re
import shlex
import threading
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from helpers import ROOT, sweep, utterance, write_wav
from interlingua.corpora import cluster_meanings, fleurs, read_manifest, write_manifest
from interlingua.corpora.base import CORPORA
from interlingua.corpora.prepare import (
    RULES,
    corpus_statistics,
    edit_similarity,
    measured,
    prepare_manifest,
    words_of,
)
from interlingua.errors import CorpusError, UsageError
from interlingua.languages import normalise_languages
from interlingua.types import AudioRef
from trees import command, fleurs_tree


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
        "several_recordings": {"rule": RULES["all"], "sentences": 1, "most": 2, "skipped": 0},
        "repeated_ids": 0,
    }


def test_the_first_recording_of_a_sentence(tmp_path, spoken):
    done, _ = prepare(tmp_path / "m.jsonl", spoken, positives="first")
    assert [u.id for u in read_manifest(tmp_path / "m.jsonl")] == [u.id for u in spoken[:-1]]
    several = {"rule": RULES["first"], "sentences": 0, "most": 1, "skipped": 1}
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
    command(capsys, "prepare", "fleurs", "--root", root, "--out", tmp_path / "m.jsonl", "--fold", "0")
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


# ---------------------------------------------------------------- clusters


def slow_edit_distance(a, b) -> int:
    @cache
    def distance(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        substituted = distance(i - 1, j - 1) + (a[i - 1] != b[j - 1])
        return min(distance(i - 1, j) + 1, distance(i, j - 1) + 1, substituted)

    return distance(len(a), len(b))


words = st.lists(st.sampled_from(["press", "one", "two", "to"]), max_size=7)


@settings(deadline=None)
@given(words, words)
def test_edit_similarity_equals_the_textbook(a, b):
    longest = max(len(a), len(b))
    expected = 1 - slow_edit_distance(tuple(a), tuple(b)) / longest if longest else 1
    assert edit_similarity(a, b) == pytest.approx(expected)
    assert edit_similarity(a, b) == edit_similarity(b, a)


def test_words_of_drops_punctuation_and_case():
    assert words_of("  «L'opérateur», n° 5: d'accord_!") == ["l'opérateur", "n", "5", "d'accord"]
    assert words_of("...") == []


def cluster_of(**texts: str) -> dict[str, str]:
    return cluster_meanings({meaning: {"en": text} for meaning, text in texts.items()})


@pytest.mark.parametrize(
    ("texts", "clusters"),
    [
        ({"a": {"en": "press one now"}, "b": {"en": "press two now"}}, "a a"),  # one word of three
        ({"a": {"en": "press one right now"}, "b": {"en": "press two left now"}}, "a b"),  # two of four
        ({"a": {"en": "no"}, "b": {"it": "no"}}, "a b"),  # different languages aren't compared
        ({"a": {"en": ""}, "b": {"en": "…"}, "c": {}}, "a b c"),  # empty texts are alike in nothing
        (
            {
                "a": {"en": "the line is busy", "fr": "la ligne est occupée"},
                "b": {"en": "nobody can answer now", "fr": "La ligne est occupée!"},
            },
            "a a",  # the same text in one language is enough
        ),
    ],
)
def test_near_duplicates(texts, clusters):
    assert cluster_meanings(texts) == dict(zip(texts, clusters.split(), strict=True))


@settings(deadline=None)
@given(st.integers(1, 40))
def test_exactly_two_thirds_is_near_at_every_length(k):
    same, mine, theirs = ["same"] * 2 * k, ["mine"] * k, ["theirs"] * k
    assert len(set(cluster_of(a=" ".join(same + mine), b=" ".join(same + theirs)).values())) == 1


def test_clusters_are_transitive_and_named_after_their_first_member():
    chain = cluster_of(z="one two three", m="one two four", c="one five four", x="six seven eight")
    assert edit_similarity(["one", "two", "three"], ["one", "five", "four"]) < 2 / 3
    assert chain == {"z": "c", "m": "c", "c": "c", "x": "x"}


@settings(deadline=None)
@given(st.permutations(["press one now", "press two now", "say it", "say what", "press two then"]))
def test_clusters_dont_depend_on_the_order(order):
    texts = {text: {"en": text} for text in order}
    assert cluster_meanings(texts) == cluster_meanings(dict(sorted(texts.items())))


# ---------------------------------------------------------------- statistics


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
    write_manifest(tmp_path / "m.jsonl", [utterance("en", audio=AudioRef(str(tmp_path / "a.wav")))])
    assert command(capsys, "stats", tmp_path / "m.jsonl")[1].splitlines()[1].split()[2] == "unknown"  # no hours


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
