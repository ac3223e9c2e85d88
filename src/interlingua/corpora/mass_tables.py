"""MaSS's own tables of verses that mean the same: its alignment script's CSV, and BibleNet's JSON of two languages.

The CSV (``recap_verses-anName-True.csv``) has a row a verse and a column a language::

    ID,Label,english,french
    ,Path,./data/english_corpus/wav/,./data/french_corpus/wav/
    ,Available,7943,7951,Intersection
    ,Missing,12,4,7939
    0,01_Acts_verse_1,B05___01_Acts________ENGESVN1DA_verse_1,Not Available

BibleNet's JSON (``train-english-french-seed325.json``) has two languages' folders and, in ``data``, texts and files.
Either names folders as the scripts saw them: they are looked for from the table's own folder and the folders above it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from interlingua.corpora.delimited import read_lines
from interlingua.corpora.leftovers import LeftOut
from interlingua.corpora.mass_verses import language_of, meaning_of, verse_of, verse_text
from interlingua.corpora.rows import clip_path, split_name
from interlingua.corpora.splits import refuse_split
from interlingua.errors import CorpusError, ManifestError, UsageError
from interlingua.languages import normalise_language, normalise_languages
from interlingua.types import AudioRef, Utterance

TITLE = "a chapter's title; --option titles=yes keeps it"
_ABSENT = "Not Available"
_SIDES = ("langA", "langB")


@dataclass(frozen=True)
class _Verse:
    """A verse in one language; the text is None where nothing has it."""

    language: str
    stem: str
    folder: Path
    text: str | None


def is_mass_table(path: Path) -> bool:
    """Whether a file is the script's CSV or a JSON of BibleNet's form."""
    head = [line for _, line in islice(read_lines(path), 2)]
    if len(head) == 2 and head[0].startswith("ID,Label,") and head[1].startswith(",Path,"):
        return True
    if not head or not head[0].lstrip().startswith("{"):
        return False
    try:  # JSON lines are known by their first: the others aren't read
        return _is_biblenet(msgspec.json.decode(head[0]))
    except msgspec.DecodeError:
        return _biblenet(path) is not None


def read_mass_table(
    path: Path,
    *,
    languages: tuple[str, ...] | None = None,
    split: str | None = None,
    titles: bool = False,
    references: tuple[str, ...] | None = None,
    keep_missing: bool = False,
    log: Callable[[str], None] = lambda line: None,
) -> Iterator[Utterance]:
    """Verses of a table, row by row, with the row's other texts as translations.

    Args:
        path: the CSV or JSON.
        languages: to keep; None: all whose folder is there.
        split: BibleNet's JSON has one, in its name; None: all.
        titles: read the chapters' titles (verse 0) too.
        references: languages of the translations; None: all of the row.
        keep_missing: keep recordings whose file isn't there.
        log: receives a line on whatever was left out, and how much.

    Raises:
        ManifestError: no such table, or a row is wrong; file and line are named.
        CorpusError: the folder of a language's recordings isn't there.
        UsageError: an unknown language, or a split of the CSV.
    """
    wanted = None if languages is None else normalise_languages(languages)
    others = None if references is None else normalise_languages(references)
    left = LeftOut(f"mass {path.name}")
    content = None if path.suffix == ".csv" else _biblenet(path)
    if content is None:
        refuse_split("mass", split)
        rows, own_split = _csv_rows(path, wanted, log), None
    else:
        own_split = split_name(path.name.partition("-")[0])
        own_split = own_split if own_split in ("train", "dev", "test") else None
        rows = _biblenet_rows(path, content) if split is None or split_name(split) == own_split else iter(())
    seen: set[str] = set()
    for where, label, verses in rows:
        named = next((v for verse in verses if (v := verse_of(verse.stem))), None)
        if named and named[2] == 0 and not titles:
            left.add(TITLE, label)
            continue
        for verse in verses:
            name = f"{verse.language}/{verse.stem}"
            if name in seen or (wanted is not None and verse.language not in wanted):
                continue
            audio = _recording(verse, where)
            if not keep_missing and not audio.is_file():
                left.add("recording missing", f"{verse.stem}.wav")
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
    left.report(log)


# --- the two forms ---------------------------------------------------------------------------------------


def _csv_rows(
    path: Path, wanted: tuple[str, ...] | None, log: Callable[[str], None]
) -> Iterator[tuple[str, str, list[_Verse]]]:
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
            log(f"{path.name}: {name} is left out, for its recordings ({base}) aren't here")
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
                said = verse_text(text) if text.is_file() else None
                verses.append(_Verse(code, stem, folder, said))
        yield where, label, verses


def _biblenet(path: Path) -> Mapping[str, Any] | None:
    """The content of a JSON of BibleNet's form, which is one object, on one line or many; None: another file."""
    try:
        content = msgspec.json.decode("\n".join(line for _, line in read_lines(path)))
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


# --- where the recordings are ----------------------------------------------------------------------------


def _folder(base: str, table: Path) -> Path | None:
    """A folder that a script named, from wherever it ran; None: it isn't here."""
    return next((p for place in table.resolve().parents if (p := (place / base).resolve()).is_dir()), None)


def _without_recordings(table: Path, name: str, base: str) -> CorpusError:
    return CorpusError(
        f"{table}: the recordings of {name} aren't here; it says {base}, which is looked for from {table.parent} and "
        "the folders above it"
    )


def _language_in(folder: str) -> str | None:
    """The language of a folder such as ``data/english_corpus/wav/``."""
    part = next((p for p in Path(folder).parts if p.endswith("_corpus")), None)
    return None if part is None else normalise_language(part.removesuffix("_corpus"))


def _recording(verse: _Verse, where: str) -> Path:
    """A verse's file: MaSS's scripts call the mono one ``<stem>_one_channel.wav``."""
    mono = clip_path(verse.folder, f"{verse.stem}_one_channel.wav", where)
    return mono if mono.is_file() else mono.with_name(f"{verse.stem}.wav")
