"""The transfer study's settings: corpora, variants, and the trainings that they come to."""

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec

from interlingua.encoding import Context
from interlingua.errors import UsageError
from interlingua.experiments.corpus_source import CorpusSource
from interlingua.finetuning.config import FinetuneConfig
from interlingua.languages import normalise_languages

CONTEXT = "speech+8"  # of the states: docs/encoding.md
PLAIN, PERMUTED = "plain", "permuted"
TRAIN, DEV, TEST = "train", "dev", "test"
Number = Annotated[int, msgspec.Meta(ge=1)]


class _OfStudy(msgspec.Struct):
    """What a variant can have beside the settings of `FinetuneConfig`."""

    shares: tuple[Annotated[float, msgspec.Meta(ge=0)], ...] = (1.0,)
    utterances: Number | None = None
    rehearsal_utterances: Number | None = None


STUDY_KEYS = set(_OfStudy.__struct_fields__)
OWN_BUSINESS = {  # settings of `FinetuneConfig` that the study itself decides
    *("manifest", "store", "context", "out", "target", "model", "train_split", "dev_split", "seed"),
    *("fisher", "others", "interpolate", "log"),
}


@dataclass(frozen=True, kw_only=True)
class TransferStudy:
    """Settings of the study; the keys of its recipe.

    Attributes:
        out: the result folder.
        shared: folder of states, trainings and answers, which studies of one model and one corpus to train on can
            have together: answers that one has are not made again for another; default: ``out``.
        model: model spec.
        train: what is trained on (its split ``train``, unless it says another); None: the prompts corpus, split by
            near-duplicate cluster into train, dev and test.
        dev: what chooses the best epoch, prompt and share of a change (its split ``dev``); None: that of ``train``.
        tests: name -> what is measured on (its split ``test``, or all of a corpus without splits); each gets tables of
            its own.
        targets: languages to translate into.
        source: the language of the speech that is trained on.
        rotations: which fifths of the prompts corpus's clusters are test, one training each.
        seeds: of the order of examples.
        context: of the encoder states: ``speech+N``, or ``full`` as in the paper.
        settings: what all variants share, as in `FinetuneConfig`.
        variants: name -> settings of its own, or several of them among which dev chooses; ``plain`` has none.
            ``permuted``, if it is there, is the control whose texts are dealt out anew over the audio. Beside the
            settings of `FinetuneConfig`, ``shares`` lists the shares of the change among which dev chooses, too,
            ``utterances`` says how many to train on, and ``rehearsal_utterances`` how many to rehearse on at most.
        apart: name -> languages whose translation into English is pooled apart, such as those near the target
            (Ma et al., section 4.3: these lose most).
        comet_model: also score translations by COMET with this model; None: no.
        published: JSON with figures of others, ``{"transfer": [{"test", "variant", "source", "target", "bleu"}]}``,
            0 to 100; variant ``untrained`` is the model before training.
    """

    out: Path
    shared: Path | None = None
    model: str = "base"
    train: CorpusSource | None = None
    dev: CorpusSource | None = None
    tests: dict[str, CorpusSource] = field(default_factory=dict)
    targets: tuple[str, ...] = ("es",)
    source: str = "en"
    rotations: tuple[int, ...] = (0,)
    seeds: tuple[int, ...] = (0,)
    context: str = CONTEXT
    settings: dict[str, Any] = field(default_factory=dict)
    variants: dict[str, dict[str, Any] | list[dict[str, Any]]] = field(
        default_factory=lambda: {PLAIN: {}, PERMUTED: {}}
    )
    apart: dict[str, tuple[str, ...]] = field(default_factory=dict)
    comet_model: str | None = None
    published: Path | None = None

    def __post_init__(self) -> None:
        """Check what can be checked before the work.

        Raises:
            UsageError: ``plain`` is missing, a variant has a setting that there isn't, or corpora don't go together.
        """
        if PLAIN not in self.variants:
            raise UsageError(f"variants: {PLAIN!r} is missing; the others are compared with it")
        known = {f.name for f in dataclasses.fields(FinetuneConfig)} - OWN_BUSINESS | STUDY_KEYS
        given = [("settings", self.settings), *((v, own) for v in self.variants for own in self.alternatives(v))]
        for name, own in given:
            for key in own:
                if key not in known:
                    raise UsageError(f"{name}: no setting {key!r}; there are {', '.join(sorted(known))}")
            try:
                msgspec.convert({key: own[key] for key in STUDY_KEYS & own.keys()}, _OfStudy)
            except msgspec.ValidationError as e:
                raise UsageError(f"{name}: {e}") from e
        for name in self.variants:
            if not self.candidates(name):
                raise UsageError(f"{name}: nothing to choose from; give it settings, and at least one share")
            for training, _ in self.candidates(name):
                try:
                    training.config(self.targets[0], 0, Path())
                except (UsageError, msgspec.ValidationError) as e:
                    raise UsageError(f"{name}: {e}") from e
        self._check_corpora()

    def _check_corpora(self) -> None:
        Context.parse(self.context)
        if self.train is None and (self.tests or self.dev):
            raise UsageError("tests, dev: name what is trained on, too, `train: {name: covost, root: …}`")
        if self.train is not None and not self.tests:
            raise UsageError("tests: missing; name what is measured on, `tests: {fleurs: {name: fleurs, root: …}}`")
        if self.train is not None and self.rotations != (0,):
            raise UsageError("rotations: only the prompts corpus is rotated; `train` has splits of its own")
        for name in self.tests:
            if not re.fullmatch(r"[\w.-]+", name) or name in (TRAIN, DEV):
                raise UsageError(f"tests: {name!r} can't be a name; use letters, digits and -, and not train or dev")
        apart = {f"apart, {name}": languages for name, languages in self.apart.items()}
        sources = tuple(dict.fromkeys(s for v in self.variants for t, _ in self.candidates(v) for s in t.sources))
        for what, codes in {"targets": self.targets, "source": sources, **apart}.items():
            if normalise_languages(codes) != tuple(codes):
                raise UsageError(f"{what}: write {', '.join(codes)} as {', '.join(normalise_languages(codes))}")

    @property
    def folder(self) -> Path:
        """Of states, trainings and answers."""
        return self.shared or self.out

    @property
    def corpora(self) -> dict[str, CorpusSource]:
        """What is read: part -> corpus, each with its split; empty for the prompts corpus."""
        if self.train is None:
            return {}
        parts = {TRAIN: self.train, DEV: self.dev or dataclasses.replace(self.train, split=DEV), **self.tests}
        usual = {
            TRAIN: TRAIN,
            DEV: DEV,
            **{name: TEST if corpus.has_splits else None for name, corpus in self.tests.items()},
        }
        return {name: dataclasses.replace(corpus, split=corpus.split or usual[name]) for name, corpus in parts.items()}

    def plan(self) -> str:
        """What will be done, in a line."""
        n = len({run.name for run in self.runs()})
        where = f"; on {self.train.name}, tested on {', '.join(self.tests)}" if self.train else ""
        return (
            f"{n} trainings ({', '.join(self.variants)}; targets {', '.join(self.targets)}; "
            f"{len(self.rotations)} rotations, {len(self.seeds)} seeds{where})"
        )

    def alternatives(self, variant: str) -> list[dict[str, Any]]:
        """The settings of a variant, among which dev chooses."""
        own = self.variants[variant]
        return own if isinstance(own, list) else [own]

    def candidates(self, variant: str) -> list[tuple["Training", float]]:
        """What dev chooses among: trainings, and shares of their change."""
        found = []
        for own in self.alternatives(variant):
            settings = {"source": [self.source], **self.settings, **own}
            shares = settings.pop("shares", [1.0])
            training = Training(self.model, variant == PERMUTED, settings, self.context)
            found += [(training, float(s)) for s in shares]
        return found

    def runs(self) -> list["Run"]:
        """All trainings that there are to do, each with the shares that are asked for, variant by variant."""
        asked: dict[Run, None] = {}
        for variant, target in itertools.product(self.variants, self.targets):
            for rotation, seed in itertools.product(self.rotations, self.seeds):
                asked |= {Run(target, rotation, seed, t, s): None for t, s in self.candidates(variant)}
        return list(asked)


