"""What lies in a model folder: its layout, its weight files, and the revision that identifies them."""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from interlingua.errors import ModelFormatError
from interlingua.files import sha256_file

Kind = Literal["huggingface", "ctranslate2"]

_WHOLE = ("model.safetensors", "pytorch_model.bin")  # weights in one file; the first is preferred
_COMMIT_LENGTH = 40  # hex digits


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; raises ModelFormatError if the file is absent or holds anything else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelFormatError(f"{path.parent}: {path.name} is missing; copy the model folder again") from None
    except (OSError, ValueError) as error:
        raise ModelFormatError(f"{path}: can't be read as JSON ({error})") from error
    if not isinstance(value, dict):
        raise ModelFormatError(f"{path}: holds no JSON object")
    return value


def check_model_type(folder: Path) -> bool:
    """Whether ``config.json`` is Hugging Face's; raises ModelFormatError if it is of another model."""
    model_type = read_json(folder / "config.json").get("model_type")
    if model_type not in (None, "whisper"):
        raise ModelFormatError(f"{folder}: model_type is {model_type!r}, expected 'whisper'")
    return model_type is not None


def detect_kind(folder: Path) -> Kind:
    """Which layout a folder has; raises ModelFormatError unless it is a complete Whisper folder."""
    if check_model_type(folder):
        weight_files(folder, "huggingface")
        return "huggingface"
    if not (folder / "model.bin").is_file():
        raise ModelFormatError(f"{folder}: config.json names no model_type and there is no model.bin")
    return "ctranslate2"


def weight_files(folder: Path, kind: Kind) -> list[Path]:
    """The files that hold the weights; raises ModelFormatError if one is missing."""
    if kind == "ctranslate2":
        return [folder / "model.bin"]
    for name in _WHOLE:
        if (folder / name).is_file():
            return [folder / name]
        if (folder / f"{name}.index.json").is_file():
            return _shards(folder, folder / f"{name}.index.json")
    raise ModelFormatError(f"{folder}: no weights (model.safetensors or its shards)")


def _shards(folder: Path, index: Path) -> list[Path]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise ModelFormatError(f"{index}: has no weight_map")
    shards = [folder / name for name in sorted(set(names.values()))]
    for shard in shards:
        if not shard.is_file():
            raise ModelFormatError(f"{folder}: shard {shard.name} is missing; download the model again")
    return shards


def hub_commit(folder: Path) -> str | None:
    """The commit of a ``snapshots/<commit>`` folder of the hub cache, else None."""
    name = folder.name
    in_cache = folder.parent.name == "snapshots" and len(name) == _COMMIT_LENGTH
    return name if in_cache and all(c in "0123456789abcdef" for c in name) else None


def folder_name(folder: Path) -> str:
    """``owner/name`` for a snapshot of the hub cache, else the folder's own name."""
    repository = folder.parent.parent.name
    if hub_commit(folder) and repository.startswith("models--"):
        return repository.removeprefix("models--").replace("--", "/")
    return folder.name


def weights_revision(folder: Path, kind: Kind) -> str:
    """Hub commit where the folder's name tells it, else the SHA-256 of the weights.

    Several shards count as one: the SHA-256 of their hashes, in the order of their names.
    """
    commit = hub_commit(folder)
    if commit:
        return commit
    hashes = [sha256_file(path) for path in weight_files(folder, kind)]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
