"""Transfer recipes on corpora as their publishers hand them out, from the files to the report."""

import csv
import json
import re
import shutil
from contextlib import contextmanager
from dataclasses import replace
from statistics import fmean

import pytest
import yaml
from msgspec import structs

from helpers import ROOT, load_results, sweep, utterance, write_wav
from interlingua.cli import run
from interlingua.corpora import write_manifest
from interlingua.corpora.fleurs import fleurs_code
from interlingua.errors import CometError, CorpusError, ResultsError, UsageError
from interlingua.experiments import transfer
from interlingua.experiments.corpus_source import CorpusSource
from interlingua.experiments.published import UNKNOWN
from interlingua.experiments.recipes import read_recipe
from interlingua.experiments.run import with_durations
from interlingua.experiments.transfer import TransferStudy, kept_comet, run_transfer_study
from interlingua.experiments.transfer_settings import study_data
from interlingua.finetuning.data import text_example
from interlingua.finetuning.evaluate import references
from interlingua.metrics import CometScores, score_translations
from interlingua.models.targets import read_targets
from interlingua.report import write_report
from interlingua.results import load_utterances
from interlingua.types import AudioRef
from trees import covost_tree, fleurs_tree

RECIPES = ROOT / "recipes"
COMET = "Unbabel/wmt22-comet-da"
WORDS = {"en": "a house", "fr": "une maison", "de": "ein haus", "ja": "いえ", "ko": "집", "zh": "房子"}
SPOKEN = ("en", "fr", "de", "ja")
PER_SPLIT = {"train": 6, "dev": 3, "test": 4}
PLAIN = {"variants": {"plain": {"epochs": 2}}, "comet_model": None}


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """FLEURS in five languages and CoVoST 2 from English and into it, each with train, dev and test."""
    folder = tmp_path_factory.mktemp("corpora")
    fleurs, covost = [], []
    for split, n in PER_SPLIT.items():
        for i in range(n):
            for place, (language, word) in enumerate(WORDS.items()):
                name = f"{split}-{i}"
                wav = write_wav(folder / "wav" / f"{language}-{name}.wav", sweep(0.3, 200 + 40 * place, seed=i))
                made = {"audio": AudioRef(str(wav)), "text": f"{word} {split} {i}", "split": split}
                fleurs.append(utterance(language, name, **made))
                targets = {"zh-CN": f"房子 {split} {i}"} if language == "en" else {"en": f"a house {split} {i}"}
                covost.append(utterance(language, name, translations=targets, **made))
    fleurs_tree(folder / "fleurs", fleurs)
    covost_tree(folder / "covost", [u for u in covost if u.language != "ko"])  # as the original: no Korean
    return folder


def smaller(name, corpora, tmp_path, model, **changes):
    """A recipe of ours on the small corpora: nothing but languages, roots and sizes is changed."""
    settings = yaml.safe_load((RECIPES / f"{name}.yaml").read_text(encoding="utf-8"))
    settings |= {"out": str(tmp_path / "out"), "model": str(model)}
    settings.pop("shared", None)
    settings["settings"] |= {"epochs": 1, "batch_size": 4, "compute": "float32", "learning_rate": 0.01}
    read = [settings["train"], *([settings["dev"]] if "dev" in settings else []), *settings["tests"].values()]
    for corpus in read:
        corpus["root"] = str(corpora / corpus["name"])
        kept = [code for code in corpus["languages"] if code.split("-")[0] in WORDS]
        corpus["languages"] = [c for c in kept if corpus["name"] == "fleurs" or c != "zh-CN"]
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**settings, **changes}, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def done(corpora, tiny_whisper_folder, tmp_path_factory):
    """A study of English speech in FLEURS, two epochs: its recipe and folder."""
    folder = tmp_path_factory.mktemp("done")
    path = smaller("sources-fleurs", corpora, folder, tiny_whisper_folder, **PLAIN)
    run_transfer_study(read_recipe(path), log=lambda line: None)
    return path, folder / "out"


@pytest.fixture
def again(done, tmp_path):
    """The same in a folder of its own, with all that is done."""
    path, folder = done
    shutil.copytree(folder, tmp_path / "out")
    return lambda **changes: replace(read_recipe(path), out=tmp_path / "out", **changes)


