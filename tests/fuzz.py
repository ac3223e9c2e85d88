"""Damaged and hostile input of every kind: errors of ours or results, never a traceback, a hang, a crash or 2 GB.

``python tests/fuzz.py N [SEED]`` (`make fuzz`) tries N inputs; tests/test_fuzz.py few of each kind. What is found lies
in the folder that is named: make it a small test where its kind is tested.
"""

import io
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

sys.path[:0] = [str(Path(__file__).parent / name) for name in ("", "audio", "corpora")]

import torch
from test_audio import encode as encode_audio
from test_readers import TREES

from helpers import RECIPES, save_tiny_whisper, utterance
from interlingua.audio import audio_hash, duration_of, load_audio
from interlingua.corpora import read_manifest
from interlingua.corpora.base import read_corpus
from interlingua.errors import InterlinguaError
from interlingua.experiments.outputs import read_systems
from interlingua.experiments.recipes import read_recipe
from interlingua.models import load_whisper
from interlingua.report import write_report
from interlingua.results import Results, UtteranceResult, load_results, load_utterances, save_results
from interlingua.types import AudioRef

SECONDS = 60  # of an input at most
BYTES = 2 << 30  # resident, beyond what is loaded
BATCH = 25  # inputs a process
CODECS = {  # file -> codec, rate
    "a.wav": ("pcm_s16le", 16000),
    "a.flac": ("flac", 16000),
    "a.mp3": ("libmp3lame", 16000),
    "a.ogg": ("libvorbis", 16000),
    "a.opus": ("libopus", 48000),
    "a.m4a": ("aac", 16000),
    "a.mkv": ("flac", 16000),
    "a.webm": ("libopus", 48000),
    "a.aiff": ("pcm_s16be", 16000),
    "a.au": ("pcm_s16be", 16000),
    "a.caf": ("pcm_s16le", 16000),
    "a.wma": ("wmav2", 16000),
    "a.ts": ("mp2", 16000),
    "a.avi": ("mp2", 16000),
    "a.g722": ("g722", 16000),
}
TARS: dict[Literal["w", "w:gz", "w:xz", "w:bz2"], str] = {
    "w": "a.tar",
    "w:gz": "a.tar.gz",
    "w:xz": "a.tar.xz",
    "w:bz2": "a.tar.bz2",
}
HOSTILE = [
    *("NaN", "-1", "1e999", "null", "true", "[]", "{}", '""', "99999999999999999999", "-0.0", '"\\ud800"'),
    *("[" * 6, "[" * 100_000, "2026-01-01", "&a *a", "!!x", "../../x", "/dev/zero"),
]


@dataclass(frozen=True)
class Kind:
    """Files that belong together, one of which is damaged, and what reads them from a folder."""

    name: str
    files: dict[str, bytes]
    read: Callable[[Path], object]


def reader(read: Callable[[Path], object], name: str) -> Callable[[Path], object]:
    return lambda folder: read(folder / name)


def audio(path: Path) -> None:
    for what in (lambda: load_audio(path, holes=[]), lambda: duration_of(path), lambda: audio_hash(path)):
        try:
            what()
        except InterlinguaError:
            continue
    load_audio(AudioRef(str(path), 0.2, 0.3))


def archive(path: Path) -> None:
    for name in ("in/a.wav", "b.flac"):
        try:
            load_audio(AudioRef(str(path), member=name))
        except InterlinguaError:
            continue


def results(folder: Path) -> None:
    load_results(folder)
    load_utterances(folder)
    write_report(folder)


def outputs(folder: Path) -> None:
    manifest = folder / "m.jsonl"
    everything = {u.id: u for u in read_manifest(manifest)}
    read_systems([str(folder / "out.jsonl")], everything, manifest=manifest)


