"""Time and damage: what lies between time stamps, and what can't be decoded, is silence of that length."""

import contextlib
import io
import math
import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from interlingua.audio import (
    Hole,
    Recording,
    audio_hash,
    declared_duration,
    duration_of,
    load_audio,
    sample_rate_of,
)
from interlingua.errors import AudioError, TooLongAudioError, TruncatedAudioError, UsageError
from interlingua.types import SAMPLE_RATE, AudioRef

SECONDS = 2.0  # of each piece of sound


def write(target, codec, rate, starts, *, film=0.0, format=None, options=None):
    """A tone of `SECONDS` from each of ``starts`` on, by the container's clock; ``film``: seconds of pictures."""
    tone = (0.4 * np.sin(2 * np.pi * 440 * np.arange(round(SECONDS * rate)) / rate)).astype(np.float32)
    with av.open(target, "w", format=format, options=options or {}) as out:
        stream = out.add_stream(codec, rate=rate, layout="mono")
        packets = pictures(out, film) if film else []
        stream.codec_context.open()
        size = stream.codec_context.frame_size or 1024
        fit = av.AudioResampler(stream.format, "mono", rate, frame_size=size)
        sound = np.concatenate([tone] * len(starts))
        frame = av.AudioFrame.from_ndarray(sound[None], "fltp", "mono")
        frame.sample_rate, frame.pts = rate, 0
        for piece in [*fit.resample(frame), *fit.resample(None), None]:
            packets += [] if piece is None and not fit else stream.encode(piece)
        for packet in packets:
            if packet.stream is stream:
                at = float(packet.pts * packet.time_base)
                number = min(len(starts) - 1, max(0, int((at + 1e-3) / SECONDS)))
                packet.pts = packet.dts = packet.pts + round((starts[number] - number * SECONDS) / packet.time_base)
        if film:
            packets.sort(key=lambda packet: packet.dts * packet.time_base)
        for packet in packets:
            out.mux(packet)
    return target


