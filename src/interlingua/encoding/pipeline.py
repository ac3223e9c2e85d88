"""Utterances -> frames in a store: read, encode, commit, resume."""

import os
import shutil
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import chain, islice
from pathlib import Path
from threading import Condition
from time import monotonic, time
from typing import Protocol
from zlib import crc32

import numpy as np

from interlingua.audio import Recording
from interlingua.encoding.encoder import Encoded, SpeechEncoder, pool_frames
from interlingua.encoding.store import FrameStore, line_of, sweep
from interlingua.encoding.whisper import Context
from interlingua.errors import AudioError, StoreError, UsageError
from interlingua.files import shown_size
from interlingua.progress import track
from interlingua.types import SAMPLE_RATE, WINDOW_SECONDS, FrameArray, Frames, FrameSpec, Samples, StoreDtype, Utterance

CHUNK_UTTERANCES = 64  # encoded together, and decoded ahead
CHUNK_SECONDS = 960.0  # of audio that are encoded together, about
WINDOWS_AHEAD = 4  # of the encoder's windows of a recording, decoded ahead; longer ones are decoded as they are encoded
WINDOWS_AT_ONCE = 8  # of those
WAITING_BYTES = 2**27  # of files and samples that wait to be encoded at most
COMMIT_TIME = 0.05  # of a run at most; a commit took 0.04 s with 100,000 utterances in the store, 0.15 s with a million
COMMIT_BYTES = 2**27  # of frames that wait for a commit at most, one long recording apart; a commit copies them
_COMPLETE = "complete"
DECODERS = min(8, os.cpu_count() or 1)  # threads


@dataclass(frozen=True)
class EncodeReport:
    """Numbers of utterances encoded and already present in the store, and the failed ones (id -> reason).

    ``missing``: the other shards that haven't completed, where the manifest is encoded in shards.
    """

    encoded: int
    present: int
    failed: dict[str, str]
    missing: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Part:
    """What an engine made of some utterances: frames to commit, ids that the store holds as they are, failed ones."""

    frames: list[Frames]
    present: list[str]
    failed: dict[str, str]


class Engine(Protocol):
    """Where utterances are encoded: in this process (`encode_here`) or on a cluster (`encoding.cluster`)."""

    def __call__(
        self, utterances: Sequence[Utterance], held: Mapping[str, str], encoder: SpeechEncoder, spec: FrameSpec
    ) -> Iterator[Part]:
        """Encode what ``held`` (id -> audio hash) lacks, as frames of ``spec``; every utterance is in one part."""
        ...


def encode_here(
    utterances: Sequence[Utterance], held: Mapping[str, str], encoder: SpeechEncoder, spec: FrameSpec
) -> Iterator[Part]:
    """The engine of one process: files are decoded in threads while a chunk is encoded."""
    read, todo = _Reader(), []
    for u in utterances:
        try:
            same = u.id in held and read(u).hash(u.audio) == held[u.id]
        except AudioError as e:
            yield Part([], [], {u.id: str(e)})
        else:
            if same:
                yield Part([], [u.id], {})
            else:
                todo.append(u)
    with closing(_decoded_ahead(todo, getattr(encoder, "window", None))) as decoded:
        chunk: list[_Decoded] = []
        for found in decoded:
            if not found.digest:
                yield Part([], [], {found.utterance.id: found.problem})
                continue
            chunk.append(found)
            full = len(chunk) == CHUNK_UTTERANCES or sum(d.seconds for d in chunk) >= CHUNK_SECONDS
            if full or found.rest:
                yield _encode_chunk(chunk, encoder, spec)
                chunk = []
        if chunk:
            yield _encode_chunk(chunk, encoder, spec)


