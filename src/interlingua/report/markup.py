"""Pieces of HTML: text from the results is escaped here, and enters the page in no other way."""

import html
from collections.abc import Iterable, Sequence

from interlingua.report.records import Difference, Interval

DASH = "–"  # what isn't known


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
    dense: bool = False,
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
        dense: many columns: narrow gaps, and column heads of several lines.
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
    classes = (("table", True), ("ruled", ruled), ("pinned", pinned), ("dense", dense))
    names = " ".join(name for name, on in classes if on)
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


def number(value: float | None, scale: float, *, digits: int = 1) -> str:
    """A number to some digits, or a dash."""
    return DASH if value is None else f"{scale * value:.{digits}f}"


def with_interval(
    value: float | None, ci: Interval | None, scale: float, *, digits: int = 1, below: bool = False
) -> str:
    """A number with its interval beside it, or ``below`` it, where columns are many."""
    shown = number(value, scale, digits=digits)
    if value is None or ci is None:
        return shown
    low, high = (f"{scale * v:.{digits}f}" for v in ci)
    to = ", " if low.startswith("-") else "–"  # a dash before a minus can't be read
    return Html(f'{shown}<span class="{"sub" if below else "ci"}">[{low}{to}{high}]</span>')


def signed(found: Difference | None, *, below: bool = False, digits: int = 1) -> str:
    """A difference with its sign and interval."""
    if found is None or found.value is None:
        return DASH
    if found.ci is None:
        return _plus_or_minus(found.value, digits)
    low, high = (_plus_or_minus(v, digits) for v in found.ci)
    return Html(f'{_plus_or_minus(found.value, digits)}<span class="{"sub" if below else "ci"}">[{low}, {high}]</span>')


def p_value(found: Difference | None) -> str:
    """A difference's p by randomisation, to three digits."""
    return _p(found.p_randomisation if found else None)


def both_p_values(found: Difference | None) -> str:
    """A difference's p by the paired bootstrap and by randomisation."""
    return DASH if found is None else f"{_p(found.p_bootstrap)} / {_p(found.p_randomisation)}"


def text_lines(lines: Iterable[tuple[str, str | None, str]]) -> str:
    """What was said and written: (label, text, language) each; a text that is None is left out."""
    spoken = "\n".join(
        f"<dt>{escape(label)}</dt>\n<dd{language_attributes(code)}>{escape(text) or '(empty)'}</dd>"
        for label, text, code in lines
        if text is not None
    )
    return f'<div class="sample"><dl>\n{spoken}\n</dl></div>'


def _p(p: float | None) -> str:
    if p is None:
        return DASH
    return "<0.001" if p < 0.0005 else f"{p:.3f}"


def _plus_or_minus(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")
