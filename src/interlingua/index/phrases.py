"""Translation by retrieval: the text of the nearest phrase of an index, where the match is sure.

A match is sure where its score stands far enough above that of the best phrase with another text. How far is
calibrated on the index itself: each of its languages in turn is taken for one that it lacks, and its utterances are
queries against the phrases of the others, once as they are, and once without the phrases of their own text, so that
whatever is found is wrong. The least margin is taken at which `PRECISION` of all these answers are right.
"""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from interlingua.errors import StoreError, UsageError
from interlingua.index.index import Index, candidates
from interlingua.index.statistics import EVERY
from interlingua.languages import normalise_languages
from interlingua.translation.formats import Phrase
from interlingua.types import SAMPLE_RATE, Frames, Samples

PRECISION = 0.9  # of the answers of a calibration
QUERIES = 100  # of a calibration at most
LEAST = 10  # answers that a calibrated margin rests on
DEFAULT_MARGIN = 0.1  # where an index can't be calibrated on; calibrated ones were 0.06 to 0.10
HITS = 50  # of a search of an index too large to be scored whole, of which some have the same text

Ranked = Sequence[tuple[str, float]]
"""Ids of phrases with their scores, best first."""


class Answer(NamedTuple):
    """An answer of a calibration."""

    margin: float
    right: bool


class Phrases:
    """Phrases of an index as answers; ``margin``: the least of a match that is sure, None: calibrated for each target.

    Raises:
        UsageError: no phrase has a text in a target.
        StoreError: an index that isn't complete, or whose encoder isn't the one that made its frames.
    """

    def __init__(self, index: Index, targets: Sequence[str], margin: float | None = None) -> None:
        if set(index.ids()) != set(index.store.ids()):
            raise StoreError(f"{index.uri}: wasn't completed; run its `interlingua index build` again")
        self._index, self._margin = index, margin
        self._utterances = {u.id: u for u in index.utterances()}
        self._texts = {target: self._texts_in(target) for target in normalise_languages(targets)}
        for target, texts in self._texts.items():
            if not texts:
                every = {code for u in self._utterances.values() for code in (u.text and u.language, *u.translations)}
                known = ", ".join(sorted(code for code in every if code)) or "none"
                raise UsageError(
                    f"--phrases {index.uri}: no phrase has a text in {target} (texts are in: {known}); build it from a "
                    "manifest that has them"
                )
        index.encode([np.zeros(SAMPLE_RATE, np.float32)])  # now, not when the first recording needs it

    @classmethod
    def open(cls, uri: str, targets: Sequence[str], margin: float | None = None) -> "Phrases":
        """Phrases of the index at ``uri``."""
        return cls(Index.open(uri), targets, margin)

    @property
    def targets(self) -> list[str]:
        """Languages that it answers in."""
        return list(self._texts)

    @property
    def about(self) -> dict[str, object]:
        """What the answers depend on."""
        texts = hashlib.sha256(
            repr(sorted((t, *pair) for t in self._texts for pair in self._texts[t].items())).encode()
        )
        statistics = self._index.statistics.version
        return {"statistics": statistics, "texts": texts.hexdigest()[:16], "margin": self._margin}

    def answers(self, audio: Sequence[Samples], languages: Sequence[str]) -> list[dict[str, tuple[str, Phrase]]]:
        """Target language -> text and phrase, of each stretch of speech; only those that are sure."""
        if not audio:
            return []
        found = []
        for ranked in self.ranked(self._index.encode(audio), languages):
            best = {target: self.best(ranked, target) for target in self._texts}
            found.append({t: b for t, b in best.items() if b and b[1].margin >= self.margin(t)})
        return found

    def ranked(self, queries: Sequence[Frames], languages: Sequence[str]) -> list[Ranked]:
        """The phrases for each query, best first."""
        made = self._index.queries(queries, languages)
        if len(self._index) > candidates(len(self._index)):
            searched = [self._index.search(query, HITS) for query in made]
            return [[(hit.utterance.id, hit.score) for hit in hits] for hits in searched]
        ids, scores = self._index.score_all(made)
        return [[(ids[n], float(row[n])) for n in np.argsort(-row, kind="stable")] for row in scores]

    def best(self, ranked: Ranked, target: str) -> tuple[str, Phrase] | None:
        """Text and phrase of the best one that has a text in the target; None: there is none."""
        texts = self._texts[target]
        first = next(((i, score) for i, score in ranked if i in texts), None)
        if first is None:
            return None
        i, score = first
        own = self._key(i, target)
        other = next((s for j, s in ranked if self._key(j, target) != own), score)
        return texts[i], Phrase(i, score, score - other)

    def margin(self, target: str) -> float:
        """The least margin of a sure match into a target; infinite where no margin is sure enough."""
        return self._margins[target] if self._margin is None else self._margin

    @cached_property
    def _margins(self) -> dict[str, float]:
        return {target: least_margin(self.calibration(target)) for target in self._texts}

    def calibration(self, target: str) -> list[Answer]:
        """The answers to the calibration's queries, with the phrases of their own text and without."""
        texts = self._texts[target]
        known = {self._utterances[i].language for i in texts}
        found = []
        for i, ranked in self._asked if len(known) > 1 else ():
            own = self._key(i, target)
            for some in (ranked, [pair for pair in ranked if self._key(pair[0], target) != own]):
                if i in texts and (best := self.best(some, target)):
                    found.append(Answer(best[1].margin, self._key(best[1].id, target) == own))
        return found

    @cached_property
    def _asked(self) -> list[tuple[str, Ranked]]:
        """Utterances by id, each with the other languages' phrases as if its own were unknown, best first."""
        known = [i for i in self._utterances if any(i in texts for texts in self._texts.values())]
        chosen = sorted(known, key=lambda i: hashlib.sha256(i.encode()).digest())[:QUERIES]
        spoken = {i: u.language for i, u in self._utterances.items()}
        ranked = self.ranked(self._index.store.read(chosen), [EVERY] * len(chosen))
        return [
            (i, [pair for pair in pairs if spoken[pair[0]] != spoken[i]])
            for i, pairs in zip(chosen, ranked, strict=True)
        ]

    def _texts_in(self, target: str) -> dict[str, str]:
        """Text in a language of each phrase that has one: its transcript, its translation, or one of its meaning's."""
        found = {}
        for i, u in self._utterances.items():
            if text := u.text if u.language == target else u.translations.get(target):
                found[i] = text
        meant = {self._utterances[i].meaning: text for i, text in found.items()}
        for i, u in self._utterances.items():
            if u.meaning and i not in found and u.meaning in meant:
                found[i] = meant[u.meaning]
        return found

    def _key(self, i: str, target: str) -> str:
        """What phrases of one text have in common."""
        return " ".join(self._texts[target].get(i, f"\0{i}").casefold().split())


def least_margin(answers: Sequence[Answer]) -> float:
    """The least margin at which `PRECISION` of the answers are right; `DEFAULT_MARGIN` for too few answers.

    >>> least_margin([Answer(0.3, True)] * 9 + [Answer(0.2, False), Answer(0.1, False)])
    0.2
    """
    if len(answers) < LEAST:
        return DEFAULT_MARGIN
    ordered = sorted(answers, reverse=True)
    right = np.cumsum([a.right for a in ordered])
    n = np.arange(1, len(ordered) + 1)
    sure = [k for k in np.flatnonzero(right >= PRECISION * n) if k + 1 >= LEAST]
    return ordered[sure[-1]].margin if sure else float("inf")
