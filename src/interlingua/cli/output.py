"""What the verbs print: notes to stderr, results to stdout; no control characters of terminals from ids or texts."""

import json
import sys
from typing import Any

_CONTROLS = [c for c in (*range(32), *range(127, 160)) if chr(c) not in "\t\n"]
_WRITTEN = {c: f"\\x{c:02x}" for c in _CONTROLS}
_IN_JSON = {c: f"\\u{c:04x}" for c in _CONTROLS}


def say(*values: object, sep: str = " ", end: str = "\n", flush: bool = False) -> None:
    """Print to stdout."""
    print(sep.join(map(str, values)).translate(_WRITTEN), end=end, flush=flush)


def note(line: str) -> None:
    """Print a line to stderr."""
    print(line.translate(_WRITTEN), file=sys.stderr, flush=True)


def emit(data: dict[str, Any], *, lines: bool = False) -> None:
    """Print a result as one JSON object; ``lines``: on one line."""
    escaped = "utf" not in (sys.stdout.encoding or "").lower()
    text = json.dumps(data, ensure_ascii=escaped, indent=None if lines else 1)
    print(text.translate(_IN_JSON), flush=lines)
