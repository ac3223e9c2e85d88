"""BLEU, chrF and chrF++ are sacreBLEU's own, joined by id, with intervals over clusters."""

import numpy as np
import pytest
import sacrebleu
from sacrebleu.metrics import BLEU, CHRF

from interlingua.errors import UsageError
from interlingua.metrics import score_translations
from interlingua.metrics import translation as module

TEXTS = {  # target -> (outputs, references)
    "en": (
        ["The line is busy now.", "please, try again later!", "press 5 to hear it", "Goodbye"],
        ["The line is busy.", "Please try again later.", "To hear it, press 5.", "Goodbye."],
    ),
    "zh": (
        ["线路正忙，请稍后再拨。", "您有3条新留言。", "再见", "请按井号键结束"],
        ["线路正忙，请您稍后再拨。", "您有3条留言。", "再见。", "结束时请按井号键。"],
    ),
    "ja": (
        ["回線が混み合っています。", "後でもう一度おかけください。", "さようなら", "番号を入力してください。"],
        ["ただいま回線が混み合っています。", "後ほどおかけください。", "さようなら。", "内線番号を入力してください。"],
    ),
}
METRICS = ("bleu", "chrf", "chrf++")
TOKENIZERS = {"en": "13a", "zh": "zh", "ja": "ja-mecab"}


def by_id(texts) -> dict[str, str]:
    return {f"u{i}": text for i, text in enumerate(texts)}


def public_scorer(metric: str, target: str):
    return {
        "bleu": lambda: BLEU(tokenize=TOKENIZERS[target]),
        "chrf": lambda: CHRF(),
        "chrf++": lambda: CHRF(word_order=2),
    }[metric]()


def public_score(metric: str, target: str, outputs, references) -> float:
    return public_scorer(metric, target).corpus_score(list(outputs), [list(references)]).score


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("target", list(TEXTS))
def test_the_value_is_sacrebleus(target, metric):
    outputs, references = TEXTS[target]
    score = score_translations(by_id(outputs), by_id(references), target=target, metric=metric)
    assert score.value == public_score(metric, target, outputs, references)
    assert 0 < score.value < 100
    assert score.n == 4


def test_each_target_has_a_tokenizer_that_matters():
    for target, tokenizer in TOKENIZERS.items():
        outputs, references = TEXTS[target]
        score = score_translations(by_id(outputs), by_id(references), target=target, metric="bleu")
        assert f"|tok:{tokenizer}" in score.signature
        if target != "en":
            assert score.value != pytest.approx(BLEU(tokenize="13a").corpus_score(outputs, [references]).score)


UNSPACED = {  # two outputs that share most of their letters with the references, and no word between spaces
    "th": ("กรุณากดหมายเลขโทรศัพท์ของท่าน", "กรุณากดหมายเลขโทรศัพท์ของคุณ"),
    "km": ("សូមចុចលេខទូរស័ព្ទរបស់អ្នក", "សូមចុចលេខទូរស័ព្ទរបស់លោក"),
    "lo": ("ກະລຸນາກົດເບີໂທລະສັບຂອງທ່ານ", "ກະລຸນາກົດເບີໂທລະສັບຂອງເຈົ້າ"),
    "my": ("သင့်ဖုန်းနံပါတ်ကိုနှိပ်ပါ", "သင့်ဖုန်းနံပါတ်ကိုရိုက်ပါ"),
    "bo": ("ཁྱེད་ཀྱི་ཁ་པར་ཨང་གྲངས་གནོན", "ཁྱེད་ཀྱི་ཁ་པར་ཨང་གྲངས་བྲིས"),
    "shn": ("ၼႄႉတႃႇၾူၼ်းၵေႃႇ", "ၼႄႉတႃႇၾူၼ်းၸဝ်ႈ"),  # Shan, in Burmese letters
    "yue": ("請按你嘅電話號碼", "請按您嘅電話號碼"),
    "wuu": ("請按儂个電話號碼", "請按侬个電話號碼"),
}


@pytest.mark.parametrize("target", UNSPACED)
def test_bleu_into_a_language_without_spaces_is_no_zero(target):
    output, reference = UNSPACED[target]
    score = score_translations(by_id([output]), by_id([reference]), target=target, metric="bleu")
    assert score.value > 30
    assert f"|tok:{'zh' if target in ('yue', 'wuu') else 'char'}|" in score.signature


def test_a_tokenizer_that_is_not_installed_is_named(monkeypatch):
    def refuse(tokenize):
        raise RuntimeError("several lines of advice")

    monkeypatch.setattr(module, "BLEU", refuse)
    with pytest.raises(UsageError, match=r"BLEU in 'ko' needs ko-mecab: pip install 'sacrebleu\[ko\]'"):
        score_translations({}, {"u": "회선이 통화 중입니다."}, target="ko", metric="bleu")


