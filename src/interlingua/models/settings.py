"""The JSON files of a model folder, checked against one schema before any library reads them.

transformers, CTranslate2 and peft take a wrong value in their own ways: a traceback without the file's name, an endless
loop, gigabytes. They get the checked values only; keys without a field here are ignored.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from interlingua.errors import ModelFormatError
from interlingua.types import SAMPLE_RATE, WINDOW_SECONDS

S = TypeVar("S", bound=msgspec.Struct)

Width = Annotated[int, msgspec.Meta(ge=1, le=1 << 17)]
Layers = Annotated[int, msgspec.Meta(ge=1, le=256)]
Positions = Annotated[int, msgspec.Meta(ge=1, le=1 << 16)]
Token = Annotated[int, msgspec.Meta(ge=0, lt=1 << 20)]
Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
Heads = list[Annotated[list[Token], msgspec.Meta(min_length=2, max_length=2)]]  # layer, head
Dtype = Literal["float64", "float32", "float16", "bfloat16"]

MOST_RANK = 1024  # of a LoRA adapter: wider than any decoder's use of one
_FIELDS = {"sampling_rate": SAMPLE_RATE, "hop_length": 160, "n_fft": 400, "chunk_length": WINDOW_SECONDS}


class WhisperShape(msgspec.Struct, kw_only=True):
    """``config.json`` of a Whisper in Hugging Face's layout: its shape, and settings of training; `WhisperConfig`'s."""

    vocab_size: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)] = 51865
    num_mel_bins: Annotated[int, msgspec.Meta(ge=1, le=512)] = 80
    d_model: Width = 384
    encoder_layers: Layers = 4
    decoder_layers: Layers = 4
    encoder_attention_heads: Width = 6
    decoder_attention_heads: Width = 6
    encoder_ffn_dim: Width = 1536
    decoder_ffn_dim: Width = 1536
    max_source_positions: Literal[1500] = 1500  # 30 s of 20 ms
    max_target_positions: Positions = 448
    activation_function: Literal["gelu", "gelu_new", "gelu_fast", "quick_gelu", "relu", "silu", "swish"] = "gelu"
    dropout: Probability = 0.0
    attention_dropout: Probability = 0.0
    activation_dropout: Probability = 0.0
    encoder_layerdrop: Probability = 0.0
    decoder_layerdrop: Probability = 0.0
    init_std: Annotated[float, msgspec.Meta(ge=0, le=10)] = 0.02
    scale_embedding: bool = False
    tie_word_embeddings: bool = True
    decoder_start_token_id: Token | None = 50257
    bos_token_id: Token | None = 50256
    eos_token_id: Token | list[Token] | None = 50256
    pad_token_id: Token | None = 50256

    def __post_init__(self) -> None:
        for side in ("encoder", "decoder"):
            heads = getattr(self, f"{side}_attention_heads")
            if self.d_model % heads:
                raise ValueError(f"{side}_attention_heads is {heads}, which doesn't divide d_model, {self.d_model}")


class _Stored(msgspec.Struct):
    """Number format of the weights, under its new and its old name."""

    dtype: Dtype | None = None
    torch_dtype: Dtype | None = None
    quantization_config: None = None


class Generation(msgspec.Struct, kw_only=True):
    """``generation_config.json``, or what ``config.json`` has of it; forced tokens aren't read: prompts name all."""

    alignment_heads: Heads | None = None
    begin_suppress_tokens: list[Token] | None = None
    suppress_tokens: list[Token] | None = None
    bos_token_id: Token | None = None
    eos_token_id: Token | list[Token] | None = None
    pad_token_id: Token | None = None
    decoder_start_token_id: Token | None = None
    is_multilingual: bool | None = None
    lang_to_id: dict[str, Token] | None = None
    task_to_id: dict[str, Token] | None = None
    language: str | None = None
    task: str | None = None
    max_initial_timestamp_index: Positions | None = None
    max_length: Positions | None = None
    no_timestamps_token_id: Token | None = None
    prev_sot_token_id: Token | None = None
    return_timestamps: bool | None = None


