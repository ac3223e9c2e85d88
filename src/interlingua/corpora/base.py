"""Every corpus by name: its reader, what to fetch and where to put it, its licence.

To add one, write a reader and a `Corpus`; name it in `CORPORA`, in an entry point ``interlingua.corpora``, or as
``module:attribute`` on the command line::

    def read_toy(root: Path, *, languages=None, split=None, <option>: <type> = <default>, log: Log = silent): ...

    CORPUS = Corpus("toy", "toy data", read_toy, licence="CC0", fetch="fetch toy.zip from … into ROOT")

A reader yields utterances. Its own keywords become ``--option name=value``, typed by their annotations: bool, int,
float, str, a Literal, or tuple[str, ...] with commas; each may be None.
"""

import inspect
import os
import typing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from interlingua.errors import CorpusError, UsageError
from interlingua.registry import Registry
from interlingua.types import Utterance

Names = tuple[str, ...] | None
Log = Callable[[str], None]
"""Receives a line on what was skipped, and how many rows."""
Reader = Callable[..., Iterable[Utterance]]
"""(root, *, languages, split, log, options…).

Languages are in the corpus's codes or ours; None: all that are there, as for the split, which `Corpus.split` has
checked. Raises CorpusError for missing or broken files, ManifestError for a wrong line, UsageError for an unknown
language or option.
"""
Download = Callable[[Path, Names, str | None, Log], None]

CONTRACT = ("languages", "split", "log")
_NAMED = 10  # skipped rows named for each reason


def silent(line: str) -> None:
    """A log that drops its lines."""


@dataclass(frozen=True)
class Corpus:
    """One corpus.

    Attributes:
        fetch: what to fetch from where, and where to put it below ROOT.
        download: fetches the files below a folder (root, languages, split, log); None: only by hand.
        self_fetching: the reader fetches what it needs, and ROOT may be omitted.
        makes_root: an option with which the reader creates ROOT.
        splits: whether it has any; a tuple names all; None: only some of its tables do.
        units: names of its meanings and clusters.
    """

    name: str
    title: str
    read: Reader
    licence: str
    fetch: str
    download: Download | None = None
    self_fetching: bool = False
    makes_root: str | None = None
    synthetic: bool = False
    splits: bool | tuple[str, ...] | None = True
    units: tuple[str, str] = ("meanings", "clusters")

    @property
    def options(self) -> dict[str, Any]:
        """The reader's own options: name -> type."""
        hints = typing.get_type_hints(self.read)
        parameters = inspect.signature(self.read).parameters.values()
        return {
            p.name: hints.get(p.name, str) for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in CONTRACT
        }

    def parse_options(self, given: Iterable[str]) -> dict[str, Any]:
        """``name=value`` as the reader's keyword arguments; hyphens count as underscores. UsageError for others."""
        known = self.options
        parsed: dict[str, Any] = {}
        for text in given:
            name, sign, value = text.partition("=")
            key = name.strip().replace("-", "_")
            if not sign:
                raise UsageError(f"--option {text}: write it as NAME=VALUE")
            if key not in known:
                has = f"it has {', '.join(known)}" if known else "it has none"
                raise UsageError(f"--option {text}: the {self.name} corpus has no option {name!r}; {has}")
            parsed[key] = _typed(value.strip(), known[key], text)
        return parsed

    def split(self, requested: str | None) -> str | None:
        """Our name of a split; UsageError if the corpus hasn't got it."""
        if requested is None:
            return None
        name = split_name(requested)
        if self.splits is False:
            raise self.without_splits(requested)
        if isinstance(self.splits, tuple) and name not in self.splits:
            raise UsageError(f"--split {requested}: the {self.name} corpus has {', '.join(self.splits)}")
        return name

    def without_splits(self, requested: str) -> UsageError:
        """The error for a split of what has none."""
        return UsageError(f"--split {requested}: the {self.name} corpus has no splits; omit it, or make some (--fold)")

    def fetch_hint(self) -> str:
        """One line: what to fetch, where to put it, and the command to run then."""
        command = f"interlingua corpus prepare {self.name} --root ROOT"
        return f"{self.name}: {self.fetch}; then `{command} --out manifest.jsonl`"

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "title": self.title,
            "fetch": self.fetch,
            "downloads": self.download is not None or self.self_fetching,
            "synthetic": self.synthetic,
            "licence": self.licence,
            "options": {key: written(kind) for key, kind in self.options.items()},
        }


