"""Studies over many languages on the page: distance to a pivot, languages without a token, published figures."""

import math
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

from interlingua.report import plots
from interlingua.report.tables import (
    Block,
    Bullets,
    Cell,
    Number,
    P,
    Picture,
    Table,
    Text,
    count,
    difference,
    number,
    p_value,
    score,
    signatures,
)
from interlingua.results import (
    Candidate,
    Difference,
    Distant,
    Interval,
    RankCorrelation,
    Results,
    Retrieval,
    Robustness,
    Score,
    UnderTokens,
    name_of,
)
from interlingua.retrieval.methods import method_label

_KINDS = {"typological": "Typological", "genealogical": "Genealogical"}
_SCORES = {
    "bleu": "BLEU of translation into English",
    "chrf": "chrF of translation into English",
    "off_target": "Off-target rate of translation",
    "wer": "WER of transcripts",
    "cer": "CER of transcripts",
}
COLUMNS = {"bleu": "BLEU", "chrf": "chrF", "off_target": "Off target, %", "wer": "WER, %", "cer": "CER, %"}
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
_UNSEEN = (
    "Under the token that the default rule takes without references; a language that has a token of its own is a "
    "control. In brackets: 95% intervals, sentences resampled.",
    "Above permuted: the chrF less its mean against permuted references, paired; a model that writes likely phrases "
    "whatever the input is has 0 there. p: two-sided, by approximate randomisation, not corrected for the number of "
    "rows.",
    "Copied: proportion of the reference's words in long runs that stand word for word in the translation.",
    "WER and CER are of transcripts under the same token; more than 100% is possible. Where words aren't spaced, both "
    "count characters.",
)


def headline(results: Results) -> tuple[str, str] | None:
    """The main figure of a study of distance or of languages without a token; None for other results."""
    study = results.robustness
    for c in study.correlations if study else []:
        if study and (c.measure, c.method, c.kind) == ("to_pivot", study.methods[0], "typological") and not c.seen_only:
            note = f"rank correlation of {measure_name(c.measure, c.method, study.pivot)}, with typological distance"
            return f"ρ {Number(c.value, digits=2, signed=True).shown}", f"{note}, {c.n} languages (p {P(c.p).shown})"
    unseen = [r.scores.chrf.value for r in results.unseen if not r.seen and r.scores.chrf.value is not None]
    if not unseen:
        return None
    return f"{fmean(unseen):.1f}", f"mean chrF into English of {len(unseen)} languages under a proxy language's token"


def distances(results: Results, *_: Any) -> list[Block]:
    """The languages by their distance to the pivot, the nearest first, and the pictures."""
    found = results.robustness
    if found is None:
        return []
    rules: list[Block] = [Bullets(found.rules)] if found.rules else []
    marks = [("R@1", r.language, m.signature) for r in found.languages if (m := r.to_pivot.get(found.methods[0]))]
    marks += [
        (label, r.language, metric.signature)
        for r in found.languages
        for field, label in COLUMNS.items()
        if (metric := getattr(r, field)) is not None
    ]
    named = signatures((label, name_of(code), signature) for label, code, signature in marks)
    return [*_pictures(found), _table(found), *_by_method(found), *rules, *named]


def correlations(results: Results, *_: Any) -> list[Block]:
    """Rank correlations of every measure with every distance."""
    found = results.robustness
    if found is None or not found.correlations:
        return []
    pairs = {(c.measure, c.method, c.kind, c.seen_only): c for c in found.correlations}
    measures = list(dict.fromkeys((c.measure, c.method) for c in found.correlations))
    unseen = any(not r.seen for r in found.languages)
    head = ["Measure", "Distance", "ρ", "n", "p", *(["ρ, with a token", "n, with a token", "p, with a token"] * unseen)]
    bodies: list[list[list[Cell]]] = [
        [
            [
                measure_name(measure, method, found.pivot),
                title.lower(),
                *_correlation(pairs.get((measure, method, kind, False))),
                *(_correlation(pairs.get((measure, method, kind, True))) if unseen else []),
            ]
            for measure, method in measures
        ]
        for kind, title in _KINDS.items()
    ]
    made = Table(
        name="correlations",
        title=f"Rank correlation of every measure with the distance to {name_of(found.pivot)}",
        head=head,
        bodies=bodies,
        caption=" ".join(_CAUTION if unseen else _CAUTION[:-1]),
        text_columns=2,
    )
    marks = (("Correlation", c.measure, c.signature) for c in found.correlations if c.value is not None)
    return [made, *signatures(marks)]


