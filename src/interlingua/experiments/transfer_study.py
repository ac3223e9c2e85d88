"""The transfer study: fine-tunings with and without remedies, and controls, compared at equal budget.

Everything is split by near-duplicate cluster and rotated; what a variant leaves open (the share of the change that is
kept) is chosen on dev; all is measured on test. Every answer is kept, so an interrupted study goes on where it was.
"""

import dataclasses
import datetime
import hashlib
import itertools
import json
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from interlingua.corpora import prepare_prompts, split_by_cluster
from interlingua.encode import WhisperEncoder, best_compute, best_device, encode_manifest
from interlingua.errors import UsageError
from interlingua.experiments.finetuning import begun_with, dev_scores, kept, kept_examples
from interlingua.experiments.transfer import (
    Outputs,
    Question,
    answers,
    as_row,
    new_questions,
    old_questions,
    references,
    transfer_rows,
)
from interlingua.files import write_text
from interlingua.languages import PromptKind
from interlingua.metrics import Comparison, SystemOutputs, pooled_difference, pooled_draws
from interlingua.models import Whisper, load_whisper
from interlingua.results import provenance, save_results
from interlingua.store import FrameStore
from interlingua.transfer.config import FinetuneConfig
from interlingua.transfer.examples import Example, translation_examples
from interlingua.transfer.finetune import fisher_of, rehearsal_examples, train
from interlingua.types import Utterance

CONTEXT = "speech+8"  # of the states: docs/encoding.md
PROMPTS: tuple[PromptKind, ...] = ("target-transcribe", "target-translate", "source-translate")
TOLERATED = -0.5  # chrF into English on dev: the share of a change that is kept loses no more, if any share does
PLAIN, PERMUTED = "plain", "permuted"
STUDY_KEYS = {"shares", "utterances"}  # of a variant, beside those of `FinetuneConfig`
OWN_BUSINESS = {  # settings of `FinetuneConfig` that the study itself decides
    *("manifest", "store", "context", "out", "target", "model", "train_split", "dev_split", "seed"),
    *("fisher", "others", "interpolate", "log"),
}
ANSWERS = 1  # raise it where code changes what a training gives: kept answers are refused then


