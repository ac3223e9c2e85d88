"""The index: frames of spoken utterances on disk, searched in two stages.

A folder, or object-store URI, of three Lance datasets. ``frames.lance`` is a frame store, and all that can't be made
anew; ``catalogue.lance`` has a row an utterance: its manifest line as columns, one vector, and its neighbourhood in
each language; ``statistics.lance`` has what was estimated on each language. A search takes candidates by vector from
Lance's own vector index, then scores their frames by the default retrieval method. The catalogue is derived: a killed
run, or one of two writers that missed the other's rows, leaves a complete version, which `Index.refresh` brings up to
date.
"""

import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import lance
import msgspec
import numpy as np
import pyarrow as pa
from jaxtyping import Float32

from interlingua.audio import AudioSource, load_audio
from interlingua.encoding import ENCODERS, SpeechEncoder, best_compute, pool_frames, resolve_device
from interlingua.encoding.store import UNWRITABLE, FrameStore, among, faults_named, line_of, opened, sweep, tidied
from interlingua.errors import StoreError, UsageError
from interlingua.index import statistics as stats
from interlingua.index.statistics import NONE, Statistics
from interlingua.index.vectors import AnchorVectors
from interlingua.models import Whisper, load_whisper
from interlingua.progress import track
from interlingua.retrieval.features import with_position
from interlingua.retrieval.head import Head, head_path
from interlingua.retrieval.hubness import csls, neighbourhood
from interlingua.retrieval.methods import DEFAULT_METHOD, METHODS
from interlingua.retrieval.seqsim import TIE, Packed, SimilarityCompute, pack, reduce_directions, seqsim
from interlingua.translation import detect_language
from interlingua.types import FrameArray, Frames, Matrix, Utterance

T = TypeVar("T")

METHOD = METHODS[DEFAULT_METHOD]
CANDIDATES = 400  # of a search's first stage, at least: docs/index.md
CANDIDATES_PER_ROOT = 40.0  # likewise, by the square root of the number of utterances
VECTOR_INDEX_FROM = 20_000  # utterances; below, all vectors are compared
CONFLICTS = 20  # with other processes that rewrite the catalogue, before one gives up
CHUNK = 256  # utterances that are in memory at a time
VECTORS = 4096  # that are in memory at a time

_FORMAT = "interlingua-index-2"
_OWN = ("id", "audio_hash", "line", "statistics", "vector", "neighbourhoods", "norms")
_COLUMNS = ("language", "text", "speaker", "gender", "split", "meaning", "cluster", "duration", "path")


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """An utterance that a query found; ``score`` is SeqSim with the method's corrections, ``similarity`` without."""

    rank: int
    score: float
    similarity: float
    utterance: Utterance


@dataclass(frozen=True, eq=False)
class Query:
    """A query, ready to be compared; ``frames`` are transformed unit rows, ``language``: whose statistics serve it."""

    language: str
    vector: np.ndarray
    frames: Float32[np.ndarray, "T D"]
    neighbourhoods: np.ndarray


