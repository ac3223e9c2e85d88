"""The pictures: recall heat map, score matrix and alignment, as PNG files or as SVG for the page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from interlingua.errors import ResultsError
from interlingua.report.drawing import INK, STAND_IN, png, style, svg
from interlingua.report.summary import percent
from interlingua.results import Alignment, Match, Results, Side, name_of
from interlingua.retrieval.methods import PAPER_METHOD, method_label

COLOURS = "viridis"  # perceptually uniform, and readable for the colour-blind
_INTERVALS_UP_TO = 8  # languages: beyond, cells have no room for intervals
_WORD_POINTS = 8.0


def recall_heatmap(results: Results, path: Path, method: str = PAPER_METHOD) -> Path:
    """Write a PNG of R@1: query languages as rows, candidate languages as columns.

    Raises:
        ResultsError: ``method`` was not run on any pair of two languages.
    """
    with style(INK):
        return png(draw_recall(results, method, intervals=False), path)


def similarity_heatmap(results: Results, arrays: Mapping[str, np.ndarray], path: Path) -> Path:
    """Write a PNG of the stored score matrix: a row for each query, a column for each candidate.

    Raises:
        ResultsError: the folder holds no such matrix.
    """
    with style(INK):
        return png(draw_similarity(results, arrays), path)


def alignment_heatmap(results: Results, arrays: Mapping[str, np.ndarray], path: Path) -> Path:
    """Write a PNG of the frames of two utterances compared one by one, with their words placed in time.

    Where the alignment holds ``matches``, each pair of words is framed.

    Raises:
        ResultsError: the folder holds no alignment.
    """
    with style(INK):
        figure = draw_alignment(results, arrays)
        _frame_words(figure.axes[0], results.alignment.matches if results.alignment else [])
        _explain(figure, results)
        return png(figure, path)


def recall_svg(
    results: Results, method: str, *, small: bool = False, top: float | None = None, name: str | None = None
) -> str:
    """The recall heat map for the page; ``small`` leaves out intervals, names and colour bar.

    ``name``, where a page has several of one method, tells them apart.
    """
    with style(STAND_IN):
        figure = draw_recall(results, method, intervals=not small, small=small, top=top, title=False, ink=STAND_IN)
        return svg(figure, name or f"recall-{method}")


def similarity_svg(results: Results, arrays: Mapping[str, np.ndarray]) -> str:
    """The score matrix for the page."""
    with style(STAND_IN):
        return svg(draw_similarity(results, arrays, ink=STAND_IN), "similarity")


def alignment_svg(results: Results, arrays: Mapping[str, np.ndarray]) -> str:
    """The alignment for the page."""
    with style(STAND_IN):
        return svg(draw_alignment(results, arrays, ink=STAND_IN), "alignment")


def colour_top(results: Results) -> float:
    """Upper end of the recall colour scale that all methods of a report share: a round number, 0.1 to 1."""
    highest = max((r.r1 for r in results.retrieval if r.query != r.candidate), default=1.0)
    return min(1.0, max(0.1, float(np.ceil(highest * 10 - 1e-9)) / 10))


def has_matrix(arrays: Mapping[str, np.ndarray], name: str) -> bool:
    """Whether the arrays hold a picture's matrix: two axes, not empty, numbers."""
    matrix = arrays.get(name)
    return (
        matrix is not None
        and matrix.ndim == 2
        and matrix.size > 0
        and np.issubdtype(matrix.dtype, np.floating)
        and bool(np.isfinite(matrix).any())
    )


