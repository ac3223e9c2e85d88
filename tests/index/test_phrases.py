"""Translation by retrieval: which phrase answers, when it is sure, and what is refused."""

import json
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from test_index import DIM, SPEC, frames, made

from interlingua.cli import run
from interlingua.encoding.store import FrameStore
from interlingua.errors import StoreError, StoreMismatchError, UsageError
from interlingua.index import Index, Phrases, build, phrases
from interlingua.index.phrases import DEFAULT_MARGIN, Answer, least_margin
from interlingua.translation import Translator
from interlingua.types import Frames


def phrase(language: str, meaning: int) -> Frames:
    """As `frames`, but foreign phrases have no transcript of their own, and an English translation."""
    found = frames(language, meaning)
    if language == "en":
        return found
    u = msgspec.structs.replace(found.utterance, text=None, translations={"en": f"Text  {meaning}"})
    return replace(found, utterance=u)


@pytest.fixture
def index(tmp_path, monkeypatch):
    """English and French phrases of 30 meanings; a recording holds the number of its meaning."""
    monkeypatch.setattr(Index, "encode", lambda self, audio: [query(int(a[0])) for a in audio])
    return made(f"{tmp_path}/phrases", [phrase(language, m) for language in ("en", "fr") for m in range(30)])


def query(meaning: int) -> Frames:
    values = phrase("ru", meaning).values
    return Frames("query", values, len(values))


def spoken(meaning: int) -> np.ndarray:
    return np.full(10, meaning, np.float32)


def text_scores(hits) -> list[tuple[float, str]]:
    """Slow and obvious: every text's mean over languages of its best phrase in each, best first."""
    best: dict[str, dict[str, float]] = {}
    for hit in hits:
        language, meaning = hit.utterance.id.split("/")
        scores = best.setdefault(meaning, {})
        scores[language] = max(scores.get(language, -9.0), hit.score)
    return sorted(((sum(s.values()) / len(s), meaning) for meaning, s in best.items()), reverse=True)


def test_the_nearest_text_answers(index):
    book = Phrases(index, ["en"], margin=-9)
    for meaning, answer in enumerate(book.answers([spoken(m) for m in range(30)], ["ru"] * 30)):
        text, found = answer["en"]
        hits = index.search(query(meaning), 60, language="ru", exhaustive=True)
        (score, own), (next_score, _), *_ = text_scores(hits)
        assert found.score == pytest.approx(score, abs=1e-3)
        assert found.margin == pytest.approx(score - next_score, abs=1e-3)
        assert found.id == next(h.utterance.id for h in hits if h.utterance.id.endswith(f"/{own}"))
        assert " ".join(text.lower().split()) == f"text {own}"


def test_a_large_index_is_searched_and_not_scored_whole(index, monkeypatch):
    whole = Phrases(index, ["en"], margin=-9).answers([spoken(3), spoken(8)], ["ru", "ru"])
    monkeypatch.setattr(phrases, "candidates", lambda n: n - 1)
    searched = Phrases(index, ["en"], margin=-9).answers([spoken(3), spoken(8)], ["ru", "ru"])
    for one, other in zip(whole, searched, strict=True):
        assert one["en"][1].id == other["en"][1].id
        assert one["en"][1].margin == pytest.approx(other["en"][1].margin, abs=1e-3)


def test_only_sure_matches_answer(index):
    sure, queries = Phrases(index, ["en"]), [spoken(m) for m in range(30)]
    margin = sure.margin("en")
    every = Phrases(index, ["en"], margin=-9).answers(queries, ["ru"] * 30)
    found = sure.answers(queries, ["ru"] * 30)
    assert [bool(a) for a in found] == [a["en"][1].margin >= margin for a in every]
    assert Phrases(index, ["en"], margin=9).answers(queries[:2], ["ru"] * 2) == [{}, {}]
    assert sure.answers([], []) == []


def test_the_calibration_asks_as_if_a_language_were_unknown(index):
    """Every phrase asks twice: among the other language's, and among those of them with another text."""
    found = Phrases(index, ["en"]).calibration("en")
    assert len(found) == 2 * 60
    assert not any(a.right for a in found[1::2])
    assert sum(a.right for a in found[::2]) > 40


