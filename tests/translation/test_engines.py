"""Both engines against the specification and each other: batches of any lengths, languages, words in time."""

import copy
import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import WhisperConfig

from helpers import END, detect_language, greedy_tokens, sweep
from interlingua.audio import load_audio
from interlingua.encoding import WhisperEncoder
from interlingua.errors import UntrainedTaskError, UsageError
from interlingua.models import load_whisper, quiet
from interlingua.translation import (
    CTranslate2Engine,
    Decoding,
    TransformersEngine,
    decode,
    decode_frames,
    detect_frames,
    likeliest,
    load_engine,
    pad_states,
    place_words,
    translate_frames,
)
from interlingua.translation.engines import BATCH_UTTERANCES
from interlingua.types import SAMPLE_RATE, Frames

LENGTHS = (40, 7, 40, 1500, 1, 40, *range(2, BATCH_UTTERANCES))


def ragged(whisper, *lengths):
    """Random states of these lengths."""
    random = np.random.default_rng(0)
    return [random.normal(size=(n, whisper.dim)).astype(np.float32) for n in lengths]


def frames_of(whisper, *lengths):
    return [Frames(f"u{i}", s, len(s)) for i, s in enumerate(ragged(whisper, *lengths))]


def engine_of(name, whisper):
    """The engine of a model in memory, float32."""
    if name == "transformers":
        return TransformersEngine(whisper)
    return CTranslate2Engine(whisper, compute="float32", device="cpu")


ENGINES = pytest.mark.parametrize("name", ["ctranslate2", "transformers"])


@pytest.fixture(scope="module")
def concise(tiny_whisper):
    """A tiny model that ends some of its outputs, where it would have written one of its favourite bytes."""
    whisper = replace(tiny_whisper, model=copy.deepcopy(tiny_whisper.model))
    with torch.no_grad():
        whisper.model.proj_out.weight[END] = 1.1 * whisper.model.proj_out.weight[135]
    return whisper


# ---------------------------------------------------------------- the decoder on ragged batches


def decoded(whisper, states, tokens, **options):
    padded, lengths = pad_states(states)
    with torch.inference_mode():
        return decode(whisper.model.model.decoder, torch.tensor(tokens), padded, lengths, **options)


def test_padding_is_zero_and_what_was_there_is_kept():
    states = [np.full((n, 2), n, np.float16) for n in (1, 3)]
    padded, lengths = pad_states(states)
    assert padded.dtype == torch.float16
    assert padded.tolist() == [[[1, 1], [0, 0], [0, 0]], [[3, 3]] * 3]
    assert lengths.tolist() == [1, 3]


def test_a_ragged_batch_gives_each_utterance_what_it_gets_alone(tiny_whisper):
    states = ragged(tiny_whisper, 40, 1, 1500, 7, 40)
    tokens = [[*tiny_whisper.prompt("en", "translate"), 70 + i, 80] for i in range(5)]
    together = decoded(tiny_whisper, states, tokens).last_hidden_state
    for i, s in enumerate(states):
        alone = tiny_whisper.model.model.decoder(
            input_ids=torch.tensor(tokens[i : i + 1]), encoder_hidden_states=torch.from_numpy(s)[None]
        ).last_hidden_state[0]
        torch.testing.assert_close(together[i], alone, rtol=0, atol=1e-5)
    full = tiny_whisper.model.model.decoder(
        input_ids=torch.tensor(tokens), encoder_hidden_states=pad_states(states)[0]
    ).last_hidden_state
    assert (together[1] - full[1]).abs().max() > 0.01  # padding would be heard
    torch.testing.assert_close(together[2], full[2], rtol=0, atol=1e-5)


