"""What is bitwise equal over repeats, batches and threads, and how far apart the rest is. Writes docs/determinism.md."""

import datetime
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from interlingua.audio import load_audio
from interlingua.corpora import prepare_prompts
from interlingua.encoding import WhisperEncoder
from interlingua.files import write_text
from interlingua.models import load_whisper
from interlingua.results import provenance
from interlingua.retrieval.seqsim import TIE, reduce_directions, seqsim_both
from interlingua.translation import TranslationOptions, Translator, load_engine

PAGE = Path(__file__).resolve().parent.parent / "docs" / "determinism.md"
PROMPTS = 12  # a language, fr and es
THREADS = 1, 2

Made = list[Any]  # arrays or texts


def main() -> None:
    """Measure and write the page."""
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    spoken = [u for u in prepare_prompts(languages=("fr", "es")) if u.text]
    spoken = [u for lang in ("fr", "es") for u in [v for v in spoken if v.language == lang][:PROMPTS]]
    samples = [load_audio(u.audio) for u in spoken]
    rows = []
    for compute in ("float32", "bfloat16"):
        encoder = WhisperEncoder(load_whisper("base", dtype=compute))

        def encode(parts: Sequence[list[int]], encoder: WhisperEncoder = encoder) -> Made:
            return [values[:n] for part in parts for values, n in encoder.encode([samples[i] for i in part])]

        rows.append(row(f"frames, {compute}", encode, len(samples)))
        if compute == "float32":
            frames = encode([[*range(len(samples))]])
    a, b = frames[:PROMPTS], frames[PROMPTS:]
    for kind in ("float32", "bfloat16", "int8"):

        def score(parts: Sequence[list[int]], kind: Any = kind) -> Made:
            found = [reduce_directions(*seqsim_both([a[i] for i in part], b, compute=kind), "f1") for part in parts]
            return [*np.concatenate(found)]

        rows.append(row(f"SeqSim, {kind}", score, PROMPTS))
    for backend, compute in (("ctranslate2", "int8_float32"), ("ctranslate2", "float32"), ("transformers", "float32")):
        for retries in (True, False):
            options = TranslationOptions(guards=retries)

            def translate(
                parts: Sequence[list[int]], how: tuple[str, str, TranslationOptions] = (backend, compute, options)
            ) -> Made:
                translator = Translator(load_engine("base", backend=how[0], compute=how[1]), how[2])
                given = [[(str(i), samples[i]) for i in part] for part in parts]
                return [t.text for some in given for t in translator.translate_all(some, ["en"], source="fr")]

            if retries or backend == "ctranslate2":
                name = f"translations, {backend} {compute}, {'guards and retries' if retries else 'one try'}"
                rows.append(row(name, translate, PROMPTS))
    made = msgspec.to_builtins(provenance("both", "cpu", time.monotonic() - clock, started))
    write_text(PAGE, page(rows, made))


def row(name: str, make: Callable[[Sequence[list[int]]], Made], n: int) -> list[str]:
    """A row: repeats, batches of one against one batch, and one thread against two; each against the first result."""
    torch.set_num_threads(THREADS[-1])
    first = make([[*range(n)]])
    again = make([[*range(n)]])
    alone = make([[i] for i in range(n)])
    torch.set_num_threads(THREADS[0])
    single = make([[*range(n)]])
    torch.set_num_threads(THREADS[-1])
    found = [name, *(apart(first, other) for other in (again, alone, single))]
    print(found, flush=True)
    return found


def apart(first: Made, other: Made) -> str:
    """How far two results are from each other."""
    if isinstance(first[0], str):
        same = sum(x == y for x, y in zip(first, other, strict=True))
        return "equal" if same == len(first) else f"{same} of {len(first)} equal"
    if all(np.array_equal(x, y) for x, y in zip(first, other, strict=True)):
        return "bitwise equal"
    largest = max(float(np.abs(np.float64(x) - np.float64(y)).max()) for x, y in zip(first, other, strict=True))
    return f"{largest:.1e} at most"


def page(rows: list[list[str]], made: dict[str, Any]) -> str:
    """docs/determinism.md."""
    head = ["", "repeated", "one by one, against one batch", f"{THREADS[0]} thread, against {THREADS[1]}"]
    table = "\n".join("| " + " | ".join(r) + " |" for r in [head, ["---"] * 4, *rows])
    return f"""# What comes out equal

Written by `make determinism` (`benchmarks/determinism.py`), not by hand: {made["started"][:10]}, {made["device"]["name"]}, torch
{made["packages"]["torch"]}. Whisper-base on {PROMPTS} prompts a language in French and Spanish. Differences are the largest of any frame's value or
any score.

{table}

Scores that are at most {TIE:g} apart share a rank, so ranks and R@k don't change with the order of a manifest. Sampled
retries are seeded by the recording's samples. Stores, indexes, exports and manifests are equal over repeats, and after kills
(`make test-faults`); results are, but for their provenance (times and versions).
"""


if __name__ == "__main__":
    main()
