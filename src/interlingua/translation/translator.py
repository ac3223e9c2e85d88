"""Recordings of any length -> text in any language that a model can write, flagged where it looks wrong.

    audio -> chunks_of: stretches of speech -> windows of chunks -> batches of equal context
          -> Backend.encode -> detect -> generate, once for each target -> guards, and another try where they object
          -> segments in the order of time -> Translation

Chunks of many recordings share a batch. Every chunk is encoded with the silence behind it that `--context` says, not
padded to 30 s: most of the speed on short recordings comes from there (docs/translate.md).
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from interlingua.audio import AudioSource, load_audio
from interlingua.encode import Context
from interlingua.errors import AudioError, UsageError
from interlingua.languages import language_name, normalise_language, normalise_languages
from interlingua.metrics.recognition import UNSPACED
from interlingua.models import Task
from interlingua.translation.backends import Backend, Decoded, Decoding, load_backend
from interlingua.translation.guards import Flag, begins_doubled, compression_ratio, flags_of
from interlingua.translation.related import DEFAULT_RULE, candidate_tokens, choose_token, heard_most, rule_scores
from interlingua.translation.segmentation import Segmentation, Span, chunks_of
from interlingua.translation.words import Word, join_tokens
from interlingua.types import FRAME_SAMPLES, SAMPLE_RATE, WINDOW_FRAMES, Hypothesis, Samples

AUTO = "auto"  # a recording's language: detected once for all of it
EACH = "each"  # detected for every chunk
BATCH_CHUNKS, BATCH_FRAMES = 16, 6000  # of a batch at most: encoder frames bound its memory
FIRST_WINDOW, WINDOW_CHUNKS = 16, 128  # chunks that are batched together: few at first, so that something shows soon
PROBED_CHUNKS = 16  # of a language without a token, to choose one by
TRY_AGAIN: frozenset[Flag] = frozenset({"loop", "wrong-language", "cut-off"})
"""What is worth another try. Doubt alone isn't: it is common, and a full window is dear."""


@dataclass(frozen=True)
class TranslationOptions:
    """How recordings are translated; the defaults are measured in docs/translate.md.

    Attributes:
        context: what surrounds the speech of a chunk: ``speech+N`` (N seconds of silence behind it) or ``full``.
        beam: hypotheses that are followed at a time; 1 is greedy.
        temperatures: tried in turn where a guard objects even with full context; none: no such try.
        timestamps: let the model say when it says what; a segment is a chunk otherwise. Trained targets have none.
        words: also time every word.
        guards: look for what Whisper is known to do wrong, and try again.
        segmentation: how recordings are cut.
    """

    context: str = "speech+8"
    beam: int = 1
    temperatures: tuple[float, ...] = (0.4, 0.8)
    timestamps: bool = False
    words: bool = False
    guards: bool = True
    segmentation: Segmentation = field(default_factory=Segmentation)

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UsageError: a value that makes no sense.
        """
        Context.parse(self.context)
        if not 1 <= self.beam <= 32:
            raise UsageError(f"beam {self.beam}: use 1 (greedy) to 32")
        for t in self.temperatures:
            if not 0 < t <= 2:
                raise UsageError(f"temperature {t:g}: use more than 0, and 2 at most")


@dataclass(frozen=True)
class Segment:
    """A piece of a translation.

    Attributes:
        start: seconds from the recording's start.
        end: likewise.
        text: in the target language.
        language: the language spoken, as it was given or detected.
        log_probability: mean over the chunk's tokens; a segment shares it, and the next three, with its chunk.
        no_speech_probability: Whisper's own.
        compression_ratio: of the chunk's text.
        flags: what looks wrong (see `guards`); none where guards are off.
        tries: how often the chunk was decoded.
        words: with their times, if they were asked for.
    """

    start: float
    end: float
    text: str
    language: str
    log_probability: float
    no_speech_probability: float
    compression_ratio: float
    flags: tuple[Flag, ...] = ()
    tries: int = 1
    words: tuple[Word, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The JSON form; without words and flags where there are none."""
        row = asdict(self) | {"flags": list(self.flags), "words": [asdict(w) for w in self.words]}
        for name in ("log_probability", "no_speech_probability", "compression_ratio"):
            row[name] = round(row[name], 4)
        return {k: v for k, v in row.items() if v != []}


