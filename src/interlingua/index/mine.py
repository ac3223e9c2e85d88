"""Two collections of speech in two languages -> pairs of utterances that mean the same.

    vectors of both sides -> candidates each way -> SeqSim of the candidate pairs, by chunks of both sides
              -> margins over each utterance's nearest neighbours -> ranks each way -> pairs that are best both ways

Candidates and SeqSim come in shares, made here or on a Ray cluster, and kept until the end: a killed run goes on.

Frames are whitened by each side's own statistics and compared with their positions, as the default method does. The
margins are those of text mining (Artetxe & Schwenk, ACL 2019, and Conneau et al., ICLR 2018), the scores SeqSim in
place of the cosine of fixed vectors. Measured in docs/mine.md.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import msgspec
import numpy as np
from jaxtyping import Bool, Float32, Int

from interlingua import __version__
from interlingua.corpora import write_manifest
from interlingua.encoding.cluster import on_cluster
from interlingua.errors import StoreError, UsageError
from interlingua.files import atomic_file
from interlingua.index import index as indexes
from interlingua.index.build import build, collect
from interlingua.index.index import Index
from interlingua.index.pairs import Pair
from interlingua.languages import normalise_language
from interlingua.progress import track
from interlingua.retrieval.methods import DEFAULT_METHOD, METHODS
from interlingua.retrieval.seqsim import Packed, seqsim
from interlingua.types import FrameArray, Utterance

METHOD = METHODS[DEFAULT_METHOD]
NEIGHBOURS = 4  # docs/mine.md
EXHAUSTIVE = 500  # utterances: all pairs of sides no larger are scored
CANDIDATES = 100  # of each utterance, beyond: docs/mine.md
CHUNK = 512  # utterances of a side that are in memory at a time
SHARE = 50_000  # pairs, or those of one utterance: about 20 s of a core
DENSE = 0.3  # of a chunk's pairs are candidates: all of its pairs are scored at once
NEAR_COPY = 0.92  # SeqSim of frames as they are stored: a copy as MP3 has 0.97, the same letters in two voices 0.89

Places = Int[np.ndarray, "P"]
Values = Float32[np.ndarray, "P"]
Advance = Callable[[int], None]


class MinedPair(Pair, frozen=True, kw_only=True):
    """Two utterances that mean the same.

    Attributes:
        margin: ratio margin: the score over the mean of its neighbours' on both sides.
        csls: twice the score, less the means of its neighbours' on both sides.
        rank_ab: of B's utterance among the candidates of A's, by CSLS; ``rank_ba`` the other way.
        one_to_one: both ranks are 1.
        near_copy: the same recording twice, or nearly.
        duration_ratio: A's duration over B's.
        text_a: "" where unknown; likewise ``text_b``.
    """

    csls: float
    rank_ab: int
    rank_ba: int
    one_to_one: bool
    near_copy: bool
    duration_ratio: float
    text_a: str
    text_b: str


class Side:
    """The utterances of an index that are mined: all, or those of a language."""

    def __init__(self, index: Index, language: str | None = None) -> None:
        where = f"language = '{language}'" if language else None
        if language and language not in index.languages():
            held = ", ".join(sorted(index.languages())) or "nothing"
            raise UsageError(f"--languages {language}: {index.uri} holds {held}")
        self.index, self.language = index, language
        self.utterances: list[Utterance] = index.utterances(where)
        self._where = where

    def __len__(self) -> int:
        return len(self.utterances)

    @cached_property
    def rows(self) -> dict[str, int]:
        """Places of the utterances by id."""
        return {u.id: row for row, u in enumerate(self.utterances)}

    @cached_property
    def digest(self) -> str:
        """Of all that scores come from: the utterances in their order, their frames, and the index's statistics."""
        hashes = self.index.store.hashes()
        held = [f"{u.id} {hashes.get(u.id)}" for u in self.utterances]
        lines = [str(self.index.store.spec), self.index.statistics.version, *held]
        return sha256("\n".join(lines).encode()).hexdigest()[:16]

    def vectors(self) -> Iterator[tuple[Places, Float32[np.ndarray, "P V"]]]:
        """Places and vectors, a part at a time."""
        for ids, vectors in self.index.vectors(self._where):
            yield np.array([self.rows[i] for i in ids]), vectors

    def queries(self, gallery: "Side", rows: Places) -> Float32[np.ndarray, "P V"]:
        """Vectors of some utterances that are compared with those of the gallery."""
        named, place = gallery.index.statistics.name, gallery.index.estimates
        if gallery.index.uri == self.index.uri:
            vectors = self.index.vectors_of([self.utterances[i].id for i in rows])
        else:  # among the anchors of another index
            vectors = place.place(self.frames(rows, whitened=True), [""] * len(rows))[0]
        languages = [named(self.utterances[i].language) for i in rows]
        return np.stack([place.query_vector(v, lang) for v, lang in zip(vectors, languages, strict=True)])

    def frames(self, rows: Sequence[int] | Places, *, whitened: bool = False) -> list[FrameArray]:
        """Frames of some utterances: as they are stored, or whitened by the index's own statistics."""
        frames = [f.speech for f in self.index.store.read([self.utterances[i].id for i in rows])]
        if whitened:
            transform = self.index.statistics.transform
            return [transform(self.utterances[i].language, f) for i, f in zip(rows, frames, strict=True)]
        return frames

    def packed(self, rows: Places, *, whitened: bool) -> Packed:
        """Frames of some utterances, as they are compared."""
        return indexes.packed(self.frames(rows, whitened=whitened))

    def seconds(self, row: int) -> tuple[float, float]:
        """Start and end of an utterance in its recording."""
        audio, duration = self.utterances[row].audio, self.utterances[row].duration
        start = audio.offset or 0.0
        return start, start + (audio.duration or duration or self._seconds[self.utterances[row].id])

    @cached_property
    def _seconds(self) -> dict[str, float]:
        """What the frames last, for utterances whose manifest doesn't say."""
        store = self.index.store
        return {i: n / store.spec.stored_rate for i, n in store.n_speech().items()}


