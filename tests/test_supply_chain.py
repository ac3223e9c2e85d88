"""What is installed is known by its hash, and nothing that is loaded can run code."""

import re

import pytest

from audit import locked
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


def test_a_version_without_a_hash_is_found(tmp_path):
    path = tmp_path / "lock"
    path.write_text(f"a==1 \\\n    --hash=sha256:{'0' * 64}\nb[x]==2\n")
    assert locked(path) == {"a==1": ["0" * 64], "b[x]==2": []}
