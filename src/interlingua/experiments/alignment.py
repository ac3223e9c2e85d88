"""One match explained: the frames of two recordings compared one by one, and their words placed in time."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from interlingua.audio import load_audio
from interlingua.encoding import WhisperEncoder
from interlingua.errors import ModelError, TooLongAudioError
from interlingua.models import Whisper
from interlingua.retrieval.seqsim import alignment_matrix, reduce_directions
from interlingua.translation import TransformersEngine, Word, detect_frames, likeliest, place_words, translate_frames
from interlingua.types import (
    SAMPLE_RATE,
    WINDOW_SECONDS,
    AudioRef,
    Frames,
    Matrix,
    Samples,
)

AROUND_TRANSCRIPT = 6  # decoder positions that `place_words` needs besides the transcript's


@dataclass(frozen=True, eq=False)
class Spoken:
    """A recording, what is said in it, and when.

    Attributes:
        id: its name.
        samples: the audio.
        language: Whisper's code, or ISO 639 where Whisper has none.
        text: the transcript; "" where there is none.
        words: the transcript's words in time; empty where they can't be placed.
        probability: of the language, where Whisper detected it.
        transcribed: whether the transcript is Whisper's.
        lacking: why there are no words, in one line; "" where there are.
    """

    id: str
    samples: Samples
    language: str
    text: str
    words: list[Word]
    probability: float | None = None
    transcribed: bool = False
    lacking: str = ""

    @property
    def seconds(self) -> float:
        """Length of the audio."""
        return len(self.samples) / SAMPLE_RATE

    def as_dict(self) -> dict[str, Any]:
        """A side of ``alignment`` in ``results.json``."""
        words = [asdict(w) for w in self.words]
        seconds = round(self.seconds, 2)
        return {"id": self.id, "language": self.language, "text": self.text, "seconds": seconds, "words": words}


@dataclass(frozen=True)
class WordMatch:
    """A query word, the candidate word most like it, and SeqSim's F1 of the two."""

    query: Word
    candidate: Word
    similarity: float


@dataclass(frozen=True, eq=False)
class Alignment:
    """Two recordings compared frame by frame.

    Attributes:
        query: the one side, n frames.
        candidate: the other side, m frames.
        similarity: (n, m) similarity of every two frames.
        precision: mean over query frames of the best similarity; see `interlingua.retrieval.reference`.
        recall: mean over candidate frames of the best similarity.
        mean: of precision and recall.
        f1: their harmonic mean.
        matches: for each query word the most similar candidate word.
    """

    query: Spoken
    candidate: Spoken
    similarity: Matrix
    precision: float
    recall: float
    mean: float
    f1: float
    matches: list[WordMatch]

    def as_dict(self) -> dict[str, Any]:
        """The ``alignment`` of ``results.json``; the array of that name is `similarity`."""
        scores = {name: round(getattr(self, name), 4) for name in ("precision", "recall", "f1")}
        return {"query": self.query.as_dict(), "candidate": self.candidate.as_dict(), **scores}


def load_utterance(audio: AudioRef) -> Samples:
    """Load a recording that fits Whisper's window.

    Raises:
        TooLongAudioError: more than 30 s.
        AudioError: see `interlingua.audio.load_audio`.
    """
    try:
        return load_audio(audio, max_seconds=WINDOW_SECONDS)
    except TooLongAudioError as e:
        raise TooLongAudioError(
            f"{audio.path}: longer than Whisper's window of {WINDOW_SECONDS} s; cut out the utterance to align"
        ) from e


