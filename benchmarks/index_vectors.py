"""One vector an utterance: which inner product finds the most of exhaustive SeqSim's ten best? Writes docs/data/index-vectors.json.

Held-out prompts of five languages search all other languages of a gallery (benchmarks/gallery.py: 2,240 recordings and
copies are encoded, the rest is multiplied in frame space); frames pooled by 8, the default method. Recall@10 at K: the
proportion of the exhaustive ranking's ten best among the vectors' K best. Hubs: ``none`` corrected; ``mean``: less the
candidate's mean inner product with 150 background utterances of the query's language; ``csls``: this mean replaced by
that of exact SeqSim, less half the candidate's exact neighbourhood among these, an extra dimension for each query language;
``average``: the languages' mean of ``csls``, one dimension. Inner products are scaled to SeqSim's unit by regression on the background.

    .venv/bin/python benchmarks/index_vectors.py 1000 10000      # minutes; runs/ keeps the gallery and exact scores
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from gallery import LANGUAGES, gallery_frames, multiplied
from interlingua.encoding import pool_frames
from interlingua.files import write_text
from interlingua.index.vectors import AnchorVectors
from interlingua.retrieval.features import fit_whitening, with_position
from interlingua.retrieval.hubness import neighbourhood
from interlingua.retrieval.methods import DEFAULT_METHOD, METHODS
from interlingua.retrieval.seqsim import pack, seqsim
from stores import COMPUTE

ENCODED = 2240
POOLING = 2  # of the stored frames, which are pooled by 4
BACKGROUND = 150
TOP = 10
KEPT = (50, 100, 200, 400, 1000)
OUT = Path(__file__).resolve().parent.parent / "docs" / "data" / "index-vectors.json"

Row = dict[str, Any]
Features = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Data:
    """Unit frames of all, which utterances are queries or background, and SeqSim of both to all."""

    frames: list[np.ndarray]
    language: np.ndarray
    queries: np.ndarray
    scores: np.ndarray
    background: dict[str, np.ndarray]
    known: dict[str, np.ndarray]
    around: dict[str, np.ndarray]

    @cached_property
    def lengths(self) -> np.ndarray:
        """Frames of each utterance."""
        return np.array([len(f) for f in self.frames])

    @cached_property
    def starts(self) -> np.ndarray:
        """Each utterance's first row of `flat`."""
        return np.asarray(np.cumsum(self.lengths) - self.lengths)

    @cached_property
    def flat(self) -> np.ndarray:
        """All frames."""
        return np.concatenate(self.frames)

    @cached_property
    def best(self) -> list[tuple[int, str, np.ndarray, np.ndarray]]:
        """Each query's ten best by exhaustive search: of all other languages, and of each."""
        found = []
        for n, code in enumerate(self.language[self.queries]):
            exact = self.scores[n] - self.around[code] / 2
            others = [language for language in LANGUAGES if language != code]
            for kind, where in [("all", self.language != code), *(("one", self.language == o) for o in others)]:
                order = np.argsort(-np.where(where, exact, -np.inf), kind="stable")
                found.append((n, kind, where, order[:TOP]))
        return found

    def means(self, values: np.ndarray) -> np.ndarray:
        """Of each utterance's frames."""
        return np.asarray(np.add.reduceat(values, self.starts, axis=0) / self.lengths[:, None])


