"""What comes out for each utterance, gathered while a result is measured."""

from collections.abc import Iterable, Mapping

import numpy as np

from interlingua.metrics import segment_scores
from interlingua.results import Ranked, Translated, UtteranceResult
from interlingua.retrieval.evaluation import Items, Ranks
from interlingua.types import Matrix, Utterance


class UtteranceLog:
    """Results by utterance, in the manifest's order.

    Attributes:
        results: one an utterance.
    """

    def __init__(self, utterances: Iterable[Utterance]) -> None:
        self.results = [UtteranceResult(utterance=u) for u in utterances]
        self._by_id = {r.utterance.id: r for r in self.results}

    def ranked(
        self, method: str, language: str, queries: Items, candidates: Items, scores: Matrix, ranks: Ranks
    ) -> None:
        """Keep where each query's answer was ranked, and what stood first.

        Args:
            method: its name in the results.
            language: of the candidates.
            queries: N.
            candidates: M.
            scores: (N, M), as evaluated.
            ranks: (N,), as evaluated.
        """
        for query, rank, first in zip(queries.ids, ranks, first_of(queries, candidates, scores), strict=True):
            found = Ranked(int(rank) if np.isfinite(rank) else None, None if first is None else candidates.ids[first])
            self._by_id[query].retrieval.setdefault(method, {})[language] = found

    def translated(
        self, system: str, target: str, hypotheses: Mapping[str, str], references: Mapping[str, str]
    ) -> None:
        """Keep a system's translations of the utterances that have a reference; a missing one is empty."""
        for utterance, chrf in segment_scores(hypotheses, references, metric="chrf").items():
            self._by_id[utterance].translations.append(
                Translated(
                    system=system,
                    target=target,
                    reference=references[utterance],
                    hypothesis=hypotheses.get(utterance, ""),
                    chrf=round(chrf, 2),
                )
            )


def first_of(queries: Items, candidates: Items, scores: Matrix) -> list[int | None]:
    """Place of the candidate that stands first for each query: of equal scores a wrong one; None where none is scored.

    Args:
        queries: N.
        candidates: M.
        scores: (N, M); NaN is a score that can't win.
    """
    scores = np.where(np.isnan(scores), -np.inf, scores)
    relevant = np.asarray(queries.meanings)[:, None] == np.asarray(candidates.meanings)[None, :]
    best = scores.max(axis=1, keepdims=True)
    firsts = np.argmax((scores == best) * (2 - relevant.astype(int)), axis=1)
    return [None if np.isneginf(top) else int(first) for top, first in zip(best[:, 0], firsts, strict=True)]
