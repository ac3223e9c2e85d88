"""The translation baseline: what a model translates into English before anything is trained."""

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

TARGET = "en"  # Whisper's translate task knows no other
METRICS: tuple[TextMetric, ...] = ("bleu", "chrf")


def translation_baseline(
    utterances: Sequence[Utterance],
    store: FrameStore,
    whisper: Whisper,
    *,
    system: str,
    log: UtteranceLog | None = None,
) -> tuple[list[Translation], list[Sample]]:
    """Translate utterances into English and score them by source language.

    An utterance whose frames are missing counts as an empty hypothesis.

    Args:
        utterances: with an English reference each; English ones are not translated.
        store: their frames with decoding context.
        whisper: the model that made the frames.
        system: the name in the results.
        log: where to keep each translation with its score.

    Returns:
        One row a source language, and one sample an utterance.

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
    """A translation into English as results show it."""
    return Sample(
        id=utterance.id,
        source=utterance.language,
        target=TARGET,
        transcript=utterance.text,
        reference=utterance.translations[TARGET],
        hypothesis=hypothesis,
    )
