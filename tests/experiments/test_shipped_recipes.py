"""The recipes that are shipped, on trees in their corpora's own layout: nothing is changed but folders, model and size.

Those that train on CoVoST 2 and FLEURS are in test_transfer_recipes.py.
"""

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from helpers import ROOT, load_results, sweep, utterance, write_wav
from interlingua.cli import run
from interlingua.corpora import write_manifest
from interlingua.corpora.mass import VERSIONS
from interlingua.languages import normalise_languages
from interlingua.results import load_utterances
from interlingua.types import AudioRef, Utterance
from trees import fleurs_tree, mass_tree

RECIPES = ROOT / "recipes"
TREES = {"fleurs": fleurs_tree, "mass": mass_tree}


def shipped(name: str, tmp_path: Path, **changes) -> tuple[Path, dict]:
    """A recipe that is shipped, into a folder of its own: (its path, its corpus)."""
    content = yaml.safe_load((RECIPES / f"{name}.yaml").read_text(encoding="utf-8")) | {"out": str(tmp_path / "out")}
    content["corpus"]["root"] = str(tmp_path / "data")
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content | changes, sort_keys=False), encoding="utf-8")
    return path, content["corpus"]


def spoken(folder: Path, languages, n: int) -> list[Utterance]:
    """So many sentences in each language; a sentence has its own pitch."""
    found = []
    for seed, language in enumerate(languages):
        for m in range(n):
            wav = write_wav(folder / f"{language}-{m}.wav", sweep(0.4 + 0.1 * m, 200 * 1.5**m, seed))
            said = {"audio": AudioRef(str(wav)), "text": f"number {m} in {language}", "split": "test"}
            found.append(utterance(language, f"m{m}", **said))
    return found


def languages_of(corpus: dict) -> list[str]:
    return list(normalise_languages(corpus["languages"])) if "languages" in corpus else list(VERSIONS.values())


def check_retrieval(out: Path, languages: list[str], n: int) -> None:
    results, _ = load_results(out)
    pairs = set(permutations(languages, 2))
    assert (
        len(pairs) == {5: 20, 8: 56}[len(languages)]
    )  # as many ordered pairs as the paper has, and the issue asks for
    rows = [r for r in results["retrieval"] if r["method"] == "seqsim"]
    assert {(r["query"], r["candidate"]) for r in rows} == pairs
    assert {r["n"] for r in rows} == {n}
    assert {r["chance"] for r in rows} == {1 / n}
    assert {(r["source"], r["target"]) for r in results["published"]} - {("mul", "mul")} == pairs


@pytest.mark.parametrize(("name", "n"), [("retrieval-fleurs", 4), ("retrieval-mass", 3)])
def test_retrieval_in_every_language_of_the_recipe(name, n, tiny_whisper_folder, tmp_path, capsys):
    path, corpus = shipped(name, tmp_path, model=str(tiny_whisper_folder))
    languages = languages_of(corpus)
    TREES[corpus["name"]](tmp_path / "data", spoken(tmp_path / "wav", languages, n))
    assert run(["run", str(path), "--dry-run"]) == 0
    assert f"{n * len(languages)} utterances, " in capsys.readouterr().err
    assert not (tmp_path / "out" / "results.json").exists()
    assert run(["run", str(path)]) == 0
    check_retrieval(tmp_path / "out", languages, n)