class Estimates:
    """Statistics made ready to place utterances among others; those that lack coordinates are given them."""

    def __init__(self, statistics: Statistics) -> None:
        self.statistics = statistics
        self._compute = best_compute()
        named = statistics.languages.items()
        self._references = {lang: packed([*one.references.values()], self._compute) for lang, one in named}
        if self._references:
            known = statistics.coordinates
            self._anchors = AnchorVectors(self._references[stats.EVERY], self._compute, known)
            if known is None:
                centres = {lang: self._anchors(side).mean(axis=0) for lang, side in self._references.items()}
                self.statistics = replace(statistics, coordinates=self._anchors.matrix, centres=centres)

    def width(self) -> int:
        """V, of the vectors."""
        return self._anchors.width + len(self._references) if self._references else 1

    def place(
        self, moved: Sequence[FrameArray], ids: Sequence[str]
    ) -> tuple[Float32[np.ndarray, "N V"], Float32[np.ndarray, "N L"]]:
        """Vector of each utterance, and its neighbourhood among each language's references, its own id apart.

        A vector's last L values, one for each language of a query, correct the product with the query's: by how much
        it misses SeqSim to that language's references in the mean, and by half the neighbourhood.
        """
        if not self._references:
            return np.zeros((len(moved), 1), np.float32), np.zeros((len(moved), 1), np.float32)
        side = packed([pool_frames(f, stats.HUB_POOLING) for f in moved], self._compute)
        scores = {lang: seqsim(side, other, reduction=METHOD.reduction) for lang, other in self._references.items()}
        vectors = self._anchors.project(scores[stats.EVERY])
        columns, around = [], []
        for language, one in self.statistics.languages.items():
            found = scores[language]
            found[np.asarray(ids)[:, None] == np.asarray([*one.references])[None, :]] = np.nan
            around.append(neighbourhood(found, METHOD.neighbours))
            mean = np.nansum(found, axis=1) / np.maximum((~np.isnan(found)).sum(axis=1), 1)
            columns.append(mean - vectors @ self.statistics.centres[language] - around[-1] / 2)
        placed = np.nan_to_num(np.hstack([vectors, np.stack(columns, axis=1)])).astype(np.float32)
        return placed, np.stack(around, axis=1)

    def query_vector(self, vector: np.ndarray, language: str) -> np.ndarray:
        """A query's own vector, from that which `place` gives."""
        chosen = vector.copy()
        if self._references:
            chosen[self._anchors.width :] = [lang == language for lang in self._references]
        return chosen


def candidates(n: int) -> int:
    """How many of ``n`` utterances a search's first stage takes."""
    return max(CANDIDATES, round(CANDIDATES_PER_ROOT * math.sqrt(n)))


def packed(moved: Sequence[FrameArray], compute: SimilarityCompute = "float32") -> Packed:
    """Transformed frames with their positions, packed."""
    return pack([with_position(f, METHOD.position) for f in moved], compute=compute)


