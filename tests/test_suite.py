"""Several recipes as one: each in its folder, changed where the suite says so, with an index of their reports."""

import json
from pathlib import Path

import pytest
import yaml

from helpers import sweep, utterance, write_wav
from interlingua.cli import run
from interlingua.corpora import write_manifest
from interlingua.errors import UsageError
from interlingua.experiments.recipes import changed, read_recipe
from interlingua.experiments.suite import Suite
from interlingua.results import load_results
from interlingua.types import AudioRef

RECIPES = Path(__file__).resolve().parent.parent / "recipes"


@pytest.fixture
def manifest(tmp_path):
    """Four meanings in English, French and Spanish."""
    spoken = []
    for n, language in enumerate(("en", "fr", "es")):
        for m in range(4):
            wav = write_wav(tmp_path / "wav" / f"{language}-{m}.wav", sweep(0.4 + 0.1 * m, 200 * (m + 1), seed=n))
            spoken.append(utterance(language, f"m{m}", audio=AudioRef(str(wav)), text=f"{language} {m}"))
    write_manifest(tmp_path / "m.jsonl", spoken)
    return tmp_path / "m.jsonl"


@pytest.fixture
def retrieval(tmp_path, manifest, tiny_whisper_folder):
    """A recipe of retrieval in all three languages."""
    return put(
        tmp_path / "retrieval.yaml",
        recipe="retrieval",
        out=str(tmp_path / "elsewhere"),
        corpus={"name": "manifest", "root": str(manifest)},
        model=str(tiny_whisper_folder),
        methods=["seqsim", "duration"],
        pool=2,
    )


def put(path: Path, **content) -> Path:
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def suite_of(tmp_path, **parts) -> Path:
    return put(tmp_path / "suite.yaml", recipe="suite", out=str(tmp_path / "out"), parts=parts)


def test_parts_run_in_order_each_into_its_folder_with_its_changes(tmp_path, retrieval, capsys):
    few = {"corpus": {"languages": ["en", "fr"]}, "methods": ["seqsim"], "pool": None}
    suite = suite_of(tmp_path, all={"recipe": str(retrieval)}, few={"recipe": str(retrieval), "change": few})
    assert run(["run", str(suite)]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{tmp_path / 'out' / 'index.html'}\n"
    assert captured.err.index("interlingua: all: retrieval on") < captured.err.index("interlingua: few: retrieval on")
    assert not (tmp_path / "elsewhere").exists()
    results = {name: load_results(tmp_path / "out" / name)[0] for name in ("all", "few")}
    assert {len(r["retrieval"]) for r in results.values()} == {12, 2}
    assert [r["settings"]["pooling"] for r in results.values()] == [2, 1]
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    for name in ("all", "few"):
        assert f'href="{name}/report.html"' in page
        assert (tmp_path / "out" / name / "report.html").exists()
    assert 'href="compare-retrieval.html"' in page
    assert "few beside all" in (tmp_path / "out" / "compare-retrieval.html").read_text(encoding="utf-8")
    # the same command does nothing twice, and the page is rebuilt from what is saved
    assert run(["run", str(suite)]) == 0
    assert "encoding:" not in capsys.readouterr().err
    (tmp_path / "out" / "index.html").unlink()
    assert run(["report", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "index.html").exists()


def test_a_part_that_fails_is_named_and_the_others_run(tmp_path, retrieval, capsys):
    bad = {"recipe": str(retrieval), "change": {"corpus": {"root": str(tmp_path / "none.jsonl")}}}
    suite = suite_of(tmp_path, bad=bad, good={"recipe": str(retrieval)})
    assert run(["run", str(suite), "--dry-run"]) == 2
    assert "1 of 2 parts can't be run: bad: " in capsys.readouterr().err
    assert not (tmp_path / "out" / "suite.json").exists()
    assert run(["run", str(suite)]) == 1
    err = capsys.readouterr().err
    assert f"interlingua: bad: failed: {tmp_path / 'none.jsonl'}: no readable manifest file" in err
    assert (tmp_path / "out" / "good" / "report.html").exists()
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "2 recipes, of which 1 failed" in page
    assert "Failed: " in page
    assert [p["failed"] is None for p in json.loads((tmp_path / "out" / "suite.json").read_text())["parts"]] == [
        False,
        True,
    ]


def test_a_dry_run_says_what_each_part_needs(tmp_path, retrieval, capsys):
    suite = suite_of(tmp_path, one={"recipe": str(retrieval)}, two={"recipe": str(retrieval), "change": {"pool": 1}})
    assert run(["run", str(suite), "--dry-run"]) == 0
    err = capsys.readouterr().err
    assert "2 recipes: one, two" in err
    for name in ("one", "two"):
        assert f"interlingua: {name}: 12 utterances, " in err
    assert not list((tmp_path / "out").rglob("results.json"))


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"recipe": "none.yaml"}, r"parts, a: none.yaml: no readable YAML"),
        ({"recipe": "R", "change": {"pol": 2}}, r"parts, a: R: no setting 'pol'"),
        ({"recipe": "R", "change": {"pool": 0}}, r"parts, a: R: pool: 0; use 1"),
        ({"recipe": "S"}, r"parts, a: S is a suite itself"),
    ],
)
def test_what_is_wrong_with_a_part_is_said_before_the_work(tmp_path, retrieval, part, said):
    inner = put(tmp_path / "inner.yaml", recipe="suite", out="x", parts={"b": {"recipe": str(retrieval)}})
    path = {"R": str(retrieval), "S": str(inner)}.get(part["recipe"], part["recipe"])
    suite = suite_of(tmp_path, a={**part, "recipe": path})
    with pytest.raises(UsageError, match=said.replace("R:", f"{retrieval}:").replace("S is", f"{inner} is")):
        read_recipe(suite)


@pytest.mark.parametrize("parts", [{}, {"../x": {"recipe": "r.yaml"}}])
def test_parts_need_names(tmp_path, parts):
    with pytest.raises(UsageError, match="parts: "):
        read_recipe(suite_of(tmp_path, **parts))


def test_a_change_goes_into_mappings_and_replaces_the_rest():
    settings = {"a": 1, "b": {"c": [1], "d": {"e": 2}}}
    assert changed(settings, {"b": {"c": [2], "d": {"f": 3}}}) == {"a": 1, "b": {"c": [2], "d": {"e": 2, "f": 3}}}
    assert changed(settings, {"a": None, "b": {"d": None}, "g": {"h": 1}}) == {"b": {"c": [1]}, "g": {"h": 1}}
    assert settings == {"a": 1, "b": {"c": [1], "d": {"e": 2}}}


def test_the_suite_that_is_shipped_is_read(monkeypatch):
    monkeypatch.chdir(RECIPES.parent)
    suite = read_recipe(RECIPES / "suite-prompts.yaml")
    assert isinstance(suite, Suite)
    assert list(suite.settings()) == ["retrieval", "transfer", "unseen", "robustness"]
