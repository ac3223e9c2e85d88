"""Metrics: standard implementations, signed, with intervals."""

from interlingua.metrics.offtarget import off_target_rate
from interlingua.metrics.recognition import detection_errors, score_transcripts
from interlingua.metrics.significance import (
    Comparison,
    Difference,
    SystemOutputs,
    compare_translations,
    pooled_difference,
    pooled_draws,
)
from interlingua.metrics.translation import score_translations

__all__ = [
    "Comparison",
    "Difference",
    "SystemOutputs",
    "compare_translations",
    "detection_errors",
    "off_target_rate",
    "pooled_difference",
    "pooled_draws",
    "score_transcripts",
    "score_translations",
]
