"""Whisper's special tokens: languages, tasks, and the generation settings that follow from them."""

from pathlib import Path
from typing import Any

from interlingua.errors import ModelFormatError
from interlingua.models.quiet import one_line

_GPT2_END = 50256  # <|endoftext|> of the English-only vocabulary; multilingual checkpoints have another
_REQUIRED = ("<|endoftext|>", "<|startoftranscript|>", "<|translate|>", "<|transcribe|>", "<|notimestamps|>")


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
    """Give ``generation_config`` the token settings that its file leaves out; drop forced languages."""
    ids, generation = tokenizer.get_vocab(), model.generation_config
    if getattr(generation, "is_multilingual", None) is None:
        generation.is_multilingual = ids["<|endoftext|>"] != _GPT2_END
    defaults: dict[str, Any] = {
        **token_ids(tokenizer),
        "no_timestamps_token_id": ids["<|notimestamps|>"],
        "prev_sot_token_id": ids.get("<|startofprev|>"),
    }
    if generation.is_multilingual:
        defaults["lang_to_id"] = language_ids(ids)
        defaults["task_to_id"] = {task: ids[f"<|{task}|>"] for task in ("transcribe", "translate")}
    for name, value in defaults.items():
        if getattr(generation, name, None) is None:
            setattr(generation, name, value)
    for settings in (generation, model.config):
        settings.forced_decoder_ids = None  # old files force a language here; our prompts name it


def language_ids(vocabulary: dict[str, int]) -> dict[str, int]:
    """Language tokens (``<|en|>``) -> ids, in the order of the ids."""
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    found = {f"<|{code}|>": vocabulary[f"<|{code}|>"] for code in LANGUAGES if f"<|{code}|>" in vocabulary}
    return dict(sorted(found.items(), key=lambda item: item[1]))
