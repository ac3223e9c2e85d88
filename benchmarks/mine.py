"""Mining quality: real pairs of the prompts hidden among recordings without a partner, and the page docs/mine.md.

Meanings are drawn: some in both languages (the pairs), as many or ten times as many in one language alone, on each side.
Draws of half of the clusters of near-duplicates choose the threshold of best F1 for each method; draws of the other half
test. At larger ratios distractors are made of frames (`gallery.multiplied`), the two languages from other meanings.
What the pairs are worth to `finetune`: mine_training.py.

    .venv/bin/python benchmarks/mine.py            # what is slow is kept in runs/mine, by the code and inputs it is made of
    .venv/bin/python benchmarks/mine.py --as-is    # the page alone
"""

import datetime
import inspect
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from gallery import LANGUAGES, Item, multiplied
from interlingua.corpora import prepare_prompts
from interlingua.encoding.store import FrameStore
from interlingua.errors import UsageError
from interlingua.experiments.retrieval import EnglishTexts, cascade_scores
from interlingua.experiments.run import kept
from interlingua.experiments.translation import english_texts
from interlingua.files import atomic_file, write_text
from interlingua.index import Index, build
from interlingua.index.build import POOLING
from interlingua.index.calibration import calibrate
from interlingua.index.mine import CANDIDATES, NEIGHBOURS, Scored, Side, mine, ranked
from interlingua.languages import language_name
from interlingua.models import load_sentence_encoder, load_whisper
from interlingua.resampling import cluster_draws, percentile_interval
from interlingua.results import provenance
from interlingua.retrieval.features import mean_pool_cosine
from interlingua.retrieval.seqsim import pack, seqsim
from interlingua.types import AudioRef, Frames, Matrix, Utterance
from mine_training import METHOD as TRAINED_BY
from mine_training import trained
from stores import encoded, key

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "runs" / "mine"
PAGE = ROOT / "docs" / "mine.md"
DATA = ROOT / "docs" / "data" / "mine.json"
PAIRS = list(itertools.combinations(LANGUAGES, 2))  # scores and margins are the same both ways
DRAWS = 20  # of each pair of languages
RATIOS = (1, 10)  # recordings without a partner to each one with, on each side
WANTED = (0.9, 0.8, 0.7)
CONTEXT = "speech+8"  # of what is decoded: docs/encoding.md
HELD = 36  # meanings of the pairs at SCALE
SCALE = (10, 100)
LISTED = 100  # wrong pairs in the data file
SAME_WORDS = 0.3  # of the English words of two meanings together
SAME_DURATION = 1.1  # ratio

FRAMES = (
    "audio",
    "models",
    *(f"encoding/{name}.py" for name in ("encoder", "whisper", "pipeline", "store")),
)  # their code
CODE = (*FRAMES, "retrieval", "index")  # scores and candidates
TEXTS = (*FRAMES, "translation", "experiments/translation.py", "experiments/retrieval.py")  # the cascade

MEANS = "mean vectors: ratio margin (text mining's scheme)"
DEFAULT, CASCADE = "SeqSim, whitened, position", "English texts"
METHODS = {  # name -> scores, and what pairs are ranked by
    f"{DEFAULT}: CSLS (the default)": (DEFAULT, "csls"),
    f"{DEFAULT}: ratio margin": (DEFAULT, "margin"),
    f"{DEFAULT}: no margin": (DEFAULT, "score"),
    "SeqSim: CSLS": ("SeqSim", "csls"),
    "SeqSim: no margin": ("SeqSim", "score"),
    MEANS: ("mean vectors", "margin"),
    "English texts of Whisper (cascade): CSLS": (CASCADE, "csls"),
    "English texts of Whisper (cascade): ratio margin": (CASCADE, "margin"),
}


