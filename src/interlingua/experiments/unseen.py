"""Languages without a Whisper token: decoded under proxy languages, with languages that have a token as controls.

Ma et al. (arXiv 2407.01130), section 4.4: Kabuverdianu, Asturian, Irish, Sorani, Cebuano and Kyrgyz of FLEURS.

For each language: translations into English under every candidate token, the rule's choice without references, the
oracle's choice with them, the error rate of transcripts under the chosen token, and scores against permuted
references: a model that knows the text by heart, or writes likely phrases, is no better there.
"""

import difflib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import get_args

import msgspec
import numpy as np

from interlingua.corpora.base import get_corpus
from interlingua.corpora.prepare import words_of
from interlingua.corpora.udhr import is_synthetic
from interlingua.encoding import Context, WhisperEncoder, best_compute, best_device, encode_manifest
from interlingua.errors import CorpusError, UsageError
from interlingua.experiments.corpus_source import CorpusSource
from interlingua.experiments.published import UNKNOWN, compared, read_published
from interlingua.experiments.run import Run, kept_by_id, to_encode
from interlingua.experiments.translation import sample
from interlingua.experiments.utterances import UtteranceLog
from interlingua.languages import language_name, normalise_languages
from interlingua.metrics import (
    Statistics,
    SystemOutputs,
    TextMetric,
    has_words,
    off_target,
    pooled_difference,
    transcript_errors,
    translation_statistics,
)
from interlingua.models import Task, Whisper, load_whisper
from interlingua.resampling import BOOTSTRAP_SEED
from interlingua.results import Candidate, Permuted, Published, Results, RuleChoice, Sample, TokenRule, UnderTokens
from interlingua.translation import Engine, decode_frames, detect_frames, fast_engine
from interlingua.translation.unseen import (
    DEFAULT_RULE,
    RULES,
    Rule,
    candidate_tokens,
    choose_token,
    likeliest_languages,
    rule_scores,
)
from interlingua.types import Difference, Hypothesis, Score, Utterance

ENGLISH = "en"
MOST_TOKENS: dict[Task, int] = {"translate": 128, "transcribe": 224}
"""Longer translations of 30 s are loops; transcripts need more, in scripts with a token a letter."""
PERMUTATIONS = 5
COPIED_WORDS = 8  # a run of so many words of the reference counts as copied
FRAMES, OUTPUTS = "frames.lance", "outputs"  # in the folder of the results
DRAW_SEED = 0  # of the utterances, where not all are taken

_CHARACTERS = "zh"  # a language whose error rate `metrics.transcript_errors` counts by characters

Translations = Mapping[str, Mapping[str, Hypothesis]]
"""Token -> utterance id -> translation."""