@dataclass(frozen=True, kw_only=True)
class TransferStudy:
    """Settings of the study; the keys of its recipe.

    Attributes:
        out: the result folder.
        shared: folder of states, trainings and answers, which studies of one model can have together: answers that
            one has are not made again for another; default: ``out``.
        model: model spec.
        targets: languages to translate into.
        source: the language of the speech that is trained on.
        rotations: which fifths of the clusters are test, one training each.
        seeds: of the order of examples.
        settings: what all variants share, as in `FinetuneConfig`.
        variants: name -> settings of its own, or several of them among which dev chooses; ``plain`` has none.
            ``permuted``, if it is there, is the control whose texts are dealt out anew over the audio. Beside the
            settings of `FinetuneConfig`, ``shares`` lists the shares of the change among which dev chooses, too, and
            ``utterances`` says how many to train on.
    """

    out: Path
    shared: Path | None = None
    model: str = "base"
    targets: tuple[str, ...] = ("es",)
    source: str = "en"
    rotations: tuple[int, ...] = (0,)
    seeds: tuple[int, ...] = (0,)
    settings: dict[str, Any] = field(default_factory=dict)
    variants: dict[str, dict[str, Any] | list[dict[str, Any]]] = field(
        default_factory=lambda: {PLAIN: {}, PERMUTED: {}}
    )

    def __post_init__(self) -> None:
        """Check what can be checked before the work.

        Raises:
            UsageError: ``plain`` is missing, or a variant has a setting that there isn't.
        """
        if PLAIN not in self.variants:
            raise UsageError(f"variants: {PLAIN!r} is missing; the others are compared with it")
        known = {f.name for f in dataclasses.fields(FinetuneConfig)} - OWN_BUSINESS | STUDY_KEYS
        given = [("settings", self.settings), *((v, own) for v in self.variants for own in self.alternatives(v))]
        for name, own in given:
            for key in own:
                if key not in known:
                    raise UsageError(f"{name}: no setting {key!r}; there are {', '.join(sorted(known))}")
        for name in self.variants:
            if not self.candidates(name):
                raise UsageError(f"{name}: nothing to choose from; give it settings, and at least one share")
            for training, _ in self.candidates(name):
                try:
                    training.config(self.targets[0], 0, Path())
                except (UsageError, msgspec.ValidationError) as e:
                    raise UsageError(f"{name}: {e}") from e

    def plan(self) -> str:
        """What will be done, in a line."""
        n = len({run.name for run in self.runs()})
        return (
            f"{n} trainings ({', '.join(self.variants)}; targets {', '.join(self.targets)}; "
            f"{len(self.rotations)} rotations, {len(self.seeds)} seeds)"
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
            training = Training(self.model, variant == PERMUTED, settings)
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
    """

    model: str
    permuted: bool
    settings: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Short name of all that."""
        stated = json.dumps([self.model, CONTEXT, self.permuted, dict(self.settings)], sort_keys=True)
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


def run_transfer_study(
    study: TransferStudy, *, train: bool = True, dry_run: bool = False, log: Callable[[str], None] = print
) -> Path:
    """Run what isn't done yet, and write ``results.json``.

    Args:
        study: the settings.
        train: False: train nothing; variants that aren't done are left out of the results. (What the model says
            before training is asked, if it isn't kept yet.)
        dry_run: do nothing.
        log: takes a line of news.

    Raises:
        ResultsError: the shared folder was begun with another model.
        InterlinguaError: see the stages.
    """
    if dry_run:
        return study.out
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    device = best_device()
    compute = best_compute(device)
    utterances = prepare_prompts(log=log)
    corpus = hashlib.sha256(msgspec.json.encode([(u.id, u.cluster, u.text, u.translations) for u in utterances]))
    begun_with(
        (study.shared or study.out) / "shared.json",
        {
            "answers": ANSWERS,
            "model": study.model,
            "context": CONTEXT,
            "corpus": corpus.hexdigest(),
            "device": device,
            "compute": compute,
        },
    )
    encoder = WhisperEncoder(load_whisper(study.model, dtype=compute, device=device), context=CONTEXT)
    store, report = encode_manifest(utterances, encoder, (study.shared or study.out) / "frames.lance")
    log(f"{len(store)} utterances encoded; {len(report.failed)} are longer than the window and count as empty answers")
    work = _Work(study, utterances, store, compute, device)
    runs = list({run.name: run for run in study.runs()}.values())
    for done, run in enumerate(runs if train else []):
        minutes = (time.monotonic() - clock) / 60
        log(f"training {done + 1} of {len(runs)} into {run.target}: {run.training.settings} ({minutes:.0f} min so far)")
        work.do(run)
    results = {
        "title": f"Transfer: {study.source} speech into {', '.join(study.targets)}",
        "settings": {
            **{k: str(v) if isinstance(v, Path) else v for k, v in vars(study).items()},
            "test": "all rotations pooled, clusters resampled",
        },
        **work.results(),
        "provenance": provenance(compute, device, time.monotonic() - clock, started),
    }
    save_results(study.out, results)
    return study.out


class _Work:
    """What the trainings of a study share."""

    def __init__(
        self, study: TransferStudy, utterances: Sequence[Utterance], store: FrameStore, compute: str, device: str
    ) -> None:
        self.study, self.store, self.compute, self.device = study, store, compute, device
        self.languages = sorted({u.language for u in utterances})
        self.split = {r: split_by_cluster(utterances, r) for r in study.rotations}

    def part(self, rotation: int, name: str) -> list[Utterance]:
        """The utterances of a split."""
        return [u for u in self.split[rotation] if u.split == name]

    def heard(self, rotation: int) -> list[Utterance]:
        """Dev and test: what is asked about."""
        return self.part(rotation, "dev") + self.part(rotation, "test")

    def questions(self, whisper: Whisper, target: str, prompt: PromptKind) -> list[Question]:
        """All that is asked of a trained model."""
        return new_questions(whisper, self.languages, target, prompt) + old_questions(whisper, self.languages)

    def untrained(self, rotation: int, target: str, prompt: PromptKind) -> Outputs:
        """Answers before training; the old questions are the same for all targets."""
        old = kept(self._before(rotation, "old"), lambda: self._ask(old_questions, rotation, "before"))
        make = lambda: self._ask(  # noqa: E731  # used once, beside its name
            lambda w, languages: new_questions(w, languages, target, prompt), rotation, f"before, {prompt}"
        )
        return {**kept(self._before(rotation, f"{target}-{prompt}"), make), **old}

    def do(self, run: Run) -> None:
        """Train and ask, at all shares of this training that are asked for, unless that is done."""
        asked_for = [r for r in self.study.runs() if r.name == run.name]
        missing = [r for r in asked_for if not self.is_done(r)]
        if not missing:
            return
        folder = self._folder(run)
        config = run.training.config(run.target, run.seed, folder)
        write_text(folder / "settings.json", json.dumps({**run.training.settings, "permuted": run.training.permuted}))
        whisper = load_whisper(self.study.model, device=self.device)
        questions = self.questions(whisper, run.target, config.prompt)
        new = [u for u in self.part(run.rotation, "train") if u.language in config.source and u.id in self.store]
        new = [u for u in new if run.target in u.translations]
        new = some_of(new, run.training.settings.get("utterances"), run.seed)
        examples = translation_examples(new, whisper, run.target, config.prompt)
        if run.training.permuted:
            examples = permuted(examples, run.seed)
        if config.rehearses or config.ewc:
            examples += self._rehearsal(whisper, run.rotation, config)
        asked = [q for q in questions if q.kind == "new" and q.source in config.source]
        change = train(
            whisper,
            examples,
            self.store,
            config,
            folder=folder / "checkpoints",
            dev=dev_scores(whisper, asked, self.part(run.rotation, "dev"), self.store),
            fisher=self._fisher(whisper, run, config) if config.ewc else None,
            compute=self.compute if config.compute == "auto" else config.compute,
            device=self.device,
        )
        for r in missing:
            change.apply(whisper, r.share)
            label = f"{r.name} at {r.share:g}"
            for part in self._parts(r):
                on_dev = [q for q in questions if q.kind in ("new", "translate")]
                some = questions if part == "test" else on_dev
                said = answers(whisper, some, self.part(r.rotation, part), self.store, f"{label}, {part}")
                write_text(self._answers(r, part), json.dumps(said, ensure_ascii=False, indent=0) + "\n")
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)

    def is_done(self, run: Run) -> bool:
        """Whether all answers are there."""
        return all(self._answers(run, part).exists() for part in self._parts(run))

    def said(self, run: Run, part: str = "test") -> Outputs:
        """The answers of a run."""
        return dict(json.loads(self._answers(run, part).read_text(encoding="utf-8")))

    def _parts(self, run: Run) -> list[str]:
        """Dev is asked where it chooses."""
        variants = [v for v in self.study.variants if len(self.study.candidates(v)) > 1]
        chosen = any((run.training, run.share) in self.study.candidates(v) for v in variants)
        return ["dev", "test"] if chosen else ["test"]

    def results(self) -> dict[str, Any]:
        """Choice on dev, scores on test; benchmarks/transfer.py says what the parts mean."""
        found: dict[str, Any] = {"transfer": [], "transfer_pooled": [], "pareto": [], "study": []}
        for target in self.study.targets:
            cells = [(r, s) for r in self.study.rotations for s in self.study.seeds]
            prompt = {r: self._best_prompt(target, r) for r in self.study.rotations}
            before = {r: self.untrained(r, target, prompt[r]) for r in self.study.rotations}
            runs = {v: self._runs(v, target, cells) for v in self.study.variants}
            variants = [v for v in runs if all(self.is_done(r) for choice in runs[v].values() for r in choice.values())]
            chosen = {v: {r: self._choice(target, r, runs[v], before[r]) for r in prompt} for v in variants}
            after = {v: {c: self.said(runs[v][chosen[v][c[0]]][c]) for c in cells} for v in variants}
            for variant in variants if PLAIN in variants else []:
                sources = next(iter(chosen[variant].values()))[0].sources
                row = {
                    "target": target,
                    "variant": variant,
                    "chosen": [{"rotation": r, **t.settings, "share": s} for r, (t, s) in chosen[variant].items()],
                    "candidates": len(runs[variant]),
                    "untrained_prompts": list(prompt.values()),
                    **self._measured(target, variant, sources, cells, before, after),
                }
                found["study"].append(row)
                if row["new_unseen"]:
                    point = {"gain": row["new_unseen"], "loss": row["into_english"]}
                    curve = self._curve(target, sources, runs[variant], before)
                    found["pareto"].append({"name": variant, "target": target, **point, "curve": curve})
        return found

    def _runs(
        self, variant: str, target: str, cells: Sequence[tuple[int, int]]
    ) -> dict[tuple[Training, float], dict[tuple[int, int], Run]]:
        """The runs of each of a variant's candidates, by rotation and seed."""
        return {(t, s): {c: Run(target, *c, t, s) for c in cells} for t, s in self.study.candidates(variant)}

    def _curve(
        self,
        target: str,
        sources: Sequence[str],
        runs: Mapping[tuple[Training, float], Mapping[tuple[int, int], Run]],
        before: Mapping[int, Outputs],
    ) -> list[list[float]] | None:
        """Gain and loss on test of every share of one training's change, from none on; None: there is one share."""
        if len({training.digest for training, _ in runs}) > 1 or len(runs) == 1:
            return None
        keys = [
            [f"new {s}-{target}" for s in self.languages if s != target and s not in sources],
            [f"translate {s}-en" for s in self.languages if s != "en"],
        ]

        def scores(said: Mapping[tuple[int, int], Outputs]) -> list[float]:
            pools = [[self._system(c, key, side) for c, side in said.items() for key in some] for some in keys]
            return [pooled_draws(pool, "chrf", samples=1)[0] for pool in pools]

        points = [[0.0, 0.0]]
        for _, by_cell in sorted(runs.items(), key=lambda item: item[0][1]):
            start = scores({c: before[c[0]] for c in by_cell})
            points.append(
                [a - b for a, b in zip(scores({c: self.said(r) for c, r in by_cell.items()}), start, strict=True)]
            )
        return points

    def _measured(
        self,
        target: str,
        variant: str,
        sources: Sequence[str],
        cells: Sequence[tuple[int, int]],
        before: Mapping[int, Outputs],
        after: Mapping[str, Mapping[tuple[int, int], Outputs]],
    ) -> dict[str, Any]:
        unseen = [lang for lang in self.languages if lang != target and lang not in sources]
        abroad = [lang for lang in self.languages if lang != "en"]
        untrained = {c: before[c[0]] for c in cells}
        mine, plain = after[variant], after[PLAIN]
        control = after.get(PERMUTED)
        strange = [s for s in unseen if s not in self.study.candidates(PLAIN)[0][0].sources]  # to plain, too

        def against(other: Mapping[tuple[int, int], Outputs], kind: str, spoken: Sequence[str], to: str) -> Any:
            groups = [
                self._compared(c, f"{kind} {s}-{to}", mine[c], other[c]) for c in cells for s in spoken if s != to
            ]
            return as_row(pooled_difference(groups, metric="chrf")) if groups else None

        row = {
            "sources": list(sources),
            "new_unseen": against(untrained, "new", unseen, target),
            "new_source": against(untrained, "new", sources, target),
            "new_all": against(untrained, "new", [*sources, *unseen], target),
            "into_english": against(untrained, "translate", abroad, "en"),
            "by_language": {
                s: {
                    "untrained": against(untrained, "new", [s], target),
                    PERMUTED: control and against(control, "new", [s], target),
                }
                for s in self.languages
                if s != target
            },
            "unseen_against_permuted": control and against(control, "new", unseen, target),
            "errors": self._errors(cells, untrained, mine),
            "share_of_plain": self._share_of_plain(target, strange, cells, mine, plain, untrained),
            "share_of_plain_all": self._share_of_plain(target, [*sources, *unseen], cells, mine, plain, untrained),
        }
        row["table"] = self._table(untrained, mine, sources)
        row["chrf_unseen"] = {
            name: pooled_draws([self._system(c, f"new {s}-{target}", side[c]) for c in cells for s in unseen], "chrf")[
                0
            ]
            for name, side in {"mine": mine, "plain": plain, "untrained": untrained}.items()
            if unseen
        }
        return row

    def _table(
        self,
        before: Mapping[tuple[int, int], Outputs],
        after: Mapping[tuple[int, int], Outputs],
        sources: Sequence[str],
    ) -> list[dict[str, Any]]:
        """Rows by direction, of all rotations' tests together (no utterance is in two of them); of the first seed."""
        tested = {r: {u.id for u in self.part(r, "test")} for r in self.study.rotations}
        was, now = (
            {
                key: {i: t for r in tested for i, t in side[r, self.study.seeds[0]][key].items() if i in tested[r]}
                for key in _only(side[self.study.rotations[0], self.study.seeds[0]], ("new", "translate"))
            }
            for side in (before, after)
        )
        return transfer_rows(was, now, [u for r in tested for u in self.part(r, "test")], sources)

    def _share_of_plain(
        self,
        target: str,
        spoken: Sequence[str],
        cells: Sequence[tuple[int, int]],
        mine: Mapping[tuple[int, int], Outputs],
        plain: Mapping[tuple[int, int], Outputs],
        untrained: Mapping[tuple[int, int], Outputs],
    ) -> dict[str, Any]:
        """What part of plain fine-tuning's gain over the best untrained prompt a variant has, drawn together.

        None where plain has no gain to speak of: it or its interval isn't above 0.
        """
        if not spoken:
            return {"value": None, "ci": None}
        value, draws = {}, {}
        for name, side in {"mine": mine, "plain": plain, "untrained": untrained}.items():
            groups = [self._system(c, f"new {s}-{target}", side[c]) for c in cells for s in spoken if s != target]
            value[name], draws[name] = pooled_draws(groups, "chrf")
        gain, whole = (draws[n] - draws["untrained"] for n in ("mine", "plain"))
        most = value["plain"] - value["untrained"]
        if not most > 0 or not np.percentile(whole, 2.5) > 0:
            return {"value": None, "ci": None}
        low, high = np.percentile(gain / whole, [2.5, 97.5])
        return {"value": (value["mine"] - value["untrained"]) / most, "ci": [float(low), float(high)]}

    def _errors(
        self,
        cells: Sequence[tuple[int, int]],
        before: Mapping[tuple[int, int], Outputs],
        after: Mapping[tuple[int, int], Outputs],
    ) -> dict[str, list[float]]:
        """Error rates before and after, per cent, means over languages and cells: transcripts, and languages named."""
        found: dict[str, list[list[float]]] = {"transcribe": [], "detect": []}
        for c in cells:
            for row in transfer_rows(_only(before[c], found), _only(after[c], found), self.part(c[0], "test"), ()):
                found[row["task"]].append([row["error"][side]["value"] for side in ("before", "after")])
        return {task: np.mean(values, axis=0).tolist() for task, values in found.items() if values}

    def _best_prompt(self, target: str, rotation: int) -> PromptKind:
        """The untrained prompt that does best on a rotation's dev, all sources pooled."""
        sources = [lang for lang in self.languages if lang != target]

        def score(prompt: PromptKind) -> float:
            said = self.untrained(rotation, target, prompt)
            groups = [self._system((rotation, 0), f"new {s}-{target}", said, "dev") for s in sources]
            return pooled_draws(groups, "chrf", samples=1)[0]

        return max(PROMPTS, key=score)

    def _choice(
        self,
        target: str,
        rotation: int,
        runs: Mapping[tuple[Training, float], Mapping[tuple[int, int], Run]],
        before: Outputs,
    ) -> tuple[Training, float]:
        """The candidate with the best new target on a rotation's dev among those that lose little enough there.

        Each rotation chooses for itself: the dev set of one is the test set of another.
        """
        if len(runs) == 1:
            return next(iter(runs))
        sources = [lang for lang in self.languages if lang != target]
        abroad = [lang for lang in self.languages if lang != "en"]
        scores = {}
        for choice, by_cell in runs.items():
            said = {c: self.said(run, "dev") for c, run in by_cell.items() if c[0] == rotation}
            new = [self._system(c, f"new {s}-{target}", said[c], "dev") for c in said for s in sources]
            old, was = (
                [self._system(c, f"translate {s}-en", side[c], "dev") for c in said for s in abroad]
                for side in (said, dict.fromkeys(said, before))
            )
            gained, kept_now, kept_before = (pooled_draws(groups, "chrf", samples=1)[0] for groups in (new, old, was))
            lost = min(0.0, kept_now - kept_before - TOLERATED)
            scores[choice] = (lost, gained)  # if all lose more than that, the one that loses least
        return max(scores, key=lambda c: scores[c])

    def _system(self, cell: tuple[int, int], key: str, said: Outputs, part: str = "test") -> SystemOutputs:
        source, target = key.split(" ")[1].split("-")
        utterances = self.part(cell[0], part)
        expected = references(utterances, source, target)
        clusters = {u.id: u.cluster or u.id for u in utterances}
        return SystemOutputs({i: t for i, t in said[key].items() if i in expected}, expected, clusters, target)

    def _compared(self, cell: tuple[int, int], key: str, after: Outputs, before: Outputs) -> Comparison:
        now, was = self._system(cell, key, after), self._system(cell, key, before)
        return Comparison(now.hypotheses, was.hypotheses, now.references, now.clusters, now.target)

    def _ask(self, make: Callable[[Whisper, Sequence[str]], list[Question]], rotation: int, label: str) -> Outputs:
        whisper = load_whisper(self.study.model, device=self.device)
        return answers(whisper, make(whisper, self.languages), self.heard(rotation), self.store, label)

    def _rehearsal(self, whisper: Whisper, rotation: int, config: FinetuneConfig) -> list[Example]:
        heard_as = config.rehearse_as
        name = (
            f"{rotation}-{'-'.join(config.rehearse or ['all'])}-as-{'-'.join(heard_as)}" if heard_as else str(rotation)
        )
        wanted = config.rehearse or tuple(self.languages)
        spoken = [u for u in self.part(rotation, "train") if not heard_as or u.language in wanted]
        made = kept_examples(
            self._shared / "rehearsal" / f"{name}.json",
            lambda: rehearsal_examples(whisper, spoken, self.store, heard_as=heard_as),
        )
        language = {u.id: u.language for u in self.split[rotation]}
        return [e for e in made if language[e.utterance] in wanted]

    def _fisher(self, whisper: Whisper, run: Run, config: FinetuneConfig) -> Path:
        about = json.dumps(fisher_of(whisper, config), sort_keys=True)
        name = hashlib.sha256(about.encode()).hexdigest()[:10]
        return self._shared / "fisher" / f"{run.rotation}-{run.seed}-{name}.safetensors"

    def _folder(self, run: Run) -> Path:
        return self._shared / "trainings" / run.name

    def _answers(self, run: Run, part: str) -> Path:
        return self._folder(run) / f"{part}-{run.share:g}.json"

    def _before(self, rotation: int, what: str) -> Path:
        return self._shared / "before" / f"{rotation}-{what}.json"

    @property
    def _shared(self) -> Path:
        return self.study.shared or self.study.out


def some_of(utterances: Sequence[Utterance], number: int | None, seed: int) -> list[Utterance]:
    """So many utterances, drawn; a smaller draw is part of a larger one. None: all."""
    order = np.random.default_rng(seed).permutation(len(utterances))[:number]
    return [utterances[i] for i in sorted(order)]


def permuted(examples: Sequence[Example], seed: int) -> list[Example]:
    """The control: every text goes to another utterance's audio; what is learnt then is the domain's text alone."""
    order = np.random.default_rng(seed).permutation(len(examples))
    turned = {int(a): int(b) for a, b in zip(order, np.roll(order, 1), strict=True)}
    return [dataclasses.replace(e, labels=examples[turned[i]].labels) for i, e in enumerate(examples)]


def _only(said: Outputs, kinds: Iterable[str]) -> Outputs:
    return {key: texts for key, texts in said.items() if key.partition(" ")[0] in kinds}
