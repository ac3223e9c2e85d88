"""A trained head: a matrix that follows whitening, learnt from translations under SeqSim, on frozen frames.

    whitened frames of pairs that mean the same, each frame with its best match -> covariance of the differences
        -> its inverse: directions in which translations differ count little
        -> steps of InfoNCE both ways on SeqSim of batches, N x N, from there -> matrix (D, D)

The start is within-class covariance normalisation (Hatch, Kajarekar, Stolcke, Interspeech 2006), squared; the loss that
of CLIP (Radford et al., ICML 2021, figure 3), on SeqSim in place of a cosine. Near-duplicates of an utterance are no
negatives. One head serves every language: whitening has removed what differs between them.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch.nn.functional import cross_entropy

from interlingua import __version__
from interlingua.encoding import pool_frames
from interlingua.errors import StoreError, UsageError
from interlingua.files import atomic_file
from interlingua.retrieval.features import FrameTransform, with_position
from interlingua.retrieval.seqsim import unit_rows
from interlingua.types import FrameArray

LEAST_PAIRS = 20  # to train on
_FORMAT = "interlingua-head-1"


@dataclass(frozen=True)
class HeadSettings:
    """How a head is trained; the defaults were chosen on one fold (docs/head.md).

    Attributes:
        shrinkage: of the covariance of differences, in its mean variances.
        steps: batches at most.
        passes: over the pairs at most: few pairs, of two languages alone, are soon learnt by heart (docs/head.md).
        batch: pairs of one, all of the same two languages.
        rate: Adam's, at its peak.
        temperature: of the scores.
        pooling: stored frames averaged into one in training.
        drop: share of frames that an utterance loses in a batch.
        decay: weight of the squared distance from the start in the loss.
        position: as the method that the head serves has it.
    """

    shrinkage: float = 0.3
    steps: int = 250
    passes: int = 10
    batch: int = 64
    rate: float = 1e-3
    temperature: float = 0.05
    pooling: int = 2
    drop: float = 0.3
    decay: float = 0.01
    position: float = 0.1
    seed: int = 0


DEFAULT_SETTINGS = HeadSettings()


@dataclass(frozen=True, eq=False)
class Head:
    """A matrix (D, D) for whitened frames, and where it comes from.

    ``groups``: hashes of the sentences trained on (`sentence`).
    """

    matrix: Float32[np.ndarray, "D D"]
    groups: frozenset[int] = frozenset()
    about: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def identity(cls, width: int) -> "Head":
        """One that changes nothing."""
        return cls(np.eye(width, dtype=np.float32))

    @property
    def digest(self) -> str:
        """Name of the matrix."""
        return hashlib.sha256(np.ascontiguousarray(self.matrix).tobytes()).hexdigest()[:8]

    def after(self, whitening: FrameTransform) -> FrameTransform:
        """Whitening and head in one transform."""
        assert whitening.matrix is not None
        return FrameTransform(whitening.mean, whitening.matrix @ self.matrix)

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        from safetensors.numpy import save_file

        groups = np.array(sorted(self.groups), dtype=np.int64)
        tensors = {"matrix": self.matrix, "groups": groups}
        with atomic_file(path) as temporary:
            save_file(tensors, temporary, metadata={"format": _FORMAT, "about": json.dumps(self.about)})

    @classmethod
    def load(cls, path: Path, width: int) -> "Head":
        """Read a file of `save` for frames of this width; raises StoreError if it isn't one."""
        from safetensors import SafetensorError, safe_open

        again = "train it again with `interlingua index train`"
        try:
            with safe_open(path, framework="numpy") as file:
                stated = file.metadata() or {}
                if stated.get("format") != _FORMAT:
                    raise StoreError(f"{path}: no head of this version ({_FORMAT}); {again}")
                matrix, groups = file.get_tensor("matrix"), file.get_tensor("groups")
                about = json.loads(stated["about"])
        except FileNotFoundError as e:
            raise StoreError(f"{path}: no head here; make one with `interlingua index train`") from e
        except (OSError, ValueError, KeyError, SafetensorError) as e:
            raise StoreError(f"{path}: damaged ({e}); {again}") from e
        if matrix.shape != (width, width):
            raise StoreError(f"{path}: a head for frames {len(matrix)} wide, and these are {width}; {again}")
        return cls(matrix, frozenset(groups.tolist()), about)