@dataclass(frozen=True, kw_only=True)
class UnseenStudy:
    """Settings of the study; the keys of its recipe.

    Attributes:
        out: the result folder; it keeps manifest, frames and outputs.
        corpus: corpus to translate: its languages but English, with English references.
        model: model spec; it must be able to translate.
        forbidden: languages with a token that are also decoded without it, to check the rules.
        tokens: language -> candidates, instead of the related languages.
        most: utterances to draw in each language; None: all.
        context: encoder context; with ``full``, long utterances share batches.
        published: JSON of published figures, ``{"unseen": [{"language", "bleu", "chrf", "wer", "cer"}]}``.
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
        Context.parse(self.context)
        normalise_languages((*self.forbidden, *self.tokens))
        if self.most is not None and self.most < 1:
            raise UsageError(f"most: {self.most}; use 1 or more")

    def plan(self) -> str:
        """The plan in one line."""
        which = ", ".join(self.corpus.languages) or "every language"
        without = f"; {', '.join(self.forbidden)} without their own token too" if self.forbidden else ""
        return f"{which} of {self.corpus.title} into English under related tokens, {self.model}{without}"


def run_unseen_study(study: UnseenStudy, *, dry_run: bool = False, log: Callable[[str], None] = print) -> Path:
    """Decode what isn't decoded yet, and write ``results.json``; ``dry_run``: only print the plan.

    Raises:
        CorpusError: a language has no English reference, or no utterance is left.
        UsageError: a language without candidates, or a candidate that the model has no token for.
        ResultsError: the folder was begun with another model or corpus.
    """
    read_published(study.published, "unseen")  # a file that can't be read is reported before the work
    corpus = with_english(study.corpus)
    utterances, skipped = chosen_utterances(study, log)
    tokens, forbidden = candidates_named(study.tokens), normalise_languages(study.forbidden)
    decoder = KeptDecoder(study.out, utterances, study.model, study.context, log=log)
    log(decoder.to_do())
    if dry_run:
        return study.out
    decoder.encode()
    outputs = UtteranceLog(utterances)
    cases: list[tuple[UnderTokens, Translations]] = []
    for language in dict.fromkeys(u.language for u in utterances):
        spoken = [u for u in utterances if u.language == language]
        seen = language in decoder.whisper.languages
        for without in [False] * seen + [True] * (not seen or language in forbidden):
            log(f"{language_name(language)}{', its own token forbidden' if seen and without else ''}")
            given = tokens.get(language, ()) if without else ()
            cases.append(language_row(decoder, spoken, outputs, given, without_own=without))
    speech = ", SYNTHETIC speech" if any(map(is_synthetic, utterances)) else ""
    last = {row.language: (row, translations) for row, translations in cases}  # of two, the one without its own token
    rows = [row for row, _ in cases]
    results = Results(
        title=f"Translation of languages without a token{speech}",
        settings={
            **corpus.settings(study.out),
            "model": study.model,
            "context": study.context,
            "forbidden": list(study.forbidden),
            "tokens": {code: list(given) for code, given in tokens.items()},
            "most": study.most,
        },
        unseen=rows,
        unseen_rules=rule_rows(cases, utterances),
        published=published(study.published, rows),
        skipped=skipped,
        samples=[s for row, translations in last.values() for s in samples(row, translations, utterances)],
        failures=[f"{i}: {why}" for i, why in decoder.failed.items()],
    )
    seeds = {"bootstrap": BOOTSTRAP_SEED, "draw": DRAW_SEED}
    decoder.run.save(results, measured_on=utterances, seeds=seeds, utterances=outputs.results)
    return study.out


# ---------------------------------------------------------------- which utterances


def chosen_utterances(
    study: UnseenStudy, log: Callable[[str], None] = lambda line: None
) -> tuple[list[Utterance], list[str]]:
    """The study's utterances, and a line on each language's without an English reference."""
    read = with_english(study.corpus).utterances(study.out, log)
    spoken, skipped = with_reference([u for u in read if u.language != ENGLISH], study.corpus.title)
    for line in skipped:
        log(line)
    drawn: dict[str, int] = {}
    chosen = set()
    for position in np.random.default_rng(DRAW_SEED).permutation(len(spoken)):
        language = spoken[position].language
        if study.most is None or drawn.get(language, 0) < study.most:
            drawn[language] = drawn.get(language, 0) + 1
            chosen.add(int(position))
    return [u for position, u in enumerate(spoken) if position in chosen], skipped


def with_english(corpus: CorpusSource) -> CorpusSource:
    """A corpus whose translations default to its English sentences, if it has that option (FLEURS, MaSS).

    Of English only the texts are needed then.
    """
    chosen = corpus.name == "manifest" or "references" in corpus.options
    if chosen or "references" not in get_corpus(corpus.name).options:
        return corpus
    return replace(corpus, options={**corpus.options, "references": (ENGLISH,)})


def with_reference(utterances: Sequence[Utterance], where: str) -> tuple[list[Utterance], list[str]]:
    """Utterances with an English reference, and a line on each language's without; ``where``: the corpus's name."""
    if not utterances:
        raise CorpusError(f"{where}: no utterance in another language than English")
    kept, skipped = [], []
    for language in dict.fromkeys(u.language for u in utterances):
        spoken = [u for u in utterances if u.language == language]
        lacking = [u for u in spoken if not u.translations.get(ENGLISH, "").strip()]
        if len(lacking) == len(spoken):
            raise CorpusError(
                f"{where}: none of the {len(spoken)} utterances of {language} has an English reference, e.g. "
                f"{spoken[0].id!r}; give `translations: {{en: …}}`, or English among the corpus's languages"
            )
        if lacking:
            skipped.append(
                f"{language}: {len(lacking)} of {len(spoken)} utterances are skipped, for they have no English "
                f"reference, e.g. {lacking[0].id!r}"
            )
        kept += [u for u in spoken if u.translations.get(ENGLISH, "").strip()]
    return kept, skipped


def candidates_named(tokens: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """A recipe's ``tokens`` in our codes."""
    return {code: tuple(given) for name, given in tokens.items() for code in normalise_languages((name,))}


