"""What a recipe will need, said before it starts; going: `interlingua.experiments.run.to_encode` says it."""

from collections.abc import Sequence
from pathlib import Path

from interlingua.encoding import WhisperEncoder, estimate_bytes
from interlingua.encoding.store import FrameStore
from interlingua.experiments.run import with_durations
from interlingua.types import Utterance


def not_encoded(utterances: Sequence[Utterance], store: Path) -> list[Utterance]:
    """Those that a frame store doesn't hold, which may not be there yet."""
    held = FrameStore.open(store).n_speech() if store.exists() else {}
    return [u for u in utterances if u.id not in held]


def encoding_needs(utterances: Sequence[Utterance], encoder: WhisperEncoder, pool: int = 1) -> str:
    """Hours of audio and disk that encoding will take."""
    sized = with_durations(utterances)
    hours = sum(u.duration or 0.0 for u in sized) / 3600
    disk = estimate_bytes(sized, encoder.spec, encoder.dim)
    return f"{len(utterances)} utterances, {hours:.2f} h of audio; the frames take {disk / pool / 1e9:.2f} GB"


def spent(seconds: float) -> str:
    """A time for people."""
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
