"""Frames that are changed before they are compared: quiet ones dropped, layers concatenated."""

import numpy as np
import pytest

from helpers import utterance, write_wav
from interlingua.errors import UsageError
from interlingua.experiments.retrieval import Corpus, concatenate_layers, loud_frames, pooled_any, without_quiet
from interlingua.retrieval.evaluate import Items
from interlingua.retrieval.seqsim import unit_rows
from interlingua.types import SAMPLE_RATE, AudioRef


def corpus(*frames, ids=("en/a", "en/b")):
    ids = ids[: len(frames)]
    items = {"en": Items(list(ids), list(ids), list(ids))}
    return Corpus(items, {"en": list(frames)}, {"en": [1.0] * len(frames)})


def steps(*levels, rate=50.0):
    """A frame at each level of a square wave."""
    wave = np.tile([1.0, -1.0], round(SAMPLE_RATE / rate) // 2)
    return np.concatenate([level * wave for level in levels]).astype(np.float32)


@pytest.mark.parametrize("rate", [50.0, 12.5])
def test_a_frame_is_loud_within_so_many_decibels_of_the_loudest(rate):
    samples = steps(0.5, 0.06, 0.04, 0.0, 0.5, rate=rate)  # -18.4, -21.9 dB and silence
    for heard in (samples, samples[:-1]):  # the last frame needn't be whole
        assert loud_frames(heard, 20, rate).tolist() == [True, True, False, False, True]
    assert loud_frames(np.zeros(len(samples), np.float32), 20, rate).all()  # all alike: nothing is quieter


def test_a_pooled_frame_stays_if_any_of_its_frames_is_loud():
    assert pooled_any(np.array([False, True, False, False, True]), 2).tolist() == [True, False, True]
    assert pooled_any(np.array([False, True, False]), 1).tolist() == [False, True, False]


@pytest.mark.parametrize("pooling", [1, 2])
def test_quiet_frames_are_left_out_by_the_audio_of_each_utterance(tmp_path, pooling):
    a = utterance("en", "a", audio=AudioRef(str(write_wav(tmp_path / "a.wav", steps(0.5, 0.5, 0.0, 0.0, 0.5)))))
    b = utterance("en", "b", audio=AudioRef(str(write_wav(tmp_path / "b.wav", steps(0.0, 0.0, 0.3)))))
    whole = [np.arange(5 * 4).reshape(5, 4).astype(np.float32), np.arange(3 * 4).reshape(3, 4).astype(np.float32)]
    whole = [f[::pooling] for f in whole]
    kept = without_quiet(corpus(*whole), [a, b], 40, 50.0, pooling).frames["en"]
    expected = ([0, 1, 4], [2]) if pooling == 1 else ([0, 2], [1])
    for frames, rows, before in zip(kept, expected, whole, strict=True):
        np.testing.assert_array_equal(frames, before[rows])
    with pytest.raises(UsageError, match="--drop-quiet 0: name decibels"):
        without_quiet(corpus(*whole), [a, b], 0, 50.0)


def test_utterances_without_frames_stay_without(tmp_path):
    a = utterance("en", "a", audio=AudioRef(str(write_wav(tmp_path / "a.wav", steps(0.5)))))
    assert without_quiet(corpus(None), [a], 40, 50.0).frames["en"] == [None]
    assert concatenate_layers([corpus(np.ones((2, 3), np.float32)), corpus(None)]).frames["en"] == [None]


def test_concatenated_layers_count_alike():
    x, y = np.float32([[3, 4], [0, 0]]), np.float32([[0, 0, 50], [1, 0, 0]])
    mixed = concatenate_layers([corpus(x), corpus(y)]).frames["en"][0]
    np.testing.assert_allclose(mixed, np.hstack([unit_rows(x), unit_rows(y)]))
    np.testing.assert_allclose(mixed, [[0.6, 0.8, 0, 0, 1], [0, 0, 1, 0, 0]], atol=1e-6)
    with pytest.raises(UsageError, match="'en/a' has 2, 1 frames; encode alike"):
        concatenate_layers([corpus(x), corpus(y[:1])])