@contextmanager
def kept_lines(path):
    """The lines of a file of kept values by id, to be changed; they are written in another order."""
    lines = {line["id"]: line for line in map(json.loads, path.read_text(encoding="utf-8").splitlines())}
    yield lines
    path.write_text("".join(json.dumps(line) + "\n" for line in reversed(lines.values())), encoding="utf-8")


def test_covost_to_train_on_and_fleurs_to_test_on(corpora, tiny_whisper_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("INTERLINGUA_CACHE", str(tmp_path / "cache"))  # no COMET here
    theirs = {"test": "fleurs", "variant": "plain", "source": "fr", "target": "zh", "bleu": 12.25}
    published = tmp_path / "published.json"
    published.write_text(json.dumps({"transfer": [theirs]}))
    path = smaller("finetune-covost", corpora, tmp_path, tiny_whisper_folder, published=str(published))
    assert run(["run", str(path), "--dry-run"]) == 0
    said = capsys.readouterr().err
    n = 6 + 3 + 4 + 4 * len(SPOKEN)  # CoVoST's train, dev and test; FLEURS' test
    assert f"to encode: {n} utterances" in said
    assert "to train: 2 trainings" in said
    assert not (tmp_path / "out" / "begun.json").exists()

    assert run(["run", str(path)]) == 0
    results, _ = load_results(tmp_path / "out")
    rows = {(r["variant"], r["test"]): r for r in results["study"]}
    assert set(rows) == {(v, t) for v in ("plain", "permuted") for t in ("covost", "fleurs")}
    found = {(r["task"], r["source"]): r for r in rows["plain", "fleurs"]["table"]}
    assert {s for task, s in found if task == "new"} == set(SPOKEN)
    assert {s for task, s in found if task == "translate"} == set(SPOKEN) - {"en"}
    assert {s: found["new", s]["trained"] for s in SPOKEN} == {"en": True, "fr": False, "de": False, "ja": False}
    assert all(r["n"] == 4 for r in found.values())
    assert [(r["task"], r["source"], r["n"]) for r in rows["plain", "covost"]["table"]] == [("new", "en", 4)]
    assert "new_unseen" not in rows["plain", "covost"]
    kept = load_utterances(tmp_path / "out")
    assert len({r.utterance.id for r in kept}) == len(kept) == 4 + 4 * len(SPOKEN)  # both tests
    assert {t.system for r in kept for t in r.translations} == {"untrained", "plain", "permuted"}
    pools = {p["pool"]: p for p in rows["plain", "fleurs"]["pooled"]}
    assert pools["new, sources never trained on"]["languages"] == ["de", "fr", "ja"]
    assert pools["new, sources trained on"]["languages"] == ["en"]
    assert "isn't set up" in pools["into English"]["comet"]["reason"]
    keys = ("test", "method", "source", "target", "metric")
    beside = {tuple(r[key] for key in keys): r["published"] for r in results["published"]}
    assert beside.pop(("fleurs", "plain", "fr", "zh", "bleu")) == 12.25
    assert len(beside) == 2 * (1 + 4 + 3) - 1  # BLEU before and after in every direction of both tests
    assert set(beside.values()) == {UNKNOWN}
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    for text in ("fleurs, into Chinese", "covost, into Chinese", "never trained on", "12.2", UNKNOWN, "set it up with"):
        assert text in page
    assert "the reference is the parallel sentence" in page
    with (tmp_path / "out" / "tables" / "variants-fleurs-zh.csv").open(encoding="utf-8", newline="") as lines:
        told = list(csv.DictReader(lines))
    assert {line["Variant"] for line in told} == {"plain", "permuted"}
    line = next(r for r in told if r["Variant"] == "plain" and r["Variant, note"].endswith("never trained on"))
    assert line["Source languages"] == "German, French, Japanese"
    chrf = pools["new, sources never trained on"]["chrf"]
    assert float(line["chrF after"]) == pytest.approx(chrf["after"]["value"], rel=1e-5)
    assert float(line["chrF difference, low"]) == pytest.approx(chrf["difference"]["ci"][0], rel=1e-5)


def test_pooled_scores_are_the_means_of_the_languages(again):
    """By hand, from answers that are right in part, joined by utterance id."""
    study = again()
    (one,) = study.models()
    test = study_data(study, list(WORDS), print).part(0, "fleurs")
    (row,) = load_results(study.out)[0]["study"]
    expected = {s: references(test, s, "zh") for s in SPOKEN}
    strange = ("de", "fr", "ja")
    scores = {}
    files = {"before": f"before/0-fleurs-zh-{row['untrained_prompts'][0]}", "after": f"trainings/{one.name}/fleurs-1"}
    for place, (side, name) in enumerate(files.items()):
        with kept_lines(study.out / f"{name}.jsonl") as lines:
            for n, s in enumerate(SPOKEN):  # in the order of the ids turned round, and one of them without output
                texts = {i: text[: 2 + place + n] for i, text in reversed(expected[s].items())}
                missing = next(iter(texts))
                for i, text in texts.items():
                    lines[i]["value"][f"new {s}-zh"] = text
                del texts[missing], lines[missing]["value"][f"new {s}-zh"]
                scores[side, s] = score_translations(texts, expected[s], target="zh", metric="chrf").value
    results, _ = load_results(run_transfer_study(study, log=lambda line: None))
    (row,) = results["study"]
    before, after = (fmean(scores[side, s] for s in strange) for side in files)
    assert 0 < before < after
    pool = next(p for p in row["pooled"] if p["pool"] == "new, sources never trained on")
    assert pool["chrf"]["before"]["value"] == pytest.approx(before)
    assert pool["chrf"]["after"]["value"] == pytest.approx(after)
    assert pool["chrf"]["difference"]["value"] == pytest.approx(after - before)
    assert pool["chrf"]["difference"]["n"] == len(strange) * PER_SPLIT["test"]
    assert row["new_unseen"]["value"] == pytest.approx(after - before)
    (trained,) = (p for p in row["pooled"] if p["pool"] == "new, sources trained on")
    assert trained["chrf"]["after"]["value"] == pytest.approx(scores["after", "en"])


def test_forgetting_is_pooled_apart_near_the_target(corpora, tiny_whisper_folder, tmp_path, monkeypatch):
    rehearsed = []

    def rehearse(whisper, spoken, states, *, languages):  # random weights never end a text
        rehearsed.append((sorted(u.language for u in spoken), languages))
        prompt = whisper.prompt("en", "transcribe")
        return [replace(text_example(whisper, u.id, prompt, "said", "en"), rehearsal=True) for u in spoken]

    monkeypatch.setattr(transfer, "rehearsal_examples", rehearse)
    variants = {"plain": {}, "wise-ft": {"alphas": [0.5, 0.25]}}
    crossed = {"replay": 0.3, "rehearsed": 0.5, "rehearse": ["en"], "rehearse_as": ["en", "fr"]}
    variants["replay-crossed"] = {**crossed, "rehearsal_utterances": 3}
    path = smaller("forgetting-covost", corpora, tmp_path, tiny_whisper_folder, variants=variants, comet_model=None)
    assert run(["run", str(path)]) == 0
    results, _ = load_results(tmp_path / "out")
    rows = {(r["variant"], r["test"]): r for r in results["study"]}
    assert len(rows) == len(variants) * 2
    for variant in variants:
        pools = {p["pool"]: p["languages"] for p in rows[variant, "fleurs"]["pooled"]}
        assert pools["into English, near Chinese"] == ["ja", "ko", "zh"]
        assert pools["into English, the others"] == ["de", "fr"]
        assert pools["into English"] == ["de", "fr", "ja", "ko", "zh"]
        pools = {p["pool"]: p["languages"] for p in rows[variant, "covost"]["pooled"]}
        assert pools["into English"] == ["de", "fr", "ja"]
    assert rows["wise-ft", "fleurs"]["chosen"][0]["alpha"] in (0.5, 0.25)
    assert rehearsed == [(["en"] * 3, ("en", "fr"))]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "into English, near Chinese" in page
    assert len({(p["name"], p["test"]) for p in results["pareto"]}) == len(variants)  # CoVoST has nothing into Chinese


def test_sources_are_compared_and_nothing_is_done_twice(corpora, tiny_whisper_folder, tmp_path, monkeypatch):
    changes = {"variants": {"plain": {}, "ja": {"source": ["ja"]}}, "comet_model": None}
    path = smaller("sources-fleurs", corpora, tmp_path, tiny_whisper_folder, **changes)
    trained = []
    original = transfer.train
    monkeypatch.setattr(transfer, "train", lambda *a, **o: trained.append(a[3].source) or original(*a, **o))
    results, _ = load_results(run_transfer_study(read_recipe(path), log=lambda line: None))
    assert trained == [("en",), ("ja",)]
    assert {r["variant"]: r["sources"] for r in results["study"]}["ja"] == ["ja"]
    ja = {r["source"]: r["trained"] for r in results["study"][1]["table"] if r["task"] == "new"}
    assert ja == {"de": False, "en": False, "fr": False, "ja": True}
    (model,) = (tmp_path / "out" / "trainings").glob(f"{read_recipe(path).models()[1].name}/model")
    assert read_targets(model).sources == ("ja",)
    # another test asks the models that are kept, and trains nothing; so does an answer that is gone
    fleurs = {"name": "fleurs", "root": str(corpora / "fleurs"), "options": {"references": ["zh", "en"]}}
    tests = {name: {**fleurs, "languages": list(which)} for name, which in (("fleurs", SPOKEN), ("korean", ["ko"]))}
    more = read_recipe(smaller("sources-fleurs", corpora, tmp_path, tiny_whisper_folder, **changes, tests=tests))
    file = tmp_path / "out" / "trainings" / more.models()[1].name / "fleurs-1.jsonl"
    with kept_lines(file) as after, kept_lines(tmp_path / "out" / "before" / "0-fleurs-old.jsonl") as before:
        keys = {key for line in before.values() for key in line["value"] if key.startswith("translate")}
        changed = {key for i, line in before.items() for key in keys & line["value"].keys()
                   if line["value"][key] != after[i]["value"][key]}  # fmt: skip
        assert changed == keys
    file.unlink()
    both, _ = load_results(run_transfer_study(more, log=lambda line: None))
    assert len(trained) == 2
    with kept_lines(file) as again:
        assert again == after
    assert [r for r in both["study"] if r["test"] == "fleurs"] == results["study"]
    (korean,) = (r for r in both["study"] if (r["variant"], r["test"]) == ("ja", "korean"))
    assert [(r["task"], r["source"], r["n"]) for r in korean["table"]] == [("new", "ko", 4), ("translate", "ko", 4)]


def test_states_that_do_not_fit_are_made_on_the_fly(done, corpora, tiny_whisper_folder, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr("interlingua.experiments.finetune.free_bytes", lambda path: 1000)
    path = smaller("sources-fleurs", corpora, tmp_path, tiny_whisper_folder, **PLAIN)
    results, _ = load_results(run_transfer_study(read_recipe(path), log=told.append))
    assert not list((tmp_path / "out").glob("*.lance"))
    assert len(list(done[1].glob("*.lance"))) == 2
    assert results["study"] == load_results(done[1])[0]["study"]
    assert sum("every epoch encodes" in line for line in told) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tests": {}}, "tests: missing"),
        ({"train": None}, "name what is trained on, too"),
        ({"folds": [0, 1]}, "`train` has splits of its own"),
        ({"targets": ["zh-CN"]}, "targets: write zh-CN as zh"),
        ({"apart": {"near": ["zh-CN"]}}, "apart, near: write zh-CN as zh"),
        ({"variants": {"plain": {"source": ["ja_jp"]}}}, "source: write ja_jp as ja"),
        ({"tests": {"dev": {"name": "prompts"}}}, "'dev' can't be a name"),
        ({"tests": {"a": {"name": "prompts", "langs": ["en"]}}}, "no setting tests, a: 'langs'"),
        ({"train": {"name": "prompts", "langs": ["en"]}}, "no setting train: 'langs'"),
        ({"context": "speech+40"}, "speech+N"),
        ({"variants": {"plain": {"utterances": "1e3"}}}, "plain: Expected `int"),
        ({"variants": {"plain": {"utterances": 0}}}, "plain: Expected `int` >= 1"),
        ({"variants": {"plain": {"rehearsal_utterances": -3}}}, "rehearsal_utterances"),
        ({"variants": {"plain": {"alphas": 0.5}}}, "$.alphas"),
    ],
)
def test_wrong_settings_are_one_line(corpora, tiny_whisper_folder, tmp_path, change, message):
    path = smaller("sources-fleurs", corpora, tmp_path, tiny_whisper_folder, **change)
    with pytest.raises(UsageError, match=re.escape(message)) as error:
        read_recipe(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"targets": ["kea"]}, UsageError, "no token for kea"),
        ({"targets": ["it"]}, CorpusError, "train: fleurs holds no speech of en with a reference in 'it'"),
        ({"variants": {"plain": {}, "nl": {"source": ["nl"]}}}, CorpusError, "no speech of nl"),
        ({"tests": {"fleurs": {"split": "train"}}}, UsageError, "fleurs: 24 of its recordings are in train, too"),
        ({"tests": {"fleurs": {"root": "nowhere"}}}, CorpusError, "fleurs: nowhere"),
        ({"variants": {"plain": {"alphas": [1.0, 0.5]}}, "dev": {"options": {"references": ["zh"]}}}, CorpusError,
         "dev has no English references"),
    ],
)  # fmt: skip
def test_what_can_not_be_done_is_said_before_the_work(corpora, tiny_whisper_folder, tmp_path, change, error, message):
    fleurs = {"name": "fleurs", "languages": list(SPOKEN), "root": str(corpora / "fleurs")}
    fleurs["options"] = {"references": ["zh", "en"]}
    if "tests" in change:
        change = {"tests": {"fleurs": {**fleurs, **change["tests"]["fleurs"]}}}
    if "dev" in change:
        change = {**change, "dev": {**fleurs, "split": "dev", **change["dev"]}}
    path = smaller("sources-fleurs", corpora, tmp_path, tiny_whisper_folder, **change)
    with pytest.raises(error, match=re.escape(message)):
        run_transfer_study(read_recipe(path), log=lambda line: None)
    assert not (tmp_path / "out" / "begun.json").exists()


