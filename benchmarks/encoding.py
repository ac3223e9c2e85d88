"""What the audio context costs and gives: encoding time against transformers' own, R@1 and BLEU.

Times are measured side by side in one run: the machine's matrix products, transformers' WhisperModel on the same
recordings, and our encoder with each context and number format. R@1 and BLEU take longer, don't depend on what else the
machine does, and are kept in runs/encoding-quality.json: delete it to measure them again. Writes docs/encoding.md.
"""

import datetime
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from interlingua.audio import load_audio
from interlingua.corpora import prepare_prompts
from interlingua.encoding import WhisperEncoder, pool_frames
from interlingua.experiments.demo import translation_subset
from interlingua.files import write_text
from interlingua.metrics import score_translations
from interlingua.models import Whisper, load_whisper
from interlingua.results import Provenance, provenance
from interlingua.retrieval.evaluate import Items, evaluate_scores
from interlingua.retrieval.seqsim import seqsim
from interlingua.translation import translate_frames
from interlingua.types import SAMPLE_RATE, Frames, Samples, Utterance

PAIR = ("en", "fr")
TIMED = 24  # recordings timed against transformers
TRANSLATED = 24  # Spanish prompts translated with each context
RETRIEVED = 100  # prompts searched with each context
CONTEXTS = ("full", "speech+8", "speech+3", "speech+1", "speech")
SEARCHED = ("full", "speech+8", "speech")  # contexts whose R@1 is measured, too
QUALITY = Path("runs/encoding-quality.json")
PAGE = Path(__file__).resolve().parent.parent / "docs" / "encoding.md"


