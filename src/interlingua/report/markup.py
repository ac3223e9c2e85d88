"""Pieces of HTML: text from the results is escaped here, and enters the page in no other way."""

import html
from collections.abc import Iterable, Sequence


class Html(str):
    """Markup made here, to stand in the page as it is."""

    __slots__ = ()


def language_attributes(code: str) -> str:
    """Attributes that tell browsers the language, and let its script choose the direction."""
    return f' lang="{escape(code)}" dir="auto"' if code else ' dir="auto"'


def escape(text: str | None) -> str:
    """Escape text from the results; markup made here passes."""
    if isinstance(text, Html):
        return text
    return html.escape(text or "", quote=True)


def figure(svg: str, caption: str, *, wide: bool = False) -> str:
    """A picture with its caption (markup); a ``wide`` one scrolls sideways on a phone rather than shrink."""
    inner = f'<div class="wide">{svg}</div>' if wide else svg
    return f"<figure>\n{inner}\n<figcaption>{caption}</figcaption>\n</figure>\n"


def table(
    head: Sequence[str],
    bodies: Iterable[Sequence[Sequence[str]]],
    *,
    caption: str,
    text_columns: int = 1,
    ruled: bool = False,
    pinned: bool = False,
    strong_first_row: bool = False,
) -> str:
    """A table of text and markup cells; the first cell of a row is its head.

    Args:
        head: the column heads.
        bodies: groups of rows, with a rule between groups.
        caption: text below the table; empty for none.
        text_columns: how many columns at the left are text; the others are figures.
        ruled: a rule between any two rows.
        pinned: keep the first column in view on a phone.
        strong_first_row: set the first row in bold.
    """

    def kind(column: int) -> str:
        return ' class="num"' if column >= text_columns else ""

    top = "".join(f'<th scope="col"{kind(i)}>{escape(cell)}</th>' for i, cell in enumerate(head))
    blocks = []
    first = strong_first_row
    for rows in bodies:
        lines = []
        for row in rows:
            cells = "".join(f"<td{kind(i)}>{escape(cell)}</td>" for i, cell in enumerate(row) if i)
            strong = ' class="main-row"' if first else ""
            lines.append(f'<tr{strong}><th scope="row">{escape(row[0])}</th>{cells}</tr>')
            first = False
        joined = "\n".join(lines)
        blocks.append(f"<tbody>\n{joined}\n</tbody>")
    names = " ".join(name for name, on in (("table", True), ("ruled", ruled), ("pinned", pinned)) if on)
    note = f'\n<p class="note">{escape(caption)}</p>' if caption else ""  # outside: it mustn't scroll sideways
    body = "\n".join(blocks)
    top = f"<thead><tr>{top}</tr></thead>"
    return f'<div class="{names}">\n<table>\n{top}\n{body}\n</table>\n</div>{note}'


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """A list of names and values, or nothing."""
    if not pairs:
        return ""
    rows = "\n".join(f'<tr><th scope="row">{escape(k)}</th><td>{escape(v)}</td></tr>' for k, v in pairs)
    return f'<div class="table ruled facts">\n<table>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>'


def bullets(items: Iterable[str]) -> str:
    """A bulleted list."""
    lines = "\n".join(f"<li>{escape(item)}</li>" for item in items)
    return f"<ul>\n{lines}\n</ul>"


def signature_list(items: Sequence[tuple[str, str]]) -> str:
    """What was signed, and the signatures; or nothing."""
    if not items:
        return ""
    lines = "\n".join(f"<li>{escape(what)}: <code>{escape(mark)}</code></li>" for what, mark in items)
    return f'<ul class="signatures">\n{lines}\n</ul>'
