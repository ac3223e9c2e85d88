"""The HTTP API: OpenAI's audio routes as their official client speaks them, `search` and `align` beside them.

``to_language`` and ``language`` on translations are vLLM's names for the target and the source.
"""

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePath
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from fastapi import APIRouter, FastAPI, Form, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from interlingua.errors import (
    AudioError,
    BusyError,
    EnglishOnlyModelError,
    InterlinguaError,
    NotFoundError,
    StoppedError,
    TooLongAudioError,
    UntrainedTaskError,
    UsageError,
)
from interlingua.languages import UNSPACED_LANGUAGES, language_name, normalise_language
from interlingua.serve.service import Service, Upload
from interlingua.translation import AUTO, Segment, Segmentation, Translation, TranslationOptions
from interlingua.translation.formats import render
from interlingua.translation.translator import SOURCE

T = TypeVar("T")

DEFAULT_NAME = "whisper-1"  # what clients ask for that know OpenAI's models alone: the first model here
ResponseFormat = Literal["json", "text", "srt", "verbose_json", "vtt"]

_log = logging.getLogger(__name__)


# ---------------------------------------------------------------- errors


class Problem(BaseModel):
    """What was wrong, as OpenAI's client reads it."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every answer that isn't a success."""

    error: Problem


def problem(
    status: int, message: str, code: str | None = None, param: str | None = None, headers: dict[str, str] | None = None
) -> JSONResponse:
    """An answer in the API's error shape."""
    kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    kind = "server_error" if status >= 500 else kinds.get(status, "invalid_request_error")
    body = ErrorBody(error=Problem(message=message, type=kind, param=param, code=code))
    return JSONResponse(body.model_dump(), status, headers=headers)


def problem_of(error: Exception) -> JSONResponse:
    """The answer to a request that raised an error."""
    message = str(error)
    match error:
        case NotFoundError():
            return problem(404, message, f"{error.what}_not_found", error.what)
        case BusyError():
            code, status = ("rate_limit_exceeded", 429) if error.own else ("server_busy", 503)
            return problem(status, message, code, headers={"Retry-After": str(error.retry_after)})
        case StoppedError(cancelled=True):
            return problem(499, message, "cancelled")  # for the figures; nobody reads it
        case StoppedError():
            return problem(504, message, "timeout")
        case TooLongAudioError():
            return problem(413, message, "audio_too_long", "file")
        case AudioError():
            return problem(400, message, "invalid_audio", "file")
        case UsageError() | UntrainedTaskError() | EnglishOnlyModelError():
            return problem(400, message, "invalid_value")
        case RequestValidationError():
            first = error.errors()[0]
            param = next((str(part) for part in reversed(first["loc"]) if isinstance(part, str)), None)
            return problem(400, f"{param}: {first['msg']}", "invalid_value", None if param == "body" else param)
        case HTTPException():
            return problem(error.status_code, str(error.detail), headers=dict(error.headers or {}))
    _log.error("a request failed", exc_info=error)
    return problem(500, "the request failed; the service's log says why", "internal_error")


def answer_errors(app: FastAPI) -> None:
    """Let every error of an app be answered in the API's shape."""

    async def answer(request: Request, error: Exception) -> JSONResponse:
        return problem_of(error)

    for kind in (InterlinguaError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, answer)


_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorBody, "description": "a field or the recording is wrong"},
    401: {"model": ErrorBody, "description": "no or a wrong API key"},
    404: {"model": ErrorBody, "description": "no such model, index or utterance"},
    408: {"model": ErrorBody, "description": "the request came too slowly"},
    413: {"model": ErrorBody, "description": "too many bytes, or too long a recording"},
    429: {"model": ErrorBody, "description": "too many requests of this client; see Retry-After"},
    503: {"model": ErrorBody, "description": "too many requests; see Retry-After"},
    504: {"model": ErrorBody, "description": "not done in time"},
}
_TEXT: dict[str, Any] = {"schema": {"type": "string"}}
_OTHER_FORMATS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": _TEXT, "text/vtt": _TEXT, "text/event-stream": _TEXT}}
}


# ---------------------------------------------------------------- what comes in, what goes out


class AudioForm(BaseModel):
    """Fields of both audio routes."""

    model_config = ConfigDict(extra="ignore")

    file: UploadFile
    model: str
    language: str | None = None
    prompt: str = ""
    response_format: ResponseFormat = "json"
    temperature: float = Field(0.0, ge=0, le=1)
    stream: bool = False


class TranslationForm(AudioForm):
    """Fields of ``/v1/audio/translations``; ``to_language``: a target of the model, default English."""

    to_language: str | None = None


