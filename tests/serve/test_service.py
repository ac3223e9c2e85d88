"""The service without HTTP: names, limits, memory, several models; and real speech."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from serving import uncut, wav

from helpers import sweep
from interlingua.errors import AudioError, BusyError, NotFoundError, StoppedError, TooLongAudioError, UsageError
from interlingua.serve.service import Limits, Service, Upload, find_models
from interlingua.translation import TranslationOptions, Translator

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


def test_patience_ends(tiny_whisper_folder):
    service = Service({"tiny": tiny_whisper_folder}, limits=Limits(patience=-3))
    service.warm()
    engine, free = service._batchers["tiny"].engine, threading.Event()
    encode = engine.encode
    engine.encode = lambda features: free.wait(20) and encode(features)
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
