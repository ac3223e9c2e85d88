"""Systems' outputs: read line by line with clear errors, scored by id, compared, by duration, the worst listed."""

import json
import re

import msgspec
import pytest

from helpers import compare_translations, load_results, off_target_rate, save_results, score_transcripts, utterance
from interlingua.cli import run
from interlingua.corpora import write_manifest
from interlingua.errors import OutputsError, UsageError
from interlingua.experiments.outputs import (
    BUCKETS,
    System,
    bucket_of,
    evaluate_outputs,
    groups_of,
    missing_ids,
    read_systems,
    unscored,
)
from interlingua.experiments.utterances import UtteranceLog
from interlingua.metrics import SystemOutputs, pooled_score, score_translations, translation_statistics
from interlingua.report import write_report
from interlingua.types import AudioRef

CHINESE = ["线路正忙，请稍后再拨。", "您有三条新留言。", "请输入您的密码。", "会议现已锁定。"]
SPOKEN = {
    "fr": ["La ligne est occupée.", "Vous avez trois messages.", "Entrez le mot de passe.", "La salle est fermée."],
    "es": ["La línea está ocupada.", "Tiene tres mensajes.", "Introduzca su contraseña.", "La sala está cerrada."],
}
SECONDS = [1.0, 3.0, 10.5, None]
IDS = [f"{language}/{i}" for language in SPOKEN for i in range(4)]


def corpus():
    return [
        utterance(
            language, f"m{i}", id=f"{language}/{i}", text=text, cluster=f"c{i}", duration=SECONDS[i],
            translations={"zh": CHINESE[i], "en": f"English sentence number {i}"},
        )
        for language, texts in SPOKEN.items()
        for i, text in enumerate(texts)
    ]  # fmt: skip


def references(target: str) -> dict[str, str]:
    return {u.id: u.translations[target] for u in corpus()}


def of(language: str, texts: dict[str, str]) -> dict[str, str]:
    return {i: t for i, t in texts.items() if i.startswith(language)}


