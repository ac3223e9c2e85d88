"""The page's sections on systems' outputs: their scores, one against another, by duration, and the worst of them."""

from collections.abc import Callable, Iterable, Sequence

from interlingua.report.markup import (
    DASH,
    Html,
    both_p_values,
    escape,
    number,
    signatures_by_label,
    signed,
    table,
    text_lines,
    with_interval,
)
from interlingua.report.records import BadOutput, Measured, Results, SystemScores, name_of

WORST_SHOWN = 3  # outputs of each system, by target; the others are folded away

_MEASURES: dict[str, tuple[str, float, int]] = {  # field -> column head, scale, digits
    "bleu": ("BLEU", 1, 1),
    "chrfpp": ("chrF++", 1, 1),
    "chrf": ("chrF", 1, 1),
    "off_target": ("Off target, %", 100, 1),
    "comet": ("COMET", 1, 4),
    "error": ("Error rate, %", 1, 1),
}
_METRICS = {"chrf++": "chrF++", "wer": "WER", "cer": "CER"}
_TASKS = {"translate": "Translations", "transcribe": "Transcripts"}
_NOT_SCORED = "not scored"
_POOLED = "All: the mean of the languages' scores."
_DIFFERENT = "p: two-sided, by paired bootstrap / by approximate randomisation, not corrected for the number of rows."


def systems(results: Results) -> str:
    """Every system's scores by language spoken, and pooled."""
    return _by_task(results.outputs, _scores)


def compared(results: Results) -> str:
    """Each system against the first."""
    return _by_task(results.outputs_compared, _differences)


def by_duration(results: Results) -> str:
    """Scores by how long the utterances are."""
    return _by_task(results.outputs_by_duration, _durations)


def worst(results: Results) -> str:
    """Each system's worst outputs, with what was said and the reference."""
    parts = []
    for system in dict.fromkeys(w.system for w in results.worst):
        of_system = [w for w in results.worst if w.system == system]
        for pool in dict.fromkeys(_pool(w) for w in of_system):
            found = [_bad(w) for w in of_system if _pool(w) == pool]
            parts.append(f"<h3>{escape(system)}, {escape(pool)}</h3>")
            parts.append('<div class="samples">\n' + "\n".join(found[:WORST_SHOWN]) + "\n</div>")
            if folded := found[WORST_SHOWN:]:
                others = '<div class="samples">\n' + "\n".join(folded) + "\n</div>"
                parts.append(f"<details>\n<summary>{len(folded)} more</summary>\n{others}\n</details>")
    return "\n".join(parts)


def _by_task(rows: Sequence[SystemScores], show: Callable[[Sequence[SystemScores]], str]) -> str:
    found = [(title, [r for r in rows if r.task == task]) for task, title in _TASKS.items()]
    return "\n".join(f"<h3>{title}</h3>\n{show(of_task)}" for title, of_task in found if of_task)


def _scores(rows: Sequence[SystemScores]) -> str:
    measures = _held(rows)
    head = [*_languages_head(rows), "System", "n", "Missing", *(_MEASURES[m][0] for m in measures)]
    body = [[*_languages(r), r.system, _count(r.n), _count(r.missing), *(_value(r, m) for m in measures)] for r in rows]
    caption = ["In brackets: 95% intervals. Missing outputs count as empty."]
    caption += [_POOLED] if any(r.source is None for r in rows) else []
    return _shown(rows, head, body, caption, measures)


def _durations(rows: Sequence[SystemScores]) -> str:
    measures = _held(rows)
    head = [*_languages_head(rows), "System", "Duration", "n", *(_MEASURES[m][0] for m in measures)]
    body = [
        [*_languages(r), r.system, r.duration or DASH, _count(r.n), *(_value(r, m) for m in measures)] for r in rows
    ]
    caption = ["In brackets: 95% intervals. All languages spoken are one corpus here."]
    return _shown(rows, head, body, caption, measures, text=1)


