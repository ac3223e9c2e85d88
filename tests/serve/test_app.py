"""The guard before the app, and how the service stops; in-process, around an app that only reads."""

import asyncio
import base64
import json
import threading

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from interlingua.cli.serve import serve as command
from interlingua.errors import BusyError, ModelError, StoppedError, UsageError
from interlingua.serve import app as module
from interlingua.serve.app import Figures, Guard, Server
from interlingua.serve.openai_api import problem_of
from interlingua.serve.service import Limits, Service


async def reads(scope, receive, send):
    """Answers with the length of what was sent, as Gradio would: open to every site."""
    body = await Request(scope, receive).body()
    headers = {"Access-Control-Allow-Origin": "*", "access-control-allow-credentials": "true"}
    await PlainTextResponse(str(len(body)), headers=headers)(scope, receive, send)


def guarded(limits=None, app=reads, **more):
    return Guard(app, Service({"tiny": "tiny"}, limits=limits or Limits()), Figures(), **more)


async def call(guard, *, path="/v1/x", method="POST", body=(b"12", b"345"), client="1.2.3.4", **headers):
    """Status, headers and text of an answer; ``body``: pieces, or seconds to wait before the next."""
    pieces, sent = list(body), []

    async def receive():
        while pieces and isinstance(pieces[0], float):
            await asyncio.sleep(pieces.pop(0))
        if not pieces:
            return {"type": "http.disconnect"}
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message):
        sent.append(message)

    named = {"host": "localhost:8000"} | {name.replace("_", "-"): value for name, value in headers.items()}
    encoded = [
        (name.encode(), value if isinstance(value, bytes) else value.encode("latin-1")) for name, value in named.items()
    ]
    scope = {"type": "http", "method": method, "path": path, "headers": encoded, "client": (client, 1), "state": {}}
    await guard(scope, receive, send)
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, b"".join(m.get("body", b"") for m in sent[1:]).decode()


@pytest.mark.parametrize("local", [True, False])
def test_other_sites_get_nothing(local):
    guard = guarded(local=local)
    wrong = ("http://localhost:3000", "https://evil.com", "null", "http://[::1", "", "http://localhost:8000.evil.com")
    for origin in wrong:
        for method, path in (("POST", "/v1/audio/translations"), ("OPTIONS", "/v1/x"), ("GET", "/config")):
            status, headers, _ = asyncio.run(call(guard, method=method, path=path, origin=origin))
            assert (status, [n for n in headers if n.startswith("access-control")]) == (403, [])
    status, headers, text = asyncio.run(call(guard, origin="http://localhost:8000"))
    assert (status, text, [n for n in headers if n.startswith("access-control")]) == (200, "5", [])


def test_a_proxy_that_renames_the_host_says_so():
    guard = guarded(local=False)
    own = {"host": "10.0.0.1:8000", "origin": "https://svc.example.com"}
    assert asyncio.run(call(guard, **own))[0] == 403
    assert asyncio.run(call(guard, **own, x_forwarded_host="svc.example.com"))[0] == 200


@pytest.mark.parametrize("host", ["[::1", "evil.com", "", "[localhost]"])
def test_a_host_that_is_none(host):
    assert asyncio.run(call(guarded(), host=host))[0] == 403


def test_keys_of_any_letters():
    guard = guarded(keys=("schlüssel-ключ\n",))
    key = "schlüssel-ключ".encode()
    for right in (b"Bearer " + key, b"Basic " + base64.b64encode(b"me:" + key)):
        assert asyncio.run(call(guard, authorization=right))[0] == 200
    for wrong in (b"Bearer schl", b"Basic \xff", b"Bearer \xff"):
        assert asyncio.run(call(guard, authorization=wrong))[0] == 401


def test_requests_count_from_their_first_byte():
    """Those that are still being sent take a place, of all and of their client, until their body is here."""

    async def run():
        guard = guarded(Limits(requests=2, own=1))
        coming = [asyncio.create_task(call(guard, body=(b"1", 0.3, b"2"), client=name)) for name in "ab"]
        await asyncio.sleep(0.1)
        own, full = await call(guard, client="a"), await call(guard, client="c")
        assert (own[0], full[0]) == (429, 503)
        assert all(int(found[1]["retry-after"]) >= 1 for found in (own, full))
        assert (await call(guard, client="c", path="/other"))[0] == 200
        assert [(await one)[0] for one in coming] == [200, 200]
        assert (await call(guard, client="a"))[0] == 200
        assert not guard._arriving
        assert guard._bytes == 0

    asyncio.run(run())


def test_bodies_on_their_way_are_bounded_together():
    async def run():
        guard = guarded(Limits(upload=100, bodies=120))
        first = asyncio.create_task(call(guard, body=(bytes(90), 0.3, b"2")))
        await asyncio.sleep(0.1)
        assert (await call(guard, body=(bytes(20), bytes(20))))[0] == 503
        assert (await call(guard, body=(bytes(20),)))[2] == "20"
        assert (await first)[2] == "91"
        assert (await call(guard, body=(bytes(60), bytes(60))))[0] == 413
        assert (guard._bytes, sum(guard._arriving.values())) == (0, 0)

    asyncio.run(run())


def test_a_body_in_drips(monkeypatch):
    monkeypatch.setattr(module, "SLOWEST", 0.3)
    status, _, text = asyncio.run(call(guarded(), body=(b"1", *[0.1, b"1"] * 8)))
    assert (status, json.loads(text)["error"]["code"]) == (408, "timeout")
    monkeypatch.setattr(module, "SLOWEST_RATE", 2.0)
    assert asyncio.run(call(guarded(), body=(b"1", *[0.1, b"1"] * 8)))[2] == "9"


def test_who_asks_is_no_client_of_its_choice(monkeypatch):
    """A header that a client sends doesn't change whose turn its requests take."""
    seen = []
    monkeypatch.setattr(module.Server, "run", lambda server: seen.append(server.config))
    service = Service({"tiny": "tiny"})
    module.serve(reads, service, host="127.0.0.1", port=0)
    assert seen[0].proxy_headers is False


def test_what_becomes_of_errors(caplog):
    gone = problem_of(StoppedError("cancelled", cancelled=True))
    late = problem_of(StoppedError("late"))
    assert (gone.status_code, late.status_code) == (499, 504)
    assert not caplog.text
    assert problem_of(ModelError("/secret")).status_code == 500
    assert "/secret" in caplog.text


def test_the_first_signal_waits_and_the_second_does_not():
    service = Service({"tiny": "tiny"})
    server = Server(module.uvicorn.Config(reads), service)
    with service._request("a"):
        server.handle_exit(15, None)
        with pytest.raises(BusyError):
            service.require_room("b")
        assert not service._hurried
        assert not server.should_exit
        server.handle_exit(15, None)
        assert service._hurried  # what goes on is given up; see test_service
    for thread in threading.enumerate():
        if thread.name.endswith("(_drain)"):
            thread.join(5)
    assert server.should_exit


def test_a_key_that_is_set_but_empty(monkeypatch):
    """A container's ``-e INTERLINGUA_API_KEY=$UNSET`` mustn't open the service to everybody."""
    for value in ("", " "):
        monkeypatch.setenv("INTERLINGUA_API_KEY", value)
        with pytest.raises(UsageError, match="INTERLINGUA_API_KEY is set, but empty"):
            command(host="0.0.0.0")


def test_pairs_that_are_not_there_are_found_at_the_start(tmp_path):
    with pytest.raises(UsageError, match=r"--pairs .*nothing\.tsv: no such file"):
        command(pairs=(tmp_path / "nothing.tsv",))