@dataclass(frozen=True, eq=False)
class Scored:
    """The candidate pairs of two sides, (P,) each: places on both sides, SeqSim, and what follows from it."""

    a: Side
    b: Side
    i: Places
    j: Places
    score: Values
    margin: Values
    csls: Values
    rank_ab: Places
    rank_ba: Places
    neighbours: int

    @property
    def one_to_one(self) -> Bool[np.ndarray, "P"]:
        """Which pairs are best both ways."""
        best: np.ndarray = (self.rank_ab == 1) & (self.rank_ba == 1)
        return best

    def chosen(self, *, threshold: float = -np.inf, one_way: bool = False) -> Places:
        """Pairs of at least this CSLS that are best both ways, or one way at least; best first."""
        best = (self.rank_ab == 1) | (self.rank_ba == 1) if one_way else self.one_to_one
        found = np.flatnonzero(best & (self.csls >= threshold))
        return found[np.lexsort((self.j[found], self.i[found], -self.csls[found]))]

    def around(self, threshold: float, n: int) -> Places:
        """``n`` of the pairs that are best both ways: nearest to the threshold, or evenly from all if none is given."""
        mined = self.chosen()
        shown: np.ndarray = mined[around(self.csls[mined], threshold, n)]
        return shown

    def table(self, chosen: Places) -> list[MinedPair]:
        """The rows of a table for some pairs."""
        copies = self._near_copies(chosen)
        rows = []
        for p, copy in zip(chosen, copies, strict=True):
            i, j = int(self.i[p]), int(self.j[p])
            a, b = self.a.utterances[i], self.b.utterances[j]
            (start_a, end_a), (start_b, end_b) = self.a.seconds(i), self.b.seconds(j)
            rows.append(
                MinedPair(
                    id_a=a.id,
                    audio_a=a.audio.path,
                    start_a=round(start_a, 3),
                    end_a=round(end_a, 3),
                    language_a=a.language,
                    id_b=b.id,
                    audio_b=b.audio.path,
                    start_b=round(start_b, 3),
                    end_b=round(end_b, 3),
                    language_b=b.language,
                    score=round(float(self.score[p]), 4),
                    margin=round(float(self.margin[p]), 4),
                    csls=round(float(self.csls[p]), 4),
                    rank_ab=int(self.rank_ab[p]),
                    rank_ba=int(self.rank_ba[p]),
                    one_to_one=bool(self.one_to_one[p]),
                    near_copy=bool(copy),
                    duration_ratio=round((end_a - start_a) / (end_b - start_b), 3) if end_b > start_b else 0.0,
                    text_a=a.text or "",
                    text_b=b.text or "",
                )
            )
        return rows

    def _near_copies(self, chosen: Places) -> Iterator[bool]:
        hashes_a, hashes_b = self.a.index.store.hashes(), self.b.index.store.hashes()
        for start in range(0, len(chosen), CHUNK):
            some = chosen[start : start + CHUNK]
            frames = zip(self.a.frames(self.i[some]), self.b.frames(self.j[some]), strict=True)
            for p, (x, y) in zip(some, frames, strict=True):
                i, j = self.a.utterances[self.i[p]].id, self.b.utterances[self.j[p]].id
                yield hashes_a[i] == hashes_b[j] or bool(seqsim([x], [y])[0, 0] >= NEAR_COPY)


