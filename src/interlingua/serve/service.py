"""What the service does, without HTTP: translate, search and align by names that its owner chose; page and API use it.

Models are loaded when first asked for, each behind a `Batcher`; the least recently used go when there are too many.
"""

import io
import logging
import math
import re
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from interlingua.audio import Hole, declared_duration, load_audio
from interlingua.errors import (
    AudioError,
    BusyError,
    NotFoundError,
    ServiceError,
    StoppedError,
    TooLongAudioError,
    UsageError,
)
from interlingua.serve.batcher import Batcher, Session
from interlingua.translation import (
    AUTO,
    Segment,
    Segmentation,
    Translation,
    TranslationOptions,
    Translator,
    load_engine,
)
from interlingua.translation.translator import FIRST_WINDOW
from interlingua.types import SAMPLE_RATE, Matrix, Samples

if TYPE_CHECKING:
    from interlingua.index import Hit, Index
    from interlingua.results import Alignment


@dataclass(frozen=True)
class Upload:
    """A file that somebody sent; the suffix of its name tells of formats that have no header."""

    data: bytes
    suffix: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"(\.\w{1,8})?", self.suffix):
            object.__setattr__(self, "suffix", "")


Audio = bytes | Path | Samples | Upload

RECENT = 20  # requests whose mean duration tells when to come back
THINNEST = 500  # bytes a second, for a recording whose header doesn't tell its length
MARGIN = 1.0  # seconds that a recording may be longer than its header says

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """What is taken at most.

    Attributes:
        upload: bytes of a request; ``bodies``: of all requests together.
        seconds: of a recording.
        held: seconds of audio of all requests together that are in memory.
        requests: at a time; ``own``: of one client.
        patience: seconds that a request may take, on top of its recording's duration.
        models: in memory.
    """

    upload: int = 200 << 20
    bodies: int = 1 << 30
    seconds: float = 2 * 3600.0
    held: float = 4 * 3600.0
    requests: int = 256
    own: int = 128
    patience: float = 300.0
    models: int = 4


@dataclass(frozen=True)
class ModelCard:
    """A model that is served: its trained targets, and English where it writes it; ``base``: of a trained one."""

    name: str
    targets: tuple[str, ...]
    base: str | None = None


def find_models(specs: Sequence[str], folder: Path | None = None) -> dict[str, str | Path]:
    """Models by name: given ones, then the sub-folders that hold one (``model`` in a run's folder too).

    Raises UsageError for a folder that isn't one, or two models of one name.
    """
    found: dict[str, str | Path] = {}
    for spec in specs:
        path = Path(spec).absolute()
        found[(path.parent if path.name == "model" else path).name if path.is_dir() else spec] = spec
    if len(found) < len(specs):
        raise UsageError(f"--model {' '.join(specs)}: two have the same name; rename a folder")
    if folder is not None and not folder.is_dir():
        raise UsageError(f"--models {folder}: no such folder")
    for path in sorted(folder.iterdir()) if folder else ():
        for place in (path, path / "model"):
            if any((place / name).is_file() for name in ("config.json", "adapter_config.json")):
                if path.name in found:
                    raise UsageError(f"--models {folder}: {path.name} is a name of --model, too; rename the folder")
                found[path.name] = place
                break
    return found


