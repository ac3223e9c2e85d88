"""The page's sections on languages under tokens that stand in: scores, tokens, rules, figures of others."""

from collections.abc import Sequence

from interlingua.report.markup import bullets, details, signatures_by_label
from interlingua.report.tables import Block, Cell, Table, Text, count, difference, number, p_value, score
from interlingua.results import Results, TokenRule, UnderTokens, name_of

_METRICS = {"bleu": "BLEU", "chrf": "chrF", "wer": "WER, %", "cer": "CER, %"}


def languages(results: Results) -> list[Block]:
    """Every language's scores under the token that the default rule takes."""
    rows = results.unseen
    if not rows:
        return []
    groups = [
        [r for r in rows if not r.seen],
        [r for r in rows if r.forbidden],
        [r for r in rows if r.seen and not r.forbidden],
    ]
    caption = [
        "Under the token that the default rule takes without references; a language that has a token of its own is a "
        "control. In brackets: 95% intervals, sentences resampled.",
        "Above permuted: the chrF less its mean against references dealt out anew, paired; a model that writes likely "
        "phrases whatever it hears has 0 there. p: two-sided, by approximate randomisation, not corrected for the "
        "number of rows.",
        "Copied: share of the reference's words in long runs that stand word for word in the translation.",
        "WER and CER are of transcripts under the same token; more than 100% is possible. Where words aren't "
        "spaced, both count characters.",
    ]
    head = [
        "Language",
        "Token",
        "n",
        "BLEU",
        "chrF",
        "Above permuted",
        "p",
        "Copied, %",
        "Off target, %",
        "WER, %",
        "CER, %",
    ]
    made = Table(
        name="unseen",
        title="Translation into English under a token that stands in for the language's own",
        head=head,
        bodies=[[_row(r) for r in group] for group in groups if group],
        caption=" ".join(caption),
        text_columns=2,
        pinned=True,
        dense=True,
    )
    left = [bullets(results.left_out)] if results.left_out else []
    return [made, *left, *details("Signatures", [_signatures(rows)])]


def tokens(results: Results) -> list[Block]:
    """chrF and BLEU under every candidate token."""
    rows = [r for r in results.unseen if len(r.candidates) > 1]
    if not rows:
        return []
    bodies: list[list[list[Cell]]] = [
        [
            [
                _name(r),
                c.token,
                ", ".join(what for what, is_it in (("taken", r.chosen), ("best", r.oracle)) if is_it == c.token),
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
        pinned=True,
    )
    return [made, *_rules(results.unseen_rules)]


def published(results: Results) -> list[Block]:
    """Our scores beside figures of others."""
    if not results.published_unseen:
        return []
    rows: list[list[Cell]] = [
        [
            name_of(r.language),
            _METRICS.get(r.metric, r.metric),
            number(r.ours),
            number(r.published) if isinstance(r.published, float) else r.published,
        ]
        for r in results.published_unseen
    ]
    return [
        Table(
            name="published-unseen",
            title="Beside published figures",
            head=["Language", "Measure", "Ours", "Published"],
            bodies=[rows],
            caption="Figures of others come from the file that the recipe names; none is filled in from memory.",
            text_columns=2,
        )
    ]


def _row(r: UnderTokens) -> list[Cell]:
    error, against = r.error or {}, r.permuted.get("chrf")
    above = against.difference if against else None
    return [
        _name(r),
        r.chosen,
        count(r.n),
        score(r.scores.bleu, below=True),
        score(r.scores.chrf, below=True),
        difference(above, below=True),
        p_value(above),
        number(r.copied, 100),
        score(r.scores.off_target, 100, below=True),
        score(error.get("words"), below=True),
        score(error.get("characters"), below=True),
    ]


def _name(r: UnderTokens) -> Text:
    note = "its own token" if r.own_token else "its own token forbidden" if r.forbidden else ""
    return Text(name_of(r.language), note=note)


def _rules(rules: Sequence[TokenRule]) -> list[Block]:
    if not rules:
        return []
    rows: list[list[Cell]] = [
        [
            Text(r.rule, note="the default" if r.default else ""),
            f"{r.right} of {len(r.languages)}",
            number(r.chrf),
            number(r.loss),
            difference(r.against_first if r.rule != "first" else None),
        ]
        for r in rules
    ]
    return [
        Table(
            name="rules",
            title="Rules that take a token without references",
            head=["Rule", "Best token taken", "chrF", "Below the best", "Against first [95% CI]"],
            bodies=[rows],
            caption=f"Means over {', '.join(name_of(code) for code in rules[0].languages)}.",
        )
    ]


def _signatures(rows: Sequence[UnderTokens]) -> str:
    marks = [
        (label, name_of(r.language), metric.signature)
        for r in rows
        for label, metric in (
            ("BLEU", r.scores.bleu),
            ("chrF", r.scores.chrf),
            ("Off target", r.scores.off_target),
            ("WER", (r.error or {}).get("words")),
            ("CER", (r.error or {}).get("characters")),
        )
        if metric is not None
    ]
    return signatures_by_label(marks)
