"""Encoders from outside the package: another frame rate and width, registered and used by name."""

import importlib.metadata
import json
import sys
import textwrap

import pytest

from helpers import load_results
from interlingua.audio import load_audio
from interlingua.cli import run
from interlingua.corpora import read_manifest
from interlingua.encoding import ENCODERS, FrameStore, parse_shard, shard_of
from interlingua.errors import UsageError

TOY = '''
    """Loudness in six bands, twelve and a half times a second."""
    import numpy as np
    from interlingua.types import SAMPLE_RATE, FrameSpec

    class Toy:
        rate, dim, layers = 12.5, 6, 1
        spec = FrameSpec("toy", "1", layer=1, context="speech", pooling=1, dtype="float16", compute="float32")

        def encode(self, batch):
            return [self.frames(samples) for samples in batch]

        def frames(self, samples):
            size = round(SAMPLE_RATE / self.rate)
            rows = np.pad(samples, (0, -len(samples) % size)).reshape(-1, size)
            bands = np.abs(np.fft.rfft(rows, axis=1))[:, : 16 * self.dim].reshape(len(rows), self.dim, 16).sum(axis=2)
            return bands.astype(np.float32), len(rows)

    def make(model, *, context, layer, device, compute):
        return Toy()
'''


@pytest.fixture(params=["toy:make", "bands"])
def toy(request, tmp_path, monkeypatch):
    """A name for the toy encoder: its import path, or what an installed package's entry point calls it."""
    (tmp_path / "toy.py").write_text(textwrap.dedent(TOY))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "toy", raising=False)
    if request.param == "bands":
        package = tmp_path / "toy-1.dist-info"
        package.mkdir()
        (package / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1\n")
        (package / "entry_points.txt").write_text("[interlingua.encoders]\nbands = toy:make\n")
        importlib.invalidate_caches()
        assert list(ENCODERS) == ["whisper", "transformers", "bands"]
    return request.param


def test_an_encoder_from_outside_fills_a_store_that_retrieval_reads(toy, wav_manifest, tmp_path, capsys):
    path = tmp_path / "frames.lance"
    assert run(["encode", str(wav_manifest), str(path), "--encoder", toy, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["encoded"] == 9
    store = FrameStore.open(path)
    assert (store.spec.model, store.spec.rate, store.dim) == ("toy", 12.5, 6)
    for u in read_manifest(wav_manifest):
        assert store.read([u.id])[0].values.shape == (-(-len(load_audio(u.audio)) // 1280), 6)  # of 80 ms
    out = ["--out", str(tmp_path / "out")]
    evaluate = ["evaluate", "retrieval", str(wav_manifest), str(path), "--languages", "en", "fr", *out]
    assert run([*evaluate, "--method", "seqsim", "--drop-quiet", "60"]) == 0
    results, _ = load_results(tmp_path / "out")
    assert [row["r1"] for row in results["retrieval"]] == [1.0, 1.0]


def test_an_unknown_encoder_is_one_line(wav_manifest, tmp_path, capsys):
    assert run(["encode", str(wav_manifest), str(tmp_path / "s.lance"), "--encoder", "wisper"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "interlingua: unknown encoder 'wisper'; use one of whisper, transformers, or module:attribute"


def test_shards_share_the_work_and_fill_one_store(toy, wav_manifest, tmp_path, capsys):
    path = tmp_path / "frames.lance"
    numbers = []
    for i in range(3):
        assert run(["encode", str(wav_manifest), str(path), "--encoder", toy, "--shard", f"{i}/3", "--json"]) == 0
        numbers.append(json.loads(capsys.readouterr().out)["encoded"])
    assert sum(numbers) == 9
    assert max(numbers) < 9
    assert sorted(FrameStore.open(path).ids()) == sorted(u.id for u in read_manifest(wav_manifest))


def test_a_shard_is_the_same_whatever_else_is_listed(wav_manifest):
    utterances = read_manifest(wav_manifest)
    assert shard_of(utterances[4:], 1, 2) == [u for u in shard_of(utterances, 1, 2) if u in utterances[4:]]
    with pytest.raises(UsageError, match=r"--shard 4/4: the parts of 4 are 0/4 to 3/4"):
        shard_of(utterances, 4, 4)
    for text in ("", "2", "1/", "a/b", "-1/2", "1/2/3"):
        with pytest.raises(UsageError, match=r"use i/n"):
            parse_shard(text)
