"""Cross-lingual speech-to-speech retrieval as a task of mteb, which has none: ``pip install mteb`` (2.26 was tried).

>>> task = speech_retrieval(read_manifest("fleurs.jsonl"))  # doctest: +SKIP
>>> mteb.evaluate(model, task)  # doctest: +SKIP

A subset is an ordered pair of languages: all of the first language's recordings are queries, all of the second's are
the corpus. mteb's ``hit_rate_at_k`` is our R@k, its ``mrr_at_1000`` our MRR in galleries that are no larger.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterable
from itertools import permutations
from pathlib import Path
from typing import Any

import langcodes
import numpy as np
import pyarrow as pa

from interlingua.audio import load_audio
from interlingua.encoding.store import line_of
from interlingua.errors import CorpusError, UsageError
from interlingua.progress import track
from interlingua.types import SAMPLE_RATE, Utterance

SPLIT = "test"
_AUDIO = pa.struct([("array", pa.list_(pa.float32())), ("sampling_rate", pa.int64())])


def speech_retrieval(utterances: Iterable[Utterance], name: str = "SpeechToSpeechRetrieval") -> Any:
    """A task of mteb, an ``AbsTaskRetrieval``, of a manifest's utterances, whose audio it reads when it runs.

    Raises:
        UsageError: mteb isn't installed.
        CorpusError: an utterance has no meaning, or no two languages have a sentence in common.
    """
    try:
        from mteb.abstasks.retrieval import AbsTaskRetrieval
        from mteb.abstasks.task_metadata import TaskMetadata
    except ImportError as error:
        raise UsageError(f"mteb can't be imported ({error}); pip install mteb") from error
    by_language: dict[str, list[Utterance]] = {}
    for u in utterances:
        if u.meaning is None:
            raise CorpusError(f"utterance {u.id!r} has no `meaning`, by which retrieval is scored; see docs/data.md")
        by_language.setdefault(u.language, []).append(u)
    relevant = {(a, b): _relevant(by_language[a], by_language[b]) for a, b in permutations(by_language, 2)}
    pairs = {f"{a}-{b}": (a, b) for (a, b), documents in relevant.items() if documents}
    if not pairs:
        raise CorpusError(f"no sentence is recorded in two of {', '.join(by_language)}; see `meaning` in the manifest")
    lines = sorted(line_of(u) for members in by_language.values() for u in members)

    class SpeechToSpeechRetrieval(AbsTaskRetrieval):  # type: ignore[misc]  # mteb isn't among our requirements
        data_loaded: bool
        metadata = TaskMetadata(
            name=name,
            description="Find the recordings of another language that say what a recording says.",
            reference="https://arxiv.org/abs/2407.01130",
            dataset={"path": "a manifest", "revision": hashlib.sha256("\n".join(lines).encode()).hexdigest()},
            type="Any2AnyRetrieval",
            category="a2a",
            modalities=["audio"],
            eval_splits=[SPLIT],
            eval_langs={pair: [_bcp47(a), _bcp47(b)] for pair, (a, b) in pairs.items()},
            main_score="hit_rate_at_1",
            domains=["Spoken"],
            bibtex_citation="",
        )

        def load_data(self, num_proc: int | None = None, **options: Any) -> None:
            """Decode the recordings into Arrow files, which stay on disk as long as the task."""
            if self.data_loaded:
                return
            self._files = tempfile.TemporaryDirectory(prefix="interlingua-mteb-")
            chosen = [pairs[subset] for subset in self.hf_subsets]
            spoken = dict.fromkeys(language for pair in chosen for language in pair)
            with track(sum(len(by_language[language]) for language in spoken), "reading recordings") as advance:
                sides = {
                    language: _dataset(by_language[language], Path(self._files.name) / f"{language}.arrow", advance)
                    for language in spoken
                }
            self.dataset = {
                f"{a}-{b}": {
                    SPLIT: {
                        "queries": sides[a],
                        "corpus": sides[b],
                        "relevant_docs": relevant[a, b],
                        "top_ranked": None,
                    }
                }
                for a, b in chosen
            }
            self.data_loaded = True

        def unload_data(self) -> None:
            """Delete the Arrow files."""
            if self.data_loaded:
                self._files.cleanup()
            super().unload_data()

    return SpeechToSpeechRetrieval()


def _relevant(queries: Iterable[Utterance], candidates: Iterable[Utterance]) -> dict[str, dict[str, int]]:
    """Query id -> ids of its relevant candidates; queries that have none are left out."""
    by_meaning: dict[str | None, dict[str, int]] = {}
    for u in candidates:
        by_meaning.setdefault(u.meaning, {})[u.id] = 1
    return {u.id: by_meaning[u.meaning] for u in queries if u.meaning in by_meaning}


def _bcp47(language: str) -> str:
    """Language and script, as mteb names them: ``eng-Latn``."""
    full = langcodes.Language.get(language).maximize()
    return f"{full.to_alpha3()}-{full.script}"


def _dataset(utterances: Iterable[Utterance], path: Path, advance: Callable[[int], None]) -> Any:
    """A data set of ids and audio, on disk."""
    import datasets

    schema = pa.schema([("id", pa.string()), ("audio", _AUDIO)])
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for u in utterances:
            samples = load_audio(u.audio)
            offsets = np.array([0, len(samples)], dtype=np.int32)
            audio = [pa.ListArray.from_arrays(offsets, samples), pa.array([SAMPLE_RATE])]
            struct = pa.StructArray.from_arrays(audio, fields=list(_AUDIO))
            writer.write_batch(pa.record_batch([pa.array([u.id]), struct], schema=schema))
            advance(1)
    return datasets.Dataset.from_file(str(path))
