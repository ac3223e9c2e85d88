"""Result folders: ``results.json`` with everything that was measured, and ``arrays.npz`` for the pictures.

The frame of ``results.json``, in which every part but the first three is optional::

    {"schema": 1,
     "title": "…",
     "provenance": {"command", "started", "seconds", "version", "commit", "dirty", "python", "platform",
                    "packages": {name: version}, "device": {"name", "threads", "compute"}},
     "settings": {name: value},
     "corpus": {"title", "n_meanings", "n_clusters", "rules": [text],
                "languages": [{"language", "n", "seconds", "voice", "variety", "licence"}]},
     "retrieval": [{"query", "candidate", "method", "n", "n_candidates", "n_clusters", "r1", "r1_ci", "r5",
                    "r10", "mrr", "mrr_ci", "r1_cluster", "chance_cluster", "chance", "chance_r5",
                    "chance_r10", "median_rank", "signature"}],
     "published": [{"query", "candidate", "method", "ours", "published"}],
     "translation": [{"source", "target", "system", "n", "bleu": {"value", "ci", "n", "signature"},
                      "chrf": {…}}],
     "transfer": [{"task": "new" | "other" | "translate" | "transcribe" | "detect", "source", "target", "trained", "n",
                   "chrf": {"before": {"value", "ci", "n", "signature"}, "after": {…},
                            "difference": {"value", "ci", "n", "signature", "p_bootstrap", "p_randomisation"}},
                   "bleu": {…}, "off_target": {"before", "after"}, "error": {"before", "after"}}],
     "transfer_pooled": [{"pool", "languages": [code], "chrf": {"value", "ci", …, "p_randomisation"}}],
     "pareto": [{"name", "target", "gain": {"value", "ci"}, "loss": {"value", "ci"}, "curve": [[gain, loss]]}],
     "outputs": [{"system", "task": "translate" | "transcribe", "source", "sources": [code], "target", "n", "missing",
                  "bleu": {"value", "ci", "n", "signature"} | {"reason"}, "chrf++", "chrf", "off_target", "comet",
                  "error"}],
     "outputs_compared": [{"system", "against", …, "bleu": {"value", …, "p_bootstrap", "p_randomisation"}, …}],
     "outputs_by_duration": [{"system", …, "duration", …}],
     "worst": [{"system", "id", "task", "source", "target", "metric", "score", "transcript", "reference",
                "hypothesis"}],
     "unseen": [{"language", "name", "seen", "own_token", "synthetic", "speakers": [text], "n", "n_clusters", "seconds",
                 "candidates": [{"token", "bleu": {…}, "chrf": {…}, "off_target": {…}}],
                 "rules": {rule: {"token", "scores": {token: number}}}, "chosen", "oracle",
                 "permuted": {"chrf" | "bleu": {"value", "difference": {"value", "ci", …, "p_randomisation"}}},
                 "copied", "error": {"words": {…}, "characters": {…}}}],
     "unseen_rules": [{"rule", "default", "languages": [code], "right", "chrf", "loss", "against_first": {…}}],
     "failures": [text],
     "samples": [{"id", "source", "target", "transcript", "reference", "hypothesis"}],
     "alignment": {"query": {"id", "language", "text", "seconds", "words": [{"word", "start", "end"}]},
                   "candidate": {…}, "precision", "recall", "f1"},
     "similarity": {"query", "candidate", "method"},
     "timings": {stage: seconds}}

``published`` sets our R@1 beside others', or beside the reason why there is none.

Methods are ``seqsim`` and ``mean-pool`` over the encoder's frames, and the controls ``duration``, ``seqsim:log-
mel`` and ``seqsim:random-weights``. Proportions lie in 0-1, BLEU and chrF in 0-100, times in seconds.
``arrays.npz`` may hold ``alignment`` (n, m) and ``similarity`` (N, M).

``transfer`` is before and after a fine-tuning: a transcript's row has ``error`` (WER or CER in per cent, as its
signature says), that of ``detect`` too (languages named wrongly, in per cent), the others the rest; ``off_target``
lies in 0-1. Of a ``pareto`` variant, ``gain`` is the chrF difference of the new target, pooled over sources never
trained on, ``loss`` that of X into English, pooled: below 0 where something was lost.
``curve``, which may be absent, holds both for shares of the change, from none to all; where variants have several
``target``, which may be absent too, each target gets a picture of its own.

``unseen`` is translation into English under language tokens that stand in for a language without one: a row a
language, two for one that is asked without its own token too (``own_token`` says which). ``chosen`` is the token that
the default rule takes without references, ``oracle`` the one with the highest chrF; ``permuted``, ``copied`` (0-1)
and ``error`` are under the chosen one. ``permuted`` is the mean score against references dealt out anew, and by how
much the true ones are above it. ``synthetic`` speech was read by a machine. ``unseen_rules`` is every rule's mean
over the rows with several candidates: ``right`` counts those where it takes the oracle's token, ``loss`` is chrF
below the oracle.
"""

