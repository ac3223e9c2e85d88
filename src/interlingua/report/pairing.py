"""Two runs on the same utterances: paired differences, from what was kept of each utterance."""

from collections.abc import Sequence
from dataclasses import dataclass

from interlingua.metrics import (
    Comparison,
    Metric,
    SystemOutputs,
    Tallies,
    pooled_difference,
    pooled_ratio_difference,
    transcript_errors,
)
from interlingua.metrics.significance import Difference as Found
from interlingua.results import Difference, Pair, Results, UtteranceResult

_CHARACTERS = "zh"  # a language whose error rate `transcript_errors` counts by characters


@dataclass(frozen=True)
class Run:
    """A result folder among those that are compared."""

    name: str
    results: Results
    utterances: Sequence[UtteranceResult]


def recall_difference(before: Run, after: Run, methods: tuple[str, str], pairs: Sequence[Pair]) -> Difference | None:
    """R@1 (per cent) of ``after`` less that of ``before``, meaned over ordered pairs of languages.

    Args:
        before: the run that the other is compared with.
        after: the other.
        methods: of either.
        pairs: that both were run on.

    Returns:
        None where a run kept no ranks, or those of other queries.
    """
    sides = [[_hits(run, method, pair) for pair in pairs] for run, method in zip((before, after), methods, strict=True)]
    old, new = sides
    if not all(old) or [t.keys() for t in old] != [t.keys() for t in new]:
        return None
    clusters = _clusters(before)
    tallies = [[Tallies(values, clusters, 100, "r1") for values in side] for side in (new, old)]
    return _record(pooled_ratio_difference(*tallies))


def translation_difference(
    before: Run, after: Run, systems: tuple[str, str], directions: Sequence[Pair], metric: Metric
) -> Difference | None:
    """A corpus score of ``after`` less that of ``before``, meaned over directions.

    Args:
        before: the run that the other is compared with.
        after: the other.
        systems: of either.
        directions: language spoken and target each.
        metric: what is scored.

    Returns:
        None where a run didn't keep its outputs, or those of other utterances.
    """
    compared = []
    for direction in directions:
        old, new = (_outputs(run, system, direction) for run, system in zip((before, after), systems, strict=True))
        if old is None or new is None or old.references != new.references:
            return None
        compared.append(Comparison(new.hypotheses, old.hypotheses, old.references, old.clusters, direction[1]))
    return _record(pooled_difference(compared, metric=metric)) if compared else None


def transcript_difference(
    before: Run, after: Run, systems: tuple[str, str], languages: Sequence[str], *, characters: bool = False
) -> Difference | None:
    """The error rate (per cent) of ``after``'s transcripts less that of ``before``'s, meaned over languages.

    Args:
        before: the run that the other is compared with.
        after: the other.
        systems: of either.
        languages: spoken.
        characters: count characters in any language, not words where they are spaced.

    Returns:
        None where a run didn't keep its transcripts, or those of other utterances.
    """
    sides: list[list[Tallies]] = [[], []]
    for language in languages:
        old, new = (_heard(run, system, language) for run, system in zip((before, after), systems, strict=True))
        said = [{i: text for i, (text, _) in side.items()} for side in (old, new)]
        if not old or said[0] != said[1]:
            return None
        for found, held in zip(sides, (new, old), strict=True):
            texts = {i: heard for i, (_, heard) in held.items()}
            counted = _CHARACTERS if characters else language
            found.append(transcript_errors(texts, said[0], language=counted, clusters=_clusters(before)))
    return _record(pooled_ratio_difference(*sides)) if languages else None


def _hits(run: Run, method: str, pair: Pair) -> dict[str, tuple[float, float]]:
    """Utterance id -> (1 where the right one was first, 1)."""
    query, candidate = pair
    return {
        r.utterance.id: (float(found.rank == 1), 1.0)
        for r in run.utterances
        if r.utterance.language == query and (found := r.retrieval.get(method, {}).get(candidate)) is not None
    }


def _outputs(run: Run, system: str, direction: Pair) -> SystemOutputs | None:
    source, target = direction
    kept = {
        r.utterance.id: t
        for r in run.utterances
        for t in r.translations
        if (r.utterance.language, t.target, t.system) == (source, target, system)
    }
    if not kept:
        return None
    texts = {i: t.hypothesis for i, t in kept.items()}
    return SystemOutputs(texts, {i: t.reference for i, t in kept.items()}, _clusters(run), target)


def _heard(run: Run, system: str, language: str) -> dict[str, tuple[str, str]]:
    """Utterance id -> what is said, and what the system heard."""
    return {
        r.utterance.id: (r.utterance.text or "", t.hypothesis)
        for r in run.utterances
        for t in r.transcripts
        if (r.utterance.language, t.system) == (language, system)
    }


def _clusters(run: Run) -> dict[str, str]:
    return {r.utterance.id: r.utterance.group for r in run.utterances}


def _record(found: Found) -> Difference:
    score = found.score
    return Difference(
        value=score.value,
        ci=score.ci,
        n=score.n,
        signature=score.signature,
        p_bootstrap=found.p_bootstrap,
        p_randomisation=found.p_randomisation,
    )
