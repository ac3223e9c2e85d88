"""Word times: a known text aligned with its audio."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from interlingua.models import Whisper
from interlingua.models.whisper import FRAME_SECONDS
from interlingua.translation.engines import CTranslate2Engine
from interlingua.types import SAMPLE_RATE, Samples


@dataclass(frozen=True)
class Word:
    """A word with its start and end in seconds."""

    word: str
    start: float
    end: float

    def later(self, seconds: float) -> "Word":
        """The same word, moved in time."""
        return Word(self.word, round(self.start + seconds, 2), round(self.end + seconds, 2))


def place_words(whisper: Whisper, samples: Samples, language: str, text: str) -> list[Word]:
    """Align a transcript with its audio (at most 30 s) by dynamic time warping over cross-attention, in float32."""
    engine = CTranslate2Engine(whisper.source, compute="float32", device="cpu", workers=1)
    features = whisper.feature_extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors="np").input_features
    tokens = whisper.tokenizer.encode(" " + text, add_special_tokens=False)
    states, prompt = engine.encode(np.asarray(features, np.float32)), whisper.prompt(language, "transcribe")
    path = engine.place(states, 0, prompt, tokens, len(samples) // 160 / 100)
    (words,) = join_tokens([tokens], path, len(samples) / SAMPLE_RATE, whisper.tokenizer)
    return words


def join_tokens(
    pieces: Sequence[Sequence[int]],
    path: Sequence[tuple[int, int]],
    seconds: float,
    tokenizer: Any,
    *,
    spaced: bool = True,
) -> list[list[Word]]:
    """Join the tokens of each piece to words and time them by the warping path, (token, encoder frame) pairs.

    Tokens count through all pieces; no word reaches over two. ``spaced``: words end at spaces; False: at each complete
    character, as for Chinese. No word ends after ``seconds``.
    """
    starts = {token: frame * FRAME_SECONDS for token, frame in reversed(path)}  # the first frame of each token
    words: list[list[Word]] = []
    done = 0  # tokens of the pieces before
    for piece in pieces:
        words.append([])
        pending: list[int] = []
        for i in range(len(piece) + 1):
            begins = i == len(piece) or tokenizer.decode([piece[i]]).startswith(" ")
            if not spaced and pending:  # a part of a multi-byte letter decodes to the replacement sign
                begins = begins or "\ufffd" not in tokenizer.decode([piece[j] for j in pending])
            if begins and pending:
                start = starts.get(done + pending[0], 0.0)
                end = min(seconds, starts.get(done + i, seconds))
                if word := tokenizer.decode([piece[j] for j in pending]).strip():
                    words[-1].append(Word(word, round(min(start, end), 2), round(end, 2)))
                pending = []
            pending.append(i)
        done += len(piece)
    return words
