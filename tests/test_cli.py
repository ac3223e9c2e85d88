"""The command line from outside: exit codes, one line per error, results alone on stdout."""

import datetime
import importlib
import itertools
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from interlingua import __version__
from interlingua.cli import run
from interlingua.cli.output import emit, note, say
from interlingua.corpora import prompts
from interlingua.encoding.pipeline import in_shard
from interlingua.encoding.store import FrameStore
from interlingua.errors import InterlinguaError, ResultsError
from interlingua.experiments.recipes import read_recipe
from interlingua.models import offline
from interlingua.progress import track
from interlingua.results import SCHEMA, Results, Retrieval, as_json, finite, load_results, provenance, save_results


@pytest.fixture
def call(capsys):
    """Run a command; return (exit code, stdout, stderr)."""

    def call(*arguments) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def encode(call, wav_manifest, tiny_whisper_folder, tmp_path):
    """`interlingua encode` of the nine short recordings with the tiny model."""

    def encode(*options, store="frames.lance"):
        options = ("--model", tiny_whisper_folder, "--compute", "float32", *options)
        return call("encode", wav_manifest, tmp_path / store, *options)

    return encode


def one_line(err: str) -> str:
    (line,) = err.splitlines()
    assert line.startswith("interlingua: ")
    assert "Traceback" not in line
    return line


# ---------------------------------------------------------------- help and wrong usage


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("demo",),
        ("doctor",),
        ("corpus", "prepare"),
        ("corpus", "check"),
        ("corpus", "stats"),
        ("corpus", "list"),
        ("encode",),
        ("index", "build"),
        ("index", "add"),
        ("search",),
        ("finetune",),
        ("export",),
        ("run",),
        ("align",),
        ("evaluate", "retrieval"),
        ("report",),
    ],
)
def test_every_verb_has_help_on_stdout(call, command):
    code, out, err = call(*command, "--help")
    assert (code, err) == (0, "")
    assert " ".join(("interlingua", *command)) in out


def test_version(call):
    assert call("--version") == (0, f"{__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("encode", "m", "s", "--bogus"), "--bogus"),
        (("encode", "m", "s", "--pool", "two"), "--pool"),
        (("encode", "m", "s", "--dtype", "float8"), "float16"),
        (("encode", "m"), "--store"),
        (("evaluate", "retrieval", "m", "s", "--method", "cosine"), "seqsim"),
        (("corpus", "prepare", "flores", "--out", "x"), "prompts"),
        (("corpus", "prepare", "fleurs", "--out", "x"), "--root is missing. fleurs: fetch data/<lang>/"),
        (("corpus", "prepare", "fleurs", "--out", "x", "--option", "case=no"), "text, references"),
        (("frobnicate",), "frobnicate"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(call, arguments, said):
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert said in one_line(err)


@pytest.mark.parametrize("verb", [("encode",), ("evaluate", "retrieval"), ("evaluate", "translation")])
def test_a_missing_manifest_is_one_line_and_exit_2(call, tmp_path, verb):
    code, out, err = call(*verb, tmp_path / "none.jsonl", tmp_path / "s")
    assert (code, out) == (2, "")
    assert "none.jsonl: no readable manifest file (No such file or directory); write one with" in one_line(err)
    assert not (tmp_path / "s").exists()


def test_a_missing_store_is_one_line_and_exit_2(call, wav_manifest, tmp_path):
    code, out, err = call("evaluate", "retrieval", wav_manifest, tmp_path / "none")
    assert (code, out) == (2, "")
    assert "make one with `interlingua encode`" in one_line(err)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--context", "speech+40"), "--context 'speech+40'"),
        (("--layer", "3"), "--layer 3"),
        (("--pool", "0"), "--pool 0"),
        (("--languages", "ja"), "no utterance in 'ja'"),
        (("--languages", "elvish"), "unknown language 'elvish'"),
    ],
)
def test_a_wrong_value_is_one_line_and_exit_2(encode, tmp_path, options, said):
    code, out, err = encode(*options)
    assert (code, out) == (2, "")
    assert said in one_line(err)
    assert not (tmp_path / "frames.lance").exists()


def test_an_unknown_model_is_one_line_and_exit_2(call, wav_manifest, tmp_path):
    for model in ("bass", "./nowhere"):
        code, _, err = call("encode", wav_manifest, tmp_path / "s", "--model", model)
        assert code == 2
        assert model.removeprefix("./") in one_line(err)


