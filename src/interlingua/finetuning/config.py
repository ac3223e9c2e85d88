"""Typed settings of a fine-tuning: recipe keys, flags and keyword arguments in one class."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional, TypeVar

import cyclopts

from interlingua.errors import UsageError
from interlingua.finetuning.presets import ALL, DEFAULT_METHOD, PRESETS, SOURCE
from interlingua.languages import PromptKind, normalise_language
from interlingua.registry import Registry

if TYPE_CHECKING:
    from interlingua.finetuning.regularizers import Regularizer

T = TypeVar("T")
if TYPE_CHECKING:
    ByMethod = Annotated[T, "its method's where it isn't given"]
else:
    ByMethod = Optional  # until __post_init__: cyclopts checks defaults, too, wherever pydantic is loaded
Trainable = Literal["decoder", "cross-attention", "lora", "target"]
FrozenLayers = int | Literal["half"]
OWN_REGULARIZERS = {"l2sp": "L2SP", "ewc": "EWC", "replay": "Replay", "distillation": "Distillation"}
"""Those with a setting of their own, in the loss's order, and their classes."""
REGULARIZERS: Registry[type["Regularizer"]] = Registry(
    "regularizer",
    "regularizers",
    {name: f"interlingua.finetuning.regularizers:{kind}" for name, kind in OWN_REGULARIZERS.items()},
)
"""By name: ours, entry points ``interlingua.regularizers``, or ``module:attribute``."""


_FLAGS_OF_LANGUAGES = {
    "target": "--target", "source": "--source", "spoken_as": "--as", "others": "--others", "rehearse": "--rehearse",
    "rehearse_as": "--rehearse-as",
}  # fmt: skip


def _strengths(_: Any, tokens: Sequence[Any]) -> dict[str, float]:
    found = {}
    for token in tokens:
        name, _, strength = token.value.rpartition("=")
        try:
            found[name or token.value] = float(strength)
        except ValueError as e:
            raise ValueError(f"{token.value!r}: write name=strength, such as l2sp=0.01") from e
    return found


Strengths = Annotated[dict[str, float], cyclopts.Parameter(converter=_strengths, accepts_keys=False, n_tokens=-1)]


