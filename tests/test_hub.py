"""The hub's real clients against a server on this machine: models and data sets, refused, broken off, and offline."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import save_tiny_whisper, sweep, write_wav
from hub_server import TOKEN, Hub, Repository, serving
from interlingua.corpora import read_manifest

pytest.importorskip("datasets")

LARGE = 24 << 20  # bytes: the client keeps what it has of a file in pieces of 10 MB
STEPS = """
import json, sys
from pathlib import Path
from interlingua.errors import InterlinguaError
from interlingua.models import load_whisper, resolve
for name, revision, load in json.loads(sys.argv[1]):
    try:
        source = resolve(name, revision=revision)
        if load:
            load_whisper(source)
        print("STEP", json.dumps([source.origin, source.revision]))
    except InterlinguaError as e:
        print("STEP", json.dumps([type(e).__name__, str(e)]))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> dict[str, bytes]:
    folder = save_tiny_whisper(tmp_path_factory.mktemp("hub") / "tiny")
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def environment(hub: Hub, home: Path, **more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and "proxy" not in k.lower()}
    ours = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    limits = {"HF_HUB_ETAG_TIMEOUT": "5", "HF_HUB_DOWNLOAD_TIMEOUT": "5", "NO_PROXY": "127.0.0.1"}
    return {**kept, **ours, **limits, "PYTHONPATH": os.pathsep.join(sys.path), **more}


def resolved(hub: Hub, home: Path, *steps: tuple[str, str | None, bool], **more: str) -> list[list[str]]:
    command = [sys.executable, "-c", STEPS, json.dumps(steps)]
    done = subprocess.run(command, env=environment(hub, home, **more), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line[5:]) for line in done.stdout.splitlines() if line.startswith("STEP ")]
    assert all("\n" not in text for _, text in found)
    return found


def command(hub: Hub, home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from interlingua.cli import main; main()"
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=environment(hub, home, **more), capture_output=True, text=True, timeout=300)
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    return done


def test_models_by_id_revision_gate_and_broken_transfer(model, tmp_path):
    older = model | {"README.md": b"older"}
    cut, busy, down = {"tokenizer.large": ["cut"]}, {"model.safetensors": [429, 503]}, {"tokenizer.json": [500] * 99}
    with serving(Hub()) as hub:
        public = Repository({"main": model, "older": older})
        hub.repositories = {
            ("models", "lab/tiny"): public,
            ("models", "lab/gated"): Repository({"main": model}, gated=True),
            ("models", "lab/cut"): Repository({"main": model | {"tokenizer.large": bytes(LARGE)}}, faults=cut),
            ("models", "lab/busy"): Repository({"main": model}, faults=busy),
            ("models", "lab/down"): Repository({"main": model}, faults=down),
            ("models", "lab/other"): Repository({"main": {"config.json": b'{"model_type": "bert"}'}}),
        }
        steps = [("lab/tiny", None, True), ("lab/tiny", "older", False), ("lab/tiny", "no-such", False)]
        steps += [(f"lab/{name}", None, False) for name in ("gated", "cut", "down", "other", "nothing")]
        busy_steps = [("lab/busy", None, False)] * 3
        found = dict(zip([s[:2] for s in steps], resolved(hub, tmp_path / "home", *steps), strict=True))
        assert found["lab/tiny", None] == ["hub download", public.commit("main")]
        assert found["lab/tiny", "older"] == ["hub download", public.commit("older")]
        assert found["lab/cut", None][0] == "hub download"
        told = resolved(hub, tmp_path / "home", *busy_steps)
        assert [kind for kind, _ in told] == ["ModelNotFoundError", "hub download", "hub cache"]
        assert any(status in told[0][1] for status in ("429", "503"))  # the other one was tried again at once
        ranges = [r for method, path, r in hub.asked if method == "GET" and path.startswith("cdn/") and r]
        assert any(re.fullmatch(r"bytes=[1-9]\d+-", r) for r in ranges)  # what broke off goes on where it was
        for name, reason in {
            ("lab/tiny", "no-such"): "Revision",
            ("lab/gated", None): "GatedRepo",
            ("lab/down", None): "500",
            ("lab/other", None): "model_type is 'bert', expected 'whisper'",
            ("lab/nothing", None): "RepositoryNotFound",
        }.items():
            kind, text = found[name]
            assert kind in ("ModelNotFoundError", "ModelFormatError"), found[name]
            assert reason in text, text
        with_token = resolved(hub, tmp_path / "home2", ("lab/gated", None, False), HF_TOKEN=TOKEN)
        assert with_token[0][0] == "hub download"
        asked = len(hub.asked)
        offline = resolved(
            hub, tmp_path / "home", ("lab/tiny", None, True), ("lab/nothing", None, False), HF_HUB_OFFLINE="1"
        )
        assert offline[0] == ["hub cache", public.commit("main")]
        assert offline[1][0] == "ModelNotFoundError"
        assert "not queried (offline)" in offline[1][1]
        assert len(hub.asked) == asked


