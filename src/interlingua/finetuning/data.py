"""Training data of a decoder: prompt, text, and the encoder states of an utterance, cached or made on the fly."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from interlingua.audio import duration_of, load_audio
from interlingua.corpora.check import LETTERS
from interlingua.encoding import SpeechEncoder
from interlingua.errors import AudioError, CorpusError, StoreError
from interlingua.languages import UNSPACED_LANGUAGES, PromptKind, language_name
from interlingua.metrics.offtarget import written_in
from interlingua.models import Task, Whisper
from interlingua.models.targets import prompt_tokens
from interlingua.progress import track
from interlingua.translation import decode_frames, fast_engine, pad_states
from interlingua.types import WINDOW_SECONDS, Frames, Utterance

IGNORED = -100  # label without a loss (PyTorch's default)
POOL_BATCHES = 8  # utterances of so many batches are sorted by length together
MOST_TOKENS = 128  # of an output: longer ones in 30 s are loops, and are not rehearsed
CHUNK_UTTERANCES = 256  # whose states are in memory at once
MOST_CHARACTERS = 50  # of text a second of speech: twice the fastest speaker's
MOST_NAMED = 10  # utterances in one line of the log
NONE: Mapping[str, str] = MappingProxyType({})  # of the source languages has a proxy language


# ---------------------------------------------------------------- encoder states


class States(Protocol):
    """Encoder states by utterance id: `store.FrameStore`, or `LiveStates`."""

    def __contains__(self, utterance_id: object) -> bool:
        """Whether there are states of an utterance."""
        ...

    def read(self, ids: Sequence[str]) -> list[Frames]:
        """States in the order of ``ids``."""
        ...

    def n_speech(self) -> Mapping[str, int]:
        """Frames of speech of every utterance."""
        ...


class LiveStates:
    """States encoded at every read: no disk is needed, and every epoch pays for the encoder.

    Utterances longer than Whisper's window, or without a readable header, are skipped.
    """

    def __init__(self, utterances: Sequence[Utterance], encoder: SpeechEncoder) -> None:
        self._encoder = encoder
        self._utterances: dict[str, Utterance] = {}
        self._frames: dict[str, int] = {}
        with track(len(utterances), "looking at the audio") as advance:
            for u in utterances:
                seconds = seconds_of(u)
                advance(1)
                if seconds is None or not 0 < seconds <= WINDOW_SECONDS:
                    continue
                self._utterances[u.id] = u
                self._frames[u.id] = math.ceil(round(seconds * encoder.rate, 3))  # as the encoder counts

    def __contains__(self, utterance_id: object) -> bool:
        return utterance_id in self._utterances

    def read(self, ids: Sequence[str]) -> list[Frames]:
        """Encode utterances.

        Raises:
            StoreError: an unknown or skipped utterance, or states that overflow float16.
            AudioError: its audio can't be read.
        """
        missing = [i for i in ids if i not in self._utterances]
        if missing:
            raise StoreError(f"{missing[0]!r}: no audio of at most {WINDOW_SECONDS} s to encode; leave it out")
        encoded = self._encoder.encode([load_audio(self._utterances[i].audio) for i in ids])
        made = [Frames(i, v.astype(np.float16), n) for i, (v, n) in zip(ids, encoded, strict=True)]
        for f in made:
            if not np.isfinite(f.values).all():
                raise StoreError(f"{f.id!r}: its states overflow float16; leave it out")
        return made

    def n_speech(self) -> Mapping[str, int]:
        """Frames of speech of every utterance, from the durations in the file headers."""
        return self._frames


def seconds_of(utterance: Utterance) -> float | None:
    """Duration in an utterance's file header; None: unreadable."""
    try:
        return duration_of(utterance.audio)
    except AudioError:
        return None


# ---------------------------------------------------------------- examples


@dataclass(frozen=True)
class Example:
    """One example; ``labels``: text and end token; ``rehearsal``: of an old task; ``context``: number of its store."""

    utterance: str
    prompt: tuple[int, ...]
    labels: tuple[int, ...]
    rehearsal: bool = False
    context: int = 0


def unfit(
    utterances: Sequence[Utterance], measured: Sequence[Utterance], whisper: Whisper, target: str, prompt: PromptKind
) -> dict[str, list[str]]:
    """Utterances that can't be trained on, or had better not: reason -> their ids; one has its first reason alone.

    ``measured``: of dev and test, whose sentences may not be trained on: those with the same ``meaning``, transcript or
    reference, but for case and punctuation. A reference is in the wrong language where it is in another script, or
    has 20 letters or more and is rather in the speech's own language; it is too long for its speech at more than 50
    characters a second.
    """
    most = whisper.model.config.max_target_positions
    room = most - len(prompt_tokens(whisper, prompt, source="en", target="en"))
    held = {sentence for u in measured for sentence in _sentences(u, target)}
    lengths = _lengths(utterances)
    found: dict[str, list[str]] = {}
    for u in utterances:
        text, seconds = u.translations.get(target, ""), lengths[u.id]
        if not any(map(str.isalnum, text)):
            reason = "the reference is empty, or has no words"
        elif len(text.encode()) >= room and len(_labels(whisper, text, target)) > room:  # a token is a byte or more
            reason = f"the reference is longer than the decoder's {most} tokens"
        elif _in_another(text, target, u.language):
            reason = f"the reference isn't in {language_name(target)}"
        elif seconds > WINDOW_SECONDS:
            reason = f"the recording is longer than {WINDOW_SECONDS} s"
        elif 0 < MOST_CHARACTERS * max(1.0, seconds) < len(text):
            reason = "the reference is too long for its recording"
        elif held & set(_sentences(u, target)):
            reason = "the sentence is one of dev or test"
        else:
            continue
        found.setdefault(reason, []).append(u.id)
    return found


