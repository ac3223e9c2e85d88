"""Stretches of recordings on their way through the decoder, and the segments that come of them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from interlingua.models import Whisper
from interlingua.models.whisper import FRAME_SECONDS
from interlingua.translation.engines import Decoded, likeliest
from interlingua.translation.guards import Flag, compression_ratio
from interlingua.translation.records import AUTO, EACH, Segment
from interlingua.translation.segmentation import Span
from interlingua.translation.words import Word
from interlingua.types import SAMPLE_RATE, Samples


@dataclass(eq=False)
class Chunk:
    """A stretch of a recording on its way."""

    recording: int
    span: Span
    samples: Samples
    language: str = ""  # spoken
    token: str = ""  # the language that the model is told
    states: Any = None
    found: dict[str, "Found"] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / SAMPLE_RATE


@dataclass(frozen=True)
class Found:
    """The best that was found for a chunk in one target; its words' times are seconds within the chunk."""

    decoded: Decoded
    text: str
    flags: tuple[Flag, ...]
    tries: int
    words: tuple[Word, ...] = ()


@dataclass(eq=False)
class Unfinished:
    """What is known of a recording on its way."""

    id: str
    source: str
    token: str | None = None
    duration: float = 0.0
    speech: float = 0.0
    n_chunks: int | None = None  # None: not all are known yet
    chunks: list[Chunk] = field(default_factory=list)  # that are done
    heard: dict[str, float] = field(default_factory=lambda: defaultdict(float))  # language -> seconds, weighted

    @property
    def listens(self) -> bool:
        """Whether its language is to be detected."""
        return self.source in (AUTO, EACH)

    @property
    def language(self) -> str | None:
        """What was said, or heard most."""
        if not self.listens:
            return self.source
        return likeliest(self.heard) if self.heard else None

    def hear(self, chunk: Chunk, probabilities: Mapping[str, float]) -> None:
        """Count a chunk's language probabilities."""
        chunk.language = likeliest(probabilities)
        for code, p in probabilities.items():
            self.heard[code] += p * chunk.seconds


def segments_of(chunk: Chunk, target: str, whisper: Whisper) -> list[Segment]:
    """What was found for a chunk, cut at the timestamps that the model wrote, if it did."""
    found = chunk.found[target]
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
        tuple(Word(w.word, round(start + w.start, 2), round(start + w.end, 2)) for w in found.words),
    )
    first_time = whisper.model.generation_config.no_timestamps_token_id + 1
    if not any(t >= first_time for t in found.decoded.tokens):
        return [whole] if found.text else []
    pieces = timed_pieces(found.decoded.tokens, first_time, chunk.seconds)
    texts = [whisper.tokenizer.decode(t, skip_special_tokens=True).strip() for _, _, t in pieces]
    segments = [
        replace(whole, start=round(start + since, 2), end=round(start + until, 2), text=text, words=())
        for (since, until, _), text in zip(pieces, texts, strict=True)
        if text
    ]
    for word in whole.words:  # of the last segment that has begun by then
        i = max((i for i, s in enumerate(segments) if s.start <= word.start), default=0)
        segments[i] = replace(segments[i], words=(*segments[i].words, word))
    return segments


def timed_pieces(tokens: Sequence[int], first_time: int, seconds: float) -> list[tuple[float, float, Sequence[int]]]:
    """A chunk's tokens cut at its timestamps: (start, end, tokens of the text), in seconds within the chunk.

    Args:
        tokens: text and timestamps, as Whisper writes them: in pairs around each piece, the last one perhaps open.
        first_time: id of ``<|0.00|>``; the next ones are an encoder frame apart.
        seconds: of the chunk; no piece ends later.
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
