"""Proxy languages: a language token for a language that has none, chosen without references.

`RELATED` lists the candidates; a rule chooses one by the model's own outputs. docs/unseen.md measures the rules.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import numpy as np

from interlingua.languages import language_name, normalise_language, written_as
from interlingua.metrics import segment_scores
from interlingua.models import Whisper
from interlingua.types import Hypothesis

Rule = Literal["first", "likelihood", "detection", "agreement"]
"""How a candidate is chosen: ``first``: the closest relative; ``likelihood``: the highest mean log-probability of the
translations; ``detection``: Whisper's own language detection; ``agreement``: the translations that agree most with the
others'."""

RULES: tuple[Rule, ...] = get_args(Rule)
DEFAULT_RULE: Rule = "agreement"  # highest mean in docs/unseen.md, but not significantly above ``first``
MOST_DETECTED = 4  # candidates that language detection gives where `RELATED` has none

RELATED: dict[str, tuple[str, ...]] = {
    # Closest branch of the family first (Glottolog's tree), then the language that gave a creole or a constructed
    # language most of its words, then neighbours whose words it has borrowed.
    "ast": ("es", "gl", "pt", "ca"),  # West Iberian
    "an": ("es", "ca", "oc", "gl"),  # Romance, between Spanish and Catalan
    "kea": ("pt", "gl", "es"),  # creole with Portuguese words
    "pap": ("es", "pt", "nl", "gl"),  # creole with Spanish and Portuguese words, and Dutch ones
    "eo": ("it", "es", "fr", "pl"),  # constructed: mostly Romance words, Slavic sounds
    "ia": ("it", "es", "pt", "la"),  # constructed from Romance
    "ga": ("cy", "br", "en"),  # Celtic, of the other branch; neighbour
    "ckb": ("fa", "tg", "ps", "ar"),  # West Iranian first; neighbour
    "ceb": ("tl", "id", "ms", "jw"),  # Philippine, then Malayo-Polynesian
    "ky": ("kk", "tt", "ba", "uz"),  # Kipchak Turkic; neighbour
    "ff": ("ha",),  # neighbour
    "ig": ("yo", "ha"),  # Volta-Niger; neighbour
    "kam": ("sw", "sn", "ln"),  # Bantu, from here
    "mdw": ("ln", "sw", "sn"),  # of the same zone, C, first
    "lg": ("sw", "sn", "ln"),
    "nso": ("sn", "sw", "af"),
    "ny": ("sn", "sw", "ln"),
    "umb": ("ln", "sn", "sw", "pt"),
    "xh": ("sn", "sw", "af"),
    "zu": ("sn", "sw", "af"),  # to here
    "luo": ("sw", "am"),  # neighbours
    "om": ("so", "am"),  # Cushitic; neighbour
    "or": ("bn", "as", "hi"),  # Eastern Indo-Aryan first
    "wo": ("fr", "ha"),  # neighbours
    "gd": ("cy", "br", "en"),  # Celtic, of the other branch; neighbour: from here languages that FLEURS lacks
    "gv": ("cy", "br", "en"),
    "kw": ("br", "cy", "en"),  # Celtic, of the same branch
    "fy": ("nl", "af", "en"),  # West Germanic
    "nds": ("de", "nl", "lb"),
    "bar": ("de", "lb"),
    "sco": ("en",),
    "lmo": ("it", "oc", "fr"),  # Romance
    "vec": ("it", "es"),
    "scn": ("it", "es"),
    "sc": ("it", "es", "ca"),
    "rm": ("it", "fr", "oc"),
    "rup": ("ro", "it"),
    "hsb": ("cs", "pl", "sk"),  # West Slavic
    "dsb": ("pl", "cs", "sk"),
    "szl": ("pl", "cs", "sk"),
    "csb": ("pl", "cs"),
    "ug": ("uz", "kk", "tr"),  # Turkic
    "cv": ("tt", "ba", "tr"),
    "sah": ("kk", "tt", "tr"),
    "kmr": ("fa", "tg", "tr"),  # Iranian; neighbour
    "zza": ("fa", "tg", "tr"),
    "ti": ("am", "ar"),  # Ethiopic Semitic, Semitic
    "rw": ("sw", "sn", "ln"),  # Bantu, from here
    "rn": ("sw", "sn", "ln"),
    "tn": ("sn", "sw", "af"),
    "st": ("sn", "sw", "af"),
    "ts": ("sn", "sw", "af"),
    "ss": ("sn", "sw", "af"),
    "ve": ("sn", "sw", "af"),  # to here
    "ilo": ("tl", "id", "ms"),  # Philippine, then Malayo-Polynesian
    "war": ("tl", "id", "ms"),
    "hil": ("tl", "id", "ms"),
    "sm": ("mi", "haw"),  # Polynesian
    "to": ("mi", "haw"),
    "ty": ("mi", "haw"),
    "bho": ("hi", "bn", "ne"),  # Indo-Aryan
    "mai": ("hi", "bn", "ne"),
    "gom": ("mr", "hi"),
    "dv": ("si", "hi"),
    "kab": ("ar", "fr"),  # neighbours
    # Languages that have a token, to check the rules as if they had none.
    "es": ("pt", "gl", "ca", "it"),
    "fr": ("ca", "oc", "it", "es"),
    "it": ("es", "ro", "ca", "fr"),
    "pt": ("gl", "es", "ca", "it"),
}


