"""Ranks, recall, chance and intervals, and the evaluation of a frame store between languages."""

import json
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import utterance
from interlingua.encoding.store import FrameStore
from interlingua.errors import CorpusError, UsageError
from interlingua.experiments.retrieval import TREC_DEPTH, Corpus, measure, write_trec
from interlingua.experiments.utterances import UtteranceLog
from interlingua.retrieval.evaluate import Items, bootstrap_means, evaluate_scores, ranks_of_best_relevant
from interlingua.retrieval.features import duration_similarity, mean_pool_cosine
from interlingua.retrieval.seqsim import TIE, seqsim
from interlingua.types import Frames, FrameSpec

NAN = np.nan


def matrix(*rows) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


def items(*meanings: str, clusters=()) -> Items:
    return Items([f"{m}-{i}" for i, m in enumerate(meanings)], meanings, clusters)


def ranks(scores, relevant) -> list[float]:
    return ranks_of_best_relevant(matrix(*scores), np.array(relevant, dtype=bool)).tolist()


# ---------------------------------------------------------------- ranks


def test_ranks_by_hand():
    scores = [[0.9, 0.1, 0.5], [0.9, 0.1, 0.5], [0.9, 0.1, 0.5]]
    assert ranks(scores, np.eye(3)) == [1, 3, 2]


def test_a_wrong_candidate_with_an_equal_score_stands_before():
    assert ranks([[0.5, 0.5, 0.5]], [[1, 0, 0]]) == [3]
    assert ranks([[0.5, 0.5, 0.1]], [[0, 1, 0]]) == [2]


def test_a_constant_score_finds_nothing():
    n = 20
    result = evaluate_scores(np.zeros((n, n), np.float32), items(*map(str, range(n))), items(*map(str, range(n))))
    assert (result.r1, result.r5, result.r10, result.mrr) == pytest.approx((0, 0, 0, 1 / n))


def test_the_best_of_several_answers_counts_and_the_others_dont_stand_before_it():
    assert ranks([[0.9, 0.8, 0.7, 0.6]], [[0, 1, 1, 0]]) == [2]
    assert ranks([[0.5, 0.5, 0.5, 0.4]], [[1, 1, 1, 0]]) == [1]


def test_no_answer_is_rank_infinity():
    assert ranks([[0.9, 0.8]], [[0, 0]]) == [np.inf]


def test_nan_cant_win():
    assert ranks([[NAN, 0.2, 0.1]], [[0, 0, 1]]) == [2]  # a wrong candidate without frames is behind
    assert ranks([[NAN, 0.2, 0.1]], [[1, 0, 0]]) == [np.inf]  # the answer has none
    assert ranks([[NAN, NAN, NAN]], [[1, 0, 0]]) == [np.inf]  # the query has none
    assert ranks([[NAN, 0.2, 0.1]], [[1, 0, 1]]) == [2]  # one answer of two has some


def trec_eval(qrels: str, run: str) -> dict[str, float]:
    """trec_eval -c written out: success_k, recip_rank and num_ret; equal scores go by document, the last first."""
    right: dict[str, set[str]] = {}
    for line in qrels.splitlines():
        query, _, document, level = line.split()
        assert level == "1"
        right.setdefault(query, set()).add(document)
    ranked: dict[str, list[tuple[float, str]]] = {}
    for line in run.splitlines():
        query, q0, document, rank, score, _ = line.split()
        ranked.setdefault(query, []).append((float(np.float32(score)), document))
        assert (q0, int(rank)) == ("Q0", len(ranked[query]))
    found: dict[str, list[float]] = {}
    for query, documents in right.items():
        order = [d for _, d in sorted(ranked.get(query, []), reverse=True)]
        first = next((n for n, d in enumerate(order, 1) if d in documents), np.inf)
        for name, value in {f"success_{k}": first <= k for k in (1, 5, 10)}.items() | {("recip_rank", 1 / first)}:
            found.setdefault(name, []).append(float(value))
    return {name: float(np.mean(values)) for name, values in found.items()} | {"num_ret": len(run.splitlines())}


