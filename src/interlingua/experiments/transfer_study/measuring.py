"""What the transfer study found: the choice on dev, and each variant's scores on each test beside the untrained."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from interlingua.errors import CometError
from interlingua.experiments.comet_scores import comet_change, kept_comet
from interlingua.experiments.published import UNKNOWN, read_published
from interlingua.experiments.transfer import (
    ENGLISH,
    Outputs,
    as_row,
    each_answer,
    pooled_change,
    references,
    text_statistics,
    transfer_rows,
)
from interlingua.experiments.transfer_study.settings import DEV, PERMUTED, PLAIN, Run, Training
from interlingua.experiments.transfer_study.work import Work
from interlingua.languages import PromptKind
from interlingua.metrics import (
    Cell,
    CometScores,
    SystemOutputs,
    TextMetric,
    comet_segments,
    draws,
    pooled_difference,
    pooled_value,
)
from interlingua.metrics.comet import Segment
from interlingua.progress import track
from interlingua.results import UtteranceResult

PROMPTS: tuple[PromptKind, ...] = ("target-transcribe", "target-translate", "source-translate")
UNTRAINED = "untrained"
MEASURES = ("bleu", "chrf", "comet")
EXAMPLE = '{"transfer": [{"test": "fleurs", "variant": "plain", "source": "fr", "target": "zh", "bleu": 20.5}]}'

Said = Mapping[Cell, Outputs]
Sides = tuple[list[SystemOutputs], list[SystemOutputs]]
"""What a model says in each cell."""

Candidates = Mapping[tuple[Training, float], Mapping[Cell, Run]]
"""The runs of each of a variant's candidates."""


@dataclass(frozen=True, eq=False)
class _Found:
    """What was said in one test: by the untrained model under its best prompt, and by each variant as chosen."""

    target: str
    test: str
    prompts: Mapping[int, PromptKind]
    chosen: Mapping[str, Mapping[int, tuple[Training, float]]]
    before: Mapping[int, Outputs]
    after: Mapping[str, Said]

    @property
    def sources(self) -> dict[str, tuple[str, ...]]:
        """Variant -> languages that it was trained on."""
        return {v: next(iter(choice.values()))[0].sources for v, choice in self.chosen.items()}


