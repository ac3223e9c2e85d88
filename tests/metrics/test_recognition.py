"""Error rates of transcripts and of detected languages, and the proportion of outputs in the wrong language."""

from importlib.metadata import version

import jiwer
import numpy as np
import pytest
from test_statistics import made_up

from helpers import off_target_rate, score_transcripts
from interlingua.errors import UsageError
from interlingua.languages import WHISPER_LANGUAGES
from interlingua.metrics import SystemOutputs, detection_errors, offtarget
from interlingua.metrics.offtarget import main_script
from interlingua.resampling import BOOTSTRAP_SEED, SCORE_DRAWS

# ---------------------------------------------------------------- transcripts


def by_id(*texts: str) -> dict[str, str]:
    return {f"u{i}": text for i, text in enumerate(texts)}


def test_word_errors_by_hand():
    references = by_id("Le chat est noir.", "Il pleut, non ?")  # four and three words
    found = score_transcripts(by_id("le chien est", "Il pleut non"), references, language="fr")
    assert found.value == pytest.approx(100 * 2 / 7)
    assert found.n == 2
    assert found.ci == pytest.approx((0, 50))  # each sentence alone
    for part in ("wer|", "whisper-basic", f"jiwer:{version('jiwer')}", "bootstrap:clusters:2"):
        assert part in found.signature


def test_english_is_normalised_by_whispers_own_rules():
    found = score_transcripts(by_id("i will not press 20 keys"), by_id("I won't press twenty keys!"), language="en")
    assert found.value == 0
    assert "whisper-english:no-spellings" in found.signature
    assert score_transcripts(by_id("20"), by_id("vingt"), language="fr").value == 100


@pytest.mark.parametrize("language", ["zh", "cmn_hans_cn", "yue", "ja"])
def test_characters_are_counted_where_words_are_not_spaced(language):
    found = score_transcripts(by_id("线路 正忙 请稍后再播"), by_id("线路正忙，请稍后再拨。"), language=language)
    assert found.value == pytest.approx(100 / 9)
    assert found.value == pytest.approx(100 * jiwer.cer("线路正忙请稍后再拨", "线路正忙请稍后再播"))
    assert found.signature.startswith("cer|")


def test_rates_are_jiwers_and_draws_are_done_by_hand():
    outputs, references = made_up(12, 0.5)
    outputs = {i: " ".join(o.split()[: 4 + k % 5]) for k, (i, o) in enumerate(outputs.items())}
    clusters = {i: f"c{k % 4}" for k, i in enumerate(sorted(references))}
    found = score_transcripts(outputs, references, language="es", clusters=clusters)
    assert found.value == pytest.approx(100 * jiwer.wer([*references.values()], [outputs[i] for i in references]))
    rates = []
    for row in np.random.default_rng(BOOTSTRAP_SEED).multinomial(4, np.full(4, 1 / 4), SCORE_DRAWS):
        drawn = [i for i in sorted(references) for _ in range(row[int(clusters[i][1])])]
        rates.append(100 * jiwer.wer([references[i] for i in drawn], [outputs[i] for i in drawn]))
    assert found.ci == pytest.approx(tuple(np.percentile(rates, [2.5, 97.5])))


def test_languages_named_wrongly_are_counted_and_none_disappears():
    spoken = {"u1": "fr", "u2": "fr", "u3": "it", "u4": "it"}
    detected = {"u1": "fr", "u2": "es", "u3": "it"}
    found = detection_errors(SystemOutputs(detected, spoken, {"u1": "a", "u2": "a"}, "")).score()
    assert found.value == 50
    assert found.n == 4
    assert found.signature.startswith("language-error|bootstrap:clusters:3|")
    assert detection_errors(SystemOutputs(spoken, spoken, None, "")).score().ci == (0, 0)
    with pytest.raises(UsageError, match="have no reference"):
        detection_errors(SystemOutputs({"x": "fr"}, spoken, None, ""))


