"""The index: against plain loops, kept up to date, killed, written by two, sharded, filtered."""

import shutil
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from test_shards import recordings

from helpers import utterance, victims
from interlingua.corpora import write_manifest
from interlingua.encoding import pool_frames
from interlingua.encoding.store import FrameStore
from interlingua.errors import StoreError, UsageError
from interlingua.index import Hit, Index, build, search_shards
from interlingua.index import index as index_module
from interlingua.index import statistics as stats
from interlingua.retrieval.features import with_position
from interlingua.retrieval.reference import seqsim_pair
from interlingua.types import AudioRef, Frames, FrameSpec, Utterance

DIM = 6
SPEC = FrameSpec(model="tiny", revision="a", layer=2, context="speech", pooling=4, dtype="float16", compute="float32")
LANGUAGES = ("en", "fr", "ru")


def frames(language: str, meaning: int, **extra) -> Frames:
    """An utterance whose frames follow its meaning, moved as its language moves all."""
    rng = np.random.default_rng([meaning, 7])
    sense = np.cumsum(rng.normal(size=(5 + meaning % 4, DIM)), axis=0)
    voice = np.random.default_rng([meaning, *language.encode()])
    values = (sense + 0.3 * voice.normal(size=sense.shape) + 3 * LANGUAGES.index(language)).astype(np.float16)
    name = f"{language}/{meaning}"
    u = Utterance(
        id=name,
        audio=AudioRef(f"{name}.wav"),
        language=language,
        text=f"text {meaning}",
        duration=float(len(values)),
        **extra,
    )
    return Frames(name, values, len(values), f"hash {name}", u)


def made(uri, utterances, **options) -> Index:
    store = FrameStore.open_or_create(f"{uri}/frames.lance", SPEC, DIM)
    store.write(utterances)
    index = Index.of(uri, store, **options)
    index.refresh()
    return index


@pytest.fixture
def utterances():
    return [frames(language, m) for language in LANGUAGES for m in range(30)]


@pytest.fixture
def uri(tmp_path):
    return f"{tmp_path}/speech.lance"


def slow_scores(index: Index, query: Frames, language: str) -> dict[str, float]:
    """Every utterance's score, by the formulas of `reference` and of CSLS, one pair at a time."""
    statistics = index.statistics

    def changed(f: Frames, spoken: str, pooling: int = 1) -> np.ndarray:
        transform = statistics.languages.get(spoken, statistics.languages[stats.EVERY]).transform
        return with_position(pool_frames(transform(f.speech), pooling), 0.1)

    def around(f: Frames, spoken: str, other: str) -> float:
        """Mean of the five highest scores among the references of another language."""
        references = statistics.languages.get(other, statistics.languages[stats.EVERY]).references
        coarse = changed(f, spoken, stats.HUB_POOLING)
        scores = [seqsim_pair(coarse, with_position(r, 0.1))["f1"] for i, r in references.items() if i != f.id]
        return float(np.mean(sorted(scores)[-5:]))

    found = {}
    for candidate in index.store:
        spoken = candidate.id.partition("/")[0]
        similarity = seqsim_pair(changed(query, language), changed(candidate, spoken))["f1"]
        found[candidate.id] = 2 * similarity - around(query, language, spoken) - around(candidate, spoken, language)
    return found


@pytest.mark.parametrize("language", ["en", "fr", "de"])
def test_scores_equal_plain_loops(uri, utterances, language):
    """The third has no statistics: those of all languages serve it."""
    index = made(uri, utterances)
    query = Frames("query", utterances[12].values, utterances[12].n_speech)
    expected = slow_scores(index, query, language)
    for exhaustive in (True, False):
        hits = index.search(query, 90, language=language, exhaustive=exhaustive)
        assert [h.rank for h in hits] == [*range(1, 91)]
        assert {h.utterance.id: h.score for h in hits} == pytest.approx(
            expected, abs=1e-2
        )  # references are compared in bfloat16 where the device has it
        assert [h.utterance.id for h in hits] == sorted(expected, key=lambda i: -dict_of(hits)[i])


def dict_of(hits) -> dict[str, float]:
    return {h.utterance.id: h.score for h in hits}


