"""Whisper checkpoints of any size and layout: load, query, save, convert, open in CTranslate2's engine."""

import copy
import fnmatch
import hashlib
import json
import logging
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from interlingua.errors import EnglishOnlyModelError, ModelFormatError, UntrainedTaskError, UsageError
from interlingua.files import atomic_folder, cache_dir, sha256_file
from interlingua.models.ctranslate2 import load_model
from interlingua.models.hub import SIDECARS, ModelSource, check_device, load_pretrained, one_line, quiet, resolve
from interlingua.models.settings import check_extractor, read_generation, read_json, read_shape, stored_dtype
from interlingua.types import SAMPLE_RATE, WINDOW_SECONDS

if TYPE_CHECKING:
    import torch

    from interlingua.models.targets import Targets

_log = logging.getLogger(__name__)

Task = Literal["transcribe", "translate"]

Quantization = Literal["float32", "float16", "int8", "int8_float32", "int8_float16"]
"""CTranslate2's number formats: of the weights, and behind the underscore of what isn't quantised to int8."""

FRAME_SAMPLES = 320  # of one encoder frame: two mel frames of 10 ms
FRAMES_PER_SECOND = SAMPLE_RATE // FRAME_SAMPLES  # 50
FRAME_SECONDS = FRAME_SAMPLES / SAMPLE_RATE  # 0.02; timestamp tokens and cross-attention count in it
WINDOW_FRAMES = WINDOW_SECONDS * FRAMES_PER_SECOND  # 1500

_CONVERSION = 2  # of the cached ones: another number makes them anew
_GPT2_END = 50256  # <|endoftext|> of the English-only vocabulary; multilingual checkpoints have another
_REQUIRED = ("<|endoftext|>", "<|startoftranscript|>", "<|translate|>", "<|transcribe|>", "<|notimestamps|>")


@dataclass(frozen=True, eq=False)
class Whisper:
    """A loaded checkpoint: transformers' model (eval mode), feature extractor and tokenizer, and where it was found."""

    model: Any
    feature_extractor: Any
    tokenizer: Any
    source: ModelSource

    @property
    def encoder(self) -> Any:
        """transformers' encoder."""
        return self.model.model.encoder

    @property
    def model_name(self) -> str:
        """Hub id or folder name."""
        return self.source.name

    @property
    def revision(self) -> str:
        """Hub commit or SHA-256 of the weights."""
        return self.source.revision

    @property
    def n_mels(self) -> int:
        """Mel bins of the input: 80, or 128 since large-v3."""
        return int(self.model.config.num_mel_bins)

    @property
    def dim(self) -> int:
        """Width D of the encoder's frames."""
        return int(self.model.config.d_model)

    @property
    def n_layers(self) -> int:
        """Encoder layers."""
        return int(self.model.config.encoder_layers)

    @property
    def is_multilingual(self) -> bool:
        """False for the English-only (``.en``) checkpoints."""
        return bool(self.model.generation_config.is_multilingual)

    @property
    def languages(self) -> list[str]:
        """Codes of the languages that have a token, in the order of the ids."""
        if not self.is_multilingual:
            return ["en"]
        return [token.strip("<|>") for token in self.model.generation_config.lang_to_id]

    @property
    def can_translate(self) -> bool:
        """Whether the checkpoint was trained to translate.

        turbo and the distilled checkpoints, known by a decoder shallower than the encoder, only transcribe.
        """
        config = self.model.config
        return self.is_multilingual and bool(config.decoder_layers >= config.encoder_layers)

    def require_translation(self) -> None:
        """Raise EnglishOnlyModelError or UntrainedTaskError unless the checkpoint can translate."""
        if not self.is_multilingual:
            raise _english_only(self.model_name)
        if not self.can_translate:
            raise UntrainedTaskError(
                f"{self.model_name} was not trained to translate speech; use large-v3 or medium instead"
            )

    def without_weights(self) -> "Whisper":
        """A copy whose ``model`` has only ``config`` and ``generation_config``."""
        shell = SimpleNamespace(config=self.model.config, generation_config=self.model.generation_config)
        return replace(self, model=shell)

    def language_token(self, code: str) -> int:
        """Token id of a language code; raises UsageError if the checkpoint has no such language."""
        if not self.is_multilingual:
            raise _english_only(self.model_name)
        ids: dict[str, int] = self.model.generation_config.lang_to_id
        if f"<|{code}|>" not in ids:
            hint = _code_of(code) or ", ".join(self.languages)
            raise UsageError(f"{self.model_name} has no language {code!r}; use {hint}")
        return ids[f"<|{code}|>"]

    def task_token(self, task: Task) -> int:
        """Token id of ``transcribe`` or ``translate``; raises UsageError for another task."""
        if not self.is_multilingual:
            raise _english_only(self.model_name)
        ids: dict[str, int] = self.model.generation_config.task_to_id
        if task not in ids:
            raise UsageError(f"no task {task!r}; tasks: {', '.join(sorted(ids))}")
        return ids[task]

    def prompt(self, language: str, task: Task) -> list[int]:
        """Start of the decoder's input: startoftranscript, language, task, notimestamps."""
        generation = self.model.generation_config
        tokens = [self.language_token(language), self.task_token(task)]
        return [generation.decoder_start_token_id, *tokens, generation.no_timestamps_token_id]

    def previous(self, text: str) -> list[int]:
        """What stands before the prompt where ``text`` came before the speech: its last tokens; none for no text."""
        if not text.strip():
            return []
        first = self.tokenizer.convert_tokens_to_ids("<|startofprev|>")
        if first in (None, self.tokenizer.unk_token_id):
            raise UsageError(
                f"{self.model_name} has no token <|startofprev|>, so that it takes no prompt; leave it out"
            )
        room = int(self.model.config.max_target_positions) // 2 - 1  # as in OpenAI's Whisper
        tokens = self.tokenizer.encode(" " + text.strip(), add_special_tokens=False)
        return [first, *[t for t in tokens if t < self.tokenizer.eos_token_id][-room:]]  # no special ones


