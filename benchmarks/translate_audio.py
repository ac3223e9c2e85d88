"""Recordings for the benchmark of translation, joined or copied from the prompts: the same ones at every call.

`long_recordings`: one recording of several minutes a language, prompts with pauses of low noise between them.
`short_recordings`: many prompts of a few seconds, a file each. Both are 16 kHz WAV in `OUT`.
"""

import wave
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from interlingua.audio import load_audio
from interlingua.corpora import prepare_prompts
from interlingua.files import atomic_file
from interlingua.types import SAMPLE_RATE, AudioRef, Samples, Utterance

LANGUAGES = ("es", "fr", "it", "ru")
SEED = 12345
PAUSES = (0.5, 3.0)  # seconds
NOISE = 1e-3  # standard deviation in the pauses: 60 dB below full scale
SHORT = (1.0, 8.0)  # seconds of a short recording
OUT = Path("runs/translate-bench")


def long_recordings(minutes: float, out: Path = OUT) -> list[Utterance]:
    """One recording a language, so long at least, of different sentences: a cluster of near-duplicates gives one."""
    found = []
    for language, chosen in _shuffled(prepare_prompts()).items():
        random = np.random.default_rng(SEED)
        parts: list[Samples] = []
        texts: list[str] = []
        length = 0
        for u in chosen:
            if length >= minutes * 60 * SAMPLE_RATE:
                break
            speech = load_audio(u.audio)
            pause = random.normal(0, NOISE, round(random.uniform(*PAUSES) * SAMPLE_RATE))
            texts.append(u.translations["en"])
            parts += [speech, pause.astype(np.float32)]
            length += len(speech) + len(pause)
        found.append(
            Utterance(
                id=f"long/{language}",
                audio=_written(out / "long" / f"{language}.wav", np.concatenate(parts)),
                language=language,
                translations={"en": " ".join(texts)},
                duration=length / SAMPLE_RATE,
            )
        )
    return found


def short_recordings(each: int, out: Path = OUT) -> list[Utterance]:
    """``each`` prompts of every language, of different sentences, as files."""
    fitting = [u for u in prepare_prompts() if u.duration is not None and SHORT[0] <= u.duration <= SHORT[1]]
    found = []
    for chosen in _shuffled(fitting).values():
        for u in chosen[:each]:
            audio = _written(out / "short" / f"{u.id}.wav", load_audio(u.audio))
            found.append(
                Utterance(
                    id=u.id,
                    audio=audio,
                    language=u.language,
                    translations=u.translations,
                    cluster=u.cluster,
                    duration=u.duration,
                )
            )
    return found


def _shuffled(utterances: Iterable[Utterance]) -> dict[str, list[Utterance]]:
    """By language: one prompt of each cluster that has an English reference, in an order that no corpus has."""
    sentences: dict[str, dict[str, Utterance]] = {language: {} for language in LANGUAGES}
    for u in utterances:
        if u.language in sentences and u.translations.get("en"):
            sentences[u.language].setdefault(str(u.cluster), u)
    random = np.random.default_rng(SEED)
    return {language: [list(of.values())[i] for i in random.permutation(len(of))] for language, of in sentences.items()}


def _written(path: Path, samples: Samples) -> AudioRef:
    with atomic_file(path) as temporary, wave.open(str(temporary), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        file.writeframes((np.clip(samples, -1, 1) * 32767).round().astype("<i2").tobytes())
    return AudioRef(str(path.resolve()))