def test_interruption_is_130(call, wav_manifest, tmp_path, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("interlingua.corpora.read_manifest", interrupt)
    code, out, err = call("encode", wav_manifest, tmp_path / "s")
    assert (code, out) == (130, "")
    assert "interrupted" in one_line(err)


def test_any_error_of_ours_is_one_line_and_exit_2(call, monkeypatch):
    def fail():
        raise InterlinguaError("what is wrong; how to mend it")

    monkeypatch.setattr("interlingua.doctor.examine", fail)
    assert call("doctor") == (2, "", "interlingua: what is wrong; how to mend it\n")


def test_a_bug_is_not_hidden(monkeypatch):
    def fail():
        raise ZeroDivisionError

    monkeypatch.setattr("interlingua.doctor.examine", fail)
    with pytest.raises(ZeroDivisionError):
        run(["doctor"])


# ---------------------------------------------------------------- encode


def test_encode_then_encode_again(encode, tmp_path):
    code, out, err = encode("--json")
    first = json.loads(out)
    assert code == 0, err
    assert (first["encoded"], first["present"], first["failed"], first["total"]) == (9, 0, {}, 9)
    assert (first["device"], first["compute"]) == ("cpu", "float32") or first["device"] == "cuda"
    store = FrameStore.open(tmp_path / "frames.lance")
    code, out, _ = encode("--json")
    second = json.loads(out)
    assert code == 0
    assert (second["encoded"], second["present"], second["total"]) == (0, 9, 9)
    assert FrameStore.open(store.path).version == store.version


def test_encode_says_what_it_did(encode):
    code, out, _ = encode()
    assert code == 0
    assert "9 encoded now, 0 held already, 0 failed; 9 utterances in all" in out


def test_encode_chosen_languages_layer_and_kind(encode, tmp_path):
    options = ("--languages", "fr", "--languages", "English", "--layer", "1", "--pool", "2", "--dtype", "float32")
    assert encode(*options)[0] == 0
    store = FrameStore.open(tmp_path / "frames.lance")
    assert {i.split("/")[0] for i in store.ids()} == {"en", "fr"}
    assert (store.spec.layer, store.spec.pooling, store.spec.dtype) == (1, 2, "float32")


def test_encode_refuses_to_mix_kinds(encode):
    assert encode()[0] == 0
    code, out, err = encode("--pool", "2")
    assert (code, out) == (2, "")
    assert "pooling 1, not 2" in one_line(err)


def test_a_broken_recording_is_named_and_the_others_are_encoded(encode, call, tmp_path, wav_manifest):
    (tmp_path / "audio" / "fr" / "two.wav").write_text("this is no sound")
    (tmp_path / "audio" / "de" / "one.wav").unlink()
    code, out, err = encode("--json")
    assert code == 1
    summary = json.loads(out)
    assert (summary["encoded"], set(summary["failed"])) == (7, {"fr/two", "de/one"})
    for name in ("fr/two", "de/one"):
        assert any(line.startswith(f"interlingua: {name}: ") for line in err.splitlines())
    assert "Traceback" not in err
    code, out, err = call("evaluate", "retrieval", wav_manifest, tmp_path / "frames.lance", "--json")
    assert code == 1
    assert "interlingua: fr/two is not in" in err
    assert len(json.loads(out)["failures"]) == 2


# ---------------------------------------------------------------- search


@pytest.fixture
def index(call, wav_manifest, tiny_whisper_folder, tmp_path):
    """`interlingua index build` of the nine short recordings with the tiny model."""
    options = ("--out", tmp_path / "speech.lance", "--model", tiny_whisper_folder)
    code, out, err = call("index", "build", wav_manifest, *options)
    assert (code, out) == (
        0,
        f"{tmp_path}/speech.lance: 9 encoded now, 0 held already, 0 failed; 9 utterances in all\n",
    ), err
    return tmp_path / "speech.lance"


def test_search_ranks_the_utterances_of_an_index_for_every_query(index, call, tmp_path):
    queries = [tmp_path / "audio" / "en" / f"{name}.wav" for name in ("one", "two")]
    code, out, err = call("search", index, *queries, "-k", "2", "--language", "en", "--tsv")
    assert code == 0, err
    head, *rows = [line.split("\t") for line in out.splitlines()]
    assert head == ["query", "rank", "score", "id", "language", "start", "end", "path", "text"]
    assert [r[:2] for r in rows] == [[str(q), k] for q in queries for k in "12"]
    assert [r[3] for r in rows[::2]] == ["en/one", "en/two"]
    code, out, _ = call("search", index, queries[0], "--where", "language = 'fr'", "--language", "en", "--json")
    found = json.loads(out)
    assert (code, found["failed"], [r["rank"] for r in found["results"]]) == (0, {}, [1, 2, 3])
    assert {r["utterance"]["language"] for r in found["results"]} == {"fr"}


def test_an_index_is_added_to_shown_and_thinned(index, call, wav_manifest, tmp_path):
    audio = tmp_path / "audio"
    code, out, err = call("index", "add", index, audio / "de", "--language", "de")
    assert (code, "3 encoded now" in out, "12 utterances in all" in out) == (0, True, True), err
    assert call("index", "remove", index, "--where", "path like '%/de/%'")[1].endswith(
        "6 removed; 6 utterances remain\n"
    )
    code, out, err = call("index", "remove", index, "en/one", "nobody")
    assert (code, one_line(err)) == (1, "interlingua: 1 of 2 are not in the index")
    _, out, _ = call("index", "info", index)
    assert "5 utterances, " in out
    assert "en 2, fr 3" in out
    code, out, err = call("index", "build", wav_manifest, "--out", index)
    assert "4 encoded now, 5 held already, 0 failed; 9 utterances in all" in out, err


def test_an_index_takes_the_frames_of_a_store(encode, index, call, wav_manifest, tiny_whisper_folder, tmp_path):
    encode("--pool", "2")
    options = ("--out", tmp_path / "taken.lance", "--model", tiny_whisper_folder)
    for _ in range(2):
        code, out, err = call("index", "build", tmp_path / "frames.lance", *options)
        assert (code, "0 encoded now, 9 held already, 0 failed; 9 utterances in all" in out) == (0, True), err
    query = (tmp_path / "audio" / "en" / "one.wav", "--language", "en", "-k", "1", "--tsv")
    found, expected = (call("search", i, *query)[1].splitlines()[1] for i in (tmp_path / "taken.lance", index))
    assert found.split("\t")[3:] == expected.split("\t")[3:]
    encode("--pool", "3", store="three.lance")
    code, out, err = call("index", "build", tmp_path / "three.lance", *options)
    assert (code, "frames pooled by 3; an index takes 1, 2 or 4" in one_line(err)) == (2, True)


def test_what_can_t_be_read_any_more_stays_and_paths_don_t_depend_on_the_folder(
    call, tiny_whisper_folder, wav_manifest, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path / "audio")
    options = ("--out", tmp_path / "speech.lance", "--language", "en", "--model", tiny_whisper_folder)
    call("index", "build", "en", "fr", *options)
    (tmp_path / "audio" / "fr" / "two.wav").write_bytes(b"RIFF")
    monkeypatch.chdir(tmp_path)
    code, out, err = call("index", "build", "audio/en", "audio/fr", *options)
    assert (code, "0 encoded now, 5 held already, 1 failed; 6 utterances in all" in out) == (1, True), err
    code, out, _ = call("search", tmp_path / "speech.lance", "audio/en/one.wav", "--language", "en", "-k", "1", "--tsv")
    assert out.splitlines()[1].split("\t")[3] == str(tmp_path / "audio" / "en" / "one.wav")


def test_an_index_is_built_in_shards(index, call, wav_manifest, tiny_whisper_folder, tmp_path):
    options = ("--out", tmp_path / "parts.lance", "--model", tiny_whisper_folder)
    for part in ("0/2", "1/2"):
        code, _, err = call("index", "build", wav_manifest, *options, "--shard", part)
        assert code == 0, err
    code, out, err = call("index", "build", wav_manifest, *options)
    assert "0 encoded now, 9 held already, 0 failed; 9 utterances in all" in out, err
    query = (tmp_path / "audio" / "en" / "one.wav", "--language", "en", "--tsv")
    assert call("search", tmp_path / "parts.lance", *query)[1] == call("search", index, *query)[1]


def test_a_shard_of_a_folder_reads_its_own_recordings_alone(
    call, wav_manifest, tiny_whisper_folder, tmp_path, monkeypatch
):
    read: list[str] = []
    index_build = importlib.import_module("interlingua.index.build")
    load = index_build.load_audio
    monkeypatch.setattr(index_build, "load_audio", lambda path: read.append(str(path)) or load(path))
    command = ["index", "build", tmp_path / "audio", "--language", "en", "--model", tiny_whisper_folder]
    shards, whole = ("--out", tmp_path / "shards.lance"), ("--out", tmp_path / "whole.lance")
    for part in (2, 0):
        code, out, err = call(*command, *shards, "--shard", f"{part}/3")
        assert code == 0, err
    assert out.splitlines()[-1] == "shard 0/3 has completed; not yet: 1/3"
    code, _, err = call(*command, *shards, "--shard", "0/2")
    assert code == 2
    assert "in 3 shards, of which 1 haven't completed; use --shard i/3" in err.splitlines()[-1]
    code, out, err = call(*command, *shards, "--shard", "1/3", "--json")
    assert json.loads(out)["missing_shards"] == []
    every = [str(path) for path in (tmp_path / "audio").rglob("*.wav")]
    own = [[path for path in every if in_shard(path, part, n)] for part, n in ((2, 3), (0, 3), (0, 2), (1, 3))]
    assert [sorted(read[i:j]) for i, j in itertools.pairwise(np.cumsum([0, *map(len, own)]))] == [*map(sorted, own)]
    assert sorted(own[0] + own[1] + own[3]) == sorted(every)
    code, out, err = call(*command, *shards)
    assert "0 encoded now, 9 held already, 0 failed; 9 utterances in all" in out, err
    call(*command, *whole)
    query = (tmp_path / "audio" / "en" / "one.wav", "--language", "en", "--tsv")
    assert call("search", shards[1], *query)[1] == call("search", whole[1], *query)[1]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("search", "{index}", "{audio}", "-k", "0"), "-k 0: use 1 or more"),
        (("search", "{index}", "{audio}", "--where", "nonsense = 1"), "--where 'nonsense = 1': "),
        (("search", "{index}", "{audio}", "--align", "a.jpg"), "--align a.jpg: the picture is a PNG"),
        (("search", "{tmp}/nothing", "{audio}"), "no index here; make one with `interlingua index build`"),
        (("search", "{index}", "{tmp}/nothing*"), "no file has such a name"),
        (
            ("index", "build", "{tmp}/nothing", "--out", "{index}"),
            "nothing: no such file or folder; nothing is indexed",
        ),
        (("index", "build", "{manifest}", "--out", "{index}", "--encoder", "other"), "was made with whisper"),
        (("index", "build", "{manifest}", "--out", "{index}", "--model", "tiny"), "build another index"),
        (("index", "build", "{manifest}", "--out", "{tmp}/new", "--address", "a:1"), "add --engine ray"),
        (("index", "remove", "{index}"), "name ids, or a condition with --where"),
        (("index", "build", "{tmp}/empty", "--out", "{tmp}/new"), "no recording in it"),
        (("index", "build", "{manifest}", "{manifest}", "--out", "{tmp}/new"), "two utterances are called 'en/one'"),
        (("index", "build", "{manifest}", "--out", "{index}", "--dtype", "int8"), "holds frames with dtype 'float16'"),
        (("index", "add", "{tmp}/nothing", "{audio}"), "no index here"),
        (("index", "info", "{manifest}"), "no index here"),
    ],
)
def test_a_wrong_index_or_search_is_one_line_and_exit_2(index, call, wav_manifest, tmp_path, command, said):
    (tmp_path / "empty").mkdir()
    places = {"index": index, "audio": tmp_path / "audio/en/one.wav", "tmp": tmp_path, "manifest": wav_manifest}
    code, out, err = call(
        *(str(part).format(**places) for part in command), *(("--language", "en") if "{audio}" in command else ())
    )
    assert (code, out) == (2, "")
    assert said in one_line(err)
    assert not (tmp_path / "new").exists()


