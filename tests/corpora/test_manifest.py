"""Manifests of ours, and whatever else stands in their place."""

import gzip
import os
import threading
from pathlib import Path

import pytest

from helpers import utterance
from interlingua.corpora import read_any, read_manifest, write_manifest
from interlingua.corpora.manifest import iter_manifest
from interlingua.errors import ManifestError, UsageError
from interlingua.types import AudioRef, Utterance
from trees import clip, jsonl, put

GOOD = '{"id": "a", "audio": {"path": "a.wav"}, "language": "en"}'


def manifest(tmp_path, *lines: str, encoding: str = "utf-8") -> Path:
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding=encoding, errors="surrogateescape")
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
    clip(put(tmp_path / "t.csv", "audio,language\na.wav,en\n").with_name("a.wav"))
    assert [u.audio.path for u in read_any("t.csv")] == [str(tmp_path / "a.wav")]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_byte_order_mark_blank_lines_and_windows_line_ends_are_harmless(tmp_path, mark, end):
    path = tmp_path / "m.jsonl"
    path.write_bytes(mark + end.join([GOOD.encode(), b"", b"   ", GOOD.replace('"a"', '"b"').encode(), b"", b""]))
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
        (
            '{"id": "b", "audio": {"path": "a.tar", "member": "../b"}, "language": "en"}',
            "'../b' climbs out of the archive",
        ),
        ('{"id": "\udcff", "audio": {"path": "b"}, "language": "en"}', "not UTF-8 (byte 0xff)"),
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


def test_a_missing_or_empty_manifest_and_a_folder_are_errors(tmp_path):
    with pytest.raises(ManifestError, match=r"no readable manifest file \(No such .*\); write one with"):
        read_manifest(tmp_path / "none.jsonl")
    with pytest.raises(ManifestError, match=r"a folder; name the manifest or table in it"):
        read_manifest(tmp_path)
    for content in ("", "\n\n"):
        (tmp_path / "m.jsonl").write_text(content)
        with pytest.raises(ManifestError, match="is empty"):
            read_manifest(tmp_path / "m.jsonl")


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
    with pytest.raises(UsageError, match=r"no utterance in 'ja'; it has de, en, fr"):
        read_manifest(wav_manifest, ["en", "ja"])


def test_reading_is_lazy(tmp_path):
    lines = iter_manifest(manifest(tmp_path, GOOD, "broken"))
    assert next(lines).id == "a"
    with pytest.raises(ManifestError):
        next(lines)


# ---------------------------------------------------------------- any file


def test_any_file_is_told_by_its_content(clips):
    ours = clips / "ours.jsonl"
    write_manifest(ours, [Utterance(id="o", audio=AudioRef(str(clips / "a.wav")), language="en", split="dev")])
    recording = {"id": "r", "sources": [{"type": "file", "channels": [0], "source": "a.wav"}], "duration": 0.2}
    supervision = {"id": "s", "recording_id": "r", "start": 0, "duration": 0.2, "channel": 0, "language": "en"}
    cut = {"id": "c", "type": "MonoCut", "start": 0, "duration": 0.2, "channel": 0, "recording": recording}
    files = {
        "o": ours,
        "a.wav": jsonl(clips / "nemo.json", {"audio_filepath": "a.wav", "duration": 0.2, "lang": "en"}),
        "s": jsonl(clips / "cuts.jsonl.gz", {**cut, "supervisions": [supervision]}),
        "t": put(clips / "t.tsv", "id\taudio\tlanguage\nt\ta.wav\ten\n"),
        "j": jsonl(clips / "rows.jsonl", {"id": "j", "audio": "a.wav", "language": "en"}),
        "h": jsonl(clips / "hf.jsonl", {"id": "h", "audio": {"path": "a.wav", "bytes": None}, "language": "en"}),
        "p": put(clips / "pairs.csv", "id,audio,language\np,a.wav,en\n"),
    }
    for id_, path in files.items():
        (found,) = read_any(path)
        assert (found.id, found.language, Path(found.audio.path).name) == (id_, "en", "a.wav"), path


def test_any_file_with_nothing_usable_is_an_error(clips):
    with pytest.raises(ManifestError, match="no usable recording is in it"):
        list(read_any(put(clips / "t.csv", "audio,text,language\n,Hello,en\n")))
