"""The demo: the paper's first claim on real human recordings, with controls and a translation baseline."""

import dataclasses
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from interlingua import results
from interlingua.audio import load_audio
from interlingua.corpora import prompts, write_manifest
from interlingua.encoding import Encoded, SpeechEncoder, WhisperEncoder, best_compute, encode_manifest, resolve_device
from interlingua.encoding.store import FrameStore
from interlingua.experiments.alignment import align, listen, rounded
from interlingua.experiments.config import DemoConfig
from interlingua.experiments.retrieval import SEEDS, Corpus, Measured, Pair, measure, usable_methods
from interlingua.experiments.run import Run
from interlingua.experiments.translation import translation_baseline
from interlingua.experiments.utterances import UtteranceLog
from interlingua.models import Whisper, load_whisper
from interlingua.models.whisper import FRAME_SAMPLES, FRAMES_PER_SECOND
from interlingua.retrieval.methods import DEFAULT_METHOD
from interlingua.types import SAMPLE_RATE, WINDOW_SECONDS, FrameSpec, Matrix, Samples, Utterance

RANDOM_SEED = 0  # of the control's weights
SHOWN_PAIR = {"en", "fr"}  # the pair whose score matrix and whose best example are drawn
SHOWN_SECONDS = (3.0, 8.0)  # an example long enough to have words, short enough to read


