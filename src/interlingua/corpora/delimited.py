"""People's own tables as rows: CSV, TSV, two or more spaces, or JSON lines; the header tells which.

Unlike a corpus's published tables (`interlingua.corpora.tables`) these come out of spreadsheets and editors: with a
byte order mark, Windows' line ends, quotes by the rules of CSV. An unusable line is an error: its author can mend it.
"""

import csv
import gzip
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from interlingua.errors import ManifestError

Row = Mapping[str, Any]

_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_SPACES = re.compile(r" {2,}|\t")


def is_json(path: Path) -> bool:
    """Whether a file's name says JSON lines (``.jsonl``, ``.json``, gzipped or not)."""
    return path.name.removesuffix(".gz").endswith((".jsonl", ".json", ".ndjson"))


def read_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield (line number, row) of a table or of JSON lines, in constant memory; see `read_table_rows`."""
    return read_json_rows(path) if is_json(path) else read_table_rows(path)


def read_table_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield (line number, row) of a table with a header.

    The header tells the delimiter: a tab, else the commonest of comma, semicolon and bar, else two or more spaces. With
    tabs and spaces a line is a row and quotes are letters; otherwise quotes are CSV's, and a quoted cell may hold line
    ends. Only an empty cell is a missing value: ``NA`` is a sentence. A row that ends early has empty last cells.

    Raises:
        ManifestError: the file or a line can't be read; line and mend are named.
    """
    lines = read_lines(path)
    number, header = next(((n, line) for n, line in lines if line.strip()), (0, ""))
    if not number:
        raise ManifestError(
            f"{path}: the file is empty; its first line must name the columns, such as audio,language,text"
        )
    if "\r" in header:
        raise ManifestError(f"{path}: lines end with carriage returns alone; save it with the line ends of today")
    delimiter = _delimiter(header)
    rest = (
        _quoted(path, number, lines, delimiter)
        if len(delimiter) == 1 and delimiter != "\t"
        else _plain(lines, delimiter)
    )
    names = _names(path, number, _split_header(path, number, header, delimiter))
    for number, cells in rest:
        if len(cells) > len(names):
            raise ManifestError(
                f"{path}:{number}: {len(cells)} cells, but the header names {len(names)} columns; "
                + ("quote cells that hold the delimiter" if delimiter in (",", ";", "|") else "take the extra tab out")
            )
        yield number, dict(zip(names, cells + [""] * (len(names) - len(cells)), strict=True))


def read_header(path: Path) -> list[str]:
    """The columns of a table.

    Raises:
        ManifestError: the file can't be read.
    """
    number, header = next(((n, line) for n, line in read_lines(path) if line.strip()), (0, ""))
    return _names(path, number, _split_header(path, number, header, _delimiter(header)))


def read_json_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield (line number, object) of JSON lines.

    Raises:
        ManifestError: the file can't be read, or a line is no JSON object.
    """
    for number, line in read_lines(path):
        if not line.strip():
            continue
        try:
            row = msgspec.json.decode(line)
        except msgspec.DecodeError as e:
            whole = "; write one object a line, without line breaks in it" if number == 1 else ""
            raise ManifestError(f"{path}:{number}: no JSON ({e}){whole}") from e
        if not isinstance(row, dict):
            kind = "a list; write one object a line, not a list of them" if isinstance(row, list) else "no JSON object"
            raise ManifestError(f"{path}:{number}: {kind}")
        yield number, row


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    r"""Yield (number, line) without its end; only \n and \r\n end a line. Gzip is known by its content.

    Raises:
        ManifestError: the file can't be read, isn't UTF-8, or is broken gzip.
    """
    try:
        with path.open("rb") as plain:
            zipped = plain.peek(2)[:2] == _GZIP  # not read and sought back: a pipe can't
            with gzip.open(plain) if zipped else plain as lines:
                for number, line in enumerate(lines, start=1):
                    if number == 1:
                        if line.startswith(_UTF16):
                            raise ManifestError(f"{path}: UTF-16; save it as UTF-8 (in spreadsheets: CSV UTF-8)")
                        line = line.removeprefix(_BOM)
                    yield number, line.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as e:
        raise ManifestError(f"{path}:{number}: not UTF-8 (byte {e.object[e.start]:#04x}); save it as UTF-8") from e
    except (OSError, EOFError, zlib.error) as e:
        reason = (e.strerror if isinstance(e, OSError) else None) or e
        raise ManifestError(f"{path}: can't be read ({reason}); check the path, or fetch it again") from e


def _delimiter(header: str) -> str:
    if "\t" in header:
        return "\t"
    commonest = max(",;|", key=header.count)
    if commonest in header:
        return commonest
    return "  " if "  " in header.strip() else ","


def _split_header(path: Path, number: int, header: str, delimiter: str) -> list[str]:
    if delimiter == "\t":
        return header.split("\t")
    if delimiter == "  ":
        return _SPACES.split(header.strip())
    try:
        return next(csv.reader([header], delimiter=delimiter, strict=True))
    except csv.Error as e:
        raise ManifestError(f"{path}:{number}: the header can't be read ({e}); check its quotes") from e


def _names(path: Path, number: int, cells: list[str]) -> list[str]:
    """Columns without spaces around them; a second ``audio`` is ``audio_2``, as a pair of recordings has it."""
    names: list[str] = []
    for cell in cells:
        name = cell.strip()
        count = sum(n == name or (n.startswith(f"{name}_") and n[len(name) + 1 :].isdigit()) for n in names)
        if count and name.lower() not in ("audio", "language", "text", "speaker"):
            raise ManifestError(f"{path}:{number}: two columns are called {name!r}; rename one")
        names.append(f"{name}_{count + 1}" if count else name)
    return names


def _plain(lines: Iterator[tuple[int, str]], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in lines:
        if line.strip():
            yield number, line.split("\t") if delimiter == "\t" else _SPACES.split(line.strip())


def _quoted(path: Path, last: int, lines: Iterator[tuple[int, str]], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Rows by the rules of CSV, numbered by their first lines; ``last`` is the line that was read before."""

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
