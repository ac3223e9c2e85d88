"""Recordings in the page: short MP3 clips as ``data:`` addresses, so that nothing has to be fetched."""

import base64
import io

import av
import numpy as np

from interlingua.audio import load_audio
from interlingua.errors import AudioError
from interlingua.types import SAMPLE_RATE, AudioRef, Samples

CLIP_SECONDS = 15  # of a longer recording the beginning is heard
_BIT_RATE = 24_000  # bits a second: speech of 8 kHz bandwidth stays clear


def clip(audio: AudioRef) -> str | None:
    """The recording's first seconds as a ``data:`` address; None where it can't be read (any more)."""
    try:
        samples = load_audio(audio)[: CLIP_SECONDS * SAMPLE_RATE]
    except AudioError:
        return None
    return f"data:audio/mpeg;base64,{base64.b64encode(mp3(samples)).decode()}"


def mp3(samples: Samples) -> bytes:
    """Mono MP3 at 16 kHz; the same samples give the same bytes."""
    frame = av.AudioFrame.from_ndarray(
        (np.clip(samples, -1, 1) * 32767).astype(np.int16)[None], format="s16p", layout="mono"
    )
    frame.sample_rate = SAMPLE_RATE
    out = io.BytesIO()
    with av.open(out, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=SAMPLE_RATE, layout="mono", bit_rate=_BIT_RATE)
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return out.getvalue()
