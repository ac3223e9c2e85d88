"""Typed settings of the experiments; imports nothing heavy, to keep the command line quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from interlingua.errors import UsageError
from interlingua.languages import normalise_languages

Device = Literal["auto", "cpu", "cuda"]
Task = Literal["translate", "transcribe"]


@dataclass(frozen=True)
class DemoConfig:
    """Settings of the demo; the defaults of None depend on ``full``.

    Attributes:
        full: pool nothing, translate everything, and use every language in every control.
        out: the result folder; its frames make a second run quick. Default: runs/demo, or runs/demo-full with --full.
        model: model spec.
        languages: languages to compare, of en, es, fr, it, ru.
        pool: encoder frames averaged into one for retrieval, 1 = none. Default: 2, or 1 with --full.
        min_words: least number of words of a prompt's English transcript.
        include_non_speech: also count the silences and beeps (to compare with figures that did).
        translate: prompts to translate in each language, 0 = none. Default: 32, or all with --full.
        random_languages: languages of the random-weights control. Default: en fr it, or all with --full.
        device: device that encodes and scores.
    """

    full: bool = False
    out: Path | None = None
    model: str = "base"
    languages: tuple[str, ...] = ("en", "es", "fr", "it", "ru")
    pool: int | None = None
    min_words: int = 4
    include_non_speech: bool = False
    translate: int | Literal["all"] | None = None
    random_languages: tuple[str, ...] | None = None
    device: Device = "auto"

    def settled(self) -> "SettledDemo":
        """Fill in the defaults that depend on ``full``."""
        languages = normalise_languages(self.languages)
        if len(languages) < 2:
            raise UsageError("--languages: name two languages or more")
        pool = self.pool if self.pool is not None else 1 if self.full else 2
        if pool < 1:
            raise UsageError(f"--pool {pool}: use 1 (no pooling) or more")
        translate = self.translate if self.translate is not None else "all" if self.full else 32
        if translate != "all" and translate < 0:
            raise UsageError(f"--translate {translate}: use 0 (none) or more, or all")
        random = normalise_languages(self.random_languages or (languages if self.full else ("en", "fr", "it")))
        random = tuple(lang for lang in languages if lang in random)
        return SettledDemo(
            **{
                **vars(self),
                "out": self.out or Path("runs/demo-full" if self.full else "runs/demo"),
                "languages": languages,
                "pool": pool,
                "translate": translate,
                "random_languages": random if len(random) > 1 else languages,
            }
        )


@dataclass(frozen=True)
class SettledDemo(DemoConfig):
    """A `DemoConfig` without None."""

    out: Path = Path("runs/demo")
    pool: int = 2
    translate: int | Literal["all"] = 32
    random_languages: tuple[str, ...] = ()
