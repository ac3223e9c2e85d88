"""Scores of all utterances of two languages under a method; what it estimates comes from outside the test fold.

A method that learns something from unlabelled audio (means, whitening, neighbourhoods, rarity) is evaluated in five
folds of near-duplicate clusters. The queries of a fold are scored with estimates from the other folds, and the two
languages take theirs from different halves of these, so that nothing was estimated on parallel speech. The whole
gallery is always searched.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from interlingua.errors import CorpusError
from interlingua.retrieval.baselines import duration_similarity, mean_pool_cosine
from interlingua.retrieval.dtw import dtw_similarity
from interlingua.retrieval.features import fit_centring, fit_whitening, rarity_weights, with_position
from interlingua.retrieval.hubness import csls, neighbourhood, ratio_margin
from interlingua.retrieval.methods import Recipe
from interlingua.retrieval.seqsim import Packed, SimilarityCompute, pack, reduce_directions, seqsim_both
from interlingua.types import FrameArray, Matrix

FOLDS = 5
FOLD_SEED = 12345
LEAST_CLUSTERS = 10  # fewer leave too little to estimate on

Directions = tuple[Matrix, Matrix]
"""Scores of language a's queries against b's candidates (N, M), and of b's queries against a's candidates (M, N)."""


@dataclass(frozen=True, eq=False)
class Speech:
    """What is compared of one language; every utterance has frames.

    Attributes:
        frames: (T, D) each.
        seconds: of each.
        clusters: of near-duplicates; shared by the languages.
    """

    frames: Sequence[FrameArray]
    seconds: Sequence[float]
    clusters: Sequence[str]

    @cached_property
    def log_seconds(self) -> np.ndarray:
        """Natural logarithm of the seconds."""
        return np.asarray(np.log(self.seconds))

    @cached_property
    def finite(self) -> np.ndarray:
        """Whether all values are finite: nothing is estimated on others."""
        return np.array([bool(np.isfinite(f).all()) for f in self.frames])


def places(clusters: Sequence[str], seed: int = FOLD_SEED) -> dict[str, int]:
    """Each cluster's place in a random order; place p is in fold p % FOLDS, and in half p // FOLDS % 2."""
    names = sorted(set(clusters))
    return {names[c]: place for place, c in enumerate(np.random.default_rng(seed).permutation(len(names)))}