def test_a_folder_of_other_corpora_is_refused(again):
    cut = replace(again().train, languages=("en", "fr"), max_utterances=4)
    for name, changed in {"corpus": {"train": cut}, "test fleurs": {"tests": {"fleurs": cut}}}.items():
        with pytest.raises(ResultsError, match=f"begun with {name} "):
            run_transfer_study(again(**changed), log=lambda line: None)


def test_a_language_without_a_token_is_left_out_and_named(corpora, tiny_whisper_folder, tmp_path):
    told = []
    study = read_recipe(smaller("sources-fleurs", corpora, tmp_path, tiny_whisper_folder))
    with pytest.raises(CorpusError, match="no speech of ja"):
        study_data(study, ["en", "fr", "de", "zh"], told.append)
    assert any(re.match(r"fleurs: ja: .* has no token", line) for line in told)


def test_comet_scores_are_kept(tmp_path, monkeypatch):
    asked = []

    def score(segments, *, model):
        asked.append(sorted(segments))
        return CometScores({s: float(len(s[1])) for s in segments}, "comet|v1")

    monkeypatch.setattr(transfer, "score_comet", score)
    path, one, two = tmp_path / "comet.jsonl", ("a", "b", "c"), ("a", "bb", "c")
    assert kept_comet(path, [one, one], COMET).scores == {one: 1.0}
    assert kept_comet(path, {one, two}, COMET).scores == {one: 1.0, two: 2.0}
    assert asked == [[one], [two]]

    def fail(segments, *, model):
        raise CometError("not here")

    monkeypatch.setattr(transfer, "score_comet", fail)
    assert kept_comet(path, [two], COMET).scores == {two: 2.0}  # all of it is there
    assert isinstance(kept_comet(path, [("x", "y", "z")], COMET), CometError)
    newer = lambda segments, *, model: CometScores(dict.fromkeys(segments, 9.0), "comet|v2")  # noqa: E731
    monkeypatch.setattr(transfer, "score_comet", newer)
    found = kept_comet(path, [one, ("x", "y", "z")], COMET)
    assert (found.scores, found.signature) == ({one: 9.0, ("x", "y", "z"): 9.0}, "comet|v2")


