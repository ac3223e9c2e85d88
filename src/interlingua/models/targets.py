"""Target languages: the decoder's prompt, the token that names one, a model folder's record; models trained further.

Whisper's decoder begins ``<|startoftranscript|> <|language|> <|task|> <|notimestamps|>``. A model that was trained to
translate into T has one of three prompts (S is the source language):

* ``target-transcribe``: ``<|T|><|transcribe|>``; one prompt for every source language.
* ``target-translate``: ``<|T|><|translate|>``; likewise.
* ``source-translate``: ``<|S|><|translate|>``; replaces Whisper's own task, translation into English.

A language without a token borrows one of `SPARE_SLOTS`. A new token would lie behind the timestamps, and decoders
take whatever lies there for a time.
"""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import msgspec

from interlingua.errors import ModelFormatError, ModelNotFoundError, UsageError
from interlingua.files import write_text
from interlingua.languages import WHISPER_LANGUAGES, PromptKind
from interlingua.models.hub import one_line, quiet
from interlingua.models.settings import Adapter, read_settings
from interlingua.models.whisper import Task, Whisper, load_whisper

TARGETS_FILE = "interlingua.json"
"""The record's name in a model folder."""

_ADAPTER = "adapter_config.json"  # peft's

SPARE_SLOTS = ("haw", "ln", "ha", "ba", "jw", "su", "tt", "as", "mg", "bo", "lb", "sa", "tk", "fo")
"""Language tokens to borrow, the first free one first: those with the least training speech, but tl, my and yue."""


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The prompt of one target language; ``token`` is its language token's code, None for ``source-translate``."""

    token: str | None
    prompt: PromptKind


