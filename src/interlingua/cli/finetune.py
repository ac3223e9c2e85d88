"""``interlingua finetune``: teach the decoder a new target language."""

from typing import TYPE_CHECKING, Annotated

import cyclopts

from interlingua.cli.output import emit, note, say
from interlingua.experiments.config import Device
from interlingua.finetuning.config import FinetuneConfig

if TYPE_CHECKING:
    from interlingua.results import Change

app = cyclopts.App(name="finetune", help="Teach the decoder a new target language and keep what it could do.")


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
    from interlingua.models.targets import read_targets
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
        for row in results.transfer_summary:
            say(f"{row.name:26} {_figures(row.change):>34}  {row.verdict}")
        if not results.transfer_summary:
            say("nothing is measured: the data has no split `test` (interlingua corpus prepare --fold 0 makes one)")
        model = out / "model"
        say(f"model: {model}")
        taught = read_targets(model)
        unknown = next((f" --from {s}" for s in settings.source if taught and s in taught.proxies), "")
        say(f"next: interlingua translate RECORDING{unknown} --model {model} --to {settings.target}")
        say(f"      interlingua export {model} {out / 'export'}")
    return 0


def _figures(change: "Change") -> str:
    if change.before is None or change.after is None or change.difference is None:
        return ""
    ci = change.difference.ci
    interval = f" [{ci[0]:+.1f}, {ci[1]:+.1f}]" if ci else ""
    return f"{change.before.value:.1f} -> {change.after.value:.1f}, {change.difference.value:+.1f}{interval}"
