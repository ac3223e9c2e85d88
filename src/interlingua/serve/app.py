"""The app: the API, the page, health and figures, behind one guard for keys, sizes and slow senders."""

import asyncio
import base64
import contextlib
import hmac
import logging
import math
import os
import threading
import time
from collections import Counter as Counts
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from interlingua import __version__
from interlingua.errors import BusyError, StoppedError
from interlingua.serve import page
from interlingua.serve.openai_api import answer_errors, client_of, problem, problem_of, router
from interlingua.serve.service import Service

OPEN = ("/healthz", "/readyz", "/metrics")  # without a key: what watches the service asks for them
UPLOADS = ("/v1/", "/gradio_api/upload")  # requests that bring recordings
LOOPBACK = ("127.0.0.1", "localhost", "::1")
SLOWEST = 30.0  # seconds between two pieces of a request's body
SLOWEST_RATE = 1000.0  # bytes a second of a body, after as many seconds
PATIENCE = 10.0  # seconds for the rest of a body that is refused
HEALTH_SECONDS = 5.0  # for which a health check's outcome stands, however often it is asked for
FAREWELL = 3  # seconds for answers on their way, and for pages that are open, when the service stops

_log = logging.getLogger(__name__)


class Figures:
    """What ``/metrics`` shows."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "interlingua_requests_total", "Requests by route and status", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "interlingua_request_seconds",
            "Seconds until the answer began",
            ["route"],
            registry=self.registry,
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
        )
        self.rows = Histogram(
            "interlingua_batch_rows",
            "Windows in a call of an engine",
            ["model"],
            registry=self.registry,
            buckets=(1, 2, 4, 8, 12, 16),
        )

    def watch(self, service: Service) -> None:
        """Show a service's own figures too."""
        for name, about, value in (
            ("interlingua_requests_going", "Requests that were taken and aren't answered yet", "going"),
            ("interlingua_rows_waiting", "Windows that wait for an engine", "waiting"),
        ):
            gauge = Gauge(name, about, registry=self.registry)
            gauge.set_function(lambda value=value: getattr(service, value))  # type: ignore[misc]  # a lambda's default


class Guard:
    """Every request passes here: keys, the sender's origin, the size of its body, and how slowly that comes."""

    def __init__(
        self, app: ASGIApp, service: Service, figures: Figures, keys: Sequence[str] = (), *, local: bool = True
    ) -> None:
        self.app, self.service, self.figures = app, service, figures
        self._keys = [key.strip().encode() for key in keys]
        self._local = local
        self._arriving = Counts[str]()  # requests of each client whose bodies are on their way
        self._bytes = 0  # of all bodies that are here

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        begun = time.monotonic()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "other")
                self.figures.requests.labels(route, str(message["status"])).inc()
                self.figures.seconds.labels(route).observe(time.monotonic() - begun)
                kept = [pair for pair in message["headers"] if not pair[0].lower().startswith(b"access-control-")]
                message = {**message, "headers": kept}  # there is no CORS, whatever Gradio answers
            await send(message)

        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            else:
                await self._discard(receive)
                await refusal(scope, receive, counted)
            return
        if scope["type"] == "websocket":
            await self.app(scope, receive, send)
            return
        client = client_of(Request(scope))
        slots = int(scope["method"] == "POST" and scope["path"].startswith(UPLOADS))
        size, waited, whole, begun_answer = 0, 0.0, False, False
        refused: Response | None = None
        self._arriving[client] += slots

        def arrived() -> None:
            nonlocal whole, slots
            self._arriving[client] -= slots
            self._arriving = +self._arriving  # those above 0
            whole, slots = True, 0

        async def bounded() -> Message:
            nonlocal size, waited, refused
            if begun_answer or whole:
                return await receive()
            asked = time.monotonic()
            try:
                message = await asyncio.wait_for(receive(), min(SLOWEST, SLOWEST + size / SLOWEST_RATE - waited))
            except TimeoutError:
                refused = problem(408, "the request's body came too slowly", "timeout")
                return {"type": "http.disconnect"}
            waited += time.monotonic() - asked
            size += len(message.get("body", b""))
            self._bytes += len(message.get("body", b""))
            if size > self.service.limits.upload:
                refused = self._too_large()
            elif size < self._bytes > self.service.limits.bodies:
                refused = problem_of(BusyError("too many recordings are on their way; send it again later", own=False))
            if refused is not None:
                return {"type": "http.disconnect"}
            if message["type"] == "http.request" and not message.get("more_body"):
                arrived()
            return message

        async def answered(message: Message) -> None:
            nonlocal begun_answer
            if refused is None:
                begun_answer = True
                await counted(message)

        try:
            await self.app(scope, bounded, answered)
        except ClientDisconnect:  # what the app makes of a body that was cut off
            if refused is None:
                raise
        except Exception as error:
            if begun_answer:
                raise
            refused = problem_of(error)
        finally:
            arrived()
            self._bytes -= size
        if refused is not None:
            await self._discard(receive)
            await refused(scope, receive, counted)

    async def _discard(self, receive: Receive) -> None:
        """Read on for a while: who is still sending would see a broken connection instead of the answer."""
        size = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while size <= self.service.limits.upload and (message := await receive()).get("more_body"):
                    size += len(message["body"])

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> Response | None:
        path, host, origin = scope["path"], headers.get("host", "").lower(), headers.get("origin")
        if self._local and _name_of(host) not in LOOPBACK:  # another site's name that leads here (DNS rebinding)
            return problem(403, f"this service answers to {', '.join(LOOPBACK)} only", "wrong_host")
        ours = {host, headers.get("x-forwarded-host", "").lower()} - {""}  # another site's page can't set the second
        if origin is not None and origin.lower().partition("://")[2] not in ours:
            return problem(403, "requests from other sites' pages aren't taken", "wrong_origin")
        if path in OPEN:
            return None
        scope.setdefault("state", {})
        if self._keys:
            given = _key(headers.get("authorization", ""))
            right = [number for number, key in enumerate(self._keys, 1) if hmac.compare_digest(key, given)]
            if not right:
                kind = "Bearer" if path.startswith("/v1") else "Basic"  # a browser then asks for it, as the password
                message = "no or a wrong API key; send it as Authorization: Bearer KEY"
                return problem(
                    401, message, "invalid_api_key", headers={"WWW-Authenticate": f'{kind} realm="interlingua"'}
                )
            if len(self._keys) > 1:
                scope["state"]["client"] = f"key {right[0]}"
        if (
            headers.get("content-length", "0").isdigit()
            and int(headers.get("content-length", "0")) > self.service.limits.upload
        ):
            return self._too_large()
        if scope.get("method") == "POST" and path.startswith(UPLOADS):
            client = client_of(Request(scope))
            try:  # before its audio is read
                self.service.require_room(client, self._arriving[client], self._arriving.total())
            except BusyError as error:
                return problem_of(error)
        return None

    def _too_large(self) -> JSONResponse:
        return problem(413, f"the request exceeds {self.service.limits.upload >> 20} MB", "too_large", "file")


