"""The corpus of a recipe: from its publishers' files to a manifest in the recipe's folder."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from interlingua.corpora import read_manifest
from interlingua.corpora.base import get_corpus, read_corpus
from interlingua.corpora.prepare import Positives, prepare_manifest
from interlingua.errors import CorpusError, UsageError
from interlingua.files import write_text
from interlingua.languages import normalise_languages
from interlingua.types import Utterance


@dataclass(frozen=True, kw_only=True)
class CorpusSource:
    """What a recipe reads.

    Attributes:
        name: of the corpus (`interlingua corpus list`), or ``manifest``: then ``root`` is a manifest.
        root: its folder; None where it fetches itself.
        languages: to read, in the corpus's codes or Whisper's; none: all.
        split: to read; None: all. A manifest without splits is read whole.
        positives: see `interlingua corpus prepare`.
        max_utterances: at most so many of each language (a manifest of one's own is cut by its owner).
        options: of the corpus's own.
    """

    name: str
    root: Path | None = None
    languages: tuple[str, ...] = ()
    split: str | None = None
    positives: Positives = "all"
    max_utterances: int | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check what can be checked before the work.

        Raises:
            UsageError: no such corpus, an option that it hasn't, or a manifest that isn't named or is to be cut.
        """
        if self.name == "manifest":
            if self.root is None:
                raise UsageError("corpus manifest: root is missing; it is the manifest's path")
            if self.max_utterances is not None or self.positives != "all" or self.options:
                raise UsageError("corpus manifest: max_utterances, positives and options are for other corpora")
            return
        known = get_corpus(self.name).options
        for name in self.options:
            if name not in known:
                raise UsageError(f"corpus {self.name}: no option {name!r}; it has {', '.join(known) or 'none'}")

    def utterances(self, folder: Path, log: Callable[[str], None] = lambda line: None) -> list[Utterance]:
        """Read the corpus, and leave its manifest in a folder; a manifest of one's own stays where it is.

        It is read anew every time: what was skipped for want of a file may be there by now.

        Args:
            folder: of the recipe's results.
            log: takes a line on whatever was skipped.

        Raises:
            CorpusError: the corpus isn't there, and the message says what to fetch; or it has no speech of one of the
                languages in the split.
        """
        found = self._of_manifest(log) if self.name == "manifest" else self._prepared(folder, log)
        lacking = [lang for lang in normalise_languages(self.languages) if lang not in {u.language for u in found}]
        if lacking:
            where = f" in split {self.split!r}" if self.split else ""
            raise CorpusError(
                f"{self.title}: no utterance of {', '.join(lacking)}{where}; name other languages, or another split"
            )
        return found

    def _of_manifest(self, log: Callable[[str], None]) -> list[Utterance]:
        found = read_manifest(self.root or "", self.languages or None, log=log)
        if self.split and all(u.split is None for u in found):
            log(f"{self.root}: it has no splits; all of it is taken as {self.split}")
            return found
        mine = [u for u in found if self.split in (None, u.split)]
        if not mine:
            there = ", ".join(sorted({str(u.split) for u in found}))
            raise CorpusError(f"{self.root}: no utterance in split {self.split!r}; it has {there}")
        return mine

    def _prepared(self, folder: Path, log: Callable[[str], None]) -> list[Utterance]:
        path = self._manifest(folder)
        done = prepare_manifest(
            lambda line: read_corpus(
                self.name,
                self.root,
                languages=self.languages or None,
                split=self.split,
                log=line,
                **self.options,
            ),
            path,
            positives=self.positives,
            max_utterances=self.max_utterances,
            log=log,
        )
        write_text(path.with_suffix(".json"), json.dumps(done.as_dict(), ensure_ascii=False, indent=1) + "\n")
        return read_manifest(path)

    @property
    def has_splits(self) -> bool:
        """Whether it has splits."""
        return self.name == "manifest" or get_corpus(self.name).splits

    @property
    def title(self) -> str:
        """The corpus's name, or the manifest's path."""
        return str(self.root) if self.name == "manifest" else self.name

    def settings(self, folder: Path) -> dict[str, Any]:
        """What a result folder's report says of its corpus."""
        return {
            "corpus": self.title,
            "languages": list(self.languages),
            "split": self.split,
            "several recordings of a sentence": self.summary(folder).get("several_recordings", {}).get("rule"),
        }

    def summary(self, folder: Path) -> dict[str, Any]:
        """What the manifest in a folder holds, and by which rule; empty for a manifest of the user's own."""
        path = self._manifest(folder).with_suffix(".json")
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}

    def _manifest(self, folder: Path) -> Path:
        """Where the manifest of these settings lies."""
        stated = msgspec.json.encode({k: str(v) if isinstance(v, Path) else v for k, v in vars(self).items()})
        return folder / f"{self.name}-{hashlib.sha256(stated).hexdigest()[:10]}.jsonl"
