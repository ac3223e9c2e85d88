"""One run: a result folder that one configuration owns, the values cached in it, and its results.

Every experiment and `finetune` reads its settings, claims the folder (`Run`), reads finished work from it (`kept`,
`kept_by_id`), and writes the results with their provenance (`Run.save`). Interrupted, the same call resumes; another
configuration is refused.
"""

import contextlib
import datetime
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from interlingua.encoding import estimate_bytes, free_bytes
from interlingua.encoding.store import FrameStore
from interlingua.errors import ResultsError
from interlingua.files import atomic_file, write_text
from interlingua.finetuning.data import seconds_of
from interlingua.results import Results, UtteranceResult, provenance, save_results
from interlingua.types import WINDOW_SECONDS, FrameSpec, Utterance

T = TypeVar("T")
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
        """See `claim`; the run's own folder by default, or one shared by several runs."""
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
    room = "" if free is None else f", {free / 1e9:.0f} GB are free"
    return f"{len(lacking)} utterances, {hours:.2f} h of audio; their frames take about {need / 1e9:.2f} GB{room}"


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

    A folder holds them in ``begun.json``, a file ``NAME.jsonl`` in ``.NAME.jsonl.begun.json``. New settings are added.
    Paths and tuples are compared as JSON has them.

    Raises:
        ResultsError: a setting differs; it is named, with both values.
    """
    path = out.with_name(f".{out.name}.begun.json") if out.suffix == ".jsonl" else out / "begun.json"
    try:
        held = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as e:
        raise ResultsError(f"{path}: not readable ({e}); delete {out}, or name another --out") from e
    given = json.loads(json.dumps(msgspec.to_builtins(dict(settings), enc_hook=str)))
    for name, value in given.items():
        if name in held and held[name] != value:
            raise ResultsError(
                f"{out}: begun with {name} {held[name]!r}, not {value!r}; name another --out, or delete {out}"
            )
    write_text(path, json.dumps({**held, **given}, indent=1, ensure_ascii=False) + "\n")


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
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except msgspec.DecodeError as e:
        raise ResultsError(f"{path}: not readable ({e}); delete it") from e


def kept_by_id(
    path: Path,
    origins: Mapping[str, str],
    make: Callable[[Sequence[str]], Iterable[Mapping[str, T]]],
    kind: type[T],
) -> dict[str, T]:
    """One value an utterance from a file of JSON lines; missing ones are made and appended.

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
        decoder = msgspec.json.Decoder(line)
        for number, text in enumerate(whole_lines(path), start=1):
            try:
                found: Any = decoder.decode(text)
            except (msgspec.DecodeError, UnicodeDecodeError) as e:
                raise ResultsError(f"{path}:{number}: not a kept value ({e}); delete the file") from e
            held[found.id] = found
    lacking = [i for i, origin in origins.items() if i not in held or held[i].origin != origin]
    if lacking:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file, contextlib.closing(_each(make(lacking))) as pieces:
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
