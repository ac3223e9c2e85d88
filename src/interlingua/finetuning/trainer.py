"""Fine-tuning a decoder on encoder states with transformers' Trainer."""

import ctypes
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from torch.utils.data import DataLoader
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from interlingua.errors import CorpusError, ResultsError
from interlingua.files import refusal, sha256_file, write_text
from interlingua.finetuning.config import REGULARIZERS, FinetuneConfig
from interlingua.finetuning.data import Batches, Example, StateDataset, States, collate
from interlingua.finetuning.model import (
    CachedDecoder,
    LoraSettings,
    Step,
    Update,
    Values,
    choose_parameters,
    merge_adapters,
    snapshot,
    trained_parameters,
    update_between,
)
from interlingua.finetuning.presets import planned_steps
from interlingua.finetuning.regularizers import (
    Regularizer,
    Start,
    fisher_information,
    load_values,
    save_values,
)
from interlingua.models import Whisper
from interlingua.progress import track
from interlingua.results import TrainingPoint

WARMUP = 0.1  # of the steps
LOOKS = 10  # at dev, with a checkpoint each
SMOOTHED = 3  # looks whose mean score chooses the checkpoint: one of some dozens of utterances wavers by several points
TRIMMED = 10  # steps after which freed memory goes back to the system
_HASHES = "whole.json"  # of a checkpoint's files, written last
FISHER_EXAMPLES = 256  # for the Fisher information; each costs a step of one example

Evaluate = Callable[[], dict[str, float]]
"""Scores on the dev set of the decoder as it is, by metric."""


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
) -> Update:
    """Train the decoder in place; if interrupted, the same call resumes at the last checkpoint with the same result.

    Args:
        whisper: float32; its decoder is changed.
        examples: new ones, and old ones to rehearse.
        folder: of the checkpoints.
        dev: scores on the dev set, which choose the best checkpoint.
        contexts: states of the same utterances in other contexts; an epoch learns every example in each.
        fisher: file of the Fisher information for EWC; made from some of the old examples if absent.

    Raises:
        CorpusError: nothing to train on, or nothing to rehearse where that is needed.
        UsageError: settings that don't go together.
    """
    new = [e for e in examples if not e.rehearsal]
    asked = {(e.utterance, e.prompt) for e in new}  # what is to change isn't rehearsed
    old = [e for e in examples if e.rehearsal and (e.utterance, e.prompt) not in asked]
    if not new:
        raise CorpusError("there is nothing to train on: no utterance of the source languages has a reference")
    if (config.rehearses or (config.ewc and not (fisher and fisher.exists()))) and not old:
        raise CorpusError("there is nothing to rehearse: the store holds no speech of the languages in --rehearse")
    torch.manual_seed(config.seed)
    decoder = CachedDecoder(whisper, config.train_encoder_layers).to(device)
    before = snapshot(dict(decoder.named_parameters()))
    trained = choose_parameters(
        whisper,
        config.trainable,
        embeddings=config.embeddings,
        frozen_layers=config.frozen_layers,
        encoder_layers=config.train_encoder_layers,
        token=new[0].prompt[1],
        lora=LoraSettings(config.lora_rank, config.lora_alpha),
    )

    def information() -> Values:
        about = fisher_of(whisper, config)
        if fisher and fisher.exists():
            return load_values(fisher, **about)
        drawn = np.random.default_rng(config.seed).permutation(len(old))[:FISHER_EXAMPLES]
        values = fisher_information(decoder, trained, _one_by_one([old[i] for i in drawn], store, device))
        if fisher:
            save_values(fisher, values, **about)
        return values

    start = Start(decoder, trained, information)
    regularizers = [REGULARIZERS[name](strength, start) for name, strength in config.regularizers.items()]
    stores = (store, *contexts)
    learnt = [*new, *old] if config.rehearses else new
    items = [replace(e, context=i) for i, held in enumerate(stores) for e in learnt if i == 0 or e.utterance in held]
    steps = steps_of(config, sum(not e.rehearsal for e in items))
    arguments = training_arguments(config, folder, compute=compute, device=device, dev=dev is not None, steps=steps)
    trainer = CachedTrainer(
        decoder,
        items,
        stores,
        regularizers=regularizers,
        evaluate=dev,
        arguments=arguments,
        rehearsed=round(config.rehearsed * config.batch_size),
        patience=config.patience,
    )
    checkpoint = _last_checkpoint(folder)
    if PartialState().is_main_process:
        _remove_checkpoints(folder, after=checkpoint)
    PartialState().wait_for_everyone()
    if checkpoint and (state := _ended(checkpoint)):  # resumed, it would train one step more
        best = Path(state.best_model_checkpoint or checkpoint).name if dev else Path(checkpoint).name
        trainer._load_from_checkpoint(str(folder / best))
    else:
        with track(steps, "training") as advance:
            trainer.add_callback(_Steps(advance))
            trainer.train(resume_from_checkpoint=checkpoint)
    decoder.eval().requires_grad_(False)
    merge_adapters(decoder.decoder)
    return update_between(before, decoder)