def _lengths(utterances: Sequence[Utterance]) -> dict[str, float]:
    """Seconds by utterance id, from the file headers where the records have none; 0: unreadable."""
    unknown = [u for u in utterances if not u.duration]
    found = {u.id: u.duration or 0.0 for u in utterances}
    with track(len(unknown), "looking at the audio") as advance:
        for u in unknown:
            found[u.id] = seconds_of(u) or 0.0
            advance(1)
    return found


def _sentences(utterance: Utterance, target: str) -> Iterator[tuple[str, str]]:
    texts = [(utterance.language, utterance.text), (target, utterance.translations.get(target))]
    named = [("meaning", utterance.meaning), *((lang, _letters(text)) for lang, text in texts if text)]
    return ((kind, value) for kind, value in named if value)


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))


def _in_another(text: str, target: str, spoken: str) -> bool:
    return sum(map(str.isalpha, text)) >= LETTERS and written_in(text, target, (spoken,), others=()) is False


def named(ids: Collection[str]) -> str:
    """Ten ids, and how many more there are."""
    more = f" and {len(ids) - MOST_NAMED} more" if len(ids) > MOST_NAMED else ""
    return ", ".join(map(repr, list(ids)[:MOST_NAMED])) + more


def text_example(whisper: Whisper, utterance: str, prompt: Sequence[int], text: str, language: str) -> Example:
    """An example whose labels are a text, spaced as Whisper spaces that language.

    Raises:
        CorpusError: the text is empty, or longer than the decoder has positions for.
    """
    ids = _labels(whisper, text, language)
    most = whisper.model.config.max_target_positions - len(prompt)
    if not text.strip() or len(ids) > most:
        raise CorpusError(f"{utterance}: {len(ids)} tokens of text to learn; 1 to {most} are possible: leave it out")
    return Example(utterance, tuple(prompt), (*ids, end_token(whisper)))


def _labels(whisper: Whisper, text: str, language: str) -> list[int]:
    lead = "" if language in UNSPACED_LANGUAGES else " "
    return list(whisper.tokenizer(lead + text.strip(), add_special_tokens=False).input_ids)


def translation_examples(
    utterances: Sequence[Utterance],
    whisper: Whisper,
    target: str,
    prompt: PromptKind,
    *,
    token: str | None = None,
    proxies: Mapping[str, str] = NONE,
) -> list[Example]:
    """Every utterance with its reference in the target language.

    ``token``: language token if not the target's own; ``proxies``: those of source languages without a token.

    Raises:
        CorpusError: an utterance has no reference, or one that is too long.
    """
    examples = []
    for u in utterances:
        text = u.translations.get(target)
        if text is None:
            raise CorpusError(f"{u.id}: no reference in {target!r}; `translations` has {', '.join(u.translations)}")
        spoken = proxies.get(u.language, u.language)
        start = prompt_tokens(whisper, prompt, source=spoken, target=token or target)
        examples.append(text_example(whisper, u.id, start, text, target))
    return examples


def end_token(whisper: Whisper) -> int:
    """Id of the end token."""
    end = whisper.model.generation_config.eos_token_id
    return int(end[0] if isinstance(end, list) else end)


def rehearsal_examples(
    whisper: Whisper,
    utterances: Sequence[Utterance],
    store: States,
    *,
    languages: Sequence[str] | None = None,
) -> list[Example]:
    """The model's own transcript and English translation of each utterance, to rehearse; unlabelled speech is enough.

    Empty and unended outputs, and utterances without states, are skipped. ``languages``: whose tokens prompt every
    utterance; None: its source language.
    """
    prompted: dict[str, list[str]] = {}  # language of the prompt -> utterances
    for u in utterances:
        for language in languages or (u.language,):
            if u.id in store:
                prompted.setdefault(language, []).append(u.id)
    examples = []
    engine = fast_engine(whisper, compute="float32")
    with track(sum(len(ids) * len(_tasks(language)) for language, ids in prompted.items()), "rehearsal") as advance:
        for language, ids in sorted(prompted.items()):
            for start in range(0, len(ids), CHUNK_UTTERANCES):
                frames = store.read(ids[start : start + CHUNK_UTTERANCES])
                for task in _tasks(language):
                    prompt = whisper.prompt(language, task)
                    most = min(MOST_TOKENS, whisper.model.config.max_target_positions - len(prompt))
                    for output in decode_frames(engine, frames, prompt, most_tokens=most):
                        if output.text and len(output.tokens) < most:
                            labels = (*output.tokens, end_token(whisper))
                            examples.append(Example(output.id, tuple(prompt), labels, rehearsal=True))
                        advance(1)
    return examples


