"""How fast SeqSim is: ours, a plain loop and the peers against the machine's own matrix product, on real frames.

All pairs of two languages of the prompts, both directions, in one run: the contenders take turns, and a ratio is the median
over the turns of two times that were taken side by side. PyLate and maxsim-cpu are slow, so they get fewer utterances, and ours the
same ones with them. R@1 takes longer and doesn't depend on what else the machine does: it is kept in runs/speed.json.
Writes docs/speed.md and its picture. With ``--folds`` it only prints what evaluating the default method costs against plain SeqSim, with ``--shared`` the table beside a
busy neighbour.
"""

import datetime
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any
from unittest.mock import patch

import matplotlib.pyplot as plt
import msgspec
import numpy as np
import torch

from interlingua.encoding import pool_frames
from interlingua.files import atomic_file, write_text
from interlingua.results import provenance
from interlingua.retrieval.evaluate import Items, Scorer, Speech, evaluate_scores
from interlingua.retrieval.methods import DEFAULT_METHOD, METHODS
from interlingua.retrieval.seqsim import Packed, SimilarityCompute, pack, reduce_directions, seqsim_both
from interlingua.types import FrameArray
from peers import PEERS, run_peer
from stores import prompt_frames

PAIR = ("en", "fr")
TURNS = 2
RUNS = 2  # of each contender in a turn; the better one counts
ROUNDED: tuple[SimilarityCompute, ...] = ("bfloat16", "int8")
POOL = 4  # of the comparison of R@1
SHARED = 60  # utterances a side, beside a busy neighbour
SHARED_TURNS = 5
NEIGHBOUR = "import numpy as np\na = np.ones((512, 512), np.float32)\nwhile True: a @ a"
FOLDED = 215  # prompts a language, of the cost of folds
FOR_PEERS = 12  # utterances a side
LENGTHS = (125, 250, 500, 1000, 1500)  # frames of the curve
TILES = ((1024, 1024), (1024, 2048), (2048, 2048), (2048, 16384))  # shapes that the machine's product is tried with
QUALITY = Path("runs/speed.json")
PAGE = Path(__file__).resolve().parent.parent / "docs" / "speed.md"

Frames = list[FrameArray]


def main() -> None:
    """Measure and write the page."""
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    frames, meanings, clusters = prompt_frames()
    a, b = (frames[lang] for lang in PAIR)
    n, m, dim = sum(map(len, a)), sum(map(len, b)), a[0].shape[1]
    flops = 2 * n * m * dim
    tiles = {name: max(TILES, key=partial(g, n=1 << 14, m=1 << 14)) for name, g in GEMMS.items()}
    contenders: dict[str, Callable[[], float]] = {}
    for name, g in GEMMS.items():  # a product and ours of one format side by side: the machine's pace drifts
        contenders[f"machine's product, {name}"] = partial(product_seconds, g, tiles[name], n, m, dim)
        contenders[f"ours, {name}"] = partial(seconds, partial(seqsim_both, a, b, compute=name))
    contenders["plain loop, float32"] = lambda: seconds(lambda: plain_loop(a, b))
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(TURNS):
        for contender, run in contenders.items():
            times[contender].append(min(run() for _ in range(RUNS)))
            print(f"{turn} {contender}: {times[contender][-1]:.2f} s", flush=True)
    exact, loop = seqsim_both(a[:20], b[:20]), plain_loop(a[:20], b[:20])
    error = max(float(np.abs(x - y).max()) for x, y in zip(exact, loop, strict=True))
    peers = [against_peer(name, a, b) for name in PEERS]
    shared = beside_a_neighbour(a, b)
    curve = lengths_curve(a, b)
    draw(curve, PAGE.parent / "images" / "linear.png")
    quality = recall(frames, meanings, clusters)
    made = msgspec.to_builtins(provenance("both", "cpu", time.monotonic() - clock, started))
    write_text(PAGE, page(times, flops, peers, shared, error, quality, made, (n, m, dim, len(a), len(b))))


def seconds(work: Callable[[], Any]) -> float:
    """One run."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def gemm(
    make: Callable[[int, int], torch.Tensor], product: Callable[..., Any], out: torch.dtype
) -> Callable[..., float]:
    """The machine's own product of (n, 512) and (512, m), tile by tile into one buffer -> operations a second."""

    def run(tile: tuple[int, int], n: int, m: int, dim: int = 512) -> float:
        rows, columns = tile
        left, right = make(rows, dim), make(columns, dim).T
        buffer = torch.empty(rows, columns, dtype=out)
        count = max(1, round(n * m / (rows * columns)))
        product(left, right, buffer)
        spent = seconds(lambda: [product(left, right, buffer) for _ in range(count)])
        return 2 * rows * columns * dim * count / spent

    return run


