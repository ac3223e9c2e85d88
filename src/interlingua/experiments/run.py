"""One run: a result folder that one configuration owns, the values cached in it, and its results.

Every experiment and `finetune` reads its settings, claims the folder (`Run`), reads finished work from it (`kept`,
`kept_by_id`), and writes the results with their provenance (`Run.save`). Interrupted, the same call resumes; another
configuration is refused. A single file has a `Claim`, or a `work_folder` while it is made.
"""

import contextlib
import datetime
import fcntl
import json
import os
import shutil
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, TypeVar

import msgspec
import numpy as np

from interlingua.encoding import estimate_bytes, free_bytes
from interlingua.encoding.store import FrameStore
from interlingua.errors import ResultsError
from interlingua.files import atomic_file, decode_json, shown_size, write_text, writing
from interlingua.finetuning.data import seconds_of
from interlingua.results import Results, UtteranceResult, provenance, save_results
from interlingua.types import WINDOW_SECONDS, FrameSpec, Utterance

T = TypeVar("T")
_BUSY = "{out}: another process is writing it; wait for it, or name another --out"
HEADERS = 100  # recordings of unknown length measured before encoding; the others count as their mean


class Run:
    """A result folder, its clock and its log; ``compute``: the encoder's number format, for the provenance."""

    def __init__(
        self, out: Path, *, compute: str = "none", device: str = "cpu", log: Callable[[str], None] = print
    ) -> None:
        self.out, self.compute, self.device, self.log = out, compute, device, log
        self._started, self._clock = datetime.datetime.now(datetime.UTC), time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._clock

    def claim(self, settings: Mapping[str, Any], folder: Path | None = None) -> None:
        """See `claim`; the run's own folder by default, or one shared by several runs.

        One process at a time has the run's own: raises ResultsError for another one, torchrun's apart.
        """
        if os.environ.get("RANK", "0") == "0":
            self._lock = _FolderLock.of(self.out)
        claim(folder or self.out, settings)

    def save(
        self,
        results: Results,
        *,
        measured_on: Iterable[Utterance] = (),
        seeds: Mapping[str, int] | None = None,
        arrays: Mapping[str, np.ndarray] | None = None,
        utterances: Iterable[UtteranceResult] = (),
        write: bool = True,
    ) -> Results:
        """Add the results' provenance; unless ``write`` is False, write them, and the outputs of each utterance."""
        made = provenance(self.compute, self.device, self.seconds, self._started, utterances=measured_on, seeds=seeds)
        results = msgspec.structs.replace(results, provenance=made)
        if write:
            save_results(self.out, results, arrays, utterances)
        return results


def to_encode(utterances: Sequence[Utterance], spec: FrameSpec, dim: int, *stores: Path) -> str:
    """What frame stores at these paths lack, in a line: utterances, hours of audio, disk, and free disk.

    ``dim``: D, their width.
    """
    held = {i for path in stores if path.exists() for i in FrameStore.open(path).n_speech()}
    lacking = with_durations([u for u in utterances if u.id not in held])
    hours = sum(u.duration or 0.0 for u in lacking) / 3600
    need, free = estimate_bytes(lacking, spec, dim), free_bytes(stores[0])
    room = "" if free is None else f", {shown_size(free)} are free"
    return f"{len(lacking)} utterances, {hours:.2f} h of audio; their frames take about {shown_size(need)}{room}"


def with_durations(utterances: Sequence[Utterance]) -> list[Utterance]:
    """The same with a duration each: where the record has none, the mean of a sample of recordings."""
    unknown = [u for u in utterances if u.duration is None and u.audio.duration is None]
    looked_at = [unknown[i] for i in np.random.default_rng(0).permutation(len(unknown))[:HEADERS]]
    found = [seconds for u in looked_at if (seconds := seconds_of(u))]
    guess = float(np.mean(found)) if found else float(WINDOW_SECONDS)
    return [
        u if u.duration is not None else msgspec.structs.replace(u, duration=u.audio.duration or guess)
        for u in utterances
    ]


