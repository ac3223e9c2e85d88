"""The page: translate, search, judge mined pairs, read reports. Gradio Blocks, mounted into the API's app.

Each tab is a function that lays out its parts and connects them. What it shows is HTML from ``templates/``, and the
recordings to hear lie in it: no route takes a path, and Gradio serves nothing but what a visitor has uploaded.
"""

import asyncio
import base64
import html
import os
import shutil
import signal
import statistics
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from importlib.resources import files
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from textwrap import shorten
from typing import Any
from urllib.parse import parse_qs

import gradio as gr
import gradio.mcp
import gradio.processing_utils
import numpy as np
from fastapi import FastAPI, Query
from fastapi.responses import FileResponse, HTMLResponse, Response
from gradio.route_utils import GradioMultiPartParser
from gradio.utils import get_upload_folder
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from interlingua.audio import declared_duration, load_audio
from interlingua.corpora import prompts
from interlingua.encoding.store import FrameStore, among
from interlingua.errors import AudioError, InterlinguaError, ResultsError, StoppedError, UsageError
from interlingua.index import Hit, Index
from interlingua.index.build import build as build_index
from interlingua.index.mine import MinedPair, Share, Side, around, mine, mine_here
from interlingua.index.pairs import read_pairs
from interlingua.languages import WHISPER_LANGUAGES, language_name
from interlingua.report import plots, write_comparison
from interlingua.report.marks import PAIRS, marks_page
from interlingua.report.utterances import clip, mp3
from interlingua.results import Alignment, Match, Results, load_results
from interlingua.serve.openai_api import Answering, client_of
from interlingua.serve.service import ModelCard, Service, Upload, source_of
from interlingua.translation import AUTO, Segment, Translation
from interlingua.translation.formats import SUFFIXES, Format, render
from interlingua.translation.guards import Flag
from interlingua.types import SAMPLE_RATE, WINDOW_SECONDS, AudioRef, Matrix, Samples

EXAMPLES = {  # language -> a prompt of the corpus
    "fr": "queue-periodic-announce",
    "es": "vm-tempgreeting2",
    "ru": "priv-introsaved",
    "it": "vm-nobox",
    "en": "vm-newuser",
}
FLAGS: dict[Flag, str] = {
    "loop": "It repeats itself.",
    "wrong-language": "It isn't in the target language.",
    "no-speech": "Whisper detects no speech here, and is unsure of the words.",
    "unsure": "The model is unsure of these words.",
    "doubled": "It begins with the last words of the segment before.",
    "cut-off": "The model stopped before the end.",
    "sparse": "Few words for so much speech: something may be missing.",
}
DOWNLOADS: dict[Format, str] = {"srt": "application/x-subrip", "vtt": "text/vtt", "json": "application/json"}
_CHOOSE = """element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-utterance]");
  if (button) trigger("click", { utterance: button.dataset.utterance });
});"""
TICK = 0.25  # seconds between two looks at work in the background
GRACE = 5.0  # seconds that work goes on while its visitor's page doesn't listen
SWEPT = 10.0  # seconds between two looks at the uploads
KEPT = 3600.0  # seconds from which on an upload is deleted
HELD = 10  # times the largest request: all uploads; above that the oldest are deleted
DEMO = "demo"  # the index, and the folder of runs that it is made from
_DRAWING = threading.Lock()  # matplotlib's settings belong to the process


def mount(app: FastAPI, service: Service, *, mcp: bool = False) -> None:
    """Add the page to an app, below all of its routes; ``mcp``: also an endpoint for agents."""
    uploads = mkdtemp(prefix="interlingua-serve-")  # of this user alone
    weakref.finalize(app, shutil.rmtree, uploads, ignore_errors=True)
    threading.Thread(target=_keep_small, args=(uploads, HELD * service.limits.upload), daemon=True).start()
    os.environ["GRADIO_TEMP_DIR"] = gradio.mcp.DEFAULT_TEMP_DIR = uploads
    _restrain_gradio()
    streams: Counter[str] = Counter()
    app.add_middleware(Listening, streams=streams)
    indexing = DemoIndex(service)
    indexing.start()
    _serve_runs(app, service.runs)

    @app.get("/gradio_api/file=http{rest:path}", include_in_schema=False)
    def elsewhere(rest: str) -> Response:  # Gradio would fetch it
        return _refused("Nothing is fetched from elsewhere.", 403)

    @app.post("/gradio_api/process_recording", include_in_schema=False)
    @app.post("/gradio_api/component_server", include_in_schema=False)
    @app.post("/gradio_api/component_server/", include_in_schema=False)
    def unused() -> Response:  # Gradio would keep what is sent there
        return _refused("Nothing is taken here.", 404)

    async def add() -> None:
        page = blocks(service, indexing, streams, mcp=mcp)
        page.has_launched = True  # or Gradio, mounted, copies any path that a client names to where it serves
        gr.mount_gradio_app(
            app,
            page,
            path="/",
            theme=_theme(),
            css=_resource("page.css"),
            head=f"<script>{_resource('page.js')}</script>",
            footer_links=[],
            run_history=False,
            max_file_size=service.limits.upload,
            mcp_server=mcp,
            ssr_mode=False,
            enable_monitoring=False,
        )

    with ThreadPoolExecutor(1) as thread:  # without a running loop Gradio opens some, and closes none
        thread.submit(asyncio.run, add()).result()


