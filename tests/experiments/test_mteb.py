"""Our task in mteb's form, scored by mteb's own evaluator; skipped where mteb isn't installed (make test-mteb)."""

import numpy as np
import pytest

from interlingua.audio import load_audio
from interlingua.corpora import read_manifest
from interlingua.encoding import WhisperEncoder, encode_manifest
from interlingua.errors import CorpusError, UsageError
from interlingua.experiments import mteb as ours
from interlingua.experiments.retrieval import Corpus, measure
from interlingua.models import load_whisper
from interlingua.types import SAMPLE_RATE


def test_without_mteb_it_is_one_line(monkeypatch, wav_manifest):
    monkeypatch.setitem(__import__("sys").modules, "mteb.abstasks.retrieval", None)
    with pytest.raises(UsageError, match=r"^mteb can't be imported \(.*\); pip install mteb$"):
        ours.speech_retrieval(read_manifest(wav_manifest))


def mean_pooled(encoder):
    """An encoder of mteb's: the mean of an utterance's frames."""
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.model_meta import ModelMeta

    class Pooled(AbsEncoder):
        mteb_model_meta = ModelMeta.create_empty({"name": "ours/pooled", "revision": "1", "modalities": ["audio"]})

        def __init__(self):
            pass

        def encode(self, inputs, **options):
            rows = []
            for batch in inputs:
                assert {a["sampling_rate"] for a in batch["audio"]} == {SAMPLE_RATE}
                audio = [np.asarray(a["array"], np.float32) for a in batch["audio"]]
                rows += [
                    frames[:n].astype(np.float16).astype(np.float32).mean(axis=0) for frames, n in encoder.encode(audio)
                ]
            return np.stack(rows)

    return Pooled()


def check(utterances, encoder, path):
    """mteb's figures are ours, pair by pair."""
    import mteb

    task = ours.speech_retrieval(utterances)
    found = mteb.evaluate(mean_pooled(encoder), task, cache=None, show_progress_bar=False)
    scores = {s["hf_subset"]: s for s in found.task_results[0].scores["test"]}
    store, _ = encode_manifest(utterances, encoder, path)
    expected = measure(Corpus.of(utterances, store), ["mean-pool"]).rows
    assert {f"{r.query}-{r.candidate}" for r in expected} == set(scores)
    for r in expected:
        theirs = scores[f"{r.query}-{r.candidate}"]
        assert theirs["main_score"] == theirs["hit_rate_at_1"]
        named = {"hit_rate_at_1": r.r1, "hit_rate_at_5": r.r5, "hit_rate_at_10": r.r10, "mrr_at_1000": r.mrr}
        assert {name: theirs[name] for name in named} == pytest.approx(named, abs=1e-5)  # mteb rounds
    return task, expected


def test_mtebs_evaluator_gives_our_figures(wav_manifest, tiny_whisper, tmp_path):
    pytest.importorskip("mteb")
    utterances = read_manifest(wav_manifest)
    task, rows = check(utterances, WhisperEncoder(tiny_whisper), tmp_path / "s.lance")
    assert len(rows) == 6
    assert task.metadata.eval_langs["en-fr"] == ["eng-Latn", "fra-Latn"]
    task.load_data()
    first = task.dataset["en-fr"]["test"]["queries"][0]
    np.testing.assert_array_equal(np.asarray(first["audio"]["array"], np.float32), load_audio(utterances[0].audio))
    task.unload_data()


@pytest.mark.model
def test_mtebs_evaluator_gives_our_figures_on_real_speech(prompts_manifest, tmp_path):
    pytest.importorskip("mteb")
    few = sorted({u.meaning for u in prompts_manifest if u.language == "ru" and 1.5 < (u.duration or 0) < 3})[:40]
    chosen = [u for u in prompts_manifest if u.meaning in few and u.language in ("en", "fr")]
    _, rows = check(chosen, WhisperEncoder(load_whisper("base")), tmp_path / "s.lance")
    assert all(r.r1 > 2 * r.chance for r in rows)


def test_manifests_without_a_common_sentence_are_refused(wav_manifest):
    pytest.importorskip("mteb")
    utterances = read_manifest(wav_manifest)
    with pytest.raises(CorpusError, match=r"no sentence is recorded in two of en; see `meaning`"):
        ours.speech_retrieval([u for u in utterances if u.language == "en"])
