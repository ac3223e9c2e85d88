"""What the verbs print: notes to stderr, results to stdout."""

import json
import sys
from typing import Any


def note(line: str) -> None:
    """Print a line to stderr."""
    print(line, file=sys.stderr, flush=True)


def emit(data: dict[str, Any], *, lines: bool = False) -> None:
    """Print a result as one JSON object; ``lines``: on one line."""
    escaped = "utf" not in (sys.stdout.encoding or "").lower()
    print(json.dumps(data, ensure_ascii=escaped, indent=None if lines else 1), flush=lines)
