"""Retrieval on the page: the headline, heat maps, every pair and method, one match in detail."""

from collections.abc import Callable, Iterable, Mapping
from statistics import fmean
from typing import Any

import numpy as np

from interlingua.report import plots
from interlingua.report.tables import (
    DASH,
    Block,
    Bullets,
    Cell,
    Folded,
    Gallery,
    Heading,
    Number,
    Picture,
    Table,
    Text,
    Texts,
    number,
    percent,
    signatures,
    span,
    table,
)
from interlingua.results import Results, Retrieval, Side, name_of
from interlingua.retrieval.methods import CONTROLS, describe_method, method_label

Arrays = Mapping[str, np.ndarray]

# A control's R@1 above chance as a proportion of the main method's, from which on …
_VERDICTS = (
    (0.9, "{} does as well or nearly so: these results don't show a shared space of meaning."),
    (0.5, "{} comes close: much of the result needs no shared meaning."),
    (0.25, "{} accounts for a part of it."),
)
_CONTROLS = {  # in prose, and what each stands for
    "duration": ("duration alone", "length"),
    "seqsim:log-mel": ("the same comparison on log-mel frames", "raw sound"),
    "seqsim:random-weights": ("the same encoder with random weights", "an untrained encoder"),
}


def opening(results: Results) -> tuple[tuple[str, str] | None, list[str]]:
    """The headline (the main figure and its meaning), and sentences: the best, the worst, and what the controls say."""
    method = results.main_method
    if method is None or not (scores := list(results.scores(method).values())):
        return None, []
    found, label = f"{percent(fmean(s.r1 for s in scores))}", method_label(method)
    chance = fmean(chances) if (chances := [s.chance for s in scores if s.chance is not None]) else None
    by_chance = "" if chance is None else f"; chance is {percent(chance)}"
    if len(scores) == 1:
        (only,) = scores
        interval = f", 95% interval {percent(only.r1_ci[0])} to {percent(only.r1_ci[1])}" if only.r1_ci else ""
        headline = (found, f"R@1 by {label}, {only.pair_name}{interval}{by_chance}")
    else:
        n_languages = len({code for s in scores for code in s.pair})
        headline = (found, f"mean R@1 by {label} over {len(scores)} pairs of {n_languages} languages{by_chance}")
    among = span(s.n_candidates for s in scores if s.n_candidates is not None)
    lead = "R@1 is how often the right utterance is ranked first"
    lead += f" among {among} in another language." if among else " in another language."
    best, worst = max(scores, key=lambda s: s.r1), min(scores, key=lambda s: s.r1)
    if best.r1 > worst.r1:
        lead += f" Best: {best.pair_name}, {percent(best.r1)}. Worst: {worst.pair_name}, {percent(worst.r1)}."
    return headline, [lead, _controls(results, method)]


def near_chance(results: Results) -> list[str]:
    """A line for each pair that the main method does hardly better on than chance."""
    lines = []
    for s in results.scores(results.main_method or "").values():
        if is_near_chance(s):
            ci = f", 95% interval {percent(s.r1_ci[0])} to {percent(s.r1_ci[1])}" if s.r1_ci else ""
            lines.append(f"{s.pair_name}: {percent(s.r1)}{ci}; chance {percent(s.chance or 0.0)}")
            if gone := s.n_unanswerable:
                skipped = f"{gone} of {gone + (s.n or 0)} queries have no relevant candidate and are skipped"
                lines[-1] += f". {skipped}"
    return lines


def is_near_chance(score: Retrieval) -> bool:
    """Whether the interval isn't above chance, or R@1 is under twice chance (at most 5 points over)."""
    if score.chance is None:
        return False
    if score.r1_ci is not None and score.r1_ci[0] <= score.chance:
        return True
    return score.r1 < min(2 * score.chance, score.chance + 0.05)


def _controls(results: Results, method: str) -> str:
    main, label = results.scores(method), method_label(method)
    shown: list[str] = []
    causes: list[str] = []
    strongest: tuple[float, str] = (-np.inf, "")
    for control in CONTROLS:
        scores = results.scores(control)
        common = [pair for pair in scores if pair in main]
        if control == method or not common:
            continue
        chance = fmean(main[p].chance or scores[p].chance or 0.0 for p in common)
        ours, theirs = fmean(main[p].r1 for p in common), fmean(scores[p].r1 for p in common)
        over = f" on {len(common)} {'pair' if len(common) == 1 else 'pairs'}" if len(common) < len(main) else ""
        prose, cause = _CONTROLS[control]
        shown.append(f"{prose} {percent(theirs)} ({label} {percent(ours)}{over})")
        causes.append(cause)
        explained = (theirs - chance) / (ours - chance) if ours > chance else 1.0
        strongest = max(strongest, (explained, prose))
    if not shown:
        return "No control was run, so nothing here tells meaning from length or sound."
    explained, name = strongest
    if all(is_near_chance(s) for s in main.values()):
        verdict = f"{label} itself stays near chance, so there is nothing to explain."
    else:
        fitting = (text.format(name[:1].upper() + name[1:]) for least, text in _VERDICTS if explained >= least)
        none = f"{'It does not reach' if len(causes) == 1 else 'None reaches'} a quarter of the way from chance"
        verdict = next(fitting, f"{none}: it takes more than {' or '.join(causes)}.")
    return f"Controls on the same pairs: {'; '.join(shown)}. {verdict}"


