"""Fast greedy decoding on the CPU: a model as it is in memory, made over for CTranslate2."""

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from interlingua.models import Whisper
from interlingua.models.conversion import Quantization, open_twin
from interlingua.translation.detect import detect_language, language_probabilities
from interlingua.translation.greedy import decode_frames
from interlingua.types import Frames, Hypothesis

BATCH_UTTERANCES = 16
COMPUTE: Quantization = "int8_float32"  # what is deployed on CPUs


class Decoder(Protocol):
    """Something that reads cached encoder states."""

    def decode(
        self, frames: Sequence[Frames], prompt: Sequence[int], most_tokens: int | None = None
    ) -> Iterator[Hypothesis]:
        """Greedy hypotheses under one prompt, in any order; see `greedy.decode_frames`."""
        ...

    def detect(self, frames: Sequence[Frames]) -> dict[str, str]:
        """Utterance id -> the likeliest language by `detect.detect_language`'s rule."""
        ...

    def languages(self, frames: Sequence[Frames]) -> dict[str, dict[str, float]]:
        """Utterance id -> every language's probability; see `detect.language_probabilities`."""
        ...


class Eager:
    """transformers' decoder, on any device.

    Args:
        whisper: is read at every call.
    """

    def __init__(self, whisper: Whisper) -> None:
        self._whisper = whisper

    def decode(
        self, frames: Sequence[Frames], prompt: Sequence[int], most_tokens: int | None = None
    ) -> Iterator[Hypothesis]:
        """See `Decoder`."""
        return decode_frames(self._whisper, frames, prompt, most_tokens=most_tokens)

    def detect(self, frames: Sequence[Frames]) -> dict[str, str]:
        """See `Decoder`."""
        return {f.id: detect_language(self._whisper, f.values)[0] for f in frames}

    def languages(self, frames: Sequence[Frames]) -> dict[str, dict[str, float]]:
        """See `Decoder`."""
        return {f.id: language_probabilities(self._whisper, f.values) for f in frames}


class Twin:
    """The CTranslate2 twin of a model in memory; it doesn't follow what is changed in the model afterwards.

    Args:
        whisper: without adapters in it.
        compute: CTranslate2's number format; float32 gives what `greedy.decode_frames` gives.
    """

    def __init__(self, whisper: Whisper, *, compute: Quantization = COMPUTE) -> None:
        self._workers = torch.get_num_threads()  # one thread a batch: faster than all threads on one batch
        self._model = open_twin(whisper, compute=compute, workers=self._workers, quantization=compute)
        self._whisper = whisper

    def decode(
        self, frames: Sequence[Frames], prompt: Sequence[int], most_tokens: int | None = None
    ) -> Iterator[Hypothesis]:
        """Greedy hypotheses, the longest utterances first; only utterances of equal length share a batch."""
        settings, config = self._whisper.model.generation_config, self._whisper.model.config
        budget = config.max_target_positions - len(prompt)
        budget = budget if most_tokens is None else min(budget, most_tokens)
        options = {
            "beam_size": 1,
            "max_length": max(2 * budget, len(prompt) + budget),  # CTranslate2 stops Whisper at half of it
            "suppress_tokens": list(settings.suppress_tokens or []),
            "suppress_blank": bool(settings.begin_suppress_tokens),
            "return_scores": True,
        }
        for batch, found in self._each(
            frames, lambda states, n: self._model.generate(states, [list(prompt)] * n, asynchronous=True, **options)
        ):
            for f, result in zip(batch, found, strict=True):
                said = result.result()
                tokens = said.sequences_ids[0][:budget]
                text = self._whisper.tokenizer.decode(tokens, skip_special_tokens=True).strip()
                whole = len(tokens) == len(said.sequences_ids[0])  # a budget below the prompt's length is overshot
                chance = mean_log_probability(said.scores[0], len(tokens), ended=len(tokens) < budget)
                yield Hypothesis(f.id, text, tokens, chance if whole else None)

    def detect(self, frames: Sequence[Frames]) -> dict[str, str]:
        """Utterance id -> the likeliest language by `detect.detect_language`'s rule."""
        return {i: max(heard, key=lambda code: heard[code]) for i, heard in self.languages(frames).items()}

    def languages(self, frames: Sequence[Frames]) -> dict[str, dict[str, float]]:
        """Utterance id -> every language's probability; see `detect.language_probabilities`."""
        if not self._model.is_multilingual:  # CTranslate2 tells by the number of tokens
            return Eager(self._whisper).languages(frames)
        heard = {}
        for batch in batches(frames):
            for f, ranked in zip(batch, self._model.detect_language(_states(batch)), strict=True):
                heard[f.id] = {str(token).strip("<|>"): float(chance) for token, chance in ranked}
        return heard

    def _each(
        self, frames: Sequence[Frames], submit: Callable[[Any, int], list[Any]]
    ) -> Iterator[tuple[list[Frames], list[Any]]]:
        """Submit batch after batch, a few ahead of what is taken from them."""
        ahead: deque[tuple[list[Frames], list[Any]]] = deque()
        for batch in batches(frames):
            ahead.append((batch, submit(_states(batch), len(batch))))
            if len(ahead) > 2 * self._workers:
                yield ahead.popleft()
        yield from ahead


def fast_decoder(whisper: Whisper, *, compute: Quantization = COMPUTE) -> Decoder:
    """The fastest greedy decoder of cached states on the model's device, for the model as it is now.

    Args:
        whisper: without adapters in it.
        compute: number format on a CPU.
    """
    return Twin(whisper, compute=compute) if whisper.model.device.type == "cpu" else Eager(whisper)


def mean_log_probability(score: float, n: int, *, ended: bool) -> float:
    """CTranslate2's score of a hypothesis as a mean over its tokens and its end.

    CTranslate2 divides the sum over both by the number of tokens alone.

    Args:
        score: with a length penalty of 1.
        n: tokens.
        ended: whether there was an end token.
    """
    return score * n / (n + 1) if ended and n else score


def batches(frames: Sequence[Frames]) -> Iterator[list[Frames]]:
    """Utterances of equally many states, the longest first."""
    alike: dict[int, list[Frames]] = defaultdict(list)
    for f in frames:
        alike[len(f.values)].append(f)
    for length in sorted(alike, reverse=True):
        for start in range(0, len(alike[length]), BATCH_UTTERANCES):
            yield alike[length][start : start + BATCH_UTTERANCES]


def _states(batch: Sequence[Frames]) -> Any:
    import ctranslate2

    return ctranslate2.StorageView.from_array(np.stack([f.values for f in batch]).astype(np.float32))
