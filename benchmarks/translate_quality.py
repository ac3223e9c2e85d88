"""What the choices of `interlingua translate` cost and save in quality: docs/translate-quality.md.

Outputs are kept in runs/translate-quality, so that it goes on where it was.
"""

import hashlib
import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from interlingua.audio import load_audio
from interlingua.corpora import prepare_prompts
from interlingua.errors import FetchError
from interlingua.experiments.translating import Recording, translate_recordings
from interlingua.files import atomic_folder, cache_dir, write_text
from interlingua.metrics import Statistics, SystemOutputs, pooled_difference, translation_statistics
from interlingua.translation import Segmentation, TranslationOptions, Translator
from interlingua.types import SAMPLE_RATE, AudioRef, Samples, Utterance

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "translate-quality.md"
OUT = ROOT / "runs" / "translate-quality"
SOURCES = ("es", "fr", "it", "ru")
EACH = 60  # utterances a language
HARD_EACH = 15  # of those that are cut off, or have silence behind them
SECONDS = 60  # of each recording without speech
MUSIC_PACKAGE = "asterisk-moh-opsound-g722"  # Debian's; five pieces, CC-BY-SA 3.0
MUSIC = {
    "macroform-cold_day": "7b7482dbc9492c08008aa4a82cbf45077fd934dcc2743847c4beb35c043d4d17",
    "macroform-robot_dity": "70c6e459e6d10ddb6586724d8e9becf0852489931576969429bf35074e65e031",
    "macroform-the_simplicity": "456a19e856433b517d24748e7535c7b57bfe1d7db9204a1b1f1c62debb72d422",
    "manolo_camp-morning_coffee": "cecf01dd835a5de0ff1ac6f412a2189f35f02fb40f3f884046cbf1ea1ed85d4b",
    "reno_project-system": "d63c99fdd76bc51a9067addb168daad57c77335bb3b438e05fcb41175a3ae114",
}
REFERENCE, GUARDED, CHOSEN = "full", "full, guards", "speech+4, guards, VAD"

WINDOWS = Segmentation(vad=False, longest=30)
PLAIN = TranslationOptions(context="full", guards=False, segmentation=WINDOWS)
DEFAULT = TranslationOptions()


@dataclass(frozen=True)
class Setting:
    """A name and what it stands for."""

    name: str
    options: TranslationOptions


SETTINGS = [
    Setting(REFERENCE, PLAIN),
    *(Setting(f"speech+{n}", replace(PLAIN, context=f"speech+{n}")) for n in (8, 4, 2, 1)),
    *(Setting(f"speech+{n}, guards", replace(PLAIN, context=f"speech+{n}", guards=True)) for n in (8, 4, 2)),
    Setting(GUARDED, replace(PLAIN, guards=True)),
    *(Setting(f"speech+{n}, guards, VAD", replace(DEFAULT, context=f"speech+{n}")) for n in (8, 4)),
    Setting("speech+4, guards, VAD, beam 5", replace(DEFAULT, beam=5)),
]

HARD = {  # what the recordings that make Whisper invent are translated with
    "30 s windows": PLAIN,
    "guards": replace(PLAIN, guards=True),
    "VAD": replace(DEFAULT, guards=False),
    "guards and VAD": DEFAULT,
}

Said = Mapping[str, Mapping[str, Any]]
"""Id -> a translation as `Translation.as_dict` gives it."""


def main() -> None:
    """Measure what isn't there yet; write the page."""
    utterances = some_of([u for u in prepare_prompts() if u.language in SOURCES])
    recordings = [Recording(u.id, u.audio, u.language, u.id) for u in utterances]
    outputs = {s.name: said(s.name, s.options, recordings) for s in SETTINGS}
    few = [u for source in SOURCES for u in [u for u in utterances if u.language == source][:HARD_EACH]]
    hard = hard_recordings(few)
    invented = {name: said(f"hard, {name}", options, hard) for name, options in HARD.items()}
    write_text(PAGE, page(outputs, invented, utterances, few))
    print(f"{PAGE} written")


def some_of(utterances: Sequence[Utterance]) -> list[Utterance]:
    """`EACH` utterances of every language, of different clusters, the same sentences in all."""
    clusters = sorted({u.group for u in utterances})
    chosen = np.random.default_rng(0).permutation(clusters)[:EACH]
    first = {(u.language, u.cluster): u for u in reversed(utterances)}
    return [u for (_, cluster), u in first.items() if cluster in chosen]


def hard_recordings(few: Sequence[Utterance]) -> list[Recording]:
    """What makes Whisper invent; the language is given where somebody speaks."""
    language = {u.id: u.language for u in few}
    found = []
    for audio in (silences(), noises(), music(), cut_off(few), trailing(few)):
        found += [Recording(n, a, language.get(n.partition("/")[2]), n) for n, a in audio.items()]
    return found


@cache
def translator() -> Translator:
    """Loaded once; its options change."""
    return Translator("base")


