"""Blocks of a section: text, pictures, and tables as data, written as HTML (`page`), CSV and LaTeX.

pandas' ``to_csv`` and ``to_latex`` can't be used: an interval is two columns of CSV and one cell of the page, and
``to_latex`` mishandles ``<``, ``|``, arrows, minus signs and rows that begin with ``[``.
"""

import csv
import io
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from interlingua.results import Difference, Interval, Score
from interlingua.types import AudioRef

DASH = "–"  # unknown
INTERVAL_NOTE = " [95% CI]"  # in a column's head: in CSV the bounds are columns of their own
DENSE = 8  # columns: with more, intervals stand below their numbers
LONG = 40  # rows: longer LaTeX tables break over pages
_WIDE = 36  # characters: longer text wraps in LaTeX
_BOTH_P = ("p bootstrap", "p randomisation")


@dataclass(frozen=True)
class Number:
    """A number in the unit that is shown, with its 95% interval; None: unknown.

    Attributes:
        digits: after the point; CSV has six significant ones.
        signed: a difference, shown with its sign.
        both_p: two-sided p, by the paired bootstrap and by randomisation.
    """

    value: float | None
    ci: Interval | None = None
    digits: int = 1
    signed: bool = False
    both_p: tuple[float | None, float | None] | None = None

    @property
    def shown(self) -> str:
        """The number to its digits, or a dash."""
        return DASH if self.value is None else self._rounded(self.value)

    @property
    def interval(self) -> str:
        """The interval in brackets, or nothing."""
        if self.value is None or self.ci is None:
            return ""
        low, high = (self._rounded(bound) for bound in self.ci)
        to = ", " if self.signed or low.startswith("-") else "–"  # a dash before a minus can't be read
        return f"[{low}{to}{high}]"

    @property
    def extra(self) -> str:
        """Both p, or nothing."""
        return "" if self.both_p is None else f"p {' / '.join(shown_p(p) for p in self.both_p)}"

    def parts(self) -> dict[str, str]:
        """CSV cells by the name of the part; the number's own is empty."""
        parts = {"": exact(self.value)}
        if self.ci is not None and self.value is not None:
            parts |= {"low": exact(self.ci[0]), "high": exact(self.ci[1])}
        if self.both_p is not None:
            parts |= {name: exact(p) for name, p in zip(_BOTH_P, self.both_p, strict=True)}
        return parts

    def _rounded(self, value: float) -> str:
        if not self.signed:
            return f"{value:.{self.digits}f}"
        return f"{value:+.{self.digits}f}".replace("-", "\N{MINUS SIGN}")


@dataclass(frozen=True)
class P:
    """A p-value."""

    value: float | None

    @property
    def shown(self) -> str:
        """To three digits."""
        return shown_p(self.value)

    def parts(self) -> dict[str, str]:
        """See `Number.parts`."""
        return {"": exact(self.value)}


@dataclass(frozen=True)
class Text:
    """Text, with a note below it in small letters; empty: a dash.

    Attributes:
        flag: the reason for a dagger; empty: none.
        language: its code, where it may not be the page's.
        player: ``data:`` address of the recording ``audio``, where it is embedded.
    """

    text: str
    note: str = ""
    flag: str = ""
    language: str = ""
    audio: AudioRef | None = None
    player: str = ""

    def parts(self) -> dict[str, str]:
        """See `Number.parts`."""
        notes = "; ".join(part for part in (self.note, self.flag) if part)
        return {"": self.text, **({"note": notes} if notes else {})}