def test_what_lies_behind_an_utterance_has_no_gradient(tiny_whisper):
    padded, lengths = pad_states(ragged(tiny_whisper, 3, 5))
    padded.requires_grad_(True)
    tokens = torch.tensor([tiny_whisper.prompt("en", "translate")] * 2)
    decode(tiny_whisper.model.model.decoder, tokens, padded, lengths).last_hidden_state.square().sum().backward()
    reached = padded.grad.abs().sum(dim=2) > 0
    assert reached.tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    tiny_whisper.model.zero_grad(set_to_none=True)


def test_a_ragged_batch_goes_on_with_its_cache(tiny_whisper):
    states = ragged(tiny_whisper, 9, 4)
    tokens = [[*tiny_whisper.prompt("en", "translate"), 70, 80]] * 2
    whole = decoded(tiny_whisper, states, tokens).last_hidden_state
    first = decoded(tiny_whisper, states, [t[:4] for t in tokens], use_cache=True)
    second = decoded(tiny_whisper, states, [t[4:] for t in tokens], cache=first.past_key_values, use_cache=True)
    torch.testing.assert_close(second.last_hidden_state, whole[:, 4:], rtol=0, atol=1e-5)


def test_masks_leave_no_hooks_behind(tiny_whisper):
    def hooks():
        return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in tiny_whisper.model.modules())

    states, tokens = ragged(tiny_whisper, 9, 4), [tiny_whisper.prompt("en", "translate")] * 2
    before = hooks()  # transformers leaves some of its own where hidden states were asked for
    decoded(tiny_whisper, states, tokens)
    assert hooks() == before
    with pytest.raises(IndexError):  # also where the decoder fails
        decoded(tiny_whisper, states, [[10**6]] * 2)
    assert hooks() == before


# ---------------------------------------------------------------- cached frames


@ENGINES
@pytest.mark.parametrize("most", [0, 1, 5, None])
def test_cached_frames_are_decoded_as_the_specification_says(concise, name, most):
    spoken, prompt = frames_of(concise, *LENGTHS), concise.prompt("en", "transcribe")
    expected = greedy_tokens(concise, [f.values for f in spoken], prompt, most_tokens=1000 if most is None else most)
    found = list(decode_frames(engine_of(name, concise), spoken, prompt, most_tokens=most))
    assert {h.id: h.tokens for h in found} == {f.id: t for f, t in zip(spoken, expected, strict=True)}
    assert {h.id: h.text for h in found} == {h.id: concise.tokenizer.decode(h.tokens).strip() for h in found}
    lengths = {f.id: len(f.values) for f in spoken}
    assert [lengths[h.id] for h in found] == sorted(LENGTHS, reverse=True)
    if most is None:  # 24 positions, 4 of them the prompt's
        assert {len(t) for t in expected} > {20}
        assert max(len(t) for t in expected) == 20


@ENGINES
@pytest.mark.parametrize("most", [1, 6, None])
def test_the_log_probability_is_the_mean_over_tokens_and_end(concise, name, most):
    spoken, prompt = frames_of(concise, *range(10, 18)), concise.prompt("en", "transcribe")
    settings = concise.model.generation_config
    ends = set()
    for said in decode_frames(engine_of(name, concise), spoken, prompt, most_tokens=most):
        budget = most or 20
        tokens = [*said.tokens, END] if len(said.tokens) < budget else said.tokens
        (states,) = [f.values for f in spoken if f.id == said.id]
        last = decoded(concise, [states], [[*prompt, *tokens]]).last_hidden_state
        with torch.inference_mode():
            logits = concise.model.proj_out(last)[0, len(prompt) - 1 : -1]
            logits[:, settings.suppress_tokens] = -torch.inf
            logits[0, settings.begin_suppress_tokens] = -torch.inf
            chances = logits.log_softmax(dim=-1)[range(len(tokens)), tokens]
        assert said.log_probability == pytest.approx(float(chances.mean()), abs=1e-4)
        ends.add(len(said.tokens) < budget)
    assert ends == ({False} if most == 1 else {True, False})


