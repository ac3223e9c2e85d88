"""SeqSim on a CUDA device, fused and written in Triton: the matrix of similarities never leaves the chip.

**Never run on a GPU.** The kernels were checked with the interpreter of Triton 3.7.1 (torch 2.13's) against
`interlingua.retrieval.reference`, and compiled ahead of time for compute capabilities 8.0, 8.9 and 9.0. The
interpreter can't multiply bfloat16, which is widened there. The figures below are counted, not measured.

`interlingua.retrieval.seqsim` on a device moves 12 bytes of memory per similarity. Here a program multiplies one tile
of a query's frames with all frames of one candidate, tile by tile. Row maxima (precision) stay in registers; column
maxima (recall) cover only the rows of the tile, and a second kernel takes the maximum over the tiles of each query.
No atomics and no barriers: every run gives the same bits.

With Tq and Tc frames in all and B = `Blocks.frames` rows a tile:

===========================  ==================================================================================
arithmetic                   2 Tq Tc D FLOP; utterances much shorter than B waste most of it
written and read back        8 Tq Tc / B bytes: 1/16 byte an entry in half precision, 1/8 in float32
frames read through L2       2 D / B values an entry; neighbouring programs share a candidate
memory besides the frames    `SCRATCH_FLOATS` floats, or one query's column maxima where those are more
===========================  ==================================================================================

So it should be bound by arithmetic: tensor cores in half precision; plain fused multiply-adds in float32, never TF32.
"""

from __future__ import annotations  # tl.constexpr needn't exist then

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any, no_type_check

import torch
from jaxtyping import Float, Float32

from interlingua.errors import UsageError

try:  # comes with Linux builds of torch for CUDA, and is no dependency of ours
    import triton  # type: ignore[import-not-found, import-untyped, unused-ignore]
    import triton.language as tl  # type: ignore[import-not-found, import-untyped, unused-ignore]
except ImportError:
    triton = None

SCRATCH_FLOATS = 1 << 26  # column maxima held at once: 256 MiB


@dataclass(frozen=True)
class Blocks:
    """Sizes of the kernel's work: frames of a tile (both sides), values of D at a time, and Triton's two knobs."""

    frames: int
    width: int
    num_warps: int
    num_stages: int


HALF = Blocks(frames=128, width=64, num_warps=8, num_stages=3)  # 64 KiB of shared memory, on Hopper 96
SINGLE = Blocks(frames=64, width=32, num_warps=4, num_stages=2)
BLOCKS = {torch.float32: SINGLE, torch.float16: HALF, torch.bfloat16: HALF}


def available() -> bool:
    """Whether Triton can be imported and an NVIDIA GPU of capability 8.0 or higher is there."""
    return (
        triton is not None
        and torch.version.cuda is not None
        and torch.cuda.is_available()
        and torch.cuda.get_device_capability() >= (8, 0)
    )


