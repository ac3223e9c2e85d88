"""The frame store: encoder frames of many utterances in one Lance dataset, versioned and appendable.

One row an utterance: ``id``, ``n_speech``, ``audio_hash``, ``utterance`` (its manifest line, JSON), ``checksum`` and
``frames`` (a list of D-wide vectors); the schema's metadata is a `FrameSpec`. As int8, every frame has its own scale in
``scales`` and is read as float16. Every write is one Lance commit: a killed run leaves the last complete version.
"""

import re
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import lance
import msgspec
import numpy as np
import pyarrow as pa

from interlingua.errors import StoreError, StoreMismatchError
from interlingua.files import refusal, shown
from interlingua.types import FrameArray, Frames, FrameSpec, Utterance

_ARROW = {"float16": pa.float16(), "float32": pa.float32(), "int8": pa.int8()}
_FORMAT = "interlingua-frames-1"
CONFLICTS = 1000  # with other writers before one gives up: eight that write all the time meet dozens
CONFLICT_TIME = timedelta(minutes=10)  # likewise; Lance's own 30 s were nearly reached by those eight (8 s)
MANY_FILES = 32  # of a dataset, which are joined then
WRITE_TIME = 5.0  # seconds; a file that Lance writes has grown within them
UNWRITABLE = "can't be written ({})"
_REFUSALS = {  # a sign in an object store's answer -> what is wrong and how to fix it
    "NoSuchBucket": "there is no such bucket; create it or correct the URI",
    "InvalidAccessKeyId": "the access key isn't known there; check AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL",
    "SignatureDoesNotMatch": "the secret key is wrong; check AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "the session has expired; renew AWS_SESSION_TOKEN and its keys",
    "AccessDenied": "access is denied; the key needs ListBucket, GetObject, PutObject and DeleteObject there",
    "AuthorizationHeaderMalformed": "the bucket lies in another region; set AWS_REGION to it",
    "PermanentRedirect": "the bucket lies in another region; set AWS_REGION to it",
    "Received redirect": "the bucket lies in another region; set AWS_REGION to it",
    "CredentialsNotLoaded": "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "builder error": "AWS_ENDPOINT_URL can't be used; for one that begins with http:// set AWS_ALLOW_HTTP=true",
    "error sending request": "no answer from the object store; check AWS_ENDPOINT_URL, AWS_REGION and the network",
    "501 Not Implemented": "this object store has no conditional writes, which safe commits need; use another one",
}
_SOURCE_LINE = re.compile(r", \S+\.rs:\d+:\d+")  # of Lance's own code
_KEY = {"lance-schema:unenforced-primary-key": "true"}  # lets Lance see that two writers add the same utterance


