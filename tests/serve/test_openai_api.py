"""The API as OpenAI's own client sees it, on tiny models; and everything that it refuses."""

import base64
import json
import threading
import time

import httpx2
import openai
import pytest
from openai.types import Model
from openai.types.audio import Transcription, TranscriptionVerbose, Translation, TranslationVerbose
from serving import official, serving, uncut, wav

from helpers import sweep
from interlingua.models.targets import Base, Target, Targets
from interlingua.serve.app import Figures, build
from interlingua.serve.service import Limits, Service
from interlingua.translation import Translator
from interlingua.translation.translator import SOURCE

pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # OpenAI's word on its translations

SPEECH = wav(sweep(4.5, 200))


@pytest.fixture(scope="module")
def trained_folder(tiny_whisper_folder, tmp_path_factory):
    """The same model, as if trained to translate into Chinese."""
    import shutil

    folder = tmp_path_factory.mktemp("models") / "to-chinese"
    shutil.copytree(tiny_whisper_folder, folder)
    target = Target(token="zh", prompt="target-transcribe")
    Targets(targets={"zh": target}, base=Base("tiny", "0"), sources=("fr",)).write(folder)
    return folder


def detect(engine, states):
    return [{"fr": 0.9, "en": 0.1}] * states.shape[0]


@pytest.fixture(scope="module")
def service(tiny_whisper_folder, trained_folder, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("interlingua.translation.translator.chunks_of", uncut)
        patch.setattr("interlingua.translation.engines.CTranslate2Engine.detect", detect)  # not with this vocabulary
        folder = tmp_path_factory.mktemp("served")
        with serving(folder, {"tiny": tiny_whisper_folder, "to-chinese": trained_folder}) as client:
            yield client


@pytest.fixture(scope="module")
def client(service):
    return official(service)


def complete(found, kind):
    """Validate an answer strictly against the client's type, and every object in it: no required field is missing."""
    assert type(found) is kind
    kind.model_validate(found.model_dump(), strict=True)
    return found


def ask(client, route, **fields):
    return getattr(client.audio, route).create(file=("speech.wav", SPEECH), model="tiny", **fields)


# ---------------------------------------------------------------- what the official client gets


def test_models(client):
    models = client.models.list().data
    assert [complete(m, Model).id for m in models] == ["tiny", "to-chinese"]
    assert complete(client.models.retrieve("to-chinese"), Model).targets == ["zh", "en"]
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


def test_translations_of_every_format(client):
    short = complete(ask(client, "translations"), Translation)
    long = complete(ask(client, "translations", response_format="verbose_json"), TranslationVerbose)
    assert short.text
    assert (long.language, long.duration) == ("english", 4.5)
    assert [s.id for s in long.segments] == list(range(len(long.segments)))
    for name in ("seek", "start", "end", "text", "tokens", "temperature", "avg_logprob", "compression_ratio"):
        assert all(getattr(s, name) is not None for s in long.segments)
    assert ask(client, "translations", response_format="text") == short.text + "\n"
    assert ask(client, "translations", response_format="srt").startswith("1\n00:00:00,000 --> ")
    assert ask(client, "translations", response_format="vtt").startswith("WEBVTT\n")


def test_transcriptions_of_every_format(client):
    short = complete(ask(client, "transcriptions", language="fr"), Transcription)
    assert short.text
    assert (short.usage.type, short.usage.seconds) == ("duration", 4.5)
    long = ask(client, "transcriptions", language="fr", response_format="verbose_json")
    long = complete(long, TranscriptionVerbose)
    assert (long.language, long.usage.seconds) == ("french", 4.5)
    assert long.segments
    assert long.words is None
    assert ask(client, "transcriptions", language="fr", response_format="text") == short.text + "\n"
    assert "-->" in ask(client, "transcriptions", language="fr", response_format="srt")
    assert "-->" in ask(client, "transcriptions", language="fr", response_format="vtt")


def test_words_as_they_are_asked_for(client):
    def verbose(*wanted):
        found = ask(
            client,
            "transcriptions",
            language="fr",
            response_format="verbose_json",
            timestamp_granularities=list(wanted),
        )
        return complete(found, TranscriptionVerbose)

    words = verbose("word")
    assert words.segments is None
    assert all(0 <= w.start <= w.end <= 4.5 and w.word for w in words.words)
    both = verbose("word", "segment")
    assert both.segments
    assert both.words == words.words


def test_a_transcript_without_a_language_is_in_the_detected_one(client, service):
    found = ask(client, "transcriptions", response_format="verbose_json")
    named = ask(client, "transcriptions", language=found.language, response_format="verbose_json")
    assert (found.text, found.language) == (named.text, named.language)


def test_silence_has_no_language(client, monkeypatch):
    monkeypatch.setattr("interlingua.translation.translator.chunks_of", lambda samples, how: [])
    for route, target in (("transcriptions", "unknown"), ("translations", "english")):
        found = ask(client, route, response_format="verbose_json")
        assert (found.text, found.segments, found.language) == ("", [], target)


def test_a_transcript_of_a_named_and_trained_language_is_no_translation(client, monkeypatch):
    seen = []
    real = Translator.translate_all
    monkeypatch.setattr(
        Translator, "translate_all", lambda self, *a, **k: seen.append((a[1], k["source"])) or real(self, *a, **k)
    )
    file = ("speech.wav", SPEECH)
    found = client.audio.transcriptions.create(
        file=file, model="to-chinese", language="zh", response_format="verbose_json"
    )
    assert (seen, found.language) == ([([SOURCE], "zh")], "chinese")


def test_the_stream_ends_with_the_whole_text(client):
    events = list(ask(client, "transcriptions", language="fr", stream=True))
    assert [e.type for e in events[:-1]] == ["transcript.text.delta"] * (len(events) - 1)
    assert events[-1].type == "transcript.text.done"
    assert "".join(e.delta for e in events[:-1]) == events[-1].text
    assert events[-1].text == ask(client, "transcriptions", language="fr").text


def test_a_stream_in_the_async_client(service):
    import asyncio

    async def run():
        http = httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(uds=service.uds), timeout=60)
        client = openai.AsyncOpenAI(base_url="http://localhost/v1", api_key="none", http_client=http)
        stream = await client.audio.transcriptions.create(file=("a.wav", SPEECH), model="tiny", stream=True)
        types = [event.type async for event in stream]
        await client.close()
        return types

    assert asyncio.run(run())[-1] == "transcript.text.done"