def load_whisper(
    spec: str | Path | ModelSource,
    *,
    dtype: "torch.dtype | str" = "float32",
    device: "torch.device | str" = "cpu",
    require_multilingual: bool = True,
    revision: str | None = None,
    weights: bool = True,
) -> Whisper:
    """Find and load a checkpoint by alias, hub id, folder or `resolve`d source (then ``revision`` doesn't count).

    ``weights`` False is for an engine with weights of its own: ``model`` then has only its two configs.

    Raises:
        ModelNotFoundError: no source has it.
        ModelFormatError: it is not a complete Whisper checkpoint.
        EnglishOnlyModelError: it is English-only and ``require_multilingual``.
        UsageError: an unknown dtype, or a device that this machine lacks.
    """
    if require_multilingual and isinstance(spec, str) and spec.endswith(".en") and "/" not in spec:
        raise _english_only(spec)  # before a download
    weights_dtype = _dtype(dtype)
    check_device(device)
    source = spec if isinstance(spec, ModelSource) else resolve(spec, revision=revision)
    with quiet():
        tokenizer = load_tokenizer(source.path)
        model = _load_model(source, weights_dtype if weights else None, tokenizer)
        complete_settings(model, tokenizer)
        _check_tokens(source, model, tokenizer)
        whisper = Whisper(model, _load_feature_extractor(source.path, model.config), tokenizer, source)
    if require_multilingual and not whisper.is_multilingual:
        raise _english_only(source.name)
    if weights:
        model.to(device).eval()
    return whisper


def _code_of(language: str) -> str | None:
    """Whisper's code of a language's English name, or None."""
    from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

    code: str | None = TO_LANGUAGE_CODE.get(language.lower())
    return code


def _english_only(name: str) -> EnglishOnlyModelError:
    sibling = name.removesuffix(".en") if name.endswith(".en") else "base"
    return EnglishOnlyModelError(f"{name} knows English only; use a multilingual model such as {sibling}")


def _dtype(dtype: "torch.dtype | str") -> "torch.dtype":
    import torch

    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise UsageError(f"dtype {dtype!r} is not one of float32, float16, bfloat16")
    return found


