"""Every language beside its distance to a pivot: correlations by hand, and the recipe from files to the report."""

import doctest
import json
from itertools import permutations

import msgspec
import numpy as np
import pytest

from helpers import load_results, sweep, utterance, write_wav
from interlingua.cli import run
from interlingua.corpora.distance import language_distance
from interlingua.encoding.store import FrameStore
from interlingua.errors import CorpusError, UsageError
from interlingua.experiments import robustness
from interlingua.experiments.corpus_source import CorpusSource
from interlingua.experiments.recipes import read_recipe
from interlingua.experiments.retrieval import Corpus, measure
from interlingua.experiments.robustness import (
    RobustnessStudy,
    both_ways,
    compared,
    correlations,
    run_robustness_study,
)
from interlingua.experiments.utterances import UtteranceLog
from interlingua.metrics import correlation
from interlingua.metrics.correlation import MOST_EXACT, rank_correlation
from interlingua.report import studies as report
from interlingua.report.tables import Picture, Table
from interlingua.results import Distant, Results, Retrieval, Robustness, load_utterances
from interlingua.types import AudioRef, Frames, FrameSpec, Score
from trees import fleurs_tree

# ---------------------------------------------------------------- rank correlation


def test_the_examples_of_the_docstrings():
    assert doctest.testmod(correlation).attempted
    assert not doctest.testmod(correlation).failed


def slow_ranks(values):
    """Places from 1; equal values share the mean of theirs."""
    ordered = sorted(values)
    return [np.mean([place for place, v in enumerate(ordered, start=1) if v == value]) for value in values]


def slow_spearman(a, b):
    return float(np.corrcoef(slow_ranks(a), slow_ranks(b))[0, 1])


@pytest.mark.parametrize(
    ("a", "b", "value", "p"),
    [
        ([1, 2, 3], [5, 6, 9], 1.0, 2 / 6),  # the order itself and its reverse, of six
        ([1, 2, 3, 4], [9, 7, 3, 1], -1.0, 2 / 24),
        # 1 - 6 (0 + 1 + 1 + 0) / (4 * 15); of 24 orders 2 give 1 either way, 6 give 0.8
        ([1, 2, 3, 4], [10, 30, 20, 40], 0.8, 8 / 24),
    ],
)
def test_correlations_by_hand(a, b, value, p):
    found = rank_correlation(a, b)
    assert found.value == pytest.approx(value)
    assert found.p == pytest.approx(p)
    assert found.n == len(a)


@pytest.mark.parametrize("seed", range(5))
def test_it_equals_a_slow_one_with_ties(seed):
    random = np.random.default_rng(seed)
    a, b = random.integers(0, 4, 6).tolist(), random.integers(0, 9, 6).tolist()
    found = rank_correlation(a, b)
    assert found.value == pytest.approx(slow_spearman(a, b))
    orders = [slow_spearman(a, order) for order in permutations(b)]
    assert found.p == pytest.approx(np.mean([abs(v) >= abs(found.value) - 1e-9 for v in orders]))


def test_of_many_values_some_orders_are_drawn():
    a = list(range(MOST_EXACT + 3))
    found = rank_correlation(a, [v**2 for v in a])
    assert found.value == pytest.approx(1)
    assert found.p == pytest.approx(1 / 10_001)
    assert "seed" in found.signature
    assert rank_correlation(a, a) == rank_correlation(a, a)
    noise = np.random.default_rng(1).normal(size=len(a)).tolist()
    assert rank_correlation(a, noise).p > 0.05


def test_what_has_no_correlation():
    assert rank_correlation([1, 2], [1, 2]).value is None
    assert rank_correlation([1, 1, 1], [1, 2, 3]).p is None
    assert rank_correlation([], []).n == 0
    with pytest.raises(ValueError, match="3 values and 2"):
        rank_correlation([1, 2, 3], [1, 2])


