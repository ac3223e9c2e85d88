"""The page's sections on fine-tuning: the new target, what must not be lost, both pooled, and variants compared."""

from collections.abc import Iterable, Sequence

from interlingua.report import transfer_plots as plots
from interlingua.report.markup import (
    DASH,
    Html,
    escape,
    figure,
    p_value,
    signatures_by_label,
    signed,
    table,
    with_interval,
)
from interlingua.report.records import Change, Difference, Metric, Point, Results, Transfer, Variant, name_of

_TRAINED, _NEVER = "trained on", "never trained on"
_POOLS = {
    "new, sources never trained on": f"New target, sources {_NEVER}",
    "new, sources trained on": f"New target, sources {_TRAINED}",
    "into English": "Into English",
    "other targets": "Other targets",
}
_HOW = "Hollow: before fine-tuning; filled: after; bars: 95% intervals."
_PAIRED = (
    "Before and after are of the same utterances: the intervals may overlap where the difference, in the table, is "
    "clear of 0. The axis need not begin at 0."
)
_P = "p: two-sided, by approximate randomisation, not corrected for the number of rows."
_METRICS = (("chrf", "chrF"), ("bleu", "BLEU"), ("off_target", "Off target"), ("error", "Error rate"))


def new_target(results: Results) -> str:
    """Scores on the new target by source language, those never trained on apart."""
    rows = [r for r in results.transfer if r.task == "new"]
    rows.sort(key=lambda r: not r.trained)  # stable: the results' order within a group
    if not rows:
        return ""
    groups = [[r for r in rows if r.trained], [r for r in rows if not r.trained]]
    targets = ", ".join(dict.fromkeys(name_of(r.target) for r in rows))
    told = [
        f"{what}: {', '.join(dict.fromkeys(name_of(r.source) for r in group))}"
        for what, group in zip((_TRAINED, _NEVER), groups, strict=True)
        if group
    ]
    parts = [f"<p>Speech into {escape(targets)} text. Source languages {escape('; '.join(told))}.</p>"]
    drawn = [(_group(r).capitalize(), _source(r, rows), r.chrf) for r in rows if _is_drawn(r.chrf)]
    if drawn:
        caption = f"<b>chrF into {escape(targets)}, by language spoken.</b> {_HOW} {_PAIRED}"
        parts.append(figure(plots.changes_svg(drawn, "chrF (higher is better)", "transfer"), caption))
    parts.append(_translations([g for g in groups if g], with_group=True))
    return "\n".join([*parts, _signatures(rows)])


def kept(results: Results) -> str:
    """Translation into English and other targets, transcription, and naming the language."""
    parts = []
    translated, others, transcribed, detected = (
        [r for r in results.transfer if r.task == task] for task in ("translate", "other", "transcribe", "detect")
    )
    if translated:
        parts.append("<h3>Translation into English</h3>")
        drawn = [("", _source(r, translated), r.chrf) for r in translated if _is_drawn(r.chrf)]
        if drawn:
            caption = f"<b>chrF into English, by language spoken.</b> {_HOW} {_PAIRED}"
            parts.append(figure(plots.changes_svg(drawn, "chrF (higher is better)", "kept-translation"), caption))
        parts.append(_translations([translated]))
    if others:
        parts += ["<h3>Other targets</h3>", _translations([others])]
    if transcribed:
        parts.append("<h3>Transcription</h3>")
        drawn = [("", f"{name_of(r.source)}, {r.error.unit}", r.error) for r in transcribed if _is_drawn(r.error)]
        if drawn:
            caption = f"<b>Error rates of transcripts, by language.</b> {_HOW}"
            parts.append(
                figure(plots.changes_svg(drawn, "error rate, % (lower is better)", "kept-transcription"), caption)
            )
        caption = (
            "WER counts words, CER characters, of normalised text; lower is better, and more than 100% is possible."
        )
        parts.append(_errors(transcribed, caption))
    if detected:
        caption = "Utterances whose language the model names wrongly among all that it knows."
        parts += ["<h3>Naming the language</h3>", _errors(detected, caption)]
    return "\n".join([*parts, _signatures([*translated, *others, *transcribed, *detected])]) if parts else ""


