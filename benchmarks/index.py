"""The index on galleries of 1,000 to 100,000 utterances: recall against exhaustive search, time, disk, memory; FAISS beside.

Galleries are benchmarks/gallery.py's: 2,240 recordings and copies are encoded, the rest is multiplied in frame space.
Held-out prompts, each once in the gallery, search all other languages. Building and searching are processes of their
own, of one thread. Writes docs/index.md and docs/data/index.json; runs/index keeps the indexes and each gallery's
figures (delete a .json to measure again).

    .venv/bin/python benchmarks/index.py
"""

import datetime
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import lance
import msgspec
import numpy as np
import torch

from gallery import LANGUAGES, Item, gallery, gallery_frames, multiplied
from interlingua.encoding import WhisperEncoder, pool_frames
from interlingua.encoding.store import FrameStore
from interlingua.files import write_text
from interlingua.index import Index
from interlingua.index import index as module
from interlingua.index.build import POOLING as DEFAULT
from interlingua.index.statistics import ANCHORS
from interlingua.models import load_whisper
from interlingua.results import provenance
from interlingua.retrieval.hubness import csls
from interlingua.retrieval.seqsim import seqsim
from interlingua.types import FrameArray, Frames, StoreDtype
from peers import run_faiss, unit_rows
from stores import COMPUTE

ENCODED = 2240  # utterances of a gallery that an encoder has seen
DTYPES: tuple[StoreDtype, ...] = ("float16", "int8")
STORED = 4  # encoded frames averaged into one in the galleries' source
SIZES = (1_000, 10_000, 100_000)
POOLING = 8  # encoded frames averaged into a stored one: half the default's, so that 100,000 take an hour less
QUERIES = {1_000: 60, 10_000: 60, 100_000: 20}  # whose exhaustive ranking is made
TIMED = 60  # queries
TOP = 10
KEPT = (100, 200, 400, 800, 1600, 3200, 6400, 12800)  # candidates
TRIED = (100, 400, 1600)  # candidates, for the model of a query's time
EXHAUSTIVE = 2  # queries that are timed
SECONDS = 6.0  # of an utterance, in the extrapolation
HOURS = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
WEEK = 7 * 24.0  # hours in which the machines of the sizing table are done
MEMORY = 16e9  # bytes of a machine that holds a shard
OUT = Path("runs/index")
DOCS = Path(__file__).resolve().parent.parent / "docs"


def main() -> None:
    """Measure what isn't yet, and write the page."""
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    torch.set_num_threads(1)
    OUT.mkdir(parents=True, exist_ok=True)
    rate = kept("encoding", encoding)
    formats = kept("formats", bytes_by_format)
    rows = [kept(f"{n}", lambda n=n: measure(n)) for n in SIZES]
    made = msgspec.to_builtins(provenance(COMPUTE, "cpu", time.monotonic() - clock, started))
    figures = {"about": __doc__, "provenance": made, "encoding": rate, "bytes": formats, "galleries": rows}
    figures["model"] = fit(rows)
    figures["sizing"] = sizing(figures)
    write_text(DOCS / "data" / "index.json", msgspec.json.format(json.dumps(figures), indent=1) + "\n")
    write_text(DOCS / "index.md", page(figures))


def kept(name: str, make: Any) -> dict[str, Any]:
    """Figures under runs/index, made if they aren't there."""
    path = OUT / f"{name}.json"
    if not path.exists():
        load, clock = os.getloadavg()[0], time.monotonic()
        found = make() | {"load average": round(load, 1), "seconds": round(time.monotonic() - clock)}
        write_text(path, json.dumps(found))
        print(name, {k: v for k, v in found.items() if not isinstance(v, list)}, flush=True)
    return dict(json.loads(path.read_text(encoding="utf-8")))


# --- the galleries ------------------------------------------------------------------------------------------------


