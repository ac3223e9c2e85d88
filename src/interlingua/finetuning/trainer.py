"""transformers' Trainer on cached encoder states."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, Trainer, TrainingArguments

from interlingua.finetuning.config import FinetuneConfig
from interlingua.finetuning.decoder import CachedDecoder, Step
from interlingua.finetuning.examples import Batches, Example, StateDataset, collate
from interlingua.finetuning.regularizers import Remedy
from interlingua.finetuning.states import States
from interlingua.finetuning.trainable import trained_parameters

WARMUP = 0.1  # of the steps

Evaluate = Callable[[], dict[str, float]]
"""Scores on the dev set of the decoder as it is, by metric."""


class CachedTrainer(Trainer):  # type: ignore[misc]  # transformers is untyped here
    """A Trainer whose batches hold encoder states from a store, and whose loss has remedies in it.

    Logging, mixed precision, accumulation, checkpoints, resuming, early stopping and several processes (``torchrun``)
    are transformers' own. Checkpoints hold the trained parameters only.

    Args:
        decoder: the model; frozen parameters are left alone.
        examples: new ones, and old ones to rehearse.
        stores: the states of their utterances, one of each context.
        remedies: what is added to the loss.
        evaluate: dev scores; None: there is no dev set.
        arguments: transformers' settings.
        rehearsed: old examples of a batch.
    """

    def __init__(
        self,
        decoder: CachedDecoder,
        examples: Sequence[Example],
        stores: Sequence[States],
        *,
        remedies: Sequence[Remedy] = (),
        evaluate: Evaluate | None = None,
        arguments: TrainingArguments,
        rehearsed: int = 0,
        patience: int = 0,
    ) -> None:
        size = arguments.per_device_train_batch_size
        data = StateDataset(examples, stores)
        self._batches = Batches(examples, stores[0].n_speech(), size, rehearsed, arguments.seed)
        self._remedies, self._dev_scores = remedies, evaluate
        callbacks = [EarlyStoppingCallback(patience)] if patience and evaluate else []
        super().__init__(
            model=decoder,
            args=arguments,
            train_dataset=data,
            eval_dataset=[] if evaluate else None,  # asked for, and never read: `evaluate` knows its own
            data_collator=collate,
            callbacks=callbacks,
        )
        self.model_accepts_loss_kwargs = False  # the loss is a mean over its batch; accumulation divides it

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches of `examples.Batches`, shared out over the processes."""
        loader = DataLoader(self.train_dataset, batch_sampler=self._batches, collate_fn=collate)
        return self.accelerator.prepare(loader)  # type: ignore[no-any-return]

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Loss of the new task, and what the remedies add."""
        with self.accelerator.autocast():  # also for the model before training, of `Distillation`
            step: Step = model(**inputs)
            loss = step.loss()
            for remedy in self._remedies:
                loss = loss + remedy.loss(step)
        return (loss, step) if return_outputs else loss

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """Dev scores, logged and shown to callbacks (early stopping) as transformers does."""
        if self._dev_scores is None:
            return {}
        self.model.eval()
        scores = [self._dev_scores() if self.accelerator.is_main_process else {}]
        broadcast_object_list(scores)  # to all processes: they stop together
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in scores[0].items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)  # type: ignore[has-type]
        return metrics

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        trained = {f"decoder.{name}": p.detach() for name, p in trained_parameters(self._decoder.decoder)}
        super()._save(output_dir, trained)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Frozen parameters are not in checkpoints, and need not be."""

    @property
    def _decoder(self) -> Any:
        return self.accelerator.unwrap_model(self.model)


def training_arguments(config: FinetuneConfig, folder: Path, *, compute: str, device: str, dev: bool) -> Any:
    """transformers' settings for a config.

    Args:
        config: the settings.
        folder: where checkpoints lie.
        compute: number format of the products.
        device: ``cpu`` or ``cuda``.
        dev: whether there is a dev set.
    """
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=config.epochs,
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
        save_strategy="epoch",
        save_total_limit=2,
        eval_strategy="epoch" if dev else "no",
        load_best_model_at_end=dev,
        metric_for_best_model=f"eval_{config.best}" if dev else None,
        greater_is_better=True if dev else None,
        remove_unused_columns=False,
        label_names=["labels"],
        restore_callback_states_from_checkpoint=True,  # patience counts on
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=None,
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # or the Trainer splits batches over threads; torchrun is for several GPUs
    return arguments
