"""MaSS: the New Testament in eight languages, aligned by verse (``getalp/mass-dataset``).

Its repository holds the texts, ``dataset/<language>/txt/``; the recordings are cut by its scripts from chapters that
everybody has to fetch from bible.is. The number in a file's name is the book's place in that language's own order, and
books are named in three languages: a verse's meaning is its English book, chapter and number (``James 1:5``).
"""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from interlingua.corpora.folders import language_folders
from interlingua.corpora.leftovers import LeftOut
from interlingua.corpora.splits import refuse_split
from interlingua.errors import CorpusError
from interlingua.types import AudioRef, Utterance

LICENCE = "texts and alignments as in getalp/mass-dataset (MIT); the recordings belong to Faith Comes By Hearing"
FETCH = (
    "clone https://github.com/getalp/mass-dataset as ROOT, fetch the chapters of the languages you need from bible.is "
    "as its README says, cut them with its scripts, and put the verses (<stem>.wav or <stem>_one_channel.wav) anywhere "
    "below ROOT/dataset/<language>"
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

_ENGLISH = {name: names.split()[0] for names in BOOKS for name in names.split()}
_STEM = re.compile(r"(B\d\d___(\d\d)_(.{12})([A-Z0-9]{10})_verse_(\d+))(?:_one_channel)?")


def read_mass(
    root: Path,
    *,
    languages: tuple[str, ...] | None = None,
    split: str | None = None,
    titles: bool = False,
    references: tuple[str, ...] | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> Iterator[Utterance]:
    """Verses of each language, in the order of their own books, with the other languages' texts as translations.

    Args:
        root: what holds ``dataset``, or that folder itself.
        languages: the folders' names or our codes; None: all that are there.
        split: the corpus has none.
        titles: read the chapters' titles (verse 0) too.
        references: languages of the translations; None: all that are read. Their texts are held in memory.
        log: receives a line on whatever was left out, and how much.

    Raises:
        CorpusError: a language isn't there; says what to fetch.
        UsageError: an unknown language, or a split.
    """
    refuse_split("mass", split)
    base = root / "dataset" if (root / "dataset").is_dir() else root
    folders = language_folders(base, languages, _holds_verses, FETCH, log)
    beside = folders if references is None else language_folders(base, references, _holds_verses, FETCH)
    texts = {code: _texts(folder) for folder, code in dict.fromkeys([*folders, *beside])}
    others = {code for _, code in beside}
    for folder, code in folders:
        yield from _read(folder, code, texts, others, titles, log)


def verse_of(stem: str) -> tuple[str, int, int] | None:
    """(English book, chapter, verse) of a file name without its ending; None: it names no verse.

    >>> verse_of("B20___01_Santiago____SPNBDAN1DA_verse_5"), verse_of("B06___01_James_______RUSS76N2DA_verse_5")
    (('James', 1, 5), ('James', 1, 5))
    """
    match = _STEM.fullmatch(stem)
    book = _ENGLISH.get(match[3].rstrip("_")) if match else None
    return (book, int(match[2]), int(match[5])) if match and book else None


def _holds_verses(folder: Path) -> bool:
    return folder.name in LANGUAGES and (folder / "txt").is_dir()


def _texts(folder: Path) -> dict[str, str]:
    """Stem -> text of every verse."""
    texts = {}
    for path in sorted((folder / "txt").glob("*.txt")):
        try:
            texts[path.stem] = path.read_text(encoding="utf-8-sig").strip()
        except (OSError, UnicodeDecodeError) as e:
            raise CorpusError(f"{path}: can't be read ({e}); fetch it again") from e
    return texts


def _recordings(folder: Path) -> dict[str, str]:
    """Stem -> path of every WAV file below the folder."""
    return {
        name.removesuffix(".wav").removesuffix("_one_channel"): f"{place}/{name}"
        for place, _, names in os.walk(folder)
        for name in sorted(names)
        if name.endswith(".wav")
    }


def _read(
    folder: Path,
    code: str,
    texts: dict[str, dict[str, str]],
    others: set[str],
    titles: bool,
    log: Callable[[str], None],
) -> Iterator[Utterance]:
    left = LeftOut(f"mass {folder.name}")
    recordings = _recordings(folder)
    translations = {
        other: {verse_of(stem): text for stem, text in texts[other].items()} for other in sorted(others - {code})
    }
    for stem in sorted({*texts[code], *recordings}, key=_place):
        verse = verse_of(stem)
        if verse is None:
            left.add("its name is no verse's", stem)
        elif verse[2] == 0 and not titles:
            left.add("a chapter's title; --option titles=yes keeps it", stem)
        elif stem not in recordings:
            left.add("recording missing", f"{stem}.wav")
        else:
            yield Utterance(
                id=f"{code}/{stem}",
                audio=AudioRef(recordings[stem]),
                language=code,
                text=texts[code].get(stem),
                translations={
                    other: by_verse[verse] for other, by_verse in translations.items() if by_verse.get(verse)
                },
                meaning=f"{verse[0]} {verse[1]}:{verse[2]}",
            )
    left.report(log)


def _place(stem: str) -> tuple[str, int]:
    """Books and chapters as the language orders them, verses as numbers."""
    head, _, number = stem.rpartition("_")
    return head, int(number) if number.isdecimal() else -1
