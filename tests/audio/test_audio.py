"""Audio decoding: every fixture is encoded here, so content is known and not only lengths."""

import contextlib
import gc
import io
import math
import os
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from helpers import write_wav
from interlingua.audio import Recording, audio_hash, declared_duration, duration_of, load_audio
from interlingua.audio.decode import _Track
from interlingua.errors import (
    AudioError,
    AudioNotFoundError,
    EmptyAudioError,
    NoChannelsError,
    NonFiniteAudioError,
    NotAudioError,
    TooLongAudioError,
    TruncatedAudioError,
    UsageError,
)
from interlingua.types import SAMPLE_RATE, AudioRef

SECONDS = 2.05  # no multiple of any codec's frame
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}


def chirp(rate: int, seconds: float = SECONDS) -> np.ndarray:
    """A tone that rises from 200 to 1000 Hz; every moment of it is recognisable."""
    t = np.arange(round(rate * seconds)) / rate
    return 0.5 * np.sin(2 * np.pi * (200 * t + 400 * t * t / seconds))


def encode(
    target,
    codec,
    rate,
    *,
    channels=1,
    seconds=SECONDS,
    samples=None,
    film=0.0,
    format=None,
    options=None,
    quality=None,
):
    """Write a chirp (or ``samples``) in any codec; ``film`` adds that many seconds of pictures."""
    signal = chirp(rate, seconds) if samples is None else samples
    planes = np.atleast_2d(signal).astype(np.float32)
    planes = np.repeat(planes, channels, axis=0) if len(planes) == 1 else planes
    layout = LAYOUTS[len(planes)]
    with av.open(target, "w", format=format, options=options or {}) as out:
        pictures = film_stream(out) if film else None
        stream = out.add_stream(codec, rate=rate, layout=layout)
        if quality is not None:  # a variable bit rate
            stream.codec_context.qscale = True
            stream.codec_context.global_quality = quality * 118
        for i in range(round(film * 10)):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), i % 255, np.uint8), "rgb24")
            out.mux(pictures.encode(frame))
        if pictures:
            out.mux(pictures.encode(None))
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(planes), "fltp", layout)
        frame.sample_rate, frame.pts = rate, 0
        fit = av.AudioResampler(stream.format, layout, rate, frame_size=stream.codec_context.frame_size or None)
        for piece in [*fit.resample(frame), *fit.resample(None)]:
            if piece is not None:
                out.mux(stream.encode(piece))
        out.mux(stream.encode(None))
    return target


def film_stream(out):
    stream = out.add_stream("mpeg4", rate=10)
    stream.width = stream.height = 64
    stream.pix_fmt = "yuv420p"
    return stream


def wav(samples=None, *, channels=1, rate=SAMPLE_RATE, tag=1, bits=16, size=None):
    """A WAV file's bytes with a hand-made header, right or wrong."""
    data = (chirp(rate) * 32767).astype("<i2").tobytes() if samples is None else samples.tobytes()
    width = channels * bits // 8
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, tag, channels, rate, rate * width, width, bits)
    body = head + struct.pack("<4sI", b"data", len(data) if size is None else size) + data
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


def correlation(found, seconds=SECONDS):
    """How alike to the chirp, and at which lag (samples) they are most alike."""
    wanted = chirp(SAMPLE_RATE, seconds)
    n = 1 << (len(found) + len(wanted)).bit_length()
    products = np.fft.irfft(np.fft.rfft(found, n) * np.conj(np.fft.rfft(wanted, n)), n)
    lag = int(products.argmax())
    alike = products[lag] / math.sqrt(float(np.sum(found**2) * np.sum(wanted**2)))
    return alike, lag if lag < n // 2 else lag - n


class Pipe:
    """A target that can't go back to correct its header."""

    def __init__(self):
        self.pieces = []

    def write(self, data):
        self.pieces.append(bytes(data))
        return len(data)

    @property
    def data(self):
        return b"".join(self.pieces)


