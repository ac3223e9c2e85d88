"""A model that was trained further: a whole model folder, or a LoRA adapter beside the base that it belongs to."""

import warnings
from pathlib import Path

import torch

from interlingua.errors import ModelFormatError, ModelNotFoundError
from interlingua.models.layout import read_json
from interlingua.models.quiet import one_line, quiet
from interlingua.models.targets import Targets, read_targets
from interlingua.models.whisper import Whisper, load_whisper

_ADAPTER = "adapter_config.json"  # peft's


def is_adapter(model: str | Path) -> bool:
    """Whether a model spec is a folder with a LoRA adapter."""
    return (Path(model).expanduser() / _ADAPTER).is_file()


def load_trained(model: str | Path) -> tuple[Whisper, Targets | None]:
    """Load a trained model, float32 on the CPU, and what it was trained for (None where its folder doesn't say).

    Args:
        model: a model folder, a folder with a LoRA adapter, which is merged into its base, or a model spec.

    Raises:
        ModelError: see `interlingua.models.load_whisper`; also an adapter that doesn't fit its base.
    """
    folder = Path(model).expanduser()
    if is_adapter(folder):
        targets = read_targets(folder)
        return _merged(folder, targets), targets
    whisper = load_whisper(model)
    return whisper, read_targets(whisper.source.path)


def _merged(folder: Path, targets: Targets | None) -> Whisper:
    """The adapter's base model with the adapter's weights added to its own."""
    settings = read_json(folder / _ADAPTER)
    base = settings.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ModelFormatError(
            f"{folder / _ADAPTER}: names no base model; write its alias, hub id or folder as base_model_name_or_path"
        )
    try:
        whisper = load_whisper(base, revision=targets.base.revision if targets else settings.get("revision"))
    except ModelNotFoundError as error:
        raise ModelNotFoundError(f"{folder}: the adapter's base model can't be found: {error}") from error
    from peft import PeftModel

    model = whisper.model
    try:
        with quiet(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`")  # peft's, of transformers' names
            warnings.filterwarnings("error", message=".*missing adapter keys")  # half an adapter is none
            merged = PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
    except Exception as error:  # peft, safetensors, OS and shape errors have no common base
        raise ModelFormatError(f"{folder}: the adapter can't be merged into {base} ({one_line(error)})") from error
    if merged is not model:
        raise ModelFormatError(f"{folder}: merging the adapter gives no Whisper; train it with peft.LoraConfig")
    if torch.equal(model.proj_out.weight, model.model.decoder.embed_tokens.weight):
        model.tie_weights()  # save_whisper refuses it otherwise
    return whisper
