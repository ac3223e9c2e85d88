"""A large gallery out of one language's prompts: perturbed copies of each, until there are enough.

A benchmark of search needs thousands of utterances, and the prompts are 215 in a language. Their copies are
what a real collection also has: other recordings of the same sentence (noise, other speeds, narrow bands: they keep the
prompt's meaning), and recordings that share half a sentence (spliced ones: distractors, with a meaning of their own).
Everything follows from the seed, and a larger gallery begins with the smaller one, so that one store serves both.

    .venv/bin/python benchmarks/gallery.py en 5160        # runs/gallery-en.lance
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np

from interlingua.audio import load_audio
from interlingua.corpora import prepare_prompts
from interlingua.encoding import CHUNK_UTTERANCES, SpeechEncoder, WhisperEncoder, best_compute, best_device, pool_frames
from interlingua.encoding.store import FrameStore
from interlingua.models import load_whisper
from interlingua.progress import track
from interlingua.types import SAMPLE_RATE, Frames, Samples, Utterance

KINDS = ("noise", "speed", "band", "spliced", "speed+noise", "band+noise", "speed+band", "spliced+noise")
SNR = (5.0, 20.0)  # dB
CHANGE = (0.05, 0.15)  # of the speed, up or down
TELEPHONE = ((250.0, 400.0), (3000.0, 3800.0))  # Hz: where telephone bands begin and end; 300 to 3400 is the standard's
LOW_PASS = (1500.0, 4000.0)  # Hz: where low-pass filters end
BABBLE = 4  # prompts that talk at once
FADE = 160  # samples: 10 ms
PAUSE = 0.1  # of the mean amplitude: quieter is a pause
RECIPE = 1  # raise it when the copies change: frames of another recipe are made anew

Random = np.random.Generator
Loader = Callable[[int], Samples]  # the n-th prompt's samples


@dataclass(frozen=True)
class Item:
    """An utterance of the gallery; a distractor's meaning and cluster are its own."""

    id: str
    kind: str  # "original" or one of KINDS
    meaning: str
    cluster: str
    recipe: str  # what the samples were made by
    samples: Callable[[], Samples]


def perturbed(utterances: Sequence[Utterance], total: int, seed: int) -> list[Item]:
    """``total`` items: the utterances as they are, then copies of each in turn, with every kind in turn.

    Raises:
        ValueError: ``total`` is below the number of utterances, or they are all of one cluster (nothing to splice in).
    """
    if total < len(utterances):
        raise ValueError(f"a gallery of {total} can't hold {len(utterances)} originals")
    if len({u.cluster for u in utterances}) < 2:
        raise ValueError("utterances of at least two clusters are needed")
    load = cache(lambda n: load_audio(utterances[n].audio))
    items = []
    for i in range(total):
        copy, n = divmod(i, len(utterances))
        u = utterances[n]
        kind = KINDS[(copy + n) % len(KINDS)] if copy else "original"
        name = f"{u.id}~{copy}.{kind}" if copy else u.id
        own = "spliced" in kind
        items.append(
            Item(
                id=name,
                kind=kind,
                meaning=name if own else str(u.meaning),
                cluster=name if own else str(u.cluster),
                recipe=f"gallery {RECIPE}, seed {seed}, item {i}",
                samples=partial(make, utterances, load, n, kind, seed, i),
            )
        )
    return items


