"""Recordings of any length -> text in any language that a model can write, flagged where it looks wrong.

    audio -> chunks_of: stretches of speech -> windows of chunks -> batches of equal context
          -> Engine.encode -> detect -> generate, once for each target -> guards, and retries where they object
          -> phrases of an index, where given, for what the decoder is unsure of
          -> segments in the order of time -> Translation

Chunks of many recordings share a batch. Each is encoded with the silence of `--context`, not padded to 30 s: most of
the speed on short recordings (docs/translate.md).
"""

import os
import zlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np

from interlingua.audio import AudioSource, Hole, duration_of, load_audio
from interlingua.encoding import Context
from interlingua.errors import AudioError, TooLongAudioError, UsageError
from interlingua.languages import UNSPACED_LANGUAGES, normalise_language, normalise_languages
from interlingua.models import Task
from interlingua.models.whisper import FRAME_SAMPLES, WINDOW_FRAMES
from interlingua.translation.engines import Decoding, Engine, likeliest, load_engine
from interlingua.translation.formats import Phrase, Segment, Translation, clock
from interlingua.translation.guards import Flag, begins_doubled, flags_of, is_sparse, letters_in
from interlingua.translation.segments import (
    Chunk,
    Output,
    Segmentation,
    Span,
    chunks_of,
    segments_of,
    speech_regions,
    timed_pieces,
)
from interlingua.translation.unseen import proxy_language
from interlingua.translation.words import join_tokens
from interlingua.types import SAMPLE_RATE, AudioRef, Hypothesis, Samples

AUTO = "auto"  # a recording's language: detected once for all of it
EACH = "each"  # detected for every chunk
SOURCE = "source"  # as a target: whatever is spoken, a transcript

FIRST_WINDOW, WINDOW_CHUNKS = 16, 128  # chunks batched together: few at first, so that output shows soon
PIECE_SECONDS = 1800.0  # of a recording that is too long to be held whole
PROBED_CHUNKS = 16  # of a language without a token, to choose a proxy language
BATCH_CHUNKS, BATCH_FRAMES = 16, 6000  # of a batch at most: encoder frames bound its memory
TRY_AGAIN: frozenset[Flag] = frozenset({"loop", "wrong-language", "cut-off"})
"""Flags worth a retry. ``unsure`` alone isn't: it is common, and a full window is slow."""
SHORTER = 7.0, 3.5  # seconds of the stretches in which a sparse chunk is tried again
RICHER = 1.5  # times as many letters, from which on those stand for it

NAMED_HOLES = 3  # of a recording, in a message

SETTLED_SECONDS = 0.6  # live: without speech after a region, until it counts as over
LOOK_SECONDS = 1.0  # live: of new audio between two searches for speech


@dataclass(frozen=True)
class TranslationOptions:
    """How recordings are translated; the defaults are measured in docs/translate.md.

    Attributes:
        context: of each chunk: ``speech+N`` (N seconds of silence after it) or ``full``.
        beam: hypotheses followed at a time; 1 is greedy.
        temperatures: tried in turn where a guard objects even with full context; none: no retry.
        timestamps: the model cuts chunks into segments. Fine-tuned targets have none: a segment is a chunk.
        words: also time every word.
        guards: flag Whisper's known failures, and retry.
        prompt: text that the model takes for what stood before each chunk: names and their spelling.
    """

    context: str = "speech+4"
    beam: int = 1
    temperatures: tuple[float, ...] = (0.4, 0.8)
    timestamps: bool = False
    words: bool = False
    guards: bool = True
    prompt: str = ""
    segmentation: Segmentation = field(default_factory=Segmentation)

    def __post_init__(self) -> None:
        Context.parse(self.context)
        if not 1 <= self.beam <= 32:
            raise UsageError(f"beam {self.beam}: use 1 (greedy) to 32")
        for t in self.temperatures:
            if not 0 < t <= 2:
                raise UsageError(f"temperature {t:g}: use more than 0, and 2 at most")


class PhraseBook(Protocol):
    """Phrases that answer where the decoder is unsure; `interlingua.index.phrases` has one."""

    @property
    def targets(self) -> Collection[str]:
        """Languages that it answers in."""
        ...

    @property
    def about(self) -> dict[str, object]:
        """What its answers depend on."""
        ...

    def answers(self, audio: Sequence[Samples], languages: Sequence[str]) -> list[dict[str, tuple[str, Phrase]]]:
        """Target language -> text and phrase, of each stretch of speech; only those that are sure."""
        ...


