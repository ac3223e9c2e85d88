"""Fine-tuning from manifest to result folder, splits, recipes, and the rows of before and after."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from safetensors.numpy import load_file, save_file

from helpers import END, ROOT, load_results, save_tiny_whisper, sweep, utterance, write_wav
from interlingua.audio import load_audio
from interlingua.cli import run
from interlingua.corpora import read_manifest, split_by_cluster, write_manifest
from interlingua.encoding import FrameStore, WhisperEncoder, encode_manifest
from interlingua.errors import CorpusError, ResultsError, StoreMismatchError, UsageError
from interlingua.experiments import finetune, transfer, transfer_settings
from interlingua.experiments.finetune import run_finetune
from interlingua.experiments.recipes import read_recipe
from interlingua.experiments.transfer import TransferStudy, permuted, run_transfer_study, some_of
from interlingua.finetuning.config import FinetuneConfig
from interlingua.finetuning.data import Example
from interlingua.finetuning.evaluate import pooled_rows, references, transfer_rows
from interlingua.metrics import score_translations
from interlingua.models import load_whisper
from interlingua.models.targets import read_targets
from interlingua.report import write_report
from interlingua.results import load_utterances
from interlingua.types import AudioRef

RECIPES = ROOT / "recipes"
TEXTS = {"en": "a b", "es": "c d", "fr": "e f"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model, ten sentences in three languages with splits, and their states."""
    path = tmp_path_factory.mktemp("finetune")
    model = save_tiny_whisper(path / "tiny")
    spoken = []
    for i in range(10):
        split = "test" if i < 3 else "dev" if i < 5 else "train"
        for j, (language, text) in enumerate(TEXTS.items()):
            wav = write_wav(path / "audio" / f"{language}-{i}.wav", sweep(0.3 + 0.02 * i, 200 + 40 * j, seed=i))
            others = {k: f"{v} {i}" for k, v in TEXTS.items() if k != language}
            spoken.append(
                utterance(
                    language,
                    f"m{i}",
                    audio=AudioRef(str(wav)),
                    text=f"{text} {i}",
                    translations=others,
                    split=split,
                    cluster=f"c{i}",
                )
            )
    write_manifest(path / "manifest.jsonl", spoken)
    whisper = load_whisper(str(model))
    encode_manifest(spoken, WhisperEncoder(whisper, context="speech+1"), path / "store.lance", dtype="float32")
    return path


def config(folder, out, **settings):
    given = {
        "data": str(folder / "manifest.jsonl"),
        "method": "plain",
        "store": (str(folder / "store.lance"),),
        "target": "es",
        "out": out,
    }
    return FinetuneConfig(**{**given, "model": str(folder / "tiny"), "epochs": 2, "compute": "float32", **settings})


def test_a_run_writes_a_model_that_knows_its_target_and_rows_for_every_question(folder, tmp_path):
    out = run_finetune(config(folder, tmp_path / "out", learning_rate=1e-2, l2sp=1e-3), log=lambda line: None)
    results, _ = load_results(out)
    asked = {(r["task"], r["source"], r["target"]): r for r in results["transfer"]}
    assert {k for k in asked if k[0] == "new"} == {("new", "en", "es"), ("new", "fr", "es")}
    assert {k for k in asked if k[0] == "translate"} == {("translate", "es", "en"), ("translate", "fr", "en")}
    assert {k[1] for k in asked if k[0] == "transcribe"} == {k[1] for k in asked if k[0] == "detect"} == set(TEXTS)
    assert asked["new", "en", "es"]["trained"]
    assert not asked["new", "fr", "es"]["trained"]
    assert all(r["n"] == 3 for r in results["transfer"])
    assert read_targets(out / "model").default == "es"
    assert load_whisper(out / "model").model.generation_config.language == "<|es|>"
    # the same call again only reads what is there
    again, _ = load_results(run_finetune(config(folder, out, learning_rate=1e-2, l2sp=1e-3), log=lambda line: None))
    assert again["transfer"] == results["transfer"]