@dataclass(frozen=True)
class Training:
    """What a training depends on, beside its target, data and seed.

    Attributes:
        model: model spec.
        permuted: whether texts are dealt out anew over the audio.
        settings: of `FinetuneConfig`, and ``utterances``.
        context: of the encoder states.
    """

    model: str
    permuted: bool
    settings: Mapping[str, Any]
    context: str = CONTEXT

    @property
    def digest(self) -> str:
        """Short name of all that."""
        stated = json.dumps([self.model, self.context, self.permuted, dict(self.settings)], sort_keys=True)
        return hashlib.sha256(stated.encode()).hexdigest()[:10]

    def __hash__(self) -> int:
        return hash(self.digest)

    @property
    def sources(self) -> tuple[str, ...]:
        """Languages of the speech that is trained on."""
        return tuple(self.settings["source"])

    def config(self, target: str, seed: int, folder: Path) -> FinetuneConfig:
        """As a fine-tuning's settings."""
        own = {k: v for k, v in self.settings.items() if k not in STUDY_KEYS}
        own |= {"manifest": str(folder), "out": str(folder), "target": target, "seed": seed, "model": self.model}
        return msgspec.convert(own, FinetuneConfig, dec_hook=lambda wanted, value: wanted(value))


@dataclass(frozen=True)
class Run:
    """One model to ask: a target, which fifth is test, a seed, a training, and the share of its change."""

    target: str
    rotation: int
    seed: int
    training: Training
    share: float = 1.0

    @property
    def name(self) -> str:
        """Of the training, in file names."""
        return f"{self.target}-{self.rotation}-{self.seed}-{self.training.digest}"