def fleurs(tmp_path: Path) -> dict[str, bytes]:
    """The layout of google/fleurs: a table and an archive for each language and split."""
    import io
    import tarfile

    files: dict[str, bytes] = {}
    for n, language in enumerate(("en_us", "fr_fr")):
        archive, rows = io.BytesIO(), []
        with tarfile.open(fileobj=archive, mode="w:gz") as tar:
            for i in range(3):
                path = write_wav(tmp_path / f"{language}-{i}.wav", sweep(0.5, 300 + 50 * i, seed=n))
                tar.add(path, f"test/{i}{n}.wav")
                rows.append(f"{i}\t{i}{n}.wav\tText {i}\ttext {i}\tt e x t\t8000\tMALE\n")
        files[f"data/{language}/audio/test.tar.gz"] = archive.getvalue()
        files[f"data/{language}/test.tsv"] = "".join(rows).encode()
    return files


def shard(tmp_path: Path) -> bytes:
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    waves = [write_wav(tmp_path / f"p{i}.wav", sweep(0.5, 300 + 50 * i)).read_bytes() for i in range(4)]
    audio = pa.array([{"bytes": w, "path": f"{i}.wav"} for i, w in enumerate(waves)])
    table = pa.table({"audio": audio, "text": [f"text {i}" for i in range(4)], "language": ["fr"] * 4})
    features = {
        "audio": {"sampling_rate": 16000, "_type": "Audio"},
        "text": {"dtype": "string", "_type": "Value"},
        "language": {"dtype": "string", "_type": "Value"},
    }
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, held := io.BytesIO(), row_group_size=2)
    return held.getvalue()


def test_data_sets_downloaded_streamed_and_broken_off(tmp_path):
    corpus = Repository({"main": fleurs(tmp_path)})
    corpus.faults["data/fr_fr/audio/test.tar.gz"] = ["cut"]
    parquet = Repository({"main": {"data/test-00000-of-00001.parquet": shard(tmp_path), "README.md": b"---\n---\n"}})
    with serving(Hub()) as hub:
        hub.repositories = {("datasets", "google/fleurs"): corpus, ("datasets", "lab/speech"): parquet}
        home, root = tmp_path / "home", tmp_path / "fleurs"
        prepare = [
            "corpus",
            "prepare",
            "fleurs",
            "--root",
            str(root),
            "--languages",
            "en_us",
            "fr_fr",
            "--split",
            "test",
        ]
        done = command(hub, home, *prepare, "--download", "--out", str(tmp_path / "f.jsonl"))
        assert done.returncode == 0, done.stderr[-2000:]
        spoken = read_manifest(tmp_path / "f.jsonl")
        assert sorted((u.language, u.meaning) for u in spoken) == [(k, str(i)) for k in ("en", "fr") for i in range(3)]
        asked = len([1 for method, path, _ in hub.asked if method == "GET" and path.startswith("cdn/")])
        assert command(hub, home, *prepare, "--download", "--out", str(tmp_path / "f.jsonl")).returncode == 0
        assert len([1 for m, path, _ in hub.asked if m == "GET" and path.startswith("cdn/")]) == asked  # all is there

        stream = ["corpus", "prepare", "huggingface", "--root", str(tmp_path / "hf"), "--option", "hub=lab/speech"]
        done = command(hub, home, *stream, "--out", str(tmp_path / "s.jsonl"))
        assert done.returncode == 0, done.stderr[-2000:]
        streamed = read_manifest(tmp_path / "s.jsonl")
        assert [u.text for u in streamed] == [f"text {i}" for i in range(4)]
        assert all(Path(u.audio.path).is_file() for u in streamed)
        done = command(hub, home, *stream[:-1], "hub=lab/nothing", "--out", str(tmp_path / "n.jsonl"))
        assert done.returncode == 2
        assert "lab/nothing" in done.stderr.splitlines()[-1]
