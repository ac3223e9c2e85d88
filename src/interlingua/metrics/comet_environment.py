"""COMET's own environment: its pins (numpy 1, transformers 4) clash with ours, so it is installed apart from us."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from interlingua.errors import CometError
from interlingua.files import atomic_folder, cache_dir, write_text

PINS = ("torch==2.13.0", "unbabel-comet==2.2.7", "setuptools<81")
"""What is asked of pip. As in requirements.lock, the pin of torch takes the CPU build where one is offered."""

SET_UP = "interlingua doctor --comet"
"""The command that makes the environment."""

_RECORD = "interlingua.json"  # written last: what the environment was made from, and the versions found in it
_VERSIONS = "import comet, json, importlib.metadata as m; print(json.dumps({n: m.version(n) for n in %r}))"
_REPORTED = ("unbabel-comet", "torch", "transformers")
_ADVICE = "notice"  # pip's lines about newer pips, which explain nothing


@dataclass(frozen=True)
class CometEnvironment:
    """One that is ready: its folder, and the versions of what matters in it."""

    folder: Path
    versions: dict[str, str]

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return _python(self.folder)


def comet_folder() -> Path:
    """Where the environment lies, whether it is there or not."""
    return cache_dir() / "comet"


def find_comet() -> CometEnvironment:
    """The environment, if it is ready.

    Raises:
        CometError: it isn't set up, was made from other pins, or its Python is gone.
    """
    folder = comet_folder()
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        pins, versions = record["pins"], dict(record["versions"])
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise CometError(f"COMET's environment isn't set up in {folder}; set it up with `{SET_UP}`") from e
    if pins != list(PINS):
        raise CometError(f"COMET's environment in {folder} was made from other pins; make it again with `{SET_UP}`")
    if not _python(folder).exists():  # a link to the Python that made it
        raise CometError(f"the Python of COMET's environment in {folder} is gone; make it again with `{SET_UP}`")
    return CometEnvironment(folder, versions)


def set_up_comet(log: Callable[[str], None]) -> CometEnvironment:
    """Make the environment, unless it is ready.

    It is made beside its place and moved there whole: nothing half-made stays, and what a killed set-up left is
    removed. A second set-up at the same time waits for the first.

    Raises:
        CometError: it can't be made; the text says which step failed and why.
    """
    from filelock import FileLock

    folder = comet_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name("comet.lock")):
        try:
            return find_comet()
        except CometError:
            pass
        for left in folder.parent.glob(f".{folder.name}.*"):
            shutil.rmtree(left, ignore_errors=True)
        log(f"making COMET's environment in {folder} (about 1.5 GB, with torch for the GPU several more)")
        with atomic_folder(folder) as made:
            python = _python(made)
            _do("venv", [sys.executable, "-m", "venv", str(made)])
            log(f"installing {', '.join(PINS)}")
            _do("pip", [str(python), "-m", "pip", "install", "--quiet", "--no-input", *PINS])
            said = _do("import comet", [str(python), "-I", "-c", _VERSIONS % (_REPORTED,)])
            record = {"pins": list(PINS), "versions": json.loads(said.splitlines()[-1])}
            write_text(made / _RECORD, json.dumps(record) + "\n")
        return find_comet()


def _python(folder: Path) -> Path:
    return folder / "Scripts" / "python.exe" if os.name == "nt" else folder / "bin" / "python"


def _do(step: str, command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as e:
        raise _failed(step, e.strerror or str(e)) from e
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip() and _ADVICE not in line]
        errors = [line for line in lines if line.startswith("ERROR")]
        raise _failed(step, (errors or lines or [f"exit code {done.returncode}"])[-1])
    return done.stdout


def _failed(step: str, why: str) -> CometError:
    return CometError(f"COMET's environment can't be set up: {step}: {why}; mend that and run `{SET_UP}` again")
