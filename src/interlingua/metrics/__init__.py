"""Metrics: standard implementations, signed, with intervals."""

from interlingua.metrics.translation import score_translations

__all__ = ["score_translations"]
