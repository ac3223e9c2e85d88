"""The saved results as typed records: what `interlingua.results` describes, read for the report.

Nearly every field is optional, since a folder may hold only what its command measured; a field of a
wrong type is an error that names its place.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from interlingua.errors import ResultsError, UsageError
from interlingua.experiments.methods import DEFAULT_METHOD
from interlingua.languages import language_name

Interval = tuple[float, float]
Pair = tuple[str, str]

PAPER_METHOD = "seqsim"
METHODS: dict[str, tuple[str, str]] = {  # method -> (label, what it compares); the report's order
    "whitened-csls": ("SeqSim, whitened + CSLS", "frames whitened in each language, hubs demoted"),
    "seqsim": ("SeqSim", "the paper's: every encoder frame with its best match, both ways"),
    "seqsim-precision": ("SeqSim precision", "the query's frames alone look for a match"),
    "seqsim-recall": ("SeqSim recall", "the candidate's frames alone look for a match"),
    "seqsim-mean": ("SeqSim mean", "mean of both directions in place of F1"),
    "dtw": ("DTW", "dynamic time warping: frames matched in order"),
    "centred": ("SeqSim, centred", "less each language's mean frame"),
    "whitened": ("SeqSim, whitened", "every direction of each language's frames has the same say"),
    "csls": ("SeqSim + CSLS", "hubs demoted"),
    "centred-csls": ("SeqSim, centred + CSLS", "both"),
    "whitened-margin": ("SeqSim, whitened + margin", "ratio margin in place of CSLS"),
    "whitened-rare-csls": ("SeqSim, whitened, rare frames + CSLS", "frames that match anything count less"),
    "whitened-position-csls": ("SeqSim, whitened, place + CSLS", "frames at the same relative place attract"),
    "whitened-duration-csls": ("SeqSim, whitened, duration + CSLS", "unlike durations cost points"),
    "whitened-mean-pool": ("Mean-pooled cosine, whitened", "one averaged vector of whitened frames"),
    "cascade": ("Cascade", "Whisper's English translations, compared by a sentence encoder"),
    "mean-pool": ("Mean-pooled cosine", "one averaged encoder vector an utterance"),
    "duration": ("Duration alone", "control: nothing but the length"),
    "seqsim:log-mel": ("SeqSim on log-mel frames", "control: the sound before the encoder"),
    "seqsim:random-weights": ("SeqSim, random weights", "control: the same encoder, untrained, one seed"),
}
CONTROLS = ("duration", "seqsim:log-mel", "seqsim:random-weights")


class Retrieval(msgspec.Struct, frozen=True, kw_only=True):
    """One method on one ordered language pair; proportions in 0-1."""

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
    n_candidates: int | None = None
    n_clusters: int | None = None
    chance: float | None = None
    chance_r5: float | None = None
    chance_r10: float | None = None
    signature: str | None = None

    @property
    def pair(self) -> Pair:
        """Query and candidate language."""
        return self.query, self.candidate

    @property
    def pair_name(self) -> str:
        """The pair in words, e.g. ``English → French``."""
        return f"{name_of(self.query)} → {name_of(self.candidate)}"


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """BLEU or chrF in 0-100, with its interval and signature."""

    value: float | None = None
    ci: Interval | None = None
    n: int | None = None
    signature: str | None = None


class Translation(msgspec.Struct, frozen=True, kw_only=True):
    """One system on one translation direction."""

    source: str
    target: str
    system: str = ""
    n: int | None = None
    bleu: Metric | None = None
    chrf: Metric | None = None

    @property
    def pair_name(self) -> str:
        """The direction in words."""
        return f"{name_of(self.source)} → {name_of(self.target)}"


class Difference(Metric, frozen=True, kw_only=True):
    """A paired difference, after less before, with its two-sided p."""

    p_bootstrap: float | None = None
    p_randomisation: float | None = None


class Measured(Difference, frozen=True, kw_only=True):
    """A score or difference of a system, or the reason why there is none."""

    reason: str | None = None


class SystemScores(msgspec.Struct, frozen=True, kw_only=True):
    """A system's scores on one language spoken, or (``source`` None) on several, pooled.

    ``against``: they are differences from that system. ``bleu``, ``chrfpp`` (chrF++) and ``chrf`` lie in 0-100,
    ``off_target`` in 0-1, ``error`` is in per cent, ``comet`` on its model's own scale.
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

    @property
    def spoken(self) -> str:
        """The language spoken in words."""
        if self.source is not None:
            return name_of(self.source)
        return f"all {len(self.sources)}" if self.sources else "all"


