"""What Whisper makes of speech under a language token: translations into English and transcripts, kept and scored.

A language that has a token is asked under it; one without is asked under related ones, and a rule takes one of them
without references (`interlingua.translation.related`).
"""

import difflib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from interlingua.corpora.base import get_corpus
from interlingua.corpora.prepare import words_of
from interlingua.corpora.udhr import is_synthetic
from interlingua.encoding import WhisperEncoder, best_compute, best_device, encode_manifest
from interlingua.encoding.store import FrameStore
from interlingua.errors import CorpusError, UsageError
from interlingua.experiments.answer_needs import ANSWERS, FRAMES
from interlingua.experiments.corpus_source import CorpusSource
from interlingua.experiments.finetuning import begun_with
from interlingua.files import write_text
from interlingua.languages import language_name, normalise_languages
from interlingua.metrics import (
    Statistics,
    SystemOutputs,
    TextMetric,
    off_target_rate,
    pooled_difference,
    score_transcripts,
    score_translations,
    translation_statistics,
)
from interlingua.models import Task, Whisper, load_whisper
from interlingua.translation import Engine, decode_frames, detect_frames, fast_engine
from interlingua.translation.related import (
    DEFAULT_RULE,
    RULES,
    candidate_tokens,
    choose_token,
    heard_most,
    rule_scores,
)
from interlingua.types import Frames, Hypothesis, Utterance

ENGLISH = "en"
TEXTS: tuple[TextMetric, ...] = ("bleu", "chrf")
MOST_TOKENS: dict[Task, int] = {"translate": 128, "transcribe": 224}
"""Longer translations of 30 s are loops; transcripts need more, in scripts of which a letter is a token."""
PERMUTATIONS = 5
COPIED_WORDS = 8  # a run of so many of the reference's words counts as copied
_CHARACTERS = "zh"  # a language whose error rate `score_transcripts` counts by characters

Said = Mapping[str, Mapping[str, Hypothesis]]
"""Token -> utterance id -> translation."""


def with_english(corpus: CorpusSource) -> CorpusSource:
    """A corpus that takes its translations from its English sentences, where it has a choice and none was made.

    So only their texts are needed of English (FLEURS, MaSS), whatever languages are read.
    """
    if corpus.name == "manifest" or "references" in corpus.options:
        return corpus
    if "references" not in get_corpus(corpus.name).options:
        return corpus
    return replace(corpus, options={**corpus.options, "references": (ENGLISH,)})


def with_reference(utterances: Sequence[Utterance], where: str) -> tuple[list[Utterance], list[str]]:
    """Those that have an English reference, and a line on the others of each language: they can't be scored.

    Args:
        utterances: of languages other than English.
        where: the corpus, for the message.

    Raises:
        CorpusError: there are none, or no utterance of a language has one.
    """
    if not utterances:
        raise CorpusError(f"{where}: no utterance in another language than English")
    kept, left = [], []
    for language in dict.fromkeys(u.language for u in utterances):
        mine = [u for u in utterances if u.language == language]
        lacking = [u for u in mine if not u.translations.get(ENGLISH)]
        if len(lacking) == len(mine):
            raise CorpusError(
                f"{where}: none of the {len(mine)} utterances of {language} has an English reference, e.g. "
                f"{mine[0].id!r}; give `translations: {{en: …}}`, or English among the corpus's languages"
            )
        if lacking:
            left.append(
                f"{language}: {len(lacking)} of {len(mine)} utterances are left out, for they have no English "
                f"reference, e.g. {lacking[0].id!r}"
            )
        kept += [u for u in mine if u.translations.get(ENGLISH)]
    return kept, left