# name -> codec, rate, further arguments of encode
FORMATS = {
    "u8.wav": ("pcm_u8", 8_000, {}),
    "s16.wav": ("pcm_s16le", 16_000, {}),
    "s24.wav": ("pcm_s24le", 44_100, {"channels": 2}),
    "s32.wav": ("pcm_s32le", 48_000, {}),
    "f32.wav": ("pcm_f32le", 48_000, {"channels": 6}),
    "f64.wav": ("pcm_f64le", 22_050, {}),
    "mulaw.wav": ("pcm_mulaw", 8_000, {}),
    "adpcm.wav": ("adpcm_ima_wav", 16_000, {}),
    "a.flac": ("flac", 44_100, {"channels": 2}),
    "a.mp3": ("libmp3lame", 44_100, {"channels": 2}),
    "low.mp3": ("libmp3lame", 16_000, {}),
    "vbr.mp3": ("libmp3lame", 44_100, {"quality": 4}),
    "bare.mp3": ("libmp3lame", 44_100, {"options": {"write_xing": "0"}}),
    "a.opus": ("libopus", 48_000, {}),
    "flac.oga": ("flac", 16_000, {"format": "ogg"}),
    "a.m4a": ("aac", 44_100, {"channels": 2}),
    "front.m4a": ("aac", 44_100, {"options": {"movflags": "faststart"}}),
    "pieces.mp4": ("aac", 44_100, {"options": {"movflags": "frag_keyframe+empty_moov"}}),
    "a.aac": ("aac", 44_100, {"format": "adts"}),
    "a.ts": ("aac", 44_100, {"format": "mpegts"}),
    "a.aiff": ("pcm_s16be", 16_000, {}),
    "a.au": ("pcm_s16be", 16_000, {}),
    "a.mka": ("flac", 16_000, {"format": "matroska"}),
    "a.g722": ("g722", 16_000, {}),
    "film.mp4": ("aac", 48_000, {"film": 4.0}),
    "film.mkv": ("libopus", 48_000, {"film": 4.0}),
    "film.webm": ("libopus", 48_000, {"format": "webm"}),
}
# samples at 16 kHz that these containers don't say to drop: behind the audio, and before it
PADDED = {"bare.mp3": 1200, "pieces.mp4": 800, "a.aac": 800, "a.ts": 800, "adpcm.wav": 2000}
LATE = {"bare.mp3": 450, "pieces.mp4": 400, "a.aac": 400, "a.ts": 400, "a.g722": 30}  # G.722: its filter bank's delay


def has_encoder(codec):
    try:
        av.Codec(codec, "w")
    except ValueError:
        return False
    return True


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Name -> path of a chirp in each format that the build can encode."""
    folder = tmp_path_factory.mktemp("formats")
    return {
        name: Path(encode(str(folder / name), codec, rate, **options))
        for name, (codec, rate, options) in FORMATS.items()
        if has_encoder(codec)
    }


@pytest.fixture(params=FORMATS)
def path(request, files):
    if request.param not in files:
        pytest.skip("this FFmpeg can't encode it")
    return files[request.param]


# --- formats


def test_content_and_length(path):
    samples = load_audio(path)
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert -3 <= len(samples) - round(SECONDS * SAMPLE_RATE) <= PADDED.get(path.name, 3)
    alike, lag = correlation(samples)
    assert alike > 0.98
    assert 0 <= lag <= LATE.get(path.name, 0)


def test_a_path_a_string_bytes_and_a_file_object_are_alike(path):
    samples = load_audio(path)
    data = path.read_bytes()
    with path.open("rb") as file:
        others = [str(path), file]
        if path.suffix != ".g722":  # known by the file's name alone
            others += [data, bytearray(data), memoryview(data), io.BytesIO(data)]
        for other in others:
            np.testing.assert_array_equal(load_audio(other), samples)


def test_duration_agrees_with_the_samples(path):
    assert duration_of(path) == pytest.approx(len(load_audio(path)) / SAMPLE_RATE, abs=1.01 / SAMPLE_RATE)


def test_a_file_object_is_read_from_where_it_stands():
    file = io.BytesIO(b"junk" + wav())
    file.seek(4)
    np.testing.assert_array_equal(load_audio(file), load_audio(wav()))


def test_gsm_by_name(tmp_path):
    frames = b"".join(bytes([0xD0 | i % 16]) + bytes((i * 7 + j * 13) % 256 for j in range(32)) for i in range(60))
    (tmp_path / "a.gsm").write_bytes(frames)
    samples = load_audio(tmp_path / "a.gsm")
    assert len(samples) == 60 * 320  # 20 ms each
    assert np.abs(samples).max() > 0.01


def test_a_raw_ending_does_not_hide_a_known_format(tmp_path):
    for name in ("a.g722", "a.gsm"):
        (tmp_path / name).write_bytes(wav())
        assert correlation(load_audio(tmp_path / name)) == (pytest.approx(1, abs=1e-3), 0)


def test_channels_are_averaged(tmp_path):
    six = np.stack([chirp(SAMPLE_RATE) * gain for gain in (1.0, 0.8, 0.6, 0.4, 0.2, 0.0)])
    encode(str(tmp_path / "six.wav"), "pcm_f32le", SAMPLE_RATE, samples=six)
    np.testing.assert_allclose(load_audio(tmp_path / "six.wav"), six.mean(axis=0), atol=1e-6)


def opposite(*weights, seconds=SECONDS):
    """(S, channels) int16 of one signal with a weight a channel."""
    return np.outer(chirp(SAMPLE_RATE, seconds) * 20_000, weights).astype("<i2")


@pytest.mark.parametrize("weights", [(1, -1), (1, -0.9), (-0.8, 1), (1, -1, 1, -1), (0.01, 1, -1), (0, 0, 0, 1, -1, 0)])
def test_channels_in_opposite_phase_are_heard(weights):
    both = opposite(*weights)
    expected = chirp(SAMPLE_RATE) * 20_000 / 32768
    for source in (wav(both, channels=len(weights)), both, both.T, both / np.float32(32768)):
        heard = load_audio(source)
        assert abs(np.corrcoef(heard, expected)[0, 1]) > 0.999
        assert 0.75 < np.abs(heard).max() / np.abs(expected).max() < 1.01


def test_opposite_phase_over_noise_in_phase_and_in_a_part_of_the_recording():
    seconds = np.arange(6 * SAMPLE_RATE) / SAMPLE_RATE
    hum = 300 * np.sin(2 * np.pi * 50 * seconds)[:, None]
    both = (opposite(1, -1, seconds=6) + hum).astype("<i2")
    both[: 2 * SAMPLE_RATE] = opposite(1, 1, seconds=6)[: 2 * SAMPLE_RATE]  # as it should be
    power = np.square(load_audio(wav(both, channels=2))).reshape(6, -1).mean(axis=1)
    np.testing.assert_allclose(power, power[0], rtol=0.05)


@pytest.mark.parametrize("weights", [(1, 0), (1, 0.5), (1, -0.5), (1, 0, 0, 0)])
def test_other_channels_are_averaged_as_before(weights):
    both = opposite(*weights)
    np.testing.assert_allclose(load_audio(wav(both, channels=len(weights))), both.mean(axis=1) / 32768, atol=1e-4)


def test_a_stretch_of_channels_in_opposite_phase_is_that_of_the_whole(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(wav(opposite(1, -1, seconds=8), channels=2, rate=44_100))
    whole = load_audio(path)
    piece = load_audio(AudioRef(str(path), offset=2.25, duration=0.5))
    np.testing.assert_array_equal(piece, whole[36_000:44_000])


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 7, 9, 24, 64])
def test_any_number_of_channels(channels):
    frames = np.repeat((chirp(SAMPLE_RATE) * 32767).astype("<i2")[:, None], channels, axis=1)
    np.testing.assert_allclose(load_audio(wav(frames, channels=channels)), chirp(SAMPLE_RATE), atol=1e-4)


def test_more_channels_than_ffmpeg_mixes():
    with pytest.raises(NotAudioError, match="100 channels"):
        load_audio(wav(np.zeros((1600, 100), "<i2"), channels=100))


@pytest.mark.parametrize("rate", [4_000, 11_025, 12_345, 22_050, 32_000, 96_000, 192_000])
def test_any_rate(rate):
    samples = load_audio(wav(rate=rate))
    assert abs(len(samples) - round(SECONDS * SAMPLE_RATE)) <= 1
    assert correlation(samples) == (pytest.approx(1, abs=1e-3), 0)


def test_the_best_track_of_a_film_that_is_longer_than_its_sound(files):
    samples = load_audio(files["film.mp4"])  # four seconds of pictures
    assert len(samples) == round(SECONDS * SAMPLE_RATE)


def test_rates_and_layouts_that_change_midway():
    first, second = io.BytesIO(), io.BytesIO()
    encode(first, "aac", 16_000, format="adts")
    encode(second, "aac", 32_000, format="adts", channels=2)
    samples = load_audio(first.getvalue() + second.getvalue())
    assert 0 <= len(samples) - round(2 * SECONDS * SAMPLE_RATE) < 0.2 * SAMPLE_RATE
    assert correlation(samples[-len(samples) // 2 :])[0] > 0.9


def test_a_stream_that_appears_midway():
    """PyAV's demuxer trips over it after the last packet; found by damaging MPEG-TS at random."""

    def demux(stream):
        yield from ("packet", "packet")
        raise IndexError("list index out of range")

    track = _Track("a.ts", SimpleNamespace(demux=demux), None, None, False, False)
    assert list(track.packets()) == ["packet", "packet"]


