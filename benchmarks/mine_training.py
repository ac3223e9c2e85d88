"""What mining costs in translation: English-French pairs are mined, and the decoder is fine-tuned on them.

Fifths of the clusters of near-duplicates are tested on in turn. Of the other four fifths two collections are made,
English and French, without meanings, clusters or translations; `mine` and its manifest for `finetune` see no more. The
same English recordings are then trained on with the mined partner's transcript, with their own translation (gold), and
with the mined transcripts dealt out anew (wrong): as many pairs and as many steps, from the same seed.
"""

import inspect
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from interlingua.corpora import prepare_prompts, read_manifest, split_by_cluster, write_manifest
from interlingua.encoding.store import FrameStore
from interlingua.experiments.finetune import kept_outputs, plain, run_finetune
from interlingua.finetuning.config import FinetuneConfig
from interlingua.finetuning.evaluate import Outputs, new_tasks, parts_of, system_outputs
from interlingua.index import Index
from interlingua.index.mine import Side, mine, write_mined_manifest
from interlingua.metrics import TextMetric, pooled_difference, pooled_score, translation_statistics
from interlingua.models import load_whisper
from interlingua.types import Utterance
from stores import key, subset

MINING = ("encoding/store.py", "retrieval", "index")  # the code that a manifest is made by
TRAINING = ("encoding/store.py", "models", "translation", "finetuning", "experiments/finetune.py")  # a model's outputs
SOURCE, TARGET = "en", "fr"
OTHERS = ("es", "it", "ru")  # never trained on
METHOD = "plain"  # of `finetune`: 85 steps of 8
TESTED = (0,)  # folds: of all five, 30 trainings
COLLECTIONS = {"all": 0, "1:1": 1}  # name -> recordings without a partner to each one with, on each side
TEXTS = ("mined", "gold", "wrong")
METRICS: tuple[TextMetric, ...] = ("bleu", "chrf")


@dataclass(frozen=True, eq=False)
class Tested:
    """A fold: its test utterances; what was mined, and the models' outputs, by collection and texts."""

    test: list[Utterance]
    pairs: dict[str, dict[str, float]]
    after: dict[tuple[str, str], Outputs]


def trained(frames: FrameStore, states: FrameStore, out: Path) -> list[dict[str, Any]]:
    """A row for each collection and each kind of texts, and one for the model before training.

    ``frames``: of all prompts, as an index has them; ``states``: to decode.
    """
    folds = [tested(fold, frames, states, out) for fold in TESTED]
    test = [u for fold in folds for u in fold.test]
    before = outputs("base", test, states, out / f"before-{key(TRAINING, _held(states))}.jsonl")

    def joined(name: str, texts: str) -> Outputs:
        return {task: {i: t for f in folds for i, t in f.after[name, texts][task].items()} for task in before}

    untrained = {"collection": "", "texts": "untrained", "folds": len(folds)}
    rows = [scored(before, joined("all", "gold"), test) | untrained]
    for name, texts in folds[0].after:
        mean = {figure: float(np.mean([f.pairs[name][figure] for f in folds])) for figure in folds[0].pairs[name]}
        rows.append(scored(joined(name, texts), joined(name, "gold"), test) | mean)
        rows[-1] |= {"collection": name, "texts": texts}
    return rows


def tested(fold: int, frames: FrameStore, states: FrameStore, out: Path) -> Tested:
    """Mine four fifths of the clusters, train on each kind of texts, translate the last fifth."""
    described = {u.id: u for u in split_by_cluster(prepare_prompts(), fold)}
    learnt = [u for u in described.values() if u.split != "test"]
    found = Tested([u for u in described.values() if u.split == "test" and u.language in (SOURCE, *OTHERS)], {}, {})
    for name, ratio in COLLECTIONS.items():
        there, sides = collections(learnt, ratio, fold)
        made_of = key(MINING, _held(frames), sides, inspect.getsource(mined))
        folder = out / f"{name.replace(':', '-')}-{fold}-{made_of}"
        lines = read_manifest(mined(frames, sides, folder))
        found.pairs[name] = judged(lines, described, there)
        print(fold, name, found.pairs[name], flush=True)
        for texts in TEXTS:
            manifest = write_texts(texts, lines, described, folder / f"train-{texts}.jsonl", fold)
            found.after[name, texts] = model_outputs(manifest, found.test, states, out)
    return found


def _held(store: FrameStore) -> Any:
    """What a store's frames follow from."""
    return store.spec, sorted(store.hashes().items())


def collections(utterances: Sequence[Utterance], ratio: int, fold: int) -> tuple[set[str], list[list[Utterance]]]:
    """Meanings that both sides have, and the sides: recordings with transcripts, and nothing that says what means the same."""
    meanings = sorted({str(u.meaning) for u in utterances if u.language == TARGET and u.text})
    order = [meanings[i] for i in np.random.default_rng((fold, ratio)).permutation(len(meanings))]
    n = round(len(order) / (1 + 2 * ratio))
    first = (len(order) - n) // 2 if ratio else 0
    held = [{*order[:n], *order[n : n + first]}, {*order[:n], *order[n + first :]}]
    bare: dict[str, Any] = {"meaning": None, "cluster": None, "translations": {}, "split": None}
    return set(order[:n]), [
        [msgspec.structs.replace(u, **bare) for u in utterances if u.language == language and u.meaning in some]
        for language, some in zip((SOURCE, TARGET), held, strict=True)
    ]


