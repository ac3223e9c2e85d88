"""Manifests, near-duplicate clusters and the prompts corpus (fetched from a make-believe source)."""

import gzip
import hashlib
import io
import os
import re
import tarfile
import threading
import urllib.error
import urllib.request
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import utterance
from interlingua.corpora import cluster_meanings, prompts, read_manifest, write_manifest
from interlingua.corpora.manifest import iter_manifest
from interlingua.corpora.prepare import edit_similarity, words_of
from interlingua.errors import CorpusError, FetchError, HashMismatchError, ManifestError, UsageError
from interlingua.types import AudioRef

GOOD = '{"id": "a", "audio": {"path": "a.wav"}, "language": "en"}'

# ---------------------------------------------------------------- manifests


def manifest(tmp_path, *lines: str, encoding: str = "utf-8") -> Path:
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


def test_what_is_written_is_read(tmp_path):
    written = [
        utterance(
            "fr",
            "greeting",
            audio=AudioRef(str(tmp_path / "long.flac"), offset=1.5, duration=2.0),
            text="« Bonjour »\n",
            translations={"en": "Hello", "zh": "你好"},
            cluster="c",
            split="test",
            speaker="s1",
            gender="female",
            duration=2.0,
        ),
        utterance("kea", None, id="bare", audio=AudioRef(str(tmp_path / "b.wav"))),
    ]
    assert write_manifest(tmp_path / "new" / "m.jsonl", iter(written)) == 2
    assert read_manifest(tmp_path / "new" / "m.jsonl") == written


def test_a_failed_write_leaves_the_old_manifest(tmp_path):
    path = manifest(tmp_path, GOOD)

    def break_off():
        yield utterance("en")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_manifest(path, break_off())
    assert path.read_text() == GOOD + "\n"
    assert [p.name for p in tmp_path.iterdir()] == ["m.jsonl"]


def test_audio_below_the_manifest_is_stored_relative_so_the_folder_can_move(tmp_path):
    inside, outside = tmp_path / "set" / "audio" / "a.wav", tmp_path / "elsewhere" / "b.wav"
    write_manifest(
        tmp_path / "set" / "m.jsonl",
        [utterance(id="a", audio=AudioRef(str(inside))), utterance(id="b", audio=AudioRef(str(outside)))],
    )
    (tmp_path / "set").rename(tmp_path / "moved")
    moved, stayed = read_manifest(tmp_path / "moved" / "m.jsonl")
    assert moved.audio.path == str(tmp_path / "moved" / "audio" / "a.wav")
    assert stayed.audio.path == str(outside)


def test_relative_and_absolute_audio_paths(tmp_path, monkeypatch):
    path = manifest(
        tmp_path,
        '{"id": "a", "audio": {"path": "sub/a.wav"}, "language": "en"}',
        '{"id": "b", "audio": {"path": "/data/b.wav"}, "language": "en"}',
    )
    monkeypatch.chdir(tmp_path)
    expected = [str(tmp_path / "sub" / "a.wav"), "/data/b.wav"]
    assert [u.audio.path for u in read_manifest(path)] == expected
    assert [u.audio.path for u in read_manifest("m.jsonl")] == expected


def test_byte_order_mark_and_blank_lines_are_harmless(tmp_path):
    path = manifest(tmp_path, GOOD, "", "   ", GOOD.replace('"a"', '"b"'), "", encoding="utf-8-sig")
    assert [u.id for u in read_manifest(path)] == ["a", "b"]


