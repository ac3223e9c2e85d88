"""Runs compared on a page: what differs between them, then their scores next to each other, with paired tests."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Literal, TypeVar

import msgspec

from interlingua.errors import ResultsError, UsageError
from interlingua.metrics import (
    Statistics,
    SystemOutputs,
    TextMetric,
    pooled_difference,
    ratio,
    transcript_errors,
    translation_statistics,
)
from interlingua.report import plots, transfer
from interlingua.report.page import Opening, Section, origin_facts, plain, write_page
from interlingua.report.studies import COLUMNS, measure_name
from interlingua.report.tables import (
    DASH,
    Block,
    Cell,
    Folded,
    Gallery,
    Heading,
    Picture,
    Table,
    difference,
    p_value,
    scaled,
    score,
    signatures,
)
from interlingua.results import (
    Difference,
    Pair,
    Results,
    Score,
    SystemScores,
    Transfer,
    Translation,
    UtteranceResult,
    Variant,
    load_results,
    load_utterances,
    name_of,
)
from interlingua.retrieval.methods import method_label

_DRAWN = 40  # most rows of a table with a picture
_PAIRED = (
    "p: two-sided, by approximate randomisation, not corrected for the number of rows. A difference without an "
    "interval is not tested: what came out for each utterance wasn't kept or is of other utterances, or the score has "
    "no test."
)
_TASKS = {  # task -> title, and what its score is called
    "new": ("Into the new target", "chrF"),
    "translate": ("Translation into English", "chrF"),
    "other": ("Other targets", "chrF"),
    "transcribe": ("Transcription", "error rate, %"),
    "detect": ("Naming the language", "error rate, %"),
}
_TESTED: dict[str, TextMetric] = {"bleu": "bleu", "chrf": "chrf", "chrf++": "chrf++"}  # translations' scores
_ENGLISH = "en"
_CHARACTERS = "zh"  # a language whose error rate `transcript_errors` counts by characters
Row = TypeVar("Row", Translation, SystemScores)


@dataclass(frozen=True)
class Run:
    """One of the compared result folders."""

    name: str
    results: Results
    utterances: Sequence[UtteranceResult]

    @cached_property
    def outcomes(self) -> Mapping[tuple[str, str, Pair], Mapping[str, tuple[str, str]]]:
        """Kind, system and pair as in `Kept` -> utterance id -> reference (empty for ranks), and the text or rank."""
        found: defaultdict[tuple[str, str, Pair], dict[str, tuple[str, str]]] = defaultdict(dict)
        for r in self.utterances:
            u = r.utterance
            for method, ranks in r.retrieval.items():
                for candidate, held in ranks.items():
                    found["ranks", method, (u.language, candidate)][u.id] = ("", str(held.rank))
            for t in r.translations:
                found["translations", t.system, (u.language, t.target)][u.id] = (t.reference, t.hypothesis)
            for heard in r.transcripts:
                found["transcripts", heard.system, (u.language, u.language)][u.id] = (u.text or "", heard.hypothesis)
        return found


@dataclass(frozen=True)
class Kept:
    """The utterances behind a score, for a paired test.

    ``system`` is the retrieval method for ranks. The score is the mean over ``pairs``: query and candidate, source and
    target, or for transcripts the language twice. ``characters``: transcripts count characters in any language.
    """

    kind: Literal["ranks", "translations", "transcripts"]
    system: str
    pairs: Sequence[Pair]
    metric: TextMetric = "chrf"
    characters: bool = False


@dataclass(frozen=True)
class Entry:
    """A run's score, and the utterances behind it; None: no paired test."""

    score: Score | None
    kept: Kept | None = None


