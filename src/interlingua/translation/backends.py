"""The engines that run Whisper, behind one interface: CTranslate2 (fast on CPUs) and transformers (everything else)."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from jaxtyping import Float32

from interlingua.encoding import best_compute, encoder_states
from interlingua.errors import UsageError
from interlingua.models import (
    Whisper,
    ctranslate2_folder,
    load_whisper,
    open_ctranslate2,
    open_twin,
    resolve,
)
from interlingua.models.quiet import quiet
from interlingua.models.targets import Targets, read_targets
from interlingua.models.trained import is_adapter, load_trained
from interlingua.translation.twin import mean_log_probability

BackendName = Literal["ctranslate2", "transformers"]
Features = Float32[np.ndarray, "B mels F"]
Timing = Sequence[tuple[int, int]]

BEST_OF = 5  # samples of which the likeliest is taken, where the temperature isn't 0 (OpenAI's default)


@dataclass(frozen=True)
class Decoding:
    """How text is searched for.

    Attributes:
        beam: hypotheses that are followed at a time; 1 is greedy.
        temperature: 0 searches; above it, the likeliest of five samples is taken.
        timestamps: let the model write its own; the prompts are without ``<|notimestamps|>`` then.
    """

    beam: int = 1
    temperature: float = 0.0
    timestamps: bool = False


@dataclass(frozen=True)
class Decoded:
    """What was found for one chunk.

    Attributes:
        tokens: without the prompt and the end token; timestamps among them, if they were asked for.
        log_probability: mean over the tokens and the end token, if there is one.
        no_speech_probability: of ``<|nospeech|>`` behind the start token.
        ended: False: the decoder ran out of positions.
    """

    tokens: list[int]
    log_probability: float
    no_speech_probability: float
    ended: bool


class Backend(Protocol):
    """A loaded model.

    Attributes:
        whisper: its tokens, settings and feature extractor; its ``model`` may have no weights.
        targets: what it was trained to translate into, or None.
        workers: how many threads may use it at a time.
        name: which engine it is, and its number format.
    """

    whisper: Whisper
    targets: Targets | None
    workers: int
    name: str

    def encode(self, features: Features) -> Any:
        """Encoder states of log-mel windows of equal length, (B, mels, F); F may be shorter than 30 s."""
        ...

    def detect(self, states: Any) -> list[dict[str, float]]:
        """Language code -> probability, of each row."""
        ...

    def generate(self, states: Any, prompts: Sequence[Sequence[int]], how: Decoding) -> list[Decoded]:
        """The text of each row under its prompt; prompts are of equal length."""
        ...

    def place(self, states: Any, row: int, prompt: Sequence[int], tokens: Sequence[int], seconds: float) -> Timing:
        """The warping path of one row's text: (token, encoder frame) pairs.

        Args:
            states: of a batch.
            row: in it.
            prompt: the decoder's first tokens.
            tokens: of the text.
            seconds: how long the row's audio is.
        """
        ...


def load_backend(
    model: str | Path = "base", *, backend: str = "auto", compute: str = "auto", device: str = "auto"
) -> "Backend":
    """Load a model into the engine that suits the device.

    Args:
        model: alias, hub id, model folder (Hugging Face or CTranslate2), or a folder with a LoRA adapter.
        backend: ``ctranslate2``, ``transformers``, or ``auto``: the former.
        compute: number format. CTranslate2: one of its own; auto is int8_float32 on a CPU, float16 on a GPU.
            transformers: float32, bfloat16 or float16; auto is the fastest that is exact enough there.
        device: ``cpu``, ``cuda``, or ``auto``: a GPU where there is one.

    Raises:
        ModelError: the model can't be loaded, merged or converted.
        UsageError: a device or number format that isn't there.
    """
    if backend in ("auto", "ctranslate2"):
        return CTranslate2Backend(model, compute=compute, device=device)
    if backend == "transformers":
        return TransformersBackend(model, compute=compute, device=device)
    raise UsageError(f"backend {backend!r}: use auto, ctranslate2 or transformers")


class CTranslate2Backend:
    """See `load_backend`. A model in another layout is converted once and kept in the cache."""

    def __init__(self, model: str | Path, *, compute: str = "auto", device: str = "auto") -> None:
        import ctranslate2

        if device == "auto":
            device = "cuda" if ctranslate2.get_cuda_device_count() else "cpu"
        elif device.startswith("cuda") and not ctranslate2.get_cuda_device_count():
            raise UsageError(f"device {device}: CTranslate2 finds no GPU here; use cpu")
        known = sorted(ctranslate2.get_supported_compute_types(device))
        if compute == "auto":
            compute = "int8_float32" if device == "cpu" else "float16"
        if compute not in known:
            raise UsageError(f"compute {compute!r}: CTranslate2 has no such format on this {device}; use {known}")
        self.workers = torch.get_num_threads() if device == "cpu" else 1
        if is_adapter(model):
            trained, self.targets = load_trained(model)
            self._model = open_twin(trained, compute=compute, device=device, workers=self.workers)
            self.whisper = trained.without_weights()
        else:
            source = resolve(model)
            self.whisper = load_whisper(source, require_multilingual=False, weights=False)
            self.targets = read_targets(source.path)
            twin = ctranslate2_folder(source)
            self._model = open_ctranslate2(twin, compute=compute, device=device, workers=self.workers)
        self.name = f"ctranslate2 {compute} on {device}"

    def encode(self, features: Features) -> Any:
        """See `Backend`."""
        import ctranslate2

        return self._model.encode(ctranslate2.StorageView.from_array(np.ascontiguousarray(features)))

    def detect(self, states: Any) -> list[dict[str, float]]:
        """See `Backend`."""
        if not self.whisper.is_multilingual:
            return [{"en": 1.0}] * states.shape[0]
        if not self._model.is_multilingual:  # it tells by the number of tokens
            raise UsageError(
                f"{self.whisper.model_name}: CTranslate2 detects no language with a vocabulary of this size; say "
                "--from, or use --backend transformers"
            )
        return [{code.strip("<|>"): float(p) for code, p in row} for row in self._model.detect_language(states)]

    def generate(self, states: Any, prompts: Sequence[Sequence[int]], how: Decoding) -> list[Decoded]:
        """See `Backend`."""
        settings = self.whisper.model.generation_config
        positions = self.whisper.model.config.max_target_positions
        search = {"beam_size": how.beam}
        if how.temperature > 0:
            search = {"beam_size": 1, "num_hypotheses": BEST_OF, "sampling_topk": 0}
            search["sampling_temperature"] = how.temperature  # type: ignore[assignment]
        found = self._model.generate(
            states,
            [list(p) for p in prompts],
            max_length=positions,  # it stops at half of them
            suppress_tokens=list(settings.suppress_tokens or []),
            suppress_blank=bool(settings.begin_suppress_tokens),
            return_scores=True,
            return_no_speech_prob=True,
            **search,
        )
        outputs = []
        for result in found:
            tokens = result.sequences_ids[0]
            ended = len(tokens) < positions // 2
            mean = mean_log_probability(float(result.scores[0]), len(tokens), ended=ended)
            outputs.append(Decoded(list(tokens), mean, float(result.no_speech_prob), ended))
        return outputs

    def place(self, states: Any, row: int, prompt: Sequence[int], tokens: Sequence[int], seconds: float) -> Timing:
        """See `Backend`. The alignment is CTranslate2's, over the heads that OpenAI chose for word timing."""
        import ctranslate2

        one = ctranslate2.StorageView.from_array(np.array(states.to_device(ctranslate2.Device.cpu))[row : row + 1])
        frames = max(2, round(100 * seconds))  # CTranslate2 counts feature frames of 10 ms
        (found,) = self._model.align(one, list(prompt), [list(tokens)], frames)
        path: Timing = found.alignments
        return path


