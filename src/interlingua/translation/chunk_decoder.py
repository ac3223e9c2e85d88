"""Chunks of many recordings -> text: batched, encoded once for all targets, and tried again where a guard objects."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from interlingua.encoding import Context
from interlingua.languages import UNSPACED_LANGUAGES, language_name
from interlingua.models.whisper import FRAME_SAMPLES, WINDOW_FRAMES
from interlingua.translation.asking import Asked
from interlingua.translation.chunks import Chunk, Found
from interlingua.translation.engines import Decoding, Engine
from interlingua.translation.guards import Flag, flags_of
from interlingua.translation.records import TranslationOptions
from interlingua.translation.related import DEFAULT_RULE, candidate_tokens, choose_token, heard_most, rule_scores
from interlingua.translation.words import join_tokens
from interlingua.types import SAMPLE_RATE, Hypothesis

BATCH_CHUNKS, BATCH_FRAMES = 16, 6000  # of a batch at most: encoder frames bound its memory
TRY_AGAIN: frozenset[Flag] = frozenset({"loop", "wrong-language", "cut-off"})
"""What is worth another try. Doubt alone isn't: it is common, and a full window is dear."""


class ChunkDecoder:
    """Decodes windows of chunks.

    Args:
        engine: the model; as many threads use it at a time as it allows.
        options: how.
    """

    def __init__(self, engine: Engine, options: TranslationOptions) -> None:
        self.engine, self.options = engine, options

    def listen(self, chunks: Sequence[Chunk]) -> list[tuple[Chunk, dict[str, float]]]:
        """Language probabilities of each chunk; `decode` needn't encode those anew that share a batch there."""
        with ThreadPoolExecutor(self.engine.workers) as pool:
            return [pair for heard in pool.map(self._listen, self._batches(chunks)) for pair in heard]

    def decode(self, chunks: Sequence[Chunk], targets: Sequence[Asked], advance: Callable[[float], None]) -> None:
        """Give every chunk, which knows its language and token, its text in every target.

        Args:
            chunks: a window of them.
            targets: what is asked for.
            advance: is called with the seconds that are done.
        """
        with ThreadPoolExecutor(self.engine.workers) as pool:
            jobs = [(batch, pool.submit(self._decode, batch, targets)) for batch in self._batches(chunks)]
            for batch, job in jobs:
                job.result()
                advance(sum(c.seconds for c in batch))
        for chunk in chunks:
            chunk.states = None

    def stand_in(self, language: str, chunks: Sequence[Chunk], log: Callable[[str], None]) -> str:
        """The token that a language without one is heard under; `related` has the rule.

        Args:
            language: what is spoken.
            chunks: some of it.
            log: takes a line on the choice.
        """
        whisper = self.engine.whisper
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
                    batch, self.engine.generate(self._encoded(batch), prompts, Decoding()), strict=True
                ):
                    i, text = str(chunks.index(c)), whisper.tokenizer.decode(found.tokens, skip_special_tokens=True)
                    translations[code][i] = Hypothesis(i, text.strip(), found.tokens, found.log_probability)
        chosen = choose_token(rule_scores(DEFAULT_RULE, translations, heard)) if translations else candidates[0]
        log(
            f"{language_name(language)} has no token in {whisper.model_name}: heard as {language_name(chosen)}, of "
            f"{', '.join(candidates)} (rule: {DEFAULT_RULE}; docs/unseen.md); --as names another"
        )
        return chosen

    def _batches(self, chunks: Sequence[Chunk]) -> list[list[Chunk]]:
        """Chunks of equally long contexts, the longest first."""
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
        """Log-mel windows of so many encoder frames, (B, mels, 2 * frames); silence behind the speech."""
        extract, length = self.engine.whisper.feature_extractor, frames * FRAME_SAMPLES
        padded = [np.pad(c.samples[:length], (0, max(0, length - len(c.samples)))) for c in chunks]
        found = extract(padded, sampling_rate=SAMPLE_RATE, padding=False, truncation=False, return_tensors="np")
        return found.input_features.astype(np.float32)

    def _encoded(self, batch: Sequence[Chunk]) -> Any:
        return self.engine.encode(self._features(batch, self._context_frames(batch[0])))

    def _listen(self, batch: Sequence[Chunk]) -> list[tuple[Chunk, dict[str, float]]]:
        """Language probabilities of each chunk; the states are kept for `_decode`, if it gets the same batch."""
        states = self._encoded(batch)
        batch[0].states = (list(batch), states)
        return list(zip(batch, self.engine.detect(states), strict=True))

    def _decode(self, batch: Sequence[Chunk], targets: Sequence[Asked]) -> None:
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

    def _try_again(self, batch: Sequence[Chunk], asked: Asked) -> None:
        """Decode what a guard objects to with full context, then by sampling."""
        doubtful = [c for c in batch if TRY_AGAIN & set(c.found[asked.target].flags)]
        if not doubtful:
            return
        states = self.engine.encode(self._features(doubtful, WINDOW_FRAMES))
        ladder = [Decoding(beam=self.options.beam)] if self._context_frames(batch[0]) < WINDOW_FRAMES else []
        ladder += [Decoding(temperature=t) for t in self.options.temperatures]
        for how in ladder:
            self._try(doubtful, states, asked, how)
            if self.options.words:
                self._place(doubtful, states, asked)
            if not any(TRY_AGAIN & set(c.found[asked.target].flags) for c in doubtful):
                break

    def _try(self, chunks: Sequence[Chunk], states: Any, asked: Asked, how: Decoding) -> None:
        """Decode, and keep what is found where it is better than what there was."""
        how = replace(how, timestamps=self.options.timestamps and not asked.trained)
        prompts = [self._prompt(asked, c, how) for c in chunks]
        for chunk, decoded in zip(chunks, self.engine.generate(states, prompts, how), strict=True):
            text = self.engine.whisper.tokenizer.decode(decoded.tokens, skip_special_tokens=True).strip()
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
            found = Found(decoded, text, flags, tries)
            if before and (not TRY_AGAIN & set(before.flags) or _rank(before) >= _rank(found)):
                found = replace(before, tries=tries)
            chunk.found[asked.target] = found

    def _place(self, chunks: Sequence[Chunk], states: Any, asked: Asked) -> None:
        """Time the words of the texts that chunks have now."""
        first_time = self.engine.whisper.model.generation_config.no_timestamps_token_id + 1
        for i, chunk in enumerate(chunks):
            found = chunk.found[asked.target]
            tokens = [t for t in found.decoded.tokens if t < first_time]
            if not tokens or found.words:
                continue
            prompt = self._prompt(asked, chunk, Decoding())
            path = self.engine.place(states, i, prompt, tokens, chunk.seconds)
            tokenizer, spaced = self.engine.whisper.tokenizer, asked.target not in UNSPACED_LANGUAGES
            words = join_tokens(tokens, path, chunk.seconds, tokenizer, spaced=spaced)
            chunk.found[asked.target] = replace(found, words=tuple(words))

    def _prompt(self, asked: Asked, chunk: Chunk, how: Decoding) -> Sequence[int]:
        return asked.prompt(self.engine, spoken=chunk.language, token=chunk.token, timestamps=how.timestamps)


def _rank(found: Found) -> tuple[int, float]:
    """What is kept of several tries: the fewest flags, then the likeliest."""
    return -len(found.flags), found.decoded.log_probability
