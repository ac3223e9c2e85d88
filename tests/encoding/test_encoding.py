"""Encoding: contexts, batching, pooling, resuming, and equality with transformers' own encoder."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import sweep, utterance, write_wav
from interlingua.encoding import Context, WhisperEncoder, encode_manifest, pool_frames
from interlingua.encoding import pipeline as encode
from interlingua.errors import StoreMismatchError, TooLongAudioError, UsageError
from interlingua.models.whisper import FRAME_SAMPLES, WINDOW_FRAMES
from interlingua.types import SAMPLE_RATE, AudioRef


def speech(seconds: float, seed: int = 0) -> np.ndarray:
    return sweep(seconds, pitch=220.0, seed=seed)


def huggingface_states(whisper, samples):
    """transformers' own way: the full 30 s window through its own forward."""
    features = whisper.feature_extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
    with torch.inference_mode():
        return whisper.model.model.encoder(features).last_hidden_state[0].numpy()


def test_full_context_equals_transformers_forward(tiny_whisper):
    samples = speech(1.3)
    (frames, n_speech), *_ = WhisperEncoder(tiny_whisper, context="full").encode([samples])
    assert frames.shape == (WINDOW_FRAMES, tiny_whisper.dim)
    assert n_speech == 65
    np.testing.assert_allclose(frames, huggingface_states(tiny_whisper, samples), atol=1e-5)


def test_every_layer_equals_transformers_hidden_states(tiny_whisper):
    samples = speech(0.7)
    features = tiny_whisper.feature_extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
    with torch.inference_mode():
        hidden = tiny_whisper.model.model.encoder(features, output_hidden_states=True).hidden_states
    for layer in range(1, tiny_whisper.n_layers + 1):
        encoder = WhisperEncoder(tiny_whisper, context="full", layer=layer)
        assert encoder.spec.layer == layer
        ((frames, _),) = encoder.encode([samples])
        np.testing.assert_allclose(frames, hidden[layer][0].numpy(), atol=1e-5)


@pytest.mark.parametrize("context", ["speech", "speech+3", "full"])
def test_a_batch_gives_what_each_utterance_gives_alone(tiny_whisper, context):
    batch = [speech(s, seed) for seed, s in enumerate((0.31, 2.0, 1.01, 0.5))]
    encoder = WhisperEncoder(tiny_whisper, context=context)
    together = encoder.encode(batch)
    for samples, (frames, n_speech) in zip(batch, together, strict=True):
        ((alone, n_alone),) = encoder.encode([samples])
        assert n_speech == n_alone
        np.testing.assert_allclose(frames, alone, atol=2e-5)


def test_padding_would_matter_without_the_mask(tiny_whisper):
    """Guards the test above: the encoder does see what stands behind an utterance."""
    samples = speech(0.5)
    ((alone, _),) = WhisperEncoder(tiny_whisper, context="speech").encode([samples])
    ((padded, _),) = WhisperEncoder(tiny_whisper, context="speech+3").encode([samples])
    assert np.abs(padded[: len(alone)] - alone).max() > 1e-3


def test_batches_respect_the_budget_and_miss_nobody(tiny_whisper):
    encoder = WhisperEncoder(tiny_whisper, max_batch_frames=100)
    lengths = [10, 90, 40, 40, 300, 5]
    groups = list(encoder._batches(lengths))
    assert sorted(i for g in groups for i in g) == list(range(len(lengths)))
    assert all(len(g) == 1 or max(lengths[i] for i in g) * len(g) <= 100 for g in groups)


@pytest.mark.parametrize(
    ("context", "n_speech", "total"),
    [("speech", 70, 70), ("full", 70, 1500), ("speech+8", 70, 500), ("speech+8", 100, 500), ("speech+8", 1490, 1500)],
)
def test_context_sizes(context, n_speech, total):
    assert Context.parse(context).total_frames(n_speech) == total
    assert str(Context.parse(context)) == context


@pytest.mark.parametrize("text", ["", "Speech", "speech+", "speech+0", "speech+30", "speech+1.5", "30s"])
def test_unknown_context_is_refused(text):
    with pytest.raises(UsageError, match="--context"):
        Context.parse(text)


def test_layer_out_of_range_is_refused(tiny_whisper):
    with pytest.raises(UsageError, match="encoder layers 1 to 2"):
        WhisperEncoder(tiny_whisper, layer=3)