def write_comparison(folders: Sequence[Path], path: Path) -> Path:
    """Write a page that compares result folders with the first, and its tables into ``<page>-tables``; return its path.

    UsageError for fewer than two folders or one twice; ResultsError for unreadable results, or with nothing in common.
    """
    if len({folder.resolve() for folder in folders}) < max(2, len(folders)):
        raise UsageError("a comparison takes two result folders or more, each once")
    runs = [
        Run(name, load_results(folder)[0], load_utterances(folder))
        for name, folder in zip(_names(folders), folders, strict=True)
    ]
    measured = [
        Section("retrieval", _retrieval(runs)),
        Section("languages", _languages(runs)),
        Section("correlations", _correlations(runs)),
        Section("translation", _translation(runs)),
        Section("outputs", _outputs(runs)),
        Section("fine-tuning", _fine_tuning(runs)),
        Section("gain and loss", _gain_and_loss(runs)),
    ]
    if not any(section.blocks for section in measured):
        raise ResultsError(
            f"{', '.join(str(f) for f in folders[1:])}: nothing that {folders[0]} measured too (no language pair, "
            "translation direction or task in common); compare runs of one kind"
        )
    differing, same = _facts(runs)
    sections = [Section("what differs", differing), *measured, Section("what is the same", same)]
    write_page(
        path, _opening(runs), sections, footer="Interlingua, from saved results alone.",
        tables=path.with_name(f"{path.stem}-tables"),
    )  # fmt: skip
    return path


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' names, with as much of their paths as makes them unique."""
    paths = [folder.resolve() for folder in folders]
    return next(
        names
        for depth in range(1, max(len(path.parts) for path in paths) + 1)
        if len(set(names := ["/".join(path.parts[-depth:]) for path in paths])) == len(names)
    )


def _opening(runs: Sequence[Run]) -> Opening:
    first, *others = runs
    hashes = [run.results.provenance.corpus for run in runs]
    warnings = []
    if len({found.sha256 for found in hashes if found}) > 1:
        warnings = ["The runs were measured on different utterances (see their hashes)."]
    elif None in hashes:
        warnings = ["Not every run says which utterances it was measured on: that they are the same is not known."]
    return Opening(
        title=f"{' and '.join(run.name for run in runs)} compared" if len(runs) == 2 else f"{len(runs)} runs compared",
        kicker="runs compared",
        lead=[f"Differences are those of {', '.join(run.name for run in others)} from {first.name}."],
        notices=[("Not the same utterances, or not known to be", warnings)] if warnings else [],
    )


def _facts(runs: Sequence[Run]) -> tuple[list[Block], list[Block]]:
    found = [
        {"Title": run.results.title}
        | {name: plain(value) for name, value in run.results.settings.items()}
        | origin_facts(run.results.provenance)
        for run in runs
    ]
    rows = {
        name: [facts.get(name, DASH) for facts in found] for name in dict.fromkeys(n for facts in found for n in facts)
    }
    differing = [[name, *values] for name, values in rows.items() if len(set(values)) > 1]
    same = [[name, values[0]] for name, values in rows.items() if len(set(values)) == 1]
    heads = ["Setting", *(run.name for run in runs)], ["Setting", "Value"]
    sides: list[list[Block]] = []
    for title, head, body in zip(("What differs", "What is the same"), heads, (differing, same), strict=True):
        made = Table(name=title.lower(), title=title, head=head, bodies=[body], text_columns=len(head))
        sides.append([made] if body else [])
    return sides[0], sides[1]


def _retrieval(runs: Sequence[Run]) -> list[Block]:
    runs = [replace(run, results=_with_pivot(run.results)) for run in runs]
    groups = [tuple(run.results.main_method for run in runs)]
    for method in runs[0].results.methods:
        group = tuple(method if method in run.results.methods else None for run in runs)
        if group not in groups and any(group[1:]):
            groups.append(group)
    blocks: list[Block] = []
    for i, group in enumerate(groups, start=1):
        found = _recall(runs, group)
        labels = {method_label(m) for m in group if m}
        methods = ", ".join(f"{run.name} {method_label(m)}" for run, m in zip(runs, group, strict=True) if m)
        label = labels.pop() if len(labels) == 1 else f"each run's main method ({methods})"
        made = side_by_side(
            runs, f"recall-{i}", "R@1, %", found, f"R@1 under {label}, by language of the query and the candidates."
        )
        if made and not blocks:
            blocks = [*_heat_maps(runs, group), *made]
        elif made:
            blocks.append(Folded(f"The same under {label}", made))
    return blocks


