"""What an index estimates on each of its languages: whitening, and utterances that hubs are found among.

Both come from random utterances, those with the least hash of their id, so that one utterance more changes little. They
are remade when a language has doubled, or has reached `LEAST_UTTERANCES`. Each version is kept under its own name, so
that a reader never sees half of one, and holds all that it needs, so that indexes can share it.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import lance
import numpy as np
import pyarrow as pa

from interlingua.encoding import pool_frames
from interlingua.encoding.store import UNWRITABLE, faults_named
from interlingua.errors import StoreError
from interlingua.retrieval.features import LEAST_UTTERANCES, FrameTransform, fit_whitening
from interlingua.retrieval.head import Head
from interlingua.types import FrameArray, Frames

EVERY = "*"  # all languages together: for speech of a language with too few utterances
WHITENED_ON = 1000  # utterances
REFERENCES = 100  # utterances
ANCHORS = 750  # references of `EVERY`, which vectors are made by: docs/index.md
HUB_POOLING = 2  # stored frames averaged into one where neighbourhoods are taken

_SCHEMA = pa.schema(
    [
        ("version", pa.string()),
        ("language", pa.string()),
        ("n", pa.int64()),
        ("mean", pa.list_(pa.float32())),
        ("matrix", pa.list_(pa.float32())),
        ("references", pa.list_(pa.string())),
        ("lengths", pa.list_(pa.int32())),
        ("frames", pa.list_(pa.float16())),
        ("centre", pa.list_(pa.float32())),
        ("coordinates", pa.list_(pa.float32())),
    ]
)


@dataclass(frozen=True, eq=False)
class LanguageStatistics:
    """Whitening of a language's frames, and its reference utterances by id: transformed and pooled frames, (t, D).

    ``n``: utterances that the language had then.
    """

    n: int
    transform: FrameTransform
    references: dict[str, FrameArray] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Statistics:
    """By language, `EVERY` first; none in an index of too few utterances. Transforms include the index's head.

    ``coordinates`` is the matrix of vectors by the references of `EVERY`, ``centres`` each language's mean vector.
    """

    version: str
    languages: dict[str, LanguageStatistics]
    coordinates: np.ndarray | None = None
    centres: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def head(self) -> str:
        """`Head.digest` of the head in the transforms, "" without one."""
        return self.version.partition("-")[2]

    def name(self, language: str) -> str:
        """The language whose statistics serve a language: itself, or `EVERY`."""
        return language if language in self.languages else EVERY

    def transform(self, language: str, frames: FrameArray) -> FrameArray:
        """Frames of an utterance as they are compared: whitened, or as they are where nothing is estimated."""
        if not self.languages:
            return frames.astype(np.float32)
        return self.languages[self.name(language)].transform(frames)

    def outdated(self, counts: Mapping[str, int], head: str = "") -> bool:
        """Whether the languages' numbers of utterances, or another head, ask for new statistics."""
        total = sum(counts.values())
        now = {EVERY: total, **counts} if total >= LEAST_UTTERANCES else {}
        due = {lang for lang, n in now.items() if n >= LEAST_UTTERANCES}
        grown = not due <= set(self.languages) or any(2 * self.languages[lang].n <= now[lang] for lang in due)
        return grown or (bool(self.languages) and self.head != head)


NONE = Statistics("none", {})