def product_seconds(product: Callable[..., float], tile: tuple[int, int], n: int, m: int, dim: int) -> float:
    """What the machine's own product of (n, dim) and (dim, m) takes."""
    return 2 * n * m * dim / product(tile, n, m)


def floats(dtype: torch.dtype) -> Callable[..., float]:
    """The product of a floating type."""
    return gemm(lambda r, d: torch.randn(r, d).to(dtype), lambda x, y, out: torch.mm(x, y, out=out), dtype)


GEMMS: dict[SimilarityCompute, Callable[..., float]] = {
    "float32": floats(torch.float32),
    "bfloat16": floats(torch.bfloat16),
    "int8": gemm(
        lambda r, d: torch.randint(-127, 128, (r, d), dtype=torch.int8),
        lambda x, y, out: torch._int_mm(x, y, out=out),
        torch.int32,
    ),
}


def plain_loop(a: Frames, b: Frames) -> tuple[np.ndarray, np.ndarray]:
    """What one writes first: pair by pair, both maxima of one product."""
    queries, candidates = pack(a).utterances(), pack(b).utterances()
    precision, recall = np.empty((len(a), len(b)), np.float32), np.empty((len(a), len(b)), np.float32)
    for i, q in enumerate(queries):
        for j, c in enumerate(candidates):
            s = q @ c.T
            precision[i, j], recall[i, j] = s.amax(1).mean(), s.amax(0).mean()
    return precision, recall


def against_peer(name: str, a: Frames, b: Frames) -> list[str]:
    """A row: the peer's time and ours on the same utterances, and how far its scores are from ours."""
    a, b = a[:FOR_PEERS], b[:FOR_PEERS]
    ours = seqsim_both(a, b)
    before = min(seconds(lambda: seqsim_both(a, b)) for _ in range(3))
    result = run_peer(name, a, b, threads=torch.get_num_threads())
    after = min(seconds(lambda: seqsim_both(a, b)) for _ in range(3))
    fast = [min(seconds(partial(seqsim_both, a, b, compute=c)) for _ in range(3)) for c in ROUNDED]
    mine = min(before, after)
    if result.seconds is None or result.precision is None or result.recall is None:
        return [f"`{name}`", result.error or "", "", "", "", ""]
    apart = max(float(np.max(np.abs(x - y))) for x, y in zip((result.precision, result.recall), ours, strict=True))
    row = [
        f"`{name}`",
        f"{result.seconds:.2f}",
        f"{result.seconds / mine:.1f}x",
        *(f"{result.seconds / other:.1f}x" for other in fast),
        f"{apart:.4f}",
    ]
    print(row, flush=True)
    return row


def beside_a_neighbour(a: Frames, b: Frames) -> list[list[str]]:
    """Rows: seconds on a quiet machine and beside a process that keeps one core busy, turn by turn, and the factor."""
    a, b = a[:SHARED], b[:SHARED]
    n, m, dim = sum(map(len, a)), sum(map(len, b)), a[0].shape[1]
    contenders: dict[str, Callable[[], float]] = {
        "machine's product, float32": partial(product_seconds, GEMMS["float32"], TILES[0], n, m, dim),
        "ours, float32": lambda: seconds(lambda: seqsim_both(a, b)),
        "plain loop, float32": lambda: seconds(lambda: plain_loop(a, b)),
    }
    quiet: dict[str, list[float]] = {name: [] for name in contenders}
    busy: dict[str, list[float]] = {name: [] for name in contenders}
    for name, run in contenders.items():
        run()
        for _ in range(SHARED_TURNS):
            quiet[name].append(run())
            one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
            neighbour = subprocess.Popen([sys.executable, "-c", NEIGHBOUR], env=one_thread)
            try:
                time.sleep(1.0)  # until it multiplies
                busy[name].append(run())
            finally:
                neighbour.kill()
                neighbour.wait()
        print(f"{name}: {np.median(quiet[name]):.2f} s, busy {np.median(busy[name]):.2f} s", flush=True)
    return [
        [name, f"{np.median(quiet[name]):.2f}", f"{np.median(busy[name]):.2f}", ratio(busy[name], quiet[name])]
        for name in contenders
    ]


