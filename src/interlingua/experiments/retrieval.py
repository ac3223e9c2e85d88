"""Retrieval between the languages of a manifest: frames of a store -> scores -> rows of results; and its recipe.

Ma et al. (arXiv 2407.01130), section 4.2, compare FLEURS' en, fr, de, zh, ja, and seven languages of MaSS.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from pathlib import Path
from statistics import fmean
from urllib.parse import quote

import numpy as np

from interlingua.audio import load_audio
from interlingua.encoding import best_compute, best_device, encode_manifest, load_encoder
from interlingua.encoding.encoder import pooling_at
from interlingua.encoding.store import FrameStore
from interlingua.errors import CorpusError, UsageError
from interlingua.experiments.corpus_source import CorpusSource
from interlingua.experiments.published import PAPER_CHANCE, UNKNOWN, compared, read_published
from interlingua.experiments.run import Run, to_encode
from interlingua.experiments.utterances import UtteranceLog
from interlingua.files import write_text
from interlingua.models import SentenceEncoder
from interlingua.progress import track
from interlingua.resampling import BOOTSTRAP_SEED
from interlingua.results import Published, Results, Retrieval, Similarity, finite, name_of
from interlingua.retrieval.evaluate import (
    FOLD_SEED,
    FOLDS,
    LEAST_CLUSTERS,
    Directions,
    Items,
    Scorer,
    Speech,
    evaluate_scores,
    relevance,
)
from interlingua.retrieval.head import Head
from interlingua.retrieval.methods import DEFAULT_METHOD, METHODS, Method, get_method
from interlingua.retrieval.seqsim import TIE, SimilarityCompute, unit_rows
from interlingua.types import SAMPLE_RATE, FrameArray, FrameSpec, Matrix, Utterance

Pair = tuple[str, str]
SEEDS = {"bootstrap": BOOTSTRAP_SEED, "folds": FOLD_SEED}
TREC_DEPTH = 1000  # candidates of a query in a run file, trec_eval's own limit
_TREC_SAFE = "".join(chr(c) for c in range(33, 127) if chr(c) != "%")


@dataclass(frozen=True, eq=False)
class Corpus:
    """Utterances and frames of each language; frames are None where the store has none."""

    items: dict[str, Items]
    frames: dict[str, list[FrameArray | None]]
    seconds: dict[str, list[float | None]]

    @classmethod
    def of(cls, utterances: Iterable[Utterance], store: FrameStore) -> "Corpus":
        """Read the speech part of a manifest's utterances from a store."""
        by_language: dict[str, list[Utterance]] = {}
        for utterance in utterances:
            if utterance.meaning is None:
                raise CorpusError(
                    f"utterance {utterance.id!r} has no `meaning`; retrieval can only be evaluated where the "
                    "manifest says which utterances mean the same"
                )
            by_language.setdefault(utterance.language, []).append(utterance)
        if len(by_language) < 2:
            raise CorpusError(f"retrieval needs two languages or more; the manifest holds {', '.join(by_language)}")
        frames, seconds = {}, {}
        for language, members in by_language.items():
            held = {f.id: f.speech for f in store.read([u.id for u in members if u.id in store])}
            frames[language] = [held.get(u.id) for u in members]
            seconds[language] = [
                u.duration or len(held[u.id]) / store.spec.stored_rate if u.id in held else None for u in members
            ]
        return cls({lang: Items.of(members) for lang, members in by_language.items()}, frames, seconds)

    @property
    def pairs(self) -> list[Pair]:
        """Every two languages."""
        return list(combinations(self.items, 2))

    @property
    def n_clusters(self) -> int:
        """Number of clusters with frames."""
        held = (
            cluster
            for language, items in self.items.items()
            for cluster, frames in zip(items.clusters, self.frames[language], strict=True)
            if frames is not None
        )
        return len(set(held))

    def held(self, language: str) -> np.ndarray:
        """Positions of the utterances that have frames."""
        return np.array([i for i, f in enumerate(self.frames[language]) if f is not None], dtype=int)

    def speech(self, language: str) -> Speech:
        """The utterances that have frames."""
        frames, seconds, clusters = self.frames[language], self.seconds[language], self.items[language].clusters
        return Speech(
            [f for f in frames if f is not None],
            [s for s in seconds if s is not None],
            [clusters[i] for i in self.held(language)],
        )


