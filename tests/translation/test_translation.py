"""Greedy decoding against transformers' own generate, ragged batches too; words in time; the baseline's bookkeeping."""

import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers import sweep, utterance
from interlingua.audio import load_audio
from interlingua.encoding import WhisperEncoder
from interlingua.encoding.store import FrameStore
from interlingua.errors import CorpusError, UntrainedTaskError
from interlingua.experiments.translation import translation_baseline
from interlingua.models import quiet
from interlingua.translation import (
    Twin,
    decode,
    decode_frames,
    greedy_tokens,
    pad_states,
    place_words,
    translate_frames,
)
from interlingua.translation.detect import detect_language
from interlingua.translation.greedy import BATCH_UTTERANCES
from interlingua.translation.twin import Eager
from interlingua.types import SAMPLE_RATE, Frames


def generate(whisper, samples, language, task, n=40):
    """transformers' greedy decoding of one recording, without the prompt and the end."""
    features = whisper.feature_extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors="pt")
    with quiet(), torch.inference_mode():
        tokens = whisper.model.generate(
            features.input_features, language=language, task=task, do_sample=False, num_beams=1, max_new_tokens=n
        )
    special = set(whisper.prompt(language, task)) | {whisper.model.generation_config.eos_token_id}
    return [t for t in tokens[0].tolist() if t not in special]


def frames_of(whisper, samples, name="u"):
    ((values, n_speech),) = WhisperEncoder(whisper, context="full").encode([samples])
    return Frames(name, values, n_speech)


def test_a_batch_decodes_as_each_alone(tiny_whisper):
    states = [frames_of(tiny_whisper, sweep(0.5 + i, 200.0 + 50 * i, i)).values for i in range(3)]
    prompt = tiny_whisper.prompt("en", "translate")
    together = greedy_tokens(tiny_whisper, states, prompt)
    assert together == [greedy_tokens(tiny_whisper, [s], prompt)[0] for s in states]


def ragged(whisper, *lengths):
    """Random states of these lengths."""
    random = np.random.default_rng(0)
    return [random.normal(size=(n, whisper.dim)).astype(np.float32) for n in lengths]


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


@pytest.mark.parametrize("most", [1, 5, None])
def test_the_twin_says_what_the_model_says(tiny_whisper, most):
    spoken = [Frames(f"u{i}", v, len(v)) for i, v in enumerate(ragged(tiny_whisper, 40, 7, 40, 1500, 1, 40))]
    prompt = tiny_whisper.prompt("en", "transcribe")
    expected = {h.id: h for h in decode_frames(tiny_whisper, spoken, prompt, most_tokens=most)}
    twin = Twin(tiny_whisper, compute="float32")
    found = {h.id: h for h in twin.decode(spoken, prompt, most)}
    assert {i: (h.text, h.tokens) for i, h in found.items()} == {i: (h.text, h.tokens) for i, h in expected.items()}
    for i, h in found.items():
        assert h.log_probability == (None if most == 1 else pytest.approx(expected[i].log_probability, abs=1e-4))
    assert max(len(h.tokens) for h in found.values()) == (most or 20)  # 24 positions, 4 of them the prompt's


def test_the_log_probability_is_the_mean_over_tokens_and_end(tiny_whisper):
    states, prompt = ragged(tiny_whisper, 12)[0], tiny_whisper.prompt("en", "transcribe")
    (said,) = decode_frames(tiny_whisper, [Frames("u", states, 12)], prompt, most_tokens=6)
    settings = tiny_whisper.model.generation_config
    last = decoded(tiny_whisper, [states], [[*prompt, *said.tokens]]).last_hidden_state
    with torch.inference_mode():
        logits = tiny_whisper.model.proj_out(last)[0, len(prompt) - 1 : -1]
        logits[:, settings.suppress_tokens] = -torch.inf
        logits[0, settings.begin_suppress_tokens] = -torch.inf
        chances = logits.log_softmax(dim=-1)[range(6), said.tokens]
    assert len(said.tokens) == 6  # the end isn't among them
    assert said.log_probability == pytest.approx(float(chances.mean()), abs=1e-5)


def test_a_twin_is_of_the_model_as_it_was(tiny_whisper):
    whisper = replace(tiny_whisper, model=copy.deepcopy(tiny_whisper.model))
    spoken = [Frames("u", ragged(whisper, 30)[0], 30)]
    prompt = whisper.prompt("en", "transcribe")
    twin = Twin(whisper, compute="float32")
    before = [h.tokens for h in twin.decode(spoken, prompt)]
    with torch.no_grad():
        whisper.model.model.decoder.layers[0].fc1.weight.mul_(-3)
    assert [h.tokens for h in decode_frames(whisper, spoken, prompt)] != before
    assert [h.tokens for h in twin.decode(spoken, prompt)] == before