def test_references_without_words_are_left_out_counted_and_named(folder, tmp_path):
    def changed(u):
        if u.split == "train" or not u.id.endswith("0"):
            return u
        return replace(u, text="(Applause)", translations=dict.fromkeys(u.translations, "..."))

    spoken = [changed(u) for u in read_manifest(folder / "manifest.jsonl")]
    assert sum(u.text == "(Applause)" for u in spoken) == 3
    manifest = tmp_path / "manifest.jsonl"
    write_manifest(manifest, spoken)
    lines: list[str] = []
    out = run_finetune(config(folder, tmp_path / "out", data=str(manifest), epochs=1), log=lines.append)
    results, _ = load_results(out)
    assert {r["task"]: r["n"] for r in results["transfer"]} == {"new": 2, "translate": 2, "transcribe": 2, "detect": 3}
    told = [line for line in lines if "without words" in line]
    assert len(told) == 7  # three transcripts, two translations into either target
    assert all("left out 1 of 5 references" in line for line in told)
    assert any(line.startswith("en-en: ") and "0'" in line for line in told)


def changed(folder, path, *changes):
    """The manifest with (id, field, value) changed, beside the audio's folder."""
    spoken = {u.id: u for u in read_manifest(folder / "manifest.jsonl")}
    for name, field, value in changes:
        spoken[name] = replace(spoken[name], **{field: value})
    write_manifest(path, spoken.values())
    return str(path)


def test_what_cant_be_trained_on_is_left_out_and_named_or_refused(folder, tmp_path, capsys):
    spoken = [u for u in read_manifest(folder / "manifest.jsonl") if u.language == "en"]
    empty, long, test = (u.id for u in (spoken[5], spoken[6], spoken[0]))
    given = changed(
        folder,
        tmp_path / "m.jsonl",
        (empty, "translations", {"es": " "}),
        (long, "translations", {"es": "c d " * 200}),
        (test, "translations", {"es": ""}),  # of the test split: counted there
    )
    told: list[str] = []
    out = run_finetune(config(folder, tmp_path / "out", data=given, epochs=1), log=told.append)
    left = [line for line in told if line.startswith("left out of training: ")]
    assert left == [
        f"left out of training: the reference is empty, or has no words: 1 of 5: {empty!r}",
        f"left out of training: the reference is longer than the decoder's 24 tokens: 1 of 5: {long!r}",
    ]
    assert any(line.startswith("3 examples") for line in told)
    with pytest.raises(CorpusError, match=r"--strict: .* 1 of 5: .*; mend them, or omit --strict$"):
        run_finetune(config(folder, tmp_path / "other", data=given, strict=True), log=told.append)
    assert not (tmp_path / "other").exists()
    run_finetune(config(folder, out, data=given, epochs=1), log=told.append)  # resumes


def test_nothing_left_to_train_on_is_one_line(folder, tmp_path):
    spoken = [u for u in read_manifest(folder / "manifest.jsonl") if u.language == "en" and u.split == "train"]
    given = changed(folder, tmp_path / "m.jsonl", *((u.id, "translations", {"es": "..."}) for u in spoken))
    with pytest.raises(CorpusError, match=r"m.jsonl: nothing to train on is left: the reference is empty.* 5 of 5: "):
        run_finetune(config(folder, tmp_path / "out", data=given), log=lambda line: None)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"target": "zh-CN"}, {"target": "zh"}),
        ({"target": "Spanish", "source": ("en-US", "English")}, {"target": "es", "source": ("en",)}),
        ({"others": ("cmn_hans_cn",), "rehearse": ("source",)}, {"others": ("zh",), "rehearse": ("en",)}),
        ({"rehearse_as": ("all",)}, {"rehearse_as": ("all",)}),
    ],
)
def test_languages_are_normalised(folder, tmp_path, given, found):
    made = config(folder, tmp_path, **given)
    assert {name: getattr(made, name) for name in found} == found


def test_an_unknown_language_names_its_option(folder, tmp_path):
    with pytest.raises(UsageError, match=r"^--source: unknown language 'nonsense'"):
        config(folder, tmp_path, source=("nonsense",))


