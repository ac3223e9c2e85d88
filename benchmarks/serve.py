"""`interlingua serve` beside servers on faster-whisper: the same recordings, weights and clients: docs/serve-speed.md.

Clients in a closed loop: each sends its next recording once it has the last one's text. Servers take turns, alone on a machine
that has nothing else to do; each is started for a kind of recordings, and warmed up with three of them. Figures are kept in
`OUT`, cell by cell: a run that was stopped, by `--minutes` too, goes on where it was.
"""

import argparse
import contextlib
import datetime
import http.client
import json
import os
import queue
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interlingua.files import write_text
from interlingua.metrics import SystemOutputs, pooled_difference, score_translations, translation_statistics
from interlingua.models import ctranslate2_folder, resolve
from interlingua.results import provenance
from interlingua.types import Utterance
from translate_audio import LANGUAGES, long_recordings, short_recordings

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "serve-speed.md"
OUT = Path("runs/serve-bench")
PORT = 8765
CLIENTS = (1, 4, 16, 64)
LONG_MINUTES = 1.0  # of a long recording
EVERY = 8  # of the mixed recordings, so many-th is a long one
OVERLOAD_REQUESTS = 8  # taken at a time, of 64 clients
MEMORY_REQUESTS = 500
PEER_PYTHON = ROOT / ".venv-serve-peers" / "bin" / "python"
OURS = "interlingua serve"


@dataclass(frozen=True)
class Server:
    """How a server is started, and asked."""

    name: str
    command: list[str]
    environment: dict[str, str]
    health: str
    fields: dict[str, str]


def servers(cores: int) -> list[Server]:
    """Ours, and the peers as fast as they can be set up."""
    weights = str(ctranslate2_folder(resolve("base")))
    config = OUT / "faster-whisper-server.yaml"
    options = {
        "device": "cpu",
        "compute_type": "int8",
        "cpu_threads": cores,
    }  # one request at a time: its event loop waits for the model
    settings = {
        "models": [
            {
                "name": "whisper-1",
                "path": weights,
                "model_options": options,
                "translate_options": {"beam_size": 1, "vad_filter": True},
            }
        ]
    }
    write_text(config, json.dumps(settings))  # JSON is YAML
    python, peer = sys.executable, str(PEER_PYTHON)
    own = f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r}); from interlingua.cli import main; main()"
    fws = [peer, "-m", "faster_whisper_server", "--config", str(config), "--host", "127.0.0.1", "--port", str(PORT)]
    return [
        Server(OURS, [python, "-c", own, "serve", "--port", str(PORT)], {}, "/readyz", {"model": "base"}),
        Server("faster-whisper-server 0.0.3", fws, {}, "/health", {"model_name": "whisper-1"}),
        Server(
            f"FastAPI + faster-whisper, {cores} workers",
            [
                peer,
                "-m",
                "uvicorn",
                "--factory",
                "serve_peer:app",
                "--app-dir",
                str(ROOT / "benchmarks"),
                "--port",
                str(PORT),
                "--log-level",
                "error",
            ],
            {"SERVE_PEER_MODEL": weights, "SERVE_PEER_WORKERS": str(cores)},
            "/health",
            {},
        ),
    ]


@contextlib.contextmanager
def running(server: Server) -> Iterator[subprocess.Popen[bytes]]:
    """The server's process, once it answers."""
    process = subprocess.Popen(server.command, env={**os.environ, **server.environment}, stdout=subprocess.DEVNULL)
    try:
        for _ in range(600):
            time.sleep(0.5)
            with contextlib.suppress(OSError, http.client.HTTPException):
                if get(server.health) == 200:
                    break
            if process.poll() is not None:
                raise SystemExit(f"{server.name} ended with {process.returncode} before it answered")
        else:
            raise SystemExit(f"{server.name} doesn't answer")
        yield process
    finally:
        process.terminate()
        process.wait(60)


