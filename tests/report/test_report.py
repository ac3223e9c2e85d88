"""The report: built from saved results alone, true to the numbers, self-contained and safe."""

import json
import re
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_report_transfer import fake_transfer, page_of, sections_of

from helpers import records, save_results
from interlingua.cli import run
from interlingua.errors import ResultsError
from interlingua.report import alignment_heatmap, recall_heatmap, write_report
from interlingua.report.plots import spread
from interlingua.report.retrieval import near_chance, opening
from interlingua.report.tables import percent
from interlingua.results import SCHEMA
from interlingua.retrieval.methods import DEFAULT_METHOD

LANGUAGES = ("en", "es", "fr", "it", "ru")
SIGNATURE = "positives:all-recordings|unanswerable:skipped|ties:pessimistic|bootstrap:clusters|n:2000|seed:12345|ci:95"
EASE = {"en": 0.42, "es": 0.30, "fr": 0.40, "it": 0.48, "ru": 0.24}
LEVELS = {"seqsim": 1.0, "mean-pool": 0.55, "duration": 0.06, "seqsim:log-mel": 0.09}


def score(query: str, candidate: str, method: str, r1: float, **changes: Any) -> dict[str, Any]:
    half = 0.06 * min(1.0, r1 * 6)
    return {
        "query": query,
        "candidate": candidate,
        "method": method,
        "n": 215,
        "n_candidates": 215,
        "n_clusters": 171,
        "r1": r1,
        "r1_ci": [max(0.0, r1 - half), min(1.0, r1 + half)],
        "r5": min(1.0, r1 * 1.5),
        "r10": min(1.0, r1 * 1.7),
        "mrr": min(1.0, r1 * 1.2),
        "mrr_ci": [max(0.0, r1 * 1.2 - half), min(1.0, r1 * 1.2 + half)],
        "r1_cluster": min(1.0, r1 * 1.1),
        "chance": 1 / 215,
        "chance_r5": 5 / 215,
        "chance_r10": 10 / 215,
        "signature": SIGNATURE,
        **changes,
    }


def words(text: str, seconds: float) -> list[dict[str, Any]]:
    parts = text.split()
    lengths = np.array([len(w) + 1 for w in parts], dtype=float)
    ends = np.cumsum(lengths) / lengths.sum() * (seconds - 0.3) + 0.1
    starts = np.concatenate([[0.1], ends[:-1]])
    return [
        {"word": w, "start": round(float(s), 2), "end": round(float(e), 2)}
        for w, s, e in zip(parts, starts, ends, strict=True)
    ]


