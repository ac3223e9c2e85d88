"""The speech encoders of transformers: each family from a tiny random checkpoint, against transformers' own forward."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf

from helpers import load_results, sweep
from interlingua.cli import run
from interlingua.corpora import write_manifest
from interlingua.encoding import FrameStore, load_encoder
from interlingua.encoding.encoder import pooling_at
from interlingua.encoding.transformers import FAMILIES, TransformersEncoder, cached_encoders
from interlingua.errors import ModelFormatError, UsageError
from interlingua.models import quiet
from interlingua.types import SAMPLE_RATE

LAYERS, WIDTH = 3, 32
SIZE = {"num_hidden_layers": LAYERS, "hidden_size": WIDTH, "num_attention_heads": 2, "intermediate_size": 48}
CONVOLVED = {**SIZE, "conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
STABLE = {**CONVOLVED, "feat_extract_norm": "layer", "do_stable_layer_norm": True, "vocab_size": 32}
FAST = {**SIZE, "model_type": "parakeet_encoder", "subsampling_conv_channels": 8, "conv_kernel_size": 5}
TOWER = {"d_model": WIDTH, "encoder_layers": LAYERS, "encoder_attention_heads": 2, "encoder_ffn_dim": 48}
TEXT = {**SIZE, "num_hidden_layers": 1, "vocab_size": 32, "head_dim": 16, "num_key_value_heads": 2}
LENGTHS = (0.31, 2.0, 1.013, 0.05, 1.0)  # seconds


@dataclass(frozen=True)
class Case:
    """A whole checkpoint of a family, and where its encoder is in it."""

    make: Callable[[], Any]
    extractor: Callable[[], Any]
    encoder: str
    mask: str = "attention_mask"


def seamless() -> Any:
    text = {"vocab_size": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "speech_encoder_attention_heads": 2}
    speech = {"speech_encoder_layers": LAYERS, "speech_encoder_intermediate_size": 48, "hidden_size": WIDTH}
    return hf.SeamlessM4Tv2ForSpeechToText(hf.SeamlessM4Tv2Config(**text, **heads, **speech))


def canary() -> Any:
    decoder = {**TEXT, "pad_token_id": 2}
    return hf.CanaryForConditionalGeneration(
        hf.CanaryConfig(vocab_size=32, encoder_config={**FAST, "scale_input": False}, decoder_config=decoder)
    )


CASES: dict[str, Case] = {
    "wav2vec2": Case(
        lambda: hf.Wav2Vec2ForCTC(hf.Wav2Vec2Config(**STABLE)),
        lambda: hf.Wav2Vec2FeatureExtractor(return_attention_mask=True),
        "wav2vec2",
    ),
    "hubert": Case(  # normalises over time
        lambda: hf.HubertForCTC(hf.HubertConfig(**CONVOLVED, vocab_size=32)),
        hf.Wav2Vec2FeatureExtractor,
        "hubert",
    ),
    "wav2vec2-bert": Case(
        lambda: hf.Wav2Vec2BertForCTC(hf.Wav2Vec2BertConfig(**SIZE, vocab_size=32, output_hidden_size=WIDTH)),
        lambda: hf.SeamlessM4TFeatureExtractor(padding_value=1.0),
        "wav2vec2_bert",
    ),
    "seamless_m4t_v2": Case(seamless, hf.SeamlessM4TFeatureExtractor, "speech_encoder"),
    "parakeet_ctc": Case(
        lambda: hf.ParakeetForCTC(hf.ParakeetCTCConfig(vocab_size=20, pad_token_id=19, encoder_config=FAST)),
        hf.ParakeetFeatureExtractor,
        "encoder",
    ),
    "parakeet_tdt": Case(
        lambda: hf.ParakeetForTDT(
            hf.ParakeetTDTConfig(vocab_size=20, blank_token_id=19, decoder_hidden_size=16, encoder_config=FAST)
        ),
        hf.ParakeetFeatureExtractor,
        "encoder",
    ),
    "canary": Case(canary, hf.ParakeetFeatureExtractor, "model.encoder"),
    "qwen3_asr": Case(
        lambda: hf.Qwen3ASRForConditionalGeneration(
            hf.Qwen3ASRConfig(
                audio_config={
                    **TOWER,
                    "model_type": "qwen3_asr_encoder",
                    "downsample_hidden_size": 8,
                    "output_dim": 32,
                },
                text_config={**TEXT, "model_type": "qwen3"},
            )
        ),
        hf.Qwen3ASRFeatureExtractor,
        "model.audio_tower",
        "input_features_mask",
    ),
    "voxtral": Case(
        lambda: hf.VoxtralForConditionalGeneration(
            hf.VoxtralConfig(
                audio_config={**SIZE, "model_type": "voxtral_encoder"}, text_config={**TEXT, "model_type": "llama"}
            )
        ),
        lambda: hf.WhisperFeatureExtractor(feature_size=128),
        "model.audio_tower",
    ),
}
PADDED = [name for name in CASES if name != "voxtral"]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Callable[[str], Path]:
    """The folder of a family's checkpoint, with random weights that are large enough to tell frames apart."""

    @cache
    def made(name: str) -> Path:
        folder = tmp_path_factory.mktemp("encoders") / name
        torch.manual_seed(0)
        model = CASES[name].make().eval()
        with torch.no_grad(), quiet():
            for key, parameter in model.named_parameters():
                if parameter.ndim > 1 and "conv" not in key:
                    parameter.mul_(4)
            model.save_pretrained(folder)
        CASES[name].extractor().save_pretrained(folder)
        return folder

    return made


