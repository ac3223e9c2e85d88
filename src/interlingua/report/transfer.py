"""Fine-tuning on the page: the new target, old tasks, both pooled, gain and loss, and a study's variants."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
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
    table,
)
from interlingua.results import Change, Pooled, Results, StudyPool, StudyRow, TrainingPoint, Transfer, Variant, name_of

Columns = Mapping[str, Callable[[Any], Cell]]

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


def summary(results: Results, *_: Any) -> list[Block]:
    """The new target and the old tasks in a few lines, each with a verdict."""
    columns: Columns = {
        "Task": lambda r: r.name,
        "Verdict": lambda r: r.verdict,
        "Unit": lambda r: r.unit,
        "Before": lambda r: score(r.change.before),
        "After": lambda r: score(r.change.after),
        "After − before [95% CI]": lambda r: difference(r.change.difference),
    }
    caption = "Kept: the interval excludes a loss of 2 or more. Pooled over languages, utterances paired."
    rows = results.transfer_summary
    return [table("summary", "Before and after", [rows], columns, caption, text_columns=3)] if rows else []


def training(results: Results, *_: Any) -> list[Block]:
    """Loss and dev scores by step."""
    points = results.training
    if not points:
        return []
    named = {name for p in points for name in p.dev}
    metrics = [*(m for m in _METRICS if m in named), *sorted(named - set(_METRICS))]
    columns: Columns = {"Step": lambda r: count(r.step), "Loss": lambda r: number(r.loss, digits=3)}
    for name in metrics:
        label, digits = _METRICS.get(name, (name, 1))
        columns = {**columns, f"Dev {label}": partial(_on_dev, name, digits)}
    chosen = f"; the checkpoint with the best {_METRICS['chrf'][0]} on dev was kept" if "chrf" in metrics else ""
    picture = plots.svg("training", plots.training, points, {m: _METRICS.get(m, (m, 1))[0] for m in metrics})
    return [
        Picture(picture, "Training", f"Loss on the training batches, rehearsal included, and scores on dev{chosen}."),
        Folded("Every point", [table("training", "Training", [points], columns)]),
    ]


def _on_dev(name: str, digits: int, point: TrainingPoint) -> Cell:
    return number(point.dev.get(name), digits=digits)


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
    return [
        f"Speech into {targets} text. Source languages {sources}.",
        *_changes(drawn, "transfer", f"chrF into {targets}, by source language."),
        _translations("new-target", f"Into {targets}", list(groups.values()), with_group=True),
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
    columns: Columns = {
        "Pool": lambda r: _POOLS.get(r.pool, r.pool),
        "Source languages": _languages,
        "n": lambda r: count(r.chrf.n if r.chrf else None),
        "chrF, after − before [95% CI]": lambda r: difference(r.chrf),
        "p": lambda r: p_value(r.chrf),
    }
    caption = f"Means over the languages of the differences of their scores. {_P}"
    made = table("pooled", "Pooled differences", [found], columns, caption, text_columns=2)
    return [made, *signatures(("chrF", _POOLS.get(r.pool, r.pool), r.chrf.signature) for r in found if r.chrf)]


def pareto(results: Results, *_: Any) -> list[Block]:
    """Variants by gain and loss."""
    variants = results.pareto
    if not variants:
        return []
    by_test: dict[tuple[str, str], list[Variant]] = {}
    for v in variants:
        by_test.setdefault((v.target, v.test), []).append(v)
    blocks: list[Block] = []
    for i, ((target, test), found) in enumerate(by_test.items()):
        named = ", ".join(part for part in (name_of(target) if target else "", test) if part)
        caption = (
            f"Upwards: chrF gained on the new target, pooled over sources {_NEVER}. To the right: change in chrF from "
            "X into English, pooled; left of 0, something was lost. Bars: 95% intervals; +: the model before training."
        )
        if any(v.curve for v in found):
            caption += " Thin lines: interpolated weights, from none of the change to all."
        title = f"{named}: what each variant gains" if named else "What each variant gains"
        drawn = plots.svg(f"pareto-{i}", plots.pareto, found)
        blocks.append(Picture(drawn, f"{title}, and what it costs.", caption, wide=True))
    columns: dict[str, Callable[[Any], Cell]] = {"Variant": lambda v: v.name}
    if any(v.target for v in variants):
        columns["New target"] = lambda v: name_of(v.target)
    if any(v.test for v in variants):
        columns["Test"] = lambda v: v.test
    text = len(columns)
    columns |= {_GAIN: lambda v: difference(v.gain), _LOSS: lambda v: difference(v.loss)}
    caption = "chrF differences, after less before."
    made = table("gain-against-loss", "Gain against loss", by_test.values(), columns, caption, text_columns=text)
    signed = signatures(
        (what, f"{v.name} → {name_of(v.target)}" if v.target else v.name, point.signature)
        for v in variants
        for what, point in (("Gain", v.gain), ("Change on the old tasks", v.loss))
    )
    return [*blocks, made, *signed]


def variants(results: Results, *_: Any) -> list[Block]:
    """Every variant of a study in every test: sources trained on, sources never trained on, into English."""
    blocks: list[Block] = []
    for test, target, rows in _by_test(results.study):
        pools: dict[str, list[tuple[StudyRow, StudyPool]]] = {}
        for r in rows:
            for p in r.pooled:
                pools.setdefault(p.pool, []).append((r, p))
        held = [(r, p) for r in rows for p in r.pooled]
        drawn = [(_pool(pool, target), r.variant, p.chrf) for pool, found in pools.items() for r, p in found]
        drawn = [(name[:1].upper() + name[1:], variant, change) for name, variant, change in drawn]
        columns: Columns = {
            "Variant": lambda row: Text(row[0].variant, _pool(row[1].pool, row[0].target)),
            "Source languages": lambda row: _languages(row[1]),
            "n": lambda row: count(row[1].chrf.difference.n if row[1].chrf.difference else None),
            **_measures([p for _, p in held], lambda row: row[1]),
        }
        title, name = f"{test}, into {name_of(target)}", f"variants-{test}-{target}"
        caption = f"Means over the source languages. {_STUDY}"
        blocks += [
            Heading(title),
            *_changes(drawn, name, f"chrF before and after, by variant: {title}."),
            table(name, f"Variants in {title}", pools.values(), columns, caption, text_columns=2),
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
            columns: Columns = {
                "Direction": lambda r: Text(r.name, _group(r.trained) if r.trained or r.task == "new" else ""),
                "n": lambda r: count(r.n),
                **_measures(row.table, lambda r: r),
                "Off target before, %": lambda r: score(r.off_target.before, 100),
                "Off target after, %": lambda r: score(r.off_target.after, 100),
            }
            trained = ", ".join(name_of(s) for s in row.sources)
            caption = f"{row.variant}, trained on {trained}. {_STUDY} Of several seeds the first is shown."
            name = f"languages-{test}-{target}-{row.variant}"
            made = table(name, f"{row.variant} in {title}, by source language", [row.table], columns, caption)
            shown = [made, *_reasons(row.table), *_study_signatures((r, r.name) for r in row.table)]
            blocks += shown if i == 0 else [Folded(row.variant, shown)]
    return blocks


def _changes(
    rows: Sequence[tuple[str, str, Change]], name: str, title: str, quantity: str = "chrF (higher is better)"
) -> list[Block]:
    """A picture of (group, label, change) rows, if any of them has a score."""
    drawn = [(group, label, (change.before, change.after)) for group, label, change in rows]
    drawn = [row for row in drawn if any(m is not None and m.value is not None for m in row[2])]
    if not drawn:
        return []
    picture = plots.svg(name, plots.side_by_side, drawn, ("before", "after"), quantity, changes=True)
    return [Picture(picture, title, f"{_HOW} {_PAIRED}", wide=True)]


def _translations(name: str, title: str, groups: Sequence[Sequence[Transfer]], *, with_group: bool = False) -> Table:
    columns: Columns = {
        "Direction": lambda r: Text(r.name, _group(r.trained) if with_group else ""),
        "n": lambda r: count(r.n),
        "chrF before": lambda r: score(r.chrf.before),
        "chrF after": lambda r: score(r.chrf.after),
        "chrF difference": lambda r: difference(r.chrf.difference),
        "p": lambda r: p_value(r.chrf.difference),
        "BLEU before": lambda r: score(r.bleu.before),
        "BLEU after": lambda r: score(r.bleu.after),
        "Off target before, %": lambda r: score(r.off_target.before, 100),
        "Off target after, %": lambda r: score(r.off_target.after, 100),
    }
    caption = (
        f"In brackets: 95% intervals. Difference: paired, after − before. {_P} Off target: outputs that aren't in the "
        "target language."
    )
    return table(name, title, groups, columns, caption)


def _errors(name: str, title: str, rows: Sequence[Transfer], caption: str) -> Table:
    columns: dict[str, Callable[[Any], Cell]] = {
        "Language": lambda r: r.name,
        "Unit": lambda r: r.error.unit,
        "n": lambda r: count(r.n),
        "Before, % [95% CI]": lambda r: score(r.error.before),
        "After, % [95% CI]": lambda r: score(r.error.after),
    }
    if any(r.error.difference for r in rows):
        columns["Difference"] = lambda r: difference(r.error.difference)
        columns["p"] = lambda r: p_value(r.error.difference)
    return table(name, title, [rows], columns, caption, text_columns=2)


def _study_errors(test: str, target: str, title: str, rows: Sequence[StudyRow]) -> list[Block]:
    columns: dict[str, Callable[[Any], Cell]] = {"Variant": lambda r: r.variant}
    for task in [task for task in _ERRORS if any(task in r.errors for r in rows)]:
        for i, side in enumerate(("before", "after")):
            columns[f"{_ERRORS[task]}, {side}, %"] = partial(_error, task, i)
    caption = "Means over the source languages: WER, or CER where words aren't spaced."
    made = table(f"errors-{test}-{target}", f"Transcripts and languages named in {title}", [rows], columns, caption)
    return [made] if len(columns) > 1 else []


def _error(task: str, side: int, row: StudyRow) -> Cell:
    return number(row.errors[task][side] if task in row.errors else None)


def _by_test(rows: Sequence[StudyRow]) -> list[tuple[str, str, list[StudyRow]]]:
    groups: dict[tuple[str, str], list[StudyRow]] = {}
    for row in rows:
        if row.pooled:
            groups.setdefault((row.test, row.target), []).append(row)
    return [(test, target, found) for (test, target), found in groups.items()]


def _measures(rows: Iterable[object], scores: Callable[[Any], object]) -> Columns:
    """Columns of the metrics that some row has, or has a reason to lack; ``scores``: of a table's record."""
    columns: dict[str, Callable[[Any], Cell]] = {}
    held = list(rows)

    def column(metric: str, shown: Callable[[Change, int], Cell], unscored: str) -> Callable[[Any], Cell]:
        def cell(record: Any) -> Cell:
            change: Change = getattr(scores(record), metric)
            return unscored if change.reason else shown(change, _METRICS[metric][1])

        return cell

    for metric, (label, _) in _METRICS.items():
        if any(getattr(r, metric).before or getattr(r, metric).reason for r in held):
            columns |= {
                f"{label} before": column(metric, lambda c, digits: score(c.before, digits=digits), "not scored"),
                f"{label} after": column(metric, lambda c, digits: score(c.after, digits=digits), DASH),
                f"{label} difference": column(metric, lambda c, digits: difference(c.difference, digits=digits), DASH),
                f"{label} p": column(metric, lambda c, _: p_value(c.difference), DASH),
            }
    return columns


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


def _pool(pool: str, target: str) -> str:
    return f"into {name_of(target)}, {pool.removeprefix('new, ')}" if pool.startswith("new, ") else pool


def _languages(row: Pooled | StudyPool) -> str:
    return ", ".join(name_of(code) for code in row.languages)


def _group(trained: bool | None) -> str:
    return _TRAINED if trained else _NEVER


def _source(row: Transfer, rows: Iterable[Transfer]) -> str:
    return name_of(row.source) if len({r.target for r in rows}) == 1 else row.name