@pytest.mark.parametrize("seed", range(4))
def test_trec_files_give_the_same_figures(seed, tmp_path):
    draw = np.random.default_rng(seed)
    queries = Items([f"a b/{i}\u00e9" for i in range(30)], [str(m) for m in draw.integers(0, 18, 30)])
    candidates = Items([f"c%{i}" for i in range(40)], [str(m) for m in draw.integers(0, 20, 40)])
    scores = (draw.integers(0, 9, (30, 40)) / 8 + draw.integers(0, 3, (30, 40)) * TIE).astype(np.float32)  # many ties
    scores[draw.integers(0, 30, 3)] = NAN
    scores[:, draw.integers(0, 40, 5)] = NAN
    expected = evaluate_scores(scores, queries, candidates)
    write_trec(tmp_path, "en-fr", "module:METHOD", scores, queries, candidates)
    run = (tmp_path / "en-fr.module%3AMETHOD.run").read_text(encoding="ascii")
    found = trec_eval((tmp_path / "en-fr.qrels").read_text(encoding="ascii"), run)
    assert found == pytest.approx(
        {
            "success_1": expected.r1,
            "success_5": expected.r5,
            "success_10": expected.r10,
            "recip_rank": expected.mrr,
            "num_ret": int((~np.isnan(scores)).sum()),
        }
    )


def test_trec_files_hold_the_first_thousand(tmp_path):
    queries, candidates = items("0"), items(*map(str, range(TREC_DEPTH + 5)))
    write_trec(tmp_path, "en-fr", "seqsim", np.zeros((1, TREC_DEPTH + 5), np.float32), queries, candidates)
    assert len((tmp_path / "en-fr.seqsim.run").read_text().splitlines()) == TREC_DEPTH


def slow_rank(scores, relevant) -> float:
    """Insert answers and wrong candidates into a list, wrong ones first among equals."""
    if not any(relevant):
        return np.inf
    order = sorted(range(len(scores)), key=lambda j: (-scores[j], relevant[j]))
    return 1 + min(place for place, j in enumerate(order) if relevant[j])


cells = st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.5])
names = st.sampled_from("abcd")


@settings(max_examples=100, deadline=None)
@given(st.data(), st.lists(names, min_size=1, max_size=6), st.lists(names, min_size=1, max_size=8))
def test_recall_and_mrr_equal_the_slow_loop(data, queries, candidates):
    row = st.lists(cells, min_size=len(candidates), max_size=len(candidates))
    scores = data.draw(st.lists(row, min_size=len(queries), max_size=len(queries)))
    if not set(queries) & set(candidates):
        with pytest.raises(ValueError, match="no query has a relevant candidate"):
            evaluate_scores(matrix(*scores), items(*queries), items(*candidates))
        return
    everything = [slow_rank(r, [c == q for c in candidates]) for r, q in zip(scores, queries, strict=True)]
    expected = [r for r, q in zip(everything, queries, strict=True) if q in candidates]
    result = evaluate_scores(matrix(*scores), items(*queries), items(*candidates))
    assert [r for r in result.ranks.tolist() if not np.isnan(r)] == expected
    assert (result.n, result.n_unanswerable) == (len(expected), len(queries) - len(expected))
    for k, found in ((1, result.r1), (5, result.r5), (10, result.r10)):
        assert found == pytest.approx(sum(r <= k for r in expected) / len(expected))
    assert result.mrr == pytest.approx(sum(1 / r for r in expected) / len(expected))


def test_a_near_duplicate_counts_in_r1_cluster_only():
    scores = matrix([0.5, 0.9, 0.1], [0.1, 0.2, 0.9])
    queries = items("a", "c", clusters=("ab", "c"))
    result = evaluate_scores(scores, queries, items("a", "b", "c", clusters=("ab", "ab", "c")))
    assert (result.r1, result.r1_cluster) == (0.5, 1.0)
    assert (result.chance, result.chance_cluster) == pytest.approx((1 / 3, (2 / 3 + 1 / 3) / 2))


def test_the_same_meaning_is_right_even_in_another_cluster():
    result = evaluate_scores(matrix([0.9, 0.1]), items("a", clusters=("x",)), items("a", "b", clusters=("y", "z")))
    assert (result.r1, result.r1_cluster) == (1, 1)


