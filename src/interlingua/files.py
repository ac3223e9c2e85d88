"""Files: the cache folder, hashes, JSON of others, and writes that leave nothing half-written behind."""

import errno
import hashlib
import os
import platform
import re
import shutil
import unicodedata
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import msgspec

from interlingua.errors import HashMismatchError

_TEMPORARY = ".interlingua"  # how names of unfinished files and folders begin
_OS_ERROR = re.compile(r"\(os error (\d+)\)")  # in messages of Rust libraries
_SPACE, _RIGHTS = "make space, and the same command goes on", "name a place that you may write to, or change its rights"
_FIXES = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: "raise the limit of file sizes (ulimit -f), and the same command goes on",
    errno.EMFILE: "raise the limit of open files (ulimit -n), and the same command goes on",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: _RIGHTS,
    errno.ENOTDIR: "a file is in the way; name another folder",
    errno.EEXIST: "a file is in the way; name another folder",
}


def cache_dir() -> Path:
    """``$INTERLINGUA_CACHE``, else ``$XDG_CACHE_HOME/interlingua``, else ``~/.cache/interlingua``."""
    explicit = os.environ.get("INTERLINGUA_CACHE")
    if explicit:
        return Path(explicit)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "interlingua"


def shown(path: str | Path) -> str:
    r"""A path as text; bytes that aren't UTF-8 are written as ``\xe9``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def as_stored(path: Path) -> Path:
    """A path as the disk has it, where its letters are composed otherwise (é as one sign or two); else itself."""
    if str(path).isascii() or os.path.lexists(path):
        return path
    found = Path(path.anchor)
    for part in path.parts[1 if path.anchor else 0 :]:
        forms = (part, unicodedata.normalize("NFC", part), unicodedata.normalize("NFD", part))
        found /= next((form for form in forms if os.path.lexists(found / form)), part)
    return found


def shown_size(n: float) -> str:
    """Bytes for a message.

    >>> shown_size(444.6e9), shown_size(2e6)
    ('444.6 GB', '2 MB')
    """
    return f"{n / 1e9:,.1f} GB" if n >= 1e9 else f"{n / 1e6:,.0f} MB"


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def check_sha256(path: Path, expected: str, fix: str) -> None:
    """Raise HashMismatchError unless ``path`` has the ``expected`` hex SHA-256."""
    found = sha256_file(path)
    if found != expected:
        raise HashMismatchError(f"{path}: SHA-256 is {found[:12]}…, expected {expected[:12]}…; {fix}")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise the system's refusals to write ``path`` as an OSError that names it, those of Rust libraries, too."""
    try:
        yield
    except Exception as error:  # safetensors and others have classes of their own
        if isinstance(error, OSError):
            number = error.errno
            if error.filename is not None and _TEMPORARY not in str(error.filename):
                raise
        else:
            found = _OS_ERROR.search(str(error))
            number = int(found[1]) if found else None
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def refusal(text: str) -> str | None:
    """The system's reason in a Rust library's message, and the fix; None: there is none."""
    found = _OS_ERROR.search(text)
    number = int(found[1]) if found else 0
    return f"{os.strerror(number)}{fix_of(number)}" if number in _FIXES else None


def fix_of(number: int | None) -> str:
    """What to do about a system's error number, behind its text; "" where that says it."""
    return f"; {_FIXES[number]}" if number in _FIXES else ""


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path``; rename it onto ``path`` only if the block succeeds."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder; name a file", str(path))
    with writing(path):
        temporary = _temporary(path)
        try:
            temporary.touch(0o600, exist_ok=False)
            yield temporary
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)  # 0600 would hide results from colleagues
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder next to ``path``; it replaces ``path`` only if the block succeeds."""
    with writing(path):
        temporary = _temporary(path)
        try:
            temporary.mkdir(0o700)
            yield temporary
            temporary.chmod(0o755)
            old = temporary.with_name(f"{temporary.name}-{_digest(path.name)}")
            if path.exists():
                path.replace(old)
            try:
                temporary.replace(path)
            except OSError:
                if not path.is_dir():  # otherwise another process finished first, with the same content
                    if old.exists():
                        old.replace(path)
                    raise
            finally:
                shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def decode_json(data: bytes | str, kind: Any = Any) -> Any:
    """msgspec's value of a JSON text; raises msgspec.DecodeError for whatever is wrong with it."""
    try:
        return msgspec.json.decode(data, type=kind)
    except RecursionError:
        raise msgspec.DecodeError("JSON that is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"not UTF-8 (byte {error.object[error.start]:#04x})") from None


def _temporary(path: Path) -> Path:
    """An unused path next to ``path``, of this process; what killed processes of this machine left there goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path.parent)
    return path.with_name(f"{_TEMPORARY}-{_machine()}-{os.getpid()}-{uuid.uuid4().hex[:12]}")


@lru_cache(256)
def _remove_leftovers(folder: Path) -> None:  # once a process
    with os.scandir(folder) as entries:
        found = list(entries)
    ours = re.compile(rf"{_TEMPORARY}-{_machine()}-(\d+)-[0-9a-f]+(?:-([0-9a-f]+))?")
    for entry in found:
        name = ours.fullmatch(entry.name)
        if name is None or _is_running(int(name[1])):
            continue
        if name[2] and name[2] not in {_digest(e.name) for e in found}:  # was being replaced, and is all there is
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            Path(entry.path).unlink(missing_ok=True)


@cache
def _machine() -> str:
    """Of this machine, and of the container where processes are counted apart in it."""
    apart = Path("/proc/self/ns/pid")
    return _digest(f"{platform.node()} {apart.readlink() if apart.is_symlink() else ''}")


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:8]


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text through a temporary file and a rename."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
