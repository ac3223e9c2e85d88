"""The report's sections on fine-tuning: true to the numbers, whole without colour, optional part by part."""

import copy
import json
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import save_results
from interlingua.errors import ResultsError
from interlingua.report import write_report
from interlingua.report.plots import place_labels
from interlingua.results import SCHEMA

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
CHRF = "nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.5.1|bootstrap:clusters:43|n:1000|seed:12345"
BLEU = "nrefs:1|case:mixed|eff:no|tok:zh|smooth:exp|version:2.5.1|bootstrap:clusters:43|n:1000|seed:12345"
BLEU_EN = BLEU.replace("tok:zh", "tok:13a")
OFF = "off-target|target:zh|candidates:en+es+fr+it+ru+zh|identifier:script+py3langid:0.3.0|references-off-target:0.000"
WER = "wer|normaliser:whisper-basic|transformers:5.0.0|jiwer:4.0.0|bootstrap:clusters:43|n:1000|seed:12345"
UNTOUCHED = {"en": 1.9, "es": 1.1, "fr": 1.4, "it": 1.2, "ru": 0.8}
TAUGHT = {"en": 24.6, "es": 15.2, "fr": 13.8, "it": 16.1, "ru": 9.7}
ENGLISH = {"es": (52.3, 47.9), "fr": (46.8, 44.1), "it": (49.0, 46.3), "ru": (37.5, 31.2), "zh": (33.1, 30.4)}
ERRORS = {"en": (9.4, 10.1), "es": (12.6, 14.0), "fr": (21.3, 23.9), "it": (17.2, 17.0), "ru": (28.8, 33.5),
          "zh": (31.9, 44.2)}  # fmt: skip


def metric(value: float, half: float, signature: str) -> dict[str, Any]:
    return {"value": value, "ci": [max(0.0, value - half), value + half], "n": 63, "signature": signature}


def change(before: float, after: float, half: float, signature: str, *, compared: bool = True) -> dict[str, Any]:
    made: dict[str, Any] = {"before": metric(before, half, signature), "after": metric(after, half, signature)}
    if compared:
        made["difference"] = difference(after - before, half * 0.8, signature)
    return made


def difference(value: float, half: float, signature: str) -> dict[str, Any]:
    p = 0.000999 if abs(value) > half else 0.214
    made = metric(value, half, f"{signature}|difference:after-before|groups:1|randomisation:1000")
    return {**made, "ci": [value - half, value + half], "p_bootstrap": p, "p_randomisation": p}


def transfer_row(task: str, source: str, target: str, *, trained: bool = False, **scores: Any) -> dict[str, Any]:
    return {"task": task, "source": source, "target": target, "trained": trained, "n": 63, **scores}


def fake_transfer() -> dict[str, Any]:
    """Results of the shape that `interlingua finetune` and the study write."""
    new = [
        transfer_row(
            "new", s, "zh", trained=s == "en",
            chrf=change(UNTOUCHED[s], TAUGHT[s], 2.4 if s == "en" else 1.9, CHRF),
            bleu=change(UNTOUCHED[s] / 4, TAUGHT[s] * 1.2, 2.6, BLEU),
            off_target=change(0.97, 0.02 if s == "en" else 0.06, 0.02, f"{OFF}|{s}", compared=False),
        )
        for s in reversed(UNTOUCHED)
    ]  # fmt: skip
    old = [
        transfer_row(
            "translate", s, "en",
            chrf=change(before, after, 3.1, CHRF), bleu=change(before / 2.6, after / 2.7, 3.4, BLEU_EN),
            off_target=change(0.016, 0.032, 0.016, OFF.replace("target:zh", "target:en"), compared=False),
        )
        for s, (before, after) in ENGLISH.items()
    ]  # fmt: skip
    heard = [
        transfer_row(
            "transcribe", s, s,
            error=change(before, after, 3.5, WER.replace("wer", "cer") if s == "zh" else WER, compared=False),
        )
        for s, (before, after) in ERRORS.items()
    ]  # fmt: skip
    return {
        "title": "Fine-tuned on en into zh",
        "provenance": {"command": "interlingua finetune zh.yaml", "version": "0.1.0", "commit": "139b494aa001"},
        "settings": {"target": "zh", "source": ["en"], "replay": 1.0, "epochs": 8},
        "transfer": [*new, *old, *heard],
        "transfer_pooled": [
            {"pool": "new, sources never trained on", "languages": ["es", "fr", "it", "ru"],
             "chrf": difference(12.6, 1.4, CHRF)},
            {"pool": "new, sources trained on", "languages": ["en"], "chrf": difference(22.7, 1.9, CHRF)},
            {"pool": "into English", "languages": list(ENGLISH), "chrf": difference(-3.8, 1.2, CHRF)},
        ],
        "pareto": fake_pareto(),
    }  # fmt: skip


