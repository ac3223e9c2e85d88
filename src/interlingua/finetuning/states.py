"""Where encoder states come from: a frame store, or the encoder itself, on the fly."""

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from interlingua.audio import duration_of, load_audio
from interlingua.encoding import SpeechEncoder
from interlingua.errors import AudioError, StoreError
from interlingua.progress import track
from interlingua.types import WINDOW_SECONDS, Frames, Utterance


class States(Protocol):
    """Encoder states by utterance id: `store.FrameStore`, or `LiveStates`."""

    def __contains__(self, utterance_id: object) -> bool:
        """Whether there are states of an utterance."""
        ...

    def read(self, ids: Sequence[str]) -> list[Frames]:
        """States in the order asked."""
        ...

    def n_speech(self) -> Mapping[str, int]:
        """Frames of speech of every utterance."""
        ...


class LiveStates:
    """States that are made whenever they are asked for: no disk is needed, and every epoch pays for the encoder.

    Args:
        utterances: with audio; those that are longer than Whisper's window, or whose file has no readable header, are
            left out.
        encoder: makes the states; its context says how much silence stands behind the speech.
    """

    def __init__(self, utterances: Sequence[Utterance], encoder: SpeechEncoder) -> None:
        self._encoder = encoder
        self._spoken: dict[str, Utterance] = {}
        self._frames: dict[str, int] = {}
        with track(len(utterances), "looking at the audio") as advance:
            for u in utterances:
                seconds = seconds_of(u)
                advance(1)
                if seconds is None or not 0 < seconds <= WINDOW_SECONDS:
                    continue
                self._spoken[u.id] = u
                self._frames[u.id] = math.ceil(round(seconds * encoder.rate, 3))  # as the encoder counts

    def __contains__(self, utterance_id: object) -> bool:
        return utterance_id in self._spoken

    def read(self, ids: Sequence[str]) -> list[Frames]:
        """Encode utterances.

        Raises:
            StoreError: an utterance isn't among those given, was left out, or its states overflow float16.
            AudioError: its audio can't be read.
        """
        missing = [i for i in ids if i not in self._spoken]
        if missing:
            raise StoreError(f"{missing[0]!r}: no audio of at most {WINDOW_SECONDS} s to encode; leave it out")
        encoded = self._encoder.encode([load_audio(self._spoken[i].audio) for i in ids])
        made = [Frames(i, v.astype(np.float16), n) for i, (v, n) in zip(ids, encoded, strict=True)]
        for f in made:
            if not np.isfinite(f.values).all():
                raise StoreError(f"{f.id!r}: its states overflow float16; leave it out")
        return made

    def n_speech(self) -> Mapping[str, int]:
        """Frames of speech, from the durations that the files state."""
        return self._frames


def seconds_of(utterance: Utterance) -> float | None:
    """How long an utterance's file says that it is; None: it can't be read."""
    try:
        return duration_of(utterance.audio)
    except AudioError:
        return None