def draw_recall(
    results: Results,
    method: str,
    *,
    intervals: bool,
    small: bool = False,
    top: float | None = None,
    title: bool = True,
    ink: str = INK,
) -> Figure:
    """Draw the recall heat map; to be called within `style`."""
    scores = results.scores(method)
    if not scores:
        run = ", ".join(results.methods) or "none"
        raise ResultsError(f"no retrieval results of method {method!r} (methods run: {run})")
    codes = [c for c in results.languages if small or any(c in pair for pair in scores)]
    size = len(codes)
    grid = np.full((size, size), np.nan)
    for (query, candidate), score in scores.items():
        grid[codes.index(query), codes.index(candidate)] = score.r1
    cell = 0.46 if small else max(0.45, min(0.92, 5.5 / size))  # inches
    figure = Figure(figsize=(cell * size, cell * size))
    axes = figure.add_axes((0, 0, 1, 1))
    image = axes.imshow(
        np.ma.masked_invalid(grid), cmap=COLOURS, vmin=0, vmax=top or colour_top(results), aspect="equal"
    )
    with_intervals = intervals and size <= _INTERVALS_UP_TO
    points = 8.0 if small else max(7.0, min(13.0, cell * 14))
    for row, query in enumerate(codes):
        for column, candidate in enumerate(codes):
            if row == column:
                axes.add_patch(_grey_cell(row, column))
                continue
            score_here = scores.get((query, candidate))
            if score_here is None:  # not run
                axes.text(column, row, "·", ha="center", va="center", color=ink, fontsize=points, alpha=0.6)
                continue
            colour = _readable_on(image, score_here.r1)
            interval = score_here.r1_ci if with_intervals else None
            axes.text(
                column,
                row - (0.1 if interval else 0),
                f"{100 * score_here.r1:.0f}" if small or size > 10 else f"{100 * score_here.r1:.1f}",
                ha="center",
                va="center",
                color=colour,
                fontsize=points,
            )
            if interval:
                axes.text(
                    column,
                    row + 0.22,
                    f"{100 * interval[0]:.0f}–{100 * interval[1]:.0f}",
                    ha="center",
                    va="center",
                    color=colour,
                    fontsize=points * 0.68,
                )
    names = codes if small or size > 10 else [name_of(c) for c in codes]
    axes.set_xticks(range(size), names)
    axes.set_yticks(range(size), names)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelsize=8.0 if small else 11, pad=3 if small else 5)
    axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)
    if small:
        return figure
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("candidates in", fontsize=10, labelpad=8)
    axes.set_ylabel("query in", fontsize=10, labelpad=8)
    chances = [s.chance for s in scores.values() if s.chance is not None]
    _recall_bar(figure, image, cell * size, fmean(chances) if chances else None, ink)
    if title:
        counts = [s.n for s in scores.values() if s.n is not None]
        n = f"n = {_range(counts)} queries a pair" if counts else ""
        chance = f"chance {percent(fmean(chances))}" if chances else ""
        subtitle = ", ".join(part for part in (n, chance) if part)
        text = f"{method_label(method)}: right utterance ranked first (R@1, %)"
        axes.set_title(text + (f"\n{subtitle}" if subtitle else ""), fontsize=12, pad=14, linespacing=1.5)
    return figure


def draw_similarity(results: Results, arrays: Mapping[str, np.ndarray], *, ink: str = INK) -> Figure:
    """Draw the score matrix; to be called within `style`."""
    about = results.similarity
    if about is None or not has_matrix(arrays, "similarity"):
        raise ResultsError("no score matrix in this result folder (similarity)")
    matrix = np.ma.masked_invalid(arrays["similarity"].astype(np.float64))
    n, m = matrix.shape
    side = 4.6  # inches
    figure = Figure(figsize=(side * min(1.0, m / n), side * min(1.0, n / m)))
    axes = figure.add_axes((0, 0, 1, 1))
    image = _matrix_image(axes, matrix, extent=(0.5, m + 0.5, n + 0.5, 0.5))
    axes.set_ylabel(f"query: {name_of(about.query)} utterance", fontsize=9)
    axes.set_xlabel(f"candidate: {name_of(about.candidate)} utterance", fontsize=9)
    axes.tick_params(labelsize=8)
    _slim_bar(figure, image, f"{method_label(about.method)} score", ink)
    return figure


def draw_alignment(results: Results, arrays: Mapping[str, np.ndarray], *, ink: str = INK) -> Figure:
    """Draw the alignment; to be called within `style`."""
    alignment = results.alignment
    if alignment is None or not has_matrix(arrays, "alignment"):
        raise ResultsError("no alignment in this result folder")
    matrix = np.ma.masked_invalid(arrays["alignment"].astype(np.float64))
    n, m = matrix.shape
    down = alignment.query.seconds or n * 0.02  # a frame is 20 ms unless the results say otherwise
    across = alignment.candidate.seconds or m * 0.02
    height, width = _alignment_inches(alignment, down, across)
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    image = _matrix_image(axes, matrix, extent=(0, across, down, 0))
    _best_matches(axes, matrix, down, across)
    _place_words(axes, alignment.query, down, height, along="y", ink=ink)
    _place_words(axes, alignment.candidate, across, width, along="x", ink=ink)
    axes.set_xlim(0, across)
    axes.set_ylim(down, 0)
    axes.set_ylabel(f"{name_of(alignment.query.language)}, seconds", fontsize=9)
    axes.set_xlabel(f"{name_of(alignment.candidate.language)}, seconds", fontsize=9)
    axes.tick_params(labelsize=8)
    _slim_bar(figure, image, "cosine similarity of two frames", ink)
    return figure


