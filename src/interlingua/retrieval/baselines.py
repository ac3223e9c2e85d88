"""What SeqSim is measured against: one vector an utterance, and duration alone."""

from collections.abc import Sequence

import numpy as np

from interlingua.types import FrameArray, Matrix


def mean_pool_cosine(queries: Sequence[FrameArray], candidates: Sequence[FrameArray]) -> Matrix:
    """Cosine between the means of the frames of each utterance (the paper's weaker alternative), (N, M)."""
    scores: Matrix = _mean_vectors(queries) @ _mean_vectors(candidates).T
    return scores


def duration_similarity(queries: Sequence[float], candidates: Sequence[float]) -> Matrix:
    """Minus the absolute difference of log durations, (N, M): a control that knows nothing but length.

    Log durations, because translations differ by a ratio rather than by a number of seconds.

    Args:
        queries: seconds of each query, above zero.
        candidates: seconds of each candidate, above zero.
    """
    q, c = np.log(queries), np.log(candidates)
    return np.asarray(-np.abs(q[:, None] - c[None, :]), dtype=np.float32)


def _mean_vectors(utterances: Sequence[FrameArray]) -> Matrix:
    means = np.stack([f.astype(np.float32).mean(axis=0) for f in utterances])
    norms = np.linalg.norm(means, axis=1, keepdims=True)
    unit: Matrix = means / np.where(norms > 0, norms, 1)
    return unit
