"""COMET: a learnt score of a translation beside its source and reference, computed in COMET's own environment."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interlingua.errors import CometError
from interlingua.metrics import comet_runner
from interlingua.metrics.comet_environment import CometEnvironment, find_comet
from interlingua.metrics.segments import Tallies, join
from interlingua.progress import track

COMET_MODEL = "Unbabel/wmt22-comet-da"
"""The usual model, by its hub id: about 0 for nonsense, about 1 for a perfect translation."""

BATCH_SIZE = 8

Segment = tuple[str, str, str]
"""What COMET reads: what was said (as text), the system's output, and the reference."""


@dataclass(frozen=True)
class CometScores:
    """Segments' scores on the model's own scale, and how they were made."""

    scores: Mapping[Segment, float]
    signature: str

    def tallies(
        self,
        hypotheses: Mapping[str, str],
        references: Mapping[str, str],
        sources: Mapping[str, str],
        clusters: Mapping[str, str] | None = None,
    ) -> Tallies:
        """One system's scores by utterance id, whose mean is the system's score.

        Raises:
            UsageError: see `score_translations`.
        """
        segments = comet_segments(hypotheses, references, sources)
        return Tallies({i: (self.scores[s], 1.0) for i, s in segments.items()}, clusters, 1, self.signature)


def comet_segments(
    hypotheses: Mapping[str, str], references: Mapping[str, str], sources: Mapping[str, str]
) -> dict[str, Segment]:
    """What COMET reads of one system, by utterance id; a missing hypothesis counts as empty.

    Raises:
        CometError: an utterance without a transcript.
        UsageError: see `score_translations`.
    """
    lacking = [i for i in references if not sources.get(i)]
    if lacking:
        raise CometError(
            f"COMET reads what was said too, and {len(lacking)} utterances have no transcript, e.g. {lacking[0]!r}; "
            "give them a `text` in the manifest"
        )
    joined = join(hypotheses, references)
    return {
        i: (sources[i], output, reference)
        for i, output, reference in zip(joined.ids, joined.outputs, joined.references, strict=True)
    }


def score_comet(segments: Iterable[Segment], *, model: str = COMET_MODEL) -> CometScores:
    """Score segments, each once however often it occurs.

    Args:
        segments: in any order.
        model: a hub id, or a local checkpoint in the hub's layout: the folder, or the file in its ``checkpoints``.

    Raises:
        CometError: the environment isn't set up, or the model can't be had or run; the text says what was tried.
    """
    environment = find_comet()
    found = sorted(set(segments))
    located, name = _located(model)
    asked = {"model": located, "segments": found, "batch_size": BATCH_SIZE}
    answer = _ask(environment, asked, model)
    versions = "|".join(f"{name}:{version}" for name, version in environment.versions.items())
    signature = f"comet|model:{name}|revision:{answer['revision']}|source:transcript|{versions}"
    return CometScores(dict(zip(found, answer["scores"], strict=True)), signature)


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


def _ask(environment: CometEnvironment, asked: Mapping[str, Any], model: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="interlingua-comet-") as folder:
        question, answer, log = (Path(folder) / name for name in ("in.json", "out.json", "log.txt"))
        question.write_text(json.dumps(asked), encoding="utf-8")
        # -I: neither our environment's variables nor the runner's folder, which holds a comet.py, may be imported from.
        command = [str(environment.python), "-I", comet_runner.__file__, str(question), str(answer)]
        with log.open("wb") as errors:
            code = _run(command, errors.fileno(), len(asked["segments"]))
        if not answer.is_file():
            said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise CometError(
                f"COMET ended early with exit code {code} ({said[-1] if said else 'it said nothing'}); "
                + ("it was killed: too little memory?" if code < 0 else "`interlingua doctor` tells what is here")
            )
        found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    if "error" in found:
        raise CometError(
            f"COMET's model {model} can't be reached or run ({_shortened(found['error'])}); have it in the hub cache "
            "(with the XLM-R that it names), or name a local folder that holds hparams.yaml and checkpoints/model.ckpt"
        )
    return found


def _run(command: list[str], errors: int, n: int) -> int:
    """Run the runner and show its progress; it ends with us."""
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


def _shortened(text: str, most: int = 240) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
