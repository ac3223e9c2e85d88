"""What turns speech into frames: the protocol, the registry of encoders, and the pooling of their frames."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float32

from interlingua.registry import Registry
from interlingua.types import FrameArray, FrameSpec, Samples

Encoded = tuple[Float32[np.ndarray, "T D"], int]
"""Frames of one utterance, before pooling, and how many of them carry speech."""


class SpeechEncoder(Protocol):
    """Audio -> frames; all that is known of an encoder's frames comes from here."""

    @property
    def spec(self) -> FrameSpec:
        """What the frames will be, before pooling (``pooling`` is 1)."""
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
        """How many layers its frames may be taken from."""
        ...

    def encode(self, batch: Sequence[Samples]) -> list[Encoded]:
        """Frames of each recording, in the order given.

        Raises:
            AudioError: a recording can't be encoded; the others are tried alone then.
        """
        ...


class EncoderFactory(Protocol):
    """What the registry holds: called with the options of `interlingua encode`."""

    def __call__(
        self, model: str | None, *, context: str, layer: int | None, device: str, compute: str
    ) -> SpeechEncoder:
        """Load an encoder.

        Args:
            model: which weights; None: the encoder's own default.
            context: what surrounds the speech: ``speech``, ``full`` or ``speech+N``.
            layer: 1-based; None: the last.
            device: ``cpu`` or ``cuda``.
            compute: number format to work in.

        Raises:
            UsageError: it has no such layer, context or number format.
        """
        ...


ENCODERS: Registry[EncoderFactory] = Registry(
    "encoder", "encoders", {"whisper": "interlingua.encoding.whisper:load_encoder"}
)
"""Speech encoders by name: ours, entry points ``interlingua.encoders``, or ``module:attribute``."""


def pool_frames(frames: FrameArray, pooling: int) -> FrameArray:
    """Mean of every ``pooling`` consecutive frames, (T, D) -> (ceil(T / pooling), D); the last group may be shorter."""
    if pooling == 1:
        return frames
    starts = np.arange(0, len(frames), pooling)
    sizes = np.minimum(pooling, len(frames) - starts)
    sums = np.add.reduceat(frames.astype(np.float32), starts, axis=0)
    return (sums / sizes[:, None]).astype(frames.dtype)
