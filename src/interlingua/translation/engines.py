"""Engines that run Whisper, behind one interface: CTranslate2 (fast on CPUs) and transformers (everything else).

Log-mel features, or encoder states from a frame store, become the engine's own states; `generate` decodes those.
"""

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from threading import RLock
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from jaxtyping import Float32

from interlingua.encoding import WhisperEncoder, best_compute, encoder_states, resolve_device
from interlingua.encoding.store import FrameStore
from interlingua.errors import ModelFormatError, StoreMismatchError, UsageError
from interlingua.models import (
    ModelSource,
    Task,
    Whisper,
    convert,
    ctranslate2_folder,
    load_whisper,
    open_ctranslate2,
    resolve,
)
from interlingua.models.hub import quiet
from interlingua.models.targets import Targets, is_adapter, load_trained, read_targets
from interlingua.translation.decoder import decode, masked, pad_states
from interlingua.types import SAMPLE_RATE, WINDOW_SECONDS, FrameArray, Frames, Hypothesis, Samples

T = TypeVar("T")
Features = Float32[np.ndarray, "B mels F"]
Prompts = Sequence[Sequence[int]]

BATCH_UTTERANCES = 16
BEST_OF = 5  # samples of which the likeliest is taken, where the temperature isn't 0 (OpenAI's default)
COMPUTE = "int8_float32"  # CTranslate2's number format on CPUs
UNSEEDED = 2**32 - 1  # CTranslate2's seed that stands for none

SAMPLING = RLock()  # CTranslate2's seed is one for the whole process; who must not wait long takes it first


@dataclass(frozen=True)
class Decoding:
    """How text is searched for.

    ``temperature`` above 0 takes the likeliest of `BEST_OF` samples, which ``seed`` (below 2**31) and the batch decide.
    With ``timestamps`` the prompts are without ``<|notimestamps|>``. ``most_tokens`` None: half of the decoder's
    positions, as in OpenAI's Whisper.
    """

    beam: int = 1
    temperature: float = 0.0
    seed: int = 0
    timestamps: bool = False
    most_tokens: int | None = None

    def budget(self, whisper: Whisper, prompt: Sequence[int]) -> int:
        """The most new tokens."""
        positions: int = whisper.model.config.max_target_positions
        most = positions // 2 if self.most_tokens is None else self.most_tokens
        return min(positions - len(prompt), most)


@dataclass(frozen=True)
class Decoded:
    """One output: tokens without prompt and end token, and their mean log-probability, the end token's included.

    ``no_speech_probability`` is of ``<|nospeech|>`` after the start token; not ``ended``: the token budget ran out.
    """

    tokens: list[int]
    log_probability: float
    no_speech_probability: float
    ended: bool


class Engine(Protocol):
    """A loaded model.

    Attributes:
        whisper: its tokens, settings and feature extractor; its ``model`` may have no weights.
        targets: what it was fine-tuned to translate into, or None.
        workers: how many threads may use it at a time.
        ragged: whether states of different lengths may share a batch.
        name: engine and number format.
    """

    whisper: Whisper
    targets: Targets | None
    workers: int
    ragged: bool
    name: str

    def encode(self, features: Features) -> Any:
        """States of log-mel windows of equal length, (B, mels, F); F may be shorter than 30 s."""
        ...

    def load(self, frames: Sequence[FrameArray]) -> Any:
        """States from cached frames of the last encoder layer, B of (T, D)."""
        ...

    def detect(self, states: Any) -> list[dict[str, float]]:
        """Language code -> probability, of each row: one step after the start token (arXiv 2212.04356, section 2.3)."""
        ...

    def generate(self, states: Any, prompts: Prompts, how: Decoding) -> list[Decoded]:
        """Decode each row under its prompt; prompts are of equal length."""
        ...

    def place(
        self, states: Any, row: int, prompt: Sequence[int], tokens: Sequence[int], seconds: float
    ) -> Sequence[tuple[int, int]]:
        """The warping path of one row's text: (token, encoder frame) pairs."""
        ...


