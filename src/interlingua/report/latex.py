r"""Tables as LaTeX with ``booktabs``; long ones with ``longtable``, which breaks over pages."""

import re
from collections.abc import Sequence

from interlingua.report.tables import DASH, Cell, Number, P, Table, Text

LONG = 40  # rows from which on a table breaks over pages
_WIDE = 36  # characters of text from which on a column wraps
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
    "→": r"$\rightarrow$",
    "\N{MINUS SIGN}": "$-$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "·": r"\textperiodcentered{}",
    "…": r"\ldots{}",
    "†": r"\textdagger{}",
    "\N{NO-BREAK SPACE}": "~",
}
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]+")


def latex(table: Table) -> str:
    """The table, to be taken in with ``\\input``.

    Text in other scripts than Latin stays as it is, and needs XeLaTeX or LuaLaTeX and a font that has it.
    """
    spec = "".join(_column(table, i) for i in range(len(table.head)))
    caption = escape(" ".join(part for part in (f"{table.title}.", table.caption) if part))
    head = " & ".join(_head(table, cell) for cell in table.head) + r" \\"
    groups = ["\n".join(_row(row) for row in body) for body in table.shown]
    rows = "\n\\midrule\n".join(groups)
    label = rf"\label{{tab:{table.stem}}}"
    if sum(len(body) for body in table.shown) > LONG:
        lines = [
            r"% needs \usepackage{booktabs,longtable}",
            rf"\begin{{longtable}}{{{spec}}}",
            rf"\caption{{{caption}}}{label} \\",
            r"\toprule", head, r"\midrule", r"\endfirsthead",
            r"\toprule", head, r"\midrule", r"\endhead",
            r"\bottomrule", r"\endlastfoot",
            rows,
            r"\end{longtable}",
        ]  # fmt: skip
    else:
        lines = [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption}}}{label}",
            rf"\begin{{tabular}}{{{spec}}}",
            r"\toprule", head, r"\midrule",
            rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]  # fmt: skip
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    r"""Text for LaTeX: every character that has a meaning there is spelt out.

    >>> print(escape(r"50% of \x_1 & → 3"))
    50\% of \textbackslash{}x\_1 \& $\rightarrow$ 3
    """
    return "".join(_SPECIAL.get(letter, letter) for letter in _UNPRINTABLE.sub(" ", text))


def _column(table: Table, place: int) -> str:
    if place >= table.text_columns:
        return "r"
    longest = max((len(_plain(row[place])) for row in table.rows), default=0)
    return "l" if longest <= _WIDE else r"p{0.3\linewidth}"


def _head(table: Table, head: str) -> str:
    """A column's head; where columns are many, in two lines."""
    words = head.split(" ")
    if not table.dense or len(words) < 2:
        return escape(head)
    half = min(range(1, len(words)), key=lambda i: max(len(" ".join(words[:i])), len(" ".join(words[i:]))))
    return _stacked(escape(" ".join(words[:half])), escape(" ".join(words[half:])))


def _row(row: Sequence[Cell]) -> str:
    cells = " & ".join(_cell(cell) for cell in row)
    guard = "{}" if cells.startswith(("[", "*")) else ""  # behind the last row's \\ they would be an option of it
    return rf"{guard}{cells} \\"


def _cell(cell: Cell) -> str:
    if isinstance(cell, Number) and cell.below and (cell.interval or cell.extra):
        small = (rf"{{\scriptsize {escape(part)}}}" for part in (cell.interval, cell.extra) if part)
        return _stacked(escape(cell.shown), *small)
    return escape(_plain(cell))


def _stacked(*lines: str) -> str:
    return r"\shortstack[r]{" + r" \\ ".join(lines) + "}"


def _plain(cell: Cell) -> str:
    """What the page shows of a cell, in one line."""
    if isinstance(cell, Number):
        return " ".join(part for part in (cell.shown, cell.interval, cell.extra) if part)
    if isinstance(cell, P):
        return cell.shown
    if isinstance(cell, Text):
        mark = "†" if cell.flag else ""
        return f"{cell.text or DASH}{mark}" + (f" ({cell.note})" if cell.note else "")
    return cell or DASH
