"""Training a decoder: only what is meant to move moves, an interruption changes nothing, the best epoch stays."""

import copy
import gc
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import END, intended, sweep, utterance
from interlingua.encoding import WhisperEncoder
from interlingua.encoding.store import FrameStore
from interlingua.errors import CorpusError, ResultsError, StoreError, UsageError
from interlingua.finetuning.config import FinetuneConfig
from interlingua.finetuning.data import Example, collate, translation_examples
from interlingua.finetuning.model import CachedDecoder, UpperStates
from interlingua.finetuning.regularizers import Distillation, save_values
from interlingua.finetuning.trainer import CachedTrainer, fisher_of, train
from interlingua.types import Frames

DIM = 32
N_NEW = 10  # three batches of four, the last one of two
TARGET = "es"


@pytest.fixture(scope="module", autouse=True)
def _quick_collection():
    """accelerate collects garbage before every training: what is there already is left out, a quarter second each."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def fresh(tiny_whisper):
    """Gives a tiny Whisper as it was before any training."""
    return lambda: replace(tiny_whisper, model=copy.deepcopy(tiny_whisper.model))


@pytest.fixture
def whisper(fresh):
    return fresh()


@pytest.fixture(scope="module")
def store(tiny_whisper, tmp_path_factory):
    made = FrameStore.create(
        tmp_path_factory.mktemp("states") / "s.lance", WhisperEncoder(tiny_whisper, context="full").spec, DIM
    )
    random = np.random.default_rng(0)
    lengths = [(f"{lang}/{i}", 3 + i) for lang in ("en", "fr") for i in range(N_NEW)]
    made.write([Frames(name, random.normal(size=(n, DIM)).astype(np.float16), n - 1) for name, n in lengths])
    return made


@pytest.fixture(scope="module")
def new(tiny_whisper):
    texts = ["hola", "adios", "uno", "dos", "tres", "si", "no", "gracias", "agua", "sol"]
    spoken = [utterance("en", id=f"en/{i}", translations={TARGET: text}) for i, text in enumerate(texts)]
    return translation_examples(spoken, tiny_whisper, TARGET, "target-transcribe")


@pytest.fixture(scope="module")
def old(tiny_whisper):
    prompt = tuple(tiny_whisper.prompt("fr", "transcribe"))
    return [Example(f"fr/{i}", prompt, (*range(70, 73 + i), END), rehearsal=True) for i in range(5)]


def config(**fields):
    fields = {"epochs": 1, "learning_rate": 1e-3, "batch_size": 4, "compute": "float32", **fields}
    return FinetuneConfig(data="m.jsonl", method="plain", store=("s.lance",), target=TARGET, out=Path("out"), **fields)


def mean_loss(whisper, examples, store):
    batch = collate(list(zip(examples, store.read([e.utterance for e in examples]), strict=True)))
    with torch.no_grad():
        step = CachedDecoder(whisper)(**batch)
        return float(torch.nn.functional.cross_entropy(step.logits, step.labels))


def values_of(whisper):
    return {name: v.clone() for name, v in whisper.model.state_dict().items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, v in one.items():
        assert torch.equal(v, other[name]), name


def names_in(whisper):
    return [name for name, _ in whisper.model.model.decoder.named_parameters()]


def of_decoder(names):
    return {f"decoder.{name}" for name in names}


def same(one, other):
    return all(torch.equal(v, other[name]) for name, v in one.items())


# ---------------------------------------------------------------- what moves


@pytest.mark.parametrize("frozen_layers", [0, 1])
@pytest.mark.parametrize("embeddings", [False, True])
@pytest.mark.parametrize("trainable", ["decoder", "cross-attention", "lora"])
def test_what_is_to_be_trained_moves_and_nothing_else(
    whisper, store, new, tmp_path, trainable, embeddings, frozen_layers
):
    before = values_of(whisper)
    expected = intended(names_in(whisper), trainable, embeddings, frozen_layers)
    settings = config(trainable=trainable, embeddings=embeddings, frozen_layers=frozen_layers, lora_rank=4)
    change = train(whisper, new, store, settings, folder=tmp_path)
    after = whisper.model.state_dict()
    assert after.keys() == before.keys()  # no adapter stays
    moved = {name for name, v in before.items() if not torch.equal(v, after[name])} - {"proj_out.weight"}
    assert {name.removeprefix("model.decoder.") for name in moved} == expected
    assert torch.equal(after["proj_out.weight"], after["model.decoder.embed_tokens.weight"])
    assert change.before.keys() == change.after.keys() == of_decoder(expected)
    for name in expected:
        assert torch.equal(change.before[f"decoder.{name}"], before[f"model.decoder.{name}"])
        assert torch.equal(change.after[f"decoder.{name}"], after[f"model.decoder.{name}"])


def test_the_encoder_s_top_moves_too_and_the_model_after_reads_audio(whisper, new, tmp_path):
    """Trained on stored states of the layer below; the whole encoder on the audio then gives what was trained on."""
    audio = {e.utterance: sweep(0.3 + 0.1 * i, 200.0 + 90 * i, i) for i, e in enumerate(new)}
    encoder = WhisperEncoder(whisper, context="speech+1", layer=1)
    below = FrameStore.create(tmp_path / "below.lance", encoder.spec, DIM)
    encoded = encoder.encode(list(audio.values()))
    below.write([Frames(i, v.astype(np.float16), n) for i, (v, n) in zip(audio, encoded, strict=True)])
    before, states = values_of(whisper), UpperStates(below, whisper, 1)
    at_first = states.read(list(audio))

    def by_the_whole_encoder():
        return [values for values, _ in WhisperEncoder(whisper, context="speech+1").encode(list(audio.values()))]

    change = train(whisper, new, below, config(train_encoder_layers=1, epochs=3), folder=tmp_path / "checkpoints")
    moved = {name for name, v in before.items() if not torch.equal(v, whisper.model.state_dict()[name])}
    encoder_s = {name for name in moved if "decoder" not in name and name != "proj_out.weight"}
    assert encoder_s == {n for n in before if n.startswith(("model.encoder.layers.1.", "model.encoder.layer_norm."))}
    assert moved - encoder_s == {f"model.decoder.{n}" for n in intended(names_in(whisper), "decoder", False, 0)}
    for found, now, was in zip(states.read(list(audio)), by_the_whole_encoder(), at_first, strict=True):
        np.testing.assert_allclose(found.values, now, atol=0.02)  # stored in float16
        assert np.abs(found.values - was.values).max() > 0.02
        assert found.n_speech == was.n_speech
    losses = [mean_loss(whisper, new, states)]
    change.apply(whisper, 0.0)
    assert_same(values_of(whisper), before)
    assert losses[0] < mean_loss(whisper, new, states)
    with pytest.raises(UsageError, match="--train-encoder-layers out"):
        train(whisper, new, below, config(train_encoder_layers=1, trainable="target"), folder=tmp_path / "2")


@pytest.mark.parametrize("regularizer", [{}, {"l2sp": 0.1}, {"replay": 1.0}])
def test_of_the_target_one_row_moves(whisper, store, new, old, tmp_path, regularizer):
    before = values_of(whisper)
    settings = config(trainable="target", epochs=3, **regularizer)
    change = train(whisper, [*old, *new], store, settings, folder=tmp_path)  # in whatever order they come
    assert list(change.after) == ["decoder.embed_tokens.weight"]
    apart = (
        (change.after["decoder.embed_tokens.weight"] - change.before["decoder.embed_tokens.weight"]).abs().sum(dim=1)
    )
    assert apart.nonzero().flatten().tolist() == [whisper.language_token(TARGET)]
    after = whisper.model.state_dict()
    assert {n for n, v in before.items() if not torch.equal(v, after[n])} == {
        "model.decoder.embed_tokens.weight",
        "proj_out.weight",
    }


def test_a_model_can_be_taught_twice(whisper, store, new, tmp_path):
    train(whisper, new, store, config(trainable="lora"), folder=tmp_path / "1")
    between = values_of(whisper)
    change = train(whisper, new, store, config(trainable="lora", frozen_layers=1), folder=tmp_path / "2")
    assert change.after.keys() == of_decoder(intended(names_in(whisper), "lora", False, 1))
    change.apply(whisper, 0.0)
    assert_same(values_of(whisper), between)


def test_the_interpolation_weight_can_be_chosen_after_training(whisper, store, new, tmp_path):
    before = values_of(whisper)
    change = train(whisper, new, store, config(epochs=3), folder=tmp_path)
    after = values_of(whisper)
    losses = []
    for alpha in (0.0, 0.5, 1.0):
        change.apply(whisper, alpha)
        losses.append(mean_loss(whisper, new, store))
    assert losses[0] > losses[1] > losses[2]
    assert_same(values_of(whisper), after)
    change.apply(whisper, 0.0)
    assert_same(values_of(whisper), before)


# ---------------------------------------------------------------- what is learned


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
@pytest.mark.parametrize("trainable", ["decoder", "lora"])
def test_the_loss_falls(whisper, store, new, tmp_path, compute, trainable):
    before = mean_loss(whisper, new, store)
    settings = config(trainable=trainable, epochs=8, learning_rate=5e-3)
    train(whisper, new, store, settings, folder=tmp_path, compute=compute)
    assert mean_loss(whisper, new, store) < 0.8 * before
    assert {p.dtype for p in whisper.model.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in whisper.model.parameters())
    assert not whisper.model.model.decoder.training


def test_numbers_of_another_format_are_near(fresh, store, new, old, tmp_path):
    found = {}
    for compute in ("float32", "bfloat16"):
        settings = config(epochs=2, distillation=1.0)
        found[compute] = train(fresh(), [*new, *old], store, settings, folder=tmp_path / compute, compute=compute)
    assert not same(found["float32"].after, found["bfloat16"].after)
    for name, v in found["float32"].after.items():
        start = found["float32"].before[name]
        assert (v - found["bfloat16"].after[name]).norm() < 0.7 * (v - start).norm(), name


@pytest.mark.parametrize("regularizer", [{"distillation": 1.0}, {"ewc": 1e4}, {"l2sp": 1.0}])
def test_a_regularizer_keeps_the_decoder_nearer_to_what_it_was(fresh, store, new, old, tmp_path, regularizer):
    batch = collate(list(zip(old, store.read([e.utterance for e in old]), strict=True)))
    with torch.no_grad():
        known = CachedDecoder(fresh())(**batch).logits.log_softmax(-1)

    def drift(**fields):
        whisper = fresh()
        settings = config(epochs=6, learning_rate=3e-3, **fields)
        train(whisper, [*new, *old], store, settings, folder=tmp_path / str(len(fields)))
        with torch.no_grad():
            now = CachedDecoder(whisper)(**batch).logits.log_softmax(-1)
        return float((known.exp() * (known - now)).sum())

    assert drift(**regularizer) < 0.9 * drift()


def test_what_is_replayed_is_learned_beside_the_new(fresh, store, new, old, tmp_path):
    losses = []
    for strength in (0.0, 1.0):
        whisper = fresh()
        settings = config(epochs=6, learning_rate=3e-3, replay=strength)
        train(whisper, [*new, *old], store, settings, folder=tmp_path / str(strength))
        losses.append((mean_loss(whisper, old, store), mean_loss(whisper, new, store)))
    assert losses[1][0] < 0.9 * losses[0][0]
    assert losses[1][1] < 0.95 * mean_loss(fresh(), new, store)


def test_fisher_information_can_be_given(fresh, store, new, old, tmp_path):
    whisper = fresh()
    names = of_decoder(n for n in names_in(whisper) if not n.startswith("embed_"))
    held = dict(whisper.model.model.named_parameters())
    heavy = {n: torch.full_like(held[n], 1e6) for n in names}
    path = tmp_path / "fisher.safetensors"
    save_values(path, heavy, **fisher_of(whisper, config()))
    held_back = train(whisper, new, store, config(ewc=1.0, epochs=3), folder=tmp_path / "a", fisher=path)
    free = train(fresh(), new, store, config(epochs=3), folder=tmp_path / "b")
    for name in names:
        moved = [(c.after[name] - c.before[name]).norm() for c in (held_back, free)]
        assert moved[0] < 0.9 * moved[1], name
    with pytest.raises(ResultsError, match="made with trainable 'decoder', not 'cross-attention'"):
        train(fresh(), new, store, config(ewc=1.0, trainable="cross-attention"), folder=tmp_path / "c", fisher=path)


def test_fisher_information_is_estimated_once_and_kept(fresh, store, new, old, tmp_path):
    path, settings = tmp_path / "fisher.safetensors", config(ewc=10.0)
    first = train(fresh(), [*old, *new], store, settings, folder=tmp_path / "a", fisher=path)
    again = train(fresh(), new, store, settings, folder=tmp_path / "b", fisher=path)  # nothing to estimate it on
    assert_same(first.after, again.after)


def test_every_example_is_learnt_in_every_context(fresh, store, new, tmp_path):
    lengths = []
    for contexts in ((), (store,)):
        train(fresh(), new, store, config(), folder=tmp_path / str(len(contexts)), contexts=contexts)
        (state,) = (tmp_path / str(len(contexts))).glob("checkpoint-*/trainer_state.json")
        lengths.append(json.loads(state.read_text())["global_step"])
    assert lengths == [3, 5]  # ten examples and twenty, four a batch


def test_batches_of_a_step_add_up(fresh, store, new, tmp_path, monkeypatch):
    """Two batches of four and then a step equal one batch of eight, where all have as many tokens."""
    alike = [Example(e.utterance, e.prompt, (70, 71, 72, END)) for e in new[:8]]
    losses, original = [], CachedTrainer.training_step
    monkeypatch.setattr(
        CachedTrainer, "training_step", lambda *args: losses.append(original(*args)) or losses[-1].clone()
    )
    changes = [
        train(fresh(), alike, store, config(batch_size=size, accumulation=n), folder=tmp_path / str(size))
        for size, n in ((4, 2), (8, 1))
    ]
    first, second, both = map(float, losses)
    assert first + second == pytest.approx(both, rel=1e-4)
    for name, v in changes[0].after.items():
        torch.testing.assert_close(v, changes[1].after[name], rtol=0, atol=2e-4)


def test_distillation_begins_at_nothing_in_every_number_format(whisper, store, new, old, tmp_path, monkeypatch):
    losses, original = [], Distillation.loss
    monkeypatch.setattr(Distillation, "loss", lambda *args: losses.append(original(*args)) or losses[-1])
    train(whisper, [*new, *old], store, config(distillation=1.0), folder=tmp_path, compute="bfloat16")
    assert abs(losses[0].item()) < 1e-6
    assert losses[-1].item() > 1e-5


TOY = """
import torch

