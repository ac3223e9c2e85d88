"""COMET: its environment is made whole or not at all, its reasons are clear, its scores are joined by id.

The real model can't be had here. A checkpoint with random weights, in COMET's own environment, tests the whole way;
where that environment isn't set up, a runner that stands in for it does.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers import ROOT
from interlingua.cli import run
from interlingua.errors import CometError, UsageError
from interlingua.metrics import SystemOutputs, comet, comet_runner, comet_segments, pooled_difference, score_comet
from interlingua.metrics.comet import PINS, comet_folder, find_comet, set_up_comet

VERSIONS = {"unbabel-comet": "2.2.7", "torch": "2.13.0+cpu", "transformers": "4.57.6"}
SEGMENTS = [
    ("la ligne est occupee", "the line is busy", "the line is engaged"),
    ("au revoir", "", "goodbye"),
    ("au revoir", "see you, later", "goodbye"),
    (
        "entrez votre mot de passe puis appuyez",
        "enter your password and press",
        "please enter your password, and press",
    ),
]
FAKE = """
import json, sys
asked = json.load(open(sys.argv[1]))
print("noise on stdout")
print("done", len(asked["segments"]), flush=True)
scores = [len(mt) / len(ref) for src, mt, ref in asked["segments"]]
json.dump({"scores": scores, "revision": "abc"}, open(sys.argv[2], "w"))
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INTERLINGUA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def ready(cache):
    """An environment that looks set up; its Python is this one, without this one's packages."""
    python = cache / "comet" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(Path(sys.executable).resolve())
    record = {"pins": list(PINS), "versions": VERSIONS}
    (cache / "comet" / "interlingua.json").write_text(json.dumps(record))
    return cache / "comet"


@pytest.fixture
def runner(ready, tmp_path, monkeypatch):
    """Let a script stand in for the runner."""

    def use(source: str = FAKE) -> None:
        path = tmp_path / "runner.py"
        path.write_text(source)
        monkeypatch.setattr(comet_runner, "__file__", str(path))

    return use


# ---------------------------------------------------------------- the environment


def test_an_environment_that_isnt_there_names_the_command(cache):
    with pytest.raises(CometError, match=r"isn't set up in .*comet; set it up with `interlingua doctor --comet`$"):
        find_comet()


def test_an_environment_of_other_pins_or_without_python_is_not_ready(ready):
    assert find_comet().versions == VERSIONS
    record = ready / "interlingua.json"
    record.write_text(json.dumps({"pins": ["unbabel-comet==2.2.6"], "versions": VERSIONS}))
    with pytest.raises(CometError, match="made from other pins"):
        find_comet()
    record.write_text(json.dumps({"pins": list(PINS), "versions": VERSIONS}))
    (ready / "bin" / "python").unlink()
    (ready / "bin" / "python").symlink_to("/no/python")
    with pytest.raises(CometError, match=r"Python of COMET's environment in .* is gone"):
        find_comet()


@pytest.fixture
def steps(monkeypatch):
    """Set-up's commands are noted, not run; one may fail."""
    done = []

    def do(step, command):
        done.append((step, command))
        if step == do.fails:
            raise do.error
        if step == "venv":
            python = Path(command[-1]) / "bin" / "python"
            python.parent.mkdir(parents=True)
            python.write_text("")
        return "a warning\n" + json.dumps(VERSIONS)

    do.fails, do.error = None, CometError("pip: no network")
    monkeypatch.setattr(comet, "_do", do)
    return done, do


def test_set_up_makes_a_venv_with_the_pins_once(cache, steps):
    done, _ = steps
    said = []
    found = set_up_comet(said.append)
    assert [step for step, _ in done] == ["venv", "pip", "import comet"]
    assert done[1][1][-len(PINS) :] == list(PINS)
    assert found.versions == VERSIONS
    assert found.python == comet_folder() / "bin" / "python"
    assert "1.5 GB" in said[0]
    set_up_comet(said.append)
    assert len(done) == 3  # it was ready


@pytest.mark.parametrize("error", [CometError("pip: no network"), KeyboardInterrupt()])
def test_a_set_up_that_fails_leaves_nothing_and_is_redone(cache, steps, error):
    done, do = steps
    do.fails, do.error = "pip", error
    with pytest.raises(type(error)):
        set_up_comet(lambda line: None)
    assert sorted(p.name for p in cache.iterdir()) in (["comet.lock"], [])
    do.fails = None
    set_up_comet(lambda line: None)
    assert find_comet().folder == cache / "comet"
    assert [step for step, _ in done].count("venv") == 2


