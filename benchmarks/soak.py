"""Memory and open files over minutes of mixed work: translate and search here, and a service that is asked for both.

``python benchmarks/soak.py MINUTES`` (20 by default). Writes docs/soak.md.
"""

import datetime
import itertools
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from pathlib import Path

import numpy as np

from interlingua.corpora import prepare_prompts, write_manifest
from interlingua.files import write_text
from interlingua.index import Index
from interlingua.results import Provenance, provenance
from interlingua.translation import Translator
from interlingua.types import Utterance

FOLDER = Path("runs/soak")
PAGE = Path(__file__).resolve().parent.parent / "docs" / "soak.md"
LANGUAGES = ("en", "fr")
PROMPTS = 40  # a language
EVERY = 5.0  # seconds between two looks
PARTS = 4  # of the time; the first half, in which caches fill, isn't counted as growth
CLI = "import sys; from interlingua.cli import main; main()"


def main(minutes: float) -> None:
    """Work, look, and write the page."""
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    spoken = [u for u in prepare_prompts(languages=LANGUAGES) if u.text]
    spoken = [u for lang in LANGUAGES for u in [v for v in spoken if v.language == lang][:PROMPTS]]
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_manifest(FOLDER / "manifest.jsonl", spoken)
    uri = str(FOLDER / "index.lance")
    subprocess.run(
        [sys.executable, "-c", CLI, "index", "build", str(FOLDER / "manifest.jsonl"), "--out", uri], check=True
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve = [sys.executable, "-c", CLI, "serve", "--model", "base", "--index", f"prompts={uri}", "--port", str(port)]
    with (FOLDER / "serve.log").open("wb") as log:
        service = subprocess.Popen(serve, stdout=log, stderr=log)
    try:
        wait(f"http://127.0.0.1:{port}/healthz", service)
        looks, done = work(minutes, spoken, uri, f"http://127.0.0.1:{port}", service)
    finally:
        service.terminate()
        service.wait(60)
    made = provenance("int8_float32", "cpu", time.monotonic() - clock, started)
    write_text(PAGE, page(minutes, looks, done, made))


def wait(url: str, service: "subprocess.Popen[bytes]") -> None:
    """Until it answers."""
    for _ in range(300):
        if service.poll() is not None:
            raise SystemExit(f"the service ended; see {FOLDER / 'serve.log'}")
        try:
            urllib.request.urlopen(url, timeout=30).read()
        except OSError:
            time.sleep(1.0)
        else:
            return
    raise SystemExit(f"{url} doesn't answer; see {FOLDER / 'serve.log'}")


def work(
    minutes: float, spoken: list[Utterance], uri: str, url: str, service: "subprocess.Popen[bytes]"
) -> tuple[np.ndarray, dict[str, int]]:
    """Looks: seconds, then resident MiB and open files of this process and of the service; and what was done."""
    translator, index = Translator("base"), Index.open(uri)
    done = {"translated": 0, "searched": 0, "asked to translate": 0, "failed": 0}
    looks: list[list[float]] = []
    begun = time.monotonic()
    for u in itertools.cycle(spoken):
        other = next(lang for lang in LANGUAGES if lang != u.language)
        translator.translate(u.audio, "en", source=u.language)
        done["translated"] += 1
        index.search(u.audio.path if u.audio.member is None else u.audio, 5, language=other)
        done["searched"] += 1
        try:
            asked(url, Path(u.audio.path), u.language)
            done["asked to translate"] += 1
        except OSError as error:
            done["failed"] += 1
            print(f"{u.id}: {error}", file=sys.stderr)
        seconds = time.monotonic() - begun
        if not looks or seconds - looks[-1][0] >= EVERY:
            looks.append([seconds, *usage(os.getpid()), *usage(service.pid)])
            print(" ".join(f"{value:.0f}" for value in looks[-1]), flush=True)
        if seconds >= 60 * minutes:
            break
    return np.array(looks), done


def asked(url: str, path: Path, language: str) -> str:
    """The service's translation of a file."""
    edge = uuid.uuid4().hex
    fields = {"model": "base", "language": language}
    parts = [
        f'--{edge}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode() for k, v in fields.items()
    ]
    name = f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="{path.name}"\r\n\r\n'
    body = b"".join([*parts, name.encode(), path.read_bytes(), f"\r\n--{edge}--\r\n".encode()])
    headers = {"Content-Type": f"multipart/form-data; boundary={edge}"}
    request = urllib.request.Request(f"{url}/v1/audio/translations", body, headers)
    with urllib.request.urlopen(request, timeout=300) as answer:
        return str(json.loads(answer.read())["text"])


def usage(process: int) -> tuple[float, float]:
    """Resident MiB and open files."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20, float(len(os.listdir(f"/proc/{process}/fd")))  # noqa: PTH208


def page(minutes: float, looks: np.ndarray, done: dict[str, int], made: Provenance) -> str:
    """docs/soak.md."""
    parts = np.array_split(looks, PARTS)
    columns = ["MiB, library", "open files, library", "MiB, service", "open files, service"]
    rows = [
        [f"{part[0, 0] / 60:.0f} to {part[-1, 0] / 60:.0f} min", *(f"{np.median(part[:, i]):.0f}" for i in range(1, 5))]
        for part in parts
    ]
    settled = np.concatenate(parts[PARTS // 2 :])
    growth = [60 * np.polyfit(settled[:, 0], settled[:, i], 1)[0] for i in range(1, 5)]
    rows.append(["growth a minute, second half", *(f"{g:+.2f}" for g in growth)])
    table = "\n".join("| " + " | ".join(r) + " |" for r in [["", *columns], ["---"] * 5, *rows])
    counts = ", ".join(f"{n} {what}" for what, n in done.items())
    return f"""# Memory and open files over {minutes:g} minutes

Written by `make soak` (`benchmarks/soak.py`), not by hand: {str(made.started)[:10]}, {made.device["name"]},
{made.device["threads"]} threads. One process translates and searches recordings of the prompts in turn; beside it
`interlingua serve` translates each once more over HTTP: {counts}. Medians of each quarter of the time.

{table}
"""


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0)