def test_speech_beyond_the_window_is_encoded_window_by_window(tiny_whisper):
    samples = speech(31.0)
    ((frames, n_speech),) = WhisperEncoder(tiny_whisper, context="speech").encode([samples])
    assert n_speech == len(frames) == 1550
    first = samples[: WINDOW_FRAMES * FRAME_SAMPLES]
    ((head, _),) = WhisperEncoder(tiny_whisper, context="speech").encode([first])
    np.testing.assert_allclose(frames[:WINDOW_FRAMES], head, atol=2e-5)


@pytest.mark.parametrize("context", ["full", "speech+2"])
def test_speech_beyond_the_window_is_refused_where_it_would_be_decoded(tiny_whisper, context):
    with pytest.raises(TooLongAudioError, match=r"31\.0 s"):
        WhisperEncoder(tiny_whisper, context=context).encode([speech(31.0)])


@given(st.integers(1, 40), st.integers(1, 12))
def test_pooling_equals_a_plain_loop(n, k):
    frames = np.random.default_rng(n).normal(size=(n, 3)).astype(np.float32)
    expected = [frames[i : i + k].mean(axis=0) for i in range(0, n, k)]
    np.testing.assert_allclose(pool_frames(frames, k), expected, atol=1e-6)


class Counting(WhisperEncoder):
    """Counts the recordings that were encoded."""

    seen = 0

    def encode(self, batch):
        self.seen += len(batch)
        return super().encode(batch)


@pytest.fixture
def recordings(tmp_path):
    return [
        utterance("en", str(i), audio=AudioRef(str(write_wav(tmp_path / f"{i}.wav", speech(0.2 + 0.1 * i, i)))))
        for i in range(5)
    ]


def test_encoding_twice_does_no_work(tiny_whisper, recordings, tmp_path):
    encoder = Counting(tiny_whisper)
    _, first = encode_manifest(recordings, encoder, tmp_path / "s.lance")
    store, second = encode_manifest(recordings, encoder, tmp_path / "s.lance")
    assert (first.encoded, first.present, encoder.seen) == (5, 0, 5)
    assert (second.encoded, second.present, len(store)) == (0, 5, 5)


def test_a_killed_run_continues_where_it_was(tiny_whisper, recordings, tmp_path, monkeypatch):
    monkeypatch.setattr(encode, "CHUNK_UTTERANCES", 2)

    class Dying(Counting):
        def encode(self, batch):
            if self.seen >= 4:
                raise KeyboardInterrupt
            return super().encode(batch)

    with pytest.raises(KeyboardInterrupt):
        encode_manifest(recordings, Dying(tiny_whisper), tmp_path / "s.lance")
    encoder = Counting(tiny_whisper)
    store, report = encode_manifest(recordings, encoder, tmp_path / "s.lance")
    assert (report.present, report.encoded, encoder.seen) == (4, 1, 1)
    whole, _ = encode_manifest(recordings, Counting(tiny_whisper), tmp_path / "whole.lance")
    for a, b in zip(store.read([u.id for u in recordings]), whole.read([u.id for u in recordings]), strict=True):
        np.testing.assert_allclose(a.values, b.values, atol=2e-3)


def test_changed_audio_is_encoded_anew(tiny_whisper, recordings, tmp_path):
    encode_manifest(recordings, Counting(tiny_whisper), tmp_path / "s.lance")
    from pathlib import Path

    write_wav(Path(recordings[2].audio.path), speech(1.0, seed=9))
    encoder = Counting(tiny_whisper)
    store, report = encode_manifest(recordings, encoder, tmp_path / "s.lance")
    assert (report.encoded, encoder.seen, len(store)) == (1, 1, 5)
    assert store.read([recordings[2].id])[0].n_speech == 50


def test_broken_recordings_are_reported_and_the_others_kept(tiny_whisper, recordings, tmp_path):
    (tmp_path / "noise.wav").write_text("not audio")
    broken = utterance("en", "broken", audio=AudioRef(str(tmp_path / "noise.wav")))
    absent = utterance("en", "absent", audio=AudioRef(str(tmp_path / "absent.wav")))
    long = utterance("en", "long", audio=AudioRef(str(write_wav(tmp_path / "long.wav", speech(30.5)))))
    encoder = WhisperEncoder(tiny_whisper, context="full")
    store, report = encode_manifest([broken, *recordings[:2], long, absent], encoder, tmp_path / "s.lance")
    assert set(report.failed) == {broken.id, absent.id, long.id}
    assert sorted(store.ids()) == sorted(u.id for u in recordings[:2])


