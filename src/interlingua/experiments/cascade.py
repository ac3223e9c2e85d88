"""The cascade baseline: speech -> English text by Whisper -> sentence embeddings -> cosine.

It is what one would build today instead of comparing encoder frames, and it is allowed more: a whole decoder run
for every utterance, and a text encoder trained on pairs of English sentences.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from interlingua.encoding.store import FrameStore
from interlingua.errors import ResultsError
from interlingua.files import atomic_file
from interlingua.models import SentenceEncoder, Task, Whisper
from interlingua.progress import track
from interlingua.translation import require_decodable, translate_frames
from interlingua.types import Matrix, Utterance

TARGET = "en"  # Whisper's translate task knows no other
CHUNK_UTTERANCES = 32  # texts per write of the file: what a killed run loses at most


class EnglishText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of a file of English texts.

    Attributes:
        id: the utterance.
        text: what Whisper made of it in English.
        origin: a digest of all that the text depends on: weights, number formats, context, audio and language.
    """

    id: str
    text: str
    origin: str


def translate_to_english(utterances: Sequence[Utterance], store: FrameStore, whisper: Whisper) -> dict[str, str]:
    """English text of each utterance that the store holds, by id: translated, or transcribed if it is in English.

    Args:
        utterances: what to translate.
        store: their frames with decoding context (`interlingua encode --context full` or ``speech+N``).
        whisper: the model that made the frames.

    Raises:
        StoreMismatchError: the frames are not the unpooled last layer of this model.
        UsageError: a language that the model doesn't know.
        UntrainedTaskError, EnglishOnlyModelError: translation is asked of a model that can't.
    """
    return {i: text for chunk in _english(utterances, store, whisper) for i, text in chunk.items()}


def english_texts(utterances: Sequence[Utterance], store: FrameStore, whisper: Whisper, path: Path) -> dict[str, str]:
    """`translate_to_english`, kept in a file of JSON lines: a run that was interrupted goes on where it was.

    The file is replaced every `CHUNK_UTTERANCES` texts. A line is used again only if it was made from the same
    audio by the same model in the same way; lines of utterances that were not asked for stay.

    Args:
        utterances: what to translate.
        store: their frames with decoding context.
        whisper: the model that made the frames.
        path: the file; created if absent.

    Raises:
        ResultsError: a line of the file can't be read.
        StoreMismatchError, UsageError, UntrainedTaskError, EnglishOnlyModelError: see `translate_to_english`.
    """
    origins = _origins(utterances, store, whisper)
    lines = _read(path)
    todo = [u for u in utterances if u.id in origins and (u.id not in lines or lines[u.id].origin != origins[u.id])]
    for chunk in _english(todo, store, whisper):
        lines |= {i: EnglishText(i, text, origins[i]) for i, text in chunk.items()}
        _write(path, lines)
    return {i: lines[i].text for i in origins}


def cascade_scores(
    query_texts: Sequence[str | None], candidate_texts: Sequence[str | None], encoder: SentenceEncoder
) -> Matrix:
    """Cosines between the sentence embeddings of N query and M candidate texts, (N, M).

    An empty text scores 0 with everything; None (the utterance has no frames) scores NaN.
    """
    queries, candidates = (encoder.encode([t or "" for t in texts]) for texts in (query_texts, candidate_texts))
    scores: Matrix = queries @ candidates.T
    scores[[t is None for t in query_texts]] = np.nan
    scores[:, [t is None for t in candidate_texts]] = np.nan
    return scores


def _english(utterances: Sequence[Utterance], store: FrameStore, whisper: Whisper) -> Iterator[dict[str, str]]:
    """English texts by id, chunk by chunk; utterances of one language and of like duration share a chunk."""
    held = [u for u in utterances if u.id in store]
    languages = list(dict.fromkeys(u.language for u in held))
    _check(languages, store, whisper)
    with track(len(held), "into English") as advance:
        for language in languages:
            members = sorted((u for u in held if u.language == language), key=lambda u: u.duration or 0.0)
            for start in range(0, len(members), CHUNK_UTTERANCES):
                frames = store.read([u.id for u in members[start : start + CHUNK_UTTERANCES]])
                texts: dict[str, str] = {}
                for hypothesis in translate_frames(whisper, frames, language, task=_task(language)):
                    texts[hypothesis.id] = hypothesis.text
                    advance(1)
                yield texts


def _check(languages: Sequence[str], store: FrameStore, whisper: Whisper) -> None:
    """Raise what would otherwise come up in the middle of the work."""
    require_decodable(store, whisper)
    for language in languages:
        if language != TARGET:
            whisper.require_translation()
        whisper.prompt(language, _task(language))


def _task(language: str) -> Task:
    return "transcribe" if language == TARGET else "translate"


def _origins(utterances: Sequence[Utterance], store: FrameStore, whisper: Whisper) -> dict[str, str]:
    """Utterance id -> digest of what its text depends on, for those that the store holds."""
    spec, audio = store.spec, store.hashes()
    made = (spec.revision, spec.context, spec.dtype, spec.compute, str(whisper.model.dtype))
    return {
        u.id: hashlib.sha256("|".join((*made, audio[u.id], u.language)).encode()).hexdigest()[:16]
        for u in utterances
        if u.id in audio
    }


def _read(path: Path) -> dict[str, EnglishText]:
    if not path.exists():
        return {}
    lines: dict[str, EnglishText] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            text = msgspec.json.decode(line, type=EnglishText)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ResultsError(f"{path}:{number}: not an English text ({error}); delete the file") from error
        lines[text.id] = text
    return lines


def _write(path: Path, lines: dict[str, EnglishText]) -> None:
    with atomic_file(path) as temporary:
        temporary.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines.values()))
