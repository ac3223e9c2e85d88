"""Where the labels of a picture's points go: close to their points, never on one another."""

from collections.abc import Sequence
from itertools import count, pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from interlingua.report.drawing import PAPER, STAND_IN

_FIRST, _STEP = 7.0, 6.0  # distance of the nearest labels, and from one try to the next
_DIRECTIONS = np.pi / 8 * np.array([1, 7, 0, 8, 4, 12, 15, 9, 2, 6, 14, 10, 3, 5, 13, 11])  # the best first
_BEHIND = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.6, "alpha": 0.8}  # a label, above lines
_SAMPLED, _LEADER = 4.0, 14.0  # points: between places to avoid; from which on a label has a leader
_CROSSING, _OUTSIDE = 4.0, 200.0  # cost of an obstacle below a label, and of a label beyond the bounds


def label_points(
    axes: Axes, names: Sequence[str], points: Sequence[tuple[float, float]], lines: Sequence[np.ndarray]
) -> None:
    """Write the names near their points, where they cover neither each other nor, if it can be, anything else."""
    figure = axes.figure
    assert isinstance(figure, Figure)
    axes.autoscale_view()  # or what is drawn later moves everything
    scale = 72 / figure.dpi  # pixels -> points
    places = scale * axes.transData.transform(points)
    paths = [scale * axes.transData.transform(line) for line in lines]
    dots = [_along(path) for path in paths]
    drawn = [axes.text(0, 0, name, fontsize=8.5) for name in names]
    sizes = [(scale * box.width + 4, scale * box.height + 1) for box in (text.get_window_extent() for text in drawn)]
    for text in drawn:
        text.remove()
    bounds = scale * axes.transAxes.transform((1, 1))
    centres = place_labels([tuple(p) for p in places], sizes, np.vstack([np.empty((0, 2)), *dots]), tuple(bounds))
    for name, size, point, place, centre in zip(names, sizes, points, places, centres, strict=True):
        gap = np.maximum(np.abs(np.array(centre) - place) - np.array(size) / 2, 0)
        line = {"arrowstyle": "-", "color": STAND_IN, "linewidth": 0.4, "alpha": 0.6, "shrinkA": 0, "shrinkB": 3}
        axes.annotate(
            name, point, tuple(np.array(centre) - place), textcoords="offset points", ha="center", va="center",
            fontsize=8.5, bbox=_BEHIND, zorder=2.5, arrowprops=line if np.hypot(*gap) > _LEADER else None,
            annotation_clip=False,
        )  # fmt: skip


def _along(path: np.ndarray) -> np.ndarray:
    """Places along a path of (N, 2) points, a few points of length apart."""
    pieces = [np.linspace(a, b, 2 + int(np.hypot(*(b - a)) / _SAMPLED)) for a, b in pairwise(path)]
    return np.vstack([path[:1], *pieces])


def place_labels(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    obstacles: np.ndarray,
    bounds: tuple[float, float],
) -> list[tuple[float, float]]:
    """Centres of labels for points, one by one: near, on few obstacles, within bounds if it can be.

    Args:
        points: what is labelled, in any unit of length.
        sizes: width and height of each label.
        obstacles: (N, 2) places that are better left free; the points themselves are.
        bounds: width and height of the picture, whose corner is (0, 0).

    Returns:
        The centre of each label; no two labels overlap.
    """
    centres: list[np.ndarray] = []
    avoid = np.vstack([np.asarray(obstacles, float).reshape(-1, 2), np.repeat(np.asarray(points), 8, axis=0)])
    for point, size in zip(points, sizes, strict=True):
        best, least = np.zeros(2), np.inf
        for distance in (_FIRST + _STEP * i for i in count()):
            if distance >= least:  # nothing farther costs less
                break
            for order, angle in enumerate(_DIRECTIONS):
                away = np.array([np.cos(angle), np.sin(angle)])
                centre = np.asarray(point) + away * (np.asarray(size) / 2 + distance)
                if _overlaps(centre, size, centres, sizes):
                    continue
                half = np.asarray(size) / 2
                cost = distance + 0.1 * order
                cost += _CROSSING * int((np.abs(avoid - centre) < half + 2).all(axis=1).sum())
                cost += _OUTSIDE * bool((centre < half).any() or (centre > np.asarray(bounds) - half).any())
                if cost < least:
                    best, least = centre, cost
        centres.append(best)
    return [(float(x), float(y)) for x, y in centres]


def _overlaps(
    centre: np.ndarray, size: tuple[float, float], placed: Sequence[np.ndarray], sizes: Sequence[tuple[float, float]]
) -> bool:
    return any(
        bool((np.abs(centre - other) < (np.asarray(size) + np.asarray(its)) / 2).all())
        for other, its in zip(placed, sizes, strict=False)
    )
