"""Is one system better than another? Paired bootstrap and approximate randomisation, over near-duplicate clusters.

Groups (source languages, folds, seeds) are pooled as the mean of their corpus scores. A cluster that occurs in
several groups is drawn, or swapped, in all of them at once: the same sentence in four languages is one observation.

Sources: Koehn (2004), "Statistical significance tests for machine translation evaluation", for the bootstrap;
Riezler and Maxwell (2005), "On some pitfalls in automatic evaluation and significance testing for MT", for the
randomisation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from interlingua.errors import UsageError
from interlingua.metrics.segments import (
    BOOTSTRAP_SAMPLES,
    BOOTSTRAP_SEED,
    bootstrap_signature,
    cluster_draws,
    cluster_sums,
    join,
    percentile_interval,
)
from interlingua.metrics.translation import Metric, corpus_scores, translation_statistics
from interlingua.types import Score

RANDOMISATION_TRIALS = 1000
_TIE = 1e-9  # score points: what rounding may take from an equal difference


@dataclass(frozen=True)
class SystemOutputs:
    """One system on one group; mappings are from utterance id, ``clusters`` None: each utterance is its own."""

    hypotheses: Mapping[str, str]
    references: Mapping[str, str]
    clusters: Mapping[str, str] | None
    target: str


@dataclass(frozen=True)
class Comparison:
    """Two systems on one group; mappings are from utterance id, ``clusters`` None: each utterance is its own."""

    after: Mapping[str, str]
    before: Mapping[str, str]
    references: Mapping[str, str]
    clusters: Mapping[str, str] | None
    target: str


@dataclass(frozen=True)
class Difference:
    """The score of one system less that of another.

    Attributes:
        score: the difference in score points (after - before) with its interval, n (segments) and signature.
        p_bootstrap: two-sided; twice the share of draws on the rarer side of 0.
        p_randomisation: two-sided; the share of random swaps of the systems that differ as much.
        draws: (samples,) differences, one a bootstrap draw.
    """

    score: Score
    p_bootstrap: float
    p_randomisation: float
    draws: np.ndarray = field(repr=False, compare=False)


def compare_translations(
    after: Mapping[str, str],
    before: Mapping[str, str],
    references: Mapping[str, str],
    *,
    target: str,
    metric: Metric,
    clusters: Mapping[str, str] | None = None,
) -> Difference:
    """Compare two systems' corpus BLEU or chrF on the same utterances, joined by id.

    Args:
        after: utterance id -> the output of the system whose gain is asked for; a missing one counts as empty.
        before: the same of the system that it is compared with.
        references: utterance id -> reference translation.
        target: target language code; chooses BLEU's tokenizer.
        metric: ``bleu`` or ``chrf``.
        clusters: utterance id -> cluster; None: each utterance is its own.

    Raises:
        UsageError: see `score_translations`.
    """
    return pooled_difference([Comparison(after, before, references, clusters, target)], metric=metric)


def pooled_difference(groups: Sequence[Comparison], *, metric: Metric) -> Difference:
    """The mean over groups of the difference of two systems' corpus scores.

    Raises:
        UsageError: no groups, or as `score_translations` in one of them.
    """
    after = _pool([SystemOutputs(g.after, g.references, g.clusters, g.target) for g in groups], metric)
    before = _pool([SystemOutputs(g.before, g.references, g.clusters, g.target) for g in groups], metric)
    draws = cluster_draws(len(after.names), BOOTSTRAP_SAMPLES)
    differences = after.scores(draws) - before.scores(draws)
    signature = (
        f"{after.signature}|difference:after-before|groups:{len(groups)}|"
        f"{bootstrap_signature(len(after.names))}|randomisation:{RANDOMISATION_TRIALS}"
    )
    score = Score(after.value - before.value, percentile_interval(differences), after.n, signature)
    return Difference(score, _bootstrap_p(differences), _randomisation_p(after, before), differences)


def pooled_draws(
    groups: Sequence[SystemOutputs],
    metric: Metric,
    *,
    samples: int = BOOTSTRAP_SAMPLES,
    seed: int = BOOTSTRAP_SEED,
) -> tuple[float, np.ndarray]:
    """The mean over groups of one system's corpus score (0-100), and its bootstrap draws, (samples,).

    The draws depend on the set of cluster names and the seed alone: those of two systems on the same utterances
    are paired, and may be subtracted or divided. A group none of whose clusters is drawn is left out of that
    draw's mean, for every system alike.

    Raises:
        UsageError: no groups, or as `score_translations` in one of them.
    """
    pool = _pool(groups, metric)
    return pool.value, pool.scores(cluster_draws(len(pool.names), samples, seed))


@dataclass(frozen=True, eq=False)
class _Pool:
    """One system: ``sums`` and ``sizes`` have an entry a group, (C, K) and (C, 1), by the clusters of all groups."""

    names: list[str]
    sums: list[np.ndarray]
    sizes: list[np.ndarray]
    value: float
    n: int
    metric: Metric
    signature: str

    def scores(self, draws: np.ndarray) -> np.ndarray:
        """Mean corpus score of the groups, (S,), in each of (S, C) draws."""
        scores = np.array([corpus_scores(draws @ sums, self.metric) for sums in self.sums])
        drawn = np.array([(draws @ sizes)[:, 0] > 0 for sizes in self.sizes])
        return np.asarray((scores * drawn).sum(axis=0) / drawn.sum(axis=0))


def _pool(groups: Sequence[SystemOutputs], metric: Metric) -> _Pool:
    if not groups:
        raise UsageError("no groups to compare")
    joined = [join(g.hypotheses, g.references, g.clusters) for g in groups]
    statistics = [
        translation_statistics(segments, target=group.target, metric=metric)
        for segments, group in zip(joined, groups, strict=True)
    ]
    names = sorted({c for segments in joined for c in segments.clusters})
    return _Pool(
        names=names,
        sums=[cluster_sums(s.values, segments.clusters, names) for s, segments in zip(statistics, joined, strict=True)],
        sizes=[cluster_sums(np.ones((len(segments), 1)), segments.clusters, names) for segments in joined],
        value=float(np.mean([s.score for s in statistics])),
        n=sum(len(segments) for segments in joined),
        metric=metric,
        signature="+".join(sorted({s.signature for s in statistics})),
    )


def _bootstrap_p(differences: np.ndarray) -> float:
    # Where 0 stands among the draws; the added ones keep p above 0, which no finite number of draws can show.
    rarer = min((differences <= 0).sum(), (differences >= 0).sum())
    return min(1.0, float(2 * (rarer + 1) / (len(differences) + 1)))


def _randomisation_p(after: _Pool, before: _Pool) -> float:
    swaps = np.random.default_rng(BOOTSTRAP_SEED).integers(0, 2, size=(RANDOMISATION_TRIALS, len(after.names)))
    swaps = np.vstack([np.zeros_like(swaps[:1]), swaps])  # the first row swaps nothing: what was found
    difference = np.zeros(len(swaps))
    for of_after, of_before in zip(after.sums, before.sums, strict=True):
        moved = swaps @ (of_before - of_after)
        difference += corpus_scores(of_after.sum(axis=0) + moved, after.metric)
        difference -= corpus_scores(of_before.sum(axis=0) - moved, after.metric)
    found, *trials = np.abs(difference)
    return float(((np.array(trials) >= found - _TIE * len(after.sums)).sum() + 1) / (len(trials) + 1))