@pytest.mark.parametrize("name", [b"caf\xe9.wav", "日本 語.wav".encode(), b"http:x.wav", b"a%03d.wav", b"-i", b"noext"])
def test_awkward_names(tmp_path, name):
    target = tmp_path / os.fsdecode(name)
    target.write_bytes(wav())
    assert len(load_audio(str(target))) == round(SECONDS * SAMPLE_RATE)


# --- stretches


@pytest.fixture(scope="module")
def long_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long")
    kinds = {
        "a.wav": ("pcm_s16le", 44_100),
        "low.wav": ("pcm_s24le", 11_025),
        "a.flac": ("flac", 44_100),
        "a.mp3": ("libmp3lame", 44_100),
        "a.opus": ("libopus", 48_000),
        "a.m4a": ("aac", 48_000),
        "a.mka": ("libopus", 48_000),
        "a.g722": ("g722", 16_000),
    }
    return {
        name: Path(encode(str(folder / name), codec, rate, seconds=20.0))
        for name, (codec, rate) in kinds.items()
        if has_encoder(codec)
    }


STRETCHES = [(0.0, 0.5), (0.3, 1.0), (2.7, 1.3), (3.0, 0.01), (9.87654, 2.3), (17.5, 2.5), (12.3, None), (0.0, None)]


