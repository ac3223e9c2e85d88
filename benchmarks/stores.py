"""Frames of the prompts, encoded once and shared by the benchmarks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from interlingua.corpora import prepare_prompts
from interlingua.encoding import WhisperEncoder, best_compute, encode_manifest
from interlingua.encoding.store import FrameStore
from interlingua.models import load_whisper
from interlingua.types import FrameArray, Utterance

OUT = Path("runs/study")
COMPUTE = best_compute()


def encoded(
    utterances: Sequence[Utterance], name: str, *, context: str = "speech", pooling: int = 1, layer: int | None = None
) -> FrameStore:
    """The store of this name, filled with what it doesn't hold yet."""
    encoder = WhisperEncoder(load_whisper("base", dtype=COMPUTE), context=context, layer=layer)
    return encode_manifest(utterances, encoder, OUT / f"{name}.lance", pooling=pooling, label=name)[0]


def prompt_frames() -> tuple[dict[str, list[FrameArray]], list[str], list[str]]:
    """Unpooled speech frames of each language in one order of meanings; the meanings, and their clusters."""
    utterances = prepare_prompts()
    held = {f.id: f.speech.astype(np.float32) for f in encoded(utterances, "frames")}
    languages: dict[str, dict[str, Utterance]] = {}
    for u in utterances:
        languages.setdefault(u.language, {})[str(u.meaning)] = u
    meanings = list(next(iter(languages.values())))
    frames = {lang: [held[by_meaning[m].id] for m in meanings] for lang, by_meaning in languages.items()}
    return frames, meanings, [str(languages["en"][m].cluster) for m in meanings]