def measure_name(measure: str, method: str | None, pivot: str) -> str:
    """The measure correlated with distance, in words."""
    if method is None:
        return _SCORES.get(measure, measure)
    way = "to" if measure == "to_pivot" else "from"
    return f"R@1 {way} {name_of(pivot)}, {method_label(method)}"


def unseen(results: Results, *_: Any) -> list[Block]:
    """Every language's scores under the token that the default rule takes."""
    rows = results.unseen
    if not rows:
        return []
    groups = [
        [r for r in rows if not r.seen],
        [r for r in rows if r.forbidden],
        [r for r in rows if r.seen and not r.forbidden],
    ]
    bodies: list[list[list[Cell]]] = [
        [
            [
                _named(r),
                r.chosen,
                count(r.n),
                score(r.scores.bleu),
                score(r.scores.chrf),
                difference(_above(r)),
                p_value(_above(r)),
                number(r.copied, 100),
                score(r.scores.off_target, 100),
                *(score(_error(r, unit)) for unit in ("words", "characters")),
            ]
            for r in group
        ]
        for group in groups
        if group
    ]
    head = ["Language", "Token", "n", "BLEU", "chrF", "Above permuted", "p", "Copied, %"]
    made = Table(
        name="unseen",
        title="Translation into English under a proxy language's token",
        head=[*head, "Off target, %", "WER, %", "CER, %"],
        bodies=bodies,
        caption=" ".join(_UNSEEN),
        text_columns=2,
    )
    skipped: list[Block] = [Bullets(results.skipped)] if results.skipped else []
    marks = (
        (label, name_of(r.language), metric.signature)
        for r in rows
        for label, metric in (*_translation(r.scores), ("WER", _error(r, "words")), ("CER", _error(r, "characters")))
        if metric is not None
    )
    return [made, *skipped, *signatures(marks)]


def tokens(results: Results, *_: Any) -> list[Block]:
    """chrF and BLEU under every candidate token, and the rules that choose one."""
    rows = [r for r in results.unseen if len(r.candidates) > 1]
    if not rows:
        return []
    bodies: list[list[list[Cell]]] = [
        [
            [
                _named(r),
                c.token,
                ", ".join(what for what, token in (("taken", r.chosen), ("best", r.oracle)) if token == c.token),
                score(c.bleu),
                score(c.chrf),
                score(c.off_target, 100),
            ]
            for c in r.candidates
        ]
        for r in rows
    ]
    made = Table(
        name="tokens",
        title="Every token that was tried",
        head=["Language", "Token", "", "BLEU", "chrF", "Off target, %"],
        bodies=bodies,
        caption="In the order of kinship. Taken: by the default rule, without references; best: by them.",
        text_columns=3,
    )
    rules: list[list[Cell]] = [
        [
            Text(r.rule, note="the default" if r.default else ""),
            f"{r.right} of {len(r.languages)}",
            number(r.chrf),
            number(r.loss),
            difference(r.against_first if r.rule != "first" else None),
        ]
        for r in results.unseen_rules
    ]
    if not rules:
        return [made]
    by_rule = Table(
        name="rules",
        title="Rules that take a token without references",
        head=["Rule", "Best token taken", "chrF", "Below the best", "Against first [95% CI]"],
        bodies=[rules],
        caption=f"Means over {', '.join(name_of(code) for code in results.unseen_rules[0].languages)}.",
    )
    return [made, by_rule]


def published(results: Results, *_: Any) -> list[Block]:
    """Our scores next to others'."""
    rows: list[list[Cell]] = []
    for r in results.published:
        chance = r.method == "chance"  # chance itself, over all pairs
        pair = " → ".join(name_of(code) for code in (r.source, r.target) if code)
        method = method_label(r.method) if r.task == "retrieval" else r.method
        scale, digits = (100, 2 if chance else 1) if r.metric == "r1" else (1, 4 if r.metric == "comet" else 1)
        metric = "R@1, %" if r.metric == "r1" else r.metric
        first = "mean of all pairs" if chance else pair
        rows.append([first, r.test, method, metric, *_both(r.ours, r.published, scale, digits)])
    if not rows:
        return []
    caption = "Figures of others come from the file that the recipe names; none is filled in from memory."
    if any(r.method == "chance" for r in results.published):
        caption += " That of chance is the paper's (section 4.2), the one of its figures that is known here."
    head = ["Languages", "Test", "System", "Metric", "Ours", "Published"]
    title = "Published figures"
    return [Table(name="published", title=title, head=head, bodies=[rows], caption=caption, text_columns=4)]


def _both(ours: float, theirs: float | str, scale: float, digits: int) -> list[Cell]:
    return [
        number(ours, scale, digits=digits),
        number(theirs, scale, digits=min(digits, 1) if scale == 100 else digits)
        if isinstance(theirs, float)
        else theirs,
    ]