@ENGINES
def test_suppressed_tokens_are_never_chosen(tiny_whisper, name):
    engine, spoken, prompt = (
        engine_of(name, tiny_whisper),
        frames_of(tiny_whisper, 30),
        tiny_whisper.prompt("en", "translate"),
    )
    settings = tiny_whisper.model.generation_config
    before = settings.suppress_tokens
    (chosen,) = decode_frames(engine, spoken, prompt)
    assert chosen.tokens
    try:
        settings.suppress_tokens = sorted({*before, *chosen.tokens})
        (others,) = decode_frames(engine, spoken, prompt)
    finally:
        settings.suppress_tokens = before
    assert not set(others.tokens) & set(chosen.tokens)


def test_one_engine_keeps_the_model_as_it_was_the_other_follows_it(tiny_whisper):
    whisper = replace(tiny_whisper, model=copy.deepcopy(tiny_whisper.model))
    spoken, prompt = frames_of(whisper, 30), whisper.prompt("en", "transcribe")
    held, follows = engine_of("ctranslate2", whisper), engine_of("transformers", whisper)
    before = [h.tokens for h in decode_frames(held, spoken, prompt)]
    with torch.no_grad():
        whisper.model.model.decoder.layers[0].fc1.weight.mul_(-3)
    assert [h.tokens for h in decode_frames(follows, spoken, prompt)] != before
    assert [h.tokens for h in decode_frames(held, spoken, prompt)] == before


def test_torch_keeps_its_threads(tiny_whisper):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        engine = engine_of("ctranslate2", tiny_whisper)
        assert engine.workers == torch.get_num_threads() == 3
        list(decode_frames(engine, frames_of(tiny_whisper, 30, 20), tiny_whisper.prompt("en", "transcribe")))
        assert torch.get_num_threads() == 3  # CTranslate2 would leave one: all training after it on one core
    finally:
        torch.set_num_threads(before)


def test_the_language_is_found_whatever_the_vocabulary(tiny_whisper):
    spoken = frames_of(tiny_whisper, 40, 7, 40)
    found, same = (detect_frames(engine_of(n, tiny_whisper), spoken) for n in ("ctranslate2", "transformers"))
    for f in spoken:
        assert found[f.id] == pytest.approx(same[f.id])
        assert sum(found[f.id].values()) == pytest.approx(1)
        assert likeliest(found[f.id]) == detect_language(tiny_whisper, f.values)[0]


def test_translation_is_refused_by_a_model_that_was_not_trained_to(tiny_whisper):
    turbo = tiny_whisper.without_weights()
    turbo.model.config = WhisperConfig(encoder_layers=4, decoder_layers=1)
    with pytest.raises(UntrainedTaskError, match="large-v3"):
        list(translate_frames(turbo, [], "fr"))


# ---------------------------------------------------------------- recordings


@pytest.fixture(scope="module")
def engines(tiny_whisper_folder):
    """The same tiny model in both, float32."""
    return [
        load_engine(tiny_whisper_folder, backend=name, compute="float32") for name in ("ctranslate2", "transformers")
    ]


@pytest.fixture(scope="module")
def features(tiny_whisper):
    extract = tiny_whisper.feature_extractor
    audio = [sweep(4, 200 * 2**i, seed=i) for i in range(3)]
    return extract(
        audio, sampling_rate=SAMPLE_RATE, padding=False, truncation=False, return_tensors="np"
    ).input_features


@pytest.mark.parametrize("how", [Decoding(), Decoding(most_tokens=5), Decoding(timestamps=True)], ids=str)
def test_both_engines_decode_alike(engines, features, how):
    outputs = []
    for engine in engines:
        states = engine.encode(features)
        prompt = engine.whisper.prompt("fr", "translate")
        prompt = prompt[:-1] if how.timestamps else prompt
        outputs.append(engine.generate(states, [prompt] * 3, how))
    for ours, theirs in zip(*outputs, strict=True):
        assert ours.tokens == theirs.tokens
        assert ours.ended == theirs.ended
        assert ours.no_speech_probability == pytest.approx(theirs.no_speech_probability, rel=0.01, abs=1e-6)
        if not how.timestamps:
            assert ours.log_probability == pytest.approx(theirs.log_probability, abs=0.002)
            assert len(ours.tokens) == (how.most_tokens or 12)  # half of the positions


