"""Encoding: utterances -> encoder frames, batched, into a frame store."""

from interlingua.encoding.whisper import (
    CHUNK_UTTERANCES,
    Context,
    Encoded,
    Encoder,
    EncodeReport,
    WhisperEncoder,
    best_compute,
    best_device,
    encode_manifest,
    encoder_states,
    estimate_bytes,
    free_bytes,
    pool_frames,
    require_space,
    seconds_known,
)

__all__ = [
    "CHUNK_UTTERANCES",
    "Context",
    "EncodeReport",
    "Encoded",
    "Encoder",
    "WhisperEncoder",
    "best_compute",
    "best_device",
    "encode_manifest",
    "encoder_states",
    "estimate_bytes",
    "free_bytes",
    "pool_frames",
    "require_space",
    "seconds_known",
]
