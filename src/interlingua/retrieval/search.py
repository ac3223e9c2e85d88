"""Coarse-to-fine search: frames pooled along time choose candidates, exact SeqSim ranks them.

Pooling by p on both sides makes SeqSim p^2 times cheaper. Coarse passes keep the best ``keep`` candidates of each
query, so that the exact pass doesn't grow with the gallery. `agreement` measures the loss (docs/search.md).
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from jaxtyping import Float32, Int

from interlingua.encoding import pool_frames
from interlingua.encoding.store import FrameStore
from interlingua.errors import UsageError
from interlingua.retrieval.features import LEAST_UTTERANCES, fit_transform, with_position
from interlingua.retrieval.hubness import CORRECTIONS, neighbourhood
from interlingua.retrieval.methods import DEFAULT_METHOD, METHODS, Method
from interlingua.retrieval.seqsim import Packed, SimilarityCompute, pack, seqsim
from interlingua.types import FrameArray, Matrix


@dataclass(frozen=True)
class Stage:
    """One coarse pass: frames pooled by ``pooling`` choose the best ``keep`` candidates of each query."""

    pooling: int
    keep: int

    @classmethod
    def parse(cls, text: str) -> "Stage":
        """Read ``pooling:keep``; raises UsageError for anything else, or too small a number."""
        match = re.fullmatch(r"(\d+):(\d+)", text)
        if not match or int(match[1]) < 2 or int(match[2]) < 1:
            raise UsageError(f"--coarse {text!r}: use pooling:keep, such as 8:300, with 2 or more and 1 or more")
        return cls(int(match[1]), int(match[2]))


STAGES = (Stage(8, 300), Stage(4, 60))
"""The default: all but 0.6% of the ten best of the exhaustive ranking, ten times as fast at 5,160 (docs/search.md)."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """The best candidates of each query, best first, by their position in the gallery, with exact scores."""

    candidates: Int[np.ndarray, "N k"]
    scores: Float32[np.ndarray, "N k"]

    def first(self, n: int) -> "Ranking":
        """The ranking of the first n queries."""
        return Ranking(self.candidates[:n], self.scores[:n])


class Gallery:
    """Candidate utterances, ready to be searched by a SeqSim method.

    Frames are unpooled, (T, D) each; whitening is estimated on them. Stages run coarsest first, each over what the one
    before kept; none means exhaustive search.

    Raises:
        ValueError: no candidates.
        UsageError: stages that don't get finer, or a method that compares more than frames by SeqSim.
    """

    def __init__(
        self,
        frames: Sequence[FrameArray],
        method: Method | None = None,
        *,
        stages: Sequence[Stage] = STAGES,
        compute: SimilarityCompute = "float32",
        device: str = "cpu",
    ) -> None:
        poolings = [stage.pooling for stage in stages]
        if poolings != sorted(set(poolings), reverse=True) or any(p <= 1 for p in poolings):
            raise UsageError(f"--coarse pools by {poolings}; name the coarsest pass first, each by more than 1")
        self._method = method or METHODS[DEFAULT_METHOD]
        if self._method.score != "seqsim" or self._method.weights != "equal" or self._method.duration > 0:
            raise UsageError(f"--method {self._method.label}: a gallery is searched by SeqSim of whole frames alone")
        self._stages = stages
        self._compute: SimilarityCompute = compute
        self._device = device
        self._packed = self._pack(frames, frames, {1, *poolings})

    def __len__(self) -> int:
        return len(self._packed[1])

    def search(
        self,
        queries: Sequence[FrameArray],
        top: int = 10,
        *,
        background: Sequence[FrameArray] | None = None,
        advance: Callable[[int], None] | None = None,
    ) -> Ranking:
        """The ``top`` best candidates of each query, (T, D) unpooled; equal scores go to the earlier candidate.

        ``background`` is unlabelled utterances in the queries' language, by default the queries themselves. A
        candidate's neighbourhood (against hubs) is taken among these, pooled as in the first pass, a query's among the
        pass's candidates. ``advance`` is called with the number of queries done.
        """
        if not queries:
            return Ranking(np.zeros((0, top), dtype=np.int64), np.zeros((0, top), dtype=np.float32))
        top = min(top, len(self))
        poolings = [stage.pooling for stage in self._stages] + [1]
        known = queries if background is None else background
        sides = self._pack(queries, known, set(poolings))
        keeps = [max(top, stage.keep) for stage in self._stages] + [top]
        scores = self._score(sides[poolings[0]], self._packed[poolings[0]])
        around = None
        if self._method.hubness != "none":
            packed = self._pack(known, known, {poolings[0]})[poolings[0]] if background is not None else None
            to_candidates = scores if packed is None else self._score(packed, self._packed[poolings[0]])
            around = neighbourhood(to_candidates.T, self._method.neighbours)
        scores = self._corrected(scores, around)
        chosen = _best(scores, keeps[0])
        rows, exact = np.empty((len(queries), top), dtype=np.int64), np.empty((len(queries), top), dtype=np.float32)
        for n in range(len(queries)):
            kept, kept_scores = chosen[n], scores[n, chosen[n]]
            for p, keep in zip(poolings[1:], keeps[1:], strict=True):
                kept = np.sort(kept)  # in the gallery's order, so that ties go to the earlier one
                found = self._score(sides[p].take([n]), self._packed[p].take(kept))
                kept_scores = self._corrected(found, around if around is None else around[kept])[0]
                best = _best(kept_scores[None], keep)[0]
                kept, kept_scores = kept[best], kept_scores[best]
            rows[n], exact[n] = kept, kept_scores
            if advance:
                advance(1)
        return Ranking(rows, exact)

    def _score(self, queries: Packed, candidates: Packed) -> Matrix:
        return seqsim(queries, candidates, reduction=self._method.reduction)

    def _corrected(self, scores: Matrix, around: Float32[np.ndarray, "M"] | None) -> Matrix:
        """Scores less the hubs', given each candidate's neighbourhood."""
        if around is None:
            return scores
        return CORRECTIONS[self._method.hubness](scores, neighbourhood(scores, self._method.neighbours), around)

    def _pack(
        self, frames: Sequence[FrameArray], background: Sequence[FrameArray], poolings: Iterable[int]
    ) -> dict[int, Packed]:
        """Utterances as the method compares them, at each pooling; transforms are estimated on the background."""
        method = self._method
        moved = [f.astype(np.float32) for f in frames]
        if method.frames != "plain":
            finite = [f for f in background if np.isfinite(f).all()]
            transform = fit_transform(finite, method.frames, method.shrinkage)
            moved = [transform(f) for f in moved]
        packed = {}
        for p in poolings:
            pooled = [pool_frames(f, p) for f in moved]
            if method.position > 0:
                pooled = [with_position(f, method.position) for f in pooled]
            packed[p] = pack(pooled, compute=self._compute, device=self._device)
        return packed


class Found(msgspec.Struct, frozen=True):
    """A candidate that a query found, by their ids in the stores; the best has rank 1."""

    query: str
    rank: int
    candidate: str
    score: float


def search_stores(
    queries: FrameStore,
    gallery: FrameStore,
    method: Method,
    *,
    top: int = 10,
    background: FrameStore | None = None,
    stages: Sequence[Stage] = STAGES,
    compute: SimilarityCompute = "float32",
    device: str = "cpu",
    check: int = 0,
    advance: Callable[[int], None] | None = None,
) -> tuple[list[Found], float | None]:
    """Search one store of unpooled frames with the utterances of another; see `Gallery` for the other arguments.

    Returns each query's candidates, best first, and the `agreement` with an exhaustive search of the first ``check``
    queries (None for 0).

    Raises:
        StoreMismatchError: frames of different kinds.
        UsageError: an empty store, or too few utterances to estimate on.
    """
    unlabelled = queries if background is None else background
    for store in (gallery, unlabelled):
        store.require(queries.spec, queries.dim)
    for store in (queries, gallery):
        if not len(store):
            raise UsageError(f"{store.path}: the store is empty; run `interlingua encode`")
    for store in (unlabelled, gallery) if method.estimates else ():
        if len(store) < LEAST_UTTERANCES:
            raise UsageError(
                f"{store.path}: {len(store)} utterances are too few to estimate on, {LEAST_UTTERANCES} are needed; "
                "use --method seqsim, or --background for the queries"
            )
    (names, frames), (ids, candidates) = (([f.id for f in s], [f.speech for f in s]) for s in ([*queries], [*gallery]))
    known = None if background is None else [f.speech for f in background]
    index = Gallery(candidates, method, stages=stages, compute=compute, device=device)
    ranking = index.search(frames, top, background=known, advance=advance)
    found = [
        Found(name, rank, ids[position], float(score))
        for name, positions, scores in zip(names, ranking.candidates, ranking.scores, strict=True)
        for rank, (position, score) in enumerate(zip(positions, scores, strict=True), 1)
    ]
    if not check:
        return found, None
    some = frames[:check]
    whole = Gallery(candidates, method, stages=(), compute=compute, device=device)
    return found, agreement(ranking.first(len(some)), whole.search(some, top, background=known or frames))


def agreement(found: Ranking, exhaustive: Ranking) -> float:
    """Proportion of the exhaustive ranking's candidates that ``found`` holds, too, mean over queries (recall@k).

    Raises ValueError if the rankings are not equally long, or hold no query.
    """
    if found.candidates.shape != exhaustive.candidates.shape or not found.candidates.size:
        raise ValueError(f"rankings of {found.candidates.shape} and {exhaustive.candidates.shape} don't compare")
    held = [np.isin(e, f).mean() for f, e in zip(found.candidates, exhaustive.candidates, strict=True)]
    return float(np.mean(held))


def _best(scores: Matrix, k: int) -> Int[np.ndarray, "N k"]:
    """Columns of the k highest scores of each row, best first; NaN comes last, ties in the columns' order."""
    return np.argsort(-np.nan_to_num(scores, nan=-np.inf), axis=1, kind="stable")[:, :k]
