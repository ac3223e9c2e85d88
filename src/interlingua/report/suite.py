"""The index of a suite's folder: its parts, whose reports it links, and comparisons of those of one kind."""

from itertools import groupby
from pathlib import Path

from interlingua.errors import ResultsError
from interlingua.experiments.suite import PartDone, parts_done
from interlingua.report import page
from interlingua.report.comparison import write_comparison
from interlingua.report.markup import escape
from interlingua.results import load_results

_TITLE = "Recipes run together"


def write_report(folder: Path, *, players: bool = True) -> Path:
    """Write the page of a result folder, or of a suite's folder ``index.html`` and its parts' pages; return its path.

    Args:
        folder: the result folder.
        players: put recordings of some utterances into the pages, where they can be read.

    Raises:
        ResultsError: no results there, or not of this version's schema.
    """
    folder = Path(folder)
    parts = parts_done(folder)
    if parts is None:
        return page.write_report(folder, players=players)
    for part in parts:
        if not part.failed:
            page.write_report(folder / part.name, players=players)
    sections = [
        page.Section("recipes", "Recipes", ["\n".join(_entry(folder, part) for part in parts)]),
        page.Section("comparisons", "Comparisons", _comparisons(folder, parts)),
    ]
    failed = sum(bool(part.failed) for part in parts)
    lead = f"{len(parts)} recipes" + (f", of which {failed} failed; the same command runs them again" if failed else "")
    path = folder / "index.html"
    page.write_page(
        path,
        _TITLE,
        sections,
        lead=f'<p class="lead">{escape(lead)}.</p>',
        footer="<p>Interlingua, from saved results alone.</p>",
        tables=folder / "tables",
    )
    return path


def _entry(folder: Path, part: PartDone) -> str:
    name = escape(part.name)
    said = f"{part.plan} ({part.recipe}, {part.seconds:.0f} s)"
    if part.failed:
        return f"<h3>{name}</h3>\n<p>{escape(said)}</p>\n<aside><p>Failed: {escape(part.failed)}</p></aside>"
    title = load_results(folder / part.name)[0].title or part.name
    return f'<h3><a href="{name}/report.html">{name}: {escape(title)}</a></h3>\n<p>{escape(said)}</p>'


def _comparisons(folder: Path, parts: list[PartDone]) -> list[str]:
    """A link for each kind of recipe that several parts are of, if they measured anything in common."""
    links = []
    usable = sorted((part for part in parts if not part.failed), key=lambda part: part.kind)
    for kind, group in groupby(usable, key=lambda part: part.kind):
        names = [part.name for part in group]
        if len(names) < 2:
            continue
        path = folder / f"compare-{kind}.html"
        try:
            write_comparison([folder / name for name in names], path)
        except ResultsError:  # of different languages or tasks
            continue
        links.append(f'<p><a href="{escape(path.name)}">{escape(", ".join(names))}</a></p>')
    return links
