"""The retrieval methods: one table of names, labels and steps; importing it loads nothing heavy."""

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from interlingua.errors import UsageError
from interlingua.registry import Registry

SimilarityFormat = Literal["auto", "float32", "bfloat16", "int8"]
BuiltinScore = Literal["seqsim", "dtw", "mean-pool", "duration", "cascade"]


@dataclass(frozen=True)
class Method:
    """The steps of a retrieval method; the effect of each is measured in docs/seqsim.md.

    Attributes:
        label: name in tables.
        note: what it compares, in a few words.
        score: built in (``cascade`` compares English translations), or a function of N queries' and M candidates'
            frames, (T, D) each -> (N, M), higher for the more alike; a query's scores may not depend on other queries.
        frames: transform of each language's frames (`retrieval.features`); headed: whitened, then a trained head
            (`retrieval.head`).
        shrinkage: of whitening.
        weights: of frames in the means: equal, or higher for rare ones.
        position: weight of the relative position in the utterance.
        reduction: how SeqSim combines both directions.
        hubness: correction of the scores (`retrieval.hubness`), over k = ``neighbours``.
        duration: points off per unit of difference in log duration from the language's mean.
    """

    label: str = ""
    note: str = ""
    score: BuiltinScore | Callable[..., Any] = "seqsim"
    frames: Literal["plain", "centred", "whitened", "headed"] = "plain"
    shrinkage: float = 0.1
    weights: Literal["equal", "rare"] = "equal"
    position: float = 0.0
    reduction: Literal["precision", "recall", "mean", "f1"] = "f1"
    hubness: Literal["none", "csls", "margin"] = "none"
    neighbours: int = 5
    duration: float = 0.0

    @property
    def estimates(self) -> bool:
        """Whether it estimates anything on unlabelled audio; then it is evaluated fold by fold."""
        steps = (self.frames != "plain", self.weights != "equal", self.hubness != "none", self.duration > 0)
        return any(steps)


DEFAULT_METHOD = "whitened-position-csls"  # the best that needs no labels (docs/seqsim.md)
PAPER_METHOD = "seqsim"
METHODS: Registry[Method] = Registry(
    "method",
    "methods",
    {
        "whitened-csls": Method(
            "SeqSim, whitened + CSLS",
            "frames whitened in each language, hubs demoted",
            frames="whitened",
            hubness="csls",
        ),
        "seqsim": Method("SeqSim", "the paper's: every encoder frame with its best match, both ways"),
        "seqsim-precision": Method(
            "SeqSim precision", "the query's frames alone look for a match", reduction="precision"
        ),
        "seqsim-recall": Method("SeqSim recall", "the candidate's frames alone look for a match", reduction="recall"),
        "seqsim-mean": Method("SeqSim mean", "mean of both directions in place of F1", reduction="mean"),
        "dtw": Method("DTW", "dynamic time warping: frames matched in order", score="dtw"),
        "centred": Method(  # F1 misbehaves where P + R is near zero
            "SeqSim, centred", "less each language's mean frame", frames="centred", reduction="mean"
        ),
        "whitened": Method(
            "SeqSim, whitened", "every direction of each language's frames has the same say", frames="whitened"
        ),
        "csls": Method("SeqSim + CSLS", "hubs demoted", hubness="csls"),
        "centred-csls": Method("SeqSim, centred + CSLS", "both", frames="centred", reduction="mean", hubness="csls"),
        "whitened-margin": Method(
            "SeqSim, whitened + margin", "ratio margin in place of CSLS", frames="whitened", hubness="margin"
        ),
        "whitened-rare-csls": Method(
            "SeqSim, whitened, rare frames + CSLS",
            "frames that match anything count less",
            frames="whitened",
            weights="rare",
            hubness="csls",
        ),
        "whitened-position-csls": Method(
            "SeqSim, whitened, position + CSLS",
            "frames at the same relative position attract",
            frames="whitened",
            position=0.1,
            hubness="csls",
        ),
        "whitened-duration-csls": Method(
            "SeqSim, whitened, duration + CSLS",
            "unlike durations cost points",
            frames="whitened",
            duration=0.02,
            hubness="csls",
        ),
        "whitened-mean-pool": Method(
            "Mean-pooled cosine, whitened",
            "one averaged vector of whitened frames",
            score="mean-pool",
            frames="whitened",
        ),
        "head": Method(
            "Trained head",
            "whitened frames through a matrix that was trained on translations",
            frames="headed",
            position=0.1,
            hubness="csls",
        ),
        "cascade": Method("Cascade", "Whisper's English translations, compared by a sentence encoder", score="cascade"),
        "mean-pool": Method("Mean-pooled cosine", "one averaged encoder vector an utterance", score="mean-pool"),
        "duration": Method("Duration alone", "control: nothing but the length", score="duration"),
    },
)
OTHER_FRAMES = {  # `method:frames` -> the control that compares these frames
    "seqsim:log-mel": Method("SeqSim on log-mel frames", "control: the sound before the encoder"),
    "seqsim:random-weights": Method("SeqSim, random weights", "control: the same encoder, untrained, one seed"),
}
CONTROLS = ("duration", *OTHER_FRAMES)


def get_method(name: str) -> Method:
    """A method by name or by ``module:attribute``; raises UsageError if there is none, or it is something else."""
    found = METHODS[name]
    if not isinstance(found, Method):
        raise UsageError(f"method {name!r} is no interlingua.retrieval.methods.Method")
    return found


def describe_method(name: str) -> Method:
    """Label and note of a method that results name; an unknown one is called by its name.

    A name in a results file imports nothing: ``module:attribute`` counts where the module is loaded.
    """
    found = OTHER_FRAMES.get(name, Method())
    module, colon, frames = name.partition(":")
    if not found.label and (not colon or module in sys.modules or module in METHODS):
        with contextlib.suppress(UsageError):
            found = get_method(module if module in METHODS else name)
            found = replace(found, label=f"{found.label}, {frames}") if module in METHODS and colon else found
    return found if found.label else Method(name, found.note)


def method_label(name: str) -> str:
    """A method's label for tables."""
    return describe_method(name).label
