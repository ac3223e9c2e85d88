"""Systems' outputs scored: by source language and pooled, against the first system, by duration, the worst listed.

A file of outputs is JSON lines with an utterance's id, the text and, where there are several, the target.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import msgspec

from interlingua.errors import CometError, InterlinguaError, OutputsError, UsageError
from interlingua.experiments.config import Task
from interlingua.experiments.utterances import UtteranceLog
from interlingua.files import decode_json
from interlingua.finetuning.evaluate import references
from interlingua.languages import UNSPACED_LANGUAGES, normalise_language
from interlingua.metrics import (
    METRICS,
    CometScores,
    Metric,
    Statistics,
    SystemOutputs,
    comet_segments,
    merged,
    pooled_difference,
    pooled_score,
    score_comet,
)
from interlingua.results import BadOutput, Measured, Results, SystemScores
from interlingua.types import Score, Utterance

TRANSLATION = ("bleu", "chrf++", "chrf", "off_target")
TRANSCRIPTION = ("error",)
COMET = "comet"
SHORT, LONG = 3.0, 10.0  # seconds: borders of the duration classes
BUCKETS = (f"<{SHORT:.0f} s", f"{SHORT:.0f}-{LONG:.0f} s", f">{LONG:.0f} s", "unknown")

_ALWAYS = ("chrf++", "chrf", "error")  # others may lack a tokenizer, an identifier, …: a reason stands in


@dataclass(frozen=True)
class System:
    """One system: target language -> utterance id -> text. Outputs in the source language are transcripts."""

    name: str
    outputs: Mapping[str, Mapping[str, str]]

    def of(self, group: "Group") -> dict[str, str]:
        """Its outputs for the utterances of a group."""
        texts = self.outputs.get(group.target, {})
        return {i: texts[i] for i in group.references if i in texts}


@dataclass(frozen=True)
class Group:
    """One task: speech of ``source`` into ``target``, the same for a transcript, with references by utterance id."""

    task: Task
    source: str
    target: str
    references: dict[str, str]

    @property
    def pool(self) -> tuple[Task, str]:
        """Key of the groups that are pooled: of one target, or transcripts of one unit."""
        unit = "cer" if self.source in UNSPACED_LANGUAGES else "wer"
        return self.task, self.target if self.task == "translate" else unit


def groups_of(
    utterances: Sequence[Utterance], systems: Sequence[System], *, to: Collection[str] = (), task: Task | None = None
) -> list[Group]:
    """Every group that some system has outputs for, or that both task and target name.

    Translations into a target are expected of every other source language; transcripts of the languages that some
    system transcribes, or of all if ``task`` says so.

    Raises:
        UsageError: nothing to score, or no reference in a target.
    """
    spoken = {u.id: u.language for u in utterances}
    languages = sorted(set(spoken.values()))
    found = {(t, spoken[i]) for s in systems for t, texts in s.outputs.items() for i in texts if i in spoken}
    targets = sorted({t for t, s in found if t != s} | (set(to) if task == "translate" else set()))
    transcribed = {t for t, s in found if t == s} | (
        {s for s in languages if not to or s in to} if task == "transcribe" else set()
    )
    groups = [Group("translate", s, t, references(utterances, s, t)) for t in targets for s in languages if s != t]
    groups += [Group("transcribe", s, s, references(utterances, s, s)) for s in languages if s in transcribed]
    for target in targets:
        if not any(g.references for g in groups if g.target == target and g.task == "translate"):
            there = ", ".join(sorted({t for u in utterances for t in u.translations})) or "none"
            raise UsageError(f"no utterance has a reference in {target!r}; the manifest's `translations` hold {there}")
    groups = [g for g in groups if g.references]
    if not groups:
        raise UsageError("nothing to score: no output is of one of these utterances, targets and tasks")
    return groups


def evaluate_outputs(
    utterances: Sequence[Utterance],
    systems: Sequence[System],
    groups: Sequence[Group],
    *,
    metrics: Sequence[str] = (),
    comet_model: str | None = None,
    worst: int = 10,
    log: UtteranceLog | None = None,
) -> Results:
    """Score systems' outputs: ``outputs``, ``outputs_compared``, ``outputs_by_duration`` and ``worst``.

    Args:
        systems: the first is the baseline of the comparisons.
        metrics: further metrics of translations: names in `METRICS`, or ``module:attribute``.
        comet_model: also score translations by COMET; a failure's reason stands in for the score.
        worst: how many of each system's worst outputs to list, by target.
        log: keeps each translation and transcript with its score.

    Raises:
        UsageError: a transcript without words, or an unknown metric.
    """
    more = [METRICS[name] for name in metrics]
    scoring = _Scoring(utterances, systems, groups, more, comet_model)
    rows: list[SystemScores] = []
    compared: list[SystemScores] = []
    timed: list[SystemScores] = []
    bad: list[BadOutput] = []
    first, *others = systems
    for pool in dict.fromkeys(g.pool for g in groups):
        members = [g for g in groups if g.pool == pool]
        wholes = [[g] for g in members] + ([members] if len(members) > 1 else [])
        for system in systems:
            rows += [scoring.row(system, whole) for whole in wholes]
            timed += scoring.by_duration(system, members)
            bad += scoring.worst(system, members, worst)
        compared += [scoring.compared(s, first, whole) for s in others for whole in wholes]
    if log is not None:
        for system in systems:
            for group in groups:
                keep = log.translated if group.task == "translate" else log.transcribed
                keep(system.name, group.target, system.of(group), group.references)
    return Results(
        outputs=rows,
        outputs_compared=compared,
        outputs_by_duration=timed,
        worst=bad,
        metric_labels={m.name: m.label for m in more},
    )


def missing_ids(system: System, groups: Sequence[Group]) -> list[str]:
    """Utterances with a reference but no output, in the manifest's order."""
    return [i for g in groups for i in g.references if i not in system.outputs.get(g.target, {})]


