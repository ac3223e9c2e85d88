"""The transfer study: fine-tunings with and without regularizers, and controls, compared at equal budget.

Dev chooses a variant's open settings and interpolation weight; test measures. Every output is kept, so an interrupted
study resumes. Settings and data are in `transfer_settings`.
"""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from interlingua.encoding import WhisperEncoder, best_compute, best_device, encode_manifest
from interlingua.errors import CometError, CorpusError
from interlingua.experiments.finetune import (
    each_output,
    kept_outputs,
    made_states,
    named_targets,
    output_origins,
    plain,
)
from interlingua.experiments.published import UNKNOWN, compared, read_published
from interlingua.experiments.run import Run, kept, kept_by_id, to_encode
from interlingua.experiments.transfer_settings import (
    CONTEXT,
    DEV,
    PERMUTED,
    PLAIN,
    TRAIN,
    StudyData,
    Trained,
    Training,
    TransferStudy,
    digest_of,
    learnable,
    study_data,
)
from interlingua.files import write_text
from interlingua.finetuning.config import FinetuneConfig
from interlingua.finetuning.data import (
    MOST_TOKENS,
    Example,
    LiveStates,
    States,
    rehearsal_examples,
    translation_examples,
)
from interlingua.finetuning.evaluate import (
    ENGLISH,
    TEXT_METRICS,
    Outputs,
    Task,
    dev_scores,
    new_tasks,
    old_tasks,
    only,
    pooled_change,
    system_outputs,
    text_statistics,
    transfer_rows,
)
from interlingua.finetuning.model import Update, update_between
from interlingua.finetuning.trainer import fisher_of, train
from interlingua.languages import PromptKind
from interlingua.metrics import (
    Cell,
    CometScores,
    SystemOutputs,
    comet_segments,
    draws,
    pooled_difference,
    pooled_value,
    score_comet,
    score_translations,
)
from interlingua.metrics.comet import Segment
from interlingua.models import Whisper, load_whisper, save_whisper
from interlingua.progress import track
from interlingua.resampling import BOOTSTRAP_SEED
from interlingua.results import (
    Change,
    Corpus,
    Part,
    Published,
    Results,
    StudyPool,
    StudyRow,
    Transfer,
    UtteranceResult,
    Variant,
)
from interlingua.types import Difference, Utterance

__all__ = ["CONTEXT", "PERMUTED", "PLAIN", "TransferStudy", "run_transfer_study"]

MOST_TOKENS_OF_CORPORA = 224  # of an output: Whisper's own limit; sentences of FLEURS are longer than prompts
OFTEN = 2  # readings of the states of dev and tests, at least
OUTPUTS = 3  # increase it when code changes a training's result: kept outputs are refused then
PROMPTS: tuple[PromptKind, ...] = ("target-transcribe", "target-translate", "source-translate")
UNTRAINED = "untrained"
MEASURES: tuple[Literal["bleu", "chrf", "comet"], ...] = ("bleu", "chrf", "comet")


