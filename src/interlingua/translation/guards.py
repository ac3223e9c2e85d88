"""Guards against Whisper's known failures, detected from the text: loops, gaps, other languages, doubled borders.

A guard only flags: the translator decides whether to decode again, and nothing is dropped.
"""

import re
import unicodedata
import zlib
from typing import Literal, get_args

from interlingua.metrics.offtarget import written_in

Flag = Literal["loop", "wrong-language", "no-speech", "unsure", "doubled", "cut-off", "sparse"]
"""What may be wrong with a segment:

loop: it repeats itself: compression ratio over 2.4, or one piece of text over and over.
wrong-language: it isn't in the target language.
no-speech: Whisper detects no speech, and is unsure of the words.
unsure: mean log-probability of its tokens below -1.
doubled: it begins with the last words of the segment before.
cut-off: the decoder ran out of positions.
sparse: few letters for so much speech: something was left out.
"""

FLAGS: tuple[Flag, ...] = get_args(Flag)

COMPRESSION = 2.4  # of text that repeats itself (Radford et al., arXiv 2212.04356, section 4.5)
LOG_PROBABILITY = -1.0  # ditto
NO_SPEECH = 0.6  # ditto
LOOP_REPEATS = 4  # of a piece of text in a row
LOOP_PROPORTION = 0.4  # of the text that those take up
LEAST_LETTERS = 25  # of a text whose language is identified
DOUBLED_WORDS = 3
SPARSE = 5.0  # letters a second of speech: 1% of the prompts corpus's utterances have fewer than 6.5, half 9 to 15
SPARSE_SECONDS = 5.0  # of speech at least, for that
DIGIT_LETTERS, WIDE_LETTERS = 4, 3  # letters that a digit, and a Chinese, Japanese or Korean sign, count as

_LOOP = re.compile(r"(.{1,60}?)\1{" + str(LOOP_REPEATS - 1) + r",}", re.DOTALL)
_DIGITS = re.compile(r"[\d\W_]+")


def compression_ratio(text: str) -> float:
    """Bytes of a text per byte of its zlib form, as in OpenAI's Whisper; 0 for no text."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0


def repeats_itself(text: str) -> bool:
    """Whether one piece of a text (at most 60 characters) occurs four times in a row, over much of it.

    >>> repeats_itself("press 1, press 1, press 1, press 1, press 1,"), repeats_itself("no, no, no, I won't do that")
    (True, False)
    """
    spaced = text + " "  # so that the last of several sentences matches those before it
    return any(
        len(found[0]) >= LOOP_PROPORTION * len(text)
        and len(found[0]) > LOOP_REPEATS
        and not _DIGITS.fullmatch(found[0])
        for found in _LOOP.finditer(spaced)
    )


def flags_of(
    text: str,
    *,
    target: str,
    source: str | None,
    log_probability: float | None = None,
    no_speech_probability: float | None = None,
    ended: bool = True,
    speech: float = 0.0,
) -> tuple[Flag, ...]:
    """What is wrong with a chunk's text by itself.

    ``source``, if known, is the likeliest wrong language; ``speech``: seconds of it.
    """
    found: list[Flag] = []
    if compression_ratio(text) > COMPRESSION or repeats_itself(text):
        found.append("loop")
    if is_elsewhere(text, target, source):
        found.append("wrong-language")
    unsure = log_probability is not None and log_probability < LOG_PROBABILITY
    if unsure and no_speech_probability is not None and no_speech_probability > NO_SPEECH:
        found.append("no-speech")
    elif unsure:
        found.append("unsure")
    if not ended:
        found.append("cut-off")
    if is_sparse(text, speech):
        found.append("sparse")
    return tuple(found)


def is_sparse(text: str, speech: float) -> bool:
    """Whether a text has fewer letters than so many seconds of speech have, even slow ones.

    >>> is_sparse("Please enter your password.", 3), is_sparse("Please enter your password.", 17)
    (False, True)
    """
    return speech >= SPARSE_SECONDS and letters_in(text) < SPARSE * speech


def letters_in(text: str) -> int:
    """Letters of a text as it is spoken: digits are words, and wide signs syllables or words."""
    wide = sum(unicodedata.east_asian_width(sign) in "WF" for sign in text if sign.isalpha())
    letters, digits = sum(map(str.isalpha, text)), sum(map(str.isdigit, text))
    return letters + (WIDE_LETTERS - 1) * wide + DIGIT_LETTERS * digits


def is_elsewhere(text: str, target: str, source: str | None) -> bool:
    """Whether a text is in another language than the target; False if it has fewer than `LEAST_LETTERS`."""
    if sum(letter.isalpha() for letter in text) < LEAST_LETTERS:
        return False
    return written_in(text, target, (source,) if source else ()) is False


def begins_doubled(text: str, before: str) -> bool:
    """Whether a segment begins with the last words of the one before it, at least `DOUBLED_WORDS`.

    >>> begins_doubled("of the house we live in", "this is the roof of the house"), begins_doubled("yes yes", "yes yes")
    (True, False)
    """
    return shared_words(text, before) >= DOUBLED_WORDS


def shared_words(text: str, before: str) -> int:
    """How many words begin a segment and end the one before, in the same order."""
    first, last = _words(text), _words(before)
    for n in range(min(len(first), len(last), 20), 0, -1):
        if first[:n] == last[-n:]:
            return n
    return 0


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