def encode_manifest(
    utterances: Sequence[Utterance],
    encoder: SpeechEncoder,
    store_path: str | Path,
    *,
    pooling: int = 1,
    dtype: StoreDtype = "float16",
    label: str = "encoding",
    shard: tuple[int, int] = (0, 1),
    whole: Sequence[str] | None = None,
    engine: Engine = encode_here,
) -> tuple[FrameStore, EncodeReport]:
    """Encode the utterances that the store lacks, and return the store, created if absent.

    The same call resumes a killed run: chunks are committed as they come, by this process alone. An utterance whose
    audio changed is encoded again, one whose manifest line changed is described anew; one that fails now loses its
    frames. A pooled store keeps the speech frames only: pooling is for retrieval, where the context isn't read.

    ``shard`` (i, n) encodes part i of n only (`shard_of`), beside other processes that write to the store; ``whole``:
    names of all that is encoded in shards, where the utterances are part i already. ``pooling`` frames are averaged
    into one.

    Raises:
        StoreMismatchError: the store holds frames of another kind.
        UsageError: pooling below 1, no such shard, or the manifest is being encoded in another number of shards.
        StoreError: the frames won't fit on the disk.
    """
    if pooling < 1:
        raise UsageError(f"--pool {pooling}: use 1 (no pooling) or more")
    begun = time()
    chosen = shard_of(utterances, *shard) if whole is None else utterances
    spec = replace(encoder.spec, pooling=pooling, dtype=dtype, rate=encoder.rate)

    def require_space_for(absent: Sequence[Utterance]) -> None:
        require_space(store_path, estimate_bytes([u for u in absent if seconds_known(u)], spec, encoder.dim))

    if not Path(store_path).exists():  # before the folder is created
        require_space_for(chosen)
    store = FrameStore.open_or_create(store_path, spec, encoder.dim)
    shards = _Shards(store, [u.id for u in utterances] if whole is None else whole, *shard)
    held, known = store.hashes(), store.lines()
    require_space_for([u for u in chosen if u.id not in held])
    present, failed, commits = set[str](), dict[str, str](), _Commits(store)
    with track(len(chosen), label) as advance, commits:
        for part in engine(chosen, held, encoder, spec):
            commits.add(part.frames)
            present.update(part.present)
            failed |= part.failed
            advance(len(part.frames) + len(part.present) + len(part.failed))
    store.describe([u for u in chosen if u.id in present and known.get(u.id) != line_of(u)])
    store.delete(list(failed))
    sweep(store.path, begun)
    return store, EncodeReport(commits.written, len(present), failed, shards.complete())


class _Commits:
    """Commits frames: rarely enough that commits, which grow with the store and its writers, take little of the time.

    On an interruption, what has been encoded is committed.
    """

    def __init__(self, store: FrameStore) -> None:
        self._store = store
        self._waiting: list[Frames] = []
        self._bytes = 0
        self._not_before = 0.0
        self.written = 0

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._commit()

    def add(self, frames: Sequence[Frames]) -> None:
        """Take frames, and commit all that wait if it is time."""
        more = sum(f.values.nbytes for f in frames)
        if self._waiting and self._bytes + more > COMMIT_BYTES:
            self._commit()
        self._waiting += frames
        self._bytes += more
        if self._bytes >= COMMIT_BYTES or (self._waiting and monotonic() >= self._not_before):
            self._commit()

    def _commit(self) -> None:
        started = monotonic()
        self._store.write(self._waiting)
        self.written += len(self._waiting)
        self._waiting, self._bytes = [], 0
        self._not_before = monotonic() + (monotonic() - started) / COMMIT_TIME


