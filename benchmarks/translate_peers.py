"""Whisper's other runtimes, run as they are on the same recordings and the same weights: faster-whisper, openai-whisper, whisper.cpp.

They live in an environment of their own (`make translate-peers`). Imported, this module offers `run_peer`, which starts itself as a
script in that environment, a process for each setting. What a peer is given, to its advantage:

* The recordings' samples, read from 16 kHz WAV with the standard library and counted: no FFmpeg process a file (openai-whisper), no
  ``gc.collect()`` a file (faster-whisper's ``decode_audio``).
* The language, all cores, and greedy search without a second try at a higher temperature, unless the setting says otherwise.
* ``workers``: so many recordings at once, each with its share of the threads.
* faster-whisper ``join``: recordings of one language joined to one array, with ``clip_timestamps``, so that its batches hold many
  recordings; by itself it fills a batch from one recording only. Each is still padded to 30 s.
* openai-whisper ``batch``: so many recordings in one call of ``whisper.decode``; ``transcribe`` takes one.
* whisper.cpp ``after``: ``audio_ctx`` is the recording and so many seconds; without, it is 30 s.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ".venv-translate-peers/bin/python"
RATE = 16_000  # samples a second
FRAMES = 50  # encoder frames a second
WINDOW = 1500  # encoder frames of 30 s
WARM_UP = 3 * RATE  # samples of the first recording that are processed before the clock starts

Task = Literal["translate", "transcribe"]
Kind = Literal["long", "short"]


@dataclass(frozen=True)
class Setting:
    """How a peer is run.

    Attributes:
        peer: a key of `PEERS`.
        weights: ``ctranslate2``, ``openai`` or one of `translate_formats.Format`.
        load: arguments of the model; the number of threads is added.
        options: arguments of a call; language and task are added.
        workers: recordings processed at once.
        join, batch, after: see the head of this module.
    """

    peer: str
    weights: str
    load: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    workers: int = 1
    join: bool = False
    batch: int = 0
    after: float | None = None


@dataclass(frozen=True)
class Recording:
    """What a peer reads; ``path`` is a mono WAV at 16 kHz with 16 bits."""

    id: str
    path: str
    language: str


@dataclass(frozen=True)
class PeerResult:
    """What a peer made of the recordings; ``error`` says why there is nothing else.

    Attributes:
        outputs: id -> ``{"text", "segments": [{"start", "end", "text"}]}``, seconds from the recording's start.
        seconds: of processing, reading included.
        cpu_seconds: the same of all threads together; waiting threads may spin, so that one thread's say most.
        load_seconds: of importing and loading; not in ``seconds``.
        warm_seconds: of the first few seconds of audio, once more; not in ``seconds``.
        peak_mb: most resident memory, MB.
        versions: of the peer's packages.
        system: what the peer says of the processor, where it does.
    """

    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: float | None = None
    cpu_seconds: float | None = None
    load_seconds: float | None = None
    warm_seconds: float | None = None
    peak_mb: float | None = None
    versions: dict[str, str] = field(default_factory=dict)
    system: str = ""
    error: str | None = None


ONCE: dict[str, Any] = {"temperature": 0.0}  # faster-whisper, openai-whisper: no second try
GREEDY = ONCE | {"beam_size": 1}
BEAM = ONCE | {"beam_size": 5}
CPP_GREEDY: dict[str, Any] = {"greedy": {"best_of": 1}, "temperature_inc": 0.0}
CPP_RETRY = CPP_GREEDY | {"temperature_inc": 0.2}  # whisper.cpp's own step: a text that loops is tried again
CPP_SHORT = {"single_segment": True, "no_timestamps": True}


def _faster(options: dict[str, Any], compute: str = "int8", **more: Any) -> Setting:
    return Setting("faster-whisper", "ctranslate2", {"compute_type": compute}, options, **more)


def _openai(options: dict[str, Any], **more: Any) -> Setting:
    return Setting("openai-whisper", "openai", {}, options, **more)


def _cpp(options: dict[str, Any], weights: str = "f16", **more: Any) -> Setting:
    return Setting("whisper.cpp", weights, {}, options, **more)


_VAD = {"vad_filter": True}
_PLAIN = {"condition_on_previous_text": False}
_BRIEF = _PLAIN | {"without_timestamps": True}

SETTINGS: dict[Kind, dict[str, Setting]] = {
    "long": {
        "faster-whisper, batches of 8, greedy": _faster(GREEDY | _VAD | {"batch_size": 8}),
        "faster-whisper, batches of 16, greedy": _faster(GREEDY | _VAD | {"batch_size": 16}),
        "faster-whisper, batches of 8, beam 5": _faster(BEAM | _VAD | {"batch_size": 8}),
        "faster-whisper, batches of 8, greedy, float32": _faster(GREEDY | _VAD | {"batch_size": 8}, "float32"),
        "faster-whisper, greedy": _faster(GREEDY | _VAD | _PLAIN),
        "faster-whisper, beam 5": _faster(BEAM | _VAD | _PLAIN),
        "openai-whisper, greedy": _openai(ONCE | _PLAIN),
        "whisper.cpp, greedy": _cpp(CPP_GREEDY),
        "whisper.cpp, greedy, q8_0": _cpp(CPP_GREEDY, "q8_0"),
    },
    "short": {
        "faster-whisper, greedy": _faster(GREEDY | _BRIEF),
        "faster-whisper, greedy, 2 workers": _faster(GREEDY | _BRIEF, workers=2),
        "faster-whisper, joined, batches of 8, greedy": _faster(GREEDY | {"batch_size": 8}, join=True),
        "faster-whisper, joined, batches of 16, greedy": _faster(GREEDY | {"batch_size": 16}, join=True),
        "faster-whisper, joined, batches of 8, beam 5": _faster(BEAM | {"batch_size": 8}, join=True),
        "openai-whisper, greedy": _openai(ONCE | _BRIEF),
        "openai-whisper, batches of 8, greedy": _openai(ONCE | {"without_timestamps": True}, batch=8),
        "whisper.cpp, greedy": _cpp(CPP_GREEDY | CPP_SHORT),
        **{
            f"whisper.cpp, -ac speech+{after}, {search}{name}": _cpp(options | CPP_SHORT, weights, after=after, **more)
            for after in (1, 3, 8)
            for search, options in (("greedy", CPP_GREEDY), ("retries", CPP_RETRY))
            for name, weights, more in (
                ("", "f16", {}),
                (", q8_0", "q8_0", {}),
                (", q5_1", "q5_1", {}),
                (", 2 workers", "f16", {"workers": 2}),
            )
        },
    },
}
"""What a peer may be run as: name -> setting, for long and for short recordings."""


def run_peer(
    setting: Setting,
    recordings: Iterable[Recording],
    *,
    task: Task = "translate",
    threads: int | None = None,
    python: str | Path = PYTHON,
    timeout: float = 3600,
) -> PeerResult:
    """Process the recordings in a process of their own; ``threads`` None: all cores."""
    if not (ROOT / python).exists():
        return PeerResult(error=f"no {python}; run `make translate-peers`")
    job = {
        "setting": asdict(setting),
        "weights": str(_weights(setting.weights)),
        "recordings": [asdict(r) for r in recordings],
        "task": task,
        "threads": threads or os.cpu_count() or 1,
    }
    share = str(max(1, job["threads"] // setting.workers))
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), share)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "job.json", Path(folder) / "result.json"
        source.write_text(json.dumps(job), encoding="utf-8")
        command = [str(ROOT / python), __file__, str(source), str(target)]
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)
        except subprocess.TimeoutExpired:
            return PeerResult(error=f"no result after {timeout:g} s")
        if done.returncode < 0:
            return PeerResult(error=signal.Signals(-done.returncode).name)
        if done.returncode > 0:
            return PeerResult(error=(done.stderr.strip() or "no message").splitlines()[-1])
        return PeerResult(**json.loads(target.read_text(encoding="utf-8")))


def _weights(format: str) -> Path:
    from interlingua.models import fetch_packaged
    from translate_formats import ggml_file, openai_checkpoint

    if format == "ctranslate2":
        return fetch_packaged()
    return openai_checkpoint() if format == "openai" else ggml_file(format)  # type: ignore[arg-type]


# --- inside the peers' environment -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """What a peer loads; the recordings come later."""

    setting: Setting
    weights: str
    task: Task
    threads: int  # of one worker


Segments = list[dict[str, Any]]
Process = Callable[[Sequence[Recording]], Iterator[tuple[str, Segments]]]
"""Recordings -> each one's id and segments, in any order."""


