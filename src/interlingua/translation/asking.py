"""How a target is asked of a model: the decoder's first tokens, by the language spoken."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from interlingua.models import Task
from interlingua.translation.engines import Engine


@dataclass(frozen=True)
class Asked:
    """A target language, and how it is asked for.

    Attributes:
        target: the language to write.
        task: the task token.
        trained: whether we taught it; its prompt is without timestamps then, and `Targets` knows it.
    """

    target: str
    task: Task
    trained: bool

    @classmethod
    def of(cls, engine: Engine, target: str, spoken: Collection[str] = ()) -> "Asked":
        """How a target is asked for.

        Args:
            engine: the model.
            target: language to write.
            spoken: languages that will be heard; a transcript of one that has no token is asked for by another.

        Raises:
            UsageError: the model has no token for the target.
            UntrainedTaskError: translation into English is asked of a model that can't (turbo).
        """
        whisper, trained = engine.whisper, engine.targets
        if trained and target in trained.targets:
            return cls(target, trained.task(target), trained=True)
        if target == "en" and whisper.can_translate:
            return cls(target, "translate", trained=False)
        if target == "en" and whisper.is_multilingual and set(spoken) != {"en"}:
            whisper.require_translation()
        if target not in spoken and target not in whisper.languages:
            whisper.language_token(target)  # raises
        return cls(target, "transcribe", trained=False)

    def prompt(self, engine: Engine, *, spoken: str, token: str, timestamps: bool = False) -> Sequence[int]:
        """The decoder's first tokens.

        Args:
            engine: the model.
            spoken: the language spoken.
            token: the language that the model is told for it.
            timestamps: leave ``<|notimestamps|>`` out; of no account for trained targets.
        """
        whisper = engine.whisper
        settings = whisper.model.generation_config
        if self.trained and engine.targets:
            return engine.targets.prompt(whisper, self.target, source=token)
        if not whisper.is_multilingual:
            prompt = [settings.decoder_start_token_id, settings.no_timestamps_token_id]
        elif spoken == self.target:
            prompt = whisper.prompt(token, "transcribe")
        elif self.task == "transcribe":
            prompt = whisper.prompt(self.target, "transcribe")
        else:
            prompt = whisper.prompt(token, "translate")
        return prompt[:-1] if timestamps else prompt
