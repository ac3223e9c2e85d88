"""Every picture, as a PNG file or as SVG for the page.

The same drawing has dark ink in a PNG, and stand-in colours in SVG that become the page's own, for light and dark.
Nothing depends on the clock, the user's matplotlibrc or a display.
"""

import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby, pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from interlingua.errors import ResultsError
from interlingua.files import atomic_file
from interlingua.models.whisper import FRAME_SECONDS
from interlingua.report.tables import percent, span
from interlingua.results import Alignment, Distant, Match, Results, Score, Side, TrainingPoint, Variant, name_of
from interlingua.retrieval.methods import PAPER_METHOD, method_label

INK = "#1c1c1c"
STAND_IN = "#010203"  # ink in SVG until it becomes currentColor
PAPER, ACCENT = "#040506", "#070809"  # in SVG until they become the page's own
_PAGE = {STAND_IN: "currentColor", PAPER: "var(--paper)", ACCENT: "var(--accent)"}
_DPI = 200
_OTHER_FONTS = (  # for other scripts, where installed
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "WenQuanYi Zen Hei",
    "Noto Sans Arabic",
    "Noto Sans Hebrew",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
)


@contextmanager
def style(ink: str) -> Iterator[None]:
    """matplotlib's defaults with our ink; letters without a font become boxes, without a warning."""
    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    installed = {font.name for font in font_manager.fontManager.ttflist}
    ours = {
        "font.family": ["DejaVu Sans", *(f for f in _OTHER_FONTS if f in installed)],
        "svg.fonttype": "none",
        "text.parse_math": False,
        "axes.linewidth": 0.6,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        **dict.fromkeys(inked, ink),
    }
    with warnings.catch_warnings(), matplotlib.style.context(["default", ours]):
        warnings.filterwarnings("ignore", r"Glyph .* missing from font")
        yield


def png(figure: Figure, path: Path) -> Path:
    """Write the figure as a PNG file and return its path."""
    path = Path(path)
    with atomic_file(path) as temporary:
        figure.savefig(
            temporary, format="png", dpi=_DPI, bbox_inches="tight", pad_inches=0.15, facecolor="white",
            metadata={"Software": None},
        )  # fmt: skip
    return path


def svg(name: str, draw: Callable[..., Figure], *arguments: Any, **options: Any) -> str:
    """A drawing as an SVG element for a page: no header, ids made unique by ``name``, the page's colours."""
    out = io.StringIO()
    with style(STAND_IN), matplotlib.rc_context({"svg.hashsalt": name}):
        draw(*arguments, **options).savefig(
            out, format="svg", dpi=150, bbox_inches="tight", pad_inches=0.03, transparent=True,
            metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")),
        )  # fmt: skip
    text = out.getvalue()
    text = text[text.index("<svg") :]
    for stand_in, colour in _PAGE.items():
        text = text.replace(stand_in, colour)
    prefix = re.sub(r"[^A-Za-z0-9]+", "-", name) + "-"
    text = re.sub(r'(\bid=")', rf"\1{prefix}", text)
    text = re.sub(r'(url\(#|href="#)', rf"\1{prefix}", text)
    return text.strip()


COLOURS = "viridis"  # perceptually uniform, and readable for the colour-blind
_INTERVALS_UP_TO = 8  # languages: with more, cells have no room for intervals
_WORD_POINTS = 8.0


def recall_heatmap(results: Results, path: Path, method: str = PAPER_METHOD) -> Path:
    """Write a PNG of R@1, queries as rows; ResultsError if ``method`` was not run on any pair of two languages."""
    with style(INK):
        return png(recall(results, method, title=True), path)


def alignment_heatmap(results: Results, arrays: Mapping[str, np.ndarray], path: Path) -> Path:
    """Write a PNG of two utterances' frame similarities, matched words framed; ResultsError without alignment."""
    with style(INK):
        figure = alignment(results, arrays)
        _frame_words(figure.axes[0], results.alignment.matches if results.alignment else [])
        _explain(figure, results)
        return png(figure, path)


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