def test_windows_line_ends_are_harmless(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(GOOD.encode() + b"\r\n\r\n" + GOOD.replace('"a"', '"b"').encode() + b"\r\n")
    assert [u.id for u in read_manifest(path)] == ["a", "b"]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ('{"id": "b", ', "truncated"),
        ("not json", "malformed"),
        ("[]", "Expected `object`"),
        ('{"id": "b", "language": "en"}', "`audio`"),
        ('{"id": 7, "audio": {"path": "b"}, "language": "en"}', "$.id"),
        ('{"id": "b", "audio": {"path": "b"}, "language": "en", "lang": "x"}', "`lang`"),
        ('{"id": "b", "audio": {"path": "b", "start": 1}, "language": "en"}', "`start`"),
        ('{"id": "b", "audio": {"path": "b", "offset": "1"}, "language": "en"}', "$.audio.offset"),
        ('{"id": "b", "audio": {"path": "b"}, "language": "elvish"}', "'elvish'"),
        ('{"id": "", "audio": {"path": "b"}, "language": "en"}', "`id` is empty"),
        ('{"id": "b", "audio": {"path": ""}, "language": "en"}', "`audio.path` is empty"),
        ('{"id": "b", "audio": {"path": "b", "offset": -0.5}, "language": "en"}', "`audio.offset` is -0.5 s"),
        ('{"id": "b", "audio": {"path": "b", "duration": -1}, "language": "en"}', "`audio.duration` is -1.0 s"),
        ('{"id": "b", "audio": {"path": "b"}, "language": "en", "duration": -1}', "`duration` is -1.0 s"),
        (GOOD, "stands already in line 1"),
    ],
)
def test_a_bad_line_is_named_with_its_number(tmp_path, bad, said):
    path = manifest(tmp_path, GOOD, "", bad)
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    assert str(caught.value).startswith(f"{path}:3: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_utf8_are_a_bad_line(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(GOOD.encode() + b'\n{"id": "\xff", "audio": {"path": "b"}, "language": "en"}\n')
    with pytest.raises(ManifestError, match=r"m.jsonl:2: "):
        read_manifest(path)


def test_an_empty_manifest_is_an_error(tmp_path):
    for content in ("", "\n\n"):
        (tmp_path / "m.jsonl").write_text(content)
        with pytest.raises(ManifestError, match="is empty"):
            read_manifest(tmp_path / "m.jsonl")


def test_a_missing_manifest_and_a_folder_are_errors(tmp_path):
    with pytest.raises(ManifestError, match=r"no readable manifest file \(No such .*\); write one with"):
        read_manifest(tmp_path / "none.jsonl")
    with pytest.raises(ManifestError, match=r"a folder; name the manifest or table in it"):
        read_manifest(tmp_path)


def test_a_manifest_may_be_gzipped_and_come_through_a_pipe(tmp_path):
    path = tmp_path / "m.jsonl.gz"
    path.write_bytes(gzip.compress(GOOD.encode()))
    assert [u.id for u in read_manifest(path)] == ["a"]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(GOOD,))
    writer.start()
    assert [u.id for u in read_manifest(pipe)] == ["a"]
    writer.join()


def test_languages_are_normalised(tmp_path):
    codes = ["en_us", "cmn_hans_cn", "sv-SE", "French", "kea_cv"]
    lines = [GOOD.replace('"a"', f'"{c}"').replace('"en"', f'"{c}"') for c in codes]
    assert [u.language for u in read_manifest(manifest(tmp_path, *lines))] == ["en", "zh", "sv", "fr", "kea"]


def test_languages_filter(wav_manifest):
    everything = read_manifest(wav_manifest)
    chosen = read_manifest(wav_manifest, ["de_de", "English"])
    assert chosen == [u for u in everything if u.language in ("en", "de")]


def test_a_language_that_the_manifest_lacks(wav_manifest):
    with pytest.raises(UsageError, match=r"no utterance in 'ja'; it has de, en, fr"):
        read_manifest(wav_manifest, ["en", "ja"])


def test_reading_is_lazy(tmp_path):
    lines = iter_manifest(manifest(tmp_path, GOOD, "broken"))
    assert next(lines).id == "a"
    with pytest.raises(ManifestError):
        next(lines)


# ---------------------------------------------------------------- clusters