def fake_results() -> dict[str, Any]:
    """Results of the shape and size that the demo writes."""
    rng = np.random.default_rng(1)
    retrieval = []
    for query, candidate in permutations(LANGUAGES, 2):
        base = (EASE[query] * EASE[candidate]) ** 0.5 * 1.35 - 0.03 + rng.normal(0, 0.01)
        for method, level in LEVELS.items():
            retrieval.append(score(query, candidate, method, round(base * level * 215) / 215))
        if {query, candidate} <= {"en", "fr", "it"}:
            retrieval.append(score(query, candidate, "seqsim:random-weights", 5 / 215))
    text_en = "Please enter the extension of the person you are looking for, followed by the pound key."
    text_fr = "Veuillez composer le numéro de poste de la personne que vous cherchez, suivi du dièse."
    credits_by_language = {
        "en": ("Allison Smith", "en-US", "CC-BY-SA 3.0"),
        "es": ("Allison Smith", "es-MX", "CC-BY-SA 3.0"),
        "fr": ("June Wallack", "fr-CA", "CC-BY-SA 3.0"),
        "it": ("Carlo Flora", "it-IT", "CC-BY 3.0"),
        "ru": ("Maxim Topal (IvrvoiceRU)", "ru-RU", "CC-BY 3.0"),
    }
    samples = [
        ("es", "Por favor, introduzca su contraseña.", "Please enter your password.", "Please enter your password."),
        ("fr", "Vous n'avez pas de nouveaux messages.", "You have no new messages.", "You don't have a new message."),
        ("it", "La conferenza è ora bloccata.", "The conference is now locked.", "The conference is now closed."),
        ("ru", "Вы вошли в конференцию.", "You have entered the conference.", "You entered the conference."),
    ]  # fmt: skip
    return {
        "title": "One sentence, five languages: retrieval in Whisper's shared space",
        "provenance": {
            "command": "interlingua demo --out runs/demo",
            "started": "2026-11-22T16:20:00+00:00",
            "seconds": 412.3,
            "version": "0.1.0",
            "commit": "139b494aa001",
            "dirty": True,
            "python": "3.11.2",
            "platform": "Linux-6.1.0-x86_64-with-glibc2.36",
            "packages": {"torch": "2.12.0", "numpy": "2.3.1", "ctranslate2": "4.6.0", "av": None},
            "device": {"name": "AMD EPYC 9V74", "threads": 2, "compute": "float32"},
        },
        "settings": {
            "model": "base",
            "layer": 6,
            "context": "speech",
            "pooling": 1,
            "normalise": False,
            "languages": list(LANGUAGES),
            "reduction": "f1",
        },
        "corpus": {
            "title": "Asterisk core sounds 1.6.1 (Digium and contributors)",
            "n_meanings": 215,
            "n_clusters": 171,
            "rules": [
                "Prompts that are recorded in all five languages, with at least four English words.",
                "Silences and beeps are left out: they would count as perfect retrieval.",
            ],
            "languages": [
                {"language": code, "n": 215, "seconds": 1000.0 + 40 * i, "voice": voice, "variety": variety,
                 "licence": licence}
                for i, (code, (voice, variety, licence)) in enumerate(credits_by_language.items())
            ],
        },
        "retrieval": retrieval,
        "translation": [
            {
                "source": code, "target": "en", "system": "base, greedy", "n": 215,
                "bleu": {"value": bleu, "ci": [bleu - 2.1, bleu + 2.4], "n": 215,
                         "signature": "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.5.1"},
                "chrf": {"value": 2 * bleu + 11, "ci": [2 * bleu + 9, 2 * bleu + 13.5], "n": 215,
                         "signature": "nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.5.1"},
            }
            for code, bleu in (("es", 18.3), ("fr", 14.7), ("it", 15.2), ("ru", 7.4))
        ],
        "samples": [
            {"id": f"{source}/{i}", "source": source, "target": "en", "transcript": said, "reference": reference,
             "hypothesis": hypothesis}
            for i, (source, said, reference, hypothesis) in enumerate(samples * 2)
        ],
        "alignment": {
            "query": {"id": "en/dir-x", "language": "en", "text": text_en, "seconds": 5.9,
                      "words": words(text_en, 5.9)},
            "candidate": {"id": "fr/dir-x", "language": "fr", "text": text_fr, "seconds": 6.8,
                          "words": words(text_fr, 6.8)},
            "precision": 0.712, "recall": 0.694, "f1": 0.703,
        },
        "similarity": {"query": "en", "candidate": "fr", "method": "seqsim"},
        "timings": {"corpus": 4.2, "encode": 251.0, "seqsim": 61.4, "translate": 80.9},
    }  # fmt: skip


def fake_arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    i, j = np.arange(150)[:, None] / 150, np.arange(170)[None, :] / 170
    path = np.exp(-(((i - j - 0.05 * np.sin(9 * i)) / 0.05) ** 2)) + 0.6 * np.exp(-(((i + 0.3 - j) / 0.03) ** 2))
    alignment = 0.35 + 0.4 * path + 0.05 * np.sin(40 * i) * np.cos(35 * j) + 0.03 * rng.standard_normal((150, 170))
    similarity = 0.6 + 0.03 * rng.standard_normal((215, 215)) + 0.02 * rng.standard_normal((1, 215))
    similarity += 0.1 * np.eye(215)
    return {"alignment": alignment.astype(np.float32), "similarity": similarity.astype(np.float32)}