def pooled(results: Results) -> str:
    """Differences pooled over languages."""
    if not results.transfer_pooled:
        return ""
    rows = [
        [
            _POOLS.get(row.pool, row.pool),
            ", ".join(name_of(code) for code in row.languages) or DASH,
            _count(row.chrf.n if row.chrf else None),
            signed(row.chrf),
            p_value(row.chrf),
        ]
        for row in results.transfer_pooled
    ]
    head = ["Pool", "Languages spoken", "n", "chrF, after − before [95% CI]", "p"]
    caption = f"Means over the languages of the differences of their scores. {_P}"
    marks = [("chrF", _POOLS.get(r.pool, r.pool), r.chrf.signature) for r in results.transfer_pooled if r.chrf]
    return f"{table(head, [rows], caption=caption, text_columns=2, pinned=True)}\n{signatures_by_label(marks)}"


def pareto(results: Results) -> str:
    """Variants by what they gain and what they lose."""
    variants = results.pareto
    if not variants:
        return ""
    parts, rows = [], []
    by_target = {t: [v for v in variants if v.target == t] for t in dict.fromkeys(v.target for v in variants)}
    for i, (target, found) in enumerate(by_target.items()):
        into = f"{name_of(target)}: what" if target else "What"
        caption = (
            f"<b>{escape(into)} each variant gains, and what it costs.</b> Upwards: chrF gained on the new target, "
            f"pooled over sources {_NEVER}. To the right: change in chrF from X into English, pooled; left of 0, "
            "something was lost. Bars: 95% intervals; + is the model before training."
        )
        if any(v.curve for v in found):
            caption += " Thin lines: shares of a variant's change, from none to all."
        parts.append(figure(plots.pareto_svg(found, f"pareto-{i}"), caption, wide=True))
        rows.append(
            [[v.name, *([name_of(target) or DASH] if any(by_target) else []), *_gain_and_loss(v)] for v in found]
        )
    head = ["Variant", *(["New target"] if any(by_target) else [])]
    columns = len(head)
    head += ["Gain on the new target [95% CI]", "Change on the old tasks [95% CI]"]
    shown = table(head, rows, caption="chrF differences, after less before.", text_columns=columns, pinned=True)
    marks = [(what, _variant(v), p.signature) for v in variants for what, p in _points(v)]
    return "\n".join([*parts, shown, signatures_by_label(marks)])


def _translations(groups: Sequence[Sequence[Transfer]], *, with_group: bool = False) -> str:
    head = ["Direction", "n", "chrF before", "chrF after", "chrF difference", "p", "BLEU before", "BLEU after"]
    head += ["Off target before, %", "Off target after, %"]
    bodies = [
        [
            [
                Html(f'{escape(r.name)}<span class="sub">{_group(r)}</span>') if with_group else r.name,
                _count(r.n),
                *_both(r.chrf),
                signed(r.chrf.difference, below=True),
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
    return table(head, bodies, caption=caption, pinned=True, dense=True, ruled=True)


def _errors(rows: Sequence[Transfer], caption: str) -> str:
    compared = any(r.error.difference for r in rows)
    head = ["Language", "Unit", "n", "Before, % [95% CI]", "After, % [95% CI]", *(["Difference", "p"] * compared)]
    body = [
        [
            r.name,
            r.error.unit,
            _count(r.n),
            *(_with_interval(m) for m in (r.error.before, r.error.after)),
            *([signed(r.error.difference), p_value(r.error.difference)] if compared else []),
        ]
        for r in rows
    ]
    return table(head, [body], caption=caption, text_columns=2, pinned=True)


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


def _gain_and_loss(variant: Variant) -> list[str]:
    return [signed(Difference(value=point.value, ci=point.ci)) for _, point in _points(variant)]


def _variant(variant: Variant) -> str:
    return f"{variant.name} → {name_of(variant.target)}" if variant.target else variant.name


def _both(change: Change, scale: float = 1) -> list[str]:
    """Before and after, each with its interval below."""
    return [_with_interval(m, scale, below=True) for m in (change.before, change.after)]


def _with_interval(metric: Metric | None, scale: float = 1, *, below: bool = False) -> str:
    return with_interval(metric.value, metric.ci, scale, below=below) if metric else DASH


def _is_drawn(change: Change) -> bool:
    return any(m is not None and m.value is not None for m in (change.before, change.after))


def _group(row: Transfer) -> str:
    return _TRAINED if row.trained else _NEVER


def _source(row: Transfer, rows: Iterable[Transfer]) -> str:
    """The language spoken; with the target's, where the rows have several."""
    return name_of(row.source) if len({r.target for r in rows}) == 1 else row.name


def _count(n: int | None) -> str:
    return DASH if n is None else str(n)
