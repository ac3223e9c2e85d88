"""Hugging Face: folders, parquet, saved sets, and the hub, whose own library meets a server of ours in a process.

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
from interlingua.audio import load_audio
from interlingua.corpora import read_manifest
from interlingua.corpora.base import read_corpus
from interlingua.errors import CorpusError, FetchError, UsageError
from interlingua.types import AudioRef
from trees import audio_folder, clip, fleurs_tree, jsonl, parquet, put, read, saved_data_set, shard


def test_audiofolder(tmp_path):
    found, log = read("huggingface", audio_folder(tmp_path / "d"))
    assert {(u.id, u.text, u.language, u.split) for u in found} == {
        ("train/a.wav", "NA", "en", "train"),
        ("train/b.wav", "Yes, no", "en", "train"),
        ("test/a.wav", "null", "fr", "test"),
    }
    assert len(log) == 1
    assert "skipped 1 (no audio file)" in log[0]
    assert [u.text for u in read("huggingface", tmp_path / "d", split="test")[0]] == ["null"]
    with pytest.raises(CorpusError, match="no rows of the split dev"):
        read("huggingface", tmp_path / "d", split="dev")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_audiofolder_several_audios_a_row(tmp_path, kind):
    for name in ("en/1.wav", "fr/1.wav"):
        clip(tmp_path / name)
    row = {"en_file_name": "en/1.wav", "fr_file_name": "fr/1.wav", "en_text": "NA", "fr_text": "S.O."}
    if kind == "csv":
        put(tmp_path / "metadata.csv", ",".join(row) + "\n" + ",".join(row.values()) + "\n")
    elif kind == "jsonl":
        jsonl(tmp_path / "metadata.jsonl", row)
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist([row]), tmp_path / "metadata.parquet")
    one, two = read("huggingface", tmp_path)[0]
    assert one.meaning == two.meaning is not None
    assert [(u.language, u.text, u.translations) for u in (one, two)] == [
        ("en", "NA", {"fr": "S.O."}),
        ("fr", "S.O.", {"en": "NA"}),
    ]


def test_audio_without_metadata_has_no_text(tmp_path):
    clip(tmp_path / "d" / "train" / "a.wav")
    found, log = read("huggingface", tmp_path / "d", language=("fr",))
    assert [(u.id, u.text, u.language, u.split) for u in found] == [("train/a.wav", None, "fr", "train")]
    assert "without texts" in log[0]


HUB_COLUMNS = ("meaning=id", "text=raw_transcription")


def test_parquet_audio_stays_where_it_is(tmp_path):
    found, log = read("huggingface", parquet(tmp_path / "d"), columns=HUB_COLUMNS)
    path = str(tmp_path / "d" / "data" / "validation-00000-of-00001.parquet")
    assert [(u.audio, u.text, u.meaning, u.gender, u.language, u.split) for u in found] == [
        (AudioRef(path, member="row=0"), "NA", "7", "female", "fr", "dev"),
        (AudioRef(path, member="row=1"), "Yes", "7", "male", "fr", "dev"),
    ]
    assert len({u.id for u in found}) == 2
    assert len(load_audio(found[1].audio)) == 3200
    assert len(log) == 1
    assert "skipped 1 (no audio file)" in log[0]


def test_parquet_with_an_audio_column_of_another_name_and_with_two(tmp_path):
    data = clip(tmp_path / "x.wav").read_bytes()
    cell = [{"bytes": data, "path": None}]
    features = {name: {"_type": "Audio"} for name in ("speech", "source", "target")}
    shard(tmp_path / "one" / "train.parquet", {"speech": cell, "path": ["x"]}, features)
    (found,) = read("huggingface", tmp_path / "one", language=("en",))[0]
    assert found.audio.member == "row=0/column=speech"
    assert len(load_audio(found.audio)) == 3200
    shard(tmp_path / "two" / "train.parquet", {"source": cell, "target": cell}, features)
    one, two = read("huggingface", tmp_path / "two", language=("en", "fr"))[0]
    assert (one.meaning, one.language, one.audio.member) == (two.meaning, "en", "row=0/column=source")
    assert (two.language, two.audio.member) == ("fr", "row=0/column=target")


def test_a_saved_data_set(tmp_path):
    saved_data_set(tmp_path / "d")
    with pytest.raises(UsageError, match="give the option audio_folder"):
        read("huggingface", tmp_path / "d")
    (found,) = read("huggingface", tmp_path / "d", audio_folder=str(tmp_path / "out"))[0]
    assert (found.text, found.split, found.audio.path) == ("NA", "train", str(tmp_path / "out" / "train-0-audio.wav"))
    assert len(load_audio(found.audio)) == 3200


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    """The package, kept from the network and from the user's cache."""
    package = pytest.importorskip("datasets")
    monkeypatch.setattr(package.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(package.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return package


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_the_hubs_audio_is_written_where_it_was_asked_for(tmp_path, datasets):
    out = tmp_path / "out"  # which isn't there yet
    hub = str(parquet(tmp_path / "d"))  # `datasets` takes a folder's path for a data set's name, too
    found, log = read("huggingface", out, hub=hub, columns=HUB_COLUMNS, split="dev")
    assert [(u.text, u.meaning, u.gender, u.language, u.split) for u in found] == [
        ("NA", "7", "female", "fr", "dev"),
        ("Yes", "7", "male", "fr", "dev"),
    ]
    assert [u.audio.path for u in found] == [str(out / f"validation-{n}-audio.wav") for n in (0, 1)]
    assert sorted(p.name for p in out.iterdir()) == ["validation-0-audio.wav", "validation-1-audio.wav"]
    assert len(load_audio(found[0].audio)) == 3200
    assert "neither bytes nor a file" in log[0] or "no audio file" in log[0]


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_the_hubs_failures_are_one_line(tmp_path, datasets):
    with pytest.raises(FetchError, match="nobody/nothing: can't be read from the hub") as caught:
        read("huggingface", tmp_path, hub="nobody/nothing")
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=r"--split test: .* has validation"):
        read("huggingface", tmp_path, hub=str(parquet(tmp_path / "d")), split="test")


def test_without_datasets_the_fix_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"`datasets` isn't here; install it \(`pip install 'interlingua\[hub\]'`\)"):
        read("huggingface", tmp_path, hub="owner/x")
    assert len(read("huggingface", audio_folder(tmp_path / "d"))[0]) == 3


