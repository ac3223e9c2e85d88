"""Is one system better than another? Paired bootstrap and approximate randomisation, over near-duplicate clusters.

Groups (source languages, folds, seeds) are pooled as the mean of their corpus scores. A cluster that occurs in
several groups is drawn, or swapped, in all of them at once: the same sentence in four languages is one observation.
Where a fold was trained with several seeds, the bootstrap draws these anew, too.

Sources: Koehn (2004), "Statistical significance tests for machine translation evaluation", for the bootstrap;
Riezler and Maxwell (2005), "On some pitfalls in automatic evaluation and significance testing for MT", for the
randomisation.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from interlingua.errors import UsageError
from interlingua.metrics.segments import (
    Cell,
    Tallies,
    bootstrap_signature,
    cluster_names,
    cluster_sums,
    join,
    seed_draws,
)
from interlingua.metrics.translation import Metric, corpus_scores, translation_statistics
from interlingua.resampling import BOOTSTRAP_SEED, SCORE_DRAWS, cluster_draws, percentile_interval
from interlingua.types import Score

RANDOMISATION_TRIALS = 1000
_TIE = 1e-9  # score points: what rounding may take from an equal difference


@dataclass(frozen=True)
class SystemOutputs:
    """One system on one group; mappings are from utterance id, ``clusters`` None: each utterance is its own.

    ``cell`` is of the training that the outputs come from; its seed is drawn among those of its fold.
    """

    hypotheses: Mapping[str, str]
    references: Mapping[str, str]
    clusters: Mapping[str, str] | None
    target: str
    cell: Cell | None = None


@dataclass(frozen=True)
class Comparison:
    """Two systems on one group, as in `SystemOutputs`."""

    after: Mapping[str, str]
    before: Mapping[str, str]
    references: Mapping[str, str]
    clusters: Mapping[str, str] | None
    target: str
    cell: Cell | None = None

    def systems(self) -> tuple[SystemOutputs, SystemOutputs]:
        """After, and before."""
        shared = (self.references, self.clusters, self.target, self.cell)
        return SystemOutputs(self.after, *shared), SystemOutputs(self.before, *shared)


@dataclass(frozen=True)
class Difference:
    """The score of one system less that of another.

    Attributes:
        score: the difference in score points (after - before) with its interval, n (segments) and signature.
        p_bootstrap: two-sided; twice the share of draws, of clusters and seeds, on the rarer side of 0.
        p_randomisation: two-sided; the share of random swaps of the systems, cluster by cluster, that differ as much.
            It takes the trainings as they are: what another seed would give is no part of it.
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
    """Compare two systems' corpus BLEU, chrF or chrF++ on the same utterances, joined by id.

    Args:
        after: utterance id -> the output of the system whose gain is asked for; a missing one counts as empty.
        before: the same of the system that it is compared with.
        references: utterance id -> reference translation.
        target: target language code; chooses BLEU's tokenizer.
        metric: ``bleu``, ``chrf`` or ``chrf++``.
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
    after, before = (_pool([g.systems()[side] for g in groups], metric) for side in (0, 1))
    return _difference(after, before)


def pooled_ratio_difference(after: Sequence[Tallies], before: Sequence[Tallies]) -> Difference:
    """The mean over groups of the difference of two systems' ratios of sums, such as error rates.

    Args:
        after: one a group, of the system whose gain is asked for.
        before: the same groups and utterances of the system that it is compared with.

    Raises:
        UsageError: no groups, or groups of different utterances.
    """
    if [a.values.keys() for a in after] != [b.values.keys() for b in before]:
        raise UsageError("two systems are compared on the same utterances only")
    return _difference(_ratio_pool(after), _ratio_pool(before))


def pooled_score(groups: Sequence[SystemOutputs], metric: Metric) -> Score:
    """The mean over groups of one system's corpus score, with its interval (None: only one cluster).

    Raises:
        UsageError: no groups, or as `score_translations` in one of them.
    """
    return _score(_pool(groups, metric))


def pooled_ratio(groups: Sequence[Tallies]) -> Score:
    """The mean over groups of one system's ratio of sums, with its interval (None: only one cluster).

    Raises:
        UsageError: no groups.
    """
    return _score(_ratio_pool(groups))


def pooled_draws(
    groups: Sequence[SystemOutputs],
    metric: Metric,
    *,
    samples: int = SCORE_DRAWS,
    seed: int = BOOTSTRAP_SEED,
) -> tuple[float, np.ndarray]:
    """The mean over groups of one system's corpus score (0-100), and its bootstrap draws, (samples,).

    The draws depend on the sets of cluster names and cells and the seed alone: those of two systems on the same
    utterances are paired, and may be subtracted or divided. A group none of whose clusters is drawn is left out of that
    draw's mean, for every system alike.

    Raises:
        UsageError: no groups, or as `score_translations` in one of them.
    """
    pool = _pool(groups, metric)
    return pool.value, pool.draws(samples, seed)


@dataclass(frozen=True, eq=False)
class _Pool:
    """One system: ``sums`` and ``sizes`` have an entry a group, (C, K) and (C, 1), by the clusters of all G groups."""

    names: list[str]
    sums: list[np.ndarray]
    sizes: list[np.ndarray]
    value: float
    n: int
    rate: Callable[[np.ndarray], np.ndarray]  # (S, K) summed statistics -> (S,) scores
    signature: str
    cells: list[Cell | None]

    def draws(self, samples: int = SCORE_DRAWS, seed: int = BOOTSTRAP_SEED) -> np.ndarray:
        """Mean corpus score of the groups, (samples,), clusters and seeds drawn anew."""
        draws = cluster_draws(len(self.names), samples, seed)
        scores = np.array([self.rate(draws @ sums) for sums in self.sums])
        drawn = np.array([(draws @ sizes)[:, 0] > 0 for sizes in self.sizes])
        weights = drawn * seed_draws(self.cells, samples, seed)
        return np.asarray((scores * weights).sum(axis=0) / weights.sum(axis=0))


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
        rate=partial(corpus_scores, metric=metric),
        signature="+".join(sorted({s.signature for s in statistics})),
        cells=[g.cell for g in groups],
    )


def _ratio_pool(groups: Sequence[Tallies]) -> _Pool:
    if not groups:
        raise UsageError("no groups to compare")
    clusters = [cluster_names(list(g.values), g.clusters) for g in groups]
    names = sorted({c for of_group in clusters for c in of_group})
    values = [np.array(list(g.values.values()), dtype=float) for g in groups]
    scale = groups[0].scale

    def rate(totals: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):  # no segment of the group was drawn: `_Pool.draws` leaves it out
            return np.asarray(np.nan_to_num(scale * totals[:, 0] / totals[:, 1]))

    return _Pool(
        names=names,
        sums=[cluster_sums(v, c, names) for v, c in zip(values, clusters, strict=True)],
        sizes=[cluster_sums(np.ones((len(v), 1)), c, names) for v, c in zip(values, clusters, strict=True)],
        value=float(np.mean([scale * v[:, 0].sum() / v[:, 1].sum() for v in values])),
        n=sum(len(v) for v in values),
        rate=rate,
        signature="+".join(sorted({g.signature for g in groups})),
        cells=[g.cell for g in groups],
    )


def _score(pool: _Pool) -> Score:
    interval = (
        percentile_interval(pool.draws()) if len(pool.names) > 1 else None
    )  # one cluster tells nothing of the spread
    signature = f"{pool.signature}|groups:{len(pool.sums)}|{bootstrap_signature(len(pool.names), pool.cells)}"
    return Score(pool.value, interval, pool.n, signature)


def _difference(after: _Pool, before: _Pool) -> Difference:
    differences = after.draws() - before.draws()
    signature = (
        f"{after.signature}|difference:after-before|groups:{len(after.sums)}|"
        f"{bootstrap_signature(len(after.names), after.cells)}|randomisation:{RANDOMISATION_TRIALS}"
    )
    score = Score(after.value - before.value, percentile_interval(differences), after.n, signature)
    p_bootstrap = _bootstrap_p(differences) if len(after.names) > 1 else 1.0  # one cluster shows nothing
    return Difference(score, p_bootstrap, _randomisation_p(after, before), differences)


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
        difference += after.rate(of_after.sum(axis=0) + moved)
        difference -= after.rate(of_before.sum(axis=0) - moved)
    found, *trials = np.abs(difference)
    return float(((np.array(trials) >= found - _TIE * len(after.sums)).sum() + 1) / (len(trials) + 1))
