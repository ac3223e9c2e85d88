"""Languages that Whisper has no token for: translated under related tokens, beside controls that it knows.

Of each language: the translations into English under every candidate token, which one a rule takes without references,
which one the references would take (the oracle), the error rate of transcripts under the chosen token, and the scores
against references dealt out anew: a model that knows the text by heart, or writes likely phrases, is not better than
that. Answers are kept, so an interrupted study goes on where it was.
"""

import dataclasses
import datetime
import difflib
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from interlingua.corpora import read_manifest
from interlingua.corpora.clusters import words_of
from interlingua.corpora.udhr import is_synthetic
from interlingua.encode import Context, WhisperEncoder, best_compute, best_device, encode_manifest
from interlingua.errors import CorpusError, UsageError
from interlingua.experiments.finetuning import begun_with
from interlingua.experiments.transfer import as_row
from interlingua.files import write_text
from interlingua.languages import language_name, normalise_languages
from interlingua.metrics import (
    Comparison,
    off_target_rate,
    pooled_difference,
    score_transcripts,
    score_translations,
)
from interlingua.models import Task, Whisper, load_whisper
from interlingua.results import provenance, save_results
from interlingua.store import FrameStore
from interlingua.translation import Decoder, fast_decoder
from interlingua.translation.related import (
    DEFAULT_RULE,
    RULES,
    Rule,
    candidate_tokens,
    choose_token,
    heard_most,
    rule_scores,
)
from interlingua.types import Hypothesis, Utterance

ENGLISH = "en"
MOST_TOKENS: dict[Task, int] = {"translate": 128, "transcribe": 224}
"""Longer translations of 30 s are loops; transcripts need more, in scripts of which a letter is a token."""
PERMUTATIONS = 5
COPIED_WORDS = 8  # a run of so many of the reference's words counts as copied
_CHARACTERS = "zh"  # a language whose error rate `score_transcripts` counts by characters


@dataclass(frozen=True, kw_only=True)
class UnseenStudy:
    """Settings of the study.

    Attributes:
        manifest: utterances with English references, such as ``interlingua corpus prepare udhr`` writes.
        out: the result folder; frames and answers are kept in it.
        model: model spec; it must know how to translate.
        languages: of the manifest; none: all but English.
        forbidden: languages that have a token and are asked without it too, to check the rules.
        tokens: language -> candidates, instead of those of `related.candidate_tokens`.
        most: utterances a language, drawn; None: all.
        context: of the encoder; with ``full``, long utterances share batches.
    """

    manifest: Path
    out: Path
    model: str = "base"
    languages: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    tokens: dict[str, tuple[str, ...]] = field(default_factory=dict)
    most: int | None = None
    context: str = "speech+8"

    def __post_init__(self) -> None:
        """Check what can be checked before the work.

        Raises:
            UsageError: an unknown language or context, or a number out of range.
        """
        Context.parse(self.context)
        normalise_languages((*self.languages, *self.forbidden, *self.tokens))
        if self.most is not None and self.most < 1:
            raise UsageError(f"most: {self.most}; use 1 or more")

    def plan(self) -> str:
        """What will be done, in a line."""
        which = ", ".join(self.languages) or "every language"
        without = f"; {', '.join(self.forbidden)} without their own token too" if self.forbidden else ""
        return f"{which} of {self.manifest} into English under related tokens, {self.model}{without}"


