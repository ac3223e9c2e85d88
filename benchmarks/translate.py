"""Speed of `interlingua translate` and its peers, on the same recordings and the same weights: docs/translate-speed.md.

All take turns in one run on a machine that has nothing else to do; a contender's time is the median of its turns. Reading the
recordings is counted, loading the model is not. Texts are compared with ours, so that speed isn't bought with quality.
"""

import datetime
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from interlingua.audio import load_audio
from interlingua.files import write_text
from interlingua.metrics import (
    Statistics,
    SystemOutputs,
    pooled_difference,
    score_translations,
    translation_statistics,
)
from interlingua.results import Provenance, provenance
from interlingua.translation import Engine, Segmentation, TranslationOptions, Translator
from interlingua.translation.segments import speech_regions
from interlingua.types import Utterance
from translate_audio import LANGUAGES, long_recordings, short_recordings
from translate_peers import SETTINGS, Recording, run_peer

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "translate-speed.md"
TURNS = 2
PATIENCE = 3  # a contender that takes so many times our seconds has one turn
SHORT_EACH, LONG_MINUTES = 25, 3.0  # recordings, and length of one, of a language
OURS = {  # kind -> name -> options
    "long": {
        "ours": TranslationOptions(),
        "ours, no guards": TranslationOptions(guards=False),
    },
    "short": {
        "ours": TranslationOptions(),
        "ours, no guards": TranslationOptions(guards=False),
        "ours, beam 5": TranslationOptions(beam=5),
        "ours, speech+8": TranslationOptions(context="speech+8"),
        "ours, 30 s": TranslationOptions(context="full"),
    },
}
BEAMS = TranslationOptions(beam=5, segmentation=Segmentation(longest=28, gap=3.0))
OURS["beams"] = {"ours": BEAMS, "ours, stretches of 20 s": TranslationOptions(beam=5)}


@dataclass
class Contender:
    """One of ours or a peer; texts of its last turn."""

    name: str
    seconds: list[float] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    error: str | None = None
    engine: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)


class Clocked:
    """An engine whose calls are timed: what is left of our seconds is everything around it."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self.seconds = engine, 0.0

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._engine, name)
        if name not in ("encode", "detect", "generate"):
            return value

        def timed(*arguments: Any) -> Any:
            clock = time.perf_counter()
            try:
                return value(*arguments)
            finally:
                self.seconds += (time.perf_counter() - clock) / self._engine.workers

        return timed


def main() -> None:
    """Measure and write the page; ``--quick`` takes one turn; ``beams`` measures that alone, into a page of its own."""
    only = [a for a in sys.argv[1:] if not a.startswith("-")]
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    turns = 1 if "--quick" in sys.argv else TURNS
    translator = Translator("base")
    found = {}
    for kind, utterances in (
        ("short", short_recordings(SHORT_EACH)),
        ("long", long_recordings(LONG_MINUTES)),
        ("beams", long_recordings(LONG_MINUTES)),
    ):
        if (only and kind not in only) or (not only and kind == "beams"):
            continue
        contenders = [Contender(n) for n in (*OURS[kind], *SETTINGS[kind])]
        for turn in range(turns):
            for c in contenders:
                if c.error is None and not (turn and c.median > PATIENCE * contenders[0].seconds[0]):
                    run(c, kind, utterances, translator)
                    print(f"{kind}, turn {turn + 1}: {c.name}: {c.error or f'{c.seconds[-1]:.1f} s'}", flush=True)
        found[kind] = (utterances, contenders)
    origin = provenance("int8_float32", "cpu", time.monotonic() - clock, started)
    path = PAGE.with_stem("-".join([PAGE.stem, *only]))
    write_text(path, page(found, turns, origin))
    print(f"{path} written")


def run(contender: Contender, kind: str, utterances: Sequence[Utterance], translator: Translator) -> None:
    """One turn."""
    if contender.name in OURS[kind]:
        translator.options = OURS[kind][contender.name]
        engine = Clocked(translator.engine)
        mine = Translator(cast(Engine, engine), translator.options)
        mine.translate(load_audio(utterances[0].audio, max_seconds=1e9)[:48_000], "en", source=utterances[0].language)
        engine.seconds, clock = 0.0, time.perf_counter()
        spoken = {u.id: u.language for u in utterances}
        contender.texts = {
            t.id: t.text for t in mine.translate_all([(u.id, u.audio) for u in utterances], ["en"], source=spoken)
        }
        contender.seconds.append(time.perf_counter() - clock)
        contender.engine.append(engine.seconds)
        return
    result = run_peer(
        SETTINGS[kind][contender.name],
        [Recording(u.id, u.audio.path, u.language) for u in utterances],
    )
    contender.error = result.error
    if result.seconds is not None:
        contender.seconds.append(result.seconds)
        contender.texts = result.texts


def vad_seconds(utterances: Sequence[Utterance]) -> float:
    """Of finding speech alone."""
    audio = [load_audio(u.audio) for u in utterances]
    clock = time.perf_counter()
    for samples in audio:
        speech_regions(samples, Segmentation())
    return time.perf_counter() - clock


# ---------------------------------------------------------------- the page


def page(found: Mapping[str, Any], turns: int, origin: Provenance) -> str:
    """All of it, as Markdown."""
    device = origin.device
    parts = [
        f"""# How fast `interlingua translate` is

