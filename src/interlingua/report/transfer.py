"""Fine-tuning on the page: the new target, old tasks, both pooled, gain and loss, and a study's variants."""

from collections.abc import Iterable, Sequence
from typing import Any

from interlingua.report import plots
from interlingua.report.tables import (
    DASH,
    Block,
    Bullets,
    Cell,
    Folded,
    Heading,
    Picture,
    Table,
    Text,
    count,
    difference,
    number,
    p_value,
    score,
    signatures,
)
from interlingua.results import Change, Pooled, Results, StudyPool, StudyRow, Transfer, Variant, name_of

NEW, OLD = "new, sources never trained on", "into English"  # pools
_TRAINED, _NEVER = "trained on", "never trained on"
_POOLS = {
    NEW: f"New target, sources {_NEVER}",
    "new, sources trained on": f"New target, sources {_TRAINED}",
    OLD: "Into English",
    "other targets": "Other targets",
}
_HOW = "Hollow: before fine-tuning; filled: after; bars: 95% intervals."
_PAIRED = (
    "Before and after are of the same utterances: the intervals may overlap where the difference, in the table, is "
    "clear of 0. The axis need not begin at 0."
)
_P = "p: two-sided, by approximate randomisation, not corrected for the number of rows."
_STUDY = (
    "Before: the untrained model, under the prompt that did best on dev. In brackets: 95% intervals. Differences are "
    "paired, after − before. p: two-sided, by approximate randomisation over clusters, the trainings taken as they "
    "are; not corrected for the number of rows."
)
_GAIN, _LOSS = "Gain on the new target [95% CI]", "Change on the old tasks [95% CI]"
_METRICS = {"chrf": ("chrF", 1), "bleu": ("BLEU", 1), "comet": ("COMET", 4)}  # label, digits
_ERRORS = {"transcribe": "Error rate of transcripts", "detect": "Languages named wrongly"}


def headline(results: Results) -> tuple[str, str] | None:
    """The gain on the new target from sources never trained on; None if not measured."""
    pools = {row.pool: row.chrf for row in results.transfer_pooled}
    gain, loss = pools.get(NEW), pools.get(OLD)
    if gain is None or gain.value is None:
        return None
    explained = f"chrF on the new target from sources {_NEVER} {difference(gain).interval}"
    if loss is not None and loss.value is not None:
        explained += f"; {difference(loss).shown} from X into English {difference(loss).interval}"
    return difference(gain).shown, explained


def new_target(results: Results, *_: Any) -> list[Block]:
    """Scores on the new target by source language, those never trained on separate."""
    rows = [r for r in results.transfer if r.task == "new"]
    rows.sort(key=lambda r: not r.trained)  # stable: keeps the results' order within a group
    if not rows:
        return []
    groups = {_group(trained): [r for r in rows if bool(r.trained) == trained] for trained in (True, False)}
    targets = ", ".join(dict.fromkeys(name_of(r.target) for r in rows))
    sources = "; ".join(
        f"{what}: {', '.join(dict.fromkeys(name_of(r.source) for r in group))}"
        for what, group in groups.items()
        if group
    )
    drawn = [(_group(r.trained).capitalize(), _source(r, rows), r.chrf) for r in rows]
    held = [group for group in groups.values() if group]
    return [
        f"Speech into {targets} text. Source languages {sources}.",
        *_changes(drawn, "transfer", f"chrF into {targets}, by source language."),
        _translations("new-target", f"Into {targets}", held, with_group=True),
        *_signatures(rows),
    ]