def test_what_a_killed_set_up_left_is_removed(cache, steps):
    left = cache / ".comet.abc123"
    (left / "bin").mkdir(parents=True)
    set_up_comet(lambda line: None)
    assert not left.exists()
    assert find_comet()


def test_a_failed_step_is_one_line_with_its_error():
    script = "import sys; sys.exit('WARNING: x\\nERROR: No matching distribution\\n[notice] a new pip')"
    with pytest.raises(CometError) as caught:
        comet._do("pip", [sys.executable, "-c", script])
    assert "`pip` failed: ERROR: No matching distribution; fix that and run `interlingua doctor --comet`" in str(
        caught.value
    )
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(CometError, match="`venv` can't be run \\(No such file"):
        comet._do("venv", ["/no/such/program"])


def test_doctor_tells_of_the_environment(ready, capsys):
    def line() -> str:
        run(["doctor"])
        return next(line for line in capsys.readouterr().out.splitlines() if "COMET:" in line)

    assert line().startswith("ok      COMET: unbabel-comet 2.2.7, torch 2.13.0+cpu")
    (ready / "interlingua.json").unlink()
    assert "isn't set up" in line()
    ready.rename(ready.with_name("elsewhere"))
    found = line()
    assert found.startswith("-       COMET: not set up; only")
    assert found.endswith("fix: interlingua doctor --comet")


# ---------------------------------------------------------------- scores


def test_scores_come_back_to_their_segments(runner):
    runner()
    found = score_comet([*SEGMENTS, SEGMENTS[0]])
    assert found.scores == {s: len(s[1]) / len(s[2]) for s in SEGMENTS}
    for part in ("comet|model:Unbabel/wmt22-comet-da|revision:abc|", "source:transcript", "unbabel-comet:2.2.7"):
        assert part in found.signature


def systems():
    references = {f"u{i}": f"reference number {i}" for i in range(8)}
    sources = {i: f"source {i}" for i in references}
    good, bad = dict(references), {i: text[:5] for i, text in references.items()}
    return references, sources, good, bad


def test_a_systems_score_is_the_mean_and_a_missing_output_is_scored_as_empty(runner):
    runner()
    references, sources, good, bad = systems()
    del good["u3"]
    clusters = {i: f"c{int(i[1]) // 2}" for i in references}
    both = [SystemOutputs(texts, references, clusters, "en", transcripts=sources) for texts in (good, bad)]
    scores = score_comet(s for outputs in both for s in comet_segments(outputs).values())
    ours, theirs = (scores.statistics(outputs) for outputs in both)
    score = ours.score()
    assert score.value == pytest.approx(7 / 8)
    assert score.n == 8
    assert score.signature.endswith("bootstrap:clusters:4|n:1000|seed:12345")
    assert score.ci[0] < score.value <= score.ci[1]
    difference = pooled_difference([ours], [theirs])
    expected = np.mean([len(good.get(i, "")) / len(r) - 5 / len(r) for i, r in references.items()])
    assert difference.value == pytest.approx(expected)
    assert 0 < difference.p_bootstrap <= 1
    assert 0 < difference.p_randomisation <= 1


def test_utterances_without_transcript_or_reference_are_named():
    with pytest.raises(CometError, match=r"1 utterances have no transcript, e\.g\. 'b'; give them a `text`"):
        comet_segments(SystemOutputs({"a": "x"}, {"a": "x", "b": "y"}, None, "en", transcripts={"a": "said"}))
    with pytest.raises(UsageError, match="have no reference"):
        comet_segments(SystemOutputs({"c": "x"}, {"a": "x"}, None, "en", transcripts={"a": "said"}))


def test_a_runner_that_fails_gives_its_reason_in_one_line(runner):
    runner('import json, sys\njson.dump({"error": "OSError: no route\\n to host"}, open(sys.argv[2], "w"))')
    with pytest.raises(CometError) as caught:
        score_comet(SEGMENTS)
    assert str(caught.value).startswith(
        "COMET's model Unbabel/wmt22-comet-da can't be reached or run (OSError: no route"
    )
    assert "hub cache" in str(caught.value)
    assert "local folder" in str(caught.value)