class TransformersBackend:
    """See `load_backend`."""

    def __init__(self, model: str | Path, *, compute: str = "auto", device: str = "auto") -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if compute == "auto":
            compute = "float32" if device == "cpu" else best_compute(device)
        if is_adapter(model):
            self.whisper, self.targets = load_trained(model)
            self.whisper.model.to(device=device, dtype=getattr(torch, compute))
        else:
            source = resolve(model)
            self.whisper = load_whisper(source, dtype=compute, device=device, require_multilingual=False)
            self.targets = read_targets(source.path)
        self.workers = 1
        self.name = f"transformers {compute} on {device}"

    def encode(self, features: Features) -> torch.Tensor:
        """See `Backend`."""
        model = self.whisper.model
        inputs = torch.from_numpy(features).to(model.device, model.dtype)
        lengths = torch.full((len(features),), features.shape[-1] // 2, device=model.device)
        with torch.inference_mode():
            return encoder_states(model, inputs, lengths, self.whisper.n_layers)

    def detect(self, states: torch.Tensor) -> list[dict[str, float]]:
        """See `Backend`."""
        if not self.whisper.is_multilingual:
            return [{"en": 1.0}] * len(states)
        codes = self.whisper.languages
        tokens = [self.whisper.language_token(c) for c in codes]
        probabilities = self._first(states)[:, tokens].softmax(dim=-1)
        return [dict(zip(codes, row.tolist(), strict=True)) for row in probabilities]

    def generate(self, states: torch.Tensor, prompts: Sequence[Sequence[int]], how: Decoding) -> list[Decoded]:
        """See `Backend`."""
        from transformers import GenerationConfig
        from transformers.generation import GenerationMixin, LogitsProcessorList, WhisperTimeStampLogitsProcessor
        from transformers.modeling_outputs import BaseModelOutput

        model, settings = self.whisper.model, self.whisper.model.generation_config
        begin, most = len(prompts[0]), model.config.max_target_positions // 2  # as CTranslate2 and OpenAI's Whisper
        config = GenerationConfig(
            max_length=begin + most,
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
        with torch.inference_mode(), quiet():
            found = GenerationMixin.generate(  # not Whisper's own, which insists on windows of 30 s
                model,
                encoder_outputs=BaseModelOutput(last_hidden_state=states),
                decoder_input_ids=torch.tensor([list(p) for p in prompts], device=model.device),
                generation_config=config,
                logits_processor=rules,
            )
            steps = model.compute_transition_scores(
                found.sequences, found.scores, getattr(found, "beam_indices", None), normalize_logits=how.beam == 1
            )
        silent = self._no_speech(states)
        rows = [self._decoded(s[begin:].tolist(), p.tolist()) for s, p in zip(found.sequences, steps, strict=True)]
        each = len(rows) // len(states)  # samples of one row stand together
        return [
            dataclasses.replace(
                max(rows[i * each : (i + 1) * each], key=lambda d: d.log_probability),
                no_speech_probability=silent[i],
            )
            for i in range(len(states))
        ]

    def place(self, states: Any, row: int, prompt: Sequence[int], tokens: Sequence[int], seconds: float) -> Timing:
        """Not here.

        Raises:
            UsageError: always.
        """
        raise UsageError("words: the transformers backend doesn't time them; use --backend ctranslate2")

    def _decoded(self, tokens: list[int], steps: list[float]) -> Decoded:
        end = self.whisper.tokenizer.eos_token_id
        ended = end in tokens
        n = tokens.index(end) if ended else len(tokens)
        return Decoded(tokens[:n], float(np.mean(steps[: n + 1])), 0.0, ended)

    def _first(self, states: torch.Tensor) -> torch.Tensor:
        """Logits behind the start token alone, (B, vocabulary)."""
        from interlingua.translation.decoder import decode

        model = self.whisper.model
        start = torch.full((len(states), 1), model.generation_config.decoder_start_token_id, device=model.device)
        lengths = torch.full((len(states),), states.shape[1], device=model.device)
        with torch.inference_mode():
            hidden = decode(model.model.decoder, start, states, lengths).last_hidden_state[:, -1]
            logits: torch.Tensor = model.proj_out(hidden).float()
        return logits

    def _no_speech(self, states: torch.Tensor) -> list[float]:
        names = self.whisper.tokenizer.get_vocab()
        token = names.get("<|nospeech|>", names.get("<|nocaptions|>"))
        if token is None:
            return [0.0] * len(states)
        found: list[float] = self._first(states).softmax(dim=-1)[:, token].tolist()
        return found
