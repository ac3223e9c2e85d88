"""Frames of the prompts, encoded once and shared by the benchmarks; and names for what is kept between runs."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

import interlingua
from interlingua.corpora import prepare_prompts
from interlingua.encoding import WhisperEncoder, best_compute, encode_manifest
from interlingua.encoding.store import FrameStore
from interlingua.models import load_whisper
from interlingua.types import FrameArray, Frames, Utterance

OUT = Path("runs/study")
COMPUTE = best_compute()
PACKAGE = Path(interlingua.__file__).parent
LOCKS = [Path(__file__).parent.parent / name for name in ("requirements.lock", "torch.lock")]


def encoded(
    utterances: Sequence[Utterance], name: str, *, context: str = "speech", pooling: int = 1, layer: int | None = None
) -> FrameStore:
    """The store of this name, filled with what it doesn't hold yet."""
    encoder = WhisperEncoder(load_whisper("base", dtype=COMPUTE), context=context, layer=layer)
    return encode_manifest(utterances, encoder, OUT / f"{name}.lance", pooling=pooling, label=name)[0]


def subset(store: FrameStore, utterances: Sequence[Utterance], path: Path) -> FrameStore:
    """A store at ``path`` with these utterances alone, described as they are given."""
    made = FrameStore.open_or_create(path, store.spec, store.dim)
    found = zip(store.read([u.id for u in utterances]), utterances, strict=True)
    made.write([Frames(f.id, f.values, f.n_speech, f.audio_hash, u) for f, u in found])
    return made


def key(code: Sequence[str], *inputs: Any) -> str:
    """Name of what is made of some of the package's code, the locked libraries and inputs: another if any changed."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in LOCKS))
    for place in (PACKAGE / name for name in code):
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest.update(path.relative_to(PACKAGE).as_posix().encode() + path.read_bytes())
    digest.update(msgspec.json.encode(inputs, enc_hook=str))
    return digest.hexdigest()[:12]


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