# ---------------------------------------------------------------- decoding


class KeptDecoder:
    """A model that decodes utterances under any token, its outputs kept; ``failed``: id -> why it has no frames."""

    def __init__(
        self, folder: Path, utterances: Sequence[Utterance], model: str, context: str, *, log: Callable[[str], None]
    ) -> None:
        device = best_device()
        self.run = Run(folder, compute=best_compute(device), device=device, log=log)
        self.model, self.utterances = model, utterances
        self.encoding: Whisper = load_whisper(model, dtype=best_compute(device), device=device)
        self.encoding.require_translation()
        self._encoder = WhisperEncoder(self.encoding, context=context)
        self.failed: dict[str, str] = {}

    @cached_property
    def whisper(self) -> Whisper:
        """The model in float32, for decoding."""
        exact = self.run.compute == "float32"
        return self.encoding if exact else load_whisper(self.model, device=self.run.device)

    @cached_property
    def _engine(self) -> Engine:
        return fast_engine(self.whisper)

    def to_do(self) -> str:
        """What is left to encode, in a line."""
        return f"to encode: {to_encode(self.utterances, self._encoder.spec, self._encoder.dim, self.run.out / FRAMES)}"

    def encode(self) -> None:
        """Claim the folder, and encode what it lacks."""
        about = [(u.id, u.text, u.translations.get(ENGLISH)) for u in self.utterances]
        spec = self._encoder.spec
        self.run.claim(
            {
                "model": self.model,
                "revision": spec.revision,
                "context": spec.context,
                "corpus": hashlib.sha256(msgspec.json.encode(about)).hexdigest(),
                "most_tokens": MOST_TOKENS,
                "compute": self.run.compute,
            }
        )
        self._store, report = encode_manifest(self.utterances, self._encoder, self.run.out / FRAMES)
        self._hashes = self._store.hashes()
        self.failed = report.failed

    def outputs(self, utterances: Sequence[Utterance], token: str, task: Task) -> dict[str, Hypothesis]:
        """Utterance id -> hypothesis, of utterances of one language; one without frames has none."""
        prompt = self.whisper.prompt(token, task)

        def make(ids: Sequence[str]) -> Iterator[dict[str, tuple[str, float | None]]]:
            found = decode_frames(self._engine, self._store.read(ids), prompt, most_tokens=MOST_TOKENS[task])
            yield {h.id: (h.text, h.log_probability) for h in found}

        path = self._path(f"{utterances[0].language}-as-{token}-{task}")
        held = kept_by_id(path, self._origins(utterances), make, tuple[str, float | None])
        return {i: Hypothesis(i, text, log_probability=chance) for i, (text, chance) in held.items()}

    def detected(self, utterances: Sequence[Utterance]) -> dict[str, dict[str, float]]:
        """Utterance id -> language -> probability, of utterances of one language."""

        def make(ids: Sequence[str]) -> Iterator[dict[str, dict[str, float]]]:
            yield detect_frames(self._engine, self._store.read(ids))

        path = self._path(f"{utterances[0].language}-languages")
        return kept_by_id(path, self._origins(utterances), make, dict[str, float])

    def _path(self, name: str) -> Path:
        return self.run.out / OUTPUTS / f"{name}.jsonl"

    def _origins(self, utterances: Sequence[Utterance]) -> dict[str, str]:
        return {u.id: self._hashes[u.id] for u in utterances if u.id in self._hashes}


# ---------------------------------------------------------------- one language


