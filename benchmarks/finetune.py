"""Utterances a second of fine-tuning: transformers' Trainer with the frozen encoder in its forward pass, and ours, gain by gain.

Same model, data, batch, order and number of steps, in one process, taking turns. Reading the cache is counted; the peer gets its log-mel features
ready-made, and transformers' default optimiser. A step's time is the median between the ends of two steps. Writes docs/finetune-speed.md.
"""

import datetime
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.training_args import OptimizerNames

from interlingua.audio import load_audio
from interlingua.corpora import prepare_prompts
from interlingua.encoding import WhisperEncoder, best_compute, estimate_bytes
from interlingua.encoding.store import FrameStore
from interlingua.files import write_text
from interlingua.finetuning.config import FinetuneConfig
from interlingua.finetuning.data import IGNORED, Batches, collate, translation_examples
from interlingua.finetuning.model import CachedDecoder, Step, choose_parameters
from interlingua.finetuning.presets import DEFAULT_METHOD, planned_steps
from interlingua.finetuning.regularizers import Distillation, Start
from interlingua.finetuning.trainer import CachedTrainer, training_arguments
from interlingua.models import load_whisper
from interlingua.results import Provenance, provenance
from interlingua.translation import decode
from interlingua.types import SAMPLE_RATE, Frames, Utterance
from stores import encoded

BATCH = 8
STEPS = 8  # the first is not counted
TURNS = 2
FULL, SHORT = "full", "speech+8"
COVOST = 289_430, 430 * 3600  # utterances and seconds of its English training part (Wang et al., arXiv 2007.10310)
PAGE = Path(__file__).resolve().parent.parent / "docs" / "finetune-speed.md"


@dataclass(frozen=True)
class Setting:
    """What a contender does differently from the peer."""

    name: str
    context: str = FULL
    every_position: bool = True
    embeddings: bool = True
    compute: str = "float32"
    fused: bool = True
    keeps: bool = False  # as the default method does


GAINS = (
    Setting("cached states"),
    Setting("+ output layer where there is a label", every_position=False),
    Setting("+ speech and 8 s of silence, not 30 s", SHORT, every_position=False),
    Setting("+ embeddings frozen", SHORT, every_position=False, embeddings=False),
    *(
        [Setting("+ bfloat16", SHORT, every_position=False, embeddings=False, compute="bfloat16")]
        if best_compute() == "bfloat16"
        else []
    ),
)
KEEP = replace(
    GAINS[-1], name=f"all of these, as `{DEFAULT_METHOD}` trains: old examples, too, read by both decoders", keeps=True
)
SETTINGS = (*GAINS, replace(GAINS[-1], name="all of these, AdamW tensor by tensor", fused=False), KEEP)


class Seconds(NamedTuple):
    """Of a median step, and of what the optimiser takes of it."""

    step: float
    optimizer: float


class EveryPosition(CachedDecoder):
    """The output layer at every position, as transformers computes it."""

    def forward(self, **batch: torch.Tensor) -> Step:
        """See `CachedDecoder`."""
        states = batch["states"].to(self.proj_out.weight.dtype)
        hidden = decode(self.decoder, batch["tokens"], states, batch["lengths"]).last_hidden_state
        labelled = batch["labels"] != IGNORED
        rehearsal = batch["rehearsal"][:, None].expand_as(labelled)[labelled]
        return Step(batch, self.proj_out(hidden)[labelled], batch["labels"][labelled], rehearsal)


