"""The translation baseline: translation into English before any training."""

from collections.abc import Sequence

from interlingua.encoding.store import FrameStore
from interlingua.errors import CorpusError
from interlingua.experiments.utterances import UtteranceLog
from interlingua.metrics import TextMetric, score_translations
from interlingua.models import Whisper
from interlingua.progress import track
from interlingua.results import Sample, Translation
from interlingua.translation import translate_frames
from interlingua.types import Utterance

TARGET = "en"  # the only target of Whisper's translate task
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