def old_tasks(results: Results, *_: Any) -> list[Block]:
    """Translation into English and other targets, transcription, and language identification."""
    blocks: list[Block] = []
    translated, others, transcribed, detected = (
        [r for r in results.transfer if r.task == task] for task in ("translate", "other", "transcribe", "detect")
    )
    if translated:
        drawn = [("", _source(r, translated), r.chrf) for r in translated]
        blocks += [
            Heading("Translation into English"),
            *_changes(drawn, "kept-translation", "chrF into English, by source language."),
            _translations("into-english", "Translation into English", [translated]),
        ]
    if others:
        blocks += [Heading("Other targets"), _translations("other-targets", "Other targets", [others])]
    if transcribed:
        drawn = [("", f"{name_of(r.source)}, {r.error.unit}", r.error) for r in transcribed]
        caption = (
            "WER counts words, CER characters, of normalised text; lower is better, and more than 100% is possible."
        )
        title = "Error rates of transcripts"
        blocks += [
            Heading("Transcription"),
            *_changes(drawn, "kept-transcription", f"{title}, by language.", "error rate, % (lower is better)"),
            _errors("transcription", title, transcribed, caption),
        ]
    if detected:
        caption = "Utterances whose language the model names wrongly among all that it knows."
        named = _errors("naming-the-language", "Languages named wrongly", detected, caption)
        blocks += [Heading("Naming the language"), named]
    return [*blocks, *_signatures([*translated, *others, *transcribed, *detected])]


def pooled(results: Results, *_: Any) -> list[Block]:
    """Differences pooled over languages."""
    found = results.transfer_pooled
    if not found:
        return []
    rows: list[list[Cell]] = [
        [
            _POOLS.get(row.pool, row.pool),
            _languages(row),
            count(row.chrf.n if row.chrf else None),
            difference(row.chrf),
            p_value(row.chrf),
        ]
        for row in found
    ]
    shown = Table(
        name="pooled",
        title="Pooled differences",
        head=["Pool", "Source languages", "n", "chrF, after − before [95% CI]", "p"],
        bodies=[rows],
        caption=f"Means over the languages of the differences of their scores. {_P}",
        text_columns=2,
    )
    return [shown, *signatures(("chrF", _POOLS.get(r.pool, r.pool), r.chrf.signature) for r in found if r.chrf)]


def pareto(results: Results, *_: Any) -> list[Block]:
    """Variants by gain and loss."""
    variants = results.pareto
    if not variants:
        return []
    blocks: list[Block] = []
    bodies: list[list[list[Cell]]] = []
    by_test: dict[tuple[str, str], list[Variant]] = {}
    for v in variants:
        by_test.setdefault((v.target, v.test), []).append(v)
    targets, tests = (any(named) for named in zip(*by_test, strict=True))
    for i, ((target, test), found) in enumerate(by_test.items()):
        named = ", ".join(part for part in (name_of(target) if target else "", test) if part)
        into = f"{named}: what" if named else "What"
        caption = (
            f"Upwards: chrF gained on the new target, pooled over sources {_NEVER}. To the right: change in chrF from "
            "X into English, pooled; left of 0, something was lost. Bars: 95% intervals; +: the model before training."
        )
        if any(v.curve for v in found):
            caption += " Thin lines: interpolated weights, from none of the change to all."
        title = f"{into} each variant gains, and what it costs."
        blocks.append(Picture(plots.pareto_svg(found, f"pareto-{i}"), title, caption, wide=True))
        where = [*([name_of(target)] if targets else []), *([test] if tests else [])]
        bodies.append([[v.name, *where, difference(v.gain), difference(v.loss)] for v in found])
    head = ["Variant", *(["New target"] if targets else []), *(["Test"] if tests else []), _GAIN, _LOSS]
    shown = Table(
        name="gain-against-loss", title="Gain against loss", head=head, bodies=bodies,
        caption="chrF differences, after less before.", text_columns=1 + targets + tests,
    )  # fmt: skip
    signed = signatures(
        (what, f"{v.name} → {name_of(v.target)}" if v.target else v.name, point.signature)
        for v in variants
        for what, point in (("Gain", v.gain), ("Change on the old tasks", v.loss))
    )
    return [*blocks, shown, *signed]


