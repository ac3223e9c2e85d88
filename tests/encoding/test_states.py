"""States made on the fly equal those of a store; the disk is estimated before anything is encoded."""

from dataclasses import replace

import numpy as np
import pytest

from helpers import sweep, utterance, write_wav
from interlingua.encoding import WhisperEncoder, encode_manifest, estimate_bytes, free_bytes, require_space
from interlingua.encoding import pipeline as encode
from interlingua.errors import StoreError
from interlingua.experiments.finetune import output_origins
from interlingua.finetuning.data import LiveStates
from interlingua.finetuning.evaluate import Task
from interlingua.types import AudioRef

SECONDS = (0.5, 0.31, 1.2)


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audio")
    files = [write_wav(folder / f"{i}.wav", sweep(s, 200 + 30 * i, seed=i)) for i, s in enumerate(SECONDS)]
    return [utterance("en", f"m{i}", audio=AudioRef(str(f))) for i, f in enumerate(files)]


@pytest.fixture
def encoder(tiny_whisper):
    return WhisperEncoder(tiny_whisper, context="speech+1")


def test_states_on_the_fly_are_those_of_a_store(spoken, encoder, tmp_path):
    store, _ = encode_manifest(spoken, encoder, tmp_path / "s.lance")
    live = LiveStates(spoken, encoder)
    ids = [spoken[i].id for i in (2, 0, 1, 2)]
    for made, held in zip(live.read(ids), store.read(ids), strict=True):
        assert (made.id, made.n_speech, made.values.dtype) == (held.id, held.n_speech, held.values.dtype)
        np.testing.assert_allclose(made.values.astype(float), held.values.astype(float), atol=2e-3)
    assert live.n_speech() == store.n_speech()


def test_outputs_of_states_on_the_fly_and_of_a_store_are_not_mixed(spoken, encoder, tmp_path):
    """A run that found no room for states, and goes on where there is some, measures anew what it had."""
    store, _ = encode_manifest(spoken, encoder, tmp_path / "s.lance")
    tasks = [Task("new", "en", "es", (1, 2))]
    live, held = (output_origins(tasks, spoken, states, 10) for states in (LiveStates(spoken, encoder), store))
    assert live.keys() == held.keys() == {u.id for u in spoken}
    assert not {*live.values()} & {*held.values()}


def test_what_cannot_be_encoded_is_left_out(spoken, encoder, tmp_path):
    long = utterance("en", "long", audio=AudioRef(str(write_wav(tmp_path / "long.wav", sweep(30.5, 200)))))
    gone = utterance("en", "gone", audio=AudioRef("/nowhere.wav"))
    live = LiveStates([*spoken, long, gone], encoder)
    assert [u.id in live for u in (*spoken, long, gone)] == [True] * 3 + [False] * 2
    with pytest.raises(StoreError, match="en/gone"):
        live.read([spoken[0].id, gone.id])


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
@pytest.mark.parametrize(("context", "pooling"), [("speech", 1), ("full", 1), ("speech+3", 1), ("speech", 4)])
def test_the_estimate_is_what_is_stored(spoken, tiny_whisper, tmp_path, context, pooling, dtype):
    encoder = WhisperEncoder(tiny_whisper, context=context)
    timed = [u.__class__(**{**_fields(u), "duration": s}) for u, s in zip(spoken, SECONDS, strict=True)]
    need = estimate_bytes(timed, replace(encoder.spec, pooling=pooling, dtype=dtype), encoder.dim)
    store, _ = encode_manifest(timed, encoder, tmp_path / "s.lance", pooling=pooling, dtype=dtype)
    frames = sum(len(f.values) for f in store)
    each = encoder.dim * {"int8": 1, "float16": 2, "float32": 4}[dtype] + (4 if dtype == "int8" else 0)
    assert abs(need - frames * each) <= len(timed) * each  # a frame an utterance, by rounding


def test_covost_at_full_context_is_told_before_it_starts(tiny_whisper, tmp_path, monkeypatch):
    """289,430 clips at full context: 445 GB for Whisper-base in float16."""
    spec = WhisperEncoder(tiny_whisper, context="full").spec
    clips = [utterance("en", "clip", duration=5.4)]
    need = 289_430 * estimate_bytes(clips, spec, 512)
    assert round(need / 1e9) == 445
    monkeypatch.setattr(encode, "free_bytes", lambda path: 10**9)
    with pytest.raises(StoreError, match=r"need about 444.6 GB, 1.0 GB are free; .*--dtype int8 .*without --store"):
        require_space(tmp_path / "s.lance", need)


def test_a_full_disk_is_refused_and_nothing_is_encoded(spoken, encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(encode, "free_bytes", lambda path: 10)
    timed = [u.__class__(**{**_fields(u), "duration": s}) for u, s in zip(spoken, SECONDS, strict=True)]
    with pytest.raises(StoreError, match="are free"):
        encode_manifest(timed, encoder, tmp_path / "s.lance")
    assert not (tmp_path / "s.lance").exists()  # or --dtype int8, which the line offers, would be refused
    assert len(encode_manifest(spoken, encoder, tmp_path / "s.lance")[0]) == 3  # of unknown length: it is tried


def test_object_stores_have_no_disk(tmp_path):
    assert free_bytes("s3://bucket/x.lance") is None
    assert free_bytes(tmp_path / "not" / "yet" / "there") > 0


def _fields(u):
    return {name: getattr(u, name) for name in u.__struct_fields__}
