"""Whisper's encoder at any layer, with three contexts around the speech (measured in docs/encoding.md).

* ``speech``: the speech alone, window by window: about four times cheaper than the full window, and right for
  retrieval; a decoder that was not trained on it loops.
* ``full``: the 30 s window that Whisper was trained on.
* ``speech+N``: the speech, then at least N seconds of silence, rounded up to a whole second so that
  utterances share batches; cut at 30 s. A few seconds give an untrained decoder most of what ``full`` does.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch.nn.functional import gelu

from interlingua.encoding.encoder import Encoded, by_length
from interlingua.errors import TooLongAudioError, UsageError
from interlingua.models import load_whisper
from interlingua.models.whisper import FRAME_SAMPLES, FRAMES_PER_SECOND, WINDOW_FRAMES
from interlingua.types import SAMPLE_RATE, WINDOW_SECONDS, FrameArray, FrameSpec, Samples


@dataclass(frozen=True)
class Context:
    """How much of Whisper's window surrounds the speech: ``speech``, ``full`` or ``speech+N``."""

    kind: Literal["speech", "full", "padded"]
    silence_seconds: int = 0

    @classmethod
    def parse(cls, text: str) -> "Context":
        """Read a ``--context`` value; raises UsageError unless ``speech``, ``full`` or ``speech+N``, 1 <= N < 30."""
        if text in ("speech", "full"):
            return cls(text)  # type: ignore[arg-type]  # narrowed by the line above
        match = re.fullmatch(r"speech\+(\d{1,2})", text)
        if match and 1 <= int(match[1]) < WINDOW_SECONDS:
            return cls("padded", int(match[1]))
        raise UsageError(f"--context {text!r}: use speech, full or speech+N with N from 1 to 29 seconds")

    def __str__(self) -> str:
        return f"speech+{self.silence_seconds}" if self.kind == "padded" else self.kind

    def total_frames(self, n_speech: int, rate: float = FRAMES_PER_SECOND) -> int:
        """Frames to encode for ``n_speech`` frames of speech, at most a window's; ``rate`` is frames per second."""
        if self.kind == "speech":
            return n_speech
        whole = WINDOW_SECONDS if self.kind == "full" else math.ceil(n_speech / rate) + self.silence_seconds
        return round(min(whole, WINDOW_SECONDS) * rate)


class Tower(Protocol):
    """What `WhisperEncoder` reads of a model: a `Whisper`, or another with an encoder of its build."""

    @property
    def encoder(self) -> Any:
        """transformers' module."""
        ...

    @property
    def feature_extractor(self) -> Any:
        """transformers' log-mel."""
        ...

    @property
    def model_name(self) -> str:
        """Hub id or folder name."""
        ...

    @property
    def revision(self) -> str:
        """Of the weights."""
        ...

    @property
    def dim(self) -> int:
        """D."""
        ...

    @property
    def n_layers(self) -> int:
        """Encoder layers."""
        ...


