"""Speech that is still going on: a microphone's blocks in, segments out as soon as a speaker pauses."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from interlingua.translation.records import AUTO, Segment
from interlingua.translation.segmentation import speech_regions
from interlingua.translation.translator import Translator
from interlingua.types import SAMPLE_RATE, Samples

SETTLED_SECONDS = 0.6  # without speech behind a region, until it counts as over
LOOK_SECONDS = 1.0  # of new audio between two looks for speech


class LiveTranslator:
    """Translates what it is fed; keeps only what may still be part of an utterance.

    >>> live = LiveTranslator(Translator("base"), to="en", source="fr")  # doctest: +SKIP
    >>> for block in microphone:  # 16 kHz mono float32, of any length  # doctest: +SKIP
    ...     for segment in live.feed(block):
    ...         print(segment.text)

    Args:
        translator: does the work.
        to: target language.
        source: language spoken; ``auto`` detects it anew in every utterance.
        spoken_as: language that the model is told instead.
    """

    def __init__(
        self, translator: Translator, *, to: str = "en", source: str = AUTO, spoken_as: str | None = None
    ) -> None:
        self._translator = translator
        self._to, self._source, self._as = to, source, spoken_as
        self._held: Samples = np.zeros(0, np.float32)
        self._before = 0  # samples that are gone already
        self._unseen = 0  # samples since the last look

    def feed(self, block: Samples) -> list[Segment]:
        """Take the next samples; return the segments that are over now, their times counted from the first sample."""
        self._held = np.concatenate([self._held, np.asarray(block, np.float32)])
        self._unseen += len(block)
        if self._unseen < LOOK_SECONDS * SAMPLE_RATE:
            return []
        return self._look(all_of_it=False)

    def finish(self) -> list[Segment]:
        """Translate what is left; the next block begins a new stream."""
        found = self._look(all_of_it=True)
        self._before, self._unseen = 0, 0
        self._held = np.zeros(0, np.float32)
        return found

    def stream(self, blocks: Iterable[Samples]) -> Iterator[Segment]:
        """All segments of a stream of blocks."""
        for block in blocks:
            yield from self.feed(block)
        yield from self.finish()

    def _look(self, *, all_of_it: bool) -> list[Segment]:
        how = self._translator.options.segmentation
        self._unseen = 0
        regions = speech_regions(self._held, how) if len(self._held) else []
        settled = len(self._held) - round(SETTLED_SECONDS * SAMPLE_RATE)
        longest = round(how.longest * SAMPLE_RATE)
        over = [r for r in regions if all_of_it or r.end < settled or r.end - r.start >= longest]
        found: list[Segment] = []
        for region in over:
            said = self._translator.translate(
                self._held[region.start : region.end], self._to, source=self._source, spoken_as=self._as
            )
            since = (self._before + region.start) / SAMPLE_RATE
            found += [
                replace(
                    s,
                    start=round(s.start + since, 2),
                    end=round(s.end + since, 2),
                    words=tuple(
                        replace(w, start=round(w.start + since, 2), end=round(w.end + since, 2)) for w in s.words
                    ),
                )
                for s in said.segments
            ]
        # What is over is let go, and so is long silence; a little stays, for the pad before the next region.
        pad = round((how.pad + 0.1) * SAMPLE_RATE)
        waiting = [r.start for r in regions if r not in over]
        keep_from = waiting[0] if waiting else max(over[-1].end if over else 0, settled - pad)
        keep_from = max(0, keep_from)
        self._held, self._before = self._held[keep_from:], self._before + keep_from
        return found