def candidate_tokens(language: str, whisper_languages: Sequence[str]) -> list[str]:
    """Language tokens to try, the closest relative first; alone: a language's own, else its macrolanguage's.

    Empty: use `likeliest_languages`.

    Leave a language out of ``whisper_languages`` to treat it as one without a token.
    """
    language = normalise_language(language)
    if language in whisper_languages:
        return [language]
    if (near := written_as(language, whisper_languages)) is not None:
        return [near]
    return [code for code in RELATED.get(language, ()) if code in whisper_languages]


def likeliest_languages(detected: Mapping[str, Mapping[str, float]], without: Sequence[str] = ()) -> list[str]:
    """The likeliest languages by summed probability; ``detected``: id -> language -> probability."""
    sums: dict[str, float] = {}
    for probabilities in detected.values():
        for code, p in probabilities.items():
            if code not in without:
                sums[code] = sums.get(code, 0.0) + p
    return sorted(sums, key=lambda code: -sums[code])[:MOST_DETECTED]


def choose_token(scores: Mapping[str, Sequence[float]]) -> str:
    """The candidate with the highest mean score; the first of equal ones; one without scores last."""
    return max(scores, key=lambda code: float(np.mean(scores[code])) if len(scores[code]) else -np.inf)


def proxy_language(
    whisper: Whisper,
    language: str,
    detect: Callable[[], Mapping[str, Mapping[str, float]]],
    translate: Callable[[Sequence[str]], Mapping[str, Mapping[str, Hypothesis]]],
    log: Callable[[str], None],
) -> str:
    """The proxy language of a language without a token, by `DEFAULT_RULE` on some of its speech; `log` is told it.

    ``detect``: id -> language -> probability, asked where no relative is known; ``translate``: candidates ->
    candidate -> id -> translation into English, asked where there are several.
    """
    candidates, detected = candidate_tokens(language, whisper.languages), {}
    if not candidates:
        detected = dict(detect())
        candidates = likeliest_languages(detected)
    chosen = candidates[0]
    if len(candidates) > 1:
        chosen = choose_token(rule_scores(DEFAULT_RULE, translate(candidates), detected))
    log(
        f"{language_name(language)} has no token in {whisper.model_name}: proxy language {language_name(chosen)}, "
        f"of {', '.join(candidates)} (rule: {DEFAULT_RULE}; docs/unseen.md); --as names another"
    )
    return chosen


def rule_scores(
    rule: Rule,
    translations: Mapping[str, Mapping[str, Hypothesis]],
    detected: Mapping[str, Mapping[str, float]],
) -> dict[str, list[float]]:
    """Input of `choose_token`: candidate, the closest relative first -> a score for each utterance, in id order.

    ``translations``: candidate -> id -> translation into English; ``detected``: id -> language -> probability.
    """
    ids = sorted({i for hypotheses in translations.values() for i in hypotheses})
    if rule == "first":
        return {code: [-float(position)] * len(ids) for position, code in enumerate(translations)}
    if rule == "detection":
        return {code: [detected.get(i, {}).get(code, 0.0) for i in ids] for code in translations}
    if rule == "agreement":
        return agreement({c: {i: h.text for i, h in hypotheses.items()} for c, hypotheses in translations.items()})
    found = {
        c: [hypotheses[i].log_probability for i in ids if i in hypotheses] for c, hypotheses in translations.items()
    }
    return {code: [p for p in values if p is not None] for code, values in found.items()}


def agreement(translations: Mapping[str, Mapping[str, str]]) -> dict[str, list[float]]:
    """Agreement of each candidate's translations with the others': candidate -> mean chrF (0-100) of each utterance.

    The translation nearest to all others is the minimum-Bayes-risk one (Kumar and Byrne, 2004) of equally likely ones.
    Utterances are in the order of the ids; a missing text counts as empty, and a single candidate scores 0.
    """
    ids = sorted({i for texts in translations.values() for i in texts})
    found = {}
    for code, texts in translations.items():
        others = [{i: other.get(i, "") for i in ids} for name, other in translations.items() if name != code]
        each = [segment_scores(texts, other, metric="chrf") for other in others if ids]
        found[code] = [float(np.mean([scores[i] for scores in each])) if each else 0.0 for i in ids]
    return found