def main() -> None:
    """Measure and write the page."""
    if "--as-is" not in sys.argv:
        clock, started = time.monotonic(), datetime.datetime.now(datetime.UTC)
        corpus = Corpus()
        found: dict[str, Any] = {
            "methods": methods(corpus),
            "neighbours": neighbours(corpus),
            "pairs": by_pair(corpus),
            "calibration": calibration(corpus),
            "scale": [row for ratio in SCALE for row in scaled(corpus, ratio)],
            "training": trained(corpus.index.store, corpus.states, OUT),
        }
        found["wrong"] = wrong(corpus, found["methods"][0]["threshold"])
        made = provenance(corpus.index.store.spec.compute, "cpu", time.monotonic() - clock, started)
        found["provenance"] = msgspec.to_builtins(made)
        write_text(DATA, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    write_text(PAGE, page(json.loads(DATA.read_text(encoding="utf-8"))))
    print(f"{PAGE} written")


class Corpus:
    """The prompts in five languages, in one order of meanings, indexed, and all scores between two languages."""

    def __init__(self) -> None:
        frames = encoded(prepare_prompts(), f"pooled-{key(FRAMES)}", pooling=POOLING)
        self.index, _ = build([], OUT / f"prompts-{key(CODE)}.lance", stores=[frames])
        self.sides = {lang: Side(self.index, lang) for lang in LANGUAGES}
        english = self.sides["en"].utterances
        self.meanings = sorted(str(u.meaning) for u in english)
        described = {str(u.meaning): u for u in english}
        self.clusters = np.array([described[m].group for m in self.meanings])
        self.texts = [described[m].text or "" for m in self.meanings]
        self.rows = {}
        for lang, side in self.sides.items():
            of = {str(u.meaning): row for row, u in enumerate(side.utterances)}
            self.rows[lang] = np.array([of[m] for m in self.meanings])

    def seconds(self, language: str, n: int) -> float:
        """Duration of a meaning's recording."""
        start, end = self.sides[language].seconds(int(self.rows[language][n]))
        return end - start

    @cached_property
    def states(self) -> FrameStore:
        """Encoder states of all recordings, to decode."""
        return encoded(prepare_prompts(), f"decoding-{key(FRAMES)}", context=CONTEXT)

    @cached_property
    def english(self) -> EnglishTexts:
        """What the cascade compares: Whisper's English of every recording."""
        path = OUT / f"english-{key(TEXTS)}.jsonl"
        return EnglishTexts(
            english_texts(prepare_prompts(), self.states, load_whisper("base"), path), load_sentence_encoder()
        )

    @cache  # noqa: B019  # one corpus a run
    def scores(self, kind: str, a: str, b: str) -> Matrix:
        """Scores of all recordings of two languages, by meaning."""
        made_of = key((*CODE, *TEXTS), inspect.getsource(Corpus), sorted(self.index.store.hashes().items()))
        path = OUT / f"scores-{made_of}" / f"{kind.replace(', ', '-').replace(' ', '-')}-{a}-{b}.npy"
        if not path.exists():
            sides = [(self.sides[lang], self.rows[lang]) for lang in (a, b)]
            if kind == DEFAULT:
                found = seqsim(*(side.packed(rows, whitened=True) for side, rows in sides))
            elif kind == CASCADE:
                ids = ([side.utterances[r].id for r in rows] for side, rows in sides)
                queries, candidates = ([self.english.texts.get(i) for i in some] for some in ids)
                scored = cascade_scores(queries, candidates, self.english.encoder)
                found = np.nan_to_num(scored, nan=-1)  # over 30 s: no text
            else:
                compare = mean_pool_cosine if kind == "mean vectors" else lambda x, y: seqsim(pack(x), pack(y))
                found = compare(*(side.frames(rows) for side, rows in sides))
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(path) as temporary, temporary.open("wb") as file:
                np.save(file, found)
        matrix: Matrix = np.load(path)
        return matrix


class Named(Side):
    """A side that needs no index: its scores are known."""

    def __init__(self, side: str, meanings: Sequence[int]) -> None:
        audio = AudioRef("")
        self.utterances = [Utterance(id=f"{side}/{m}", audio=audio, language=side) for m in meanings]


@dataclass(frozen=True, eq=False)
class Draw:
    """A collection: meanings of both sides, the first ``n`` of each are the pairs."""

    languages: tuple[str, str]
    a: np.ndarray
    b: np.ndarray
    n: int

    def mined(self, corpus: Corpus, kind: str, neighbours: int = NEIGHBOURS) -> Scored:
        """Its pairs, scored."""
        table = corpus.scores(kind, *self.languages)[np.ix_(self.a, self.b)]
        i, j = np.repeat(np.arange(len(self.a)), len(self.b)), np.tile(np.arange(len(self.b)), len(self.a))
        return ranked(Named("a", self.a.tolist()), Named("b", self.b.tolist()), i, j, table.ravel(), neighbours)


def draws(corpus: Corpus, part: int | None, ratio: int, count: int = DRAWS) -> Iterator[Draw]:
    """Collections of half of the clusters (0 to choose, 1 to test), or of all (None)."""
    names = np.random.default_rng(0).permutation(sorted(set(corpus.clusters)))
    chosen = names if part is None else names[part::2]
    meanings = np.flatnonzero(np.isin(corpus.clusters, chosen))
    n = round(len(meanings) / (1 + 2 * ratio))
    for p, languages in enumerate(PAIRS):
        for d in range(count):
            order = np.random.default_rng((p, d, ratio)).permutation(meanings)
            first = (len(order) - n) // 2
            a, b = order[n : n + first], order[n + first :]
            yield Draw(languages, np.concatenate([order[:n], a]), np.concatenate([order[:n], b]), n)


@dataclass(frozen=True, eq=False)
class Mined:
    """All pairs that are best both ways in some draws: value, right or not, near-duplicates or not, cluster of A's."""

    value: np.ndarray
    right: np.ndarray
    near: np.ndarray
    cluster: np.ndarray
    total: np.ndarray  # pairs there, by cluster


def mined(corpus: Corpus, chosen: Sequence[Draw], method: str, neighbours: int = NEIGHBOURS) -> Mined:
    """What a method mines in some draws."""
    kind, by = METHODS[method]
    names, number = np.unique(corpus.clusters, return_inverse=True)
    parts: list[tuple[np.ndarray, ...]] = []
    total = np.zeros(len(names))
    for draw in chosen:
        scored = draw.mined(corpus, kind, neighbours)
        value = getattr(scored, by)
        best = scored.chosen() if by == "csls" else both_ways(scored, value)
        i, j = draw.a[scored.i[best]], draw.b[scored.j[best]]
        parts.append((value[best], i == j, (i != j) & (number[i] == number[j]), number[i]))
        np.add.at(total, number[draw.a[: draw.n]], 1)
    value, right, near, cluster = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Mined(value, right, near, cluster, total)


def at_threshold(found: Mined, threshold: float) -> dict[str, Any]:
    """Precision, recall, F1 with an interval over clusters, and precision where near-duplicates count as right."""
    above = found.value >= threshold
    size = len(found.total)
    right, near, n = (
        np.bincount(found.cluster[above], weights, size) for weights in (found.right[above], found.near[above], None)
    )

    def figures(weights: np.ndarray) -> list[float]:
        r, all_of, there = float(weights @ right), max(float(weights @ n), 1), float(weights @ found.total)
        return [r / all_of, r / max(there, 1), 2 * r / (all_of + there)]

    one = figures(np.ones(size))
    sampled = np.array([figures(w) for w in cluster_draws(size, 500)])
    return {
        "threshold": float(threshold),
        "precision": one[0],
        "recall": one[1],
        "f1": one[2],
        "ci": percentile_interval(sampled[:, 2]),
        "precision_near": float((right + near).sum() / max(n.sum(), 1)),
    }


def best_threshold(found: Mined) -> float:
    """The threshold of best F1."""
    order = np.argsort(-found.value)
    right = np.cumsum(found.right[order])
    f1 = 2 * right / (np.arange(1, len(order) + 1) + found.total.sum())
    return float(found.value[order[f1.argmax()]])


def average_precision(found: Mined) -> float:
    """Mean precision at each right pair, those that aren't mined at 0."""
    right = found.right[np.argsort(-found.value)]
    return float((np.cumsum(right) / np.arange(1, len(right) + 1))[right].sum() / found.total.sum())


def methods(corpus: Corpus) -> list[dict[str, Any]]:
    """Every method at every ratio, at the threshold of the other half."""
    rows = []
    for ratio in RATIOS:
        dev, test = (list(draws(corpus, part, ratio)) for part in (0, 1))
        for name in METHODS:
            threshold = best_threshold(mined(corpus, dev, name))
            found = mined(corpus, test, name)
            row = {"method": name, "ratio": ratio, "pairs": test[0].n, "ap": average_precision(found)}
            rows.append(row | at_threshold(found, threshold))
            print(rows[-1], flush=True)
    return rows


def neighbours(corpus: Corpus) -> list[dict[str, Any]]:
    """Average precision on the half that chooses, by the number of neighbours."""
    dev = list(draws(corpus, 0, 1))
    name = next(iter(METHODS))
    return [{"k": k, "ap": average_precision(mined(corpus, dev, name, k))} for k in (1, 2, 4, 8, 16)]


def by_pair(corpus: Corpus) -> list[dict[str, Any]]:
    """The default method by pair of languages, at 1:1, and xsim's error both ways on all prompts."""
    name = next(iter(METHODS))
    threshold = best_threshold(mined(corpus, list(draws(corpus, 0, 1)), name))
    rows = []
    for languages in PAIRS:
        test = [d for d in draws(corpus, 1, 1) if d.languages == languages]
        whole = np.arange(len(corpus.meanings))
        scored = Draw(languages, whole, whole, len(whole)).mined(corpus, DEFAULT)
        errors = [float(np.mean((scored.i == scored.j) & (rank > 1)) * len(whole)) for rank in _margin_ranks(scored)]
        rows.append({"languages": languages, "xsim": errors} | at_threshold(mined(corpus, test, name), threshold))
    return rows


def _margin_ranks(scored: Scored) -> Iterator[np.ndarray]:
    """Ranks by ratio margin, as xsim counts, both ways."""
    for side in (scored.i, scored.j):
        order = np.lexsort((-scored.margin, side))
        rank = np.empty(len(side), dtype=np.int64)
        rank[order] = 1 + np.arange(len(side)) % np.bincount(side)[0]
        yield rank


def calibration(corpus: Corpus) -> list[dict[str, Any]]:
    """`--precision` on collections at 1:1: half of the pairs are known; precision of what is then mined."""
    rows: dict[float, list[tuple[float, ...]]] = {wanted: [] for wanted in WANTED}
    missed = Counter[float]()
    for number, draw in enumerate(draws(corpus, None, 1, 5)):
        scored = draw.mined(corpus, DEFAULT)
        order = np.random.default_rng((number, 1)).permutation(draw.n)[: draw.n // 2]
        known = {(f"a/{draw.a[k]}", f"b/{draw.b[k]}"): True for k in order}
        best = scored.chosen()
        right = (scored.i[best] == scored.j[best]) & (scored.i[best] < draw.n)
        ours, theirs = np.isin(scored.i[best], order), np.isin(scored.j[best], order)
        for wanted in WANTED:
            try:
                found = calibrate(scored, known, precision=wanted)
            except UsageError:
                missed[wanted] += 1
                continue
            assert found.chosen is not None
            assert found.test is not None
            n = found.chosen.pairs
            naive = (right & ours)[:n].sum() / max((ours | theirs)[:n].sum(), 1)
            truth = float(right[:n].mean()), float(right[:n].sum() / draw.n)
            rows[wanted].append((n, *truth, found.test.precision or 0.0, float(naive)))
    names = ("pairs", "precision", "recall", "test_precision", "naive")
    return [
        {"wanted": wanted, "collections": len(some), "missed": missed[wanted], "known": draw.n // 2}
        | dict(zip(names, np.mean(some, axis=0).tolist(), strict=True))
        | {"deviation": float(np.std([r[1] for r in some]))}
        for wanted, some in rows.items()
        if some
    ]


def scaled(corpus: Corpus, ratio: int) -> list[dict[str, Any]]:
    """English and French: pairs among ``ratio`` times as many distractors on each side, through two indexes."""
    code = [inspect.getsource(part) for part in (scaled, collected, at_best, multiplied)]
    made_of = key(CODE, corpus.index.store.spec, sorted(corpus.index.store.hashes().items()), HELD, code)
    return kept(OUT / f"scale-{ratio}-{made_of}.json", lambda: _scaled(corpus, ratio, made_of), list[dict[str, Any]])


def _scaled(corpus: Corpus, ratio: int, made_of: str) -> list[dict[str, Any]]:
    names = np.random.default_rng(1).permutation(sorted(set(corpus.clusters)))
    order = np.concatenate([np.flatnonzero(corpus.clusters == name) for name in names])
    held, rest = order[:HELD], order[HELD:]
    a, b = (
        collected(
            corpus, language, held, rest[side::2], HELD * (1 + ratio), OUT / f"{language}-{ratio}-{made_of}.lance"
        )
        for side, language in enumerate(("en", "fr"))
    )
    clock = time.process_time()
    scored = mine(a, b)
    seconds = time.process_time() - clock
    meanings = [np.array([str(u.meaning) for u in side.utterances]) for side in (a, b)]
    there = np.isin(meanings[0], [corpus.meanings[m] for m in held])
    kept_pairs = there[scored.i] & (meanings[0][scored.i] == meanings[1][scored.j])
    whole = {"ratio": ratio, "utterances": [len(a), len(b)], "pairs": HELD}
    first = {"scored": len(scored.i), "kept": int(kept_pairs.sum()) / HELD, "seconds": seconds}
    packed = [pack(side.frames(np.arange(len(side)))) for side in (a, b)]
    plain = np.empty(len(scored.i), dtype=np.float32)  # of the same candidates
    for i in range(len(a)):
        own = slice(*np.searchsorted(scored.i, [i, i + 1]))
        plain[own] = seqsim(packed[0].take(np.array([i])), packed[1].take(scored.j[own]))[0]
    means = mean_pool_cosine(*(side.frames(np.arange(len(side))) for side in (a, b)))
    every = np.divmod(np.arange(means.size), len(b))
    rows = [whole | {"method": next(iter(METHODS))} | first | at_best(scored, scored.csls, meanings)]
    for method, found in (
        ("SeqSim: CSLS", ranked(a, b, scored.i, scored.j, plain, NEIGHBOURS)),
        (MEANS, ranked(a, b, *every, means.ravel().astype(np.float32), NEIGHBOURS)),
    ):
        value = getattr(found, METHODS[method][1])
        rows.append(whole | {"method": method} | at_best(found, value, meanings))
    print(*rows, sep="\n", flush=True)
    return rows


def collected(corpus: Corpus, language: str, held: np.ndarray, apart: np.ndarray, wanted: int, path: Path) -> Side:
    """An index of ``wanted`` utterances: prompts of the meanings ``held`` and ``apart``, and spliced frames."""
    own, store = corpus.sides[language], corpus.index.store
    chosen = [own.utterances[r] for r in corpus.rows[language][np.concatenate([held, apart])]]
    made = FrameStore.open_or_create(path / "frames.lance", store.spec, store.dim)
    if len(made) < wanted:
        frames = store.read([u.id for u in chosen])
        rows = [Frames(f.id, f.values, f.n_speech, f.audio_hash, u) for f, u in zip(frames, chosen, strict=True)][
            :wanted
        ]
        items = [Item(u.id, language, "original", (u.id,), str(u.meaning)) for u in chosen[len(held) :]]
        for item, values in multiplied(items, [f.speech for f in frames[len(held) :]], wanted - len(rows)):
            rows.append(Frames(item.id, values, len(values), item.id, item.utterance))
        for start in range(0, len(rows), 512):
            made.write(rows[start : start + 512])
    index = Index.of(path, made)
    index.refresh()
    return Side(index)


def at_best(scored: Scored, value: np.ndarray, meanings: Sequence[np.ndarray]) -> dict[str, Any]:
    """Precision, recall and F1 of the pairs that are best both ways, at the threshold of best F1."""
    best = both_ways(scored, value)
    best = best[np.argsort(-value[best], kind="stable")]
    right = meanings[0][scored.i[best]] == meanings[1][scored.j[best]]
    found = np.cumsum(right)
    f1 = 2 * found / (np.arange(1, len(best) + 1) + HELD)
    top = int(f1.argmax())
    return {
        "precision": float(found[top] / (top + 1)),
        "recall": float(found[top] / HELD),
        "f1": float(f1[top]),
        "recall_all": float(found[-1] / HELD),
        "ap": float((found / np.arange(1, len(best) + 1))[right].sum() / HELD),
    }


def both_ways(scored: Scored, value: np.ndarray) -> np.ndarray:
    """Pairs whose value is the highest of both utterances."""
    value_a, value_b = (np.full(len(side), -np.inf) for side in (scored.a, scored.b))
    np.maximum.at(value_a, scored.i, value)
    np.maximum.at(value_b, scored.j, value)
    return np.flatnonzero((value == value_a[scored.i]) & (value == value_b[scored.j]))


def wrong(corpus: Corpus, threshold: float) -> dict[str, Any]:
    """The wrong pairs at 1:1, and what may explain each: the first class that fits."""
    seen: Counter[tuple[str, str, int, int]] = Counter()
    for draw in draws(corpus, 1, 1):
        scored = draw.mined(corpus, DEFAULT)
        for p in scored.chosen(threshold=threshold):
            i, j = int(draw.a[scored.i[p]]), int(draw.b[scored.j[p]])
            if i != j:
                seen[(*draw.languages, i, j)] += 1
    listed = [
        {
            "languages": [a, b],
            "a": corpus.texts[i],
            "b": corpus.texts[j],
            "times": times,
            "class": explanation(corpus, a, b, i, j),
        }
        for (a, b, i, j), times in seen.most_common()
    ]
    shares = Counter[str]()
    for one in listed:
        shares[str(one["class"])] += int(str(one["times"]))
    total = sum(shares.values())
    return {"shares": {name: n / total for name, n in shares.most_common()}, "pairs": listed[:LISTED]}


def explanation(corpus: Corpus, a: str, b: str, i: int, j: int) -> str:
    """Why two meanings may be taken for one: the first that fits."""
    if corpus.clusters[i] == corpus.clusters[j]:
        return "near-duplicates"
    words = [{w.strip(".,!?").lower() for w in corpus.texts[n].split()} for n in (i, j)]
    if len(words[0] & words[1]) >= SAME_WORDS * len(words[0] | words[1]):
        return "same words"
    ratio = corpus.seconds(a, i) / corpus.seconds(b, j)
    return "same duration" if 1 / SAME_DURATION <= ratio <= SAME_DURATION else "none of these"


# --- the page ---------------------------------------------------------------------------------------------


def page(found: dict[str, Any]) -> str:
    """docs/mine.md."""
    made = found["provenance"]
    first = found["methods"][0]
    best = max(found["neighbours"], key=lambda r: r["ap"])
    shares = ", ".join(f"{100 * share:.0f}% {name}" for name, share in found["wrong"]["shares"].items())
    examples = "\n".join(
        f"| {'–'.join(w['languages'])} | {w['a']} | {w['b']} | {w['class']} |" for w in found["wrong"]["pairs"][:6]
    )
    return f"""# Mine parallel speech out of two collections

```
interlingua mine english/ french/ --languages en fr --out pairs.parquet
interlingua mine speech.lance --languages en fr --out pairs.tsv --known known.tsv --precision 0.8 --page listen.html
```

A and B are indexes (`interlingua index build`), folders, recordings or manifests; or one index that holds both languages. Each
utterance's candidates come from the index, both ways; SeqSim of the pairs gives margins over the {NEIGHBOURS} nearest neighbours on both sides; what is best
both ways is a pair. No text and no training is needed.

The table (`.parquet`, `.tsv`, `.json`) has both recordings with times, languages and texts where known, `score` (SeqSim), `margin` (ratio),
`csls`, ranks both ways, `one_to_one`, `near_copy` (the same recording twice) and `duration_ratio`. `--manifest pairs.jsonl` writes what
`interlingua finetune` reads: each utterance with the other's text among its translations.

**Choose a threshold** of CSLS with `--threshold`, or name a precision:

- `--known known.tsv` (columns `id_a`, `id_b`): pairs that you know to be right, which both collections hold. Half of them calibrate, half test.
- `--page listen.html`: pairs around the threshold to hear and mark. `--marks marks.tsv` takes what the page saves.
- Neither: all pairs, and `pairs.curve.json` with their number at each threshold.

## How well

Written by `make bench-mine` (`benchmarks/mine.py`), not by hand: {made["started"][:10]}, {made["device"]["name"]}, Whisper-base, frames pooled by 4.

Real prompts, ten pairs of languages, {DRAWS} draws of each: {first["pairs"]} pairs at 1:1, that is with as many recordings of other prompts on each side that have no
partner. Each method's threshold has the best F1 on other prompts. The cascade compares what Whisper translates into English, by all-MiniLM-L6-v2.

{methods_table(found["methods"])}

AP: average precision, which needs no threshold. Brackets: 95% interval, clusters of near-duplicates drawn. "Or near": near-duplicates count as right. With
{best["k"]} neighbours AP on the prompts that choose is highest ({", ".join(f"{r['k']}: {100 * r['ap']:.1f}" for r in found["neighbours"])}).

{pairs_table(found["pairs"])}

At 1:1. Scores are the same both ways, so A and B may be exchanged; xsim's error (top-1 by ratio margin, all {len(set(LANGUAGES))} languages' 215 prompts, each
with its partner) isn't.

**English–French through two indexes**, {HELD} pairs; distractors are other prompts, and beyond these spliced frames:

{scale_table(found["scale"])}

F1 at its best threshold. Kept: pairs among the {CANDIDATES} candidates that the vectors choose each way, which SeqSim also ranks here; mean vectors rank all pairs.
Seconds: of one core, scoring alone.

## What the pairs are worth

{training_text(found["training"])}

{training_table(found["training"])}

BLEU and chrF of the held-out prompts of all folds together; brackets: 95% interval, clusters drawn, of the difference to the gold pairs' models. One seed a training.

## Thresholds and errors

**A wanted precision**, 1:1, half of the pairs known ({found["calibration"][0]["known"]}, of which half calibrate):

{calibration_table(found["calibration"])}

The precision is that of all pairs mined. What is right among pairs of known utterances alone would promise too much: it misses recordings without a partner.

**Wrong pairs** at 1:1: {shares}; the first that fits (English words shared: {100 * SAME_WORDS:.0f}%; durations within {100 * (SAME_DURATION - 1):.0f}%). The most frequent, in English:

| | A | B | |
| --- | --- | --- | --- |
{examples}

The {LISTED} most frequent are in [data/mine.json](data/mine.json).
"""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows])


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def methods_table(rows: Sequence[dict[str, Any]]) -> str:
    """Methods by ratio."""
    lines = [
        [
            f"1:{r['ratio']}",
            r["method"],
            *(_percent(r[name]) for name in ("precision", "precision_near", "recall")),
            f"{_percent(r['f1'])} [{_percent(r['ci'][0])}, {_percent(r['ci'][1])}]",
            _percent(r["ap"]),
        ]
        for r in rows
    ]
    return _table(["", "", "precision", "or near", "recall", "F1", "AP"], lines)


def pairs_table(rows: Sequence[dict[str, Any]]) -> str:
    """Pairs of languages."""
    lines = [
        [
            " – ".join(language_name(code) for code in r["languages"]),
            *(_percent(r[name]) for name in ("precision", "recall", "f1")),
            *(_percent(e) for e in r["xsim"]),
        ]
        for r in rows
    ]
    return _table(["", "precision", "recall", "F1", "xsim error, →", "←"], lines)


def scale_table(rows: Sequence[dict[str, Any]]) -> str:
    """Sizes, and methods at each."""
    lines = [
        [
            f"1:{r['ratio']}",
            f"{r['utterances'][0]:,} × {r['utterances'][1]:,}",
            r["method"],
            *(_percent(r[name]) for name in ("precision", "recall", "f1", "ap")),
            _percent(r["kept"]) if "kept" in r else "",
            f"{r['seconds']:.0f}" if "seconds" in r else "",
        ]
        for r in rows
    ]
    return _table(["", "utterances", "", "precision", "recall", "F1", "AP", "kept", "seconds"], lines)


def training_text(rows: Sequence[dict[str, Any]]) -> str:
    """How the models were trained."""
    return f"""`mine --manifest` without a threshold or any label, then `finetune --method {TRAINED_BY} --target fr` on the English recordings with the transcripts of their French partners;
gold: the same recordings with their own translations; wrong: the mined transcripts dealt out anew. Of each fold (folds: {rows[0]["folds"]}) four fifths of the prompts' clusters are mined and trained on, and the last fifth is tested on."""


def training_table(rows: Sequence[dict[str, Any]]) -> str:
    """Models by what they were trained on."""

    def difference(found: dict[str, Any]) -> str:
        return f"{found['value']:+.1f} [{found['ci'][0]:+.1f}, {found['ci'][1]:+.1f}]"

    lines = []
    for r in rows:
        shares = {"mined": [_percent(r.get("right")), _percent(r.get("near"))], "gold": ["100.0", "100.0"]}
        cells = []
        for metric in ("bleu", "chrf"):
            for sources in ("source", "others"):
                own, to_gold = r[f"{metric}_{sources}"], r[f"{metric}_{sources}_to_gold"]
                cells.append(f"{own['value']:.1f}" + ("" if r["texts"] == "gold" else f" ({difference(to_gold)})"))
        lines.append(
            [
                {"all": "every one has a partner", "": ""}.get(r["collection"], f"at {r['collection']}"),
                r["texts"],
                f"{r['pairs']:.0f}" if "pairs" in r else "",
                *shares.get(r["texts"], ["", ""]),
                *cells,
            ]
        )
    head = [
        "recordings",
        "pairs",
        "n",
        "right",
        "or near",
        "BLEU en→fr",
        "es, it, ru→fr",
        "chrF en→fr",
        "es, it, ru→fr",
    ]
    return _table(head, lines)


def calibration_table(rows: Sequence[dict[str, Any]]) -> str:
    """Wanted precisions."""
    lines = [
        [
            f"{100 * r['wanted']:.0f}",
            f"{_percent(r['precision'])} ± {_percent(r['deviation'])}",
            _percent(r["test_precision"]),
            _percent(r["naive"]),
            _percent(r["recall"]),
            f"{r['missed']} of {r['missed'] + r['collections']}",
        ]
        for r in rows
    ]
    head = ["wanted", "precision ± deviation", "by the test half", "among known pairs alone", "recall", "not reached"]
    return _table(head, lines)


if __name__ == "__main__":
    main()
