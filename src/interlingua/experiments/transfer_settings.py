"""The transfer study's settings, the models that they define, and the utterances of its parts.

The prompts corpus is split by near-duplicate cluster into folds; other corpora have splits of their own (Ma et al.,
arXiv 2407.01130, section 4.3: CoVoST 2 to train on, FLEURS to test on).
"""

import dataclasses
import hashlib
import itertools
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import msgspec

from interlingua.corpora import prepare_prompts, split_by_cluster
from interlingua.corpora.prepare import words_of
from interlingua.encoding import Context
from interlingua.errors import CorpusError, UsageError
from interlingua.experiments.corpus_source import CorpusSource
from interlingua.finetuning.config import FinetuneConfig
from interlingua.languages import normalise_languages
from interlingua.types import AudioRef, Utterance

CONTEXT = "speech+8"  # of the states: docs/encoding.md
PLAIN, PERMUTED = "plain", "permuted"
TRAIN, DEV, TEST = "train", "dev", "test"
Number = Annotated[int, msgspec.Meta(ge=1)]


class _OfStudy(msgspec.Struct):
    """Settings of a variant besides those of `FinetuneConfig`."""

    alphas: tuple[Annotated[float, msgspec.Meta(ge=0)], ...] = (1.0,)
    utterances: Number | None = None
    rehearsal_utterances: Number | None = None


STUDY_KEYS = set(_OfStudy.__struct_fields__)
DECIDED = {  # settings of `FinetuneConfig` that the study itself decides
    *("data", "method", "store", "context", "out", "target", "model", "train_split", "dev_split", "seed"),
    *("fisher", "others", "interpolate", "interpolate_cross_attention", "log"),
}