def test_beams_search_ragged_states_as_each_alone(concise):
    engine, prompt, how = TransformersEngine(concise), concise.prompt("fr", "translate"), Decoding(beam=3)
    states = ragged(concise, 40, 7, 1, 30)
    together = engine.generate(engine.load(states), [prompt] * 4, how)
    alone = [engine.generate(engine.load([s]), [prompt], how)[0] for s in states]
    assert [d.tokens for d in together] == [d.tokens for d in alone]
    assert [d.log_probability for d in together] == pytest.approx([d.log_probability for d in alone], abs=1e-4)


def test_a_vocabulary_that_ctranslate2_takes_for_english_only_is_refused(engines, features):
    with pytest.raises(UsageError, match="--from"):
        engines[0].detect(engines[0].encode(features))
    (*_, row) = engines[1].detect(engines[1].encode(features))
    assert sum(row.values()) == pytest.approx(1)


def test_sampling_gives_something_else_and_says_so(engines, features):
    for engine in engines:
        states, prompt = engine.encode(features), engine.whisper.prompt("fr", "translate")
        for found in engine.generate(states, [prompt] * 3, Decoding(temperature=1.0)):
            assert found.log_probability < 0
            assert all(t < END for t in found.tokens)


def test_sampling_is_decided_by_the_seed_alone(engines, features):
    for i, engine in enumerate(engines, 1):
        states, prompt = engine.encode(features[:1]), engine.whisper.prompt("fr", "translate")

        def sample(seed, engine=engine, states=states, prompt=prompt):
            return engine.generate(states, [prompt], Decoding(temperature=1.0, seed=seed))

        with ThreadPoolExecutor(3 - i) as pool:  # threads of CTranslate2 don't take each other's seeds
            found = list(pool.map(sample, [1, 2, 1, 3, 1, 2]))
        assert found[0] == found[2] == found[4]
        assert found[1] == found[5] != found[0]
        before = torch.random.get_rng_state()
        sample(4)
        assert torch.equal(torch.random.get_rng_state(), before)


