"""Export: what a folder is asked for, folders that load again bit for bit, both formats checked, and the verb."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import ctranslate2
import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import WhisperForConditionalGeneration

from helpers import detect_language, greedy_tokens, sweep, write_wav
from interlingua.cli import run
from interlingua.encoding import WhisperEncoder
from interlingua.errors import ModelFormatError, ModelNotFoundError, UsageError
from interlingua.finetuning import export as exporting
from interlingua.finetuning.export import RECORD, export
from interlingua.models import convert, ctranslate2_folder, load_whisper, quiet, save_whisper
from interlingua.models.targets import (
    SPARE_SLOTS,
    TARGETS_FILE,
    Base,
    Target,
    Targets,
    assign_slot,
    load_trained,
    prompt_tokens,
    read_targets,
)
from interlingua.translation import CTranslate2Engine, Decoded
from interlingua.types import SAMPLE_RATE, Frames

BASE = Base("openai/whisper-base", "abc")


def targets(**asked) -> Targets:
    """``es=("es", "target-transcribe")`` and so on."""
    return Targets(targets={k: Target(*v) for k, v in asked.items()}, base=BASE, sources=("en", "fr"))


SPANISH = targets(es=("es", "target-transcribe"))
TWO = targets(kea=("haw", "target-translate"), es=("es", "target-transcribe"))
ENGLISH_NO_MORE = targets(es=(None, "source-translate"))


@pytest.fixture
def whisper(tiny_whisper_folder):
    """A tiny Whisper of the test's own."""
    return load_whisper(tiny_whisper_folder)


@pytest.fixture
def trained(whisper, tmp_path):
    """A model folder as training leaves it."""
    return save_whisper(whisper, tmp_path / "trained", SPANISH)


@pytest.fixture
def wav(tmp_path):
    return write_wav(tmp_path / "a.wav", sweep(1.2, 200.0))


def states_of(whisper, seed=0):
    return WhisperEncoder(whisper, context="full").encode([sweep(0.8, 200.0 + 70 * seed, seed)])[0][0]


def features_of(whisper, seed=0):
    samples = sweep(0.8, 200.0 + 70 * seed, seed)
    return whisper.feature_extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features


def same_weights(one, other) -> bool:
    one, other = one.model.state_dict(), other.model.state_dict()
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---------------------------------------------------------------- targets


@pytest.mark.parametrize(
    ("kind", "language", "task"),
    [
        ("target-transcribe", "es", "transcribe"),
        ("target-translate", "es", "translate"),
        ("source-translate", "fr", "translate"),
    ],
)
def test_three_kinds_of_prompt(tiny_whisper, kind, language, task):
    assert prompt_tokens(tiny_whisper, kind, source="fr", target="es") == tiny_whisper.prompt(language, task)


def test_a_prompt_needs_the_language_that_it_names(tiny_whisper):
    with pytest.raises(UsageError, match="source-translate names the spoken language"):
        prompt_tokens(tiny_whisper, "source-translate", source=None, target="es")
    with pytest.raises(UsageError, match="target-translate names the target language"):
        prompt_tokens(tiny_whisper, "target-translate", source="fr", target=None)
    with pytest.raises(UsageError, match="no language 'kea'"):
        prompt_tokens(tiny_whisper, "target-translate", source="fr", target="kea")


def test_targets_give_prompts(tiny_whisper):
    assert TWO.prompt(tiny_whisper, "kea") == tiny_whisper.prompt("haw", "translate")
    assert TWO.prompt(tiny_whisper, "es", source="fr") == tiny_whisper.prompt("es", "transcribe")
    assert ENGLISH_NO_MORE.prompt(tiny_whisper, "es", source="fr") == tiny_whisper.prompt("fr", "translate")
    assert (TWO.default, TWO.task("kea"), TWO.task("es")) == ("kea", "translate", "transcribe")
    with pytest.raises(UsageError, match="not trained to translate into 'de'; use kea, es"):
        TWO.prompt(tiny_whisper, "de")


