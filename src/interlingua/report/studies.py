"""Studies over many languages on the page: distance to a pivot, languages without a token, published figures."""

import math
from collections.abc import Callable
from functools import partial
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
    scaled,
    score,
    signatures,
    table,
)
from interlingua.results import (
    Difference,
    Distant,
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
    unseen = [value for r in results.unseen if not r.seen and (value := r.scores["chrf"].value) is not None]
    if not unseen:
        return None
    return f"{fmean(unseen):.1f}", f"mean chrF into English of {len(unseen)} languages under a proxy language's token"


def distances(results: Results, *_: Any) -> list[Block]:
    """The languages by their distance to the pivot, the nearest first, and the pictures."""
    found = results.robustness
    if found is None:
        return []
    method, *others = found.methods
    marks = [
        ("R@1", name_of(r.language), r.to_pivot[method].signature) for r in found.languages if method in r.to_pivot
    ]
    marks += [
        (label, name_of(r.language), getattr(r, field).signature)
        for r in found.languages
        for field, label in COLUMNS.items()
        if getattr(r, field) is not None
    ]
    ordered = sorted(found.languages, key=_distance)
    groups = [r for r in ordered if r.seen], [r for r in ordered if not r.seen]
    unknown = [name_of(r.language) for r in found.languages if None in r.distance.values()]
    caption = (
        f"R@1 by {method_label(method)}. In brackets: 95% intervals. Below the rule, if there is one: languages that "
        "Whisper has no token for, under a proxy language's. WER counts characters where words aren't spaced. "
        f"{_DISTANCE}"
    )
    caption += f" A distance isn't known of {', '.join(unknown)}." if unknown else ""
    columns: dict[str, Callable[[Distant], Cell]] = {
        "Language": lambda r: Text(name_of(r.language), note=r.family or ""),
        "Token": lambda r: r.token,
        "n": lambda r: count(r.n),
        "Typological": lambda r: number(r.distance.get("typological"), digits=2),
        "Genealogical": lambda r: number(r.distance.get("genealogical"), digits=2),
        f"R@1 to {found.pivot}, %": partial(_recall, "to_pivot", method),
        f"R@1 from {found.pivot}, %": partial(_recall, "from_pivot", method),
        "BLEU": lambda r: score(r.bleu),
        "chrF": lambda r: score(r.chrf),
        "Off target, %": lambda r: score(r.off_target, 100),
        "WER, %": lambda r: score(r.wer),
        "CER, %": lambda r: score(r.cer),
    }
    title = f"Every language and its distance to {name_of(found.pivot)}"
    made = [table("robustness", title, groups, columns, caption, text_columns=2)]
    if others:
        columns = {"Language": lambda r: name_of(r.language)}
        for m in others:
            columns[f"{method_label(m)}, to {found.pivot}"] = partial(_recall, "to_pivot", m)
            columns[f"{method_label(m)}, from {found.pivot}"] = partial(_recall, "from_pivot", m)
        columns["Chance"] = lambda r: number(
            r.to_pivot[others[0]].chance if others[0] in r.to_pivot else None, 100, digits=2
        )
        caption = "R@1, %, with 95% intervals."
        made.append(table("robustness-methods", "R@1 of the other methods", groups, columns, caption))
    rules = [Bullets(found.rules)] if found.rules else []
    return [*_pictures(found), *made, *rules, *signatures(marks)]


def correlations(results: Results, *_: Any) -> list[Block]:
    """Rank correlations of every measure with every distance."""
    found = results.robustness
    if found is None or not found.correlations:
        return []
    pairs = {(c.measure, c.method, c.kind, c.seen_only): c for c in found.correlations}
    measures = list(dict.fromkeys((c.measure, c.method) for c in found.correlations))
    unseen = any(not r.seen for r in found.languages)

    def cell(show: Callable[[RankCorrelation], Cell], seen_only: bool, row: tuple[str, str | None, str]) -> Cell:
        correlation = pairs.get((*row, seen_only))
        return None if correlation is None else show(correlation)

    shown: dict[str, Callable[[RankCorrelation], Cell]] = {
        "ρ": lambda c: Number(c.value, digits=2, signed=True),
        "n": lambda c: str(c.n),
        "p": lambda c: P(c.p),
    }
    columns: dict[str, Callable[[Any], Cell]] = {
        "Measure": lambda row: measure_name(row[0], row[1], found.pivot),
        "Distance": lambda row: _KINDS[row[2]].lower(),
    }
    for seen_only, suffix in ((False, ""), *([(True, ", with a token")] if unseen else [])):
        columns |= {f"{label}{suffix}": partial(cell, show, seen_only) for label, show in shown.items()}
    title = f"Rank correlation of every measure with the distance to {name_of(found.pivot)}"
    groups = [[(*measure, kind) for measure in measures] for kind in _KINDS]
    caption = " ".join(_CAUTION if unseen else _CAUTION[:-1])
    marks = (("Correlation", c.measure, c.signature) for c in found.correlations if c.value is not None)
    return [table("correlations", title, groups, columns, caption, text_columns=2), *signatures(marks)]


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
    groups = (
        [r for r in rows if not r.seen],
        [r for r in rows if r.forbidden],
        [r for r in rows if r.seen and not r.forbidden],
    )
    columns: dict[str, Callable[[UnderTokens], Cell]] = {
        "Language": _named,
        "Token": lambda r: r.chosen,
        "n": lambda r: count(r.n),
        "BLEU": lambda r: score(r.scores["bleu"]),
        "chrF": lambda r: score(r.scores["chrf"]),
        "Above permuted": lambda r: difference(_above(r)),
        "p": lambda r: p_value(_above(r)),
        "Copied, %": lambda r: number(r.copied, 100),
        "Off target, %": lambda r: score(r.scores["off_target"], 100),
        "WER, %": lambda r: score(r.scores.get("wer")),
        "CER, %": lambda r: score(r.scores.get("cer")),
    }
    title = "Translation into English under a proxy language's token"
    made = table("unseen", title, groups, columns, " ".join(_UNSEEN), text_columns=2)
    skipped = [Bullets(results.skipped)] if results.skipped else []
    labels = {"bleu": "BLEU", "chrf": "chrF", "off_target": "Off target", "wer": "WER", "cer": "CER"}
    marks = ((labels[m], name_of(r.language), one.signature) for r in rows for m, one in r.scores.items())
    return [made, *skipped, *signatures(marks)]


def tokens(results: Results, *_: Any) -> list[Block]:
    """chrF and BLEU under every candidate token, and the rules that choose one."""
    rows = [r for r in results.unseen if len(r.candidates) > 1]
    if not rows:
        return []
    columns: dict[str, Callable[[Any], Cell]] = {
        "Language": lambda row: _named(row[0]),
        "Token": lambda row: row[1].token,
        "": lambda row: ", ".join(
            what for what, token in (("taken", row[0].chosen), ("best", row[0].oracle)) if token == row[1].token
        ),
        "BLEU": lambda row: score(row[1].bleu),
        "chrF": lambda row: score(row[1].chrf),
        "Off target, %": lambda row: score(row[1].off_target, 100),
    }
    groups = [[(r, candidate) for candidate in r.candidates] for r in rows]
    caption = "In the order of kinship. Taken: by the default rule, without references; best: by them."
    made = [table("tokens", "Every token that was tried", groups, columns, caption, text_columns=3)]
    if rules := results.unseen_rules:
        columns = {
            "Rule": lambda r: Text(r.rule, note="the default" if r.default else ""),
            "Best token taken": lambda r: f"{r.right} of {len(r.languages)}",
            "chrF": lambda r: number(r.chrf),
            "Below the best": lambda r: number(r.loss),
            "Against first [95% CI]": lambda r: difference(r.against_first if r.rule != "first" else None),
        }
        caption = f"Means over {', '.join(name_of(code) for code in rules[0].languages)}."
        made.append(table("rules", "Rules that take a token without references", [rules], columns, caption))
    return list(made)


def published(results: Results, *_: Any) -> list[Block]:
    """Our scores next to others'."""
    rows: list[list[Cell]] = []
    for r in results.published:
        chance = r.method == "chance"  # chance itself, over all pairs
        pair = " → ".join(name_of(code) for code in (r.source, r.target) if code)
        method = method_label(r.method) if r.task == "retrieval" else r.method
        scale, digits = (100, 2 if chance else 1) if r.metric == "r1" else (1, 4 if r.metric == "comet" else 1)
        theirs: Cell = r.published if isinstance(r.published, str) else None
        if isinstance(r.published, float):
            theirs = number(r.published, scale, digits=min(digits, 1) if scale == 100 else digits)
        metric = "R@1, %" if r.metric == "r1" else r.metric
        first = "mean of all pairs" if chance else pair
        rows.append([first, r.test, method, metric, number(r.ours, scale, digits=digits), theirs])
    if not rows:
        return []
    caption = "Figures of others come from the file that the recipe names; none is filled in from memory."
    if any(r.method == "chance" for r in results.published):
        caption += " That of chance is the paper's (section 4.2), the one of its figures that is known here."
    head = ["Languages", "Test", "System", "Metric", "Ours", "Published"]
    title = "Published figures"
    return [Table(name="published", title=title, head=head, bodies=[rows], caption=caption, text_columns=4)]


def _pictures(found: Robustness) -> list[Block]:
    pivot, method = name_of(found.pivot), found.methods[0]
    placed = [r for r in found.languages if r.distance.get("typological") is not None]
    x = f"typological distance to {pivot} (URIEL)"
    blocks: list[Block] = []
    retrieved = [(r, r.to_pivot[method]) for r in placed if method in r.to_pivot]
    if retrieved:
        chances = {round(m.chance, 9) for _, m in retrieved if m.chance is not None}
        recall = [(r, scaled(Score(value=m.r1, ci=m.r1_ci), 100)) for r, m in retrieved]
        chance = 100 * chances.pop() if len(chances) == 1 else None
        svg = plots.svg("distance-recall", plots.distances, recall, x, "R@1, %", chance)
        title = f"R@1 of retrieval to {pivot}, against distance ({method_label(method)})."
        blocks.append(Picture(svg, title, _HOW))
    if bleu := [(r, r.bleu) for r in placed if r.bleu and r.bleu.value is not None]:
        svg = plots.svg("distance-bleu", plots.distances, bleu, x, "BLEU")
        blocks.append(Picture(svg, "BLEU of speech into English, against distance.", _HOW))
    return blocks


def _distance(r: Distant) -> tuple[float, str]:
    """The nearest first, unknown distances last."""
    distance = r.distance.get("typological")
    return (math.inf if distance is None else distance, r.language)


def _recall(way: str, method: str, row: Distant) -> Number:
    found: Retrieval | None = getattr(row, way).get(method)
    return Number(None) if found is None else number(found.r1, 100, found.r1_ci)


def _named(r: UnderTokens) -> Text:
    note = "its own token" if r.own_token else "its own token forbidden" if r.forbidden else ""
    return Text(name_of(r.language), note=note)


def _above(r: UnderTokens) -> Difference | None:
    against = r.permuted.get("chrf")
    return against.difference if against else None