def _name_of(host: str) -> str | None:
    """Without the port; None: that is no name."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _key(authorization: str) -> bytes:
    """The key of a Bearer header, or the password of a Basic one."""
    kind, _, given = authorization.partition(" ")
    if kind.lower() == "basic":
        with contextlib.suppress(ValueError):
            return base64.b64decode(given.strip(), validate=True).partition(b":")[2]
        return b""
    return given.strip().encode("latin-1") if kind.lower() == "bearer" else b""


def build(
    service: Service, figures: Figures, *, keys: Sequence[str] = (), local: bool = True, mcp: bool = False
) -> FastAPI:
    """The app around a service.

    Args:
        figures: those that the service's ``observe`` fills.
        keys: API keys, each a client of its own; none: everybody is let in.
        local: only this machine's names and pages are answered.
        mcp: let agents call the page's functions, by the Model Context Protocol.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.stop()

    app = FastAPI(title="interlingua", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    figures.watch(service)
    answer_errors(app)
    checked: list[tuple[float, str]] = []  # when, and what was wrong
    checking = threading.Lock()

    @app.get("/healthz", include_in_schema=False)
    def healthz() -> Response:
        with checking:
            if not checked or time.monotonic() - checked[0][0] > HEALTH_SECONDS:
                try:
                    service.check()
                    checked[:] = [(time.monotonic(), "")]
                except Exception as error:
                    _log.error("the health check failed: %s", error)
                    message = str(error) if isinstance(error, StoppedError) else type(error).__name__
                    checked[:] = [(time.monotonic(), message)]
            wrong = checked[0][1]
        return problem(503, wrong, "unhealthy") if wrong else JSONResponse({"status": "ok"})

    @app.get("/readyz", include_in_schema=False)
    def readyz() -> Response:
        if service.ready:
            return JSONResponse({"status": "ready"})
        return problem(503, "no model is loaded yet, or the service stops", "not_ready")

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(generate_latest(figures.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app.include_router(router(service))
    described = app.openapi

    def openapi() -> dict[str, Any]:
        document = described()
        for path in document["paths"].values():
            for way in path.values():
                way["responses"].pop("422", None)  # FastAPI's own shape; ours is a 400
                content = way.get("requestBody", {}).get("content", {})
                if form := content.pop("application/x-www-form-urlencoded", None):  # it holds a file
                    content["multipart/form-data"] = form
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way

    page.mount(app, service, mcp=mcp)
    app.add_middleware(Guard, service=service, figures=figures, keys=keys, local=local)
    return app


class Server(uvicorn.Server):
    """Uvicorn, but asked to stop it first finishes the requests that were taken; asked again it gives them up."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self.asked = 0  # to stop, so often

    def handle_exit(self, sig: int, frame: Any) -> None:
        """See uvicorn."""
        self.asked += 1
        self._service.stop(hurry=self.asked > 1)
        threading.Thread(target=self._drain, args=(self.asked,), daemon=True).start()

    def _drain(self, asked: int) -> None:
        late = time.monotonic() + FAREWELL if asked > 1 else math.inf
        while self._service.going and time.monotonic() < late:
            time.sleep(0.05)
        self.should_exit = True


def serve(app: FastAPI, service: Service, *, host: str, port: int) -> None:
    """Answer until a signal asks to stop."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        server_header=False,
        proxy_headers=False,  # or clients name themselves
        timeout_graceful_shutdown=FAREWELL,
    )
    server = Server(config, service)
    server.run()
    if server.asked > 1:  # an engine's call may go on, and would abort the interpreter's end
        os._exit(1)
    service.close()