def test_the_cutoffs_are_inclusive():
    scores = np.tile(-np.arange(12, dtype=np.float32), (6, 1))
    answers = ["0", "1", "4", "5", "9", "10"]  # at ranks 1, 2, 5, 6, 10 and 11
    result = evaluate_scores(scores, items(*answers), items(*map(str, range(12))))
    assert (result.r1, result.r5, result.r10) == pytest.approx((1 / 6, 3 / 6, 5 / 6))


def test_sizes_and_signature():
    result = evaluate_scores(
        matrix([1, 0], [1, 0], [0, 1]), items("a", "b", "a", clusters=("x", "x", "y")), items("a", "b")
    )
    assert (result.n, result.n_candidates, result.n_clusters) == (3, 2, 2)
    for part in ("ties:pessimistic", "bootstrap:clusters", "n:2000", "seed:12345", "ci:95"):
        assert part in result.signature


# ---------------------------------------------------------------- chance


def test_chance_of_one_answer_is_k_of_m():
    n = 20
    result = evaluate_scores(np.eye(n, dtype=np.float32), items(*map(str, range(n))), items(*map(str, range(n))))
    assert (result.chance, result.chance_r5, result.chance_r10) == pytest.approx((0.05, 0.25, 0.5))


def test_chance_where_there_are_fewer_candidates_than_k():
    result = evaluate_scores(matrix([1, 0, 0]), items("a"), items("a", "b", "c"))
    assert (result.chance, result.chance_r5, result.chance_r10) == pytest.approx((1 / 3, 1, 1))


def test_chance_is_what_random_scores_reach():
    queries, candidates = items(*"aaabbc"), items(*"aaaabcdefghi")
    rng = np.random.default_rng(1)
    runs = []
    for _ in range(400):
        scores = rng.permuted(np.tile(np.arange(12, dtype=np.float32), (6, 1)), axis=1)
        reached = ranks_of_best_relevant(scores, np.array(queries.meanings)[:, None] == np.array(candidates.meanings))
        runs.append([(reached <= k).mean() for k in (1, 5, 10)])
    result = evaluate_scores(scores, queries, candidates)
    assert np.mean(runs, axis=0) == pytest.approx([result.chance, result.chance_r5, result.chance_r10], abs=0.02)


# ---------------------------------------------------------------- intervals


def width(interval) -> float:
    return interval[1] - interval[0]


def test_the_bootstrap_is_deterministic_and_independent_of_the_other_values():
    rng = np.random.default_rng(0)
    a, b = rng.random(50), rng.random(50)
    clusters = [str(i) for i in range(50)]
    assert bootstrap_means([a, b], clusters) == bootstrap_means([a, b], clusters)
    assert bootstrap_means([a, b], clusters)[1] == bootstrap_means([b], clusters)[0]