def pictures(out, seconds):
    stream = out.add_stream("mpeg4", rate=10)
    stream.width = stream.height = 64
    stream.pix_fmt = "yuv420p"
    packets = []
    for i in range(round(10 * seconds)):
        frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), i % 255, np.uint8), "rgb24")
        frame.pts, frame.time_base = i, Fraction(1, 10)
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def sounds(samples):
    """(start, end) of each piece of sound, in seconds."""
    loud = np.abs(samples[: len(samples) // 320 * 320].reshape(-1, 320)).max(axis=1) > 0.05  # of 20 ms
    edges = np.flatnonzero(np.diff([0, *loud.astype(int), 0])) / 50
    return [(float(a), float(b)) for a, b in edges.reshape(-1, 2)]


def assert_sounds(samples, *expected, within=0.06):
    np.testing.assert_allclose(sounds(samples), expected, atol=within)


# name -> codec, rate, format
CLOCKED = {
    "aac.mp4": ("aac", 48_000, None),
    "opus.mkv": ("libopus", 48_000, None),
    "aac.mka": ("aac", 48_000, "matroska"),
    "pcm.mkv": ("pcm_s16le", 16_000, None),
    "opus.mp4": ("libopus", 48_000, None),
    "amr.3gp": ("libopencore_amrnb", 8_000, None),
    "aac.ts": ("aac", 48_000, None),
    "mp2.mpg": ("mp2", 44_100, None),
    "aac.flv": ("aac", 44_100, None),
    "opus.nut": ("libopus", 48_000, None),
    "opus.ogg": ("libopus", 48_000, None),
    "opus.webm": ("libopus", 48_000, None),
}
NO_FILM = {"aac.flv", "opus.ogg", "opus.webm"}  # takes no MPEG-4


@pytest.fixture(params=CLOCKED)
def name(request):
    return request.param


@pytest.mark.parametrize("start", [0.8, 5.9])
@pytest.mark.parametrize("name", sorted({*CLOCKED} - NO_FILM))
def test_a_track_that_begins_late(tmp_path, name, start):
    codec, rate, format = CLOCKED[name]
    path = write(str(tmp_path / name), codec, rate, [start], film=10.0, format=format)
    samples = load_audio(path)
    assert_sounds(samples, (start, start + SECONDS))
    assert duration_of(path) == pytest.approx(len(samples) / SAMPLE_RATE, abs=1e-3)
    if (declared := declared_duration(path)) is not None:
        assert declared == pytest.approx(start + SECONDS, abs=0.05)
    piece = load_audio(AudioRef(path, offset=start - 0.5, duration=1.5))
    assert_sounds(piece, (0.5, 1.5))
    np.testing.assert_array_equal(Recording.read(AudioRef(path)).samples(AudioRef(path)), samples)


def test_a_gap_is_silence(tmp_path, name):
    codec, rate, format = CLOCKED[name]
    path = write(str(tmp_path / name), codec, rate, [0, 4.5, 7], format=format)
    samples, holes = load_audio(path), []
    if name == "opus.ogg":  # which has a time stamp a second
        path = write(path, codec, rate, [0, 4.5, 8], format=format)
        assert_sounds(load_audio(path), (0, 2), (4.5, 6.5), (8, 10), within=1.0)
        return
    assert_sounds(samples, (0, 2), (4.5, 6.5), (7, 9))
    assert duration_of(path) == pytest.approx(len(samples) / SAMPLE_RATE, abs=1e-3)
    np.testing.assert_array_equal(load_audio(path, holes=holes), samples)
    np.testing.assert_allclose(holes, [(2, 4.5), (6.5, 7)], atol=0.05)
    for offset, duration in ((3.5, 2.0), (4.0, 1.0), (6.2, 1.3), (7.5, 1.0), (2.5, 1.0)):
        first = round(offset * SAMPLE_RATE)
        piece = load_audio(AudioRef(path, offset=offset, duration=duration))
        expected = samples[first : first + len(piece)]
        np.testing.assert_allclose(sounds(piece), sounds(expected), atol=0.04)
        assert len(piece) == round(duration * SAMPLE_RATE)
    assert load_audio(AudioRef(path, offset=7.5, duration=1.0), holes=(inside := [])).size
    assert inside == []


@pytest.mark.parametrize("name", ["opus.webm", "aac.mka", "aac.mp4"])
def test_a_file_of_sound_alone_may_begin_late(tmp_path, name):
    codec, rate, format = CLOCKED[name]
    path = write(str(tmp_path / name), codec, rate, [5.9], format=format)
    assert_sounds(load_audio(path), (5.9, 7.9))
    far = write(str(tmp_path / f"far.{name}"), codec, rate, [7200.0], format=format)  # cut out of a live stream
    assert_sounds(load_audio(far), (0, 2))


def test_clocks_that_begin_anywhere_count_from_their_first_stamp(tmp_path):
    for name in ("aac.ts", "opus.ogg", "aac.flv"):
        codec, rate, format = CLOCKED[name]
        path = write(str(tmp_path / name), codec, rate, [100.0, 103.5], format=format)
        assert_sounds(load_audio(path), (0, 2), (3.5, 5.5))


def test_files_put_together_begin_a_clock_anew(tmp_path):
    for name in ("aac.ts", "opus.ogg"):
        codec, rate, format = CLOCKED[name]
        data = (tmp_path / name, tmp_path / f"other.{name}")
        for path in data:
            write(str(path), codec, rate, [0.0, 3.0], format=format)
        both = data[0].read_bytes() + data[1].read_bytes()
        assert_sounds(load_audio(both), (0, 2), (3, 7), (8, 10), within=0.12)


class Frame:
    """What a decoded frame needs here."""

    sample_rate, samples, layout, format = 16_000, 1600, av.AudioLayout("mono"), av.AudioFormat("s16")

    def __init__(self, position):
        self.pts, self.time_base = round(position * 1000), Fraction(1, 1000)


class Stream:
    start_time, duration = 0, None


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        ([0, 0.1, 0.2, 0.3], [0, 1, 2, 3]),
        ([0, 0.15, 0.21, 0.3], [0, 1, 2, 3]),  # they tremble
        ([0, 0.1, 0.9, 1.0], [0, 1, 9, 10]),
        ([0.5, 0.6], [5, 6]),
        ([0, 0.1, 900.0, 0.3, 0.4], [0, 1, 2, 3, 4]),  # one that is wrong
        ([0, 0.1, 9000.0, 9000.1], [0, 1, 2, 3]),  # another clock
        ([0, 0.1, 9000.0, 0.9, 1.0], [0, 1, 2, 9, 10]),  # and the first one again
        ([3, 3.1, 0, 0.1, 0.8], [30, 31, 32, 33, 40]),
        ([0, 0.1, 0.2, 0.3, 0.4, 0.1, 0.2, 0.3, 0.4, 0.5], [0, 1, 2, 3, 4, 5]),  # sent twice
        ([0, 0.1, 0.2, 0.15, 0.25], [0, 1, 2, 3, 4]),
    ],
)
def test_time_stamps(monkeypatch, stamps, expected):
    from interlingua.audio import decode

    track = decode._Track("a.mkv", _Container("matroska,webm"), Stream(), None, False, True)
    pieces = [decode._Piece(Frame(stamp), 0.0, None, 0) for stamp in stamps]
    monkeypatch.setattr(decode, "_pieces", lambda track: iter([*pieces, decode._Piece(None, 0.0, None, 0)]))
    end, found = 0.0, []
    for frame in decode._frames(track):
        if isinstance(frame, Frame):
            found.append(round(10 * end))
        end += frame.samples / frame.sample_rate
    assert found == expected


