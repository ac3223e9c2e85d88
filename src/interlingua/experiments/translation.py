"""Translation into English before any training: the baseline, and the texts of the cascade.

The cascade (speech -> English text -> sentence embeddings -> cosine) uses more than encoder frames: a decoder run for
every utterance, and a text encoder trained on English pairs.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from interlingua.encoding.store import FrameStore
from interlingua.errors import CorpusError
from interlingua.experiments.run import kept_by_id
from interlingua.experiments.utterances import UtteranceLog
from interlingua.metrics import TextMetric, score_translations
from interlingua.models import Task, Whisper
from interlingua.progress import track
from interlingua.results import Sample, Translation
from interlingua.translation import require_decodable, translate_frames
from interlingua.types import Utterance

TARGET = "en"  # the only target of Whisper's translate task
CHUNK_UTTERANCES = 32  # texts per write: the most that a killed run loses
METRICS: tuple[TextMetric, ...] = ("bleu", "chrf")


def translation_baseline(
    utterances: Sequence[Utterance],
    store: FrameStore,
    whisper: Whisper,
    *,
    system: str,
    log: UtteranceLog | None = None,
) -> tuple[list[Translation], list[Sample]]:
    """Translate utterances into English and score them: one row a source language, one sample an utterance.

    English utterances are skipped; one without frames counts as an empty hypothesis. The store's frames need decoding
    context. ``log`` keeps each translation with its score.

    Raises:
        CorpusError: an utterance has no English reference.
    """
    rows: list[Translation] = []
    samples: list[Sample] = []
    sources = sorted({u.language for u in utterances} - {TARGET})
    with track(sum(u.language != TARGET for u in utterances), "translating") as advance:
        for source in sources:
            members = [u for u in utterances if u.language == source]
            lacking = [u.id for u in members if TARGET not in u.translations]
            if lacking:
                raise CorpusError(f"{len(lacking)} utterances have no English reference, e.g. {lacking[0]!r}")
            hypotheses: dict[str, str] = {}
            for hypothesis in translate_frames(whisper, store.read([u.id for u in members if u.id in store]), source):
                hypotheses[hypothesis.id] = hypothesis.text
                advance(1)
            references = {u.id: u.translations[TARGET] for u in members}
            clusters = {u.id: u.group for u in members}
            bleu, chrf = (
                score_translations(hypotheses, references, target=TARGET, metric=metric, clusters=clusters)
                for metric in METRICS
            )
            rows.append(Translation(source=source, target=TARGET, system=system, n=len(members), bleu=bleu, chrf=chrf))
            if log is not None:
                log.translated(system, TARGET, hypotheses, references)
            samples += [sample(u, hypotheses.get(u.id, "")) for u in members]
    return rows, samples


def sample(utterance: Utterance, hypothesis: str) -> Sample:
    """A translation into English in the form of the results."""
    return Sample(
        id=utterance.id,
        source=utterance.language,
        target=TARGET,
        transcript=utterance.text,
        reference=utterance.translations[TARGET],
        hypothesis=hypothesis,
    )


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


def _task(language: str) -> Task:
    return "transcribe" if language == TARGET else "translate"
