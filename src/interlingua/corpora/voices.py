"""Recordings that are named after what they say: GCompris' spoken instructions, and other voices of Asterisk's prompts.

A file's name is the meaning, in every language; the wording is free.
"""

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import msgspec

from interlingua.corpora.base import Corpus, Log, Names, Skipped, silent
from interlingua.corpora.layout import folder_name, language_folders
from interlingua.corpora.prepare import cluster_meanings
from interlingua.corpora.prompts import prepare_prompts
from interlingua.errors import CorpusError, UsageError
from interlingua.languages import normalise_language
from interlingua.types import AudioRef, Utterance

GCOMPRIS = (
    "clone https://github.com/gcompris/GCompris-voices, which is ROOT (its ROOT/<language>/intro/*.ogg are read), or "
    "copy the folders wanted from it"
)
ASTERISK = (
    "fetch Asterisk prompts of one language (German, Spanish, French: github.com/beroNet/asterisk-sounds, "
    "asterisk_sounds_<l>/work/userapp/lib/asterisk/sounds); ROOT is the folder that holds vm-goodbye, and --languages "
    "names the language"
)
SUFFIXES = (".wav", ".flac", ".g722", ".sln16", ".gsm")  # of which the first is read
_CREDIT = re.compile(r"(\S+)\.o[og]g\s+(.+?)(?:\s+\d{4})?\s*/")  # sic: README files of it write .oog


def read_gcompris(
    root: Path, *, languages: Names = None, split: str | None = None, log: Log = silent
) -> Iterator[Utterance]:
    """Instructions of a game, by volunteers: about 110 in each of ten languages, six of them in one more.

    Instructions with one English text share a meaning: our transcripts in ``data/gcompris_en.json``, written with a
    recogniser and corrected. Those without one are skipped.
    """
    english = gcompris_english()
    first: dict[str, str] = {}  # text -> the meaning that bears it
    meanings = {name: first.setdefault(text.casefold(), name) for name, text in sorted(english.items())}
    clusters = cluster_meanings({meaning: {"en": english[meaning]} for meaning in first.values()})
    for folder, language in language_folders(root, languages, lambda p: any(p.glob("intro/*.ogg")), GCOMPRIS, log):
        skipped = Skipped(f"gcompris {folder_name(folder)}", log)
        speakers = _speakers(folder / "intro" / "README")
        for path in sorted((folder / "intro").glob("*.ogg")):
            meaning = meanings.get(path.stem.replace("_", "-"))
            if meaning is None:
                skipped.add("no English text", path.stem)
                continue
            text = english[meaning]
            yield Utterance(
                id=f"{folder_name(folder)}/{path.stem}",
                audio=AudioRef(str(path)),
                language=language,
                text=text if language == "en" else None,
                translations={} if language == "en" else {"en": text},
                meaning=meaning,
                cluster=clusters[meaning],
                speaker=speakers.get(path.stem),
            )
        skipped.report()


def read_asterisk(
    root: Path, *, languages: Names = None, split: str | None = None, log: Log = silent
) -> Iterator[Utterance]:
    """One language's Asterisk prompts: those of the prompts corpus, whose texts are their translations.

    Raises UsageError unless ``languages`` is one. Of a name in several formats the first of `SUFFIXES` is read.
    """
    if languages is None or len(languages) != 1:
        raise UsageError("--languages: an Asterisk tree doesn't name its language; give one, such as --languages de")
    (language,) = map(normalise_language, languages)
    found: dict[str, Path] = {}
    for suffix in reversed(SUFFIXES):
        found |= {p.relative_to(root).with_suffix("").as_posix(): p for p in root.rglob(f"*{suffix}")}
    prompts = {u.meaning: u for u in prepare_prompts(languages=("en",), log=log)}
    if not found.keys() & prompts.keys():
        raise CorpusError(f"{root}: no prompt of Asterisk's core sounds is here. {ASTERISK}")
    skipped = Skipped(f"asterisk {language}", log)
    for name, path in sorted(found.items()):
        prompt = prompts.get(name)
        if prompt is None:
            skipped.add("not among the prompts corpus' sentences", name)
            continue
        texts = {"en": prompt.text or ""} | prompt.translations
        yield Utterance(
            id=f"{language}/{name}",
            audio=AudioRef(str(path)),
            language=language,
            translations={code: text for code, text in texts.items() if code != language},
            meaning=prompt.meaning,
            cluster=prompt.cluster,
        )
    skipped.report()


CORPUS = Corpus(
    name="gcompris",
    title="spoken instructions of GCompris, the same in 11 languages, by volunteers",
    read=read_gcompris,
    licence="GPL-3.0-or-later or GPL (Scottish Gaelic: public domain); README files of its folders name the speakers",
    fetch=GCOMPRIS,
    splits=False,
    units=("instructions", "clusters of near-duplicates"),
)
OTHER_VOICES = Corpus(
    name="asterisk",
    title="sentences of the prompts corpus by other voices and in other languages (Asterisk prompts of any kind)",
    read=read_asterisk,
    licence="the tree's own (beroNet's: GPL-2.0)",
    fetch=ASTERISK,
    splits=False,
    units=("prompts", "clusters of near-duplicates"),
)


def gcompris_english() -> dict[str, str]:
    """English texts of GCompris' instructions: file name with hyphens for underscores -> text."""
    data = (files("interlingua.corpora") / "data" / "gcompris_en.json").read_bytes()
    texts: dict[str, str] = msgspec.json.decode(data, type=dict[str, str])
    return {name.replace("_", "-"): text for name, text in texts.items()}


def _speakers(readme: Path) -> dict[str, str]:
    if not readme.is_file():
        return {}
    lines = readme.read_text(encoding="utf-8", errors="replace").splitlines()
    return {match[1]: match[2] for line in lines if (match := _CREDIT.match(line.strip()))}