def test_a_runner_that_dies_is_told_by_its_exit(runner):
    runner("import sys; sys.exit('out of luck')")
    with pytest.raises(CometError, match=r"ended early with exit code 1 \(out of luck\)"):
        score_comet(SEGMENTS)
    runner("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(CometError, match=r"exit code -9 .*too little memory\?"):
        score_comet(SEGMENTS)


def test_the_runner_itself_reports_what_it_cant_import(ready):
    """The stand-in environment has no COMET: the real runner says so, without a traceback."""
    with pytest.raises(CometError, match=r"\(ModuleNotFoundError: No module named '(torch|comet)'\)"):
        score_comet(SEGMENTS)


def test_a_local_model_that_isnt_one_is_named(ready, tmp_path):
    for model, said in (
        (str(tmp_path / "none"), "no such checkpoint; name a hub id such as Unbabel/wmt22-comet-da"),
        ("base", "no such checkpoint"),
        (str(tmp_path), "checkpoints/model.ckpt is missing"),
    ):
        with pytest.raises(CometError, match=said):
            score_comet(SEGMENTS, model=model)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "model.ckpt").touch()
    for model in (tmp_path, tmp_path / "checkpoints" / "model.ckpt"):
        with pytest.raises(CometError, match=r"hparams\.yaml is missing"):
            score_comet(SEGMENTS, model=str(model))


def test_a_local_models_name_enters_the_signature(runner, tmp_path):
    folder = tmp_path / "our-comet"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "model.ckpt").touch()
    (folder / "hparams.yaml").touch()
    runner()
    for model in (folder, folder / "checkpoints" / "model.ckpt"):
        assert "|model:our-comet|" in score_comet(SEGMENTS, model=str(model)).signature


# ---------------------------------------------------------------- COMET's real environment


@pytest.fixture(scope="module")
def real():
    if not comet_folder().exists():
        pytest.skip("COMET's environment (1.4 GB) is made by `interlingua doctor --comet` alone")
    return find_comet()  # one that is there must be right


@pytest.fixture(scope="module")
def tiny(real, tmp_path_factory):
    """A checkpoint with random weights, and the scores that COMET's own Python interface gives, one by one."""
    folder = tmp_path_factory.mktemp("comet")
    (folder / "in.json").write_text(json.dumps(SEGMENTS))
    script = ROOT / "tests" / "tiny_comet.py"
    command = [real.python, "-I", script, folder / "tiny", folder / "in.json", folder / "out.json"]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "tiny", json.loads((folder / "out.json").read_text())


@pytest.mark.slow
def test_real_comet_with_random_weights_scores_as_its_own_interface_does(tiny, monkeypatch):
    model, expected = tiny
    assert len({round(e, 4) for e in expected}) == len(SEGMENTS)  # they can be told apart
    monkeypatch.setattr(comet, "BATCH_SIZE", 3)
    found = score_comet([*reversed(SEGMENTS), SEGMENTS[2]], model=str(model))
    assert [found.scores[s] for s in SEGMENTS] == pytest.approx(expected, abs=1e-5)
    assert "|model:tiny|revision:" in found.signature


@pytest.mark.slow
def test_a_hub_that_cant_be_reached_is_the_reason(real, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CometError) as caught:
        score_comet(SEGMENTS)
    assert str(caught.value).startswith("COMET's model Unbabel/wmt22-comet-da can't be reached or run (")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.slow
def test_evaluate_outputs_with_real_comet(tiny, tmp_path, capsys):
    model, expected = tiny
    manifest = [
        {"id": f"u{i}", "audio": {"path": "a.wav"}, "language": "fr", "text": source, "translations": {"en": reference}}
        for i, (source, _, reference) in enumerate(SEGMENTS)
    ]
    said = [{"id": f"u{i}", "target": "en", "text": text} for i, (_, text, _) in enumerate(SEGMENTS) if text]
    for name, rows in (("m", manifest), ("a", said), ("b", said)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    files = [str(tmp_path / f"{name}.jsonl") for name in "mab"]
    assert run(["evaluate", "outputs", *files, "--comet-model", str(model), "--json"]) == 1  # one is missing
    results = json.loads(capsys.readouterr().out)
    for row in results["outputs"]:
        assert row["comet"]["value"] == pytest.approx(np.mean(expected), abs=1e-5)
        assert row["comet"]["n"] == len(SEGMENTS)
    (compared,) = results["outputs_compared"]
    assert (compared["comet"]["value"], compared["comet"]["p_randomisation"]) == (0, 1)
