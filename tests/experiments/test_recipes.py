"""Recipes from a corpus in its publishers' layout to the report."""

import json
from pathlib import Path

import pytest

from helpers import load_results, sweep, utterance, write_wav
from interlingua.cli import run
from interlingua.corpora import write_manifest
from interlingua.errors import CorpusError, UsageError
from interlingua.experiments import retrieval, unseen
from interlingua.experiments.corpus_source import CorpusSource
from interlingua.experiments.finetune import plain
from interlingua.experiments.published import UNKNOWN, read_published
from interlingua.experiments.recipes import read_recipe
from interlingua.results import Retrieval
from interlingua.types import AudioRef
from trees import fleurs_tree, mass_tree


@pytest.fixture
def spoken(tmp_path):
    """Four meanings in four languages; a meaning has its own pitch."""
    found = []
    for n, language in enumerate(("en", "fr", "es", "ru")):
        for m, meaning in enumerate(("one", "two", "three", "four")):
            path = write_wav(tmp_path / "wav" / f"{language}-{meaning}.wav", sweep(0.6 + 0.2 * m, 200 * 2**m, seed=n))
            text = f"{meaning} in {language}"
            found.append(utterance(language, meaning, audio=AudioRef(str(path)), text=text, split="test"))
    return found


def recipe(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["fleurs", "mass"])
def test_retrieval_from_the_publishers_files_to_the_report(kind, spoken, tiny_whisper_folder, tmp_path, capsys):
    root = tmp_path / "data"
    {"fleurs": fleurs_tree, "mass": mass_tree}[kind](root, spoken)
    published = tmp_path / "published.json"
    row = {"query": "en", "candidate": "fr", "method": "seqsim", "r1": 0.875}
    published.write_text(json.dumps({"retrieval": [row]}))
    path = recipe(
        tmp_path,
        f"""
recipe: retrieval
out: {tmp_path / "out"}
corpus: {{name: {kind}, root: {root}, languages: [en, fr, es]}}
model: {tiny_whisper_folder}
methods: [seqsim, mean-pool]
published: {published}
""",
    )
    assert run(["run", str(path), "--dry-run"]) == 0
    assert "12 utterances" in capsys.readouterr().err
    assert not (tmp_path / "out" / "results.json").exists()
    assert run(["run", str(path)]) == 0
    results, arrays = load_results(tmp_path / "out")
    pairs = {(r["query"], r["candidate"]) for r in results["retrieval"]}
    assert len(pairs) == 6  # ordered pairs of three languages
    assert all(r["n"] == 4 for r in results["retrieval"])
    assert arrays["similarity"].shape == (4, 4)
    theirs = {(r["source"], r["target"], r["method"]): r["published"] for r in results["published"]}
    assert theirs.pop(("en", "fr", "seqsim")) == 0.875
    if kind == "fleurs":  # the one figure of the paper that is known here
        assert theirs.pop(("mul", "mul", "chance")) == 0.002
        assert results["published"][-1]["ours"] == 0.25
    assert set(theirs.values()) == {UNKNOWN}
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Published figures" in page
    assert "87.5" in page
    assert ("mean of all pairs" in page) == (kind == "fleurs")
    assert "each is a positive of each" in json.dumps(results["settings"])
    capsys.readouterr()
    assert run(["run", str(path)]) == 0  # frames and manifest are there
    assert "to encode: 0 utterances" in capsys.readouterr().err


def test_a_corpus_that_is_not_there_says_what_to_fetch(tmp_path):
    source = CorpusSource(name="fleurs", root=tmp_path / "nowhere")
    with pytest.raises(CorpusError, match="fleurs"):
        source.utterances(tmp_path / "out")
    assert not list(tmp_path.rglob("*.jsonl"))


def test_a_manifest_is_a_corpus_too(wav_manifest, tmp_path):
    source = CorpusSource(name="manifest", root=wav_manifest, languages=("en", "fr"))
    assert len(source.utterances(tmp_path / "out")) == 6
    assert source.summary(tmp_path / "out") == {}


