"""CoVoST 2: Common Voice 4 recordings with translations, from 21 languages into English and from English into 15.

Reads the published ``covost_v2.<src>_<tgt>.tsv`` (joined with Common Voice's ``validated.tsv``) and the prepared
``covost_v2.<src>_<tgt>.<split>.tsv``, from ``ROOT/<src>`` (next to ``clips``) or ``ROOT``. Tables are held in memory,
one source language at a time.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from interlingua.corpora.base import Corpus, Log, Names, Skipped, silent
from interlingua.corpora.common_voice import clip_seconds, gender_of, locale_clips
from interlingua.corpora.delimited import read_table, sentence_key
from interlingua.corpora.layout import folder_name, language_folders, stem
from interlingua.errors import CorpusError, UsageError
from interlingua.languages import normalise_language, normalise_languages
from interlingua.types import Utterance

FETCH = (
    "fetch Common Voice 4 (cv-corpus-4-2019-12-10) of the source language from "
    "https://commonvoice.mozilla.org/datasets and unpack it as ROOT/<src>/{validated.tsv,clips/*.mp3}; put "
    "covost_v2.<src>_<tgt>.tsv(.tar.gz) from https://github.com/facebookresearch/covost in the same "
    "folder (<src> and <tgt> as in fr, zh-CN)"
)
SPLITS = ("train", "dev", "test")

_FILE = re.compile(r"covost_v2\.([A-Za-z-]+)_([A-Za-z-]+?)(?:\.(train|dev|test))?\.tsv(?:\.tar\.gz)?")
_SPLIT_OF = {"train": "train", "train_covost": "train", "dev": "dev", "test": "test"}


def read_covost(
    root: Path, *, languages: Names = None, split: str | None = None, targets: Names = None, log: Log = silent
) -> Iterator[Utterance]:
    """One utterance a recording, with its translations into ``targets`` (None: all); counts rows without a clip."""
    wanted = None if targets is None else normalise_languages(targets)
    for folder, language in language_folders(root, languages, lambda p: bool(_tables(p)), FETCH, log):
        tables = [t for t in _tables(folder) if wanted is None or t.target in wanted]
        if wanted is not None:
            missing = [t for t in wanted if t not in {table.target for table in tables}]
            if missing:
                raise CorpusError(f"{folder}: no translations into {', '.join(missing)} are here. {FETCH}")
        for name in SPLITS if split is None else (split,):
            here = {t.target for t in tables}
            lacking = sorted(here - {t.target for t in tables if name in t.splits})
            if lacking and split is not None and (wanted is not None or len(lacking) == len(here)):
                raise CorpusError(f"{folder}: no {name} with translations into {', '.join(lacking)} is here. {FETCH}")
            if lacking:
                log(f"covost {folder_name(folder)}: no {name} with translations into {', '.join(lacking)} is here")
        yield from _read(folder, language, tables, split, log)


CORPUS = Corpus(
    name="covost",
    title="CoVoST 2: Common Voice recordings with translations (texts)",
    read=read_covost,
    licence="CC0 by its repository, CC-BY-NC 4.0 by its card on the Hugging Face hub",
    fetch=FETCH,
    splits=SPLITS,
)


@dataclass(frozen=True)
class _Table:
    path: Path
    target: str
    splits: tuple[str, ...]
    prepared: bool


@dataclass(slots=True)
class _Recording:
    split: str
    translations: dict[str, str]
    sentence: str | None = None
    speaker: str | None = None
    gender: str | None = None


def _tables(folder: Path) -> list[_Table]:
    source = folder_name(folder)
    found: dict[tuple[str, str | None], Path] = {}
    for path in sorted([*folder.glob("covost_v2.*"), *folder.parent.glob(f"covost_v2.{source}_*")]):
        match = _FILE.fullmatch(path.name)
        if match and match[1] == source and path.is_file():
            try:
                target = normalise_language(match[2])
            except UsageError as e:
                raise CorpusError(f"{path}: {e}") from e
            found.setdefault((target, match[3]), path)  # .tsv comes before .tsv.tar.gz
    made = []
    for (target, split), path in found.items():
        splits = (split,) if split else tuple(s for s in SPLITS if (target, s) not in found)  # prepared ones go first
        if splits:
            made.append(_Table(path, target, splits, split is not None))
    return made


def _read(folder: Path, language: str, tables: list[_Table], split: str | None, log: Log) -> Iterator[Utterance]:
    source = folder_name(folder)
    skipped = Skipped(f"covost {source}", log)
    clips = locale_clips(folder, log)
    durations = clip_seconds(folder)
    recordings: dict[str, _Recording] = {}
    joined = False
    for table in tables:
        if split is None or split in table.splits:
            joined = joined or not table.prepared
            _collect(table, split, recordings, skipped)
    for name, recording in clips.in_order(_sentences(folder, recordings, joined, skipped), lambda pair: pair[0]):
        audio = clips.find(name)
        if audio is None:
            skipped.add("recording missing", name)
            continue
        sentence = recording.sentence or ""
        yield Utterance(
            id=f"{source}/{stem(name)}",
            audio=audio,
            language=language,
            text=sentence,
            translations=recording.translations,
            meaning=sentence_key(language, sentence),
            split=recording.split,
            speaker=recording.speaker,
            gender=recording.gender,
            duration=durations.get(name),
        )
    skipped.report()


def _collect(table: _Table, split: str | None, recordings: dict[str, _Recording], skipped: Skipped) -> None:
    required = ("path", "translation", "sentence" if table.prepared else "split")
    for _, row in read_table(table.path, required=required, skipped=skipped, escapes=True):
        part = table.splits[0] if table.prepared else _SPLIT_OF.get(row["split"])
        if part is None:
            skipped.add(f"split {row['split']!r}, which CoVoST 2 doesn't use", row["path"])
        elif part in table.splits if split is None else part == split:
            known = recordings.setdefault(row["path"], _Recording(part, {}))
            if table.target in known.translations:
                skipped.add(f"a second translation into {table.target} of a recording", row["path"])
                continue
            known.translations[table.target] = row["translation"]
            known.sentence = row.get("sentence", known.sentence)
            known.speaker = row.get("client_id") or known.speaker


def _sentences(
    folder: Path, recordings: dict[str, _Recording], joined: bool, skipped: Skipped
) -> Iterator[tuple[str, _Recording]]:
    if joined:
        validated = folder / "validated.tsv"
        if not validated.is_file():
            raise CorpusError(f"{folder}: no validated.tsv to join the translations with. {FETCH}")
        for _, row in read_table(validated, required=("path", "sentence"), skipped=skipped, escapes=True):
            recording = recordings.pop(row["path"], None)
            if recording is not None:
                recording.sentence, recording.speaker = row["sentence"], row.get("client_id") or None
                recording.gender = gender_of(row.get("gender", ""))
                yield row["path"], recording
    for name, recording in recordings.items():
        if recording.sentence is None:
            skipped.add("not in this Common Voice's validated.tsv; CoVoST 2 was made from release 4", name)
        else:
            yield name, recording
