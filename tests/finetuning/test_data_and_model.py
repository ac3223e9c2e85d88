"""What a decoder is trained on, which parameters move, and what keeps old tasks: each against the slow, plain way."""

import copy
import itertools
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import skip_first_batches
from accelerate.data_loader import BatchSamplerShard
from msgspec.structs import replace as replace_struct
from torch import nn
from torch.utils.data import DataLoader

from helpers import END, greedy_tokens, intended, sweep, utterance
from interlingua.encoding import WhisperEncoder
from interlingua.encoding.store import FrameStore
from interlingua.errors import CorpusError, ResultsError, StoreError, UsageError
from interlingua.finetuning import data
from interlingua.finetuning.config import FinetuneConfig
from interlingua.finetuning.data import (
    IGNORED,
    Batches,
    Example,
    StateDataset,
    collate,
    rehearsal_examples,
    text_example,
    translation_examples,
    unfit,
)
from interlingua.finetuning.model import (
    CachedDecoder,
    LoraSettings,
    Step,
    Update,
    choose_parameters,
    interpolate,
    merge_adapters,
    snapshot,
)
from interlingua.finetuning.regularizers import (
    EWC,
    L2SP,
    Distillation,
    Replay,
    Start,
    fisher_information,
    load_values,
    save_values,
)
from interlingua.types import SAMPLE_RATE, Frames

DIM = 32
PROMPT = (257, 260, 358, 362)


@pytest.fixture
def whisper(tiny_whisper):
    """A tiny Whisper of the test's own."""
    return replace(tiny_whisper, model=copy.deepcopy(tiny_whisper.model))


def frames(name, length=6, seed=0):
    values = np.random.default_rng([seed, *name.encode()]).normal(size=(length, DIM)).astype(np.float16)
    return Frames(name, values, max(1, length - 1))


def example(name="u", labels=(65, 66, END), *, rehearsal=False, prompt=PROMPT):
    return Example(name, prompt, labels, rehearsal)


def batch_of(*examples, length=6):
    return collate([(e, frames(e.utterance, length + i)) for i, e in enumerate(examples)])


def mixed_batch():
    """Two new examples and two old ones, of four lengths."""
    old = {"prompt": (257, 261, 358, 362), "rehearsal": True}
    return batch_of(
        example("a", (70, 71, 72, 73, END)),
        example("b", (80, END), **old),
        example("c", (90, 91, END)),
        example("d", (60, 61, 62, 63, 64, END), **old),
    )


def rows(batch, chosen):
    return {name: values[chosen] for name, values in batch.items()}


@pytest.fixture
def store(whisper, tmp_path):
    """States of twelve utterances of different lengths, four in each of three languages."""
    made = FrameStore.create(tmp_path / "s.lance", WhisperEncoder(whisper, context="full").spec, DIM)
    made.write([frames(f"{lang}/{i}", 3 + 2 * i) for lang in ("en", "fr", "de") for i in range(4)])
    return made


# ---------------------------------------------------------------- examples


def test_a_text_has_whispers_leading_space_and_the_end(tiny_whisper):
    made = text_example(tiny_whisper, "u", PROMPT, "  hola \n", "es")
    assert made == Example("u", PROMPT, (*tiny_whisper.tokenizer(" hola", add_special_tokens=False).input_ids, END))
    assert tiny_whisper.tokenizer.decode(made.labels[:-1]) == " hola"


@pytest.mark.parametrize("language", ["zh", "ja", "yue", "th"])
def test_scripts_without_spaces_have_no_leading_one(tiny_whisper, language):
    made = text_example(tiny_whisper, "u", PROMPT, " 你好", language)
    assert tiny_whisper.tokenizer.decode(made.labels[:-1]) == "你好"


def test_a_text_as_long_as_the_decoder_is_learned_and_one_longer_is_refused(tiny_whisper):
    whole = 24 - len(PROMPT) - 1  # a space leads
    made = text_example(tiny_whisper, "u", PROMPT, "x" * whole, "es")
    assert collate([(made, frames("u"))])["tokens"].shape == (1, 24)
    with pytest.raises(CorpusError, match=r"^u: 21 tokens of text to learn; 1 to 20 are possible"):
        text_example(tiny_whisper, "u", PROMPT, "x" * (whole + 1), "es")


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_text_is_refused(tiny_whisper, text):
    with pytest.raises(CorpusError, match=r"^u: .*leave it out"):
        text_example(tiny_whisper, "u", PROMPT, text, "es")


