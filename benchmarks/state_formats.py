"""Does it matter to fine-tuning whether encoder states are stored as float16 or as int8? Writes docs/state-formats.md.

Six trainings, three of each format (half an hour on two cores, 5 GB in runs/state-formats); interrupted, it goes on where it was.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from interlingua.corpora import prepare_prompts, split_by_cluster, write_manifest
from interlingua.encoding import WhisperEncoder, best_compute, encode_manifest
from interlingua.encoding.store import FrameStore
from interlingua.experiments.finetune import run_finetune
from interlingua.experiments.transfer import CONTEXT
from interlingua.files import write_text
from interlingua.finetuning.config import FinetuneConfig
from interlingua.finetuning.evaluate import Outputs, by_task, system_outputs, text_statistics
from interlingua.metrics import pooled_difference, pooled_score
from interlingua.models import load_whisper
from interlingua.results import Provenance, load_results
from interlingua.types import Difference, Score, StoreDtype, Utterance

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "state-formats.md"
OUT = ROOT / "runs" / "state-formats"
SOURCE, TARGET, FOLD = "en", "es", 0
EPOCHS, LEARNING_RATE = 5, 1e-4  # as in recipes/transfer-prompts.yaml
SEEDS = (0, 1, 2)
REFERENCE: StoreDtype = "float16"
SMALL: StoreDtype = "int8"

BySeed = Mapping[int, Outputs]
"""Seed of the training -> the model's outputs on test."""


def main() -> None:
    """Encode, train and measure what isn't there yet, and write the page."""
    utterances = split_by_cluster(prepare_prompts(), FOLD)
    manifest = OUT / "prompts.jsonl"
    write_manifest(manifest, utterances)
    encoder = WhisperEncoder(load_whisper("base", dtype=best_compute()), context=CONTEXT)
    stores = {
        dtype: encode_manifest(utterances, encoder, OUT / f"{dtype}.lance", dtype=dtype, label=dtype)[0]
        for dtype in (REFERENCE, SMALL)
    }
    folders = {(dtype, seed): trained(manifest, store, seed) for seed in SEEDS for dtype, store in stores.items()}
    before, after = (
        {dtype: {s: outputs_of(folders[dtype, s] / f"{side}.jsonl") for s in SEEDS} for dtype in stores}
        for side in ("before", "after")
    )
    made = load_results(folders[SMALL, SEEDS[-1]])[0].provenance
    write_text(PAGE, page(before, after, stores, utterances, made))
    print(f"{PAGE} written")


def trained(manifest: Path, store: FrameStore, seed: int) -> Path:
    """The result folder of one training on the states of a store."""
    return run_finetune(
        FinetuneConfig(
            manifest=manifest,
            target=TARGET,
            out=OUT / f"{store.spec.dtype}-{seed}",
            store=(store.path,),
            source=(SOURCE,),
            epochs=EPOCHS,
            learning_rate=LEARNING_RATE,
            seed=seed,
        )
    )


def outputs_of(path: Path) -> Outputs:
    """A model's outputs on test, of a result folder."""
    values = {line["id"]: line["value"] for line in map(json.loads, path.read_text(encoding="utf-8").splitlines())}
    return by_task({key for texts in values.values() for key in texts}, values)


def relative_error(reference: FrameStore, other: FrameStore) -> float:
    """Mean over all frames of ||reference - other|| / ||reference||, per cent."""
    errors = []
    for frames in reference:
        values = frames.values.astype(np.float32)
        change = values - other.read([frames.id])[0].values
        errors.append(np.linalg.norm(change, axis=1) / np.linalg.norm(values, axis=1))
    return 100 * float(np.concatenate(errors).mean())


def megabytes(store: FrameStore) -> float:
    """What a store takes on disk."""
    return sum(f.stat().st_size for f in Path(store.path).rglob("*") if f.is_file()) / 1e6


# ---------------------------------------------------------------- the page