def around(csls: Values, threshold: float, n: int) -> Int[np.ndarray, "_P"]:
    """``n`` places in CSLS scores that are sorted, best first: nearest to a threshold, or evenly if it isn't finite."""
    if not np.isfinite(threshold):
        return np.unique(np.linspace(0, len(csls) - 1, min(n, len(csls))).round().astype(int))
    first = int(np.count_nonzero(csls >= threshold)) - n // 2
    first = max(0, min(first, len(csls) - n))
    return np.arange(first, min(first + n, len(csls)))


@contextmanager
def sides(
    a: str,
    b: str | None,
    languages: tuple[str, str] | None = None,
    *,
    beside: Path | None = None,
    log: Callable[[str], None] = lambda line: None,
    **options: Any,
) -> Iterator[tuple[Side, Side, dict[str, str]]]:
    """Both sides as a command line names them, and the recordings that failed (name -> why).

    What isn't an index is made one: next to the file ``beside``, to stay, else in a temporary folder.

    Args:
        a: an index, or what `collect` takes.
        b: likewise; None: the other of ``languages`` in ``a``.
        languages: to mine; also what recordings without a manifest speak.
        beside: the output.
        log: takes what is made.
        options: of `build`.

    Raises:
        UsageError: neither ``b`` nor ``languages``, or an index without one of these.
    """
    if b is None and languages is None:
        raise UsageError("mine: name B, or two languages of A, --languages en fr")
    first, second = (normalise_language(code) for code in languages) if languages else (None, None)
    failed: dict[str, str] = {}
    with TemporaryDirectory(prefix="interlingua-mine-") as temporary:
        place = beside.parent / beside.stem if beside else Path(temporary) / "index"

        def opened(given: str, name: str, language: str | None) -> Index:
            if (Path(given) / "catalogue.lance").exists() or "://" in given or given.rstrip("/").endswith(".lance"):
                return Index.open(given)
            if options.get("engine") == "ray" and not beside:
                raise UsageError(f"--engine ray: {given} is indexed first, where all nodes see it; name --out")
            uri = f"{place}-{name}.lance"
            utterances, unread, _ = collect([given], language=language, model=options.get("model") or "base", log=log)
            log(
                f"{given}: indexed as {uri}"
                if beside
                else f"{given}: indexed for this run; `interlingua index build` keeps it"
            )
            index, report = build(utterances, uri, **options)
            failed.update(unread | report.failed)
            return index

        index_a = opened(a, "a", first if b is not None else None)
        index_b = opened(b, "b", second) if b is not None else index_a
        yield Side(index_a, first), Side(index_b, second), failed


@dataclass(frozen=True, eq=False)
class Share:
    """Work on two sides that makes one array; ``size`` is what of it progress counts."""

    name: str
    size: int
    work: Callable[[Side, Side, Advance], np.ndarray]


