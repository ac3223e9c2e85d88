"""SeqSim, fast: one matrix product serves both directions; nothing is padded, and memory is bounded by a tile.

Specified by `interlingua.retrieval.reference`, which it equals to 1e-4 in float32. A tile holds whole utterances on
both sides and is small enough to stay in the processor's cache while its maxima are taken, so that the matrix product,
and not the memory, sets the pace (benchmarks/seqsim.py).
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float

from interlingua.errors import UsageError
from interlingua.retrieval.seqsim_cuda import available, fused_both
from interlingua.types import FrameArray, Matrix

Reduction = Literal["precision", "recall", "mean", "f1"]
SimilarityCompute = Literal["float32", "bfloat16", "int8"]
Progress = Callable[[int], None]

TILE_ROWS = 1024  # query frames of a tile
TILE_BYTES = 1 << 22  # of a tile's similarities: they stay in cache
SHORT_FRAMES = 120  # a tile whose candidates are shorter on average is transposed before its rows' maxima are taken
TILES_PER_THREAD = 4  # from which on each thread takes tiles of its own
LONG_FRAMES = 8192  # utterances longer than this (164 s unpooled) are cut, so that no tile outgrows memory
TOLERANCES: dict[SimilarityCompute, float] = {"float32": 1e-4, "bfloat16": 1e-2}  # of the fused kernel's scores
TIE = 2e-6  # in rankings: scores of equal utterances differ by up to 1e-6 as tiles fall, which CSLS doubles
LEAST_NORM, MOST_NORM = 1e-15, 1e18  # of a row whose squares float32 holds
_log = logging.getLogger(__name__)
_ROUND = 32  # products cover a multiple of this, so that few shapes occur: the library prepares each shape anew
_INT8 = 127
_INT8_DEVIATIONS = 6  # of a value that int8 still holds; larger ones are cut, and hardly ever occur


@dataclass(frozen=True, eq=False)
class Packed:
    """Unit frames of several utterances, one behind the other.

    ``room`` is (sum of lengths + spare zero rows, D); for int8 all rows are rotated alike, divided by ``scale`` and
    rounded. ``weights``, (sum of lengths,), sum to 1 in each utterance; ``weighted``: they were given, not equal.
    Utterances that aren't ``finite`` score NaN.
    """

    room: torch.Tensor
    lengths: list[int]
    weights: torch.Tensor
    finite: torch.Tensor
    weighted: bool = False
    scale: float = 1.0

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def frames(self) -> torch.Tensor:
        """(sum of lengths, D): the frames without the spare rows."""
        return self.room[: len(self.weights)]

    def utterances(self) -> tuple[torch.Tensor, ...]:
        """Views of each utterance's frames."""
        return torch.split(self.frames, self.lengths)

    def take(self, chosen: Sequence[int] | np.ndarray) -> "Packed":
        """A copy of some of the utterances."""
        ends = np.cumsum([0, *self.lengths])
        parts = [slice(ends[i], ends[i + 1]) for i in chosen]
        spare = slice(len(self.weights), None)
        room = torch.cat([self.room[part] for part in (*parts, spare)])
        weights = torch.cat([self.weights[part] for part in parts])
        finite = self.finite[torch.as_tensor(chosen)]
        return Packed(room, [self.lengths[i] for i in chosen], weights, finite, self.weighted, self.scale)