def run_demo(config: DemoConfig | None = None, *, log: Callable[[str], None] = print) -> Path:
    """Run the demo and return its result folder, ready for `interlingua.report.write_report`."""
    settled = (config or DemoConfig()).settled()
    device, _ = resolve_device(settled.device)
    compute = best_compute(device)
    run = Run(settled.out, compute=compute, device=device, log=log)
    timings: dict[str, float] = {}
    failures: dict[str, str] = {}

    @contextmanager
    def timed(stage: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        timings[stage] = round(timings.get(stage, 0.0) + time.monotonic() - started, 1)

    def encoded(
        some: Sequence[Utterance], encoder: SpeechEncoder, name: str, label: str, pool: int = settled.pool
    ) -> FrameStore:
        path = settled.out / "frames" / f"{name}-pool{pool}-{encoder.spec.compute}.lance"
        with timed(label):
            store, report = encode_manifest(some, encoder, path, pooling=pool, label=label)
        if report.present:
            timings[f"{label} ({report.present} of {len(some)} from an earlier run)"] = timings.pop(label)
        failures.update(report.failed)
        return store

    def measured(methods: Sequence[str], some: Sequence[Utterance], store: FrameStore, frames: str = "") -> Measured:
        with timed("retrieval, controls" if frames else "retrieval"):
            corpus = Corpus.of(some, store)
            usable = usable_methods(methods, corpus.n_clusters, log)
            return measure(corpus, usable, frames=frames, compute=compute, device=device, log=kept)

    with timed("corpus"):
        utterances = prompts.prepare_prompts(
            languages=settled.languages,
            min_words=settled.min_words,
            include_non_speech=settled.include_non_speech,
            log=log,
        )
        write_manifest(settled.out / "manifest.jsonl", utterances)
    log(f"{len(utterances)} recordings in {', '.join(settled.languages)}; encoding in {compute}")
    whisper = load_whisper(settled.model, dtype=compute, device=device)
    if settled.translate != 0:
        whisper.require_translation()
    kept = UtteranceLog(utterances)
    store = encoded(utterances, WhisperEncoder(whisper), "encoder", "encoding speech")
    main = measured(("seqsim", DEFAULT_METHOD, "mean-pool", "duration"), utterances, store)
    mel = encoded(utterances, LogMelEncoder(whisper), "log-mel", "control: log-mel")
    sound = measured(("seqsim",), utterances, mel, "log-mel")
    some = [u for u in utterances if u.language in settled.random_languages]
    random = WhisperEncoder(with_random_weights(whisper))
    untrained = encoded(some, random, "random-weights", "control: random weights")
    untrained_rows = measured(("seqsim",), some, untrained, "random-weights")

    pair: Pair = next((pair for pair in main.matrices if set(pair) == SHOWN_PAIR), next(iter(main.matrices)))
    arrays: dict[str, np.ndarray] = {"similarity": main.matrices[pair]}
    alignment = None
    if example := best_example(utterances, main.matrices[pair], pair):
        with timed("alignment"):
            spoken = [listen(whisper, u.id, load_audio(u.audio), language=u.language, text=u.text) for u in example]
            aligned, arrays["alignment"] = align(whisper, *spoken)
        alignment = msgspec.structs.replace(rounded(aligned), mean=None, matches=[])
    translation: list[results.Translation] = []
    samples: list[results.Sample] = []
    if chosen := translation_subset(utterances, settled.translate):
        exact = load_whisper(settled.model, device=device)
        padded = encoded(chosen, WhisperEncoder(exact, context="full"), "translation", "encoding for translation", 1)
        with timed("translation"):
            translation, samples = translation_baseline(chosen, padded, exact, system=settled.model, log=kept)
    found = results.Results(
        title="Cross-lingual speech retrieval on real recordings",
        similarity=results.Similarity(query=pair[0], candidate=pair[1], method="seqsim"),
        alignment=alignment,
        settings={
            **{k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(settled).items()},
            "model_name": whisper.model_name,
            "revision": whisper.revision,
            "layer": whisper.n_layers,
            "device": device,
            "context": "speech",
            "translation_context": "full",
            "translation_compute": "float32",
        },
        failures=[f"{name}: {why}" for name, why in failures.items()],
        corpus=describe_prompts(utterances),
        retrieval=[*main.rows, *sound.rows, *untrained_rows.rows],
        translation=translation,
        samples=samples,
        timings=dict(timings),
    )
    seeds = {**SEEDS, "random weights": RANDOM_SEED}
    run.save(found, measured_on=utterances, seeds=seeds, arrays=arrays, utterances=kept.results)
    return settled.out


def translation_subset(utterances: Sequence[Utterance], n_meanings: int | Literal["all"]) -> list[Utterance]:
    """Non-English utterances of the meanings to translate.

    Of the meanings whose recordings all fit the 30 s window, the ``n_meanings`` with the smallest SHA-256 of their ids:
    fixed, and independent of content.
    """
    longest: dict[str, float] = {}
    for u in utterances:
        longest[str(u.meaning)] = max(longest.get(str(u.meaning), 0.0), u.duration or 0.0)
    fitting = [m for m, seconds in longest.items() if seconds <= WINDOW_SECONDS]
    fitting.sort(key=lambda m: hashlib.sha256(m.encode()).digest())
    chosen = set(fitting if n_meanings == "all" else fitting[:n_meanings])
    return [u for u in utterances if u.meaning in chosen and u.language != "en" and "en" in u.translations]


def describe_prompts(utterances: Sequence[Utterance]) -> results.Corpus:
    """Sizes, rules and credits."""
    spoken: dict[str, list[float]] = {}
    for u in utterances:
        spoken.setdefault(u.language, []).append(u.duration or 0.0)
    return results.Corpus(
        title=prompts.TITLE,
        n_meanings=len({u.meaning for u in utterances}),
        n_clusters=len({u.cluster for u in utterances}),
        rules=list(prompts.RULES),
        languages=[
            results.CorpusLanguage(
                language=lang,
                n=len(seconds),
                seconds=round(sum(seconds), 1),
                **{key: prompts.CREDITS[lang][key] for key in ("voice", "variety", "licence")},
            )
            for lang, seconds in spoken.items()
        ],
    )


def best_example(utterances: Sequence[Utterance], scores: Matrix, pair: Pair) -> tuple[Utterance, Utterance] | None:
    """The best-scoring correct pair of a readable length with both transcripts, or None."""
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


# ---------------------------------------------------------------- controls: sound and duration, but no learned meaning


class LogMelEncoder:
    """Whisper's log-mel features as frames: two 10 ms frames averaged, each bin's utterance mean removed.

    Without removing the mean every cosine would be near 1, and the control too weak.
    """

    def __init__(self, whisper: Whisper) -> None:
        self._whisper = whisper

    @property
    def spec(self) -> FrameSpec:
        """Log-mel frames of the speech alone."""
        return FrameSpec("log-mel", f"{self.dim}-bins", 0, "speech", 1, "float16", "float32", self.rate)

    @property
    def dim(self) -> int:
        """D, the number of mel bins."""
        return self._whisper.n_mels

    @property
    def rate(self) -> float:
        """Frames per second, as of Whisper's encoder."""
        return float(FRAMES_PER_SECOND)

    @property
    def layers(self) -> int:
        """None: nothing is learned."""
        return 0

    def encode(self, batch: Sequence[Samples]) -> list[Encoded]:
        """Log-mel frames of each recording, (T, mels)."""
        result = []
        for samples in batch:
            n_frames = max(1, -(-len(samples) // FRAME_SAMPLES))
            padded = np.pad(samples, (0, n_frames * FRAME_SAMPLES - len(samples)))
            mel = self._whisper.feature_extractor(
                padded, sampling_rate=SAMPLE_RATE, padding=False, truncation=False
            ).input_features[0]
            frames = mel.reshape(len(mel), n_frames, 2).mean(axis=2).T
            result.append((frames - frames.mean(axis=0), n_frames))
        return result


def with_random_weights(whisper: Whisper) -> Whisper:
    """The same architecture with random weights, as a control."""
    import torch
    from transformers import WhisperForConditionalGeneration

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        model = WhisperForConditionalGeneration(whisper.model.config).to(whisper.model.dtype).eval()
    source = dataclasses.replace(whisper.source, revision=f"random-weights-seed-{RANDOM_SEED}")
    return dataclasses.replace(whisper, model=model.to(whisper.model.device), source=source)