@dataclass(frozen=True)
class TargetPrompt:
    """A target language and how a model is prompted for it; ``trained``: by fine-tuning, without timestamps."""

    target: str
    task: Task
    trained: bool

    @classmethod
    def of(cls, engine: Engine, target: str, sources: Collection[str] = ()) -> "TargetPrompt":
        """How a model is prompted for a target; ``sources``: of the speech; one without a token gets a proxy language.

        Raises:
            UsageError: the model has no token for the target.
            UntrainedTaskError: the model can't translate into English (turbo).
        """
        whisper, trained = engine.whisper, engine.targets
        if target == SOURCE:
            return cls(target, "transcribe", trained=False)
        if trained and target in trained.targets:
            return cls(target, trained.task(target), trained=True)
        if target == "en" and whisper.can_translate:
            return cls(target, "translate", trained=False)
        if target == "en" and whisper.is_multilingual and set(sources) != {"en"}:
            whisper.require_translation()
        if target not in sources and target not in whisper.languages:
            whisper.language_token(target)  # raises
        return cls(target, "transcribe", trained=False)

    def written(self, chunk: Chunk) -> str:
        """The language that a chunk's output is in."""
        return chunk.language if self.target == SOURCE else self.target

    def tokens(self, engine: Engine, chunk: Chunk, *, timestamps: bool = False) -> Sequence[int]:
        """The decoder's first tokens for a chunk."""
        whisper = engine.whisper
        settings = whisper.model.generation_config
        if self.trained and engine.targets:
            return engine.targets.prompt(whisper, self.target, source=chunk.token)
        if not whisper.is_multilingual:
            prompt = [settings.decoder_start_token_id, settings.no_timestamps_token_id]
        elif self.target in (chunk.language, SOURCE):
            prompt = whisper.prompt(chunk.token, "transcribe")
        elif self.task == "transcribe":
            prompt = whisper.prompt(self.target, "transcribe")
        else:
            prompt = whisper.prompt(chunk.token, "translate")
        return prompt[:-1] if timestamps else prompt


