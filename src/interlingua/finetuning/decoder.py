"""The trained part of the model: a decoder that reads cached encoder states and knows its loss."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from interlingua.finetuning.examples import IGNORED
from interlingua.models import Whisper
from interlingua.translation import decode


@dataclass(frozen=True, eq=False)
class Step:
    """What one forward pass knows; remedies add to its loss.

    Attributes:
        batch: as `examples.collate` makes it.
        logits: (P, V) of the P places that have a label.
        labels: (P,) tokens to be predicted there.
        rehearsal: (P,) whether the place belongs to an old task.
    """

    batch: dict[str, torch.Tensor]
    logits: torch.Tensor
    labels: torch.Tensor
    rehearsal: torch.Tensor

    def loss(self, old: bool = False) -> torch.Tensor:
        """Mean cross entropy over the places of the new task, or of the old ones; 0 where there are none."""
        chosen = self.rehearsal == old
        if not chosen.any():
            return self.logits.sum() * 0
        return cross_entropy(self.logits[chosen].float(), self.labels[chosen])


class CachedDecoder(nn.Module):
    """Whisper's decoder and output layer on cached states; the encoder is no part of it.

    The output layer, 51,865 tokens wide, is computed only where there is a label.
    """

    def __init__(self, whisper: Whisper) -> None:
        super().__init__()
        self.decoder = whisper.model.model.decoder
        self.proj_out = whisper.model.proj_out

    def forward(self, **batch: torch.Tensor) -> Step:
        """A batch of `examples.collate` -> logits and labels."""
        states = batch["states"].to(self.proj_out.weight.dtype)
        hidden: Any = decode(self.decoder, batch["tokens"], states, batch["lengths"]).last_hidden_state
        labelled = batch["labels"] != IGNORED
        rehearsal = batch["rehearsal"][:, None].expand_as(labelled)[labelled]
        return Step(batch, self.proj_out(hidden[labelled]), batch["labels"][labelled], rehearsal)