def head_path(store: str) -> Path:
    """Where the head of a frame store lies: beside it."""
    return Path(f"{store.rstrip('/').removesuffix('.lance')}.head.safetensors")


def sentence(group: str) -> int:
    """Hash of `Utterance.group`, by which a head knows what it was trained on."""
    return int.from_bytes(hashlib.sha256(group.encode()).digest()[:8], "big", signed=True)


def batch_scores(
    x: Float[torch.Tensor, "X D"],
    x_lengths: Sequence[int],
    y: Float[torch.Tensor, "Y D"],
    y_lengths: Sequence[int],
) -> Float[torch.Tensor, "N M"]:
    """SeqSim's F1 of N utterances against M, differentiable; their unit frames stand one behind the other.

    Equals `reference.seqsim_pair`.
    """
    similarity = x @ y.T
    best_y = torch.stack([part.amax(1) for part in torch.split(similarity, list(y_lengths), 1)], 1)
    best_x = torch.stack([part.amax(0) for part in torch.split(similarity, list(x_lengths), 0)], 1)
    precision, recall = _means(best_y, x_lengths), _means(best_x, y_lengths).T
    defined = (precision > 0) & (recall > 0)
    return torch.where(defined, 2 * precision * recall / torch.where(defined, precision + recall, 1), 0)


