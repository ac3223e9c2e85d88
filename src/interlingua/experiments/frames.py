"""A corpus's frames, changed before they are compared: quiet ones left out, or those of several layers side by side."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from interlingua.audio import load_audio
from interlingua.errors import UsageError
from interlingua.experiments.retrieval import Corpus
from interlingua.types import SAMPLE_RATE, FrameArray, Utterance


def without_quiet(
    corpus: Corpus, utterances: Iterable[Utterance], decibels: float, rate: float, pooling: int = 1
) -> Corpus:
    """Leave out frames that are this much quieter than the utterance's loudest frame.

    Args:
        corpus: whose audio can be read.
        utterances: those of the corpus.
        decibels: below the loudest encoder frame; more than 0.
        rate: encoder frames per second.
        pooling: encoder frames in one frame of the corpus; it stays if one of them is loud.

    Raises:
        UsageError: ``decibels`` isn't above 0.
        AudioError: a recording can't be read.
    """
    if not decibels > 0:
        raise UsageError(f"--drop-quiet {decibels}: name decibels below the loudest frame, such as 40")
    audio = {u.id: u.audio for u in utterances}

    def loud(utterance_id: str, frames: FrameArray) -> FrameArray:
        kept = pooled_any(loud_frames(load_audio(audio[utterance_id]), decibels, rate), pooling)
        return np.asarray(frames[: len(kept)][kept[: len(frames)]])

    return _changed(corpus, loud)


def side_by_side(corpora: Sequence[Corpus]) -> Corpus:
    """Frames of the same utterances from several layers, each made unit, as one: (T, D), (T, E) -> (T, D + E).

    Raises:
        UsageError: an utterance has another number of frames in one of them.
    """
    first, *others = corpora
    frames: dict[str, list[FrameArray | None]] = {}
    for language, held in first.frames.items():
        rows: list[FrameArray | None] = []
        for place, same in enumerate(zip(held, *(c.frames[language] for c in others), strict=True)):
            known = [unit(f) for f in same if f is not None]
            if len({len(f) for f in known}) > 1:
                name = first.items[language].ids[place]
                raise UsageError(f"--beside: {name!r} has {', '.join(str(len(f)) for f in known)} frames; encode alike")
            rows.append(np.hstack(known) if len(known) == len(corpora) else None)
        frames[language] = rows
    return replace(first, frames=frames)


def unit(frames: FrameArray) -> FrameArray:
    """Rows of length one in float32; zero rows stay."""
    norms = np.linalg.norm(frames.astype(np.float32), axis=1, keepdims=True)
    return np.asarray(frames / np.where(norms > 0, norms, 1), dtype=np.float32)


def loud_frames(samples: np.ndarray, decibels: float, rate: float) -> np.ndarray:
    """Which frames are within so many decibels of the loudest, (S,) -> (T,); ``rate`` is frames per second."""
    size = round(SAMPLE_RATE / rate)
    padded = np.pad(samples, (0, -len(samples) % size)).reshape(-1, size)
    power = np.square(padded).mean(axis=1)
    return np.asarray(power >= power.max() * 10 ** (-decibels / 10))


def pooled_any(chosen: np.ndarray, pooling: int) -> np.ndarray:
    """Whether any of every ``pooling`` consecutive values is true, (T,) -> (ceil(T / pooling),)."""
    return np.asarray(np.logical_or.reduceat(chosen, np.arange(0, len(chosen), pooling)))


def _changed(corpus: Corpus, change: Callable[[str, FrameArray], FrameArray]) -> Corpus:
    frames = {
        language: [None if f is None else change(i, f) for i, f in zip(corpus.items[language].ids, held, strict=True)]
        for language, held in corpus.frames.items()
    }
    return replace(corpus, frames=frames)