class WhisperEncoder:
    """Whisper's encoder at any layer and with any audio context.

    Layers count from 1; the last (None) includes the final layer norm, lower ones give the residual stream as it is.
    ``max_batch_frames``, the padded frames per forward pass, bounds memory.
    """

    def __init__(
        self,
        whisper: Tower,
        *,
        context: str | Context = "speech",
        layer: int | None = None,
        max_batch_frames: int = 8 * WINDOW_FRAMES,
    ) -> None:
        n_layers = whisper.n_layers
        if layer is not None and not 1 <= layer <= n_layers:
            raise UsageError(f"--layer {layer}: {whisper.model_name} has encoder layers 1 to {n_layers}")
        self._whisper = whisper
        self._layer = layer or n_layers
        self._context = Context.parse(context) if isinstance(context, str) else context
        self._max_batch_frames = max_batch_frames

    @property
    def spec(self) -> FrameSpec:
        """Description of the frames."""
        return FrameSpec(
            model=self._whisper.model_name,
            revision=self._whisper.revision,
            layer=self._layer,
            context=str(self._context),
            pooling=1,
            dtype="float16",
            compute=str(self._whisper.encoder.dtype).removeprefix("torch."),
            rate=self.rate,
        )

    @property
    def dim(self) -> int:
        """D, the model dimension."""
        return self._whisper.dim

    @property
    def rate(self) -> float:
        """50 frames per second."""
        return float(FRAMES_PER_SECOND)

    @property
    def window(self) -> float | None:
        """Whisper's window, where longer recordings are taken at all."""
        return float(WINDOW_SECONDS) if self._context.kind == "speech" else None

    @property
    def layers(self) -> int:
        """Encoder layers."""
        return self._whisper.n_layers

    def encode(self, batch: Sequence[Samples]) -> list[Encoded]:
        """Encode recordings in batches of similar length; the result keeps the order given.

        Raises TooLongAudioError beyond the 30 s window, unless the context is ``speech``.
        """
        windows: list[tuple[Samples, int]] = []  # audio padded to whole frames, frames of speech in it
        owners: list[int] = []
        for i, samples in enumerate(batch):
            for window in self._windows(samples):
                windows.append(window)
                owners.append(i)
        encoded: list[FrameArray | None] = [None] * len(windows)
        for indices in by_length([len(w) // FRAME_SAMPLES for w, _ in windows], self._max_batch_frames):
            states = self._forward([windows[i][0] for i in indices])
            for i, frames in zip(indices, states, strict=True):
                encoded[i] = frames
        result: list[Encoded] = []
        for i in range(len(batch)):
            own = [j for j, owner in enumerate(owners) if owner == i]
            parts = [encoded[j] for j in own]
            result.append((np.concatenate(parts), sum(windows[j][1] for j in own)))  # type: ignore[arg-type]
        return result

    def _windows(self, samples: Samples) -> list[tuple[Samples, int]]:
        n_speech = max(1, -(-len(samples) // FRAME_SAMPLES))
        if n_speech > WINDOW_FRAMES and self._context.kind != "speech":
            raise TooLongAudioError(
                f"{len(samples) / SAMPLE_RATE:.1f} s of speech don't fit into the {WINDOW_SECONDS} s window "
                f"of --context {self._context}; cut it into shorter utterances, or retrieve with --context speech"
            )
        windows = []
        for start in range(0, n_speech, WINDOW_FRAMES):
            speech = min(WINDOW_FRAMES, n_speech - start)
            piece = samples[start * FRAME_SAMPLES : (start + speech) * FRAME_SAMPLES]
            total = self._context.total_frames(speech) * FRAME_SAMPLES
            windows.append((np.pad(piece, (0, total - len(piece))), speech))
        return windows

    def _forward(self, audios: Sequence[Samples]) -> list[FrameArray]:
        encoder = self._whisper.encoder
        parameter = next(encoder.parameters())
        extract = self._whisper.feature_extractor
        mels = [
            extract(a, sampling_rate=SAMPLE_RATE, padding=False, truncation=False).input_features[0] for a in audios
        ]
        lengths = [m.shape[-1] // 2 for m in mels]
        longest = max(lengths)
        features = np.stack([np.pad(m, ((0, 0), (0, 2 * longest - m.shape[-1]))) for m in mels])
        with torch.inference_mode():
            states = encoder_states(
                encoder,
                torch.from_numpy(features).to(parameter.device, parameter.dtype),
                torch.tensor(lengths, device=parameter.device),
                self._layer,
            )
            arrays = states.float().cpu().numpy()
        return [a[:n] for a, n in zip(arrays, lengths, strict=True)]


def load_encoder(model: str | None, *, context: str, layer: int | None, device: str, compute: str) -> WhisperEncoder:
    """The registry's Whisper encoder (`interlingua.encoding.encoder.EncoderFactory`); the default is Whisper-base."""
    parsed = Context.parse(context)  # before the model is loaded, perhaps downloaded
    return WhisperEncoder(load_whisper(model or "base", dtype=compute, device=device), context=parsed, layer=layer)


def encoder_states(
    encoder: Any, features: Float[torch.Tensor, "B mels F"], lengths: Int[torch.Tensor, "B"], layer: int
) -> Float[torch.Tensor, "B T D"]:
    """Whisper's encoder on log-mel windows of any length, zero-padded to the longest: (B, mels, 2T) -> (B, T, D).

    Equals transformers' own forward at full length, and doesn't change with padding: padded frames are zeroed
    between the convolutions (as the convolution's own border is) and masked in attention.

    Args:
        encoder: transformers' WhisperEncoder, or one of its build.
        features: (B, mels, 2T) log-mel.
        lengths: (B,) frames of each utterance; rows behind them come back undefined.
        layer: 1-based; the last layer includes the final layer norm.
    """
    n_frames = features.shape[-1] // 2
    ragged = bool((lengths < n_frames).any())
    x: torch.Tensor = gelu(encoder.conv1(features))
    if ragged:
        inside = torch.arange(2 * n_frames, device=x.device) < 2 * lengths[:, None]
        x = x * inside[:, None].to(x.dtype)
    x = gelu(encoder.conv2(x)).transpose(1, 2)
    x = x + encoder.embed_positions.weight[:n_frames].to(x.dtype)
    x = through_layers(x, lengths, encoder.layers[:layer])
    if layer == len(encoder.layers):
        x = encoder.layer_norm(x)
    return x


def through_layers(
    x: Float[torch.Tensor, "B T D"], lengths: Int[torch.Tensor, "B"], layers: Iterable[Any]
) -> Float[torch.Tensor, "B T D"]:
    """The residual stream after some of the encoder's layers; frames behind ``lengths`` are masked in attention."""
    n_frames = x.shape[1]
    mask = None
    if bool((lengths < n_frames).any()):
        behind = torch.arange(n_frames, device=x.device) >= lengths[:, None]
        mask = torch.zeros(len(lengths), 1, 1, n_frames, dtype=x.dtype, device=x.device)
        mask = mask.masked_fill(behind[:, None, None], torch.finfo(x.dtype).min)
        mask = mask.expand(-1, 1, n_frames, -1)
    for layer in layers:
        x = layer(x, mask)
    return x
