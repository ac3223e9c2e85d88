"""What a trained head (`interlingua index train`) is worth on sentences, languages and voices that it never saw.

Writes docs/head.md and docs/data/head.json. Fifths of the clusters of near-duplicate prompts are tested on in turn; heads,
hits and mined pairs are kept in runs/study/head, so that an interrupted run goes on; the page is written after each part.
"""

import argparse
import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from interlingua.corpora import prepare_prompts
from interlingua.corpora.base import read_corpus
from interlingua.encoding import pool_frames
from interlingua.experiments.retrieval import Corpus, Pair, score_pairs
from interlingua.files import write_text
from interlingua.index import Index
from interlingua.index.mine import MinedPair, Side, mine
from interlingua.index.pairs import write_pairs
from interlingua.index.train import SUREST, train
from interlingua.languages import language_name
from interlingua.resampling import percentile_interval
from interlingua.retrieval.evaluate import fold_order
from interlingua.retrieval.features import fit_whitening
from interlingua.retrieval.head import DEFAULT_SETTINGS, Head, train_head
from interlingua.retrieval.methods import DEFAULT_METHOD, METHODS
from interlingua.types import Utterance
from stores import COMPUTE, OUT, encoded, key, subset
from voices import LEAST, SOURCES, Hits, cloned, first_hits, means, other_voices

