"""Does what Whisper shares between languages reach distant ones? Every language beside its distance to a pivot.

Of each language: R@1 of retrieval to and from the pivot's speech, translation of its speech into English, and its
transcripts; languages without a Whisper token are asked under related tokens, as the study `unseen` does. Beside them
stands how far the language is from the pivot, and rank correlations of the two over the languages.
"""

import datetime
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from interlingua.corpora.distance import KINDS, language_distance, language_family
from interlingua.corpora.udhr import is_synthetic
from interlingua.encoding import Context, WhisperEncoder, best_compute, best_device, encode_manifest
from interlingua.encoding.store import FrameStore
from interlingua.errors import CorpusError, UsageError
from interlingua.experiments.answer_needs import answer_needs
from interlingua.experiments.corpus_source import CorpusSource
from interlingua.experiments.into_english import (
    ENGLISH,
    Answers,
    language_row,
    transcript_row,
    with_english,
    with_reference,
)
from interlingua.experiments.needs import encoding_needs, not_encoded
from interlingua.experiments.retrieval import Corpus, evaluate_retrieval, require_methods, usable_methods
from interlingua.experiments.unseen import chosen_scores, keep, keep_transcripts, samples
from interlingua.experiments.utterances import UtteranceLog
from interlingua.files import write_text
from interlingua.languages import language_name, normalise_language, normalise_languages
from interlingua.metrics.correlation import PERMUTATION_SEED, rank_correlation
from interlingua.models import load_whisper
from interlingua.resampling import BOOTSTRAP_SEED
from interlingua.results import Ranked, provenance, save_results
from interlingua.retrieval.evaluate import FOLD_SEED
from interlingua.retrieval.methods import DEFAULT_METHOD
from interlingua.retrieval.seqsim import SimilarityCompute
from interlingua.types import Utterance

RETRIEVED = "speech"
"""Context of the frames that are compared; see `interlingua.encoding`."""
SCORES = ("bleu", "chrf", "off_target", "wer", "cer")