def test_a_language_in_the_index_has_a_margin_of_its_own(index):
    """Its own statistics serve it; speech without texts is enough for that, and answers nothing."""
    book = Phrases(index, ["en"])
    assert book.knows("fr")
    assert not book.knows("ru")
    assert book.margin("en", "ru") == least_margin(book.calibration("en"))
    assert book.margin("en", "fr") == least_margin(book.calibration("en", known=True))
    index.store.write([unlabelled(m) for m in range(30)])
    index.refresh()
    book = Phrases(Index.open(index.uri), ["en"], margin=-9)
    assert book.knows("ru")
    answers = [a["en"] for a in book.answers([spoken(m) for m in range(30)], ["ru"] * 30)]
    assert not any(found.id.startswith("ru") for _, found in answers)
    assert sum(" ".join(text.lower().split()) == f"text {m}" for m, (text, _) in enumerate(answers)) > 20


def test_speech_without_texts_crowds_nothing_out_of_a_search(index, monkeypatch):
    index.store.write([unlabelled(m) for m in range(30)])
    index.refresh()
    whole = Phrases(Index.open(index.uri), ["en"], margin=-9).answers([spoken(3)], ["ru"])
    monkeypatch.setattr(phrases, "candidates", lambda n: n - 1)
    monkeypatch.setattr(phrases, "HITS", 1)
    assert (
        Phrases(Index.open(index.uri), ["en"], margin=-9).answers([spoken(3)], ["ru"])[0]["en"][0] == whole[0]["en"][0]
    )


def unlabelled(meaning: int) -> Frames:
    """Russian without a text."""
    found = phrase("ru", meaning)
    return replace(found, utterance=msgspec.structs.replace(found.utterance, text=None, meaning=None, translations={}))


def test_the_least_margin_that_is_sure():
    assert least_margin([Answer(0.5, True)] * 9) == DEFAULT_MARGIN  # too few to tell
    right, wrong = [Answer(1 - n / 100, True) for n in range(50)], [Answer(0.4 - n / 100, False) for n in range(20)]
    assert least_margin(right + wrong) == pytest.approx(0.4 - 4 / 100)  # 50 of 55
    assert least_margin(wrong) == float("inf")


def test_texts_by_transcript_translation_or_meaning(tmp_path, index):
    """A phrase without a text in the target has that of another phrase of its meaning."""
    store = FrameStore.open_or_create(f"{tmp_path}/other/frames.lance", SPEC, DIM)
    for language in ("en", "fr"):
        found = phrase(language, 3)
        u = msgspec.structs.replace(found.utterance, translations={}, meaning="three")
        store.write([replace(found, utterance=u)])
    other = Index.of(f"{tmp_path}/other", store)
    other.refresh()
    ((text, found),) = [a["en"] for a in Phrases(other, ["en"], margin=0).answers([spoken(3)], ["fr"])]
    assert (text, found.margin) == ("text 3", 0.0)  # nothing else to stand above
    assert found.id in ("en/3", "fr/3")


def test_what_is_refused(index, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"no phrase has a text in es \(texts are in: en\)"):
        Phrases(index, ["en", "es"])
    index.store.write([phrase("ru", 1)])  # as if a build had been killed before its end
    with pytest.raises(StoreError, match=r"phrases: wasn't completed; run its `interlingua index build` again"):
        Phrases.open(index.uri, ["en"])
    with pytest.raises(StoreError, match="no index here"):
        Phrases.open(f"{tmp_path}/none", ["en"])


@pytest.fixture
def speech(tiny_whisper_folder, wav_manifest, tmp_path):
    """An index of the tiny model's frames of nine recordings, with English texts."""
    arguments = ["index", "build", str(wav_manifest), "--out", f"{tmp_path}/idx", "--model", str(tiny_whisper_folder)]
    assert run(arguments) == 0
    return f"{tmp_path}/idx"