def _differences(rows: Sequence[SystemScores]) -> str:
    measures = [m for m in _held(rows) if m != "chrf"]  # beside chrF++ it tells nothing new
    head = [*_languages_head(rows), "Systems", "n", *(_MEASURES[m][0] for m in measures)]
    body = [
        [*_languages(r), f"{r.system} − {r.against}", _count(r.n), *(_difference(r, m) for m in measures)] for r in rows
    ]
    caption = [f"Paired differences with 95% intervals. {_DIFFERENT}"]
    return _shown(rows, head, body, caption, measures)


def _shown(
    rows: Sequence[SystemScores],
    head: Sequence[str],
    body: Sequence[Sequence[str]],
    caption: Sequence[str],
    measures: Iterable[str],
    *,
    text: int = 0,
) -> str:
    """The table, with a rule between systems and targets, what wasn't scored below it, and the signatures."""
    bodies: list[list[Sequence[str]]] = []
    last = None
    for r, cells in zip(rows, body, strict=True):
        if (r.system, r.against, r.target if r.task == "translate" else None) != last:
            bodies.append([])
            last = (r.system, r.against, r.target if r.task == "translate" else None)
        bodies[-1].append(cells)
    columns = len(_languages_head(rows)) + 1 + text
    reasons = [
        f"{_MEASURES[m][0]} isn't scored: {found.reason}."
        for r in rows
        for m in measures
        if (found := getattr(r, m)) is not None and found.reason
    ]
    said = " ".join([*caption, *dict.fromkeys(reasons)])
    shown = table(head, bodies, caption=said, text_columns=columns, pinned=True, dense=True)
    marks = [
        (_MEASURES[m][0], f"{r.spoken} → {name_of(r.target)}" if r.target else r.spoken, found.signature)
        for r in rows
        for m in measures
        if (found := getattr(r, m)) is not None
    ]
    signatures = signatures_by_label(marks)
    return f"{shown}\n<details>\n<summary>Signatures</summary>\n{signatures}\n</details>" if signatures else shown


def _bad(output: BadOutput) -> str:
    unit = "" if output.task == "translate" else "%"
    score = f"{_METRICS.get(output.metric, output.metric)} {number(output.score, 1)}{unit}"
    spoken, written = name_of(output.source), name_of(output.target)
    return text_lines(
        [
            (score, output.id, ""),
            (f"Said ({spoken})" if spoken else "Said", _unless_reference(output), output.source),
            (f"Reference ({written})" if written else "Reference", output.reference, output.target),
            (output.system, output.hypothesis, output.target),
        ]
    )


def _unless_reference(output: BadOutput) -> str | None:
    return None if output.task == "transcribe" else output.transcript


def _pool(output: BadOutput) -> str:
    return "transcripts" if output.task == "transcribe" else f"into {name_of(output.target)}"


def _held(rows: Sequence[SystemScores]) -> list[str]:
    return [m for m in _MEASURES if any(getattr(r, m) is not None for r in rows)]


def _value(row: SystemScores, measure: str) -> str:
    found: Measured | None = getattr(row, measure)
    if found is None:
        return DASH
    if found.reason is not None:
        return _NOT_SCORED
    _, scale, digits = _MEASURES[measure]
    shown = with_interval(found.value, found.ci, scale, digits=digits, below=True)
    return Html(f"{escape(_unit(found))} {escape(shown)}") if measure == "error" else shown


def _difference(row: SystemScores, measure: str) -> str:
    """A difference, its interval and both p, below one another."""
    found: Measured | None = getattr(row, measure)
    if found is None:
        return DASH
    if found.reason is not None:
        return _NOT_SCORED
    shown = signed(found, below=True, digits=_MEASURES[measure][2])
    return Html(f'{escape(shown)}<span class="sub">p {escape(both_p_values(found))}</span>')


def _unit(found: Measured) -> str:
    """What an error rate counts, by its signature."""
    unit = (found.signature or "").partition("|")[0]
    return unit.upper() if unit in ("wer", "cer") else ""


def _languages_head(rows: Sequence[SystemScores]) -> list[str]:
    return ["Spoken", "Into"] if rows[0].task == "translate" else ["Spoken"]


def _languages(row: SystemScores) -> list[str]:
    spoken = row.spoken.capitalize() if row.source is None else row.spoken
    return [spoken, name_of(row.target or "") or DASH] if row.task == "translate" else [spoken]


def _count(n: int | None) -> str:
    return DASH if n is None else str(n)