def get(path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
    connection.request("GET", path)
    status = connection.getresponse().status
    connection.close()
    return status


class Body:
    """A recording as a multipart body, made once."""

    def __init__(self, utterance: Utterance, fields: dict[str, str]) -> None:
        self.utterance, mark = utterance, uuid.uuid4().hex
        parts = [
            f'--{mark}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode() for k, v in fields.items()
        ]
        head = f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
        self.data = b"".join(
            [*parts, head.encode(), Path(utterance.audio.path).read_bytes(), f"\r\n--{mark}--\r\n".encode()]
        )
        self.headers = {"Content-Type": f"multipart/form-data; boundary={mark}"}

    def send(self, connection: http.client.HTTPConnection) -> tuple[int, Any, dict[str, str]]:
        connection.request("POST", "/v1/audio/translations", self.data, self.headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read()), dict(answer.getheaders())


def closed_loop(bodies: Sequence[Body], clients: int, *, retry: bool = False) -> dict[str, Any]:
    """Send every body once, by so many clients; ``retry``: come back as a refusal says."""
    waiting: queue.SimpleQueue[Body] = queue.SimpleQueue()
    for body in bodies:
        waiting.put(body)
    answers: list[tuple[str, float, str]] = []
    failures: list[str] = []
    refused = [0]

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=900)
        with contextlib.suppress(queue.Empty):
            while True:
                body, clock = waiting.get_nowait(), time.perf_counter()
                while True:
                    try:
                        status, found, headers = body.send(connection)
                    except (OSError, http.client.HTTPException) as error:
                        failures.append(f"{body.utterance.id}: {type(error).__name__}")
                        connection.close()
                        break
                    if retry and status in (429, 503):
                        refused[0] += 1
                        time.sleep(float(headers.get("retry-after", headers.get("Retry-After", "1"))))
                        continue
                    if status == 200:
                        answers.append((body.utterance.id, time.perf_counter() - clock, found["text"].strip()))
                    else:
                        failures.append(f"{body.utterance.id}: {status} {found}")
                    break
        connection.close()

    clock = time.perf_counter()
    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - clock
    took = sorted(s for _, s, _ in answers) or [float("nan")]
    return {
        "requests": len(bodies),
        "answered": len(answers),
        "failures": failures[:5],
        "refused": refused[0],
        "seconds": seconds,
        "audio": sum(b.utterance.duration or 0 for b in bodies),
        "p50": statistics.median(took),
        "p95": took[min(len(took) - 1, int(0.95 * len(took)))],
        "texts": {i: text for i, _, text in answers},
        "answers": [[i, text] for i, _, text in answers],
    }


def repeated(bodies: Sequence[Body], n: int) -> list[Body]:
    return [bodies[i % len(bodies)] for i in range(n)]


