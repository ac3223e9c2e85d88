"""Intervals resample what belongs together, and a signature names the draws that were made."""

import re

import numpy as np
import pytest

from helpers import compare_translations, off_target_rate, score_transcripts
from interlingua.metrics import SystemOutputs, detection_errors, score_translations
from interlingua.resampling import BOOTSTRAP_SEED, RETRIEVAL_DRAWS, SCORE_DRAWS, cluster_draws
from interlingua.retrieval.evaluate import Items, evaluate_scores

REFERENCES = {f"u{i}": f"the line number {i} is busy" for i in range(6)}
OUTPUTS = {i: text.replace("line", "la ligne") for i, text in REFERENCES.items()}
ITEMS = Items([*REFERENCES], [*REFERENCES])
SIGNATURES = {
    "retrieval": lambda: evaluate_scores(np.eye(6, dtype=np.float32), ITEMS, ITEMS).signature,
    "BLEU": lambda: score_translations(OUTPUTS, REFERENCES, target="en", metric="bleu").signature,
    "WER": lambda: score_transcripts(OUTPUTS, REFERENCES, language="en").signature,
    "off target": lambda: off_target_rate(OUTPUTS, "en", references=REFERENCES).signature,
    "language error": lambda: detection_errors(SystemOutputs({"u": "fr"}, {"u": "en"}, None, "")).score().signature,
    "difference": lambda: compare_translations(OUTPUTS, REFERENCES, REFERENCES, target="en", metric="chrf").signature,
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_signature_names_the_draws_and_the_seed_that_were_used(name, monkeypatch):
    drawn, percentile = [], np.percentile
    monkeypatch.setattr(
        np, "percentile", lambda values, bounds: drawn.append(len(values)) or percentile(values, bounds)
    )
    found = re.search(r"\|n:(\d+)\|seed:(\d+)", SIGNATURES[name]())
    assert [int(n) for n in found.groups()] == [drawn[0], BOOTSTRAP_SEED]
    assert set(drawn) == {RETRIEVAL_DRAWS if name == "retrieval" else SCORE_DRAWS}


def test_a_draw_takes_as_many_clusters_as_there_are():
    drawn = cluster_draws(7, 50)
    assert drawn.shape == (50, 7)
    assert (drawn.sum(axis=1) == 7).all()
