"""What several runs measured, side by side, with paired tests where the same utterances were kept."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from statistics import fmean
from typing import TypeVar

import msgspec

from interlingua.metrics import Metric as TextMetric
from interlingua.report import plots, transfer
from interlingua.report.lines import Line, compared, not_tested, scaled, side_by_side
from interlingua.report.markup import details, escape, figure
from interlingua.report.pairing import Run, recall_difference, transcript_difference, translation_difference
from interlingua.report.tables import Block
from interlingua.results import (
    Change,
    Difference,
    Metric,
    Pair,
    Point,
    Results,
    Retrieval,
    SystemScores,
    Translation,
    Variant,
    name_of,
)
from interlingua.retrieval.methods import method_label

Row = TypeVar("Row", Translation, SystemScores)

_TASKS = {  # task -> title, its score, and what that is called
    "new": ("Into the new target", "chrf", "chrF"),
    "translate": ("Translation into English", "chrf", "chrF"),
    "other": ("Other targets", "chrf", "chrF"),
    "transcribe": ("Transcription", "error", "error rate, %"),
    "detect": ("Naming the language", "error", "error rate, %"),
}
_OUTPUT_MEASURES: dict[str, tuple[str, float, int, TextMetric | None]] = {
    # field -> label, scale, digits, what a paired test of translations calls it
    "chrfpp": ("chrF++", 1, 1, "chrf++"),
    "bleu": ("BLEU", 1, 1, "bleu"),
    "off_target": ("Off target, %", 100, 1, None),
    "comet": ("COMET", 1, 4, None),
    "error": ("Error rate, %", 1, 1, None),
}
_NEW, _OLD = "new, sources never trained on", "into English"


def retrieval(runs: Sequence[Run]) -> list[Block]:
    """R@1 under each run's main method; under each other method that runs share, folded away."""
    runs = [replace(run, results=_with_pivot(run.results)) for run in runs]
    groups = [tuple(run.results.main_method for run in runs)]
    for method in runs[0].results.methods:
        group = tuple(method if method in run.results.methods else None for run in runs)
        if group not in groups and any(group[1:]):
            groups.append(group)
    parts: list[Block] = []
    for place, group in enumerate(groups):
        names = {method_label(m) for m in group if m}
        told = (f"{run.name} {method_label(m)}" for run, m in zip(runs, group, strict=True) if m)
        label = names.pop() if len(names) == 1 else f"each run's main method ({', '.join(told)})"
        blocks = _recall(runs, group, label, f"recall-{place + 1}")
        if blocks and not parts:
            parts = [*_heat_maps(runs, group), *blocks]
        elif blocks:
            parts += details(f"The same under {label}", blocks)
    return parts


def _heat_maps(runs: Sequence[Run], methods: Sequence[str | None]) -> list[Block]:
    """A heat map of each run's R@1, on one colour scale; nothing where languages are two."""
    drawn = [(run, m) for run, m in zip(runs, methods, strict=True) if m and len(run.results.scores(m)) > 2]
    if len(drawn) < 2:
        return []
    top = max(plots.colour_top(run.results) for run, _ in drawn)
    maps = [
        figure(
            plots.recall_svg(run.results, method, small=True, top=top, name=f"recall-of-run-{i}"),
            f"<b>{escape(run.name)}</b>: {escape(method_label(method))}; rows: query, columns: candidates.",
        )
        for i, (run, method) in enumerate(drawn, start=1)
    ]
    return ["<h3>R@1, %, on the same colour scale</h3>", f'<div class="row">\n{"".join(maps)}</div>']


