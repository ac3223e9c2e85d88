"""Metrics: standard implementations, signed, with intervals."""

from interlingua.metrics.comet import COMET_MODEL, CometScores, comet_segments, score_comet
from interlingua.metrics.comet_environment import comet_folder, find_comet, set_up_comet
from interlingua.metrics.offtarget import off_target, off_target_rate
from interlingua.metrics.recognition import detection_errors, score_transcripts, transcript_errors
from interlingua.metrics.segments import Cell, Tallies
from interlingua.metrics.significance import (
    Comparison,
    Difference,
    SystemOutputs,
    compare_translations,
    pooled_difference,
    pooled_draws,
    pooled_ratio,
    pooled_ratio_difference,
    pooled_score,
)
from interlingua.metrics.translation import Metric, score_translations, segment_scores

__all__ = [
    "COMET_MODEL",
    "Cell",
    "CometScores",
    "Comparison",
    "Difference",
    "Metric",
    "SystemOutputs",
    "Tallies",
    "comet_folder",
    "comet_segments",
    "compare_translations",
    "detection_errors",
    "find_comet",
    "off_target",
    "off_target_rate",
    "pooled_difference",
    "pooled_draws",
    "pooled_ratio",
    "pooled_ratio_difference",
    "pooled_score",
    "score_comet",
    "score_transcripts",
    "score_translations",
    "segment_scores",
    "set_up_comet",
    "transcript_errors",
]