class Anchor:
    \"\"\"Holds all parameters where they were.\"\"\"

    def __init__(self, strength, start):
        self.strength, self.trained = strength, start.trained
        self.first = {name: p.detach().clone() for name, p in start.trained.items()}

    def loss(self, step):
        return self.strength * sum((p - self.first[name]).abs().sum() for name, p in self.trained.items())

class Rehearsing(Anchor):
    rehearses = True

    def loss(self, step):
        assert step.rehearsal.any()
        return self.strength * step.loss(old=True)
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Regularizers of somebody else's, by import path: that of one, and that of one that rehearses."""
    (tmp_path / "toy_regularizers.py").write_text(TOY)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "toy_regularizers:Anchor", "toy_regularizers:Rehearsing"
    sys.modules.pop("toy_regularizers", None)


def test_a_regularizer_from_outside_is_one_of_ours(fresh, store, new, old, tmp_path, toy):
    anchor, rehearsing = toy
    trained = {
        name: train(fresh(), [*new, *old], store, config(epochs=2, **settings), folder=tmp_path / str(i))
        for i, (name, settings) in enumerate(
            {"none": {}, "anchor": {"regularize": {anchor: 1e3}}, "replay": {"replay": 0.5},
             "rehearsing": {"regularize": {rehearsing: 0.5}}}.items()
        )
    }  # fmt: skip
    moved = {n: sum((u.after[k] - u.before[k]).abs().sum() for k in u.after) for n, u in trained.items()}
    assert moved["anchor"] < 0.9 * moved["none"]
    assert_same(trained["rehearsing"].after, trained["replay"].after)
    assert not same(trained["replay"].after, trained["none"].after)
    assert config(regularize={rehearsing: 0.5}).rehearses
    assert not config(regularize={anchor: 0.5}).rehearses
    assert config(l2sp=1.0, regularize={anchor: 0.5}).plan().endswith(f"kept by l2sp, {anchor}")
    with pytest.raises(UsageError, match="unknown regularizer 'ancor'; use one of l2sp, ewc"):
        train(fresh(), new, store, config(regularize={"ancor": 1.0}), folder=tmp_path / "x")


