"""Recordings of a corpus on disk: folders of languages, clips in folders or archives, paths, bytes."""

import errno
import hashlib
import os
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from interlingua.audio.archives import Listing, list_members, refusal
from interlingua.corpora.base import Log, Names, check_folder, silent
from interlingua.errors import CorpusError, ManifestError, UsageError
from interlingua.files import as_stored, atomic_file
from interlingua.languages import normalise_language
from interlingua.types import AudioRef

NO_FILE = "no audio file"

_LARGE = 500_000_000  # bytes of an archive that is slow to list
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_MAGIC = {b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".ogg", b"ID3": ".mp3", b"\xff\xfb": ".mp3", b"\xff\xf3": ".mp3"}
_RAW = (".g722", ".gsm")  # formats known only by name
T = TypeVar("T")


# --- folders of languages --------------------------------------------------------------------------------


def language_folders(
    root: Path, languages: Names, holds: Callable[[Path], bool], fetch: str, log: Log = silent
) -> list[tuple[Path, str]]:
    """(folder, our language code) of the languages below ``root``, in the order of ``languages``, else by name.

    A language written as its folder (``zh-TW``) means this folder alone; otherwise (``zh``) all folders of that
    language. ``root`` may also be one language's folder. Folders without a code here are logged. Where ``holds`` is
    true of none, CorpusError states what to ``fetch``.
    """
    try:
        below = sorted(p for p in root.iterdir() if p.is_dir())
    except OSError as e:
        raise CorpusError(f"{root}: no readable folder ({e.strerror}). {fetch}") from e
    there: list[tuple[Path, str]] = []
    for folder in [root] if holds(root) else [p for p in below if holds(p)]:
        try:
            there.append((folder, normalise_language(folder_name(folder))))
        except UsageError:
            log(f"{folder}: skipped, for {folder.name!r} is no language code that is known here")
    if not there:
        raise CorpusError(f"{root}: no language's folder with the corpus's files is here. {fetch}")
    if languages is None:
        return there
    chosen: dict[Path, str] = {}
    for requested in languages:
        same = [(p, code) for p, code in there if _plain(folder_name(p)) == _plain(requested)]
        found = same or [(p, code) for p, code in there if code == normalise_language(requested)]
        if not found:
            names = ", ".join(folder_name(p) for p, _ in there)
            raise CorpusError(f"{root}: no {requested!r} is here, only {names}. {fetch}")
        chosen.update(found)
    return list(chosen.items())


def folder_name(folder: Path) -> str:
    """A folder's own name, not its link's target's; also of ``.``."""
    return Path(os.path.abspath(folder)).name  # noqa: PTH100  # resolve() would follow links


def _plain(code: str) -> str:
    return code.strip().lower().replace("-", "_")


# --- clips -----------------------------------------------------------------------------------------------


class Clips:
    """Finds recordings by file name, in folders first, then in one archive, which is read in place.

    ``archives`` may hold them at any depth (matched by the last part); the first that exists is used. ``missing`` is
    the text of the CorpusError where there is neither; AudioError if the archive can't be read.
    """

    def __init__(self, folders: Sequence[Path], archives: Sequence[Path], *, log: Log, missing: str) -> None:
        self._folders = [str(folder) for folder in folders if folder.is_dir()]
        self._archive = next((archive for archive in archives if archive.is_file()), None)
        for folder in self._folders:
            check_folder(folder)
        self._log = log
        self._members: dict[str, str] | None = None
        self._announced = False
        if not self._folders and self._archive is None:
            raise CorpusError(missing)

    def find(self, name: str) -> AudioRef | None:
        """The recording of a file name; None: it is missing."""
        if refusal(name):
            return None
        for folder in self._folders:
            path = f"{folder}/{name}"
            if os.path.isfile(path):  # noqa: PTH113  # a Path for every row takes most of the time
                return AudioRef(path)
        member = self._packed().get(posixpath.basename(name))
        return None if member is None else AudioRef(str(self._archive), member=member)

    def in_order(self, rows: Iterable[T], name: Callable[[T], str]) -> Iterator[T]:
        """Rows in the fastest reading order of their recordings: the archive's (all rows are held), else their own."""
        if self._folders or not self._listing().sequential:
            yield from rows
            return
        position = {posixpath.basename(member): n for n, member in enumerate(self._packed().values())}
        yield from sorted(rows, key=lambda row: position.get(posixpath.basename(name(row)), len(position)))

    def _packed(self) -> dict[str, str]:
        """File name -> member."""
        if self._members is None:
            listing = self._listing()
            self._members = {posixpath.basename(member): member for member in listing.sizes}
            if listing.refused:
                self._log(f"{self._archive}: {len(listing.refused)} links or unsafe names in it are not read")
            if listing.sequential:
                self._log(f"{self._archive}: read in place, in its own order; unpack it where speed matters")
        return self._members

    def _listing(self) -> Listing:
        if self._archive is None:
            return Listing({}, (), False)
        size = self._archive.stat().st_size
        if size > _LARGE and not self._announced:
            self._log(f"{self._archive}: reading what {size / 1e9:.1f} GB hold")
            self._announced = True
        return list_members(self._archive)