def variants(results: Results, *_: Any) -> list[Block]:
    """Every variant of a study in every test: sources trained on, sources never trained on, into English."""
    blocks: list[Block] = []
    for test, target, rows in _by_test(results.study):
        held = [(r, p) for r in rows for p in r.pooled]
        measures = _scored(p for _, p in held)
        pools: dict[str, list[list[Cell]]] = {}
        for r, p in held:
            cells: list[Cell] = [Text(r.variant, _pool(p.pool, target)), _languages(p)]
            cells.append(count(p.chrf.difference.n if p.chrf.difference else None))
            pools.setdefault(p.pool, []).append([*cells, *(cell for m in measures for cell in _cells(p, m))])
        title = f"{test}, into {name_of(target)}"
        drawn = [
            (_capital(_pool(pool, target)), r.variant, p.chrf) for pool in pools for r, p in held if p.pool == pool
        ]
        blocks += [
            Heading(title),
            *_changes(drawn, f"variants-{test}-{target}", f"chrF before and after, by variant: {title}."),
            Table(
                name=f"variants-{test}-{target}",
                title=f"Variants in {title}",
                head=["Variant", "Source languages", "n", *(h for m in measures for h in _heads(m))],
                bodies=list(pools.values()),
                caption=f"Means over the source languages. {_STUDY}",
                text_columns=2,
            ),
            *_reasons(p for _, p in held),
            *_study_errors(test, target, title, rows),
            *_study_signatures((p, r.variant) for r, p in held),
        ]
    return blocks


def variants_by_language(results: Results, *_: Any) -> list[Block]:
    """Every variant of a study in every test by source language; all but the first variant folded away."""
    blocks: list[Block] = []
    for test, target, rows in _by_test(results.study):
        title = f"{test}, into {name_of(target)}"
        tabled = [row for row in rows if row.table]
        blocks += [Heading(title)] if tabled else []
        for i, row in enumerate(tabled):
            measures = _scored(row.table)
            body: list[list[Cell]] = [
                [
                    Text(r.name, _group(r.trained) if r.trained or r.task == "new" else ""),
                    count(r.n),
                    *(cell for m in measures for cell in _cells(r, m)),
                    *(score(side, 100) for side in (r.off_target.before, r.off_target.after)),
                ]
                for r in row.table
            ]
            head = ["Direction", "n", *(h for m in measures for h in _heads(m))]
            trained = ", ".join(name_of(s) for s in row.sources)
            made = Table(
                name=f"languages-{test}-{target}-{row.variant}",
                title=f"{row.variant} in {title}, by source language",
                head=[*head, "Off target before, %", "Off target after, %"],
                bodies=[body],
                caption=f"{row.variant}, trained on {trained}. {_STUDY} Of several seeds the first is shown.",
            )
            shown = [made, *_reasons(row.table), *_study_signatures((r, r.name) for r in row.table)]
            blocks += shown if i == 0 else [Folded(row.variant, shown)]
    return blocks


def _changes(
    rows: Sequence[plots.Row], name: str, title: str, quantity: str = "chrF (higher is better)"
) -> list[Block]:
    drawn = [row for row in rows if any(m is not None and m.value is not None for m in (row[2].before, row[2].after))]
    return [Picture(plots.changes_svg(drawn, quantity, name), title, f"{_HOW} {_PAIRED}", wide=True)] if drawn else []


def _translations(name: str, title: str, groups: Sequence[Sequence[Transfer]], *, with_group: bool = False) -> Table:
    head = ["Direction", "n", "chrF before", "chrF after", "chrF difference", "p", "BLEU before", "BLEU after"]
    bodies: list[list[list[Cell]]] = [
        [
            [
                Text(r.name, _group(r.trained) if with_group else ""),
                count(r.n),
                *_both(r.chrf),
                difference(r.chrf.difference),
                p_value(r.chrf.difference),
                *_both(r.bleu),
                *_both(r.off_target, 100),
            ]
            for r in group
        ]
        for group in groups
    ]
    caption = (
        f"In brackets: 95% intervals. Difference: paired, after − before. {_P} Off target: outputs that aren't in the "
        "target language."
    )
    head += ["Off target before, %", "Off target after, %"]
    return Table(name=name, title=title, head=head, bodies=bodies, caption=caption)


def _errors(name: str, title: str, rows: Sequence[Transfer], caption: str) -> Table:
    compared = any(r.error.difference for r in rows)
    head = ["Language", "Unit", "n", "Before, % [95% CI]", "After, % [95% CI]", *(["Difference", "p"] * compared)]
    body: list[list[Cell]] = []
    for r in rows:
        tested: list[Cell] = [difference(r.error.difference), p_value(r.error.difference)]
        body.append([r.name, r.error.unit, count(r.n), *_both(r.error), *(tested if compared else [])])
    return Table(name=name, title=title, head=head, bodies=[body], caption=caption, text_columns=2)


