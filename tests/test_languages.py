"""Language codes of several corpora, mapped to one."""

import pytest

from helpers import score_transcripts
from interlingua.errors import UsageError
from interlingua.finetuning.data import text_example
from interlingua.languages import (
    UNSEEN_LANGUAGES,
    UNSPACED_LANGUAGES,
    WHISPER_LANGUAGES,
    language_name,
    normalise_language,
    normalise_languages,
    written_as,
)

FLEURS = {  # every code whose part before the underscore isn't ours
    "cmn_hans_cn": "zh",
    "yue_hant_hk": "yue",
    "fil_ph": "tl",
    "jv_id": "jw",
    "nb_no": "no",
}


@pytest.mark.parametrize(("theirs", "ours"), FLEURS.items())
def test_fleurs_exceptions(theirs, ours):
    assert normalise_language(theirs) == ours


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("en_us", "en"),
        ("kea_cv", "kea"),
        ("ckb_iq", "ckb"),
        ("sv-SE", "sv"),
        ("zh-CN", "zh"),
        ("ga-IE", "ga"),
        ("swe", "sv"),
        ("deu", "de"),
        ("fre", "fr"),
        ("hin", "hi"),
        ("iw", "he"),  # codes that ISO 639 has replaced
        ("in", "id"),
        ("ji", "yi"),
        ("mo", "ro"),
        ("jw", "jw"),  # Whisper's own
        ("nan-tw", "nan"),
        ("rw", "rw"),
        ("zh-yue", "yue"),  # a macrolanguage and its member
        ("zh_yue_HK", "yue"),
        ("zh-cmn", "zh"),
        ("zh-nan", "nan"),
        ("zh-min-nan", "nan"),
        ("ar-arz", "arz"),
        ("ara_arb", "ar"),
        ("ms-zsm", "ms"),
        ("en-usa", "en"),  # a country, though usa, arg and chn are languages too
        ("spa_arg", "es"),
        ("zh_chn", "zh"),
        ("French", "fr"),
        (" EN ", "en"),
        ("kabuverdianu", "kea"),
        ("rup_bg", "rup"),
        ("kab", "kab"),
    ],
)
def test_codes_and_names(theirs, ours):
    assert normalise_language(theirs) == ours


STANDARD_FORMS = {  # as FLORES-200, 2M-Belebele, SeamlessM4T and MMS write languages that Whisper or FLEURS knows
    "als_Latn": "sq", "arb_Arab": "ar", "azj_Latn": "az", "azj-script_latin": "az", "cmn_Hant": "zh", "ekk": "et",
    "fuc": "ff", "gaz_Latn": "om", "khk_Cyrl": "mn", "lvs_Latn": "lv", "nob_Latn": "no", "npi_Deva": "ne",
    "ory_Orya": "or", "pbt_Arab": "ps", "pbu": "ps", "pes_Arab": "fa", "plt_Latn": "mg", "swh_Latn": "sw",
    "uzn_Latn": "uz", "ydd_Hebr": "yi", "zlm": "ms", "zsm_Latn": "ms",
}  # fmt: skip


@pytest.mark.parametrize(("theirs", "ours"), STANDARD_FORMS.items())
def test_a_language_s_standard_form_is_the_language(theirs, ours):
    assert normalise_language(theirs) == ours


def test_every_standard_form_of_a_known_language_is_that_language():
    from langcodes.data_dicts import NORMALIZED_MACROLANGUAGES

    known = {c: m for c, m in NORMALIZED_MACROLANGUAGES.items() if m in WHISPER_LANGUAGES or m in UNSEEN_LANGUAGES}
    assert len(known) >= 18
    assert {c: normalise_language(c) for c in known} == known


@pytest.mark.parametrize(
    "code",
    # members that corpora list beside the standard form, and those of languages that have no token themselves
    ["arz", "ary", "apc", "acm", "aeb", "azb", "yue", "wuu", "nan", "nn", "hr", "ckb", "kmr", "fuv", "knc", "quy"],
)
def test_other_members_of_a_language_stay_apart(code):
    assert normalise_language(f"{code}_Latn") == code


COMMON_VOICE = (  # locales of release 17 whose code isn't the part before the hyphen, or isn't two letters
    "ast ckb dyu fy-NL ga-IE hsb hy-AM kab kmr mdf mhr mrj myv nan-tw ne-NP nn-NO nso pa-IN rm-sursilv rm-vallader sah "
    "sat skr sv-SE tig vot zgh zh-CN zh-HK zh-TW zza"
)


def test_common_voice_s_locales():
    ours = [normalise_language(locale) for locale in COMMON_VOICE.split()]
    differ = {"zh-HK": "yue"}
    assert ours == [differ.get(locale, locale.partition("-")[0]) for locale in COMMON_VOICE.split()]


@pytest.mark.parametrize("code", WHISPER_LANGUAGES)
def test_whispers_own_codes_stay(code):
    assert normalise_language(code) == code


def test_whispers_list_is_transformers_list():
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    assert LANGUAGES == WHISPER_LANGUAGES


def test_whispers_own_aliases_are_known():
    from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

    assert {name: normalise_language(name.title()) for name in TO_LANGUAGE_CODE} == TO_LANGUAGE_CODE


@pytest.mark.parametrize(
    ("code", "near"),
    [
        ("yue", "zh"),
        ("wuu", "zh"),
        ("arz", "ar"),
        ("ary", "ar"),
        ("gsw", "de"),
        ("min", "ms"),
        ("gd", None),
        ("fr", None),
    ],
)
def test_a_language_is_written_as_its_macrolanguage(code, near):
    assert written_as(code, [c for c in WHISPER_LANGUAGES if c != code]) == near


@pytest.mark.parametrize("code", ["", "zz9", "xx", "klingonish", "e"])
def test_unknown_languages_are_named(code):
    with pytest.raises(UsageError, match="unknown language"):
        normalise_language(code)


def test_the_nearest_are_suggested():
    with pytest.raises(UsageError, match="did you mean french"):
        normalise_language("frensh")


def test_two_codes_of_one_language_count_once():
    assert normalise_languages(["French", "en_us", "fr", "en"]) == ("fr", "en")


def test_names():
    assert language_name("kea") == "Kabuverdianu"
    assert language_name("fra") == "French"
    assert language_name("rw") == "rw"


@pytest.mark.parametrize("code", sorted(UNSPACED_LANGUAGES))
def test_languages_without_spaces_are_the_same_for_error_rates_and_for_training(code, tiny_whisper):
    signature = score_transcripts({}, {"u": "ก"}, language=code).signature
    example = text_example(tiny_whisper, "u", (1,), "ก", code)
    assert signature.startswith("cer|")
    assert tiny_whisper.tokenizer.decode(example.labels[:-1]) == "ก"
