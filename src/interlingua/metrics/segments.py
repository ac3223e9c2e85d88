"""What every metric begins with: outputs beside their references by utterance id, and clusters drawn anew."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from interlingua.errors import UsageError
from interlingua.resampling import BOOTSTRAP_SEED, SCORE_DRAWS, cluster_draws, draws_signature, percentile_interval
from interlingua.types import Score

Cell = tuple[int, int]
"""Fold and seed of the training whose outputs are scored."""


@dataclass(frozen=True)
class Tallies:
    """A ratio of sums over utterances, such as an error rate or a mean.

    Attributes:
        values: utterance id -> numerator and positive denominator.
        clusters: utterance id -> cluster; None: each utterance is its own.
        scale: what the ratio is multiplied by (100: per cent).
        signature: how the values are made, without the interval.
        cell: of the training that the outputs come from, where groups of several seeds are pooled.
    """

    values: Mapping[str, tuple[float, float]]
    clusters: Mapping[str, str] | None
    scale: float
    signature: str
    cell: Cell | None = None

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


def seed_draws(cells: Sequence[Cell | None], samples: int, seed: int = BOOTSTRAP_SEED) -> np.ndarray:
    """How often each of G groups is drawn through its training's seed, in each sample: (G, samples).

    In every fold as many seeds are drawn, with replacement, as it has; all of a training's groups come or go together.
    One seed, or no cell, is always there: such an interval knows nothing of how much trainings differ. With two or
    three seeds a fold the draws vary by 1/2 or 2/3 of the variance of their mean, as with every bootstrap of so few.
    """
    seeds: dict[int, set[int]] = {}
    for cell in cells:
        if cell is not None:
            seeds.setdefault(cell[0], set()).add(cell[1])
    rng = np.random.default_rng([seed, 1])  # not the stream that draws clusters
    drawn: dict[Cell | None, np.ndarray] = {None: np.ones(samples, dtype=int)}
    for fold, of_fold in sorted(seeds.items()):
        n = len(of_fold)
        counts = rng.multinomial(n, np.full(n, 1 / n), size=samples)
        drawn |= {(fold, s): counts[:, i] for i, s in enumerate(sorted(of_fold))}
    return np.array([drawn[cell] for cell in cells])


def cluster_sums(values: np.ndarray, clusters: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Sums of (N, K) values by cluster, (C, K), in the order of ``names``; 0 where a name has no segment."""
    place = {name: i for i, name in enumerate(names)}
    sums = np.zeros((len(names), values.shape[1]))
    np.add.at(sums, [place[c] for c in clusters], values)
    return sums


def ratio_with_interval(
    numerators: np.ndarray, denominators: np.ndarray, clusters: Sequence[str]
) -> tuple[float, tuple[float, float]]:
    """Sum of N numerators over sum of N positive denominators, and its interval over clusters."""
    names = sorted(set(clusters))
    sums = cluster_sums(np.column_stack([numerators, denominators]), clusters, names)
    totals = cluster_draws(len(names), SCORE_DRAWS) @ sums
    return float(numerators.sum() / denominators.sum()), percentile_interval(totals[:, 0] / totals[:, 1])


def bootstrap_signature(n_clusters: int, cells: Sequence[Cell | None] = ()) -> str:
    """How intervals are made, for the end of a signature; ``trainings`` are named where their seeds are drawn."""
    trainings = {cell for cell in cells if cell is not None}
    drawn = f"|trainings:{len(trainings)}" if len(trainings) > len({fold for fold, _ in trainings}) else ""
    return f"bootstrap:clusters:{n_clusters}{drawn}|{draws_signature(SCORE_DRAWS)}"
