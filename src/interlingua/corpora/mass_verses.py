"""MaSS's names of verses: every language has its own books' names and order, and a version of its own."""

import re
from pathlib import Path

from interlingua.errors import CorpusError

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

_ENGLISH = {name: names.split()[0] for names in BOOKS for name in names.split()}
_STEM = re.compile(r"(B\d\d___(\d\d)_(.{12})([A-Z0-9]{10})_verse_(\d+))(?:_one_channel)?")


def verse_of(stem: str) -> tuple[str, int, int] | None:
    """(English book, chapter, verse) of a file name without its ending; None: it names no verse.

    >>> verse_of("B20___01_Santiago____SPNBDAN1DA_verse_5"), verse_of("B06___01_James_______RUSS76N2DA_verse_5")
    (('James', 1, 5), ('James', 1, 5))
    """
    match = _STEM.fullmatch(stem)
    book = _ENGLISH.get(match[3].rstrip("_")) if match else None
    return (book, int(match[2]), int(match[5])) if match and book else None


def language_of(stem: str) -> str | None:
    """The language whose recording a file name without its ending names; None: another one's, or no verse's."""
    match = _STEM.fullmatch(stem)
    return VERSIONS.get(match[4]) if match else None


def meaning_of(verse: tuple[str, int, int]) -> str:
    """A verse by its English name.

    >>> meaning_of(("James", 1, 5))
    'James 1:5'
    """
    return f"{verse[0]} {verse[1]}:{verse[2]}"


def verse_text(path: Path) -> str:
    """What a verse's text file says.

    Raises:
        CorpusError: it can't be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as e:
        raise CorpusError(f"{path}: can't be read ({e}); fetch it again") from e