def row(language, seen, distance, bleu, r1) -> Distant:
    ways = {"to_pivot": (language, "en"), "from_pivot": ("en", language)}
    recall = {
        way: {"seqsim": Retrieval(query=q, candidate=c, method="seqsim", r1=r1, r1_ci=(0.0, 1.0), chance=0.1)}
        for way, (q, c) in ways.items()
    }
    return Distant(
        language=language,
        seen=seen,
        token="fr",
        n=10,
        distance={"typological": distance, "genealogical": None if distance is None else 1.0},
        bleu=None if bleu is None else Score(value=bleu),
        **recall,
    )


def test_what_is_correlated():
    rows = [
        row("fr", True, 0.1, 30.0, 0.9),
        row("ru", True, 0.2, 20.0, 0.8),
        row("tr", True, 0.3, 25.0, 0.7),
        row("wo", False, 0.4, None, 0.1),
        row("gv", False, None, 1.0, 0.1),
    ]
    found = {(c.measure, c.kind, c.seen_only): c for c in correlations(rows, ["seqsim"])}
    recall = found["to_pivot", "typological", False]
    assert (recall.value, recall.n, recall.method) == (-1, 4, "seqsim")  # gv has no distance
    assert found["to_pivot", "typological", True].n == 3
    bleu = found["bleu", "typological", False]
    assert (bleu.value, bleu.n) == (-0.5, 3)  # wo has no BLEU
    assert found["bleu", "genealogical", False].value is None  # all as far
    assert found["wer", "typological", False].n == 0


# ---------------------------------------------------------------- what is compared


def test_only_sentences_of_every_language_are_compared():
    held = {"en": "abc", "fr": "abd", "wo": "bad"}
    spoken = [utterance(code, m) for code, meanings in held.items() for m in meanings]
    kept, rules = compared(spoken, "en", "here", True)
    assert [u.id for u in kept] == ["en/a", "en/b", "fr/a", "fr/b", "wo/b", "wo/a"]
    assert rules == ["2 of 4 sentences are in all 3 languages, and are compared"]
    assert compared(spoken, "en", "here", False) == (spoken, [])


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"fr": "ab", "de": "ab"}, r"here: no en \(the pivot\) and another language; it has fr, de"),
        ({"en": "ab"}, "and another language; it has en"),
        ({"en": "ab", "fr": "bc", "wo": "d"}, "no sentence is in all of en, fr, wo; leave out wo, which has 1"),
    ],
)
def test_what_can_not_be_compared(held, message):
    spoken = [utterance(code, m) for code, meanings in held.items() for m in meanings]
    with pytest.raises(CorpusError, match=message):
        compared(spoken, "en", "here", True)
    with pytest.raises(CorpusError, match="no `meaning`"):
        compared([utterance("en", None, id="en/1")], "en", "here", True)


def test_settings_are_checked(tmp_path):
    corpus = CorpusSource(name="prompts", languages=("es", "fr"))
    for settings, message in (
        ({}, "pivot: 'en' isn't among the corpus's languages"),
        ({"pivot": "elvish"}, "elvish"),
        ({"pivot": "es", "methods": ("nothing",)}, "unknown method 'nothing'"),
        ({"pivot": "es", "methods": ()}, "methods: name one or more"),
        ({"pivot": "es", "tokens": {"elvish": ("es",)}}, "elvish"),
        ({"pivot": "es", "context": "half"}, "--context 'half'"),
        ({"pivot": "es", "pool": 0}, "pool: 0"),
    ):
        with pytest.raises(UsageError, match=message):
            RobustnessStudy(corpus=corpus, out=tmp_path, **settings)


@pytest.mark.parametrize("name", ["robustness-fleurs", "robustness-prompts"])
def test_the_recipes_are_read(name, request):
    study = read_recipe(request.config.rootpath / "recipes" / f"{name}.yaml")
    assert isinstance(study, RobustnessStudy)
    assert study.corpus.name in study.plan()
    assert all(language_distance(code, study.pivot) is not None for code in study.corpus.languages)


