"""SpeechMatrix: pairs of speech mined from VoxPopuli in 17 languages; no texts.

``ROOT/aligned_speech/<a>-<b>.tsv.gz`` with the columns ``score, <a>_audio, <b>_audio``; a cell such as
``lt_aud.zip:5203779181:21527`` is a recording's archive (in ``ROOT/audios``), first byte and size. The zip's local
record right before that byte names the file, so the archive (100 GB and more) is neither unpacked nor listed.
"""

import math
import re
import struct
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from interlingua.audio.archives import refusal
from interlingua.corpora.base import Corpus, Log, Names, Skipped, silent
from interlingua.corpora.delimited import read_table
from interlingua.corpora.layout import is_file
from interlingua.errors import CorpusError
from interlingua.languages import normalise_language, normalise_languages
from interlingua.types import AudioRef, Utterance

FETCH = (
    "fetch https://dl.fbaipublicfiles.com/speech_matrix/aligned_speech/<a>-<b>.tsv.gz into ROOT/aligned_speech, and "
    "https://dl.fbaipublicfiles.com/speech_matrix/audios/<a>_aud.zip and <b>_aud.zip into ROOT/audios; keep the zips"
)
_CELL = re.compile(r"([^:/\\]+\.zip):(\d+):(\d+)")
_TABLE = re.compile(r"([a-z]+)-([a-z]+)\.tsv(\.gz)?")
# Of a zip's local record: signature, …, lengths of the name and of what follows it.
_HEADER = struct.Struct("<4s5H3L2H")
_SIGNATURE = b"PK\x03\x04"
_LONGEST = 1024  # bytes of a record's name and extra field together


def read_speechmatrix(
    root: Path, *, languages: Names = None, split: str | None = None, least_score: float = 1.06, log: Log = silent
) -> Iterator[Utterance]:
    """Two utterances a pair, which share a meaning; a recording keeps its first pair.

    Both languages must be among ``languages``; published pairs score 1.06 and more (``least_score``).
    """
    wanted = None if languages is None else normalise_languages(languages)
    folder = root / "aligned_speech"
    tables = [
        (path, pair)
        for path in sorted(folder.rglob("*-*.tsv*"))
        if (match := _TABLE.fullmatch(path.name))
        and (pair := (match[1], match[2]))
        and (wanted is None or all(normalise_language(code) in wanted for code in pair))
    ]
    if not tables:
        requested = f" of {', '.join(languages)}" if languages else ""
        raise CorpusError(f"{folder}: no pair{requested} (<a>-<b>.tsv.gz) is here. {FETCH}")
    placed: set[tuple[str, int]] = set()  # recordings of earlier pairs: archive and byte
    with ExitStack() as stack:
        archives = _Archives(root / "audios", stack)
        for path, pair in tables:
            skipped = Skipped(f"speechmatrix {'-'.join(pair)}", log)
            yield from _pairs(path, pair, archives, placed, least_score, skipped)
            skipped.report()


CORPUS = Corpus(
    name="speechmatrix",
    title="SpeechMatrix: pairs of speech mined from VoxPopuli in 17 languages, no texts",
    read=read_speechmatrix,
    licence="not stated with the data; mined from VoxPopuli, which is CC0",
    fetch=FETCH,
    splits=("train",),
)


def _pairs(
    path: Path,
    pair: tuple[str, str],
    archives: "_Archives",
    placed: set[tuple[str, int]],
    least_score: float,
    skipped: Skipped,
) -> Iterator[Utterance]:
    columns = ("score", *(f"{code}_audio" for code in pair))
    for number, row in read_table(path, required=columns, skipped=skipped):
        where = f"{path}:{number}"
        if _score(row["score"], where) < least_score:
            skipped.add(f"a score below {least_score:g}", f"{path.name}:{number}")
            continue
        positions = [_position(row[column], where) for column in columns[1:]]
        if any(p[:2] in placed for p in positions):
            skipped.add("a recording of it stands in an earlier pair", f"{path.name}:{number}")
            continue
        members = [archives.member(*p) for p in positions]
        if None in members:
            skipped.add("no audio in the zip, or no zip", row[columns[1 + members.index(None)]])
            continue
        placed.update(p[:2] for p in positions)
        for code, position, member in zip(pair, positions, members, strict=True):
            yield Utterance(
                id=f"{normalise_language(code)}/{member}",
                audio=AudioRef(str(archives.folder / position[0]), member=member),
                language=normalise_language(code),
                meaning=f"{'-'.join(pair)}/{number}",
                split="train",
            )


def _score(cell: str, where: str) -> float:
    try:
        if math.isfinite(score := float(cell)):
            return score
        raise ValueError(cell)
    except ValueError:
        raise CorpusError(f"{where}: the score is {cell[:20]!r}; fetch the table again") from None


def _position(cell: str, where: str) -> tuple[str, int, int]:
    match = _CELL.fullmatch(cell.strip())
    if match is None:
        raise CorpusError(f"{where}: {cell[:60]!r} is no position in a zip (lt_aud.zip:123:456); fetch the table again")
    return match[1], int(match[2]), int(match[3])


class _Archives:
    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self._stack = stack
        self._files: dict[str, BinaryIO | None] = {}

    def member(self, name: str, start: int, size: int) -> str | None:
        """The member stored uncompressed at a byte; None: there is none."""
        if name not in self._files:
            path = self.folder / name
            self._files[name] = self._stack.enter_context(path.open("rb")) if is_file(path) else None
            if (opened := self._files[name]) and not zipfile.is_zipfile(opened):
                raise CorpusError(f"{path}: no zip file, or it ends early; fetch it again")
        file = self._files[name]
        if file is None:
            return None
        begin = max(0, start - _LONGEST - _HEADER.size)
        file.seek(begin)
        before = file.read(start - begin)
        at = len(before)
        while (at := before.rfind(_SIGNATURE, 0, at)) >= 0:
            if at + _HEADER.size > len(before):
                continue
            fields = _HEADER.unpack_from(before, at)
            method, length, extra = fields[3], fields[9], fields[10]
            named = at + _HEADER.size + length
            # Tools that write such offsets ignore the record's extra field: both ends count.
            if method == 0 and fields[7] in (size, 0xFFFFFFFF, 0) and len(before) in (named, named + extra):
                member = before[at + _HEADER.size : named].decode("utf-8", "replace")
                return None if refusal(member) else member
        return None
