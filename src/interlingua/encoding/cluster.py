"""The engine of a Ray cluster: actors hold what is loaded once, the driver alone commits what they make.

Ray Data hands out shares of the work, holds workers back while their results wait, and runs a lost worker's share
again. What a run has committed is known by the ids in the store, so a new run goes on there, Ray keeps no state.
Every node needs this package and the files under the same paths.
"""

import logging
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from typing import Any

from interlingua.encoding.encoder import SpeechEncoder
from interlingua.encoding.pipeline import CHUNK_UTTERANCES, Part, encode_here
from interlingua.errors import InterlinguaError, StoreMismatchError, UsageError
from interlingua.types import FrameSpec, Utterance

SHARE = 4 * CHUNK_UTTERANCES  # utterances that a worker gets at once; while a chunk is encoded, the next is decoded
CPUS = 4  # of a worker without a GPU, or as many as the smallest node has


def on_cluster(
    make: Callable[[], Callable[[Any], Iterator[Any]]], shares: Sequence[Any], address: str | None, *, on_gpus: bool
) -> Iterator[Any]:
    """What the workers of a Ray cluster make of shares, in the order that it is made in.

    A worker calls ``make`` once, and what that returns for each of its shares; both are pickled. A lost worker's share
    is made again as a whole. Raises what a worker raises, if it is an error of ours.

    ``address``: of the cluster; None is the one that RAY_ADDRESS names, else one that is started on this machine.
    ``on_gpus``: a worker a GPU, if the cluster has any.
    """
    if not shares:
        return
    try:
        import ray
        import ray.data
    except ImportError as e:
        raise UsageError("--engine ray: Ray isn't installed; pip install 'interlingua[ray]'") from e
    logging.getLogger("ray.data").setLevel(logging.WARNING)  # progress is ours
    ray.data.DataContext.get_current().enable_progress_bars = False
    joined = ray.is_initialized()
    try:
        if not joined:
            ray.init(address=address, log_to_driver=False, logging_level="WARNING")
    except (ConnectionError, ValueError) as e:
        raise UsageError(f"--address {address}: no Ray cluster answers there; see `ray status`") from e
    with redirect_stdout(sys.stderr):  # Ray prints there which workers were lost, some of it when it shuts down
        try:
            rows = [{"share": pickle.dumps(share)} for share in shares]
            made = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
                _Worker,
                batch_size=1,
                batch_format="pyarrow",
                fn_constructor_args=(make,),
                **_workers(ray, len(rows), on_gpus),
            )
            for table in made.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                for one in map(pickle.loads, table["made"].to_pylist()):
                    if isinstance(one, InterlinguaError):
                        raise one
                    yield one
        finally:
            if not joined:
                ray.shutdown()


def _workers(ray: Any, shares: int, on_gpus: bool) -> dict[str, Any]:
    """How many workers, and what each of them reserves."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    if on_gpus and gpus:
        reserved, most = {"num_gpus": 1}, gpus
    else:
        cpus = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1] or [1]
        each = min(CPUS, *cpus)
        reserved, most = {"num_cpus": each}, sum(n // each for n in cpus)
    most = max(1, min(most, shares))
    return {"compute": ray.data.ActorPoolStrategy(size=most, max_tasks_in_flight_per_actor=2), **reserved}


class _Worker:
    """An actor: share -> what is made of it, pickled; an error of ours goes to the driver as a value."""

    def __init__(self, make: Callable[[], Callable[[Any], Iterator[Any]]]) -> None:
        self._make = make
        self._work: Callable[[Any], Iterator[Any]] | None = None

    def __call__(self, shares: Any) -> Iterator[dict[str, list[bytes]]]:
        try:
            if self._work is None:
                self._work = self._make()
            for share in map(pickle.loads, shares["share"].to_pylist()):
                for made in self._work(share):
                    yield {"made": [pickle.dumps(made)]}
        except InterlinguaError as e:
            yield {"made": [pickle.dumps(e)]}


@dataclass(frozen=True)
class RayEngine:
    """Encodes on a Ray cluster; ``load`` makes a worker's encoder and must be picklable. See `on_cluster`."""

    load: Callable[[], SpeechEncoder]
    address: str | None = None
    on_gpus: bool = True

    def __call__(
        self, utterances: Sequence[Utterance], held: Mapping[str, str], encoder: SpeechEncoder, spec: FrameSpec
    ) -> Iterator[Part]:
        """Parts in the order that they are made in; raises what a worker's encoder or its loading raised."""
        some = [utterances[i : i + SHARE] for i in range(0, len(utterances), SHARE)]
        shares = [(s, {u.id: held[u.id] for u in s if u.id in held}) for s in some]
        yield from on_cluster(
            partial(_Encoding, self.load, encoder.spec, spec), shares, self.address, on_gpus=self.on_gpus
        )


class _Encoding:
    """Share -> parts."""

    def __init__(self, load: Callable[[], SpeechEncoder], expected: FrameSpec, spec: FrameSpec) -> None:
        self._encoder, self._spec = load(), spec
        if self._encoder.spec != expected:
            raise StoreMismatchError(f"a worker makes {self._encoder.spec}, not {expected}; align the nodes")

    def __call__(self, share: tuple[Sequence[Utterance], Mapping[str, str]]) -> Iterator[Part]:
        return encode_here(*share, self._encoder, self._spec)
