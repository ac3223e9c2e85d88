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
    from interlingua.experiments.recipes import read_recipe, run_recipe
    from interlingua.experiments.suite import parts_done
    from interlingua.report import write_report

    settings = read_recipe(recipe)
    note(f"interlingua: {settings.plan()}; results in {settings.out}")
    out = run_recipe(settings, dry_run=dry_run, log=lambda line: note(f"interlingua: {line}"))
    if dry_run:
        return 0
    print(write_report(out))
    return 1 if any(part.failed for part in parts_done(out) or []) else 0
