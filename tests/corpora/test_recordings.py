"""Recordings in folders: the decoder decides, and what isn't taken is told."""

import os
import socket
import unicodedata
from pathlib import Path

import av
import numpy as np
import pytest

from helpers import sweep, utterance, write_wav
from interlingua.audio import load_audio
from interlingua.corpora import read_any, write_manifest
from interlingua.corpora.base import read_corpus
from interlingua.corpora.recordings import audio_files, folder_recordings
from interlingua.encoding.store import line_of
from interlingua.errors import ManifestError
from interlingua.types import AudioRef

KINDS = {  # name -> codec, rate, FFmpeg's format
    "a.m4b": ("aac", 16_000, "mp4"),
    "b.weba": ("libopus", 48_000, "webm"),
    "c.mpg": ("mp2", 16_000, "mpeg"),
    "d.flv": ("aac", 44_100, "flv"),
    "e.MTS": ("aac", 48_000, "mpegts"),
    "f.3ga": ("aac", 16_000, "3gp"),
    "g.mp2": ("mp2", 16_000, "mp2"),
    "h.wv": ("wavpack", 16_000, "wv"),
    "i": ("flac", 16_000, "flac"),
    "j.backup": ("pcm_s16le", 16_000, "wav"),
}


def write(path, codec, rate, format):
    with av.open(str(path), "w", format=format) as out:
        stream = out.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, rate), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts = rate, 0
        fit = av.AudioResampler(stream.format, "mono", rate, frame_size=stream.codec_context.frame_size or None)
        for piece in [*fit.resample(frame), *fit.resample(None)]:
            if piece is not None:
                out.mux(stream.encode(piece))
        out.mux(stream.encode(None))


def test_a_folder_gives_every_file_that_the_decoder_takes(tmp_path):
    for name, kind in KINDS.items():
        write(tmp_path / name, *kind)
    lines: list[str] = []
    assert [p.name for p in folder_recordings(tmp_path, lines.append)] == sorted(KINDS)
    assert lines == []


def test_what_is_passed_over_is_told_with_the_reason(tmp_path):
    write_wav(tmp_path / "sub" / "a.wav", sweep(1, 300))
    (tmp_path / "._a.wav").write_bytes(b"\0\5\x16\7" + bytes(100))  # macOS' AppleDouble
    (tmp_path / ".git").mkdir()
    write_wav(tmp_path / ".git" / "b.wav", sweep(1, 300))
    (tmp_path / "notes.txt").write_text("Il pleut.\n" * 50)
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "perl.al").write_text("sub a { return 1 }\n" * 20)  # FFmpeg would take the name for A-law
    (tmp_path / "broken.wav").write_bytes(b"RIFF....")  # promised a recording: fails by name
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    lines: list[str] = []
    assert [name for _, name in audio_files(str(tmp_path), lines.append)] == ["broken", "sub/a"]
    assert sorted(lines) == [
        f"{tmp_path}: skipped 2 (a pipe, device or socket, or a link that leads nowhere): gone.wav, pipe.wav",
        f"{tmp_path}: skipped 2 (hidden): ._a.wav, .git",
        f"{tmp_path}: skipped 3 (no audio in it that can be decoded): empty, notes.txt, perl.al",
    ]


@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, kind):
    from interlingua.audio import Recording, audio_hash, declared_duration, duration_of, load_audio
    from interlingua.errors import AudioError
    from interlingua.types import AudioRef

    path = tmp_path / "a.wav"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        here = os.open(".", os.O_RDONLY)
        os.chdir(tmp_path)  # a socket's path has 108 bytes at most
        try:
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind("a.wav")
        finally:
            os.fchdir(here)
            os.close(here)
    member = AudioRef(str(path), member="inside.wav")
    for read in (load_audio, audio_hash, duration_of, declared_duration, Recording.read):
        for source in (AudioRef(str(path)), member):
            with pytest.raises(AudioError, match=r"a\.wav: a pipe, a device or a socket, no regular file; save"):
                read(source)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_letter_and_its_accent_are_one_name_however_composed(tmp_path, form):
    """macOS decomposes the letters of names, and most manifests compose them."""
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    folder = tmp_path / unicodedata.normalize(form, "été")
    path = write_wav(folder / f"{unicodedata.normalize(form, 'tök')}.wav", sweep(0.3, 200))
    given = tmp_path / unicodedata.normalize(other, "été/tök.wav")
    assert len(load_audio(str(given))) == len(load_audio(str(path)))
    assert [p for p, _ in audio_files(str(given))] == [path]
    table = tmp_path / "t.csv"
    table.write_text(f"audio,language\n{given},en\n", encoding="utf-8")
    (found,) = read_corpus("plain", table)
    assert len(load_audio(found.audio)) == len(load_audio(str(path)))


def test_a_name_that_is_not_utf8(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    wav = write_wav(path / "a.wav", sweep(0.3, 200))
    with pytest.raises(ManifestError, match=r"caf\\xe9/a\.wav: its name isn't UTF-8; rename it"):
        write_manifest(tmp_path / "m.jsonl", [utterance("en", "a", audio=AudioRef(str(wav)))])
    manifest = path / "m.jsonl"  # the folder alone is called so
    write_manifest(manifest, [utterance("en", "a", audio=AudioRef(str(wav)))])
    (read,) = read_any(manifest)
    assert len(load_audio(read.audio))
    assert "caf\\\\xe9" in line_of(read)