def test_a_search_names_what_it_can_t_read_and_goes_on(index, call, tmp_path):
    (tmp_path / "text.wav").write_text("no audio")
    code, out, err = call(
        "search", index, tmp_path / "text.wav", tmp_path / "audio/en/one.wav", "--language", "en", "-k", "1"
    )
    assert code == 1
    assert one_line(err).startswith(f"interlingua: {tmp_path}/text.wav: ")
    assert "en/one" in out


# ---------------------------------------------------------------- evaluate


def test_the_cascade_needs_a_file_for_its_texts(encode, call, wav_manifest, tmp_path):
    encode()
    code, out, err = call("evaluate", "retrieval", wav_manifest, tmp_path / "frames.lance", "--method", "cascade")
    assert (code, out) == (2, "")
    assert "--texts" in one_line(err)


def test_a_method_that_estimates_needs_enough_clusters(encode, call, wav_manifest, tmp_path):
    encode()
    code, out, err = call("evaluate", "retrieval", wav_manifest, tmp_path / "frames.lance", "--method", "whitened")
    assert (code, out) == (2, "")
    assert "use --method seqsim" in one_line(err)


def test_evaluate_retrieval_prints_json_alone(encode, call, wav_manifest, tmp_path):
    encode()
    code, out, err = call("evaluate", "retrieval", wav_manifest, tmp_path / "frames.lance", "--json")
    assert code == 0, err
    results = json.loads(out)
    pairs = {(r["query"], r["candidate"]) for r in results["retrieval"]}
    assert len(pairs) == 6
    assert {r["method"] for r in results["retrieval"]} == {"seqsim"}
    assert "skipped whitened-position-csls, which takes 10 clusters" in err
    assert all(0 <= r["r1"] <= 1 and r["n"] == 3 and r["chance"] == pytest.approx(1 / 3) for r in results["retrieval"])
    assert results["settings"]["layer"] == 2
    assert results["settings"]["methods"] == ["seqsim"]
    assert results["provenance"]["version"] == __version__
    assert "scoring" in err
    assert not list(tmp_path.glob("**/results.json"))