class BadOutput(msgspec.Struct, frozen=True, kw_only=True):
    """One of a system's worst outputs; ``score`` is sentence chrF++ (0-100), or its error rate in per cent."""

    system: str
    id: str = ""
    task: Literal["translate", "transcribe"] = "translate"
    source: str = ""
    target: str = ""
    metric: str = ""
    score: float | None = None
    transcript: str | None = None
    reference: str | None = None
    hypothesis: str | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One score before and after fine-tuning, or the reason why there is none."""

    before: Metric | None = None
    after: Metric | None = None
    difference: Difference | None = None
    reason: str | None = None

    @property
    def unit(self) -> str:
        """What an error rate counts, by its signature: ``WER``, ``CER``, or ``error rate`` where nothing says."""
        signature = next((m.signature for m in (self.before, self.after) if m and m.signature), "")
        unit = signature.partition("|")[0]
        return unit.upper() if unit in ("wer", "cer") else "error rate"


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """One task in one language, before and after.

    A task is the new target, another target, translation into English, transcription, or naming the language.
    ``chrf`` and ``bleu`` lie in 0-100, ``off_target`` in 0-1, ``error`` is in per cent, ``comet`` on its model's scale.
    """

    task: Literal["new", "other", "translate", "transcribe", "detect"]
    source: str
    target: str
    trained: bool = False
    n: int | None = None
    chrf: Change = Change()
    bleu: Change = Change()
    off_target: Change = Change()
    error: Change = Change()
    comet: Change = Change()

    @property
    def name(self) -> str:
        """The direction in words, or the language spoken where there is no other."""
        if self.task in ("transcribe", "detect"):
            return name_of(self.source)
        return f"{name_of(self.source)} → {name_of(self.target)}"


class Pooled(msgspec.Struct, frozen=True, kw_only=True):
    """A chrF difference pooled over languages."""

    pool: str
    languages: list[str] = []
    chrf: Difference | None = None


class StudyPool(msgspec.Struct, frozen=True, kw_only=True):
    """A variant's scores pooled over languages, before and after."""

    pool: str
    languages: list[str] = []
    chrf: Change = Change()
    bleu: Change = Change()
    comet: Change = Change()


class StudyRow(msgspec.Struct, frozen=True, kw_only=True):
    """One variant of a transfer study in one test; ``errors`` are per cent before and after, by task."""

    variant: str
    target: str
    test: str = ""
    sources: list[str] = []
    errors: dict[str, tuple[float, float]] = {}
    pooled: list[StudyPool] = []
    table: list[Transfer] = []


class BesideTransfer(msgspec.Struct, frozen=True, kw_only=True):
    """Our score in one direction and another's, or why there is none."""

    test: str
    variant: str
    source: str
    target: str
    metric: Literal["bleu", "chrf", "comet"]
    ours: float
    published: float | str


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """A difference that a picture is drawn of, with its interval and signature."""

    value: float
    ci: Interval | None = None
    signature: str | None = None


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """One way to fine-tune: its gain on the new target and its change on old tasks (below 0: lost), in chrF.

    ``curve`` holds (gain, loss) of shares of the change, from none to all. Variants of several targets get a
    picture each.
    """

    name: str
    target: str = ""
    test: str = ""
    gain: Point
    loss: Point
    curve: list[tuple[float, float]] | None = None


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One translated utterance."""

    id: str = ""
    source: str = ""
    target: str = ""
    transcript: str | None = None
    reference: str | None = None
    hypothesis: str | None = None


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """A spoken word and its place in time (seconds), where known."""

    word: str
    start: float | None = None
    end: float | None = None


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two aligned utterances."""

    id: str = ""
    language: str = ""
    text: str | None = None
    seconds: float | None = None
    words: list[Word] | None = None


class Alignment(msgspec.Struct, frozen=True, kw_only=True):
    """Two utterances whose frames were compared, and SeqSim's three scores of them."""

    query: Side
    candidate: Side
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None


class Similarity(msgspec.Struct, frozen=True, kw_only=True):
    """Which languages and method the stored score matrix belongs to."""

    query: str
    candidate: str
    method: str = PAPER_METHOD


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """Our R@1 and another's (0 to 1), or why there is none."""

    query: str
    candidate: str
    method: str
    ours: float
    published: float | str


class BesideScore(msgspec.Struct, frozen=True, kw_only=True):
    """Our score of a language beside another's, or why there is none; ``bleu``, ``chrf``, ``wer`` or ``cer``."""

    language: str
    metric: str
    ours: float
    published: float | str


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """Translations into English under one language token."""

    token: str
    bleu: Metric
    chrf: Metric
    off_target: Metric


class Permuted(msgspec.Struct, frozen=True, kw_only=True):
    """The mean score against references dealt out anew, and how much the true ones are above it."""

    value: float | None = None
    difference: Difference | None = None


