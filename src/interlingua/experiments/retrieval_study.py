"""The retrieval experiment as a recipe: a corpus, a model, methods -> R@1 of every pair, beside others' figures.

Ma et al. (arXiv 2407.01130), section 4.2: FLEURS' en, fr, de, zh, ja, and seven languages of MaSS.
"""

import datetime
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from interlingua.encoding import WhisperEncoder, best_compute, best_device, encode_manifest
from interlingua.errors import UsageError
from interlingua.experiments.corpus_source import CorpusSource
from interlingua.experiments.finetuning import begun_with
from interlingua.experiments.needs import encoding_needs, not_encoded
from interlingua.experiments.published import PAPER_CHANCE, UNKNOWN, read_published
from interlingua.experiments.retrieval import Corpus, evaluate_retrieval
from interlingua.experiments.utterances import UtteranceLog
from interlingua.models import load_whisper
from interlingua.resampling import BOOTSTRAP_SEED
from interlingua.results import provenance, save_results
from interlingua.retrieval.methods import DEFAULT_METHOD, METHODS, Method
from interlingua.retrieval.scoring import FOLD_SEED, LEAST_CLUSTERS
from interlingua.types import Utterance

EXAMPLE = '{"retrieval": [{"query": "en", "candidate": "fr", "method": "seqsim", "r1": 0.5}]}'


@dataclass(frozen=True, kw_only=True)
class RetrievalStudy:
    """Settings of the experiment; the keys of its recipe.

    Attributes:
        out: the result folder; manifest and frames are kept in it.
        corpus: what is compared.
        model: model spec.
        methods: how to score; the first is shown as a picture.
        layer: encoder layer, 1-based; None: the last.
        pool: frames averaged into one; 1 = none.
        published: JSON with figures of others, ``{"retrieval": [{"query", "candidate", "method", "r1"}]}``, 0 to 1.
    """

    out: Path
    corpus: CorpusSource
    model: str = "base"
    methods: tuple[Method, ...] = ("seqsim", DEFAULT_METHOD, "mean-pool")
    layer: int | None = None
    pool: int = 1
    published: Path | None = None

    def __post_init__(self) -> None:
        """Check what can be checked before the work.

        Raises:
            UsageError: no method, an unknown one, or the cascade, which takes more than a recipe says.
        """
        require_methods(self.methods)
        if self.pool < 1:
            raise UsageError(f"pool: {self.pool}; use 1 (no pooling) or more")

    def plan(self) -> str:
        """What will be done, in a line."""
        which = ", ".join(self.corpus.languages) or "every language"
        return f"retrieval on {self.corpus.title} ({which}), {self.model}, {', '.join(self.methods)}"


def run_retrieval_study(study: RetrievalStudy, *, dry_run: bool = False, log: Callable[[str], None] = print) -> Path:
    """Encode what isn't encoded yet, score every pair, and write ``results.json``.

    Args:
        study: the settings.
        dry_run: only read the corpus, and say what the rest will need.
        log: takes a line of news.

    Raises:
        InterlinguaError: see the stages.
    """
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    beside([], study.published)  # a file that can't be read is told before the work
    utterances = study.corpus.utterances(study.out, log)
    device = best_device()
    compute = best_compute(device)
    encoder = WhisperEncoder(
        load_whisper(study.model, dtype=compute, device=device), context="speech", layer=study.layer
    )
    path = study.out / f"frames-{study.pool}.lance"
    log(f"to encode: {encoding_needs(not_encoded(utterances, path), encoder, study.pool)}")
    if dry_run:
        return study.out
    spec = encoder.spec
    begun_with(study.out / "begun.json", {"model": study.model, "revision": spec.revision, "layer": spec.layer})
    store, report = encode_manifest(utterances, encoder, path, pooling=study.pool)
    corpus = Corpus.of(utterances, store)
    kept = UtteranceLog(utterances)
    rows: list[dict[str, Any]] = []
    arrays: dict[str, Any] = {}
    shown: dict[str, Any] = {}
    for method in usable_methods(study.methods, utterances, log):
        measured, matrices = evaluate_retrieval(
            utterances, store, method, corpus=corpus, compute=compute, device=device, log=kept
        )
        rows += measured
        if not arrays:
            (query, candidate), matrix = next(iter(matrices.items()))
            arrays["similarity"] = matrix
            shown = {"query": query, "candidate": candidate, "method": method}
    results = {
        "title": f"Cross-lingual speech retrieval: {study.corpus.title}",
        "retrieval": rows,
        "published": beside(rows, study.published) + beside_chance(rows, study.corpus.name),
        "similarity": shown,
        "settings": {**vars(store.spec), **study.corpus.settings(study.out)},
        "failures": [f"{name}: {why}" for name, why in report.failed.items()],
        "provenance": provenance(
            compute,
            device,
            time.monotonic() - clock,
            started,
            utterances=utterances,
            seeds={"bootstrap": BOOTSTRAP_SEED, "folds": FOLD_SEED},
        ),
    }
    save_results(study.out, results, arrays, kept.results)
    return study.out


def usable_methods(
    methods: Sequence[Method], utterances: Sequence[Utterance], log: Callable[[str], None]
) -> list[Method]:
    """Those that there are clusters enough for; the default one estimates on some and tests on others."""
    enough = len({u.cluster or u.meaning for u in utterances}) >= LEAST_CLUSTERS
    if not enough and DEFAULT_METHOD in methods:
        log(f"{DEFAULT_METHOD} is left out: it takes {LEAST_CLUSTERS} clusters of meanings")
    return [m for m in methods if enough or m != DEFAULT_METHOD]


def require_methods(methods: Sequence[Method]) -> None:
    """Raise UsageError for a recipe's methods: none, an unknown one, or the cascade, which takes more than it says."""
    for name in methods:
        if name not in METHODS or name == "cascade":
            raise UsageError(f"methods: {name!r} can't be used here; use {', '.join(METHODS)}")
    if not methods:
        raise UsageError(f"methods: name one or more of {', '.join(METHODS)}")


def beside(rows: Sequence[dict[str, Any]], published: Path | None) -> list[dict[str, Any]]:
    """Our R@1 beside others': ``{"query", "candidate", "method", "ours", "published"}``; the last may be a reason.

    The paper's own table couldn't be read when this was written, so without a file the column says so.

    Raises:
        UsageError: the file can't be read, or isn't of that form.
    """
    theirs = read_published(published, "retrieval", ("query", "candidate", "method"), ("r1",), EXAMPLE)
    for _, _, method, _ in theirs:
        if method not in METHODS:
            raise UsageError(f"{published}: no method {method!r}; use one of {', '.join(METHODS)}")
    return [
        {
            "query": r["query"],
            "candidate": r["candidate"],
            "method": r["method"],
            "ours": r["r1"],
            "published": theirs.get((r["query"], r["candidate"], r["method"], "r1"), UNKNOWN),
        }
        for r in rows
    ]


def beside_chance(rows: Sequence[dict[str, Any]], corpus: str) -> list[dict[str, Any]]:
    """The mean chance of all pairs beside the paper's, where that is known; see `beside`."""
    if corpus not in PAPER_CHANCE:
        return []
    ours = fmean(r["chance"] for r in rows)
    theirs = PAPER_CHANCE[corpus]
    return [{"query": "mul", "candidate": "mul", "method": "chance", "ours": ours, "published": theirs}]