def _alignment_inches(alignment: Alignment, down: float, across: float) -> tuple[float, float]:
    """Height and width of the matrix: in proportion to the times, and with room for the words."""
    scale = 5.2 / max(down, across)
    room = 1.25 * _WORD_POINTS / 72
    height = max(down * scale, len(_timed(alignment.query)) * room, 2.0)
    width = max(across * scale, len(_timed(alignment.candidate)) * room * 1.2, 2.0)
    return min(height, 12.0), min(width, 12.0)


def _matrix_image(axes: Axes, matrix: np.ma.MaskedArray, extent: tuple[float, ...]) -> AxesImage:
    """An image whose colours span the bulk of the values, so that a few outliers don't flatten it."""
    values = matrix.compressed()
    low, high = (float(v) for v in np.percentile(values, [3, 99.8]))
    if not low < high:
        low, high = low - 0.5, low + 0.5
    return axes.imshow(
        matrix,
        cmap=COLOURS,
        norm=Normalize(low, high),
        extent=extent,  # type: ignore[arg-type]  # the stub wants a 4-tuple
        aspect="auto",
        interpolation="none",
    )


def _best_matches(axes: Axes, matrix: np.ma.MaskedArray, down: float, across: float) -> None:
    """Mark each query frame's best candidate frame with a dot, each candidate frame's with a diamond."""
    n, m = matrix.shape
    values = matrix.filled(-np.inf)
    rows, columns = (np.arange(n) + 0.5) * down / n, (np.arange(m) + 0.5) * across / m
    axes.plot(
        columns[values.argmax(axis=1)], rows, linestyle="", marker="o", markersize=1.9,
        markerfacecolor="white", markeredgecolor="black", markeredgewidth=0.25, alpha=0.85,
        label="best match of each query frame (down)",
    )  # fmt: skip
    axes.plot(
        columns, rows[values.argmax(axis=0)], linestyle="", marker="D", markersize=1.6,
        markerfacecolor="#ff9e80", markeredgecolor="black", markeredgewidth=0.25, alpha=0.85,
        label="best match of each candidate frame (across)",
    )  # fmt: skip


def _frame_words(axes: Axes, matches: Sequence[Match]) -> None:
    """A frame around where each query word meets its best candidate word."""
    for i, match in enumerate(matches):
        (left, right), (low, high) = match.candidate.times, match.query.times
        size = right - left, high - low
        label = "" if i else "best match of each query word"
        corner = left, low
        axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor="white", linewidth=0.9, label=label))


def _explain(figure: Figure, results: Results) -> None:
    """A title above everything that is drawn, and a legend below it."""
    alignment, height = results.alignment, figure.get_size_inches()[1]
    box = figure.get_tightbbox()
    if alignment and alignment.query.language and alignment.candidate.language:
        title = f"{name_of(alignment.query.language)} → {name_of(alignment.candidate.language)}"
        if alignment.f1 is not None:
            title += f": {method_label(PAPER_METHOD)} F1 {alignment.f1:.3f}"
        figure.text(0, (box.y1 + 0.15) / height, title, fontsize=11, va="bottom")
    figure.legend(
        loc="upper left", bbox_to_anchor=(0, (box.y0 - 0.12) / height), fontsize=8, borderaxespad=0,
        markerscale=2.2, labelcolor="white", facecolor=matplotlib.colormaps[COLOURS](0.3), framealpha=1,
        edgecolor="none",
    )  # fmt: skip


def _place_words(axes: Axes, side: Side, span: float, inches: float, *, along: str, ink: str) -> None:
    """Write the words beside the matrix at their times, with thin lines at their borders."""
    words = [(w, max(0.0, s), min(span, e)) for w, s, e in _timed(side) if s < span and e > 0]
    borders = sorted({time for _, start, end in words for time in (start, end) if 0 < time < span})
    for time in borders:
        draw = axes.axhline if along == "y" else axes.axvline
        draw(time, color="white", linewidth=0.5, alpha=0.38)
    if not words:
        return
    centres = [(start + end) / 2 for _, start, end in words]
    gap = 1.15 * _WORD_POINTS / 72 * span / inches * (1.2 if along == "x" else 1.0)
    gap = min(gap, span / len(words))
    for (word, _, _), centre, place in zip(words, centres, spread(centres, gap, span), strict=True):
        leader = {"arrowstyle": "-", "color": ink, "linewidth": 0.4, "alpha": 0.5, "shrinkA": 0, "shrinkB": 0}
        if along == "y":
            axes.annotate(
                word, (1.0, centre), (1.025, place), xycoords=axes.get_yaxis_transform(),
                textcoords=axes.get_yaxis_transform(), ha="left", va="center", fontsize=_WORD_POINTS,
                color=ink, arrowprops=leader, annotation_clip=False,
            )  # fmt: skip
        else:
            axes.annotate(
                word, (centre, 1.0), (place, 1.025), xycoords=axes.get_xaxis_transform(),
                textcoords=axes.get_xaxis_transform(), ha="left", va="bottom", rotation=60,
                rotation_mode="anchor", fontsize=_WORD_POINTS, color=ink, arrowprops=leader,
                annotation_clip=False,
            )  # fmt: skip