def unscored(system: System, utterances: Sequence[Utterance], groups: Sequence[Group]) -> int:
    """Number of outputs for these utterances without a reference."""
    scored = {(g.target, i) for g in groups for i in g.references}
    ids = {u.id for u in utterances}
    return sum((t, i) not in scored for t, texts in system.outputs.items() for i in texts if i in ids)


def bucket_of(utterance: Utterance) -> str:
    """The utterance's duration class: one of `BUCKETS`."""
    seconds = utterance.duration if utterance.duration is not None else utterance.audio.duration
    if seconds is None:
        return BUCKETS[3]
    return BUCKETS[0] if seconds < SHORT else BUCKETS[1] if seconds <= LONG else BUCKETS[2]


class _Scoring:
    """Computed once and read by several tables."""

    def __init__(
        self,
        utterances: Sequence[Utterance],
        systems: Sequence[System],
        groups: Sequence[Group],
        more: Sequence[Metric],
        model: str | None,
    ) -> None:
        self.utterances = {u.id: u for u in utterances}
        self.clusters = {u.id: u.group for u in utterances}
        self.transcripts = {u.id: u.text for u in utterances if u.text}
        self.systems, self.groups, self.model = systems, groups, model
        known = {name: METRICS[name] for name in (*TRANSLATION, *TRANSCRIPTION)}
        known[COMET] = Metric(COMET, "COMET", self._comet_statistics)
        if taken := [m.name for m in more if m.name in known]:
            raise UsageError(f"--metric: {taken[0]!r} is a metric that is there already; give yours another name")
        self.more = {m.name: m for m in more}
        self.metrics = known | self.more
        self._held: dict[tuple[str, str, str, str], Statistics] = {}

    @cached_property
    def comet(self) -> CometScores | CometError:
        try:
            segments = [
                segment
                for s in self.systems
                for g in self.groups
                if g.task == "translate"
                for segment in comet_segments(self._outputs(s, g)).values()
            ]
            return score_comet(segments, model=self.model or "")
        except CometError as e:
            return e

    def row(self, system: System, groups: Sequence[Group]) -> SystemScores:
        scores = self._each(groups, lambda m: pooled_score([self._statistics(m, system, g) for g in groups]))
        return _row(system, groups, groups, missing=len(missing_ids(system, groups)), **scores)

    def compared(self, system: System, first: System, groups: Sequence[Group]) -> SystemScores:
        def difference(measure: str) -> Score:
            after, before = ([self._statistics(measure, s, g) for g in groups] for s in (system, first))
            return pooled_difference(after, before)

        return _row(system, groups, groups, against=first.name, **self._each(groups, difference, compared=True))

    def by_duration(self, system: System, groups: Sequence[Group]) -> list[SystemScores]:
        """All languages' utterances of each duration as one corpus, since a language may have too few of them."""
        rows = []
        for bucket in BUCKETS:
            inside = {i for i, u in self.utterances.items() if bucket_of(u) == bucket}
            parts = [replace(g, references={i: t for i, t in g.references.items() if i in inside}) for g in groups]
            parts = [g for g in parts if g.references]
            if parts:
                scores = self._each(parts, partial(self._merged, system=system, parts=parts, groups=groups))
                rows.append(_row(system, groups, parts, duration=bucket, **scores))
        return rows

    def worst(self, system: System, groups: Sequence[Group], most: int) -> list[BadOutput]:
        found: list[tuple[float, str, Group]] = []
        for g in groups:
            measure, sign = ("chrf++", 1) if g.task == "translate" else ("error", -1)
            found += [(sign * v, i, g) for i, v in self._statistics(measure, system, g).by_segment().items()]
        found.sort(key=lambda entry: entry[:2])
        return [
            BadOutput(
                system=system.name,
                id=i,
                task=g.task,
                source=g.source,
                target=g.target,
                metric="chrf++" if g.task == "translate" else g.pool[1],
                score=abs(score),
                transcript=self.utterances[i].text,
                reference=g.references[i],
                hypothesis=system.of(g).get(i, ""),
            )
            for score, i, g in found[:most]
        ]

    def _each(
        self, groups: Sequence[Group], compute: Callable[[str], Score], *, compared: bool = False
    ) -> dict[str, Any]:
        """Every measure of the groups' task as fields of `SystemScores`: a score, or the reason for none."""
        found: dict[str, Measured] = {}
        for measure in self._measures(groups):
            if compared and not self.metrics[measure].compared:
                continue
            try:
                found[measure] = msgspec.convert(msgspec.to_builtins(compute(measure)), Measured)
            except InterlinguaError as e:
                if measure in _ALWAYS:
                    raise
                found[measure] = Measured(reason=str(e))
        more = {measure: found.pop(measure) for measure in self.more if measure in found}
        return {**{measure.replace("+", "p"): score for measure, score in found.items()}, "more": more}

    def _measures(self, groups: Sequence[Group]) -> tuple[str, ...]:
        if groups[0].task == "transcribe":
            return TRANSCRIPTION
        return (*TRANSLATION, *([COMET] if self.model is not None else []), *self.more)

    def _merged(self, measure: str, system: System, parts: Sequence[Group], groups: Sequence[Group]) -> Score:
        expected = {i for g in parts for i in g.references}
        return pooled_score([merged([self._statistics(measure, system, g) for g in groups], expected)])

    def _statistics(self, measure: str, system: System, group: Group) -> Statistics:
        key = (measure, system.name, group.source, group.target)
        if key not in self._held:
            self._held[key] = self.metrics[measure].statistics(self._outputs(system, group))
        return self._held[key]

    def _comet_statistics(self, outputs: SystemOutputs) -> Statistics:
        if isinstance(self.comet, CometError):
            raise self.comet
        return self.comet.statistics(outputs)

    def _outputs(self, system: System, group: Group) -> SystemOutputs:
        return SystemOutputs(
            system.of(group),
            group.references,
            self.clusters,
            group.target,
            source=group.source,
            transcripts=self.transcripts,
        )


