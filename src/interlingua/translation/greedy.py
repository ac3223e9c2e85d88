"""Greedy decoding from encoder states that lie in a frame store."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from interlingua.models import Task, Whisper
from interlingua.types import FrameArray, Frames, Hypothesis

BATCH_UTTERANCES = 16


def translate_frames(
    whisper: Whisper, frames: Sequence[Frames], language: str, *, task: Task = "translate"
) -> Iterator[Hypothesis]:
    """Decode utterances of one source language, greedily, without timestamps.

    Equals transformers' ``generate`` with ``do_sample=False`` and one beam. Utterances are batched by equal
    length T, since a decoder that sees padding behind the context is not the same decoder.

    Args:
        whisper: the model that made the frames.
        frames: with their context (all T frames are read); see `interlingua.encode` on why it matters.
        language: the language spoken.
        task: ``translate`` (into English) or ``transcribe``.

    Yields:
        One hypothesis an utterance, grouped by length rather than in the order given; join by id.

    Raises:
        UntrainedTaskError, EnglishOnlyModelError: translation is asked of a model that can't.
    """
    if task == "translate":
        whisper.require_translation()
    prompt = whisper.prompt(language, task)
    by_length: dict[int, list[Frames]] = {}
    for f in frames:
        by_length.setdefault(len(f.values), []).append(f)
    for group in by_length.values():
        for start in range(0, len(group), BATCH_UTTERANCES):
            batch = group[start : start + BATCH_UTTERANCES]
            outputs = greedy_tokens(whisper, [f.values for f in batch], prompt)
            for f, tokens in zip(batch, outputs, strict=True):
                text = whisper.tokenizer.decode(tokens, skip_special_tokens=True).strip()
                yield Hypothesis(f.id, text, tokens)


def greedy_tokens(whisper: Whisper, states: Sequence[FrameArray], prompt: Sequence[int]) -> list[list[int]]:
    """Most likely token by token: B encoder states (T, D) of equal T -> B lists of new tokens.

    Tokens that the generation config suppresses (always, or as the first one) are never chosen. Stops at the
    end token, which is left out, or when the decoder's positions are used up.
    """
    model = whisper.model
    settings = model.generation_config
    reference = model.proj_out.weight
    hidden = torch.from_numpy(np.stack(states)).to(reference.device, reference.dtype)
    never = list(settings.suppress_tokens or [])
    not_first = list(settings.begin_suppress_tokens or [])
    end = settings.eos_token_id
    end = end[0] if isinstance(end, list) else end
    budget = model.config.max_target_positions - len(prompt)
    outputs: list[list[int]] = [[] for _ in states]
    alive = torch.ones(len(states), dtype=torch.bool, device=hidden.device)
    inputs = torch.tensor([list(prompt)] * len(states), device=hidden.device)
    cache = None
    with torch.inference_mode():
        for step in range(budget):
            decoded = model.model.decoder(
                input_ids=inputs, encoder_hidden_states=hidden, past_key_values=cache, use_cache=True
            )
            cache = decoded.past_key_values
            logits = model.proj_out(decoded.last_hidden_state[:, -1]).float()
            logits[:, never + not_first if step == 0 else never] = -torch.inf
            chosen = logits.argmax(dim=-1)
            alive &= chosen != end
            if not alive.any():
                break
            _append(outputs, chosen, alive)
            inputs = torch.where(alive, chosen, end)[:, None]
    return outputs


def _append(outputs: list[list[int]], chosen: torch.Tensor, alive: torch.Tensor) -> None:
    for output, token, goes_on in zip(outputs, chosen.tolist(), alive.tolist(), strict=True):
        if goes_on:
            output.append(token)