def retrieval(results: Results, arrays: Arrays, *_: Any) -> list[Block]:
    """R@1 as heat maps, and the score matrix."""
    method = results.main_method
    scores = results.scores(method) if method else {}
    if method is None or not scores:
        return []
    top = plots.colour_top(results)
    caption = "Rows: language of the query; columns: of the candidates. Pairs of one language are skipped."
    if any(s.r1_ci for s in scores.values()):
        clusters = span(s.n_clusters for s in scores.values() if s.n_clusters is not None)
        over = f" over {clusters} clusters of near-duplicate sentences" if clusters else ""
        caption += f" Small figures: 95% interval{over}."
    if queries := span(s.n for s in scores.values() if s.n is not None):
        caption += f" {queries} queries a pair"
        gone = sum(s.n_unanswerable for s in scores.values())
        caption += f"; {gone} more are skipped, whose sentence nobody recorded in the other language." if gone else "."
    title = f"R@1 in per cent, by {method_label(method)}."
    blocks: list[Block] = [
        Picture(plots.svg(f"recall-{method}", plots.recall, results, method, top=top), title, caption)
    ]
    n_pairs = len(results.languages) * (len(results.languages) - 1)
    small = []
    for other in (m for m in results.methods if m != method):
        if found := results.scores(other):
            what = describe_method(other).note
            text = (
                f"{what[:1].upper()}{what[1:]}{'. ' if what else ''}Mean {percent(fmean(s.r1 for s in found.values()))}"
            )
            text += f" over {len(found)} {'pair' if len(found) == 1 else 'pairs'}"
            text += "; · not run." if len(found) < n_pairs else "."
            drawn = plots.svg(f"recall-{other}", plots.recall, results, other, small=True, top=top)
            small.append(Picture(drawn, method_label(other), text))
    if small:
        blocks += [Heading("Other methods and controls, on the same colour scale"), Gallery(small)]
    if results.skipped and not results.unseen and results.robustness is None:
        blocks.append(Bullets(results.skipped))
    if results.similarity is not None and plots.has_matrix(arrays, "similarity"):
        about = results.similarity
        title = f"Every score of {name_of(about.query)} → {name_of(about.candidate)} ({method_label(about.method)})."
        caption = (
            "A row is a query, a column a candidate, in the same order: relevant candidates lie on the diagonal. "
            "Stripes are utterances that score high with everything."
        )
        blocks.append(Picture(plots.svg("similarity", plots.similarity, results, arrays), title, caption))
    return blocks


def pairs(results: Results, *_: Any) -> list[Block]:
    """Every ordered pair under the main method; under the others folded away."""
    method = results.main_method
    scores = list(results.scores(method).values()) if method else []
    if not scores:
        return []
    columns: dict[str, Callable[[Retrieval], Cell]] = {
        "Query → candidates": lambda s: Text(s.pair_name, flag="near chance" if is_near_chance(s) else ""),
        "R@1, % [95% CI]": lambda s: number(s.r1, 100, s.r1_ci),
        "R@5": lambda s: number(s.r5, 100),
        "R@10": lambda s: number(s.r10, 100),
        "MRR [95% CI]": lambda s: number(s.mrr, 1, s.mrr_ci, digits=3),
        "R@1 near-dup.": lambda s: number(s.r1_cluster, 100),
        "Chance near-dup.": lambda s: number(s.chance_cluster, 100),
        "Chance R@1": lambda s: number(s.chance, 100, digits=2),
    }
    groups = [[s for s in scores if s.query == query] for query in dict.fromkeys(s.query for s in scores)]
    caption = [
        f"{method_label(method or '')}. All in per cent but MRR.",
        "R@1 near-dup. counts a near-duplicate of the right sentence as right; next to it, its own chance.",
    ]
    if any(is_near_chance(s) for s in scores):
        caption.append("† near chance.")
    for label, values in (
        ("Queries", [s.n for s in scores]),
        ("Queries without a relevant candidate, skipped", [s.n_unanswerable or None for s in scores]),
        ("Candidates", [s.n_candidates for s in scores]),
        ("Clusters of near-duplicates", [s.n_clusters for s in scores]),
    ):
        if known := span(v for v in values if v is not None):
            caption.append(f"{label}: {known}.")
    shown = table("pairs", "All ordered pairs", groups, columns, " ".join(caption))
    return [shown, *signatures(("Retrieval", s.pair_name, s.signature) for s in scores), *_by_method(results)]


