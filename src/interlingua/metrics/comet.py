"""COMET: a learnt score of a translation given its source and reference, computed in an environment of its own.

Its pins (numpy 1, transformers 4) clash with ours.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interlingua.errors import CometError, FetchError
from interlingua.fetch import run
from interlingua.files import atomic_folder, cache_dir, write_text
from interlingua.metrics import comet_runner
from interlingua.metrics.statistics import Statistics, SystemOutputs, join, ratio
from interlingua.progress import track

COMET_MODEL = "Unbabel/wmt22-comet-da"
"""The usual model, by its hub id: about 0 for nonsense, about 1 for a perfect translation."""

BATCH_SIZE = 8

PINS = ("torch==2.13.0", "unbabel-comet==2.2.7", "setuptools<81")
"""For pip. As in torch.lock, the pin takes the CPU build where one is offered."""

SET_UP = "interlingua doctor --comet"
"""The command that makes the environment."""

_RECORD = "interlingua.json"  # written last: the environment's pins, and the versions found in it
_VERSIONS = "import comet, json, importlib.metadata as m; print(json.dumps({n: m.version(n) for n in %r}))"
_REPORTED = ("unbabel-comet", "torch", "transformers")

Segment = tuple[str, str, str]
"""Transcript of the source, hypothesis, reference."""


@dataclass(frozen=True)
class CometEnvironment:
    """A ready environment: its folder, and the versions of its main packages."""

    folder: Path
    versions: dict[str, str]

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return _python(self.folder)


def comet_folder() -> Path:
    """Path of the environment, whether it exists or not."""
    return cache_dir() / "comet"


def find_comet() -> CometEnvironment:
    """The environment.

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
    """Make the environment, unless it is ready, in a temporary folder that is then moved: never half-made.

    A concurrent set-up waits for the first. A failure raises CometError with the step and the reason.
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
            found = _do("import comet", [str(python), "-I", "-c", _VERSIONS % (_REPORTED,)])
            record = {"pins": list(PINS), "versions": json.loads(found.splitlines()[-1])}
            write_text(made / _RECORD, json.dumps(record) + "\n")
        return find_comet()


def _python(folder: Path) -> Path:
    return folder / "Scripts" / "python.exe" if os.name == "nt" else folder / "bin" / "python"


def _do(step: str, command: list[str]) -> str:
    try:
        return run(command, name=step, seconds=None)
    except FetchError as e:
        raise CometError(f"COMET's environment can't be set up: {e}; fix that and run `{SET_UP}` again") from e


@dataclass(frozen=True)
class CometScores:
    """Segments' scores on the model's own scale, and their signature."""

    scores: Mapping[Segment, float]
    signature: str

    def statistics(self, outputs: SystemOutputs) -> Statistics:
        """One system's scores, whose mean is the system's score; CometError for an utterance without a transcript."""
        values = {i: (self.scores[segment], 1.0) for i, segment in comet_segments(outputs).items()}
        return ratio(values, outputs.clusters, self.signature, cell=outputs.cell)


def comet_segments(outputs: SystemOutputs) -> dict[str, Segment]:
    """COMET's input by utterance id; a missing hypothesis counts as empty, a missing transcript raises CometError."""
    lacking = [i for i in outputs.references if not outputs.transcripts.get(i)]
    if lacking:
        raise CometError(
            f"COMET reads transcripts too, and {len(lacking)} utterances have no transcript, e.g. {lacking[0]!r}; "
            "give them a `text` in the manifest"
        )
    joined = join(outputs.hypotheses, outputs.references)
    return {
        i: (outputs.transcripts[i], hypothesis, reference)
        for i, hypothesis, reference in zip(joined.ids, joined.hypotheses, joined.references, strict=True)
    }


def score_comet(segments: Iterable[Segment], *, model: str = COMET_MODEL) -> CometScores:
    """Score segments, each distinct one once.

    ``model``: a hub id, or a local checkpoint in the hub's layout: the folder, or the file in its ``checkpoints``.

    Raises:
        CometError: the environment isn't set up, or the model can't be loaded or run.
    """
    environment = find_comet()
    found = sorted(set(segments))
    located, name = _located(model)
    request = {"model": located, "segments": found, "batch_size": BATCH_SIZE}
    response = _scores(environment, request, model)
    versions = "|".join(f"{name}:{version}" for name, version in environment.versions.items())
    signature = f"comet|model:{name}|revision:{response['revision']}|source:transcript|{versions}"
    return CometScores(dict(zip(found, response["scores"], strict=True)), signature)


def _located(model: str) -> tuple[str, str]:
    """The checkpoint's file if the model is local, else its hub id; and the name for the signature."""
    path = Path(model).expanduser()
    if path.is_dir():
        path = path / "checkpoints" / "model.ckpt"
    if path.is_file():
        if not (path.parents[1] / "hparams.yaml").is_file():
            raise CometError(
                f"{model}: no COMET checkpoint in the hub's layout: hparams.yaml is missing in {path.parents[1]}"
            )
        return str(path.resolve()), path.resolve().parents[1].name
    if Path(model).expanduser().exists():
        raise CometError(f"{model}: no COMET checkpoint in the hub's layout: checkpoints/model.ckpt is missing")
    if model.count("/") != 1 or model.startswith((".", "/", "~")):
        raise CometError(f"{model}: no such checkpoint; name a hub id such as {COMET_MODEL}, or a folder that is here")
    return model, model


def _scores(environment: CometEnvironment, request: Mapping[str, Any], model: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="interlingua-comet-") as folder:
        sent, response, log = (Path(folder) / name for name in ("in.json", "out.json", "log.txt"))
        sent.write_text(json.dumps(request), encoding="utf-8")
        # -I: neither our environment's variables nor the runner's folder, which holds a comet.py, may be imported from.
        command = [str(environment.python), "-I", comet_runner.__file__, str(sent), str(response)]
        with log.open("wb") as errors:
            code = _run(command, errors.fileno(), len(request["segments"]))
        if not response.is_file():
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise CometError(
                f"COMET ended early with exit code {code} ({lines[-1] if lines else 'without a message'}); "
                + ("it was killed: too little memory?" if code < 0 else "`interlingua doctor` tells what is here")
            )
        found: dict[str, Any] = json.loads(response.read_text(encoding="utf-8"))
    if "error" in found:
        reason = textwrap.shorten(found["error"], 240, placeholder="…")
        raise CometError(
            f"COMET's model {model} can't be reached or run ({reason}); have it in the hub cache "
            "(with the XLM-R that it names), or name a local folder that holds hparams.yaml and checkpoints/model.ckpt"
        )
    return found


def _run(command: list[str], errors: int, n: int) -> int:
    variables = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
    with (
        track(n, "COMET") as advance,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=variables) as child,
    ):
        try:
            for line in child.stdout or ():
                word, _, number = line.strip().partition(" ")
                if word == "done" and number.isdecimal():
                    advance(int(number))
        except BaseException:
            child.kill()
            raise
    return child.returncode