def spread(centres: Sequence[float], gap: float, span: float) -> list[float]:
    """Move labels along a line of length ``span`` as little as needed to stand ``gap`` apart, in their order.

    >>> [round(p, 2) for p in spread([1.0, 1.1, 3.0], gap=0.5, span=4.0)]
    [0.8, 1.3, 3.0]
    """
    groups: list[tuple[float, int]] = []  # (place of the first label, labels) of touching labels
    for centre in centres:
        place, count = centre, 1
        while groups:
            before, n = groups[-1]
            if before + n * gap <= place:
                break
            groups.pop()
            place = (n * before + count * (place - n * gap)) / (n + count)
            count += n
        groups.append((place, count))
    places = [first + i * gap for first, n in groups for i in range(n)]
    for i in range(len(places)):  # keep the first and the last label beside the matrix
        places[i] = max(places[i], i * gap)
    for i in range(len(places)):
        places[-1 - i] = min(places[-1 - i], span - i * gap)
    return places


def _timed(side: Side) -> list[tuple[str, float, float]]:
    """The words whose place in time is known."""
    return [
        (w.word.strip(), w.start, w.end)
        for w in side.words or []
        if w.word.strip() and w.start is not None and w.end is not None and w.end >= w.start
    ]


def _recall_bar(figure: Figure, image: AxesImage, inches: float, chance: float | None, ink: str) -> None:
    """A colour bar in per cent whose ticks include chance."""
    bar_axes = figure.add_axes((1 + 0.28 / inches, 0, 0.16 / inches, 1))
    bar = figure.colorbar(image, cax=bar_axes)
    top = image.get_clim()[1] or 1.0
    step = 0.1 if top > 0.3 else 0.05 if top > 0.15 else 0.02
    ticks = [float(t) for t in np.arange(0, top + 1e-9, step)]
    labels = [f"{100 * t:.0f}" for t in ticks]
    if chance is not None and chance <= top:
        near = [(t, label) for t, label in zip(ticks, labels, strict=True) if abs(t - chance) > 0.045 * top]
        ticks = [chance, *(t for t, _ in near)]
        labels = [f"chance {percent(chance)}", *(label for _, label in near)]
        bar_axes.axhline(chance, color="white", linewidth=2.2)
        bar_axes.axhline(chance, color="black", linewidth=0.9)
    bar.set_ticks(ticks, labels=labels)
    bar.outline.set_visible(False)
    bar_axes.tick_params(labelsize=9, length=3, color=ink)
    bar_axes.set_title("R@1, %", fontsize=9, loc="left", pad=8)


def _slim_bar(figure: Figure, image: AxesImage, label: str, ink: str) -> None:
    """A slim colour bar below the matrix."""
    width, height = figure.get_size_inches()
    length = min(2.6, width) / width
    bar_axes = figure.add_axes((0, -0.78 / height, length, 0.09 / height))
    bar = figure.colorbar(image, cax=bar_axes, orientation="horizontal")
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, length=2, color=ink)
    bar.ax.locator_params(nbins=5)
    bar.set_label(label, fontsize=8)


def _grey_cell(row: int, column: int) -> Rectangle:
    return Rectangle((column - 0.5, row - 0.5), 1, 1, linewidth=0, facecolor=(0.5, 0.5, 0.5, 0.28))


def _readable_on(image: AxesImage, value: float) -> str:
    """Black or white, whichever contrasts more with the colour of ``value`` (WCAG's relative luminance)."""
    red, green, blue, _ = image.cmap(float(np.asarray(image.norm(np.array(value))).item()))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "white" if 1.05 / (luminance + 0.05) >= (luminance + 0.05) / 0.05 else "black"


def _range(values: Sequence[int]) -> str:
    return str(values[0]) if min(values) == max(values) else f"{min(values)} to {max(values)}"
