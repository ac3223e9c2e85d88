"""Published figures, from a file of the user's: the paper's own tables couldn't be read when this was written."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from interlingua.errors import UsageError
from interlingua.files import decode_json
from interlingua.languages import normalise_language
from interlingua.results import Published

UNKNOWN = "not known here"
"""In place of a figure that the file lacks; nothing is filled in from memory."""
PAPER_CHANCE = {"fleurs": 0.002}
"""Corpus -> R@1 of chance in Ma et al. (arXiv 2407.01130), section 4.2: the one figure known here."""

Task = Literal["retrieval", "transfer", "unseen"]
Key = tuple[str, str, str, str, str]
"""Source, target, method, test and metric, as in `Published`."""
Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]
ErrorRate = Annotated[float, msgspec.Meta(ge=0)]
_EXAMPLE = '{"retrieval": [{"query": "en", "candidate": "fr", "method": "seqsim", "r1": 0.5}]}'
_WHERE = "published figures stand under retrieval, transfer, unseen and nothing else"


class _Row(msgspec.Struct, forbid_unknown_fields=True, rename={"source": "language"}):
    """A language without a token; the fields of `Published`, under the names of the file."""

    source: str
    bleu: Percent | None = None
    chrf: Percent | None = None
    wer: ErrorRate | None = None
    cer: ErrorRate | None = None


class _Pair(msgspec.Struct, forbid_unknown_fields=True, rename={"source": "query", "target": "candidate"}):
    source: str
    target: str
    method: str
    r1: Annotated[float, msgspec.Meta(ge=0, le=1)]


class _Direction(msgspec.Struct, forbid_unknown_fields=True, rename={"method": "variant"}):
    test: str
    method: str
    source: str
    target: str
    bleu: Percent | None = None
    chrf: Percent | None = None
    comet: float | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    retrieval: list[_Pair] = []
    transfer: list[_Direction] = []
    unseen: list[_Row] = []


def compared(path: Path | None, ours: Sequence[Published]) -> list[Published]:
    """Our figures with the published ones of a file, where it has them."""
    theirs = {part: read_published(path, part) for part in {row.task for row in ours}}
    keys = ((r.source, r.target, r.method if r.task != "unseen" else "", r.test, r.metric) for r in ours)
    return [
        msgspec.structs.replace(row, published=theirs[row.task].get(key, row.published))
        for row, key in zip(ours, keys, strict=True)
    ]


def read_published(path: Path | None, part: Task) -> dict[Key, float]:
    """Part of a file of published figures, languages in Whisper's codes; empty without a file, or without that part.

    Raises:
        UsageError: the file can't be read, or isn't of that form; the row is named.
    """
    if path is None:
        return {}
    try:
        file: _File = decode_json(path.read_bytes(), _File)
    except (OSError, msgspec.DecodeError) as e:
        raise UsageError(f"{path}: no readable JSON file of published figures ({e}); {_WHERE}; write {_EXAMPLE}") from e
    if not (file.retrieval or file.transfer or file.unseen):
        raise UsageError(f"{path}: {_WHERE}; write {_EXAMPLE}")
    rows: Sequence[_Row | _Pair | _Direction] = getattr(file, part)
    found: dict[Key, float] = {}
    for number, row in enumerate(rows):
        where = f"{path}: $.{part}[{number}]"
        held = msgspec.structs.asdict(row)
        figures = {name: held.pop(name) for name in ("r1", "bleu", "chrf", "comet", "wer", "cer") if name in held}
        if not any(figure is not None for figure in figures.values()):
            raise UsageError(f"{where}: no {' or '.join(figures)}")
        try:
            languages = [normalise_language(held[side]) if side in held else "" for side in ("source", "target")]
        except UsageError as e:
            raise UsageError(f"{where}: {e}") from e
        for metric, figure in figures.items():
            key = (languages[0], languages[1], held.get("method", ""), held.get("test", ""), metric)
            if key in found:
                raise UsageError(f"{where}: a second figure of {', '.join(part for part in key if part)}")
            if figure is not None:
                found[key] = figure
    return found