class Base(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The model that was trained further: its name, and the revision of its weights."""

    name: str
    revision: str


class Targets(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The languages that a model was trained to translate into and from; the first target is the default.

    ``base`` is the model that it came from; ``proxies``: source language without a token -> its proxy language. Raises
    UsageError, also where one is made, for no target, an unknown token,
    or two targets with one prompt.
    """

    format: Literal[1] = 1
    targets: dict[str, Target]
    base: Base
    sources: tuple[str, ...]
    proxies: dict[str, str] = {}

    def __post_init__(self) -> None:
        if not self.targets:
            raise UsageError("no target language; name one")
        owners: dict[tuple[str, Task], str] = {}
        for language, token in self.proxies.items():
            if token not in WHISPER_LANGUAGES:
                raise UsageError(f"source {language!r}: Whisper has no token {token!r}; name a language that has one")
        for language, target in self.targets.items():
            if (target.token is None) != (target.prompt == "source-translate"):
                need = "takes no token" if target.token else "needs a token; see assign_slot"
                raise UsageError(f"target {language!r}: the prompt {target.prompt} {need}")
            if target.token is not None and target.token not in WHISPER_LANGUAGES:
                raise UsageError(f"target {language!r}: Whisper has no token {target.token!r}; see assign_slot")
            task = task_of(target.prompt)
            for named in self.sources if target.token is None else (target.token,):
                other = owners.setdefault((named, task), language)
                if other != language:
                    raise UsageError(
                        f"targets {other!r} and {language!r} have the same prompt, <|{named}|><|{task}|>; "
                        "give one of them another token or prompt"
                    )

    @property
    def default(self) -> str:
        """The first target, which plain ``generate`` gives."""
        return next(iter(self.targets))

    def task(self, target: str) -> Task:
        """The task token of a target's prompt."""
        return task_of(self.targets[target].prompt)

    def prompt(self, whisper: Whisper, target: str, *, source: str | None = None) -> list[int]:
        """The decoder's first tokens for a target; ``source`` is read for ``source-translate`` only.

        Raises UsageError if the model wasn't trained for the target, or needs ``source`` and it is None.
        """
        if target not in self.targets:
            raise UsageError(
                f"{whisper.model_name} was not trained to translate into {target!r}; use {', '.join(self.targets)}"
            )
        found = self.targets[target]
        return prompt_tokens(whisper, found.prompt, source=source, target=found.token)

    def configure(self, model: Any) -> None:
        """Let plain ``model.generate(features)`` translate into the first target: sets ``generation_config``.

        For ``source-translate`` only the task is set, and ``generate`` detects the source language. Arguments of
        ``generate`` win; give both language and task: one alone leaves the other as configured. Raises UsageError if
        the model lacks one of the tokens.
        """
        generation = model.generation_config
        held = getattr(generation, "lang_to_id", None) or {}
        for language, target in self.targets.items():
            if target.token is not None and f"<|{target.token}|>" not in held:
                raise UsageError(f"target {language!r}: this model has no token <|{target.token}|>; see assign_slot")
        first = self.targets[self.default]
        generation.task = task_of(first.prompt)
        generation.language = None if first.token is None else f"<|{first.token}|>"
        generation.forced_decoder_ids = None  # the older form of these settings

    def write(self, folder: Path) -> None:
        """Write ``interlingua.json`` into a folder, atomically."""
        text = msgspec.json.format(msgspec.json.encode(self), indent=1).decode()
        write_text(folder / TARGETS_FILE, text + "\n")


def task_of(kind: PromptKind) -> Task:
    """The task token of a kind of prompt."""
    return "transcribe" if kind == "target-transcribe" else "translate"


def prompt_tokens(whisper: Whisper, kind: PromptKind, *, source: str | None, target: str | None) -> list[int]:
    """Startoftranscript, language (``source`` for ``source-translate``, else ``target``), task, notimestamps.

    Raises UsageError if that language is None or has no token.
    """
    language = source if kind == "source-translate" else target
    if language is None:
        which = "spoken" if kind == "source-translate" else "target"
        raise UsageError(f"the prompt {kind} names the {which} language; give it")
    return whisper.prompt(language, task_of(kind))


def assign_slot(whisper: Whisper, target: str, taken: Iterable[str] = ()) -> str:
    """The language token to name a target by: its own, else the first of `SPARE_SLOTS` that isn't ``taken``.

    Raises UsageError if every spare token is taken, or the model has none.
    """
    held = whisper.languages
    if target in held:
        return target
    used = set(taken)
    for slot in SPARE_SLOTS:
        if slot in held and slot not in used:
            return slot
    raise UsageError(
        f"{whisper.model_name} has no token for {target!r} and none to spare ({', '.join(SPARE_SLOTS)}); "
        "train fewer languages, or ask with source-translate"
    )


def read_targets(folder: str | Path) -> Targets | None:
    """A model folder's ``interlingua.json``, None where there is none; raises ModelFormatError if it is damaged."""
    path = Path(folder) / TARGETS_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Targets)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, UsageError) as error:
        raise ModelFormatError(f"{path}: {error}; copy the model folder again") from error


# ---------------------------------------------------------------- models that were trained further


def is_adapter(model: str | Path) -> bool:
    """Whether a model spec is a folder with a LoRA adapter."""
    return (Path(model).expanduser() / _ADAPTER).is_file()


def load_trained(model: str | Path) -> tuple[Whisper, Targets | None]:
    """Load a trained model, float32 on the CPU, and its record, if any; a LoRA adapter is merged into its base.

    Raises ModelError as `interlingua.models.load_whisper`; also for an adapter that doesn't fit its base.
    """
    folder = Path(model).expanduser()
    if is_adapter(folder):
        targets = read_targets(folder)
        return _merged(folder, targets), targets
    whisper = load_whisper(model)
    return whisper, read_targets(whisper.source.path)


def _merged(folder: Path, targets: Targets | None) -> Whisper:
    settings = read_settings(folder / _ADAPTER, Adapter)
    base = settings.base_model_name_or_path
    if not base:
        raise ModelFormatError(
            f"{folder / _ADAPTER}: names no base model; write its alias, hub id or folder as base_model_name_or_path"
        )
    try:
        whisper = load_whisper(base, revision=targets.base.revision if targets else settings.revision)
    except ModelNotFoundError as error:
        raise ModelNotFoundError(f"{folder}: the adapter's base model can't be found: {error}") from error
    import torch
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