@dataclass(frozen=True, eq=False)
class EnglishTexts:
    """The cascade's input: English text by utterance id, and the sentence encoder."""

    texts: Mapping[str, str]
    encoder: SentenceEncoder


@dataclass(frozen=True, eq=False)
class Measured:
    """Rows, skipped pairs and score matrices of the first method; ``similarity`` names the first matrix, if any."""

    rows: list[Retrieval]
    skipped: list[str] = field(default_factory=list)
    matrices: dict[Pair, Matrix] = field(default_factory=dict)
    similarity: Similarity | None = None

    @property
    def arrays(self) -> dict[str, Matrix]:
        """The first matrix, for the result folder."""
        return {"similarity": next(iter(self.matrices.values()))} if self.matrices else {}


def measure(
    corpus: Corpus,
    methods: Sequence[str],
    *,
    pairs: Sequence[Pair] | None = None,
    frames: str = "",
    compute: SimilarityCompute = "float32",
    device: str = "cpu",
    texts: EnglishTexts | None = None,
    head: Head | None = None,
    log: UtteranceLog | None = None,
    trec: Path | None = None,
) -> Measured:
    """R@k and MRR of methods on language pairs, both directions of each.

    A language's utterances are all queries and all candidates. One without frames counts as a miss, and can't be found.
    A query whose sentence no candidate has is skipped and counted.

    Args:
        methods: by name, or ``module:attribute`` (`interlingua.retrieval.methods`).
        pairs: unordered pairs of languages; None: all.
        frames: name of frames other than the encoder's; results call the methods ``method:frames``.
        texts: the cascade's English texts; other methods ignore them.
        head: of the method `head`; others ignore it.
        log: keeps each query's rank.
        trec: folder for TREC's files of each pair, see `write_trec`.

    Raises:
        UsageError: an unknown method, or the cascade without texts.
        CorpusError: too few clusters for a method, or no sentence that two languages share.
    """
    chosen = {name: get_method(name) for name in methods}
    requested = corpus.pairs if pairs is None else pairs
    usable = [(a, b) for a, b in requested if relevance(corpus.items[a], corpus.items[b]).any()]
    skipped = [
        f"{name_of(a)} and {name_of(b)}: no sentence is recorded in both; nothing can be retrieved between them"
        for a, b in requested
        if (a, b) not in usable
    ]
    if not usable:
        raise CorpusError(f"{skipped[0] if skipped else 'no pair of languages'}: see `meaning` in the manifest")
    rows: list[Retrieval] = []
    matrices: dict[Pair, Matrix] = {}
    first = ""
    for name, method in chosen.items():
        label = f"{name}:{frames}" if frames else name
        heads = [head] * FOLDS if head else []
        scored = score_pairs(
            corpus, method, usable, label=label, compute=compute, device=device, texts=texts, heads=heads
        )
        for (a, b), directions in zip(usable, scored, strict=True):
            for (query, candidate), scores in zip(((a, b), (b, a)), directions, strict=True):
                sides = corpus.items[query], corpus.items[candidate]
                result = evaluate_scores(scores, *sides)
                found = asdict(result)
                ranks = found.pop("ranks")
                found["median_rank"] = finite(float(np.nanmedian(ranks)))
                rows.append(Retrieval(query=query, candidate=candidate, method=label, **found))
                if log is not None:
                    log.ranked(label, candidate, *sides, scores, ranks)
                if trec is not None:
                    write_trec(trec, f"{query}-{candidate}", label, scores, *sides)
        if not first:
            first, matrices = label, {pair: forward for pair, (forward, _) in zip(usable, scored, strict=True)}
    shown = Similarity(query=usable[0][0], candidate=usable[0][1], method=first) if first else None
    return Measured(rows, skipped, matrices, shown)


