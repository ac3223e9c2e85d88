"""Controls for retrieval: features that carry sound and duration, but no learned meaning."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from interlingua.encoding import Encoded
from interlingua.models import Whisper
from interlingua.models.whisper import FRAME_SAMPLES, FRAMES_PER_SECOND
from interlingua.types import SAMPLE_RATE, FrameSpec, Samples

RANDOM_SEED = 0


class LogMelEncoder:
    """Whisper's own log-mel features as frames: two 10 ms frames averaged, each bin's utterance mean removed.

    Without removing the mean every cosine would be near 1, and the control weaker than it need be.
    """

    def __init__(self, whisper: Whisper) -> None:
        self._whisper = whisper

    @property
    def spec(self) -> FrameSpec:
        """Log-mel frames of the speech alone."""
        return FrameSpec("log-mel", f"{self.dim}-bins", 0, "speech", 1, "float16", "float32", self.rate)

    @property
    def dim(self) -> int:
        """D, the number of mel bins."""
        return self._whisper.n_mels

    @property
    def rate(self) -> float:
        """Frames per second: as many as Whisper's encoder has."""
        return float(FRAMES_PER_SECOND)

    @property
    def layers(self) -> int:
        """None: nothing is learned."""
        return 0

    def encode(self, batch: Sequence[Samples]) -> list[Encoded]:
        """Log-mel frames of each recording, (T, mels)."""
        result = []
        for samples in batch:
            n_frames = max(1, -(-len(samples) // FRAME_SAMPLES))
            padded = np.pad(samples, (0, n_frames * FRAME_SAMPLES - len(samples)))
            mel = self._whisper.feature_extractor(
                padded, sampling_rate=SAMPLE_RATE, padding=False, truncation=False
            ).input_features[0]
            frames = mel.reshape(len(mel), n_frames, 2).mean(axis=2).T
            result.append((frames - frames.mean(axis=0), n_frames))
        return result


def with_random_weights(whisper: Whisper) -> Whisper:
    """The same architecture with fresh weights: what the shape of the encoder gives by itself."""
    import torch
    from transformers import WhisperForConditionalGeneration

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        model = WhisperForConditionalGeneration(whisper.model.config).to(whisper.model.dtype).eval()
    source = dataclasses.replace(whisper.source, revision=f"random-weights-seed-{RANDOM_SEED}")
    return dataclasses.replace(whisper, model=model.to(whisper.model.device), source=source)
