"""The page's sections on robustness: every language beside its distance to the pivot, drawn and correlated."""

import math
from collections.abc import Callable, Sequence

from interlingua.report.markup import bullets, details, escape, figure, signature_list, signatures_by_label
from interlingua.report.robustness_plots import DistantPoint, distance_svg
from interlingua.report.tables import Block, Cell, Number, P, Table, Text, count, number, score
from interlingua.results import Distant, Metric, RankCorrelation, Results, Retrieval, Robustness, name_of
from interlingua.retrieval.methods import method_label

_KINDS = {"typological": "Typological", "genealogical": "Genealogical"}
_SCORES = {
    "bleu": "BLEU of translation into English",
    "chrf": "chrF of translation into English",
    "off_target": "Off-target rate of translation",
    "wer": "WER of transcripts",
    "cer": "CER of transcripts",
}
_HOW = (
    "Filled circles: languages that Whisper has a token for; hollow diamonds: languages without one. Bars: 95% "
    "intervals over sentences."
)
_DISTANCE = (
    "Typological: cosine distance of URIEL's features of grammar, phonology and sounds; genealogical: by the branches "
    "of Glottolog's tree, 1 between families. Both lie in 0 to 1."
)
_CAUTION = (
    "Spearman's ρ over languages. Below 0, the measure falls with distance; error and off-target rates would rise with "
    "it.",
    "p: two-sided, by permutation of the languages, not corrected for the number of tests; with few languages it can't "
    "be small (at best 0.083 with four).",
    "The languages are few, related to one another, and not drawn at random.",
    "Those without a token are mostly distant: the columns over languages with a token keep the two apart.",
)


def languages(results: Results) -> list[Block]:
    """The languages, the nearest first, and the pictures."""
    found = results.robustness
    if found is None:
        return []
    rules: list[Block] = [bullets(found.rules)] if found.rules else []
    return [*_pictures(found), _table(found), *_by_method(found), *rules, *details("Signatures", [_signatures(found)])]


def correlations(results: Results) -> list[Block]:
    """Rank correlations of every measure with every distance."""
    found = results.robustness
    if found is None or not found.correlations:
        return []
    pairs = {(c.measure, c.method, c.kind, c.seen_only): c for c in found.correlations}
    measures = list(dict.fromkeys((c.measure, c.method) for c in found.correlations))
    unseen = any(not r.seen for r in found.languages)
    head = ["Measure", "Distance", "ρ", "n", "p", *(["ρ, with a token", "n, with a token", "p, with a token"] * unseen)]
    bodies: list[list[list[Cell]]] = []
    for kind, title in _KINDS.items():
        rows: list[list[Cell]] = []
        for measure, method in measures:
            row: list[Cell] = [measure_name(measure, method, found.pivot), title.lower()]
            for seen_only in (False, True) if unseen else (False,):
                row += _correlation(pairs.get((measure, method, kind, seen_only)))
            rows.append(row)
        bodies.append(rows)
    marks = dict.fromkeys(c.signature for c in found.correlations if c.value is not None)
    made = Table(
        name="correlations",
        title=f"Rank correlation of every measure with the distance to {name_of(found.pivot)}",
        head=head,
        bodies=bodies,
        caption=" ".join(_CAUTION if unseen else _CAUTION[:-1]),
        text_columns=2,
        pinned=True,
    )
    return [made, *details("Signatures", [signature_list([("Correlation", mark) for mark in marks])])]


def _pictures(found: Robustness) -> list[Block]:
    pivot, method = name_of(found.pivot), found.methods[0]

    def retrieved(r: Distant) -> Retrieval | None:
        return r.to_pivot.get(method)

    parts: list[Block] = []
    x = f"typological distance to {pivot} (URIEL)"
    recall = _points(found.languages, lambda r: (m.r1, m.r1_ci) if (m := retrieved(r)) else None, 100)
    if recall:
        chances = {round(m.chance, 9) for r in found.languages if (m := retrieved(r)) and m.chance is not None}
        chance = 100 * chances.pop() if len(chances) == 1 else None
        caption = (
            f"<b>R@1 of retrieval to {escape(pivot)}, against distance</b> ({escape(method_label(method))}). {_HOW}"
        )
        parts.append(figure(distance_svg(recall, x, "R@1, %", "distance-recall", chance), caption))
    bleu = _points(found.languages, lambda r: (m.value, m.ci) if (m := r.bleu) else None, 1)
    if bleu:
        caption = f"<b>BLEU of speech into English, against distance.</b> {_HOW}"
        parts.append(figure(distance_svg(bleu, x, "BLEU", "distance-bleu"), caption))
    return parts