def page(
    before: Mapping[StoreDtype, BySeed],
    after: Mapping[StoreDtype, BySeed],
    stores: Mapping[StoreDtype, FrameStore],
    utterances: Sequence[Utterance],
    made: Provenance,
) -> str:
    """docs/state-formats.md."""
    test = [u for u in utterances if u.split == "test"]
    tested = sorted({u.language for u in test})
    new, old = ([f"{kind} {s}-{to}" for s in tested if s != to] for kind, to in (("new", TARGET), ("translate", "en")))
    rows = [
        *(row(name(k), [k], after, test, SEEDS) for k in new),
        row(f"**all into {TARGET}**", new, after, test, SEEDS),
        *(row(name(k), [k], after, test, SEEDS) for k in old),
        row("**all into en**", old, after, test, SEEDS),
        row(f"all into {TARGET}, before training", new, before, test, SEEDS[:1]),
        row("all into en, before training", old, before, test, SEEDS[:1]),
    ]
    reference, small = (megabytes(stores[dtype]) for dtype in (REFERENCE, SMALL))
    table = "\n".join(rows)
    n = sum(u.split == "train" and u.language == SOURCE and TARGET in u.translations for u in utterances)
    signature = compared(new, after, test, SEEDS)[2].signature
    return f"""# Encoder states as {SMALL}

Written by `make bench-state-formats` (`benchmarks/state_formats.py`), not by hand: {(made.started or "")[:10]}, {made.device["name"]},
{made.device["threads"]} threads, training in {made.device["compute"]}, torch {made.packages["torch"]}.

`interlingua encode --dtype {SMALL}` stores every number of a state in a byte, and a scale for each frame. Is what the decoder learns from such states
the same? Whisper-base, {n} {SOURCE} prompts into {TARGET} (fold {FOLD} of the split by cluster), no regularizer, {EPOCHS} epochs, learning rate {LEARNING_RATE:g},
context `{CONTEXT}`, the best epoch by chrF on dev. Each format is trained with seeds {", ".join(map(str, SEEDS))}, and tested on states of the same format. Decoding is
greedy, in CTranslate2's int8 on a CPU, for both alike.

| | `{REFERENCE}` | `{SMALL}` |
| --- | --- | --- |
| {len(stores[REFERENCE])} utterances on disk | {reference:.0f} MB | {small:.0f} MB ({small / reference:.0%}) |
| mean over frames of the error's norm by the state's | | {relative_error(stores[REFERENCE], stores[SMALL]):.2f}% |

chrF on test: mean of the seeds, and each; pooled rows are means over languages. The difference has its 95% interval, clusters and seeds resampled, paired by
utterance and seed; p is by approximate randomisation over clusters, the trainings taken as they are. Seeds of one format differ by nothing but the order of examples: how far apart they lie is
what training varies by anyway. Before training the model is one and the same: what differs there is the reading.

| | n | `{REFERENCE}` | `{SMALL}` | `{SMALL}` less `{REFERENCE}` | p | most between two seeds of a format |
| --- | --- | --- | --- | --- | --- | --- |
{table}

{signature}
"""


def row(
    title: str,
    keys: Sequence[str],
    outputs: Mapping[StoreDtype, BySeed],
    test: Sequence[Utterance],
    seeds: Sequence[int],
) -> str:
    """One line: both formats, seed by seed, and their difference."""
    alone = [compared(keys, outputs, test, [s]) for s in seeds]
    each = [[one[side].value for one in alone] for side in (0, 1)]
    shown = [f"{np.mean(of):.1f}" + (f" ({', '.join(f'{v:.1f}' for v in of)})" if len(of) > 1 else "") for of in each]
    difference = compared(keys, outputs, test, seeds)[2]
    low, high = difference.ci or (np.nan, np.nan)
    apart = f"{max(np.ptp(of) for of in each):.1f}" if len(seeds) > 1 else ""
    n = (difference.n or 0) // len(seeds)
    return (
        f"| {title} | {n} | {' | '.join(shown)} | {difference.value:+.1f} [{low:+.1f}, {high:+.1f}] | "
        f"{difference.p_randomisation:.3f} | {apart} |"
    )


def compared(
    keys: Sequence[str], outputs: Mapping[StoreDtype, BySeed], test: Sequence[Utterance], seeds: Sequence[int]
) -> tuple[Score, Score, Difference]:
    """chrF of `REFERENCE` and `SMALL`, means over tasks and seeds, and their difference."""
    reference, small = (
        text_statistics(
            [system_outputs(key, outputs[dtype][seed], test, (FOLD, seed)) for seed in seeds for key in keys], "chrf"
        )
        for dtype in (REFERENCE, SMALL)
    )
    return pooled_score(reference), pooled_score(small), pooled_difference(small, reference)


def name(key: str) -> str:
    """A task as a row's title."""
    source, target = key.partition(" ")[2].split("-")
    return f"{source}→{target}" + (" (trained on)" if (source, target) == (SOURCE, TARGET) else "")


if __name__ == "__main__":
    main()