def blocks(service: Service, indexing: "DemoIndex", streams: Counter[str], *, mcp: bool) -> gr.Blocks:
    """The page's parts; ``streams`` are those that `Listening` counts."""
    with gr.Blocks(title="Interlingua", analytics_enabled=False) as page:
        if mcp:
            agents_tools(service)  # first: their names are those of the tabs' functions
        gr.HTML(
            "<h1>Interlingua</h1><p>Speech translation across languages: what the models hear, find and write.</p>",
            elem_classes="il-top",
        )
        with gr.Tabs():
            with gr.Tab("Translate", id="translate"):
                translate_tab(page, service, streams)
            with gr.Tab("Search", id="search"):
                search_tab(page, service, indexing, streams)
            with gr.Tab("Mined pairs", id="pairs"):
                pairs_tab(page, service, indexing, streams)
            with gr.Tab("Runs", id="runs"):
                runs_tab(page, service.runs)
    page.queue(default_concurrency_limit=16, api_open=False)
    return page


# ---------------------------------------------------------------- translate


def translate_tab(page: gr.Blocks, service: Service, streams: Counter[str]) -> None:
    """A recording -> its text in the chosen languages, by each chosen model, side by side."""
    cards = service.models()
    trained = list(dict.fromkeys(code for card in cards for code in card.targets))
    first = [card.name for card in cards[:2]]
    running = Running(page, streams)
    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            audio = _recorder("il-recording", "A recording")
        with gr.Column(scale=2, min_width=280):
            models = gr.CheckboxGroup([(_card(card), card.name) for card in cards], value=first, label="Models")
            into = gr.Dropdown(
                _languages(trained), value=trained[:2] or ["en"], multiselect=True, label="Into",
                info="The language that is spoken gives a transcript.",
            )  # fmt: skip
            spoken = gr.Dropdown([("Detect it", AUTO), *_languages()], value=AUTO, label="Spoken language")
    start, stop = _buttons("Translate")
    chosen = _examples()
    shown = gr.HTML(elem_classes="il-out", elem_id="il-translation")

    def translate(path: str | None, names: list[str], to: list[str], source: str, request: gr.Request) -> Iterator[str]:
        if not path or not names or not to:
            lacking = "Record something or choose a file" if not path else "Choose a model and a language"
            yield _alert(f"{lacking} first.")
            return
        job = Job(Path(path).name, _upload(path), [Column(name, code) for code in to for name in names])
        with running.one(request) as cancelled:
            yield from _until_done(partial(job.run, service, source, client_of(request), cancelled), job.drawn)

    settings: dict[str, Any] = {"outputs": shown, "show_progress": "hidden", "api_visibility": "private"}
    start.click(translate, [audio, models, into, spoken], **settings)
    stop.click(running.cancel, api_visibility="private", queue=False)
    for button, samples in chosen:
        button.click(samples, outputs=audio, api_visibility="private").then(
            translate, [audio, models, into, spoken], **settings
        )


@dataclass
class Column:
    """What one model makes of a recording in one language."""

    model: str
    target: str
    segments: list[Segment] = field(default_factory=list)
    translation: Translation | None = None
    error: str = ""

    def show(self, translation: Translation) -> None:
        """Show the whole."""
        self.translation, self.segments = translation, translation.segments


def _extend(columns: Mapping[str, Column], name: str, target: str, segments: list[Segment]) -> None:
    columns[target].segments.extend(segments)


