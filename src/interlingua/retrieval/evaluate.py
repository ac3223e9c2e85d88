"""Retrieval evaluation: scores of all utterances of two languages under a method, and their R@1, R@5, R@10 and MRR.

**Scores.** A method that estimates on unlabelled audio (means, whitening, neighbourhoods, rarity) is evaluated in three
folds of near-duplicate clusters. A fold's queries are scored with estimates from the other two, one for each language,
so that nothing is estimated on parallel speech. A trained head, which has seen parallel speech anyway, is evaluated
with estimates on all clusters outside the fold. The whole gallery is always searched.

**Figures.** Every candidate with the query's meaning is a positive. The rank is that of the best one; ties (scores
within `TIE`) count against it, so that a constant score earns nothing, and equal recordings rank alike in any order. A
query without positives is skipped and counted, as trec_eval skips topics without relevant documents; one whose
positives, or which itself, have no frames is a miss.

Intervals are percentile bootstrap intervals over near-duplicate clusters, since prompts that differ in one word don't
fail independently.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32

from interlingua.errors import CorpusError, UsageError
from interlingua.resampling import CI_LEVEL, RETRIEVAL_DRAWS, cluster_draws, draws_signature, percentile_interval
from interlingua.retrieval.dtw import dtw_similarity
from interlingua.retrieval.features import (
    duration_similarity,
    fit_transform,
    log_durations,
    mean_pool_cosine,
    rarity_weights,
    with_position,
)
from interlingua.retrieval.head import Head
from interlingua.retrieval.hubness import CORRECTIONS, neighbourhood
from interlingua.retrieval.methods import Method
from interlingua.retrieval.seqsim import TIE, Packed, SimilarityCompute, pack, reduce_directions, seqsim_both
from interlingua.types import FrameArray, Matrix, Utterance

FOLDS = 3  # one to test, one to estimate each language on
FOLD_SEED = 12345
AROUND = 40  # utterances, at most, that a neighbourhood is taken from: docs/seqsim.md
LEAST_CLUSTERS = 10  # fewer leave too little to estimate on

Ranks = Float[np.ndarray, "N"]
Directions = tuple[Float32[np.ndarray, "_N _M"], Float32[np.ndarray, "_M _N"]]
"""Scores of language a's queries against b's candidates (N, M), and of b's queries against a's candidates (M, N)."""


@dataclass(frozen=True)
class Items:
    """The identity of N utterances, apart from their scores; without ``clusters`` every meaning is its own."""

    ids: Sequence[str]
    meanings: Sequence[str]
    clusters: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        if not self.clusters:
            object.__setattr__(self, "clusters", self.meanings)
        if not len(self.ids) == len(self.meanings) == len(self.clusters):
            raise ValueError("ids, meanings and clusters must be equally long")

    @classmethod
    def of(cls, utterances: Iterable[Utterance]) -> "Items":
        """The items of utterances with meanings."""
        rows = [(u.id, str(u.meaning), u.group) for u in utterances]
        return cls([i for i, _, _ in rows], [m for _, m, _ in rows], [c for _, _, c in rows])

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class RetrievalResult:
    """Recall and MRR of one ordered pair, each in 0-1, with the values of a random ranking.

    ``r1_cluster`` and ``chance_cluster`` also count near-duplicates of relevant candidates as right. ``n_unanswerable``
    queries have no relevant candidate and count nowhere. ``ranks`` covers every query: infinity for a miss, NaN for an
    unanswerable one.
    """

    n: int
    n_unanswerable: int
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


def relevance(queries: Items, candidates: Items) -> Bool[np.ndarray, "_N _M"]:
    """Relevant candidates of each query: those of the same meaning."""
    same: np.ndarray = np.asarray(queries.meanings)[:, None] == np.asarray(candidates.meanings)[None, :]
    return same


def evaluate_scores(scores: Matrix, queries: Items, candidates: Items) -> RetrievalResult:
    """Evaluate an (N, M) score matrix of N queries against M candidates; NaN is a score that can't win.

    Raises ValueError if the matrix doesn't fit the items, or no query has a relevant candidate.
    """
    if scores.shape != (len(queries), len(candidates)):
        raise ValueError(f"scores are {scores.shape}, the items are ({len(queries)}, {len(candidates)})")
    if not scores.size:
        raise ValueError("retrieval needs at least one query and one candidate")
    relevant = relevance(queries, candidates)
    answerable = relevant.any(axis=1)
    if not answerable.any():
        raise ValueError("no query has a relevant candidate")
    relevant, scores, clusters = relevant[answerable], scores[answerable], np.asarray(queries.clusters)[answerable]
    mates = relevant | (clusters[:, None] == np.asarray(candidates.clusters)[None, :])
    ranks = ranks_of_best_relevant(scores, relevant)
    reciprocal = 1 / ranks
    hits = (ranks <= 1).astype(float)
    n_relevant = relevant.sum(axis=1)
    r1_ci, mrr_ci = bootstrap_means([hits, reciprocal], clusters.tolist())
    all_ranks = np.full(len(queries), np.nan)
    all_ranks[answerable] = ranks
    return RetrievalResult(
        n=len(ranks),
        n_unanswerable=len(queries) - len(ranks),
        n_candidates=len(candidates),
        n_clusters=len(set(clusters)),
        r1=float(hits.mean()),
        r1_ci=r1_ci,
        r5=float((ranks <= 5).mean()),
        r10=float((ranks <= 10).mean()),
        mrr=float(reciprocal.mean()),
        mrr_ci=mrr_ci,
        r1_cluster=float((ranks_of_best_relevant(scores, mates) <= 1).mean()),
        chance_cluster=_chance(mates.sum(axis=1), len(candidates), 1),
        chance=_chance(n_relevant, len(candidates), 1),
        chance_r5=_chance(n_relevant, len(candidates), 5),
        chance_r10=_chance(n_relevant, len(candidates), 10),
        signature=(
            f"positives:all-recordings|unanswerable:skipped|ties:pessimistic:{TIE:g}|bootstrap:clusters|"
            f"{draws_signature(RETRIEVAL_DRAWS)}|ci:{CI_LEVEL}"
        ),
        ranks=all_ranks,
    )


def ranks_of_best_relevant(scores: Matrix, relevant: np.ndarray) -> Ranks:
    """Rank (1 = first) of each query's best relevant candidate, from scores and booleans (N, M); infinity if none.

    Every other candidate that scores as much, but for `TIE`, comes before it.
    """
    scores = np.where(np.isnan(scores), -np.inf, scores)
    best = np.where(relevant, scores, -np.inf).max(axis=1)
    before = ((scores >= best[:, None] - TIE) & ~relevant).sum(axis=1)
    return np.where(np.isneginf(best), np.inf, before + 1.0)


def bootstrap_means(values: Sequence[np.ndarray], clusters: Sequence[str]) -> list[tuple[float, float]]:
    """95% percentile intervals of the means of several per-query values, from the same draws of whole clusters."""
    _, member = np.unique(np.asarray(clusters), return_inverse=True)
    n_clusters = int(member.max()) + 1
    sizes = np.bincount(member, minlength=n_clusters).astype(float)
    draws = cluster_draws(n_clusters, RETRIEVAL_DRAWS)
    sums = [np.bincount(member, weights=v, minlength=n_clusters) for v in values]
    return [percentile_interval((draws @ s) / (draws @ sizes)) for s in sums]


def _chance(n_relevant: np.ndarray, n_candidates: int, k: int) -> float:
    """Expected R@k of a random ranking: 1 - the chance that k draws without replacement miss all relevant ones."""
    k = min(k, n_candidates)
    misses = np.ones(len(n_relevant))
    for drawn in range(k):
        misses *= np.clip(n_candidates - n_relevant - drawn, 0, None) / (n_candidates - drawn)
    return float((1 - misses).mean())


@dataclass(frozen=True, eq=False)
class Speech:
    """The utterances of one language, all with frames, (T, D) each; near-duplicate clusters span the languages."""

    frames: Sequence[FrameArray]
    seconds: Sequence[float]
    clusters: Sequence[str]

    @cached_property
    def log_seconds(self) -> np.ndarray:
        """Natural logarithm of the seconds; NaN where they aren't above 0."""
        return log_durations(self.seconds)

    @cached_property
    def finite(self) -> np.ndarray:
        """Whether all values of each utterance are finite: nothing is estimated on others."""
        return np.array([bool(np.isfinite(f).all()) for f in self.frames])