def recall(
    results: Results, method: str, *, small: bool = False, top: float | None = None, title: bool = False
) -> Figure:
    """R@1 of each pair; ``small``: without intervals, names and colour bar; ``top``: of the colours, see `colour_top`.

    Raises:
        ResultsError: ``method`` was run on no pair of two languages.
    """
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
    points = 8.0 if small else max(7.0, min(13.0, cell * 14))
    digits = 0 if small or size > 10 else 1
    for row, query in enumerate(codes):
        axes.add_patch(Rectangle((row - 0.5, row - 0.5), 1, 1, linewidth=0, facecolor=(0.5, 0.5, 0.5, 0.28)))
        for column, candidate in enumerate(codes):
            found = scores.get((query, candidate))
            look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": points}
            if found is None and row != column:  # not run
                axes.text(column, row, "·", alpha=0.6, **look)
            if found is None:
                continue
            look["color"] = _readable_on(image, found.r1)
            ci = found.r1_ci if not (small or title) and size <= _INTERVALS_UP_TO else None
            axes.text(column, row - (0.1 if ci else 0), f"{100 * found.r1:.{digits}f}", **look)
            if ci:
                look["fontsize"] = points * 0.68
                axes.text(column, row + 0.22, f"{100 * ci[0]:.0f}–{100 * ci[1]:.0f}", **look)
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
    _recall_bar(figure, image, cell * size, fmean(chances) if chances else None)
    if title:
        counts = [s.n for s in scores.values() if s.n is not None]
        n = f"n = {span(counts)} queries a pair" if counts else ""
        chance = f"chance {percent(fmean(chances))}" if chances else ""
        subtitle = ", ".join(part for part in (n, chance) if part)
        text = f"{method_label(method)}: right utterance ranked first (R@1, %)"
        axes.set_title(text + (f"\n{subtitle}" if subtitle else ""), fontsize=12, pad=14, linespacing=1.5)
    return figure


def similarity(results: Results, arrays: Mapping[str, np.ndarray]) -> Figure:
    """The stored score matrix: a row for each query, a column for each candidate."""
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
    _slim_bar(figure, image, f"{method_label(about.method)} score")
    return figure


def alignment(results: Results, arrays: Mapping[str, np.ndarray]) -> Figure:
    """Two utterances' frame similarities, with their words and the best matches."""
    found = results.alignment
    if found is None or not has_matrix(arrays, "alignment"):
        raise ResultsError("no alignment in this result folder")
    matrix = np.ma.masked_invalid(arrays["alignment"].astype(np.float64))
    n, m = matrix.shape
    down = found.query.seconds or n * FRAME_SECONDS  # older results name no seconds
    across = found.candidate.seconds or m * FRAME_SECONDS
    height, width = _alignment_inches(found, down, across)
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    image = _matrix_image(axes, matrix, extent=(0, across, down, 0))
    _best_matches(axes, matrix, down, across)
    _place_words(axes, found.query, down, height, along="y")
    _place_words(axes, found.candidate, across, width, along="x")
    axes.set_xlim(0, across)
    axes.set_ylim(down, 0)
    axes.set_ylabel(f"{name_of(found.query.language)}, seconds", fontsize=9)
    axes.set_xlabel(f"{name_of(found.candidate.language)}, seconds", fontsize=9)
    axes.tick_params(labelsize=8)
    _slim_bar(figure, image, "cosine similarity of two frames")
    return figure


def _alignment_inches(alignment: Alignment, down: float, across: float) -> tuple[float, float]:
    """Height and width in proportion to the times, with room for the words."""
    scale = 5.2 / max(down, across)
    room = 1.25 * _WORD_POINTS / 72
    height = max(down * scale, len(_timed(alignment.query)) * room, 2.0)
    width = max(across * scale, len(_timed(alignment.candidate)) * room * 1.2, 2.0)
    return min(height, 12.0), min(width, 12.0)


def _matrix_image(axes: Axes, matrix: np.ma.MaskedArray, extent: tuple[float, ...]) -> AxesImage:
    """Colours span the bulk of the values: a few outliers don't flatten them."""
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
    """Marks each query frame's best candidate frame with a dot, each candidate frame's with a diamond."""
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
    for i, match in enumerate(matches):
        (left, right), (low, high) = match.candidate.times, match.query.times
        size = right - left, high - low
        label = "" if i else "best match of each query word"
        corner = left, low
        axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor="white", linewidth=0.9, label=label))