@dataclass
class Job:
    """A recording that is being translated, column by column."""

    name: str
    audio: Upload
    columns: list[Column]
    heard: float = 0.0  # seconds, over all models
    failure: str = ""  # of the recording
    done: bool = False

    def run(self, service: Service, source: str, client: str, cancelled: threading.Event) -> None:
        """Translate by one model after the other; faults are shown in their columns."""
        for model in dict.fromkeys(column.model for column in self.columns):
            own = {column.target: column for column in self.columns if column.model == model}
            try:
                found = service.translate(
                    self.audio,
                    model=model,
                    to=list(own),
                    source=source,
                    client=client,
                    news=partial(_extend, own),
                    advance=self._advance,
                    cancelled=cancelled,
                )
            except AudioError as error:
                self.failure = _named(error, self.name)
                break
            except StoppedError as error:
                self.failure = "Cancelled." if error.cancelled else str(error)
                break
            except InterlinguaError as error:
                for column in own.values():
                    column.error = str(error)
                continue
            for translation in found:
                own[translation.target].show(translation)
        self.done = True

    def _advance(self, seconds: float) -> None:
        self.heard += seconds

    @cached_property
    def seconds(self) -> float | None:
        """Of the recording, as its header says."""
        try:
            return declared_duration(self.audio.data)
        except AudioError:
            return None

    def drawn(self) -> str:
        """The columns as HTML."""
        if self.failure and not any(column.segments for column in self.columns):
            return _alert(self.failure)
        progress, models = None, len({column.model for column in self.columns})
        if not self.done:
            whole = (self.seconds or 0) * models
            part = min(1.0, self.heard / whole) if whole and self.heard else None
            progress = {"part": part, "text": f"{self.heard:.0f} of {whole:.0f} s" if part else "Listening"}
        columns = [self._column(column) for column in self.columns]
        drawn = _draw("translation.html", columns=columns, models=models, progress=progress)
        return (_alert(self.failure) if self.failure else "") + drawn

    def _column(self, column: Column) -> dict[str, Any]:
        found = column.translation
        notes = [f"into {language_name(column.target)}"]
        if found:
            sure = f", detected with {found.language_probability:.0%}" if found.language_probability else ""
            heard = found.language != "und"  # as a Translator has it where nobody speaks
            notes.append(f"from {language_name(found.language)}{sure}" if heard else "no speech heard")
            notes.append(f"{found.duration:.1f} s")
        return {
            "model": column.model,
            "target": language_name(column.target),
            "code": column.target,
            "note": " · ".join(notes),
            "error": column.error,
            "done": self.done or found is not None,
            "segments": [
                {
                    "start": s.start,
                    "end": s.end,
                    "clock": f"{int(s.start) // 60}:{int(s.start) % 60:02}",
                    "text": s.text,
                    "flags": [(flag, FLAGS[flag]) for flag in s.flags],
                }
                for s in column.segments
            ],
            "holes": [f"{start:.1f} to {end:.1f} s can't be read; silence was taken for it." for start, end in holes]
            if found and (holes := [hole[:2] for hole in found.holes])
            else [],
            "files": [
                {
                    "label": kind.upper(),
                    "name": f"{Path(self.name).stem}.{column.model}.{column.target}.{SUFFIXES[kind]}",
                    "href": _data(mime, render(found, kind).encode()),
                }
                for kind, mime in DOWNLOADS.items()
            ]
            if found
            else [],
        }


# ---------------------------------------------------------------- search


def search_tab(page: gr.Blocks, service: Service, indexing: "DemoIndex", streams: Counter[str]) -> None:
    """A spoken query -> ranked utterances of an index; one of them -> how it aligns with the query."""
    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            audio = _recorder("il-question", "A spoken query, at most 30 seconds")
        with gr.Column(scale=2, min_width=280):
            name = gr.Dropdown(label="Index", choices=[])
            spoken = gr.Dropdown([("Detect it", ""), *_languages()], value="", label="Language of the query")
            elsewhere = gr.Checkbox(value=True, label="Only in other languages than the query's")
    _index_choice(page, service, indexing, name)
    (start,) = _buttons("Search", stops=False)
    chosen = _examples()
    hits = gr.HTML(elem_classes="il-out", elem_id="il-hits", js_on_load=_CHOOSE)
    aligned = gr.HTML(elem_classes="il-out", elem_id="il-alignment")

    def search(
        path: str | None, index: str | None, language: str, others: bool, request: gr.Request
    ) -> tuple[str, str]:
        if not path or not index:
            return _alert("Say something or choose a file first." if index else "There is no index to search yet."), ""
        try:
            found = service.search(
                _upload(path), index=index, language=language or None, top=10, elsewhere=others,
                client=client_of(request), cancelled=Work(streams, request),
            )  # fmt: skip
        except InterlinguaError as error:
            return _alert(_named(error, Path(path).name)), ""
        rows = [
            {
                "id": hit.utterance.id,
                "code": hit.utterance.language,
                "language": language_name(hit.utterance.language),
                "text": hit.utterance.text,
                "score": hit.score,
                "player": clip(hit.utterance.audio),
            }
            for hit in found
        ]
        return _draw("hits.html", hits=rows, lead=""), ""

    def align(path: str | None, index: str | None, event: gr.EventData, request: gr.Request) -> str:
        if not path or not index:
            return _alert("The query is gone; choose it again.")
        try:
            query, utterance = load_audio(source_of(_upload(path)), max_seconds=WINDOW_SECONDS), str(event.utterance)
            found, similarity = service.align(
                query, index=index, utterance=utterance, client=client_of(request), cancelled=Work(streams, request)
            )
            (hit,) = service.index(index).utterances(among([utterance]))
            return _alignment(query, load_audio(hit.audio), found, similarity)
        except InterlinguaError as error:
            return _alert(_named(error, Path(path).name))

    settings: dict[str, Any] = {"show_progress": "minimal", "api_visibility": "private"}
    start.click(search, [audio, name, spoken, elsewhere], [hits, aligned], **settings)
    hits.click(align, [audio, name], aligned, **settings)
    for button, samples in chosen:
        button.click(samples, outputs=audio, api_visibility="private").then(
            search, [audio, name, spoken, elsewhere], [hits, aligned], **settings
        )