def content(total: int, pooling: int = POOLING) -> Iterator[tuple[Item, FrameArray]]:
    """A gallery's items and frames; a larger gallery begins with the smaller one."""
    store, items = gallery_frames(ENCODED, pooling=STORED)
    frames = [pool_frames(f.speech, pooling // STORED) for f in store.read([i.id for i in items])]
    frames = [f.astype(np.float16) for f in frames]
    more = multiplied(items, frames, max(0, total - ENCODED))
    return islice(chain(zip(items, frames, strict=True), more), total)


def fill(uri: Path, total: int) -> FrameStore:
    """The frame store of a gallery's index."""
    source = FrameStore.open(f"runs/gallery-{'-'.join(LANGUAGES)}.lance")
    store = FrameStore.open_or_create(uri / "frames.lance", replace(source.spec, pooling=POOLING), source.dim)
    if len(store) < total:
        held, made = set(store.ids()), content(total)
        while some := list(islice(made, 2048)):
            store.write([Frames(i.id, f, len(f), i.recipe, i.utterance) for i, f in some if i.id not in held])
    return store


def questions() -> list[Item]:
    """Held-out originals, the languages in turn."""
    return [item for item in gallery(ENCODED) if item.held][:TIMED]


def encoding() -> dict[str, Any]:
    """How fast this machine encodes, on one thread, features included."""
    items = [item for item in gallery(ENCODED) if item.kind == "original"][:48]
    samples = [item.samples() for item in items if item.samples]
    encoder = WhisperEncoder(load_whisper("base", dtype=COMPUTE), context="speech")
    encoder.encode(samples[:4])
    clock = time.process_time()
    encoder.encode(samples)
    return {"cpu seconds": (time.process_time() - clock) / len(samples), "speech": sum(map(len, samples)) / 16000 / 48}


def bytes_by_format() -> dict[str, Any]:
    """Bytes on disk by format and pooling, and frames, an utterance of the encoded ones."""
    found: dict[str, Any] = {}
    for pooling in (4, 8):
        some = list(content(ENCODED, pooling))
        for dtype in DTYPES:
            path = OUT / f"bytes-{dtype}-{pooling}.lance"
            source = FrameStore.open(f"runs/gallery-{'-'.join(LANGUAGES)}.lance")
            store = FrameStore.open_or_create(path, replace(source.spec, pooling=pooling, dtype=dtype), source.dim)
            store.write([Frames(i.id, f, len(f), i.recipe, i.utterance) for i, f in some])
            found[f"{dtype}, pooled by {pooling}"] = size_of(path) / len(some)
        found[f"frames, pooled by {pooling}"] = float(np.mean([len(f) for _, f in some]))
    return found


# --- one gallery --------------------------------------------------------------------------------------------------


def measure(total: int) -> dict[str, Any]:
    """Everything about a gallery."""
    uri = OUT / f"{total}-by-{POOLING}"
    store = fill(uri, total)
    if not (uri / "built.json").exists():
        Index.of(uri, store)
        write_text(uri / "built.json", json.dumps(apart("build", uri)))
    built = json.loads((uri / "built.json").read_text(encoding="utf-8"))
    index, asked = Index.open(uri), questions()
    chosen = asked[: QUERIES[total]]
    frames = {f.id: f for f in store.read([i.id for i in asked])}
    best, first = reference(index, chosen, frames)
    searched = apart("search", uri)
    hits = searched.pop("hits")
    right = [item.meaning == meaning for item, meaning in zip(asked, searched.pop("first"), strict=True)]
    exhaustive = apart("exhaustive", uri)
    for row, ids in zip(best, exhaustive.pop("hits"), strict=False):
        if row != ids:
            raise AssertionError(f"exhaustive search {ids} differs from the reference {row}")
    return {
        "utterances": total,
        "frames": float(np.mean([*store.n_speech().values()])),
        "build": built,
        "bytes": {
            "frames": data_of(uri / "frames.lance") / total,
            "ids": size_of(uri / "frames.lance" / "_indices") / total,
            "catalogue": data_of(uri / "catalogue.lance") / total,
            "vector index": size_of(uri / "catalogue.lance" / "_indices") / total,
            "statistics": size_of(uri / "statistics.lance") / total,
        },
        "queries": len(chosen),
        "candidates": module.candidates(total),
        "recall": float(np.mean([len(set(a) & set(b)) / TOP for a, b in zip(best, hits, strict=False)])),
        "recall of vectors": by_vectors(index, chosen, frames, best),
        "R@1": float(np.mean(right)),
        "R@1 exhaustive": float(np.mean([m == i.meaning for m, i in zip(first, chosen, strict=True)])),
        "R@1 same queries": float(np.mean(right[: len(chosen)])),
        "search": searched,
        "exhaustive": exhaustive["seconds"],
        "faiss": faiss(store, asked),
    }


def reference(index: Index, asked: Sequence[Item], frames: dict[str, Frames]) -> tuple[list[list[str]], list[str]]:
    """Ids of the ten best of each query by exhaustive search, and the best one's meaning: all queries at once."""
    queries = [index.query(frames[item.id], item.language) for item in asked]
    side = module.packed([index.statistics.transform(i.language, frames[i.id].speech) for i in asked])
    order = list(index.statistics.languages)
    found: list[list[tuple[float, str, str]]] = [[] for _ in asked]
    columns = ["id", "language", "meaning", "neighbourhoods"]
    for batch in lance.dataset(f"{index.uri}/catalogue.lance").to_batches(columns=columns, batch_size=module.CHUNK):
        ids, languages, meanings = (batch[name].to_pylist() for name in columns[:3])
        moved = [index.statistics.transform(c, f.speech) for c, f in zip(languages, index.store.read(ids), strict=True)]
        similarity = seqsim(side, module.packed(moved), reduction=module.METHOD.reduction)
        around = np.stack(batch["neighbourhoods"].to_pylist()).astype(np.float32)
        for n, (item, query) in enumerate(zip(asked, queries, strict=True)):
            own = query.neighbourhoods[[order.index(index.statistics.name(lang)) for lang in languages]]
            one, hubs = similarity[n][None] - own / 2, around[:, order.index(query.language)]
            scores = csls(one, np.zeros(1, np.float32), hubs)[0]
            rows = zip(scores, ids, meanings, languages, strict=True)
            more = [(-float(s), i, m) for s, i, m, lang in rows if lang != item.language]
            found[n] = sorted([*found[n], *more])[:TOP]
    return [[i for _, i, _ in rows] for rows in found], [rows[0][2] for rows in found]


def by_vectors(
    index: Index, asked: Sequence[Item], frames: dict[str, Frames], best: Sequence[Sequence[str]]
) -> dict[int, float]:
    """The proportion of the ten best among the first K by vector, all vectors compared, for each K."""
    vectors = np.stack([index.query(frames[item.id], item.language).vector for item in asked])
    spoken = dict(zip(index.ids(), (u.language for u in index.utterances()), strict=True))
    ids: list[str] = []
    products = []
    for some, block in index.vectors():
        ids += some
        products.append(vectors @ block.T)
    scores, language = np.concatenate(products, axis=1), np.array([spoken[i] for i in ids])
    row = {i: n for n, i in enumerate(ids)}
    ranks = []
    for own, item, ten in zip(scores, asked, best, strict=True):
        own[language == item.language] = -np.inf
        ranks += [int((own > own[row[i]]).sum()) for i in ten]
    return {k: float(np.mean(np.array(ranks) < k)) for k in KEPT}


def faiss(store: FrameStore, asked: Sequence[Item]) -> dict[str, Any]:
    """FAISS on means of raw frames."""
    ids, means = [], []
    for f in store:
        ids.append(f.id)
        means.append(f.speech.astype(np.float32).mean(axis=0))
    vectors = unit_rows(np.stack(means))
    row = {i: n for n, i in enumerate(ids)}
    lines = {i: json.loads(line) for i, line in store.lines().items()}
    groups = np.array([LANGUAGES.index(lines[i]["language"]) for i in ids])
    own = [row[item.id] for item in asked]
    results = run_faiss(vectors, groups, vectors[own], groups[own])
    for found in results.values():
        firsts = [lines[ids[n]].get("meaning") for n in found.pop("first")]
        found["R@1"] = float(np.mean([m == i.meaning for m, i in zip(firsts, asked, strict=True)]))
        found |= percentiles(found.pop("seconds"))
    return results


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """The median and the 95th."""
    return {"p50": float(np.percentile(seconds, 50)), "p95": float(np.percentile(seconds, 95))}


def size_of(path: Path) -> int:
    """Bytes of a folder's files."""
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def data_of(path: Path) -> int:
    """Bytes of the files that a dataset's newest version consists of."""
    files = [file.path for fragment in lance.dataset(path).get_fragments() for file in fragment.data_files()]
    return sum((path / "data" / name).stat().st_size for name in files)


# --- processes of their own ---------------------------------------------------------------------------------------


def apart(job: str, uri: Path) -> dict[str, Any]:
    """The result of a job in a new process of one thread."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    command = [sys.executable, __file__, job, str(uri)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | threads)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def build(uri: Path) -> dict[str, Any]:
    """Index what is encoded."""
    clock, cpu = time.perf_counter(), time.process_time()
    before = peak()
    Index.open(uri).refresh()
    seconds, busy = time.perf_counter() - clock, time.process_time() - cpu
    return {"seconds": seconds, "cpu seconds": busy, "peak": peak(), "peak before": before}


def search(uri: Path, exhaustive: bool = False) -> dict[str, Any]:
    """Each query, frames given, after one that isn't counted; and with other numbers of candidates."""
    asked = questions()[: EXHAUSTIVE if exhaustive else TIMED]
    before, index = peak(), Index.open(uri)
    frames = {f.id: f for f in index.store.read([item.id for item in asked])}

    def timed(items: Sequence[Item]) -> tuple[list[float], list[float], list[Any]]:
        seconds, busy, hits = [], [], []
        for item in items:
            where = f"language != '{item.language}'"
            clock, cpu = time.perf_counter(), time.process_time()
            hits.append(index.search(frames[item.id], TOP, language=item.language, where=where, exhaustive=exhaustive))
            seconds.append(time.perf_counter() - clock)
            busy.append(time.process_time() - cpu)
        return seconds, busy, hits

    if not exhaustive:
        timed(asked[-3:])
    seconds, busy, hits = timed(asked)
    result: dict[str, Any] = percentiles(seconds) | {"cpu": float(np.median(busy))}
    result |= {"hits": [[h.utterance.id for h in one] for one in hits], "peak": peak(), "peak before": before}
    if exhaustive:
        return result | {"seconds": float(np.median(seconds))}
    result["first"] = [one[0].utterance.meaning for one in hits]
    result["by candidates"] = {}
    module.CANDIDATES_PER_ROOT = 0
    for k in TRIED:
        module.CANDIDATES = k
        result["by candidates"][k] = float(np.median(timed(asked[:8])[1]))
    return result


def peak() -> int:
    """Bytes that this process has held at most; getrusage's would count what the parent had when it forked."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM"))


# --- the model, and the page --------------------------------------------------------------------------------------


def fit(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Least squares: CPU seconds and memory of a build by utterances; CPU seconds of a query by K and vectors read."""
    found: dict[str, Any] = {}
    n = np.array([r["utterances"] for r in rows])
    found["cpu seconds"] = relative(np.stack([np.ones(len(n)), n], axis=1), [r["build"]["cpu seconds"] for r in rows])
    slope, base = np.polyfit(
        n[-2:], [r["build"]["peak"] for r in rows[-2:]], 1
    )  # statistics are complete from 10,000 on
    found["peak"] = [float(base), float(slope)]
    points = [
        (1, int(k), r["utterances"], seconds)
        for r in rows
        for k, seconds in r["search"]["by candidates"].items()
        if int(k) < 0.5 * r["utterances"]  # others' languages hold no more
    ]
    *terms, seconds = np.array(points).T
    found["query"] = dict(zip(("base", "candidate", "vector"), relative(np.stack(terms, 1), seconds), strict=True))
    return found


def relative(terms: np.ndarray, values: Sequence[float]) -> list[float]:
    """Coefficients, 0 or more, of the least relative errors."""
    chosen = list(range(terms.shape[1]))
    while True:
        scaled = terms[:, chosen] / np.array(values)[:, None]
        found = np.linalg.lstsq(scaled, np.ones(len(values)), rcond=None)[0]
        if (found >= 0).all():
            return [float(found[chosen.index(i)]) if i in chosen else 0.0 for i in range(terms.shape[1])]
        chosen.pop(int(found.argmin()))


def query_seconds(model: dict[str, Any], n: float, dense: float = 1.0) -> float:
    """CPU seconds of a query; utterances have ``dense`` times as many frames as the galleries'."""
    q = model["query"]
    return float(q["base"] + dense**2 * q["candidate"] * module.candidates(round(n)) + q["vector"] * n)


def sizing(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each amount of speech; utterances have more frames than the galleries', and products grow with squares."""
    model, rate, formats = (figures[name] for name in ("model", "encoding", "bytes"))
    largest = figures["galleries"][-1]["bytes"]
    per_frame = {d: formats[f"{d}, pooled by {DEFAULT}"] / formats[f"frames, pooled by {DEFAULT}"] for d in DTYPES}
    dense = density(figures)
    (base, slope), (constant, each) = model["peak"], model["cpu seconds"]
    found = []
    for hours in HOURS:
        n = hours * 3600 / SECONDS
        rest = largest["catalogue"] + largest["vector index"] + largest["ids"]
        disk = {d: n * (SECONDS * 50 / DEFAULT * per_frame[d] + rest) for d in DTYPES}
        encoded = hours / (rate["speech"] / rate["cpu seconds"])
        indexed = (constant + each * dense**2 * n) / 3600
        shards = max(1, int(np.ceil(n * slope / (MEMORY - base))))
        found.append(
            {
                "hours": hours,
                "utterances": round(n),
                "disk": disk,
                "encoding": encoded,
                "indexing": indexed,
                "machines": max(shards, int(np.ceil((encoded + indexed) / 2 / WEEK))),
                "shards": shards,
                "query": query_seconds(model, n / shards, dense),
            }
        )
    return found


def density(figures: dict[str, Any]) -> float:
    """Frames of an utterance of `SECONDS` at the default pooling, by those of the galleries."""
    return float(SECONDS * 50 / DEFAULT / figures["galleries"][-1]["frames"])


def page(figures: dict[str, Any]) -> str:
    """docs/index.md."""
    made, rows, model = figures["provenance"], figures["galleries"], figures["model"]
    largest = rows[-1]
    query, (_, each), (base, slope) = model["query"], model["cpu seconds"], model["peak"]
    dense, ten, formats = density(figures), 10_000_000, figures["bytes"]
    loads = [r["load average"] for r in rows]
    encoded = figures["encoding"]["speech"] / figures["encoding"]["cpu seconds"]
    return f"""# Index and search

```
interlingua index build recordings/ more.jsonl --out speech.lance      # encodes what is new, drops what is gone
interlingua index add speech.lance talks/                              # index remove, index info
interlingua search speech.lance query.wav -k 10 --where "language = 'fr' and duration < 5"
interlingua index build news/ --out news.lance --like speech.lance     # a shard: shares the statistics
interlingua search speech.lance query.wav --also news.lance            # both, with comparable scores
```

```python
from interlingua.index import Index, search_shards

hits = Index.open("speech.lance").search("query.wav", k=10)  # id, score, times, text in hit.utterance
hits = search_shards([Index.open("speech.lance"), Index.open("news.lance")], "query.wav", k=10)
```

A query is a recording of any language. Every column of the manifest filters (`index info` lists them). A killed `build` goes on
when it runs again. URIs of object stores work as folders do.

One vector an utterance chooses candidates, at least {module.CANDIDATES}; SeqSim with the default method's corrections ranks them.
The vector is SeqSim to {ANCHORS} utterances of the index, turned into coordinates by Nyström's method, and a correction for hubs. Means of frames,
means of slices, MUVERA's and LEMUR's encodings and bare scores to anchors were tried on the same galleries
([data/index-vectors.json](data/index-vectors.json)): {tried()}

## How well, how fast

Written by `make bench-index` (`benchmarks/index.py`), not by hand: {made["started"][:10]}, {made["device"]["name"]}, one thread,
load average {min(loads):.0f} to {max(loads):.0f} on {os.cpu_count()} cores, Whisper-base. Everything measured: [data/index.json](data/index.json).

{measured(rows)}

Held-out prompts of five languages, each once in the gallery, search all other languages; R@1 ({TIMED} queries) counts any of the four translations. The
galleries: prompts as they are; copies spliced, sped, pitched, with noise, band and room; beyond {ENCODED:,}, frames of two copies joined,
with noise (the recipe: [`benchmarks/gallery.py`](../benchmarks/gallery.py)). Frames are pooled by {POOLING}, so that
{largest["utterances"]:,} are built in time; the default is {DEFAULT}. Recall@10: how many of exhaustive search's ten best are found ({", ".join(str(r["queries"]) for r in rows)}
queries): in the largest gallery it is {100 * largest["recall of vectors"]["400"]:.0f}% with 400 candidates and {100 * largest["recall of vectors"]["12800"]:.0f}% with 12,800; their R@1 is
{100 * largest["R@1 same queries"]:.0f}%, exhaustive search's {100 * largest["R@1 exhaustive"]:.0f}%. Most of that gallery are joins of the same {ENCODED:,}, of which many score alike. Times are
of a query's search, its encoding and three warm-up searches apart. FAISS: means of raw frames, IVF, 64 lists read. A search's memory holds {rows[0]["search"]["peak before"] / 1e6:.0f} MB of Python and torch. This machine encodes {encoded:.0f} s of speech a second and core.

## What more would cost

Fitted to these: a query takes {1e3 * query["base"]:.0f} ms, {1e3 * query["candidate"]:.2f} ms a candidate, and {1e6 * query["vector"]:.1f} µs an utterance of the index, whose vectors are all compared; candidates
are {module.CANDIDATES}, from {(module.CANDIDATES / module.CANDIDATES_PER_ROOT) ** 2:,.0f} utterances on {module.CANDIDATES_PER_ROOT:g} √N. Building takes {1e3 * each:.1f} ms and {slope / 1e3:.1f} kB of memory an utterance. At the default
pooling and {SECONDS:g} s an utterance, products grow {dense**2:.0f}-fold: 10 million utterances take {ten * each * dense**2 / 3600:,.0f} core-hours and {ten * slope / 1e9:.0f} GB of memory to build, and {query_seconds(model, ten, dense):.1f} s
a query. **Shard from {(MEMORY - base) / slope / 1e6:.0f} million utterances on**, where building fills {MEMORY / 1e9:.0f} GB.

{sizes(figures["sizing"])}

Core-hours of this machine's CPU. Machines: of 2 cores, as many as encode and index in a week, at least one a shard; the shards answer in
parallel. Beyond {largest["utterances"]:,} utterances nothing is measured. int8 frames take
{formats[f"int8, pooled by {DEFAULT}"] / 1e3:.0f} kB an utterance of the galleries instead of {formats[f"float16, pooled by {DEFAULT}"] / 1e3:.0f}.
"""


def tried() -> str:
    """Recall at the default number of candidates of each kind of vector, 10,000 utterances."""
    data = json.loads((DOCS / "data" / "index-vectors.json").read_text(encoding="utf-8"))
    at = data["kept"].index(400)
    best: dict[str, float] = {}
    for r in data["sizes"]["10000"]["rows"]:
        best[r["vectors"]] = max(best.get(r["vectors"], 0), 100 * r["all"][at])
    kinds = {"Nyström, 750 anchors": "Nyström's", "LEMUR, net of 256": "LEMUR's", "mean and 4 slices": "slices'"}
    kinds |= {"scores to 750 anchors": "bare scores'", "mean of frames": "means'"}
    muvera = max(v for name, v in best.items() if name.startswith("MUVERA"))
    named = [f"{word} {best[name]:.1f}%" for name, word in kinds.items()] + [f"MUVERA's {muvera:.1f}%"]
    return f"Nyström's find most of the exhaustive ten best among 400 candidates of 10,000 ({', '.join(named)})."


def measured(rows: Sequence[dict[str, Any]]) -> str:
    """The table of measured figures: a column a gallery."""

    def ms(r: dict[str, float]) -> str:
        return f"{1e3 * r['p50']:.0f} / {1e3 * r['p95']:.0f}"

    lines: dict[str, Any] = {
        "utterances": lambda r: f"{r['utterances']:,}",
        "candidates": lambda r: f"{r['candidates']:,}",
        "recall@10, %": lambda r: f"{100 * r['recall']:.1f}",
        "R@1, %: search / FAISS": lambda r: f"{100 * r['R@1']:.0f} / {100 * r['faiss']['ivf']['R@1']:.0f}",
        "ms a query, p50 / p95": lambda r: ms(r["search"]),
        "s a query, exhaustive": lambda r: f"{r['exhaustive']:.1f}",
        "ms a query, FAISS": lambda r: f"{1e3 * r['faiss']['ivf']['p50']:.1f}",
        "building, CPU s": lambda r: f"{r['build']['cpu seconds']:.0f}",
        "bytes an utterance: frames": lambda r: f"{r['bytes']['frames']:,.0f}",
        "catalogue, vectors": lambda r: f"{r['bytes']['catalogue']:,.0f}",
        "vector index, ids": lambda r: f"{r['bytes']['vector index'] + r['bytes']['ids']:,.0f}",
        "MB of memory, search": lambda r: f"{r['search']['peak'] / 1e6:.0f}",
    }
    table = [[name, *(show(r) for r in rows)] for name, show in lines.items()]
    return markdown(table)


def sizes(rows: Sequence[dict[str, Any]]) -> str:
    """The sizing table."""
    head = ["hours of speech", "utterances", "GB, float16 / int8", "encoding, core-h", "indexing, core-h"]
    table = [[*head, "machines", "shards", "s a query"]]
    for r in rows:
        disk = " / ".join(short(r["disk"][d] / 1e9) for d in DTYPES)
        cells = [
            f"{r['hours']:,}",
            f"{r['utterances']:,}",
            disk,
            *(short(r[name]) for name in ("encoding", "indexing")),
        ]
        table.append([*cells, f"{r['machines']:,}", f"{r['shards']:,}", f"{r['query']:.1f}"])
    return markdown(table)


def short(value: float) -> str:
    """Two digits, or all of a whole number."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table, its head first."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [rows[0], ["---"] * len(rows[0]), *rows[1:]])


if __name__ == "__main__":
    if len(sys.argv) > 1:
        torch.set_num_threads(1)
        job, where = sys.argv[1], Path(sys.argv[2])
        print(json.dumps(build(where) if job == "build" else search(where, exhaustive=job == "exhaustive")))
    else:
        main()
