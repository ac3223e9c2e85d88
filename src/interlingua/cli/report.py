"""``interlingua report``: rebuild a report from a result folder."""

from pathlib import Path

import cyclopts

app = cyclopts.App(name="report", help="Rebuild report.html from a result folder.")


@app.default
def report(folder: Path) -> None:
    """Rebuild ``report.html`` from the saved results alone.

    Args:
        folder: the result folder, e.g. runs/demo.
    """
    from interlingua.report import write_report

    print(f"report: {write_report(folder)}")