@pytest.mark.parametrize(("offset", "duration"), STRETCHES)
@pytest.mark.parametrize("name", ["a.wav", "low.wav", "a.flac"])
def test_a_stretch_is_a_slice(long_files, name, offset, duration):
    whole = load_audio(long_files[name])
    first = round(offset * SAMPLE_RATE)
    last = None if duration is None else first + round(duration * SAMPLE_RATE)
    found = load_audio(AudioRef(str(long_files[name]), offset, duration))
    np.testing.assert_allclose(found, whole[first:last], atol=1e-6)


@pytest.mark.parametrize("name", ["a.mp3", "a.opus", "a.m4a", "a.mka", "a.g722"])
def test_a_stretch_of_a_lossy_file(long_files, name):
    if name not in long_files:
        pytest.skip("this FFmpeg can't encode it")
    whole = load_audio(long_files[name])
    for offset, duration in STRETCHES:
        first = round(offset * SAMPLE_RATE)
        last = None if duration is None else first + round(duration * SAMPLE_RATE)
        found = load_audio(AudioRef(str(long_files[name]), offset, duration))
        assert abs(len(found) - len(whole[first:last])) <= (16 if duration is None else 0)
        found = found[16:-16]  # Matroska's clock ticks in milliseconds: 16 samples
        near = [whole[first + k :][: len(found)] for k in range(33) if len(whole) >= first + k + len(found)]
        assert max(np.corrcoef(found, other)[0, 1] for other in near) > 0.999


def test_a_stretch_seeks(long_files, monkeypatch):
    decoded = []
    real = load_audio.__globals__["_frames"]

    def counting(track, *start):
        for frame in real(track, *start):
            decoded.append(frame.samples / frame.sample_rate)
            yield frame

    monkeypatch.setitem(load_audio.__globals__, "_frames", counting)
    for name in ("a.wav", "a.flac", "a.m4a"):
        decoded.clear()
        load_audio(AudioRef(str(long_files[name]), 15.2, 1.0))
        assert sum(decoded) < 6


def test_an_audio_ref(long_files):
    path = str(long_files["a.wav"])
    assert duration_of(AudioRef(path, offset=4.0, duration=1.5)) == 1.5
    assert duration_of(AudioRef(path, offset=4.0)) == pytest.approx(16.0)
    np.testing.assert_array_equal(load_audio(AudioRef(path)), load_audio(path))


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.m4a", "a.g722"])
def test_past_the_end(long_files, name):
    if name not in long_files:
        pytest.skip("this FFmpeg can't encode it")
    with pytest.raises(EmptyAudioError, match="no samples at 30 s"):
        load_audio(AudioRef(str(long_files[name]), 30.0))
    with pytest.raises(EmptyAudioError, match="offset"):
        load_audio(AudioRef(str(long_files[name]), 20.4, 0.1))
    with pytest.raises(TruncatedAudioError, match="requested"):
        load_audio(AudioRef(str(long_files[name]), 18.0, 2.2))
    samples = load_audio(AudioRef(str(long_files[name]), 18.0, 2.09))  # 0.1 s may be missing
    assert len(samples) + 2 >= 2.0 * SAMPLE_RATE
    with pytest.raises(EmptyAudioError):
        duration_of(AudioRef(str(long_files[name]), offset=25.0))


def test_a_stretch_before_the_cut_can_be_read(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(wav()[: 44 + 32_000])
    assert len(load_audio(AudioRef(str(path), 0.2, 0.5))) == 8_000
    with pytest.raises(TruncatedAudioError):
        load_audio(AudioRef(str(path), 0.5, 1.0))


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
@pytest.mark.parametrize("what", ["offset", "duration"])
def test_a_stretch_that_makes_no_sense(what, value):
    with pytest.raises(UsageError, match=what):
        load_audio(AudioRef("a.wav", **{what: value}))


def test_a_stretch_of_no_length(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav())
    with pytest.raises(EmptyAudioError, match="duration"):
        load_audio(AudioRef(str(tmp_path / "a.wav"), duration=0.0))


# --- arrays


@given(
    hnp.arrays(
        st.sampled_from([np.int16, np.int32, np.float32, np.float64, np.dtype(">i2"), np.dtype(">f4")]),
        st.one_of(
            st.tuples(st.integers(1, 600)),
            st.tuples(st.integers(1, 6), st.integers(7, 600)),
            st.tuples(st.integers(7, 600), st.integers(1, 6)),
        ),
        elements={"min_value": -1, "max_value": 1},
    )
)
@settings(max_examples=60, deadline=None)
def test_arrays_of_any_shape_and_type(array):
    before = array.copy()
    samples = load_audio(array)
    wide = array[None] if array.ndim == 1 else array if array.shape[0] < array.shape[1] else array.T
    wide = wide.astype(np.float64)
    if array.dtype.kind == "i":
        wide = wide / 2 ** (8 * array.dtype.itemsize - 1)
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples, wide.mean(axis=0), atol=1e-6)
    samples[:] = 7
    np.testing.assert_array_equal(array, before)  # nothing is shared


def test_integers_fill_the_range():
    for dtype in (np.int16, np.int32):
        info = np.iinfo(dtype)
        low, high = load_audio(np.array([info.min, info.max], dtype))
        assert low == -1
        assert high == pytest.approx(1, abs=1e-4)


