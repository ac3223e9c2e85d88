"""The trained part of the model: a decoder on encoder states, the choice of its parameters, and interpolation."""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from interlingua.encoding.whisper import through_layers
from interlingua.errors import UsageError
from interlingua.finetuning.config import FrozenLayers, Trainable
from interlingua.finetuning.data import IGNORED, States
from interlingua.models import Whisper
from interlingua.translation import decode, pad_states
from interlingua.types import Frames

Values = Mapping[str, torch.Tensor]
"""Parameters by name."""

UPPER_BATCH = 8  # utterances at a time
_LORA_TARGETS = ("q_proj", "v_proj", "k_proj", "out_proj", "fc1", "fc2")
_CROSS_ATTENTION = "encoder_attn"  # in names of its parameters, and of its norm's


@dataclass(frozen=True, eq=False)
class Step:
    """One forward pass: ``logits`` (P, V) and ``labels`` (P,) of P labelled positions; ``rehearsal`` (P,): old task."""

    batch: dict[str, torch.Tensor]
    logits: torch.Tensor
    labels: torch.Tensor
    rehearsal: torch.Tensor

    def loss(self, old: bool = False) -> torch.Tensor:
        """Mean cross entropy over the positions of the new task, or of the old ones; 0 where there are none."""
        chosen = self.rehearsal == old
        if not chosen.any():
            return self.logits.sum() * 0
        return cross_entropy(self.logits[chosen].float(), self.labels[chosen])


class UpperLayers(nn.Module):
    """The encoder's topmost layers and its final layer norm, on the residual stream below them."""

    def __init__(self, encoder: Any, n: int) -> None:
        super().__init__()
        first = len(encoder.layers) - n
        self.layers = nn.ModuleDict({str(i): encoder.layers[i] for i in range(first, len(encoder.layers))})
        self.layer_norm = encoder.layer_norm

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """(B, T, D), (B,) -> (B, T, D): encoder states; rows behind ``lengths`` are undefined."""
        normed: torch.Tensor = self.layer_norm(through_layers(x, lengths, self.layers.values()))
        return normed


class CachedDecoder(nn.Module):
    """Whisper's decoder and output layer on cached states, without the encoder, or with ``encoder_layers`` of its top.

    Parameters have the names that they have in ``whisper.model.model``. The output layer, 51,865 tokens wide, is
    computed only where there is a label.
    """

    def __init__(self, whisper: Whisper, encoder_layers: int = 0) -> None:
        super().__init__()
        self.decoder = whisper.model.model.decoder
        self.encoder = UpperLayers(whisper.model.model.encoder, encoder_layers) if encoder_layers else None
        self.proj_out = whisper.model.proj_out

    def forward(self, **batch: torch.Tensor) -> Step:
        """A batch of `data.collate` -> logits and labels."""
        states = batch["states"].to(self.proj_out.weight.dtype)
        if self.encoder is not None:
            states = self.encoder(states, batch["lengths"])
        hidden: Any = decode(self.decoder, batch["tokens"], states, batch["lengths"]).last_hidden_state
        labelled = batch["labels"] != IGNORED
        rehearsal = batch["rehearsal"][:, None].expand_as(labelled)[labelled]
        return Step(batch, self.proj_out(hidden[labelled]), batch["labels"][labelled], rehearsal)


class UpperStates:
    """Encoder states of a model as it is now, from stored ones of the layer below the trained ``n``."""

    def __init__(self, stored: States, whisper: Whisper, n: int) -> None:
        self._stored, self._whisper = stored, whisper
        self._upper = UpperLayers(whisper.model.model.encoder, n)

    def __contains__(self, utterance_id: object) -> bool:
        return utterance_id in self._stored

    def read(self, ids: Sequence[str]) -> list[Frames]:
        """States in the order of ``ids``; raises StoreError as the stored ones do."""
        parameter = next(self._upper.parameters())
        found: list[Frames] = []
        for start in range(0, len(ids), UPPER_BATCH):
            below = self._stored.read(ids[start : start + UPPER_BATCH])
            states, lengths = pad_states([f.values for f in below])
            with torch.inference_mode():
                values = self._upper(states.to(parameter.device, parameter.dtype), lengths.to(parameter.device))
            rows = values.float().cpu().numpy()
            found += [replace(f, values=v[:n]) for f, v, n in zip(below, rows, lengths.tolist(), strict=True)]
        return found

    def n_speech(self) -> Mapping[str, int]:
        """Frames of speech of every utterance."""
        return self._stored.n_speech()