def _recall(runs: Sequence[Run], methods: Sequence[str | None]) -> list[dict[str, Entry]]:
    """R@1 in per cent by pair, and its mean over the pairs that every run has, without an interval."""
    scores = [run.results.scores(method) if method else {} for run, method in zip(runs, methods, strict=True)]
    common = [pair for pair in scores[0] if all(pair in of_run for of_run in scores)]
    found: list[dict[str, Entry]] = []
    for method, of_run in zip(methods, scores, strict=True):
        entries: dict[str, Entry] = {}
        if len(common) > 1:
            mean = Score(value=100 * fmean(of_run[pair].r1 for pair in common))
            entries[f"Mean of {len(common)} pairs"] = Entry(mean, Kept("ranks", method or "", common))
        for pair, r in of_run.items():
            r1 = scaled(Score(value=r.r1, ci=r.r1_ci), 100)
            entries[r.pair_name] = Entry(r1, Kept("ranks", method or "", [pair]))
        found.append(entries)
    return found


def _heat_maps(runs: Sequence[Run], methods: Sequence[str | None]) -> list[Block]:
    drawn = [(run, m) for run, m in zip(runs, methods, strict=True) if m and len(run.results.scores(m)) > 2]
    if len(drawn) < 2:
        return []
    top = max(plots.colour_top(run.results) for run, _ in drawn)
    maps = []
    for i, (run, method) in enumerate(drawn, start=1):
        svg = plots.svg(f"recall-of-run-{i}", plots.recall, run.results, method, small=True, top=top)
        maps.append(Picture(svg, run.name, f"{method_label(method)}; rows: query, columns: candidates."))
    return [Heading("R@1, %, on the same colour scale"), Gallery(maps)]


def _with_pivot(results: Results) -> Results:
    found = results.robustness
    if found is None:
        return results
    rows = [row for r in found.languages for way in (r.to_pivot, r.from_pivot) for row in way.values()]
    return msgspec.structs.replace(results, retrieval=[*results.retrieval, *rows])


def _languages(runs: Sequence[Run]) -> list[Block]:
    found = [_of_languages(run) for run in runs]
    labels = [label for label in found[0] if any(label in others for others in found[1:])]
    if not labels:
        return []
    head = ["Language", *(run.name for run in runs)]
    rows = [[label, *(of_run[label][0] if label in of_run else None for of_run in found)] for label in labels]
    caption = "Under the token that each run's default rule took without references, or the language's own."
    blocks: list[Block] = [
        Table(
            name="languages-tokens", title="Tokens", head=head, bodies=[rows], caption=caption, text_columns=len(head)
        )
    ]
    for measure, title in COLUMNS.items():
        entries = [{label: scores[measure] for label, (_, scores) in of_run.items()} for of_run in found]
        what = "Transcripts" if measure in ("wer", "cer") else "Translation into English"
        name = f"languages-{measure}".replace("_", "-")
        blocks += side_by_side(runs, name, title, entries, f"{what}, {title}, by source language.")
    return blocks


def _of_languages(run: Run) -> dict[str, tuple[str, dict[str, Entry]]]:
    """Language -> its language token, and its scores by measure."""
    found: dict[str, tuple[str, dict[str, Entry]]] = {}

    def add(language: str, forbidden: bool, token: str, scores: Mapping[str, Score | None]) -> None:
        system = f"{run.results.settings.get('model')} as {token}"  # as the study names its outputs
        kept: dict[str, Kept | None] = {
            "bleu": Kept("translations", system, [(language, _ENGLISH)], "bleu"),
            "chrf": Kept("translations", system, [(language, _ENGLISH)], "chrf"),
            "wer": Kept("transcripts", system, [(language, language)]),
            "cer": Kept("transcripts", system, [(language, language)], characters=True),
        }
        entries = {
            m: Entry(found and scaled(found, 100 if m == "off_target" else 1), kept.get(m))
            for m, found in ((m, scores.get(m)) for m in COLUMNS)
        }
        label = name_of(language) + (", its own token forbidden" if forbidden else "")
        found.setdefault(label, (token, entries))

    for r in run.results.unseen:  # scores under its own token alone come first
        add(r.language, r.forbidden, r.chosen, r.scores)
    for d in run.results.robustness.languages if run.results.robustness else []:  # English is transcribed only
        add(d.language, False, d.token, {m: getattr(d, m) for m in COLUMNS})
    return found


def _correlations(runs: Sequence[Run]) -> list[Block]:
    pivot = runs[0].results.robustness.pivot if runs[0].results.robustness else ""
    found: list[dict[str, Entry]] = []
    for study in (run.results.robustness for run in runs):
        entries: dict[str, Entry] = {}
        for c in study.correlations if study and study.pivot == pivot else []:
            label = f"{measure_name(c.measure, c.method, pivot)}, {c.kind}{', with a token' if c.seen_only else ''}"
            entries[label] = Entry(None if c.value is None else Score(value=c.value))
        found.append(entries)
    caption = f"Spearman's rank correlation with the distance to {name_of(pivot)}; differences are not tested."
    made = side_by_side(runs, "correlations-compared", "ρ", found, caption, what="Measure and distance", digits=2)
    return [Folded("Rank correlations with distance", made)] if made else []