class Clock(TrainerCallback):  # type: ignore[misc]
    """When each step ended, and how long the optimiser took."""

    def __init__(self) -> None:
        self.begun = 0.0
        self.ends: list[float] = []
        self.optimizer: list[float] = []

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        """Gradients are there, and clipped."""
        self.begun = time.perf_counter()

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        """The parameters have moved."""
        self.optimizer.append(time.perf_counter() - self.begun)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Note the time."""
        self.ends.append(time.perf_counter())

    def seconds(self) -> Seconds:
        """Medians, without the first step."""
        return Seconds(float(np.median(np.diff(self.ends))), float(np.median(self.optimizer[1:])))


def main() -> None:
    """Measure and write the page."""
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    utterances = [u for u in prepare_prompts() if u.language == "en" and u.translations.get("es")]
    short = encoded(prepare_prompts(), "decoding", context=SHORT)
    chosen = [u for u in utterances if u.id in short][: BATCH * STEPS]
    stores = {FULL: encoded(chosen, "full", context=FULL), SHORT: short}
    times: dict[str, list[Seconds]] = {}
    for _ in range(TURNS):
        times.setdefault("transformers' Trainer, encoder in the forward pass", []).append(peer(chosen))
        for setting in SETTINGS:
            times.setdefault(setting.name, []).append(ours(chosen, stores[setting.context], setting))
            print({name: values[-1] for name, values in times.items()}, flush=True)
    encoding = encoding_seconds(chosen[:BATCH])
    made = provenance("both", "cpu", time.monotonic() - clock, started)
    write_text(PAGE, page(times, encoding, len(chosen), made) + at_covost(times, encoding, short, chosen[0]))


def arguments(compute: str, optimizer: str | None = None) -> TrainingArguments:
    """Those of our Trainer, without saving; with another optimiser than ours, where one is named."""
    config = FinetuneConfig(data="", method="plain", store=(), target="es", out=Path(), epochs=1, batch_size=BATCH)
    settings = training_arguments(config, Path("runs/bench-finetune"), compute=compute, device="cpu", dev=False)
    settings.save_strategy, settings.max_steps, settings.disable_tqdm = "no", STEPS, True
    if optimizer:
        settings.optim = OptimizerNames(optimizer)
    return settings


def ours(chosen: list[Utterance], store: FrameStore, setting: Setting) -> Seconds:
    """Median step of the cached Trainer."""
    whisper = load_whisper("base")
    method = FinetuneConfig("", target="es", out=Path(), method=DEFAULT_METHOD if setting.keeps else "plain")
    trained = choose_parameters(whisper, "decoder", embeddings=setting.embeddings)
    decoder = (EveryPosition if setting.every_position else CachedDecoder)(whisper)
    examples = translation_examples(chosen, whisper, "es", "target-transcribe")
    settings = arguments(setting.compute, None if setting.fused else "adamw_torch")
    kept = [Distillation(method.distillation, Start(decoder, trained, dict))] if setting.keeps else []
    old = [replace(e, rehearsal=True) for e in examples] if setting.keeps else []
    trainer = CachedTrainer(
        decoder,
        [*examples, *old],
        [store],
        regularizers=kept,
        rehearsed=round(method.rehearsed * BATCH) if kept else 0,
        arguments=settings,
    )
    timer = Clock()
    trainer.add_callback(timer)
    trainer.train()
    return timer.seconds()


def peer(chosen: list[Utterance]) -> Seconds:
    """Median step of transformers' own Trainer on its own model."""
    whisper = load_whisper("base")
    model = whisper.model
    model.model.encoder.requires_grad_(False)
    examples = translation_examples(chosen, whisper, "es", "target-transcribe")
    features = {
        u.id: whisper.feature_extractor(
            load_audio(u.audio), sampling_rate=SAMPLE_RATE, return_tensors="pt"
        ).input_features[0]
        for u in chosen
    }
    data = [{"features": features[e.utterance], "example": e} for e in examples]

    def batch(items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        nothing = np.zeros((1, 1), np.float32)
        made = collate([(i["example"], Frames(i["example"].utterance, nothing, 1)) for i in items])
        return {
            "input_features": torch.stack([i["features"] for i in items]),
            "decoder_input_ids": made["tokens"],
            "labels": made["labels"],
        }

    order = Batches(examples, {u.id: len(load_audio(u.audio)) for u in chosen}, BATCH)

    class SameOrder(Trainer):  # type: ignore[misc]
        def get_train_dataloader(self) -> DataLoader[Any]:
            return DataLoader(self.train_dataset, batch_sampler=order, collate_fn=batch)

    settings = arguments("float32", TrainingArguments.optim)
    trainer = SameOrder(model=model, args=settings, train_dataset=data, data_collator=batch)
    timer = Clock()
    trainer.add_callback(timer)
    trainer.train()
    return timer.seconds()


def encoding_seconds(chosen: list[Utterance]) -> dict[str, float]:
    """Seconds an utterance of making the cache."""
    audio = [load_audio(u.audio) for u in chosen]
    whisper = load_whisper("base", dtype=best_compute())
    found = {}
    for context in (FULL, SHORT):
        start = time.perf_counter()
        WhisperEncoder(whisper, context=context).encode(audio)
        found[context] = (time.perf_counter() - start) / len(audio)
    return found


def at_covost(times: dict[str, list[Seconds]], encoding: dict[str, float], store: FrameStore, like: Utterance) -> str:
    """What the default would take at CoVoST 2's size, by these figures."""
    n, seconds = COVOST
    mean = msgspec.structs.replace(like, duration=seconds / n)
    steps = planned_steps(DEFAULT_METHOD, -(-n // BATCH))
    sizes = {t: n * estimate_bytes([mean], replace(store.spec, dtype=t), store.dim) / 1e9 for t in ("float16", "int8")}
    step = np.median([t.step for t in times[KEEP.name]])
    return f"""
**At CoVoST 2's size**, {n:,} English utterances of {seconds / n:.1f} s, not run here: their states take {sizes["float16"]:.0f} GB ({sizes["int8"]:.0f} in int8), and
{n * encoding[SHORT] / 3600:.0f} h to encode; {steps:,} steps of `{DEFAULT_METHOD}`, one pass, {steps * step / 3600:.0f} h, both at the speed of these shorter utterances on this machine.
"""


def page(times: dict[str, list[Seconds]], encoding: dict[str, float], n: int, made: Provenance) -> str:
    """docs/finetune-speed.md."""
    base = np.array([t.step for t in next(iter(times.values()))])
    rows, before = [], base
    for name, taken in times.items():
        now = np.array([t.step for t in taken])
        whole, own = base / now, before / now
        rows.append(
            f"| {name} | {np.median(now):.2f} | {np.median([t.optimizer for t in taken]):.3f} | {BATCH / np.median(now):.2f} | "
            f"{np.median(whole):.1f}x [{whole.min():.1f}, {whole.max():.1f}] | {np.median(own):.2f}x |"
        )
        before = now
    table = "\n".join(rows)
    return f"""# How fast fine-tuning is

Written by `make bench-finetune` (`benchmarks/finetune.py`), not by hand: {str(made.started)[:10]}, {made.device["name"]},
{made.device["threads"]} threads, torch {made.packages["torch"]}, transformers {made.packages["transformers"]}.

Whisper-base, {n} English prompts into Spanish, batches of {BATCH}, the same steps for all, {TURNS} turns. The peer is transformers' `Trainer` on
`WhisperForConditionalGeneration` with the encoder frozen: it encodes every batch anew. Reading the cache is counted; making it, once, is not: {encoding[FULL]:.2f} s
an utterance for 30 s, {encoding[SHORT]:.2f} s for speech and 8 s of silence, in {best_compute()}.

**The optimiser.** The peer has transformers' own default, `{TrainingArguments.optim}` (with torch 2.8 or newer), as we have
(`{arguments("float32").optim.value}`): no gain over the peer. The row before the last leaves it out (`adamw_torch`, the default before), and so shows what it is
worth. What isn't trained has no moments: frozen embeddings save some of the optimiser's time, too.

| | s a step | of it the optimiser | utterances a second | against the peer | against the row above |
| --- | --- | --- | --- | --- | --- |
{table}
"""


if __name__ == "__main__":
    main()
