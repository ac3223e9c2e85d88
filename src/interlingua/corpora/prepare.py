"""From a corpus's reader to a manifest: size, recordings of a sentence, splits, clusters, statistics."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from interlingua.audio import declared_duration
from interlingua.corpora.base import Log, Skipped, silent
from interlingua.corpora.manifest import iter_manifest, write_manifest
from interlingua.errors import AudioError, CorpusError, ManifestError, UsageError
from interlingua.types import Utterance

Positives = Literal["all", "first"]
RULES: dict[Positives, str] = {
    "all": "all recordings of a sentence are kept and share its meaning: each is a positive of each",
    "first": "of several recordings of a sentence in a language the first is kept",
}
NEAR_DUPLICATE_SIMILARITY = 2 / 3  # word edit similarity from which two texts count as near-duplicates
FOLDS = 5
SEED = 12345


@dataclass
class Prepared:
    """Statistics of a written manifest, and its rule for recordings of one sentence."""

    rule: str
    utterances: int = 0
    seconds: float = 0.0
    without_duration: int = 0
    repeated_ids: int = 0
    other_recordings: int = 0
    languages: Counter[str] = field(default_factory=Counter)
    clusters: set[str] = field(default_factory=set)
    recordings: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, utterance: Utterance) -> None:
        """Count one utterance."""
        self.utterances += 1
        self.seconds += utterance.duration or 0.0
        self.without_duration += utterance.duration is None
        self.languages[utterance.language] += 1
        self.recordings[_sentence(utterance)] += 1
        self.clusters.add(utterance.group)

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "utterances": self.utterances,
            "meanings": len({meaning for _, meaning in self.recordings}),
            "clusters": len(self.clusters),
            "seconds": round(self.seconds, 1),
            "without_duration": self.without_duration,
            "languages": dict(self.languages),
            "several_recordings": {
                "rule": self.rule,
                "sentences": sum(n > 1 for n in self.recordings.values()),
                "most": max(self.recordings.values(), default=0),
                "skipped": self.other_recordings,
            },
            "repeated_ids": self.repeated_ids,
        }


def prepare_manifest(
    read: Callable[[Log], Iterator[Utterance]],
    out: Path,
    *,
    positives: Positives = "all",
    max_utterances: int | None = None,
    fold: int | None = None,
    log: Log = silent,
) -> Prepared:
    """Write what a reader yields as a manifest, one utterance at a time.

    CorpusError if nothing is left; UsageError for a wrong number or fold, or if ``out`` holds something else.

    Args:
        read: starts the reader; takes its log. With ``max_utterances`` the corpus is read twice.
        positives: see `RULES`.
        max_utterances: limit for each language; sentences that most languages share come first.
        fold: the test fold of `split_by_cluster`, which holds all utterances in memory; None: keep the splits.
    """
    check_out(out)
    if fold is not None:
        check_fold(fold)
    if max_utterances is not None and max_utterances < 1:
        raise UsageError(f"--max-utterances {max_utterances}: use 1 or more")
    prepared = Prepared(RULES[positives])
    wanted = None if max_utterances is None else _choose(read(silent), positives, max_utterances)
    repeated = Skipped(out.name, log)
    utterances = _kept(read(log), prepared, positives, wanted, repeated)
    if fold is not None:
        utterances = iter(split_by_cluster(list(utterances), fold))
    write_manifest(out, utterances)
    repeated.report()
    return prepared


def check_out(out: Path) -> None:
    """Raise UsageError if a manifest would overwrite something else, such as the table that is read."""
    if not out.exists() or out.is_dir():  # for a folder, writing raises the error
        return
    try:
        if out.is_file() and (not out.stat().st_size or next(iter_manifest(out))):
            return
    except ManifestError:
        pass
    raise UsageError(f"--out {out}: is there and is no manifest; it would be lost: name another file")


def _kept(
    utterances: Iterator[Utterance],
    prepared: Prepared,
    positives: Positives,
    wanted: set[tuple[str, str]] | None,
    repeated: Skipped,
) -> Iterator[Utterance]:
    ids: set[str] = set()
    for utterance in utterances:
        key = _sentence(utterance)
        if wanted is not None and key not in wanted:
            continue
        if utterance.id in ids:
            prepared.repeated_ids += 1
            repeated.add("its id stands already before", utterance.id)
            continue
        if positives == "first" and prepared.recordings[key]:
            prepared.other_recordings += 1
            continue
        ids.add(utterance.id)
        prepared.add(utterance)
        yield utterance
    if not prepared.utterances:
        raise CorpusError(
            "no utterance is left to write: every row was skipped, as the lines above say, or none is of the "
            "languages and the split requested"
        )


def _choose(utterances: Iterator[Utterance], positives: Positives, most: int) -> set[tuple[str, str]]:
    """(language, meaning) pairs of at most ``most`` utterances a language; meanings of most languages first."""
    counts: dict[str, Counter[str]] = {}
    for utterance in utterances:
        language, meaning = _sentence(utterance)
        counts.setdefault(meaning, Counter())[language] += 1
    taken: Counter[str] = Counter()
    wanted = set()
    for meaning in sorted(counts, key=lambda m: -len(counts[m])):
        for language, recordings in counts[meaning].items():
            need = 1 if positives == "first" else recordings
            if taken[language] + need <= most:
                taken[language] += need
                wanted.add((language, meaning))
    return wanted


def _sentence(utterance: Utterance) -> tuple[str, str]:
    return utterance.language, utterance.meaning or utterance.id


# --- splits and clusters ---------------------------------------------------------------------------------


def split_by_cluster(utterances: Sequence[Utterance], fold: int = 0) -> list[Utterance]:
    """Split by cluster: of five random folds ``fold`` (0 to 4) is test, the next dev, the others train.

    UsageError for another fold, or fewer clusters than folds.
    """
    check_fold(fold)
    names = sorted({u.group for u in utterances})
    if len(names) < FOLDS:
        raise UsageError(f"{len(names)} clusters can't be split into {FOLDS} folds; read more, or omit --fold")
    order = np.random.default_rng(SEED).permutation(len(names))
    fold_of = {names[c]: position % FOLDS for position, c in enumerate(order)}
    roles = {fold: "test", (fold + 1) % FOLDS: "dev"}
    return [msgspec.structs.replace(u, split=roles.get(fold_of[u.group], "train")) for u in utterances]


def check_fold(fold: int) -> None:
    """Raise UsageError if there is no such fold."""
    if not 0 <= fold < FOLDS:
        raise UsageError(f"fold {fold}: use 0 to {FOLDS - 1}")


def words_of(text: str) -> list[str]:
    """Lower-case words and numbers of a text, punctuation dropped."""
    return re.findall(r"[^\W_]+(?:'[^\W_]+)?", text.lower())


def edit_similarity(a: Sequence[str], b: Sequence[str]) -> float:
    """1 − (edit distance / length of the longer sequence), in [0, 1]; 1 for two empty ones."""
    from rapidfuzz.distance import Levenshtein

    return Levenshtein.normalized_similarity(a, b)


def cluster_meanings(texts: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Cluster near-duplicate meanings: meaning -> cluster (named after its first meaning).

    Near-duplicates have texts in any one language (``texts``: meaning -> language -> text) with word edit similarity
    2/3 or more. Clusters are connected components (single linkage): no linked pair straddles a split.
    """
    import networkx

    words = {m: {lang: words_of(text) for lang, text in texts[m].items()} for m in texts}
    graph = networkx.Graph((a, b) for a, b in combinations(words, 2) if _near(words[a], words[b]))
    graph.add_nodes_from(words)
    return {m: min(cluster) for cluster in networkx.connected_components(graph) for m in cluster}


