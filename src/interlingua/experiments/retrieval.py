"""Retrieval between all ordered language pairs of a manifest, from a frame store to rows of results."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import partial
from itertools import combinations
from typing import Any, TypeVar, get_args

import numpy as np

from interlingua.errors import CorpusError, UsageError
from interlingua.experiments.config import Method
from interlingua.progress import track
from interlingua.results import finite
from interlingua.retrieval.evaluation import Items, RetrievalResult, evaluate_scores
from interlingua.similarity import duration_similarity, mean_pool_cosine, seqsim
from interlingua.store import FrameStore
from interlingua.types import FRAMES_PER_SECOND, FrameArray, Matrix, Utterance

METHODS: tuple[Method, ...] = get_args(Method)
Pair = tuple[str, str]
T = TypeVar("T")


def evaluate_retrieval(
    utterances: Iterable[Utterance],
    store: FrameStore,
    method: Method,
    *,
    pairs: Sequence[Pair] | None = None,
    name: str | None = None,
    device: str = "cpu",
) -> tuple[list[dict[str, Any]], dict[Pair, Matrix]]:
    """Evaluate one method on language pairs, both directions of each.

    Every method here is symmetric, so one score matrix serves both directions. The gallery of a language is
    all its utterances, and so is its set of queries. An utterance that the store doesn't hold stays in: as a
    query it counts as a miss, as a candidate it can't be found.

    Args:
        utterances: with meanings; at least two languages.
        store: their frames; the speech part of each is read.
        method: how to score.
        pairs: unordered pairs of languages; None means all.
        name: the method's name in the results (controls say what their frames are).
        device: where SeqSim multiplies.

    Returns:
        One row an ordered pair (see `interlingua.results`), and the score matrix of each unordered pair.

    Raises:
        UsageError: an unknown method.
        CorpusError: an utterance without a meaning, or fewer than two languages.
    """
    if method not in METHODS:
        raise UsageError(f"--method {method!r}: use one of {', '.join(METHODS)}")
    by_language = _by_language(utterances)
    frames = {lang: _speech(members, store) for lang, members in by_language.items()}
    seconds = {
        lang: [_seconds(u, f, store) for u, f in zip(by_language[lang], frames[lang], strict=True)] for lang in frames
    }
    items = {lang: _items(members) for lang, members in by_language.items()}
    pairs = list(combinations(by_language, 2)) if pairs is None else pairs
    rows: list[dict[str, Any]] = []
    matrices: dict[Pair, Matrix] = {}
    with track(len(pairs), f"scoring ({name or method})") as advance:
        for a, b in pairs:
            if method == "seqsim":
                scores = _score(frames[a], frames[b], partial(seqsim, device=device))
            elif method == "mean-pool":
                scores = _score(frames[a], frames[b], mean_pool_cosine)
            else:
                scores = _score(seconds[a], seconds[b], duration_similarity)
            matrices[a, b] = scores
            for query, candidate, oriented in ((a, b, scores), (b, a, scores.T)):
                result = evaluate_scores(oriented, items[query], items[candidate])
                rows.append(result_row(query, candidate, name or method, result))
            advance(1)
    return rows, matrices


def result_row(query: str, candidate: str, method: str, result: RetrievalResult) -> dict[str, Any]:
    """One row of ``results.json``."""
    fields = asdict(result)
    del fields["ranks"]
    fields["median_rank"] = finite(float(np.median(result.ranks)))
    return {"query": query, "candidate": candidate, "method": method, **fields}


def _by_language(utterances: Iterable[Utterance]) -> dict[str, list[Utterance]]:
    by_language: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        if utterance.meaning is None:
            raise CorpusError(
                f"utterance {utterance.id!r} has no `meaning`; retrieval can only be evaluated where the "
                "manifest says which utterances mean the same"
            )
        by_language.setdefault(utterance.language, []).append(utterance)
    if len(by_language) < 2:
        raise CorpusError(f"retrieval needs two languages or more; the manifest holds {', '.join(by_language)}")
    return by_language


def _items(utterances: Sequence[Utterance]) -> Items:
    meanings = [str(u.meaning) for u in utterances]
    return Items([u.id for u in utterances], meanings, [u.cluster or str(u.meaning) for u in utterances])


def _speech(utterances: Sequence[Utterance], store: FrameStore) -> list[FrameArray | None]:
    held = {f.id: f.speech for f in store.read([u.id for u in utterances if u.id in store])}
    return [held.get(u.id) for u in utterances]


def _seconds(utterance: Utterance, frames: FrameArray | None, store: FrameStore) -> float | None:
    """Duration from the manifest, else from the frames; None without frames, as for every other method."""
    if frames is None:
        return None
    return utterance.duration or len(frames) * store.spec.pooling / FRAMES_PER_SECOND


def _score(a: Sequence[T | None], b: Sequence[T | None], similarity: Callable[[list[T], list[T]], Matrix]) -> Matrix:
    """Scores of those that have frames; NaN for the rest."""
    scores = np.full((len(a), len(b)), np.nan, dtype=np.float32)
    rows = [i for i, x in enumerate(a) if x is not None]
    columns = [j for j, x in enumerate(b) if x is not None]
    if rows and columns:
        scores[np.ix_(rows, columns)] = similarity([x for x in a if x is not None], [x for x in b if x is not None])
    return scores
