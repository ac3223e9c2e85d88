"""Translations as files: plain text, JSON, SubRip (srt), WebVTT (vtt) and tab-separated values (tsv)."""

import json
import textwrap
from collections.abc import Callable
from typing import Literal

from interlingua.languages import UNSPACED_LANGUAGES
from interlingua.translation.records import Segment, Translation

Format = Literal["text", "json", "srt", "vtt", "tsv"]

SUFFIXES: dict[Format, str] = {"text": "txt", "json": "json", "srt": "srt", "vtt": "vtt", "tsv": "tsv"}
LINE_LETTERS, WIDE_LINE_LETTERS = 42, 20  # of a subtitle's line, and where letters are as wide as high


def render(translation: Translation, format: Format) -> str:
    """A translation in one of the formats, with a newline at its end."""
    writers: dict[Format, Callable[[Translation], str]] = {
        "text": as_text,
        "json": as_json,
        "srt": as_srt,
        "vtt": as_vtt,
        "tsv": as_tsv,
    }
    return writers[format](translation)


def as_text(translation: Translation) -> str:
    """A line a segment."""
    return "".join(f"{s.text}\n" for s in translation.segments)


def as_json(translation: Translation) -> str:
    """Everything that is known of it."""
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
    """Start and end in milliseconds, flags, text; as OpenAI's Whisper has it, and the flags besides."""
    rows = [
        f"{round(1000 * s.start)}\t{round(1000 * s.end)}\t{' '.join(s.flags)}\t{' '.join(s.text.split())}\n"
        for s in translation.segments
    ]
    return "".join(["start\tend\tflags\ttext\n", *rows])


def clock(seconds: float, mark: str) -> str:
    """Hours, minutes, seconds and milliseconds.

    >>> clock(3723.5, ",")
    '01:02:03,500'
    """
    total = round(1000 * seconds)
    return f"{total // 3_600_000:02}:{total // 60_000 % 60:02}:{total // 1000 % 60:02}{mark}{total % 1000:03}"


def _lines(segment: Segment, target: str) -> str:
    width = WIDE_LINE_LETTERS if target in UNSPACED_LANGUAGES else LINE_LETTERS
    return "\n".join(textwrap.wrap(segment.text, width, break_long_words=target in UNSPACED_LANGUAGES)) or segment.text