def _points(
    rows: Sequence[Distant],
    of: Callable[[Distant], tuple[float | None, tuple[float, float] | None] | None],
    scale: float,
) -> list[DistantPoint]:
    points = []
    for r in rows:
        distance, found = r.distance.get("typological"), of(r)
        if distance is not None and found is not None and found[0] is not None:
            low_high = None if found[1] is None else (scale * found[1][0], scale * found[1][1])
            points.append(DistantPoint(name_of(r.language), distance, scale * found[0], low_high, r.seen))
    return points


def _table(found: Robustness) -> Table:
    method, pivot = found.methods[0], found.pivot
    head = ["Language", "Token", "n", *_KINDS.values(), f"R@1 to {pivot}, %", f"R@1 from {pivot}, %"]
    head += ["BLEU", "chrF", "Off target, %", "WER, %", "CER, %"]
    unknown = [name_of(r.language) for r in found.languages if None in r.distance.values()]
    caption = [
        f"R@1 by {method_label(method)}. In brackets: 95% intervals. Below the rule, if there is one: languages that "
        "Whisper has no token for, under the token that stands in. WER counts characters where words aren't spaced.",
        _DISTANCE,
    ]
    if unknown:
        caption.append(f"A distance isn't known of {', '.join(unknown)}.")
    return Table(
        name="robustness",
        title=f"Every language beside its distance to {name_of(pivot)}",
        head=head,
        bodies=[[_row(r, method) for r in group] for group in _groups(found)],
        caption=" ".join(caption),
        text_columns=2,
        pinned=True,
        dense=True,
    )


def _by_method(found: Robustness) -> list[Block]:
    """R@1 of the other methods, and of the controls among them."""
    others = found.methods[1:]
    if not others:
        return []
    pivot = found.pivot
    head = ["Language", *(f"{method_label(m)}, {way} {pivot}" for m in others for way in ("to", "from")), "Chance"]
    bodies: list[list[list[Cell]]] = [
        [
            [
                name_of(r.language),
                *(_recall(of.get(m)) for m in others for of in (r.to_pivot, r.from_pivot)),
                number(r.to_pivot[others[0]].chance if others[0] in r.to_pivot else None, 100, digits=2),
            ]
            for r in group
        ]
        for group in _groups(found)
    ]
    made = Table(
        name="robustness-methods",
        title="R@1 of the other methods",
        head=head,
        bodies=bodies,
        caption="R@1, %, with 95% intervals.",
        pinned=True,
        dense=True,
    )
    return [made]


def _groups(found: Robustness) -> list[list[Distant]]:
    """Languages with a token, and those without; the nearest first, and last those whose distance isn't known."""

    def place(r: Distant) -> tuple[float, str]:
        distance = r.distance.get("typological")
        return (math.inf if distance is None else distance, r.language)

    ordered = sorted(found.languages, key=place)
    groups = [[r for r in ordered if r.seen], [r for r in ordered if not r.seen]]
    return [group for group in groups if group]


def _row(r: Distant, method: str) -> list[Cell]:
    return [
        Text(name_of(r.language), note=r.family or ""),
        r.token,
        count(r.n),
        *(number(r.distance.get(kind), digits=2) for kind in _KINDS),
        _recall(r.to_pivot.get(method)),
        _recall(r.from_pivot.get(method)),
        score(r.bleu, below=True),
        score(r.chrf, below=True),
        score(r.off_target, 100, below=True),
        score(r.wer, below=True),
        score(r.cer, below=True),
    ]


def _recall(found: Retrieval | None) -> Number:
    return Number(None) if found is None else number(found.r1, 100, found.r1_ci, below=True)


def _correlation(found: RankCorrelation | None) -> list[Cell]:
    if found is None:
        return [None, None, None]
    return [Number(found.value, digits=2, signed=True), str(found.n), P(found.p)]


def measure_name(measure: str, method: str | None, pivot: str) -> str:
    """What is correlated with distance, in words."""
    if method is None:
        return _SCORES.get(measure, measure)
    way = "to" if measure == "to_pivot" else "from"
    return f"R@1 {way} {name_of(pivot)}, {method_label(method)}"


def _signatures(found: Robustness) -> str:
    def metrics(r: Distant) -> list[tuple[str, Metric | None]]:
        return [("BLEU", r.bleu), ("chrF", r.chrf), ("Off target", r.off_target), ("WER", r.wer), ("CER", r.cer)]

    marks = [(label, name_of(r.language), m.signature) for r in found.languages for label, m in metrics(r) if m]
    recall = [
        ("R@1", name_of(r.language), m.signature)
        for r in found.languages
        for m in (r.to_pivot.get(found.methods[0]),)
        if m is not None
    ]
    return signatures_by_label([*recall, *marks])
