"""Before and after a fine-tuning: the new target from every source language, and the old tasks."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from interlingua.finetuning.data import CHUNK_UTTERANCES, MOST_TOKENS, NONE, States, named
from interlingua.finetuning.model import merged_copy
from interlingua.finetuning.trainer import Evaluate
from interlingua.languages import PromptKind
from interlingua.metrics import (
    Cell,
    Statistics,
    SystemOutputs,
    TextMetric,
    detection_errors,
    has_words,
    off_target,
    pooled_difference,
    pooled_score,
    transcript_errors,
    translation_statistics,
)
from interlingua.models import Whisper
from interlingua.models.targets import prompt_tokens, read_targets
from interlingua.progress import track
from interlingua.results import Change, Pooled, Summary, Transfer
from interlingua.translation import decode_frames, detect_frames, fast_engine, likeliest
from interlingua.types import Utterance

ENGLISH = "en"  # the output of Whisper's translate task
TEXT_METRICS: tuple[TextMetric, ...] = ("chrf", "bleu")
MOST_SOURCES = 6  # with a line each in a summary
TaskKind = Literal["new", "other", "translate", "transcribe", "detect"]

Outputs = Mapping[str, Mapping[str, str]]
"""Task (`Task.key`) -> utterance id -> text."""


@dataclass(frozen=True)
class Task:
    """One task on all utterances of a language; ``prompt``: the decoder's first tokens.

    ``kind``: ``new`` (the trained target), ``other`` (a further target), ``translate`` (into English), ``transcribe``,
    or ``detect`` (the language; no prompt).
    """

    kind: TaskKind
    source: str
    target: str
    prompt: tuple[int, ...] = ()

    @property
    def key(self) -> str:
        """Its key in `Outputs`."""
        return f"{self.kind} {self.source}-{self.target}"


def parts_of(key: str) -> tuple[TaskKind, str, str]:
    """Kind, source and target of a `Task.key`."""
    kind, _, pair = key.partition(" ")
    source, target = pair.split("-")
    return kind, source, target  # type: ignore[return-value]  # the keys are ours


def only(outputs: Outputs, kinds: Iterable[str]) -> Outputs:
    """The outputs of tasks of these kinds."""
    return {key: texts for key, texts in outputs.items() if parts_of(key)[0] in kinds}


def new_tasks(
    whisper: Whisper,
    languages: Sequence[str],
    target: str,
    prompt: PromptKind,
    token: str | None = None,
    proxies: Mapping[str, str] = NONE,
) -> list[Task]:
    """The new target from the speech of every other language; ``token``, ``proxies``: see `translation_examples`."""
    return [
        Task("new", s, target, tuple(prompt_tokens(whisper, prompt, source=proxies.get(s, s), target=token or target)))
        for s in languages
        if s != target
    ]


def old_tasks(whisper: Whisper, languages: Sequence[str]) -> list[Task]:
    """What Whisper could do before: English translations of every other language; transcripts and detection of all."""
    translate = [s for s in languages if s != ENGLISH and whisper.can_translate]
    return [
        *(Task("translate", s, ENGLISH, tuple(whisper.prompt(s, "translate"))) for s in translate),
        *(Task("transcribe", s, s, tuple(whisper.prompt(s, "transcribe"))) for s in languages),
        *(Task("detect", s, s) for s in languages),
    ]


def other_tasks(whisper: Whisper, languages: Sequence[str], target: str, prompt: PromptKind) -> list[Task]:
    """A further target, prompted as in its fine-tuning, or else as the new one is."""
    known = read_targets(whisper.source.path)
    taught = known.targets.get(target) if known else None
    found = new_tasks(whisper, languages, target, *((taught.prompt, taught.token) if taught else (prompt,)))
    return [replace(task, kind="other") for task in found]


# ---------------------------------------------------------------- outputs


def outputs_by_chunk(
    whisper: Whisper,
    tasks: Sequence[Task],
    utterances: Sequence[Utterance],
    store: States,
    label: str,
    *,
    most_tokens: int = MOST_TOKENS,
) -> Iterator[dict[str, dict[str, str]]]:
    """Utterance id -> task -> text, chunk by chunk, decoded greedily by `translation.fast_engine`.

    Utterances without states, or whose language has no task, are skipped.
    """
    engine = fast_engine(whisper)
    sources = dict.fromkeys(t.source for t in tasks)
    held = {s: [u.id for u in utterances if u.language == s and u.id in store] for s in sources}
    with track(sum(len(held[t.source]) for t in tasks), label) as advance:
        for source, ids in held.items():
            for start in range(0, len(ids), CHUNK_UTTERANCES):
                frames = store.read(ids[start : start + CHUNK_UTTERANCES])
                found: dict[str, dict[str, str]] = {f.id: {} for f in frames}
                for task in (t for t in tasks if t.source == source):
                    if task.kind == "detect":
                        for i, languages in detect_frames(engine, frames).items():
                            found[i][task.key] = likeliest(languages)
                        advance(len(frames))
                        continue
                    for output in decode_frames(engine, frames, task.prompt, most_tokens=most_tokens):
                        found[output.id][task.key] = output.text
                        advance(1)
                yield found


def by_task(tasks: Iterable[str], by_utterance: Mapping[str, Mapping[str, str]]) -> Outputs:
    """Utterance id -> task -> text, regrouped as task -> utterance id -> text."""
    return {key: {i: texts[key] for i, texts in by_utterance.items() if key in texts} for key in tasks}


def dev_scores(
    whisper: Whisper,
    tasks: Sequence[Task],
    dev: Sequence[Utterance],
    store: States,
    most_tokens: int = MOST_TOKENS,
) -> Evaluate | None:
    """Scorer of the current decoder on the dev set: chrF and BLEU, mean over tasks; None where it has no references."""
    with_references = [t for t in tasks if references(dev, t.source, t.target)]
    if not with_references:
        return None

    def scores() -> dict[str, float]:
        found: dict[str, dict[str, str]] = {}
        model = merged_copy(whisper)
        for chunk in outputs_by_chunk(model, with_references, dev, store, "dev", most_tokens=most_tokens):
            found |= chunk
        outputs = by_task([t.key for t in with_references], found)
        sides = [system_outputs(t.key, outputs, dev) for t in with_references]
        return {m: sum(s.value for s in text_statistics(sides, m)) / len(sides) for m in TEXT_METRICS}

    return scores


# ---------------------------------------------------------------- scores


def references(utterances: Sequence[Utterance], source: str, target: str) -> dict[str, str]:
    """Utterance id -> reference, of the utterances of a language that have one with words (see `without_words`)."""
    return {i: text for i, text in _given(utterances, source, target).items() if _can_be_scored(text, source, target)}


def without_words(utterances: Sequence[Utterance], source: str, target: str) -> list[str]:
    """Ids whose reference can't be scored: a transcript such as ``(Applause)``, a translation without a letter."""
    given = _given(utterances, source, target)
    return [i for i, text in given.items() if not _can_be_scored(text, source, target)]


