"""Utterances -> encoder frames, batched, into a frame store.

What surrounds the speech decides what the frames are good for (measured in docs/encoding.md):

* ``speech``: the encoder sees the speech alone. About four times cheaper than the full window, and right for
  retrieval; a decoder that was not trained on it loops. Speech longer than Whisper's window is encoded
  window by window and the frames are joined.
* ``full``: the 30 s window that Whisper was trained on.
* ``speech+N``: the speech, then at least N seconds of silence, rounded up to a whole second so that
  utterances share batches; cut at 30 s. A few seconds give an untrained decoder most of what ``full`` does, at a
  fraction of the cost.
"""

import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch.nn.functional import gelu

from interlingua.audio import audio_hash, load_audio
from interlingua.encoding.store import FrameStore
from interlingua.errors import AudioError, StoreError, TooLongAudioError, UsageError
from interlingua.models import Whisper
from interlingua.progress import track
from interlingua.types import (
    FRAME_SAMPLES,
    FRAMES_PER_SECOND,
    SAMPLE_RATE,
    WINDOW_FRAMES,
    WINDOW_SECONDS,
    FrameArray,
    Frames,
    FrameSpec,
    Samples,
    StoreDtype,
    Utterance,
)

Encoded = tuple[Float32[np.ndarray, "T D"], int]
"""Frames of one utterance, before pooling, and how many of them carry speech."""

CHUNK_UTTERANCES = 64  # utterances per commit to the store: what a killed run loses at most


