"""Save a checkpoint in Hugging Face's layout, so that `load_whisper` and plain transformers load it as it is."""

import copy
import shutil
from pathlib import Path
from typing import Any, Protocol

from interlingua.errors import ModelFormatError
from interlingua.files import atomic_folder
from interlingua.models.quiet import quiet
from interlingua.models.whisper import Whisper


class Sidecar(Protocol):
    """What a folder says besides the weights (`interlingua.models.targets.Targets`)."""

    def configure(self, model: Any) -> None:
        """Put its settings into ``model.generation_config``."""
        ...

    def write(self, folder: Path) -> None:
        """Write its file into the folder."""
        ...


def save_whisper(whisper: Whisper, folder: str | Path, targets: Sidecar | None = None) -> Path:
    """Write weights, generation settings, tokenizer and feature extractor; the folder appears whole or not at all.

    ``load_whisper`` gives back every weight bit for bit, in the dtype that it has here. ``proj_out`` is the token
    embedding and is written once. The model itself stays as it is, its generation settings included.

    Args:
        whisper: what to save.
        folder: replaced if it exists.
        targets: what the model was trained to translate into; None: the folder says nothing of it.

    Returns:
        The folder.

    Raises:
        ModelFormatError: the output layer isn't the token embedding.
        UsageError: the model has no token that ``targets`` asks for.
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
