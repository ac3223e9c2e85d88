"""The picture of a comparison: a row for each thing measured, a mark for each run."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from interlingua.report.drawing import ACCENT, PAPER, STAND_IN, style, svg
from interlingua.results import Metric

_WIDTH = 5.6  # inches
_APART, _BETWEEN = 0.14, 0.2  # inches: runs of one row; rows
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")


def runs_svg(rows: Sequence[tuple[str, Sequence[Metric | None]]], runs: Sequence[str], quantity: str, name: str) -> str:
    """A row for each label, in it a mark and its interval for each run; the first run's mark is hollow."""
    with style(STAND_IN):
        return svg(_draw(rows, runs, quantity), name)


def _draw(rows: Sequence[tuple[str, Sequence[Metric | None]]], runs: Sequence[str], quantity: str) -> Figure:
    row = _APART * len(runs) + _BETWEEN
    figure = Figure(figsize=(_WIDTH, row * len(rows)))
    axes = figure.add_axes((0, 0, 1, 1))
    for i, label in enumerate(runs):
        colour = STAND_IN if i == 0 else ACCENT
        marker = _MARKERS[i % len(_MARKERS)]
        look: dict[str, Any] = {
            "markerfacecolor": PAPER if i == 0 else ACCENT,
            "markeredgecolor": colour,
            "markersize": 5.5,
        }
        for place, (_, scores) in enumerate(rows):
            score = scores[i]
            if score is None or score.value is None:
                continue
            y = row * place + (row - _APART * (len(runs) - 1)) / 2 + _APART * i
            if score.ci is not None:
                axes.plot(score.ci, [y, y], color=colour, linewidth=1.3)
            axes.plot([score.value], [y], linestyle="", marker=marker, **look)
        axes.plot([], [], linestyle="", marker=marker, label=label, **look)
    axes.set_ylim(row * len(rows), 0)
    axes.set_yticks([row * (i + 0.5) for i in range(len(rows))], [label for label, _ in rows])
    axes.tick_params(axis="y", length=0, labelsize=9)
    for i in range(1, len(rows)):
        axes.axhline(row * i, color=STAND_IN, linewidth=0.4, alpha=0.15)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(7, steps=(1, 2, 2.5, 5, 10)))
    axes.tick_params(axis="x", labelsize=9)
    axes.set_xlabel(quantity, fontsize=9)
    axes.grid(axis="x", color=STAND_IN, linewidth=0.4, alpha=0.2)
    axes.set_axisbelow(True)
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), bbox_transform=axes.transAxes, ncols=2, frameon=False, fontsize=9,
        handletextpad=0.2, columnspacing=1.4, borderaxespad=0.2,
    )  # fmt: skip
    return figure