def recordings(kind: str, each: int) -> list[Utterance]:
    """``each`` short recordings a language, the languages in turn; ``mixed``: with a minute of speech now and then."""
    of = {
        language: [u for u in short_recordings(each, OUT / "audio") if u.language == language] for language in LANGUAGES
    }
    short = [u for some in zip(*of.values(), strict=True) for u in some]
    if kind == "short":
        return short
    long = long_recordings(LONG_MINUTES, OUT / "audio")
    return [long[i // EVERY % len(long)] if i % EVERY == EVERY - 1 else u for i, u in enumerate(short)]


def offline(utterances: Sequence[Utterance]) -> float:
    """Seconds of our translator for the recordings, in this process: nothing sent, everything known beforehand."""
    from interlingua.translation import Translator

    translator = Translator("base")
    list(translator.translate_all([("warm", utterances[0].audio)], ["en"]))
    clock = time.perf_counter()
    list(translator.translate_all([(f"{i}", u.audio) for i, u in enumerate(utterances)], ["en"]))
    return time.perf_counter() - clock


def resident(pid: int) -> float:
    """Megabytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def overload(bodies: Sequence[Body], server: Server) -> dict[str, Any]:
    """More clients than are taken: every recording is answered once, with its own text."""
    few = f"from interlingua.serve import service; service.Limits = __import__('functools').partial(service.Limits, requests={OVERLOAD_REQUESTS}, own={OVERLOAD_REQUESTS}); "
    command = [*server.command]
    command[2] = command[2].replace("from interlingua.cli", few + "from interlingua.cli")
    with running(Server(server.name, command, server.environment, server.health, server.fields)):
        alone = closed_loop(bodies, 1)["texts"]
        found = closed_loop(repeated(bodies, 2 * len(bodies)), 64, retry=True)
    per = {body.utterance.id: 0 for body in bodies}
    wrong = 0
    for i, text in found["answers"]:
        per[i] += 1
        wrong += text != alone[i]
    return {
        "requests": found["requests"],
        "answered": found["answered"],
        "refused": found["refused"],
        "lost or twice": sum(abs(n - 2) for n in per.values()),
        "other texts": wrong,
        "failures": found["failures"],
    }


def memory(bodies: Sequence[Body], server: Server, requests: int) -> list[list[float]]:
    """(requests so far, megabytes) of our process."""
    with running(server) as process:
        rows = []
        for done in range(0, requests, 50):
            closed_loop(repeated(bodies, 50), 16)
            rows.append([done + 50, resident(process.pid)])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=8, help="short recordings of each language")
    parser.add_argument("--clients", type=int, nargs="+", default=list(CLIENTS))
    parser.add_argument("--minutes", type=float, default=40, help="start nothing new after so long")
    parser.add_argument("--memory", type=int, default=MEMORY_REQUESTS, help="requests of the memory test")
    options = parser.parse_args()
    if not PEER_PYTHON.exists():
        raise SystemExit("no .venv-serve-peers; make serve-peers")
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    cores = len(os.sched_getaffinity(0))
    kept = OUT / f"cells-{options.each}.json"
    cells: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    every = servers(cores)

    def keep(name: str, value: Any) -> None:
        cells[name] = value
        write_text(kept, json.dumps(cells, ensure_ascii=False, indent=1))
        shown = {k: v for k, v in value.items() if k not in ("texts", "answers")} if isinstance(value, dict) else value
        print(name, shown, flush=True)

    def late() -> bool:
        return time.monotonic() - clock > 60 * float(options.minutes)

    for kind in ("short", "mixed"):
        utterances = recordings(kind, options.each)
        if f"offline|{kind}" not in cells:
            keep(f"offline|{kind}", {"seconds": offline(utterances), "audio": sum(u.duration or 0 for u in utterances)})
        for server in every:
            wanted = [n for n in options.clients if f"{server.name}|{kind}|{n}" not in cells]
            if not wanted or late():
                continue
            bodies = [Body(u, server.fields) for u in utterances]
            with running(server):
                closed_loop(bodies[:3] * cores, cores)
                for n in wanted:
                    if not late():
                        keep(f"{server.name}|{kind}|{n}", closed_loop(repeated(bodies, max(len(bodies), n)), n))
    short = [Body(u, every[0].fields) for u in recordings("short", options.each)]
    if "overload" not in cells and not late():
        keep("overload", overload(short, every[0]))
    if "memory" not in cells and not late():
        keep("memory", memory(short, every[0], options.memory))
    missing = [f"{s.name}|{k}|{n}" for s in every for k in ("short", "mixed") for n in options.clients]
    missing = [name for name in [*missing, "overload", "memory"] if name not in cells]
    if missing:
        print(f"not measured yet: {', '.join(missing)}; the same command goes on")
        return
    origin = provenance("int8_float32", "cpu", time.monotonic() - clock, started)
    write_text(PAGE, page(cells, every, options, origin))
    print(f"{PAGE} written")


# ---------------------------------------------------------------- the page


def page(cells: dict[str, Any], every: Sequence[Server], options: argparse.Namespace, origin: Any) -> str:
    """All of it, as Markdown."""
    device, ours = origin.device, every[0]
    at = 16 if 16 in options.clients else max(options.clients)

    def pace(server: Server, kind: str, n: int) -> float:
        cell = cells[f"{server.name}|{kind}|{n}"]
        return float(cell["audio"] / cell["seconds"])

    parts = [
        f"""# How fast `interlingua serve` is

Written by `make bench-serve` (`benchmarks/serve.py`), not by hand: {origin.started[:10]}, {device["name"]}, {os.cpu_count()} cores, ctranslate2
{origin.packages["ctranslate2"]}. Whisper-base into English, the language detected, greedy, int8; the same weights for all. Each client sends its next
recording once it has the last one's text. `pace` is seconds of audio per second; `offline` is that of our `Translator` in one process, with all
recordings known beforehand and nothing sent: the service's smaller batches may pass it. Peers: `faster-whisper-server` from the package index, and faster-whisper behind FastAPI as its documentation shows it
(`benchmarks/serve_peer.py`); `speaches` isn't on the package index.
"""
    ]
    for kind, title in (("short", "Short recordings"), ("mixed", f"Every {EVERY}th recording a minute long")):
        best = max(pace(s, kind, at) for s in every[1:])
        alone = max(pace(s, kind, 1) for s in every[1:]) if 1 in options.clients else 0.0
        top = cells[f"offline|{kind}"]
        summary = f"At {at} clients **{pace(ours, kind, at) / best:.1f}** times the pace of the fastest peer"
        if alone:
            summary += f", at one {pace(ours, kind, 1) / alone:.1f} times"
        rows = [
            f"| {s.name} | {n} | {c['requests'] / c['seconds']:.2f} | {c['audio'] / c['seconds']:.1f} "
            f"| {c['audio'] / c['seconds'] / (top['audio'] / top['seconds']):.0%} | {c['p50']:.2f} | {c['p95']:.2f} | {c['requests'] - c['answered']} |"
            for s in every
            for n in options.clients
            for c in [cells[f"{s.name}|{kind}|{n}"]]
        ]
        parts.append(
            f"""## {title}

{summary}.

| server | clients | requests/s | pace | of offline ({top["audio"] / top["seconds"]:.1f}) | p50, s | p95, s | unanswered |
| --- | --- | --- | --- | --- | --- | --- | --- |
{chr(10).join(rows)}
"""
        )
    utterances = recordings("short", options.each)
    rows = []
    for s in every:
        texts = cells[f"{s.name}|short|{at}"]["texts"]
        rows.append(
            f"| {s.name} | {chrf(texts, utterances):.1f} | {'' if s is ours else against(cells[f'{ours.name}|short|{at}']['texts'], texts, utterances)} |"
        )
    o, m = cells["overload"], cells["memory"]
    parts.append(
        f"""## What comes back

chrF against the prompts' references, mean over {", ".join(LANGUAGES)}; differences with 95% intervals over clusters.

| server | chrF | our chrF less its |
| --- | --- | --- |
{chr(10).join(rows)}

## Overload and memory

64 clients where {OVERLOAD_REQUESTS} requests are taken at a time: {o["requests"]} recordings sent, {o["refused"]} refusals with Retry-After, {o["answered"]} answers;
**{o["lost or twice"]}** lost or answered twice, {o["other texts"]} with another text than alone.

Memory of the process over {m[-1][0]:.0f} requests of 16 clients: {", ".join(f"{mb:.0f} MB after {n:.0f}" for n, mb in m[:: max(1, len(m) // 4)])}, {m[-1][1]:.0f} MB at the end.
"""
    )
    return "\n".join(parts)


def chrf(texts: dict[str, str], utterances: Sequence[Utterance]) -> float:
    """Mean over languages."""
    scores = []
    for language in LANGUAGES:
        expected = {u.id: u.translations["en"] for u in utterances if u.language == language}
        scores.append(
            score_translations(
                {i: t for i, t in texts.items() if i in expected}, expected, target="en", metric="chrf"
            ).value
        )
    return statistics.mean(scores)


def against(ours: dict[str, str], other: dict[str, str], utterances: Sequence[Utterance]) -> str:
    """Our chrF less another's."""
    sides: list[list[Any]] = [[], []]
    for language in LANGUAGES:
        spoken = [u for u in utterances if u.language == language]
        expected = {u.id: u.translations["en"] for u in spoken}
        for side, texts in zip(sides, (ours, other), strict=True):
            outputs = SystemOutputs(
                {i: t for i, t in texts.items() if i in expected}, expected, {u.id: u.group for u in spoken}, "en"
            )
            side.append(translation_statistics(outputs, "chrf"))
    score = pooled_difference(*sides)
    low, high = score.ci or (score.value, score.value)
    return f"{score.value:+.1f} [{low:+.1f}, {high:+.1f}]"


if __name__ == "__main__":
    main()
