"""What every metric begins with: outputs beside their references by utterance id, and clusters drawn anew."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from interlingua.errors import UsageError
from interlingua.types import Score

BOOTSTRAP_SAMPLES = 1000  # sacreBLEU's default
BOOTSTRAP_SEED = 12345  # sacreBLEU's default


@dataclass(frozen=True)
class Tallies:
    """A ratio of sums over utterances, such as an error rate or a mean.

    Attributes:
        values: utterance id -> numerator and positive denominator.
        clusters: utterance id -> cluster; None: each utterance is its own.
        scale: what the ratio is multiplied by (100: per cent).
        signature: how the values are made, without the interval.
    """

    values: Mapping[str, tuple[float, float]]
    clusters: Mapping[str, str] | None
    scale: float
    signature: str

    def score(self) -> Score:
        """The ratio with its 95% bootstrap interval over clusters."""
        ids = sorted(self.values)
        numerators, denominators = np.array([self.values[i] for i in ids], dtype=float).T
        clusters = cluster_names(ids, self.clusters)
        value, (low, high) = ratio_with_interval(numerators, denominators, clusters)
        signature = f"{self.signature}|{bootstrap_signature(len(set(clusters)))}"
        return Score(self.scale * value, (self.scale * low, self.scale * high), len(ids), signature)


@dataclass(frozen=True)
class Segments:
    """N segments in the order of their ids: ``outputs[i]`` answers ``references[i]``."""

    ids: list[str]
    outputs: list[str]
    references: list[str]
    clusters: list[str]

    def __len__(self) -> int:
        return len(self.references)


def join(
    hypotheses: Mapping[str, str], references: Mapping[str, str], clusters: Mapping[str, str] | None = None
) -> Segments:
    """Join by utterance id; a missing hypothesis counts as empty, a missing cluster is the utterance's own.

    Raises:
        UsageError: no references, or a hypothesis whose id no reference has.
    """
    unknown = sorted(hypotheses.keys() - references.keys())
    if unknown:
        raise UsageError(
            f"{len(unknown)} hypotheses have no reference (the first is {unknown[0]!r}); "
            "score them against the manifest that they were made from"
        )
    if not references:
        raise UsageError("no references to score against")
    ids = sorted(references)
    return Segments(
        ids=ids,
        outputs=[hypotheses.get(i, "") for i in ids],
        references=[references[i] for i in ids],
        clusters=cluster_names(ids, clusters),
    )


def cluster_names(ids: Sequence[str], clusters: Mapping[str, str] | None) -> list[str]:
    """The cluster of each utterance; a missing one is the utterance's own."""
    return [clusters.get(i, i) if clusters else i for i in ids]


def cluster_draws(n_clusters: int, samples: int, seed: int = BOOTSTRAP_SEED) -> np.ndarray:
    """How often each cluster is drawn, with replacement, in each sample: (samples, n_clusters)."""
    return np.random.default_rng(seed).multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), size=samples)


def cluster_sums(values: np.ndarray, clusters: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Sums of (N, K) values by cluster, (C, K), in the order of ``names``; 0 where a name has no segment."""
    place = {name: i for i, name in enumerate(names)}
    sums = np.zeros((len(names), values.shape[1]))
    np.add.at(sums, [place[c] for c in clusters], values)
    return sums


def percentile_interval(draws: np.ndarray) -> tuple[float, float]:
    """The 95% percentile interval of a number's (samples,) draws."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def ratio_with_interval(
    numerators: np.ndarray, denominators: np.ndarray, clusters: Sequence[str]
) -> tuple[float, tuple[float, float]]:
    """Sum of N numerators over sum of N positive denominators, and its interval over clusters."""
    names = sorted(set(clusters))
    sums = cluster_sums(np.column_stack([numerators, denominators]), clusters, names)
    totals = cluster_draws(len(names), BOOTSTRAP_SAMPLES) @ sums
    return float(numerators.sum() / denominators.sum()), percentile_interval(totals[:, 0] / totals[:, 1])


def bootstrap_signature(n_clusters: int) -> str:
    """How intervals are made, for the end of a signature."""
    return f"bootstrap:clusters:{n_clusters}|n:{BOOTSTRAP_SAMPLES}|seed:{BOOTSTRAP_SEED}"
