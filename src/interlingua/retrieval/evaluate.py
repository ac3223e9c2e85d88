"""Retrieval evaluation: R@1, R@5, R@10 and MRR of ordered language pairs, with bootstrap intervals.

A query's answer is every candidate that shares its meaning (all recordings of a sentence are positives).
The rank is that of the best answer, counted pessimistically: a wrong candidate with an equal score stands
before it, so that a constant score earns nothing. A query without frames or without an answer in the
gallery stays in the mean with rank infinity.

Intervals are percentile bootstrap intervals over near-duplicate clusters: whole clusters are drawn with
replacement, since prompts that differ in one word don't fail independently.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from interlingua.resampling import CI_LEVEL, RETRIEVAL_DRAWS, cluster_draws, draws_signature, percentile_interval
from interlingua.types import Matrix

CUTOFFS = (1, 5, 10)

Ranks = Float[np.ndarray, "N"]


@dataclass(frozen=True)
class Items:
    """The identity of N utterances, apart from their scores.

    ``clusters`` defaults to the meanings: every meaning is a cluster of its own.
    """

    ids: Sequence[str]
    meanings: Sequence[str]
    clusters: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        if not self.clusters:
            object.__setattr__(self, "clusters", self.meanings)
        if not len(self.ids) == len(self.meanings) == len(self.clusters):
            raise ValueError("ids, meanings and clusters must be equally long")

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class RetrievalResult:
    """Recall and MRR of one ordered pair, each in 0-1, with what chance would reach.

    ``r1_cluster`` also counts a near-duplicate of the answer as right; ``chance_cluster`` is its chance.
    ``ranks`` keeps every query's rank.
    """

    n: int
    n_candidates: int
    n_clusters: int
    r1: float
    r1_ci: tuple[float, float]
    r5: float
    r10: float
    mrr: float
    mrr_ci: tuple[float, float]
    r1_cluster: float
    chance_cluster: float
    chance: float
    chance_r5: float
    chance_r10: float
    signature: str
    ranks: Ranks = field(repr=False, compare=False)


def evaluate_scores(scores: Matrix, queries: Items, candidates: Items) -> RetrievalResult:
    """Evaluate an (N, M) score matrix of N queries against M candidates; NaN is a score that can't win.

    Raises:
        ValueError: the matrix doesn't fit the items, or there are no queries or candidates.
    """
    if scores.shape != (len(queries), len(candidates)):
        raise ValueError(f"scores are {scores.shape}, the items are ({len(queries)}, {len(candidates)})")
    if not scores.size:
        raise ValueError("retrieval needs at least one query and one candidate")
    relevant = np.asarray(queries.meanings)[:, None] == np.asarray(candidates.meanings)[None, :]
    mates = relevant | (np.asarray(queries.clusters)[:, None] == np.asarray(candidates.clusters)[None, :])
    ranks = ranks_of_best_answer(scores, relevant)
    reciprocal = 1 / ranks
    hits = (ranks <= 1).astype(float)
    n_relevant = relevant.sum(axis=1)
    r1_ci, mrr_ci = bootstrap_means([hits, reciprocal], queries.clusters)
    return RetrievalResult(
        n=len(queries),
        n_candidates=len(candidates),
        n_clusters=len(set(queries.clusters)),
        r1=float(hits.mean()),
        r1_ci=r1_ci,
        r5=float((ranks <= 5).mean()),
        r10=float((ranks <= 10).mean()),
        mrr=float(reciprocal.mean()),
        mrr_ci=mrr_ci,
        r1_cluster=float((ranks_of_best_answer(scores, mates) <= 1).mean()),
        chance_cluster=_chance(mates.sum(axis=1), len(candidates), 1),
        chance=_chance(n_relevant, len(candidates), 1),
        chance_r5=_chance(n_relevant, len(candidates), 5),
        chance_r10=_chance(n_relevant, len(candidates), 10),
        signature=(
            "positives:all-recordings|ties:pessimistic|bootstrap:clusters|"
            f"{draws_signature(RETRIEVAL_DRAWS)}|ci:{CI_LEVEL}"
        ),
        ranks=ranks,
    )


def ranks_of_best_answer(scores: Matrix, relevant: np.ndarray) -> Ranks:
    """Rank (1 = first) of each query's best relevant candidate; infinity where there is none.

    Args:
        scores: (N, M), higher is better.
        relevant: (N, M) booleans.
    """
    scores = np.where(np.isnan(scores), -np.inf, scores)
    best = np.where(relevant, scores, -np.inf).max(axis=1)
    before = ((scores >= best[:, None]) & ~relevant).sum(axis=1)
    return np.where(np.isneginf(best), np.inf, before + 1.0)


def bootstrap_means(values: Sequence[np.ndarray], clusters: Sequence[str]) -> list[tuple[float, float]]:
    """95% percentile intervals of the means of several per-query values, whole clusters resampled.

    The same draws serve every array of values, so that intervals of one call are comparable.
    """
    _, member = np.unique(np.asarray(clusters), return_inverse=True)
    n_clusters = int(member.max()) + 1
    sizes = np.bincount(member, minlength=n_clusters).astype(float)
    draws = cluster_draws(n_clusters, RETRIEVAL_DRAWS)
    sums = [np.bincount(member, weights=v, minlength=n_clusters) for v in values]
    return [percentile_interval((draws @ s) / (draws @ sizes)) for s in sums]


def _chance(n_relevant: np.ndarray, n_candidates: int, k: int) -> float:
    """Expected R@k of a random ranking: 1 - the chance that k draws without replacement miss every answer."""
    k = min(k, n_candidates)
    misses = np.ones(len(n_relevant))
    for drawn in range(k):
        misses *= np.clip(n_candidates - n_relevant - drawn, 0, None) / (n_candidates - drawn)
    return float((1 - misses).mean())