class _Container:
    streams = (1, 2)

    def __init__(self, name):
        self.format = type("Format", (), {"name": name})


# --- damage

# name -> codec, rate, format, options; how far its times may be off behind a hole
DAMAGED = {
    "a.mp3": ("libmp3lame", 44_100, None, {}, 0.05),
    "bare.mp3": ("libmp3lame", 44_100, None, {"write_xing": "0"}, 0.03),
    "a.opus": ("libopus", 48_000, "ogg", {}, 0.03),
    "a.m4a": ("aac", 44_100, None, {}, 0.03),
    "a.flac": ("flac", 44_100, None, {}, 0.03),
    "flac.ogg": ("flac", 44_100, "ogg", {}, 0.03),
    "flac.mka": ("flac", 44_100, "matroska", {}, 0.03),
    "opus.webm": ("libopus", 48_000, None, {}, 0.03),
    "a.amr": ("libopencore_amrnb", 8_000, None, {}, 0.5),
    "a.3gp": ("libopencore_amrnb", 8_000, None, {}, 0.03),
    "a.aac": ("aac", 44_100, "adts", {}, 0.15),
    "a.ac3": ("ac3", 48_000, None, {}, 0.03),
    "a.wma": ("wmav2", 44_100, "asf", {}, 0.1),
    "a.flv": ("aac", 44_100, None, {}, 0.03),
    "a.tta": ("tta", 44_100, None, {}, 0.1),
}


UNNOTICED = {"a.flv", "a.wma"}  # FFmpeg takes their damaged frames


@pytest.fixture(scope="module", params=DAMAGED)
def damaged(request, tmp_path_factory):
    """(path of the whole file, of the damaged one: 600 bytes in its middle, tolerance)."""
    codec, rate, format, options, tolerance = DAMAGED[request.param]
    folder = tmp_path_factory.mktemp("damaged")
    whole = folder / request.param
    bits = {"wmav2": 64_000}
    with av.open(str(whole), "w", format=format, options=options) as out:
        stream = out.add_stream(codec, rate=rate, layout="mono")
        if codec in bits:
            stream.bit_rate = bits[codec]
        stream.codec_context.open()
        beeps = np.sin(2 * np.pi * 500 * np.arange(20 * rate) / rate) * (np.arange(20 * rate) % rate < rate / 2)
        frame = av.AudioFrame.from_ndarray((0.4 * beeps[None]).astype(np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts = rate, 0
        fit = av.AudioResampler(stream.format, "mono", rate, frame_size=stream.codec_context.frame_size or 4096)
        for piece in [*fit.resample(frame), *fit.resample(None)]:
            out.mux(stream.encode(piece))
        out.mux(stream.encode(None))
    data = bytearray(whole.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 600] = np.random.default_rng(7).bytes(600)
    broken = whole.with_name(f"broken-{whole.name}")
    broken.write_bytes(data)
    return whole, broken, tolerance


def test_a_hole_is_silence_with_its_place(damaged):
    whole, broken, tolerance = damaged
    expected, holes = load_audio(whole), []
    assert load_audio(whole, holes=holes).tolist() == expected.tolist()
    assert holes == []
    samples = load_audio(broken, holes=holes)
    assert abs(len(samples) - len(expected)) <= tolerance * SAMPLE_RATE
    assert holes
    assert all(isinstance(hole, Hole) and 4 < hole.start < hole.end < 16 for hole in holes)
    starts, found = ([a for a, _ in sounds(x)] for x in (expected, samples))
    for start in starts:
        if not holes[0].start - 0.5 < start < holes[-1].end + 0.5:
            assert min(abs(start - other) for other in found) <= tolerance + 0.03
    piece = load_audio(AudioRef(str(broken), offset=6.0, duration=10.0), holes=(inside := []))
    assert len(piece) == 10 * SAMPLE_RATE
    assert inside
    assert inside[0].start == pytest.approx(holes[0].start - 6, abs=0.15)


def test_a_hole_is_an_error_elsewhere(damaged):
    whole, broken, tolerance = damaged
    if whole.name in UNNOTICED:
        assert abs(len(load_audio(broken)) - len(load_audio(whole))) <= tolerance * SAMPLE_RATE
        return
    for read in (load_audio, lambda path: Recording.read(AudioRef(str(path))).samples(AudioRef(str(path)))):
        with pytest.raises(TruncatedAudioError, match="fetch it again"):
            read(broken)


@pytest.mark.parametrize("name", ["a.mp3", "a.wav", "a.mka"])
def test_a_cut_file_ends_in_a_hole(tmp_path, name):
    codec = {"a.mp3": "libmp3lame", "a.wav": "pcm_s16le", "a.mka": "flac"}[name]
    path = tmp_path / name
    write(str(path), codec, 16_000, [0, 2], format="matroska" if name == "a.mka" else None)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    with pytest.raises(TruncatedAudioError):
        load_audio(path)
    samples = load_audio(path, holes=(holes := []))
    assert 1 < len(samples) / SAMPLE_RATE < 3.2
    assert [hole.end for hole in holes] == [pytest.approx(4, abs=0.05)]
    assert holes[0].start == pytest.approx(len(samples) / SAMPLE_RATE, abs=0.05)


def test_nothing_but_damage_is_an_error(tmp_path):
    path = tmp_path / "a.mp3"
    path.write_bytes(np.random.default_rng(1).bytes(3_000))
    with pytest.raises(AudioError):
        load_audio(path, holes=[])


def float_wav(samples):
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, 1, SAMPLE_RATE, 4 * SAMPLE_RATE, 4, 32)
    body = head + struct.pack("<4sI", b"data", samples.nbytes) + samples.tobytes()
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
def test_numbers_that_are_none_are_a_hole(value):
    samples = np.full(3 * SAMPLE_RATE, 0.25, "<f4")
    samples[20_000:20_150] = value
    heard = load_audio(float_wav(samples), holes=(holes := []))
    assert np.abs(heard).max() == 0.25
    assert not heard[20_000:20_150].any()
    np.testing.assert_allclose(holes, [(1.25, 1.259)], atol=0.07)


@pytest.mark.parametrize("name", ["a.amr", "a.3gp"])
def test_pauses_of_a_phone_are_no_damage(tmp_path, name):
    path = str(tmp_path / name)
    quiet = np.random.default_rng(0).normal(0, 1e-4, 5 * 8000)
    tone = 0.4 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 8000)
    with av.open(path, "w") as out:
        stream = out.add_stream("libopencore_amrnb", rate=8000, layout="mono", options={"dtx": "1"})
        fit = av.AudioResampler("s16", "mono", 8000, frame_size=160)
        sound = np.concatenate([tone, quiet, tone, quiet]).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(sound[None], "fltp", "mono")
        frame.sample_rate, frame.pts = 8000, 0
        for piece in [*fit.resample(frame), *fit.resample(None)]:
            out.mux(stream.encode(piece))
        out.mux(stream.encode(None))
    samples = load_audio(path)
    assert_sounds(samples, (0, 2), (7, 9))
    assert len(samples) / SAMPLE_RATE == pytest.approx(14, abs=0.05)
    assert duration_of(path) == pytest.approx(14, abs=0.05)
    np.testing.assert_array_equal(load_audio(path, holes=(holes := [])), samples)
    assert holes == []


