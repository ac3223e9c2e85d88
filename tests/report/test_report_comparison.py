"""Runs compared: the same rows side by side, paired tests where the same utterances were kept, said so where not."""

import csv
import json
import re
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec import structs

from helpers import compare_translations, load_results, records, save_results, score_transcripts, utterance
from interlingua.cli import run
from interlingua.experiments.utterances import UtteranceLog
from interlingua.metrics import SystemOutputs, pooled_difference, score_translations, transcript_errors
from interlingua.report import write_comparison
from interlingua.report.studies import unseen
from interlingua.report.tables import Table
from interlingua.results import load_utterances
from interlingua.retrieval.evaluate import Items, evaluate_scores
from interlingua.types import Utterance

N = 24
WORDS = ("please", "enter", "the", "number", "of", "your", "conference", "followed", "by", "pound", "key", "thank")


def _errors(transcripts, references, language):
    return transcript_errors(SystemOutputs(transcripts, references, None, language, source=language))


def speech() -> list[Utterance]:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 6)) for _ in range(N)]
    return [
        utterance(lang, f"m{i}", text=texts[i], translations={"en": texts[i]}, cluster=f"c{i // 2}")
        for lang in ("fr", "it")
        for i in range(N)
    ]


def make_run(folder: Path, *, noise: float, kept: bool = True, settings: dict[str, Any] | None = None) -> Path:
    """A result folder whose ranks and translations get worse with noise."""
    rng = np.random.default_rng(1)
    said, log = speech(), UtteranceLog(speech())
    items = {lang: Items(*_ids(said, lang)) for lang in ("fr", "it")}
    rows = []
    for query, candidate in (("fr", "it"), ("it", "fr")):
        scores = (np.eye(N) + noise * rng.normal(size=(N, N))).astype(np.float32)
        result = evaluate_scores(scores, items[query], items[candidate])
        log.ranked("seqsim", candidate, items[query], items[candidate], scores, result.ranks)
        found = {k: getattr(result, k) for k in ("r1", "r1_ci", "n", "chance")}
        rows.append({"query": query, "candidate": candidate, "method": "seqsim", **found})
    translation = []
    for lang in ("fr", "it"):
        references = {u.id: u.translations["en"] for u in said if u.language == lang}
        outputs = {i: " ".join(w for w in t.split() if rng.random() > noise) for i, t in references.items()}
        log.translated(folder.name, "en", outputs, references)
        chrf = {"value": 100 * (1 - noise), "ci": [20, 90]}
        translation.append({"source": lang, "target": "en", "system": folder.name, "chrf": chrf})
    results = {
        "title": "Made", "retrieval": rows, "translation": translation, "settings": settings or {},
        "provenance": {"commit": "abc", "corpus": {"utterances": 2 * N, "sha256": "f" * 64}},
    }  # fmt: skip
    save_results(folder, results, utterances=log.results if kept else ())
    return folder


def _ids(said: list[Utterance], lang: str) -> tuple[list[str], list[str], list[str]]:
    of_language = [u for u in said if u.language == lang]
    return [u.id for u in of_language], [str(u.meaning) for u in of_language], [str(u.cluster) for u in of_language]


