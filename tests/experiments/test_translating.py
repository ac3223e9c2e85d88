"""Scoring what a model translates: the baseline's bookkeeping."""

import msgspec
import numpy as np
import pytest

from helpers import sweep, utterance
from interlingua.encoding import WhisperEncoder
from interlingua.encoding.store import FrameStore
from interlingua.errors import CorpusError
from interlingua.experiments.translation import translation_baseline
from interlingua.types import Frames


def test_baseline_counts_a_missing_utterance_as_empty(tiny_whisper, tmp_path):
    encoder = WhisperEncoder(tiny_whisper, context="full")
    store = FrameStore.create(tmp_path / "s.lance", encoder.spec, encoder.dim)
    members = [utterance("fr", str(i), translations={"en": f"number {i}"}) for i in range(3)]
    for i, u in enumerate(members[:2]):
        ((values, n_speech),) = encoder.encode([sweep(0.4, 220.0, i)])
        store.write([Frames(u.id, values.astype(np.float16), n_speech)])
    (row,), samples = map(msgspec.to_builtins, translation_baseline(members, store, tiny_whisper, system="tiny"))
    assert row["n"] == 3
    assert {s["id"]: s["hypothesis"] for s in samples}[members[2].id] == ""
    assert row["bleu"]["signature"].startswith("nrefs:1")


def test_baseline_needs_english_references(tiny_whisper, tmp_path):
    encoder = WhisperEncoder(tiny_whisper, context="full")
    store = FrameStore.create(tmp_path / "s.lance", encoder.spec, encoder.dim)
    with pytest.raises(CorpusError, match="no English reference"):
        translation_baseline([utterance("fr", "x")], store, tiny_whisper, system="tiny")
