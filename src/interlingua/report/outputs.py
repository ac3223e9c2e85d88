"""Translations and transcripts on the page: systems' scores, differences, scores by duration, and examples."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from interlingua.report.tables import (
    Block,
    Bullets,
    Cell,
    Folded,
    Heading,
    Number,
    Table,
    Texts,
    count,
    difference,
    score,
    signatures,
)
from interlingua.results import BadOutput, Results, Sample, ScoreLabels, SystemScores, UtteranceResult, name_of

SHOWN = 3  # samples of a source language, bad outputs of a system and target; more are folded

_METRICS = {"chrf++": "chrF++", "wer": "WER", "cer": "CER"}
_TASKS = {"translate": "Translations", "transcribe": "Transcripts"}
_NOT_SCORED = "not scored"
_POOLED = "All: the mean of the languages' scores."
_DIFFERENT = "p: two-sided, by paired bootstrap / by approximate randomisation, not corrected for the number of rows."
Arrays = Mapping[str, np.ndarray]


def translation(results: Results, arrays: Arrays, kept: Sequence[UtteranceResult]) -> list[Block]:
    """BLEU and chrF by direction, and the first samples; the others, too, unless all translations are shown."""
    samples = _samples(results.samples, fold=not kept)
    if not results.translation:
        return samples
    with_system = any(t.system for t in results.translation)
    rows: list[list[Cell]] = []
    for t in results.translation:
        n = t.n if t.n is not None else next((m.n for m in (t.bleu, t.chrf) if m and m.n), None)
        rows.append([t.pair_name, *([t.system] if with_system else []), count(n), score(t.bleu), score(t.chrf)])
    head = ["Direction", *(["System"] if with_system else []), "n", "BLEU [95% CI]", "chrF [95% CI]"]
    columns = 2 if with_system else 1
    shown = Table(name="translation", title="Translation", head=head, bodies=[rows], text_columns=columns)
    signed = signatures(
        (label, t.pair_name, metric.signature)
        for t in results.translation
        for label, metric in (("BLEU", t.bleu), ("chrF", t.chrf))
        if metric is not None
    )
    return [shown, *signed, *([Heading("Samples")] if samples else []), *samples]


def systems(results: Results, *_: Any) -> list[Block]:
    """Every system's scores by source language, and pooled."""
    return _by_task(results.outputs, results.score_labels, _scores)


def compared(results: Results, *_: Any) -> list[Block]:
    """Each system against the first."""
    return _by_task(results.outputs_compared, results.score_labels, _differences)


def by_duration(results: Results, *_: Any) -> list[Block]:
    """Scores by duration of the utterances."""
    return _by_task(results.outputs_by_duration, results.score_labels, _durations)


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


def _by_task(rows: Sequence[SystemScores], labels: ScoreLabels, show: Callable[..., list[Block]]) -> list[Block]:
    found = {title: [r for r in rows if r.task == task] for task, title in _TASKS.items()}
    return [
        block
        for title, of_task in found.items()
        if of_task
        for block in [Heading(title), *show(of_task, title.lower(), labels)]
    ]


def _scores(rows: Sequence[SystemScores], what: str, labels: ScoreLabels) -> list[Block]:
    measures = _held(rows)
    head = [*_languages_head(rows), "System", "n", "Missing", *_heads(measures, labels)]
    body = [[*_languages(r), r.system, count(r.n), count(r.missing), *_values(r, measures, labels)] for r in rows]
    caption = ["In brackets: 95% intervals. Missing outputs count as empty."]
    caption += [_POOLED] if any(r.source is None for r in rows) else []
    return _shown(rows, f"Scores of {what}", head, body, caption, measures, labels)


def _durations(rows: Sequence[SystemScores], what: str, labels: ScoreLabels) -> list[Block]:
    measures = _held(rows)
    head = [*_languages_head(rows), "System", "Duration", "n", *_heads(measures, labels)]
    body = [[*_languages(r), r.system, r.duration, count(r.n), *_values(r, measures, labels)] for r in rows]
    caption = ["In brackets: 95% intervals. All source languages are one corpus here."]
    return _shown(rows, f"Scores of {what} by duration", head, body, caption, measures, labels, text=1)


def _differences(rows: Sequence[SystemScores], what: str, labels: ScoreLabels) -> list[Block]:
    measures = [m for m in _held(rows) if m != "chrf"]  # redundant next to chrF++
    head = [*_languages_head(rows), "Systems", "n", *(labels[m][0] for m in measures)]
    body = [
        [*_languages(r), f"{r.system} − {r.against}", count(r.n), *(_difference(r, m, labels) for m in measures)]
        for r in rows
    ]
    caption = [f"Paired differences with 95% intervals. {_DIFFERENT}"]
    return _shown(rows, f"Differences of {what}", head, body, caption, measures, labels)


def _shown(
    rows: Sequence[SystemScores],
    title: str,
    head: Sequence[str],
    body: Sequence[Sequence[Cell]],
    caption: Sequence[str],
    measures: Iterable[str],
    labels: ScoreLabels,
    *,
    text: int = 0,
) -> list[Block]:
    bodies: dict[tuple[str, str | None, str | None], list[Sequence[Cell]]] = {}
    for r, cells in zip(rows, body, strict=True):
        bodies.setdefault((r.system, r.against, r.target if r.task == "translate" else None), []).append(cells)
    found = [
        (labels[m][0], f"{r.spoken} → {name_of(r.target)}" if r.target else r.spoken, held)
        for r in rows
        for m in measures
        if (held := r.scores.get(m)) is not None
    ]
    reasons = dict.fromkeys(f"{label} isn't scored: {held.reason}." for label, _, held in found if held.reason)
    made = Table(
        name=title.lower().replace(" ", "-"), title=title, head=head, bodies=list(bodies.values()),
        caption=" ".join(caption), text_columns=len(_languages_head(rows)) + 1 + text,
    )  # fmt: skip
    signed = signatures((label, what, held.signature) for label, what, held in found)
    return [made, *([Bullets(list(reasons))] if reasons else []), *signed]


def _held(rows: Sequence[SystemScores]) -> list[str]:
    return list(dict.fromkeys(m for r in rows for m in r.scores))


def _heads(measures: Iterable[str], labels: ScoreLabels) -> list[str]:
    return [head for m in measures for head in (["Unit"] if m == "error" else []) + [labels[m][0]]]


def _values(row: SystemScores, measures: Iterable[str], labels: ScoreLabels) -> list[Cell]:
    cells: list[Cell] = []
    for measure in measures:
        found = row.scores.get(measure)
        _, scale, digits = labels[measure]
        shown: Cell = score(found, scale, digits=digits)
        if measure == "error":
            unit = ((found and found.signature) or "").partition("|")[0]
            cells.append(unit.upper() if unit in ("wer", "cer") else "")
        cells.append(_NOT_SCORED if found is not None and found.reason is not None else shown)
    return cells


def _difference(row: SystemScores, measure: str, labels: ScoreLabels) -> Cell:
    found = row.scores.get(measure)
    if found is not None and found.reason is not None:
        return _NOT_SCORED
    return difference(found, digits=labels[measure][2], both_p=True)


def _languages_head(rows: Sequence[SystemScores]) -> list[str]:
    return ["Source", "Target"] if rows[0].task == "translate" else ["Source"]


def _languages(row: SystemScores) -> list[str]:
    source = row.spoken.capitalize() if row.source is None else row.spoken
    return [source, name_of(row.target or "")] if row.task == "translate" else [source]
