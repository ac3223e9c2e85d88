"""Translations and transcripts on the page: systems' scores, differences, scores by duration, and examples."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from interlingua.report.tables import (
    Block,
    Bullets,
    Cell,
    Folded,
    Heading,
    Number,
    Texts,
    count,
    difference,
    score,
    signatures,
    table,
)
from interlingua.results import BadOutput, Results, Sample, ScoreLabels, SystemScores, UtteranceResult, name_of

SHOWN = 3  # samples of a source language, bad outputs of a system and target; more are folded

_METRICS = {"chrf++": "chrF++", "wer": "WER", "cer": "CER"}
_TASKS = {"translate": "Translations", "transcribe": "Transcripts"}
_NOT_SCORED = "not scored"
_DIFFERENT = (
    "Paired differences with 95% intervals. p: two-sided, by paired bootstrap / by approximate randomisation, not "
    "corrected for the number of rows."
)
Arrays = Mapping[str, np.ndarray]
Columns = Mapping[str, Callable[[SystemScores], Cell]]


def translation(results: Results, arrays: Arrays, kept: Sequence[UtteranceResult]) -> list[Block]:
    """BLEU and chrF by direction, and the first samples; the others, too, unless all translations are shown."""
    samples = _samples(results.samples, fold=not kept)
    if not results.translation:
        return samples
    columns: dict[str, Callable[[Any], Cell]] = {"Direction": lambda t: t.pair_name}
    if any(t.system for t in results.translation):
        columns["System"] = lambda t: t.system
    text = len(columns)
    columns |= {
        "n": lambda t: count(t.n if t.n is not None else next((m.n for m in (t.bleu, t.chrf) if m and m.n), None)),
        "BLEU [95% CI]": lambda t: score(t.bleu),
        "chrF [95% CI]": lambda t: score(t.chrf),
    }
    shown = table("translation", "Translation", [results.translation], columns, text_columns=text)
    signed = signatures(
        (label, t.pair_name, metric.signature)
        for t in results.translation
        for label, metric in (("BLEU", t.bleu), ("chrF", t.chrf))
        if metric is not None
    )
    return [shown, *signed, *([Heading("Samples")] if samples else []), *samples]


def systems(results: Results, *_: Any) -> list[Block]:
    """Every system's scores by source language, and pooled."""
    columns: Columns = {
        "System": lambda r: r.system,
        "n": lambda r: count(r.n),
        "Missing": lambda r: count(r.missing),
    }
    caption = "In brackets: 95% intervals. Missing outputs count as empty."
    pooled = " All: the mean of the languages' scores."
    return _scored(results.outputs, results.score_labels, "Scores of {}", columns, caption, pooled)


def compared(results: Results, *_: Any) -> list[Block]:
    """Each system against the first."""
    columns: Columns = {"Systems": lambda r: f"{r.system} − {r.against}", "n": lambda r: count(r.n)}
    return _scored(results.outputs_compared, results.score_labels, "Differences of {}", columns, _DIFFERENT)


def by_duration(results: Results, *_: Any) -> list[Block]:
    """Scores by duration of the utterances."""
    columns: Columns = {
        "System": lambda r: r.system,
        "Duration": lambda r: r.duration,
        "n": lambda r: count(r.n),
    }
    caption = "In brackets: 95% intervals. All source languages are one corpus here."
    return _scored(results.outputs_by_duration, results.score_labels, "Scores of {} by duration", columns, caption)


def worst(results: Results, *_: Any) -> list[Block]:
    """Each system's worst outputs, with transcript and reference."""
    blocks: list[Block] = []
    groups: dict[tuple[str, str], list[BadOutput]] = {}
    order = list(dict.fromkeys(w.system for w in results.worst))
    for output in sorted(results.worst, key=lambda w: order.index(w.system)):
        pool = "transcripts" if output.task == "transcribe" else f"into {name_of(output.target)}"
        groups.setdefault((output.system, pool), []).append(output)
    for (system, pool), found in groups.items():
        blocks += [Heading(f"{system}, {pool}"), *_some([_bad(w) for w in found])]
    return blocks


def _some(groups: Sequence[Sequence[tuple[str, str | None, str]]]) -> list[Block]:
    others = groups[SHOWN:]
    return [Texts(groups[:SHOWN]), *([Folded(f"{len(others)} more", [Texts(others)])] if others else [])]


