"""The tables of single utterances: the worst first, found again by id, heard where the audio is there."""

import base64
import csv
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from test_report_tables import ATTACKS, cells_of
from test_report_transfer import CHROMIUM, section

from helpers import save_results, sweep, utterance, write_wav
from interlingua.audio import load_audio
from interlingua.cli import run
from interlingua.experiments.utterances import UtteranceLog
from interlingua.report import utterances as tables
from interlingua.report import write_report
from interlingua.report.utterances import CLIP_SECONDS, clip, mp3
from interlingua.retrieval.evaluate import Items
from interlingua.types import SAMPLE_RATE, AudioRef

TEXTS = ("Good morning.", *ATTACKS)
N = len(TEXTS)


def result_folder(folder: Path, *, audio: bool = True) -> Path:
    """Two languages, where the last half of the queries is missed; hostile texts; a system's translations."""
    said = []
    for lang in ("en", "ar"):
        for i, text in enumerate(TEXTS):
            path = folder / "audio" / f"{lang}{i}.wav"
            if audio:
                write_wav(path, sweep(0.3, 200 + 20 * i))
            said.append(utterance(lang, f"m{i}", text=text, translations={"en": text}, audio=AudioRef(str(path))))
    log = UtteranceLog(said)
    items = {
        lang: Items([u.id for u in said if u.language == lang], [f"m{i}" for i in range(N)]) for lang in ("en", "ar")
    }
    scores = np.eye(N, dtype=np.float32)
    ranks = np.ones(N)
    for i in range(N // 2, N):  # found: the next one; the last has no frames
        scores[i] = np.roll(scores[i], 1)
        ranks[i] = 2.0
    scores[-1], ranks[-1] = np.nan, np.inf
    rows = []
    for query, candidate in (("en", "ar"), ("ar", "en")):
        log.ranked("seqsim", candidate, items[query], items[candidate], scores, ranks)
        r1 = float((ranks == 1).mean())
        rows.append({"query": query, "candidate": candidate, "method": "seqsim", "r1": r1})
    references = {u.id: u.text or "-" for u in said if u.language == "ar"}
    log.translated("base", "en", dict(zip(references, TEXTS[::-1], strict=True)), references)
    heard = {i: " ".join(["word", "<b>"] * n) for n, i in enumerate(references)}
    log.transcribed("base", "en", heard, dict.fromkeys(references, "word <b> word"))
    save_results(folder, {"retrieval": rows}, utterances=log.results)
    return folder


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interlingua.report.plots.svg", lambda *args, **options: "<svg></svg>")


def csv_rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "tables" / f"{name}.csv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.mark.usefixtures("undrawn")
def test_every_query_is_a_row_the_worst_first(tmp_path: Path) -> None:
    folder = result_folder(tmp_path)
    page = write_report(folder).read_text(encoding="utf-8")
    rows = csv_rows(folder, "queries")
    assert len(rows) == 2 * N
    first, *_ = rows
    assert (first["Query"], first["First"], first["Found first"], first["Rank"]) == (
        f"en/m{N - 1}",
        "wrong",
        "nothing",
        "",
    )
    missed = next(r for r in rows if r["Query"] == f"en/m{N - 2}")
    assert (missed["First"], missed["Rank"], missed["Found first, note"]) == ("wrong", "2", f"ar/m{N - 1}")
    assert missed["Languages"] == "English → Arabic"
    right = next(r for r in rows if r["Query"] == "en/m0")
    assert (right["First"], right["Rank"], right["Text"], right["Found first"]) == ("right", "1", TEXTS[0], TEXTS[0])
    ranks = [float(r["Rank"] or "inf") for r in rows if r["Languages"] == "English → Arabic"]
    assert ranks == sorted(ranks, reverse=True)
    head, *shown = cells_of(section(page, "queries"))
    assert [c[0] for c in head] == ["Query", "Languages", "First", "Text", "Found first", "Rank"]
    assert [r[0][0] for r in shown] == [r["Query"] for r in rows]
    assert [r[3][0] for r in shown] == [r["Text"].removeprefix("'") or "–" for r in rows]  # no formula in CSV


@pytest.mark.usefixtures("undrawn")
def test_every_translation_stands_beside_its_reference(tmp_path: Path) -> None:
    folder = result_folder(tmp_path)
    write_report(folder)
    rows = csv_rows(folder, "translations")
    assert len(rows) == N
    scores = [float(r["chrF"]) for r in rows]
    assert scores == sorted(scores)
    found = next(r for r in rows if r["Utterance"] == "ar/m1")
    assert (found["Reference"], found["Translation"]) == (TEXTS[1], TEXTS[-2])


@pytest.mark.usefixtures("undrawn")
def test_every_transcript_stands_beside_what_is_said(tmp_path: Path) -> None:
    folder = result_folder(tmp_path)
    part = section(write_report(folder).read_text(encoding="utf-8"), "transcripts")
    rows = csv_rows(folder, "transcripts")
    assert len(rows) == N
    errors = [float(r["Errors, %"]) for r in rows]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 100 < errors[0]
    silent = next(r for r in rows if r["Utterance"] == "ar/m0")
    assert (silent["Transcript"], silent["Reference"], silent["Unit"], silent["Errors, %"]) == (
        "(empty)", TEXTS[0], "WER", "100",
    )  # fmt: skip
    assert {(r["Language"], r["System"]) for r in rows} == {("Arabic", "base")}
    assert "<audio" in part
    assert 'lang="ar" dir="auto">(empty)' in part


@pytest.mark.usefixtures("undrawn")
def test_hostile_texts_stay_texts_and_the_only_script_is_ours(tmp_path: Path) -> None:
    page = write_report(result_folder(tmp_path)).read_text(encoding="utf-8")
    assert page.count("<script") == page.count("</script") == 1
    assert page.index("<script>") > page.index("</main>")
    assert "<b>|" not in page
    assert 'lang="ar" dir="auto"' in page
    loads = re.findall(r'\b(?:src|href)="([^"]*)"', page)
    assert [w for w in loads if not w.startswith(("#", "data:", "tables/"))] == []


@pytest.mark.usefixtures("undrawn")
def test_recordings_stand_in_the_page_and_are_left_out_where_they_are_gone(tmp_path: Path) -> None:
    folder = result_folder(tmp_path / "here")
    page = write_report(folder).read_text(encoding="utf-8")
    clips = re.findall(r'<audio controls preload="none" src="data:audio/mpeg;base64,([^"]+)">', page)
    assert clips
    heard = load_audio(base64.b64decode(clips[0]))
    assert abs(len(heard) / SAMPLE_RATE - 0.3) < 0.1
    assert write_report(folder).read_text(encoding="utf-8") == page  # the same bytes
    silent = write_report(folder, players=False).read_text(encoding="utf-8")
    assert "<audio" not in silent
    assert run(["report", str(folder), "--no-players"]) == 0
    assert (folder / "report.html").read_text(encoding="utf-8") == silent
    shutil.rmtree(folder / "audio")
    gone = write_report(folder).read_text(encoding="utf-8")
    assert gone == silent
    assert "to search and hear" in page
    assert "to search and hear" not in gone


def test_clips_are_short_and_sound_like_the_recording(tmp_path: Path) -> None:
    long = sweep(CLIP_SECONDS + 5, 30.0)
    found = clip(AudioRef(str(write_wav(tmp_path / "a.wav", long))))
    assert found is not None
    heard = load_audio(base64.b64decode(found.partition(",")[2]))
    assert abs(len(heard) / SAMPLE_RATE - CLIP_SECONDS) < 0.2
    tone = np.sin(2 * np.pi * 440 * np.arange(SAMPLE_RATE) / SAMPLE_RATE).astype(np.float32) / 2
    spectrum = np.abs(np.fft.rfft(load_audio(mp3(tone))[:SAMPLE_RATE]))
    assert abs(int(spectrum.argmax()) - 440) <= 1
    assert clip(AudioRef(str(tmp_path / "nowhere.wav"))) is None
    (tmp_path / "text.wav").write_text("not a recording")
    assert clip(AudioRef(str(tmp_path / "text.wav"))) is None


@pytest.mark.usefixtures("undrawn")
def test_long_tables_show_an_even_share_and_the_files_hold_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "PAGE_ROWS", 8)
    monkeypatch.setattr(tables, "PLAYER_CHARACTERS", 1)
    folder = result_folder(tmp_path)
    page = write_report(folder).read_text(encoding="utf-8")
    part = section(page, "queries")
    _, *shown = cells_of(part)
    ids = [row[0][0] for row in shown]
    everything = [r["Query"] for r in csv_rows(folder, "queries")]
    assert len(ids) == 8
    assert (ids[0], ids[3], ids[4], ids[7]) == (everything[0], everything[N - 1], everything[N], everything[-1])
    assert f"Here: 8 of {2 * N} rows" in part
    assert (folder / "tables" / "queries.tex").read_text(encoding="utf-8").count(" \\\\\n") == 1 + 8
    assert part.count("<audio") == 1  # the limit was reached by the first