CLUSTERS = {i: f"c{i[-1]}" for i in IDS}
GOOD = references("zh")
POOR = {**{i: t[: len(t) // 2] for i, t in GOOD.items()}, "es/1": "You have three new messages", "fr/3": "会议"}


@pytest.fixture
def files(tmp_path):
    """Write a manifest and systems' files; return the arguments of `evaluate outputs`."""

    def write(**systems) -> list[str]:
        write_manifest(tmp_path / "m.jsonl", corpus())
        paths = [tmp_path / "m.jsonl"]
        for name, said in systems.items():
            lines = said if isinstance(said, list) else [line(i, t, "zh") for i, t in said.items()]
            paths.append(tmp_path / f"{name}.jsonl")
            paths[-1].write_text("".join(json.dumps(x, ensure_ascii=False) + "\n" for x in lines), encoding="utf-8")
        return [str(p) for p in paths]

    return write


def line(name: str, text: str, target: str | None = None, **more) -> dict:
    return {"id": name, "text": text, **({"target": target} if target else {}), **more}


def read(paths: list[str], **options):
    return read_systems(paths[1:], {u.id: u for u in corpus()}, manifest=paths[0], **options)


def results_of(paths: list[str], *, worst: int = 10, to=(), task=None, comet_model=None):
    systems = read(paths, to=to, task=task)
    groups = groups_of(corpus(), systems, to=to, task=task)
    return as_dict(evaluate_outputs(corpus(), systems, groups, comet_model=comet_model, worst=worst))


def as_dict(results) -> dict:
    parts = ("outputs", "outputs_compared", "outputs_by_duration", "worst")
    found = {part: [] for part in parts} | msgspec.json.decode(msgspec.json.encode(results))
    return found | {part: [{"source": None, **row} for row in found[part]] for part in parts[:3]}


def row_of(rows, **wanted):
    (row,) = [r for r in rows if all(r[k] == v for k, v in wanted.items())]
    return row


# ---------------------------------------------------------------- reading


def test_lines_are_read_by_target_and_other_keys_are_ignored(files):
    lines = [line("fr/0", "a", "zh", language="fr", flags=["loop"]), line("fr/0", "b", "en"), line("fr/0", "c", "fr")]
    (system,) = read(files(base=lines))
    assert system.name == "base"
    assert system.outputs == {"zh": {"fr/0": "a"}, "en": {"fr/0": "b"}, "fr": {"fr/0": "c"}}
    (system,) = read(files(base=lines), to=("zh", "fr"))
    assert set(system.outputs) == {"zh", "fr"}
    (system,) = read(files(base=lines), task="transcribe")
    assert set(system.outputs) == {"fr"}
    (system,) = read(files(base=lines), task="translate")
    assert set(system.outputs) == {"zh", "en"}


def test_lines_without_a_target_are_in_the_one_that_was_named_or_the_language_spoken(files):
    paths = files(base=[line("fr/0", "a"), line("es/0", "b")])
    assert read(paths, to=("zh",))[0].outputs == {"zh": {"fr/0": "a", "es/0": "b"}}
    assert read(paths, task="transcribe")[0].outputs == {"fr": {"fr/0": "a"}, "es": {"es/0": "b"}}
    for to in ((), ("zh", "en")):
        with pytest.raises(
            OutputsError, match=r"base\.jsonl:1: no `target`; name the language of the outputs with --to"
        ):
            read(paths, to=to)


def test_languages_are_normalised_and_a_byte_order_mark_and_blank_lines_pass(files):
    paths = files(base=[])
    with open(paths[1], "w", encoding="utf-8-sig") as out:  # noqa: PTH123
        out.write('{"id": "fr/0", "text": "a", "target": "Chinese"}\n\n{"id": "fr/1", "text": "", "target": "cmn"}\n')
    assert read(paths)[0].outputs == {"zh": {"fr/0": "a", "fr/1": ""}}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["{"], "base.jsonl:2: Input data was truncated; a line is"),
        (['{"id": "fr/1"}'], "base.jsonl:2: Object missing required field `text`"),
        (['{"id": "fr/1", "text": null, "target": "zh"}'], "base.jsonl:2: Expected `str`, got `null`"),
        (['{"id": "fr/1", "text": "a", "target": "elvish"}'], "base.jsonl:2: unknown language 'elvish'"),
        (['{"id": "fr/9", "text": "a", "target": "zh"}'], "base.jsonl:2: no utterance 'fr/9' in "),
        (['{"id": "fr/0", "text": "b", "target": "zh"}'], "base.jsonl:2: 'fr/0' into 'zh' stands already in line 1"),
    ],
)
def test_a_wrong_line_is_one_line_with_file_and_line_and_exit_2(files, capsys, lines, said):
    paths = files(base=[line("fr/0", "a", "zh")])
    with open(paths[1], "a", encoding="utf-8") as out:  # noqa: PTH123
        out.write("\n".join(lines))
    assert run(["evaluate", "outputs", *paths]) == 2
    out, err = capsys.readouterr()
    (problem,) = err.splitlines()
    assert out == ""
    assert said in problem


def test_bytes_that_arent_utf8_an_empty_file_and_no_file_are_told(files, tmp_path):
    paths = files(base=[])
    with pytest.raises(OutputsError, match=r"base\.jsonl: holds no outputs"):
        read(paths)
    (tmp_path / "base.jsonl").write_bytes(b'{"id": "fr/0", "text": "\xff", "target": "zh"}')
    with pytest.raises(OutputsError, match=r"base\.jsonl:1: "):
        read(paths)
    with pytest.raises(OutputsError, match=r"none\.jsonl: no readable file of outputs \(No such file"):
        read([paths[0], str(tmp_path / "none.jsonl")])


def test_systems_are_named_by_stem_or_by_hand(files, tmp_path):
    paths = files(base=GOOD)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "base.jsonl").write_text((tmp_path / "base.jsonl").read_text())
    second = str(tmp_path / "sub" / "base.jsonl")
    with pytest.raises(UsageError, match=r"two systems are called 'base'; name one otherwise: NAME="):
        read([*paths, second])
    assert [s.name for s in read([*paths, f"new={second}"])] == ["base", "new"]
    (tmp_path / "a=b.jsonl").write_text((tmp_path / "base.jsonl").read_text())
    assert [s.name for s in read([paths[0], str(tmp_path / "a=b.jsonl")])] == ["a=b"]


# ---------------------------------------------------------------- what is asked of the systems


