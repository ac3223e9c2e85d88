"""Recipes: an experiment's settings in a YAML file, checked against its typed class."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import yaml

from interlingua.errors import UsageError
from interlingua.experiments.finetune import run_finetune
from interlingua.experiments.retrieval import RetrievalStudy, run_retrieval_study
from interlingua.experiments.robustness import RobustnessStudy, run_robustness_study
from interlingua.experiments.transfer import TransferStudy, run_transfer_study
from interlingua.experiments.unseen import UnseenStudy, run_unseen_study
from interlingua.finetuning.config import FinetuneConfig

Settings = RetrievalStudy | TransferStudy | FinetuneConfig | UnseenStudy | RobustnessStudy

RECIPES: dict[str, tuple[type[Settings], Callable[..., Path]]] = {
    "retrieval": (RetrievalStudy, run_retrieval_study),
    "transfer": (TransferStudy, run_transfer_study),
    "finetune": (FinetuneConfig, run_finetune),
    "unseen": (UnseenStudy, run_unseen_study),
    "robustness": (RobustnessStudy, run_robustness_study),
}
"""Value of ``recipe:`` -> its settings, and their function: ``run(settings, dry_run, log)`` -> result folder."""


def run_recipe(settings: Settings, *, dry_run: bool = False, log: Callable[[str], None] = print) -> Path:
    """Run an experiment and return its result folder; interrupted, the same call resumes.

    ``dry_run``: only print the plan. Raises InterlinguaError, see the experiments.
    """
    run = next(run for kind, run in RECIPES.values() if type(settings) is kind)
    return run(settings, dry_run=dry_run, log=log)


def read_recipe(path: Path) -> Settings:
    """Read a recipe, a YAML file: its key ``recipe`` names the experiment, the others are that one's settings.

    Raises:
        UsageError: no such file, no YAML, another kind of file, or a setting that is unknown or of the wrong type.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise UsageError(f"{path}: no such file; name a recipe, such as recipes/retrieval-prompts.yaml") from e
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
        raise UsageError(f"{path}: no readable YAML ({' '.join(str(e).split())})") from e
    if not isinstance(content, dict) or content.get("recipe") not in RECIPES:
        raise UsageError(f"{path}: say which experiment it is, `recipe: {' or '.join(RECIPES)}`")
    name = content.pop("recipe")
    kind, _ = RECIPES[name]
    _require_known(content, kind, path)
    try:
        settings: Settings = msgspec.convert(content, kind, dec_hook=lambda wanted, value: wanted(value))
    except (msgspec.ValidationError, UsageError) as e:
        raise UsageError(f"{path}: {e}") from e
    return settings


def _require_known(content: Any, hint: Any, path: Path, inside: str = "") -> None:
    """Raise UsageError for a key that a typed class, or one within it, lacks."""
    if not isinstance(content, dict):
        return
    if get_origin(hint) is dict:  # one a name
        for name, value in content.items():
            _require_known(value, get_args(hint)[1], path, f"{inside.removesuffix(': ')}, {name}: ")
        return
    for kind in (hint, *get_args(hint)):
        if dataclasses.is_dataclass(kind):
            known = get_type_hints(kind)
            for name, value in content.items():
                if name not in known:
                    raise UsageError(f"{path}: no setting {inside}{name!r}; there are {', '.join(sorted(known))}")
                _require_known(value, known[name], path, f"{inside}{name}: ")