@given(rate=st.integers(4_000, 96_000), count=st.integers(500, 4_000))
@settings(max_examples=40, deadline=None)
def test_arrays_of_any_rate(rate, count):
    samples = load_audio(np.zeros(count, np.float32), sample_rate=rate, max_seconds=10)
    assert abs(len(samples) - round(count * SAMPLE_RATE / rate)) <= 1


def test_an_array_is_resampled_like_a_file():
    array = chirp(44_100).astype(np.float32)
    data = wav(array, rate=44_100, tag=3, bits=32)
    np.testing.assert_allclose(load_audio(array, sample_rate=44_100), load_audio(data), atol=1e-6)


def test_long_arrays_are_resampled_in_pieces_without_a_seam(monkeypatch):
    array = chirp(44_100).astype(np.float32)
    whole = load_audio(array, sample_rate=44_100)
    monkeypatch.setitem(load_audio.__globals__, "_BLOCK", 10_007)
    np.testing.assert_array_equal(load_audio(array, sample_rate=44_100), whole)


class Tensor:
    """What a tensor looks like to NumPy."""

    def __init__(self, values, error=None):
        self.values, self.error = values, error

    def __array__(self, dtype=None, copy=None):
        if self.error:
            raise self.error
        return self.values


def test_tensors():
    values = chirp(SAMPLE_RATE).astype(np.float32)
    np.testing.assert_array_equal(load_audio(Tensor(values)), values)
    assert audio_hash(Tensor(values)) == audio_hash(values)
    with pytest.raises(UsageError, match="detach"):
        load_audio(Tensor(values, TypeError("can't convert cuda:0")))


@pytest.mark.parametrize(
    ("array", "error"),
    [
        (np.zeros(0, np.float32), EmptyAudioError),
        (np.zeros((1, 0), np.float32), EmptyAudioError),
        (np.zeros((0, 2), np.float32), EmptyAudioError),
        (np.zeros((0, 16_000), np.float32), NoChannelsError),
        (np.zeros((16_000, 0), np.float32), NoChannelsError),
        (np.zeros((0, 0), np.float32), NoChannelsError),
        (np.array([0, np.nan, 0], np.float32), NonFiniteAudioError),
        (np.array([0, np.inf, -np.inf], np.float64), NonFiniteAudioError),
        (np.array([1e300], np.float64), NonFiniteAudioError),
        (np.zeros(()), UsageError),
        (np.zeros((2, 2, 2)), UsageError),
        (np.zeros((80, 3000), np.float32), UsageError),
        (np.zeros(4, np.int64), UsageError),
        (np.zeros(4, np.uint8), UsageError),
        (np.zeros(4, np.complex64), UsageError),
        (np.array(["a"]), UsageError),
        (np.array([None]), UsageError),
    ],
)
def test_arrays_that_can_not_be_used(array, error):
    with pytest.raises(error):
        load_audio(array)


def test_non_finite_after_resampling():
    array = chirp(44_100)
    array[5000] = np.nan
    with pytest.raises(NonFiniteAudioError):
        load_audio(array, sample_rate=44_100)


# --- arguments


def test_arguments_that_do_not_fit():
    with pytest.raises(UsageError, match="sample_rate"):
        load_audio(wav(), sample_rate=8_000)
    with pytest.raises(UsageError, match="sample_rate is 0"):
        load_audio(np.zeros(10), sample_rate=0)
    with pytest.raises(UsageError, match="no audio source"):
        load_audio([0.0, 1.0])
    with pytest.raises(UsageError, match="binary"):
        load_audio(io.StringIO("x"))


def test_a_text_file_object(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav())
    with (tmp_path / "a.wav").open(encoding="utf-8") as file, pytest.raises(UsageError, match="binary"):
        load_audio(file)


# --- files that can't be used


@pytest.mark.parametrize("function", [load_audio, audio_hash, duration_of])
def test_no_such_file(tmp_path, function):
    for name in ("absent.wav", "nul\0.wav", "absent/absent.wav"):
        with pytest.raises(AudioNotFoundError, match="check the path"):
            function(tmp_path / name)
    with pytest.raises(NotAudioError, match="folder"):
        function(tmp_path)


def test_names_that_the_system_refuses():
    with pytest.raises(AudioError, match="can't be read"):
        load_audio("x" * 10_000)


def test_a_file_object_that_fails():
    class Failing(io.RawIOBase):
        def readable(self):
            return True

        def readall(self):
            raise OSError(5, "Input/output error")

        read = readall

    with pytest.raises(AudioError, match="Input/output error"):
        load_audio(Failing())


def picture():
    target = io.BytesIO()
    with av.open(target, "w", format="image2pipe") as out:
        stream = out.add_stream("png", rate=1)
        stream.width = stream.height = 8
        stream.pix_fmt = "rgb24"
        out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((8, 8, 3), np.uint8), "rgb24")))
        out.mux(stream.encode(None))
    return target.getvalue()