def lengths_curve(a: Frames, b: Frames) -> dict[str, list[float]]:
    """Seconds of 16 x 16 utterances: one side's length grows, then the other's."""
    long_a, long_b = np.concatenate(a), np.concatenate(b)

    def side(frames: np.ndarray, length: int) -> Frames:
        return [frames[i * length : (i + 1) * length] for i in range(16)]

    def best(q: Frames, c: Frames) -> float:
        return min(seconds(lambda: seqsim_both(q, c)) for _ in range(7))

    return {
        "query": [best(side(long_a, t), side(long_b, 250)) for t in LENGTHS],
        "candidate": [best(side(long_a, 250), side(long_b, t)) for t in LENGTHS],
    }


def draw(curve: dict[str, list[float]], path: Path) -> None:
    """Both curves with the line through the longest."""
    figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
    for (name, values), colour in zip(curve.items(), ("#3b7dd8", "#d8733b"), strict=True):
        axes.plot(LENGTHS, [1000 * v for v in values], marker="o", color=colour, label=f"frames of each {name}")
    top = 1000 * curve["query"][-1]
    axes.plot([0, LENGTHS[-1]], [0, top], color="#999999", linestyle="--", linewidth=1, label="proportional")
    axes.set(
        xlabel="frames (20 ms each); the other side has 250",
        ylabel="ms for 16 x 16 utterances",
        xlim=(0, None),
        ylim=(0, None),
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=160, format="png")
    plt.close(figure)


def recall(frames: dict[str, Frames], meanings: list[str], clusters: list[str]) -> dict[str, float]:
    """Mean R@1 of the 20 pairs in each number format, and the largest difference of a score; kept."""
    if QUALITY.exists():
        return dict(json.loads(QUALITY.read_text(encoding="utf-8")))
    items = Items(meanings, meanings, clusters)
    formats: tuple[SimilarityCompute, ...] = ("float32", *ROUNDED)
    found: dict[str, list[float]] = {name: [] for name in formats}
    apart = dict.fromkeys(ROUNDED, 0.0)
    pooled = {lang: [pool_frames(f, POOL) for f in side] for lang, side in frames.items()}
    for a, b in combinations(pooled, 2):
        both = {}
        for compute in formats:
            both[compute] = reduce_directions(*seqsim_both(pooled[a], pooled[b], compute=compute), "f1")
            found[compute] += [evaluate_scores(s, items, items).r1 for s in (both[compute], both[compute].T)]
        apart |= {c: max(apart[c], float(np.abs(both["float32"] - both[c]).max())) for c in ROUNDED}
        print(f"R@1 {a}-{b} done", flush=True)
    quality = {name: float(np.mean(r1)) for name, r1 in found.items()} | {f"{c} apart": apart[c] for c in ROUNDED}
    write_text(QUALITY, json.dumps(quality))
    return quality