def left_out(utterances: Sequence[Utterance], pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    """A line for each pair of source and target some of whose references have no words."""
    for source, target in pairs:
        if ids := without_words(utterances, source, target):
            of = len(ids) + len(references(utterances, source, target))
            yield f"{source}-{target}: left out {len(ids)} of {of} references, without words: {named(ids)}"


def _given(utterances: Sequence[Utterance], source: str, target: str) -> dict[str, str]:
    spoken = [u for u in utterances if u.language == source]
    texts = {u.id: u.text if target == source else u.translations.get(target) for u in spoken}
    return {i: text for i, text in texts.items() if text and text.strip()}


def _can_be_scored(text: str, source: str, target: str) -> bool:
    return has_words(text, source) if target == source else any(map(str.isalnum, text))


def system_outputs(
    key: str, outputs: Outputs, utterances: Sequence[Utterance], cell: Cell | None = None
) -> SystemOutputs:
    """A task's outputs for the utterances that have references."""
    kind, source, target = parts_of(key)
    if kind == "detect":
        expected = {u.id: source for u in utterances if u.language == source}
    else:
        expected = references(utterances, source, target)
    return SystemOutputs(
        {i: text for i, text in outputs[key].items() if i in expected},
        expected,
        {u.id: u.group for u in utterances},
        target,
        cell,
        source,
        {u.id: u.text for u in utterances if u.text},
    )


def text_statistics(groups: Sequence[SystemOutputs], metric: TextMetric) -> list[Statistics]:
    """A metric's statistics of each group."""
    return [translation_statistics(group, metric) for group in groups]


def pooled_change(after: Sequence[Statistics], before: Sequence[Statistics]) -> Change:
    """Means over groups of scores before and after, and their difference."""
    return Change(before=pooled_score(before), after=pooled_score(after), difference=pooled_difference(after, before))


def transfer_rows(
    before: Outputs, after: Outputs, utterances: Sequence[Utterance], trained: Sequence[str]
) -> list[Transfer]:
    """One row a task: scores before and after with intervals, and the paired difference of translations.

    A task without references is skipped. ``trained``: source languages of the training.
    """
    rows = []
    for key in before:
        kind, source, target = parts_of(key)
        was, now = (system_outputs(key, side, utterances) for side in (before, after))
        if not was.references:
            continue
        if kind in ("detect", "transcribe"):
            errors = detection_errors if kind == "detect" else transcript_errors
            changes = {"error": Change(before=errors(was).score(), after=errors(now).score())}
        else:
            changes = {m: _change(now, was, m) for m in TEXT_METRICS}
            changes["off_target"] = Change(before=off_target(was).score(), after=off_target(now).score())
        rows.append(
            Transfer(
                task=kind,
                source=source,
                target=target,
                trained=kind == "new" and source in trained,
                n=len(was.references),
                **changes,
            )
        )
    return rows


def pooled_rows(
    before: Outputs, after: Outputs, utterances: Sequence[Utterance], trained: Sequence[str]
) -> list[Pooled]:
    """chrF differences pooled over languages: the new target, X into English, and other targets."""
    kinds = {key: parts_of(key)[:2] for key in before}
    pools = {
        "new, sources never trained on": [k for k, (kind, s) in kinds.items() if kind == "new" and s not in trained],
        "new, sources trained on": [k for k, (kind, s) in kinds.items() if kind == "new" and s in trained],
        "into English": [k for k, (kind, _) in kinds.items() if kind == "translate"],
        "other targets": [k for k, (kind, _) in kinds.items() if kind == "other"],
    }
    rows = []
    for name, keys in pools.items():
        sides = [[system_outputs(k, side, utterances) for k in keys] for side in (after, before)]
        now, was = (text_statistics([g for g in side if g.references], "chrf") for side in sides)
        if now:
            rows.append(Pooled(pool=name, languages=[kinds[k][1] for k in keys], chrf=pooled_difference(now, was)))
    return rows


def summary_rows(
    before: Outputs, after: Outputs, utterances: Sequence[Utterance], trained: Sequence[str]
) -> list[Summary]:
    """Before and after in a few lines: each source into the new target, X into English, transcripts, detection.

    Of more than `MOST_SOURCES` sources into the new target, those never trained on are pooled.
    """
    kinds = {key: parts_of(key) for key in before}
    of_kind = {kind: [k for k, parts in kinds.items() if parts[0] == kind] for kind in get_args(TaskKind)}
    groups: list[tuple[str, list[str]]] = []
    target = next((kinds[k][2] for k in of_kind["new"]), "")
    apart = [k for k in of_kind["new"] if len(of_kind["new"]) <= MOST_SOURCES or kinds[k][1] in trained]
    for key in apart:
        source = kinds[key][1]
        groups.append((f"{source} into {target}{', trained on' if source in trained else ''}", [key]))
    groups.append((f"other sources into {target}", [k for k in of_kind["new"] if k not in apart]))
    for other in dict.fromkeys(kinds[k][2] for k in of_kind["other"]):
        groups.append((f"into {other}", [k for k in of_kind["other"] if kinds[k][2] == other]))
    groups += [("into English", of_kind["translate"]), ("transcription", of_kind["transcribe"])]
    groups.append(("language identification", of_kind["detect"]))
    rows = []
    for name, keys in groups:
        now, was = ([system_outputs(k, side, utterances) for k in keys] for side in (after, before))
        sides = [(n, w) for n, w in zip(now, was, strict=True) if n.references]
        if not sides:
            continue
        kind = kinds[keys[0]][0]
        measure = {"transcribe": transcript_errors, "detect": detection_errors}.get(kind, _bleu)
        change = pooled_change([measure(n) for n, _ in sides], [measure(w) for _, w in sides])
        unit = {"transcribe": "points of errors", "detect": "points of errors"}.get(kind, "BLEU")
        rows.append(Summary(name=name, languages=[n.source or "" for n, _ in sides], unit=unit, change=change))
    return rows


def _bleu(outputs: SystemOutputs) -> Statistics:
    return translation_statistics(outputs, "bleu")


def _change(after: SystemOutputs, before: SystemOutputs, metric: TextMetric) -> Change:
    now, was = (translation_statistics(side, metric) for side in (after, before))
    return Change(before=was.score(), after=now.score(), difference=pooled_difference([now], [was]))