class Index:
    """An index on disk; see the module. Memory doesn't grow with the gallery, except while it is built."""

    def __init__(self, uri: str, store: FrameStore, catalogue: Any) -> None:
        self.uri, self.store = uri, store
        self._catalogue = catalogue
        self._estimates: Estimates | None = None

    @classmethod
    def open(cls, uri: str | Path) -> "Index":
        """Open an index; raises StoreError if there is none at ``uri``."""
        name = str(uri).rstrip("/")
        catalogue = opened(f"{name}/catalogue.lance")
        if catalogue is None:
            raise StoreError(f"{uri}: no index here; make one with `interlingua index build`")
        if (catalogue.schema.metadata or {}).get(b"format") != _FORMAT.encode():
            raise StoreError(f"{uri}: no index of this version ({_FORMAT}); build it anew")
        return cls(name, FrameStore.open(f"{name}/frames.lance"), catalogue)

    @classmethod
    def of(
        cls,
        uri: str | Path,
        store: FrameStore,
        *,
        encoder: str = "whisper",
        model: str = "",
        shared: Statistics | None = None,
    ) -> "Index":
        """The index at ``uri`` around its frame store, made if it isn't there yet.

        ``encoder`` is the registry's name, ``model`` its model spec, "" for its default; ``shared``: another index's
        statistics, in place of its own.
        """
        name = str(uri).rstrip("/")
        if opened(f"{name}/catalogue.lance") is None:
            stats.create(f"{name}/statistics.lance")
            if shared is not None:
                stats.save(f"{name}/statistics.lance", shared)
            schema = _schema((encoder, model), Estimates(shared or NONE), shared is not None, ())
            with faults_named(uri, "can't create an index ({})"):
                try:
                    lance.write_dataset(schema.empty_table(), f"{name}/catalogue.lance", schema=schema, mode="create")
                except (OSError, ValueError) as e:
                    if "already exists" not in str(e):  # else another process was first
                        raise
        return cls.open(uri)

    @property
    def encoder(self) -> tuple[str, str]:
        """The encoder's name in the registry, and its model spec, "" for its default."""
        return self._metadata("encoder"), self._metadata("model")

    def _metadata(self, name: str) -> str:
        value: bytes = self._catalogue.schema.metadata[name.encode()]
        return value.decode()

    def __len__(self) -> int:
        return int(self._catalogue.count_rows())

    @property
    def shared(self) -> bool:
        """Whether its statistics are another index's."""
        return self._metadata("shared") == "yes"

    @property
    def head(self) -> Head | None:
        """What `train` has written beside the frames: the next `refresh` puts it into the statistics."""
        path = head_path(self.store.path)
        return Head.load(path, self.store.dim) if path.exists() else None

    @property
    def statistics(self) -> Statistics:
        """What was estimated on each language."""
        return self.estimates.statistics

    @property
    def estimates(self) -> Estimates:
        """The same, ready to place utterances."""
        if self._estimates is None:
            self._estimates = Estimates(stats.load(f"{self.uri}/statistics.lance", self._metadata("statistics")))
        return self._estimates

    def languages(self) -> dict[str, int]:
        """Number of utterances by language."""
        return dict(Counter(self._column("language")))

    def info(self) -> dict[str, Any]:
        """Numbers of utterances and hours, what the frames are, and which languages have statistics."""
        table = self._catalogue.to_table(columns=["language", "duration"])
        seconds = [s for s in table["duration"].to_pylist() if s]
        return {
            "index": self.uri,
            "utterances": len(table),
            "languages": dict(Counter(table["language"].to_pylist())),
            "hours": sum(seconds) / 3600,
            "frames": msgspec.to_builtins(self.store.spec),
            "dim": self.store.dim,
            "statistics": list(self.statistics.languages),
            "head": self.statistics.head or None,
            "vector_index": bool(self._catalogue.has_index),
            "columns": [name for name in self._catalogue.schema.names if name not in _OWN],
        }

    # ------------------------------------------------------------ search

    def query(self, query: AudioSource | Frames, language: str | None = None) -> Query:
        """A query, ready to be compared; see `search`."""
        if isinstance(query, Frames):
            frames, language = query, language or stats.EVERY
        else:
            frames, language = self.encode([query])[0], language or self.detect(query)
        return self.queries([frames], [language])[0]

    def queries(self, frames: Sequence[Frames], languages: Sequence[str]) -> list[Query]:
        """Several queries at once, their languages named."""
        statistics = self.statistics
        moved = [statistics.transform(lang, f.speech) for lang, f in zip(languages, frames, strict=True)]
        vectors, neighbourhoods = self.estimates.place(moved, [f.id for f in frames])
        made = []
        for lang, speech, vector, around in zip(languages, moved, vectors, neighbourhoods, strict=True):
            rows = speech / np.maximum(_norms(speech), np.finfo(np.float32).tiny)[:, None]
            chosen = statistics.name(lang)
            vector = self.estimates.query_vector(vector, chosen)
            made.append(Query(language=chosen, vector=vector, frames=rows, neighbourhoods=around))
        return made

    def search(
        self,
        query: AudioSource | Frames | Query,
        k: int = 10,
        *,
        language: str | None = None,
        where: str | None = None,
        exhaustive: bool = False,
    ) -> list[Hit]:
        """The k best utterances for a spoken query, best first; scores that differ by `TIE` at most go by id.

        Args:
            query: a file, bytes or samples; or frames as the index stores them.
            language: of the query, whose statistics serve it; None: detected, where the query is audio.
            where: SQL condition on the catalogue's columns, such as ``language = 'fr' and duration < 5``.
            exhaustive: score every utterance, not only the `candidates` that the vectors choose.

        Raises:
            UsageError: a condition that Lance doesn't take, or k below 1.
            AudioError: a query that can't be read.
        """
        if k < 1:
            raise UsageError(f"-k {k}: use 1 or more")
        given = query if isinstance(query, Query) else self.query(query, language)
        return _ranked(self._best(given, k, where, exhaustive), k)

    def score_all(self, queries: Sequence[Query]) -> tuple[list[str], Matrix]:
        """Ids of all utterances, and their scores for each query: those of an exhaustive search, frames read once."""
        statistics, order = self.statistics, list(self.statistics.languages)
        side = packed([q.frames for q in queries])
        ids: list[str] = []
        found = []
        for batch in self._catalogue.to_batches(columns=["id", "language", "neighbourhoods"], batch_size=CHUNK):
            some, languages = batch["id"].to_pylist(), batch["language"].to_pylist()
            frames = self.store.read(some)
            moved = [statistics.transform(lang, f.speech) for lang, f in zip(languages, frames, strict=True)]
            scores = seqsim(side, packed(moved), reduction=METHOD.reduction)
            if order:
                around = batch["neighbourhoods"].flatten().to_numpy().reshape(len(some), -1).astype(np.float32)
                spoken = [order.index(q.language) for q in queries]
                named = [order.index(statistics.name(lang)) for lang in languages]
                own = np.stack([q.neighbourhoods for q in queries])[:, named]
                scores = 2 * scores - own - around[:, spoken].T
            ids += some
            found.append(scores.astype(np.float32))
        return ids, np.hstack(found)

    def _best(self, query: Query, k: int, where: str | None, exhaustive: bool) -> list[Hit]:
        """The k best, and those that score as much as the last of them but for `TIE`."""
        best: list[Hit] = []
        for rows in self._candidates(query.vector, max(k, candidates(len(self))), where, exhaustive):
            best = sorted([*best, *self._scored(query, rows, k)], key=_order)
            best = [hit for hit in best if hit.score >= best[min(k, len(best)) - 1].score - TIE]
        return best

    def encode(self, audio: Sequence[AudioSource]) -> list[Frames]:
        """Frames of recordings, as the index stores them."""
        encoded = self._encoder.encode([load_audio(source) for source in audio])
        pooled = [pool_frames(values[:n].astype(np.float16), self.store.spec.pooling) for values, n in encoded]
        return [Frames("", values, len(values)) for values in pooled]

    def detect(self, audio: AudioSource) -> str:
        """The language of a recording, as the index's Whisper hears it (Whisper-base for other encoders)."""
        return detect_language(self.listener, load_audio(audio))

    @cached_property
    def listener(self) -> Whisper:
        """The Whisper that hears the language of a query."""
        encoder, model = self.encoder
        return load_whisper(model if model and encoder == "whisper" else "base")

    @cached_property
    def _encoder(self) -> SpeechEncoder:
        spec, (encoder, model) = self.store.spec, self.encoder
        where, how = resolve_device("auto", spec.compute)
        loaded = ENCODERS[encoder](model or None, context=spec.context, layer=spec.layer, device=where, compute=how)
        self.store.require(replace(loaded.spec, pooling=spec.pooling, dtype=spec.dtype), loaded.dim)
        return loaded

    def _candidates(self, vector: np.ndarray, k: int, where: str | None, exhaustive: bool) -> Iterator[pa.Table]:
        columns = ["id", "line", "language", "neighbourhoods", "norms"]
        nearest = {"column": "vector", "q": vector, "k": k, "metric": "dot"}  # all partitions: docs/index.md
        with self._condition_named(where):
            if exhaustive or len(self) <= k:
                for batch in self._catalogue.to_batches(columns=columns, filter=where, batch_size=CHUNK):
                    yield pa.Table.from_batches([batch])
            else:
                more = {"columns": [*columns, "_distance"], "prefilter": True, "nearest": nearest}
                found = self._catalogue.to_table(filter=where, **more)
                yield from (found.slice(start, CHUNK) for start in range(0, len(found), CHUNK))

    @contextmanager
    def _condition_named(self, where: str | None) -> Iterator[None]:
        """Turn Lance's errors into ours: of the condition, if there is one."""
        if where and '"' in where:  # Lance would take it for text, and find nothing
            raise UsageError(f"--where {where!r}: write text in 'single quotes', and names with spaces in `backticks`")
        try:
            yield
        except (ValueError, OSError) as e:
            reason = str(e).splitlines()[0][:200]
            if where:
                names = ", ".join(name for name in self._catalogue.schema.names if name not in _OWN)
                raise UsageError(f"--where {where!r}: {reason}; columns are {names}") from e
            raise StoreError(f"{self.uri}: damaged ({reason}); delete catalogue.lance in it and build again") from e

    def _scored(self, query: Query, rows: pa.Table, k: int) -> list[Hit]:
        """The k best of some rows of the catalogue, and those that score as much as the last but for `TIE`."""
        norms = rows["norms"].combine_chunks()
        ids, lengths = rows["id"].to_pylist(), np.diff(norms.offsets.to_numpy())
        frames = {f.id: f.speech for f in self.store.read(ids, lacking=True)}
        # Another process may just remove or replace some.
        held = np.array([len(frames.get(i, ())) == n for i, n in zip(ids, lengths, strict=True)], dtype=bool)
        rows, norms = rows.filter(held), norms.filter(pa.array(held))
        if not len(rows):
            return []
        languages = rows["language"].to_pylist()
        speech = [frames[i] for i in rows["id"].to_pylist()]
        scores = similarity = self._similarity(query, languages, speech, norms.flatten().to_numpy())
        statistics = self.statistics
        if order := list(statistics.languages):
            column = rows["neighbourhoods"].combine_chunks().flatten().to_numpy().reshape(len(rows), -1)
            around = column[:, order.index(query.language)].astype(np.float32)
            own = query.neighbourhoods[[order.index(statistics.name(lang)) for lang in languages]]
            scores = csls(similarity - own[None, :] / 2, np.zeros(1, np.float32), around)
        values = np.where(np.isfinite(scores[0]), scores[0], -np.inf)
        least = np.partition(values, -k)[-k] - TIE if k < len(values) else -np.inf
        best = np.flatnonzero(values >= least)
        return [
            Hit(
                rank=0,
                score=float(values[row]),
                similarity=float(similarity[0, row]),
                utterance=msgspec.json.decode(line, type=Utterance),
            )
            for row, line in zip(best, rows["line"].take(pa.array(best)).to_pylist(), strict=True)
        ]

    def _similarity(
        self, query: Query, languages: Sequence[str], frames: Sequence[FrameArray], norms: Float32[np.ndarray, "T"]
    ) -> Matrix:
        """`seqsim` of a query to stored frames, (1, N), without transforming them.

        (x - mean) W and q have the product that x - mean has with q W'; the norms of the former, of all frames, are
        known.
        """
        precision, recall = np.empty((2, 1, len(frames)), np.float32)
        own, weight = _clock(len(query.frames)), np.float32(METHOD.position)
        statistics = self.statistics
        named = [statistics.name(lang) if statistics.languages else stats.EVERY for lang in languages]
        ends = np.cumsum([len(f) for f in frames])
        for language in dict.fromkeys(named):
            here = [n for n, other in enumerate(named) if other == language]
            lengths = np.array([len(frames[n]) for n in here])
            rows, turned = np.concatenate([frames[n] for n in here]).astype(np.float32), query.frames
            if statistics.languages:
                transform = statistics.languages[language].transform
                rows -= transform.mean
                turned = turned if transform.matrix is None else turned @ transform.matrix.T
            lasting = np.concatenate([norms[ends[n] - len(frames[n]) : ends[n]] for n in here])
            with np.errstate(invalid="ignore"):
                found = rows @ turned.T
                found *= (1 / (np.where(lasting > 0, lasting, 1) * (1 + weight)))[:, None]
                found += np.concatenate([_clock(n) for n in lengths.tolist()]) @ (weight / (1 + weight) * own).T
                starts = np.cumsum([0, *lengths[:-1]])
                precision[0, here] = np.maximum.reduceat(found, starts).mean(axis=1)
                recall[0, here] = np.add.reduceat(found.max(axis=1), starts) / lengths
        return reduce_directions(precision, recall, METHOD.reduction)

    # ------------------------------------------------------------ what is kept up to date

    def refresh(self) -> int:
        """Make the catalogue equal to the frame store, and remake statistics where they are due; returns rows made.

        The same call completes what a killed run left, and what other processes write meanwhile. While languages
        double, all rows are made anew, later only those that are new or changed.

        Raises UsageError for a column of one's own that can't be one of the catalogue.
        """
        done, begun = 0, time.time()
        for tries in range(CONFLICTS):
            self._reopen()
            try:
                done += self._refresh_once()
                self._reopen()
                self._index_vectors()
                if set(self.ids()) == set(self.store.ids()):
                    break
            except (OSError, StoreError) as e:  # another process has rewritten the catalogue
                if "transaction" not in str(e) or tries == CONFLICTS - 1:
                    raise
        tidied(self._catalogue)
        self.store.tidy()
        sweep(self.uri, begun)
        self._reopen()
        return done

    def _refresh_once(self) -> int:
        lines, hashes = self.store.lines(), self.store.hashes()
        known = {i: msgspec.json.decode(line, type=Utterance) for i, line in lines.items()}
        own = own_columns(known.values())
        by_language = ids_by_language(known.values())
        head = self.head
        counts = {lang: len(ids) for lang, ids in by_language.items()}
        if not self.shared and self.statistics.outdated(counts, head.digest if head else ""):
            made = Estimates(stats.fit(by_language, self.store.read, head))
            stats.save(f"{self.uri}/statistics.lance", made.statistics)
        elif set(own) <= set(self._catalogue.schema.names):
            return self._complete(known, hashes)
        else:
            made = self.estimates
        self._estimates = made
        schema = _schema(self.encoder, made, self.shared, own)
        with track(len(known), "indexing") as advance:
            batches = self._rows(known.values(), hashes, schema, advance)
            reader = pa.RecordBatchReader.from_batches(schema, batches)
            with faults_named(self.uri, UNWRITABLE):
                lance.write_dataset(reader, self._catalogue.uri, mode="overwrite", schema=schema)
        return len(known)

    def _complete(self, known: Mapping[str, Utterance], hashes: Mapping[str, str]) -> int:
        """Make the rows that the catalogue lacks or that differ, and delete those of utterances that are gone."""
        table = self._catalogue.to_table(columns=["id", "audio_hash", "line", "statistics"])
        held = {row["id"]: row for row in table.to_pylist()}
        current = {"statistics": self.statistics.version}

        def same(u: Utterance) -> bool:
            wanted = {"id": u.id, "audio_hash": hashes[u.id], "line": line_of(u)} | current
            return held.get(u.id) == wanted

        todo = [u for i, u in sorted(known.items()) if not same(u)]
        with track(len(todo), "indexing") as advance:
            for batch in self._rows(todo, hashes, self._catalogue.schema, advance):
                merge = self._catalogue.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
                with faults_named(self.uri, UNWRITABLE):
                    merge.execute(pa.Table.from_batches([batch]))
        self._delete([i for i in held if i not in known])
        return len(todo)

    def remove(self, ids: Iterable[str]) -> int:
        """Remove utterances; returns how many were there."""
        self._reopen()
        gone = [i for i in dict.fromkeys(ids) if i in self.store]
        self.store.delete(gone)  # first: searches skip what has no frames, and a rerun deletes the rows
        self.refresh()
        return len(gone)

    def ids(self, where: str | None = None) -> list[str]:
        """Ids of the utterances, of those that a condition holds for; raises UsageError for a wrong condition."""
        return self._column("id", where)

    def utterances(self, where: str | None = None) -> list[Utterance]:
        """All utterances, or those that a condition holds for."""
        return [msgspec.json.decode(line, type=Utterance) for line in self._column("line", where)]

    def vectors(self, where: str | None = None) -> Iterator[tuple[list[str], Float32[np.ndarray, "N V"]]]:
        """Ids and vectors, `VECTORS` at a time."""
        for batch in self._catalogue.to_batches(columns=["id", "vector"], filter=where, batch_size=VECTORS):
            if len(batch):
                flat = batch["vector"].flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
                yield batch["id"].to_pylist(), flat.reshape(len(batch), -1)

    def vectors_of(self, ids: Sequence[str]) -> Float32[np.ndarray, "N V"]:
        """Vectors of some utterances, in order."""
        found = {i: v for some, vectors in self.vectors(among(ids)) for i, v in zip(some, vectors, strict=True)}
        return np.stack([found[i] for i in ids])

    def _column(self, name: str, where: str | None = None) -> list[Any]:
        with self._condition_named(where):
            return list(self._catalogue.to_table(columns=[name], filter=where)[name].to_pylist())

    def _delete(self, ids: Sequence[str]) -> None:
        with faults_named(self.uri, UNWRITABLE):
            for some in _chunks(ids, 1000):
                self._catalogue.delete(among(some))
                self._catalogue = lance.dataset(self._catalogue.uri)

    def _rows(
        self, utterances: Iterable[Utterance], hashes: Mapping[str, str], schema: pa.Schema, done: Callable[[int], None]
    ) -> Iterator[pa.RecordBatch]:
        """Rows of the catalogue, a chunk of utterances at a time."""
        for some in _chunks(utterances, CHUNK):
            ids = [u.id for u in some]
            frames = self.store.read(ids)
            moved = [self.statistics.transform(u.language, f.speech) for u, f in zip(some, frames, strict=True)]
            vectors, neighbourhoods = self.estimates.place(moved, ids)
            columns = {
                "id": ids,
                "audio_hash": [hashes[i] for i in ids],
                "line": [line_of(u) for u in some],
                "statistics": [self.statistics.version] * len(some),
                "vector": list(vectors),
                "neighbourhoods": list(neighbourhoods),
                "norms": [_norms(rows) for rows in moved],
                "path": [u.audio.path for u in some],
            }
            yield pa.RecordBatch.from_arrays(
                [pa.array(columns.get(f.name) or [_field(u, f.name) for u in some], f.type) for f in schema],
                schema=schema,
            )
            done(len(some))

    def _index_vectors(self) -> None:
        """Keep Lance's indexes up to date: on ids, and on vectors once there are many."""
        if len(self) < VECTOR_INDEX_FROM:
            return
        with faults_named(self.uri, UNWRITABLE):
            self.store.index_ids()
            if self._catalogue.has_index:
                self._catalogue.optimize.optimize_indices()
            else:
                partitions = round(len(self) ** 0.5)
                kind = {"index_type": "IVF_FLAT", "metric": "dot", "num_partitions": partitions}
                self._catalogue.create_index("vector", **kind, replace=True)
        self._reopen()

    def _reopen(self) -> None:
        self._catalogue = lance.dataset(self._catalogue.uri)
        self.store = FrameStore.open(self.store.path)
        if self._estimates and self._estimates.statistics.version != self._metadata("statistics"):
            self._estimates = None