def test_speech_of_another_language_is_found(uri, utterances):
    index = made(uri, utterances)
    right = 0
    for query in utterances[:30]:
        (hit,) = index.search(Frames("q", query.values, query.n_speech), 1, language="en", where="language = 'ru'")
        right += hit.utterance.id.partition("/")[2] == query.id.partition("/")[2]
        assert hit.utterance.text == f"text {hit.utterance.id.partition('/')[2]}"
    assert right >= 25


def test_few_candidates_lose_what_their_vectors_lose(uri, utterances, monkeypatch):
    """The first stage chooses: with room for one, the best of all may be lost, and nothing else is shown."""
    monkeypatch.setattr(index_module, "CANDIDATES", 3)
    monkeypatch.setattr(index_module, "CANDIDATES_PER_ROOT", 0)
    index = made(uri, utterances)
    query = Frames("q", utterances[3].values, utterances[3].n_speech)
    assert len(index.search(query, 2, language="en")) == 2
    assert len(index.search(query, 90, language="en")) == 90


def test_a_larger_index_takes_more_candidates():
    assert index_module.candidates(10) == index_module.candidates(100) == 400
    assert index_module.candidates(1_000_000) == 40_000


def test_lance_s_vector_index_serves_many(uri, utterances, monkeypatch):
    monkeypatch.setattr(index_module, "VECTOR_INDEX_FROM", 10)
    monkeypatch.setattr(index_module, "CANDIDATES", 40)
    monkeypatch.setattr(index_module, "CANDIDATES_PER_ROOT", 0)
    index = made(uri, utterances)
    assert index.info()["vector_index"]
    query = Frames("q", utterances[3].values, utterances[3].n_speech)
    found = index.search(query, 5, language="en")
    assert [h.utterance.id for h in found] == [
        h.utterance.id for h in index.search(query, 5, language="en", exhaustive=True)
    ]
    index.store.write([frames("en", 40)])
    index.refresh()
    again = Index.open(uri)
    (hit,) = again.search(Frames("q", frames("en", 40).values, 5), 1, language="en", where="language = 'en'")
    assert hit.utterance.id == "en/40"


def test_own_columns_filter(uri, utterances):
    tagged = [frames("en", m, extra={"room": "hall" if m % 2 else "car's"}) for m in range(30)]
    index = made(uri, [*utterances, *tagged])
    query = Frames("q", utterances[3].values, utterances[3].n_speech)
    found = index.search(query, 99, language="en", where="room = 'car''s' and duration > 6")
    assert found
    assert {int(h.utterance.id.partition("/")[2]) % 2 for h in found} == {0}
    index.store.write([frames("fr", 77, extra={"city": "Lyon"})])
    index.refresh()
    assert [h.utterance.id for h in index.search(query, 9, where="city = 'Lyon'")] == ["fr/77"]


def test_a_condition_in_double_quotes_is_refused(uri, utterances):
    index = made(uri, [frames("en", m, extra={"my room": "hall"}) for m in range(3)])
    with pytest.raises(UsageError, match="single quotes"):
        index.search(utterances[0], where='language = "en"')
    assert len(index.search(utterances[0], where="`my room` = 'hall'")) == 3


@pytest.mark.parametrize("where", ["nonsense = 1", "language =", "1; drop table"])
def test_a_wrong_condition_is_named(uri, utterances, where):
    index = made(uri, utterances)
    with pytest.raises(UsageError, match=r"--where .*columns are language, text"):
        index.search(Frames("q", utterances[3].values, 3), where=where)


# ---------------------------------------------------------------- kept up to date


def state(index: Index) -> list[tuple]:
    """All that a search reads, by id."""
    table = index._catalogue.to_table().sort_by("id")
    return [tuple(str(v) for v in row.values()) for row in table.to_pylist()]


def test_a_refresh_does_only_what_is_new(uri, utterances):
    index = made(uri, utterances)
    before, version = state(index), index.statistics.version
    assert index.refresh() == 0
    index.store.write([frames("en", 50), frames("fr", 3, speaker="ann")])
    assert index.refresh() == 2
    assert index.statistics.version == version
    after = {row[0]: row for row in state(index)}
    assert len(after) == 91
    assert [row for row in before if row[0] != "fr/3"] == [after[row[0]] for row in before if row[0] != "fr/3"]
    assert index.search(Frames("q", frames("fr", 3).values, 3), 1, where="speaker = 'ann'")[0].utterance.id == "fr/3"


