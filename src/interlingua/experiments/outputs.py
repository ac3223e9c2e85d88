"""Systems' outputs scored: per language spoken and pooled, against the first system, by duration, the worst listed."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Literal, TypeGuard, get_args

from interlingua.errors import CometError, InterlinguaError, UsageError
from interlingua.experiments.output_files import System, Task
from interlingua.experiments.transfer import as_row, references
from interlingua.experiments.utterances import UtteranceLog
from interlingua.languages import UNSPACED_LANGUAGES
from interlingua.metrics import (
    CometScores,
    Comparison,
    Metric,
    SystemOutputs,
    Tallies,
    comet_segments,
    off_target,
    pooled_difference,
    pooled_ratio,
    pooled_ratio_difference,
    pooled_score,
    score_comet,
    segment_scores,
    transcript_errors,
)
from interlingua.types import Utterance

Measure = Literal["bleu", "chrf++", "chrf", "off_target", "comet", "error"]
"""What is measured: ``error`` is WER, or CER where words aren't spaced."""

TRANSLATION: tuple[Measure, ...] = ("bleu", "chrf++", "chrf", "off_target")
COMPARED: tuple[Measure, ...] = ("bleu", "chrf++", "chrf", "comet", "error")
SHORT, LONG = 3.0, 10.0  # seconds: borders between the durations that are told apart
BUCKETS = (f"<{SHORT:.0f} s", f"{SHORT:.0f}-{LONG:.0f} s", f">{LONG:.0f} s", "unknown")

_MAY_LACK = ("bleu", "off_target", "comet")  # need a tokenizer, an identifier, an environment: the others go on without


@dataclass(frozen=True)
class Group:
    """What is asked of every system: to write the speech of one language in another, or in the same.

    Attributes:
        task: what it is.
        source: the language spoken.
        target: the language written; of a transcript, the one spoken.
        references: utterance id -> what should be written.
    """

    task: Task
    source: str
    target: str
    references: dict[str, str]

    @property
    def pool(self) -> tuple[Task, str]:
        """Groups that share it are pooled: those of one target, or transcripts of one unit."""
        return self.task, self.target if self.task == "translate" else (
            "cer" if self.source in UNSPACED_LANGUAGES else "wer"
        )


def groups_of(
    utterances: Sequence[Utterance], systems: Sequence[System], *, to: Collection[str] = (), task: Task | None = None
) -> list[Group]:
    """Every group that some system has outputs for, or that was asked for by both task and target.

    Translations into a target are asked of the speech of every other language: a system that skips one is missing
    its outputs. Transcripts are asked of the languages that some system transcribes, or of all with the task.

    Raises:
        UsageError: nothing to score, or no reference in a target.
    """
    spoken = {u.id: u.language for u in utterances}
    languages = sorted(set(spoken.values()))
    found = {(t, spoken[i]) for s in systems for t, texts in s.outputs.items() for i in texts if i in spoken}
    targets = sorted({t for t, s in found if t != s} | (set(to) if task == "translate" else set()))
    heard = {t for t, s in found if t == s} | (
        {s for s in languages if not to or s in to} if task == "transcribe" else set()
    )
    groups = [_group("translate", s, t, utterances) for t in targets for s in languages if s != t]
    groups += [_group("transcribe", s, s, utterances) for s in languages if s in heard]
    for target in targets:
        if not any(g.references for g in groups if g.target == target and g.task == "translate"):
            there = ", ".join(sorted({t for u in utterances for t in u.translations})) or "none"
            raise UsageError(f"no utterance has a reference in {target!r}; the manifest's `translations` hold {there}")
    groups = [g for g in groups if g.references]
    if not groups:
        raise UsageError("nothing to score: no output is of an utterance, target and task that were asked for")
    return groups


def evaluate_outputs(
    utterances: Sequence[Utterance],
    systems: Sequence[System],
    groups: Sequence[Group],
    *,
    comet_model: str | None = None,
    worst: int = 10,
    log: UtteranceLog | None = None,
) -> dict[str, Any]:
    """Score systems' outputs.

    Args:
        utterances: with references.
        systems: the first is the one that the others are compared with.
        groups: from `groups_of`.
        comet_model: also score translations by COMET with this model. Where it can't be, its score is the reason.
        worst: how many of each system's worst outputs to list, by target.
        log: where to keep each translation and transcript with its score.

    Returns:
        ``outputs``, ``outputs_compared``, ``outputs_by_duration`` and ``worst`` (see `interlingua.results`).

    Raises:
        UsageError: a transcript without words.
    """
    scoring = _Scoring(utterances, systems, groups, comet_model)
    results: dict[str, Any] = {"outputs": [], "outputs_compared": [], "outputs_by_duration": [], "worst": []}
    for pool in dict.fromkeys(g.pool for g in groups):
        members = [g for g in groups if g.pool == pool]
        rows = [[g] for g in members] + ([members] if len(members) > 1 else [])
        first, *others = systems
        for system in systems:
            results["outputs"] += [scoring.row(system, r) for r in rows]
            results["outputs_by_duration"] += scoring.by_duration(system, members)
            results["worst"] += scoring.worst(system, members, worst)
        results["outputs_compared"] += [scoring.compared(s, first, r) for s in others for r in rows]
    if log is not None:
        for system in systems:
            for group in groups:
                said = _said(system, group)
                if group.task == "translate":
                    log.translated(system.name, group.target, said, group.references)
                else:
                    log.transcribed(system.name, group.source, said, group.references)
    return results