def search_shards(
    shards: Sequence[Index],
    query: AudioSource | Frames,
    k: int = 10,
    *,
    language: str | None = None,
    where: str | None = None,
    exhaustive: bool = False,
) -> list[Hit]:
    """`Index.search` over several indexes that share their statistics; an utterance's score is the same in any shard.

    Raises UsageError for indexes of other statistics, or frames of another kind.
    """
    first = shards[0]
    for other in shards[1:]:
        other.store.require(first.store.spec, first.store.dim)
        if other.statistics.version != first.statistics.version:
            raise UsageError(
                f"{other.uri}: its scores don't compare with those of {first.uri}; build it with --like {first.uri}"
            )
    if k < 1:
        raise UsageError(f"-k {k}: use 1 or more")
    prepared = first.query(query, language)
    return _ranked([hit for s in shards for hit in s._best(prepared, k, where, exhaustive)], k)


def _order(hit: Hit) -> tuple[float, str]:
    return -hit.score, hit.utterance.id


def _ranked(hits: Iterable[Hit], k: int) -> list[Hit]:
    """The k best, best first; those within `TIE` of the best that is left are equal, and go by id."""
    left = sorted(hits, key=_order)
    found: list[Hit] = []
    while left and len(found) < k:
        equal = [hit for hit in left if hit.score >= left[0].score - TIE]
        found += sorted(equal, key=lambda hit: hit.utterance.id)
        left = left[len(equal) :]
    return [msgspec.structs.replace(hit, rank=rank) for rank, hit in enumerate(found[:k], 1)]