_OURS = {
    "prompts": "prompts", "udhr": "udhr", "fleurs": "fleurs", "covost": "covost", "common-voice": "common_voice",
    "mass": "mass", "mboshi": "mboshi", "europarl-st": "europarl_st", "mustc": "mustc",
    "voxpopuli-s2s": "voxpopuli_s2s", "speechmatrix": "speechmatrix", "gcompris": "voices",
    "huggingface": "huggingface", "lhotse": "lhotse", "nemo": "nemo",
}  # fmt: skip
CORPORA: Registry[Corpus] = Registry(
    "corpus",
    "corpora",
    {name: f"interlingua.corpora.{module}:CORPUS" for name, module in _OURS.items()}
    | {"asterisk": "interlingua.corpora.voices:OTHER_VOICES"}
    | {"plain": "interlingua.corpora.tables:PLAIN", "pairs": "interlingua.corpora.tables:PAIRS"},
)


def get_corpus(name: str) -> Corpus:
    """The corpus of a name or of an import path ``module:attribute``; UsageError if there is none."""
    found: object = CORPORA[name]
    if not isinstance(found, Corpus):
        raise UsageError(f"corpus {name!r} is a {type(found).__name__}; make it an interlingua.corpora.base.Corpus")
    return found


def read_corpus(
    name: str,
    root: Path | None = None,
    *,
    languages: Names = None,
    split: str | None = None,
    log: Log = silent,
    **options: Any,
) -> Iterator[Utterance]:
    """Utterances of any corpus; UsageError for a wrong name or missing root, CorpusError for an unreadable folder."""
    corpus = get_corpus(name)
    fetches = corpus.self_fetching or (corpus.makes_root is not None and options.get(corpus.makes_root) is not None)
    if root is None and not corpus.self_fetching:
        raise UsageError(f"--root is missing. {corpus.fetch_hint()}")
    if root is not None and not fetches and not root.exists():
        raise CorpusError(f"{root}: no such file or folder. {corpus.fetch_hint()}")
    if root is not None and root.is_dir():
        check_folder(root, listed=True)
    return iter(corpus.read(root, languages=languages, split=corpus.split(split), log=log, **options))


class Skipped:
    """Counts the skipped rows of one part of a corpus (``fleurs fr_fr test``), by reason."""

    def __init__(self, part: str, log: Log = silent) -> None:
        self._part, self._log = part, log
        self._counts: dict[str, int] = {}
        self._names: dict[str, list[str]] = {}

    def add(self, reason: str, name: str) -> None:
        """Count one row."""
        self._counts[reason] = self._counts.get(reason, 0) + 1
        names = self._names.setdefault(reason, [])
        if len(names) < _NAMED:
            names.append(name)

    def report(self) -> None:
        """Log one line for each reason: how many rows, and the names of the first ten."""
        for reason, count in self._counts.items():
            names = self._names[reason]
            more = f" and {count - len(names)} more" if count > len(names) else ""
            self._log(f"{self._part}: skipped {count} ({reason}): {', '.join(names)}{more}")


def split_name(name: str) -> str:
    """Our name of a split: ``validation`` is dev."""
    return "dev" if name in ("validation", "valid", "val") else name


def check_folder(folder: str | Path, *, listed: bool = False) -> None:
    """Raise CorpusError if a folder's files can't be reached or, with ``listed``, its names can't be read."""
    try:
        os.stat(f"{folder}/.")  # noqa: PTH116  # a Path drops the dot, which makes stat check the permission
        if listed:
            os.scandir(folder).close()
    except PermissionError as e:
        raise CorpusError(f"{folder}: this folder can't be looked into; check its permissions") from e


def written(kind: Any) -> str:
    """How an option of this type is written.

    >>> written(bool), written(tuple[str, ...] | None), written(Literal["raw", "normalised"])
    ('yes or no', 'words with commas between them', 'raw or normalised')
    """
    kinds = _alternatives(kind)
    if any(typing.get_origin(k) is tuple for k in kinds):
        return "words with commas between them"
    if typing.get_origin(kinds[0]) is Literal:
        return " or ".join(typing.get_args(kinds[0]))
    return {bool: "yes or no", int: "a whole number", float: "a number"}.get(kinds[0], "a word")


def _alternatives(kind: Any) -> list[Any]:
    arguments = typing.get_args(kind)
    return [a for a in arguments if a is not type(None)] if type(None) in arguments else [kind]


def _typed(value: str, kind: Any, text: str) -> Any:
    kinds = _alternatives(kind)
    is_list = any(typing.get_origin(k) is tuple for k in kinds)
    words = {"yes": "true", "no": "false"} if bool in kinds else {}
    given: Any = [v.strip() for v in value.split(",") if v.strip()] if is_list else words.get(value, value)
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as e:
        raise UsageError(f"--option {text}: write {written(kind)}") from e