def test_evaluate_retrieval_prints_a_line_a_pair(encode, call, wav_manifest, tmp_path):
    encode()
    options = ("--method", "duration", "--languages", "en", "--languages", "de")
    code, out, err = call("evaluate", "retrieval", wav_manifest, tmp_path / "frames.lance", *options)
    assert code == 0
    head, *lines = out.splitlines()
    assert head.split()[:3] == ["pair", "method", "n"]
    assert [line.split()[:3] for line in lines] == [["en-de", "duration", "3"], ["de-en", "duration", "3"]]
    assert "near chance" in err  # tones of a random model


def test_evaluate_writes_a_result_folder_and_report_rebuilds_it(encode, call, wav_manifest, tmp_path):
    encode()
    out_folder = tmp_path / "results"
    arguments = (wav_manifest, tmp_path / "frames.lance", "--out", out_folder)
    code, out, err = call("evaluate", "retrieval", *arguments, "--json")
    assert code == 0, err
    results, arrays = load_results(out_folder)
    assert json.loads(json.dumps(as_json(results))) == json.loads(out)
    assert arrays["similarity"].shape == (3, 3)
    page = (out_folder / "report.html").read_text(encoding="utf-8")
    assert "<html" in page
    (out_folder / "report.html").unlink()
    code, out, _ = call("report", out_folder)
    assert (code, out) == (0, f"report: {out_folder / 'report.html'}\n")
    assert (out_folder / "report.html").read_text(encoding="utf-8") == page


