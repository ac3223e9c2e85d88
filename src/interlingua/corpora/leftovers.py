"""Rows that a reader couldn't use: counted by reason, with the first of them by name."""

from collections.abc import Callable

_NAMED = 10  # of each reason


class LeftOut:
    """Counts what is left out of one part of a corpus, and says so in a line a reason.

    Args:
        part: of what, e.g. ``fleurs fr_fr test``.
    """

    def __init__(self, part: str) -> None:
        self.part = part
        self.counts: dict[str, int] = {}
        self._names: dict[str, list[str]] = {}

    def add(self, reason: str, name: str) -> None:
        """Count one row that was left out."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        names = self._names.setdefault(reason, [])
        if len(names) < _NAMED:
            names.append(name)

    def report(self, log: Callable[[str], None]) -> None:
        """Say how many there were of each reason, and the names of the first ten."""
        for reason, count in self.counts.items():
            names = self._names[reason]
            more = f" and {count - len(names)} more" if count > len(names) else ""
            log(f"{self.part}: left out {count} ({reason}): {', '.join(names)}{more}")