def _explain(figure: Figure, results: Results) -> None:
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


def _place_words(axes: Axes, side: Side, length: float, inches: float, *, along: str) -> None:
    words = [(w, max(0.0, s), min(length, e)) for w, s, e in _timed(side) if s < length and e > 0]
    borders = sorted({time for _, start, end in words for time in (start, end) if 0 < time < length})
    for time in borders:
        draw = axes.axhline if along == "y" else axes.axvline
        draw(time, color="white", linewidth=0.5, alpha=0.38)
    if not words:
        return
    centres = [(start + end) / 2 for _, start, end in words]
    gap = 1.15 * _WORD_POINTS / 72 * length / inches * (1.2 if along == "x" else 1.0)
    gap = min(gap, length / len(words))
    for (word, _, _), centre, position in zip(words, centres, spread(centres, gap, length), strict=True):
        leader = {
            "arrowstyle": "-",
            "color": matplotlib.rcParams["text.color"],
            "linewidth": 0.4,
            "alpha": 0.5,
            "shrinkA": 0,
            "shrinkB": 0,
        }
        if along == "y":
            at, to, axis = (1.0, centre), (1.025, position), axes.get_yaxis_transform()
            look: dict[str, Any] = {"va": "center"}
        else:
            at, to, axis = (centre, 1.0), (position, 1.025), axes.get_xaxis_transform()
            look = {"va": "bottom", "rotation": 60, "rotation_mode": "anchor"}
        axes.annotate(
            word, at, to, xycoords=axis, textcoords=axis, ha="left", fontsize=_WORD_POINTS, arrowprops=leader,
            annotation_clip=False, **look,
        )  # fmt: skip


def spread(centres: Sequence[float], gap: float, length: float) -> list[float]:
    """Move labels along a line as little as needed to be ``gap`` apart, in their order.

    >>> [round(p, 2) for p in spread([1.0, 1.1, 3.0], gap=0.5, length=4.0)]
    [0.8, 1.3, 3.0]
    """
    groups: list[tuple[float, int]] = []  # touching labels: (position of the first, number)
    for centre in centres:
        position, count = centre, 1
        while groups:
            before, n = groups[-1]
            if before + n * gap <= position:
                break
            groups.pop()
            position = (n * before + count * (position - n * gap)) / (n + count)
            count += n
        groups.append((position, count))
    positions = [first + i * gap for first, n in groups for i in range(n)]
    for i in range(len(positions)):  # keep the first and the last label next to the matrix
        positions[i] = max(positions[i], i * gap)
    for i in range(len(positions)):
        positions[-1 - i] = min(positions[-1 - i], length - i * gap)
    return positions


def _timed(side: Side) -> list[tuple[str, float, float]]:
    return [
        (w.word.strip(), w.start, w.end)
        for w in side.words or []
        if w.word.strip() and w.start is not None and w.end is not None and w.end >= w.start
    ]


def _recall_bar(figure: Figure, image: AxesImage, inches: float, chance: float | None) -> None:
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
    bar_axes.tick_params(labelsize=9, length=3)
    bar_axes.set_title("R@1, %", fontsize=9, loc="left", pad=8)


def _slim_bar(figure: Figure, image: AxesImage, label: str) -> None:
    width, height = figure.get_size_inches()
    length = min(2.6, width) / width
    bar_axes = figure.add_axes((0, -0.78 / height, length, 0.09 / height))
    bar = figure.colorbar(image, cax=bar_axes, orientation="horizontal")
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, length=2)
    bar.ax.locator_params(nbins=5)
    bar.set_label(label, fontsize=8)


def _readable_on(image: AxesImage, value: float) -> str:
    """Black or white, by contrast with the colour of ``value`` (WCAG's relative luminance)."""
    red, green, blue, _ = image.cmap(float(np.asarray(image.norm(np.array(value))).item()))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "white" if 1.05 / (luminance + 0.05) >= (luminance + 0.05) / 0.05 else "black"