TOYS = """
import numpy as np
from interlingua.retrieval.methods import Method

def last_frames(queries, candidates):
    return np.stack([q[-1] for q in queries]) @ np.stack([c[-1] for c in candidates]).T

LAST = Method("Last frame", "nothing but the end", score=last_frames)
"""


@pytest.mark.parametrize("name", ["toy_methods:LAST", "last-frame"])
def test_a_method_from_outside(name, encode, call, wav_manifest, tmp_path, monkeypatch):
    """By import path, and as an installed package's entry point; the report calls it by its label."""
    (tmp_path / "toy_methods.py").write_text(TOYS)
    (tmp_path / "toys-1.dist-info").mkdir()
    (tmp_path / "toys-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1\n")
    (tmp_path / "toys-1.dist-info" / "entry_points.txt").write_text(
        "[interlingua.methods]\nlast-frame = toy_methods:LAST\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    encode()
    arguments = (wav_manifest, tmp_path / "frames.lance", "--method", name, "--out", tmp_path / "out")
    code, out, err = call("evaluate", "retrieval", *arguments)
    assert code == 0, err
    assert [line.split()[1] for line in out.splitlines()[1:]] == [name] * 6
    found, arrays = load_results(tmp_path / "out")
    speech = {f.id: f.speech[-1].astype(np.float32) for f in FrameStore.open(tmp_path / "frames.lance")}
    english, other = (
        np.stack([v for i, v in speech.items() if i.startswith(lang)])
        for lang in (found.similarity.query, found.similarity.candidate)
    )
    np.testing.assert_allclose(arrays["similarity"], english @ other.T, rtol=1e-3)
    assert "Last frame" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    settings = f"corpus: {{name: manifest, root: {wav_manifest}}}\nout: {tmp_path / 'x'}\n"
    (tmp_path / "recipe.yaml").write_text(f"recipe: retrieval\n{settings}methods: ['{name}']\n")
    assert read_recipe(tmp_path / "recipe.yaml").methods == (name,)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("cosine", "unknown method 'cosine'; use one of whitened-csls, seqsim, "),
        ("nowhere:METHOD", "method 'nowhere:METHOD': nowhere:METHOD can't be imported"),
        ("json:dumps", "method 'json:dumps' is no interlingua.retrieval.methods.Method"),
    ],
)
def test_an_unknown_method_is_one_line(name, told, call, wav_manifest, tmp_path):
    code, out, err = call("evaluate", "retrieval", wav_manifest, tmp_path / "none.lance", "--method", name)
    assert (code, out) == (2, "")
    assert told in one_line(err)