def test_a_corpus_is_read_anew_every_time(tmp_path):
    table = tmp_path / "table.csv"
    for n in (1, 2):
        write_wav(tmp_path / f"{n}.wav", sweep(0.5, 300 * n))
    table.write_text("audio,language,text\n1.wav,fr,un\n")
    source = CorpusSource(name="plain", root=table)
    assert [u.text for u in source.utterances(tmp_path / "out")] == ["un"]
    table.write_text("audio,language,text\n1.wav,fr,une\n2.wav,fr,deux\n")
    assert [u.text for u in source.utterances(tmp_path / "out")] == ["une", "deux"]


def test_a_language_without_utterances_is_missed(tmp_path):
    path = tmp_path / "mine.jsonl"
    write_manifest(path, [utterance("fr", "a", split="test"), utterance("de", "a", split="train")])
    source = CorpusSource(name="manifest", root=path, languages=("fr", "de"), split="test")
    with pytest.raises(CorpusError, match=r"no utterance of de in split 'test'"):
        source.utterances(tmp_path)


def test_a_manifest_without_splits_is_read_whole(tmp_path):
    path, told = tmp_path / "mine.jsonl", []
    write_manifest(path, [utterance("fr", "a"), utterance("fr", "b")])
    assert len(CorpusSource(name="manifest", root=path, split="test").utterances(tmp_path, told.append)) == 2
    assert "no splits" in told[0]


def test_settings_that_have_their_default_are_told_too(tmp_path):
    corpus = "{name: manifest, root: m.jsonl}"
    path = recipe(tmp_path, f"recipe: transfer\nout: out\ntrain: {corpus}\ntests: {{mine: {corpus}}}\n")
    study = read_recipe(path)
    told = plain(study)
    assert (told["model"], told["source"], told["context"], told["comet_model"]) == ("base", "en", "speech+8", None)
    assert told["train"]["positives"] == told["tests"]["mine"]["positives"] == "all"
    made = CorpusSource(name="manifest", root=Path("m.jsonl"))
    assert study == type(study)(out=Path("out"), train=made, tests={"mine": made})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("corpus: {name: nothing}", "unknown corpus"),
        ("corpus: {name: manifest}", "root is missing"),
        ("corpus: {name: prompts, options: {colour: red}}", "no option 'colour'"),
        ("corpus: {name: prompts}\nmethods: [cascade]", "cascade"),
        ("corpus: {name: prompts}\nmethods: []", "one or more"),
        ("corpus: {name: prompts, shoe: 1}", "shoe"),
        ("corpus: {name: prompts}\npool: 0", "pool"),
    ],
)
def test_wrong_settings_are_told_with_the_recipe(tmp_path, text, message):
    path = recipe(tmp_path, f"recipe: retrieval\nout: {tmp_path / 'out'}\n{text}\n")
    with pytest.raises(UsageError, match=message) as error:
        read_recipe(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


PAIR = {"query": "en", "candidate": "fr", "method": "seqsim"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 2]", r"published figures stand under retrieval, transfer, unseen and nothing else"),
        ("{}", "published figures stand under"),
        ("{", "no readable JSON file of published figures"),
        ({"retreival": []}, "published figures stand under"),
        ({"retrieval": [], "unsen": []}, "published figures stand under"),
        ({"retrieval": {"en": 1}}, r"Expected `array`, got `object` - at `\$.retrieval`"),
        ({"retrieval": [3]}, r"Expected `object`, got `int` - at `\$.retrieval\[0\]`"),
        (
            {"retrieval": [{**PAIR, "r1": 0.5}, {"query": "en", "r1": 0.5}]},
            r"missing required field `candidate` - at `\$.retrieval\[1\]`",
        ),
        ({"retrieval": [{**PAIR, "query": 1, "r1": 0.5}]}, r"Expected `str`, got `int` - at `\$.retrieval\[0\].query`"),
        ({"retrieval": [PAIR]}, r"missing required field `r1` - at `\$.retrieval\[0\]`"),
        ({"retrieval": [{**PAIR, "r1": 0.5, "r5": 0.6}]}, r"unknown field `r5` - at `\$.retrieval\[0\]`"),
        ({"retrieval": [{**PAIR, "r1": "0.5"}]}, r"Expected `float`, got `str` - at `\$.retrieval\[0\].r1`"),
        ({"retrieval": [{**PAIR, "r1": True}]}, r"Expected `float`, got `bool` - at `\$.retrieval\[0\].r1`"),
        ({"retrieval": [{**PAIR, "r1": float("nan")}]}, "no readable JSON file of published figures"),
        ({"retrieval": [{**PAIR, "r1": 50.0}]}, r"Expected `float` <= 1.0 - at `\$.retrieval\[0\].r1`"),
        ({"retrieval": [{**PAIR, "r1": 0.5}] * 2}, r"\$.retrieval\[1\]: a second figure of en, fr, seqsim, r1"),
        ({"retrieval": [{**PAIR, "method": "sequsim", "r1": 0.5}]}, "no method 'sequsim'; use one of"),
        ({"retrieval": [{**PAIR, "query": "elvish", "r1": 0.5}]}, "elvish"),
    ],
)
def test_published_figures_that_can_not_be_read(tmp_path, content, message):
    path = tmp_path / "published.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UsageError, match=message) as error:
        retrieval.published(path, [])
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_of_published_figures_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere.json: no readable JSON file"):
        retrieval.published(tmp_path / "nowhere.json", [])


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        ({"bleu": 101}, r"Expected `float` <= 100.0 - at `\$.unseen\[0\].bleu`"),
        ({"wer": -1}, r"Expected `float` >= 0.0 - at `\$.unseen\[0\].wer`"),
        ({}, "no bleu or"),
    ],
)
def test_figures_of_unseen_languages_lie_where_they_can(tmp_path, figure, message):
    path = tmp_path / "published.json"
    path.write_text(json.dumps({"unseen": [{"language": "kea", **figure}]}))
    with pytest.raises(UsageError, match=message):
        read_published(path, "unseen")
    path.write_text(json.dumps({"unseen": [{"language": "kea", "wer": 130}], "retrieval": [{**PAIR, "r1": 0.5}]}))
    assert unseen.published(path, []) == []