def set_r1(results: dict[str, Any], method: str, r1: float, *, pair: tuple[str, str] | None = None) -> None:
    for i, row in enumerate(results["retrieval"]):
        if row["method"] == method and pair in (None, (row["query"], row["candidate"])):
            results["retrieval"][i] = score(row["query"], row["candidate"], method, r1)


def lead_of(results: dict[str, Any]) -> str:
    headline, lead = opening(records(results))
    return " ".join([*(headline or ()), *lead])


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of the fake results."""
    return page_of(tmp_path_factory.mktemp("report"), fake_results(), fake_arrays())


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip drawing where only the page's text matters: it takes most of the time."""
    monkeypatch.setattr("interlingua.report.plots.svg", lambda *args, **options: "<svg></svg>")


def test_page_holds_every_section_in_order(page: str) -> None:
    assert sections_of(page) == [
        "retrieval", "pairs", "methods", "alignment", "translation", "corpus", "settings", "provenance",
        "timings", "rebuild",
    ]  # fmt: skip
    assert "One sentence, five languages" in page
    assert page.count("<svg") == 1 + 4 + 1 + 1  # SeqSim, the other methods, scores, alignment
    assert re.findall(r'<a href="#([\w-]+)">', page) == sections_of(page)


def test_page_is_well_formed_and_says_what_its_parts_are(page: str) -> None:
    from html.parser import HTMLParser

    open_tags: list[str] = []
    void = {"meta", "link", "br", "img", "hr"}

    class Checker(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag not in void:
                open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

    Checker().feed(page)
    assert open_tags == []
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert '<html lang="en">' in page
    assert page.count('role="img" aria-label="') == page.count("<svg")
    assert "<main>" in page
    assert page.count('<th scope="row">') == page.count("<tr>") + page.count("<tr class") - page.count("<thead>")


def test_page_loads_nothing_from_elsewhere_and_its_policy_forbids_it(page: str) -> None:
    loads = re.findall(r'\b(?:src|srcset|href|action|data|poster)="([^"]*)"', page)
    loads += re.findall(r"url\(([^)]*)\)", page)
    assert loads
    assert [where for where in loads if not where.startswith(("#", "data:"))] == []
    assert "@import" not in page
    assert "<script" not in page
    assert "<link" not in page
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert policy
    assert "default-src &#39;none&#39;" in policy[1]
    assert "script-src &#39;none&#39;" in policy[1]


def test_report_rebuilt_is_the_same_bytes(tmp_path: Path, page: str) -> None:
    assert page_of(tmp_path, fake_results(), fake_arrays()) == page
    assert sorted(p.name for p in tmp_path.iterdir()) == ["arrays.npz", "report.html", "results.json", "tables"]


def test_page_shows_the_numbers(page: str) -> None:
    row = next(r for r in fake_results()["retrieval"] if r["query"] == "en" and r["candidate"] == "it")
    low, high = row["r1_ci"]
    assert f'{100 * row["r1"]:.1f}<span class="ci">[{100 * low:.1f}–{100 * high:.1f}]</span>' in page
    assert '18.3<span class="ci">[16.2–20.7]</span>' in page
    for text in (SIGNATURE, "tok:13a", "nc:6", "Carlo Flora", "CC-BY-SA 3.0", "139b494aa001", "4 min 11 s",
                 "torch 2.12.0", "AMD EPYC 9V74", "interlingua demo --out runs/demo", "interlingua report .",
                 "uncommitted changes", "Вы вошли в конференцию.", "Silences and beeps"):  # fmt: skip
        assert text in page


def test_changed_number_changes_summary_table_and_heat_map(tmp_path: Path, page: str) -> None:
    assert "91.2" not in page
    results = fake_results()
    set_r1(results, "seqsim", 0.912, pair=("fr", "es"))
    changed = page_of(tmp_path, results)
    assert "Best: French → Spanish, 91%." in changed
    assert '91.2<span class="ci">' in changed  # table
    assert re.search(r"<text[^>]*>91\.2</text>", changed)  # heat map


def test_the_main_method_is_the_default_one_or_a_robustness_studys_first() -> None:
    def run(*methods: str) -> dict[str, Any]:
        return {"retrieval": [{"query": "en", "candidate": "fr", "method": m, "r1": 0.5} for m in methods]}

    found = records(run("mine", "duration", "seqsim", DEFAULT_METHOD)).methods
    assert found == [DEFAULT_METHOD, "seqsim", "duration", "mine"]
    assert records(run("mean-pool", "seqsim")).methods == ["seqsim", "mean-pool"]
    study = {"robustness": {"pivot": "en", "methods": ["seqsim", DEFAULT_METHOD], "languages": []}}
    assert records(run("seqsim", DEFAULT_METHOD)).main_method == DEFAULT_METHOD
    assert records(study).main_method == "seqsim"
    assert records({**study, **run("seqsim", DEFAULT_METHOD)}).main_method == "seqsim"  # as runs are compared
    assert records({}).main_method is None


def test_lead_names_mean_chance_best_and_worst() -> None:
    results = fake_results()
    set_r1(results, "seqsim", 0.4)
    set_r1(results, "seqsim", 0.23, pair=("ru", "es"))
    set_r1(results, "seqsim", 0.6, pair=("it", "en"))
    lead = lead_of(results)
    assert "40% mean R@1 by SeqSim over 20 pairs of 5 languages; chance is 0.5%" in lead
    assert "ranked first among 215 in another language." in lead
    assert "Best: Italian → English, 60%. Worst: Russian → Spanish, 23%." in lead
    single = lead_of({"retrieval": [score("en", "fr", "seqsim", 0.42, r1_ci=[0.36, 0.48])]})
    assert "42% R@1 by SeqSim, English → French, 95% interval 36% to 48%; chance is 0.5%" in single


@pytest.mark.usefixtures("undrawn")
def test_pair_near_chance_is_named(tmp_path: Path) -> None:
    results = fake_results()
    results["retrieval"] = [r for r in results["retrieval"] if (r["query"], r["candidate"]) != ("ru", "es")]
    results["retrieval"].append(score("ru", "es", "seqsim", 2 / 215, r1_ci=[0.0, 0.023]))
    results["retrieval"][-1]["n_unanswerable"] = 98
    near = "Russian → Spanish: 0.9%, 95% interval 0.0% to 2.3%; chance 0.5%"
    (line,) = near_chance(records(results))
    assert line == f"{near}. 98 of 313 queries have no relevant candidate and are skipped"
    changed = page_of(tmp_path, results)
    assert "98 more are skipped, whose sentence nobody recorded in the other language." in changed
    assert "Queries without a relevant candidate, skipped: 98." in changed
    assert "A pair near chance" in changed
    assert near in changed
    assert "†" in changed


@pytest.mark.parametrize(
    ("level", "verdict"),
    [
        (0.03, "None reaches a quarter of the way from chance: it takes more than length or raw sound or an untrained"),
        (0.15, "The same comparison on log-mel frames accounts for a part of it."),
        (0.30, "The same comparison on log-mel frames comes close"),
        (0.39, "The same comparison on log-mel frames does as well or nearly so: these results don't show"),
        (0.60, "does as well or nearly so"),
    ],
)
def test_verdict_on_controls_follows_the_strongest_one(level: float, verdict: str) -> None:
    results = fake_results()
    set_r1(results, "seqsim", 0.4)
    set_r1(results, "seqsim:log-mel", level)
    assert verdict in lead_of(results)


def test_controls_are_compared_on_common_pairs() -> None:
    results = fake_results()
    set_r1(results, "seqsim", 0.2)
    for pair in permutations(("en", "fr", "it"), 2):
        set_r1(results, "seqsim", 0.6, pair=pair)
    text = lead_of(results)
    assert "random weights 2.3% (SeqSim 60% on 6 pairs)" in text
    assert "duration alone 2.7% (SeqSim 32%)" in text
    results["retrieval"] = [r for r in results["retrieval"] if r["method"] in ("seqsim", "duration")]
    assert "It does not reach a quarter of the way from chance: it takes more than length." in lead_of(results)
    results["retrieval"] = [r for r in results["retrieval"] if r["method"] == "seqsim"]
    assert "No control was run" in lead_of(results)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.4186, "42%"),
        (0.0995, "10%"),
        (0.0465, "4.7%"),
        (0.00465, "0.5%"),
        (0.00012, "0.012%"),
        (0.0, "0.0%"),
        (1.0, "100%"),
    ],
)
def test_percent(value: float, text: str) -> None:
    assert percent(value) == text


