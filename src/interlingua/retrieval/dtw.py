"""Dynamic time warping over cosine similarities: SeqSim's counterpart that respects order.

The symmetric form without slope constraint or window of Sakoe and Chiba, "Dynamic programming algorithm optimization
for spoken word recognition", IEEE Transactions on Acoustics, Speech, and Signal Processing 26(1), 1978, pages 43-49,
with similarities to maximise. With s(i, j) the cosine of query frame i = 1..n and candidate frame j = 1..m (0 for an
all-zero frame), a path leads from (1, 1) to (n, m) by steps (1, 0), (0, 1) and (1, 1), weighted 1, 1 and 2:

    g(1, 1) = 2 s(1, 1)
    g(i, j) = max of  g(i-1, j) + s(i, j),  g(i, j-1) + s(i, j),  g(i-1, j-1) + 2 s(i, j)
    score   = g(n, m) / (n + m)                in [-1, 1], the same in both directions; every path weighs n + m
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch.nn.utils.rnn import pad_sequence

from interlingua.retrieval.seqsim import Packed, pack
from interlingua.types import FrameArray, Matrix

BLOCK_FRAMES = 4096  # padded candidate frames swept together; a query of n frames takes 4 n BLOCK_FRAMES bytes


def dtw_similarity(
    queries: Sequence[FrameArray | torch.Tensor],
    candidates: Sequence[FrameArray | torch.Tensor],
    *,
    advance: Callable[[int], None] | None = None,
) -> Matrix:
    """Mean cosine on the best warping path of N queries and M candidates, lists of (T, D), -> (N, M) float32.

    The time grows with the product of the lengths: pool the frames first. ``advance`` is called with 1 per query.
    Raises ValueError for an utterance without frames, or frames of different widths.

    >>> import numpy as np
    >>> a = np.eye(2, dtype=np.float32)
    >>> dtw_similarity([a], [a.repeat(2, axis=0), a[::-1]]).round(2).tolist()
    [[1.0, 0.25]]
    """
    scores = np.zeros((len(queries), len(candidates)), dtype=np.float32)
    if scores.size == 0:
        return scores
    q, c = pack(queries), pack(candidates)
    if q.frames.shape[1] != c.frames.shape[1]:
        raise ValueError(f"frames are {q.frames.shape[1]} and {c.frames.shape[1]} wide; they must be equally wide")
    blocks = list(_blocks(c))
    for n, query in enumerate(q.utterances()):
        for block in blocks:
            scores[n, block.columns] = _sweep(query, block)
        if advance:
            advance(1)
    scores[~q.finite.numpy()] = np.nan  # a score that can't be computed can't win
    scores[:, ~c.finite.numpy()] = np.nan
    return scores


@dataclass(frozen=True, eq=False)
class _Block:
    """Candidates of similar length, swept together."""

    columns: list[int]  # their positions among the candidates
    lengths: torch.Tensor  # (B,)
    frames: torch.Tensor  # (m, B, D), m >= 2; padding stands behind, whence no path leads to an utterance's end


def _blocks(candidates: Packed) -> Iterator[_Block]:
    frames = candidates.utterances()
    columns: list[int] = []
    for j in sorted(range(len(frames)), key=lambda j: len(frames[j])):
        if columns and len(frames[j]) * (len(columns) + 1) > BLOCK_FRAMES:
            yield _block(columns, frames)
            columns = []
        columns.append(j)
    yield _block(columns, frames)


def _block(columns: list[int], frames: Sequence[torch.Tensor]) -> _Block:
    padded = pad_sequence([frames[j] for j in columns])
    if len(padded) == 1:
        padded = torch.cat([padded, padded])
    return _Block(columns, torch.tensor([len(frames[j]) for j in columns]), padded)


def _sweep(query: torch.Tensor, block: _Block) -> Float[np.ndarray, " B"]:
    """Scores of one query against a block's candidates, which all advance by one anti-diagonal at a time."""
    n, (m, size, width) = len(query), block.frames.shape
    cells = (query @ block.frames.view(m * size, width).T).view(n * m, size)  # s(i, j), from 0, in row i * m + j
    before, last = torch.full((2, n + 1, size), -torch.inf)  # g on the two latest diagonals, in row i + 1; no cell in 0
    ends = torch.empty(m, size)  # g(n, j) of each j
    last[1] = 2 * cells[0]
    ends[0] = last[n]
    for d in range(1, n + m - 1):  # the diagonal i + j = d: from one of its cells to the next are m - 1 rows of cells
        low, high = max(0, d - m + 1), min(n, d + 1)
        s = cells[d + low * (m - 1) : d + (high - 1) * (m - 1) + 1 : m - 1]
        straight = torch.maximum(last[low:high], last[low + 1 : high + 1])
        before[low + 1 : high + 1] = torch.maximum(straight, before[low:high] + s) + s
        before, last = last, before
        if d >= n - 1:
            ends[d - n + 1] = last[n]
    best = ends[block.lengths - 1, torch.arange(size)]
    return (best / (n + block.lengths)).numpy()