def silent_film():
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as out:
        stream = film_stream(out)
        for _ in range(5):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")))
        out.mux(stream.encode(None))
    return target.getvalue()


NOT_AUDIO = {
    "a.txt": b"Once upon a time\n" * 50,
    "a.wav": b"<html>404 Not Found</html>" * 30,
    "a.mp3": np.random.default_rng(1).bytes(3_000),
    "noise": np.random.default_rng(2).bytes(100_000),
    "one": b"\0",
    "a.png": picture(),
    "film.mp4": silent_film(),
    "a.gsm": b"Once upon a time\n" * 50,
    "a.srt": b"1\n00:00:01,000 --> 00:00:02,000\nHello\n",
}


@pytest.mark.parametrize("name", NOT_AUDIO)
def test_not_audio(tmp_path, name):
    (tmp_path / name).write_bytes(NOT_AUDIO[name])
    for function in (load_audio, duration_of):
        with pytest.raises(NotAudioError):
            function(tmp_path / name)
    with pytest.raises(NotAudioError):
        load_audio(NOT_AUDIO[name])


def test_playlists_open_no_other_file(tmp_path, files):
    (tmp_path / "a.ffconcat").write_text(f"ffconcat version 1.0\nfile {files['s16.wav']}\n")
    (tmp_path / "a.m3u8").write_text(f"#EXTM3U\n#EXTINF:2.0,\n{files['a.aac']}\n#EXT-X-ENDLIST\n")
    for name in ("a.ffconcat", "a.m3u8"):
        with pytest.raises(NotAudioError):
            load_audio(tmp_path / name)


@pytest.mark.parametrize("data", [b"", wav(np.zeros(0, "<i2")), wav(np.zeros(0, "<f4"), rate=44_100, tag=3, bits=32)])
def test_empty(tmp_path, data):
    (tmp_path / "a.wav").write_bytes(data)
    for source in (data, tmp_path / "a.wav", io.BytesIO(data)):
        with pytest.raises(EmptyAudioError):
            load_audio(source)
        with pytest.raises(EmptyAudioError):
            duration_of(data)


def test_a_flac_header_and_no_samples(files):
    data = bytearray(files["a.flac"].read_bytes()[:42])  # the marker and STREAMINFO
    data[4] |= 0x80  # no block follows
    with pytest.raises(TruncatedAudioError):  # it promises samples
        load_audio(bytes(data))
    data[21] &= 0xF0
    data[22:26] = bytes(4)  # it doesn't say how many
    with pytest.raises((EmptyAudioError, TruncatedAudioError)):
        load_audio(bytes(data))


def test_zero_channels():
    for data in (wav(channels=0), wav(np.zeros(0, "<i2"), channels=0)):
        with pytest.raises(NoChannelsError, match="zero channels"):
            load_audio(data)
        with pytest.raises(NoChannelsError):
            duration_of(data)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_non_finite_float_wav(tmp_path, value, rate):
    samples = chirp(rate).astype("<f4")
    samples[rate] = value
    data = wav(samples, rate=rate, tag=3, bits=32)
    with pytest.raises(NonFiniteAudioError):
        load_audio(data)
    (tmp_path / "a.wav").write_bytes(data)
    assert len(load_audio(AudioRef(str(tmp_path / "a.wav"), duration=0.5))) == 8_000  # the rest can be used


def test_overflow_in_the_mean_is_not_finite():
    samples = np.full((1600, 2), np.finfo(np.float32).max, "<f4")
    with pytest.raises(NonFiniteAudioError):
        load_audio(wav(samples, channels=2, tag=3, bits=32))


# --- truncation

TELLS = ["s16.wav", "s24.wav", "u8.wav", "f32.wav", "adpcm.wav", "a.flac", "a.mp3", "low.mp3", "a.m4a", "front.m4a"]
TELLS += ["pieces.mp4", "a.mka", "a.aiff", "a.au", "film.mp4", "film.mkv"]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", TELLS)
def test_a_cut_file(files, name, share):
    if name not in files:
        pytest.skip("this FFmpeg can't encode it")
    data = files[name].read_bytes()
    if name.startswith("film"):  # sound ends before the pictures and the index do: cut where it is lost
        share /= 2
    with pytest.raises(TruncatedAudioError, match="fetch it again"):
        load_audio(data[: round(len(data) * share)])


def test_a_wav_header_alone():
    for end in (4, 12, 30, 36, 44):
        with pytest.raises(TruncatedAudioError):
            load_audio(wav()[:end])
    with pytest.raises(TruncatedAudioError):
        duration_of(wav()[:20_000])


def test_a_few_bytes_may_be_missing():
    assert len(load_audio(wav()[:-20])) == round(SECONDS * SAMPLE_RATE) - 10


@pytest.mark.parametrize("name", ["a.flac", "low.mp3", "a.m4a", "a.aac"])
def test_a_hole_in_the_middle(files, name):
    data = bytearray(files[name].read_bytes())
    middle = len(data) // 2
    data[middle : middle + 1500] = np.random.default_rng(3).bytes(1500)
    with pytest.raises(TruncatedAudioError):
        load_audio(bytes(data))


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0x80000000 - 44, 0xFFFFFFFF])
def test_a_wav_from_a_pipe_is_healthy(size):
    data = wav(size=size)
    np.testing.assert_array_equal(load_audio(data), load_audio(wav()))
    assert duration_of(data) == pytest.approx(SECONDS)