class Converted(msgspec.Struct, kw_only=True):
    """CTranslate2's ``config.json``."""

    suppress_ids: list[Token] | None = None
    suppress_ids_begin: list[Token] | None = None
    alignment_heads: Heads | None = None
    lang_ids: list[Token] | None = None


class Adapter(msgspec.Struct, kw_only=True):
    """``adapter_config.json`` of a LoRA adapter."""

    base_model_name_or_path: str | None = None
    peft_type: Literal["LORA"] = "LORA"
    revision: str | None = None
    r: Annotated[int, msgspec.Meta(ge=1, le=MOST_RANK)] = 8


class TextShape(msgspec.Struct, kw_only=True):
    """``config.json`` of a text encoder."""

    model_type: str
    is_encoder_decoder: bool = False
    vocab_size: Annotated[int, msgspec.Meta(ge=1, le=1 << 24)] | None = None
    hidden_size: Width | None = None
    intermediate_size: Width | None = None
    num_hidden_layers: Layers | None = None
    num_attention_heads: Width | None = None
    max_position_embeddings: Positions | None = None


class TextLimits(msgspec.Struct):
    """``sentence_bert_config.json``."""

    max_seq_length: Positions | None = None


class Shards(msgspec.Struct):
    """``*.index.json`` of weights in several files."""

    weight_map: Annotated[dict[str, Annotated[str, msgspec.Meta(pattern=r"^[^/\\]+$")]], msgspec.Meta(min_length=1)]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; raises ModelFormatError if the file is absent or holds anything else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
        json.dumps(value, ensure_ascii=False).encode()  # half a character can't be written anywhere
    except FileNotFoundError:
        raise ModelFormatError(f"{path.parent}: {path.name} is missing; copy the model folder again") from None
    except (OSError, ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise ModelFormatError(f"{path}: can't be read as JSON ({reason}); copy the model folder again") from error
    if not isinstance(value, dict):
        raise ModelFormatError(f"{path}: holds no JSON object; copy the model folder again")
    return value


def read_settings(path: Path, kind: type[S]) -> S:
    """The values of a file; raises ModelFormatError, which names the key, for one that can't be."""
    return checked(path, read_json(path), kind)


def checked(path: Path, value: dict[str, Any], kind: type[S]) -> S:
    """The values of a JSON object that was read from a file, as `read_settings`."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ModelFormatError(f"{path}: {error}; take the file of the original checkpoint") from error


def stored_dtype(folder: Path) -> Dtype:
    """Number format of a Hugging Face folder's weights, float32 where ``config.json`` names none."""
    stored = read_settings(folder / "config.json", _Stored)
    return stored.dtype or stored.torch_dtype or "float32"


def read_shape(folder: Path) -> WhisperShape:
    """The shape of a Whisper in Hugging Face's layout."""
    stored_dtype(folder)
    return read_settings(folder / "config.json", WhisperShape)


def read_generation(folder: Path) -> Generation:
    """The settings of decoding: of ``generation_config.json``, else of ``config.json``, as files had it until 2023."""
    path = folder / "generation_config.json"
    return read_settings(path if path.exists() else folder / "config.json", Generation)


def check_extractor(folder: Path, n_mels: int) -> None:
    """Raise ModelFormatError unless the feature extractor's settings, where a file has them, are Whisper's."""
    names = ("preprocessor_config.json", "processor_config.json")
    path = next((folder / name for name in names if (folder / name).exists()), None)
    if path is None:
        return
    given = read_json(path)
    nested = given.get("feature_extractor", given)
    if not isinstance(nested, dict):
        raise ModelFormatError(f"{path}: feature_extractor is no JSON object; take the file of the original checkpoint")
    for key, needed in {"feature_size": n_mels, **_FIELDS}.items():
        if nested.get(key, needed) != needed:
            raise ModelFormatError(
                f"{path}: {key} is {nested[key]!r:.40}, but the model takes {needed}; take the same checkpoint's file"
            )
