"""The data's way is one-way, and this would notice if it weren't."""

import shutil
from pathlib import Path

import pytest

import interlingua
import layers

PACKAGE = Path(interlingua.__file__).parent


def test_every_module_imports_only_what_stands_before_it():
    assert layers.violations(PACKAGE) == []


def test_the_order_names_nothing_that_is_gone():
    there = {path.name.removesuffix(".py") for path in PACKAGE.iterdir()}
    assert set(layers.ORDER) <= there


@pytest.fixture
def check(tmp_path):
    """Lay out a made-up package `toy` of types, retrieval, metrics, translation, experiments; return what is wrong."""
    order = ("types", "retrieval", "metrics", "translation", "experiments")

    def run(name: str, source: str) -> list[str]:
        root = tmp_path / "toy"
        shutil.rmtree(root, ignore_errors=True)
        for module in ("__init__.py", "types.py", "retrieval/__init__.py", "retrieval/search.py", "experiments.py"):
            path = root / module
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        return layers.violations(root, order, know_both=("experiments",))

    return run


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("types.py", "import toy.retrieval"),
        ("types.py", "import os, toy.retrieval.search as s"),
        ("types.py", "from toy import retrieval"),
        ("types.py", "from toy import __version__, retrieval"),
        ("types.py", "from toy.retrieval.search import find"),
        ("types.py", "def f():\n    from toy.retrieval import search"),
        ("types.py", "class A:\n    def f(self):\n        import toy.retrieval"),
        ("types.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from toy.retrieval import search"),
        ("types.py", "try:\n    import toy.retrieval\nexcept ImportError:\n    pass"),
        ("types.py", "from . import retrieval"),
        ("types.py", "from .retrieval import search"),
        ("types.py", "from .retrieval.search import find"),
        ("types.py", "from importlib import import_module\nimport_module('toy.retrieval')"),
        ("retrieval/search.py", "from ..metrics import bleu"),
        ("retrieval/search.py", "from .. import metrics"),
        ("retrieval/deeper/still.py", "from ...experiments import run"),
        ("retrieval/__init__.py", "from toy.experiments import run"),
        ("__init__.py", "from toy.types import Frames"),
    ],
)
def test_a_forbidden_import_is_noticed(check, name, source):
    (problem,) = check(name, source)
    assert problem.startswith(f"toy/{name}:")
    assert "comes after it" in problem


def test_the_line_is_named(check):
    assert check("types.py", "import os\n\nimport toy.metrics") == [
        "toy/types.py:3: types imports metrics, which comes after it"
    ]


def test_a_module_without_a_place_is_noticed(check):
    assert check("novelty.py", "import os") == ["toy/novelty.py: novelty has no place in the order"]


def test_an_import_of_a_module_without_a_place_is_noticed(check):
    assert "novelty, which has no place in the order" in check("types.py", "import toy.novelty")[0]


def test_retrieval_and_translation_stay_apart(check):
    assert "retrieval imports translation" in check("retrieval/search.py", "import toy.translation")[0]
    # Allowed by the order alone, forbidden all the same:
    (problem,) = check("translation.py", "import toy.types\nfrom toy.retrieval import search")
    assert problem == "toy/translation.py:2: translation knows both retrieval and translation"


def test_only_a_few_know_both(check):
    both = "from toy.retrieval import search\nfrom toy.translation import greedy"
    assert check("experiments.py", both) == []
    assert any("knows both" in problem for problem in check("metrics.py", both))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("experiments.py", "import toy.types\nfrom toy.metrics import bleu"),
        ("retrieval/search.py", "from toy import __version__\nimport toy\nfrom .. import __version__"),
        ("retrieval/search.py", "from . import ranking\nfrom toy.retrieval.ranking import rank\nfrom ..types import A"),
        ("retrieval/search.py", "import toytown.experiments\nfrom experiments import run\nimport experiments"),
        ("retrieval/search.py", "text = 'import toy.experiments'  # import toy.experiments"),
    ],
)
def test_what_is_allowed_passes(check, name, source):
    assert check(name, source) == []