def test_translations_ask_for_the_target_under_its_token(tiny_whisper):
    u = utterance("fr", id="u", translations={"kea": "oi", "en": "hi"})
    for prompt, (language, task) in {
        "target-transcribe": ("haw", "transcribe"),
        "target-translate": ("haw", "translate"),
        "source-translate": ("fr", "translate"),
    }.items():
        (made,) = translation_examples([u], tiny_whisper, "kea", prompt, token="haw")
        assert made == text_example(tiny_whisper, "u", tiny_whisper.prompt(language, task), "oi", "kea")
        assert not made.rehearsal


SAID = "El vehículo ha llegado a la estación esta mañana"  # 48 characters
HEARD = "The vehicle has arrived at the station this morning"


@pytest.mark.parametrize(
    ("translation", "options", "reason"),
    [
        (SAID, {"duration": 3.0}, None),
        ("", {}, "the reference is empty, or has no words"),
        ("…", {}, "the reference is empty, or has no words"),
        (None, {}, "the reference is empty, or has no words"),
        ("a " * 900, {}, "the reference is longer than the decoder's 448 tokens"),
        (HEARD, {"duration": 3.0}, "the reference isn't in Spanish"),
        ("Машина приехала на станцию утром", {"duration": 3.0}, "the reference isn't in Spanish"),
        ("OK, stop", {"duration": 3.0}, None),  # too few letters to know
        (SAID, {"duration": 30.5}, "the recording is longer than 30 s"),
        (SAID, {"duration": 0.9}, None),
        (f"{SAID} ya", {"duration": 0.9}, "the reference is too long for its recording"),
        (SAID, {"duration": 3.0, "text": "IT IS A TEST."}, "the sentence is one of dev or test"),
        ("es una prueba!", {"duration": 3.0}, "the sentence is one of dev or test"),
        (SAID, {"duration": 3.0, "meaning": "m"}, "the sentence is one of dev or test"),
    ],
)
def test_what_cant_be_trained_on_has_a_reason(tiny_whisper, monkeypatch, translation, options, reason):
    monkeypatch.setattr(tiny_whisper.model.config, "max_target_positions", 448)  # as a real Whisper has
    given = {"text": HEARD, "translations": {} if translation is None else {"es": translation}, **options}
    held = utterance("en", "m", text="It is a test", translations={"es": "Es una prueba"})
    one = replace_struct(utterance("en", "x"), **{"meaning": "x", **given})
    found = unfit([one], [held], tiny_whisper, "es", "target-transcribe")
    assert found == ({} if reason is None else {reason: [one.id]})


def test_a_missing_reference_is_named(tiny_whisper):
    some = [
        utterance("en", id="a", translations={"es": "a"}),
        utterance("en", id="b", translations={"fr": "b", "it": "c"}),
    ]
    with pytest.raises(CorpusError, match=r"^b: no reference in 'es'; `translations` has fr, it$"):
        translation_examples(some, tiny_whisper, "es", "target-transcribe")


def test_a_batch_predicts_every_label_from_the_token_before():
    old = example("b", (80, END), rehearsal=True)
    batch = batch_of(example("a", (70, 71, 72, END)), old)
    end_of_prompt = PROMPT[-1]
    assert batch["tokens"].tolist() == [[*PROMPT, 70, 71, 72], [*PROMPT, 80, 0, 0]]
    blank = [IGNORED] * 3
    assert batch["labels"].tolist() == [[*blank, 70, 71, 72, END], [*blank, 80, END, IGNORED, IGNORED]]
    assert batch["tokens"][0, 3] == end_of_prompt
    assert (batch["lengths"].tolist(), batch["rehearsal"].tolist()) == ([6, 7], [False, True])
    assert (tuple(batch["states"].shape), batch["states"].dtype) == ((2, 7, DIM), torch.float16)
    assert not batch["states"][0, 6:].any()
    np.testing.assert_array_equal(batch["states"][1].numpy(), frames("b", 7).values)


def test_a_data_set_gives_each_example_its_own_states(store):
    dataset = StateDataset([example("fr/2"), example("en/0"), example("fr/2", rehearsal=True)], [store])
    found = dataset.__getitems__([2, 0, 1])
    assert [(e.utterance, f.id, e.rehearsal) for e, f in found] == [
        ("fr/2", "fr/2", True),
        ("fr/2", "fr/2", False),
        ("en/0", "en/0", False),
    ]
    np.testing.assert_array_equal(dataset[1][1].values, frames("en/0", 3).values)
    with pytest.raises(StoreError, match=r"1 of 1 utterances are not in the store \(the first is 'x'\)"):
        StateDataset([example("en/0"), example("x")], [store])


