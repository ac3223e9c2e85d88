"""Files inside archives, read in place: members of tar, tar.gz and zip files, and the audio in parquet rows.

Links and members whose names leave the archive are refused. A tar.gz is decompressed from its start, so the
decompressor's state is kept every `SPACING` bytes: reading in the archive's order costs one decompression in all.

What unpacks to more than `MAX_RATIO` times its size is refused beyond `FREE_BYTES`: speech doesn't, a bomb does.
"""

import io
import lzma
import os
import posixpath
import re
import shutil
import stat
import struct
import tarfile
import threading
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from interlingua.errors import AudioError, AudioNotFoundError, TruncatedAudioError

SPACING = 8 << 20  # bytes between two states of a tar.gz's decompressor that are kept (45 kB each)
MAX_MEMBER = 1 << 30  # bytes of one member; more is no recording
MAX_HEADER = 1 << 20  # bytes of what a tar says of one member: long names, pax records
MAX_RATIO = 100  # unpacked to packed bytes
FREE_BYTES = 256 << 20  # unpacked whatever the ratio: 2 h of silence at 16 kHz
_PIECE = 1 << 18  # compressed bytes read at a time
_KEPT_OPEN = 4  # archives
_MOST_ENDS = 4  # reads at a stream's end
_MOST_EMPTY = 100_000  # members of a tar whose headers outweigh their data
_ROW = re.compile(r"row=(\d+)(?:/column=(.+))?")


@dataclass(frozen=True)
class Listing:
    """Readable files, name -> bytes in the archive's order; ``sequential``: slow in another order (tar.gz)."""

    sizes: dict[str, int]
    refused: tuple[str, ...]
    sequential: bool


def read_member(path: Path, member: str) -> bytes:
    """The bytes of one member of a tar, tar.gz, zip or parquet file, recognised by content, not by name.

    ``row=123`` of a parquet file is the audio of its 124th row, in the column ``audio`` unless as
    ``row=123/column=speech``.

    Raises:
        AudioNotFoundError: no such archive or member.
        TruncatedAudioError: the archive ends or breaks before the member does.
        AudioError: another kind of file, or the member is refused.
    """
    problem = refusal(member)
    if problem:
        raise AudioError(f"{path}: the member {member!r} {problem}; it is not read")
    with _reading(path):
        return _opened(path).read(member)


def list_members(path: Path) -> Listing:
    """The members of a tar, tar.gz or zip file; raises AudioError as `read_member` does."""
    with _reading(path):
        return _opened(path).listing


def row_member(row: int, column: str = "audio") -> str:
    """The member name of a parquet row's audio; rows count from 0 over the whole file.

    >>> row_member(123), row_member(0, "speech")
    ('row=123', 'row=0/column=speech')
    """
    return f"row={row}" if column == "audio" else f"row={row}/column={column}"


def refusal(name: str) -> str | None:
    r"""Why a member of this name isn't read; None if it may be.

    >>> refusal("../../etc/passwd"), refusal("a/./b..wav"), refusal("C:\\a.wav")
    ('climbs out of the archive', None, 'has an absolute name')
    """
    plain = name.replace("\\", "/")
    if not name or "\0" in name:
        return "has no usable name"
    if plain.startswith("/") or re.match(r"[A-Za-z]:", plain):
        return "has an absolute name"
    if ".." in plain.split("/"):
        return "climbs out of the archive"
    return None


# --- opening ---------------------------------------------------------------------------------------------


def open_file(path: Path) -> BinaryIO:
    """A regular file, opened to read; AudioError for a pipe, a device or a socket, which might never end."""
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise AudioError(f"{path}: a pipe, a device or a socket, no regular file; save the recording in a file first")
    return path.open("rb")


class _Archive(Protocol):
    """An opened archive; threads may read from it at the same time."""

    @property
    def listing(self) -> Listing: ...

    def read(self, member: str) -> bytes: ...