def test_the_trained_target(client):
    def verbose(**fields):
        return client.audio.translations.create(
            file=("speech.wav", SPEECH), model="to-chinese", response_format="verbose_json", extra_body=fields
        )

    assert verbose(to_language="zh", language="fr").language == "chinese"
    assert verbose(language="fr").language == "english"
    with pytest.raises(openai.BadRequestError, match="to-chinese translates into zh, en"):
        verbose(to_language="de")


def test_a_name_of_openais_is_the_first_model(client):
    found = client.audio.translations.create(file=("speech.wav", SPEECH), model="whisper-1")
    assert found.text == ask(client, "translations").text


def test_settings_that_ask_for_how_speech_is_found(client):
    for strategy in ("auto", {"type": "server_vad", "threshold": 0.4, "prefix_padding_ms": 100}):
        assert ask(client, "transcriptions", language="fr", chunking_strategy=strategy).text
    with pytest.raises(openai.BadRequestError, match="server_vad"):
        ask(client, "transcriptions", chunking_strategy={"type": "other"})


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("fields", "status", "param", "code"),
    [
        ({"model": "other"}, 404, "model", "model_not_found"),
        ({"response_format": "docx"}, 400, "response_format", "invalid_value"),
        ({"temperature": 3}, 400, "temperature", "invalid_value"),
        ({"language": "xx-nonsense"}, 400, None, "invalid_value"),
        ({"timestamp_granularities": ["word"]}, 400, None, "invalid_value"),
        ({"include": ["logprobs"]}, 400, None, "invalid_value"),
        ({"file": ("a.txt", b"no audio at all, only text" * 99)}, 400, "file", "invalid_audio"),
        ({"file": ("a.wav", b"")}, 400, "file", "invalid_audio"),
        ({"file": ("a.wav", SPEECH[:30])}, 400, "file", "invalid_audio"),
    ],
)
def test_what_is_wrong_is_named(client, fields, status, param, code):
    given = {"file": ("speech.wav", SPEECH), "model": "tiny", **fields}
    for stream in (False, True):
        with pytest.raises(openai.APIStatusError) as raised:
            client.audio.transcriptions.create(**given, stream=stream)
        error = raised.value
        assert (error.status_code, error.param, error.code) == (status, param, code)
        assert error.type == "invalid_request_error"
        assert error.message


