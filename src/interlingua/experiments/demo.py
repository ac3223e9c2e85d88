"""The demo: the paper's first claim on real human recordings, with controls and a translation baseline."""

import datetime
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np

from interlingua.audio import load_audio
from interlingua.corpora import prompts, write_manifest
from interlingua.encoding import SpeechEncoder, WhisperEncoder, best_compute, best_device, encode_manifest
from interlingua.encoding.store import FrameStore
from interlingua.experiments.alignment import align, listen
from interlingua.experiments.config import DemoConfig, SettledDemo
from interlingua.experiments.controls import RANDOM_SEED, LogMelEncoder, with_random_weights
from interlingua.experiments.retrieval import Pair, evaluate_retrieval
from interlingua.experiments.translation import translation_baseline
from interlingua.experiments.utterances import UtteranceLog
from interlingua.models import Whisper, load_whisper
from interlingua.resampling import BOOTSTRAP_SEED
from interlingua.results import provenance, save_results
from interlingua.retrieval.methods import DEFAULT_METHOD, Method
from interlingua.retrieval.scoring import FOLD_SEED, LEAST_CLUSTERS
from interlingua.types import WINDOW_SECONDS, Matrix, Utterance

SHOWN_PAIR = {"en", "fr"}  # the pair whose score matrix and whose best example are drawn
SHOWN_SECONDS = (3.0, 8.0)  # an example long enough to have words, short enough to read


def run_demo(config: DemoConfig | None = None, *, log: Callable[[str], None] = print) -> Path:
    """Run the demo and return its result folder, ready for `interlingua.report.write_report`.

    Raises:
        InterlinguaError: see the corpus, model and encoding stages.
    """
    return _Demo((config or DemoConfig()).settled(), log).run()