class FrameStore:
    """Frames of one kind, by utterance id; the path may be a folder or an object-store URI."""

    def __init__(self, dataset: Any, spec: FrameSpec, dim: int) -> None:
        self._dataset = dataset
        self.spec = spec
        self.dim = dim
        self._columns = [name for name in dataset.schema.names if name != "utterance"]  # of frames
        self._described = "utterance" in dataset.schema.names  # older stores don't know their utterances
        self._summed = "checksum" in dataset.schema.names  # likewise
        self._rows: dict[str, int] | None = None

    @classmethod
    def open(cls, path: str | Path) -> "FrameStore":
        """Open an existing store; raises StoreError if there is none at ``path``, or if its object store refuses."""
        dataset = opened(path)
        if dataset is None:
            raise StoreError(f"{path}: no frame store here; make one with `interlingua encode`")
        metadata = {k.decode(): v.decode() for k, v in (dataset.schema.metadata or {}).items()}
        if metadata.get("format") != _FORMAT:
            raise StoreError(f"{path}: a Lance dataset, but not a frame store of interlingua ({_FORMAT})")
        spec = FrameSpec(
            model=metadata["model"],
            revision=metadata["revision"],
            layer=int(metadata["layer"]),
            context=metadata["context"],
            pooling=int(metadata["pooling"]),
            dtype=metadata["dtype"],  # one of ours: the format is
            compute=metadata["compute"],
            rate=float(metadata.get("rate", FrameSpec.rate)),  # older stores don't name it
        )
        return cls(dataset, spec, int(metadata["dim"]))

    @classmethod
    def create(cls, path: str | Path, spec: FrameSpec, dim: int) -> "FrameStore":
        """Create an empty store; raises StoreError if ``path`` exists."""
        schema = _schema(spec, dim)
        with faults_named(path, "can't create a frame store ({})"):
            dataset = lance.write_dataset(schema.empty_table(), str(path), schema=schema, mode="create")
        return cls(dataset, spec, dim)

    @classmethod
    def open_or_create(cls, path: str | Path, spec: FrameSpec, dim: int) -> "FrameStore":
        """Open the store at ``path``, or create it; raises StoreMismatchError if its frames are of another kind."""
        if opened(path) is None and not _occupied(Path(path)):
            try:
                return cls.create(path, spec, dim)
            except StoreError:
                if opened(path) is None:
                    raise  # and not another process's that was quicker
        store = cls.open(path)
        store.require(spec, dim)
        return store

    def require(self, spec: FrameSpec, dim: int) -> None:
        """Raise StoreMismatchError unless this store holds frames of exactly this kind."""
        for field in fields(FrameSpec):
            held, wanted = getattr(self.spec, field.name), getattr(spec, field.name)
            if held != wanted:
                raise StoreMismatchError(
                    f"{self.path}: holds frames with {field.name} {held!r}, not {wanted!r}; "
                    "use another store folder, or the same settings"
                )
        if self.dim != dim:
            raise StoreMismatchError(f"{self.path}: holds frames {self.dim} wide, not {dim}; use another store folder")

    @property
    def path(self) -> str:
        """The store's URI."""
        return str(self._dataset.uri)

    @property
    def read_dtype(self) -> str:
        """Number format of the frames that are written and read; int8 stores take and give float16."""
        return "float16" if self.spec.dtype == "int8" else self.spec.dtype

    @property
    def version(self) -> int:
        """Lance's version number; every write adds one."""
        return int(self._dataset.version)

    def __len__(self) -> int:
        return int(self._dataset.count_rows())

    def __contains__(self, utterance_id: object) -> bool:
        return utterance_id in self._index()

    def ids(self) -> list[str]:
        """Utterance ids in row order."""
        return list(self._index())

    def hashes(self) -> dict[str, str]:
        """Utterance id -> hash of the audio that its frames were made from."""
        table = self._table_of("id", "audio_hash")
        return dict(zip(table["id"].to_pylist(), table["audio_hash"].to_pylist(), strict=True))

    def n_speech(self) -> dict[str, int]:
        """Utterance id -> frames that carry its speech."""
        table = self._table_of("id", "n_speech")
        return dict(zip(table["id"].to_pylist(), table["n_speech"].to_pylist(), strict=True))

    def lines(self, ids: Iterable[str] | None = None) -> dict[str, str]:
        """Utterance id -> its manifest line, of all or some utterances; empty in a store of an older version."""
        if not self._described:
            return {}
        with self._damage_named():
            table = self._dataset.to_table(columns=["id", "utterance"], filter=None if ids is None else among(ids))
        pairs = zip(table["id"].to_pylist(), table["utterance"].to_pylist(), strict=True)
        return {i: line for i, line in pairs if line}

    def describe(self, utterances: Sequence[Utterance]) -> None:
        """Replace the manifest lines of utterances that the store holds, in one commit; frames stay."""
        chosen = [u for u in utterances if u.id in self]
        if chosen and self._described:
            schema = pa.schema([pa.field("id", pa.string(), nullable=False, metadata=_KEY), ("utterance", pa.string())])
            columns = {"id": [u.id for u in chosen], "utterance": [line_of(u) for u in chosen]}
            table = pa.table(columns, schema=schema)
            self._merge(self._dataset.merge_insert("id").when_matched_update_all(), table)

    def write(self, frames: Sequence[Frames]) -> None:
        """Add utterances in one commit; those already in the store are replaced."""
        if not frames:
            return
        frames = list({f.id: f for f in frames}.values())  # of two with one id, the last
        # Merging rather than appending: two processes that encode one manifest don't write an utterance twice.
        merge = self._dataset.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
        self._merge(merge, self._table(frames))

    def delete(self, ids: Sequence[str]) -> None:
        """Remove utterances in one commit; unknown ids are ignored."""
        held = [i for i in ids if i in self]
        if held:
            with faults_named(self.path, UNWRITABLE):
                self._dataset.delete(among(held), conflict_retries=CONFLICTS, retry_timeout=CONFLICT_TIME)
                self._reopen()

    def notes(self) -> dict[str, str]:
        """What `note` has kept, by any process."""
        with self._damage_named():
            return dict(lance.dataset(self._dataset.uri).config())

    def note(self, notes: dict[str, str]) -> None:
        """Keep some text beside the frames, by name."""
        with faults_named(self.path, UNWRITABLE):
            for tries in range(CONFLICTS):
                self._reopen()
                try:
                    self._dataset.update_config(notes)
                except OSError as e:  # Lance doesn't retry this itself
                    if "Incompatible transaction" not in str(e) or tries == CONFLICTS - 1:
                        raise
                else:
                    break
            self._reopen()

    def read(self, ids: Sequence[str], *, lacking: bool = False) -> list[Frames]:
        """Frames of the given utterances, in order.

        Raises StoreError if one is not in the store; ``lacking``: those are skipped.
        """
        with self._damage_named():
            if self._rows is None and self._dataset.has_index:
                table = self._dataset.to_table(columns=self._columns, filter=among(ids))
            else:  # Lance takes rows in any order; sorted ones are read in one sweep
                index = self._index()
                table = self._dataset.take(sorted({index[i] for i in ids if i in index}), columns=self._columns)
        found = {f.id: f for f in self._frames(table)}
        missing = [i for i in ids if i not in found]
        if missing and not lacking:
            raise StoreError(
                f"{self.path}: {len(missing)} of {len(ids)} utterances are not in the store "
                f"(the first is {missing[0]!r}); run `interlingua encode` on their manifest"
            )
        return [found[i] for i in ids if i in found]

    def tidy(self) -> None:
        """Join the small files of many commits, and delete versions that are older than a day."""
        tidied(self._dataset)
        self._reopen()

    def index_ids(self) -> None:
        """Keep an index of ids on disk: reading some utterances needs no list of all in memory then."""
        if self._dataset.has_index:
            self._dataset.optimize.optimize_indices()
        else:
            self._dataset.create_scalar_index("id", "BTREE")
        self._reopen()

    def __iter__(self) -> Iterator[Frames]:
        batches = self._dataset.to_batches(columns=self._columns)
        while True:
            with self._damage_named():
                batch = next(batches, None)
            if batch is None:
                return
            yield from self._frames(pa.Table.from_batches([batch]))

    def _reopen(self) -> None:
        self._dataset = lance.dataset(self._dataset.uri)
        self._rows = None

    def _index(self) -> dict[str, int]:
        if self._rows is None:
            ids = self._table_of("id")["id"].to_pylist()
            self._rows = {utterance_id: row for row, utterance_id in enumerate(ids)}
        return self._rows

    def _table_of(self, *columns: str) -> pa.Table:
        with self._damage_named():
            return self._dataset.to_table(columns=list(columns))

    def _merge(self, merge: Any, table: pa.Table) -> None:
        with faults_named(self.path, UNWRITABLE):
            merge.conflict_retries(CONFLICTS).retry_timeout(CONFLICT_TIME).execute(table)
            self._reopen()

    def _damage_named(self) -> AbstractContextManager[None]:
        return faults_named(self.path, "damaged ({}); delete the folder and encode again")

    def _table(self, frames: Sequence[Frames]) -> pa.Table:
        for f in frames:
            if f.values.ndim != 2 or f.values.shape[1] != self.dim or str(f.values.dtype) != self.read_dtype:
                raise StoreMismatchError(
                    f"{self.path}: frames of {f.id!r} are {f.values.shape} {f.values.dtype}; "
                    f"the store takes (T, {self.dim}) {self.read_dtype}"
                )
        values = frames[0].values if len(frames) == 1 else np.concatenate([f.values for f in frames])
        offsets = pa.array(np.cumsum([0, *(len(f.values) for f in frames)], dtype=np.int32))
        columns = [
            pa.array([f.id for f in frames]),
            pa.array([f.n_speech for f in frames], pa.int32()),
            pa.array([f.audio_hash for f in frames]),
        ]
        if self._described:
            lines = [None if f.utterance is None else line_of(f.utterance) for f in frames]
            columns.append(pa.array(lines, pa.string()))
        stored: np.ndarray = values
        scales = None
        if self.spec.dtype == "int8":
            stored, scales = quantize(values)
        if self._summed:
            ends = offsets.to_numpy()
            sums = [
                checksum(f.id, f.n_speech, f.audio_hash, *(a[start:end] for a in (stored, scales) if a is not None))
                for f, start, end in zip(frames, ends[:-1], ends[1:], strict=True)
            ]
            columns.append(pa.array(sums, pa.uint32()))
        if scales is not None:
            columns.append(pa.ListArray.from_arrays(offsets, pa.array(scales)))
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(stored.reshape(-1)), self.dim)
        columns.append(pa.ListArray.from_arrays(offsets, vectors))
        return pa.Table.from_arrays(columns, schema=_schema(self.spec, self.dim, self._described, self._summed))

    def _frames(self, table: pa.Table) -> Iterator[Frames]:
        for batch in table.to_batches():
            lists = batch.column("frames")
            flat = lists.values.values.to_numpy(zero_copy_only=False).reshape(-1, self.dim)
            offsets = lists.offsets.to_numpy()
            scales = batch.column("scales") if self.spec.dtype == "int8" else None
            ids, hashes = batch.column("id").to_pylist(), batch.column("audio_hash").to_pylist()
            sums = batch.column("checksum").to_pylist() if self._summed else [None] * len(ids)
            for row, n_speech in enumerate(batch.column("n_speech").to_pylist()):
                values = flat[offsets[row] : offsets[row + 1]]
                steps = None if scales is None else scales[row].values.to_numpy(zero_copy_only=False)
                parts = [values] if steps is None else [values, steps]
                if sums[row] not in (None, checksum(ids[row], n_speech, hashes[row], *parts)):
                    raise StoreError(
                        f"{self.path}: the frames of {ids[row]!r} are damaged (another checksum); delete the folder "
                        "and encode again"
                    )
                if steps is not None:
                    values = dequantize(values, steps)
                yield Frames(ids[row], values, n_speech, hashes[row])


