"""How far transfer reaches: retrieval, translation and transcription of each language against its distance to a pivot.

For each language: R@1 to and from the pivot's speech, translation into English, transcripts, and distance; over the
languages, rank correlations. Languages without a token are decoded under proxy languages, as in `unseen`.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from interlingua.corpora.distance import KINDS, language_distance, language_family
from interlingua.corpora.udhr import is_synthetic
from interlingua.encoding import Context, WhisperEncoder, best_compute, encode_manifest
from interlingua.encoding.store import FrameStore
from interlingua.errors import CorpusError, UsageError
from interlingua.experiments.corpus_source import CorpusSource
from interlingua.experiments.retrieval import Corpus, measure, require_methods, usable_methods
from interlingua.experiments.run import kept, to_encode
from interlingua.experiments.unseen import (
    ENGLISH,
    KeptDecoder,
    candidates_named,
    language_row,
    samples,
    transcribed,
    with_english,
    with_reference,
)
from interlingua.experiments.utterances import UtteranceLog
from interlingua.languages import language_name, normalise_language, normalise_languages
from interlingua.metrics.correlation import PERMUTATION_SEED, rank_correlation
from interlingua.resampling import BOOTSTRAP_SEED
from interlingua.results import (
    Distant,
    RankCorrelation,
    Ranked,
    Results,
    Retrieval,
    Robustness,
    Sample,
    UnderTokens,
)
from interlingua.retrieval.evaluate import FOLD_SEED
from interlingua.retrieval.methods import DEFAULT_METHOD
from interlingua.retrieval.seqsim import SimilarityCompute
from interlingua.types import Utterance

RETRIEVED = "speech"
"""Context of the retrieval frames; see `interlingua.encoding`."""
SCORES = ("bleu", "chrf", "off_target", "wer", "cer")


@dataclass(frozen=True, kw_only=True)
class RobustnessStudy:
    """Settings of the study; the keys of its recipe.

    Attributes:
        out: the result folder; it keeps manifest, frames and outputs.
        corpus: parallel speech of the pivot and of other languages, with English texts.
        pivot: language that the others are compared with.
        model: model spec; it must be able to translate.
        methods: retrieval methods; the first one's scores are drawn.
        tokens: language without a token -> candidates, instead of the related languages.
        same_sentences: compare only sentences that every language has, since R@1 depends on their number.
        context: encoder context for translation; retrieval reads the speech alone.
        pool: frames averaged into one for retrieval; 1 = none.
    """

    out: Path
    corpus: CorpusSource
    pivot: str = ENGLISH
    model: str = "base"
    methods: tuple[str, ...] = (DEFAULT_METHOD, "seqsim", "duration")
    tokens: dict[str, tuple[str, ...]] = field(default_factory=dict)
    same_sentences: bool = True
    context: str = "speech+8"
    pool: int = 1

    def __post_init__(self) -> None:
        Context.parse(self.context)
        require_methods(self.methods)
        normalise_languages(self.tokens)
        pivot = normalise_language(self.pivot)
        if self.corpus.languages and pivot not in normalise_languages(self.corpus.languages):
            raise UsageError(f"pivot: {self.pivot!r} isn't among the corpus's languages; add it there")
        if self.pool < 1:
            raise UsageError(f"pool: {self.pool}; use 1 (no pooling) or more")

    def plan(self) -> str:
        """The plan in one line."""
        which = ", ".join(self.corpus.languages) or "every language"
        return f"{which} of {self.corpus.title} to and from {self.pivot}, into English and transcribed, {self.model}"


def run_robustness_study(study: RobustnessStudy, *, dry_run: bool = False, log: Callable[[str], None] = print) -> Path:
    """Measure what isn't measured yet, and write ``results.json``; ``dry_run``: only print the plan.

    Raises:
        CorpusError: the pivot isn't in the corpus, a language has no English reference, or no sentence is shared.
        UsageError: a candidate that the model has no token for.
        ResultsError: the folder was begun with another model or corpus.
    """
    pivot = normalise_language(study.pivot)
    source = with_english(study.corpus)
    utterances, rules = compared(source.utterances(study.out, log), pivot, source.title, study.same_sentences)
    others = [u for u in utterances if u.language != pivot]
    abroad = [u for u in others if u.language != ENGLISH]
    abroad, skipped = with_reference(abroad, source.title) if abroad else ([], [])
    decoded = [*abroad, *(u for u in others if u.language == ENGLISH)]
    for line in (*rules, *skipped):
        log(line)
    tokens = candidates_named(study.tokens)
    decoder = KeptDecoder(study.out, decoded, study.model, study.context, log=log)
    run = decoder.run
    encoder = WhisperEncoder(decoder.encoding, context=RETRIEVED)  # one model for both
    folder = study.out / f"retrieval-frames-{study.pool}.lance"
    spec = replace(encoder.spec, pooling=study.pool)
    log(f"retrieval: to encode: {to_encode(utterances, spec, encoder.dim, folder)}")
    log(f"translation: {decoder.to_do()}")
    if dry_run:
        return study.out
    decoder.encode()
    store, report = encode_manifest(utterances, encoder, folder, pooling=study.pool)
    methods = usable_methods(study.methods, len({u.group for u in utterances if u.id in store}), log)
    compute: SimilarityCompute = best_compute(run.device)
    outputs = UtteranceLog(utterances)
    rows: list[Distant] = []
    unseen: list[UnderTokens] = []
    shown: list[Sample] = []
    for code in dict.fromkeys(u.language for u in others):
        log(language_name(code))
        pair = [u for u in utterances if u.language in (code, pivot)]
        retrieval = both_ways(
            pair, pivot, store, methods, study.out / "retrieval", outputs, compute=compute, device=run.device
        )
        spoken = [u for u in decoded if u.language == code]
        scores: dict[str, Any]
        if code == ENGLISH:
            errors = transcribed(decoder, spoken, ENGLISH, outputs) or {}
            scores, token = {"wer": errors.get("words"), "cer": errors.get("characters")}, ENGLISH
        else:
            row, translations = language_row(decoder, spoken, outputs, tokens.get(code, ()))
            unseen.append(row)
            shown += samples(row, translations, spoken)
            scores, token = row.scores, row.chosen
        rows.append(
            Distant(
                language=code,
                name=language_name(code),
                family=language_family(code),
                seen=code in decoder.whisper.languages,
                token=token,
                distance={kind: language_distance(code, pivot, kind) for kind in KINDS},
                n=len(spoken),
                n_clusters=len({u.group for u in spoken}),
                seconds=round(sum(u.duration or 0.0 for u in spoken), 1),
                to_pivot={r.method: r for r in retrieval if r.query == code},
                from_pivot={r.method: r for r in retrieval if r.query == pivot},
                **scores,
            )
        )
    speech = ", SYNTHETIC speech" if any(map(is_synthetic, utterances)) else ""
    results = Results(
        title=f"Robustness against language distance: {source.title}{speech}",
        settings={
            **source.settings(study.out),
            "pivot": pivot,
            "model": study.model,
            "context": f"{RETRIEVED} (retrieval), {study.context} (translation)",
            "pool": study.pool,
            "tokens": {code: list(given) for code, given in tokens.items()},
        },
        robustness=Robustness(
            pivot=pivot, methods=methods, rules=rules, languages=rows, correlations=correlations(rows, methods)
        ),
        unseen=unseen,
        skipped=skipped,
        samples=shown,
        failures=[f"{i}: {why}" for i, why in {**decoder.failed, **report.failed}.items()],
    )
    seeds = {"bootstrap": BOOTSTRAP_SEED, "folds": FOLD_SEED, "correlations": PERMUTATION_SEED}
    run.save(results, measured_on=utterances, seeds=seeds, utterances=outputs.results)
    return study.out


def compared(
    utterances: Sequence[Utterance], pivot: str, where: str, same_sentences: bool
) -> tuple[list[Utterance], list[str]]:
    """The utterances of all meanings, or of those that every language has, and a line on the skipped ones."""
    meanings: dict[str, set[str]] = {}
    for u in utterances:
        if u.meaning is None:
            raise CorpusError(f"{where}: utterance {u.id!r} has no `meaning`; it says which ones mean the same")
        meanings.setdefault(u.language, set()).add(u.meaning)
    if pivot not in meanings or len(meanings) < 2:
        raise CorpusError(f"{where}: no {pivot} (the pivot) and another language; it has {', '.join(meanings)}")
    if not same_sentences:
        return list(utterances), []
    every, some = set.intersection(*meanings.values()), set.union(*meanings.values())
    if not every:
        least = min(meanings, key=lambda code: len(meanings[code]))
        raise CorpusError(
            f"{where}: no sentence is in all of {', '.join(meanings)}; leave out {least}, which has "
            f"{len(meanings[least])}, or set `same_sentences: false`"
        )
    rule = f"{len(every)} of {len(some)} sentences are in all {len(meanings)} languages, and are compared"
    return [u for u in utterances if u.meaning in every], [rule]


class BothWays(msgspec.Struct, frozen=True):
    """A method on two languages; utterance id -> method -> language -> rank of the right utterance."""

    rows: list[Retrieval]
    ranks: dict[str, dict[str, dict[str, Ranked]]]


def both_ways(
    pair: Sequence[Utterance],
    pivot: str,
    store: FrameStore,
    methods: Sequence[str],
    folder: Path,
    outputs: UtteranceLog,
    *,
    compute: SimilarityCompute,
    device: str,
) -> list[Retrieval]:
    """Retrieval between a language and the pivot, both ways, cached in ``folder``; no rows if they share no sentence.

    Two languages are read at a time, to bound memory. Equal sentences give equal folds. ``outputs`` gets the ranks.
    """
    (language,) = {u.language for u in pair} - {pivot}
    if not {u.meaning for u in pair if u.language == language} & {u.meaning for u in pair if u.language == pivot}:
        return []
    about = [(u.id, u.meaning, u.cluster, u.id in store) for u in pair]
    digest = hashlib.sha256(msgspec.json.encode([about, store.spec.pooling])).hexdigest()[:10]
    corpus: Corpus | None = None
    rows: list[Retrieval] = []
    for method in methods:

        def make(method: str = method) -> BothWays:
            nonlocal corpus
            corpus = corpus or Corpus.of(pair, store)
            log = UtteranceLog(pair)
            found = measure(corpus, [method], pairs=[(language, pivot)], compute=compute, device=device, log=log)
            return BothWays(found.rows, {r.utterance.id: r.retrieval for r in log.results})

        held = kept(folder / f"{language}-{pivot}-{method}-{digest}-ranks.json", make, BothWays)
        outputs.ranked_before(held.ranks)
        rows += held.rows
    return rows


def correlations(rows: Sequence[Distant], methods: Sequence[str]) -> list[RankCorrelation]:
    """Spearman's rank correlation of every measure with every distance, over all languages and those with a token.

    A language without the measure or the distance is skipped; ``n`` counts the others.
    """
    found = []
    measures = [(way, method) for method in methods for way in ("to_pivot", "from_pivot")]
    for measured, method in [*measures, *((name, None) for name in SCORES)]:
        values = {r.language: _value(r, measured, method) for r in rows}
        for kind in KINDS:
            for seen_only in (False, True):
                among = [r for r in rows if r.seen or not seen_only]
                pairs = [(r.distance[kind], values[r.language]) for r in among]
                known = [(float(d), v) for d, v in pairs if d is not None and v is not None]
                c = rank_correlation([d for d, _ in known], [v for _, v in known])
                found.append(
                    RankCorrelation(measure=measured, method=method, kind=kind, seen_only=seen_only, **vars(c))
                )
    return found


def _value(row: Distant, measured: str, method: str | None) -> float | None:
    if method is None:
        score = getattr(row, measured)
        return None if score is None else float(score.value)
    retrieval = getattr(row, measured).get(method)
    return None if retrieval is None else float(retrieval.r1)
