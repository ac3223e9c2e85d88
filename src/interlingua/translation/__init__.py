"""Decoding: from frames to text in the target language, and words to their times."""

from interlingua.translation.greedy import greedy_tokens, translate_frames
from interlingua.translation.words import Word, place_words

__all__ = ["Word", "greedy_tokens", "place_words", "translate_frames"]
