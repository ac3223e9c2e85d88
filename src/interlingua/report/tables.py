"""Tables as data: made once, and written as HTML (`markup`), CSV (here) and LaTeX (`latex`).

So the three can't disagree.
"""

import csv
import io
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from interlingua.results import Difference, Interval, Metric

DASH = "–"  # what isn't known
INTERVAL_NOTE = " [95% CI]"  # in a column's head: in CSV the bounds are columns of their own
_BOTH_P = ("p bootstrap", "p randomisation")


@dataclass(frozen=True)
class Number:
    """A number with what belongs to it, in the unit that is shown.

    Attributes:
        value: None where it isn't known.
        ci: its 95% interval.
        digits: shown after the point; CSV has six significant ones.
        signed: a difference: shown with its sign.
        below: show the interval below the number, where columns are many.
        both_p: two-sided p, by the paired bootstrap and by randomisation.
    """

    value: float | None
    ci: Interval | None = None
    digits: int = 1
    signed: bool = False
    below: bool = False
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
        """What stands in CSV, by the name of the part; that of the number itself is empty."""
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
    """Text with what belongs to it.

    Attributes:
        text: what is shown; empty: a dash.
        note: small, below it.
        flag: why it is flagged, which a dagger shows; empty: it isn't.
        language: code of the language that it is in, where that may not be the page's.
        player: ``data:`` address of a recording to hear.
    """

    text: str
    note: str = ""
    flag: str = ""
    language: str = ""
    player: str = ""

    def parts(self) -> dict[str, str]:
        """See `Number.parts`."""
        notes = "; ".join(part for part in (self.note, self.flag) if part)
        return {"": self.text, **({"note": notes} if notes else {})}


Cell = Number | P | Text | str | None
"""What stands in a table; None and empty text are shown as a dash."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table; the first cell of a row is its head.

    Attributes:
        name: of its files (see `stem`); unique on a page.
        title: what LaTeX's caption begins with.
        head: the columns' heads, each different.
        bodies: groups of rows, with a rule between groups.
        caption: plain text below the table; empty for none.
        text_columns: how many columns at the left are text; the others are figures.
        ruled: a rule between any two rows.
        pinned: keep the first column in view on a phone.
        dense: many columns: narrow gaps, and column heads of several lines.
        strong_first_row: set the first row in bold.
        facts: a list of names and values: the head isn't shown.
        filters: heads of columns to filter the rows by, in a table that can be searched; None: it can't.
        page_rows: places of the rows that the page and LaTeX show; None: all. CSV holds all.
    """

    name: str
    title: str
    head: Sequence[str]
    bodies: Sequence[Sequence[Sequence[Cell]]]
    caption: str = ""
    text_columns: int = 1
    ruled: bool = False
    pinned: bool = False
    dense: bool = False
    strong_first_row: bool = False
    facts: bool = False
    filters: Sequence[str] | None = None
    page_rows: frozenset[int] | None = None

    @property
    def stem(self) -> str:
        """The name of its files without their ending: letters that any file system takes."""
        return re.sub(r"[^A-Za-z0-9+-]+", "-", self.name)[:80]

    @property
    def rows(self) -> list[Sequence[Cell]]:
        """The rows of all groups."""
        return [row for body in self.bodies for row in body]

    @property
    def shown(self) -> list[list[Sequence[Cell]]]:
        """The groups of rows that the page and LaTeX show."""
        if self.page_rows is None:
            return [list(body) for body in self.bodies]
        places = itertools.count()
        return [[row for row in body if next(places) in self.page_rows] for body in self.bodies]

    def csv(self) -> str:
        """The table as CSV: numbers unrounded, and a column each for the bounds of an interval, p and notes."""
        cells = [[parts_of(cell) for cell in row] for row in self.rows]
        names = [list(dict.fromkeys(["", *(n for row in cells for n in row[i])])) for i in range(len(self.head))]
        head = [
            f"{title.replace(INTERVAL_NOTE, '')}{', ' if name else ''}{name}"
            for title, of_column in zip(self.head, names, strict=True)
            for name in of_column
        ]
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(
            [parts.get(name, "") for parts, of_column in zip(row, names, strict=True) for name in of_column]
            for row in cells
        )
        return out.getvalue()


Block = Table | str
"""What a section of the page is made of: tables, and markup made by `markup`."""


def parts_of(cell: Cell) -> dict[str, str]:
    """What a cell puts into CSV; see `Number.parts`."""
    if cell is None or cell == DASH:
        return {"": ""}
    return {"": cell} if isinstance(cell, str) else cell.parts()


def number(value: float | None, scale: float = 1, ci: Interval | None = None, **look: int | bool) -> Number:
    """A number and its interval, both times ``scale``."""
    interval = None if ci is None else (scale * ci[0], scale * ci[1])
    return Number(None if value is None else scale * value, interval, **look)  # type: ignore[arg-type]


def score(metric: Metric | None, scale: float = 1, *, digits: int = 1, below: bool = False) -> Number:
    """A score with its interval, or that there is none."""
    if metric is None:
        return Number(None)
    return number(metric.value, scale, metric.ci, digits=digits, below=below)


def difference(found: Difference | None, *, digits: int = 1, below: bool = False, both_p: bool = False) -> Number:
    """A difference with its sign and interval."""
    if found is None or found.value is None:
        return Number(None)
    p = (found.p_bootstrap, found.p_randomisation) if both_p else None
    return Number(found.value, found.ci, digits=digits, signed=True, below=below, both_p=p)


def p_value(found: Difference | None) -> P:
    """A difference's p by randomisation."""
    return P(found.p_randomisation if found else None)


def shown_p(p: float | None) -> str:
    """A p to three digits."""
    if p is None:
        return DASH
    return "<0.001" if p < 0.0005 else f"{p:.3f}"


def exact(value: float | None) -> str:
    """A number for CSV: six significant digits, or nothing."""
    return "" if value is None else f"{value:.6g}"


def count(n: int | None) -> str | None:
    """How many, or None."""
    return None if n is None else str(n)


def facts(name: str, title: str, head: Sequence[str], pairs: Iterable[tuple[str, str]]) -> list[Block]:
    """A list of names and values, or nothing."""
    rows = list(pairs)
    if not rows:
        return []
    return [Table(name=name, title=title, head=head, bodies=[rows], text_columns=2, ruled=True, facts=True)]
