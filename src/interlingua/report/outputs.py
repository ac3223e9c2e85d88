"""The page's sections on systems' outputs: their scores, one against another, by duration, and the worst of them."""

from collections.abc import Callable, Iterable, Sequence

from interlingua.report.markup import details, escape, signatures_by_label, text_lines
from interlingua.report.tables import Block, Cell, Number, Table, count, difference, score
from interlingua.results import BadOutput, Measured, Results, SystemScores, name_of

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


def systems(results: Results) -> list[Block]:
    """Every system's scores by language spoken, and pooled."""
    return _by_task(results.outputs, _scores)


def compared(results: Results) -> list[Block]:
    """Each system against the first."""
    return _by_task(results.outputs_compared, _differences)


def by_duration(results: Results) -> list[Block]:
    """Scores by how long the utterances are."""
    return _by_task(results.outputs_by_duration, _durations)


def worst(results: Results) -> list[Block]:
    """Each system's worst outputs, with what was said and the reference."""
    parts: list[Block] = []
    for system in dict.fromkeys(w.system for w in results.worst):
        of_system = [w for w in results.worst if w.system == system]
        for pool in dict.fromkeys(_pool(w) for w in of_system):
            found = [_bad(w) for w in of_system if _pool(w) == pool]
            parts.append(f"<h3>{escape(system)}, {escape(pool)}</h3>")
            parts.append('<div class="samples">\n' + "\n".join(found[:WORST_SHOWN]) + "\n</div>")
            if folded := found[WORST_SHOWN:]:
                others = '<div class="samples">\n' + "\n".join(folded) + "\n</div>"
                parts += details(f"{len(folded)} more", [others])
    return parts


def _by_task(rows: Sequence[SystemScores], show: Callable[[Sequence[SystemScores], str], list[Block]]) -> list[Block]:
    found = [(title, [r for r in rows if r.task == task]) for task, title in _TASKS.items()]
    return [
        block for title, of_task in found if of_task for block in [f"<h3>{title}</h3>", *show(of_task, title.lower())]
    ]


def _scores(rows: Sequence[SystemScores], what: str) -> list[Block]:
    measures = _held(rows)
    head = [*_languages_head(rows), "System", "n", "Missing", *_heads(measures)]
    body = [[*_languages(r), r.system, count(r.n), count(r.missing), *_values(r, measures)] for r in rows]
    caption = ["In brackets: 95% intervals. Missing outputs count as empty."]
    caption += [_POOLED] if any(r.source is None for r in rows) else []
    return _shown(rows, f"Scores of {what}", head, body, caption, measures)


def _durations(rows: Sequence[SystemScores], what: str) -> list[Block]:
    measures = _held(rows)
    head = [*_languages_head(rows), "System", "Duration", "n", *_heads(measures)]
    body = [[*_languages(r), r.system, r.duration, count(r.n), *_values(r, measures)] for r in rows]
    caption = ["In brackets: 95% intervals. All languages spoken are one corpus here."]
    return _shown(rows, f"Scores of {what} by duration", head, body, caption, measures, text=1)


def _differences(rows: Sequence[SystemScores], what: str) -> list[Block]:
    measures = [m for m in _held(rows) if m != "chrf"]  # beside chrF++ it tells nothing new
    head = [*_languages_head(rows), "Systems", "n", *(_MEASURES[m][0] for m in measures)]
    body = [
        [*_languages(r), f"{r.system} − {r.against}", count(r.n), *(_difference(r, m) for m in measures)] for r in rows
    ]
    caption = [f"Paired differences with 95% intervals. {_DIFFERENT}"]
    return _shown(rows, f"Differences of {what}", head, body, caption, measures)


def _shown(
    rows: Sequence[SystemScores],
    title: str,
    head: Sequence[str],
    body: Sequence[Sequence[Cell]],
    caption: Sequence[str],
    measures: Iterable[str],
    *,
    text: int = 0,
) -> list[Block]:
    """The table, with a rule between systems and targets, what wasn't scored below it, and the signatures."""
    bodies: list[list[Sequence[Cell]]] = []
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
    name = title.lower().replace(" ", "-")
    shown = Table(
        name=name, title=title, head=head, bodies=bodies, caption=said, text_columns=columns, pinned=True, dense=True
    )
    marks = [
        (_MEASURES[m][0], f"{r.spoken} → {name_of(r.target)}" if r.target else r.spoken, found.signature)
        for r in rows
        for m in measures
        if (found := getattr(r, m)) is not None
    ]
    signatures = signatures_by_label(marks)
    return [shown, *(details("Signatures", [signatures]) if signatures else [])]


def _bad(output: BadOutput) -> str:
    unit = "" if output.task == "translate" else "%"
    score = f"{_METRICS.get(output.metric, output.metric)} {Number(output.score).shown}{unit}"
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


def _heads(measures: Iterable[str]) -> list[str]:
    return [head for m in measures for head in (["Unit"] if m == "error" else []) + [_MEASURES[m][0]]]


def _values(row: SystemScores, measures: Iterable[str]) -> list[Cell]:
    """A score of each measure; an error rate's unit stands before it."""
    cells: list[Cell] = []
    for measure in measures:
        found: Measured | None = getattr(row, measure)
        _, scale, digits = _MEASURES[measure]
        shown: Cell = score(found, scale, digits=digits, below=True)
        if measure == "error":
            cells.append(_unit(found))
        cells.append(_NOT_SCORED if found is not None and found.reason is not None else shown)
    return cells


def _difference(row: SystemScores, measure: str) -> Cell:
    """A difference, its interval and both p, below one another."""
    found: Measured | None = getattr(row, measure)
    if found is not None and found.reason is not None:
        return _NOT_SCORED
    return difference(found, digits=_MEASURES[measure][2], below=True, both_p=True)


def _unit(found: Measured | None) -> str:
    """What an error rate counts, by its signature."""
    unit = ((found and found.signature) or "").partition("|")[0]
    return unit.upper() if unit in ("wer", "cer") else ""


def _languages_head(rows: Sequence[SystemScores]) -> list[str]:
    return ["Spoken", "Into"] if rows[0].task == "translate" else ["Spoken"]


def _languages(row: SystemScores) -> list[str]:
    spoken = row.spoken.capitalize() if row.source is None else row.spoken
    return [spoken, name_of(row.target or "")] if row.task == "translate" else [spoken]
