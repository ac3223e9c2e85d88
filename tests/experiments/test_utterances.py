"""What is kept of each utterance: its ranks and translations, where the audio lies, and which corpus it was."""

import datetime
from pathlib import Path

import numpy as np
import pytest

from helpers import load_results, save_results, score_transcripts, utterance
from interlingua.encoding.store import FrameStore
from interlingua.errors import ResultsError
from interlingua.experiments.finetune import each_output
from interlingua.experiments.retrieval import Corpus, measure
from interlingua.experiments.utterances import UtteranceLog, first_of
from interlingua.metrics import segment_scores
from interlingua.results import CorpusUsed, Ranked, Results, corpus_hash, load_utterances, provenance
from interlingua.retrieval.evaluate import Items, evaluate_scores
from interlingua.types import AudioRef, Frames, FrameSpec

SPEC = FrameSpec("tiny", "r", 2, "speech", 1, "float32", "float32")


def first_by_loops(queries: Items, candidates: Items, scores: np.ndarray) -> list[int | None]:
    """The specification: the first wrong candidate with the highest score, else the first right one, else None."""
    found: list[int | None] = []
    for query, row in zip(queries.meanings, scores.tolist(), strict=True):
        best: int | None = None
        for place, value in enumerate(row):
            if np.isnan(value):
                continue
            right = candidates.meanings[place] == query
            held_right = best is not None and candidates.meanings[best] == query
            if best is None or value > row[best] or (value == row[best] and held_right and not right):
                best = place
        found.append(best)
    return found


@pytest.mark.parametrize("seed", range(8))
def test_what_stands_first_equals_the_loops_and_agrees_with_the_rank(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, (9, 7)).astype(np.float32)  # many equal ones
    scores[rng.random((9, 7)) < 0.2] = np.nan
    scores[3] = np.nan
    queries = Items([f"q{i}" for i in range(9)], [str(i % 5) for i in range(9)])
    candidates = Items([f"c{i}" for i in range(7)], [str(i % 5) for i in range(7)])
    found = first_of(queries, candidates, scores)
    assert found == first_by_loops(queries, candidates, scores)
    assert found[3] is None
    ranks = evaluate_scores(scores, queries, candidates).ranks
    right = [f is not None and candidates.meanings[f] == queries.meanings[i] for i, f in enumerate(found)]
    assert right == (ranks == 1).tolist()


def test_ranks_are_kept_of_every_query_and_method(tmp_path: Path) -> None:
    utterances = [utterance(lang, m) for lang in ("en", "fr") for m in ("a", "b", "c")]
    store = FrameStore.create(tmp_path / "s", SPEC, 8)
    for i, u in enumerate(utterances[:-1]):  # fr/c has no frames
        store.write([Frames(u.id, np.eye(8, dtype=np.float32)[[i % 3]], 1)])
    log = UtteranceLog(utterances)
    rows = measure(Corpus.of(utterances, store), ["seqsim"], log=log).rows
    measure(Corpus.of(utterances, store), ["duration"], frames="mine", log=log)
    kept = {r.utterance.id: r.retrieval for r in log.results}
    assert list(kept) == [u.id for u in utterances]
    assert kept["en/a"]["seqsim"] == {"fr": Ranked(1, "fr/a")}
    assert kept["en/c"]["seqsim"]["fr"].rank is None
    assert kept["fr/c"]["seqsim"] == {"en": Ranked(None, None)}
    assert all(set(methods) == {"seqsim", "duration:mine"} for methods in kept.values())
    for row in rows:
        ranks = [m["seqsim"][row.candidate].rank for i, m in kept.items() if i.startswith(row.query)]
        assert row.r1 == pytest.approx(np.mean([rank == 1 for rank in ranks]))


def test_translations_are_kept_with_their_sentence_score() -> None:
    log = UtteranceLog([utterance("fr", "a"), utterance("fr", "b")])
    references = {"fr/a": "Good morning.", "fr/b": "Thank you."}
    log.translated("tiny", "en", {"fr/a": "Good evening."}, references)
    (first,), (second,) = (r.translations for r in log.results)
    assert (first.hypothesis, first.reference, first.system, first.target) == (
        "Good evening.", "Good morning.", "tiny", "en",
    )  # fmt: skip
    chrf = segment_scores({"fr/a": "Good evening."}, references, metric="chrf")
    assert first.chrf == pytest.approx(chrf["fr/a"], abs=0.01)
    assert (second.hypothesis, second.chrf) == ("", 0)


def test_transcripts_are_kept_with_their_error_rate() -> None:
    log = UtteranceLog([utterance("fr", "a"), utterance("fr", "b"), utterance("fr", "c"), utterance("zh", "a")])
    said = {"fr/a": "Bonjour, tout le monde.", "fr/b": "Merci"}
    log.transcribed("tiny", "fr", {"fr/a": "bonjour toute le monde"}, said)
    log.transcribed("tiny", "zh", {"zh/a": "你们好"}, {"zh/a": "你好"})
    (first,), (second,), nothing, (chinese,) = (r.transcripts for r in log.results)
    assert (first.system, first.hypothesis, first.unit, first.error) == ("tiny", "bonjour toute le monde", "wer", 25)
    assert (second.hypothesis, second.error) == ("", 100)
    assert nothing == []
    assert (chinese.unit, chinese.error) == ("cer", 50)
    score = score_transcripts({"fr/a": "bonjour toute le monde"}, said, language="fr")
    assert score.value == pytest.approx((4 * first.error + 1 * second.error) / 5)


