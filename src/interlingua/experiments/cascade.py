"""The cascade baseline: speech -> English text by Whisper -> sentence embeddings -> cosine.

It uses more than encoder frames: a decoder run for every utterance, and a text encoder trained on English pairs.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from interlingua.encoding.store import FrameStore
from interlingua.experiments.run import kept_by_id
from interlingua.models import SentenceEncoder, Task, Whisper
from interlingua.progress import track
from interlingua.translation import require_decodable, translate_frames
from interlingua.types import Matrix, Utterance

TARGET = "en"  # the only target of Whisper's translate task
CHUNK_UTTERANCES = 32  # texts per write: the most that a killed run loses


def english_texts(utterances: Sequence[Utterance], store: FrameStore, whisper: Whisper, path: Path) -> dict[str, str]:
    """English text of each utterance in the store, by id: translated, or transcribed if it is in English.

    Texts are kept in ``path`` (`run.kept_by_id`) and reused for the same audio, model and prompt. The store's frames
    need decoding context (`interlingua encode --context full` or ``speech+N``).
    """
    spec, audio = store.spec, store.hashes()
    made = (spec.revision, spec.context, spec.dtype, spec.compute, str(whisper.model.dtype))
    held = {u.id: u for u in utterances if u.id in audio}
    origins = {
        i: hashlib.sha256("|".join((*made, audio[i], u.language)).encode()).hexdigest()[:16] for i, u in held.items()
    }

    def translated(lacking: Sequence[str]) -> Iterator[dict[str, str]]:
        """Texts chunk by chunk; utterances of one language and similar duration share a chunk."""
        todo = [held[i] for i in lacking]
        languages = list(dict.fromkeys(u.language for u in todo))
        require_decodable(store, whisper)
        for language in languages:  # raises before the work, not in the middle of it
            if language != TARGET:
                whisper.require_translation()
            whisper.prompt(language, _task(language))
        with track(len(todo), "into English") as advance:
            for language in languages:
                members = sorted((u for u in todo if u.language == language), key=lambda u: u.duration or 0.0)
                for start in range(0, len(members), CHUNK_UTTERANCES):
                    frames = store.read([u.id for u in members[start : start + CHUNK_UTTERANCES]])
                    texts: dict[str, str] = {}
                    for hypothesis in translate_frames(whisper, frames, language, task=_task(language)):
                        texts[hypothesis.id] = hypothesis.text
                        advance(1)
                    yield texts

    return kept_by_id(path, origins, translated, str)


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


def _task(language: str) -> Task:
    return "transcribe" if language == TARGET else "translate"
