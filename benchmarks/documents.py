"""Alignment of documents: talks spliced from real prompts in two languages, whose true alignment is known.

A document has about 40 sentences in one order, one a cluster of near-duplicates, with pauses and a noise floor; 15% are
in A alone, 15% in B alone, and of neighbours in both some are one stretch without a pause on one side. Parameters are chosen
on documents of half of the clusters, and reported on documents of the others. Writes docs/documents.md; the frames take about
20 minutes of a core, once (runs/documents).
"""

import datetime
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from gallery import pink_noise
from interlingua.audio import load_audio
from interlingua.corpora import prepare_prompts
from interlingua.encoding import WhisperEncoder
from interlingua.files import atomic_file, write_text
from interlingua.index.documents import (
    POOLING,
    SEGMENTS,
    DocumentOptions,
    Move,
    SpanScores,
    align_segments,
    best_path,
    corrected,
    encode_segments,
    margin,
    span_scores,
)
from interlingua.models import load_whisper
from interlingua.resampling import cluster_draws, percentile_interval
from interlingua.results import provenance
from interlingua.translation.segments import speech_regions
from interlingua.types import SAMPLE_RATE, AudioRef, FrameArray, Matrix, Samples, Utterance
from stores import COMPUTE

PAIRS = (("en", "fr"), ("en", "ru"), ("es", "it"), ("fr", "it"))
DOCUMENTS = {"dev": 2, "test": 5}  # of each pair of languages
SENTENCES = 40
ALONE = 0.15  # of the sentences, in A alone; as many in B alone
JOINED = 0.15  # of the sentences in both, joined with the next one on one side
PAUSES, NO_PAUSE = (0.3, 1.2), 0.03  # seconds
LEVEL, NOISE = 0.06, (30.0, 45.0)  # speech, root mean square; dB below it
LONGEST = 15.0  # seconds of a sentence
NEAR = 0.5  # seconds between a boundary found and a true one
SKIPS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
JOINS = (1, 2, 3)
HOUR = 3600.0
OUT = Path("runs/documents")  # delete it when a recording would change
PAGE = Path(__file__).resolve().parent.parent / "docs" / "documents.md"

Times = list[tuple[float, float]]
Found = tuple[float, float, float, float]  # start and end in A, start and end in B


@dataclass(frozen=True, eq=False)
class Truth:
    """Sentences' times in each recording, by number; groups of sentences that are one pair."""

    sides: tuple[dict[int, tuple[float, float]], dict[int, tuple[float, float]]]
    groups: list[list[int]]


@dataclass(frozen=True, eq=False)
class Document:
    """What the aligner gets, and the truth."""

    languages: tuple[str, str]
    frames: tuple[list[FrameArray], list[FrameArray]]
    times: tuple[Times, Times]
    truth: Truth
    seconds: tuple[float, float]


def main() -> None:
    """Measure and write the page."""
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    held = {part: read(part) for part in DOCUMENTS}
    rows = []
    for name in METHODS:
        tables = {part: [score(name, d) for d in held[part]] for part in held}
        choices = JOINS if name == DEFAULT else (DocumentOptions().join,)
        tried = {
            (join, skip): f1(np.sum(counts(tables["dev"], held["dev"], join, skip), axis=0))
            for join in choices
            for skip in SKIPS
        }
        join, skip = max(tried, key=lambda option: tried[option])
        rows.append(row(name, counts(tables["test"], held["test"], join, skip), join, skip))
        if name == DEFAULT:
            defaults = DocumentOptions()
            of_document = [(judge(d.truth, aligned(d)), d) for d in held["test"]]
            rows.append(row("`mine`: its defaults", [c for c, _ in of_document], defaults.join, defaults.skip))
            by_pair = [
                row(" – ".join(pair), [c for c, d in of_document if d.languages == pair], defaults.join, defaults.skip)
                for pair in PAIRS
            ]
            print({option: round(100 * value, 1) for option, value in tried.items()}, flush=True)
    rows.insert(0, row("diagonal: times stretched linearly", [judge(d.truth, diagonal(d)) for d in held["test"]], 0, 0))
    hour = measure_hour([d for d in held["test"] if d.languages == PAIRS[0]])
    made = msgspec.to_builtins(provenance(COMPUTE, "cpu", time.monotonic() - clock, started))
    write_text(PAGE, page(rows, by_pair, hour, held, made))