class Translator:
    """Translate recordings. See `load_engine` for ``model``, ``backend``, ``compute`` and ``device``.

    ``phrases`` answer where the decoder is unsure; raises UsageError for them without guards.

    >>> Translator("base").translate("talk.mp3", to="en").text  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | Path | Engine = "base",
        options: TranslationOptions | None = None,
        *,
        backend: str = "auto",
        compute: str = "auto",
        device: str = "auto",
        phrases: PhraseBook | None = None,
    ) -> None:
        self.options = options or TranslationOptions()
        self.phrases = phrases
        if phrases and not self.options.guards:
            raise UsageError("--phrases: the guards find what the decoder is unsure of; leave --no-guards out")
        if isinstance(model, str | Path):
            self.engine = load_engine(model, backend=backend, compute=compute, device=device)
        else:
            self.engine = model

    @property
    def targets(self) -> list[str]:
        """Languages that the model can translate into: its fine-tuned targets, and English."""
        trained = list(self.engine.targets.targets) if self.engine.targets else []
        return list(dict.fromkeys([*trained, *(["en"] if self.engine.whisper.can_translate else [])]))

    def translate(
        self, audio: AudioSource, to: str = "en", *, source: str = AUTO, spoken_as: str | None = None
    ) -> Translation:
        """One recording into one language.

        Args:
            audio: anything that `interlingua.audio.load_audio` reads; an array is at 16 kHz.
            to: target language; the source language, or ``source`` where it isn't known, for a transcript.
            source: source language, ``auto``, or ``each`` (detected anew in every chunk).
            spoken_as: proxy language in the prompt, for a source language without a token.

        Raises:
            AudioError: the recording can't be read.
            UsageError: a language that the model doesn't know, or that it can't be prompted for.
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
        first: int = FIRST_WINDOW,
    ) -> Iterator[Translation]:
        """Recordings into several languages, each encoded once; yields a translation for each recording and target.

        Args:
            recordings: names, and what `load_audio` reads; read lazily.
            source: source language, of all or by name; see `translate`.
            spoken_as: see `translate`; default for a language without a token: the one that the model was trained with,
                else the related one under which the first recordings' translations agree most with those under the
                others (`unseen`).
            advance: called with the seconds of audio done.
            news: called with a recording's name, a target and its next segments.
            failed: called for an unreadable recording, which is then skipped; None: raise.
            log: takes a line on the proxy language chosen, and on each recording with holes (`Hole`).
            first: chunks that are decoded, and whose languages are detected, before the first news.

        Raises:
        """
        given = {source} if isinstance(source, str) else set(source.values())
        named = normalise_languages(given - {AUTO, EACH})
        wanted = dict.fromkeys(t if t == SOURCE else normalise_language(t) for t in to)
        targets = [TargetPrompt.of(self.engine, t, named) for t in wanted]
        if not targets:
            raise UsageError("no target language; name one")
        proxies = {code: code for code in self.engine.whisper.languages}  # source language -> token
        if self.engine.targets:
            proxies |= self.engine.targets.proxies
        proxy = ""
        if spoken_as is not None:
            proxy = normalise_language(spoken_as)
            self.engine.whisper.language_token(proxy)
            proxies = dict.fromkeys([*proxies, *named], proxy)
        decoder = _ChunkDecoder(self.engine, self.options)
        going: dict[int, _Recording] = {}
        window: list[Chunk] = []
        size, done = first, 0

        def process() -> None:
            if spoken_as is None:
                for chunk, probabilities in decoder.listen([c for c in window if going[c.recording].listens]):
                    going[chunk.recording].hear(chunk, probabilities)
            for chunk in window:
                recording = going[chunk.recording]
                chunk.language = (recording.language if recording.source != EACH else chunk.language) or proxy
                if chunk.language not in proxies:
                    alike = [c for c in window if going[c.recording].source == chunk.language]
                    proxies[chunk.language] = decoder.proxy(chunk.language, alike[:PROBED_CHUNKS], log)
                chunk.token = recording.token = proxies[chunk.language]
            decoder.decode(window, targets, advance)
            if self.phrases:
                self._answer(self.phrases, window)
            for chunk in window:
                going[chunk.recording].chunks.append(chunk)
            first = {c.recording: round(c.span.seconds[0], 2) for c in reversed(window)}
            for number, since in sorted(first.items()):
                for prompt in targets:
                    so_far = self._joined(going[number].chunks, prompt.target)
                    news(going[number].id, prompt.target, [s for s in so_far if s.start >= since])
            window.clear()

        def finished() -> Iterator[Translation]:
            nonlocal done
            while done in going and going[done].n_chunks == len(going[done].chunks):
                recording = going.pop(done)
                done += 1
                for prompt in targets:
                    yield recording.translation(prompt.target, self._joined(recording.chunks, prompt.target))

        for name, audio in recordings:
            spoken = source if isinstance(source, str) else source.get(name, AUTO)
            pieces = _pieces(audio, self.options.segmentation)
            try:
                piece: _Piece | None = next(pieces)
            except AudioError as error:
                if failed is None:
                    raise
                failed(name, error)
                continue
            number = done + len(going)
            going[number] = recording = _Recording(
                name, spoken if spoken in (AUTO, EACH) else normalise_language(spoken)
            )
            n_chunks = 0
            while piece is not None:
                start, seconds, samples, spans, holes = piece
                recording.holes += holes
                speech = sum(s.end - s.start for s in spans) / SAMPLE_RATE
                recording.duration += seconds
                recording.speech += speech
                n_chunks += len(spans)
                advance(seconds - speech)
                for span in spans:
                    whole = Span(start + span.start, start + span.end)
                    window.append(Chunk(number, whole, samples[span.start : span.end]))
                    if len(window) == size:
                        process()
                        size = min(2 * size, WINDOW_CHUNKS)
                piece = next(pieces, None)
            recording.n_chunks = n_chunks
            if recording.holes:
                log(f"{name}: {_named(recording.holes)}: silence was taken for it")
            yield from finished()
        process()
        yield from finished()

    def _answer(self, phrases: PhraseBook, chunks: Sequence[Chunk]) -> None:
        """Let phrases stand for the outputs that the decoder is unsure of, and that the phrases are sure of."""
        doubtful = [c for c in chunks if any(self._is_unsure(c, t) for t in c.outputs if t in phrases.targets)]
        found = phrases.answers([c.samples for c in doubtful], [c.language for c in doubtful])
        for chunk, answers in zip(doubtful, found, strict=True):
            for target in [t for t in chunk.outputs if t in answers and self._is_unsure(chunk, t)]:
                output, (text, phrase) = chunk.outputs[target], answers[target]
                decoded = " ".join(o.text for o in _standing(chunk, target))
                chunk.outputs[target] = replace(
                    output,
                    decoded=replace(output.decoded, tokens=[]),
                    text=text,
                    words=(),
                    parts=(),
                    phrase=replace(phrase, decoded=decoded),
                )

    def _is_unsure(self, chunk: Chunk, target: str) -> bool:
        """Whether an output is flagged or empty, or the model knows nothing of the language spoken."""
        proxies = self.engine.targets.proxies if self.engine.targets else ()
        known = chunk.language in self.engine.whisper.languages or chunk.language in proxies
        return not known or any(o.flags or not o.text for o in _standing(chunk, target))

    def _joined(self, chunks: Sequence[Chunk], target: str) -> list[Segment]:
        segments: list[Segment] = []
        for chunk in chunks:
            for segment in segments_of(chunk, target, self.engine.whisper):
                known = segment.phrase is None and self.options.guards
                if segments and known and begins_doubled(segment.text, segments[-1].text):
                    segment = replace(segment, flags=(*segment.flags, "doubled"))
                segments.append(segment)
        return segments


