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

MOST_PARTS, MOST_DEPTH = 100_000, 20  # of a recipe


def run_recipe(settings: Settings, *, dry_run: bool = False, log: Callable[[str], None] = print) -> Path:
    """Run an experiment and return its result folder; interrupted, the same call resumes.

    ``dry_run``: only print the plan. Raises InterlinguaError, see the experiments.
    """
    run = next(run for kind, run in RECIPES.values() if type(settings) is kind)
    return run(settings, dry_run=dry_run, log=log)


class _Loader(yaml.SafeLoader):
    """YAML's own values; a date is a text."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # PyYAML's
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _require_plain(content: Any) -> None:
    """Raise ValueError for a value that no setting has: of another kind, without end, of more parts than any recipe."""
    seen, parts = 0, [(content, 0)]
    while parts:
        value, depth = parts.pop()
        seen += 1
        if seen > MOST_PARTS or depth > MOST_DEPTH:  # aliases may name each other, and themselves
            raise ValueError("it is nested too deeply, or too large")
        if isinstance(value, dict):
            parts += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, list):
            parts += [(part, depth + 1) for part in value]
        elif isinstance(value, str):
            value.encode()  # half a character can't be written anywhere
        elif not isinstance(value, int | float | None):
            raise ValueError(f"{value!r:.40} is neither text nor a number")


def read_recipe(path: Path) -> Settings:
    """Read a recipe, a YAML file: its key ``recipe`` names the experiment, the others are that one's settings.

    Raises:
        UsageError: no such file, no YAML, another kind of file, or a setting that is unknown or of the wrong type.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
        _require_plain(content)
    except FileNotFoundError as e:
        raise UsageError(f"{path}: no such file; name a recipe, such as recipes/retrieval-prompts.yaml") from e
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as e:
        raise UsageError(f"{path}: no readable YAML ({' '.join(str(e).split())})") from e
    if not isinstance(content, dict) or content.get("recipe") not in tuple(RECIPES):
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