def said(name: str, options: TranslationOptions, recordings: Sequence[Recording]) -> Said:
    """Translate into English, or read what was translated before."""
    print(name, flush=True)
    path = OUT / f"{name.replace(', ', '-').replace(' ', '-')}.jsonl"
    translator().options = options
    translate_recordings(translator(), recordings, ["en"], out=path)
    return {row["id"]: row for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())}


# ---------------------------------------------------------------- recordings that make Whisper invent


def silences() -> dict[str, Samples]:
    """Digital silence, and silence with the last bit flickering."""
    n = SECONDS * SAMPLE_RATE
    flicker = np.random.default_rng(0).integers(-1, 2, n) / 32768
    return {"silence/digital": np.zeros(n, np.float32), "silence/last-bit": flicker.astype(np.float32)}


def noises() -> dict[str, Samples]:
    """White, pink and brown noise at -40 and -20 dB, and a mains hum."""
    n = SECONDS * SAMPLE_RATE
    found = {}
    frequencies = np.fft.rfftfreq(n, 1 / SAMPLE_RATE)
    for colour, slope in (("white", 0.0), ("pink", 0.5), ("brown", 1.0)):
        for level in (-40, -20):
            spectrum = np.fft.rfft(np.random.default_rng(1).normal(size=n))
            spectrum /= np.maximum(frequencies, 20) ** slope
            noise = np.fft.irfft(spectrum, n)
            found[f"noise/{colour} {level} dB"] = (noise / noise.std() * 10 ** (level / 20)).astype(np.float32)
    time = np.arange(n) / SAMPLE_RATE
    hum = np.sum([np.sin(2 * np.pi * 50 * k * time) / k for k in (1, 2, 3, 5)], axis=0)
    found["noise/hum"] = np.float32(0.05 * hum)
    return found


def music() -> dict[str, Samples]:
    """The first minute of five pieces; fetched from the Debian package once."""
    folder = cache_dir() / "corpora" / MUSIC_PACKAGE
    if not folder.is_dir():
        with atomic_folder(folder) as target, tempfile.TemporaryDirectory() as work:
            for command in (["apt-get", "download", MUSIC_PACKAGE], ["dpkg", "-x", "*.deb", "tree"]):
                command = [str(p) for c in command for p in ([*Path(work).glob(c)] if "*" in c else [c])]
                done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise FetchError(f"`{' '.join(command)}` failed: {done.stderr.strip()[-200:]}; try apt-get update")
            for name, digest in MUSIC.items():
                data = (Path(work) / "tree/usr/share/asterisk/moh" / f"{name}.g722").read_bytes()
                if hashlib.sha256(data).hexdigest() != digest:
                    raise FetchError(f"{name} of {MUSIC_PACKAGE} is another version; nothing is kept")
                (target / f"{name}.g722").write_bytes(data)
    return {f"music/{n}": load_audio(AudioRef(str(folder / f"{n}.g722"), 0, SECONDS)) for n in MUSIC}


def cut_off(utterances: Sequence[Utterance]) -> dict[str, Samples]:
    """Speech that ends in the middle of a word, after half of the utterance."""
    return {f"cut off/{u.id}": _half(load_audio(u.audio)) for u in utterances}


def trailing(utterances: Sequence[Utterance]) -> dict[str, Samples]:
    """Speech with 10 s of silence behind it."""
    silence = np.zeros(10 * SAMPLE_RATE, np.float32)
    return {f"10 s behind/{u.id}": np.concatenate([load_audio(u.audio), silence]) for u in utterances}


