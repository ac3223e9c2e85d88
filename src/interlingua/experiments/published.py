"""Figures of others, from a file of the user's: the paper's own tables couldn't be read when this was written."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

from interlingua.errors import UsageError

PARTS = frozenset({"retrieval", "transfer", "unseen"})
UNKNOWN = "not known here"
"""Stands in the column of published figures where the file has none; nothing is filled in from memory."""


def read_published(
    path: Path | None, part: str, keys: Sequence[str], measures: Sequence[str], example: str
) -> dict[tuple[str, ...], float]:
    """Rows of one part of a file ``{part: [{key: text, …, measure: number, …}]}``.

    Args:
        path: the file; None: nothing is known.
        part: which.
        keys: what every row has.
        measures: of which a row has one or more.
        example: of the file, for the message.

    Returns:
        (key, …, name of the measure) -> the figure; empty where the file lacks the part.

    Raises:
        UsageError: the file can't be read, or isn't of that form.
    """
    if path is None:
        return {}
    found: dict[tuple[str, ...], float] = {}
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        if not set(held) & PARTS:
            raise KeyError(part)
        for row in held.get(part, []):
            given = [name for name in measures if name in row]
            if not given:
                raise KeyError(" or ".join(measures))
            for name in given:
                figure = float(row[name])
                if not math.isfinite(figure) or not all(isinstance(row[key], str) for key in keys):
                    raise ValueError(f"{row}: {', '.join(keys)} are texts, and {name} a number")
                found[(*(row[key] for key in keys), name)] = figure
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: no published figures ({error}); write {example}") from error
    return found