def test_torch_keeps_its_threads(tiny_whisper):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        twin = Twin(tiny_whisper, compute="float32")
        assert torch.get_num_threads() == 3
        list(twin.decode([Frames("u", ragged(tiny_whisper, 30)[0], 30)], tiny_whisper.prompt("en", "transcribe")))
        assert torch.get_num_threads() == 3  # CTranslate2 would leave one: all training after it on one core
    finally:
        torch.set_num_threads(before)


@pytest.mark.model
def test_the_twin_of_the_real_model_on_real_speech(base_whisper, prompts_manifest):
    spoken = [u for u in prompts_manifest if u.language == "fr"][:6]
    encoder = WhisperEncoder(base_whisper, context="speech+8")
    audio = encoder.encode([load_audio(u.audio) for u in spoken])
    frames = [Frames(u.id, v, n) for u, (v, n) in zip(spoken, audio, strict=True)]
    prompt = base_whisper.prompt("fr", "translate")
    slow = {h.id: h for h in decode_frames(base_whisper, frames, prompt, most_tokens=40)}
    expected = {i: h.tokens for i, h in slow.items()}
    exact, small = (Twin(base_whisper, compute=c) for c in ("float32", "int8_float32"))
    assert {h.id: h.tokens for h in exact.decode(frames, prompt, 40)} == expected
    for h in exact.decode(frames, prompt, 40):  # these end, so the end token counts
        assert h.log_probability == pytest.approx(slow[h.id].log_probability, abs=1e-3)
    assert {h.id for h in small.decode(frames, prompt, 40) if h.text} == set(expected)
    languages = {f.id: detect_language(base_whisper, f.values)[0] for f in frames}
    assert exact.detect(frames) == Eager(base_whisper).detect(frames) == languages
    assert set(small.detect(frames).values()) == {"fr"}
    heard = {name: d.languages(frames) for name, d in (("exact", exact), ("eager", Eager(base_whisper)))}
    for f in frames:
        assert heard["exact"][f.id] == pytest.approx(heard["eager"][f.id], abs=1e-3)
        assert sum(heard["eager"][f.id].values()) == pytest.approx(1, abs=1e-4)


def hooks(whisper):
    return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in whisper.model.modules())


def test_masks_leave_no_hooks_behind(tiny_whisper):
    states, prompt = ragged(tiny_whisper, 9, 4), tiny_whisper.prompt("en", "translate")
    before = hooks(tiny_whisper)  # transformers leaves some of its own where hidden states were asked for
    greedy_tokens(tiny_whisper, states, prompt, most_tokens=2)
    assert hooks(tiny_whisper) == before
    with pytest.raises(IndexError):  # also where the decoder fails
        decoded(tiny_whisper, states, [[10**6]] * 2)
    assert hooks(tiny_whisper) == before


def test_ragged_outputs_equal_those_of_each_alone(tiny_whisper):
    states, prompt = ragged(tiny_whisper, 5, 60, 1, 13, 60), tiny_whisper.prompt("fr", "transcribe")
    together = greedy_tokens(tiny_whisper, states, prompt)
    assert together == [greedy_tokens(tiny_whisper, [s], prompt)[0] for s in states]
    assert len({tuple(tokens) for tokens in together}) > 3
    frames = [Frames(f"u{i}", s, len(s)) for i, s in enumerate(states)]
    found = {h.id: h.tokens for h in decode_frames(tiny_whisper, frames, prompt)}
    assert found == {f.id: tokens for f, tokens in zip(frames, together, strict=True)}


@pytest.mark.parametrize("most", [0, 1, 3, 20, 1000])
def test_no_more_tokens_than_asked_for(tiny_whisper, most):
    states, prompt = ragged(tiny_whisper, 5, 9), tiny_whisper.prompt("en", "transcribe")
    whole = greedy_tokens(tiny_whisper, states, prompt)
    assert {len(tokens) for tokens in whole} == {20}  # all positions
    assert greedy_tokens(tiny_whisper, states, prompt, most_tokens=most) == [tokens[:most] for tokens in whole]
    frames = [Frames(f"u{i}", s, len(s)) for i, s in enumerate(states)]
    assert {len(h.tokens) for h in decode_frames(tiny_whisper, frames, prompt, most_tokens=most)} == {min(most, 20)}


def test_more_utterances_than_a_batch_holds(tiny_whisper):
    states = ragged(tiny_whisper, *range(1, 2 * BATCH_UTTERANCES))
    frames = [Frames(f"u{i}", s, len(s)) for i, s in enumerate(states)]
    prompt = tiny_whisper.prompt("en", "transcribe")
    found = [(h.id, h.tokens) for h in decode_frames(tiny_whisper, frames, prompt, most_tokens=3)]
    assert [i for i, _ in found] == [f.id for f in reversed(frames)]
    assert found[-1][1] == greedy_tokens(tiny_whisper, [states[0]], prompt, most_tokens=3)[0]


