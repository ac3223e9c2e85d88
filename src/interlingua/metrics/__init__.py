"""Metrics: standard implementations, signed, with intervals."""

from functools import partial

from interlingua.metrics.comet import (
    COMET_MODEL,
    CometScores,
    comet_folder,
    comet_segments,
    find_comet,
    score_comet,
    set_up_comet,
)
from interlingua.metrics.offtarget import off_target
from interlingua.metrics.recognition import detection_errors, has_words, transcript_errors
from interlingua.metrics.statistics import (
    Cell,
    Metric,
    Statistics,
    SystemOutputs,
    draws,
    merged,
    pooled_difference,
    pooled_score,
    pooled_value,
    ratio,
)
from interlingua.metrics.translation import (
    TextMetric,
    score_translations,
    segment_scores,
    translation_statistics,
)
from interlingua.registry import Registry

METRICS: Registry[Metric] = Registry(
    "metric",
    "metrics",
    {
        "bleu": Metric("bleu", "BLEU", partial(translation_statistics, metric="bleu")),
        "chrf++": Metric("chrf++", "chrF++", partial(translation_statistics, metric="chrf++")),
        "chrf": Metric("chrf", "chrF", partial(translation_statistics, metric="chrf")),
        "off_target": Metric("off_target", "Off target, %", off_target, compared=False),
        "error": Metric("error", "Error rate, %", transcript_errors),
    },
)
"""Metrics of outputs by name; ``error`` is WER, or CER where words aren't spaced. COMET is separate."""

__all__ = [
    "COMET_MODEL",
    "METRICS",
    "Cell",
    "CometScores",
    "Metric",
    "Statistics",
    "SystemOutputs",
    "TextMetric",
    "comet_folder",
    "comet_segments",
    "detection_errors",
    "draws",
    "find_comet",
    "has_words",
    "merged",
    "off_target",
    "pooled_difference",
    "pooled_score",
    "pooled_value",
    "ratio",
    "score_comet",
    "score_translations",
    "segment_scores",
    "set_up_comet",
    "transcript_errors",
    "translation_statistics",
]