def test_a_query_that_nobody_recorded_in_the_other_language_is_skipped(encode, call, wav_manifest, tmp_path):
    """French lacks a sentence; German has sentences of its own alone, so that its pairs have no row."""
    encode()
    rows = [json.loads(line) for line in wav_manifest.read_text().splitlines()]
    gone = rows[0]["meaning"]
    rows = [r | {"meaning": "own " + r["meaning"]} if r["language"] == "de" else r for r in rows]
    kept = [r for r in rows if r["language"] != "fr" or r["meaning"] != gone]
    wav_manifest.write_text("".join(json.dumps(r) + "\n" for r in kept))
    arguments = (wav_manifest, tmp_path / "frames.lance", "--method", "seqsim", "--out", tmp_path / "out")
    code, out, err = call("evaluate", "retrieval", *arguments)
    assert code == 0, err
    results, _ = load_results(tmp_path / "out")
    assert {r.pair: (r.n, r.n_unanswerable) for r in results.retrieval} == {("en", "fr"): (2, 1), ("fr", "en"): (2, 0)}
    assert [line.split()[:3] for line in out.splitlines()[1:]] == [["en-fr", "seqsim", "2"], ["fr-en", "seqsim", "2"]]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "en-fr: 1 of 3 queries are skipped, whose sentence nobody recorded in fr" in err
    assert "1 more are skipped, whose sentence nobody recorded in the other language" in page
    for line in ("English and German: no sentence is recorded in both", "French and German: no sentence"):
        assert line in err
        assert line in page


def test_evaluate_into_a_path_that_is_a_file(encode, call, wav_manifest, tmp_path):
    encode()
    (tmp_path / "taken").write_text("my thesis")
    arguments = (wav_manifest, tmp_path / "frames.lance", "--method", "duration", "--out", tmp_path / "taken")
    code, out, err = call("evaluate", "retrieval", *arguments)
    assert (code, out) == (2, "")
    assert "taken" in one_line(err)


def test_evaluate_retrieval_needs_meanings_and_two_languages(encode, call, wav_manifest, tmp_path):
    encode()
    code, out, err = call("evaluate", "retrieval", wav_manifest, tmp_path / "frames.lance", "--languages", "en")
    assert (code, out) == (2, "")
    assert "two languages" in one_line(err)
    bare = wav_manifest.with_name("bare.jsonl")
    bare.write_text(wav_manifest.read_text().replace('"meaning"', '"split"'))
    code, out, err = call("evaluate", "retrieval", bare, tmp_path / "frames.lance")
    assert (code, out) == (2, "")
    assert "no `meaning`" in one_line(err)


def test_evaluate_translation_end_to_end(encode, call, wav_manifest, tmp_path, tiny_whisper_folder):
    assert encode("--context", "full", "--languages", "fr")[0] == 0
    arguments = (wav_manifest, tmp_path / "frames.lance", "--model", tiny_whisper_folder, "--languages", "fr")
    code, out, err = call("evaluate", "translation", *arguments, "--json", "--out", tmp_path / "out")
    assert code == 0, err
    (row,) = json.loads(out)["translation"]
    assert (row["source"], row["target"], row["n"], row["bleu"]["n"]) == ("fr", "en", 3, 3)
    assert "tok:13a" in row["bleu"]["signature"]
    assert len(json.loads(out)["samples"]) == 3
    assert (tmp_path / "out" / "report.html").is_file()
    code, out, _ = call("evaluate", "translation", *arguments)
    assert code == 0
    assert [line.split()[:3] for line in out.splitlines()] == [["fr-en", "n=3", m] for m in ("bleu", "chrf")]