def _alignment(heard: Samples, other: Samples, found: Alignment, similarity: Matrix) -> str:
    """An alignment as HTML: the picture, both recordings, and each word's match."""
    with _DRAWING:
        picture = plots.svg("alignment", plots.alignment, Results(alignment=found), {"alignment": similarity})
    query, hit = found.query, found.candidate
    matches = [
        {
            "query": (*m.query.times, m.query.word),
            "hit": (*m.candidate.times, m.candidate.word),
            "similarity": m.similarity or 0.0,
        }
        for m in found.matches
    ]
    return _draw(
        "alignment.html",
        title=f"{language_name(query.language)} → {language_name(hit.language)}",
        scores=f"SeqSim F1 {found.f1 or 0:.3f}: precision {found.precision or 0:.3f}, recall {found.recall or 0:.3f}",
        sides=[
            {
                "role": role,
                "language": language_name(side.language),
                "code": side.language,
                "text": side.text or "no transcript",
                "transcribed": side.transcribed,
                "player": _data("audio/mpeg", mp3(samples)),
            }
            for role, side, samples in (("query", query, heard), ("hit", hit, other))
        ],
        part=matching_part(found.matches),
        picture=Markup(picture),
        down=query.seconds or 0,
        across=hit.seconds or 0,
        matches=matches,
    )


def matching_part(matches: Sequence[Match]) -> tuple[float, float] | None:
    """Start and end of what matches in the candidate: from the first to the last of its better-matched words."""
    if not matches:
        return None
    middle = statistics.median(m.similarity or 0.0 for m in matches)
    times = [m.candidate.times for m in matches if (m.similarity or 0.0) >= middle]
    return min(start for start, _ in times), max(end for _, end in times)


# ---------------------------------------------------------------- mined pairs


def pairs_tab(page: gr.Blocks, service: Service, indexing: "DemoIndex", streams: Counter[str]) -> None:
    """Pairs that mean the same, mined here in two languages of an index or read from a table -> marks."""
    running = Running(page, streams)
    gr.HTML(
        "<p>Pairs of recordings in two languages that are taken for translations of each other. Hear them, judge them, "
        "and save the marks: <code>interlingua mine … --marks marks.tsv</code> estimates the precision from them.</p>",
        elem_classes="il-out",
    )
    tables = {f"{name} (a table)": path for name, path in service.pairs.items()}
    with gr.Row():
        name = gr.Dropdown(label="Index", choices=[])
        one = gr.Dropdown(label="Language", choices=[])
        other = gr.Dropdown(label="and", choices=[])
        near = gr.Textbox(label="Around a CSLS of", placeholder="evenly from all", max_lines=1)
    _index_choice(page, service, indexing, name, more=tuple(tables))
    start, stop = _buttons("Show pairs")
    shown = gr.HTML(elem_classes="il-out", elem_id="il-pairs")

    def languages(index: str | None) -> list[Any]:
        held = sorted(service.index(index).languages()) if index in service.index_uris else []
        choices = [(language_name(code), code) for code in held]
        values = [*held, None, None][:2]
        return [gr.Dropdown(choices, value=value, visible=index not in tables) for value in values]

    def show(index: str | None, a: str | None, b: str | None, csls: str, request: gr.Request) -> Iterator[str]:
        try:
            threshold = float(csls.replace(",", ".")) if csls.strip() else -np.inf
        except ValueError:
            yield _alert(f"A CSLS is a number such as 0.05, not {csls!r}.")
            return
        if index in tables:
            job = Judging(f"Pairs of {index.removesuffix(' (a table)')}", partial(_pairs_of, tables[index], threshold))
        elif index in service.index_uris and a and b and a != b:
            title = f"Pairs of {language_name(a)} and {language_name(b)}"
            job = Judging(title, partial(_mined, str(service.index_uris[index]), a, b, threshold))
        else:
            yield _alert("Choose an index and two languages of it.")
            return
        with running.one(request) as cancelled:
            yield from _until_done(partial(job.run, cancelled), job.drawn)

    name.change(languages, name, [one, other], api_visibility="private", show_progress="hidden")
    start.click(show, [name, one, other, near], shown, show_progress="hidden", api_visibility="private")
    stop.click(running.cancel, api_visibility="private", queue=False)