# ---------------------------------------------------------------- batches


def batches(n_new=10, n_old=0, size=4, rehearsed=0, seed=0):
    examples = [example(f"n{i}") for i in range(n_new)] + [example(f"o{i}", rehearsal=True) for i in range(n_old)]
    n_speech = {e.utterance: 7 * i % 11 for i, e in enumerate(examples)}
    return Batches(examples, n_speech, size, rehearsed, seed)


def of_epoch(sampler, epoch):
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.parametrize(("n_new", "size"), [(10, 4), (8, 4), (3, 8), (100, 3), (1, 1)])
def test_every_new_example_comes_once_an_epoch(n_new, size):
    sampler = batches(n_new, n_old=3, size=size, rehearsed=2)
    for epoch in range(3):
        found = of_epoch(sampler, epoch)
        assert len(found) == len(sampler) == math.ceil(n_new / size)
        assert sorted(i for batch in found for i in batch if i < n_new) == list(range(n_new))
        sizes = sorted(sum(i < n_new for i in batch) for batch in found)
        assert sizes[1:] == [size] * (len(found) - 1)
        assert all(sum(i >= n_new for i in batch) == 2 for batch in found)


def test_the_order_depends_on_seed_and_epoch_alone():
    one, other = batches(n_old=5, rehearsed=3), batches(n_old=5, rehearsed=3)
    of_epoch(one, 0)
    list(itertools.islice(one, 2))
    assert of_epoch(one, 3) == of_epoch(other, 3) == of_epoch(one, 3)
    assert of_epoch(one, 3) != of_epoch(one, 4)
    assert of_epoch(one, 3) != of_epoch(batches(n_old=5, rehearsed=3, seed=1), 3)
    assert of_epoch(batches(100), 3) != of_epoch(batches(100), 4)
    assert of_epoch(batches(100), 3) != of_epoch(batches(100, seed=1), 3)


def test_new_examples_come_in_the_same_order_with_and_without_rehearsal():
    with_old = [[i for i in batch if i < 10] for batch in of_epoch(batches(n_old=5, rehearsed=3), 1)]
    assert with_old == of_epoch(batches(n_old=5, rehearsed=0), 1) == of_epoch(batches(), 1)


@pytest.mark.parametrize(("n_old", "rehearsed"), [(5, 3), (7, 4), (40, 2), (1, 2), (3, 3)])
def test_old_examples_are_used_equally_often(n_old, rehearsed):
    sampler = batches(n_old=n_old, rehearsed=rehearsed)
    drawn = []
    for epoch in range(20):
        drawn += sorted(i for batch in of_epoch(sampler, epoch) for i in batch if i >= 10)
        times = Counter(drawn)
        if epoch * len(sampler) * rehearsed > n_old:
            assert len(times) == n_old
            assert max(times.values()) - min(times.values()) <= 1
    assert len(drawn) == 20 * len(sampler) * rehearsed


def test_batches_hold_utterances_of_like_length():
    examples = [example(f"n{i}") for i in range(320)]
    length = {
        e.utterance: int(n) for e, n in zip(examples, np.random.default_rng(0).integers(1, 1500, 320), strict=True)
    }

    def padding(chosen):
        spans = [[length[f"n{i}"] for i in batch] for batch in chosen]
        return sum(max(s) * len(s) - sum(s) for s in spans)

    shuffled = np.random.default_rng(1).permutation(320).reshape(-1, 8).tolist()
    assert padding(list(Batches(examples, length, 8))) < padding(shuffled) / 3


def test_short_examples_are_rehearsed_beside_short_ones():
    sampler = batches(n_new=40, n_old=60, size=4, rehearsed=4, seed=1)
    n_speech = sampler._length[:, 0]
    for epoch in range(4):
        found = of_epoch(sampler, epoch)
        new, old = ([np.mean([n_speech[i] for i in b if (i < 40) == side]) for b in found] for side in (True, False))
        assert np.corrcoef(new, old)[0, 1] > 0.9