def loaded(folder: Path, **options) -> Any:
    settings = {"context": "speech", "layer": None, "device": "cpu", "compute": "float32"} | options
    return load_encoder("transformers", str(folder), **settings)


def recordings() -> list[np.ndarray]:
    return [sweep(seconds, 200.0 + 90 * n, n) for n, seconds in enumerate(LENGTHS)]


def reference(name: str, folder: Path, samples: np.ndarray) -> list[np.ndarray]:
    """What each layer and, last, the encoder make of one recording, by transformers alone; (T, D) each."""
    case = CASES[name]
    with quiet():
        model = type(case.make()).from_pretrained(folder).eval()
    for part in case.encoder.split("."):
        model = getattr(model, part)
    padded = np.pad(samples, (0, max(0, SAMPLE_RATE // 10 - len(samples))))
    padding = {} if name == "voxtral" else {"padding": True, "return_attention_mask": name != "hubert"}
    inputs = case.extractor()(padded, sampling_rate=SAMPLE_RATE, return_tensors="pt", **padding)
    if "attention_mask" in inputs:
        inputs[case.mask] = inputs.pop("attention_mask")
    outputs: list[Any] = []
    for layer in getattr(model, "encoder", model).layers:
        layer.register_forward_hook(lambda module, given, made: outputs.append(made))
    with torch.inference_mode():
        outputs.append(model(**inputs).last_hidden_state)
    rows = [one[0] if isinstance(one, tuple) else one for one in outputs]
    return [(row[0] if row.ndim == 3 else row).numpy() for row in rows]


def close(ours: np.ndarray, theirs: np.ndarray) -> None:
    np.testing.assert_allclose(ours, theirs[: len(ours)], atol=2e-4 * max(1.0, float(np.abs(theirs).max())))


@pytest.mark.parametrize("name", CASES)
def test_every_layer_is_transformers_own_in_a_batch_of_mixed_lengths(name, checkpoint):
    folder, audio = checkpoint(name), recordings()
    theirs = [reference(name, folder, samples) for samples in audio]
    context = "full" if name == "voxtral" else "speech"
    last = loaded(folder, context=context)
    adapter = FAMILIES[name].last_rate is not None
    assert last.layers == LAYERS + adapter
    assert last.dim == WIDTH
    for layer in range(1, last.layers + 1):
        encoder = loaded(folder, context=context, layer=layer) if layer < last.layers else last
        assert encoder.spec.layer == layer
        for samples, (frames, n_speech), rows in zip(audio, encoder.encode(audio), theirs, strict=True):
            expected = rows[-1 if layer == last.layers else layer - 1]
            assert 0 <= len(expected) - len(frames) <= 1  # a step that is but padding makes no frame
            assert n_speech == (len(frames) if context == "speech" else -(-len(samples) // 320))
            assert abs(n_speech - encoder.rate * max(0.1, len(samples) / SAMPLE_RATE)) <= (
                7 if name == "qwen3_asr" else 2
            )
            close(frames, expected)


@pytest.mark.parametrize("name", CASES)
def test_a_batch_gives_what_each_recording_gives_alone(name, checkpoint):
    encoder = loaded(checkpoint(name))
    for samples, (frames, n_speech) in zip(recordings(), encoder.encode(recordings()), strict=True):
        ((alone, n_alone),) = encoder.encode([samples])
        assert n_speech == n_alone
        np.testing.assert_allclose(frames, alone, atol=1e-4 * float(np.abs(alone).max()))


@pytest.mark.parametrize("name", ["hubert", "seamless_m4t_v2"])
def test_lengths_mixed_would_matter_to_these(name, checkpoint):
    """Guards the test above: without the grouping by length, padding reaches the frames."""
    encoder = loaded(checkpoint(name))
    encoder._alike = False
    worst = 0.0
    for samples, (frames, _) in zip(recordings(), encoder.encode(recordings()), strict=True):
        ((alone, _),) = encoder.encode([samples])
        worst = max(worst, float(np.abs(frames - alone).max()))
    assert worst > 1e-2


@pytest.mark.parametrize("name", PADDED)
def test_a_long_recording_is_encoded_window_by_window_in_bounded_batches(name, checkpoint, monkeypatch):
    encoder = loaded(checkpoint(name))
    encoder.window = 4  # s: ten times as fast as its own
    monkeypatch.setattr("interlingua.encoding.transformers.MOST_SECONDS", 8.0)
    size = round(encoder.window * SAMPLE_RATE)
    long = sweep(2 * encoder.window + 1, 120.0)
    passes = []
    forward = TransformersEncoder._forward
    monkeypatch.setattr(
        TransformersEncoder, "_forward", lambda self, features: passes.append(len(features)) or forward(self, features)
    )
    ((frames, n_speech),) = encoder.encode([long])
    assert n_speech == len(frames)
    assert sum(passes) == 3
    assert max(passes) <= 2
    windows = [encoder.encode([long[start : start + size]])[0][0] for start in (0, size, 2 * size)]
    assert [len(w) for w in windows[:2]] == [round(encoder.window * encoder.rate)] * 2  # so that times stay right
    np.testing.assert_allclose(frames, np.concatenate(windows), atol=1e-4 * float(np.abs(frames).max()))


def test_lower_number_formats_and_their_names(checkpoint):
    exact, halved = (loaded(checkpoint("wav2vec2"), compute=c) for c in ("float32", "bfloat16"))
    assert (exact.spec.compute, halved.spec.compute) == ("float32", "bfloat16")
    (a, _), (b, _) = (e.encode([sweep(1.0, 300.0)])[0] for e in (exact, halved))
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.98


def test_a_voxtral_takes_every_context_and_whisper_comes_by_the_same_name(checkpoint, tiny_whisper_folder):
    ((frames, n_speech),) = loaded(checkpoint("voxtral"), context="speech+1").encode([sweep(0.5, 200.0)])
    assert (len(frames), n_speech) == (100, 25)
    assert (
        loaded(tiny_whisper_folder).spec
        == load_encoder(
            "whisper", str(tiny_whisper_folder), context="speech", layer=None, device="cpu", compute="float32"
        ).spec
    )


def test_what_is_refused_in_a_line(checkpoint, tmp_path):
    folder = checkpoint("wav2vec2")
    for context in ("full", "speech+2"):
        with pytest.raises(UsageError, match=rf"^--context {context.replace('+', '.')}: wav2vec2 encodes speech alone"):
            loaded(folder, context=context)
    with pytest.raises(UsageError, match=r"encoder layers 1 to 3$"):
        loaded(folder, layer=4)
    with pytest.raises(UsageError, match="name a model, such as --model facebook/"):
        load_encoder("transformers", None, context="speech", layer=None, device="cpu", compute="float32")
    other = tmp_path / "text"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ModelFormatError, match="model_type is 'bert', which is no speech encoder; use one of wav2vec2"):
        loaded(other)
    mixed = tmp_path / "mixed"  # another checkpoint's extractor
    mixed.mkdir()
    for file in folder.iterdir():
        if file.suffix in (".json", ".safetensors"):
            (mixed / file.name).symlink_to(file)
    (mixed / "preprocessor_config.json").unlink()
    with pytest.raises(ModelFormatError, match=r"preprocessor_config\.json can't be read"):
        loaded(mixed)
    hf.SeamlessM4TFeatureExtractor().save_pretrained(mixed)
    with pytest.raises(ModelFormatError, match="can't encode what its feature extractor makes"):
        loaded(mixed)


def test_pooling_keeps_whispers_frames_per_second():
    assert [pooling_at(rate, 4) for rate in (50.0, 25.0, 13.0, 12.5, 6.25)] == [4, 2, 1, 1, 1]
    assert [pooling_at(rate, 1) for rate in (50.0, 6.25)] == [1, 1]


def test_the_hub_cache_is_listed(checkpoint, tmp_path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    for owner, config in (("a--w2v", "wav2vec2-bert"), ("b--whisper", "whisper"), ("c--text", "bert")):
        snapshot = tmp_path / f"models--{owner}" / "snapshots" / ("0" * 40)
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").write_text(json.dumps({"model_type": config}))
    assert cached_encoders() == ["a/w2v", "b/whisper"]


@pytest.mark.model
def test_the_whole_way_on_real_speech(tiny_encoder_folder, prompts_manifest, tmp_path, capsys):
    """Encode, store, evaluate, index, search and mine with a w2v-BERT of random weights."""
    few = sorted({u.meaning for u in prompts_manifest if u.language == "ru" and 1.5 < (u.duration or 0) < 2.5})[:12]
    chosen = [u for u in prompts_manifest if u.meaning in few and u.language in ("en", "fr")]
    manifest, store = tmp_path / "manifest.jsonl", tmp_path / "frames.lance"
    write_manifest(manifest, chosen)
    named = ["--encoder", "transformers", "--model", str(tiny_encoder_folder)]
    assert run(["encode", str(manifest), str(store), *named]) == 0
    spec = FrameStore.open(store).spec
    assert (spec.model, spec.layer, spec.rate, spec.context) == (tiny_encoder_folder.name, 3, 50.0, "speech")
    assert run(["encode", str(manifest), str(tmp_path / "full.lance"), *named, "--context", "full"]) == 2
    assert "encodes speech alone; use --context speech" in capsys.readouterr().err
    out, trec = tmp_path / "out", tmp_path / "trec"
    evaluate = ["evaluate", "retrieval", str(manifest), str(store), "--method", "seqsim", "--out", str(out)]
    assert run([*evaluate, "--trec", str(trec)]) == 0
    results, _ = load_results(out)
    for row in results["retrieval"]:
        runs = (trec / f"{row['query']}-{row['candidate']}.seqsim.run").read_text().splitlines()
        assert len(runs) == row["n"] * row["n_candidates"] == 144
    index = tmp_path / "index"
    assert run(["index", "build", str(manifest), "--out", str(index), *named]) == 0
    capsys.readouterr()
    query = next(u for u in chosen if u.language == "en")
    assert run(["search", str(index), query.audio.path, "--language", "en", "-k", "1", "--json"]) == 0
    (hit,) = json.loads(capsys.readouterr().out)["results"]
    assert hit["utterance"]["id"] == query.id
    assert run(["mine", str(index), "--languages", "en", "fr", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pairs"]