def test_every_language_is_asked_and_a_skipped_one_is_missing(files):
    systems = read(files(base=of("fr", GOOD)))
    groups = groups_of(corpus(), systems)
    assert [(g.task, g.source, g.target) for g in groups] == [("translate", "es", "zh"), ("translate", "fr", "zh")]
    assert missing_ids(systems[0], groups) == [f"es/{i}" for i in range(4)]


def test_transcripts_are_asked_of_the_languages_that_some_system_transcribes(files):
    systems = read(files(base=[line("fr/0", SPOKEN["fr"][0], "fr"), line("fr/0", "a", "zh")]))
    groups = groups_of(corpus(), systems)
    assert [(g.task, g.source) for g in groups] == [("translate", "es"), ("translate", "fr"), ("transcribe", "fr")]
    groups = groups_of(corpus(), read(files(base=[line("fr/0", "a", "fr")]), task="transcribe"), task="transcribe")
    assert [g.source for g in groups] == ["es", "fr"]  # the task was asked for: of all


def test_a_target_without_references_is_an_error_and_single_outputs_without_one_are_counted(files):
    systems = read(files(base=[line("fr/0", "a", "de")]))
    with pytest.raises(UsageError, match=r"no utterance has a reference in 'de'; .* hold en, zh$"):
        groups_of(corpus(), systems)
    some = [u for u in corpus() if u.id != "fr/1"] + [utterance("fr", id="fr/1", text="Bonjour.")]
    systems = read(files(base=GOOD))
    groups = groups_of(some, systems)
    assert (unscored(systems[0], some, groups), missing_ids(systems[0], groups)) == (1, [])


def test_nothing_to_score_is_an_error(files):
    systems = read(files(base=GOOD), to=("en",))
    with pytest.raises(UsageError, match="nothing to score"):
        groups_of(corpus(), systems, to=("en",))
    groups = groups_of(corpus(), systems, to=("en",), task="translate")  # asked for by task and target: all missing
    assert len(missing_ids(systems[0], groups)) == 8


# ---------------------------------------------------------------- scores


def test_every_translation_and_transcript_is_kept(files):
    heard = {u.id: u.text for u in corpus() if u.language == "fr"}
    first = min(heard)
    lines = [line(i, t, "fr") for i, t in heard.items() if i != first] + [line(i, t, "zh") for i, t in GOOD.items()]
    systems = read(files(base=lines))
    log = UtteranceLog(corpus())
    evaluate_outputs(corpus(), systems, groups_of(corpus(), systems), log=log)
    kept = {r.utterance.id: r for r in log.results}
    assert {i: r.translations[0].hypothesis for i, r in kept.items()} == GOOD
    told = {i: [(t.system, t.hypothesis, t.unit, t.error) for t in r.transcripts] for i, r in kept.items()}
    assert told[first] == [("base", "", "wer", 100)]
    assert all(told[i] == [("base", heard[i], "wer", 0)] for i in heard.keys() - {first})
    assert all(told[i] == [] for i in kept.keys() - heard.keys())


def test_scores_are_those_of_the_metrics_and_pooled_is_their_mean(files):
    rows = results_of(files(poor=POOR))["outputs"]
    assert [r["source"] for r in rows] == ["es", "fr", None]
    for language in SPOKEN:
        row = row_of(rows, source=language)
        expected, said = of(language, GOOD), of(language, POOR)
        assert (row["system"], row["task"], row["target"], row["n"], row["missing"]) == (
            "poor",
            "translate",
            "zh",
            4,
            0,
        )
        for metric in ("bleu", "chrf++", "chrf"):
            alone = score_translations(said, expected, target="zh", metric=metric, clusters=CLUSTERS)
            assert row[metric]["value"] == alone.value > 0
            assert row[metric]["ci"] == pytest.approx(list(alone.ci))
        off = off_target_rate(said, "zh", references=expected, sources=(language,), clusters=CLUSTERS)
        assert row["off_target"]["value"] == off.value
        assert row["off_target"]["ci"] == pytest.approx(list(off.ci))
        assert "comet" not in row
    assert "tok:zh" in rows[0]["bleu"]["signature"]
    assert "nw:2" in rows[0]["chrf++"]["signature"]
    pooled = rows[2]
    assert (pooled["sources"], pooled["n"]) == (["es", "fr"], 8)
    assert row_of(rows, source="es")["off_target"]["value"] == 0.25
    for metric in ("bleu", "chrf++", "chrf", "off_target"):
        assert pooled[metric]["value"] == pytest.approx((rows[0][metric]["value"] + rows[1][metric]["value"]) / 2)
    groups = [SystemOutputs(of(s, POOR), of(s, GOOD), CLUSTERS, "zh") for s in ("es", "fr")]
    assert pooled["bleu"]["ci"] == list(pooled_score([translation_statistics(g, "bleu") for g in groups]).ci)


