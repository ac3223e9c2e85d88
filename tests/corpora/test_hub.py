"""Data sets from the hub: the hub's own library against a server of ours that speaks the hub's protocol, in a process.

The server keeps a repository in memory: its tree, its files with their ETags, and byte ranges, so that what was half
fetched goes on.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote

import pytest

from helpers import sweep, utterance, write_wav
from interlingua.corpora import read_manifest
from interlingua.types import AudioRef
from trees import fleurs_tree

REVISION = "a" * 40
LARGE = (".wav", ".parquet", ".gz")


class Hub:
    """A repository and what was asked of it.

    Attributes:
        files: path -> content.
        altered: path -> what is sent in its place.
        cut: path -> bytes after which the connection breaks, once.
        asked: (path, first byte) of every download.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.altered: dict[str, bytes] = {}
        self.cut: dict[str, int] = {}
        self.asked: list[tuple[str, int]] = []
        self.url = ""

    def info(self, name: str) -> dict:
        data = self.files[name]
        found = {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
        if name.endswith(LARGE):
            found["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        return found


def handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def say(self, rows) -> None:
            body = json.dumps(rows).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers["Content-Length"]))
            given = json.loads(asked)["paths"] if asked[:1] == b"{" else parse_qs(asked.decode())["paths"]
            self.say([hub.info(name) for name in given if name in hub.files])

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(self.path.partition("?")[0])
            if "/tree/" in path:
                under = path.partition("/tree/")[2].partition("/")[2]
                return self.say([hub.info(name) for name in hub.files if name.startswith(under)])
            name = path.partition("/resolve/")[2].partition("/")[2]
            if name not in hub.files:
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            data = hub.altered.get(name, hub.files[name])
            begin = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0] or 0)
            self.send_response(206 if begin else 200)
            self.send_header("ETag", f'"{hashlib.sha256(hub.files[name]).hexdigest()}"')
            self.send_header("X-Repo-Commit", REVISION)
            self.send_header("X-Linked-Size", str(len(data)))
            self.send_header("Content-Length", str(len(data) - begin))
            self.end_headers()
            if self.command == "GET":
                hub.asked.append((name, begin))
                most = hub.cut.pop(name, None)
                self.wfile.write(data[begin:] if most is None else data[begin:most])
                if most is not None:
                    self.close_connection = True
            return None

    return Handler


@pytest.fixture
def hub() -> Iterator[Hub]:
    made = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(made))
    made.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture
