"""Where a corpus's recordings lie: in folders, or in an archive that is read in place."""

import os
import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from interlingua.audio.archives import Listing, list_members, refusal
from interlingua.corpora.folders import check_folder
from interlingua.errors import CorpusError
from interlingua.types import AudioRef

_LARGE = 500_000_000  # bytes of an archive whose listing takes long
T = TypeVar("T")


class Clips:
    """Finds recordings by their file names; folders come before archives.

    Args:
        folders: where they may lie unpacked; those that aren't there are passed over.
        archives: where they may lie packed, at any depth (matched by the name's last part); the first that is there is
            used.
        log: receives a line on an archive that is slow to read, and on refused members.
        missing: the error's text where neither is there.

    Raises:
        CorpusError: neither is there, or a folder can't be looked into.
        AudioError: the archive can't be read.
    """

    def __init__(
        self, folders: Sequence[Path], archives: Sequence[Path], *, log: Callable[[str], None], missing: str
    ) -> None:
        self._folders = [str(folder) for folder in folders if folder.is_dir()]
        self._archive = next((archive for archive in archives if archive.is_file()), None)
        for folder in self._folders:
            check_folder(folder)
        self._log = log
        self._members: dict[str, str] | None = None
        self._told = False
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
        """Rows in the order in which their recordings are read fastest.

        That is the archive's own where there is only one that is read from its start; then all rows are held.
        """
        if self._folders or not self._sequential():
            yield from rows
            return
        place = {posixpath.basename(member): n for n, member in enumerate(self._packed().values())}
        yield from sorted(rows, key=lambda row: place.get(posixpath.basename(name(row)), len(place)))

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

    def _sequential(self) -> bool:
        return self._listing().sequential

    def _listing(self) -> Listing:
        if self._archive is None:
            return Listing({}, (), False)
        size = self._archive.stat().st_size
        if size > _LARGE and not self._told:
            self._log(f"{self._archive}: reading what {size / 1e9:.1f} GB hold")
            self._told = True
        return list_members(self._archive)


def stem(name: str) -> str:
    """A file name without its folder and ending; as `Path.stem`, at a fraction of its time.

    >>> stem("clips/a.b.mp3"), stem("a")
    ('a.b', 'a')
    """
    base = posixpath.basename(name)
    return base.rpartition(".")[0] or base
