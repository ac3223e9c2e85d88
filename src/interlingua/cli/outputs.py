"""How `evaluate outputs` shows its results: tables of text, then what was not scored, and the signatures."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_MEASURES = {  # key in results.json -> column head, what it is multiplied by, digits
    "bleu": ("BLEU", 1, 1),
    "chrf++": ("chrF++", 1, 1),
    "chrf": ("chrF", 1, 1),
    "off_target": ("off target %", 100, 1),
    "comet": ("COMET", 1, 4),
    "error": ("error %", 1, 1),
}
_NOT_SCORED = "not scored"

Row = Mapping[str, Any]


def print_outputs(results: Mapping[str, Any]) -> None:
    """Print every table of `interlingua.experiments.outputs.evaluate_outputs`."""
    rows, compared = results["outputs"], results["outputs_compared"]
    for task, title in (("translate", "Translations"), ("transcribe", "Transcripts")):
        _scores([r for r in rows if r["task"] == task], f"{title} [95% CI]", ("system", "system"), ("languages", _pair))
        _differences([r for r in compared if r["task"] == task], f"{title}: differences")
        timed = [r for r in results["outputs_by_duration"] if r["task"] == task]
        columns = (("system", "system"), ("languages", _pair), ("duration", "duration"))
        _scores(timed, f"{title} by duration [95% CI]", *columns)
    _worst(results["worst"])
    everything = [*rows, *compared]
    _listed(
        "Not scored", (f"{_MEASURES[m][0]}: {r[m]['reason']}" for r in everything for m in _held(r) if _lacks(r[m]))
    )
    _listed(
        "Signatures", (f"{_MEASURES[m][0]}: {r[m]['signature']}" for r in rows for m in _held(r) if not _lacks(r[m]))
    )


def _scores(rows: Sequence[Row], title: str, *columns: tuple[str, Any]) -> None:
    if not rows:
        return
    measures = list(dict.fromkeys(m for r in rows for m in _held(r)))
    missing = "missing" in rows[0]
    head = [name for name, _ in columns] + [
        "n",
        *(["missing"] if missing else []),
        *(_MEASURES[m][0] for m in measures),
    ]
    body = [
        [
            *(column(r) if callable(column) else r[column] for _, column in columns),
            str(r["n"]),
            *([str(r["missing"])] if missing else []),
            *(_value(r, m) for m in measures),
        ]
        for r in rows
    ]
    _table(title, head, body, text=len(columns))


def _differences(rows: Sequence[Row], title: str) -> None:
    body = [
        [f"{r['system']} - {r['against']}", _pair(r), str(r["n"]), _MEASURES[m][0], *_difference(r[m], _MEASURES[m])]
        for r in rows
        for m in _held(r)
    ]
    head = ["systems", "languages", "n", "score", "difference [95% CI]", "p bootstrap", "p randomisation"]
    if body:
        _table(title, head, body, text=2)


def _worst(rows: Sequence[Row]) -> None:
    for system in dict.fromkeys(r["system"] for r in rows):
        print(f"\nWorst outputs of {system}")
        for r in rows:
            if r["system"] == system:
                score = f"{r['metric']} {r['score']:.1f}{'' if r['task'] == 'translate' else ' %'}"
                print(f"  {r['id']}  {r['source']}-{r['target']}  {score}")
                print(f"    reference:  {_line(r['reference'])}")
                print(f"    hypothesis: {_line(r['hypothesis']) or '(empty)'}")


def _listed(title: str, lines: Iterable[str]) -> None:
    found = list(dict.fromkeys(lines))
    if found:
        print(f"\n{title}", *(f"  {line}" for line in found), sep="\n")


def _line(text: str) -> str:
    return " ".join(text.split())


def _held(row: Row) -> list[str]:
    return [m for m in _MEASURES if m in row]


def _lacks(score: Mapping[str, Any]) -> bool:
    return "reason" in score


def _value(row: Row, measure: str) -> str:
    if measure not in row:
        return ""
    if _lacks(row[measure]):
        return _NOT_SCORED
    _, scale, digits = _MEASURES[measure]
    value, *interval = (f"{scale * v:.{digits}f}" for v in (row[measure]["value"], *(row[measure]["ci"] or ())))
    unit = row[measure]["signature"].partition("|")[0].upper() + " " if measure == "error" else ""
    return f"{unit}{value}{f' [{interval[0]}, {interval[1]}]' if interval else ''}"


def _difference(found: Mapping[str, Any], how: tuple[str, int, int]) -> list[str]:
    if _lacks(found):
        return [_NOT_SCORED, "", ""]
    _, scale, digits = how
    value, low, high = (f"{scale * v:+.{digits}f}" for v in (found["value"], *found["ci"]))
    return [f"{value} [{low}, {high}]", f"{found['p_bootstrap']:.3f}", f"{found['p_randomisation']:.3f}"]


def _pair(row: Row) -> str:
    source = row["source"] or f"all {len(row['sources'])}"
    return source if row["task"] == "transcribe" else f"{source}-{row['target']}"


def _table(title: str, head: Sequence[str], body: Sequence[Sequence[str]], *, text: int) -> None:
    widths = [max(len(row[i]) for row in (head, *body)) for i in range(len(head))]
    print(f"\n{title}")
    for row in (head, *body):
        cells = (c.ljust(w) if i < text else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        print("  " + "  ".join(cells).rstrip())
