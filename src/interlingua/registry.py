"""Registries: named components that other packages can add to."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar, cast

from interlingua.errors import UsageError

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Named components of one kind: ours first, then those of installed packages, then any import path.

    A package adds one by an entry point in the group ``interlingua.<group>``; ``module:attribute`` names one without
    installing anything. Iteration gives names, and loads nothing.

    Args:
        kind: singular noun for messages, such as ``corpus``.
        own: ours by name; a string ``module:attribute`` is imported at first use.
    """

    def __init__(self, kind: str, group: str, own: Mapping[str, T | str]) -> None:
        self.kind, self.group = kind, f"interlingua.{group}"
        self._own = dict(own)

    def __getitem__(self, name: str) -> T:
        """The entry of a name or an import path.

        Raises:
            UsageError: nothing has that name, or the import path leads nowhere.
        """
        found: Any = self._own.get(name)
        if found is None:
            found = next((e.value for e in entry_points(group=self.group, name=name)), name)
        if not isinstance(found, str):
            return cast(T, found)
        module, colon, attribute = found.partition(":")
        if not colon:
            raise UsageError(f"unknown {self.kind} {name!r}; use one of {', '.join(self)}, or module:attribute")
        try:
            return cast(T, getattr(import_module(module), attribute))
        except Exception as e:  # anything that a foreign module raises: SyntaxError, NameError, …
            raise UsageError(f"{self.kind} {name!r}: {found} can't be imported ({type(e).__name__}: {e})") from e

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        yield from (e.name for e in entry_points(group=self.group) if e.name not in self._own)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return name in self._own or any(name == other for other in self)
