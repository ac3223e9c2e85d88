"""What a recipe will need, said before it starts: hours of audio, disk, and time on the device at hand."""

import time
from collections.abc import Sequence

import numpy as np

from interlingua.encode import WhisperEncoder, estimate_bytes
from interlingua.types import SAMPLE_RATE, Utterance


def encoding_needs(utterances: Sequence[Utterance], encoder: WhisperEncoder, pool: int = 1) -> str:
    """Hours of audio, disk and time that encoding will take; the time is that of ten seconds of noise, now."""
    known = [u.duration for u in utterances if u.duration is not None]
    unknown = len(utterances) - len(known)
    hours = sum(known) / 3600
    clock = time.perf_counter()
    encoder.encode([np.random.default_rng(0).normal(0, 0.01, 10 * SAMPLE_RATE).astype(np.float32)])
    pace = (time.perf_counter() - clock) / 10
    disk = estimate_bytes(utterances, encoder.spec, encoder.dim) / pool / 1e9
    more = f" and {unknown} recordings of unknown length" if unknown else ""
    return (
        f"{len(utterances)} utterances, {hours:.2f} h of audio{more}; encoding takes about {hours * 60 * pace:.1f} min "
        f"here, the frames {disk:.2f} GB"
    )