class Engine(Protocol):
    """Where shares are made: in this process (`mine_here`) or on a cluster (`RayMining`)."""

    def __call__(self, a: Side, b: Side, shares: Sequence[Share], advance: Advance) -> Iterator[tuple[str, np.ndarray]]:
        """Name and array of each share, in any order."""
        ...


def mine_here(a: Side, b: Side, shares: Sequence[Share], advance: Advance) -> Iterator[tuple[str, np.ndarray]]:
    """The engine of one process."""
    for share in shares:
        yield share.name, share.work(a, b, advance)


@dataclass(frozen=True)
class RayMining:
    """The engine of a Ray cluster, whose nodes read the indexes; see `on_cluster`."""

    address: str | None = None

    def __call__(self, a: Side, b: Side, shares: Sequence[Share], advance: Advance) -> Iterator[tuple[str, np.ndarray]]:
        """Raises StoreError where a node finds another index than this process."""
        named = [
            (s.index.uri if "://" in s.index.uri else str(Path(s.index.uri).absolute()), s.language, s.digest)
            for s in (a, b)
        ]
        sizes = {s.name: s.size for s in shares}
        for name, made in on_cluster(partial(_Miner, *named), shares, self.address, on_gpus=False):
            advance(sizes[name])
            yield name, made


class _Miner:
    """What a worker makes of shares."""

    def __init__(self, *named: tuple[str, str | None, str]) -> None:
        self._sides = []
        for uri, language, digest in named:
            side = Side(Index.open(uri), language)
            if side.digest != digest:
                raise StoreError(f"{uri}: another process changed it meanwhile; run the same command again")
            self._sides.append(side)

    def __call__(self, share: Share) -> Iterator[tuple[str, np.ndarray]]:
        a, b = self._sides
        yield share.name, share.work(a, b, lambda n: None)


def mine(
    a: Side,
    b: Side,
    *,
    neighbours: int = NEIGHBOURS,
    kept: Path | None = None,
    engine: Engine = mine_here,
) -> Scored:
    """Score the candidate pairs of two sides, each way; `Scored.chosen` then takes the best.

    Time grows with the number of candidate pairs; memory by 24 bytes a pair, frames apart.

    Args:
        neighbours: of each utterance, whose mean score the margins take off.
        kept: a folder that what is made is kept in: the same call goes on there, unless the indexes have changed.
        engine: where pairs are scored.

    Raises:
        UsageError: frames of two kinds or by two heads, an utterance on both sides, or ``neighbours`` below 1.
    """
    if neighbours < 1:
        raise UsageError(f"--neighbours {neighbours}: use 1 or more")
    a.index.store.require(b.index.store.spec, b.index.store.dim)
    if a.index.uri == b.index.uri and a.rows.keys() & b.rows.keys():
        raise UsageError(f"{a.index.uri}: A and B share utterances; name two languages of it, --languages en fr")
    whitened = bool(a.index.statistics.languages and b.index.statistics.languages)
    if whitened and a.index.statistics.head != b.index.statistics.head:
        raise UsageError(
            f"{a.index.uri} and {b.index.uri}: their heads differ; train one for both with `interlingua index train`"
        )
    everything = not whitened or max(len(a), len(b)) <= EXHAUSTIVE
    run = _Run(a, b, engine, kept)
    i, j = _all_pairs(len(a), len(b)) if everything else _candidates(run, CANDIDATES)
    scores = _scores(run, i, j, whitened)
    known = np.isfinite(scores)
    return ranked(a, b, i[known], j[known], scores[known], neighbours)


