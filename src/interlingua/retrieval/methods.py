"""The retrieval methods by name: what each does to frames and scores; importing this loads nothing heavy."""

from dataclasses import dataclass
from typing import Literal, get_args

Method = Literal[
    "whitened-csls",
    "seqsim",
    "seqsim-precision",
    "seqsim-recall",
    "seqsim-mean",
    "mean-pool",
    "duration",
    "dtw",
    "centred",
    "whitened",
    "csls",
    "centred-csls",
    "whitened-margin",
    "whitened-rare-csls",
    "whitened-position-csls",
    "whitened-duration-csls",
    "whitened-mean-pool",
    "cascade",
]
SimilarityFormat = Literal["auto", "float32", "bfloat16", "int8"]
DEFAULT_METHOD: Method = "whitened-position-csls"  # the best that needs no labels (docs/seqsim.md)


@dataclass(frozen=True)
class Recipe:
    """What a retrieval method does, step by step; what each step is worth is measured in docs/seqsim.md.

    Attributes:
        score: what compares two utterances. ``cascade`` compares their English translations.
        frames: what is done to the frames of each language first (`similarity.transform`).
        shrinkage: of whitening.
        weights: how much a frame counts in the means: all alike, or rare ones more.
        position: weight of the relative place in the utterance.
        reduction: how SeqSim combines both directions.
        hubness: correction of the scores (`retrieval.hubness`).
        neighbours: k of that correction.
        duration: points off for each unit of difference in log duration, the languages' means apart.
    """

    score: Literal["seqsim", "dtw", "mean-pool", "duration", "cascade"] = "seqsim"
    frames: Literal["plain", "centred", "whitened"] = "plain"
    shrinkage: float = 0.1
    weights: Literal["equal", "rare"] = "equal"
    position: float = 0.0
    reduction: Literal["precision", "recall", "mean", "f1"] = "f1"
    hubness: Literal["none", "csls", "margin"] = "none"
    neighbours: int = 5
    duration: float = 0.0

    @property
    def estimates(self) -> bool:
        """Whether it learns anything from unlabelled audio; then it is evaluated fold by fold."""
        steps = (self.frames != "plain", self.weights != "equal", self.hubness != "none", self.duration > 0)
        return any(steps)


RECIPES: dict[Method, Recipe] = {
    "whitened-csls": Recipe(frames="whitened", hubness="csls"),
    "seqsim": Recipe(),
    "seqsim-precision": Recipe(reduction="precision"),
    "seqsim-recall": Recipe(reduction="recall"),
    "seqsim-mean": Recipe(reduction="mean"),
    "mean-pool": Recipe(score="mean-pool"),
    "duration": Recipe(score="duration"),
    "dtw": Recipe(score="dtw"),
    "centred": Recipe(frames="centred", reduction="mean"),  # F1 misbehaves where P + R is near zero
    "whitened": Recipe(frames="whitened"),
    "csls": Recipe(hubness="csls"),
    "centred-csls": Recipe(frames="centred", reduction="mean", hubness="csls"),
    "whitened-margin": Recipe(frames="whitened", hubness="margin"),
    "whitened-rare-csls": Recipe(frames="whitened", weights="rare", hubness="csls"),
    "whitened-position-csls": Recipe(frames="whitened", position=0.1, hubness="csls"),
    "whitened-duration-csls": Recipe(frames="whitened", duration=0.02, hubness="csls"),
    "whitened-mean-pool": Recipe(score="mean-pool", frames="whitened"),
    "cascade": Recipe(score="cascade"),
}
METHODS: tuple[Method, ...] = get_args(Method)

PAPER_METHOD = "seqsim"
METHOD_LABELS: dict[str, tuple[str, str]] = {  # method -> (label, what it compares); the report's order
    "whitened-csls": ("SeqSim, whitened + CSLS", "frames whitened in each language, hubs demoted"),
    "seqsim": ("SeqSim", "the paper's: every encoder frame with its best match, both ways"),
    "seqsim-precision": ("SeqSim precision", "the query's frames alone look for a match"),
    "seqsim-recall": ("SeqSim recall", "the candidate's frames alone look for a match"),
    "seqsim-mean": ("SeqSim mean", "mean of both directions in place of F1"),
    "dtw": ("DTW", "dynamic time warping: frames matched in order"),
    "centred": ("SeqSim, centred", "less each language's mean frame"),
    "whitened": ("SeqSim, whitened", "every direction of each language's frames has the same say"),
    "csls": ("SeqSim + CSLS", "hubs demoted"),
    "centred-csls": ("SeqSim, centred + CSLS", "both"),
    "whitened-margin": ("SeqSim, whitened + margin", "ratio margin in place of CSLS"),
    "whitened-rare-csls": ("SeqSim, whitened, rare frames + CSLS", "frames that match anything count less"),
    "whitened-position-csls": ("SeqSim, whitened, place + CSLS", "frames at the same relative place attract"),
    "whitened-duration-csls": ("SeqSim, whitened, duration + CSLS", "unlike durations cost points"),
    "whitened-mean-pool": ("Mean-pooled cosine, whitened", "one averaged vector of whitened frames"),
    "cascade": ("Cascade", "Whisper's English translations, compared by a sentence encoder"),
    "mean-pool": ("Mean-pooled cosine", "one averaged encoder vector an utterance"),
    "duration": ("Duration alone", "control: nothing but the length"),
    "seqsim:log-mel": ("SeqSim on log-mel frames", "control: the sound before the encoder"),
    "seqsim:random-weights": ("SeqSim, random weights", "control: the same encoder, untrained, one seed"),
}
CONTROLS = ("duration", "seqsim:log-mel", "seqsim:random-weights")


def method_label(method: str) -> str:
    """A method's name for people."""
    return METHOD_LABELS.get(method, (method, ""))[0]
