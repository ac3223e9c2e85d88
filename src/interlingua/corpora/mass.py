"""MaSS: the New Testament in eight languages, aligned by verse (``getalp/mass-dataset``).

Its repository holds the texts, ``dataset/<language>/txt/``; the recordings are cut by its scripts from chapters that
everybody has to fetch from bible.is. The number in a file's name is the book's place in that language's own order, and
books are named in three languages: a verse's meaning is its English book, chapter and number (``James 1:5``).
`interlingua.corpora.mass_tables` reads the tables that its scripts and BibleNet's make of such verses.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from interlingua.corpora.folders import language_folders
from interlingua.corpora.leftovers import LeftOut
from interlingua.corpora.mass_tables import TITLE, read_mass_table
from interlingua.corpora.mass_verses import meaning_of, verse_of, verse_text
from interlingua.corpora.splits import refuse_split
from interlingua.types import AudioRef, Utterance

LICENCE = "texts and alignments as in getalp/mass-dataset (MIT); the recordings belong to Faith Comes By Hearing"
FETCH = (
    "clone https://github.com/getalp/mass-dataset as ROOT, fetch the chapters of the languages you need from bible.is "
    "as its README says, cut them with its scripts, and put the verses (<stem>.wav or <stem>_one_channel.wav) anywhere "
    "below ROOT/dataset/<language>; or ROOT is recap_verses-anName-True.csv of its scripts, or a BibleNet JSON"
)
LANGUAGES = ("basque", "english", "finnish", "french", "hungarian", "romanian", "russian", "spanish")


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
        root: what holds ``dataset``, or that folder itself; or a table, see `read_mass_table`.
        languages: the folders' names or our codes; None: all that are there.
        split: only BibleNet's JSON has one.
        titles: read the chapters' titles (verse 0) too.
        references: languages of the translations; None: all that are read. Their texts are held in memory.
        log: receives a line on whatever was left out, and how much.

    Raises:
        CorpusError: a language isn't there; says what to fetch.
        UsageError: an unknown language, or a split.
    """
    if root.is_file():
        yield from read_mass_table(
            root, languages=languages, split=split, titles=titles, references=references, log=log
        )
        return
    refuse_split("mass", split)
    base = root / "dataset" if (root / "dataset").is_dir() else root
    folders = language_folders(base, languages, _holds_verses, FETCH, log)
    beside = folders if references is None else language_folders(base, references, _holds_verses, FETCH)
    texts = {code: _texts(folder) for folder, code in dict.fromkeys([*folders, *beside])}
    others = {code for _, code in beside}
    for folder, code in folders:
        yield from _read(folder, code, texts, others, titles, log)


def _holds_verses(folder: Path) -> bool:
    return folder.name in LANGUAGES and (folder / "txt").is_dir()


def _texts(folder: Path) -> dict[str, str]:
    """Stem -> text of every verse."""
    return {path.stem: verse_text(path) for path in sorted((folder / "txt").iterdir()) if path.suffix == ".txt"}


def _recordings(folder: Path) -> dict[str, str]:
    """Stem -> path of every WAV file below the folder."""

    def stop(error: OSError) -> None:
        raise error

    return {
        name.removesuffix(".wav").removesuffix("_one_channel"): f"{place}/{name}"
        for place, _, names in os.walk(folder, onerror=stop)
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
    silent: list[str] = []
    recordings = _recordings(folder)
    translations = {
        other: {verse_of(stem): text for stem, text in texts[other].items()} for other in sorted(others - {code})
    }
    for stem in sorted({*texts[code], *recordings}, key=_place):
        verse = verse_of(stem)
        if verse is None:
            left.add("its name is no verse's", stem)
        elif verse[2] == 0 and not titles:
            left.add(TITLE, stem)
        elif stem not in recordings:
            left.add("recording missing", f"{stem}.wav")
        else:
            if stem not in texts[code]:
                silent.append(stem)
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
    left.report(log)
    if silent:
        log(f"mass {folder.name}: {len(silent)} recordings have no text in txt/, such as {silent[0]}")


def _place(stem: str) -> tuple[str, int]:
    """Books and chapters as the language orders them, verses as numbers."""
    head, _, number = stem.rpartition("_")
    return head, int(number) if number.isdecimal() else -1
