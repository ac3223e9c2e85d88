"""Statistics of segments: many scores at once, intervals, pooled groups, two systems compared."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF

from helpers import compare_translations
from interlingua.errors import UsageError
from interlingua.metrics import (
    Statistics,
    SystemOutputs,
    draws,
    pooled_difference,
    pooled_score,
    pooled_value,
    ratio,
    score_translations,
    translation_statistics,
)
from interlingua.metrics.statistics import RANDOMISATION_TRIALS, _bootstrap_p
from interlingua.metrics.translation import corpus_scores
from interlingua.resampling import BOOTSTRAP_SEED, SCORE_DRAWS

METRICS = ("bleu", "chrf", "chrf++")
VOCABULARY = [f"w{i}" for i in range(50)]


def scorer(metric: str):
    return {"bleu": BLEU, "chrf": CHRF, "chrf++": partial(CHRF, word_order=2)}[metric]()


def made_up(n: int, right: float, *, seed: int = 0, references_seed: int = 99):
    """(outputs, references) of n sentences, of which about ``right`` are right; the references don't change."""
    rng, of_references = np.random.default_rng(seed), np.random.default_rng(references_seed)
    references = {f"u{i:03}": " ".join(of_references.choice(VOCABULARY, 8)) for i in range(n)}
    outputs = {k: v if rng.random() < right else " ".join(rng.choice(VOCABULARY, 8)) for k, v in references.items()}
    return outputs, references


def statistics_of(groups, metric) -> list[Statistics]:
    return [translation_statistics(group, metric) for group in groups]


def draws_of_difference(after, before, references, metric, clusters=None) -> np.ndarray:
    a, b = (statistics_of([SystemOutputs(side, references, clusters, "en")], metric) for side in (after, before))
    return draws(a) - draws(b)


def corpus_score(metric, outputs, references, ids) -> float:
    return scorer(metric).corpus_score([outputs[i] for i in ids], [[references[i] for i in ids]]).score


# ---------------------------------------------------------------- many corpus scores at once


@pytest.mark.parametrize("metric", METRICS)
def test_many_scores_at_once_are_sacrebleus_one_by_one(metric):
    outputs, references = made_up(40, 0.3)
    one = scorer(metric)
    values = np.array(one._extract_corpus_statistics([*outputs.values(), ""], [[*references.values(), "w1"]]), float)
    times = np.random.default_rng(0).multinomial(3, np.full(41, 1 / 41), size=500)  # three segments: some score 0
    totals = np.vstack([times @ values, values, np.zeros((1, values.shape[1]))])
    expected = [one._compute_score_from_stats(list(total)).score for total in totals]
    assert min(expected) == 0
    assert max(expected) == pytest.approx(100)
    np.testing.assert_allclose(corpus_scores(totals, metric), expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=100, deadline=None)
@given(pairs=st.lists(st.tuples(st.text("ab .", max_size=12), st.text("ab .", max_size=12)), min_size=1, max_size=4))
def test_scores_of_odd_texts_are_sacrebleus(metric, pairs):
    one = scorer(metric)
    outputs, references = (list(side) for side in zip(*pairs, strict=True))
    totals = np.array(one._extract_corpus_statistics(outputs, [references]), float).sum(axis=0)
    assert corpus_scores(totals[None], metric)[0] == pytest.approx(
        one.corpus_score(outputs, [references]).score, abs=1e-9
    )


# ---------------------------------------------------------------- two systems


@pytest.mark.parametrize("metric", METRICS)
def test_the_difference_is_that_of_the_two_scores(metric):
    before, references = made_up(40, 0.3, seed=1)
    after, _ = made_up(40, 0.7, seed=2)
    found = compare_translations(after, before, references, target="en", metric=metric)
    scores = [score_translations(s, references, target="en", metric=metric).value for s in (after, before)]
    assert found.value == scores[0] - scores[1] > 0
    low, high = found.ci
    assert 0 < low < found.value < high
    assert found.n == 40
    assert found.p_bootstrap < 0.05
    assert found.p_randomisation < 0.05
    back = compare_translations(before, after, references, target="en", metric=metric)
    assert back.value == -found.value
    assert back.ci == pytest.approx((-high, -low))
    assert (back.p_bootstrap, back.p_randomisation) == (found.p_bootstrap, found.p_randomisation)


@pytest.mark.parametrize("metric", METRICS)
def test_a_system_doesnt_differ_from_itself(metric):
    outputs, references = made_up(20, 0.5)
    found = compare_translations(outputs, dict(outputs), references, target="en", metric=metric)
    assert (found.value, found.ci) == (0, (0, 0))
    assert (found.p_bootstrap, found.p_randomisation) == (1, 1)


