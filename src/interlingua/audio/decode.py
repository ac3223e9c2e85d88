"""Audio in: any file, bytes, file object or array becomes float32 mono at 16 kHz, by FFmpeg's libraries (PyAV).

    source -> _Input -> _open: one track -> _pieces -> _frames -> _skip -> _mono -> _Stretch.cut -> samples

The steps between are generators, so a stretch of a long file costs what the stretch costs. No state is shared:
threads may decode at the same time. PyAV discards FFmpeg's log unless the user calls ``av.logging.set_level``.

Time is the container's: a track that begins late, and a gap between its time stamps, become silence.
"""

import hashlib
import io
import math
import os
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, NamedTuple, Protocol, TypeAlias

import av
import numpy as np

from interlingua.audio.archives import open_file, read_member
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
from interlingua.files import as_stored
from interlingua.types import SAMPLE_RATE, AudioRef, Samples


class ArrayLike(Protocol):
    """What NumPy can read as an array: an ndarray, a torch tensor on the CPU."""

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray: ...


class Hole(NamedTuple):
    """Seconds of a recording in which nothing can be decoded: lost, damaged, or left out by its clock."""

    start: float
    end: float


FileSource: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
AudioSource: TypeAlias = FileSource | ArrayLike | AudioRef

MAX_SECONDS = 4 * 3600.0  # what load_audio refuses by default: more than any single recording here
HELD_BYTES = 16 << 20  # of one file in memory, between its hash and its samples
TOLERANCE = 0.1  # seconds that may be missing before audio counts as truncated
MAX_CHANNELS = 32  # an array with more rows and columns than this is no audio but, for example, a spectrogram

_RAW = {".g722": "g722", ".gsm": "gsm"}  # no header: known by the file's name only
_MAGIC = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"\x1aE\xdf\xa3")  # WAV, FLAC, Ogg, Matroska
_GAPLESS = {"wav", "flac", "mp3", "aiff", "au"}  # no pauses: the count of samples gives the time
_TIMED = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}  # time stamps count from 0, and give the time
_CLOCKED = _TIMED | {"ogg", "mpegts", "mpeg", "flv", "asf", "nut"}  # pauses allowed: time stamps, from the file's first
_SEEKABLE = _TIMED | {"wav", "flac", "mp3", "ogg"}  # seeking lands on the time stamp it names
_OVERLAP = 0.25, 1.0  # seconds that time stamps may fall behind the samples: more is dropped; more is another clock
_LONGEST_GAP = 3600.0  # seconds: where time stamps leap further, another clock begins, not a pause
_UNLISTED = {"mpegts", "mpeg", "flv"}  # no header lists their tracks: one that begins late is found by looking far
_FAR = {"probesize": str(1 << 28), "analyzeduration": str(3600 * 10**6)}  # bytes, microseconds
_RATES = 1_000, 1_000_000  # Hz: no speech was recorded at others, and resampling from them takes any memory
_OVERHEAD = 256  # bytes between the packets of a file of one track
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_STATED = {"asf", "wv", "tta", "ape"}  # their headers state the length
_INEXACT = 1.0  # seconds that may be missing by those
_LOUDEST = 1e10  # of full scale: more is a damaged number (integers of 32 bits reach 2e9)
_QUIET = {  # what a phone sends while nobody speaks: first bytes of AMR's comfort noise and empty frames (RFC 4867)
    "amrnb": {0x40, 0x44, 0x78, 0x7C},
    "amrwb": {0x48, 0x4C, 0x70, 0x74, 0x78, 0x7C},
}
_PREROLL = 1  # seconds decoded and dropped after a seek, so that lossy decoders have settled
_BLOCK = 60 * 48_000  # samples of an array handed to the resampler at a time
_CANCELLED = 0.1  # of the power that the mean of unrelated channels would have: 10 dB less is opposite phase


def load_audio(
    source: AudioSource,
    *,
    sample_rate: int = SAMPLE_RATE,
    max_seconds: float = MAX_SECONDS,
    holes: list[Hole] | None = None,
    between: Callable[[], None] = lambda: None,
) -> Samples:
    """Read a recording as float32 mono at 16 kHz: (S,), all finite, channels averaged (see `_average`).

    Time is the container's (`_frames`). An AudioRef's stretch is cut from the resampled recording, sample for sample
    (lossy codecs: as exact as their time stamps).

    Args:
        source: path, bytes, binary file object (read from its position to its end), AudioRef, or an array (S,),
            (channels, S) or (S, channels), the smaller axis being the channels; integers are scaled to [-1, 1).
        sample_rate: Hz of an array; a file states its own.
        max_seconds: refuse to read more than this.
        holes: takes the holes in a damaged recording, which is silent there; None: damage raises.
        between: called about once a second of a file; what it raises ends the reading.

    Raises:
        AudioNotFoundError: no such file, or no such member of an archive.
        NotAudioError: no audio in it: text, a picture, a silent film, a folder, noise.
        EmptyAudioError: no samples (or fewer than the resampler can use, some 5 ms), or none after the offset.
        TruncatedAudioError: the data breaks, or ends more than 0.1 s before the stretch's end or an exact header (WAV,
            FLAC, AIFF, AU, MP4, Matroska, MP3 with a frame count).
        NonFiniteAudioError: NaN or infinity among the samples.
        NoChannelsError: zero channels.
        TooLongAudioError: more than ``max_seconds``.
        AudioError: the file can't be read (permission, input/output), or is a pipe, a device or a socket.
        UsageError: an argument is wrong.
    """
    stretch = _Stretch.checked(source, max_seconds)
    if _is_array(source):
        return _from_array(source, sample_rate, stretch)
    if sample_rate != SAMPLE_RATE:
        raise UsageError(f"{_name(source)}: sample_rate is for arrays, a file states its own; leave it out")
    found: list[Hole] | None = None if holes is None else []
    blocks = []
    for block in _from_file(_Input.of(source), stretch, found):
        blocks.append(block)
        between()
    samples = _join(blocks)
    if holes is not None and found:
        holes += stretch.own(found)
    return samples


