"""The CTranslate2 twin of a checkpoint."""

import json
import logging
import tempfile
from pathlib import Path
from typing import Any, Literal

from interlingua.errors import ModelFormatError
from interlingua.files import atomic_folder, cache_dir
from interlingua.models.layout import read_json
from interlingua.models.quiet import one_line, quiet
from interlingua.models.saving import save_whisper
from interlingua.models.spec import ModelSource, resolve
from interlingua.models.tokens import load_tokenizer
from interlingua.models.whisper import Whisper

_log = logging.getLogger(__name__)

Quantization = Literal["float32", "float16", "int8", "int8_float32", "int8_float16"]
"""CTranslate2's number formats: of the weights, and behind the underscore of what isn't quantised to int8."""


def ctranslate2_folder(spec: str | Path | ModelSource, *, revision: str | None = None) -> Path:
    """The folder of a model's CTranslate2 twin.

    A CTranslate2 model is its own twin. A Hugging Face model is converted once, without quantisation,
    and kept in the cache under its name and revision.
    """
    source = spec if isinstance(spec, ModelSource) else resolve(spec, revision=revision)
    if source.kind == "ctranslate2":
        return source.path
    name = f"{source.name.replace('/', '--')}-{source.revision[:16]}"
    folder = cache_dir() / "models" / "converted" / name
    if not folder.is_dir():
        with atomic_folder(folder) as target:
            _log.info("converting %s to CTranslate2", source.name)
            convert(source.path, target)
    return folder


def open_ctranslate2(
    model: Path | Whisper, *, compute: str, device: str = "cpu", workers: int = 1, threads: int = 1
) -> Any:
    """CTranslate2's Whisper; torch keeps its threads.

    By itself CTranslate2 gives its own number of threads a batch to OpenMP, and so to torch: all that torch does in
    this process afterwards, training too, would run on that many.

    Args:
        model: a folder in CTranslate2's layout, or a model in memory, as it is now, without adapters in it.
        compute: number format.
        device: ``cpu`` or ``cuda``.
        workers: batches at a time.
        threads: of one batch.
    """
    import ctranslate2
    import torch

    if isinstance(model, Whisper):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "ct2"
            convert(save_whisper(model, Path(name) / "hf"), folder, compute)
            return open_ctranslate2(folder, compute=compute, device=device, workers=workers, threads=threads)
    before = torch.get_num_threads()
    try:
        return ctranslate2.models.Whisper(
            str(model), device=device, compute_type=compute, inter_threads=workers, intra_threads=threads
        )
    finally:
        torch.set_num_threads(before)


def convert(folder: Path, target: Path, quantization: str | None = None) -> None:
    """Write the CTranslate2 model of a Hugging Face folder, with all that faster-whisper reads.

    Args:
        folder: the model, in Hugging Face's layout.
        target: emptied first; not atomic by itself.
        quantization: number format of the weights; None keeps theirs.

    Raises:
        ModelFormatError: the installed ctranslate2 and transformers can't convert it.
    """
    import ctranslate2
    import transformers

    with quiet():
        try:
            converter = ctranslate2.converters.TransformersConverter(str(folder))
            converter.convert(str(target), quantization=quantization, force=True)
        except Exception as error:  # the converter reaches into transformers, whose internals move
            raise ModelFormatError(
                f"{folder}: ctranslate2 {ctranslate2.__version__} can't convert it with transformers "
                f"{transformers.__version__} ({one_line(error)}); give a CTranslate2 folder instead"
            ) from error
        tokenizer = load_tokenizer(folder)
    (target / "tokenizer.json").write_text(tokenizer.backend_tokenizer.to_str(), encoding="utf-8")
    n_mels = read_json(folder / "config.json").get("num_mel_bins", 80)
    (target / "preprocessor_config.json").write_text(json.dumps({"feature_size": n_mels}), encoding="utf-8")
