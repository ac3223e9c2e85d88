"""Outputs of each utterance, gathered while a result is measured."""

from collections.abc import Iterable, Mapping

import numpy as np

from interlingua.metrics import SystemOutputs, segment_scores, transcript_errors
from interlingua.results import Ranked, Transcribed, Translated, UtteranceResult
from interlingua.retrieval.evaluate import Items, Ranks
from interlingua.retrieval.seqsim import TIE
from interlingua.types import Matrix, Utterance


class UtteranceLog:
    """Results by utterance, in the manifest's order."""

    def __init__(self, utterances: Iterable[Utterance]) -> None:
        self.results = [UtteranceResult(utterance=u) for u in utterances]
        self._by_id = {r.utterance.id: r for r in self.results}

    def ranked(
        self, method: str, language: str, queries: Items, candidates: Items, scores: Matrix, ranks: Ranks
    ) -> None:
        """Keep the rank of each query's right candidate and the first candidate; skip queries without a right one.

        ``language``: of the candidates; ``scores``: (N, M), as evaluated; ``ranks``: (N,), NaN: no right candidate.
        """
        for query, rank, first in zip(queries.ids, ranks, first_of(queries, candidates, scores), strict=True):
            if np.isnan(rank):
                continue
            found = Ranked(int(rank) if np.isfinite(rank) else None, None if first is None else candidates.ids[first])
            self._by_id[query].retrieval.setdefault(method, {})[language] = found

    def ranked_before(self, ranks: Mapping[str, Mapping[str, Mapping[str, Ranked]]]) -> None:
        """Keep ranks of another log: utterance id -> method -> language of the candidates -> rank."""
        for utterance, methods in ranks.items():
            for method, found in methods.items():
                self._by_id[utterance].retrieval.setdefault(method, {}).update(found)

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

    def transcribed(
        self, system: str, language: str, hypotheses: Mapping[str, str], references: Mapping[str, str]
    ) -> None:
        """Keep a system's transcripts of the utterances that have a reference; a missing one is empty."""
        errors = transcript_errors(SystemOutputs(hypotheses, references, None, language, source=language))
        unit = errors.signature.partition("|")[0]
        for utterance, error in errors.by_segment().items():
            self._by_id[utterance].transcripts.append(
                Transcribed(
                    system=system,
                    hypothesis=hypotheses.get(utterance, ""),
                    unit=unit,
                    error=round(error, 2),
                )
            )


def first_of(queries: Items, candidates: Items, scores: Matrix) -> list[int | None]:
    """The first candidate for each query, of equal scores (but for `TIE`) a wrong one; None where none is scored.

    ``scores``: (N, M); NaN never wins.
    """
    scores = np.where(np.isnan(scores), -np.inf, scores)
    relevant = np.asarray(queries.meanings)[:, None] == np.asarray(candidates.meanings)[None, :]
    best = scores.max(axis=1, keepdims=True)
    firsts = np.argmax((scores >= best - TIE) * (2 - relevant.astype(int)), axis=1)
    return [None if np.isneginf(top) else int(first) for top, first in zip(best[:, 0], firsts, strict=True)]
