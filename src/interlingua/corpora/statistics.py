"""What a manifest holds: hours, speakers, sentences, and how much of it the languages share."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import msgspec

from interlingua.audio import declared_duration
from interlingua.errors import AudioError
from interlingua.types import Utterance


@dataclass
class LanguageStatistics:
    """One language's share.

    Attributes:
        utterances: recordings.
        seconds: of those whose length is known.
        without_duration: recordings of unknown length.
        without_speaker: recordings whose speaker the corpus doesn't name.
        without_text: recordings without a transcript.
        speakers: recordings of each speaker.
        genders: recordings of each gender; ``unknown`` is one.
        splits: recordings of each split; ``none`` is one.
        translations: recordings with a translation into a language.
        meanings: recordings of each sentence.
    """

    utterances: int = 0
    seconds: float = 0.0
    without_duration: int = 0
    without_speaker: int = 0
    without_text: int = 0
    speakers: Counter[str] = field(default_factory=Counter)
    genders: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    translations: Counter[str] = field(default_factory=Counter)
    meanings: Counter[str] = field(default_factory=Counter)

    def add(self, utterance: Utterance) -> None:
        """Count one utterance."""
        seconds = utterance.duration if utterance.duration is not None else utterance.audio.duration
        self.utterances += 1
        self.seconds += seconds or 0.0
        self.without_duration += seconds is None
        self.without_speaker += utterance.speaker is None
        self.without_text += utterance.text is None
        if utterance.speaker is not None:
            self.speakers[utterance.speaker] += 1
        if utterance.meaning is not None:
            self.meanings[utterance.meaning] += 1
        self.genders[utterance.gender or "unknown"] += 1
        self.splits[utterance.split or "none"] += 1
        self.translations.update(utterance.translations.keys())

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "utterances": self.utterances,
            "hours": round(self.seconds / 3600, 3),
            "without_duration": self.without_duration,
            "speakers": len(self.speakers),
            "without_speaker": self.without_speaker,
            "sentences": len(self.meanings),
            "sentences_with_several_recordings": sum(n > 1 for n in self.meanings.values()),
            "most_recordings_of_a_sentence": max(self.meanings.values(), default=0),
            "without_text": self.without_text,
            "genders": dict(self.genders),
            "splits": dict(self.splits),
            "translations": dict(self.translations),
        }


@dataclass(frozen=True)
class Statistics:
    """All languages of a manifest.

    Attributes:
        languages: language -> its share, in the manifest's order.
        overlap: (language, language) -> sentences that both have.
        common: sentences that all languages have.
    """

    languages: dict[str, LanguageStatistics]
    overlap: dict[tuple[str, str], int]
    common: int

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "utterances": sum(one.utterances for one in self.languages.values()),
            "hours": round(sum(one.seconds for one in self.languages.values()) / 3600, 3),
            "languages": {code: one.as_dict() for code, one in self.languages.items()},
            "overlap": {f"{a}-{b}": n for (a, b), n in self.overlap.items()},
            "common_to_all": self.common,
        }


def unmeasured(utterance: Utterance) -> bool:
    """Whether nothing but its recording says how long an utterance is."""
    return utterance.duration is None and utterance.audio.duration is None


def measured(utterances: Iterable[Utterance], done: Callable[[int], None] = lambda n: None) -> Iterator[Utterance]:
    """Utterances with the durations that their recordings' headers say, where they have none of their own.

    Nothing is decoded: where a header doesn't say exactly, or the recording can't be opened, it stays unknown.

    Args:
        utterances: of a manifest.
        done: called with 1 behind each that was looked into.
    """
    for utterance in utterances:
        if not unmeasured(utterance):
            yield utterance
            continue
        try:
            yield msgspec.structs.replace(utterance, duration=declared_duration(utterance.audio))
        except AudioError:
            yield utterance
        done(1)


def corpus_statistics(utterances: Iterable[Utterance]) -> Statistics:
    """Count utterances in one pass; what stays in memory is the names of speakers and sentences."""
    languages: dict[str, LanguageStatistics] = {}
    for utterance in utterances:
        languages.setdefault(utterance.language, LanguageStatistics()).add(utterance)
    meanings = {code: one.meanings.keys() for code, one in languages.items()}
    overlap = {(a, b): len(meanings[a] & meanings[b]) for a, b in combinations(languages, 2)}
    common = set[str]().union(*meanings.values()).intersection(*meanings.values()) if meanings else set()
    return Statistics(languages, overlap, len(common))
