"""Regularizers against forgetting: terms added to the loss, one small class each, in any combination.

Freezing (`model.choose_parameters`) and interpolation after training (`model.interpolate`) need no loss.
"""

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import torch
from torch import nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from interlingua.errors import ResultsError, UsageError
from interlingua.files import atomic_file
from interlingua.finetuning.model import CachedDecoder, Step, Values, snapshot


@dataclass(frozen=True, eq=False)
class Start:
    """The model before training, its trained parameters, and a function that gives the old tasks' diagonal Fisher."""

    decoder: CachedDecoder
    trained: Mapping[str, nn.Parameter]
    fisher: Callable[[], Values]


class Regularizer(Protocol):
    """Protocol of the registry's classes, called with strength and `Start`.

    With a class attribute ``rehearses = True`` every batch holds old examples.
    """

    def __init__(self, strength: float, start: Start) -> None: ...

    def loss(self, step: Step) -> torch.Tensor:
        """The term added to the loss of a step, a scalar."""
        ...


class L2SP:
    """Pulls every trained parameter back to where it started (Li et al., arXiv 1802.01483).

    strength / 2 * sum of (p - p0)^2. For adapters, p0 is their random initialisation, not zero.
    """

    def __init__(self, strength: float, start: Start) -> None:
        self._strength, self._trained, self._start = strength, start.trained, snapshot(start.trained)

    def loss(self, step: Step) -> torch.Tensor:
        """See the class."""
        apart = [(p - self._start[name]).square().sum() for name, p in self._trained.items()]
        return self._strength / 2 * torch.stack(apart).sum()


class EWC:
    """Elastic weight consolidation (Kirkpatrick et al., arXiv 1612.00796, equation 3).

    strength / 2 * sum of F (p - p0)^2, F the diagonal of the Fisher information of the tasks to keep.
    """

    def __init__(self, strength: float, start: Start) -> None:
        fisher = start.fisher()
        if fisher.keys() != start.trained.keys():
            raise UsageError(
                "--fisher: the Fisher information is of other parameters than those that are trained; leave it out"
            )
        self._strength, self._trained, self._start = strength, start.trained, snapshot(start.trained)
        self._fisher = {name: fisher[name].to(p.device) for name, p in start.trained.items()}

    def loss(self, step: Step) -> torch.Tensor:
        """See the class."""
        apart = [(self._fisher[n] * (p - self._start[n]).square()).sum() for n, p in self._trained.items()]
        return self._strength / 2 * torch.stack(apart).sum()


class Replay:
    """Cross entropy of the rehearsed examples, which are the model's own outputs before training."""

    rehearses: ClassVar = True

    def __init__(self, strength: float, start: Start) -> None:
        self._strength = strength

    def loss(self, step: Step) -> torch.Tensor:
        """See the class."""
        return self._strength * step.loss(old=True)


class Distillation:
    """Keeps the distribution of the model before training on rehearsed examples (Hinton et al., arXiv 1503.02531).

    strength * KL(before || now), mean over the positions of rehearsed examples.
    """

    rehearses: ClassVar = True

    def __init__(self, strength: float, start: Start) -> None:
        self._strength = strength
        self._before = copy.deepcopy(start.decoder).eval().requires_grad_(False)

    def loss(self, step: Step) -> torch.Tensor:
        """See the class."""
        old = step.batch["rehearsal"]
        if not old.any():
            return step.logits.sum() * 0
        with torch.no_grad():
            known = self._before(**{name: values[old] for name, values in step.batch.items()}).logits
        now = log_softmax(step.logits[step.rehearsal].float(), dim=-1)
        before = log_softmax(known.float(), dim=-1)
        return self._strength * kl_div(now, before, log_target=True, reduction="batchmean")


# ---------------------------------------------------------------- Fisher information


def fisher_information(
    decoder: CachedDecoder, trained: Mapping[str, nn.Parameter], batches: Iterable[dict[str, torch.Tensor]]
) -> dict[str, torch.Tensor]:
    """Diagonal of the empirical Fisher information: mean over examples of the squared gradient of their summed loss.

    ``batches``: one old example each, since squares of sums are not sums of squares.
    """
    total = {name: torch.zeros_like(p) for name, p in trained.items()}
    n = 0
    for batch in batches:
        if len(batch["states"]) != 1:
            raise ValueError("the Fisher information takes one example at a time")
        decoder.zero_grad(set_to_none=True)
        step = decoder(**batch)
        loss = cross_entropy(step.logits.float(), step.labels, reduction="sum")
        loss.backward()  # type: ignore[no-untyped-call]
        for name, p in trained.items():
            if p.grad is not None:
                total[name] += p.grad.square()
        n += 1
    decoder.zero_grad(set_to_none=True)
    if n == 0:
        raise ValueError("there is nothing to estimate the Fisher information on")
    return {name: values / n for name, values in total.items()}


def save_values(path: Path, values: Values, **about: str) -> None:
    """Write named values and the settings that they depend on (safetensors)."""
    from safetensors.torch import save_file

    with atomic_file(path) as temporary:
        save_file({name: v.contiguous() for name, v in values.items()}, temporary, metadata=about)


def load_values(path: Path, **about: str) -> dict[str, torch.Tensor]:
    """Read a file of `save_values`.

    Raises:
        ResultsError: the settings differ, or the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            stated = file.metadata() or {}
            values = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except (OSError, SafetensorError) as e:
        raise ResultsError(f"{path}: can't be read ({e}); delete it, it is made again") from e
    for name, value in about.items():
        if stated.get(name) != value:
            raise ResultsError(f"{path}: made with {name} {stated.get(name)!r}, not {value!r}; delete it")
    return values
