"""``interlingua run``: experiments from recipes."""

from pathlib import Path

import cyclopts

from interlingua.cli.output import note, say
from interlingua.errors import InterlinguaError, UsageError

app = cyclopts.App(name="run", help="Run an experiment from a recipe, or several one after another.")


@app.default
def run(recipes: tuple[Path, ...], *, dry_run: bool = False) -> int:
    """Run each recipe and write its results and report; interrupted, the same command continues.

    If one of several recipes fails, the others still run, and the exit code is 1.

    Args:
        recipes: YAML files, such as recipes/transfer-prompts.yaml.
        dry_run: only read the corpora, check the settings, and print the plan.
    """
    from interlingua.experiments.recipes import read_recipe, run_recipe
    from interlingua.report import write_report

    if not recipes:
        raise UsageError("name a recipe, such as recipes/transfer-prompts.yaml")
    several = [(path, read_recipe(path)) for path in recipes]
    failed: dict[Path, str] = {}
    for path, settings in several:
        note(f"interlingua: {path}: {settings.plan()}; results in {settings.out}")
        try:
            out = run_recipe(settings, dry_run=dry_run, log=lambda line: note(f"interlingua: {line}"))
            if not dry_run:
                say(write_report(out))
        except (InterlinguaError, OSError, RuntimeError, MemoryError) as e:  # the next may have room
            if len(several) == 1:
                raise
            failed[path] = str(e) if isinstance(e, InterlinguaError) else f"{type(e).__name__}: {e}"
            note(f"interlingua: {path}: failed: {failed[path]}")
    if len(several) > 1:
        done = "checked" if dry_run else "done"
        for path, settings in several:
            outcome = f"failed: {failed[path]}" if path in failed else f"{done}, {settings.out}"
            note(f"interlingua: {path}: {outcome}")
    return 1 if failed else 0
