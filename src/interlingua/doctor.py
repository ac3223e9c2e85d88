"""What is here: model sources, devices, optional parts, caches; and the command that fixes what is missing."""

import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from interlingua import __version__
from interlingua.corpora import prompts
from interlingua.errors import CometError, InterlinguaError
from interlingua.files import cache_dir
from interlingua.metrics import COMET_MODEL, comet_folder, find_comet
from interlingua.metrics.comet import SET_UP
from interlingua.models import (
    ALIASES,
    ALL_MINILM,
    SENTENCE_ALIASES,
    check_packaged,
    packaged_folder,
    repair_packaged,
    resolve,
    resolve_sentence_encoder,
)

OPTIONAL_PROGRAMS = {  # program -> what it is for, what does the job without it
    "apt-get": ("fetching the prompts corpus from Debian packages", "the upstream archives are used"),
    "git": ("recording the commit of a result", "results say none"),
}
DECODERS = ("g722", "gsm", "mp3", "opus", "aac", "flac", "vorbis")
FETCH = "interlingua doctor --fetch"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report; ``ok`` is None for mere information."""

    name: str
    ok: bool | None
    detail: str
    fix: str = ""


def examine() -> list[Finding]:
    """Check everything; nothing is changed, and no network is used."""
    from interlingua.encoding.transformers import cached_encoders

    cached = ", ".join(cached_encoders())
    return [
        Finding("python", True, f"{platform.python_version()}, interlingua {__version__}"),
        *_devices(),
        _weights("whisper-base", "whisper-base", ALIASES["base"]),
        Finding(
            "hub cache", None, cached or "no speech encoder; --model ID downloads one where the hub can be reached"
        ),
        sentence_encoder(),
        _verified("prompts corpus", prompts.default_root(), lambda: prompts.verify(prompts.default_root())),
        _codecs(),
        *(
            Finding(program, None, f"here, for {purpose}" if shutil.which(program) else f"not here: {without}")
            for program, (purpose, without) in OPTIONAL_PROGRAMS.items()
        ),
        _comet(),
        _cache(),
    ]


def fetch(log: Callable[[str], None]) -> None:
    """Fetch Whisper-base, the prompts corpus and the sentence encoder (may fail: only the cascade baseline needs it).

    Damaged copies are replaced. Raises ModelNotFoundError or FetchError; the text lists what was tried.
    """
    if packaged_folder():
        repair_packaged(report=log)
    source = resolve("base")
    log(f"whisper-base: {source.path} ({source.origin})")
    prompts.prepare_prompts(log=log)
    try:
        if packaged_folder(ALL_MINILM):
            repair_packaged(ALL_MINILM, report=log)
        source = resolve_sentence_encoder()
        log(f"{ALL_MINILM}: {source.path} ({source.origin})")
    except InterlinguaError as error:
        log(f"{ALL_MINILM}: {error}; only the cascade baseline needs it")


def sentence_encoder() -> Finding:
    """The sentence encoder's line."""
    return _weights("sentence encoder", ALL_MINILM, SENTENCE_ALIASES[ALL_MINILM], "only the cascade baseline needs it")


def _weights(name: str, package: str, hub_id: str, optional: str = "") -> Finding:
    folder = packaged_folder(package)
    if folder is not None:
        return _verified(name, folder, lambda: check_packaged(package))
    if _in_hub_cache(hub_id):
        return Finding(name, True, f"{hub_id}, in the hub cache")
    return Finding(name, None if optional else False, "; ".join(filter(None, ("not fetched", optional))), FETCH)


def _verified(name: str, folder: Path, verify: Callable[[], object]) -> Finding:
    if not folder.exists():
        return Finding(name, False, "not fetched", FETCH)
    try:
        verify()
    except InterlinguaError as e:
        return Finding(name, False, str(e), FETCH)
    return Finding(name, True, f"{folder}, every file's SHA-256 right")


def _in_hub_cache(hub_id: str, file: str = "config.json") -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(hub_id, file), str)


def _devices() -> list[Finding]:
    import torch

    from interlingua.encoding import best_compute

    cpu = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, {best_compute('cpu')}"
    if torch.cuda.is_available():
        gpu = Finding("gpu", True, f"{torch.cuda.get_device_name()}, {best_compute('cuda')}")
    else:
        gpu = Finding("gpu", None, f"none that torch {torch.__version__} can use; everything runs on the CPU")
    return [Finding("cpu", True, cpu), gpu]


def _codecs() -> Finding:
    import av

    missing = [c for c in DECODERS if c not in av.codecs_available]
    if missing:
        return Finding("audio decoders", False, f"missing: {', '.join(missing)}", "pip install --force-reinstall av")
    return Finding("audio decoders", True, f"PyAV {av.__version__}: {', '.join(DECODERS)} and more")


def _comet() -> Finding:
    try:
        environment = find_comet()
    except CometError as e:
        unmade = not comet_folder().exists()
        detail = "not set up; only `interlingua evaluate outputs --comet` needs it" if unmade else str(e)
        return Finding("COMET", None, detail, SET_UP)
    versions = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
    model = "in the hub cache" if _in_hub_cache(COMET_MODEL, "hparams.yaml") else "not in the hub cache"
    return Finding("COMET", True, f"{versions} in {environment.folder}; {COMET_MODEL} is {model}")


def _cache() -> Finding:
    cache = cache_dir()
    if cache.exists() and not cache.is_dir():
        return Finding("cache", False, f"{cache} is not a folder", "point INTERLINGUA_CACHE at one")
    size = sum(f.stat().st_size for f in cache.rglob("*") if f.is_file())
    existing = next(p for p in (cache, *cache.parents) if p.exists())
    free = shutil.disk_usage(existing).free
    low = "; little room is left" if free < 2e9 else ""
    return Finding("cache", None, f"{cache}: {size / 1e6:.0f} MB, {free / 1e9:.0f} GB free{low}")
