"""A Ray cluster of several processes: every row and pair there once, whoever is killed (`make test-cluster`)."""

import json
import os
import pickle
import subprocess
import sys
import textwrap
from dataclasses import replace
from functools import partial
from importlib.util import find_spec

import numpy as np
import pyarrow as pa
import pytest
from msgspec.structs import replace as replace_struct
from test_shards import Loudness, recordings

from interlingua.cli import run
from interlingua.corpora import write_manifest
from interlingua.encoding import FrameStore, RayEngine, cluster, encode_here, encode_manifest
from interlingua.errors import ModelNotFoundError, StoreError, StoreMismatchError, UsageError
from interlingua.index import Index, build
from interlingua.index import mine as mining

CLUSTER = """
    # Two nodes on this machine; `script` works on them through `killing`, which kills a worker in the middle.
    import json, os, signal, sys, threading, time
    from pathlib import Path
    from ray.cluster_utils import Cluster
    from interlingua.cli import run

    folder = Path(sys.argv[1])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 10**8})
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=10**8) for _ in range(2)]
    cluster.wait_for_nodes()
    ray = ["--engine", "ray", "--address", cluster.address]

    def killing(name, work):
        told, killed = folder / name, []
        told.mkdir()
        (folder / "told").unlink(missing_ok=True)
        (folder / "told").symlink_to(told)

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
        code = work()
        watch.join(timeout=1)
        assert code == 0, code
        assert len(killed) == 1, killed
        assert len(list(told.iterdir())) >= 3  # two, and the one that came for the killed one

    SCRIPT
    cluster.shutdown()
"""
ENCODE = """
    killing("encode", lambda: run(["encode", str(folder / "m.jsonl"), str(folder / "s.lance"), "--json",
                                   "--encoder", "ray_encoder:make", *ray]))
"""
INDEX_AND_MINE = """
    import ray_encoder
    from interlingua.index import mine as m

    def slow(address):
        assert address == cluster.address

        def engine(a, b, shares, advance):
            told = [ray_encoder.Slow.of(s) if s.name.startswith("scores") else s for s in shares]
            yield from remote(address)(a, b, told, advance)

        return engine

    killing("index", lambda: run(["index", "build", str(folder / "m.jsonl"), "--out", str(folder / "i.lance"),
                                  "--encoder", "ray_encoder:make", *ray]))
    m.EXHAUSTIVE, m.CANDIDATES, m.SHARE, m.CHUNK = 0, 8, 60, 10
    remote, m.RayMining = m.RayMining, slow
    os.chdir(folder)
    mine = ["mine", "i.lance", "--languages", "en", "fr", "--one-way", "--out"]
    assert run([*mine, "here.tsv"]) == 0
    killing("mine", lambda: run([*mine, "ray.tsv", *ray]))
"""
ENCODER = """
    import os, time
    from dataclasses import dataclass, replace
    from pathlib import Path
    from interlingua.encoding import cluster, pipeline
    from interlingua.index import mine
    from test_shards import Loudness

    pipeline.CHUNK_UTTERANCES, cluster.SHARE = 4, 12

    def tell():
        told = Path(os.environ["TOLD"])
        with (told / str(os.getpid())).open("a") as file:
            file.write(".")
        while len(list(told.iterdir())) < 2:  # until both work
            time.sleep(0.05)
        time.sleep(0.3)

    class Telling(Loudness):
        def encode(self, batch):
            tell()
            return super().encode(batch)

    @dataclass
    class Slow:
        share: mine.Share

        @classmethod
        def of(cls, share):
            return replace(share, work=cls(share))

        def __call__(self, a, b, advance):
            mine.CHUNK = 10
            tell()
            return self.share.work(a, b, advance)

    def make(model, *, context, layer, device, compute):
        return Telling()
"""


def shares_of(utterances, held):
    return pa.table({"share": [pickle.dumps((utterances, held))]})


def test_a_worker_makes_what_one_process_makes(tmp_path):
    utterances = recordings(tmp_path, 3)
    first = next(encode_here(utterances[:1], {}, Loudness(), Loudness.spec)).frames[0]
    (tmp_path / "1.wav").write_text("not audio")
    worker = cluster._Worker(partial(cluster._Encoding, Loudness, Loudness.spec, Loudness.spec))
    rows = worker(shares_of(utterances, {first.id: first.audio_hash}))
    parts = [pickle.loads(made) for row in rows for made in row["made"]]
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
    worker = cluster._Worker(partial(cluster._Encoding, load, expected, expected))
    (row,) = worker(shares_of(recordings(tmp_path, 1), {}))
    (made,) = map(pickle.loads, row["made"])
    assert isinstance(made, error)
    assert message in str(made)


