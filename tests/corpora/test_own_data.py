"""A table or pairs of one's own stand wherever a manifest does: every verb reads them, and a missing file counts."""

import gzip
import json

import pytest

from helpers import load_results, sweep, write_wav
from interlingua.cli import run
from interlingua.corpora import read_any, read_manifest, write_manifest
from interlingua.encoding.store import FrameStore
from interlingua.errors import ManifestError, UsageError
from interlingua.experiments.corpus_source import CorpusSource
from interlingua.experiments.finetune import run_finetune
from interlingua.experiments.translating import find_recordings
from interlingua.finetuning.config import FinetuneConfig
from interlingua.types import AudioRef, Utterance

MEANINGS = 6


@pytest.fixture
def spoken(tmp_path):
    """WAV files of six meanings in English and French."""
    for n, language in enumerate(("en", "fr")):
        for m in range(MEANINGS):
            write_wav(tmp_path / language / f"{m}.wav", sweep(0.3 + 0.05 * m + 0.1 * n, 150 + 90 * m, seed=n))
    return tmp_path


@pytest.fixture
def pairs(spoken):
    """The same as a CSV of pairs, out of a spreadsheet: byte order mark, Windows' line ends, a comma in a text."""
    rows = [f'en/{m}.wav,fr/{m}.wav,"Number, {m}",Numéro {m}' for m in range(MEANINGS)]
    path = spoken / "pairs.csv"
    path.write_text("\r\n".join(["audio_en,audio_fr,text_en,text_fr", *rows, ""]), encoding="utf-8-sig", newline="")
    return path


