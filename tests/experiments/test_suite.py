"""Several recipes as one: each in its folder, changed where the suite says so, with an index of their reports."""

import json
import re
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from helpers import ROOT, load_results, sweep, utterance, write_wav
from interlingua.cli import run
from interlingua.corpora import write_manifest
from interlingua.errors import UsageError
from interlingua.experiments import needs, recipes
from interlingua.experiments.recipes import changed, read_recipe
from interlingua.experiments.suite import Suite, run_suite
from interlingua.experiments.tally import Tally, count_encoding, count_seconds
from interlingua.experiments.transfer_study import needs as transfer_needs
from interlingua.types import AudioRef, FrameSpec, Utterance

RECIPES = ROOT / "recipes"


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
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
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


def test_what_is_no_error_of_ours_does_not_stop_the_others_either(tmp_path, retrieval, capsys):
    suite = suite_of(tmp_path, blocked={"recipe": str(retrieval)}, good={"recipe": str(retrieval)})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "blocked").write_text("a file stands where the folder should")
    assert run(["run", str(suite)]) == 1
    assert "interlingua: blocked: failed: " in capsys.readouterr().err
    assert (tmp_path / "out" / "good" / "report.html").exists()


def test_a_suite_that_names_itself_and_a_damaged_one(tmp_path, capsys):
    suite = tmp_path / "suite.yaml"
    assert run(["run", str(suite_of(tmp_path, a={"recipe": str(suite)}))]) == 2
    assert f"parts, a: {suite}: it is a suite itself" in capsys.readouterr().err
    for text in ("{", "{}", '{"parts": [1]}'):
        (tmp_path / "suite.json").write_text(text)
        assert run(["report", str(tmp_path)]) == 2
        assert f"{tmp_path / 'suite.json'}: no suite's parts" in capsys.readouterr().err


def test_a_dry_run_says_what_each_part_needs(tmp_path, retrieval, capsys):
    suite = suite_of(tmp_path, one={"recipe": str(retrieval)}, two={"recipe": str(retrieval), "change": {"pool": 1}})
    assert run(["run", str(suite), "--dry-run"]) == 0
    err = capsys.readouterr().err
    assert "2 recipes: one, two" in err
    for name in ("one", "two"):
        assert f"interlingua: {name}: to encode: 12 utterances, " in err
    assert not list((tmp_path / "out").rglob("results.json"))


def test_a_dry_run_adds_up_what_all_parts_need(tmp_path, tiny_whisper_folder, capsys, monkeypatch):
    """Two parts of retrieval encode the same twice, two fine-tunings with one folder once."""
    monkeypatch.setattr(needs, "encoding_seconds", lambda *_: 600.0)
    monkeypatch.setattr(transfer_needs, "training_seconds", lambda *_: 1200.0)
    monkeypatch.setattr(transfer_needs, "answer_seconds", lambda *_: 0.0)
    spoken = []
    for language in ("en", "fr"):
        for m, split in enumerate(("train", "dev", "test") * 5):
            audio = AudioRef(str(write_wav(tmp_path / f"{language}-{m}.wav", sweep(0.1, 300))))
            said = {"text": f"a {m}", "translations": {"es": f"b {m}"}, "split": split}
            spoken.append(utterance(language, f"m{m}", audio=audio, duration=24.0, **said))
    write_manifest(tmp_path / "m.jsonl", spoken)
    corpus = {"name": "manifest", "root": str(tmp_path / "m.jsonl")}
    model = {"out": "elsewhere", "model": str(tiny_whisper_folder)}
    retrieval = put(tmp_path / "r.yaml", recipe="retrieval", corpus=corpus, methods=["seqsim"], **model)
    trained = {
        "train": corpus,
        "tests": {"mine": corpus},
        "shared": str(tmp_path / "shared"),
        "variants": {"plain": {}},
    }
    transfer = put(tmp_path / "t.yaml", recipe="transfer", **trained, **model)
    parts = {"r": {"recipe": str(retrieval)}, "p": {"recipe": str(retrieval), "change": {"pool": 4}}}
    parts |= {name: {"recipe": str(transfer)} for name in ("t", "u")}
    assert run(["run", str(suite_of(tmp_path, **parts)), "--dry-run"]) == 0
    said = capsys.readouterr().err
    hours = {name: float(h) for name, h in re.findall(r": ([rptu]): .*utterances, ([\d.]+) h of audio", said)}
    assert hours == dict.fromkeys("rptu", 0.2)  # 30 of 24 s
    (line,) = re.findall(r"interlingua: 4 parts together: (.*)", said)
    # encoded by r, p, and t with u; trained by t and u
    assert re.match(r"0.60 h of audio to encode, 0.01 GB of frames \(\d+ GB are free\), about 70.0 min; what ", line)