def load_engine(
    model: str | Path = "base", *, backend: str = "auto", compute: str = "auto", device: str = "auto"
) -> Engine:
    """Load a model into an engine.

    Args:
        model: alias, hub id, model folder (Hugging Face or CTranslate2), or a folder with a LoRA adapter.
        backend: ``ctranslate2``, ``transformers``, or ``auto``: the former.
        compute: number format. CTranslate2: one of its own; auto is int8_float32 on a CPU, float16 on a GPU.
            transformers: float32, bfloat16 or float16; auto is the fastest that is exact enough there.
        device: ``cpu``, ``cuda``, or ``auto``: a GPU where there is one.

    Raises:
        ModelError: the model can't be loaded, merged or converted.
        UsageError: an unavailable device or number format.
    """
    if backend in ("auto", "ctranslate2"):
        return CTranslate2Engine(model, compute=compute, device=device)
    if backend == "transformers":
        return TransformersEngine(model, compute=compute, device=device)
    raise UsageError(f"backend {backend!r}: use auto, ctranslate2 or transformers")


def fast_engine(whisper: Whisper, *, compute: str = COMPUTE) -> Engine:
    """The fastest engine for cached frames on the model's device; a snapshot of the model, which must have no adapters.

    ``compute`` is the number format on a CPU.
    """
    if whisper.model.device.type == "cpu":
        return CTranslate2Engine(whisper, compute=compute, device="cpu")
    return TransformersEngine(whisper)


