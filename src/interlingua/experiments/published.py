"""Published figures, from a file of the user's: the paper's own tables couldn't be read when this was written."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from interlingua.errors import UsageError
from interlingua.languages import normalise_language
from interlingua.results import Published

UNKNOWN = "not known here"
"""In place of a figure that the file lacks; nothing is filled in from memory."""
PAPER_CHANCE = {"fleurs": 0.002}
"""Corpus -> R@1 of chance in Ma et al. (arXiv 2407.01130), section 4.2: the one figure known here."""

PARTS: dict[str, tuple[Mapping[str, str], Sequence[str], str]] = {
    "retrieval": (
        {"query": "source", "candidate": "target", "method": "method"},
        ("r1",),
        '{"retrieval": [{"query": "en", "candidate": "fr", "method": "seqsim", "r1": 0.5}]}',
    ),
    "transfer": (
        {"test": "test", "variant": "method", "source": "source", "target": "target"},
        ("bleu", "chrf", "comet"),
        '{"transfer": [{"test": "test", "variant": "plain", "source": "fr", "target": "es", "bleu": 12.3}]}',
    ),
    "unseen": (
        {"language": "source"},
        ("bleu", "chrf", "wer", "cer"),
        '{"unseen": [{"language": "kea", "bleu": 1.5, "chrf": 2.5, "wer": 3.5, "cer": 4.5}]}',
    ),
}
"""Part of a file -> its rows' keys and the fields of `Published` that they are, what a row may hold, an example."""

_LANGUAGES = frozenset({"source", "target"})
_RANGES = {"r1": (0.0, 1.0), "bleu": (0.0, 100.0), "chrf": (0.0, 100.0), "wer": (0.0, math.inf), "cer": (0.0, math.inf)}


def compared(path: Path | None, ours: Sequence[Published]) -> list[Published]:
    """Our figures with the published ones of a file, where it has them."""
    theirs = {part: read_published(path, part) for part in {row.task for row in ours}}
    return [msgspec.structs.replace(row, published=theirs[row.task].get(_key(row), row.published)) for row in ours]


def read_published(path: Path | None, part: str) -> dict[tuple[str, ...], float]:
    """Part of a file ``{part: [{key: text, …, measure: number, …}]}`` (see `PARTS`): (key values, measure) -> figure.

    Languages are in Whisper's codes. Empty without a file, or where it lacks the part.

    Raises:
        UsageError: the file can't be read, or isn't of that form; the row is named.
    """
    if path is None:
        return {}
    keys, measures, example = PARTS[part]
    found: dict[tuple[str, ...], float] = {}
    for number, row in enumerate(_rows(path, part, example), start=1):
        try:
            of_row = _figures(row, keys, measures)
            twice = found.keys() & of_row.keys()
            if twice:
                raise ValueError(f"a second figure of {', '.join(min(twice))}")
        except (ValueError, UsageError) as e:
            raise UsageError(f"{path}: {part}, row {number}: {e}; write {example}") from e
        found |= of_row
    return found


def _key(row: Published) -> tuple[str, ...]:
    return (*(getattr(row, name) for name in PARTS[row.task][0].values()), row.metric)


def _rows(path: Path, part: str, example: str) -> list[Any]:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise UsageError(f"{path}: no readable JSON file of published figures ({e}); write {example}") from e
    if not isinstance(held, dict) or not held or set(held) - set(PARTS):
        raise UsageError(f"{path}: published figures stand under {', '.join(PARTS)} and nothing else; write {example}")
    rows = held.get(part, [])
    if not isinstance(rows, list):
        raise UsageError(f"{path}: {part} is no list of rows; write {example}")
    return rows


def _figures(row: Any, keys: Mapping[str, str], measures: Sequence[str]) -> dict[tuple[str, ...], float]:
    """A row's figures; raises ValueError, or UsageError for a language."""
    if not isinstance(row, dict):
        raise ValueError(f"{row!r} is no row")
    for key in keys:
        if not isinstance(row.get(key), str):
            raise ValueError(f"{key} is missing, or no text")
    given = [name for name in measures if name in row]
    if not given:
        raise ValueError(f"no {' or '.join(measures)}")
    if unknown := sorted(set(row) - {*keys, *measures}):
        raise ValueError(f"{unknown[0]!r} is nothing that can be compared")
    for name in given:
        low, high = _RANGES.get(name, (-math.inf, math.inf))
        figure = row[name]
        if isinstance(figure, bool) or not isinstance(figure, int | float) or not math.isfinite(figure):
            raise ValueError(f"{name} is {figure!r}, and no number")
        if not low <= figure <= high:
            where = f"must lie in {low:g} to {high:g}" if high < math.inf else f"must not be below {low:g}"
            raise ValueError(f"{name} is {figure}, and {where}")
    named = [normalise_language(row[key]) if field in _LANGUAGES else row[key] for key, field in keys.items()]
    return {(*named, name): float(row[name]) for name in given}
