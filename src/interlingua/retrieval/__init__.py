"""Retrieval evaluation: recall, MRR, chance and intervals."""

from interlingua.retrieval.evaluation import Items, RetrievalResult, evaluate_scores

__all__ = ["Items", "RetrievalResult", "evaluate_scores"]
