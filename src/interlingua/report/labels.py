"""Where the labels of a picture's points go: close to their points, never on one another."""

from collections.abc import Sequence
from itertools import count

import numpy as np

_FIRST, _STEP = 7.0, 6.0  # distance of the nearest labels, and from one try to the next
_DIRECTIONS = np.pi / 8 * np.array([1, 7, 0, 8, 4, 12, 15, 9, 2, 6, 14, 10, 3, 5, 13, 11])  # the best first
_CROSSING, _OUTSIDE = 4.0, 200.0  # cost of an obstacle below a label, and of a label beyond the bounds


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
