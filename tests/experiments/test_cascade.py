"""The cascade baseline: texts equal plain decoding, survive a kill, and find their translations."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_sentence import save_tiny_encoder

from helpers import greedy_tokens, sweep, utterance, write_wav
from interlingua.corpora import read_manifest
from interlingua.encoding import WhisperEncoder, encode_manifest
from interlingua.errors import ResultsError, StoreMismatchError, UntrainedTaskError, UsageError
from interlingua.experiments import translation as cascade
from interlingua.experiments.retrieval import cascade_scores
from interlingua.experiments.translation import english_texts
from interlingua.models import Whisper, load_sentence_encoder
from interlingua.retrieval.evaluate import ranks_of_best_relevant
from interlingua.types import AudioRef


@pytest.fixture
def utterances(wav_manifest):
    """Three recordings each in en, fr and de."""
    return read_manifest(wav_manifest)


@pytest.fixture
def store(utterances, tiny_whisper, tmp_path):
    """All frames but those of one French recording."""
    encoder = WhisperEncoder(tiny_whisper, context="speech+1")
    held = [u for u in utterances if u.id != "fr/two"]
    return encode_manifest(held, encoder, tmp_path / "frames.lance")[0]


@pytest.fixture
def translated(tiny_whisper, tmp_path):
    """English texts, of each call anew."""
    calls = iter(range(9))
    return lambda utterances, store, whisper=tiny_whisper: english_texts(
        utterances, store, whisper, tmp_path / f"new-{next(calls)}.jsonl"
    )


def one_by_one(utterances, store, whisper) -> dict[str, str]:
    """Slow and obvious: each utterance alone."""
    texts = {}
    for u in utterances:
        if u.id in store:
            prompt = whisper.prompt(u.language, "transcribe" if u.language == "en" else "translate")
            (tokens,) = greedy_tokens(whisper, [store.read([u.id])[0].values], prompt)
            texts[u.id] = whisper.tokenizer.decode(tokens, skip_special_tokens=True).strip()
    return texts


# ---------------------------------------------------------------- texts


def test_texts_equal_one_by_one(utterances, store, tiny_whisper, translated, monkeypatch, capsys):
    expected = one_by_one(utterances, store, tiny_whisper)
    assert len(expected) == 8
    assert len(set(expected.values())) > 2  # or a mix-up of ids would go unnoticed
    assert translated(utterances, store) == expected
    assert "into English: 8/8" in capsys.readouterr().err
    monkeypatch.setattr(cascade, "CHUNK_UTTERANCES", 2)
    assert translated(utterances[::-1], store) == expected
    assert "fr/two" not in expected


def test_english_is_transcribed_and_the_rest_translated(utterances, store, tiny_whisper, translated):
    speech = store.read(["en/one"])[0].values
    prompts = {task: tiny_whisper.prompt("en", task) for task in ("transcribe", "translate")}
    said = {task: greedy_tokens(tiny_whisper, [speech], prompt)[0] for task, prompt in prompts.items()}
    assert said["transcribe"] != said["translate"]
    texts = translated(utterances[:1], store)
    assert texts["en/one"] == tiny_whisper.tokenizer.decode(said["transcribe"], skip_special_tokens=True).strip()


def test_a_file_keeps_the_texts(utterances, store, tiny_whisper, tmp_path, monkeypatch):
    path = tmp_path / "texts" / "english.jsonl"
    expected = one_by_one(utterances, store, tiny_whisper)
    french = [u for u in utterances if u.language == "fr"]
    assert english_texts(french, store, tiny_whisper, path) == {i: t for i, t in expected.items() if i[:2] == "fr"}
    assert english_texts(utterances, store, tiny_whisper, path) == expected
    assert len(path.read_text().splitlines()) == 8
    monkeypatch.setattr(cascade, "translate_frames", None)  # nothing is left to do
    assert english_texts(utterances, store, tiny_whisper, path) == expected
    assert set(english_texts(french, store, tiny_whisper, path)) == {"fr/one", "fr/three"}
    assert len(path.read_text().splitlines()) == 8


KILLED = """
import os, signal, sys
from interlingua.corpora import read_manifest
from interlingua.experiments import translation as cascade
from interlingua.models import load_whisper
from interlingua.encoding.store import FrameStore