# ---------------------------------------------------------------- which parameters are trained


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adapters (Hu et al., arXiv 2106.09685) in every projection of decoder layers, times alpha / rank."""

    rank: int = 16
    alpha: float = 32.0


def choose_parameters(
    whisper: Whisper,
    trainable: Trainable,
    *,
    embeddings: bool = False,
    frozen_layers: FrozenLayers = 0,
    encoder_layers: int = 0,
    token: int | None = None,
    lora: LoraSettings | None = None,
) -> dict[str, nn.Parameter]:
    """Freeze all parameters but those to train, and return these by their names in ``whisper.model.model``.

    Args:
        whisper: changed in place; with ``lora`` its decoder gets adapters, which `merge_adapters` merges.
        trainable: ``decoder`` (all its layers), ``cross-attention`` (those blocks and their norms), ``lora``, or
            ``target`` (the embedding of the target's token alone: outputs that don't use it can't change).
        embeddings: also the token embeddings, which are the output layer, too.
        frozen_layers: number of lowest decoder layers that stay frozen; ``half`` of them: none of ``target``.
        encoder_layers: number of topmost encoder layers that are trained too, with the final layer norm.
        token: id of the target's token, for ``target``.

    Raises:
        UsageError: nothing to train, or options that don't go together.
    """
    model, decoder = whisper.model, whisper.model.model.decoder
    n_layers = len(decoder.layers)
    if frozen_layers == "half":
        frozen_layers = 0 if trainable == "target" else n_layers // 2
    if not 0 <= frozen_layers <= n_layers:
        raise UsageError(f"--frozen-layers {frozen_layers}: {whisper.model_name} has {n_layers} decoder layers")
    if frozen_layers and trainable == "target":
        raise UsageError("--trainable target trains no layer; leave --frozen-layers out")
    if encoder_layers and trainable == "target":
        raise UsageError("--trainable target trains one embedding; leave --train-encoder-layers out")
    if embeddings and trainable == "target":
        raise UsageError("--trainable target trains one embedding, --embeddings all of them; leave one out")
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    if hasattr(decoder.embed_tokens, "only_row"):  # of an earlier training
        decoder.embed_tokens.only_row.remove()
    if trainable == "lora" and frozen_layers < n_layers:
        _add_adapters(decoder, lora or LoraSettings(), range(frozen_layers, n_layers))
    if trainable == "target":
        if token is None:
            raise UsageError("--trainable target needs the target's token")
        _train_row(decoder.embed_tokens, token)
    else:
        for name, parameter in decoder.named_parameters():
            if _is_trained(name, trainable, frozen_layers):
                parameter.requires_grad_(True)
    if embeddings:
        decoder.embed_tokens.weight.requires_grad_(True)
    if encoder_layers:
        UpperLayers(model.model.encoder, encoder_layers).requires_grad_(True)
    chosen = dict(trained_parameters(model.model))
    if not chosen:
        raise UsageError(f"--trainable {trainable} --frozen-layers {frozen_layers} leaves nothing to train")
    return chosen


def trained_parameters(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Names and values of the trained parameters."""
    return ((name, p) for name, p in module.named_parameters() if p.requires_grad)


def merge_adapters(decoder: nn.Module) -> None:
    """Merge adapters into their matrices, and remove them."""
    from peft.tuners.lora import LoraLayer

    for name, module in list(decoder.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            parent, _, child = name.rpartition(".")
            setattr(decoder.get_submodule(parent), child, module.get_base_layer())
    vars(decoder).pop("peft_config", None)  # or peft warns of a second adapter next time


def merged_copy(whisper: Whisper) -> Whisper:
    """A copy of the current model with its adapters merged."""
    copied = replace(whisper, model=copy.deepcopy(whisper.model))
    copied.model.tie_weights()
    merge_adapters(copied.model.model.decoder)
    return copied


def _is_trained(name: str, trainable: Trainable, frozen_layers: int) -> bool:
    layer = re.match(r"layers\.(\d+)\.(.*)", name)
    if layer and int(layer[1]) < frozen_layers:
        return False
    if trainable == "lora":
        return "lora_" in name
    if trainable == "cross-attention":
        return bool(layer) and _CROSS_ATTENTION in name
    return "embed_" not in name  # token embeddings are chosen separately, positions stay frozen


def _add_adapters(decoder: nn.Module, settings: LoraSettings, layers: range) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    if settings.rank < 1:
        raise UsageError(f"--lora-rank {settings.rank}: use 1 or more")
    config: Any = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules=list(_LORA_TARGETS),
        layers_to_transform=list(layers),
        layers_pattern="layers",
    )
    inject_adapter_in_model(config, decoder)


def _train_row(embedding: Any, row: int) -> None:
    """Let gradients reach one row of the embeddings only."""
    embedding.weight.requires_grad_(True)

    def keep(gradient: torch.Tensor) -> torch.Tensor:
        kept = torch.zeros_like(gradient)
        kept[row] = gradient[row]
        return kept

    embedding.only_row = embedding.weight.register_hook(keep)


# ---------------------------------------------------------------- before and after


@dataclass(frozen=True, eq=False)
class Update:
    """Parameters of ``whisper.model.model`` changed by training, before and after: the two ends of WiSE-FT's curve."""

    before: Values
    after: Values

    def apply(self, whisper: Whisper, alpha: float, cross_attention: float | None = None) -> None:
        """Set the model to an interpolation of the two, see `interpolate`."""
        interpolate(whisper.model.model, self.before, self.after, alpha, cross_attention)


def update_between(before: Values, module: nn.Module) -> Update:
    """The parameters of a module that differ from ``before``."""
    now = dict(module.named_parameters())
    moved = [name for name, start in before.items() if not torch.equal(start, now[name])]
    return Update({n: before[n] for n in moved}, {n: now[n].detach().clone() for n in moved})


def snapshot(parameters: Mapping[str, nn.Parameter]) -> dict[str, torch.Tensor]:
    """A copy of the values."""
    return {name: p.detach().clone() for name, p in parameters.items()}


def interpolate(
    module: nn.Module, before: Values, after: Values, alpha: float, cross_attention: float | None = None
) -> None:
    """Set parameters to before + alpha * (after - before) (Wortsman et al., arXiv 2109.01903, equation 1).

    For merged adapters this scales the adapter by ``alpha``. Above 1 is extrapolation; below 0 raises UsageError.
    ``cross_attention``: alpha of those blocks and their norms, where it is another.
    """
    if alpha < 0:
        raise UsageError(f"--interpolate {alpha}: use 0 (the model before training) to 1 (the one after)")
    if before.keys() != after.keys():
        raise ValueError("before and after name different parameters")
    held = dict(module.named_parameters())
    with torch.no_grad():
        for name, start in before.items():
            own = alpha if cross_attention is None or _CROSS_ATTENTION not in name else cross_attention
            held[name].copy_(torch.lerp(start, after[name], own))
