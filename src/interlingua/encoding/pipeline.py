"""Utterances -> frames in a store: read, encode, commit, resume."""

import os
import shutil
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from zlib import crc32

import numpy as np

from interlingua.audio import Recording
from interlingua.encoding.encoder import Encoded, SpeechEncoder, pool_frames
from interlingua.encoding.store import FrameStore, line_of
from interlingua.encoding.whisper import Context
from interlingua.errors import AudioError, StoreError, UsageError
from interlingua.progress import track
from interlingua.types import WINDOW_SECONDS, Frames, FrameSpec, Samples, StoreDtype, Utterance

CHUNK_UTTERANCES = 64  # utterances per commit to the store (a killed run loses no more), and decoded ahead
DECODERS = min(8, os.cpu_count() or 1)  # threads


@dataclass(frozen=True)
class EncodeReport:
    """Numbers of utterances encoded and already present in the store, and the failed ones (id -> reason)."""

    encoded: int
    present: int
    failed: dict[str, str]


def encode_manifest(
    utterances: Sequence[Utterance],
    encoder: SpeechEncoder,
    store_path: str | Path,
    *,
    pooling: int = 1,
    dtype: StoreDtype = "float16",
    label: str = "encoding",
    shard: tuple[int, int] = (0, 1),
) -> tuple[FrameStore, EncodeReport]:
    """Encode the utterances that the store lacks, and return the store, created if absent.

    `CHUNK_UTTERANCES` utterances are committed together; the same call resumes a killed run. An utterance whose audio
    changed is encoded again, one whose manifest line changed is described anew; one that fails now loses its frames. A
    pooled store keeps the speech frames only: pooling is for retrieval, where the context isn't read.

    ``shard`` (i, n) encodes part i of n only (`shard_of`); ``pooling`` frames are averaged into one.

    Raises:
        StoreMismatchError: the store holds frames of another kind.
        UsageError: pooling below 1.
        StoreError: the frames won't fit on the disk.
    """
    if pooling < 1:
        raise UsageError(f"--pool {pooling}: use 1 (no pooling) or more")
    utterances = shard_of(utterances, *shard)
    spec = replace(encoder.spec, pooling=pooling, dtype=dtype, rate=encoder.rate)
    if not Path(store_path).exists():  # before the folder is created
        require_space(store_path, estimate_bytes([u for u in utterances if seconds_known(u)], spec, encoder.dim))
    store = FrameStore.open_or_create(store_path, spec, encoder.dim)
    held, known, read = store.hashes(), store.lines(), _Reader()
    failed: dict[str, str] = {}
    todo: list[Utterance] = []
    altered: list[Utterance] = []  # in their manifest line alone
    encoded = present = 0
    with track(len(utterances), label) as advance:

        def readable(found: _Decoded) -> bool:
            if not found.digest:
                failed[found.utterance.id] = found.problem
                advance(1)
            return bool(found.digest)

        for u in utterances:
            try:
                same = u.id in held and read(u).hash(u.audio) == held[u.id]
            except AudioError as e:
                failed[u.id] = str(e)
            else:
                present += same
                if same and known.get(u.id) != line_of(u):
                    altered.append(u)
                if not same:
                    todo.append(u)
                    continue
            advance(1)
        require_space(store_path, estimate_bytes([u for u in todo if seconds_known(u)], spec, encoder.dim))
        with closing(_decoded_ahead(todo)) as decoded:
            while chunk := list(islice(filter(readable, decoded), CHUNK_UTTERANCES)):
                frames = _encode_chunk(chunk, encoder, pooling, dtype, failed)
                store.write(frames)
                encoded += len(frames)
                advance(len(chunk))
    store.describe(altered)
    store.delete(list(failed))
    return store, EncodeReport(encoded, present, failed)


def parse_shard(text: str) -> tuple[int, int]:
    """Read ``i/n``; raises UsageError for anything else."""
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal()):
        raise UsageError(f"--shard {text!r}: use i/n, such as 0/4 for the first of four parts")
    return int(index), int(count)


