"""``interlingua demo``: the main job on real speech, with a report."""

from typing import Annotated

import cyclopts

from interlingua.cli.output import emit, note, say
from interlingua.experiments.config import DemoConfig

app = cyclopts.App(name="demo", help="Retrieve, translate and report on real human recordings.")


@app.default
def demo(
    *,
    json: bool = False,
    config: Annotated[DemoConfig | None, cyclopts.Parameter(name="*")] = None,
) -> int:
    """Show the paper's first claim on real speech; the report's path is printed.

    Args:
        json: print the results as JSON.
        config: settings.
    """
    from interlingua.experiments.demo import run_demo
    from interlingua.report import write_report
    from interlingua.results import as_json, load_results

    folder = run_demo(config, log=note)
    page = write_report(folder)
    results, _ = load_results(folder)
    if json:
        emit(as_json(results))
    else:
        say(f"report: {page}")
    for line in results.failures:
        note(f"interlingua: failed: {line}")
    return 1 if results.failures else 0
