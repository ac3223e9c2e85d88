r"""Text files line by line, in constant memory: corpora's TSV, users' own CSV and TSV, JSON lines, parallel texts.

Only \n and \r\n end a line (U+2028 within one doesn't); byte order mark and gzip are detected; ``NA`` is a sentence.
Python's csv reads quoted cells only: without quotes it refuses a lone \r and cells of 131,072 letters, and joins lines
at a final backslash. pyarrow's errors name no line.
"""

import csv
import gzip
import hashlib
import io
import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import msgspec

from interlingua.audio.archives import list_members, read_member
from interlingua.corpora.base import Skipped
from interlingua.errors import CorpusError, ManifestError
from interlingua.files import decode_json

Row = Mapping[str, Any]

_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_NO_JSON = re.compile(r"[:\[,]\s*-?(NaN|Infinity|None|True|False|nan|inf)\b")  # Python's words
_SPACES = re.compile(r" {2,}|\t")
_ESCAPED = re.compile(r"(\t)|\\(.)|\\$", re.DOTALL)


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number, line without its end) of a file, or of the only .tsv file in a tar.gz."""
    number = 0
    try:
        with _opened(path) as lines:
            for number, line in enumerate(lines, start=1):
                if number == 1:
                    if line.startswith(_UTF16):
                        raise ManifestError(f"{path}: UTF-16; save it as UTF-8 (in spreadsheets: CSV UTF-8)")
                    line = line.removeprefix(_BOM)
                yield number, line.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as e:
        byte = f"{e.object[e.start]:#04x}"
        raise ManifestError(f"{path}:{number}: not UTF-8 (byte {byte}); save it as UTF-8, or fetch it again") from e
    except (OSError, EOFError, zlib.error) as e:
        reason = (e.strerror if isinstance(e, OSError) else None) or e
        raise ManifestError(f"{path}: can't be read ({reason}); check the path, or fetch it again") from e


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    if path.name.endswith((".tar.gz", ".tgz")):
        tables = [name for name in list_members(path).sizes if name.endswith(".tsv")]
        if len(tables) != 1:
            raise CorpusError(f"{path}: {len(tables)} .tsv files in it, not one; unpack it")
        yield io.BytesIO(read_member(path, tables[0]))
        return
    with path.open("rb") as plain:
        zipped = plain.peek(2)[:2] == _GZIP  # peek: a pipe can't seek back
        with gzip.open(plain) if zipped else plain as lines:
            yield lines  # type: ignore[misc]  # a GzipFile reads lines of bytes, too


# --- tables as corpora publish them ----------------------------------------------------------------------


def read_table(
    path: Path,
    *,
    required: Sequence[str],
    skipped: Skipped,
    header: Sequence[str] | None = None,
    escapes: bool = False,
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, row) of a tab-separated file without quoting; CorpusError if it can't be read.

    A row that ends early has empty last columns. One that lacks a ``required`` column, or has too many (a tab inside a
    sentence shifts all that follows), is skipped. ``header``: the columns of a file without one; ``escapes``: a
    backslash takes the next character literally.
    """
    names, number = tuple(header or ()), 0
    for number, line in read_lines(path):
        cells = _escaped(line) if escapes and "\\" in line else line.split("\t")
        if not names:
            names = tuple(cells)
            for column in required:
                if column not in names:
                    has = ", ".join(names)[:200]
                    raise CorpusError(f"{path}:1: no column {column!r} among {has}; is it the file that was meant?")
            continue
        if cells == [""]:
            continue
        if len(cells) > len(names):
            skipped.add(f"more than {len(names)} columns", f"{path.name}:{number}")
            continue
        row = dict(zip(names, cells, strict=False))
        if any(column not in row for column in required):
            skipped.add(f"fewer than {len(names)} columns", f"{path.name}:{number}")
            continue
        for column in names[len(cells) :]:
            row[column] = ""
        yield number, row
    if not number:
        raise CorpusError(f"{path}: the file is empty; fetch it again")


def _escaped(line: str) -> list[str]:
    cells, end = [""], 0
    for match in _ESCAPED.finditer(line):
        cells[-1] += line[end : match.start()] + (match[2] or "")
        if match[1]:
            cells.append("")
        end = match.end()
    cells[-1] += line[end:]
    return cells


def sentence_key(language: str, sentence: str) -> str | None:
    """The meaning of recordings of one sentence, in a corpus without sentence ids; None if the sentence is unknown.

    >>> sentence_key("fr", "Bonjour."), sentence_key("fr", "bonjour."), sentence_key("fr", "")
    ('fr:80fa40a352ddb746', 'fr:ae66531256f11411', None)
    """
    if not sentence.strip():
        return None
    return f"{language}:{hashlib.blake2b(sentence.encode(), digest_size=8).hexdigest()}"


