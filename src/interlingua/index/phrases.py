"""Translation by retrieval: the nearest text of an index of phrases, where the match is sure.

A text's score is the mean over languages of its best phrase in each: each language is a witness of its own. A match is
sure where it stands far enough above the next text. How far is calibrated on the index itself: its utterances are
queries against the phrases of the other languages, once as they are, and once without the phrases of their own text, so
that whatever is found is wrong. The least margin is taken at which `PRECISION` of all these answers are right. It is
another one for a language that the index has no statistics of: there, each of its languages is taken for such a one.
"""

import hashlib
from collections.abc import Sequence
from functools import cache, cached_property
from statistics import fmean
from typing import NamedTuple

import numpy as np

from interlingua.encoding.store import among
from interlingua.errors import StoreError, UsageError
from interlingua.index.index import Index, Query, candidates
from interlingua.index.statistics import EVERY
from interlingua.languages import normalise_languages
from interlingua.translation.formats import Phrase
from interlingua.types import SAMPLE_RATE, Frames, Samples

PRECISION = 0.9  # of the answers of a calibration
QUERIES = 100  # of a calibration at most
LEAST = 10  # answers that a calibrated margin rests on
DEFAULT_MARGIN = 0.1  # where an index can't be calibrated on; calibrated ones were 0.06 to 0.10
HITS = 50  # of a search of an index too large to be scored whole: their texts are scored whole

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
        self._asked, self._least_margin = cache(self._ask), cache(self._calibrate)
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
        for ranked, language in zip(self.ranked(self._index.encode(audio), languages), languages, strict=True):
            best = {target: self.best(ranked, target) for target in self._texts}
            found.append({t: b for t, b in best.items() if b and b[1].margin >= self.margin(t, language)})
        return found

    def ranked(self, queries: Sequence[Frames], languages: Sequence[str]) -> list[Ranked]:
        """The phrases for each query, best first; of a large index, those of the texts that a search finds."""
        made = self._index.queries(queries, languages)
        if len(self._index) > candidates(len(self._index)):
            return [self._searched(query) for query in made]
        ids, scores = self._index.score_all(made)
        return [[(ids[n], float(row[n])) for n in np.argsort(-row, kind="stable")] for row in scores]

    def _searched(self, query: Query) -> Ranked:
        hits = self._index.search(query, HITS, where=among(self._languages, "language"))  # not what has no text
        texts = {(target, self._key(h.utterance.id, target)) for h in hits for target in self._texts}
        ids = {i for target, key in texts for i in self._ids[target].get(key, ())}
        if ids:
            hits = self._index.search(query, len(ids), where=among(ids), exhaustive=True)
        return [(h.utterance.id, h.score) for h in hits]

    def best(self, ranked: Ranked, target: str) -> tuple[str, Phrase] | None:
        """Text and phrase of the best text in the target; None: there is none."""
        found: dict[str, dict[str, tuple[float, str]]] = {}
        for i, score in ranked:
            if i in self._texts[target]:
                found.setdefault(self._key(i, target), {}).setdefault(self._utterances[i].language, (score, i))
        if not found:
            return None
        scores = {key: fmean(score for score, _ in by_language.values()) for key, by_language in found.items()}
        key, *others = sorted(scores, key=lambda key: -scores[key])
        nearest = max(found[key].values())[1]
        margin = scores[key] - scores[others[0]] if others else 0.0
        return self._texts[target][nearest], Phrase(nearest, scores[key], margin)

    def margin(self, target: str, language: str = EVERY) -> float:
        """The least margin of a sure match of speech of a language; infinite where no margin is sure enough."""
        if self._margin is not None:
            return self._margin
        return self._least_margin(target, self.knows(language))

    def knows(self, language: str) -> bool:
        """Whether the index has a language's own statistics: enough of its speech, with texts or without."""
        return self._index.statistics.name(language) != EVERY

    def calibration(self, target: str, *, known: bool = False) -> list[Answer]:
        """The answers to the calibration's queries, with the phrases of their own text and without.

        ``known``: their languages' own statistics serve them, where the index has any.
        """
        texts = self._texts[target]
        languages = {self._utterances[i].language for i in texts}
        found = []
        for i, ranked in self._asked(known) if len(languages) > 1 else ():
            own = self._key(i, target)
            for some in (ranked, [pair for pair in ranked if self._key(pair[0], target) != own]):
                if i in texts and (best := self.best(some, target)):
                    found.append(Answer(best[1].margin, self._key(best[1].id, target) == own))
        return found

    def _calibrate(self, target: str, known: bool) -> float:
        return least_margin(self.calibration(target, known=known))

    def _ask(self, known: bool) -> list[tuple[str, Ranked]]:
        """Utterances by id, each with the other languages' phrases, best first."""
        with_text = [i for i in self._utterances if any(i in texts for texts in self._texts.values())]
        chosen = sorted(with_text, key=lambda i: hashlib.sha256(i.encode()).digest())[:QUERIES]
        spoken = {i: u.language for i, u in self._utterances.items()}
        ranked = self.ranked(self._index.store.read(chosen), [spoken[i] if known else EVERY for i in chosen])
        return [
            (i, [pair for pair in pairs if spoken[pair[0]] != spoken[i]])
            for i, pairs in zip(chosen, ranked, strict=True)
        ]

    @cached_property
    def _languages(self) -> set[str]:
        """Languages that have phrases with a text."""
        return {self._utterances[i].language for texts in self._texts.values() for i in texts}

    @cached_property
    def _ids(self) -> dict[str, dict[str, list[str]]]:
        """Target -> text, by its key -> ids of its phrases."""
        found: dict[str, dict[str, list[str]]] = {target: {} for target in self._texts}
        for target, texts in self._texts.items():
            for i in texts:
                found[target].setdefault(self._key(i, target), []).append(i)
        return found

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
