"""The page's sections on retrieval: heat maps, every pair and method, published figures, one match from inside."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

import numpy as np

from interlingua.report import plots
from interlingua.report.markup import details, escape, figure, language_attributes, signature_list
from interlingua.report.summary import Summary, is_near_chance, percent
from interlingua.report.tables import DASH, Block, Cell, Number, Table, Text, number
from interlingua.results import Results, Side, name_of
from interlingua.retrieval.methods import METHOD_LABELS, method_label

_CHANCE = "chance"  # in `published`: no method, but chance itself
Arrays = Mapping[str, np.ndarray]


def retrieval(results: Results, arrays: Arrays, summary: Summary) -> list[Block]:
    """R@1 as heat maps, and the score matrix."""
    method = results.main_method
    if method is None or not summary.lead:
        return []
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
    parts: list[Block] = [figure(plots.recall_svg(results, method, top=top), caption)]
    others = [m for m in results.methods if m != method and results.scores(m)]
    if others:
        parts.append("<h3>The same for the other methods, on the same colour scale</h3>")
        small = []
        n_pairs = len(results.languages) * (len(results.languages) - 1)
        for other in others:
            found = results.scores(other)
            mean = percent(fmean(s.r1 for s in found.values()))
            what = METHOD_LABELS.get(other, ("", ""))[1]
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
    return parts


def pairs(results: Results) -> list[Block]:
    """Every ordered pair under the main method; under the others folded away."""
    method = results.main_method
    scores = list(results.scores(method).values()) if method else []
    if not scores:
        return []
    head = ["Query → candidates", "R@1, % [95% CI]", "R@5", "R@10", "MRR [95% CI]", "R@1 near-dup."]
    head += ["Chance near-dup.", "Chance R@1"]
    bodies: list[list[list[Cell]]] = []
    last = ""
    for score in scores:
        if score.query != last:
            bodies.append([])
        bodies[-1].append(
            [
                Text(score.pair_name, flag="near chance" if is_near_chance(score) else ""),
                number(score.r1, 100, score.r1_ci),
                number(score.r5, 100),
                number(score.r10, 100),
                number(score.mrr, 1, score.mrr_ci, digits=3),
                number(score.r1_cluster, 100),
                number(score.chance_cluster, 100),
                number(score.chance, 100, digits=2),
            ]
        )
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
    shown = Table(
        name="pairs", title="All ordered pairs", head=head, bodies=bodies, caption=" ".join(caption), pinned=True
    )
    return [shown, signature_list([("Retrieval", s) for s in signatures]), *_by_method(results)]


def _by_method(results: Results) -> list[Block]:
    """R@1 of every method on every pair, folded away."""
    methods = results.methods
    if len(methods) < 2:
        return []
    by_method = {m: results.scores(m) for m in methods}
    found = list(dict.fromkeys(pair for scores in by_method.values() for pair in scores))
    rows: list[list[Cell]] = []
    for pair in found:
        scores = [by_method[m].get(pair) for m in methods]
        cells = [number(s.r1, 100, s.r1_ci, below=True) if s else None for s in scores]
        rows.append([f"{name_of(pair[0])} → {name_of(pair[1])}", *cells])
    title = "R@1 of every method on every pair"
    folded = Table(
        name="pairs-by-method",
        title=title,
        head=["Query → candidates", *(method_label(m) for m in methods)],
        bodies=[rows],
        caption="R@1, % [95% CI].",
        pinned=True,
        dense=True,
    )
    return details(title, [folded])


def methods(results: Results) -> list[Block]:
    """Methods and controls, on the pairs that they share."""
    main = results.main_method
    by_method = {m: scores for m in results.methods if (scores := results.scores(m))}
    if main is None or len(by_method) < 2:
        return []
    ours = by_method[main]
    common = set.intersection(*(set(scores) for scores in by_method.values()))
    uneven = any(set(scores) != set(ours) for scores in by_method.values())
    head = ["Method", "R@1, %", "R@5", "R@10", "MRR"] if common else ["Method"]
    if uneven:
        head += ["Pairs run", "R@1 on these", f"{method_label(main)} on these"]
    rows: list[list[Cell]] = []
    for method, scores in by_method.items():
        row: list[Cell] = [Text(*METHOD_LABELS.get(method, (method, "")))]
        if common:
            shared = [scores[p] for p in ours if p in common]
            row += [number(_mean(v), 100) for v in zip(*((s.r1, s.r5, s.r10) for s in shared), strict=True)]
            row.append(number(_mean(s.mrr for s in shared), digits=3))
        if uneven:
            both = [p for p in scores if p in ours]
            row += [str(len(scores)), number(_mean(scores[p].r1 for p in both), 100)]
            row += [number(_mean(ours[p].r1 for p in both), 100) if method != main else None]
        rows.append(row)
    chance = _mean(ours[p].chance for p in common)
    chance5, chance10 = _mean(ours[p].chance_r5 for p in common), _mean(ours[p].chance_r10 for p in common)
    if common and chance is not None:
        row = ["Chance", number(chance, 100, digits=2), number(chance5, 100), number(chance10, 100), None]
        rows.append(row + ([None] * 3 if uneven else []))
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
    title = "Methods and controls"
    return [
        Table(
            name="methods", title=title, head=head, bodies=[rows], caption=caption, ruled=True, strong_first_row=True,
            pinned=True,
        )
    ]  # fmt: skip


def published(results: Results) -> list[Block]:
    """Our R@1 beside figures of others."""
    if not results.published:
        return []
    rows: list[list[Cell]] = [
        [
            "mean of all pairs" if r.method == _CHANCE else f"{name_of(r.query)} → {name_of(r.candidate)}",
            method_label(r.method),
            number(r.ours, 100, digits=2 if r.method == _CHANCE else 1),
            number(r.published, 100) if isinstance(r.published, float) else r.published,
        ]
        for r in results.published
    ]
    caption = "Figures of others come from the file that the recipe names; none is filled in from memory."
    if any(r.method == _CHANCE for r in results.published):
        caption += " That of chance is the paper's (section 4.2), the one of its figures that is known here."
    return [
        Table(
            name="published",
            title="Beside published figures",
            head=["Pair", "Method", "Ours, R@1 %", "Published, R@1 %"],
            bodies=[rows],
            caption=caption,
            text_columns=2,
        )
    ]


def alignment(results: Results, arrays: Arrays) -> list[Block]:
    """One match, frame by frame."""
    found = results.alignment
    if found is None:
        return []
    query, candidate = found.query, found.candidate
    parts: list[Block] = [
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
            f"{label} {Number(value, digits=3).shown}"
            for label, value in (
                ("the mean over query frames (precision) is", found.precision),
                ("over candidate frames (recall)", found.recall),
                ("their harmonic mean, SeqSim,", found.f1),
            )
            if value is not None
        ]
        if scores:
            caption += f" Of these best matches, {'; '.join(scores)}."
        parts.append(figure(plots.alignment_svg(results, arrays), caption, wide=True))
    return parts


def _spoken(side: Side, role: str) -> str:
    seconds = f", {side.seconds:.1f} s" if side.seconds else ""
    text = side.text or " ".join(w.word for w in side.words or []) or DASH
    return (
        f"<dt>{escape(name_of(side.language))} {role}{seconds}</dt>"
        f"<dd{language_attributes(side.language)}>{escape(text)}</dd>"
    )


def _mean(values: Iterable[float | None]) -> float | None:
    """The mean, or None where a value is missing: a mean over fewer pairs would not compare."""
    known = list(values)
    present = [v for v in known if v is not None]
    return fmean(present) if present and len(present) == len(known) else None


def _span(values: Sequence[int]) -> str:
    return str(values[0]) if min(values) == max(values) else f"{min(values)} to {max(values)}"
