"""Language codes: FLEURS', Common Voice's, MaSS' and common codes mapped to Whisper's (mostly ISO 639-1).

A language without a Whisper token keeps its ISO 639 code (``kea``, ``ast``).
"""

import difflib
from collections.abc import Collection, Iterable
from typing import Literal

import langcodes
from langcodes.data_dicts import MACROLANGUAGES

from interlingua.errors import UsageError

PromptKind = Literal["target-transcribe", "target-translate", "source-translate"]
"""Which languages and task a decoder's prompt names; see `interlingua.models.targets`."""

WHISPER_LANGUAGES: dict[str, str] = {  # in token order; the last one (yue) exists from large-v3 on
    "en": "english",
    "zh": "chinese",
    "de": "german",
    "es": "spanish",
    "ru": "russian",
    "ko": "korean",
    "fr": "french",
    "ja": "japanese",
    "pt": "portuguese",
    "tr": "turkish",
    "pl": "polish",
    "ca": "catalan",
    "nl": "dutch",
    "ar": "arabic",
    "sv": "swedish",
    "it": "italian",
    "id": "indonesian",
    "hi": "hindi",
    "fi": "finnish",
    "vi": "vietnamese",
    "he": "hebrew",
    "uk": "ukrainian",
    "el": "greek",
    "ms": "malay",
    "cs": "czech",
    "ro": "romanian",
    "da": "danish",
    "hu": "hungarian",
    "ta": "tamil",
    "no": "norwegian",
    "th": "thai",
    "ur": "urdu",
    "hr": "croatian",
    "bg": "bulgarian",
    "lt": "lithuanian",
    "la": "latin",
    "mi": "maori",
    "ml": "malayalam",
    "cy": "welsh",
    "sk": "slovak",
    "te": "telugu",
    "fa": "persian",
    "lv": "latvian",
    "bn": "bengali",
    "sr": "serbian",
    "az": "azerbaijani",
    "sl": "slovenian",
    "kn": "kannada",
    "et": "estonian",
    "mk": "macedonian",
    "br": "breton",
    "eu": "basque",
    "is": "icelandic",
    "hy": "armenian",
    "ne": "nepali",
    "mn": "mongolian",
    "bs": "bosnian",
    "kk": "kazakh",
    "sq": "albanian",
    "sw": "swahili",
    "gl": "galician",
    "mr": "marathi",
    "pa": "punjabi",
    "si": "sinhala",
    "km": "khmer",
    "sn": "shona",
    "yo": "yoruba",
    "so": "somali",
    "af": "afrikaans",
    "oc": "occitan",
    "ka": "georgian",
    "be": "belarusian",
    "tg": "tajik",
    "sd": "sindhi",
    "gu": "gujarati",
    "am": "amharic",
    "yi": "yiddish",
    "lo": "lao",
    "uz": "uzbek",
    "fo": "faroese",
    "ht": "haitian creole",
    "ps": "pashto",
    "tk": "turkmen",
    "nn": "nynorsk",
    "mt": "maltese",
    "sa": "sanskrit",
    "lb": "luxembourgish",
    "my": "myanmar",
    "bo": "tibetan",
    "tl": "tagalog",
    "mg": "malagasy",
    "as": "assamese",
    "tt": "tatar",
    "haw": "hawaiian",
    "ln": "lingala",
    "ha": "hausa",
    "ba": "bashkir",
    "jw": "javanese",
    "su": "sundanese",
    "yue": "cantonese",
}

UNSEEN_LANGUAGES: dict[str, str] = {  # FLEURS' languages without a Whisper token, and a few more
    "ast": "asturian", "ceb": "cebuano", "ckb": "sorani kurdish", "ff": "fula", "ga": "irish", "ig": "igbo",
    "kam": "kamba", "kea": "kabuverdianu", "ky": "kyrgyz", "lg": "luganda", "luo": "luo",
    "nso": "northern sotho",
    "ny": "nyanja", "om": "oromo", "or": "odia", "umb": "umbundu", "wo": "wolof", "xh": "xhosa", "zu": "zulu",
    "eo": "esperanto", "ia": "interlingua", "pap": "papiamento", "an": "aragonese",
    "gd": "scottish gaelic", "mdw": "mboshi",
}  # fmt: skip

_NEAR = 14  # CLDR's distance of a variety that is written as the other language is; gsw -> de: 8

UNSPACED_LANGUAGES = frozenset({"zh", "ja", "yue", "th", "lo", "my", "km", "bo"})
"""Written without spaces between words: error rates count characters, and Whisper's texts begin without a space."""

