"""VoxPopuli S2S: speeches of the European Parliament with their simultaneous interpretations, as speech.

``ROOT/transcribed_data/<src>/<tgt>/s2s.tsv`` (and ``s2s_ref.tsv``, with transcripts of the interpreters) with the
columns ``src_id, src_text, src_speaker_id, tgt_id, tgt_text``; recordings in ``transcribed_data/<src>/<year>/`` and
``transcribed_data/<src>/<tgt>/<year>/``, ``<id>.ogg``, as ``python -m voxpopuli.get_s2s_data`` writes them.
Interpreters compress and lag: the texts are no literal translations.
"""

from collections.abc import Iterator
from pathlib import Path

from interlingua.corpora.base import Corpus, Log, Names, Skipped, silent
from interlingua.corpora.delimited import read_table
from interlingua.corpora.layout import NO_FILE, language_folders, with_ending
from interlingua.languages import normalise_languages
from interlingua.types import AudioRef, Utterance

FETCH = (
    "clone https://github.com/facebookresearch/voxpopuli and run its download_audios (asr, and the targets' raw "
    "audio), get_asr_data --lang <src> and get_s2s_data --source-lang <src> --target-lang <tgt> with --root ROOT"
)
COLUMNS = ("src_id", "src_text", "src_speaker_id", "tgt_id", "tgt_text")
TABLES = ("s2s_ref.tsv", "s2s.tsv")  # a row of the first comes before the same one of the second: it has a text
_ENDINGS = (".ogg", ".wav", ".flac")


def read_voxpopuli_s2s(
    root: Path, *, languages: Names = None, split: str | None = None, sources: Names = None, log: Log = silent
) -> Iterator[Utterance]:
    """Each speech and each of its interpretations, which share a meaning.

    ``sources`` are the languages of the speeches (None: all that are there), ``languages`` those of the utterances to
    keep. Ids and transcribed interpretations of one source language are held.
    """
    wanted = None if languages is None else normalise_languages(languages)
    base = root / "transcribed_data" if (root / "transcribed_data").is_dir() else root
    for folder, spoken in language_folders(base, sources, lambda p: any(p.glob("*/s2s*.tsv")), FETCH):
        targets = dict(language_folders(folder, None, _has_table, FETCH))
        yield from _source(folder, spoken, targets, wanted, log)


CORPUS = Corpus(
    name="voxpopuli-s2s",
    title="VoxPopuli S2S: speeches of the European Parliament with their interpretations, parallel speech",
    read=read_voxpopuli_s2s,
    licence="CC0 (speeches); the European Parliament's legal notice applies to its recordings",
    fetch=FETCH,
    splits=False,
)


def _source(
    folder: Path, spoken: str, targets: dict[Path, str], wanted: tuple[str, ...] | None, log: Log
) -> Iterator[Utterance]:
    references: dict[str, dict[str, str]] = {}
    for target, code in targets.items():
        for row in _rows(target, Skipped("")):
            if row["tgt_text"].strip():
                references.setdefault(row["src_id"], {})[code] = row["tgt_text"].strip()
    seen: set[str] = set()  # speeches already yielded or unusable
    for target, code in targets.items():
        skipped = Skipped(f"voxpopuli_s2s {spoken}-{code}", log)
        for row in _rows(target, skipped):
            source, text = row["src_id"], row["src_text"].strip() or None
            if source not in seen:
                seen.add(source)
                path = _audio(folder, source)
                if path is None:
                    skipped.add(NO_FILE, source)
                elif wanted is None or spoken in wanted:
                    yield Utterance(
                        id=f"{spoken}/{source}",
                        audio=AudioRef(str(path)),
                        language=spoken,
                        text=text,
                        translations=references.get(source, {}),
                        meaning=source,
                        speaker=row["src_speaker_id"].strip() or None,
                    )
            path = _audio(target, row["tgt_id"])
            if path is None:
                skipped.add(NO_FILE, row["tgt_id"])
            elif wanted is None or code in wanted:
                yield Utterance(
                    id=f"{spoken}-{code}/{row['tgt_id']}",
                    audio=AudioRef(str(path)),
                    language=code,
                    text=references.get(source, {}).get(code),
                    translations={spoken: text} if text else {},
                    meaning=source,
                )
        skipped.report()


def _has_table(folder: Path) -> bool:
    return any((folder / name).is_file() for name in TABLES)


def _rows(target: Path, skipped: Skipped) -> Iterator[dict[str, str]]:
    seen: set[str] = set()
    for name in TABLES:
        if (target / name).is_file():
            for _, row in read_table(target / name, required=COLUMNS[:4], skipped=skipped):
                if row["tgt_id"] not in seen:
                    seen.add(row["tgt_id"])
                    yield {"tgt_text": ""} | row


def _audio(folder: Path, name: str) -> Path | None:
    return with_ending(folder / name[:4], name, _ENDINGS)
