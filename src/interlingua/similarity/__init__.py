"""SeqSim and what it is compared with."""

from interlingua.similarity.baselines import duration_similarity, mean_pool_cosine
from interlingua.similarity.fast import alignment_matrix, reduce_directions, seqsim, seqsim_both
from interlingua.similarity.reference import seqsim_pair

__all__ = [
    "alignment_matrix",
    "duration_similarity",
    "mean_pool_cosine",
    "reduce_directions",
    "seqsim",
    "seqsim_both",
    "seqsim_pair",
]