def test_loss_and_dev_scores_are_kept_and_shown(folder, tmp_path):
    out = run_finetune(config(folder, tmp_path / "out", epochs=3), log=lambda line: None)
    points = load_results(out)[0]["training"]
    on_dev = [p for p in points if p.get("dev")]
    assert [p["step"] for p in on_dev] == [1, 2, 3]
    assert all(set(p["dev"]) == {"chrf", "bleu"} for p in on_dev)
    write_report(out)
    rows = (out / "tables" / "training.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0] == "Step,Loss,Dev chrF,Dev BLEU"
    assert len(rows) == 1 + len(points)


def test_without_a_store_states_are_made_and_kept_or_made_on_the_fly(folder, tmp_path, monkeypatch):
    told = []
    cached, live = (config(folder, tmp_path / n, store=(), context="speech+1") for n in ("cached", "live"))
    run_finetune(cached, log=told.append)
    assert (tmp_path / "cached" / "frames.lance").is_dir()
    monkeypatch.setattr(finetune, "free_bytes", lambda path: 1000)
    run_finetune(live, log=told.append)
    assert not (tmp_path / "live" / "frames.lance").exists()
    assert any("they don't fit; every epoch encodes" in line for line in told)
    rows = [load_results(tmp_path / n)[0]["transfer"] for n in ("cached", "live")]
    assert rows[0] == rows[1]  # float16 states either way


def test_several_contexts_are_learnt_and_both_are_measured(folder, tmp_path):
    whisper = load_whisper(str(folder / "tiny"))
    spoken = read_manifest(folder / "manifest.jsonl")
    encode_manifest(spoken, WhisperEncoder(whisper, context="speech"), tmp_path / "short.lance", dtype="float32")
    stores = (str(folder / "store.lance"), str(tmp_path / "short.lance"))
    settings = config(folder, tmp_path / "out", store=stores, others=("fr",))
    results, _ = load_results(run_finetune(settings, log=lambda line: None))
    pools = [r["pool"] for r in results["transfer_pooled"]]
    assert "other targets" in pools
    assert f"into English, read from {stores[1]}" in pools
    assert {r["target"] for r in results["transfer"] if r["task"] == "other"} == {"fr"}


def test_two_processes_do_what_one_does_with_two_batches_a_step(folder, tmp_path):
    spoken = [u for u in read_manifest(folder / "manifest.jsonl") if u.split != "train" or u.meaning != "m9"]
    write_manifest(tmp_path / "even.jsonl", spoken)  # four utterances to train on: two batches, one for each
    flags = [
        str(tmp_path / "even.jsonl"),
        "--method",
        "plain",
        "--store",
        str(folder / "store.lance"),
        "--target",
        "es",
    ]
    flags += ["--model", str(folder / "tiny"), "--epochs", "2", "--compute", "float32", "--batch-size", "2"]
    programs = Path(sys.executable).parent
    begin = [str(programs / "torchrun"), "--nproc-per-node", "2", str(programs / "interlingua"), "finetune"]
    ran = subprocess.run([*begin, *flags, "--out", str(tmp_path / "two")], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.count("model: ") == 1
    assert run(["finetune", *flags, "--accumulation", "2", "--out", str(tmp_path / "one")]) == 0
    one, two = (load_whisper(tmp_path / name / "model").model.state_dict() for name in ("one", "two"))
    for name, values in one.items():
        torch.testing.assert_close(two[name], values, rtol=0, atol=1e-6)


def test_a_folder_of_other_settings_is_refused(folder, tmp_path):
    run_finetune(config(folder, tmp_path, epochs=1), log=lambda line: None)
    with pytest.raises(ResultsError, match=r"begun with epochs 1, not 2; name another --out"):
        run_finetune(config(folder, tmp_path, epochs=2), log=lambda line: None)


def test_states_of_another_model_are_refused(folder, tmp_path):
    other = save_tiny_whisper(tmp_path / "other")
    settings = json.loads((other / "config.json").read_text())
    whisper = load_whisper(str(other))
    whisper.model.model.decoder.layers[0].fc1.weight.data += 1
    whisper.model.save_pretrained(other)
    assert json.loads((other / "config.json").read_text())["d_model"] == settings["d_model"]
    with pytest.raises(StoreMismatchError, match="decoding reads unpooled frames of the last layer of"):
        run_finetune(config(folder, tmp_path / "out", model=str(other)), log=lambda line: None)


def test_a_regularizer_from_outside_by_flag_and_by_recipe(folder, tmp_path, monkeypatch, capsys):
    code = "class Nothing:\n    def __init__(self, strength, start): print('strength', strength)\n"
    (tmp_path / "toy_from_outside.py").write_text(code + "    def loss(self, step): return step.logits.sum() * 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    given = {
        "data": str(folder / "manifest.jsonl"),
        "method": "plain",
        "store": [str(folder / "store.lance")],
        "target": "es",
    }
    given |= {"model": str(folder / "tiny"), "epochs": 1, "compute": "float32"}
    flags = [word for name, value in given.items() for word in (f"--{name}", value[0] if name == "store" else value)]
    flags = [*map(str, flags), "--out", str(tmp_path / "flag")]
    assert run(["finetune", *flags, "--regularize", "toy_from_outside:Nothing=0.25"]) == 0
    assert "strength 0.25" in capsys.readouterr().out
    path = tmp_path / "r.yaml"
    own = {"recipe": "finetune", "out": str(tmp_path / "recipe"), "regularize": {"toy_from_outside:Nothing": 0.5}}
    path.write_text(json.dumps(own | given))
    assert run(["run", str(path)]) == 0
    assert "strength 0.5" in capsys.readouterr().out
    rows = [load_results(tmp_path / name)[0]["transfer"] for name in ("flag", "recipe")]
    assert rows[0] == rows[1]
    assert run(["finetune", *flags, "--regularize", "nothing"]) == 2
    assert "write name=strength" in capsys.readouterr().err


def test_the_command_prints_rows_and_a_missing_reference_is_one_line(folder, tmp_path, capsys):
    flags = [str(folder / "manifest.jsonl"), "--method", "plain", "--store", str(folder / "store.lance")]
    flags += ["--model", str(folder / "tiny"), "--epochs", "1", "--compute", "float32"]
    assert run(["finetune", *flags, "--target", "es", "--out", str(tmp_path / "a")]) == 0
    assert "fr into es" in capsys.readouterr().out
    assert run(["finetune", *flags, "--target", "de", "--out", str(tmp_path / "b")]) == 2
    assert "no utterance of en in split 'train' has a reference in 'de'" in capsys.readouterr().err


@pytest.mark.parametrize("more", [(), ("--train-encoder-layers", "1", "--dev-split", "none")])
def test_one_line_from_data_to_a_model_that_translates(folder, tmp_path, monkeypatch, capsys, more):
    monkeypatch.chdir(tmp_path)
    path = save_tiny_whisper(tmp_path / "ending") / "model.safetensors"  # its outputs end, and can be rehearsed
    weights, draw = load_file(path), np.random.default_rng(0)
    for name, values in sorted(weights.items()):
        if values.ndim > 1 and "encoder.embed_positions" not in name:
            weights[name] = (draw.integers(-48, 49, values.shape) / 256).astype(np.float32)
    weights["model.decoder.embed_tokens.weight"][END] *= 4
    save_file(weights, path, metadata={"format": "pt"})
    flags = ["--target", "es", "--model", str(path.parent), "--context", "speech+1", "--steps", "4"]
    assert run(["finetune", str(folder / "manifest.jsonl"), *flags, "--out", "es", *more]) == 0
    after, upper = load_file("es/model/model.safetensors"), "model.encoder.layers.1."
    assert (FrameStore.open("es/frames.lance").spec.layer == 1) == bool(more)
    changed_encoder = {n for n in weights if "encoder." in n and "decoder" not in n and (after[n] != weights[n]).any()}
    assert all(n.startswith((upper, "model.encoder.layer_norm")) for n in changed_encoder)
    assert bool(changed_encoder) == bool(more)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 10
    assert [line.split("  ")[0] for line in lines[:5]] == [
        *("en into es, trained on", "fr into es", "into English", "transcription", "language identification")
    ]
    begun = json.loads((tmp_path / "es" / "begun.json").read_text())
    assert (begun["method"], begun["distillation"], begun["steps"]) == ("keep", 1.0, 4)
    assert set(begun["rehearse_as"]) >= {"en", "es", "fr"}
    assert lines[-2] == "next: interlingua translate RECORDING --model es/model --to es"
    recording = str(folder / "audio" / "fr-0.wav")
    command = ["translate", recording, "--model", "es/model", "--to", "es", "--from", "fr", "--no-vad"]
    assert run([*command, "--out", "said"]) == 0
    assert list((tmp_path / "said").iterdir())


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ("2", "tiny has 2 encoder layers, and the lowest stays frozen"),
        ("-1", "--train-encoder-layers -1: use 0 or more"),
        ("1", "decoding reads unpooled frames of layer 1 of tiny itself"),
    ],
)
def test_encoder_layers_that_cant_be_trained_are_refused(folder, tmp_path, capsys, layers, said):
    command = ["finetune", str(folder / "manifest.jsonl"), "--store", str(folder / "store.lance"), "--target", "es"]
    command += ["--model", str(folder / "tiny"), "--out", str(tmp_path / "out")]
    assert run([*command, "--train-encoder-layers", layers]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.model
@pytest.mark.slow
def test_twenty_prompts_become_a_model_that_faster_whisper_runs(prompts_manifest, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    spoken = [u for u in prompts_manifest if u.language == "en" and 2 < (u.duration or 0) < 4][:20]
    parts = ["train"] * 14 + ["dev"] * 3 + ["test"] * 3
    write_manifest("prompts.jsonl", [replace(u, split=part) for u, part in zip(spoken, parts, strict=True)])
    assert (
        run(["finetune", "prompts.jsonl", "--target", "es", "--out", "es", "--steps", "20", "--dev-split", "none"]) == 0
    )
    assert "en into es, trained on" in capsys.readouterr().out
    audio = [str(u.audio.path) for u in spoken[:3]]
    assert run(["export", "es/model", "exported", "--check", audio[0]]) == 0
    flags = ["--to", "es", "--from", "en", "--context", "full", "--no-vad", "--no-guards", "--json"]
    capsys.readouterr()
    assert run(["translate", *audio, "--model", "exported/ctranslate2", *flags]) == 0
    said = {Path(line["id"]).stem: line["text"] for line in map(json.loads, capsys.readouterr().out.splitlines())}
    faster_whisper = pytest.importorskip("faster_whisper")
    engine = faster_whisper.WhisperModel("exported/ctranslate2", device="cpu", cpu_threads=torch.get_num_threads())
    heard = {}
    for path in audio:
        segments, _ = engine.transcribe(
            load_audio(path), language="es", task="transcribe", without_timestamps=True, beam_size=1, temperature=0.0
        )
        heard[Path(path).stem] = "".join(segment.text for segment in segments).strip()
    assert all(heard.values())
    assert score_translations(heard, said, target="es", metric="chrf").value > 80


def test_a_source_language_without_a_token_goes_by_another_s(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    french = [u.id for u in read_manifest(folder / "manifest.jsonl") if u.language == "fr"]
    changed(folder, tmp_path / "mdw.jsonl", *((i, "language", "mdw") for i in french))
    command = ["finetune", "mdw.jsonl", "--store", str(folder / "store.lance"), "--model", str(folder / "tiny")]
    command += ["--method", "plain", "--target", "es", "--steps", "2", "--compute", "float32"]
    assert run([*command, "--source", "en", "--as", "sw", "--out", "en"]) == 2
    assert "--as sw: en have tokens of their own; leave it out" in capsys.readouterr().err
    for out, more, chosen in (("by-rule", (), "ln sw sn"), ("given", ("--as", "swahili"), "sw")):
        assert run([*command, "--source", "mdw", *more, "--out", out]) == 0
        said = capsys.readouterr()
        assert "mdw into es, trained on" in said.out
        assert f"next: interlingua translate RECORDING --from mdw --model {out}/model --to es" in said.out
        assert ("Mboshi has no token in tiny: proxy language" in said.err) == (not more)
        proxies = read_targets(tmp_path / out / "model").proxies
        assert proxies["mdw"] in chosen.split()
        speech = ["translate", str(folder / "audio" / "fr-0.wav"), "--from", "mdw", "--no-vad", "--json"]
        assert run([*speech, "--model", f"{out}/model", "--to", "es"]) == 0
        said = capsys.readouterr()
        assert json.loads(said.out)["token"] == proxies["mdw"]
        assert "proxy language" not in said.err
    assert run(["export", "given/model", "exported", "--format", "ctranslate2"]) == 0
    assert 'mdw: has no token; where a prompt names the speech, write language="sw"' in capsys.readouterr().out


def test_splits_keep_clusters_whole_and_test_everything_once():
    spoken = [utterance("en", f"m{i}", cluster=f"c{i // 2}") for i in range(40)]
    tested = []
    for fold in range(5):
        split = split_by_cluster(spoken, fold)
        of = {}
        for u in split:
            of.setdefault(u.cluster, set()).add(u.split)
        assert all(len(s) == 1 for s in of.values())
        assert {u.split for u in split} == {"train", "dev", "test"}
        tested += [u.id for u in split if u.split == "test"]
    assert sorted(tested) == sorted(u.id for u in spoken)
    with pytest.raises(UsageError, match="fold 5: use 0 to 4"):
        split_by_cluster(spoken, 5)
    with pytest.raises(UsageError, match="4 clusters can't be split"):
        split_by_cluster(spoken[:8], 0)


def test_the_control_gives_every_text_to_another_utterance():
    examples = [Example(f"u{i}", (1,), (i, 9)) for i in range(7)]
    dealt = permuted(examples, seed=3)
    assert [e.utterance for e in dealt] == [e.utterance for e in examples]
    assert sorted(e.labels for e in dealt) == sorted(e.labels for e in examples)
    assert all(a.labels != b.labels for a, b in zip(dealt, examples, strict=True))


def test_rows_join_by_id_and_a_missing_answer_counts_as_empty():
    spoken = [
        utterance("fr", f"m{i}", text=f"bonjour {i}", translations={"es": f"hola amigo {i}", "en": f"hello {i}"})
        for i in range(6)
    ]
    said = references(spoken, "fr", "es")
    assert said["fr/m3"] == "hola amigo 3"
    nothing = {"new fr-es": {}, "translate fr-en": {}, "transcribe fr-fr": {}}
    right = {
        "new fr-es": said,
        "translate fr-en": references(spoken, "fr", "en"),
        "transcribe fr-fr": references(spoken, "fr", "fr"),
    }
    rows = {r.task: r for r in transfer_rows(nothing, right, spoken, ["en"])}
    assert rows["new"].chrf.before.value == 0
    assert rows["new"].chrf.after.value == pytest.approx(100)
    assert rows["new"].chrf.difference.value == pytest.approx(100)
    assert rows["new"].off_target.before.value == 1
    assert rows["transcribe"].error.before.value == pytest.approx(100)
    assert rows["transcribe"].error.after.value == 0
    pooled = {r.pool: r.chrf.value for r in pooled_rows(right, right, spoken, ["en"])}
    assert pooled == {"new, sources never trained on": 0, "into English": 0}


def test_several_recordings_of_a_sentence_are_resampled_as_one():
    """Ten sentences without clusters, three recordings each; half the sentences are wrong, in all their recordings."""
    texts = {f"m{i}": f"hola amigo numero {i}" for i in range(10)}
    spoken = [
        utterance("fr", m, id=f"fr/{m}/{k}", translations={"es": text}) for m, text in texts.items() for k in range(3)
    ]
    wrong = {u.id: u.meaning in list(texts)[:5] for u in spoken}
    nothing = {"new fr-es": {}, "detect fr-fr": {}}
    said = {
        "new fr-es": {u.id: "" if wrong[u.id] else texts[u.meaning] for u in spoken},
        "detect fr-fr": {u.id: "it" if wrong[u.id] else "fr" for u in spoken},
    }
    rows = {r.task: r for r in transfer_rows(nothing, said, spoken, ["en"])}
    drawn = np.random.default_rng(12345).multinomial(10, [0.1] * 10, size=1000)[:, :5].sum(axis=1)  # wrong sentences
    assert rows["detect"].error.after.ci == pytest.approx(np.percentile(10 * drawn, [2.5, 97.5]))
    meanings = {u.id: u.meaning for u in spoken}
    by_sentence = score_translations(
        said["new fr-es"], references(spoken, "fr", "es"), target="es", metric="chrf", clusters=meanings
    )
    assert rows["new"].chrf.after.ci == pytest.approx(by_sentence.ci)
    (pool,) = pooled_rows(nothing, said, spoken, ["en"])
    assert pool.chrf.ci == pytest.approx(by_sentence.ci)  # nothing was said before


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda p: p.stem)
def test_the_recipes_are_valid(path):
    settings = read_recipe(path)
    assert settings.plan()
    assert settings.out
    if isinstance(settings, TransferStudy):
        assert all(model.config for model in settings.models())


def test_a_dry_run_says_what_is_needed_and_does_nothing(folder, tmp_path, capsys):
    path = tmp_path / "r.yaml"
    out = tmp_path / "out"
    path.write_text(
        f"recipe: finetune\nmethod: plain\ndata: {folder / 'manifest.jsonl'}\ntarget: es\n"
        f"out: {out}\nmodel: {folder / 'tiny'}\n"
    )
    assert run(["run", str(path), "--dry-run"]) == 0
    said = capsys.readouterr().err
    assert "5 utterances to train on, 6 to choose by, 9 to measure on" in said
    assert re.search(
        r"to encode: 20 utterances, 0.00 h of audio; their frames take about \d MB, [\d.,]+ GB are free", said
    )
    assert not out.exists()


@pytest.fixture
def study(folder, tmp_path, monkeypatch):
    """A study of the tiny model on the tiny corpus; counts trainings."""
    spoken = [replace(u, split=None) for u in read_manifest(folder / "manifest.jsonl")]
    monkeypatch.setattr(transfer_settings, "prepare_prompts", lambda **_: spoken)
    trained = []
    original = transfer.train

    def counted(*args, **options):
        trained.append(args[3])
        return original(*args, **options)

    monkeypatch.setattr(transfer, "train", counted)

    def make(variants, **settings):
        given = {"targets": ("es",), "settings": {"epochs": 1, "learning_rate": 1e-3, "compute": "float32"}}
        given |= {"out": tmp_path / "study", "shared": tmp_path / "shared", "model": str(folder / "tiny"), **settings}
        return TransferStudy(variants=variants, **given)

    return make, trained


def test_a_study_trains_each_training_once_and_measures_every_variant(study, tmp_path):
    make, trained = study
    variants = {
        "plain": {},
        "permuted": {},
        "wise-ft": {"alphas": [1.0, 0.5]},
        "l2sp": [{"l2sp": 1.0}, {"l2sp": 0.1}],
        "fr": {"source": ["fr"]},
        "half": {"utterances": 3},
    }
    told = []
    results, _ = load_results(run_transfer_study(make(variants), log=told.append))
    assert len(trained) == 6  # wise-ft is plain's training
    rows = {r["variant"]: r for r in results["study"]}
    assert list(rows) == list(variants)
    assert rows["l2sp"]["candidates"] == 2
    assert rows["fr"]["sources"] == ["fr"]
    assert [c["alpha"] for c in rows["plain"]["chosen"]] == [1.0]
    assert rows["plain"]["relative_gain"].get("value") in (1.0, None)
    assert {r["task"] for r in rows["plain"]["table"]} == {"new", "translate"}
    assert {(r["source"], r["trained"]) for r in rows["fr"]["table"] if r["task"] == "new"} == {
        ("en", False),
        ("fr", True),
    }
    kept = load_utterances(tmp_path / "study")
    systems = ["untrained", *variants]
    english = next(r for r in kept if r.utterance.language == "en")
    assert [(t.system, t.target) for t in english.translations] == [(s, "es") for s in systems]
    assert [t.system for t in english.transcripts] == systems
    french = next(r for r in kept if r.utterance.language == "fr")
    assert [(t.system, t.target) for t in french.translations] == [(s, t) for s in systems for t in ("es", "en")]
    curves = {p["name"]: p.get("curve") for p in results["pareto"]}
    assert len(curves["wise-ft"]) == 3  # none, half and all
    assert curves["l2sp"] is None  # two trainings
    assert curves["plain"] is None
    told.clear()
    again, _ = load_results(run_transfer_study(make(variants), log=told.append))
    assert len(trained) == 6
    half = next((tmp_path / "shared" / "trainings").glob("*/test-0.5.jsonl"))
    half.unlink()  # a weight that is added later
    run_transfer_study(make(variants), dry_run=True, log=told.append)
    assert told[-1] == "to train: 1 trainings"
    run_transfer_study(make(variants), log=lambda line: None)
    trained.pop()
    assert again["study"] == results["study"]
    # another study of the same model finds what is done, and leaves out what isn't
    other = make({"plain": {}, "new": {"l2sp": 2.0}}, out=tmp_path / "other")
    found, _ = load_results(run_transfer_study(other, train=False, log=lambda line: None))
    assert [r["variant"] for r in found["study"]] == ["plain"]
    assert len(trained) == 6


def test_a_shared_folder_is_of_one_model(study, folder, tmp_path):
    make, _ = study
    variants = {"plain": {}}
    run_transfer_study(make(variants), log=lambda line: None)
    other = save_tiny_whisper(tmp_path / "other")
    with pytest.raises(ResultsError, match="begun with model"):
        run_transfer_study(make(variants, model=str(other)), log=lambda line: None)


def test_a_smaller_draw_is_part_of_a_larger_one():
    spoken = [utterance("en", f"m{i}") for i in range(20)]
    small, large = (some_of(spoken, n, seed=1) for n in (5, 12))
    assert len(small) == 5
    assert {u.id for u in small} < {u.id for u in large}
    assert some_of(spoken, None, seed=1) == spoken


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recipe: [", "no readable YAML"),
        ("recipe: nothing", "say which experiment it is"),
        ("recipe: transfer\nout: x\nepochs: 3", "no setting 'epochs'"),
        ("recipe: transfer\nout: x\ntargets: 3", r"Expected `array`"),
        ("recipe: transfer\nout: x\nvariants: {permuted: {}}", "'plain' is missing"),
        ("recipe: transfer\nout: x\nvariants: {plain: {}, permuted: {lr: 1}}", "permuted: no setting 'lr'"),
        ("recipe: transfer\nout: x\nvariants: {plain: {seed: 1}}", "plain: no setting 'seed'"),
        ("recipe: transfer\nout: x\nvariants: {plain: {epochs: 0}}", "plain: --epochs 0: use 1 or more"),
        ("recipe: transfer\nout: x\nvariants: {plain: {source: fr}}", "plain: Expected `array`"),
        ("recipe: transfer\nout: x\nvariants: {plain: {alphas: []}}", "plain: nothing to choose from"),
        ("recipe: finetune\ndata: a\nstore: [b]\ntarget: es\nout: c\nepochs: 0", "--epochs 0: use 1 or more"),
    ],
)
def test_a_wrong_recipe_is_one_line_with_the_file(tmp_path, text, message):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        read_recipe(path)
    assert str(path) in str(caught.value)
    with pytest.raises(UsageError, match="no such file"):
        read_recipe(tmp_path / "missing.yaml")


def test_settings_that_are_the_method_s_hold_where_pydantic_checks_them(tmp_path):
    """cyclopts lets pydantic check every field of a command, defaults too, once something has imported it."""
    code = (
        "import pydantic\nfrom interlingua.cli.finetune import app\n"
        "app.parse_args(['m', '--target', 'es', '--out', 'x'], exit_on_error=False, print_error=False)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
