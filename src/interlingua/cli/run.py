"""``interlingua run``: an experiment from a recipe."""

from pathlib import Path

import cyclopts

from interlingua.cli.output import note

app = cyclopts.App(name="run", help="Run an experiment from a recipe.")


@app.default
def run(recipe: Path, *, dry_run: bool = False) -> int:
    """Run what the recipe says and write its results and report; interrupted, the same command continues.

    Args:
        recipe: a YAML file, such as recipes/transfer-prompts.yaml.
        dry_run: only say what it will do, and what that needs.
    """
    from interlingua.experiments.finetuning import run_finetune
    from interlingua.experiments.recipes import read_recipe
    from interlingua.experiments.retrieval_study import RetrievalStudy, run_retrieval_study
    from interlingua.experiments.transfer_study import TransferStudy, run_transfer_study
    from interlingua.experiments.unseen import UnseenStudy, run_unseen_study
    from interlingua.report import write_report

    settings = read_recipe(recipe)
    note(f"interlingua: {settings.plan()}; results in {settings.out}")

    def log(line: str) -> None:
        note(f"interlingua: {line}")

    if dry_run:
        if isinstance(settings, RetrievalStudy):
            run_retrieval_study(settings, dry_run=True, log=log)
        return 0
    if isinstance(settings, RetrievalStudy):
        out = run_retrieval_study(settings, log=log)
    elif isinstance(settings, TransferStudy):
        out = run_transfer_study(settings, log=log)
    elif isinstance(settings, UnseenStudy):
        out = run_unseen_study(settings, log=log)
    else:
        out = run_finetune(settings, log=log)
    print(write_report(out))
    return 0
