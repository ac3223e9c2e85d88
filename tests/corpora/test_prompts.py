"""The prompts corpus, fetched from a make-believe source, and the real one."""

import gzip
import hashlib
import io
import re
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from interlingua.corpora import prompts
from interlingua.errors import CorpusError, FetchError, HashMismatchError
from interlingua.types import AudioRef

# ---------------------------------------------------------------- transcripts


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("That agent is  already logged on. ", "That agent is already logged on."),
        ("at [@]", "at"),
        ("[beep] Hello <pause> there [sic]", "Hello there"),
        ("(a short tone)", ""),
        ("Press 1 (one) now", "Press 1 (one) now"),
        ("...has joined the conference.", "has joined the conference."),
        ("There are...", "There are"),
        ("You have ... messages", "You have ... messages"),
        ("", ""),
    ],
)
def test_clean_transcript(written, spoken):
    assert prompts.clean_transcript(written) == spoken


def test_read_transcripts(tmp_path):
    path = tmp_path / "core-sounds-en.txt"
    path.write_bytes(
        b"\xef\xbb\xbf; a comment: not a line\r\n\r\nhello: Hello: you there.\r\n"
        + "dir/été :  Summer \n;late: comment\nhello: second\nsilence/1:\n".encode()
    )
    assert prompts.read_transcripts(path) == {"hello": "Hello: you there.", "dir/été": "Summer"}
    lost = "conf-a: Uno. conf-b: Due conf-now-c: Tre: quattro.\nconf-d: conf-d: Cinque\nconf-e: a re-do: x\n"
    path.write_text(lost)  # line breaks
    assert prompts.read_transcripts(path) == {
        "conf-a": "Uno.",
        "conf-b": "Due",
        "conf-now-c": "Tre: quattro.",
        "conf-d": "Cinque",
        "conf-e": "a",
        "re-do": "x",  # the price of the rule: a hyphenated word before a colon is taken for a name
    }


def test_a_transcript_without_colon_is_named(tmp_path):
    path = tmp_path / "core-sounds-en.txt"
    path.write_text("; comment\nhello there\n")
    with pytest.raises(CorpusError, match=r"core-sounds-en.txt:2: expected `name: text`"):
        prompts.read_transcripts(path)


LATIN_IN_CHINESE = {  # names and letters that are said so in Chinese, too
    "asterisk", "comedian", "digium", "exchange", "iax", "inter", "linux", "mail", "misdn", "org", "q", "www", "z",
}  # fmt: skip


def test_chinese_references_are_chinese():
    references = prompts.chinese_references()
    assert len(references) == 215
    for prompt, text in references.items():
        assert text == text.strip(), prompt
        latin = {word.lower() for word in re.findall(r"[A-Za-z]+", text)}
        assert latin <= LATIN_IN_CHINESE, prompt
        assert latin or re.search(r"[\u4e00-\u9fff]", text), prompt
        assert not re.search(r"[\u3040-\u30ff\uac00-\ud7af\u0400-\u04ff]", text), prompt  # kana, hangul, Cyrillic


# ---------------------------------------------------------------- fetching and choosing


TRANSCRIPTS = {
    "busy": "The line is [very] busy now.",
    "busy2": "The line is very busy then.",
    "short": "Hello there.",
    "silence/1": "(one second of plain silence)",
    "beep": "(a beep you can hear)",
    "beeper-note": "A beeper makes short beeps.",
}