@dataclass(frozen=True, eq=False)
class Measuring:
    """Scores of a study's answers."""

    work: Work

    @property
    def cells(self) -> list[Cell]:
        """All rotations and seeds."""
        study = self.work.study
        return [(r, s) for r in study.rotations for s in study.seeds]

    def results(self) -> dict[str, Any]:
        """Rows by target, variant and test; variants that aren't done are left out. See `interlingua.results`."""
        study = self.work.study
        told = self._told
        comet = self._comet(told)
        found: dict[str, Any] = {"transfer": [], "transfer_pooled": [], "pareto": [], "study": []}
        asked = [(one, variant) for one in told if PLAIN in one.chosen for variant in one.chosen]
        with track(len(asked), "scoring") as advance:
            for one, variant in asked:
                row = self._row(one, variant, comet)
                found["study"].append(row)
                if row["new_unseen"] and row["into_english"]:
                    point = {"gain": row["new_unseen"], "loss": row["into_english"]}
                    runs = self.candidates(variant, one.target)
                    curve = self.curve(one.target, row["sources"], runs, one.before, one.test)
                    where = {"test": one.test} if study.corpora else {}
                    found["pareto"].append({"name": variant, "target": one.target, **where, **point, "curve": curve})
                advance(1)
        found["published_transfer"] = self._published(found["study"]) if study.corpora else []
        return found

    def utterances(self) -> list[UtteranceResult]:
        """What the untrained model and each variant as chosen say of each test's utterances; of the first seed."""
        study, kept = self.work.study, []
        for test in self.work.data.tests:
            systems: dict[str, Outputs] = {}
            for found in (one for one in self._told if one.test == test):
                into = f", {found.target}" if len(study.targets) > 1 else ""
                untrained = self._all_tests({c: found.before[c[0]] for c in self.cells}, test)
                systems[UNTRAINED] = {**systems.get(UNTRAINED, {}), **untrained}  # the old questions are the same
                for name, said in found.after.items():
                    systems[name + into] = self._all_tests(said, test)
            kept += each_answer(systems, [u for r in study.rotations for u in self.work.data.part(r, test)])
        return kept

    def candidates(self, variant: str, target: str) -> dict[tuple[Training, float], dict[Cell, Run]]:
        """The runs of each of a variant's candidates, by rotation and seed."""
        return {(t, s): {c: Run(target, *c, t, s) for c in self.cells} for t, s in self.work.study.candidates(variant)}

    def choice(self, target: str, rotation: int, runs: Candidates, before: Outputs) -> tuple[Training, float]:
        """The candidate with the best new target on a rotation's dev among those that lose little enough there.

        Each rotation chooses for itself: the dev set of one is the test set of another.
        """
        if len(runs) == 1:
            return next(iter(runs))
        sources, abroad = (self.work.data.spoken(DEV, t) for t in (target, ENGLISH))
        scores = {}
        for choice, by_cell in runs.items():
            said = {c: self.work.said(run, DEV) for c, run in by_cell.items() if c[0] == rotation}
            new = [self._system(c, f"new {s}-{target}", said[c], DEV) for c in said for s in sources]
            old, was = (
                [self._system(c, f"translate {s}-en", side[c], DEV) for c in said for s in abroad]
                for side in (said, dict.fromkeys(said, before))
            )
            gained, kept_now, kept_before = (_mean_chrf(groups) for groups in (new, old, was))
            lost = min(0.0, kept_now - kept_before)
            scores[choice] = (lost, gained)  # if all lose more than that, the one that loses least
        return max(scores, key=lambda c: scores[c])

    def curve(
        self, target: str, sources: Sequence[str], runs: Candidates, before: Mapping[int, Outputs], test: str
    ) -> list[list[float]] | None:
        """Gain and loss on test of every share of one training's change, from none on; None: there is one share."""
        if len({training.digest for training, _ in runs}) > 1 or len(runs) == 1:
            return None
        spoken = self.work.data.spoken
        keys = [
            [f"new {s}-{target}" for s in spoken(test, target) if s not in sources],
            [f"translate {s}-en" for s in spoken(test, ENGLISH)],
        ]

        def scores(said: Said) -> list[float]:
            pools = [[self._system(c, key, side, test) for c, side in said.items() for key in some] for some in keys]
            return [_mean_chrf(pool) for pool in pools]

        points = [[0.0, 0.0]]
        for _, by_cell in sorted(runs.items(), key=lambda item: item[0][1]):
            start = scores({c: before[c[0]] for c in by_cell})
            now = scores({c: self.work.said(r, test) for c, r in by_cell.items()})
            points.append([a - b for a, b in zip(now, start, strict=True)])
        return points

    def table(self, before: Said, after: Said, sources: Sequence[str], test: str) -> list[dict[str, Any]]:
        """Rows by direction, of all rotations' tests together (no utterance is in two of them); of the first seed."""
        was, now = (_only(self._all_tests(side, test), ("new", "translate")) for side in (before, after))
        asked = [u for r in self.work.study.rotations for u in self.work.data.part(r, test)]
        return transfer_rows(was, now, asked, sources)

    def share_of_plain(
        self, target: str, spoken: Sequence[str], mine: Said, plain: Said, untrained: Said, test: str
    ) -> dict[str, Any]:
        """What part of plain fine-tuning's gain over the best untrained prompt a variant has, drawn together.

        None where plain has no gain to speak of: it or its interval isn't above 0.
        """
        nothing = {"value": None, "ci": None}
        if not spoken:
            return nothing
        value, drawn = {}, {}
        for name, side in {"mine": mine, "plain": plain, UNTRAINED: untrained}.items():
            groups = [self._system(c, f"new {s}-{target}", side[c], test) for c in self.cells for s in spoken]
            pooled = text_statistics(groups, "chrf")
            value[name], drawn[name] = pooled_value(pooled), draws(pooled)
        gain, whole = (drawn[n] - drawn[UNTRAINED] for n in ("mine", "plain"))
        most = value["plain"] - value[UNTRAINED]
        if not most > 0 or not np.percentile(whole, 2.5) > 0:
            return nothing
        some = whole != 0  # with few clusters a draw may hold none that plain gains on
        low, high = np.percentile(gain[some] / whole[some], [2.5, 97.5])
        return {"value": (value["mine"] - value[UNTRAINED]) / most, "ci": [float(low), float(high)]}

    def _all_tests(self, said: Said, test: str) -> Outputs:
        """What was said in all rotations' tests together, by the first seed."""
        study = self.work.study
        tested = {r: {u.id for u in self.work.data.part(r, test)} for r in study.rotations}
        return {
            key: {i: t for r in tested for i, t in said[r, study.seeds[0]][key].items() if i in tested[r]}
            for key in said[study.rotations[0], study.seeds[0]]
        }

    @cached_property
    def _told(self) -> list[_Found]:
        return [one for target in self.work.study.targets for one in self._found(target)]

    def _found(self, target: str) -> list[_Found]:
        """What was said in each test, into one target."""
        work = self.work
        prompts = {r: self._best_prompt(target, r) for r in work.study.rotations}
        on_dev = {r: work.untrained(r, target, prompts[r], DEV) for r in prompts}
        runs = {v: self.candidates(v, target) for v in work.study.variants}
        done = [v for v in runs if all(work.is_done(r) for choice in runs[v].values() for r in choice.values())]
        chosen = {v: {r: self.choice(target, r, runs[v], on_dev[r]) for r in prompts} for v in done}
        found = []
        for test in work.data.tests:
            before = {r: work.untrained(r, target, prompts[r], test) for r in prompts}
            after = {v: {c: work.said(runs[v][chosen[v][c[0]]][c], test) for c in self.cells} for v in done}
            found.append(_Found(target, test, prompts, chosen, before, after))
        return found

    def _row(self, found: _Found, variant: str, comet: CometScores | CometError | None) -> dict[str, Any]:
        """One variant in one test; benchmarks/transfer.py says what the parts mean."""
        target, test, sources = found.target, found.test, found.sources[variant]
        spoken, abroad = (self.work.data.spoken(test, t) for t in (target, ENGLISH))
        unseen, seen = [s for s in spoken if s not in sources], [s for s in spoken if s in sources]
        untrained = {c: found.before[c[0]] for c in self.cells}
        mine, plain, control = found.after[variant], found.after[PLAIN], found.after.get(PERMUTED)
        strange = [s for s in unseen if s not in found.sources[PLAIN]]  # to plain, too

        def against(other: Said, kind: str, heard: Sequence[str], to: str) -> Any:
            sides = self._compared(mine, other, [f"{kind} {s}-{to}" for s in heard if s != to], test)
            now, was = (text_statistics(side, "chrf") for side in sides)
            return as_row(pooled_difference(now, was)) if now else None

        systems = {"mine": mine, "plain": plain, UNTRAINED: untrained}
        rows = self.table(untrained, mine, sources, test)
        if comet is not None:
            for row in rows:
                row["comet"] = comet_change(comet, *self._one(untrained, mine, row, test))
        return {
            "target": target,
            "variant": variant,
            "test": test,
            "chosen": [{"rotation": r, **t.settings, "share": s} for r, (t, s) in found.chosen[variant].items()],
            "candidates": len(self.work.study.candidates(variant)),
            "untrained_prompts": list(found.prompts.values()),
            "sources": list(sources),
            "new_unseen": against(untrained, "new", unseen, target),
            "new_source": against(untrained, "new", seen, target),
            "new_all": against(untrained, "new", [*seen, *unseen], target),
            "into_english": against(untrained, "translate", abroad, ENGLISH),
            "by_language": {
                s: {
                    UNTRAINED: against(untrained, "new", [s], target),
                    PERMUTED: control and against(control, "new", [s], target),
                }
                for s in spoken
            },
            "unseen_against_permuted": control and against(control, "new", unseen, target),
            "errors": self._errors(untrained, mine, test),
            "share_of_plain": self.share_of_plain(target, strange, mine, plain, untrained, test),
            "share_of_plain_all": self.share_of_plain(target, [*seen, *unseen], mine, plain, untrained, test),
            "table": rows,
            "pooled": self._pooled(found, variant, comet),
            "chrf_unseen": {
                name: _mean_chrf(
                    [self._system(c, f"new {s}-{target}", side[c], test) for c in self.cells for s in unseen]
                )
                for name, side in systems.items()
                if unseen
            },
        }

    def _pooled(self, found: _Found, variant: str, comet: CometScores | CometError | None) -> list[dict[str, Any]]:
        """Scores before and after, means over languages: sources trained on and not, into English, and some apart."""
        test, sources = found.test, found.sources[variant]
        spoken, abroad = (self.work.data.spoken(test, t) for t in (found.target, ENGLISH))
        apart = self.work.study.apart
        within = {s for languages in apart.values() for s in languages}
        pools = {
            "new, sources never trained on": ("new", [s for s in spoken if s not in sources]),
            "new, sources trained on": ("new", [s for s in spoken if s in sources]),
            "into English": ("translate", abroad),
            **{f"into English, {n}": ("translate", [s for s in abroad if s in some]) for n, some in apart.items()},
            "into English, the others": ("translate", [s for s in abroad if s not in within] if apart else []),
        }
        untrained = {c: found.before[c[0]] for c in self.cells}
        rows = []
        for name, (kind, languages) in pools.items():
            to = found.target if kind == "new" else ENGLISH
            keys = [f"{kind} {s}-{to}" for s in languages]
            after, before = self._compared(found.after[variant], untrained, keys, test)
            if after:
                row: dict[str, Any] = {"pool": name, "languages": languages}
                metrics: tuple[TextMetric, ...] = ("chrf", "bleu")
                row |= {m: pooled_change(text_statistics(after, m), text_statistics(before, m)) for m in metrics}
                if comet is not None:
                    row["comet"] = comet_change(comet, after, before)
                rows.append(row)
        return rows

    def _errors(self, before: Said, after: Said, test: str) -> dict[str, list[float]]:
        """Error rates before and after, per cent, means over languages and cells: transcripts, and languages named."""
        found: dict[str, list[list[float]]] = {"transcribe": [], "detect": []}
        for c in self.cells:
            part = self.work.data.part(c[0], test)
            for row in transfer_rows(_only(before[c], found), _only(after[c], found), part, ()):
                found[row["task"]].append([row["error"][side]["value"] for side in ("before", "after")])
        return {task: np.mean(values, axis=0).tolist() for task, values in found.items() if values}

    def _best_prompt(self, target: str, rotation: int) -> PromptKind:
        """The untrained prompt that does best on a rotation's dev, all sources pooled."""

        def score(prompt: PromptKind) -> float:
            said = self.work.untrained(rotation, target, prompt, DEV)
            spoken = self.work.data.spoken(DEV, target)
            return _mean_chrf([self._system((rotation, 0), f"new {s}-{target}", said, DEV) for s in spoken])

        return max(PROMPTS, key=score)

    def _comet(self, told: Sequence[_Found]) -> CometScores | CometError | None:
        """COMET's scores of everything that the tables show; or why there are none; None: not asked for."""
        model = self.work.study.comet_model
        if model is None:
            return None
        segments: set[Segment] = set()
        for found in told:
            untrained = {c: found.before[c[0]] for c in self.cells}
            for c in self.cells:
                for said in [untrained, *found.after.values()]:
                    for key in _only(said[c], ("new", "translate")):
                        system = self._system(c, key, said[c], found.test)
                        try:
                            segments.update(comet_segments(system).values())
                        except CometError:  # an utterance without a transcript: the row says so
                            continue
        return kept_comet(self.work.study.folder / "comet.json", segments, model)

    def _published(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Scores of the untrained model and of plain fine-tuning beside others', or beside the reason for none."""
        theirs = published_scores(self.work.study.published)
        return [
            {
                **named,
                "metric": measure,
                "ours": line[measure][side]["value"],
                "published": theirs.get((*named.values(), measure), UNKNOWN),
            }
            for row in rows
            if row["variant"] == PLAIN
            for line in row["table"]
            for variant, side in ((UNTRAINED, "before"), (PLAIN, "after"))
            for named in [{"test": row["test"], "variant": variant, "source": line["source"], "target": line["target"]}]
            for measure in MEASURES
            if side in line.get(measure, ())
            and (measure != "chrf" or (*named.values(), measure) in theirs)  # the paper has BLEU and COMET
        ]

    def _one(self, before: Said, after: Said, row: Mapping[str, Any], test: str) -> Sides:
        """A row of `table` as groups: its rotations, of the first seed."""
        key = f"{row['task']} {row['source']}-{row['target']}"
        cells = [c for c in self.cells if c[1] == self.work.study.seeds[0]]
        return self._compared({c: after[c] for c in cells}, {c: before[c] for c in cells}, [key], test)

    def _system(self, cell: Cell, key: str, said: Outputs, part: str) -> SystemOutputs:
        source, target = key.split(" ")[1].split("-")
        utterances = self.work.data.part(cell[0], part)
        expected = references(utterances, source, target)
        clusters = {u.id: u.group for u in utterances}
        texts = {i: t for i, t in said[key].items() if i in expected}
        transcripts = {u.id: u.text for u in utterances if u.text}
        return SystemOutputs(texts, expected, clusters, target, cell, source, transcripts)

    def _compared(self, after: Said, before: Said, keys: Sequence[str], part: str) -> Sides:
        pairs = [(c, key) for c in after for key in keys]
        now, was = ([self._system(c, key, side[c], part) for c, key in pairs] for side in (after, before))
        return now, was


def published_scores(path: Path | None) -> dict[tuple[str, ...], float]:
    """Figures of others: (test, variant, source, target, metric) -> value.

    Raises:
        UsageError: see `read_published`.
    """
    return read_published(path, "transfer", ("test", "variant", "source", "target"), MEASURES, EXAMPLE)


def _mean_chrf(groups: Sequence[SystemOutputs]) -> float:
    """The mean over groups of their corpus chrF; 0 where there are none."""
    return pooled_value(text_statistics(groups, "chrf")) if groups else 0.0


def _only(said: Outputs, kinds: Iterable[str]) -> Outputs:
    return {key: texts for key, texts in said.items() if key.partition(" ")[0] in kinds}
