"""MaSS: the New Testament in eight languages, aligned by verse (``getalp/mass-dataset``).

The repository holds the texts, ``dataset/<language>/txt/``; its scripts cut the recordings from chapters of bible.is.
The number in a file's name is the book's position in that language's own order, and books are named in three languages:
a verse's meaning is its English book, chapter and number (``James 1:5``).

Also read: the alignment script's table (``recap_verses-anName-True.csv``), with a column a language::

    ID,Label,english,french
    ,Path,./data/english_corpus/wav/,./data/french_corpus/wav/
    ,Available,7943,7951,Intersection
    ,Missing,12,4,7939
    0,01_Acts_verse_1,B05___01_Acts________ENGESVN1DA_verse_1,Not Available

and BibleNet's JSON (``train-english-french-seed325.json``): two languages' folders and, in ``data``, texts and files.
Folders in both are searched from the table's own folder upwards.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from interlingua.corpora.base import Corpus, Log, Names, Skipped, silent, split_name
from interlingua.corpora.delimited import read_lines
from interlingua.corpora.layout import clip_path, is_file, language_folders
from interlingua.errors import CorpusError, ManifestError, UsageError
from interlingua.files import decode_json
from interlingua.languages import normalise_language, normalise_languages
from interlingua.types import AudioRef, Utterance

FETCH = (
    "clone https://github.com/getalp/mass-dataset as ROOT, fetch the chapters of the languages you need from bible.is "
    "as its README says, cut them with its scripts, and put the verses (<stem>.wav or <stem>_one_channel.wav) anywhere "
    "below ROOT/dataset/<language>; or ROOT is recap_verses-anName-True.csv of its scripts, or a BibleNet JSON"
)
LANGUAGES = ("basque", "english", "finnish", "french", "hungarian", "romanian", "russian", "spanish")
BOOKS = (  # English; Spanish (Basque uses it too); French; the other languages use English
    "Matthew San_Mateo Matthieu", "Mark San_Marcos Marc", "Luke San_Lucas Luc", "John San_Juan Jean",
    "Acts Hechos Actes", "Romans Romanos Romains", "1Corinthians 1Corintios 1Corinthiens",
    "2Corinthians 2Corintios 2Corinthiens", "Galatians Galatas Galates", "Ephesians Efesios Ephesiens",
    "Philippians Filipenses Philippiens", "Colossians Colosenses Colossiens", "1Thess 1Tes 1Thess",
    "2Thess 2Tes 2Thess", "1Timothy 1Timoteo 1Timothee", "2Timothy 2Timoteo 2Timothee", "Titus Tito Tite",
    "Philemon Filemon Philemon", "Hebrews Hebreos Hebreux", "James Santiago Jacques", "1Peter 1San_Pedro 1Pierre",
    "2Peter 2San_Pedro 2Pierre", "1John 1San_Juan 1Jean", "2John 2San_Juan 2Jean", "3John 3San_Juan 3Jean",
    "Jude Judas Jude", "Revelation Apocalipsis Apocalypse",
)  # fmt: skip

VERSIONS = {  # bible.is' recordings -> language
    "EUSEABN1DA": "eu", "ENGESVN1DA": "en", "FIN38VN1DA": "fi", "FRNTLSN2DA": "fr", "HUNHBSN1DA": "hu",
    "RONDCVN1DA": "ro", "RUSS76N2DA": "ru", "SPNBDAN1DA": "es",
}  # fmt: skip

_TITLE = "a chapter's title; --option titles=yes keeps it"
_ABSENT = "Not Available"
_SIDES = ("langA", "langB")
_ENGLISH = {name: names.split()[0] for names in BOOKS for name in names.split()}
_STEM = re.compile(r"(B\d\d___(\d\d)_(.{12})([A-Z0-9]{10})_verse_(\d+))(?:_one_channel)?")


def read_mass(
    root: Path,
    *,
    languages: Names = None,
    split: str | None = None,
    titles: bool = False,
    references: Names = None,
    log: Log = silent,
) -> Iterator[Utterance]:
    """Verses of each language, in the order of its books, with the other languages' texts as translations.

    Args:
        root: the folder of ``dataset``, or that folder itself; or a table, see `read_mass_table`.
        split: only BibleNet's JSON has one, in its name.
        titles: include the chapters' titles (verse 0).
        references: languages of the translations; None: all that are read. Their texts are held in memory.
    """
    if root.is_file():
        yield from read_mass_table(
            root, languages=languages, split=split, titles=titles, references=references, log=log
        )
        return
    if split is not None:
        raise CORPUS.without_splits(split)
    base = root / "dataset" if (root / "dataset").is_dir() else root
    folders = language_folders(base, languages, _holds_verses, FETCH, log)
    referenced = folders if references is None else language_folders(base, references, _holds_verses, FETCH)
    texts = {code: _texts(folder) for folder, code in dict.fromkeys([*folders, *referenced])}
    others = {code for _, code in referenced}
    for folder, code in folders:
        yield from _read(folder, code, texts, others, titles, log)


CORPUS = Corpus(
    name="mass",
    title="MaSS: the New Testament in eight languages, parallel speech by verse",
    read=read_mass,
    licence="texts and alignments as in getalp/mass-dataset (MIT); the recordings belong to Faith Comes By Hearing",
    fetch=FETCH,
    splits=None,
)


# --- names of verses -------------------------------------------------------------------------------------


def verse_of(stem: str) -> tuple[str, int, int] | None:
    """(English book, chapter, verse) of a file name without its ending; None: it names no verse.

    >>> verse_of("B20___01_Santiago____SPNBDAN1DA_verse_5"), verse_of("B06___01_James_______RUSS76N2DA_verse_5")
    (('James', 1, 5), ('James', 1, 5))
    """
    match = _STEM.fullmatch(stem)
    book = _ENGLISH.get(match[3].rstrip("_")) if match else None
    return (book, int(match[2]), int(match[5])) if match and book else None


def language_of(stem: str) -> str | None:
    """The language of a recording by its file name without ending; None: unknown, or no verse."""
    match = _STEM.fullmatch(stem)
    return VERSIONS.get(match[4]) if match else None


def meaning_of(verse: tuple[str, int, int]) -> str:
    """A verse by its English name, such as ``James 1:5``."""
    return f"{verse[0]} {verse[1]}:{verse[2]}"


# --- folders ---------------------------------------------------------------------------------------------


def _holds_verses(folder: Path) -> bool:
    return folder.name in LANGUAGES and (folder / "txt").is_dir()


def _texts(folder: Path) -> dict[str, str]:
    return {path.stem: _verse_text(path) for path in sorted((folder / "txt").iterdir()) if path.suffix == ".txt"}


def _recordings(folder: Path) -> dict[str, str]:
    def stop(error: OSError) -> None:
        raise error

    return {
        name.removesuffix(".wav").removesuffix("_one_channel"): f"{folder_of}/{name}"
        for folder_of, _, names in os.walk(folder, onerror=stop)
        for name in sorted(names)
        if name.endswith(".wav")
    }


def _read(
    folder: Path, code: str, texts: dict[str, dict[str, str]], others: set[str], titles: bool, log: Log
) -> Iterator[Utterance]:
    skipped = Skipped(f"mass {folder.name}", log)
    without_text: list[str] = []
    recordings = _recordings(folder)
    translations = {
        other: {verse_of(stem): text for stem, text in texts[other].items()} for other in sorted(others - {code})
    }
    for stem in sorted({*texts[code], *recordings}, key=_position):
        verse = verse_of(stem)
        if verse is None:
            skipped.add("its name is no verse's", stem)
        elif verse[2] == 0 and not titles:
            skipped.add(_TITLE, stem)
        elif stem not in recordings:
            skipped.add("recording missing", f"{stem}.wav")
        else:
            if stem not in texts[code]:
                without_text.append(stem)
            yield Utterance(
                id=f"{code}/{stem}",
                audio=AudioRef(recordings[stem]),
                language=code,
                text=texts[code].get(stem),
                translations={
                    other: by_verse[verse] for other, by_verse in translations.items() if by_verse.get(verse)
                },
                meaning=meaning_of(verse),
            )
    skipped.report()
    if without_text:
        names = f"{len(without_text)} recordings have no text in txt/, such as {without_text[0]}"
        log(f"mass {folder.name}: {names}")


def _position(stem: str) -> tuple[str, int]:
    head, _, number = stem.rpartition("_")
    return head, int(number) if number.isdecimal() else -1


def _verse_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as e:
        raise CorpusError(f"{path}: can't be read ({e}); fetch it again") from e


# --- tables of verses ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Verse:
    language: str
    stem: str
    folder: Path
    text: str | None


def is_mass_table(path: Path) -> bool:
    """Whether a file is the script's CSV or BibleNet's JSON."""
    head = [line for _, line in islice(read_lines(path), 2)]
    if len(head) == 2 and head[0].startswith("ID,Label,") and head[1].startswith(",Path,"):
        return True
    if not head or not head[0].lstrip().startswith("{"):
        return False
    try:  # the first line identifies JSON lines
        return _is_biblenet(decode_json(head[0]))
    except msgspec.DecodeError:
        return _biblenet(path) is not None


def read_mass_table(
    path: Path,
    *,
    languages: Names = None,
    split: str | None = None,
    titles: bool = False,
    references: Names = None,
    keep_missing: bool = False,
    log: Log = silent,
) -> Iterator[Utterance]:
    """Verses of a table (CSV or JSON), row by row, with the row's other texts as translations; see `read_mass`.

    ``languages`` None: all whose folder exists; ``keep_missing`` keeps recordings whose file doesn't exist.
    """
    wanted = None if languages is None else normalise_languages(languages)
    others = None if references is None else normalise_languages(references)
    skipped = Skipped(f"mass {path.name}", log)
    content = None if path.suffix == ".csv" else _biblenet(path)
    if content is None:
        if split is not None:
            raise CORPUS.without_splits(split)
        rows, own_split = _csv_rows(path, wanted, log), None
    else:
        own_split = split_name(path.name.partition("-")[0])
        own_split = own_split if own_split in ("train", "dev", "test") else None
        rows = _biblenet_rows(path, content) if split is None or split == own_split else iter(())
    seen: set[str] = set()
    for where, label, verses in rows:
        named = next((v for verse in verses if (v := verse_of(verse.stem))), None)
        if named and named[2] == 0 and not titles:
            skipped.add(_TITLE, label)
            continue
        for verse in verses:
            name = f"{verse.language}/{verse.stem}"
            if name in seen or (wanted is not None and verse.language not in wanted):
                continue
            audio = _recording(verse, where)
            if not keep_missing and not is_file(audio):
                skipped.add("recording missing", f"{verse.stem}.wav")
                continue
            seen.add(name)
            yield Utterance(
                id=name,
                audio=AudioRef(str(audio)),
                language=verse.language,
                text=verse.text,
                translations={
                    other.language: other.text
                    for other in verses
                    if other.language != verse.language and other.text and (others is None or other.language in others)
                },
                meaning=meaning_of(named) if named else label,
                split=own_split,
            )
    skipped.report()


def _csv_rows(path: Path, wanted: tuple[str, ...] | None, log: Log) -> Iterator[tuple[str, str, list[_Verse]]]:
    lines = ((number, line.split(",")) for number, line in read_lines(path) if line)
    head = [cells for _, cells in islice(lines, 4)]
    labels = [cells[1] for cells in head if len(cells) >= len(head[0])]
    if labels != ["Label", "Path", "Available", "Missing"]:
        raise ManifestError(
            f"{path}: no table of MaSS's check-verses.py; it begins with rows Label, Path, Available, …"
        )
    names, paths = head[0][2:], head[1][2 : len(head[0])]
    folders: dict[int, tuple[str, Path]] = {}
    for column, (name, base) in enumerate(zip(names, paths, strict=True), start=2):
        try:
            code, folder = normalise_language(name), _folder(base, path)
        except UsageError as e:
            raise ManifestError(f"{path}:1: {e}") from e
        if folder is not None:
            folders[column] = code, folder
        elif wanted is not None and code in wanted:
            raise _without_recordings(path, name, base)
        elif wanted is None:
            log(f"{path.name}: {name} is skipped, for its recordings ({base}) aren't here")
    if not folders:
        raise _without_recordings(path, names[0], paths[0])
    for number, cells in lines:
        where, label = f"{path}:{number}", cells[1] if len(cells) > 1 else ""
        if len(cells) != len(head[0]):
            raise ManifestError(f"{where}: {len(cells)} cells, not {len(head[0])}; make the table again")
        verses = []
        for column, (code, folder) in folders.items():
            stem = cells[column].strip()
            if stem in ("0", "1"):
                raise ManifestError(
                    f"{where}: it says whether a verse is there, not its name; run check-verses.py with True as its "
                    "second argument"
                )
            if stem != _ABSENT:
                clip_path(folder, stem, where)
                text = folder.parent / "txt" / f"{stem}.txt"
                verses.append(_Verse(code, stem, folder, _verse_text(text) if is_file(text) else None))
        yield where, label, verses


def _biblenet(path: Path) -> Mapping[str, Any] | None:
    """The content of BibleNet's JSON, one object on one line or many; None: another file."""
    try:
        content = decode_json("\n".join(line for _, line in read_lines(path)))
    except msgspec.DecodeError:
        return None
    return content if _is_biblenet(content) else None