@pytest.mark.parametrize(
    ("codec", "format"),
    [
        ("pcm_s16le", "wav"),
        ("flac", "flac"),
        ("libmp3lame", "mp3"),
        ("aac", "adts"),
        ("flac", "matroska"),
        ("pcm_s16be", "au"),
    ],
)
def test_a_header_that_could_not_be_corrected_is_healthy(codec, format):
    if not has_encoder(codec):
        pytest.skip("this FFmpeg can't encode it")
    pipe = Pipe()
    encode(pipe, codec, SAMPLE_RATE, format=format)
    assert correlation(load_audio(pipe.data))[0] > 0.98
    assert duration_of(pipe.data) == pytest.approx(SECONDS, abs=0.15)


@pytest.mark.parametrize("name", ["s16.wav", "a.flac", "a.mp3", "a.opus", "a.m4a", "a.mka"])
@pytest.mark.parametrize("tail", [b"TAG" + b"x" * 125, bytes(1000), np.random.default_rng(4).bytes(1000)])
def test_junk_behind_the_audio_is_healthy(files, name, tail):
    if name not in files:
        pytest.skip("this FFmpeg can't encode it")
    samples = load_audio(files[name].read_bytes() + tail)
    assert 0 <= len(samples) - round(SECONDS * SAMPLE_RATE) < 0.05 * SAMPLE_RATE


def test_a_big_tag_before_an_mp3_hides_no_cut(files):
    data = files["low.mp3"].read_bytes()
    size = 10 + sum(byte << 7 * i for i, byte in enumerate(data[9:5:-1]))
    tagged = b"ID3\x03\0\0\0\x01\0\0" + bytes(1 << 14) + data[size:]
    np.testing.assert_array_equal(load_audio(tagged), load_audio(data))
    with pytest.raises(TruncatedAudioError):
        load_audio(tagged[:-2000])


def test_two_mp3_files_put_together_are_healthy(files):
    data = files["a.mp3"].read_bytes()
    assert load_audio(data + data).size == pytest.approx(2 * SECONDS * SAMPLE_RATE, abs=0.1 * SAMPLE_RATE)


def outcome(data, **arguments):
    """The samples, or the error if it is one of ours; any other error escapes."""
    try:
        return load_audio(data, **arguments)
    except AudioError as error:
        return error


def test_damage_never_escapes_the_tree(files, tmp_path):
    """Random cuts and random damage of every format: samples or an AudioError of one line."""
    rng = np.random.default_rng(5)
    for name, path in files.items():
        data, damaged_file = path.read_bytes(), tmp_path / name
        for _ in range(3):
            at, start = int(rng.integers(len(data))), int(rng.integers(200))
            damaged = [
                data[:at],
                data[:at] + rng.bytes(60) + data[at + 60 :],
                data[:start] + rng.bytes(4) + data[start + 4 :],
            ]
            for broken in damaged:
                damaged_file.write_bytes(broken)
                for stretch in ((), (1.3, 0.2)):
                    result = outcome(AudioRef(str(damaged_file), *stretch))
                    if isinstance(result, AudioError):
                        assert str(result).startswith(f"{damaged_file}: ")
                        assert "\n" not in str(result)
                    else:
                        assert result.size
                        assert np.isfinite(result).all()


# --- too long


def test_too_long(path):
    for source in (path, io.BytesIO(path.read_bytes())) if path.suffix != ".g722" else (path,):
        with pytest.raises(TooLongAudioError, match=r"longer than 1\.5 s"):
            load_audio(source, max_seconds=1.5)
    for stretch in ((None, 0.6), (1.0, None)):
        with pytest.raises(TooLongAudioError):
            load_audio(AudioRef(str(path), *stretch), max_seconds=0.5)
    load_audio(AudioRef(str(path), 1.0, 0.5), max_seconds=0.5)


def test_exactly_the_limit():
    assert len(load_audio(wav(), max_seconds=SECONDS)) == round(SECONDS * SAMPLE_RATE)
    array = np.zeros(1600, np.float32)
    assert len(load_audio(array, max_seconds=0.1)) == 1600
    with pytest.raises(TooLongAudioError):
        load_audio(array, max_seconds=0.0999)


@pytest.mark.parametrize(("name", "decodes"), [("a.wav", 0), ("a.flac", 0), ("a.opus", 4), ("a.g722", 4)])
def test_too_long_is_given_up_early(long_files, name, decodes, monkeypatch):
    if name not in long_files:
        pytest.skip("this FFmpeg can't encode it")
    decoded = []
    real = load_audio.__globals__["_frames"]

    def counting(track, *start):
        for frame in real(track, *start):
            decoded.append(frame.samples / frame.sample_rate)
            yield frame

    monkeypatch.setitem(load_audio.__globals__, "_frames", counting)
    with pytest.raises(TooLongAudioError):
        load_audio(long_files[name], max_seconds=2.0)
    assert sum(decoded) <= decodes


