"""What improves SeqSim: every retrieval method on all 20 pairs, and what pooling, layers, silence and amount are worth.

Measures step by step; each step's hits are kept in runs/study/, so that an interrupted run goes on where it was (delete
the folder to measure again). Writes docs/seqsim.md and its pictures. Needs about an hour on two cores, most of it encoding.
"""

import datetime
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

import seqsim_page
from interlingua.audio import load_audio
from interlingua.corpora import prepare_prompts
from interlingua.encoding import WhisperEncoder, pool_frames
from interlingua.experiments.retrieval import Corpus, EnglishTexts, concatenate_layers, loud_frames, score_pairs
from interlingua.experiments.translation import english_texts
from interlingua.files import write_text
from interlingua.models import load_sentence_encoder, load_whisper
from interlingua.results import provenance
from interlingua.retrieval.evaluate import FOLDS, evaluate_scores, fold_order
from interlingua.retrieval.methods import DEFAULT_METHOD, METHODS, Method
from interlingua.retrieval.seqsim import unit_rows
from interlingua.translation import translate_frames
from interlingua.types import FrameArray, Frames, Utterance
from soundalikes import control_rows, soundalike_share
from stores import COMPUTE, OUT, encoded

PAGE = Path(__file__).resolve().parent.parent / "docs" / "seqsim.md"
PAIRS = [(a, b) for i, a in enumerate(("en", "es", "fr", "it", "ru")) for b in ("en", "es", "fr", "it", "ru")[i + 1 :]]
SWEPT = [pair for pair in PAIRS if "en" in pair]  # of the sweeps
POOL = 4  # of all tables but that of pooling: SeqSim costs a sixteenth
POOLINGS = (1, 2, 4, 8, 16)
AMOUNTS = (5, 10, 20, 40)  # utterances a language
CONTEXT = "speech+8"  # of the cascade: docs/encoding.md
TIMED = 24  # utterances whose encoding and translation are timed
QUIET_DB = 40  # below the loudest frame: silence
GRID_POOL = 8  # of the settings that are chosen by the data
GRID = {"seqsim": METHODS["seqsim"]} | {
    f"shrinkage {s}, {reduction}, k {k}": replace(
        METHODS[DEFAULT_METHOD], shrinkage=s, reduction=reduction, neighbours=k
    )
    for s, reduction, k in (
        (0.03, "f1", 5),
        (0.1, "f1", 5),
        (0.3, "f1", 5),
        (0.1, "f1", 10),
        (0.1, "mean", 5),
        (0.3, "mean", 5),
    )
}
SWEPT_METHODS = ("seqsim", DEFAULT_METHOD)
SOUNDALIKE_METHODS = ("seqsim", DEFAULT_METHOD, "cascade")


@dataclass(frozen=True)
class Study:
    """The corpus with unpooled frames, and its utterances."""

    utterances: Sequence[Utterance]
    corpus: Corpus

    def pooled(self, pooling: int) -> Corpus:
        """The corpus with frames averaged."""
        return self.mapped(lambda _, frames: pool_frames(frames, pooling))

    def mapped(self, change: Callable[[str, FrameArray], FrameArray]) -> Corpus:
        """The corpus with the frames of each utterance changed; ``change`` gets its id, too."""
        frames = {
            lang: [None if f is None else change(i, f) for i, f in zip(self.corpus.items[lang].ids, side, strict=True)]
            for lang, side in self.corpus.frames.items()
        }
        return replace(self.corpus, frames=frames)