def test_what_a_part_said_before_it_failed_is_not_added_up(tmp_path, retrieval, monkeypatch):
    def run_recipe(settings, **_):
        count_seconds(3600.0)
        if settings.out.name == "bad":
            raise UsageError("no")

    monkeypatch.setattr(recipes, "run_recipe", run_recipe)
    suite = read_recipe(suite_of(tmp_path, good={"recipe": str(retrieval)}, bad={"recipe": str(retrieval)}))
    news = []
    with pytest.raises(UsageError, match="1 of 2 parts can't be run: bad: no"):
        run_suite(suite, dry_run=True, log=news.append)
    assert re.match("1 parts together: .*, about 60.0 min;", news[-1])


def test_needs_are_counted_once_a_folder():
    spec = FrameSpec("m", "r", 1, "speech", 1, "float16", "float32")
    spoken = [utterance("en", str(m), duration=10.0) for m in range(3)]
    tally = Tally()
    count_encoding(spoken, spec, 8, 1, 30.0)  # nobody listens
    count_seconds(5.0)
    assert tally.total() == (0, 0, 0)
    of_one = 500 * 8 * 2  # bytes of 10 s
    for place, expected in (("a", (30, 3 * of_one, 30)), ("b", (60, 6 * of_one, 60)), ("a", (60, 6 * of_one, 60))):
        with tally.of(Path(place)):
            count_encoding(spoken, spec, 8, 1, 30.0)
        assert tally.total() == pytest.approx(expected)
    with tally.of(Path("a")):  # one more, the same pooled, and what is no encoding
        count_encoding([*spoken, utterance("en", "new", duration=10.0)], spec, 8, 1, 40.0)
        count_encoding(spoken, spec, 8, 4, 30.0)
        assert needs.spent(120.0) == "2.0 min"
    assert tally.total() == pytest.approx((100, (7 + 3 / 4) * of_one, 60 + 10 + 30 + 120))
    needs.spent(3600.0)
    assert tally.seconds == 120


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"recipe": "none.yaml"}, r"parts, a: none.yaml: no readable YAML"),
        ({"recipe": "R", "change": {"pol": 2}}, r"parts, a: R: no setting 'pol'"),
        ({"recipe": "R", "change": {"pool": 0}}, r"parts, a: R: pool: 0; use 1"),
        ({"recipe": "S"}, r"parts, a: S: it is a suite itself"),
    ],
)
def test_what_is_wrong_with_a_part_is_said_before_the_work(tmp_path, retrieval, part, said):
    inner = put(tmp_path / "inner.yaml", recipe="suite", out="x", parts={"b": {"recipe": str(retrieval)}})
    path = {"R": str(retrieval), "S": str(inner)}.get(part["recipe"], part["recipe"])
    suite = suite_of(tmp_path, a={**part, "recipe": path})
    with pytest.raises(UsageError, match=said.replace("R:", f"{retrieval}:").replace("S:", f"{inner}:")):
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


def cut(tmp_path, manifest, remedy, **model) -> tuple[Path, Path]:
    """The shipped suite on a manifest of few utterances in English, Spanish and French; (recipe, result folder)."""
    corpus = {"name": "manifest", "root": str(manifest), "max_utterances": None, "languages": ["en", "es", "fr"]}
    few = {
        "retrieval": {"corpus": corpus},
        "transfer": {
            "train": corpus,
            "tests": {"prompts": corpus},
            "settings": {"epochs": 1},
            "variants": {"permuted": None, "replay-crossed": remedy},
        },
        "unseen": {"corpus": {**corpus, "languages": ["es"]}, "forbidden": ["es"], "most": 2, "tokens": {"es": ["pt"]}},
        "robustness": {"corpus": {**corpus, "languages": ["en", "es"]}, "methods": ["seqsim"]},
    }
    content = yaml.safe_load((RECIPES / "suite-prompts.yaml").read_text(encoding="utf-8"))
    parts = {
        name: {
            "recipe": str(RECIPES.parent / part["recipe"]),
            "change": {**part.get("change", {}), **few[name], **model},
        }
        for name, part in content["parts"].items()
    }
    return put(tmp_path / "suite.yaml", **{**content, "out": str(tmp_path / "out"), "parts": parts}), tmp_path / "out"