def language_row(
    decoder: KeptDecoder,
    utterances: Sequence[Utterance],
    outputs: UtteranceLog,
    tokens: Sequence[str] = (),
    *,
    without_own: bool = False,
) -> tuple[UnderTokens, Translations]:
    """One language under every candidate token, and its translations; ``outputs`` gets those under the chosen token.

    ``tokens`` empty: the language's own, else `candidate_tokens`, else `likeliest_languages`. Raises CorpusError if no
    recording can be read.
    """
    language = utterances[0].language
    detected = decoder.detected(utterances)
    known = [code for code in decoder.whisper.languages if not (without_own and code == language)]
    candidates = list(normalise_languages(tokens)) or candidate_tokens(language, known)
    candidates = candidates or likeliest_languages(detected, without=(language, ENGLISH))
    if not candidates and not detected:
        first = utterances[0].id
        why = decoder.failed.get(first, "no frames")
        raise CorpusError(
            f"{language}: none of {len(utterances)} recordings can be read ({first}: {why}); "
            "fix them, or leave the language out"
        )
    if not candidates:
        raise UsageError(f"no token to try for {language!r}; name some, `tokens: {{{language}: [es, pt]}}`")
    references = {u.id: u.translations[ENGLISH] for u in utterances}
    clusters = {u.id: u.group for u in utterances}
    translations = {token: decoder.outputs(utterances, token, "translate") for token in candidates}
    texts = {token: {i: h.text for i, h in found.items()} for token, found in translations.items()}
    scored = []
    for token, said in texts.items():
        made = SystemOutputs(said, references, clusters, ENGLISH)
        scored.append(
            Candidate(
                token=token,
                bleu=translation_statistics(made, "bleu").score(),
                chrf=translation_statistics(made, "chrf").score(),
                off_target=off_target(made, (language, token)).score(),
            )
        )
    chrf = {c.token: c.chrf.value for c in scored}
    rules: dict[str, RuleChoice] = {}
    for rule in RULES:
        found = rule_scores(rule, translations, detected)
        means = {token: float(np.mean(values)) for token, values in found.items() if values}
        rules[rule] = RuleChoice(token=choose_token(found), scores=means)
    chosen = str(rules[DEFAULT_RULE].token)
    outputs.translated(f"{decoder.model} as {chosen}", ENGLISH, texts[chosen], references)
    row = UnderTokens(
        language=language,
        name=language_name(language),
        seen=language in decoder.whisper.languages,
        own_token=candidates == [language],
        synthetic=is_synthetic(utterances[0]),
        speakers=sorted({u.speaker for u in utterances if u.speaker}),
        n=len(utterances),
        n_clusters=len(set(clusters.values())),
        seconds=round(sum(u.duration or 0.0 for u in utterances), 1),
        candidates=scored,
        rules=rules,
        chosen=chosen,
        oracle=max(chrf, key=lambda token: chrf[token]),
        permuted={m: permuted(texts[chosen], references, clusters, m) for m in ("chrf", "bleu")},
        copied=copied_proportion(texts[chosen], references),
        error=transcribed(decoder, utterances, chosen, outputs),
    )
    return row, translations


def transcribed(
    decoder: KeptDecoder, utterances: Sequence[Utterance], token: str, outputs: UtteranceLog
) -> dict[str, Score] | None:
    """Word and character error rates of transcripts, which ``outputs`` gets; None where the corpus has none."""
    language = utterances[0].language
    expected = {u.id: u.text for u in utterances if u.text and has_words(u.text, language)}
    if not expected:
        return None
    made = decoder.outputs(utterances, token, "transcribe")
    texts = {i: h.text for i, h in made.items() if i in expected}
    outputs.transcribed(f"{decoder.model} as {token}", language, texts, expected)
    clusters = {u.id: u.group for u in utterances}
    units = {"words": language, "characters": _CHARACTERS}
    spoken = {name: SystemOutputs(texts, expected, clusters, code, source=code) for name, code in units.items()}
    return {name: transcript_errors(one).score() for name, one in spoken.items()}


def permuted(
    texts: Mapping[str, str], references: Mapping[str, str], clusters: Mapping[str, str], metric: TextMetric
) -> Permuted:
    """Translations against permuted references: the mean score, and how much the true references are above it.

    Each translation gets another cluster's reference, `PERMUTATIONS` times; the difference is paired, and its interval
    resamples clusters. Empty with a single cluster.
    """
    dealt_out: list[Statistics] = []
    for seed in range(PERMUTATIONS):
        dealt = dealt_anew(clusters, seed)
        if dealt is None:
            return Permuted()
        turned = {i: texts.get(dealt[i], "") for i in references}
        dealt_out.append(translation_statistics(SystemOutputs(turned, references, clusters, ENGLISH), metric))
    true = translation_statistics(SystemOutputs(texts, references, clusters, ENGLISH), metric)
    difference = pooled_difference([true] * PERMUTATIONS, dealt_out)
    return Permuted(value=true.value - difference.value, difference=difference)


