"""The page's sections on a transfer study: variants compared in each test, by language spoken, figures of others."""

from collections.abc import Iterable, Sequence

from interlingua.report import transfer
from interlingua.report import transfer_plots as plots
from interlingua.report.markup import bullets, details, escape, figure, signatures_by_label
from interlingua.report.tables import DASH, Block, Cell, Number, Table, Text, count, difference, number, p_value, score
from interlingua.results import Change, Results, StudyRow, name_of

_METRICS = {"bleu": ("BLEU", 1), "chrf": ("chrF", 1), "comet": ("COMET", 4)}
_TASKS = {"transcribe": "Error rate of transcripts", "detect": "Languages named wrongly"}
_NEW = "new, "
_P = (
    "p: two-sided, by approximate randomisation over clusters, the trainings taken as they are; not corrected for the "
    "number of rows."
)
_BOTH = (
    "Before: the untrained model, under the prompt that did best on dev. In brackets: 95% intervals. Differences are "
    f"paired, after − before. {_P}"
)
_UNTRAINED = "untrained"


def variants(results: Results) -> list[Block]:
    """Every variant in every test: sources trained on, sources never trained on, into English, some of it apart."""
    blocks: list[Block] = []
    for test, target, rows in _by_test(results.study):
        measures = _scored(p for r in rows for p in r.pooled)
        pools = list(dict.fromkeys(p.pool for r in rows for p in r.pooled))
        bodies: list[list[list[Cell]]] = [
            [
                [
                    Text(r.variant, _pool(pool, target)),
                    ", ".join(name_of(code) for code in p.languages),
                    count(p.chrf.difference.n if p.chrf.difference else None),
                    *(cell for m in measures for cell in _cells(getattr(p, m), m)),
                ]
                for r in rows
                for p in r.pooled
                if p.pool == pool
            ]
            for pool in pools
        ]
        caption = f"Means over the languages spoken. {_BOTH}"
        head = ["Variant", "Languages spoken", "n", *(h for m in measures for h in _heads(m))]
        blocks.append(f"<h3>{escape(_heading(test, target))}</h3>")
        blocks += _picture(test, target, rows, pools)
        blocks.append(
            Table(
                name=f"variants-{test}-{target}",
                title=f"Variants in {_heading(test, target)}",
                head=head,
                bodies=bodies,
                caption=caption,
                text_columns=2,
                pinned=True,
                dense=True,
                ruled=True,
            )
        )
        blocks += _reasons(p for r in rows for p in r.pooled)
        blocks += _errors(test, target, rows)
        marks = [(label, r.variant, change) for r in rows for p in r.pooled for label, change in _changes(p)]
        blocks += details("Signatures", [_signatures(marks)])
    return blocks


def languages(results: Results) -> list[Block]:
    """Every variant in every test by language spoken; all but the first variant folded away."""
    blocks: list[Block] = []
    for test, target, rows in _by_test(results.study):
        blocks.append(f"<h3>{escape(_heading(test, target))}</h3>")
        for place, row in enumerate(rows):
            measures = _scored(row.table)
            trained = ", ".join(name_of(s) for s in row.sources)
            body: list[list[Cell]] = [
                [
                    Text(r.name, "trained on" if r.trained else "never trained on" if r.task == "new" else ""),
                    count(r.n),
                    *(cell for m in measures for cell in _cells(getattr(r, m), m)),
                    *(score(side, 100, below=True) for side in (r.off_target.before, r.off_target.after)),
                ]
                for r in row.table
            ]
            head = ["Direction", "n", *(h for m in measures for h in _heads(m))]
            made = Table(
                name=f"languages-{test}-{target}-{row.variant}",
                title=f"{row.variant} in {_heading(test, target)}, by language spoken",
                head=[*head, "Off target before, %", "Off target after, %"],
                bodies=[body],
                caption=f"{row.variant}, trained on {trained}. {_BOTH} Of several seeds the first is shown.",
                pinned=True,
                dense=True,
                ruled=True,
            )
            marks = [(label, r.name, change) for r in row.table for label, change in _changes(r)]
            shown: list[Block] = [made, *_reasons(row.table), *details("Signatures", [_signatures(marks)])]
            blocks += shown if place == 0 else details(row.variant, shown)
    return blocks


