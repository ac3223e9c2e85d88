"""The service without HTTP: names, limits, memory, several models; and real speech."""

import io
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from serving import uncut, wav

from helpers import sweep
from interlingua.errors import (
    AudioError,
    BusyError,
    InterlinguaError,
    NotFoundError,
    StoppedError,
    TooLongAudioError,
    UsageError,
)
from interlingua.serve.service import Limits, Service, Upload, find_models
from interlingua.translation import TranslationOptions, Translator
from interlingua.types import AudioRef

SPEECH = sweep(2.5, 200)


@pytest.fixture(autouse=True)
def _uncut(request, monkeypatch):
    if not request.node.get_closest_marker("model"):
        monkeypatch.setattr("interlingua.translation.translator.chunks_of", uncut)


@pytest.fixture
def service(tiny_whisper_folder):
    found = Service({"tiny": tiny_whisper_folder}, limits=Limits(seconds=10, held=12, patience=120))
    yield found
    found.close()


def translate(service, audio=SPEECH, **more):
    (found,) = service.translate(audio, **{"model": "tiny", "to": ["en"], "source": "fr", **more})
    return found.text


def test_samples_bytes_and_files_give_the_same(service, tmp_path):
    data = wav(SPEECH)
    (tmp_path / "a.wav").write_bytes(data)
    assert (
        translate(service, data) == translate(service, tmp_path / "a.wav") == translate(service, Upload(data, ".wav"))
    )
    assert translate(service)


def test_names_that_nobody_serves(service):
    with pytest.raises(NotFoundError, match="here are tiny"):
        translate(service, model="/etc/passwd")
    with pytest.raises(NotFoundError, match="no index '/etc'; none is served"):
        service.search(SPEECH, index="/etc")


@pytest.mark.parametrize("suffix", [".wav/../../x", "/etc/passwd", ".a b", "." * 3, ".verylongsuffix"])
def test_a_name_that_was_sent_is_no_path(suffix):
    assert Upload(b"", suffix).suffix == ""


def test_long_recordings_are_refused_before_they_are_decoded(service, monkeypatch):
    def decode(*arguments, **more):
        raise AssertionError("decoded")

    monkeypatch.setattr("interlingua.serve.service.load_audio", decode)
    with pytest.raises(TooLongAudioError, match="takes 10 s at most"):
        translate(service, wav(sweep(10.5, 200)))


def test_a_stopping_service_takes_nothing(service):
    service.stop()
    with pytest.raises(BusyError, match="stops"):
        translate(service)


def test_requests_are_counted_down_after_faults_too(service):
    for wrong in (b"text", b""):
        with pytest.raises(AudioError):
            translate(service, wrong)
    with pytest.raises(UsageError):
        translate(service, to=["de", "xx-nothing"])
    assert service.going == 0


def stuck(service):
    """Its engine encodes nothing until the event that is returned is set."""
    service.warm()
    engine, free = service._batchers["tiny"].engine, threading.Event()
    encode = engine.encode
    engine.encode = lambda features: free.wait(20) and encode(features)
    return free


