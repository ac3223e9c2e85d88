"""BLEU and chrF: sacreBLEU's own scores and signatures, with intervals over near-duplicate clusters."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from sacrebleu.metrics import BLEU, CHRF

from interlingua.errors import UsageError
from interlingua.types import Score

Metric = Literal["bleu", "chrf"]

BOOTSTRAP_SAMPLES = 1000  # sacreBLEU's default
BOOTSTRAP_SEED = 12345  # sacreBLEU's default
_TOKENIZERS = {"zh": "zh", "ja": "ja-mecab", "ko": "ko-mecab"}  # BLEU's tokenizer by target; 13a elsewhere


def score_translations(
    hypotheses: Mapping[str, str],
    references: Mapping[str, str],
    *,
    target: str,
    metric: Metric,
    clusters: Mapping[str, str] | None = None,
) -> Score:
    """Corpus BLEU or chrF with a 95% percentile bootstrap interval, joined by utterance id.

    A missing hypothesis counts as empty. The interval resamples whole clusters of near-duplicates.

    Args:
        hypotheses: utterance id -> the system's output.
        references: utterance id -> reference translation.
        target: target language code; chooses BLEU's tokenizer.
        metric: ``bleu`` or ``chrf``.
        clusters: utterance id -> cluster; None: each utterance is its own.

    Raises:
        UsageError: no references, a hypothesis whose id no reference has, or a tokenizer that isn't installed.
    """
    unknown = sorted(hypotheses.keys() - references.keys())
    if unknown:
        raise UsageError(
            f"{len(unknown)} hypotheses have no reference (the first is {unknown[0]!r}); "
            "score them against the manifest that they were made from"
        )
    if not references:
        raise UsageError("no references to score against")
    ids = sorted(references)
    outputs = [hypotheses.get(i, "") for i in ids]
    scorer = _bleu(target) if metric == "bleu" else CHRF()
    value = float(scorer.corpus_score(outputs, [[references[i] for i in ids]]).score)
    groups = [clusters.get(i, i) if clusters else i for i in ids]
    interval = _interval(scorer, outputs, [references[i] for i in ids], groups)
    signature = (
        f"{scorer.get_signature()}|bootstrap:clusters:{len(set(groups))}|n:{BOOTSTRAP_SAMPLES}|seed:{BOOTSTRAP_SEED}"
    )
    return Score(value, interval, len(ids), signature)


def _bleu(target: str) -> BLEU:
    tokenizer = _TOKENIZERS.get(target, "13a")
    try:
        return BLEU(tokenize=tokenizer)
    except RuntimeError as e:  # sacreBLEU's optional MeCab
        raise UsageError(f"BLEU in {target!r} needs {tokenizer}: pip install 'sacrebleu[{target}]'") from e


def _interval(
    scorer: Any, outputs: Sequence[str], references: Sequence[str], groups: Sequence[str]
) -> tuple[float, float]:
    # sacreBLEU's sufficient statistics per segment: its own bootstrap works on them too, but draws segments.
    statistics = np.array(scorer._extract_corpus_statistics(outputs, [references]), dtype=float)
    _, member = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.zeros((int(member.max()) + 1, statistics.shape[1]))
    np.add.at(sums, member, statistics)
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    n = len(sums)
    draws = rng.multinomial(n, np.full(n, 1 / n), size=BOOTSTRAP_SAMPLES)
    scores = [scorer._compute_score_from_stats(list(total)).score for total in draws @ sums]
    low, high = np.percentile(scores, [2.5, 97.5])
    return float(low), float(high)
