"""SeqSim, fast: one matrix product serves both directions; nothing is padded, and the block of similarities is bounded.

Specified by `interlingua.similarity.reference`, which it equals to 1e-4.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float

from interlingua.types import FrameArray, Matrix

Reduction = Literal["precision", "recall", "mean", "f1"]
Progress = Callable[[int], None]

BLOCK_FRAMES = 4096  # candidate frames per matrix product: the block of similarities stays in cache


def seqsim(
    queries: Sequence[FrameArray | torch.Tensor],
    candidates: Sequence[FrameArray | torch.Tensor],
    *,
    reduction: Reduction = "f1",
    device: str = "cpu",
    advance: Progress | None = None,
) -> Matrix:
    """Score N query utterances against M candidates, lists of (T, D) of any lengths, -> (N, M) float32.

    Args:
        queries: frames of each query; rows need not be normalised.
        candidates: frames of each candidate.
        reduction: ``precision``, ``recall``, ``mean`` or ``f1`` (see `reference`).
        device: where to multiply.
        advance: called with 1 after each query (progress).

    Raises:
        ValueError: an utterance without frames, or frames of different widths.

    >>> import numpy as np
    >>> a, b = np.eye(3, dtype=np.float32), -np.eye(3, dtype=np.float32)
    >>> seqsim([a], [a, b]).round(2).tolist()
    [[1.0, 0.0]]
    """
    precision, recall = seqsim_both(queries, candidates, device=device, advance=advance)
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
    queries: Sequence[FrameArray | torch.Tensor],
    candidates: Sequence[FrameArray | torch.Tensor],
    *,
    device: str = "cpu",
    advance: Progress | None = None,
) -> tuple[Matrix, Matrix]:
    """Both directions at once: (precision, recall), each (N, M) float32; arguments as in `seqsim`."""
    precision = np.zeros((len(queries), len(candidates)), dtype=np.float32)
    recall = np.zeros_like(precision)
    if precision.size == 0:
        return precision, recall
    blocks = _blocks(candidates, device)
    for n, query in enumerate(queries):
        q = _unit_rows(query, device)
        row_p: list[torch.Tensor] = []
        row_r: list[torch.Tensor] = []
        for frames, lengths in blocks:
            if frames.shape[1] != q.shape[1]:
                raise ValueError(f"frames are {q.shape[1]} and {frames.shape[1]} wide; they must be equally wide")
            similarity = frames @ q.T  # (candidate frames of the block, query frames)
            best_query = similarity.amax(dim=1)
            # Slices of rows are contiguous, so neither maximum needs a copy or padding.
            row_p += [s.amax(dim=0).mean() for s in torch.split(similarity, lengths)]
            row_r += [s.mean() for s in torch.split(best_query, lengths)]
        precision[n] = torch.stack(row_p).cpu().numpy()
        recall[n] = torch.stack(row_r).cpu().numpy()
        if advance:
            advance(1)
    return precision, recall


def alignment_matrix(query: FrameArray, candidate: FrameArray) -> Float[np.ndarray, "n m"]:
    """Cosine similarity of every query frame with every candidate frame, (n, D), (m, D) -> (n, m)."""
    return (_unit_rows(query, "cpu") @ _unit_rows(candidate, "cpu").T).numpy()


def _blocks(candidates: Sequence[FrameArray | torch.Tensor], device: str) -> list[tuple[torch.Tensor, list[int]]]:
    """Candidates joined into blocks of about `BLOCK_FRAMES` unit rows, with the length of each."""
    blocks: list[tuple[torch.Tensor, list[int]]] = []
    group: list[torch.Tensor] = []
    for candidate in candidates:
        rows = _unit_rows(candidate, device)
        if group and rows.shape[1] != group[0].shape[1]:
            raise ValueError(f"candidates are {group[0].shape[1]} and {rows.shape[1]} wide; they must be equally wide")
        if group and sum(map(len, group)) + len(rows) > BLOCK_FRAMES:
            blocks.append((torch.cat(group), [len(g) for g in group]))
            group = []
        group.append(rows)
    blocks.append((torch.cat(group), [len(g) for g in group]))
    return blocks


def _unit_rows(frames: FrameArray | torch.Tensor, device: str) -> torch.Tensor:
    """Rows divided by their length, float32; an all-zero row stays zero."""
    if not isinstance(frames, torch.Tensor):
        frames = torch.from_numpy(np.array(frames, dtype=np.float32))  # a copy: stored arrays are read-only
    rows = frames.to(device=device, dtype=torch.float32)
    if rows.ndim != 2 or len(rows) == 0:
        raise ValueError(f"an utterance's frames are (T, D) with T >= 1, not {tuple(rows.shape)}")
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / torch.where(norms > 0, norms, 1)
