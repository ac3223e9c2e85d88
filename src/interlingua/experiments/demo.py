"""The demo: the paper's first claim on real human recordings, with controls and a translation baseline."""

import datetime
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from interlingua.audio import load_audio
from interlingua.corpora import prompts, write_manifest
from interlingua.encode import Encoder, WhisperEncoder, best_compute, encode_manifest
from interlingua.errors import CorpusError, UsageError
from interlingua.experiments.config import DemoConfig
from interlingua.experiments.controls import LogMelEncoder, with_random_weights
from interlingua.experiments.retrieval import Pair, evaluate_retrieval
from interlingua.experiments.translation import translation_baseline
from interlingua.models import Whisper, load_whisper
from interlingua.results import provenance, save_results
from interlingua.similarity import alignment_matrix, seqsim_pair
from interlingua.store import FrameStore
from interlingua.translation import place_words
from interlingua.types import SAMPLE_RATE, WINDOW_SECONDS, Matrix, Utterance

SHOWN_PAIR = ("en", "fr")  # the pair whose score matrix and whose best example are drawn
SHOWN_SECONDS = (3.0, 8.0)  # an example long enough to have words, short enough to read


def run_demo(config: DemoConfig | None = None, *, log: Callable[[str], None] = print) -> Path:
    """Run the demo and return its result folder, ready for `interlingua.report.write_report`.

    Raises:
        InterlinguaError: see the corpus, model and encoding stages.
    """
    return _Demo(config or DemoConfig(), log).run()