Judged = list[tuple[MinedPair, AudioRef, AudioRef]]


@dataclass
class Judging:
    """Pairs to be judged, in the making; ``find`` is called with what takes the part that is done."""

    title: str
    find: Callable[[Callable[[float], None]], Judged]
    part: float = 0.0
    page: str = ""
    failure: str = ""

    def run(self, cancelled: threading.Event) -> None:
        """Find the pairs, and make their page; faults are shown."""

        def moved(part: float) -> None:
            if cancelled.is_set():
                raise StoppedError("Cancelled.", cancelled=True)
            self.part += part

        try:
            self.page = marks_page(self.title, self.find(moved))
        except InterlinguaError as error:
            self.failure = str(error)

    def drawn(self) -> str:
        """Progress, then the page in a frame of its own."""
        if self.failure:
            return _alert(self.failure)
        if not self.page:
            return _progress(min(1.0, self.part) or None, "Comparing" if self.part < 1 else "Preparing the recordings")
        return f'<iframe class="il-frame" title="Pairs to judge" srcdoc="{html.escape(self.page)}"></iframe>'


def _mined(index: str, a: str, b: str, threshold: float, moved: Callable[[float], None]) -> Judged:
    """Pairs of two languages of an index."""

    def here(a: Side, b: Side, shares: Sequence[Share], advance: Callable[[int], None]) -> Any:
        whole = sum(share.size for share in shares)

        def both(n: int) -> None:
            moved(n / whole)
            advance(n)

        return mine_here(a, b, shares, both)

    held = Index.open(index)
    found = mine(Side(held, a), Side(held, b), engine=here)
    chosen = found.around(threshold, PAIRS)
    sides = [(found.a.utterances[found.i[p]].audio, found.b.utterances[found.j[p]].audio) for p in chosen]
    return [(pair, *audio) for pair, audio in zip(found.table(chosen), sides, strict=True)]


def _pairs_of(table: Path, threshold: float, moved: Callable[[float], None]) -> Judged:
    """Pairs of a table that `interlingua mine --out` wrote."""
    held = sorted(read_pairs(table, MinedPair), key=lambda pair: -pair.csls)
    moved(1.0)

    def side(path: str, start: float, end: float) -> AudioRef:
        return AudioRef(path, offset=start, duration=end - start)

    return [
        (pair, side(pair.audio_a, pair.start_a, pair.end_a), side(pair.audio_b, pair.start_b, pair.end_b))
        for pair in (held[n] for n in around(np.array([pair.csls for pair in held], np.float32), threshold, PAIRS))
    ]


# ---------------------------------------------------------------- runs


@dataclass(frozen=True)
class Run:
    """A result folder; ``name`` is its path below the folder of runs."""

    name: str
    folder: Path
    title: str
    started: str
    commit: str

    @property
    def report(self) -> bool:
        """Whether its report has been written."""
        return (self.folder / "report.html").is_file()


def runs_tab(page: gr.Blocks, folder: Path | None) -> None:
    """The result folders: read a report, or compare several."""

    def listed() -> str:
        return _draw("runs.html", runs=find_runs(folder), folder=folder or "no folder; name one with --runs")

    shown = gr.HTML(elem_classes="il-out", elem_id="il-runs")
    page.load(listed, outputs=shown, show_progress="hidden", api_visibility="private")


def find_runs(folder: Path | None) -> list[Run]:
    """Result folders below a folder, at most three deep, the newest first; what can't be read isn't listed."""
    found = []
    for path in [
        p for depth in ("*", "*/*", "*/*/*") for p in (folder.glob(f"{depth}/results.json") if folder else ())
    ]:
        try:
            results, _ = load_results(path.parent)
        except ResultsError:
            continue
        about = results.provenance
        name = path.parent.relative_to(folder or path).as_posix()
        started, commit = (about.started or "")[:16].replace("T", " "), (about.commit or "")[:8]
        found.append(Run(name, path.parent, results.title or "", started, commit))
    return sorted(found, key=lambda run: (run.started, run.name), reverse=True)