def run_transfer_study(
    study: TransferStudy, *, train: bool = True, dry_run: bool = False, log: Callable[[str], None] = print
) -> Path:
    """Run what isn't done yet, and write ``results.json``.

    Args:
        train: False: train nothing; unfinished variants are skipped. (Outputs before training are still made.)
        dry_run: only read the corpora, and print the plan.

    Raises:
        ResultsError: the shared folder was begun with another model or corpus.
    """
    device = best_device()
    compute = best_compute(device)
    run = Run(study.out, compute=compute, device=device, log=log)
    whisper = load_whisper(study.model, dtype=compute, device=device)
    data = study_data(study, whisper.languages, log)
    read_published(study.published, "transfer")  # what can't be read or scored fails before training, not after
    for target in study.targets:
        score_translations({}, {"": "1"}, target=target, metric="bleu")
    encoder = WhisperEncoder(whisper, context=study.context)
    if dry_run:
        stores = (study.folder / "frames.lance", study.folder / "train.lance")
        log(f"to encode: {to_encode(data.every, encoder.spec, encoder.dim, *stores)}")
        nothing = LiveStates([], encoder)
        work = Work(study, data, whisper, nothing, nothing, compute, device)
        log(f"to train: {len({model.name for model in study.models() if not work.is_done(model)})} trainings")
        return study.out
    run.claim(_claimed(study, data, whisper) | {"device": device, "compute": compute}, study.folder)
    learnt, measured, failures = _states(study, data, encoder, log)
    work = Work(study, data, whisper, learnt, measured, compute, device, log)
    trainings = list({model.name: model for model in study.models()}.values())
    for done, model in enumerate(trainings if train else []):
        news = f"training {done + 1} of {len(trainings)} into {model.target}: {model.training.settings}"
        log(f"{news} ({run.seconds / 60:.0f} min so far)")
        work.do(model)
    scores = Scores(work)
    test = ", ".join(study.tests) or "all folds pooled, clusters resampled"
    rows, points = scores.rows()
    run.save(
        Results(
            title=f"Transfer: {study.source} speech into {', '.join(study.targets)}",
            settings={**plain(study), "test": test},
            corpus=Corpus(rules=list(data.rules)) if data.rules else None,
            failures=failures,
            study=rows,
            pareto=points,
            published=scores.published(rows) if study.corpora else [],
        ),
        measured_on=data.every,
        seeds={"bootstrap": BOOTSTRAP_SEED, **{f"training {n}": s for n, s in enumerate(study.seeds, 1)}},
        utterances=scores.utterances(),
    )
    return study.out


def _claimed(study: TransferStudy, data: StudyData, whisper: Whisper) -> dict[str, object]:
    """Settings that every output in the shared folder depends on."""
    claimed: dict[str, object] = {"outputs": OUTPUTS, "model": study.model, "context": study.context}
    if not study.corpora:
        return claimed | {"corpus": digest_of(data.every)}
    chosen = digest_of([*data.part(0, TRAIN), *data.part(0, DEV)])
    tests = {f"test {name}": digest_of(data.part(0, name)) for name in data.tests}
    of_corpora = {"revision": whisper.revision, "most_tokens": MOST_TOKENS_OF_CORPORA, "corpus": chosen}
    return claimed | of_corpora | tests


def _states(
    study: TransferStudy, data: StudyData, encoder: WhisperEncoder, log: Callable[[str], None]
) -> tuple[States, States, list[str]]:
    """States of the training data, states of dev and tests, and the ids that the latter lack."""
    if not study.corpora:
        store, report = encode_manifest(data.every, encoder, study.folder / "frames.lance")
        n = len(report.failed)
        log(f"{len(store)} utterances encoded; {n} are longer than the window and count as empty outputs")
        return store, store, []
    tested = [u for name in (DEV, *data.tests) for u in data.part(0, name)]
    measured, without = made_states(study.folder / "frames.lance", tested, encoder, OFTEN, log)
    reads = sum((m.config.epochs or OFTEN) + (m.config.rehearses or m.config.ewc > 0) for m in study.models())
    learnt, lost = made_states(study.folder / "train.lance", data.part(0, TRAIN), encoder, reads, log)
    if lost:
        log(f"{len(lost)} utterances to train on have no states and are skipped, e.g. {next(iter(lost.items()))}")
    return learnt, measured, [f"{i}: {why}" for i, why in without.items()]


# ---------------------------------------------------------------- trainings and outputs, kept


