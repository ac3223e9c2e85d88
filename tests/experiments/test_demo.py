"""The demo's settings and choices."""

import numpy as np
import pytest

from helpers import utterance
from interlingua.errors import UsageError
from interlingua.experiments.config import DemoConfig
from interlingua.experiments.demo import LogMelEncoder, best_example, translation_subset, with_random_weights


def test_full_fills_in_only_what_was_left_open():
    plain, full = DemoConfig().settled(), DemoConfig(full=True).settled()
    assert (plain.pool, plain.translate, plain.random_languages) == (2, 32, ("en", "fr", "it"))
    assert (full.pool, full.translate, full.random_languages) == (1, "all", full.languages)
    assert str(full.out) == "runs/demo-full"
    mixed = DemoConfig(full=True, pool=4, translate=0, random_languages=("ru", "en")).settled()
    assert (mixed.pool, mixed.translate, mixed.random_languages) == (4, 0, ("en", "ru"))


def test_languages_are_normalised_and_counted_once():
    assert DemoConfig(languages=("French", "en_us", "en")).settled().languages == ("fr", "en")


@pytest.mark.parametrize(
    ("settings", "option"),
    [
        ({"languages": ("en",)}, "--languages"),
        ({"languages": ("en", "English")}, "--languages"),
        ({"pool": 0}, "--pool 0"),
        ({"translate": -1}, "--translate -1"),
    ],
)
def test_settings_out_of_range_are_refused(settings, option):
    with pytest.raises(UsageError, match=option):
        DemoConfig(**settings).settled()


def test_the_translation_subset_is_fixed_and_fits_the_window():
    meanings = [f"m{i}" for i in range(20)]
    utterances = [
        utterance(language, m, duration=31.0 if (m, language) == ("m3", "ru") else 5.0, translations={"en": m})
        for language in ("es", "fr", "ru")
        for m in meanings
    ]
    chosen = translation_subset(utterances, 6)
    assert len({u.meaning for u in chosen}) == 6
    assert len(chosen) == 18
    assert chosen == translation_subset(utterances, 6)
    assert {u.meaning for u in translation_subset(utterances, "all")} == set(meanings) - {"m3"}
    assert {u.meaning for u in chosen} <= {u.meaning for u in translation_subset(utterances, 7)}


def test_the_example_is_a_right_answer_of_readable_length():
    seconds = {"a": 5.0, "b": 1.0, "c": 6.0}
    q = [utterance("en", m, text=m, duration=s) for m, s in seconds.items()]
    c = [utterance("fr", m, text=m, duration=s) for m, s in seconds.items()]
    scores = np.array([[0.5, 0.1, 0.2], [0.1, 0.9, 0.1], [0.1, 0.1, 0.4]], dtype=np.float32)
    assert best_example([*q, *c], scores, ("en", "fr")) == (q[0], c[0])
    assert best_example([*q, *c], scores[:, ::-1].copy(), ("en", "fr")) is None
    assert best_example([*q, *c], np.full((3, 3), np.nan, dtype=np.float32), ("en", "fr")) is None


def test_log_mel_frames_have_no_mean_and_20_ms_each(tiny_whisper):
    samples = np.random.default_rng(0).normal(0, 0.1, 16_123).astype(np.float32)
    encoder = LogMelEncoder(tiny_whisper)
    ((frames, n_speech),) = encoder.encode([samples])
    assert frames.shape == (51, 80) == (n_speech, encoder.dim)
    np.testing.assert_allclose(frames.mean(axis=0), 0, atol=1e-5)


def test_random_weights_differ_from_the_model_and_are_the_same_every_time(tiny_whisper):
    def first(whisper):
        return whisper.model.model.encoder.conv1.weight.detach().numpy()

    a, b = with_random_weights(tiny_whisper), with_random_weights(tiny_whisper)
    np.testing.assert_array_equal(first(a), first(b))
    assert not np.array_equal(first(a), first(tiny_whisper))
    assert a.revision != tiny_whisper.revision
