"""Where the words of a known transcript lie in time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from interlingua.models import Whisper, ctranslate2_folder, open_ctranslate2
from interlingua.models.whisper import FRAME_SECONDS
from interlingua.types import SAMPLE_RATE, WINDOW_SECONDS, Samples


@dataclass(frozen=True)
class Word:
    """A word with its start and end in seconds."""

    word: str
    start: float
    end: float


def place_words(whisper: Whisper, samples: Samples, language: str, text: str) -> list[Word]:
    """Align a transcript with its audio (at most 30 s) by dynamic time warping over cross-attention.

    The alignment is CTranslate2's, over the heads that OpenAI chose for word timing.

    Args:
        whisper: the model; its CTranslate2 twin is used.
        samples: the audio.
        language: the language spoken.
        text: what is said.
    """
    import ctranslate2

    window = np.pad(samples, (0, max(0, WINDOW_SECONDS * SAMPLE_RATE - len(samples))))
    features = whisper.feature_extractor(window, sampling_rate=SAMPLE_RATE, return_tensors="np").input_features
    folder = ctranslate2_folder(whisper.source)
    model = open_ctranslate2(folder, compute="float32", threads=torch.get_num_threads())
    prompt = whisper.prompt(language, "transcribe")
    tokens = whisper.tokenizer.encode(" " + text, add_special_tokens=False)
    n_feature_frames = min(len(samples) // 160, features.shape[-1])
    (found,) = model.align(
        ctranslate2.StorageView.from_array(np.ascontiguousarray(features)), prompt, [tokens], n_feature_frames
    )
    return join_tokens(tokens, found.alignments, len(samples) / SAMPLE_RATE, whisper.tokenizer)


def join_tokens(
    tokens: Sequence[int], path: Sequence[tuple[int, int]], seconds: float, tokenizer: Any, *, spaced: bool = True
) -> list[Word]:
    """Token times from the warping path, tokens joined to words.

    Args:
        tokens: of the text.
        path: (token, encoder frame) pairs.
        seconds: where the last word ends at the latest.
        tokenizer: the model's.
        spaced: words end at spaces; False: wherever a token ends a letter, as Chinese is timed.
    """
    starts = {token: frame * FRAME_SECONDS for token, frame in reversed(path)}  # the first frame of each token
    words: list[Word] = []
    pending: list[int] = []
    for i in range(len(tokens) + 1):
        begins = i == len(tokens) or tokenizer.decode([tokens[i]]).startswith(" ")
        if not spaced and pending:  # half a letter of several bytes decodes to the replacement sign
            begins = begins or "\ufffd" not in tokenizer.decode([tokens[j] for j in pending])
        if begins and pending:
            start = starts.get(pending[0], 0.0)
            end = min(seconds, starts.get(i, seconds))
            word = tokenizer.decode([tokens[j] for j in pending]).strip()
            words.append(Word(word, round(min(start, end), 2), round(end, 2)))
            pending = []
        pending.append(i)
    return words
