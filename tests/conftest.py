"""Fixtures, run-time checks of array shapes, and no network except in tests marked ``model``."""

import socket
import sys
from pathlib import Path

import pytest
from jaxtyping import _import_hook, install_import_hook

sys.path.insert(0, str(Path(__file__).parent))  # for helpers.py and layers.py: importlib mode adds no folder
sys.path += [str(path) for path in Path(__file__).parent.iterdir() if path.is_dir()]  # tests that share fixtures

# Axis names in annotations are checked in every call of these modules; set up before anything imports them.
# An axis has one size within a call; those that begin with an underscore (_T, _S) differ between arrays.
CHECKED = ["encoding", "retrieval", "metrics", "translation", "index", "finetuning"]
install_import_hook([f"interlingua.{name}" for name in CHECKED], "checking.checked")


def _execute(loader, module):
    """Run a checked module; jaxtyping's way would compile all that it imports anew: 3,300 files, a dozen seconds."""
    exec(loader.source_to_code(loader.get_data(loader.path), loader.path), module.__dict__)


_import_hook._JaxtypingLoader.exec_module = _execute


def pytest_collection_modifyitems(items):
    """Files that take long come first, so that several processes end at much the same time."""
    long = {item.path for item in items if item.get_closest_marker("model") or item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(autouse=True)
def _no_network(request, monkeypatch):
    """Outside tests marked ``model`` a connection fails at once."""
    if request.node.get_closest_marker("model"):
        return

    def refuse(self, address, *rest):
        if self.family == socket.AF_UNIX:
            return connect(self, address, *rest)
        raise OSError(f"tests use no network; {address} was asked for")

    def resolve(host, *rest, **options):
        raise OSError(f"tests use no network; {host} was asked for")

    connect = socket.socket.connect
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@pytest.fixture(scope="session")
def tiny_whisper_folder(tmp_path_factory):
    """A multilingual Whisper with random weights in Hugging Face's layout: D = 32, two layers, 80 mels."""
    from helpers import save_tiny_whisper

    return save_tiny_whisper(tmp_path_factory.mktemp("models") / "tiny-random")


@pytest.fixture(scope="session")
def tiny_encoder_folder(tmp_path_factory):
    """A w2v-BERT 2.0 with random weights: D = 32, three layers."""
    from helpers import save_tiny_encoder

    return save_tiny_encoder(tmp_path_factory.mktemp("models") / "tiny-w2v-bert")


@pytest.fixture(scope="session")
def tiny_whisper(tiny_whisper_folder):
    """The same, loaded."""
    from interlingua.models import load_whisper

    return load_whisper(tiny_whisper_folder)


@pytest.fixture
def wav_manifest(tmp_path):
    """``manifest.jsonl``: three meanings in en, fr and de as WAV files of 0.4 to 1.2 s.

    A meaning has the same pitch in every language, so that retrieval has something to find.
    """
    from helpers import sweep, utterance, write_wav
    from interlingua.corpora import write_manifest
    from interlingua.types import AudioRef

    utterances = []
    for n, language in enumerate(("en", "fr", "de")):
        for m, meaning in enumerate(("one", "two", "three")):
            path = tmp_path / "audio" / language / f"{meaning}.wav"
            write_wav(path, sweep(0.4 + 0.3 * m + 0.1 * n, pitch=200 * 2**m, seed=n))
            translations = {} if language == "en" else {"en": f"number {meaning}"}
            audio = AudioRef(str(path))
            utterances.append(utterance(language, meaning, audio=audio, translations=translations))
    manifest = tmp_path / "manifest.jsonl"
    write_manifest(manifest, utterances)
    return manifest


@pytest.fixture(scope="session")
def base_whisper():
    """Whisper-base with its real weights, float32 on the CPU (for tests marked ``model``)."""
    from interlingua.models import load_whisper

    return load_whisper("base")


@pytest.fixture(scope="session")
def prompts_manifest():
    """All utterances of the real prompts corpus (for tests marked ``model``)."""
    from interlingua.corpora import prepare_prompts

    return prepare_prompts()