class CTranslate2Engine:
    """See `load_engine`. A model in another layout is converted once and cached; one in memory must have no adapters.

    ``workers``: batches at a time; None: one per thread, which is the fastest for many.
    """

    ragged = False

    def __init__(
        self,
        model: str | Path | ModelSource | Whisper,
        *,
        compute: str = "auto",
        device: str = "auto",
        workers: int | None = None,
    ) -> None:
        import ctranslate2

        if device == "auto":
            device = "cuda" if ctranslate2.get_cuda_device_count() else "cpu"
        elif device.startswith("cuda") and not ctranslate2.get_cuda_device_count():
            raise UsageError(f"device {device}: CTranslate2 finds no GPU here; use cpu")
        known = sorted(ctranslate2.get_supported_compute_types(device))
        if compute == "auto":
            compute = COMPUTE if device == "cpu" else "float16"
        if compute not in known:
            raise UsageError(f"compute {compute!r}: CTranslate2 has no such format on this {device}; use {known}")
        threads = torch.get_num_threads() if device == "cpu" else 1
        self.workers = workers or threads
        self.name = f"ctranslate2 {compute} on {device}"
        self.targets = None
        weights: Path | Whisper
        if isinstance(model, Whisper):
            self.whisper = weights = model
        elif not isinstance(model, ModelSource) and is_adapter(model):
            weights, self.targets = load_trained(model)
            self.whisper = weights.without_weights()
        else:
            source = model if isinstance(model, ModelSource) else resolve(model)
            self.whisper = load_whisper(source, require_multilingual=False, weights=False)
            self.targets = read_targets(source.path)
            weights = ctranslate2_folder(source)
        if isinstance(weights, Whisper):
            folder = Path(tempfile.mkdtemp()) / "ct2"  # kept as long as the engine, which may open it again
            weakref.finalize(self, shutil.rmtree, folder.parent, ignore_errors=True)
            convert(weights, folder, compute)
            weights = folder
        self._open = partial(
            open_ctranslate2, weights, compute=compute, device=device, threads=max(1, threads // self.workers)
        )
        self._model = self._open(workers=self.workers)

    def encode(self, features: Features) -> Any:
        """See `Engine`."""
        return self._model.encode(_view(features))

    def load(self, frames: Sequence[FrameArray]) -> Any:
        """See `Engine`; all of equal length."""
        return _view(np.stack(frames).astype(np.float32))

    def detect(self, states: Any) -> list[dict[str, float]]:
        """See `Engine`."""
        if not self.whisper.is_multilingual:
            return [{"en": 1.0}] * states.shape[0]
        if self._model.is_multilingual:
            found = [{code.strip("<|>"): float(p) for code, p in row} for row in self._model.detect_language(states)]
            if not all(found):
                raise ModelFormatError(
                    f"{self.whisper.model_name}: CTranslate2 detects no language: the lang_ids of config.json are "
                    "missing; convert the model anew"
                )
            return found
        if hasattr(self.whisper.model, "proj_out"):  # CTranslate2 recognises multilingual models by vocabulary size
            other = TransformersEngine(self.whisper)
            return other.detect(other.load(list(on_cpu(states))))
        raise UsageError(
            f"{self.whisper.model_name}: CTranslate2 detects no language with a vocabulary of this size; say "
            "--from, or use --backend transformers"
        )

    def generate(self, states: Any, prompts: Prompts, how: Decoding) -> list[Decoded]:
        """See `Engine`."""
        settings = self.whisper.model.generation_config
        budget = how.budget(self.whisper, prompts[0])
        if budget < 1:
            return [Decoded([], 0.0, 0.0, ended=False)] * len(prompts)
        search: dict[str, Any] = {"beam_size": how.beam}
        if how.temperature > 0:
            search = {"num_hypotheses": BEST_OF, "sampling_topk": 0, "sampling_temperature": how.temperature}
        arguments = dict(
            max_length=max(2 * budget, len(prompts[0]) - 1 + budget),  # CTranslate2 stops Whisper at half of it
            suppress_tokens=list(settings.suppress_tokens or []),
            suppress_blank=bool(settings.begin_suppress_tokens),
            return_scores=True,
            return_no_speech_prob=True,
            **{"beam_size": 1, **search},
        )
        given = states, [list(p) for p in prompts]
        found = (
            self._sample(how.seed, *given, **arguments)
            if how.temperature > 0
            else self._model.generate(*given, **arguments)
        )
        outputs = []
        for result in found:
            tokens, mean = list(result.sequences_ids[0]), float(result.scores[0])
            ended = len(tokens) < budget
            if ended and tokens:  # the score is the sum over tokens and end token, over the number of tokens alone
                mean *= len(tokens) / (len(tokens) + 1)
            outputs.append(Decoded(tokens, mean, float(result.no_speech_prob), ended))
        return outputs

    def _sample(self, seed: int, *given: Any, **arguments: Any) -> Any:
        """Generate by sampling. A thread of CTranslate2 takes the seed once, so the model is opened for every call."""
        import ctranslate2

        with SAMPLING:
            ctranslate2.set_random_seed(seed)
            try:
                return self._open(workers=1).generate(*given, **arguments)
            finally:
                ctranslate2.set_random_seed(UNSEEDED)

    def place(
        self, states: Any, row: int, prompt: Sequence[int], tokens: Sequence[int], seconds: float
    ) -> Sequence[tuple[int, int]]:
        """See `Engine`. CTranslate2 aligns over the heads that OpenAI chose for word timing."""
        feature_frames = max(2, round(100 * seconds))  # of 10 ms
        one = _view(on_cpu(states)[row : row + 1])
        (found,) = self._model.align(one, list(prompt), [list(tokens)], feature_frames)
        path: Sequence[tuple[int, int]] = found.alignments
        return path


def _view(array: np.ndarray) -> Any:
    import ctranslate2

    return ctranslate2.StorageView.from_array(np.ascontiguousarray(array))


def on_cpu(states: Any) -> np.ndarray:
    """CTranslate2's states as an array, (B, T, D)."""
    import ctranslate2

    return np.array(states.to_device(ctranslate2.Device.cpu))


class _States(NamedTuple):
    hidden: torch.Tensor  # (B, T, D)
    lengths: torch.Tensor  # (B,)


class TransformersEngine:
    """See `load_engine`. A model in memory is read at every call; ``compute`` and ``device`` are ignored for it."""

    ragged, workers = True, 1

    def __init__(self, model: str | Path | Whisper, *, compute: str = "auto", device: str = "auto") -> None:
        self.targets = None
        if isinstance(model, Whisper):
            self.whisper = model
            self.name = f"transformers {model.model.dtype} on {model.model.device}"
            return
        device = resolve_device(device)[0]
        if compute == "auto":
            compute = "float32" if device == "cpu" else best_compute(device)
        if is_adapter(model):
            self.whisper, self.targets = load_trained(model)
            self.whisper.model.to(device=device, dtype=getattr(torch, compute))
        else:
            source = resolve(model)
            self.whisper = load_whisper(source, dtype=compute, device=device, require_multilingual=False)
            self.targets = read_targets(source.path)
        self.name = f"transformers {compute} on {device}"

    def encode(self, features: Features) -> _States:
        """See `Engine`."""
        model = self.whisper.model
        inputs = torch.from_numpy(features).to(model.device, model.dtype)
        lengths = torch.full((len(features),), features.shape[-1] // 2, device=model.device)
        with torch.inference_mode():
            return _States(encoder_states(self.whisper.encoder, inputs, lengths, self.whisper.n_layers), lengths)

    def load(self, frames: Sequence[FrameArray]) -> _States:
        """See `Engine`."""
        weight = self.whisper.model.proj_out.weight
        hidden, lengths = pad_states(frames)
        return _States(hidden.to(weight.device, weight.dtype), lengths)

    def detect(self, states: _States) -> list[dict[str, float]]:
        """See `Engine`."""
        if not self.whisper.is_multilingual:
            return [{"en": 1.0}] * len(states.hidden)
        codes = self.whisper.languages
        tokens = [self.whisper.language_token(c) for c in codes]
        probabilities = self._logits_behind_start(states)[:, tokens].softmax(dim=-1)
        return [dict(zip(codes, row.tolist(), strict=True)) for row in probabilities]

    def generate(self, states: _States, prompts: Prompts, how: Decoding) -> list[Decoded]:
        """See `Engine`."""
        budget = how.budget(self.whisper, prompts[0])
        if how.beam == 1 and how.temperature == 0 and not how.timestamps:
            return self._greedy(states, prompts, budget)
        silent = self._no_speech(self._logits_behind_start(states))
        found = self._search(states, prompts, how, budget)
        return [replace(d, no_speech_probability=p) for d, p in zip(found, silent, strict=True)]

    def place(
        self, states: _States, row: int, prompt: Sequence[int], tokens: Sequence[int], seconds: float
    ) -> Sequence[tuple[int, int]]:
        """Raise UsageError: only CTranslate2 times words."""
        raise UsageError("words: the transformers backend doesn't time them; use --backend ctranslate2")

    def _greedy(self, states: _States, prompts: Prompts, budget: int) -> list[Decoded]:
        """Greedy search; rows that have ended leave the batch, unlike in transformers' ``generate``."""
        model, settings = self.whisper.model, self.whisper.model.generation_config
        hidden, lengths = states
        never, not_first = list(settings.suppress_tokens or []), list(settings.begin_suppress_tokens or [])
        end = settings.eos_token_id
        end = end[0] if isinstance(end, list) else end
        outputs: list[list[int]] = [[] for _ in prompts]
        chances: list[list[float]] = [[] for _ in prompts]  # log-probabilities, the end token's included
        rows = list(range(len(prompts)))  # of the batch, as positions in `outputs`
        alive = torch.ones(len(rows), dtype=torch.bool, device=hidden.device)
        inputs = torch.tensor([list(p) for p in prompts], device=hidden.device)
        silent, cache = [0.0] * len(rows), None
        with torch.inference_mode():
            for step in range(budget):
                decoded = decode(model.model.decoder, inputs, hidden, lengths, cache=cache, use_cache=True)
                cache = decoded.past_key_values
                if step == 0:
                    start = list(prompts[0]).index(settings.decoder_start_token_id)
                    silent = self._no_speech(model.proj_out(decoded.last_hidden_state[:, start]).float())
                logits = model.proj_out(decoded.last_hidden_state[:, -1]).float()
                logits[:, never + not_first if step == 0 else never] = -torch.inf
                best, chosen = logits.log_softmax(dim=-1).max(dim=-1)
                going = alive & (chosen != end)
                for row, token, chance, counts, goes_on in zip(
                    rows, chosen.tolist(), best.tolist(), alive.tolist(), going.tolist(), strict=True
                ):
                    if counts:
                        chances[row].append(chance)
                    if goes_on:
                        outputs[row].append(token)
                alive = going
                if not alive.any():
                    break
                inputs = torch.where(alive, chosen, end)[:, None]
                if 2 * int(alive.sum()) <= len(rows):
                    left = alive.nonzero()[:, 0]
                    cache.batch_select_indices(left)
                    hidden, lengths, inputs, alive = (x[left.to(x.device)] for x in (hidden, lengths, inputs, alive))
                    rows = [rows[i] for i in left.tolist()]
        return [
            Decoded(tokens, sum(c) / len(c) if c else 0.0, p, len(tokens) < budget)
            for tokens, c, p in zip(outputs, chances, silent, strict=True)
        ]

    def _search(self, states: _States, prompts: Prompts, how: Decoding, budget: int) -> list[Decoded]:
        from transformers import GenerationConfig
        from transformers.generation import GenerationMixin, LogitsProcessorList, WhisperTimeStampLogitsProcessor
        from transformers.modeling_outputs import BaseModelOutput

        model, settings = self.whisper.model, self.whisper.model.generation_config
        begin = len(prompts[0])
        config = GenerationConfig(
            max_length=begin + budget,
            num_beams=how.beam if how.temperature == 0 else 1,
            do_sample=how.temperature > 0,
            num_return_sequences=1 if how.temperature == 0 else BEST_OF,
            length_penalty=1.0,
            eos_token_id=settings.eos_token_id,
            pad_token_id=settings.pad_token_id,
            suppress_tokens=settings.suppress_tokens,
            begin_suppress_tokens=settings.begin_suppress_tokens,
            return_dict_in_generate=True,
            output_scores=True,
            **({"temperature": how.temperature, "top_k": 0} if how.temperature > 0 else {}),
        )
        rules = LogitsProcessorList()
        if how.timestamps:
            config.no_timestamps_token_id = settings.no_timestamps_token_id
            config.max_initial_timestamp_index = 50
            rules.append(WhisperTimeStampLogitsProcessor(config, begin_index=begin))
        devices = [model.device] if model.device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.inference_mode(), quiet(), masked(model.model.decoder, *states):
            torch.manual_seed(how.seed)
            found = GenerationMixin.generate(  # not Whisper's own, which requires windows of 30 s
                model,
                encoder_outputs=BaseModelOutput(last_hidden_state=states.hidden),
                decoder_input_ids=torch.tensor([list(p) for p in prompts], device=model.device),
                generation_config=config,
                logits_processor=rules,
            )
            steps = model.compute_transition_scores(
                found.sequences, found.scores, getattr(found, "beam_indices", None), normalize_logits=how.beam == 1
            )
        end = self.whisper.tokenizer.eos_token_id
        rows = []
        for sequence, chances in zip(found.sequences[:, begin:].tolist(), steps.tolist(), strict=True):
            n = sequence.index(end) if end in sequence else len(sequence)
            rows.append(Decoded(sequence[:n], float(np.mean(chances[: n + 1])), 0.0, end in sequence))
        each = len(rows) // len(prompts)  # samples of one row are adjacent
        return [max(rows[i : i + each], key=lambda d: d.log_probability) for i in range(0, len(rows), each)]

    def _logits_behind_start(self, states: _States) -> torch.Tensor:
        """(B, vocabulary)."""
        model = self.whisper.model
        start = torch.full(
            (len(states.hidden), 1), model.generation_config.decoder_start_token_id, device=states.hidden.device
        )
        with torch.inference_mode():
            hidden = decode(model.model.decoder, start, *states).last_hidden_state[:, -1]
            logits: torch.Tensor = model.proj_out(hidden).float()
        return logits

    def _no_speech(self, logits: torch.Tensor) -> list[float]:
        tokenizer = self.whisper.tokenizer
        tokens = [tokenizer.convert_tokens_to_ids(name) for name in ("<|nospeech|>", "<|nocaptions|>")]
        token = next((t for t in tokens if t not in (None, tokenizer.unk_token_id)), None)
        found = [0.0] * len(logits) if token is None else logits.softmax(dim=-1)[:, token].tolist()
        return list(found)


# ---------------------------------------------------------------- encoder states from a frame store


def require_decodable(store: FrameStore, whisper: Whisper, *, below: int = 0) -> None:
    """Raise StoreMismatchError unless the frames are unpooled ones of this model's last layer, or so many below it."""
    spec, layer = store.spec, whisper.n_layers - below
    if spec.revision != whisper.revision or spec.layer != layer or spec.pooling > 1:
        wanted, option = (f"layer {layer}", f"--layer {layer} ") if below else ("the last layer", "")
        raise StoreMismatchError(
            f"{store.path}: decoding reads unpooled frames of {wanted} of {whisper.model_name} itself; it "
            f"holds layer {spec.layer} of {spec.model} (weights {spec.revision[:12]}, not {whisper.revision[:12]}), "
            f"pooled by {spec.pooling}; encode anew with {option}--context full"
        )


def decode_frames(
    engine: Engine, frames: Sequence[Frames], prompt: Sequence[int], *, most_tokens: int | None = None
) -> Iterator[Hypothesis]:
    """Decode utterances under one prompt, greedily, without timestamps: the longest first, so join by id.

    All T of each are read, context included. ``most_tokens`` None: as many as the decoder has positions for.
    """
    positions = engine.whisper.model.config.max_target_positions
    how = Decoding(most_tokens=positions if most_tokens is None else most_tokens)

    def generate(batch: Sequence[Frames]) -> list[Decoded]:
        return engine.generate(engine.load([f.values for f in batch]), [prompt] * len(batch), how)

    for f, found in _each(engine, frames, generate):
        text = engine.whisper.tokenizer.decode(found.tokens, skip_special_tokens=True).strip()
        yield Hypothesis(f.id, text, found.tokens, found.log_probability)


def translate_frames(
    whisper: Whisper, frames: Sequence[Frames], language: str, *, task: Task = "translate"
) -> Iterator[Hypothesis]:
    """Translate utterances of one source language into English, or transcribe them; see `decode_frames`.

    Raises:
        UntrainedTaskError, EnglishOnlyModelError: the model can't translate.
    """
    if task == "translate":
        whisper.require_translation()
    return decode_frames(TransformersEngine(whisper), frames, whisper.prompt(language, task))


def detect_frames(engine: Engine, frames: Sequence[Frames]) -> dict[str, dict[str, float]]:
    """Utterance id -> language code -> probability; see `Engine.detect`."""
    return {f.id: p for f, p in _each(engine, frames, lambda b: engine.detect(engine.load([f.values for f in b])))}


def detect_language(whisper: Whisper, samples: Samples) -> str:
    """The language that a recording's first 30 s are likeliest in."""
    ((values, n_speech),) = WhisperEncoder(whisper, context="full").encode([samples[: WINDOW_SECONDS * SAMPLE_RATE]])
    (probabilities,) = detect_frames(TransformersEngine(whisper), [Frames("", values, n_speech)]).values()
    return likeliest(probabilities)


def likeliest(probabilities: Mapping[str, float]) -> str:
    """The language with the highest probability."""
    return max(probabilities, key=probabilities.__getitem__)


def _each(
    engine: Engine, frames: Sequence[Frames], work: Callable[[Sequence[Frames]], list[T]]
) -> Iterator[tuple[Frames, T]]:
    """Apply ``work`` to batches, the longest utterances first, in parallel where the engine allows it."""
    ordered = sorted(frames, key=lambda f: -len(f.values))  # similar lengths together: less padding
    alike = [ordered] if engine.ragged else [list(g) for _, g in groupby(ordered, key=lambda f: len(f.values))]
    batches = [g[i : i + BATCH_UTTERANCES] for g in alike for i in range(0, len(g), BATCH_UTTERANCES)]
    if engine.workers == 1:
        for batch in batches:
            yield from zip(batch, work(batch), strict=True)
        return
    pool = ThreadPoolExecutor(engine.workers)
    try:
        for batch, found in zip(batches, pool.map(work, batches), strict=True):
            yield from zip(batch, found, strict=True)
    finally:
        pool.shutdown(cancel_futures=True)
