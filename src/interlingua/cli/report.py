"""``interlingua report``: rebuild a report from a result folder."""

from pathlib import Path

import cyclopts

from interlingua.cli.output import emit

app = cyclopts.App(name="report", help="Rebuild report.html from a result folder.")


@app.default
def report(folder: Path, *, json: bool = False) -> None:
    """Rebuild ``report.html`` from the saved results alone.

    Args:
        folder: the result folder, e.g. runs/demo, or the results.json in it.
        json: print the report's path as JSON.
    """
    from interlingua.report import write_report

    page = write_report(folder.parent if folder.name == "results.json" else folder)
    if json:
        emit({"report": str(page)})
    else:
        print(f"report: {page}")
