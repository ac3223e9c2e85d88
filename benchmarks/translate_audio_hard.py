"""Recordings that make Whisper invent: silence, noise, music, speech that is cut off, speech with silence behind it."""

import hashlib
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from interlingua.audio import load_audio
from interlingua.errors import FetchError
from interlingua.files import atomic_folder, cache_dir
from interlingua.types import SAMPLE_RATE, AudioRef, Samples, Utterance

SECONDS = 60  # of each recording without speech
MUSIC_PACKAGE = "asterisk-moh-opsound-g722"  # Debian's; five pieces, CC-BY-SA 3.0
MUSIC = {
    "macroform-cold_day": "7b7482dbc9492c08008aa4a82cbf45077fd934dcc2743847c4beb35c043d4d17",
    "macroform-robot_dity": "70c6e459e6d10ddb6586724d8e9becf0852489931576969429bf35074e65e031",
    "macroform-the_simplicity": "456a19e856433b517d24748e7535c7b57bfe1d7db9204a1b1f1c62debb72d422",
    "manolo_camp-morning_coffee": "cecf01dd835a5de0ff1ac6f412a2189f35f02fb40f3f884046cbf1ea1ed85d4b",
    "reno_project-system": "d63c99fdd76bc51a9067addb168daad57c77335bb3b438e05fcb41175a3ae114",
}


def silences() -> dict[str, Samples]:
    """Digital silence, and silence with the last bit flickering."""
    n = SECONDS * SAMPLE_RATE
    flicker = np.random.default_rng(0).integers(-1, 2, n) / 32768
    return {"silence/digital": np.zeros(n, np.float32), "silence/last-bit": flicker.astype(np.float32)}


def noises() -> dict[str, Samples]:
    """White, pink and brown noise at -40 and -20 dB, and a mains hum."""
    n = SECONDS * SAMPLE_RATE
    found = {}
    frequencies = np.fft.rfftfreq(n, 1 / SAMPLE_RATE)
    for colour, slope in (("white", 0.0), ("pink", 0.5), ("brown", 1.0)):
        for level in (-40, -20):
            spectrum = np.fft.rfft(np.random.default_rng(1).normal(size=n))
            spectrum /= np.maximum(frequencies, 20) ** slope
            noise = np.fft.irfft(spectrum, n)
            found[f"noise/{colour} {level} dB"] = (noise / noise.std() * 10 ** (level / 20)).astype(np.float32)
    time = np.arange(n) / SAMPLE_RATE
    hum = sum(np.sin(2 * np.pi * 50 * k * time) / k for k in (1, 2, 3, 5))
    found["noise/hum"] = (0.05 * hum).astype(np.float32)
    return found


def music() -> dict[str, Samples]:
    """The first minute of five pieces; fetched from the Debian package once."""
    folder = cache_dir() / "corpora" / MUSIC_PACKAGE
    if not folder.is_dir():
        with atomic_folder(folder) as target, tempfile.TemporaryDirectory() as work:
            for command in (["apt-get", "download", MUSIC_PACKAGE], ["dpkg", "-x", "*.deb", "tree"]):
                command = [str(p) for c in command for p in ([*Path(work).glob(c)] if "*" in c else [c])]
                done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise FetchError(f"`{' '.join(command)}` failed: {done.stderr.strip()[-200:]}; try apt-get update")
            for name, digest in MUSIC.items():
                data = (Path(work) / "tree/usr/share/asterisk/moh" / f"{name}.g722").read_bytes()
                if hashlib.sha256(data).hexdigest() != digest:
                    raise FetchError(f"{name} of {MUSIC_PACKAGE} is another version; nothing is kept")
                (target / f"{name}.g722").write_bytes(data)
    return {f"music/{n}": load_audio(AudioRef(str(folder / f"{n}.g722"), 0, SECONDS)) for n in MUSIC}


def cut_off(utterances: Sequence[Utterance]) -> dict[str, Samples]:
    """Speech that ends in the middle of a word, after half of the utterance."""
    return {f"cut off/{u.id}": _half(load_audio(u.audio)) for u in utterances}


def trailing(utterances: Sequence[Utterance]) -> dict[str, Samples]:
    """Speech with 10 s of silence behind it."""
    silence = np.zeros(10 * SAMPLE_RATE, np.float32)
    return {f"10 s behind/{u.id}": np.concatenate([load_audio(u.audio), silence]) for u in utterances}


def _half(samples: Samples) -> Samples:
    return samples[: len(samples) // 2]