def _means(values: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
    """Means over each utterance's rows, (sum of lengths, M) -> (N, M)."""
    n = torch.tensor(lengths)
    sums = torch.zeros(len(n), values.shape[1]).index_add(0, torch.repeat_interleave(torch.arange(len(n)), n), values)
    return sums / n[:, None]


def start(
    frames: Mapping[int, FrameArray], pairs: Sequence[tuple[int, int]], settings: HeadSettings
) -> Float32[np.ndarray, "D D"]:
    """The matrix without any step: (C + s v I)^-1 of the differences between matched unit frames of translations.

    C is their covariance, v its mean eigenvalue, s the shrinkage; values are 1 in the mean square.
    """
    width = frames[pairs[0][0]].shape[1]
    covariance, n = np.zeros((width, width)), 0
    for pair in pairs:
        unit = [unit_rows(frames[k]) for k in pair]
        x, y = (with_position(frames[k], settings.position) for k in pair)
        similarity = x @ y.T
        for own, other, best in ((*unit, similarity.argmax(1)), (*unit[::-1], similarity.argmax(0))):
            apart = own - other[best]
            covariance += apart.T @ apart
            n += len(apart)
    values, vectors = np.linalg.eigh(covariance / n)
    inverse = 1 / (np.maximum(values, 0) + settings.shrinkage * values.mean() + np.finfo(np.float32).tiny)
    inverse /= np.sqrt(np.square(inverse).mean())
    matrix: np.ndarray = ((vectors * inverse) @ vectors.T).astype(np.float32)
    return matrix


def train_head(
    frames: Sequence[FrameArray],
    languages: Sequence[str],
    groups: Sequence[str],
    pairs: Int[np.ndarray, "P 2"],
    settings: HeadSettings = DEFAULT_SETTINGS,
    *,
    advance: Callable[[int], None] = lambda n: None,
) -> Head:
    """Train on pairs of utterances that mean the same: the same head from the same seed, on one thread.

    Args:
        frames: of N utterances, (T, D) each, whitened in their language.
        languages: of the utterances.
        groups: near-duplicates share one, and are no negatives of each other.
        pairs: places of both utterances; pairs of one language are skipped.
        advance: called with the number of batches done, or not needed, of ``settings.steps``.

    Raises:
        UsageError: fewer than `LEAST_PAIRS` pairs.
    """
    finite = [bool(np.isfinite(f).all()) for f in frames]
    by_languages: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for i, j in pairs.tolist():
        if languages[i] != languages[j] and finite[i] and finite[j]:
            first, second = sorted((i, j), key=lambda n: languages[n])
            by_languages.setdefault((languages[first], languages[second]), []).append((first, second))
    known = [pair for _, some in sorted(by_languages.items()) for pair in some]
    if len(known) < LEAST_PAIRS:
        raise UsageError(
            f"{len(known)} pairs of utterances that mean the same in two languages; {LEAST_PAIRS} are needed"
        )
    codes = np.unique(np.asarray(groups), return_inverse=True)[1]
    chosen = sorted({n for pair in known for n in pair})
    pooled = {n: pool_frames(frames[n].astype(np.float32), settings.pooling) for n in chosen}
    rng = np.random.default_rng(settings.seed)
    first = torch.from_numpy(start(pooled, known, settings))
    matrix = torch.nn.Parameter(first.clone())
    steps = min(settings.steps, -(-settings.passes * len(known) // settings.batch))
    advance(settings.steps - steps)
    optimizer = torch.optim.Adam([matrix], lr=settings.rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(_rate, steps=max(1, steps)))
    named = sorted(by_languages)
    often = np.array([len(by_languages[key]) for key in named]) / len(known)
    losses = []

    def side(some: Int[np.ndarray, "_B"]) -> tuple[torch.Tensor, list[int]]:
        """Frames as they are compared, one utterance behind the other, and their lengths."""
        kept = [_thinned(pooled[n], settings.drop, rng) for n in some.tolist()]
        made = torch.from_numpy(np.concatenate(kept)) @ matrix
        lengths = [len(x) for x in kept]
        return _with_position(made, lengths, settings.position), lengths

    for _ in range(steps):
        own = np.array(by_languages[named[rng.choice(len(named), p=often)]])
        batch = own[rng.permutation(len(own))[: settings.batch]]
        scores = batch_scores(*side(batch[:, 0]), *side(batch[:, 1])) / settings.temperature
        x, y = codes[batch[:, 0]], codes[batch[:, 1]]
        alike = (x[:, None] == x[None, :]) | (y[:, None] == y[None, :]) | (x[:, None] == y[None, :])
        np.fill_diagonal(alike, val=False)
        scores = scores.masked_fill(torch.from_numpy(alike), -torch.inf)
        right = torch.arange(len(batch))
        loss = (cross_entropy(scores, right) + cross_entropy(scores.T, right)) / 2
        optimizer.zero_grad()
        (loss + settings.decay * (matrix - first).square().sum()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        advance(1)
    tenth = max(1, steps // 10)
    about = {
        "settings": asdict(settings),
        "pairs": {"-".join(key): len(some) for key, some in sorted(by_languages.items())},
        "loss": [round(float(np.mean(some)), 4) for some in (losses[:tenth], losses[-tenth:])] if losses else [],
        "version": __version__,
    }
    seen = frozenset(sentence(groups[n]) for n in chosen)
    return Head(matrix.detach().numpy(), seen, about)


def _rate(step: int, steps: int) -> float:
    """Of the peak: up within a tenth of the steps, then down as a cosine."""
    return min(1.0, 10 * (step + 1) / steps) * (1 + math.cos(math.pi * step / steps)) / 2


def _thinned(frames: FrameArray, drop: float, rng: np.random.Generator) -> FrameArray:
    """Frames without a random share of them, two at least."""
    kept = rng.random(len(frames)) >= drop
    return frames[kept] if kept.sum() >= 2 else frames


def _with_position(x: torch.Tensor, lengths: Sequence[int], weight: float) -> torch.Tensor:
    """`features.with_position` of utterances one behind the other, differentiable, as unit rows."""
    unit = torch.nn.functional.normalize(x, dim=1)
    angle = torch.cat([torch.pi * torch.linspace(0, 1, n) for n in lengths])
    clock = weight**0.5 * torch.stack([angle.cos(), angle.sin()], 1)
    joined: torch.Tensor = torch.cat([unit, clock], 1) / (1 + weight) ** 0.5
    return joined
