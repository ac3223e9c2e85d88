"""One vector an utterance."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from interlingua.types import FrameArray


def width(dim: int) -> int:
    """V of frames D wide."""
    return dim


def vectors(utterances: Sequence[FrameArray]) -> Float32[np.ndarray, "N V"]:
    """Unit mean of each utterance's whitened frames, (T, D) each -> (N, V)."""
    means = np.stack([f.astype(np.float32).mean(axis=0) for f in utterances])
    norms = np.linalg.norm(means, axis=1, keepdims=True)
    return np.asarray(means / np.where(norms > 0, norms, 1), dtype=np.float32)
