"""The app: the API, the page, health and figures, behind one guard for keys, sizes and slow senders."""

import asyncio
import base64
import contextlib
import hmac
import logging
import threading
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from interlingua import __version__
from interlingua.errors import BusyError, StoppedError
from interlingua.serve import page
from interlingua.serve.openai_api import answer_errors, problem, problem_of, router
from interlingua.serve.service import Service

OPEN = ("/healthz", "/readyz", "/metrics")  # without a key: what watches the service asks for them
LOOPBACK = ("127.0.0.1", "localhost", "::1")
SLOWEST = 30.0  # seconds between two pieces of a request's body
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
        self._keys = [key.encode() for key in keys]
        self._local = local

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
        size, begun_answer = 0, False
        refused: Response | None = None

        async def bounded() -> Message:
            nonlocal size, refused
            if begun_answer or size < 0:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), SLOWEST)
            except TimeoutError:
                refused = problem(408, f"no data for {SLOWEST:.0f} s", "timeout")
                return {"type": "http.disconnect"}
            size += len(message.get("body", b""))
            if size > self.service.limits.upload:
                refused = self._too_large()
                return {"type": "http.disconnect"}
            if message["type"] == "http.request" and not message.get("more_body"):
                size = -1  # the body is here; what comes now is the client's leaving
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
            _log.exception("a request failed")
            refused = problem_of(error)
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
        path = scope["path"]
        host = urlsplit(f"//{headers.get('host', '')}").hostname
        if self._local and host not in LOOPBACK:  # another site's name that leads here (DNS rebinding)
            return problem(403, f"this service answers to {', '.join(LOOPBACK)} only", "wrong_host")
        origin = headers.get("origin")
        if self._local and origin and urlsplit(origin).hostname not in LOOPBACK:
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
        if scope.get("method") == "POST" and path.startswith("/v1/"):
            client = scope["state"].get("client") or (scope["client"][0] if scope.get("client") else "")
            try:
                self.service.require_room(client)  # before its audio is read
            except BusyError as error:
                return problem_of(error)
        return None

    def _too_large(self) -> JSONResponse:
        return problem(413, f"the request exceeds {self.service.limits.upload >> 20} MB", "too_large", "file")


def _key(authorization: str) -> bytes:
    """The key of a Bearer header, or the password of a Basic one."""
    kind, _, given = authorization.partition(" ")
    if kind.lower() == "basic":
        with contextlib.suppress(ValueError):
            return base64.b64decode(given.strip(), validate=True).partition(b":")[2]
        return b""
    return given.strip().encode() if kind.lower() == "bearer" else b""


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
    """Uvicorn, but asked to stop it first finishes the requests that were taken; asked again it goes at once."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service, self._stopping = service, False

    def handle_exit(self, sig: int, frame: Any) -> None:
        """See uvicorn."""
        if self._stopping:
            self.force_exit = self.should_exit = True
            return
        self._stopping = True
        self._service.stop()
        threading.Thread(target=self._drain, daemon=True).start()

    def _drain(self) -> None:
        while self._service.going:
            time.sleep(0.05)
        self.should_exit = True


def serve(app: FastAPI, service: Service, *, host: str, port: int) -> None:
    """Answer until a signal asks to stop."""
    config = uvicorn.Config(
        app, host=host, port=port, log_level="warning", server_header=False, timeout_graceful_shutdown=FAREWELL
    )
    server = Server(config, service)
    server.run()
    if not server.force_exit:
        service.close()
