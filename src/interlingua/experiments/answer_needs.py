"""What asking a model for translations and transcripts will take, said before it starts."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from interlingua.encoding import WhisperEncoder, best_compute, best_device
from interlingua.experiments.needs import encoding_needs, not_encoded, spent
from interlingua.experiments.run import with_durations
from interlingua.models import Whisper, load_whisper
from interlingua.translation import decode_frames, fast_engine
from interlingua.translation.related import MOST_HEARD, candidate_tokens
from interlingua.types import SAMPLE_RATE, WINDOW_SECONDS, Frames, Utterance

FRAMES, ANSWERS = "frames.lance", "answers"  # in the folder of the results
TOKENS_PER_SECOND = 4  # of speech: people say two to three words a second
_NOISES = 8  # recordings that decoding is timed on


def answer_needs(
    utterances: Sequence[Utterance],
    model: str,
    context: str,
    folder: Path,
    *,
    tokens: Mapping[str, Sequence[str]],
    forbidden: Sequence[str] = (),
) -> str:
    """Hours of audio, disk, and the time that encoding and decoding take here, of what isn't done yet.

    Where nothing is left to decode, no weights are loaded and nothing is measured.

    Args:
        utterances: that are translated into English and transcribed.
        model: model spec.
        context: of the encoder.
        folder: of the results, in which frames and answers are kept.
        tokens: language -> candidates that were named.
        forbidden: languages that are asked without their own token too.
    """
    known = load_whisper(model, weights=False)
    known.require_translation()
    sized = with_durations(utterances)
    outputs = {
        language: outputs_of(language, known.languages, tokens, forbidden)
        for language in dict.fromkeys(u.language for u in sized)
    }
    n = sum(outputs[u.language] for u in sized)
    left = max(0, n - answers_kept(folder))
    if not left:
        return "nothing is left to decode"
    device = best_device()
    encoder = WhisperEncoder(load_whisper(model, dtype=best_compute(device), device=device), context=context)
    whisper = load_whisper(model, device=device)
    seconds = sum(outputs[u.language] * (u.duration or 0.0) for u in sized)
    decoding = left / n * seconds * TOKENS_PER_SECOND * token_seconds(encoder, whisper, seconds / n)
    encoding = encoding_needs(not_encoded(utterances, folder / FRAMES), encoder)
    return (
        f"{encoding}; {left} outputs, decoding takes about {spent(decoding)}, at {TOKENS_PER_SECOND} tokens a second "
        "of speech"
    )


def answers_kept(folder: Path) -> int:
    """How many translations and transcripts a folder of results holds."""
    return sum(len(json.loads(path.read_text(encoding="utf-8"))) for path in (folder / ANSWERS).glob("*-as-*.json"))


def outputs_of(
    language: str, known: Sequence[str], tokens: Mapping[str, Sequence[str]], forbidden: Sequence[str] = ()
) -> int:
    """How often each utterance is decoded: once under every candidate token, and a transcript.

    Args:
        language: spoken.
        known: languages that the model has a token for.
        tokens: language -> candidates that were named.
        forbidden: languages that are asked without their own token too.
    """
    asked = 2 if language in known else 0
    if not asked or language in forbidden:
        others = [code for code in known if code != language]
        asked += len(tokens.get(language) or candidate_tokens(language, others)) or MOST_HEARD
        asked += 1
    return asked


def token_seconds(encoder: WhisperEncoder, whisper: Whisper, seconds: float) -> float:
    """Time that one token of an output takes, on a few recordings of noise of this length (in seconds), now.

    Longer ones than Whisper's window, which has 30 s, are taken to be as long as that.
    """
    seconds = min(seconds, WINDOW_SECONDS)
    random = np.random.default_rng(0)
    noise = [random.normal(0, 0.01, round(seconds * SAMPLE_RATE)).astype(np.float32) for _ in range(_NOISES)]
    frames = [Frames(str(i), values, n) for i, (values, n) in enumerate(encoder.encode(noise))]
    engine = fast_engine(whisper)
    prompt = whisper.prompt(whisper.languages[0], "transcribe")
    budget = round(seconds * TOKENS_PER_SECOND) + 1
    clock = time.perf_counter()
    said = list(decode_frames(engine, frames, prompt, most_tokens=budget))
    spent = time.perf_counter() - clock
    return spent / sum(len(whisper.tokenizer.encode(h.text)) + 1 for h in said)