def test_a_pooled_store_keeps_the_speech_only(tiny_whisper, recordings, tmp_path):
    store, _ = encode_manifest(
        recordings, WhisperEncoder(tiny_whisper, context="full"), tmp_path / "s.lance", pooling=4, dtype="float32"
    )
    raw, _ = encode_manifest(
        recordings, WhisperEncoder(tiny_whisper, context="full"), tmp_path / "raw.lance", dtype="float32"
    )
    for u in recordings:
        (pooled,), (whole,) = store.read([u.id]), raw.read([u.id])
        assert pooled.n_speech == len(pooled.values) == -(-whole.n_speech // 4)
        np.testing.assert_allclose(pooled.values, pool_frames(whole.speech, 4), atol=1e-6)


def test_another_kind_of_frames_is_refused(tiny_whisper, recordings, tmp_path):
    encode_manifest(recordings[:1], WhisperEncoder(tiny_whisper), tmp_path / "s.lance")
    with pytest.raises(StoreMismatchError, match="context 'speech'"):
        encode_manifest(recordings, WhisperEncoder(tiny_whisper, context="full"), tmp_path / "s.lance")
    with pytest.raises(UsageError, match="--pool 0"):
        encode_manifest(recordings, WhisperEncoder(tiny_whisper), tmp_path / "t.lance", pooling=0)


@pytest.mark.model
def test_real_speech_full_context_equals_transformers_forward(base_whisper, prompts_manifest):
    from interlingua.audio import load_audio

    for u in [u for u in prompts_manifest if u.id == "it/conf-invalid"]:
        samples = load_audio(u.audio)
        ((frames, _),) = WhisperEncoder(base_whisper, context="full").encode([samples])
        expected = huggingface_states(base_whisper, samples)
        assert np.abs(frames - expected).max() < 1e-3 * np.abs(expected).max()


@pytest.mark.model
def test_real_speech_batched_equals_alone_in_speech_context(base_whisper, prompts_manifest):
    from interlingua.audio import load_audio

    batch = [load_audio(u.audio) for u in prompts_manifest[:4]]
    encoder = WhisperEncoder(base_whisper)
    for samples, (frames, _) in zip(batch, encoder.encode(batch), strict=True):
        ((alone, _),) = encoder.encode([samples])
        assert np.abs(frames - alone).max() < 1e-3 * np.abs(alone).max()


def test_an_utterance_that_fails_now_loses_the_frames_that_it_had(tiny_whisper, recordings, tmp_path):
    from pathlib import Path

    encode_manifest(recordings, WhisperEncoder(tiny_whisper), tmp_path / "s.lance")
    Path(recordings[1].audio.path).unlink()
    store, report = encode_manifest(recordings, WhisperEncoder(tiny_whisper), tmp_path / "s.lance")
    assert set(report.failed) == {recordings[1].id}
    assert recordings[1].id not in store
    assert len(store) == 4


def test_frames_that_overflow_are_a_failure(tiny_whisper, recordings, tmp_path):
    class Overflowing(WhisperEncoder):
        def encode(self, batch):
            return [(frames * 1e9, n) for frames, n in super().encode(batch)]

    with np.errstate(over="ignore"):
        store, report = encode_manifest(recordings, Overflowing(tiny_whisper), tmp_path / "s.lance")
    assert len(report.failed) == 5
    assert len(store) == 0
    assert "--compute float32" in next(iter(report.failed.values()))


def test_the_compute_type_is_part_of_what_a_store_holds(tiny_whisper_folder, recordings, tmp_path):
    from interlingua.models import load_whisper

    encode_manifest(recordings, WhisperEncoder(load_whisper(tiny_whisper_folder)), tmp_path / "s.lance")
    halved = WhisperEncoder(load_whisper(tiny_whisper_folder, dtype="bfloat16"))
    with pytest.raises(StoreMismatchError, match="compute 'float32', not 'bfloat16'"):
        encode_manifest(recordings, halved, tmp_path / "s.lance")