def parallel_lines(*paths: Path) -> Iterator[tuple[str, ...]]:
    """Stripped lines of parallel texts; trailing empty lines don't count. CorpusError if their numbers differ."""
    texts = [(line.strip() for _, line in read_lines(path)) for path in paths]
    number = 0
    while True:
        lines = [next(text, None) for text in texts]
        held = [line for line in lines if line is not None]
        number += 1
        if len(held) == len(lines):
            yield tuple(held)
            continue
        for text, line in zip(texts, lines, strict=True):
            if line or any(text):
                short = next(p.name for p, other in zip(paths, lines, strict=True) if other is None)
                raise CorpusError(
                    f"{paths[0].parent}: {short} ends before line {number} of the others; unpack it again"
                )
        return


def seconds(value: Any, where: str) -> float:
    """Seconds, from a number or text; ManifestError for a negative or non-finite one."""
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not 0 <= found < math.inf:
        raise ManifestError(f"{where} is {value!r:.40}; write seconds, such as 1.5")
    return found


# --- tables out of spreadsheets and editors --------------------------------------------------------------


def is_json(path: Path) -> bool:
    """Whether a file is named as JSON lines (``.jsonl``, ``.json``, gzipped or not)."""
    return path.name.removesuffix(".gz").endswith((".jsonl", ".json", ".ndjson"))


def read_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield (line number, row) of a table with a header, or of JSON lines; ManifestError names an unusable line.

    The header decides the delimiter: a tab, else the commonest of comma, semicolon and bar, else two or more spaces.
    With tabs and spaces a line is a row and quotes are letters; otherwise quotes are CSV's, and a quoted cell may hold
    line ends. A row that ends early has empty last cells.
    """
    if is_json(path):
        yield from read_json_rows(path)
        return
    lines = read_lines(path)
    number, header = next(((n, line) for n, line in lines if line.strip()), (0, ""))
    if not number:
        raise ManifestError(
            f"{path}: the file is empty; its first line must name the columns, such as audio,language,text"
        )
    if "\r" in header:
        raise ManifestError(f"{path}: lines end with carriage returns alone; save it with the line ends of today")
    delimiter = _delimiter(header)
    is_csv = delimiter in (",", ";", "|")
    if is_csv:
        try:
            cells = next(csv.reader([header], delimiter=delimiter, strict=True))
        except csv.Error as e:
            raise ManifestError(f"{path}:{number}: the header can't be read ({e}); check its quotes") from e
    else:
        cells = _split(header, delimiter)
    names = _names(path, number, cells)
    rest = (
        _quoted(path, number, lines, delimiter)
        if is_csv
        else ((n, _split(line, delimiter)) for n, line in lines if line.strip())
    )
    for number, cells in rest:
        if len(cells) > len(names):
            raise ManifestError(
                f"{path}:{number}: {len(cells)} cells, but the header names {len(names)} columns; "
                + ("quote cells that hold the delimiter" if is_csv else "take the extra tab out")
            )
        yield number, dict(zip(names, cells + [""] * (len(names) - len(cells)), strict=True))


def read_json_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield (line number, object) of JSON lines; ManifestError names a wrong line."""
    for number, line in read_lines(path):
        if not line.strip():
            continue
        try:
            row = decode_json(line)
        except msgspec.DecodeError as e:
            fix = "; write one object a line, without line breaks in it" if "truncated" in str(e) else ""
            if number_word := _NO_JSON.search(line):
                fix = f"; JSON has no {number_word[1]}: write null, or leave the key out"
            raise ManifestError(f"{path}:{number}: no JSON ({e}){fix}") from e
        if not isinstance(row, dict):
            kind = "a list; write one object a line, not a list of them" if isinstance(row, list) else "no JSON object"
            raise ManifestError(f"{path}:{number}: {kind}")
        yield number, row


def _delimiter(header: str) -> str:
    if "\t" in header:
        return "\t"
    commonest = max(",;|", key=header.count)
    if commonest in header:
        return commonest
    return "  " if "  " in header.strip() else ","


def _split(line: str, delimiter: str) -> list[str]:
    return line.split("\t") if delimiter == "\t" else _SPACES.split(line.strip())


def _names(path: Path, number: int, cells: list[str]) -> list[str]:
    """A second ``audio`` becomes ``audio_2``, as in a pair of recordings."""
    names: list[str] = []
    for cell in cells:
        name = cell.strip()
        count = sum(n == name or (n.startswith(f"{name}_") and n[len(name) + 1 :].isdigit()) for n in names)
        if count and name.lower() not in ("audio", "language", "text", "speaker"):
            raise ManifestError(f"{path}:{number}: two columns are called {name!r}; rename one")
        names.append(f"{name}_{count + 1}" if count else name)
    return names


def _quoted(path: Path, last: int, lines: Iterator[tuple[int, str]], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """CSV rows, numbered by their first lines; ``last`` is the number of the last line read before."""

    def fed() -> Iterator[str]:
        nonlocal last
        for number, line in lines:
            last = number
            yield line + "\n"

    reader = csv.reader(fed(), delimiter=delimiter, strict=True)
    while True:
        before, taken = last, reader.line_num
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as e:
            raise ManifestError(
                f'{path}:{before + 1}: quotes don\'t add up ({e}); write "" for a quote inside a quoted cell'
            ) from e
        if any(cell.strip() for cell in cells):
            yield last - (reader.line_num - taken) + 1, cells