@dataclass(frozen=True, kw_only=True)
class RobustnessStudy:
    """Settings of the study; the keys of its recipe.

    Attributes:
        out: the result folder; manifest, frames and answers are kept in it.
        corpus: what is compared: parallel speech of the pivot and of other languages, with English texts.
        pivot: language that the others are measured against.
        model: model spec; it must know how to translate.
        methods: of retrieval; the first is shown as a picture.
        tokens: language without a token -> candidates, instead of those of `related.candidate_tokens`.
        same_sentences: compare only sentences that every language has, for R@1 depends on how many there are.
        context: of the encoder for translation; retrieval reads the speech alone.
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
        """Check what can be checked before the work.

        Raises:
            UsageError: an unknown language, method or context, a pivot that isn't read, or a number out of range.
        """
        Context.parse(self.context)
        require_methods(self.methods)
        normalise_languages(self.tokens)
        pivot = normalise_language(self.pivot)
        if self.corpus.languages and pivot not in normalise_languages(self.corpus.languages):
            raise UsageError(f"pivot: {self.pivot!r} isn't among the corpus's languages; add it there")
        if self.pool < 1:
            raise UsageError(f"pool: {self.pool}; use 1 (no pooling) or more")

    def plan(self) -> str:
        """What will be done, in a line."""
        which = ", ".join(self.corpus.languages) or "every language"
        return f"{which} of {self.corpus.title} to and from {self.pivot}, into English and transcribed, {self.model}"


def run_robustness_study(study: RobustnessStudy, *, dry_run: bool = False, log: Callable[[str], None] = print) -> Path:
    """Measure what isn't measured yet, and write ``results.json``; `interlingua.results` says what it holds.

    Args:
        study: the settings.
        dry_run: only read the corpus, and say what the rest will need.
        log: takes a line of news.

    Raises:
        CorpusError: the pivot isn't in the corpus, a language has no English reference, or no sentence is shared.
        UsageError: a candidate that the model has no token for.
        ResultsError: the folder was begun with another model or corpus.
        InterlinguaError: see the stages.
    """
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    pivot = normalise_language(study.pivot)
    source = with_english(study.corpus)
    utterances, rules = compared(source.utterances(study.out, log), pivot, source.title, study.same_sentences)
    asked = [u for u in utterances if u.language != pivot]
    spoken = [u for u in asked if u.language != ENGLISH]
    spoken, left = with_reference(spoken, source.title) if spoken else ([], [])
    asked = [*spoken, *(u for u in asked if u.language == ENGLISH)]
    for line in (*rules, *left):
        log(line)
    tokens = {code: given for name, given in study.tokens.items() for code in normalise_languages((name,))}
    device = best_device()
    compute = best_compute(device)
    folder = study.out / f"retrieval-frames-{study.pool}.lance"
    encoder = WhisperEncoder(load_whisper(study.model, dtype=compute, device=device), context=RETRIEVED)
    log(f"retrieval: {encoding_needs(not_encoded(utterances, folder), encoder, study.pool)}")
    log(f"translation: {answer_needs(asked, study.model, study.context, study.out, tokens=tokens)}")
    log("the time that comparing frames takes isn't estimated; it falls with the square of `pool`")
    if dry_run:
        return study.out
    answers = Answers(study.out, asked, study.model, study.context)
    encoder = WhisperEncoder(answers.encoding, context=RETRIEVED)  # one model is held, not a second beside it
    store, report = encode_manifest(utterances, encoder, folder, pooling=study.pool)
    methods = usable_methods(study.methods, Corpus.of(utterances, store), log)
    languages = [code for code in dict.fromkeys(u.language for u in utterances) if code != pivot]
    kept = UtteranceLog(utterances)
    rows, unseen, told = [], [], []
    for code in languages:
        log(language_name(code))
        pair = [u for u in utterances if u.language in (code, pivot)]
        retrieval = both_ways(
            pair, pivot, store, methods, study.out / "retrieval", kept, compute=compute, device=device
        )
        mine = [u for u in asked if u.language == code]
        if code == ENGLISH:
            scores, token = {"error": transcript_row(answers, mine, ENGLISH)}, ENGLISH
            keep_transcripts(kept, answers, ENGLISH, mine, study.model)
        else:
            row, translations = language_row(answers, mine, tokens.get(code, ()))
            unseen.append(row)
            told += samples(row, translations, mine)
            keep(kept, answers, row, translations, mine, study.model)
            scores, token = row, row["chosen"]
        rows.append(
            robustness_row(code, pivot, mine, retrieval)
            | {"seen": code in answers.whisper.languages, "token": token}
            | chosen_scores(scores)
        )
    failures = {**answers.failed, **report.failed}
    speech = ", SYNTHETIC speech" if any(map(is_synthetic, utterances)) else ""
    results = {
        "title": f"Robustness against language distance: {source.title}{speech}",
        "settings": {
            **source.settings(study.out),
            "pivot": pivot,
            "model": study.model,
            "context": f"{RETRIEVED} (retrieval), {study.context} (translation)",
            "pool": study.pool,
            "tokens": {code: list(given) for code, given in tokens.items()},
        },
        "robustness": {
            "pivot": pivot,
            "methods": methods,
            "rules": rules,
            "languages": rows,
            "correlations": correlations(rows, methods),
        },
        "unseen": unseen,
        "left_out": left,
        "samples": told,
        "failures": [f"{i}: {why}" for i, why in failures.items()],
        "provenance": provenance(
            compute,
            device,
            time.monotonic() - clock,
            started,
            utterances=utterances,
            seeds={"bootstrap": BOOTSTRAP_SEED, "folds": FOLD_SEED, "correlations": PERMUTATION_SEED},
        ),
    }
    save_results(study.out, results, utterances=kept.results)
    return study.out


def compared(
    utterances: Sequence[Utterance], pivot: str, where: str, same_sentences: bool
) -> tuple[list[Utterance], list[str]]:
    """The utterances that are compared, and a line on the sentences that aren't.

    Args:
        utterances: with meanings.
        pivot: language that must be among them, beside another one.
        where: the corpus, for messages.
        same_sentences: keep only meanings that every language has.

    Raises:
        CorpusError: no pivot, no other language, no meanings, or none that every language has.
    """
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
    """A method on two languages: rows of ``retrieval``; utterance id -> method -> language -> where it was ranked."""

    rows: list[dict[str, Any]]
    ranks: dict[str, dict[str, dict[str, Ranked]]]


def both_ways(
    pair: Sequence[Utterance],
    pivot: str,
    store: FrameStore,
    methods: Sequence[str],
    folder: Path,
    kept: UtteranceLog,
    *,
    compute: SimilarityCompute,
    device: str,
) -> list[dict[str, Any]]:
    """Rows of retrieval between a language and the pivot, both ways; those of each method are kept in a folder.

    Two languages are read at a time, so that memory doesn't grow with their number. Where the sentences are the same,
    so are the folds of every pair. Each query's rank goes into ``kept``.
    """
    about = [(u.id, u.meaning, u.cluster, u.id in store) for u in pair]
    digest = hashlib.sha256(msgspec.json.encode([about, store.spec.pooling])).hexdigest()[:10]
    (language,) = {u.language for u in pair} - {pivot}
    corpus: Corpus | None = None
    rows: list[dict[str, Any]] = []
    for method in methods:
        path = folder / f"{language}-{pivot}-{method}-{digest}-ranks.json"
        if not path.exists():
            corpus = corpus or Corpus.of(pair, store)
            log = UtteranceLog(pair)
            found, _ = evaluate_retrieval(
                pair, store, method, pairs=[(language, pivot)], corpus=corpus, compute=compute, device=device, log=log
            )
            ranks = {r.utterance.id: r.retrieval for r in log.results}
            both = msgspec.to_builtins(BothWays(rows=found, ranks=ranks))
            write_text(path, json.dumps(both, allow_nan=False) + "\n")  # msgspec writes null for what is no number
        held = msgspec.json.decode(path.read_bytes(), type=BothWays)
        kept.ranked_before(held.ranks)
        rows += held.rows
    return rows


def robustness_row(
    language: str, pivot: str, utterances: Sequence[Utterance], retrieval: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What is known of a language but its translations: distance, and retrieval by each method, both ways."""
    to = {r["method"]: dict(r) for r in retrieval if (r["query"], r["candidate"]) == (language, pivot)}
    of = {r["method"]: dict(r) for r in retrieval if (r["query"], r["candidate"]) == (pivot, language)}
    return {
        "language": language,
        "name": language_name(language),
        "family": language_family(language),
        "distance": {kind: language_distance(language, pivot, kind) for kind in KINDS},
        "n": len(utterances),
        "n_clusters": len({u.group for u in utterances}),
        "seconds": round(sum(u.duration or 0.0 for u in utterances), 1),
        "to_pivot": to,
        "from_pivot": of,
    }


