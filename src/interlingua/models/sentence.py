"""The sentence encoder of the cascade baseline: English text -> vectors whose cosine compares meanings."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float32

from interlingua.errors import ModelFormatError
from interlingua.models.hub import (
    Family,
    ModelSource,
    check_device,
    load_pretrained,
    one_line,
    quiet,
    resolve,
    weight_files,
)
from interlingua.models.offline import ALL_MINILM, check_packaged
from interlingua.models.settings import TextLimits, TextShape, read_json, read_settings

if TYPE_CHECKING:
    import torch

BATCH_TEXTS = 32

Embeddings = Float32[np.ndarray, "N E"]
"""N texts as rows of length 1 (of zeros for a text without tokens); E is the encoder's width (384 for MiniLM)."""

SENTENCE_ALIASES: dict[str, str] = {ALL_MINILM: "sentence-transformers/all-MiniLM-L6-v2"}
"""Short name -> hub id."""


@dataclass(frozen=True, eq=False)
class SentenceEncoder:
    """A loaded sentence encoder (eval mode, float32); texts are cut to ``max_tokens``, the special ones included."""

    model: Any
    tokenizer: Any
    max_tokens: int
    source: ModelSource

    @property
    def dim(self) -> int:
        """E, the width of an embedding."""
        return int(self.model.config.hidden_size)

    def encode(self, texts: Sequence[str]) -> Embeddings:
        """Embed N texts, (N, E): the mean over the last layer's tokens, then length 1; no tokens: a row of zeros.

        As sentence-transformers does (Reimers & Gurevych 2019, section 3).
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
    """Find and load a sentence encoder that averages its tokens; ``spec`` as for `resolve_sentence_encoder`.

    Raises:
        ModelNotFoundError: no source has it.
        HashMismatchError: a file of the packaged weights was altered.
        ModelFormatError: it is not a complete encoder, or pools its tokens in another way.
        UsageError: a device that this machine lacks.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer

    source = spec if isinstance(spec, ModelSource) else resolve_sentence_encoder(spec)
    if source.origin == "packaged":
        check_packaged(ALL_MINILM)
    _check_pooling(source.path)
    check_device(device)
    with quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(source.path, local_files_only=True)
        except Exception as error:  # tokenizers raises bare Exception for malformed files
            raise ModelFormatError(f"{source.path}: its tokenizer can't be read ({one_line(error)})") from error
        model = load_pretrained(AutoModel, source.path, torch.float32, unused="pooler.")
    model.to(device).eval()
    return SentenceEncoder(model, tokenizer, _max_tokens(source.path, model, tokenizer), source)


def resolve_sentence_encoder(spec: str | Path = ALL_MINILM) -> ModelSource:
    """Find a sentence encoder by alias, hub id or folder; raises as `interlingua.models.hub.resolve` does."""
    return resolve(spec, family=SENTENCE_ENCODERS)


def _check_config(folder: Path) -> None:
    path = folder / "config.json"
    if "model_type" not in read_json(path) or read_settings(path, TextShape).is_encoder_decoder:
        raise ModelFormatError(f"{folder}: not a text encoder; give the folder of a sentence encoder")


def _layout_of(folder: Path) -> Literal["huggingface"]:
    _check_config(folder)
    weight_files(folder, "huggingface")
    if not any((folder / file).is_file() for file in ("tokenizer.json", "vocab.txt")):
        raise ModelFormatError(f"{folder}: tokenizer.json is missing; copy the model folder again")
    return "huggingface"


SENTENCE_ENCODERS = Family(SENTENCE_ALIASES, _check_config, _layout_of, ["*.json", "*.txt"])


def _check_pooling(folder: Path) -> None:
    stated = folder / "1_Pooling" / "config.json"
    modes = read_json(stated) if stated.is_file() else {}
    others = [key for key, on in modes.items() if key.startswith("pooling_mode_") and on and "mean_tokens" not in key]
    if others or any(folder.glob("*_Dense")):
        raise ModelFormatError(f"{folder}: its embeddings are no plain means over tokens; use {ALL_MINILM}")


def _max_tokens(folder: Path, model: Any, tokenizer: Any) -> int:
    stated = folder / "sentence_bert_config.json"
    limit = read_settings(stated, TextLimits).max_seq_length if stated.is_file() else None
    return int(limit or min(tokenizer.model_max_length, model.config.max_position_embeddings))