class Scorer:
    """Scores pairs of languages under one recipe.

    Args:
        speech: of each language.
        recipe: the method; not the cascade, which reads texts.
        compute: number format of SeqSim's products.
        device: where SeqSim multiplies.
        background: most utterances a language that anything is estimated on; None takes all outside the fold.
        seed: of the folds and halves.

    Raises:
        CorpusError: the recipe estimates, and there are too few clusters to hold some out.
    """

    def __init__(
        self,
        speech: dict[str, Speech],
        recipe: Recipe,
        *,
        compute: SimilarityCompute = "float32",
        device: str = "cpu",
        background: int | None = None,
        seed: int = FOLD_SEED,
    ) -> None:
        self._speech, self._recipe, self._compute, self._device = speech, recipe, compute, device
        self._background = background
        clusters = sorted({c for side in speech.values() for c in side.clusters})
        if recipe.estimates and len(clusters) < LEAST_CLUSTERS:
            raise CorpusError(
                f"{len(clusters)} clusters of meanings are too few for a method that estimates on some and tests on "
                f"others; it takes {LEAST_CLUSTERS}: use --method seqsim"
            )
        self._place = places(clusters, seed)

    def score(self, pairs: Sequence[tuple[str, str]], advance: Callable[[int], None] | None = None) -> list[Directions]:
        """Both directions of each pair (a, b) of languages; ``advance`` is called with 1 per pair and fold."""
        if not self._recipe.estimates:
            found = []
            for a, b in pairs:
                found.append(self._similarity(self._prepared(a, None), self._prepared(b, None)))
                if advance:
                    advance(FOLDS)
            return found
        sizes = [(len(self._speech[a].frames), len(self._speech[b].frames)) for a, b in pairs]
        scored = [(np.full((n, m), np.nan, np.float32), np.full((m, n), np.nan, np.float32)) for n, m in sizes]
        for fold in range(FOLDS):
            prepared: dict[tuple[str, int], _Prepared] = {}
            for (a, b), (forward, backward) in zip(pairs, scored, strict=True):
                for language, half in ((a, 0), (b, 1)):
                    if (language, half) not in prepared:
                        prepared[language, half] = self._prepared(language, self._outside(language, fold, half))
                qa, qb = prepared[a, 0], prepared[b, 1]
                there, back = self._similarity(qa, qb)
                for out, this, that, matrix in ((forward, qa, qb, there), (backward, qb, qa, back)):
                    tested = self._folds(this.speech) == fold
                    out[tested] = self._corrected(matrix, this, that)[tested]
                if advance:
                    advance(1)
        return scored

    def _folds(self, speech: Speech) -> np.ndarray:
        return np.array([self._place[c] % FOLDS for c in speech.clusters])

    def _outside(self, language: str, fold: int, half: int) -> np.ndarray:
        """Utterances of a language outside the fold whose clusters belong to this half."""
        speech = self._speech[language]
        places = np.array([self._place[c] for c in speech.clusters])
        chosen = np.flatnonzero((places % FOLDS != fold) & (places // FOLDS % 2 == half) & speech.finite)
        chosen = chosen[np.argsort(places[chosen], kind="stable")][: self._background]
        if len(chosen) == 0:
            raise CorpusError(f"no utterances of {language} outside fold {fold} to estimate on: use --method seqsim")
        return chosen

    def _prepared(self, language: str, background: np.ndarray | None) -> "_Prepared":
        """Frames of a language as the recipe compares them, estimated on ``background``."""
        recipe, speech = self._recipe, self._speech[language]
        frames: list[FrameArray] = list(speech.frames)
        chosen = np.arange(0) if background is None else background
        if recipe.frames != "plain":
            fit = fit_centring if recipe.frames == "centred" else lambda x: fit_whitening(x, recipe.shrinkage)
            transform = fit([frames[i] for i in chosen])
            frames = [transform(f) for f in frames]
        if recipe.score == "duration":
            return _Prepared(speech, chosen, speech.seconds)
        if recipe.score != "seqsim":
            return _Prepared(speech, chosen, frames)
        weights = None
        if recipe.weights == "rare":
            groups = [speech.clusters[int(i)] for i in chosen]
            weights = rarity_weights(frames, [frames[i] for i in chosen], speech.clusters, groups)
        if recipe.position > 0:
            frames = [with_position(f, recipe.position) for f in frames]
        return _Prepared(speech, chosen, pack(frames, weights=weights, compute=self._compute, device=self._device))

    def _similarity(self, a: "_Prepared", b: "_Prepared") -> Directions:
        if isinstance(a.compared, Packed) and isinstance(b.compared, Packed):
            precision, recall = seqsim_both(a.compared, b.compared)
            reduction = self._recipe.reduction
            return reduce_directions(precision, recall, reduction), reduce_directions(recall.T, precision.T, reduction)
        similarity: dict[str, Callable[[Any, Any], Matrix]] = {
            "dtw": dtw_similarity,
            "mean-pool": mean_pool_cosine,
            "duration": duration_similarity,
        }
        scores = similarity[self._recipe.score](a.compared, b.compared)
        return scores, scores.T

    def _corrected(self, scores: Matrix, queries: "_Prepared", candidates: "_Prepared") -> Matrix:
        recipe = self._recipe
        if recipe.hubness != "none":
            around_queries = neighbourhood(scores[:, candidates.background], recipe.neighbours)
            known = scores[queries.background].T.copy()
            clusters = np.asarray(queries.speech.clusters)[queries.background]
            translations = np.asarray(candidates.speech.clusters)[:, None] == clusters[None, :]
            known[translations] = np.nan  # a candidate's own would make it look like a hub
            around_candidates = neighbourhood(known, recipe.neighbours)
            usual = np.nanmean(around_candidates)  # of those whose cluster is all the background
            around_candidates = np.where(np.isnan(around_candidates), usual, around_candidates)
            correct = csls if recipe.hubness == "csls" else ratio_margin
            scores = correct(scores, around_queries, around_candidates)
        if recipe.duration > 0:
            apart = queries.deviation[:, None] - candidates.deviation[None, :]
            scores = (scores - recipe.duration * np.abs(apart)).astype(np.float32)
        return scores


@dataclass(frozen=True, eq=False)
class _Prepared:
    """One language, ready to be compared, and the utterances that its estimates come from."""

    speech: Speech
    background: np.ndarray
    compared: Any

    @property
    def deviation(self) -> np.ndarray:
        """Log duration less the background's mean."""
        logs = self.speech.log_seconds
        return np.asarray(logs - logs[self.background].mean())