# --- headers


@pytest.mark.parametrize("text", [b"nan", b"inf", b"-inf", b"1e999", b"9" * 12])
def test_a_matroska_duration_that_is_none(text):
    target = io.BytesIO()
    write(target, "flac", 16_000, [0], format="matroska")
    data = target.getvalue()
    at = data.index(b"00:00:02.0")
    tagged = data[: at + 6] + text.rjust(12) + data[at + 18 :]
    if text.isdigit():
        with pytest.raises(TooLongAudioError):
            load_audio(tagged)
    else:
        assert len(load_audio(tagged)) == 2 * SAMPLE_RATE
        assert declared_duration(tagged) in (None, pytest.approx(2, abs=0.1))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0, 1e300])
def test_a_matroska_segment_whose_duration_is_none(value):
    target = io.BytesIO()
    write(target, "flac", 16_000, [0], format="matroska")
    data = bytearray(target.getvalue().replace(b"DURATION", b"DURATIOX"))
    at = data.index(b"\x44\x89\x88") + 3
    data[at : at + 8] = struct.pack(">d", value)
    for read in (load_audio, declared_duration, duration_of):
        with contextlib.suppress(AudioError):
            read(bytes(data))


@pytest.mark.parametrize("rate", [1, 999, 1_000_001, 2**31 - 1])
def test_a_rate_that_no_recording_has(rate):
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, min(2 * rate, 2**32 - 1), 2, 16)
    body = head + struct.pack("<4sI", b"data", 28_000) + bytes(28_000)
    data = b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body
    for read in (load_audio, sample_rate_of, duration_of, declared_duration):
        with pytest.raises(AudioError, match=f"{rate} Hz"):
            read(data)
    with pytest.raises(UsageError, match="sample_rate"):
        load_audio(np.zeros(100, np.float32), sample_rate=rate)
    assert audio_hash(data)