class _Run:
    """Makes shares, or reads those that a killed run has kept."""

    def __init__(self, a: Side, b: Side, engine: Engine, kept: Path | None) -> None:
        self.a, self.b = a, b
        self._engine, self._kept = engine, kept
        if kept:
            settings = [__version__, a.digest, b.digest, METHOD, CANDIDATES, EXHAUSTIVE, CHUNK, SHARE]
            self._key = sha256(repr(settings).encode()).hexdigest()[:16]
            for file in kept.glob("*.npy"):
                if not file.name.startswith(self._key):  # of other versions of the indexes
                    file.unlink()

    def make(self, shares: Sequence[Share], label: str) -> list[np.ndarray]:
        """The arrays of the shares, in order."""
        made = {}
        if self._kept:
            files = {s.name: self._kept / f"{self._key}-{s.name}.npy" for s in shares}
            made = {name: np.load(file) for name, file in files.items() if file.exists()}
        todo = [s for s in shares if s.name not in made]
        with track(sum(s.size for s in todo), label) as advance:
            for name, array in self._engine(self.a, self.b, todo, advance):
                made[name] = array
                if self._kept:
                    with atomic_file(files[name]) as temporary, temporary.open("wb") as file:
                        held = BytesIO()  # numpy doesn't see that a disk was full when it writes to a file itself
                        np.save(held, array)
                        file.write(held.getbuffer())
                        file.flush()
                        os.fsync(file.fileno())
        return [made[s.name] for s in shares]


def ranked(a: Side, b: Side, i: Places, j: Places, score: Values, neighbours: int) -> Scored:
    """Margins and ranks of scored pairs, sorted by ``i`` and ``j``."""
    around_a, around_b = (neighbourhoods(side, score, n, neighbours) for side, n in ((i, len(a)), (j, len(b))))
    first, second = around_a[i], around_b[j]
    csls = 2 * score - first - second
    margin = score / np.where(first + second > 0, (first + second) / 2, np.inf)
    rank_ab, rank_ba = (1 + order_within(side, csls) for side in (i, j))
    return Scored(a, b, i, j, score, margin, csls, rank_ab, rank_ba, neighbours)


def neighbourhoods(side: Places, score: Values, n: int, k: int) -> Float32[np.ndarray, "N"]:
    """Mean of the k highest scores of each of ``n`` utterances, whose places in the pairs are ``side``."""
    top = order_within(side, score) < k
    counts = np.bincount(side[top], minlength=n)
    return (np.bincount(side[top], score[top], n) / np.maximum(counts, 1)).astype(np.float32)


def order_within(side: Places, value: Values) -> Places:
    """Each pair's place among those of its utterance, the highest value first; equal ones as they come."""
    order = np.lexsort((-value, side))
    counts = np.bincount(side)
    starts = np.cumsum(counts) - counts
    place = np.empty(len(side), dtype=np.int64)
    place[order] = np.arange(len(side)) - starts[side[order]]
    return place


def _all_pairs(n: int, m: int) -> tuple[Places, Places]:
    return np.repeat(np.arange(n), m), np.tile(np.arange(m), n)