def test_a_head_has_a_status_alone(service):
    found = service.head("/v1/models")
    assert (found.status_code, found.content, found.headers["allow"]) == (405, b"", "GET")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/audio/translations", 400),  # no form
        ("GET", "/v1/audio/translations", 405),
        ("OPTIONS", "/v1/audio/translations", 405),
        ("OPTIONS", "/v1/nothing", 404),
        ("GET", "/v1/nothing", 404),
        ("POST", "/v1/search", 400),
    ],
)
def test_every_refusal_has_the_apis_shape(service, method, path, status):
    found = service.request(method, path)
    assert found.status_code == status
    assert set(found.json()["error"]) == {"message", "type", "param", "code"}


def test_search_without_an_index(service):
    found = service.post("/v1/search", files={"file": ("a.wav", SPEECH)})
    assert (found.status_code, found.json()["error"]["code"]) == (404, "index_not_found")


def test_the_documents_of_the_api(service):
    document = service.get("/openapi.json").json()
    assert {"/v1/audio/translations", "/v1/audio/transcriptions", "/v1/models", "/v1/search", "/v1/align"} <= set(
        document["paths"]
    )
    assert all("422" not in way["responses"] for path in document["paths"].values() for way in path.values())


# ---------------------------------------------------------------- health and figures


def test_health_decodes_and_metrics_count(service):
    before = sum(service.observed)
    assert service.get("/healthz").json() == {"status": "ok"}
    assert sum(service.observed) > before
    assert service.get("/readyz").json() == {"status": "ready"}
    assert service.get("/healthz").status_code == 200
    figures = service.get("/metrics").text
    assert 'interlingua_requests_total{route="/healthz",status="200"}' in figures
    assert "interlingua_requests_going 0.0" in figures


def test_health_fails_where_the_engine_is_stuck(tiny_whisper_folder, tmp_path, monkeypatch):
    with serving(tmp_path, {"tiny": tiny_whisper_folder}) as client:
        free = threading.Event()
        client.service.warm()
        engine = client.service._batchers["tiny"].engine
        monkeypatch.setattr(engine, "encode", lambda features, real=engine.encode: free.wait(30) and real(features))
        check = client.service.check
        monkeypatch.setattr(client.service, "check", lambda: check(0.3))
        found = client.get("/healthz")
        free.set()
        assert (found.status_code, found.json()["error"]["code"]) == (503, "unhealthy")
        assert "wasn't decoded" in found.json()["error"]["message"]


# ---------------------------------------------------------------- bounds


@pytest.fixture
def busy(tiny_whisper_folder, tmp_path, monkeypatch):
    """A service of two requests at a time, one of each client, whose engine stands still until ``free`` is set."""
    monkeypatch.setattr("interlingua.translation.translator.chunks_of", uncut)
    monkeypatch.setattr("interlingua.translation.engines.CTranslate2Engine.detect", detect)
    limits = Limits(upload=300_000, seconds=8, requests=2, own=1)
    with serving(tmp_path, {"tiny": tiny_whisper_folder}, limits=limits, keys=("one", "two", "three")) as client:
        client.service.warm()
        engine, client.free = client.service._batchers["tiny"].engine, threading.Event()
        encode = engine.encode
        monkeypatch.setattr(engine, "encode", lambda features: client.free.wait(30) and encode(features))
        yield client
        client.free.set()


def in_background(client, key, **fields):
    found = []

    def run():
        try:
            found.append(ask(official(client, key), "translations", **fields).text)
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, found


def until(true):
    deadline = time.monotonic() + 10
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert true()


def test_too_many_requests_are_told_when_to_come_back(busy):
    first, text = in_background(busy, "one")
    until(lambda: busy.service.going == 1)
    with pytest.raises(openai.RateLimitError) as own:
        ask(official(busy, "one"), "translations")
    second, other = in_background(busy, "two")
    until(lambda: busy.service.going == 2)
    with pytest.raises(openai.InternalServerError) as full:
        ask(official(busy, "three"), "translations")
    assert [e.value.status_code for e in (own, full)] == [429, 503]
    assert all(int(e.value.response.headers["Retry-After"]) >= 1 for e in (own, full))
    busy.free.set()
    first.join()
    second.join()
    assert text == other
    assert isinstance(text[0], str)
    assert ask(official(busy, "three"), "translations").text == text[0]


