"""Bootstrap intervals over clusters of near-duplicates, for every score."""

import numpy as np

BOOTSTRAP_SEED = 12345  # sacreBLEU's default
SCORE_DRAWS = 1000  # sacreBLEU's default: BLEU, chrF, error rates, COMET and their differences
RETRIEVAL_DRAWS = 2000  # R@k and MRR
CI_LEVEL = 95  # per cent


def cluster_draws(n_clusters: int, draws: int, seed: int = BOOTSTRAP_SEED) -> np.ndarray:
    """How often each cluster is drawn, with replacement, in each draw: (draws, n_clusters)."""
    return np.random.default_rng(seed).multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), size=draws)


def percentile_interval(values: np.ndarray) -> tuple[float, float]:
    """The percentile interval of (draws,) values, at `CI_LEVEL`."""
    tail = (100 - CI_LEVEL) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def draws_signature(draws: int) -> str:
    """The draws' part of a signature."""
    return f"n:{draws}|seed:{BOOTSTRAP_SEED}"