def main() -> None:
    """Measure what isn't measured yet, and write the page."""
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    utterances = prepare_prompts()
    store = encoded(utterances, "frames")
    study = Study(utterances, Corpus.of(utterances, store))
    english = cascade_texts(utterances)
    pooled = study.pooled(POOL)
    first, *others = pooled.items.values()
    assert all(
        (x.meanings, x.clusters) == (first.meanings, first.clusters) for x in others
    )  # queries are joined by position
    found: dict[str, Any] = {"methods": {}}
    for method in METHODS:
        alike = study.utterances if method in SOUNDALIKE_METHODS else None
        found["methods"][method] = measured(
            f"method-{method}", lambda: pooled, METHODS[method], pairs=PAIRS, texts=english, soundalikes=alike
        )
    coarse = study.pooled(GRID_POOL)
    found["grid"] = {
        name: measured(f"grid-{name}", lambda: coarse, method, pairs=PAIRS) for name, method in GRID.items()
    }
    found["pooling"] = swept("pooling", {str(p): partial(study.pooled, p) for p in POOLINGS})
    found["fewer"] = swept("fewer", {name: partial(study.mapped, partial(few, how)) for name, how in FEWER.items()})
    found["silence"] = swept("silence", {"loud": lambda: without_silence(study)})
    found["amount"] = {
        n: measured(f"amount-{n}", lambda: pooled, METHODS[DEFAULT_METHOD], background=n) for n in AMOUNTS
    }
    layers = layer_corpora(utterances, pooled)
    found["layers"] = swept("layer", {name: partial(replace, corpus) for name, corpus in layers.items()})
    seconds = {lang: float(np.mean([s for s in side if s])) for lang, side in study.corpus.seconds.items()}
    found |= {
        "clusters": list(pooled.items["en"].clusters),
        "seconds": seconds,
        "too_long": len(utterances) - len(english.texts),
        "background": backgrounds(study.corpus),
        "nested": nested(found["methods"], pooled),
        "nested_settings": nested(found["grid"], pooled),
    }
    made = msgspec.to_builtins(provenance(COMPUTE, "cpu", time.monotonic() - clock, started))
    found |= {"provenance": made, "costs": costs(utterances)}
    write_text(OUT / "results.json", json.dumps(found))
    seqsim_page.write(found, PAGE)
    print(f"{PAGE} written")


def swept(table: str, variants: dict[str, Callable[[], Corpus]]) -> dict[str, Any]:
    """The paper's method and the default on each variant of the frames."""
    rows = {}
    for name, make in variants.items():
        corpus = cache(make)
        for method in SWEPT_METHODS:
            rows[f"{method}|{name}"] = measured(f"{table}-{name}-{method}", corpus, METHODS[method])
    return rows


def measured(
    key: str,
    make: Callable[[], Corpus],
    method: Method,
    *,
    texts: EnglishTexts | None = None,
    background: int | None = None,
    pairs: Sequence[tuple[str, str]] = SWEPT,
    soundalikes: Sequence[Utterance] | None = None,
) -> dict[str, Any]:
    """Hits of every query of all pairs under a recipe: ``{"hits": {"en-fr": [0, 1, …]}, …}``, from the folder or anew."""
    path = OUT / f"{key}.json"
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["recipe"] == vars(method) and (kept["soundalikes"] or not soundalikes):
            return dict(kept)
    corpus = make()
    start = time.perf_counter()
    directions = score_pairs(corpus, method, pairs, label=key, compute=COMPUTE, texts=texts, background=background)
    seconds = time.perf_counter() - start
    hits, alike = {}, {}
    text = {u.id: u.text or "" for u in soundalikes or ()}
    for (a, b), (forward, backward) in zip(pairs, directions, strict=True):
        for query, candidate, scores in ((a, b, forward), (b, a, backward)):
            sides = corpus.items[query], corpus.items[candidate]
            hits[f"{query}-{candidate}"] = (evaluate_scores(scores, *sides).ranks <= 1).astype(int).tolist()
            if soundalikes:
                answer = dict(zip(sides[1].meanings, sides[1].ids, strict=True))
                shares = [
                    soundalike_share(text[i], text[answer[m]])
                    for i, m in zip(sides[0].ids, sides[0].meanings, strict=True)
                ]
                alike[f"{query}-{candidate}"] = control_rows(scores, *sides, shares)
    result = {"recipe": vars(method), "hits": hits, "seconds": seconds, "soundalikes": alike}
    write_text(path, json.dumps(result))
    return result


def backgrounds(corpus: Corpus) -> list[int]:
    """How many utterances of a language each fold has to estimate on."""
    position = fold_order(list(corpus.items["en"].clusters))
    return np.bincount([position[c] % FOLDS for c in corpus.items["en"].clusters]).tolist()


def nested(methods: dict[str, Any], corpus: Corpus) -> dict[str, Any]:
    """What is chosen for each fold by the queries outside it, and the hits that the choices make inside."""
    clusters = np.asarray(corpus.items["en"].clusters)
    position = fold_order(list(clusters))
    fold = np.array([position[c] % FOLDS for c in clusters])
    hits = {m: np.array(list(r["hits"].values())) for m, r in methods.items() if m != "cascade"}
    chosen = [max(hits, key=lambda m, f=f: hits[m][:, fold != f].mean()) for f in range(FOLDS)]
    combined = np.stack([hits[chosen[f]][:, i] for i, f in enumerate(fold)], axis=1)
    return {"chosen": chosen, "hits": dict(zip(methods["seqsim"]["hits"], combined.tolist(), strict=True))}


