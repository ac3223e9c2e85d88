"""Languages that Whisper has no token for: translated under related tokens, beside controls that it knows.

Ma et al. (arXiv 2407.01130), section 4.4: Kabuverdianu, Asturian, Irish, Sorani, Cebuano and Kyrgyz of FLEURS.

Of each language: the translations into English under every candidate token, which one a rule takes without references,
which one the references would take (the oracle), the error rate of transcripts under the chosen token, and the scores
against references dealt out anew: a model that knows the text by heart, or writes likely phrases, is not better than
that. Answers are kept, so an interrupted study goes on where it was.
"""

import datetime
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from interlingua.corpora.udhr import is_synthetic
from interlingua.encoding import Context
from interlingua.errors import UsageError
from interlingua.experiments.answer_needs import answer_needs
from interlingua.experiments.corpus_source import CorpusSource
from interlingua.experiments.into_english import (
    ENGLISH,
    Answers,
    Said,
    language_row,
    mean,
    transcripts_of,
    with_english,
    with_reference,
)
from interlingua.experiments.published import UNKNOWN, read_published
from interlingua.experiments.utterances import UtteranceLog
from interlingua.languages import language_name, normalise_languages
from interlingua.metrics import Statistics, SystemOutputs, pooled_difference, translation_statistics
from interlingua.resampling import BOOTSTRAP_SEED
from interlingua.results import provenance, save_results
from interlingua.translation.related import DEFAULT_RULE, RULES, Rule
from interlingua.types import Utterance

EXAMPLE = '{"unseen": [{"language": "kea", "bleu": 1.5, "chrf": 2.5, "wer": 3.5, "cer": 4.5}]}'
DRAW_SEED = 0  # of the utterances, where not all are taken
MEASURES = ("bleu", "chrf", "wer", "cer")


@dataclass(frozen=True, kw_only=True)
class UnseenStudy:
    """Settings of the study; the keys of its recipe.

    Attributes:
        out: the result folder; manifest, frames and answers are kept in it.
        corpus: what is translated: its languages but English, with English references.
        model: model spec; it must know how to translate.
        forbidden: languages that have a token and are asked without it too, to check the rules.
        tokens: language -> candidates, instead of those of `related.candidate_tokens`.
        most: utterances a language, drawn; None: all.
        context: of the encoder; with ``full``, long utterances share batches.
        published: JSON with figures of others, ``{"unseen": [{"language", "bleu", "chrf", "wer", "cer"}]}``.
    """

    out: Path
    corpus: CorpusSource
    model: str = "base"
    forbidden: tuple[str, ...] = ()
    tokens: dict[str, tuple[str, ...]] = field(default_factory=dict)
    most: int | None = None
    context: str = "speech+8"
    published: Path | None = None

    def __post_init__(self) -> None:
        """Check what can be checked before the work.

        Raises:
            UsageError: an unknown language or context, or a number out of range.
        """
        Context.parse(self.context)
        normalise_languages((*self.forbidden, *self.tokens))
        if self.most is not None and self.most < 1:
            raise UsageError(f"most: {self.most}; use 1 or more")

    def plan(self) -> str:
        """What will be done, in a line."""
        which = ", ".join(self.corpus.languages) or "every language"
        without = f"; {', '.join(self.forbidden)} without their own token too" if self.forbidden else ""
        return f"{which} of {self.corpus.title} into English under related tokens, {self.model}{without}"


