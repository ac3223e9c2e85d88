"""Typed settings of the experiments; importing them loads nothing heavy, so the command line stays quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Method = Literal["seqsim", "mean-pool", "duration"]


@dataclass(frozen=True)
class DemoConfig:
    """Settings of the demo.

    Attributes:
        out: the result folder; frames are kept in it, so that a second run is quick.
        model: model spec.
        languages: languages to compare, of en, es, fr, it, ru.
        pool: encoder frames averaged into one for retrieval (1 = none).
        min_words: least number of words of a prompt's English transcript.
        include_non_speech: also count the silences and beeps (to compare with figures that did).
        translate: prompts a language to translate, 0 = none; None (--full) = all that fit the 30 s window.
        random_languages: languages of the random-weights control; None (--full) = all.
    """

    out: Path = Path("runs/demo")
    model: str = "base"
    languages: tuple[str, ...] = ("en", "es", "fr", "it", "ru")
    pool: int = 2
    min_words: int = 4
    include_non_speech: bool = False
    translate: int | None = 32
    random_languages: tuple[str, ...] | None = ("en", "fr", "it")


FULL_OUT = Path("runs/demo-full")
"""Where `interlingua demo --full` puts its results by default."""