def dealt_anew(clusters: Mapping[str, str], seed: int) -> dict[str, str] | None:
    """Utterance id -> another one, of another cluster, each used once; None where a cluster has more than half.

    Ids are shuffled with whole clusters adjacent, and rotated by the size of the largest cluster.
    """
    random = np.random.default_rng(seed)
    names = sorted(set(clusters.values()))
    position = {names[c]: p for p, c in enumerate(random.permutation(len(names)))}
    ids = sorted(clusters)
    ids = [ids[i] for i in random.permutation(len(ids))]
    ids.sort(key=lambda i: position[clusters[i]])  # stable: shuffled within a cluster
    largest = max(list(clusters.values()).count(name) for name in names)
    if 2 * largest > len(ids):
        return None
    by = int(random.integers(largest, len(ids) - largest + 1))
    return dict(zip(ids, [*ids[by:], *ids[:by]], strict=True))


def copied_proportion(texts: Mapping[str, str], references: Mapping[str, str]) -> float:
    """Proportion (0-1) of the references' words in runs of `COPIED_WORDS` or more, word for word, in the output.

    High with a high error rate of the transcript, the model knows the text by heart.
    """
    copied = total = 0
    for i, reference in references.items():
        expected, found = words_of(reference), words_of(texts.get(i, ""))
        blocks = difflib.SequenceMatcher(None, expected, found, autojunk=False).get_matching_blocks()
        copied += sum(block.size for block in blocks if block.size >= COPIED_WORDS)
        total += len(expected)
    return copied / total if total else 0.0


# ---------------------------------------------------------------- what is shown


def published(path: Path | None, rows: Sequence[UnderTokens]) -> list[Published]:
    """Our and published scores of languages decoded without a token of their own, under the chosen token."""
    ours = [
        Published(task="unseen", metric=metric, source=row.language, ours=score.value, published=UNKNOWN)
        for row in rows
        if not row.seen
        for metric, score in row.scores.items()
        if metric != "off_target"
    ]
    return compared(path, ours)


def samples(row: UnderTokens, translations: Translations, utterances: Sequence[Utterance]) -> list[Sample]:
    """Translations under the chosen token, of the utterances of the row's language."""
    found = translations[row.chosen]
    spoken = [u for u in utterances if u.language == row.language]
    return [sample(u, found[u.id].text if u.id in found else "") for u in spoken]


def rule_rows(cases: Sequence[tuple[UnderTokens, Translations]], utterances: Sequence[Utterance]) -> list[TokenRule]:
    """Each rule over all languages with more than one candidate: mean chrF, and its loss to the oracle."""
    cases = [(row, translations) for row, translations in cases if len(row.candidates) > 1]
    if not cases:
        return []
    clusters = {u.id: u.group for u in utterances}

    def statistics(rule: Rule) -> list[Statistics]:
        found = []
        for row, translations in cases:
            references = {u.id: u.translations[ENGLISH] for u in utterances if u.language == row.language}
            texts = {i: h.text for i, h in translations[str(row.rules[rule].token)].items()}
            found.append(translation_statistics(SystemOutputs(texts, references, clusters, ENGLISH), "chrf"))
        return found

    first = statistics("first")
    rows = []
    for rule in get_args(Rule):
        taken = statistics(rule)
        chrf = [s.value for s in taken]
        best = [next(c.chrf.value for c in row.candidates if c.token == row.oracle) for row, _ in cases]
        against: Difference = pooled_difference(taken, first)
        rows.append(
            TokenRule(
                rule=rule,
                default=rule == DEFAULT_RULE,
                languages=[row.language for row, _ in cases],
                right=sum(row.rules[rule].token == row.oracle for row, _ in cases),
                chrf=float(np.mean(chrf)),
                loss=float(np.mean(np.subtract(best, chrf))),
                against_first=against,
            )
        )
    return rows
