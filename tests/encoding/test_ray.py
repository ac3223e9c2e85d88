"""Encoding on a Ray cluster of several processes: every row there once, whoever is killed (`make test-cluster`)."""

import json
import os
import pickle
import subprocess
import sys
import textwrap
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pyarrow as pa
import pytest
from test_shards import Loudness, recordings

from interlingua.cli import run
from interlingua.corpora import write_manifest
from interlingua.encoding import FrameStore, RayEngine, cluster, encode_here, encode_manifest
from interlingua.errors import ModelNotFoundError, StoreMismatchError, UsageError

CLUSTER = """
    # Two nodes on this machine; the command line encodes on them, and a worker is killed in the middle.
    import json, os, signal, sys, threading, time
    from pathlib import Path
    from ray.cluster_utils import Cluster
    from interlingua.cli import run

    folder = Path(sys.argv[1])
    told = folder / "told"
    told.mkdir()
    os.environ["TOLD"] = str(told)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 10**8})
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=10**8) for _ in range(2)]
    cluster.wait_for_nodes()

    killed = []
    def kill_one():
        while not killed:
            for file in told.iterdir():
                if file.stat().st_size >= 2 and len(list(told.iterdir())) > 1:  # both work
                    killed.append(int(file.name))
                    os.kill(killed[0], signal.SIGKILL)
                    return
            time.sleep(0.02)

    watch = threading.Thread(target=kill_one, daemon=True)
    watch.start()
    code = run(["encode", str(folder / "m.jsonl"), str(folder / "s.lance"), "--engine", "ray", "--json",
                "--address", cluster.address, "--encoder", "ray_encoder:make"])
    watch.join(timeout=1)
    print("TOLD", json.dumps({"code": code, "killed": killed, "workers": [int(f.name) for f in told.iterdir()]}))
    cluster.shutdown()
"""
ENCODER = """
    import os, time
    from pathlib import Path
    from interlingua.encoding import cluster, pipeline
    from test_shards import Loudness

    pipeline.CHUNK_UTTERANCES, cluster.SHARE = 4, 12

    class Telling(Loudness):
        def encode(self, batch):
            with (Path(os.environ["TOLD"]) / str(os.getpid())).open("a") as file:
                file.write(".")
            time.sleep(0.3)
            return super().encode(batch)

    def make(model, *, context, layer, device, compute):
        return Telling()
"""


def shares_of(utterances, held):
    return pa.table({"share": [pickle.dumps((utterances, held))]})


def test_a_worker_makes_what_one_process_makes(tmp_path):
    utterances = recordings(tmp_path, 3)
    first = next(encode_here(utterances[:1], {}, Loudness(), Loudness.spec)).frames[0]
    (tmp_path / "1.wav").write_text("not audio")
    worker = cluster._Worker(Loudness, Loudness.spec, Loudness.spec)
    rows = worker(shares_of(utterances, {first.id: first.audio_hash}))
    parts = [pickle.loads(made) for row in rows for made in row["part"]]
    assert [i for p in parts for i in p.present] == [utterances[0].id]
    assert [i for p in parts for i in p.failed] == [utterances[1].id]
    (made,) = [f for p in parts for f in p.frames]
    (expected,) = [f for p in encode_here(utterances[2:], {}, Loudness(), Loudness.spec) for f in p.frames]
    assert (made.id, made.n_speech, made.audio_hash, made.utterance) == (
        expected.id, expected.n_speech, expected.audio_hash, utterances[2],
    )  # fmt: skip
    np.testing.assert_array_equal(made.values, expected.values)


def no_model():
    raise ModelNotFoundError("no model on this node")


@pytest.mark.parametrize(
    ("load", "expected", "error", "message"),
    [
        (no_model, Loudness.spec, ModelNotFoundError, "no model on this node"),
        (Loudness, replace(Loudness.spec, compute="bfloat16"), StoreMismatchError, "a worker makes FrameSpec"),
    ],
)
def test_a_worker_that_cannot_work_says_why(tmp_path, load, expected, error, message):
    worker = cluster._Worker(load, expected, expected)
    (row,) = worker(shares_of(recordings(tmp_path, 1), {}))
    (made,) = map(pickle.loads, row["part"])
    assert isinstance(made, error)
    assert message in str(made)


def test_without_ray_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"--engine ray: Ray isn't installed; pip install 'interlingua\[ray\]'"):
        encode_manifest(recordings(tmp_path, 1), Loudness(), tmp_path / "s.lance", engine=RayEngine(Loudness))


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="no Ray here; make test-cluster has it")
def test_a_killed_worker_s_utterances_are_there_once(tmp_path):
    utterances = recordings(tmp_path, 120)
    write_manifest(tmp_path / "m.jsonl", utterances)
    (tmp_path / "ray_encoder.py").write_text(textwrap.dedent(ENCODER))
    environment = {**os.environ, "PYTHONPATH": ":".join([str(tmp_path), *sys.path]), "RAY_USAGE_STATS_ENABLED": "0"}
    encode_manifest(utterances[:20], Loudness(), tmp_path / "s.lance")  # another run's, which this one continues
    command = [sys.executable, "-c", textwrap.dedent(CLUSTER), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-5000:]
    report, _, told = done.stdout.partition("TOLD ")
    told = json.loads(told)
    assert told["code"] == 0
    found = json.loads(report)
    assert (found["encoded"], found["present"], found["failed"]) == (100, 20, {})
    assert len(told["killed"]) == 1
    assert len(told["workers"]) >= 3  # two, and the one that came for the killed one
    ids = [u.id for u in utterances]
    store = FrameStore.open(tmp_path / "s.lance")
    assert sorted(store.ids()) == sorted(ids)
    assert len(store) == 120
    here, _ = encode_manifest(utterances, Loudness(), tmp_path / "here.lance")
    for a, b in zip(store.read(ids), here.read(ids), strict=True):
        np.testing.assert_array_equal(a.values, b.values)
    assert store.lines() == here.lines()
    assert "Traceback" not in done.stderr


def test_an_address_without_the_engine_is_refused(tmp_path, capsys):
    write_manifest(tmp_path / "m.jsonl", recordings(tmp_path, 1))
    assert run(["encode", str(tmp_path / "m.jsonl"), str(tmp_path / "s.lance"), "--address", "auto"]) == 2
    assert "--address is the Ray cluster's; add --engine ray" in capsys.readouterr().err
    assert not (tmp_path / "s.lance").exists()