def test_translation_from_frames_that_a_decoder_cant_read(encode, call, wav_manifest, tmp_path, tiny_whisper_folder):
    for options, said in ((("--pool", "2"), "pooled by 2"), (("--layer", "1"), "layer 1")):
        store = f"{options[1]}{options[0]}.lance"
        assert encode(*options, store=store)[0] == 0
        arguments = (wav_manifest, tmp_path / store, "--model", tiny_whisper_folder)
        code, out, err = call("evaluate", "translation", *arguments)
        assert (code, out) == (2, "")
        assert said in one_line(err)


def test_translation_of_english_only_is_an_error_not_an_empty_success(
    encode, call, wav_manifest, tmp_path, tiny_whisper_folder
):
    assert encode("--languages", "en")[0] == 0
    arguments = (wav_manifest, tmp_path / "frames.lance", "--model", tiny_whisper_folder, "--languages", "en")
    code, out, err = call("evaluate", "translation", *arguments)
    assert (code, out) == (2, "")
    assert "nothing to translate" in one_line(err)


# ---------------------------------------------------------------- doctor


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INTERLINGUA_CACHE", str(tmp_path / "nothing" / "here"))
    return tmp_path / "nothing" / "here"


def test_doctor_offline_with_an_empty_cache_names_every_fix(call, empty_cache):
    code, out, err = call("doctor")
    assert (code, err) == (1, "")
    missing = [line for line in out.splitlines() if line.startswith("MISSING")]
    assert len(missing) >= 2
    assert all("fix: interlingua " in line for line in missing)
    assert not empty_cache.exists()


def test_doctor_as_json(call, empty_cache):
    code, out, _ = call("doctor", "--json")
    findings = {f["name"]: f for f in json.loads(out)["findings"]}
    assert code == 1
    assert findings["python"]["ok"] is True
    assert findings["gpu"]["ok"] in (True, None)
    for name in ("whisper-base", "prompts corpus"):
        assert findings[name]["ok"] is False
        assert findings[name]["fix"]


def test_doctor_sees_altered_files_and_its_fix_fetches_them(call, empty_cache, monkeypatch):
    """Weights of the right size and the wrong content; a corpus folder without files."""
    weights, corpus = empty_cache / "models" / "whisper-base", empty_cache / "corpora" / "prompts-1.6.1"
    weights.mkdir(parents=True)
    corpus.mkdir(parents=True)
    hashes = offline.PACKAGINGS[0].sha256
    for name in hashes:
        (weights / name).write_bytes(b"altered")
    (weights / "packaged.json").write_text(json.dumps({"sha256": hashes, "bytes": dict.fromkeys(hashes, 7)}))
    code, out, _ = call("doctor", "--json")
    findings = {f["name"]: f for f in json.loads(out)["findings"]}
    assert code == 1
    for name in ("whisper-base", "prompts corpus"):
        assert findings[name]["ok"] is False
        assert findings[name]["fix"] == "interlingua doctor --fetch"
    tried = []
    monkeypatch.setattr(offline, "_build", lambda packaging, target, report: tried.append("weights"))
    monkeypatch.setattr(prompts, "_fetch_debian", lambda root, work: tried.append("corpus"))
    monkeypatch.setattr(prompts, "_fetch_upstream", lambda root, work: tried.append("corpus"))
    monkeypatch.setattr("interlingua.doctor.resolve", lambda spec: SimpleNamespace(path=weights, origin="packaged"))
    code, _, err = call("doctor", "--fetch")
    assert code == 2  # what these stand-ins fetch is empty
    assert tried == ["weights", "corpus", "corpus"]
    assert "the prompts corpus can't be fetched" in err.splitlines()[-1]


@pytest.mark.model
def test_doctor_is_content_where_everything_is(call, base_whisper, prompts_manifest):
    code, out, _ = call("doctor")
    assert code == 0, out
    assert "MISSING" not in out


# ---------------------------------------------------------------- result folders