def slow_edit_distance(a, b) -> int:
    @cache
    def distance(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        substituted = distance(i - 1, j - 1) + (a[i - 1] != b[j - 1])
        return min(distance(i - 1, j) + 1, distance(i, j - 1) + 1, substituted)

    return distance(len(a), len(b))


words = st.lists(st.sampled_from(["press", "one", "two", "to"]), max_size=7)


@settings(deadline=None)
@given(words, words)
def test_edit_similarity_equals_the_textbook(a, b):
    longest = max(len(a), len(b))
    expected = 1 - slow_edit_distance(tuple(a), tuple(b)) / longest if longest else 1
    assert edit_similarity(a, b) == pytest.approx(expected)
    assert edit_similarity(a, b) == edit_similarity(b, a)


def test_words_of_drops_punctuation_and_case():
    assert words_of("  «L'opérateur», n° 5: d'accord_!") == ["l'opérateur", "n", "5", "d'accord"]
    assert words_of("...") == []


def cluster_of(**texts: str) -> dict[str, str]:
    return cluster_meanings({meaning: {"en": text} for meaning, text in texts.items()})


def test_texts_that_differ_in_one_word_of_three_are_near_duplicates():
    assert cluster_of(a="press one now", b="press two now") == {"a": "a", "b": "a"}


def test_texts_that_differ_in_two_words_of_four_are_not():
    assert cluster_of(a="press one right now", b="press two left now") == {"a": "a", "b": "b"}


@settings(deadline=None)
@given(st.integers(1, 40))
def test_exactly_two_thirds_is_near_at_every_length(k):
    same, mine, theirs = ["same"] * 2 * k, ["mine"] * k, ["theirs"] * k
    assert len(set(cluster_of(a=" ".join(same + mine), b=" ".join(same + theirs)).values())) == 1


def test_clusters_are_transitive_and_named_after_their_first_member():
    chain = cluster_of(z="one two three", m="one two four", c="one five four", x="six seven eight")
    assert edit_similarity(["one", "two", "three"], ["one", "five", "four"]) < 2 / 3
    assert chain == {"z": "c", "m": "c", "c": "c", "x": "x"}


def test_the_same_text_in_one_language_is_enough():
    texts = {
        "a": {"en": "the line is busy", "fr": "la ligne est occupée"},
        "b": {"en": "nobody can answer now", "fr": "La ligne est occupée!"},
    }
    assert cluster_meanings(texts) == {"a": "a", "b": "a"}


def test_texts_in_different_languages_are_not_compared():
    assert cluster_meanings({"a": {"en": "no"}, "b": {"it": "no"}}) == {"a": "a", "b": "b"}


def test_empty_texts_are_alike_in_nothing():
    assert cluster_meanings({"a": {"en": ""}, "b": {"en": "…"}, "c": {}}) == {"a": "a", "b": "b", "c": "c"}


def test_a_threshold_of_one_keeps_identical_texts_only():
    texts = {"a": {"en": "press one now"}, "b": {"en": "press two now"}, "c": {"en": "Press one, now."}}
    assert cluster_meanings(texts, 1.0) == {"a": "a", "b": "b", "c": "a"}


@settings(deadline=None)
@given(st.permutations(["press one now", "press two now", "say it", "say what", "press two then"]))
def test_clusters_dont_depend_on_the_order(order):
    texts = {text: {"en": text} for text in order}
    assert cluster_meanings(texts) == cluster_meanings(dict(sorted(texts.items())))


# ---------------------------------------------------------------- prompts: transcripts


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


# ---------------------------------------------------------------- prompts: fetching and choosing

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


def test_only_the_languages_asked_for(source):
    utterances = prompts.prepare_prompts(source.root, languages=("it", "en"))
    assert list(dict.fromkeys(u.language for u in utterances)) == ["it", "en"]


def test_non_speech_is_left_out_unless_asked_for(source):
    def chosen(**options):
        return {u.meaning for u in prompts.prepare_prompts(source.root, languages=("en",), **options)}

    assert chosen() == {"busy", "busy2", "beeper-note"}
    assert chosen(include_non_speech=True) == {"busy", "busy2", "beeper-note", "silence/1", "beep"}
    assert chosen(min_words=2) == {"busy", "busy2", "beeper-note", "short"}
    assert chosen(min_words=6) == {"busy", "busy2"}


def test_an_unknown_language_is_refused_before_anything_is_fetched(source):
    with pytest.raises(CorpusError, match=r"no 'de'; it has en, es, fr, it, ru"):
        prompts.prepare_prompts(source.root, languages=("en", "de"))
    assert source.fetched == 0


def test_no_prompt_is_left(source):
    with pytest.raises(CorpusError, match=r"no prompt has 50 words or more; lower --min-words"):
        prompts.prepare_prompts(source.root, min_words=50)


def test_an_altered_file_is_noticed_and_the_mend_named(source):
    prompts.prepare_prompts(source.root)
    (source.root / "it" / "busy.g722").write_bytes(b"tampered")
    with pytest.raises(HashMismatchError, match=r"it/busy.g722 is not the published file.*; delete "):
        prompts.prepare_prompts(source.root)


def test_a_missing_file_is_noticed(source):
    prompts.prepare_prompts(source.root)
    (source.root / "core-sounds-ru.txt").unlink()
    with pytest.raises(CorpusError, match=r"core-sounds-ru.txt is missing"):
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
    with pytest.raises(FetchError, match=r"Debian packages: .*en/busy.g722.*upstream archives: no upstream here"):
        prompts.prepare_prompts(source.root)
    assert leftovers(source) == []
    monkeypatch.setattr(prompts, "_fetch_upstream", source.fetch)
    assert len(prompts.prepare_prompts(source.root)) == 15


def test_the_mend_of_a_wrong_fetch_names_no_folder_that_is_gone(source, monkeypatch):
    monkeypatch.setattr(prompts, "_fetch_debian", fetch_wrong_file)
    with pytest.raises(FetchError) as caught:
        prompts.prepare_prompts(source.root)
    assert f"{source.root.parent}/." not in str(caught.value)


# ---------------------------------------------------------------- prompts: the two sources


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
    monkeypatch.setattr(prompts, "_run", made.run)
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
        prompts._run(["sh", "-c", "echo a warning >&2; echo the reason >&2; exit 3"], tmp_path)


# ---------------------------------------------------------------- prompts: the real corpus


@pytest.mark.model
def test_the_real_corpus(prompts_manifest):
    languages = [u.language for u in prompts_manifest]
    assert {lang: languages.count(lang) for lang in languages} == dict.fromkeys(prompts.LANGUAGES, 215)
    meanings = {u.meaning for u in prompts_manifest}
    assert meanings == set(prompts.chinese_references())
    assert len({u.id for u in prompts_manifest}) == 5 * 215
    assert len({(u.language, u.meaning) for u in prompts_manifest}) == 5 * 215
    assert len({u.cluster for u in prompts_manifest}) == 140
    assert not any(re.match(r"silence/|beep$", str(u.meaning)) for u in prompts_manifest)


@pytest.mark.model
def test_every_real_prompt_has_an_english_and_a_chinese_reference(prompts_manifest):
    for u in prompts_manifest:
        assert u.translations["zh"]
        assert u.text if u.language == "en" else u.translations["en"]
        assert u.language not in u.translations


@pytest.mark.model
def test_real_clusters_are_the_same_in_every_language(prompts_manifest):
    clusters: dict[str, set[str]] = {}
    for u in prompts_manifest:
        clusters.setdefault(str(u.meaning), set()).add(str(u.cluster))
    assert all(len(found) == 1 for found in clusters.values())


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


def test_a_lost_line_break_between_transcripts_is_restored(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("conf-a: Uno. conf-b: Due conf-now-c: Tre: quattro.\nconf-d: conf-d: Cinque\nconf-e: a re-do: x\n")
    assert prompts.read_transcripts(path) == {
        "conf-a": "Uno.",
        "conf-b": "Due",
        "conf-now-c": "Tre: quattro.",
        "conf-d": "Cinque",
        "conf-e": "a",
        "re-do": "x",  # the price of the rule: a hyphenated word before a colon is taken for a name
    }