def pack(
    utterances: Sequence[FrameArray | torch.Tensor],
    *,
    weights: Sequence[np.ndarray] | None = None,
    compute: SimilarityCompute = "float32",
    device: str = "cpu",
) -> Packed:
    """Normalise the rows of each (T, D) utterance in float32, and join them in the number format of the product.

    ``weights`` are (T,) each, of any scale: how much a frame counts in the means.

    Raises:
        ValueError: no utterances, one without frames, frames of different widths, or weights that don't fit.
        UsageError: int8 on another device than the CPU.
    """
    if not utterances:
        raise ValueError("there are no utterances to pack")
    if compute == "int8" and device != "cpu":
        raise UsageError(f"int8 products run on the cpu only, not on {device}; use bfloat16 there")
    width = common_width(utterances)
    total = sum(map(len, utterances))
    room = torch.zeros(total + _ROUND, width, dtype=getattr(torch, compute), device=device)
    frame_weights = torch.empty(total, device=device)
    scale = _int8_unit(width) if compute == "int8" else 1.0
    finite, start = [], 0
    for i, utterance in enumerate(utterances):
        if not isinstance(utterance, torch.Tensor):
            utterance = torch.from_numpy(np.array(utterance, dtype=np.float32))  # stored arrays are read-only
        rows = utterance.to(device=device, dtype=torch.float32)
        here = slice(start, start + len(rows))
        norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        usual = (norms > LEAST_NORM) & (norms < MOST_NORM)
        finite.append(bool(usual.all()) or bool(torch.isfinite(rows).all()))
        if finite[-1] and not usual.all():  # by the largest value first: squares would overflow, or vanish
            largest = rows.abs().amax(dim=1, keepdim=True)
            rows = torch.where(usual | (largest == 0), rows, rows / torch.where(largest > 0, largest, 1))
            norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        rows = rows / torch.where(norms > 0, norms, 1) if finite[-1] else torch.zeros_like(rows)
        room[here] = _as_int8(rows) if compute == "int8" else rows
        frame_weights[here] = 1 / len(rows) if weights is None else _frame_weights(weights[i], len(rows))
        start += len(rows)
    lengths, known = [len(u) for u in utterances], torch.tensor(finite, device=device)
    return Packed(room, lengths, frame_weights, known, weights is not None, scale)


def common_width(utterances: Sequence[FrameArray | torch.Tensor]) -> int:
    """The D of utterances' frames; ValueError unless all are (T, D) with T >= 1."""
    width = int(utterances[0].shape[-1])
    for utterance in utterances:
        if utterance.ndim != 2 or len(utterance) == 0:
            raise ValueError(f"an utterance's frames are (T, D) with T >= 1, not {tuple(utterance.shape)}")
        if utterance.shape[1] != width:
            raise ValueError(f"frames are {width} and {utterance.shape[1]} wide; they must be equally wide")
    return width


def unit_rows(frames: FrameArray) -> FrameArray:
    """Rows of length 1 in float32, (T, D); zero rows stay, and a row with infinity or NaN becomes NaN in part."""
    rows = frames.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        usual = (norms > LEAST_NORM) & (norms < MOST_NORM)
        if not usual.all():  # as in `pack`
            largest = np.abs(rows).max(axis=1, keepdims=True, initial=0)
            rows = np.where(usual | (largest == 0), rows, rows / np.where(largest > 0, largest, 1))
            norms = np.linalg.norm(rows, axis=1, keepdims=True)
        unit: FrameArray = rows / np.where(norms > 0, norms, 1)
    return unit


def _as_int8(rows: torch.Tensor) -> torch.Tensor:
    """Unit rows in whole units, all rotated alike, which keeps their products and spreads the few large dimensions.

    A randomly rotated unit row has values of deviation 1 / sqrt(D), so that one small unit fits all.
    """
    turned = rows @ _rotation(rows.shape[1])
    return turned.div_(_int8_unit(rows.shape[1])).round_().clamp_(-_INT8, _INT8).to(torch.int8)


def _int8_unit(dim: int) -> float:
    return float(min(1.0, _INT8_DEVIATIONS / np.sqrt(dim)) / _INT8)


@cache
def _rotation(dim: int) -> torch.Tensor:
    """A fixed random orthogonal matrix, (dim, dim)."""
    random = np.random.default_rng(dim).standard_normal((dim, dim))
    return torch.from_numpy(np.linalg.qr(random)[0].astype(np.float32))