def _row(system: System, groups: Sequence[Group], of: Sequence[Group], **fields: Any) -> SystemScores:
    """A row on one source language, or (source None) on several, pooled; utterances are those of ``of``."""
    first, several = groups[0], len(groups) > 1
    return SystemScores(
        system=system.name,
        task=first.task,
        source=None if several else first.source,
        sources=[g.source for g in groups],
        target=first.target if first.task == "translate" or not several else None,
        n=sum(len(g.references) for g in of),
        **fields,
    )


# ---------------------------------------------------------------- files of outputs


class _Line(msgspec.Struct):
    # Other keys (language, flags, …) are ignored.
    id: str
    text: str
    target: str | None = None


def read_systems(
    named: Sequence[str],
    utterances: Mapping[str, Utterance],
    *,
    manifest: str | Path,
    to: Sequence[str] = (),
    task: Task | None = None,
) -> list[System]:
    """Read systems' outputs, one file each.

    Args:
        named: paths, or NAME=path; the default name is the file's stem.
        to: targets to keep, all if empty; a single one is that of lines without a target.
        task: keep transcripts, or translations, only; lines without a target are transcripts if those are kept.

    Raises:
        UsageError: two systems of one name.
        OutputsError: a missing or empty file, or a line that is malformed, has an unknown id, repeats an id of the same
            target or needs a target; file and line are named.
    """
    systems: dict[str, System] = {}
    for given in named:
        name, path = _named(given)
        if name in systems:
            raise UsageError(f"two systems are called {name!r}; name one otherwise: NAME={path}")
        systems[name] = _read(name, path, utterances, manifest, to, task)
    return list(systems.values())


