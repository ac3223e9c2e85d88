"""Recordings of any length -> chunks that fit Whisper's window, cut at pauses; decoded chunks -> segments.

The voice-activity detector is Silero's (MIT), shipped with faster-whisper.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from interlingua.errors import UsageError
from interlingua.models import Whisper
from interlingua.models.whisper import FRAME_SECONDS
from interlingua.translation.engines import Decoded
from interlingua.translation.formats import Phrase, Segment
from interlingua.translation.guards import Flag, compression_ratio
from interlingua.translation.words import Word
from interlingua.types import SAMPLE_RATE, WINDOW_SECONDS, Samples


@dataclass(frozen=True)
class Segmentation:
    """How recordings are cut; the defaults are measured in docs/translate.md. Durations are in seconds.

    Attributes:
        vad: find speech first; False: cut every `longest` seconds regardless.
        longest: of a chunk.
        pause: without speech, ends a region of it.
        gap: longest one between regions of the same chunk.
        pad: kept before and after each region.
        threshold: of Silero's speech probability.
    """

    vad: bool = True
    longest: float = 20.0
    pause: float = 0.3
    gap: float = 1.0
    pad: float = 0.2
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if not 1 <= self.longest <= WINDOW_SECONDS:
            raise UsageError(f"longest: {self.longest:g} s; a chunk has 1 to {WINDOW_SECONDS} s, Whisper's window")
        if not 0 < self.threshold < 1 or min(self.pause, self.gap, self.pad) < 0:
            raise UsageError("threshold lies between 0 and 1; pause, gap and pad are seconds from 0 up")


@dataclass(frozen=True)
class Span:
    """A half-open stretch of a recording, in samples."""

    start: int
    end: int

    @property
    def seconds(self) -> tuple[float, float]:
        """Start and end in seconds."""
        return self.start / SAMPLE_RATE, self.end / SAMPLE_RATE


def chunks_of(samples: Samples, how: Segmentation) -> list[Span]:
    """The chunks of a recording in the order of time: non-overlapping, none longer than ``how.longest``."""
    longest = round(how.longest * SAMPLE_RATE)
    if how.vad:
        return join_regions(speech_regions(samples, how), longest, round(how.gap * SAMPLE_RATE))
    return [Span(start, min(len(samples), start + longest)) for start in range(0, len(samples), longest)]


def speech_regions(samples: Samples, how: Segmentation) -> list[Span]:
    """Speech found by Silero's detector, each region at most ``how.longest`` seconds long."""
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    options = VadOptions(
        threshold=how.threshold,
        min_silence_duration_ms=round(1000 * how.pause),
        max_speech_duration_s=how.longest,
        speech_pad_ms=round(1000 * how.pad),
    )
    longest = round(how.longest * SAMPLE_RATE)
    regions = []
    for found in get_speech_timestamps(samples, options):
        start, end = int(found["start"]), min(int(found["end"]), len(samples))
        for cut in range(start, end, longest):  # the detector may exceed its own limit by its padding
            regions.append(Span(cut, min(end, cut + longest)))
    return [r for r in regions if r.end > r.start]


def join_regions(regions: Sequence[Span], longest: int, gap: int) -> list[Span]:
    """Merge neighbouring regions at most ``gap`` samples apart into chunks of at most ``longest`` samples.

    The gap stays in the chunk, so that times within it are times of the recording.
    """
    chunks: list[Span] = []
    for region in regions:
        if chunks and region.start - chunks[-1].end <= gap and region.end - chunks[-1].start <= longest:
            chunks[-1] = Span(chunks[-1].start, region.end)
        else:
            chunks.append(region)
    return chunks


@dataclass(frozen=True)
class Output:
    """The best output for a chunk in one target.

    ``words``: of each piece that the model's timestamps cut it into; their times are seconds within the chunk.
    ``parts``: shorter chunks whose outputs, of the same target, stand for this one.
    ``phrase``: whose text stands for the decoder's.
    """

    decoded: Decoded
    text: str
    flags: tuple[Flag, ...]
    tries: int
    temperature: float = 0.0
    words: tuple[tuple[Word, ...], ...] = ()
    parts: tuple["Chunk", ...] = ()
    phrase: Phrase | None = None


@dataclass(eq=False)
class Chunk:
    """A stretch of a recording; ``states``: the engine's, kept from detection to decoding; ``outputs``: by target."""

    recording: int
    span: Span
    samples: Samples
    language: str = ""
    token: str = ""
    states: Any = None
    outputs: dict[str, Output] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Its duration."""
        return len(self.samples) / SAMPLE_RATE

    def parts(self, how: Segmentation) -> list["Chunk"]:
        """Its speech in chunks of their own, in the same language and with the same token."""
        spans = chunks_of(self.samples, replace(how, vad=True))
        return [
            Chunk(
                self.recording,
                Span(self.span.start + s.start, self.span.start + s.end),
                self.samples[s.start : s.end],
                self.language,
                self.token,
            )
            for s in spans
        ]


def segments_of(chunk: Chunk, target: str, whisper: Whisper) -> list[Segment]:
    """A chunk's output, cut at the model's timestamps, if any."""
    found = chunk.outputs[target]
    if found.parts:
        return [segment for part in found.parts for segment in segments_of(part, target, whisper)]
    start, end = chunk.span.seconds
    whole = Segment(
        round(start, 2),
        round(end, 2),
        found.text,
        chunk.language,
        found.decoded.log_probability,
        found.decoded.no_speech_probability,
        compression_ratio(found.text),
        found.flags,
        found.tries,
        tuple(w.later(start) for words in found.words for w in words),
        tuple(found.decoded.tokens),
        found.temperature,
        found.phrase,
    )
    first_time = whisper.model.generation_config.no_timestamps_token_id + 1
    if not any(t >= first_time for t in found.decoded.tokens):
        return [whole] if found.text else []
    segments = []
    pieces = timed_pieces(found.decoded.tokens, first_time, chunk.seconds)
    words_of = found.words or ((),) * len(pieces)
    for (since, until, tokens), words in zip(pieces, words_of, strict=True):
        if text := whisper.tokenizer.decode(tokens, skip_special_tokens=True).strip():
            segments.append(
                replace(whole, start=since, end=until, text=text, words=words, tokens=tuple(tokens)).later(start)
            )
    return segments


def timed_pieces(tokens: Sequence[int], first_time: int, seconds: float) -> list[tuple[float, float, Sequence[int]]]:
    """A chunk's tokens cut at its timestamps: (start, end, tokens of the text), in seconds within the chunk.

    Timestamps come in pairs around each piece; the last pair may be open. ``first_time``: id of ``<|0.00|>``; the next
    ones are one encoder frame apart. No piece ends after ``seconds``.
    """
    pieces: list[tuple[float, float, Sequence[int]]] = []
    start, text = 0.0, []
    for t in tokens:
        if t < first_time:
            text.append(t)
            continue
        time = min(seconds, FRAME_SECONDS * (t - first_time))
        if text:
            pieces.append((start, max(start, time), text))
            text = []
        start = time
    if text:
        pieces.append((min(start, seconds), seconds, text))
    return pieces
