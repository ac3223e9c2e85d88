"""The transfer study: fine-tunings with and without remedies, and controls, compared at equal budget.

Everything is split by near-duplicate cluster and rotated; what a variant leaves open (the share of the change that is
kept) is chosen on dev; all is measured on test. Every answer is kept, so an interrupted study goes on where it was.
"""

import dataclasses
import datetime
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from interlingua.corpora import prepare_prompts, split_by_cluster
from interlingua.encode import WhisperEncoder, best_compute, best_device, encode_manifest
from interlingua.errors import UsageError
from interlingua.experiments.finetuning import begun_with, dev_scores, kept
from interlingua.experiments.transfer import (
    Outputs,
    Question,
    answers,
    new_questions,
    old_questions,
    references,
)
from interlingua.files import write_text
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


@dataclass(frozen=True, kw_only=True)
class TransferStudy:
    """Settings of the study; the keys of its recipe.

    Attributes:
        out: the result folder; states, answers and checkpoints are kept in it.
        model: model spec.
        targets: languages to translate into.
        source: the language of the speech that is trained on.
        rotations: which fifths of the clusters are test, one training each.
        seeds: of the order of examples.
        settings: what all variants share, as in `FinetuneConfig`.
        variants: name -> settings of its own; ``plain`` has none, ``permuted`` is the control whose texts are dealt out
            anew over the audio. ``shares`` lists the shares of the change among which dev chooses.
    """

    out: Path
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
            UsageError: ``plain`` or ``permuted`` is missing, or a variant has a setting that there isn't.
        """
        for name in (PLAIN, PERMUTED):
            if name not in self.variants:
                raise UsageError(f"variants: {name!r} is missing; the others are compared with it")
        known = {f.name for f in dataclasses.fields(FinetuneConfig)} | {"shares"}
        for name, own in {"settings": self.settings, **self.variants}.items():
            for key in own:
                if key not in known:
                    raise UsageError(f"{name}: no setting {key!r}; there are {', '.join(sorted(known))}")

    def plan(self) -> str:
        """What will be done, in a line."""
        n = len(self.targets) * len(self.rotations) * len(self.seeds) * len(self.variants)
        return (
            f"{n} trainings ({', '.join(self.variants)}; targets {', '.join(self.targets)}; "
            f"{len(self.rotations)} rotations, {len(self.seeds)} seeds)"
        )

    def config(self, variant: str, target: str, seed: int, folder: Path) -> FinetuneConfig:
        """The fine-tuning of one variant."""
        own = {**self.settings, **self.variants[variant]}
        own = {k: tuple(v) if isinstance(v, list) else v for k, v in own.items() if k != "shares"}
        fixed = {"manifest": self.out, "store": str(self.out), "out": folder, "target": target, "seed": seed}
        return FinetuneConfig(**{**fixed, "source": (self.source,), "model": self.model, **own})


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


def run_transfer_study(study: TransferStudy, *, log: Callable[[str], None] = print) -> Path:
    """Run what isn't done yet, and write ``results.json``.

    Raises:
        ResultsError: the folder was begun with other settings.
        InterlinguaError: see the stages.
    """
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    trained = {v: {k: x for k, x in own.items() if k != "shares"} for v, own in study.variants.items()}
    shared = {"model": study.model, "source": study.source, "settings": study.settings}
    begun_with(study.out / "study.json", {**shared, **{f"variant {v}": own for v, own in trained.items()}})
    device = best_device()
    compute = best_compute(device)
    utterances = prepare_prompts(log=log)
    encoder = WhisperEncoder(load_whisper(study.model, dtype=compute, device=device), context=CONTEXT)
    store, report = encode_manifest(utterances, encoder, study.out / "frames.lance")
    log(f"{len(store)} utterances encoded; {len(report.failed)} are longer than the window and count as empty answers")
    work = _Work(study, utterances, store, compute, device)
    runs = [
        Run(target, rotation, seed, variant)
        for target in study.targets
        for rotation in study.rotations
        for seed in study.seeds
        for variant in study.variants
    ]
    for done, run in enumerate(runs):
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
        old = kept(self._answers(f"before-{rotation}"), lambda: self._ask(old_questions, rotation, "before"))
        make = lambda: self._ask(  # noqa: E731  # used once, beside its name
            lambda w, languages: new_questions(w, languages, target, prompt), rotation, f"before, {prompt}"
        )
        return {**kept(self._answers(f"before-{rotation}-{target}-{prompt}"), make), **old}

    def do(self, run: Run) -> None:
        """Train and ask, unless that is done."""
        shares = self.shares(run.variant)
        missing = [s for s in shares if not self._path(dataclasses.replace(run, share=s)).exists()]
        if not missing:
            return
        folder = self.study.out / "checkpoints" / run.training
        config = self.study.config(run.variant, run.target, run.seed, folder)
        whisper = load_whisper(self.study.model, device=self.device)
        questions = self.questions(whisper, run.target, config.prompt)
        new = [u for u in self.part(run.rotation, "train") if u.language == self.study.source and u.id in self.store]
        new = [u for u in new if run.target in u.translations]
        examples = translation_examples(new, whisper, run.target, config.prompt)
        if run.variant == PERMUTED:
            examples = permuted(examples, run.seed)
        if config.rehearses or config.ewc:
            examples += self._rehearsal(whisper, run.rotation, config)
        asked = [q for q in questions if q.kind == "new" and q.source == self.study.source]
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
        needed = {"new", "translate"} if len(self.shares(run.variant)) > 1 else {"new"}
        label = f"{run.training} at {run.share:g}"
        said = answers(whisper, questions, self.part(run.rotation, "test"), self.store, f"{label}, test")
        some = [q for q in questions if q.kind in needed]
        dev = answers(whisper, some, self.part(run.rotation, "dev"), self.store, f"{label}, dev")
        return {key: {**texts, **dev.get(key, {})} for key, texts in said.items()}

    def shares(self, variant: str) -> tuple[float, ...]:
        """Shares of the change that a variant is asked at."""
        return tuple(self.study.variants[variant].get("shares", (1.0,)))

    def said(self, run: Run) -> Outputs:
        """The answers of a run."""
        return dict(json.loads(self._path(run).read_text(encoding="utf-8")))

    def results(self) -> dict[str, Any]:
        """Choice on dev, scores on test; benchmarks/transfer.py says what the parts mean."""
        found: dict[str, Any] = {"transfer": [], "transfer_pooled": [], "pareto": [], "study": []}
        for target in self.study.targets:
            cells = [(r, s) for r in self.study.rotations for s in self.study.seeds]
            prompt = self._best_prompt(target)
            before = {r: self.untrained(r, target, prompt) for r in self.study.rotations}
            chosen = {v: self._share(v, target, cells, before) for v in self.study.variants}
            after = {v: {c: self.said(Run(target, *c, v, chosen[v])) for c in cells} for v in self.study.variants}
            for variant in self.study.variants:
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
                point = {"gain": row["new_unseen"], "loss": row["into_english"]}
                found["pareto"].append({"name": variant, "target": target, **point})
        return found

    def _measured(
        self,
        target: str,
        variant: str,
        cells: Sequence[tuple[int, int]],
        before: Mapping[int, Outputs],
        after: Mapping[str, Mapping[tuple[int, int], Outputs]],
    ) -> dict[str, Any]:
        unseen = [lang for lang in self.languages if lang not in (target, self.study.source)]
        abroad = [lang for lang in self.languages if lang != "en"]
        untrained = {c: before[c[0]] for c in cells}
        mine = after[variant]

        def against(other: Mapping[tuple[int, int], Outputs], kind: str, sources: Sequence[str], to: str) -> Any:
            groups = [self._compared(c, f"{kind} {s}-{to}", mine[c], other[c]) for c in cells for s in sources]
            return _as_dict(pooled_difference(groups, metric="chrf"))

        row = {
            "new_unseen": against(untrained, "new", unseen, target),
            "new_source": against(untrained, "new", [self.study.source], target),
            "into_english": against(untrained, "translate", abroad, "en"),
            "by_language": {
                s: {
                    "untrained": against(untrained, "new", [s], target),
                    PERMUTED: against(after[PERMUTED], "new", [s], target),
                }
                for s in unseen
            },
            "unseen_against_permuted": against(after[PERMUTED], "new", unseen, target),
        }
        keys = [f"new {s}-{target}" for s in unseen]
        draws = {
            name: pooled_draws([self._system(c, k, side[c]) for c in cells for k in keys], "chrf")
            for name, side in {"mine": mine, "plain": after[PLAIN], "untrained": untrained}.items()
        }
        gain, plain = (draws[n][1] - draws["untrained"][1] for n in ("mine", "plain"))
        low, high = np.percentile(gain / np.where(np.abs(plain) < 1e-9, np.nan, plain), [2.5, 97.5])
        whole = draws["plain"][0] - draws["untrained"][0]
        row["share_of_plain"] = {
            "value": (draws["mine"][0] - draws["untrained"][0]) / whole if whole else None,
            "ci": [float(low), float(high)] if np.isfinite([low, high]).all() else None,
        }
        row["chrf_unseen"] = {name: values[0] for name, values in draws.items()}
        return row

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
        if len(self.shares(variant)) == 1:
            return self.shares(variant)[0]
        for share in self.shares(variant):
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
        path = self.study.out / "rehearsal" / f"{rotation}.json"
        if not path.exists():
            made = rehearsal_examples(whisper, self.part(rotation, "train"), self.store)
            write_text(path, json.dumps([dataclasses.asdict(e) for e in made]))
        read = json.loads(path.read_text(encoding="utf-8"))
        language = {u.id: u.language for u in self.split[rotation]}
        wanted = config.rehearse or tuple(self.languages)
        return [
            Example(e["utterance"], tuple(e["prompt"]), tuple(e["labels"]), e["rehearsal"])
            for e in read
            if language[e["utterance"]] in wanted
        ]

    def _path(self, run: Run) -> Path:
        return self._answers(f"{run.training}-{run.share:g}")

    def _answers(self, name: str) -> Path:
        return self.study.out / "answers" / f"{name}.json"


def permuted(examples: Sequence[Example], seed: int) -> list[Example]:
    """The control: every text goes to another utterance's audio; what is learnt then is the domain's text alone."""
    order = np.random.default_rng(seed).permutation(len(examples))
    turned = {int(a): int(b) for a, b in zip(order, np.roll(order, 1), strict=True)}
    return [dataclasses.replace(e, labels=examples[turned[i]].labels) for i, e in enumerate(examples)]


def _as_dict(found: Any) -> dict[str, Any]:
    return {**found.score.as_dict(), "p_bootstrap": found.p_bootstrap, "p_randomisation": found.p_randomisation}