# --- documents --------------------------------------------------------------------------------------------


def sentences(utterances: Sequence[Utterance]) -> dict[str, dict[str, dict[str, Utterance]]]:
    """Cluster -> meaning -> language -> utterance, without long ones."""
    meanings: dict[str, dict[str, Utterance]] = {}
    for u in utterances:
        meanings.setdefault(str(u.meaning), {})[u.language] = u
    clusters: dict[str, dict[str, dict[str, Utterance]]] = {}
    for meaning, by_language in meanings.items():
        if max(u.duration or 0 for u in by_language.values()) <= LONGEST:
            clusters.setdefault(str(by_language["en"].cluster), {})[meaning] = by_language
    return clusters


@cache
def voice(audio: AudioRef) -> Samples:
    """An utterance without the silence around it, at one level."""
    samples = load_audio(audio)
    loud = np.flatnonzero(np.sqrt(np.convolve(samples**2, np.ones(320) / 320, "same")) > 0.02 * np.abs(samples).max())
    cut = samples[max(0, loud[0] - 400) : loud[-1] + 400]
    return cut * np.float32(LEVEL / np.sqrt(np.square(cut).mean()))


def splice(
    chosen: Sequence[Mapping[str, Utterance]], languages: tuple[str, str], seed: int
) -> tuple[list[Samples], Truth]:
    """Two recordings of the sentences in this order, and their true alignment."""
    rng = np.random.default_rng(seed)
    places = rng.choice(["a", "b", "ab"], size=len(chosen), p=[ALONE, ALONE, 1 - 2 * ALONE])
    joined: dict[int, str] = {}  # sentence -> the side on which it follows the one before without a pause
    for k in range(1, len(chosen)):
        if places[k] == places[k - 1] == "ab" and k - 1 not in joined and rng.random() < JOINED:
            joined[k] = str(rng.choice(["a", "b"]))
    recordings: list[Samples] = []
    sides: list[dict[int, tuple[float, float]]] = []
    for side, language in zip("ab", languages, strict=True):
        parts, at, times = [], 0.0, {}
        for k, sentence in enumerate(chosen):
            if side in places[k]:
                pause = round((NO_PAUSE if joined.get(k) == side else rng.uniform(*PAUSES)) * SAMPLE_RATE)
                spoken = voice(sentence[language].audio)
                parts += [np.zeros(pause, np.float32), spoken]
                times[k] = (at + pause / SAMPLE_RATE, at + (pause + len(spoken)) / SAMPLE_RATE)
                at = times[k][1]
        whole = np.concatenate([*parts, np.zeros(SAMPLE_RATE // 2, np.float32)])
        noise = pink_noise(len(whole), rng)
        noise *= LEVEL * 10 ** (-rng.uniform(*NOISE) / 20) / noise.std()
        recordings.append(np.clip(whole + noise, -1, 1).astype(np.float32))
        sides.append(times)
    groups: list[list[int]] = []
    for k in np.flatnonzero(places == "ab").tolist():
        groups = [*groups[:-1], [*groups[-1], k]] if k in joined else [*groups, [k]]
    return recordings, Truth((sides[0], sides[1]), groups)


def read(part: str) -> list[Document]:
    """The documents of ``dev`` or ``test``, encoded once."""
    clusters = sentences(prepare_prompts())
    names = np.random.default_rng(0).permutation(sorted(clusters))
    half = names[list(DOCUMENTS).index(part) :: 2]
    encoder = cache(lambda: WhisperEncoder(load_whisper("base", dtype=COMPUTE)))
    found = []
    for p, languages in enumerate(PAIRS):
        for number in range(DOCUMENTS[part]):
            seed = 1000 * list(DOCUMENTS).index(part) + 100 * p + number
            rng = np.random.default_rng((seed, 1))
            chosen = [clusters[c][rng.choice(sorted(clusters[c]))] for c in rng.permutation(half)[:SENTENCES]]
            recordings, truth = splice(chosen, languages, seed)
            path = OUT / f"{part}-{'-'.join(languages)}-{number}.npz"
            if not path.exists():
                encode(recordings, encoder(), path)
            with np.load(path) as saved:
                frames = [np.split(saved[f"frames_{s}"], np.cumsum(saved[f"lengths_{s}"])[:-1]) for s in "ab"]
                times = [[(float(b), float(e)) for b, e in saved[f"times_{s}"]] for s in "ab"]
            seconds = (len(recordings[0]) / SAMPLE_RATE, len(recordings[1]) / SAMPLE_RATE)
            found.append(Document(languages, (frames[0], frames[1]), (times[0], times[1]), truth, seconds))
    return found


def encode(recordings: Sequence[Samples], encoder: WhisperEncoder, path: Path) -> None:
    """What `align_documents` makes of each recording, into a file."""
    arrays: dict[str, Any] = {}
    for side, samples in zip("ab", recordings, strict=True):
        times = [span.seconds for span in speech_regions(samples, SEGMENTS)]
        frames = encode_segments(samples, times, encoder, path.stem)
        arrays |= {f"times_{side}": np.array(times), f"lengths_{side}": np.array([len(f) for f in frames])}
        arrays[f"frames_{side}"] = np.concatenate(frames)
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


# --- methods ----------------------------------------------------------------------------------------------


def aligned(d: Document) -> list[Found]:
    """As `interlingua mine --document`."""
    steps = align_segments(*corrected(*d.frames), *d.times, DocumentOptions())
    return [times_of(d, s.i, s.j, (s.m, s.n)) for s in steps]


def times_of(d: Document, i: int, j: int, move: Move) -> Found:
    """The times of a pair."""
    (a, b), (m, n) = d.times, move
    return a[i][0], a[i + m - 1][1], b[j][0], b[j + n - 1][1]


def diagonal(d: Document) -> list[Found]:
    """Every segment of A with the same part of B's time, from its first speech to its last."""
    (a, b) = d.times
    slope = (b[-1][1] - b[0][0]) / (a[-1][1] - a[0][0])
    return [(s, e, b[0][0] + slope * (s - a[0][0]), b[0][0] + slope * (e - a[0][0])) for s, e in a]


Scorer = Callable[[Document, Move], Matrix]


def mean_vectors(d: Document, move: Move) -> Matrix:
    """Cosine of the mean frames of joined segments: Speech Vecalign's, with Whisper's vectors."""
    sides = []
    for frames, n in zip(d.frames, move, strict=True):
        joined = [np.concatenate(frames[i : i + n]).mean(axis=0) for i in range(len(frames) - n + 1)]
        sides.append(np.stack([v / np.linalg.norm(v) for v in joined]))
    return np.asarray(sides[0] @ sides[1].T)


def scorer(*, whitened: bool, position: bool) -> Scorer:
    """SeqSim with some of the corrections."""
    prepared: dict[int, tuple[tuple[Sequence[FrameArray], Sequence[FrameArray]], SpanScores | None]] = {}

    def scores(d: Document, move: Move) -> Matrix:
        if id(d) not in prepared:
            frames = corrected(*d.frames) if whitened else d.frames
            prepared[id(d)] = (frames, None if position else SpanScores(*frames, max(JOINS)))
        (a, b), plain = prepared[id(d)]
        return plain(*move) if plain else span_scores(a, b, move, np.ones((len(a), len(b)), bool))

    return scores


DEFAULT = "SeqSim, margin, whitened, position"
METHODS: dict[str, tuple[Scorer, bool]] = {  # and whether the neighbours' mean is subtracted
    "mean vectors, margin (Speech Vecalign's scheme)": (mean_vectors, True),
    "SeqSim, no corrections": (scorer(whitened=False, position=False), False),
    "SeqSim, margin": (scorer(whitened=False, position=False), True),
    "SeqSim, margin, whitened": (scorer(whitened=True, position=False), True),
    DEFAULT: (scorer(whitened=True, position=True), True),
}


def score(name: str, d: Document) -> dict[Move, Matrix]:
    """All moves' margins, or bare scores."""
    scores, normalised = METHODS[name]
    joins = max(JOINS) if name == DEFAULT else DocumentOptions().join
    moves = [m for m in DocumentOptions(join=joins).moves if m[0] <= len(d.frames[0]) and m[1] <= len(d.frames[1])]
    return {move: margin(scores(d, move)) if normalised else scores(d, move) for move in moves}


def counts(tables: Sequence[dict[Move, Matrix]], held: Sequence[Document], join: int, skip: float) -> list[np.ndarray]:
    """Each document's counts with these options."""
    options = DocumentOptions(join=join, skip=skip)
    return [
        judge(
            d.truth, [times_of(d, *p) for p in best_path({m: t[m] for m in options.moves if m in t}, *d.times, options)]
        )
        for t, d in zip(tables, held, strict=True)
    ]


# --- figures ----------------------------------------------------------------------------------------------


def judge(truth: Truth, found: Sequence[Found]) -> np.ndarray:
    """Right pairs, pairs, sentences found, sentences in both; boundaries right, found; true boundaries found, true.

    A pair covers a sentence if they share half of the shorter one. It is right if it covers the same sentences on both
    sides, and at least one; then these are found. A boundary is right within `NEAR` of a sentence's; a true boundary is
    that of a pair of one or more sentences, and is found within `NEAR` of a pair's.
    """
    right, covered = 0, set()
    for times in found:
        a, b = (covers(truth.sides[s], *times[2 * s : 2 * s + 2]) for s in (0, 1))
        if a and a == b:
            right += 1
            covered |= a
    result = [right, len(found), len(covered), sum(map(len, truth.groups)), 0, 0, 0, 0]
    for s, side in enumerate(truth.sides):
        mine = np.array([t for times in found for t in times[2 * s : 2 * s + 2]])
        every = np.array([t for times in side.values() for t in times])
        pairs = np.array([t for g in truth.groups for t in (side[g[0]][0], side[g[-1]][1])])
        result[5] += len(mine)
        result[7] += len(pairs)
        if len(mine):
            result[4] += int((np.abs(mine[:, None] - every).min(axis=1) <= NEAR).sum())
            result[6] += int((np.abs(pairs[:, None] - mine).min(axis=1) <= NEAR).sum())
    return np.array(result)


def covers(side: Mapping[int, tuple[float, float]], start: float, end: float) -> set[int]:
    """The sentences that a stretch covers."""
    return {k for k, (b, e) in side.items() if min(end, e) - max(start, b) >= min(end - start, e - b) / 2}


def ratios(total: np.ndarray) -> list[float]:
    """Precision, recall, F1 of pairs, then of boundaries."""
    out = []
    for right, n, hit, true in total.reshape(2, 4):
        p, r = right / max(n, 1), hit / max(true, 1)
        out += [p, r, 2 * p * r / (p + r) if p + r else 0.0]
    return out


def f1(total: np.ndarray) -> float:
    """Of pairs."""
    return ratios(total)[2]


def row(name: str, found: Sequence[np.ndarray], join: int, skip: float) -> dict[str, Any]:
    """A row of a table; the interval draws documents."""
    stacked = np.stack(found)
    draws = cluster_draws(len(stacked), 1000) @ stacked
    interval = percentile_interval(np.array([f1(d) for d in draws]))
    result = {
        "name": name,
        "join": join,
        "skip": skip,
        "ratios": ratios(stacked.sum(axis=0)),
        "ci": interval,
        "n": len(found),
    }
    print(result, flush=True)
    return result


def measure_hour(held: Sequence[Document]) -> dict[str, Any]:
    """An hour against an hour: the documents one after the other, again and again; seconds and memory of aligning."""
    frames: tuple[list[FrameArray], list[FrameArray]] = ([], [])
    times: tuple[Times, Times] = ([], [])
    sides: tuple[dict[int, tuple[float, float]], dict[int, tuple[float, float]]] = ({}, {})
    groups: list[list[int]] = []
    at, first, turn = [0.0, 0.0], 0, 0
    while min(at) < HOUR:
        d = held[turn % len(held)]
        for s in (0, 1):
            frames[s].extend(d.frames[s])
            times[s].extend((b + at[s], e + at[s]) for b, e in d.times[s])
            sides[s].update({first + k: (b + at[s], e + at[s]) for k, (b, e) in d.truth.sides[s].items()})
            at[s] += d.seconds[s]
        groups += [[first + k for k in g] for g in d.truth.groups]
        first, turn = first + SENTENCES, turn + 1
    whole = Document(held[0].languages, frames, times, Truth(sides, groups), (at[0], at[1]))
    tracemalloc.start()
    clock = time.process_time()
    found = aligned(whole)
    seconds, (_, peak) = time.process_time() - clock, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    result = {
        "segments": [len(f) for f in frames],
        "seconds": seconds,
        "megabytes": peak / 1e6,  # what numpy holds
        "ratios": ratios(judge(whole.truth, found)),
        "turns": turn,
    }
    print(result, flush=True)
    return result


def page(
    rows: list[dict[str, Any]],
    by_pair: list[dict[str, Any]],
    hour: dict[str, Any],
    held: Mapping[str, Sequence[Document]],
    made: dict[str, Any],
) -> str:
    """docs/documents.md."""
    defaults = DocumentOptions()
    test = held["test"]
    shared = sum(len(g) for d in test for g in d.truth.groups)
    every = sum(len(d.truth.sides[0].keys() | d.truth.sides[1].keys()) for d in test)
    return f"""# Align two recordings of one talk

```
interlingua mine talk_en.mp3 talk_fr.mp3 --document --languages en fr --out pairs.tsv
```

`pairs.tsv` holds a line a pair: both stretches' times, SeqSim, its margin over the rest of the recording, and how many segments
were joined. `--out` also takes `.parquet`, `.json` and `.TextGrid` (for Praat). In Python:
`interlingua.index.documents.align_documents("talk_en.mp3", "talk_fr.mp3", encoder)`.

Segments of speech (pauses of {SEGMENTS.pause:g} s, {SEGMENTS.longest:g} s at most) are joined, up to {defaults.join} and {defaults.longest:g} s, and the monotone path of most gain
chooses pairs and leaves the rest out, as [Speech Vecalign](https://arxiv.org/abs/2509.18360) does on fixed vectors. No text and no training is needed.

## How well

Written by `make bench-documents` (`benchmarks/documents.py`), not by hand: {made["started"][:10]}, {made["device"]["name"]}, Whisper-base, frames pooled by {POOLING}.

{len(test)} documents of {SENTENCES} real prompts, {DOCUMENTS["test"]} for each of {len(PAIRS)} pairs of languages: {every} sentences, {every - shared} of them in one recording alone,
pauses of {PAUSES[0]:g} to {PAUSES[1]:g} s, noise {NOISE[0]:g} to {NOISE[1]:g} dB below the speech, some neighbours without a pause on one side. `join` and `skip` are chosen on
{len(held["dev"])} documents of other sentences. A pair is right if it covers the same sentences on both sides; a boundary, within {NEAR:g} s of a sentence's.

{table(rows)}

`mine` by pair of languages:

{table(by_pair)}

Brackets: 95% interval, documents drawn. One voice a language, and clean cuts between sentences: interpreted speech will score lower.

An hour against an hour ({hour["segments"][0]} and {hour["segments"][1]} segments, the documents of {" – ".join(PAIRS[0])} in turn, so that each sentence recurs) is aligned in {hour["seconds"]:.0f} s
of one core and {hour["megabytes"]:.0f} MB, encoding apart: F1 of pairs {100 * hour["ratios"][2]:.1f}.
"""


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A Markdown table."""
    head = ["", "join, skip", "precision", "recall", "F1 of pairs", "precision", "recall", "F1 of boundaries"]
    lines = [
        [
            r["name"],
            f"{r['join']}, {r['skip']:g}" if r["join"] else "",
            *(f"{100 * x:.1f}" for x in r["ratios"][:2]),
            f"{100 * r['ratios'][2]:.1f} [{100 * r['ci'][0]:.1f}, {100 * r['ci'][1]:.1f}]",
            *(f"{100 * x:.1f}" for x in r["ratios"][3:]),
        ]
        for r in rows
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines])


if __name__ == "__main__":
    main()