def opened(path: str | Path) -> Any | None:
    """The Lance dataset at a path, None if there is none; raises StoreError if an object store refuses."""
    try:
        return lance.dataset(str(path))
    except (ValueError, OSError) as e:
        if "://" in str(path) and "was not found" not in str(e):
            with faults_named(path, "can't be opened ({})"):
                raise
        return None


def _occupied(path: Path) -> bool:
    """Whether something else than the beginning of a store lies at a path."""
    return path.is_file() or (
        path.is_dir() and any(p.name not in ("_transactions", "_versions") for p in path.iterdir())
    )


@contextmanager
def faults_named(path: str | Path, otherwise: str) -> Iterator[None]:
    """Raise Arrow's and Lance's errors as a StoreError of one line; an object store's answer names the fix."""
    try:
        yield
    except (ValueError, OSError) as e:
        text = str(e) or type(e).__name__
        line = _SOURCE_LINE.sub("", text.splitlines()[0])
        if "://" not in str(path):
            raise StoreError(f"{path}: {refusal(line) or otherwise.format(line[:200])}") from e
        fix = next((fix for sign, fix in _REFUSALS.items() if sign in text), None)
        status = line.partition("<")[0].rpartition(" - ")[2].strip(" :")  # the answer itself may name keys
        raise StoreError(f"{path}: {fix or otherwise.format(status[:200])}") from None


