"""Coarse-to-fine search: frames pooled along time choose candidates, exact SeqSim ranks them.

Pooling by p on both sides makes SeqSim p^2 times cheaper. A coarse pass over the whole gallery keeps the best
``keep`` candidates of each query, and only those are scored unpooled, so that the cost of the exact pass no longer
grows with the gallery. What that loses is measured against the exhaustive ranking (`agreement`, docs/search.md).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int

from interlingua.encoding import pool_frames
from interlingua.errors import UsageError
from interlingua.retrieval.seqsim import Packed, Reduction, SimilarityCompute, pack, seqsim
from interlingua.types import FrameArray, Matrix


@dataclass(frozen=True)
class Stage:
    """One coarse pass: frames pooled by ``pooling`` choose the best ``keep`` candidates of each query."""

    pooling: int
    keep: int

    @classmethod
    def parse(cls, text: str) -> "Stage":
        """Read ``pooling:keep``.

        Raises:
            UsageError: it is not that, or a number is too small.
        """
        match = re.fullmatch(r"(\d+):(\d+)", text)
        if not match or int(match[1]) < 2 or int(match[2]) < 1:
            raise UsageError(f"--coarse {text!r}: use pooling:keep, such as 8:300, with 2 or more and 1 or more")
        return cls(int(match[1]), int(match[2]))


STAGES = (Stage(8, 300), Stage(4, 60))
"""The default: all but 0.6% of the ten best of the exhaustive ranking, ten times as fast at 5,160 (docs/search.md)."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """The best candidates of each query, best first, by their place in the gallery, with exact scores."""

    candidates: Int[np.ndarray, "N k"]
    scores: Float32[np.ndarray, "N k"]

    def first(self, n: int) -> "Ranking":
        """That of the first n queries."""
        return Ranking(self.candidates[:n], self.scores[:n])


class Gallery:
    """Candidate utterances, ready to be searched.

    Args:
        frames: (T, D) unpooled frames of each candidate.
        stages: coarse passes, coarsest first, each over what the one before kept; none means exhaustive search.
        compute: number format of the products.
        reduction: how SeqSim combines both directions.
        device: where to multiply.

    Raises:
        ValueError: no candidates.
        UsageError: stages that don't get finer.
    """

    def __init__(
        self,
        frames: Sequence[FrameArray],
        *,
        stages: Sequence[Stage] = STAGES,
        compute: SimilarityCompute = "float32",
        reduction: Reduction = "f1",
        device: str = "cpu",
    ) -> None:
        poolings = [stage.pooling for stage in stages]
        if poolings != sorted(set(poolings), reverse=True) or any(p <= 1 for p in poolings):
            raise UsageError(f"--coarse pools by {poolings}; name the coarsest pass first, each by more than 1")
        self._stages = stages
        self._compute: SimilarityCompute = compute
        self._reduction: Reduction = reduction
        self._device = device
        self._packed = {p: self._pack(frames, p) for p in {1, *poolings}}

    def __len__(self) -> int:
        return len(self._packed[1])

    def search(
        self, queries: Sequence[FrameArray], top: int = 10, *, advance: Callable[[int], None] | None = None
    ) -> Ranking:
        """The ``top`` best candidates of each query, (T, D) unpooled frames each.

        Equal scores go to the earlier candidate. ``advance`` is called with the number of queries done.
        """
        if not queries:
            return Ranking(np.zeros((0, top), dtype=np.int64), np.zeros((0, top), dtype=np.float32))
        top = min(top, len(self))
        poolings = [stage.pooling for stage in self._stages] + [1]
        sides = {p: self._pack(queries, p) for p in set(poolings)}
        keeps = [max(top, stage.keep) for stage in self._stages] + [top]
        scores = self._score(sides[poolings[0]], self._packed[poolings[0]])
        chosen = _best(scores, keeps[0])
        rows, exact = np.empty((len(queries), top), dtype=np.int64), np.empty((len(queries), top), dtype=np.float32)
        for n in range(len(queries)):
            mine, mine_scores = chosen[n], scores[n, chosen[n]]
            for p, keep in zip(poolings[1:], keeps[1:], strict=True):
                mine = np.sort(mine)  # in the gallery's order, so that ties go to the earlier one
                mine_scores = self._score(sides[p].take([n]), self._packed[p].take(mine))[0]
                best = _best(mine_scores[None], keep)[0]
                mine, mine_scores = mine[best], mine_scores[best]
            rows[n], exact[n] = mine, mine_scores
            if advance:
                advance(1)
        return Ranking(rows, exact)

    def _score(self, queries: Packed, candidates: Packed) -> Matrix:
        return seqsim(queries, candidates, reduction=self._reduction)

    def _pack(self, frames: Sequence[FrameArray], pooling: int) -> Packed:
        pooled = [pool_frames(f.astype(np.float32), pooling) for f in frames]
        return pack(pooled, compute=self._compute, device=self._device)


def agreement(found: Ranking, exhaustive: Ranking) -> float:
    """Share of the exhaustive ranking's candidates that ``found`` holds, too, mean over queries (recall@k).

    Raises:
        ValueError: the rankings are not equally long, or hold no query.
    """
    if found.candidates.shape != exhaustive.candidates.shape or not found.candidates.size:
        raise ValueError(f"rankings of {found.candidates.shape} and {exhaustive.candidates.shape} don't compare")
    held = [np.isin(e, f).mean() for f, e in zip(found.candidates, exhaustive.candidates, strict=True)]
    return float(np.mean(held))


def _best(scores: Matrix, k: int) -> Int[np.ndarray, "N k"]:
    """Columns of the k highest scores of each row, best first; NaN comes last, ties in the columns' order."""
    return np.argsort(-np.nan_to_num(scores, nan=-np.inf), axis=1, kind="stable")[:, :k]