def test_systems_that_are_equally_good_do_not_differ_significantly():
    references = made_up(60, 0)[1]
    after, before = ({**made_up(60, 0.5, seed=seed)[0]} for seed in (3, 4))
    found = compare_translations(after, before, references, target="en", metric="chrf")
    assert found.p_bootstrap > 0.05
    assert found.p_randomisation > 0.05
    assert found.ci[0] < 0 < found.ci[1]


@pytest.mark.parametrize("metric", METRICS)
def test_a_pooled_score_is_the_mean_with_the_interval_of_its_draws(metric):
    groups = []
    for seed in (1, 2):
        outputs, references = made_up(15, 0.4, seed=seed, references_seed=seed)
        groups.append(SystemOutputs(outputs, references, None, "en"))
    found = pooled_score(statistics_of(groups, metric))
    found_draws = draws(statistics_of(groups, metric))
    alone = [score_translations(g.hypotheses, g.references, target="en", metric=metric).value for g in groups]
    assert found.value == np.mean(alone)
    assert found.ci == tuple(np.percentile(found_draws, [2.5, 97.5]))
    assert found.n == 30
    assert "|groups:2|bootstrap:clusters:15|" in found.signature


def test_missing_outputs_count_as_empty_and_ids_decide():
    before, references = made_up(20, 0.2)
    after = dict(references)
    del after["u003"]
    options = {"target": "en", "metric": "chrf"}
    lacking = compare_translations(after, before, references, **options)
    for same in ({**after, "u003": ""}, dict(reversed(after.items()))):
        found = compare_translations(same, before, references, **options)
        assert found == lacking
    assert lacking.value < compare_translations(references, before, references, **options).value
    for pair in ((after, {"x": "?"}), ({"x": "?"}, before)):
        with pytest.raises(UsageError, match="1 hypotheses have no reference"):
            compare_translations(*pair, references, **options)


@pytest.mark.parametrize("metric", METRICS)
def test_every_draw_and_every_swap_done_by_hand(metric):
    n, parts = 15, 5
    before, references = made_up(n, 0.3, seed=1)
    after, _ = made_up(n, 0.6, seed=2)
    ids = sorted(references)
    clusters = {i: f"c{k % parts}" for k, i in enumerate(ids)}
    members = [[i for i in ids if clusters[i] == f"c{c}"] for c in range(parts)]
    found = compare_translations(after, before, references, target="en", metric=metric, clusters=clusters)

    times = np.random.default_rng(BOOTSTRAP_SEED).multinomial(parts, np.full(parts, 1 / parts), SCORE_DRAWS)
    found_draws = draws_of_difference(after, before, references, metric, clusters)
    for draw, row in list(zip(found_draws, times, strict=True))[:100]:
        drawn = [i for c, k in enumerate(row) for i in members[c] * k]
        by_hand = corpus_score(metric, after, references, drawn) - corpus_score(metric, before, references, drawn)
        assert draw == pytest.approx(by_hand, abs=1e-9)
    assert found.ci == tuple(np.percentile(found_draws, [2.5, 97.5]))

    by_swap: dict[tuple[int, ...], float] = {}
    swaps = np.random.default_rng(BOOTSTRAP_SEED).integers(0, 2, (RANDOMISATION_TRIALS, parts))
    for swap in {tuple(map(int, s)) for s in swaps}:
        swapped = {i for c, yes in enumerate(swap) if yes for i in members[c]}
        first = {i: (before if i in swapped else after)[i] for i in ids}
        second = {i: (after if i in swapped else before)[i] for i in ids}
        by_swap[swap] = corpus_score(metric, first, references, ids) - corpus_score(metric, second, references, ids)
    as_much = sum(abs(by_swap[tuple(map(int, s))]) >= abs(found.value) - 1e-9 for s in swaps)
    assert found.p_randomisation == (as_much + 1) / (RANDOMISATION_TRIALS + 1)


def test_p_values_of_draws_counted_by_hand():
    assert _bootstrap_p(np.array([1.0] * 97 + [-1.0] * 2)) == pytest.approx(2 * 3 / 100)
    assert _bootstrap_p(np.array([-1.0] * 97 + [1.0] * 2)) == pytest.approx(2 * 3 / 100)
    assert _bootstrap_p(np.ones(999)) == pytest.approx(2 / 1000)
    assert _bootstrap_p(np.zeros(10)) == 1