def _load_model(source: ModelSource, dtype: "torch.dtype | None", tokenizer: Any) -> Any:
    """transformers' model; ``dtype`` None: its two configs alone."""
    from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration

    if source.kind == "ctranslate2":
        return load_model(source.path, dtype, token_ids(tokenizer))
    shape = read_shape(source.path)
    config = WhisperConfig(**msgspec.structs.asdict(shape), suppress_tokens=None, begin_suppress_tokens=None)
    given = msgspec.structs.asdict(read_generation(source.path))
    generation = GenerationConfig(**{name: value for name, value in given.items() if value is not None})
    if dtype is None:
        return SimpleNamespace(config=config, generation_config=generation)
    model = load_pretrained(
        WhisperForConditionalGeneration, source.path, dtype, config=config, generation_config=generation
    )
    model.generation_config = generation
    return model


def _load_feature_extractor(folder: Path, config: Any) -> Any:
    from transformers import WhisperFeatureExtractor

    check_extractor(folder, config.num_mel_bins)
    return WhisperFeatureExtractor(feature_size=config.num_mel_bins)


# ---------------------------------------------------------------- special tokens


def load_tokenizer(folder: Path) -> Any:
    """The folder's ``WhisperTokenizer``; raises ModelFormatError if it has none or isn't Whisper's."""
    from transformers import WhisperTokenizer

    if not (folder / "tokenizer.json").is_file() and not (folder / "vocab.json").is_file():
        raise ModelFormatError(f"{folder}: tokenizer.json is missing; copy it from the original checkpoint")
    try:
        tokenizer = WhisperTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare Exception for malformed files
        raise ModelFormatError(f"{folder}: its tokenizer can't be read ({one_line(error)})") from error
    vocabulary = tokenizer.get_vocab()
    missing = [token for token in _REQUIRED if token not in vocabulary]
    if missing:
        raise ModelFormatError(f"{folder}: its tokenizer lacks {', '.join(missing)}; it is not Whisper's")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def token_ids(tokenizer: Any) -> dict[str, int]:
    """The token ids that a model's ``config`` and ``generation_config`` share, by their names there."""
    ids = tokenizer.get_vocab()
    ends = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), ids["<|endoftext|>"])
    return {**ends, "decoder_start_token_id": ids["<|startoftranscript|>"]}