def load(size: int, cache: Path) -> Data:
    """Frames as the method compares them, and exact scores, kept in ``cache``."""
    store, items = gallery_frames(ENCODED)
    raw = [f.speech for f in store.read([i.id for i in items])][:size]
    everything = list(zip(items, raw, strict=False))
    everything += list(multiplied(items, raw, size - ENCODED)) if size > ENCODED else []
    language = np.array([item.language for item, _ in everything])
    held = np.array([item.held for item, _ in everything])
    method, rng = METHODS[DEFAULT_METHOD], np.random.default_rng(0)
    frames: list[np.ndarray] = [pool_frames(f, POOLING) for _, f in everything]
    background = {}
    for code in LANGUAGES:
        own = np.flatnonzero((language == code) & ~held)
        whiten = fit_whitening([frames[i] for i in own], method.shrinkage)
        for i in np.flatnonzero(language == code):
            frames[i] = with_position(whiten(frames[i]), method.position)
        background[code] = np.sort(rng.choice(own, min(BACKGROUND, len(own)), replace=False))
    queries = np.flatnonzero(held)
    queries = queries[np.arange(len(queries)) % 10 < 5]  # every second sentence, in all languages
    if cache.exists():
        with np.load(cache) as found:
            scores, known = found["scores"], {code: found[code] for code in LANGUAGES}
    else:
        packed = pack(frames, compute=COMPUTE)
        scores = seqsim(packed.take(queries), packed)
        known = {code: seqsim(packed.take(rows), packed) for code, rows in background.items()}
        np.savez(cache, scores=scores, **known)
    around = {}
    for code, rows in background.items():
        others = known[code].copy()
        others[np.arange(len(rows)), rows] = np.nan
        around[code] = neighbourhood(others.T.copy(), method.neighbours)
    unit = [f / np.linalg.norm(f, axis=1, keepdims=True) for f in frames]
    return Data(unit, language, queries, scores, background, known, around)


def recalls(data: Data, name: str, queries: np.ndarray, candidates: np.ndarray | None = None) -> Iterator[Row]:
    """A row for each way with hubs: recall at each K, in all other languages and within each of them."""
    candidates = queries if candidates is None else candidates
    spoken = data.language[data.queries]
    scale = slope(data, queries, candidates)
    products = scale * (queries[data.queries] @ candidates.T)
    level = {code: scale * (queries[rows].mean(axis=0) @ candidates.T) for code, rows in data.background.items()}
    csls = {code: v - data.known[code].mean(axis=0) + data.around[code] / 2 for code, v in level.items()}
    average = dict.fromkeys(LANGUAGES, np.mean([*csls.values()], axis=0))
    none = dict.fromkeys(LANGUAGES, np.zeros(len(candidates)))
    for hub, less in {"none": none, "mean": level, "csls": csls, "average": average}.items():
        found = products - np.stack([less[code] for code in spoken])
        rows: dict[str, list[list[float]]] = {"all": [], "one": []}
        for n, kind, where, best in data.best:
            estimates = np.where(where, found[n], -np.inf)
            ranks = (estimates[None] > estimates[best][:, None]).sum(axis=1)
            rows[kind].append([float((ranks < k).mean()) for k in KEPT])
        figures = {kind: [round(float(v), 4) for v in np.mean(r, axis=0)] for kind, r in rows.items()}
        print(name, queries.shape[1], hub, figures, flush=True)
        yield {"vectors": name, "width": queries.shape[1], "hubs": hub, **figures}


def slope(data: Data, queries: np.ndarray, candidates: np.ndarray) -> float:
    """SeqSim's change per unit of the inner product, among candidates of one background query."""
    some = np.random.default_rng(1).choice(len(candidates), min(1000, len(candidates)), replace=False)
    top = bottom = 0.0
    for code, rows in data.background.items():
        others = some[data.language[some] != code]
        x, y = queries[rows] @ candidates[others].T, data.known[code][:, others]
        x, y = (v - v.mean(axis=1, keepdims=True) for v in (x, y))
        top, bottom = top + float((x * y).sum()), bottom + float((x * x).sum())
    return top / bottom


