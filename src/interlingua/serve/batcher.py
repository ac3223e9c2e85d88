"""Batches across requests: rows of equal length, whoever sent them, meet in one call of the engine.

    Session.encode -> rows, not encoded yet -> detect, generate: jobs in the queue of their request
        -> a worker takes the next client's next request, and of all others what goes with it -> one call -> results

Clients take turns, and so do the requests of a client: an hour of audio and three seconds wait for each other's
current batch, not more. Rows aren't padded to each other's length, so a result doesn't depend on who else is there.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYetError
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from interlingua.errors import BusyError, ServiceError
from interlingua.translation import Decoded, Decoding, Engine
from interlingua.translation.engines import SAMPLING, on_cpu

BATCH_ROWS, BATCH_FRAMES = 16, 6000  # of a call at most: as `Translator` batches one recording
ENCODED_ROWS = 1  # at a time on a CPU, where 16 at a time take 1.7 times as long; decoding takes half as long from 4 on
WAIT = 0.005  # seconds that a job waits at most for others to go with, where requests are on their way
LOOK = 0.1  # seconds between two looks at whether a waiting request was given up


@dataclass(eq=False)
class Row:
    """A window on its way: log-mel features (mels, F), once ``encoded`` the encoder's states (T, D)."""

    values: np.ndarray
    encoded: bool = False

    @property
    def frames(self) -> int:
        """T."""
        return len(self.values) if self.encoded else self.values.shape[-1] // 2


@dataclass(eq=False)
class _Job:
    """Rows of one request that need the same; ``key``: jobs of equal keys may share a call."""

    key: Hashable
    rows: Sequence[Row]
    run: Callable[[Any, Sequence["_Job"]], list[Any]]  # of the states of all rows -> a result each
    frames: int
    prompts: Sequence[Sequence[int]] = ()
    since: float = field(default_factory=time.monotonic)
    done: "Future[list[Any]]" = field(default_factory=Future)