class _Steps(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Shows steps on stderr, in place of the Trainer's own callbacks, which print to stdout."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance = advance

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count the steps of a training that is resumed."""
        if state.global_step:
            self._advance(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count a step; batches of all sizes leave gaps in the heap, which glibc keeps unless it is told to trim it."""
        self._advance(1)
        if state.global_step % TRIMMED == 0:
            with suppress(OSError, AttributeError):  # another C library
                ctypes.CDLL("libc.so.6").malloc_trim(0)


class CachedTrainer(Trainer):  # type: ignore[misc]  # transformers is untyped here
    """A Trainer on batches of encoder states, with regularizers in the loss; checkpoints hold trained parameters only.

    ``stores``: one a context; ``evaluate``: dev scores, None without a dev set; ``rehearsed``: old examples of a batch.
    """

    def __init__(
        self,
        decoder: CachedDecoder,
        examples: Sequence[Example],
        stores: Sequence[States],
        *,
        regularizers: Sequence[Regularizer] = (),
        evaluate: Evaluate | None = None,
        arguments: TrainingArguments,
        rehearsed: int = 0,
        patience: int = 0,
    ) -> None:
        size = arguments.per_device_train_batch_size
        data = StateDataset(examples, stores)
        self._batches = Batches(examples, stores[0].n_speech(), size, rehearsed, arguments.seed)
        self._regularizers, self._dev_scores = regularizers, evaluate
        callbacks = [EarlyStoppingCallback(patience)] if patience and evaluate else []
        super().__init__(
            model=decoder,
            args=arguments,
            train_dataset=data,
            eval_dataset=[] if evaluate else None,  # required, never read: `evaluate` has its own data
            data_collator=collate,
            callbacks=callbacks,
        )
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = False  # the loss is a mean over its batch; accumulation divides it

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches of `data.Batches`, distributed over the processes."""
        loader = DataLoader(self.train_dataset, batch_sampler=self._batches, collate_fn=collate)
        return self.accelerator.prepare(loader)  # type: ignore[no-any-return]

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Loss of the new task plus the regularizers' terms."""
        with self.accelerator.autocast():  # also for `Distillation`'s model before training
            step: Step = model(**inputs)
            loss = step.loss()
            for regularizer in self._regularizers:
                loss = loss + regularizer.loss(step)
        return (loss, step) if return_outputs else loss

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """Dev scores: logged as they are; what chooses the checkpoint and stops early is the mean of the last looks."""
        if self._dev_scores is None:
            return {}
        self.model.eval()
        scores = [self._dev_scores() if self.accelerator.is_main_process else {}]
        broadcast_object_list(scores)  # to all processes: they stop together
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in scores[0].items()}
        self.log(metrics)
        chosen_by = self.args.metric_for_best_model
        seen = [entry[chosen_by] for entry in self.state.log_history if chosen_by in entry]
        metrics[chosen_by] = float(np.mean(seen[-SMOOTHED:]))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)  # type: ignore[has-type]
        return metrics

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """As transformers does, and then the hash of each file: a checkpoint counts once these are there."""
        folder = Path(self.args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        try:
            super()._save_checkpoint(model, trial)
            if self.args.should_save:
                one_process = self.args.world_size == 1  # else others may still write theirs
                held = [p for p in folder.iterdir() if one_process or not p.name.startswith("rng_state")]
                write_text(folder / _HASHES, json.dumps({p.name: sha256_file(p) for p in held}))
        except (RuntimeError, SafetensorError) as e:  # torch's and safetensors' own, of a full disk
            unknown = (  # torch tells no reason
                f"can't be written ({str(e).splitlines()[0][:200]}); make space, or raise the limit of file sizes "
                "(ulimit -f), and the same command goes on"
            )
            raise ResultsError(f"{folder}: {refusal(str(e)) or unknown}") from e

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        super()._save(output_dir, {name: p.detach() for name, p in trained_parameters(self._decoder)})

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Frozen parameters are not in checkpoints, and need not be."""

    @property
    def _decoder(self) -> Any:
        return self.accelerator.unwrap_model(self.model)


def steps_of(config: FinetuneConfig, examples: int) -> int:
    """Optimizer steps on so many new examples: as given, or as the method plans."""
    of_step = config.batch_size * config.accumulation * PartialState().num_processes
    batches = -(-examples // of_step)
    return config.epochs * batches if config.epochs else config.steps or planned_steps(config.method, batches)


def training_arguments(
    config: FinetuneConfig, folder: Path, *, compute: str, device: str, dev: bool, steps: int = -1
) -> Any:
    """transformers' settings for a config; ``dev``: whether there is a dev set; ``steps``: unless epochs are given."""
    looks = "epoch" if config.epochs else "steps"
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=config.epochs or 1,
        max_steps=-1 if config.epochs else steps,
        learning_rate=config.learning_rate,
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulation,
        weight_decay=config.weight_decay,
        warmup_steps=WARMUP,
        lr_scheduler_type="linear",
        optim="adamw_torch_fused",
        bf16=compute == "bfloat16",
        ddp_find_unused_parameters=False,
        use_cpu=device == "cpu",
        seed=config.seed,
        logging_steps=10,
        report_to=list(config.log) or "none",
        save_strategy=looks,
        save_steps=max(1, steps // LOOKS),
        save_total_limit=2,
        eval_strategy=looks if dev else "no",
        eval_steps=max(1, steps // LOOKS),
        load_best_model_at_end=dev,
        metric_for_best_model=f"eval_{config.best}" if dev else None,
        greater_is_better=True if dev else None,
        remove_unused_columns=False,
        label_names=["labels"],
        restore_callback_states_from_checkpoint=True,  # patience continues
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=True,
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # or the Trainer splits batches over threads; torchrun is for several GPUs
    return arguments


def fisher_of(whisper: Whisper, config: FinetuneConfig) -> dict[str, str]:
    """Settings that the Fisher information depends on; it is reused where they are equal."""
    stated: dict[str, object] = {
        "model": whisper.revision,
        "trainable": config.trainable,
        "embeddings": config.embeddings,
        "frozen_layers": config.frozen_layers,
        "train_encoder_layers": config.train_encoder_layers,
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
    """The last one that is whole, and whose best one so far is whole, too."""
    for path in reversed(_checkpoints(folder)):
        if _is_whole(path):
            best = TrainerState.load_from_json(str(path / TRAINER_STATE_NAME)).best_global_step
            if best is None or _is_whole(path.with_name(f"{PREFIX_CHECKPOINT_DIR}-{best}")):
                return str(path)
    return None


def _remove_checkpoints(folder: Path, *, after: str | None) -> None:
    """Remove damaged or unfinished checkpoints behind the one that training goes on from."""
    for path in reversed(_checkpoints(folder)):
        if str(path) == after:
            break
        shutil.rmtree(path)


def _checkpoints(folder: Path) -> list[Path]:
    found = [p for p in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if p.name.rpartition("-")[2].isdigit()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def _is_whole(checkpoint: Path) -> bool:
    try:
        hashes = json.loads((checkpoint / _HASHES).read_bytes())
        return all(sha256_file(checkpoint / name) == value for name, value in hashes.items())
    except (OSError, ValueError, AttributeError):
        return False


def training_curve(folder: Path) -> list[TrainingPoint]:
    """Losses and dev scores of a training, from its last checkpoint in ``folder``."""
    checkpoint = _last_checkpoint(folder)
    if checkpoint is None:
        return []
    logged = TrainerState.load_from_json(str(Path(checkpoint) / TRAINER_STATE_NAME)).log_history
    return [
        TrainingPoint(step=entry["step"], loss=entry.get("loss"), dev=dev)
        for entry in logged
        if (dev := {k.removeprefix("eval_"): v for k, v in entry.items() if k.startswith("eval_")}) or "loss" in entry
    ]


def _ended(checkpoint: str) -> Any:
    """The state of a training that had ended (early, or at its last step); None if it hadn't."""
    state = TrainerState.load_from_json(str(Path(checkpoint) / TRAINER_STATE_NAME))
    ended = state.stateful_callbacks["TrainerControl"]["args"]["should_training_stop"]
    return state if ended and state.global_step else None
