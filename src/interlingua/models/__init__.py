"""Whisper checkpoints, and a sentence encoder for the cascade baseline: find, fetch, read and load them."""

from interlingua.models.hub import ALIASES, ModelSource, quiet, resolve
from interlingua.models.offline import ALL_MINILM, check_packaged, fetch_packaged, packaged_folder, repair_packaged
from interlingua.models.sentence import (
    SENTENCE_ALIASES,
    Embeddings,
    SentenceEncoder,
    load_sentence_encoder,
    resolve_sentence_encoder,
)
from interlingua.models.whisper import (
    Quantization,
    Task,
    Whisper,
    convert,
    ctranslate2_folder,
    load_whisper,
    open_ctranslate2,
    save_whisper,
)

__all__ = [
    "ALIASES",
    "ALL_MINILM",
    "SENTENCE_ALIASES",
    "Embeddings",
    "ModelSource",
    "Quantization",
    "SentenceEncoder",
    "Task",
    "Whisper",
    "check_packaged",
    "convert",
    "ctranslate2_folder",
    "fetch_packaged",
    "load_sentence_encoder",
    "load_whisper",
    "open_ctranslate2",
    "packaged_folder",
    "quiet",
    "repair_packaged",
    "resolve",
    "resolve_sentence_encoder",
    "save_whisper",
]