# ---------------------------------------------------------------- interruptions

WAYS = {
    "plain": {},
    "accumulation": {"accumulation": 2},
    "replay": {"replay": 1.0, "rehearsed": 0.5},
    "all": {"replay": 0.5, "distillation": 0.5, "l2sp": 0.1, "ewc": 10.0, "accumulation": 2},
    "adapters": {"trainable": "lora", "ewc": 10.0, "replay": 1.0, "embeddings": True},
    "target": {"trainable": "target", "replay": 1.0},
}


class Killed(BaseException):
    """Nothing catches it, as nothing catches a signal."""


@pytest.fixture
def killed(monkeypatch):
    """A call that dies when something is called for the nth time."""

    def dying(call, owner, name, n):
        calls = 0
        original = getattr(owner, name)

        def count(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == n:
                raise Killed
            return original(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, count)
            with pytest.raises(Killed):
                call()

    return dying


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("batch", [5, 7], ids=["within epoch 2", "after epoch 2"])
def test_an_interruption_changes_nothing(fresh, store, new, old, tmp_path, killed, way, batch):
    settings = config(epochs=3, **WAYS[way])

    def run(folder):
        return train(fresh(), [*new, *old], store, settings, folder=tmp_path / folder)

    straight = run("straight")
    killed(lambda: run("cut"), CachedTrainer, "training_step", batch)
    resumed = run("cut")
    assert_same(resumed.after, straight.after)
    assert_same(resumed.before, straight.before)


@pytest.mark.parametrize("batch", [4, 6, 23], ids=["within epoch 2", "at its end", "after ten looks"])
def test_an_interruption_between_looks_changes_nothing(fresh, store, new, old, tmp_path, killed, batch):
    settings = config(epochs=None, steps=25, distillation=0.5)  # three batches an epoch, a checkpoint every two steps

    def run(folder):
        return train(fresh(), [*new, *old], store, settings, folder=tmp_path / folder)

    killed(lambda: run("cut"), CachedTrainer, "training_step", batch)
    assert_same(run("cut").after, run("straight").after)


def test_two_interruptions_change_nothing(fresh, store, new, old, tmp_path, killed):
    settings = config(epochs=4, replay=1.0)

    def run(folder):
        return train(fresh(), [*new, *old], store, settings, folder=tmp_path / folder)

    killed(lambda: run("cut"), CachedTrainer, "training_step", 2)  # before any checkpoint
    killed(lambda: run("cut"), CachedTrainer, "training_step", 5)
    assert_same(run("cut").after, run("straight").after)


@pytest.mark.parametrize("epoch", [1, 2])
@pytest.mark.parametrize("written", ["_save_optimizer_and_scheduler", "_save_rng_state"])
def test_half_a_checkpoint_is_none(fresh, store, new, tmp_path, killed, written, epoch):
    def run(folder):
        return train(fresh(), new, store, config(epochs=3), folder=tmp_path / folder)

    killed(lambda: run("cut"), CachedTrainer, written, epoch)
    assert len(list((tmp_path / "cut").glob("checkpoint-*"))) == epoch
    assert_same(run("cut").after, run("straight").after)


PIECES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "whole.json")


