"""From a corpus's reader to a manifest: how much of it, which recordings of a sentence, and what came out."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from interlingua.corpora.leftovers import LeftOut
from interlingua.corpora.manifest import iter_manifest, write_manifest
from interlingua.corpora.splits import check_rotation, split_by_cluster
from interlingua.errors import CorpusError, ManifestError, UsageError
from interlingua.types import Utterance

Log = Callable[[str], None]
Positives = Literal["all", "first"]
RULES: dict[Positives, str] = {
    "all": "all recordings of a sentence are kept and share its meaning: each is a positive of each",
    "first": "of several recordings of a sentence in a language the first is kept",
}


@dataclass
class Prepared:
    """What a manifest holds, and by which rule."""

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
        self.recordings[utterance.language, _meaning(utterance)] += 1
        self.clusters.add(utterance.cluster or _meaning(utterance))

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
                "left_out": self.other_recordings,
            },
            "repeated_ids": self.repeated_ids,
        }


def prepare_manifest(
    read: Callable[[Log], Iterator[Utterance]],
    out: Path,
    *,
    positives: Positives = "all",
    max_utterances: int | None = None,
    rotation: int | None = None,
    log: Log = lambda line: None,
) -> Prepared:
    """Write what a reader yields as a manifest, one by one as it comes.

    Args:
        read: starts the reader anew; takes its log. With ``max_utterances`` the corpus is read twice.
        out: the manifest.
        positives: see `RULES`.
        max_utterances: at most so many of each language; sentences that most languages share come first.
        rotation: split by near-duplicate cluster, see `split_by_cluster`; then all utterances are held in memory.
        log: receives a line on whatever was left out.

    Raises:
        CorpusError: nothing is left to write.
        UsageError: no utterance was asked for, another rotation than there are, or ``out`` holds something else.
    """
    check_out(out)
    if rotation is not None:
        check_rotation(rotation)
    if max_utterances is not None and max_utterances < 1:
        raise UsageError(f"--max-utterances {max_utterances}: use 1 or more")
    prepared = Prepared(RULES[positives])
    wanted = None if max_utterances is None else _choose(read(lambda line: None), positives, max_utterances)
    repeated = LeftOut(out.name)
    utterances = _kept(read(log), prepared, positives, wanted, repeated)
    if rotation is not None:
        utterances = iter(split_by_cluster(list(utterances), rotation))
    write_manifest(out, utterances)
    repeated.report(log)
    return prepared


def check_out(out: Path) -> None:
    """Refuse to write a manifest over something else, such as the table that is read.

    Raises:
        UsageError: a file is there that is no manifest.
    """
    if not out.exists() or out.is_dir():  # a folder is told when it is written
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
    repeated: LeftOut,
) -> Iterator[Utterance]:
    ids: set[str] = set()
    for utterance in utterances:
        key = (utterance.language, _meaning(utterance))
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
            "no utterance is left to write: every row was left out, as the lines above say, or none is of the "
            "languages and the split asked for"
        )


def _choose(utterances: Iterator[Utterance], positives: Positives, most: int) -> set[tuple[str, str]]:
    """(language, meaning) pairs: at most so many utterances of each language, meanings of most languages first."""
    counts: dict[str, Counter[str]] = {}
    for utterance in utterances:
        counts.setdefault(_meaning(utterance), Counter())[utterance.language] += 1
    taken: Counter[str] = Counter()
    wanted = set()
    for meaning in sorted(counts, key=lambda m: -len(counts[m])):
        for language, recordings in counts[meaning].items():
            need = 1 if positives == "first" else recordings
            if taken[language] + need <= most:
                taken[language] += need
                wanted.add((language, meaning))
    return wanted


def _meaning(utterance: Utterance) -> str:
    return utterance.meaning or utterance.id