def test_missing_transcripts_are_wrong_and_unknown_ones_refused():
    references = by_id("uno dos", "tres")
    assert score_transcripts({}, references, language="es").value == 100
    assert score_transcripts({"u1": "tres"}, references, language="es").value == pytest.approx(100 * 2 / 3)
    assert score_transcripts(by_id("a b c d", "e f g h i"), references, language="es").value == 300
    with pytest.raises(UsageError, match="no reference"):
        score_transcripts({"x": "uno"}, references, language="es")
    with pytest.raises(UsageError, match="u1: the reference '…!' has no words"):
        score_transcripts({}, by_id("uno", "…!"), language="es")


# ---------------------------------------------------------------- off target


def test_the_main_script():
    cases = {
        "Please hold.": "Latn",
        "": None,
        "5, 4!": None,
        "Пожалуйста, нажмите VM": "Cyrl",
        "请按 Asterisk 键": "Hani",
        "Please say 请按 to hear it": "Latn",
        "番号を入力": "Kana",
        "時々": "Hani",
        "회선이 통화 중입니다": "Hang",
        "कृपया प्रतीक्षा करें": "Deva",
    }
    assert {text: main_script(text) for text in cases} == cases


def test_every_language_of_whisper_has_a_script_that_is_known():
    known = set(offtarget._SCRIPTS.values())
    for code in WHISPER_LANGUAGES:
        assert offtarget._scripts_of(code) <= known, code


def test_where_the_script_decides_no_model_is_asked(monkeypatch):
    monkeypatch.setattr(offtarget, "_identifier", None)
    for target, right, wrong in (
        ("zh", "线路正忙。", "回線が混み合っています。"),
        ("ja", "回線が混み合っています。", "The line is busy."),
        ("ko", "회선이 통화 중입니다.", "线路正忙。"),
        ("ru", "Линия занята.", "Linija zanjata."),
        ("ar", "الخط مشغول.", "Линия занята."),
        ("hi", "लाइन व्यस्त है।", "La línea está ocupada."),
        ("el", "Η γραμμή είναι κατειλημμένη.", "the line is busy"),
    ):
        found = off_target_rate(by_id(right, right, wrong), target, references=by_id(right, right, right))
        assert found.value == pytest.approx(1 / 3)


SPANISH = ("Por favor, inténtelo de nuevo más tarde.", "La línea está ocupada en este momento.")


def test_the_share_is_of_all_references():
    references = by_id(*SPANISH, *SPANISH)
    outputs = by_id(SPANISH[0], "The line is busy at the moment.", "")
    found = off_target_rate(outputs, "es", references=references)  # the fourth is missing
    assert (found.value, found.n) == (0.75, 4)
    assert 0 <= found.ci[0] < 0.75 <= found.ci[1] <= 1
    assert "references-off-target:0.000" in found.signature
    assert "script+py3langid:" in found.signature
    together = off_target_rate(outputs, "es", references=references, clusters=dict.fromkeys(references, "all"))
    assert together.ci == (0.75, 0.75)
    with pytest.raises(UsageError, match="no reference"):
        off_target_rate({"x": "?"}, "es", references=references)


def test_sources_are_candidates_too():
    ukrainian = "Будь ласка, спробуйте ще раз пізніше, лінія зайнята."
    references = by_id("Пожалуйста, попробуйте ещё раз позже, линия занята.")
    assert off_target_rate(by_id(ukrainian), "ru", references=references).value == 0  # only the script was asked
    found = off_target_rate(by_id(ukrainian), "ru", references=references, sources=["uk"])
    assert found.value == 1
    assert "candidates:en+es+fr+it+ru+uk+zh" in found.signature


def test_a_target_that_no_identifier_knows_is_refused():
    with pytest.raises(UsageError, match="no identifier tells 'haw' from en, es, fr, it"):
        off_target_rate({}, "haw", references=by_id("E kali iki."))
