"""Whatever people bring in place of a manifest: ours, NeMo's, Lhotse's, or a table; told apart by what is in it."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from interlingua.corpora import lhotse
from interlingua.corpora.delimited import is_json, read_json_rows
from interlingua.corpora.manifest import iter_manifest
from interlingua.corpora.nemo import read_nemo
from interlingua.corpora.plain import read_plain
from interlingua.errors import ManifestError, UsageError
from interlingua.languages import normalise_languages
from interlingua.types import Utterance


def read_any(
    path: str | Path,
    *,
    languages: tuple[str, ...] | None = None,
    split: str | None = None,
    language: tuple[str, ...] | None = None,
    target: str | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> Iterator[Utterance]:
    """Utterances of a manifest of ours, a NeMo or Lhotse manifest, or a CSV, TSV or JSONL table (pairs, too).

    Args:
        path: the file; the kind of a ``.json`` or ``.jsonl`` (gzipped or not) is told by its first line's keys.
        languages: which to keep; None: all.
        split: which to keep; None: all.
        language: what is spoken, where the file doesn't say it.
        target: the language of a column ``translation``.
        log: receives a line on whatever was left out, and how much.

    Raises:
        ManifestError: the file can't be read or holds nothing usable; file and line are named.
        UsageError: an option is wrong or missing.
    """
    path = Path(path)
    if path.is_dir():
        raise ManifestError(f"{path}: a folder; name the manifest or table in it, or use `interlingua corpus prepare`")
    count = 0
    for utterance in _reader(path, languages, split, language, target, log):
        count += 1
        yield utterance
    if not count:
        kept = " that was asked for" if languages or split else ""
        raise ManifestError(f"{path}: no usable recording{kept} is in it; `interlingua corpus prepare` says why")


def _reader(
    path: Path,
    languages: tuple[str, ...] | None,
    split: str | None,
    language: tuple[str, ...] | None,
    target: str | None,
    log: Callable[[str], None],
) -> Iterator[Utterance]:
    first = next((row for _, row in read_json_rows(path)), None) if is_json(path) else None
    if first is not None and _is_ours(first):
        return _ours(path, languages, split)
    kind = "nemo" if first is not None and "audio_filepath" in first else lhotse.kind_of(first or {})
    if kind is None:
        return read_plain(path, languages=languages, split=split, language=language, target=target, log=log)
    if language is not None and len(language) > 1:
        raise UsageError(f"language: {len(language)} for one recording a row; give one")
    spoken = language[0] if language else None
    reader = read_nemo if kind == "nemo" else lhotse.read_lhotse
    return reader(path, languages=languages, split=split, language=spoken, log=log)


def _is_ours(row: Mapping[str, Any]) -> bool:
    audio = row.get("audio")
    return isinstance(audio, Mapping) and "path" in audio and "bytes" not in audio and {"id", "language"} <= set(row)


def _ours(path: Path, languages: tuple[str, ...] | None, split: str | None) -> Iterator[Utterance]:
    wanted = None if languages is None else normalise_languages(languages)
    for utterance in iter_manifest(path):
        if (wanted is None or utterance.language in wanted) and split in (None, utterance.split):
            yield utterance