def test_a_loader_goes_on_in_the_middle_of_an_epoch(store):
    examples = [example(f"{lang}/{i}") for lang in ("en", "fr") for i in range(4)]
    examples += [example("de/0", rehearsal=True), example("de/1", rehearsal=True)]

    def loader():
        sampler = Batches(examples, store.n_speech(), 3, 1)
        sampler.set_epoch(2)
        return DataLoader(StateDataset(examples, [store]), batch_sampler=sampler, collate_fn=collate)

    whole = list(loader())
    rest = list(skip_first_batches(loader(), 1))
    assert len(whole) == 3
    assert len(rest) == 2
    for a, b in zip(whole[1:], rest, strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("rehearsed", [0, 2])
def test_two_processes_share_the_batches_out(rehearsed):
    shards = [BatchSamplerShard(batches(12, 5, 3, rehearsed), num_processes=2, process_index=i) for i in range(2)]
    found = [list(shard) for shard in shards]
    assert [len(f) for f in found] == [2, 2]
    in_turn = [batch for pair in zip(*found, strict=True) for batch in pair]
    assert in_turn == list(batches(12, 5, 3, rehearsed))


# ---------------------------------------------------------------- the cached decoder


@pytest.mark.parametrize("encoder_layers", [0, 1])
def test_loss_and_gradients_equal_those_of_the_whole_model(whisper, encoder_layers):
    """transformers' own forward, encoder and all, against the decoder (and the encoder's top) on cached states."""
    audio = [sweep(0.5 + i, 200.0 + 90 * i, i) for i in range(3)]
    examples = [example("a", (70, 71, 72, END)), example("b", (80, END)), example("c", (90, 91, 92, 93, 94, END))]
    layer = whisper.n_layers - encoder_layers
    encoded = WhisperEncoder(whisper, context="full", layer=layer).encode(audio)
    states = [Frames(e.utterance, values, n) for e, (values, n) in zip(examples, encoded, strict=True)]
    batch = collate(list(zip(examples, states, strict=True)))
    trained = dict(whisper.model.model.decoder.named_parameters())
    if encoder_layers:
        trained |= dict(whisper.model.model.encoder.layers[-1].named_parameters())
    cached = CachedDecoder(whisper, encoder_layers)(**batch).loss()
    ours = torch.autograd.grad(cached, list(trained.values()))
    features = whisper.feature_extractor(audio, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
    whole = whisper.model(input_features=features, decoder_input_ids=batch["tokens"], labels=batch["labels"]).loss
    theirs = torch.autograd.grad(whole, list(trained.values()))
    torch.testing.assert_close(cached, whole, rtol=0, atol=1e-5)
    for name, a, b in zip(trained, ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")
        assert a.abs().max() > (0 if encoder_layers else 1e-4), name


def test_a_mixed_batch_gives_each_example_the_loss_that_it_has_alone(whisper):
    decoder, batch = CachedDecoder(whisper), mixed_batch()
    step = decoder(**batch)
    examples = [example("a", (70, 71, 72, 73, END)), example("c", (90, 91, END))]
    alone = [decoder(**collate([(e, frames(e.utterance, n))])) for e, n in zip(examples, (6, 8), strict=True)]
    torch.testing.assert_close(step.logits[~step.rehearsal], torch.cat([s.logits for s in alone]), rtol=0, atol=1e-5)
    assert step.labels[~step.rehearsal].tolist() == [70, 71, 72, 73, END, 90, 91, END]
    assert step.labels[step.rehearsal].tolist() == [80, END, 60, 61, 62, 63, 64, END]
    by_hand = sum(s.loss() * len(s.labels) for s in alone) / 8
    torch.testing.assert_close(step.loss(), by_hand, rtol=0, atol=1e-5)


def test_a_loss_without_places_is_zero_and_has_a_gradient(whisper):
    decoder = CachedDecoder(whisper)
    loss = decoder(**batch_of(example())).loss(old=True)
    assert loss == 0
    loss.backward()
    assert not decoder.proj_out.weight.grad.any()


# ---------------------------------------------------------------- which parameters


@pytest.mark.parametrize("frozen_layers", [0, 1])
@pytest.mark.parametrize("embeddings", [False, True])
@pytest.mark.parametrize("trainable", ["decoder", "cross-attention", "lora"])
def test_what_is_chosen_is_what_is_trained(whisper, trainable, embeddings, frozen_layers):
    plain = [name for name, _ in whisper.model.model.decoder.named_parameters()]
    chosen = choose_parameters(whisper, trainable, embeddings=embeddings, frozen_layers=frozen_layers)
    assert {id(p) for p in chosen.values()} == {id(p) for p in whisper.model.parameters() if p.requires_grad}
    expected = intended(plain, trainable, embeddings, frozen_layers)
    if trainable == "lora":
        found = {n.replace(".lora_A.default", "").replace(".lora_B.default", "") for n in chosen}
        assert sum("lora_" in n for n in chosen) == 2 * len(expected - {"embed_tokens.weight"})
    else:
        found = set(chosen)
    assert found == {f"decoder.{name}" for name in expected}


def test_the_target_token_alone_gets_a_gradient(whisper):
    chosen = choose_parameters(whisper, "target", token=260)
    assert list(chosen) == ["decoder.embed_tokens.weight"]
    CachedDecoder(whisper)(**mixed_batch()).loss().backward()
    gradient = chosen["decoder.embed_tokens.weight"].grad
    assert gradient.abs().sum(dim=1).nonzero().flatten().tolist() == [260]


def test_one_training_leaves_the_next_its_own_choice(whisper):
    choose_parameters(whisper, "target", token=260)
    choose_parameters(whisper, "target", token=261)
    CachedDecoder(whisper)(**mixed_batch()).loss().backward()
    embeddings = whisper.model.model.decoder.embed_tokens.weight
    assert embeddings.grad.abs().sum(dim=1).nonzero().flatten().tolist() == [261]
    embeddings.grad = None
    choose_parameters(whisper, "decoder", embeddings=True)
    CachedDecoder(whisper)(**mixed_batch()).loss().backward()
    assert (embeddings.grad.abs().sum(dim=1) > 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trainable": "decoder", "frozen_layers": 3}, r"--frozen-layers 3: .* has 2 decoder layers"),
        ({"trainable": "decoder", "frozen_layers": -1}, r"--frozen-layers -1"),
        ({"trainable": "cross-attention", "frozen_layers": 2}, "leaves nothing to train"),
        ({"trainable": "lora", "frozen_layers": 2}, "leaves nothing to train"),
        ({"trainable": "lora", "lora": LoraSettings(rank=0)}, "--lora-rank 0"),
        ({"trainable": "target", "frozen_layers": 1, "token": 260}, "trains no layer"),
        ({"trainable": "target", "embeddings": True, "token": 260}, "trains one embedding"),
        ({"trainable": "target"}, "needs the target's token"),
    ],
)
def test_choices_that_make_no_sense_are_refused(whisper, options, message):
    with pytest.raises(UsageError, match=message):
        choose_parameters(whisper, **options)
    assert not any("lora" in type(m).__module__ for m in whisper.model.modules())


def test_embeddings_alone_can_be_trained(whisper):
    for trainable in ("lora", "cross-attention"):
        chosen = choose_parameters(whisper, trainable, embeddings=True, frozen_layers=2)
        assert list(chosen) == ["decoder.embed_tokens.weight"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("accumulation", 0),
        ("lora_rank", 0),
        ("ewc", -1.0),
        ("interpolate", -0.1),
        ("interpolate_cross_attention", -0.1),
        ("rehearsed", -1.0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
    ],
)
def test_settings_out_of_range_are_refused_by_their_flag(field, value):
    with pytest.raises(UsageError, match=f"^--{field.replace('_', '-')} {value}: use "):
        FinetuneConfig(data="m", method="plain", store=("s",), target="es", out=Path("o"), **{field: value})


@pytest.mark.parametrize(
    ("strengths", "message"),
    [({"l2sp": 0.1}, "--regularize l2sp=0.1: use --l2sp"), ({"a:B": -1.0}, "--regularize a:B=-1: use 0 or more")],
)
def test_strengths_of_regularizers_make_sense(strengths, message):
    with pytest.raises(UsageError, match=message):
        FinetuneConfig(data="m", method="plain", target="es", out=Path("o"), regularize=strengths)


@pytest.mark.parametrize("other", [{"weight_decay": 0.1}, {"prompt": "source-translate"}])
def test_the_target_token_goes_with_few_settings(other):
    with pytest.raises(UsageError, match="--trainable target"):
        FinetuneConfig(data="m", method="plain", store=("s",), target="es", out=Path("o"), trainable="target", **other)


# ---------------------------------------------------------------- adapters


def shaken(trained, seed=0, by=0.05):
    """Move parameters somewhere else."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in trained.values():
            p.add_(by * torch.randn(p.shape, generator=generator))


def logits(whisper):
    with torch.no_grad():
        return CachedDecoder(whisper)(**mixed_batch()).logits


def test_fresh_adapters_change_nothing(whisper):
    before = logits(whisper)
    choose_parameters(whisper, "lora")
    assert torch.equal(logits(whisper), before)


def test_half_of_the_layers_is_frozen(whisper):
    half, one = (choose_parameters(whisper, "decoder", frozen_layers=n) for n in ("half", 1))
    assert half.keys() == one.keys()
    assert choose_parameters(whisper, "target", frozen_layers="half", token=260)


@pytest.mark.parametrize("frozen_layers", [0, 1])
def test_merged_adapters_say_the_same_and_are_gone(whisper, frozen_layers):
    plain, before = [n for n, _ in whisper.model.named_parameters()], logits(whisper)
    shaken(choose_parameters(whisper, "lora", frozen_layers=frozen_layers, lora=LoraSettings(4, 8.0)))
    apart = logits(whisper)
    assert (apart - before).abs().max() > 0.1
    merge_adapters(whisper.model.model.decoder)
    torch.testing.assert_close(logits(whisper), apart, rtol=0, atol=1e-4)
    assert [n for n, _ in whisper.model.named_parameters()] == plain
    assert not any("peft" in type(m).__module__ for m in whisper.model.modules())


def test_a_scaled_adapter_is_an_interpolation(whisper):
    from peft.tuners.lora import LoraLayer

    decoder = whisper.model.model.decoder
    before = snapshot(dict(whisper.model.model.named_parameters()))
    shaken(choose_parameters(whisper, "lora"))
    layers = [m for m in decoder.modules() if isinstance(m, LoraLayer)]
    for layer in layers:
        layer.scaling["default"] *= 0.3
    scaled = logits(whisper)
    for layer in layers:
        layer.scaling["default"] /= 0.3
    merge_adapters(decoder)
    Update(before, snapshot(dict(whisper.model.model.named_parameters()))).apply(whisper, 0.3)
    torch.testing.assert_close(logits(whisper), scaled, rtol=0, atol=1e-4)


# ---------------------------------------------------------------- interpolation


def test_interpolation_runs_from_before_to_after(whisper):
    held = dict(whisper.model.model.named_parameters())
    before = snapshot(held)
    shaken(held)
    after = snapshot(held)
    change = Update(before, after)
    for alpha in (0.5, 0.0, 1.0, 0.0):  # in any order, again and again
        change.apply(whisper, alpha)
        for name, p in held.items():
            if alpha == 0.5:
                torch.testing.assert_close(p, (before[name] + after[name]) / 2)
            else:
                assert torch.equal(p, (after if alpha else before)[name]), name


def test_cross_attention_is_interpolated_by_its_own_weight(whisper):
    held = dict(whisper.model.model.named_parameters())
    before = snapshot(held)
    shaken(held)
    after = snapshot(held)
    Update(before, after).apply(whisper, 0.0, 1.0)
    looking = [name for name in held if ".encoder_attn." in name or ".encoder_attn_layer_norm." in name]
    assert len(looking) == 9 * len(whisper.model.model.decoder.layers)  # the keys' projection has no bias
    for name, p in held.items():
        assert torch.equal(p, (after if name in looking else before)[name]), name


def test_interpolation_refuses_what_it_cant_do():
    layer = nn.Linear(2, 2)
    start = snapshot(dict(layer.named_parameters()))
    with pytest.raises(UsageError, match=r"--interpolate -0.5"):
        interpolate(layer, start, start, -0.5)
    with pytest.raises(ValueError, match="different parameters"):
        interpolate(layer, start, {"weight": start["weight"]}, 0.5)


# ---------------------------------------------------------------- regularizers


def step_of(values, labels, rehearsal):
    return Step({}, torch.tensor(values), torch.tensor(labels), torch.tensor(rehearsal))


NEW_AND_OLD = step_of([[0.0, 0.0], [math.log(3), 0.0], [0.0, math.log(7)]], [0, 0, 0], [False, True, True])


class Fixed(CachedDecoder):
    """Says what it was told to, whatever it hears."""

    def __init__(self, values):
        nn.Module.__init__(self)
        self.values = nn.Parameter(torch.tensor(values))

    def forward(self, **batch):
        return Step(batch, self.values, torch.zeros(len(self.values), dtype=torch.long), batch["rehearsal"])


def start(fisher=None, *, decoder=None, **trained):
    return Start(decoder or Fixed([[0.0]]), trained, lambda: fisher)


def test_l2sp_by_hand():
    p = nn.Parameter(torch.tensor([1.0, 2.0]))
    regularizer = L2SP(4.0, start(p=p))
    assert regularizer.loss(NEW_AND_OLD) == 0
    with torch.no_grad():
        p.copy_(torch.tensor([2.0, 4.0]))
    loss = regularizer.loss(NEW_AND_OLD)
    assert loss.item() == pytest.approx(4 / 2 * (1 + 4))
    loss.backward()
    assert p.grad.tolist() == [4.0, 8.0]


def test_ewc_by_hand():
    p, q = nn.Parameter(torch.tensor([1.0, 2.0])), nn.Parameter(torch.tensor([0.0]))
    fisher = {"p": torch.tensor([0.5, 0.25]), "q": torch.tensor([0.0])}
    regularizer = EWC(4.0, start(fisher, p=p, q=q))
    assert regularizer.loss(NEW_AND_OLD) == 0
    with torch.no_grad():
        p.copy_(torch.tensor([2.0, 4.0]))
        q.fill_(100.0)  # of no account to the old tasks
    loss = regularizer.loss(NEW_AND_OLD)
    assert loss.item() == pytest.approx(4 / 2 * (0.5 * 1 + 0.25 * 4))
    loss.backward()
    assert (p.grad.tolist(), q.grad.tolist()) == ([2.0, 2.0], [0.0])


def test_ewc_wants_the_information_of_what_is_trained():
    p = nn.Parameter(torch.zeros(1))
    with pytest.raises(UsageError, match="other parameters than those"):
        EWC(1.0, start({"p": torch.zeros(1), "q": torch.zeros(1)}, p=p))


def test_replay_by_hand():
    assert NEW_AND_OLD.loss().item() == pytest.approx(math.log(2))
    assert Replay(0.5, start()).loss(NEW_AND_OLD).item() == pytest.approx(0.5 * (math.log(4 / 3) + math.log(8)) / 2)
    assert Replay(0.5, start()).loss(step_of([[0.0, 0.0]], [0], [False])) == 0


def test_distillation_by_hand():
    before = Fixed([[0.0, 0.0], [math.log(9), 0.0]])
    regularizer = Distillation(10.0, start(decoder=before))
    now = step_of([[5.0, 0.0], [math.log(3), 0.0], [0.0, math.log(4)]], [0, 0, 0], [False, True, True])
    now = Step({"rehearsal": torch.tensor([False, True, True])}, now.logits, now.labels, now.rehearsal)
    first = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    second = 0.9 * math.log(0.9 / 0.2) + 0.1 * math.log(0.1 / 0.8)
    assert regularizer.loss(now).item() == pytest.approx(10 * (first + second) / 2, rel=1e-5)
    with torch.no_grad():
        before.values.zero_()  # the regularizer holds a copy
    assert regularizer.loss(now).item() == pytest.approx(10 * (first + second) / 2, rel=1e-5)


def test_replay_is_the_loss_of_the_rehearsed_rows(whisper):
    decoder, batch = CachedDecoder(whisper), mixed_batch()
    alone = decoder(**rows(batch, batch["rehearsal"])).loss(old=True)
    torch.testing.assert_close(Replay(2.0, start()).loss(decoder(**batch)), 2 * alone, rtol=0, atol=1e-5)


def test_distillation_begins_at_nothing_and_heeds_the_rehearsed_rows_alone(whisper):
    trained = choose_parameters(whisper, "decoder", embeddings=True)
    decoder, batch = CachedDecoder(whisper), mixed_batch()
    regularizer = Distillation(2.0, start(decoder=decoder))
    with torch.no_grad():
        known = decoder(**rows(batch, batch["rehearsal"])).logits.log_softmax(-1)
    loss = regularizer.loss(decoder(**batch))
    assert abs(loss.item()) < 1e-6
    assert max(g.abs().max() for g in torch.autograd.grad(loss, list(trained.values()))) < 1e-5
    shaken(trained)
    now = decoder(**rows(batch, batch["rehearsal"])).logits.log_softmax(-1)
    by_hand = 2 * (known.exp() * (known - now)).sum(-1).mean()
    loss = regularizer.loss(decoder(**batch))
    assert loss > 0.01
    torch.testing.assert_close(loss, by_hand, rtol=1e-4, atol=1e-5)
    assert max(g.abs().max() for g in torch.autograd.grad(loss, list(trained.values()))) > 1e-3
    assert regularizer.loss(decoder(**rows(batch, ~batch["rehearsal"]))) == 0


@pytest.mark.parametrize("trainable", ["decoder", "lora", "target"])
def test_fisher_information_equals_a_loop_over_examples(whisper, trainable):
    trained = choose_parameters(whisper, trainable, token=PROMPT[1])
    if trainable == "lora":
        shaken(trained)
    decoder = CachedDecoder(whisper)
    singles = [
        batch_of(example(name, labels), length=4 + i)
        for i, (name, labels) in enumerate([("a", (70, 71, 72, END)), ("b", (80, END)), ("c", (90, 91, END))])
    ]
    found = fisher_information(decoder, trained, iter(singles))
    expected = {name: torch.zeros_like(p) for name, p in trained.items()}
    for batch in singles:
        said = decoder(**batch).logits.log_softmax(-1)
        places = batch["labels"][batch["labels"] != IGNORED]
        likelihood = said[torch.arange(len(places)), places].sum()
        for name, g in zip(trained, torch.autograd.grad(likelihood, list(trained.values())), strict=True):
            expected[name] += g.square() / len(singles)
    assert found.keys() == trained.keys()
    for name, values in found.items():
        torch.testing.assert_close(values, expected[name], rtol=1e-4, atol=1e-6)
        assert values.any(), name
    assert all(p.grad is None for p in decoder.parameters())


def test_fisher_information_takes_examples_one_by_one(whisper):
    trained = choose_parameters(whisper, "decoder")
    with pytest.raises(ValueError, match="one example at a time"):
        fisher_information(CachedDecoder(whisper), trained, [mixed_batch()])
    with pytest.raises(ValueError, match="nothing to estimate"):
        fisher_information(CachedDecoder(whisper), trained, [])


def test_values_come_back_from_their_file(tmp_path):
    path = tmp_path / "fisher.safetensors"
    values = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor([1e-30])}
    save_values(path, values, model="tiny", revision="abc")
    found = load_values(path, model="tiny", revision="abc")
    assert found.keys() == values.keys()
    assert all(torch.equal(found[name], v) for name, v in values.items())
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    with pytest.raises(ResultsError, match=r"made with revision 'abc', not 'abd'; delete it"):
        load_values(path, model="tiny", revision="abd")
    with pytest.raises(ResultsError, match=r"made with layers None, not '2'"):
        load_values(path, layers="2")


def test_values_that_cant_be_read_are_named(tmp_path):
    path = tmp_path / "fisher.safetensors"
    with pytest.raises(ResultsError, match=r"fisher.safetensors: can't be read"):
        load_values(path)
    save_values(path, {"a": torch.ones(100)})
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ResultsError, match=r"fisher.safetensors: can't be read .*delete it"):
        load_values(path)


# ---------------------------------------------------------------- rehearsal


@pytest.fixture
def concise(whisper):
    """A tiny Whisper that ends now and then: where it would have said one of its favourite bytes."""
    with torch.no_grad():
        whisper.model.proj_out.weight[END] = 1.1 * whisper.model.proj_out.weight[47]
    return whisper


@pytest.mark.parametrize("most", [128, 6])
def test_what_is_rehearsed_is_what_the_model_itself_says(concise, store, monkeypatch, most):
    monkeypatch.setattr(data, "MOST_TOKENS", most)
    heard = [utterance(lang, id=f"{lang}/{i}") for lang in ("fr", "en", "de") for i in range(4)]
    assert all(u.text is None and not u.translations for u in heard)
    found = rehearsal_examples(concise, [*heard, utterance("fr", id="fr/unknown")], store)
    expected, left_out = set(), 0
    for u in heard:
        for task in ("transcribe", "translate")[: 1 if u.language == "en" else 2]:
            prompt = concise.prompt(u.language, task)
            (said,) = greedy_tokens(concise, [store.read([u.id])[0].values], prompt)
            if len(said) < min(most, 20) and concise.tokenizer.decode(said).strip():
                expected.add(Example(u.id, tuple(prompt), (*said, END), rehearsal=True))
            else:
                left_out += 1
    assert len(found) == len(set(found))
    assert set(found) == expected
    assert len(expected) >= 3
    assert left_out >= 3  # loops and silence


def test_speech_is_rehearsed_in_the_prompts_of_other_languages(concise, store):
    heard = [utterance("en", id=f"en/{i}") for i in range(4)]
    found = rehearsal_examples(concise, heard, store, languages=["en", "fr"])
    prompts = {tuple(concise.prompt(*p)) for p in (("en", "transcribe"), ("fr", "transcribe"), ("fr", "translate"))}
    assert {e.prompt for e in found} <= prompts
    assert {e.prompt for e in found} & {tuple(concise.prompt("fr", t)) for t in ("transcribe", "translate")}
    for e in found:
        (said,) = greedy_tokens(concise, [store.read([e.utterance])[0].values], e.prompt)
        assert e.labels == (*said, END)


def test_nothing_is_rehearsed_where_nothing_is_held(tiny_whisper, store):
    assert rehearsal_examples(tiny_whisper, [utterance("fr", id="x")], store) == []