def _translation(runs: Sequence[Run]) -> list[Block]:
    rows = _matched([run.results.translation for run in runs], lambda row: row.pair_name)
    blocks: list[Block] = []
    for measure, label in (("chrf", "chrF"), ("bleu", "BLEU")):
        entries = [
            {
                name: Entry(
                    getattr(r, measure), Kept("translations", r.system, [(r.source, r.target)], _TESTED[measure])
                )
                for name, r in of_run.items()
            }
            for of_run in rows
        ]
        blocks += side_by_side(runs, f"translation-{measure}", label, entries, f"{label} by direction.")
    return blocks


def _outputs(runs: Sequence[Run]) -> list[Block]:
    def name(row: SystemScores) -> str:
        transcribed = row.task == "transcribe"
        return f"{row.spoken}, transcribed" if transcribed else f"{row.spoken} → {name_of(row.target or '')}"

    def kept(row: SystemScores, measure: str) -> Kept | None:
        sources = [row.source] if row.source is not None else row.sources
        if measure == "error":
            return Kept("transcripts", row.system, [(source, source) for source in sources])
        if row.target is None or measure not in _TESTED:
            return None
        return Kept("translations", row.system, [(s, row.target) for s in sources], _TESTED[measure])

    rows = _matched([run.results.outputs for run in runs], name)
    blocks: list[Block] = []
    labels = {name: how for run in runs for name, how in run.results.score_labels.items()}
    for measure in (m for m in labels if m != "chrf"):  # redundant next to chrF++
        label, scale, digits = labels[measure]
        entries = [
            {name: Entry(_held(r, measure, scale), kept(r, measure)) for name, r in of_run.items()} for of_run in rows
        ]
        of_measure = f"outputs-{measure}".replace("_", "-")
        blocks += side_by_side(runs, of_measure, label, entries, f"{label} of systems' outputs.", digits=digits)
    return blocks


def _matched(rows: Sequence[Sequence[Row]], name: Callable[[Row], str]) -> list[dict[str, Row]]:
    """Each run's rows by name: of the same system, or of each run's only one, whatever its name."""
    found: list[dict[str, Row]] = [{} for _ in rows]
    for label in dict.fromkeys(name(row) for row in rows[0]):
        by_system = [{row.system: row for row in of_run if name(row) == label} for of_run in rows]
        alone = all(len(systems) <= 1 for systems in by_system)
        for of_run, systems in zip(found, by_system, strict=True):
            of_run |= {label if alone else f"{label}, {system}": row for system, row in systems.items()}
    return found


def _fine_tuning(runs: Sequence[Run]) -> list[Block]:
    blocks: list[Block] = []
    for task, (title, label) in _TASKS.items():
        found = [{r.name: _tuned(r) for r in run.results.transfer if r.task == task} for run in runs]
        blocks += side_by_side(runs, f"transfer-{task}", label, found, f"{title}, after fine-tuning: {label}.")
    return blocks


def _tuned(row: Transfer) -> Entry:
    if row.task == "detect":  # the languages named aren't kept
        return Entry(row.error.after)
    if row.task == "transcribe":
        return Entry(row.error.after, Kept("transcripts", "after", [(row.source, row.source)]))
    return Entry(row.chrf.after, Kept("translations", "after", [(row.source, row.target)]))


def _gain_and_loss(runs: Sequence[Run]) -> list[Block]:
    points = []
    for run in runs:
        pooled = {row.pool: row.chrf for row in run.results.transfer_pooled}
        gain, loss = pooled.get(transfer.NEW), pooled.get(transfer.OLD)
        if gain and loss and gain.value is not None and loss.value is not None:
            points.append(Variant(name=run.name, gain=gain, loss=loss))
    blocks = transfer.pareto(Results(pareto=points)) if len(points) > 1 else []
    for side, label in (("gain", "Gain on the new target, chrF"), ("loss", "Change on the old tasks, chrF")):
        found = [{_variant(v): Entry(getattr(v, side)) for v in run.results.pareto} for run in runs]
        blocks += side_by_side(runs, f"variants-{side}", label, found, f"{label}, by variant.", what="Variant")
    return blocks


