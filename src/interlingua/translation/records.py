"""What goes into a translation and what comes out: options, segments, translations."""

from dataclasses import asdict, dataclass, field
from typing import Any

from interlingua.encoding import Context
from interlingua.errors import UsageError
from interlingua.languages import UNSPACED_LANGUAGES
from interlingua.translation.guards import Flag
from interlingua.translation.segmentation import Segmentation
from interlingua.translation.words import Word

AUTO = "auto"  # a recording's language: detected once for all of it
EACH = "each"  # detected for every chunk


@dataclass(frozen=True)
class TranslationOptions:
    """How recordings are translated; the defaults are measured in docs/translate.md.

    Attributes:
        context: what surrounds the speech of a chunk: ``speech+N`` (N seconds of silence behind it) or ``full``.
        beam: hypotheses that are followed at a time; 1 is greedy.
        temperatures: tried in turn where a guard objects even with full context; none: no such try.
        timestamps: let the model say when it says what; a segment is a chunk otherwise. Trained targets have none.
        words: also time every word.
        guards: look for what Whisper is known to do wrong, and try again.
        segmentation: how recordings are cut.
    """

    context: str = "speech+4"
    beam: int = 1
    temperatures: tuple[float, ...] = (0.4, 0.8)
    timestamps: bool = False
    words: bool = False
    guards: bool = True
    segmentation: Segmentation = field(default_factory=Segmentation)

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UsageError: a value that makes no sense.
        """
        Context.parse(self.context)
        if not 1 <= self.beam <= 32:
            raise UsageError(f"beam {self.beam}: use 1 (greedy) to 32")
        for t in self.temperatures:
            if not 0 < t <= 2:
                raise UsageError(f"temperature {t:g}: use more than 0, and 2 at most")


@dataclass(frozen=True)
class Segment:
    """A piece of a translation.

    Attributes:
        start: seconds from the recording's start.
        end: likewise.
        text: in the target language.
        language: the language spoken, as it was given or detected.
        log_probability: mean over the chunk's tokens; a segment shares it, and the next three, with its chunk.
        no_speech_probability: Whisper's own.
        compression_ratio: of the chunk's text.
        flags: what looks wrong (see `guards`); none where guards are off.
        tries: how often the chunk was decoded.
        words: with their times, if they were asked for.
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

    def as_dict(self) -> dict[str, Any]:
        """The JSON form; without words and flags where there are none."""
        row = asdict(self) | {"flags": list(self.flags), "words": [asdict(w) for w in self.words]}
        for name in ("log_probability", "no_speech_probability", "compression_ratio"):
            row[name] = round(row[name], 4)
        return {k: v for k, v in row.items() if v != []}


@dataclass(frozen=True)
class Translation:
    """A recording in one target language.

    Attributes:
        id: the recording's name.
        target: the language of the text.
        language: the language spoken: given, or detected in most of it.
        language_probability: of a detected one, mean over the recording.
        token: the language that the model was told, where that is another (`--as`).
        duration: of the recording, seconds.
        speech: seconds of it that were found to be speech.
        segments: in the order of time; none where nobody speaks.
    """

    id: str
    target: str
    language: str
    language_probability: float | None
    token: str | None
    duration: float
    speech: float
    segments: list[Segment]

    @property
    def text(self) -> str:
        """All of it in one line."""
        glue = "" if self.target in UNSPACED_LANGUAGES else " "
        return glue.join(s.text for s in self.segments if s.text)

    @property
    def flags(self) -> list[Flag]:
        """Everything that is flagged in it."""
        return sorted({flag for s in self.segments for flag in s.flags})

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        row = {k: v for k, v in asdict(self).items() if v is not None}
        row |= {"text": self.text, "flags": self.flags, "segments": [s.as_dict() for s in self.segments]}
        row["duration"], row["speech"] = round(self.duration, 2), round(self.speech, 2)
        return row
