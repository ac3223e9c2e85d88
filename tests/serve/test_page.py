"""The page as people use it: headless Chromium on a live server, whose models are scripted; real ones at the end."""

import base64
import html
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import wave
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import httpx2
import numpy as np
import pytest
import uvicorn

from helpers import save_results, sweep, utterance, write_wav
from interlingua.audio import load_audio
from interlingua.encoding.store import FrameStore
from interlingua.errors import StoppedError
from interlingua.index import Hit, Index
from interlingua.index import mine as mining
from interlingua.index.build import build
from interlingua.index.calibration import read_judged
from interlingua.index.mine import MinedPair, Scored
from interlingua.index.pairs import write_pairs
from interlingua.results import Alignment, Match, Side, Word
from interlingua.serve import page as pages
from interlingua.serve.app import Figures
from interlingua.serve.app import build as build_app
from interlingua.serve.service import Limits, ModelCard, Service, source_of
from interlingua.translation import Segment, Translation
from interlingua.translation.formats import render
from interlingua.types import SAMPLE_RATE, AudioRef, Frames, FrameSpec

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
SPEC = FrameSpec(model="tiny", revision="a", layer=2, context="speech", pooling=4, dtype="float16", compute="float32")
SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
pytestmark = [  # Gradio's, of pandas
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting'"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no browser here")


class Scripted(Service):
    """A service whose models say what they are told to."""

    def __init__(self, **options):
        super().__init__({"base": "base", "ours": "ours"}, limits=Limits(upload=2_000_000), **options)
        self.hold = threading.Event()  # while set, translating takes until it is cancelled
        self.cancelled = threading.Event()
        self.clients = []

    def models(self):
        return [ModelCard("base", ("en",)), ModelCard("ours", ("zh", "en"), "base")]

    def translate(self, audio, *, model, to, source="auto", client="", news=None, advance=None, cancelled=None, **_):
        self.clients.append(client)
        samples = load_audio(source_of(audio))
        seconds = len(samples) / SAMPLE_RATE
        made = []
        for target in to:
            segments = [
                Segment(0.0, 0.6, f"{model} <b>says</b> {target}", "fr", -0.2, 0.01, 1.1),
                Segment(0.6, seconds, "again again", "fr", -1.4, 0.01, 1.1, flags=("loop", "unsure")),
            ]
            for segment in segments if news else ():
                news("recording", target, [segment])
            made.append(Translation("recording", target, "fr", 0.87, None, seconds, seconds, segments))
        if advance:
            advance(seconds / 2)
        while self.hold.is_set():
            time.sleep(0.05)
            if cancelled.is_set():
                self.cancelled.set()
                raise StoppedError("cancelled", cancelled=True)
        return made

    def search(self, audio, *, index, language=None, top=10, elsewhere=False, **_):
        load_audio(source_of(audio))
        held = Index.open(self.index_uris[index]).utterances("language = 'fr'" if elsewhere else None)
        return [Hit(rank=n, score=1 / n, similarity=0.5, utterance=u) for n, u in enumerate(held[:top], 1)]

    def align(self, audio, *, index, utterance, **_):
        words = [[Word(word=w, start=s, end=s + 0.3) for w, s in (("alpha", 0.1), ("omega", 0.5))] for _ in range(2)]
        sides = [
            Side(id=i, language=i[:2], text="alpha omega", seconds=1.0, words=w)
            for i, w in zip(("en", utterance), words, strict=True)
        ]
        matches = [Match(query=q, candidate=c, similarity=0.8) for q, c in zip(*words, strict=True)]
        found = Alignment(
            query=sides[0], candidate=sides[1], precision=0.7, recall=0.7, mean=0.7, f1=0.7, matches=matches
        )
        return found, np.random.default_rng(0).normal(size=(50, 50)).astype(np.float32)


@contextmanager
def live(service, uds=None, **options):
    """The page on a port of its own, whose address it yields, or on a Unix socket: the tests use no network."""
    app = build_app(service, Figures(), **options)
    server = uvicorn.Server(uvicorn.Config(app, port=0, uds=uds, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield "http://localhost/" if uds else f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join(20)


def spoken(path, pitch, seconds=1.2):
    return AudioRef(str(write_wav(path, sweep(seconds, pitch=pitch))))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An index of eight meanings in two languages, recordings and all, and two runs."""
    root = tmp_path_factory.mktemp("page")
    store = FrameStore.open_or_create(str(root / "frames.lance"), SPEC, 6)
    frames = []
    for n in range(8):
        sense = np.cumsum(np.random.default_rng(n).normal(size=(6, 6)), axis=0)
        for language in ("en", "fr"):
            values = (sense + 0.1 * len(frames)).astype(np.float16)
            audio = spoken(root / f"{language}{n}.wav", 200 + 50 * n)
            u = utterance(language, str(n), audio=audio, text=f"{language} sentence {n}", duration=1.2)
            frames.append(Frames(u.id, values, len(values), audio_hash=u.id, utterance=u))
    store.write(frames)
    build([], root / "held", stores=[store])
    for name in ("first", "second"):
        save_results(root / "runs" / name, {"title": f"The {name} run"})
        (root / "runs" / name / "report.html").write_text(f"<title>report of {name}</title>", encoding="utf-8")
    (root / "runs" / "secret.html").write_text("secret", encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def service(folder):
    return Scripted(indexes={"held": folder / "held"}, runs=folder / "runs")


@pytest.fixture(scope="module")
def address(service):
    with live(service) as found:
        yield found


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """A browser whose microphone hears a file."""
    playwright = pytest.importorskip("playwright.sync_api")
    heard = write_wav(tmp_path_factory.mktemp("microphone") / "heard.wav", sweep(3.0, pitch=300))
    flags = ["--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=[*flags, f"--use-file-for-fake-audio-capture={heard}"]
        )
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium, address):
    """A function that opens the page; what it asks of other hosts, and what a script throws, fails the test."""
    opened, faults = [], []

    def asked(request):
        if not request.url.startswith(("http://127.0.0.1:", "data:", "blob:")):
            faults.append(request.url)

    def start(size="desktop", scheme="light", where=address):
        context = chromium.new_context(viewport=SIZES[size], color_scheme=scheme, permissions=["microphone"])
        opened.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("request", asked)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(where)
        page.get_by_role("button", name="Translate", exact=True).wait_for()
        return page

    yield start
    for context in opened:
        context.close()
    assert faults == []


def choose(page, name, content, area="#il-recording"):
    """Upload bytes, and wait until they are there."""
    kind = "text/plain" if name.endswith(".txt") else "audio/wav"
    page.locator(f"{area} input[type=file]").set_input_files({"name": name, "mimeType": kind, "buffer": content})
    if len(content) < 2_000_000 and kind == "audio/wav":
        page.locator(f"{area} audio").wait_for()


def wav(seconds=1.2):
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((sweep(seconds, pitch=300) * 20_000).astype(np.int16).tobytes())
    return out.getvalue()


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()


@needs_browser
def test_a_file_becomes_text_that_is_read_downloaded_and_heard(tab):
    page = tab()
    choose(page, "talk one.wav", wav(4.0))
    press(page, "Translate")
    columns = page.locator(".il-column")
    columns.nth(1).locator(".il-files").wait_for()
    assert [columns.nth(n).locator("h3").inner_text() for n in (0, 1)] == ["base", "ours"]
    boxes = [columns.nth(n).bounding_box() for n in (0, 1)]
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] < boxes[1]["x"]
    assert "into Chinese" in columns.nth(2).inner_text()  # what a model was trained for is asked of both
    assert columns.nth(2).bounding_box()["y"] > boxes[0]["y"]  # in a row of its own
    text = columns.nth(0).inner_text()
    assert "base <b>says</b> en" in text  # as it is written, not as HTML
    assert "from French, detected with 87%" in text
    assert "into English" in text
    flagged = columns.nth(0).locator(".il-flagged")
    assert flagged.count() == 1
    assert "loop It repeats itself." in flagged.inner_text()
    assert "unsure The model is unsure of these words." in flagged.inner_text()
    made = Translation("recording", "en", "fr", 0.87, None, 4.0, 4.0, [
        Segment(0.0, 0.6, "ours <b>says</b> en", "fr", -0.2, 0.01, 1.1),
        Segment(0.6, 4.0, "again again", "fr", -1.4, 0.01, 1.1, flags=("loop", "unsure")),
    ])  # fmt: skip
    for kind in ("srt", "vtt", "json"):
        with page.expect_download() as held:
            page.locator(".il-column").nth(1).get_by_role("link", name=kind.upper()).click()
        assert held.value.suggested_filename.endswith(f".ours.en.{kind}")
        assert Path(held.value.path()).read_text(encoding="utf-8") == render(made, kind)
    page.locator(".il-time").nth(1).focus()
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#il-recording audio').currentTime > 0.6")


@needs_browser
def test_the_microphone_is_translated(tab):
    page = tab()
    page.locator("#il-recording").get_by_label("Record audio").click()
    page.locator("#il-recording").get_by_role("button", name="Record", exact=True).click()
    page.wait_for_timeout(1200)
    page.locator("#il-recording").get_by_role("button", name="Stop").first.click()
    page.locator("#il-recording audio").last.wait_for(state="attached")
    press(page, "Translate")
    page.locator(".il-files").nth(1).wait_for()
    page.locator(".il-time").nth(1).click()
    page.wait_for_function("[...document.querySelectorAll('#il-recording audio')].some((a) => a.currentTime > 0.6)")


@needs_browser
def test_long_work_shows_progress_and_is_cancelled(tab, service):
    page = tab()
    choose(page, "talk.wav", wav(4.0))
    service.hold.set()
    service.cancelled.clear()
    try:
        press(page, "Translate")
        page.get_by_text("2 of 8 s").wait_for()
        page.get_by_role("button", name="Cancel").first.click()
        page.get_by_text("Cancelled.").wait_for()
        assert service.cancelled.wait(5)
        service.cancelled.clear()
        press(page, "Translate")
        page.get_by_text("2 of 8 s").wait_for()
        page.close()
        assert service.cancelled.wait(10)  # who leaves takes nobody's time
    finally:
        service.hold.clear()


@needs_browser
def test_what_cant_be_translated_is_named(tab):
    page = tab()

    def told(message):
        press(page, "Translate")
        page.locator("#il-translation [role=alert]").get_by_text(message).wait_for()

    told("Record something or choose a file first.")
    for name, content, message in [
        ("notes.txt", b"no audio", "Invalid file type: notes.txt"),
        ("huge.wav", b"RIFF" + bytes(2_100_000), "exceed the maximum allowed size"),
    ]:
        choose(page, name, content)
        page.get_by_text(message).first.wait_for()
    page.reload()
    choose(page, "notes.wav", b"no audio at all")
    told("notes.wav: FFmpeg finds no audio in it")
    page.reload()
    choose(page, "empty.wav", b"")
    told("empty.wav")


@needs_browser
def test_a_query_finds_what_aligns_with_it(tab):
    page = tab()
    page.get_by_role("tab", name="Search").click()
    choose(page, "query.wav", wav(), "#il-question")
    press(page, "Search")
    hits = page.locator(".il-hits li")
    hits.nth(7).wait_for()
    assert hits.count() == 8
    assert "fr sentence 0" in hits.nth(0).inner_text()
    assert "French" in hits.nth(0).inner_text()
    player = hits.nth(0).locator("audio")
    player.evaluate("audio => audio.play()")
    page.wait_for_function("document.querySelector('.il-hits audio').currentTime > 0.1")
    hits.nth(1).get_by_role("button").focus()
    page.keyboard.press("Enter")
    picture = page.locator(".il-picture svg")
    picture.wait_for()
    drawn = picture.text_content()
    assert drawn.count("alpha") == drawn.count("omega") == 2  # on both axes
    page.wait_for_function("document.querySelector('#il-hit').currentTime > 0.1")  # the matching part, at once
    page.wait_for_function("document.querySelector('#il-hit').paused")
    assert page.evaluate("document.querySelector('#il-hit').currentTime") == pytest.approx(0.8, abs=0.15)
    page.get_by_role("button", name="omega").click()
    page.wait_for_function("document.querySelector('#il-query').currentTime > 0.5")
    page.evaluate("document.querySelector('#il-hit').remove()")  # as a new answer does before it is heard
    page.wait_for_function("document.querySelector('#il-query').paused")
    page.get_by_label("Only in other languages than the query's").uncheck()
    press(page, "Search")
    page.get_by_text("en sentence 0").wait_for()


@needs_browser
def test_pairs_are_judged_and_their_marks_are_what_mine_reads(tab, service, tmp_path):
    page = tab()
    page.get_by_role("tab", name="Mined pairs").click()
    page.wait_for_function("document.querySelectorAll('[role=tabpanel] input').length > 3")
    page.get_by_label("and", exact=True).click()
    page.get_by_role("option", name="French").click()
    press(page, "Show pairs")
    frame = page.frame_locator("#il-pairs iframe")
    frame.locator(".pair").first.wait_for()
    shown = frame.locator(".pair").count()
    assert shown >= 3
    for n, verdict in enumerate(("right", "wrong", "unsure")):
        frame.locator(".pair").nth(n).get_by_label(verdict).check()
    assert f"3 of {shown} marked" in frame.locator("output").inner_text()
    table = unquote(frame.get_by_role("link", name="Save marks.tsv").get_attribute("href").partition(",")[2])
    (tmp_path / "marks.tsv").write_text(table, encoding="utf-8")
    rows = {u.id: n for n, u in enumerate(Index.open(service.index_uris["held"]).utterances())}
    scored = Scored.__new__(Scored)
    for side in ("a", "b"):
        object.__setattr__(scored, side, SimpleNamespace(rows=rows))
    assert sorted(read_judged(tmp_path / "marks.tsv", "--marks", scored).values()) == [False, True]


@needs_browser
def test_runs_are_read_and_compared(tab):
    page = tab()
    page.get_by_role("tab", name="Runs").click()
    with page.expect_popup() as opened:
        page.get_by_role("link", name="first", exact=True).click()
    opened.value.wait_for_load_state()
    assert opened.value.title() == "report of first"
    with page.expect_popup() as opened:
        press(page, "Compare the chosen runs")
    opened.value.wait_for_load_state()
    assert "two result folders or more" in opened.value.inner_text("body")


@needs_browser
def test_the_page_fits_a_phone_is_dark_at_night_and_led_through_by_keys(tab):
    page = tab("phone")
    for name in ("Search", "Mined pairs", "Runs", "Translate"):
        page.get_by_role("tab", name=name).click()
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollWidth") == SIZES["phone"]["width"]
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        page.reload()
        page.get_by_role("button", name="Translate", exact=True).wait_for()
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        lightness = sum(int(part) for part in background.strip("rgba()").split(",")[:3]) / 3
        assert (lightness > 200) is (scheme == "light")
    page.get_by_role("tab", name="Translate").focus()
    page.keyboard.press("Tab")
    while page.evaluate("document.activeElement.getAttribute('role')") == "tab":
        if page.evaluate("document.activeElement.innerText.trim()") == "Search":
            page.keyboard.press("Enter")
            break
        page.keyboard.press("Tab")
    page.get_by_role("button", name="Search", exact=True).wait_for()


@needs_browser
def test_the_key_covers_the_page(chromium, service):
    with live(service, keys=("secret",)) as address:
        context = chromium.new_context()
        with pytest.raises(Exception, match="ERR_INVALID_AUTH_CREDENTIALS"):
            context.new_page().goto(address)
        context.close()
        context = chromium.new_context(http_credentials={"username": "anybody", "password": "secret"})
        page = context.new_page()
        page.goto(address)
        page.get_by_role("button", name="Translate", exact=True).wait_for()
        choose(page, "talk.wav", wav())
        press(page, "Translate")
        page.locator(".il-files").nth(1).wait_for()
        context.close()


def test_no_path_of_a_clients_choice_is_read(folder, tmp_path):
    secret = str(next(folder.glob("*.wav")))  # audio: it would be translated
    named = {"path": secret, "meta": {"_type": "gradio.FileData"}}
    service = Scripted(indexes={"held": folder / "held"})
    with visitor(service, tmp_path) as (client, _, join):
        for function, data in [
            ("translate", [named, ["base"], ["en"], "auto"]),
            ("translate", [{"path": secret}, ["base"], ["en"], "auto"]),
            ("translate", [None, [named], ["en"], "auto"]),  # where a name of a model belongs
            ("search", [named, "held", "", False]),
        ]:
            assert not join("curious", data, function)["success"], data
        for path in (secret, "/etc/hostname", "..%2F..%2Fetc%2Fhostname", "http://127.0.0.1:9/x", "https://a.org/x"):
            assert client.get(f"gradio_api/file={path}").status_code == 403
    assert service.clients == []


def test_only_reports_of_runs_are_served(folder, tmp_path):
    with visitor(Scripted(runs=folder / "runs"), tmp_path) as (client, _, _):
        assert client.get("runs/first/report.html").status_code == 200
        for path in (
            "runs/third/report.html",
            "runs/first%2F..%2F..%2Fruns%2Ffirst/report.html",
            "runs/..%2Fsecret.html",
            "runs/first/tables/..%2Freport.html",
            "runs/%2Fetc/report.html",
            "compare?run=..%2F..&run=first",
        ):
            assert client.get(path).status_code in (400, 404), path


@needs_browser
@pytest.mark.model
def test_real_speech_is_translated_and_found(tab, prompts_manifest, tmp_path):
    meanings = ("queue-periodic-announce", "vm-nobox", "priv-introsaved")
    some = [u for u in prompts_manifest if u.meaning in meanings and u.language in ("en", "fr", "it")]
    build(some, tmp_path / "few", model="base")
    (french,) = (u for u in some if u.id == "fr/queue-periodic-announce")
    heard = write_wav(tmp_path / "heard.wav", load_audio(french.audio))
    with live(Service({"base": "base"}, indexes={"few": tmp_path / "few"})) as address:
        page = tab(where=address)
        page.set_default_timeout(60_000)
        choose(page, "heard.wav", heard.read_bytes())
        press(page, "Translate")
        page.locator(".il-files").wait_for()
        text = page.locator(".il-column").inner_text()
        assert "representative" in text
        assert "from French, detected with" in text
        page.get_by_role("tab", name="Search").click()
        page.get_by_role("button", name="French:").click()  # an example of the corpus
        page.locator(".il-hits li").first.wait_for()
        assert "queue-periodic-announce" in page.locator(".il-hits li").first.inner_text()
        assert page.locator(".il-hits li").count() == 6
        page.locator(".il-align").first.click()
        picture = page.locator(".il-picture svg").text_content()
        assert "représentants" in picture
        page.wait_for_function("document.querySelector('#il-hit').currentTime > 0.1")


@pytest.mark.model
def test_uploads_are_removed_when_the_service_stops(tmp_path):
    (tmp_path / "temporary").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    command = [
        sys.executable,
        "-c",
        "from interlingua.cli import main; main()",
        "serve",
        "--port",
        str(port),
        "--runs",
        str(tmp_path),
    ]
    process = subprocess.Popen(command, env={**os.environ, "TMPDIR": str(tmp_path / "temporary")})
    try:
        address = f"http://127.0.0.1:{port}"
        while True:
            try:
                assert httpx2.get(f"{address}/readyz", timeout=30).status_code in (200, 503)
                break
            except httpx2.TransportError:
                assert process.poll() is None
                time.sleep(0.5)
        sent = httpx2.post(
            f"{address}/gradio_api/upload", files={"files": ("talk.wav", wav(), "audio/wav")}, timeout=30
        )
        (kept,) = sent.json()
        assert Path(kept).read_bytes() == wav()
        folder = next((tmp_path / "temporary").glob("interlingua-serve-*"))
        assert folder.stat().st_mode & 0o077 == 0  # nobody else reads what is said
    finally:
        process.terminate()
        process.wait(60)
    assert [path for path in (tmp_path / "temporary").rglob("*") if path.is_file()] == []


def test_a_table_of_mined_pairs_is_judged(folder, service, tmp_path):
    held = Index.open(service.index_uris["held"])
    found = mining.mine(mining.Side(held, "en"), mining.Side(held, "fr"))
    rows = found.table(found.chosen())
    write_pairs(tmp_path / "mined.tsv", rows, MinedPair)
    with visitor(Scripted(pairs={"mined": tmp_path / "mined.tsv"}), tmp_path) as (_, _, join):
        assert "mined (a table)" in str(join("judge", [None], "look_2")["output"]["data"][0])
        (shown,) = join("judge", ["mined (a table)", None, None, ""], "show")["output"]["data"]
    page = html.unescape(shown)
    assert page.count('<section class="pair"') == len(rows)
    assert page.count("<audio controls") == 2 * len(rows)  # each side is cut out of its recording


@contextmanager
def visitor(service, folder, **options):
    """A client of the page, a recording that it has uploaded, and what asks for its translation."""
    uds = str(folder / "socket")
    with live(service, uds, keys=("one", "two"), **options), caller(uds) as client:
        (path,) = client.post("gradio_api/upload", files={"files": ("talk.wav", wav(4.0), "audio/wav")}).json()
        recording = {"path": path, "meta": {"_type": "gradio.FileData"}}
        functions = client.get("config").json()["dependencies"]

        def join(session, data=(recording, ["base"], ["en"], "auto"), name="translate", *, listen=True):
            function = next(
                f
                for f in functions
                if f["api_name"].startswith(name) and f["backend_fn"] and len(f["inputs"]) == len(data)
            )
            body = {"data": data, "fn_index": function["id"], "session_hash": session}
            client.post("gradio_api/queue/join", json=body).raise_for_status()
            if not listen:
                return None
            events = client.get("gradio_api/queue/data", params={"session_hash": session}).text.splitlines()
            return json.loads(next(line[6:] for line in reversed(events) if "process_completed" in line))

        yield client, recording, join


def caller(uds, timeout=20):
    headers = {"Authorization": "Bearer two"}
    return httpx2.Client(
        transport=httpx2.HTTPTransport(uds=uds), base_url="http://localhost/", timeout=timeout, headers=headers
    )


def called(client, **arguments):
    """The answer of the MCP endpoint to a call of its tool translate."""
    call = {"name": "translate", "arguments": {"to": ["en"], **arguments}}
    answer = client.post(
        "gradio_api/mcp/",
        json={"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call},
        headers={"Accept": "application/json, text/event-stream"},
    )
    return json.loads(next(line[6:] for line in answer.text.splitlines() if line.startswith("data: {")))["result"]


def test_work_ends_where_nobody_listens(monkeypatch, tmp_path):
    monkeypatch.setattr(pages, "GRACE", 0.5)
    service = Scripted()
    service.hold.set()
    with visitor(service, tmp_path) as (client, _, join):
        join("never listens", listen=False)
        assert service.cancelled.wait(5)
        service.cancelled.clear()
        join("leaves", listen=False)
        with client.stream("GET", "gradio_api/queue/data", params={"session_hash": "leaves"}) as events:
            lines = events.iter_lines()
            while "process_generating" not in next(lines):
                pass
            assert not service.cancelled.wait(1.5)
        assert service.cancelled.wait(5)
    assert service.clients == ["key 2"] * 2  # whatever they call their sessions


def test_an_agents_work_ends_when_it_leaves(capfd, tmp_path):
    service = Scripted()
    with visitor(service, tmp_path, mcp=True) as (client, recording, _):
        service.hold.set()
        with pytest.raises(httpx2.TimeoutException):
            client.post("gradio_api/run/translate", json={"data": [recording, ["en"], "base", "auto"]}, timeout=1)
        assert service.cancelled.wait(5)
        service.cancelled.clear()
        with caller(str(tmp_path / "socket"), 1) as agent, pytest.raises(httpx2.TimeoutException):
            called(agent, audio="data:audio/wav;base64," + base64.b64encode(wav()).decode())
        assert service.cancelled.wait(5)
    assert service.clients == ["key 2"] * 2
    assert "Traceback" not in capfd.readouterr().err


def test_nothing_is_fetched_that_a_client_names(monkeypatch, tmp_path):
    fetched = []

    async def get(url, **_):
        fetched.append(url)
        raise OSError

    monkeypatch.setattr("gradio.processing_utils.sh.get", get)
    service = Scripted()
    with visitor(service, tmp_path, mcp=True) as (client, recording, join):
        elsewhere = {**recording, "path": "https://example.com/x.wav", "url": "https://example.com/x.wav"}
        answer = client.post("gradio_api/run/translate", json={"data": [elsewhere, ["en"], "base", "auto"]})
        assert answer.status_code == 500
        assert "Nothing is fetched from elsewhere" in answer.json()["error"]
        assert "Nothing is fetched from elsewhere" in str(join("page", [elsewhere, ["base"], ["en"], "auto"]))
        assert called(client, audio="https://example.com/x.wav")["isError"]
        assert service.clients == fetched == []
        told = called(client, audio="data:audio/wav;base64," + base64.b64encode(wav()).decode())
        assert "base <b>says</b> en" in told["content"][0]["text"]
        answer = client.post("gradio_api/run/translate", json={"data": [recording, ["en"], "base", "auto"]})
        assert answer.json()["data"][0][0]["target"] == "en"


def test_an_upload_that_breaks_off_leaves_nothing(capfd, tmp_path):
    head = (
        "POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1500000\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        '--x\r\nContent-Disposition: form-data; name="files"; filename="a.wav"\r\n\r\n'
    )
    with live(Scripted(), str(tmp_path / "socket")), socket.socket(socket.AF_UNIX) as sender:
        folder = Path(os.environ["GRADIO_TEMP_DIR"])
        sender.connect(str(tmp_path / "socket"))
        sender.sendall(head.encode() + bytes(900_000))
        assert until(lambda: any(path.is_file() for path in folder.rglob("*")))
        sender.close()
        assert until(lambda: not any(path.is_file() for path in folder.rglob("*")))
    assert "Traceback" not in capfd.readouterr().err


def until(holds, seconds=5.0):
    end = time.monotonic() + seconds
    while not (held := holds()) and time.monotonic() < end:
        time.sleep(0.05)
    return held


def test_uploads_are_deleted_when_they_are_old_or_much(tmp_path, monkeypatch):
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "talk.wav").write_bytes(bytes(100))
        time.sleep(0.02)
    pages.sweep(tmp_path, 250)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["second", "third"]
    monkeypatch.setattr(pages, "KEPT", 0.0)
    pages.sweep(tmp_path, 250)
    assert list(tmp_path.iterdir()) == []


def test_one_comparison_is_drawn_at_a_time(folder, monkeypatch, tmp_path):
    def written(folders, path):
        assert pages._DRAWING.locked()
        path.write_text(f"{len(folders)} runs", encoding="utf-8")
        return path

    monkeypatch.setattr(pages, "write_comparison", written)
    with visitor(Scripted(runs=folder / "runs"), tmp_path) as (client, _, _):
        assert client.get("compare?run=first&run=second").text == "2 runs"


def test_where_nobody_speaks_there_is_no_language():
    silence = Translation("recording", "en", "und", None, None, 2.0, 0.0, [])
    column = pages.Column("base", "en")
    column.show(silence)
    drawn = pages.Job("silence.wav", pages.Upload(wav()), [column], done=True).drawn()
    assert "no speech heard" in drawn


def test_the_demos_recordings_are_indexed_in_the_background(folder, tmp_path):
    runs = tmp_path / "runs"
    (runs / "demo" / "frames").mkdir(parents=True)
    shutil.copytree(folder / "frames.lance", runs / "demo" / "frames" / "encoder-pool4-float32.lance")
    service = Scripted(runs=runs)
    indexing = pages.DemoIndex(service)
    indexing.start()
    assert "being indexed" in indexing.drawn
    while indexing.going:
        time.sleep(0.05)
    assert indexing.drawn == ""
    assert len(Index.open(service.index_uris["demo"])) == 16


def test_a_demo_index_that_fails_says_why(tmp_path):
    (tmp_path / "demo" / "frames" / "encoder-pool2-float32.lance").mkdir(parents=True)
    service = Scripted(runs=tmp_path)
    indexing = pages.DemoIndex(service)
    indexing.start()
    while indexing.going:
        time.sleep(0.05)
    assert "no frame store here" in indexing.drawn
    assert service.index_uris == {}


def test_the_matching_part_is_that_of_the_better_words():
    def match(start, similarity):
        return Match(query=Word(word="a"), candidate=Word(word="b", start=start, end=start + 1), similarity=similarity)

    assert pages.matching_part([]) is None
    assert pages.matching_part([match(3, 0.9), match(5, 0.8), match(60, 0.1)]) == (3, 6)