def table(page: Path, name: str) -> dict[str, dict[str, str]]:
    """Rows of a table's CSV by their first cell."""
    with (page.with_name(f"{page.stem}-tables") / f"{name}.csv").open(encoding="utf-8", newline="") as lines:
        return {next(iter(row.values())): row for row in csv.DictReader(lines)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    return [
        make_run(folder / "bad", noise=0.5, settings={"model": "base", "layer": 6}),
        make_run(folder / "good", noise=0.2, settings={"model": "base", "layer": 4}),
    ]


@pytest.fixture(scope="module")
def page(runs: list[Path]) -> Path:
    return write_comparison(runs, runs[0].parent / "compare.html")


def test_what_differs_comes_first(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    sections = re.findall(r'<section id="([\w-]+)">', text)
    assert sections == ["what-differs", "retrieval", "translation", "what-is-the-same"]
    assert table(page, "what-differs") == {"layer": {"Setting": "layer", "bad": "6", "good": "4"}}
    same = {name: row["Value"] for name, row in table(page, "what-is-the-same").items()}
    assert same == {"Title": "Made", "model": "base", "Commit": "abc", "Utterances": f"48, SHA-256 {'f' * 64}"}
    assert "Differences are those of good from bad." in text
    assert "<aside>" not in text  # the same utterances
    assert text.count("<svg") == 2
    assert "<script" not in text


def test_recall_is_paired_by_query(page: Path, runs: list[Path]) -> None:
    rows = table(page, "recall-1")
    assert list(rows) == ["Mean of 2 pairs", "French → Italian", "Italian → French"]
    measured = [
        {(r["query"], r["candidate"]): r["r1"] for r in load_results(folder)[0]["retrieval"]} for folder in runs
    ]
    row = rows["French → Italian"]
    bad, good = (100 * of_run["fr", "it"] for of_run in measured)
    assert float(row["bad"]) == pytest.approx(bad, abs=1e-3)
    assert float(row["good − bad"]) == pytest.approx(good - bad, abs=1e-3)
    assert float(row["good − bad, low"]) < good - bad < float(row["good − bad, high"])
    assert 0 < float(row["p, good"]) <= 1
    hits = [[r.retrieval["seqsim"]["it"].rank == 1 for r in load_utterances(folder)[:N]] for folder in runs]
    assert np.mean(hits[1]) - np.mean(hits[0]) == pytest.approx((good - bad) / 100)
    mean = rows["Mean of 2 pairs"]
    assert float(mean["good − bad"]) == pytest.approx(
        50 * sum(measured[1][pair] - measured[0][pair] for pair in measured[0]), abs=1e-3
    )
    assert mean["good − bad, low"]


def test_translations_are_paired_under_systems_of_other_names(page: Path, runs: list[Path]) -> None:
    outputs = [
        {r.utterance.id: r.translations[0] for r in load_utterances(folder) if r.utterance.language == "fr"}
        for folder in runs
    ]
    said = load_utterances(runs[0])
    expected = compare_translations(
        *({i: t.hypothesis for i, t in of_run.items()} for of_run in reversed(outputs)),
        {i: t.reference for i, t in outputs[0].items()},
        target="en", metric="chrf", clusters={r.utterance.id: str(r.utterance.cluster) for r in said},
    )  # fmt: skip
    row = table(page, "translation-chrf")["French → English"]
    assert float(row["good − bad"]) == pytest.approx(expected.value, abs=1e-3)
    assert float(row["p, good"]) == pytest.approx(expected.p_randomisation, abs=1e-6)


def test_without_utterances_only_intervals_and_it_is_said(runs: list[Path], tmp_path: Path) -> None:
    bare = make_run(tmp_path / "bare", noise=0.1, kept=False)
    made = write_comparison([runs[0], bare], tmp_path / "c.html")
    row = table(made, "recall-1")["French → Italian"]
    assert row["bare − bad"]
    assert row["p, bare"] == ""
    assert "bare − bad, low" not in row
    assert "is not tested: what came out for each utterance" in made.read_text(encoding="utf-8")


def test_other_queries_are_not_paired(runs: list[Path], tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", noise=0.1)
    lines = (other / "utterances.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (other / "utterances.jsonl").write_text("".join(lines[1:]), encoding="utf-8")
    made = write_comparison([runs[0], other], tmp_path / "c.html")
    rows = table(made, "recall-1")
    assert rows["French → Italian"]["p, other"] == ""
    assert rows["Italian → French"]["p, other"]  # its queries are all there


def test_heat_maps_of_the_runs_stand_side_by_side_on_one_scale(tmp_path: Path) -> None:
    for name, r1 in (("a", 0.21), ("b", 0.84)):
        pairs = permutations(("en", "fr", "zh"), 2)
        rows = [{"query": q, "candidate": c, "method": "seqsim", "r1": r1 + i / 100} for i, (q, c) in enumerate(pairs)]
        save_results(tmp_path / name, {"retrieval": rows})
    text = write_comparison([tmp_path / "a", tmp_path / "b"], tmp_path / "c.html").read_text(encoding="utf-8")
    first, second = text.partition('<div class="row">')[2].split("</figure>")[:2]
    shown = [re.findall(r"<text[^>]*>(\d+)</text>", part) for part in (first, second)]
    assert shown == [[str(n) for n in range(21, 27)], [str(n) for n in range(84, 90)]]
    assert ["<b>a</b> SeqSim" in first, "<b>b</b> SeqSim" in second] == [True, True]
    assert text.count("<svg") == 2 + 1
    assert "The same under" not in text  # what the maps stand above isn't folded away
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    # the same value has the same colour in both: a's best is far from b's worst
    save_results(tmp_path / "b", {"retrieval": load_results(tmp_path / "a")[0]["retrieval"]})
    text = write_comparison([tmp_path / "a", tmp_path / "b"], tmp_path / "c.html").read_text(encoding="utf-8")
    again, same = text.partition('<div class="row">')[2].split("</figure>")[:2]
    images = [re.findall(r'href="(data:image/png[^"]+)"', part) for part in (first, second, again, same)]
    assert images[2] == images[3] != images[0] != images[1]


def test_three_runs_and_different_utterances_are_told(runs: list[Path], tmp_path: Path) -> None:
    third = make_run(tmp_path / "good", noise=0.3)  # a folder of the same name
    results = json.loads((third / "results.json").read_text())
    results["provenance"]["corpus"]["sha256"] = "0" * 64
    results["retrieval"] = results["retrieval"][:1]
    (third / "results.json").write_text(json.dumps(results))
    made = write_comparison([*runs, third], tmp_path / "c.html")
    text = made.read_text(encoding="utf-8")
    assert "measured on different utterances" in text
    names = [f"{runs[1].parent.name}/good", f"{tmp_path.name}/good"]
    assert all(name in text for name in names)
    row = table(made, "recall-1")["Italian → French"]  # the third didn't measure it
    first = next(iter(name for name in row if name.endswith("bad")))
    assert row[names[1]] == row[f"{names[1]} − {first}"] == ""
    assert row[f"{names[0]} − {first}"]


def test_fine_tunings_are_compared_after_training_with_a_picture_of_gain_and_loss(tmp_path: Path) -> None:
    for name, gain in (("plain", 8.0), ("replay", 6.0)):
        change = {"before": {"value": 2.0}, "after": {"value": 2.0 + gain, "ci": [1.0, 20.0]}}
        wrong = {"before": {"value": 9.0}, "after": {"value": 9.5}}
        rows = [
            {"task": "new", "source": "fr", "target": "es", "chrf": change},
            {"task": "transcribe", "source": "fr", "target": "fr", "error": wrong},
        ]
        pooled = [
            {"pool": "new, sources never trained on", "chrf": {"value": gain, "ci": [gain - 1, gain + 1]}},
            {"pool": "into English", "chrf": {"value": gain - 10, "ci": [gain - 11, gain - 9]}},
        ]
        texts = {f"fr/m{i}": f"une phrase {i}" for i in range(4)}
        log = UtteranceLog([utterance("fr", f"m{i}", text=text) for i, text in enumerate(texts.values())])
        references = {f"fr/m{i}": f"una frase {i}" for i in range(4)}
        log.translated("after", "es", {i: f"{t} {name}" for i, t in references.items()}, references)
        log.transcribed("after", "fr", {i: t for i, t in texts.items() if name == "plain" or i > "fr/m0"}, texts)
        save_results(tmp_path / name, {"transfer": rows, "transfer_pooled": pooled}, utterances=log.results)
    made = write_comparison([tmp_path / "plain", tmp_path / "replay"], tmp_path / "c.html")
    row = table(made, "transfer-new")["French → Spanish"]
    assert float(row["replay − plain"]) < 0  # that of the translations kept: one wrong word is longer
    assert row["p, replay"]
    heard = table(made, "transfer-transcribe")["French"]
    assert heard["replay − plain"] == "25"  # of the transcripts kept: one of four is empty
    assert heard["p, replay"]
    assert table(made, "gain-against-loss")["replay"]["Gain on the new target"] == "6"


def test_variants_are_compared_in_the_same_test(tmp_path: Path) -> None:
    for name, gains in (("a", {"covost": 10.0, "fleurs": 20.0}), ("b", {"fleurs": 21.0, "covost": 11.0})):
        points = [
            {"name": "plain", "target": "zh", "test": test, "gain": {"value": gain}, "loss": {"value": -gain}}
            for test, gain in gains.items()
        ]
        save_results(tmp_path / name, {"pareto": points})
    made = table(write_comparison([tmp_path / "a", tmp_path / "b"], tmp_path / "c.html"), "variants-gain")
    assert {label: row["b − a"] for label, row in made.items()} == {
        "plain → Chinese, covost": "1", "plain → Chinese, fleurs": "1",
    }  # fmt: skip


def of_languages(folder: Path, *, tokens: dict[str, str], noise: float, kept: bool = True) -> Path:
    """A result folder of a study of unseen languages: French with its token and without, and Asturian."""
    rng = np.random.default_rng(2)
    said = [structs.replace(u, language=code, id=f"{code}/{u.meaning}") for code in ("fr", "ast") for u in speech()[:N]]
    log, rows = UtteranceLog(said), []
    for language, own in (("fr", True), ("fr", False), ("ast", False)):
        mine = {u.id: u for u in said if u.language == language}
        token = "fr" if own else tokens[language]
        references = {i: u.translations["en"] for i, u in mine.items()}
        texts = {i: " ".join(w for w in t.split() if rng.random() > noise) for i, t in references.items()}
        heard = {i: " ".join(w for w in str(u.text).split() if rng.random() > noise) for i, u in mine.items()}
        log.translated(f"tiny as {token}", "en", texts, references)
        log.transcribed(f"tiny as {token}", language, heard, {i: str(u.text) for i, u in mine.items()})
        clusters = {i: str(u.cluster) for i, u in mine.items()}
        scores = {
            m: msgspec.to_builtins(score_translations(texts, references, target="en", metric=m, clusters=clusters))
            for m in ("bleu", "chrf")
        }
        error = {
            unit: msgspec.to_builtins(
                score_transcripts(heard, {i: str(u.text) for i, u in mine.items()}, language=code)
            )
            for unit, code in (("words", language), ("characters", "zh"))
        }
        candidates = [{"token": token, **scores, "off_target": {"value": noise}}]
        about = {"language": language, "seen": language == "fr", "own_token": own, "n": N, "n_clusters": N // 2}
        rows.append({**about, "candidates": candidates, "chosen": token, "oracle": token, "error": error})
    results = {"unseen": rows, "settings": {"model": "tiny"}}
    save_results(folder, results, utterances=log.results if kept else ())
    return folder


def test_unseen_languages_are_compared_in_pairs(tmp_path: Path) -> None:
    bad = of_languages(tmp_path / "bad", tokens={"fr": "es", "ast": "es"}, noise=0.5)
    good = of_languages(tmp_path / "good", tokens={"fr": "it", "ast": "gl"}, noise=0.2)
    made = write_comparison([bad, good], tmp_path / "c.html")
    labels = ["French", "French, its own token forbidden", "Asturian"]
    assert {label: (r["bad"], r["good"]) for label, r in table(made, "languages-tokens").items()} == {
        labels[0]: ("fr", "fr"), labels[1]: ("es", "it"), labels[2]: ("es", "gl"),
    }  # fmt: skip
    kept = [{r.utterance.id: r for r in load_utterances(folder)} for folder in (bad, good)]
    said = [u for u in kept[0] if u.startswith("ast/")]
    clusters = {i: str(r.utterance.cluster) for i, r in kept[0].items()}
    hypotheses = [{i: of_run[i].translations[0].hypothesis for i in said} for of_run in kept]
    references = {i: kept[0][i].translations[0].reference for i in said}
    for metric in ("bleu", "chrf"):
        rows = table(made, f"languages-{metric}")
        assert list(rows) == labels
        expected = compare_translations(
            hypotheses[1], hypotheses[0], references, target="en", metric=metric, clusters=clusters
        )
        row = rows["Asturian"]
        assert float(row["good − bad"]) == pytest.approx(expected.value, abs=1e-3)
        assert float(row["good − bad, low"]) == pytest.approx(expected.ci[0], abs=1e-3)
        assert float(row["p, good"]) == pytest.approx(expected.p_randomisation, abs=1e-6)
    texts = {i: str(kept[0][i].utterance.text) for i in said}
    for measure, language in (("wer", "ast"), ("cer", "zh")):
        sides = [_errors({i: of_run[i].transcripts[0].hypothesis for i in said}, texts, language) for of_run in kept]
        expected = pooled_difference(
            *([replace(side, clusters=[clusters[i] for i in side.ids])] for side in reversed(sides))
        )
        row = table(made, f"languages-{measure}")["Asturian"]
        assert float(row["bad"]) == pytest.approx(sides[0].score().value, rel=1e-5)
        assert float(row["good − bad"]) == pytest.approx(expected.value, rel=1e-4)
        assert float(row["p, good"]) == pytest.approx(expected.p_randomisation, abs=1e-6)
    off = table(made, "languages-off-target")["Asturian"]
    assert (off["bad"], off["good"], off["good − bad"], off["p, good"]) == ("50", "20", "-30", "")


def test_a_token_that_was_tried_beside_others_was_not_forbidden(tmp_path: Path) -> None:
    scores = {"bleu": {"value": 1.0}, "chrf": {"value": 2.0}, "off_target": {"value": 0.0}}
    folders = []
    for name, tokens in (("own", ["fr"]), ("more", ["fr", "es"])):
        about = {"language": "fr", "seen": True, "own_token": tokens == ["fr"], "n": 2, "n_clusters": 2}
        candidates = [{"token": token, **scores} for token in tokens]
        row = {**about, "candidates": candidates, "chosen": tokens[-1], "oracle": "fr"}
        save_results(tmp_path / name, {"unseen": [row]})
        folders.append(tmp_path / name)
    made = write_comparison(folders, tmp_path / "c.html")
    assert {label: (r["own"], r["more"]) for label, r in table(made, "languages-tokens").items()} == {
        "French": ("fr", "es")
    }
    (shown,) = [b for b in unseen(records({"unseen": [row]})) if isinstance(b, Table)]
    assert [[str(cell.note) for cell, *_ in body] for body in shown.bodies] == [[""]]


def of_distances(folder: Path, *, noise: float, pivot: str = "it", rho: float = -0.5) -> Path:
    """A result folder of a robustness study: French beside a pivot."""
    made = make_run(folder, noise=noise)
    results = json.loads((made / "results.json").read_text())
    there, back = results["retrieval"]
    language = {
        "language": "fr", "seen": True, "token": "fr", "distance": {"typological": 0.2}, "n": N,
        "to_pivot": {"seqsim": there}, "from_pivot": {"seqsim": back}, "bleu": {"value": 10 * noise},
        "wer": {"value": 50.0},
    }  # fmt: skip
    rank = {"measure": "to_pivot", "method": "seqsim", "kind": "typological", "seen_only": False, "value": rho}
    correlations = [{**rank, "n": 4, "signature": "s"}]
    study = {"pivot": pivot, "methods": ["seqsim"], "languages": [language], "correlations": correlations}
    save_results(folder, {"robustness": study}, utterances=load_utterances(folder))
    return folder


def test_robustness_studies_are_compared_language_by_language(tmp_path: Path, runs: list[Path]) -> None:
    far, near = of_distances(tmp_path / "far", noise=0.5), of_distances(tmp_path / "near", noise=0.2, rho=-0.25)
    made = write_comparison([far, near], tmp_path / "c.html")
    plain = write_comparison(runs, tmp_path / "plain.html")
    assert [list(r.values()) for r in table(made, "recall-1").values()] == [
        list(r.values()) for r in table(plain, "recall-1").values()
    ]  # the same ranks, told as a study of retrieval or of robustness
    assert table(made, "languages-bleu")["French"]["near − far"] == "-3"
    assert table(made, "languages-wer")["French"]["near − far"] == "0"
    (row,) = table(made, "correlations-compared").values()
    assert row == {
        "Measure and distance": "R@1 to Italian, SeqSim, typological",
        "far": "-0.5", "near": "-0.25", "near − far": "0.25", "p, near": "",
    }  # fmt: skip
    assert "+0.25" in made.read_text(encoding="utf-8")
    other = of_distances(tmp_path / "other", noise=0.2, pivot="fr")
    text = write_comparison([far, other], tmp_path / "d.html").read_text(encoding="utf-8")
    assert 'id="correlations"' not in text  # to another pivot


def test_a_robustness_study_beside_plain_retrieval(tmp_path: Path, runs: list[Path]) -> None:
    near = of_distances(tmp_path / "near", noise=0.2)
    made = write_comparison([runs[0], near], tmp_path / "c.html")
    assert table(made, "recall-1")["French → Italian"]["p, near"]


def test_transcripts_of_systems_are_compared_in_pairs(tmp_path: Path) -> None:
    said = [utterance("fr", f"m{i}", text=f"numéro {i} à {i}") for i in range(8)]
    texts, transcripts = {u.id: str(u.text) for u in said}, {}
    for name, wrong in (("a", 5), ("b", 2)):
        transcripts[name] = {i: "zéro" if n < wrong else t for n, (i, t) in enumerate(texts.items())}
        log = UtteranceLog(said)
        log.transcribed(name, "fr", transcripts[name], texts)
        scores = {
            "error": msgspec.to_builtins(score_transcripts(transcripts[name], texts, language="fr")),
            "comet": {"value": 0.81234},
        }
        rows = [
            {"system": name, "task": "transcribe", "source": "fr", "target": "fr", **scores},
            {"system": name, "task": "transcribe", "sources": ["fr"], **scores},
        ]
        save_results(tmp_path / name, {"outputs": rows}, utterances=log.results)
    made = write_comparison([tmp_path / "a", tmp_path / "b"], tmp_path / "c.html")
    statistics = [_errors(transcripts[name], texts, "fr") for name in ("b", "a")]
    expected = pooled_difference(*([t] for t in statistics))
    for row in table(made, "outputs-error").values():
        assert float(row["b − a"]) == pytest.approx(expected.value, rel=1e-5)
        assert float(row["p, b"]) == pytest.approx(expected.p_randomisation)
    assert ">0.8123<" in made.read_text(encoding="utf-8")  # COMET to four digits


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    attack = "<script>alert('x')</script>\"&$title"
    for name in ("a<b>&amp;", "b"):
        rows = [{"query": attack, "candidate": "fr", "method": attack, "r1": 0.5}]
        results = {"title": attack, "retrieval": rows, "settings": {attack: attack + name, "x": attack}}
        save_results(tmp_path / name, {**results, "provenance": {"commit": attack}})
    text = write_comparison([tmp_path / "a<b>&amp;", tmp_path / "b"], tmp_path / "c.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "<b>&amp;amp;" not in text.replace("<figcaption><b>", "")
    assert "a&lt;b&gt;&amp;amp; and b compared" in text
    assert text.count("&lt;script&gt;") > 8


def test_the_command_writes_the_page_where_it_is_told_or_says_in_one_line_why_not(
    runs: list[Path], tmp_path: Path, capsys: Any
) -> None:
    save_results(tmp_path / "else", {"retrieval": [{"query": "de", "candidate": "nl", "method": "seqsim", "r1": 0.5}]})
    for folders, message in (
        ((runs[0], tmp_path / "else"), r"else: nothing that .*bad measured too"),
        ((runs[0], runs[0]), "each once"),
        ((runs[0],), "--out names the page that compares"),
    ):
        assert run(["report", *map(str, folders), "--out", str(tmp_path / "c.html")]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert re.search(message, line)
        assert not list(tmp_path.glob("c*"))
    arguments = ["report", *(str(folder / "results.json") for folder in runs), "--out", str(tmp_path / "c.html")]
    assert run(arguments) == 0
    assert capsys.readouterr().out == f"report: {tmp_path / 'c.html'}\n"
    assert (tmp_path / "c-tables" / "recall-1.tex").is_file()