class Batcher:
    """The queue before one engine, and the threads that feed it; ``observe`` is called with the rows of each call."""

    def __init__(self, engine: Engine, *, observe: Callable[[int], None] = lambda rows: None) -> None:
        self.engine = engine
        self._observe = observe
        self._changed = threading.Condition()
        self._clients: OrderedDict[str, OrderedDict[Session, deque[_Job]]] = OrderedDict()  # that have jobs waiting
        self._sessions: set[Session] = set()
        self._idle, self._closed = 0, False
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(engine.workers)]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Rows in the queue."""
        with self._changed:
            return sum(len(job.rows) for job in self._jobs())

    def close(self) -> None:
        """Finish what waits, then end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def enter(self, session: "Session") -> None:
        """A request that will have jobs."""
        with self._changed:
            self._sessions.add(session)

    def leave(self, session: "Session") -> None:
        """Forget a request, and its jobs that wait."""
        with self._changed:
            self._sessions.discard(session)
            queues = self._clients.get(session.client, OrderedDict())
            queues.pop(session, None)
            if not queues:
                self._clients.pop(session.client, None)
            self._changed.notify_all()

    def submit(self, session: "Session", job: _Job) -> "Future[list[Any]]":
        """Queue a job."""
        with self._changed:
            if self._closed:
                raise BusyError("the service stops; send the request again later")
            self._clients.setdefault(session.client, OrderedDict()).setdefault(session, deque()).append(job)
            self._changed.notify_all()
        return job.done

    def _jobs(self) -> Iterable[_Job]:
        for queues in self._clients.values():
            for jobs in queues.values():
                yield from jobs

    # ------------------------------------------------------------ the threads

    def _work(self) -> None:
        while batch := self._next():
            try:
                self._run(batch)
            except Exception as error:
                if len(batch) == 1:
                    batch[0].done.set_exception(error)
                    continue
                for job in batch:  # a fault of one is no other's
                    try:
                        self._run([job])
                    except Exception as own:
                        job.done.set_exception(own)

    def _next(self) -> list[_Job]:
        """The jobs of the next call; none once the batcher is closed and the queue empty."""
        with self._changed:
            while True:
                first = next(iter(self._jobs()), None)
                if first is None and self._closed:
                    return []
                wait = self._wait(first) if first else None
                if first and not wait:
                    return self._taken(first)
                self._idle += 1
                self._changed.wait(wait)
                self._idle -= 1

    def _wait(self, first: _Job) -> float:
        """Seconds to wait for jobs to go with the first: none where no request but those in the queue is on its way."""
        queued = sum(len(queues) for queues in self._clients.values())
        alike = sum(len(job.rows) for job in self._jobs() if job.key == first.key)
        if self._closed or queued >= len(self._sessions) or alike >= BATCH_ROWS:
            return 0.0
        return max(0.0, first.since + WAIT - time.monotonic())

    def _taken(self, first: _Job) -> list[_Job]:
        """The first job and all that go with it, out of the queue; its client, and its request, go behind the others.

        Where nothing else waits, idle threads are left their part of the rows.
        """
        most = max(1, min(BATCH_ROWS, BATCH_FRAMES // first.frames))
        if all(job.key == first.key for job in self._jobs()):
            total = sum(len(job.rows) for job in self._jobs())
            most = min(most, -(-total // (1 + self._idle)))
        taken, rows = [first], len(first.rows)
        for job in self._jobs():
            if job is not first and job.key == first.key and rows + len(job.rows) <= most:
                taken.append(job)
                rows += len(job.rows)
        client = next(iter(self._clients))
        queues = self._clients[client]
        queues.move_to_end(next(iter(queues)))
        self._clients.move_to_end(client)
        chosen = set(map(id, taken))
        for name, queues in list(self._clients.items()):
            for session, jobs in list(queues.items()):
                kept = deque(job for job in jobs if id(job) not in chosen)
                if kept:
                    queues[session] = kept
                else:
                    del queues[session]
            if not queues:
                del self._clients[name]
        self._changed.notify_all()
        return taken

    def _run(self, batch: Sequence[_Job]) -> None:
        rows = [row for job in batch for row in job.rows]
        self._observe(len(rows))
        lacking = [row for row in rows if not row.encoded]
        size = ENCODED_ROWS if self.engine.name.endswith("cpu") else BATCH_ROWS
        for some in (lacking[i : i + size] for i in range(0, len(lacking), size)):
            states = on_cpu(self.engine.encode(np.stack([row.values for row in some])))
            for row, values in zip(some, states, strict=True):
                row.values, row.encoded = values, True
        results = batch[0].run([row.values for row in rows], batch)
        for job in batch:
            job.done.set_result(results[: len(job.rows)])
            results = results[len(job.rows) :]


class Session:
    """One request's view of the engine: what `Translator` runs on.

    ``given_up`` says why its work is no longer wanted, or None; it is asked while jobs wait. A context manager.
    """

    ragged, workers = False, 2  # batches of a recording that wait at a time

    def __init__(
        self, batcher: Batcher, client: str = "", given_up: Callable[[], ServiceError | None] = lambda: None
    ) -> None:
        engine = batcher.engine
        self.whisper, self.targets, self.name = engine.whisper, engine.targets, engine.name
        self.client = client
        self._batcher, self._given_up = batcher, given_up

    def __enter__(self) -> "Session":
        self._batcher.enter(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._batcher.leave(self)

    def encode(self, features: np.ndarray) -> list[Row]:
        """See `Engine`; encoded with what is done with them first."""
        return [Row(row) for row in features]

    def load(self, frames: Sequence[np.ndarray]) -> list[Row]:
        """See `Engine`."""
        return [Row(values, encoded=True) for values in frames]

    def detect(self, states: Sequence[Row]) -> list[dict[str, float]]:
        """See `Engine`."""
        engine = self._batcher.engine
        return self._done("detect", states, lambda every, batch: engine.detect(engine.load(every)))

    def generate(self, states: Sequence[Row], prompts: Sequence[Sequence[int]], how: Decoding) -> list[Decoded]:
        """See `Engine`. Sampling, whose result depends on the batch, goes alone, and holds up no other request."""
        engine = self._batcher.engine
        if how.temperature > 0:
            self._encoded(states)
            while not SAMPLING.acquire(timeout=LOOK):
                self._ask()
            try:
                self._ask()
                return engine.generate(engine.load([row.values for row in states]), prompts, how)
            finally:
                SAMPLING.release()

        def run(every: Any, batch: Sequence[_Job]) -> list[Decoded]:
            return engine.generate(engine.load(every), [p for job in batch for p in job.prompts], how)

        return self._done(("generate", how, len(prompts[0])), states, run, prompts)

    def place(
        self, states: Sequence[Row], row: int, prompt: Sequence[int], tokens: Sequence[int], seconds: float
    ) -> Sequence[tuple[int, int]]:
        """See `Engine`."""
        engine = self._batcher.engine
        self._encoded([states[row]])
        return engine.place(engine.load([states[row].values]), 0, prompt, tokens, seconds)

    def _encoded(self, rows: Sequence[Row]) -> None:
        if not all(row.encoded for row in rows):
            self._done("encode", rows, lambda every, batch: every)

    def _done(
        self,
        kind: Hashable,
        rows: Sequence[Row],
        run: Callable[[Any, Sequence[_Job]], list[Any]],
        prompts: Sequence[Sequence[int]] = (),
    ) -> list[Any]:
        """The results of a job, once they are there; raises ServiceError where the request is given up."""
        if not rows:
            return []
        frames = rows[0].frames
        found = self._batcher.submit(self, _Job((kind, frames), rows, run, frames, prompts))
        while True:
            try:
                return found.result(timeout=LOOK)
            except NotYetError:
                if not found.done():
                    self._ask()

    def _ask(self) -> None:
        """Raise where the request is given up."""
        if why := self._given_up():
            self._batcher.leave(self)
            raise why
