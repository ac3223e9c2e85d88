"""Every verb that writes: killed at random moments, or refused by the system, it says so and goes on.

``make test-faults`` is the long setting: INTERLINGUA_KILLS kills a verb, or as many as INTERLINGUA_MINUTES allow, with
INTERLINGUA_SPEECH=real on Whisper-base and real speech.
"""

import json
import os
import random
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from helpers import save_tiny_whisper, sweep, utterance, victims, write_wav
from interlingua.corpora import prepare_prompts, write_manifest
from interlingua.encoding.store import FrameStore
from interlingua.index import Index
from interlingua.types import AudioRef

KILLS = int(os.environ.get("INTERLINGUA_KILLS", "1"))  # a verb
MINUTES = float(os.environ.get("INTERLINGUA_MINUTES", "1"))  # a verb
REAL = os.environ.get("INTERLINGUA_SPEECH") == "real"
LANGUAGES = ("en", "fr", "es")
pytestmark = pytest.mark.slow

SETUP = """
    import contextlib, os, resource, subprocess, sys, traceback
    import ctranslate2, lance, torch, transformers
    import interlingua.experiments.finetune, interlingua.experiments.retrieval, interlingua.index, interlingua.report
    from helpers import as_an_ordinary_user
    from interlingua import cli
    from interlingua.encoding import pipeline
    POINTS = []
    pipeline.CHUNK_UTTERANCES = 4

    def job(log, fault, *command):
        reader, writer = os.pipe()  # a file would be refused, too
        for number in (1, 2):
            os.dup2(writer, number)
        os.close(writer)
        kind, _, size = fault.partition(" ")
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        if kind == "file-size":
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), unlimited[1]))
        try:
            with as_an_ordinary_user() if kind == "rights" else contextlib.nullcontext():
                code = cli.run(command)
        except Exception:
            traceback.print_exc()
            code = 70
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        sys.stdout.flush()
        os.set_blocking(reader, False)
        with open(log, "wb") as file:
            with contextlib.suppress(BlockingIOError):
                while piece := os.read(reader, 65536):
                    file.write(piece)
        return code
"""


@dataclass(frozen=True)
class Verb:
    """A verb's command, with its output at a path, and what of the output must be equal after any fault."""

    name: str
    command: Callable[[Path], list[str]]
    state: Callable[[Path], object]


def files(out: Path) -> dict[str, bytes]:
    paths = [p for p in (out.rglob("*") if out.is_dir() else [out]) if p.is_file()]
    return {str(p.relative_to(out.parent)): p.read_bytes() for p in paths}


def frames(out: Path) -> object:
    store = FrameStore.open(out)
    return sorted((f.id, f.audio_hash, f.values.tobytes()) for f in store), store.lines()


def index(out: Path) -> object:
    held = Index.open(str(out))
    table = held._catalogue.to_table().sort_by("id").to_pylist()
    return [[str(v) for v in row.values()] for row in table], frames(out / "frames.lance")