def run_unseen_study(study: UnseenStudy, *, dry_run: bool = False, log: Callable[[str], None] = print) -> Path:
    """Ask what isn't answered yet, and write ``results.json``; `interlingua.results` says what it holds.

    Args:
        study: the settings.
        dry_run: only read the corpus, and say what the rest will need.
        log: takes a line of news.

    Raises:
        CorpusError: a language has no English reference, or no utterance is left.
        UsageError: a language without candidates, or a candidate that the model has no token for.
        ResultsError: the folder was begun with another model or corpus.
        InterlinguaError: see the stages.
    """
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    corpus = with_english(study.corpus)
    utterances, left = chosen_utterances(study, log)
    own = {code: tokens for name, tokens in study.tokens.items() for code in normalise_languages((name,))}
    beside([], study.published)  # a file that can't be read is told before the work
    forbidden = normalise_languages(study.forbidden)
    log(answer_needs(utterances, study.model, study.context, study.out, tokens=own, forbidden=forbidden))
    if dry_run:
        return study.out
    answers = Answers(study.out, utterances, study.model, study.context)
    kept = UtteranceLog(utterances)
    rows, told = [], []
    for language in dict.fromkeys(u.language for u in utterances):
        mine = [u for u in utterances if u.language == language]
        cases = [False] if language in answers.whisper.languages else []
        if not cases or language in forbidden:
            cases.append(True)
        for without in cases:
            log(f"{language_name(language)}{', its own token forbidden' if len(cases) > 1 and without else ''}")
            tokens = own.get(language, ()) if without else ()
            row, translations = language_row(answers, mine, tokens, without_own=without)
            rows.append(row)
            told.append(translations)
            keep(kept, answers, row, translations, mine, study.model)
    speech = ", SYNTHETIC speech" if any(map(is_synthetic, utterances)) else ""
    results = {
        "title": f"Translation of languages without a token{speech}",
        "settings": {
            **corpus.settings(study.out),
            "model": study.model,
            "context": study.context,
            "forbidden": list(study.forbidden),
            "tokens": {code: list(tokens) for code, tokens in own.items()},
            "most": study.most,
        },
        "unseen": rows,
        "unseen_rules": rule_rows(rows, told, utterances),
        "published_unseen": beside(rows, study.published),
        "left_out": left,
        "samples": [s for row, said in last_cases(rows, told) for s in samples(row, said, utterances)],
        "failures": [f"{i}: {why}" for i, why in answers.failed.items()],
        "provenance": provenance(
            answers.compute,
            answers.device,
            time.monotonic() - clock,
            started,
            utterances=utterances,
            seeds={"bootstrap": BOOTSTRAP_SEED, "draw": DRAW_SEED},
        ),
    }
    save_results(study.out, results, utterances=kept.results)
    return study.out


def chosen_utterances(
    study: UnseenStudy, log: Callable[[str], None] = lambda line: None
) -> tuple[list[Utterance], list[str]]:
    """The utterances that a study asks about, and a line on those of each language that have no English reference.

    Raises:
        CorpusError: a language has no English reference, or no utterance is left.
    """
    read = with_english(study.corpus).utterances(study.out, log)
    spoken, left = with_reference([u for u in read if u.language != ENGLISH], study.corpus.title)
    for line in left:
        log(line)
    order = np.random.default_rng(DRAW_SEED).permutation(len(spoken))
    drawn: dict[str, int] = {}
    chosen = set()
    for place in order:
        language = spoken[place].language
        if study.most is None or drawn.get(language, 0) < study.most:
            drawn[language] = drawn.get(language, 0) + 1
            chosen.add(int(place))
    return [u for place, u in enumerate(spoken) if place in chosen], left


def beside(rows: Sequence[Mapping[str, Any]], published: Path | None) -> list[dict[str, Any]]:
    """Our scores beside others': ``{"language", "metric", "ours", "published"}``; the last may be a reason.

    Of languages that were asked without a token of their own, under the chosen token.

    Raises:
        UsageError: the file can't be read, or isn't of that form.
    """
    theirs = read_published(published, "unseen", ("language",), MEASURES, EXAMPLE)
    found = []
    for row in rows:
        if row["seen"]:
            continue
        scores = chosen_scores(row)
        found += [
            {
                "language": row["language"],
                "metric": metric,
                "ours": scores[metric]["value"],
                "published": theirs.get((row["language"], metric), UNKNOWN),
            }
            for metric in MEASURES
            if metric in scores
        ]
    return found