def test_results_round_trip(tmp_path):
    row = Retrieval(query="en", candidate="fr", method="seqsim", r1=0.5)
    results = Results(title="é", retrieval=[row], settings={"languages": ["en"]})
    arrays = {"similarity": np.arange(6, dtype=np.float32).reshape(2, 3)}
    path = save_results(tmp_path / "a" / "b", results, arrays)
    assert path == tmp_path / "a" / "b" / "results.json"
    loaded, stored = load_results(tmp_path / "a" / "b")
    assert loaded == results
    assert json.loads(path.read_text())["schema"] == SCHEMA
    np.testing.assert_array_equal(stored["similarity"], arrays["similarity"])


def test_nan_is_refused_and_nothing_half_written(tmp_path):
    save_results(tmp_path, Results(title="old"))
    with pytest.raises(ValueError, match="JSON"):
        save_results(tmp_path, Results(title="new", settings={"value": float("nan")}))
    assert load_results(tmp_path)[0].title == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]
    assert (finite(float("inf")), finite(1.5)) == (None, 1.5)


def test_arrays_of_an_older_result_dont_stay(tmp_path):
    save_results(tmp_path, Results(), {"similarity": np.zeros(2)})
    save_results(tmp_path, Results())
    assert load_results(tmp_path)[1] == {}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file"),
        ("{", "not a readable results file"),
        (b"\xff\xfe\x00", "not a readable results file"),
        ("[]", "not a results file of schema 2"),
        ('{"title": "x"}', "not a results file of schema 2"),
        ('{"schema": 1}', "not a results file of schema 2"),
        ('{"schema": 2, "retrieval": [{"query": 1}]}', "Expected `str`, got `int`"),
        ('{"schema": 2, "answers": []}', "unknown field `answers`"),
    ],
)
def test_an_unreadable_result_folder(tmp_path, call, content, said):
    if content is not None:
        (tmp_path / "results.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ResultsError, match=said):
        load_results(tmp_path)
    code, out, err = call("report", tmp_path)
    assert (code, out) == (2, "")
    assert said in one_line(err)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 half an archive"])
def test_an_unreadable_array_file(tmp_path, content):
    save_results(tmp_path, Results(title="x"))
    (tmp_path / "arrays.npz").write_bytes(content)
    with pytest.raises(ResultsError, match=r"arrays.npz: not a readable array file"):
        load_results(tmp_path)


def test_provenance_names_versions_commit_and_machine():
    started = datetime.datetime(2025, 1, 2, tzinfo=datetime.UTC)
    found = provenance("bfloat16", "cpu", 1.26, started)
    assert (found.started, found.seconds, found.version) == ("2025-01-02T00:00:00+00:00", 1.3, __version__)
    assert found.packages["torch"]
    assert found.device["name"]
    assert found.device["compute"] == "bfloat16"
    assert (found.commit is None) == (found.dirty is None)
    assert found.device["threads"] > 0


# ---------------------------------------------------------------- streams and imports


def test_progress_goes_to_stderr_only(capsys):
    with track(3, "counting") as advance:
        for _ in range(3):
            advance(1)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("counting: 3/3")
    with track(0, "nothing") as advance:
        advance(1)
    assert capsys.readouterr() == ("", "")


def test_help_loads_nothing_heavy():
    script = """
import sys
from interlingua.cli import run
assert run(sys.argv[1:]) == 0
heavy = {"torch", "transformers", "numpy", "lance", "pyarrow", "av", "sacrebleu", "matplotlib", "ctranslate2"}
print(sorted(heavy & set(sys.modules)), file=sys.stderr)
"""
    for arguments in (["--help"], ["encode", "--help"]):
        done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "[]\n")


@pytest.mark.parametrize("arguments", [["doctor"], ["--help"]])
def test_a_reader_that_goes_away_is_no_error(arguments):
    script = """
import sys
from interlingua import doctor
from interlingua.cli import main
doctor.examine = lambda: [doctor.Finding("python", True, "here")] * 1000
main(sys.argv[1:])
"""
    command = [sys.executable, "-c", script, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 0


def test_no_control_characters_reach_the_terminal(capsys):
    say("a\x1b]0;title\x07b", "\x9b31m\tc\nd")
    note("\x1b[2J\r")
    emit({"id": "\x1b[31m\x9b\x7f"})
    out, err = capsys.readouterr()
    assert out.startswith("a\\x1b]0;title\\x07b \\x9b31m\tc\nd\n")
    assert json.loads(out[out.index("{") :]) == {"id": "\x1b[31m\x9b\x7f"}
    assert err == "\\x1b[2J\\x0d\n"
    assert not {"\x1b", "\x9b", "\x7f", "\x07"} & set(out + err)