def _frame_weights(weights: np.ndarray, n: int) -> torch.Tensor:
    total = float(weights.sum())
    if len(weights) != n or not 0 < total < np.inf:
        raise ValueError(f"{len(weights)} weights that sum to {total} don't fit {n} frames")
    if weights.min() < 0:
        raise ValueError(f"a weight is {weights.min()}; weights are 0 or above")
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

    Rows need not be normalised; what is packed already stays as it is. ``compute`` is the product's number format:
    float32 equals the reference to 1e-4; bfloat16 and, on a CPU, int8 are several times faster where the processor has
    them, and rank alike (docs/speed.md). ``advance`` is called with the number of queries done since the last call.

    Raises ValueError for an utterance without frames, or frames of different widths.

    >>> import numpy as np
    >>> a, b = np.eye(3, dtype=np.float32), -np.eye(3, dtype=np.float32)
    >>> seqsim([a], [a, b]).round(2).tolist()
    [[1.0, 0.0]]
    """
    precision, recall = seqsim_both(queries, candidates, compute=compute, device=device, advance=advance)
    return reduce_directions(precision, recall, reduction)


def reduce_directions(precision: Matrix, recall: Matrix, reduction: Reduction) -> Matrix:
    """Combine both directions elementwise by the formulas of `reference`; raises ValueError for another reduction."""
    if reduction == "precision":
        return precision
    if reduction == "recall":
        return recall
    total = precision + recall
    if reduction == "mean":
        mean: Matrix = total / 2
        return mean
    if reduction == "f1":
        defined = (precision > 0) & (recall > 0)
        f1 = np.where(defined, 2 * precision * recall / np.where(defined, total, 1), 0)
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
    """Whether the fused kernel works on this GPU, by comparison with the tiles."""
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
    precision = torch.empty(len(q), len(c), device=q.frames.device)
    recall = torch.empty_like(precision)
    kind = _product_type(q.frames)
    columns = min(TILE_BYTES // min(TILE_ROWS, _rounded(len(q.frames))) // kind.itemsize, LONG_FRAMES)
    column_tiles = list(_tiles(c, columns))
    tiles, lock = ((rows, cols) for rows in _tiles(q, TILE_ROWS) for cols in column_tiles), Lock()
    ready: Counter[int] = Counter()  # tiles done of each row of them

    def finished() -> Iterator[int]:
        """Take tile after tile, whoever is free; yield how many queries are complete with it."""
        buffer = torch.empty(_most(q, TILE_ROWS) * _most(c, columns), dtype=kind, device=q.frames.device)
        while True:
            with lock:
                tile = next(tiles, None)
            if tile is None:
                return
            rows, cols = tile
            by = _by_pair if max(rows.n, cols.n) > LONG_FRAMES else _tile
            where = (slice(rows.first, rows.last), slice(cols.first, cols.last))
            precision[where], recall[where] = by(rows, cols, buffer)
            with lock:
                ready[rows.first] += 1
                complete = ready[rows.first] == len(column_tiles)
            yield rows.last - rows.first if complete else 0

    threads = torch.get_num_threads() if q.frames.device.type == "cpu" else 1
    alone = threads == 1 or len(q.frames) * len(column_tiles) < TILES_PER_THREAD * TILE_ROWS * threads
    for n in finished() if alone else _in_threads(finished, threads):
        if advance and n:
            advance(n)
    unit = q.scale * c.scale
    return precision * unit, recall * unit


def _in_threads(work: Callable[[], Iterator[int]], threads: int) -> Iterator[int]:
    """Numbers that so many threads yield, except 0; each product has one thread.

    Otherwise all threads work on each product and wait for one another: one that another program holds up stops all.
    """
    done, over = SimpleQueue[int | BaseException | None](), Event()

    def run() -> None:
        try:
            torch.set_num_threads(1)  # of this thread, and of threads that begin
            for n in work():
                if over.is_set():
                    break
                if n:
                    done.put(n)
            done.put(None)
        except BaseException as e:  # raised where the work is wanted
            done.put(e)

    running = [Thread(target=run) for _ in range(threads)]
    try:
        for thread in running:
            thread.start()
        for _ in running:
            while (found := done.get()) is not None:
                if isinstance(found, BaseException):
                    raise found
                yield found
    finally:
        over.set()
        for thread in running:
            thread.join()
        torch.set_num_threads(threads)


@dataclass(frozen=True, eq=False)
class _Side:
    """One side of a tile: utterances ``first`` to ``last`` (not included) of a `Packed`, with ``n`` frames in all.

    ``frames`` may end with rows of other utterances; ``weights``, (n, utterances), turn a value of each frame into
    each utterance's mean.
    """

    first: int
    last: int
    frames: torch.Tensor
    lengths: list[int]
    weights: torch.Tensor

    @property
    def n(self) -> int:
        return len(self.weights)

    def utterances(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
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
            lengths = packed.lengths[first:last]
            weights = torch.zeros(n, last - first, device=packed.room.device)
            owner = torch.repeat_interleave(torch.arange(last - first), torch.tensor(lengths))
            weights[torch.arange(n), owner] = packed.weights[begin : begin + n]
            yield _Side(first, last, packed.room[begin : begin + _rounded(n)], lengths, weights)
            first, begin = last, begin + n


def _rounded(n: int) -> int:
    return -(-n // _ROUND) * _ROUND


def _most(packed: Packed, limit: int) -> int:
    """Frames of the largest tile side that has a product of its own."""
    return _rounded(max(limit, min(max(packed.lengths), LONG_FRAMES)))


def _product_type(frames: torch.Tensor) -> torch.dtype:
    return torch.int32 if frames.dtype == torch.int8 else frames.dtype


def _product(a: torch.Tensor, b: torch.Tensor, buffer: torch.Tensor) -> torch.Tensor:
    """All dot products, (n, D), (m, D) -> (n, m), in the buffer: rows lie close together, and stay in cache."""
    out = buffer[: len(a) * len(b)].view(len(a), len(b))
    multiply = torch._int_mm if a.dtype == torch.int8 else torch.mm
    return multiply(a, b.T, out=out)


def _tile(rows: _Side, cols: _Side, buffer: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    similarity = _product(rows.frames, cols.frames, buffer)[: rows.n, : cols.n]
    if cols.n < SHORT_FRAMES * len(cols.lengths):  # torch is slow along short rows, fast down columns
        best_column = _best(torch.split(similarity.T.contiguous(), cols.lengths), 0)
    else:
        best_column = _best(torch.split(similarity, cols.lengths, 1), 1)
    best_row = _best(torch.split(similarity, rows.lengths), 0)
    return (best_column @ rows.weights).T, best_row @ cols.weights


def _by_pair(rows: _Side, cols: _Side, buffer: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Precision and recall of utterances too long for one tile: piece by piece, keeping the maxima so far."""
    precision = torch.empty(len(rows.lengths), len(cols.lengths), device=rows.frames.device)
    recall = torch.empty_like(precision)
    for i, (query, query_weights) in enumerate(rows.utterances()):
        for j, (candidate, candidate_weights) in enumerate(cols.utterances()):
            best_column, best_row = (torch.full_like(w, -torch.inf) for w in (query_weights, candidate_weights))
            for q, best_q in zip(torch.split(query, TILE_ROWS), torch.split(best_column, TILE_ROWS), strict=True):
                for c, best_c in zip(torch.split(candidate, TILE_ROWS), torch.split(best_row, TILE_ROWS), strict=True):
                    similarity = _product(q, c, buffer)
                    torch.maximum(best_q, _best([similarity], 1)[0], out=best_q)
                    torch.maximum(best_c, _best([similarity], 0)[0], out=best_c)
            precision[i, j] = best_column @ query_weights
            recall[i, j] = best_row @ candidate_weights
    return precision, recall


def _best(parts: Sequence[torch.Tensor], dim: int) -> torch.Tensor:
    """Maxima of each part along one axis, in float32, one row a part.

    bfloat16 is compared as integers, several times faster on a CPU: the bits of floats of one sign sort as
    integers do, the negative ones backwards.
    """
    if parts[0].dtype != torch.bfloat16 or parts[0].is_cuda:
        return torch.stack([part.amax(dim) for part in parts]).float()
    bits = [part.view(torch.int16) for part in parts]
    best = torch.stack([part.amax(dim) for part in bits])
    if (best < 0).any():  # all of these are negative
        best = torch.where(best < 0, torch.stack([part.amin(dim) for part in bits]), best)
    return best.view(torch.bfloat16).float()
