"""The rows of a comparison: what several runs measured of one thing, and a picture and a table of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from interlingua.report import comparison_plots as plots
from interlingua.report.markup import details, escape, figure, signatures_by_label
from interlingua.report.pairing import Run
from interlingua.report.tables import Block, Cell, Table, difference, p_value, score
from interlingua.results import Difference, Metric

_DRAWN = 40  # rows up to which a table has a picture
_PAIRED = (
    "p: two-sided, by approximate randomisation, not corrected for the number of rows. A difference without an "
    "interval is not tested: what came out for each utterance wasn't kept or is of other utterances, or the score has "
    "no test."
)


@dataclass(frozen=True)
class Line:
    """One thing that several runs measured.

    Attributes:
        label: what it is.
        scores: one a run; None where it wasn't measured.
        differences: one a run but the first, less the first; paired where it has an interval.
    """

    label: str
    scores: Sequence[Metric | None]
    differences: Sequence[Difference | None]


def not_tested(i: int) -> Difference | None:
    """What `compared` takes where there is no paired test."""
    return None


def compared(label: str, scores: Sequence[Metric | None], paired: Callable[[int], Difference | None]) -> Line:
    """A line of each run's score, and how much the others' are above the first's.

    Args:
        label: what is measured.
        scores: one a run.
        paired: place of a run -> its paired difference from the first; None: the plain one is taken.
    """
    first, *others = (score.value if score else None for score in scores)
    differences = [
        None if first is None or other is None else paired(i) or Difference(value=other - first)
        for i, other in enumerate(others, start=1)
    ]
    return Line(label, scores, differences)


def side_by_side(
    runs: Sequence[Run],
    name: str,
    quantity: str,
    lines: Sequence[Line],
    caption: str,
    *,
    what: str = "Languages",
    digits: int = 1,
) -> list[Block]:
    """A picture and a table of what several runs measured; nothing where none but the first did.

    Args:
        runs: the first is the one that the others are compared with.
        name: of the table and the picture.
        quantity: what is measured, as the axis says it.
        lines: of each thing that was measured.
        caption: plain text.
        what: head of the labels' column.
        digits: of the scores that are shown.
    """
    held = [line for line in lines if any(line.differences)]
    if not held:
        return []
    names = [run.name for run in runs]
    parts: list[Block] = []
    if len(held) <= _DRAWN:
        drawn = plots.runs_svg([(line.label, line.scores) for line in held], names, quantity, name)
        parts.append(figure(drawn, f"<b>{escape(caption)}</b> Bars: 95% intervals. The axis need not begin at 0."))
    head = [what, *names, *(label for other in names[1:] for label in (f"{other} − {names[0]}", f"p, {other}"))]
    rows: list[list[Cell]] = [
        [
            line.label,
            *(score(s, below=True, digits=digits) for s in line.scores),
            *(cell for d in line.differences for cell in (difference(d, below=True, digits=digits), p_value(d))),
        ]
        for line in held
    ]
    caption += f" In brackets: 95% intervals. {_PAIRED}"
    parts.append(
        Table(name=name, title=quantity, head=head, bodies=[rows], caption=caption, pinned=True, dense=True, ruled=True)
    )
    marks = [
        (other, line.label, d.signature)
        for line in held
        for other, d in zip(names[1:], line.differences, strict=True)
        if d
    ]
    signatures = signatures_by_label(marks)
    return parts + (details("Signatures of the differences", [signatures]) if signatures else [])


def scaled(metric: Metric | None, scale: float) -> Metric | None:
    """A score and its interval times ``scale``."""
    if metric is None or metric.value is None:
        return None
    ci = metric.ci and (scale * metric.ci[0], scale * metric.ci[1])
    return Metric(value=scale * metric.value, ci=ci, n=metric.n, signature=metric.signature)