def test_comet_is_in_the_tables(again, monkeypatch):
    def score(segments, *, model):
        return CometScores({s: 0.5 if "房" in s[2] else 0.25 for s in segments}, "comet|test")

    monkeypatch.setattr(transfer, "score_comet", score)
    out = run_transfer_study(again(comet_model=COMET), log=lambda line: None)
    (row,) = load_results(out)[0]["study"]
    pools = {p["pool"]: p["comet"] for p in row["pooled"]}
    assert pools["new, sources never trained on"]["after"]["value"] == 0.5
    assert pools["into English"]["before"]["value"] == 0.25
    assert pools["into English"]["difference"]["value"] == 0
    assert {r["comet"]["after"]["value"] for r in row["table"] if r["task"] == "new"} == {0.5}
    assert "comet|test" in write_report(out).read_text(encoding="utf-8")


def test_a_manifest_of_ones_own_is_read_split_by_split(tmp_path):
    spoken = [utterance("en", f"m{i}", split="train" if i < 3 else "test") for i in range(5)]
    path = tmp_path / "mine.jsonl"
    write_manifest(path, spoken)
    for split, n in (("train", 3), ("test", 2), (None, 5)):
        source = CorpusSource(name="manifest", root=path, split=split)
        assert len(source.utterances(tmp_path)) == n
    with pytest.raises(CorpusError, match=r"no utterance in split 'dev'; it has test, train"):
        CorpusSource(name="manifest", root=path, split="dev").utterances(tmp_path)
    with pytest.raises(UsageError, match="max_utterances"):
        CorpusSource(name="manifest", root=path, max_utterances=3)