def prepare(hub, tmp_path):
    """`interlingua corpus prepare` in a process of its own, for tests connect to nothing; (exit code, stderr)."""

    def prepare(*arguments) -> tuple[int, str]:
        environment = os.environ | {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_OFFLINE": "0",
        }
        command = [sys.executable, "-c", "import sys; from interlingua.cli import main; main(sys.argv[1:])"]
        command += ["corpus", "prepare", *map(str, arguments), "--root", str(tmp_path / "root")]
        ran = subprocess.run(
            [*command, "--out", str(tmp_path / "m.jsonl")],
            env=environment, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        return ran.returncode, ran.stderr

    return prepare


@pytest.fixture
def audio_folder(hub, tmp_path):
    """AudioFolder on the hub: a metadata.csv in each split's folder, wav files, a card and a script."""
    for n, name in enumerate(("train/a.wav", "train/b.wav", "test/a.wav")):
        hub.files[name] = write_wav(tmp_path / "there" / name, sweep(0.3, 300, seed=n)).read_bytes()
    hub.files["train/metadata.csv"] = b"file_name,transcription,lang\na.wav,NA,en\nb.wav,Yes,en\n"
    hub.files["test/metadata.csv"] = b"file_name,transcription,lang\na.wav,Oui,fr\n"
    hub.files |= {"README.md": b"# a card", ".gitattributes": b"", "load.py": b"raise SystemExit"}
    (tmp_path / "root").mkdir()
    return hub


AUDIO_FOLDER = ("huggingface", "--option", "hub=owner/name", "--option", "streaming=no")


def test_a_folder_of_audio_comes_whole_and_once(audio_folder, prepare, tmp_path):
    code, err = prepare(*AUDIO_FOLDER)
    assert code == 0, err
    assert {(u.id, u.text, u.split) for u in read_manifest(tmp_path / "m.jsonl")} == {
        ("train/a.wav", "NA", "train"),
        ("train/b.wav", "Yes", "train"),
        ("test/a.wav", "Oui", "test"),
    }
    there = {p.relative_to(tmp_path / "root").as_posix() for p in (tmp_path / "root").rglob("*") if p.is_file()}
    assert {name for name in there if not name.startswith(".cache")} == {
        name for name in audio_folder.files if name.startswith("t")
    }
    asked = len(audio_folder.asked)
    code, err = prepare(*AUDIO_FOLDER)
    assert (code, len(audio_folder.asked)) == (0, asked)
    assert err.count("is there already") == 5


def test_what_was_half_fetched_goes_on(audio_folder, prepare, tmp_path):
    chunk = 10 * 2**20  # what the hub's library writes at a time
    audio_folder.files["train/b.wav"] = bytes(chunk + 2000)
    audio_folder.cut["train/b.wav"] = chunk + 1000
    prepare(*AUDIO_FOLDER)
    code, err = prepare(*AUDIO_FOLDER)
    assert code == 0, err
    assert [begin for name, begin in audio_folder.asked if name == "train/b.wav"] == [0, chunk]
    assert (tmp_path / "root" / "train" / "b.wav").read_bytes() == audio_folder.files["train/b.wav"]


def test_a_file_of_another_content_is_not_kept(audio_folder, prepare, tmp_path):
    size = len(audio_folder.files["test/a.wav"])
    audio_folder.altered["test/a.wav"] = bytes(size)
    code, err = prepare(*AUDIO_FOLDER, "--split", "test")
    assert code == 2
    assert (
        "owner/name: test/a.wav came with another size or SHA-256; try again. By hand: `hf download owner/name" in err
    )
    assert not (tmp_path / "root" / "test" / "a.wav").exists()
    assert not (tmp_path / "m.jsonl").exists()
    del audio_folder.altered["test/a.wav"]
    code, err = prepare(*AUDIO_FOLDER, "--split", "test")
    assert code == 0, err
    assert {name for name, _ in audio_folder.asked} == {"train/metadata.csv", "test/metadata.csv", "test/a.wav"}


def test_a_data_set_without_data_says_so(hub, prepare, tmp_path):
    hub.files["load.py"] = b"raise SystemExit"
    (tmp_path / "root").mkdir()
    code, err = prepare(*AUDIO_FOLDER)
    assert code == 2
    assert "owner/name has no such data at main; a data set that has only a script is at the option revision=" in err


def test_fleurs_is_fetched_from_the_hub(hub, prepare, tmp_path):
    spoken = [
        utterance(
            "fr", f"m{n}", audio=AudioRef(str(write_wav(tmp_path / f"{n}.wav", sweep(0.3, 300, n)))), text=f"t{n}"
        )
        for n in range(3)
    ]
    tree = fleurs_tree(tmp_path / "tree", spoken)
    for path in sorted(p for p in tree.rglob("*") if p.is_file()):
        hub.files[path.relative_to(tree).as_posix()] = path.read_bytes()
    code, err = prepare("fleurs", "--download", "--languages", "fr", "--split", "test")
    assert code == 0, err
    assert [u.text for u in read_manifest(tmp_path / "m.jsonl")] == ["t0", "t1", "t2"]
    assert sorted(Path(name).name for name, _ in hub.asked) == ["test.tar.gz", "test.tsv"]
    code, err = prepare("fleurs", "--download", "--languages", "de")
    assert code == 2
    assert "google/fleurs has no data/de_de/train.tsv at main. By hand: fetch data/<lang>/{train,dev,test}.tsv" in err