def _serve_runs(app: FastAPI, folder: Path | None) -> None:
    """Routes of reports, of their tables, and of comparisons; they serve what `find_runs` lists, and nothing else."""

    @app.get("/runs/{name:path}/report.html", include_in_schema=False)
    def report(name: str) -> Response:
        run = next((run for run in find_runs(folder) if run.name == name and run.report), None)
        return FileResponse(run.folder / "report.html") if run else _refused("There is no such report.", 404)

    @app.get("/runs/{name:path}/tables/{table}", include_in_schema=False)
    def table(name: str, table: str) -> Response:
        held = [path for run in find_runs(folder) if run.name == name for path in (run.folder / "tables").glob("*")]
        path = next((path for path in held if path.name == table and path.suffix in (".csv", ".tex")), None)
        return FileResponse(path) if path else _refused("There is no such table.", 404)

    @app.get("/compare", include_in_schema=False)
    def compare(run: list[str] = Query(default=[])) -> Response:  # noqa: B008  # FastAPI's way
        known = {one.name: one.folder for one in find_runs(folder)}
        try:
            with TemporaryDirectory(prefix="interlingua-compare-") as temporary:
                with _DRAWING:
                    page = write_comparison(
                        [known[name] for name in run if name in known], Path(temporary) / "compare.html"
                    )
                return HTMLResponse(page.read_text(encoding="utf-8"))
        except InterlinguaError as error:
            return _refused(f"{error}.", 400)


def _refused(why: str, status: int) -> Response:
    return HTMLResponse(f"<!doctype html><title>Interlingua</title><p>{html.escape(why)}", status)


# ---------------------------------------------------------------- an index of the demo's recordings


class DemoIndex:
    """Makes the index of what `make demo` has encoded, in the background; searches find it once it is whole."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._folder = service.runs / DEMO if service.runs else None
        self.state = ""  # what to tell a visitor meanwhile
        self._began = 0.0

    def start(self) -> None:
        """Begin, unless an index is named or there are no frames."""
        frames = sorted((self._folder / "frames").glob("encoder-pool*.lance")) if self._folder else []
        if not frames or self._service.index_uris:
            return
        self._began = time.monotonic()
        self.state = "The demo's recordings are being indexed"
        threading.Thread(target=self._make, args=(frames[-1],), daemon=True, name="demo-index").start()

    def _make(self, frames: Path) -> None:
        place = frames.parent.parent / "index"
        try:  # in a process of its own, which ends with this one: Lance's threads would abort the interpreter's end
            with get_context("spawn").Pool(1, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as processes:
                processes.apply(_index, (str(frames), str(place)))
        except (InterlinguaError, OSError) as error:
            self.state = f"The demo's recordings can't be indexed: {error}"
        else:
            self._service.index_uris[DEMO] = str(place)
            self.state = ""
        self._began = 0.0

    @property
    def going(self) -> bool:
        """Whether it is being made."""
        return self._began > 0

    @property
    def drawn(self) -> str:
        """What happens, as HTML; "" once it is done."""
        if not self.going:
            return _alert(self.state) if self.state else ""
        return _progress(None, f"{self.state}; it takes about half a minute ({time.monotonic() - self._began:.0f} s)")


def _index(frames: str, place: str) -> None:
    build_index([], place, stores=[FrameStore.open(frames)])


def _index_choice(
    page: gr.Blocks, service: Service, indexing: DemoIndex, name: gr.Dropdown, more: Sequence[str] = ()
) -> None:
    """Keep a list of indexes up to date until the demo's is there, and say what is lacking."""
    state = gr.HTML(elem_classes="il-out", visible=False)
    clock = gr.Timer(1)

    def look(current: str | None) -> tuple[Any, Any, Any]:
        held = [*service.index_uris, *more]
        lacking = "" if held or indexing.state else _draw("no-index.html")
        choice = gr.Dropdown(held, value=current if current in held else next(iter(held), None))
        told = indexing.drawn or lacking
        return choice, gr.HTML(told, visible=bool(told)), gr.Timer(active=indexing.going)

    settings: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    clock.tick(look, name, [name, state, clock], **settings)
    page.load(look, name, [name, state, clock], **settings)


# ---------------------------------------------------------------- tools for agents