Cell = Number | P | Text | str | None
"""A table's cell; None and empty text are shown as a dash."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table; the first cell of a row is its head.

    Attributes:
        title: LaTeX's caption begins with it.
        head: the columns' heads, each different.
        bodies: groups of rows, with a rule between groups.
        caption: plain text below the table.
        text_columns: number of text columns at the left; the others are figures.
        facts: a list of names and values: the head isn't shown.
        filters: heads of columns to filter rows by, in a searchable table; None: not searchable.
        page_rows: positions of the rows that the page and LaTeX show; None: all. CSV holds all.
    """

    name: str
    title: str
    head: Sequence[str]
    bodies: Sequence[Sequence[Sequence[Cell]]]
    caption: str = ""
    text_columns: int = 1
    strong_first_row: bool = False
    facts: bool = False
    filters: Sequence[str] | None = None
    page_rows: frozenset[int] | None = None

    @property
    def stem(self) -> str:
        """The name of its files without ending, in letters that any file system takes."""
        return re.sub(r"[^A-Za-z0-9+-]+", "-", self.name)[:80]

    @property
    def dense(self) -> bool:
        """Whether columns are many: narrow gaps, and intervals below their numbers."""
        return len(self.head) > DENSE

    @property
    def rows(self) -> list[Sequence[Cell]]:
        """The rows of all groups."""
        return [row for body in self.bodies for row in body]

    @property
    def shown(self) -> list[list[Sequence[Cell]]]:
        """The groups of rows that the page and LaTeX show."""
        if self.page_rows is None:
            return [list(body) for body in self.bodies]
        positions = itertools.count()
        return [[row for row in body if next(positions) in self.page_rows] for body in self.bodies]

    def csv(self) -> str:
        """CSV: numbers unrounded, a column each for interval bounds, p and notes.

        A text that spreadsheets would run as a formula has an apostrophe before it.
        """
        cells = [[_parts(cell) for cell in row] for row in self.rows]
        names = [list(dict.fromkeys(["", *(n for row in cells for n in row[i])])) for i in range(len(self.head))]
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(
            f"{title.replace(INTERVAL_NOTE, '')}{', ' if name else ''}{name}"
            for title, of_column in zip(self.head, names, strict=True)
            for name in of_column
        )
        writer.writerows(
            [
                _no_formula(parts.get(name, ""))
                for parts, of_column in zip(row, names, strict=True)
                for name in of_column
            ]
            for row in cells
        )
        return out.getvalue()

    def latex(self) -> str:
        r"""The table for ``\input``, with booktabs or, if long, longtable; non-Latin text needs XeLaTeX or LuaLaTeX."""
        spec = "".join(self._column(i) for i in range(len(self.head)))
        text = latex_escape(" ".join(part for part in (f"{self.title}.", self.caption) if part))
        caption = rf"\caption{{{text}}}\label{{tab:{self.stem}}}"
        head = " & ".join(self._latex_head(title) for title in self.head) + r" \\"
        rows = "\n\\midrule\n".join("\n".join(self._latex_row(row) for row in body) for body in self.shown)
        if sum(len(body) for body in self.shown) > LONG:
            begin = [r"% needs \usepackage{booktabs,longtable}", rf"\begin{{longtable}}{{{spec}}}", rf"{caption} \\"]
            heads = [r"\toprule", head, r"\midrule", r"\endfirsthead", r"\toprule", head, r"\midrule", r"\endhead"]
            lines = [*begin, *heads, r"\bottomrule", r"\endlastfoot", rows, r"\end{longtable}"]
        else:
            begin = [r"% needs \usepackage{booktabs}", r"\begin{table}", r"\centering", caption]
            body = [rf"\begin{{tabular}}{{{spec}}}", r"\toprule", head, r"\midrule", rows, r"\bottomrule"]
            lines = [*begin, *body, r"\end{tabular}", r"\end{table}"]
        return "\n".join(lines) + "\n"

    def _column(self, position: int) -> str:
        if position >= self.text_columns:
            return "r"
        longest = max((len(_plain(row[position])) for row in self.rows), default=0)
        return "l" if longest <= _WIDE else r"p{0.3\linewidth}"

    def _latex_head(self, head: str) -> str:
        words = head.split(" ")
        if not self.dense or len(words) < 2:
            return latex_escape(head)
        half = min(range(1, len(words)), key=lambda i: max(len(" ".join(words[:i])), len(" ".join(words[i:]))))
        return _stacked(latex_escape(" ".join(words[:half])), latex_escape(" ".join(words[half:])))

    def _latex_row(self, row: Sequence[Cell]) -> str:
        cells = " & ".join(self._latex_cell(cell) for cell in row)
        guard = "{}" if cells.startswith(("[", "*")) else ""  # after the last row's \\ they would be its option
        return rf"{guard}{cells} \\"

    def _latex_cell(self, cell: Cell) -> str:
        if isinstance(cell, Number) and self.dense and (cell.interval or cell.extra):
            small = (rf"{{\scriptsize {latex_escape(part)}}}" for part in (cell.interval, cell.extra) if part)
            return _stacked(latex_escape(cell.shown), *small)
        return latex_escape(_plain(cell))


@dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A bulleted list."""

    items: Sequence[str]


@dataclass(frozen=True)
class Code:
    """Lines to be typed."""

    text: str


@dataclass(frozen=True)
class Picture:
    """A picture (SVG of `plots`), its title and caption; a ``wide`` one scrolls sideways on a phone."""

    svg: str
    title: str
    caption: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Gallery:
    """Small pictures side by side."""

    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Texts:
    """Groups of (label, text, code of its language); a text that is None is skipped."""

    groups: Sequence[Sequence[tuple[str, str | None, str]]]


@dataclass(frozen=True)
class Signatures:
    """Signatures by label."""

    items: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Folded:
    """Blocks that open at a click."""

    title: str
    blocks: "Sequence[Block]"


Block = str | Table | Heading | Bullets | Code | Picture | Gallery | Texts | Signatures | Folded
"""A part of a section; a string is a paragraph. Everything but a picture's SVG is escaped on the page."""


def tables_of(blocks: Iterable[Block]) -> list[Table]:
    """The tables among blocks, including folded ones."""
    found: list[Table] = []
    for block in blocks:
        found += [block] if isinstance(block, Table) else tables_of(block.blocks) if isinstance(block, Folded) else []
    return found


def as_text(blocks: Iterable[Block]) -> str:
    """Blocks for a terminal: tables with aligned columns, without captions; no pictures."""
    lines: list[str] = []
    for block in blocks:
        if isinstance(block, str | Heading):
            lines += ["", block if isinstance(block, str) else block.text]
        elif isinstance(block, Bullets):
            lines += ["", *block.items]
        elif isinstance(block, Signatures):
            lines += ["", "Signatures", *(f"  {what}: {mark}" for what, mark in block.items)]
        elif isinstance(block, Texts):
            for group in block.groups:
                kept = [(label, " ".join((text or "(empty)").split())) for label, text, _ in group if text is not None]
                lines += ["", *(f"  {label}: {text}" for label, text in kept)]
        elif isinstance(block, Folded):
            lines.append(as_text(block.blocks))
        elif isinstance(block, Table):
            rows = [list(block.head), *([_plain(cell) for cell in row] for row in block.rows)]
            widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
            lines += ["", block.title]
            for row in rows:
                cells = zip(row, widths, strict=True)
                aligned = (c.ljust(w) if i < block.text_columns else c.rjust(w) for i, (c, w) in enumerate(cells))
                lines.append("  " + "  ".join(aligned).rstrip())
    return "\n".join(lines)


def named_apart(blocks: Iterable[Block], taken: set[str]) -> list[Block]:
    """Blocks whose tables have unique file names: taken ones are numbered."""
    made: list[Block] = []
    for block in blocks:
        if isinstance(block, Folded):
            block = replace(block, blocks=named_apart(block.blocks, taken))
        elif isinstance(block, Table):
            stem, n = block.stem, 1
            while stem in taken:
                n += 1
                stem = f"{block.stem[:70]}-{n}"
            taken.add(stem)
            block = replace(block, name=stem)
        made.append(block)
    return made


def table(
    name: str,
    title: str,
    groups: Iterable[Iterable[Any]],
    columns: Mapping[str, Callable[[Any], Cell]],
    caption: str = "",
    **options: Any,
) -> Table:
    """A table of groups of records: a row for each record; ``columns``: head -> what makes a record's cell."""
    bodies = [[[cell(record) for cell in columns.values()] for record in group] for group in groups]
    held = [body for body in bodies if body]
    return Table(name=name, title=title, head=list(columns), bodies=held, caption=caption, **options)


def signatures(items: Iterable[tuple[str, str, str | None]]) -> list[Block]:
    """The signatures of (label, of what, signature), each once; "of what" only where a label has several."""
    marks: dict[tuple[str, str], list[str]] = {}
    for label, what, signature in items:
        if signature:
            marks.setdefault((label, signature), []).append(what)
    labels = [label for label, _ in marks]
    shown = [
        (label if labels.count(label) == 1 else f"{label}, {', '.join(dict.fromkeys(whats))}", signature)
        for (label, signature), whats in sorted(marks.items(), key=lambda item: labels.index(item[0][0]))
    ]
    return [Signatures(shown)] if shown else []