def test_statistics_are_remade_when_a_language_doubles(uri, utterances):
    index = made(uri, utterances[:35])  # five in French: too few
    assert list(index.statistics.languages) == ["*", "en"]
    index.store.write(utterances[35:60])
    index.refresh()
    assert list(index.statistics.languages) == ["*", "en", "fr"]
    whole = made(f"{uri}-at-once", utterances[:60])
    assert state(index) == state(whole)


def test_too_few_to_estimate_on_are_compared_as_they_are(uri, utterances):
    index = made(uri, utterances[:5])
    hits = index.search(utterances[2], 5)
    expected = [
        seqsim_pair(with_position(utterances[2].values, 0.1), with_position(u.values, 0.1))["f1"]
        for u in utterances[:5]
    ]
    assert dict_of(hits) == pytest.approx({u.id: s for u, s in zip(utterances, expected, strict=False)}, abs=1e-4)
    assert [h.score for h in hits] == [h.similarity for h in hits]


def test_what_is_removed_is_gone_and_a_reference_may_be(uri, utterances):
    index = made(uri, utterances)
    assert index.remove([*index.statistics.languages["en"].references, "nobody"]) == 30
    assert index.languages() == {"fr": 30, "ru": 30}
    assert index.refresh() == 0
    assert Index.open(uri).search(utterances[3], 1, language="en")


def test_an_index_is_opened_or_refused_in_one_line(tmp_path, uri, utterances):
    made(uri, utterances)
    assert len(Index.open(uri)) == 90
    for wrong in (tmp_path / "nothing", f"{uri}/frames.lance"):
        with pytest.raises(StoreError, match="no index here; make one with `interlingua index build`"):
            Index.open(wrong)


def test_an_empty_index_finds_nothing(uri):
    index = made(uri, [])
    assert index.search(frames("en", 3)) == []


KILLED = """
    import os, sys
    sys.path[:0] = sys.argv[2:]
    import test_index as t
    from interlingua.index import index as m
    m.CHUNK = 8
    print("ready", flush=True)
    t.made(sys.argv[1], [t.frames(l, n) for l in t.LANGUAGES for n in range(30)])
"""


def test_a_killed_refresh_leaves_a_complete_version_and_is_completed(uri, utterances, monkeypatch):
    monkeypatch.setattr(index_module, "CHUNK", 8)
    whole = state(made(f"{uri}-undisturbed", utterances))
    made(uri, utterances[:40])
    for wait in (0.05, 0.3):
        paths = [str(Path(__file__).parent), *sys.path]
        command = [sys.executable, "-c", textwrap.dedent(KILLED), uri, *paths]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "ready\n"
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        process.stdout.close()
        held = Index.open(uri)
        assert len(held) in (40, 90)
        assert held.search(utterances[3], 1, language="en")[0].utterance.id == "en/3"
    index = made(uri, utterances)
    assert state(index) == whole


KILLED_COMMAND = """
    import sys
    import lance, test_shards
    from interlingua import cli, index
    MERGE = sys.modules["lance.dataset"].MergeInsertBuilder
    POINTS = [(lance, "write_dataset"), (MERGE, "execute"), (lance.LanceDataset, "delete")]  # each commit

    def job(*command):
        assert cli.run(["index", *command]) == 0
"""