def _recall(runs: Sequence[Run], methods: Sequence[str | None], label: str, name: str) -> list[Block]:
    by_run = [run.results.scores(method) if method else {} for run, method in zip(runs, methods, strict=True)]
    pairs = [pair for pair in by_run[0] if any(pair in scores for scores in by_run[1:])]

    def line(label: str, over: Sequence[Pair]) -> Line:
        scores = [_mean_recall([found[pair] for pair in over if pair in found], len(over)) for found in by_run]

        def paired(i: int) -> Difference | None:
            return recall_difference(runs[0], runs[i], (methods[0] or "", methods[i] or ""), over)

        return compared(label, scores, paired)

    common = [pair for pair in pairs if all(pair in found for found in by_run)]
    lines = [line(f"Mean of {len(common)} pairs", common)] if len(common) > 1 else []
    lines += [line(f"{name_of(query)} → {name_of(candidate)}", [(query, candidate)]) for query, candidate in pairs]
    return side_by_side(runs, name, "R@1, %", lines, f"R@1 under {label}, by language of the query and the candidates.")


def _with_pivot(results: Results) -> Results:
    """Results whose retrieval includes that of a robustness study, to and from its pivot."""
    found = results.robustness
    if found is None:
        return results
    rows = [row for r in found.languages for way in (r.to_pivot, r.from_pivot) for row in way.values()]
    return msgspec.structs.replace(results, retrieval=[*results.retrieval, *rows])


def _mean_recall(found: Sequence[Retrieval], wanted: int) -> Metric | None:
    """R@1 in per cent, meaned over pairs, which gives no interval; None where one of them is lacking."""
    if len(found) < wanted:
        return None
    ci = found[0].r1_ci if wanted == 1 else None
    return Metric(value=100 * fmean(s.r1 for s in found), ci=ci and (100 * ci[0], 100 * ci[1]))


def translation(runs: Sequence[Run]) -> list[Block]:
    """BLEU and chrF by direction."""
    lines: dict[str, list[Line]] = {"chrF": [], "BLEU": []}
    for label, rows in _matched([run.results.translation for run in runs], lambda row: row.pair_name):
        measured: tuple[tuple[TextMetric, list[Line]], ...] = (("chrf", lines["chrF"]), ("bleu", lines["BLEU"]))
        for metric, of_metric in measured:
            of_metric.append(compared(label, [getattr(r, metric, None) for r in rows], _pairing(runs, rows, metric)))
    return [
        block
        for label, of_metric in lines.items()
        for block in side_by_side(runs, f"translation-{label.lower()}", label, of_metric, f"{label} by direction.")
    ]


def outputs(runs: Sequence[Run]) -> list[Block]:
    """Systems' scores by task and language spoken."""
    matched = _matched([run.results.outputs for run in runs], _output_name)
    parts: list[Block] = []
    for metric, (label, scale, digits, paired) in _OUTPUT_MEASURES.items():
        lines = []
        for name, rows in matched:
            test = _transcribed(runs, rows) if metric == "error" else _pairing(runs, rows, paired)
            lines.append(compared(name, [scaled(getattr(r, metric, None), scale) for r in rows], test))
        of_measure = f"outputs-{metric}".replace("_", "-")
        parts += side_by_side(runs, of_measure, label, lines, f"{label} of systems' outputs.", digits=digits)
    return parts


def after_training(runs: Sequence[Run]) -> list[Block]:
    """Scores after fine-tuning."""
    found = [{(r.task, r.source, r.target): r for r in run.results.transfer} for run in runs]
    keys = [key for key in found[0] if any(key in rows for rows in found[1:])]
    parts: list[Block] = []
    for task, (title, metric, label) in _TASKS.items():
        lines = []
        for key in (key for key in keys if key[0] == task):
            rows = [of_run.get(key) for of_run in found]
            changes: list[Change | None] = [getattr(row, metric) if row else None for row in rows]
            name = next(row.name for row in rows if row)
            paired = partial(_trained, runs, task, key[1:])
            lines.append(compared(name, [change.after if change else None for change in changes], paired))
        parts += side_by_side(runs, f"transfer-{task}", label, lines, f"{title}, after fine-tuning: {label}.")
    return parts


