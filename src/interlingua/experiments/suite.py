"""Several recipes as one: run in order, each into a folder of its own, with whatever of their settings is changed.

One that fails doesn't stop the others: it is named in ``suite.json`` beside them. Every recipe goes on where it was.
"""

import datetime
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from interlingua.encoding import best_compute, best_device, free_bytes
from interlingua.errors import InterlinguaError, ResultsError, UsageError
from interlingua.experiments.needs import shown_time
from interlingua.experiments.tally import Tally
from interlingua.experiments.transfer_study.settings import TransferStudy
from interlingua.files import write_text
from interlingua.results import provenance

if TYPE_CHECKING:
    from interlingua.experiments.recipes import Settings

FILE = "suite.json"


@dataclass(frozen=True, kw_only=True)
class SuitePart:
    """One recipe of a suite.

    Attributes:
        recipe: its file.
        change: settings in place of the file's; within a setting that has settings of its own only those that are named
            are changed. A setting that is empty (null) here has its default.
    """

    recipe: Path
    change: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Settings of a suite; the keys of its recipe.

    Attributes:
        out: the folder; each part has a folder of its name in it.
        parts: name -> what is run, in this order.
    """

    out: Path
    parts: dict[str, SuitePart]

    def __post_init__(self) -> None:
        """Check every part's settings before the work.

        Raises:
            UsageError: no part, a name that can't be a folder's, or what is wrong with a part.
        """
        if not self.parts:
            raise UsageError("parts: name one or more recipes, as in `parts: {retrieval: {recipe: retrieval.yaml}}`")
        for name in self.parts:
            if not re.fullmatch(r"\w[\w.-]*", name):
                raise UsageError(f"parts: {name!r} can't be a folder's name; use letters, digits and -")
        self.settings()

    def settings(self) -> dict[str, "Settings"]:
        """The settings of each part."""
        from interlingua.experiments.recipes import read_recipe  # its table names this module

        found: dict[str, Settings] = {}
        for name, part in self.parts.items():
            try:
                found[name] = read_recipe(part.recipe, {**part.change, "out": str(self.out / name)}, without="suite")
            except UsageError as e:
                raise UsageError(f"parts, {name}: {e}") from e
        return found

    def plan(self) -> str:
        """What will be done, in a line."""
        return f"{len(self.parts)} recipes: {', '.join(self.parts)}"


def run_suite(suite: Suite, *, dry_run: bool = False, log: Callable[[str], None] = print) -> Path:
    """Run every part, and write ``suite.json``: what was run, in which folder, and what failed.

    Args:
        suite: the settings.
        dry_run: only say what each part will do, and what that needs, and all of them together.
        log: takes a line of news, which begins with the part's name.

    Raises:
        UsageError: with ``dry_run``, a part that couldn't be run; all of them are named.
    """
    from interlingua.experiments.recipes import RECIPES, run_recipe

    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    rows: list[dict[str, Any]] = []
    device, tally = best_device(), Tally()
    for name, settings in suite.settings().items():
        log(f"{name}: {settings.plan()}")
        begun, failed, mine = time.monotonic(), None, Tally()
        try:
            with mine.of(settings.folder if isinstance(settings, TransferStudy) else settings.out):
                run_recipe(settings, dry_run=dry_run, log=_of(name, log))
            tally.add(mine)  # what a part said before it failed isn't needed
        except InterlinguaError as e:
            failed = str(e)
        except (OSError, RuntimeError, MemoryError) as e:  # a full disk, a GPU's memory: the next part may have room
            failed = f"{type(e).__name__}: {e}"
        if failed:
            log(f"{name}: failed: {failed}")
        part = suite.parts[name]
        rows.append(
            {
                "name": name,
                "kind": next(kind for kind, (of, _) in RECIPES.items() if isinstance(settings, of)),
                "recipe": str(part.recipe),
                "change": part.change,
                "plan": settings.plan(),
                "seconds": round(time.monotonic() - begun, 1),
                "failed": failed,
            }
        )
        if not dry_run:
            made = provenance(best_compute(device), device, time.monotonic() - clock, started)
            write_text(
                suite.out / FILE, json.dumps({"parts": rows, "provenance": made}, ensure_ascii=False, indent=1) + "\n"
            )
    lost = [f"{row['name']}: {row['failed']}" for row in rows if row["failed"]]
    if dry_run:
        log(_together(suite, tally, len(rows) - len(lost)))
    if dry_run and lost:
        raise UsageError(f"{len(lost)} of {len(rows)} parts can't be run: {'; '.join(lost)}")
    return suite.out


def _together(suite: Suite, tally: Tally, parts: int) -> str:
    """What the parts need, in a line."""
    audio, disk, seconds = tally.total()
    free = free_bytes(suite.out)
    room = "" if free is None else f" ({free / 1e9:.0f} GB are free)"
    return (
        f"{parts} parts together: {audio / 3600:.2f} h of audio to encode, {disk / 1e9:.2f} GB of frames{room}, about "
        f"{shown_time(seconds)}; what several parts encode into one folder counts once, what a part doesn't estimate "
        "isn't in it"
    )


def _of(name: str, log: Callable[[str], None]) -> Callable[[str], None]:
    return lambda line: log(f"{name}: {line}")


class PartDone(msgspec.Struct, frozen=True, kw_only=True):
    """What ``suite.json`` says of a part; ``failed`` is why, or None."""

    name: str
    kind: str
    recipe: str
    plan: str
    seconds: float
    failed: str | None


class _Done(msgspec.Struct, frozen=True):
    parts: list[PartDone]


def parts_done(folder: Path) -> list[PartDone] | None:
    """What a suite's folder says of its parts; None: a folder of another kind.

    Raises:
        ResultsError: ``suite.json`` is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Done).parts
    except msgspec.DecodeError as e:
        raise ResultsError(f"{path}: no suite's parts ({e}); run the suite again, it goes on where it was") from e