def cascade_texts(utterances: Sequence[Utterance]) -> EnglishTexts:
    """Whisper's English translation of every utterance."""
    store = encoded(utterances, "decoding", context=CONTEXT)
    texts = english_texts(utterances, store, load_whisper("base"), OUT / "english.jsonl")
    return EnglishTexts(texts, load_sentence_encoder())


def costs(utterances: Sequence[Utterance]) -> dict[str, float]:
    """Seconds an utterance of what the methods need beforehand."""
    path = OUT / "costs.json"
    if not path.exists():
        some = [u for u in utterances if u.language != "en"][:: len(utterances) // TIMED][:TIMED]
        audio = [load_audio(u.audio) for u in some]
        fast, exact = load_whisper("base", dtype=COMPUTE), load_whisper("base")
        padded = WhisperEncoder(fast, context=CONTEXT).encode(audio)
        frames = [Frames(u.id, v.astype(np.float16), n) for u, (v, n) in zip(some, padded, strict=True)]
        found = {}
        for name, work in {
            "encoding": lambda: WhisperEncoder(fast).encode(audio),
            f"encoding, {CONTEXT}": lambda: WhisperEncoder(fast, context=CONTEXT).encode(audio),
            "translating": lambda: [
                [*translate_frames(exact, [f], u.language)] for f, u in zip(frames, some, strict=True)
            ],
        }.items():
            start = time.perf_counter()
            work()
            found[name] = (time.perf_counter() - start) / len(some)
        write_text(path, json.dumps(found))
    return dict(json.loads(path.read_text(encoding="utf-8")))


def layer_corpora(utterances: Sequence[Utterance], last: Corpus) -> dict[str, Corpus]:
    """The layers, the last one's before its layer norm, and mixes of neighbouring layers."""
    whisper = load_whisper("base")
    norm = whisper.model.model.encoder.layer_norm
    scale, shift = norm.weight.detach().numpy(), norm.bias.detach().numpy()
    n = whisper.n_layers
    corpora = {}
    for layer in range(1, n):
        store = encoded(utterances, f"layer-{layer}", pooling=POOL, layer=layer)
        corpora[str(layer)] = Corpus.of(utterances, store)
    corpora[str(n)] = last
    corpora[f"{n} before the layer norm's scale"] = combined([last], lambda f: unit_rows((f - shift) / scale))
    corpora[f"{n - 1} and {n}"] = concatenate_layers([corpora[str(n - 1)], last])
    return corpora


def combined(corpora: Sequence[Corpus], change: Callable[..., FrameArray]) -> Corpus:
    """A corpus whose frames are made of those of several."""
    frames = {
        lang: [
            change(*(f.astype(np.float32) for f in same))
            for same in zip(*(c.frames[lang] for c in corpora), strict=True)
        ]
        for lang in corpora[0].frames
    }
    return replace(corpora[0], frames=frames)


def merged_neighbours(frames: FrameArray, factor: int) -> FrameArray:
    """The most alike neighbours are averaged, again and again, until 1/factor of the frames is left."""
    rows = list(frames.astype(np.float32))
    sizes = [1] * len(rows)
    while len(rows) > max(1, -(-len(frames) // factor)):
        stacked = unit_rows(np.stack(rows))
        i = int(np.argmax((stacked[:-1] * stacked[1:]).sum(axis=1)))
        total = sizes[i] + sizes[i + 1]
        rows[i] = (sizes[i] * rows[i] + sizes[i + 1] * rows[i + 1]) / total
        sizes[i] = total
        del rows[i + 1], sizes[i + 1]
    return np.stack(rows)


FEWER: dict[str, Callable[[FrameArray, int], FrameArray]] = {
    "mean of 4": pool_frames,
    "every 4th": lambda frames, factor: frames[factor // 2 :: factor] if len(frames) > factor else frames[:1],
    "alike neighbours merged": merged_neighbours,
}


def few(how: Callable[[FrameArray, int], FrameArray], _: str, frames: FrameArray) -> FrameArray:
    """As few frames as pooling by `POOL` leaves, in one of the ways of `FEWER`."""
    return how(frames, POOL)


def without_silence(study: Study) -> Corpus:
    """Frames within `QUIET_DB` of the utterance's loudest, then pooled."""
    loud = {u.id: loud_frames(load_audio(u.audio), QUIET_DB, 50.0) for u in study.utterances}
    return study.mapped(lambda i, f: pool_frames(f[loud[i][: len(f)]], POOL))


if __name__ == "__main__":
    main()