def main() -> None:
    """Measure and write the page."""
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    utterances = prepare_prompts()
    meanings = {u.meaning for u in translation_subset(utterances, RETRIEVED)}
    pairs = {lang: [u for u in utterances if u.language == lang and u.meaning in meanings] for lang in PAIR}
    audio = {u.id: load_audio(u.audio) for members in pairs.values() for u in members}
    spanish = [u for u in translation_subset(utterances, TRANSLATED) if u.language == "es"]
    timed = list(audio.values())[:: len(audio) // TIMED][:TIMED]
    gemm = {name: gemm_gflops(getattr(torch, name)) for name in ("float32", "bfloat16")}
    models = {name: load_whisper("base", dtype=name) for name in ("float32", "bfloat16")}
    theirs = {name: seconds(partial(transformers_encode, model, timed)) / TIMED for name, model in models.items()}
    rows = []
    for name, model in models.items():
        rows.append([f"transformers, 30 s, {name}", f"{theirs[name]:.3f}", ratio(theirs["float32"], theirs[name])])
        for context in CONTEXTS:
            encoder = WhisperEncoder(model, context=context)
            ours = seconds(partial(encoder.encode, timed)) / TIMED
            rows.append([f"ours, {context}, {name}", f"{ours:.3f}", ratio(theirs["float32"], ours)])
            print(" | ".join(rows[-1]), flush=True)
    quality = json.loads(QUALITY.read_text(encoding="utf-8")) if QUALITY.exists() else {}
    for name, model in models.items():
        for context in CONTEXTS:
            key = f"ours, {context}, {name}"
            if key not in quality:
                encoder = WhisperEncoder(model, context=context)
                r1 = ", ".join(f"{x:.3f}" for x in recall(encoder, pairs, audio)) if context in SEARCHED else ""
                bleu = translate(model, encoder, spanish) if name == "float32" else ""
                quality[key] = [r1, bleu]
                write_text(QUALITY, json.dumps(quality))
                print(key, quality[key], flush=True)
    rows = [[*row, *quality.get(row[0], ["", ""])] for row in rows]
    made = provenance("both", "cpu", time.monotonic() - clock, started)
    write_text(PAGE, page(rows, gemm, made, len(meanings), len(spanish), timed))


def seconds(work: Callable[[], Any]) -> float:
    """The best of two runs: the first one warms up."""
    times = []
    for _ in range(2):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def gemm_gflops(dtype: torch.dtype, n: int = 2048) -> float:
    """The machine's own matrix product, n x 512 by 512 x n."""
    a, b = torch.randn(n, 512).to(dtype), torch.randn(512, n).to(dtype)
    return 10 * 2 * n * n * 512 / seconds(lambda: [a @ b for _ in range(10)]) / 1e9


def transformers_encode(whisper: Whisper, batch: list[Samples]) -> None:
    """transformers' feature extraction and encoder forward, in batches of eight 30 s windows."""
    for start in range(0, len(batch), 8):
        features = whisper.feature_extractor(
            batch[start : start + 8], sampling_rate=SAMPLE_RATE, return_tensors="pt"
        ).input_features
        with torch.inference_mode():
            whisper.model.model.encoder(features.to(whisper.model.dtype))


def recall(encoder: WhisperEncoder, pairs: dict[str, list[Utterance]], audio: dict[str, Samples]) -> list[float]:
    """R@1 of both directions, frames pooled by 2."""
    frames, items = [], []
    for members in pairs.values():
        encoded = encoder.encode([audio[u.id] for u in members])
        frames.append([pool_frames(values[:n], 2) for values, n in encoded])
        items.append(
            Items([u.id for u in members], [str(u.meaning) for u in members], [str(u.cluster) for u in members])
        )
    scores = seqsim(*frames)
    return [evaluate_scores(scores, *items).r1, evaluate_scores(scores.T, *items[::-1]).r1]


def translate(whisper: Whisper, encoder: WhisperEncoder, utterances: list[Utterance]) -> str:
    """BLEU of Spanish into English with this context."""
    encoded = encoder.encode([load_audio(u.audio) for u in utterances])
    frames = [Frames(u.id, values.astype(np.float16), n) for u, (values, n) in zip(utterances, encoded, strict=True)]
    hypotheses = {h.id: h.text for h in translate_frames(whisper, frames, "es")}
    references = {u.id: u.translations["en"] for u in utterances}
    clusters = {u.id: str(u.cluster) for u in utterances}
    score = score_translations(hypotheses, references, target="en", metric="bleu", clusters=clusters)
    assert score.ci is not None
    return f"{score.value:.1f} [{score.ci[0]:.1f}, {score.ci[1]:.1f}]"


def ratio(base: float, other: float) -> str:
    """How many times faster than ``base``."""
    return f"{base / other:.1f}x"


def page(
    rows: list[list[str]], gemm: dict[str, float], made: Provenance, n: int, n_translated: int, timed: list[Samples]
) -> str:
    """docs/encoding.md."""
    head = ["encoder", "s an utterance", "speed", f"R@1 {PAIR[0]}→{PAIR[1]}, back", "BLEU es→en [95% CI]"]
    lines = ["| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows]]
    mean = np.mean([len(a) for a in timed]) / SAMPLE_RATE
    return f"""# What the audio context costs and gives

Written by `make bench` (`benchmarks/encoding.py`), not by hand: {str(made.started)[:10]}, {made.device["name"]},
{made.device["threads"]} threads, torch {made.packages["torch"]}, transformers {made.packages["transformers"]}. The
machine's own matrix product in the same run: {gemm["float32"]:.0f} GFLOP/s in float32, {gemm["bfloat16"]:.0f} in bfloat16.

Whisper-base. Time: {TIMED} recordings of {mean:.1f} s on average, feature extraction included, best of two runs; speed is
against transformers' own encoder in float32. R@1: SeqSim F1 of {n} prompts, frames pooled by 2. BLEU: {n_translated} Spanish
prompts, greedy, no training, decoder in float32.

{chr(10).join(lines)}

What follows from it:

- **Retrieval needs no silence**: encode the speech alone.
- **An untrained decoder needs silence behind the speech.** It stops by what it sees there.
- **Read the intervals.** One hypothesis that loops to the end of the decoder's positions takes most of the BLEU of
  {n_translated} sentences with it, with any context. `interlingua translate` has guards against loops; these figures are without.
"""


if __name__ == "__main__":
    main()