def run_unseen_study(study: UnseenStudy, *, dry_run: bool = False, log: Callable[[str], None] = print) -> Path:
    """Ask what isn't answered yet, and write ``results.json``; `interlingua.results` says what it holds.

    Args:
        study: the settings.
        dry_run: do nothing.
        log: takes a line of news.

    Raises:
        CorpusError: an utterance has no English reference, or no utterance is left.
        UsageError: a language without candidates, or a candidate that the model has no token for.
        ResultsError: the folder was begun with another model or corpus.
        InterlinguaError: see the stages.
    """
    if dry_run:
        return study.out
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    device = best_device()
    compute = best_compute(device)
    utterances = chosen_utterances(study)
    about = [(u.id, u.text, u.translations.get(ENGLISH)) for u in utterances]
    digest = hashlib.sha256(msgspec.json.encode(about)).hexdigest()
    whisper = load_whisper(study.model, dtype=compute, device=device)
    whisper.require_translation()
    kept_for = {"model": study.model, "revision": whisper.revision, "context": study.context, "corpus": digest}
    begun_with(study.out / "begun.json", {**kept_for, "most_tokens": MOST_TOKENS, "compute": compute})
    encoder = WhisperEncoder(whisper, context=study.context)
    store, report = encode_manifest(utterances, encoder, study.out / "frames.lance")
    if compute != "float32":
        whisper = load_whisper(study.model, device=device)
    asked = _Asked(study.out / "answers", whisper, store)
    rows, told = [], []
    for language in dict.fromkeys(u.language for u in utterances):
        mine = [u for u in utterances if u.language == language]
        cases = [False] if language in whisper.languages else []
        if not cases or language in normalise_languages(study.forbidden):
            cases.append(True)
        for without in cases:
            log(f"{language_name(language)}{', its own token forbidden' if len(cases) > 1 and without else ''}")
            row, translations = _language_row(asked, mine, study, without=without)
            rows.append(row)
            told.append(translations)
    speech = ", SYNTHETIC speech" if any(map(is_synthetic, utterances)) else ""
    results = {
        "title": f"Translation of languages without a token{speech}",
        "settings": {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(study).items()},
        "unseen": rows,
        "unseen_rules": rule_rows(rows, told, utterances),
        "samples": [s for row, said in last_cases(rows, told) for s in _samples(row, said, utterances)],
        "failures": [f"{i}: {why}" for i, why in report.failed.items()],
        "provenance": provenance(compute, device, time.monotonic() - clock, started),
    }
    save_results(study.out, results)
    return study.out


def chosen_utterances(study: UnseenStudy) -> list[Utterance]:
    """The utterances that a study asks about, checked.

    Raises:
        CorpusError: one has no English reference, or none is left.
    """
    spoken = [u for u in read_manifest(study.manifest, study.languages or None) if u.language != ENGLISH]
    lacking = [u.id for u in spoken if not u.translations.get(ENGLISH)]
    if lacking:
        raise CorpusError(f"{study.manifest}: {len(lacking)} utterances have no English reference, e.g. {lacking[0]!r}")
    if not spoken:
        raise CorpusError(f"{study.manifest}: no utterance in another language than English")
    order = np.random.default_rng(0).permutation(len(spoken))
    drawn: dict[str, int] = {}
    chosen = set()
    for place in order:
        language = spoken[place].language
        if study.most is None or drawn.get(language, 0) < study.most:
            drawn[language] = drawn.get(language, 0) + 1
            chosen.add(int(place))
    return [u for place, u in enumerate(spoken) if place in chosen]


