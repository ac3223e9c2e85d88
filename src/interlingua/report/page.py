"""The page: sections from records, tables and SVG pictures, filled into ``report.html``."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from statistics import fmean
from string import Template
from typing import Any

import numpy as np

from interlingua.files import write_text
from interlingua.report import outputs, plots, transfer
from interlingua.report.markup import (
    DASH,
    Html,
    bullets,
    escape,
    facts,
    figure,
    language_attributes,
    number,
    signature_list,
    signatures_by_label,
    table,
    text_lines,
    with_interval,
)
from interlingua.report.records import (
    METHODS,
    Metric,
    Results,
    Retrieval,
    Sample,
    Side,
    method_label,
    name_of,
    read_records,
)
from interlingua.report.summary import Summary, is_near_chance, percent, summarise
from interlingua.results import load_results

SAMPLES_SHOWN = 3  # translations shown of each source language; the others are folded away

Arrays = Mapping[str, np.ndarray]
_DEFAULT_TITLE = "Cross-lingual retrieval and translation"


def write_report(folder: Path) -> Path:
    """Write ``report.html`` into a result folder, from what the folder holds, and return its path.

    The page needs nothing but itself. Parts that were not measured are left out; the same results give
    the same bytes.

    Raises:
        ResultsError: no results there, or not of this version's schema.
    """
    saved, arrays = load_results(folder)
    path = Path(folder) / "report.html"
    write_text(path, _page(read_records(saved), arrays))
    return path


def _page(results: Results, arrays: Arrays) -> str:
    summary = summarise(results)
    builders: list[tuple[str, str, Callable[[], str]]] = [
        ("retrieval", "Retrieval across languages", lambda: _retrieval(results, arrays, summary)),
        ("pairs", "All ordered pairs", lambda: _pairs(results)),
        ("methods", "Methods and controls", lambda: _methods(results)),
        ("published", "Beside published figures", lambda: _published(results)),
        ("alignment", "Inside one match", lambda: _alignment(results, arrays)),
        ("translation", "Translation", lambda: _translation(results)),
        ("transfer", "Into the new target", lambda: transfer.new_target(results)),
        ("kept", "What must not be lost", lambda: transfer.kept(results)),
        ("pooled", "Pooled differences", lambda: transfer.pooled(results)),
        ("pareto", "Gain against loss", lambda: transfer.pareto(results)),
        ("systems", "Systems' outputs", lambda: outputs.systems(results)),
        ("compared", "One system against another", lambda: outputs.compared(results)),
        ("durations", "By duration", lambda: outputs.by_duration(results)),
        ("worst", "The worst outputs", lambda: outputs.worst(results)),
        ("corpus", "Corpus and credits", lambda: _corpus(results)),
        ("settings", "Settings", lambda: _settings(results)),
        ("provenance", "Versions and machine", lambda: _provenance(results)),
        ("timings", "Timings", lambda: _timings(results)),
        ("rebuild", "How to rebuild", lambda: _rebuild(results)),
    ]
    sections = [(anchor, title, content) for anchor, title, build in builders if (content := build())]
    body = "\n".join(
        f'<section id="{anchor}">\n<h2><span class="no">{number}</span>{escape(title)}</h2>\n{content}\n</section>'
        for number, (anchor, title, content) in enumerate(sections, start=1)
    )
    links = "\n".join(f'<a href="#{anchor}">{escape(title)}</a>' for anchor, title, _ in sections)
    template = Template(_resource("report.html"))
    return template.substitute(
        title=escape(results.title or _DEFAULT_TITLE),
        css=_resource("report.css").strip(),
        lead=_failures(results) + _lead(summary),
        contents=f'<nav aria-label="Sections">\n{links}\n</nav>' if len(sections) > 1 else "",
        body=body,
        footer=_footer(results),
    )


def _failures(results: Results) -> str:
    if not results.failures:
        return ""
    n = len(results.failures)
    what = "One utterance" if n == 1 else f"{n} utterances"
    return f"<aside>\n<h3>{what} failed, and counted as missed</h3>\n{bullets(results.failures)}\n</aside>\n"


def _lead(summary: Summary) -> str:
    if not summary.lead:
        return ""
    parts = [f'<p class="lead">{escape(summary.lead)}</p>']
    parts += [f"<p>{escape(text)}</p>" for text in (summary.controls, " ".join(summary.notes)) if text]
    if summary.near_chance:
        one = len(summary.near_chance) == 1
        parts.append(
            f"<aside>\n<h3>{'A pair' if one else 'Pairs'} near chance</h3>\n"
            f"{bullets(summary.near_chance)}\n<p>Likely causes, to be checked in this order:</p>\n"
            f"{bullets(summary.causes)}\n</aside>"
        )
    return "\n".join(parts)


def _retrieval(results: Results, arrays: Arrays, summary: Summary) -> str:
    method = results.main_method
    if method is None or not summary.lead:
        return ""
    top = plots.colour_top(results)
    scores = results.scores(method).values()
    clusters = [s.n_clusters for s in scores if s.n_clusters is not None]
    queries = [s.n for s in scores if s.n is not None]
    caption = (
        f"<b>{escape(method_label(method))}, R@1 in per cent</b>: how often the right utterance is ranked "
        "first. A row is the language of the query, a column that of the candidates; same-language pairs are "
        "left out."
    )
    if any(s.r1_ci for s in scores):
        caption += " Small figures: 95% interval"
        caption += f", over {_span(clusters)} clusters of near-duplicate sentences." if clusters else "."
    if queries:
        caption += f" {_span(queries)} queries a pair."
    parts = [figure(plots.recall_svg(results, method, top=top), caption)]
    others = [m for m in results.methods if m != method and results.scores(m)]
    if others:
        parts.append("<h3>The same for the other methods, on the same colour scale</h3>")
        small = []
        n_pairs = len(results.languages) * (len(results.languages) - 1)
        for other in others:
            found = results.scores(other)
            mean = percent(fmean(s.r1 for s in found.values()))
            what = METHODS.get(other, ("", ""))[1]
            text = f"<b>{escape(method_label(other))}</b>{', ' if what else ''}{escape(what)}. Mean {mean}"
            text += f" over {len(found)} {'pair' if len(found) == 1 else 'pairs'}"
            text += "; · not run." if len(found) < n_pairs else "."
            small.append(figure(plots.recall_svg(results, other, small=True, top=top), text))
        parts.append(f'<div class="row">\n{"".join(small)}</div>')
    if results.similarity is not None and plots.has_matrix(arrays, "similarity"):
        about = results.similarity
        languages = escape(f"{name_of(about.query)} → {name_of(about.candidate)}")
        caption = (
            f"<b>Every score of {languages}</b> ({escape(method_label(about.method))}): a row for each query, "
            "a column for each candidate, in the same order, so that right answers lie on the diagonal. "
            "Stripes are utterances that score high with everything."
        )
        parts.append(figure(plots.similarity_svg(results, arrays), caption))
    return "\n".join(parts)


def _pairs(results: Results) -> str:
    method = results.main_method
    scores = list(results.scores(method).values()) if method else []
    if not scores:
        return ""
    head = ["Query → candidates", "R@1, % [95% CI]", "R@5", "R@10", "MRR [95% CI]", "R@1 near-dup."]
    head.append("Chance R@1")
    bodies: list[list[list[str]]] = []
    last = ""
    for score in scores:
        row = [
            _flagged(score),
            with_interval(score.r1, score.r1_ci, 100),
            number(score.r5, 100),
            number(score.r10, 100),
            with_interval(score.mrr, score.mrr_ci, 1, digits=3),
            number(score.r1_cluster, 100) + _beside(score.chance_cluster),
            number(score.chance, 100, digits=2),
        ]
        if score.query != last:
            bodies.append([])
        bodies[-1].append(row)
        last = score.query
    caption = [
        f"{method_label(method or '')}. All in per cent but MRR.",
        "R@1 near-dup. counts a near-duplicate of the right sentence as right; beside it, its own chance.",
    ]
    if any(is_near_chance(s) for s in scores):
        caption.append("† near chance.")
    for label, values in (
        ("queries", [s.n for s in scores]),
        ("candidates", [s.n_candidates for s in scores]),
        ("clusters of near-duplicates", [s.n_clusters for s in scores]),
    ):
        known = [v for v in values if v is not None]
        if known:
            caption.append(f"{label.capitalize()}: {_span(known)}.")
    signatures = list(dict.fromkeys(s.signature for s in scores if s.signature))
    rows = table(head, bodies, caption=" ".join(caption), pinned=True)
    marks = signature_list([("Retrieval", s) for s in signatures])
    return f"{rows}\n{marks}\n{_by_method(results)}"


def _by_method(results: Results) -> str:
    """R@1 of every method on every pair, folded away."""
    methods = results.methods
    if len(methods) < 2:
        return ""
    by_method = {m: results.scores(m) for m in methods}
    pairs = list(dict.fromkeys(pair for scores in by_method.values() for pair in scores))
    rows = []
    for pair in pairs:
        cells = [by_method[m].get(pair) for m in methods]
        rows.append(
            [
                f"{name_of(pair[0])} → {name_of(pair[1])}",
                *(with_interval(c.r1, c.r1_ci, 100) if c else DASH for c in cells),
            ]
        )
    head = ["Query → candidates", *(method_label(m) for m in methods)]
    folded = table(head, [rows], caption="R@1, % [95% CI].", pinned=True)
    return f"<details>\n<summary>R@1 of every method on every pair</summary>\n{folded}\n</details>"


def _methods(results: Results) -> str:
    main = results.main_method
    by_method = {m: scores for m in results.methods if (scores := results.scores(m))}
    if main is None or len(by_method) < 2:
        return ""
    ours = by_method[main]
    common = set.intersection(*(set(scores) for scores in by_method.values()))
    uneven = any(set(scores) != set(ours) for scores in by_method.values())
    head = ["Method", "R@1, %", "R@5", "R@10", "MRR"] if common else ["Method"]
    if uneven:
        head += ["Pairs run", "R@1 on these", f"{method_label(main)} on these"]
    rows = []
    for method, scores in by_method.items():
        label, about = METHODS.get(method, (method, ""))
        row = [Html(f"{escape(label)}<span class='sub'>{escape(about)}</span>") if about else label]
        if common:
            shared = [scores[p] for p in ours if p in common]
            row += [number(_mean(v), 100) for v in zip(*((s.r1, s.r5, s.r10) for s in shared), strict=True)]
            row.append(number(_mean(s.mrr for s in shared), 1, digits=3))
        if uneven:
            both = [p for p in scores if p in ours]
            row += [str(len(scores)), number(_mean(scores[p].r1 for p in both), 100)]
            row += [number(_mean(ours[p].r1 for p in both), 100) if method != main else DASH]
        rows.append(row)
    chance = _mean(ours[p].chance for p in common)
    chance5, chance10 = _mean(ours[p].chance_r5 for p in common), _mean(ours[p].chance_r10 for p in common)
    if common and chance is not None:
        row = ["Chance", number(chance, 100, digits=2), number(chance5, 100), number(chance10, 100), DASH]
        rows.append(row + ([DASH] * 3 if uneven else []))
    n_common = f"{len(common)} {'pair' if len(common) == 1 else 'pairs'}"
    if common and uneven:
        caption = (
            f"Means over the {n_common} that every method was run on (R@1 to MRR); at the right, means over "
            f"all pairs of a method, beside {method_label(main)} on the same pairs."
        )
    elif common:
        caption = f"Means over the same {n_common}."
    else:
        caption = "No pair is common to all methods: compare each with the figure at its right."
    caption += " Means of pairs have no interval of their own: the pairs share their sentences."
    return table(head, [rows], caption=caption, ruled=True, strong_first_row=True, pinned=True)


def _published(results: Results) -> str:
    if not results.published:
        return ""
    rows = [
        [
            escape(f"{r.query} → {r.candidate}"),
            escape(method_label(r.method)),
            number(r.ours, 100),
            number(r.published, 100) if isinstance(r.published, float) else escape(r.published),
        ]
        for r in results.published
    ]
    return table(
        ["Pair", "Method", "Ours, R@1 %", "Published, R@1 %"],
        [rows],
        caption="Figures of others come from the file that the recipe names; none is filled in from memory.",
        text_columns=2,
    )


def _alignment(results: Results, arrays: Arrays) -> str:
    alignment = results.alignment
    if alignment is None:
        return ""
    query, candidate = alignment.query, alignment.candidate
    parts = [
        "<p>One utterance and its counterpart in another language, compared frame by frame with the "
        "encoder's states only: no text takes part. It is one example, not a measurement.</p>",
        f'<dl class="transcripts">\n{_spoken(query, "query")}\n{_spoken(candidate, "candidate")}\n</dl>',
    ]
    if plots.has_matrix(arrays, "alignment"):
        n, m = arrays["alignment"].shape
        frame = f"{1000 * query.seconds / n:.0f} ms" if query.seconds else "a frame"
        down, across = escape(name_of(query.language)), escape(name_of(candidate.language))
        caption = (
            f"<b>How to read it.</b> Time runs down in the {down} query and from left to right in the "
            f"{across} candidate. A cell compares {frame} of one with {frame} of the other ({n} × {m} frames); "
            "the brighter, the more alike. Thin lines are borders of words. "
            '<span class="dot"></span> is the best match of each query frame, <span class="diamond"></span> '
            "that of each candidate frame. Where the space is shared, they gather at the crossings of words "
            "of one meaning, on the diagonal or off it. Whisper also adds each frame's position in time, which "
            "can raise the likeness of frames at equal times."
        )
        scores = [
            f"{label} {value:.3f}"
            for label, value in (
                ("the mean over query frames (precision) is", alignment.precision),
                ("over candidate frames (recall)", alignment.recall),
                ("their harmonic mean, SeqSim,", alignment.f1),
            )
            if value is not None
        ]
        if scores:
            caption += f" Of these best matches, {'; '.join(scores)}."
        parts.append(figure(plots.alignment_svg(results, arrays), caption, wide=True))
    return "\n".join(parts)


def _spoken(side: Side, role: str) -> str:
    seconds = f", {side.seconds:.1f} s" if side.seconds else ""
    text = side.text or " ".join(w.word for w in side.words or []) or DASH
    return (
        f"<dt>{escape(name_of(side.language))} {role}{seconds}</dt>"
        f"<dd{language_attributes(side.language)}>{escape(text)}</dd>"
    )


def _translation(results: Results) -> str:
    parts = []
    if results.translation:
        with_system = any(t.system for t in results.translation)
        rows = []
        for t in results.translation:
            n = t.n if t.n is not None else next((m.n for m in (t.bleu, t.chrf) if m and m.n), None)
            row = [t.pair_name, *([t.system] if with_system else []), DASH if n is None else str(n)]
            rows.append([*row, _metric(t.bleu), _metric(t.chrf)])
        head = ["Direction", *(["System"] if with_system else []), "n", "BLEU [95% CI]", "chrF [95% CI]"]
        text_columns = 2 if with_system else 1
        parts.append(table(head, [rows], caption="", text_columns=text_columns, pinned=True))
        signed = [
            (label, t.pair_name, metric.signature)
            for t in results.translation
            for label, metric in (("BLEU", t.bleu), ("chrF", t.chrf))
            if metric is not None
        ]
        parts.append(signatures_by_label(signed))
    parts.append(_samples(results))
    return "\n".join(p for p in parts if p)


def _beside(chance: float | None) -> str:
    return "" if chance is None else f' <span class="ci">({number(chance, 100)})</span>'


def _samples(results: Results) -> str:
    """The first few samples of each source language; the others folded away."""
    shown: list[str] = []
    folded: list[str] = []
    seen: Counter[str | None] = Counter()
    for sample in results.samples:
        seen[sample.source] += 1
        (shown if seen[sample.source] <= SAMPLES_SHOWN else folded).append(_sample(sample))
    if not shown:
        return ""
    heading = "<h3>Samples</h3>\n" if results.translation else ""
    page = heading + '<div class="samples">\n' + "\n".join(shown) + "\n</div>"
    if folded:
        others = '<div class="samples">\n' + "\n".join(folded) + "\n</div>"
        page += f"\n<details>\n<summary>{len(folded)} more</summary>\n{others}\n</details>"
    return page


def _sample(sample: Sample) -> str:
    lines = [
        (f"Said ({name_of(sample.source)})" if sample.source else "Said", sample.transcript, sample.source),
        (f"Reference ({name_of(sample.target)})" if sample.target else "Reference", sample.reference, sample.target),
        ("System", sample.hypothesis, sample.target),
    ]
    return text_lines(lines)


def _corpus(results: Results) -> str:
    corpus = results.corpus
    if corpus is None:
        return ""
    parts = []
    counts = []
    if corpus.n_meanings is not None:
        counts.append(f"{corpus.n_meanings} sentences")
    if corpus.n_clusters is not None:
        counts.append(f"{corpus.n_clusters} clusters of near-duplicates")
    opening = ": ".join(part for part in (corpus.title, ", ".join(counts)) if part)
    if opening:
        parts.append(f"<p>{escape(opening)}.</p>")
    if corpus.languages:
        rows = [
            [
                name_of(lang.language),
                lang.voice or DASH,
                lang.variety or DASH,
                lang.licence or DASH,
                DASH if lang.n is None else str(lang.n),
                DASH if lang.seconds is None else f"{lang.seconds / 60:.1f}",
            ]
            for lang in corpus.languages
        ]
        head = ["Language", "Voice", "Variety", "Licence", "Recordings", "Minutes"]
        parts.append(table(head, [rows], caption="", text_columns=4, pinned=True))
    if corpus.rules:
        parts += ["<h3>What was used</h3>", bullets(corpus.rules)]
    return "\n".join(parts)


def _settings(results: Results) -> str:
    return facts([(k, _plain(v)) for k, v in results.settings.items()])


def _provenance(results: Results) -> str:
    p = results.provenance
    commit = f"{p.commit}{' with uncommitted changes' if p.dirty else ''}" if p.commit else None
    found: list[tuple[str, str | None]] = [
        ("Interlingua", p.version),
        ("Commit", commit),
        ("Started", p.started),
        ("Took", None if p.seconds is None else _duration(p.seconds)),
        ("Python", p.python),
        ("Platform", p.platform),
        *((f"Device: {k}" if k != "name" else "Device", _plain(v)) for k, v in p.device.items()),
        ("Packages", ", ".join(f"{k} {v}" for k, v in p.packages.items() if v)),
    ]
    return facts([(k, v) for k, v in found if v])


def _timings(results: Results) -> str:
    known = [(stage, seconds) for stage, seconds in results.timings.items() if seconds is not None]
    if not known:
        return ""
    rows = [[stage, _duration(seconds)] for stage, seconds in known]
    return f'<div class="facts">{table(["Stage", "Time"], [rows], caption="", ruled=True)}</div>'


def _rebuild(results: Results) -> str:
    p = results.provenance
    parts = [
        "<p>This page, in its own folder, from <code>results.json</code> and <code>arrays.npz</code>:</p>",
        "<pre>interlingua report .</pre>",
    ]
    if p.command:
        steps = [f"git checkout {p.commit}"] if p.commit else []
        note = " The commit alone is not enough: the checkout had uncommitted changes." if p.dirty else ""
        measured = escape("\n".join([*steps, p.command]))
        parts.append(f"<p>The measurements themselves:{note}</p>\n<pre>{measured}</pre>")
    return "\n".join(parts)


def _footer(results: Results) -> str:
    p = results.provenance
    parts = [f"Interlingua {p.version}" if p.version else "Interlingua"]
    if p.commit:
        parts.append(f"commit {p.commit}{' (dirty)' if p.dirty else ''}")
    if p.started:
        parts.append(f"measured {p.started}")
    paper = "Method: Ma et al., Cross-Lingual Transfer Learning for Speech Translation (arXiv 2407.01130)."
    return f"<p>{escape(', '.join(parts))}. {escape(paper)}</p>"


def _flagged(score: Retrieval) -> str:
    if not is_near_chance(score):
        return score.pair_name
    return Html(f'{escape(score.pair_name)}&nbsp;<span class="flag" title="near chance">†</span>')


def _metric(metric: Metric | None) -> str:
    return DASH if metric is None else with_interval(metric.value, metric.ci, 1)


def _mean(values: Iterable[float | None]) -> float | None:
    """The mean, or None where a value is missing: a mean over fewer pairs would not compare."""
    known = list(values)
    present = [v for v in known if v is not None]
    return fmean(present) if present and len(present) == len(known) else None


def _span(values: Sequence[int]) -> str:
    return str(values[0]) if min(values) == max(values) else f"{min(values)} to {max(values)}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _plain(value: Any) -> str:
    """A setting's value for people."""
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str | int | float):
        return str(value)
    if value in ([], {}, ""):
        return DASH
    if isinstance(value, list) and all(isinstance(v, str | int | float) for v in value):
        return ", ".join(_plain(v) for v in value)
    return json.dumps(value, ensure_ascii=False)


def _resource(name: str) -> str:
    return (files("interlingua.report") / name).read_text(encoding="utf-8")
