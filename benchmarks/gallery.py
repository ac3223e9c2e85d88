"""Galleries of any size out of the prompts: real speech, multiplied by a stated recipe; everything follows from the seed.

* **Originals**: prompts of four English words or more, as they are: 215 in each language.
* **Held out**: the meanings of every sixth cluster of near-duplicates. They stand in the gallery as originals, once in
  each language, and in nothing else, so that their recordings are queries for their translations. (``held=False``: no
  meaning is treated so.)
* **Copies**, the languages in turn: an original (one in three), or a splice, two or three prompts of the language in a
  row with pauses between: a sentence that exists nowhere else, from prompts of one word too. Then one to three of:
  speed (0.9 to 1.1 times, pitch kept), pitch (up to 3 semitones, speed kept), noise (pink, or four other voices, at
  5 to 25 dB), a telephone's or low-pass band, and a room (decay of 0.2 to 0.7 s).
* **Beyond what is encoded** (`multiplied`): frames of the head of one copy and of the tail of another, cut anywhere,
  with a tenth of the language's deviation as noise. No encoder has seen these joins.

A larger gallery begins with the smaller one, so that one store serves both.

    .venv/bin/python benchmarks/gallery.py 10000 en es fr it ru      # runs/gallery-en-es-fr-it-ru.lance, pooled by 4
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from interlingua.audio import load_audio
from interlingua.corpora import prepare_prompts
from interlingua.encoding import CHUNK_UTTERANCES, SpeechEncoder, WhisperEncoder, best_compute, best_device, pool_frames
from interlingua.encoding.store import FrameStore
from interlingua.models import load_whisper
from interlingua.progress import track
from interlingua.types import SAMPLE_RATE, AudioRef, FrameArray, Frames, Samples, Utterance

LANGUAGES = ("en", "es", "fr", "it", "ru")
WORDS = 4  # of an original, in English; shorter prompts are spliced only
HELD = 6  # every sixth cluster
SPLICED = 2 / 3  # of the copies
LONGEST = 6.0  # seconds of a prompt that is copied
PAUSE = (0.05, 0.4)  # seconds between spliced prompts
EFFECTS = ("speed", "pitch", "noise", "band", "room")
SPEED = (0.9, 1.1)
SEMITONES = 3.0
SNR = (5.0, 25.0)  # dB
TELEPHONE = ((250.0, 400.0), (3000.0, 3800.0))  # Hz: where telephone bands begin and end; 300 to 3400 is the standard's
LOW_PASS = (1500.0, 4000.0)  # Hz: where low-pass filters end
BABBLE = 4  # prompts that talk at once
DECAY = (0.2, 0.7)  # seconds until a room's sound has fallen by 60 dB
DIRECT = (0.0, 10.0)  # dB, of the direct sound over the room's
CUT = (0.3, 0.7)  # of an utterance: where `multiplied` cuts
JITTER = 0.1  # of a dimension's deviation
RECIPE = 2  # raise it when the copies change: frames of another recipe are made anew

Random = np.random.Generator


@dataclass(frozen=True)
class Item:
    """An utterance of the gallery, and the originals that it came from.

    ``kind`` is "original", or what was done: "spliced+noise". A splice's meaning joins those of its parts by +.
    """

    id: str
    language: str
    kind: str
    sources: tuple[str, ...]
    meaning: str
    held: bool = False
    recipe: str = ""  # what the samples were made by
    samples: Callable[[], Samples] | None = None  # None: made of frames

    @property
    def utterance(self) -> Utterance:
        """Its manifest line, as if the samples lay in a file."""
        return Utterance(id=self.id, audio=AudioRef(f"{self.id}.wav"), language=self.language, meaning=self.meaning)


def gallery(total: int, languages: Sequence[str] = LANGUAGES, *, held: bool = True, seed: int = 0) -> list[Item]:
    """The first ``total`` items: the originals that are held out, other originals and copies in turn, copies.

    Raises ValueError if ``total`` is too small for those held out.
    """
    whole = {u.id for u in prepare_prompts(languages=tuple(languages))}
    utterances = prepare_prompts(languages=tuple(languages), min_words=1)  # whose clusters also hold the short ones
    utterances.sort(key=lambda u: (str(u.meaning), languages.index(u.language)))  # any stretch has all languages alike
    kept_apart = set(sorted({u.group for u in utterances if u.id in whole})[::HELD]) if held else set()
    parts = {lang: [u for u in utterances if u.language == lang and u.group not in kept_apart] for lang in languages}
    load = lru_cache(256)(lambda path: load_audio(AudioRef(path)))
    first: list[Item] = []
    originals: list[Item] = []
    for u in utterances:
        if u.id in whole:
            apart = u.group in kept_apart
            made = _item(u.id, (u,), "original", apart, f"gallery {RECIPE}", partial(load_audio, u.audio))
            (first if apart else originals).append(made)
    if total < len(first):
        raise ValueError(f"a gallery of {total} can't hold the {len(first)} originals that are held out")
    copies = []
    for i in range(total - len(first)):
        language, rng = languages[i % len(languages)], np.random.default_rng((seed, i))
        several = bool(rng.random() < SPLICED)
        fit = [u for u in parts[language] if several or u.id in whole]
        fit = [u for u in fit if float(u.duration or 0) <= LONGEST]
        own = [fit[n] for n in rng.choice(len(fit), 2 + int(rng.random() < 1 / 3) if several else 1, replace=False)]
        effects = [EFFECTS[n] for n in np.sort(rng.choice(len(EFFECTS), rng.integers(1, 4), replace=False))]
        kind = "+".join([*(["spliced"] if several else []), *effects])
        samples = partial(_make, own, parts[language], load, effects, seed, i)
        name, recipe = f"{language}/{i}.{kind}", f"gallery {RECIPE}, seed {seed}, copy {i}"
        copies.append(_item(name, own, kind, False, recipe, samples))
    n = len(languages)
    turns = max(len(originals), len(copies))
    mixed = [item for at in range(0, turns, n) for item in [*originals[at : at + n], *copies[at : at + n]]]
    return [*first, *mixed][:total]


def _item(
    name: str, own: Sequence[Utterance], kind: str, held: bool, recipe: str, samples: Callable[[], Samples]
) -> Item:
    meaning = "+".join(str(u.meaning) for u in own)
    return Item(name, own[0].language, kind, tuple(u.id for u in own), meaning, held, recipe, samples)


def _make(
    own: Sequence[Utterance],
    others: Sequence[Utterance],
    load: Callable[[str], Samples],
    effects: Sequence[str],
    seed: int,
    i: int,
) -> Samples:
    """Copy ``i``: the prompts in a row, then the effects."""
    rng = np.random.default_rng((seed, i, 1))
    samples = in_a_row([load(u.audio.path) for u in own], rng)
    for effect in effects:
        if effect == "speed":
            samples = stretch(samples, 1 / rng.uniform(*SPEED))
        elif effect == "pitch":
            ratio = 2 ** (rng.uniform(-SEMITONES, SEMITONES) / 12)
            samples = resample(stretch(samples, ratio), ratio)
        elif effect == "noise":
            other = [load(others[n].audio.path) for n in rng.choice(len(others), BABBLE, replace=False)]
            noise = pink_noise(len(samples), rng) if rng.random() < 0.5 else babble(len(samples), other, rng)
            samples = add_noise(samples, noise, rng.uniform(*SNR))
        elif effect == "band":
            edges = TELEPHONE if rng.random() < 0.5 else ((0.0, 0.0), LOW_PASS)
            samples = band_pass(samples, *(rng.uniform(*edge) for edge in edges))
        else:
            samples = in_room(samples, rng.uniform(*DECAY), rng.uniform(*DIRECT), rng)
    return (samples / max(1.0, float(np.abs(samples).max()))).astype(np.float32)


def in_a_row(parts: Sequence[Samples], rng: Random) -> Samples:
    """Parts equally loud, with silences between."""
    loudness = [max(float(np.sqrt(np.square(p).mean())), 1e-6) for p in parts]
    pieces: list[Samples] = []
    for part, own in zip(parts, loudness, strict=True):
        pieces += [part * (loudness[0] / own), np.zeros(round(rng.uniform(*PAUSE) * SAMPLE_RATE), np.float32)]
    return np.concatenate(pieces[:-1])


def stretch(samples: Samples, ratio: float, window: int = 640, seek: int = 160) -> Samples:
    """``ratio`` times as long at the same pitch: windows overlap by half, each begun where it fits the one before.

    WSOLA (Verhelst & Roelands, ICASSP 1993); ``window`` and ``seek`` are samples.
    """
    hop, fade = window // 2, np.hanning(window + 1)[:window]
    padded = np.pad(samples.astype(np.float64), (seek, 2 * window + 2 * seek))
    count = max(1, round(len(samples) * ratio) // hop)
    out = np.zeros((count + 1) * hop)
    follows = padded[seek : seek + window]  # what would come next in the recording
    for n in range(count):
        at = min(round(n * hop / ratio), len(samples)) + seek
        around = padded[at - seek : at + seek + window]
        best = at - seek + int(np.correlate(around, follows).argmax()) if n else at
        out[n * hop : n * hop + window] += padded[best : best + window] * fade
        follows = padded[best + hop : best + hop + window]
        if len(follows) < window:
            break
    return out


def resample(samples: Samples, speed: float) -> Samples:
    """Played ``speed`` times as fast, as a tape is: the pitch moves along."""
    n = max(1, round(len(samples) / speed))
    return np.asarray(np.interp(np.arange(n) * (len(samples) / n), np.arange(len(samples)), samples))


def add_noise(samples: Samples, noise: Samples, snr: float) -> Samples:
    """Both together, the noise ``snr`` dB below the samples (mean power)."""
    power = np.square(samples).mean() / max(float(np.square(noise).mean()), 1e-12)
    return samples + noise * float(np.sqrt(power * 10 ** (-snr / 10)))


def pink_noise(n: int, rng: Random) -> Samples:
    """Noise whose power falls with 1 / frequency."""
    size = 1 << n.bit_length()
    spectrum = np.fft.rfft(rng.normal(size=size))
    return np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), size)[:n]


def babble(n: int, voices: Sequence[Samples], rng: Random) -> Samples:
    """Voices at once, equally loud, each begun somewhere and repeated until the end."""
    total = np.zeros(n)
    for voice in voices:
        voice = np.roll(voice, rng.integers(len(voice))) / max(float(np.sqrt(np.square(voice).mean())), 1e-6)
        total += np.resize(voice, n)
    return total


def band_pass(samples: Samples, low: float, high: float, edge: float = 100.0) -> Samples:
    """Frequencies from ``low`` to ``high`` Hz, with cosine edges ``edge`` Hz wide outside; 0 Hz passes if ``low`` is 0."""
    size = 1 << len(samples).bit_length()
    frequencies = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    outside = np.maximum(np.maximum(low - frequencies, frequencies - high), 0) / edge
    gain = 0.5 + 0.5 * np.cos(np.pi * np.minimum(outside, 1))
    return np.fft.irfft(np.fft.rfft(samples, size) * gain, size)[: len(samples)]


def in_room(samples: Samples, decay: float, direct: float, rng: Random) -> Samples:
    """With the sound of a room: noise that falls by 60 dB in ``decay`` seconds, ``direct`` dB below the voice."""
    n = round(decay * SAMPLE_RATE)
    response = rng.normal(size=n) * 10 ** (-3 * np.arange(n) / n)
    response *= 10 ** (-direct / 20) / np.sqrt(np.square(response).sum())
    response[0] = 1
    size = 1 << (len(samples) + n).bit_length()
    return np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(response, size), size)[: len(samples)]


def multiplied(
    items: Sequence[Item], frames: Sequence[FrameArray], total: int, seed: int = 0
) -> Iterator[tuple[Item, FrameArray]]:
    """``total`` further utterances made of the frames, (T, D) each, of encoded items that aren't held out."""
    usable = [n for n, item in enumerate(items) if not item.held]
    languages = sorted({items[n].language for n in usable})
    of = {language: [n for n in usable if items[n].language == language] for language in languages}
    deviation = {
        language: np.concatenate([frames[n] for n in own[:500]]).std(axis=0, dtype=np.float32)
        for language, own in of.items()
    }
    for i in range(total):
        language, rng = languages[i % len(languages)], np.random.default_rng((seed, i, 2))
        head, tail = (of[language][n] for n in rng.choice(len(of[language]), 2, replace=False))
        begin, end = (
            frames[n][piece]
            for n, piece in (
                (head, slice(None, max(1, round(rng.uniform(*CUT) * len(frames[head]))))),
                (tail, slice(min(len(frames[tail]) - 1, round(rng.uniform(*CUT) * len(frames[tail]))), None)),
            )
        )
        joined = np.concatenate([begin, end]).astype(np.float32)
        joined += JITTER * deviation[language] * rng.standard_normal(joined.shape, dtype=np.float32)
        sources = (*items[head].sources, *items[tail].sources)
        yield (
            Item(f"{language}/frames-{i}", language, "frames", sources, f"frames-{language}-{i}"),
            joined.astype(frames[head].dtype),
        )


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
            encoded = encoder.encode([item.samples() for item in chunk if item.samples])
            pooled = [pool_frames(values[:n], pooling).astype(np.float16) for values, n in encoded]
            store.write([Frames(i.id, f, len(f), i.recipe, i.utterance) for i, f in zip(chunk, pooled, strict=True)])
            advance(len(chunk))
    return store


def gallery_frames(
    total: int,
    languages: Sequence[str] = LANGUAGES,
    *,
    held: bool = True,
    pooling: int = 4,
    path: str | Path | None = None,
    seed: int = 0,
) -> tuple[FrameStore, list[Item]]:
    """A gallery and its frames, encoded; read those with ``store.read([item.id for item in items])``.

    Whisper-base without context, in bfloat16 where the machine has it. The store's default is
    runs/gallery-<languages>.lance.
    """
    items = gallery(total, languages, held=held, seed=seed)
    device = best_device()
    encoder = WhisperEncoder(load_whisper("base", device=device, dtype=best_compute(device)), context="speech")
    return encode_items(items, encoder, path or f"runs/gallery-{'-'.join(languages)}.lance", pooling), items


if __name__ == "__main__":
    gallery_frames(int(sys.argv[1]), sys.argv[2:] or LANGUAGES)
