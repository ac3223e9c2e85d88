"""Greedy decoding from encoder states that lie in a frame store."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from interlingua.models import Task, Whisper
from interlingua.translation.decoder import decode, pad_states
from interlingua.types import FrameArray, Frames, Hypothesis

BATCH_UTTERANCES = 16


def translate_frames(
    whisper: Whisper, frames: Sequence[Frames], language: str, *, task: Task = "translate"
) -> Iterator[Hypothesis]:
    """Translate utterances of one source language into English, or transcribe them; see `decode_frames`.

    Raises:
        UntrainedTaskError, EnglishOnlyModelError: translation is asked of a model that can't.
    """
    if task == "translate":
        whisper.require_translation()
    return decode_frames(whisper, frames, whisper.prompt(language, task))


def decode_frames(
    whisper: Whisper, frames: Sequence[Frames], prompt: Sequence[int], *, most_tokens: int | None = None
) -> Iterator[Hypothesis]:
    """Decode utterances under one prompt, greedily, without timestamps.

    Equals transformers' ``generate`` with ``do_sample=False`` and one beam.

    Args:
        whisper: the model that made the frames, or one whose decoder was trained further.
        frames: with their context (all T frames are read); see `interlingua.encoding` on why it matters.
        prompt: first tokens of the decoder, such as ``Whisper.prompt`` gives.
        most_tokens: longest output; None is what the decoder has positions for.

    Yields:
        One hypothesis an utterance, the longest utterances first; join by id.
    """
    ordered = sorted(frames, key=lambda f: -len(f.values))  # of like length together, so that little is padded
    for start in range(0, len(ordered), BATCH_UTTERANCES):
        batch = ordered[start : start + BATCH_UTTERANCES]
        outputs = _greedy(whisper, [f.values for f in batch], prompt, most_tokens)
        for f, (tokens, log_probability) in zip(batch, outputs, strict=True):
            text = whisper.tokenizer.decode(tokens, skip_special_tokens=True).strip()
            yield Hypothesis(f.id, text, tokens, log_probability)


def greedy_tokens(
    whisper: Whisper, states: Sequence[FrameArray], prompt: Sequence[int], *, most_tokens: int | None = None
) -> list[list[int]]:
    """Most likely token by token: B encoder states (T, D) -> B lists of new tokens.

    Tokens that the generation config suppresses (always, or as the first one) are never chosen. Stops at the
    end token, which is left out, or when the decoder's positions are used up.
    """
    return [tokens for tokens, _ in _greedy(whisper, states, prompt, most_tokens)]


def _greedy(
    whisper: Whisper, states: Sequence[FrameArray], prompt: Sequence[int], most_tokens: int | None
) -> list[tuple[list[int], float]]:
    """See `greedy_tokens`; with the mean log-probability of each output's tokens and its end."""
    model = whisper.model
    settings = model.generation_config
    reference = model.proj_out.weight
    padded, lengths = pad_states(states)
    hidden = padded.to(reference.device, reference.dtype)
    never = list(settings.suppress_tokens or [])
    not_first = list(settings.begin_suppress_tokens or [])
    end = settings.eos_token_id
    end = end[0] if isinstance(end, list) else end
    budget = model.config.max_target_positions - len(prompt)
    budget = budget if most_tokens is None else min(budget, most_tokens)
    outputs: list[list[int]] = [[] for _ in states]
    chances: list[list[float]] = [[] for _ in states]  # log-probabilities
    rows = list(range(len(states)))  # of the batch, as places in `outputs`; those that ended leave it by and by
    alive = torch.ones(len(states), dtype=torch.bool, device=hidden.device)
    inputs = torch.tensor([list(prompt)] * len(states), device=hidden.device)
    cache = None
    with torch.inference_mode():
        for step in range(budget):
            decoded = decode(model.model.decoder, inputs, hidden, lengths, cache=cache, use_cache=True)
            cache = decoded.past_key_values
            logits = model.proj_out(decoded.last_hidden_state[:, -1]).float()
            logits[:, never + not_first if step == 0 else never] = -torch.inf
            best, chosen = logits.log_softmax(dim=-1).max(dim=-1)
            _append([chances[row] for row in rows], best, alive)
            alive &= chosen != end
            if not alive.any():
                break
            _append([outputs[row] for row in rows], chosen, alive)
            inputs = torch.where(alive, chosen, end)[:, None]
            if 2 * int(alive.sum()) <= len(rows):
                going = alive.nonzero()[:, 0]
                cache.batch_select_indices(going)
                hidden, lengths, inputs, alive = (x[going.to(x.device)] for x in (hidden, lengths, inputs, alive))
                rows = [rows[i] for i in going.tolist()]
    return [(tokens, sum(c) / len(c) if c else 0.0) for tokens, c in zip(outputs, chances, strict=True)]


def _append(outputs: list[list[Any]], chosen: torch.Tensor, alive: torch.Tensor) -> None:
    for output, token, goes_on in zip(outputs, chosen.tolist(), alive.tolist(), strict=True):
        if goes_on:
            output.append(token)