_WIDTH = 5.6  # inches
_HEADING = 0.34  # inches
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
_DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)))
_STEPS = (1, 2, 2.5, 5, 10)  # of ticks
_UNTRAINED = "before training"
_HOLLOW: dict[str, Any] = {
    "markersize": 6.0,
    "markerfacecolor": PAPER,
    "markeredgecolor": STAND_IN,
    "markeredgewidth": 1.1,
}
_FILLED: dict[str, Any] = {
    "markersize": 6.5,
    "markerfacecolor": ACCENT,
    "markeredgecolor": ACCENT,
    "markeredgewidth": 1.1,
}

Row = tuple[str, str, Sequence[Score | None]]
"""Group (or empty), label, a score for each system."""


def side_by_side(rows: Sequence[Row], systems: Sequence[str], quantity: str, *, changes: bool = False) -> Figure:
    """A row for each label, under headings of groups: a mark and an interval for each system, the first one hollow.

    ``changes``: the systems are before and after, joined by a line.
    """
    apart, between = (0.12, 0.12) if changes else (0.14, 0.2)  # inches: marks of a row; rows
    row = apart * len(systems) + between
    middles: list[float] = []
    headings: list[tuple[float, str]] = []
    height = 0.0
    for group, members in groupby(rows, key=lambda row: row[0]):
        if group:
            headings.append((height + _HEADING / 2, group))
            height += _HEADING
        for _ in members:
            middles.append(height + row / 2)
            height += row
    figure, axes = _row_axes(height, middles, [label for _, label, _ in rows], quantity)
    markers = ["o"] * len(systems) if changes else [_MARKERS[i % len(_MARKERS)] for i in range(len(systems))]
    looks = [(s, marker, _FILLED if i else _HOLLOW) for i, (s, marker) in enumerate(zip(systems, markers, strict=True))]
    for middle, (_, _, scores) in zip(middles, rows, strict=True):
        heights = [middle + apart * (i - (len(systems) - 1) / 2) for i in range(len(systems))]
        values = [score.value for score in scores if score is not None and score.value is not None]
        if changes and len(values) == len(heights):
            axes.plot(values, heights, color=STAND_IN, linewidth=2.5, alpha=0.22)
        for score, at, (_, marker, look) in zip(scores, heights, looks, strict=True):
            _mark(axes, score, at, marker, look)
    for middle, group in headings:
        axes.text(0, middle, group, transform=axes.get_yaxis_transform(), va="center", fontsize=9, weight="bold")
        if middle > _HEADING:
            axes.axhline(middle - _HEADING / 2, color=STAND_IN, linewidth=0.5, alpha=0.35)
    for i in range(1, 0 if changes else len(rows)):
        axes.axhline(row * i, color=STAND_IN, linewidth=0.4, alpha=0.15)
    _legend(axes, looks)
    return figure


def _row_axes(height: float, middles: Sequence[float], labels: Sequence[str], quantity: str) -> tuple[Figure, Axes]:
    """``height`` in inches, in all."""
    figure = Figure(figsize=(_WIDTH, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_ylim(height, 0)
    axes.set_yticks(middles, labels)
    axes.tick_params(axis="y", length=0, labelsize=10)
    _plain(axes, quantity)
    axes.grid(axis="x", color=STAND_IN, linewidth=0.4, alpha=0.2)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    return figure, axes


def _mark(axes: Axes, metric: Score | None, y: float, marker: str, look: Mapping[str, Any]) -> None:
    if metric is None or metric.value is None:
        return
    if metric.ci is not None:
        axes.plot(metric.ci, [y, y], color=look["markeredgecolor"], linewidth=1.3)
    axes.plot([metric.value], [y], linestyle="", marker=marker, **look)


def _legend(axes: Axes, marks: Sequence[tuple[str, str, Mapping[str, Any]]]) -> None:
    for label, marker, look in marks:
        axes.plot([], [], linestyle="", marker=marker, label=label, **look)
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), bbox_transform=axes.transAxes, ncols=2, frameon=False, fontsize=9,
        handletextpad=0.2, columnspacing=1.4, borderaxespad=0.2,
    )  # fmt: skip