@pytest.mark.parametrize(
    ("part", "sections"),
    [
        ("retrieval", {"retrieval", "pairs", "methods"}),
        ("translation", set()),  # the samples stay
        ("samples", set()),
        ("alignment", {"alignment"}),
        ("similarity", set()),
        ("corpus", {"corpus"}),
        ("settings", {"settings"}),
        ("provenance", {"provenance"}),
        ("timings", {"timings"}),
        ("title", set()),
    ],
)
@pytest.mark.usefixtures("undrawn")
def test_missing_part_is_skipped(tmp_path: Path, page: str, part: str, sections: set[str]) -> None:
    results = fake_results()
    del results[part]
    assert set(sections_of(page_of(tmp_path, results))) == set(sections_of(page)) - sections


def test_sparse_results_make_a_page(tmp_path: Path) -> None:
    assert ">Rebuild</h2>" in page_of(tmp_path / "empty", {})
    sparse = {
        "retrieval": [{"query": "en", "candidate": "xx", "method": "mine", "r1": 0.5}],
        "translation": [{"source": "ast", "target": "en"}],
        "samples": [{"hypothesis": ""}],
        "alignment": {"query": {}, "candidate": {"words": [{"word": "a"}, {"word": " ", "start": 0, "end": 1}]}},
        "corpus": {"languages": [{"language": "en"}]},
    }
    text = page_of(tmp_path / "sparse", sparse, {"alignment": np.ones((3, 4), dtype=np.float32)})
    assert "English → xx" in text
    assert "Asturian → English" in text
    assert "(empty)" in text


