"""BLEU, chrF and chrF++: sacreBLEU's own scores and signatures, with intervals over clusters of near-duplicates."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import langcodes
import numpy as np
from sacrebleu.metrics import BLEU, CHRF

from interlingua.errors import UsageError
from interlingua.metrics.statistics import Statistics, SystemOutputs, join
from interlingua.types import Score

TextMetric = Literal["bleu", "chrf", "chrf++"]
"""chrF++ counts single words and pairs of words too (`CHRF(word_order=2)`)."""

_TOKENIZERS = {"zh": "zh", "ja": "ja-mecab", "ko": "ko-mecab"}  # BLEU's tokenizer by target; see `_tokenizer`

_UNSPACED_SCRIPTS = {"Thai", "Laoo", "Mymr", "Khmr", "Tibt", "Lana", "Talu", "Tavt"}


def translation_statistics(outputs: SystemOutputs, metric: TextMetric) -> Statistics:
    """sacreBLEU's statistics of each segment, its corpus score (0-100) and signature.

    Reads private functions of sacreBLEU, which has no public ones per segment; tests compare with its public scores.

    Raises:
        UsageError: no references, a hypothesis whose id no reference has, or a tokenizer that isn't installed.
    """
    segments = join(outputs.hypotheses, outputs.references, outputs.clusters)
    scorer: Any = (
        _bleu(outputs.target) if metric == "bleu" else CHRF(word_order=2 if metric == "chrf++" else CHRF.WORD_ORDER)
    )
    values = scorer._extract_corpus_statistics(segments.hypotheses, [segments.references])
    return Statistics(
        ids=segments.ids,
        clusters=segments.clusters,
        values=np.array(values, dtype=float),
        rate=partial(corpus_scores, metric=metric),
        exact=lambda totals: float(scorer._compute_score_from_stats(totals.tolist()).score),
        signature=str(scorer.get_signature()),
        cell=outputs.cell,
    )


def score_translations(
    hypotheses: Mapping[str, str],
    references: Mapping[str, str],
    *,
    target: str,
    metric: TextMetric,
    clusters: Mapping[str, str] | None = None,
) -> Score:
    """Corpus BLEU, chrF or chrF++ with a 95% percentile bootstrap interval over clusters, joined by utterance id.

    A missing hypothesis counts as empty; ``target`` chooses BLEU's tokenizer.
    """
    return translation_statistics(SystemOutputs(hypotheses, references, clusters, target), metric).score()


def segment_scores(
    hypotheses: Mapping[str, str], references: Mapping[str, str], *, metric: Literal["chrf", "chrf++"] = "chrf++"
) -> dict[str, float]:
    """sacreBLEU's sentence score (0-100) of each utterance; a missing hypothesis counts as empty."""
    return translation_statistics(SystemOutputs(hypotheses, references, None, ""), metric).by_segment()


def corpus_scores(totals: np.ndarray, metric: TextMetric) -> np.ndarray:
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
    # matches. Orders that one side lacks don't enter the means.
    output, reference, matches = totals[:, 0::3], totals[:, 1::3], totals[:, 2::3]
    counted = (output > 0) & (reference > 0)
    orders = counted.sum(axis=1)
    precision = np.where(counted, matches / output, 0).sum(axis=1) / orders
    recall = np.where(counted, matches / reference, 0).sum(axis=1) / orders
    factor = CHRF.BETA**2
    scores = 100 * (1 + factor) * precision * recall / (factor * precision + recall)
    return np.where((orders > 0) & (precision + recall > 0), scores, 0)


def _tokenizer(target: str) -> str:
    """sacreBLEU's tokenizer of a language: characters where words aren't spaced, as in SeamlessM4T; else 13a.

    ``flores200`` would need a model from the network, and scores that depend on what is there don't compare.
    """
    if target in _TOKENIZERS or not target:
        return _TOKENIZERS.get(target, "13a")
    script = langcodes.Language.get(target).maximize().script
    if script in ("Hans", "Hant"):
        return "zh"
    return "char" if script in _UNSPACED_SCRIPTS else "13a"


def _bleu(target: str) -> BLEU:
    tokenizer = _tokenizer(target)
    try:
        return BLEU(tokenize=tokenizer)
    except RuntimeError as e:  # sacreBLEU's optional MeCab
        raise UsageError(f"BLEU in {target!r} needs {tokenizer}: pip install 'sacrebleu[{target}]'") from e
