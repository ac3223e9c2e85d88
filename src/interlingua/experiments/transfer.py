"""Before and after a fine-tuning: the new target from every source language, and everything that must not be lost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec

from interlingua.experiments.utterances import UtteranceLog
from interlingua.finetuning.data import CHUNK_UTTERANCES, MOST_TOKENS, States
from interlingua.languages import PromptKind
from interlingua.metrics import (
    Statistics,
    SystemOutputs,
    TextMetric,
    compare_translations,
    detection_errors,
    off_target_rate,
    pooled_difference,
    pooled_score,
    score_transcripts,
    score_translations,
    translation_statistics,
)
from interlingua.models import Whisper
from interlingua.models.targets import prompt_tokens, read_targets
from interlingua.progress import track
from interlingua.results import Change, UtteranceResult
from interlingua.translation import decode_frames, detect_frames, fast_engine, likeliest
from interlingua.types import Score, Utterance

ENGLISH = "en"  # what Whisper's translate task writes

Outputs = dict[str, dict[str, str]]
"""What a model says: question (`Question.key`) -> utterance id -> text."""


@dataclass(frozen=True)
class Question:
    """One thing asked of a model on all utterances of a language.

    Attributes:
        kind: ``new`` (the target that is trained), ``other`` (a further target), ``translate`` (into English, as
            Whisper does), ``transcribe``, or ``detect`` (which language is spoken; no prompt).
        source: the language spoken.
        target: the language to write.
        prompt: the decoder's first tokens.
    """

    kind: Literal["new", "other", "translate", "transcribe", "detect"]
    source: str
    target: str
    prompt: tuple[int, ...] = ()

    @property
    def key(self) -> str:
        """Its name in `Outputs`."""
        return f"{self.kind} {self.source}-{self.target}"


def new_questions(
    whisper: Whisper, languages: Sequence[str], target: str, prompt: PromptKind, token: str | None = None
) -> list[Question]:
    """The new target, asked of the speech of every other language."""
    return [
        Question("new", s, target, tuple(prompt_tokens(whisper, prompt, source=s, target=token or target)))
        for s in languages
        if s != target
    ]


def old_questions(whisper: Whisper, languages: Sequence[str]) -> list[Question]:
    """What Whisper could do before: English translations of every other language; transcripts and names of all."""
    translate = [s for s in languages if s != ENGLISH and whisper.can_translate]
    return [
        *(Question("translate", s, ENGLISH, tuple(whisper.prompt(s, "translate"))) for s in translate),
        *(Question("transcribe", s, s, tuple(whisper.prompt(s, "transcribe"))) for s in languages),
        *(Question("detect", s, s) for s in languages),
    ]


def other_questions(whisper: Whisper, languages: Sequence[str], target: str, prompt: PromptKind) -> list[Question]:
    """A further target, asked for as the model was taught, or else as the new one is."""
    known = read_targets(whisper.source.path)
    taught = known.targets.get(target) if known else None
    asked = new_questions(whisper, languages, target, *((taught.prompt, taught.token) if taught else (prompt,)))
    return [replace(q, kind="other") for q in asked]


def answers(
    whisper: Whisper,
    questions: Sequence[Question],
    utterances: Sequence[Utterance],
    store: States,
    label: str,
    *,
    most_tokens: int = MOST_TOKENS,
) -> Outputs:
    """Ask a model everything, greedily, as it is deployed (`translation.fast_engine`).

    An utterance that the store lacks has no answer, and counts as empty later.
    """
    engine = fast_engine(whisper)
    held = {lang: [u.id for u in utterances if u.language == lang and u.id in store] for lang in _languages(utterances)}
    found: Outputs = {}
    with track(sum(len(held.get(q.source, ())) for q in questions), label) as advance:
        for source in dict.fromkeys(q.source for q in questions):
            spoken = held.get(source, [])
            asked = [q for q in questions if q.source == source]
            found |= {q.key: {} for q in asked}
            for start in range(0, len(spoken), CHUNK_UTTERANCES):
                frames = store.read(spoken[start : start + CHUNK_UTTERANCES])
                for q in asked:
                    if q.kind == "detect":
                        found[q.key] |= {i: likeliest(p) for i, p in detect_frames(engine, frames).items()}
                        advance(len(frames))
                        continue
                    for said in decode_frames(engine, frames, q.prompt, most_tokens=most_tokens):
                        found[q.key][said.id] = said.text
                        advance(1)
    return found


def answered(said: Outputs, utterances: Sequence[Utterance], store: States) -> bool:
    """Whether every utterance that has states is answered: those that had none when it was asked may have some now."""
    ready = {
        lang: {u.id for u in utterances if u.language == lang and u.id in store} for lang in _languages(utterances)
    }
    return all(ready.get(_source(key), set()) <= said[key].keys() for key in said)


def references(utterances: Sequence[Utterance], source: str, target: str) -> dict[str, str]:
    """Utterance id -> what should be written, of the utterances of a language that have it."""
    spoken = [u for u in utterances if u.language == source]
    texts = {u.id: u.text if target == source else u.translations.get(target) for u in spoken}
    return {i: text for i, text in texts.items() if text}


def each_answer(systems: Mapping[str, Outputs], utterances: Sequence[Utterance]) -> list[UtteranceResult]:
    """Every translation and transcript of the utterances, by system."""
    log = UtteranceLog(utterances)
    for system, outputs in systems.items():
        for key, said in outputs.items():
            kind, _, pair = key.partition(" ")
            source, target = pair.split("-")
            expected = references(utterances, source, target)
            texts = {i: t for i, t in said.items() if i in expected}
            if expected and kind == "transcribe":
                log.transcribed(system, source, texts, expected)
            elif expected and kind != "detect":
                log.translated(system, target, texts, expected)
    return log.results


def transfer_rows(
    before: Outputs, after: Outputs, utterances: Sequence[Utterance], trained: Sequence[str]
) -> list[dict[str, Any]]:
    """One row a question: scores before and after with intervals, and their paired difference.

    Args:
        before: of the model before training.
        after: answers to the same questions.
        utterances: with references; a question without any is left out.
        trained: source languages that were trained on.

    Returns:
        Rows of translations hold ``chrf``, ``bleu`` and ``off_target``, rows of transcripts ``error`` (WER or CER, per
        cent), rows of detection ``error`` (languages named wrongly, per cent); each ``{"before", "after"}``, the first
        two with ``"difference"`` (value, ci, p_bootstrap, p_randomisation).
    """
    clusters = {u.id: u.group for u in utterances}
    rows = []
    for key in before:
        kind, _, pair = key.partition(" ")
        source, target = pair.split("-")
        if kind == "detect":
            expected = {u.id: source for u in utterances if u.language == source}
        else:
            expected = references(utterances, source, target)
        if not expected:
            continue
        sides = {"before": before[key], "after": after[key]}
        sides = {name: {i: t for i, t in said.items() if i in expected} for name, said in sides.items()}
        row: dict[str, Any] = {
            "task": kind,
            "source": source,
            "target": target,
            "trained": kind == "new" and source in trained,
            "n": len(expected),
        }
        if kind == "detect":
            row["error"] = {
                name: as_row(detection_errors(said, expected, clusters=clusters)) for name, said in sides.items()
            }
        elif kind == "transcribe":
            row["error"] = {
                name: as_row(score_transcripts(said, expected, language=source, clusters=clusters))
                for name, said in sides.items()
            }
        else:
            for metric in ("chrf", "bleu"):
                row[metric] = {
                    name: as_row(score_translations(said, expected, target=target, metric=metric, clusters=clusters))
                    for name, said in sides.items()
                }
                row[metric]["difference"] = as_row(
                    compare_translations(
                        sides["after"], sides["before"], expected, target=target, metric=metric, clusters=clusters
                    )
                )
            row["off_target"] = {
                name: as_row(off_target_rate(said, target, references=expected, sources=(source,), clusters=clusters))
                for name, said in sides.items()
            }
        rows.append(row)
    return rows


def pooled_change(after: Sequence[Statistics], before: Sequence[Statistics]) -> dict[str, Any]:
    """Means over groups of scores before and after, and their difference."""
    change = Change(before=pooled_score(before), after=pooled_score(after), difference=pooled_difference(after, before))
    return as_row(change)


def text_statistics(groups: Sequence[SystemOutputs], metric: TextMetric) -> list[Statistics]:
    """Those of each group."""
    return [translation_statistics(group, metric) for group in groups]


def pooled_rows(
    before: Outputs, after: Outputs, utterances: Sequence[Utterance], trained: Sequence[str]
) -> list[dict[str, Any]]:
    """chrF differences pooled over languages: the new target, X into English, and other targets."""
    clusters = {u.id: u.group for u in utterances}
    pools = {
        "new, sources never trained on": [k for k in before if k.startswith("new ") and _source(k) not in trained],
        "new, sources trained on": [k for k in before if k.startswith("new ") and _source(k) in trained],
        "into English": [k for k in before if k.startswith("translate ")],
        "other targets": [k for k in before if k.startswith("other ")],
    }
    rows = []
    for name, keys in pools.items():
        sides = [[_group(k, side, utterances, clusters) for k in keys] for side in (after, before)]
        now, was = (text_statistics([g for g in side if g.references], "chrf") for side in sides)
        if now:
            difference = as_row(pooled_difference(now, was))
            rows.append({"pool": name, "languages": [_source(k) for k in keys], "chrf": difference})
    return rows


def _group(key: str, outputs: Outputs, utterances: Sequence[Utterance], clusters: Mapping[str, str]) -> SystemOutputs:
    source, target = key.partition(" ")[2].split("-")
    expected = references(utterances, source, target)
    return SystemOutputs({i: t for i, t in outputs[key].items() if i in expected}, expected, clusters, target)


def _source(key: str) -> str:
    return key.partition(" ")[2].split("-")[0]


def _languages(utterances: Sequence[Utterance]) -> list[str]:
    return sorted({u.language for u in utterances})


def as_row(found: Score | Change) -> dict[str, Any]:
    """The JSON form of ``results.json``."""
    return dict(msgspec.to_builtins(found))