def claim(out: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings that an output depends on, or refuse one that was begun with others.

    A folder holds them in ``begun.json``. New settings are added. Paths and tuples are compared as JSON has them.

    Raises:
        ResultsError: a setting differs; it is named, with both values.
    """
    path = out / "begun.json"
    begun, lines = _agreed(path, path.read_bytes() if path.exists() else b"", settings, out)
    write_text(path, begun + b"".join(line + b"\n" for line in lines).decode())


class Origin(msgspec.Struct, frozen=True):
    """The recording that the outputs of a ``name`` belong to: its path ("": it has none), hash and given language."""

    name: str
    audio: str
    hash: str
    language: str


class Claim:
    """An output that one process at a time writes, and the recordings that the names in it belong to.

    It holds the settings as `claim` does, and behind them a line for each name. A file's claim is beside it, in
    ``.NAME.begun.json``; without the file it is void. The lock ends with the process, however that ends.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any], *, folder: bool) -> None:
        """Claim a folder, or a file.

        Raises:
            ResultsError: another process writes it, it was begun with other settings, or the file isn't ours.
        """
        self.made: dict[str, Origin] = {}
        self._path = out / "begun.json" if folder else out.with_name(f".{out.name}.begun.json")
        self._folder = out if folder and not out.exists() else None
        self._file = _locked(self._path, out)
        try:
            self._file.seek(0)
            held = self._file.read()
            if not folder and not out.exists():
                held = b""
            elif not folder and not held and out.stat().st_size:
                raise ResultsError(f"{out}: wasn't written by this command; name another --out, or move it away")
            self._new = not held
            begun, lines = _agreed(self._path, held, settings, out)
            for line in lines:
                try:
                    found = decode_json(line, Origin)
                except msgspec.DecodeError as e:
                    raise ResultsError(f"{self._path}: not readable ({e}); delete {out}, or name another --out") from e
                self.made[found.name] = found
            whole = b"".join([begun.encode(), *(line + b"\n" for line in lines)])
            if whole != held:
                with atomic_file(self._path) as temporary:  # under its own lock, and never half of it
                    file = _locked(temporary, out)
                    file.write(whole)
                    file.flush()
                self._file.close()
                self._file = file
        except BaseException:
            self._new = not self._path.stat().st_size
            self.close()
            raise

    def __enter__(self) -> "Claim":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, origin: Origin) -> None:
        """Record whose the outputs of a name are, before they are written."""
        self.made[origin.name] = origin
        with writing(self._path):
            self._file.write(msgspec.json.encode(origin) + b"\n")
            self._file.flush()

    def close(self) -> None:
        """Free it; one that was begun now and has no output leaves nothing."""
        if self._new and not self.made:
            self._path.unlink(missing_ok=True)
            if self._folder:
                with contextlib.suppress(OSError):  # there is something in it
                    self._folder.rmdir()
        with contextlib.suppress(OSError):  # a full disk, which `add` has raised already
            self._file.close()


@contextlib.contextmanager
def work_folder(out: Path) -> Iterator[Path]:
    """A hidden folder beside an output for what is kept until the block succeeds; then it is removed.

    One process at a time has it; raises ResultsError for another one.
    """
    folder = out.with_name(f".{out.name}.begun")
    lock = folder / "lock"
    with _locked(lock, out):
        try:
            yield folder
            shutil.rmtree(folder)
        finally:
            if folder.exists() and [*folder.iterdir()] == [lock]:
                shutil.rmtree(folder)


