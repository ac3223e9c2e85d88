"""Common Voice, any release: ``cv-corpus-<version>-<date>/<locale>/`` with its tables and ``clips``.

Columns differ between releases and are read by name. The meaning is the sentence's id where the release has one, else
the sentence. Locales (zh-TW, sv-SE, nan-tw) become our codes.
"""

from collections.abc import Iterator
from pathlib import Path

from interlingua.corpora.base import Corpus, Log, Names, Skipped, silent
from interlingua.corpora.delimited import read_table, sentence_key
from interlingua.corpora.layout import Clips, folder_name, language_folders, stem
from interlingua.errors import CorpusError, UsageError
from interlingua.types import Utterance

FETCH = (
    "fetch the languages you need from https://commonvoice.mozilla.org/datasets (they are handed out by hand: accept "
    "the terms there) and unpack each archive into ROOT, which gives ROOT/<locale>/{train,dev,test,validated,…}.tsv "
    "and ROOT/<locale>/clips/*.mp3"
)
SPLITS = ("train", "dev", "test")
TABLES = (*SPLITS, "validated", "invalidated", "other")

_GENDERS = {"male": "male", "male_masculine": "male", "female": "female", "female_feminine": "female"}


def read_common_voice(
    root: Path, *, languages: Names = None, split: str | None = None, log: Log = silent
) -> Iterator[Utterance]:
    """Recordings of the locales below ``root``, or of one; ``split`` may also be validated, invalidated or other."""

    def holds(folder: Path) -> bool:
        return any((folder / f"{name}.tsv").is_file() for name in TABLES)

    for folder, language in language_folders(_release(root), languages, holds, FETCH, log):
        tables = [folder / f"{name}.tsv" for name in ((split,) if split else SPLITS)]
        there = [table for table in tables if table.is_file()]
        if not there:
            raise CorpusError(f"{folder}: no {', '.join(t.name for t in tables)} is here. {FETCH}")
        if lacking := [table.name for table in tables if table not in there]:
            log(f"common-voice {folder_name(folder)}: no {', '.join(lacking)} is here")
        durations = clip_seconds(folder)
        for table in there:
            yield from _read(folder, language, table, durations, log)


CORPUS = Corpus(
    name="common-voice",
    title="Common Voice, any release: sentences read by many people",
    read=read_common_voice,
    licence="CC0",
    fetch=FETCH,
    splits=TABLES,
)


def _release(root: Path) -> Path:
    releases = [p for p in root.glob("cv-corpus-*") if p.is_dir()]
    if len(releases) > 1:
        names = ", ".join(sorted(p.name for p in releases))
        raise UsageError(f"{root}: several releases ({names}); name one of them with --root")
    return releases[0] if releases else root


def clip_seconds(folder: Path) -> dict[str, float]:
    """Clip -> seconds, where the release states it; held in memory."""
    path = folder / "clip_durations.tsv"
    if not path.is_file():
        return {}
    durations: dict[str, float] = {}
    for _, row in read_table(path, required=("clip",), skipped=Skipped(path.name)):
        milliseconds = row.get("duration[ms]") or row.get("duration") or ""
        if milliseconds.isdecimal():
            durations[row["clip"]] = int(milliseconds) / 1000
    return durations


def gender_of(written: str) -> str | None:
    """One word for a gender, whatever the release; None: unknown."""
    plain = written.strip().lower()
    return _GENDERS.get(plain) or ("other" if plain and "not" not in plain else None)


def locale_clips(folder: Path, log: Log) -> Clips:
    """The recordings of a locale."""
    missing = f"{folder}: its tables are here, but not its recordings (clips/). {FETCH}"
    archives = [folder / f"clips{ending}" for ending in (".tar", ".tar.gz", ".zip")]
    return Clips([folder / "clips"], archives, log=log, missing=missing)


def _read(folder: Path, language: str, table: Path, durations: dict[str, float], log: Log) -> Iterator[Utterance]:
    locale, split = folder_name(folder), table.stem
    skipped = Skipped(f"common-voice {locale}/{split}", log)
    clips = locale_clips(folder, log)
    rows = (row for _, row in read_table(table, required=("path", "sentence"), skipped=skipped))
    for row in clips.in_order(rows, lambda row: _clip_name(row["path"])):
        name = _clip_name(row["path"])
        audio = clips.find(name)
        if audio is None:
            skipped.add("recording missing", name)
            continue
        sentence = row["sentence"]
        yield Utterance(
            id=f"{locale}/{stem(name)}",
            audio=audio,
            language=language,
            text=sentence,
            meaning=row.get("sentence_id") or sentence_key(language, sentence),
            split=split,
            speaker=row.get("client_id") or None,
            gender=gender_of(row.get("gender", "")),
            duration=durations.get(name),
        )
    skipped.report()


def _clip_name(path: str) -> str:
    """The first releases omit the ending.

    >>> _clip_name("common_voice_fr_1.mp3"), _clip_name("1f2e")
    ('common_voice_fr_1.mp3', '1f2e.mp3')
    """
    return path if "." in path else f"{path}.mp3"