def published(results: Results) -> list[Block]:
    """Scores of the untrained model and of plain fine-tuning beside others'."""
    if not results.published_transfer:
        return []
    rows: list[list[Cell]] = [
        [
            f"{name_of(r.source)} → {name_of(r.target)}",
            r.test,
            r.variant,
            _METRICS[r.metric][0],
            Number(r.ours, digits=_METRICS[r.metric][1]),
            Number(r.published, digits=_METRICS[r.metric][1]) if isinstance(r.published, float) else r.published,
        ]
        for r in results.published_transfer
    ]
    made = Table(
        name="published-transfer",
        title="Beside published figures",
        head=["Direction", "Test", "Variant", "Metric", "Ours", "Published"],
        bodies=[rows],
        caption="Figures of others come from the file that the recipe names; none is filled in from memory. "
        f"{_UNTRAINED}: the model before training.",
        text_columns=4,
        pinned=True,
    )
    return [made]


def _by_test(rows: Sequence[StudyRow]) -> list[tuple[str, str, list[StudyRow]]]:
    """Rows that hold pooled scores, by test and target."""
    held = [r for r in rows if r.pooled]
    groups = dict.fromkeys((r.test, r.target) for r in held)
    return [(test, target, [r for r in held if (r.test, r.target) == (test, target)]) for test, target in groups]


def _heading(test: str, target: str) -> str:
    return f"{test}, into {name_of(target)}"


def _pool(pool: str, target: str) -> str:
    return f"into {name_of(target)}, {pool.removeprefix(_NEW)}" if pool.startswith(_NEW) else pool


def _picture(test: str, target: str, rows: Sequence[StudyRow], pools: Sequence[str]) -> list[Block]:
    """chrF before and after of every variant, pool by pool."""
    drawn = [
        (_heading_of(_pool(pool, target)), r.variant, p.chrf)
        for pool in pools
        for r in rows
        for p in r.pooled
        if p.pool == pool and transfer.is_drawn(p.chrf)
    ]
    if not drawn:
        return []
    svg = plots.changes_svg(drawn, "chrF (higher is better)", f"variants-{test}-{target}")
    caption = f"<b>chrF before and after, by variant: {escape(_heading(test, target))}.</b> {transfer.HOW}"
    return [figure(svg, f"{caption} {transfer.PAIRED}")]


def _heading_of(text: str) -> str:
    """With a capital; ``capitalize`` would take those of languages away."""
    return text[:1].upper() + text[1:]


def _errors(test: str, target: str, rows: Sequence[StudyRow]) -> list[Block]:
    """What became of transcripts and of naming the language."""
    tasks = [task for task in _TASKS if any(task in r.errors for r in rows)]
    if not tasks:
        return []
    body: list[list[Cell]] = [
        [r.variant, *(number(value) for task in tasks for value in r.errors.get(task, (None, None)))] for r in rows
    ]
    made = Table(
        name=f"errors-{test}-{target}",
        title=f"Transcripts and languages named in {_heading(test, target)}",
        head=["Variant", *(f"{_TASKS[task]}, {side}, %" for task in tasks for side in ("before", "after"))],
        bodies=[body],
        caption="Means over the languages spoken: WER, or CER where words aren't spaced.",
        pinned=True,
        dense=True,
    )
    return [made]


def _scored(rows: Iterable[object]) -> list[str]:
    """The metrics that some row has, or has a reason to lack."""
    held = list(rows)
    return [m for m in _METRICS if any(getattr(r, m).before or getattr(r, m).reason for r in held)]


def _heads(metric: str) -> list[str]:
    label = _METRICS[metric][0]
    return [f"{label} before", f"{label} after", f"{label} difference", f"{label} p"]


def _cells(change: Change, metric: str) -> list[Cell]:
    digits = _METRICS[metric][1]
    if change.reason:
        return ["not scored", DASH, DASH, DASH]
    return [
        *(score(side, digits=digits, below=True) for side in (change.before, change.after)),
        difference(change.difference, digits=digits, below=True),
        p_value(change.difference),
    ]


def _changes(row: object) -> list[tuple[str, Change]]:
    return [(label, getattr(row, metric)) for metric, (label, _) in _METRICS.items()]


def _reasons(rows: Iterable[object]) -> list[Block]:
    """Why a metric couldn't be had."""
    told = dict.fromkeys(f"{label}: {c.reason}" for r in rows for label, c in _changes(r) if c.reason)
    return [bullets(told)] if told else []


def _signatures(marks: Iterable[tuple[str, str, Change]]) -> str:
    found: list[tuple[str, str, str | None]] = []
    for label, of, change in marks:
        found += [(label, of, m.signature) for m in (change.before, change.after) if m]
        found += [(f"{label}, difference", of, change.difference.signature)] if change.difference else []
    return signatures_by_label(found)