def main(source: str, target: str) -> None:
    """Run the job that lies in ``source`` and write what it gave to ``target``."""
    job = json.loads(Path(source).read_text(encoding="utf-8"))
    recordings = [Recording(**r) for r in job["recordings"]]
    setting = Setting(**job["setting"])
    load, packages = PEERS[setting.peer]
    start = time.perf_counter()
    threads = max(1, job["threads"] // setting.workers)
    process, system = load(Job(setting, job["weights"], job["task"], threads))
    loaded = time.perf_counter()
    warm_up(process, recordings[0])
    warm, busy = time.perf_counter(), time.process_time()
    outputs = dict(process(recordings))
    end, done = time.perf_counter(), time.process_time()
    result = PeerResult(
        outputs={
            id: {"text": " ".join(s["text"].strip() for s in segments), "segments": segments}
            for id, segments in outputs.items()
        },
        seconds=end - warm,
        cpu_seconds=done - busy,
        load_seconds=loaded - start,
        warm_seconds=warm - loaded,
        peak_mb=peak_mb(),
        versions=versions(packages),
        system=system,
    )
    Path(target).write_text(json.dumps(asdict(result)), encoding="utf-8")


def warm_up(process: Process, recording: Recording) -> None:
    """Process the beginning of a recording."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "start.wav"
        with wave.open(recording.path) as whole, wave.open(str(path), "wb") as part:
            part.setparams(whole.getparams())
            part.writeframes(whole.readframes(WARM_UP))
        list(process([Recording("warm-up", str(path), recording.language)]))


def samples(recording: Recording) -> np.ndarray:
    """Float32 samples, read in Python alone."""
    with wave.open(recording.path) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768


def segment(start: float, end: float, text: str) -> dict[str, Any]:
    return {"start": start, "end": end, "text": text}


def by_language(recordings: Sequence[Recording]) -> dict[str, list[Recording]]:
    """A call takes one language."""
    found: dict[str, list[Recording]] = {}
    for r in recordings:
        found.setdefault(r.language, []).append(r)
    return found


def faster_whisper(job: Job) -> tuple[Process, str]:
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    setting = job.setting
    model = WhisperModel(
        job.weights, device="cpu", cpu_threads=job.threads, num_workers=setting.workers, **setting.load
    )
    engine = BatchedInferencePipeline(model) if "batch_size" in setting.options else model

    def call(audio: np.ndarray, language: str, **more: Any) -> Segments:
        found, _ = engine.transcribe(audio, language=language, task=job.task, **setting.options, **more)
        return [segment(s.start, s.end, s.text) for s in found]

    def one(r: Recording) -> tuple[str, Segments]:
        return r.id, call(samples(r), r.language)

    def joined(recordings: Sequence[Recording]) -> Iterator[tuple[str, Segments]]:
        for language, members in by_language(recordings).items():
            audio = [samples(r) for r in members]
            starts = np.cumsum([0, *map(len, audio)]) / RATE
            clips = [{"start": a, "end": b} for a, b in pairwise(starts)]
            found: dict[str, Segments] = {r.id: [] for r in members}
            for s in call(np.concatenate(audio), language, clip_timestamps=clips):
                n = int(np.searchsorted(starts, s["start"] + 0.01, side="right")) - 1  # starts are rounded
                found[members[n].id].append(segment(s["start"] - starts[n], s["end"] - starts[n], s["text"]))
            yield from found.items()

    return (joined if setting.join else at_once(one, setting.workers)), ""


def openai_whisper(job: Job) -> tuple[Process, str]:
    import torch
    import whisper

    torch.set_num_threads(job.threads)
    setting = job.setting
    model = whisper.load_model(job.weights, device="cpu")

    def one(r: Recording) -> tuple[str, Segments]:
        found = model.transcribe(samples(r), language=r.language, task=job.task, fp16=False, **setting.options)
        return r.id, [segment(s["start"], s["end"], s["text"]) for s in found["segments"]]

    def batches(recordings: Sequence[Recording]) -> Iterator[tuple[str, Segments]]:
        for language, members in by_language(recordings).items():
            options = whisper.DecodingOptions(task=job.task, language=language, fp16=False, **setting.options)
            for start in range(0, len(members), setting.batch):
                batch = members[start : start + setting.batch]
                audio = [samples(r) for r in batch]
                mels = [whisper.log_mel_spectrogram(whisper.pad_or_trim(a)) for a in audio]
                results = whisper.decode(model, torch.stack(mels), options)
                for r, a, result in zip(batch, audio, results, strict=True):
                    yield r.id, [segment(0.0, len(a) / RATE, result.text)]

    return (batches if setting.batch else at_once(one, setting.workers)), ""


def whisper_cpp(job: Job) -> tuple[Process, str]:
    from pywhispercpp.model import Model

    setting = job.setting
    quiet = {"print_progress": False, "print_realtime": False, "redirect_whispercpp_logs_to": None}
    load = quiet | setting.load | {"n_threads": job.threads, "translate": job.task == "translate"}
    models = [Model(job.weights, **load) for _ in range(setting.workers)]
    free = list(models)

    def one(r: Recording) -> tuple[str, Segments]:
        audio, more = samples(r), {}
        if setting.after is not None:
            more["audio_ctx"] = min(WINDOW, round((len(audio) / RATE + setting.after) * FRAMES))
        model = free.pop()
        try:
            found = model.transcribe(audio, language=r.language, **setting.options, **more)
        finally:
            free.append(model)
        return r.id, [segment(s.t0 / 100, s.t1 / 100, s.text) for s in found]  # hundredths of a second

    return at_once(one, setting.workers), str(Model.system_info()).strip()


def at_once(one: Callable[[Recording], tuple[str, Segments]], workers: int) -> Process:
    """``workers`` recordings at a time."""

    def process(recordings: Sequence[Recording]) -> Iterator[tuple[str, Segments]]:
        if workers == 1:
            yield from map(one, recordings)
            return
        with ThreadPoolExecutor(workers) as pool:
            yield from pool.map(one, recordings)

    return process


def peak_mb() -> float:
    """Of this process since it began (Linux); ``getrusage`` would count its parent's as well."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Installed versions."""
    from importlib.metadata import version

    return {name: version(name) for name in packages}


PEERS: dict[str, tuple[Callable[[Job], tuple[Process, str]], tuple[str, ...]]] = {
    "faster-whisper": (faster_whisper, ("faster-whisper", "ctranslate2")),
    "openai-whisper": (openai_whisper, ("openai-whisper", "torch")),
    "whisper.cpp": (whisper_cpp, ("pywhispercpp",)),
}

if __name__ == "__main__":
    main(*sys.argv[1:3])
