"""Which language token stands in for a language that has none, and how one is chosen without references.

Whisper is told which language it hears by a token. A language without one (Asturian, Kabuverdianu) is heard as a
related language: `RELATED` says which are tried, and a rule takes one by what the model itself makes of the recordings
under each. How well the rules do is measured in docs/unseen.md.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np

from interlingua.languages import normalise_language
from interlingua.metrics import segment_scores
from interlingua.types import Hypothesis

Rule = Literal["first", "likelihood", "heard", "agreement"]
"""How a candidate is chosen.

``first``: the closest relative, whatever the recordings say. ``likelihood``: the highest mean log-probability of the
translations. ``heard``: what Whisper's own language detection hears most, among the candidates. ``agreement``: the
translations that agree most with those under the other candidates (`agreement`).
"""

RULES: tuple[Rule, ...] = get_args(Rule)

DEFAULT_RULE: Rule = "agreement"
"""Highest mean where the rules were measured (docs/unseen.md), but not told apart from ``first`` there."""

MOST_HEARD = 4
"""Candidates that Whisper's own language detection gives where `RELATED` has none."""

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
    # Languages that have a token, for the rules' check: as if they had none.
    "es": ("pt", "gl", "ca", "it"),
    "fr": ("ca", "oc", "it", "es"),
    "it": ("es", "ro", "ca", "fr"),
    "pt": ("gl", "es", "ca", "it"),
}


def candidate_tokens(language: str, whisper_languages: Sequence[str]) -> list[str]:
    """Tokens to try for a language, the closest relative first; its own alone if it has one.

    Args:
        language: code or English name.
        whisper_languages: languages that the model has a token for, such as ``Whisper.languages``; leave the language
            itself out to treat it as one without a token.

    Returns:
        Codes; none where no relative is known: then ask `heard_most`.

    Raises:
        UsageError: no language has this code.
    """
    language = normalise_language(language)
    if language in whisper_languages:
        return [language]
    return [code for code in RELATED.get(language, ()) if code in whisper_languages]


def heard_most(heard: Mapping[str, Mapping[str, float]], without: Sequence[str] = ()) -> list[str]:
    """The languages that the model hears most over all recordings, by summed probability.

    Args:
        heard: utterance id -> language -> probability, such as ``Decoder.languages`` gives.
        without: languages that are left out.
    """
    sums: dict[str, float] = {}
    for chances in heard.values():
        for code, chance in chances.items():
            if code not in without:
                sums[code] = sums.get(code, 0.0) + chance
    return sorted(sums, key=lambda code: -sums[code])[:MOST_HEARD]


def choose_token(scores: Mapping[str, Sequence[float]]) -> str:
    """The candidate with the highest mean score; of equal ones the first.

    Args:
        scores: candidate -> a score for each recording under it, higher is better, such as `rule_scores` gives; a
            candidate without scores is chosen only where none has any.

    Raises:
        ValueError: there are no candidates.
    """
    return max(scores, key=lambda code: float(np.mean(scores[code])) if len(scores[code]) else -np.inf)


def rule_scores(
    rule: Rule,
    translations: Mapping[str, Mapping[str, Hypothesis]],
    heard: Mapping[str, Mapping[str, float]],
) -> dict[str, list[float]]:
    """What `choose_token` chooses by: candidate -> a score for each utterance, in the order of the ids.

    Args:
        rule: see `Rule`.
        translations: candidate, the closest relative first -> utterance id -> its translation into English.
        heard: utterance id -> language -> probability (read by ``heard`` alone).
    """
    ids = sorted({i for said in translations.values() for i in said})
    if rule == "first":
        return {code: [-float(place)] * len(ids) for place, code in enumerate(translations)}
    if rule == "heard":
        return {code: [heard.get(i, {}).get(code, 0.0) for i in ids] for code in translations}
    if rule == "agreement":
        return agreement({code: {i: h.text for i, h in said.items()} for code, said in translations.items()})
    chances = {code: [said[i].log_probability for i in ids if i in said] for code, said in translations.items()}
    return {code: [c for c in found if c is not None] for code, found in chances.items()}


def agreement(translations: Mapping[str, Mapping[str, str]]) -> dict[str, list[float]]:
    """How much each candidate's translations agree with the other candidates': mean chrF, 0-100, of each utterance.

    The translation nearest to all others is the minimum-Bayes-risk one (Kumar and Byrne, 2004) of the candidates taken
    as equally likely.

    Args:
        translations: candidate -> utterance id -> text; one that is missing counts as empty.

    Returns:
        Candidate -> a score for each utterance, in the order of the ids; 0 where there is no other candidate.
    """
    ids = sorted({i for said in translations.values() for i in said})
    found = {}
    for code, said in translations.items():
        others = [{i: other.get(i, "") for i in ids} for name, other in translations.items() if name != code]
        each = [segment_scores(said, other, metric="chrf") for other in others if ids]
        found[code] = [float(np.mean([scores[i] for scores in each])) if each else 0.0 for i in ids]
    return found
