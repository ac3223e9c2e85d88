"""CTranslate2's Whisper folders of any size, read as a Hugging Face model.

``model.bin`` (binary version 6, little-endian): uint32 version; string spec name; uint32 spec revision;
uint32 number of variables, each: string name, uint8 rank, rank * uint32 dimensions, uint8 dtype,
uint32 bytes, data; then uint32 number of aliases, each: string alias, string variable.
A string is a uint16 length (with its NUL) and the bytes. The data isn't aligned.
"""

import math
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from interlingua.errors import ModelFormatError
from interlingua.models.hub import one_line
from interlingua.models.settings import Converted, read_settings

if TYPE_CHECKING:
    import torch

_VERSION = 6
_SPEC = "WhisperSpec"
_BFLOAT16 = 5  # numpy has none: its bits are kept as uint16
_DTYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2", _BFLOAT16: "<u2"}
_HEAD_SIZE = 64  # of every Whisper; used where the file doesn't state the number of heads

Variables = dict[str, np.ndarray]
"""Variable name (aliases included) -> memory-mapped, unaligned array; bfloat16 appears as uint16."""


def read_variables(path: Path) -> Variables:
    """Memory-map every variable of a ``model.bin``; raises ModelFormatError for any other file."""
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return _parse(_Cursor(data), path)
    except FileNotFoundError:
        raise ModelFormatError(f"{path}: the file is missing; copy or fetch the model again") from None
    except (struct.error, ValueError, TypeError, KeyError) as error:
        raise ModelFormatError(f"{path}: not a whole CTranslate2 model ({error}); fetch it again") from error


class _Cursor:
    def __init__(self, data: mmap.mmap):
        self.data = data
        self.offset = 0

    def number(self, code: str) -> int:
        (value,) = struct.unpack_from(f"<{code}", self.data, self.offset)
        self.offset += struct.calcsize(code)
        return int(value)

    def string(self) -> str:
        size = self.number("H")
        (raw,) = struct.unpack_from(f"<{size}s", self.data, self.offset)
        self.offset += size
        return str(raw.rstrip(b"\0").decode())

    def array(self) -> np.ndarray:
        shape = [self.number("I") for _ in range(self.number("B"))]
        kind, size = self.number("B"), self.number("I")
        dtype = np.dtype(_DTYPES[kind])
        if size != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{size} bytes of data for shape {shape}, dtype {kind}")
        array: np.ndarray = np.ndarray(shape, dtype, buffer=self.data, offset=self.offset)
        self.offset += size
        return array


def _parse(cursor: _Cursor, path: Path) -> Variables:
    version = cursor.number("I")
    if version != _VERSION:
        raise ModelFormatError(f"{path}: binary version {version}, expected {_VERSION}; convert the model anew")
    spec = cursor.string()
    if spec != _SPEC:
        raise ModelFormatError(f"{path}: holds a {spec}, expected a {_SPEC}")
    cursor.number("I")  # spec revision: 1 to 3 differ in flags that don't concern the weights
    variables: Variables = {}
    for _ in range(cursor.number("I")):
        name = cursor.string()
        variables[name] = cursor.array()
    for _ in range(cursor.number("I")):
        alias, name = cursor.string(), cursor.string()
        variables[alias] = variables[name]
    if cursor.offset != len(cursor.data):
        raise ValueError(f"{len(cursor.data) - cursor.offset} bytes too many")
    return variables


def tensor(variables: Variables, name: str) -> "torch.Tensor":
    """A variable as a tensor in its own floating dtype; quantised ones are restored to float32."""
    import torch

    array = variables[name]
    if array.dtype == np.uint16:
        return torch.from_numpy(array.astype(np.int16)).view(torch.bfloat16)
    scale = variables.get(f"{name}_scale")
    if scale is None:
        return torch.from_numpy(np.array(array))
    rows = np.asarray(scale, dtype=np.float32).reshape(-1, *[1] * (array.ndim - 1))  # one scale, or one a row
    return torch.from_numpy(array.astype(np.float32) / rows)


def state_dict(variables: Variables, dtype: "torch.dtype") -> "dict[str, torch.Tensor]":
    """Every entry of ``WhisperForConditionalGeneration.state_dict()``, in ``dtype``."""
    weights = {}
    for ours, theirs in _names(variables):
        value = tensor(variables, ours)
        if isinstance(theirs, str):
            weights[theirs] = value.to(dtype)
            continue
        for name, part in zip(theirs, value.chunk(len(theirs)), strict=True):  # fused projections
            if not name.endswith("k_proj.bias"):  # Hugging Face has none: softmax cancels it
                weights[name] = part.to(dtype, copy=True)
    weights["proj_out.weight"] = weights["model.decoder.embed_tokens.weight"]
    return weights


