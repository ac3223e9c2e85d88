"""Frames made more comparable before SeqSim, from unlabelled audio of each language alone; and the baselines.

Whisper's frames share a large mean and a few wide dimensions that reflect language, speaker and layer norm more than
the sentence, and dominate the cosine. Centring removes the mean; whitening equalises the variances. Their effects are
in docs/seqsim.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float32

from interlingua.retrieval.seqsim import common_width, pack, unit_rows
from interlingua.types import FrameArray, Matrix

SHRINKAGE = 0.1
LEAST_UTTERANCES = 20  # to whiten by: docs/seqsim.md has the curve


@dataclass(frozen=True, eq=False)
class FrameTransform:
    """An affine map of frames: x -> (x - mean) @ matrix, with mean (D,) and matrix (D, D) or None for the identity."""

    mean: Float32[np.ndarray, "D"]
    matrix: Float32[np.ndarray, "D D"] | None = None

    def __call__(self, frames: FrameArray) -> Float32[np.ndarray, "_T D"]:
        """Transform the frames of one utterance."""
        moved: np.ndarray = frames.astype(np.float32) - self.mean
        if self.matrix is not None:
            moved = moved @ self.matrix
        return moved


def fit_centring(background: Sequence[FrameArray]) -> FrameTransform:
    """Remove the mean frame of ``background``: unlabelled utterances of one language."""
    return FrameTransform(np.concatenate(background).mean(axis=0, dtype=np.float64).astype(np.float32))


def fit_whitening(background: Sequence[FrameArray], shrinkage: float = SHRINKAGE) -> FrameTransform:
    """Centre, then give every direction of ``background`` the same variance (ZCA whitening).

    The matrix is (C + s v I)^(-1/2) with the covariance C, its mean eigenvalue v and the shrinkage s > 0, which keeps
    noise, the directions of little variance, small; few frames need more. ZCA stays closest to the original axes
    (Kessy, Lewin, Strimmer, *Optimal whitening and decorrelation*, The American Statistician 2018). Raises ValueError
    for another shrinkage, or frames that are all equal.
    """
    if not shrinkage > 0:
        raise ValueError(f"shrinkage {shrinkage} must be above 0")
    mean = fit_centring(background).mean
    frames = np.concatenate(background).astype(np.float32) - mean
    largest = float(np.abs(frames).max(initial=0))
    unit = 1.0 if largest == 0 or 1e-9 < largest < 1e9 else largest  # or squares are 0 or infinite in float32
    if unit != 1.0:
        frames = (frames / unit).astype(np.float32)
    values, vectors = np.linalg.eigh((frames.T @ frames).astype(np.float64) / len(frames))
    scale = values.mean()
    if not scale > 0:
        raise ValueError("frames that are all equal can't be whitened")
    roots = 1 / np.sqrt(np.maximum(values, 0) + shrinkage * scale)
    return FrameTransform(mean, ((vectors * roots) @ vectors.T / unit).astype(np.float32))


def fit_transform(
    background: Sequence[FrameArray], kind: Literal["centred", "whitened", "headed"], shrinkage: float = SHRINKAGE
) -> FrameTransform:
    """Centring or whitening, which a head follows, by its name in a method."""
    return fit_centring(background) if kind == "centred" else fit_whitening(background, shrinkage)


def with_position(frames: FrameArray, weight: float) -> Float32[np.ndarray, "_T D2"]:
    """Append two values, so that frames at the same relative position in their utterances attract each other.

    Rows become unit first; the similarity at relative positions t and u (0 to 1) becomes
    (cosine + weight * cos(pi (t - u))) / (1 + weight). It helps where word order is alike.
    """
    unit = unit_rows(frames)
    angle = np.pi * np.linspace(0, 1, len(unit), dtype=np.float32)
    clock = np.sqrt(np.float32(weight)) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.concatenate([unit, clock], axis=1)


def rarity_weights(
    utterances: Sequence[FrameArray],
    background: Sequence[FrameArray],
    clusters: Sequence[str],
    background_clusters: Sequence[str],
) -> list[np.ndarray]:
    """How rare each frame is: (1 - its mean best similarity to utterances of ``background``) squared, (T,) each.

    Frames that match any utterance (silence, breath, fillers) carry little, as frequent words do in IDF. Background
    of the utterance's own cluster is skipped, for its own words would make it look common.
    """
    others = pack(background)
    weights = []
    for frames, cluster in zip(utterances, clusters, strict=True):
        similarity = pack([frames]).frames @ others.frames.T
        best = torch.stack([part.amax(dim=1) for part in torch.split(similarity, others.lengths, dim=1)])
        apart = torch.tensor([other != cluster for other in background_clusters])
        commonness = best[apart].mean(dim=0) if apart.any() else torch.zeros(len(frames))
        weights.append(np.square(np.clip(1 - commonness.numpy(), 0.05, None)))
    return weights


def mean_pool_cosine(queries: Sequence[FrameArray], candidates: Sequence[FrameArray]) -> Matrix:
    """Cosine between the means of the frames of each utterance (the paper's weaker alternative), (N, M).

    As SeqSim's: NaN for an utterance with infinity or NaN, ValueError for one without frames, (0, M) for no queries.
    """
    if not len(queries) or not len(candidates):
        return np.zeros((len(queries), len(candidates)), dtype=np.float32)
    scores: Matrix = _mean_vectors(queries) @ _mean_vectors(candidates).T
    return scores


def duration_similarity(queries: Sequence[float], candidates: Sequence[float]) -> Matrix:
    """Minus the absolute difference of log durations, from seconds, (N, M): a control by length alone.

    Log durations, because translations differ by a ratio rather than by a number of seconds. NaN where a duration isn't
    above 0.
    """
    q, c = log_durations(queries), log_durations(candidates)
    return np.asarray(-np.abs(q[:, None] - c[None, :]), dtype=np.float32)


def log_durations(seconds: Sequence[float]) -> np.ndarray:
    """Natural logarithms; NaN where a duration is 0, negative or not finite: it isn't known."""
    values = np.asarray(seconds, dtype=np.float64)
    known = (values > 0) & np.isfinite(values)
    return np.where(known, np.log(np.where(known, values, 1)), np.nan)


def _mean_vectors(utterances: Sequence[FrameArray]) -> Matrix:
    common_width(utterances)
    means = np.stack([_mean(f.astype(np.float32)) for f in utterances])
    vectors = unit_rows(means)
    vectors[~np.isfinite(means).all(axis=1)] = np.nan
    return vectors


def _mean(frames: FrameArray) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        mean: np.ndarray = frames.mean(axis=0)
        if not np.isfinite(mean).all() and np.isfinite(frames).all():
            mean = (frames / np.float32(len(frames))).sum(axis=0)  # their sum overflows
    return mean