def facts(name: str, title: str, head: Sequence[str], pairs: Iterable[tuple[str, str]]) -> list[Block]:
    """A list of names and values, or nothing."""
    rows = list(pairs)
    return [Table(name=name, title=title, head=head, bodies=[rows], text_columns=2, facts=True)] if rows else []


def number(
    value: float | None, scale: float = 1, ci: Interval | None = None, *, digits: int = 1, signed: bool = False
) -> Number:
    """A number and its interval, both times ``scale``."""
    interval = None if ci is None else (scale * ci[0], scale * ci[1])
    return Number(None if value is None else scale * value, interval, digits, signed)


def score(metric: Score | None, scale: float = 1, *, digits: int = 1) -> Number:
    """A score with its interval, or a dash."""
    return Number(None) if metric is None else number(metric.value, scale, metric.ci, digits=digits)


def scaled(found: Score, scale: float) -> Score:
    """A score and its interval, both times ``scale``."""
    ci = found.ci and (scale * found.ci[0], scale * found.ci[1])
    return msgspec.structs.replace(found, value=scale * found.value, ci=ci)


def difference(found: Difference | None, *, digits: int = 1, both_p: bool = False) -> Number:
    """A difference with its sign and interval."""
    if found is None or found.value is None:
        return Number(None)
    p = (found.p_bootstrap, found.p_randomisation) if both_p and isinstance(found, Difference) else None
    return Number(found.value, found.ci, digits=digits, signed=True, both_p=p)


def p_value(found: Difference | None) -> P:
    """A difference's p by randomisation."""
    return P(found.p_randomisation if found else None)


def count(n: int | None) -> str | None:
    """A number of things, or None."""
    return None if n is None else str(n)


def shown_p(p: float | None) -> str:
    """A p to three digits."""
    if p is None:
        return DASH
    return "<0.001" if p < 0.0005 else f"{p:.3f}"


def exact(value: float | None) -> str:
    """A number for CSV: six significant digits, or nothing."""
    return "" if value is None else f"{value:.6g}"


def percent(value: float) -> str:
    """A proportion for prose: whole per cents from 10 on, one decimal below, two digits below 0.1%."""
    if value >= 0.0995:
        return f"{value:.0%}"
    return f"{100 * value:.1f}%" if value >= 0.001 or value == 0 else f"{100 * value:.2g}%"


def span(values: Iterable[int]) -> str:
    """``7``, or ``3 to 7``; empty for no values."""
    found = sorted(set(values))
    return "" if not found else str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"


_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "–": "--", "→": r"$\rightarrow$", "\N{MINUS SIGN}": "$-$", "×": r"$\times$", "±": r"$\pm$",
    "·": r"\textperiodcentered{}", "…": r"\ldots{}", "†": r"\textdagger{}", "\N{NO-BREAK SPACE}": "~",
}  # fmt: skip


def latex_escape(text: str) -> str:
    r"""Text for LaTeX, with its special characters escaped.

    >>> print(latex_escape(r"50% of \x_1 & → 3"))
    50\% of \textbackslash{}x\_1 \& $\rightarrow$ 3
    """
    return "".join(_SPECIAL.get(letter, letter) for letter in re.sub(r"[\x00-\x1f\x7f]+", " ", text))


def _stacked(*lines: str) -> str:
    return r"\shortstack[r]{" + r" \\ ".join(lines) + "}"


def _plain(cell: Cell) -> str:
    if isinstance(cell, Number):
        return " ".join(part for part in (cell.shown, cell.interval, cell.extra) if part)
    if isinstance(cell, P):
        return cell.shown
    if isinstance(cell, Text):
        mark = "†" if cell.flag else ""
        return f"{cell.text or DASH}{mark}" + (f" ({cell.note})" if cell.note else "")
    return cell or DASH


def _no_formula(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n")  # csv doesn't quote a lone carriage return
    if text[:1] not in tuple("=+-@\t\n"):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def _parts(cell: Cell) -> dict[str, str]:
    if cell is None or cell == DASH:
        return {"": ""}
    return {"": cell} if isinstance(cell, str) else cell.parts()