def _names(variables: Variables) -> Iterator[tuple[str, str | list[str]]]:
    """(CTranslate2 name, Hugging Face name or names stacked in it) for the whole model."""
    for conv in ("conv1", "conv2"):
        for kind in ("weight", "bias"):
            yield f"encoder/{conv}/{kind}", f"model.encoder.{conv}.{kind}"
    yield "decoder/embeddings/weight", "model.decoder.embed_tokens.weight"
    for side in ("encoder", "decoder"):
        yield f"{side}/position_encodings/encodings", f"model.{side}.embed_positions.weight"
        yield from _norm(f"{side}/layer_norm", f"model.{side}.layer_norm")
        for i in range(n_layers(variables, side)):
            yield from _layer(f"{side}/layer_{i}", f"model.{side}.layers.{i}", cross=side == "decoder")


def _layer(ours: str, theirs: str, *, cross: bool) -> Iterator[tuple[str, str | list[str]]]:
    yield from _attention(f"{ours}/self_attention", f"{theirs}.self_attn", [["q", "k", "v"], ["out"]])
    if cross:
        yield from _attention(f"{ours}/attention", f"{theirs}.encoder_attn", [["q"], ["k", "v"], ["out"]])
    yield from _norm(f"{ours}/ffn/layer_norm", f"{theirs}.final_layer_norm")
    for i in range(2):
        for kind in ("weight", "bias"):
            yield f"{ours}/ffn/linear_{i}/{kind}", f"{theirs}.fc{i + 1}.{kind}"


def _attention(ours: str, theirs: str, linears: list[list[str]]) -> Iterator[tuple[str, list[str]]]:
    yield from _norm(f"{ours}/layer_norm", f"{theirs}_layer_norm")
    for i, parts in enumerate(linears):
        for kind in ("weight", "bias"):
            yield f"{ours}/linear_{i}/{kind}", [f"{theirs}.{part}_proj.{kind}" for part in parts]


def _norm(ours: str, theirs: str) -> Iterator[tuple[str, Any]]:
    yield f"{ours}/gamma", f"{theirs}.weight"
    yield f"{ours}/beta", f"{theirs}.bias"


def n_layers(variables: Variables, side: str) -> int:
    """Number of layers of ``encoder`` or ``decoder``."""
    return sum(name.startswith(f"{side}/") and name.endswith("/ffn/layer_norm/gamma") for name in variables)


def config(variables: Variables, token_ids: dict[str, int]) -> Any:
    """The ``WhisperConfig`` that the shapes describe."""
    from transformers import WhisperConfig

    dim, n_mels, _ = variables["encoder/conv1/weight"].shape
    sides: dict[str, int] = {}
    for side in ("encoder", "decoder"):
        heads = variables.get(f"{side}/num_heads")
        sides[f"{side}_layers"] = n_layers(variables, side)
        sides[f"{side}_attention_heads"] = max(1, dim // _HEAD_SIZE) if heads is None else int(heads)
        sides[f"{side}_ffn_dim"] = variables[f"{side}/layer_0/ffn/linear_0/weight"].shape[0]
    return WhisperConfig(
        vocab_size=variables["decoder/embeddings/weight"].shape[0],
        num_mel_bins=n_mels,
        d_model=dim,
        max_source_positions=variables["encoder/position_encodings/encodings"].shape[0],
        max_target_positions=variables["decoder/position_encodings/encodings"].shape[0],
        suppress_tokens=None,
        begin_suppress_tokens=None,
        **token_ids,
        **sides,
    )


def load_model(folder: Path, dtype: "torch.dtype | None", token_ids: dict[str, int]) -> Any:
    """A ``WhisperForConditionalGeneration`` on the CPU with the folder's weights; ``dtype`` None: only its two configs.

    ``generation_config`` carries the settings of ``config.json`` only; `complete_settings` adds the rest.
    """
    import torch
    from transformers import GenerationConfig, WhisperForConditionalGeneration

    settings = read_settings(folder / "config.json", Converted)
    path = folder / "model.bin"
    variables = read_variables(path)
    try:
        shape = config(variables, token_ids)
        if dtype is None:
            model: Any = SimpleNamespace(config=shape)
        else:
            with torch.device("meta"):
                model = WhisperForConditionalGeneration(shape)
            model.load_state_dict(state_dict(variables, dtype), assign=True)
            model.tie_weights()
    except (KeyError, ValueError, RuntimeError, AssertionError) as error:
        raise ModelFormatError(f"{path}: not a Whisper of a known shape ({one_line(error)})") from error
    if max(settings.lang_ids or [0]) >= shape.vocab_size:
        raise ModelFormatError(
            f"{folder / 'config.json'}: lang_ids names token {max(settings.lang_ids or [])}, but the model has "
            f"{shape.vocab_size}; take the file of the same checkpoint"
        )
    model.generation_config = GenerationConfig(**_generation(settings, shape))
    return model


def _generation(ours: Converted, config: Any) -> dict[str, Any]:
    fields = {
        "suppress_tokens": ours.suppress_ids,
        "begin_suppress_tokens": ours.suppress_ids_begin,
        "alignment_heads": ours.alignment_heads,
        "max_length": config.max_target_positions,
        "max_initial_timestamp_index": 50,  # 1 second: OpenAI's setting
        "return_timestamps": False,
    }
    return {name: value for name, value in fields.items() if value is not None}