def fake_pareto() -> list[dict[str, Any]]:
    places = {
        "plain": (12.6, -9.8), "permuted": (1.4, -7.9), "wise-ft": (10.9, -2.1), "l2sp": (11.2, -5.1),
        "ewc": (10.4, -4.9), "replay": (13.9, -0.6), "replay-english": (13.1, -1.4), "distillation": (12.9, -0.2),
        "replay-distillation": (13.7, -0.4), "cross-attention": (9.7, -2.9), "lora": (12.2, -3.3),
        "frozen-layers": (12.0, -5.6), "target": (3.1, 0.0),
    }  # fmt: skip
    alphas = np.linspace(0, 1, 9)
    return [
        {
            "name": name,
            "gain": {"value": gain, "ci": [gain - 1.3, gain + 1.3], "signature": CHRF},
            "loss": {"value": loss, "ci": [loss - 0.7, loss + 0.7]},
            **(
                {"curve": [[gain * float(a) ** 0.6, loss * float(a) ** 2] for a in alphas]}
                if name in ("plain", "replay", "lora")
                else {}
            ),
        }
        for name, (gain, loss) in places.items()
    ]


def page_of(folder: Path, results: dict[str, Any], arrays: dict[str, np.ndarray] | None = None) -> str:
    save_results(folder, results, arrays)
    return write_report(folder).read_text(encoding="utf-8")


def sections_of(page: str) -> list[str]:
    return re.findall(r'<section id="([\w-]+)">', page)


def section(page: str, anchor: str) -> str:
    found = re.search(rf'<section id="{anchor}">.*?</section>', page, re.DOTALL)
    assert found
    return found[0]


def drawn(part: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]+)</text>", part)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return page_of(tmp_path_factory.mktemp("transfer"), fake_transfer())


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave drawing out where only the page's text matters: it takes most of the time."""
    monkeypatch.setattr("interlingua.report.plots.svg", lambda *args, **options: "<svg></svg>")


def test_each_section_shows_its_numbers(page: str) -> None:
    assert sections_of(page) == [
        "new-target", "old-tasks", "pooled-differences", "gain-and-loss", "settings", "provenance", "rebuild",
    ]  # fmt: skip
    assert "<b>+12.6</b> chrF on the new target from sources never trained on [+11.2, +14.0]; −3.8 from X" in page
    assert page.count("<svg") == 1 + 2 + 1
    new, old = section(page, "new-target"), section(page, "old-tasks")
    english = re.search(r"English → Chinese.*?</tr>", new)
    assert english
    for cell in ('24.6<span class="sub">[22.2–27.0]', '+22.7<span class="sub">[+20.8, +24.6]', ">0.001<", ">63<",
                 '97.0<span class="sub">[95.0–99.0]', '2.0<span class="sub">'):  # fmt: skip
        assert cell in english[0]
    for signature in (CHRF, BLEU, f"{OFF}|ru", f"{CHRF}|difference:after-before"):
        assert f"<code>{signature}" in new
    assert new.count(f"<code>{CHRF}</code>") == 1
    for text in ('−4.4<span class="sub">[−6.9, −1.9]', '<th scope="row">Chinese</th><td>CER</td>',
                 '<th scope="row">English</th><td>WER</td>', '44.2<span class="ci">[40.7–47.7]</span>',
                 f"CER: <code>{WER.replace('wer', 'cer')}</code>"):  # fmt: skip
        assert text in old
    assert "Chinese, CER" in drawn(old)
    pooled = section(page, "pooled-differences")
    assert pooled.count("<tr>") == 1 + 3
    for text in ("New target, sources never trained on", "Spanish, French, Italian, Russian",
                 '−3.8<span class="ci">[−5.0, −2.6]</span>'):  # fmt: skip
        assert text in pooled


def test_sources_never_trained_on_are_apart_in_picture_and_table(page: str) -> None:
    part = section(page, "new-target")
    assert "Source languages trained on: English; never trained on: Russian, Italian, French, Spanish." in part
    assert [text for text in drawn(part) if "rained on" in text] == ["Trained on", "Never trained on"]
    bodies = part.split("<tbody>")[1:]
    assert [body.count("<tr>") for body in bodies] == [1, 4]
    assert "English → Chinese" in bodies[0]
    assert bodies[1].count('<span class="sub">never trained on</span>') == 4


def test_gain_and_loss_is_a_picture_and_a_table(page: str) -> None:
    part = section(page, "gain-and-loss")
    for name in [v["name"] for v in fake_pareto()] + ["before training"]:
        assert drawn(part).count(name) == 1
    assert "Thin lines" in part
    assert '−9.8<span class="ci">[−10.5, −9.1]</span>' in part


@pytest.mark.usefixtures("undrawn")
def test_variants_of_two_targets_have_a_picture_each(tmp_path: Path) -> None:
    both = [{**v, "target": code} for code in ("es", "zh") for v in fake_pareto()]
    part = section(page_of(tmp_path, {"pareto": both}), "gain-and-loss")
    assert part.count("<svg") == 2
    assert "<b>Spanish: what each variant gains, and what it costs.</b>" in part
    assert part.count("<td>Chinese</td>") == len(fake_pareto())