@dataclass(frozen=True)
class Translation:
    """A recording in one target language.

    Attributes:
        id: the recording's name.
        target: the language of the text.
        language: the language spoken: given, or detected in most of it.
        language_probability: of a detected one, mean over the recording.
        token: the language that the model was told, where that is another (`--as`).
        duration: of the recording, seconds.
        speech: seconds of it that were found to be speech.
        segments: in the order of time; none where nobody speaks.
    """

    id: str
    target: str
    language: str
    language_probability: float | None
    token: str | None
    duration: float
    speech: float
    segments: list[Segment]

    @property
    def text(self) -> str:
        """All of it in one line."""
        glue = "" if self.target in UNSPACED else " "
        return glue.join(s.text for s in self.segments if s.text)

    @property
    def flags(self) -> list[Flag]:
        """Everything that is flagged in it."""
        return sorted({flag for s in self.segments for flag in s.flags})

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        row = {k: v for k, v in asdict(self).items() if v is not None}
        row |= {"text": self.text, "flags": self.flags, "segments": [s.as_dict() for s in self.segments]}
        row["duration"], row["speech"] = round(self.duration, 2), round(self.speech, 2)
        return row


@dataclass(frozen=True)
class Asked:
    """One target as it is asked for: the decoder's prompt by spoken language, with and without timestamps."""

    target: str
    task: Task
    trained: bool  # by us: its prompt is without timestamps


@dataclass(eq=False)
class _Chunk:
    """A stretch of a recording on its way."""

    recording: int
    span: Span
    samples: Samples
    language: str = ""  # spoken
    token: str = ""  # the language that the model is told
    states: Any = None
    found: dict[str, "_Found"] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE


@dataclass(frozen=True)
class _Found:
    decoded: Decoded
    text: str
    flags: tuple[Flag, ...]
    tries: int
    words: tuple[Word, ...] = ()


@dataclass(eq=False)
class _Recording:
    """What is known of a recording on its way."""

    id: str
    source: str
    token: str | None = None
    duration: float = 0.0
    speech: float = 0.0
    n_chunks: int | None = None  # None: not all are known yet
    chunks: list[_Chunk] = field(default_factory=list)  # that are done
    heard: dict[str, float] = field(default_factory=lambda: defaultdict(float))  # language -> seconds, weighted

    @property
    def language(self) -> str | None:
        """What was said, or heard most."""
        if self.source not in (AUTO, EACH):
            return self.source
        return max(self.heard, key=lambda code: self.heard[code]) if self.heard else None

    def hear(self, chunk: _Chunk, probabilities: Mapping[str, float]) -> None:
        """Count a chunk's language probabilities."""
        chunk.language = max(probabilities, key=lambda code: probabilities[code])
        for code, p in probabilities.items():
            self.heard[code] += p * chunk.seconds


