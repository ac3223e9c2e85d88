"""Translations and their files: plain text, JSON, SubRip (srt), WebVTT (vtt), tab-separated (tsv)."""

import json
import textwrap
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from interlingua.audio import Hole
from interlingua.languages import UNSPACED_LANGUAGES
from interlingua.translation.guards import Flag
from interlingua.translation.words import Word

Format = Literal["text", "json", "srt", "vtt", "tsv"]

SUFFIXES: dict[Format, str] = {"text": "txt", "json": "json", "srt": "srt", "vtt": "vtt", "tsv": "tsv"}
LINE_LETTERS, WIDE_LINE_LETTERS = 42, 20  # of a subtitle's line; the second in scripts with full-width letters


@dataclass(frozen=True)
class Phrase:
    """A phrase of an index whose text stands for what the decoder wrote.

    Attributes:
        id: of the utterance.
        score: of its text, the mean over languages of what `interlingua search` gives the best phrase in each.
        margin: of the score over that of the next text.
        decoded: what the decoder wrote.
    """

    id: str
    score: float
    margin: float
    decoded: str = ""

    def __str__(self) -> str:
        return f"[phrase {self.id}, score {self.score:.2f}, margin {self.margin:.2f}]"


@dataclass(frozen=True)
class Segment:
    """A piece of a translation.

    Attributes:
        start: seconds from the recording's start.
        language: the source language, given or detected.
        log_probability: mean over the chunk's tokens; shared by all segments of a chunk, as are the next three fields.
        compression_ratio: of the chunk's text.
        flags: what looks wrong (see `guards`); none where guards are off.
        tries: how often the chunk was decoded.
        tokens: of the text; they and ``temperature``, of the try that was kept, aren't in the JSON form.
        phrase: whose text this is; log-probabilities, flags and tries are still those of what the decoder wrote.
    """

    start: float
    end: float
    text: str
    language: str
    log_probability: float
    no_speech_probability: float
    compression_ratio: float
    flags: tuple[Flag, ...] = ()
    tries: int = 1
    words: tuple[Word, ...] = ()
    tokens: tuple[int, ...] = ()
    temperature: float = 0.0
    phrase: Phrase | None = None

    @property
    def shown(self) -> str:
        """The text, with a note where it is a phrase's."""
        return f"{self.text} {self.phrase}" if self.phrase else self.text

    def later(self, seconds: float) -> "Segment":
        """The same segment, moved in time."""
        start, end = round(self.start + seconds, 2), round(self.end + seconds, 2)
        return replace(self, start=start, end=end, words=tuple(w.later(seconds) for w in self.words))

    def as_dict(self) -> dict[str, Any]:
        """The JSON form; words, flags and phrase only where there are any."""
        row = asdict(self) | {"flags": list(self.flags), "words": [asdict(w) for w in self.words]}
        del row["tokens"], row["temperature"]
        for name in ("log_probability", "no_speech_probability", "compression_ratio"):
            row[name] = round(row[name], 4)
        if self.phrase:
            row["phrase"] |= {"score": round(self.phrase.score, 4), "margin": round(self.phrase.margin, 4)}
        return {k: v for k, v in row.items() if v != [] and v is not None}


@dataclass(frozen=True)
class Translation:
    """A recording in one target language.

    Attributes:
        language: the source language: given, or detected in most of it.
        language_probability: of a detected language, mean over the recording.
        token: the proxy language in the prompt, if any (`--as`).
        duration: seconds.
        speech: seconds of detected speech.
        holes: what couldn't be decoded, in seconds; silence was taken for it.
    """

    id: str
    target: str
    language: str
    language_probability: float | None
    token: str | None
    duration: float
    speech: float
    segments: list[Segment]
    holes: tuple[Hole, ...] = ()

    @property
    def text(self) -> str:
        """The whole text in one line."""
        glue = "" if self.target in UNSPACED_LANGUAGES else " "
        return glue.join(s.text for s in self.segments if s.text)

    @property
    def flags(self) -> list[Flag]:
        """All flags of its segments."""
        return sorted({flag for s in self.segments for flag in s.flags})

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        row = {k: v for k, v in asdict(self).items() if v is not None and v != ()}
        row |= {"text": self.text, "flags": self.flags, "segments": [s.as_dict() for s in self.segments]}
        if self.holes:
            row["holes"] = [hole._asdict() for hole in self.holes]
        row["duration"], row["speech"] = round(self.duration, 2), round(self.speech, 2)
        return row


def render(translation: Translation, format: Format) -> str:
    """A translation in one of the formats, with a newline at its end."""
    return _WRITERS[format](translation)


def as_text(translation: Translation) -> str:
    """One line per segment."""
    return "".join(f"{s.shown}\n" for s in translation.segments)


def as_json(translation: Translation) -> str:
    """The JSON form, indented."""
    return json.dumps(translation.as_dict(), ensure_ascii=False, indent=1) + "\n"


def as_srt(translation: Translation) -> str:
    """SubRip: numbered, ``00:00:01,500 --> 00:00:04,000``."""
    cues = [
        f"{n}\n{clock(s.start, ',')} --> {clock(s.end, ',')}\n{_lines(s, translation.target)}\n"
        for n, s in enumerate(translation.segments, 1)
    ]
    return "\n".join(cues)


def as_vtt(translation: Translation) -> str:
    """WebVTT."""
    cues = [
        f"{clock(s.start, '.')} --> {clock(s.end, '.')}\n"
        f"{_lines(s, translation.target).replace('&', '&amp;').replace('<', '&lt;').replace('-->', '--&gt;')}\n"
        for s in translation.segments
    ]
    return "\n".join([f"WEBVTT\nLanguage: {translation.target}\n", *cues])


def as_tsv(translation: Translation) -> str:
    """Start and end in milliseconds, flags, text: the columns of OpenAI's Whisper plus flags."""
    rows = [
        f"{round(1000 * s.start)}\t{round(1000 * s.end)}\t{' '.join(s.flags)}\t{' '.join(s.shown.split())}\n"
        for s in translation.segments
    ]
    return "".join(["start\tend\tflags\ttext\n", *rows])


_WRITERS: dict[Format, Callable[[Translation], str]] = {
    "text": as_text,
    "json": as_json,
    "srt": as_srt,
    "vtt": as_vtt,
    "tsv": as_tsv,
}


def clock(seconds: float, mark: str) -> str:
    """Hours, minutes, seconds and milliseconds.

    >>> clock(3723.5, ",")
    '01:02:03,500'
    """
    total = round(1000 * seconds)
    return f"{total // 3_600_000:02}:{total // 60_000 % 60:02}:{total // 1000 % 60:02}{mark}{total % 1000:03}"


def _lines(segment: Segment, target: str) -> str:
    width = WIDE_LINE_LETTERS if target in UNSPACED_LANGUAGES else LINE_LETTERS
    return "\n".join(textwrap.wrap(segment.shown, width, break_long_words=target in UNSPACED_LANGUAGES)) or segment.text
