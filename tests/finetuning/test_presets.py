"""Presets: their figures are the documents', what is given overrides them, and steps are planned by one rule."""

import json
from pathlib import Path

import pytest

from helpers import ROOT
from interlingua.errors import UsageError
from interlingua.finetuning.config import FinetuneConfig
from interlingua.finetuning.presets import MOST_STEPS, PRESETS, heard_in, planned_steps
from interlingua.finetuning.trainer import steps_of
from interlingua.results import Change, Summary
from interlingua.types import Difference


def config(**given):
    return FinetuneConfig("data.jsonl", target="zh", out=Path("out"), **given)


@pytest.mark.parametrize("name", PRESETS)
def test_figures_are_those_of_the_study(name):
    for m in PRESETS[name].measured:
        study = json.loads((ROOT / "docs" / "data" / f"{m.data}.json").read_text(encoding="utf-8"))
        row = next(p for p in study["pareto"] if p["name"] == m.variant and p["target"] == m.target)
        for figures, found in ((m.gained, row["gain"]), (m.english, row["loss"])):
            assert list(figures) == [round(x, 1) for x in (found["value"], *found["ci"])]


def test_the_documents_show_the_table():
    page = (ROOT / "docs" / "finetune.md").read_text(encoding="utf-8")
    for name, preset in PRESETS.items():
        measured = " | ".join(preset.into(target) for target in ("zh", "es", "ru"))
        assert f"| `{name}` | {preset.purpose} | {preset.cost} | {measured} |" in page
    assert PRESETS["keep"].into("ja") == "not measured"


def test_keep_is_the_default_and_what_is_given_overrides_it():
    kept = config()
    assert (kept.method, kept.interpolate, kept.interpolate_cross_attention) == ("keep", 0.7, 1.0)
    assert kept.regularizers == {"distillation": 1.0}
    assert (kept.rehearse, kept.rehearse_as) == (("en",), ("all",))
    other = config(interpolate=1.0, distillation=0.0)
    assert (other.interpolate, other.regularizers, other.learning_rate) == (1.0, {}, kept.learning_rate)
    assert config(source=("fr",)).rehearse == ("fr",)
    assert config(method="plain").regularizers == {}
    assert config(method="lora").trainable == "lora"
    with pytest.raises(UsageError, match=r"^--method kep: no such method; use one of keep, plain"):
        config(method="kep")
    with pytest.raises(UsageError, match="--steps 3 and --epochs 2"):
        config(steps=3, epochs=2)


def test_steps_are_the_method_s_or_one_pass_over_more():
    assert [steps_of(config(), n) for n in (5, 129, 150, 2_000, 290_000)] == [170, 170, 170, 250, 36_250]
    assert steps_of(config(), 10**6) == MOST_STEPS
    assert steps_of(config(steps=7), 290_000) == 7
    assert steps_of(config(epochs=10), 129) == 170
    assert planned_steps("plain", 1) == 85


def test_all_languages_are_those_of_the_data_filled_up_to_five():
    known = frozenset(["de", "en", "es", "fr", "it", "ru", "zh"])
    assert heard_in(("en",), known) == ("en", "es", "fr", "it", "ru")
    assert heard_in(("de", "en", "zh"), known) == ("de", "en", "es", "fr", "zh")
    assert heard_in(("de", "en", "fr", "it", "ru", "zh"), known) == ("de", "en", "fr", "it", "ru", "zh")


@pytest.mark.parametrize(
    ("unit", "value", "ci", "verdict"),
    [
        ("BLEU", 5.0, (1.0, 9.0), "gained 5.0 BLEU"),
        ("BLEU", 0.1, (-1.9, 2.0), "kept"),
        ("BLEU", -1.0, (-1.9, -0.1), "kept"),
        ("BLEU", -3.1, (-5.0, -0.1), "lost 3.1 BLEU"),
        ("BLEU", -1.0, (-3.0, 1.0), "unclear: too few utterances"),
        ("BLEU", 1.0, None, "unclear: too few utterances"),
        ("points of errors", 4.0, (2.5, 6.0), "lost 4.0 points of errors"),
        ("points of errors", -4.0, (-6.0, -2.5), "gained 4.0 points of errors"),
        ("points of errors", 1.0, (0.5, 1.5), "kept"),
    ],
)
def test_a_verdict_is_the_interval_against_nothing_and_two(unit, value, ci, verdict):
    change = Change(difference=Difference(value=value, ci=ci))
    assert Summary(name="x", unit=unit, change=change).verdict == verdict