def audio_hash(source: AudioSource) -> str:
    """Hex BLAKE2b (128 bits) of a recording, for checking whether stored frames still fit.

    A file hashes as its bytes, in an archive too, and the stretch; an array as its type, shape and values. Raises
    AudioError where the file can't be read, and UsageError.
    """
    if _is_array(source):
        array = _as_array(source)
        digest = hashlib.blake2b(f"{array.dtype.str} {array.shape}".encode(), digest_size=16)
        digest.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
        return digest.hexdigest()
    return _Stretch.checked(source).hash(_Input.of(source).digest())


@dataclass(frozen=True, eq=False)
class Recording:
    """A file read once: hash and samples of any stretch come from the same bytes, unless it exceeds `HELD_BYTES`."""

    _media: "_Input"
    _digest: Any

    @classmethod
    def read(cls, audio: AudioRef) -> "Recording":
        """Read the file that an AudioRef names, in an archive too; AudioError where it can't be read."""
        media = _Input.of(audio)
        if isinstance(media.data, Path):
            with media.open() as file:
                try:
                    if os.fstat(file.fileno()).st_size <= HELD_BYTES:
                        media = replace(media, data=file.read())
                except OSError as error:
                    raise _unreadable(media.name, error) from error
        return cls(media, media.digest())

    @property
    def size(self) -> int:
        """Bytes of it in memory."""
        return len(self._media.data) if isinstance(self._media.data, bytes) else 0

    def hash(self, audio: AudioRef) -> str:
        """As `audio_hash`."""
        return _Stretch.checked(audio).hash(self._digest.copy())

    def samples(self, audio: AudioRef) -> Samples:
        """As `load_audio`; raises AudioError."""
        return _join([*self.stream(audio)])

    def stream(self, audio: AudioRef) -> Iterator[Samples]:
        """The same samples, about a second at a time; raises AudioError when it gets there."""
        return _from_file(self._media, _Stretch.checked(audio))


def duration_of(source: FileSource | AudioRef) -> float:
    """Seconds of a recording: by the header of WAV and FLAC, else by decoding all of it; an AudioRef's stretch alone.

    Raises AudioError as `load_audio` does (but a FLAC file that was cut passes unnoticed), and UsageError.
    """
    stretch = _Stretch.checked(source, math.inf)
    if stretch.duration is not None:
        return stretch.duration
    media = _Input.of(source)
    with _open(media) as track:
        if track.exact and track.declared is not None:
            seconds = track.declared
        else:
            counts: Counter[int] = Counter()
            for frame in _frames(track):
                counts[frame.sample_rate] += frame.samples
            seconds = sum(count / rate for rate, count in counts.items())
            if track.declared and 0 < seconds - track.declared <= TOLERANCE:
                seconds = track.declared  # as in _decode
    if seconds <= stretch.offset:
        raise _no_samples(media.name, stretch.offset)
    return seconds - stretch.offset


def sample_rate_of(source: FileSource | AudioRef) -> int:
    """Hz of a recording before resampling; raises AudioError as far as the header shows a fault."""
    with _open(_Input.of(source)) as track:
        return int(track.stream.rate)


def require_audio(source: FileSource | AudioRef) -> None:
    """Decode a recording's first frame, known by its content alone, for FFmpeg takes any ``.al`` for A-law.

    Raises NotAudioError where no decoder takes it, AudioError for other faults.
    """
    media = _Input.of(source)
    with _open(media, named=False) as track:
        if next(_frames(track), None) is None:
            raise NotAudioError(f"{media.name}: nothing in it can be decoded; name another file")


def declared_duration(source: FileSource | AudioRef) -> float | None:
    """Seconds of a recording by its header, without decoding; None if inexact; raises AudioError and UsageError."""
    stretch = _Stretch.checked(source, math.inf)
    if stretch.duration is not None:
        return stretch.duration
    with _open(_Input.of(source)) as track:
        return None if track.declared is None else max(0.0, track.declared - stretch.offset)