def _is_biblenet(content: Any) -> bool:
    keys = {f"audio_{side}_base_path" for side in _SIDES}
    return isinstance(content, dict) and keys <= set(content) and isinstance(content.get("data"), list)


def _biblenet_rows(path: Path, content: Mapping[str, Any]) -> Iterator[tuple[str, str, list[_Verse]]]:
    folders = {side: str(content[f"audio_{side}_base_path"]) for side in _SIDES}
    found = {side: _folder(base, path) for side, base in folders.items()}
    for number, row in enumerate(content["data"]):
        where = f"{path}, data[{number}]"
        verses = []
        for side in _SIDES:
            try:
                text, stem = str(row[f"text-{side}"]).strip(), str(row[f"wav-{side}"]).removesuffix(".wav")
            except (KeyError, TypeError):
                raise ManifestError(f"{where}: no text-{side} and wav-{side}; is it a JSON of BibleNet's?") from None
            folder, stem = found[side], stem.removesuffix("_one_channel")
            if folder is None:
                raise _without_recordings(path, side, folders[side])
            code = language_of(stem) or _language_in(folders[side])
            if code is None:
                raise ManifestError(f"{where}: neither {stem!r} nor {folders[side]!r} tells the language of {side}")
            verses.append(_Verse(code, stem, folder, text or None))
        yield where, str(row.get("uttid", number)), verses


def _folder(base: str, table: Path) -> Path | None:
    """A folder named by a script that ran elsewhere; None: it doesn't exist."""
    return next((p for above in table.resolve().parents if (p := (above / base).resolve()).is_dir()), None)


def _without_recordings(table: Path, name: str, base: str) -> CorpusError:
    return CorpusError(
        f"{table}: the recordings of {name} aren't here; it says {base}, which is looked for from {table.parent} and "
        "the folders above it"
    )


def _language_in(folder: str) -> str | None:
    part = next((p for p in Path(folder).parts if p.endswith("_corpus")), None)
    return None if part is None else normalise_language(part.removesuffix("_corpus"))


def _recording(verse: _Verse, where: str) -> Path:
    """MaSS's scripts call the mono file ``<stem>_one_channel.wav``."""
    mono = clip_path(verse.folder, f"{verse.stem}_one_channel.wav", where)
    return mono if is_file(mono) else mono.with_name(f"{verse.stem}.wav")
