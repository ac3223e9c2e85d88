"""A manifest in shards, several processes on one store: every row there once, whoever is killed."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from helpers import sweep, utterance, write_wav
from interlingua.corpora import write_manifest
from interlingua.encoding import EncodeReport, FrameStore, encode_manifest, pipeline, shard_of
from interlingua.errors import UsageError
from interlingua.types import AudioRef, Frames, FrameSpec


class Loudness:
    """Frames of nothing but energy, 50 a second: an encoder that costs nothing."""

    spec = FrameSpec("loudness", "1", layer=1, context="speech", pooling=1, dtype="float16", compute="float32")
    dim, rate, layers = 4, 50.0, 1

    def encode(self, batch):
        energies = [np.abs(samples[: len(samples) // 320 * 320]).reshape(-1, 320).mean(1) for samples in batch]
        return [(np.repeat(e[:, None], self.dim, 1).astype(np.float32), len(e)) for e in energies]


def make(model, **options):
    return Loudness()


def recordings(folder, n):
    return [
        utterance(
            "en",
            f"u{i}",
            audio=AudioRef(str(write_wav(folder / f"{i}.wav", sweep(0.1 + 0.01 * (i % 7), 200 + i, seed=i)))),
        )
        for i in range(n)
    ]


def encode_shard(utterances, path, index, count) -> EncodeReport:
    return encode_manifest(utterances, Loudness(), path, shard=(index, count))[1]


def test_all_shards_make_the_store_of_one_process(tmp_path):
    utterances = recordings(tmp_path, 20)
    reports = [encode_shard(utterances, tmp_path / "s.lance", i, 3) for i in (2, 0, 1)]
    assert [r.missing for r in reports] == [(0, 1), (1,), ()]
    assert [r.encoded for r in reports] == [len(shard_of(utterances, i, 3)) for i in (2, 0, 1)]
    whole, _ = encode_manifest(utterances, Loudness(), tmp_path / "whole.lance")
    ids = [u.id for u in utterances]
    for a, b in zip(FrameStore.open(tmp_path / "s.lance").read(ids), whole.read(ids), strict=True):
        np.testing.assert_array_equal(a.values, b.values)


def test_another_number_of_shards_is_refused_until_all_have_completed(tmp_path):
    utterances, store = recordings(tmp_path, 12), tmp_path / "s.lance"
    for i in (0, 1, 3):
        encode_shard(utterances, store, i, 4)
    with pytest.raises(
        UsageError, match=r"--shard 0/2: .*s\.lance takes this manifest in 4 shards, of which 2 haven't"
    ):
        encode_shard(utterances, store, 0, 2)
    assert encode_shard(utterances[::-1], store, 0, 4).missing == (2,)  # the same manifest in another order
    assert encode_shard(utterances, store, 2, 4).missing == ()
    assert encode_shard(utterances, store, 0, 2) == EncodeReport(0, len(shard_of(utterances, 0, 2)), {}, (1,))
    assert len(FrameStore.open(store)) == 12


def test_without_shards_the_rest_is_encoded_and_nothing_is_missing(tmp_path):
    utterances, store = recordings(tmp_path, 12), tmp_path / "s.lance"
    first = encode_shard(utterances, store, 1, 4)
    assert encode_manifest(utterances, Loudness(), store)[1] == EncodeReport(12 - first.encoded, first.encoded, {})
    assert encode_shard(utterances, store, 0, 2).encoded == 0  # not refused


def test_another_manifest_has_shards_of_its_own(tmp_path):
    utterances, store = recordings(tmp_path, 12), tmp_path / "s.lance"
    encode_shard(utterances[:6], store, 0, 4)
    assert encode_shard(utterances[6:], store, 0, 2).missing == (1,)
    with pytest.raises(UsageError, match="in 4 shards, of which 1, 2, 3 haven't"):
        encode_shard(utterances[:6], store, 0, 2)


def test_a_run_without_shards_leaves_no_notes(tmp_path):
    store, _ = encode_manifest(recordings(tmp_path, 3), Loudness(), tmp_path / "s.lance")
    assert (store.notes(), store.version) == ({}, 2)


def test_commits_are_rarer_where_they_take_longer(tmp_path, monkeypatch):
    """Each commit is followed by at least 19 times its own duration without one, unless frames fill the memory."""
    now, store = [0.0], FrameStore.create(tmp_path / "s.lance", Loudness.spec, Loudness.dim)
    written = []

    def slow(frames):
        now[0] += 1.0
        written.append(len(frames))

    monkeypatch.setattr(pipeline, "monotonic", lambda: now[0])
    monkeypatch.setattr(store, "write", slow)
    one = Frames("a", np.ones((8, 4), np.float16), 8)
    with (commits := pipeline._Commits(store)):
        for _ in range(45):
            now[0] += 1.0  # of encoding
            commits.add([one])
    assert written == [1, 20, 20, 4]
    assert commits.written == 45
    monkeypatch.setattr(pipeline, "COMMIT_BYTES", 3 * one.values.nbytes)
    written.clear()
    with (commits := pipeline._Commits(store)):
        for _ in range(7):
            commits.add([one])
    assert written == [1, 3, 3, 0]
    written.clear()
    long = Frames("b", np.ones((40, 4), np.float16), 40)
    with (commits := pipeline._Commits(store)):
        for frames in (one, one, one, long, long):
            commits.add([frames])
    assert written == [1, 2, 1, 1, 0]  # a long recording waits with no other


ARRAY = """
    # A job array on one machine: the shards run at once, some are killed in their second chunk and run again.
    import json, os, signal, sys, time
    from interlingua.corpora import read_manifest
    from interlingua.encoding import encode_manifest, pipeline
    from test_shards import Loudness

    manifest, store, count, doomed = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
    pipeline.CHUNK_UTTERANCES, pipeline.COMMIT_TIME = 2, 1e9  # a commit a chunk

    def start(index, dies=False):
        reader, writer = os.pipe()
        if child := os.fork():
            os.close(writer)
            return child, reader

        class Stopping(Loudness):
            chunks = 0

            def encode(self, batch):
                self.chunks += 1
                if dies and self.chunks == 2:
                    os.write(writer, b".")
                    time.sleep(600)
                return super().encode(batch)

        try:
            _, report = encode_manifest(read_manifest(manifest), Stopping(), store, shard=(index, count))
            print(json.dumps([index, report.encoded, report.present]), flush=True)
            os._exit(0)
        except BaseException as e:
            print(repr(e), file=sys.stderr, flush=True)
            os._exit(1)

    running = {i: start(i, i in doomed) for i in range(count)}
    for i in doomed:
        child, told = running[i]
        assert os.read(told, 1)
        os.kill(child, signal.SIGKILL)
    codes = {i: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for i, (child, _) in running.items()}
    assert codes == {i: -9 if i in doomed else 0 for i in range(count)}, codes
    for i in doomed:
        assert os.waitstatus_to_exitcode(os.waitpid(start(i)[0], 0)[1]) == 0
"""


def spawn_array(manifest, store, count: int, doomed: list[int]) -> dict[int, tuple[int, int]]:
    """Run the array to its end; shard -> utterances encoded and present in its last run."""
    command = [sys.executable, "-c", textwrap.dedent(ARRAY), str(manifest), str(store), str(count), json.dumps(doomed)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return {index: (encoded, present) for index, encoded, present in map(json.loads, done.stdout.splitlines())}


def test_eight_processes_of_which_three_are_killed_leave_every_row_once(tmp_path):
    utterances, path, doomed = recordings(tmp_path, 96), tmp_path / "s.lance", [1, 4, 6]
    write_manifest(tmp_path / "m.jsonl", utterances)
    reports = spawn_array(tmp_path / "m.jsonl", path, 8, doomed)
    assert {i: sum(r) for i, r in reports.items()} == {i: len(shard_of(utterances, i, 8)) for i in range(8)}
    assert all((reports[i][1] >= 2) == (i in doomed) for i in range(8))  # a killed one went on where it was
    store = FrameStore.open(path)
    assert sorted(store.ids()) == sorted(u.id for u in utterances)
    assert len(store) == 96
    assert encode_shard(utterances, path, 0, 8).missing == ()