def agents_tools(service: Service) -> None:
    """Translate and search as tools of the MCP endpoint, ``/gradio_api/mcp/``."""

    answered = Answering(service)

    async def done(request: gr.Request, call: Callable[[threading.Event], Any]) -> Any:
        try:
            return await answered(request, call)
        except InterlinguaError as error:
            raise gr.Error(str(error), print_exception=False) from error

    async def translate(
        audio: gr.FileData, to: list[str], request: gr.Request, model: str = service.default_model, source: str = AUTO
    ) -> list[dict[str, Any]]:
        """Translate a recording into languages, with times; flags name what may be wrong with a segment.

        Args:
            audio: the recording: its bytes as data:audio/wav;base64,…
            to: target languages, such as en; the spoken language gives a transcript.
            model: a model that the service has.
            source: language that is spoken; auto detects it.
        """

        def call(cancelled: threading.Event) -> list[Translation]:
            return service.translate(
                _upload(audio["path"]), model=model, to=to, source=source, client=client_of(request),
                cancelled=cancelled,
            )  # fmt: skip

        return [translation.as_dict() for translation in await done(request, call)]

    async def search(
        audio: gr.FileData, index: str, request: gr.Request, top: int = 10, language: str = ""
    ) -> list[dict[str, Any]]:
        """Find the utterances of an index that mean what a recording means, whatever their language.

        Args:
            audio: the spoken query, of at most 30 seconds: its bytes as data:audio/wav;base64,…
            index: an index that the service has.
            top: how many utterances.
            language: of the query; empty: detected.
        """

        def call(cancelled: threading.Event) -> list[Hit]:
            return service.search(
                _upload(audio["path"]), index=index, language=language or None, top=top, client=client_of(request),
                cancelled=cancelled,
            )  # fmt: skip

        return [
            {"id": h.utterance.id, "language": h.utterance.language, "text": h.utterance.text, "score": h.score}
            for h in await done(request, call)
        ]

    gr.api(translate, queue=False)  # or Gradio asks itself over HTTP, without the visitor's key
    gr.api(search, queue=False)


# ---------------------------------------------------------------- what Gradio must not do


@cache
def _restrain_gradio() -> None:
    """Have Gradio fetch no URL that a client names, and keep nothing of an upload whose sender leaves."""
    parse = GradioMultiPartParser.parse

    async def parsed(self: GradioMultiPartParser) -> Any:
        try:
            return await parse(self)
        except ClientDisconnect as error:
            for file in self._files_to_close_on_error:
                file.close()
                Path(file.name).unlink(missing_ok=True)
            raise MultiPartException("the sender left") from error

    async def refuse(*_: Any, **__: Any) -> Any:
        raise gr.Error("Nothing is fetched from elsewhere; send the recording itself.", print_exception=False)

    GradioMultiPartParser.parse = parsed
    for name in ("async_ssrf_protected_get", "async_ssrf_protected_download"):
        getattr(gradio.processing_utils, name)  # raises AttributeError where another Gradio has it elsewhere
        setattr(gradio.processing_utils, name, refuse)


def _keep_small(folder: str, most: int) -> None:
    """Delete uploads, old ones and the oldest above ``most`` bytes, for as long as their folder is there."""
    while Path(folder).is_dir():
        sweep(Path(folder), most)
        time.sleep(SWEPT)


def sweep(folder: Path, most: int) -> None:
    """Delete files older than `KEPT`, and the oldest above ``most`` bytes."""
    found = []
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # Gradio has moved it
            if path.is_file():
                found.append((path.stat().st_ctime, path.stat().st_size, path))
    size = 0
    for changed, more, path in sorted(found, reverse=True):
        size += more
        if size > most or time.time() - changed > KEPT:
            path.unlink(missing_ok=True)
            if path.parent != folder:
                with suppress(OSError):  # it holds others
                    path.parent.rmdir()


# ---------------------------------------------------------------- shared by the tabs


class Listening:
    """ASGI: counts the streams of events that each visitor's page has open; who has none has left."""

    def __init__(self, app: ASGIApp, streams: Counter[str]) -> None:
        self.app, self.streams = app, streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        asks = scope["type"] == "http" and scope["path"].endswith("/gradio_api/queue/data")
        visitors = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", []) if asks else []
        self.streams.update(visitors)
        try:
            await self.app(scope, receive, send)
        finally:
            for visitor in visitors:
                self.streams[visitor] -= 1
                if not self.streams[visitor]:
                    del self.streams[visitor]


class Work(threading.Event):
    """Tells a visitor's work to stop: once set, or once their page hasn't listened for a while; ask `is_set`."""

    def __init__(self, streams: Counter[str], request: gr.Request) -> None:
        super().__init__()
        self._streams, self._visitor, self._heard = streams, str(request.session_hash), time.monotonic()

    def is_set(self) -> bool:
        """Whether to stop."""
        now = time.monotonic()
        if self._visitor in self._streams:
            self._heard = now
        elif now - self._heard > GRACE:
            self.set()
        return super().is_set()


class Running:
    """What each visitor has running in a tab: one thing, which ends when they cancel, start another, or leave."""

    def __init__(self, page: gr.Blocks, streams: Counter[str]) -> None:
        self._events: dict[str, Work] = {}
        self._streams = streams
        page.unload(self.cancel)

    @contextmanager
    def one(self, request: gr.Request) -> Iterator[threading.Event]:
        """The event that tells a visitor's work to stop; set at the end, too."""
        self.cancel(request)
        visitor, event = str(request.session_hash), Work(self._streams, request)
        self._events[visitor] = event
        try:
            yield event
        finally:
            event.set()
            if self._events.get(visitor) is event:
                del self._events[visitor]

    def cancel(self, request: gr.Request) -> None:
        """Stop what a visitor has running."""
        if event := self._events.get(str(request.session_hash)):
            event.set()