def test_the_encoders_of_the_recipe_on_one_corpus(tiny_whisper_folder, tiny_encoder_folder, tmp_path, capsys):
    others = [str(tiny_encoder_folder), str(tiny_whisper_folder)]
    path, corpus = shipped("encoders-fleurs", tmp_path, model=str(tiny_whisper_folder), others=others)
    given = yaml.safe_load((RECIPES / "encoders-fleurs.yaml").read_text(encoding="utf-8"))
    assert (given["encoder"], len(given["others"])) == ("transformers", 5)  # three pairs
    languages = languages_of(corpus)
    fleurs_tree(tmp_path / "data", spoken(tmp_path / "wav", languages, 4))
    assert run(["run", str(path), "--dry-run"]) == 0
    assert capsys.readouterr().err.count("to encode: 20 utterances, ") == 3
    assert run(["run", str(path)]) == 0
    check_retrieval(tmp_path / "out", languages, 4)
    results, _ = load_results(tmp_path / "out")
    by_method = {
        m: [r["r1"] for r in results["retrieval"] if r["method"] == m]
        for m in ("seqsim", *(f"seqsim:{other}" for other in others))
    }
    assert {len(rows) for rows in by_method.values()} == {20}
    assert (
        by_method["seqsim"] == by_method[f"seqsim:{tiny_whisper_folder}"] != by_method[f"seqsim:{tiny_encoder_folder}"]
    )
    assert [o["model"] for o in results["settings"]["others"]] == [tiny_encoder_folder.name, tiny_whisper_folder.name]
    assert f"SeqSim, {tiny_encoder_folder}" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_unseen_languages_of_the_paper(tiny_whisper_folder, tmp_path, capsys):
    path, corpus = shipped("unseen-fleurs", tmp_path, model=str(tiny_whisper_folder))
    languages = languages_of(corpus)
    assert len(languages) == 6
    root = fleurs_tree(tmp_path / "data", spoken(tmp_path / "wav", [*languages, "en"], 2))
    (root / "data" / "en_us" / "audio" / "test.tar.gz").unlink()  # its texts are enough
    assert run(["run", str(path), "--dry-run"]) == 0
    assert "12 utterances, " in capsys.readouterr().err
    assert run(["run", str(path)]) == 0
    results, _ = load_results(tmp_path / "out")
    rows = {r["language"]: r for r in results["unseen"]}
    assert sorted(r["language"] for r in results["unseen"]) == sorted(languages)  # each once
    assert not any(r["seen"] for r in rows.values())
    for r in rows.values():
        assert {len(r["candidates"]) > 1, r["n"] == 2, set(r["error"]) == {"words", "characters"}} == {True}
    assert {(r["source"], r["metric"]) for r in results["published"]} == {
        (code, metric) for code in languages for metric in ("bleu", "chrf", "wer", "cer")
    }


def test_every_language_of_the_robustness_recipe_beside_its_distance(tiny_whisper_folder, tmp_path, capsys):
    path, corpus = shipped("robustness-fleurs", tmp_path, model=str(tiny_whisper_folder), methods=["seqsim"])
    languages = languages_of(corpus)
    fleurs_tree(tmp_path / "data", spoken(tmp_path / "wav", languages, 2))
    assert run(["run", str(path), "--dry-run"]) == 0
    said = capsys.readouterr().err
    assert f"retrieval: to encode: {2 * len(languages)} utterances, " in said
    assert f"translation: to encode: {2 * (len(languages) - 1)} utterances, " in said
    assert run(["run", str(path)]) == 0
    results, _ = load_results(tmp_path / "out")
    rows = {r["language"]: r for r in results["robustness"]["languages"]}
    assert set(rows) == set(languages) - {"en"}
    asked = {"ru", "ar", "hi"}, {"sw", "tr", "vi"}, {"wo", "ig", "zu", "xh"}  # of the issue
    assert [{rows[code]["seen"] for code in of} for of in asked] == [{True}, {True}, {False}]
    for r in rows.values():
        assert {"bleu", "chrf", "wer", "cer", "to_pivot", "from_pivot"} < set(r)
        assert all(distance is not None for distance in r["distance"].values())
    assert all(set(r.retrieval["seqsim"]) for r in load_utterances(tmp_path / "out"))


@pytest.mark.model
@pytest.mark.parametrize("name", ["retrieval-fleurs", "retrieval-mass", "unseen-fleurs"])
def test_real_speech_in_the_layout_of_the_originals(name, prompts_manifest, tmp_path):
    """Whisper-base and the prompts' audio; the languages alone are others."""
    few = sorted({u.meaning for u in prompts_manifest if u.language == "ru" and 2 < (u.duration or 0) < 4})[:12]
    said = [replace(u, split="test") for u in prompts_manifest if u.meaning in few and u.language in ("en", "es", "it")]
    _, corpus = shipped(name, tmp_path)
    if name == "unseen-fleurs":  # Italian, told to be Asturian
        said = [replace(u, language="ast" if u.language == "it" else u.language) for u in said if u.language != "es"]
        corpus["languages"] = ["ast_es"]
    elif "languages" in corpus:
        corpus["languages"] = ["en_us", "es_419", "it_it"]
    else:
        said = [u for u in said if u.language != "it"]  # MaSS has none
    path, _ = shipped(name, tmp_path, corpus=corpus | {"root": str(tmp_path / "data")})
    TREES[corpus["name"]](tmp_path / "data", said)
    assert run(["run", str(path)]) == 0
    results, _ = load_results(tmp_path / "out")
    if name == "unseen-fleurs":
        (row,) = results["unseen"]
        assert max(c["chrf"]["value"] for c in row["candidates"]) > 20
        return
    rows = [r for r in results["retrieval"] if r["method"] == "seqsim"]
    assert len(rows) == {"retrieval-fleurs": 6, "retrieval-mass": 2}[name]
    assert all(r["r1"] >= 2 * r["chance"] for r in rows)