# --- hashes


def test_hashes(files, tmp_path):
    path = files["s16.wav"]
    copy, shorter = tmp_path / "other name.wav", tmp_path / "shorter.wav"
    copy.write_bytes(path.read_bytes())
    shorter.write_bytes(path.read_bytes()[:-1])
    whole = audio_hash(AudioRef(str(path)))
    assert len(whole) == 32
    assert int(whole, 16) > 0
    assert whole == audio_hash(AudioRef(str(copy))) == audio_hash(AudioRef(str(path), offset=0.0))
    assert whole == audio_hash(path) == audio_hash(path.read_bytes()) == audio_hash(io.BytesIO(path.read_bytes()))
    array = np.arange(10, dtype=np.int16)
    assert audio_hash(array) == audio_hash(array.copy())
    stretches = [(1.0, None), (None, 1.0), (1.0, 1.0)]
    distinct = [whole, *(audio_hash(AudioRef(str(path), *stretch)) for stretch in stretches)]
    distinct += [audio_hash(AudioRef(str(other))) for other in (files["a.flac"], shorter)]
    distinct += [audio_hash(a) for a in (array, array.astype(np.int32), array[None], array[::-1], array[:0])]
    assert len(set(distinct)) == len(distinct)
    with pytest.raises(UsageError):
        audio_hash(AudioRef(str(path), offset=-1.0))


@pytest.mark.parametrize("held", [True, False])
def test_a_recording_that_is_read_once_gives_the_same_hash_and_samples(path, held, monkeypatch):
    if not held:
        monkeypatch.setattr("interlingua.audio.decode.HELD_BYTES", 0)
    recording = Recording.read(AudioRef(str(path), offset=0.7))
    for offset, duration in ((None, None), (0.7, None), (0.3, 1.0)):
        ref = AudioRef(str(path), offset=offset, duration=duration)
        assert recording.hash(ref) == audio_hash(ref)
        np.testing.assert_array_equal(recording.samples(ref), load_audio(ref))


def test_a_recording_that_is_read_once_fails_alike(tmp_path):
    (tmp_path / "noise.wav").write_text("not audio")
    cut = AudioRef(str(write_wav(tmp_path / "a.wav", chirp(SAMPLE_RATE))), offset=30.0)
    long = AudioRef(cut.path, duration=5 * 3600.0)
    wrong = AudioRef(cut.path, offset=-1.0)
    for ref in (AudioRef(str(tmp_path / "noise.wav")), AudioRef(str(tmp_path / "gone.wav")), cut, long, wrong):
        with pytest.raises((AudioError, UsageError)) as expected:
            load_audio(ref)
        with pytest.raises(type(expected.value)) as found:
            Recording.read(AudioRef(ref.path)).samples(ref)
        assert str(found.value) == str(expected.value)


# --- manners


def test_quiet_and_without_global_state(files, capfd, caplog, monkeypatch):
    def forbidden(*args):
        raise AssertionError("gc.collect was called")

    monkeypatch.setattr(gc, "collect", forbidden)
    level = av.logging.get_level()
    for path in files.values():
        load_audio(path)
        with contextlib.suppress(AudioError):
            load_audio(path.read_bytes()[:-700])
    assert av.logging.get_level() == level
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
    assert not caplog.records


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files the Linux way")
def test_files_are_closed(files, tmp_path):
    (tmp_path / "cut.flac").write_bytes(files["a.flac"].read_bytes()[:9_000])
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        load_audio(AudioRef(str(files["a.m4a"]), duration=0.1))
        with pytest.raises(TruncatedAudioError):
            load_audio(tmp_path / "cut.flac")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_threads_agree(files):
    names = [name for name in ("s24.wav", "a.flac", "a.mp3", "a.m4a", "film.mkv") if name in files]
    wanted = {name: load_audio(files[name]) for name in names}
    barrier = threading.Barrier(2)

    def read_all():
        barrier.wait()
        return [(name, load_audio(files[name])) for _ in range(5) for name in names]

    with ThreadPoolExecutor(2) as pool:
        for result in [pool.submit(read_all) for _ in range(2)]:
            for name, samples in result.result():
                np.testing.assert_array_equal(samples, wanted[name])


def test_the_declared_duration_is_the_headers(tmp_path):
    wav = write_wav(tmp_path / "a.wav", np.zeros(40_000, np.float32))
    assert declared_duration(wav) == declared_duration(wav.read_bytes()) == 2.5
    assert declared_duration(AudioRef(str(wav), offset=1.0)) == 1.5
    assert declared_duration(AudioRef(str(wav), offset=1.0, duration=0.5)) == 0.5
    raw = tmp_path / "a.g722"
    raw.write_bytes(bytes(8000))
    assert declared_duration(raw) is None  # no header
    with pytest.raises(AudioNotFoundError):
        declared_duration(tmp_path / "gone.wav")
