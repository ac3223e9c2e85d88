"""Decoding: from frames or recordings to text in the target language, and words to their times."""

from interlingua.translation.decoder import decode, pad_states
from interlingua.translation.engines import (
    CTranslate2Engine,
    Decoded,
    Decoding,
    Engine,
    TransformersEngine,
    decode_frames,
    detect_frames,
    fast_engine,
    likeliest,
    load_engine,
    require_decodable,
    translate_frames,
)
from interlingua.translation.live import LiveTranslator
from interlingua.translation.records import Segment, Translation, TranslationOptions
from interlingua.translation.segmentation import Segmentation
from interlingua.translation.translator import Translator
from interlingua.translation.words import Word, place_words

__all__ = [
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
    "fast_engine",
    "likeliest",
    "load_engine",
    "pad_states",
    "place_words",
    "require_decodable",
    "translate_frames",
]
