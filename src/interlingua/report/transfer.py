"""The page's sections on fine-tuning: the new target, what must not be lost, both pooled, and variants compared."""

from collections.abc import Iterable, Sequence

from interlingua.report import transfer_plots as plots
from interlingua.report.markup import escape, figure, signatures_by_label
from interlingua.report.tables import Block, Cell, Table, Text, count, difference, p_value, score
from interlingua.results import Change, Difference, Point, Results, Transfer, Variant, name_of

_TRAINED, _NEVER = "trained on", "never trained on"
_POOLS = {
    "new, sources never trained on": f"New target, sources {_NEVER}",
    "new, sources trained on": f"New target, sources {_TRAINED}",
    "into English": "Into English",
    "other targets": "Other targets",
}
HOW = "Hollow: before fine-tuning; filled: after; bars: 95% intervals."
PAIRED = (
    "Before and after are of the same utterances: the intervals may overlap where the difference, in the table, is "
    "clear of 0. The axis need not begin at 0."
)
_P = "p: two-sided, by approximate randomisation, not corrected for the number of rows."
_GAIN, _LOSS = "Gain on the new target [95% CI]", "Change on the old tasks [95% CI]"
_METRICS = (("chrf", "chrF"), ("bleu", "BLEU"), ("off_target", "Off target"), ("error", "Error rate"))


def new_target(results: Results) -> list[Block]:
    """Scores on the new target by source language, those never trained on apart."""
    rows = [r for r in results.transfer if r.task == "new"]
    rows.sort(key=lambda r: not r.trained)  # stable: the results' order within a group
    if not rows:
        return []
    groups = [[r for r in rows if r.trained], [r for r in rows if not r.trained]]
    targets = ", ".join(dict.fromkeys(name_of(r.target) for r in rows))
    told = [
        f"{what}: {', '.join(dict.fromkeys(name_of(r.source) for r in group))}"
        for what, group in zip((_TRAINED, _NEVER), groups, strict=True)
        if group
    ]
    parts: list[Block] = [f"<p>Speech into {escape(targets)} text. Source languages {escape('; '.join(told))}.</p>"]
    drawn = [(_group(r).capitalize(), _source(r, rows), r.chrf) for r in rows if is_drawn(r.chrf)]
    if drawn:
        caption = f"<b>chrF into {escape(targets)}, by language spoken.</b> {HOW} {PAIRED}"
        parts.append(figure(plots.changes_svg(drawn, "chrF (higher is better)", "transfer"), caption))
    parts.append(_translations("new-target", f"Into {targets}", [g for g in groups if g], with_group=True))
    return [*parts, _signatures(rows)]


def kept(results: Results) -> list[Block]:
    """Translation into English and other targets, transcription, and naming the language."""
    parts: list[Block] = []
    translated, others, transcribed, detected = (
        [r for r in results.transfer if r.task == task] for task in ("translate", "other", "transcribe", "detect")
    )
    if translated:
        parts.append("<h3>Translation into English</h3>")
        drawn = [("", _source(r, translated), r.chrf) for r in translated if is_drawn(r.chrf)]
        if drawn:
            caption = f"<b>chrF into English, by language spoken.</b> {HOW} {PAIRED}"
            parts.append(figure(plots.changes_svg(drawn, "chrF (higher is better)", "kept-translation"), caption))
        parts.append(_translations("into-english", "Translation into English", [translated]))
    if others:
        parts += ["<h3>Other targets</h3>", _translations("other-targets", "Other targets", [others])]
    if transcribed:
        parts.append("<h3>Transcription</h3>")
        drawn = [("", f"{name_of(r.source)}, {r.error.unit}", r.error) for r in transcribed if is_drawn(r.error)]
        if drawn:
            caption = f"<b>Error rates of transcripts, by language.</b> {HOW}"
            parts.append(
                figure(plots.changes_svg(drawn, "error rate, % (lower is better)", "kept-transcription"), caption)
            )
        caption = (
            "WER counts words, CER characters, of normalised text; lower is better, and more than 100% is possible."
        )
        parts.append(_errors("transcription", "Error rates of transcripts", transcribed, caption))
    if detected:
        caption = "Utterances whose language the model names wrongly among all that it knows."
        named = _errors("naming-the-language", "Languages named wrongly", detected, caption)
        parts += ["<h3>Naming the language</h3>", named]
    return [*parts, _signatures([*translated, *others, *transcribed, *detected])] if parts else []


def pooled(results: Results) -> list[Block]:
    """Differences pooled over languages."""
    if not results.transfer_pooled:
        return []
    rows: list[list[Cell]] = [
        [
            _POOLS.get(row.pool, row.pool),
            ", ".join(name_of(code) for code in row.languages),
            count(row.chrf.n if row.chrf else None),
            difference(row.chrf),
            p_value(row.chrf),
        ]
        for row in results.transfer_pooled
    ]
    shown = Table(
        name="pooled",
        title="Pooled differences",
        head=["Pool", "Languages spoken", "n", "chrF, after − before [95% CI]", "p"],
        bodies=[rows],
        caption=f"Means over the languages of the differences of their scores. {_P}",
        text_columns=2,
        pinned=True,
    )
    marks = [("chrF", _POOLS.get(r.pool, r.pool), r.chrf.signature) for r in results.transfer_pooled if r.chrf]
    return [shown, signatures_by_label(marks)]


