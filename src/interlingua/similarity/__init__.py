"""SeqSim and what it is compared with."""

from interlingua.similarity.baselines import duration_similarity, mean_pool_cosine
from interlingua.similarity.fast import Packed, alignment_matrix, pack, reduce_directions, seqsim, seqsim_both
from interlingua.similarity.reference import seqsim_pair

__all__ = [
    "Packed",
    "alignment_matrix",
    "duration_similarity",
    "mean_pool_cosine",
    "pack",
    "reduce_directions",
    "seqsim",
    "seqsim_both",
    "seqsim_pair",
]
