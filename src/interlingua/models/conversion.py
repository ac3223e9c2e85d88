"""The CTranslate2 twin of a checkpoint."""

import json
import logging
from pathlib import Path

from interlingua.errors import ModelFormatError
from interlingua.files import atomic_folder, cache_dir
from interlingua.models.layout import read_json
from interlingua.models.quiet import one_line, quiet
from interlingua.models.spec import ModelSource, resolve
from interlingua.models.tokens import load_tokenizer

_log = logging.getLogger(__name__)


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
        with atomic_folder(folder) as target, quiet():
            _convert(source, target)
    return folder


def _convert(source: ModelSource, target: Path) -> None:
    import ctranslate2
    import transformers

    _log.info("converting %s to CTranslate2", source.name)
    try:
        converter = ctranslate2.converters.TransformersConverter(str(source.path))
        converter.convert(str(target), force=True)
    except Exception as error:  # the converter reaches into transformers, whose internals move
        raise ModelFormatError(
            f"{source.path}: ctranslate2 {ctranslate2.__version__} can't convert it with transformers "
            f"{transformers.__version__} ({one_line(error)}); give a CTranslate2 folder instead"
        ) from error
    tokenizer = load_tokenizer(source.path)
    (target / "tokenizer.json").write_text(tokenizer.backend_tokenizer.to_str(), encoding="utf-8")
    n_mels = read_json(source.path / "config.json").get("num_mel_bins", 80)
    (target / "preprocessor_config.json").write_text(json.dumps({"feature_size": n_mels}), encoding="utf-8")
