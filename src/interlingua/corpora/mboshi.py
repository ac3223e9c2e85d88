"""Mboshi-French: field recordings of Mboshi (Bantu C25) with transcripts and French translations.

``<split>/<name>.{wav,mb,fr}``, an utterance each; a name begins with its speaker's (Godard et al., arXiv 1710.03501).
"""

from collections.abc import Iterator
from pathlib import Path

from interlingua.corpora.base import Corpus, Log, Names, Skipped, check_folder, silent
from interlingua.corpora.delimited import read_lines
from interlingua.corpora.layout import NO_FILE
from interlingua.errors import CorpusError, UsageError
from interlingua.languages import normalise_languages
from interlingua.types import AudioRef, Utterance

FETCH = "clone https://github.com/besacier/mboshi-french-parallel-corpus as ROOT"
LANGUAGE, TARGET = "mdw", "fr"  # ISO 639-3: Mbosi
SPLITS = ("train", "dev")
_BELOW = "full_corpus_newsplit"


def read_mboshi(
    root: Path, *, languages: Names = None, split: str | None = None, log: Log = silent
) -> Iterator[Utterance]:
    """One utterance a recording; ``root`` may also be ``full_corpus_newsplit``. The texts are the linguists' own."""
    if languages is not None and normalise_languages(languages) != (LANGUAGE,):
        raise UsageError(f"--languages {','.join(languages)}: the mboshi corpus has speech in {LANGUAGE} alone")
    folder = root / _BELOW if (root / _BELOW).is_dir() else root
    there = [name for name in ((split,) if split else SPLITS) if (folder / name).is_dir()]
    for name in there:
        check_folder(folder / name, listed=True)
    texts = {name: sorted((folder / name).glob(f"*.{TARGET}")) for name in there}
    if not any(texts.values()):
        raise CorpusError(f"{folder}: no {split or 'train or dev'}/<name>.{TARGET} is here. {FETCH}")
    for name, paths in texts.items():
        skipped = Skipped(f"mboshi {name}", log)
        for path in paths:
            audio = path.with_suffix(".wav")
            if not audio.is_file():
                skipped.add(NO_FILE, audio.name)
                continue
            translation = _line(path)
            yield Utterance(
                id=f"{LANGUAGE}/{path.stem}",
                audio=AudioRef(str(audio)),
                language=LANGUAGE,
                text=_line(path.with_suffix(".mb")),
                translations={TARGET: translation} if translation else {},
                meaning=path.stem,
                split=name,
                speaker=path.stem.partition("_")[0],
            )
        skipped.report()


CORPUS = Corpus(
    name="mboshi",
    title="Mboshi-French: field recordings of an unwritten language with transcripts and French translations (texts)",
    read=read_mboshi,
    licence="none stated; made available to the community for reproducible experiments (its README)",
    fetch=FETCH,
    splits=SPLITS,
)


def _line(path: Path) -> str | None:
    """A file's text; None: there is none."""
    return " ".join(" ".join(line for _, line in read_lines(path)).split()) or None if path.is_file() else None