def test_who_leaves_is_not_waited_for(busy):
    http = httpx2.Client(transport=httpx2.HTTPTransport(uds=busy.uds), timeout=1)
    with pytest.raises(httpx2.TimeoutException):
        http.post(
            "http://localhost/v1/audio/translations",
            files={"file": ("a.wav", SPEECH)},
            data={"model": "tiny"},
            headers={"Authorization": "Bearer one"},
        )
    http.close()
    busy.free.set()
    until(lambda: busy.service.going == 0)


def test_large_and_long_recordings(busy):
    busy.free.set()
    client = official(busy, "one")
    with pytest.raises(openai.APIStatusError) as large:
        client.audio.translations.create(file=("a.wav", wav(sweep(10, 200))), model="tiny")
    assert (large.value.status_code, large.value.code) == (413, "too_large")
    with pytest.raises(openai.APIStatusError) as long:
        client.audio.translations.create(file=("a.wav", wav(sweep(8.5, 200))), model="tiny")
    assert (long.value.status_code, long.value.code) == (413, "audio_too_long")


def test_a_body_without_a_length_is_cut_off_too(busy):
    def body():
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        for _ in range(10):
            yield bytes(100_000)

    headers = {"Authorization": "Bearer one", "Content-Type": "multipart/form-data; boundary=x"}
    found = busy.post("/v1/audio/translations", content=body(), headers=headers)
    assert found.status_code == 413


# ---------------------------------------------------------------- who is let in


@pytest.mark.parametrize("authorization", [None, "Bearer wrong", "Bearer", "Basic b25l", "Basic ???", "one"])
def test_without_the_key_nothing_is_computed(busy, authorization):
    headers = {"Authorization": authorization} if authorization else {}
    for method, path in (
        ("POST", "/v1/audio/translations"),
        ("GET", "/v1/models"),
        ("GET", "/"),
        ("GET", "/openapi.json"),
    ):
        found = busy.request(method, path, headers=headers)
        assert (found.status_code, found.json()["error"]["code"]) == (401, "invalid_api_key")
    assert busy.get("/readyz").status_code == 200


def test_the_key_of_a_client_and_of_a_browser(busy):
    assert official(busy, "two").models.list().data
    basic = base64.b64encode(b"anybody:two").decode()
    assert busy.get("/v1/models", headers={"Authorization": f"Basic {basic}"}).status_code == 200


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}])
def test_other_sites_pages_get_nothing(service, headers):
    found = service.post("/v1/audio/translations", headers=headers)
    assert found.status_code == 403
    assert "access-control-allow-origin" not in found.headers


def test_a_fault_inside_tells_nothing(service, monkeypatch, caplog):
    def fail(*arguments, **fields):
        raise ValueError("/secret/path")

    monkeypatch.setattr(service.service, "translate", fail)
    found = service.post("/v1/audio/translations", files={"file": ("a.wav", SPEECH)}, data={"model": "tiny"})
    assert found.status_code == 500
    assert found.json()["error"]["code"] == "internal_error"
    assert "secret" not in found.text
    assert "/secret/path" in caplog.text


def test_events_are_lines_of_data_alone(service):
    with service.stream(
        "POST",
        "/v1/audio/transcriptions",
        files={"file": ("a.wav", SPEECH)},
        data={"model": "tiny", "stream": "true", "language": "fr"},
    ) as found:
        assert found.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in found.read().decode().splitlines() if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    assert json.loads(lines[-2].removeprefix("data: "))["type"] == "transcript.text.done"


# ---------------------------------------------------------------- whatever else may be sent


@pytest.mark.filterwarnings("ignore")
def test_nothing_that_is_sent_breaks_the_service(tiny_whisper_folder, monkeypatch):
    """Schemathesis sends what the API's own description allows, and what it doesn't; every answer is as described."""
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    monkeypatch.setattr("interlingua.translation.translator.chunks_of", uncut)
    monkeypatch.setattr("interlingua.translation.engines.CTranslate2Engine.detect", detect)
    service = Service({"tiny": tiny_whisper_folder})
    schema = schemathesis.openapi.from_asgi("/openapi.json", build(service, Figures(), local=False))

    for operation in (found.ok() for found in schema.get_all_operations()):

        @settings(
            max_examples=6,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def run(case):
            case.call_and_validate(excluded_checks=[positive_data_acceptance])  # it doesn't make audio

        run()
    service.close()
