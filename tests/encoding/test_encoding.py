"""Encoding: contexts, batching, pooling, resuming, and equality with transformers' own encoder."""

import tarfile
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import sweep, utterance, write_wav
from interlingua.audio import Recording, audio_hash, decode, load_audio
from interlingua.audio.archives import read_member
from interlingua.encoding import Context, FrameStore, WhisperEncoder, encode_manifest, pool_frames
from interlingua.encoding import pipeline as encode
from interlingua.encoding.encoder import by_length
from interlingua.encoding.store import line_of
from interlingua.errors import AudioError, StoreMismatchError, TooLongAudioError, UsageError
from interlingua.models.whisper import FRAME_SAMPLES, WINDOW_FRAMES
from interlingua.types import SAMPLE_RATE, AudioRef, Frames


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


def test_batches_respect_the_budget_and_miss_nobody():
    lengths = [10, 90, 40, 40, 300, 5]
    groups = list(by_length(lengths, 100))
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


def reference_store(utterances, encoder, path, chunk, pooling, dtype):
    """What `encode_manifest` does to an empty store, one by one: hash, then load, then encode chunk by chunk."""
    spec = replace(encoder.spec, pooling=pooling, dtype=dtype)
    store = FrameStore.create(path, spec, encoder.dim)
    readable = [u for u in utterances if Path(u.audio.path).exists()]
    for start in range(0, len(readable), chunk):
        loaded = []
        for u in readable[start : start + chunk]:
            with suppress(AudioError):
                loaded.append((u, audio_hash(u.audio), load_audio(u.audio)))
        frames = []
        for (u, digest, _), (values, n) in zip(loaded, encoder.encode([a for *_, a in loaded]), strict=True):
            values = pool_frames(values[:n], pooling) if pooling > 1 else values
            n = len(values) if pooling > 1 else n
            frames.append(Frames(u.id, values.astype("float32" if dtype == "float32" else "float16"), n, digest))
        store.write(frames)
    return store


@pytest.mark.parametrize(("pooling", "dtype"), [(1, "float16"), (3, "float32"), (1, "int8")])
def test_decoding_ahead_gives_the_store_of_doing_one_by_one(
    tiny_whisper, recordings, tmp_path, monkeypatch, pooling, dtype
):
    monkeypatch.setattr(encode, "CHUNK_UTTERANCES", 2)
    (tmp_path / "noise.wav").write_text("not audio")
    whole = str(write_wav(tmp_path / "talk.wav", speech(2.0, 7)))
    stretches = [utterance("en", f"talk{i}", audio=AudioRef(whole, offset=i / 2, duration=0.4)) for i in range(3)]
    noise = utterance("en", "noise", audio=AudioRef(str(tmp_path / "noise.wav")))
    gone = utterance("en", "gone", audio=AudioRef(str(tmp_path / "gone.wav")))
    mixed = [recordings[0], gone, *stretches, recordings[1], noise, *recordings[2:]]
    encoder = WhisperEncoder(tiny_whisper)
    store, report = encode_manifest(mixed, encoder, tmp_path / "s.lance", pooling=pooling, dtype=dtype)
    slow = reference_store(mixed, encoder, tmp_path / "slow.lance", 2, pooling, dtype)
    assert (set(report.failed), report.encoded) == ({noise.id, gone.id}, 8)
    assert store.spec == slow.spec
    for a, b in zip(store, slow, strict=True):  # in the same order, too
        assert (a.id, a.n_speech, a.audio_hash) == (b.id, b.n_speech, b.audio_hash)
        np.testing.assert_array_equal(a.values, b.values)