class Answers:
    """What a model says of a corpus's utterances, kept in a folder: a file a language, token and task.

    Args:
        folder: of the results; frames and answers are kept in it, and it is refused if begun with something else.
        utterances: with references.
        model: model spec; it must know how to translate.
        context: of the encoder.

    Attributes:
        encoding: the model, in the number format that the encoder works in.
        whisper: the same in float32, which is decoded with.
        failed: utterance id -> why it has no frames; it has no answers then.
        device: that the model is on.
        compute: number format that the encoder worked in.

    Raises:
        ResultsError: the folder was begun with another model or corpus.
        InterlinguaError: see the stages.
    """

    def __init__(self, folder: Path, utterances: Sequence[Utterance], model: str, context: str) -> None:
        self.device = best_device()
        self.compute = best_compute(self.device)
        self._folder = folder / ANSWERS
        about = [(u.id, u.text, u.translations.get(ENGLISH)) for u in utterances]
        digest = hashlib.sha256(msgspec.json.encode(about)).hexdigest()
        self.encoding: Whisper = load_whisper(model, dtype=self.compute, device=self.device)
        self.encoding.require_translation()
        kept_for = {"model": model, "revision": self.encoding.revision, "context": context, "corpus": digest}
        begun_with(folder / "begun.json", {**kept_for, "most_tokens": MOST_TOKENS, "compute": self.compute})
        encoder = WhisperEncoder(self.encoding, context=context)
        self._store: FrameStore
        self._store, report = encode_manifest(utterances, encoder, folder / FRAMES)
        self.failed = report.failed
        self.whisper = self.encoding if self.compute == "float32" else load_whisper(model, device=self.device)
        self._engine: Engine | None = None

    def said(self, utterances: Sequence[Utterance], token: str, task: Task) -> dict[str, Hypothesis]:
        """Utterance id -> hypothesis; an utterance without frames has none. All are of one language."""
        path = self._folder / f"{utterances[0].language}-as-{token}-{task}.json"
        prompt = self.whisper.prompt(token, task)

        def ask(frames: Sequence[Frames]) -> dict[str, Any]:
            found = decode_frames(self._decode(), frames, prompt, most_tokens=MOST_TOKENS[task])
            return {h.id: [h.text, h.log_probability] for h in found}

        held = self._kept(path, utterances, ask)
        return {i: Hypothesis(i, text, log_probability=chance) for i, (text, chance) in held.items()}

    def heard(self, utterances: Sequence[Utterance]) -> dict[str, dict[str, float]]:
        """Utterance id -> language -> probability. All are of one language."""
        path = self._folder / f"{utterances[0].language}-heard.json"
        return self._kept(path, utterances, lambda frames: detect_frames(self._decode(), frames))

    def _decode(self) -> Engine:
        self._engine = self._engine or fast_engine(self.whisper)
        return self._engine

    def _kept(
        self, path: Path, utterances: Sequence[Utterance], ask: Callable[[Sequence[Frames]], Mapping[str, Any]]
    ) -> dict[str, Any]:
        """What a file holds, and what it lacks: all of it, or what had no frames when the file was written."""
        held = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        lacking = [u.id for u in utterances if u.id in self._store and u.id not in held]
        if lacking or not path.exists():
            held = {**held, **ask(self._store.read(lacking))}
            write_text(path, json.dumps(held, ensure_ascii=False, indent=0) + "\n")
        return dict(held)


def language_row(
    answers: Answers, utterances: Sequence[Utterance], tokens: Sequence[str] = (), *, without_own: bool = False
) -> tuple[dict[str, Any], dict[str, dict[str, Hypothesis]]]:
    """One language's row of ``unseen`` in ``results.json`` (`interlingua.results`), and its translations.

    Args:
        answers: of the model.
        utterances: of one language, with English references.
        tokens: candidates; none: the language's own, else those of `candidate_tokens`, else what is heard most.
        without_own: ask a language that has a token as if it had none.

    Returns:
        The row; token -> utterance id -> translation, for each candidate.

    Raises:
        CorpusError: no recording can be read, so that no token can be told by what is heard.
        UsageError: no token to try, or one that the model hasn't.
    """
    language = utterances[0].language
    heard = answers.heard(utterances)
    known = [code for code in answers.whisper.languages if not (without_own and code == language)]
    candidates = list(normalise_languages(tokens)) or candidate_tokens(language, known)
    candidates = candidates or heard_most(heard, without=(language, ENGLISH))
    if not candidates and not heard:
        first = utterances[0].id
        why = answers.failed.get(first, "no frames")
        raise CorpusError(
            f"{language}: none of {len(utterances)} recordings can be read ({first}: {why}); "
            "mend them, or leave the language out"
        )
    if not candidates:
        raise UsageError(f"no token to try for {language!r}; name some, `tokens: {{{language}: [es, pt]}}`")
    references = {u.id: u.translations[ENGLISH] for u in utterances}
    clusters = {u.id: u.group for u in utterances}
    translations = {token: answers.said(utterances, token, "translate") for token in candidates}
    texts = {token: {i: h.text for i, h in said.items()} for token, said in translations.items()}
    scored = [{"token": token, **_scores(texts[token], references, clusters, language, token)} for token in candidates]
    chrf = {row["token"]: row["chrf"]["value"] for row in scored}
    rules = {
        rule: {"token": choose_token(found), "scores": {token: mean(values) for token, values in found.items()}}
        for rule in RULES
        for found in [rule_scores(rule, translations, heard)]
    }
    chosen = str(rules[DEFAULT_RULE]["token"])
    row = {
        "language": language,
        "name": language_name(language),
        "seen": language in answers.whisper.languages,
        "own_token": candidates == [language],
        "synthetic": is_synthetic(utterances[0]),
        "speakers": sorted({u.speaker for u in utterances if u.speaker}),
        "n": len(utterances),
        "n_clusters": len(set(clusters.values())),
        "seconds": round(sum(u.duration or 0.0 for u in utterances), 1),
        "candidates": scored,
        "rules": rules,
        "chosen": chosen,
        "oracle": max(chrf, key=lambda token: chrf[token]),
        "permuted": {m: permuted_row(texts[chosen], references, clusters, m) for m in ("chrf", "bleu")},
        "copied": copied_share(texts[chosen], references),
        "error": transcript_row(answers, utterances, chosen),
    }
    return row, translations


