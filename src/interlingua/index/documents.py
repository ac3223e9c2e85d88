"""Two recordings of one talk in two languages, interpreted or dubbed -> pairs of stretches that mean the same.

    recording -> segments of speech -> frames, encoded once
              -> a coarse path through SeqSim of all joined segments, from one product (`SpanScores`)
              -> around it SeqSim with the default method's corrections -> the monotone path of most gain -> pairs

After Speech Vecalign (arXiv 2509.18360), with SeqSim in place of the cosine of fixed vectors. As in Vecalign (Thompson
& Koehn, EMNLP 2019), scores are normalised by what each stretch scores against the rest of the other recording, and
leaving a segment out costs what a quantile of all pairs costs. `make bench-documents` measures it (docs/documents.md).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32

from interlingua.audio import AudioSource, load_audio
from interlingua.encoding import SpeechEncoder, pool_frames
from interlingua.encoding.encoder import pooling_at
from interlingua.errors import AudioError, UsageError
from interlingua.files import write_text
from interlingua.index.pairs import Pair, write_pairs
from interlingua.languages import language_name
from interlingua.progress import track
from interlingua.retrieval.features import LEAST_UTTERANCES, fit_transform, with_position
from interlingua.retrieval.methods import DEFAULT_METHOD, METHODS
from interlingua.retrieval.seqsim import SimilarityCompute, reduce_directions, seqsim, unit_rows
from interlingua.translation.segments import Segmentation, speech_regions
from interlingua.types import SAMPLE_RATE, AudioRef, FrameArray, Matrix, Samples

SEGMENTS = Segmentation(longest=10.0, pause=0.3, pad=0.1)
POOLING = 4  # of Whisper's frames averaged into one: 16 times cheaper
BAND = 25  # segments to each side of the coarse path
BATCH_SEGMENTS = 32  # encoded together
BLOCK_SPANS = 16  # scored together

Times = Sequence[tuple[float, float]]
"""Start and end of each segment, seconds."""

Move = tuple[int, int]
"""How many consecutive segments of A and of B make a pair."""

Position = tuple[int, int, Move]
"""A pair on the path: the first segments of A and of B, and how many."""


class DocumentPair(Pair, frozen=True, kw_only=True):
    """A stretch of A and the stretch of B that means the same; ``kind``: segments joined, as in ``2-1``."""

    kind: str


@dataclass(frozen=True)
class DocumentOptions:
    """How documents are aligned; the defaults were chosen on documents of half of the prompts (docs/documents.md).

    Attributes:
        join: segments that one stretch may join; both stretches of a pair join at most one more.
        longest: of a joined stretch, seconds.
        skip: leave out what scores less than this quantile of all pairs of single segments.
    """

    join: int = 3
    longest: float = 20.0
    skip: float = 0.6

    def __post_init__(self) -> None:
        if not 1 <= self.join <= 8:
            raise UsageError(f"join {self.join}: a stretch joins 1 to 8 segments")
        if not 0 < self.skip < 1 or self.longest <= 0:
            raise UsageError("skip lies between 0 and 1, longest is above 0 s")

    @property
    def moves(self) -> list[Move]:
        """1-1, 1-2, 2-1 and so on."""
        sizes = range(1, self.join + 1)
        return [(m, n) for m in sizes for n in sizes if m + n <= self.join + 1]


@dataclass(frozen=True, eq=False)
class Step:
    """A pair found: ``m`` segments of A from ``i`` on, and ``n`` of B from ``j`` on."""

    i: int
    m: int
    j: int
    n: int
    score: float
    margin: float


def align_documents(
    a: AudioSource,
    b: AudioSource,
    encoder: SpeechEncoder,
    *,
    languages: tuple[str, str] = ("", ""),
    options: DocumentOptions | None = None,
    compute: SimilarityCompute = "float32",
    device: str = "cpu",
    log: Callable[[str], None] = lambda line: None,
) -> list[DocumentPair]:
    """Align two recordings of one talk; the pairs come in the order of time, and each stretch is in one at most.

    Args:
        a: anything that `load_audio` reads, up to four hours; an array is at 16 kHz.
        b: likewise, in another language.
        encoder: of speech, without silence behind it (context ``speech``).
        languages: codes for the table; two equal ones are warned of.
        compute: number format of SeqSim's products, on ``device``.
        log: takes a warning.

    Raises:
        AudioError: a recording can't be read, or no speech is found in it.
    """
    names = [_name(source, side) for source, side in ((a, "A"), (b, "B"))]
    if languages[0] and languages[0] == languages[1]:
        log(f"both recordings are {language_name(languages[0])}: pairs will match words rather than meanings")
    recordings = [load_audio(source) for source in (a, b)]
    times: list[Times] = [[span.seconds for span in speech_regions(r, SEGMENTS)] for r in recordings]
    for name, found in zip(names, times, strict=True):
        if not found:
            raise AudioError(f"{name}: no speech is found in it; listen to it, or name another recording")
    if np.array_equal(recordings[0], recordings[1]):
        log(f"{names[0]} and {names[1]} are the same recording")
    frames = [
        encode_segments(samples, found, encoder, label=f"encoding {Path(name).name}")
        for samples, found, name in zip(recordings, times, names, strict=True)
    ]
    whitened = corrected(frames[0], frames[1])
    steps = align_segments(*whitened, times[0], times[1], options or DocumentOptions(), compute=compute, device=device)
    starts = [(source.offset or 0.0) if isinstance(source, AudioRef) else 0.0 for source in (a, b)]
    return [
        DocumentPair(
            id_a=f"{Path(names[0]).stem}-{number:04}",
            audio_a=names[0],
            start_a=round(starts[0] + times[0][s.i][0], 3),
            end_a=round(starts[0] + times[0][s.i + s.m - 1][1], 3),
            language_a=languages[0],
            id_b=f"{Path(names[1]).stem}-{number:04}",
            audio_b=names[1],
            start_b=round(starts[1] + times[1][s.j][0], 3),
            end_b=round(starts[1] + times[1][s.j + s.n - 1][1], 3),
            language_b=languages[1],
            score=round(s.score, 4),
            margin=round(s.margin, 4),
            kind=f"{s.m}-{s.n}",
        )
        for number, s in enumerate(steps, 1)
    ]


def encode_segments(samples: Samples, times: Times, encoder: SpeechEncoder, label: str) -> list[FrameArray]:
    """Frames of each segment, pooled, (T, D) float32."""
    frames: list[FrameArray] = []
    pooling = pooling_at(encoder.rate, POOLING)
    with track(len(times), label) as advance:
        for first in range(0, len(times), BATCH_SEGMENTS):
            batch = times[first : first + BATCH_SEGMENTS]
            pieces = [samples[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)] for start, end in batch]
            frames += [pool_frames(f[:n].astype(np.float32), pooling) for f, n in encoder.encode(pieces)]
            advance(len(batch))
    return frames


def corrected(a: Sequence[FrameArray], b: Sequence[FrameArray]) -> tuple[list[FrameArray], list[FrameArray]]:
    """Frames whitened by the default method, each side by itself; as they are if a side has too few to estimate on."""
    method = METHODS[DEFAULT_METHOD]
    if method.frames == "plain" or min(len(a), len(b)) < LEAST_UTTERANCES:
        return list(a), list(b)
    sides = []
    for side in (a, b):
        transform = fit_transform(side, method.frames, method.shrinkage)
        sides.append([transform(f) for f in side])
    return sides[0], sides[1]


def align_segments(
    a: Sequence[FrameArray],
    b: Sequence[FrameArray],
    times_a: Times,
    times_b: Times,
    options: DocumentOptions,
    *,
    compute: SimilarityCompute = "float32",
    device: str = "cpu",
) -> list[Step]:
    """The monotone path through the segments' frames, (T, D) each.

    Time grows with the product of the lengths, once; memory with the product of the numbers of segments: an hour
    against an hour is measured in docs/documents.md.
    """
    moves = [(m, n) for m, n in options.moves if m <= len(a) and n <= len(b)]
    near = np.ones((len(a), len(b)), dtype=bool)
    if max(near.shape) > 2 * BAND:
        rough = SpanScores(a, b, options.join)
        path = best_path({move: margin(rough(*move)) for move in moves}, times_a, times_b, options)
        near = around(path, near.shape, BAND)
    scores = {move: span_scores(a, b, move, near, compute=compute, device=device) for move in moves}
    margins = {move: margin(s) for move, s in scores.items()}
    return [
        Step(i, m, j, n, float(scores[m, n][i, j]), float(margins[m, n][i, j]))
        for i, j, (m, n) in best_path(margins, times_a, times_b, options)
    ]


class SpanScores:
    """SeqSim F1 of all joined segments, without position: the product of each pair of segments is taken once.

    The maximum over a joined stretch is the maximum of its parts' maxima. Memory: 8 ``join`` bytes a pair of segments.
    """

    def __init__(self, a: Sequence[FrameArray], b: Sequence[FrameArray], join: int) -> None:
        self._lengths = [np.array([len(f) for f in side]) for side in (a, b)]
        shape = (join, len(a), len(b))
        self._precision = np.zeros(shape, dtype=np.float32)  # [n-1, i, j]: best of segment i's frames in B's j..j+n-1
        self._recall = np.zeros(shape, dtype=np.float32)  # [m-1, i, j]: best of segment j's frames in A's i..i+m-1
        frames_b = np.concatenate([unit_rows(f) for f in b])
        starts = np.cumsum(self._lengths[1]) - self._lengths[1]
        columns: list[np.ndarray] = []  # of the last segments of A: the best of every frame of B, latest first
        for i, query in enumerate(a):
            similarity = unit_rows(query) @ frames_b.T
            parts = best = np.maximum.reduceat(similarity, starts, axis=1)
            for n in range(1, min(join, len(b)) + 1):
                if n > 1:
                    best = np.maximum(best[:, :-1], parts[:, n - 1 :])
                self._precision[n - 1, i, : best.shape[1]] = best.sum(axis=0)
            columns = [similarity.max(axis=0), *columns[: join - 1]]
            for m, column in enumerate(np.maximum.accumulate(columns), 1):
                self._recall[m - 1, i - m + 1] = np.add.reduceat(column, starts)

    def __call__(self, m: int, n: int) -> Matrix:
        """F1 of A's stretches of ``m`` segments and B's of ``n``, by their first ones, (N - m + 1, M - n + 1)."""
        lengths_a, lengths_b = _joined(self._lengths[0], m), _joined(self._lengths[1], n)
        rows, columns = len(lengths_a), len(lengths_b)
        precision = np.sum([self._precision[n - 1, k : k + rows, :columns] for k in range(m)], axis=0)
        recall = np.sum([self._recall[m - 1, :rows, k : k + columns] for k in range(n)], axis=0)
        return reduce_directions(precision / lengths_a[:, None], recall / lengths_b, "f1")


def span_scores(
    a: Sequence[FrameArray],
    b: Sequence[FrameArray],
    move: Move,
    near: Bool[np.ndarray, "_N _M"],
    *,
    compute: SimilarityCompute = "float32",
    device: str = "cpu",
) -> Matrix:
    """SeqSim F1 of joined stretches, each frame with its position in its stretch, (N - m + 1, M - n + 1).

    NaN where the first segments aren't ``near``.
    """
    m, n = move
    weight = METHODS[DEFAULT_METHOD].position
    near = near[: len(a) - m + 1, : len(b) - n + 1]
    scores = np.full(near.shape, np.nan, dtype=np.float32)
    for first in range(0, len(near), BLOCK_SPANS):
        rows = np.arange(first, min(first + BLOCK_SPANS, len(near)))
        columns = np.flatnonzero(near[rows].any(axis=0))
        if len(columns):
            queries = [with_position(np.concatenate(a[i : i + m]), weight) for i in map(int, rows)]
            candidates = [with_position(np.concatenate(b[j : j + n]), weight) for j in map(int, columns)]
            scores[np.ix_(rows, columns)] = seqsim(queries, candidates, compute=compute, device=device)
    scores[~near] = np.nan
    return scores


def margin(scores: Matrix) -> Matrix:
    """A pair's score less the mean of its row's mean and its column's: of all stretches of as many segments; NaN stays.

    Vecalign's normaliser, with the whole other recording (or the band of it) in place of a sample.
    """
    known = ~np.isnan(scores)
    filled = np.where(known, scores, 0)
    rows, columns = (filled.sum(axis) / np.maximum(known.sum(axis), 1) for axis in (1, 0))
    return np.asarray(scores - (rows[:, None] + columns) / 2, dtype=np.float32)


def best_path(
    margins: Mapping[Move, Matrix], times_a: Times, times_b: Times, options: DocumentOptions
) -> list[Position]:
    """The monotone path of most gain through the segments, which may leave out any of them.

    A pair gains (margin - t) sqrt(d): d is its mean duration, t the quantile ``options.skip`` of the margins of all
    pairs of single segments. NaN, and stretches that join segments beyond ``options.longest``, make no pairs.
    """
    single = margins[1, 1]
    threshold = np.quantile(single[~np.isnan(single)], options.skip)
    gains = {}
    for (m, n), found in margins.items():
        duration = (_joined([e - s for s, e in times_a], m)[:, None] + _joined([e - s for s, e in times_b], n)) / 2
        fits = _fits(times_a, m, options.longest)[:, None] & _fits(times_b, n, options.longest)
        gains[m, n] = np.where(fits & ~np.isnan(found), (found - threshold) * np.sqrt(duration), -np.inf)
    return _most_gain(gains, len(times_a), len(times_b))


def around(path: Sequence[Position], shape: tuple[int, int], band: int) -> Bool[np.ndarray, "N M"]:
    """Which pairs of segments are within ``band`` segments of the path, along either side."""
    corners = [(0, 0), *((i, j) for i, j, _ in path), (shape[0] - 1, shape[1] - 1)]
    i, j = np.array(corners).T
    rows, columns = np.arange(shape[0]), np.arange(shape[1])
    beside = np.abs(columns - np.interp(rows, i, j)[:, None]) <= band
    above = np.abs(rows[:, None] - np.interp(columns, j, i)) <= band
    return np.asarray(beside | above)


def write_documents(path: Path, pairs: Sequence[DocumentPair]) -> None:
    """Write the pairs as the file's name says: .tsv, .parquet, .json or .TextGrid; else raises UsageError."""
    if path.suffix.lower() == ".textgrid":
        write_text(path, as_textgrid(pairs))
    else:
        write_pairs(path, pairs, DocumentPair)