class _Shards:
    """Which shards of a manifest have completed, in the store's notes; raises UsageError for another number of them."""

    def __init__(self, store: FrameStore, names: Sequence[str], index: int, count: int) -> None:
        self._store, self._index, self._count = store, index, count
        manifest = sha256("\n".join(sorted(names)).encode("utf-8", "surrogateescape")).hexdigest()[:16]
        self._prefix = f"interlingua.shards/{manifest}/"
        recorded = self._recorded()
        self._recording = count > 1 or bool(recorded)
        for n, completed in recorded.items():
            missing = sorted({*range(n)} - completed)
            if missing and count != 1 and count not in recorded:
                raise UsageError(
                    f"--shard {index}/{count}: {store.path} takes this manifest in {n} shards, of which "
                    f"{_some(missing)} haven't completed; use --shard i/{n}, or leave --shard out to encode the rest"
                )
        if self._recording and index not in recorded.get(count, ()):
            store.note({f"{self._prefix}{count}/{index}": "begun"})

    def complete(self) -> tuple[int, ...]:
        """Note that this shard has completed, and return those that haven't."""
        if not self._recording:
            return ()
        self._store.note({f"{self._prefix}{self._count}/{self._index}": _COMPLETE})
        recorded = self._recorded()
        if self._count == 1:  # nothing is left to shards
            self._store.note({f"{self._prefix}{n}/{i}": _COMPLETE for n in recorded for i in range(n)})
        return tuple(sorted({*range(self._count)} - recorded[self._count]))

    def _recorded(self) -> dict[int, set[int]]:
        """Number of shards -> the completed ones."""
        found: dict[int, set[int]] = {}
        for key, state in self._store.notes().items():
            if key.startswith(self._prefix):  # each shard has a note of its own: no two processes write one
                count, _, index = key.removeprefix(self._prefix).partition("/")
                found.setdefault(int(count), set()).update([int(index)] if state == _COMPLETE else [])
        return found


def _some(numbers: Sequence[int]) -> str:
    """A list of numbers for a message, cut short."""
    return ", ".join(str(n) for n in numbers[:8]) + (" and others" if len(numbers) > 8 else "")


def parse_shard(text: str) -> tuple[int, int]:
    """Read ``i/n``; raises UsageError for anything else."""
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal()):
        raise UsageError(f"--shard {text!r}: use i/n, such as 0/4 for the first of four parts")
    return int(index), int(count)


def shard_of(utterances: Sequence[Utterance], index: int, count: int) -> list[Utterance]:
    """The utterances of part ``index`` of ``count``, by a hash of their ids; raises UsageError for no such part."""
    return [u for u in utterances if in_shard(u.id, index, count)]


def in_shard(name: str, index: int, count: int) -> bool:
    """Whether a name belongs to part ``index`` of ``count``, by its hash; raises UsageError for no such part."""
    if not 0 <= index < count:
        raise UsageError(f"--shard {index}/{count}: the parts of {count} are 0/{count} to {count - 1}/{count}")
    return crc32(name.encode("utf-8", "surrogateescape")) % count == index