def test_one_cluster_shows_nothing():
    before, references = made_up(10, 0.1)
    together = dict.fromkeys(references, "all")
    found = compare_translations(references, before, references, target="en", metric="chrf", clusters=together)
    assert found.p_bootstrap == 1
    assert found.p_randomisation == 1  # to swap all or nothing never changes how much they differ
    assert found.ci == pytest.approx((found.value, found.value))
    assert pooled_score(statistics_of([SystemOutputs(before, references, together, "en")], "chrf")).ci is None


def test_the_signature_says_how():
    outputs, references = made_up(6, 0.5)
    after, before = (
        statistics_of([SystemOutputs(side, references, None, target) for target in ("en", "zh")], "bleu")
        for side in (outputs, references)
    )
    signature = pooled_difference(after, before).signature
    for part in ("tok:13a", "+", "tok:zh", "difference:after-before", "groups:2", "bootstrap:clusters:6", "seed:12345"):
        assert part in signature


# ---------------------------------------------------------------- ratios of sums: error rates and means


def errors_of(seed: int, n: int = 12, parts: int = 4, prefix: str = "u") -> Statistics:
    rng = np.random.default_rng(seed)
    values = {f"{prefix}{i:02}": (float(rng.integers(0, 5)), float(4 + i % 3)) for i in range(n)}
    return ratio(values, {i: f"c{k % parts}" for k, i in enumerate(values)}, "made-up", scale=100)


def test_one_groups_ratio_is_its_own_score():
    found, alone = pooled_score([errors_of(1)]), errors_of(1).score()
    assert (found.value, found.n) == (pytest.approx(alone.value), alone.n)
    assert found.ci == pytest.approx(alone.ci)
    assert found.signature == alone.signature.replace("|bootstrap", "|groups:1|bootstrap")


def test_ratios_every_draw_and_every_swap_done_by_hand():
    after, before = [errors_of(1), errors_of(3, prefix="v")], [errors_of(2), errors_of(4, prefix="v")]
    found = pooled_difference(after, before)

    def rate(group: Statistics, times) -> float:
        rows = [v for v, c in zip(group.values, group.clusters, strict=True) for _ in range(times[c])]
        errors, words = np.sum(rows, axis=0)
        return 100 * errors / words

    def mean_difference(ours, theirs, times) -> float:
        return np.mean([rate(a, times) - rate(b, times) for a, b in zip(ours, theirs, strict=True)])

    once = {f"c{c}": 1 for c in range(4)}
    assert found.value == pytest.approx(mean_difference(after, before, once))
    drawn = np.random.default_rng(BOOTSTRAP_SEED).multinomial(4, np.full(4, 1 / 4), SCORE_DRAWS)
    found_draws = draws(after) - draws(before)
    for draw, row in list(zip(found_draws, drawn, strict=True))[:100]:
        assert draw == pytest.approx(mean_difference(after, before, {f"c{c}": k for c, k in enumerate(row)}))

    def swapped(ours: Statistics, theirs: Statistics, swaps) -> Statistics:
        taken = [swaps[int(c[1])] for c in ours.clusters]
        return replace(ours, values=np.where(np.array(taken)[:, None], theirs.values, ours.values))

    trials = np.random.default_rng(BOOTSTRAP_SEED).integers(0, 2, size=(RANDOMISATION_TRIALS, 4))
    differences = [
        mean_difference(
            [swapped(a, b, t) for a, b in zip(after, before, strict=True)],
            [swapped(b, a, t) for a, b in zip(after, before, strict=True)],
            once,
        )
        for t in trials
    ]
    as_much = sum(abs(d) >= abs(found.value) - 1e-9 for d in differences)
    assert found.p_randomisation == (as_much + 1) / (RANDOMISATION_TRIALS + 1)
    assert found.p_bootstrap == _bootstrap_p(found_draws)


def test_ratios_of_different_utterances_are_not_compared():
    with pytest.raises(UsageError, match="same utterances only"):
        pooled_difference([errors_of(1)], [errors_of(1, prefix="v")])
    with pytest.raises(UsageError, match="no groups"):
        pooled_score([])


# ---------------------------------------------------------------- groups


def groups_of(*rights: float, n: int = 20, clusters=None):
    made = [made_up(n, right, seed=seed, references_seed=seed) for seed, right in enumerate(rights)]
    return [SystemOutputs(outputs, references, clusters, "en") for outputs, references in made]


