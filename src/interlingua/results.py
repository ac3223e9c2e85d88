"""Result folders: ``results.json`` with everything that was measured, and what stands beside it.

``arrays.npz`` holds what pictures are drawn of, ``utterances.jsonl`` what came out for each utterance
(`UtteranceResult`, a line each).

The frame of ``results.json``, in which every part but the first three is optional::

    {"schema": 1,
     "title": "…",
     "provenance": {"command", "started", "seconds", "version", "commit", "dirty", "python", "platform",
                    "packages": {name: version}, "device": {"name", "threads", "compute"},
                    "corpus": {"utterances", "sha256"}, "seeds": {what: number}},
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
     "study": [{"variant", "target", "test", "sources": [code], "errors": {task: [before, after]},
                "pooled": [{"pool", "languages": [code], "chrf": {"before", "after", "difference"}, "bleu": {…},
                            "comet": {…} | {"reason"}}], "table": [as "transfer"], …}],
     "published_transfer": [{"test", "variant", "source", "target", "metric", "ours", "published"}],
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
     "published_unseen": [{"language", "metric", "ours", "published"}],
     "robustness": {"pivot", "methods": [name], "rules": [text],
                    "languages": [{"language", "name", "family", "seen", "token", "n", "n_clusters", "seconds",
                                   "distance": {"typological", "genealogical"}, "to_pivot": {method: row of retrieval},
                                   "from_pivot": {…}, "bleu": {…}, "chrf", "off_target", "wer", "cer"}],
                    "correlations": [{"measure", "method", "kind", "seen_only", "value", "p", "n", "signature"}]},
     "left_out": [text],
     "failures": [text],
     "samples": [{"id", "source", "target", "transcript", "reference", "hypothesis"}],
     "alignment": {"query": {"id", "language", "text", "seconds", "words": [{"word", "start", "end"}]},
                   "candidate": {…}, "precision", "recall", "f1"},
     "similarity": {"query", "candidate", "method"},
     "timings": {stage: seconds}}

``corpus`` identifies the utterances, without where their audio lies (`corpus_hash`).

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

``study`` is a transfer study's variants, each in each test, beside the untrained model under its best prompt;
``published_transfer`` sets plain fine-tuning, and the model before it (``untrained``), beside others' figures.

``unseen`` is translation into English under language tokens that stand in for a language without one: a row a
language, two for one that is asked without its own token too (``own_token`` says which). ``chosen`` is the token that
the default rule takes without references, ``oracle`` the one with the highest chrF; ``permuted``, ``copied`` (0-1)
and ``error`` are under the chosen one. ``permuted`` is the mean score against references dealt out anew, and by how
much the true ones are above it. ``synthetic`` speech was read by a machine. ``unseen_rules`` is every rule's mean
over the rows with several candidates: ``right`` counts those where it takes the oracle's token, ``loss`` is chrF
below the oracle. ``left_out`` says which utterances couldn't be scored.

``robustness`` sets every language beside its distance (0-1) to a pivot: ``kind`` of a correlation is the distance's,
and with ``seen_only`` it is over languages that the model has a token for. Its translations are in ``unseen`` too.
"""

import datetime
import hashlib
import json
import math
import os
import platform
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from interlingua import __version__
from interlingua.errors import ResultsError
from interlingua.files import atomic_file, write_text
from interlingua.types import AudioRef, Utterance

SCHEMA = 1
_PACKAGES = ("torch", "transformers", "ctranslate2", "numpy", "sacrebleu", "pylance", "av")