def test_suppressed_tokens_are_never_chosen(tiny_whisper):
    frames = frames_of(tiny_whisper, sweep(0.5, 200.0))
    prompt = tiny_whisper.prompt("en", "translate")
    settings = tiny_whisper.model.generation_config
    before = settings.suppress_tokens
    (chosen,) = greedy_tokens(tiny_whisper, [frames.values], prompt)
    assert chosen
    try:
        settings.suppress_tokens = sorted({*(before or []), *chosen})
        (others,) = greedy_tokens(tiny_whisper, [frames.values], prompt)
    finally:
        settings.suppress_tokens = before
    assert not set(others) & set(chosen)


def test_different_lengths_are_joined_by_id(tiny_whisper):
    frames = [frames_of(tiny_whisper, sweep(0.5, 200.0, i), f"u{i}") for i in range(2)]
    short = Frames("short", frames[0].values[:200], 25)
    found = {h.id for h in translate_frames(tiny_whisper, [frames[0], short, frames[1]], "en")}
    assert found == {"u0", "short", "u1"}


def test_translation_is_refused_by_a_model_that_was_not_trained_to(tiny_whisper):
    import dataclasses

    turbo = dataclasses.replace(
        tiny_whisper, source=dataclasses.replace(tiny_whisper.source, name="openai/whisper-large-v3-turbo")
    )
    with pytest.raises(UntrainedTaskError, match="large-v3"):
        list(translate_frames(turbo, [], "fr"))


def test_baseline_counts_a_missing_utterance_as_empty(tiny_whisper, tmp_path):
    encoder = WhisperEncoder(tiny_whisper, context="full")
    store = FrameStore.create(tmp_path / "s.lance", encoder.spec, encoder.dim)
    members = [utterance("fr", str(i), translations={"en": f"number {i}"}) for i in range(3)]
    for i, u in enumerate(members[:2]):
        frames = frames_of(tiny_whisper, sweep(0.4, 220.0, i), u.id)
        store.write([Frames(u.id, frames.values.astype(np.float16), frames.n_speech)])
    (row,), samples = translation_baseline(members, store, tiny_whisper, system="tiny")
    assert row["n"] == 3
    assert {s["id"]: s["hypothesis"] for s in samples}[members[2].id] == ""
    assert row["bleu"]["signature"].startswith("nrefs:1")


def test_baseline_needs_english_references(tiny_whisper, tmp_path):
    encoder = WhisperEncoder(tiny_whisper, context="full")
    store = FrameStore.create(tmp_path / "s.lance", encoder.spec, encoder.dim)
    with pytest.raises(CorpusError, match="no English reference"):
        translation_baseline([utterance("fr", "x")], store, tiny_whisper, system="tiny")


@pytest.mark.model
@pytest.mark.parametrize(("language", "task"), [("es", "translate"), ("fr", "translate"), ("it", "transcribe")])
def test_real_speech_equals_generate(base_whisper, prompts_manifest, language, task):
    from interlingua.audio import load_audio

    chosen = [u for u in prompts_manifest if u.language == language and u.meaning == "conf-invalid"]
    for u in chosen:
        samples = load_audio(u.audio)
        states = frames_of(base_whisper, samples).values
        (ours,) = greedy_tokens(base_whisper, [states], base_whisper.prompt(language, task))
        theirs = generate(base_whisper, samples, language, task, n=100)
        assert ours == theirs


@pytest.mark.model
def test_real_speech_of_all_lengths_is_decoded_together_as_alone(base_whisper, prompts_manifest):
    from interlingua.audio import load_audio

    chosen = [u for u in prompts_manifest if u.language == "es"][:5]
    encoder = WhisperEncoder(base_whisper, context="speech+2")
    encoded = encoder.encode([load_audio(u.audio) for u in chosen])
    states, prompt = [values for values, _ in encoded], base_whisper.prompt("es", "translate")
    assert len({len(s) for s in states}) > 2
    together = greedy_tokens(base_whisper, states, prompt, most_tokens=40)
    assert together == [greedy_tokens(base_whisper, [s], prompt, most_tokens=40)[0] for s in states]


@pytest.mark.model
def test_real_speech_is_translated(base_whisper, prompts_manifest):
    from interlingua.audio import load_audio

    (u,) = [u for u in prompts_manifest if u.id == "es/conf-extended"]
    (hypothesis,) = translate_frames(base_whisper, [frames_of(base_whisper, load_audio(u.audio), u.id)], "es")
    assert hypothesis.text == "The conference has been extended."


@pytest.mark.model
def test_words_are_placed_in_order_within_the_audio(base_whisper, prompts_manifest):
    from interlingua.audio import load_audio

    (u,) = [u for u in prompts_manifest if u.id == "en/conf-invalid"]
    samples = load_audio(u.audio)
    words = place_words(base_whisper, samples, "en", u.text)
    assert [w.word for w in words] == u.text.split()
    assert all(0 <= w.start <= w.end <= len(samples) / SAMPLE_RATE for w in words)
    assert all(a.end <= b.start + 1e-6 for a, b in itertools.pairwise(words))
    assert words[-1].start > words[0].end