def mined(frames: FrameStore, sides: Sequence[Sequence[Utterance]], folder: Path) -> Path:
    """`interlingua mine EN FR --manifest mined.jsonl`, on frames that are there already."""
    path = folder / "mined.jsonl"
    if not path.exists():
        stores = [subset(frames, side, folder / side[0].language / "frames.lance") for side in sides]
        indexes = [Index.of(folder / side[0].language, store) for side, store in zip(sides, stores, strict=True)]
        for index in indexes:
            index.refresh()
        found = mine(*(Side(index) for index in indexes))
        write_mined_manifest(path, found, found.table(found.chosen()))
    return path


def judged(lines: Sequence[Utterance], described: Mapping[str, Utterance], there: set[str]) -> dict[str, float]:
    """How many pairs a manifest has, and which part of them is right, or nearly."""
    of: dict[str, list[Utterance]] = {}
    for u in lines:
        of.setdefault(str(u.meaning), []).append(described[u.id])
    right = [a.meaning == b.meaning for a, b in of.values()]
    near = [a.cluster == b.cluster for a, b in of.values()]
    return {"pairs": len(of), "there": len(there), "right": float(np.mean(right)), "near": float(np.mean(near))}


def write_texts(
    texts: str, lines: Sequence[Utterance], described: Mapping[str, Utterance], path: Path, fold: int
) -> Path:
    """The English recordings that were mined, with French texts of one kind."""
    spoken = [u for u in lines if u.language == SOURCE]
    given = [u.translations[TARGET] for u in spoken]
    if texts == "gold":
        given = [described[u.id].translations[TARGET] for u in spoken]
    elif texts == "wrong":
        given = dealt(given, np.random.default_rng((fold, 1)))
    pairs = zip(spoken, given, strict=True)
    write_manifest(path, [msgspec.structs.replace(u, translations={TARGET: text}) for u, text in pairs])
    return path


def dealt(texts: Sequence[str], random: np.random.Generator) -> list[str]:
    """The texts in another order, in which none stands where it stood."""
    order = random.permutation(len(texts))
    follows = dict(zip(order.tolist(), np.roll(order, -1).tolist(), strict=True))
    return [texts[follows[i]] for i in range(len(texts))]


def model_outputs(manifest: Path, test: Sequence[Utterance], states: FrameStore, out: Path) -> Outputs:
    """`interlingua finetune MANIFEST --target fr`, and what the model makes of the test utterances."""
    config = FinetuneConfig(
        str(manifest), target=TARGET, source=(SOURCE,), method=METHOD, store=(states.path,), out=out
    )
    settings = {k: v for k, v in plain(config).items() if k not in ("data", "out", "store")}
    lines = [(u.id, u.translations) for u in read_manifest(manifest)]
    made = key(TRAINING, _held(states), lines, settings, [u.id for u in test])
    path, run = out / f"trained-{made}.jsonl", out / f"trained-{made}"
    if not path.exists():
        run_finetune(replace(config, out=run))
        outputs(str(run / "model"), test, states, run / "outputs.jsonl")
        (run / "outputs.jsonl").replace(path)
        shutil.rmtree(run)  # half a gigabyte
    return outputs(str(run / "model"), test, states, path)


def outputs(model: str, utterances: Sequence[Utterance], states: FrameStore, path: Path) -> Outputs:
    """French texts from every source, kept in the file."""
    whisper = load_whisper("base", weights=False)  # whose prompts the fine-tuned one has
    tasks = new_tasks(whisper, (SOURCE, *OTHERS), TARGET, "target-transcribe")
    path.parent.mkdir(parents=True, exist_ok=True)
    return kept_outputs(path, lambda: load_whisper(model), tasks, utterances, states, path.stem)


def scored(found: Outputs, gold: Outputs, utterances: Sequence[Utterance]) -> dict[str, Any]:
    """BLEU and chrF of the test utterances of all folds together, and the difference to the models of gold pairs."""
    row: dict[str, Any] = {}
    for metric in METRICS:
        for name, sources in (("source", (SOURCE,)), ("others", OTHERS)):
            tasks = [t for t in found if parts_of(t)[1] in sources]
            ours, theirs = (
                [translation_statistics(system_outputs(t, side, utterances), metric) for t in tasks]
                for side in (found, gold)
            )
            row[f"{metric}_{name}"] = msgspec.to_builtins(pooled_score(ours))
            row[f"{metric}_{name}_to_gold"] = msgspec.to_builtins(pooled_difference(ours, theirs))
    return row
