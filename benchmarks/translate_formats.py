"""The packaged Whisper-base in the formats of OpenAI's package and of whisper.cpp, written once into the cache.

Both name their tensors alike, and differ from Hugging Face in the names only. `openai_checkpoint` is a `torch.save` of the
dimensions and the tensors. ggml (`ggml_file`), little-endian, every number an int32 unless stated otherwise: the magic; eleven
sizes and the file's number format; mel filters: bands, bins, float32 values; vocabulary: count, then each token's length and
bytes; then, to the end, each tensor: number of dimensions, length of its name, number format, dimensions (innermost first),
name, data. Matrices and convolutions are float16 or blocks of integers; all else is float32.
"""

import ctypes
import struct
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers.convert_slow_tokenizer import bytes_to_unicode

from interlingua.files import atomic_file, cache_dir
from interlingua.models import Whisper, load_whisper

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ".venv-translate-peers/lib/python*/site-packages/pywhispercpp.libs/libggml-base-*.so*"

Format = Literal["f16", "q8_0"]
MAGIC = 0x67676D6C  # "ggml"
F32, F16 = 0, 1  # number formats of a tensor, and (F16) of a file
Q8_TENSOR, Q8_FILE = 8, 7  # the same of integers in blocks
QUANTISATION = 2  # version of the integer blocks' layout: 1000 of it are added to the file's number format
POSITIONS = "positional_embedding"

_NAMES = (  # Hugging Face's name -> OpenAI's, in this order
    ("model.", ""),
    ("layers.", "blocks."),
    ("self_attn_layer_norm", "attn_ln"),
    ("encoder_attn_layer_norm", "cross_attn_ln"),
    ("self_attn.", "attn."),
    ("encoder_attn.", "cross_attn."),
    ("q_proj", "query"),
    ("k_proj", "key"),
    ("v_proj", "value"),
    ("out_proj", "out"),
    ("fc1", "mlp.0"),
    ("fc2", "mlp.2"),
    ("final_layer_norm", "mlp_ln"),
    ("encoder.layer_norm", "encoder.ln_post"),
    ("decoder.layer_norm", "decoder.ln"),
    ("embed_tokens", "token_embedding"),
    ("embed_positions.weight", POSITIONS),
)


def openai_checkpoint() -> Path:
    """The weights as ``whisper.load_model`` reads them."""
    whisper = load_whisper("base", dtype="float16")
    path = _cached(whisper, "openai.pt")
    if not path.exists():
        with atomic_file(path) as temporary:
            torch.save({"dims": dimensions(whisper), "model_state_dict": openai_weights(whisper)}, temporary)
    return path


def ggml_file(format: Format = "f16") -> Path:
    """The weights as whisper.cpp reads them."""
    whisper = load_whisper("base", dtype="float16")
    path = _cached(whisper, f"ggml-{format}.bin")
    if not path.exists():
        with atomic_file(path) as temporary, temporary.open("wb") as file:
            dims = dimensions(whisper)
            number = F16 if format == "f16" else 1000 * QUANTISATION + Q8_FILE
            file.write(_ints(MAGIC, *(dims[name] for name in _GGML_SIZES), number))
            filters = np.ascontiguousarray(whisper.feature_extractor.mel_filters.T, dtype="<f4")
            file.write(_ints(*filters.shape) + filters.tobytes())
            tokens = vocabulary(whisper)
            file.write(_ints(len(tokens)) + b"".join(_ints(len(token)) + token for token in tokens))
            for name, value in openai_weights(whisper).items():
                file.write(_tensor(name, value.numpy(), format))
    return path


_GGML_SIZES = (
    "n_vocab", "n_audio_ctx", "n_audio_state", "n_audio_head", "n_audio_layer",
    "n_text_ctx", "n_text_state", "n_text_head", "n_text_layer", "n_mels",
)  # fmt: skip


def dimensions(whisper: Whisper) -> dict[str, int]:
    """OpenAI's ``ModelDimensions``."""
    c = whisper.model.config
    audio = (c.num_mel_bins, c.max_source_positions, c.d_model, c.encoder_attention_heads, c.encoder_layers)
    text = (c.vocab_size, c.max_target_positions, c.d_model, c.decoder_attention_heads, c.decoder_layers)
    names = ("n_mels", "n_audio_ctx", "n_audio_state", "n_audio_head", "n_audio_layer")
    others = ("n_vocab", "n_text_ctx", "n_text_state", "n_text_head", "n_text_layer")
    return dict(zip(names + others, audio + text, strict=True))


def openai_weights(whisper: Whisper) -> dict[str, torch.Tensor]:
    """The tensors under OpenAI's names; the output layer is the token embedding there."""
    weights = {}
    for name, value in whisper.model.state_dict().items():
        if name != "proj_out.weight":
            for ours, theirs in _NAMES:
                name = name.replace(ours, theirs, 1)
            weights[name] = value.detach()
    return weights


def vocabulary(whisper: Whisper) -> list[bytes]:
    """The bytes of every token of text, in the order of the ids; whisper.cpp names the special ones by itself."""
    byte = {character: value for value, character in bytes_to_unicode().items()}
    special = min(whisper.tokenizer.all_special_ids)
    texts = whisper.tokenizer.convert_ids_to_tokens(range(special))
    return [bytes(byte[character] for character in text) for text in texts]


def _tensor(name: str, value: np.ndarray, format: Format) -> bytes:
    if name in ("encoder.conv1.bias", "encoder.conv2.bias"):
        value = value[:, None]  # added to (channels, frames)
    kind, data = F32, value.astype("<f4").tobytes()
    if value.ndim > 1 and not name.endswith((".bias", POSITIONS)):
        if format == "f16" or value.ndim > 2:
            kind, data = F16, value.astype("<f2").tobytes()
        else:
            kind, data = Q8_TENSOR, _quantise(value, Q8_TENSOR)
    return _ints(value.ndim, len(name), kind, *reversed(value.shape)) + name.encode() + data


def _quantise(value: np.ndarray, kind: int) -> bytes:
    """Rows as blocks of integers, by pywhispercpp's own copy of ggml."""
    libraries = sorted(ROOT.glob(LIBRARY))
    if not libraries:
        raise FileNotFoundError(f"no {LIBRARY}; run `make translate-peers`")
    ggml: Any = ctypes.CDLL(str(libraries[0]))
    ggml.ggml_row_size.restype = ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    rows, columns = value.shape
    source = np.ascontiguousarray(value, dtype=np.float32)
    target = ctypes.create_string_buffer(rows * ggml.ggml_row_size(kind, ctypes.c_int64(columns)))
    counts = [ctypes.c_int64(n) for n in (0, rows, columns)]
    written = ggml.ggml_quantize_chunk(kind, source.ctypes.data_as(ctypes.c_void_p), target, *counts, None)
    if written != len(target):
        raise ValueError(f"ggml wrote {written} bytes for {rows} x {columns}, expected {len(target)}")
    return target.raw


def _cached(whisper: Whisper, name: str) -> Path:
    return cache_dir() / "models" / "converted" / f"whisper-base-{whisper.revision[:16]}-{name}"


def _ints(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}i", *values)