def write_trec(folder: Path, pair: str, method: str, scores: Matrix, queries: Items, candidates: Items) -> None:
    """Write ``<pair>.qrels`` and ``<pair>.<method>.run``: trec_eval's success_k is our R@k, recip_rank our MRR.

    ``scores``: (N, M), as evaluated. Scores within `TIE` are told apart, against the right candidate; a NaN is left
    out. White space in ids is written as %20.
    """
    relevant = relevance(queries, candidates)
    names, others = ([quote(i, safe=_TREC_SAFE) for i in side.ids] for side in (queries, candidates))
    qrels = [f"{names[i]} 0 {others[j]} 1\n" for i, j in np.argwhere(relevant)]
    lines = []
    for name, row, right in zip(names, scores, relevant, strict=True):
        against = np.where(right, row - TIE, row)
        order = [j for j in np.lexsort((right, -against)) if not np.isnan(row[j])][:TREC_DEPTH]
        above = np.float32(np.inf)
        for rank, j in enumerate(order, 1):
            above = min(np.float32(against[j]), np.nextafter(above, np.float32(-np.inf)))
            lines.append(f"{name} Q0 {others[j]} {rank} {above:.9g} {quote(method, safe=_TREC_SAFE)}\n")
    write_text(folder / f"{pair}.qrels", "".join(qrels))
    write_text(folder / f"{pair}.{quote(method, safe='')}.run", "".join(lines))


def cascade_scores(
    query_texts: Sequence[str | None], candidate_texts: Sequence[str | None], encoder: SentenceEncoder
) -> Matrix:
    """Cosines between the sentence embeddings of N query and M candidate texts, (N, M).

    An empty text scores 0 with everything; None (the utterance has no frames) scores NaN.
    """
    queries, candidates = (encoder.encode([t or "" for t in texts]) for texts in (query_texts, candidate_texts))
    scores: Matrix = queries @ candidates.T
    scores[[t is None for t in query_texts]] = np.nan
    scores[:, [t is None for t in candidate_texts]] = np.nan
    return scores


def score_pairs(
    corpus: Corpus,
    method: Method,
    pairs: Sequence[Pair],
    *,
    label: str,
    compute: SimilarityCompute = "float32",
    device: str = "cpu",
    background: int | None = None,
    texts: EnglishTexts | None = None,
    heads: Sequence[Head] = (),
) -> list[Directions]:
    """Scores of both directions of each pair, NaN where an utterance has no frames; see `evaluate.Scorer`."""
    if method.score == "cascade":
        if texts is None:
            raise UsageError("--method cascade compares English texts; name the file to keep them in with --texts")
        english = {lang: [texts.texts.get(i) for i in items.ids] for lang, items in corpus.items.items()}
        matrices = [cascade_scores(english[a], english[b], texts.encoder) for a, b in pairs]
        return [(scores, scores.T) for scores in matrices]
    languages = dict.fromkeys(lang for pair in pairs for lang in pair)
    held = {lang: corpus.held(lang) for lang in languages}
    usable = [(a, b) for a, b in pairs if len(held[a]) and len(held[b])]
    with track(len(usable) * (len(heads) if method.frames == "headed" else FOLDS), f"scoring ({label})") as advance:
        speech = {lang: corpus.speech(lang) for lang in languages if len(held[lang])}
        scorer = Scorer(speech, method, compute=compute, device=device, background=background, heads=heads)
        scored = dict(zip(usable, scorer.score(usable, advance), strict=True))
    results = []
    for a, b in pairs:
        n, m = len(corpus.items[a]), len(corpus.items[b])
        forward, backward = np.full((n, m), np.nan, np.float32), np.full((m, n), np.nan, np.float32)
        if (a, b) in scored:
            forward[np.ix_(held[a], held[b])], backward[np.ix_(held[b], held[a])] = scored[a, b]
        results.append((forward, backward))
    return results


# ---------------------------------------------------------------- frames changed before they are compared


