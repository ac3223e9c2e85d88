"""SeqSim's peers, run as they are: PyLate's ``colbert_scores`` and maxsim-cpu, each in both directions.

They live in an environment of their own, because PyLate needs an older transformers than ours:

    python3 -m venv .venv-peers && .venv-peers/bin/python -m pip install --no-deps -r benchmarks/peers.lock

Imported, this module offers `run_peer`, which starts itself as a script in that environment. Both peers sum, over the
frames of one query, the best similarity in each document; precision is that sum over queries' frames, recall the same
with the sides exchanged, each divided by the number of frames. What each peer is given:

* ``pylate`` (1.6.0): as its own ``rerank`` does, one query against zero-padded documents, here `DOCUMENTS` at a time: few
  are fast, because little is padded, and their (query frames, document frames) similarities stay far below 4 GB.
  A padded frame scores 0, with a mask too (it is multiplied with), so that a query frame whose best similarity is
  negative scores 0 against a padded document. Real frames have some: scores of 10 x 10 prompts are up to 0.0023 too high.
* ``pylate-all``: ``colbert_scores`` on batches of both sides, `DOCUMENTS` queries against all documents, all padded.
* ``pylate-pairs``: its ``colbert_scores_pairwise``, pair by pair; nothing is padded, and the scores are ours.
* ``maxsim-cpu`` (0.1.0): ``maxsim_scores_variable``, one query against all documents. Its wheel was built without BLAS: a
  matrix product larger than libxsmm's kernels, min(64, document frames) x query frames x D > 64^3, goes to a
  fallback that ignores the transposition, keeps the last term of each sum only and reads beyond its input. At D = 512
  that is a query of 9 frames or more: it crashes, or its scores are wrong without a word. Compare what it returns.
* ``maxsim-cpu-rows``: the same, with each query cut into as many rows as its kernels take (8 at D = 512), and the scores
  added up, which is exact.

FAISS (``run_faiss``) searches one vector an utterance: a flat index, and IVF with sqrt(N) lists of which 64 are read.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = 8  # PyLate: documents padded and scored together
KERNEL = 64**3  # maxsim-cpu: rows x columns x depth of the largest product that its kernels take
BLOCK = 64  # maxsim-cpu: document frames of one product
MEMORY = 4 << 30  # bytes that a peer may use beside its inputs

Arrays = Sequence[np.ndarray]


@dataclass(frozen=True)
class PeerResult:
    """What a peer made of N x M utterances; ``error`` says why there is nothing else: a signal's name or a message."""

    seconds: float | None = None  # of both directions, best of the repeats
    precision: np.ndarray | None = None  # (N, M) float32
    recall: np.ndarray | None = None  # (N, M) float32
    threads: int | None = None
    error: str | None = None


def run_peer(
    name: str,
    a: Arrays,
    b: Arrays,
    python: str | Path = ".venv-peers/bin/python",
    *,
    threads: int = 1,
    repeats: int = 2,
    timeout: float = 600,
) -> PeerResult:
    """Score N utterances ``a`` against M utterances ``b``, (T, D) each, with the peer called ``name``.

    The time is that of the scoring alone, padding included; starting the process, reading and normalising are not in it.
    """
    if name not in PEERS:
        raise ValueError(f"no peer {name!r}; there are {', '.join(PEERS)}")
    if not (ROOT / python).exists():
        return PeerResult(error=f"no {python}; the head of benchmarks/peers.py says how to make it")
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), str(threads))
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "frames.npz", Path(folder) / "scores.npz"
        sides = {"a": a, "b": b}
        joined: dict[str, Any] = {
            side: np.concatenate([unit_rows(x) for x in arrays]) for side, arrays in sides.items()
        }
        lengths: dict[str, Any] = {
            f"{side}_lengths": np.array([len(x) for x in arrays]) for side, arrays in sides.items()
        }
        np.savez(source, **joined, **lengths)
        command = [str(ROOT / python), __file__, name, str(source), str(target), str(threads), str(repeats)]
        try:
            done = subprocess.run(command, env=os.environ | counts, capture_output=True, text=True, timeout=timeout)
        except subprocess.TimeoutExpired:
            return PeerResult(error=f"no result after {timeout:g} s")
        if done.returncode < 0:
            return PeerResult(error=signal.Signals(-done.returncode).name)
        if done.returncode > 0:
            return PeerResult(error=(done.stderr.strip() or "no message").splitlines()[-1])
        report = json.loads(done.stdout.splitlines()[-1])
        with np.load(target) as scores:
            return PeerResult(report["seconds"], scores["precision"], scores["recall"], report["threads"])


def run_faiss(
    vectors: np.ndarray,
    groups: np.ndarray,
    queries: np.ndarray,
    spoken: np.ndarray,
    python: str | Path = ".venv-peers/bin/python",
) -> dict[str, Any]:
    """The best of ``vectors`` (N, V) in another group than each query's, by inner product, on one thread.

    Each kind's ``first`` (row of the best) and ``seconds`` by query, and ``build`` (seconds).
    """
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "vectors.npz"
        np.savez(source, vectors=vectors, groups=groups, queries=queries, spoken=spoken)
        command = [str(ROOT / python), __file__, "faiss", str(source)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def unit_rows(frames: np.ndarray) -> np.ndarray:
    """Float32 rows divided by their length; an all-zero row stays zero."""
    rows = frames.astype(np.float32)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)