@pytest.mark.parametrize("grown", [False, True])
def test_a_killed_build_or_add_is_completed_by_the_same_command(tmp_path, grown):
    """Utterances are new, gone, changed and described anew at once; ``grown``: so many that statistics are remade."""
    (tmp_path / "audio").mkdir()
    recorded = recordings(tmp_path / "audio", 60)
    before, new = recorded[:24], recorded[24 : 56 if grown else 30]
    changed = msgspec.structs.replace(before[7], audio=recorded[59].audio)
    after = [*before[3:7], changed, msgspec.structs.replace(before[8], speaker="ann"), *before[9:], *new]
    for name, utterances in (("before", before), ("after", after), ("more", recorded[56:59])):
        write_manifest(tmp_path / f"{name}.jsonl", utterances)

    def held(uri: Path) -> list:
        index = Index.open(str(uri))
        stored = [(f.id, f.audio_hash, f.values.tobytes()) for f in index.store]
        return [state(index), sorted(stored), index.store.lines()]

    def build(name: str, uri: Path) -> list[str]:
        return ["build", str(tmp_path / f"{name}.jsonl"), "--out", str(uri), "--encoder", "test_shards:make"]

    with victims(KILLED_COMMAND) as run:
        begun = tmp_path / "begun.lance"
        run(None, *build("before", begun))
        commands = [lambda uri: build("after", uri), lambda uri: ["add", str(uri), str(tmp_path / "more.jsonl")]]
        for command in commands:
            whole = Path(f"{begun}.whole")
            shutil.copytree(begun, whole)
            total = run(None, *command(whole))
            assert total >= 2
            expected = held(whole)
            for moment in range(1, total + 1):
                uri = tmp_path / f"{command(whole)[0]}-{moment}.lance"
                shutil.copytree(begun, uri)
                assert run(moment, *command(uri)) is None
                index = Index.open(str(uri))
                assert set(index.ids()) >= {u.id for u in before[9:]}  # a complete version
                assert index.search(index.store.read([before[9].id])[0], 1, language="en")
                run(None, *command(uri))
                assert held(uri) == expected
            begun = whole


def test_frames_that_are_gone_are_skipped_until_the_next_refresh(uri, utterances):
    """What a search meets while another process drops utterances, or was killed at it."""
    index = made(uri, utterances)
    index.store.delete(["fr/3", "fr/4"])
    longer = frames("fr", 5)
    index.store.write([replace(longer, values=np.repeat(longer.values, 2, axis=0), n_speech=2 * longer.n_speech)])
    query = Frames("q", utterances[3].values, utterances[3].n_speech)
    found = {h.utterance.id for h in Index.open(uri).search(query, 90, language="en")}
    assert found == {u.id for u in utterances} - {"fr/3", "fr/4", "fr/5"}
    index.store.write([replace(longer, audio_hash="new")])
    assert (Index.open(uri).refresh(), len(Index.open(uri))) == (1, 88)


def test_an_open_index_follows_what_another_process_rewrites(uri, utterances):
    index = made(uri, utterances[:30])
    query = Frames("q", utterances[3].values, utterances[3].n_speech)
    index.search(query, 1, language="en")
    other = Index.open(uri)
    other.store.write(utterances[30:])
    other.refresh()
    assert index.remove(["en/29"]) == 1
    assert dict_of(index.search(query, 90, language="en")) == dict_of(Index.open(uri).search(query, 90, language="en"))


def test_rows_that_an_overwrite_would_lose_are_made_again(uri, utterances, monkeypatch):
    """Another process adds a row while the catalogue is rewritten; and rewrites it while rows are added."""
    index = made(uri, utterances[:30])
    rows, done = Index._rows, []

    def meanwhile(self, some, *rest):
        yield from rows(self, some, *rest)
        if not done:
            done.append(True)
            other = Index.open(uri)
            other.store.write([frames("ru", 7)])
            other.refresh()

    monkeypatch.setattr(Index, "_rows", meanwhile)
    index.store.write(utterances[30:60])
    index.refresh()
    assert Index.open(uri).languages() == {"en": 30, "fr": 30, "ru": 1}


@pytest.mark.parametrize("name", ["vector", "line", "speaker", "speaker.id", "_rowid"])
def test_a_column_that_can_t_be_one_is_named(uri, utterances, name):
    with pytest.raises(UsageError, match=r"column .* rename it"):
        made(uri, [*utterances, frames("en", 50, extra={name: "x"})])


def test_two_writers_lose_nothing(uri, utterances):
    made(uri, utterances[:30])
    one, other = Index.open(uri), Index.open(uri)
    one.store.write([frames("fr", 90)])
    other.store.write([frames("fr", 91)])
    one.refresh()
    other.refresh()
    assert Index.open(uri).languages() == {"en": 30, "fr": 2}