def kinds() -> list[Kind]:
    made = Path(tempfile.mkdtemp())
    found = []
    for name, (codec, rate) in CODECS.items():
        try:
            encode_audio(str(made / name), codec, rate)
        except ValueError:  # FFmpeg's builds differ
            continue
        found.append(Kind(name, {name: (made / name).read_bytes()}, reader(audio, name)))
    wav, flac = ((made / name).read_bytes()[:20000] for name in ("a.wav", "a.flac"))
    for mode, name in TARS.items():
        with tarfile.open(made / name, mode) as tar:
            for inside, data in (("in/a.wav", wav), ("b.flac", flac)):
                member = tarfile.TarInfo(inside)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        found.append(Kind(name, {name: (made / name).read_bytes()}, reader(archive, name)))
    with zipfile.ZipFile(made / "a.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("in/a.wav", wav)
        packed.writestr("b.flac", flac)
    found.append(Kind("a.zip", {"a.zip": (made / "a.zip").read_bytes()}, reader(archive, "a.zip")))
    for name, tree in TREES.items():
        files = {path or "table": data.encode() if isinstance(data, str) else data for path, data in tree.items()}

        def read(folder: Path, name: str = name, table: bool = "" in tree) -> None:
            list(read_corpus(name, folder / "table" if table else folder))

        found.append(Kind(f"corpus {name}", files, read))
    model = save_tiny_whisper(made / "tiny")
    whole = {p.name: p.read_bytes() for p in model.iterdir()}
    found.append(Kind("model", whole, lambda f: load_whisper(f, weights=False)))
    found.append(Kind("model's weights", whole, load_whisper))
    for path in sorted(RECIPES.glob("*.yaml")):
        found.append(Kind(f"recipe {path.stem}", {"r.yaml": path.read_bytes()}, reader(read_recipe, "r.yaml")))
    save_results(
        made / "results", Results(title="t"), {"a": torch.ones(3).numpy()}, [UtteranceResult(utterance=utterance())]
    )
    found.append(Kind("results", {p.name: p.read_bytes() for p in (made / "results").iterdir()}, results))
    manifest = {"id": "a", "audio": {"path": "a.wav"}, "language": "fr", "text": "b", "translations": {"en": "c d"}}
    lines = {"m.jsonl": manifest, "out.jsonl": {"id": "a", "target": "en", "text": "c e", "language": "fr"}}
    found.append(Kind("outputs", {n: json.dumps(row).encode() + b"\n" for n, row in lines.items()}, outputs))
    shutil.rmtree(made)
    return found


def damaged(data: bytes, chance: random.Random) -> bytes:
    """One to four changes: bytes, cuts, repeats, and in text numbers and words that are hostile."""
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        at = chance.randrange(min(len(data), chance.choice((64, 512, 1 << 30))) or 1)
        size = chance.choice((1, 2, 4, 60, 600))
        tokens = [m.span() for m in re.finditer(rb'"[^"\n]{0,60}"|-?\d+(\.\d+)?|\btrue\b|\bnull\b', data[: 1 << 16])]
        text = data[:200].isascii() and tokens
        match chance.randrange(8 if text else 5):
            case 0:
                data = data[:at] + chance.randbytes(size) + data[at + size :]
            case 1:
                data = data[:at]
            case 2:
                data = data[:at] + data[at + size :]
            case 3:
                data = data[:at] + data[at : at + size] * chance.choice((2, 50)) + data[at + size :]
            case 4:
                data = data[:at] + chance.choice((b"\x00", b"\xff", b"\x7f\xff\xff\xff")) * size + data[at + size :]
            case _:
                start, end = chance.choice(tokens)
                data = data[:start] + chance.choice(HOSTILE).encode() + data[end:]
    return data


def attempt(kind: Kind, seed: str, folder: Path) -> str | None:
    """What is wrong with one input, or None."""
    chance = random.Random(seed)
    name = chance.choice(sorted(kind.files))
    for path, data in kind.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(damaged(data, chance) if path == name else data)
    try:
        kind.read(folder)
    except InterlinguaError as e:
        return f"a message of several lines: {e!r}" if "\n" in str(e) else None
    except Exception as e:
        return f"{type(e).__name__}: {e}"
    return None


def batch(kind: Kind, seeds: list[str], folder: Path) -> Iterator[tuple[str, str]]:
    """(seed, what is wrong) of some inputs, each read in a process that they share; one that dies is named, too."""
    at = 0
    while at < len(seeds):
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(reader)
            null = os.open(os.devnull, os.O_RDWR)
            for number in (0, 1, 2):
                os.dup2(null, number)
            torch.set_num_threads(1)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            for seed in seeds[at:]:
                signal.alarm(SECONDS)
                place = folder / "input"
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir(parents=True)
                os.write(writer, b"B\n")
                said = attempt(kind, seed, place)
                if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > BYTES >> 10:
                    said = said or "more than 2 GB"
                    before = 1 << 60
                os.write(writer, b"E" + json.dumps(said).encode() + b"\n")
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as told:
            lines = told.read().splitlines()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        ended = [json.loads(line[1:]) for line in lines if line.startswith(b"E")]
        for seed, said in zip(seeds[at:], ended, strict=False):
            if said:
                yield seed, said
        at += len(ended)
        if at < len(seeds):
            hung = status == -signal.SIGALRM
            yield seeds[at], f"hangs over {SECONDS} s" if hung else f"ends the process ({status})"
            at += 1


def fuzz(n: int, seed: str, found: Path) -> list[str]:
    """Try n inputs, in turn of every kind; lines on what is wrong, with the inputs below ``found``."""
    lines = []
    every = kinds()
    rounds = -(-n // (BATCH * len(every)))
    for turn in range(rounds):
        for kind in every:
            size = min(BATCH, -(-n // len(every)))
            seeds = [f"{seed} {kind.name} {turn} {i}" for i in range(size)]
            with tempfile.TemporaryDirectory() as folder:
                for one, said in batch(kind, seeds, Path(folder)):
                    place = found / re.sub(r"[^\w.]+", "-", one)
                    place.mkdir(parents=True, exist_ok=True)
                    attempt(Kind(kind.name, kind.files, lambda _: None), one, place)
                    lines.append(f"{kind.name}: {said} ({place})")
                    print(lines[-1], flush=True)
    return lines


if __name__ == "__main__":
    began = time.monotonic()
    count = int(sys.argv[1])
    wrong = fuzz(count, sys.argv[2] if len(sys.argv) > 2 else str(time.time()), Path("runs/fuzz"))
    print(f"{count} inputs in {time.monotonic() - began:.0f} s, {len(wrong)} wrong")
    sys.exit(bool(wrong))