@pytest.mark.parametrize(("left", "right"), [("train", "dev"), ("train", "own"), ("dev", "own")])
def test_one_recording_by_two_paths_is_noticed(tmp_path, tiny_whisper_folder, left, right):
    (tmp_path / "wav").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "wav")
    parts = {}
    for n, part in enumerate(("train", "dev", "own")):
        write_wav(tmp_path / "wav" / f"{part}.wav", sweep(0.5, 300, seed=n))
        parts[part] = [AudioRef(str(tmp_path / "wav" / f"{part}.wav"))]
    parts[right].append(AudioRef(str(tmp_path / "link" / f"{left}.wav")))
    for part, recordings in parts.items():
        said = {"translations": {"es": "a", "en": "b"}, "split": "test" if part == "own" else part}
        spoken = [utterance("en", f"{part}{i}", audio=audio, **said) for i, audio in enumerate(recordings)]
        write_manifest(tmp_path / f"{part}.jsonl", spoken)
    sources = {part: CorpusSource(name="manifest", root=tmp_path / f"{part}.jsonl") for part in parts}
    study = TransferStudy(
        out=tmp_path / "out",
        model=str(tiny_whisper_folder),
        train=sources["train"],
        dev=sources["dev"],
        tests={"own": sources["own"]},
        variants={"plain": {}},
    )
    with pytest.raises(UsageError, match=f"{right}: 1 of its recordings are in {left}, too"):
        run_transfer_study(study, log=lambda line: None)


