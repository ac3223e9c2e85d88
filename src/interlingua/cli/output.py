"""What the verbs print: notes to stderr, results to stdout."""

import json
import sys
from typing import Any


def note(line: str) -> None:
    """One line for the person at the terminal."""
    print(line, file=sys.stderr, flush=True)


def emit(data: dict[str, Any], *, lines: bool = False) -> None:
    """A result for a program, as one JSON object; ``lines``: in one line, one of many."""
    print(json.dumps(data, ensure_ascii=False, indent=None if lines else 1), flush=lines)