@dataclass(frozen=True, kw_only=True)
class TransferStudy:
    """Settings of the study; the keys of its recipe.

    Attributes:
        out: the result folder.
        shared: folder of states, trainings and outputs, of studies of one model and training corpus; default: out.
        model: model spec.
        train: training corpus (its split ``train`` by default); None: the prompts corpus, split by cluster.
        dev: corpus that chooses epoch, prompt and interpolation weight (its split ``dev``); None: that of ``train``.
        tests: name -> test corpus (its split ``test``, or all without splits); each gets its own tables.
        targets: languages to translate into.
        source: source language of the training speech.
        folds: which fifths of the prompts corpus's clusters are test, one training each.
        seeds: seeds of the order of examples.
        context: encoder context: ``speech+N``, or ``full`` as in the paper.
        settings: settings of `FinetuneConfig` that all variants share.
        variants: name -> its own settings, or a list among which dev chooses; ``plain`` has none.
            ``permuted`` is the control with texts permuted over the audio. Besides `FinetuneConfig`'s settings there
            are ``alphas`` (interpolation weights among which dev chooses), ``utterances`` (training examples) and
            ``rehearsal_utterances`` (at most).
        apart: name -> languages whose translation into English is pooled separately (Ma et al.: near ones lose most).
        comet_model: COMET model that also scores translations; None: none.
        published: JSON of published figures, ``{"transfer": [{"test", "variant", "source", "target", "bleu"}]}``,
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
    folds: tuple[int, ...] = (0,)
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
        if PLAIN not in self.variants:
            raise UsageError(f"variants: {PLAIN!r} is missing; the others are compared with it")
        known = {f.name for f in dataclasses.fields(FinetuneConfig)} - DECIDED | STUDY_KEYS
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
                raise UsageError(f"{name}: nothing to choose from; give it settings, and at least one alpha")
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
        if self.train is not None and self.folds != (0,):
            raise UsageError("folds: only the prompts corpus has folds; `train` has splits of its own")
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
        """Folder of states, trainings and outputs."""
        return self.shared or self.out

    @property
    def corpora(self) -> dict[str, CorpusSource]:
        """Part -> corpus, each with its split; empty for the prompts corpus."""
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
        """The plan in one line."""
        n = len({model.name for model in self.models()})
        where = f"; on {self.train.name}, tested on {', '.join(self.tests)}" if self.train else ""
        return (
            f"{n} trainings ({', '.join(self.variants)}; targets {', '.join(self.targets)}; "
            f"{len(self.folds)} folds, {len(self.seeds)} seeds{where})"
        )

    def alternatives(self, variant: str) -> list[dict[str, Any]]:
        """The settings of a variant, among which dev chooses."""
        own = self.variants[variant]
        return own if isinstance(own, list) else [own]

    def candidates(self, variant: str) -> list[tuple["Training", float]]:
        """The trainings and interpolation weights among which dev chooses."""
        found = []
        for own in self.alternatives(variant):
            settings = {"source": [self.source], **self.settings, **own}
            alphas = settings.pop("alphas", [1.0])
            training = Training(self.model, variant == PERMUTED, settings, self.context)
            found += [(training, float(alpha)) for alpha in alphas]
        return found

    def models(self) -> list["Trained"]:
        """All models to measure, variant by variant; those of one training differ in their weight."""
        found: dict[Trained, None] = {}
        for variant, target in itertools.product(self.variants, self.targets):
            for fold, seed in itertools.product(self.folds, self.seeds):
                found |= {Trained(target, fold, seed, t, alpha): None for t, alpha in self.candidates(variant)}
        return list(found)


@dataclass(frozen=True)
class Training:
    """What a training depends on besides target, data and seed; ``permuted``: texts permuted over the audio."""

    model: str
    permuted: bool
    settings: Mapping[str, Any]
    context: str = CONTEXT

    @property
    def digest(self) -> str:
        """Its short name."""
        stated = json.dumps([self.model, self.context, self.permuted, dict(self.settings)], sort_keys=True)
        return hashlib.sha256(stated.encode()).hexdigest()[:10]

    def __hash__(self) -> int:
        return hash(self.digest)

    @property
    def sources(self) -> tuple[str, ...]:
        """Source languages of the training."""
        return tuple(self.settings["source"])

    def config(self, target: str, seed: int, folder: Path) -> FinetuneConfig:
        """Settings of its fine-tuning."""
        own = {k: v for k, v in self.settings.items() if k not in STUDY_KEYS}
        own |= {
            "data": str(folder),
            "method": "plain",
            "out": str(folder),
            "target": target,
            "seed": seed,
            "model": self.model,
        }
        return msgspec.convert(own, FinetuneConfig, dec_hook=lambda wanted, value: wanted(value))


@dataclass(frozen=True)
class Trained:
    """A fine-tuned model: its target, test fold, seed, training, and interpolation weight."""

    target: str
    fold: int
    seed: int
    training: Training
    alpha: float = 1.0

    @property
    def name(self) -> str:
        """Of the training, in file names."""
        return f"{self.target}-{self.fold}-{self.seed}-{self.training.digest}"

    @property
    def config(self) -> FinetuneConfig:
        """Settings of its fine-tuning."""
        return self.training.config(self.target, self.seed, Path())


# ---------------------------------------------------------------- utterances


@dataclass(frozen=True, eq=False)
class StudyData:
    """Utterances by part: train, dev, and tests.

    Attributes:
        every: all of them, each once.
        parts: fold -> part -> its utterances.
        tests: names of the test parts.
        pools: part -> utterances whose languages and references define its tasks; of the prompts, all.
        rules: a line on each part and its rules.
    """

    every: Sequence[Utterance]
    parts: Mapping[int, Mapping[str, Sequence[Utterance]]]
    tests: tuple[str, ...]
    pools: Mapping[str, Sequence[Utterance]]
    rules: tuple[str, ...] = ()

    def part(self, fold: int, name: str) -> Sequence[Utterance]:
        """The utterances of a part."""
        return self.parts[fold][name]

    def languages(self, name: str) -> list[str]:
        """Source languages of a part."""
        return sorted(self._written[name])

    def spoken(self, name: str, target: str) -> list[str]:
        """Source languages of a part with references in the target, without the target itself."""
        return [s for s, written in sorted(self._written[name].items()) if target in written and s != target]

    def has(self, name: str, source: str, target: str) -> bool:
        """Whether a part has references (or transcripts) of a direction."""
        return target in self._written[name].get(source, ())

    @cached_property
    def _written(self) -> dict[str, dict[str, set[str]]]:
        """Part -> source language -> languages of its references, its own included."""
        found: dict[str, dict[str, set[str]]] = {}
        for name, utterances in self.pools.items():
            languages: dict[str, set[str]] = {}
            for u in utterances:
                own = {u.language} if u.text else set()
                languages.setdefault(u.language, set()).update(own, (t for t, text in u.translations.items() if text))
            found[name] = languages
        return found


def study_data(study: TransferStudy, known: Sequence[str], log: Callable[[str], None]) -> StudyData:
    """Read a study's corpora; speech in languages not ``known`` (without a token) is skipped.

    Raises:
        CorpusError: a corpus isn't there, holds nothing to train on, or no reference in a target.
        UsageError: a target that the model has no token for, or a recording that is both trained and tested on.
    """
    if not study.corpora:
        return _prompts(study, log)
    strange = [t for t in study.targets if t not in known]
    if strange:
        raise UsageError(f"targets: {study.model} has no token for {', '.join(strange)}; `interlingua finetune` can")
    parts = {name: _read(study, name, known, log) for name in study.corpora}
    _require_apart(study, parts)
    written = {TRAIN: "to train on", DEV: "to choose the best epoch by"}
    for target in study.targets:
        for name, why in written.items():
            lacking = [t for t in _trainings(study, target) if not learnable(parts[name], t)]
            if name == DEV:  # one source is enough there, of any language
                lacking = [] if any(u.translations.get(target) for u in parts[DEV]) else lacking
            if lacking:
                raise CorpusError(
                    f"{name}: {study.corpora[name].name} holds no speech of {', '.join(lacking[0].training.sources)} "
                    f"with a reference in {target!r} {why}; see its languages and options in the recipe"
                )
        if not any(u.translations.get(target) for name in study.tests for u in parts[name]):
            raise CorpusError(f"tests: no utterance has a reference in {target!r} to measure by")
    if any(len(study.candidates(v)) > 1 for v in study.variants) and not any(
        "en" in u.translations for u in parts[DEV]
    ):
        raise CorpusError(
            "dev: variants choose among several candidates by what they lose into English, and dev has no English "
            "references; name a dev that has, `dev: {name: fleurs, …}`"
        )
    return StudyData(
        every=[u for some in parts.values() for u in some],
        parts={0: parts},
        tests=tuple(study.tests),
        pools={name: some for name, some in parts.items() if name != TRAIN},
        rules=tuple(_rule(study, name, some, parts[TRAIN]) for name, some in parts.items()),
    )


def learnable(utterances: Sequence[Utterance], model: Trained) -> list[Utterance]:
    """The utterances that a training can learn from: speech of its source languages, with a reference."""
    return [u for u in utterances if u.language in model.training.sources and u.translations.get(model.target)]


def digest_of(utterances: Sequence[Utterance]) -> str:
    """Digest of everything in the utterances that outputs depend on."""
    stated = msgspec.json.encode([(u.id, u.cluster, u.text, u.translations) for u in utterances])
    return hashlib.sha256(stated).hexdigest()


def _prompts(study: TransferStudy, log: Callable[[str], None]) -> StudyData:
    utterances = prepare_prompts(log=log)
    parts = {}
    for fold in study.folds:
        split = split_by_cluster(utterances, fold)
        parts[fold] = {name: [u for u in split if u.split == name] for name in (TRAIN, DEV, TEST)}
    return StudyData(utterances, parts, (TEST,), {DEV: utterances, TEST: utterances})


def _read(study: TransferStudy, name: str, known: Sequence[str], log: Callable[[str], None]) -> list[Utterance]:
    """One part; ids begin with its name, since two corpora may use the same."""
    corpus = study.corpora[name]

    def news(line: str) -> None:
        log(f"{name}: {line}")

    try:
        found = corpus.utterances(study.folder / "corpora", news)
    except (CorpusError, UsageError) as e:
        raise type(e)(f"{name}: {e}") from e
    strange = sorted({u.language for u in found} - set(known))
    if strange:
        news(f"{', '.join(strange)}: {study.model} has no token for them; skipped (recipe `unseen` tries them)")
    return [
        msgspec.structs.replace(u, id=f"{name}:{u.id}", split=name, cluster=u.group)
        for u in found
        if u.language in known
    ]


def _trainings(study: TransferStudy, target: str) -> list[Trained]:
    return [model for model in study.models() if model.target == target]


def _require_apart(study: TransferStudy, parts: Mapping[str, Sequence[Utterance]]) -> None:
    """Raise UsageError for a recording that is in two of train, dev and a test."""
    recordings = {name: [_recording(u.audio) for u in some] for name, some in parts.items()}
    for name, other in [(DEV, TRAIN), *((name, other) for name in study.tests for other in (TRAIN, DEV))]:
        held = set(recordings[other])
        both = [u.id for u, recording in zip(parts[name], recordings[name], strict=True) if recording in held]
        if both:
            raise UsageError(
                f"{name}: {len(both)} of its recordings are in {other}, too, e.g. {both[0]!r}; split them apart"
            )


def _recording(audio: AudioRef) -> tuple[str, str | None, float | None]:
    """What distinguishes recordings, independent of the path."""
    return os.path.realpath(audio.path), audio.member, audio.offset


def _rule(study: TransferStudy, name: str, utterances: Sequence[Utterance], trained: Sequence[Utterance]) -> str:
    """A line on a part and everything in it that the results depend on."""
    corpus = study.corpora[name]
    counts = ", ".join(
        f"{lang} {sum(u.language == lang for u in utterances)}" for lang in sorted({u.language for u in utterances})
    )
    facts = [f"{name}: {corpus.name}, split {corpus.split} ({counts})"]
    facts.append(corpus.summary(study.folder / "corpora").get("several_recordings", {}).get("rule", ""))
    if corpus.name == "fleurs":
        facts.append("the reference is the parallel sentence in the language that is written")
    if name in study.tests:
        facts.append(f"{_repeated_in(utterances, trained)} utterances repeat a text of train verbatim")
    return "; ".join(fact for fact in facts if fact)


def _repeated_in(utterances: Sequence[Utterance], others: Sequence[Utterance]) -> int:
    """How many utterances have the same text as one of ``others``."""
    held = {(u.language, tuple(words_of(u.text))) for u in others if u.text}
    return sum((u.language, tuple(words_of(u.text))) in held for u in utterances if u.text)