class _Demo:
    """One run: its configuration, its clock, and what it has measured so far."""

    def __init__(self, config: SettledDemo, log: Callable[[str], None]) -> None:
        self.config = config
        self.log = log
        self.device = best_device() if config.device == "auto" else config.device
        self.timings: dict[str, float] = {}
        self.failures: dict[str, str] = {}

    def run(self) -> Path:
        started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
        config = self.config
        with self._timed("corpus"):
            utterances = prompts.prepare_prompts(
                languages=config.languages,
                min_words=config.min_words,
                include_non_speech=config.include_non_speech,
                log=self.log,
            )
            write_manifest(config.out / "manifest.jsonl", utterances)
        compute = best_compute(self.device)
        self.log(f"{len(utterances)} recordings in {', '.join(config.languages)}; encoding in {compute}")
        whisper = load_whisper(config.model, dtype=compute, device=self.device)
        if config.translate != 0:
            whisper.require_translation()
        self.kept = UtteranceLog(utterances)
        retrieval, matrices = self._retrieval(utterances, whisper)
        shown = next((pair for pair in matrices if set(pair) == SHOWN_PAIR), next(iter(matrices)))
        arrays: dict[str, np.ndarray] = {"similarity": matrices[shown]}
        results: dict[str, Any] = {
            "title": "Cross-lingual speech retrieval on real recordings",
            "similarity": {"query": shown[0], "candidate": shown[1], "method": "seqsim"},
        }
        example = best_example(utterances, matrices[shown], shown)
        if example:
            with self._timed("alignment"):
                spoken = [listen(whisper, u.id, load_audio(u.audio), language=u.language, text=u.text) for u in example]
                alignment = align(whisper, *spoken)
            results["alignment"], arrays["alignment"] = alignment.as_dict(), alignment.similarity
        translation, samples = self._translation(utterances)
        results |= {
            "settings": {
                **{k: str(v) if isinstance(v, Path) else v for k, v in asdict(config).items()},
                "model_name": whisper.model_name,
                "revision": whisper.revision,
                "layer": whisper.n_layers,
                "device": self.device,
                "context": "speech",
                "translation_context": "full",
                "translation_compute": "float32",
            },
            "failures": [f"{name}: {why}" for name, why in self.failures.items()],
            "corpus": describe_prompts(utterances),
            "retrieval": retrieval,
            "translation": translation,
            "samples": samples,
            "timings": self.timings,
        }
        seconds = time.monotonic() - clock
        seeds = {"bootstrap": BOOTSTRAP_SEED, "folds": FOLD_SEED, "random weights": RANDOM_SEED}
        results["provenance"] = provenance(compute, self.device, seconds, started, utterances=utterances, seeds=seeds)
        save_results(config.out, results, arrays, self.kept.results)
        return config.out

    def _retrieval(
        self, utterances: Sequence[Utterance], whisper: Whisper
    ) -> tuple[list[dict[str, Any]], dict[Pair, Matrix]]:
        store = self._encode(utterances, WhisperEncoder(whisper), "encoder", "encoding speech")
        compute = best_compute(self.device)
        with self._timed("retrieval"):
            shared: Any = {"device": self.device, "compute": compute, "log": self.kept}
            rows, matrices = evaluate_retrieval(utterances, store, "seqsim", **shared)
            methods: list[Method] = ["mean-pool", "duration"]
            if len({u.cluster for u in utterances}) >= LEAST_CLUSTERS:
                methods.insert(0, DEFAULT_METHOD)
            for method in methods:
                rows += evaluate_retrieval(utterances, store, method, **shared)[0]
        mel = self._encode(utterances, LogMelEncoder(whisper), "log-mel", "control: log-mel")
        with self._timed("retrieval, controls"):
            rows += evaluate_retrieval(utterances, mel, "seqsim", name="seqsim:log-mel", **shared)[0]
        some = [u for u in utterances if u.language in self.config.random_languages]
        random = WhisperEncoder(with_random_weights(whisper))
        untrained = self._encode(some, random, "random-weights", "control: random weights")
        with self._timed("retrieval, controls"):
            rows += evaluate_retrieval(some, untrained, "seqsim", name="seqsim:random-weights", **shared)[0]
        return rows, matrices

    def _translation(self, utterances: Sequence[Utterance]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        chosen = translation_subset(utterances, self.config.translate)
        if not chosen:
            return [], []
        whisper = load_whisper(self.config.model, device=self.device)
        encoder = WhisperEncoder(whisper, context="full")
        store = self._encode(chosen, encoder, "translation", "encoding for translation", pool=1)
        with self._timed("translation"):
            return translation_baseline(chosen, store, whisper, system=self.config.model, log=self.kept)

    def _encode(
        self,
        utterances: Sequence[Utterance],
        encoder: SpeechEncoder,
        name: str,
        label: str,
        *,
        pool: int | None = None,
    ) -> FrameStore:
        pool = pool or self.config.pool
        folder = self.config.out / "frames" / f"{name}-pool{pool}-{encoder.spec.compute}.lance"
        with self._timed(label):
            store, report = encode_manifest(utterances, encoder, folder, pooling=pool, label=label)
        if report.present:
            self.timings[f"{label} ({report.present} of {len(utterances)} from an earlier run)"] = self.timings.pop(
                label
            )
        self.failures |= report.failed
        return store

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.timings[stage] = round(self.timings.get(stage, 0.0) + time.monotonic() - started, 1)


def translation_subset(utterances: Sequence[Utterance], n_meanings: int | Literal["all"]) -> list[Utterance]:
    """Non-English utterances of the meanings to translate.

    Meanings qualify if every language's recording fits the 30 s window; of those, the ``n_meanings`` whose
    ids have the smallest SHA-256 are taken: fixed, and blind to their content.
    """
    longest: dict[str, float] = {}
    for u in utterances:
        longest[str(u.meaning)] = max(longest.get(str(u.meaning), 0.0), u.duration or 0.0)
    fitting = [m for m, seconds in longest.items() if seconds <= WINDOW_SECONDS]
    fitting.sort(key=lambda m: hashlib.sha256(m.encode()).digest())
    chosen = set(fitting if n_meanings == "all" else fitting[:n_meanings])
    return [u for u in utterances if u.meaning in chosen and u.language != "en" and "en" in u.translations]


def describe_prompts(utterances: Sequence[Utterance]) -> dict[str, Any]:
    """The ``corpus`` part of the results: sizes, rules and credits."""
    languages = list(dict.fromkeys(u.language for u in utterances))
    return {
        "title": prompts.TITLE,
        "n_meanings": len({u.meaning for u in utterances}),
        "n_clusters": len({u.cluster for u in utterances}),
        "rules": list(prompts.RULES),
        "languages": [
            {
                "language": lang,
                "n": sum(u.language == lang for u in utterances),
                "seconds": round(sum(u.duration or 0.0 for u in utterances if u.language == lang), 1),
                "voice": prompts.CREDITS[lang]["voice"],
                "variety": prompts.CREDITS[lang]["variety"],
                "licence": prompts.CREDITS[lang]["licence"],
            }
            for lang in languages
        ],
    }


def best_example(utterances: Sequence[Utterance], scores: Matrix, pair: Pair) -> tuple[Utterance, Utterance] | None:
    """The best-scoring right answer of a readable length with both transcripts, or None."""
    queries = [u for u in utterances if u.language == pair[0]]
    candidates = [u for u in utterances if u.language == pair[1]]
    best: tuple[float, Utterance, Utterance] | None = None
    for i, query in enumerate(queries):
        if np.isnan(scores[i]).all():
            continue
        j = int(np.nanargmax(scores[i]))
        candidate = candidates[j]
        fits = all(SHOWN_SECONDS[0] <= (u.duration or 0) <= SHOWN_SECONDS[1] for u in (query, candidate))
        if candidate.meaning == query.meaning and query.text and candidate.text and fits:
            score = float(scores[i, j])
            best = max(best or (score, query, candidate), (score, query, candidate), key=lambda b: b[0])
    return best[1:] if best else None