def _half(samples: Samples) -> Samples:
    return samples[: len(samples) // 2]


# ---------------------------------------------------------------- the page


def page(outputs: Mapping[str, Said], invented: Mapping[str, Said], utterances: Any, few: Any) -> str:
    """All of it, as Markdown."""
    return f"""# What the choices of `interlingua translate` cost and save

Written by `make bench-translate-quality` (`benchmarks/translate_quality.py`), not by hand. Whisper-base, CTranslate2 int8 on a CPU, greedy
unless it says otherwise; {len(utterances)} utterances of the prompts corpus into English, {EACH} sentences in {", ".join(SOURCES)} each.

## Context

Whisper was trained on windows of 30 s. `speech+N` is the speech and N seconds of silence behind it, at a fraction of the cost
([encoding](encoding.md)); too little, and the decoder doesn't see the end and loops. Guards notice most of that, and decode again with the
full window. Differences are to `{REFERENCE}` (30 s windows, no guards, no VAD) and, where there are guards, to the same with guards; pooled over
the four languages, with 95% intervals over clusters of near-duplicates. A context is good enough whose interval begins above -1. The default,
`speech+4` with guards and VAD, has {difference(outputs[CHOSEN], outputs[REFERENCE], utterances, "chrf")} against `{REFERENCE}` and
{difference(outputs[CHOSEN], outputs[GUARDED], utterances, "chrf")} against `{GUARDED}`; without VAD, which cuts otherwise,
{difference(outputs[CHOSEN.removesuffix(", VAD")], outputs[GUARDED], utterances, "chrf")}.

| setting | chrF | BLEU | decoded again | flagged | chrF against `{GUARDED}` |
| --- | --- | --- | --- | --- | --- |
{chr(10).join(context_row(s.name, outputs, utterances) for s in SETTINGS)}

## Inventions

Words of text that come out of recordings in which nobody speaks, per minute; in brackets those in segments without a flag, which nobody
would notice. `music` is instrumental but for some singing.

| recordings | {" | ".join(HARD)} |
| --- |{" --- |" * len(HARD)}
{chr(10).join(silent_row(kind, invented) for kind in ("silence", "noise", "music"))}

Speech that goes on, and speech that is cut off in the middle ({len(few)} utterances, {HARD_EACH} a language):

| recordings | {" | ".join(HARD)} |
| --- |{" --- |" * len(HARD)}
{trailing_rows(invented, outputs, few)}
{cut_rows(invented, outputs, few)}
"""


def context_row(name: str, outputs: Mapping[str, Said], utterances: Sequence[Utterance]) -> str:
    """One setting against the reference."""
    side, reference, guarded = outputs[name], outputs[REFERENCE], outputs[GUARDED]
    cells = ["", ""] if name == REFERENCE else [difference(side, reference, utterances, m) for m in ("chrf", "bleu")]
    again = flagged = last = ""
    if "guards" in name:
        rows = [side[u.id] for u in utterances]
        again = f"{np.mean([any(s['tries'] > 1 for s in r['segments']) for r in rows]):.0%}"
        flagged = f"{np.mean([bool(r['flags']) for r in rows]):.0%}"
        last = "" if name == GUARDED else difference(side, guarded, utterances, "chrf")
    return f"| `{name}` | {cells[0]} | {cells[1]} | {again} | {flagged} | {last} |"


def difference(side: Said, reference: Said, utterances: Sequence[Utterance], metric: Any) -> str:
    """Pooled over languages, with its interval."""
    sides: list[list[Statistics]] = [[], []]
    for source in sorted({u.language for u in utterances}):
        spoken = [u for u in utterances if u.language == source]
        expected = {u.id: u.translations["en"] for u in spoken}
        for found_side, said in zip(sides, (side, reference), strict=True):
            texts = {u.id: said[u.id]["text"] for u in spoken if u.id in said}
            outputs = SystemOutputs(texts, expected, {u.id: u.group for u in spoken}, "en")
            found_side.append(translation_statistics(outputs, metric))
    found = pooled_difference(*sides)
    low, high = found.ci or (found.value, found.value)
    return f"{found.value:+.1f} [{low:+.1f}, {high:+.1f}]"


def silent_row(kind: str, invented: Mapping[str, Said]) -> str:
    """Words a minute where nobody speaks."""
    cells = []
    for rows in invented.values():
        mine = [r for i, r in rows.items() if i.startswith(f"{kind}/")]
        minutes = sum(r["duration"] for r in mine) / 60
        segments = [s for r in mine for s in r["segments"]]
        words, unseen = (
            sum(len(s["text"].split()) for s in some) / minutes
            for some in (segments, [s for s in segments if not s.get("flags")])
        )
        cells.append(f"{words:.1f} ({unseen:.1f})")
    n = len([i for i in next(iter(invented.values())) if i.startswith(f"{kind}/")])
    return f"| {kind} ({n} min) | {' | '.join(cells)} |"


def trailing_rows(invented: Mapping[str, Said], outputs: Mapping[str, Said], few: Sequence[Utterance]) -> str:
    """10 s of silence behind: chrF against the same utterances without it, and texts that have grown."""
    reference = outputs[REFERENCE]
    changes, grown = [], []
    for rows in invented.values():
        mine = {u.id: rows[f"10 s behind/{u.id}"] for u in few}
        changes.append(difference(mine, reference, few, "chrf"))
        grown.append(f"{np.mean([words(mine[u.id]) > words(reference[u.id]) + 5 for u in few]):.0%}")
    return (
        f"| 10 s of silence behind: chrF against `{REFERENCE}` without | {' | '.join(changes)} |\n"
        f"| more than five words longer than without | {' | '.join(grown)} |"
    )


def cut_rows(invented: Mapping[str, Said], outputs: Mapping[str, Said], few: Sequence[Utterance]) -> str:
    """Half an utterance: texts that are longer than that of the whole one, and those of them without a flag."""
    reference = outputs[REFERENCE]
    cells = []
    for rows in invented.values():
        longer = [r for u in few if words(r := rows[f"cut off/{u.id}"]) > words(reference[u.id])]
        cells.append(f"{len(longer) / len(few):.0%} ({sum(not r['flags'] for r in longer) / len(few):.0%})")
    return f"| cut off after half: longer than the whole (without a flag) | {' | '.join(cells)} |"


def words(row: Mapping[str, Any]) -> int:
    """How many a text has."""
    return len(row["text"].split())


if __name__ == "__main__":
    main()
