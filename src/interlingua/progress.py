"""Progress on stderr: a bar with ETA on a terminal, a line now and then elsewhere; stdout stays clean."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_SECONDS_BETWEEN_LINES = 20.0  # in logs, where no bar can be drawn


@contextmanager
def track(total: int, label: str) -> Iterator[Callable[[int], None]]:
    """Show progress towards ``total`` items; call the yielded function with the number just done."""
    if total == 0:
        yield lambda n: None
        return
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as progress:
            task = progress.add_task(label, total=total)
            yield lambda n: progress.advance(task, n)
        return
    yield _line_logger(console, total, label)


def _line_logger(console: Console, total: int, label: str) -> Callable[[int], None]:
    started = last = time.monotonic()
    done = 0

    def advance(n: int) -> None:
        nonlocal last, done
        done += n
        now = time.monotonic()
        if done >= total or now - last > _SECONDS_BETWEEN_LINES:
            last = now
            elapsed = now - started
            eta = elapsed / max(done, 1) * (total - done)
            console.print(f"{label}: {done}/{total}, {elapsed:.0f} s, ETA {eta:.0f} s", highlight=False)

    return advance
