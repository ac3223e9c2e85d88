"""How far apart languages are, by the table that comes with the package."""

import doctest

import pytest

from interlingua.corpora import distance
from interlingua.corpora.distance import KINDS, language_distance, language_family
from interlingua.corpora.fleurs import LANGUAGES
from interlingua.errors import UsageError
from interlingua.languages import UNSEEN_LANGUAGES, WHISPER_LANGUAGES

MASS = ("eu", "en", "fi", "fr", "hu", "ro", "ru", "es")


def test_the_examples_of_the_docstrings():
    tried = doctest.testmod(distance)
    assert tried.attempted > 2
    assert not tried.failed


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_a_distance_of_every_language_that_we_know(kind):
    codes = list(WHISPER_LANGUAGES | UNSEEN_LANGUAGES)
    for a in codes:
        assert language_distance(a, a, kind) == 0
        for b in ("en", "zu"):
            found = language_distance(a, b, kind)
            assert found == language_distance(b, a, kind)
            if {a, b} & {"eo", "ia"} and kind == "genealogical" and a != b:
                assert found is None
            elif a != b:
                assert 0 < found <= 1


def test_all_languages_of_fleurs_and_mass_have_one():
    assert all(language_distance(code, "en") is not None for code in (*LANGUAGES, *MASS))


def test_kinship_by_hand(monkeypatch):
    """Depths of 3 and 2 below the root, one group shared: 1 - 2 * 1 / (3 + 2)."""
    row = {"code": "fr", "family": ["Family", "Branch"], "features": "a0"}  # 101
    rows = [row, {**row, "code": "de", "family": ["Family"], "features": "c0"}]  # 110
    rows.append({**row, "code": "ja", "family": ["Other"], "features": "40"})  # 010
    text = {"n_features": 3, "languages": rows}
    monkeypatch.setattr(distance.json, "loads", lambda _: text)
    distance._table.cache_clear()
    try:
        assert language_distance("fr", "de", "genealogical") == pytest.approx(0.6)
        assert language_distance("fr", "ja", "genealogical") == 1
        assert language_distance("fr", "de") == pytest.approx(0.5)  # 1 - 1 / (√2 √2)
        assert language_distance("fr", "ja") == 1
        assert language_distance("de", "ja") == pytest.approx(1 - 0.5**0.5)
        assert language_distance("fr", "en") is None
        assert language_family("en") is None
    finally:
        distance._table.cache_clear()


def test_relatives_are_nearer_than_strangers():
    for kind in KINDS:
        assert language_distance("es", "ast", kind) < language_distance("es", "ru", kind)
        assert language_distance("zu", "xh", kind) < language_distance("zu", "en", kind)
    assert language_distance("es", "ja", "genealogical") == 1
    assert language_family("ckb") == language_family("en") == "Indo-European"


def test_an_unknown_language():
    assert language_distance("en", "gv") is None  # a language, but not of Whisper's or FLEURS'
    assert language_family("gv") is None
    with pytest.raises(UsageError, match="elvish"):
        language_distance("en", "elvish")