@pytest.mark.parametrize("large", [False, True])
def test_a_file_is_read_once(tiny_whisper, recordings, tmp_path, monkeypatch, large):
    whole = write_wav(tmp_path / "talk.wav", speech(2.0, 7))
    stretches = [utterance("en", f"talk{i}", audio=AudioRef(str(whole), offset=i / 2, duration=0.4)) for i in range(3)]
    opened: Counter[str] = Counter()
    theirs = Path.open

    def counting(path, *rest, **options):
        opened[path.name] += path.suffix == ".wav"
        return theirs(path, *rest, **options)

    monkeypatch.setattr(Path, "open", counting)
    if large:  # not held in memory
        monkeypatch.setattr(decode, "HELD_BYTES", 0)
    encode_manifest([*recordings, *stretches], WhisperEncoder(tiny_whisper), tmp_path / "s.lance")
    names = [f"{i}.wav" for i in range(5)]
    assert opened == (dict.fromkeys(names, 3) | {"talk.wav": 5} if large else dict.fromkeys([*names, "talk.wav"], 1))
    opened.clear()
    encode_manifest([*recordings, *stretches], WhisperEncoder(tiny_whisper), tmp_path / "s.lance")
    assert opened == dict.fromkeys([*names, "talk.wav"], 2 if large else 1)  # hashed only


def test_an_archive_is_read_in_its_own_order(tiny_whisper, tmp_path, monkeypatch):
    """Also by threads: a tar.gz is decompressed from the start whenever something earlier is asked for."""
    path = tmp_path / "audio.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for i in range(12):
            tar.add(write_wav(tmp_path / f"{i}.wav", speech(0.2 + 0.05 * (12 - i), i)), f"{i}.wav")
    asked = []
    monkeypatch.setattr(decode, "read_member", lambda file, member: asked.append(member) or read_member(file, member))
    inside = [utterance("en", str(i), audio=AudioRef(str(path), member=f"{i}.wav")) for i in range(12)]
    _, report = encode_manifest(inside, WhisperEncoder(tiny_whisper), tmp_path / "s.lance")
    assert (report.encoded, asked) == (12, [f"{i}.wav" for i in range(12)])


def test_decoding_goes_on_while_a_chunk_is_encoded(tiny_whisper, recordings, tmp_path, monkeypatch):
    monkeypatch.setattr(encode, "CHUNK_UTTERANCES", 2)
    decoded = threading.Semaphore(0)
    theirs = Recording.stream

    def counting(self, audio):
        yield from theirs(self, audio)
        decoded.release()

    class Waiting(Counting):
        def encode(self, batch):
            if not self.seen:  # the first two are encoded only when the next two are decoded
                assert all(decoded.acquire(timeout=20) for _ in range(4))
            return super().encode(batch)

    monkeypatch.setattr(Recording, "stream", counting)
    _, report = encode_manifest(recordings, Waiting(tiny_whisper), tmp_path / "s.lance")
    assert report.encoded == 5


@pytest.fixture
def few_windows(monkeypatch):
    """Long recordings are decoded as they are encoded, two windows at a time."""
    monkeypatch.setattr(encode, "WINDOWS_AHEAD", 1)
    monkeypatch.setattr(encode, "WINDOWS_AT_ONCE", 2)


