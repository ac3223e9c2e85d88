"""What a transfer study trains on, chooses on and is tested on: the prompts corpus, or corpora of the recipe."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec

from interlingua.corpora import prepare_prompts, split_by_cluster
from interlingua.corpora.prepare import words_of
from interlingua.errors import CorpusError, UsageError
from interlingua.experiments.transfer_study.settings import DEV, TEST, TRAIN, Run, TransferStudy
from interlingua.types import AudioRef, Utterance


@dataclass(frozen=True, eq=False)
class StudyData:
    """Utterances by part: train, dev, and tests.

    Attributes:
        every: all of them, each once.
        parts: rotation -> part -> its utterances.
        tests: names of the parts that are measured on.
        asked: part -> utterances whose languages and references say what is asked there.
        one_file: whether the answers before training of dev and test lie in one file, as they do for the prompts.
        rules: what each part is and by which rules, a line each.
    """

    every: Sequence[Utterance]
    parts: Mapping[int, Mapping[str, Sequence[Utterance]]]
    tests: tuple[str, ...]
    asked: Mapping[str, Sequence[Utterance]]
    one_file: bool
    rules: tuple[str, ...] = ()

    def part(self, rotation: int, name: str) -> Sequence[Utterance]:
        """The utterances of a part."""
        return self.parts[rotation][name]

    def heard(self, rotation: int, name: str) -> Sequence[Utterance]:
        """The utterances that are asked about together with those of a part."""
        if not self.one_file:
            return self.part(rotation, name)
        return [*self.part(rotation, DEV), *self.part(rotation, TEST)]

    def languages(self, name: str) -> list[str]:
        """The languages spoken in a part."""
        return sorted(self._written[name])

    def spoken(self, name: str, target: str) -> list[str]:
        """The languages spoken in a part, but the target, that have references in it."""
        return [s for s, written in sorted(self._written[name].items()) if target in written and s != target]

    def has(self, name: str, source: str, target: str) -> bool:
        """Whether speech of a language has references in another, or transcripts, in a part."""
        return target in self._written[name].get(source, ())

    @cached_property
    def _written(self) -> dict[str, dict[str, set[str]]]:
        """Part -> language spoken -> languages that it has references in, its own included."""
        found: dict[str, dict[str, set[str]]] = {}
        for name, utterances in self.asked.items():
            languages: dict[str, set[str]] = {}
            for u in utterances:
                own = {u.language} if u.text else set()
                languages.setdefault(u.language, set()).update(own, (t for t, text in u.translations.items() if text))
            found[name] = languages
        return found


def study_data(study: TransferStudy, known: Sequence[str], log: Callable[[str], None]) -> StudyData:
    """Read a study's corpora.

    Args:
        study: says which.
        known: languages that the model has tokens for; speech of others can't be asked about, and is left out.
        log: takes a line on whatever was left out.

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
            if name == DEV:  # one source is enough there, and another language's speech will do
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
        asked={name: some for name, some in parts.items() if name != TRAIN},
        one_file=False,
        rules=tuple(_rule(study, name, some, parts[TRAIN]) for name, some in parts.items()),
    )


def learnable(utterances: Sequence[Utterance], run: Run) -> list[Utterance]:
    """The utterances that a training can learn from: speech of its source languages, with a reference."""
    return [u for u in utterances if u.language in run.training.sources and u.translations.get(run.target)]


def digest_of(utterances: Sequence[Utterance]) -> str:
    """What answers depend on of the utterances."""
    stated = msgspec.json.encode([(u.id, u.cluster, u.text, u.translations) for u in utterances])
    return hashlib.sha256(stated).hexdigest()


def _prompts(study: TransferStudy, log: Callable[[str], None]) -> StudyData:
    utterances = prepare_prompts(log=log)
    parts = {}
    for rotation in study.rotations:
        split = split_by_cluster(utterances, rotation)
        parts[rotation] = {name: [u for u in split if u.split == name] for name in (TRAIN, DEV, TEST)}
    return StudyData(utterances, parts, (TEST,), {DEV: utterances, TEST: utterances}, one_file=True)


def _read(study: TransferStudy, name: str, known: Sequence[str], log: Callable[[str], None]) -> list[Utterance]:
    """One part; ids begin with its name, since two corpora may use the same."""
    corpus = study.corpora[name]

    def told(line: str) -> None:
        log(f"{name}: {line}")

    try:
        found = corpus.utterances(study.folder / "corpora", told)
    except (CorpusError, UsageError) as e:
        raise type(e)(f"{name}: {e}") from e
    strange = sorted({u.language for u in found} - set(known))
    if strange:
        told(f"{', '.join(strange)}: {study.model} has no token for them; left out (recipe `unseen` asks about them)")
    return [
        msgspec.structs.replace(u, id=f"{name}:{u.id}", split=name, cluster=u.group)
        for u in found
        if u.language in known
    ]


def _trainings(study: TransferStudy, target: str) -> list[Run]:
    return [run for run in study.runs() if run.target == target]


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
    """What tells one recording from another, by whatever path it is read."""
    return os.path.realpath(audio.path), audio.member, audio.offset


def _rule(study: TransferStudy, name: str, utterances: Sequence[Utterance], trained: Sequence[Utterance]) -> str:
    """What a part is, and what the results depend on, in a line."""
    corpus = study.corpora[name]
    counts = ", ".join(
        f"{lang} {sum(u.language == lang for u in utterances)}" for lang in sorted({u.language for u in utterances})
    )
    facts = [f"{name}: {corpus.name}, split {corpus.split} ({counts})"]
    facts.append(corpus.summary(study.folder / "corpora").get("several_recordings", {}).get("rule", ""))
    if corpus.name == "fleurs":
        facts.append("the reference is the parallel sentence in the language that is written")
    if name in study.tests:
        facts.append(f"{_said_in(utterances, trained)} utterances say, word for word, what one in train does")
    return "; ".join(fact for fact in facts if fact)


def _said_in(utterances: Sequence[Utterance], others: Sequence[Utterance]) -> int:
    """How many utterances say, word for word, what one of others does."""
    held = {(u.language, tuple(words_of(u.text))) for u in others if u.text}
    return sum((u.language, tuple(words_of(u.text))) in held for u in utterances if u.text)
