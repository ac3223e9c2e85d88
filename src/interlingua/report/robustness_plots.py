"""Pictures of what is kept at a distance: a point for each language, readable without colour."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from interlingua.report.drawing import ACCENT, PAPER, STAND_IN, style, svg
from interlingua.report.labels import label_points


@dataclass(frozen=True)
class DistantPoint:
    """A language: its distance, a score with its interval, and whether the model has a token for it."""

    name: str
    distance: float
    value: float
    ci: tuple[float, float] | None
    seen: bool


def distance_svg(points: Sequence[DistantPoint], x: str, y: str, name: str, chance: float | None = None) -> str:
    """Scores against distance: filled circles have a token, hollow diamonds have none; bars are intervals.

    Args:
        points: the languages.
        x: what the distance is.
        y: what the score is.
        name: of the picture, unique on its page.
        chance: a level that is drawn as a dashed line; None: there is none.
    """
    with style(STAND_IN):
        return svg(_draw(points, x, y, chance), name)


def _draw(points: Sequence[DistantPoint], x: str, y: str, chance: float | None) -> Figure:
    figure = Figure(figsize=(6.4, 3.9))
    axes = figure.add_axes((0, 0, 1, 1))
    lines: list[np.ndarray] = []
    for p in points:
        if p.ci is not None:
            axes.plot([p.distance, p.distance], p.ci, color=STAND_IN, linewidth=0.9, alpha=0.6)
            lines.append(np.array([(p.distance, p.ci[0]), (p.distance, p.ci[1])]))
        axes.plot(
            [p.distance], [p.value], linestyle="", marker="o" if p.seen else "D", markersize=6.5 if p.seen else 6.0,
            markerfacecolor=ACCENT if p.seen else PAPER, markeredgecolor=ACCENT if p.seen else STAND_IN,
            markeredgewidth=1.1, zorder=3, clip_on=False,
        )  # fmt: skip
    if chance is not None:
        axes.axhline(chance, color=STAND_IN, linewidth=0.8, linestyle=(0, (5, 3)), alpha=0.7)
        axes.annotate(
            "chance", (1, chance), xycoords=("axes fraction", "data"), xytext=(4, 0), textcoords="offset points",
            ha="left", va="center", fontsize=8,
        )  # fmt: skip
    axes.margins(x=0.12, y=0.1)
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, steps=(1, 2, 2.5, 5, 10)))
    axes.tick_params(labelsize=9)
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    label_points(axes, [p.name for p in points], [(p.distance, p.value) for p in points], lines)
    return figure