class TranscriptionForm(AudioForm):
    """Fields of ``/v1/audio/transcriptions``."""

    timestamp_granularities: list[Literal["word", "segment"]] = Field([], alias="timestamp_granularities[]")
    languages: list[str] = Field([], alias="languages[]")
    keywords: list[str] = Field([], alias="keywords[]")
    chunking_strategy: str | None = None
    vad_type: str | None = Field(None, alias="chunking_strategy[type]")  # as OpenAI's client sends the object
    vad_threshold: float = Field(0.5, alias="chunking_strategy[threshold]", gt=0, lt=1)
    vad_padding: int = Field(200, alias="chunking_strategy[prefix_padding_ms]", ge=0, le=10_000)
    vad_silence: int = Field(300, alias="chunking_strategy[silence_duration_ms]", ge=0, le=10_000)
    include: list[str] = Field([], alias="include[]")
    known_speaker_names: list[str] = Field([], alias="known_speaker_names[]")


class SegmentOut(BaseModel):
    """A segment; ``seek``: its start in frames of 10 ms."""

    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: list[int]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float


class WordOut(BaseModel):
    """A timed word."""

    word: str
    start: float
    end: float


class Usage(BaseModel):
    """What a request used: seconds of audio."""

    type: Literal["duration"] = "duration"
    seconds: float


class Text(BaseModel):
    """``json`` of a translation."""

    text: str


class Transcription(Text):
    """``json`` of a transcription."""

    usage: Usage


class TranslationVerbose(BaseModel):
    """``verbose_json`` of a translation; ``language``: of the text, by its English name."""

    task: Literal["translate", "transcribe"]
    duration: float
    language: str
    text: str
    segments: list[SegmentOut]


class TranscriptionVerbose(BaseModel):
    """``verbose_json`` of a transcription; segments and words as ``timestamp_granularities`` asks."""

    task: Literal["transcribe"]
    duration: float
    language: str
    text: str
    segments: list[SegmentOut] | None = None
    words: list[WordOut] | None = None
    usage: Usage


class ModelOut(BaseModel):
    """A model; ``targets``: languages that it translates into."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    targets: list[str]
    base: str | None


class ModelList(BaseModel):
    """Every model."""

    object: Literal["list"] = "list"
    data: list[ModelOut]


class HitOut(BaseModel):
    """A found utterance; ``score``: SeqSim with the index's corrections, ``similarity``: without."""

    rank: int
    score: float
    similarity: float
    id: str
    language: str
    text: str | None
    duration: float | None


class HitList(BaseModel):
    """What a search found, best first."""

    object: Literal["list"] = "list"
    data: list[HitOut]


def segments_out(translation: Translation) -> list[SegmentOut]:
    """Its segments, with every field."""
    return [
        SegmentOut(
            id=i,
            seek=round(100 * s.start),
            start=s.start,
            end=s.end,
            text=s.text,
            tokens=list(s.tokens),
            temperature=s.temperature,
            avg_logprob=s.log_probability,
            compression_ratio=s.compression_ratio,
            no_speech_prob=s.no_speech_probability,
        )
        for i, s in enumerate(translation.segments)
    ]


def words_out(translation: Translation) -> list[WordOut]:
    """Its words."""
    return [WordOut(word=w.word, start=w.start, end=w.end) for s in translation.segments for w in s.words]


# ---------------------------------------------------------------- routes


def client_of(request: Request) -> str:
    """Whose turn a request takes: the number of its key where there are several, else its address."""
    known: str | None = getattr(request.state, "client", None)
    return known or (request.client.host if request.client else "")


class Answering:
    """Runs the service's calls in threads, and gives them up when their clients leave."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._pool = ThreadPoolExecutor(service.limits.requests + 8)  # those above the limit are told so

    async def __call__(self, request: Request, call: Callable[[threading.Event], T]) -> T:
        """The result of a call."""
        cancelled = threading.Event()
        work = asyncio.get_running_loop().run_in_executor(self._pool, call, cancelled)
        gone = asyncio.ensure_future(left(request))
        gone.add_done_callback(lambda _: cancelled.set())
        try:
            return await work
        finally:
            cancelled.set()
            gone.cancel()

    async def stream(
        self, request: Request, call: Callable[[threading.Event, Callable[[str], None]], str]
    ) -> AsyncIterator[dict[str, Any]]:
        """Events of a call that hands out pieces of text, and returns all of it."""
        loop, pieces = asyncio.get_running_loop(), asyncio.Queue[str | None]()

        def emit(piece: str | None) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        def run(cancelled: threading.Event) -> str:
            try:
                return call(cancelled, emit)
            finally:
                emit(None)

        work = asyncio.ensure_future(self(request, run))
        try:
            while (piece := await pieces.get()) is not None:
                yield {"type": "transcript.text.delta", "delta": piece}
            yield {"type": "transcript.text.done", "text": await work}
        finally:
            work.cancel()


async def sent(file: UploadFile) -> Upload:
    """The file of a request."""
    return Upload(await file.read(), PurePath(file.filename or "").suffix)


async def left(request: Request) -> None:
    """Return when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def server_sent(events: AsyncIterator[dict[str, Any]]) -> Response:
    """A stream of server-sent events; an error before the first one is raised, a later one is an event."""
    first = await anext(events)

    async def lines() -> AsyncIterator[str]:
        yield _data(first)
        try:
            async for event in events:
                yield _data(event)
        except Exception as error:
            yield f"data: {bytes(problem_of(error).body).decode()}\n\n"
        yield "data: [DONE]\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