def training(points: Sequence[TrainingPoint], metrics: Mapping[str, str]) -> Figure:
    """Loss and dev scores by step, each in axes of its own; ``metrics``: name -> label."""
    curves = [("loss", [(p.step, p.loss) for p in points if p.loss is not None])]
    curves += [(f"dev {label}", [(p.step, p.dev[m]) for p in points if m in p.dev]) for m, label in metrics.items()]
    drawn = [(label, curve) for label, curve in curves if curve]
    figure = Figure(figsize=(_WIDTH, 1.5 * len(drawn)), layout="constrained")
    stacked = figure.subplots(len(drawn), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (label, curve) in zip(stacked, drawn, strict=True):
        steps, values = zip(*curve, strict=True)
        axes.plot(steps, values, color=ACCENT, linewidth=1.5, marker="o", markersize=3)
        axes.set_ylabel(label)
        axes.spines[["top", "right"]].set_visible(False)
    stacked[-1].set_xlabel("step")
    return figure


def pareto(variants: Sequence[Variant]) -> Figure:
    """A point for each variant: x the change on old tasks, y the gain on the new target."""
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
        axes.plot([x], [y], linestyle="", marker=_MARKERS[i % len(_MARKERS)], zorder=3, **_FILLED)
    axes.margins(0.08)
    _plain(axes, "change on the old tasks: X → English, chrF")
    axes.set_ylabel("gain on the new target: sources never trained on, chrF", fontsize=9)
    axes.tick_params(axis="y", labelsize=9)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=_STEPS))
    points = [(0.0, 0.0), *((v.loss.value, v.gain.value) for v in variants)]
    _label_points(axes, [_UNTRAINED, *(v.name for v in variants)], points, lines)
    return figure


def distances(scores: Sequence[tuple[Distant, Score]], x: str, y: str, chance: float | None = None) -> Figure:
    """Scores against typological distance: filled circles have a token, hollow diamonds have none; bars are intervals.

    ``x`` and ``y`` are the axes' labels; ``chance`` is drawn as a dashed line.
    """
    figure = Figure(figsize=(6.4, 3.9))
    axes = figure.add_axes((0, 0, 1, 1))
    lines: list[np.ndarray] = []
    points = [(float(r.distance["typological"] or 0), score.value) for r, score in scores]
    for (language, score), (distance, value) in zip(scores, points, strict=True):
        if score.ci is not None:
            axes.plot([distance, distance], score.ci, color=STAND_IN, linewidth=0.9, alpha=0.6)
            lines.append(np.array([(distance, end) for end in score.ci]))
        marker, look = ("o", _FILLED) if language.seen else ("D", _HOLLOW)
        axes.plot([distance], [value], linestyle="", marker=marker, zorder=3, clip_on=False, **look)
    if chance is not None:
        axes.axhline(chance, color=STAND_IN, linewidth=0.8, linestyle=(0, (5, 3)), alpha=0.7)
        axes.annotate(
            "chance", (1, chance), xycoords=("axes fraction", "data"), xytext=(4, 0), textcoords="offset points",
            ha="left", va="center", fontsize=8,
        )  # fmt: skip
    axes.margins(x=0.12, y=0.1)
    axes.set_ylim(bottom=0)
    _plain(axes, x)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=_STEPS))
    axes.tick_params(axis="y", labelsize=9)
    axes.set_ylabel(y, fontsize=9)
    _label_points(axes, [name_of(r.language) for r, _ in scores], points, lines)
    return figure


def _plain(axes: Axes, quantity: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(7, steps=_STEPS))
    axes.tick_params(axis="x", labelsize=9)
    axes.set_xlabel(quantity, fontsize=9)