def test_targets_come_back_from_their_file(tmp_path):
    assert read_targets(tmp_path) is None
    for record in (SPANISH, TWO, ENGLISH_NO_MORE):
        record.write(tmp_path)
        assert read_targets(tmp_path) == record
        assert list(read_targets(tmp_path).targets) == list(record.targets)
    SPANISH.write(tmp_path)
    assert json.loads((tmp_path / TARGETS_FILE).read_text()) == {
        "format": 1,
        "targets": {"es": {"token": "es", "prompt": "target-transcribe"}},
        "base": {"name": "openai/whisper-base", "revision": "abc"},
        "sources": ["en", "fr"],
        "proxies": {},
    }
    assert left_in(tmp_path) == [TARGETS_FILE]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({}, "no target language"),
        ({"es": (None, "target-transcribe")}, "needs a token"),
        ({"es": ("es", "source-translate")}, "takes no token"),
        ({"kea": ("kea", "target-transcribe")}, "Whisper has no token 'kea'"),
        ({"es": ("haw", "target-translate"), "kea": ("haw", "target-translate")}, r"<\|haw\|><\|translate\|>"),
        ({"es": (None, "source-translate"), "kea": (None, "source-translate")}, "the same prompt"),
        ({"es": (None, "source-translate"), "fr": ("fr", "target-translate")}, r"<\|fr\|><\|translate\|>"),
    ],
)
def test_targets_that_make_no_sense(asked, reason):
    with pytest.raises(UsageError, match=reason) as caught:
        targets(**asked)
    assert "\n" not in str(caught.value)


