"""Whisper's decoder on encoder states of different lengths in one batch."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from interlingua.types import FrameArray


def pad_states(states: Sequence[FrameArray]) -> tuple[torch.Tensor, torch.Tensor]:
    """B arrays (T, D) -> zero-padded (B, longest T, D) in their own dtype, and their lengths (B,)."""
    lengths = [len(s) for s in states]
    padded = np.zeros((len(states), max(lengths), states[0].shape[1]), dtype=states[0].dtype)
    for row, s in zip(padded, states, strict=True):
        row[: len(s)] = s
    return torch.from_numpy(padded), torch.tensor(lengths)


def decode(
    decoder: Any,
    tokens: Int[torch.Tensor, "B L"],
    states: Float[torch.Tensor, "B T D"],
    lengths: Int[torch.Tensor, "B"],
    *,
    cache: Any = None,
    use_cache: bool = False,
) -> Any:
    """Run transformers' ``WhisperDecoder`` so that each utterance gets what it would get alone.

    With a cache, ``tokens`` are the new ones only.
    """
    with masked(decoder, states, lengths):
        return decoder(input_ids=tokens, encoder_hidden_states=states, past_key_values=cache, use_cache=use_cache)


@contextmanager
def masked(decoder: Any, states: Float[torch.Tensor, "B T D"], lengths: Int[torch.Tensor, "B"]) -> Iterator[None]:
    """Keep the decoder from attending to padding: states at or after each row's length.

    transformers' ``WhisperDecoder`` takes no such mask, but its layers do. Beams of a row are adjacent.
    """
    if not bool((lengths < states.shape[1]).any()):
        yield
        return
    behind = torch.arange(states.shape[1], device=states.device) >= lengths.to(states.device)[:, None]
    mask = torch.zeros(behind.shape, dtype=states.dtype, device=states.device)
    mask = mask.masked_fill(behind, torch.finfo(states.dtype).min)[:, None, None]

    def hand_over(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        beams = len(args[0]) // len(mask)
        return args, {**kwargs, "encoder_attention_mask": mask.repeat_interleave(beams, dim=0) if beams > 1 else mask}

    with ExitStack() as stack:
        for layer in decoder.layers:
            stack.callback(layer.register_forward_pre_hook(hand_over, with_kwargs=True).remove)
        yield
