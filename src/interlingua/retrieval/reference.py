"""SeqSim's specification in plain loops, which the fast version must equal.

SeqSim scores two utterances by late interaction over encoder frames, as BERTScore does over token embeddings
(Zhang et al., *BERTScore*, ICLR 2020, section 3; Ma et al., arXiv 2407.01130, section 3). With query
frames q_1..q_n and candidate frames c_1..c_m, each divided by its length (an all-zero frame stays zero):

    precision P = 1/n  sum_i  max_j  q_i . c_j      every query frame looks for its best candidate frame
    recall    R = 1/m  sum_j  max_i  q_i . c_j      every candidate frame looks for its best query frame
    mean        = (P + R) / 2
    F1          = 2 P R / (P + R), and 0 where P <= 0 or R <= 0: no harmonic mean is defined there
"""

import math

import numpy as np

from interlingua.types import FrameArray


def seqsim_pair(query: FrameArray, candidate: FrameArray) -> dict[str, float]:
    """``precision``, ``recall``, ``mean`` and ``f1`` of one pair, (n, D) against (m, D); n, m >= 1, else ValueError."""
    if len(query) == 0 or len(candidate) == 0:
        raise ValueError("SeqSim needs at least one frame on each side")
    if query.shape[1] != candidate.shape[1]:
        raise ValueError(f"frames are {query.shape[1]} and {candidate.shape[1]} wide; they must be equally wide")
    q = [_normalised(frame) for frame in query]
    c = [_normalised(frame) for frame in candidate]
    precision = sum(max(_dot(a, b) for b in c) for a in q) / len(q)
    recall = sum(max(_dot(a, b) for a in q) for b in c) / len(c)
    total = precision + recall
    return {
        "precision": precision,
        "recall": recall,
        "mean": total / 2,
        "f1": 2 * precision * recall / total if precision > 0 and recall > 0 else 0.0,
    }


def _normalised(frame: np.ndarray) -> list[float]:
    values = [float(x) for x in frame]
    length = math.hypot(*values)  # which scales by the largest value first, so that no square overflows
    return [x / length for x in values] if length > 0 else values


def _dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))
