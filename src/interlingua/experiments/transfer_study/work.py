"""The transfer study's work: train what isn't trained yet, ask what isn't answered yet, keep every answer."""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from interlingua.errors import CorpusError
from interlingua.experiments.finetuning import dev_scores, kept, kept_examples, named_targets
from interlingua.experiments.transfer import Outputs, Question, answered, answers, new_questions, old_questions
from interlingua.experiments.transfer_study.data import StudyData, learnable
from interlingua.experiments.transfer_study.settings import DEV, TRAIN, Run, TransferStudy
from interlingua.files import write_text
from interlingua.finetuning.config import FinetuneConfig
from interlingua.finetuning.data import MOST_TOKENS, Example, States, rehearsal_examples, translation_examples
from interlingua.finetuning.model import Update, update_between
from interlingua.finetuning.trainer import fisher_of, train
from interlingua.languages import PromptKind
from interlingua.models import Whisper, load_whisper
from interlingua.models.whisper import save_whisper
from interlingua.types import Utterance

MOST_TOKENS_OF_CORPORA = 224  # of an answer: Whisper's own limit; sentences of FLEURS are longer than prompts

Ask = Callable[[Whisper, Sequence[str]], list[Question]]


@dataclass(frozen=True, eq=False)
class Work:
    """What the trainings of a study share.

    Attributes:
        study: the settings.
        data: the utterances.
        learnt: states of those that are trained on.
        heard: states of those that are asked about.
        compute: number format of the products.
        device: where to train.
        log: takes a line of news.
    """

    study: TransferStudy
    data: StudyData
    learnt: States
    heard: States
    compute: str
    device: str
    log: Callable[[str], None] = print

    @property
    def most_tokens(self) -> int:
        """The longest answer."""
        return MOST_TOKENS_OF_CORPORA if self.study.corpora else MOST_TOKENS

    def untrained(self, rotation: int, target: str, prompt: PromptKind, part: str) -> Outputs:
        """Answers before training; the old questions are the same for all targets."""

        def of_target(whisper: Whisper, languages: Sequence[str]) -> list[Question]:
            return new_questions(whisper, languages, target, prompt)

        found: Outputs = {}
        for what, make, label in (
            (f"{target}-{prompt}", of_target, f"before, {prompt}"),
            ("old", old_questions, "before"),
        ):
            ask = partial(self._ask, make, rotation, part, label)
            found |= kept(self._before(rotation, what, part), ask, self.data.heard(rotation, part), self.heard)
        return found

    def do(self, run: Run) -> None:
        """Train and ask, at all shares of this training that are asked for, unless that is done."""
        missing = [(r, part) for r in self._asked_for(run) for part in self.parts(r) if not self._answered(r, part)]
        if not missing:
            return
        whisper = load_whisper(self.study.model, device=self.device)
        change = self._change(run, whisper)
        for r in dict.fromkeys(r for r, _ in missing):
            change.apply(whisper, r.share)
            for part in [part for one, part in missing if one == r]:
                questions = self.questions(whisper, r, part)
                label = f"{r.name} at {r.share:g}, {part}"
                said = self._said_now(whisper, questions, self.data.part(r.rotation, part), label)
                write_text(self.answer_file(r, part), json.dumps(said, ensure_ascii=False, indent=0) + "\n")
        shutil.rmtree(self._folder(run) / "checkpoints", ignore_errors=True)

    def questions(self, whisper: Whisper, run: Run, part: str) -> list[Question]:
        """All that is asked of a trained model; on dev, what chooses a candidate by."""
        config = run.training.config(run.target, run.seed, self._folder(run))
        languages = self.data.languages(part)
        asked = new_questions(whisper, languages, run.target, config.prompt) + old_questions(whisper, languages)
        return self._with_references(asked, part, only_translations=part == DEV)

    def is_done(self, run: Run) -> bool:
        """Whether all answers are there, of every utterance that has states."""
        return all(self._answered(run, part) for part in self.parts(run))

    def said(self, run: Run, part: str) -> Outputs:
        """The answers of a run."""
        return dict(json.loads(self.answer_file(run, part).read_text(encoding="utf-8")))

    def parts(self, run: Run) -> list[str]:
        """What a run is asked about; dev where it chooses."""
        variants = [v for v in self.study.variants if len(self.study.candidates(v)) > 1]
        chosen = any((run.training, run.share) in self.study.candidates(v) for v in variants)
        return [*([DEV] if chosen else []), *self.data.tests]

    def answer_file(self, run: Run, part: str) -> Path:
        """The file of a run's answers."""
        return self._folder(run) / f"{part}-{run.share:g}.json"

    def learnt_by(self, run: Run) -> list[Utterance]:
        """The utterances that a training learns from.

        Raises:
            CorpusError: none has states.
        """
        able = learnable(self.data.part(run.rotation, TRAIN), run)
        new = [u for u in able if u.id in self.learnt]
        if not new:
            raise CorpusError(f"{run.name}: none of {len(able)} utterances to train on has audio that can be encoded")
        return some_of(new, run.training.settings.get("utterances"), run.seed)

    def _answered(self, run: Run, part: str) -> bool:
        if not self.answer_file(run, part).exists():
            return False
        return answered(self.said(run, part), self.data.part(run.rotation, part), self.heard)

    def _asked_for(self, run: Run) -> list[Run]:
        return [r for r in self.study.runs() if r.name == run.name]

    def _change(self, run: Run, whisper: Whisper) -> Update:
        """What training changes; of a corpus's training the model is kept, and read again where there is one."""
        model = self._folder(run) / "model"
        if self.study.corpora and model.exists():
            kept = load_whisper(model, device=self.device).model.model.decoder
            return update_between(dict(whisper.model.model.decoder.named_parameters()), kept)
        change = self._train(run, whisper)
        if self.study.corpora:
            change.apply(whisper, 1.0)
            prompt = run.training.config(run.target, run.seed, model).prompt
            named = named_targets(whisper, run.target, run.target, prompt, run.training.sources)
            self.log(f"model: {save_whisper(whisper, model, named)}")
        return change

    def _train(self, run: Run, whisper: Whisper) -> Update:
        folder = self._folder(run)
        config = run.training.config(run.target, run.seed, folder)
        write_text(folder / "settings.json", json.dumps({**run.training.settings, "permuted": run.training.permuted}))
        examples = self._examples(run, whisper, config)
        asked = new_questions(whisper, self.data.languages(DEV), run.target, config.prompt)
        ours = [q for q in asked if q.source in config.source]
        dev = self.data.part(run.rotation, DEV)
        scores = dev_scores(whisper, ours, dev, self.heard, self.most_tokens)
        if scores is None:  # dev has none of the sources: the other languages choose the epoch
            scores = dev_scores(whisper, asked, dev, self.heard, self.most_tokens)
        return train(
            whisper,
            examples,
            self.learnt,
            config,
            folder=folder / "checkpoints",
            dev=scores,
            fisher=self._fisher(whisper, run, config) if config.ewc else None,
            compute=self.compute if config.compute == "auto" else config.compute,
            device=self.device,
        )

    def _examples(self, run: Run, whisper: Whisper, config: FinetuneConfig) -> list[Example]:
        new = self.learnt_by(run)
        examples = []
        for u in new:
            try:
                examples += translation_examples([u], whisper, run.target, config.prompt)
            except CorpusError as e:
                self.log(f"left out of training: {e}")
        if run.training.permuted:
            examples = permuted(examples, run.seed)
        if config.rehearses or config.ewc:
            examples += self._rehearsal(whisper, run, config)
        return examples

    def _with_references(
        self, questions: Sequence[Question], part: str, *, only_translations: bool = False
    ) -> list[Question]:
        kinds = ("new", "translate") if only_translations else ("new", "translate", "transcribe", "detect")
        asked = [q for q in questions if q.kind in kinds]
        return [q for q in asked if q.kind == "detect" or self.data.has(part, q.source, q.target)]

    def _ask(self, make: Ask, rotation: int, part: str, label: str) -> Outputs:
        whisper = load_whisper(self.study.model, device=self.device)
        of_dev = part == DEV and not self.data.one_file
        questions = self._with_references(make(whisper, self.data.languages(part)), part, only_translations=of_dev)
        where = "" if self.data.one_file else f", {part}"
        return self._said_now(whisper, questions, self.data.heard(rotation, part), label + where)

    def _said_now(
        self, whisper: Whisper, questions: Sequence[Question], utterances: Sequence[Utterance], label: str
    ) -> Outputs:
        return answers(whisper, questions, utterances, self.heard, label, most_tokens=self.most_tokens)

    def _rehearsal(self, whisper: Whisper, run: Run, config: FinetuneConfig) -> list[Example]:
        heard_as, most = config.rehearse_as, run.training.settings.get("rehearsal_utterances")
        spoken = self.data.part(run.rotation, TRAIN)
        wanted = config.rehearse or tuple(sorted({u.language for u in spoken}))
        name = str(run.rotation)
        if heard_as or most:
            name += f"-{'-'.join(config.rehearse or ['all'])}"
            spoken = some_of([u for u in spoken if u.language in wanted], most, run.seed)
        name += f"-as-{'-'.join(heard_as)}" if heard_as else ""
        name += f"-{most}-{run.seed}" if most else ""
        made = kept_examples(
            self.study.folder / "rehearsal" / f"{name}.json",
            lambda: rehearsal_examples(whisper, spoken, self.learnt, languages=heard_as),
        )
        language = {u.id: u.language for u in self.data.every}
        return [e for e in made if language[e.utterance] in wanted]

    def _fisher(self, whisper: Whisper, run: Run, config: FinetuneConfig) -> Path:
        about = fisher_of(whisper, config)
        if most := run.training.settings.get("rehearsal_utterances"):
            about["rehearsal_utterances"] = str(most)
        name = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:10]
        return self.study.folder / "fisher" / f"{run.rotation}-{run.seed}-{name}.safetensors"

    def _folder(self, run: Run) -> Path:
        return self.study.folder / "trainings" / run.name

    def _before(self, rotation: int, what: str, part: str) -> Path:
        name = f"{rotation}-{what}" if self.data.one_file else f"{rotation}-{part}-{what}"
        return self.study.folder / "before" / f"{name}.json"


def some_of(utterances: Sequence[Utterance], number: int | None, seed: int) -> list[Utterance]:
    """So many utterances, drawn; a smaller draw is part of a larger one. None: all."""
    order = np.random.default_rng(seed).permutation(len(utterances))[:number]
    return [utterances[i] for i in sorted(order)]


def permuted(examples: Sequence[Example], seed: int) -> list[Example]:
    """The control: every text goes to another utterance's audio; what is learnt then is the domain's text alone."""
    order = np.random.default_rng(seed).permutation(len(examples))
    turned = {int(a): int(b) for a, b in zip(order, np.roll(order, 1), strict=True)}
    return [dataclasses.replace(e, labels=examples[turned[i]].labels) for i, e in enumerate(examples)]