def _until_done(work: Callable[[], None], drawn: Callable[[], str]) -> Iterator[str]:
    """Run work in a thread, and what is to be shown of it whenever that changes."""
    faults: list[BaseException] = []

    def watched() -> None:
        try:
            work()
        except BaseException as fault:  # raised again below, where Gradio shows it
            faults.append(fault)

    thread = threading.Thread(target=watched, daemon=True)
    thread.start()
    last = ""
    while thread.is_alive():
        thread.join(TICK)
        if (now := drawn()) != last:
            yield now
            last = now
    if faults:
        raise faults[0]
    yield drawn()


def _buttons(work: str, *, stops: bool = True) -> list[gr.Button]:
    """What begins the work of a tab, and what ends it."""
    with gr.Row(elem_classes="il-buttons"):
        begin = gr.Button(work, variant="primary", scale=0, min_width=160)
        return [begin, gr.Button("Cancel", scale=0, min_width=110)] if stops else [begin]


def _recorder(name: str, label: str) -> gr.Audio:
    plain = gr.WaveformOptions(show_recording_waveform=False)  # a player of the browser's: page.js can play stretches
    return gr.Audio(
        sources=["upload", "microphone"], type="filepath", label=label, buttons=[], editable=False, elem_id=name,
        waveform_options=plain,
    )  # fmt: skip


def _examples() -> list[tuple[gr.Button, Callable[[], tuple[int, np.ndarray]]]]:
    """Buttons that take a recording of the prompts corpus, and what gives its samples; none without the corpus."""
    root = prompts.default_root()
    if not root.is_dir():
        gr.HTML("<p>Examples come with the prompts corpus: <code>interlingua doctor --fetch</code>.</p>",
                elem_classes="il-out il-soft")  # fmt: skip
        return []
    made: list[tuple[gr.Button, Callable[[], tuple[int, np.ndarray]]]] = []
    with gr.Row(elem_classes="il-examples"):
        for language, name in EXAMPLES.items():
            text = prompts.clean_transcript(prompts.read_transcripts(root / f"core-sounds-{language}.txt")[name])
            button = gr.Button(
                f"{language_name(language)}: {shorten(text, 50, placeholder='…')}", size="sm", min_width=170
            )
            made.append((button, partial(_samples, root / language / f"{name}.g722")))
    return made


def _samples(path: Path) -> tuple[int, np.ndarray]:
    """A recording as Gradio takes it."""
    return SAMPLE_RATE, (np.clip(load_audio(path), -1, 1) * 32767).astype(np.int16)


def _card(card: ModelCard) -> str:
    """What a model is called on the page."""
    into = ", ".join(language_name(code) for code in card.targets)
    return f"{card.name} (into {into})" if into else card.name


def _languages(first: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Names and codes, those that a model was trained for first, then by name."""
    others = sorted((code for code in WHISPER_LANGUAGES if code not in first), key=language_name)
    return [(language_name(code), code) for code in (*first, *others)]


def _draw(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values)


def _upload(path: str) -> Upload:
    """What a visitor uploaded; raises UsageError for any other file."""
    folder = Path(get_upload_folder()).resolve()
    if not Path(path).resolve().is_relative_to(folder):
        raise UsageError(f"{path}: not an upload; send the recording itself")
    return Upload(Path(path).read_bytes(), Path(path).suffix)


def _named(error: InterlinguaError, upload: str) -> str:
    """A message that calls an upload by its name."""
    return str(error).replace(f"recording{Path(upload).suffix}", upload, 1)


def _alert(text: str) -> str:
    return f'<p class="il-alert" role="alert">{html.escape(text)}</p>'


def _progress(part: float | None, text: str) -> str:
    return _draw("progress.html", part=part, text=text)


def _data(mime: str, content: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("interlingua.serve"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )


def _resource(name: str) -> str:
    return (files("interlingua.serve") / "templates" / name).read_text(encoding="utf-8")


def _theme() -> gr.themes.Base:
    """The report's colours, and fonts that every machine has: nothing is fetched."""
    blue = gr.themes.Color(
        "#eef4f8", "#d9e6ef", "#b7d0e0", "#8fbbd8", "#5f93b5", "#2f5d7c", "#2a536f", "#234560", "#1c374c", "#152a3a",
        "#0e1c27",
    )  # fmt: skip
    return gr.themes.Base(
        primary_hue=blue,
        secondary_hue=blue,
        neutral_hue="stone",
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "DejaVu Sans", "sans-serif"],
        font_mono=["ui-monospace", "SF Mono", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace"],
    )