def test_news_come_from_the_first_chunk_on(service):
    """Where the language is named; each piece once, in order, and the same text as without news."""
    told = []
    news = translate(service, sweep(9.0, 200), news=lambda name, target, segments: told.append(segments))
    assert news == translate(service, sweep(9.0, 200))
    assert len(told) == 3  # windows of 1, 2 and 4 chunks
    assert [s.start // 2 for s in told[0]] == [0] * len(told[0])
    assert " ".join(s.text for segments in told for s in segments if s.text) == news


def test_in_a_hurry_what_was_taken_is_given_up(service):
    free, found = stuck(service), []

    def run():
        with pytest.raises(BusyError, match="stops") as raised:
            translate(service)
        found.append(raised.value)

    thread = threading.Thread(target=run)
    thread.start()
    while not service.going:
        time.sleep(0.01)
    service.stop()
    thread.join(0.3)
    assert thread.is_alive()
    service.stop(hurry=True)
    thread.join(5)
    free.set()
    assert found


def test_sampling_is_not_waited_for_by_who_left(service, monkeypatch):
    """Neither behind another request's, nor for more tries."""
    from interlingua.translation.engines import SAMPLING

    monkeypatch.setattr("interlingua.translation.translator.flags_of", lambda *a, **k: ("loop",))
    cancelled, found = threading.Event(), []

    def run():
        with pytest.raises(StoppedError) as raised:
            translate(service, cancelled=cancelled)
        found.append(raised.value)

    service.warm()
    with SAMPLING:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join(2)
        assert thread.is_alive()
        cancelled.set()
        thread.join(5)
    assert found[0].cancelled


def test_patience_ends(tiny_whisper_folder):
    service = Service({"tiny": tiny_whisper_folder}, limits=Limits(patience=-2))
    free = stuck(service)
    begun = time.monotonic()
    with pytest.raises(StoppedError, match="not done within"):
        translate(service)
    assert time.monotonic() - begun < 5
    free.set()
    service.close()


def test_memory_holds_so_many_seconds(service, monkeypatch):
    """Recordings wait for each other where they don't fit together; each is done in the end."""
    import interlingua.serve.service as module

    held, most, lock, load = [0.0], [0.0], threading.Lock(), module.load_audio

    def slow(*arguments, **more):
        samples = load(*arguments, **more)
        with lock:
            held[0] += len(samples) / 16_000
            most[0] = max(most[0], held[0])
        time.sleep(0.05)
        return samples

    monkeypatch.setattr(module, "load_audio", slow)
    real = module.Session.__exit__

    def leave(session, *rest):
        with lock:
            held[0] -= 5.0
        real(session, *rest)

    monkeypatch.setattr(module.Session, "__exit__", leave)
    threads = [threading.Thread(target=translate, args=(service, sweep(5.0, 100 + n))) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0 < most[0] <= 12
    assert service.going == 0


def mp3(samples, *, says=None):
    """An MP3 file; ``says``: seconds that its header gives, whatever it holds."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as out:
        stream = out.add_stream("mp3", rate=16_000)
        frame = av.AudioFrame.from_ndarray((samples[None] * 9000).astype(np.int16), format="s16", layout="mono")
        frame.rate = 16_000
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    data = bytearray(file.getvalue())
    at = max(data.find(b"Xing"), data.find(b"Info"))
    if says is not None:
        data[at + 8 : at + 12] = round(says * 16_000 / 576).to_bytes(4, "big")
    return bytes(data)


def adts(seconds):
    """Silence in so few bytes that nothing tells its length before it is decoded."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="adts") as out:
        stream = out.add_stream("aac", rate=8000)
        for _ in range(seconds):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
            frame.rate = 8000
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return file.getvalue()


def test_room_is_taken_for_what_is_there_not_for_what_a_header_says(tiny_whisper_folder, monkeypatch):
    import interlingua.serve.service as module

    service = Service({"tiny": tiny_whisper_folder}, limits=Limits(seconds=30, held=60))
    loaded, load = [], module.load_audio
    monkeypatch.setattr(module, "load_audio", lambda *a, **k: loaded.append(k["max_seconds"]) or load(*a, **k))
    for data, most in ((mp3(sweep(20.0, 200)), [21]), (mp3(sweep(20.0, 200), says=0.6), [1.6, 30])):
        loaded.clear()
        with service._loaded(Upload(data, ".mp3"), lambda: None) as (samples, _):
            assert 19.9 < len(samples) / 16_000 < 20.2
            assert loaded == pytest.approx(most, abs=0.2)
            assert service._room._held == pytest.approx(len(samples) / 16_000)
        assert service._room._held == 0
    long = Upload(mp3(sweep(40.0, 200), says=0.6), ".mp3")
    with pytest.raises(TooLongAudioError, match="longer than 30 s"), service._loaded(long, lambda: None):
        pass
    assert service._room._held == 0


def test_decoding_ends_at_the_limit_and_where_it_is_given_up(tiny_whisper_folder, monkeypatch):
    service = Service({"tiny": tiny_whisper_folder}, limits=Limits(seconds=10))
    data, asked = adts(120), []
    with pytest.raises(TooLongAudioError), service._loaded(Upload(data, ".aac"), lambda: asked.append(1)):
        pass
    assert 0 < len(asked) < 40  # about one a second, in two tries at most
    patient = Service({"tiny": tiny_whisper_folder})
    gone = StoppedError("cancelled", cancelled=True)
    with pytest.raises(StoppedError), patient._loaded(Upload(data, ".aac"), lambda: gone):
        pass
    assert patient._room._held == 0


def test_who_leaves_early_makes_nobody_come_back_sooner(service):
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(StoppedError):
        translate(service, cancelled=cancelled)
    assert service._took == []
    translate(service)
    assert len(service._took) == 1


def test_an_index_that_is_not_there_is_found_at_the_start(tiny_whisper_folder, tmp_path):
    with pytest.raises(InterlinguaError, match="nothing"):
        Service({"tiny": tiny_whisper_folder}, indexes={"own": tmp_path / "nothing"}).open_indexes()


def test_a_recording_that_an_index_lost_is_not_the_visitors_fault(service, monkeypatch, tmp_path):
    from types import SimpleNamespace

    lost = SimpleNamespace(id="a", audio=AudioRef(str(tmp_path / "secret.wav")), language="fr", text="x")
    service.index_uris["own"] = "own"
    service._indexes["own"] = SimpleNamespace(utterances=lambda where: [lost], listener=None)
    monkeypatch.setattr("interlingua.experiments.alignment.listen", lambda *a, **k: None)
    with pytest.raises(NotFoundError) as raised:
        service.align(SPEECH, index="own", utterance="a")
    assert raised.value.what == "utterance"
    assert "secret" not in str(raised.value)


def test_models_beyond_the_limit_make_room(tiny_whisper_folder):
    service = Service(dict.fromkeys("abc", tiny_whisper_folder), limits=Limits(models=1))
    texts = {translate(service, model=n) for n in "abcab"}
    assert len(texts) == 1
    assert list(service._batchers) == ["b"]
    service.close()


def test_find_models(tiny_whisper_folder, tmp_path):
    for place in ("one", "two/model", "three"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "one" / "config.json").touch()
    (tmp_path / "two" / "model" / "adapter_config.json").touch()
    assert list(find_models([str(tmp_path / "two" / "model")])) == ["two"]
    found = find_models(["base", str(tiny_whisper_folder)], tmp_path)
    assert found == {
        "base": "base",
        tiny_whisper_folder.name: str(tiny_whisper_folder),
        "one": tmp_path / "one",
        "two": tmp_path / "two" / "model",
    }
    with pytest.raises(UsageError, match="no such folder"):
        find_models(["base"], tmp_path / "nothing")
    with pytest.raises(UsageError, match="two have the same name"):
        find_models(["base", "base"])


@pytest.mark.model
def test_real_speech_of_many_clients_as_alone(prompts_manifest):
    """Real recordings of 8 clients at once: the texts, times and flags that each has alone."""
    chosen = [u for u in prompts_manifest if u.language in ("fr", "es", "ru")][::60][:8]
    service, rows = Service({"base": "base"}), []
    service._observe = lambda name, n: rows.append(n)
    translator = Translator("base")
    alone = {u.id: translator.translate(u.audio, "en") for u in chosen}
    found = {}

    def client(mine, name):
        for u in mine:
            upload = Upload(Path(u.audio.path).read_bytes(), ".g722")
            (found[u.id],) = service.translate(upload, model="base", to=["en"], client=name)

    threads = [threading.Thread(target=client, args=(chosen[n::8], f"{n}")) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    service.close()
    for name, one in alone.items():
        assert [(s.text, s.start, s.end, s.flags) for s in found[name].segments] == [
            (s.text, s.start, s.end, s.flags) for s in one.segments
        ]
        assert found[name].language == one.language
    assert np.mean(rows) > 1


@pytest.mark.model
def test_a_transcript_in_whatever_is_spoken(prompts_manifest):
    chosen = next(u for u in prompts_manifest if u.id == "fr/agent-alreadyon")
    translator = Translator("base", TranslationOptions(timestamps=True))
    unknown, known = translator.translate(chosen.audio, "source"), translator.translate(chosen.audio, "fr")
    assert (unknown.text, unknown.target) == (known.text, "fr")
    assert all(s.tokens for s in unknown.segments)
    hinted = Translator(translator.engine, TranslationOptions(prompt="Agent. Agent connecté."))
    assert hinted.translate(chosen.audio, "fr").text