# ---------------------------------------------------------------- shards


def test_shards_give_the_scores_of_one_index(tmp_path, utterances):
    whole = made(tmp_path / "whole", utterances)
    parts = [made(tmp_path / f"{n}", utterances[n::3], shared=whole.statistics) for n in range(3)]
    query = Frames("q", utterances[12].values, utterances[12].n_speech)
    for where in (None, "language = 'fr'"):
        found = search_shards(parts, query, 10, language="en", where=where)
        expected = whole.search(query, 10, language="en", where=where)
        assert [h.utterance.id for h in found] == [h.utterance.id for h in expected]
        assert [h.score for h in found] == pytest.approx([h.score for h in expected], abs=1e-5)
        assert [h.rank for h in found] == [*range(1, 11)]


def test_equal_recordings_come_in_the_order_of_ids_and_none_is_cut(tmp_path, utterances):
    def copy(name):
        same = utterances[40]
        return Frames(name, same.values, same.n_speech, name, msgspec.structs.replace(same.utterance, id=name))

    whole = made(tmp_path / "whole", [*utterances, *(copy(f"copy/{n}") for n in range(5))])
    query = Frames("q", utterances[40].values, utterances[40].n_speech)
    equal = {*(f"copy/{n}" for n in range(5)), utterances[40].id}
    whole_list = [h.utterance.id for h in whole.search(query, 95, language="fr")]
    first = min(map(whole_list.index, equal))
    assert whole_list[first : first + 6] == sorted(equal)
    for k in (first + 1, first + 4):
        assert [h.utterance.id for h in whole.search(query, k, language="fr")] == whole_list[:k]


def test_scores_within_the_tolerance_go_by_id():
    def hit(name, score):
        return Hit(rank=0, score=score, similarity=score, utterance=utterance(id=name))

    hits = [hit("b", 0.5), hit("a", 0.5 - 4e-7), hit("c", 0.5 - 4e-5), hit("d", -np.inf), hit("e", 0.5 + 4e-7)]
    for k in (2, 3, 5):
        for order in (hits, hits[::-1]):
            found = index_module._ranked(order, k)
            assert [h.utterance.id for h in found] == ["a", "b", "e", "c", "d"][:k]
            assert [h.rank for h in found] == list(range(1, k + 1))


def test_statistics_of_other_frames_aren_t_shared(tmp_path, utterances):
    whole = made(tmp_path / "whole", utterances)
    other = FrameStore.create(tmp_path / "wide.lance", SPEC, 2 * DIM)
    with pytest.raises(StoreError, match="holds frames 6 wide, not 12"):
        build([], tmp_path / "new", stores=[other], like=whole)
    assert not (tmp_path / "new").exists()


def test_shards_of_other_statistics_are_refused(tmp_path, utterances):
    parts = [made(tmp_path / f"{n}", utterances[n::2]) for n in range(2)]
    with pytest.raises(UsageError, match=r"its scores don't compare with those of .*; build it with --like"):
        search_shards(parts, utterances[0])


# ---------------------------------------------------------------- real speech


@pytest.mark.model
def test_real_speech_of_another_language_is_found(prompts_manifest, tmp_path):
    """Forty Italian prompts search the same forty in English; chance is one of them."""
    short = {u.meaning for u in prompts_manifest if u.duration and u.duration < 3 and u.language == "en"}
    both = [u for u in prompts_manifest if u.meaning in short and u.language in ("en", "it")]
    chosen = sorted({str(u.meaning) for u in both if u.language == "it"})[:40]
    index, report = build([u for u in both if u.meaning in chosen], tmp_path / "speech.lance")
    assert (report.encoded, len(index)) == (80, 80)
    queries = [u for u in both if u.language == "it" and u.meaning in chosen]
    found = [index.search(u.audio, 1, language="it", where="language = 'en'")[0].utterance for u in queries]
    assert sum(u.meaning == hit.meaning for u, hit in zip(queries, found, strict=True)) >= 20
    assert [index.detect(u.audio) for u in queries[:8]].count("it") >= 4
