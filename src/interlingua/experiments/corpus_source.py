"""The corpus of a recipe: from its publishers' files to a manifest in the recipe's folder."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
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
    """The corpus of a recipe.

    Attributes:
        name: corpus of `interlingua corpus list`, or ``manifest``, whose path is ``root``.
        root: folder of the corpus's files; None where it downloads itself.
        languages: languages to read, in the corpus's codes or Whisper's; none: all.
        split: split to read; None: all. A manifest without splits is read whole.
        positives: rule for same meanings, see `interlingua corpus prepare`.
        max_utterances: at most so many of each language; not for a manifest.
        options: the corpus's own options.
    """

    name: str
    root: Path | None = None
    languages: tuple[str, ...] = ()
    split: str | None = None
    positives: Positives = "all"
    max_utterances: int | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
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
        """Read the corpus, and write its manifest to ``folder``; a manifest of one's own stays where it is.

        It is read anew every time, since skipped files may be there by now; ``log`` takes a line on what was skipped.

        Raises:
            CorpusError: no such corpus (the message says what to fetch), or no speech of a language in the split.
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
        chosen = [u for u in found if self.split in (None, u.split)]
        if not chosen:
            there = ", ".join(sorted({str(u.split) for u in found}))
            raise CorpusError(f"{self.root}: no utterance in split {self.split!r}; it has {there}")
        return chosen

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
        return self.name == "manifest" or bool(get_corpus(self.name).splits)

    @property
    def title(self) -> str:
        """The corpus's name, or the manifest's path."""
        return str(self.root) if self.name == "manifest" else self.name

    def settings(self, folder: Path) -> dict[str, Any]:
        """The corpus's part of a result folder's settings."""
        return {
            "corpus": self.title,
            "languages": list(self.languages),
            "split": self.split,
            "several recordings of a sentence": self.summary(folder).get("several_recordings", {}).get("rule"),
        }

    def summary(self, folder: Path) -> dict[str, Any]:
        """Counts and rule of the manifest in a folder; empty for a manifest of one's own."""
        path = self._manifest(folder).with_suffix(".json")
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}

    def _manifest(self, folder: Path) -> Path:
        stated = msgspec.json.encode(asdict(self), enc_hook=str)
        return folder / f"{self.name}-{hashlib.sha256(stated).hexdigest()[:10]}.jsonl"