def as_textgrid(pairs: Sequence[DocumentPair]) -> str:
    """Praat's TextGrid: a tier for each recording; a pair's intervals carry its number."""
    length = max((max(p.end_a, p.end_b) for p in pairs), default=1.0)
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {length}"]
    lines += ["tiers? <exists>", "size = 2", "item []:"]
    for tier, side in enumerate("ab", 1):
        intervals: list[tuple[float, float, str]] = []
        last = 0.0
        for number, pair in enumerate(pairs, 1):
            start, end = getattr(pair, f"start_{side}"), getattr(pair, f"end_{side}")
            start = max(start, last)  # neighbours' padding may overlap
            if start > last:
                intervals.append((last, start, ""))
            intervals.append((start, end, str(number)))
            last = end
        if last < length:
            intervals.append((last, length, ""))
        name = (getattr(pairs[0], f"language_{side}") if pairs else "") or side.upper()
        lines += [f"    item [{tier}]:", '        class = "IntervalTier"', f'        name = "{name}"']
        lines += ["        xmin = 0", f"        xmax = {length}", f"        intervals: size = {len(intervals)}"]
        for k, (start, end, label) in enumerate(intervals, 1):
            lines += [f"        intervals [{k}]:", f"            xmin = {start}", f"            xmax = {end}"]
            lines += [f'            text = "{label}"']
    return "\n".join(lines) + "\n"