@pytest.mark.parametrize(
    ("failure", "error", "said"),
    [
        (RuntimeError("Dataset scripts are no longer supported, but found x.py"), CorpusError, "revision=refs/convert"),
        (ImportError("To support decoding audio data, please install 'torchcodec'."), CorpusError, "streaming=no"),
        (ValueError("Config name is missing. Please pick one among: ['a', 'b']"), UsageError, "give the option config"),
        (ConnectionError("Couldn't reach the Hub"), FetchError, "check the name and the network, or give the option"),
    ],
)
def test_what_the_hub_s_package_says_is_told_with_the_fix(tmp_path, monkeypatch, failure, error, said):
    def fail(*_, **__):
        raise failure

    monkeypatch.setattr(pytest.importorskip("datasets"), "load_dataset", fail)
    with pytest.raises(error, match=f"^owner/name: .*{said}") as caught:
        list(read_corpus("huggingface", tmp_path / "new", hub="owner/name"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


# ---------------------------------------------------------------- files of the hub


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
def folder_on_the_hub(hub, tmp_path):
    """AudioFolder on the hub: a metadata.csv in each split's folder, wav files, a card and a script."""
    for n, name in enumerate(("train/a.wav", "train/b.wav", "test/a.wav")):
        hub.files[name] = write_wav(tmp_path / "there" / name, sweep(0.3, 300, seed=n)).read_bytes()
    hub.files["train/metadata.csv"] = b"file_name,transcription,lang\na.wav,NA,en\nb.wav,Yes,en\n"
    hub.files["test/metadata.csv"] = b"file_name,transcription,lang\na.wav,Oui,fr\n"
    hub.files |= {"README.md": b"# a card", ".gitattributes": b"", "load.py": b"raise SystemExit"}
    (tmp_path / "root").mkdir()
    return hub


AUDIO_FOLDER = ("huggingface", "--option", "hub=owner/name", "--option", "streaming=no")


def test_a_folder_of_audio_comes_whole_and_once(folder_on_the_hub, prepare, tmp_path):
    code, err = prepare(*AUDIO_FOLDER)
    assert code == 0, err
    assert {(u.id, u.text, u.split) for u in read_manifest(tmp_path / "m.jsonl")} == {
        ("train/a.wav", "NA", "train"),
        ("train/b.wav", "Yes", "train"),
        ("test/a.wav", "Oui", "test"),
    }
    there = {p.relative_to(tmp_path / "root").as_posix() for p in (tmp_path / "root").rglob("*") if p.is_file()}
    assert {name for name in there if not name.startswith(".cache")} == {
        name for name in folder_on_the_hub.files if name.startswith("t")
    }
    asked = len(folder_on_the_hub.asked)
    code, err = prepare(*AUDIO_FOLDER)
    assert (code, len(folder_on_the_hub.asked)) == (0, asked)
    assert err.count("is there already") == 5


def test_what_was_half_fetched_goes_on(folder_on_the_hub, prepare, tmp_path):
    chunk = 10 * 2**20  # what the hub's library writes at a time
    folder_on_the_hub.files["train/b.wav"] = bytes(chunk + 2000)
    folder_on_the_hub.cut["train/b.wav"] = chunk + 1000
    prepare(*AUDIO_FOLDER)
    code, err = prepare(*AUDIO_FOLDER)
    assert code == 0, err
    assert [begin for name, begin in folder_on_the_hub.asked if name == "train/b.wav"] == [0, chunk]
    assert (tmp_path / "root" / "train" / "b.wav").read_bytes() == folder_on_the_hub.files["train/b.wav"]


def test_a_file_of_another_content_is_not_kept(folder_on_the_hub, prepare, tmp_path):
    size = len(folder_on_the_hub.files["test/a.wav"])
    folder_on_the_hub.altered["test/a.wav"] = bytes(size)
    code, err = prepare(*AUDIO_FOLDER, "--split", "test")
    assert code == 2
    assert (
        "owner/name: test/a.wav came with another size or SHA-256; try again. By hand: `hf download owner/name" in err
    )
    assert not (tmp_path / "root" / "test" / "a.wav").exists()
    assert not (tmp_path / "m.jsonl").exists()
    del folder_on_the_hub.altered["test/a.wav"]
    code, err = prepare(*AUDIO_FOLDER, "--split", "test")
    assert code == 0, err
    assert {name for name, _ in folder_on_the_hub.asked} == {"train/metadata.csv", "test/metadata.csv", "test/a.wav"}


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
    damaged = next((tmp_path / "root").rglob("test.tar.gz"))
    damaged.write_bytes(bytes(damaged.stat().st_size))  # the hub's library would trust it
    code, err = prepare("fleurs", "--download", "--languages", "fr_fr", "--split", "test")
    assert (code, "test.tsv: is there already" in err) == (0, True)
    assert [Path(name).name for name, _ in hub.asked[2:]] == ["test.tar.gz"]
    code, err = prepare("fleurs", "--download", "--languages", "de")
    assert code == 2
    assert "google/fleurs has no data/de_de/train.tsv at main. By hand: fetch data/<lang>/{train,dev,test}.tsv" in err