@pytest.mark.usefixtures("undrawn")
def test_arrays_that_are_missing_or_useless_have_no_picture(tmp_path: Path) -> None:
    useless = {"alignment": np.zeros((0, 3)), "similarity": np.full((2, 2), np.nan)}
    for name, arrays in (("none", None), ("useless", useless)):
        text = page_of(tmp_path / name, fake_results(), arrays)
        assert text.count("<svg") == 5
        assert "Veuillez composer" in text
        assert "How to read it" not in text


@pytest.mark.parametrize("made", [fake_results, fake_transfer])
def test_text_is_escaped_everywhere(tmp_path: Path, made: Any) -> None:
    attack = "<script>alert('x')</script>\"&{{ 7 * 7 }}{% raw %}"

    def poison(value: Any) -> Any:
        if isinstance(value, str):
            return value + attack
        if isinstance(value, list):
            return [poison(v) for v in value]
        if isinstance(value, dict):
            found = {k + (attack if k in FREE_KEYS else ""): poison(v) for k, v in value.items()}
            return found | {k: value[k] for k in ("task",) if k in value}
        return value

    text = page_of(tmp_path, poison(made()), fake_arrays())
    assert "<script" not in text
    assert '"&"' not in text
    assert text.count("&lt;script&gt;alert(") > 100
    assert "&amp;49" not in text  # what stands in results is no template


FREE_KEYS = {"torch", "numpy", "ctranslate2", "av", "model", "layer", "context", "encode", "translate", "threads"}


TOY = """
from interlingua.report.tables import Picture, Table

def speakers(results, arrays, utterances):
    rows = [[c.language, c.voice] for c in results.corpus.languages]
    return ["Who <speaks>:", Table(name="voices", title="Voices", head=["Language", "Voice"], bodies=[rows])]

def wrong(results, arrays, utterances):
    return "<p>markup</p>"

def nothing(results, arrays, utterances):
    return []
"""


