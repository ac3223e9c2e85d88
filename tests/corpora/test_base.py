"""The registry of corpora: what it says of each, typed options, and corpora from outside the package."""

import doctest
import importlib
import json
import re
import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from helpers import ROOT, sweep, write_wav
from interlingua import registry
from interlingua.cli import run
from interlingua.corpora import read_manifest
from interlingua.corpora.base import CORPORA, get_corpus
from interlingua.errors import CorpusError, UsageError
from interlingua.experiments.corpus_source import CorpusSource
from trees import command, read


def test_every_corpus_in_the_registry_is_complete():
    for name, corpus in CORPORA.items():
        assert corpus.name == name
        assert all((corpus.title, corpus.licence, corpus.fetch))
        assert "\n" not in corpus.fetch_hint()
        assert isinstance(corpus.options, dict)


@pytest.mark.parametrize(
    ("name", "given", "parsed"),
    [
        ("mass", ["titles=yes"], {"titles": True}),
        ("mass", ["titles=false", "references=fr, es"], {"titles": False, "references": ("fr", "es")}),
        ("prompts", ["min-words=6"], {"min_words": 6}),
        ("fleurs", ["text=normalised"], {"text": "normalised"}),
    ],
)
def test_options_are_typed_by_the_reader(name, given, parsed):
    assert get_corpus(name).parse_options(given) == parsed


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("mass", "titles", "write it as NAME=VALUE"),
        ("mass", "titles=perhaps", "--option titles=perhaps: "),
        ("prompts", "min_words=many", "--option min_words=many: "),
        ("fleurs", "text=upper", "--option text=upper: "),
        ("common-voice", "titles=yes", "no option 'titles'; it has none"),
        ("covost", "titles=yes", "no option 'titles'; it has targets"),
    ],
)
def test_wrong_options_are_named(name, given, said):
    with pytest.raises(UsageError, match=r"--option") as caught:
        get_corpus(name).parse_options([given])
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["fleurs", "covost", "common-voice", "mass"])
def test_an_empty_folder_says_what_to_fetch(tmp_path, name):
    with pytest.raises(CorpusError, match=r"(?i)fetch .*") as caught:
        read(name, tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(
        CorpusError, match=rf"no such file or folder. {name}: .*; then `interlingua corpus prepare {name} --root"
    ):
        read(name, tmp_path / "none")
    with pytest.raises(UsageError, match=r"--root is missing"):
        read(name, None)


@pytest.mark.parametrize(
    "name",
    ["audio.archives", *(f"corpora.{m}" for m in ("delimited", "layout", "common_voice", "mass", "fleurs", "base"))],
)
def test_examples_in_docstrings(name):
    tried = doctest.testmod(importlib.import_module(f"interlingua.{name}"))
    assert tried.attempted
    assert not tried.failed


def test_list_names_every_corpus_and_describes_one(capsys):
    _, out, _ = command(capsys, "list")
    assert [line.split()[0] for line in out.splitlines()] == list(CORPORA)
    _, out, _ = command(capsys, "list", "mass")
    assert "fetch: clone https://github.com/getalp/mass-dataset as ROOT" in out
    assert "--option titles=… (yes or no)" in out
    described = json.loads(command(capsys, "list", "fleurs", "--json")[1])["fleurs"]
    assert (described["downloads"], described["licence"]) == (True, "CC-BY 4.0")
    assert command(capsys, "list", "flores")[0] == 2


# ---------------------------------------------------------------- from outside the package


# The example of the documents, and something that is no corpus.
TOY = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "data.md").read_text(), re.S)[0] + "NOTHING = 1\n"


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The root of toy data; the module ``toys`` reads it."""
    (tmp_path / "toys.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("a", "b"):
        write_wav(tmp_path / "data" / f"{name}.wav", sweep(0.2, 300))
    yield tmp_path / "data"
    sys.modules.pop("toys", None)


@pytest.fixture
def installed(toy, monkeypatch):
    """As if a package with entry points were installed; ``broken`` leads nowhere."""
    entries = [
        EntryPoint("toy", "toys:CORPUS", "interlingua.corpora"),
        EntryPoint("broken", "no_such:X", "interlingua.corpora"),
    ]
    monkeypatch.setattr(
        registry,
        "entry_points",
        lambda group, name=None: [e for e in entries if group == e.group and name in (None, e.name)],
    )
    return toy


@pytest.mark.parametrize("name", ["toys:CORPUS", "toy"])
def test_it_is_prepared_and_described(installed, tmp_path, capsys, name):
    out = tmp_path / "m.jsonl"
    arguments = ["corpus", "prepare", name, "--root", str(installed), "--out", str(out)]
    assert run([*arguments, "--option", "loud=yes"]) == 0
    assert [(u.id, u.text) for u in read_manifest(out)] == [("a", "A"), ("b", "B")]
    assert run([*arguments, "--option", "quiet=yes"]) == 2
    assert "the toy corpus has no option 'quiet'; it has loud" in capsys.readouterr().err
    assert run(["corpus", "list", name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[name]["options"] == {"loud": "yes or no"}
    source = CorpusSource(name=name, root=installed, options={"loud": True})
    assert [u.text for u in source.utterances(tmp_path / "run")] == ["A", "B"]


def test_the_list_names_it_and_goes_on_past_a_broken_one(installed, capsys):
    assert run(["corpus", "list"]) == 0
    out, err = capsys.readouterr()
    assert "toy            toy data" in out.splitlines()
    assert "broken" not in out
    assert "corpus 'broken': no_such:X can't be imported" in err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("toys:NOTHING", "corpus 'toys:NOTHING' is a int; make it an interlingua.corpora.base.Corpus"),
        ("toys:GONE", "can't be imported"),
        ("toyz", "unknown corpus 'toyz'; use one of prompts, udhr, fleurs,"),
    ],
)
def test_what_is_no_corpus_is_one_line(toy, tmp_path, capsys, name, said):
    assert run(["corpus", "prepare", name, "--root", str(toy), "--out", str(tmp_path / "m.jsonl")]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    with pytest.raises(UsageError):
        CorpusSource(name=name, root=toy)


def test_readers_are_imported_when_they_are_asked_for():
    program = """
import sys
from interlingua.cli import run
assert run(["corpus", "list", "--help"]) == 0
from interlingua.corpora.base import CORPORA, get_corpus
assert "lhotse" in CORPORA and len(list(CORPORA)) >= 15
loaded = [m for m in sys.modules if m.startswith("interlingua.corpora.")]
assert not [m for m in loaded if m.endswith(("fleurs", "lhotse", "huggingface", "mass", "nemo", "tables"))], loaded
assert get_corpus("nemo").name == "nemo"
assert "interlingua.corpora.lhotse" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