def stem(name: str) -> str:
    """A file name without folder and ending; `Path.stem` is much slower.

    >>> stem("clips/a.b.mp3"), stem("a")
    ('a.b', 'a')
    """
    base = posixpath.basename(name)
    return base.rpartition(".")[0] or base


def with_ending(folder: Path, name: str, endings: Iterable[str]) -> Path | None:
    """The file directly in a folder that has one of these endings; None: there is none."""
    if refusal(name) or "/" in name:
        return None
    return next((path for ending in endings if is_file(path := folder / f"{name}{ending}")), None)


# --- paths in manifests ----------------------------------------------------------------------------------


def clip_path(folder: Path, name: str, where: str) -> Path:
    """Absolute path of a manifest's audio; ManifestError for a URL, command or relative path out of ``folder``."""
    if _SCHEME.match(name):
        raise ManifestError(
            f"{where}: {name[:80]} is a URL, which isn't fetched; download it and write the file's path"
        )
    if name.rstrip().endswith("|"):
        raise ManifestError(
            f"{where}: {name[:80]!r} is a shell command, which is never run; write its output to a file"
        )
    if Path(name).is_absolute():
        return Path(name)
    if "\0" in name or Path(os.path.normpath(name)).parts[:1] == (os.pardir,):
        raise ManifestError(f"{where}: {name[:80]!r} leads out of {folder}; write the absolute path if that is meant")
    return Path(os.path.abspath(folder)) / name  # noqa: PTH100  # links are kept: resolve() would follow them


def is_file(path: Path) -> bool:
    """Whether a file exists, also for names too long to be one (such as a sentence); OSError if unreadable."""
    try:
        return as_stored(path).is_file()
    except OSError as e:
        if e.errno == errno.ENAMETOOLONG:
            return False
        raise


# --- audio that a data set holds as bytes ----------------------------------------------------------------


def write_audio(folder: Path, name: str, data: bytes, original: str | None = None) -> Path:
    """Write a recording directly in ``folder`` unless it is there already, and return its path.

    Unsafe letters of ``name`` become hyphens, and a hash then keeps it unique. The ending of ``original``, the data
    set's file name, is used where the bytes don't identify the format.
    """
    ending = next((e for magic, e in _MAGIC.items() if data.startswith(magic)), "")
    if not ending and original:
        given = posixpath.splitext(original)[1].lower()
        ending = given if given in _RAW or re.fullmatch(r"\.[a-z0-9]{1,5}", given) else ""
    safe = re.sub(r"[^\w.-]+", "-", name).lstrip(".-")[:100]
    if safe != name:
        safe = f"{safe}-{hashlib.blake2b(name.encode(), digest_size=6).hexdigest()}"
    path = folder / (safe + (ending or ".audio"))
    if not (path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data):
        with atomic_file(path) as temporary:
            temporary.write_bytes(data)
    return path