@dataclass(eq=False)
class _Recording:
    id: str
    source: str
    duration: float = 0.0
    speech: float = 0.0
    n_chunks: int = -1  # -1: not all are known yet
    holes: tuple[Hole, ...] = ()
    token: str | None = None
    chunks: list[Chunk] = field(default_factory=list)  # that are done
    probabilities: dict[str, float] = field(default_factory=lambda: defaultdict(float))  # of languages, times seconds

    @property
    def listens(self) -> bool:
        return self.source in (AUTO, EACH)

    @property
    def language(self) -> str | None:
        if not self.listens:
            return self.source
        return likeliest(self.probabilities) if self.probabilities else None

    def hear(self, chunk: Chunk, probabilities: Mapping[str, float]) -> None:
        chunk.language = likeliest(probabilities)
        for code, p in probabilities.items():
            self.probabilities[code] += p * chunk.seconds

    def translation(self, target: str, segments: list[Segment]) -> Translation:
        probability = None
        if self.source == AUTO and self.probabilities:
            probability = round(max(self.probabilities.values()) / sum(self.probabilities.values()), 4)
        language = self.language or "und"
        token = self.token if self.token != language else None
        about = language, probability, token, self.duration, self.speech
        return Translation(self.id, language if target == SOURCE else target, *about, segments, self.holes)


def _named(holes: Sequence[Hole]) -> str:
    """Where a recording has holes, for a message."""
    named = ", ".join(f"{clock(h.start, '.')}-{clock(h.end, '.')}" for h in holes[:NAMED_HOLES])
    more = f" and {len(holes) - NAMED_HOLES} more places" if len(holes) > NAMED_HOLES else ""
    return f"nothing can be decoded at {named}{more} ({sum(h.end - h.start for h in holes):.1f} s in all)"


class _Piece(NamedTuple):
    """Part of a recording: where it begins, its samples and its chunks (in samples of it); ``seconds`` count for it."""

    start: int
    seconds: float
    samples: Samples
    spans: list[Span]
    holes: tuple[Hole, ...]


def _pieces(audio: AudioSource, how: Segmentation) -> Iterator[_Piece]:
    """A recording whole, or, where `load_audio` refuses that for its length, in pieces that end between two chunks."""
    holes: list[Hole] = []
    try:
        samples = load_audio(audio, holes=holes)
    except TooLongAudioError as error:
        if isinstance(audio, bytes):
            raise TooLongAudioError(
                f"{str(error).partition(';')[0]}; save it as a file, which may be longer"
            ) from error
        if not isinstance(audio, str | os.PathLike | AudioRef):
            raise
    else:
        yield _Piece(0, len(samples) / SAMPLE_RATE, samples, chunks_of(samples, how), tuple(holes))
        return
    whole = audio if isinstance(audio, AudioRef) else AudioRef(os.fspath(audio))
    begin, total, at = whole.offset or 0.0, duration_of(whole), 0.0
    while at < total:
        seconds = min(PIECE_SECONDS, total - at)
        holes = []
        samples = load_audio(msgspec.structs.replace(whole, offset=begin + at, duration=seconds), holes=holes)
        spans = chunks_of(samples, how)
        if at + seconds < total and len(spans) > 1:  # the last may go on in the next piece
            seconds = spans.pop().start / SAMPLE_RATE
        here = tuple(Hole(at + h.start, at + min(h.end, seconds)) for h in holes if h.start < seconds)
        yield _Piece(round(at * SAMPLE_RATE), seconds, samples, spans, here)
        at += seconds