def test_without_ray_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"--engine ray: Ray isn't installed; pip install 'interlingua\[ray\]'"):
        encode_manifest(recordings(tmp_path, 1), Loudness(), tmp_path / "s.lance", engine=RayEngine(Loudness))


def on_two_nodes(folder, script: str) -> str:
    """Run a script on a cluster, and return what it printed."""
    (folder / "ray_encoder.py").write_text(textwrap.dedent(ENCODER))
    paths = {"PYTHONPATH": ":".join([str(folder), *sys.path]), "TOLD": str(folder / "told")}
    code = textwrap.dedent(CLUSTER).replace("SCRIPT", textwrap.dedent(script))
    environment = {**os.environ, **paths, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], env=environment, capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr[-5000:]
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="no Ray here; make test-cluster has it")
def test_a_killed_worker_s_utterances_are_there_once(tmp_path):
    utterances = recordings(tmp_path, 120)
    write_manifest(tmp_path / "m.jsonl", utterances)
    encode_manifest(utterances[:20], Loudness(), tmp_path / "s.lance")  # another run's, which this one continues
    found = json.loads(on_two_nodes(tmp_path, ENCODE))
    assert (found["encoded"], found["present"], found["failed"]) == (100, 20, {})
    ids = [u.id for u in utterances]
    store = FrameStore.open(tmp_path / "s.lance")
    assert sorted(store.ids()) == sorted(ids)
    assert len(store) == 120
    here, _ = encode_manifest(utterances, Loudness(), tmp_path / "here.lance")
    for a, b in zip(store.read(ids), here.read(ids), strict=True):
        np.testing.assert_array_equal(a.values, b.values)
    assert store.lines() == here.lines()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="no Ray here; make test-cluster has it")
def test_an_index_and_pairs_are_those_of_one_process_though_workers_are_killed(tmp_path):
    recorded = recordings(tmp_path, 120)
    languages = ("en", "fr", "ru")
    utterances = [replace_struct(u, language=languages[n % 3]) for n, u in enumerate(recorded)]
    write_manifest(tmp_path / "m.jsonl", utterances)
    on_two_nodes(tmp_path, INDEX_AND_MINE)
    index, (here, _) = (
        Index.open(tmp_path / "i.lance"),
        build(utterances, tmp_path / "here", encoder="test_shards:make"),
    )
    assert sorted(index.ids()) == sorted(u.id for u in utterances)
    assert len(index.store) == len(index) == 120
    for a, b in zip(index.store.read(here.ids()), here.store.read(here.ids()), strict=True):
        np.testing.assert_array_equal(a.values, b.values)
    assert (tmp_path / "ray.tsv").read_bytes() == (tmp_path / "here.tsv").read_bytes()
    pairs = [tuple(line.split("\t")[:6:5]) for line in (tmp_path / "ray.tsv").read_text().splitlines()[1:]]
    assert len(set(pairs)) == len(pairs) >= 40
    assert not list(tmp_path.glob(".*.begun"))


def test_a_worker_that_finds_another_index_says_so(tmp_path):
    utterances = [replace_struct(u, language="en" if n % 2 else "fr") for n, u in enumerate(recordings(tmp_path, 8))]
    uri = str(tmp_path / "i.lance")
    index, _ = build(utterances[:6], uri, encoder="test_shards:make")
    sides = [(uri, language, mining.Side(index, language).digest) for language in ("en", "fr")]
    mining._Miner(*sides)
    build(utterances, uri)
    with pytest.raises(StoreError, match=r"i.lance: another process changed it meanwhile; run the same command again"):
        mining._Miner(*sides)


def test_an_address_without_the_engine_is_refused(tmp_path, capsys):
    write_manifest(tmp_path / "m.jsonl", recordings(tmp_path, 1))
    assert run(["encode", str(tmp_path / "m.jsonl"), str(tmp_path / "s.lance"), "--address", "auto"]) == 2
    assert "--address is the Ray cluster's; add --engine ray" in capsys.readouterr().err
    assert not (tmp_path / "s.lance").exists()
