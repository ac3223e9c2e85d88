"""Word and character error rates: jiwer's alignments of texts normalised by Whisper's own normalisers."""

from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import version

import jiwer

from interlingua.errors import UsageError
from interlingua.languages import UNSPACED_LANGUAGES, normalise_language
from interlingua.metrics.statistics import Statistics, join, ratio
from interlingua.types import Score


def score_transcripts(
    hypotheses: Mapping[str, str],
    references: Mapping[str, str],
    *,
    language: str,
    clusters: Mapping[str, str] | None = None,
) -> Score:
    """WER in per cent, or CER where words aren't spaced, with a 95% bootstrap interval over clusters.

    Texts are normalised as in Whisper's paper (appendix C): English by its English normaliser without the table of
    British spellings, which no package here carries, other languages by its basic one. That one replaces combining
    marks by spaces too: rates of Indic languages are comparable with other Whisper figures only. CER counts no
    spaces. A missing hypothesis counts as empty; more than 100% is possible. Mappings are from utterance id.

    Raises:
        UsageError: an unknown language, no references, a hypothesis whose id no reference has, or a reference
            without words.
    """
    return transcript_errors(hypotheses, references, language=language, clusters=clusters).score()


def transcript_errors(
    hypotheses: Mapping[str, str],
    references: Mapping[str, str],
    *,
    language: str,
    clusters: Mapping[str, str] | None = None,
) -> Statistics:
    """Errors and words (or characters) of each utterance; see `score_transcripts`."""
    language = normalise_language(language)
    segments = join(hypotheses, references, clusters)
    outputs = [_units(text, language) for text in segments.hypotheses]
    expected = [_units(text, language) for text in segments.references]
    for text, original in zip(expected, segments.references, strict=True):
        if not text:
            raise UsageError(f"the reference {original!r} has no words to recognise; leave its utterance out")
    measured = jiwer.process_words(expected, outputs)
    errors = [
        sum(
            max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
            for chunk in alignment
            if chunk.type != "equal"
        )
        for alignment in measured.alignments
    ]
    lengths = [len(reference) for reference in measured.references]
    unit = "cer" if language in UNSPACED_LANGUAGES else "wer"
    normaliser = "whisper-english:no-spellings" if language == "en" else "whisper-basic"
    signature = f"{unit}|normaliser:{normaliser}|transformers:{version('transformers')}|jiwer:{version('jiwer')}"
    values = dict(zip(segments.ids, zip(errors, lengths, strict=True), strict=True))
    return ratio(values, clusters, signature, scale=100)


def detection_errors(
    detected: Mapping[str, str], languages: Mapping[str, str], *, clusters: Mapping[str, str] | None = None
) -> Score:
    """Utterances with a wrongly detected language, in per cent, with a 95% bootstrap interval over clusters.

    Mappings are from utterance id to language; a missing detection counts as wrong.
    """
    segments = join(detected, languages, clusters)
    pairs = zip(segments.ids, segments.hypotheses, segments.references, strict=True)
    wrong = {i: (float(a != b), 1.0) for i, a, b in pairs}
    return ratio(wrong, clusters, "language-error", scale=100).score()


def _units(text: str, language: str) -> str:
    # The counted units, spaced: words, or characters as words of one letter.
    words = _normaliser(language == "en")(text).split()
    return " ".join("".join(words) if language in UNSPACED_LANGUAGES else words)


@cache
def _normaliser(english: bool) -> Callable[[str], str]:
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

    normaliser: Callable[[str], str] = EnglishTextNormalizer({}) if english else BasicTextNormalizer()
    return normaliser
