"""The table of mined pairs: the columns that every kind of mining shares, and its files (tsv, Parquet, JSON)."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar, get_type_hints

import msgspec

from interlingua.errors import UsageError
from interlingua.files import atomic_file, decode_json

SUFFIXES = (".tsv", ".parquet", ".json")


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Two stretches of speech that mean the same; a kind of mining adds columns in a subclass.

    ``start`` and ``end`` are seconds in ``audio``; ``language`` is "" where unknown. ``margin`` is the score less that
    of the neighbours on both sides.
    """

    id_a: str
    audio_a: str
    start_a: float
    end_a: float
    language_a: str
    id_b: str
    audio_b: str
    start_b: float
    end_b: float
    language_b: str
    score: float
    margin: float


P = TypeVar("P", bound=msgspec.Struct)


def read_pairs(path: Path, row: type[P]) -> list[P]:
    """The pairs of the kind ``row`` in a file of `write_pairs`; raises UsageError for any other file."""
    try:
        if path.suffix.lower() == ".parquet":
            import pyarrow.parquet as pq

            rows = pq.read_table(path).to_pylist()
        elif path.suffix.lower() == ".json":
            rows = decode_json(path.read_bytes())["pairs"]
        else:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
            rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
        return msgspec.convert(rows, list[row], strict=False)  # type: ignore[valid-type]  # a type that is chosen at run time
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as e:
        raise UsageError(f"{path}: no table of mined pairs ({e}); `interlingua mine --out` writes one") from e


def check_suffix(path: Path, more: Sequence[str] = ()) -> None:
    """Raise UsageError unless the name ends as a table's, or in one of ``more``, or if it is a folder's."""
    if path.is_dir():
        raise UsageError(f"--out {path}: is a folder; name a file")
    if path.suffix.lower() not in (*SUFFIXES, *(suffix.lower() for suffix in more)):
        raise UsageError(f"--out {path}: name a file that ends in {', '.join((*SUFFIXES, *more))}")


def write_pairs(path: Path, pairs: Sequence[Pair], row: type[Pair] = Pair) -> None:
    """Write pairs of the kind ``row`` as the file's name says; raises UsageError for another suffix."""
    check_suffix(path)
    with atomic_file(path) as temporary:
        if path.suffix.lower() == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            types = {str: pa.string(), float: pa.float64(), int: pa.int64(), bool: pa.bool_()}
            hints = get_type_hints(row)
            schema = pa.schema([(name, types[hints[name]]) for name in row.__struct_fields__])
            pq.write_table(pa.Table.from_pylist([msgspec.structs.asdict(p) for p in pairs], schema), temporary)
        elif path.suffix.lower() == ".json":
            temporary.write_bytes(msgspec.json.format(msgspec.json.encode({"pairs": pairs}), indent=1) + b"\n")
        else:
            temporary.write_text(as_tsv(pairs, row), encoding="utf-8")


def as_tsv(pairs: Sequence[Pair], row: type[Pair] = Pair) -> str:
    """Tab-separated lines, the columns' names first; tabs and line breaks in a name become spaces."""
    lines = [row.__struct_fields__, *(msgspec.structs.astuple(p) for p in pairs)]
    return "".join("\t".join(" ".join(str(cell).split()) for cell in line) + "\n" for line in lines)