def test_recordings_of_a_sentence_are_resampled_together():
    """FLEURS has several recordings of a sentence: one that is hard is hard in all of them."""
    spoken = [
        utterance("fr", f"m{m}", id=f"fr/{m}-{take}", translations={"en": f"sentence number {m} is said"})
        for m in range(10)
        for take in range(3)
    ]
    texts = {u.id: "" if int(u.meaning[1:]) % 2 else u.translations["en"] for u in spoken}
    apart = [msgspec.structs.replace(u, meaning=None) for u in spoken]
    systems = [System("base", {"en": texts})]
    rows = [evaluate_outputs(some, systems, groups_of(some, systems)).outputs[0] for some in (spoken, apart)]
    together, one_by_one = (row.chrf.ci[1] - row.chrf.ci[0] for row in rows)
    assert together > 1.5 * one_by_one
    assert "|bootstrap:clusters:10|" in rows[0].chrf.signature


def test_a_missing_output_counts_as_empty(files):
    lacking = {i: t for i, t in GOOD.items() if i != "fr/2"}
    found = results_of(files(base=lacking))
    empty = results_of(files(base={**GOOD, "fr/2": ""}))
    row = row_of(found["outputs"], source="fr")
    assert row["missing"] == 1
    assert {**row, "missing": 0} == row_of(empty["outputs"], source="fr")
    assert row["chrf++"]["value"] < 100 == pytest.approx(row_of(found["outputs"], source="es")["chrf++"]["value"])
    assert (found["worst"][0]["id"], found["worst"][0]["hypothesis"], found["worst"][0]["score"]) == ("fr/2", "", 0)


def test_transcripts_get_error_rates(files):
    texts = {f"{s}/{i}": t for s, of_s in SPOKEN.items() for i, t in enumerate(of_s)}
    said = {**texts, "fr/0": "La ligne est", "es/3": "La sala esta cerrada del todo"}
    rows = results_of(files(base=[line(i, t) for i, t in said.items()]), task="transcribe")["outputs"]
    for language in SPOKEN:
        alone = score_transcripts(of(language, said), of(language, texts), language=language, clusters=CLUSTERS)
        row = row_of(rows, source=language)
        assert row["error"]["value"] == pytest.approx(alone.value)
        assert row["target"] == language
        assert "bleu" not in row
    assert row_of(rows, source=None)["error"]["value"] == pytest.approx(
        (rows[0]["error"]["value"] + rows[1]["error"]["value"]) / 2
    )


def test_words_and_characters_are_never_pooled(files, tmp_path):
    spoken = [utterance("zh", id="zh/0", text="再见。"), utterance("fr", id="fr/0", text="Au revoir."),
              utterance("es", id="es/0", text="Adiós.")]  # fmt: skip
    paths = files(base=[line(u.id, u.text, u.language) for u in spoken])
    systems = read_systems(paths[1:], {u.id: u for u in spoken}, manifest="m")
    rows = as_dict(evaluate_outputs(spoken, systems, groups_of(spoken, systems)))["outputs"]
    assert [(r["source"], r["sources"]) for r in rows] == [
        ("es", ["es"]), ("fr", ["fr"]), (None, ["es", "fr"]), ("zh", ["zh"]),
    ]  # fmt: skip
    assert [r["error"]["signature"].partition("|")[0] for r in rows] == ["wer", "wer", "wer", "cer"]