def without_quiet(
    corpus: Corpus, utterances: Iterable[Utterance], decibels: float, rate: float, pooling: int = 1
) -> Corpus:
    """Drop frames that are ``decibels`` quieter than the utterance's loudest frame.

    ``rate``: encoder frames per second. A frame pooled from ``pooling`` encoder frames stays if one of them is loud.
    """
    if not decibels > 0:
        raise UsageError(f"--drop-quiet {decibels}: name decibels below the loudest frame, such as 40")
    audio = {u.id: u.audio for u in utterances}
    frames: dict[str, list[FrameArray | None]] = {language: [] for language in corpus.frames}
    for language, every in corpus.frames.items():
        for name, held in zip(corpus.items[language].ids, every, strict=True):
            if held is None:
                frames[language].append(None)
                continue
            loud = pooled_any(loud_frames(load_audio(audio[name]), decibels, rate), pooling)
            frames[language].append(held[: len(loud)][loud[: len(held)]])
    return replace(corpus, frames=frames)


def concatenate_layers(corpora: Sequence[Corpus]) -> Corpus:
    """Concatenate frames of several layers, each normalised to length 1: (T, D), (T, E) -> (T, D + E)."""
    first, *others = corpora
    frames: dict[str, list[FrameArray | None]] = {}
    for language, held in first.frames.items():
        rows: list[FrameArray | None] = []
        for name, *same in zip(first.items[language].ids, held, *(c.frames[language] for c in others), strict=True):
            known = [unit_rows(f) for f in same if f is not None]
            if len({len(f) for f in known}) > 1:
                raise UsageError(
                    f"--concatenate: {name!r} has {', '.join(str(len(f)) for f in known)} frames; encode alike"
                )
            rows.append(np.hstack(known) if len(known) == len(corpora) else None)
        frames[language] = rows
    return replace(first, frames=frames)


def loud_frames(samples: np.ndarray, decibels: float, rate: float) -> np.ndarray:
    """Which frames are within so many decibels of the loudest, (S,) -> (T,); ``rate``: frames per second."""
    size = round(SAMPLE_RATE / rate)
    padded = np.pad(samples, (0, -len(samples) % size)).reshape(-1, size)
    power = np.square(padded).mean(axis=1)
    return np.asarray(power >= power.max() * 10 ** (-decibels / 10))


def pooled_any(chosen: np.ndarray, pooling: int) -> np.ndarray:
    """Whether any of every ``pooling`` consecutive values is true, (T,) -> (ceil(T / pooling),)."""
    return np.asarray(np.logical_or.reduceat(chosen, np.arange(0, len(chosen), pooling)))


# ---------------------------------------------------------------- the recipe


@dataclass(frozen=True, kw_only=True)
class RetrievalStudy:
    """Settings of the experiment; the keys of its recipe.

    Attributes:
        out: the result folder; it keeps manifest and frames.
        corpus: corpus to compare.
        encoder: name in the registry of encoders.
        model: model spec.
        others: further models of the encoder's, compared with it: results call their methods ``method:model``.
        methods: retrieval methods; the first one's scores are drawn.
        layer: encoder layer, 1-based; None: the last.
        pool: of 50 frames a second, how many are averaged into one, and of a slower encoder so many fewer; 1 = none.
        published: JSON of published figures, ``{"retrieval": [{"query", "candidate", "method", "r1"}]}``, 0 to 1.
    """

    out: Path
    corpus: CorpusSource
    encoder: str = "whisper"
    model: str = "base"
    others: tuple[str, ...] = ()
    methods: tuple[str, ...] = ("seqsim", DEFAULT_METHOD, "mean-pool")
    layer: int | None = None
    pool: int = 1
    published: Path | None = None

    def __post_init__(self) -> None:
        require_methods(self.methods)
        if self.pool < 1:
            raise UsageError(f"pool: {self.pool}; use 1 (no pooling) or more")

    def plan(self) -> str:
        """The plan in one line."""
        which = ", ".join(self.corpus.languages) or "every language"
        return (
            f"retrieval on {self.corpus.title} ({which}), {', '.join((self.model, *self.others))}, "
            f"{', '.join(self.methods)}"
        )