def _study_errors(test: str, target: str, title: str, rows: Sequence[StudyRow]) -> list[Block]:
    tasks = [task for task in _ERRORS if any(task in r.errors for r in rows)]
    if not tasks:
        return []
    body: list[list[Cell]] = [
        [r.variant, *(number(value) for task in tasks for value in r.errors.get(task, (None, None)))] for r in rows
    ]
    made = Table(
        name=f"errors-{test}-{target}",
        title=f"Transcripts and languages named in {title}",
        head=["Variant", *(f"{_ERRORS[task]}, {side}, %" for task in tasks for side in ("before", "after"))],
        bodies=[body],
        caption="Means over the source languages: WER, or CER where words aren't spaced.",
    )
    return [made]


def _by_test(rows: Sequence[StudyRow]) -> list[tuple[str, str, list[StudyRow]]]:
    groups: dict[tuple[str, str], list[StudyRow]] = {}
    for row in rows:
        if row.pooled:
            groups.setdefault((row.test, row.target), []).append(row)
    return [(test, target, found) for (test, target), found in groups.items()]


def _scored(rows: Iterable[object]) -> list[str]:
    """The metrics that some row has, or has a reason to lack."""
    held = list(rows)
    return [m for m in _METRICS if any(getattr(r, m).before or getattr(r, m).reason for r in held)]


def _heads(metric: str) -> list[str]:
    label = _METRICS[metric][0]
    return [f"{label} before", f"{label} after", f"{label} difference", f"{label} p"]


def _cells(row: object, metric: str) -> list[Cell]:
    change: Change = getattr(row, metric)
    digits = _METRICS[metric][1]
    if change.reason:
        return ["not scored", DASH, DASH, DASH]
    return [*_both(change, digits=digits), difference(change.difference, digits=digits), p_value(change.difference)]


def _reasons(rows: Iterable[object]) -> list[Block]:
    changes = [(label, getattr(r, metric)) for r in rows for metric, (label, _) in _METRICS.items()]
    reasons = list(dict.fromkeys(f"{label}: {change.reason}" for label, change in changes if change.reason))
    return [Bullets(reasons)] if reasons else []


def _study_signatures(rows: Iterable[tuple[object, str]]) -> list[Block]:
    return signatures(
        mark for r, of in rows for m, (label, _) in _METRICS.items() for mark in _marks(label, of, getattr(r, m))
    )


def _signatures(rows: Iterable[Transfer]) -> list[Block]:
    return signatures(
        mark
        for r in rows
        for label, change in (("chrF", r.chrf), ("BLEU", r.bleu), ("Off target", r.off_target), (r.error.unit, r.error))
        for mark in _marks(label, r.name, change)
        if mark[0] != "BLEU, difference"  # it isn't shown
    )


def _marks(label: str, of: str, change: Change) -> list[tuple[str, str, str | None]]:
    sides = [(label, of, m.signature) for m in (change.before, change.after) if m]
    return sides + ([(f"{label}, difference", of, change.difference.signature)] if change.difference else [])


def _both(change: Change, scale: float = 1, *, digits: int = 1) -> list[Cell]:
    return [score(m, scale, digits=digits) for m in (change.before, change.after)]


def _pool(pool: str, target: str) -> str:
    return f"into {name_of(target)}, {pool.removeprefix('new, ')}" if pool.startswith("new, ") else pool


def _languages(row: Pooled | StudyPool) -> str:
    return ", ".join(name_of(code) for code in row.languages)


def _capital(text: str) -> str:
    """``capitalize`` would lower the capitals of languages."""
    return text[:1].upper() + text[1:]


def _group(trained: bool | None) -> str:
    return _TRAINED if trained else _NEVER


def _source(row: Transfer, rows: Iterable[Transfer]) -> str:
    return name_of(row.source) if len({r.target for r in rows}) == 1 else row.name
