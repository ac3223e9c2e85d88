"""Scores from sufficient statistics of segments: joined by id, with intervals over clusters, and paired differences.

Groups (source languages, folds, seeds) are pooled as the mean of their corpus scores. A cluster in several groups is
drawn, or swapped, in all of them at once: the same sentence in four languages is one observation. Where a fold was
trained with several seeds, the bootstrap draws these anew, too.

Sources: Koehn (2004), "Statistical significance tests for machine translation evaluation", for the bootstrap;
Riezler and Maxwell (2005), "On some pitfalls in automatic evaluation and significance testing for MT", for the
randomisation.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from interlingua.errors import UsageError
from interlingua.resampling import BOOTSTRAP_SEED, SCORE_DRAWS, cluster_draws, draws_signature, percentile_interval
from interlingua.types import Difference, Score

RANDOMISATION_TRIALS = 1000
_TIE = 1e-9  # score points: what rounding may take from an equal difference

Cell = tuple[int, int]
"""Fold and seed of the training whose outputs are scored."""


@dataclass(frozen=True)
class SystemOutputs:
    """One system's outputs in one direction; mappings are from utterance id; a missing hypothesis is empty.

    ``clusters``: units of resampling (`Utterance.group`), None: each utterance its own. ``cell``: of the training; its
    seed is drawn among those of its fold. ``source`` may be empty. ``transcripts``: for metrics that read the source.
    """

    hypotheses: Mapping[str, str]
    references: Mapping[str, str]
    clusters: Mapping[str, str] | None
    target: str
    cell: Cell | None = None
    source: str = ""
    transcripts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Segments:
    """N segments in the order of their ids; ``references[i]`` belongs to ``hypotheses[i]``."""

    ids: list[str]
    hypotheses: list[str]
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
        hypotheses=[hypotheses.get(i, "") for i in ids],
        references=[references[i] for i in ids],
        clusters=[clusters.get(i, i) if clusters else i for i in ids],
    )


@dataclass(frozen=True, eq=False)
class Statistics:
    """Sufficient statistics of N segments: their sums give the corpus score of any set of segments.

    ``values``: (N, K); ``rate``: (S, K) sums -> (S,) scores, many draws at once; ``exact``: (K,) sums -> the score by
    the standard implementation; ``signature``: without the interval.
    """

    ids: Sequence[str]
    clusters: Sequence[str]
    values: np.ndarray
    rate: Callable[[np.ndarray], np.ndarray]
    exact: Callable[[np.ndarray], float]
    signature: str
    cell: Cell | None = None

    @property
    def value(self) -> float:
        """The score of all segments."""
        return self.exact(self.values.sum(axis=0))

    def score(self) -> Score:
        """The score with its interval."""
        signature = f"{self.signature}|{bootstrap_signature(len(set(self.clusters)))}"
        return Score(value=self.value, ci=percentile_interval(draws([self])), n=len(self.ids), signature=signature)

    def by_segment(self) -> dict[str, float]:
        """The score of each segment alone."""
        return dict(zip(self.ids, self.rate(self.values).tolist(), strict=True))


def ratio(
    values: Mapping[str, tuple[float, float]],
    clusters: Mapping[str, str] | None,
    signature: str,
    *,
    scale: float = 1,
    cell: Cell | None = None,
) -> Statistics:
    """A ratio of sums over utterances, such as an error rate or a mean.

    ``values``: utterance id -> numerator and positive denominator; ``scale`` 100: per cent.
    """
    ids = sorted(values)
    of_ids = np.array([values[i] for i in ids], dtype=float).reshape(-1, 2)

    def rate(totals: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):  # no segment of the group was drawn: `draws` skips it
            return np.asarray(np.nan_to_num(scale * totals[:, 0] / totals[:, 1]))

    return Statistics(
        ids=ids,
        clusters=[clusters.get(i, i) if clusters else i for i in ids],
        values=of_ids,
        rate=rate,
        exact=lambda totals: float(scale * totals[0] / totals[1]),
        signature=signature,
        cell=cell,
    )


def merged(parts: Sequence[Statistics], ids: Collection[str]) -> Statistics:
    """The segments with these ids, of several parts of one metric, as one corpus."""
    kept = [(s, n) for s in parts for n, i in enumerate(s.ids) if i in ids]
    return replace(
        parts[0],
        ids=[s.ids[n] for s, n in kept],
        clusters=[s.clusters[n] for s, n in kept],
        values=np.array([s.values[n] for s, n in kept]),
        signature=_signatures(parts),
    )


@dataclass(frozen=True)
class Metric:
    """A metric of `evaluate outputs`: its name in ``results.json``, its column's label, and its function.

    ``compared``: whether systems' differences are shown.
    """

    name: str
    label: str
    statistics: Callable[[SystemOutputs], Statistics]
    compared: bool = True


def pooled_score(groups: Sequence[Statistics]) -> Score:
    """The mean over groups of one system's score, with its interval (None: only one cluster)."""
    names = _names(groups)
    interval = percentile_interval(draws(groups)) if len(names) > 1 else None  # one cluster shows no spread
    signature = (
        f"{_signatures(groups)}|groups:{len(groups)}|{bootstrap_signature(len(names), [g.cell for g in groups])}"
    )
    return Score(value=pooled_value(groups), ci=interval, n=sum(len(g.ids) for g in groups), signature=signature)


def pooled_value(groups: Sequence[Statistics]) -> float:
    """The mean over groups of one system's score."""
    return float(np.mean([g.value for g in groups]))