def _named(given: str) -> tuple[str, Path]:
    name, separator, path = given.partition("=")
    if separator and name and path and not Path(given).exists():
        return name, Path(path)
    return Path(given).stem, Path(given)


def _read(
    name: str,
    path: Path,
    utterances: Mapping[str, Utterance],
    manifest: str | Path,
    to: Sequence[str],
    task: Task | None,
) -> System:
    outputs: dict[str, dict[str, str]] = {}
    seen: dict[tuple[str, str], int] = {}
    try:
        with path.open("rb") as lines:
            for number, raw in enumerate(lines, start=1):
                content = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
                if not content.strip():
                    continue
                where = f"{path}:{number}"
                line = _decode(content, where)
                if line.id not in utterances:
                    raise OutputsError(
                        f"{where}: no utterance {line.id!r} in {manifest}; score outputs against the manifest that "
                        "they were made from"
                    )
                spoken = utterances[line.id].language
                target = _target(line, spoken, where, to, task)
                if (line.id, target) in seen:
                    raise OutputsError(
                        f"{where}: {line.id!r} into {target!r} stands already in line {seen[line.id, target]}; "
                        "leave one of the two"
                    )
                seen[line.id, target] = number
                if (not to or target in to) and (task is None or (task == "transcribe") == (target == spoken)):
                    outputs.setdefault(target, {})[line.id] = line.text
    except OSError as e:
        raise OutputsError(
            f"{path}: no readable file of outputs ({e.strerror}); `interlingua translate --out` writes one"
        ) from e
    if not seen:
        raise OutputsError(f"{path}: holds no outputs; `interlingua translate --out` writes them, one a line")
    return System(name, outputs)


def _decode(content: bytes, where: str) -> _Line:
    try:
        line: _Line = decode_json(content, _Line)
        return line
    except msgspec.DecodeError as e:
        raise OutputsError(
            f'{where}: {e}; a line is {{"id": …, "text": …}}, with "target" where there are several'
        ) from e


def _target(line: _Line, spoken: str, where: str, to: Sequence[str], task: Task | None) -> str:
    if line.target is not None:
        try:
            return normalise_language(line.target)
        except UsageError as e:
            raise OutputsError(f"{where}: {e}") from e
    if task == "transcribe":
        return spoken
    if len(to) == 1:
        return to[0]
    raise OutputsError(f"{where}: no `target`; name the language of the outputs with --to")