def test_sparse_records_make_a_page(tmp_path: Path) -> None:
    sparse = {
        "transfer": [
            {"task": "new", "source": "xx", "target": "es"},
            {"task": "new", "source": "en", "target": "zh", "chrf": {"after": {"value": 3.0}}},
            {"task": "transcribe", "source": "en", "target": "en", "error": {"before": {"value": 8.0}}},
        ],
        "transfer_pooled": [{"pool": "mine"}],
        "pareto": [{"name": "plain", "gain": {"value": 0}, "loss": {"value": 0}, "curve": []}],
    }
    page = page_of(tmp_path, sparse)
    assert "xx → Spanish" in page
    assert ">error rate<" in page
    assert "Thin lines" not in page
    assert "mine" in page


@pytest.mark.parametrize(
    ("damage", "where"),
    [
        (lambda r: r["transfer"][2]["chrf"]["after"].update(value="high"), r"transfer\[2\]\.chrf\.after\.value"),
        (lambda r: r["transfer"][0].update(task="sing"), r"transfer\[0\]\.task"),
        (lambda r: r["pareto"][0].update(curve=[[1, 2, 3]]), r"pareto\[0\]\.curve\[0\]"),
        (lambda r: r["pareto"][0].pop("gain"), r"pareto\[0\]"),
    ],
)
def test_damaged_record_is_an_error_that_says_where(tmp_path: Path, damage: Any, where: str) -> None:
    results = copy.deepcopy(fake_transfer())
    damage(results)
    (tmp_path / "results.json").write_text(json.dumps({"schema": SCHEMA, **results}))
    with pytest.raises(ResultsError, match=where):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("n", [1, 8, 40])
def test_labels_never_overlap(n: int) -> None:
    rng = np.random.default_rng(n)
    points = [(float(x), float(y)) for x, y in rng.normal([200, 150], [25, 15], (n, 2))]
    sizes = [(float(w), 12.0) for w in rng.uniform(25, 110, n)]
    centres = place_labels(points, sizes, rng.uniform(0, 300, (200, 2)), (400, 300))
    for i, j in combinations(range(n), 2):
        apart = np.abs(np.subtract(centres[i], centres[j]))
        assert (apart >= np.add(sizes[i], sizes[j]) / 2 - 1e-9).any()
    if n == 1:  # alone it stands close
        assert np.hypot(*np.subtract(centres[0], points[0])) < 20 + sizes[0][0] / 2


def test_a_study_draws_each_variant_before_and_after(tmp_path: Path) -> None:
    def pooled(pool: str, after: float) -> dict[str, Any]:
        return {"pool": pool, "languages": ["fr", "de"], "chrf": change(5.0, after, 2.0, CHRF)}

    study = [
        {
            "variant": variant, "target": "zh", "test": test, "sources": ["en"],
            "pooled": [pooled("new, sources never trained on", gain), pooled("into English", 40 - gain)],
        }
        for test in ("fleurs", "covost")
        for variant, gain in (("plain", 20.0), ("l2sp", 15.0))
    ]  # fmt: skip
    save_results(tmp_path, {"study": study})
    part = section(write_report(tmp_path).read_text(encoding="utf-8"), "variants")
    assert part.count("<svg") == 2
    found = drawn(part.partition("</svg>")[0])
    named = ["Into Chinese, sources never trained on", "Into English", "plain", "l2sp", "before", "after"]
    assert set(named) <= set(found)
    assert [found.count(variant) for variant in ("plain", "l2sp")] == [2, 2]  # once in each pool
    assert "Hollow: before fine-tuning; filled: after; bars: 95% intervals." in part


@pytest.mark.skipif(CHROMIUM is None, reason="no browser here")
def test_the_widest_table_scrolls_within_itself_and_nothing_is_cut_on_paper(tmp_path: Path) -> None:
    change_of = change(5.0, 20.0, 2.0, CHRF)
    scores = {"bleu": change_of, "chrf": change_of, "comet": change_of}
    pool = {"pool": "new, sources never trained on", "languages": ["fr", "de", "es", "it"], **scores}
    study = [{"variant": "distillation-long", "target": "zh", "test": "fleurs", "sources": ["en"], "pooled": [pool]}]
    save_results(tmp_path, {"study": study})
    page = write_report(tmp_path)
    told = "document.body.dataset.wide = document.documentElement.scrollWidth > document.documentElement.clientWidth"
    text = (
        page.read_text(encoding="utf-8")
        .replace("</body>", f"<script>{told}</script></body>")
        .replace("script-src &#39;none&#39;", "script-src &#39;unsafe-inline&#39;")
    )
    for width in (1000, 720):  # a sheet of A4 is some 720 pixels wide between its margins
        on_paper = text.replace("@media print", "@media all") if width == 720 else text
        page.write_text(on_paper, encoding="utf-8")
        done = subprocess.run(
            [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900", "--dump-dom",
             page.as_uri()], capture_output=True, timeout=120,
        )  # fmt: skip
        assert 'data-wide="false"' in done.stdout.decode()