_open: "OrderedDict[tuple[int, str, int, int], _Archive]" = OrderedDict()
_lock = threading.Lock()


def _opened(path: Path) -> _Archive:
    """The archive, with its index kept while the file stays unchanged; a forked process opens its own."""
    found = path.stat()
    key = (os.getpid(), str(path.resolve()), found.st_mtime_ns, found.st_size)
    with _lock:
        if key not in _open:
            _open[key] = _kind(path)
            while len(_open) > _KEPT_OPEN:
                _open.popitem(last=False)
        _open.move_to_end(key)
        return _open[key]


def _kind(path: Path) -> _Archive:
    with open_file(path) as file:
        head = file.read(4)
    if head.startswith(b"\x1f\x8b"):
        return _TarGz(path)
    if head == b"PAR1":
        return _Parquet(path)
    if head.startswith(b"PK"):
        return _Zip(path)
    return _Tar(path)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as e:
        raise AudioNotFoundError(f"{path}: no such file; check the path") from e
    except IsADirectoryError as e:
        raise AudioError(f"{path}: a folder, not an archive; leave the member out") from e
    except (EOFError, ValueError, struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as e:
        # ValueError: parquet's, and bzip2's
        reason = " ".join(str(e).split())
        raise TruncatedAudioError(f"{path}: the archive ends early or breaks ({reason}); fetch it again") from e
    except tarfile.TarError as e:
        raise AudioError(f"{path}: no tar, tar.gz, zip or parquet file, or a broken one ({e}); fetch it again") from e
    except (RuntimeError, OverflowError, MemoryError) as e:
        # RuntimeError: zipfile's for a password, and for a compression that it lacks; the others: sizes in headers
        raise AudioError(f"{path}: can't be read in place ({e}); unpack it") from e
    except OSError as e:
        raise AudioError(f"{path}: can't be read ({e.strerror or e}); check its permissions and the disk") from e


class _Index:
    def __init__(self) -> None:
        self.files: dict[str, tuple[int, int]] = {}  # name -> offset, size
        self.refused: list[str] = []

    def add(self, name: str, offset: int, size: int, *, is_link: bool) -> None:
        if is_link or refusal(name):
            self.refused.append(name)
        else:
            self.files[posixpath.normpath(name)] = (offset, size)

    def listing(self, *, sequential: bool = False) -> Listing:
        sizes = {name: size for name, (_, size) in self.files.items()}
        return Listing(sizes, tuple(self.refused), sequential)

    def find(self, path: Path, member: str) -> tuple[int, int]:
        if member in self.refused:
            raise AudioError(f"{path}: the member {member!r} is a link; it is not read")
        found = self.files.get(posixpath.normpath(member))
        if found is None:
            raise AudioNotFoundError(f"{path}: no member {member!r} in it; check the name")
        if found[1] > MAX_MEMBER:
            raise AudioError(f"{path}: the member {member!r} has {found[1]} bytes; unpack it")
        return found


class _Header(tarfile.TarInfo):
    """A tar's header; one that would be read for ever, or into all memory, is refused."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        name = "".join(c if c.isprintable() else "?" for c in self.name[:100])
        if not 0 <= self.size < 1 << 50:
            raise tarfile.ReadError(f"{name!r} has a size of {self.size} bytes")
        if self.size > MAX_HEADER and self.type in _WORDY:
            raise tarfile.ReadError(f"{self.size} bytes say how {name!r} is called")
        info: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]  # meant to be overridden, so tarfile says
        if not 0 <= info.size < 1 << 50:
            raise tarfile.ReadError(f"{name!r} has a size of {info.size} bytes")
        return info


_WORDY = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


def _require_plausible(unpacked: int, packed: int) -> None:
    if unpacked > FREE_BYTES and unpacked > MAX_RATIO * packed:
        raise RuntimeError(f"{packed} bytes unpack to {unpacked} and more, which speech doesn't")


def _index_tar(tar: tarfile.TarFile) -> _Index:
    index, members, held = _Index(), 0, 0
    while (info := tar.next()) is not None:
        members, held = members + 1, held + info.size
        if members > _MOST_EMPTY and held < members * tarfile.BLOCKSIZE:
            raise tarfile.ReadError(f"{members} members and more, nearly all empty")
        tar.members.clear()  # type: ignore[attr-defined]  # else it keeps a kilobyte of each
        if info.isreg() and not info.issparse():
            index.add(info.name, info.offset_data, info.size, is_link=False)
        elif not info.isdir():
            index.add(info.name, 0, 0, is_link=True)
    return index


# --- kinds -----------------------------------------------------------------------------------------------


class _Tar:
    def __init__(self, path: Path) -> None:
        self._path = path
        with tarfile.open(path, "r:", tarinfo=_Header) as tar:
            self._index = _index_tar(tar)
        self.listing = self._index.listing()

    def read(self, member: str) -> bytes:
        offset, size = self._index.find(self._path, member)
        with self._path.open("rb") as file:  # opened for each read: threads don't share a position in it
            file.seek(offset)
            data = file.read(size)
        if len(data) < size:
            raise EOFError(f"inside {member}")
        return data


class _TarGz:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stream = _Gunzip(path)
        with tarfile.open(fileobj=self._stream, mode="r|", tarinfo=_Header) as tar:  # type: ignore[call-overload]
            # The stream only reads, which the types don't allow for.
            self._index = _index_tar(tar)
        self.listing = self._index.listing(sequential=True)
        self._last: tuple[str, bytes] = ("", b"")  # a member is hashed, then decoded

    def read(self, member: str) -> bytes:
        offset, size = self._index.find(self._path, member)
        with self._lock:
            if self._last[0] != member:
                self._last = (member, self._stream.read_at(offset, size))
            return self._last[1]


class _Gunzip:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._ends = 0  # reads that found the end, one after another
        self._kept: list[tuple[int, int, Any]] = []  # offset in the output, in the input, decompressor there
        self._restart(0, 0, zlib.decompressobj(wbits=31))

    def _restart(self, out: int, at: int, decompressor: Any) -> None:
        self._at, self._decompressor = at, decompressor  # where the input goes on
        self._out, self._buffer = out, memoryview(b"")  # the output that wasn't handed out, and where it begins
        self._input = b""  # read at `_at`, and not yet decompressed
        if not self._kept:
            self._kept.append((out, at, decompressor.copy()))

    def read_at(self, offset: int, size: int) -> bytes:
        point = max((p for p in self._kept if p[0] <= offset), key=lambda p: p[0])
        if offset < self._out or point[0] > self._out + len(self._buffer):
            self._restart(point[0], point[1], point[2].copy())
        while self._out < offset:
            if not self.read(min(offset - self._out, 1 << 20)):
                raise EOFError("inside its data")
        data = self.read(size)
        if len(data) < size:
            raise EOFError("inside a member")
        return data

    def read(self, size: int) -> bytes:
        pieces, missing = [], size
        while missing and (self._buffer or self._more()):
            pieces.append(self._buffer[:missing])
            self._buffer = self._buffer[missing:]
            missing -= len(pieces[-1])
            self._out += len(pieces[-1])
            _require_plausible(self._out, self._at)
        self._ends = 0 if pieces or not size else self._ends + 1
        if self._ends > _MOST_ENDS:  # tarfile skips a member by reading on, at the end, too
            raise EOFError("inside a member")
        return b"".join(pieces)

    def _more(self) -> bool:
        """Decompress a piece of input into the empty buffer; False at the end."""
        while not self._buffer:
            if self._out - self._kept[-1][0] >= SPACING and not self._decompressor.eof:
                self._kept.append((self._out, self._at, self._decompressor.copy()))
            if not self._input or self._decompressor.eof:
                with self._path.open("rb") as file:  # nothing to close when the archive is dropped
                    file.seek(self._at)
                    self._input = file.read(_PIECE)
            if self._decompressor.eof:  # another gzip member may follow, or zeros
                if not self._input.startswith(b"\x1f\x8b"):
                    return False
                self._decompressor = zlib.decompressobj(wbits=31)
            elif not self._input:
                raise EOFError("inside its compressed data")
            given = len(self._input)
            self._buffer = memoryview(self._decompressor.decompress(self._input, _PIECE))
            left = self._decompressor.unused_data if self._decompressor.eof else self._decompressor.unconsumed_tail
            self._input = left
            self._at += given - len(left)
        return True


class _Zip:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._zip = zipfile.ZipFile(path)
        self._index = _Index()
        self._names: dict[str, str] = {}
        for info in self._zip.infolist():
            if not info.is_dir():
                is_link = stat.S_ISLNK(info.external_attr >> 16)
                self._index.add(info.filename, info.header_offset, info.file_size, is_link=is_link)
                self._names[posixpath.normpath(info.filename)] = info.filename
        self.listing = self._index.listing()

    def read(self, member: str) -> bytes:
        self._index.find(self._path, member)
        info = self._zip.getinfo(self._names[posixpath.normpath(member)])
        _require_plausible(info.file_size, info.compress_size)
        plain = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others unpack all that was read
        data = io.BytesIO()
        with self._lock, self._zip.open(info) as file:
            shutil.copyfileobj(file, data, 1 << 20 if plain else 1 << 12)
        return data.getvalue()


class _Parquet:
    """Keeps the audio of one row group in memory: rows in order read each group once."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self._path = path
        self._lock = threading.Lock()
        self._file = pq.ParquetFile(path)
        metadata = self._file.metadata
        self._ends = [0]  # rows before each group
        for group in range(metadata.num_row_groups):
            self._ends.append(self._ends[-1] + metadata.row_group(group).num_rows)
        self._held: tuple[int, str, Any] = (-1, "", None)
        self.listing = Listing({}, (), False)

    def read(self, member: str) -> bytes:
        match = _ROW.fullmatch(member)
        if match is None:
            raise AudioNotFoundError(f"{self._path}: no member {member!r}; a parquet file's are called row=0, row=1, …")
        row, column = int(match[1]), match[2] or "audio"
        if column not in self._file.schema_arrow.names:
            raise AudioNotFoundError(f"{self._path}: no column {column!r}; it has {', '.join(self._columns())}")
        if row >= self._ends[-1]:
            raise AudioNotFoundError(f"{self._path}: no row {row}; it has {self._ends[-1]}, counted from 0")
        group = next(g for g, end in enumerate(self._ends[1:]) if row < end)
        self._require_bounded(group, column)
        with self._lock:
            if self._held[:2] != (group, column):
                self._held = (-1, "", None)  # never two groups in memory
                self._held = (group, column, self._file.read_row_group(group, columns=[column])[column])
            value = self._held[2][row - self._ends[group]].as_py()
        return self._bytes(value, member)

    def _require_bounded(self, group: int, column: str) -> None:
        chunks = self._file.metadata.row_group(group)
        held = [chunks.column(i) for i in range(chunks.num_columns)]
        size = sum(c.total_uncompressed_size for c in held if c.path_in_schema.split(".")[0] == column)
        if size > MAX_MEMBER:
            raise RuntimeError(f"its row group {group} has {size} bytes of {column}; write smaller groups")

    def _bytes(self, value: Any, member: str) -> bytes:
        data = value.get("bytes") if isinstance(value, dict) else value
        if isinstance(data, bytes):
            return data
        neighbour = value.get("path") if isinstance(value, dict) else None
        if isinstance(neighbour, str) and not refusal(neighbour):
            try:
                with open_file(self._path.parent / neighbour) as file:
                    return file.read()
            except FileNotFoundError:
                pass
        raise AudioNotFoundError(f"{self._path}: {member} has no audio bytes in it; fetch a file that has them")

    def _columns(self) -> list[str]:
        return [str(name) for name in self._file.schema_arrow.names]