class _ChunkDecoder:
    """Decodes windows of chunks: batched, encoded once for all targets, tried again where a guard objects."""

    def __init__(self, engine: Engine, options: TranslationOptions) -> None:
        self.engine, self.options = engine, options
        self._before = engine.whisper.previous(options.prompt)

    def listen(self, chunks: Sequence[Chunk]) -> list[tuple[Chunk, dict[str, float]]]:
        """Language probabilities of each chunk; keeps the states, which `decode` reuses for the same batch."""
        with ThreadPoolExecutor(self.engine.workers) as pool:
            return [pair for found in pool.map(self._listen, self._batches(chunks)) for pair in found]

    def decode(
        self, chunks: Sequence[Chunk], targets: Sequence[TargetPrompt], advance: Callable[[float], None]
    ) -> None:
        """Set every chunk's output in every target; its language and token must be set."""
        with ThreadPoolExecutor(self.engine.workers) as pool:
            jobs = [(batch, pool.submit(self._decode, batch, targets)) for batch in self._batches(chunks)]
            for batch, job in jobs:
                job.result()
                advance(sum(c.seconds for c in batch))
        for chunk in chunks:
            chunk.states = None

    def proxy(self, language: str, chunks: Sequence[Chunk], log: Callable[[str], None]) -> str:
        """The proxy language for a language without a token, chosen on some of its chunks by `unseen`."""
        whisper, batches = self.engine.whisper, self._batches(chunks)
        ids = {chunk: str(i) for i, chunk in enumerate(chunks)}

        def detect() -> dict[str, dict[str, float]]:
            return {ids[c]: p for batch in batches for c, p in self._listen(batch)}

        def translate(candidates: Sequence[str]) -> dict[str, dict[str, Hypothesis]]:
            translations: dict[str, dict[str, Hypothesis]] = {code: {} for code in candidates}
            for batch in batches:
                states = self._encoded(batch)
                for code, hypotheses in translations.items():
                    outputs = self.engine.generate(states, [whisper.prompt(code, "translate")] * len(batch), Decoding())
                    for i, found in zip(map(ids.__getitem__, batch), outputs, strict=True):
                        text = whisper.tokenizer.decode(found.tokens, skip_special_tokens=True).strip()
                        hypotheses[i] = Hypothesis(i, text, found.tokens, found.log_probability)
            return translations

        return proxy_language(whisper, language, detect, translate, log)

    def _batches(self, chunks: Sequence[Chunk]) -> list[list[Chunk]]:
        alike: dict[int, list[Chunk]] = defaultdict(list)
        for c in chunks:
            alike[self._context_frames(c)].append(c)
        batches = []
        for length in sorted(alike, reverse=True):
            size = max(1, min(BATCH_CHUNKS, BATCH_FRAMES // length))
            batches += [alike[length][start : start + size] for start in range(0, len(alike[length]), size)]
        return batches

    def _context_frames(self, chunk: Chunk) -> int:
        n_speech = min(WINDOW_FRAMES, -(-len(chunk.samples) // FRAME_SAMPLES))
        return Context.parse(self.options.context).total_frames(n_speech)

    def _features(self, chunks: Sequence[Chunk], frames: int) -> Any:
        """Log-mel windows of so many encoder frames, (B, mels, 2 * frames), padded with silence."""
        extract, length = self.engine.whisper.feature_extractor, frames * FRAME_SAMPLES
        padded = [np.pad(c.samples[:length], (0, max(0, length - len(c.samples)))) for c in chunks]
        found = extract(padded, sampling_rate=SAMPLE_RATE, padding=False, truncation=False, return_tensors="np")
        return found.input_features.astype(np.float32)

    def _encoded(self, batch: Sequence[Chunk]) -> Any:
        return self.engine.encode(self._features(batch, self._context_frames(batch[0])))

    def _listen(self, batch: Sequence[Chunk]) -> list[tuple[Chunk, dict[str, float]]]:
        states = self._encoded(batch)
        batch[0].states = (list(batch), states)
        return list(zip(batch, self.engine.detect(states), strict=True))

    def _decode(self, batch: Sequence[Chunk], targets: Sequence[TargetPrompt]) -> None:
        held = batch[0].states
        states = held[1] if held and held[0] == list(batch) else self._encoded(batch)
        batch[0].states = None
        for target in targets:
            self._try(batch, states, target, Decoding(beam=self.options.beam))
        if self.options.guards:
            for target in targets:
                self._try_again(batch, target)
                for chunk in batch:
                    if {"sparse"} == {"sparse", "no-speech"} & set(chunk.outputs[target.target].flags):
                        self._try_shorter(chunk, target)

    def _try_again(self, batch: Sequence[Chunk], target: TargetPrompt) -> None:
        """Retry flagged chunks with full context, then by sampling, each alone and seeded by its samples."""

        def bad(chunk: Chunk) -> bool:
            return bool(TRY_AGAIN & set(chunk.outputs[target.target].flags))

        doubtful = [c for c in batch if bad(c)]
        if doubtful and self._context_frames(batch[0]) < WINDOW_FRAMES:
            states = self.engine.encode(self._features(doubtful, WINDOW_FRAMES))
            self._try(doubtful, states, target, Decoding(beam=self.options.beam))
        for chunk in filter(bad, doubtful if self.options.temperatures else ()):
            states = self.engine.encode(self._features([chunk], WINDOW_FRAMES))
            seed = zlib.crc32(chunk.samples.tobytes()) >> 1
            for temperature in self.options.temperatures:
                if bad(chunk):
                    self._try([chunk], states, target, Decoding(temperature=temperature, seed=seed))

    def _try_shorter(self, chunk: Chunk, target: TargetPrompt) -> None:
        """Retry a chunk whose text has few letters for its speech in shorter stretches, if those have many more."""
        whole, how, speech = chunk.outputs[target.target], self.options.segmentation, self._speech(chunk)
        letters = letters_in(whole.text)
        for longest in SHORTER:
            parts = chunk.parts(replace(how, longest=min(longest, how.longest)))
            for batch in self._batches(parts):
                self._try(batch, self._encoded(batch), target, Decoding(beam=self.options.beam))
                self._try_again(batch, target)
            outputs = [p.outputs[target.target] for p in parts]
            text = " ".join(o.text for o in outputs)
            still: tuple[Flag, ...] = ("sparse",) if is_sparse(text, speech) else ()
            richer = letters_in(text) >= RICHER * letters and (letters or not still)
            if not richer or any(TRY_AGAIN & set(o.flags) for o in outputs):
                continue
            for part, o in zip(parts, outputs, strict=True):
                flags = tuple(dict.fromkeys((*o.flags, *still)))
                part.outputs[target.target] = replace(o, flags=flags, tries=whole.tries + o.tries)
            chunk.outputs[target.target], letters = replace(whole, parts=tuple(parts)), letters_in(text)

    def _try(self, chunks: Sequence[Chunk], states: Any, target: TargetPrompt, how: Decoding) -> None:
        how = replace(how, timestamps=self.options.timestamps and not target.trained)
        prompts = [[*self._before, *target.tokens(self.engine, c, timestamps=how.timestamps)] for c in chunks]
        for i, (chunk, decoded) in enumerate(zip(chunks, self.engine.generate(states, prompts, how), strict=True)):
            text = self.engine.whisper.tokenizer.decode(decoded.tokens, skip_special_tokens=True).strip()
            flags: tuple[Flag, ...] = ()
            if self.options.guards:
                speech = chunk.seconds
                if is_sparse(text, speech):  # there may be pauses in it
                    speech = self._speech(chunk)
                flags = flags_of(
                    text,
                    target=target.written(chunk),
                    source=chunk.language,
                    log_probability=decoded.log_probability,
                    no_speech_probability=decoded.no_speech_probability,
                    ended=decoded.ended,
                    speech=speech,
                )
            before = chunk.outputs.get(target.target)
            tries = before.tries + 1 if before else 1
            found = Output(decoded, text, flags, tries, how.temperature)
            if before and (not TRY_AGAIN & set(before.flags) or _rank(before) >= _rank(found)):
                found = replace(before, tries=tries)
            elif self.options.words:
                found = self._with_words(found, chunk, states, i, target)
            chunk.outputs[target.target] = found

    def _speech(self, chunk: Chunk) -> float:
        """Seconds of speech in a chunk."""
        return sum(part.seconds for part in chunk.parts(replace(self.options.segmentation, gap=0)))

    def _with_words(self, found: Output, chunk: Chunk, states: Any, row: int, target: TargetPrompt) -> Output:
        whisper = self.engine.whisper
        first_time = whisper.model.generation_config.no_timestamps_token_id + 1
        pieces = [tokens for _, _, tokens in timed_pieces(found.decoded.tokens, first_time, chunk.seconds)]
        if not pieces:
            return found
        every = [token for tokens in pieces for token in tokens]
        path = self.engine.place(states, row, target.tokens(self.engine, chunk), every, chunk.seconds)
        spaced = target.written(chunk) not in UNSPACED_LANGUAGES
        words = join_tokens(pieces, path, chunk.seconds, whisper.tokenizer, spaced=spaced)
        return replace(found, words=tuple(map(tuple, words)))


def _standing(chunk: Chunk, target: str) -> list[Output]:
    """A chunk's output, or those of the parts that stand for it."""
    found = chunk.outputs[target]
    return [output for part in found.parts for output in _standing(part, target)] or [found]


def _rank(found: Output) -> tuple[int, float]:
    """Order of several tries: the fewest flags, then the likeliest."""
    return -len(found.flags), found.decoded.log_probability


class LiveTranslator:
    """Translates a live stream: a microphone's blocks in, segments out as soon as a speaker pauses.

    It keeps only audio that may still be part of an utterance; ``auto`` detects the source language in every utterance.

    >>> live = LiveTranslator(Translator("base"), to="en", source="fr")  # doctest: +SKIP
    >>> for block in microphone:  # 16 kHz mono, (N,) or (N, 1) of any N  # doctest: +SKIP
    ...     for segment in live.feed(block):
    ...         print(segment.text)
    """

    def __init__(
        self, translator: Translator, *, to: str = "en", source: str = AUTO, spoken_as: str | None = None
    ) -> None:
        self._translator = translator
        self._to, self._source, self._as = to, source, spoken_as
        self._held: Samples = np.zeros(0, np.float32)
        self._before = 0  # samples dropped so far
        self._unseen = 0  # samples since the last search

    def feed(self, block: np.ndarray) -> list[Segment]:
        """Take the next samples; return the finished segments, their times counted from the stream's first sample.

        Blocks of int16 and int32 are scaled as by `load_audio`. Raises UsageError for another shape or type, AudioError
        for NaN or infinity.
        """
        samples = np.asarray(block)
        if samples.ndim == 2 and samples.shape[1] == 1:
            samples = samples[:, 0]
        if samples.ndim != 1:
            raise UsageError(f"block: of shape {samples.shape}; give the samples of one channel, (N,) or (N, 1)")
        if len(samples):
            self._held = np.concatenate([self._held, load_audio(samples)])
            self._unseen += len(samples)
        if self._unseen < LOOK_SECONDS * SAMPLE_RATE:
            return []
        return self._look(all_of_it=False)

    def finish(self) -> list[Segment]:
        """Translate what is left; the next block begins a new stream."""
        found = self._look(all_of_it=True)
        self._before, self._unseen = 0, 0
        self._held = np.zeros(0, np.float32)
        return found

    def stream(self, blocks: Iterable[np.ndarray]) -> Iterator[Segment]:
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
            translation = self._translator.translate(
                self._held[region.start : region.end], self._to, source=self._source, spoken_as=self._as
            )
            found += [s.later((self._before + region.start) / SAMPLE_RATE) for s in translation.segments]
        # Drop finished regions and long silence, but keep the pad of the next region.
        pad = round((how.pad + 0.1) * SAMPLE_RATE)
        waiting = [r.start for r in regions if r not in over]
        keep_from = waiting[0] if waiting else max(over[-1].end if over else 0, settled - pad)
        keep_from = max(0, keep_from)
        self._held, self._before = self._held[keep_from:], self._before + keep_from
        return found