def _norms(rows: FrameArray) -> Float32[np.ndarray, "T"]:
    norms: np.ndarray = np.linalg.norm(rows, axis=1)
    return norms


@lru_cache(1024)
def _clock(n: int) -> Float32[np.ndarray, "T 2"]:
    """The positions of ``n`` frames, as `with_position` has them."""
    angle = np.pi * np.linspace(0, 1, n, dtype=np.float32)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    remaining = iter(items)
    while some := list(islice(remaining, size)):
        yield some


def ids_by_language(utterances: Iterable[Utterance]) -> dict[str, list[str]]:
    """Sorted ids of each language's utterances."""
    found: dict[str, list[str]] = {}
    for u in sorted(utterances, key=lambda u: u.id):
        found.setdefault(u.language, []).append(u.id)
    return found


def own_columns(utterances: Iterable[Utterance]) -> list[str]:
    """Names of the utterances' own columns; raises UsageError for one that a catalogue can't have."""
    names = sorted({name for u in utterances for name in u.extra})
    for name in names:
        if name in _OWN or name in _COLUMNS or name.startswith("_") or not re.fullmatch(r"[\w -]+", name):
            raise UsageError(f"column {name!r}: an index has no such column of one's own; rename it, to letters and _")
    return names


def _field(utterance: Utterance, name: str) -> Any:
    return getattr(utterance, name) if name in _COLUMNS else utterance.extra.get(name)


def _schema(encoder: tuple[str, str], estimates: Estimates, shared: bool, own: Iterable[str]) -> pa.Schema:
    languages = max(1, len(estimates.statistics.languages))
    key = pa.field("id", pa.string(), nullable=False, metadata={"lance-schema:unenforced-primary-key": "true"})
    kinds = {"duration": pa.float32()}
    return pa.schema(
        [
            key,
            ("audio_hash", pa.string()),
            ("line", pa.string()),
            ("statistics", pa.string()),
            *((name, kinds.get(name, pa.string())) for name in (*_COLUMNS, *own)),
            ("neighbourhoods", pa.list_(pa.float32(), languages)),
            ("norms", pa.list_(pa.float32())),
            ("vector", pa.list_(pa.float32(), estimates.width())),
        ],
        metadata={
            "format": _FORMAT,
            "encoder": encoder[0],
            "model": encoder[1],
            "statistics": estimates.statistics.version,
            "shared": "yes" if shared else "no",
        },
    )