def _samples(samples: Sequence[Sample], *, fold: bool) -> list[Block]:
    shown: list[Sequence[tuple[str, str | None, str]]] = []
    folded: list[Sequence[tuple[str, str | None, str]]] = []
    seen: Counter[str] = Counter()
    for s in samples:
        seen[s.source] += 1
        lines = [
            (f"Source ({name_of(s.source)})" if s.source else "Source", s.transcript, s.source),
            (f"Reference ({name_of(s.target)})" if s.target else "Reference", s.reference, s.target),
            ("System", s.hypothesis, s.target),
        ]
        (shown if seen[s.source] <= SHOWN else folded).append(lines)
    blocks: list[Block] = [Texts(shown)] if shown else []
    return blocks + ([Folded(f"{len(folded)} more", [Texts(folded)])] if folded and fold else [])


def _bad(output: BadOutput) -> list[tuple[str, str | None, str]]:
    unit = "" if output.task == "translate" else "%"
    spoken, written = name_of(output.source), name_of(output.target)
    source = None if output.task == "transcribe" else output.transcript
    return [
        (f"{_METRICS.get(output.metric, output.metric)} {Number(output.score).shown}{unit}", output.id, ""),
        (f"Source ({spoken})" if spoken else "Source", source, output.source),
        (f"Reference ({written})" if written else "Reference", output.reference, output.target),
        (output.system, output.hypothesis, output.target),
    ]


def _scored(
    rows: Sequence[SystemScores], labels: ScoreLabels, title: str, about: Columns, caption: str, pooled: str = ""
) -> list[Block]:
    """Each task's rows, under the columns ``about`` and those of the measures; ``pooled``: a caption where some are."""
    blocks: list[Block] = []
    for task, what in _TASKS.items():
        if of_task := [r for r in rows if r.task == task]:
            named = title.format(what.lower())
            note = caption + (pooled if any(r.source is None for r in of_task) else "")
            blocks += [Heading(what), *_of_task(of_task, task == "translate", labels, named, about, note)]
    return blocks


def _of_task(
    rows: Sequence[SystemScores], translated: bool, labels: ScoreLabels, title: str, about: Columns, caption: str
) -> list[Block]:
    different = rows[0].against is not None
    held = list(dict.fromkeys(m for r in rows for m in r.scores))
    measures = [m for m in held if m != "chrf"] if different else held  # redundant next to chrF++
    columns: dict[str, Callable[[SystemScores], Cell]] = {
        "Source": lambda r: r.spoken.capitalize() if r.source is None else r.spoken
    }
    if translated:
        columns["Target"] = lambda r: name_of(r.target or "")
    columns |= about
    text = list(columns).index("n")
    for m in measures:
        if m == "error" and not different:
            columns["Unit"] = _unit
        columns[labels[m][0]] = partial(_cell, m, labels, different)
    groups: dict[tuple[str, str | None, str | None], list[SystemScores]] = {}
    for r in rows:
        groups.setdefault((r.system, r.against, r.target if translated else None), []).append(r)
    made = table(title.lower().replace(" ", "-"), title, groups.values(), columns, caption, text_columns=text)
    found = [(labels[m][0], r, r.scores[m]) for r in rows for m in measures if m in r.scores]
    reasons = dict.fromkeys(f"{label} isn't scored: {one.reason}." for label, _, one in found if one.reason)
    signed = signatures(
        (label, f"{r.spoken} → {name_of(r.target)}" if r.target else r.spoken, one.signature) for label, r, one in found
    )
    return [made, *([Bullets(list(reasons))] if reasons else []), *signed]


def _cell(measure: str, labels: ScoreLabels, different: bool, row: SystemScores) -> Cell:
    found = row.scores.get(measure)
    _, scale, digits = labels[measure]
    if found is not None and found.reason is not None:
        return _NOT_SCORED
    return difference(found, digits=digits, both_p=True) if different else score(found, scale, digits=digits)


def _unit(row: SystemScores) -> str:
    unit = ((row.error and row.error.signature) or "").partition("|")[0]
    return unit.upper() if unit in ("wer", "cer") else ""
