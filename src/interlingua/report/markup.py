"""Pieces of HTML: text from the results is escaped here, and enters the page in no other way."""

import base64
import html
from collections.abc import Iterable, Sequence

from interlingua.report.latex import latex
from interlingua.report.tables import DASH, Block, Cell, Number, P, Table, Text


def language_attributes(code: str) -> str:
    """Attributes that tell browsers the language, and let its script choose the direction."""
    return f' lang="{escape(code)}" dir="auto"' if code else ' dir="auto"'


def escape(text: str | None) -> str:
    """Text from the results as HTML; nothing for None."""
    return html.escape(text or "", quote=True)


def figure(svg: str, caption: str, *, wide: bool = False) -> str:
    """A picture with its caption (markup); a ``wide`` one scrolls sideways on a phone rather than shrink."""
    inner = f'<div class="wide">{svg}</div>' if wide else svg
    return f"<figure>\n{inner}\n<figcaption>{caption}</figcaption>\n</figure>\n"


def html_of(blocks: Iterable[Block]) -> str:
    """A section's content."""
    return "\n".join(table(block) if isinstance(block, Table) else block for block in blocks)


def table(made: Table) -> str:
    """A table with its caption, and its files to take away."""

    def kind(column: int) -> str:
        return ' class="num"' if column >= made.text_columns else ""

    blocks, first = [], made.strong_first_row
    for body in made.shown:
        lines = []
        for row in body:
            cells = "".join(f"<td{kind(i)}>{_cell(cell)}</td>" for i, cell in enumerate(row) if i)
            strong = ' class="main-row"' if first else ""
            lines.append(f'<tr{strong}><th scope="row">{_cell(row[0])}</th>{cells}</tr>')
            first = False
        joined = "\n".join(lines)
        blocks.append(f"<tbody>\n{joined}\n</tbody>")
    filters = made.filters or ()
    heads = "".join(
        f'<th scope="col"{kind(i)}{" data-filter" if head in filters else ""}>{escape(head)}</th>'
        for i, head in enumerate(made.head)
    )
    top = "" if made.facts else f"<thead><tr>{heads}</tr></thead>\n"
    looks = (
        ("ruled", made.ruled),
        ("pinned", made.pinned),
        ("dense", made.dense),
        ("facts", made.facts),
        ("searchable", made.filters is not None),
    )
    classes = " ".join(["table", *(name for name, on in looks if on)])
    # The caption stands outside: it mustn't scroll sideways.
    note = f'\n<p class="note">{escape(made.caption)}</p>' if made.caption else ""
    content = "\n".join(blocks)
    return f'<div class="{classes}">\n<table>\n{top}{content}\n</table>\n</div>{note}\n{_files(made)}'


def _files(made: Table) -> str:
    """Links to the table's files: within the page, so that it needs nothing beside it, but for the largest tables."""
    name = escape(made.stem)
    if made.filters is not None:
        return f'<p class="files">All rows, beside this page: <a href="tables/{name}.csv">tables/{name}.csv</a></p>'
    kinds = {"CSV": ("csv", "text/csv", made.csv()), "LaTeX": ("tex", "text/plain", latex(made))}
    links = ", ".join(
        f'<a download="{name}.{suffix}" href="{_data(kind, text)}">{label}</a>'
        for label, (suffix, kind, text) in kinds.items()
    )
    return f'<p class="files">Table as {links}</p>'


def _data(kind: str, text: str) -> str:
    return f"data:{kind};charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}"


def _cell(cell: Cell) -> str:
    if isinstance(cell, Number):
        beside = [(cell.interval, cell.below), (cell.extra, True)]
        more = "".join(f'<span class="{"sub" if below else "ci"}">{escape(t)}</span>' for t, below in beside if t)
        return escape(cell.shown) + more
    if isinstance(cell, P):
        return escape(cell.shown)
    if not isinstance(cell, Text):
        return escape(cell) or DASH
    said = escape(cell.text) or DASH
    if cell.language:
        said = f"<span{language_attributes(cell.language)}>{said}</span>"
    if cell.flag:
        said += f'&nbsp;<span class="flag" title="{escape(cell.flag)}">†</span>'
    if cell.note:
        said += f'<span class="sub">{escape(cell.note)}</span>'
    if cell.player:
        said += f'<audio controls preload="none" src="{escape(cell.player)}"></audio>'
    return said


def details(summary: str, blocks: Sequence[Block]) -> list[Block]:
    """Blocks folded away."""
    return [f"<details>\n<summary>{escape(summary)}</summary>", *blocks, "</details>"]


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


def signatures_by_label(items: Iterable[tuple[str, str, str | None]]) -> str:
    """The signatures of (label, of what, signature), each once; "of what" only where a label has several.

    They stand by label, in the order of the labels' first appearance.
    """
    marks: dict[tuple[str, str], list[str]] = {}
    for label, what, signature in items:
        if signature:
            marks.setdefault((label, signature), []).append(what)
    labels = [label for label, _ in marks]
    alone = {label for label in labels if labels.count(label) == 1}
    return signature_list(
        [
            (label if label in alone else f"{label}, {', '.join(dict.fromkeys(whats))}", signature)
            for (label, signature), whats in sorted(marks.items(), key=lambda item: labels.index(item[0][0]))
        ]
    )


def text_lines(lines: Iterable[tuple[str, str | None, str]]) -> str:
    """What was said and written: (label, text, language) each; a text that is None is left out."""
    spoken = "\n".join(
        f"<dt>{escape(label)}</dt>\n<dd{language_attributes(code)}>{escape(text) or '(empty)'}</dd>"
        for label, text, code in lines
        if text is not None
    )
    return f'<div class="sample"><dl>\n{spoken}\n</dl></div>'