# Labels of points: our own placement, since adjustText would be one more dependency for two pictures.
_FIRST, _STEP = 7.0, 6.0  # points: distance of the nearest labels, and between tries
_DIRECTIONS = np.pi / 8 * np.array([1, 7, 0, 8, 4, 12, 15, 9, 2, 6, 14, 10, 3, 5, 13, 11])  # the best first
_BEHIND = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.6, "alpha": 0.8}  # a label, above lines
_SAMPLED, _LEADER = 4.0, 14.0  # points: between positions to avoid; least distance of a label with a leader
_TRIES = 100  # distances
_CROSSING, _OUTSIDE = 4.0, 200.0  # cost of a covered obstacle, and of a label out of bounds


def _label_points(
    axes: Axes, names: Sequence[str], points: Sequence[tuple[float, float]], lines: Sequence[np.ndarray]
) -> None:
    """Names near their points that overlap neither each other nor, if possible, anything else."""
    figure = axes.figure
    assert isinstance(figure, Figure)
    axes.autoscale_view()  # now: later, it would move everything
    scale = 72 / figure.dpi  # pixels -> points
    positions = scale * axes.transData.transform(points)
    paths = [scale * axes.transData.transform(line) for line in lines]
    dots = [_along(path) for path in paths]
    drawn = [axes.text(0, 0, name, fontsize=8.5) for name in names]
    sizes = [(scale * box.width + 4, scale * box.height + 1) for box in (text.get_window_extent() for text in drawn)]
    for text in drawn:
        text.remove()
    bounds = scale * axes.transAxes.transform((1, 1))
    centres = place_labels([tuple(p) for p in positions], sizes, np.vstack([np.empty((0, 2)), *dots]), tuple(bounds))
    for name, size, point, position, centre in zip(names, sizes, points, positions, centres, strict=True):
        gap = np.maximum(np.abs(np.array(centre) - position) - np.array(size) / 2, 0)
        line = {"arrowstyle": "-", "color": STAND_IN, "linewidth": 0.4, "alpha": 0.6, "shrinkA": 0, "shrinkB": 3}
        axes.annotate(
            name, point, tuple(np.array(centre) - position), textcoords="offset points", ha="center", va="center",
            fontsize=8.5, bbox=_BEHIND, zorder=2.5, arrowprops=line if np.hypot(*gap) > _LEADER else None,
            annotation_clip=False,
        )  # fmt: skip


def _along(path: np.ndarray) -> np.ndarray:
    """Positions along a path (N, 2), at most `_SAMPLED` points apart."""
    pieces = [np.linspace(a, b, 2 + int(np.hypot(*(b - a)) / _SAMPLED)) for a, b in pairwise(path)]
    return np.vstack([path[:1], *pieces])


def place_labels(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    obstacles: np.ndarray,
    bounds: tuple[float, float],
) -> list[tuple[float, float]]:
    """Centres of labels, one by one: near their points, on few obstacles, within bounds if possible; none overlap.

    Args:
        points: in any unit of length.
        sizes: width and height of each label.
        obstacles: (N, 2) positions to avoid in addition to the points.
        bounds: width and height of the picture, whose corner is (0, 0).
    """
    gaps, order = _FIRST + _STEP * np.arange(_TRIES)[:, None], np.arange(len(_DIRECTIONS))
    away = np.stack([np.cos(_DIRECTIONS), np.sin(_DIRECTIONS)], axis=1)
    avoid = np.vstack([np.asarray(obstacles, float).reshape(-1, 2), np.repeat(np.asarray(points), 8, axis=0)])
    placed: list[tuple[np.ndarray, np.ndarray]] = []
    for point, size in zip(points, sizes, strict=True):
        half = np.asarray(size) / 2
        tries = np.asarray(point) + away * (half + gaps[:, :, None])  # (distances, directions, 2)
        covered = (np.abs(avoid - tries[:, :, None]) < half + 2).all(axis=-1).sum(axis=-1)
        outside = ((tries < half) | (tries > np.asarray(bounds) - half)).any(axis=-1)
        cost = gaps + 0.1 * order + _CROSSING * covered + _OUTSIDE * outside
        for centre, its in placed:
            cost[(np.abs(tries - centre) < half + its).all(axis=-1)] = np.inf
        placed.append((tries.reshape(-1, 2)[cost.argmin()], half))
    return [(float(x), float(y)) for (x, y), _ in placed]