def _variant(v: Variant) -> str:
    named = f"{v.name} → {name_of(v.target)}" if v.target else v.name
    return f"{named}, {v.test}" if v.test else named


def side_by_side(
    runs: Sequence[Run],
    name: str,
    quantity: str,
    found: Sequence[Mapping[str, Entry]],
    caption: str,
    *,
    what: str = "Languages",
    digits: int = 1,
) -> list[Block]:
    """A picture and a table of the first run's scores and others'; empty if no other run has any.

    ``name`` is that of both, ``quantity`` the axis label, ``what`` the head of the labels' column; ``found`` holds each
    run's entries by label, and those of one label are compared.
    """
    lines: dict[str, tuple[list[Score | None], list[Difference | None]]] = {}
    for label in found[0]:
        entries = [of_run.get(label, Entry(None)) for of_run in found]
        differences = [
            _difference(runs[0], entries[0], run, entry) for run, entry in zip(runs[1:], entries[1:], strict=True)
        ]
        if any(differences):
            lines[label] = [entry.score for entry in entries], differences
    if not lines:
        return []
    names = [run.name for run in runs]
    blocks: list[Block] = []
    if len(lines) <= _DRAWN:
        drawn = plots.svg(
            name, plots.side_by_side, [("", label, scores) for label, (scores, _) in lines.items()], names, quantity
        )
        blocks.append(Picture(drawn, caption, "Bars: 95% intervals. The axis need not begin at 0.", wide=True))
    rows: list[list[Cell]] = [
        [
            label,
            *(score(s, digits=digits) for s in scores),
            *(cell for d in differences for cell in (difference(d, digits=digits), p_value(d))),
        ]
        for label, (scores, differences) in lines.items()
    ]
    head = [what, *names, *(label for other in names[1:] for label in (f"{other} − {names[0]}", f"p, {other}"))]
    caption += f" In brackets: 95% intervals. {_PAIRED}"
    blocks.append(Table(name=name, title=quantity, head=head, bodies=[rows], caption=caption))
    return blocks + signatures(
        (other, label, d.signature)
        for label, (_, differences) in lines.items()
        for other, d in zip(names[1:], differences, strict=True)
        if d
    )


def _difference(before: Run, first: Entry, after: Run, second: Entry) -> Difference | None:
    """``after`` - ``before``: a paired test where both kept the same utterances, else without an interval."""
    old, new = first.score, second.score
    if old is None or new is None or old.value is None or new.value is None:
        return None
    tested = paired(before, first.kept, after, second.kept) if first.kept and second.kept else None
    return tested or Difference(value=new.value - old.value)


def paired(before: Run, old: Kept, after: Run, new: Kept) -> Difference | None:
    """Paired difference ``after`` - ``before``, in per cent or the metric's points; None for other utterances."""
    if not old.pairs:
        return None
    clusters = {r.utterance.id: r.utterance.group for r in before.utterances}
    sides: tuple[list[Statistics], list[Statistics]] = [], []
    for pair in old.pairs:
        held = before.outcomes.get((old.kind, old.system, pair), {})
        other = after.outcomes.get((new.kind, new.system, pair), {})
        if not held or {i: reference for i, (reference, _) in held.items()} != {i: r for i, (r, _) in other.items()}:
            return None
        references = {i: reference for i, (reference, _) in held.items()}
        for side, outcomes in zip(sides, (other, held), strict=True):
            texts = {i: text for i, (_, text) in outcomes.items()}
            if old.kind == "translations":
                side.append(translation_statistics(SystemOutputs(texts, references, clusters, pair[1]), old.metric))
            elif old.kind == "ranks":
                hits = {i: (float(text == "1"), 1.0) for i, text in texts.items()}
                side.append(ratio(hits, clusters, "r1", scale=100))
            else:
                language = _CHARACTERS if old.characters else pair[0]
                side.append(transcript_errors(SystemOutputs(texts, references, clusters, pair[1], source=language)))
    return pooled_difference(*sides)


def _held(row: SystemScores, measure: str, scale: float) -> Score | None:
    found = row.scores.get(measure)
    return None if found is None or found.value is None else scaled(found, scale)
