"""The page's section on translation: scores by direction, and samples."""

from collections import Counter

from interlingua.report.markup import details, signatures_by_label, text_lines
from interlingua.report.tables import Block, Cell, Table, count, score
from interlingua.results import Results, Sample, name_of

SAMPLES_SHOWN = 3  # translations shown of each source language; the others are folded away


def translation(results: Results, *, fold: bool) -> list[Block]:
    """BLEU and chrF by direction, and samples: the first ones, and where asked for, the others folded away."""
    if not results.translation:
        return _samples(results, fold)
    with_system = any(t.system for t in results.translation)
    rows: list[list[Cell]] = []
    for t in results.translation:
        n = t.n if t.n is not None else next((m.n for m in (t.bleu, t.chrf) if m and m.n), None)
        rows.append([t.pair_name, *([t.system] if with_system else []), count(n), score(t.bleu), score(t.chrf)])
    shown = Table(
        name="translation",
        title="Translation",
        head=["Direction", *(["System"] if with_system else []), "n", "BLEU [95% CI]", "chrF [95% CI]"],
        bodies=[rows],
        text_columns=2 if with_system else 1,
        pinned=True,
    )
    signed = [
        (label, t.pair_name, metric.signature)
        for t in results.translation
        for label, metric in (("BLEU", t.bleu), ("chrF", t.chrf))
        if metric is not None
    ]
    samples = _samples(results, fold)
    return [shown, signatures_by_label(signed), *(["<h3>Samples</h3>"] if samples else []), *samples]


def _samples(results: Results, fold: bool) -> list[Block]:
    shown: list[str] = []
    folded: list[str] = []
    seen: Counter[str | None] = Counter()
    for sample in results.samples:
        seen[sample.source] += 1
        (shown if seen[sample.source] <= SAMPLES_SHOWN else folded).append(_sample(sample))
    parts: list[Block] = [_group(shown)] if shown else []
    return parts + (details(f"{len(folded)} more", [_group(folded)]) if folded and fold else [])


def _group(samples: list[str]) -> str:
    return '<div class="samples">\n' + "\n".join(samples) + "\n</div>"


def _sample(sample: Sample) -> str:
    lines = [
        (f"Said ({name_of(sample.source)})" if sample.source else "Said", sample.transcript, sample.source),
        (f"Reference ({name_of(sample.target)})" if sample.target else "Reference", sample.reference, sample.target),
        ("System", sample.hypothesis, sample.target),
    ]
    return text_lines(lines)
