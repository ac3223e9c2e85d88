"""``interlingua finetune``: teach the decoder a new target language."""

from typing import TYPE_CHECKING, Annotated

import cyclopts

from interlingua.cli.output import emit, note
from interlingua.experiments.config import Device
from interlingua.finetuning.config import FinetuneConfig

if TYPE_CHECKING:
    from interlingua.results import Change

app = cyclopts.App(name="finetune", help="Teach the decoder a new target language from one source language.")


@app.default
def finetune(
    settings: Annotated[FinetuneConfig, cyclopts.Parameter(name="*")],
    *,
    device: Device = "auto",
    json: bool = False,
) -> int:
    """Train on cached frames, preserve the model's abilities, and measure both; the same command resumes.

    Args:
        settings: what to train; the recipe's keys and the flags are the same.
        device: where to train.
        json: print the results as JSON.
    """
    from interlingua.experiments.finetune import is_main_process, run_finetune
    from interlingua.report import write_report
    from interlingua.results import as_json, load_results

    out = run_finetune(settings, device=device, log=lambda line: note(f"interlingua: {line}"))
    if not is_main_process():
        return 0
    results, _ = load_results(out)
    note(f"report: {write_report(out)}")
    if json:
        emit(as_json(results))
    else:
        for row in results.transfer:
            name = f"{row.task} {row.source}-{row.target}"
            change, unit = (row.chrf, "chrF") if row.chrf.difference else (row.error, "error %")
            if change.before and change.after:
                print(f"{name:22} n={row.n} {unit} {change.before.value:.1f} -> {change.after.value:.1f}{_ci(change)}")
        for pool in results.transfer_pooled:
            if pool.chrf and pool.chrf.ci:
                print(f"{pool.pool}: {pool.chrf.value:+.1f} chrF [{pool.chrf.ci[0]:.1f}, {pool.chrf.ci[1]:.1f}]")
        print(f"model: {out / 'model'}")
    return 0


def _ci(change: "Change") -> str:
    difference = change.difference
    if difference is None or difference.ci is None:
        return ""
    return f" ({difference.value:+.1f} [{difference.ci[0]:.1f}, {difference.ci[1]:.1f}])"
