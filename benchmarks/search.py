"""Coarse-to-fine search against the exhaustive one: speed, R@1 and agreement over the size of the gallery.

English prompts search a French gallery of prompts, their perturbed copies and spliced distractors (benchmarks/gallery.py),
all frames real encoder output. Both searches are ours, in one process, on the same packed gallery; the time is that of searching, packing the
gallery apart. Writes docs/search.md and its picture. The gallery takes about ten minutes to encode, once.
"""

import datetime
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import msgspec
import numpy as np

from gallery import Item, gallery_frames
from interlingua.files import atomic_file, write_text
from interlingua.results import provenance
from interlingua.retrieval.methods import DEFAULT_METHOD
from interlingua.retrieval.search import STAGES, Gallery, Ranking, Stage, agreement
from interlingua.types import FrameArray
from stores import COMPUTE, prompt_frames

QUERY, LANGUAGE = "en", "fr"
SIZES = (645, 1290, 2580, 5160)
TOP = 10
EVERY = 3  # a third of the prompts are queries
DEFAULT = " ".join(f"{stage.pooling}:{stage.keep}" for stage in STAGES)
SETTINGS = (  # at the full size; the default's curve is drawn over all sizes
    "8:100",
    "8:150",
    "16:600 4:60",
    "8:200 4:60",
    DEFAULT,
    "8:300 4:80",
)
PAGE = Path(__file__).resolve().parent.parent / "docs" / "search.md"


def main() -> None:
    """Measure and write the page."""
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    frames, meanings, _ = prompt_frames()
    store, items = gallery_frames(SIZES[-1], (LANGUAGE,), held=False, pooling=1)
    held = [f.speech.astype(np.float32) for f in store.read([item.id for item in items])]
    prompts = len(meanings)
    queries, meanings = frames[QUERY][::EVERY], meanings[::EVERY]
    curve: list[dict[str, Any]] = []
    settings: list[dict[str, Any]] = []
    for size in SIZES:
        part = held[:size]
        slow, exhaustive = timed(part, (), queries, frames[QUERY])
        for name in SETTINGS if size == SIZES[-1] else (DEFAULT,):
            fast = timed(part, [Stage.parse(text) for text in name.split()], queries, frames[QUERY])
            row = compared(name, size, fast, (slow, exhaustive), items, meanings)
            settings += [row] if size == SIZES[-1] else []
            curve += [row] if name == DEFAULT else []
    draw(curve, PAGE.parent / "images" / "search.png")
    made = msgspec.to_builtins(provenance(COMPUTE, "cpu", time.monotonic() - clock, started))
    write_text(PAGE, page(curve, settings, made, items, len(queries), prompts))


def timed(
    part: Sequence[FrameArray],
    stages: Sequence[Stage],
    queries: Sequence[FrameArray],
    background: Sequence[FrameArray],
) -> tuple[float, Ranking]:
    """Seconds of searching, and the ranking."""
    gallery = Gallery(part, stages=stages, compute=COMPUTE)
    start = time.perf_counter()
    ranking = gallery.search(queries, TOP, background=background)
    return time.perf_counter() - start, ranking


def compared(
    name: str,
    size: int,
    fast: tuple[float, Ranking],
    slow: tuple[float, Ranking],
    items: Sequence[Item],
    meanings: Sequence[str],
) -> dict[str, Any]:
    """One row: the coarse search and the exhaustive one."""
    row = {
        "setting": name,
        "size": size,
        "seconds": fast[0],
        "exhaustive": slow[0],
        "agreement": agreement(fast[1], slow[1]),
        "first": float((fast[1].candidates[:, 0] == slow[1].candidates[:, 0]).mean()),
    }
    for label, (_, ranking) in (("fast", fast), ("slow", slow)):
        hits = [
            [items[i].meaning == m for i in positions]
            for positions, m in zip(ranking.candidates, meanings, strict=True)
        ]
        row[f"{label}_r1"], row[f"{label}_r10"] = (
            float(np.mean([h[0] for h in hits])),
            float(np.mean([any(h) for h in hits])),
        )
    print(row, flush=True)
    return row