def checksum(utterance_id: str, n_speech: int, audio_hash: str, *arrays: np.ndarray) -> int:
    """CRC-32 of a row, but for its manifest line."""
    found = zlib.crc32(f"{utterance_id}\0{n_speech}\0{audio_hash}".encode())
    for array in arrays:
        found = zlib.crc32(np.ascontiguousarray(array).data, found)
    return found


def line_of(utterance: Utterance) -> str:
    """The manifest line of an utterance, JSON; a path that isn't UTF-8 is written as `shown`."""
    audio = msgspec.structs.replace(utterance.audio, path=shown(utterance.audio.path))
    return msgspec.json.encode(msgspec.structs.replace(utterance, audio=audio)).decode()


def tidied(dataset: Any) -> None:
    """Join a dataset's small files where there are many, and delete versions that are older than a day."""
    with suppress(OSError):  # another process writes; the next one tidies
        if len(dataset.get_fragments()) > MANY_FILES:
            dataset.optimize.compact_files()
        dataset.cleanup_old_versions(timedelta(days=1))


def sweep(uri: str, since: float) -> None:
    """Delete what processes that were killed before ``since``, seconds of the epoch, left half-written in a folder."""
    if "://" in uri:  # an object store keeps no half of a file
        return
    for path in Path(uri).rglob(".tmp*"):
        with suppress(OSError):  # another process sweeps, too
            if path.stat().st_mtime < min(since, time.time() - WRITE_TIME):
                path.unlink()