# --- what the user wants -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Stretch:
    """The part of a recording that is wanted: seconds, and samples at 16 kHz from the recording's start."""

    offset: float
    duration: float | None
    max_seconds: float

    @classmethod
    def checked(cls, source: Any, max_seconds: float = MAX_SECONDS) -> "_Stretch":
        """The stretch of an AudioRef, all of anything else."""
        offset, duration = (source.offset, source.duration) if isinstance(source, AudioRef) else (None, None)
        for what, seconds in (("offset", offset), ("duration", duration)):
            if seconds is not None and not 0 <= seconds < math.inf:
                raise UsageError(f"{_name(source)}: {what} is {seconds} s; give a number of seconds from 0 up")
        stretch = cls(offset or 0.0, duration, max_seconds)
        if duration is not None and duration > max_seconds:
            raise stretch.too_long(_name(source))
        return stretch

    @property
    def second(self) -> int:
        """Where decoding begins: at a whole second, where every rate's resampling is in phase."""
        return max(0, math.floor(self.offset) - 1)

    @property
    def first(self) -> int:
        return round(self.offset * SAMPLE_RATE)

    @property
    def last(self) -> int | None:
        return None if self.duration is None else self.first + round(self.duration * SAMPLE_RATE)

    @property
    def limit(self) -> float:
        return math.inf if self.duration is not None else (self.offset + self.max_seconds) * SAMPLE_RATE

    def hash(self, digest: Any) -> str:
        if (self.offset, self.duration) != (0.0, None):
            digest.update(f" from {self.offset!r} for {self.duration!r}".encode())
        return str(digest.hexdigest())

    def too_long(self, name: str) -> TooLongAudioError:
        return TooLongAudioError(
            f"{name}: longer than {self.max_seconds:g} s; cut it, or name a stretch in a manifest (offset, duration)"
        )

    def cut(
        self, blocks: Iterable[Samples], start: int, name: str, holes: list[Hole] | None = None
    ) -> Iterator[Samples]:
        """The stretch out of ``blocks`` of samples, which begin at sample ``start`` of the recording."""
        end, empty = start, True
        for block in blocks:
            at, end = end, end + len(block)
            if end > self.limit:
                raise self.too_long(name)
            piece = block[max(0, self.first - at) : None if self.last is None else max(0, self.last - at)]
            if len(piece):
                empty = False
                yield _finite(piece, max(at, self.first), name, holes)
            if self.last is not None and end >= self.last:
                break
        if end == start or end <= self.first:
            raise _no_samples(name, self.offset)
        if self.last is not None and self.last - end > TOLERANCE * SAMPLE_RATE:
            raise TruncatedAudioError(
                f"{name}: {self.duration:g} s from {self.offset:g} s requested, but it ends at "
                f"{end / SAMPLE_RATE:.2f} s; correct the duration or fetch it again"
            )
        if empty:
            raise EmptyAudioError(f"{name}: a duration of {self.duration} s holds no sample; leave it out")

    def own(self, holes: Iterable[Hole]) -> list[Hole]:
        """The holes of a recording that lie in the stretch, in its time, neighbours joined."""
        found: list[Hole] = []
        for start, end in sorted(holes):
            first, last = max(0.0, start - self.offset), min(end - self.offset, self.duration or math.inf)
            if found and first - found[-1].end <= TOLERANCE:
                first = found.pop().start
            if last > first:
                found.append(Hole(round(first, 2), max(round(last, 2), round(first, 2) + 0.01)))
        return found


def _finite(piece: Samples, at: int, name: str, holes: list[Hole] | None) -> Samples:
    """Samples from sample ``at`` of the recording on: silent around NaN and infinity if ``holes`` takes the place."""
    if holes is None:
        if not np.isfinite(piece).all():
            raise NonFiniteAudioError(f"{name}: NaN or infinity among its samples; convert or record it again")
        return piece
    damaged = np.flatnonzero(~(np.abs(piece) < _LOUDEST))
    if len(damaged):
        around = SAMPLE_RATE // 20  # where resampling may have spread it
        first, last = max(0, int(damaged[0]) - around), min(len(piece), int(damaged[-1]) + around)
        piece[first:last] = 0
        holes.append(Hole((at + first) / SAMPLE_RATE, (at + last) / SAMPLE_RATE))
    return piece


def _no_samples(name: str, offset: float) -> EmptyAudioError:
    if offset:
        return EmptyAudioError(f"{name}: no samples at {offset:g} s or later; correct the offset")
    return EmptyAudioError(f"{name}: no samples; fetch or record it again")


