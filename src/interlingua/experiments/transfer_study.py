"""The transfer study: fine-tunings with and without remedies, and controls, compared at equal budget.

Everything is split by near-duplicate cluster and rotated; what a variant leaves open (the share of the change that is
kept) is chosen on dev; all is measured on test. Every answer is kept, so an interrupted study goes on where it was.
"""

import dataclasses
import datetime
import json
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from interlingua.corpora import prepare_prompts, split_by_cluster
from interlingua.encode import WhisperEncoder, best_compute, best_device, encode_manifest
from interlingua.errors import UsageError
from interlingua.experiments.finetuning import begun_with, dev_scores, kept, kept_examples
from interlingua.experiments.transfer import (
    Outputs,
    Question,
    answers,
    new_questions,
    old_questions,
    references,
    transfer_rows,
)
from interlingua.metrics import Comparison, SystemOutputs, pooled_difference, pooled_draws
from interlingua.models import Whisper, load_whisper
from interlingua.results import provenance, save_results
from interlingua.store import FrameStore
from interlingua.transfer.config import FinetuneConfig, PromptKind
from interlingua.transfer.examples import Example, translation_examples
from interlingua.transfer.finetune import rehearsal_examples, train
from interlingua.types import Utterance

CONTEXT = "speech+8"  # of the states: docs/encoding.md
PROMPTS: tuple[PromptKind, ...] = ("target-transcribe", "target-translate", "source-translate")
TOLERATED = -0.5  # chrF into English on dev: the share of a change that is kept loses no more, if any share does
PLAIN, PERMUTED = "plain", "permuted"
STUDY_KEYS = {"shares", "utterances"}  # of a variant, beside those of `FinetuneConfig`


@dataclass(frozen=True, kw_only=True)
class TransferStudy:
    """Settings of the study; the keys of its recipe.

    Attributes:
        out: the result folder; answers and checkpoints are kept in it.
        shared: folder of what doesn't depend on a training (states, answers before it, what is rehearsed), which
            several studies of one model can have together; default: ``out``.
        model: model spec.
        targets: languages to translate into.
        source: the language of the speech that is trained on.
        rotations: which fifths of the clusters are test, one training each.
        seeds: of the order of examples.
        settings: what all variants share, as in `FinetuneConfig`.
        variants: name -> settings of its own; ``plain`` has none. ``permuted``, if it is there, is the control whose
            texts are dealt out anew over the audio. Beside the settings of `FinetuneConfig`, ``shares`` lists the
            shares of the change among which dev chooses, and ``utterances`` says how many to train on. Variants that
            differ in ``shares`` alone are trained once.
    """

    out: Path
    shared: Path | None = None
    model: str = "base"
    targets: tuple[str, ...] = ("es",)
    source: str = "en"
    rotations: tuple[int, ...] = (0,)
    seeds: tuple[int, ...] = (0,)
    settings: dict[str, Any] = field(default_factory=dict)
    variants: dict[str, dict[str, Any]] = field(default_factory=lambda: {PLAIN: {}, PERMUTED: {}})

    def __post_init__(self) -> None:
        """Check what can be checked before the work.

        Raises:
            UsageError: ``plain`` is missing, or a variant has a setting that there isn't.
        """
        if PLAIN not in self.variants:
            raise UsageError(f"variants: {PLAIN!r} is missing; the others are compared with it")
        known = {f.name for f in dataclasses.fields(FinetuneConfig)} | STUDY_KEYS
        for name, own in {"settings": self.settings, **self.variants}.items():
            for key in own:
                if key not in known:
                    raise UsageError(f"{name}: no setting {key!r}; there are {', '.join(sorted(known))}")

    def plan(self) -> str:
        """What will be done, in a line."""
        trained = {self.trained_as(v) for v in self.variants}
        n = len(self.targets) * len(self.rotations) * len(self.seeds) * len(trained)
        return (
            f"{n} trainings ({', '.join(self.variants)}; targets {', '.join(self.targets)}; "
            f"{len(self.rotations)} rotations, {len(self.seeds)} seeds)"
        )

    def config(self, variant: str, target: str, seed: int, folder: Path) -> FinetuneConfig:
        """The fine-tuning of one variant."""
        own = {**self.settings, **self.variants[variant]}
        own = {k: tuple(v) if isinstance(v, list) else v for k, v in own.items() if k not in STUDY_KEYS}
        fixed = {"manifest": self.out, "store": (str(self.out),), "out": folder, "target": target, "seed": seed}
        return FinetuneConfig(**{**fixed, "source": (self.source,), "model": self.model, **own})

    def sources(self, variant: str) -> tuple[str, ...]:
        """Languages of the speech that a variant is trained on."""
        return tuple(self.variants[variant].get("source", (self.source,)))

    def shares(self, variant: str) -> tuple[float, ...]:
        """Shares of the change that a variant is asked at."""
        return tuple(self.variants[variant].get("shares", (1.0,)))

    def trained_as(self, variant: str) -> str:
        """The first variant with the same training."""
        if variant == PERMUTED:
            return variant
        mine = _without_shares(self.variants[variant])
        return next(v for v, own in self.variants.items() if v != PERMUTED and _without_shares(own) == mine)