def unit(vectors: np.ndarray) -> np.ndarray:
    """Divided by their lengths."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def slices(data: Data, n: int) -> np.ndarray:
    """Means of n equal stretches of time, one behind the other."""
    ends = [np.linspace(0, len(f), n + 1).round().astype(int) for f in data.frames]
    parts = [
        [f[min(a, len(f) - 1) : max(b, min(a, len(f) - 1) + 1)].mean(axis=0) for a, b in pairwise(e)]
        for f, e in zip(data.frames, ends, strict=True)
    ]
    return np.stack([np.concatenate(p) for p in parts])


def muvera(data: Data, k: int, width: int, repetitions: int) -> tuple[np.ndarray, np.ndarray]:
    """MUVERA's encoding (arXiv 2405.19504) both ways: sums against means in each of 2^k buckets, and the mirror.

    An empty bucket's mean is the utterance's frame with the nearest bucket.
    """
    rng, n, dim, buckets = np.random.default_rng(0), len(data.frames), data.flat.shape[1], 1 << k
    sums, means = [], []
    owner = np.repeat(np.arange(n), data.lengths)
    bits = np.array([i.bit_count() for i in range(buckets)])
    for _ in range(repetitions):
        bucket = (data.flat @ rng.standard_normal((dim, k), dtype=np.float32) > 0) @ (1 << np.arange(k))
        projected = data.flat
        if width < dim:
            projected = data.flat @ (rng.choice([-1.0, 1.0], (dim, width)) / np.sqrt(width)).astype(np.float32)
        at = owner * buckets + bucket
        order = np.argsort(at, kind="stable")
        used, first, counts = np.unique(at[order], return_index=True, return_counts=True)
        total = np.zeros((n * buckets, projected.shape[1]), np.float32)
        total[used] = np.add.reduceat(projected[order], first, axis=0)
        mean = np.zeros_like(total)
        mean[used] = total[used] / counts[:, None]
        for empty in np.setdiff1d(np.arange(n * buckets), used):
            i, b = divmod(int(empty), buckets)
            here = slice(data.starts[i], data.starts[i] + data.lengths[i])
            mean[empty] = projected[here][bits[bucket[here] ^ b].argmin()]
        sums.append(total.reshape(n, -1) / data.lengths[:, None])
        means.append(mean.reshape(n, -1))
    both = np.concatenate(sums, axis=1), np.concatenate(means, axis=1)
    return np.concatenate(both, axis=1), np.concatenate(both[::-1], axis=1)


def lemur(data: Data, train: Callable[[np.ndarray, np.ndarray], Features]) -> tuple[np.ndarray, np.ndarray]:
    """LEMUR (arXiv 2601.21853) both ways: a frame's features, their mean, and weights that give best similarities.

    ``train`` makes the features out of frames and their best similarities to some utterances. Weights are the ridge
    regression, in 4096 sample frames, of the best similarity to the utterance.
    """
    rng = np.random.default_rng(6)
    pool = np.concatenate([data.frames[i] for rows in data.background.values() for i in rows])
    sample = pool[rng.choice(len(pool), 4096, replace=False)]
    best = np.empty((len(sample), len(data.frames)), np.float32)
    half = torch.from_numpy(sample).to(getattr(torch, COMPUTE))
    for begin in range(0, len(data.frames), 200):
        part = np.concatenate(data.frames[begin : begin + 200])
        similarity = (torch.from_numpy(part).to(half.dtype) @ half.T).float().numpy()
        starts = data.starts[begin : begin + 200] - data.starts[begin]
        best[:, begin : begin + 200] = np.maximum.reduceat(similarity, starts, axis=0).T
    usual = best.mean(axis=1)
    apart = best - usual[:, None]
    level = apart.mean(axis=0)
    apart -= level
    features = train(sample, apart[:, rng.choice(len(data.frames), min(1024, len(data.frames)), replace=False)])
    known, mean = features(sample), data.means(features(data.flat))
    centre = known.mean(axis=0)
    known, mean = known - centre, mean - centre
    gram = (known.T @ known / len(known)).astype(np.float64)
    gram += 0.01 * np.trace(gram) / len(gram) * np.eye(len(gram))
    weights = np.linalg.solve(gram, known.T @ apart / len(known)).T
    own = level + mean @ np.linalg.solve(gram, known.T @ (usual - usual.mean()) / len(known))
    one = np.ones((len(mean), 1))
    queries, candidates = [mean, weights, one], [weights, mean, own[:, None]]
    return np.concatenate(queries, axis=1).astype(np.float32), np.concatenate(candidates, axis=1).astype(np.float32)


def net(width: int) -> Callable[[np.ndarray, np.ndarray], Features]:
    """LEMUR's features: the hidden layer of a net that predicts the best similarities."""

    def train(sample: np.ndarray, best: np.ndarray) -> Features:
        torch.manual_seed(0)
        hidden = [torch.nn.Linear(sample.shape[1], width), torch.nn.LayerNorm(width), torch.nn.GELU()]
        model = torch.nn.Sequential(*hidden, torch.nn.Linear(width, best.shape[1]))
        x, y = torch.from_numpy(sample), torch.from_numpy(best / best.std())
        optimizer, steps = torch.optim.AdamW(model.parameters(), 1e-3), 1000
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
        for _ in range(steps):
            rows = torch.randint(0, len(x), (256,))
            loss = (model(x[rows]) - y[rows]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        body = model[:3]
        return lambda frames: np.concatenate(
            [body(torch.from_numpy(frames[i : i + 50000])).detach().numpy() for i in range(0, len(frames), 50000)]
        )

    return train


def coded(vectors: np.ndarray, kind: str) -> np.ndarray:
    """Vectors as an index keeps them: int8 with a scale a vector, or products of 8-value codes (PQ, 256 centroids)."""
    if kind == "int8":
        scale = np.abs(vectors).max(axis=1, keepdims=True) / 127
        return np.asarray(np.rint(vectors / scale) * scale)
    rng, out = np.random.default_rng(2), np.empty_like(vectors)
    for at in range(0, vectors.shape[1], 8):
        part = vectors[:, at : at + 8]
        centres = part[rng.choice(len(part), 256, replace=False)]
        for _ in range(8):
            code = (part @ centres.T - np.square(centres).sum(axis=1) / 2).argmax(axis=1)
            for c in np.unique(code):
                centres[c] = part[code == c].mean(axis=0)
        out[:, at : at + 8] = centres[code]
    return out


def measure(data: Data) -> Iterator[Row]:
    """Everything tried, row by row."""
    mean = data.means(data.flat)
    yield from recalls(data, "mean of frames", mean)
    halves, quarters = slices(data, 2), slices(data, 4)
    yield from recalls(data, "means of 2 slices", unit(halves))
    yield from recalls(data, "means of 4 slices", unit(quarters))
    yield from recalls(data, "mean and 4 slices", np.concatenate([unit(mean), unit(quarters)], axis=1))
    for k, width, repetitions in ((3, 32, 8), (2, 128, 4), (1, 514, 2)):
        yield from recalls(data, f"MUVERA k{k} proj{width} reps{repetitions}", *muvera(data, k, width, repetitions))
    known = np.concatenate([*data.known.values()]).T
    for n in (128, 256, 512, 750):
        chosen = np.sort(np.random.default_rng(0).choice(known.shape[1], n, replace=False))
        scores = known[:, chosen].copy()
        for code in LANGUAGES:
            scores[data.language == code] -= scores[data.language == code].mean(axis=0)
        yield from recalls(data, f"scores to {n} anchors", unit(scores - scores.mean(axis=1, keepdims=True)))
        anchors = np.concatenate([*data.background.values()])[chosen]
        vectors = AnchorVectors([data.frames[i] for i in anchors], COMPUTE).project(known[:, chosen])
        yield from recalls(data, f"Nyström, {n} anchors", vectors)
    yield from recalls(data, "Nyström, 750 anchors, first 512 values", vectors[:, :512])
    vectors = vectors - vectors.mean(axis=0)  # demotes hubs, too
    for kind in ("int8", "PQ"):
        yield from recalls(data, f"Nyström, 750 anchors, centred, {kind}", vectors, coded(vectors, kind))
    yield from recalls(data, "LEMUR, net of 256", *lemur(data, net(256)))


def main() -> None:
    """Measure the sizes named, and keep the other sizes' figures."""
    torch.set_num_threads(1)
    figures: dict[str, Any] = {"about": __doc__, "kept": KEPT, "sizes": {}}
    if OUT.exists():
        figures = msgspec.json.decode(OUT.read_bytes())
    for size in map(int, sys.argv[1:] or ("1000", "10000")):
        data = load(size, Path(f"runs/index-vectors-{size}.npz"))
        rows: list[Row] = []
        figures["sizes"][str(size)] = {"queries": len(data.queries), "rows": rows}
        for row in measure(data):
            rows.append(row)
            write_text(OUT, msgspec.json.format(msgspec.json.encode(figures).decode(), indent=1) + "\n")


if __name__ == "__main__":
    main()