def test_the_signature_names_version_tokenizer_and_bootstrap():
    outputs, references = TEXTS["en"]
    by_metric = {
        "bleu": ("tok:13a", "case:mixed", "smooth:exp"),
        "chrf": ("nc:6", "nw:0"),
        "chrf++": ("nc:6", "nw:2"),
    }
    for metric, parts in by_metric.items():
        signature = score_translations(by_id(outputs), by_id(references), target="en", metric=metric).signature
        for part in (*parts, f"version:{sacrebleu.__version__}", "bootstrap:clusters:4", "n:1000", "seed:12345"):
            assert part in signature


# ---------------------------------------------------------------- joined by id


def test_a_missing_hypothesis_counts_as_empty():
    references = TEXTS["en"][1]
    whole = score_translations(by_id(references), by_id(references), target="en", metric="bleu")
    hypotheses = by_id(references)
    del hypotheses["u2"]
    for metric in METRICS:
        lacking = score_translations(hypotheses, by_id(references), target="en", metric=metric)
        empty = score_translations({**hypotheses, "u2": ""}, by_id(references), target="en", metric=metric)
        assert lacking == empty
        assert lacking.n == 4
        assert lacking.value < whole.value == pytest.approx(100)


def test_no_hypothesis_at_all_scores_zero():
    score = score_translations({}, by_id(TEXTS["en"][1]), target="en", metric="bleu")
    assert (score.value, score.ci, score.n) == (0, (0, 0), 4)


def test_hypotheses_are_joined_by_id_not_by_position():
    outputs, references = by_id(TEXTS["en"][0]), by_id(TEXTS["en"][1])
    expected = score_translations(outputs, references, target="en", metric="bleu")
    backwards = dict(reversed(outputs.items()))
    assert score_translations(backwards, references, target="en", metric="bleu") == expected
    assert score_translations(outputs, dict(reversed(references.items())), target="en", metric="bleu") == expected
    swapped = {**outputs, "u0": outputs["u1"], "u1": outputs["u0"]}
    assert score_translations(swapped, references, target="en", metric="bleu").value < expected.value


@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        ({"x": "?", "u9": "?", "u0": "!"}, {"u0": "."}, r"2 hypotheses have no reference \(the first is 'u9'\)"),
        ({}, {}, "no references"),
    ],
)
def test_what_cant_be_joined_is_refused(hypotheses, references, message):
    with pytest.raises(UsageError, match=message):
        score_translations(hypotheses, references, target="en", metric="bleu")


# ---------------------------------------------------------------- intervals


def many(n: int, seed: int = 0):
    """n segments of which about half are right; which, is random."""
    rng = np.random.default_rng(seed)
    vocabulary = [f"w{i}" for i in range(50)]
    references = {f"u{i:03}": " ".join(rng.choice(vocabulary, 8)) for i in range(n)}
    hypotheses = {k: v if rng.random() < 0.5 else " ".join(rng.choice(vocabulary, 8)) for k, v in references.items()}
    return hypotheses, references


@pytest.mark.parametrize("metric", METRICS)
def test_the_interval_contains_the_value_and_is_the_same_every_time(metric):
    hypotheses, references = many(60)
    score = score_translations(hypotheses, references, target="en", metric=metric)
    low, high = score.ci
    assert 0 < low < score.value < high < 100
    assert score_translations(hypotheses, references, target="en", metric=metric) == score


def test_segments_that_fail_together_widen_the_interval():
    hypotheses, references = many(20)
    copies = [f"-{c}" for c in "abcde"]
    hypotheses = {k + c: v for k, v in hypotheses.items() for c in copies}
    references = {k + c: v for k, v in references.items() for c in copies}
    clusters = {k: k.split("-")[0] for k in references}
    apart = score_translations(hypotheses, references, target="en", metric="bleu")
    together = score_translations(hypotheses, references, target="en", metric="bleu", clusters=clusters)
    assert together.value == apart.value
    assert together.ci[1] - together.ci[0] > 1.7 * (apart.ci[1] - apart.ci[0])
    assert "bootstrap:clusters:20" in together.signature
    assert "bootstrap:clusters:100" in apart.signature


def test_one_cluster_has_no_width():
    outputs, references = TEXTS["en"]
    clusters = dict.fromkeys(by_id(outputs), "all")
    score = score_translations(by_id(outputs), by_id(references), target="en", metric="chrf", clusters=clusters)
    assert score.ci == pytest.approx((score.value, score.value))


def test_chrf_plus_plus_counts_words_and_chrf_does_not():
    """The same letters in other words: chrF++ falls further."""
    references, hypotheses = {"u": "now here we are"}, {"u": "nowhere we are"}
    chrf, plus = (score_translations(hypotheses, references, target="en", metric=m).value for m in ("chrf", "chrf++"))
    assert plus < chrf - 5
