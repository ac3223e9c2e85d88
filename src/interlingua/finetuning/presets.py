"""Methods of fine-tuning by name: what each is for, what it sets, what it costs, what it gained and lost.

Gains and losses are read from the studies' results in ``docs/data``; a test holds them equal.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DEFAULT_METHOD = "keep"
SOURCE, ALL = "source", "all"  # words in place of languages: those trained on; those of the data, see `heard_in`
MEASURED_LANGUAGES = ("en", "es", "fr", "it", "ru")  # whose prompts `keep` was measured with
STUDY_BATCHES = 17  # a pass over the studies' largest training part, 136 utterances in batches of 8
MOST_STEPS = 40_000  # one pass over CoVoST 2's 290,000 utterances in batches of 8 takes 36,250


@dataclass(frozen=True)
class Measured:
    """chrF of Whisper-base against before training, (value, low, high), pooled over languages.

    ``data``: file in docs/data; ``variant``: its row there; ``gained``: into the target from sources never trained on;
    ``english``: change of X into English.
    """

    target: str
    data: str
    variant: str
    gained: tuple[float, float, float]
    english: tuple[float, float, float]

    def __str__(self) -> str:
        gained, english = (_with_interval(figures) for figures in (self.gained, self.english))
        return f"{gained}; into English {english} ({self.data}.json, {self.variant})"


def _with_interval(figures: tuple[float, float, float]) -> str:
    value, low, high = (f"{figure:+.1f}" for figure in figures)
    return f"{value} [{low}, {high}]"


@dataclass(frozen=True)
class Preset:
    """One method; ``settings``: fields of `FinetuneConfig` that it sets; ``steps``: see `planned_steps`."""

    purpose: str
    cost: str
    steps: int
    settings: Mapping[str, Any]
    measured: tuple[Measured, ...] = ()

    def into(self, target: str) -> str:
        """What it gained and lost into a target."""
        return next((str(m) for m in self.measured if m.target == target), "not measured")


_DEFAULT = "finetune-default"  # folds after the one that the settings were chosen on
_FULL = "transfer-prompts-full"  # one fold, one seed
_CROSSED = {"rehearse": (SOURCE,), "rehearse_as": (ALL,)}

PRESETS: dict[str, Preset] = {
    "keep": Preset(
        "learn the target and keep the old tasks: the default",
        "twice plain's steps, as many old examples in each, read by both decoders; rehearsal decoded",
        10 * STUDY_BATCHES,
        {
            "learning_rate": 2e-4,
            "distillation": 1.0,
            **_CROSSED,
            "interpolate": 0.7,
            "interpolate_cross_attention": 1.0,
        },
        (
            Measured("zh", _DEFAULT, "keep without fold 0", (6.3, 4.6, 8.6), (-0.5, -1.9, 1.1)),
            Measured("es", _DEFAULT, "keep without fold 0", (6.1, 4.6, 8.1), (0.2, -0.9, 1.8)),
            Measured("ru", _DEFAULT, "keep without fold 0", (7.5, 5.6, 10.9), (-0.6, -2.2, 1.0)),
        ),
    ),
    "plain": Preset(
        "the target alone; the baseline that the others are compared with",
        "nothing more",
        5 * STUDY_BATCHES,
        {"learning_rate": 2e-4},
        (
            Measured("zh", _DEFAULT, "plain without fold 0", (6.5, 4.6, 9.7), (-14.2, -18.9, -9.9)),
            Measured("es", _DEFAULT, "plain without fold 0", (6.2, 4.6, 8.2), (-7.1, -10.0, -4.3)),
            Measured("ru", _DEFAULT, "plain without fold 0", (8.9, 6.8, 13.1), (-7.6, -10.4, -4.9)),
        ),
    ),
    "replay": Preset(
        "rehearse the old outputs at half the rate",
        "half as many old examples in each step; rehearsal decoded",
        5 * STUDY_BATCHES,
        {"learning_rate": 1e-4, "replay": 0.3, "rehearsed": 0.5, **_CROSSED},
        (
            Measured("zh", _FULL, "replay-crossed-slow", (4.3, 2.7, 5.9), (0.7, -0.7, 2.2)),
            Measured("es", _FULL, "replay-crossed-slow", (4.5, 2.2, 6.6), (0.4, -0.8, 1.9)),
        ),
    ),
    "lora": Preset(
        "a small file of adapters; changes less",
        "nothing more",
        5 * STUDY_BATCHES,
        {"trainable": "lora", "learning_rate": 1e-3},
        (
            Measured("zh", _FULL, "lora", (5.1, 3.6, 6.7), (-1.1, -3.2, 0.8)),
            Measured("es", _FULL, "lora", (1.6, -0.6, 3.7), (-2.2, -4.2, -0.2)),
        ),
    ),
    "frozen-layers": Preset(
        "the upper half of the decoder alone",
        "nothing more",
        5 * STUDY_BATCHES,
        {"learning_rate": 2e-4, "frozen_layers": "half"},
        (
            Measured("zh", _FULL, "frozen-layers", (5.3, 3.6, 7.1), (-1.5, -3.5, 0.5)),
            Measured("es", _FULL, "frozen-layers", (5.0, 2.2, 8.3), (-5.4, -6.9, -3.8)),
        ),
    ),
}
"""Steps of the studies: 5 or 10 passes over at most 136 utterances in batches of 8; warm-up over a tenth."""


def planned_steps(method: str, batches: int) -> int:
    """Optimizer steps of a preset on data of so many batches a pass: its own, or one pass over more, of 40,000 at most.

    As many steps on less data: on 16 to 125 utterances the study took equally many (docs/data/transfer-amount.json).
    """
    return max(PRESETS[method].steps, min(batches, MOST_STEPS))


def heard_in(spoken: tuple[str, ...], known: frozenset[str]) -> tuple[str, ...]:
    """Languages that `ALL` stands for: those ``spoken`` in the data, filled up to five from the measured ones."""
    more = [s for s in MEASURED_LANGUAGES if s in known and s not in spoken]
    return tuple(sorted([*spoken, *more[: max(0, len(MEASURED_LANGUAGES) - len(spoken))]]))
