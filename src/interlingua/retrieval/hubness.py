"""Score corrections against hubs, candidates that are near to everything, by each utterance's k nearest neighbours.

Neighbours on the other side are unlabelled utterances: candidates near to few are raised, those near to many lowered.
"""

import numpy as np
from jaxtyping import Float32

from interlingua.types import Matrix


def neighbourhood(scores: Matrix, k: int = 5) -> Float32[np.ndarray, "N"]:
    """Mean of the k highest scores of each row, (N, M) -> (N,); NaN doesn't count, a row of NaN gives NaN."""
    top = -np.sort(-np.where(np.isnan(scores), -np.inf, scores), axis=1)[:, :k]
    known = np.isfinite(top)
    counts = known.sum(axis=1)
    sums = np.where(known, top, 0).sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).astype(np.float32)


def csls(scores: Matrix, queries: Float32[np.ndarray, "N"], candidates: Float32[np.ndarray, "M"]) -> Matrix:
    """Cross-domain similarity local scaling: 2 s(q, c) - r(q) - r(c), with r from `neighbourhood` on the other side.

    Conneau et al., *Word translation without parallel data*, ICLR 2018, section 2.3.
    """
    corrected: Matrix = 2 * scores - queries[:, None] - candidates[None, :]
    return corrected


def ratio_margin(scores: Matrix, queries: Float32[np.ndarray, "N"], candidates: Float32[np.ndarray, "M"]) -> Matrix:
    """Ratio margin: s(q, c) / ((r(q) + r(c)) / 2); arguments as in `csls`, all scores positive.

    Artetxe & Schwenk, *Margin-based parallel corpus mining with multilingual sentence embeddings*, ACL 2019.
    """
    margins: Matrix = scores / ((queries[:, None] + candidates[None, :]) / 2)
    return margins


CORRECTIONS = {"csls": csls, "margin": ratio_margin}
