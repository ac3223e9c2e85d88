"""NeMo's manifests: JSON lines (often called ``.json``) with audio_filepath, duration, text, and Canary's languages.

``offset`` and ``duration`` (either may be null) cut a stretch. The source language is ``source_lang``, else ``lang``;
where ``target_lang`` differs, ``text`` is the TRANSLATION, unless ``answer`` holds it (``"na"`` is a placeholder).
Repetitions of a recording, one for each target, become one utterance.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from interlingua.corpora.base import Corpus, Log, Names, Skipped, silent
from interlingua.corpora.delimited import Row, read_json_rows, seconds
from interlingua.corpora.layout import NO_FILE, clip_path, is_file
from interlingua.errors import ManifestError, UsageError
from interlingua.languages import normalise_language, normalise_languages
from interlingua.types import AudioRef, Utterance

_PLACEHOLDER = "na"


def read_nemo(
    root: Path,
    *,
    languages: Names = None,
    split: str | None = None,
    language: str | None = None,
    audio_root: str | None = None,
    keep_missing: bool = False,
    log: Log = silent,
) -> Iterator[Utterance]:
    """Utterances of a manifest; recordings in several rows are held and come last.

    Args:
        language: the source language, where no row has it.
        audio_root: what relative paths are relative to; None: the manifest's folder.
        keep_missing: keep recordings whose file doesn't exist.
    """
    wanted = None if languages is None else normalise_languages(languages)
    folder = root.parent if audio_root is None else Path(audio_root)
    skipped, differ = Skipped(root.name, log), Skipped(root.name, log)
    seen: set[str] = set()
    repeated: set[str] = set()
    for number, row in read_json_rows(root):
        name = _id(row, f"{root}:{number}")
        (repeated if name in seen else seen).add(name)
    if not seen:
        raise ManifestError(f"{root}: the manifest is empty")
    del seen
    held: dict[str, Utterance] = {}
    for number, row in read_json_rows(root):
        utterance = _utterance(row, f"{root}:{number}", folder, language, keep_missing, skipped)
        if utterance is None or (wanted is not None and utterance.language not in wanted):
            continue
        if utterance.id not in repeated:
            yield utterance
            continue
        first = held.setdefault(utterance.id, utterance)
        if first is utterance:
            continue
        known, new = first.translations, utterance.translations
        if (
            first.language != utterance.language
            or (first.text and utterance.text not in (None, first.text))
            or any(known.get(code, text) != text for code, text in new.items())
        ):
            differ.add("another row says another language, transcript or translation", f"{root.name}:{number}")
        elif utterance.text in (None, first.text) and new.keys() <= known.keys():
            differ.add("another row says nothing more", f"{root.name}:{number}")
        else:
            held[utterance.id] = msgspec.structs.replace(
                first, text=first.text or utterance.text, translations=known | new
            )
    yield from held.values()
    skipped.report()
    differ.report()


CORPUS = Corpus(
    name="nemo",
    title="a NeMo manifest",
    read=read_nemo,
    licence="yours",
    fetch="ROOT is the manifest itself (.json or .jsonl); relative audio paths are taken from its folder",
    splits=False,
)


def _id(row: Row, where: str) -> str:
    path = row.get("audio_filepath")
    if isinstance(path, list):
        path = " ".join(map(str, path))
    if not isinstance(path, str) or not path.strip():
        raise ManifestError(f"{where}: no audio_filepath; is it a NeMo manifest?")
    offset, duration = _seconds(row, "offset", where), _seconds(row, "duration", where)
    return path if offset is None else f"{path}@{offset:g}" + ("" if duration is None else f"+{duration:g}")


def _utterance(
    row: Row, where: str, folder: Path, language: str | None, keep_missing: bool, skipped: Skipped
) -> Utterance | None:
    if isinstance(row["audio_filepath"], list):
        skipped.add("several audio files in a row; write one", where)
        return None
    path = clip_path(folder, row["audio_filepath"], where)
    if not keep_missing and not is_file(path):
        skipped.add(f"{NO_FILE}; relative paths are taken from {folder}", f"{where} ({row['audio_filepath'][:80]})")
        return None
    code = _string(row, "source_lang", where) or _string(row, "lang", where) or language
    if code is None:
        raise ManifestError(f"{where}: no source_lang or lang; prepare a manifest with --option language=CODE")
    target = _string(row, "target_lang", where) or code
    try:
        spoken, into = normalise_language(code), normalise_language(target)
    except UsageError as e:
        raise ManifestError(f"{where}: {e}") from e
    text, answer = _string(row, "text", where), _string(row, "answer", where)
    answer = None if answer == _PLACEHOLDER else answer
    translations: dict[str, str] = {}
    if spoken == into:
        text = text or answer
    elif answer is not None:
        translations[into] = answer
    elif text is not None:
        translations[into], text = text, None
    offset, duration = _seconds(row, "offset", where), _seconds(row, "duration", where)
    return Utterance(
        id=_id(row, where),
        audio=AudioRef(str(path), offset, None if offset is None else duration),
        language=spoken,
        text=text,
        translations=translations,
        speaker=_string(row, "speaker", where),
        duration=duration,
    )


def _string(row: Row, key: str, where: str) -> str | None:
    value = row.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise ManifestError(f"{where}: {key} is {value!r:.40}, not a string")
    return value.strip() or None


def _seconds(row: Row, key: str, where: str) -> float | None:
    return None if row.get(key) is None else seconds(row[key], f"{where}: {key}")
