"""``interlingua finetune``: teach the decoder a new target language."""

from typing import Annotated

import cyclopts

from interlingua.cli.output import emit, note
from interlingua.experiments.config import Device
from interlingua.transfer.config import FinetuneConfig

app = cyclopts.App(name="finetune", help="Teach the decoder a new target language from one source language.")


@app.default
def finetune(
    settings: Annotated[FinetuneConfig, cyclopts.Parameter(name="*")],
    *,
    device: Device = "auto",
    json: bool = False,
) -> int:
    """Train on cached states, keep what the model could do, and measure both; interrupted, the same command continues.

    Args:
        settings: what to train; the recipe's keys and the flags are the same.
        device: where to train.
        json: print the results as JSON.
    """
    from interlingua.experiments.finetuning import is_main_process, run_finetune
    from interlingua.report import write_report
    from interlingua.results import load_results

    out = run_finetune(settings, device=device, log=lambda line: note(f"interlingua: {line}"))
    if not is_main_process():
        return 0
    results, _ = load_results(out)
    note(f"report: {write_report(out)}")
    if json:
        emit(results)
    else:
        for row in results["transfer"]:
            name = f"{row['task']} {row['source']}-{row['target']}"
            if "chrf" in row:
                difference = row["chrf"]["difference"]
                low, high = difference["ci"]
                print(
                    f"{name:22} n={row['n']} chrF {row['chrf']['before']['value']:.1f} -> "
                    f"{row['chrf']['after']['value']:.1f} ({difference['value']:+.1f} [{low:.1f}, {high:.1f}])"
                )
            else:
                before, after = (row["error"][side]["value"] for side in ("before", "after"))
                print(f"{name:22} n={row['n']} error {before:.1f}% -> {after:.1f}%")
        for row in results["transfer_pooled"]:
            low, high = row["chrf"]["ci"]
            print(f"{row['pool']}: {row['chrf']['value']:+.1f} chrF [{low:.1f}, {high:.1f}]")
        print(f"model: {out / 'model'}")
    return 0