def test_of_several_recipes_one_that_fails_is_named_and_the_others_run(
    tmp_path, tiny_whisper_folder, wav_manifest, capsys
):
    def put(name: str, out: str, **settings) -> str:
        path = tmp_path / name
        content = {"recipe": "retrieval", "out": str(tmp_path / out), "model": str(tiny_whisper_folder), **settings}
        path.write_text(yaml.safe_dump({**content, "methods": ["seqsim"]}))
        return str(path)

    mine = {"corpus": {"name": "manifest", "root": str(wav_manifest)}}
    bad = put("bad.yaml", "bad", corpus={"name": "manifest", "root": str(tmp_path / "none.jsonl")})
    blocked = put("blocked.yaml", "blocked", **mine)
    (tmp_path / "blocked").write_text("a file stands where the folder should")
    good = put("good.yaml", "good", **mine)
    assert run(["run", bad, blocked, good]) == 1
    printed, notes = capsys.readouterr()
    assert printed == f"{tmp_path / 'good' / 'report.html'}\n"
    *_, first, second, third = notes.splitlines()
    assert first.startswith(f"interlingua: {bad}: failed: {tmp_path / 'none.jsonl'}: no readable manifest file")
    assert second.startswith(f"interlingua: {blocked}: failed: ")
    assert third == f"interlingua: {good}: done, {tmp_path / 'good'}"
    assert run(["run", bad]) == 2  # one alone: as any wrong input
    # settings are read before the first begins
    wrong = put("wrong.yaml", "wrong", **mine, pool=0)
    assert run(["run", good, wrong]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"interlingua: {wrong}: pool")


def cut(tmp_path: Path, manifest: Path, method: dict, **model) -> list[str]:
    """The recipes on the prompts corpus, on a manifest of few utterances in English, Spanish and French."""
    corpus = {"name": "manifest", "root": str(manifest), "languages": ["en", "es", "fr"]}
    few = {
        "retrieval": {"corpus": corpus},
        "transfer": {
            "train": corpus,
            "tests": {"prompts": corpus},
            "settings": {"epochs": 1},
            "variants": {"plain": {}, "replay-crossed": method},
        },
        "unseen": {"corpus": {**corpus, "languages": ["es"]}, "forbidden": ["es"], "most": 2, "tokens": {"es": ["pt"]}},
        "robustness": {"corpus": {**corpus, "languages": ["en", "es"]}, "methods": ["seqsim"]},
    }
    paths = []
    for name, changes in few.items():
        content = yaml.safe_load((RECIPES / f"{name}-prompts.yaml").read_text(encoding="utf-8")) | changes | model
        content.pop("shared", None)
        paths.append(tmp_path / f"{name}.yaml")
        paths[-1].write_text(yaml.safe_dump(content | {"out": str(tmp_path / "out" / name)}, sort_keys=False))
    return list(map(str, paths))


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
    return results


def test_every_kind_of_recipe_one_after_another_on_a_tiny_model(tmp_path, tiny_whisper_folder, capsys):
    spoken = []
    for n, language in enumerate(("en", "es", "fr")):
        for m, split in enumerate(("train", "train", "dev", "test", "test")):
            audio = AudioRef(str(write_wav(tmp_path / f"{language}-{m}.wav", sweep(0.4 + 0.1 * m, 200 * (m + 1), n))))
            others = {code: f"{code} {m}" for code in ("en", "es", "fr") if code != language}
            fields = {"text": f"{language} {m}", "translations": others, "split": split}
            spoken.append(utterance(language, f"m{m}", audio=audio, duration=0.4 + 0.1 * m, **fields))
    write_manifest(tmp_path / "m.jsonl", spoken)
    paths = cut(tmp_path, tmp_path / "m.jsonl", {"l2sp": 1e-3}, model=str(tiny_whisper_folder))
    assert run(["run", *paths]) == 0, capsys.readouterr().err[-2000:]
    check_figures(tmp_path / "out")


@pytest.mark.model
def test_every_kind_of_recipe_on_real_speech(tmp_path, prompts_manifest, capsys):
    """Whisper-base, six prompts in English, Spanish and French: every recipe ends with a report that has figures."""
    method = {"replay": 0.3, "rehearsed": 0.5, "rehearse": ["en"], "rehearse_as": ["en", "es", "fr"]}
    paths = cut(tmp_path, short_prompts(tmp_path / "m.jsonl", prompts_manifest), method)
    assert run(["run", *paths]) == 0, capsys.readouterr().err[-2000:]
    results = check_figures(tmp_path / "out")
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
