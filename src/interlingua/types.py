"""The records that the stages exchange, and the axis legend.

Axis names in array annotations, everywhere in the package:

====  =====================================================
B     batch
T     encoder frames (`FrameSpec.rate` a second before pooling)
D     model dimension (512 for Whisper-base)
N, M  utterances (N queries, M candidates)
S     audio samples (16 kHz)
F     mel feature frames (10 ms each)
====  =====================================================
"""

from dataclasses import dataclass, field
from typing import Literal

import msgspec
import numpy as np
from jaxtyping import Float, Float32

SAMPLE_RATE = 16_000  # Hz; every audio array in the package
WINDOW_SECONDS = 30  # Whisper's window: longer recordings can't be decoded as one

Samples = Float32[np.ndarray, "_S"]  # a leading underscore: each array of a call has its own size
"""Mono audio at 16 kHz, float32, nominally within [-1, 1]."""

FrameArray = Float[np.ndarray, "_T D"]
"""Encoder frames of one utterance, float16 or float32."""

Matrix = Float32[np.ndarray, "N M"]
"""Scores of N queries against M candidates; higher is more alike."""

StoreDtype = Literal["float16", "float32", "int8"]

Interval = tuple[float, float]
"""Lower and upper bound."""


class AudioRef(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Where an utterance's audio lies: a file, a file inside an archive, or a stretch of one (seconds).

    ``member``: name in a tar, tar.gz or zip file, or a parquet file's ``row=123``; see `interlingua.audio.archives`.
    """

    path: str
    offset: float | None = None
    duration: float | None = None
    member: str | None = None


class Utterance(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """One recording of one sentence.

    Attributes:
        id: unique within a manifest.
        audio: a relative path is relative to the manifest's folder.
        language: Whisper's code of the source language, or ISO 639 where Whisper has none.
        translations: target language -> reference translation.
        meaning: the sentence, verse or prompt that several utterances share.
        cluster: near-duplicate meanings share it; splits and resampling move whole clusters.
        split: train, dev, test or the corpus's own name.
        speaker: None where the corpus doesn't name one (never invented); likewise ``gender``.
        duration: seconds.
        extra: columns of one's own; an index keeps them, and searches can name them.
    """

    id: str
    audio: AudioRef
    language: str
    text: str | None = None
    translations: dict[str, str] = {}
    meaning: str | None = None
    cluster: str | None = None
    split: str | None = None
    speaker: str | None = None
    gender: str | None = None
    duration: float | None = None
    extra: dict[str, str] = {}

    @property
    def group(self) -> str:
        """Unit of resampling and splits: the cluster, else the meaning, else the utterance."""
        return self.cluster or self.meaning or self.id


@dataclass(frozen=True)
class FrameSpec:
    """What a frame store holds; a store refuses frames of any other kind.

    Attributes:
        model: alias, hub id or folder name.
        revision: of the weights: hub commit or SHA-256.
        layer: encoder layer, 1-based; the last one includes the final layer norm.
        context: ``speech``, ``full`` or ``speech+N`` (N seconds of silence behind the speech).
        pooling: encoder frames averaged into one stored frame (1 = none).
        compute: number format of the encoder; ``dtype`` is that of the stored frames.
        rate: encoder frames per second, before pooling.
    """

    model: str
    revision: str
    layer: int
    context: str
    pooling: int
    dtype: StoreDtype
    compute: str
    rate: float = 50.0

    @property
    def stored_rate(self) -> float:
        """Stored frames per second."""
        return self.rate / self.pooling


@dataclass(frozen=True, eq=False)
class Frames:
    """Encoder frames of one utterance, (T, D); retrieval reads the first ``n_speech``, decoding and training all T.

    ``utterance`` is the manifest's line, kept in the store; reading frames doesn't read it.
    """

    id: str
    values: FrameArray
    n_speech: int
    audio_hash: str = ""
    utterance: Utterance | None = None

    @property
    def speech(self) -> FrameArray:
        """The rows that carry speech, (n_speech, D)."""
        return self.values[: self.n_speech]


class Score(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A number with its 95% interval, its n and how it was made."""

    value: float
    ci: Interval | None = None
    n: int | None = None
    signature: str | None = None


class Difference(Score, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A paired difference of two scores, after minus before, with its two-sided p."""

    p_bootstrap: float | None = None
    p_randomisation: float | None = None


@dataclass(frozen=True)
class Hypothesis:
    """A system's output for one utterance.

    ``tokens`` exclude the prompt and the end; ``log_probability`` is the mean natural logarithm over them and the end.
    """

    id: str
    text: str
    tokens: list[int] = field(default_factory=list)
    log_probability: float | None = None