def results(out: Path) -> object:
    found = json.loads((out / "results.json").read_text())
    found.pop("provenance")
    found["settings"].pop("out", None)
    lines = {p.name: sorted(p.read_text().splitlines()) for p in out.glob("*.jsonl")}
    weights = {p.name: p.read_bytes() for p in out.glob("model/*")}
    return found, lines, weights, (out / "report.html").exists()


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A model, utterances in three languages with splits, and an index of them."""
    folder = tmp_path_factory.mktemp("work")
    if REAL:
        spoken = [u for u in prepare_prompts(languages=LANGUAGES) if u.text]
        shared = [m for m in dict.fromkeys(u.meaning for u in spoken) if sum(u.meaning == m for u in spoken) == 3][:8]
        spoken = [u for u in spoken if u.meaning in shared]
        model = "base"
    else:
        model = str(save_tiny_whisper(folder / "tiny"))
        spoken = [
            utterance(
                language,
                f"m{i}",
                audio=AudioRef(str(write_wav(folder / f"{language}-{i}.wav", sweep(0.4 + 0.02 * i, 250 + 30 * n, i)))),
                text=f"text {i}",
                translations={other: f"{other} {i}" for other in LANGUAGES if other != language},
            )
            for i in range(12)
            for n, language in enumerate(LANGUAGES)
        ]
    import msgspec

    meanings = list(dict.fromkeys(u.meaning for u in spoken))
    splits = {m: "test" if i < 3 else "dev" if i < 5 else "train" for i, m in enumerate(meanings)}
    spoken = [msgspec.structs.replace(u, split=splits[u.meaning], cluster=u.meaning) for u in spoken]
    write_manifest(folder / "m.jsonl", spoken)
    write_manifest(folder / "fr.jsonl", [u for u in spoken if u.language == "fr"])
    rows = [f"{u.id},{u.audio.path},{u.language},{u.meaning}" for u in spoken]
    (folder / "t.csv").write_text("\n".join(["id,audio,language,meaning", *rows]))
    recipe = f"recipe: retrieval\nout: OUT\ncorpus: {{name: manifest, root: {folder / 'm.jsonl'}}}\n"
    (folder / "recipe.yaml").write_text(recipe + f"model: {model}\nmethods: [seqsim]\n")
    return folder, model


def verbs(folder: Path, model: str) -> list[Verb]:
    manifest, table = str(folder / "m.jsonl"), str(folder / "t.csv")

    def recipe(out: Path) -> list[str]:
        path = out.parent.parent / f"{out.parent.name}.yaml"
        path.write_text((folder / "recipe.yaml").read_text().replace("OUT", str(out)))
        return ["run", str(path)]

    french = str(folder / "fr.jsonl")
    translate = ["translate", french, "--from", "fr", "--no-vad", "--model", model, "--format", "json", "srt"]
    tune = ["finetune", "--data", manifest, "--model", model, "--method", "plain", "--source", "en", "--target", "es"]
    tune += ["--steps", "8" if not REAL else "4", "--batch-size", "2", "--compute", "float32"]
    exact = ["--model", model, "--dtype", "float32"]
    return [
        Verb("encode", lambda out: ["encode", manifest, str(out), *exact, "--compute", "float32"], frames),
        Verb("translate", lambda out: [*translate, "--out", str(out)], files),
        Verb("lines", lambda out: [*translate[:-3], "--out", f"{out}.jsonl"], lambda out: files(Path(f"{out}.jsonl"))),
        Verb("finetune", lambda out: [*tune, "--out", str(out)], results),
        Verb("run", recipe, results),
        Verb("prepare", lambda out: ["corpus", "prepare", "plain", "--root", table, "--out", str(out)], files),
        Verb("export", lambda out: ["export", model, str(out)], files),
        Verb("index", lambda out: ["index", "build", manifest, "--out", str(out), *exact], index),
        Verb(
            "mine",
            lambda out: ["mine", str(folder / "i.lance"), "--languages", "en", "fr", "--out", f"{out}.tsv"],
            lambda out: files(Path(f"{out}.tsv")),
        ),
    ]


NAMES = [verb.name for verb in verbs(Path(), "")]


@pytest.fixture(scope="module")
def runner(work):
    """Runs a command in a process of its own: ``run(log, fault, *command)``; the index for `mine` is there."""
    folder, model = work
    old = os.environ.get("INTERLINGUA_CACHE")
    if not REAL:
        os.environ["INTERLINGUA_CACHE"] = str(folder / "cache")
    with victims(SETUP) as run:
        build = ["index", "build", str(folder / "m.jsonl"), "--out", str(folder / "i.lance")]
        run(None, str(folder / "log"), "", *build, "--model", model, "--dtype", "float32")
        yield run
    os.environ.pop("INTERLINGUA_CACHE", None)
    if old:
        os.environ["INTERLINGUA_CACHE"] = old


@pytest.fixture(scope="module")
def undisturbed(work, runner, tmp_path_factory):
    """By name: a verb, its state and its seconds where nothing happens; each runs once."""
    done: dict[str, tuple[Verb, object, float]] = {}

    def find(name: str) -> tuple[Verb, object, float]:
        if name not in done:
            verb = next(v for v in verbs(*work) if v.name == name)
            out = tmp_path_factory.mktemp(name) / "whole" / "o"
            out.parent.mkdir()
            started = time.monotonic()
            runner(None, str(out.parent.parent / "log"), "", *verb.command(out))
            done[name] = verb, verb.state(out), time.monotonic() - started
        return done[name]

    return find


def leftovers(*folders: Path) -> list[str]:
    hidden = [p.name for folder in folders for p in folder.rglob(".*")]
    return [name for name in hidden if not name.endswith(".jsonl.begun.json")]


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_run_goes_on_to_the_same_result(work, runner, undisturbed, tmp_path, name):
    verb, expected, seconds = undisturbed(name)
    random_ = random.Random(f"{name} {time.time() if KILLS > 1 else 0}")
    kills, until = 0, time.monotonic() + 60 * MINUTES
    for n in range(10 * KILLS):
        if kills >= KILLS or time.monotonic() > until:
            break
        out = tmp_path / str(n) / "o"
        out.parent.mkdir()
        log = str(tmp_path / "log")
        moment = random_.uniform(0.02, 0.98) * seconds
        kills += runner(None, log, "", *verb.command(out), seconds=moment) is None
        runner(None, log, "", *verb.command(out))
        assert verb.state(out) == expected, f"killed after {moment:.3f} of {seconds:.3f} s"
        assert not leftovers(out.parent, work[0])
        shutil.rmtree(out.parent)
    print(f"{name}: {kills} kills")
    assert kills


REFUSED = [
    (name, fault)
    for name in NAMES
    for fault in ("full", "file-size", "rights", "file")
    if KILLS > 1 or fault == "full" or name in ("encode", "prepare", "mine")  # a short cut for `make test`
]


@pytest.mark.parametrize(("name", "fault"), REFUSED)
def test_a_refused_write_is_one_line_and_the_same_command_goes_on(runner, undisturbed, tmp_path, name, fault):
    verb, expected, _ = undisturbed(name)
    place = tmp_path / "place"
    place.mkdir()
    out = place / "o"
    command = verb.command(out)
    size = 400 if name in ("translate", "lines", "prepare", "mine") else 20_000
    if REAL and name == "finetune":
        size = 150_000_000  # the model is larger, and what other libraries unpack for it is smaller
    mounted = False
    try:
        if fault == "full":
            tmpfs = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", place]
            mounted = not os.geteuid() and not subprocess.run(tmpfs).returncode
        if fault == "full" and not mounted:  # only root may make a file system that is full: refused otherwise, then
            fault = "file-size"
        if mounted:
            (place / "others").write_bytes(b"0" * (64 * 1024 if size == 400 else 40 * 1024))
        if fault == "rights":
            place.chmod(0o555)
        elif fault == "file":
            place.rmdir()
            place.touch()
        given = f"{fault} {size}" if fault == "file-size" else fault
        runner(None, str(tmp_path / "log"), given, *command, codes=(1, 2))
        told = (tmp_path / "log").read_text().replace("\r", "\n").splitlines()
        assert not any("Traceback" in line or "panicked" in line for line in told), told
        assert told[-1].startswith("interlingua: "), told
        assert str(place) in told[-1], told
        reasons = {
            "full": "No space left on device; make space, and the same command goes on",
            "file-size": "File too large; raise the limit of file sizes",
            "rights": "Permission denied; name a place that you may write to",
            "file": r"(is a file|a file is in the way|Not a directory|File exists)",
        }
        if REAL:  # enough to be refused beforehand, and torch's own writer gives no reason
            reasons["full"] = "(No space left on device| are free); make space, and the same command goes on"
            reasons["file-size"] = "(File too large; raise|make space, or raise) the limit of file sizes"
        assert re.search(reasons[fault], told[-1]), told
        if fault not in ("full", "file-size"):  # nothing has begun
            assert place.read_bytes() == b"" if fault == "file" else not [*place.iterdir()]
            return
        if mounted:
            subprocess.run(["mount", "-o", f"remount,size={'6g' if REAL else '64m'}", place], check=True)
            (place / "others").unlink()
        runner(None, str(tmp_path / "log"), "", *command)
        assert verb.state(out) == expected
        assert not leftovers(place)
    finally:
        if mounted:
            subprocess.run(["umount", place], check=True)
        elif place.is_dir():
            place.chmod(0o755)