# --- what the user gave ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Input:
    name: str
    data: Path | bytes

    @classmethod
    def of(cls, source: Any) -> "_Input":
        name = _name(source)
        if isinstance(source, AudioRef):
            path = as_stored(Path(source.path))
            return cls(name, path if source.member is None else read_member(path, source.member))
        if isinstance(source, bytes | bytearray | memoryview):
            return cls(name, bytes(source))
        if isinstance(source, str | os.PathLike):
            return cls(name, as_stored(Path(source)))
        return cls(name, _read(source, name))

    def digest(self) -> Any:
        digest = hashlib.blake2b(self.data if isinstance(self.data, bytes) else b"", digest_size=16)
        if isinstance(self.data, Path):
            with self.open() as file:
                while piece := file.read(1 << 20):
                    digest.update(piece)
        return digest

    def open(self) -> BinaryIO:
        if isinstance(self.data, bytes):
            return io.BytesIO(self.data)
        try:
            if self.data.is_dir():
                raise NotAudioError(f"{self.name}: a folder, not a recording; name a file in it")
            return open_file(self.data)
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a NUL in the name
            raise AudioNotFoundError(f"{self.name}: no such file; check the path") from error
        except OSError as error:
            raise _unreadable(self.name, error) from error


def _name(source: Any) -> str:
    """What messages call a source."""
    if isinstance(source, str | os.PathLike):
        return os.fsdecode(source)
    if isinstance(source, AudioRef):
        return source.path if source.member is None else f"{source.path}::{source.member}"
    if isinstance(source, bytes | bytearray | memoryview):
        return "audio bytes"
    if _is_array(source):
        return "array"
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else "audio stream"


def _read(source: Any, name: str) -> bytes:
    if not hasattr(source, "read"):
        raise UsageError(
            f"{type(source).__name__}: no audio source; give a path, bytes, a binary file object or an array"
        )
    try:
        data = source.read()
    except OSError as error:
        raise _unreadable(name, error) from error
    except UnicodeDecodeError:
        data = ""
    if not isinstance(data, bytes):
        raise UsageError(f"{name}: a file object that gives no bytes; open it in binary mode ('rb')")
    return data


def _unreadable(name: str, error: OSError) -> AudioError:
    return AudioError(f"{name}: can't be read ({error.strerror or error}); check its permissions and the disk")


# --- arrays ---------------------------------------------------------------------------------------------


def _is_array(source: Any) -> bool:
    return hasattr(source, "__array__")


def _as_array(source: Any) -> np.ndarray:
    try:
        return np.asarray(source)
    except (TypeError, ValueError, RuntimeError) as error:  # torch: on a GPU, or with a gradient
        raise UsageError("array: NumPy can't read it; for a tensor call .detach().cpu() first") from error


def _from_array(source: Any, rate: int, stretch: _Stretch) -> Samples:
    if not _RATES[0] <= rate <= _RATES[1]:
        raise UsageError(f"array: sample_rate is {rate}; give its rate in Hz, such as 16000")
    channels = _channels_first(_as_array(source))
    count = channels.shape[1]
    if count * SAMPLE_RATE > stretch.limit * rate:
        raise stretch.too_long("array")
    mono = _join([_average(channels[:, i : i + rate]) for i in range(0, count, rate)])  # seconds, as of a file
    if channels.dtype.kind == "i":
        mono /= np.float32(2 ** (8 * channels.dtype.itemsize - 1))
    if rate != SAMPLE_RATE:
        frames = (_frame(mono[None, i : i + _BLOCK], "mono", rate) for i in range(0, count, _BLOCK))
        mono = _join(list(_mono(frames)))
    return _join([*stretch.cut([mono], 0, "array")])