def test_ranks_of_another_log_are_taken_over() -> None:
    log = UtteranceLog([utterance("en", "a"), utterance("fr", "a")])
    log.ranked_before({"en/a": {"seqsim": {"fr": Ranked(1, "fr/a")}}})
    log.ranked_before({"en/a": {"seqsim": {"wo": Ranked(2, "wo/b")}, "dtw": {"fr": Ranked()}}})
    assert log.results[0].retrieval == {
        "seqsim": {"fr": Ranked(1, "fr/a"), "wo": Ranked(2, "wo/b")},
        "dtw": {"fr": Ranked(None, None)},
    }


def test_answers_before_and_after_a_fine_tuning_are_kept() -> None:
    said = [utterance("fr", "a", text="un", translations={"en": "one", "es": "uno"}), utterance("en", "a", text="one")]
    before = {"new fr-es": {"fr/a": "unos"}, "translate fr-en": {}, "transcribe fr-fr": {"fr/a": "un"}}
    after = {"new fr-es": {"fr/a": "uno"}, "translate fr-en": {"fr/a": "one"}, "detect fr-fr": {"fr/a": "fr"}}
    after["transcribe fr-fr"] = {}
    kept, nothing = each_output({"before": before, "after": after}, said)
    assert [(t.system, t.target, t.hypothesis, t.reference) for t in kept.translations] == [
        ("before", "es", "unos", "uno"),
        ("before", "en", "", "one"),
        ("after", "es", "uno", "uno"),
        ("after", "en", "one", "one"),
    ]
    assert [(t.system, t.hypothesis, t.error) for t in kept.transcripts] == [("before", "un", 0), ("after", "", 100)]
    assert (nothing.translations, nothing.transcripts) == ([], [])


def results_of(folder: Path) -> UtteranceLog:
    here = utterance("en", "a", text="Grüße, “ça”\u2028</script>", audio=AudioRef(str(folder / "audio" / "a.wav")))
    log = UtteranceLog([here, utterance("fr", "a", audio=AudioRef("/elsewhere/b.tar", member="b.wav"))])
    log.translated("s", "en", {}, {"fr/a": "x"})
    log.transcribed("s", "fr", {"fr/a": "ça va"}, {"fr/a": "ça, va?"})
    return log


def test_they_come_back_and_the_folder_can_be_moved(tmp_path: Path) -> None:
    log = results_of(tmp_path / "old")
    save_results(tmp_path / "old", {}, utterances=log.results)
    assert load_utterances(tmp_path / "old") == log.results
    (tmp_path / "old").rename(tmp_path / "new")
    first, second = load_utterances(tmp_path / "new")
    assert first.utterance.audio.path == str(tmp_path / "new" / "audio" / "a.wav")
    assert second.utterance.audio == AudioRef("/elsewhere/b.tar", member="b.wav")
    save_results(tmp_path / "new", Results())
    assert load_utterances(tmp_path / "new") == []


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    save_results(tmp_path, Results(), utterances=results_of(tmp_path).results)
    with (tmp_path / "utterances.jsonl").open("a") as out:
        out.write('{"utterance": 3}\n')
    with pytest.raises(ResultsError, match=r"utterances.jsonl:3: .*utterance"):
        load_utterances(tmp_path)


def test_results_that_cant_be_written_leave_the_old_ones(tmp_path: Path) -> None:
    save_results(tmp_path, Results(title="old"), utterances=results_of(tmp_path).results)
    with pytest.raises(ValueError, match="JSON"):
        save_results(tmp_path, Results(settings={"a": float("nan")}), {"similarity": np.zeros(2)})
    assert len(load_utterances(tmp_path)) == 2
    assert load_results(tmp_path)[1] == {}


def test_the_corpus_hash_knows_texts_and_not_places() -> None:
    here = [utterance("en", "a", text="one"), utterance("fr", "a", text="un")]
    there = [utterance(u.language, "a", text=u.text, audio=AudioRef("/other/place.flac")) for u in reversed(here)]
    assert corpus_hash(here) == corpus_hash(there)
    assert corpus_hash(here) != corpus_hash([here[0], utterance("fr", "a", text="deux")])
    assert corpus_hash(here) != corpus_hash(here[:1])


@pytest.mark.parametrize(
    ("called", "told"),
    [
        ("/usr/bin/interlingua", "interlingua run 'a b.yaml'"),
        (str(Path.cwd() / "benchmarks" / "transfer.py"), "python benchmarks/transfer.py run 'a b.yaml'"),
    ],
)
def test_the_command_is_the_one_that_was_called(called: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", [called, "run", "a b.yaml"])
    assert provenance("float32", "cpu", 1, datetime.datetime.now(datetime.UTC)).command == told


def test_provenance_names_corpus_and_seeds() -> None:
    here = [utterance("en", "a")]
    found = provenance("float32", "cpu", 1, datetime.datetime.now(datetime.UTC), utterances=here, seeds={"folds": 7})
    assert found.corpus == CorpusUsed(utterances=1, sha256=corpus_hash(here))
    assert found.seeds == {"folds": 7}
