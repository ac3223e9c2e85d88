"""Mboshi into French, field recordings of a language that Whisper never saw: writes docs/mboshi.md.

The public corpus besacier/mboshi-french-parallel-corpus, cloned into the cache unless ``--root`` names a clone. Its dev part
is the test here, as it is in published work; what chooses the checkpoint is held out of its train part. Interrupted, it
goes on where it was.
"""

import argparse
import datetime
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch

from interlingua.corpora import read_manifest, write_manifest
from interlingua.corpora.base import read_corpus
from interlingua.experiments.finetune import run_finetune
from interlingua.files import write_text
from interlingua.finetuning.config import FinetuneConfig
from interlingua.models import load_whisper, save_whisper
from interlingua.results import Change, load_results
from interlingua.types import Utterance
from voices import cloned

REPOSITORY = "besacier/mboshi-french-parallel-corpus"
PAGE = Path(__file__).resolve().parent.parent / "docs" / "mboshi.md"
OUT = Path("runs/mboshi")
CONTEXT = "speech+1"
UPPER = 3  # encoder layers, of six
HELD_OUT = 100  # utterances of train that choose the checkpoint
BATCH, EPOCHS, SEED = 16, 6, 0
PUBLISHED = (
    ("ASR-pre-trained on English and French, 4 h of Mboshi; without pre-training", "7.1; 3.5", "Bansal et al., arXiv 1809.01431"),
    ("Transformer trained with transcripts; with fused features", "10.9; 11.6", "ESPnet, egs2/mboshi_french/st1 (arXiv 2204.02470)"),
)  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """One training."""

    name: str
    title: str
    model: str = "base"
    train_encoder_layers: int = 0
    learning_rate: float = 2e-4

    @property
    def out(self) -> Path:
        """Its result folder."""
        return OUT / self.name


RANDOM = OUT / "random-decoder"
VARIANTS = (
    Variant("frozen", "decoder, on Whisper's frozen encoder"),
    Variant("upper", f"decoder and the encoder's upper {UPPER} layers", train_encoder_layers=UPPER),
    Variant("random", "decoder from random weights, frozen encoder", model=str(RANDOM), learning_rate=5e-4),
)


def main() -> None:
    """Train what isn't done, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, help="a clone of the corpus' repository")
    options = parser.parse_args()
    manifest = OUT / "manifest.jsonl"
    if not manifest.exists():
        write_manifest(manifest, parted(list(read_corpus("mboshi", options.root or cloned(REPOSITORY)))))
    for variant in VARIANTS:
        if not (variant.out / "results.json").exists():
            run_finetune(config(variant, manifest))
    write_text(PAGE, page(Counter(str(u.split) for u in read_manifest(manifest))))
    print(f"{PAGE} written")


def parted(utterances: list[Utterance]) -> list[Utterance]:
    """The corpus' dev as the test, and some of its train as dev."""
    train = sorted(u.id for u in utterances if u.split == "train")
    held = {train[i] for i in np.random.default_rng(SEED).permutation(len(train))[:HELD_OUT]}
    split = {u.id: "test" if u.split == "dev" else "dev" if u.id in held else "train" for u in utterances}
    return [msgspec.structs.replace(u, split=split[u.id]) for u in utterances]


def config(variant: Variant, manifest: Path) -> FinetuneConfig:
    """Settings of a training."""
    if variant.model == str(RANDOM) and not RANDOM.exists():
        save_random_decoder()
    return FinetuneConfig(
        str(manifest),
        source=("mdw",),
        target="fr",
        out=variant.out,
        method="plain",
        model=variant.model,
        context=CONTEXT,
        train_encoder_layers=variant.train_encoder_layers,
        learning_rate=variant.learning_rate,
        batch_size=BATCH,
        epochs=EPOCHS,
        seed=SEED,
        best="bleu",
    )


def save_random_decoder() -> None:
    """Whisper-base with a decoder of transformers' initial weights."""
    whisper = load_whisper("base")
    torch.manual_seed(SEED)
    fresh = type(whisper.model)(whisper.model.config)
    whisper.model.model.decoder.load_state_dict(fresh.model.decoder.state_dict())
    whisper.model.tie_weights()
    save_whisper(whisper, RANDOM)


def page(counts: Counter[str]) -> str:
    """All of it, as Markdown."""
    rows: list[str] = []
    for variant in VARIANTS:
        results, _ = load_results(variant.out)
        (row,) = [r for r in results.transfer if r.task == "new"]
        best = max((p.dev.get("bleu", 0.0), p.step) for p in results.training if p.dev)
        if not rows:
            rows.append(
                f"| Whisper-base, not trained (the prompt of French) | {score(row.bleu, before=True)} | {score(row.chrf, before=True)} | |"
            )
        rows.append(f"| {variant.title} | {score(row.bleu)} | {score(row.chrf)} | {best[0]:.1f} at step {best[1]} |")
    published = [f"| {what} | {figures} | {source} |" for what, figures, source in PUBLISHED]
    return (
        HEAD.format(date=datetime.datetime.now(datetime.UTC).date(), **counts)
        + "\n".join(rows)
        + PEERS
        + "\n".join(published)
        + "\n"
    )


def score(change: Change | None, *, before: bool = False) -> str:
    """A score with its interval."""
    found = (change.before if before else change.after) if change else None
    if found is None:
        return ""
    low, high = found.ci or (found.value, found.value)
    return f"{found.value:.1f} [{low:.1f}, {high:.1f}]"


HEAD = """# Mboshi into French

Written by `make study-mboshi` (`benchmarks/mboshi.py`), not by hand: {date}. Field recordings of a Bantu language that Whisper has neither token nor data for
([the corpus](data-more.md)): {train} utterances to train on, {dev} of its train part to choose the checkpoint, its dev part, {test}, to measure on.

```
interlingua finetune manifest.jsonl --source mdw --target fr --method plain --out runs/mdw      # --train-encoder-layers 3
```

Whisper-base, batches of 16, up to six passes, one seed; sacreBLEU 13a and chrF with 95% bootstrap intervals.

| trained | BLEU | chrF | BLEU on the held-out part of train |
| --- | --- | --- | --- |
"""

PEERS = """

Published for the same corpus and part, by models trained for it (their BLEU is of their own tokenisation and casing, so only roughly comparable):

| | BLEU | source |
| --- | --- | --- |
"""


if __name__ == "__main__":
    main()