def test_a_corpus_without_splits_is_tested_on_whole(tmp_path):
    study = TransferStudy(
        out=tmp_path,
        train=CorpusSource(name="manifest", root=tmp_path / "m.jsonl"),
        tests={name: CorpusSource(name=name) for name in ("prompts", "fleurs")},
    )
    assert {name: c.split for name, c in study.corpora.items()} == {
        "train": "train", "dev": "dev", "prompts": None, "fleurs": "test",
    }  # fmt: skip


def test_outputs_that_lack_a_recording_with_states_are_made(again):
    study = again()
    for folder in ("before", "trainings"):
        for path in (study.out / folder).rglob("fleurs*.jsonl" if folder == "trainings" else "*fleurs*.jsonl"):
            with kept_lines(path) as lines:
                del lines[next(iter(lines))]
    whole, _ = load_results(study.out)
    results, _ = load_results(run_transfer_study(study, log=lambda line: None))
    assert results["study"] == whole["study"]
    assert results["provenance"]["corpus"]["utterances"] > 0
    assert results["provenance"]["seeds"]["training 1"] == 0


def test_unknown_durations_are_guessed_from_some(tmp_path):
    spoken = []
    for i, seconds in enumerate((1.0, 2.0)):
        audio = AudioRef(str(write_wav(tmp_path / f"{i}.wav", sweep(seconds, 200))))
        spoken.append(utterance("en", f"m{i}", audio=audio))
    known = utterance("en", "known", duration=9.0)
    stretch = utterance("en", "stretch", audio=AudioRef("x.wav", offset=1.0, duration=4.0))
    assert [u.duration for u in with_durations([*spoken, known, stretch])] == [1.5, 1.5, 9.0, 4.0]