def _by_method(results: Results) -> list[Block]:
    by_method = {m: results.scores(m) for m in results.methods}
    if len(by_method) < 2:
        return []
    found = dict.fromkeys(pair for scores in by_method.values() for pair in scores)
    rows: list[list[Cell]] = []
    for pair in found:
        each = [scores.get(pair) for scores in by_method.values()]
        cells = [number(s.r1, 100, s.r1_ci) if s else None for s in each]
        rows.append([f"{name_of(pair[0])} → {name_of(pair[1])}", *cells])
    title, head = "R@1 of every method on every pair", ["Query → candidates", *(method_label(m) for m in by_method)]
    made = Table(name="pairs-by-method", title=title, head=head, bodies=[rows], caption="R@1, % [95% CI].")
    return [Folded(title, [made])]


def methods(results: Results, *_: Any) -> list[Block]:
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
        about = describe_method(method)
        row: list[Cell] = [Text(about.label, about.note)]
        if common:
            shared = [scores[p] for p in ours if p in common]
            row += [number(_mean(v), 100) for v in zip(*((s.r1, s.r5, s.r10) for s in shared), strict=True)]
            row.append(number(_mean(s.mrr for s in shared), digits=3))
        if uneven:
            both = [p for p in scores if p in ours]
            row += [str(len(scores)), number(_mean(scores[p].r1 for p in both), 100)]
            row += [number(_mean(ours[p].r1 for p in both), 100) if method != main else None]
        rows.append(row)
    chance = [_mean(getattr(ours[p], field) for p in common) for field in ("chance", "chance_r5", "chance_r10")]
    if chance[0] is not None:
        row = ["Chance", number(chance[0], 100, digits=2), *(number(c, 100) for c in chance[1:]), None]
        rows.append(row + ([None] * 3 if uneven else []))
    n_common = f"{len(common)} {'pair' if len(common) == 1 else 'pairs'}"
    if common and uneven:
        caption = (
            f"R@1 to MRR: means over the {n_common} that every method was run on. At the right: means over all pairs "
            f"of a method, and of {method_label(main)} on the same pairs."
        )
    elif common:
        caption = f"Means over the same {n_common}."
    else:
        caption = "No pair is common to all methods: compare each with the figure at its right."
    caption += " Means of pairs have no interval of their own: the pairs share their sentences."
    title = "Methods and controls"
    return [Table(name="methods", title=title, head=head, bodies=[rows], caption=caption, strong_first_row=True)]


def alignment(results: Results, arrays: Arrays, *_: Any) -> list[Block]:
    """One match, frame by frame."""
    found = results.alignment
    if found is None:
        return []
    query, candidate = found.query, found.candidate
    blocks: list[Block] = [
        "One utterance and its counterpart in another language, compared frame by frame by the encoder alone, without "
        "text. It is one example, not a measurement.",
        Texts([[_spoken(query, "query"), _spoken(candidate, "candidate")]]),
    ]
    if plots.has_matrix(arrays, "alignment"):
        n, m = arrays["alignment"].shape
        frame = f"{1000 * query.seconds / n:.0f} ms" if query.seconds else "a frame"
        caption = (
            f"Time runs down in the {name_of(query.language)} query and from left to right in the "
            f"{name_of(candidate.language)} candidate. A cell compares {frame} of one with {frame} of the other "
            f"({n} × {m} frames); the brighter, the more alike. Thin lines are borders of words. A white dot is the "
            "best match of each query frame, an orange diamond that of each candidate frame. Where the space is "
            "shared, they gather at the crossings of words of one meaning. Whisper adds each frame's position in time, "
            "which can raise the likeness of frames at equal times."
        )
        scores = [
            f"{label} {Number(value, digits=3).shown}"
            for label, value in (
                ("mean over query frames (precision)", found.precision),
                ("over candidate frames (recall)", found.recall),
                ("their harmonic mean, SeqSim,", found.f1),
            )
            if value is not None
        ]
        if scores:
            caption += f" Of these best matches: {'; '.join(scores)}."
        blocks.append(
            Picture(plots.svg("alignment", plots.alignment, results, arrays), "How to read it.", caption, wide=True)
        )
    return blocks


def _spoken(side: Side, role: str) -> tuple[str, str, str]:
    seconds = f", {side.seconds:.1f} s" if side.seconds else ""
    text = side.text or " ".join(w.word for w in side.words or []) or DASH
    return f"{name_of(side.language)} {role}{seconds}", text, side.language


def _mean(values: Iterable[float | None]) -> float | None:
    """None where a value is missing: means over fewer pairs don't compare."""
    known = list(values)
    present = [v for v in known if v is not None]
    return fmean(present) if present and len(present) == len(known) else None
