"""Manifests: JSON lines of utterances, written and read; other formats are recognised by content.

Unlike `interlingua corpus prepare`, reading keeps recordings whose file doesn't exist: they fail when encoded and count
as misses in the scores.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from interlingua.audio.archives import refusal
from interlingua.corpora.base import Log, silent
from interlingua.corpora.delimited import is_json, read_json_rows, read_lines
from interlingua.errors import ManifestError, UsageError
from interlingua.files import as_stored, atomic_file, decode_json, shown
from interlingua.languages import normalise_language, normalise_languages
from interlingua.types import AudioRef, Utterance

_encoder = msgspec.json.Encoder()


def read_manifest(path: str | Path, languages: Iterable[str] | None = None, *, log: Log = silent) -> list[Utterance]:
    """All utterances of any file that `read_any` reads, in its order; UsageError if ``languages`` leave none."""
    utterances = list(read_any(path, log=log))
    if languages is None:
        return utterances
    wanted = normalise_languages(languages)
    held = {u.language for u in utterances}
    for code in wanted:
        if code not in held:
            raise UsageError(f"{path} holds no utterance in {code!r}; it has {', '.join(sorted(held))}")
    return [u for u in utterances if u.language in wanted]


def read_any(path: str | Path, *, repeated: bool = False, log: Log = silent) -> Iterator[Utterance]:
    """Yield the utterances of a manifest (ours, NeMo's or Lhotse's), a CSV, TSV or JSONL table, pairs, MaSS's tables.

    ``repeated`` allows repeated ids (for checks); rows without a usable recording are logged. ManifestError names file
    and line; UsageError names a missing option of `interlingua corpus prepare`.
    """
    path = as_stored(Path(path))
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


def _reader(path: Path, repeated: bool, log: Log) -> Iterator[Utterance]:
    from interlingua.corpora import lhotse, mass, nemo, tables  # other formats that may be read as a manifest

    if not path.is_file():  # a pipe, which can be read only once
        return iter_manifest(path, repeated=repeated)
    if mass.is_mass_table(path):
        return mass.read_mass_table(path, keep_missing=True, log=log)
    first: Mapping[str, Any] | None = {}
    if is_json(path) or _opens_json(path):
        first = next((row for _, row in read_json_rows(path)), None)
    if first is None or _is_ours(first):
        return iter_manifest(path, repeated=repeated)
    if "audio_filepath" in first:
        return nemo.read_nemo(path, keep_missing=True, log=log)
    if lhotse.kind_of(first) is not None:
        return lhotse.read_lhotse(path, keep_missing=True, log=log)
    return tables.read_own_table(path, keep_missing=True, repeated=repeated, log=log)


def _opens_json(path: Path) -> bool:
    return next((line.lstrip()[:1] for _, line in read_lines(path) if line.strip()), "") == "{"


def _is_ours(row: Mapping[str, Any]) -> bool:
    audio = row.get("audio")
    return isinstance(audio, Mapping) and "path" in audio and "bytes" not in audio and {"id", "language"} <= set(row)


def iter_manifest(path: str | Path, *, repeated: bool = False) -> Iterator[Utterance]:
    """Yield our manifest's utterances, audio paths absolute; only ids are held. ManifestError names file and line."""
    path = Path(path)
    folder = path.parent.resolve()
    seen: dict[str, int] = {}
    for number, line in read_lines(path):
        if not line.strip():
            continue
        utterance = _decode(line, f"{path}:{number}")
        if utterance.id in seen and not repeated:
            raise ManifestError(
                f"{path}:{number}: id {utterance.id!r} stands already in line {seen[utterance.id]}; "
                "give every recording an id of its own"
            )
        seen[utterance.id] = number
        audio = msgspec.structs.replace(utterance.audio, path=str(folder / utterance.audio.path))
        yield msgspec.structs.replace(utterance, audio=audio)
    if not seen:
        raise ManifestError(f"{path}: the manifest is empty")


def write_manifest(path: str | Path, utterances: Iterable[Utterance]) -> int:
    """Write a manifest atomically and return its lines' number; audio paths below its folder become relative."""
    path = Path(path)
    folder = Path(os.path.abspath(path.parent))  # noqa: PTH100  # links are kept: resolve() would follow them
    count = 0
    with atomic_file(path) as temporary, temporary.open("wb") as out:
        for utterance in utterances:
            try:
                out.write(_encoder.encode(msgspec.structs.replace(utterance, audio=_relative(utterance.audio, folder))))
            except UnicodeEncodeError as e:
                raise ManifestError(f"{shown(utterance.audio.path)}: its name isn't UTF-8; rename it") from e
            out.write(b"\n")
            count += 1
    return count


def _decode(line: str, where: str) -> Utterance:
    try:
        utterance: Utterance = decode_json(line, Utterance)
        language = normalise_language(utterance.language)
        translations = {normalise_language(code): text for code, text in utterance.translations.items()}
    except (msgspec.DecodeError, UsageError) as e:
        raise ManifestError(f"{where}: {e}") from e
    audio = utterance.audio
    for field, value in (("id", utterance.id), ("audio.path", audio.path)):
        if not value:
            raise ManifestError(f"{where}: `{field}` is empty")
    problem = None if audio.member is None else refusal(audio.member)
    if problem:
        raise ManifestError(f"{where}: `audio.member` {audio.member!r} {problem}")
    for field, seconds in (
        ("audio.offset", audio.offset),
        ("audio.duration", audio.duration),
        ("duration", utterance.duration),
    ):
        if seconds is not None and seconds < 0:
            raise ManifestError(f"{where}: `{field}` is {seconds} s; it can't be negative")
    return msgspec.structs.replace(utterance, language=language, translations=translations)


def _relative(audio: AudioRef, folder: Path) -> AudioRef:
    absolute = Path(os.path.abspath(audio.path))  # noqa: PTH100
    for base in (folder, folder.resolve()):
        if absolute.is_relative_to(base):
            return msgspec.structs.replace(audio, path=str(absolute.relative_to(base)))
    return msgspec.structs.replace(audio, path=str(absolute))