def _candidates(run: _Run, k: int) -> tuple[Places, Places]:
    """Pairs of which one is among the k nearest of the other, by vector."""
    a, b = run.a, run.b
    shares = [
        Share(f"nearest-{name}-{start:09}", len(rows), partial(_nearest, rows=rows, k=k, back=back))
        for back, name, side in ((False, "ab", a), (True, "ba", b))
        for start in range(0, len(side), CHUNK)
        for rows in [np.arange(start, min(start + CHUNK, len(side)))]
    ]
    found = run.make(shares, "choosing candidates")
    first = -(-len(a) // CHUNK)
    i, j = np.concatenate(found[:first]), np.concatenate(found[first:])
    forward = np.repeat(np.arange(len(a)), i.shape[1]) * len(b) + i.ravel()
    backward = j.ravel() * len(b) + np.repeat(np.arange(len(b)), j.shape[1])
    both, other = np.divmod(np.union1d(forward, backward), len(b))
    return both, other


def _nearest(a: Side, b: Side, advance: Advance, *, rows: Places, k: int, back: bool) -> Int[np.ndarray, "P K"]:
    """Places of the k nearest of B for some utterances of A, by inner product of vectors; ``back``: the other way."""
    queries, gallery = (b, a) if back else (a, b)
    k = min(k, len(gallery))
    vectors = queries.queries(gallery, rows)
    best = np.full((len(rows), 0), 0, dtype=np.float32)
    places = np.full((len(rows), 0), 0, dtype=np.int64)
    for others, theirs in gallery.vectors():
        scores = np.concatenate([best, vectors @ theirs.T], axis=1)
        named = np.concatenate([places, np.broadcast_to(others, (len(rows), len(others)))], axis=1)
        keep = np.argpartition(-scores, min(k, scores.shape[1]) - 1, axis=1)[:, :k]
        best, places = (np.take_along_axis(x, keep, axis=1) for x in (scores, named))
    advance(len(rows))
    return places


def _scores(run: _Run, i: Places, j: Places, whitened: bool) -> Values:
    """SeqSim of pairs, which are sorted by ``i``."""
    shares = [
        Share(f"scores-{start:012}", stop - start, partial(_score, i=i[start:stop], j=j[start:stop], whitened=whitened))
        for start, stop in _cuts(i)
    ]
    return np.concatenate([np.zeros(0, np.float32), *run.make(shares, "comparing")])


def _cuts(i: Places) -> Iterator[tuple[int, int]]:
    """Where pairs, sorted by ``i``, are cut into shares: `CHUNK` utterances or `SHARE` pairs, but whole utterances."""
    starts = np.flatnonzero(np.diff(i, prepend=-1))
    ends = np.append(starts[1:], len(i))
    first = 0
    while first < len(starts):
        fitting = int(np.searchsorted(ends, starts[first] + SHARE, side="right"))
        last = min(max(fitting, first + 1), first + CHUNK) - 1
        yield int(starts[first]), int(ends[last])
        first = last + 1


def _score(a: Side, b: Side, advance: Advance, *, i: Places, j: Places, whitened: bool) -> Values:
    """SeqSim of pairs of at most `CHUNK` utterances of A."""
    scores = np.empty(len(i), dtype=np.float32)
    rows = np.unique(i)
    queries = a.packed(rows, whitened=whitened)
    for columns, pairs in _parts(j):
        candidates = b.packed(columns, whitened=whitened)
        x, y = np.searchsorted(rows, i[pairs]), np.searchsorted(columns, j[pairs])
        if len(pairs) >= DENSE * len(rows) * len(columns):
            scores[pairs] = seqsim(queries, candidates, reduction=METHOD.reduction)[x, y]
        else:
            for query in np.unique(x):
                own = x == query
                one, some = queries.take(np.array([query])), candidates.take(y[own])
                scores[pairs[own]] = seqsim(one, some, reduction=METHOD.reduction)[0]
        advance(len(pairs))
    return scores


def _parts(side: Places) -> Iterator[tuple[Places, Places]]:
    """`CHUNK` utterances at a time of those that occur in ``side``, and where they do."""
    occurring = np.unique(side)
    order = np.argsort(side, kind="stable")
    for start in range(0, len(occurring), CHUNK):
        rows = occurring[start : start + CHUNK]
        first, last = np.searchsorted(side[order], [rows[0], rows[-1] + 1])
        yield rows, order[first:last]


def write_mined_manifest(path: Path, scored: Scored, pairs: Sequence[MinedPair]) -> int:
    """Write the utterances of one-to-one pairs as a manifest to fine-tune on, and return how many pairs it has.

    Both utterances of a pair have one ``meaning``, and each has the other's text, where known, among its translations.
    Near copies are left out: they are no translations.

    Raises:
        UsageError: two utterances have one id.
    """
    lines: list[Utterance] = []
    for p in pairs:
        if p.one_to_one and not p.near_copy:
            a, b = scored.a.utterances[scored.a.rows[p.id_a]], scored.b.utterances[scored.b.rows[p.id_b]]
            for own, other in ((a, b), (b, a)):
                known = {**own.translations, **({other.language: other.text} if other.text else {})}
                lines.append(msgspec.structs.replace(own, translations=known, meaning=f"mined {a.id}"))
    seen: set[str] = set()
    for u in lines:
        if u.id in seen:
            raise UsageError(f"--manifest {path}: A and B both hold {u.id!r}; index one of them under other ids")
        seen.add(u.id)
    return write_manifest(path, lines) // 2
