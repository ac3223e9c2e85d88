"""SeqSim, fast: one matrix product serves both directions; nothing is padded, and memory is bounded by a tile.

Specified by `interlingua.similarity.reference`, which it equals to 1e-4 in float32.

The frames of many utterances are joined (`pack`), and the similarities are computed tile by tile: a tile holds
whole utterances on both sides and is small enough to stay in the processor's cache while the maxima of its rows
and of its columns are taken. So the matrix product, and not the memory, sets the pace (benchmarks/seqsim.py).
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float

from interlingua.similarity.fused import available, fused_both
from interlingua.types import FrameArray, Matrix

Reduction = Literal["precision", "recall", "mean", "f1"]
SimilarityCompute = Literal["float32", "bfloat16"]
Progress = Callable[[int], None]

TILE_ROWS = 1024  # query frames of a tile
TILE_BYTES = 1 << 22  # of a tile's similarities: they stay in cache
SHORT_FRAMES = 120  # a tile whose candidates are shorter on average is turned before its rows' maxima are taken
LONG_FRAMES = 8192  # utterances longer than this (164 s unpooled) are cut, so that no tile outgrows memory
TOLERANCES: dict[SimilarityCompute, float] = {"float32": 1e-4, "bfloat16": 1e-2}  # of the fused kernel's scores
_log = logging.getLogger(__name__)
_ALIGNED = 16  # columns: matrix products write aligned rows faster


@dataclass(frozen=True, eq=False)
class Packed:
    """Unit frames of several utterances, one behind the other.

    Attributes:
        frames: (sum of lengths, D), each row divided by its length; an all-zero row stays zero.
        lengths: frames of each utterance.
        weights: (sum of lengths,) share of each frame in its utterance's mean; they sum to 1 in each utterance.
        finite: (utterances,) whether all values are finite; utterances with others score NaN.
        weighted: whether the weights were given; otherwise all frames of an utterance count alike.
    """

    frames: torch.Tensor
    lengths: list[int]
    weights: torch.Tensor
    finite: torch.Tensor
    weighted: bool = False

    def __len__(self) -> int:
        return len(self.lengths)

    def utterances(self) -> tuple[torch.Tensor, ...]:
        """Views of each utterance's frames."""
        return torch.split(self.frames, self.lengths)

    def take(self, chosen: Sequence[int] | np.ndarray) -> "Packed":
        """A copy of some of the utterances."""
        ends = np.cumsum([0, *self.lengths])
        parts = [slice(ends[i], ends[i + 1]) for i in chosen]
        frames, weights = (torch.cat([x[part] for part in parts]) for x in (self.frames, self.weights))
        finite = self.finite[torch.as_tensor(chosen)]
        return Packed(frames, [self.lengths[i] for i in chosen], weights, finite, self.weighted)


def pack(
    utterances: Sequence[FrameArray | torch.Tensor],
    *,
    weights: Sequence[np.ndarray] | None = None,
    compute: SimilarityCompute = "float32",
    device: str = "cpu",
) -> Packed:
    """Normalise the rows of each (T, D) utterance in float32, and join them in the number format of the product.

    Args:
        utterances: (T, D) each.
        weights: (T,) each, of no set scale: how much a frame counts in the means; None counts all alike.
        compute: number format of the product.
        device: where to keep them.

    Raises:
        ValueError: no utterances, one without frames, frames of different widths, or weights that don't fit.
    """
    if not utterances:
        raise ValueError("there are no utterances to pack")
    total, width = sum(map(len, utterances)), utterances[0].shape[-1]
    frames = torch.empty(total, width, dtype=getattr(torch, compute), device=device)
    shares = torch.empty(total, device=device)
    finite, start = [], 0
    for i, utterance in enumerate(utterances):
        if utterance.ndim != 2 or len(utterance) == 0:
            raise ValueError(f"an utterance's frames are (T, D) with T >= 1, not {tuple(utterance.shape)}")
        if utterance.shape[1] != width:
            raise ValueError(f"frames are {width} and {utterance.shape[1]} wide; they must be equally wide")
        if not isinstance(utterance, torch.Tensor):
            utterance = torch.from_numpy(np.array(utterance, dtype=np.float32))  # stored arrays are read-only
        rows = utterance.to(device=device, dtype=torch.float32)
        norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        finite.append(bool(torch.isfinite(norms).all()))
        here = slice(start, start + len(rows))
        frames[here] = rows / torch.where(norms > 0, norms, 1) if finite[-1] else 0
        shares[here] = 1 / len(rows) if weights is None else _shares(weights[i], len(rows))
        start += len(rows)
    lengths, known = [len(u) for u in utterances], torch.tensor(finite, device=device)
    return Packed(frames, lengths, shares, known, weights is not None)


def _shares(weights: np.ndarray, n: int) -> torch.Tensor:
    total = float(weights.sum())
    if len(weights) != n or not total > 0:
        raise ValueError(f"{len(weights)} weights that sum to {total} don't fit {n} frames")
    return torch.from_numpy(np.asarray(weights / total, dtype=np.float32))