# --- inside the peers' environment -------------------------------------------------------------------------------


def main(name: str, source: str, target: str, threads: int, repeats: int) -> None:
    """Score what lies in ``source``, write the scores to ``target``, print the time as a line of JSON."""
    sides = []
    with np.load(source) as data:
        for side in "ab":
            sides.append(np.split(data[side], np.cumsum(data[f"{side}_lengths"])[:-1]))
    a, b = sides
    score = PEERS[name](threads)
    limit_memory()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        precision, recall = score(a, b), score(b, a).T
        times.append(time.perf_counter() - start)
    precision = precision / np.array([len(x) for x in a], dtype=np.float32)[:, None]
    recall = recall / np.array([len(x) for x in b], dtype=np.float32)
    np.savez(target, precision=precision, recall=recall)
    print(json.dumps({"peer": name, "seconds": min(times), "threads": threads, "scores": target}))


def faiss(source: str) -> None:
    """What `run_faiss` gives, as JSON."""
    import faiss as library

    library.omp_set_num_threads(1)
    with np.load(source) as data:
        vectors, groups, queries, spoken = (data[name] for name in ("vectors", "groups", "queries", "spoken"))
    width, lists = vectors.shape[1], round(len(vectors) ** 0.5)
    inner = library.METRIC_INNER_PRODUCT
    flat = library.IndexFlatIP(width)
    kinds = {"flat": flat, "ivf": library.IndexIVFFlat(library.IndexFlatIP(width), width, lists, inner)}
    results: dict[str, Any] = {}
    for name, index in kinds.items():
        start = time.perf_counter()
        index.train(vectors)
        index.add(vectors)
        build = time.perf_counter() - start
        first, seconds = [], []
        for query, group in zip(queries, spoken, strict=True):
            chosen = library.IDSelectorBatch(np.flatnonzero(groups != group))
            options = {"sel": chosen, **({"nprobe": 64} if name == "ivf" else {})}
            kind = library.SearchParametersIVF if name == "ivf" else library.SearchParameters
            start = time.perf_counter()
            _, rows = index.search(query[None], 10, params=kind(**options))
            seconds.append(time.perf_counter() - start)
            first.append(int(rows[0, 0]))
        results[name] = {"first": first, "seconds": seconds, "build": build}
    print(json.dumps(results))


def limit_memory() -> None:
    """From here on, fail with a message rather than take more than `MEMORY` bytes (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    used = next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmData"))
    resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY, used + MEMORY))


Score = Callable[[Arrays, Arrays], np.ndarray]
"""Sums over the frames of N queries of the best similarities in each of M documents, (N, M) float32."""


def pylate(threads: int) -> Score:
    import torch
    from pylate.scores import colbert_scores

    torch.set_num_threads(threads)

    def score(queries: Arrays, documents: Arrays) -> np.ndarray:
        sums = np.empty((len(queries), len(documents)), dtype=np.float32)
        for start in range(0, len(documents), DOCUMENTS):
            group = [torch.from_numpy(d) for d in documents[start : start + DOCUMENTS]]
            padded = torch.nn.utils.rnn.pad_sequence(group, batch_first=True)
            for n, query in enumerate(queries):
                sums[n, start : start + len(group)] = colbert_scores(torch.from_numpy(query)[None], padded)[0].numpy()
        return sums

    return score


def pylate_all(threads: int) -> Score:
    import torch
    from pylate.scores import colbert_scores

    torch.set_num_threads(threads)

    def score(queries: Arrays, documents: Arrays) -> np.ndarray:
        padded = [
            torch.nn.utils.rnn.pad_sequence([torch.from_numpy(x) for x in side], batch_first=True)
            for side in (queries, documents)
        ]
        parts = [colbert_scores(group, padded[1]) for group in torch.split(padded[0], DOCUMENTS)]
        return torch.cat(parts).numpy()

    return score


def pylate_pairs(threads: int) -> Score:
    import torch
    from pylate.scores import colbert_scores_pairwise

    torch.set_num_threads(threads)

    def score(queries: Arrays, documents: Arrays) -> np.ndarray:
        tensors = [torch.from_numpy(d) for d in documents]
        rows = [colbert_scores_pairwise([torch.from_numpy(q)] * len(tensors), tensors) for q in queries]
        return torch.stack(rows).numpy()

    return score


def maxsim_cpu(threads: int, by_rows: bool = False) -> Score:
    from maxsim_cpu import maxsim_scores_variable

    def score(queries: Arrays, documents: Arrays) -> np.ndarray:
        documents = list(documents)
        sums = np.zeros((len(queries), len(documents)), dtype=np.float32)
        for n, query in enumerate(queries):
            rows = max(1, KERNEL // (BLOCK * query.shape[1])) if by_rows else len(query)
            for start in range(0, len(query), rows):
                sums[n] += maxsim_scores_variable(query[start : start + rows], documents)
        return sums

    return score


PEERS: dict[str, Callable[[int], Score]] = {
    "pylate": pylate,
    "pylate-all": pylate_all,
    "pylate-pairs": pylate_pairs,
    "maxsim-cpu": maxsim_cpu,
    "maxsim-cpu-rows": lambda threads: maxsim_cpu(threads, by_rows=True),
}

if __name__ == "__main__":
    if sys.argv[1] == "faiss":
        faiss(sys.argv[2])
    else:
        name, source, target, threads, repeats = sys.argv[1:]
        main(name, source, target, int(threads), int(repeats))
