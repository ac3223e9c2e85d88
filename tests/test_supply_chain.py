"""What is installed is known by its hash, and nothing that is loaded can run code."""

import json
import re
import subprocess
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import audit
from audit import INSTALLED, LOCKS, locked, unhashed
from helpers import ROOT

FORBIDDEN = {  # what would run code of a model, a result or a recipe
    r"trust_remote_code": (),
    r"\bpickle\b(?!,)": ("encoding/cluster.py",),  # between processes of one Ray cluster, nothing from a file
    r"allow_pickle=True": (),
    r"torch\.load|joblib|dill|marshal|shelve": (),
    r"yaml\.(load|unsafe_load|full_load)\(": (
        "experiments/recipes.py",  # with loaders that are safe
        "corpora/mustc.py",
    ),
    r"(?<![\w.])(eval|exec)\(": (),
    r"shell=True|os\.system|os\.popen": (),
    r'extractall\((?!.*filter="data")': (),
}


@pytest.mark.parametrize("pattern", FORBIDDEN)
def test_the_package_does_not(pattern):
    package = ROOT / "src" / "interlingua"
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(pattern, path.read_text(encoding="utf-8"))
    }
    assert found <= set(FORBIDDEN[pattern])


def test_every_locked_version_has_hashes():
    assert not unhashed()
    for path in LOCKS:
        assert all(len(h) == len(set(h)) for h in locked(path).values())
    lines = LOCKS[0].read_text().splitlines()
    assert len(locked(LOCKS[0])) == sum("==" in line for line in lines if not line.startswith("#"))


def test_the_lock_holds_all_that_its_packages_need():
    """It is installed without their dependencies; torch.lock brings torch's own."""
    names = {re.split(r"==|\[", entry)[0].lower().replace("_", "-") for path in INSTALLED for entry in locked(path)}
    torchs_own = re.compile(r"setuptools|triton|nvidia-.*|cuda-.*")
    lacking = set()
    for distribution in distributions():
        if distribution.metadata["Name"].lower().replace("_", "-") not in names - {"torch"}:
            continue
        for line in distribution.requires or []:
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                lacking.add(need.name.lower().replace("_", "-").replace(".", "-"))
    assert {name for name in lacking - names if not torchs_own.fullmatch(name)} == set()


def test_a_version_without_a_hash_is_found(tmp_path):
    path = tmp_path / "lock"
    path.write_text(f"a==1 \\\n    --hash=sha256:{'0' * 64}\nb[x]==2\n")
    assert locked(path) == {"a==1": ["0" * 64], "b[x]==2": []}


def test_every_locked_version_is_asked_for(monkeypatch, capsys):
    """pip-audit refuses a file in which some versions have hashes and some have none."""
    asked = []

    def answer(command, **_):
        asked.extend(Path(command[command.index("-r") + 1]).read_text().split())
        packages = [{"name": name, "version": version, "vulns": []} for name, version in (p.split("==") for p in asked)]
        packages[0]["vulns"] = [{"id": "CVE-1"}]
        packages[1] = {"name": packages[1]["name"], "skip_reason": "unknown"}
        return subprocess.CompletedProcess(command, 1, json.dumps({"dependencies": packages}), "")

    monkeypatch.setattr(audit.subprocess, "run", answer)
    assert audit.vulnerabilities() == [f"{asked[0].replace('==', ' ')}: CVE-1"]
    assert asked == [name for path in INSTALLED for name in locked(path)]
    assert f"not checked for 1 of {len(asked)}" in capsys.readouterr().out