def _locked(path: Path, out: Path) -> BinaryIO:
    """The open file ``path``, locked until it is closed; ResultsError if another process has locked it."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            file.close()
            raise ResultsError(_BUSY.format(out=out)) from e
        except OSError:  # a file system without locks
            return file
        with contextlib.suppress(FileNotFoundError):  # removed by its owner between opening and locking
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()


class _FolderLock:
    """The lock of a folder, for as long as this process needs it; the folder itself is locked, so nothing stays."""

    _held: ClassVar[weakref.WeakValueDictionary[str, "_FolderLock"]] = weakref.WeakValueDictionary()

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        number = os.open(folder, os.O_RDONLY)
        weakref.finalize(self, os.close, number)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise ResultsError(_BUSY.format(out=folder)) from e
        except OSError:  # a file system without locks
            pass

    @classmethod
    def of(cls, folder: Path) -> "_FolderLock":
        """One that this process has already, or a new one; raises ResultsError if another process has it."""
        name = str(folder.resolve())
        lock = cls._held.get(name) or cls(folder)
        cls._held[name] = lock
        return lock


def _agreed(path: Path, held: bytes, settings: Mapping[str, Any], out: Path) -> tuple[str, list[bytes]]:
    """The text of a claim with these settings added, and the whole lines behind it; ResultsError if they differ."""
    begun: Any = {}
    lines: list[bytes] = []
    try:
        if held:
            text = held.decode("utf-8", "replace")
            begun, end = json.JSONDecoder().raw_decode(text)
            lines = text[end:].lstrip("\n").encode().split(b"\n")[:-1]
        if not isinstance(begun, dict):
            raise ValueError("no JSON object")
    except (ValueError, RecursionError) as e:
        raise ResultsError(f"{path}: not readable ({e}); delete {out}, or name another --out") from e
    given = json.loads(json.dumps(msgspec.to_builtins(dict(settings), enc_hook=str)))
    for name, value in given.items():
        if name in begun and begun[name] != value:
            raise ResultsError(
                f"{out}: begun with {name} {begun[name]!r}, not {value!r}; name another --out, or delete {out}"
            )
    return json.dumps({**begun, **given}, indent=1, ensure_ascii=False) + "\n", lines


def kept(path: Path, make: Callable[[], T], kind: type[T]) -> T:
    """A value from a JSON file, or made and written there.

    Raises:
        ResultsError: the file can't be read as ``kind``.
    """
    if not path.exists():
        made = msgspec.json.encode(make())
        msgspec.json.decode(made, type=kind)  # NaN would be null: only readable values are written
        write_text(path, made.decode() + "\n")
    try:
        value: T = decode_json(path.read_bytes(), kind)
        return value
    except msgspec.DecodeError as e:
        raise ResultsError(f"{path}: not readable ({e}); delete it") from e


def kept_by_id(
    path: Path,
    origins: Mapping[str, str],
    make: Callable[[Sequence[str]], Iterable[Mapping[str, T]]],
    kind: type[T],
) -> dict[str, T]:
    """One value an utterance from a file of JSON lines; missing ones are made and appended, outdated ones replaced.

    A killed run loses only what ``make`` hadn't yielded; half a line is dropped.

    Args:
        path: the file; lines of other utterances stay.
        origins: id -> digest of what the value depends on (audio, model, prompt); another one: made anew.
        make: yields the values of the missing ids, piece by piece; it may leave out ids.

    Raises:
        ResultsError: a whole line isn't such a value; file and line are named.
    """
    line = msgspec.defstruct("Line", [("id", str), ("origin", str), ("value", kind)], forbid_unknown_fields=True)
    held: dict[str, Any] = {}
    if path.exists():
        for number, text in enumerate(whole_lines(path), start=1):
            try:
                found = decode_json(text, line)
            except msgspec.DecodeError as e:
                raise ResultsError(f"{path}:{number}: not a kept value ({e}); delete the file") from e
            held[found.id] = found
    lacking = [i for i, origin in origins.items() if i not in held or held[i].origin != origin]
    if lacking:
        path.parent.mkdir(parents=True, exist_ok=True)
        if outdated := held.keys() & lacking:
            with atomic_file(path) as temporary:
                rest = (row for i, row in held.items() if i not in outdated)
                temporary.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rest))
        with writing(path), path.open("ab") as file, contextlib.closing(_each(make(lacking))) as pieces:
            for piece in pieces:
                rows = {i: line(id=i, origin=origins[i], value=value) for i, value in piece.items()}
                file.write(b"".join(msgspec.json.encode(row) + b"\n" for row in rows.values()))
                file.flush()
                os.fsync(file.fileno())
                held |= rows
    return {i: held[i].value for i, origin in origins.items() if i in held and held[i].origin == origin}


def whole_lines(path: Path) -> list[bytes]:
    """The lines of a file; half a line of a killed run is dropped from it."""
    whole, _, half = path.read_bytes().rpartition(b"\n")
    if half:
        with atomic_file(path) as temporary:
            temporary.write_bytes(whole + b"\n" if whole else b"")
    return whole.splitlines()


def _each(pieces: Iterable[Mapping[str, T]]) -> Any:
    yield from pieces