manifest, store, whisper, path, k = sys.argv[1:]
decode, done = cascade.translate_frames, 0

def until_killed(*arguments, **options):
    global done
    for hypothesis in decode(*arguments, **options):
        if done == int(k):
            os.kill(os.getpid(), signal.SIGKILL)
        done += 1
        yield hypothesis

cascade.translate_frames, cascade.CHUNK_UTTERANCES = until_killed, 2
cascade.english_texts(read_manifest(manifest), FrameStore.open(store), load_whisper(whisper), cascade.Path(path))
"""


def test_a_killed_run_goes_on_where_it_was(
    utterances, store, tiny_whisper, tiny_whisper_folder, wav_manifest, tmp_path, monkeypatch
):
    path = tmp_path / "english.jsonl"
    arguments = [wav_manifest, store.path, tiny_whisper_folder, path, 6]
    command = [sys.executable, "-c", KILLED, *map(str, arguments)]
    killed = subprocess.run(command, capture_output=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    kept = {json.loads(line)["id"] for line in path.read_text().splitlines()}
    assert len(kept) == 5  # chunks of 2 + 1 (en) and 2 (fr); the sixth text was in the making
    translated = []

    def counting(whisper, frames, language, *, task):
        translated.extend(f.id for f in frames)
        return decode(whisper, frames, language, task=task)

    decode = cascade.translate_frames
    monkeypatch.setattr(cascade, "translate_frames", counting)
    expected = one_by_one(utterances, store, tiny_whisper)
    assert english_texts(utterances, store, tiny_whisper, path) == expected
    assert sorted(translated) == sorted(set(expected) - kept)
    assert {p.name for p in path.parent.glob("*english*")} == {path.name}  # no temporary file stays behind


def test_changed_audio_is_translated_anew(utterances, store, tiny_whisper, tmp_path):
    path = tmp_path / "english.jsonl"
    before = english_texts(utterances, store, tiny_whisper, path)
    write_wav(Path(utterances[0].audio.path), sweep(0.9, pitch=700, seed=9))
    store, _ = encode_manifest(utterances[:1], WhisperEncoder(tiny_whisper, context="speech+1"), store.path)
    after = english_texts(utterances, store, tiny_whisper, path)
    assert after == one_by_one(utterances, store, tiny_whisper)
    assert [i for i in after if after[i] != before[i]] == [utterances[0].id]


def test_texts_of_another_context_are_not_taken_over(utterances, store, tiny_whisper, tmp_path):
    path = tmp_path / "english.jsonl"
    english_texts(utterances, store, tiny_whisper, path)
    other, _ = encode_manifest(utterances, WhisperEncoder(tiny_whisper, context="speech+3"), tmp_path / "other.lance")
    assert english_texts(utterances, other, tiny_whisper, path) == one_by_one(utterances, other, tiny_whisper)


@pytest.mark.parametrize("line", [b'{"id": "x", "te', b'{"id": "x"}', b"\xff"])
def test_a_damaged_file_is_named(utterances, store, tiny_whisper, tmp_path, line):
    path = tmp_path / "english.jsonl"
    english_texts(utterances, store, tiny_whisper, path)
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(ResultsError, match=r"english.jsonl:9: .*delete the file"):
        english_texts(utterances, store, tiny_whisper, path)


@pytest.mark.parametrize("options", [{"layer": 1}, {"pooling": 2}])
def test_frames_that_cannot_be_decoded_are_refused(utterances, tiny_whisper, translated, tmp_path, options):
    encoder = WhisperEncoder(tiny_whisper, layer=options.get("layer"))
    store, _ = encode_manifest(utterances, encoder, tmp_path / "f.lance", pooling=options.get("pooling", 1))
    with pytest.raises(StoreMismatchError, match="unpooled frames of the last layer"):
        translated(utterances, store)


def test_another_models_frames_are_refused(utterances, store, tiny_whisper, translated):
    other = replace(tiny_whisper, source=replace(tiny_whisper.source, revision="another"))
    with pytest.raises(StoreMismatchError, match=r"weights .*--context full"):
        translated(utterances, store, other)


def test_what_the_model_cannot_do_is_said_before_the_work(
    utterances, store, tiny_whisper, translated, tmp_path, monkeypatch
):
    monkeypatch.setattr(cascade, "translate_frames", None)
    path = write_wav(tmp_path / "x.wav", sweep(0.4, 200))
    unknown = utterance("ast", audio=AudioRef(str(path)))
    store, _ = encode_manifest([unknown], WhisperEncoder(tiny_whisper, context="speech+1"), store.path)
    with pytest.raises(UsageError, match="no language 'ast'"):
        english_texts([*utterances, unknown], store, tiny_whisper, tmp_path / "english.jsonl")
    monkeypatch.setattr(Whisper, "can_translate", False)  # as of turbo
    with pytest.raises(UntrainedTaskError):
        translated(utterances, store, tiny_whisper)


def test_turbo_still_transcribes_english(utterances, store, tiny_whisper, translated, monkeypatch):
    english = [u for u in utterances if u.language == "en"]
    expected = one_by_one(english, store, tiny_whisper)
    monkeypatch.setattr(Whisper, "can_translate", False)
    assert translated(english, store, tiny_whisper) == expected


# ---------------------------------------------------------------- scores


def test_scores_equal_cosines_of_one_pair_at_a_time(tmp_path):
    encoder = load_sentence_encoder(save_tiny_encoder(tmp_path / "encoder"))
    queries = ["press one", None, "", "please leave your message", "one"]
    candidates = ["one two", "", "please enter the number", None]
    scores = cascade_scores(queries, candidates, encoder)
    assert scores.dtype == np.float32
    assert scores.shape == (5, 4)
    for i, q in enumerate(queries):
        for j, c in enumerate(candidates):
            if q is None or c is None:
                assert np.isnan(scores[i, j])
            else:
                a, b = encoder.encode([q])[0], encoder.encode([c])[0]
                assert scores[i, j] == pytest.approx(float(a @ b), abs=1e-6)
                assert (scores[i, j] == 0) == ("" in (q, c))
    assert np.isnan(cascade_scores([None], [None, None], encoder)).all()


@pytest.mark.model
def test_real_prompts_find_their_translations(base_whisper, prompts_manifest, tmp_path):
    """Real speech through the whole cascade; one recording is not in the store."""
    meanings = ["conf-locked", "vm-tooshort", "tt-monkeysintro", "demo-echodone", "conf-extended", "privacy-incorrect"]
    by_id = {u.id: u for u in prompts_manifest}
    english, spanish = ([by_id[f"{lang}/{m}"] for m in meanings] for lang in ("en", "es"))
    held = [*english, *spanish[:-1]]
    encoder = WhisperEncoder(base_whisper, context="speech+4")
    store, _ = encode_manifest(held, encoder, tmp_path / "frames.lance")
    texts = english_texts([*english, *spanish], store, base_whisper, tmp_path / "english.jsonl")
    assert texts["en/conf-extended"] == "The conference has been extended."
    scores = cascade_scores(
        [texts.get(u.id) for u in spanish], [texts.get(u.id) for u in english], load_sentence_encoder()
    )
    assert np.isnan(scores[-1]).all()
    ranks = ranks_of_best_relevant(scores, np.eye(len(meanings), dtype=bool))
    assert ranks[-1] == np.inf
    assert (ranks[:-1] == 1).sum() >= 4, texts