def _data(event: dict[str, Any]) -> str:
    return f"data: {json.dumps(event, ensure_ascii=False)}\n\n"


def router(service: Service) -> APIRouter:
    """The routes under ``/v1``."""
    routes, answered, begun = APIRouter(prefix="/v1", responses=_ERRORS), Answering(service), int(time.time())

    def name_of(model: str) -> str:
        known = model in service.model_specs or model != DEFAULT_NAME
        return model if known else service.default_model

    async def audio(
        request: Request, form: AudioForm, model: str, to: str, source: str, options: TranslationOptions
    ) -> Response | Translation:
        """The stream, or the translation, of a request."""
        data, client = await sent(form.file), client_of(request)

        def call(cancelled: threading.Event, emit: Callable[[str], None] | None = None) -> Translation:
            begun = False

            def news(name: str, target: str, segments: list[Segment]) -> None:
                nonlocal begun
                for s in segments:
                    glue = "" if (s.language if target == SOURCE else target) in UNSPACED_LANGUAGES else " "
                    if emit and s.text:
                        emit(glue * begun + s.text)
                        begun = True

            (found,) = service.translate(
                data,
                model=model,
                to=[to],
                source=source,
                options=options,
                client=client,
                news=news if emit else None,
                cancelled=cancelled,
            )
            return found

        if form.stream:
            return await server_sent(answered.stream(request, lambda gone, emit: call(gone, emit).text))
        return await answered(request, call)

    def options_of(form: AudioForm, **more: Any) -> TranslationOptions:
        timed = form.response_format in ("srt", "vtt", "verbose_json")
        retries = (form.temperature,) if form.temperature else TranslationOptions().temperatures
        return TranslationOptions(timestamps=timed, prompt=form.prompt, temperatures=retries, **more)

    @routes.post("/audio/translations", response_model=TranslationVerbose | Text, responses=_OTHER_FORMATS)
    async def translations(request: Request, form: Annotated[TranslationForm, Form()]) -> Response:
        """A recording in another language: English, or a target that the model was trained for."""
        model = name_of(form.model)
        card = await answered(request, lambda cancelled: service.card(model))
        source = normalise_language(form.language) if form.language else AUTO
        default = "en" if "en" in card.targets or not card.targets else card.targets[0]
        to = normalise_language(form.to_language) if form.to_language else default
        if to not in (*card.targets, source):
            here = ", ".join(card.targets) or "no other language"
            raise UsageError(f"to_language {to}: {model} translates into {here}")
        found = await audio(request, form, model, to, source, options_of(form))
        if isinstance(found, Response):
            return found
        if form.response_format == "verbose_json":
            return _json(
                TranslationVerbose(
                    task="translate" if to != found.language else "transcribe",
                    duration=round(found.duration, 2),
                    language=language_name(found.target).lower(),
                    text=found.text,
                    segments=segments_out(found),
                )
            )
        return _json(Text(text=found.text)) if form.response_format == "json" else _text(found, form.response_format)

    @routes.post("/audio/transcriptions", response_model=TranscriptionVerbose | Transcription, responses=_OTHER_FORMATS)
    async def transcriptions(request: Request, form: Annotated[TranscriptionForm, Form()]) -> Response:
        """A recording in its own language; its language is detected where ``language`` doesn't name it."""
        model = name_of(form.model)
        if form.include or form.known_speaker_names:
            raise UsageError("include and known_speaker_names aren't supported; leave them out")
        if len(form.languages) > 1:
            raise UsageError("languages: name one, or leave it out to have it detected")
        wanted = form.timestamp_granularities or ["segment"]
        if form.timestamp_granularities and form.response_format != "verbose_json":
            raise UsageError("timestamp_granularities needs response_format verbose_json")
        named = form.language or next(iter(form.languages), "")
        source = normalise_language(named) if named else AUTO
        if form.keywords:
            form.prompt = ", ".join([*([form.prompt] if form.prompt else []), *form.keywords])
        options = options_of(form, words="word" in wanted, segmentation=_segmentation(form))
        found = await audio(request, form, model, SOURCE, source, options)
        if isinstance(found, Response):
            return found
        usage = Usage(seconds=round(found.duration, 2))
        if form.response_format == "verbose_json":
            return _json(
                TranscriptionVerbose(
                    task="transcribe",
                    duration=round(found.duration, 2),
                    language=language_name(found.language).lower(),
                    text=found.text,
                    segments=segments_out(found) if "segment" in wanted else None,
                    words=words_out(found) if "word" in wanted else None,
                    usage=usage,
                )
            )
        if form.response_format == "json":
            return _json(Transcription(text=found.text, usage=usage))
        return _text(found, form.response_format)

    @routes.get("/models")
    async def models(request: Request) -> ModelList:
        """Every model that is served, the default first."""
        cards = await answered(request, lambda cancelled: service.models())
        return ModelList(data=[_model(card, begun) for card in cards])

    @routes.get("/models/{model:path}")
    async def one_model(request: Request, model: str) -> ModelOut:
        """A model."""
        return _model(await answered(request, lambda cancelled: service.card(name_of(model))), begun)

    @routes.post("/search")
    async def search(
        request: Request,
        file: UploadFile,
        index: Annotated[str | None, Form()] = None,
        language: Annotated[str | None, Form()] = None,
        top: Annotated[int, Form(ge=1, le=100)] = 10,
        elsewhere: Annotated[bool, Form()] = False,
    ) -> HitList:
        """The utterances of an index that mean what a recording of at most 30 s does; ``elsewhere``: in others."""
        data, client, name = await sent(file), client_of(request), index or _first(service.index_uris)
        spoken = normalise_language(language) if language else None

        def call(cancelled: threading.Event) -> HitList:
            hits = service.search(
                data, index=name, language=spoken, top=top, elsewhere=elsewhere, client=client, cancelled=cancelled
            )
            return HitList(
                data=[
                    HitOut(
                        rank=hit.rank,
                        score=round(hit.score, 4),
                        similarity=round(hit.similarity, 4),
                        id=hit.utterance.id,
                        language=hit.utterance.language,
                        text=hit.utterance.text,
                        duration=hit.utterance.duration,
                    )
                    for hit in hits
                ]
            )

        return await answered(request, call)

    @routes.post("/align")
    async def align(
        request: Request,
        file: UploadFile,
        utterance: Annotated[str, Form()],
        index: Annotated[str | None, Form()] = None,
    ) -> dict[str, Any]:
        """How a recording of at most 30 s and an utterance of an index align: scores, words, the best match of each."""
        data, client, name = await sent(file), client_of(request), index or _first(service.index_uris)

        def call(cancelled: threading.Event) -> dict[str, Any]:
            found, _ = service.align(data, index=name, utterance=utterance, client=client, cancelled=cancelled)
            built: dict[str, Any] = msgspec.to_builtins(found)
            return built

        return await answered(request, call)

    @routes.api_route(
        "/{rest:path}",
        methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"],
        include_in_schema=False,
    )
    async def nothing(request: Request, rest: str) -> Response:
        for route in routes.routes[:-1]:
            if isinstance(route, APIRoute) and route.matches(request.scope)[0] is Match.PARTIAL:
                raise HTTPException(405, "no such method here", {"Allow": ", ".join(sorted(route.methods or ()))})
        raise HTTPException(404, f"no route /v1/{rest}")

    return routes


def _segmentation(form: TranscriptionForm) -> Segmentation:
    """What ``chunking_strategy`` asks for; raises UsageError."""
    if form.chunking_strategy not in (None, "", "auto") or form.vad_type not in (None, "server_vad"):
        raise UsageError('chunking_strategy: give "auto", or an object of the type server_vad')
    return Segmentation(pad=form.vad_padding / 1000, pause=form.vad_silence / 1000, threshold=form.vad_threshold)


def _json(body: BaseModel) -> Response:
    return Response(body.model_dump_json(exclude_none=True), media_type="application/json")


def _text(translation: Translation, format: str) -> Response:
    if format == "text":
        return PlainTextResponse(translation.text + "\n")
    kind = "text/vtt" if format == "vtt" else "text/plain"
    return Response(render(translation, "vtt" if format == "vtt" else "srt"), media_type=kind)


def _model(card: Any, created: int) -> ModelOut:
    return ModelOut(id=card.name, created=created, owned_by="interlingua", targets=list(card.targets), base=card.base)


def _first(names: Any) -> str:
    if not names:
        raise NotFoundError("no index is served; start the service with --index NAME=FOLDER", "index")
    return str(next(iter(names)))