def check_figures(out: Path) -> dict[str, Any]:
    """Every report has figures of its kind, and those of its results; returns the results."""
    results = {name: load_results(out / name)[0] for name in ("retrieval", "transfer", "unseen", "robustness")}
    pages = {name: (out / name / "report.html").read_text(encoding="utf-8") for name in results}
    recall = {
        (r["query"], r["candidate"]): r["r1"] for r in results["retrieval"]["retrieval"] if r["method"] == "seqsim"
    }
    assert set(recall) == set(permutations(("en", "es", "fr"), 2))
    assert all(f"{100 * r1:.1f}" in pages["retrieval"] for r1 in recall.values())
    assert "<svg" in pages["retrieval"]
    study = {row["variant"]: row for row in results["transfer"]["study"]}
    assert set(study) == {"plain", "replay-crossed"}
    assert all(row["new_unseen"]["n"] == 2 for row in study.values())  # French, which nothing was trained on
    assert len(results["transfer"]["pareto"]) == 2
    assert "replay-crossed" in pages["transfer"]
    assert "<svg" in pages["transfer"]
    asked = {(r["language"], r["own_token"]): r for r in results["unseen"]["unseen"]}
    assert set(asked) == {("es", True), ("es", False)}
    assert [c["token"] for c in asked["es", False]["candidates"]] == ["pt"]
    assert f"{asked['es', True]['candidates'][0]['chrf']['value']:.1f}" in pages["unseen"]
    (distant,) = [r for r in results["robustness"]["robustness"]["languages"] if r["language"] == "es"]
    assert 0 < distant["distance"]["genealogical"] < 1
    assert f"{distant['chrf']['value']:.1f}" in pages["robustness"]
    index = (out / "index.html").read_text(encoding="utf-8")
    assert all(f'href="{name}/report.html"' in index for name in results)
    return results


def test_every_part_of_the_shipped_suite_on_a_tiny_model(tmp_path, tiny_whisper_folder, capsys):
    spoken = []
    for n, language in enumerate(("en", "es", "fr")):
        for m, split in enumerate(("train", "train", "dev", "test", "test")):
            audio = AudioRef(str(write_wav(tmp_path / f"{language}-{m}.wav", sweep(0.4 + 0.1 * m, 200 * (m + 1), n))))
            others = {code: f"{code} {m}" for code in ("en", "es", "fr") if code != language}
            fields = {"text": f"{language} {m}", "translations": others, "split": split}
            spoken.append(utterance(language, f"m{m}", audio=audio, duration=0.4 + 0.1 * m, **fields))
    write_manifest(tmp_path / "m.jsonl", spoken)
    nothing = dict.fromkeys(("replay", "rehearsed", "rehearse", "rehearse_as"))  # its own outputs aren't worth learning
    suite, out = cut(tmp_path, tmp_path / "m.jsonl", {**nothing, "l2sp": 1e-3}, model=str(tiny_whisper_folder))
    assert run(["run", str(suite)]) == 0, capsys.readouterr().err[-2000:]
    check_figures(out)


@pytest.mark.model
def test_a_cut_of_the_shipped_suite_on_real_speech(tmp_path, prompts_manifest, capsys):
    """Whisper-base, six prompts in English, Spanish and French: every recipe ends with a report that has figures."""
    suite, out = cut(
        tmp_path, short_prompts(tmp_path / "m.jsonl", prompts_manifest), {"rehearse_as": ["en", "es", "fr"]}
    )
    assert run(["run", str(suite)]) == 0, capsys.readouterr().err[-2000:]
    results = check_figures(out)
    (own,) = [r for r in results["unseen"]["unseen"] if r["own_token"]]
    assert own["candidates"][0]["chrf"]["value"] > 20  # Whisper-base translates Spanish; noise doesn't score so


def short_prompts(path, prompts):
    """Six prompts of different clusters that are short in three languages: three to train on, one dev, two test."""
    spoken: dict[str, dict[str, Utterance]] = {}
    for u in prompts:
        if u.language in ("en", "es", "fr") and u.meaning == u.cluster and u.duration < 4:
            spoken.setdefault(u.cluster, {})[u.language] = u
    short = [found for found in spoken.values() if len(found) == 3][:6]
    splits = ("train", "train", "train", "dev", "test", "test")
    write_manifest(path, [replace(u, split=s) for found, s in zip(short, splits, strict=True) for u in found.values()])
    return path