def _pictures(found: Robustness) -> list[Block]:
    pivot, method = name_of(found.pivot), found.methods[0]
    blocks: list[Block] = []
    x = f"typological distance to {pivot} (URIEL)"
    retrieved = [(r, m) for r in found.languages if (m := r.to_pivot.get(method))]
    recall = _points((r, m.r1, m.r1_ci, 100) for r, m in retrieved)
    if recall:
        chances = {round(m.chance, 9) for _, m in retrieved if m.chance is not None}
        svg = plots.distance_svg(
            recall, x, "R@1, %", "distance-recall", 100 * chances.pop() if len(chances) == 1 else None
        )
        title = f"R@1 of retrieval to {pivot}, against distance ({method_label(method)})."
        blocks.append(Picture(svg, title, _HOW))
    bleu = _points((r, r.bleu.value, r.bleu.ci, 1) for r in found.languages if r.bleu)
    if bleu:
        svg = plots.distance_svg(bleu, x, "BLEU", "distance-bleu")
        blocks.append(Picture(svg, "BLEU of speech into English, against distance.", _HOW))
    return blocks


def _points(rows: Iterable[tuple[Distant, float | None, Interval | None, float]]) -> list[plots.DistantPoint]:
    return [
        plots.DistantPoint(name_of(r.language), at, scale * value, ci and (scale * ci[0], scale * ci[1]), r.seen)
        for r, value, ci, scale in rows
        if value is not None and (at := r.distance.get("typological")) is not None
    ]


def _table(found: Robustness) -> Table:
    method, pivot = found.methods[0], found.pivot
    unknown = [name_of(r.language) for r in found.languages if None in r.distance.values()]
    caption = [
        f"R@1 by {method_label(method)}. In brackets: 95% intervals. Below the rule, if there is one: languages that "
        "Whisper has no token for, under a proxy language's. WER counts characters where words aren't spaced.",
        _DISTANCE,
    ]
    caption += [f"A distance isn't known of {', '.join(unknown)}."] if unknown else []
    bodies: list[list[list[Cell]]] = [
        [
            [
                Text(name_of(r.language), note=r.family or ""),
                r.token,
                count(r.n),
                *(number(r.distance.get(kind), digits=2) for kind in _KINDS),
                _recall(r.to_pivot.get(method)),
                _recall(r.from_pivot.get(method)),
                *(score(getattr(r, field), 100 if field == "off_target" else 1) for field in COLUMNS),
            ]
            for r in group
        ]
        for group in _groups(found)
    ]
    head = ["Language", "Token", "n", *_KINDS.values(), f"R@1 to {pivot}, %", f"R@1 from {pivot}, %"]
    return Table(
        name="robustness",
        title=f"Every language and its distance to {name_of(pivot)}",
        head=[*head, *COLUMNS.values()],
        bodies=bodies,
        caption=" ".join(caption),
        text_columns=2,
    )


def _by_method(found: Robustness) -> list[Block]:
    others = found.methods[1:]
    if not others:
        return []
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
    ways = (f"{method_label(m)}, {way} {found.pivot}" for m in others for way in ("to", "from"))
    made = Table(
        name="robustness-methods",
        title="R@1 of the other methods",
        head=["Language", *ways, "Chance"],
        bodies=bodies,
        caption="R@1, %, with 95% intervals.",
    )
    return [made]


def _groups(found: Robustness) -> list[list[Distant]]:
    """Languages with a token, and those without; the nearest first, unknown distances last."""

    def order(r: Distant) -> tuple[float, str]:
        distance = r.distance.get("typological")
        return (math.inf if distance is None else distance, r.language)

    ordered = sorted(found.languages, key=order)
    groups = [[r for r in ordered if r.seen], [r for r in ordered if not r.seen]]
    return [group for group in groups if group]


def _recall(found: Retrieval | None) -> Number:
    return Number(None) if found is None else number(found.r1, 100, found.r1_ci)


def _correlation(found: RankCorrelation | None) -> list[Cell]:
    return [None] * 3 if found is None else [Number(found.value, digits=2, signed=True), str(found.n), P(found.p)]


def _named(r: UnderTokens) -> Text:
    note = "its own token" if r.own_token else "its own token forbidden" if r.forbidden else ""
    return Text(name_of(r.language), note=note)


def _above(r: UnderTokens) -> Difference | None:
    against = r.permuted.get("chrf")
    return against.difference if against else None


def _error(r: UnderTokens, unit: str) -> Score | None:
    return (r.error or {}).get(unit)


def _translation(c: Candidate) -> Sequence[tuple[str, Score]]:
    return ("BLEU", c.bleu), ("chrF", c.chrf), ("Off target", c.off_target)
