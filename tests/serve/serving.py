"""A service on tiny models, reached by OpenAI's client over a Unix socket: tests use no network."""

import contextlib
import io
import threading
import time
import wave

import httpx2
import numpy as np
import openai
import uvicorn

from interlingua.serve.app import Figures, build
from interlingua.serve.service import Limits, Service
from interlingua.translation.segments import Span
from interlingua.types import SAMPLE_RATE


def wav(samples):
    """The bytes of a WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SAMPLE_RATE)
        out.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return file.getvalue()


def uncut(samples, how):
    """Stands for `chunks_of` where the recordings aren't speech."""
    longest = 2 * SAMPLE_RATE
    return [Span(s, min(len(samples), s + longest)) for s in range(0, len(samples), longest)]


@contextlib.contextmanager
def serving(folder, models, *, limits=None, keys=(), local=True, **more):
    """An `httpx2` client of a running service."""
    figures = Figures()
    observed = []
    service = Service(models, limits=limits or Limits(), observe=lambda name, rows: observed.append(rows), **more)
    socket = str(folder / "socket")
    config = uvicorn.Config(build(service, figures, keys=keys, local=local), uds=socket, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    client = httpx2.Client(transport=httpx2.HTTPTransport(uds=socket), base_url="http://localhost", timeout=60)
    client.service, client.observed, client.uds, client.opened = service, observed, socket, []
    try:
        yield client
    finally:
        for one in (client, *client.opened):
            one.close()
        server.should_exit = True
        thread.join(20)
        service.close()


def official(client, key="none", **options):
    """OpenAI's client of the same service."""
    http = httpx2.Client(transport=httpx2.HTTPTransport(uds=client.uds), timeout=60)
    client.opened.append(http)
    return openai.OpenAI(base_url="http://localhost/v1", api_key=key, http_client=http, max_retries=0, **options)