@pytest.fixture
def table(spoken):
    """The same as a plain table, separated by tabs, with splits."""
    lines = ["path\tlang\tsentence\ttranslation_en\ttranslation_es\tmeaning\tsplit\tid"]
    for m in range(MEANINGS):
        split = ("test", "dev", "train")[min(m // 2, 2)]
        lines.append(f"en/{m}.wav\ten_us\tnumber {m}\t\tnumero {m}\tm{m}\t{split}\ten-{m}")
        lines.append(f"fr/{m}.wav\tfr\tnuméro {m}\tnumber {m}\tnumero {m}\tm{m}\t{split}\tfr-{m}")
    path = spoken / "table.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def call(capsys, tiny_whisper_folder):
    """Run a command, with the tiny model where one is asked for; return (exit code, stdout, stderr)."""

    def call(*arguments, model=True):
        capsys.readouterr()
        code = run([str(a) for a in (*arguments, *(("--model", tiny_whisper_folder) if model else ()))])
        return code, *capsys.readouterr()

    return call


def test_all_kinds_of_own_data_hold_the_same(pairs, table, tmp_path):
    expected = [(f"{code}/{m}.wav", code) for m in range(MEANINGS) for code in ("en", "fr")]
    for path in (pairs, table):
        assert [(u.audio.path.removeprefix(f"{tmp_path}/"), u.language) for u in read_manifest(path)] == expected
    first, second = read_manifest(pairs)[:2]
    assert (first.id, first.meaning, first.translations) == ("en/0.wav", second.meaning, {"fr": "Numéro 0"})
    assert [u.id for u in read_manifest(pairs, ["French"])] == [f"fr/{m}.wav" for m in range(MEANINGS)]
    with pytest.raises(UsageError, match=r"pairs.csv holds no utterance in 'de'; it has en, fr"):
        read_manifest(pairs, ["de"])


def test_our_manifest_is_known_without_its_ending_and_gzipped(pairs, tmp_path):
    write_manifest(tmp_path / "manifest", read_any(pairs))
    (tmp_path / "manifest.gz").write_bytes(gzip.compress((tmp_path / "manifest").read_bytes()))
    assert read_manifest(tmp_path / "manifest") == read_manifest(tmp_path / "manifest.gz") == read_manifest(pairs)


@pytest.mark.parametrize("kind", ["pairs", "table"])
def test_encode_search_and_retrieval(call, request, tmp_path, kind):
    path = request.getfixturevalue(kind)
    code, out, _ = call("index", "build", path, "--out", tmp_path / "speech.lance")
    assert (code, f"{2 * MEANINGS} encoded now, 0 held already, 0 failed" in out) == (0, True)
    ids = {u.id for u in read_manifest(path)}
    code, out, _ = call("search", tmp_path / "speech.lance", path, "-k", "1", "--tsv", model=False)
    rows = [line.split("\t") for line in out.splitlines()[1:]]
    assert (code, {row[0] for row in rows}, {row[3] for row in rows} <= ids) == (0, ids, True)
    both = tmp_path / "both.lance"
    call("encode", path, both, "--compute", "float32")
    assert f"0 encoded now, {2 * MEANINGS} held already" in call("encode", path, both, "--compute", "float32")[1]
    code, out, err = call("evaluate", "retrieval", path, both, "--json", model=False)
    assert code == 0, err
    rows = {(r["query"], r["candidate"]): r["n"] for r in json.loads(out)["retrieval"]}
    assert rows == {("en", "fr"): MEANINGS, ("fr", "en"): MEANINGS}


def test_a_recording_that_is_missing_fails_and_counts_as_a_miss(call, pairs, tmp_path):
    (tmp_path / "fr" / "3.wav").unlink()
    assert len(read_manifest(pairs)) == 2 * MEANINGS
    store = tmp_path / "s.lance"
    code, _, err = call("encode", pairs, store, "--compute", "float32")
    assert code == 1
    assert f"interlingua: fr/3.wav: {tmp_path}/fr/3.wav: no such file" in err
    assert "fr/3.wav" not in FrameStore.open(str(store))
    code, out, _ = call("evaluate", "retrieval", pairs, store, "--method", "seqsim", "--json", model=False)
    found = json.loads(out)
    assert code == 1
    assert {r["n"] for r in found["retrieval"]} == {MEANINGS}
    assert found["failures"] == ["fr/3.wav: not in the store"]
    code, out, _ = call("corpus", "check", pairs, model=False)
    assert (code, out) == (1, f"fr/3.wav: missing: {tmp_path}/fr/3.wav: no such file; check the path\n")


def test_a_cell_without_a_file_name_is_left_out_and_told(call, pairs, tmp_path):
    pairs.write_text(pairs.read_text(encoding="utf-8-sig").replace("fr/3.wav", ""), encoding="utf-8")
    code, _, err = call("encode", pairs, tmp_path / "s.lance", "--compute", "float32")
    assert code == 0
    assert f"pairs.csv: skipped 1 (no audio file): {pairs}:5 (empty)" in err


@pytest.mark.parametrize("name", ["nemo.json", "cuts.jsonl"])
def test_missing_recordings_of_nemo_and_lhotse_stay(spoken, name):
    cuts = [
        {
            "id": f"c{m}",
            "type": "MonoCut",
            "start": 0,
            "duration": 0.2,
            "channel": 0,
            "recording": {"id": f"r{m}", "sources": [{"type": "file", "channels": [0], "source": f"en/{m}.wav"}]},
            "supervisions": [{"id": f"s{m}", "recording_id": f"r{m}", "start": 0, "duration": 0.2, "language": "en"}],
        }
        for m in (0, 99)
    ]
    nemo = [{"audio_filepath": f"en/{m}.wav", "lang": "en"} for m in (0, 99)]
    path = spoken / name
    path.write_text("".join(json.dumps(row) + "\n" for row in (nemo if name == "nemo.json" else cuts)))
    assert [u.audio.path for u in read_manifest(path)] == [str(spoken / "en" / f"{m}.wav") for m in (0, 99)]


def test_align(call, pairs, tmp_path):
    code, out, err = call("align", "en/0.wav", "fr/0.wav", "--manifest", pairs, "--out", tmp_path / "a.png", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert [found[side]["language"] for side in ("query", "candidate")] == ["en", "fr"]
    assert (tmp_path / "a.png").exists()
    code, _, err = call("align", "en/0.wav", "fr/00.wav", "--manifest", pairs)
    assert code == 2
    assert f"{pairs} holds no utterance 'fr/00.wav'; did you mean fr/0.wav" in err


@pytest.mark.parametrize("kind", ["pairs", "table"])
def test_evaluate_translation_and_outputs(call, request, tmp_path, kind):
    path, store = request.getfixturevalue(kind), tmp_path / "full.lance"
    call("encode", path, store, "--compute", "float32", "--context", "speech+1")
    code, out, err = call("evaluate", "translation", path, store, "--json")
    assert code == 0, err
    assert [(r["source"], r["target"], r["n"]) for r in json.loads(out)["translation"]] == [("fr", "en", MEANINGS)]
    said = [{"id": u.id, "text": u.translations["en"]} for u in read_manifest(path, ["fr"])]
    (tmp_path / "said.jsonl").write_text("".join(json.dumps(row) + "\n" for row in said[1:]))
    arguments = ("--to", "en", "--task", "translate", "--languages", "fr", "--json")
    code, out, err = call("evaluate", "outputs", path, tmp_path / "said.jsonl", *arguments, model=False)
    assert code == 1, err  # one output is missing
    assert "1 of 6 outputs are missing" in err


def test_finetune(table, tmp_path, tiny_whisper_folder):
    told: list[str] = []
    settings = FinetuneConfig(
        data=str(table), method="plain", target="es", out=tmp_path / "out", model=str(tiny_whisper_folder), epochs=1,
        compute="float32", context="speech+1",
    )  # fmt: skip
    results, _ = load_results(run_finetune(settings, device="cpu", log=told.append))
    assert any(line.startswith("2 examples of en into es") for line in told)
    new = {(r["source"], r["n"]) for r in results["transfer"] if r["task"] == "new"}
    assert new == {("en", 2), ("fr", 2)}
    table.write_text(table.read_text() + "fr/0.wav\tfr\tencore\t\t\tm9\ttrain\tfr-9\n")
    with pytest.raises(Exception, match="begun with manifest_sha256"):
        run_finetune(settings, device="cpu", log=told.append)


def test_check_and_stats(call, table, tmp_path):
    code, out, _ = call("corpus", "stats", table, "--json", model=False)
    found = json.loads(out)
    assert (code, found["utterances"], found["overlap"]) == (0, 2 * MEANINGS, {"en-fr": MEANINGS})
    assert found["languages"]["fr"]["splits"] == {"test": 2, "dev": 2, "train": 2}
    assert found["languages"]["en"]["hours"] == round(sum(0.3 + 0.05 * m for m in range(MEANINGS)) / 3600, 3)
    assert found["languages"]["en"]["without_duration"] == 0  # headers say it
    assert call("corpus", "check", table, model=False)[:2] == (0, "")
    table.write_text(table.read_text().replace("fr-5", "en-0"))
    code, out, _ = call("corpus", "check", table, model=False)
    assert (code, out) == (1, "en-0: id: another utterance has it; give every recording an id of its own\n")
    with pytest.raises(ManifestError, match=r"table.tsv:13: the id 'en-0' stands already in .*table.tsv:2"):
        read_manifest(table)


def test_a_recipe_s_corpus(pairs, tmp_path):
    source = CorpusSource(name="manifest", root=pairs, languages=("fr",))
    assert [u.language for u in source.utterances(tmp_path / "run")] == ["fr"] * MEANINGS


def test_what_only_prepare_can_be_told(call, spoken):
    path = spoken / "t.csv"
    path.write_text("audio,text\nen/0.wav,Hello\n")
    code, _, err = call("encode", path, spoken / "s.lance")
    assert code == 2
    assert "t.csv:2: nothing says the language; add a column language, or prepare a manifest with --option" in err
    code, _, err = call(
        "corpus",
        "prepare",
        "plain",
        "--root",
        path,
        "--option",
        "language=en",
        "--out",
        spoken / "m.jsonl",
        model=False,
    )
    assert code == 0, err
    assert read_manifest(spoken / "m.jsonl") == [
        Utterance(id="en/0.wav", audio=AudioRef(str(spoken / "en" / "0.wav")), language="en", text="Hello")
    ]


def test_what_is_translated_of_pairs(pairs, tmp_path):
    pairs.write_text(pairs.read_text(encoding="utf-8-sig").replace("fr/3.wav", "").replace("fr/4.wav", "gone.wav"))
    told: list[str] = []
    found = {r.id: r for r in find_recordings([str(pairs)], told.append)}
    assert len(found) == 2 * MEANINGS - 1
    assert found["gone.wav"].language == "fr"  # which fails by name when it is opened
    assert told == [f"pairs.csv: skipped 1 (no audio file): {pairs}:5 (empty)"]
