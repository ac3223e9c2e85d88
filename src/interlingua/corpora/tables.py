"""Tab-separated tables as corpora publish them: a line is a row, quotes are letters, columns are found by name."""

import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from interlingua.audio.archives import list_members, read_member
from interlingua.corpora.leftovers import LeftOut
from interlingua.errors import CorpusError

Row = dict[str, str]

_BOM = b"\xef\xbb\xbf"
_ESCAPED = re.compile(r"(\t)|\\(.)|\\$", re.DOTALL)


def read_table(
    path: Path,
    *,
    required: Sequence[str],
    left: LeftOut,
    header: Sequence[str] | None = None,
    escapes: bool = False,
) -> Iterator[tuple[int, Row]]:
    """Yield (line number, row) of a tab-separated file, in constant memory.

    Cells are taken as they stand: no quoting, no missing values (``NA`` is a sentence), nothing stripped but the line's
    end, which may be Windows'. A row that ends early has empty last columns. One that lacks a required column, or has
    too many (a tab inside a sentence shifts all that follows), is left out.

    Args:
        path: the file; it may be gzipped, or the only .tsv file in a tar.gz.
        required: columns that every row must reach.
        left: counts the rows that are left out.
        header: the columns, in a file whose first line is a row already.
        escapes: a backslash takes the next character literally.

    Raises:
        CorpusError: the file can't be read, isn't UTF-8, or lacks a required column.
    """
    with _lines(path) as lines:
        names, number = tuple(header or ()), 0
        for number, line in enumerate(lines, start=1):
            cells = _cells(line, escapes, f"{path}:{number}", first=number == 1)
            if not names:
                names = tuple(cells)
                _require(path, names, required)
                continue
            if cells == [""]:
                continue
            if len(cells) > len(names):
                left.add(f"more than {len(names)} columns", f"{path.name}:{number}")
                continue
            row = dict(zip(names, cells, strict=False))
            if any(column not in row for column in required):
                left.add(f"fewer than {len(names)} columns", f"{path.name}:{number}")
                continue
            for column in names[len(cells) :]:
                row[column] = ""
            yield number, row
        if not number:
            raise CorpusError(f"{path}: the file is empty; fetch it again")


def sentence_key(language: str, sentence: str) -> str | None:
    """What recordings of one sentence share where the corpus has no number for it; None: nothing, it isn't known.

    >>> sentence_key("fr", "Bonjour."), sentence_key("fr", "bonjour."), sentence_key("fr", "")
    ('fr:80fa40a352ddb746', 'fr:ae66531256f11411', None)
    """
    if not sentence.strip():
        return None
    return f"{language}:{hashlib.blake2b(sentence.encode(), digest_size=8).hexdigest()}"


def _require(path: Path, names: Sequence[str], required: Sequence[str]) -> None:
    for column in required:
        if column not in names:
            raise CorpusError(
                f"{path}:1: no column {column!r} among {', '.join(names)[:200]}; is it the file that was meant?"
            )


def _cells(line: bytes, escapes: bool, where: str, *, first: bool) -> list[str]:
    try:
        text = (line.removeprefix(_BOM) if first else line).decode("utf-8")
    except UnicodeDecodeError as e:
        raise CorpusError(f"{where}: not UTF-8 (byte {e.object[e.start]:#04x}); fetch it again or convert it") from e
    text = text.removesuffix("\n").removesuffix("\r")
    if not escapes or "\\" not in text:
        return text.split("\t")
    cells, end = [""], 0
    for match in _ESCAPED.finditer(text):
        cells[-1] += text[end : match.start()] + (match[2] or "")
        if match[1]:
            cells.append("")
        end = match.end()
    cells[-1] += text[end:]
    return cells


@contextmanager
def _lines(path: Path) -> Iterator[IO[bytes]]:
    """The file's lines, each with its end; only \\n ends a line."""
    try:
        if path.name.endswith((".tar.gz", ".tgz")):
            tables = [name for name in list_members(path).sizes if name.endswith(".tsv")]
            if len(tables) != 1:
                raise CorpusError(f"{path}: {len(tables)} .tsv files in it, not one; unpack it")
            yield io.BytesIO(read_member(path, tables[0]))
        elif path.suffix == ".gz":
            with gzip.open(path) as compressed:
                yield compressed  # type: ignore[misc]  # it reads lines of bytes
        else:
            with path.open("rb") as file:
                yield file
    except (OSError, EOFError, zlib.error) as e:
        reason = e.strerror if isinstance(e, OSError) and e.strerror else e
        raise CorpusError(f"{path}: can't be read ({reason}); fetch it again") from e
