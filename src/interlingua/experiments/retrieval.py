"""Retrieval between all ordered language pairs of a manifest, from a frame store to rows of results."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from interlingua.encoding.store import FrameStore
from interlingua.errors import CorpusError, UsageError
from interlingua.experiments.cascade import cascade_scores
from interlingua.experiments.utterances import UtteranceLog
from interlingua.models import SentenceEncoder
from interlingua.progress import track
from interlingua.results import finite
from interlingua.retrieval.evaluate import Items, RetrievalResult, evaluate_scores
from interlingua.retrieval.methods import METHODS, RECIPES, Method, Recipe
from interlingua.retrieval.scoring import FOLDS, Directions, Scorer, Speech
from interlingua.retrieval.seqsim import SimilarityCompute
from interlingua.types import FrameArray, Matrix, Utterance

Pair = tuple[str, str]


def evaluate_retrieval(
    utterances: Iterable[Utterance],
    store: FrameStore,
    method: Method,
    *,
    pairs: Sequence[Pair] | None = None,
    name: str | None = None,
    compute: SimilarityCompute = "float32",
    device: str = "cpu",
    texts: "EnglishTexts | None" = None,
    corpus: "Corpus | None" = None,
    log: UtteranceLog | None = None,
) -> tuple[list[dict[str, Any]], dict[Pair, Matrix]]:
    """Evaluate one method on language pairs, both directions of each.

    The gallery of a language is all its utterances, and so is its set of queries. An utterance that the store
    doesn't hold stays in: as a query it counts as a miss, as a candidate it can't be found.

    Args:
        utterances: with meanings; at least two languages.
        store: their frames; the speech part of each is read.
        method: how to score (`interlingua.retrieval.methods`).
        pairs: unordered pairs of languages; None means all.
        name: the method's name in the results (controls say what their frames are).
        compute: number format of SeqSim's products.
        device: where SeqSim multiplies.
        texts: the cascade's English texts; other methods don't read them.
        corpus: the utterances with frames that were changed (`interlingua.experiments.frames`); None: as stored.
        log: where to keep each query's rank.

    Returns:
        One row an ordered pair (see `interlingua.results`), and the score matrix of each unordered pair.

    Raises:
        UsageError: an unknown method, or the cascade without texts.
        CorpusError: an utterance without a meaning, fewer than two languages, or too few clusters for the method.
    """
    if method not in METHODS:
        raise UsageError(f"--method {method!r}: use one of {', '.join(METHODS)}")
    corpus = corpus or Corpus.of(utterances, store)
    pairs = list(combinations(corpus.items, 2)) if pairs is None else pairs
    directions = score_pairs(
        corpus, RECIPES[method], pairs, label=name or method, compute=compute, device=device, texts=texts
    )
    rows: list[dict[str, Any]] = []
    for (a, b), (forward, backward) in zip(pairs, directions, strict=True):
        for query, candidate, scores in ((a, b, forward), (b, a, backward)):
            result = evaluate_scores(scores, corpus.items[query], corpus.items[candidate])
            rows.append(result_row(query, candidate, name or method, result))
            if log is not None:
                items = corpus.items[query], corpus.items[candidate]
                log.ranked(name or method, candidate, *items, scores, result.ranks)
    return rows, {pair: forward for pair, (forward, _) in zip(pairs, directions, strict=True)}


@dataclass(frozen=True, eq=False)
class Corpus:
    """What there is to retrieve in each language; frames are None where the store has none."""

    items: dict[str, Items]
    frames: dict[str, list[FrameArray | None]]
    seconds: dict[str, list[float | None]]

    @classmethod
    def of(cls, utterances: Iterable[Utterance], store: FrameStore) -> "Corpus":
        """Read a manifest's utterances from a store.

        Raises:
            CorpusError: an utterance without a meaning, or fewer than two languages.
        """
        by_language = _by_language(utterances)
        frames = {lang: _speech(members, store) for lang, members in by_language.items()}
        seconds = {
            lang: [_seconds(u, f, store) for u, f in zip(by_language[lang], frames[lang], strict=True)]
            for lang in frames
        }
        return cls({lang: _items(members) for lang, members in by_language.items()}, frames, seconds)

    def held(self, language: str) -> np.ndarray:
        """Places of the utterances that have frames."""
        return np.array([i for i, f in enumerate(self.frames[language]) if f is not None], dtype=int)

    def speech(self, language: str) -> Speech:
        """The utterances that have frames."""
        held = self.held(language)
        frames, seconds, clusters = self.frames[language], self.seconds[language], self.items[language].clusters
        return Speech(
            [f for f in frames if f is not None], [s for s in seconds if s is not None], [clusters[i] for i in held]
        )


@dataclass(frozen=True, eq=False)
class EnglishTexts:
    """What the cascade compares: English text by utterance id, and what embeds it."""

    texts: Mapping[str, str]
    encoder: SentenceEncoder


def score_pairs(
    corpus: Corpus,
    recipe: Recipe,
    pairs: Sequence[Pair],
    *,
    label: str,
    compute: SimilarityCompute = "float32",
    device: str = "cpu",
    background: int | None = None,
    texts: EnglishTexts | None = None,
) -> list[Directions]:
    """Scores of both directions of each pair, NaN where an utterance has no frames; see `scoring.Scorer`.

    Raises:
        UsageError: the cascade without texts.
        CorpusError: too few clusters for the recipe.
    """
    if recipe.score == "cascade":
        if texts is None:
            raise UsageError("--method cascade compares English texts; name the file to keep them in with --texts")
        matrices = [_cascade(corpus.items[a], corpus.items[b], texts) for a, b in pairs]
        return [(scores, scores.T) for scores in matrices]
    languages = dict.fromkeys(lang for pair in pairs for lang in pair)
    held = {lang: corpus.held(lang) for lang in languages}
    usable = [(a, b) for a, b in pairs if len(held[a]) and len(held[b])]
    with track(len(usable) * FOLDS, f"scoring ({label})") as advance:
        speech = {lang: corpus.speech(lang) for lang in languages if len(held[lang])}
        scorer = Scorer(speech, recipe, compute=compute, device=device, background=background)
        scored = dict(zip(usable, scorer.score(usable, advance), strict=True))
    results = []
    for a, b in pairs:
        n, m = len(corpus.items[a]), len(corpus.items[b])
        forward, backward = np.full((n, m), np.nan, np.float32), np.full((m, n), np.nan, np.float32)
        if (a, b) in scored:
            forward[np.ix_(held[a], held[b])], backward[np.ix_(held[b], held[a])] = scored[a, b]
        results.append((forward, backward))
    return results


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
    return utterance.duration or len(frames) / store.spec.stored_rate


def _cascade(a: Items, b: Items, english: EnglishTexts) -> Matrix:
    queries, candidates = ([english.texts.get(i) for i in side.ids] for side in (a, b))
    return cascade_scores(queries, candidates, english.encoder)