class _Demo:
    """One run: its configuration, its clock, and what it has measured so far."""

    def __init__(self, config: DemoConfig, log: Callable[[str], None]) -> None:
        if len(config.languages) < 2:
            raise UsageError("--languages: name two languages or more")
        self.config = config
        self.log = log
        self.timings: dict[str, float] = {}
        self.failures: list[str] = []

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
        compute = best_compute()
        self.log(f"{len(utterances)} recordings in {', '.join(config.languages)}; encoding in {compute}")
        whisper = load_whisper(config.model, dtype=compute)
        retrieval, matrices = self._retrieval(utterances, whisper)
        arrays: dict[str, np.ndarray] = {}
        results: dict[str, Any] = {"title": "Cross-lingual speech retrieval on real recordings"}
        a, b = SHOWN_PAIR if set(SHOWN_PAIR) <= set(config.languages) else config.languages[:2]
        shown = matrices.get((a, b))
        if shown is not None:
            arrays["similarity"] = shown
            results["similarity"] = {"query": a, "candidate": b, "method": "seqsim"}
            with self._timed("alignment"):
                results["alignment"], arrays["alignment"] = _alignment(utterances, whisper, shown, (a, b))
        translation, samples = self._translation(utterances)
        results |= {
            "settings": {
                **{k: str(v) if isinstance(v, Path) else v for k, v in asdict(config).items()},
                "model_name": whisper.model_name,
                "revision": whisper.revision,
                "layer": whisper.n_layers,
                "context": "speech",
                "translation_context": "full",
                "translation_compute": "float32",
            },
            "failures": self.failures,
            "corpus": describe_prompts(utterances),
            "retrieval": retrieval,
            "translation": translation,
            "samples": samples,
            "timings": self.timings,
        }
        seconds = time.monotonic() - clock
        save_results(config.out, {**results, "provenance": provenance(compute, seconds, started)}, arrays)
        return config.out

    def _retrieval(
        self, utterances: Sequence[Utterance], whisper: Whisper
    ) -> tuple[list[dict[str, Any]], dict[Pair, Matrix]]:
        store = self._encode(utterances, WhisperEncoder(whisper), "encoder", "encoding speech")
        with self._timed("retrieval"):
            rows, matrices = evaluate_retrieval(utterances, store, "seqsim")
            rows += evaluate_retrieval(utterances, store, "mean-pool")[0]
            rows += evaluate_retrieval(utterances, store, "duration")[0]
        mel = self._encode(utterances, LogMelEncoder(whisper), "log-mel", "control: log-mel")
        with self._timed("retrieval, controls"):
            rows += evaluate_retrieval(utterances, mel, "seqsim", name="seqsim:log-mel")[0]
        languages = self.config.random_languages or self.config.languages
        some = [u for u in utterances if u.language in languages]
        if len({u.language for u in some}) >= 2:
            random = WhisperEncoder(with_random_weights(whisper))
            untrained = self._encode(some, random, "random-weights", "control: random weights")
            with self._timed("retrieval, controls"):
                rows += evaluate_retrieval(some, untrained, "seqsim", name="seqsim:random-weights")[0]
        return rows, matrices

    def _translation(self, utterances: Sequence[Utterance]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        chosen = translation_subset(utterances, self.config.translate)
        if not chosen:
            return [], []
        whisper = load_whisper(self.config.model)
        encoder = WhisperEncoder(whisper, context="full")
        store = self._encode(chosen, encoder, "translation", "encoding for translation", pool=1)
        with self._timed("translation"):
            return translation_baseline(chosen, store, whisper, system=self.config.model)

    def _encode(
        self,
        utterances: Sequence[Utterance],
        encoder: Encoder,
        name: str,
        label: str,
        *,
        pool: int | None = None,
    ) -> FrameStore:
        with self._timed(label):
            store, report = encode_manifest(
                utterances,
                encoder,
                self.config.out / "frames" / f"{name}.lance",
                pooling=pool or self.config.pool,
                label=label,
            )
        self.failures += [f"{i}: {why}" for i, why in report.failed]
        return store

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.timings[stage] = round(self.timings.get(stage, 0.0) + time.monotonic() - started, 1)


def translation_subset(utterances: Sequence[Utterance], n_meanings: int | None) -> list[Utterance]:
    """Non-English utterances of the meanings to translate.

    Meanings qualify if every language's recording fits the 30 s window; of those, the ``n_meanings`` whose
    ids have the smallest SHA-256 are taken: fixed, and blind to their content.
    """
    longest: dict[str, float] = {}
    for u in utterances:
        longest[str(u.meaning)] = max(longest.get(str(u.meaning), 0.0), u.duration or 0.0)
    fitting = [m for m, seconds in longest.items() if seconds <= WINDOW_SECONDS]
    fitting.sort(key=lambda m: hashlib.sha256(m.encode()).digest())
    chosen = set(fitting if n_meanings is None else fitting[:n_meanings])
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


def _alignment(
    utterances: Sequence[Utterance], whisper: Whisper, scores: Matrix, pair: Pair
) -> tuple[dict[str, Any], np.ndarray]:
    """The best-scoring right answer of a readable length: its frames compared one by one, and its words."""
    queries = [u for u in utterances if u.language == pair[0]]
    candidates = [u for u in utterances if u.language == pair[1]]
    column = {u.meaning: j for j, u in enumerate(candidates)}
    best: tuple[float, Utterance, Utterance] | None = None
    for i, query in enumerate(queries):
        j = column.get(query.meaning)
        if j is None or int(np.argmax(scores[i])) != j or not (query.text and candidates[j].text):
            continue
        fits = all(SHOWN_SECONDS[0] <= (u.duration or 0) <= SHOWN_SECONDS[1] for u in (query, candidates[j]))
        if fits and (best is None or scores[i, j] > best[0]):
            best = (float(scores[i, j]), query, candidates[j])
    if best is None:
        raise CorpusError(f"no {pair[0]}-{pair[1]} pair of {SHOWN_SECONDS[0]}-{SHOWN_SECONDS[1]} s is retrieved right")
    _, query, candidate = best
    audio = [load_audio(u.audio) for u in (query, candidate)]
    (q, _), (c, _) = WhisperEncoder(whisper).encode(audio)
    described = []
    for u, samples in zip((query, candidate), audio, strict=True):
        words = [asdict(w) for w in place_words(whisper, samples, u.language, str(u.text))]
        seconds = round(len(samples) / SAMPLE_RATE, 2)
        described.append({"id": u.id, "language": u.language, "text": u.text, "seconds": seconds, "words": words})
    pair_scores = {k: round(v, 4) for k, v in seqsim_pair(q, c).items() if k != "mean"}
    return {"query": described[0], "candidate": described[1], **pair_scores}, alignment_matrix(q, c)
