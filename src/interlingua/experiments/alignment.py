"""Alignment of a match: two recordings compared frame by frame, and word by word."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from interlingua.audio import AudioSource, load_audio
from interlingua.encoding import WhisperEncoder
from interlingua.errors import ModelError, TooLongAudioError
from interlingua.models import Whisper
from interlingua.results import Alignment, Match, Side, Word
from interlingua.retrieval.seqsim import alignment_matrix, reduce_directions
from interlingua.translation import TransformersEngine, detect_frames, likeliest, place_words, translate_frames
from interlingua.translation import Word as PlacedWord
from interlingua.types import (
    SAMPLE_RATE,
    WINDOW_SECONDS,
    Frames,
    Matrix,
    Samples,
)

AROUND_TRANSCRIPT = 6  # decoder positions of `place_words` besides the transcript's


@dataclass(frozen=True, eq=False)
class Spoken:
    """A recording, its transcript and timed words; ``lacking``: why there are no words, else ""."""

    samples: Samples
    side: Side
    lacking: str = ""


def load_utterance(audio: AudioSource) -> Samples:
    """Load a recording that fits Whisper's window.

    Raises:
        TooLongAudioError: more than 30 s.
    """
    try:
        return load_audio(audio, max_seconds=WINDOW_SECONDS)
    except TooLongAudioError as e:
        raise TooLongAudioError(
            f"{getattr(audio, 'path', audio)}: longer than Whisper's window of {WINDOW_SECONDS} s; "
            "cut out the utterance to align"
        ) from e


def listen(
    whisper: Whisper, id: str, samples: Samples, *, language: str | None = None, text: str | None = None
) -> Spoken:
    """Time the words of a recording; a missing ``language`` is detected, a missing ``text`` transcribed (greedily).

    There are no words (see `Spoken.lacking`) if the model has no token for the language or can't be converted, if
    nothing is said, or if the transcript is longer than the decoder.

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
            (hypothesis,) = translate_frames(whisper, [Frames(id, frames, n_speech)], language, task="transcribe")
            text, transcribed = hypothesis.text, True
    words, lacking = _place(whisper, samples, language, text)
    side = Side(
        id=id,
        language=language,
        text=text,
        seconds=round(len(samples) / SAMPLE_RATE, 2),
        words=[Word(word=w.word, start=w.start, end=w.end) for w in words],
        probability=probability,
        transcribed=transcribed,
    )
    return Spoken(samples, side, lacking)


def _place(whisper: Whisper, samples: Samples, language: str, text: str) -> tuple[list[PlacedWord], str]:
    """The timed words, or why there are none."""
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


def align(whisper: Whisper, query: Spoken, candidate: Spoken) -> tuple[Alignment, Matrix]:
    """Compare two recordings, encoded as for retrieval (speech alone): scores, best matches, similarities (n, m)."""
    encoder = WhisperEncoder(whisper)
    (q, n), (c, m) = encoder.encode([query.samples, candidate.samples])
    similarity = alignment_matrix(q[:n], c[:m])
    precision, recall, mean, f1 = directions(similarity)
    matches = match_words(similarity, query.side.words or (), candidate.side.words or (), encoder.rate)
    found = Alignment(
        query=query.side,
        candidate=candidate.side,
        precision=precision,
        recall=recall,
        mean=mean,
        f1=f1,
        matches=matches,
    )
    return found, similarity


def rounded(found: Alignment) -> Alignment:
    """The same with scores of four decimals."""
    scores = {name: round(getattr(found, name) or 0.0, 4) for name in ("precision", "recall", "mean", "f1")}
    matches = [msgspec.structs.replace(m, similarity=round(m.similarity or 0.0, 4)) for m in found.matches]
    return msgspec.structs.replace(found, matches=matches, **scores)


def directions(similarity: Matrix) -> tuple[float, float, float, float]:
    """SeqSim's precision, recall, mean and F1 of frames with these (n, m) similarities."""
    precision = similarity.max(axis=1).mean(keepdims=True)[None]
    recall = similarity.max(axis=0).mean(keepdims=True)[None]
    mean, f1 = (reduce_directions(precision, recall, r) for r in ("mean", "f1"))
    return precision.item(), recall.item(), mean.item(), f1.item()


def match_words(similarity: Matrix, query: Sequence[Word], candidate: Sequence[Word], rate: float) -> list[Match]:
    """For each query word the candidate word with the highest F1 of their frames; the first of equal ones.

    ``similarity``: (n, m); ``rate``: frames per second.
    """
    n, m = similarity.shape
    columns = [_frames(word, m, rate) for word in candidate]
    matches = []
    for word in query if candidate else ():
        rows = _frames(word, n, rate)
        scores = [directions(similarity[rows, c])[3] for c in columns]
        best = int(np.argmax(scores))
        matches.append(Match(query=word, candidate=candidate[best], similarity=scores[best]))
    return matches


def _frames(word: Word, total: int, rate: float) -> slice:
    """The frames of a word: at least one, since a word may take no time where the warping path jumps."""
    begin, end = word.times
    start = min(round(begin * rate), total - 1)
    return slice(start, max(start + 1, round(end * rate)))