def fused_both(
    queries: Float[torch.Tensor, "Tq D"],
    query_lengths: Sequence[int],
    candidates: Float[torch.Tensor, "Tc D"],
    candidate_lengths: Sequence[int],
) -> tuple[Float32[torch.Tensor, "N M"], Float32[torch.Tensor, "N M"]]:
    """SeqSim of N queries against M candidates in both directions: (precision, recall), each (N, M) float32.

    Frames of all utterances lie one behind the other, (Tq, D) and (Tc, D), on one CUDA device in a type of `BLOCKS`,
    with length one or zero; the lengths add up to Tq and Tc. Sums are float32. An utterance with NaN scores NaN.

    Raises:
        ValueError: an utterance without frames, lengths that don't add up, or sides of other width, type or device.
        UsageError: Triton is not installed, or the frames are not on a CUDA device.
    """
    _check(queries, query_lengths, "queries")
    _check(candidates, candidate_lengths, "candidates")
    if queries.shape[1] != candidates.shape[1]:
        raise ValueError(f"frames are {queries.shape[1]} and {candidates.shape[1]} wide; they must be equally wide")
    if (queries.dtype, queries.device) != (candidates.dtype, candidates.device):
        raise ValueError(
            f"queries are {queries.dtype} on {queries.device} and candidates {candidates.dtype} on "
            f"{candidates.device}; they must be the same"
        )
    precision = queries.new_zeros(len(query_lengths), len(candidate_lengths), dtype=torch.float32)
    recall = torch.zeros_like(precision)
    if precision.numel() == 0:
        return precision, recall
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if triton is None or not (queries.is_cuda or interpreted):
        raise UsageError("the fused kernel needs Triton and frames on a CUDA device; elsewhere use seqsim_both")
    if interpreted and queries.dtype == torch.bfloat16:  # the interpreter would multiply their bits as integers
        queries, candidates = queries.float(), candidates.float()

    queries, candidates = queries.contiguous(), candidates.contiguous()
    frames = BLOCKS[queries.dtype].frames
    candidate_ends = torch.tensor([0, *accumulate(candidate_lengths)], device=queries.device)
    query_ends = [0, *accumulate(query_lengths)]
    with torch.cuda.device(queries.get_device()):  # Triton launches on the current device; -1 is the CPU
        for a, b in _groups(query_lengths, frames, SCRATCH_FLOATS // len(candidates)):
            group = queries[query_ends[a] : query_ends[b]]
            _score(group, query_lengths[a:b], candidates, candidate_ends, precision[a:b], recall[a:b])
    precision /= torch.tensor(query_lengths, device=queries.device)[:, None]
    recall /= torch.tensor(candidate_lengths, device=queries.device)
    for scores in (precision, recall):
        scores.masked_fill_(scores.isinf(), torch.nan)  # see _tile_maxima
    return precision, recall


def _check(frames: torch.Tensor, lengths: Sequence[int], side: str) -> None:
    if frames.ndim != 2 or frames.dtype not in BLOCKS:
        raise ValueError(
            f"{side}: frames are (T, D), float32, float16 or bfloat16, not {tuple(frames.shape)} of {frames.dtype}"
        )
    if min(lengths, default=1) < 1:
        raise ValueError(f"{side}: an utterance has {min(lengths)} frames; it needs at least one")
    if sum(lengths) != len(frames):
        raise ValueError(f"{side}: the lengths add up to {sum(lengths)}, but there are {len(frames)} frames")


def _tiles(lengths: Sequence[int], frames: int) -> tuple[list[tuple[int, int]], list[int]]:
    """(start, end) of every tile, none with frames of two utterances, and the running number of tiles, 0 first."""
    tiles: list[tuple[int, int]] = []
    counts = [0]
    start = 0
    for length in lengths:
        end = start + length
        tiles += [(row, min(row + frames, end)) for row in range(start, end, frames)]
        counts.append(len(tiles))
        start = end
    return tiles, counts


def _groups(lengths: Sequence[int], frames: int, most: int) -> Iterator[tuple[int, int]]:
    """Cut the utterances into runs a..b-1 of at most ``most`` tiles; an utterance of more is a run of its own."""
    first, tiles = 0, 0
    for i, length in enumerate(lengths):
        count = -(-length // frames)
        if i > first and tiles + count > most:
            yield first, i
            first, tiles = i, 0
        tiles += count
    yield first, len(lengths)


def _score(
    queries: torch.Tensor,
    query_lengths: Sequence[int],
    candidates: torch.Tensor,
    candidate_ends: torch.Tensor,
    precision: torch.Tensor,
    recall: torch.Tensor,
) -> None:
    """Write the sums of the maxima of one group of queries into its rows of ``precision`` and ``recall``."""
    blocks = BLOCKS[queries.dtype]
    bounds, counts = _tiles(query_lengths, blocks.frames)
    tiles = torch.tensor(bounds, device=queries.device)
    row_sums = precision.new_empty(len(bounds), precision.shape[1])
    column_maxima = precision.new_empty(len(bounds), len(candidates))
    _tile_maxima[(row_sums.numel(),)](
        queries,
        candidates,
        tiles,
        candidate_ends,
        row_sums,
        column_maxima,
        *row_sums.shape,
        len(candidates),
        depth=queries.shape[1],
        **asdict(blocks),
    )
    _sum_over_tiles[(precision.numel(),)](
        row_sums,
        column_maxima,
        torch.tensor(counts, device=queries.device),
        candidate_ends,
        precision,
        recall,
        *precision.shape,
        len(candidates),
        frames=256,
    )


def _jit(function: Callable[..., None]) -> Any:
    """A kernel; without Triton the function as it is, which can't be called."""
    return triton.jit(function) if triton else function


# The kernels below are Triton's language. A thread block runs one program; every array is a tile in registers.
# Rows are int64, since Tq * D may pass 2**31.


@_jit
@no_type_check
def _tile_maxima(
    queries,  # (Tq, depth)
    candidates,  # (Tc, depth)
    tiles,  # (n_tiles, 2) first row of a tile and the one behind its last
    candidate_ends,  # (n_candidates + 1,) the first is 0
    row_sums,  # out: (n_tiles, n_candidates)
    column_maxima,  # out: (n_tiles, Tc)
    n_tiles,
    n_candidates,
    n_columns,  # Tc
    depth: tl.constexpr,
    frames: tl.constexpr,
    width: tl.constexpr,
):
    # Programs run about in order of their number: neighbours share a candidate, and find it in L2.
    tile = (tl.program_id(0) % n_tiles).to(tl.int64)
    candidate = tl.program_id(0) // n_tiles
    frame = tl.arange(0, frames)
    value = tl.arange(0, width)
    start = tl.load(tiles + 2 * tile)
    is_row = frame < (tl.load(tiles + 2 * tile + 1) - start).to(tl.int32)
    q_pointers = queries + start * depth + (frame[:, None] * depth + value[None, :])
    start = tl.load(candidate_ends + candidate)
    n_frames = (tl.load(candidate_ends + candidate + 1) - start).to(tl.int32)
    c_pointers = candidates + start * depth + (frame[None, :] * depth + value[:, None])
    maxima_pointers = column_maxima + tile * n_columns + start + frame

    row_maxima = tl.full([frames], float("-inf"), tl.float32)
    for first in range(0, n_frames, frames):
        is_column = first + frame < n_frames
        similarity = tl.zeros([frames, frames], tl.float32)
        for k in range(0, depth, width):
            there = k + value < depth
            q = tl.load(q_pointers + k, mask=is_row[:, None] & there[None, :], other=0.0)
            c = tl.load(c_pointers + first * depth + k, mask=is_column[None, :] & there[:, None], other=0.0)
            similarity = tl.dot(q, c, similarity, input_precision="ieee")
        # Maxima on a GPU pass over NaN, so it travels as +inf, which no cosine is.
        similarity = tl.where(similarity == similarity, similarity, float("inf"))
        over_columns = tl.where(is_column[None, :], similarity, float("-inf"))
        over_rows = tl.where(is_row[:, None], similarity, float("-inf"))
        row_maxima = tl.maximum(row_maxima, tl.max(over_columns, axis=1))
        tl.store(maxima_pointers + first, tl.max(over_rows, axis=0), mask=is_column)
    # Rows behind the tile's end were loaded as zeros, so their maxima add nothing; columns below likewise.
    tl.store(row_sums + tile * n_candidates + candidate, tl.sum(row_maxima))


@_jit
@no_type_check
def _sum_over_tiles(
    row_sums,  # (n_tiles, n_candidates)
    column_maxima,  # (n_tiles, Tc)
    query_tiles,  # (n_queries + 1,) running number of tiles, the first is 0
    candidate_ends,  # (n_candidates + 1,) the first is 0
    precision,  # out: (n_queries, n_candidates), sum over the query's frames
    recall,  # out: (n_queries, n_candidates), sum over the candidate's frames
    n_queries,
    n_candidates,
    n_columns,  # Tc
    frames: tl.constexpr,
):
    query = tl.program_id(0) % n_queries
    candidate = tl.program_id(0) // n_queries
    first_tile = tl.load(query_tiles + query)
    last_tile = tl.load(query_tiles + query + 1)
    start = tl.load(candidate_ends + candidate)
    end = tl.load(candidate_ends + candidate + 1)

    precision_sum = 0.0
    for tile in range(first_tile, last_tile):
        precision_sum += tl.load(row_sums + tile * n_candidates + candidate)
    recall_sum = 0.0
    for first in range(start, end, frames):
        columns = first + tl.arange(0, frames)
        best = tl.full([frames], float("-inf"), tl.float32)
        for tile in range(first_tile, last_tile):
            best = tl.maximum(best, tl.load(column_maxima + tile * n_columns + columns, mask=columns < end, other=0.0))
        recall_sum += tl.sum(best)
    pair = query.to(tl.int64) * n_candidates + candidate
    tl.store(precision + pair, precision_sum)
    tl.store(recall + pair, recall_sum)