def _scores(
    texts: Mapping[str, str], references: Mapping[str, str], clusters: Mapping[str, str], language: str, token: str
) -> dict[str, Any]:
    found: dict[str, Any] = {
        m: msgspec.to_builtins(score_translations(texts, references, target=ENGLISH, metric=m, clusters=clusters))
        for m in TEXTS
    }
    sources = (language, token)
    off = off_target_rate(texts, ENGLISH, references=references, sources=sources, clusters=clusters)
    return {**found, "off_target": msgspec.to_builtins(off)}


def transcript_row(answers: Answers, utterances: Sequence[Utterance], token: str) -> dict[str, Any] | None:
    """Word and character error rates of transcripts, per cent; None where the corpus says of none what is said."""
    clusters = {u.id: u.group for u in utterances}
    transcripts, expected = transcripts_of(answers, utterances, token)
    if not expected:
        return None
    units = {"words": utterances[0].language, "characters": _CHARACTERS}
    return {
        name: msgspec.to_builtins(score_transcripts(transcripts, expected, language=language, clusters=clusters))
        for name, language in units.items()
    }


def transcripts_of(
    answers: Answers, utterances: Sequence[Utterance], token: str
) -> tuple[dict[str, str], dict[str, str]]:
    """What is heard under a token, and what is said, by id of the utterances of which the corpus says it."""
    expected = {u.id: u.text for u in utterances if u.text}
    if not expected:
        return {}, {}
    heard = answers.said(utterances, token, "transcribe")
    return {i: h.text for i, h in heard.items() if i in expected}, expected


def permuted_row(
    texts: Mapping[str, str], references: Mapping[str, str], clusters: Mapping[str, str], metric: Any
) -> dict[str, Any]:
    """Translations against references dealt out anew: the mean score, and what the true references give above it.

    Each translation answers another cluster's reference, `PERMUTATIONS` times; the difference is paired, and its
    interval resamples clusters.

    Returns:
        ``{"value", "difference": {"value", "ci", "n", "signature", "p_bootstrap", "p_randomisation"}}``; the value is
        None where there is one cluster only.
    """
    dealt_out: list[Statistics] = []
    for seed in range(PERMUTATIONS):
        dealt = dealt_anew(clusters, seed)
        if dealt is None:
            return {"value": None, "difference": None}
        turned = {i: texts.get(dealt[i], "") for i in references}
        dealt_out.append(translation_statistics(SystemOutputs(turned, references, clusters, ENGLISH), metric))
    true = translation_statistics(SystemOutputs(texts, references, clusters, ENGLISH), metric)
    difference = pooled_difference([true] * PERMUTATIONS, dealt_out)
    return {"value": true.value - difference.value, "difference": msgspec.to_builtins(difference)}


def dealt_anew(clusters: Mapping[str, str], seed: int) -> dict[str, str] | None:
    """Utterance id -> another one, of another cluster, each used once; None where a cluster has more than half.

    Ids are shuffled with whole clusters side by side, and turned by the size of the largest cluster.
    """
    random = np.random.default_rng(seed)
    names = sorted(set(clusters.values()))
    place = {names[c]: p for p, c in enumerate(random.permutation(len(names)))}
    ids = sorted(clusters)
    ids = [ids[i] for i in random.permutation(len(ids))]
    ids.sort(key=lambda i: place[clusters[i]])  # stable: shuffled within a cluster
    largest = max(list(clusters.values()).count(name) for name in names)
    if 2 * largest > len(ids):
        return None
    by = int(random.integers(largest, len(ids) - largest + 1))
    return dict(zip(ids, [*ids[by:], *ids[:by]], strict=True))


def copied_share(texts: Mapping[str, str], references: Mapping[str, str]) -> float:
    """Share (0-1) of the references' words that stand in runs of `COPIED_WORDS` or more, word for word, in the output.

    High beside a high error rate of the transcript, the model knows the text by heart.
    """
    copied = total = 0
    for i, reference in references.items():
        expected, said = words_of(reference), words_of(texts.get(i, ""))
        blocks = difflib.SequenceMatcher(None, expected, said, autojunk=False).get_matching_blocks()
        copied += sum(block.size for block in blocks if block.size >= COPIED_WORDS)
        total += len(expected)
    return copied / total if total else 0.0


def mean(values: Sequence[float]) -> float | None:
    """The mean; None of nothing."""
    return float(np.mean(values)) if len(values) else None