def _near(a: Mapping[str, list[str]], b: Mapping[str, list[str]]) -> bool:
    for language in a.keys() & b.keys():
        shorter, longer = sorted((a[language], b[language]), key=len)
        enough = NEAR_DUPLICATE_SIMILARITY * len(longer) <= len(shorter)
        if longer and enough and edit_similarity(shorter, longer) >= NEAR_DUPLICATE_SIMILARITY:
            return True
    return False


# --- statistics ------------------------------------------------------------------------------------------


@dataclass
class LanguageStatistics:
    """Statistics of one language of a manifest: recordings by speaker, gender, split, target and sentence."""

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


def corpus_statistics(utterances: Iterable[Utterance]) -> dict[str, Any]:
    """Statistics in one pass that holds the names of speakers and sentences; languages in the manifest's order."""
    languages: dict[str, LanguageStatistics] = {}
    for utterance in utterances:
        languages.setdefault(utterance.language, LanguageStatistics()).add(utterance)
    meanings = {code: one.meanings.keys() for code, one in languages.items()}
    common = set[str]().union(*meanings.values()).intersection(*meanings.values()) if meanings else set()
    return {
        "utterances": sum(one.utterances for one in languages.values()),
        "hours": round(sum(one.seconds for one in languages.values()) / 3600, 3),
        "languages": {code: one.as_dict() for code, one in languages.items()},
        "overlap": {f"{a}-{b}": len(meanings[a] & meanings[b]) for a, b in combinations(languages, 2)},
        "common_to_all": len(common),
    }


def unmeasured(utterance: Utterance) -> bool:
    """Whether an utterance's duration is known only from its recording."""
    return utterance.duration is None and utterance.audio.duration is None


def measured(utterances: Iterable[Utterance], done: Callable[[int], None] = lambda n: None) -> Iterator[Utterance]:
    """Utterances with missing durations filled from exact audio headers; ``done(1)`` follows each one read."""
    for utterance in utterances:
        if not unmeasured(utterance):
            yield utterance
            continue
        try:
            yield msgspec.structs.replace(utterance, duration=declared_duration(utterance.audio))
        except AudioError:
            yield utterance
        done(1)