class _Asked:
    """What the model says, kept in a folder: a file a language, token and task."""

    def __init__(self, folder: Path, whisper: Whisper, store: FrameStore) -> None:
        self._folder, self.whisper, self._store = folder, whisper, store
        self._decoder: Decoder | None = None

    def said(self, utterances: Sequence[Utterance], token: str, task: Task) -> dict[str, Hypothesis]:
        """Utterance id -> hypothesis; an utterance that the store lacks has none."""
        path = self._folder / f"{utterances[0].language}-as-{token}-{task}.json"
        if not path.exists():
            prompt = self.whisper.prompt(token, task)
            found = self._decode().decode(self._frames(utterances), prompt, most_tokens=MOST_TOKENS[task])
            write_json(path, {h.id: [h.text, h.log_probability] for h in found})
        held = json.loads(path.read_text(encoding="utf-8"))
        return {i: Hypothesis(i, text, log_probability=chance) for i, (text, chance) in held.items()}

    def heard(self, utterances: Sequence[Utterance]) -> dict[str, dict[str, float]]:
        """Utterance id -> language -> probability."""
        path = self._folder / f"{utterances[0].language}-heard.json"
        if not path.exists():
            write_json(path, self._decode().languages(self._frames(utterances)))
        return dict(json.loads(path.read_text(encoding="utf-8")))

    def _decode(self) -> Decoder:
        self._decoder = self._decoder or fast_decoder(self.whisper)
        return self._decoder

    def _frames(self, utterances: Sequence[Utterance]) -> Any:
        return self._store.read([u.id for u in utterances if u.id in self._store])


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write what was answered."""
    write_text(path, json.dumps(content, ensure_ascii=False, indent=0) + "\n")


def _language_row(
    asked: _Asked, utterances: Sequence[Utterance], study: UnseenStudy, *, without: bool
) -> tuple[dict[str, Any], dict[str, dict[str, Hypothesis]]]:
    """A row of ``unseen``, and the translations under each candidate."""
    language = utterances[0].language
    heard = asked.heard(utterances)
    known = [code for code in asked.whisper.languages if not (without and code == language)]
    own = {code: tokens for name, tokens in study.tokens.items() for code in normalise_languages((name,))}
    candidates = list(normalise_languages(own[language])) if without and language in own else []
    candidates = candidates or candidate_tokens(language, known) or heard_most(heard, without=(language, ENGLISH))
    if not candidates:
        raise UsageError(f"no token to try for {language!r}; name some, `tokens: {{{language}: [es, pt]}}`")
    references = {u.id: u.translations[ENGLISH] for u in utterances}
    clusters = {u.id: u.cluster or u.id for u in utterances}
    translations = {token: asked.said(utterances, token, "translate") for token in candidates}
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
        "seen": language in asked.whisper.languages,
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
        "error": _errors(asked, utterances, chosen, clusters),
    }
    return row, translations


def _scores(
    texts: Mapping[str, str], references: Mapping[str, str], clusters: Mapping[str, str], language: str, token: str
) -> dict[str, Any]:
    found = {
        m: score_translations(texts, references, target=ENGLISH, metric=m, clusters=clusters).as_dict()
        for m in ("bleu", "chrf")
    }
    sources = (language, token)
    off = off_target_rate(texts, ENGLISH, references=references, sources=sources, clusters=clusters)
    return {**found, "off_target": off.as_dict()}


def _errors(
    asked: _Asked, utterances: Sequence[Utterance], token: str, clusters: Mapping[str, str]
) -> dict[str, Any] | None:
    """Word and character error rates of transcripts, per cent; None where the corpus says of none what is said."""
    expected = {u.id: u.text for u in utterances if u.text}
    if not expected:
        return None
    transcripts = {i: h.text for i, h in asked.said(utterances, token, "transcribe").items() if i in expected}
    units = {"words": utterances[0].language, "characters": _CHARACTERS}
    return {
        name: score_transcripts(transcripts, expected, language=language, clusters=clusters).as_dict()
        for name, language in units.items()
    }


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
    groups = []
    for seed in range(PERMUTATIONS):
        dealt = dealt_anew(clusters, seed)
        if dealt is None:
            return {"value": None, "difference": None}
        turned = {i: texts.get(dealt[i], "") for i in references}
        groups.append(Comparison(texts, turned, references, clusters, ENGLISH))
    difference = pooled_difference(groups, metric=metric)
    true = score_translations(texts, references, target=ENGLISH, metric=metric).value
    return {"value": true - difference.score.value, "difference": as_row(difference)}


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


def last_cases(
    rows: Sequence[Mapping[str, Any]], told: Sequence[Mapping[str, Mapping[str, Hypothesis]]]
) -> list[tuple[Mapping[str, Any], Mapping[str, Mapping[str, Hypothesis]]]]:
    """One row a language, with its translations: of one that is asked twice, without its own token."""
    return list({row["language"]: (row, said) for row, said in zip(rows, told, strict=True)}.values())


def _samples(
    row: Mapping[str, Any], said: Mapping[str, Mapping[str, Hypothesis]], utterances: Sequence[Utterance]
) -> list[dict[str, Any]]:
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
    rows: Sequence[Mapping[str, Any]],
    told: Sequence[Mapping[str, Mapping[str, Hypothesis]]],
    utterances: Sequence[Utterance],
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
    clusters = {u.id: u.cluster or u.id for u in utterances}

    def compared(rule: Rule, other: Rule) -> dict[str, Any]:
        groups = []
        for row, said in cases:
            ids = {u.id for u in utterances if u.language == row["language"]}
            a, b = ({i: h.text for i, h in said[row["rules"][r]["token"]].items()} for r in (rule, other))
            mine = {i: references[i] for i in ids}
            groups.append(Comparison(a, b, mine, {i: clusters[i] for i in ids}, ENGLISH))
        return as_row(pooled_difference(groups, metric="chrf"))

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


def mean(values: Sequence[float]) -> float | None:
    """The mean; None of nothing."""
    return float(np.mean(values)) if len(values) else None
