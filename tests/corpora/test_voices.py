"""Corpora whose files are named after what they say, on tiny trees in the real layouts."""

import pytest

import trees
from interlingua.corpora.base import read_corpus
from interlingua.corpora.prompts import prepare_prompts
from interlingua.corpora.voices import gcompris_english
from interlingua.errors import CorpusError, UsageError
from interlingua.types import AudioRef, Utterance
from trees import clip, read


def gcompris(root, folder, names):
    for name in names:
        clip(root / folder / "intro" / f"{name}.ogg")
    return root


def test_gcompris(tmp_path):
    trees.gcompris(tmp_path)
    (tmp_path / "de" / "alphabet").mkdir(parents=True)
    catalan, cents, english = read("gcompris", tmp_path)[0]
    assert catalan == Utterance(
        id="ca/money",
        audio=AudioRef(str(tmp_path / "ca" / "intro" / "money.ogg")),
        language="ca",
        translations={"en": "Click on the money to pay."},
        meaning="money",
        cluster="money",
        speaker="Antoni Bella Pérez",
    )
    assert (cents.meaning, cents.speaker) == ("money", None)  # another file, but the same sentence
    assert (english.text, english.translations, english.meaning) == ("Click on the money to pay.", {}, "money")


def test_gcompris_hyphens_varieties_and_what_has_no_text(tmp_path):
    gcompris(tmp_path, "pt_BR", ["color-mix", "2clic"])
    gcompris(tmp_path, "pt", ["color_mix"])
    found, log = read("gcompris", tmp_path)
    assert {(u.id, u.language, u.meaning) for u in found} == {
        ("pt_BR/color-mix", "pt", "color-mix"),
        ("pt/color_mix", "pt", "color-mix"),
    }
    assert log == ["gcompris pt_BR: skipped 1 (no English text): 2clic"]
    assert [u.id for u in read("gcompris", tmp_path, languages=("pt_BR",))[0]] == ["pt_BR/color-mix"]


def test_gcompris_texts_with_other_near_duplicates_share_a_cluster(tmp_path):
    gcompris(tmp_path, "en", ["algebra_plus", "algebra_by", "maze"])
    clusters = {u.id: u.cluster for u in read("gcompris", tmp_path)[0]}
    assert clusters["en/algebra_plus"] == clusters["en/algebra_by"] != clusters["en/maze"]


def test_gcompris_what_isnt_there(tmp_path):
    with pytest.raises(CorpusError, match=r"GCompris-voices"):
        read("gcompris", tmp_path)


def test_every_english_text_of_gcompris_is_a_sentence():
    texts = gcompris_english()
    assert len(texts) == 136
    assert all(text[0].isupper() and text.endswith((".", "?")) for text in texts.values())


@pytest.mark.model
def test_asterisk_joins_the_prompts_corpus_by_name(tmp_path):
    for name in ("vm-goodbye.gsm", "agent-alreadyon.gsm", "agent-alreadyon.wav", "digits/1.gsm"):
        clip(tmp_path / name)
    found, log = read("asterisk", tmp_path, languages=("de",))
    prompt = next(u for u in prepare_prompts(languages=("en",)) if u.meaning == "agent-alreadyon")
    (one,) = found
    assert one.audio.path.endswith("agent-alreadyon.wav")
    assert (one.language, one.meaning, one.cluster) == ("de", prompt.meaning, prompt.cluster)
    assert one.translations == {"en": prompt.text} | prompt.translations
    assert log[-1] == "asterisk de: skipped 2 (not among the prompts corpus' sentences): digits/1, vm-goodbye"
    assert "es" not in read("asterisk", tmp_path, languages=("es",))[0][0].translations


@pytest.mark.model
def test_asterisk_refuses_what_it_cant_name(tmp_path):
    clip(tmp_path / "other.gsm")
    with pytest.raises(CorpusError, match=r"no prompt of Asterisk's core sounds"):
        list(read_corpus("asterisk", tmp_path, languages=("de",)))
    for languages in (None, ("de", "fr")):
        with pytest.raises(UsageError, match=r"--languages"):
            list(read_corpus("asterisk", tmp_path, languages=languages))
