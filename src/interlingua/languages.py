"""Language codes: FLEURS', Common Voice's, MaSS' and people's own codes mapped to Whisper's.

Whisper's code (ISO 639-1 mostly) is the one the package uses everywhere. A language that Whisper has
no token for keeps its ISO 639 code (``kea``, ``ast``); `has_whisper_token` tells the two apart.
"""

import difflib

from interlingua.errors import UsageError

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
}  # fmt: skip

# Other corpora's and older standards' codes -> ours. FLEURS' en_us, Common Voice's sv-SE and the like
# need no entry: their region is cut off.
_ALIASES: dict[str, str] = {
    "cmn": "zh", "cmn_hans_cn": "zh",
    "yue_hant_hk": "yue", "zh_hk": "yue", "fil": "tl", "jv": "jw", "nb": "no",
    "iw": "he", "in": "id", "ji": "yi", "mo": "ro",
    "eng": "en", "fra": "fr", "fre": "fr", "deu": "de", "ger": "de", "spa": "es", "ita": "it", "rus": "ru",
    "jpn": "ja", "zho": "zh", "chi": "zh", "por": "pt", "eus": "eu", "fin": "fi", "hun": "hu", "ron": "ro",
    "rum": "ro", "nld": "nl", "ara": "ar", "tur": "tr", "kor": "ko", "pol": "pl",
}  # fmt: skip


def normalise_language(code: str) -> str:
    """Map any corpus's language code or an English language name to ours.

    >>> [normalise_language(c) for c in ("en_us", "cmn_hans_cn", "sv-SE", "French", "kea_cv")]
    ['en', 'zh', 'sv', 'fr', 'kea']

    Raises:
        UsageError: no language has this code; the nearest ones are named.
    """
    key = code.strip().lower().replace("-", "_")
    base = key.split("_")[0]
    for candidate in (key, base):
        if candidate in _ALIASES:
            return _ALIASES[candidate]
        if candidate in WHISPER_LANGUAGES or candidate in UNSEEN_LANGUAGES:
            return candidate
    by_name = {name: c for c, name in (WHISPER_LANGUAGES | UNSEEN_LANGUAGES).items()}
    if key in by_name:
        return by_name[key]
    near = difflib.get_close_matches(key, [*WHISPER_LANGUAGES, *UNSEEN_LANGUAGES, *by_name], n=3)
    hint = f"; did you mean {', '.join(near)}?" if near else "; use an ISO 639 code such as en, fr, zh"
    raise UsageError(f"unknown language {code!r}{hint}")


def language_name(code: str) -> str:
    """English name of a language, e.g. ``"fr"`` -> ``"French"``."""
    code = normalise_language(code)
    return (WHISPER_LANGUAGES.get(code) or UNSEEN_LANGUAGES[code]).title()


def has_whisper_token(code: str) -> bool:
    """Whether some multilingual Whisper has a token for this language."""
    return normalise_language(code) in WHISPER_LANGUAGES