_ALIASES: dict[str, str] = {  # Whisper's own, then other usual names
    "burmese": "my", "valencian": "ca", "flemish": "nl", "haitian": "ht", "letzeburgesch": "lb", "pushto": "ps",
    "panjabi": "pa", "moldavian": "ro", "moldovan": "ro", "sinhalese": "si", "castilian": "es", "mandarin": "zh",
    "bangla": "bn", "bokmål": "no", "farsi": "fa", "filipino": "tl", "oriya": "or",
}  # fmt: skip
_BY_NAME = {name: code for code, name in (WHISPER_LANGUAGES | UNSEEN_LANGUAGES).items()} | _ALIASES

# Codes that ISO 639 and BCP 47 know otherwise than Whisper does.
_WHISPER_OWN: dict[str, str] = {
    "cmn": "zh",
    "yue_hant_hk": "yue",
    "zh_hk": "yue",
    "zh_min_nan": "nan",
    "fil": "tl",
    "jv": "jw",
    "nb": "no",
    "mo": "ro",
    "pbt": "ps",  # FLORES' Pashto
    "zlm": "ms",  # MMS' Malay
}


def normalise_language(code: str) -> str:
    """Map any corpus's language code, or an English language name, to ours.

    Region and script are cut off. A language's standard form (``arb``, ``swh``) is the language; its other members,
    which corpora list separately (``arz``, ``yue``), stay apart, behind it too (``zh-yue``).

    >>> [normalise_language(c) for c in ("en_us", "cmn_hans_cn", "sv-SE", "deu", "French", "kea_cv", "arb_Arab", "arz")]
    ['en', 'zh', 'sv', 'de', 'fr', 'kea', 'ar', 'arz']

    Raises:
        UsageError: no language has this code; the nearest ones are named.
    """
    key = code.strip().lower().replace("-", "_")
    if key in _BY_NAME:
        return _BY_NAME[key]
    if key in _WHISPER_OWN:
        return _WHISPER_OWN[key]
    base, *rest = key.split("_")
    if rest and _is_member(rest[0], base):
        base = _WHISPER_OWN.get(rest[0], rest[0])
    if base in WHISPER_LANGUAGES:  # jw is Whisper's own
        return _WHISPER_OWN.get(base, base)
    try:
        tag = langcodes.Language.get(base)
        standard, whole = tag.language, tag.prefer_macrolanguage().language
    except ValueError:  # langcodes.LanguageTagError
        standard = whole = None
    if standard is None or not langcodes.tag_is_valid(standard):
        near = difflib.get_close_matches(key, [*WHISPER_LANGUAGES, *UNSEEN_LANGUAGES, *_BY_NAME], n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "use an ISO 639 code such as en, fr, zh"
        raise UsageError(f"unknown language {code!r}; {hint}")
    if whole in WHISPER_LANGUAGES or whole in UNSEEN_LANGUAGES:
        standard = whole
    return _WHISPER_OWN.get(standard, standard)


def normalise_languages(codes: Iterable[str]) -> tuple[str, ...]:
    """Normalise several codes and drop repetitions; raises UsageError as `normalise_language` does."""
    return tuple(dict.fromkeys(normalise_language(code) for code in codes))


def written_as(language: str, known: Collection[str]) -> str | None:
    """The language among ``known`` codes that a variety belongs to: ``yue`` -> ``zh``, ``arz`` -> ``ar``, or None.

    By ISO 639's macrolanguages, else by CLDR's language matching (``gsw`` -> ``de``).
    """
    whole = MACROLANGUAGES.get(language)
    if whole in known:
        return whole
    near, _ = langcodes.closest_match(language, sorted(known), max_distance=_NEAR)
    return near if near in known else None


def _is_member(code: str, macrolanguage: str) -> bool:
    whole = MACROLANGUAGES.get(code)
    try:
        return whole is not None and whole == langcodes.standardize_tag(macrolanguage)
    except ValueError:  # langcodes.LanguageTagError
        return False


def language_name(code: str) -> str:
    """English name of a language, e.g. ``"fr"`` -> ``"French"``; the code itself where no name is known.

    ``und`` (ISO 639-2: undetermined), the language of silence, is ``"Unknown"``.
    """
    if code == "und":
        return "Unknown"
    code = normalise_language(code)
    name = WHISPER_LANGUAGES.get(code) or UNSEEN_LANGUAGES.get(code)
    return name.title() if name else code
