"""The tables of `evaluate outputs`, then what was not scored, and the signatures."""

from collections.abc import Callable, Iterable, Sequence

from interlingua.results import BadOutput, Measured, Results, ScoreLabels, SystemScores

_NOT_SCORED = "not scored"

Column = tuple[str, Callable[[SystemScores], str]]


def print_outputs(results: Results) -> None:
    """Print every table of `interlingua.experiments.outputs.evaluate_outputs`."""
    labels = results.score_labels
    system: Column = ("system", lambda r: r.system)
    languages: Column = ("languages", _pair)
    for task, title in (("translate", "Translations"), ("transcribe", "Transcripts")):
        rows, compared, timed = (
            [r for r in some if r.task == task]
            for some in (results.outputs, results.outputs_compared, results.outputs_by_duration)
        )
        _scores(rows, labels, f"{title} [95% CI]", system, languages)
        _differences(compared, labels, f"{title}: differences")
        duration: Column = ("duration", lambda r: r.duration or "")
        _scores(timed, labels, f"{title} by duration [95% CI]", system, languages, duration)
    _worst(results.worst)
    scored = [(labels[m][0], found) for r in results.outputs for m, found in r.scores.items()]
    compared_too = [(labels[m][0], found) for r in results.outputs_compared for m, found in r.scores.items()]
    _listed("Not scored", (f"{label}: {found.reason}" for label, found in scored + compared_too if found.reason))
    _listed("Signatures", (f"{label}: {found.signature}" for label, found in scored if not found.reason))


def _scores(rows: Sequence[SystemScores], labels: ScoreLabels, title: str, *columns: Column) -> None:
    if not rows:
        return
    measures = list(dict.fromkeys(m for r in rows for m in r.scores))
    missing = ["missing"] if rows[0].missing is not None else []
    head = [*(name for name, _ in columns), "n", *missing, *(labels[m][0] for m in measures)]
    body = [
        [
            *(column(r) for _, column in columns),
            str(r.n),
            *(str(r.missing) for _ in missing),
            *(_value(r.scores.get(m), m, labels[m]) for m in measures),
        ]
        for r in rows
    ]
    _table(title, head, body, text=len(columns))


def _differences(rows: Sequence[SystemScores], labels: ScoreLabels, title: str) -> None:
    body = [
        [f"{r.system} - {r.against}", _pair(r), str(r.n), labels[m][0], *_difference(found, labels[m])]
        for r in rows
        for m, found in r.scores.items()
    ]
    head = ["systems", "languages", "n", "score", "difference [95% CI]", "p bootstrap", "p randomisation"]
    if body:
        _table(title, head, body, text=2)


def _worst(rows: Sequence[BadOutput]) -> None:
    for system in dict.fromkeys(r.system for r in rows):
        print(f"\nWorst outputs of {system}")
        for r in rows:
            if r.system == system:
                score = f"{r.metric} {r.score:.1f}{'' if r.task == 'translate' else ' %'}"
                print(f"  {r.id}  {r.source}-{r.target}  {score}")
                print(f"    reference:  {_line(r.reference)}")
                print(f"    hypothesis: {_line(r.hypothesis) or '(empty)'}")


def _listed(title: str, lines: Iterable[str]) -> None:
    found = list(dict.fromkeys(lines))
    if found:
        print(f"\n{title}", *(f"  {line}" for line in found), sep="\n")


def _line(text: str | None) -> str:
    return " ".join((text or "").split())


def _value(found: Measured | None, measure: str, how: tuple[str, float, int]) -> str:
    if found is None or found.reason:
        return "" if found is None else _NOT_SCORED
    _, scale, digits = how
    value, *interval = (f"{scale * v:.{digits}f}" for v in (found.value, *(found.ci or ())))
    unit = (found.signature or "").partition("|")[0].upper() + " " if measure == "error" else ""
    return f"{unit}{value}{f' [{interval[0]}, {interval[1]}]' if interval else ''}"


def _difference(found: Measured, how: tuple[str, float, int]) -> list[str]:
    if found.reason:
        return [_NOT_SCORED, "", ""]
    _, scale, digits = how
    value, *interval = (f"{scale * v:+.{digits}f}" for v in (found.value, *(found.ci or ())))
    both = (f"{p:.3f}" if p is not None else "" for p in (found.p_bootstrap, found.p_randomisation))
    return [f"{value} [{', '.join(interval)}]", *both]


def _pair(row: SystemScores) -> str:
    source = row.source or f"all {len(row.sources)}"
    return source if row.task == "transcribe" else f"{source}-{row.target}"


def _table(title: str, head: Sequence[str], body: Sequence[Sequence[str]], *, text: int) -> None:
    widths = [max(len(row[i]) for row in (head, *body)) for i in range(len(head))]
    print(f"\n{title}")
    for row in (head, *body):
        cells = (c.ljust(w) if i < text else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        print("  " + "  ".join(cells).rstrip())