def among(values: Iterable[str], column: str = "id") -> str:
    """Lance's filter for the rows with these values."""
    return f"{column} in (" + ", ".join("'" + v.replace("'", "''") + "'" for v in values) + ")"


def quantize(values: FrameArray) -> tuple[np.ndarray, np.ndarray]:
    """Frames (T, D) -> int8 (T, D) and the step of each frame (T,), float32: its largest magnitude is 127 steps."""
    exact = values.astype(np.float32)
    scales = np.maximum(np.abs(exact).max(axis=1), np.finfo(np.float16).tiny) / 127
    return np.rint(exact / scales[:, None]).astype(np.int8), np.asarray(scales, dtype=np.float32)


def dequantize(values: np.ndarray, scales: np.ndarray) -> FrameArray:
    """Frames of `quantize`'s results, (T, D) float16."""
    return np.asarray(values * scales[:, None], dtype=np.float16)


def _schema(spec: FrameSpec, dim: int, described: bool = True, summed: bool = True) -> pa.Schema:
    metadata = {"format": _FORMAT, "dim": str(dim)} | {k: str(v) for k, v in asdict(spec).items()}
    frames = pa.list_(pa.list_(_ARROW[spec.dtype], dim))
    scales = [pa.field("scales", pa.list_(pa.float32()))] if spec.dtype == "int8" else []
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False, metadata=_KEY),
            pa.field("n_speech", pa.int32()),
            pa.field("audio_hash", pa.string()),
            *([pa.field("utterance", pa.string())] if described else []),
            *([pa.field("checksum", pa.uint32())] if summed else []),
            *scales,
            pa.field("frames", frames),
        ],
        metadata=metadata,
    )
