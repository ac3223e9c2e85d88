"""Recordings that are named directly: files, folders and patterns."""

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from interlingua.audio import require_audio
from interlingua.corpora.base import Log, Skipped, silent
from interlingua.corpora.tables import ALIASES
from interlingua.errors import AudioError, EmptyAudioError, NotAudioError, UsageError
from interlingua.files import as_stored

AUDIO = re.compile(
    r"\.(wav|flac|mp3|ogg|opus|oga|m4a|mp4|aac|webm|mkv|mov|avi|wma|aiff|aif|au|amr|3gp|g722|gsm|mka|mpga|mpeg|caf|w64"
    r"|spx)",
    re.IGNORECASE,
)
"""Suffixes that promise a recording: such a file of a folder isn't tried first, and fails if it is broken."""

_HEAD = 1 << 16  # bytes of a file that its kind is read from
_BETWEEN = re.compile(r'[\t,;|{}":]| {2,}')  # columns, or keys and values
_COLUMNS = {"audio", *ALIASES["audio"], "recording", "recording_id", "sources"}  # of any manifest's recordings
TABLES = (".jsonl", ".json", ".ndjson", ".csv", ".tsv")


def is_table(given: str) -> bool:
    """Whether a path names a manifest or table: by its ending, or else by a text's first row."""
    path = as_stored(Path(given))
    if path.name.lower().removesuffix(".gz").endswith(TABLES):
        return not path.is_dir()
    if not path.is_file():  # a pipe can be read only once
        return False
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith(b"\x1f\x8b"):  # no recording is gzipped
        return True
    first = next((line for line in head.removeprefix(b"\xef\xbb\xbf").splitlines() if line.strip()), b"")
    names = [name.strip() for name in _BETWEEN.split(first.decode("utf-8", "replace").lower())]
    return b"\0" not in head and any(
        name in _COLUMNS or name.startswith("audio_") or name.endswith(("_audio", "_file_name")) for name in names
    )


def audio_files(given: str, log: Log = silent) -> Iterator[tuple[Path, str]]:
    """Each recording of a file, a folder or a pattern, and its name among them without suffix.

    Recordings that differ in their suffix alone keep it. A path that doesn't exist is yielded, too. See
    `folder_recordings`. Raises UsageError for a pattern that nothing matches.
    """
    path = as_stored(Path(given).expanduser())
    if path.is_dir():
        inside = folder_recordings(path, log)
        alike = _doubled(p.relative_to(path).with_suffix("") for p in inside)
        for p in inside:
            name = p.relative_to(path)
            yield p, str(name if name.with_suffix("") in alike else name.with_suffix(""))
    elif not path.exists() and glob.has_magic(given):
        matches = [p for p in map(Path, sorted(glob.glob(str(path), recursive=True))) if p.is_file()]  # noqa: PTH207
        if not matches:
            raise UsageError(f"{given}: no file has such a name")
        alike = _doubled(Path(p.stem) for p in matches)
        for p in matches:
            yield p, p.name if Path(p.stem) in alike else p.stem
    else:
        yield path, path.stem


def folder_recordings(folder: Path, log: Log = silent) -> list[Path]:
    """Every file below a folder that the decoder takes, in order; ``log`` is told what was passed over, and why.

    Hidden files and folders (macOS' ``._name`` among them) are passed over.
    """
    passed = Skipped(f"{folder}", log)
    found: list[Path] = []

    def unreadable(error: OSError) -> None:
        passed.add("this folder can't be looked into", os.path.relpath(str(error.filename), folder))

    for at, folders, names in os.walk(folder, onerror=unreadable):
        for name in sorted((*folders, *names)):
            path = Path(at, name)
            reason = _passed_over(path)
            if reason:
                passed.add(reason, str(path.relative_to(folder)))
            elif name in names:
                found.append(path)
        folders[:] = [name for name in folders if not name.startswith(".")]
    passed.report()
    return sorted(found)


def _passed_over(path: Path) -> str | None:
    """Why a file of a folder is no recording of it; None for one that is, and for a folder."""
    if path.name.startswith("."):
        return "hidden"
    if path.is_dir() or (path.is_file() and AUDIO.fullmatch(path.suffix)):
        return None
    if not path.is_file():
        return "a pipe, device or socket, or a link that leads nowhere"
    try:
        require_audio(path)
    except (NotAudioError, EmptyAudioError):
        return "no audio in it that can be decoded"
    except AudioError:
        return None  # a broken recording fails by name
    return None


def _doubled(names: Iterable[Path]) -> set[Path]:
    return {name for name, n in Counter(names).items() if n > 1}
