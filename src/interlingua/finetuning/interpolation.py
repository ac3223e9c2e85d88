"""Interpolation after training: between the model before and after, the whole curve from one training (WiSE-FT)."""

from collections.abc import Mapping

import torch
from torch import nn

from interlingua.errors import UsageError


def interpolate(
    decoder: nn.Module, before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor], share: float
) -> None:
    """Set parameters to before + share * (after - before) (Wortsman et al., arXiv 2109.01903, equation 1).

    Of merged adapters that is the adapter scaled by ``share``, since their update is added.

    Args:
        decoder: changed in place.
        before: name -> value before training.
        after: the same names -> value after training.
        share: 0 is the model before, 1 the one after; beyond 1 is extrapolation.

    Raises:
        UsageError: a negative share.
        ValueError: the names differ.
    """
    if share < 0:
        raise UsageError(f"--interpolate {share}: use 0 (the model before training) to 1 (the one after)")
    if before.keys() != after.keys():
        raise ValueError("before and after name different parameters")
    held = dict(decoder.named_parameters())
    with torch.no_grad():
        for name, start in before.items():
            held[name].copy_(torch.lerp(start, after[name], share))
