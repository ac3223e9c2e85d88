"""Speech encoders: the protocol, the registry, and the pooling of frames."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float32

from interlingua.encoding.device import resolve_device
from interlingua.models.whisper import FRAMES_PER_SECOND
from interlingua.registry import Registry
from interlingua.types import FrameArray, FrameSpec, Samples

Encoded = tuple[Float32[np.ndarray, "T D"], int]
"""Frames of one utterance, before pooling, and how many of them carry speech."""


class SpeechEncoder(Protocol):
    """Audio -> frames.

    It may have a ``window``, the seconds that it encodes one by one: the pipeline then hands it long recordings in such
    pieces, in order, and joins their frames. Otherwise, or where that is None, recordings come whole.
    """

    @property
    def spec(self) -> FrameSpec:
        """Description of the frames before pooling (``pooling`` is 1)."""
        ...

    @property
    def dim(self) -> int:
        """D, the width of a frame."""
        ...

    @property
    def rate(self) -> float:
        """Frames per second."""
        ...

    @property
    def layers(self) -> int:
        """Number of layers to take frames from."""
        ...

    def encode(self, batch: Sequence[Samples]) -> list[Encoded]:
        """Frames of each recording, in order; an AudioError makes the pipeline retry each recording alone."""
        ...


class EncoderFactory(Protocol):
    """What the registry holds: called with the options of `interlingua encode`."""

    def __call__(
        self, model: str | None, *, context: str, layer: int | None, device: str, compute: str
    ) -> SpeechEncoder:
        """Load an encoder: ``model`` None is its default, ``context`` is ``speech``, ``full`` or ``speech+N``.

        Raises UsageError if it has no such layer (1-based), context or number format.
        """
        ...


ENCODERS: Registry[EncoderFactory] = Registry(
    "encoder",
    "encoders",
    {
        "whisper": "interlingua.encoding.whisper:load_encoder",
        "transformers": "interlingua.encoding.transformers:load_encoder",
    },
)
"""Speech encoders by name: ours, entry points ``interlingua.encoders``, or ``module:attribute``."""


def load_encoder(
    name: str, model: str | None, *, context: str, layer: int | None, device: str, compute: str
) -> SpeechEncoder:
    """An encoder by its name in `ENCODERS`; device and number format are the best ones where ``auto``."""
    where, how = resolve_device(device, compute)
    return ENCODERS[name](model, context=context, layer=layer, device=where, compute=how)


def by_length(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Indices grouped by similar length, each group padded to ``most`` at most, one longer item apart."""
    group: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if group and lengths[group[0]] * (len(group) + 1) > most:
            yield group
            group = []
        group.append(i)
    if group:
        yield group


def pooling_at(rate: float, pooling: int) -> int:
    """How many frames to average where ``rate`` come a second, to have as many as ``pooling`` leaves of Whisper's."""
    return max(1, round(pooling * rate / FRAMES_PER_SECOND))


def pool_frames(frames: FrameArray, pooling: int) -> FrameArray:
    """Mean of every ``pooling`` consecutive frames, (T, D) -> (ceil(T / pooling), D); the last group may be shorter."""
    if pooling == 1:
        return frames
    starts = np.arange(0, len(frames), pooling)
    sizes = np.minimum(pooling, len(frames) - starts)
    sums = np.add.reduceat(frames.astype(np.float32), starts, axis=0)
    return (sums / sizes[:, None]).astype(frames.dtype)
