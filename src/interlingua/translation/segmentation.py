"""Recordings of any length -> chunks that fit Whisper's window, cut where nobody speaks.

The voice-activity detector is Silero's (MIT), as faster-whisper carries it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from interlingua.errors import UsageError
from interlingua.types import SAMPLE_RATE, WINDOW_SECONDS, Samples


@dataclass(frozen=True)
class Segmentation:
    """How recordings are cut; the defaults are measured in docs/translate.md.

    Attributes:
        vad: find speech first; False: cut every `longest` seconds, wherever that is.
        longest: seconds of the longest chunk.
        pause: seconds without speech that may end a region of it.
        gap: seconds without speech between regions that are put into one chunk, at most.
        pad: seconds kept before and after each region.
        threshold: of Silero's speech probability.
    """

    vad: bool = True
    longest: float = 20.0
    pause: float = 0.3
    gap: float = 1.0
    pad: float = 0.2
    threshold: float = 0.5

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UsageError: a chunk that is too long for Whisper, or a number that makes no sense.
        """
        if not 1 <= self.longest <= WINDOW_SECONDS:
            raise UsageError(f"longest: {self.longest:g} s; a chunk has 1 to {WINDOW_SECONDS} s, Whisper's window")
        if not 0 < self.threshold < 1 or min(self.pause, self.gap, self.pad) < 0:
            raise UsageError("threshold lies between 0 and 1; pause, gap and pad are seconds from 0 up")


@dataclass(frozen=True)
class Span:
    """A stretch of a recording, in samples: ``start`` to ``end``, which isn't part of it."""

    start: int
    end: int

    @property
    def seconds(self) -> tuple[float, float]:
        """Start and end in seconds."""
        return self.start / SAMPLE_RATE, self.end / SAMPLE_RATE


def chunks_of(samples: Samples, how: Segmentation) -> list[Span]:
    """The chunks of a recording in the order of time: none overlap, none is longer than ``how.longest``.

    Args:
        samples: (S,) the recording.
        how: where to cut.
    """
    longest = round(how.longest * SAMPLE_RATE)
    if how.vad:
        return join_regions(speech_regions(samples, how), longest, round(how.gap * SAMPLE_RATE))
    return [Span(start, min(len(samples), start + longest)) for start in range(0, len(samples), longest)]


def speech_regions(samples: Samples, how: Segmentation) -> list[Span]:
    """Where somebody speaks, by Silero's detector, each region at most ``how.longest`` seconds long."""
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
        for cut in range(start, end, longest):  # the detector's own limit is off by its padding at times
            regions.append(Span(cut, min(end, cut + longest)))
    return [r for r in regions if r.end > r.start]


def join_regions(regions: Sequence[Span], longest: int, gap: int) -> list[Span]:
    """Neighbours put together while what lies between is short and the chunk isn't too long.

    What lies between stays in the chunk, so that times within it are times of the recording.

    Args:
        regions: in the order of time.
        longest: samples of the longest chunk.
        gap: most samples between two regions of one chunk.
    """
    chunks: list[Span] = []
    for region in regions:
        if chunks and region.start - chunks[-1].end <= gap and region.end - chunks[-1].start <= longest:
            chunks[-1] = Span(chunks[-1].start, region.end)
        else:
            chunks.append(region)
    return chunks