def test_systems_are_compared_with_the_first(files):
    found = results_of(files(poor=POOR, good=GOOD, again=POOR))["outputs_compared"]
    assert [(r["system"], r["against"], r["source"]) for r in found] == [
        (system, "poor", source) for system in ("good", "again") for source in ("es", "fr", None)
    ]
    row = row_of(found, system="good", source="fr")
    alone = compare_translations(
        of("fr", GOOD), of("fr", POOR), of("fr", GOOD), target="zh", metric="chrf++", clusters=CLUSTERS
    )
    assert row["chrf++"]["value"] == alone.value > 0
    assert row["chrf++"]["p_bootstrap"] == alone.p_bootstrap
    assert row["chrf++"]["p_randomisation"] == alone.p_randomisation
    same = row_of(found, system="again", source=None)
    assert (same["bleu"]["value"], same["bleu"]["p_randomisation"]) == (0, 1)
    assert "off_target" not in row
    assert results_of(files(poor=POOR))["outputs_compared"] == []


def test_each_system_has_its_own_rates_and_their_difference_is_the_systems_less_the_first(files):
    texts = {f"{s}/{i}": t for s, of_s in SPOKEN.items() for i, t in enumerate(of_s)}
    right = [line(i, t, i[:2]) for i, t in texts.items()]
    wrong = [line(i, "", i[:2]) for i in texts]
    found = results_of(files(wrong=wrong, right=right))
    errors = [row_of(found["outputs"], system=name, source=None)["error"]["value"] for name in ("wrong", "right")]
    assert errors == [100, 0]
    assert row_of(found["outputs_compared"], source=None)["error"]["value"] == -100
    found = results_of(files(poor=POOR, good=GOOD))["outputs"]
    assert [row_of(found, system=s, source="es")["off_target"]["value"] for s in ("poor", "good")] == [0.25, 0]


# ---------------------------------------------------------------- durations, the worst


WORDLESS = {"fr/0": "(Applaudissements)", "fr/1": "...", "es/0": "  ", "es/1": ""}


def test_references_without_words_are_left_out_counted_and_named(tmp_path, capsys):
    changed = [msgspec.structs.replace(u, text=WORDLESS.get(u.id, u.text)) for u in corpus()]
    changed = [
        msgspec.structs.replace(u, translations={"en": {"fr/2": "…", "fr/3": " "}.get(u.id, u.translations["en"])})
        for u in changed
    ]
    write_manifest(tmp_path / "m.jsonl", changed)
    said = {i: (t, o) for u in corpus() for i, t, o in [(u.id, u.text, u.translations["en"])]}
    lines = [line(i, t, i[:2]) for i, (t, _) in said.items()] + [line(i, o, "en") for i, (_, o) in said.items()]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    assert run(["evaluate", "outputs", str(tmp_path / "m.jsonl"), str(tmp_path / "s.jsonl"), "--json"]) == 0
    out, err = capsys.readouterr()
    rows = json.loads(out)["outputs"]
    found = {
        (r["task"], r["source"]): (r["n"], round((r.get("error") or r["chrf"])["value"], 6))
        for r in rows
        if "source" in r
    }
    assert found == {
        ("transcribe", "fr"): (2, 0), ("transcribe", "es"): (2, 0),
        ("translate", "fr"): (2, 100), ("translate", "es"): (4, 100),
    }  # fmt: skip
    assert "fr-fr: left out 2 of 4 references, without words: 'fr/0', 'fr/1'" in err
    assert "fr-en: left out 1 of 3 references, without words: 'fr/2'" in err
    assert "es-es" not in err  # blanks are no reference


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0.0, 0), (2.99, 0), (3.0, 1), (10.0, 1), (10.01, 2), (600.0, 2), (None, 3)]
)
def test_buckets(seconds, bucket):
    assert bucket_of(utterance(duration=seconds)) == BUCKETS[bucket]
    assert bucket_of(utterance(audio=AudioRef("a.wav", 0.0, seconds))) == BUCKETS[bucket]


def test_scores_by_duration_are_of_all_languages_as_one_corpus(files):
    rows = results_of(files(poor=POOR))["outputs_by_duration"]
    assert [(r["duration"], r["n"]) for r in rows] == [(bucket, 2) for bucket in BUCKETS]
    for i, row in enumerate(rows):
        ids = [f"es/{i}", f"fr/{i}"]
        said, expected = ({k: texts[k] for k in ids} for texts in (POOR, GOOD))
        alone = score_translations(said, expected, target="zh", metric="bleu", clusters=CLUSTERS)
        assert row["bleu"]["value"] == alone.value
        off = off_target_rate(said, "zh", references=expected)
        assert row["off_target"]["value"] == off.value
    assert rows[1]["off_target"]["value"] == 0.5  # es/1 is English