def pooled_difference(after: Sequence[Statistics], before: Sequence[Statistics]) -> Difference:
    """The mean over groups of the difference of two systems' scores on the same utterances, with two-sided p.

    ``p_bootstrap``: twice the proportion of draws, of clusters and seeds, on the rarer side of 0. ``p_randomisation``:
    the proportion of random swaps of the systems, cluster by cluster, that differ as much, given the trainings.
    """
    names = _names(after)
    if [set(a.ids) for a in after] != [set(b.ids) for b in before]:
        raise UsageError("two systems are compared on the same utterances only")
    differences = draws(after) - draws(before)
    how = bootstrap_signature(len(names), [g.cell for g in after])
    return Difference(
        value=pooled_value(after) - pooled_value(before),
        ci=percentile_interval(differences),
        n=sum(len(g.ids) for g in after),
        signature=(
            f"{_signatures(after)}|difference:after-before|groups:{len(after)}|{how}|"
            f"randomisation:{RANDOMISATION_TRIALS}"
        ),
        p_bootstrap=_bootstrap_p(differences) if len(names) > 1 else 1.0,  # one cluster shows nothing
        p_randomisation=_randomisation_p(after, before),
    )


def draws(groups: Sequence[Statistics], n: int = SCORE_DRAWS, seed: int = BOOTSTRAP_SEED) -> np.ndarray:
    """Bootstrap draws of the mean over groups of one system's score, (n,).

    They depend on cluster names, cells and seed alone: those of two systems on the same utterances are paired. A group
    without a drawn cluster is skipped in that draw's mean.
    """
    names = _names(groups)
    times = cluster_draws(len(names), n, seed)
    scores = np.array([g.rate(times @ cluster_sums(g.values, g.clusters, names)) for g in groups])
    sizes = [cluster_sums(np.ones((len(g.ids), 1)), g.clusters, names) for g in groups]
    weights = np.array([(times @ size)[:, 0] > 0 for size in sizes]) * seed_draws([g.cell for g in groups], n, seed)
    return np.asarray((scores * weights).sum(axis=0) / weights.sum(axis=0))


def seed_draws(cells: Sequence[Cell | None], n: int, seed: int = BOOTSTRAP_SEED) -> np.ndarray:
    """How often each of G groups is drawn through its training's seed, in each of n draws: (G, n).

    Every fold draws as many seeds, with replacement, as it has; all groups of a training come or go together. With one
    seed, or no cell, the interval holds no variance between trainings; with two or three seeds a fold it holds 1/2 or
    2/3 of it, as with every bootstrap of so few.
    """
    seeds: dict[int, set[int]] = {}
    for cell in cells:
        if cell is not None:
            seeds.setdefault(cell[0], set()).add(cell[1])
    rng = np.random.default_rng([seed, 1])  # not the stream that draws clusters
    drawn: dict[Cell | None, np.ndarray] = {None: np.ones(n, dtype=int)}
    for fold, of_fold in sorted(seeds.items()):
        counts = rng.multinomial(len(of_fold), np.full(len(of_fold), 1 / len(of_fold)), size=n)
        drawn |= {(fold, s): counts[:, i] for i, s in enumerate(sorted(of_fold))}
    return np.array([drawn[cell] for cell in cells])


def cluster_sums(values: np.ndarray, clusters: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Sums of (N, K) values by cluster, (C, K), in the order of ``names``; 0 where a name has no segment."""
    position = {name: i for i, name in enumerate(names)}
    sums = np.zeros((len(names), values.shape[1]))
    np.add.at(sums, [position[c] for c in clusters], values)
    return sums


def bootstrap_signature(n_clusters: int, cells: Sequence[Cell | None] = ()) -> str:
    """The interval's part of a signature; ``trainings`` are named where their seeds are drawn."""
    trainings = {cell for cell in cells if cell is not None}
    drawn = f"|trainings:{len(trainings)}" if len(trainings) > len({fold for fold, _ in trainings}) else ""
    return f"bootstrap:clusters:{n_clusters}{drawn}|{draws_signature(SCORE_DRAWS)}"


def _names(groups: Sequence[Statistics]) -> list[str]:
    if not groups:
        raise UsageError("no groups to compare")
    return sorted({c for g in groups for c in g.clusters})


def _signatures(groups: Sequence[Statistics]) -> str:
    return "+".join(sorted({g.signature for g in groups}))


def _bootstrap_p(differences: np.ndarray) -> float:
    # The position of 0 among the draws; adding one keeps p above 0, which no finite number of draws can show.
    rarer = min((differences <= 0).sum(), (differences >= 0).sum())
    return min(1.0, float(2 * (rarer + 1) / (len(differences) + 1)))


def _randomisation_p(after: Sequence[Statistics], before: Sequence[Statistics]) -> float:
    names = _names(after)
    swaps = np.random.default_rng(BOOTSTRAP_SEED).integers(0, 2, size=(RANDOMISATION_TRIALS, len(names)))
    swaps = np.vstack([np.zeros_like(swaps[:1]), swaps])  # the first row swaps nothing: the observed difference
    difference = np.zeros(len(swaps))
    for a, b in zip(after, before, strict=True):
        of_after, of_before = (cluster_sums(g.values, g.clusters, names) for g in (a, b))
        moved = swaps @ (of_before - of_after)
        difference += a.rate(of_after.sum(axis=0) + moved)
        difference -= b.rate(of_before.sum(axis=0) - moved)
    found, *trials = np.abs(difference)
    return float(((np.array(trials) >= found - _TIE * len(after)).sum() + 1) / (len(trials) + 1))