class Ranked(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a query's right utterance was ranked.

    Attributes:
        rank: 1 = first, counted as R@1 is; None: nowhere, for want of frames or of an answer.
        first: id of the utterance that stood first, the right one or another.
    """

    rank: int | None = None
    first: str | None = None


class Translated(msgspec.Struct, frozen=True, kw_only=True):
    """One system's translation of one utterance; ``chrf`` is sacreBLEU's sentence chrF (0-100)."""

    system: str
    target: str
    reference: str
    hypothesis: str
    chrf: float


class Transcribed(msgspec.Struct, frozen=True, kw_only=True):
    """What one system heard in one utterance; ``error`` is in per cent, of words (``unit`` wer) or characters (cer)."""

    system: str
    hypothesis: str
    unit: str
    error: float


class UtteranceResult(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What came out for one utterance.

    Attributes:
        utterance: as in a manifest; its audio may be gone by now.
        retrieval: method -> language of the candidates -> where the right one was ranked.
        translations: by system and target.
        transcripts: by system; what is said is the utterance's text.
    """

    utterance: Utterance
    retrieval: dict[str, dict[str, Ranked]] = {}
    translations: list[Translated] = []
    transcripts: list[Transcribed] = []


def save_results(
    folder: str | Path,
    results: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray] | None = None,
    utterances: Iterable[UtteranceResult] = (),
) -> Path:
    """Write ``results.json`` (``arrays.npz``, ``utterances.jsonl``) into ``folder`` and return the former's path."""
    folder = Path(folder)
    text = json.dumps({"schema": SCHEMA, **results}, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    if arrays:
        with atomic_file(folder / "arrays.npz") as temporary, temporary.open("wb") as out:
            np.savez_compressed(out, **arrays)  # type: ignore[arg-type]  # numpy's stub confuses **kwds
    else:
        (folder / "arrays.npz").unlink(missing_ok=True)  # of an earlier result
    lines = [_line(result, folder) for result in utterances]
    if lines:
        with atomic_file(folder / "utterances.jsonl") as temporary:
            temporary.write_bytes(b"".join(lines))
    else:
        (folder / "utterances.jsonl").unlink(missing_ok=True)
    path = folder / "results.json"
    write_text(path, text)
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


def load_utterances(folder: str | Path) -> list[UtteranceResult]:
    """What came out for each utterance, with absolute audio paths; nothing where the folder doesn't hold it.

    Raises:
        ResultsError: a line that isn't such a result; file and line are named.
    """
    path = Path(folder) / "utterances.jsonl"
    if not path.exists():
        return []
    decoder = msgspec.json.Decoder(UtteranceResult)
    found = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            found.append(_with_audio(decoder.decode(line), str(path.parent.resolve())))
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            raise ResultsError(f"{path}:{number}: {e}; measure again with this version") from e
    return found


def corpus_hash(utterances: Iterable[Utterance]) -> str:
    """SHA-256 of the utterances' records in the order of their ids; where their audio lies doesn't count."""
    digest = hashlib.sha256()
    for utterance in sorted(utterances, key=lambda u: u.id):
        digest.update(msgspec.json.encode(msgspec.structs.replace(utterance, audio=AudioRef("")), order="sorted"))
        digest.update(b"\n")
    return digest.hexdigest()


def provenance(
    compute: str,
    device: str,
    seconds: float,
    started: datetime.datetime,
    *,
    utterances: Iterable[Utterance] = (),
    seeds: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Where a result comes from: command, versions, commit, machine, corpus and seeds.

    Args:
        compute: number format that the encoder worked in.
        device: ``cpu`` or ``cuda``, the one that was used.
        seconds: how long it took.
        started: when it began.
        utterances: that it was measured on.
        seeds: of everything drawn at random.
    """
    import torch

    commit, dirty = _commit()
    corpus = list(utterances)
    return {
        "command": _command(),
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "version": __version__,
        "commit": commit,
        "dirty": dirty,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "device": {"name": _device_name(device), "threads": torch.get_num_threads(), "compute": compute},
        **({"corpus": {"utterances": len(corpus), "sha256": corpus_hash(corpus)}} if corpus else {}),
        **({"seeds": dict(seeds)} if seeds else {}),
    }


def finite(value: float) -> float | None:
    """JSON has no NaN or infinity: None stands for them."""
    return value if math.isfinite(value) else None


def _line(result: UtteranceResult, folder: Path) -> bytes:
    """A line of ``utterances.jsonl``: audio below the folder is named from there, so that the folder can be moved."""
    absolute, here = (os.path.abspath(path) for path in (result.utterance.audio.path, folder))  # noqa: PTH100
    path = os.path.relpath(absolute, here) if Path(absolute).is_relative_to(here) else absolute
    return msgspec.json.encode(_with_path(result, path)) + b"\n"


def _with_audio(result: UtteranceResult, folder: str) -> UtteranceResult:
    return _with_path(result, str(Path(folder, result.utterance.audio.path)))


def _with_path(result: UtteranceResult, path: str) -> UtteranceResult:
    audio = msgspec.structs.replace(result.utterance.audio, path=path)
    return msgspec.structs.replace(result, utterance=msgspec.structs.replace(result.utterance, audio=audio))


def _command() -> str:
    """What was called: interlingua, or a script that calls the library."""
    script = Path(sys.argv[0])
    if script.stem == "interlingua":
        return shlex.join(["interlingua", *sys.argv[1:]])
    return shlex.join(["python", os.path.relpath(script), *sys.argv[1:]])


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