@dataclass(frozen=True)
class Run:
    """One training: a target, which fifth is test, a seed, and a variant; ``share`` of its change is applied."""

    target: str
    rotation: int
    seed: int
    variant: str
    share: float = 1.0

    @property
    def training(self) -> str:
        """Name of what is trained."""
        return f"{self.target}-{self.rotation}-{self.seed}-{self.variant}"


def run_transfer_study(study: TransferStudy, *, train: bool = True, log: Callable[[str], None] = print) -> Path:
    """Run what isn't done yet, and write ``results.json``.

    Args:
        study: the settings.
        train: False: train nothing; variants that aren't done are left out of the results.
        log: takes a line of news.

    Raises:
        ResultsError: the folder was begun with other settings.
        InterlinguaError: see the stages.
    """
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    trained = {v: _without_shares(own) for v, own in study.variants.items()}
    fixed = {"model": study.model, "source": study.source, "settings": study.settings}
    begun_with((study.shared or study.out) / "shared.json", {"model": study.model, "context": CONTEXT})
    begun_with(study.out / "study.json", {**fixed, **{f"variant {v}": own for v, own in trained.items()}})
    device = best_device()
    compute = best_compute(device)
    utterances = prepare_prompts(log=log)
    encoder = WhisperEncoder(load_whisper(study.model, dtype=compute, device=device), context=CONTEXT)
    store, report = encode_manifest(utterances, encoder, (study.shared or study.out) / "frames.lance")
    log(f"{len(store)} utterances encoded; {len(report.failed)} are longer than the window and count as empty answers")
    work = _Work(study, utterances, store, compute, device)
    runs = [
        Run(target, rotation, seed, variant)
        for variant in dict.fromkeys(study.trained_as(v) for v in study.variants)
        for target in study.targets
        for rotation in study.rotations
        for seed in study.seeds
    ]
    for done, run in enumerate(runs if train else []):
        log(f"training {done + 1} of {len(runs)}: {run.training} ({(time.monotonic() - clock) / 60:.0f} min so far)")
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
        """Train and ask, at the shares of all variants with this training, unless that is done."""
        alike = [v for v in self.study.variants if self.study.trained_as(v) == run.variant]
        shares = sorted({s for v in alike for s in self.study.shares(v)}, reverse=True)
        missing = [s for s in shares if not self._path(dataclasses.replace(run, share=s)).exists()]
        if not missing:
            return
        folder = self.study.out / "checkpoints" / run.training
        config = self.study.config(run.variant, run.target, run.seed, folder)
        whisper = load_whisper(self.study.model, device=self.device)
        questions = self.questions(whisper, run.target, config.prompt)
        new = [u for u in self.part(run.rotation, "train") if u.language in config.source and u.id in self.store]
        new = [u for u in new if run.target in u.translations]
        new = some_of(new, self.study.variants[run.variant].get("utterances"), run.seed)
        examples = translation_examples(new, whisper, run.target, config.prompt)
        if run.variant == PERMUTED:
            examples = permuted(examples, run.seed)
        if config.rehearses or config.ewc:
            examples += self._rehearsal(whisper, run.rotation, config)
        asked = [q for q in questions if q.kind == "new" and q.source in config.source]
        change = train(
            whisper,
            examples,
            self.store,
            config,
            folder=folder,
            dev=dev_scores(whisper, asked, self.part(run.rotation, "dev"), self.store),
            compute=self.compute,
            device=self.device,
        )
        for share in missing:
            change.apply(whisper, share)
            at = dataclasses.replace(run, share=share)
            kept(
                self._path(at),
                lambda at=at: self._questioned(whisper, questions, at),  # type: ignore[misc]  # no type by default
            )
        shutil.rmtree(folder, ignore_errors=True)

    def _questioned(self, whisper: Whisper, questions: Sequence[Question], run: Run) -> Outputs:
        """Everything on test; on dev what the choice of a share reads."""
        chosen = any(
            len(self.study.shares(v)) > 1 for v in self.study.variants if self.study.trained_as(v) == run.variant
        )
        needed = {"new", "translate"} if chosen else set()
        label = f"{run.training} at {run.share:g}"
        said = answers(whisper, questions, self.part(run.rotation, "test"), self.store, f"{label}, test")
        some = [q for q in questions if q.kind in needed]
        dev = answers(whisper, some, self.part(run.rotation, "dev"), self.store, f"{label}, dev")
        return {key: {**texts, **dev.get(key, {})} for key, texts in said.items()}

    def said(self, run: Run) -> Outputs:
        """The answers of a run."""
        run = dataclasses.replace(run, variant=self.study.trained_as(run.variant))
        return dict(json.loads(self._path(run).read_text(encoding="utf-8")))

    def results(self) -> dict[str, Any]:
        """Choice on dev, scores on test; benchmarks/transfer.py says what the parts mean."""
        found: dict[str, Any] = {"transfer": [], "transfer_pooled": [], "pareto": [], "study": []}
        for target in self.study.targets:
            cells = [(r, s) for r in self.study.rotations for s in self.study.seeds]
            prompt = self._best_prompt(target)
            before = {r: self.untrained(r, target, prompt) for r in self.study.rotations}
            variants = [v for v in self.study.variants if self._is_done(v, target, cells)]
            chosen = {v: self._share(v, target, cells, before) for v in variants}
            after = {v: {c: self.said(Run(target, *c, v, chosen[v])) for c in cells} for v in variants}
            for variant in variants if PLAIN in variants else []:
                found["study"].append(
                    {
                        "target": target,
                        "variant": variant,
                        "share": chosen[variant],
                        "untrained_prompt": prompt,
                        **self._measured(target, variant, cells, before, after),
                    }
                )
                row = found["study"][-1]
                if row["new_unseen"] is None:
                    continue
                point = {"gain": row["new_unseen"], "loss": row["into_english"]}
                found["pareto"].append({"name": variant, "target": target, **point})
        return found

    def _is_done(self, variant: str, target: str, cells: Sequence[tuple[int, int]]) -> bool:
        runs = [Run(target, *c, self.study.trained_as(variant), s) for c in cells for s in self.study.shares(variant)]
        return all(self._path(run).exists() for run in runs)

    def _measured(
        self,
        target: str,
        variant: str,
        cells: Sequence[tuple[int, int]],
        before: Mapping[int, Outputs],
        after: Mapping[str, Mapping[tuple[int, int], Outputs]],
    ) -> dict[str, Any]:
        sources = self.study.sources(variant)
        unseen = [lang for lang in self.languages if lang != target and lang not in sources]
        abroad = [lang for lang in self.languages if lang != "en"]
        untrained = {c: before[c[0]] for c in cells}
        mine = after[variant]
        control = after.get(PERMUTED)

        def against(other: Mapping[tuple[int, int], Outputs], kind: str, spoken: Sequence[str], to: str) -> Any:
            groups = [
                self._compared(c, f"{kind} {s}-{to}", mine[c], other[c]) for c in cells for s in spoken if s != to
            ]
            return _as_dict(pooled_difference(groups, metric="chrf")) if groups else None

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
            "share_of_plain": self._share_of_plain(target, unseen, cells, mine, after[PLAIN], untrained),
            "share_of_plain_all": self._share_of_plain(
                target, [*sources, *unseen], cells, mine, after[PLAIN], untrained
            ),
        }
        row["table"] = self._table(untrained, mine, sources)
        row["chrf_unseen"] = {
            name: pooled_draws([self._system(c, f"new {s}-{target}", side[c]) for c in cells for s in unseen], "chrf")[
                0
            ]
            for name, side in {"mine": mine, "plain": after[PLAIN], "untrained": untrained}.items()
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
        """What part of plain fine-tuning's gain over the best untrained prompt a variant has, drawn together."""
        value, draws = {}, {}
        for name, side in {"mine": mine, "plain": plain, "untrained": untrained}.items():
            groups = [self._system(c, f"new {s}-{target}", side[c]) for c in cells for s in spoken if s != target]
            value[name], draws[name] = pooled_draws(groups, "chrf")
        gain, whole = (draws[n] - draws["untrained"] for n in ("mine", "plain"))
        low, high = np.percentile(gain / np.where(np.abs(whole) < 1e-9, np.nan, whole), [2.5, 97.5])
        most = value["plain"] - value["untrained"]
        return {
            "value": (value["mine"] - value["untrained"]) / most if most else None,
            "ci": [float(low), float(high)] if np.isfinite([low, high]).all() else None,
        }

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
        return {task: np.mean(values, axis=0).tolist() for task, values in found.items()}

    def _best_prompt(self, target: str) -> PromptKind:
        """The untrained prompt that does best on dev, all sources pooled."""
        sources = [lang for lang in self.languages if lang != target]

        def score(prompt: PromptKind) -> float:
            groups = [
                self._system((r, 0), f"new {s}-{target}", self.untrained(r, target, prompt), "dev")
                for r in self.study.rotations
                for s in sources
            ]
            return pooled_draws(groups, "chrf", samples=1)[0]

        return max(PROMPTS, key=score)

    def _share(
        self, variant: str, target: str, cells: Sequence[tuple[int, int]], before: Mapping[int, Outputs]
    ) -> float:
        """The share with the best new target on dev among those that lose no more than is tolerated there."""
        sources = [lang for lang in self.languages if lang != target]
        abroad = [lang for lang in self.languages if lang != "en"]
        scores = {}
        if len(self.study.shares(variant)) == 1:
            return self.study.shares(variant)[0]
        for share in self.study.shares(variant):
            said = {c: self.said(Run(target, *c, variant, share)) for c in cells}
            new = [self._system(c, f"new {s}-{target}", said[c], "dev") for c in cells for s in sources]
            old, was = (
                [self._system(c, f"translate {s}-en", side[c], "dev") for c in cells for s in abroad]
                for side in (said, {c: before[c[0]] for c in cells})
            )
            values = [pooled_draws(groups, "chrf", samples=1)[0] for groups in (new, old, was)]
            scores[share] = (values[1] - values[2] >= TOLERATED, values[0])
        return max(scores, key=lambda s: scores[s])

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
        made = kept_examples(
            self._shared / "rehearsal" / f"{rotation}.json",
            lambda: rehearsal_examples(whisper, self.part(rotation, "train"), self.store),
        )
        language = {u.id: u.language for u in self.split[rotation]}
        return [e for e in made if language[e.utterance] in (config.rehearse or tuple(self.languages))]

    def _path(self, run: Run) -> Path:
        return self._answers(f"{run.training}-{run.share:g}")

    def _answers(self, name: str) -> Path:
        return self.study.out / "answers" / f"{name}.json"

    def _before(self, rotation: int, what: str) -> Path:
        return self._shared / "before" / f"{rotation}-{what}.json"

    @property
    def _shared(self) -> Path:
        return self.study.shared or self.study.out


def some_of(utterances: Sequence[Utterance], number: int | None, seed: int) -> list[Utterance]:
    """So many utterances, drawn; a smaller draw is part of a larger one. None: all."""
    order = np.random.default_rng(seed).permutation(len(utterances))[:number]
    return [utterances[i] for i in sorted(order)]


def _without_shares(own: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in own.items() if k != "shares"}


def permuted(examples: Sequence[Example], seed: int) -> list[Example]:
    """The control: every text goes to another utterance's audio; what is learnt then is the domain's text alone."""
    order = np.random.default_rng(seed).permutation(len(examples))
    turned = {int(a): int(b) for a, b in zip(order, np.roll(order, 1), strict=True)}
    return [dataclasses.replace(e, labels=examples[turned[i]].labels) for i, e in enumerate(examples)]


def _only(said: Outputs, kinds: Iterable[str]) -> Outputs:
    return {key: texts for key, texts in said.items() if key.partition(" ")[0] in kinds}


def _as_dict(found: Any) -> dict[str, Any]:
    return {**found.score.as_dict(), "p_bootstrap": found.p_bootstrap, "p_randomisation": found.p_randomisation}
