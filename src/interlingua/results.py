"""Result folders: experiments write them, reports read them; the schema is defined here alone.

``results.json`` is one `Results`; ``arrays.npz`` holds the matrices that are drawn; ``utterances.jsonl`` has a
`UtteranceResult` a line. Proportions lie in 0-1, BLEU and chrF in 0-100, error rates are per cent, times are seconds.
"""

import datetime
import hashlib
import json
import math
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from interlingua import __version__
from interlingua.errors import ResultsError, UsageError
from interlingua.files import atomic_file, decode_json, shown, write_text
from interlingua.languages import language_name
from interlingua.retrieval.methods import CONTROLS, DEFAULT_METHOD, METHODS, PAPER_METHOD
from interlingua.types import AudioRef, Utterance
from interlingua.types import Difference as Difference
from interlingua.types import Interval as Interval
from interlingua.types import Score as Score

SCHEMA = 2  # 1: queries without an answer counted, three lists of published figures
_PACKAGES = ("torch", "transformers", "ctranslate2", "numpy", "sacrebleu", "pylance", "av")


Pair = tuple[str, str]


class Record(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A part of ``results.json``: defaults are omitted, unknown fields are errors."""


class Retrieval(Record, frozen=True, kw_only=True):
    """One method on one ordered language pair; proportions in 0-1.

    ``n`` queries have a relevant candidate; ``n_unanswerable`` more have none and count nowhere.
    """

    query: str
    candidate: str
    method: str
    r1: float
    r1_ci: Interval | None = None
    r5: float | None = None
    r10: float | None = None
    mrr: float | None = None
    mrr_ci: Interval | None = None
    r1_cluster: float | None = None
    chance_cluster: float | None = None
    n: int | None = None
    n_unanswerable: int = 0
    n_candidates: int | None = None
    n_clusters: int | None = None
    chance: float | None = None
    chance_r5: float | None = None
    chance_r10: float | None = None
    median_rank: float | None = None
    signature: str | None = None

    @property
    def pair(self) -> Pair:
        """Query and candidate language."""
        return self.query, self.candidate

    @property
    def pair_name(self) -> str:
        """The pair in words, e.g. ``English → French``."""
        return f"{name_of(self.query)} → {name_of(self.candidate)}"


class Translation(Record, frozen=True, kw_only=True):
    """One system on one translation direction."""

    source: str
    target: str
    system: str = ""
    n: int | None = None
    bleu: Score | None = None
    chrf: Score | None = None

    @property
    def pair_name(self) -> str:
        """The direction in words."""
        return f"{name_of(self.source)} → {name_of(self.target)}"


class Measured(Difference, frozen=True, kw_only=True):
    """A score or difference of a system, or the reason why there is none."""

    value: float | None = None  # type: ignore[assignment]  # None where there is a reason
    reason: str | None = None


ScoreLabels = Mapping[str, tuple[str, float, int]]
"""Measure of `SystemScores` -> column head, factor, digits."""

SCORES: ScoreLabels = {
    "bleu": ("BLEU", 1.0, 1),
    "chrf++": ("chrF++", 1.0, 1),
    "chrf": ("chrF", 1.0, 1),
    "off_target": ("Off target, %", 100.0, 1),
    "comet": ("COMET", 1.0, 4),
    "error": ("Error rate, %", 1.0, 1),
}


class SystemScores(Record, frozen=True, kw_only=True):
    """A system's scores on one source language, or (``source`` None) on several, pooled.

    With ``against`` they are differences from that system. ``off_target`` lies in 0-1, ``error`` is in per cent,
    ``comet`` is on its model's scale. ``more``: further metrics by name.
    """

    system: str
    task: Literal["translate", "transcribe"]
    source: str | None = None
    sources: list[str] = []
    target: str | None = None
    against: str | None = None
    duration: str | None = None
    n: int | None = None
    missing: int | None = None
    bleu: Measured | None = None
    chrfpp: Measured | None = msgspec.field(name="chrf++", default=None)
    chrf: Measured | None = None
    off_target: Measured | None = None
    comet: Measured | None = None
    error: Measured | None = None
    more: dict[str, Measured] = {}

    @property
    def scores(self) -> dict[str, Measured]:
        """The available measures by name: those of `SCORES`, then further ones."""
        own = {name: getattr(self, name.replace("+", "p")) for name in SCORES}
        return {name: found for name, found in own.items() if found is not None} | self.more

    @property
    def spoken(self) -> str:
        """The source language in words."""
        if self.source is not None:
            return name_of(self.source)
        return f"all {len(self.sources)}" if self.sources else "all"


class BadOutput(Record, frozen=True, kw_only=True):
    """One of a system's worst outputs; ``score`` is sentence chrF++ (0-100), or its error rate in per cent."""

    system: str
    task: Literal["translate", "transcribe"]
    id: str = ""
    source: str = ""
    target: str = ""
    metric: str = ""
    score: float | None = None
    transcript: str | None = None
    reference: str | None = None
    hypothesis: str | None = None


class Change(Record, frozen=True, kw_only=True):
    """One score before and after fine-tuning, or the reason why there is none."""

    before: Score | None = None
    after: Score | None = None
    difference: Difference | None = None
    reason: str | None = None

    @property
    def unit(self) -> str:
        """The unit of an error rate, by its signature: ``WER``, ``CER``, or ``error rate`` if unknown."""
        signature = next((m.signature for m in (self.before, self.after) if m and m.signature), "")
        unit = signature.partition("|")[0]
        return unit.upper() if unit in ("wer", "cer") else "error rate"


class Transfer(Record, frozen=True, kw_only=True):
    """One task in one language, before and after.

    ``new`` is translation into the new target, ``other`` into another, ``translate`` into English, ``detect`` language
    identification. ``off_target`` lies in 0-1, ``error`` is in per cent, ``comet`` is on its model's scale.
    """

    task: Literal["new", "other", "translate", "transcribe", "detect"]
    source: str
    target: str
    trained: bool | None = None
    n: int | None = None
    chrf: Change = Change()
    bleu: Change = Change()
    off_target: Change = Change()
    error: Change = Change()
    comet: Change = Change()

    @property
    def name(self) -> str:
        """The direction in words, or the source language where there is no other."""
        if self.task in ("transcribe", "detect"):
            return name_of(self.source)
        return f"{name_of(self.source)} → {name_of(self.target)}"


class TrainingPoint(Record, frozen=True, kw_only=True):
    """What a training logged at a step: the mean loss since the point before, or scores on dev (0-100) by metric."""

    step: int
    loss: float | None = None
    dev: dict[str, float] = {}


class Pooled(Record, frozen=True, kw_only=True):
    """A chrF difference pooled over languages."""

    pool: str
    languages: list[str] = []
    chrf: Difference | None = None


TOLERATED = 2.0  # BLEU, or points of an error rate: what is kept may have lost so much, by its interval


class Summary(Record, frozen=True, kw_only=True):
    """A line of before and after, pooled over ``languages``; ``unit``: BLEU, or an error rate in per cent."""

    name: str
    languages: list[str] = []
    unit: str = "BLEU"
    change: Change = Change()

    @property
    def verdict(self) -> str:
        """By the interval of the paired difference: gained or lost where it excludes 0, kept where above -2.

        A loss within 2 is kept, too; unclear: the interval holds both 0 and a loss of 2 or more.
        """
        difference = self.change.difference
        if difference is None or difference.ci is None:
            return "unclear: too few utterances"
        sign = 1 if self.unit == "BLEU" else -1
        low, high = sorted(sign * end for end in difference.ci)
        amount = f"{abs(difference.value):.1f} {self.unit}"
        if low > 0:
            return f"gained {amount}"
        if low > -TOLERATED:
            return "kept"
        return f"lost {amount}" if high < 0 else "unclear: too few utterances"


class StudyPool(Record, frozen=True, kw_only=True):
    """A variant's scores pooled over languages, before and after."""

    pool: str
    languages: list[str] = []
    chrf: Change = Change()
    bleu: Change = Change()
    comet: Change = Change()


class Part(Record, frozen=True, kw_only=True):
    """A proportion with its interval; None where the whole isn't above 0."""

    value: float | None = None
    ci: Interval | None = None


class StudyRow(Record, frozen=True, kw_only=True):
    """One variant of a transfer study in one test; differences are of chrF, pooled over languages.

    Attributes:
        chosen: for each fold the settings and the interpolation weight (``alpha``) chosen on dev.
        candidates: their number.
        untrained_prompts: for each fold the best prompt of the model before training.
        sources: languages trained on.
        new_unseen: gain on the new target over the best untrained prompt, languages never trained on.
        new_source: the same, languages trained on.
        new_all: the same, both.
        into_english: the change of translation into English.
        by_language: language -> ``untrained`` and ``permuted`` -> the gain over that.
        unseen_against_permuted: gain over the control of permuted texts, languages never trained on.
        errors: task -> error rates in per cent before and after.
        relative_gain: the gain relative to plain fine-tuning's, languages trained on by neither.
        relative_gain_all: the same, all languages.
        chrf_unseen: chrF of ``variant``, ``plain`` and ``untrained``, languages never trained on.
    """

    target: str
    variant: str
    test: str = ""
    chosen: list[dict[str, Any]] = []
    candidates: int = 0
    untrained_prompts: list[str] = []
    sources: list[str] = []
    new_unseen: Difference | None = None
    new_source: Difference | None = None
    new_all: Difference | None = None
    into_english: Difference | None = None
    by_language: dict[str, dict[str, Difference | None]] = {}
    unseen_against_permuted: Difference | None = None
    errors: dict[str, tuple[float, float]] = {}
    relative_gain: Part = Part()
    relative_gain_all: Part = Part()
    table: list[Transfer] = []
    pooled: list[StudyPool] = []
    chrf_unseen: dict[str, float] = {}


class Variant(Record, frozen=True, kw_only=True):
    """One fine-tuning: its gain on the new target and its change on old tasks (below 0: lost), in chrF.

    ``curve`` holds (gain, loss) by interpolation weight, from 0 on. Each target has its own picture.
    """

    name: str
    target: str = ""
    test: str = ""
    gain: Difference
    loss: Difference
    curve: list[tuple[float, float]] | None = None


class Sample(Record, frozen=True, kw_only=True):
    """One translated utterance."""

    id: str = ""
    source: str = ""
    target: str = ""
    transcript: str | None = None
    reference: str | None = None
    hypothesis: str | None = None


class Word(Record, frozen=True, kw_only=True):
    """A spoken word and its times in seconds, where known."""

    word: str
    start: float | None = None
    end: float | None = None

    @property
    def times(self) -> tuple[float, float]:
        """Start and end; 0 where unknown."""
        return self.start or 0.0, self.end or 0.0


class Side(Record, frozen=True, kw_only=True):
    """One of the two aligned utterances."""

    id: str = ""
    language: str = ""
    text: str | None = None
    seconds: float | None = None
    words: list[Word] | None = None
    probability: float | None = None
    transcribed: bool = False


class Match(Record, frozen=True, kw_only=True):
    """A query word and its best candidate word; SeqSim of the two."""

    query: Word
    candidate: Word
    similarity: float | None = None


class Alignment(Record, frozen=True, kw_only=True):
    """Two utterances whose frames were compared, and SeqSim's three scores of them."""

    query: Side
    candidate: Side
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    mean: float | None = None
    matches: list[Match] = []


class Similarity(Record, frozen=True, kw_only=True, omit_defaults=False):
    """The languages and method of the stored score matrix."""

    query: str
    candidate: str
    method: str = PAPER_METHOD


class Published(Record, frozen=True, kw_only=True):
    """Our figure and a published one of the same, or the reason why there is none; units as everywhere in the schema.

    ``source`` and ``target`` are queries and candidates for retrieval; ``method`` is the variant for fine-tuning.
    """

    task: Literal["retrieval", "transfer", "unseen"]
    metric: str
    source: str = ""
    target: str = ""
    method: str = ""
    test: str = ""
    ours: float
    published: float | str


class Candidate(Record, frozen=True, kw_only=True):
    """Translations into English under one language token."""

    token: str
    bleu: Score
    chrf: Score
    off_target: Score


class Permuted(Record, frozen=True, kw_only=True):
    """The mean score against permuted references, and how far the true ones are above it."""

    value: float | None = None
    difference: Difference | None = None


class RuleChoice(Record, frozen=True, kw_only=True):
    """The token that a rule chooses, and each token's score by the rule."""

    token: str | None
    scores: dict[str, float] = {}


class UnderTokens(Record, frozen=True, kw_only=True):
    """A language under its own token, or under proxy languages' tokens; ``error`` in per cent."""

    language: str
    name: str = ""
    seen: bool
    own_token: bool
    synthetic: bool = False
    speakers: list[str] = []
    n: int
    n_clusters: int
    seconds: float | None = None
    candidates: list[Candidate]
    rules: dict[str, RuleChoice] = {}
    chosen: str
    oracle: str
    permuted: dict[str, Permuted] = {}
    copied: float | None = None
    error: dict[str, Score] | None = None

    @property
    def forbidden(self) -> bool:
        """Whether the language has a token that wasn't tried."""
        return self.seen and self.language not in {c.token for c in self.candidates}

    @property
    def scores(self) -> dict[str, Score]:
        """Those under the chosen token: ``bleu``, ``chrf``, ``off_target``; with transcripts, ``wer`` and ``cer``."""
        chosen = next(c for c in self.candidates if c.token == self.chosen)
        errors = {"wer": self.error["words"], "cer": self.error["characters"]} if self.error else {}
        return {"bleu": chosen.bleu, "chrf": chosen.chrf, "off_target": chosen.off_target, **errors}


class TokenRule(Record, frozen=True, kw_only=True):
    """Quality over languages of a rule that chooses a token without references."""

    rule: str
    default: bool
    languages: list[str]
    right: int
    chrf: float
    loss: float
    against_first: Difference


class Distant(Record, frozen=True, kw_only=True):
    """A language and its distance to the pivot; retrieval by method, both ways."""

    language: str
    name: str = ""
    family: str | None = None
    seen: bool
    token: str
    distance: dict[str, float | None]
    n: int
    n_clusters: int | None = None
    seconds: float | None = None
    to_pivot: dict[str, Retrieval] = {}
    from_pivot: dict[str, Retrieval] = {}
    bleu: Score | None = None
    chrf: Score | None = None
    off_target: Score | None = None
    wer: Score | None = None
    cer: Score | None = None


class RankCorrelation(Record, frozen=True, kw_only=True):
    """Of a measure with a distance, over languages."""

    measure: str
    method: str | None = None
    kind: str
    seen_only: bool
    value: float | None = None
    p: float | None = None
    n: int
    signature: str


class Robustness(Record, frozen=True, kw_only=True):
    """Every language with its distance to a pivot."""

    pivot: str
    methods: list[str]
    rules: list[str] = []
    languages: list[Distant]
    correlations: list[RankCorrelation] = []


class CorpusLanguage(Record, frozen=True, kw_only=True):
    """One language's recordings and their credits."""

    language: str
    n: int | None = None
    seconds: float | None = None
    voice: str | None = None
    variety: str | None = None
    licence: str | None = None


class Corpus(Record, frozen=True, kw_only=True):
    """The corpus and the rules of its selection."""

    title: str = ""
    n_meanings: int | None = None
    n_clusters: int | None = None
    rules: list[str] = []
    languages: list[CorpusLanguage] = []


class CorpusUsed(Record, frozen=True, kw_only=True):
    """The utterances: their number, and the SHA-256 of their records."""

    utterances: int
    sha256: str


class Provenance(Record, frozen=True, kw_only=True):
    """The origin of the results."""

    command: str | None = None
    started: str | None = None
    seconds: float | None = None
    version: str | None = None
    commit: str | None = None
    dirty: bool | None = None
    python: str | None = None
    platform: str | None = None
    packages: dict[str, str | None] = {}
    device: dict[str, Any] = {}
    corpus: CorpusUsed | None = None
    seeds: dict[str, int] = {}


class Results(Record, frozen=True, kw_only=True):
    """A whole ``results.json``."""

    title: str = ""
    provenance: Provenance = Provenance()
    settings: dict[str, Any] = {}
    corpus: Corpus | None = None
    retrieval: list[Retrieval] = []
    published: list[Published] = []
    robustness: Robustness | None = None
    unseen: list[UnderTokens] = []
    unseen_rules: list[TokenRule] = []
    skipped: list[str] = []
    translation: list[Translation] = []
    training: list[TrainingPoint] = []
    transfer: list[Transfer] = []
    transfer_pooled: list[Pooled] = []
    transfer_summary: list[Summary] = []
    pareto: list[Variant] = []
    study: list[StudyRow] = []
    outputs: list[SystemScores] = []
    outputs_compared: list[SystemScores] = []
    outputs_by_duration: list[SystemScores] = []
    worst: list[BadOutput] = []
    metric_labels: dict[str, str] = {}
    samples: list[Sample] = []
    failures: list[str] = []
    alignment: Alignment | None = None
    similarity: Similarity | None = None
    timings: dict[str, float | None] = {}

    @property
    def score_labels(self) -> ScoreLabels:
        """How scores of outputs are shown: those of `SCORES`, and further metrics to one digit."""
        return {**SCORES, **{name: (label, 1.0, 1) for name, label in self.metric_labels.items()}}

    @property
    def methods(self) -> list[str]:
        """Retrieval methods that were run: the default one, the other known ones in `METHODS`' order, the rest."""
        found = dict.fromkeys(r.method for r in self.retrieval)
        order = dict.fromkeys((DEFAULT_METHOD, *METHODS, *CONTROLS, *found))
        return [m for m in order if m in found]

    @property
    def main_method(self) -> str | None:
        """The method shown where only one is: a robustness study's first, else the first of `methods`, else None."""
        return next(iter(self.robustness.methods if self.robustness else self.methods), None)

    @property
    def languages(self) -> list[str]:
        """Languages of the retrieval results: the corpus's order first, then that of appearance."""
        seen = dict.fromkeys(code for r in self.retrieval for code in r.pair)
        order = [lang.language for lang in self.corpus.languages] if self.corpus else []
        return [c for c in dict.fromkeys(order) if c in seen] + [c for c in seen if c not in order]

    def scores(self, method: str) -> dict[Pair, Retrieval]:
        """One method's results by ordered pair of two different languages, in the languages' order."""
        found = {r.pair: r for r in self.retrieval if r.method == method and r.query != r.candidate}
        order = {code: i for i, code in enumerate(self.languages)}
        return dict(sorted(found.items(), key=lambda item: (order[item[0][0]], order[item[0][1]])))


class Ranked(msgspec.Struct, frozen=True, omit_defaults=True):
    """The rank of a query's relevant candidate (1 = first; None: no frames, or none), and the first one's id."""

    rank: int | None = None
    first: str | None = None


class Translated(msgspec.Struct, frozen=True, kw_only=True):
    """One system's translation of one utterance; ``chrf`` is sacreBLEU's sentence chrF (0-100)."""

    system: str
    target: str
    reference: str
    hypothesis: str
    chrf: float


class Transcribed(msgspec.Struct, frozen=True, kw_only=True):
    """One system's transcript of one utterance; ``error`` is in per cent of words (``wer``) or characters (``cer``)."""

    system: str
    hypothesis: str
    unit: str
    error: float


class UtteranceResult(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The outputs for one utterance, whose audio may be gone by now.

    ``retrieval`` is method -> language of the candidates -> rank. The reference of transcripts is the utterance's text.
    """

    utterance: Utterance
    retrieval: dict[str, dict[str, Ranked]] = {}
    translations: list[Translated] = []
    transcripts: list[Transcribed] = []


def save_results(
    folder: str | Path,
    results: "Results",
    arrays: Mapping[str, np.ndarray] | None = None,
    utterances: Iterable[UtteranceResult] = (),
) -> Path:
    """Write ``results.json`` (``arrays.npz``, ``utterances.jsonl``) into ``folder`` and return the former's path."""
    folder = Path(folder)
    text = json.dumps(as_json(results), ensure_ascii=False, indent=1, allow_nan=False)
    text += "\n"
    folder.mkdir(parents=True, exist_ok=True)
    if arrays:
        with atomic_file(folder / "arrays.npz") as temporary, temporary.open("wb") as out:
            np.savez_compressed(out, **arrays)  # type: ignore[arg-type]  # numpy's stub confuses **kwds
    else:
        (folder / "arrays.npz").unlink(missing_ok=True)  # of an earlier result
    lines = [_line(result, folder) for result in utterances]
    if lines:
        with atomic_file(folder / "utterances.jsonl") as temporary:
            temporary.write_bytes(b"".join(lines))
    else:
        (folder / "utterances.jsonl").unlink(missing_ok=True)
    path = folder / "results.json"
    write_text(path, text)
    return path


def load_results(folder: str | Path) -> "tuple[Results, dict[str, np.ndarray]]":
    """Read (results, arrays) of a folder; ResultsError for a missing or broken ``results.json``, or another schema."""
    path = Path(folder) / "results.json"
    try:
        results = decode_json(path.read_bytes())
    except FileNotFoundError as e:
        raise ResultsError(f"{path}: no such file; `interlingua demo` and `evaluate` write one with --out") from e
    except (OSError, msgspec.DecodeError) as e:
        raise ResultsError(f"{path}: not a readable results file ({e}); measure again") from e
    if not isinstance(results, dict) or results.get("schema") != SCHEMA:
        raise ResultsError(f"{path}: not a results file of schema {SCHEMA}; measure again with this version")
    del results["schema"]
    try:
        found = msgspec.convert(results, Results)
    except msgspec.ValidationError as e:
        raise ResultsError(f"{path}: {e}; measure again with this version") from e
    arrays: dict[str, np.ndarray] = {}
    stored = path.with_name("arrays.npz")
    if stored.exists():
        try:
            with stored.open("rb") as file, np.load(file, allow_pickle=False) as data:
                arrays = dict(data)
        except Exception as e:  # numpy, zipfile, zlib, lzma and struct have errors of their own
            reason = " ".join(str(e).split()) or type(e).__name__
            raise ResultsError(f"{stored}: not a readable array file ({reason:.200}); measure again") from e
    return found, arrays


def as_json(results: "Results") -> dict[str, Any]:
    """The content of ``results.json``."""
    return {"schema": SCHEMA, **msgspec.to_builtins(results)}


def load_utterances(folder: str | Path) -> list[UtteranceResult]:
    """The results of each utterance, audio paths absolute; empty if there are none. ResultsError names a wrong line."""
    path = Path(folder) / "utterances.jsonl"
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            found.append(_with_audio(decode_json(line, UtteranceResult), str(path.parent.resolve())))
        except msgspec.DecodeError as e:
            raise ResultsError(f"{path}:{number}: {e}; measure again with this version") from e
    return found


def corpus_hash(utterances: Iterable[Utterance]) -> str:
    """SHA-256 of the utterances' records in the order of their ids, without the audio's paths."""
    digest = hashlib.sha256()
    for utterance in sorted(utterances, key=lambda u: u.id):
        digest.update(msgspec.json.encode(msgspec.structs.replace(utterance, audio=AudioRef("")), order="sorted"))
        digest.update(b"\n")
    return digest.hexdigest()


def provenance(
    compute: str,
    device: str,
    seconds: float,
    started: datetime.datetime,
    *,
    utterances: Iterable[Utterance] = (),
    seeds: Mapping[str, int] | None = None,
) -> "Provenance":
    """The origin of a result; ``compute`` is the encoder's number format, ``device`` the ``cpu`` or ``cuda`` used."""
    import torch

    commit, dirty = _commit()
    corpus = list(utterances)
    return Provenance(
        command=_command(),
        started=started.isoformat(timespec="seconds"),
        seconds=round(seconds, 1),
        version=__version__,
        commit=commit,
        dirty=dirty,
        python=platform.python_version(),
        platform=platform.platform(),
        packages={name: _version(name) for name in _PACKAGES},
        device={"name": _device_name(device), "threads": torch.get_num_threads(), "compute": compute},
        corpus=CorpusUsed(utterances=len(corpus), sha256=corpus_hash(corpus)) if corpus else None,
        seeds=dict(seeds or {}),
    )


def finite(value: float) -> float | None:
    """None for NaN and infinity, which JSON lacks."""
    return value if math.isfinite(value) else None


def _line(result: UtteranceResult, folder: Path) -> bytes:
    """Audio paths below the folder become relative, so that the folder can be moved."""
    absolute, here = (os.path.abspath(path) for path in (result.utterance.audio.path, folder))  # noqa: PTH100
    path = os.path.relpath(absolute, here) if Path(absolute).is_relative_to(here) else absolute
    return msgspec.json.encode(_with_path(result, shown(path))) + b"\n"


def _with_audio(result: UtteranceResult, folder: str) -> UtteranceResult:
    return _with_path(result, str(Path(folder, result.utterance.audio.path)))


def _with_path(result: UtteranceResult, path: str) -> UtteranceResult:
    audio = msgspec.structs.replace(result.utterance.audio, path=path)
    return msgspec.structs.replace(result, utterance=msgspec.structs.replace(result.utterance, audio=audio))


def _command() -> str:
    script = Path(sys.argv[0])
    if script.stem == "interlingua":
        return shown(shlex.join(["interlingua", *sys.argv[1:]]))
    return shown(shlex.join(["python", os.path.relpath(script), *sys.argv[1:]]))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _device_name(device: str) -> str:
    import torch

    if device.startswith("cuda"):
        return str(torch.cuda.get_device_name(device))
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _commit() -> tuple[str | None, bool | None]:
    """Commit and dirty flag of the checkout of this file; (None, None) for an installed copy."""
    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    tracked = git("ls-files", "--error-unmatch", Path(__file__).name)
    commit = git("rev-parse", "--short=12", "HEAD")
    if tracked is None or commit is None:
        return None, None
    return commit, bool(git("status", "--porcelain", "--untracked-files=no"))


def name_of(code: str) -> str:
    """English name of a language; an unknown code stays."""
    try:
        return language_name(code)
    except UsageError:
        return code
