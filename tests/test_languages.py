"""Language codes of several corpora, mapped to one."""

import pytest

from interlingua.errors import UsageError
from interlingua.languages import WHISPER_LANGUAGES, language_name, normalise_language, normalise_languages

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
        ("iw", "he"),
        ("nan-tw", "nan"),
        ("rw", "rw"),
        ("French", "fr"),
        (" EN ", "en"),
        ("kabuverdianu", "kea"),
        ("rup_bg", "rup"),
        ("kab", "kab"),
    ],
)
def test_codes_and_names(theirs, ours):
    assert normalise_language(theirs) == ours


@pytest.mark.parametrize("code", WHISPER_LANGUAGES)
def test_whispers_own_codes_stay(code):
    assert normalise_language(code) == code


def test_whispers_list_is_transformers_list():
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    assert LANGUAGES == WHISPER_LANGUAGES


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