ROOT = Path(__file__).resolve().parent.parent
PAGE, DATA = ROOT / "docs" / "head.md", ROOT / "docs" / "data" / "head.json"
KEPT = OUT / "head"
CODE = ("retrieval", "experiments/retrieval.py")  # of heads and hits
FOLDS = 5
CHOSEN_ON = 0  # the fold that settings were chosen on
POOL = 4  # an index's
COARSE = 8  # of what is compared, for the time that it takes
LANGUAGES = ("en", "es", "fr", "it", "ru")
PAIRS = list(combinations(LANGUAGES, 2))
SETTINGS = replace(DEFAULT_SETTINGS, pooling=DEFAULT_SETTINGS.pooling * POOL // COARSE)
CURVE = (20, 80)  # sentences trained on
ROUNDS = 2  # of mining and training
SEEN = ("both seen", "one seen", "none seen")  # of a pair's languages by a head
WORST = 6  # ordered pairs of languages that are listed

Groups = dict[str, list[Pair]]
"""Ordered pairs of languages by what a head saw of them: both (seen), one, or none."""


def main() -> None:
    """Measure what isn't kept yet, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in SOURCES:
        parser.add_argument(f"--{name}", type=Path, help="a clone of its repository")
    parser.add_argument("--as-is", action="store_true", help="only write the page, of what is measured already")
    given = vars(parser.parse_args())
    if given["as_is"]:
        write_text(PAGE, page(json.loads(DATA.read_text(encoding="utf-8"))))
        return
    roots = {name: given[name] or cloned(repository) for name, repository in SOURCES.items()}
    measured: dict[str, Any] = {"date": datetime.date.today().isoformat(), "settings": asdict(DEFAULT_SETTINGS)}
    for part in (
        prompts,
        two,
        curve,
        as_indexed,
        lambda: families(roots["gcompris"]),
        lambda: voices(roots["asterisk"]),
        alone,
    ):
        measured |= part()
        write_text(DATA, json.dumps(measured, indent=1, ensure_ascii=False) + "\n")
        write_text(PAGE, page(measured))
        print(f"{PAGE}: {', '.join(measured)}", flush=True)


# ---------------------------------------------------------------- heads


def fold_of(corpus: Corpus) -> dict[str, int]:
    """Each cluster's fold, as `Scorer` deals them."""
    clusters = [c for items in corpus.items.values() for c in items.clusters]
    return {cluster: place % FOLDS for cluster, place in fold_order(clusters).items()}


def heads(corpus: Corpus, languages: Sequence[str], folds: Mapping[str, int], *, most: int | None = None) -> list[Head]:
    """The head of each fold, trained on the other folds' sentences in these languages, on ``most`` of them."""
    return [_head(corpus, languages, folds, fold, most) for fold in range(FOLDS)]


def _head(corpus: Corpus, languages: Sequence[str], folds: Mapping[str, int], fold: int, most: int | None) -> Head:
    ids = {lang: corpus.items[lang].ids for lang in languages}
    name = key(("retrieval/head.py", "retrieval/features.py"), ids, sorted(folds.items()), fold, most, SETTINGS)
    path = KEPT / f"{name}.safetensors"
    if path.exists():
        return Head.load(path, _width(corpus))
    frames, spoken, groups, meanings = [], [], [], []
    for lang in languages:
        items = corpus.items[lang]
        of_others = [n for n, c in enumerate(items.clusters) if folds[c] != fold]
        known = {n: f for n in of_others if (f := corpus.frames[lang][n]) is not None}
        rows, held = list(known), list(known.values())
        whitening = fit_whitening(held)
        frames += [whitening(f) for f in held]
        spoken += [lang] * len(rows)
        groups += [items.clusters[n] for n in rows]
        meanings += [items.meanings[n] for n in rows]
    chosen = sorted(set(meanings))
    if most is not None:
        chosen = [chosen[n] for n in np.random.default_rng(fold).permutation(len(chosen))[:most]]
    members = [[n for n, m in enumerate(meanings) if m == meaning] for meaning in chosen]
    pairs = np.array([pair for some in members for pair in combinations(some, 2)])
    head = train_head(frames, spoken, groups, pairs, SETTINGS)
    head.save(path)
    return head


def _width(corpus: Corpus) -> int:
    return next(int(f.shape[1]) for held in corpus.frames.values() for f in held if f is not None)


def self_trained(corpus: Corpus, folds: Mapping[str, int]) -> tuple[list[list[Head]], list[dict[str, Any]]]:
    """Heads of each round, by fold, and how good the mined pairs were: `mine` and `train` see no meanings."""
    utterances, store = prepare_prompts(), encoded(prepare_prompts(), "prompts-pooled", pooling=POOL)
    rounds: list[list[Head]] = [[] for _ in range(ROUNDS)]
    rows: list[dict[str, Any]] = []
    for fold in range(FOLDS):
        learnt = [u for u in utterances if folds[u.group] != fold]
        meaning = {u.id: u.meaning for u in learnt}
        made_of = key(("retrieval", "index"), sorted(folds.items()), fold, SUREST, ROUNDS, DEFAULT_SETTINGS)
        folder = KEPT / f"self-{made_of}"
        if not (folder / "rows.json").exists():
            bare = [msgspec.structs.replace(u, meaning=None, cluster=None, translations={}) for u in learnt]
            index = Index.of(folder / "index", subset(store, bare, folder / "index" / "frames.lance"))
            index.refresh()
            found = []
            for number in range(ROUNDS + 1):
                everything: list[MinedPair] = []
                chosen: list[MinedPair] = []  # by `train`
                mined = right = 0
                for a, b in PAIRS:
                    pairs = mine(Side(index, a), Side(index, b))
                    table = pairs.table(pairs.chosen())
                    mined += len(table)
                    right += sum(meaning[p.id_a] == meaning[p.id_b] for p in table)
                    everything += table
                    chosen += table[: round(SUREST * len(table))]
                sure = sum(meaning[p.id_a] == meaning[p.id_b] for p in chosen)
                there = len(PAIRS) * len(learnt) / len(LANGUAGES)
                found.append(
                    {"round": number, "fold": fold, "mined": mined, "right": right, "there": there}
                    | {"trained_on": len(chosen), "trained_on_right": sure}
                )
                if number < ROUNDS:
                    write_pairs(folder / f"pairs-{number}.tsv", everything, MinedPair)
                    train([index], folder / f"pairs-{number}.tsv").save(folder / f"{number}.safetensors")
            write_text(folder / "rows.json", json.dumps(found))
        rows += json.loads((folder / "rows.json").read_text(encoding="utf-8"))
        for number in range(ROUNDS):
            rounds[number].append(Head.load(folder / f"{number}.safetensors", _width(corpus)))
    return rounds, rows


# ---------------------------------------------------------------- hits


def hits(corpus: Corpus, method: str, pairs: Sequence[Pair], heads: Sequence[Head] = ()) -> Hits:
    """Both directions of every pair, from the folder or anew."""
    ids = [items.ids for items in corpus.items.values()]
    n = sum(len(f) for held in corpus.frames.values() for f in held if f is not None)
    path = KEPT / f"hits-{key(CODE, method, pairs, ids, n, [head.digest for head in heads], COMPUTE)}.json"
    if not path.exists():
        scored = score_pairs(corpus, METHODS[method], pairs, label=method, compute=COMPUTE, heads=heads)
        rows = [(*pair, one.tolist(), clusters) for pair, (one, clusters) in first_hits(corpus, pairs, scored).items()]
        write_text(path, json.dumps(rows))
    found = json.loads(path.read_text(encoding="utf-8"))
    return {(query, candidate): (np.array(one, float), clusters) for query, candidate, one, clusters in found}


def some_folds(found: Hits, folds: Mapping[str, int], chosen: Sequence[int]) -> Hits:
    """The queries of some folds alone."""
    kept = {}
    for pair, (one, clusters) in found.items():
        here = [n for n, c in enumerate(clusters) if folds[c] in chosen]
        kept[pair] = one[here], [clusters[n] for n in here]
    return kept


def compared(found: Hits, others: Mapping[str, Hits], pairs: Sequence[Pair]) -> dict[str, Any]:
    """Mean R@1 of ordered pairs in percent, and the differences from others, with intervals."""
    value, draws = means(found, pairs)
    row: dict[str, Any] = {"pairs": len(pairs), "r1": round(value, 2)}
    for name, other in others.items():
        reference, reference_draws = means(other, pairs)
        low, high = percentile_interval(draws - reference_draws)
        row[name] = [round(reference, 2), round(value - reference, 2), round(low, 2), round(high, 2)]
    return row


def groups_of(pairs: Sequence[Pair], languages: Sequence[str]) -> Groups:
    """Ordered pairs by how many of their languages a head was trained on."""
    found: Groups = {}
    for pair in pairs:
        found.setdefault(SEEN[2 - len(set(pair) & set(languages))], []).append(pair)
    return found


# ---------------------------------------------------------------- what is measured


def of_prompts(pooling: int) -> Corpus:
    """The prompts' frames, pooled by this."""
    utterances = prepare_prompts()
    return pooled(Corpus.of(utterances, encoded(utterances, "prompts-pooled", pooling=POOL)), pooling)


def pooled(corpus: Corpus, pooling: int = COARSE) -> Corpus:
    """A corpus of frames pooled by `POOL` with frames pooled by this."""
    frames = {
        lang: [None if f is None else pool_frames(f, pooling // POOL) for f in held]
        for lang, held in corpus.frames.items()
    }
    return replace(corpus, frames=frames)


def references(corpus: Corpus, pairs: Sequence[Pair]) -> dict[str, Hits]:
    """Hits of what a head is compared with."""
    found = {name: hits(corpus, name, pairs) for name in ("seqsim", DEFAULT_METHOD)}
    return found | {"untrained": hits(corpus, "head", pairs, [Head.identity(_width(corpus))] * FOLDS)}


def prompts() -> dict[str, Any]:
    """Heads of all languages."""
    corpus = of_prompts(COARSE)
    folds = fold_of(corpus)
    known = references(corpus, PAIRS)
    ordered = list(known["untrained"])
    everything = hits(corpus, "head", PAIRS, heads(corpus, LANGUAGES, folds))
    others = [fold for fold in range(FOLDS) if fold != CHOSEN_ON]
    return {
        "clusters": len(folds),
        "sentences": len(corpus.items["en"]),
        "all": compared(everything, known, ordered),
        "other_folds": compared(
            some_folds(everything, folds, others),
            {name: some_folds(found, folds, others) for name, found in known.items()},
            ordered,
        ),
        "by_pair": {f"{a}-{b}": compared(everything, known, [(a, b)]) for a, b in ordered},
    }


def two() -> dict[str, Any]:
    """Heads of two languages, each two in turn; R@1 by how many of a pair's languages a head was trained on."""
    corpus = of_prompts(COARSE)
    known = references(corpus, PAIRS)
    trained: Hits = {}
    others: dict[str, Hits] = {name: {} for name in known}
    rows: Groups = {}
    for languages in PAIRS:
        found = hits(corpus, "head", PAIRS, heads(corpus, languages, fold_of(corpus)))
        for name, some in groups_of(list(found), languages).items():
            for pair in some:
                label = f"{pair[0]} by {'-'.join(languages)}", pair[1]
                rows.setdefault(name, []).append(label)
                trained[label] = found[pair]
                for method, hit in known.items():
                    others[method][label] = hit[pair]
    unseen = SEEN[-1]
    folds, kept = fold_of(corpus), [fold for fold in range(FOLDS) if fold != CHOSEN_ON]
    elsewhere = [some_folds(found, folds, kept) for found in (trained, *others.values())]
    return {
        "two": {name: compared(trained, others, some) for name, some in rows.items()},
        "two_other_folds": compared(elsewhere[0], dict(zip(others, elsewhere[1:], strict=True)), rows[unseen]),
    }


def as_indexed() -> dict[str, Any]:
    """The same heads on frames as an index has them."""
    corpus, trained = of_prompts(POOL), of_prompts(COARSE)
    known = references(corpus, PAIRS)
    found = hits(corpus, "head", PAIRS, heads(trained, LANGUAGES, fold_of(corpus)))
    return {"as_indexed": compared(found, known, list(found))}


def curve() -> dict[str, Any]:
    """Heads of fewer sentences."""
    corpus = of_prompts(COARSE)
    known = references(corpus, PAIRS)
    rows = []
    for most in CURVE:
        found = hits(corpus, "head", PAIRS, heads(corpus, LANGUAGES, fold_of(corpus), most=most))
        rows.append({"sentences": most, **compared(found, known, list(found))})
    return {"curve": rows}


def alone() -> dict[str, Any]:
    """Heads of mined pairs."""
    corpus = of_prompts(COARSE)
    known = references(corpus, PAIRS)
    rounds, mined = self_trained(corpus, fold_of(corpus))
    found = [hits(corpus, "head", PAIRS, some) for some in rounds]
    return {"self": [compared(one, known, list(one)) for one in found], "mined": mined}


def voices(root: Path) -> dict[str, Any]:
    """Heads of the prompts on the same sentences by other voices; the tested sentences are held out here, too."""
    merged, pairs = other_voices(root)
    merged = pooled(merged)
    folds = fold_of(merged)
    known = references(merged, pairs)
    found = hits(merged, "head", pairs, heads(merged, LANGUAGES, folds))
    same = [p for p in found if p[0].removesuffix("-2") == p[1].removesuffix("-2")]
    rows = {"other voice, same language": same, "other voice, other language": [p for p in found if p not in same]}
    rows["German, never trained on"] = [p for p in found if "de-2" in p]
    return {"voices": {name: compared(found, known, some) for name, some in rows.items()}}


def families(root: Path) -> dict[str, Any]:
    """A head of all prompts on GCompris' instructions: other sentences, voices, and mostly languages."""
    trained = of_prompts(COARSE)
    head = _head(trained, LANGUAGES, fold_of(trained), -1, None)  # nothing is held out
    utterances: list[Utterance] = list(read_corpus("gcompris", root))
    corpus = pooled(Corpus.of(utterances, encoded(utterances, "gcompris", pooling=POOL)))
    pairs = list(combinations(sorted(lang for lang in corpus.items if len(corpus.items[lang]) >= LEAST), 2))
    known = references(corpus, pairs)
    found = hits(corpus, "head", pairs, [head] * FOLDS)
    rows: Groups = {"all": list(found)} | groups_of(list(found), LANGUAGES)
    rows |= {language_name(lang): [p for p in found if lang in p] for lang in sorted({a for a, _ in found})}
    return {"families": {name: compared(found, known, some) for name, some in rows.items()}}


# ---------------------------------------------------------------- the page


def gain(row: Mapping[str, Any], name: str) -> str:
    """A difference with its interval."""
    _, difference, low, high = row[name]
    return f"{difference:+.1f} [{low:+.1f}, {high:+.1f}]"


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Rows of `compared` by their labels."""
    head = (
        "| | pairs | `seqsim` | default | untrained | head | head - default | head - untrained |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- |"
    )
    lines = [
        f"| {label} | {r['pairs']} | {r['seqsim'][0]:.1f} | {r[DEFAULT_METHOD][0]:.1f} | {r['untrained'][0]:.1f} | "
        f"{r['r1']:.1f} | {gain(r, DEFAULT_METHOD)} | {gain(r, 'untrained')} |"
        for label, r in rows.items()
    ]
    return "\n".join([head, *lines])


def page(m: Mapping[str, Any]) -> str:
    """The page, of what is measured so far."""
    parts = (_seen, _two, _curve, _alone, _elsewhere, _worst)
    s, summary, sections = m["settings"], _summary(m), "\n\n".join(text for part in parts if (text := part(m)))
    return f"""# Alignment that is learnt

{summary}

```
interlingua index train speech.lance                     # on its utterances of one `meaning`
interlingua index train speech.lance --pairs pairs.tsv   # on the surer half of what `interlingua mine` wrote, or on your own
interlingua evaluate retrieval manifest.jsonl speech.lance/frames.lance --method head
```

A head is one matrix that follows whitening, the same for every language, learnt on frozen frames. It starts in closed form: directions
in which a frame differs from its best match in a translation count little (the inverse of the covariance of these differences). Up to {s["steps"]}
steps of Adam under SeqSim itself follow, at most {s["passes"]} passes over the pairs: InfoNCE both ways over {s["batch"]} pairs of two languages at a time, near-duplicates no negatives,
temperature {s["temperature"]}, frames pooled by {s["pooling"]} more, {100 * s["drop"]:.0f}% of them dropped, kept near the start. It lies beside the frames
(`frames.head.safetensors`, with its settings and hashes of the sentences it has seen); `search` and `mine` then use it, several indexes
share one (`index train A B`). To undo it, delete the file and build the index again.

{sections}

Everything measured: [data/head.json](data/head.json).
"""


def _summary(m: Mapping[str, Any]) -> str:
    row = m["all"]
    text = (
        f"{row['r1']:.0f}% of translations are found first by a head of five languages, {row[DEFAULT_METHOD][0]:.0f}% by the default "
        f"method: {gain(row, DEFAULT_METHOD)} points, on sentences that no training saw. The aim was 65%: "
        f"not reached on about {round(m['sentences'] * (1 - 1 / FOLDS))} sentences a language, in one voice each."
    )
    if "two" in m:
        gains = ", ".join(f"{gain(m['two'][name], DEFAULT_METHOD)} on pairs with {name}" for name in SEEN)
        text += f" Heads of two languages alone gain {gains}; the aim was an interval above 0 where none is seen."
    if "self" in m:
        text += f" Without labels, on pairs that were mined, the gain is {gain(m['self'][0], DEFAULT_METHOD)}."
    return text


def _seen(m: Mapping[str, Any]) -> str:
    rows = {f"all five languages, frames pooled by {COARSE}": m["all"]}
    rows["the same, without the fold that settings were chosen on"] = m["other_folds"]
    if "as_indexed" in m:
        rows[f"all five languages, frames pooled by {POOL}, as in an index"] = m["as_indexed"]
    return f"""## On sentences it never saw

Written by `make bench-head` (`benchmarks/head.py`), not by hand: {m["date"]}. Whisper-base, {m["sentences"]} prompts in {m["clusters"]} clusters of
near-duplicates, one voice a language. R@1 in per cent, means over ordered pairs of languages; the whole gallery is searched. Fifths of
the clusters are tested on in turn, the head trained on the others; intervals: 95%, bootstrap over clusters, paired. "default" is
`{DEFAULT_METHOD}`, which estimates on a third of the prompts for each language; "untrained" the same with estimates on all
that a head is trained on, but no head. The settings come from trials on the first fold. Frames are pooled by {COARSE} for the time that it
takes, where nothing else is said.

{table(rows)}"""


def _two(m: Mapping[str, Any]) -> str:
    if "two" not in m:
        return ""
    rows = {name: m["two"][name] for name in SEEN}
    rows[f"{SEEN[-1]}, without the fold that settings were chosen on"] = m["two_other_folds"]
    return f"""## Trained on two languages, tested on others

Ten heads, of each two of the five languages; the means are over all of them.

{table(rows)}"""


def _curve(m: Mapping[str, Any]) -> str:
    if "curve" not in m:
        return ""
    rows = {f"{row['sentences']} sentences": row for row in m["curve"]}
    rows[f"all, about {round(m['sentences'] * (1 - 1 / FOLDS))}"] = m["all"]
    return f"## How many sentences\n\n{table(rows)}"


def _alone(m: Mapping[str, Any]) -> str:
    if "self" not in m:
        return ""
    names = ("mined", "right", "there", "trained_on", "trained_on_right")
    lines = []
    for number in range(ROUNDS + 1):
        r = {k: sum(row[k] for row in m["mined"] if row["round"] == number) for k in names}
        lines.append(
            f"| {f'after training {number}' if number else 'by the default method'} | {100 * r['right'] / r['mined']:.1f} | "
            f"{100 * r['right'] / r['there']:.1f} | {100 * r['trained_on_right'] / r['trained_on']:.1f} |"
        )
    mined = "\n".join(lines)
    return f"""## Without labels

Training utterances are mined in all ten pairs of languages, without meanings; the surer half of the pairs trains a head; they are
mined again, {ROUNDS} times.

{table({f"training {n}": row for n, row in enumerate(m["self"], 1)})}

| mined | right, % | of all pairs that are there, % | right among the surer half, % |
| --- | --- | --- | --- |
{mined}"""


def _elsewhere(m: Mapping[str, Any]) -> str:
    texts = []
    if "families" in m:
        texts.append(
            "A head of all prompts on GCompris' instructions ([voices.md](voices.md)): other sentences, voices and mostly "
            f"languages.\n\n{table(m['families'])}"
        )
    if "voices" in m:
        texts.append(
            "Heads of the prompts on the same sentences by others (German, Spanish, French, 8 kHz), each tested sentence held "
            f"out:\n\n{table(m['voices'])}"
        )
    return "\n\n".join(["## Other voices, other languages", *texts]) if texts else ""


def _worst(m: Mapping[str, Any]) -> str:
    rows = sorted(m["by_pair"].items(), key=lambda row: row[1]["untrained"][1])[:WORST]
    return f"## Where it helps least\n\n{table(dict(rows))}"


if __name__ == "__main__":
    main()