def shard_of(utterances: Sequence[Utterance], index: int, count: int) -> list[Utterance]:
    """The utterances of part ``index`` of ``count``, by a hash of their ids; raises UsageError for no such part."""
    if not 0 <= index < count:
        raise UsageError(f"--shard {index}/{count}: the parts of {count} are 0/{count} to {count - 1}/{count}")
    return [u for u in utterances if crc32(u.id.encode()) % count == index]


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
            f"{path}: the frames need about {need / 1e9:,.1f} GB, {free / 1e9:,.1f} GB are free; use a "
            "shorter --context, --dtype int8 (half of float16), or `interlingua finetune` without --store, which "
            "encodes on the fly"
        )


@dataclass(frozen=True, eq=False)
class _Decoded:
    """An utterance's samples, or the problem; no ``digest`` where its file couldn't be read."""

    utterance: Utterance
    digest: str
    samples: Samples | None
    problem: str


class _Reader:
    """Reads files, once for consecutive utterances that are stretches of one file."""

    def __init__(self) -> None:
        self._last: tuple[tuple[str, str | None], Recording] | None = None

    def __call__(self, utterance: Utterance) -> Recording:
        file = (utterance.audio.path, utterance.audio.member)
        if self._last is None or self._last[0] != file:
            self._last = (file, Recording.read(utterance.audio))
        return self._last[1]


def _decoded_ahead(utterances: Sequence[Utterance]) -> Generator[_Decoded, None, None]:
    """Decode in threads, in order, up to a chunk ahead; one thread reads, so that archives are read in order."""
    read, waiting = _Reader(), deque[Future[_Decoded]]()
    reader, decoders = ThreadPoolExecutor(1), ThreadPoolExecutor(DECODERS)
    try:
        for u in utterances:
            waiting.append(decoders.submit(_decode, u, reader.submit(read, u)))
            if len(waiting) > CHUNK_UTTERANCES:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # of an interrupted run, what waits is dropped
        decoders.shutdown(wait=False, cancel_futures=True)
        reader.shutdown(cancel_futures=True)


def _decode(utterance: Utterance, reading: "Future[Recording]") -> _Decoded:
    digest = ""
    try:
        recording = reading.result()
        digest = recording.hash(utterance.audio)
        return _Decoded(utterance, digest, recording.samples(utterance.audio), "")
    except AudioError as e:
        return _Decoded(utterance, digest, None, str(e))


def _encode_chunk(
    chunk: Sequence[_Decoded],
    encoder: SpeechEncoder,
    pooling: int,
    dtype: StoreDtype,
    failed: dict[str, str],
) -> list[Frames]:
    failed |= {d.utterance.id: d.problem for d in chunk if d.samples is None}
    ready = [(d.utterance, d.digest, d.samples) for d in chunk if d.samples is not None]
    outputs: list[Encoded | None]
    try:
        outputs = [*encoder.encode([samples for _, _, samples in ready])]
    except AudioError:  # find the culprits one by one; the others are kept
        outputs = [_encode_one(utterance, samples, encoder, failed) for utterance, _, samples in ready]
    result = []
    for (utterance, digest, _), output in zip(ready, outputs, strict=True):
        if output is None:
            continue
        values, n_speech = output
        if pooling > 1:
            values = pool_frames(values[:n_speech], pooling)
            n_speech = len(values)
        stored = values.astype("float32" if dtype == "float32" else "float16")
        if not np.isfinite(stored).all():
            failed[utterance.id] = f"{utterance.audio.path}: its frames overflow; encode with --compute float32"
            continue
        result.append(Frames(utterance.id, stored, n_speech, digest, utterance))
    return result


def _encode_one(
    utterance: Utterance, samples: Samples, encoder: SpeechEncoder, failed: dict[str, str]
) -> Encoded | None:
    try:
        return encoder.encode([samples])[0]
    except AudioError as e:
        failed[utterance.id] = f"{utterance.audio.path}: {e}"
        return None