class Service:
    """See the module.

    Args:
        models: name -> model spec; the first is the default.
        indexes: name -> index URI.
        runs: folder of runs, which the page shows.
        pairs: name -> file of mined pairs, which the page shows.
        observe: called with a model's name and the rows of each call of its engine.
    """

    def __init__(
        self,
        models: Mapping[str, str | Path],
        *,
        indexes: Mapping[str, str | Path] | None = None,
        runs: Path | None = None,
        pairs: Mapping[str, Path] | None = None,
        limits: Limits | None = None,
        observe: Callable[[str, int], None] = lambda model, rows: None,
    ) -> None:
        self.model_specs, self.index_uris = dict(models), dict(indexes or {})
        self.runs, self.pairs, self.limits = runs, dict(pairs or {}), limits or Limits()
        self._observe = observe
        self._lock = threading.Lock()
        self._going: Counter[str] = Counter()  # requests of each client
        self._took: list[float] = []  # seconds of the last requests
        self._stopping = self._hurried = False
        self._batchers: OrderedDict[str, Batcher] = OrderedDict()
        self._using: Counter[str] = Counter()
        self._loading = {name: threading.Lock() for name in self.model_specs}
        self._cards: dict[str, ModelCard] = {}
        self._indexes: dict[str, Index] = {}
        self._searching = threading.Lock()
        self._room = _Room(self.limits.held)

    # ------------------------------------------------------------ what is here

    @property
    def default_model(self) -> str:
        """The first model's name."""
        return next(iter(self.model_specs))

    def models(self) -> list[ModelCard]:
        """The models, the default first; raises ModelError where one can't be read."""
        return [self.card(name) for name in self.model_specs]

    def card(self, name: str) -> ModelCard:
        """One of the models; raises NotFoundError."""
        from interlingua.models import load_whisper
        from interlingua.models.targets import is_adapter, read_targets

        self._known("model", name, self.model_specs)
        if name not in self._cards:
            spec = self.model_specs[name]
            if is_adapter(spec):
                trained, english = read_targets(spec), False
            else:
                whisper = load_whisper(spec, require_multilingual=False, weights=False)
                trained, english = read_targets(whisper.source.path), whisper.can_translate
            targets = dict.fromkeys([*(trained.targets if trained else ()), *(["en"] if english else ())])
            self._cards[name] = ModelCard(name, tuple(targets), trained.base.name if trained else None)
        return self._cards[name]

    def index(self, name: str) -> "Index":
        """One of the indexes, opened once; raises NotFoundError, StoreError."""
        from interlingua.index import Index

        self._known("index", name, self.index_uris)
        with self._searching:
            if name not in self._indexes:
                self._indexes[name] = Index.open(self.index_uris[name])
            return self._indexes[name]

    @property
    def going(self) -> int:
        """Requests that were taken and aren't answered yet."""
        return self._going.total()

    @property
    def waiting(self) -> int:
        """Rows that wait for an engine."""
        return sum(batcher.waiting for batcher in list(self._batchers.values()))

    @property
    def ready(self) -> bool:
        """Whether the default model is loaded, and requests are taken."""
        return not self._stopping and self.default_model in self._batchers

    # ------------------------------------------------------------ requests

    def translate(
        self,
        audio: Audio,
        *,
        model: str,
        to: Sequence[str],
        source: str = AUTO,
        spoken_as: str | None = None,
        options: TranslationOptions | None = None,
        client: str = "",
        news: Callable[[str, str, list[Segment]], None] | None = None,
        advance: Callable[[float], None] = lambda seconds: None,
        cancelled: threading.Event | None = None,
    ) -> list[Translation]:
        """A recording into each target; see `Translator.translate_all`, also for ``news`` and ``advance``.

        Args:
            audio: a file that was sent, its bytes, a path of the owner's, or samples at 16 kHz.
            model: a name of `models`.
            client: whose turn it takes: a key or an address.
            cancelled: once set, the request is given up.

        Raises:
            BusyError: too many requests are going; it names the seconds to wait.
            NotFoundError: no such model.
            StoppedError: cancelled, or out of patience.
            AudioError, UsageError, ModelError: as `Translator`.
        """
        self._known("model", model, self.model_specs)
        with self._request(client):
            begun = time.monotonic()
            patience = self.limits.patience

            def given_up() -> ServiceError | None:
                if self._hurried:
                    return BusyError("the service stops; send the request again later")
                if cancelled is not None and cancelled.is_set():
                    return StoppedError("cancelled", cancelled=True)
                if time.monotonic() - begun > patience:
                    return StoppedError(
                        f"not done within {patience:.0f} s; send a shorter recording, or come back later"
                    )
                return None

            with self._loaded(audio, given_up) as (samples, holes):
                patience += len(samples) / SAMPLE_RATE
                with self._batcher(model) as batcher, Session(batcher, client, given_up) as session:
                    found = Translator(session, options).translate_all(
                        [("recording", samples)],
                        to,
                        source=source,
                        spoken_as=spoken_as,
                        news=news or (lambda name, target, segments: None),
                        advance=advance,
                        first=1 if news and source != AUTO else FIRST_WINDOW,  # or the language would hang on it
                    )
                    return [replace(t, holes=holes) for t in found]

    def search(
        self,
        audio: Audio,
        *,
        index: str,
        language: str | None = None,
        top: int = 10,
        elsewhere: bool = False,
        client: str = "",
        cancelled: threading.Event | None = None,
    ) -> "list[Hit]":
        """The utterances of an index that mean what a recording of at most 30 s means; see `Index.search`.

        ``elsewhere``: those in other languages alone.
        """
        with self._request(client):
            opened = self.index(index)
            samples = self._utterance(audio)
            with self._searching:
                if cancelled is not None and cancelled.is_set():
                    raise StoppedError("cancelled", cancelled=True)
                spoken = language or opened.detect(samples)
                where = f"language != '{spoken}'" if elsewhere else None
                return opened.search(samples, top, language=spoken, where=where)

    def align(
        self,
        audio: Audio,
        *,
        index: str,
        utterance: str,
        client: str = "",
        cancelled: threading.Event | None = None,
    ) -> "tuple[Alignment, Matrix]":
        """How a recording of at most 30 s and an utterance of an index align: words, and similarities of frames."""
        from interlingua.encoding.store import among
        from interlingua.experiments import alignment

        with self._request(client):
            opened = self.index(index)
            found = opened.utterances(among([utterance]))
            if not found:
                raise NotFoundError(f"index {index!r} has no utterance {utterance!r}", "utterance")
            (match,) = found
            samples = self._utterance(audio)
            with self._searching:
                if cancelled is not None and cancelled.is_set():
                    raise StoppedError("cancelled", cancelled=True)
                whisper = opened.listener
                query = alignment.listen(whisper, "query", samples)
                try:
                    other = alignment.load_utterance(match.audio)
                except AudioError as error:  # the index's, not the visitor's
                    _log.error("index %s: %s", index, error)
                    raise NotFoundError(
                        f"the recording of {utterance!r} can't be read any more", "utterance"
                    ) from error
                candidate = alignment.listen(whisper, match.id, other, language=match.language, text=match.text)
                aligned, similarity = alignment.align(whisper, query, candidate)
                return alignment.rounded(aligned), similarity

    def check(self, patience: float = 10.0) -> None:
        """Decode a second of audio with the default model, before whatever bounds requests; raises StoppedError."""
        begun = time.monotonic()

        def given_up() -> ServiceError | None:
            late = time.monotonic() - begun > patience
            return StoppedError(f"a second of audio wasn't decoded within {patience:.0f} s") if late else None

        hum = 0.1 * np.sin(np.arange(SAMPLE_RATE, dtype=np.float32) * 2 * math.pi * 220 / SAMPLE_RATE)
        options = TranslationOptions(guards=False, context="speech", segmentation=Segmentation(vad=False))
        with self._batcher(self.default_model) as batcher, Session(batcher, "check", given_up) as session:
            Translator(session, options).translate(hum.astype(np.float32), "en", source="en")

    def warm(self) -> None:
        """Load the default model."""
        with self._batcher(self.default_model):
            pass

    def open_indexes(self) -> None:
        """Open every index; raises what is wrong with one."""
        for name in self.index_uris:
            self.index(name)

    def stop(self, *, hurry: bool = False) -> None:
        """Take no further requests; those that were taken go on, or, in a hurry, are given up."""
        self._stopping, self._hurried = True, self._hurried or hurry

    def close(self) -> None:
        """Take no further requests, wait for those that were taken, and release the models."""
        self.stop()
        while self.going:
            time.sleep(0.05)
        for batcher in self._batchers.values():
            batcher.close()
        self._batchers.clear()

    # ------------------------------------------------------------ how they are bounded

    def require_room(self, client: str, own: int = 0, arriving: int = 0) -> None:
        """Raise BusyError where a request of this client wouldn't be taken now.

        ``arriving``: requests whose bodies are on their way; ``own``: those of the client.
        """
        took = sum(self._took) / len(self._took) if self._took else 1.0
        later = min(60, max(1, round(took)))
        if self._stopping:
            raise BusyError("the service stops; send the request again later", later)
        if self._going[client] + own >= self.limits.own:
            raise BusyError(f"{self.limits.own} of your requests are waiting; come back in {later} s", later, own=True)
        if self.going + arriving >= self.limits.requests:
            raise BusyError(f"{self.limits.requests} requests are waiting; come back in {later} s", later)

    @contextmanager
    def _request(self, client: str) -> Iterator[None]:
        with self._lock:
            self.require_room(client)
            self._going[client] += 1
        begun = time.monotonic()
        try:
            yield
            with self._lock:
                self._took = [*self._took, time.monotonic() - begun][-RECENT:]
        finally:
            with self._lock:
                self._going[client] -= 1
                if not self._going[client]:
                    del self._going[client]

    @contextmanager
    def _loaded(
        self, audio: Audio, given_up: Callable[[], ServiceError | None]
    ) -> Iterator[tuple[Samples, tuple[Hole, ...]]]:
        """Samples and holes, while there is room for them in memory; raises AudioError."""

        def ask() -> None:
            if why := given_up():
                raise why

        longest = self.limits.seconds
        if isinstance(audio, np.ndarray):
            size = 0
            declared: float | None = len(audio) / SAMPLE_RATE
        else:
            declared, data = declared_duration(source_of(audio)), audio.data if isinstance(audio, Upload) else audio
            size = data.stat().st_size if isinstance(data, Path) else len(data)
        if declared is not None and declared > longest:
            raise TooLongAudioError(f"the recording has {declared:.0f} s; this service takes {longest:.0f} s at most")
        seconds = size / THINNEST if declared is None else declared
        for most in dict.fromkeys((min(longest, seconds + MARGIN), longest)):
            with self._room.of(most, given_up) as shrink:
                holes: list[Hole] = []
                try:
                    samples = load_audio(source_of(audio), max_seconds=most, holes=holes, between=ask)
                except TooLongAudioError as error:
                    if most < longest:  # a header that lied, or very few bytes a second
                        continue
                    raise TooLongAudioError(
                        f"the recording is longer than {longest:.0f} s, which this service takes at most"
                    ) from error
                shrink(len(samples) / SAMPLE_RATE)
                yield samples, tuple(holes)
                return

    def _utterance(self, audio: Audio) -> Samples:
        from interlingua.experiments.alignment import load_utterance

        return load_utterance(source_of(audio))

    @contextmanager
    def _batcher(self, name: str) -> Iterator[Batcher]:
        """A model's batcher, loaded where it isn't; kept while it is used."""
        with self._loading[name]:
            with self._lock:
                self._using[name] += 1
                known = name in self._batchers
            try:
                if not known:
                    batcher = Batcher(
                        load_engine(self.model_specs[name]), observe=lambda rows: self._observe(name, rows)
                    )
                    with self._lock:
                        self._batchers[name] = batcher
            except BaseException:
                with self._lock:
                    self._using[name] -= 1
                raise
        try:
            with self._lock:
                self._batchers.move_to_end(name)
                batcher = self._batchers[name]
            yield batcher
        finally:
            with self._lock:
                self._using[name] -= 1
                spare = len(self._batchers) - self.limits.models
                idle = [n for n in self._batchers if not self._using[n] and n != name][: max(0, spare)]
                gone = [self._batchers.pop(n) for n in idle]
            for one in gone:
                one.close()

    def _known(self, what: str, name: str, names: Mapping[str, object]) -> None:
        if name not in names:
            here = f"here are {', '.join(names)}" if names else "none is served"
            raise NotFoundError(f"no {what} {name!r}; {here}", what)


def source_of(audio: Any) -> Any:
    """What `load_audio` takes."""
    if not isinstance(audio, Upload):
        return audio
    file = io.BytesIO(audio.data)
    file.name = f"recording{audio.suffix}"
    return file


class _Room:
    """Seconds of audio that may be in memory; a recording waits until there is room for it, or nothing else there."""

    def __init__(self, most: float) -> None:
        self._most, self._held = most, 0.0
        self._changed = threading.Condition()

    @contextmanager
    def of(self, seconds: float, given_up: Callable[[], ServiceError | None]) -> Iterator[Callable[[float], None]]:
        """Hold room for so many seconds; gives what holds less from then on."""

        def shrink(less: float) -> None:
            nonlocal seconds
            with self._changed:
                self._held += less - seconds
                seconds = less
                self._changed.notify_all()

        with self._changed:
            while self._held and self._held + seconds > self._most:
                self._changed.wait(0.1)
                if why := given_up():
                    raise why
            self._held += seconds
        try:
            yield shrink
        finally:
            with self._changed:
                self._held -= seconds
                self._changed.notify_all()