def _channels_first(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind != "f" and array.dtype.str[1:] not in ("i2", "i4"):
        raise UsageError(f"array: of type {array.dtype}; give float32, float64, int16 or int32")
    if array.ndim not in (1, 2):
        raise UsageError(f"array: of shape {array.shape}; give (S,), (channels, S) or (S, channels)")
    channels = array[None] if array.ndim == 1 else array
    if channels.shape[0] > channels.shape[1]:
        channels = channels.T
    few, many = channels.shape
    if few == 0 and 1 <= many <= MAX_CHANNELS:
        raise EmptyAudioError(f"array: of shape {array.shape}, no samples; leave this recording out")
    if few == 0:
        raise NoChannelsError(f"array: of shape {array.shape}, zero channels; leave this recording out")
    if few > MAX_CHANNELS:
        raise UsageError(f"array: of shape {array.shape}, {few} channels; give samples, not a spectrogram")
    return channels


# --- files: one open track ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Track:
    """An opened audio stream; ``declared``: where its header says that it ends, in seconds, if exactly, else None.

    ``exact``: the header alone gives ``declared``; ``known``: the data begins like a known format; ``begin``: seconds
    of the container's clock before it. ``holes`` takes what is damaged; None: damage raises.
    """

    name: str
    container: Any
    stream: Any
    declared: float | None
    exact: bool
    known: bool
    begin: float = 0.0
    holes: list[Hole] | None = None
    file: Any = None

    @property
    def kind(self) -> str:
        return str(self.container.format.name)

    def packets(self) -> Iterator[Any]:
        """The stream's packets and the empty one that flushes the decoder."""
        with suppress(IndexError):  # PyAV's, where a stream first appears midway (MPEG-TS)
            yield from self.container.demux(self.stream) if self.holes is None else self._all_packets()

    def _all_packets(self) -> Iterator[Any]:
        """The packets behind a fault, too, at which FFmpeg stops reading: it is sought past, further at each try."""
        at, step = -math.inf, 0.5
        while True:
            with suppress(av.FFmpegError):
                for packet in self.container.demux(self.stream):
                    now = at if packet.pts is None else float(packet.pts * packet.time_base)
                    if now > at or step == 0.5:
                        yield packet
                    at = max(at, now)
            step *= 2
            if self.kind not in _CLOCKED or not -math.inf < at + step < self.ends - self.begin:
                return
            try:
                self.container.seek(int((at + step) / self.stream.time_base), stream=self.stream)
            except av.FFmpegError:
                return

    @property
    def alone(self) -> bool:
        """Whether all of the file's bytes are its own: what isn't read is damaged."""
        return self.kind in ("matroska,webm", "flv") and len(self.container.streams) == 1

    @property
    def ends(self) -> float:
        """Where it ends by its header, in seconds, if that is no mere estimate from the bit rate; else 0."""
        if self.declared is None and self.kind in _STATED and self.stream.duration:
            return self.begin + float(self.stream.duration * self.stream.time_base)
        return self.declared or 0.0

    def position(self, frame: Any) -> float | None:
        """Seconds from the recording's start to the frame's, or None without a time stamp."""
        if frame.pts is None:
            return None
        return self.begin + float((frame.pts - (self.stream.start_time or 0)) * frame.time_base)


@contextmanager
def _open(media: _Input, *, named: bool = True, holes: list[Hole] | None = None) -> Iterator[_Track]:
    """Open the best audio stream; every failure of FFmpeg inside the block becomes an AudioError.

    ``named``: the file's name may tell its format; ``holes``: see `_Track`.
    """
    with media.open() as file:
        try:
            head = file.read(12)
            if not head:
                raise EmptyAudioError(f"{media.name}: 0 bytes; fetch or record it again")
            known = head.startswith(_MAGIC) or head[4:8] == b"ftyp"
            format = None if known or not named else _RAW.get(Path(media.name).suffix.lower())
            if format == "gsm" and head[0] >> 4 != 0xD:  # FFmpeg would decode anything
                raise NotAudioError(f"{media.name}: no GSM 06.10 frames; name another file")
            wav = _wav_header(file, media.name)
            opened: Any = file if named else SimpleNamespace(read=file.read, seek=file.seek, tell=file.tell)
            with _container(opened, media.name, format, wav, known) as container:
                stream = container.streams.best("audio")
                if stream is None or stream.codec_context is None or not stream.rate:
                    raise NotAudioError(f"{media.name}: no audio track that can be decoded; name another file")
                if stream.codec_context.name == "flac":  # whose decoder takes damaged frames otherwise
                    stream.codec_context.options = {"err_detect": "crccheck+explode"}
                if stream.channels > 64:
                    raise NotAudioError(f"{media.name}: {stream.channels} channels; FFmpeg mixes at most 64")
                if not _RATES[0] <= stream.rate <= _RATES[1]:
                    raise AudioError(
                        f"{media.name}: its header says {stream.rate} Hz, between {_RATES[0]} and {_RATES[1]} are "
                        "read; correct the header, or record it again"
                    )
                promised = None if wav is None else wav.promised
                declared, begin = promised or _declared(file, container, stream), _begin(container, stream)
                plain = container.format.name == "flac" if wav is None else wav.plain and promised is None
                ends = None if declared is None else begin + declared
                exact = plain and ends is not None
                yield _Track(media.name, container, stream, ends, exact, known, begin, holes, file)
        except av.FFmpegError as error:
            raise _broken(media.name, error) from error
        except OSError as error:
            raise _unreadable(media.name, error) from error


@contextmanager
def _container(file: BinaryIO, name: str, format: str | None, wav: "_WavHeader | None", known: bool) -> Iterator[Any]:
    options = {"protocol_whitelist": "none"}  # a playlist must not make us open other files
    if wav is not None and wav.plain:
        options["probesize"] = "32"  # else FFmpeg spends 3 ms to see whether the PCM is DTS in disguise
    for probed in ({}, _FAR):
        file.seek(0)
        try:
            container = av.open(file, "r", format=format, container_options=options | probed, metadata_errors="replace")
        except av.FFmpegError as error:
            if known:
                raise TruncatedAudioError(f"{name}: ends or breaks inside its header; fetch it again") from error
            raise NotAudioError(f"{name}: FFmpeg finds no audio in it; name another file") from error
        with container:
            stream = container.streams.best("audio")
            if probed or container.format.name not in _UNLISTED or (stream is not None and stream.rate):
                yield container
                return


@dataclass(frozen=True)
class _WavHeader:
    """``plain``: PCM, no probing needed. ``promised``: the header's seconds if data is missing, else None."""

    plain: bool
    promised: float | None


def _wav_header(file: BinaryIO, name: str) -> _WavHeader | None:
    """What a WAV header states, which FFmpeg hides (it goes by the file's size); None: no WAV."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(12)
    if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
        return None
    tag = byte_rate = 0
    while len(chunk := file.read(8)) == 8:
        ident, length = struct.unpack("<4sI", chunk)
        start = file.tell()
        if ident == b"fmt " and len(fields := file.read(12)) == 12:
            tag, channels, _, byte_rate = struct.unpack("<HHII", fields)
            if channels == 0:
                raise NoChannelsError(f"{name}: its WAV header says zero channels; convert or record it again")
        if ident == b"data":
            # a writer that couldn't go back leaves a placeholder of nearly 2 GiB or more
            cut = byte_rate > 0 and length < 0x7FFF0000 and start + length > size
            return _WavHeader(tag in (1, 3, 0xFFFE), length / byte_rate if cut else None)
        file.seek(start + length + length % 2)
    return _WavHeader(False, None)


def _declared(file: BinaryIO, container: Any, stream: Any) -> float | None:
    """The stream's length in seconds, if this kind of header states it exactly."""
    kind = container.format.name
    seconds = float(stream.duration * stream.time_base) if stream.duration else None
    if kind == "mp3":
        counted = _xing_seconds(file, stream.rate)
        # less than the count by the encoder's delay; where it differs more, FFmpeg went by the bit rate
        near = seconds is not None and counted is not None and abs(counted - seconds) < 0.25
        return seconds if near else None
    if kind == "matroska,webm":
        end = _clock(stream.metadata.get("DURATION", ""))
        if end is None and len(container.streams) == 1 and container.duration:
            end = container.duration / 1e6
        return None if end is None else end - float((stream.start_time or 0) * stream.time_base)
    return seconds if kind in _GAPLESS | _TIMED else None


def _begin(container: Any, stream: Any) -> float:
    """Seconds of the container's clock before the track, of a clock that says so."""
    kind = container.format.name
    if kind not in _CLOCKED or stream.start_time is None:
        return 0.0
    first = (container.start_time or 0) / 1e6  # of any track
    zero = 0.0 if kind in _TIMED and 0 < first <= _LONGEST_GAP else first
    begin = float(stream.start_time * stream.time_base) - zero
    return begin if TOLERANCE < begin <= _LONGEST_GAP else 0.0


def _clock(text: str) -> float | None:
    """Seconds of Matroska's ``hh:mm:ss.nnnnnnnnn``."""
    try:
        hours, minutes, seconds = text.split(":")
        found = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except (ValueError, OverflowError):
        return None
    return found if 0 < found < math.inf else None


def _xing_seconds(file: BinaryIO, rate: int) -> float | None:
    """Length by the frame count that most MP3 encoders leave in the first frame; None: no count."""
    here = file.tell()
    file.seek(0)
    head = file.read(10)
    tagged = head.startswith(b"ID3") and len(head) == 10  # then four bytes of seven bits give its length
    file.seek(10 + sum(byte << 7 * i for i, byte in enumerate(head[:5:-1])) if tagged else 0)
    frame = file.read(2048)
    file.seek(here)  # FFmpeg reads on from there
    at = max(frame.find(b"Xing"), frame.find(b"Info"))
    if at < 0 or len(frame) < at + 12 or not frame[at + 7] & 1:
        return None
    (count,) = struct.unpack_from(">I", frame, at + 8)
    return float(count * (1152 if rate >= 32_000 else 576) / rate)


# --- files: decoding ------------------------------------------------------------------------------------


def _from_file(media: _Input, stretch: _Stretch, holes: list[Hole] | None = None) -> Iterator[Samples]:
    """The stretch, about a second at a time, decoded from its second on."""
    for seek in (True, False) if stretch.second > _PREROLL else (False,):
        with _open(media, holes=holes) as track:
            declared = round((track.declared or 0.0) * SAMPLE_RATE)
            if declared > stretch.limit:
                raise stretch.too_long(media.name)
            frames = _from_second(track, stretch.second, seek)
            if frames is not None:
                start = stretch.second * SAMPLE_RATE
                blocks = _trimmed(_mono(frames), declared - start) if declared else _mono(frames)
                yield from stretch.cut(blocks, start, media.name, holes)
                return
        if holes:
            holes.clear()


def _trimmed(blocks: Iterable[Samples], declared: int) -> Iterator[Samples]:
    """The same without up to `TOLERANCE` behind sample ``declared``: an encoder fills up its last frame."""
    end, held = 0, list[Samples]()
    for block in blocks:
        end += len(block)
        held.append(block)
        if not declared < end <= declared + TOLERANCE * SAMPLE_RATE:
            yield from held
            held.clear()
    if held:
        last = _join(held)
        yield last[: max(0, len(last) - end + declared)]


def _from_second(track: _Track, second: int, seek: bool) -> Iterator[Any] | None:
    """Frames from exactly ``second`` on; None if a seek doesn't lead there."""
    if not seek:
        frames = _frames(track)
        return _skip(frames, second, 0.0) if second else frames
    if track.kind not in _SEEKABLE:
        return None
    stream, frames = track.stream, _frames(track, None)
    try:
        ticks = int((second - _PREROLL - track.begin) / stream.time_base) + (stream.start_time or 0)
        track.container.seek(ticks, stream=stream)
        first = next(frames, None)
    except (av.FFmpegError, AudioError):
        return None
    position = None if first is None else track.position(first)
    if position is None or position > second:
        return None
    return _skip(chain((first,), frames), second, position)


def _skip(frames: Iterator[Any], second: int, position: float) -> Iterator[Any]:
    ahead: int | None = None  # samples still to drop
    for frame in _convert(frames):
        if ahead is None:
            ahead = round((second - position) * frame.sample_rate)
        if ahead <= 0:
            yield frame
        elif ahead < frame.samples:
            values = frame.to_ndarray()[:, ahead * frame.layout.nb_channels :]
            yield _frame(values, frame.layout, frame.sample_rate)
        ahead -= frame.samples


def _frames(track: _Track, start: float | None = 0.0) -> Iterator[Any]:
    """Decoded frames from ``start`` to the stream's end, on the recording's clock; ``start`` None: wherever they begin.

    Silence fills what lies between time stamps, from `TOLERANCE` on. Frames that come before their time (`_OVERLAP`)
    are dropped; where the clock begins anew, what was decoded goes on.

    Damage raises TruncatedAudioError, at the first frame behind it: a stretch never gets further than its end. So do
    missing samples at the stream's end. Where ``track.holes`` takes damage, it is silent, for as long as its bytes
    take elsewhere if the container has no clock. A packet that breaks before the first frame is skipped (a decoder may
    need a start), as is in MP3 a tag behind the last frame, or a seam of at most 0.1 s between joined files.
    """
    clocked, mp3 = track.kind in _CLOCKED, track.kind == "mp3"
    clocked = clocked or (track.kind == "flac" and track.holes is not None)  # its frames are numbered
    pieces, ahead = _pieces(track), list[_Piece]()
    end, shift, seam, last, late = start, 0.0, 0.0, None, False
    while True:
        piece = ahead.pop() if ahead else next(pieces)
        frame, broken = piece.frame, piece.problem is not None and last is not None
        if broken and track.holes is None:
            seam += piece.lost
            if not mp3 or (frame is not None and seam > TOLERANCE):
                raise _broken(track.name, piece.problem)
        torn = last is not None and piece.unread > _OVERHEAD and track.alone
        position = None if frame is None else track.position(frame)
        if end is None:
            end = position or 0.0
        gap = 0.0 if piece.problem is not None and (not broken or track.holes is None) else piece.lost
        if clocked and position is not None:
            if not -_OVERLAP[1] <= position + shift - end <= _LONGEST_GAP:  # another clock, or the first one again
                shift = 0.0 if -TOLERANCE <= position - end <= _LONGEST_GAP else end - position
            gap = position + shift - end
            if gap > TOLERANCE and last is not None:
                ahead.append(next(pieces))
                following = None if ahead[0].frame is None else track.position(ahead[0].frame)
                if following is not None and following < position:  # this time stamp alone is wrong
                    gap = 0.0
            late = track.kind != "ogg" and (gap < -_OVERLAP[0] or (late and gap < -TOLERANCE / 4))
        if frame is None:
            break
        if gap > TOLERANCE or (gap > 0 and (piece.lost or broken or (torn and track.holes is not None))):
            if track.holes is None and (torn or (track.kind == "ogg" and _pages_lost(track.file))):
                raise _broken(track.name)
            if track.holes is not None and (broken or (last is not None and not piece.lost)):
                track.holes.append(Hole(end, end + gap))
            for silence in _silence(frame, gap):
                end += silence.samples / silence.sample_rate
                yield silence
        if not late:
            yield frame
            end += frame.samples / frame.sample_rate
        last = frame
    if last is not None and gap > 0 and not broken:
        yield from _silence(last, gap)
        end += gap
    end, ends = end or 0.0, track.ends
    if end < ends - (TOLERANCE if track.declared else _INEXACT):
        if track.holes is None or last is None:
            raise TruncatedAudioError(
                f"{track.name}: ends after {end:.2f} s, its header says {ends:.2f} s; fetch it again"
            )
        track.holes.append(Hole(end, ends))
    elif broken and track.holes is not None and not mp3:
        track.holes.append(Hole(end, end + piece.lost))
    if piece.problem is not None and last is None and not track.known:
        raise NotAudioError(f"{track.name}: nothing in it can be decoded; name another file") from piece.problem
    if piece.problem is not None and not mp3 and (track.holes is None or last is None):
        raise _broken(track.name, piece.problem)


class _Piece(NamedTuple):
    """A decoded frame, None at the end, and what came before it: seconds lost, and the last error.

    ``unread``: bytes of the file between its packet and the one before.
    """

    frame: Any
    lost: float
    problem: av.FFmpegError | None
    unread: int


def _pieces(track: _Track) -> Iterator[_Piece]:
    lost, problem = 0.0, None
    seconds = size = 0  # decoded so far
    tag = False
    unread, read = 0, None
    for packet in track.packets():
        if packet.pos is not None:
            unread += max(0, packet.pos - (packet.pos if read is None else read))
            read = packet.pos + packet.size
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            data = bytes(packet)
            if data and data[0] in _QUIET.get(track.stream.codec_context.name, ()):
                lost += 0.02  # seconds, of each frame of AMR
                continue
            problem, tag = error, tag or b"ID3" in data  # which takes no time, however long
            if track.holes is None or not size:
                lost += float((packet.duration or 0) * packet.time_base)
            elif not tag:
                lost += packet.size * seconds / size
            continue
        for frame in frames:
            yield _Piece(frame, lost, problem, unread)
            seconds += frame.samples / frame.sample_rate
            lost, problem, tag, unread = 0.0, None, False, 0
        size += packet.size
    yield _Piece(None, lost, problem, 0)


def _silence(like: Any, seconds: float) -> Iterator[Any]:
    """Silent frames of the same kind, of a second at most."""
    count, rate, layout = round(seconds * like.sample_rate), like.sample_rate, like.layout
    name, channels = like.format.name, layout.nb_channels
    if name not in av.audio.frame.format_dtypes or channels > 8:
        name = "flt"
    shape = (channels, 1) if name.endswith("p") else (1, channels)
    for size in [rate] * (count // rate) + [count % rate] * (count % rate > 0):
        values = np.full((shape[0], size * shape[1]), 128 * name.startswith("u8"), av.audio.frame.format_dtypes[name])
        yield _frame(values, layout, rate, name)


def _pages_lost(file: Any) -> bool:
    """Whether an Ogg file misses a page, by its numbers, or has a damaged one, by its checksum (RFC 3533)."""
    here, numbers = file.tell(), dict[int, int]()
    file.seek(0)
    try:
        while len(head := file.read(27)) == 27 and head.startswith(b"OggS"):
            serial, number, checksum = struct.unpack_from("<III", head, 14)
            sizes = file.read(head[26])
            page = head[:22] + bytes(4) + head[26:] + sizes + file.read(sum(sizes))
            if _ogg_checksum(page) != checksum or number != numbers.get(serial, number - 1) + 1:
                return True
            numbers[serial] = number
        return any(b"OggS" in block for block in iter(partial(file.read, 1 << 20), b""))
    finally:
        file.seek(here)


def _ogg_checksum(page: bytes) -> int:
    """The CRC-32 of Ogg: zlib's, with the bits of all bytes and of the result in reverse, and nothing inverted."""
    found = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{found:032b}"[::-1], 2)


def _broken(name: str, error: Any = None) -> TruncatedAudioError:
    why = "bytes are missing or damaged" if error is None else error.strerror
    return TruncatedAudioError(f"{name}: the data breaks ({why}); fetch it again")


# --- samples --------------------------------------------------------------------------------------------


def _mono(frames: Iterable[Any]) -> Iterator[Samples]:
    """Frames of any kind as mono blocks of about a second at 16 kHz; the resampler's tail included."""
    for block in _convert(frames, rate=SAMPLE_RATE, frame_size=SAMPLE_RATE):  # one block, not 50 frames
        yield _average(block.to_ndarray().reshape(block.samples, -1).T)


def _convert(frames: Iterable[Any], **target: int) -> Iterator[Any]:
    """Frames as interleaved float32, resampled if ``target`` gives a rate; a midway change of format is allowed.

    Interleaved, because PyAV crashes on planar frames of more than 8 channels.
    """

    def kind(frame: Any) -> tuple[str, str, int]:
        return frame.format.name, frame.layout.name, frame.sample_rate

    for _, alike in groupby(frames, key=kind):
        resampler = av.AudioResampler("flt", **target)
        for frame in chain(alike, (None,)):  # None flushes
            yield from (converted for converted in resampler.resample(frame) if converted is not None)


def _average(channels: np.ndarray) -> Samples:
    """The mean of the channels of about a second, (channels, S) -> (S,); one of them where they cancel out.

    Channels in opposite phase (a microphone wired the wrong way round) would leave nothing of the speech.
    """
    contiguous = np.ascontiguousarray(channels)  # 10 times as fast as striding over interleaved samples
    with np.errstate(over="ignore", invalid="ignore"):  # _Stretch.cut reports what isn't finite
        mean: Samples = contiguous.mean(axis=0, dtype=np.float32)
        if len(contiguous) > 1:
            powers = np.array([np.square(channel, dtype=np.float64).sum() for channel in contiguous])
            if np.square(mean, dtype=np.float64).sum() < _CANCELLED * powers.sum() / len(powers) ** 2:
                loud = int(np.argmax(powers >= powers.max() / 2))  # the first of about equals: the same in every second
                mean = contiguous[loud].astype(np.float32)
    return mean


def _frame(values: np.ndarray, layout: Any, rate: int, format: str = "flt") -> Any:
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(values), format, layout)
    frame.sample_rate = rate
    return frame


def _join(blocks: list[Samples]) -> Samples:
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
