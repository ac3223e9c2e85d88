"""The engine of a Ray cluster: actors hold the encoder, the driver alone commits what they make.

Ray Data hands out shares of the manifest, holds workers back while their frames wait, and runs a lost worker's share
again. What a run has committed is known by the ids in the store, so a new run goes on there, Ray keeps no state.
Every node needs this package and the audio under the same paths.
"""

import logging
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

from interlingua.encoding.encoder import SpeechEncoder
from interlingua.encoding.pipeline import CHUNK_UTTERANCES, Part, encode_here
from interlingua.errors import InterlinguaError, StoreMismatchError, UsageError
from interlingua.types import FrameSpec, Utterance

SHARE = 4 * CHUNK_UTTERANCES  # utterances that a worker gets at once; while a chunk is encoded, the next is decoded
CPUS = 4  # of a worker without a GPU, or as many as the smallest node has


@dataclass(frozen=True)
class RayEngine:
    """Encodes on a Ray cluster; ``load`` makes a worker's encoder and must be picklable.

    ``address``: of the cluster; None is the one that RAY_ADDRESS names, else one that is started on this machine.
    ``on_gpus``: a worker a GPU, if the cluster has any.
    """

    load: Callable[[], SpeechEncoder]
    address: str | None = None
    on_gpus: bool = True

    def __call__(
        self, utterances: Sequence[Utterance], held: Mapping[str, str], encoder: SpeechEncoder, spec: FrameSpec
    ) -> Iterator[Part]:
        """Parts in the order that they are made in; raises what a worker's encoder or its loading raised."""
        if not utterances:
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
                ray.init(address=self.address, log_to_driver=False, logging_level="WARNING")
        except (ConnectionError, ValueError) as e:
            raise UsageError(f"--address {self.address}: no Ray cluster answers there; see `ray status`") from e
        with redirect_stdout(sys.stderr):  # Ray prints there which workers were lost, some of it when it shuts down
            try:
                shares = (utterances[i : i + SHARE] for i in range(0, len(utterances), SHARE))
                rows = [{"share": pickle.dumps((s, {u.id: held[u.id] for u in s if u.id in held}))} for s in shares]
                parts = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
                    _Worker,
                    batch_size=1,
                    batch_format="pyarrow",
                    fn_constructor_args=(self.load, encoder.spec, spec),
                    **self._workers(ray, len(rows)),
                )
                for table in parts.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                    for made in map(pickle.loads, table["part"].to_pylist()):
                        if isinstance(made, InterlinguaError):
                            raise made
                        yield made
            finally:
                if not joined:
                    ray.shutdown()

    def _workers(self, ray: Any, shares: int) -> dict[str, Any]:
        """How many workers, and what each of them reserves."""
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = sum(int(node.get("GPU", 0)) for node in nodes)
        if self.on_gpus and gpus:
            reserved, most = {"num_gpus": 1}, gpus
        else:
            cpus = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1] or [1]
            each = min(CPUS, *cpus)
            reserved, most = {"num_cpus": each}, sum(n // each for n in cpus)
        most = max(1, min(most, shares))
        return {"compute": ray.data.ActorPoolStrategy(size=most, max_tasks_in_flight_per_actor=2), **reserved}


class _Worker:
    """An actor: share -> parts, pickled; an error of ours goes to the driver as a value."""

    def __init__(self, load: Callable[[], SpeechEncoder], expected: FrameSpec, spec: FrameSpec) -> None:
        self._load, self._expected, self._spec = load, expected, spec
        self._encoder: SpeechEncoder | None = None

    def __call__(self, shares: Any) -> Iterator[dict[str, list[bytes]]]:
        try:
            if self._encoder is None:
                self._encoder = self._load()
            if self._encoder.spec != self._expected:
                raise StoreMismatchError(f"a worker makes {self._encoder.spec}, not {self._expected}; align the nodes")
            for utterances, held in map(pickle.loads, shares["share"].to_pylist()):
                for part in encode_here(utterances, held, self._encoder, self._spec):
                    yield {"part": [pickle.dumps(part)]}
        except InterlinguaError as e:
            yield {"part": [pickle.dumps(e)]}