def lay_out(root: Path) -> None:
    """A corpus of six prompts in five languages; only English and French have transcripts."""
    for n, language in enumerate(prompts.LANGUAGES):
        for prompt in TRANSCRIPTS:
            path = root / language / f"{prompt}.g722"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{language} {prompt}".encode().ljust(8000 * (n + 1), b"."))
        spoken = TRANSCRIPTS if language == "en" else {"busy": "La ligne est occupée..."} if language == "fr" else {}
        (root / f"core-sounds-{language}.txt").write_text("".join(f"{k}: {v}\n" for k, v in spoken.items()))


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Replaces the network: `fetched` counts, `root` is where the corpus will lie."""

    class Source:
        root = tmp_path / "cache" / "prompts"
        fetched = 0

        def fetch(self, root, work):
            self.fetched += 1
            lay_out(root)

        def refuse(self, root, work):
            raise FetchError("no upstream here")

    made = Source()
    lay_out(tmp_path / "published")
    hashes = {
        p.relative_to(tmp_path / "published").as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted((tmp_path / "published").rglob("*.*"))
    }
    monkeypatch.setattr(prompts, "_hashes", lambda: hashes)
    monkeypatch.setattr(prompts, "_fetch_debian", made.fetch)
    monkeypatch.setattr(prompts, "_fetch_upstream", made.refuse)
    monkeypatch.setattr(prompts, "chinese_references", lambda: {"busy": "线路忙。"})
    return made


def leftovers(source) -> list[str]:
    return [p.name for p in source.root.parent.iterdir()] if source.root.parent.exists() else []


def test_the_corpus_is_fetched_once(source):
    first = prompts.prepare_prompts(source.root)
    assert prompts.prepare_prompts(source.root) == first
    assert source.fetched == 1
    assert leftovers(source) == ["prompts"]


def test_the_default_root_lies_in_the_cache(source, tmp_path, monkeypatch):
    monkeypatch.setenv("INTERLINGUA_CACHE", str(tmp_path / "mine"))
    assert prompts.prepare_prompts()[0].audio.path.startswith(str(tmp_path / "mine" / "corpora"))


def test_utterances_say_all_that_is_known(source):
    found = {u.id: u for u in prompts.prepare_prompts(source.root)}
    assert len(found) == 5 * 3
    french = found["fr/busy"]
    assert french.audio == AudioRef(str(source.root / "fr" / "busy.g722"))
    assert (french.language, french.meaning, french.text) == ("fr", "busy", "La ligne est occupée")
    assert french.translations == {"en": "The line is busy now.", "zh": "线路忙。"}
    assert (french.speaker, french.gender) == ("June Wallack", "female")
    assert french.duration == 3.0  # the third language's file has 24 000 bytes, 8000 a second
    assert found["en/busy"].translations == {"fr": "La ligne est occupée", "zh": "线路忙。"}
    assert found["es/busy"].text is None
    assert "zh" not in found["en/busy2"].translations


def test_near_duplicates_share_a_cluster_in_every_language(source):
    clusters = {(u.language, u.meaning): u.cluster for u in prompts.prepare_prompts(source.root)}
    for language in prompts.LANGUAGES:
        assert clusters[language, "busy"] == clusters[language, "busy2"] == "busy"
        assert clusters[language, "beeper-note"] == "beeper-note"


def test_which_prompts_are_used(source):
    def chosen(**options):
        return {u.meaning for u in prompts.prepare_prompts(source.root, languages=("en",), **options)}

    assert chosen() == {"busy", "busy2", "beeper-note"}
    assert chosen(include_non_speech=True) == {"busy", "busy2", "beeper-note", "silence/1", "beep"}
    assert chosen(min_words=2) == {"busy", "busy2", "beeper-note", "short"}
    assert chosen(min_words=6) == {"busy", "busy2"}
    with pytest.raises(CorpusError, match=r"no prompt has 50 words or more; lower --min-words"):
        chosen(min_words=50)
    utterances = prompts.prepare_prompts(source.root, languages=("it", "en"))
    assert list(dict.fromkeys(u.language for u in utterances)) == ["it", "en"]


def test_an_unknown_language_is_refused_before_anything_is_fetched(source):
    with pytest.raises(CorpusError, match=r"no 'de'; it has en, es, fr, it, ru"):
        prompts.prepare_prompts(source.root, languages=("en", "de"))
    assert source.fetched == 0


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("it/busy.g722", HashMismatchError, r"it/busy.g722 is not the published file.*; delete "),
        ("core-sounds-ru.txt", CorpusError, r"core-sounds-ru.txt is missing"),
    ],
)
def test_an_altered_or_missing_file_is_noticed_and_the_fix_named(source, name, error, said):
    prompts.prepare_prompts(source.root)
    if error is CorpusError:
        (source.root / name).unlink()
    else:
        (source.root / name).write_bytes(b"tampered")
    with pytest.raises(error, match=said):
        prompts.prepare_prompts(source.root)


def test_a_damaged_copy_in_our_own_cache_is_fetched_anew(source, tmp_path, monkeypatch):
    monkeypatch.setenv("INTERLINGUA_CACHE", str(tmp_path / "mine"))
    first = prompts.prepare_prompts()
    (prompts.default_root() / "it" / "busy.g722").write_bytes(b"tampered")
    log: list[str] = []
    assert prompts.prepare_prompts(log=log.append) == first
    assert source.fetched == 2
    assert "fetching it anew" in log[0]
    assert [p.name for p in prompts.default_root().parent.iterdir()] == [prompts.default_root().name]


@pytest.mark.parametrize(
    ("error", "raised"),
    [(FetchError("no way"), FetchError), (OSError("disk full"), FetchError), (KeyboardInterrupt(), KeyboardInterrupt)],
)
def test_a_fetch_that_dies_leaves_nothing_behind(source, monkeypatch, error, raised):
    def die(root, work):
        (root / "en").mkdir()
        (root / "en" / "busy.g722").write_bytes(b"half")
        raise error

    monkeypatch.setattr(prompts, "_fetch_debian", die)
    with pytest.raises(raised):
        prompts.prepare_prompts(source.root)
    assert leftovers(source) == []
    monkeypatch.setattr(prompts, "_fetch_debian", source.fetch)
    assert len(prompts.prepare_prompts(source.root)) == 15


def fetch_wrong_file(root, work):
    lay_out(root)
    (root / "en" / "busy.g722").write_bytes(b"another release")


def test_a_wrong_file_is_never_kept_and_the_next_source_is_tried(source, monkeypatch):
    monkeypatch.setattr(prompts, "_fetch_debian", fetch_wrong_file)
    with pytest.raises(
        FetchError, match=r"Debian packages: .*en/busy.g722.*upstream archives: no upstream here"
    ) as caught:
        prompts.prepare_prompts(source.root)
    assert f"{source.root.parent}/." not in str(caught.value)  # a folder that is gone
    assert leftovers(source) == []
    monkeypatch.setattr(prompts, "_fetch_upstream", source.fetch)
    assert len(prompts.prepare_prompts(source.root)) == 15


# ---------------------------------------------------------------- the two sources


@pytest.fixture
def fetch(tmp_path, monkeypatch):
    """Fetch into ``root`` without looking at hashes; return the log."""
    monkeypatch.setattr(prompts, "_hashes", dict)

    def fetch() -> list[str]:
        log: list[str] = []
        prompts._present(tmp_path / "root", log.append)
        return log

    return fetch


@pytest.fixture
def no_network(monkeypatch):
    def refuse(url, timeout):
        raise urllib.error.URLError("name resolution failed")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


def test_without_apt_and_network_both_are_named(fetch, monkeypatch, no_network):
    monkeypatch.setattr(prompts.shutil, "which", lambda program: None)
    with pytest.raises(FetchError) as caught:
        fetch()
    message = str(caught.value)
    assert "Debian packages: no apt-get here" in message
    assert "upstream archives: https://downloads.asterisk.org/" in message
    assert "name resolution failed" in message
    assert "--root" in message
    assert "\n" not in message


def test_the_upstream_archives_are_laid_out(fetch, tmp_path, monkeypatch):
    urls = []

    def serve(url, timeout):
        urls.append(url)
        language = re.search(r"sounds-(..)-g722-1.6.1.tar.gz$", url)[1]
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as tar:
            for name in ("busy.g722", "dictate/play.g722", f"core-sounds-{language}.txt"):
                member = tarfile.TarInfo(name)
                member.size = 4
                tar.addfile(member, io.BytesIO(b"data"))
        archive.seek(0)
        return archive

    monkeypatch.setattr(prompts.shutil, "which", lambda program: None)
    monkeypatch.setattr(urllib.request, "urlopen", serve)
    log = fetch()
    assert [line.rpartition(" from ")[2] for line in log] == ["Debian packages", "upstream archives"]
    assert len(urls) == 5
    for language in prompts.LANGUAGES:
        for name in (f"{language}/busy.g722", f"{language}/dictate/play.g722", f"core-sounds-{language}.txt"):
            assert (tmp_path / "root" / name).read_bytes() == b"data"


def test_a_truncated_archive_is_a_fetch_error(fetch, monkeypatch):
    monkeypatch.setattr(prompts.shutil, "which", lambda program: None)
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: io.BytesIO(b"\x1f\x8b\x08half"))
    with pytest.raises(FetchError, match=r"sounds-en-g722"):
        fetch()


@pytest.fixture
def apt(monkeypatch):
    """A machine with apt-get and dpkg whose commands are only recorded, and unpack a package tree."""
    monkeypatch.setattr(prompts.shutil, "which", lambda program: f"/usr/bin/{program}")

    class Apt:
        has_lists = True
        unpacks = True

        def __init__(self):
            self.commands: list[list[str]] = []

        def run(self, command, folder):
            self.commands.append(command)
            if command[:2] == ["apt-get", "download"] and not self.has_lists and "-o" not in command:
                raise FetchError("`apt-get download` failed: E: Unable to locate package")
            if command[:2] == ["apt-get", "download"]:
                (folder / "all.deb").touch()
            if command[0] == "dpkg" and self.unpacks:
                share = folder / "tree" / "usr" / "share"
                for language, voice in prompts._VOICE_FOLDERS.items():
                    sounds, doc = share / "asterisk" / "sounds" / voice, share / "doc"
                    sounds.mkdir(parents=True)
                    (sounds / "busy.g722").write_bytes(b"audio")
                    doc = doc / f"asterisk-core-sounds-{language}"
                    doc.mkdir(parents=True)
                    (doc / f"core-sounds-{language}.txt.gz").write_bytes(gzip.compress(b"busy: Busy.\n"))

    made = Apt()
    monkeypatch.setattr(prompts, "run", made.run)
    return made


@pytest.mark.parametrize("has_lists", [True, False])
def test_the_debian_packages_are_laid_out(fetch, tmp_path, apt, has_lists):
    apt.has_lists = has_lists
    fetch()
    for language in prompts.LANGUAGES:
        assert (tmp_path / "root" / language / "busy.g722").read_bytes() == b"audio"
        assert (tmp_path / "root" / f"core-sounds-{language}.txt").read_text() == "busy: Busy.\n"
    updates = [c for c in apt.commands if c[:2] == ["apt-get", "update"]]
    assert len(updates) == (not has_lists)
    assert all(any("Dir::State::Lists=" in part for part in c) for c in updates)  # the machine's own stay as they are


def test_packages_of_another_layout_are_a_failed_fetch(fetch, apt, no_network):
    apt.unpacks = False
    with pytest.raises(FetchError, match=r"Debian packages: .*upstream archives: "):
        fetch()


def test_a_failing_command_is_quoted_with_its_last_line(tmp_path):
    with pytest.raises(FetchError, match=r"^`sh -c` failed: the reason$"):
        prompts.run(["sh", "-c", "echo a warning >&2; echo the reason >&2; exit 3"], tmp_path)


# ---------------------------------------------------------------- the real corpus


@pytest.mark.model
def test_the_real_corpus(prompts_manifest):
    languages = [u.language for u in prompts_manifest]
    assert {lang: languages.count(lang) for lang in languages} == dict.fromkeys(prompts.LANGUAGES, 215)
    meanings = {u.meaning for u in prompts_manifest}
    assert meanings == set(prompts.chinese_references())
    assert len({u.id for u in prompts_manifest}) == 5 * 215
    assert len({(u.language, u.meaning) for u in prompts_manifest}) == 5 * 215
    assert len({u.cluster for u in prompts_manifest}) == 140
    assert len({(u.meaning, u.cluster) for u in prompts_manifest}) == 215
    assert not any(re.match(r"silence/|beep$", str(u.meaning)) for u in prompts_manifest)


@pytest.mark.model
def test_every_real_prompt_has_an_english_and_a_chinese_reference(prompts_manifest):
    for u in prompts_manifest:
        assert u.translations["zh"]
        assert u.text if u.language == "en" else u.translations["en"]
        assert u.language not in u.translations


@pytest.mark.model
def test_real_durations_are_what_the_decoder_says(prompts_manifest):
    from interlingua.audio import load_audio
    from interlingua.types import SAMPLE_RATE

    for u in prompts_manifest[::107]:
        assert len(load_audio(u.audio)) / SAMPLE_RATE == pytest.approx(u.duration, abs=0.02)


@pytest.mark.model
def test_the_silences_of_the_real_corpus_come_back_on_demand():
    with_noise = prompts.prepare_prompts(languages=("en",), include_non_speech=True)
    silences = [u for u in with_noise if str(u.meaning).startswith("silence/")]
    assert len(silences) == 10
    assert len(with_noise) > 215 + 10 - 1
