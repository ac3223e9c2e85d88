"""What several recipes need together, added up while each of them says its own."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from interlingua.encoding import estimate_bytes
from interlingua.types import FrameSpec, Utterance


@dataclass
class Tally:
    """Needs of recipes, each of which keeps frames in a folder; what two keep in one folder counts once.

    Attributes:
        encoded: (folder, context, pooling, utterance id) -> seconds of audio, bytes of frames, time to encode.
        seconds: that the rest takes: training, decoding.
        folder: of the recipe that speaks now.
    """

    encoded: dict[tuple[Path, str, int, str], tuple[float, float, float]] = field(default_factory=dict)
    seconds: float = 0.0
    folder: Path = Path()

    @contextmanager
    def of(self, folder: Path) -> Iterator[None]:
        """Add up what is said within, by a recipe that keeps its frames in this folder."""
        self.folder = folder.resolve()
        token = _listening.set(self)
        try:
            yield
        finally:
            _listening.reset(token)

    def add(self, other: "Tally") -> None:
        """Take in what another holds."""
        self.encoded |= other.encoded
        self.seconds += other.seconds

    def total(self) -> tuple[float, float, float]:
        """Seconds of audio to encode, bytes of disk, and seconds of work."""
        audio, disk, seconds = (sum(held[i] for held in self.encoded.values()) for i in range(3))
        return audio, disk, seconds + self.seconds


_listening: ContextVar[Tally | None] = ContextVar("tally", default=None)


def count_encoding(utterances: Sequence[Utterance], spec: FrameSpec, dim: int, pool: int, seconds: float) -> None:
    """Tell the tally, if there is one, what is to be encoded.

    Args:
        utterances: with durations.
        spec: of the frames before pooling.
        dim: D.
        pool: frames averaged into one.
        seconds: that all of it takes.
    """
    tally = _listening.get()
    if tally is None:
        return
    sizes = [estimate_bytes([u], spec, dim) for u in utterances]
    each = seconds / max(1, sum(sizes))
    for u, size in zip(utterances, sizes, strict=True):
        key = (tally.folder, spec.context, pool, u.id)
        tally.encoded[key] = (u.duration or 0.0, size / pool, size * each)


def count_seconds(seconds: float) -> None:
    """Tell the tally, if there is one, how long something else takes."""
    tally = _listening.get()
    if tally is not None:
        tally.seconds += seconds
