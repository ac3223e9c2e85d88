"""Decoding: from frames or recordings to text in the target language, and word times."""

from interlingua.translation.decoder import decode, pad_states
from interlingua.translation.engines import (
    CTranslate2Engine,
    Decoded,
    Decoding,
    Engine,
    TransformersEngine,
    decode_frames,
    detect_frames,
    detect_language,
    fast_engine,
    likeliest,
    load_engine,
    require_decodable,
    translate_frames,
)
from interlingua.translation.formats import Segment, Translation
from interlingua.translation.segments import Segmentation
from interlingua.translation.translator import AUTO, LiveTranslator, TranslationOptions, Translator
from interlingua.translation.words import Word, place_words

__all__ = [
    "AUTO",
    "CTranslate2Engine",
    "Decoded",
    "Decoding",
    "Engine",
    "LiveTranslator",
    "Segment",
    "Segmentation",
    "TransformersEngine",
    "Translation",
    "TranslationOptions",
    "Translator",
    "Word",
    "decode",
    "decode_frames",
    "detect_frames",
    "detect_language",
    "fast_engine",
    "likeliest",
    "load_engine",
    "pad_states",
    "place_words",
    "require_decodable",
    "translate_frames",
]