def pareto(results: Results) -> list[Block]:
    """Variants by what they gain and what they lose."""
    variants = results.pareto
    if not variants:
        return []
    parts: list[Block] = []
    rows: list[list[list[Cell]]] = []
    by_target = {
        (t, test): [v for v in variants if (v.target, v.test) == (t, test)]
        for t, test in dict.fromkeys((v.target, v.test) for v in variants)
    }
    targets, tests = (any(named) for named in zip(*by_target, strict=True))
    for i, ((target, test), found) in enumerate(by_target.items()):
        named = ", ".join(part for part in (name_of(target) if target else "", test) if part)
        into = f"{named}: what" if named else "What"
        caption = (
            f"<b>{escape(into)} each variant gains, and what it costs.</b> Upwards: chrF gained on the new target, "
            f"pooled over sources {_NEVER}. To the right: change in chrF from X into English, pooled; left of 0, "
            "something was lost. Bars: 95% intervals; + is the model before training."
        )
        if any(v.curve for v in found):
            caption += " Thin lines: shares of a variant's change, from none to all."
        parts.append(figure(plots.pareto_svg(found, f"pareto-{i}"), caption, wide=True))
        where = [*([name_of(target)] if targets else []), *([test] if tests else [])]
        rows.append([[v.name, *where, *_gain_and_loss(v)] for v in found])
    shown = Table(
        name="gain-against-loss",
        title="Gain against loss",
        head=["Variant", *(["New target"] if targets else []), *(["Test"] if tests else []), _GAIN, _LOSS],
        bodies=rows,
        caption="chrF differences, after less before.",
        text_columns=1 + targets + tests,
        pinned=True,
    )
    marks = [(what, _variant(v), p.signature) for v in variants for what, p in _points(v)]
    return [*parts, shown, signatures_by_label(marks)]


def _translations(name: str, title: str, groups: Sequence[Sequence[Transfer]], *, with_group: bool = False) -> Table:
    head = ["Direction", "n", "chrF before", "chrF after", "chrF difference", "p", "BLEU before", "BLEU after"]
    head += ["Off target before, %", "Off target after, %"]
    bodies: list[list[list[Cell]]] = [
        [
            [
                Text(r.name, _group(r) if with_group else ""),
                count(r.n),
                *_both(r.chrf),
                difference(r.chrf.difference, below=True),
                p_value(r.chrf.difference),
                *_both(r.bleu),
                *_both(r.off_target, 100),
            ]
            for r in group
        ]
        for group in groups
    ]
    caption = (
        f"In brackets: 95% intervals. Difference: paired, after − before. {_P} Off target: outputs that "
        "aren't in the language asked for."
    )
    return Table(name=name, title=title, head=head, bodies=bodies, caption=caption, pinned=True, dense=True, ruled=True)


def _errors(name: str, title: str, rows: Sequence[Transfer], caption: str) -> Table:
    compared = any(r.error.difference for r in rows)
    head = ["Language", "Unit", "n", "Before, % [95% CI]", "After, % [95% CI]", *(["Difference", "p"] * compared)]
    body: list[list[Cell]] = [
        [
            r.name,
            r.error.unit,
            count(r.n),
            score(r.error.before),
            score(r.error.after),
            *_compared(r.error)[: 2 * compared],
        ]
        for r in rows
    ]
    return Table(name=name, title=title, head=head, bodies=[body], caption=caption, text_columns=2, pinned=True)


def _signatures(rows: Iterable[Transfer]) -> str:
    found: list[tuple[str, str, str | None]] = []
    for row in rows:
        for field, label in _METRICS:
            change: Change = getattr(row, field)
            sides = [m for m in (change.before, change.after) if m]
            found += [(label if field != "error" else change.unit, row.name, m.signature) for m in sides]
            if change.difference and field != "bleu":  # BLEU's isn't shown
                found.append((f"{label}, difference", row.name, change.difference.signature))
    return signatures_by_label(found)


def _points(variant: Variant) -> list[tuple[str, Point]]:
    return [("Gain", variant.gain), ("Change on the old tasks", variant.loss)]


def _gain_and_loss(variant: Variant) -> list[Cell]:
    return [difference(Difference(value=point.value, ci=point.ci)) for _, point in _points(variant)]


def _variant(variant: Variant) -> str:
    return f"{variant.name} → {name_of(variant.target)}" if variant.target else variant.name


def _both(change: Change, scale: float = 1) -> list[Cell]:
    """Before and after, each with its interval below."""
    return [score(m, scale, below=True) for m in (change.before, change.after)]


def _compared(change: Change) -> list[Cell]:
    return [difference(change.difference), p_value(change.difference)]


def is_drawn(change: Change) -> bool:
    """Whether there is anything of it to draw."""
    return any(m is not None and m.value is not None for m in (change.before, change.after))


def _group(row: Transfer) -> str:
    return _TRAINED if row.trained else _NEVER


def _source(row: Transfer, rows: Iterable[Transfer]) -> str:
    """The language spoken; with the target's, where the rows have several."""
    return name_of(row.source) if len({r.target for r in rows}) == 1 else row.name