def test_the_worst_outputs_are_listed(files):
    found = results_of(files(poor=POOR, good=GOOD), worst=2)["worst"]
    assert [r["system"] for r in found] == ["poor", "poor", "good", "good"]
    assert found[0]["id"] == "es/1"
    scores = {i: score_translations({i: POOR[i]}, {i: GOOD[i]}, target="zh", metric="chrf++").value for i in IDS}
    assert [r["id"] for r in found[:2]] == sorted(scores, key=lambda i: (scores[i], i))[:2]
    assert found[1]["score"] == pytest.approx(scores[found[1]["id"]])
    assert found[0]["transcript"] == SPOKEN["es"][1]
    assert (found[0]["reference"], found[0]["hypothesis"]) == (GOOD["es/1"], POOR["es/1"])
    assert results_of(files(poor=POOR), worst=0)["worst"] == []


def test_the_worst_transcripts_have_the_highest_error_rate(files):
    lines = [line("fr/0", "La ligne est occupée."), line("fr/1", "a b c d e f g h"), line("fr/2", "")]
    found = results_of(files(base=lines), task="transcribe", worst=3)["worst"]
    assert [(r["id"], r["metric"], r["score"]) for r in found[:1]] == [("fr/1", "wer", 200.0)]
    assert {r["score"] for r in found[1:]} == {100.0}


# ---------------------------------------------------------------- what can't be scored


def test_comet_that_cant_be_had_is_a_reason_and_the_table_is_complete(files, tmp_path, monkeypatch):
    monkeypatch.setenv("INTERLINGUA_CACHE", str(tmp_path / "empty"))
    found = results_of(files(poor=POOR, good=GOOD), comet_model="Unbabel/wmt22-comet-da")
    for row in (*found["outputs"], *found["outputs_compared"], *found["outputs_by_duration"]):
        assert "set it up with `interlingua doctor --comet`" in row["comet"]["reason"]
        assert row["bleu"]["value"] is not None
        assert row["chrf++"]["signature"]
    plain = results_of(files(poor=POOR, good=GOOD))
    assert [{k: v for k, v in r.items() if k != "comet"} for r in found["outputs"]] == plain["outputs"]


def test_a_tokenizer_or_identifier_that_isnt_there_leaves_the_others(files, monkeypatch):
    def refuse(*arguments, **options):
        raise UsageError("not here; install it")

    monkeypatch.setattr("interlingua.metrics.offtarget._is_in", refuse)
    monkeypatch.setattr("interlingua.metrics.translation._bleu", refuse)
    (row, *_) = results_of(files(poor=POOR))["outputs"]
    assert row["bleu"] == row["off_target"] == {"reason": "not here; install it"}
    assert row["chrf++"]["value"] > 0


# ---------------------------------------------------------------- the command