def correlations(rows: Sequence[Mapping[str, Any]], methods: Sequence[str]) -> list[dict[str, Any]]:
    """Spearman's rank correlation of every measure with every distance, over all languages and those with a token.

    A language that lacks the measure or the distance is left out of that correlation, whose ``n`` says so.

    Returns:
        ``{"measure", "method", "kind", "seen_only", "value", "p", "n", "signature"}`` each.
    """
    found = []
    measures = [(way, method) for method in methods for way in ("to_pivot", "from_pivot")]
    for measure, method in [*measures, *((name, None) for name in SCORES)]:
        values = {r["language"]: _value(r, measure, method) for r in rows}
        for kind in KINDS:
            for seen_only in (False, True):
                among = [r for r in rows if r["seen"] or not seen_only]
                pairs = [(r["distance"][kind], values[r["language"]]) for r in among]
                known = [(float(d), v) for d, v in pairs if d is not None and v is not None]
                c = rank_correlation([d for d, _ in known], [v for _, v in known])
                found.append({"measure": measure, "method": method, "kind": kind, "seen_only": seen_only, **vars(c)})
    return found


def _value(row: Mapping[str, Any], measure: str, method: str | None) -> float | None:
    found = row.get(measure) if method is None else row[measure].get(method)
    if found is None:
        return None
    return float(found["value"] if method is None else found["r1"])