def estimate_bytes(utterances: Sequence[Utterance], spec: FrameSpec, dim: int) -> int:
    """Disk space of utterances' frames, from the records' durations; an unknown one counts as a whole window."""
    context, size = Context.parse(spec.context), {"int8": 1, "float16": 2, "float32": 4}[spec.dtype]
    frames = 0
    for u in utterances:
        known = u.duration if u.duration is not None else u.audio.duration
        n_speech = round((WINDOW_SECONDS if known is None else known) * spec.rate)
        frames += (
            -(-n_speech // spec.pooling)
            if spec.pooling > 1
            else max(n_speech, context.total_frames(n_speech, spec.rate))
        )
    return frames * (dim * size + (4 if spec.dtype == "int8" else 0))


def seconds_known(utterance: Utterance) -> bool:
    """Whether the record holds the utterance's duration."""
    return utterance.duration is not None or utterance.audio.duration is not None


def free_bytes(path: str | Path) -> int | None:
    """Free bytes on a path's disk; None for an object store."""
    if "://" in str(path):
        return None
    folder = Path(path).resolve()
    return shutil.disk_usage(next(p for p in (folder, *folder.parents) if p.exists())).free


def require_space(path: str | Path, need: int) -> None:
    """Raise StoreError unless ``need`` bytes fit on the store's disk."""
    free = free_bytes(path)
    if free is not None and need > free:
        raise StoreError(
            f"{path}: the frames need about {shown_size(need)}, {shown_size(free)} are free; make space, and the same "
            "command goes on, or use a shorter --context, --dtype int8 (half of float16), or `interlingua finetune` "
            "without --store, which encodes on the fly"
        )


@dataclass(frozen=True, eq=False)
class _Decoded:
    """An utterance's samples, or the problem; no ``digest`` where its file couldn't be read.

    ``windows``: what the encoder takes one by one; ``rest``: those of a long recording, decoded when they are taken.
    ``size``: bytes in memory.
    """

    utterance: Utterance
    digest: str
    windows: list[Samples]
    problem: str = ""
    rest: Iterator[Samples] | None = None
    size: int = 0

    @property
    def seconds(self) -> float:
        """Duration of ``windows``."""
        return sum(map(len, self.windows)) / SAMPLE_RATE


class _Reader:
    """Reads files, once for consecutive utterances that are stretches of one file."""

    def __init__(self) -> None:
        self._last: tuple[tuple[str, str | None], Recording] | None = None

    def __call__(self, utterance: Utterance) -> Recording:
        return self.read(utterance)[0]

    def read(self, utterance: Utterance) -> tuple[Recording, int]:
        """A recording, and its bytes in memory if they are new there."""
        file = (utterance.audio.path, utterance.audio.member)
        if self._last is not None and self._last[0] == file:
            return self._last[1], 0
        self._last = None  # before the next one is held, too
        self._last = (file, Recording.read(utterance.audio))
        return self._last[1], self._last[1].size


class _Waiting:
    """Counts the bytes that wait to be encoded; reading waits while they are too many."""

    def __init__(self) -> None:
        self._changed, self._bytes, self._over = Condition(), 0, False

    def room(self) -> None:
        """Wait for it."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._bytes < WAITING_BYTES)

    def add(self, size: int) -> None:
        """Count more, or fewer."""
        with self._changed:
            self._bytes += size
            self._changed.notify_all()

    def close(self) -> None:
        """Let all go on."""
        self._over = True
        self.add(0)


def _decoded_ahead(utterances: Sequence[Utterance], window: float | None) -> Generator[_Decoded, None, None]:
    """Decode in threads, in order, up to a chunk ahead; one thread reads, so that archives are read in order."""
    read, waiting, held = _Reader(), deque[Future[_Decoded]](), _Waiting()
    reader, decoders = ThreadPoolExecutor(1), ThreadPoolExecutor(DECODERS)

    def reading(utterance: Utterance) -> tuple[Recording, int]:
        held.room()
        recording, size = read.read(utterance)
        held.add(size)
        return recording, size

    def decode(utterance: Utterance, recording: Future[tuple[Recording, int]]) -> _Decoded:
        found = _decode(utterance, recording, window)
        held.add(sum(w.nbytes for w in found.windows))
        return found

    def next_one() -> _Decoded:
        found = waiting.popleft().result()
        held.add(-found.size)
        return found

    try:
        for u in utterances:
            waiting.append(decoders.submit(decode, u, reader.submit(reading, u)))
            if len(waiting) > CHUNK_UTTERANCES:
                yield next_one()
        while waiting:
            yield next_one()
    finally:  # of an interrupted run, what waits is dropped
        held.close()
        decoders.shutdown(wait=False, cancel_futures=True)
        reader.shutdown(cancel_futures=True)


def _decode(utterance: Utterance, reading: "Future[tuple[Recording, int]]", window: float | None) -> _Decoded:
    digest, size = "", 0
    try:
        recording, size = reading.result()
        digest = recording.hash(utterance.audio)
        blocks = recording.stream(utterance.audio)
        rest = iter([np.concatenate(list(blocks))]) if window is None else _windows(blocks, round(window * SAMPLE_RATE))
        windows = list(islice(rest, WINDOWS_AHEAD + 1))
        more = chain([windows.pop()], rest) if len(windows) > WINDOWS_AHEAD else None
        return _Decoded(utterance, digest, windows, "", more, size + sum(w.nbytes for w in windows))
    except AudioError as e:
        return _Decoded(utterance, digest, [], str(e), None, size)


def _windows(blocks: Iterator[Samples], size: int) -> Iterator[Samples]:
    """Blocks of samples joined to windows of ``size``; the last may be shorter."""
    held: list[Samples] = []
    for block in blocks:
        held.append(block)
        if sum(map(len, held)) >= size:
            joined = np.concatenate(held)
            yield joined[:size]
            held = [joined[size:]]
    if any(map(len, held)):
        yield np.concatenate(held)


class _Growing:
    """The frames of an utterance, window by window, as they are stored."""

    def __init__(self, decoded: _Decoded, spec: FrameSpec) -> None:
        self.decoded, self.problem, self._spec = decoded, decoded.problem, spec
        self._parts: list[FrameArray] = []
        self._n_speech = 0
        self._left: FrameArray | None = None  # of speech, before pooling

    def add(self, values: FrameArray, n_speech: int) -> None:
        """Add the encoder's frames of the next window."""
        if self._spec.pooling == 1:
            self._keep(values, n_speech)
            return
        values = values[:n_speech] if self._left is None else np.concatenate([self._left, values[:n_speech]])
        whole = len(values) // self._spec.pooling * self._spec.pooling
        self._left = values[whole:].copy()
        self._pool(values[:whole])

    def frames(self) -> Frames | None:
        """All of them; None where there is a problem."""
        if self._left is not None:
            self._pool(self._left)
        if self.problem:
            return None
        values, at = np.empty((sum(map(len, self._parts)), self._parts[0].shape[1]), self._parts[0].dtype), 0
        while self._parts:  # each goes as it is copied: an hour's frames aren't held twice
            part = self._parts.pop(0)
            values[at : at + len(part)] = part
            at += len(part)
        return Frames(self.decoded.utterance.id, values, self._n_speech, self.decoded.digest, self.decoded.utterance)

    def _pool(self, values: FrameArray) -> None:
        if len(values):
            pooled = pool_frames(values, self._spec.pooling)
            self._keep(pooled, len(pooled))

    def _keep(self, values: FrameArray, n_speech: int) -> None:
        stored = values.astype("float32" if self._spec.dtype == "float32" else "float16")
        if not np.isfinite(stored).all():
            self.problem = f"{self.decoded.utterance.audio.path}: its frames overflow; encode with --compute float32"
        self._parts.append(stored)
        self._n_speech += n_speech


def _encode_chunk(chunk: Sequence[_Decoded], encoder: SpeechEncoder, spec: FrameSpec) -> Part:
    all_of_it = [_Growing(decoded, spec) for decoded in chunk]
    _encode([(one, window) for one in all_of_it for window in one.decoded.windows], encoder)
    for one in all_of_it:
        try:
            while one.decoded.rest and not one.problem and (more := list(islice(one.decoded.rest, WINDOWS_AT_ONCE))):
                _encode([(one, window) for window in more], encoder)
        except AudioError as e:
            one.problem = str(e)
    frames = [one.frames() for one in all_of_it]
    failed = {one.decoded.utterance.id: one.problem for one in all_of_it if one.problem}
    return Part([f for f in frames if f is not None], [], failed)


def _encode(windows: Sequence[tuple[_Growing, Samples]], encoder: SpeechEncoder) -> None:
    outputs: list[Encoded | None]
    try:
        outputs = [*encoder.encode([samples for _, samples in windows])]
    except AudioError:  # find the culprits one by one; the others are kept
        outputs = [_encode_one(one, samples, encoder) for one, samples in windows]
    for (one, _), output in zip(windows, outputs, strict=True):
        if output is not None:
            one.add(*output)


def _encode_one(one: _Growing, samples: Samples, encoder: SpeechEncoder) -> Encoded | None:
    try:
        return encoder.encode([samples])[0]
    except AudioError as e:
        one.problem = f"{one.decoded.utterance.audio.path}: {e}"
        return None
