"""Problems of a manifest's recordings and texts, by utterance."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from interlingua.audio import Recording, sample_rate_of
from interlingua.errors import AudioError, AudioNotFoundError, EmptyAudioError, TruncatedAudioError
from interlingua.types import SAMPLE_RATE, Samples, Utterance

SHORT = 0.1  # seconds: less can't be speech
QUIET = 1e-3  # of full scale: nothing louder is silence
FULL_SCALE = 0.999
CLIPPED = 1e-3  # fraction of samples at full scale
DURATION_TOLERANCE = 0.15  # seconds, manifest against recording
LETTERS = 20  # fewer don't identify a language
PROBLEMS = {
    "missing": "the audio isn't there",
    "unreadable": "the audio can't be decoded",
    "truncated": "the audio ends before its header or the manifest says",
    "empty": f"no samples, or less than {SHORT} s",
    "silent": f"nothing is louder than {QUIET} of full scale",
    "clipped": f"{CLIPPED:.1%} of the samples or more are at full scale",
    "rate": f"recorded at less than {SAMPLE_RATE} Hz: the encoder hears no high frequencies",
    "duration": f"more than {DURATION_TOLERANCE} s off the manifest's duration: perhaps a wrong sample rate",
    "duplicate": "the same audio as another utterance's",
    "id": "an id that stands twice",
    "text": "the text, or a translation, is empty or has no words",
    "language": "the text, or a translation, doesn't look like its language",
}
EXAMPLES = 3  # utterances named for each problem by default


@dataclass(frozen=True)
class Finding:
    """One problem of one utterance: a key of `PROBLEMS`, and the details."""

    id: str
    problem: str
    detail: str

    def __str__(self) -> str:
        return f"{self.id}: {self.problem}: {self.detail}"


def summarised(findings: Iterable[Finding]) -> Iterator[str]:
    """Findings in a few lines: for each problem its first `EXAMPLES` utterances, and how many more."""
    counts: dict[str, int] = {}
    examples: dict[str, list[Finding]] = {}
    differ: set[str] = set()  # problems whose details aren't the same everywhere
    for finding in findings:
        counts[finding.problem] = counts.get(finding.problem, 0) + 1
        first = examples.setdefault(finding.problem, [])
        if len(first) < EXAMPLES:
            first.append(finding)
        if finding.detail != first[0].detail:
            differ.add(finding.problem)
    for problem, first in examples.items():
        if counts[problem] > EXAMPLES and problem not in differ:
            names = ", ".join(finding.id for finding in first)
            yield f"{problem}: {first[0].detail}: {counts[problem]} utterances, such as {names}"
            continue
        yield from map(str, first)
        if counts[problem] > EXAMPLES:
            yield f"{problem}: {counts[problem] - EXAMPLES} more utterances; --all prints every line"


def check_utterances(
    utterances: Iterable[Utterance],
    *,
    decode: bool = True,
    written_in: Callable[[str, str], bool | None] | None = None,
    has_words: Callable[[str, str], bool] | None = None,
    done: Callable[[int], None] = lambda n: None,
) -> Iterator[Finding]:
    """Yield every problem, utterance by utterance; only ids and hashes stay in memory.

    ``decode`` False checks only texts and that the audio's bytes can be read. ``written_in`` is (text, language) ->
    whether the text is in the language (None: unknown); ``has_words`` likewise, whether a transcript has any once
    normalised. ``done`` is called with 1 after each utterance.
    """
    ids: set[str] = set()
    digests: dict[str, str] = {}
    for utterance in utterances:
        if utterance.id in ids:
            yield Finding(utterance.id, "id", "another utterance has it; give every recording an id of its own")
        ids.add(utterance.id)
        yield from _check_texts(utterance, written_in, has_words)
        yield from _check_audio(utterance, decode, digests)
        done(1)


def _check_texts(
    utterance: Utterance,
    written_in: Callable[[str, str], bool | None] | None,
    has_words: Callable[[str, str], bool] | None,
) -> Iterator[Finding]:
    texts = [("text", utterance.language, utterance.text)]
    texts += [(f"translation into {code}", code, text) for code, text in utterance.translations.items()]
    for what, language, text in texts:
        if text is None:
            continue
        if not text.strip():
            yield Finding(utterance.id, "text", f"its {what} is empty")
        elif not any(map(str.isalnum, text)) or (what == "text" and has_words and not has_words(text, language)):
            yield Finding(utterance.id, "text", f"its {what} has no words, and isn't scored: {text[:60]}")
        elif written_in is not None and sum(map(str.isalpha, text)) >= LETTERS and written_in(text, language) is False:
            yield Finding(utterance.id, "language", f"its {what} doesn't look like {language!r}: {text[:60]}")


def _check_audio(utterance: Utterance, decode: bool, digests: dict[str, str]) -> Iterator[Finding]:
    try:
        recording = Recording.read(utterance.audio)
        digest = recording.hash(utterance.audio)
        if digest in digests:
            yield Finding(utterance.id, "duplicate", f"the same audio as {digests[digest]}")
        digests.setdefault(digest, utterance.id)
        if decode:
            rate, samples = sample_rate_of(utterance.audio), recording.samples(utterance.audio)
            yield from _check_samples(utterance, rate, samples)
    except AudioError as e:
        kinds = {AudioNotFoundError: "missing", EmptyAudioError: "empty", TruncatedAudioError: "truncated"}
        yield Finding(utterance.id, kinds.get(type(e), "unreadable"), str(e))


def _check_samples(utterance: Utterance, rate: int, samples: Samples) -> Iterator[Finding]:
    seconds, size = len(samples) / SAMPLE_RATE, np.abs(samples)
    if seconds < SHORT:
        yield Finding(utterance.id, "empty", f"{seconds:.3f} s")
    elif size.max() < QUIET:
        yield Finding(utterance.id, "silent", f"its peak is {size.max():.1e}")
    clipped = float((size >= FULL_SCALE).mean())
    if clipped >= CLIPPED:
        yield Finding(utterance.id, "clipped", f"{clipped:.1%} of the samples are at full scale")
    if rate < SAMPLE_RATE:
        yield Finding(utterance.id, "rate", f"{rate} Hz")
    if utterance.duration is not None and abs(utterance.duration - seconds) > DURATION_TOLERANCE:
        yield Finding(utterance.id, "duration", f"{seconds:.2f} s, the manifest says {utterance.duration:.2f} s")
