"""The benchmark of documents: its talks are what they are said to be, and its judge counts right."""

import importlib.util
import sys

import numpy as np
import pytest

from helpers import ROOT, sweep, utterance, write_wav
from interlingua.types import SAMPLE_RATE, AudioRef


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        spec = importlib.util.spec_from_file_location("bench_documents", ROOT / "benchmarks" / "documents.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules["bench_documents"] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    return module


def test_a_spliced_talk_holds_its_sentences_where_it_says(bench, tmp_path):
    chosen = []
    for k in range(30):
        sentence = {}
        for n, language in enumerate(("en", "fr")):
            path = write_wav(tmp_path / language / f"{k}.wav", sweep(1 + 0.1 * n, pitch=300 + 10 * k))
            sentence[language] = utterance(language, str(k), audio=AudioRef(str(path)))
        chosen.append(sentence)
    recordings, truth = bench.splice(chosen, ("en", "fr"), seed=1)
    both = truth.sides[0].keys() & truth.sides[1].keys()
    assert sorted(k for g in truth.groups for k in g) == sorted(both)
    assert truth.sides[0].keys() | truth.sides[1].keys() == set(range(30))
    assert 0 < len(both) < 30
    assert {len(g) for g in truth.groups} == {1, 2}
    for samples, side in zip(recordings, truth.sides, strict=True):
        spoken = np.zeros(len(samples), bool)
        for start, end in side.values():
            spoken[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)] = True
        assert np.abs(samples[spoken]).mean() > 10 * np.abs(samples[~spoken]).mean()


def test_the_judge_counts(bench):
    a = {0: (0.0, 2.0), 1: (3.0, 5.0), 2: (6.0, 8.0)}
    b = {0: (0.0, 2.0), 1: (3.0, 4.5), 3: (5.5, 7.0)}
    truth = bench.Truth((a, b), [[0], [1]])
    exact = [(0.0, 2.0, 0.0, 2.0), (3.0, 5.0, 3.0, 4.5)]
    assert bench.judge(truth, exact).tolist() == [2, 2, 2, 2, 8, 8, 8, 8]
    assert bench.judge(truth, []).tolist() == [0, 0, 0, 2, 0, 0, 0, 8]
    assert bench.judge(truth, [(0.0, 5.0, 0.0, 4.5)]).tolist()[:4] == [1, 1, 2, 2]  # both sentences at once
    assert bench.judge(truth, [(0.0, 2.0, 3.0, 4.5)]).tolist()[:4] == [0, 1, 0, 2]
    assert bench.judge(truth, [(6.0, 8.0, 5.0, 7.0)]).tolist()[:4] == [0, 1, 0, 2]  # one in A alone, one in B alone
    off = bench.judge(truth, [(0.4, 2.0, 0.0, 3.4)])  # half a second is near enough to count
    assert off.tolist()[4:6] == [4, 4]
    assert bench.judge(truth, [(0.9, 2.0, 0.0, 2.0)]).tolist()[4:] == [3, 4, 3, 8]
