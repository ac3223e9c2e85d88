"""Whatever people bring as a manifest: ours, NeMo's, Lhotse's, or a table; told apart by what is in it.

Unlike `interlingua corpus prepare`, which leaves out what can't be used, this keeps recordings whose file isn't there:
a missing one fails when it is encoded and counts as a miss when it is measured.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from interlingua.corpora import lhotse
from interlingua.corpora.delimited import is_json, read_json_rows, read_lines
from interlingua.corpora.manifest import iter_manifest
from interlingua.corpora.mass_tables import is_mass_table, read_mass_table
from interlingua.corpora.nemo import read_nemo
from interlingua.corpora.plain import read_plain
from interlingua.errors import ManifestError, UsageError
from interlingua.languages import normalise_languages
from interlingua.types import Utterance


def read_any(
    path: str | Path, *, repeated: bool = False, log: Callable[[str], None] = lambda line: None
) -> Iterator[Utterance]:
    """Yield the utterances of a manifest (ours, NeMo's or Lhotse's), a CSV, TSV or JSONL table, pairs, MaSS's tables.

    Args:
        path: the file; the kind of JSON is told by its first line's keys.
        repeated: let an id of ours, or of a table, stand twice, for those who look for what is wrong.
        log: receives a line on rows that name no usable recording, and how many they are.

    Raises:
        ManifestError: the file can't be read or holds nothing usable; file and line are named.
        UsageError: the file doesn't say something that only `interlingua corpus prepare` can be told.
    """
    path = Path(path)
    if path.is_dir():
        raise ManifestError(f"{path}: a folder; name the manifest or table in it, or use `interlingua corpus prepare`")
    if not path.exists():
        raise ManifestError(
            f"{path}: no readable manifest file (No such file or directory); "
            "write one with `interlingua corpus prepare`"
        )
    count = 0
    for utterance in _reader(path, repeated, log):
        count += 1
        yield utterance
    if not count:
        raise ManifestError(f"{path}: no usable recording is in it; `interlingua corpus prepare` says why")


def read_manifest(
    path: str | Path, languages: Iterable[str] | None = None, *, log: Callable[[str], None] = lambda line: None
) -> list[Utterance]:
    """All utterances of any file that `read_any` reads, optionally of some languages only, in the file's order.

    Raises:
        ManifestError, UsageError: see `read_any`.
        UsageError: a language that the manifest doesn't hold.
    """
    utterances = list(read_any(path, log=log))
    if languages is None:
        return utterances
    wanted = normalise_languages(languages)
    held = {u.language for u in utterances}
    for code in wanted:
        if code not in held:
            raise UsageError(f"{path} holds no utterance in {code!r}; it has {', '.join(sorted(held))}")
    return [u for u in utterances if u.language in wanted]


def _reader(path: Path, repeated: bool, log: Callable[[str], None]) -> Iterator[Utterance]:
    if not path.is_file():  # a pipe, which can be read only once
        return iter_manifest(path, repeated=repeated)
    if is_mass_table(path):
        return read_mass_table(path, keep_missing=True, log=log)
    if not is_json(path) and not _opens_json(path):
        return read_plain(path, keep_missing=True, repeated=repeated, log=log)
    first = next((row for _, row in read_json_rows(path)), None)
    if first is None or _is_ours(first):
        return iter_manifest(path, repeated=repeated)
    if "audio_filepath" in first:
        return read_nemo(path, keep_missing=True, log=log)
    if lhotse.kind_of(first) is not None:
        return lhotse.read_lhotse(path, keep_missing=True, log=log)
    return read_plain(path, keep_missing=True, repeated=repeated, log=log)


def _opens_json(path: Path) -> bool:
    """Whether a file begins as JSON lines do, whatever its name."""
    return next((line.lstrip()[:1] for _, line in read_lines(path) if line.strip()), "") == "{"


def _is_ours(row: Mapping[str, Any]) -> bool:
    audio = row.get("audio")
    return isinstance(audio, Mapping) and "path" in audio and "bytes" not in audio and {"id", "language"} <= set(row)