def pareto(runs: Sequence[Run]) -> list[Block]:
    """What each fine-tuned run gains and loses, in one picture; of studies, their variants side by side."""
    points = [variant for run in runs if (variant := _point(run)) is not None]
    parts = transfer.pareto(Results(pareto=points)) if len(points) > 1 else []
    found = [{(v.name, v.target, v.test): v for v in run.results.pareto} for run in runs]
    keys = [key for key in found[0] if any(key in variants for variants in found[1:])]
    for side, label in (("gain", "Gain on the new target, chrF"), ("loss", "Change on the old tasks, chrF")):
        lines = []
        for key in keys:
            variants = [of_run.get(key) for of_run in found]
            scores = [_as_metric(getattr(variant, side)) if variant else None for variant in variants]
            name, target, test = key
            which = f"{name} → {name_of(target)}" if target else name
            lines.append(compared(f"{which}, {test}" if test else which, scores, not_tested))
        parts += side_by_side(runs, f"variants-{side}", label, lines, f"{label}, by variant.", what="Variant")
    return parts


def _point(run: Run) -> Variant | None:
    """A fine-tuning's gain and loss, where it has both."""
    pooled = {row.pool: row.chrf for row in run.results.transfer_pooled}
    gain, loss = pooled.get(_NEW), pooled.get(_OLD)
    if gain is None or loss is None or gain.value is None or loss.value is None:
        return None
    return Variant(name=run.name, gain=Point(value=gain.value, ci=gain.ci), loss=Point(value=loss.value, ci=loss.ci))


def _matched(rows: Sequence[Sequence[Row]], name: Callable[[Row], str]) -> list[tuple[str, list[Row | None]]]:
    """Rows of one name, by run: of the same system, or of each run's only one."""
    found: list[tuple[str, list[Row | None]]] = []
    for label in dict.fromkeys(name(row) for row in rows[0]):
        by_system = [{row.system: row for row in of_run if name(row) == label} for of_run in rows]
        if all(len(systems) <= 1 for systems in by_system):
            found.append((label, [next(iter(systems.values()), None) for systems in by_system]))
        else:
            found += [(f"{label}, {s}", [systems.get(s) for systems in by_system]) for s in by_system[0]]
    return found


def _pairing(
    runs: Sequence[Run], rows: Sequence[Translation | SystemScores | None], metric: TextMetric | None
) -> Callable[[int], Difference | None]:
    """What compares a run's translations with the first's, where they were kept."""

    def paired(i: int) -> Difference | None:
        before, after = rows[0], rows[i]
        if metric is None or before is None or after is None or before.target is None:
            return None
        directions = [(source, before.target) for source in _sources(before)]
        return translation_difference(runs[0], runs[i], (before.system, after.system), directions, metric)

    return paired


def _transcribed(runs: Sequence[Run], rows: Sequence[SystemScores | None]) -> Callable[[int], Difference | None]:
    """What compares a run's transcripts with the first's, where they were kept."""

    def paired(i: int) -> Difference | None:
        before, after = rows[0], rows[i]
        if before is None or after is None:
            return None
        return transcript_difference(runs[0], runs[i], (before.system, after.system), _sources(before))

    return paired


def _sources(row: Translation | SystemScores) -> list[str]:
    """The languages that a row is of: one, or several that are pooled."""
    if row.source is not None:
        return [row.source]
    return row.sources if isinstance(row, SystemScores) else []


def _trained(runs: Sequence[Run], task: str, direction: Pair, i: int) -> Difference | None:
    after = ("after", "after")
    if task == "detect":  # the languages named aren't kept
        return None
    if task == "transcribe":
        return transcript_difference(runs[0], runs[i], after, direction[:1])
    return translation_difference(runs[0], runs[i], after, [direction], "chrf")


def _output_name(row: SystemScores) -> str:
    if row.task == "transcribe":
        return f"{row.spoken}, transcribed"
    return f"{row.spoken} → {name_of(row.target or '')}"


def _as_metric(point: Point) -> Metric:
    return Metric(value=point.value, ci=point.ci, signature=point.signature)
