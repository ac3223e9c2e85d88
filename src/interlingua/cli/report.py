"""``interlingua report``: rebuild a report from a result folder, or compare several."""

from pathlib import Path
from typing import Annotated

import cyclopts

from interlingua.cli.output import emit, say
from interlingua.errors import UsageError

app = cyclopts.App(name="report", help="Rebuild report.html from a result folder, or compare several.")


@app.default
def report(
    folders: tuple[Path, ...],
    *,
    out: Path | None = None,
    no_players: bool = False,
    sections: Annotated[tuple[str, ...], cyclopts.Parameter(name="--section", negative="")] = (),
    json: bool = False,
) -> None:
    """Rebuild ``report.html`` from the saved results alone; of several folders, a page that compares them.

    The tables are written as CSV and LaTeX too, to ``tables/``, or to compare-tables/ next to compare.html.

    Args:
        folders: result folders, e.g. runs/demo, or their results.json; several are compared with the first.
        out: the page that compares several; default: compare.html.
        no_players: skip the recordings of single utterances, for example if they can't be read.
        sections: a further section, repeatable: ``module:attribute`` of a function of results, arrays and utterances
            that returns blocks (interlingua.report.tables).
        json: print the report's path as JSON.
    """
    from interlingua.report import write_comparison, write_report

    named = [folder.parent if folder.name == "results.json" else folder for folder in folders]
    if len(named) == 1 and out is not None:
        raise UsageError("--out names the page that compares several folders; one folder's report lies in the folder")
    if len(named) > 1 and sections:
        raise UsageError("--section is for the report of one folder, not for a page that compares several")
    if len(named) == 1:
        page = write_report(named[0], players=not no_players, sections=sections)
    else:
        page = write_comparison(named, out or Path("compare.html"))
    if json:
        emit({"report": str(page)})
    else:
        say(f"report: {page}")