def _tasks(language: str) -> tuple[Task, ...]:
    return ("transcribe",) if language == "en" else ("transcribe", "translate")


# ---------------------------------------------------------------- batches


class StateDataset(Dataset[tuple[Example, Frames]]):
    """Examples with the states of their utterances, read batch by batch."""

    def __init__(self, examples: Sequence[Example], stores: Sequence[States]) -> None:
        for i, store in enumerate(stores):
            missing = sorted({e.utterance for e in examples if e.context == i and e.utterance not in store})
            if missing:
                store.read(missing)  # raises
        self.examples = examples
        self._stores = stores

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> tuple[Example, Frames]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Example, Frames]]:
        """A batch, in one read of each store."""
        chosen = [self.examples[i] for i in indices]
        found: dict[tuple[str, int], Frames] = {}
        for i in sorted({e.context for e in chosen}):
            ids = [e.utterance for e in chosen if e.context == i]
            found |= {(f.id, i): f for f in self._stores[i].read(ids)}
        return [(e, found[e.utterance, e.context]) for e in chosen]


def collate(items: Sequence[tuple[Example, Frames]]) -> dict[str, torch.Tensor]:
    """One padded batch: ``states`` (B, T, D), ``lengths`` (B,), ``tokens`` and ``labels`` (B, L), ``rehearsal`` (B,).

    The label at a position is the next token.
    """
    states, lengths = pad_states([frames.values for _, frames in items])
    longest = max(len(e.prompt) + len(e.labels) - 1 for e, _ in items)
    tokens = torch.zeros(len(items), longest, dtype=torch.long)
    labels = torch.full_like(tokens, IGNORED)
    for row, (e, _) in enumerate(items):
        ids = [*e.prompt, *e.labels]
        tokens[row, : len(ids) - 1] = torch.tensor(ids[:-1])
        labels[row, len(e.prompt) - 1 : len(ids) - 1] = torch.tensor(e.labels)
    rehearsal = torch.tensor([e.rehearsal for e, _ in items])
    return {"states": states, "lengths": lengths, "tokens": tokens, "labels": labels, "rehearsal": rehearsal}


class Batches(Sampler[list[int]]):
    """Shuffled batches of similar length; the order depends on seed and epoch alone, so it can be resumed.

    Each batch holds ``size`` new examples (the last one may be smaller) and ``rehearsed`` old ones, if any, drawn in an
    order of their own that restarts when it ends. ``n_speech``: frames of each utterance.
    """

    def __init__(
        self, examples: Sequence[Example], n_speech: Mapping[str, int], size: int, rehearsed: int = 0, seed: int = 0
    ) -> None:
        self._length = np.array([(n_speech[e.utterance], e.context) for e in examples])
        self._new = np.array([i for i, e in enumerate(examples) if not e.rehearsal])
        self._old = np.array([i for i, e in enumerate(examples) if e.rehearsal])
        self._size, self._rehearsed, self._seed = size, rehearsed if len(self._old) else 0, seed
        self._epoch = 0
        self.batch_size, self.drop_last = None, False  # read by accelerate; None: batches differ in size

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self._epoch = epoch

    def __len__(self) -> int:
        return -(-len(self._new) // self._size)

    def __iter__(self) -> Iterator[list[int]]:
        random = np.random.default_rng([self._seed, self._epoch])
        order = random.permutation(self._new)
        pools = [order[i : i + POOL_BATCHES * self._size] for i in range(0, len(order), POOL_BATCHES * self._size)]
        alike = np.concatenate([pool[np.lexsort(self._length[pool].T)] for pool in pools])  # by context, then by length
        batches = [alike[i : i + self._size] for i in range(0, len(alike), self._size)]
        old = self._old_of_epoch(len(batches))
        by_length = sorted(range(len(batches)), key=lambda i: self._frames(batches[i]))
        for i, rehearsed in zip(by_length, old, strict=True):  # short ones with short ones
            batches[i] = np.concatenate([batches[i], rehearsed])
        for i in random.permutation(len(batches)):
            yield batches[i].tolist()

    def _frames(self, batch: np.ndarray) -> float:
        return float(self._length[batch, 0].mean())

    def _old_of_epoch(self, n: int) -> np.ndarray:
        """(n, rehearsed) old examples, the shortest first: the epoch's part of an endless series of permutations."""
        if not self._rehearsed:
            return np.zeros((n, 0), dtype=int)
        start, need = self._epoch * n * self._rehearsed, n * self._rehearsed
        rounds = range(start // len(self._old), (start + need - 1) // len(self._old) + 1)
        drawn = np.concatenate([np.random.default_rng([self._seed, 1, r]).permutation(self._old) for r in rounds])
        first = start - rounds[0] * len(self._old)
        stretch = drawn[first : first + need]
        return stretch[np.argsort(self._length[stretch, 0], kind="stable")].reshape(n, self._rehearsed)
