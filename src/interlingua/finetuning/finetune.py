"""Fine-tune a decoder on cached states of one source language, and keep what it could do before."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from interlingua.errors import CorpusError
from interlingua.finetuning.config import FinetuneConfig
from interlingua.finetuning.decoder import CachedDecoder
from interlingua.finetuning.examples import Example, StateDataset, collate, end_token
from interlingua.finetuning.interpolation import interpolate
from interlingua.finetuning.regularizers import (
    EWC,
    L2SP,
    Distillation,
    Remedy,
    Replay,
    Values,
    fisher_information,
    load_values,
    save_values,
    snapshot,
)
from interlingua.finetuning.states import States
from interlingua.finetuning.trainable import LoraSettings, choose_parameters, merge_adapters
from interlingua.finetuning.trainer import CachedTrainer, Evaluate, training_arguments
from interlingua.models import Task, Whisper
from interlingua.progress import track
from interlingua.translation import decode_frames, fast_engine
from interlingua.types import Utterance

MOST_TOKENS = 128  # of what is rehearsed: longer outputs in 30 s are loops, and are left out
CHUNK_UTTERANCES = 256  # whose states are in memory at once
FISHER_EXAMPLES = 256  # that the Fisher information is estimated on; each costs a step of one example


@dataclass(frozen=True, eq=False)
class Change:
    """The decoder's layers before and after training, by name; what lies between them is WiSE-FT's curve."""

    before: Values
    after: Values

    def apply(self, whisper: Whisper, share: float) -> None:
        """Set the model's decoder to ``share`` of the change (see `interpolation.interpolate`)."""
        interpolate(whisper.model.model.decoder, self.before, self.after, share)


def rehearsal_examples(
    whisper: Whisper,
    utterances: Sequence[Utterance],
    store: States,
    *,
    heard_as: Sequence[str] | None = None,
    label: str = "rehearsal",
) -> list[Example]:
    """What the model says now: its own transcript of each utterance, and its own English translation.

    No text of the utterances is read: unlabelled speech is enough. Outputs that are empty or don't end are left out.

    Args:
        whisper: the model before training.
        utterances: speech of any languages; those that the store lacks are left out.
        store: their states.
        heard_as: languages in whose prompts every utterance is heard; None: the one that is spoken.
        label: shown beside the progress bar.
    """
    asked: dict[str, list[str]] = {}  # language of the prompt -> utterances
    for u in utterances:
        for language in heard_as or (u.language,):
            if u.id in store:
                asked.setdefault(language, []).append(u.id)
    examples = []
    engine = fast_engine(whisper, compute="float32")
    with track(sum(len(ids) * len(_tasks(language)) for language, ids in asked.items()), label) as advance:
        for language, ids in sorted(asked.items()):
            for start in range(0, len(ids), CHUNK_UTTERANCES):
                frames = store.read(ids[start : start + CHUNK_UTTERANCES])
                for task in _tasks(language):
                    prompt = whisper.prompt(language, task)
                    most = min(MOST_TOKENS, whisper.model.config.max_target_positions - len(prompt))
                    for said in decode_frames(engine, frames, prompt, most_tokens=most):
                        if said.text and len(said.tokens) < most:
                            labels = (*said.tokens, end_token(whisper))
                            examples.append(Example(said.id, tuple(prompt), labels, rehearsal=True))
                        advance(1)
    return examples


def _tasks(language: str) -> tuple[Task, ...]:
    """What Whisper does with a language."""
    return ("transcribe",) if language == "en" else ("transcribe", "translate")