def _by_method(otherwise: Any) -> Any:
    """A field that is its method's where it isn't given, or else ``otherwise``."""
    return field(default=None, metadata={"otherwise": otherwise})


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Settings of `interlingua finetune`.

    Attributes:
        data: utterances with references in the target: a manifest, a table of your own, or a corpus, NAME or
            NAME=FOLDER.
        target: language to translate into.
        method: preset that chooses the settings which aren't given: keep (learns the target, keeps the old tasks),
            plain, replay, lora, frozen-layers; docs/finetune.md has their figures.
        out: result folder: checkpoints, and the model in model/.
        store: stores of `interlingua encode`, one a context; tests use the first. Default: made in OUT or on the fly.
        context: context of the encoder states where no store is given: full or speech+N.
        source: languages of the speech to train on.
        spoken_as: language whose token names a source language that has none, in the model folder and in prompts that
            name the speech; default: chosen among its relatives, as `interlingua translate` does.
        model: model to fine-tune; it made the encoder states.
        train_split: split to train on, where the manifest has splits.
        dev_split: split that chooses the best checkpoint, where the manifest has it.
        strict: refuse data of which some can't be trained on; default: it is left out, and named.
        prompt: decoder prompt of the target.
        trainable: decoder (its layers), cross-attention, lora, or target (the target's token alone).
        embeddings: also train the token embeddings, which are the output layer, too.
        frozen_layers: number of lowest decoder layers that stay frozen, or half.
        train_encoder_layers: number of topmost encoder layers that are trained too; the states are those of the layer
            below, so that frames of the model before don't fit the model after.
        lora_rank: rank of the LoRA adapters.
        lora_alpha: scale of the adapters' update: alpha / rank.
        ewc: strength of elastic weight consolidation, 0 = none.
        fisher: OUT/fisher.safetensors of an earlier run, for EWC; default: estimated and kept.
        l2sp: strength of the L2 pull towards the starting point, 0 = none.
        replay: weight of rehearsing the model's own outputs before training, 0 = none.
        distillation: weight of keeping the output distribution on rehearsed examples, 0 = none.
        regularize: further regularizers, name=strength: entry points interlingua.regularizers, or module:attribute.
        others: further targets to measure before and after, such as those of an earlier fine-tuning.
        rehearse: languages whose unlabelled speech is rehearsed; source: those of --source. Without one: all.
        rehearse_as: languages whose tokens prompt every rehearsed utterance; all: those of the data, filled up to five.
            Without one: its source language.
        rehearsed: rehearsed examples for every new one in a batch.
        interpolate: interpolation weight alpha between the model before (0) and after training (1), WiSE-FT.
        interpolate_cross_attention: that of the cross-attention; where it isn't given, it is ``interpolate``'s.
        steps: optimizer steps; default: the method's, or one pass over more data.
        epochs: passes over the data, in place of steps.
        learning_rate: highest; it warms up over a tenth of the steps and falls linearly.
        batch_size: new examples of a batch.
        accumulation: batches whose gradients make one step.
        weight_decay: weight decay of AdamW.
        best: dev metric that chooses the checkpoint: the mean of its last three looks.
        patience: stop after so many looks at dev without a better one, 0 = never; there are ten, or one an epoch.
        compute: number format of the products; auto = bfloat16 where the device has it.
        seed: seed of the order of examples and of adapters.
        log: loggers besides the progress bar: tensorboard, wandb, …
    """

    data: str = field(kw_only=False)
    target: str
    out: Path
    method: str = DEFAULT_METHOD
    store: tuple[str, ...] = ()
    context: str = "speech+8"
    source: tuple[str, ...] = ("en",)
    spoken_as: Annotated[str | None, cyclopts.Parameter(name="--as")] = None
    model: str = "base"
    train_split: str = "train"
    dev_split: str = "dev"
    strict: bool = False
    prompt: PromptKind = "target-transcribe"
    trainable: ByMethod[Trainable] = _by_method("decoder")
    embeddings: bool = False
    frozen_layers: ByMethod[FrozenLayers] = _by_method(0)
    train_encoder_layers: int = 0
    lora_rank: int = 16
    lora_alpha: float = 32.0
    ewc: float = 0.0
    fisher: Path | None = None
    l2sp: float = 0.0
    replay: ByMethod[float] = _by_method(0.0)
    distillation: ByMethod[float] = _by_method(0.0)
    regularize: Strengths = field(default_factory=dict)
    others: tuple[str, ...] = ()
    rehearse: tuple[str, ...] | None = _by_method(None)
    rehearse_as: tuple[str, ...] | None = _by_method(None)
    rehearsed: ByMethod[float] = _by_method(1.0)
    interpolate: ByMethod[float] = _by_method(1.0)
    interpolate_cross_attention: float | None = _by_method(None)
    steps: int | None = None
    epochs: int | None = None
    learning_rate: ByMethod[float] = _by_method(2e-5)
    batch_size: int = 8
    accumulation: int = 1
    weight_decay: float = 0.0
    best: Literal["chrf", "bleu"] = "chrf"
    patience: int = 4
    compute: Literal["auto", "float32", "bfloat16"] = "auto"
    seed: int = 0
    log: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.method not in PRESETS:
            raise UsageError(f"--method {self.method}: no such method; use one of {', '.join(PRESETS)}")
        for f in fields(self):
            if getattr(self, f.name) is None and "otherwise" in f.metadata:
                chosen = PRESETS[self.method].settings.get(f.name, f.metadata["otherwise"])
                object.__setattr__(self, f.name, chosen)
        self._normalise_languages()
        if self.rehearse == (SOURCE,):
            object.__setattr__(self, "rehearse", self.source)
        if self.steps and self.epochs:
            raise UsageError(f"--steps {self.steps} and --epochs {self.epochs}: give one of them")
        for name in ("steps", "epochs", "batch_size", "accumulation", "lora_rank"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UsageError(f"--{name.replace('_', '-')} {getattr(self, name)}: use 1 or more")
        for name in (
            "ewc",
            "l2sp",
            "replay",
            "distillation",
            "interpolate",
            "interpolate_cross_attention",
            "patience",
            "weight_decay",
            "rehearsed",
            "train_encoder_layers",
        ):
            if (getattr(self, name) or 0) < 0:
                raise UsageError(f"--{name.replace('_', '-')} {getattr(self, name)}: use 0 or more")
        for name, strength in self.regularize.items():
            if not strength >= 0 or name in OWN_REGULARIZERS:
                way = f"use --{name}" if name in OWN_REGULARIZERS else "use 0 or more"
                raise UsageError(f"--regularize {name}={strength:g}: {way}")
        if self.rehearses and not round(self.rehearsed * self.batch_size):
            raise UsageError(f"--rehearsed {self.rehearsed}: rounds to no example in a batch of {self.batch_size}")
        if self.dev_split in (self.train_split, "test"):
            raise UsageError(f"--dev-split {self.dev_split}: the best epoch is chosen on it; name a split of its own")
        if not self.learning_rate > 0:
            raise UsageError(f"--learning-rate {self.learning_rate}: use more than 0")
        if self.trainable == "target" and self.weight_decay:
            raise UsageError("--trainable target moves one token; --weight-decay would move all: leave it out")
        if self.trainable == "target" and self.prompt == "source-translate":
            raise UsageError("--prompt source-translate names no target; --trainable target needs another --prompt")

    def _normalise_languages(self) -> None:
        for name, flag in _FLAGS_OF_LANGUAGES.items():
            given = getattr(self, name)
            codes = (given,) if isinstance(given, str) else given or ()
            try:
                found = tuple(c if c in (SOURCE, ALL) else normalise_language(c) for c in codes)
            except UsageError as e:
                raise UsageError(f"{flag}: {e}") from e
            if codes:
                object.__setattr__(self, name, found[0] if isinstance(given, str) else tuple(dict.fromkeys(found)))

    def plan(self) -> str:
        """The plan in one line."""
        kept = ", ".join(self.regularizers) or "nothing"
        return f"{self.method}: {self.trainable} on {', '.join(self.source)} into {self.target}, kept by {kept}"

    @property
    def regularizers(self) -> dict[str, float]:
        """Name -> strength of those used, in the order of the loss."""
        own = {name: float(getattr(self, name)) for name in OWN_REGULARIZERS}
        return {name: strength for name, strength in {**own, **self.regularize}.items() if strength}

    @property
    def rehearses(self) -> bool:
        """Whether batches hold old examples."""
        if self.replay > 0 or self.distillation > 0:
            return True
        if not self.regularize:
            return False
        return any(getattr(REGULARIZERS[name], "rehearses", False) for name in self.regularizers)