@pytest.mark.parametrize("pooling", [1, 7])
def test_a_long_recording_is_encoded_window_by_window(tiny_whisper, tmp_path, few_windows, pooling):
    encoder = Counting(tiny_whisper)
    said = {"a": speech(95.3, 1), "b": speech(30.0, 2), "c": speech(31.0, 3), "d": speech(1.0, 4)}
    long = [utterance("en", i, audio=AudioRef(str(write_wav(tmp_path / f"{i}.wav", x)))) for i, x in said.items()]
    store, report = encode_manifest(long, encoder, tmp_path / "s.lance", pooling=pooling, dtype="float32")
    assert (report.encoded, report.failed, encoder.seen) == (4, {}, 8)
    for u, frames in zip(long, store.read([u.id for u in long]), strict=True):
        ((values, n_speech),) = WhisperEncoder(tiny_whisper).encode([load_audio(u.audio)])
        assert frames.n_speech == len(frames.values) == -(-n_speech // pooling)
        np.testing.assert_allclose(frames.values, pool_frames(values, pooling), atol=5e-5)


def test_a_long_recording_that_breaks_late_is_no_recording(tiny_whisper, tmp_path, few_windows):
    path = write_wav(tmp_path / "a.wav", speech(95.0))
    path.write_bytes(path.read_bytes()[:-10_000])
    cut, whole = (
        utterance("en", n, audio=AudioRef(str(path), duration=d)) for n, d in (("cut", None), ("whole", 90.0))
    )
    store, report = encode_manifest([cut, whole], WhisperEncoder(tiny_whisper), tmp_path / "s.lance")
    assert list(report.failed) == [cut.id]
    assert "fetch it again" in report.failed[cut.id]
    assert store.ids() == [whole.id]


def test_an_encoder_without_a_window_gets_recordings_whole(tiny_whisper, tmp_path, few_windows, monkeypatch):
    monkeypatch.setattr(WhisperEncoder, "window", None)
    long = utterance("en", "a", audio=AudioRef(str(write_wav(tmp_path / "a.wav", speech(95.0)))))
    encoder = Counting(tiny_whisper)
    store, _ = encode_manifest([long], encoder, tmp_path / "s.lance")
    assert (encoder.seen, store.n_speech()) == (1, {long.id: 4750})


def test_what_waits_to_be_encoded_is_bounded(tiny_whisper, recordings, tmp_path, monkeypatch):
    monkeypatch.setattr(encode, "WAITING_BYTES", 1)
    monkeypatch.setattr(encode, "CHUNK_SECONDS", 0.1)  # a chunk each
    read = []
    theirs = Recording.read
    monkeypatch.setattr(Recording, "read", lambda audio: read.append(audio) or theirs(audio))

    class Slow(Counting):
        def encode(self, batch):
            time.sleep(0.1)
            assert len(read) <= self.seen + 3  # this one, one that waits, and one that waits for room
            return super().encode(batch)

    _, report = encode_manifest(recordings, Slow(tiny_whisper), tmp_path / "s.lance")
    assert (report.encoded, len(read)) == (5, 5)


def test_changed_audio_is_encoded_anew(tiny_whisper, recordings, tmp_path):
    encode_manifest(recordings, Counting(tiny_whisper), tmp_path / "s.lance")
    write_wav(Path(recordings[2].audio.path), speech(1.0, seed=9))
    encoder = Counting(tiny_whisper)
    store, report = encode_manifest(recordings, encoder, tmp_path / "s.lance")
    assert (report.encoded, encoder.seen, len(store)) == (1, 1, 5)
    assert store.read([recordings[2].id])[0].n_speech == 50


def test_the_store_knows_its_utterances_and_learns_what_changed_without_encoding_again(
    tiny_whisper, recordings, tmp_path
):
    encoder, path = WhisperEncoder(tiny_whisper), tmp_path / "frames.lance"
    encode_manifest(recordings, encoder, path)
    renamed = [msgspec.structs.replace(recordings[0], text="corrected"), *recordings[1:]]
    store, report = encode_manifest(renamed, encoder, path)
    assert report.encoded == 0
    assert store.lines() == {u.id: line_of(u) for u in renamed}
    assert store.lines([recordings[0].id]) == {recordings[0].id: line_of(renamed[0])}


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
    for u in [u for u in prompts_manifest if u.id == "it/conf-invalid"]:
        samples = load_audio(u.audio)
        ((frames, _),) = WhisperEncoder(base_whisper, context="full").encode([samples])
        expected = huggingface_states(base_whisper, samples)
        assert np.abs(frames - expected).max() < 1e-3 * np.abs(expected).max()


@pytest.mark.model
def test_real_speech_batched_equals_alone_in_speech_context(base_whisper, prompts_manifest):
    batch = [load_audio(u.audio) for u in prompts_manifest[:4]]
    encoder = WhisperEncoder(base_whisper)
    for samples, (frames, _) in zip(batch, encoder.encode(batch), strict=True):
        ((alone, _),) = encoder.encode([samples])
        assert np.abs(frames - alone).max() < 1e-3 * np.abs(alone).max()


def test_an_utterance_that_fails_now_loses_the_frames_that_it_had(tiny_whisper, recordings, tmp_path):
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