def train(
    whisper: Whisper,
    examples: Sequence[Example],
    store: States,
    config: FinetuneConfig,
    *,
    folder: Path,
    dev: Evaluate | None = None,
    contexts: Sequence[States] = (),
    fisher: Path | None = None,
    compute: str = "float32",
    device: str = "cpu",
) -> Change:
    """Train the decoder in place; interrupted, the same call goes on from the last checkpoint to the same result.

    Args:
        whisper: float32; its decoder is changed.
        examples: new ones, and those to rehearse.
        store: the states of their utterances.
        config: what is trained, how long, and with which remedies.
        folder: of the checkpoints.
        dev: scores on the dev set; they choose the best epoch.
        contexts: states of the same utterances in other contexts: every example is learnt in each, so an epoch is as
            many times as long.
        fisher: file of the Fisher information, for EWC: read if it is there, else estimated on some of the examples
            to rehearse and written.
        compute: number format of the products.
        device: where to train.

    Raises:
        CorpusError: nothing to train on, or nothing to rehearse where that is asked for.
        UsageError: settings that don't go together.
    """
    old = [e for e in examples if e.rehearsal]
    if len(old) == len(examples):
        raise CorpusError("there is nothing to train on: no utterance of the source languages has a reference")
    known = fisher is not None and fisher.exists()
    if (config.rehearses or (config.ewc and not known)) and not old:
        raise CorpusError("there is nothing to rehearse: the store holds no speech of the languages in --rehearse")
    if not config.rehearses:
        examples = [e for e in examples if not e.rehearsal]
    torch.manual_seed(config.seed)
    decoder = CachedDecoder(whisper).to(device)
    layers = decoder.decoder
    before = snapshot(dict(layers.named_parameters()))
    token = next(e.prompt[1] for e in examples if not e.rehearsal)
    trained = parameters_of(config, whisper, token)
    remedies: list[Remedy] = []
    if config.l2sp:
        remedies.append(L2SP(trained, config.l2sp))
    if config.ewc:
        about = fisher_of(whisper, config)
        if fisher is not None and known:
            values = load_values(fisher, **about)
        else:
            drawn = np.random.default_rng(config.seed).permutation(len(old))[:FISHER_EXAMPLES]
            values = fisher_information(decoder, trained, _one_by_one([old[i] for i in drawn], store, device))
            if fisher is not None:
                save_values(fisher, values, **about)
        remedies.append(EWC(trained, values, config.ewc))
    if config.replay:
        remedies.append(Replay(config.replay))
    if config.distillation:
        remedies.append(Distillation(decoder, config.distillation))
    arguments = training_arguments(config, folder, compute=compute, device=device, dev=dev is not None)
    stores = (store, *contexts)
    trainer = CachedTrainer(
        decoder,
        [replace(e, context=i) for i, held in enumerate(stores) for e in examples if i == 0 or e.utterance in held],
        stores,
        remedies=remedies,
        evaluate=dev,
        arguments=arguments,
        rehearsed=round(config.rehearsed * config.batch_size),
        patience=config.patience,
    )
    checkpoint = _last_checkpoint(folder)
    if checkpoint and (done := _stopped_after(checkpoint)):
        arguments.num_train_epochs = done  # nothing is left but to take the best epoch
    trainer.train(resume_from_checkpoint=checkpoint)
    decoder.eval().requires_grad_(False)
    merge_adapters(layers)
    now = dict(layers.named_parameters())
    moved = [name for name, start in before.items() if not torch.equal(start, now[name])]
    return Change({n: before[n] for n in moved}, {n: now[n].detach().clone() for n in moved})


def parameters_of(config: FinetuneConfig, whisper: Whisper, token: int) -> dict[str, nn.Parameter]:
    """Freeze all but what a config trains, and return that by name; ``token`` is the target's."""
    return choose_parameters(
        whisper,
        config.trainable,
        embeddings=config.embeddings,
        frozen_layers=config.frozen_layers,
        token=token,
        lora=LoraSettings(config.lora_rank, config.lora_alpha),
    )


def fisher_of(whisper: Whisper, config: FinetuneConfig) -> dict[str, str]:
    """What Fisher information depends on, in words; it can be used again where all of that is the same."""
    stated: dict[str, object] = {
        "model": whisper.revision,
        "trainable": config.trainable,
        "embeddings": config.embeddings,
        "frozen_layers": config.frozen_layers,
        "rehearse": ",".join(config.rehearse or ()) or "all",
        "rehearse_as": ",".join(config.rehearse_as or ()) or "spoken",
    }
    if config.trainable == "lora":
        stated |= {"lora_rank": config.lora_rank, "lora_alpha": config.lora_alpha, "seed": config.seed}
    return {name: str(value) for name, value in stated.items()}


def _one_by_one(examples: Sequence[Example], store: States, device: str) -> Iterator[dict[str, torch.Tensor]]:
    data = StateDataset(examples, (store,))
    for i in range(len(data)):
        yield {name: values.to(device) for name, values in collate([data[i]]).items()}


def _last_checkpoint(folder: Path) -> str | None:
    """The last one that is whole: the trainer's state is written last."""
    whole = [path.parent for path in folder.glob(f"checkpoint-*/{TRAINER_STATE_NAME}")]
    return str(max(whole, key=lambda path: int(path.name.rpartition("-")[2]))) if whole else None


def _stopped_after(checkpoint: str) -> int | None:
    """Epochs after which training had ended by itself (patience, or the last one); None if it hadn't."""
    state = TrainerState.load_from_json(str(Path(checkpoint) / TRAINER_STATE_NAME))
    ended = state.stateful_callbacks["TrainerControl"]["args"]["should_training_stop"]
    return round(state.epoch) if ended and state.epoch else None
