"""Write docs/results.md, the pictures and README's block of figures from the runs of `make docs`.

Reads runs/demo-full, runs/as-found and runs/study; measures nothing itself.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from interlingua.errors import InterlinguaError, ResultsError
from interlingua.files import write_text
from interlingua.report import alignment_heatmap, recall_heatmap
from interlingua.results import Corpus, Results, Retrieval, load_results, name_of
from interlingua.retrieval.methods import DEFAULT_METHOD, method_label
from interlingua.types import Score

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- begin: written by docs/update.py -->", "<!-- end -->"


def main() -> None:
    """Write everything; the runs must be there."""
    full, arrays = load_results(ROOT / "runs" / "demo-full")
    found, _ = load_results(ROOT / "runs" / "as-found")
    images = ROOT / "docs" / "images"
    recall_heatmap(full, images / "recall.png")
    alignment_heatmap(full, arrays, images / "alignment.png")
    write_text(ROOT / "docs" / "results.md", results_page(full, found))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    write_text(ROOT / "README.md", f"{before}{BEGIN}\n{summary(full)}\n\n{improved(study())}\n{END}{after}")


def summary(results: Results) -> str:
    """README's paragraph."""
    rows = list(results.scores("seqsim").values())
    low, high = min(rows, key=lambda r: r.r1), max(rows, key=lambda r: r.r1)
    controls = [f"{method_label(m)} {mean_r1(results, m):.1%}" for m in results.methods if m != "seqsim"]
    return (
        f"*{len(rows)} ordered pairs, {rows[0].n} prompts in {rows[0].n_clusters} clusters, Whisper-base as it is, "
        f"no training. R@1 lies between {low.r1:.0%} ({pair(low)}) and {high.r1:.0%} ({pair(high)}), "
        f"{mean_r1(results, 'seqsim'):.1%} on average; chance is {rows[0].chance:.1%}. On the same pairs: "
        f"{', '.join(controls)}. Written by `make docs` (`make demo` pools frames by 2).*"
    )


def study() -> dict[str, Any]:
    """What `make study` measured.

    Raises:
        ResultsError: it hasn't run.
    """
    path = ROOT / "runs" / "study" / "results.json"
    if not path.exists():
        raise ResultsError(f"{path}: not there; run `make study` first")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def improved(found: dict[str, Any]) -> str:
    """README's paragraph on the methods."""
    r1 = {m: 100 * float(np.mean(list(r["hits"].values()))) for m, r in found["methods"].items()}
    return (
        f"*Better, without labels: whitened frames with their position, and CSLS (`--method {DEFAULT_METHOD}`, the default) reach "
        f"{r1[DEFAULT_METHOD]:.1f}% where SeqSim reaches {r1['seqsim']:.1f}% on the same frames (pooled by 4), and the cascade that translates first "
        f"{r1['cascade']:.1f}% ([how, and what else was tried](docs/seqsim.md), by `make study`).*"
    )


def results_page(full: Results, found: Results) -> str:
    """docs/results.md."""
    made = full.provenance
    rows, as_found = list(full.scores("seqsim").values()), list(found.scores("seqsim").values())
    corpus = full.corpus or Corpus()
    bleu, chrf = (score.signature if score else None for score in (full.translation[0].bleu, full.translation[0].chrf))
    n, as_found_n = rows[0].n or 0, as_found[0].n or 0
    parts = [
        "# Results",
        f"Written by `make docs` (`docs/update.py`), not by hand. `{made.command}` at {made.commit}"
        f"{' with uncommitted changes' if made.dirty else ''}, {(made.started or '')[:10]}, "
        f"on {made.device['name']}, {made.device['threads']} threads, encoder in {made.device['compute']}; "
        + ", ".join(f"{k} {v}" for k, v in made.packages.items())
        + f". Model {full.settings['model_name']}, last layer, frames not pooled. "
        "How to read the figures: [retrieval.md](retrieval.md).",
        "## Retrieval",
        "![R@1](images/recall.png)",
        table(
            [
                "query → candidates",
                "R@1 [95% CI]",
                "R@5",
                "R@10",
                "MRR",
                "R@1, near-duplicates right (chance)",
                "chance",
            ],
            [
                [
                    pair(r),
                    "{:.3f} [{:.3f}, {:.3f}]".format(r.r1, *(r.r1_ci or (np.nan, np.nan))),
                    *(f"{value:.3f}" for value in (r.r5, r.r10, r.mrr)),
                    f"{r.r1_cluster:.3f} ({r.chance_cluster:.3f})",
                    f"{r.chance:.4f}",
                ]
                for r in rows
            ],
        ),
        f"n = {n} queries and as many candidates. `{rows[0].signature}`",
        "### Methods and controls, mean R@1 over the pairs",
        table(
            ["method", "pairs", "mean R@1", "lowest", "highest"],
            [
                [method_label(m), str(len(r1)), f"{mean_r1(full, m):.3f}", f"{min(r1):.3f}", f"{max(r1):.3f}"]
                for m in full.methods
                if (r1 := [r.r1 for r in full.scores(m).values()])
            ],
        ),
        "### With the prompts that aren't speech",
        f"Earlier figures counted {as_found_n} prompts, {as_found_n - n} "
        "of them silences and beeps, and encoded in float32. The same here:",
        table(
            ["pair", "R@1, both directions", f"without them, {made.device['compute']}"],
            [[f"en-{lang}", both(found, "en", lang), both(full, "en", lang)] for lang in ("es", "fr", "it", "ru")],
        ),
        "## One match, frame by frame",
        "![SeqSim alignment](images/alignment.png)",
        "The best-scoring correct match of 3 to 8 s: an illustration, not a measurement.",
        "## Translation into English, before any training",
        table(
            ["source", "n", "BLEU [95% CI]", "chrF [95% CI]"],
            [[name_of(r.source), str(r.n), interval(r.bleu), interval(r.chrf)] for r in full.translation],
        ),
        f"Greedy, full context, float32. `{bleu}`, `{chrf}`",
        "## Corpus",
        *(f"- {rule}" for rule in corpus.rules),
        table(
            ["language", "recordings", "seconds", "voice", "licence"],
            [[c.variety or "", str(c.n), f"{c.seconds:.0f}", c.voice or "", c.licence or ""] for c in corpus.languages],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def mean_r1(results: Results, method: str) -> float:
    """Mean R@1 over the pairs of a method."""
    return float(np.mean([r.r1 for r in results.scores(method).values()]))


def pair(row: Retrieval) -> str:
    """``en → fr``."""
    return f"{row.query} → {row.candidate}"


def both(results: Results, a: str, b: str) -> str:
    """R@1 of both directions of a pair."""
    scores = results.scores("seqsim")
    return f"{scores[a, b].r1:.3f} {scores[b, a].r1:.3f}"


def interval(score: Score | None) -> str:
    """A score with its interval."""
    if score is None or score.ci is None:
        return "–"
    return f"{score.value:.1f} [{score.ci[0]:.1f}, {score.ci[1]:.1f}]"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    try:
        main()
    except InterlinguaError as e:
        sys.exit(f"docs/update.py: {e}")
