"""Off-target rate: outputs in another language than the target, by script where that decides, else by py3langid."""

import re
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Collection
from functools import cache
from importlib.metadata import version
from itertools import groupby
from typing import Any

import langcodes

from interlingua.errors import UsageError
from interlingua.languages import normalise_language, normalise_languages
from interlingua.metrics.statistics import Statistics, SystemOutputs, join, ratio

USUAL_LANGUAGES = ("en", "es", "fr", "it", "ru", "zh")
"""Candidates besides the target and the sources: the languages of the prompts corpus."""

_SCRIPTS = {  # first word of a letter's Unicode name -> script; kana count as one
    "LATIN": "Latn", "CYRILLIC": "Cyrl", "GREEK": "Grek", "ARMENIAN": "Armn", "GEORGIAN": "Geor",
    "ARABIC": "Arab", "HEBREW": "Hebr", "ETHIOPIC": "Ethi", "DEVANAGARI": "Deva", "BENGALI": "Beng",
    "GURMUKHI": "Guru", "GUJARATI": "Gujr", "ORIYA": "Orya", "TAMIL": "Taml", "TELUGU": "Telu",
    "KANNADA": "Knda", "MALAYALAM": "Mlym", "SINHALA": "Sinh", "THAI": "Thai", "LAO": "Laoo",
    "TIBETAN": "Tibt", "MYANMAR": "Mymr", "KHMER": "Khmr", "HANGUL": "Hang", "CJK": "Hani",
    "IDEOGRAPHIC": "Hani", "HIRAGANA": "Kana", "KATAKANA": "Kana",
}  # fmt: skip
_UNSPACED = {"Hani", "Kana", "Thai", "Laoo", "Mymr", "Khmr", "Tibt"}  # a letter here weighs as much as a word elsewhere
_MIXED = {"Hans": {"Hani"}, "Hant": {"Hani"}, "Jpan": {"Hani", "Kana"}, "Kore": {"Hang"}}
_OTHER_CODES = {"jw": "jv"}  # ours -> py3langid's


def off_target(outputs: SystemOutputs, sources: Collection[str] = ()) -> Statistics:
    """Outputs that aren't in the target language, as a proportion (0-1).

    A missing output, or one without a letter, is off target. The script decides where no other candidate is written in
    it; else py3langid chooses among the candidates of that script: the target, the source languages (the outputs' own,
    and ``sources``) and `USUAL_LANGUAGES`. The signature has the rate of the references: the false alarms.

    Raises:
        UsageError: an unknown language, no references, a hypothesis whose id no reference has, or a target that
            py3langid doesn't know among other candidates of its script.
    """
    target = normalise_language(outputs.target)
    candidates = normalise_languages((target, *filter(None, (outputs.source, *sources)), *USUAL_LANGUAGES))
    segments = join(outputs.hypotheses, outputs.references)
    off = {
        i: (float(not _is_in(t, target, candidates)), 1.0)
        for i, t in zip(segments.ids, segments.hypotheses, strict=True)
    }
    alarms = sum(not _is_in(text, target, candidates) for text in segments.references) / len(segments)
    signature = (
        f"off-target|target:{target}|candidates:{'+'.join(sorted(candidates))}|"
        f"identifier:script+py3langid:{version('py3langid')}|references-off-target:{alarms:.3f}"
    )
    return ratio(off, outputs.clusters, signature, cell=outputs.cell)


def written_in(
    text: str, target: str, sources: Collection[str] = (), others: Collection[str] = USUAL_LANGUAGES
) -> bool | None:
    """Whether a text is in the target language rather than ``sources`` or ``others``, by the rule of `off_target`.

    None: undecidable.
    """
    target = normalise_language(target)
    candidates = normalise_languages((target, *sources, *others))
    try:
        return _is_in(text, target, candidates)
    except UsageError:  # no identifier knows the target
        return None


def _is_in(text: str, target: str, candidates: Collection[str]) -> bool:
    script = main_script(text)
    if script not in _scripts_of(target):
        return False
    rivals = sorted(c for c in candidates if script in _scripts_of(c))
    return rivals == [target] or _identify(text, target, tuple(rivals)) == target


def main_script(text: str) -> str | None:
    """ISO 15924 code of the script of most words (letters, where words aren't spaced); None: no letters.

    Han with kana is ``Kana``, Han alone ``Hani``.

    >>> main_script("请按 Asterisk 键"), main_script("番号を入力"), main_script("5")
    ('Hani', 'Kana', None)
    """
    counts: Counter[str] = Counter()
    for script, letters in groupby(text, _script):
        if script:
            counts[script] += len(list(letters)) if script in _UNSPACED else 1
    if not counts:
        return None
    if counts["Kana"]:
        counts["Kana"] += counts.pop("Hani", 0)
    return counts.most_common(1)[0][0]


@cache
def _script(letter: str) -> str | None:
    if not letter.isalpha():
        return None
    return _SCRIPTS.get(re.split("[ -]", unicodedata.name(letter, ""))[0])


@cache
def _scripts_of(language: str) -> frozenset[str]:
    if language == "sr":
        return frozenset({"Cyrl", "Latn"})
    script = langcodes.Language.get(language).maximize().script or "Latn"
    return frozenset(_MIXED.get(script, {script}))


def _identify(text: str, target: str, rivals: tuple[str, ...]) -> str | None:
    identifier, codes = _identifier(target, rivals)
    (code, best), *others = identifier.rank(text)
    return None if others and others[0][1] == best else codes[code]  # equal: the text has no feature that it knows


@cache
def _identifier(target: str, rivals: tuple[str, ...]) -> tuple[Any, dict[str, str]]:
    """The identifier of the rivals that it knows, and its codes -> ours."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    try:
        identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    except OSError as e:  # it unpacks its model there
        raise OSError(e.errno, e.strerror, e.filename or tempfile.gettempdir()) from e
    codes = {_OTHER_CODES.get(c, c): c for c in rivals if _OTHER_CODES.get(c, c) in identifier.labels}
    if target not in codes.values():
        others = ", ".join(c for c in rivals if c != target)
        raise UsageError(f"no identifier tells {target!r} from {others}; leave the off-target rate out")
    identifier.set_languages(list(codes))
    return identifier, codes