def test_pairs_one_by_one_give_what_all_at_once_give(tmp_path):
    random = np.random.default_rng(0)
    spoken = [utterance(code, f"m{m}") for code in ("en", "fr", "wo") for m in range(12)]
    meant = {u.meaning: random.normal(size=(6, 8)) for u in spoken}
    store = FrameStore.create(tmp_path / "s", FrameSpec("tiny", "r", 1, "speech", 1, "float32", "float32"), 8)
    noisy = [(meant[u.meaning] + 0.7 * random.normal(size=(6, 8))).astype(np.float32) for u in spoken]
    store.write([Frames(u.id, values, 6) for u, values in zip(spoken, noisy, strict=True)])
    methods = ("whitened-position-csls", "seqsim")
    pairs = [("fr", "en"), ("wo", "en")]
    told = UtteranceLog(spoken)
    at_once = measure(Corpus.of(spoken, store), methods, pairs=pairs, log=told).rows
    for _ in range(2):  # the second time from what is kept
        found, log = [], UtteranceLog(spoken)
        for code, pivot in pairs:
            pair = [u for u in spoken if u.language in (code, pivot)]
            found += both_ways(pair, pivot, store, methods, tmp_path / "kept", log, compute="float32", device="cpu")
        assert [r.retrieval for r in log.results] == [r.retrieval for r in told.results]
        assert sorted(found, key=str) == sorted(at_once, key=str)
    assert len(list((tmp_path / "kept").iterdir())) == 4
    assert 0 < min(r.r1 for r in found) < 1


def test_languages_that_share_no_sentence_have_no_retrieval(tmp_path):
    pair = [utterance("en", "a"), utterance("fr", "b")]
    store = FrameStore.create(tmp_path / "s", FrameSpec("tiny", "r", 1, "speech", 1, "float32", "float32"), 8)
    log = UtteranceLog(pair)
    assert both_ways(pair, "en", store, ("seqsim",), tmp_path / "kept", log, compute="float32", device="cpu") == []


# ---------------------------------------------------------------- from FLEURS' files to the report

LANGUAGES = ("en", "fr", "tr", "wo", "kea")
MEANINGS = ("one", "two", "three", "four")


@pytest.fixture
def fleurs(tmp_path):
    """Five sentences, one of them not in French, in five languages, two without a token; each has its own pitch."""
    found = []
    for n, language in enumerate(LANGUAGES):
        for m, meaning in enumerate((*MEANINGS, "five")):
            if (language, meaning) == ("fr", "five"):
                continue
            path = write_wav(tmp_path / "wav" / f"{language}-{meaning}.wav", sweep(0.5 + 0.1 * m, 200 * 2**m, seed=n))
            text = f"number {meaning} in {language}"
            found.append(utterance(language, meaning, audio=AudioRef(str(path)), text=text, split="test"))
    return fleurs_tree(tmp_path / "data", found)


@pytest.fixture
def recipe(fleurs, tiny_whisper_folder, tmp_path):
    path = tmp_path / "robustness.yaml"
    settings = {
        "recipe": "robustness",
        "out": str(tmp_path / "out"),
        "corpus": {"name": "fleurs", "root": str(fleurs), "split": "test", "positives": "first"},
        "model": str(tiny_whisper_folder),
        "methods": ["seqsim", "whitened-position-csls", "duration"],
        "tokens": {"wolof": ["fr", "ha"]},
    }
    path.write_text(json.dumps(settings))
    return path


