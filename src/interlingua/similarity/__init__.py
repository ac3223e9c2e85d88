"""SeqSim, what improves it, and what it is compared with."""

from interlingua.similarity.baselines import duration_similarity, mean_pool_cosine
from interlingua.similarity.fast import (
    Packed,
    Reduction,
    SimilarityCompute,
    alignment_matrix,
    pack,
    reduce_directions,
    seqsim,
    seqsim_both,
)
from interlingua.similarity.reference import seqsim_pair
from interlingua.similarity.transform import (
    FrameTransform,
    fit_centring,
    fit_whitening,
    rarity_weights,
    with_position,
)

__all__ = [
    "FrameTransform",
    "Packed",
    "Reduction",
    "SimilarityCompute",
    "alignment_matrix",
    "duration_similarity",
    "fit_centring",
    "fit_whitening",
    "mean_pool_cosine",
    "pack",
    "rarity_weights",
    "reduce_directions",
    "seqsim",
    "seqsim_both",
    "seqsim_pair",
    "with_position",
]
