"""Run-time checks of types and shapes; it imports nothing of ours, since our modules are checked as they load."""

from collections.abc import Callable
from typing import get_args, runtime_checkable

from beartype import BeartypeConf, beartype


def checked(function: Callable) -> Callable:
    """beartype, which refuses annotations with a protocol unless it can be asked at run time: so it can here."""
    for hint in getattr(function, "__annotations__", {}).values():
        for part in (hint, *get_args(hint)):
            if getattr(part, "_is_protocol", False):
                runtime_checkable(part)
    return beartype(conf=BeartypeConf(is_pep484_tower=True))(function)  # an int is a float, as PEP 484 has it