def test_from_the_publishers_files_to_the_report(recipe, tmp_path, capsys):
    assert run(["run", str(recipe), "--dry-run"]) == 0
    told = capsys.readouterr().err
    assert "retrieval: to encode: 20 utterances" in told  # 4 sentences of every language
    assert "translation: to encode: 16 utterances" in told
    assert not (tmp_path / "out" / "results.json").exists()
    assert run(["run", str(recipe)]) == 0
    told = capsys.readouterr().err
    assert "skipped whitened-position-csls, which takes 10 clusters" in told
    results, _ = load_results(tmp_path / "out")
    found = results["robustness"]
    assert found["rules"] == ["4 of 5 sentences are in all 5 languages, and are compared"]
    rows = {r["language"]: r for r in found["languages"]}
    assert list(rows) == ["fr", "kea", "tr", "wo"]
    assert [r["seen"] for r in rows.values()] == [True, False, True, False]
    assert rows["fr"]["token"] == "fr"
    assert rows["wo"]["token"] in ("fr", "ha")
    assert rows["wo"]["family"] == "Atlantic-Congo"
    for code, r in rows.items():
        assert r["distance"] == {kind: language_distance(code, "en", kind) for kind in ("typological", "genealogical")}
        assert set(r["to_pivot"]) == set(r["from_pivot"]) == {"seqsim", "duration"}
        assert (r["to_pivot"]["seqsim"]["query"], r["to_pivot"]["seqsim"]["candidate"]) == (code, "en")
        assert (r["from_pivot"]["seqsim"]["query"], r["from_pivot"]["seqsim"]["candidate"]) == ("en", code)
        assert r["to_pivot"]["seqsim"]["chance"] == 0.25
        assert r["n"] == r["bleu"]["n"] == r["wer"]["n"] == 4
        assert len(r["chrf"]["ci"]) == 2
    assert [r["language"] for r in results["unseen"]] == list(rows)
    assert {c["n"] for c in found["correlations"] if not c["seen_only"]} == {4}
    assert {c["n"] for c in found["correlations"] if c["seen_only"]} == {2}
    before = {r.utterance.id: r for r in load_utterances(tmp_path / "out")}
    for r in before.values():
        others = ["en"] if r.utterance.language != "en" else ["fr", "kea", "tr", "wo"]
        assert {m: sorted(ranks) for m, ranks in r.retrieval.items()} == {"seqsim": others, "duration": others}
        assert len(r.transcripts) == (r.utterance.language != "en")
    for code, found_row in rows.items():
        hits = [r.retrieval["seqsim"]["en"].rank == 1 for r in before.values() if r.utterance.language == code]
        assert found_row["to_pivot"]["seqsim"]["r1"] == np.mean(hits)
        hits = [r.retrieval["seqsim"][code].rank == 1 for r in before.values() if r.utterance.language == "en"]
        assert found_row["from_pivot"]["seqsim"]["r1"] == np.mean(hits)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "English → Wolof" in page.partition('id="queries"')[2]
    assert ">Transcripts</h2>" in page
    for text in ("Language distance", "Correlations", "Kabuverdianu", "hollow diamonds", "Wolof"):
        assert text in page
    assert (tmp_path / "out" / "tables" / "correlations.csv").exists()
    outputs = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "outputs").iterdir()}
    capsys.readouterr()
    assert run(["run", str(recipe)]) == 0
    assert capsys.readouterr().err.count("to encode: 0 utterances") == 2
    again, _ = load_results(tmp_path / "out")
    assert again["robustness"] == found
    kept = {r.utterance.id: r for r in load_utterances(tmp_path / "out")}  # the ranks from what an earlier run left
    assert kept.keys() == before.keys()
    assert all(kept[i].retrieval == before[i].retrieval for i in kept)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "outputs").iterdir()} == outputs


def test_one_model_is_held_through_retrieval(wav_manifest, tiny_whisper_folder, tmp_path, monkeypatch):
    wav_manifest.write_text(wav_manifest.read_text().replace('"audio":{', '"text":"so it is","audio":{'))
    held = []

    class Kept(robustness.KeptDecoder):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            held.append(self.encoding)

    def encode(utterances, encoder, *args, **settings):
        held.append(encoder._whisper)
        raise CorpusError("far enough")

    monkeypatch.setattr(robustness, "KeptDecoder", Kept)
    monkeypatch.setattr(robustness, "encode_manifest", encode)
    corpus = CorpusSource(name="manifest", root=wav_manifest)
    study = RobustnessStudy(
        corpus=corpus, out=tmp_path / "out", pivot="de", model=str(tiny_whisper_folder), methods=("seqsim",)
    )
    with pytest.raises(CorpusError, match="far enough"):
        run_robustness_study(study, log=lambda line: None)
    assert held[0] is held[1]


