"""Decoding: from frames or recordings to text in the target language, and words to their times."""

from interlingua.translation.decoder import decode, pad_states
from interlingua.translation.greedy import decode_frames, greedy_tokens, translate_frames
from interlingua.translation.live import LiveTranslator
from interlingua.translation.records import Segment, Translation, TranslationOptions
from interlingua.translation.segmentation import Segmentation
from interlingua.translation.states import require_decodable
from interlingua.translation.translator import Translator
from interlingua.translation.twin import Decoder, Twin, fast_decoder
from interlingua.translation.words import Word, place_words

__all__ = [
    "Decoder",
    "LiveTranslator",
    "Segment",
    "Segmentation",
    "Translation",
    "TranslationOptions",
    "Translator",
    "Twin",
    "Word",
    "decode",
    "decode_frames",
    "fast_decoder",
    "greedy_tokens",
    "pad_states",
    "place_words",
    "require_decodable",
    "translate_frames",
]