def _most_gain(gains: Mapping[Move, Matrix], n_a: int, n_b: int) -> list[Position]:
    """First segments and moves of the best path; of equal gains, pairs come before gaps."""
    moves = list(gains)
    skip_a, skip_b = len(moves), len(moves) + 1
    total = np.zeros((n_a + 1, n_b + 1))
    choice = np.full((n_a + 1, n_b + 1), skip_b, dtype=np.int8)
    for i in range(1, n_a + 1):
        best, chosen = total[i - 1].copy(), np.full(n_b + 1, skip_a, dtype=np.int8)
        for k, (m, n) in enumerate(moves):
            if m <= i:
                gain = total[i - m, : n_b - n + 1] + gains[m, n][i - m]
                better = gain >= best[n:]
                best[n:] = np.where(better, gain, best[n:])
                chosen[n:] = np.where(better, k, chosen[n:])
        total[i] = np.maximum.accumulate(best)
        choice[i] = np.where(total[i] > best, skip_b, chosen)
    i, j = n_a, n_b
    path = []
    while i and j:
        k = choice[i, j]
        if k < len(moves):
            i, j = i - moves[k][0], j - moves[k][1]
            path.append((i, j, moves[k]))
        else:
            i, j = (i - 1, j) if k == skip_a else (i, j - 1)
    return path[::-1]


def _joined(values: Sequence[float] | np.ndarray, n: int) -> Float32[np.ndarray, "_N"]:
    """Sums of ``n`` consecutive values."""
    return np.convolve(values, np.ones(n), "valid").astype(np.float32)


def _fits(times: Times, n: int, longest: float) -> Bool[np.ndarray, "_N"]:
    """Whether ``n`` consecutive segments take ``longest`` seconds at most, the pauses included; a single one always."""
    return np.array([n == 1 or times[i + n - 1][1] - times[i][0] <= longest for i in range(len(times) - n + 1)])


def _name(source: AudioSource, side: str) -> str:
    if isinstance(source, AudioRef):
        return source.path
    return str(source) if isinstance(source, str | Path) else f"recording {side}"