class UnderTokens(msgspec.Struct, frozen=True, kw_only=True):
    """A language under its own token, or under those that stand in for it; ``error`` in per cent."""

    language: str
    seen: bool
    own_token: bool
    n: int
    n_clusters: int
    candidates: list[Candidate]
    chosen: str
    oracle: str
    permuted: dict[str, Permuted] = {}
    copied: float | None = None
    error: dict[str, Metric] | None = None

    @property
    def forbidden(self) -> bool:
        """Whether the language has a token that wasn't tried."""
        return self.seen and self.language not in {c.token for c in self.candidates}

    @property
    def scores(self) -> Candidate:
        """Those of the chosen token."""
        return next(c for c in self.candidates if c.token == self.chosen)


class TokenRule(msgspec.Struct, frozen=True, kw_only=True):
    """How a rule that takes a token without references does, over languages."""

    rule: str
    default: bool
    languages: list[str]
    right: int
    chrf: float
    loss: float
    against_first: Difference


class Distant(msgspec.Struct, frozen=True, kw_only=True):
    """A language beside its distance to the pivot; retrieval by method, both ways."""

    language: str
    family: str | None = None
    seen: bool
    token: str
    distance: dict[str, float | None]
    n: int
    to_pivot: dict[str, Retrieval] = {}
    from_pivot: dict[str, Retrieval] = {}
    bleu: Metric | None = None
    chrf: Metric | None = None
    off_target: Metric | None = None
    wer: Metric | None = None
    cer: Metric | None = None


class RankCorrelation(msgspec.Struct, frozen=True, kw_only=True):
    """Of a measure with a distance, over languages."""

    measure: str
    method: str | None = None
    kind: str
    seen_only: bool
    value: float | None = None
    p: float | None = None
    n: int
    signature: str


class Robustness(msgspec.Struct, frozen=True, kw_only=True):
    """Every language beside its distance to a pivot."""

    pivot: str
    methods: list[str]
    rules: list[str] = []
    languages: list[Distant]
    correlations: list[RankCorrelation] = []


class CorpusLanguage(msgspec.Struct, frozen=True, kw_only=True):
    """One language's recordings and whom to credit for them."""

    language: str
    n: int | None = None
    seconds: float | None = None
    voice: str | None = None
    variety: str | None = None
    licence: str | None = None


class Corpus(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured on."""

    title: str = ""
    n_meanings: int | None = None
    n_clusters: int | None = None
    rules: list[str] = []
    languages: list[CorpusLanguage] = []


class CorpusUsed(msgspec.Struct, frozen=True, kw_only=True):
    """Which utterances: how many, and the SHA-256 of their records."""

    utterances: int
    sha256: str


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """Where the results come from."""

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


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """A whole ``results.json``."""

    title: str = ""
    provenance: Provenance = Provenance()
    settings: dict[str, Any] = {}
    corpus: Corpus | None = None
    retrieval: list[Retrieval] = []
    published: list[Beside] = []
    robustness: Robustness | None = None
    unseen: list[UnderTokens] = []
    unseen_rules: list[TokenRule] = []
    published_unseen: list[BesideScore] = []
    left_out: list[str] = []
    translation: list[Translation] = []
    transfer: list[Transfer] = []
    transfer_pooled: list[Pooled] = []
    pareto: list[Variant] = []
    study: list[StudyRow] = []
    published_transfer: list[BesideTransfer] = []
    outputs: list[SystemScores] = []
    outputs_compared: list[SystemScores] = []
    outputs_by_duration: list[SystemScores] = []
    worst: list[BadOutput] = []
    samples: list[Sample] = []
    failures: list[str] = []
    alignment: Alignment | None = None
    similarity: Similarity | None = None
    timings: dict[str, float | None] = {}

    @property
    def methods(self) -> list[str]:
        """Retrieval methods that were run: the default one, the other known ones in `METHODS`' order, the rest."""
        found = dict.fromkeys(r.method for r in self.retrieval)
        order = dict.fromkeys((DEFAULT_METHOD, *METHODS, *found))
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
        place = {code: i for i, code in enumerate(self.languages)}
        return dict(sorted(found.items(), key=lambda item: (place[item[0][0]], place[item[0][1]])))


def read_records(results: Mapping[str, Any]) -> Results:
    """Turn what `load_results` returned into records.

    Raises:
        ResultsError: a field has another type than the schema says; its place is named.
    """
    try:
        return msgspec.convert({k: v for k, v in results.items() if v is not None}, Results)
    except msgspec.ValidationError as e:
        raise ResultsError(f"results.json: {e}; measure again with this version") from e


def method_label(method: str) -> str:
    """A method's name for people."""
    return METHODS.get(method, (method, ""))[0]


def name_of(code: str) -> str:
    """English name of a language, or the code itself where nobody knows it."""
    try:
        return language_name(code)
    except UsageError:
        return code