@dataclass(frozen=True)
class Context:
    """How much of Whisper's window surrounds the speech: ``speech``, ``full`` or ``speech+N``."""

    kind: Literal["speech", "full", "padded"]
    silence_seconds: int = 0

    @classmethod
    def parse(cls, text: str) -> "Context":
        """Read a ``--context`` value.

        Raises:
            UsageError: it is none of ``speech``, ``full``, ``speech+N`` with 1 <= N < 30.
        """
        if text in ("speech", "full"):
            return cls(text)  # type: ignore[arg-type]  # narrowed by the line above
        match = re.fullmatch(r"speech\+(\d{1,2})", text)
        if match and 1 <= int(match[1]) < WINDOW_SECONDS:
            return cls("padded", int(match[1]))
        raise UsageError(f"--context {text!r}: use speech, full or speech+N with N from 1 to 29 seconds")

    def __str__(self) -> str:
        return f"speech+{self.silence_seconds}" if self.kind == "padded" else self.kind

    def total_frames(self, n_speech: int) -> int:
        """Frames to encode for ``n_speech`` frames of speech (n_speech <= 1500)."""
        if self.kind == "speech":
            return n_speech
        if self.kind == "full":
            return WINDOW_FRAMES
        seconds = -(-n_speech // FRAMES_PER_SECOND) + self.silence_seconds
        return min(seconds, WINDOW_SECONDS) * FRAMES_PER_SECOND


class Encoder(Protocol):
    """Anything that turns audio into frames: Whisper first, other speech encoders can stand in."""

    @property
    def spec(self) -> FrameSpec:
        """What the frames will be, before pooling (``pooling`` is 1)."""
        ...

    @property
    def dim(self) -> int:
        """D, the width of a frame."""
        ...

    def encode(self, batch: Sequence[Samples]) -> list[Encoded]:
        """Frames of each recording, in the order given."""
        ...


class WhisperEncoder:
    """Whisper's encoder at any layer and with any audio context.

    Args:
        whisper: the loaded model.
        context: see the module's docstring.
        layer: encoder layer, 1-based; None is the last one, which includes the final layer norm
            (lower layers give the residual stream as it is).
        max_batch_frames: padded frames per forward pass; bounds memory.
    """

    def __init__(
        self,
        whisper: Whisper,
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
        """What the frames are."""
        return FrameSpec(
            model=self._whisper.model_name,
            revision=self._whisper.revision,
            layer=self._layer,
            context=str(self._context),
            pooling=1,
            dtype="float16",
            compute=str(self._whisper.model.dtype).removeprefix("torch."),
        )

    @property
    def dim(self) -> int:
        """D, the model dimension."""
        return self._whisper.dim

    def encode(self, batch: Sequence[Samples]) -> list[Encoded]:
        """Encode recordings in batches of similar length; the result keeps the order given.

        Raises:
            TooLongAudioError: a recording exceeds the 30 s window and the context isn't ``speech``.
        """
        windows: list[tuple[Samples, int]] = []  # audio padded to whole frames, frames of speech in it
        owners: list[int] = []
        for i, samples in enumerate(batch):
            for window in self._windows(samples):
                windows.append(window)
                owners.append(i)
        encoded: list[FrameArray | None] = [None] * len(windows)
        for indices in self._batches([len(w) // FRAME_SAMPLES for w, _ in windows]):
            states = self._forward([windows[i][0] for i in indices])
            for i, frames in zip(indices, states, strict=True):
                encoded[i] = frames
        result: list[Encoded] = []
        for i in range(len(batch)):
            mine = [j for j, owner in enumerate(owners) if owner == i]
            parts = [encoded[j] for j in mine]
            result.append((np.concatenate(parts), sum(windows[j][1] for j in mine)))  # type: ignore[arg-type]
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

    def _batches(self, lengths: Sequence[int]) -> Iterable[list[int]]:
        """Indices grouped by similar length, each group within the budget of padded frames."""
        group: list[int] = []
        for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
            if group and lengths[group[0]] * (len(group) + 1) > self._max_batch_frames:
                yield group
                group = []
            group.append(i)
        if group:
            yield group

    def _forward(self, audios: Sequence[Samples]) -> list[FrameArray]:
        model = self._whisper.model
        parameter = next(model.parameters())
        extract = self._whisper.feature_extractor
        mels = [
            extract(a, sampling_rate=SAMPLE_RATE, padding=False, truncation=False).input_features[0] for a in audios
        ]
        lengths = [m.shape[-1] // 2 for m in mels]
        longest = max(lengths)
        features = np.stack([np.pad(m, ((0, 0), (0, 2 * longest - m.shape[-1]))) for m in mels])
        with torch.inference_mode():
            states = encoder_states(
                model,
                torch.from_numpy(features).to(parameter.device, parameter.dtype),
                torch.tensor(lengths, device=parameter.device),
                self._layer,
            )
            arrays = states.float().cpu().numpy()
        return [a[:n] for a, n in zip(arrays, lengths, strict=True)]


def encoder_states(
    model: Any, features: Float[torch.Tensor, "B mels F"], lengths: Int[torch.Tensor, "B"], layer: int
) -> Float[torch.Tensor, "B T D"]:
    """Whisper's encoder on log-mel windows of any length, padded to the longest: (B, mels, 2T) -> (B, T, D).

    Equals transformers' own forward at full length, and doesn't change with padding: padded frames are zeroed
    between the convolutions (as the convolution's own border is) and masked in attention.

    Args:
        model: transformers' WhisperForConditionalGeneration; supplies the weights.
        features: (B, n_mels, 2T) log-mel features, zero-padded behind each utterance.
        lengths: (B,) frames of each utterance; rows behind them come back as whatever they are.
        layer: 1-based; the last layer includes the final layer norm.
    """
    encoder = model.model.encoder
    n_frames = features.shape[-1] // 2
    ragged = bool((lengths < n_frames).any())
    x: torch.Tensor = gelu(encoder.conv1(features))
    if ragged:
        inside = torch.arange(2 * n_frames, device=x.device) < 2 * lengths[:, None]
        x = x * inside[:, None].to(x.dtype)
    x = gelu(encoder.conv2(x)).transpose(1, 2)
    x = x + encoder.embed_positions.weight[:n_frames].to(x.dtype)
    mask = None
    if ragged:
        behind = torch.arange(n_frames, device=x.device) >= lengths[:, None]
        mask = torch.zeros(len(lengths), 1, 1, n_frames, dtype=x.dtype, device=x.device)
        mask = mask.masked_fill(behind[:, None, None], torch.finfo(x.dtype).min)
        mask = mask.expand(-1, 1, n_frames, -1)
    for block in encoder.layers[:layer]:
        x = block(x, mask)
    if layer == len(encoder.layers):
        x = encoder.layer_norm(x)
    return x


def best_device() -> Literal["cuda", "cpu"]:
    """The GPU if there is one, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def best_compute(device: str = "cpu") -> Literal["float32", "bfloat16"]:
    """bfloat16 where the device multiplies it natively, else float32."""
    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if native else "float32"


def pool_frames(frames: FrameArray, pooling: int) -> FrameArray:
    """Mean of every ``pooling`` consecutive frames, (T, D) -> (ceil(T / pooling), D).

    The last group may be shorter.
    """
    if pooling == 1:
        return frames
    starts = np.arange(0, len(frames), pooling)
    sizes = np.minimum(pooling, len(frames) - starts)
    sums = np.add.reduceat(frames.astype(np.float32), starts, axis=0)
    return (sums / sizes[:, None]).astype(frames.dtype)


@dataclass(frozen=True)
class EncodeReport:
    """What `encode_manifest` did: utterances encoded, found in the store, and failed (id -> why)."""

    encoded: int
    present: int
    failed: dict[str, str]


def encode_manifest(
    utterances: Sequence[Utterance],
    encoder: Encoder,
    store_path: str | Path,
    *,
    pooling: int = 1,
    dtype: StoreDtype = "float16",
    label: str = "encoding",
) -> tuple[FrameStore, EncodeReport]:
    """Encode what the store doesn't hold yet, and return the store.

    Every `CHUNK_UTTERANCES` utterances are committed together: a run that is killed loses no more than that,
    and a second run over the same manifest does nothing. An utterance whose audio changed is encoded anew; one
    that fails now loses the frames that it had. A pooled store keeps the speech frames only: pooling is for
    retrieval, where the context isn't read.

    Args:
        utterances: what to encode.
        encoder: makes the frames.
        store_path: the store's folder; created if absent.
        pooling: frames averaged into one (1 = none).
        dtype: of the stored frames.
        label: shown beside the progress bar.

    Raises:
        StoreMismatchError: the store holds frames of another kind.
        UsageError: pooling below 1.
        StoreError: the frames won't fit on the disk.
    """
    if pooling < 1:
        raise UsageError(f"--pool {pooling}: use 1 (no pooling) or more")
    spec = replace(encoder.spec, pooling=pooling, dtype=dtype)
    if not Path(store_path).exists():  # before anything lies there
        require_space(store_path, estimate_bytes([u for u in utterances if seconds_known(u)], spec, encoder.dim))
    store = FrameStore.open_or_create(store_path, spec, encoder.dim)
    held = store.hashes()
    failed: dict[str, str] = {}
    todo: list[tuple[Utterance, str]] = []
    for utterance in utterances:
        try:
            digest = audio_hash(utterance.audio)
        except AudioError as e:
            failed[utterance.id] = str(e)
            continue
        if held.get(utterance.id) != digest:
            todo.append((utterance, digest))
    require_space(store_path, estimate_bytes([u for u, _ in todo if seconds_known(u)], spec, encoder.dim))
    present = len(utterances) - len(todo) - len(failed)
    encoded = 0
    with track(len(todo), label) as advance:
        for start in range(0, len(todo), CHUNK_UTTERANCES):
            chunk = todo[start : start + CHUNK_UTTERANCES]
            frames = _encode_chunk(chunk, encoder, pooling, dtype, failed)
            store.write(frames)
            encoded += len(frames)
            advance(len(chunk))
    store.delete(list(failed))
    return store, EncodeReport(encoded, present, failed)


def estimate_bytes(utterances: Sequence[Utterance], spec: FrameSpec, dim: int) -> int:
    """Disk that the frames of utterances will take; those of unknown duration count as a whole window.

    Args:
        utterances: durations are read from the records, not from the files.
        spec: context, pooling and number format of the frames.
        dim: D, the width of a frame.
    """
    context, size = Context.parse(spec.context), {"int8": 1, "float16": 2, "float32": 4}[spec.dtype]
    frames = 0
    for u in utterances:
        known = u.duration if u.duration is not None else u.audio.duration
        n_speech = round((WINDOW_SECONDS if known is None else known) * FRAMES_PER_SECOND)
        frames += -(-n_speech // spec.pooling) if spec.pooling > 1 else max(n_speech, context.total_frames(n_speech))
    return frames * (dim * size + (4 if spec.dtype == "int8" else 0))


def seconds_known(utterance: Utterance) -> bool:
    """Whether the record says how long an utterance is."""
    return utterance.duration is not None or utterance.audio.duration is not None


def free_bytes(path: str | Path) -> int | None:
    """Room on the disk that a path lies on; None for an object store."""
    if "://" in str(path):
        return None
    place = Path(path).resolve()
    return shutil.disk_usage(next(p for p in (place, *place.parents) if p.exists())).free


def require_space(path: str | Path, need: int) -> None:
    """Raise StoreError unless so many bytes fit where a store lies."""
    free = free_bytes(path)
    if free is not None and need > free:
        raise StoreError(
            f"{path}: the frames need about {need / 1e9:,.1f} GB, {free / 1e9:,.1f} GB are free; use a "
            "shorter --context, --dtype int8 (half of float16), or `interlingua finetune` without --store, which "
            "encodes on the fly"
        )


def _encode_chunk(
    chunk: Sequence[tuple[Utterance, str]],
    encoder: Encoder,
    pooling: int,
    dtype: StoreDtype,
    failed: dict[str, str],
) -> list[Frames]:
    ready: list[tuple[Utterance, str, Samples]] = []
    for utterance, digest in chunk:
        try:
            ready.append((utterance, digest, load_audio(utterance.audio)))
        except AudioError as e:
            failed[utterance.id] = str(e)
    outputs: list[Encoded | None]
    try:
        outputs = [*encoder.encode([samples for _, _, samples in ready])]
    except AudioError:  # find the culprits one by one; the others are kept
        outputs = [_encode_one(utterance, samples, encoder, failed) for utterance, _, samples in ready]
    result = []
    for (utterance, digest, _), output in zip(ready, outputs, strict=True):
        if output is None:
            continue
        values, n_speech = output
        if pooling > 1:
            values = pool_frames(values[:n_speech], pooling)
            n_speech = len(values)
        stored = values.astype("float32" if dtype == "float32" else "float16")
        if not np.isfinite(stored).all():
            failed[utterance.id] = f"{utterance.audio.path}: its frames overflow; encode with --compute float32"
            continue
        result.append(Frames(utterance.id, stored, n_speech, digest))
    return result


def _encode_one(utterance: Utterance, samples: Samples, encoder: Encoder, failed: dict[str, str]) -> Encoded | None:
    try:
        return encoder.encode([samples])[0]
    except AudioError as e:
        failed[utterance.id] = f"{utterance.audio.path}: {e}"
        return None
