"""SeqSim and what it is compared with."""

from interlingua.similarity.baselines import duration_similarity, mean_pool_cosine
from interlingua.similarity.reference import seqsim_pair
from interlingua.similarity.seqsim import alignment_matrix, reduce_directions, seqsim, seqsim_both

__all__ = [
    "alignment_matrix",
    "duration_similarity",
    "mean_pool_cosine",
    "reduce_directions",
    "seqsim",
    "seqsim_both",
    "seqsim_pair",
]
