"""Every error that interlingua raises on purpose.

The tree (each class is public; catch the widest that you can handle)::

    InterlinguaError
    ├── UsageError                  an option or argument is wrong
    ├── AudioError                  one recording can't be used
    │   ├── AudioNotFoundError
    │   ├── NotAudioError           no decoder finds audio in it
    │   ├── EmptyAudioError         no samples
    │   ├── TruncatedAudioError     the data ends before its header says
    │   ├── NonFiniteAudioError     NaN or infinity among the samples
    │   ├── NoChannelsError         zero channels
    │   └── TooLongAudioError       longer than the limit or the encoder's window
    ├── CorpusError                 a corpus is absent, incomplete or altered
    │   └── ManifestError           a manifest's line is wrong
    ├── FetchError                  a download failed
    ├── HashMismatchError           a file is not the one that was expected
    ├── ModelError                  a model can't be used
    │   ├── ModelNotFoundError      no source has it; names every source tried
    │   ├── ModelFormatError        the folder or file is not a Whisper model
    │   ├── EnglishOnlyModelError   a multilingual task on an English-only checkpoint
    │   └── UntrainedTaskError      a task the checkpoint was never trained on (turbo: translation)
    ├── StoreError                  a frame store can't be used
    │   └── StoreMismatchError      frames of another model, layer, context, pooling or dtype
    ├── OutputsError                a file of systems' outputs can't be used
    ├── CometError                  COMET's environment or model can't be used; scores go on without it
    ├── ResultsError                a result folder can't be read
    └── ServiceError                a request of the service wasn't answered
        ├── BusyError               too many are waiting; come back later
        ├── NotFoundError           no model, index or utterance of this name is served
        └── StoppedError            its client has gone, or it took too long

A message is one line: what is wrong (file, line or option), then how to fix it.
The command line prints it without a traceback and exits with 2.
"""


class InterlinguaError(Exception):
    """Base of every error below; its text is one line for the user."""


class UsageError(InterlinguaError):
    """An option, argument or combination of them is wrong."""


class AudioError(InterlinguaError):
    """One recording can't be used."""


class AudioNotFoundError(AudioError):
    """The audio file does not exist."""


class NotAudioError(AudioError):
    """No decoder finds an audio stream in the data."""


class EmptyAudioError(AudioError):
    """The audio has no samples."""


class TruncatedAudioError(AudioError):
    """The data breaks, or ends before its header's length."""


class NonFiniteAudioError(AudioError):
    """The samples contain NaN or infinity."""


class NoChannelsError(AudioError):
    """The audio has zero channels."""


class TooLongAudioError(AudioError):
    """The audio is longer than the stated limit or than one encoder window."""


class CorpusError(InterlinguaError):
    """A corpus is absent, incomplete or altered."""


class ManifestError(CorpusError):
    """A line of a manifest is wrong; the message names file and line."""


class FetchError(InterlinguaError):
    """A download failed."""


class HashMismatchError(InterlinguaError):
    """A file's SHA-256 is not the expected one."""


class ModelError(InterlinguaError):
    """A model can't be used."""


class ModelNotFoundError(ModelError):
    """No source has the model; the message names every source that was tried."""


class ModelFormatError(ModelError):
    """The folder or file is not a Whisper model in a known layout."""


class EnglishOnlyModelError(ModelError):
    """A multilingual task on an English-only checkpoint."""


class UntrainedTaskError(ModelError):
    """The checkpoint was never trained on the task."""


class StoreError(InterlinguaError):
    """A frame store can't be used."""


class StoreMismatchError(StoreError):
    """Frames of another model, revision, layer, context, pooling or dtype than the store's."""


class OutputsError(InterlinguaError):
    """A file of outputs can't be scored; the message names file and line."""


class CometError(InterlinguaError):
    """COMET can't score: its environment or model is absent; the message gives the reason."""


class ResultsError(InterlinguaError):
    """A result folder can't be read."""


class ServiceError(InterlinguaError):
    """A request of the service wasn't answered."""


class BusyError(ServiceError):
    """Too many requests are waiting, or too many of this client (``own``); ``retry_after``: seconds."""

    def __init__(self, message: str, retry_after: int = 1, *, own: bool = False) -> None:
        super().__init__(message)
        self.retry_after, self.own = retry_after, own


class NotFoundError(ServiceError):
    """No model, index or utterance of this name is served; ``what``: which of them."""

    def __init__(self, message: str, what: str) -> None:
        super().__init__(message)
        self.what = what


class StoppedError(ServiceError):
    """A request that was given up: its client has gone (``cancelled``), or it took too long."""

    def __init__(self, message: str, *, cancelled: bool = False) -> None:
        super().__init__(message)
        self.cancelled = cancelled
