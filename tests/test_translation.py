"""Greedy decoding against transformers' own generate; words placed in time; the baseline's bookkeeping."""

import itertools

import numpy as np
import pytest
import torch

from helpers import sweep, utterance
from interlingua.encode import WhisperEncoder
from interlingua.errors import CorpusError, UntrainedTaskError
from interlingua.experiments.translation import translation_baseline
from interlingua.models import quiet
from interlingua.store import FrameStore
from interlingua.translation import greedy_tokens, place_words, translate_frames
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


def test_different_lengths_are_decoded_apart_and_joined_by_id(tiny_whisper):
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