class Translator:
    """Translate recordings.

    >>> Translator("base").translate("talk.mp3", to="en").text  # doctest: +SKIP

    Args:
        model: alias, hub id, model folder, folder with a LoRA adapter, or a backend that is loaded already.
        options: how to translate.
        backend: ``ctranslate2``, ``transformers`` or ``auto``.
        compute: number format, see `backends.load_backend`.
        device: ``cpu``, ``cuda`` or ``auto``.
    """

    def __init__(
        self,
        model: str | Path | Backend = "base",
        options: TranslationOptions | None = None,
        *,
        backend: str = "auto",
        compute: str = "auto",
        device: str = "auto",
    ) -> None:
        self.options = options or TranslationOptions()
        if isinstance(model, str | Path):
            self.backend = load_backend(model, backend=backend, compute=compute, device=device)
        else:
            self.backend = model

    @property
    def targets(self) -> list[str]:
        """What the model can be asked for: what it was trained for, English, and transcripts."""
        trained = list(self.backend.targets.targets) if self.backend.targets else []
        return list(dict.fromkeys([*trained, *(["en"] if self.backend.whisper.can_translate else [])]))

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
        targets = [self._asked(t, named) for t in normalise_languages(to)]
        if not targets:
            raise UsageError("no target language; name one")
        stand_ins = {code: code for code in self.backend.whisper.languages}  # spoken language -> token
        if spoken_as is not None:
            stand_ins = dict.fromkeys([*stand_ins, *named], self._known(spoken_as))
        going: dict[int, _Recording] = {}
        window: list[_Chunk] = []
        size, done = FIRST_WINDOW, 0

        def process() -> None:
            self._listen_to([c for c in window if going[c.recording].source in (AUTO, EACH)], going, spoken_as)
            for chunk in window:
                recording = going[chunk.recording]
                if recording.source != EACH:
                    chunk.language = recording.language or chunk.language
                if chunk.language not in stand_ins:
                    alike = [c for c in window if going[c.recording].source == chunk.language]
                    stand_ins[chunk.language] = self._stand_in(chunk.language, alike[:PROBED_CHUNKS], log)
                chunk.token = recording.token = stand_ins[chunk.language]
            self._process(window, going, targets, advance)
            first = {c.recording: round(c.span.seconds[0], 2) for c in reversed(window)}
            for number, since in sorted(first.items()):
                for asked in targets:
                    so_far = self._joined(going[number].chunks, asked)
                    news(going[number].id, asked.target, [s for s in so_far if s.start >= since])
            window.clear()

        def finished() -> Iterator[Translation]:
            nonlocal done
            while done in going and going[done].n_chunks == len(going[done].chunks):
                yield from self._assembled(going.pop(done), targets)
                done += 1

        for name, audio in recordings:
            spoken = source if isinstance(source, str) else source.get(name, AUTO)
            recording = _Recording(name, spoken if spoken in (AUTO, EACH) else normalise_language(spoken))
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
                window.append(_Chunk(number, span, samples[span.start : span.end]))
                if len(window) == size:
                    process()
                    size = min(2 * size, WINDOW_CHUNKS)
            yield from finished()
        process()
        yield from finished()

    # ------------------------------------------------------------ one window

    def _listen_to(self, chunks: Sequence[_Chunk], going: Mapping[int, _Recording], spoken_as: str | None) -> None:
        """Detect the languages of chunks; what the model is told anyhow isn't asked."""
        if spoken_as is not None:
            for chunk in chunks:
                chunk.language = self._known(spoken_as)
            return
        with ThreadPoolExecutor(self.backend.workers) as pool:
            for heard in pool.map(self._listen, self._batches(chunks)):
                for chunk, probabilities in heard:
                    going[chunk.recording].hear(chunk, probabilities)

    def _stand_in(self, language: str, chunks: Sequence[_Chunk], log: Callable[[str], None]) -> str:
        """The token that a language without one is heard under; `related` has the rule."""
        whisper = self.backend.whisper
        candidates = candidate_tokens(language, whisper.languages)
        heard: dict[str, dict[str, float]] = {}
        if not candidates:
            for batch in self._batches(chunks):
                heard |= {str(chunks.index(c)): p for c, p in self._listen(batch)}
            candidates = heard_most(heard)
        translations: dict[str, dict[str, Hypothesis]] = {}
        for code in candidates if len(candidates) > 1 else ():
            translations[code] = {}
            for batch in self._batches(chunks):
                prompts = [whisper.prompt(code, "translate")] * len(batch)
                for c, found in zip(
                    batch, self.backend.generate(self._encoded(batch), prompts, Decoding()), strict=True
                ):
                    i, text = str(chunks.index(c)), whisper.tokenizer.decode(found.tokens, skip_special_tokens=True)
                    translations[code][i] = Hypothesis(i, text.strip(), found.tokens, found.log_probability)
        chosen = choose_token(rule_scores(DEFAULT_RULE, translations, heard)) if translations else candidates[0]
        log(
            f"{language_name(language)} has no token in {whisper.model_name}: heard as {language_name(chosen)}, of "
            f"{', '.join(candidates)} (rule: {DEFAULT_RULE}; docs/unseen.md); --as names another"
        )
        return chosen

    def _process(
        self,
        window: Sequence[_Chunk],
        going: Mapping[int, _Recording],
        targets: Sequence[Asked],
        advance: Callable[[float], None],
    ) -> None:
        """Decode chunks, and hand each to its recording."""
        with ThreadPoolExecutor(self.backend.workers) as pool:
            jobs = [(batch, pool.submit(self._decode, batch, targets)) for batch in self._batches(window)]
            for batch, job in jobs:
                job.result()
                advance(sum(c.seconds for c in batch))
        for chunk in window:
            chunk.states = None
            going[chunk.recording].chunks.append(chunk)

    def _batches(self, chunks: Sequence[_Chunk]) -> list[list[_Chunk]]:
        """Chunks of equally long contexts, the longest first."""
        alike: dict[int, list[_Chunk]] = defaultdict(list)
        for c in chunks:
            alike[self._context_frames(c)].append(c)
        batches = []
        for length in sorted(alike, reverse=True):
            size = max(1, min(BATCH_CHUNKS, BATCH_FRAMES // length))
            batches += [alike[length][start : start + size] for start in range(0, len(alike[length]), size)]
        return batches

    def _context_frames(self, chunk: _Chunk) -> int:
        n_speech = min(WINDOW_FRAMES, -(-len(chunk.samples) // FRAME_SAMPLES))
        return Context.parse(self.options.context).total_frames(n_speech)

    def _features(self, chunks: Sequence[_Chunk], frames: int) -> Any:
        """Log-mel windows of so many encoder frames, (B, mels, 2 * frames); silence behind the speech."""
        extract, length = self.backend.whisper.feature_extractor, frames * FRAME_SAMPLES
        padded = [np.pad(c.samples[:length], (0, max(0, length - len(c.samples)))) for c in chunks]
        found = extract(padded, sampling_rate=SAMPLE_RATE, padding=False, truncation=False, return_tensors="np")
        return found.input_features.astype(np.float32)

    def _encoded(self, batch: Sequence[_Chunk]) -> Any:
        return self.backend.encode(self._features(batch, self._context_frames(batch[0])))

    def _listen(self, batch: Sequence[_Chunk]) -> list[tuple[_Chunk, dict[str, float]]]:
        """Language probabilities of each chunk; the states are kept for `_decode`, if it gets the same batch."""
        states = self._encoded(batch)
        batch[0].states = (list(batch), states)
        return list(zip(batch, self.backend.detect(states), strict=True))

    def _decode(self, batch: Sequence[_Chunk], targets: Sequence[Asked]) -> None:
        held = batch[0].states
        states = held[1] if held and held[0] == list(batch) else self._encoded(batch)
        batch[0].states = None
        how = Decoding(beam=self.options.beam)
        for asked in targets:
            self._try(batch, states, asked, how)
            if self.options.words:
                self._place(batch, states, asked)
        if self.options.guards:
            for asked in targets:
                self._try_again(batch, asked)

    def _try_again(self, batch: Sequence[_Chunk], asked: Asked) -> None:
        """Decode what a guard objects to with full context, then by sampling."""
        doubtful = [c for c in batch if TRY_AGAIN & set(c.found[asked.target].flags)]
        if not doubtful:
            return
        states = self.backend.encode(self._features(doubtful, WINDOW_FRAMES))
        ladder = [Decoding(beam=self.options.beam)] if self._context_frames(batch[0]) < WINDOW_FRAMES else []
        ladder += [Decoding(temperature=t) for t in self.options.temperatures]
        for how in ladder:
            self._try(doubtful, states, asked, how)
            if self.options.words:
                self._place(doubtful, states, asked)
            if not any(TRY_AGAIN & set(c.found[asked.target].flags) for c in doubtful):
                break

    def _try(self, chunks: Sequence[_Chunk], states: Any, asked: Asked, how: Decoding) -> None:
        """Decode, and keep what is found where it is better than what there was."""
        how = replace(how, timestamps=self.options.timestamps and not asked.trained)
        prompts = [self._prompt(asked, c, timestamps=how.timestamps) for c in chunks]
        for chunk, decoded in zip(chunks, self.backend.generate(states, prompts, how), strict=True):
            text = self.backend.whisper.tokenizer.decode(decoded.tokens, skip_special_tokens=True).strip()
            flags: tuple[Flag, ...] = ()
            if self.options.guards:
                flags = flags_of(
                    text,
                    target=asked.target,
                    source=chunk.language,
                    log_probability=decoded.log_probability,
                    no_speech_probability=decoded.no_speech_probability,
                    ended=decoded.ended,
                )
            before = chunk.found.get(asked.target)
            tries = before.tries + 1 if before else 1
            found = _Found(decoded, text, flags, tries)
            if before and (not TRY_AGAIN & set(before.flags) or _rank(before) >= _rank(found)):
                found = replace(before, tries=tries)
            chunk.found[asked.target] = found

    def _place(self, chunks: Sequence[_Chunk], states: Any, asked: Asked) -> None:
        """Time the words of the texts that chunks have now."""
        first_time = self.backend.whisper.model.generation_config.no_timestamps_token_id + 1
        for i, chunk in enumerate(chunks):
            found = chunk.found[asked.target]
            tokens = [t for t in found.decoded.tokens if t < first_time]
            if not tokens or found.words:
                continue
            prompt = self._prompt(asked, chunk, timestamps=False)
            path = self.backend.place(states, i, prompt, tokens, chunk.seconds)
            tokenizer, spaced = self.backend.whisper.tokenizer, asked.target not in UNSPACED
            words = join_tokens(tokens, path, chunk.seconds, tokenizer, spaced=spaced)
            chunk.found[asked.target] = replace(found, words=tuple(words))

    # ------------------------------------------------------------ what is asked for

    def _known(self, code: str) -> str:
        """A language that the model has a token for."""
        code = normalise_language(code)
        self.backend.whisper.language_token(code)
        return code

    def _asked(self, target: str, spoken: Collection[str]) -> Asked:
        """How a target is asked for; see `Targets`, and docs/deploy.md."""
        whisper, trained = self.backend.whisper, self.backend.targets
        if trained and target in trained.targets:
            return Asked(target, trained.task(target), trained=True)
        if target == "en" and whisper.is_multilingual:
            return Asked(target, "translate" if whisper.can_translate else "transcribe", trained=False)
        if target not in spoken:  # a transcript is asked for under whatever token stands in for its language
            self._known(target)
        return Asked(target, "transcribe", trained=False)

    def _prompt(self, asked: Asked, chunk: _Chunk, *, timestamps: bool) -> list[int]:
        whisper, trained = self.backend.whisper, self.backend.targets
        settings = whisper.model.generation_config
        if asked.trained and trained:
            return trained.prompt(whisper, asked.target, source=chunk.token)
        if not whisper.is_multilingual:
            prompt = [settings.decoder_start_token_id, settings.no_timestamps_token_id]
        elif chunk.language == asked.target:
            prompt = whisper.prompt(chunk.token, "transcribe")
        elif asked.task == "transcribe":
            prompt = whisper.prompt(asked.target, "transcribe")
        else:
            prompt = whisper.prompt(chunk.token, "translate")
        return prompt[:-1] if timestamps else prompt

    # ------------------------------------------------------------ what comes out

    def _assembled(self, recording: _Recording, targets: Sequence[Asked]) -> Iterator[Translation]:
        probability = None
        if recording.source == AUTO and recording.heard:
            probability = round(max(recording.heard.values()) / sum(recording.heard.values()), 4)
        language = recording.language or "und"
        for asked in targets:
            segments = self._joined(recording.chunks, asked)
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

    def _joined(self, chunks: Sequence[_Chunk], asked: Asked) -> list[Segment]:
        """The segments of chunks that follow each other."""
        segments: list[Segment] = []
        for chunk in chunks:
            for segment in self._segments(chunk, asked):
                if segments and self.options.guards and begins_doubled(segment.text, segments[-1].text):
                    segment = replace(segment, flags=(*segment.flags, "doubled"))
                segments.append(segment)
        return segments

    def _segments(self, chunk: _Chunk, asked: Asked) -> list[Segment]:
        found = chunk.found[asked.target]
        start, end = chunk.span.seconds
        whole = Segment(
            round(start, 2),
            round(end, 2),
            found.text,
            chunk.language,
            found.decoded.log_probability,
            found.decoded.no_speech_probability,
            compression_ratio(found.text),
            found.flags,
            found.tries,
            tuple(Word(w.word, round(start + w.start, 2), round(start + w.end, 2)) for w in found.words),
        )
        first_time = self.backend.whisper.model.generation_config.no_timestamps_token_id + 1
        if not any(t >= first_time for t in found.decoded.tokens):
            return [whole] if found.text else []
        pieces = timed_pieces(found.decoded.tokens, first_time, chunk.seconds)
        texts = [self.backend.whisper.tokenizer.decode(t, skip_special_tokens=True).strip() for _, _, t in pieces]
        segments = [
            replace(whole, start=round(start + since, 2), end=round(start + until, 2), text=text, words=())
            for (since, until, _), text in zip(pieces, texts, strict=True)
            if text
        ]
        for word in whole.words:  # of the last segment that has begun by then
            i = max((i for i, s in enumerate(segments) if s.start <= word.start), default=0)
            segments[i] = replace(segments[i], words=(*segments[i].words, word))
        return segments


def timed_pieces(tokens: Sequence[int], first_time: int, seconds: float) -> list[tuple[float, float, Sequence[int]]]:
    """A chunk's tokens cut at its timestamps: (start, end, tokens of the text), in seconds within the chunk.

    Args:
        tokens: text and timestamps, as Whisper writes them: in pairs around each piece, the last one perhaps open.
        first_time: id of ``<|0.00|>``; the next ones are 20 ms apart.
        seconds: of the chunk; no piece ends later.
    """
    pieces: list[tuple[float, float, Sequence[int]]] = []
    start, text = 0.0, []
    for t in tokens:
        if t < first_time:
            text.append(t)
            continue
        time = min(seconds, 0.02 * (t - first_time))
        if text:
            pieces.append((start, max(start, time), text))
            text = []
        start = time
    if text:
        pieces.append((min(start, seconds), seconds, text))
    return pieces


def _rank(found: _Found) -> tuple[int, float]:
    """What is kept of several tries: the fewest flags, then the likeliest."""
    return -len(found.flags), found.decoded.log_probability
