"""Encoding: utterances -> encoder frames, batched, into a frame store."""

from interlingua.encoding.cluster import RayEngine
from interlingua.encoding.device import best_compute, best_device, resolve_device
from interlingua.encoding.encoder import ENCODERS, Encoded, EncoderFactory, SpeechEncoder, load_encoder, pool_frames
from interlingua.encoding.pipeline import (
    CHUNK_UTTERANCES,
    EncodeReport,
    Engine,
    Part,
    encode_here,
    encode_manifest,
    estimate_bytes,
    free_bytes,
    parse_shard,
    require_space,
    shard_of,
)
from interlingua.encoding.store import FrameStore
from interlingua.encoding.whisper import Context, WhisperEncoder, encoder_states

__all__ = [
    "CHUNK_UTTERANCES",
    "ENCODERS",
    "Context",
    "EncodeReport",
    "Encoded",
    "EncoderFactory",
    "Engine",
    "FrameStore",
    "Part",
    "RayEngine",
    "SpeechEncoder",
    "WhisperEncoder",
    "best_compute",
    "best_device",
    "encode_here",
    "encode_manifest",
    "encoder_states",
    "estimate_bytes",
    "free_bytes",
    "load_encoder",
    "parse_shard",
    "pool_frames",
    "require_space",
    "resolve_device",
    "shard_of",
]
