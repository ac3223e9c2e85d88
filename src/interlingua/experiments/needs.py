"""What a recipe will need, said before it starts: hours of audio, disk, and time on the device at hand."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import torch

from interlingua.audio import load_audio
from interlingua.encoding import Context, WhisperEncoder, estimate_bytes, free_bytes, seconds_known
from interlingua.encoding.store import FrameStore
from interlingua.errors import AudioError
from interlingua.experiments.tally import count_encoding, count_seconds
from interlingua.finetuning.config import FinetuneConfig
from interlingua.finetuning.decoder import CachedDecoder
from interlingua.finetuning.examples import Example, collate
from interlingua.finetuning.finetune import MOST_TOKENS, parameters_of
from interlingua.finetuning.states import seconds_of
from interlingua.models import Whisper
from interlingua.models.whisper import FRAMES_PER_SECOND, WINDOW_FRAMES
from interlingua.translation import decode_frames, fast_engine
from interlingua.types import SAMPLE_RATE, WINDOW_SECONDS, Frames, Utterance

HEADERS = 100  # recordings of unknown length that are looked at; the others are taken to be as long, on average
DECODED = 16  # utterances that are decoded to see how long one takes


def with_durations(utterances: Sequence[Utterance]) -> list[Utterance]:
    """The same with a duration each: where none is known, the mean of some that are looked at."""
    unknown = [u for u in utterances if not seconds_known(u)]
    drawn = np.random.default_rng(0).permutation(len(unknown))[:HEADERS]
    found = [seconds for i in drawn if (seconds := seconds_of(unknown[i]))]
    guess = float(np.mean(found)) if found else float(WINDOW_SECONDS)
    return [
        u if u.duration is not None else msgspec.structs.replace(u, duration=u.audio.duration or guess)
        for u in utterances
    ]


def not_encoded(utterances: Sequence[Utterance], store: Path) -> list[Utterance]:
    """Those that a frame store doesn't hold, which may not be there yet."""
    held = FrameStore.open(store).n_speech() if store.exists() else {}
    return [u for u in utterances if u.id not in held]


def encoding_needs(utterances: Sequence[Utterance], encoder: WhisperEncoder, pool: int = 1) -> str:
    """Hours of audio, disk and time that encoding will take; the time is that of ten seconds of noise, now."""
    sized = with_durations(utterances)
    unknown = sum(not seconds_known(u) for u in utterances)
    hours = sum(u.duration or 0.0 for u in sized) / 3600
    disk = estimate_bytes(sized, encoder.spec, encoder.dim)
    more = f" (the length of {unknown} is guessed from {min(unknown, HEADERS)} of them)" if unknown else ""
    seconds = encoding_seconds(sized, encoder)
    count_encoding(sized, encoder.spec, encoder.dim, pool, seconds)
    return (
        f"{len(utterances)} utterances, {hours:.2f} h of audio{more}; encoding takes about "
        f"{seconds / 60:.1f} min here, the frames {disk / pool / 1e9:.2f} GB"
    )


def encoding_seconds(utterances: Sequence[Utterance], encoder: WhisperEncoder) -> float:
    """How long encoding takes, by the frames that there will be and the time of ten seconds of noise, now."""
    noise = np.random.default_rng(0).normal(0, 0.01, 10 * SAMPLE_RATE).astype(np.float32)
    encoder.encode([noise])  # the first takes longer
    clock = time.perf_counter()
    ((frames, _),) = encoder.encode([noise])
    spent = time.perf_counter() - clock
    size = 2 * encoder.dim  # bytes of a frame in float16
    return spent * estimate_bytes(utterances, encoder.spec, encoder.dim) / (size * len(frames))


def training_seconds(
    whisper: Whisper,
    config: FinetuneConfig,
    utterances: Sequence[Utterance],
    texts: Sequence[str],
    context: str,
    compute: str,
    device: str,
) -> float:
    """How long a training takes: its steps, by the time of one on noise of the data's mean length.

    Args:
        whisper: float32; it is spoilt.
        config: what is trained, with which remedies. Their own cost, but for longer batches, isn't counted.
        utterances: what is learnt.
        texts: what is written, to know how long it is.
        context: of the encoder states.
        compute: number format of the products.
        device: where it is trained.
    """
    batch = config.batch_size + (round(config.rehearsed * config.batch_size) if config.rehearses else 0)
    seconds = float(np.mean([u.duration for u in with_durations(utterances)]))
    speech = min(round(seconds * FRAMES_PER_SECOND), WINDOW_FRAMES)
    noise = np.random.default_rng(0).normal(size=(Context.parse(context).total_frames(speech), whisper.dim))
    n_tokens = np.mean([len(whisper.tokenizer(t, add_special_tokens=False).input_ids) for t in texts[:HEADERS]])
    most = whisper.model.config.max_target_positions // 2
    example = Example("", tuple(whisper.prompt(whisper.languages[0], "transcribe")), (1,) * min(round(n_tokens), most))
    items = [(example, Frames("", noise.astype(np.float16), speech))] * batch
    tensors = {name: values.to(device) for name, values in collate(items).items()}
    decoder = CachedDecoder(whisper).to(device)
    trained = parameters_of(config, whisper, example.prompt[1])
    optimiser = torch.optim.AdamW(trained.values(), lr=0.0, fused=True)
    clock = 0.0
    for _ in range(2):  # the first takes longer
        clock = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=compute == "bfloat16"):
            loss = decoder(**tensors).loss()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        loss.item()  # waits for the device
    step = time.perf_counter() - clock
    return step * config.epochs * -(-len(utterances) // config.batch_size)


def answer_seconds(whisper: Whisper, utterances: Sequence[Utterance], encoder: WhisperEncoder) -> float | None:
    """How long one answer takes: the mean of a few utterances that are transcribed, encoding apart.

    None: none of these can be read; whether that matters is found where they are encoded.
    """
    drawn = np.random.default_rng(0).permutation(len(utterances))[:DECODED]
    heard = {}
    for u in (utterances[i] for i in drawn):
        with suppress(AudioError):
            if 0 < (seconds_of(u) or 0) <= WINDOW_SECONDS:
                heard[u.id] = load_audio(u.audio)
    if not heard:
        return None
    encoded = encoder.encode(list(heard.values()))
    frames = [Frames(i, v.astype(np.float16), n) for i, (v, n) in zip(heard, encoded, strict=True)]
    engine = fast_engine(whisper)
    prompt = whisper.prompt(whisper.languages[0], "transcribe")
    list(decode_frames(engine, frames[:1], prompt, most_tokens=1))  # the first takes longer
    clock = time.perf_counter()
    list(decode_frames(engine, frames, prompt, most_tokens=MOST_TOKENS))
    return (time.perf_counter() - clock) / len(frames)


def time_of_each(seconds: float | None) -> str:
    """How long an answer takes, for people; see `answer_seconds`."""
    return (
        "how long one takes isn't known, for no recording can be read" if seconds is None else f"{seconds:.2f} s each"
    )


def say_room(folder: Path, log: Callable[[str], None]) -> None:
    """Tell how much disk is free, and what happens where states don't fit."""
    free = free_bytes(folder)
    if free is not None:
        log(f"{free / 1e9:.0f} GB are free; states that don't fit are made on the fly, in every epoch")


def spent(seconds: float) -> str:
    """A time that a recipe says it will take, for people; a `Tally` counts it."""
    count_seconds(seconds)
    return shown_time(seconds)


def shown_time(seconds: float) -> str:
    """A time for people."""
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