def make(utterances: Sequence[Utterance], load: Loader, n: int, kind: str, seed: int, i: int) -> Samples:
    """Item ``i``: the n-th prompt, with what ``kind`` names done to it."""
    rng = np.random.default_rng((seed, i))
    others = [m for m, u in enumerate(utterances) if u.cluster != utterances[n].cluster]
    samples = load(n)
    for step in kind.split("+"):
        if step == "spliced":
            partners = np.random.default_rng((seed, n)).permutation(others)  # another one for every copy
            samples = splice(samples, load(int(partners[i // len(utterances) % len(partners)])))
        elif step == "speed":
            samples = resample(samples, 1 + rng.choice([-1, 1]) * rng.uniform(*CHANGE))
        elif step == "band":
            edges = TELEPHONE if rng.random() < 0.5 else ((0.0, 0.0), LOW_PASS)
            samples = band_pass(samples, *(rng.uniform(*edge) for edge in edges))
        elif step == "noise":
            noise = pink_noise(len(samples), rng) if rng.random() < 0.5 else babble(len(samples), load, others, rng)
            samples = add_noise(samples, noise, rng.uniform(*SNR))
    return (samples / max(1.0, float(np.abs(samples).max()))).astype(np.float32)


def add_noise(samples: Samples, noise: Samples, snr: float) -> Samples:
    """Both together, the noise ``snr`` dB below the samples (mean power)."""
    power = np.square(samples).mean() / max(float(np.square(noise).mean()), 1e-12)
    return samples + noise * np.sqrt(power * 10 ** (-snr / 10))


def pink_noise(n: int, rng: Random) -> Samples:
    """Noise whose power falls with 1 / frequency."""
    spectrum = np.fft.rfft(rng.normal(size=n))
    return np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), n)


def babble(n: int, load: Loader, others: Sequence[int], rng: Random) -> Samples:
    """Other prompts at once, equally loud, each begun somewhere and repeated until the end."""
    total = np.zeros(n)
    for m in rng.choice(others, size=min(BABBLE, len(others)), replace=False):
        voice = load(int(m))
        voice = np.roll(voice, rng.integers(len(voice))) / max(float(np.sqrt(np.square(voice).mean())), 1e-6)
        total += np.resize(voice, n)
    return total


def resample(samples: Samples, speed: float) -> Samples:
    """Played ``speed`` times as fast, as a tape is: the pitch moves along. Exact for a band-limited period."""
    n = max(1, round(len(samples) / speed))
    return np.fft.irfft(np.fft.rfft(samples), n) * (n / len(samples))


def band_pass(samples: Samples, low: float, high: float, edge: float = 100.0) -> Samples:
    """Frequencies from ``low`` to ``high`` Hz, with cosine edges ``edge`` Hz wide outside; 0 Hz passes if ``low`` is 0."""
    frequencies = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
    outside = np.maximum(np.maximum(low - frequencies, frequencies - high), 0) / edge
    gain = 0.5 + 0.5 * np.cos(np.pi * np.minimum(outside, 1))
    return np.fft.irfft(np.fft.rfft(samples) * gain, len(samples))


def splice(head: Samples, tail: Samples) -> Samples:
    """The beginning of one and the end of another, equally loud, cross-faded at the cuts."""
    begin, end = head[: cut_point(head)], tail[cut_point(tail) :]
    end = end * (np.sqrt(np.square(head).mean()) / max(float(np.sqrt(np.square(tail).mean())), 1e-6))
    fade = min(FADE, len(begin), len(end))
    ramp = np.linspace(0, 1, fade)
    seam = begin[len(begin) - fade :] * (1 - ramp) + end[:fade] * ramp
    return np.concatenate([begin[: len(begin) - fade], seam, end[fade:]])


def cut_point(samples: Samples) -> int:
    """The middle of the quietest 60 ms of the middle half if they are a pause, else the middle."""
    width = 3 * SAMPLE_RATE // 50
    quarter = len(samples) // 4
    sums = np.cumsum(np.abs(samples[quarter : len(samples) - quarter]), dtype=np.float64)
    if len(sums) <= width:
        return len(samples) // 2
    loudness = (sums[width:] - sums[:-width]) / width
    quietest = int(loudness.argmin())
    if loudness[quietest] > PAUSE * np.abs(samples).mean():
        return len(samples) // 2
    return quarter + quietest + 1 + width // 2


def encode_items(items: Sequence[Item], encoder: SpeechEncoder, path: str | Path, pooling: int = 1) -> FrameStore:
    """Encode what the store at ``path`` doesn't hold yet, as `interlingua.encoding.encode_manifest` does, in float16.

    Every chunk is committed: a run that is killed goes on where it was. The store may hold more items than these.
    """
    store = FrameStore.open_or_create(path, replace(encoder.spec, pooling=pooling), encoder.dim)
    held = store.hashes()
    todo = [item for item in items if held.get(item.id) != item.recipe]
    with track(len(todo), f"encoding {Path(path).stem}") as advance:
        for start in range(0, len(todo), CHUNK_UTTERANCES):
            chunk = todo[start : start + CHUNK_UTTERANCES]
            encoded = encoder.encode([item.samples() for item in chunk])
            pooled = [pool_frames(values[:n], pooling).astype(np.float16) for values, n in encoded]
            store.write([Frames(i.id, f, len(f), i.recipe) for i, f in zip(chunk, pooled, strict=True)])
            advance(len(chunk))
    return store


def gallery_frames(
    language: str, total: int, pooling: int = 1, path: str | Path | None = None, seed: int = 0
) -> tuple[FrameStore, list[Item]]:
    """The gallery of a language and its frames; read those with ``store.read([item.id for item in items])``.

    Whisper-base without context, in bfloat16 where the machine has it; 0.1 to 0.2 s an item on two cores.

    Args:
        language: of the prompts: en, es, fr, it or ru.
        total: items, the 215 originals among them.
        pooling: frames averaged into one.
        path: the store; default runs/gallery-<language>.lance.
        seed: of the perturbations; another one makes the copies anew.
    """
    items = perturbed([u for u in prepare_prompts() if u.language == language], total, seed)
    device = best_device()
    encoder = WhisperEncoder(load_whisper("base", device=device, dtype=best_compute(device)), context="speech")
    return encode_items(items, encoder, path or f"runs/gallery-{language}.lance", pooling), items


if __name__ == "__main__":
    gallery_frames(sys.argv[1], int(sys.argv[2]))
