"""Pictures of a fine-tuning for the page: scores before and after, and what each variant gains and loses."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from interlingua.report.drawing import ACCENT, PAPER, STAND_IN, style, svg
from interlingua.report.labels import label_points
from interlingua.results import Change, Metric, Variant

_WIDTH = 5.6  # inches
_ROW, _HEADING = 0.36, 0.34  # inches
_APART = 0.17  # of a row: before and after to either side of its middle
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
_DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)))
_STEPS = (1, 2, 2.5, 5, 10)  # of ticks
_UNTRAINED = "before training"

_BEFORE: dict[str, Any] = {
    "markersize": 6.0,
    "markerfacecolor": PAPER,
    "markeredgecolor": STAND_IN,
    "markeredgewidth": 1.1,
}
_AFTER: dict[str, Any] = {
    "markersize": 6.5,
    "markerfacecolor": ACCENT,
    "markeredgecolor": ACCENT,
    "markeredgewidth": 1.1,
}

Row = tuple[str, str, Change]
"""Group, or nothing; label; scores."""


def changes_svg(rows: Sequence[Row], quantity: str, name: str) -> str:
    """A row for each label, before (hollow) and after (filled) with intervals, under headings of groups."""
    with style(STAND_IN):
        return svg(_changes(rows, quantity), name)


def pareto_svg(variants: Sequence[Variant], name: str) -> str:
    """A point for each variant: to the right what old tasks keep, upwards what the new target gains."""
    with style(STAND_IN):
        return svg(_pareto(variants), name)


def _changes(rows: Sequence[Row], quantity: str) -> Figure:
    places: list[float] = []
    headings: list[tuple[float, str]] = []
    top = 0.0
    for group, members in groupby(rows, key=lambda row: row[0]):
        if group:
            headings.append((top + _HEADING / 2, group))
            top += _HEADING
        for _ in members:
            places.append(top + _ROW / 2)
            top += _ROW
    figure = Figure(figsize=(_WIDTH, top))
    axes = figure.add_axes((0, 0, 1, 1))
    for place, (_, _, change) in zip(places, rows, strict=True):
        _dumbbell(axes, place, change)
    for place, group in headings:
        axes.text(0, place, group, transform=axes.get_yaxis_transform(), va="center", fontsize=9, weight="bold")
        if place > _HEADING:
            axes.axhline(place - _HEADING / 2, color=STAND_IN, linewidth=0.5, alpha=0.35)
    axes.set_ylim(top, 0)
    axes.set_yticks(places, [label for _, label, _ in rows])
    axes.tick_params(axis="y", length=0, labelsize=10)
    _plain(axes, quantity)
    axes.grid(axis="x", color=STAND_IN, linewidth=0.4, alpha=0.2)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    for label, look in (("before", _BEFORE), ("after", _AFTER)):
        axes.plot([], [], linestyle="", marker="o", label=label, **look)
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), bbox_transform=axes.transAxes, ncols=2, frameon=False, fontsize=9,
        handletextpad=0.2, columnspacing=1.4, borderaxespad=0.2,
    )  # fmt: skip
    return figure


def _dumbbell(axes: Axes, place: float, change: Change) -> None:
    """Before above, after below: so that their intervals don't cover each other."""
    above, below = place - _APART * _ROW, place + _APART * _ROW
    before, after = _value(change.before), _value(change.after)
    if before is not None and after is not None:
        axes.plot([before, after], [above, below], color=STAND_IN, linewidth=2.5, alpha=0.22)
    for metric, y, colour, look in (
        (change.before, above, STAND_IN, _BEFORE),
        (change.after, below, ACCENT, _AFTER),
    ):
        if metric is None or metric.value is None:
            continue
        if metric.ci is not None:
            axes.plot(metric.ci, [y, y], color=colour, linewidth=1.3)
        axes.plot([metric.value], [y], linestyle="", marker="o", **look)


def _pareto(variants: Sequence[Variant]) -> Figure:
    figure = Figure(figsize=(7.2, 5.0))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axhline(0, color=STAND_IN, linewidth=0.6, alpha=0.4)
    axes.axvline(0, color=STAND_IN, linewidth=0.6, alpha=0.4)
    axes.plot([0], [0], linestyle="", marker="+", markersize=9, color=STAND_IN, zorder=3)
    lines: list[np.ndarray] = []
    for i, variant in enumerate(variants):
        x, y = variant.loss.value, variant.gain.value
        if variant.curve:
            path = np.array([(loss, gain) for gain, loss in variant.curve])
            axes.plot(*path.T, color=STAND_IN, linewidth=0.9, alpha=0.65, linestyle=_DASHES[i % len(_DASHES)])
            lines.append(path)
        across = [(end, y) for end in variant.loss.ci or ()]
        upwards = [(x, end) for end in variant.gain.ci or ()]
        for bar in (np.array(ends) for ends in (across, upwards) if ends):
            axes.plot(*bar.T, color=ACCENT, linewidth=1.0, alpha=0.8)
            lines.append(bar)
        axes.plot([x], [y], linestyle="", marker=_MARKERS[i % len(_MARKERS)], zorder=3, **_AFTER)
    axes.margins(0.08)
    _plain(axes, "change on the old tasks: X → English, chrF")
    axes.set_ylabel("gain on the new target: sources never trained on, chrF", fontsize=9)
    axes.tick_params(axis="y", labelsize=9)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=_STEPS))
    points = [(0.0, 0.0), *((v.loss.value, v.gain.value) for v in variants)]
    label_points(axes, [_UNTRAINED, *(v.name for v in variants)], points, lines)
    return figure


def _plain(axes: Axes, quantity: str) -> None:
    """The look that the pictures share: no box, few ticks."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(7, steps=_STEPS))
    axes.tick_params(axis="x", labelsize=9)
    axes.set_xlabel(quantity, fontsize=9)


def _value(metric: Metric | None) -> float | None:
    return None if metric is None else metric.value