Written by `make bench-translate` (`benchmarks/translate.py`), not by hand: {str(origin.started)[:10]}, {device["name"]}, {device["threads"]} threads,
ctranslate2 {origin.packages["ctranslate2"]}. Whisper-base into English, one run, {turns} turns each (one for those that take more than
{PATIENCE} times our time), medians. All contenders have the same weights, the
language given, and greedy search unless stated otherwise; peers are given what suits them (the head of `benchmarks/translate_peers.py`), and read ready-made 16 kHz
WAV. `x real time` is seconds of computing per second of audio; `ratio` is a peer's time over ours.
"""
    ]
    titles = {
        "short": "Many short recordings",
        "long": "Long recordings",
        "beams": "Long recordings, ours with five beams and stretches of up to 28 s",
    }
    for kind, (utterances, contenders) in found.items():
        parts.append(section(titles[kind], kind, utterances, contenders))
    audio = next(utterances for kind, (utterances, _) in found.items() if kind != "short")
    long, vad = sum(u.duration or 0 for u in audio), vad_seconds(audio)
    parts.append(
        f"""## Where our time goes

| | seconds | of which in CTranslate2: the ceiling of this machine for these windows |
| --- | --- | --- |
{chr(10).join(engine_rows(found))}

Finding speech in {long:.0f} s of audio takes {vad:.1f} s.
"""
    )
    return "\n".join(parts)


def section(title: str, kind: str, utterances: Sequence[Utterance], contenders: Sequence[Contender]) -> str:
    """One table."""
    ours = contenders[0]
    seconds = sum(u.duration or 0 for u in utterances)
    rows = []
    for c in contenders:
        if c.error:
            rows.append(f"| {c.name} | {c.error} | | | | | |")
            continue
        difference = "" if c is ours else against(ours, c, utterances, kind)
        scores = [mean_score(c, utterances, m) for m in ("bleu", "chrf")]
        rows.append(
            f"| {c.name} | {c.median:.1f} | {c.median / seconds:.3f} | {'' if c is ours else f'{c.median / ours.median:.2f}'} "
            f"| {scores[0]:.1f} | {scores[1]:.1f} | {difference} |"
        )
    peers = [c for c in contenders if c.seconds and c.name in SETTINGS[kind]]
    best = min(peers, key=lambda c: c.median)
    note = (
        "chrF differences have 95% intervals over clusters of near-duplicates, pooled over languages."
        if kind == "short"
        else "Scores are of whole documents, means over languages; four documents give no interval."
    )
    return f"""## {title}

{len(utterances)} recordings in {", ".join(LANGUAGES)}, {seconds:.0f} s in all. The fastest peer is {best.name}: **{best.median / ours.median:.2f}** times our time. {note}

| contender | seconds | x real time | ratio | BLEU | chrF | our chrF less its |
| --- | --- | --- | --- | --- | --- | --- |
{chr(10).join(rows)}
"""


def mean_score(contender: Contender, utterances: Sequence[Utterance], metric: Any) -> float:
    """Mean over languages of the corpus score."""
    scores = []
    for language in sorted({u.language for u in utterances}):
        expected = {u.id: u.translations["en"] for u in utterances if u.language == language}
        texts = {i: t for i, t in contender.texts.items() if i in expected}
        scores.append(score_translations(texts, expected, target="en", metric=metric).value)
    return statistics.mean(scores)


def against(ours: Contender, other: Contender, utterances: Sequence[Utterance], kind: str) -> str:
    """Our chrF less another's."""
    sides: list[list[Statistics]] = [[], []]
    for language in sorted({u.language for u in utterances}):
        spoken = [u for u in utterances if u.language == language]
        expected = {u.id: u.translations["en"] for u in spoken}
        for side, contender in zip(sides, (ours, other), strict=True):
            texts = {i: t for i, t in contender.texts.items() if i in expected}
            outputs = SystemOutputs(texts, expected, {u.id: u.group for u in spoken}, "en")
            side.append(translation_statistics(outputs, "chrf"))
    score = pooled_difference(*sides)
    low, high = score.ci or (score.value, score.value)
    return f"{score.value:+.1f} [{low:+.1f}, {high:+.1f}]" if kind == "short" else f"{score.value:+.1f}"


def engine_rows(found: Mapping[str, Any]) -> list[str]:
    """Ours, with and without what is around the engine."""
    return [
        f"| {kind}, {c.name} | {c.median:.1f} | {statistics.median(c.engine):.1f} ({statistics.median(c.engine) / c.median:.0%}) |"
        for kind, (_, contenders) in found.items()
        for c in contenders
        if c.engine
    ]


if __name__ == "__main__":
    main()