def listen(
    whisper: Whisper, id: str, samples: Samples, *, language: str | None = None, text: str | None = None
) -> Spoken:
    """Place the words of a recording; Whisper detects a language and makes a transcript that aren't given.

    Words stay out, and `Spoken.lacking` says why, if the model has no token for the language or can't be
    converted for the purpose, if nothing is said, and if the transcript is longer than the decoder.

    Args:
        whisper: the model.
        id: the recording's name.
        samples: the audio, at most 30 s.
        language: the language spoken; None means that Whisper detects it.
        text: what is said; None or blank means that Whisper transcribes it, greedily and with full context.

    Raises:
        TooLongAudioError: more than 30 s.
    """
    text = (text or "").strip()
    probability, transcribed = None, False
    if not language or (not text and language in whisper.languages):
        ((frames, n_speech),) = WhisperEncoder(whisper, context="full").encode([samples])
        if not language:
            (chances,) = detect_frames(TransformersEngine(whisper), [Frames(id, frames, n_speech)]).values()
            language = likeliest(chances)
            probability = round(chances[language], 4)
        if not text:
            (heard,) = translate_frames(whisper, [Frames(id, frames, n_speech)], language, task="transcribe")
            text, transcribed = heard.text, True
    words, lacking = _place(whisper, samples, language, text)
    return Spoken(id, samples, language, text, words, probability, transcribed, lacking)


def _place(whisper: Whisper, samples: Samples, language: str, text: str) -> tuple[list[Word], str]:
    """The words in time, or why there are none."""
    if language not in whisper.languages:
        return [], f"{whisper.model_name} has no language {language!r}, so that it can't place words"
    if not text:
        return [], "Whisper hears none"
    n_tokens = len(whisper.tokenizer.encode(" " + text, add_special_tokens=False))
    room = whisper.model.config.max_target_positions - AROUND_TRANSCRIPT
    if n_tokens > room:
        return [], f"the transcript has {n_tokens} tokens, and the decoder takes {room}"
    try:
        return place_words(whisper, samples, language, text), ""
    except ModelError as e:  # a model that CTranslate2 can't convert
        return [], str(e)


def align(whisper: Whisper, query: Spoken, candidate: Spoken) -> Alignment:
    """Compare two recordings frame by frame, encoded as for retrieval (the speech alone), and word by word."""
    encoder = WhisperEncoder(whisper)
    (q, n), (c, m) = encoder.encode([query.samples, candidate.samples])
    similarity = alignment_matrix(q[:n], c[:m])
    precision, recall, mean, f1 = directions(similarity)
    matches = match_words(similarity, query.words, candidate.words, encoder.rate)
    return Alignment(query, candidate, similarity, precision, recall, mean, f1, matches)


def directions(similarity: Matrix) -> tuple[float, float, float, float]:
    """SeqSim's precision, recall, mean and F1 of the frames whose similarities these are, (n, m)."""
    precision = similarity.max(axis=1).mean(keepdims=True)[None]
    recall = similarity.max(axis=0).mean(keepdims=True)[None]
    mean, f1 = (reduce_directions(precision, recall, r) for r in ("mean", "f1"))
    return precision.item(), recall.item(), mean.item(), f1.item()


def match_words(similarity: Matrix, query: Sequence[Word], candidate: Sequence[Word], rate: float) -> list[WordMatch]:
    """For each query word the candidate word with the highest F1 of their frames; the earlier one of two alike.

    Args:
        similarity: (n, m) similarity of every two frames.
        query: words of the query; none gives no matches.
        candidate: words of the candidate; none gives no matches.
        rate: frames per second.
    """
    n, m = similarity.shape
    columns = [_frames(word, m, rate) for word in candidate]
    matches = []
    for word in query if candidate else ():
        rows = _frames(word, n, rate)
        scores = [directions(similarity[rows, c])[3] for c in columns]
        best = int(np.argmax(scores))
        matches.append(WordMatch(word, candidate[best], scores[best]))
    return matches


def _frames(word: Word, total: int, rate: float) -> slice:
    """The frames of a word: at least one, since a word may take no time where the warping path leaps."""
    start = min(round(word.start * rate), total - 1)
    return slice(start, max(start + 1, round(word.end * rate)))
