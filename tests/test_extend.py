"""docs/extend.md is true: its modules are written as they stand there, and its commands run, one after another."""

import importlib
import json
import re
import shlex
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from helpers import ROOT, sweep, utterance, write_wav
from interlingua.cli import run
from interlingua.corpora import write_manifest
from interlingua.results import load_results
from interlingua.types import AudioRef

PAGE = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
MODULES = {m[1]: m[2] for m in re.finditer(r"```python\n# (\w+)\.py[^\n]*\n(.*?)```", PAGE, re.DOTALL)}
COMMANDS = [line for block in re.findall(r"```\n(interlingua .*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
NAMES = dict(re.findall(r"(my_\w+):(\w+)", " ".join(COMMANDS)))  # module -> attribute


@pytest.fixture
def folder(tmp_path, monkeypatch, tiny_whisper_folder):
    """Where the page's reader stands: recordings, references, outputs, a manifest to train on, a tiny model."""
    for name, source in MODULES.items():
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").symlink_to(tiny_whisper_folder)
    spoken = []
    for n, language in enumerate(("en", "fr")):
        for m in range(3):
            path = write_wav(tmp_path / "audio" / language / f"s{m}.wav", sweep(0.6 + 0.2 * m, 200 * 2**m, seed=n))
            spoken.append(utterance(language, f"s{m}", audio=AudioRef(str(path)), translations={"es": f"frase {m}"}))
    write_manifest(tmp_path / "references.jsonl", [u for u in spoken if u.language == "en"])
    write_manifest(tmp_path / "training.jsonl", spoken)
    lines = [{"id": f"en/s{m}", "target": "es", "text": "frase 0"} for m in range(3)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def check(folder: Path, names: dict[str, str]) -> None:
    """What the page's commands leave behind, with the entries under these names."""
    assert len((folder / "manifest.jsonl").read_text().splitlines()) == 6
    results, _ = load_results(folder / "runs" / "mine")
    assert {r.method for r in results.retrieval} == {names["my_method"], "seqsim"}
    assert "Last frame" in (page := (folder / "runs" / "mine" / "report.html").read_text(encoding="utf-8"))
    assert "Queries" in page
    outputs = json.loads((folder / "runs" / "outputs" / "results.json").read_text())["outputs"]
    assert "33.3" in (folder / "runs" / "outputs" / "report.html").read_text(encoding="utf-8")  # one of three is right
    assert "exact|version:1" in json.dumps(outputs)
    assert (folder / "runs" / "zero" / "model" / "model.safetensors").exists()


def test_every_block_is_small_and_is_used_by_a_command():
    assert (
        NAMES.keys() == MODULES.keys() == {f"my_{kind}" for kind in re.findall(r"^## An? (?:\w+ )?(\w+)$", PAGE, re.M)}
    )
    for name, source in MODULES.items():
        written = [line for line in source.splitlines() if line and not line.startswith(("from ", "import "))]
        assert len(written) <= 10, name


def test_the_page_by_import_path(folder, capsys):
    for command in COMMANDS:
        assert run(shlex.split(command)[1:]) == 0, f"{command}: {capsys.readouterr().err}"
    check(folder, {name: f"{name}:{attribute}" for name, attribute in NAMES.items()})


def test_the_page_as_an_installed_package(folder, capsys):
    groups = dict(re.findall(r"\| an? (?:\w+ )?(\w+) \|.*\| `(interlingua\.\w+)` \|", PAGE))
    package = folder / "mine-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    points = [
        f"[{groups[module.removeprefix('my_')]}]\nplain-{module} = {module}:{attribute}"
        for module, attribute in NAMES.items()
    ]
    (package / "entry_points.txt").write_text("\n".join(points) + "\n")
    importlib.invalidate_caches()
    assert entry_points(group="interlingua.metrics", name="plain-my_metric")
    for command in COMMANDS:
        named = re.sub(r"(my_\w+):\w+", r"plain-\1", command)
        assert run(shlex.split(named)[1:]) == 0, f"{named}: {capsys.readouterr().err}"
    check(folder, {name: f"plain-{name}" for name in NAMES})