@pytest.mark.parametrize(("n", "k"), [(0, 3), (1, 3), (2, 1), (5, 5), (7, 3), (1000, 40)])
def test_evenly(n: int, k: int) -> None:
    places = tables.evenly(n, k)
    assert len(places) == min(n, max(2, k))
    assert len(set(places)) == len(places)
    if n > 1:
        assert (places[0], places[-1]) == (0, n - 1)
        assert np.ptp(np.diff(places)) <= 1


@pytest.mark.usefixtures("undrawn")
def test_results_without_utterances_have_no_such_table_and_no_script(tmp_path: Path) -> None:
    folder = result_folder(tmp_path, audio=False)
    (folder / "utterances.jsonl").unlink()
    page = write_report(folder).read_text(encoding="utf-8")
    assert "<script" not in page
    assert 'id="queries"' not in page
    assert not (folder / "tables" / "queries.csv").exists()


@pytest.mark.skipif(CHROMIUM is None, reason="no browser here")
@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("words", "chosen", "expected"),
    [
        ("", {}, 2 * N),
        ("good MORNING", {}, 2),
        ("", {"First": "right"}, 2 * (N // 2)),
        ("", {"First": "wrong", "Languages": "English → Arabic"}, N - N // 2),
        ("good", {"First": "wrong"}, 0),
    ],
)  # fmt: skip
def test_search_and_filters_hide_the_other_rows(
    tmp_path: Path, words: str, chosen: dict[str, str], expected: int
) -> None:
    page = write_report(result_folder(tmp_path), players=False)
    act = f"""
      const box = document.querySelector("#queries .controls");
      box.querySelector("input").value = {words!r};
      for (const [name, value] of Object.entries({chosen!r}))
        for (const label of box.querySelectorAll("label"))
          if (label.textContent.startsWith(name)) label.querySelector("select").value = value;
      box.querySelector("input").dispatchEvent(new Event("input"));
    """
    text = page.read_text(encoding="utf-8").replace("</body>", f"<script>{act}</script></body>")
    text = re.sub("script-src &#39;sha256-[^;]*&#39;", "script-src &#39;unsafe-inline&#39;", text)
    page.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", page.as_uri()],
        capture_output=True, timeout=120,
    )  # fmt: skip
    dom = done.stdout.decode()
    part = section(dom, "queries")
    assert f"<output>{expected} of {2 * N} rows</output>" in part
    assert part.count('<tr hidden="">') == 2 * N - expected
