"""Recordings of any length -> text in any language that a model can write, flagged where it looks wrong.

    audio -> chunks_of: stretches of speech -> windows of chunks -> batches of equal context
          -> Engine.encode -> detect -> generate, once for each target -> guards, and another try where they object
          -> segments in the order of time -> Translation

Chunks of many recordings share a batch. Every chunk is encoded with the silence behind it that `--context` says, not
padded to 30 s: most of the speed on short recordings comes from there (docs/translate.md).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from interlingua.audio import AudioSource, load_audio
from interlingua.errors import AudioError, UsageError
from interlingua.languages import normalise_language, normalise_languages
from interlingua.translation.asking import Asked
from interlingua.translation.chunk_decoder import ChunkDecoder
from interlingua.translation.chunks import Chunk, Unfinished, segments_of
from interlingua.translation.engines import Engine, load_engine
from interlingua.translation.guards import begins_doubled
from interlingua.translation.records import AUTO, EACH, Segment, Translation, TranslationOptions
from interlingua.translation.segmentation import chunks_of
from interlingua.types import SAMPLE_RATE

FIRST_WINDOW, WINDOW_CHUNKS = 16, 128  # chunks that are batched together: few at first, so that something shows soon
PROBED_CHUNKS = 16  # of a language without a token, to choose one by


class Translator:
    """Translate recordings.

    >>> Translator("base").translate("talk.mp3", to="en").text  # doctest: +SKIP

    Args:
        model: alias, hub id, model folder, folder with a LoRA adapter, or an engine that is loaded already.
        options: how to translate.
        backend: ``ctranslate2``, ``transformers`` or ``auto``.
        compute: number format, see `engines.load_engine`.
        device: ``cpu``, ``cuda`` or ``auto``.
    """

    def __init__(
        self,
        model: str | Path | Engine = "base",
        options: TranslationOptions | None = None,
        *,
        backend: str = "auto",
        compute: str = "auto",
        device: str = "auto",
    ) -> None:
        self.options = options or TranslationOptions()
        if isinstance(model, str | Path):
            self.engine = load_engine(model, backend=backend, compute=compute, device=device)
        else:
            self.engine = model

    @property
    def targets(self) -> list[str]:
        """What the model can be asked for: what it was trained for, English, and transcripts."""
        trained = list(self.engine.targets.targets) if self.engine.targets else []
        return list(dict.fromkeys([*trained, *(["en"] if self.engine.whisper.can_translate else [])]))

    def translate(
        self, audio: AudioSource, to: str = "en", *, source: str = AUTO, spoken_as: str | None = None
    ) -> Translation:
        """One recording into one language.

        Args:
            audio: anything that `interlingua.audio.load_audio` reads; an array is at 16 kHz.
            to: target language; the spoken one for a transcript.
            source: language spoken, ``auto``, or ``each`` (detected anew in every chunk).
            spoken_as: language that the model is told instead, for one that it has no token for.

        Raises:
            AudioError: the recording can't be read.
            UsageError: a language that the model doesn't know, or that it can't be asked for.
        """
        (found,) = self.translate_all([("recording", audio)], [to], source=source, spoken_as=spoken_as)
        return found

    def translate_all(
        self,
        recordings: Iterable[tuple[str, AudioSource]],
        to: Sequence[str] = ("en",),
        *,
        source: str | Mapping[str, str] = AUTO,
        spoken_as: str | None = None,
        advance: Callable[[float], None] = lambda seconds: None,
        news: Callable[[str, str, list[Segment]], None] = lambda name, target, segments: None,
        failed: Callable[[str, AudioError], None] | None = None,
        log: Callable[[str], None] = lambda line: None,
    ) -> Iterator[Translation]:
        """Many recordings into several languages, each encoded once.

        Args:
            recordings: names, and what `load_audio` reads; read one after another as they are needed.
            to: target languages.
            source: language spoken, of all or by name; see `translate`.
            spoken_as: see `translate`; default for a language that the model has no token for: the related one under
                which the first recordings' translations agree most with those under the others (`related`).
            advance: is called with the seconds of audio that are done.
            news: is called with a recording's name, a target and the next segments, as they are there.
            failed: is called for a recording that can't be read, which is left out then; None: that raises.
            log: takes a line on what was chosen.

        Yields:
            For each recording in the order given, one translation a target.

        Raises:
            AudioError, UsageError: as `translate`.
        """
        given = {source} if isinstance(source, str) else set(source.values())
        named = normalise_languages(given - {AUTO, EACH})
        targets = [Asked.of(self.engine, t, named) for t in normalise_languages(to)]
        if not targets:
            raise UsageError("no target language; name one")
        stand_ins = {code: code for code in self.engine.whisper.languages}  # spoken language -> token
        token = ""
        if spoken_as is not None:
            token = normalise_language(spoken_as)
            self.engine.whisper.language_token(token)
            stand_ins = dict.fromkeys([*stand_ins, *named], token)
        decoder = ChunkDecoder(self.engine, self.options)
        going: dict[int, Unfinished] = {}
        window: list[Chunk] = []
        size, done = FIRST_WINDOW, 0

        def process() -> None:
            if spoken_as is None:
                for chunk, heard in decoder.listen([c for c in window if going[c.recording].listens]):
                    going[chunk.recording].hear(chunk, heard)
            for chunk in window:
                recording = going[chunk.recording]
                chunk.language = (recording.language if recording.source != EACH else chunk.language) or token
                if chunk.language not in stand_ins:
                    alike = [c for c in window if going[c.recording].source == chunk.language]
                    stand_ins[chunk.language] = decoder.stand_in(chunk.language, alike[:PROBED_CHUNKS], log)
                chunk.token = recording.token = stand_ins[chunk.language]
            decoder.decode(window, targets, advance)
            for chunk in window:
                going[chunk.recording].chunks.append(chunk)
            first = {c.recording: round(c.span.seconds[0], 2) for c in reversed(window)}
            for number, since in sorted(first.items()):
                for asked in targets:
                    so_far = self._joined(going[number].chunks, asked.target)
                    news(going[number].id, asked.target, [s for s in so_far if s.start >= since])
            window.clear()

        def finished() -> Iterator[Translation]:
            nonlocal done
            while done in going and going[done].n_chunks == len(going[done].chunks):
                yield from self._assembled(going.pop(done), targets)
                done += 1

        for name, audio in recordings:
            spoken = source if isinstance(source, str) else source.get(name, AUTO)
            recording = Unfinished(name, spoken if spoken in (AUTO, EACH) else normalise_language(spoken))
            try:
                samples = load_audio(audio)
            except AudioError as error:
                if failed is None:
                    raise
                failed(name, error)
                continue
            number = done + len(going)
            spans = chunks_of(samples, self.options.segmentation)
            recording.duration, recording.n_chunks = len(samples) / SAMPLE_RATE, len(spans)
            recording.speech = sum(s.end - s.start for s in spans) / SAMPLE_RATE
            going[number] = recording
            advance(recording.duration - recording.speech)
            for span in spans:
                window.append(Chunk(number, span, samples[span.start : span.end]))
                if len(window) == size:
                    process()
                    size = min(2 * size, WINDOW_CHUNKS)
            yield from finished()
        process()
        yield from finished()

    def _assembled(self, recording: Unfinished, targets: Sequence[Asked]) -> Iterator[Translation]:
        probability = None
        if recording.source == AUTO and recording.heard:
            probability = round(max(recording.heard.values()) / sum(recording.heard.values()), 4)
        language = recording.language or "und"
        for asked in targets:
            segments = self._joined(recording.chunks, asked.target)
            yield Translation(
                recording.id,
                asked.target,
                language,
                probability,
                recording.token if recording.token != language else None,
                recording.duration,
                recording.speech,
                segments,
            )

    def _joined(self, chunks: Sequence[Chunk], target: str) -> list[Segment]:
        """The segments of chunks that follow each other."""
        segments: list[Segment] = []
        for chunk in chunks:
            for segment in segments_of(chunk, target, self.engine.whisper):
                if segments and self.options.guards and begins_doubled(segment.text, segments[-1].text):
                    segment = replace(segment, flags=(*segment.flags, "doubled"))
                segments.append(segment)
        return segments