def test_codes_of_the_recipes_are_those_of_the_corpora():
    for path in RECIPES.glob("*fleurs*.yaml"):
        settings = read_recipe(path)
        for corpus in getattr(settings, "corpora", {}).values():
            assert all(fleurs_code(code) for code in corpus.languages)


@pytest.mark.model
def test_whisper_learns_from_real_speech_in_both_layouts(prompts_manifest, tmp_path):
    """The recipe on a handful of the prompts corpus's recordings, laid out as CoVoST 2 and as FLEURS."""
    short = [u for u in prompts_manifest if u.language == "en" and 1.5 < (u.duration or 0) < 3]
    splits = {u.meaning: s for u, s in zip(short, ["train"] * 12 + ["dev"] * 3 + ["test"] * 4, strict=False)}
    chosen = [u for u in prompts_manifest if u.meaning in splits and u.language in ("en", "fr", "it")]
    chosen = [structs.replace(u, split=splits[u.meaning]) for u in chosen]
    english = [u for u in chosen if u.language == "en"]
    # FLEURS' Chinese is read for its sentences alone
    chinese = [structs.replace(u, id=f"zh/{u.meaning}", language="zh", text=u.translations["zh"]) for u in english]
    tested = [u for u in [*chosen, *chinese] if u.split == "test"]
    fleurs_tree(tmp_path / "fleurs", tested)
    covost_tree(
        tmp_path / "covost", [structs.replace(u, translations={"zh-CN": u.translations["zh"]}) for u in english]
    )
    settings = yaml.safe_load((RECIPES / "finetune-covost.yaml").read_text(encoding="utf-8"))
    for corpus in (settings["train"], settings["dev"], *settings["tests"].values()):
        corpus["root"] = str(tmp_path / corpus["name"])
    settings["tests"]["fleurs"]["languages"] = ["en", "fr", "it"]
    settings |= {"out": str(tmp_path / "out"), "variants": {"plain": {}}, "apart": {"near French": ["fr"]}}
    settings["settings"] |= {"epochs": 1, "batch_size": 4}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
    assert run(["run", str(path)]) == 0
    results, _ = load_results(tmp_path / "out")
    rows = {r["test"]: r for r in results["study"]}
    found = {(r["task"], r["source"]): r for r in rows["fleurs"]["table"]}
    assert found["translate", "fr"]["chrf"]["before"]["value"] > 20  # French is understood: its states are right
    assert found["new", "en"]["chrf"]["after"]["value"] > 2  # and some Chinese is written
    assert found["new", "fr"]["off_target"]["after"]["value"] < 1
    assert found["new", "en"]["chrf"]["difference"]["value"] != 0
    assert rows["covost"]["table"][0]["n"] == rows["fleurs"]["table"][0]["n"] == 4
    pools = {p["pool"]: p["languages"] for p in rows["fleurs"]["pooled"]}
    assert pools["into English, near French"] == ["fr"]
    assert pools["into English, the others"] == ["it"]
    assert "fleurs, into Chinese" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