def page(
    times: dict[str, list[float]],
    flops: int,
    peers: list[list[str]],
    shared: list[list[str]],
    error: float,
    quality: dict[str, float],
    made: dict[str, Any],
    sizes: tuple[int, int, int, int, int],
) -> str:
    """docs/speed.md."""
    n, m, dim, utterances, others = sizes
    products = [name for name in times if name.startswith("machine")]
    fastest = min(products, key=lambda name: np.median(times[name]))
    columns = {"of float32 product": products[0], "of fastest product": fastest}
    head = ["", "s (median)", "GFLOP/s", *columns, "speed of the plain loop"]
    rows = []
    for name, taken in times.items():
        mid = float(np.median(taken))
        shares = [ratio(times[against], taken) for against in columns.values()]
        rows.append(
            [name, f"{mid:.2f}", f"{flops / mid / 1e9:.0f}", *shares, ratio(times["plain loop, float32"], taken)]
        )
    return f"""# How fast SeqSim is

Written by `make bench-seqsim` (`benchmarks/seqsim.py`), not by hand: {made["started"][:10]}, {made["device"]["name"]},
{made["device"]["threads"]} threads, torch {made["packages"]["torch"]}.

## Against the machine

All pairs of {utterances} {PAIR[0]} and {others} {PAIR[1]} prompts, unpooled real frames ({n} and {m} of {dim} values), both directions:
{flops / 1e12:.2f} TFLOP. The contenders took turns, {TURNS} times, the better of {RUNS} runs each; a ratio is the median over the turns of two times taken side by side, in brackets
the lowest and highest. The machine's product is the same number of operations on tiles, of the fastest of four shapes, and nothing else.

{table(head, rows)}

Fastest product: {fastest.removeprefix("machine's product, ")}. Ours, normalising and packing included. The plain loop is
`s = a @ b.T; s.amax(1).mean(), s.amax(0).mean()` for each pair, normalising included, too; ours in float32 is within {error:.0e} of it.
Mean R@1 of the 20 pairs, frames pooled by {POOL}: {100 * quality["float32"]:.2f}% in float32; {"; ".join(f"{100 * quality[c]:.2f}% in {c}, which changes a score by {quality[f'{c} apart']:.4f} at most" for c in ROUNDED)}.

## Against the peers

{FOR_PEERS} x {FOR_PEERS} of the same utterances, both directions, {made["device"]["threads"]} threads; ours measured before and after each peer.

{table(["peer", "s", "times ours, float32", *(f"times ours, {c}" for c in ROUNDED), "largest difference of a score"], peers)}

`pylate` is `colbert_scores` (1.6.0), one query against batches of zero-padded documents, as its `rerank` calls it; `pylate-all` the same with batches on both sides, as its
signature offers; `pylate-pairs` its pairwise form, where
nothing is padded. `maxsim-cpu` (0.1.0) is written for short queries: its products take 8 query frames at D = 512, and beyond that it
crashes or returns wrong scores; `maxsim-cpu-rows` feeds it 8 rows at a time and adds up. What each does is described in
[`benchmarks/peers.py`](../benchmarks/peers.py).

## On a machine that others use

{SHARED} x {SHARED} of the same utterances, alone and beside one process that keeps a core busy, in turns, {SHARED_TURNS} times; medians, and in brackets the lowest and highest factor.
Each thread takes tiles of its own and none waits for another; one busy core of two leaves three quarters of the machine.

{table(["", "s, quiet", "s, one core busy", "factor"], shared)}

## Cost grows linearly in each side

![Time over the number of frames](images/linear.png)

## Where the time goes

The product is bound by the processor's multipliers; the maxima of its rows and columns would be bound by memory if the similarities
left the cache. So they are computed in tiles of 4 MB, of whole utterances on both sides, and reduced at once. torch takes maxima of bfloat16
one by one, but integers many at a time: the bits of floats of one sign sort as integers do, so bfloat16 is
compared as int16. Shapes are rounded up to multiples of 32 frames, since the library prepares every new shape of a product anew. For int8 all frames are first
rotated by one random orthogonal matrix, which keeps their products and spreads Whisper's few large dimensions over all, so that one unit fits all values. On a GPU a fused kernel exists (`retrieval/seqsim_cuda.py`), checked by an interpreter only: no GPU was at hand.
"""


def ratio(base: list[float], other: list[float]) -> str:
    """Median, lowest and highest of base / other, turn by turn."""
    shares = np.array(base) / np.array(other)
    return f"{np.median(shares):.2f} [{shares.min():.2f}, {shares.max():.2f}]"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows])


def folds() -> None:
    """What the folds of a method cost against plain SeqSim on all pairs of two languages: multiply-adds and seconds."""
    frames, _, clusters = prompt_frames()
    speech = {
        lang: Speech([pool_frames(f, POOL) for f in frames[lang][:FOLDED]], [1.0] * FOLDED, clusters[:FOLDED])
        for lang in PAIR
    }
    costs = {method: fold_cost(speech, method) for method in ("seqsim", "whitened", DEFAULT_METHOD)}
    for method, (products, spent) in costs.items():
        plain = costs["seqsim"]
        print(
            f"{method}: {products / plain[0]:.2f} x the multiply-adds, {spent / plain[1]:.2f} x the time ({spent:.2f} s)"
        )


def fold_cost(speech: dict[str, Speech], method: str) -> tuple[int, float]:
    """Products of frames, and the better of two times, of evaluating a method."""
    products = 0

    def counted(a: Packed, b: Packed) -> Any:
        nonlocal products
        products += sum(a.lengths) * sum(b.lengths)
        return seqsim_both(a, b)

    with patch("interlingua.retrieval.evaluate.seqsim_both", counted):
        spent = min(seconds(lambda: Scorer(speech, METHODS[method]).score([PAIR])) for _ in range(RUNS))
    return products // RUNS, spent


if __name__ == "__main__":
    if sys.argv[1:] == ["--folds"]:
        folds()
    elif sys.argv[1:] == ["--shared"]:
        print(
            table(
                ["", "s, quiet", "s, one core busy", "factor"],
                beside_a_neighbour(*(prompt_frames()[0][lang] for lang in PAIR)),
            )
        )
    else:
        main()