@pytest.mark.parametrize("name", PIECES)
@pytest.mark.parametrize("damage", ["emptied", "cut", "changed", "removed"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(fresh, store, new, tmp_path, killed, name, damage):
    def run(folder):
        return train(fresh(), new, store, config(epochs=3), folder=tmp_path / folder)

    killed(lambda: run("cut"), CachedTrainer, "training_step", 8)  # in the third epoch
    first, last = sorted((tmp_path / "cut").glob("checkpoint-*"), key=lambda p: int(p.name.partition("-")[2]))
    whole = (last / name).read_bytes()
    broken = {"emptied": b"", "cut": whole[: len(whole) // 2], "changed": bytes([whole[0] ^ 1]) + whole[1:]}
    if damage == "removed":
        (last / name).unlink()
    else:
        (last / name).write_bytes(broken[damage])
    seen = []
    real = CachedTrainer.train
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CachedTrainer, "train", lambda self, **given: (seen.append(given), real(self, **given)))
        resumed = run("cut")
    assert seen == [{"resume_from_checkpoint": str(first)}]
    assert_same(resumed.after, run("straight").after)


def test_training_whose_best_checkpoint_is_damaged_begins_anew(fresh, store, new, tmp_path, killed):
    settings = config(epochs=3)

    def run(whisper, folder):
        dev = Dev(whisper, [9.0, 2.0, 3.0])  # the first is the best
        return train(whisper, new, store, settings, folder=tmp_path / folder, dev=dev).after

    killed(lambda: run(fresh(), "cut"), CachedTrainer, "training_step", 8)
    best = min((tmp_path / "cut").glob("checkpoint-*"), key=lambda p: int(p.name.partition("-")[2]))
    (best / "model.safetensors").write_bytes(b"")
    assert_same(run(fresh(), "cut"), run(fresh(), "straight"))


def test_a_disk_that_is_full_at_a_checkpoint_is_one_line(fresh, store, new, tmp_path, monkeypatch):
    def full(*_, **__):
        raise RuntimeError("[enforce fail at inline_container.cc:815] . PytorchStreamWriter failed writing file")

    with monkeypatch.context() as patch:
        patch.setattr(CachedTrainer, "_save_optimizer_and_scheduler", full)
        with pytest.raises(ResultsError, match=r"checkpoint-3: can't be written \(.*writing file\); make space"):
            train(fresh(), new, store, config(epochs=2), folder=tmp_path / "cut")
    resumed = train(fresh(), new, store, config(epochs=2), folder=tmp_path / "cut")
    assert_same(resumed.after, train(fresh(), new, store, config(epochs=2), folder=tmp_path / "straight").after)


def test_training_that_is_over_is_not_begun_again(fresh, store, new, tmp_path, monkeypatch):
    first = train(fresh(), new, store, config(epochs=2), folder=tmp_path)
    monkeypatch.setattr(CachedTrainer, "training_step", None)
    assert_same(train(fresh(), new, store, config(epochs=2), folder=tmp_path).after, first.after)


def test_the_order_depends_on_the_seed(fresh, store, new, tmp_path):
    runs = [train(fresh(), new, store, config(seed=s), folder=tmp_path / str(i)) for i, s in enumerate((0, 0, 1))]
    assert_same(runs[0].after, runs[1].after)
    assert not same(runs[0].after, runs[2].after)


def test_checkpoints_hold_what_is_trained_alone(whisper, store, new, tmp_path):
    from safetensors import safe_open

    train(whisper, new, store, config(trainable="cross-attention"), folder=tmp_path)
    (path,) = tmp_path.glob("checkpoint-*/*.safetensors")
    with safe_open(path, framework="pt") as file:
        held = {name.removeprefix("decoder.") for name in file.keys()}  # noqa: SIM118  # not a dict
    assert held == intended(names_in(whisper), "cross-attention", False, 0)


# ---------------------------------------------------------------- the best epoch


class Dev:
    """Gives the scores it was told to, and remembers what the decoder was at each."""

    def __init__(self, whisper, scores):
        self.whisper, self.scores, self.seen, self.training = whisper, scores, [], []

    def __call__(self):
        decoder = self.whisper.model.model.decoder
        self.seen.append({n: p.detach().clone() for n, p in decoder.named_parameters()})
        self.training.append(decoder.training)
        score = self.scores[len(self.seen) - 1]
        return {"chrf": score, "bleu": -score}


@pytest.mark.parametrize(
    ("scores", "patience", "best", "epochs"),
    [
        ([5.0, 4.0, 3.0, 2.0], 0, 0, 4),
        ([1.0, 2.0, 3.0, 4.0], 0, 3, 4),
        ([1.0, 9.0, 3.0, 4.0], 0, 3, 4),  # one look doesn't choose
        ([1.0, 9.0, 3.0, 2.0], 0, 1, 4),
        ([5.0, 4.0, 3.0, 9.0], 2, 0, 3),
        ([5.0, 4.0, 9.0, 4.0], 2, 2, 4),
        ([5.0, 4.0, 9.0, 9.0], 1, 0, 2),
    ],
)
def test_the_best_epoch_stays(whisper, store, new, tmp_path, scores, patience, best, epochs):
    dev = Dev(whisper, scores)
    train(whisper, new, store, config(epochs=4, patience=patience), folder=tmp_path, dev=dev)
    assert len(dev.seen) == epochs
    found = dict(whisper.model.model.decoder.named_parameters())
    assert_same(dev.seen[best], found)
    assert not any(dev.training)
    assert not same(dev.seen[best], dev.seen[best - 1])


def test_another_metric_may_choose(whisper, store, new, tmp_path):
    dev = Dev(whisper, [5.0, 1.0, 9.0])
    train(whisper, new, store, config(epochs=3, best="bleu"), folder=tmp_path, dev=dev)
    assert_same(dev.seen[1], dict(whisper.model.model.decoder.named_parameters()))


def test_the_best_adapters_are_those_that_are_merged(fresh, store, new, tmp_path):
    settings = config(trainable="lora", epochs=3)
    whisper = fresh()
    train(whisper, new, store, settings, folder=tmp_path / "a", dev=Dev(whisper, [1.0, 9.0, 1.0]))
    after_two = fresh()
    train(after_two, new, store, settings, folder=tmp_path / "b", dev=Dev(after_two, [1.0, 2.0, 3.0]))
    assert not same(values_of(whisper), values_of(after_two))
    cut = fresh()
    train(cut, new, store, settings, folder=tmp_path / "c", dev=Dev(cut, [1.0, 9.0, 2.0]))
    assert_same(values_of(whisper), values_of(cut))


@pytest.mark.parametrize("step", [4, 5, 7])
def test_an_interruption_costs_no_patience(fresh, store, new, tmp_path, killed, step):
    scores, settings = [5.0, 4.0, 3.0, 9.0], config(epochs=4, patience=2)

    def run(folder, done=0):
        whisper = fresh()
        dev = Dev(whisper, scores[done:])
        return train(whisper, new, store, settings, folder=tmp_path / folder, dev=dev), len(dev.seen)

    straight, n = run("straight")
    assert n == 3
    killed(lambda: run("cut"), CachedTrainer, "training_step", step)
    done = (step - 1) // 3
    resumed, n = run("cut", done)
    assert n == 3 - done
    assert_same(resumed.after, straight.after)


def test_training_that_ran_out_of_patience_is_not_begun_again(fresh, store, new, tmp_path, monkeypatch):
    def run(scores):
        whisper = fresh()
        settings = config(epochs=9, patience=1)
        return train(whisper, new, store, settings, folder=tmp_path, dev=Dev(whisper, scores))

    first = run([5.0, 4.0])
    monkeypatch.setattr(CachedTrainer, "training_step", None)
    assert_same(run([]).after, first.after)


# ---------------------------------------------------------------- refusals


def test_something_new_is_needed(whisper, store, old, tmp_path):
    for examples in ([], old):
        with pytest.raises(CorpusError, match="nothing to train on"):
            train(whisper, examples, store, config(replay=1.0), folder=tmp_path)


@pytest.mark.parametrize("regularizer", ["replay", "distillation", "ewc"])
def test_something_old_is_needed_where_it_is_asked_for(whisper, store, new, tmp_path, regularizer):
    with pytest.raises(CorpusError, match="nothing to rehearse"):
        train(whisper, new, store, config(**{regularizer: 1.0}), folder=tmp_path)


def test_what_is_to_change_is_not_rehearsed(whisper, store, new, tmp_path):
    same = [replace(e, rehearsal=True) for e in new]  # the old output under the very prompt of the new task
    with pytest.raises(CorpusError, match="nothing to rehearse"):
        train(whisper, [*new, *same], store, config(distillation=1.0), folder=tmp_path)


def test_states_of_every_example_are_needed(whisper, store, new, tmp_path):
    with pytest.raises(StoreError, match=r"1 of 1 utterances are not in the store \(the first is 'en/x'\)"):
        train(whisper, [*new, Example("en/x", new[0].prompt, new[0].labels)], store, config(), folder=tmp_path)


def test_a_choice_that_leaves_nothing_is_refused(whisper, store, new, tmp_path):
    with pytest.raises(UsageError, match="leaves nothing to train"):
        train(whisper, new, store, config(trainable="lora", frozen_layers=2), folder=tmp_path)