@given(st.lists(st.integers(0, 1), min_size=2, max_size=30), st.integers(1, 8))
@settings(max_examples=30, deadline=None)
def test_the_interval_contains_the_mean_when_clusters_are_equal(hits, per_cluster):
    values = np.repeat(np.array(hits, dtype=float), per_cluster)
    clusters = [str(i // per_cluster) for i in range(len(values))]
    ((low, high),) = bootstrap_means([values], clusters)
    assert 0 <= low <= values.mean() <= high <= 1


def test_the_width_is_that_of_the_standard_error():
    hits = np.tile([0.0, 1.0], 200)
    ((low, high),) = bootstrap_means([hits], [str(i) for i in range(400)])
    assert width((low, high)) == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(400), rel=0.08)


def test_queries_that_fail_together_widen_the_interval():
    hits = np.repeat(np.tile([0.0, 1.0], 20), 5)
    alone, together = [str(i) for i in range(200)], [str(i // 5) for i in range(200)]
    (apart,), (grouped,) = bootstrap_means([hits], alone), bootstrap_means([hits], together)
    assert width(grouped) == pytest.approx(np.sqrt(5) * width(apart), rel=0.15)


def test_clusters_of_unequal_size_dont_move_the_mean():
    clusters = ["big"] * 9 + ["a", "b", "c"]
    assert bootstrap_means([np.ones(12)], clusters) == [(1.0, 1.0)]


def test_one_cluster_has_no_width():
    ((low, high),) = bootstrap_means([np.array([0.0, 1.0])], ["a", "a"])
    assert low == high == 0.5


def test_clusters_reach_the_intervals_of_the_result():
    n = 40
    scores = np.eye(n, dtype=np.float32)
    scores[: n // 2] = -scores[: n // 2]
    meanings = [f"m{i:02}" for i in range(n)]
    apart = evaluate_scores(scores, items(*meanings), items(*meanings))
    clusters = [f"c{i // 10}" for i in range(n)]
    grouped = evaluate_scores(scores, items(*meanings, clusters=clusters), items(*meanings, clusters=clusters))
    assert apart.r1 == grouped.r1 == 0.5
    assert width(grouped.r1_ci) > 2 * width(apart.r1_ci)
    assert width(grouped.mrr_ci) > 2 * width(apart.mrr_ci)


# ---------------------------------------------------------------- items


def test_every_meaning_is_a_cluster_unless_told():
    assert items("a", "b").clusters == ("a", "b")
    assert len(items("a", "b")) == 2


def test_items_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="equally long"):
        Items(["1"], ["a", "b"])
    with pytest.raises(ValueError, match="equally long"):
        items("a", "b", clusters=("x",))


def test_a_matrix_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"scores are \(2, 1\), the items are \(1, 2\)"):
        evaluate_scores(matrix([1], [0]), items("a"), items("a", "b"))


def test_nothing_to_evaluate_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        evaluate_scores(np.zeros((0, 2), np.float32), items(), items("a", "b"))


# ---------------------------------------------------------------- from a store

SPEC = FrameSpec("tiny", "r", 1, "speech", 1, "float32", "float32")
MEANINGS = [f"m{i}" for i in range(6)]


def frames_of(name: str, meaning: int, n: int) -> Frames:
    """Frames near a direction of their meaning's own; behind the speech lies what would mislead."""
    rng = np.random.default_rng([*name.encode()])
    speech = 0.1 * rng.normal(size=(n, 8)) + np.eye(8)[meaning]
    context = np.tile(10 * np.eye(8)[7], (4, 1))
    return Frames(name, np.vstack([speech, context]).astype(np.float32), n)


def evaluate_retrieval(utterances, store, method, pairs=None, frames=""):
    """Rows as in ``results.json``, and the matrices."""
    found = measure(Corpus.of(utterances, store), [method], pairs=pairs, frames=frames)
    return [msgspec.to_builtins(row) for row in found.rows], found.matrices


@pytest.fixture
def utterances():
    return [utterance(lang, m, cluster=f"c{i // 2}") for lang in ("en", "fr", "ru") for i, m in enumerate(MEANINGS)]


@pytest.fixture
def store(tmp_path, utterances):
    made = FrameStore.create(tmp_path / "s", SPEC, 8)
    made.write([frames_of(u.id, MEANINGS.index(u.meaning), 3 + i % 4) for i, u in enumerate(utterances)])
    return made


def by_pair(rows) -> dict:
    return {(r["query"], r["candidate"]): r for r in rows}


def test_every_ordered_pair_is_a_row(utterances, store):
    rows, matrices = evaluate_retrieval(utterances, store, "seqsim")
    assert set(by_pair(rows)) == {(a, b) for a in ("en", "fr", "ru") for b in ("en", "fr", "ru") if a != b}
    assert set(matrices) == {("en", "fr"), ("en", "ru"), ("fr", "ru")}
    assert all((r["r1"], r["n"], r["n_candidates"], r["n_clusters"]) == (1, 6, 6, 3) for r in rows)
    assert all(r["method"] == "seqsim" and r["median_rank"] == 1 for r in rows)
    json.dumps(rows, allow_nan=False)


def test_scores_are_those_of_the_speech_frames(utterances, store):
    speech = {f.id: f.speech for f in store}
    sides = [[speech[u.id] for u in utterances if u.language == lang] for lang in ("en", "ru")]
    seconds = [[len(f) * 0.02 for f in side] for side in sides]
    expected = {
        "seqsim": seqsim(*sides),
        "mean-pool": mean_pool_cosine(*sides),
        "duration": duration_similarity(*seconds),
    }
    for method, scores in expected.items():
        _, matrices = evaluate_retrieval(utterances, store, method)
        np.testing.assert_allclose(matrices["en", "ru"], scores, atol=1e-6)


def test_duration_is_the_manifests_where_it_says(utterances, store):
    stated = [msgspec.structs.replace(u, duration=2.0 ** (i % 6)) for i, u in enumerate(utterances)]
    scores = evaluate_retrieval(stated, store, "duration")[1]["en", "ru"]
    seconds = [2.0**i for i in range(6)]
    np.testing.assert_allclose(scores, duration_similarity(seconds, seconds), atol=1e-6)


def test_both_directions_are_measured(utterances, store):
    """French has one utterance more: a distractor as a candidate; as a query it has no answer, and is skipped."""
    store.write([frames_of("fr/extra", 0, 3)])
    rows, _ = evaluate_retrieval([*utterances, utterance("fr", "extra")], store, "seqsim", pairs=[("en", "fr")])
    found = by_pair(rows)
    assert set(found) == {("en", "fr"), ("fr", "en")}
    assert (found["en", "fr"]["n"], found["en", "fr"]["n_candidates"]) == (6, 7)
    assert (found["fr", "en"]["n"], found["fr", "en"]["n_candidates"]) == (6, 6)
    assert (found["fr", "en"]["n_unanswerable"], found["fr", "en"]["r1"]) == (1, 1)
    assert "n_unanswerable" not in found["en", "fr"]


def test_queries_without_an_answer_count_nowhere_and_unread_answers_count_as_misses(utterances, store):
    """English lacks m4 and m5 in the manifest, and m3 only in the store: of French's six queries, one is a miss."""
    some = [u for u in utterances if u.id not in ("en/m4", "en/m5")]
    some = [replace_id(u) if u.id == "en/m3" else u for u in some]
    log = UtteranceLog(some)
    corpus = Corpus.of(some, store)
    (row,) = [r for r in measure(corpus, ["seqsim"], log=log).rows if r.pair == ("fr", "en")]
    assert (row.n, row.n_unanswerable, row.n_candidates, row.n_clusters) == (4, 2, 4, 2)
    assert (row.r1, row.r1_cluster, row.chance, row.chance_r5) == (3 / 4, 3 / 4, 1 / 4, 1)
    assert (row.mrr, row.median_rank) == (3 / 4, 1)
    ranks = {
        r.utterance.id: r.retrieval.get("seqsim", {}).get("en") for r in log.results if r.utterance.language == "fr"
    }
    assert [ranks[f"fr/m{i}"] for i in (4, 5)] == [None, None]
    assert (ranks["fr/m3"].rank, ranks["fr/m0"].rank) == (None, 1)


def test_languages_that_share_no_sentence_have_no_row_but_a_line(utterances, store):
    """Italian has sentences of Russian alone, which nobody recorded in English or French."""
    store.write([frames_of("it/own", 0, 3), frames_of("ru/own", 0, 3)])
    more = [*utterances, utterance("it", "own"), utterance("ru", "own")]
    found = measure(Corpus.of(more, store), ["seqsim"])
    assert {("it", "ru"), ("ru", "it")} <= {r.pair for r in found.rows}
    assert not {("en", "it"), ("it", "fr")} & {r.pair for r in found.rows}
    assert [line.partition(":")[0] for line in found.skipped] == ["English and Italian", "French and Italian"]
    with pytest.raises(CorpusError, match="English and Italian: no sentence is recorded in both"):
        measure(Corpus.of(more, store), ["seqsim"], pairs=[("en", "it")])


def test_an_utterance_without_frames_counts_as_a_miss_on_both_sides(utterances, store):
    without = [replace_id(u) if u.id == "fr/m2" else u for u in utterances]
    rows, matrices = evaluate_retrieval(without, store, "seqsim")
    assert np.isnan(matrices["en", "fr"][:, 2]).all()
    assert np.isnan(matrices["fr", "ru"][2]).all()
    found = by_pair(rows)
    assert found["fr", "en"]["r1"] == found["en", "fr"]["r1"] == pytest.approx(5 / 6)
    assert found["en", "fr"]["n"] == found["en", "fr"]["n_candidates"] == 6
    assert found["en", "ru"]["r1"] == 1
    json.dumps(rows, allow_nan=False)


def replace_id(u):
    return utterance(u.language, u.meaning, id=f"{u.id}, never encoded", cluster=u.cluster)


def test_a_language_without_any_frames_finds_nothing(tmp_path, utterances):
    store = FrameStore.create(tmp_path / "half", SPEC, 8)
    store.write([frames_of(f"en/{m}", i, 3) for i, m in enumerate(MEANINGS)])
    rows, _ = evaluate_retrieval([u for u in utterances if u.language != "ru"], store, "seqsim")
    assert [(r["r1"], r["mrr"], r.get("median_rank")) for r in rows] == [(0, 0, None), (0, 0, None)]


def test_several_recordings_of_a_sentence_are_all_right(utterances, store):
    store.write([frames_of("fr/again", 0, 5)])
    again = utterance("fr", "m0", id="fr/again", cluster="c0")
    rows, _ = evaluate_retrieval([*utterances, again], store, "seqsim")
    assert by_pair(rows)["en", "fr"]["r1"] == by_pair(rows)["fr", "en"]["r1"] == 1


def test_clusters_of_the_manifest_reach_the_intervals(utterances, store):
    """Two misses in one cluster: three clusters vary more than six."""
    without = [replace_id(u) if u.id in ("fr/m2", "fr/m3") else u for u in utterances]
    grouped = by_pair(evaluate_retrieval(without, store, "seqsim")[0])["en", "fr"]
    alone = [utterance(u.language, u.meaning, id=u.id) for u in without]
    apart = by_pair(evaluate_retrieval(alone, store, "seqsim")[0])["en", "fr"]
    assert (grouped["n_clusters"], apart["n_clusters"]) == (3, 6)
    assert grouped["r1"] == apart["r1"]
    assert width(grouped["r1_ci"]) > width(apart["r1_ci"])


def test_a_control_may_carry_its_own_name(utterances, store):
    rows, _ = evaluate_retrieval(utterances, store, "seqsim", frames="log-mel")
    assert {r["method"] for r in rows} == {"seqsim:log-mel"}


def test_an_utterance_without_meaning_is_named(utterances, store):
    with pytest.raises(CorpusError, match=r"'en/lost' has no `meaning`"):
        evaluate_retrieval([*utterances, utterance("en", None, id="en/lost")], store, "seqsim")


def test_one_language_is_not_enough(utterances, store):
    with pytest.raises(CorpusError, match=r"two languages or more; the manifest holds en"):
        evaluate_retrieval([u for u in utterances if u.language == "en"], store, "seqsim")


def test_an_unknown_method_is_refused(utterances, store):
    with pytest.raises(UsageError, match=r"unknown method 'cosine'; use one of whitened-csls, seqsim, "):
        evaluate_retrieval(utterances, store, "cosine")


def test_the_spec_of_the_store_is_untouched(utterances, store):
    before = replace(store.spec)
    evaluate_retrieval(utterances, store, "duration")
    assert store.spec == before
    assert store.version == FrameStore.open(store.path).version


def test_exact_duplicates_rank_alike_in_every_order():
    """Each query's candidate is there twice, under another meaning too: never found, whatever the tiles make of it."""
    rng = np.random.default_rng(5)
    spoken = [rng.normal(size=(int(n), 32)).astype(np.float32) for n in rng.integers(20, 300, size=40)]
    queries = [f + 0.3 * rng.normal(size=f.shape).astype(np.float32) for f in spoken]
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(80)
        scores = seqsim(queries, [spoken[i % 40] for i in order])
        relevant = order[None, :] == np.arange(40)[:, None]
        assert ranks_of_best_relevant(scores, relevant).tolist() == [2] * 40


def test_scores_within_the_tolerance_are_equal():
    near, far = 0.5 + TIE / 2, 0.5 + 3 * TIE
    assert ranks([[0.5, near, 0.5 - TIE / 2, 0.5 - 3 * TIE]], [[1, 0, 0, 0]]) == [3]
    assert ranks([[near, 0.5], [far, 0.5], [-np.inf, -np.inf]], [[1, 0], [1, 0], [1, 0]]) == [2, 1, np.inf]
