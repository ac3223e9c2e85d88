"""Keep other libraries' chatter away from the user."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' notices and progress bars to itself for the length of the block."""
    from transformers.utils import logging as theirs

    verbosity, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(verbosity)
        if bars:
            theirs.enable_progress_bar()


def one_line(error: BaseException) -> str:
    """An error of another library as one short line: its class and its text."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