@dataclass(frozen=True, eq=False)
class Work:
    """Trainings of a study, each run once; ``learnt``: states of the training data; ``measured``: of dev and tests."""

    study: TransferStudy
    data: StudyData
    whisper: Whisper
    learnt: States
    measured: States
    compute: str
    device: str
    log: Callable[[str], None] = print

    @property
    def most_tokens(self) -> int:
        """Longest output."""
        return MOST_TOKENS_OF_CORPORA if self.study.corpora else MOST_TOKENS

    def untrained(self, fold: int, target: str, prompt: PromptKind, part: str) -> Outputs:
        """Outputs before training; the old tasks are the same for all targets."""
        languages = self.data.languages(part)
        found: dict[str, Mapping[str, str]] = {}
        for what, tasks in (
            (f"{target}-{prompt}", new_tasks(self.whisper, languages, target, prompt)),
            ("old", old_tasks(self.whisper, languages)),
        ):
            found |= kept_outputs(
                self.study.folder / "before" / f"{fold}-{part}-{what}.jsonl",
                lambda: load_whisper(self.study.model, device=self.device),
                self._with_references(tasks, part),
                self.data.part(fold, part),
                self.measured,
                f"before, {what}, {part}",
                most_tokens=self.most_tokens,
            )
        return found

    def outputs(self, model: Trained, part: str, whisper: Whisper | None = None) -> Outputs:
        """The outputs of a fine-tuned model; ``whisper``, if given, makes those that aren't kept."""

        def trained() -> Whisper:
            if whisper is None:
                raise CorpusError(f"{model.name}: {part} has utterances without outputs; run the study again")
            return whisper

        return kept_outputs(
            self._outputs_file(model, part),
            trained,
            self.tasks(model, part),
            self.data.part(model.fold, part),
            self.measured,
            f"{model.name} at {model.alpha:g}, {part}",
            most_tokens=self.most_tokens,
        )

    def do(self, model: Trained) -> None:
        """Train, and make the outputs at all interpolation weights of this training, unless that is done."""
        siblings = [m for m in self.study.models() if m.name == model.name]
        missing = [(m, part) for m in siblings for part in self.parts(m) if not self._is_kept(m, part)]
        if not missing:
            return
        whisper = load_whisper(self.study.model, device=self.device)
        update = self._update(model, whisper)
        for m in dict.fromkeys(m for m, _ in missing):
            update.apply(whisper, m.alpha)
            for part in [part for one, part in missing if one == m]:
                self.outputs(m, part, whisper)
        shutil.rmtree(self._folder(model) / "checkpoints", ignore_errors=True)

    def tasks(self, model: Trained, part: str) -> list[Task]:
        """All tasks of a fine-tuned model; on dev, those that choose a candidate."""
        languages = self.data.languages(part)
        new = new_tasks(self.whisper, languages, model.target, model.config.prompt)
        return self._with_references([*new, *old_tasks(self.whisper, languages)], part)

    def is_done(self, model: Trained) -> bool:
        """Whether the outputs of every utterance with states are kept."""
        return all(self._is_kept(model, part) for part in self.parts(model))

    def parts(self, model: Trained) -> list[str]:
        """The parts that a model is measured on; dev where it chooses."""
        several = [c for v in self.study.variants if len(c := self.study.candidates(v)) > 1]
        chosen = any((model.training, model.alpha) in candidates for candidates in several)
        return [*([DEV] if chosen else []), *self.data.tests]

    def learnt_by(self, model: Trained) -> list[Utterance]:
        """The utterances that a training learns from."""
        able = learnable(self.data.part(model.fold, TRAIN), model)
        new = [u for u in able if u.id in self.learnt]
        if not new:
            raise CorpusError(f"{model.name}: none of {len(able)} utterances to train on has audio that can be encoded")
        return some_of(new, model.training.settings.get("utterances"), model.seed)

    def _is_kept(self, model: Trained, part: str) -> bool:
        path = self._outputs_file(model, part)
        origins = output_origins(
            self.tasks(model, part), self.data.part(model.fold, part), self.measured, self.most_tokens
        )
        return path.exists() and kept_by_id(path, origins, lambda _: (), dict[str, str]).keys() == origins.keys()

    def _update(self, model: Trained, whisper: Whisper) -> Update:
        """The update of a training; with corpora the model is kept, and read again."""
        path = self._folder(model) / "model"
        if self.study.corpora and path.exists():
            trained = load_whisper(path, device=self.device).model.model
            return update_between(dict(whisper.model.model.named_parameters()), trained)
        update = self._train(model, whisper)
        if self.study.corpora:
            update.apply(whisper, 1.0)
            named = named_targets(whisper, model.target, model.target, model.config.prompt, model.training.sources)
            self.log(f"model: {save_whisper(whisper, path, named)}")
        return update

    def _train(self, model: Trained, whisper: Whisper) -> Update:
        folder, config = self._folder(model), model.config
        about = {**model.training.settings, "permuted": model.training.permuted}
        write_text(folder / "settings.json", json.dumps(about))
        examples = self._examples(model, whisper, config)
        tasks = new_tasks(whisper, self.data.languages(DEV), model.target, config.prompt)
        dev = self.data.part(model.fold, DEV)
        ours = [t for t in tasks if t.source in config.source]
        scores = dev_scores(whisper, ours, dev, self.measured, self.most_tokens)
        if scores is None:  # dev has none of the sources: the other languages choose the epoch
            scores = dev_scores(whisper, tasks, dev, self.measured, self.most_tokens)
        return train(
            whisper,
            examples,
            self.learnt,
            config,
            folder=folder / "checkpoints",
            dev=scores,
            fisher=self._fisher(whisper, model) if config.ewc else None,
            compute=self.compute if config.compute == "auto" else config.compute,
            device=self.device,
        )

    def _examples(self, model: Trained, whisper: Whisper, config: FinetuneConfig) -> list[Example]:
        examples = []
        for u in self.learnt_by(model):
            try:
                examples += translation_examples([u], whisper, model.target, config.prompt)
            except CorpusError as e:
                self.log(f"not trained on: {e}")
        if model.training.permuted:
            examples = permuted(examples, model.seed)
        if config.rehearses or config.ewc:
            examples += self._rehearsal(whisper, model, config)
        return examples

    def _rehearsal(self, whisper: Whisper, model: Trained, config: FinetuneConfig) -> list[Example]:
        prompts, most = config.rehearse_as, model.training.settings.get("rehearsal_utterances")
        spoken = self.data.part(model.fold, TRAIN)
        wanted = config.rehearse or tuple(sorted({u.language for u in spoken}))
        name = str(model.fold)
        if prompts or most:
            name += f"-{'-'.join(config.rehearse or ['all'])}"
            spoken = some_of([u for u in spoken if u.language in wanted], most, model.seed)
        name += f"-as-{'-'.join(prompts)}" if prompts else ""
        name += f"-{most}-{model.seed}" if most else ""
        made = kept(
            self.study.folder / "rehearsal" / f"{name}.json",
            lambda: rehearsal_examples(whisper, spoken, self.learnt, languages=prompts),
            list[Example],
        )
        language = {u.id: u.language for u in self.data.every}
        return [e for e in made if language[e.utterance] in wanted]

    def _fisher(self, whisper: Whisper, model: Trained) -> Path:
        about = fisher_of(whisper, model.config)
        if most := model.training.settings.get("rehearsal_utterances"):
            about["rehearsal_utterances"] = str(most)
        name = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:10]
        return self.study.folder / "fisher" / f"{model.fold}-{model.seed}-{name}.safetensors"

    def _with_references(self, tasks: Sequence[Task], part: str) -> list[Task]:
        """Tasks that can be scored; on dev the translations alone, which choose."""
        kinds = ("new", "translate") if part == DEV else ("new", "translate", "transcribe", "detect")
        chosen = [t for t in tasks if t.kind in kinds]
        return [t for t in chosen if t.kind == "detect" or self.data.has(part, t.source, t.target)]

    def _folder(self, model: Trained) -> Path:
        return self.study.folder / "trainings" / model.name

    def _outputs_file(self, model: Trained, part: str) -> Path:
        return self._folder(model) / f"{part}-{model.alpha:g}.jsonl"