def missing_ids(system: System, groups: Sequence[Group]) -> list[str]:
    """Utterances that have a reference and no output, in the manifest's order."""
    return [i for g in groups for i in g.references if i not in system.outputs.get(g.target, {})]


def unscored(system: System, utterances: Sequence[Utterance], groups: Sequence[Group]) -> int:
    """How many outputs there are of these utterances that the manifest has no reference for."""
    scored = {(g.target, i) for g in groups for i in g.references}
    ids = {u.id for u in utterances}
    return sum((t, i) not in scored for t, texts in system.outputs.items() for i in texts if i in ids)


def bucket_of(utterance: Utterance) -> str:
    """The utterance's duration, roughly: one of `BUCKETS`."""
    seconds = utterance.duration if utterance.duration is not None else utterance.audio.duration
    if seconds is None:
        return BUCKETS[3]
    return BUCKETS[0] if seconds < SHORT else BUCKETS[1] if seconds <= LONG else BUCKETS[2]


class _Scoring:
    """What is computed once and read by several tables."""

    def __init__(
        self, utterances: Sequence[Utterance], systems: Sequence[System], groups: Sequence[Group], model: str | None
    ) -> None:
        self.utterances = {u.id: u for u in utterances}
        self.clusters = {u.id: u.group for u in utterances}
        self.transcripts = {u.id: u.text for u in utterances if u.text}
        self.systems, self.groups, self.model = systems, groups, model
        self._tallied: dict[tuple[str, str, str, str], Tallies] = {}

    @cached_property
    def comet(self) -> CometScores | CometError:
        """COMET's scores of all translations, each segment once; or why there are none."""
        try:
            asked = [
                segment
                for s in self.systems
                for g in self.groups
                if g.task == "translate"
                for segment in comet_segments(_said(s, g), g.references, self.transcripts).values()
            ]
            return score_comet(asked, model=self.model or "")
        except CometError as e:
            return e

    def row(self, system: System, groups: Sequence[Group]) -> dict[str, Any]:
        """One system on one group, or on several pooled."""
        scores = self._each(self._measures(groups), lambda m: self._score(m, system, groups))
        missing = len(missing_ids(system, groups))
        return {"system": system.name, **_about(groups), "n": _size(groups), "missing": missing, **scores}

    def compared(self, system: System, first: System, groups: Sequence[Group]) -> dict[str, Any]:
        """One system less the first, on one group or on several pooled."""
        measures = [m for m in self._measures(groups) if m in COMPARED]
        found = self._each(measures, lambda m: self._difference(m, system, first, groups))
        return {"system": system.name, "against": first.name, **_about(groups), "n": _size(groups), **found}

    def by_duration(self, system: System, groups: Sequence[Group]) -> list[dict[str, Any]]:
        """The groups' utterances of each duration as one corpus."""
        rows = []
        for bucket in BUCKETS:
            parts = [replace(g, references=_within(g, bucket, self.utterances)) for g in groups]
            parts = [g for g in parts if g.references]
            if parts:
                scores = self._each(self._measures(parts), partial(self._merged, system=system, groups=parts))
                rows.append({"system": system.name, **_about(groups), "duration": bucket, "n": _size(parts), **scores})
        return rows

    def worst(self, system: System, groups: Sequence[Group], most: int) -> list[dict[str, Any]]:
        """The outputs with the lowest sentence chrF++, or the highest error rate."""
        found: list[tuple[float, str, Group]] = []
        for g in groups:
            if g.task == "translate":
                scores = segment_scores(_said(system, g), g.references)
                found += [(score, i, g) for i, score in scores.items()]
            else:
                errors = self._tallies("error", system, g).values
                found += [(-100 * wrong / of, i, g) for i, (wrong, of) in errors.items()]
        found.sort(key=lambda entry: entry[:2])
        return [
            {
                "system": system.name,
                "id": i,
                "task": g.task,
                "source": g.source,
                "target": g.target,
                "metric": "chrf++" if g.task == "translate" else g.pool[1],
                "score": abs(score),
                "transcript": self.utterances[i].text,
                "reference": g.references[i],
                "hypothesis": _said(system, g).get(i, ""),
            }
            for score, i, g in found[:most]
        ]

    def _measures(self, groups: Sequence[Group]) -> tuple[Measure, ...]:
        if groups[0].task == "transcribe":
            return ("error",)
        return (*TRANSLATION, "comet") if self.model is not None else TRANSLATION

    def _each(self, measures: Sequence[Measure], compute: Callable[[Measure], dict[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for measure in measures:
            try:
                found[measure] = compute(measure)
            except InterlinguaError as e:
                if measure not in _MAY_LACK:
                    raise
                found[measure] = {"reason": str(e)}
        return found

    def _score(self, measure: Measure, system: System, groups: Sequence[Group]) -> dict[str, Any]:
        if _counts_text(measure):
            return pooled_score([self._outputs(system, g) for g in groups], measure).as_dict()
        return pooled_ratio([self._tallies(measure, system, g) for g in groups]).as_dict()

    def _difference(self, measure: Measure, after: System, before: System, groups: Sequence[Group]) -> dict[str, Any]:
        if _counts_text(measure):
            pairs = [
                Comparison(_said(after, g), _said(before, g), g.references, self.clusters, g.target) for g in groups
            ]
            return as_row(pooled_difference(pairs, metric=measure))
        sides = [[self._tallies(measure, s, g) for g in groups] for s in (after, before)]
        return as_row(pooled_ratio_difference(*sides))

    def _merged(self, measure: Measure, system: System, groups: Sequence[Group]) -> dict[str, Any]:
        """The score of parts of groups as one corpus: a language may have too few of them for a mean of languages."""
        expected = {i: text for g in groups for i, text in g.references.items()}
        if _counts_text(measure):
            texts = {i: t for g in groups for i, t in _said(system, g).items()}
            return pooled_score([SystemOutputs(texts, expected, self.clusters, groups[0].target)], measure).as_dict()
        whole = [next(w for w in self.groups if (w.pool, w.source) == (g.pool, g.source)) for g in groups]
        parts = [self._tallies(measure, system, g) for g in whole]
        values = {i: v for part in parts for i, v in part.values.items() if i in expected}
        signature = "+".join(sorted({part.signature for part in parts}))
        return pooled_ratio([replace(parts[0], values=values, signature=signature)]).as_dict()

    def _outputs(self, system: System, group: Group) -> SystemOutputs:
        return SystemOutputs(_said(system, group), group.references, self.clusters, group.target)

    def _tallies(self, measure: Measure, system: System, group: Group) -> Tallies:
        key = (measure, system.name, group.source, group.target)
        if key not in self._tallied:
            self._tallied[key] = self._tally(measure, _said(system, group), group)
        return self._tallied[key]

    def _tally(self, measure: Measure, said: Mapping[str, str], group: Group) -> Tallies:
        if measure == "error":
            return transcript_errors(said, group.references, language=group.source, clusters=self.clusters)
        if measure == "off_target":
            return off_target(
                said, group.target, references=group.references, sources=(group.source,), clusters=self.clusters
            )
        if isinstance(self.comet, CometError):
            raise self.comet
        return self.comet.tallies(said, group.references, self.transcripts, self.clusters)


def _counts_text(measure: Measure) -> TypeGuard[Metric]:
    return measure in get_args(Metric)


def _group(task: Task, source: str, target: str, utterances: Sequence[Utterance]) -> Group:
    return Group(task, source, target, references(utterances, source, target))


def _said(system: System, group: Group) -> dict[str, str]:
    texts = system.outputs.get(group.target, {})
    return {i: texts[i] for i in group.references if i in texts}


def _within(group: Group, bucket: str, utterances: Mapping[str, Utterance]) -> dict[str, str]:
    return {i: text for i, text in group.references.items() if bucket_of(utterances[i]) == bucket}


def _about(groups: Sequence[Group]) -> dict[str, Any]:
    """Which utterances a row is of: one language spoken, or (source None) several, pooled."""
    first, several = groups[0], len(groups) > 1
    return {
        "task": first.task,
        "source": None if several else first.source,
        "sources": [g.source for g in groups],
        "target": first.target if first.task == "translate" or not several else None,
    }


def _size(groups: Sequence[Group]) -> int:
    return sum(len(g.references) for g in groups)
