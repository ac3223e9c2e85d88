"""BLEU, chrF and chrF++: sacreBLEU's own scores and signatures, with intervals over near-duplicate clusters."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from sacrebleu.metrics import BLEU, CHRF

from interlingua.errors import UsageError
from interlingua.metrics.segments import (
    Segments,
    bootstrap_signature,
    cluster_sums,
    join,
)
from interlingua.resampling import SCORE_DRAWS, cluster_draws, percentile_interval
from interlingua.types import Score

Metric = Literal["bleu", "chrf", "chrf++"]
"""chrF++ counts words of one and two beside chrF's characters (`CHRF(word_order=2)`)."""

_TOKENIZERS = {"zh": "zh", "ja": "ja-mecab", "ko": "ko-mecab"}  # BLEU's tokenizer by target; 13a elsewhere


def score_translations(
    hypotheses: Mapping[str, str],
    references: Mapping[str, str],
    *,
    target: str,
    metric: Metric,
    clusters: Mapping[str, str] | None = None,
) -> Score:
    """Corpus BLEU, chrF or chrF++ with a 95% percentile bootstrap interval, joined by utterance id.

    A missing hypothesis counts as empty. The interval resamples whole clusters of near-duplicates.

    Args:
        hypotheses: utterance id -> the system's output.
        references: utterance id -> reference translation.
        target: target language code; chooses BLEU's tokenizer.
        metric: ``bleu``, ``chrf`` or ``chrf++``.
        clusters: utterance id -> cluster; None: each utterance is its own.

    Raises:
        UsageError: no references, a hypothesis whose id no reference has, or a tokenizer that isn't installed.
    """
    segments = join(hypotheses, references, clusters)
    statistics = translation_statistics(segments, target=target, metric=metric)
    names = sorted(set(segments.clusters))
    sums = cluster_sums(statistics.values, segments.clusters, names)
    draws = corpus_scores(cluster_draws(len(names), SCORE_DRAWS) @ sums, metric)
    signature = f"{statistics.signature}|{bootstrap_signature(len(names))}"
    return Score(statistics.score, percentile_interval(draws), len(segments), signature)


@dataclass(frozen=True, eq=False)
class TranslationStatistics:
    """sacreBLEU's sufficient statistics of N segments, (N, K); its corpus score (0-100) and signature."""

    values: np.ndarray
    score: float
    signature: str


def translation_statistics(segments: Segments, *, target: str, metric: Metric) -> TranslationStatistics:
    """Take the statistics of each segment once: their sums give the score of any set of segments.

    Raises:
        UsageError: a tokenizer that isn't installed.
    """
    scorer: Any = _bleu(target) if metric == "bleu" else CHRF(word_order=2 if metric == "chrf++" else CHRF.WORD_ORDER)
    values = scorer._extract_corpus_statistics(segments.outputs, [segments.references])
    score = float(scorer._aggregate_and_compute(values).score)
    return TranslationStatistics(np.array(values, dtype=float), score, str(scorer.get_signature()))


def segment_scores(
    hypotheses: Mapping[str, str], references: Mapping[str, str], *, metric: Literal["chrf", "chrf++"] = "chrf++"
) -> dict[str, float]:
    """sacreBLEU's sentence score (0-100) of each utterance; a missing hypothesis counts as empty.

    Raises:
        UsageError: see `score_translations`.
    """
    segments = join(hypotheses, references)
    values = translation_statistics(segments, target="", metric=metric).values
    return dict(zip(segments.ids, corpus_scores(values, metric).tolist(), strict=True))


def corpus_scores(totals: np.ndarray, metric: Metric) -> np.ndarray:
    """sacreBLEU's corpus score of each row of (S, K) summed statistics, (S,): many draws at once."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return _bleu_scores(totals) if metric == "bleu" else _chrf_scores(totals)


def _bleu_scores(totals: np.ndarray) -> np.ndarray:
    # Columns: output length, reference length, matches of orders 1-4, n-grams of orders 1-4. Smoothing "exp".
    length, reference_length = totals[:, 0], totals[:, 1]
    matches, ngrams = totals[:, 2:6], totals[:, 6:10]
    none = matches == 0
    smoothed = np.where(none, 0.5 ** np.cumsum(none, axis=1), matches)  # the k-th order without a match counts 2^-k
    log_precisions = np.log(100 * smoothed / ngrams)
    brevity = np.where(length < reference_length, np.exp(1 - reference_length / length), 1)
    scores = brevity * np.exp(log_precisions.mean(axis=1))
    return np.where((ngrams == 0).any(axis=1) | none.all(axis=1), 0, scores)


def _chrf_scores(totals: np.ndarray) -> np.ndarray:
    # Columns: for each order (characters 1-6; chrF++: then words 1-2) the output's n-grams, the reference's and their
    # matches. Orders that one side hasn't are left out of the means.
    output, reference, matches = totals[:, 0::3], totals[:, 1::3], totals[:, 2::3]
    counted = (output > 0) & (reference > 0)
    orders = counted.sum(axis=1)
    precision = np.where(counted, matches / output, 0).sum(axis=1) / orders
    recall = np.where(counted, matches / reference, 0).sum(axis=1) / orders
    factor = CHRF.BETA**2
    scores = 100 * (1 + factor) * precision * recall / (factor * precision + recall)
    return np.where((orders > 0) & (precision + recall > 0), scores, 0)


def _bleu(target: str) -> BLEU:
    tokenizer = _TOKENIZERS.get(target, "13a")
    try:
        return BLEU(tokenize=tokenizer)
    except RuntimeError as e:  # sacreBLEU's optional MeCab
        raise UsageError(f"BLEU in {target!r} needs {tokenizer}: pip install 'sacrebleu[{target}]'") from e