def test_published_figures_are_found_by_any_code_of_a_language(tmp_path):
    path = tmp_path / "published.json"
    path.write_text(
        json.dumps({"retrieval": [{"query": "en_us", "candidate": "cmn_hans_cn", "method": "seqsim", "r1": 1}]})
    )
    rows = [Retrieval(query="en", candidate="zh", method=m, r1=0.5) for m in ("seqsim", "mean-pool")]
    assert [r.published for r in retrieval.published(path, rows)] == [1.0, UNKNOWN]


def test_published_figures_are_read_before_the_work(spoken, tiny_whisper_folder, tmp_path, capsys):
    (tmp_path / "published.json").write_text("[]")
    path = recipe(
        tmp_path,
        f"recipe: retrieval\nout: {tmp_path / 'out'}\ncorpus: {{name: fleurs, root: {tmp_path / 'none'}}}\n"
        f"model: {tiny_whisper_folder}\npublished: {tmp_path / 'published.json'}\n",
    )
    assert run(["run", str(path), "--dry-run"]) == 2
    assert "published figures stand under" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("recipe: [retrieval]", "say which experiment it is"),
        ("recipe: {a: b}", "say which experiment it is"),
        ("recipe: retrieval\nx: " + "[" * 5000 + "]" * 5000, "no readable YAML"),
        ("&a\nrecipe: retrieval\ncorpus: *a", "nested too deeply"),
        ("recipe: retrieval\ncorpus: &a [*a]", "nested too deeply"),
        (
            "".join(
                f"{n}: &{n} [{', '.join([f'*{m}'] * 20)}]\n" for m, n in zip("xabcdef", "abcdefg", strict=True)
            ).replace("*x", "1")
            + "recipe: retrieval",
            "nested too deeply, or too large",
        ),
        ("recipe: retrieval\nout: 2024-13-45", "missing required field `corpus`"),
        (
            "recipe: retrieval\nout: r\ncorpus: {name: 2024-01-01}\nmodel: 2024-01-01\npool: 2024-01-01",
            "unknown corpus '2024-01-01'",
        ),
        ("recipe: retrieval\npool: " + "1" * 10_000, "no readable YAML"),
        ('recipe: retrieval\nout: "\\ud800"', "no readable YAML"),
        ("recipe: retrieval\nmodel: !!binary aGVsbG8=", "neither text nor a number"),
        ("recipe: retrieval", "missing required field"),
    ],
)
def test_what_yaml_allows_and_no_recipe_has(tmp_path, text, reason):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=reason) as caught:
        read_recipe(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