def seqsim(
    queries: Sequence[FrameArray | torch.Tensor] | Packed,
    candidates: Sequence[FrameArray | torch.Tensor] | Packed,
    *,
    reduction: Reduction = "f1",
    compute: SimilarityCompute = "float32",
    device: str = "cpu",
    advance: Progress | None = None,
) -> Matrix:
    """Score N query utterances against M candidates, lists of (T, D) of any lengths, -> (N, M) float32.

    Args:
        queries: frames of each query; rows need not be normalised. What is packed already stays as it is.
        candidates: frames of each candidate.
        reduction: ``precision``, ``recall``, ``mean`` or ``f1`` (see `reference`).
        compute: number format of the matrix product. float32 equals the reference to 1e-4; bfloat16 is two to
            three times faster where the processor has it, and ranks alike (docs/speed.md).
        device: where to multiply.
        advance: called with the number of queries done since the last call (progress).

    Raises:
        ValueError: an utterance without frames, or frames of different widths.

    >>> import numpy as np
    >>> a, b = np.eye(3, dtype=np.float32), -np.eye(3, dtype=np.float32)
    >>> seqsim([a], [a, b]).round(2).tolist()
    [[1.0, 0.0]]
    """
    precision, recall = seqsim_both(queries, candidates, compute=compute, device=device, advance=advance)
    return reduce_directions(precision, recall, reduction)


def reduce_directions(precision: Matrix, recall: Matrix, reduction: Reduction) -> Matrix:
    """Combine both directions elementwise; see `reference` for the formulas.

    Raises:
        ValueError: an unknown reduction.
    """
    if reduction == "precision":
        return precision
    if reduction == "recall":
        return recall
    total = precision + recall
    if reduction == "mean":
        mean: Matrix = total / 2
        return mean
    if reduction == "f1":
        safe = np.where(total > 0, total, 1)
        f1 = np.where(total > 0, 2 * precision * recall / safe, 0)
        return np.where(np.isnan(total), np.nan, f1).astype(np.float32)  # a score that can't be computed can't win
    raise ValueError(f"unknown reduction {reduction!r}: use precision, recall, mean or f1")


def seqsim_both(
    queries: Sequence[FrameArray | torch.Tensor] | Packed,
    candidates: Sequence[FrameArray | torch.Tensor] | Packed,
    *,
    compute: SimilarityCompute = "float32",
    device: str = "cpu",
    advance: Progress | None = None,
) -> tuple[Matrix, Matrix]:
    """Both directions at once: (precision, recall), each (N, M) float32; arguments as in `seqsim`."""
    if len(queries) == 0 or len(candidates) == 0:
        empty = np.zeros((len(queries), len(candidates)), dtype=np.float32)
        return empty, empty.copy()
    q = queries if isinstance(queries, Packed) else pack(queries, compute=compute, device=device)
    c = candidates if isinstance(candidates, Packed) else pack(candidates, compute=compute, device=device)
    if q.frames.shape[1] != c.frames.shape[1]:
        raise ValueError(f"frames are {q.frames.shape[1]} and {c.frames.shape[1]} wide; they must be equally wide")
    if (q.frames.dtype, q.frames.device) != (c.frames.dtype, c.frames.device):
        raise ValueError(
            f"one side is packed as {q.frames.dtype} on {q.frames.device}, the other differs; pack them alike"
        )
    if q.frames.is_cuda and not (q.weighted or c.weighted) and _fused_agrees():
        precision, recall = fused_both(q.frames, q.lengths, c.frames, c.lengths)
        if advance:
            advance(len(q))
    else:
        precision, recall = _by_tiles(q, c, advance)
    for scores in (precision, recall):
        scores[~q.finite] = torch.nan
        scores[:, ~c.finite] = torch.nan
    return precision.cpu().numpy(), recall.cpu().numpy()


def alignment_matrix(query: FrameArray, candidate: FrameArray) -> Float[np.ndarray, "n m"]:
    """Cosine similarity of every query frame with every candidate frame, (n, D), (m, D) -> (n, m)."""
    return (pack([query]).frames @ pack([candidate]).frames.T).numpy()


@cache
def _fused_agrees() -> bool:
    """Whether the fused kernel works on this GPU; it is compared with the tiles before it is trusted."""
    if not available():
        return False
    sides = [[torch.randn(n, 64, device="cuda") for n in lengths] for lengths in ((3, 150, 40), (1, 200))]
    try:
        for compute, tolerance in TOLERANCES.items():
            q, c = (pack(side, compute=compute, device="cuda") for side in sides)
            found, expected = fused_both(q.frames, q.lengths, c.frames, c.lengths), _by_tiles(q, c, None)
            if not all(torch.allclose(x, y, atol=tolerance) for x, y in zip(found, expected, strict=True)):
                raise ValueError("its scores differ")
    except Exception as e:  # compilers and drivers fail in ways of their own; the tiles always work
        _log.warning("the fused SeqSim kernel is not used on this GPU: %s", e)
        return False
    return True