import datetime
import json
import math
import platform
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from interlingua import __version__
from interlingua.errors import ResultsError
from interlingua.files import atomic_file, write_text

SCHEMA = 1
_PACKAGES = ("torch", "transformers", "ctranslate2", "numpy", "sacrebleu", "pylance", "av")


def save_results(
    folder: str | Path, results: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None
) -> Path:
    """Write ``results.json`` (and ``arrays.npz``) into ``folder`` and return the path of the former."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if arrays:
        with atomic_file(folder / "arrays.npz") as temporary, temporary.open("wb") as out:
            np.savez_compressed(out, **arrays)  # type: ignore[arg-type]  # numpy's stub confuses **kwds
    else:
        (folder / "arrays.npz").unlink(missing_ok=True)  # of an earlier result
    path = folder / "results.json"
    write_text(path, json.dumps({"schema": SCHEMA, **results}, ensure_ascii=False, indent=1, allow_nan=False) + "\n")
    return path


def load_results(folder: str | Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read a result folder: (results, arrays).

    Raises:
        ResultsError: no ``results.json`` there, not JSON, or of another schema.
    """
    path = Path(folder) / "results.json"
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise ResultsError(f"{path}: no such file; `interlingua demo` and `evaluate` write one with --out") from e
    except (OSError, ValueError) as e:
        raise ResultsError(f"{path}: not a readable results file ({e})") from e
    if not isinstance(results, dict) or results.get("schema") != SCHEMA:
        raise ResultsError(f"{path}: not a results file of schema {SCHEMA}; measure again with this version")
    arrays: dict[str, np.ndarray] = {}
    stored = path.with_name("arrays.npz")
    if stored.exists():
        try:
            with stored.open("rb") as file, np.load(file, allow_pickle=False) as data:
                arrays = dict(data)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as e:
            raise ResultsError(f"{stored}: not a readable array file ({e})") from e
    return results, arrays


def provenance(compute: str, device: str, seconds: float, started: datetime.datetime) -> dict[str, Any]:
    """Where a result comes from: command, versions, commit and machine.

    Args:
        compute: number format that the encoder worked in.
        device: ``cpu`` or ``cuda``, the one that was used.
        seconds: how long it took.
        started: when it began.
    """
    import torch

    commit, dirty = _commit()
    return {
        "command": shlex.join(["interlingua", *sys.argv[1:]]),
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "version": __version__,
        "commit": commit,
        "dirty": dirty,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "device": {"name": _device_name(device), "threads": torch.get_num_threads(), "compute": compute},
    }


def finite(value: float) -> float | None:
    """JSON has no NaN or infinity: None stands for them."""
    return value if math.isfinite(value) else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _device_name(device: str) -> str:
    import torch

    if device.startswith("cuda"):
        return str(torch.cuda.get_device_name(device))
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _commit() -> tuple[str | None, bool | None]:
    """Commit and dirty flag of the checkout that this file lies in, or (None, None) for an installed copy."""
    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    tracked = git("ls-files", "--error-unmatch", Path(__file__).name)
    commit = git("rev-parse", "--short=12", "HEAD")
    if tracked is None or commit is None:
        return None, None
    return commit, bool(git("status", "--porcelain", "--untracked-files=no"))
