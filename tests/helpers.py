"""What several test modules share: a tiny Whisper, short synthetic recordings, saved results."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import textwrap
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import GenerationConfig, WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

from interlingua import results
from interlingua.languages import WHISPER_LANGUAGES
from interlingua.metrics import (
    SystemOutputs,
    off_target,
    pooled_difference,
    transcript_errors,
    translation_statistics,
)
from interlingua.translation import TransformersEngine, likeliest
from interlingua.types import SAMPLE_RATE, AudioRef, Samples, Utterance

ROOT = Path(__file__).parent.parent  # of the checkout
RECIPES = ROOT / "recipes"
N_LANGUAGES = 99  # as in Whisper-base; Cantonese came with large-v3
SPECIAL_TOKENS = [  # in Whisper's order
    "<|endoftext|>",
    "<|startoftranscript|>",
    *(f"<|{code}|>" for code in list(WHISPER_LANGUAGES)[:N_LANGUAGES]),
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
]
END = 256  # id of <|endoftext|>, behind one token a byte
VOCABULARY = END + len(SPECIAL_TOKENS) + 1501  # the last are the timestamps, <|0.00|> to <|30.00|>


def save_tiny_whisper(folder: Path) -> Path:
    """Save a multilingual Whisper with random weights in Hugging Face's layout: D = 32, 2 + 2 layers, 80 mels."""
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=VOCABULARY,
        num_mel_bins=80,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_source_positions=1500,
        max_target_positions=24,
        pad_token_id=END,
        bos_token_id=END,
        eos_token_id=END,
        decoder_start_token_id=END + 1,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    model = WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():  # the library's own start is so small that every frame and token looks alike
        for parameter in model.parameters():
            if parameter.ndim > 1 and parameter.requires_grad:
                parameter.mul_(5)
    model.generation_config = GenerationConfig(
        decoder_start_token_id=END + 1,
        eos_token_id=END,
        pad_token_id=END,
        bos_token_id=END,
        max_length=24,
        suppress_tokens=list(range(END + 1, VOCABULARY)),
        begin_suppress_tokens=[32, END],
    )
    model.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE({letter: i for i, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL_TOKENS)
    tokenizer.add_tokens([f"<|{i * 0.02:.2f}|>" for i in range(1501)])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def save_tiny_encoder(folder: Path) -> Path:
    """Save a w2v-BERT 2.0 with random weights in Hugging Face's layout: D = 32, three layers."""
    from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2BertConfig, Wav2Vec2BertModel

    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
    model = Wav2Vec2BertModel(Wav2Vec2BertConfig(**size, output_hidden_size=32)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "conv" not in name:
                parameter.mul_(4)
    model.save_pretrained(folder)
    SeamlessM4TFeatureExtractor().save_pretrained(folder)
    return folder


def sweep(seconds: float, pitch: float, seed: int = 0) -> Samples:
    """A gliding tone in a little noise: no speech, but no two frames are alike."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    noise = np.random.default_rng(seed).normal(size=len(time))
    sound = 0.3 * np.sin(2 * np.pi * pitch * (1 + 0.5 * time) * time) + 0.02 * noise
    return sound.astype(np.float32)


def write_wav(path: Path, samples: Samples) -> Path:
    """Write 16-bit mono at 16 kHz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SAMPLE_RATE)
        out.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return path


VICTIMS = """
import json, os, signal, sys, time
sys.path[:0] = json.loads(sys.argv[1])
{setup}
for line in sys.stdin:
    moment, seconds, arguments = json.loads(line)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        passed = 0

        def watched(function):
            def call(*given, **named):
                global passed
                passed += 1
                if passed == moment:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*given, **named)

            return call

        for owner, name in POINTS:
            setattr(owner, name, watched(getattr(owner, name)))
        code = job(*arguments)
        os.write(writer, str(passed).encode())
        sys.exit(code)
    os.close(writer)
    until, ended = time.monotonic() + (seconds or 1e9), 0
    while not ended:
        ended, status = os.waitpid(child, os.WNOHANG if seconds else 0)
        if not ended and time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.001 if seconds else 0)
    code = os.waitstatus_to_exitcode(status)
    print("DONE", json.dumps([code, os.read(reader, 99).decode()]), flush=True)
    os.close(reader)
"""


@contextmanager
def victims(setup: str) -> Iterator[Callable[..., int | None]]:
    """Run a job in processes that are killed at a moment: ``run(moment, *arguments)``.

    ``setup`` defines ``job`` and POINTS, pairs of owner and name of functions; nothing in it may start threads. A
    process is killed (SIGKILL) when it calls these for the ``moment``-th time, or after ``seconds``, and ``run``
    returns None; a process that ends returns how many calls there were. What ``job`` returns is its exit code, one of
    ``codes``.
    """
    script = VICTIMS.format(setup=textwrap.dedent(setup))
    command = [sys.executable, "-c", script, json.dumps(sys.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout

        def run(
            moment: int | None, *arguments: str, seconds: float | None = None, codes: tuple[int, ...] = (0,)
        ) -> int | None:
            process.stdin.write(json.dumps([moment, seconds, arguments]) + "\n")
            process.stdin.flush()
            line = next(line for line in process.stdout if line.startswith("DONE"))
            code, passed = json.loads(line.removeprefix("DONE"))
            if code == -signal.SIGKILL and (moment or seconds):
                return None
            assert code in codes
            assert passed
            return int(passed)

        yield run
        process.stdin.close()


def utterance(language: str = "en", meaning: str | None = "hello", **fields) -> Utterance:
    """An utterance of which a test needs to say only what matters to it."""
    name = fields.pop("id", f"{language}/{meaning}")
    audio = fields.pop("audio", AudioRef(f"{name}.wav"))
    return Utterance(id=name, audio=audio, language=language, meaning=meaning, **fields)


def intended(names, trainable, embeddings, frozen_layers):
    """Parameters of the tiny decoder that may move in a training, said another way than the code does."""
    layers = [n for n in names if any(n.startswith(f"layers.{i}.") for i in range(frozen_layers, 2))]
    blocks = {
        "decoder": [*layers, "layer_norm.weight", "layer_norm.bias"],
        "cross-attention": [n for n in layers if n.split(".")[2] in ("encoder_attn", "encoder_attn_layer_norm")],
        "lora": [n for n in layers if n.endswith(("_proj.weight", "fc1.weight", "fc2.weight"))],
    }
    return {*blocks[trainable], *(["embed_tokens.weight"] if embeddings else [])}


@contextmanager
def as_an_ordinary_user() -> Iterator[None]:
    """Within, files' modes hold for root, too: this thread gives up the capabilities that pass over them (Linux)."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # capget's version 3, and this thread
    held = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; then the same of capabilities from 32 on
    assert libc.capget(header, held) == 0, os.strerror(ctypes.get_errno())
    fewer = (ctypes.c_uint32 * 6)(*held)
    fewer[0] &= ~0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    assert libc.capset(header, fewer) == 0, os.strerror(ctypes.get_errno())
    try:
        yield
    finally:
        assert libc.capset(header, held) == 0, os.strerror(ctypes.get_errno())


def records(found: dict) -> results.Results:
    """A dictionary in the form of ``results.json`` as records."""
    return msgspec.convert(found, results.Results)


def save_results(folder: Path, found: results.Results | dict, *arrays, **parts) -> Path:
    """`results.save_results`; a dictionary in the form of ``results.json`` will do, and None stands for nothing."""
    if isinstance(found, dict):
        found = records({name: value for name, value in found.items() if value is not None})
    return results.save_results(folder, found, *arrays, **parts)


def load_results(folder: Path) -> tuple[dict, dict]:
    """``results.json`` as plain JSON, with the schema's empty parts, and the arrays: what the files say."""
    _, arrays = results.load_results(folder)
    saved = json.loads((Path(folder) / "results.json").read_text(encoding="utf-8"))
    return {**msgspec.json.decode(msgspec.json.encode(results.Results())), **saved}, arrays


def greedy_tokens(whisper, states, prompt, *, most_tokens: int = 1000) -> list[list[int]]:
    """The specification of decoding: the likeliest token by token, each of the states (T, D) alone, nothing cached."""
    model, settings = whisper.model, whisper.model.generation_config
    room = model.config.max_target_positions - len(prompt)
    outputs = []
    for s in states:
        hidden = torch.from_numpy(np.array(s)).to(model.dtype)[None]
        tokens = list(prompt)
        for step in range(min(most_tokens, room)):
            with torch.inference_mode():
                decoded = model.model.decoder(input_ids=torch.tensor([tokens]), encoder_hidden_states=hidden)
                logits = model.proj_out(decoded.last_hidden_state[0, -1]).float().numpy()
            logits[list(settings.suppress_tokens or [])] = -np.inf
            if step == 0:
                logits[list(settings.begin_suppress_tokens or [])] = -np.inf
            if int(logits.argmax()) == settings.eos_token_id:
                break
            tokens.append(int(logits.argmax()))
        outputs.append(tokens[len(prompt) :])
    return outputs


def detect_language(whisper, states) -> tuple[str, float]:
    """The likeliest language of encoder states (T, D) by the transformers engine, and its probability."""
    engine = TransformersEngine(whisper)
    (found,) = engine.detect(engine.load([states]))
    return likeliest(found), found[likeliest(found)]


def score_transcripts(outputs, references, *, language, clusters=None):
    """The error rate of transcripts, by utterance id."""
    return transcript_errors(SystemOutputs(outputs, references, clusters, language, source=language)).score()


def off_target_rate(outputs, target, *, references, sources=(), clusters=None):
    """The proportion of outputs in another language than the target."""
    return off_target(SystemOutputs(outputs, references, clusters, target), sources).score()


def compare_translations(after, before, references, *, target, metric, clusters=None):
    """The score of ``after`` less that of ``before`` on the same utterances."""
    sides = (SystemOutputs(side, references, clusters, target) for side in (after, before))
    return pooled_difference(*([translation_statistics(side, metric)] for side in sides))