def test_the_command(speech, tiny_whisper_folder, wav_manifest, tmp_path, capsys, monkeypatch):
    """The tiny model writes gibberish that is flagged; the recording itself is among the phrases."""
    recording = str(wav_manifest.parent / "audio" / "fr" / "two.wav")
    arguments = ["translate", recording, "--model", str(tiny_whisper_folder), "--no-vad", "--from", "gd", "--as", "cy"]
    capsys.readouterr()
    assert run([*arguments, "--phrases", speech, "--phrase-margin", "-1", "--json"]) == 0
    out, err = capsys.readouterr()
    (segment,) = json.loads(out)["segments"]
    assert json.loads(out)["text"] == segment["text"] == "number two"
    assert segment["phrase"].keys() == {"id", "score", "margin", "decoded"}
    assert segment["phrase"]["id"] == "fr/two"
    assert "1 segments are phrases of" in err
    assert f"{speech} finds more with 20 recordings of gd in it, texts aren't needed" in err
    assert run([*arguments, "--phrases", speech, "--phrase-margin", "-1"]) == 0
    assert capsys.readouterr().out.startswith("number two [phrase fr/two, score ")
    for spoken, hint in (("gla", f"`interlingua index add {speech} FOLDER --language gd`"), ("auto", None)):
        heard = ["translate", recording, "--model", str(tiny_whisper_folder), "--no-vad", "--from", spoken]
        heard += ["--backend", "transformers"]  # CTranslate2 detects no language with so few tokens
        assert run([*heard, "--phrases", speech, "--phrase-margin", "-1"]) == 0
        err = capsys.readouterr().err
        assert hint in err if hint else "index add" not in err
    monkeypatch.setattr(phrases, "least_margin", lambda answers: float("inf"))
    assert run([*arguments, "--phrases", speech]) == 0
    err = capsys.readouterr().err
    assert "(least margin: none)" in err
    assert "into en no phrase counts as sure" in err
    assert run([*arguments, "--phrases", speech, "--phrase-margin", "9", "--json"]) == 0
    assert "phrase" not in capsys.readouterr().out
    for wrong, message in [
        (["--phrase-margin", "1"], "name an index"),
        (["--phrases", speech, "--no-guards"], "--no-guards"),
        (["--phrases", speech, "--to", "ca"], "no phrase has a text in ca"),
        (["--phrases", str(tmp_path / "none")], "no index here"),
    ]:
        assert run([*arguments, *wrong]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line


def test_outputs_of_other_phrases_are_not_mixed(speech, tiny_whisper_folder, wav_manifest, tmp_path, capsys):
    recording = str(wav_manifest.parent / "audio" / "fr" / "two.wav")
    arguments = ["translate", recording, "--model", str(tiny_whisper_folder), "--no-vad", "--from", "fr"]
    arguments += ["--out", str(tmp_path / "out.jsonl")]
    assert run([*arguments, "--phrases", speech]) == 0
    capsys.readouterr()
    assert run([*arguments, "--phrases", speech]) == 0
    assert "1 of 1 recordings were done before" in capsys.readouterr().err
    for other in ([], ["--phrases", speech, "--phrase-margin", "0.5"]):
        assert run([*arguments, *other]) == 2
        assert "begun with" in capsys.readouterr().err


def test_an_encoder_that_made_other_frames_is_refused(speech, monkeypatch):
    index = Index.open(speech)
    monkeypatch.setattr(index.store, "spec", replace(index.store.spec, revision="another"))
    with pytest.raises(StoreMismatchError, match="revision"):
        Phrases(index, ["en"])


@pytest.mark.model
def test_real_speech_that_decoding_does_not_reach(prompts_manifest, tmp_path):
    """Italian, as if Whisper had no token for it, against English and Spanish phrases."""
    meanings = [u.meaning for u in prompts_manifest if u.language == "en" and 40 < len(u.text) < 70][:20]
    chosen = [u for u in prompts_manifest if u.meaning in meanings]
    index, _ = build([u for u in chosen if u.language in ("en", "es")], tmp_path / "phrases")
    italian = [u for u in chosen if u.language == "it"][4:8]
    translator = Translator("base", phrases=Phrases(index, ["en"], margin=DEFAULT_MARGIN))
    found = list(translator.translate_all([(u.id, u.audio) for u in italian], source="gd", spoken_as="cy"))
    answered = {t.id: t for t in found if t.segments[0].phrase}
    right = [u.id for u in italian if u.id in answered and answered[u.id].text == u.translations["en"]]
    assert len(right) >= 2
    assert len(right) == len(answered)
    known = translator.translate_all([(u.id, u.audio) for u in italian], source="it")
    assert not any(s.phrase for t in known for s in t.segments if not s.flags)  # the decoder is sure


def test_queries_of_a_calibration_are_bounded(index, monkeypatch):
    monkeypatch.setattr(phrases, "QUERIES", 7)
    assert len(Phrases(index, ["en"]).calibration("en")) == 14
    assert least_margin(Phrases(index, ["en"]).calibration("en")[:9]) == DEFAULT_MARGIN