def page(
    curve: list[dict[str, Any]],
    settings: list[dict[str, Any]],
    made: dict[str, Any],
    items: Sequence[Item],
    n: int,
    prompts: int,
) -> str:
    """docs/search.md."""
    spliced = sum("spliced" in item.kind for item in items)
    default = next(r for r in settings if r["setting"] == DEFAULT)
    return f"""# Coarse-to-fine search

Written by `make bench-search` (`benchmarks/search.py`), not by hand: {made["started"][:10]}, {made["device"]["name"]},
{made["device"]["threads"]} threads, encoder and products in {made["device"]["compute"]}, torch {made["packages"]["torch"]}.

Pooling frames by p on both sides makes SeqSim p² times cheaper. A coarse pass over the whole gallery keeps the best candidates of each query, and exact
SeqSim ranks those alone. `--coarse {DEFAULT}` (the default of `interlingua search`) pools by 8 and keeps 300, pools by 4 and keeps 60 of these, and ranks them exactly.

{n} English prompts (every third) search a French gallery of {len(items)}: the prompts, {len(items) - prompts} copies by the recipe of `benchmarks/gallery.py`, of which {spliced} are two or three prompts in a row
and so are distractors. All copies of a sentence are relevant. Ranked by `{DEFAULT_METHOD}`: the gallery is whitened by itself, the queries by all English prompts, among which each candidate's neighbourhood is taken, too (frames pooled as in the first pass); so R@1 here is not that of held-out estimates.
**Recall@10**: the proportion of the exhaustive ranking's ten best that the coarse search returns.

## At {SIZES[-1]} candidates

{rows(settings, "setting")}

The default is {default["exhaustive"] / default["seconds"]:.1f} times as fast as our own exhaustive search, finds {100 * default["agreement"]:.1f}% of its ten best, and loses {100 * (default["slow_r1"] - default["fast_r1"]):.1f} points of R@1.

## Over the size of the gallery, `{DEFAULT}`

![Speed and agreement](images/search.png)

{rows(curve, "size")}
"""


def rows(part: list[dict[str, Any]], first: str) -> str:
    """A Markdown table."""
    head = [first, "s", "exhaustive, s", "speed", "recall@10", "same first", "R@1 (exhaustive)", "R@10 (exhaustive)"]
    lines = [
        [
            str(r[first]),
            f"{r['seconds']:.1f}",
            f"{r['exhaustive']:.1f}",
            f"{r['exhaustive'] / r['seconds']:.1f}x",
            f"{100 * r['agreement']:.1f}%",
            f"{100 * r['first']:.1f}%",
            *(f"{100 * r[f'fast_{k}']:.1f} ({100 * r[f'slow_{k}']:.1f})" for k in ("r1", "r10")),
        ]
        for r in part
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines])


def draw(part: list[dict[str, Any]], path: Path) -> None:
    """Times and agreement over the size."""
    sizes = [r["size"] for r in part]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    left.plot(sizes, [r["exhaustive"] for r in part], marker="o", color="#1c1c1c", label="exhaustive")
    left.plot(sizes, [r["seconds"] for r in part], marker="o", color="#3b7dd8", label=f"--coarse {DEFAULT}")
    left.set(xlabel="gallery", ylabel="s for all queries", xlim=(0, None), ylim=(0, None))
    left.legend(frameon=False)
    right.plot(
        sizes,
        [100 * r["agreement"] for r in part],
        marker="o",
        color="#3b7dd8",
        label="recall@10 of the exhaustive ranking",
    )
    right.plot(sizes, [100 * r["first"] for r in part], marker="o", color="#d8733b", label="same first candidate")
    right.set(
        xlabel="gallery",
        ylabel="%",
        xlim=(0, None),
        ylim=(min(90, *(100 * r[k] - 1 for r in part for k in ("agreement", "first"))), 100.4),
    )
    right.legend(frameon=False, loc="lower left")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=160, format="png")
    plt.close(figure)


if __name__ == "__main__":
    main()