def run_retrieval_study(study: RetrievalStudy, *, dry_run: bool = False, log: Callable[[str], None] = print) -> Path:
    """Encode what isn't encoded yet, score every pair, and write ``results.json``.

    ``dry_run``: only read the corpus, and print the plan. Raises InterlinguaError, see the stages.
    """
    device = best_device()
    compute = best_compute(device)
    run = Run(study.out, compute=compute, device=device, log=log)
    published(study.published, [])  # a file that can't be read is reported before the work
    utterances = study.corpus.utterances(study.out, log)
    utterance_log = UtteranceLog(utterances)
    found: list[Measured] = []
    specs: list[FrameSpec] = []
    failures: dict[str, str] = {}
    for number, model in enumerate((study.model, *study.others)):  # one after another: they can be large
        encoder = load_encoder(
            study.encoder, model, context="speech", layer=study.layer, device=device, compute=compute
        )
        pooling = pooling_at(encoder.rate, study.pool)
        path = study.out / f"frames-{study.pool}{f'-{number}' if number else ''}.lance"
        spec = replace(encoder.spec, pooling=pooling)
        log(f"{f'{model}: ' if study.others else ''}to encode: {to_encode(utterances, spec, encoder.dim, path)}")
        if dry_run:
            continue
        if not number:
            more = {"others": list(study.others)} if study.others else {}
            run.claim({"model": model, "revision": spec.revision, "layer": spec.layer, **more})
        store, report = encode_manifest(utterances, encoder, path, pooling=pooling)
        del encoder
        specs.append(store.spec)
        failures |= report.failed
        corpus = Corpus.of(utterances, store)
        methods = usable_methods(study.methods, corpus.n_clusters, log)
        frames = model if number else ""
        found.append(measure(corpus, methods, frames=frames, compute=compute, device=device, log=utterance_log))
    if dry_run:
        return study.out
    results = Results(
        title=f"Cross-lingual speech retrieval: {study.corpus.title}",
        retrieval=[row for one in found for row in one.rows],
        published=published(study.published, found[0].rows, study.corpus.name),
        similarity=found[0].similarity,
        skipped=found[0].skipped,
        settings={
            **vars(specs[0]),
            **({"others": [vars(spec) for spec in specs[1:]]} if study.others else {}),
            **study.corpus.settings(study.out),
        },
        failures=[f"{name}: {why}" for name, why in failures.items()],
    )
    run.save(results, measured_on=utterances, seeds=SEEDS, arrays=found[0].arrays, utterances=utterance_log.results)
    return study.out


def usable_methods(methods: Sequence[str], n_clusters: int, log: Callable[[str], None]) -> list[str]:
    """Methods that this number of clusters is enough for; the default one estimates on some and tests on others."""
    enough = n_clusters >= LEAST_CLUSTERS
    if not enough and DEFAULT_METHOD in methods:
        log(f"skipped {DEFAULT_METHOD}, which takes {LEAST_CLUSTERS} clusters of meanings")
    return [m for m in methods if enough or m != DEFAULT_METHOD]


def require_methods(methods: Sequence[str]) -> None:
    """Raise UsageError for a recipe's methods: none, an unknown one, or one that needs more than a recipe."""
    for name in methods:
        method = get_method(name)
        if method.score == "cascade" or method.frames == "headed":
            raise UsageError(f"methods: {name!r} can't be used here; use {', '.join(METHODS)}")
    if not methods:
        raise UsageError(f"methods: name one or more of {', '.join(METHODS)}")


def published(path: Path | None, rows: Sequence[Retrieval], corpus: str = "") -> list[Published]:
    """Our R@1 and the published ones, and the mean chance of all pairs and the paper's where that is known."""
    for _, _, method, _, _ in read_published(path, "retrieval"):
        if method not in METHODS:
            raise UsageError(f"{path}: no method {method!r}; use one of {', '.join(METHODS)}")
    ours = [
        Published(
            task="retrieval",
            metric="r1",
            source=r.query,
            target=r.candidate,
            method=r.method,
            ours=r.r1,
            published=UNKNOWN,
        )
        for r in rows
    ]  # fmt: skip
    if rows and corpus in PAPER_CHANCE:
        mean, theirs = fmean(r.chance or 0.0 for r in rows), PAPER_CHANCE[corpus]
        languages = {"source": "mul", "target": "mul"}
        ours.append(Published(task="retrieval", metric="r1", method="chance", ours=mean, published=theirs, **languages))
    return compared(path, ours)