def fit(
    languages: Mapping[str, Sequence[str]], read: Callable[[list[str]], list[Frames]], head: Head | None = None
) -> Statistics:
    """Statistics of utterances' ids by language; ``read`` gives their frames, in order."""
    groups = {EVERY: [i for ids in languages.values() for i in ids], **languages}
    spoken = {i: language for language, ids in languages.items() for i in ids}
    found: dict[str, LanguageStatistics] = {}
    chosen: dict[str, list[Frames]] = {}
    digest = hashlib.sha256()
    for language, ids in groups.items():
        if len(ids) < LEAST_UTTERANCES:
            continue
        sample = sorted(ids, key=lambda i: hashlib.sha256(i.encode()).digest())[:WHITENED_ON]
        frames = [f for f in read(sample) if np.isfinite(f.speech).all()]
        whitening = fit_whitening([f.speech for f in frames])
        found[language] = LanguageStatistics(len(ids), head.after(whitening) if head else whitening)
        chosen[language] = frames[: ANCHORS if language == EVERY else REFERENCES]
        digest.update("\0".join([language, *(f"{f.id} {f.audio_hash}" for f in frames)]).encode())
    if not found:
        return NONE
    made = Statistics(digest.hexdigest()[:16] + (f"-{head.digest}" if head else ""), found)
    for language, frames in chosen.items():
        for f in frames:
            pooled = pool_frames(made.transform(spoken[f.id], f.speech), HUB_POOLING)
            found[language].references[f.id] = pooled.astype(np.float16).astype(np.float32)  # as they are kept
    return made


def create(uri: str) -> None:
    """Make the statistics' dataset, unless it is there."""
    with suppress(OSError, ValueError):  # another process's, or that of a run that was killed here
        lance.write_dataset(_SCHEMA.empty_table(), uri, mode="create")


def save(uri: str, statistics: Statistics) -> None:
    """Add a version, with its coordinates, to the statistics' dataset; one that is there stays."""
    with suppress(StoreError):
        load(uri, statistics.version)
        return
    if statistics.coordinates is None:
        raise ValueError("these statistics lack coordinates; Estimates gives them")
    named = statistics.languages.items()
    columns = [
        [statistics.version] * len(named),
        [language for language, _ in named],
        [one.n for _, one in named],
        [one.transform.mean for _, one in named],
        [np.asarray(one.transform.matrix).ravel() for _, one in named],
        [list(one.references) for _, one in named],
        [[len(f) for f in one.references.values()] for _, one in named],
        [np.concatenate([*one.references.values()]).astype(np.float16).ravel() for _, one in named],
        [statistics.centres.get(language) for language, _ in named],
        [statistics.coordinates.ravel() if language == EVERY else None for language, _ in named],
    ]
    table = pa.table([pa.array(c, f.type) for c, f in zip(columns, _SCHEMA, strict=True)], schema=_SCHEMA)
    with faults_named(uri, UNWRITABLE):
        lance.write_dataset(table, uri, mode="append")


def load(uri: str, version: str) -> Statistics:
    """Read a version; raises StoreError if it isn't there."""
    if version == NONE.version:
        return NONE
    try:
        table = lance.dataset(uri).to_table(filter=f"version = '{version}'").combine_chunks()
    except (ValueError, OSError) as e:
        raise StoreError(f"{uri}: no statistics of an index here; run `interlingua index build` again") from e
    if not len(table):
        raise StoreError(f"{uri}: lacks version {version}; run `interlingua index build` again")
    found, centres, coordinates = {}, {}, np.zeros(0)
    for row, language in enumerate(table["language"].to_pylist()):
        mean, matrix, frames = (table[name][row].values.to_numpy() for name in ("mean", "matrix", "frames"))
        ends = np.cumsum(table["lengths"][row].values.to_numpy())
        rows = np.split(frames.reshape(-1, len(mean)).astype(np.float32), ends[:-1])
        references = dict(zip(table["references"][row].as_py(), rows, strict=True))
        transform = FrameTransform(mean, matrix.reshape(len(mean), len(mean)))
        found[language] = LanguageStatistics(table["n"][row].as_py(), transform, references)
        centres[language] = table["centre"][row].values.to_numpy()
        if language == EVERY:
            coordinates = table["coordinates"][row].values.to_numpy().reshape(len(references), -1)
    return Statistics(version, {EVERY: found.pop(EVERY), **dict(sorted(found.items()))}, coordinates, centres)