def test_the_command_prints_tables_and_writes_results_and_report(files, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("INTERLINGUA_CACHE", str(tmp_path / "empty"))
    paths = files(poor=POOR, good={**GOOD, "fr/0": "x\ny"})
    assert run(["evaluate", "outputs", *paths, "--comet", "--worst", "2", "--out", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert err == f"report: {tmp_path / 'out' / 'report.html'}\n"
    lines = out.splitlines()
    assert re.search(r"  French +Chinese +poor +4 +0 +\d+\.\d \[", out)
    assert any(re.match(r"  All 2 +Chinese +good +8 +0 .* not scored$", text) for text in lines)
    difference = r"\+\d+\.\d \[.*?\] p 0\.\d{3} / 0\.\d{3}"
    assert any(re.match(rf"  All 2 +Chinese +good − poor +8 +{difference} ", text) for text in lines)
    assert "  good: x y" in lines
    assert "COMET isn't scored: COMET's environment isn't set up in" in out
    assert "tok:zh" in out
    saved, _ = load_results(tmp_path / "out")
    assert saved["settings"]["comet"] == "Unbabel/wmt22-comet-da"
    assert len(saved["outputs"]) == 6
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    sections = ["outputs", "outputs-compared", "outputs-by-duration", "worst-outputs"]
    assert re.findall(r'<section id="([\w-]+)">', page)[:4] == sections


def test_one_cluster_has_no_interval_and_shows_no_difference(tmp_path, capsys):
    spoken = [utterance("fr", id=f"fr/{i}", cluster="c", translations={"zh": t}) for i, t in enumerate(CHINESE)]
    write_manifest(tmp_path / "m.jsonl", spoken)
    for name, keep in (("whole", 20), ("half", 4)):
        rows = [json.dumps(line(u.id, u.translations["zh"][:keep], "zh")) for u in spoken]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
    assert run(["evaluate", "outputs", *(str(tmp_path / f"{n}.jsonl") for n in ("m", "half", "whole"))]) == 0
    out = capsys.readouterr().out
    assert re.search(r"French +Chinese +whole +4 +0 +100\.0 +100\.0 +100\.0 +0\.0\n", out)
    assert re.search(r"French +Chinese +whole − half +4 .* p 1\.000 / 1\.000\n", out)


def test_missing_outputs_are_counted_on_stderr_and_exit_1(files, capsys):
    paths = files(base={i: t for i, t in GOOD.items() if i not in ("fr/1", "fr/2")})
    assert run(["evaluate", "outputs", *paths, "--json"]) == 1
    out, err = capsys.readouterr()
    assert err == ("interlingua: base, fr-zh: 2 of 4 outputs are missing, e.g. of 'fr/1': they count as empty\n")
    results = json.loads(out)
    assert [r["missing"] for r in results["outputs"]] == [0, 2, 2]
    assert run(["evaluate", "outputs", *paths, "--languages", "es", "--json"]) == 0
    assert [r["source"] for r in json.loads(capsys.readouterr().out)["outputs"]] == ["es"]


def test_wrong_options_are_one_line_and_exit_2(files, capsys):
    paths = files(base=GOOD)
    for options, said in (
        (["--worst", "-1"], "--worst -1 is below 0"),
        (["--to", "elvish"], "unknown language 'elvish'"),
        (["--languages", "de"], "holds no utterance in 'de'"),
        (["--task", "sing"], "translate"),
    ):
        assert run(["evaluate", "outputs", *paths, *options]) == 2
        (problem,) = capsys.readouterr().err.splitlines()
        assert said in problem
    assert run(["evaluate", "outputs", paths[0]]) == 2  # no file of outputs
    assert len(capsys.readouterr().err.splitlines()) == 1


# ---------------------------------------------------------------- a metric from outside

TOY = """
from interlingua.errors import UsageError
from interlingua.metrics import Metric, ratio

def lengths(outputs):
    pairs = {i: (float(len(outputs.hypotheses.get(i, ""))), float(len(r))) for i, r in outputs.references.items()}
    return ratio(pairs, outputs.clusters, "length-ratio")

def broken(outputs):
    raise UsageError("the model isn't here; fetch it")

LENGTH, BROKEN = Metric("length", "Length ratio", lengths), Metric("b", "Broken", broken)
BLEU = Metric("bleu", "Another BLEU", lengths)
"""


def test_a_metric_from_outside_is_named_by_its_path_and_shown_everywhere(files, tmp_path, capsys, monkeypatch):
    (tmp_path / "toy_metric.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    out = tmp_path / "out"
    command = ["evaluate", "outputs", *files(poor=POOR, good=GOOD), "--out", str(out)]
    assert run([*command, "--metric", "toy_metric:LENGTH", "--metric", "toy_metric:BROKEN"]) == 0
    printed = capsys.readouterr().out
    saved, _ = load_results(out)
    poor = next(r for r in saved["outputs"] if r["system"] == "poor" and "source" not in r)
    lengths = [sum(len(of(s, texts)[i]) for i in of(s, texts)) for s in ("es", "fr") for texts in (POOR, GOOD)]
    assert poor["more"]["length"]["value"] == pytest.approx((lengths[0] / lengths[1] + lengths[2] / lengths[3]) / 2)
    assert poor["more"]["length"]["signature"].startswith("length-ratio|groups:2|bootstrap:clusters:4|")
    assert poor["more"]["b"]["reason"] == "the model isn't here; fetch it"
    compared = next(r for r in saved["outputs_compared"] if "source" not in r)
    assert compared["more"]["length"]["value"] == pytest.approx(1 - poor["more"]["length"]["value"])
    page = (out / "report.html").read_text(encoding="utf-8")
    for shown in (printed, page):
        assert "Length ratio" in shown
        assert "length-ratio|groups:1" in shown
    assert "Broken isn't scored: the model isn't here; fetch it" in printed
    assert [r["bleu"] for r in saved["outputs"]] == [
        r["bleu"] for r in results_of(files(poor=POOR, good=GOOD))["outputs"]
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gleu", "unknown metric 'gleu'; use one of bleu, chrf++, chrf, off_target, error, or module:attribute"),
        ("toy_metric:NONE", "metric 'toy_metric:NONE': toy_metric:NONE can't be imported"),
        ("toy_metric:BLEU", "--metric: 'bleu' is a metric that is there already"),
    ],
)
def test_a_metric_that_isnt_there_is_one_line(files, tmp_path, capsys, monkeypatch, name, message):
    (tmp_path / "toy_metric.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    assert run(["evaluate", "outputs", *files(base=GOOD), "--metric", name]) == 2
    (problem,) = capsys.readouterr().err.splitlines()
    assert message in problem


# ---------------------------------------------------------------- the report


@pytest.fixture
def page_of(tmp_path):
    def build(results) -> str:
        save_results(tmp_path / "page", results)
        return write_report(tmp_path / "page").read_text(encoding="utf-8")

    return build


def test_the_report_shows_scores_reasons_durations_and_the_worst(files, page_of, tmp_path, monkeypatch):
    monkeypatch.setenv("INTERLINGUA_CACHE", str(tmp_path / "empty"))
    results = results_of(files(poor=POOR, good=GOOD), comet_model="Unbabel/wmt22-comet-da", worst=4)
    page = page_of(results)
    row = row_of(results["outputs"], system="poor", source="fr")
    low, high = row["chrf++"]["ci"]
    assert f'{row["chrf++"]["value"]:.1f}<span class="sub">[{low:.1f}–{high:.1f}]</span>' in page
    assert page.count("not scored") == 6 + 3 + 8
    assert "COMET isn&#39;t scored: COMET&#39;s environment isn&#39;t set up" in page
    row = row_of(results["outputs_compared"], source=None)
    assert f"{row['bleu']['p_bootstrap']:.3f} / {row['bleu']['p_randomisation']:.3f}" in page
    for text in ("French", "All 2", "3-10 s", "unknown", "good − poor", "tok:zh", "You have three new messages"):
        assert text in page
    assert page.count("<dl>") == 8
    assert page.count("<summary>1 more</summary>") == 2


def test_comet_has_four_digits_and_its_differences_too(page_of):
    score = {"value": 0.84129, "ci": [0.8, 0.9], "n": 4, "signature": "comet|model:x"}
    base = {"system": "a", "task": "translate", "source": "fr", "sources": ["fr"], "target": "zh", "n": 4}
    difference = {**score, "value": -0.01234, "ci": [-0.1, 0.1], "p_bootstrap": 0.5, "p_randomisation": 0.25}
    page = page_of(
        {"outputs": [{**base, "comet": score}], "outputs_compared": [{**base, "against": "b", "comet": difference}]}
    )
    assert '0.8413<span class="ci">[0.8000–0.9000]</span>' in page
    assert '−0.0123<span class="ci">[−0.1000, +0.1000]</span><span class="sub">p 0.500 / 0.250</span>' in page


def test_text_of_outputs_is_escaped_and_sparse_rows_make_a_page(files, page_of):
    attack = "<script>alert('x')</script>"
    page = page_of(results_of(files(**{"base": {**GOOD, "fr/0": attack}})))
    assert "<script" not in page
    assert "&lt;script&gt;alert" in page
    sparse = {"system": attack, "task": "transcribe"}
    page = page_of(
        {
            "outputs": [sparse],
            "outputs_compared": [sparse],
            "outputs_by_duration": [sparse],
            "worst": [{"system": attack, "task": "translate"}],
        }
    )
    assert "<script" not in page