def complete_settings(model: Any, tokenizer: Any) -> None:
    """Fill in the token settings that ``generation_config``'s file leaves out; drop forced languages."""
    ids, generation, config = tokenizer.get_vocab(), model.generation_config, model.config
    if getattr(generation, "is_multilingual", None) is None:
        generation.is_multilingual = ids["<|endoftext|>"] != _GPT2_END
    layers, heads = range(config.decoder_layers), range(config.decoder_attention_heads)
    defaults: dict[str, Any] = {
        **token_ids(tokenizer),
        "max_length": config.max_target_positions,
        "alignment_heads": [[layer, head] for layer in layers[len(layers) // 2 :] for head in heads],  # CTranslate2's
        "no_timestamps_token_id": ids["<|notimestamps|>"],
        "prev_sot_token_id": ids.get("<|startofprev|>"),
    }
    if generation.is_multilingual:
        defaults["lang_to_id"] = language_ids(ids)
        defaults["task_to_id"] = {task: ids[f"<|{task}|>"] for task in ("transcribe", "translate")}
    for name, value in defaults.items():
        if getattr(generation, name, None) is None:
            setattr(generation, name, value)
    for settings in (generation, config):
        settings.forced_decoder_ids = None  # old files force a language here; our prompts name it


def _check_tokens(source: ModelSource, model: Any, tokenizer: Any) -> None:
    """Raise ModelFormatError unless the settings' tokens are the tokenizer's, and the model has them."""
    ids, config, settings = tokenizer.get_vocab(), model.config, model.generation_config
    path = source.path / "generation_config.json"
    if not path.exists():
        path = source.path / "config.json"
    tasks = {f"<|{task}|>": token for task, token in (getattr(settings, "task_to_id", None) or {}).items()}
    named = {
        **(getattr(settings, "lang_to_id", None) or {}),
        **tasks,
        "<|startoftranscript|>": settings.decoder_start_token_id,
        "<|notimestamps|>": settings.no_timestamps_token_id,
    }
    for token, number in named.items():
        if ids.get(token) != number:
            raise ModelFormatError(
                f"{path}: {token[:40]} is token {number}, but {ids.get(token)} of the tokenizer; take both files of "
                "one checkpoint, or delete this one"
            )
    lists = {name: getattr(settings, name) or [] for name in ("suppress_tokens", "begin_suppress_tokens")}
    for name, tokens in {**lists, "tokenizer": list(named.values())}.items():
        if max(tokens, default=0) >= config.vocab_size:
            raise ModelFormatError(
                f"{path}: {name} names token {max(tokens)}, but the model has {config.vocab_size}; take all files of "
                "one checkpoint"
            )
    for layer, head in getattr(settings, "alignment_heads", None) or []:
        if layer >= config.decoder_layers or head >= config.decoder_attention_heads:
            raise ModelFormatError(
                f"{path}: alignment_heads names head {head} of layer {layer}, but the decoder has "
                f"{config.decoder_layers} layers of {config.decoder_attention_heads}; take the same checkpoint's file"
            )


def language_ids(vocabulary: dict[str, int]) -> dict[str, int]:
    """Language tokens (``<|en|>``) -> ids, in the order of the ids."""
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    found = {f"<|{code}|>": vocabulary[f"<|{code}|>"] for code in LANGUAGES if f"<|{code}|>" in vocabulary}
    return dict(sorted(found.items(), key=lambda item: item[1]))


# ---------------------------------------------------------------- saving


def save_whisper(whisper: Whisper, folder: str | Path, targets: "Targets | None" = None) -> Path:
    """Write weights, generation settings, tokenizer and feature extractor; the folder appears whole or not at all.

    ``load_whisper`` gives back every weight bit for bit; ``proj_out`` is the token embedding and is written once.
    ``targets`` are recorded in the folder and its generation settings; the model in memory stays unchanged.

    Raises:
        ModelFormatError: the output layer isn't the token embedding.
        UsageError: the model lacks a token of ``targets``.
    """
    path, model = Path(folder), whisper.model
    if model.proj_out.weight is not model.model.decoder.embed_tokens.weight:
        raise ModelFormatError(
            f"{whisper.model_name}: its output layer is not its token embedding, and Whisper's formats hold one of "
            "them; train both as one, then call model.tie_weights()"
        )
    settings = model.generation_config
    model.generation_config = copy.deepcopy(settings)
    try:
        if targets is not None:
            targets.configure(model)
        with atomic_folder(path) as temporary, quiet():
            model.save_pretrained(temporary)
            for weights in temporary.glob("*.safetensors"):
                shutil.copymode(temporary / "config.json", weights)  # safetensors' 0600 would hide them from colleagues
            whisper.tokenizer.save_pretrained(temporary)
            whisper.feature_extractor.save_pretrained(temporary)
            if targets is not None:
                targets.write(temporary)
    finally:
        model.generation_config = settings
    return path


# ---------------------------------------------------------------- conversion and the engine


def ctranslate2_folder(spec: str | Path | ModelSource, *, revision: str | None = None) -> Path:
    """A model's folder in CTranslate2's layout, with all of its tokens.

    Hugging Face's is converted once and kept in the cache, for as long as none of its files changes. One of
    CTranslate2's layout that names no language tokens (made from files of 2022) is completed there.
    """
    source = spec if isinstance(spec, ModelSource) else resolve(spec, revision=revision)
    complete = source.kind == "ctranslate2" and bool(read_json(source.path / "config.json").get("lang_ids"))
    if source.origin == "packaged" or complete:
        return source.path
    name = f"{source.name.replace('/', '--')}-{_files_digest(source)[:16]}"
    folder = cache_dir() / "models" / "converted" / name
    if folder.is_dir():
        return folder
    with atomic_folder(folder) as target:
        _log.info("converting %s to CTranslate2", source.name)
        if source.kind == "ctranslate2":
            _completed(load_whisper(source, weights=False, require_multilingual=False), target)
        else:
            dtype = stored_dtype(source.path)
            convert(load_whisper(source, dtype=dtype, require_multilingual=False), target)
    return folder


def _files_digest(source: ModelSource) -> str:
    """SHA-256 over the weights' revision and every other file that a conversion reads."""
    digest = hashlib.sha256(f"{_CONVERSION} {source.revision}".encode())
    for path in sorted(source.path.iterdir()):
        if any(fnmatch.fnmatch(path.name, pattern) for pattern in SIDECARS) and path.is_file():
            digest.update(f"{path.name}\0{sha256_file(path)}\0".encode())
    return digest.hexdigest()


def _completed(whisper: Whisper, target: Path) -> None:
    """Write a CTranslate2 folder again with complete settings; its weights are linked."""
    folder = whisper.source.path
    for path in folder.iterdir():
        if path.is_file() and path.name != "config.json":
            (target / path.name).symlink_to(path.resolve())
    settings = read_json(folder / "config.json") | _converted_settings(whisper)
    (target / "config.json").write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _converted_settings(whisper: Whisper) -> dict[str, Any]:
    """CTranslate2's ``config.json``."""
    generation = whisper.model.generation_config
    return {
        "suppress_ids": generation.suppress_tokens or [],
        "suppress_ids_begin": generation.begin_suppress_tokens or [],
        "lang_ids": sorted((getattr(generation, "lang_to_id", None) or {}).values()),
        "alignment_heads": generation.alignment_heads,
    }


def open_ctranslate2(folder: Path, *, compute: str, device: str = "cpu", workers: int = 1, threads: int = 1) -> Any:
    """CTranslate2's Whisper of a folder; keeps torch's number of threads.

    CTranslate2 sets OpenMP's threads to ``threads``, which would slow all later work of torch in this process.
    ``workers`` batches run at a time, ``threads`` serve each.
    """
    import ctranslate2
    import torch

    before = torch.get_num_threads()
    try:
        return ctranslate2.models.Whisper(
            str(folder), device=device, compute_type=compute, inter_threads=workers, intra_threads=threads
        )
    except RuntimeError as error:
        fix = "delete it, it is made" if cache_dir() in folder.parents else "fetch the model"
        raise ModelFormatError(
            f"{folder}: CTranslate2 can't open it as {compute} on {device} ({one_line(error)}); {fix} "
            "again, or use --backend transformers"
        ) from error
    finally:
        torch.set_num_threads(before)


def convert(whisper: Whisper, target: Path, quantization: str | None = None) -> None:
    """Write a model for CTranslate2, with all that faster-whisper reads; not atomic; ``target`` is emptied first.

    ``quantization`` None keeps the weights' number format. Raises ModelFormatError where the installed ctranslate2 and
    transformers can't convert the model.
    """
    import ctranslate2
    import torch
    import transformers
    from ctranslate2.converters.transformers import WhisperLoader

    class Loaded(ctranslate2.converters.Converter):  # type: ignore[misc]  # ctranslate2 has no types
        def _load(self) -> Any:
            model = copy.deepcopy(whisper.model) if quantization else whisper.model  # quantised in place
            return WhisperLoader()(model, whisper.tokenizer)

    with quiet(), torch.no_grad():
        try:
            Loaded().convert(str(target), quantization=quantization, force=True)
        except OSError:  # a full disk
            raise
        except Exception as error:  # the converter reaches into transformers, whose internals move
            raise ModelFormatError(
                f"{whisper.model_name}: ctranslate2 {ctranslate2.__version__} can't convert it with transformers "
                f"{transformers.__version__} ({one_line(error)}); use --backend transformers"
            ) from error
    settings = read_json(target / "config.json") | _converted_settings(whisper)
    (target / "config.json").write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (target / "tokenizer.json").write_text(whisper.tokenizer.backend_tokenizer.to_str(), encoding="utf-8")
    extractor = json.dumps({"feature_size": whisper.n_mels})
    (target / "preprocessor_config.json").write_text(extractor, encoding="utf-8")
