"""The speech encoders of transformers: one adapter, and a table of their families.

A checkpoint's ``config.json`` names its family. Features are extracted of each recording alone, with the checkpoint's
own extractor: what they are normalised by is never another's, nor padding's. Whisper, and Voxtral's encoder, which has
its build, are in `encoding.whisper`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int
from torch.nn.utils.rnn import pad_sequence

from interlingua.encoding.encoder import Encoded, SpeechEncoder, by_length
from interlingua.encoding.whisper import Context, WhisperEncoder
from interlingua.errors import ModelFormatError, UsageError
from interlingua.models import ALIASES, ModelSource, load_whisper, quiet, resolve
from interlingua.models.hub import (
    SIDECARS,
    WHISPER,
    Family,
    check_device,
    folder_name,
    load_pretrained,
    one_line,
    weight_files,
)
from interlingua.models.settings import read_json
from interlingua.types import SAMPLE_RATE, WINDOW_SECONDS, FrameArray, FrameSpec, Samples

LEAST_SAMPLES = SAMPLE_RATE // 10  # of a recording: shorter ones are padded, some families would make no frame of them
MOST_SECONDS = 64.0  # of padded audio in a forward pass: it bounds memory

Lengths = Int[torch.Tensor, "B"]


def _convolved(model: Any, lengths: Lengths) -> Lengths:
    found: Lengths = model._get_feat_extract_output_lengths(lengths)
    return found


def _adapted(model: Any, lengths: Lengths) -> Lengths:
    """Behind SeamlessM4T's adapter, which halves thrice."""
    for layer in model.adapter.layers if model.adapter is not None else ():
        lengths = (lengths + 2 * (layer.kernel_size // 2) - layer.kernel_size) // layer.stride + 1
    return lengths


def _subsampled(model: Any, lengths: Lengths) -> Lengths:
    found: Lengths = model._get_subsampling_output_length(lengths)
    return found


def _chunked(model: Any, lengths: Lengths) -> Lengths:
    """Of Qwen3-ASR, whose convolutions take a second at a time."""
    chunk = 2 * model.n_window
    whole: Lengths = model._post_cnn_length(torch.full_like(lengths, chunk))
    rest: Lengths = model._post_cnn_length(lengths % chunk)
    made: Lengths = lengths // chunk * whole + rest
    return made


@dataclass(frozen=True)
class SpeechFamily:
    """Encoders of one build.

    Attributes:
        kind: transformers' class, with its module where it isn't exported.
        rate: frames per second.
        window: seconds that are encoded as one.
        frames: number of frames of the last layer, by that of unmasked input steps.
        config: attribute of the checkpoint's configuration that is the encoder's, "" if all of it is.
        weights: pattern of what stands before the weights' names in a whole checkpoint, "" if transformers knows.
        last_rate: frames per second behind an adapter, which then counts as the last layer.
        alike: whether only recordings of one length share a batch, since padding would change a result.
        packed: whether time comes last in what goes in, and the frames of a batch come out in one row.
    """

    kind: str
    rate: float
    window: float
    frames: Callable[[Any, Lengths], Lengths]
    config: str = ""
    weights: str = ""
    last_rate: float | None = None
    alike: bool = False
    packed: bool = False


_WAV2VEC2 = SpeechFamily("Wav2Vec2Model", 50, 32, _convolved)
_PARAKEET = SpeechFamily("ParakeetEncoder", 12.5, 40, _subsampled, "encoder_config", r"(?:model\.)?encoder\.")
_TOWER = ("audio_config", r"(?:model\.)?audio_tower\.")

FAMILIES: dict[str, SpeechFamily] = {
    "wav2vec2": _WAV2VEC2,
    "hubert": replace(_WAV2VEC2, kind="HubertModel"),
    "wav2vec2-bert": replace(_WAV2VEC2, kind="Wav2Vec2BertModel"),
    "seamless_m4t_v2": SpeechFamily(
        "models.seamless_m4t_v2.modeling_seamless_m4t_v2.SeamlessM4Tv2SpeechEncoder",
        50,
        32,
        _adapted,
        weights=r"speech_encoder\.",
        last_rate=6.25,
        alike=True,
    ),
    "parakeet_encoder": replace(_PARAKEET, config=""),
    "parakeet_ctc": _PARAKEET,
    "parakeet_rnnt": _PARAKEET,
    "parakeet_tdt": _PARAKEET,
    "canary": _PARAKEET,
    "qwen3_asr": SpeechFamily("Qwen3ASREncoder", 13, 32, _chunked, *_TOWER, packed=True),
    "voxtral": SpeechFamily("VoxtralEncoder", 50, WINDOW_SECONDS, _convolved, *_TOWER),
}
"""Value of ``model_type`` in ``config.json`` -> its family."""


class TransformersEncoder:
    """An encoder of `FAMILIES` at any layer.

    Layers count from 1; the last (None) includes the final norm and adapter, lower ones give the residual stream.
    """

    def __init__(
        self, model: Any, extractor: Any, source: ModelSource, family: SpeechFamily, *, layer: int | None = None
    ) -> None:
        self._model, self._extract, self._source, self._family = model, extractor, source, family
        self._parts = getattr(model, "encoder", model)  # where the layers are
        self.layers = len(self._parts.layers) + (family.last_rate is not None)
        if layer is not None and not 1 <= layer <= self.layers:
            raise UsageError(f"--layer {layer}: {source.name} has encoder layers 1 to {self.layers}")
        self._layer = layer or self.layers
        self._parts.layers = self._parts.layers[: self._layer]
        last = self._layer == self.layers
        self.rate = (family.last_rate if last else None) or family.rate
        self.window = family.window
        grouped = getattr(model.config, "feat_extract_norm", "") == "group"  # normalises over time, padding included
        self._alike = family.alike or grouped
        self._reached: list[Any] = []
        if not last:
            self._parts.layers[-1].register_forward_hook(lambda module, given, made: self._reached.append(made))
        self.dim = self._probed()

    @property
    def spec(self) -> FrameSpec:
        """Description of the frames."""
        return FrameSpec(
            model=self._source.name,
            revision=self._source.revision,
            layer=self._layer,
            context="speech",
            pooling=1,
            dtype="float16",
            compute=str(self._model.dtype).removeprefix("torch."),
            rate=self.rate,
        )

    def encode(self, batch: Sequence[Samples]) -> list[Encoded]:
        """Encode recordings, in batches of similar length; the result keeps the order given.

        Those longer than the window are encoded window by window.
        """
        size = round(self.window * SAMPLE_RATE)
        pieces = [(i, s[start : start + size]) for i, s in enumerate(batch) for start in range(0, len(s), size)]
        made: list[FrameArray] = self._encoded([piece for _, piece in pieces])
        whole = round(self.window * self.rate)
        joined: list[list[FrameArray]] = [[] for _ in batch]
        for (i, piece), frames in zip(pieces, made, strict=True):
            lacking = max(0, whole - len(frames)) if len(piece) == size else 0  # a convolution's border, of a window
            joined[i].append(np.pad(frames, ((0, lacking), (0, 0)), mode="edge"))
        return [(frames := np.concatenate(parts), len(frames)) for parts in joined]

    def _encoded(self, pieces: Sequence[Samples]) -> list[FrameArray]:
        features = [self._features(piece) for piece in pieces]
        result: dict[int, FrameArray] = {}
        for chosen in by_length([max(len(p), LEAST_SAMPLES) for p in pieces], round(MOST_SECONDS * SAMPLE_RATE)):
            groups: dict[tuple[int, int] | None, list[int]] = {}
            for i in chosen:
                values, mask = features[i]
                groups.setdefault((len(values), int(mask.sum())) if self._alike else None, []).append(i)
            for group in groups.values():
                result.update(zip(group, self._forward([features[i] for i in group]), strict=True))
        return [result[i] for i in range(len(pieces))]

    def _features(self, samples: Samples) -> tuple[torch.Tensor, torch.Tensor]:
        """Input steps of one recording, time first, and which of them count."""
        padded = np.pad(samples, (0, max(0, LEAST_SAMPLES - len(samples))))
        found = self._extract(
            padded, sampling_rate=SAMPLE_RATE, padding=True, return_attention_mask=True, return_tensors="pt"
        )
        values = found[self._model.main_input_name][0]
        values = values.T if self._family.packed else values
        return values, found["attention_mask"][0].long()

    def _forward(self, features: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> list[FrameArray]:
        model = self._model
        values = pad_sequence([v for v, _ in features], batch_first=True).to(model.device, model.dtype)
        mask = pad_sequence([m for _, m in features], batch_first=True).to(model.device)
        packed = self._family.packed
        with torch.inference_mode():
            self._reached.clear()
            if packed:
                made = model(values.transpose(1, 2).contiguous(), input_features_mask=mask).last_hidden_state
            else:
                made = model(values, attention_mask=mask).last_hidden_state
            lengths = mask.sum(dim=1)
            if self._reached:
                made = self._reached[0][0] if isinstance(self._reached[0], tuple) else self._reached[0]
            if not self._reached or self._family.last_rate is None:  # else the adapter is still to come
                lengths = self._family.frames(model, lengths)
            sizes = [int(n) for n in lengths]
            rows = torch.split(made, sizes) if packed else [m[:n] for m, n in zip(made, sizes, strict=True)]
            return [r.float().cpu().numpy() for r in rows]

    def _probed(self) -> int:
        """The width of the frames of a second of silence; raises ModelFormatError if there are none, or too many."""
        try:
            ((frames, n),) = self.encode([np.zeros(SAMPLE_RATE, np.float32)])
        except Exception as error:  # an extractor of another checkpoint fails in whatever layer it reaches
            raise ModelFormatError(
                f"{self._source.path}: the model can't encode what its feature extractor makes ({one_line(error)}); "
                "take all files of one checkpoint"
            ) from error
        if abs(n - self.rate) > 2:
            raise ModelFormatError(
                f"{self._source.path}: {n} frames of a second, not {self.rate:g}; its convolutions are no "
                f"{self._family.kind}'s that is known"
            )
        return int(frames.shape[1])


@dataclass(frozen=True, eq=False)
class _Tower:
    """An encoder of Whisper's build, as `WhisperEncoder` takes it."""

    encoder: Any
    feature_extractor: Any
    source: ModelSource

    @property
    def model_name(self) -> str:
        return self.source.name

    @property
    def revision(self) -> str:
        return self.source.revision

    @property
    def dim(self) -> int:
        return int(self.encoder.config.d_model)

    @property
    def n_layers(self) -> int:
        return len(self.encoder.layers)


def load_encoder(model: str | None, *, context: str, layer: int | None, device: str, compute: str) -> SpeechEncoder:
    """The registry's encoder of transformers (`interlingua.encoding.encoder.EncoderFactory`), Whisper included.

    Raises ModelNotFoundError or ModelFormatError if no source has the model, or it is no speech encoder.
    """
    if model is None:
        raise UsageError("--encoder transformers: name a model, such as --model facebook/w2v-bert-2.0")
    kept = Context.parse(context)
    check_device(device)
    source = resolve(model, family=SPEECH)
    name = _model_type(source.path)
    if name not in FAMILIES:
        return WhisperEncoder(load_whisper(source, dtype=compute, device=device), context=kept, layer=layer)
    family = FAMILIES[name]
    if name != "voxtral" and kept.kind != "speech":
        raise UsageError(f"--context {context}: {source.name} encodes speech alone; use --context speech")
    with quiet():
        loaded, extractor = _load(source, family, getattr(torch, compute))
    loaded.to(device).eval()
    if name == "voxtral":
        return WhisperEncoder(_Tower(loaded, extractor, source), context=kept, layer=layer)
    return TransformersEncoder(loaded, extractor, source, family, layer=layer)


def cached_encoders() -> list[str]:
    """Hub ids of the speech encoders in the hub cache, Whispers included."""
    from huggingface_hub import constants

    found = set()
    for config in Path(constants.HF_HUB_CACHE).glob("models--*/snapshots/*/config.json"):
        try:
            if _model_type(config.parent) in (*FAMILIES, "whisper"):
                found.add(folder_name(config.parent))
        except ModelFormatError:  # of a model of another kind
            continue
    return sorted(found)


def _load(source: ModelSource, family: SpeechFamily, dtype: torch.dtype) -> tuple[Any, Any]:
    """The encoder and its feature extractor; raises ModelFormatError."""
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(source.path, local_files_only=True)
        extractor = transformers.AutoFeatureExtractor.from_pretrained(source.path, local_files_only=True)
    except Exception as error:  # each config and extractor class checks in its own way
        raise ModelFormatError(
            f"{source.path}: config.json or preprocessor_config.json can't be read ({one_line(error)}); fetch or copy "
            "the model again"
        ) from error
    if family.config:
        config = getattr(config, family.config)
    mapping = {"key_mapping": {f"^{family.weights}": ""}} if family.weights else {}
    module, _, kind = f"transformers.{family.kind}".rpartition(".")
    return load_pretrained(
        getattr(import_module(module), kind), source.path, dtype, unused="masked_spec_embed", config=config, **mapping
    ), extractor


def _model_type(folder: Path) -> str:
    return str(read_json(folder / "config.json").get("model_type"))


def _check_config(folder: Path) -> object:
    name = _model_type(folder)
    if name in FAMILIES:
        return name
    if name not in ("whisper", "None"):  # CTranslate2's config names none
        raise ModelFormatError(
            f"{folder / 'config.json'}: model_type is {name!r:.40}, which is no speech encoder; use one of "
            f"{', '.join(FAMILIES)}, whisper"
        )
    return WHISPER.check_config(folder)


def _layout_of(folder: Path) -> Literal["huggingface", "ctranslate2"]:
    _check_config(folder)
    if _model_type(folder) not in FAMILIES:
        return WHISPER.layout_of(folder)
    weight_files(folder, "huggingface")
    return "huggingface"


SPEECH = Family(ALIASES, _check_config, _layout_of, SIDECARS)