def test_one_token_may_serve_two_tasks():
    assert targets(es=("haw", "target-translate"), kea=("haw", "target-transcribe"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: "{", "truncated|malformed"),
        (lambda text: "[]", "Expected `object`"),
        (lambda text: text.replace('"format": 1', '"format": 2'), "format"),
        (lambda text: text.replace("target-transcribe", "please"), "'please'"),
        (lambda text: text.replace('"sources"', '"source"'), "source"),
        (lambda text: text.replace('"token": "es"', '"token": "tlh"'), "no token 'tlh'"),
        (lambda text: text.replace('"token": "es"', '"token": 5'), "token"),
    ],
)
def test_a_damaged_record_is_one_line(tmp_path, change, reason):
    SPANISH.write(tmp_path)
    path = tmp_path / TARGETS_FILE
    path.write_text(change(path.read_text()))
    with pytest.raises(ModelFormatError, match=reason) as caught:
        read_targets(tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_language_keeps_its_own_token_and_others_borrow(tiny_whisper):
    assert assign_slot(tiny_whisper, "es") == "es"
    assert assign_slot(tiny_whisper, "es", taken=["es"]) == "es"
    assert assign_slot(tiny_whisper, "kea") == "haw"
    assert assign_slot(tiny_whisper, "kea", taken=("haw", "en", "ln")) == "ha"
    taken = [*SPARE_SLOTS[:-1], "en"]
    assert assign_slot(tiny_whisper, "kea", taken) == SPARE_SLOTS[-1]
    with pytest.raises(UsageError, match="no token for 'kea' and none to spare"):
        assign_slot(tiny_whisper, "kea", SPARE_SLOTS)
    assert set(SPARE_SLOTS) < set(tiny_whisper.languages)


def test_no_slot_where_the_model_has_none(whisper):
    for slot in SPARE_SLOTS[:2]:
        del whisper.model.generation_config.lang_to_id[f"<|{slot}|>"]
    assert assign_slot(whisper, "kea") == SPARE_SLOTS[2]
    with pytest.raises(UsageError, match=r"target 'kea': this model has no token <\|haw\|>"):
        TWO.configure(whisper.model)


# ---------------------------------------------------------------- plain transformers


def asked_and_said(model, features, **arguments) -> tuple[list[int], list[int]]:
    """What plain ``generate`` hands to the decoder first, and what it makes of it."""
    seen = []

    def look(_, args, kwargs):
        seen.append(kwargs["input_ids"][0].tolist())

    hook = model.model.decoder.register_forward_pre_hook(look, with_kwargs=True)
    with quiet(), torch.inference_mode():
        tokens = model.generate(features, do_sample=False, num_beams=1, **arguments)[0].tolist()
    hook.remove()
    prompt = next(tokens for tokens in seen if len(tokens) > 1)  # language detection shows it the start token alone
    return prompt, [token for token in tokens if token < model.generation_config.eos_token_id]


def test_generate_needs_no_remembering(whisper, tmp_path):
    features, states = features_of(whisper), states_of(whisper)

    def ours(language, task):
        prompt = whisper.prompt(language, task)
        return prompt, greedy_tokens(whisper, [states], prompt)[0]

    spoken, _ = detect_language(whisper, states)
    for record, wanted in (
        (SPANISH, ours("es", "transcribe")),
        (TWO, ours("haw", "translate")),
        (ENGLISH_NO_MORE, ours(spoken, "translate")),
    ):
        folder = save_whisper(whisper, tmp_path / "model", record)
        with quiet():
            model = WhisperForConditionalGeneration.from_pretrained(folder).eval()
        assert asked_and_said(model, features) == wanted
        for language, task in (("en", "transcribe"), ("fr", "translate")):
            assert asked_and_said(model, features, language=language, task=task) == ours(language, task)
        assert asked_and_said(model, features) == wanted  # an argument is forgotten after the call


def test_training_a_trained_model_further_changes_what_generate_gives(whisper):
    SPANISH.configure(whisper.model)
    ENGLISH_NO_MORE.configure(whisper.model)
    settings = whisper.model.generation_config
    assert (settings.language, settings.task) == (None, "translate")


# ---------------------------------------------------------------- saving


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_saved_and_loaded_bit_for_bit(tiny_whisper_folder, tmp_path, dtype):
    whisper = load_whisper(tiny_whisper_folder, dtype=dtype)
    folder = save_whisper(whisper, tmp_path / "saved", TWO)
    again = load_whisper(folder, dtype=dtype)
    assert same_weights(whisper, again)
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert "proj_out.weight" not in file.keys()  # noqa: SIM118  # not a dict
        assert str(file.get_tensor("model.encoder.conv1.weight").dtype) == f"torch.{dtype}"
    assert again.model.proj_out.weight is again.model.model.decoder.embed_tokens.weight
    assert again.model.generation_config.lang_to_id == whisper.model.generation_config.lang_to_id
    for name in ("suppress_tokens", "begin_suppress_tokens", "task_to_id", "no_timestamps_token_id"):
        assert getattr(again.model.generation_config, name) == getattr(whisper.model.generation_config, name)
    text = "Grüße, 你好"
    assert again.tokenizer.decode(whisper.tokenizer(text, add_special_tokens=False).input_ids) == text
    assert np.array_equal(features_of(again), features_of(whisper))
    assert read_targets(folder) == TWO
    assert left_in(tmp_path) == ["saved"]
    assert {path.stat().st_mode for path in folder.iterdir()} == {(folder / "config.json").stat().st_mode}


def test_a_ctranslate2_model_is_saved_too(whisper, tiny_whisper_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("INTERLINGUA_CACHE", str(tmp_path / "cache"))
    converted = load_whisper(ctranslate2_folder(tiny_whisper_folder))
    again = load_whisper(save_whisper(converted, tmp_path / "saved"))
    assert same_weights(converted, again)
    assert same_weights(whisper, again)
    assert read_targets(again.source.path) is None
    for name in ("suppress_tokens", "begin_suppress_tokens", "alignment_heads", "lang_to_id"):
        theirs = getattr(converted.model.generation_config, name)
        theirs = [list(pair) for pair in theirs] if name == "alignment_heads" else theirs
        assert getattr(again.model.generation_config, name) == theirs


def test_saving_leaves_the_model_as_it_is(whisper, tmp_path):
    settings, before = whisper.model.generation_config, whisper.model.generation_config.to_dict()
    save_whisper(whisper, tmp_path / "saved", SPANISH)
    assert whisper.model.generation_config is settings
    assert settings.to_dict() == before
    no_haw = settings.lang_to_id.pop("<|haw|>")
    with pytest.raises(UsageError, match="haw"):
        save_whisper(whisper, tmp_path / "other", TWO)
    assert no_haw
    assert whisper.model.generation_config is settings
    assert left_in(tmp_path) == ["saved"]


def test_an_output_layer_of_its_own_is_refused(whisper, tmp_path):
    whisper.model.proj_out.weight = torch.nn.Parameter(whisper.model.proj_out.weight + 1)
    with pytest.raises(ModelFormatError, match="not its token embedding"):
        save_whisper(whisper, tmp_path / "saved")
    assert left_in(tmp_path) == []


def test_a_save_that_fails_leaves_what_was_there(whisper, tmp_path, monkeypatch):
    folder = save_whisper(whisper, tmp_path / "saved", SPANISH)

    def full(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr(type(whisper.tokenizer), "save_pretrained", full)
    with pytest.raises(OSError, match="no space"):
        save_whisper(whisper, folder, TWO)
    assert left_in(tmp_path) == ["saved"]
    assert read_targets(folder) == SPANISH


# ---------------------------------------------------------------- export


def test_both_formats_say_what_the_model_says(trained, whisper, tmp_path, wav):
    out = tmp_path / "out"
    given = Frames("states", states_of(whisper, 3), 40)
    report = export(trained, out, quantization="float32", check=[wav, given])
    assert report.failed == []
    for check in report.checks.values():
        assert (check.texts, check.identical) == (2, 2)
        assert check.chrf.value == pytest.approx(100)
    assert left_in(out) == ["ctranslate2", RECORD, "huggingface"]
    for kind in ("huggingface", "ctranslate2"):
        assert read_targets(out / kind) == SPANISH
        assert same_weights(load_whisper(out / kind), whisper)
    assert json.loads((out / RECORD).read_text()) == json.loads(json.dumps(report.as_dict()))
    assert report.sizes["ctranslate2"] > 1000
    engine = ctranslate2.models.Whisper(str(out / "ctranslate2"), compute_type="float32")
    view = ctranslate2.StorageView.from_array(features_of(whisper).numpy())
    (found,) = engine.generate(view, [SPANISH.prompt(whisper, "es")], beam_size=1, max_length=24)
    mine = greedy_tokens(whisper, [states_of(whisper)], whisper.prompt("es", "transcribe"), most_tokens=12)
    assert found.sequences_ids == mine


def test_files_that_faster_whisper_reads(trained, tmp_path):
    export(trained, tmp_path / "out", formats=["ctranslate2"])
    folder = tmp_path / "out" / "ctranslate2"
    names = ["config.json", TARGETS_FILE, "model.bin", "preprocessor_config.json", "tokenizer.json", "vocabulary.json"]
    assert left_in(folder) == sorted(names)
    assert json.loads((folder / "preprocessor_config.json").read_text()) == {"feature_size": 80}


def test_int8_is_smaller_and_float16_rounds(trained, whisper, tmp_path, wav):
    full = export(trained, tmp_path / "full", quantization="float32")
    small = export(trained, tmp_path / "small", quantization="int8", dtype="float16", check=[wav], least_chrf=0)
    sizes = [(tmp_path / name / "ctranslate2" / "model.bin").stat().st_size for name in ("full", "small")]
    assert sizes[1] < 0.6 * sizes[0]  # positions aren't quantised, and weigh much here
    assert small.sizes["ctranslate2"] < full.sizes["ctranslate2"]
    assert small.sizes["huggingface"] < full.sizes["huggingface"]
    rounded = load_whisper(tmp_path / "small" / "huggingface").model.state_dict()
    quantised = load_whisper(tmp_path / "small" / "ctranslate2").model.state_dict()
    for name, value in whisper.model.state_dict().items():
        assert torch.equal(rounded[name], value.half().float()), name
        if value.ndim == 2 and "positions" not in name:  # int8 starts from full precision, not from float16
            half_step = value.abs().amax(1, keepdim=True) / 127 / 2
            assert ((quantised[name] - value).abs() <= half_step * 1.001 + 1e-7).all(), name


def test_one_format_alone(trained, tmp_path):
    export(trained, tmp_path / "out", formats=["huggingface"])
    assert left_in(tmp_path / "out") == [RECORD, "huggingface"]
    export(trained, tmp_path / "out", formats=["ctranslate2"])  # an earlier export is replaced
    assert left_in(tmp_path / "out") == ["ctranslate2", RECORD]
    with pytest.raises(UsageError, match="no format"):
        export(trained, tmp_path / "out", formats=[])


def test_every_target_is_checked_and_a_plain_model_transcribes(whisper, tiny_whisper_folder, tmp_path, wav):
    trained = save_whisper(whisper, tmp_path / "two", TWO)
    report = export(trained, tmp_path / "out", quantization="float32", check=[wav])
    assert {kind: check.texts for kind, check in report.checks.items()} == {"huggingface": 2, "ctranslate2": 2}
    report = export(tiny_whisper_folder, tmp_path / "out", quantization="float32", check=[wav])
    assert report.targets is None
    assert report.checks["ctranslate2"].identical == 1
    assert not (tmp_path / "out" / "huggingface" / TARGETS_FILE).exists()


def test_a_folder_that_says_something_else_is_not_written(trained, whisper, tmp_path, wav, monkeypatch):
    out = tmp_path / "out"
    export(trained, out)
    before = (out / RECORD).read_text()
    other = replace(whisper, model=WhisperForConditionalGeneration.from_pretrained(trained).eval())
    with torch.no_grad():
        other.model.model.decoder.embed_tokens.weight.copy_(
            other.model.model.decoder.embed_tokens.weight.flip(0).clone()
        )
    spoilt = save_whisper(other, tmp_path / "other")
    monkeypatch.setattr(exporting, "convert", lambda _, target, how: convert(load_whisper(spoilt), target, how))
    report = export(trained, out, quantization="float32", check=[wav])
    assert report.failed == ["ctranslate2"]
    assert report.checks["huggingface"].identical == 1
    assert (out / RECORD).read_text() == before
    assert left_in(tmp_path) == ["a.wav", "other", "out", "trained"]
    assert export(trained, out, check=[wav], least_chrf=0).failed == []


def test_texts_without_a_letter_that_are_the_same_pass():
    check = exporting._compare({"a": ""}, {"a": ""})
    assert check.chrf.value == 0
    assert check.passes(90)
    assert not exporting._compare({"a": "hello there"}, {"a": ""}).passes(90)


def test_a_failed_export_leaves_nothing(trained, tmp_path, wav, monkeypatch):
    (tmp_path / "b.wav").write_text("no audio")
    with pytest.raises(Exception, match=r"b\.wav"):
        export(trained, tmp_path / "out", check=[wav, tmp_path / "b.wav"])

    def fail(*_):
        raise ModelFormatError("can't convert")

    monkeypatch.setattr(exporting, "convert", fail)
    with pytest.raises(ModelFormatError, match="can't convert"):
        export(trained, tmp_path / "out")
    assert left_in(tmp_path) == ["a.wav", "b.wav", "trained"]


def test_folders_that_are_not_written_over(trained, tmp_path):
    for name, reason in (("trained", "something else"), ("a", "is a file")):
        if name == "a":
            (tmp_path / name).write_text("mine")
        with pytest.raises(UsageError, match=reason) as caught:
            export(trained, tmp_path / name)
        assert "\n" not in str(caught.value)
    out = tmp_path / "out"
    export(trained, out)
    with pytest.raises(UsageError, match="holds the model itself"):
        export(out / "huggingface", out)
    (tmp_path / "empty").mkdir()
    export(trained, tmp_path / "empty", formats=["huggingface"])
    assert left_in(tmp_path / "empty") == [RECORD, "huggingface"]


# ---------------------------------------------------------------- LoRA


@pytest.fixture
def adapter(tiny_whisper_folder, tmp_path):
    """A folder with a random adapter of the tiny Whisper's decoder, and the model with it unmerged."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    model = load_whisper(tiny_whisper_folder).model
    modules = r".*decoder.*\.(q_proj|v_proj|fc1)"
    config = LoraConfig(r=4, lora_alpha=32, target_modules=modules, init_lora_weights=False)
    config.base_model_name_or_path = str(tiny_whisper_folder)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`")  # peft asks transformers for it
        tuned = get_peft_model(model, config).eval()
    folder = tmp_path / "adapter"
    tuned.save_pretrained(folder, save_embedding_layers=False)
    replace_base(SPANISH, load_whisper(tiny_whisper_folder).revision).write(folder)
    return folder, tuned


def replace_base(record: Targets, revision: str) -> Targets:
    return Targets(targets=record.targets, base=Base("tiny", revision), sources=record.sources)


def test_an_adapter_is_merged_into_its_base(adapter, whisper, tmp_path, wav):
    folder, tuned = adapter
    merged, record = load_trained(folder)
    assert record == read_targets(folder)
    features, start = features_of(whisper), torch.tensor([SPANISH.prompt(whisper, "es")])
    with torch.inference_mode():
        expected = tuned(input_features=features, decoder_input_ids=start).logits
        found = merged.model(input_features=features, decoder_input_ids=start).logits
        without = whisper.model(input_features=features, decoder_input_ids=start).logits
    assert (found - expected).abs().max() < 1e-3 * expected.abs().max()
    assert (without - expected).abs().max() > 0.1 * expected.abs().max()
    assert merged.model.state_dict().keys() == whisper.model.state_dict().keys()
    report = export(folder, tmp_path / "out", quantization="float32", check=[wav])
    assert [check.identical for check in report.checks.values()] == [1, 1]
    assert same_weights(load_whisper(tmp_path / "out" / "huggingface"), merged)
    assert read_targets(tmp_path / "out" / "ctranslate2") == record


def test_adapters_that_do_not_fit(adapter, tmp_path):
    folder, _ = adapter
    replace_base(SPANISH, "another").write(folder)
    with pytest.raises(ModelNotFoundError, match=r"adapter's base model can't be found: .* not another"):
        load_trained(folder)
    (folder / TARGETS_FILE).unlink()
    settings = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(settings | {"r": 2}))
    with pytest.raises(ModelFormatError, match="can't be merged into") as caught:
        load_trained(folder)
    assert "\n" not in str(caught.value)
    (folder / "adapter_config.json").write_text(json.dumps(settings | {"base_model_name_or_path": None}))
    with pytest.raises(ModelFormatError, match="names no base model"):
        load_trained(folder)


def test_half_an_adapter_is_none(adapter):
    from safetensors.torch import load_file, save_file

    folder, _ = adapter
    weights = load_file(folder / "adapter_model.safetensors")
    save_file(dict(list(weights.items())[1:]), folder / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelFormatError, match="missing adapter keys"):
        load_trained(folder)


# ---------------------------------------------------------------- the verb


def test_the_verb(trained, tmp_path, wav, capsys):
    out = tmp_path / "out"
    assert run(["export", str(trained), str(out), "--quantization", "float32", "--check", str(wav)]) == 0
    printed, notes = capsys.readouterr()
    assert notes == ""
    assert "check: ctranslate2: 1 of 1 texts are the same, chrF 100.0" in printed
    assert (
        f'es: WhisperModel("{out}/ctranslate2").transcribe(AUDIO, language="es", task="transcribe", '
        "without_timestamps=True)"
    ) in printed
    command = ["export", str(trained), str(out), "--format", "huggingface", "--dtype", "float16", "--json"]
    assert run(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["written"] is True
    assert list(found["formats"]) == ["huggingface"]
    assert found["dtype"] == "float16"


def test_the_verb_says_that_texts_differ(trained, tmp_path, wav, capsys, monkeypatch):
    monkeypatch.setattr(CTranslate2Engine, "generate", lambda *_: [Decoded([65, 66, 67], -1.0, 0.0, True)])
    assert run(["export", str(trained), str(tmp_path / "out"), "--format", "ctranslate2", "--check", str(wav)]) == 1
    printed, notes = capsys.readouterr()
    assert "0 of 1 texts are the same" in printed
    assert notes.startswith("interlingua: ctranslate2 decodes to something else: chrF ")
    assert notes.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_verb_refuses_in_one_line(trained, tmp_path, capsys):
    for arguments, reason in (
        ([str(trained), str(trained)], "something else"),
        ([str(tmp_path / "none"), str(tmp_path / "out")], "no such folder"),
        ([str(trained), str(tmp_path / "out"), "--quantization", "int4"], "int8"),
        ([str(trained), str(tmp_path / "out"), "--check", str(tmp_path / "none.wav")], "none.wav"),
    ):
        assert run(["export", *arguments]) == 2
        _, notes = capsys.readouterr()
        assert reason in notes
        assert notes.count("\n") == 1
    assert left_in(tmp_path) == ["trained"]


# ---------------------------------------------------------------- the real model


@pytest.mark.model
@pytest.mark.slow
def test_whisper_base_deployed(base_whisper, prompts_manifest, tmp_path):
    """Whisper-base as int8 and float32, each against our own decoder, by CTranslate2 and by faster-whisper."""
    from interlingua.audio import load_audio
    from interlingua.metrics import score_translations

    chosen = [u for u in prompts_manifest if u.language == "en" and 3 < (u.duration or 0) < 4][:3]
    audio = [u.audio.path for u in chosen]
    encoder = WhisperEncoder(base_whisper, context="full")
    samples = [load_audio(path) for path in audio]
    states = [frames for frames, _ in encoder.encode(samples)]
    ours = greedy_tokens(base_whisper, states, base_whisper.prompt("en", "transcribe"))
    texts = [base_whisper.tokenizer.decode(tokens, skip_special_tokens=True).strip() for tokens in ours]
    for quantization, least in (("float32", 100.0), ("int8", 90.0)):
        out = tmp_path / quantization
        formats = ("huggingface", "ctranslate2")[quantization == "int8" :]  # the first knows no quantization
        report = export("base", out, formats=formats, quantization=quantization, check=audio, least_chrf=least)
        assert (report.failed, list(report.checks)) == ([], list(formats))
        if "huggingface" in formats:
            assert report.checks["huggingface"].identical == len(audio)
            assert same_weights(load_whisper(out / "huggingface"), base_whisper)
        faster_whisper = pytest.importorskip("faster_whisper")
        threads = torch.get_num_threads()  # or CTranslate2 would change torch's, for all tests that follow
        engine = faster_whisper.WhisperModel(str(out / "ctranslate2"), device="cpu", cpu_threads=threads)
        heard = {}
        for n, sound in enumerate(samples):
            segments, _ = engine.transcribe(
                sound, language="en", task="transcribe", without_timestamps=True, beam_size=1, temperature=0.0
            )
            heard[str(n)] = "".join(segment.text for segment in segments).strip()
        references = {str(n): text for n, text in enumerate(texts)}
        assert score_translations(heard, references, target="en", metric="chrf").value > 90