def test_unknown_engines_and_formats_are_refused(tiny_whisper_folder, engines):
    with pytest.raises(UsageError, match="backend 'onnx'"):
        load_engine(tiny_whisper_folder, backend="onnx")
    with pytest.raises(UsageError, match="compute 'int3'"):
        CTranslate2Engine(tiny_whisper_folder, compute="int3", device="cpu")
    with pytest.raises(UsageError, match="ctranslate2"):
        engines[1].place(engines[1].load([np.zeros((2, 32), np.float32)]), 0, [], [1], 1.0)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`")
def test_an_adapter_is_merged(tiny_whisper_folder, tmp_path, engines, features):
    whisper = load_whisper(tiny_whisper_folder)
    model = get_peft_model(whisper.model, LoraConfig(r=2, target_modules=["q_proj", "fc1"], init_lora_weights=False))
    with torch.no_grad():
        for parameter in (p for name, p in model.named_parameters() if "lora_" in name):
            parameter.mul_(3)
    model.peft_config["default"].base_model_name_or_path = str(tiny_whisper_folder)
    model.save_pretrained(tmp_path / "adapter")
    names = ("ctranslate2", "transformers")
    adapted = [load_engine(tmp_path / "adapter", backend=name, compute="float32") for name in names]
    prompt = whisper.prompt("fr", "translate")
    plain, first, second = (
        [d.tokens for d in e.generate(e.encode(features), [prompt] * 3, Decoding())] for e in (engines[0], *adapted)
    )
    assert plain != first == second


# ---------------------------------------------------------------- the real model


def generate(whisper, samples, language, task, n=40):
    """transformers' greedy decoding of one recording, without the prompt and the end."""
    features = whisper.feature_extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors="pt")
    with quiet(), torch.inference_mode():
        tokens = whisper.model.generate(
            features.input_features, language=language, task=task, do_sample=False, num_beams=1, max_new_tokens=n
        )
    special = set(whisper.prompt(language, task)) | {whisper.model.generation_config.eos_token_id}
    return [t for t in tokens[0].tolist() if t not in special]


def real_frames(whisper, utterances, context):
    encoded = WhisperEncoder(whisper, context=context).encode([load_audio(u.audio) for u in utterances])
    return [Frames(u.id, values, n) for u, (values, n) in zip(utterances, encoded, strict=True)]


@pytest.mark.model
@pytest.mark.parametrize(("language", "task"), [("es", "translate"), ("fr", "translate"), ("it", "transcribe")])
def test_real_speech_equals_generate(base_whisper, prompts_manifest, language, task):
    chosen = [u for u in prompts_manifest if u.language == language and u.meaning == "conf-invalid"]
    found = translate_frames(base_whisper, real_frames(base_whisper, chosen, "full"), language, task=task)
    theirs = {u.id: generate(base_whisper, load_audio(u.audio), language, task, n=100) for u in chosen}
    assert {h.id: h.tokens for h in found} == theirs


@pytest.mark.model
def test_real_speech_is_translated(base_whisper, prompts_manifest):
    chosen = [u for u in prompts_manifest if u.id == "es/conf-extended"]
    (hypothesis,) = translate_frames(base_whisper, real_frames(base_whisper, chosen, "full"), "es")
    assert hypothesis.text == "The conference has been extended."


@pytest.mark.model
def test_the_engines_agree_on_real_speech_of_all_lengths(base_whisper, prompts_manifest):
    spoken = [u for u in prompts_manifest if u.language == "fr"][:6]
    frames, prompt = real_frames(base_whisper, spoken, "speech+8"), base_whisper.prompt("fr", "translate")
    assert len({len(f.values) for f in frames}) > 2
    eager, exact = TransformersEngine(base_whisper), engine_of("ctranslate2", base_whisper)
    small = CTranslate2Engine(base_whisper, device="cpu")
    slow = {h.id: h for h in decode_frames(eager, frames, prompt, most_tokens=40)}
    alone = {f.id: next(decode_frames(eager, [f], prompt, most_tokens=40)).tokens for f in frames}
    assert {i: h.tokens for i, h in slow.items()} == alone
    for h in decode_frames(exact, frames, prompt, most_tokens=40):  # these end, so the end token counts
        assert h.tokens == alone[h.id]
        assert h.log_probability == pytest.approx(slow[h.id].log_probability, abs=1e-3)
    assert {h.id for h in decode_frames(small, frames, prompt, most_tokens=40) if h.text} == set(alone)
    heard, same = detect_frames(exact, frames), detect_frames(eager, frames)
    for f in frames:
        assert heard[f.id] == pytest.approx(same[f.id], abs=1e-3)
        assert likeliest(heard[f.id]) == likeliest(same[f.id]) == detect_language(base_whisper, f.values)[0]
        assert sum(same[f.id].values()) == pytest.approx(1, abs=1e-4)
    assert {likeliest(p) for p in detect_frames(small, frames).values()} == {"fr"}


@pytest.mark.model
def test_words_are_placed_in_order_within_the_audio(base_whisper, prompts_manifest):
    (u,) = [u for u in prompts_manifest if u.id == "en/conf-invalid"]
    samples = load_audio(u.audio)
    words = place_words(base_whisper, samples, "en", u.text)
    assert [w.word for w in words] == u.text.split()
    assert all(0 <= w.start <= w.end <= len(samples) / SAMPLE_RATE for w in words)
    assert all(a.end <= b.start + 1e-6 for a, b in itertools.pairwise(words))
    assert words[-1].start > words[0].end