def test_another_pivot_and_a_recording_that_can_not_be_read(wav_manifest, tiny_whisper_folder, tmp_path):
    lines = wav_manifest.read_text().replace('"audio":{', '"text":"so it is","audio":{')
    wav_manifest.write_text(lines)
    (tmp_path / "audio" / "en" / "two.wav").write_bytes(b"no audio")
    study = RobustnessStudy(
        corpus=CorpusSource(name="manifest", root=wav_manifest),
        out=tmp_path / "out",
        pivot="de",
        model=str(tiny_whisper_folder),
        methods=("seqsim",),
    )
    results, _ = load_results(run_robustness_study(study, log=lambda line: None))
    rows = {r["language"]: r for r in results["robustness"]["languages"]}
    assert list(rows) == ["en", "fr"]
    assert [line.split(":")[0] for line in results["failures"]] == ["en/two"]
    assert rows["en"]["wer"]["n"] == rows["en"]["to_pivot"]["seqsim"]["n"] == 3  # the lost one counts
    assert rows["en"]["to_pivot"]["seqsim"]["r1"] < 1
    assert "bleu" not in rows["en"]  # English isn't translated into English
    assert rows["fr"]["bleu"]["n"] == 3


def test_a_language_whose_distance_is_not_known_is_named_in_the_report():
    rows = [
        row("fr", True, 0.2, 30.0, 0.9),
        row("wo", False, 0.3, 2.0, 0.2),
        row("gv", False, None, 1.0, 0.1),
    ]
    found = Robustness(pivot="en", methods=["seqsim"], languages=rows, correlations=correlations(rows, ["seqsim"]))
    results = Results(robustness=found)
    blocks = report.distances(results)
    pictures = [b.svg for b in blocks if isinstance(b, Picture)]
    (made,) = [b for b in blocks if isinstance(b, Table)]
    assert len(pictures) == 2
    assert all("Wolof" in p and "French" in p and "gv" not in p for p in pictures)
    assert "chance" in pictures[0]
    assert "A distance isn't known of gv." in made.caption
    assert [[str(r[0].text) for r in body] for body in made.bodies] == [["French"], ["Wolof", "gv"]]
    (table,) = [b for b in report.correlations(results) if isinstance(b, Table)]
    assert table.head[-1] == "p, with a token"
    assert not report.distances(Results())
    assert not report.correlations(Results())


@pytest.mark.model
def test_real_speech_in_the_layout_of_fleurs(prompts_manifest, tmp_path):
    """Spanish prompts as Spanish and, relabelled, as Asturian, which has no token: both are found and translated."""
    spoken = [u for u in prompts_manifest if u.language in ("en", "es") and 1.5 < (u.duration or 0) < 4]
    shared = {u.meaning for u in spoken if u.language == "en"} & {u.meaning for u in spoken if u.language == "es"}
    few = sorted(shared)[:5]
    spoken = [u for u in spoken if u.meaning in few]
    spoken += [msgspec.structs.replace(u, language="ast") for u in spoken if u.language == "es"]
    study = RobustnessStudy(
        corpus=CorpusSource(name="fleurs", root=fleurs_tree(tmp_path / "data", spoken), split="test"),
        out=tmp_path / "out",
        methods=("seqsim",),
        tokens={"ast": ("gl", "es")},
        context="speech+1",
    )
    results, _ = load_results(run_robustness_study(study, log=lambda line: None))
    rows = {r["language"]: r for r in results["robustness"]["languages"]}
    assert not rows["ast"]["seen"]
    assert rows["es"]["token"] == "es"
    for r in rows.values():
        assert r["n"] == 5
        assert r["to_pivot"]["seqsim"]["r1"] >= 2 / 5 > r["to_pivot"]["seqsim"]["chance"]
        assert r["chrf"]["value"] > 20
        assert r["wer"]["value"] < 80
