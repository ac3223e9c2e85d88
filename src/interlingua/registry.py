"""Registries: what can be added from outside the package, by name, without changing a file of ours."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar, cast

from interlingua.errors import UsageError

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Named things of one kind: ours, those of installed packages, and any that an import path names.

    An installed package adds one by an entry point in the group ``interlingua.<group>``; ``module:attribute`` names one
    without installing anything. Ours come first. Iteration gives names, and loads nothing.

    Args:
        kind: what one of them is called in messages, such as ``corpus``.
        group: of the entry points, such as ``corpora``.
        own: ours by name; a string ``module:attribute`` is imported when it is asked for.
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
        except Exception as e:  # whatever somebody else's module raises: SyntaxError, NameError, …
            raise UsageError(f"{self.kind} {name!r}: {found} can't be imported ({type(e).__name__}: {e})") from e

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        yield from (e.name for e in entry_points(group=self.group) if e.name not in self._own)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return name in self._own or any(name == other for other in self)