def some_of(utterances: Sequence[Utterance], number: int | None, seed: int) -> list[Utterance]:
    """A random sample; a smaller one is part of a larger one. None: all."""
    order = np.random.default_rng(seed).permutation(len(utterances))[:number]
    return [utterances[i] for i in sorted(order)]


def permuted(examples: Sequence[Example], seed: int) -> list[Example]:
    """The control: texts permuted over the audio, so that only the domain's text can be learnt."""
    order = np.random.default_rng(seed).permutation(len(examples))
    turned = {int(a): int(b) for a, b in zip(order, np.roll(order, 1), strict=True)}
    return [dataclasses.replace(e, labels=examples[turned[i]].labels) for i, e in enumerate(examples)]


# ---------------------------------------------------------------- scores

ByCell = Mapping[Cell, Outputs]
"""The outputs of each fold and seed."""

Candidates = Mapping[tuple[Training, float], Mapping[Cell, Trained]]
"""The models of each of a variant's candidates."""

Sides = tuple[list[SystemOutputs], list[SystemOutputs]]
"""After and before, a group each."""


@dataclass(frozen=True, eq=False)
class Measured:
    """The outputs on one test: of the untrained model under its best prompt, and of each variant as chosen.

    ``prompts``: fold -> that prompt; ``chosen``: variant -> fold -> training and interpolation weight.
    """

    target: str
    test: str
    prompts: Mapping[int, PromptKind]
    chosen: Mapping[str, Mapping[int, tuple[Training, float]]]
    untrained: ByCell
    variants: Mapping[str, ByCell]

    @property
    def sources(self) -> dict[str, tuple[str, ...]]:
        """Variant -> source languages of its training."""
        return {v: next(iter(choice.values()))[0].sources for v, choice in self.chosen.items()}


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of a study's outputs: the choices on dev, and each variant on each test against the untrained model."""

    work: Work

    @property
    def cells(self) -> list[Cell]:
        """All folds and seeds."""
        study = self.work.study
        return [(fold, seed) for fold in study.folds for seed in study.seeds]

    @cached_property
    def measured(self) -> list[Measured]:
        """By target and test; unfinished variants are skipped."""
        return [one for target in self.work.study.targets for one in self._measured(target)]

    def rows(self) -> tuple[list[StudyRow], list[Variant]]:
        """A row for each target, test and variant, and the points of the plot of gain against loss."""
        comet = self._comet()
        rows, points = [], []
        todo = [(one, variant) for one in self.measured if PLAIN in one.chosen for variant in one.chosen]
        with track(len(todo), "scoring") as advance:
            for one, variant in todo:
                row = self._row(one, variant, comet)
                rows.append(row)
                if row.new_unseen and row.into_english:
                    models = self.candidates(variant, one.target)
                    points.append(
                        Variant(
                            name=variant,
                            target=one.target,
                            test=one.test if self.work.study.corpora else "",
                            gain=row.new_unseen,
                            loss=row.into_english,
                            curve=self.curve(one.target, row.sources, models, one.untrained, one.test),
                        )
                    )
                advance(1)
        return rows, points

    def utterances(self) -> list[UtteranceResult]:
        """The outputs of the untrained model and of each variant as chosen, on each test; of the first seed."""
        study, found = self.work.study, []
        for test in self.work.data.tests:
            systems: dict[str, Outputs] = {}
            for one in (one for one in self.measured if one.test == test):
                into = f", {one.target}" if len(study.targets) > 1 else ""
                untrained = self._all_tests(one.untrained, test)
                systems[UNTRAINED] = {**systems.get(UNTRAINED, {}), **untrained}  # the old tasks are the same
                for name, outputs in one.variants.items():
                    systems[name + into] = self._all_tests(outputs, test)
            found += each_output(systems, [u for fold in study.folds for u in self.work.data.part(fold, test)])
        return found

    def published(self, rows: Sequence[StudyRow]) -> list[Published]:
        """Scores of the untrained model and of plain fine-tuning with published ones, or the reason for none."""
        found = [
            Published(
                task="transfer", metric=measure, source=line.source, target=line.target, method=variant, test=row.test,
                ours=score.value, published=UNKNOWN,
            )
            for row in rows
            if row.variant == PLAIN
            for line in row.table
            for variant, side in ((UNTRAINED, "before"), (PLAIN, "after"))
            for measure in MEASURES
            if (score := getattr(getattr(line, measure), side)) is not None
        ]  # fmt: skip
        found = compared(self.work.study.published, found)
        return [row for row in found if row.metric != "chrf" or row.published != UNKNOWN]  # the paper has BLEU, COMET

    def candidates(self, variant: str, target: str) -> dict[tuple[Training, float], dict[Cell, Trained]]:
        """The models of each of a variant's candidates, by fold and seed."""
        found = self.work.study.candidates(variant)
        return {(t, alpha): {c: Trained(target, *c, t, alpha) for c in self.cells} for t, alpha in found}

    def choice(self, target: str, fold: int, models: Candidates, before: Outputs) -> tuple[Training, float]:
        """The candidate with the best new target on a fold's dev among those that lose little enough there.

        Each fold chooses for itself: the dev set of one is the test set of another.
        """
        if len(models) == 1:
            return next(iter(models))
        sources, abroad = (self.work.data.spoken(DEV, t) for t in (target, ENGLISH))
        scores = {}
        for choice, by_cell in models.items():
            outputs = {c: self.work.outputs(model, DEV) for c, model in by_cell.items() if c[0] == fold}
            gained = self._mean_chrf(outputs, [f"new {s}-{target}" for s in sources], DEV)
            old = [f"translate {s}-en" for s in abroad]
            lost = self._mean_chrf(outputs, old, DEV) - self._mean_chrf(dict.fromkeys(outputs, before), old, DEV)
            scores[choice] = (min(0.0, lost), gained)  # if all lose more than that, the one that loses least
        return max(scores, key=lambda c: scores[c])

    def curve(
        self, target: str, sources: Sequence[str], models: Candidates, before: ByCell, test: str
    ) -> list[tuple[float, float]] | None:
        """Gain and loss on test by interpolation weight, from 0 on; None: one weight, or several trainings."""
        if len({training.digest for training, _ in models}) > 1 or len(models) == 1:
            return None
        spoken = self.work.data.spoken
        new = [f"new {s}-{target}" for s in spoken(test, target) if s not in sources]
        old = [f"translate {s}-en" for s in spoken(test, ENGLISH)]
        points = [(0.0, 0.0)]
        for _, by_cell in sorted(models.items(), key=lambda item: item[0][1]):
            after = {c: self.work.outputs(model, test) for c, model in by_cell.items()}
            gain, loss = (self._mean_chrf(after, k, test) - self._mean_chrf(before, k, test) for k in (new, old))
            points.append((gain, loss))
        return points

    def table(self, before: ByCell, after: ByCell, sources: Sequence[str], test: str) -> list[Transfer]:
        """Rows by direction, of all folds' (disjoint) tests together; of the first seed."""
        was, now = (only(self._all_tests(side, test), ("new", "translate")) for side in (before, after))
        tested = [u for fold in self.work.study.folds for u in self.work.data.part(fold, test)]
        return transfer_rows(was, now, tested, sources)

    def relative_gain(self, keys: Sequence[str], tuned: ByCell, plain: ByCell, untrained: ByCell, test: str) -> Part:
        """A variant's gain over the best untrained prompt as a proportion of plain fine-tuning's, drawn together.

        Without value where plain's gain, or its interval, isn't above 0.
        """
        if not keys:
            return Part()
        value, drawn = {}, {}
        for name, side in {"variant": tuned, PLAIN: plain, UNTRAINED: untrained}.items():
            pooled = text_statistics(self._systems(side, keys, test), "chrf")
            value[name], drawn[name] = pooled_value(pooled), draws(pooled)
        gain, whole = (drawn[n] - drawn[UNTRAINED] for n in ("variant", PLAIN))
        most = value[PLAIN] - value[UNTRAINED]
        if not most > 0 or not np.percentile(whole, 2.5) > 0:
            return Part()
        some = whole != 0  # with few clusters a draw may hold none that plain gains on
        low, high = np.percentile(gain[some] / whole[some], [2.5, 97.5])
        return Part(value=(value["variant"] - value[UNTRAINED]) / most, ci=(float(low), float(high)))

    def _measured(self, target: str) -> list[Measured]:
        work = self.work
        prompts = {fold: self._best_prompt(target, fold) for fold in work.study.folds}
        on_dev = {fold: work.untrained(fold, target, prompt, DEV) for fold, prompt in prompts.items()}
        models = {v: self.candidates(v, target) for v in work.study.variants}
        done = [v for v in models if all(work.is_done(m) for cells in models[v].values() for m in cells.values())]
        chosen = {v: {fold: self.choice(target, fold, models[v], on_dev[fold]) for fold in prompts} for v in done}
        found = []
        for test in work.data.tests:
            before = {fold: work.untrained(fold, target, prompt, test) for fold, prompt in prompts.items()}
            after = {v: {c: work.outputs(models[v][chosen[v][c[0]]][c], test) for c in self.cells} for v in done}
            found.append(Measured(target, test, prompts, chosen, {c: before[c[0]] for c in self.cells}, after))
        return found

    def _row(self, one: Measured, variant: str, comet: CometScores | CometError | None) -> StudyRow:
        target, test, sources = one.target, one.test, one.sources[variant]
        spoken = self.work.data.spoken(test, target)
        unseen, seen = [s for s in spoken if s not in sources], [s for s in spoken if s in sources]
        tuned, plain, control = one.variants[variant], one.variants[PLAIN], one.variants.get(PERMUTED)
        strange = [s for s in unseen if s not in one.sources[PLAIN]]  # to plain, too

        def new(languages: Sequence[str]) -> list[str]:
            return [f"new {s}-{target}" for s in languages]

        def against(other: ByCell | None, keys: Sequence[str]) -> Difference | None:
            sides = self._compared(tuned, other, keys, test) if other else ([], [])
            now, was = (text_statistics(side, "chrf") for side in sides)
            return pooled_difference(now, was) if now else None

        table = self.table(one.untrained, tuned, sources, test)
        if comet is not None:
            first = [c for c in self.cells if c[1] == self.work.study.seeds[0]]
            keys = [f"{row.task} {row.source}-{row.target}" for row in table]
            after = {c: tuned[c] for c in first}
            scores = [comet_change(comet, *self._compared(after, one.untrained, [key], test)) for key in keys]
            table = [msgspec.structs.replace(row, comet=c) for row, c in zip(table, scores, strict=True)]
        pooled = self._pooled(one, variant, comet)
        changes = {pool.pool: pool.chrf.difference for pool in pooled}
        return StudyRow(
            target=target,
            variant=variant,
            test=test,
            chosen=[{"fold": fold, **t.settings, "alpha": a} for fold, (t, a) in one.chosen[variant].items()],
            candidates=len(self.work.study.candidates(variant)),
            untrained_prompts=list(one.prompts.values()),
            sources=list(sources),
            new_unseen=changes.get("new, sources never trained on"),
            new_source=changes.get("new, sources trained on"),
            new_all=against(one.untrained, new([*seen, *unseen])),
            into_english=changes.get("into English"),
            by_language={
                s: {UNTRAINED: against(one.untrained, new([s])), PERMUTED: against(control, new([s]))} for s in spoken
            },
            unseen_against_permuted=against(control, new(unseen)),
            errors=self._errors(one.untrained, tuned, test),
            relative_gain=self.relative_gain(new(strange), tuned, plain, one.untrained, test),
            relative_gain_all=self.relative_gain(new([*seen, *unseen]), tuned, plain, one.untrained, test),
            table=table,
            pooled=pooled,
            chrf_unseen={
                name: self._mean_chrf(side, new(unseen), test)
                for name, side in {"variant": tuned, PLAIN: plain, UNTRAINED: one.untrained}.items()
                if unseen
            },
        )

    def _pooled(self, one: Measured, variant: str, comet: CometScores | CometError | None) -> list[StudyPool]:
        """Scores before and after, means over languages: sources trained on and not, into English, and ``apart``."""
        sources, apart = one.sources[variant], self.work.study.apart
        spoken, abroad = (self.work.data.spoken(one.test, t) for t in (one.target, ENGLISH))
        within = {s for languages in apart.values() for s in languages}
        pools = {
            "new, sources never trained on": ("new", [s for s in spoken if s not in sources]),
            "new, sources trained on": ("new", [s for s in spoken if s in sources]),
            "into English": ("translate", abroad),
            **{f"into English, {n}": ("translate", [s for s in abroad if s in some]) for n, some in apart.items()},
            "into English, the others": ("translate", [s for s in abroad if s not in within] if apart else []),
        }
        rows = []
        for name, (kind, languages) in pools.items():
            keys = [f"{kind} {s}-{one.target if kind == 'new' else ENGLISH}" for s in languages]
            after, before = self._compared(one.variants[variant], one.untrained, keys, one.test)
            if after:
                changes: dict[str, Change] = {
                    m: pooled_change(text_statistics(after, m), text_statistics(before, m)) for m in TEXT_METRICS
                }
                if comet is not None:
                    changes["comet"] = comet_change(comet, after, before)
                rows.append(StudyPool(pool=name, languages=languages, **changes))
        return rows

    def _errors(self, before: ByCell, after: ByCell, test: str) -> dict[str, tuple[float, float]]:
        """Error rates before and after, per cent, means over languages and cells: transcripts and detection."""
        found: dict[str, list[tuple[float, float]]] = {"transcribe": [], "detect": []}
        for c in self.cells:
            part = self.work.data.part(c[0], test)
            for row in transfer_rows(only(before[c], found), only(after[c], found), part, ()):
                if row.error.before and row.error.after:
                    found[row.task].append((row.error.before.value, row.error.after.value))
        means = {task: np.mean(values, axis=0).tolist() for task, values in found.items() if values}
        return {task: (before, after) for task, (before, after) in means.items()}

    def _best_prompt(self, target: str, fold: int) -> PromptKind:
        """The untrained prompt that does best on a fold's dev, all sources pooled."""

        def score(prompt: PromptKind) -> float:
            outputs = {(fold, 0): self.work.untrained(fold, target, prompt, DEV)}
            return self._mean_chrf(outputs, [f"new {s}-{target}" for s in self.work.data.spoken(DEV, target)], DEV)

        return max(PROMPTS, key=score)

    def _comet(self) -> CometScores | CometError | None:
        """COMET's scores of everything in the tables; or why there are none; None: not requested."""
        model = self.work.study.comet_model
        if model is None:
            return None
        segments: set[Segment] = set()
        for one in self.measured:
            for side in [one.untrained, *one.variants.values()]:
                for c, outputs in side.items():
                    for system in self._systems({c: outputs}, list(only(outputs, ("new", "translate"))), one.test):
                        try:
                            segments.update(comet_segments(system).values())
                        except CometError:  # an utterance without a transcript: the row says so
                            continue
        return kept_comet(self.work.study.folder / "comet.jsonl", segments, model)

    def _all_tests(self, by_cell: ByCell, test: str) -> Outputs:
        """The outputs on all folds' tests together, of the first seed."""
        study = self.work.study
        tested = {fold: {u.id for u in self.work.data.part(fold, test)} for fold in study.folds}
        return {
            key: {i: t for f in tested for i, t in by_cell[f, study.seeds[0]][key].items() if i in tested[f]}
            for key in by_cell[study.folds[0], study.seeds[0]]
        }

    def _systems(self, by_cell: ByCell, keys: Sequence[str], part: str) -> list[SystemOutputs]:
        """A group for each cell and task."""
        utterances = {c: self.work.data.part(c[0], part) for c in by_cell}
        return [system_outputs(key, by_cell[c], utterances[c], c) for c in by_cell for key in keys]

    def _compared(self, after: ByCell, before: ByCell, keys: Sequence[str], part: str) -> Sides:
        return self._systems(after, keys, part), self._systems({c: before[c] for c in after}, keys, part)

    def _mean_chrf(self, by_cell: ByCell, keys: Sequence[str], part: str) -> float:
        """The mean over cells and tasks of corpus chrF; 0 where there are none."""
        groups = self._systems(by_cell, keys, part)
        return pooled_value(text_statistics(groups, "chrf")) if groups else 0.0


