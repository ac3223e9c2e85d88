"""Audio: any file, bytes or array -> mono float32 at 16 kHz, inside archives too."""

from interlingua.audio.decode import (
    MAX_SECONDS,
    AudioSource,
    Hole,
    Recording,
    audio_hash,
    declared_duration,
    duration_of,
    load_audio,
    require_audio,
    sample_rate_of,
)

__all__ = [
    "MAX_SECONDS",
    "AudioSource",
    "Hole",
    "Recording",
    "audio_hash",
    "declared_duration",
    "duration_of",
    "load_audio",
    "require_audio",
    "sample_rate_of",
]
