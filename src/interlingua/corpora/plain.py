"""People's own tables: CSV, TSV and JSON lines of recordings; `interlingua.corpora.rows` says which columns."""

from collections.abc import Callable, Iterator
from pathlib import Path

from interlingua.corpora.delimited import read_rows
from interlingua.corpora.leftovers import LeftOut
from interlingua.corpora.rows import Columns, Rows, in_folder
from interlingua.errors import ManifestError
from interlingua.types import Utterance

FETCH = "ROOT is the table itself: .csv, .tsv or .jsonl with the columns audio, language, text, translation_<language>"
PAIRS = "ROOT is the table itself: .csv, .tsv or .jsonl with audio,text,language or audio_<language>,audio_<language>"
LICENCE = "yours"


def read_plain(
    root: Path,
    *,
    languages: tuple[str, ...] | None = None,
    split: str | None = None,
    columns: Columns | None = None,
    language: tuple[str, ...] | None = None,
    target: str | None = None,
    keep_missing: bool = False,
    repeated: bool = False,
    log: Callable[[str], None] = lambda line: None,
) -> Iterator[Utterance]:
    """Utterances of a table, in its order and in constant memory but for the ids.

    Args:
        root: the table; audio paths are relative to its folder.
        languages: which to keep; None: all.
        split: which to keep; None: all.
        columns: our name of a column -> the table's, where they differ (``text=sentence``).
        language: what is spoken, where no column says it.
        target: the language of the column ``translation``.
        keep_missing: keep recordings whose file isn't there.
        repeated: let an id stand twice.
        log: receives a line on rows whose audio isn't there.

    Raises:
        ManifestError: the table or a line is wrong; file and line are named.
        UsageError: an option is wrong or missing.
    """
    left = LeftOut(root.name)
    rows = Rows(
        str(root),
        in_folder(root.parent, keep_missing),
        left,
        columns=columns,
        language=language,
        target=target,
        languages=languages,
        split=split,
        repeated=repeated,
    )
    empty = True
    for number, row in read_rows(root):
        empty = False
        yield from rows.utterances(row, f"{root}:{number}", f"{root.name}:{number}")
    left.report(log)
    if empty:
        raise ManifestError(f"{root}: no rows below the header; write one a recording")


def read_pairs(
    root: Path,
    *,
    languages: tuple[str, ...] | None = None,
    split: str | None = None,
    columns: Columns | None = None,
    language: tuple[str, ...] | None = None,
    target: str | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> Iterator[Utterance]:
    """Utterances of a table of pairs: a recording and a text, or two (or more) recordings of one meaning.

    ``audio,text,language`` makes one utterance a row; ``audio_en,audio_fr``, or ``audio,audio`` with
    ``language,language``, two that share a meaning, which is called after the line unless a
    column names it. Arguments and errors are `read_plain`'s; ``language`` takes one code for each recording of a row.
    """
    return read_plain(
        root, languages=languages, split=split, columns=columns, language=language, target=target, log=log
    )