# ---------------------------------------------------------------- COMET, cached in a file


def kept_comet(path: Path, segments: Collection[Segment], model: str) -> CometScores | CometError:
    """COMET's scores of segments, those in ``path`` reused; or why there are none."""
    named = {hashlib.sha256(msgspec.json.encode(s)).hexdigest()[:20]: s for s in segments}

    def make(lacking: Sequence[str]) -> Iterator[dict[str, tuple[float, str]]]:
        found = score_comet([named[name] for name in lacking], model=model)
        yield {name: (found.scores[named[name]], found.signature) for name in lacking}

    def held() -> dict[str, tuple[float, str]]:
        return kept_by_id(path, dict.fromkeys(named, model), make, tuple[float, str])

    try:
        scores = held()
        if len({signature for _, signature in scores.values()}) > 1:  # those of other versions can't be mixed in
            path.unlink()
            scores = held()
    except CometError as e:
        return e
    signature = next((signature for _, signature in scores.values()), "comet")
    return CometScores({named[name]: score for name, (score, _) in scores.items()}, signature)


def comet_change(
    comet: CometScores | CometError, after: Sequence[SystemOutputs], before: Sequence[SystemOutputs]
) -> Change:
    """Means over groups of scores before and after, and their difference; or why there are none."""
    if isinstance(comet, CometError):
        return Change(reason=str(comet))
    try:
        return pooled_change(*([comet.statistics(g) for g in side] for side in (after, before)))
    except CometError as e:  # an utterance without a transcript
        return Change(reason=str(e))