def fold_order(clusters: Sequence[str], seed: int = FOLD_SEED) -> dict[str, int]:
    """Each cluster's position in a random order; position p is in fold p % FOLDS."""
    names = sorted(set(clusters))
    return {names[c]: p for p, c in enumerate(np.random.default_rng(seed).permutation(len(names)))}


class Scorer:
    """Scores pairs of languages under one method other than the cascade, which reads texts.

    ``background`` limits a language's utterances to estimate on; None takes all. ``heads`` are those of a method that
    has one: one a fold. Raises CorpusError if the method estimates, and there are too few clusters
    to hold some out, and UsageError for a method whose head isn't given.
    """

    def __init__(
        self,
        speech: dict[str, Speech],
        method: Method,
        *,
        compute: SimilarityCompute = "float32",
        device: str = "cpu",
        background: int | None = None,
        heads: Sequence[Head] = (),
        seed: int = FOLD_SEED,
    ) -> None:
        self._speech, self._method, self._compute, self._device = speech, method, compute, device
        self._background, self._heads = background, heads if method.frames == "headed" else ()
        if method.frames == "headed" and not heads:
            raise UsageError(
                "--method head: there is none; train one with `interlingua index train`, or name it with --head"
            )
        self._folds = len(self._heads) or FOLDS
        clusters = sorted({c for side in speech.values() for c in side.clusters})
        if method.estimates and len(clusters) < LEAST_CLUSTERS:
            raise CorpusError(
                f"{len(clusters)} clusters of meanings are too few for a method that estimates on some and tests on "
                f"others; it takes {LEAST_CLUSTERS}: use --method seqsim"
            )
        self._order = fold_order(clusters, seed)

    def score(self, pairs: Sequence[tuple[str, str]], advance: Callable[[int], None] | None = None) -> list[Directions]:
        """Both directions of each pair (a, b) of languages; ``advance`` is called with 1 per pair and fold."""
        advance = advance or (lambda _: None)
        if not self._method.estimates:
            found = []
            for a, b in pairs:
                one, other = self._prepared(a), self._prepared(b)
                found.append(self._compared(one, other, one.everything, other.everything))
                advance(self._folds)
            return found
        sizes = [(len(self._speech[a].frames), len(self._speech[b].frames)) for a, b in pairs]
        scored = [(np.full((n, m), np.nan, np.float32), np.full((m, n), np.nan, np.float32)) for n, m in sizes]
        for fold in range(self._folds):
            first, second = self._estimated_on(fold)
            prepared: dict[tuple[str, int | None], _Prepared] = {}
            for (a, b), directions in zip(pairs, scored, strict=True):
                for language, estimated in ((a, first), (b, second)):
                    if (language, estimated) not in prepared:
                        prepared[language, estimated] = self._prepared(language, fold, estimated)
                one, other = prepared[a, first], prepared[b, second]
                scores = self._compared(one, other, one.rows, other.rows)
                for out, matrix, this, that in zip(directions, scores, (one, other), (other, one), strict=True):
                    out[this.tested] = self._corrected(matrix, this, that)
                advance(1)
        return scored

    def _estimated_on(self, fold: int) -> tuple[int | None, int | None]:
        """Folds that a and b of a pair are estimated on for the queries of ``fold``; None: on all others."""
        if self._heads:
            return None, None
        return (fold + 1) % FOLDS, (fold + 2) % FOLDS

    def _prepared(self, language: str, fold: int | None = None, estimated: int | None = None) -> "_Prepared":
        """Frames of a language as the method compares them for a fold's queries; see `_estimated_on`."""
        method, speech = self._method, self._speech[language]
        frames: list[FrameArray] = list(speech.frames)
        chosen = tested = np.arange(0)
        if fold is not None:
            order = np.array([self._order[c] for c in speech.clusters])
            folds = order % self._folds
            tested = np.flatnonzero(folds == fold)
            known = folds != fold if estimated is None else folds == estimated
            chosen = np.flatnonzero(known & speech.finite)
            chosen = chosen[np.argsort(order[chosen], kind="stable")][: self._background]
            if len(chosen) == 0:
                where = f"outside fold {fold + 1}" if estimated is None else f"in fold {estimated + 1}"
                raise CorpusError(
                    f"no utterances of {language} {where} of {self._folds} to estimate on: use --method seqsim"
                )
        if method.frames != "plain":
            transform = fit_transform([frames[i] for i in chosen], method.frames, method.shrinkage)
            if method.frames == "headed":
                transform = self._heads[fold or 0].after(transform)
            frames = [transform(f) for f in frames]
        around = chosen[:AROUND] if method.hubness != "none" else chosen[:0]
        rows = np.union1d(tested, around)
        if method.score != "seqsim":
            compared = speech.seconds if method.score == "duration" else frames
            return _Prepared(speech, chosen, around, tested, rows, compared)
        weights = None
        if method.weights == "rare":
            clusters = [speech.clusters[int(i)] for i in chosen]
            weights = rarity_weights(frames, [frames[i] for i in chosen], speech.clusters, clusters)
        if method.position > 0:
            frames = [with_position(f, method.position) for f in frames]
        packed = pack(frames, weights=weights, compute=self._compute, device=self._device)
        return _Prepared(speech, chosen, around, tested, rows, packed)

    def _compared(self, a: "_Prepared", b: "_Prepared", rows: np.ndarray, columns: np.ndarray) -> Directions:
        """Scores of ``rows`` of a against all of b, and of ``columns`` of b against all of a; others may be NaN."""
        score, n, m = self._method.score, len(a.everything), len(b.everything)
        forward, backward = np.full((n, m), np.nan, np.float32), np.full((m, n), np.nan, np.float32)
        if callable(score):
            forward[rows] = score(a.take(rows), b.compared)
            backward[columns] = score(b.take(columns), a.compared)
            return forward, backward
        others = np.setdiff1d(a.everything, rows)
        for some, them in ((rows, b.everything), (others, columns)):  # one comparison serves both directions
            if len(some) and len(them):
                there, back = self._similarity(a.take(some), b.take(them))
                forward[np.ix_(some, them)], backward[np.ix_(them, some)] = there, back
        return forward, backward

    def _similarity(self, a: Any, b: Any) -> Directions:
        if isinstance(a, Packed):
            precision, recall = seqsim_both(a, b)
            reduction = self._method.reduction
            return reduce_directions(precision, recall, reduction), reduce_directions(recall.T, precision.T, reduction)
        similarity: dict[str, Callable[[Any, Any], Matrix]] = {
            "dtw": dtw_similarity,
            "mean-pool": mean_pool_cosine,
            "duration": duration_similarity,
        }
        scores: Matrix = similarity[str(self._method.score)](a, b)
        return scores, scores.T

    def _corrected(
        self, scores: Matrix, queries: "_Prepared", candidates: "_Prepared"
    ) -> Float32[np.ndarray, "_tested M"]:
        """The tested queries' rows, corrected by the background's scores."""
        method = self._method
        tested: Float32[np.ndarray, "_tested M"] = scores[queries.tested]
        if method.hubness != "none":
            around_queries = neighbourhood(tested[:, candidates.around], method.neighbours)
            known = scores[queries.around].T.copy()
            clusters = np.asarray(queries.speech.clusters)[queries.around]
            translations = np.asarray(candidates.speech.clusters)[:, None] == clusters[None, :]
            known[translations] = np.nan  # a candidate's own would make it look like a hub
            around_candidates = neighbourhood(known, method.neighbours)
            usual = np.nanmean(around_candidates)  # of those whose cluster is all the background
            around_candidates = np.where(np.isnan(around_candidates), usual, around_candidates)
            tested = CORRECTIONS[method.hubness](tested, around_queries, around_candidates)
        if method.duration > 0:
            apart = queries.deviation[queries.tested, None] - candidates.deviation[None, :]
            off = np.nan_to_num(np.abs(apart))  # an unknown duration corrects nothing
            tested = (tested - method.duration * off).astype(np.float32)
        return tested


@dataclass(frozen=True, eq=False)
class _Prepared:
    """One language, ready to be compared.

    Estimates come from ``background``, neighbourhoods from ``around``, ``tested`` are the fold's queries, and ``rows``
    the utterances whose scores against all of another language are read; ``compared`` holds frames, seconds or a
    `Packed` of all.
    """

    speech: Speech
    background: np.ndarray
    around: np.ndarray
    tested: np.ndarray
    rows: np.ndarray
    compared: Any

    @property
    def everything(self) -> np.ndarray:
        return np.arange(len(self.speech.frames))

    def take(self, chosen: np.ndarray) -> Any:
        if len(chosen) == len(self.speech.frames):
            return self.compared
        return self.compared.take(chosen) if isinstance(self.compared, Packed) else [self.compared[i] for i in chosen]

    @cached_property
    def deviation(self) -> np.ndarray:
        """Log duration less the background's mean."""
        logs = self.speech.log_seconds
        known = logs[self.background]
        known = known[~np.isnan(known)]
        return np.asarray(logs - (known.mean() if len(known) else 0.0))