@pytest.mark.usefixtures("undrawn")
def test_a_section_from_outside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    (tmp_path / "toy_sections.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    save_results(tmp_path / "run", fake_results())
    sections = ["--section", "toy_sections:speakers", "--section", "toy_sections:nothing"]
    assert run(["report", str(tmp_path / "run"), *sections]) == 0
    text = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert sections_of(text)[4:7] == ["translation", "speakers", "corpus"]  # before what is about the run
    assert "<p>Who &lt;speaks&gt;:</p>" in text
    assert "Allison Smith" in (tmp_path / "run" / "tables" / "voices.csv").read_text()
    capsys.readouterr()
    for name, message in (
        ("toy_sections:wrong", "must return a list of blocks"),
        ("toy_sections:gone", "can't be imported"),
        ("gone", "unknown report section 'gone'"),
    ):
        assert run(["report", str(tmp_path / "run"), "--section", name]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert message in line
    assert run(["report", str(tmp_path / "run"), str(tmp_path), "--section", "toy_sections:speakers"]) == 2
    assert "--section is for the report of one folder" in capsys.readouterr().err


def test_other_scripts_make_pages_and_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = fake_results()
    chinese, arabic = "请 输入 分机 号码， 然后 按 井号键。", "من فضلك أدخل <b> $x^2$"
    results["alignment"]["query"] |= {"language": "zh", "text": chinese, "words": words(chinese, 5.9)}
    results["alignment"]["candidate"] |= {"language": "ar", "text": arabic, "words": words(arabic, 6.8)}
    results["samples"][0]["transcript"] = arabic
    results["retrieval"] = []  # drawn by other tests
    monkeypatch.setattr("interlingua.report.plots._OTHER_FONTS", ())  # a machine without their fonts
    text = page_of(tmp_path, results, fake_arrays())
    assert "井号键。" in text
    assert 'lang="ar" dir="auto"' in text
    assert alignment_heatmap(records(results), fake_arrays(), tmp_path / "align.png").stat().st_size > 10_000


def test_pictures_are_written_and_the_same_each_time(tmp_path: Path) -> None:
    results, arrays = fake_results(), fake_arrays()
    paths = [
        recall_heatmap(records(results), tmp_path / "recall.png"),
        recall_heatmap(records(results), tmp_path / "pooled.png", method="mean-pool"),
        alignment_heatmap(records(results), arrays, tmp_path / "align.png"),
    ]
    assert [p.name for p in paths] == ["recall.png", "pooled.png", "align.png"]
    pictures = [p.read_bytes() for p in paths]
    assert all(p.startswith(b"\x89PNG") for p in pictures)
    assert len(set(pictures)) == len(pictures)
    assert recall_heatmap(records(results), tmp_path / "again.png").read_bytes() == pictures[0]


def test_picture_without_its_data_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"'csls' \(methods run: seqsim, mean-pool"):
        recall_heatmap(records(fake_results()), tmp_path / "a.png", method="csls")
    with pytest.raises(ResultsError, match="no alignment"):
        alignment_heatmap(records(fake_results()), {}, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_unusable_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="no such file"):
        write_report(tmp_path / "nowhere")
    (tmp_path / "results.json").write_text(json.dumps({"schema": 99}))
    with pytest.raises(ResultsError, match=f"schema {SCHEMA}"):
        write_report(tmp_path)
    results = fake_results()
    results["retrieval"][3]["r1"] = "high"
    (tmp_path / "results.json").write_text(json.dumps({"schema": SCHEMA, **results}))
    with pytest.raises(ResultsError, match=r"retrieval\[3\]\.r1"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_labels_are_spread_in_order_within_the_span() -> None:
    assert spread([0.0, 0.0, 0.0], 1.0, 10.0) == [0.0, 1.0, 2.0]
    assert spread([5.0], 1.0, 10.0) == [5.0]
    crowded = spread([9.0, 9.1, 9.2, 9.3], 0.5, 10.0)
    assert np.diff(crowded).min() >= 0.5 - 1e-9
    assert crowded[-1] <= 10.0
    assert spread([], 1.0, 10.0) == []