def _by_tiles(q: Packed, c: Packed, advance: Progress | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Precision and recall, tile by tile."""
    precision = torch.empty(len(q), len(c), device=q.frames.device)
    recall = torch.empty_like(precision)
    columns = TILE_BYTES // TILE_ROWS // q.frames.element_size()
    column_tiles = list(_tiles(c, columns))
    buffer = _buffer(q, c, columns)
    for rows in _tiles(q, TILE_ROWS):
        for cols in column_tiles:
            where = (slice(rows.first, rows.last), slice(cols.first, cols.last))
            if max(len(rows.frames), len(cols.frames)) > LONG_FRAMES:
                precision[where], recall[where] = _by_pair(rows, cols)
            else:
                out = _room(buffer, len(rows.frames), len(cols.frames))
                precision[where], recall[where] = _tile(rows, cols, out)
        if advance:
            advance(rows.last - rows.first)
    return precision, recall


@dataclass(frozen=True, eq=False)
class _Side:
    """One side of a tile: utterances ``first`` to ``last`` (not included) of a `Packed`."""

    first: int
    last: int
    frames: torch.Tensor
    lengths: list[int]
    weights: torch.Tensor  # (frames, utterances): times a value of each frame gives each utterance's mean

    def utterances(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Frames and weights of each utterance."""
        start = 0
        for i, n in enumerate(self.lengths):
            yield self.frames[start : start + n], self.weights[start : start + n, i]
            start += n


def _tiles(packed: Packed, limit: int) -> Iterator[_Side]:
    """Whole utterances, as many as have ``limit`` frames together; a longer one stands alone."""
    first = begin = 0
    for last in range(1, len(packed) + 1):
        n = sum(packed.lengths[first:last])
        if last == len(packed) or n + packed.lengths[last] > limit:
            here, lengths = slice(begin, begin + n), packed.lengths[first:last]
            weights = torch.zeros(n, last - first, device=packed.frames.device)
            owner = torch.repeat_interleave(torch.arange(last - first), torch.tensor(lengths))
            weights[torch.arange(n), owner] = packed.weights[here]
            yield _Side(first, last, packed.frames[here], lengths, weights)
            first, begin = last, begin + n


def _buffer(q: Packed, c: Packed, columns: int) -> torch.Tensor:
    """Room for the similarities of the largest tile, as one row of values."""
    rows = max(TILE_ROWS, min(max(q.lengths), LONG_FRAMES))
    columns = max(columns, min(max(c.lengths), LONG_FRAMES)) + _ALIGNED
    return torch.empty(rows * columns, dtype=q.frames.dtype, device=q.frames.device)


def _room(buffer: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """A (rows, columns) piece of the buffer with aligned rows, one right behind the other: it fits the cache."""
    width = -(-columns // _ALIGNED) * _ALIGNED
    return buffer[: rows * width].view(rows, width)[:, :columns]


def _tile(rows: _Side, cols: _Side, out: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Precision and recall of the utterances of a tile; ``out`` takes the similarities."""
    torch.mm(rows.frames, cols.frames.T, out=out)
    if len(cols.frames) < SHORT_FRAMES * len(cols.lengths):  # torch is slow along short rows, fast down columns
        best_column = torch.stack([_best(part, 0) for part in torch.split(out.T.contiguous(), cols.lengths)])
    else:
        best_column = torch.stack([_best(part, 1) for part in torch.split(out, cols.lengths, 1)])
    best_row = torch.stack([_best(part, 0) for part in torch.split(out, rows.lengths, 0)])
    return (best_column.float() @ rows.weights).T, best_row.float() @ cols.weights


def _by_pair(rows: _Side, cols: _Side) -> tuple[torch.Tensor, torch.Tensor]:
    """The same for utterances too long for one tile: piece by piece, keeping the best so far."""
    precision = rows.frames.new_empty(len(rows.lengths), len(cols.lengths), dtype=torch.float32)
    recall = torch.empty_like(precision)
    for i, (query, query_weights) in enumerate(rows.utterances()):
        for j, (candidate, candidate_weights) in enumerate(cols.utterances()):
            best_column, best_row = (x.new_full((len(x),), -torch.inf) for x in (query, candidate))
            for q, best_q in zip(torch.split(query, TILE_ROWS), torch.split(best_column, TILE_ROWS), strict=True):
                for c, best_c in zip(torch.split(candidate, TILE_ROWS), torch.split(best_row, TILE_ROWS), strict=True):
                    similarity = q @ c.T
                    torch.maximum(best_q, _best(similarity, 1), out=best_q)
                    torch.maximum(best_c, _best(similarity, 0), out=best_c)
            precision[i, j] = best_column.float() @ query_weights
            recall[i, j] = best_row.float() @ candidate_weights
    return precision, recall


def _best(similarity: torch.Tensor, dim: int) -> torch.Tensor:
    """Maxima along one axis.

    bfloat16 is compared as integers, several times faster on a CPU: the bits of floats of one sign sort as
    integers do, the negative ones backwards.
    """
    if similarity.dtype != torch.bfloat16 or similarity.is_cuda:
        return similarity.amax(dim)
    bits = similarity.view(torch.int16)
    best = bits.amax(dim)
    if (best < 0).any():  # all of these are negative
        best = torch.where(best < 0, bits.amin(dim), best)
    return best.view(torch.bfloat16)