def chosen_scores(row: Mapping[str, Any]) -> dict[str, Any]:
    """Scores under the chosen token: ``bleu``, ``chrf``, ``off_target``, ``wer`` and ``cer``, those that there are."""
    chosen: dict[str, Any] = next((c for c in row.get("candidates", ()) if c["token"] == row["chosen"]), {})
    error = row["error"] or {}
    named = {"wer": "words", "cer": "characters"}
    return {k: chosen[k] for k in ("bleu", "chrf", "off_target") if k in chosen} | {
        k: error[v] for k, v in named.items() if v in error
    }


def last_cases(rows: Sequence[Mapping[str, Any]], told: Sequence[Said]) -> list[tuple[Mapping[str, Any], Said]]:
    """One row a language, with its translations: of one that is asked twice, without its own token."""
    return list({row["language"]: (row, said) for row, said in zip(rows, told, strict=True)}.values())


def keep(
    kept: UtteranceLog,
    answers: Answers,
    row: Mapping[str, Any],
    said: Said,
    utterances: Sequence[Utterance],
    model: str,
) -> None:
    """Keep what the chosen token gives for each utterance of a row's language: translation and transcript."""
    texts = {i: h.text for i, h in said[row["chosen"]].items()}
    references = {u.id: u.translations[ENGLISH] for u in utterances}
    kept.translated(f"{model} as {row['chosen']}", ENGLISH, texts, references)
    keep_transcripts(kept, answers, row["chosen"], utterances, model)


def keep_transcripts(
    kept: UtteranceLog, answers: Answers, token: str, utterances: Sequence[Utterance], model: str
) -> None:
    """Keep what is heard under a token, where the corpus says what is said. All utterances are of one language."""
    heard, expected = transcripts_of(answers, utterances, token)
    if expected:
        kept.transcribed(f"{model} as {token}", utterances[0].language, heard, expected)


def samples(row: Mapping[str, Any], said: Said, utterances: Sequence[Utterance]) -> list[dict[str, Any]]:
    """What the chosen token gives, an utterance each."""
    texts = said[row["chosen"]]
    return [
        {
            "id": u.id,
            "source": u.language,
            "target": ENGLISH,
            "transcript": u.text,
            "reference": u.translations[ENGLISH],
            "hypothesis": texts[u.id].text if u.id in texts else "",
        }
        for u in utterances
        if u.language == row["language"]
    ]


def rule_rows(
    rows: Sequence[Mapping[str, Any]], told: Sequence[Said], utterances: Sequence[Utterance]
) -> list[dict[str, Any]]:
    """How the rules do over all languages that have more than one candidate: each row's mean chrF and its loss.

    Args:
        rows: of ``unseen``.
        told: the translations of each row under each candidate.
        utterances: with references.
    """
    cases = [(row, said) for row, said in zip(rows, told, strict=True) if len(row["candidates"]) > 1]
    if not cases:
        return []
    references = {u.id: u.translations[ENGLISH] for u in utterances}
    clusters = {u.id: u.group for u in utterances}

    def compared(rule: Rule, other: Rule) -> dict[str, Any]:
        sides: tuple[list[Statistics], list[Statistics]] = [], []
        for row, said in cases:
            ids = {u.id for u in utterances if u.language == row["language"]}
            for side, by in zip(sides, (rule, other), strict=True):
                texts = {i: h.text for i, h in said[row["rules"][by]["token"]].items()}
                outputs = SystemOutputs(texts, {i: references[i] for i in ids}, clusters, ENGLISH)
                side.append(translation_statistics(outputs, "chrf"))
        return dict(msgspec.to_builtins(pooled_difference(*sides)))

    found = []
    for rule in RULES:
        chrf, best, right = [], [], 0
        for row, _ in cases:
            scores = {c["token"]: c["chrf"]["value"] for c in row["candidates"]}
            token = row["rules"][rule]["token"]
            chrf.append(scores[token])
            best.append(scores[row["oracle"]])
            right += token == row["oracle"]
        found.append(
            {
                "rule": rule,
                "default": rule == DEFAULT_RULE,
                "languages": [row["language"] for row, _ in cases],
                "right": right,
                "chrf": mean(chrf),
                "loss": mean(np.subtract(best, chrf).tolist()),
                "against_first": compared(rule, "first"),
            }
        )
    return found
