"""Recordings that are named directly: files, folders and patterns."""

import glob
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from interlingua.errors import UsageError

AUDIO = re.compile(
    r"\.(wav|flac|mp3|ogg|opus|oga|m4a|mp4|aac|webm|mkv|mov|avi|wma|aiff|aif|au|amr|3gp|g722|gsm|mka|mpga|mpeg|ts|caf|w64"
    r"|spx)",
    re.IGNORECASE,
)
"""Suffixes of recordings in a folder; a file named directly may have any."""

TABLES = (".jsonl", ".json", ".csv", ".tsv")


def audio_files(given: str) -> Iterator[tuple[Path, str]]:
    """Each recording of a file, a folder (searched recursively) or a pattern, and its name among them without suffix.

    Recordings that differ in their suffix alone keep it. A path that doesn't exist is yielded, too. Raises UsageError
    for a pattern that nothing matches.
    """
    path = Path(given).expanduser()
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if AUDIO.fullmatch(p.suffix) and p.is_file())
        alike = _doubled(p.relative_to(path).with_suffix("") for p in inside)
        for p in inside:
            name = p.relative_to(path)
            yield p, str(name if name.with_suffix("") in alike else name.with_suffix(""))
    elif not path.exists() and glob.has_magic(given):
        matches = [p for p in map(Path, sorted(glob.glob(str(path), recursive=True))) if p.is_file()]  # noqa: PTH207
        if not matches:
            raise UsageError(f"{given}: no file has such a name")
        alike = _doubled(Path(p.stem) for p in matches)
        for p in matches:
            yield p, p.name if Path(p.stem) in alike else p.stem
    else:
        yield path, path.stem


def _doubled(names: Iterable[Path]) -> set[Path]:
    return {name for name, n in Counter(names).items() if n > 1}