@pytest.mark.parametrize("metric", METRICS)
def test_pooled_values_and_draws_done_by_hand(metric):
    """Three groups, two of which share clusters by name and one of which has fewer."""
    groups = groups_of(0.3, 0.6, 0.9, n=6)
    groups[2] = SystemOutputs(
        {k: v for k, v in groups[2].hypotheses.items() if k < "u002"},
        {k: v for k, v in groups[2].references.items() if k < "u002"},
        {"u000": "alone", "u001": "u001"},
        "en",
    )
    names = ["alone", *(f"u{i:03}" for i in range(6))]
    statistics = statistics_of(groups, metric)
    alone = [corpus_score(metric, g.hypotheses, g.references, sorted(g.references)) for g in groups]
    assert pooled_value(statistics) == np.mean(alone)
    times = np.random.default_rng(5).multinomial(7, np.full(7, 1 / 7), 60)
    left_out = 0
    for draw, row in zip(draws(statistics, 60, seed=5), times, strict=True):
        scores = []
        for g in groups:
            cluster_of = g.clusters or {i: i for i in g.references}
            drawn = [i for i in sorted(g.references) for _ in range(row[names.index(cluster_of[i])])]
            if drawn:
                scores.append(corpus_score(metric, g.hypotheses, g.references, drawn))
        left_out += len(scores) < 3
        assert draw == pytest.approx(np.mean(scores), abs=1e-9)
    assert left_out


def test_the_draws_of_two_systems_are_paired():
    plain, better, start = (statistics_of(groups_of(right, right), "chrf") for right in (0.4, 0.8, 0.1))
    found = pooled_difference(better, start)
    gains = draws(better) - draws(start)
    assert found.value == pooled_value(better) - pooled_value(start)
    assert found.ci == tuple(np.percentile(gains, [2.5, 97.5]))
    assert np.percentile(gains / (draws(plain) - draws(start)), 2.5) > 1


def test_a_cluster_is_drawn_in_all_groups_at_once():
    (one,) = groups_of(0.5)
    (alone,) = statistics_of([one], "chrf")
    copies = draws([alone] * 4)
    assert copies == pytest.approx(draws([alone]))  # four copies of a sentence are no more evidence than one
    apart = [replace(one, clusters={i: f"{i}-{k}" for i in one.references}) for k in range(4)]
    assert draws(statistics_of(apart, "chrf")).std() < 0.6 * copies.std()
    (empty,) = statistics_of([replace(one, hypotheses={})], "chrf")
    single, pooled = (pooled_difference([alone] * k, [empty] * k) for k in (1, 4))
    assert pooled.p_randomisation == single.p_randomisation
    assert pooled.n == 4 * single.n


@pytest.mark.parametrize("metric", METRICS)
def test_seeds_are_drawn_within_their_fold_by_hand(metric):
    """Fold 3 has two seeds of two languages each, fold 7 one seed: a draw repeats groups as often as their seed is."""
    cells = [(3, 0), (3, 0), (3, 1), (3, 1), (7, 0)]
    groups = [replace(g, cell=cell) for g, cell in zip(groups_of(0.2, 0.3, 0.8, 0.9, 0.5, n=6), cells, strict=True)]
    found = draws(statistics_of(groups, metric), 60, seed=5)
    times = np.random.default_rng(5).multinomial(6, np.full(6, 1 / 6), 60)
    seeds = np.random.default_rng([5, 1]).multinomial(2, [0.5, 0.5], 60)
    assert {tuple(row) for row in seeds.tolist()} == {(2, 0), (1, 1), (0, 2)}
    for draw, row, (first, second) in zip(found, times, seeds, strict=True):
        scores = []
        for g, often in zip(groups, [first, first, second, second, 1], strict=True):
            drawn = [f"u{i:03}" for i in range(6) for _ in range(row[i])]
            scores += [corpus_score(metric, g.hypotheses, g.references, drawn)] * often
        assert draw == pytest.approx(np.mean(scores), abs=1e-9)


def test_trainings_that_differ_widen_the_interval_and_a_single_one_tells_nothing():
    groups = statistics_of(groups_of(0.2, 0.8, n=40), "chrf")
    together = [replace(g, cell=(0, 0)) for g in groups]
    assert (draws(together) == draws(groups)).all()
    apart = [replace(g, cell=(0, seed)) for seed, g in enumerate(groups)]
    assert draws(apart).std() > 2 * draws(groups).std()
    assert "|trainings:2|" in pooled_score(apart).signature
    assert "trainings" not in pooled_score(together).signature
    assert "|trainings:2|" in pooled_difference(apart, groups).signature
    counted = [replace(errors_of(k), cell=(0, k)) for k in (1, 2)]
    assert "|trainings:2|" in pooled_score(counted).signature


def test_no_groups_are_refused():
    with pytest.raises(UsageError, match="no groups"):
        pooled_difference([], [])
