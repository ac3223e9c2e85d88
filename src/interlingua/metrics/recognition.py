"""Word and character error rates: jiwer's alignments of texts normalised by Whisper's own normalisers."""

from collections.abc import Callable
from functools import cache
from importlib.metadata import version

import jiwer

from interlingua.errors import UsageError
from interlingua.languages import UNSPACED_LANGUAGES, normalise_language
from interlingua.metrics.statistics import Statistics, SystemOutputs, join, ratio


def has_words(text: str, language: str) -> bool:
    """Whether a transcript has anything to recognise; ``(Applause)`` and ``…`` have not, normalised as they are."""
    return bool(_units(text, normalise_language(language)))


def transcript_errors(outputs: SystemOutputs) -> Statistics:
    """WER in per cent, or CER where words of the source language aren't spaced.

    Texts are normalised as in Whisper's paper (appendix C): English by its English normaliser without the table of
    British spellings, which no package here carries, other languages by its basic one. That one replaces combining
    marks by spaces too: rates of Indic languages are comparable with other Whisper figures only. CER counts no
    spaces. A missing hypothesis counts as empty; more than 100% is possible.

    Raises:
        UsageError: an unknown language, no references, a hypothesis whose id no reference has, or a reference
            without words.
    """
    language = normalise_language(outputs.source)
    segments = join(outputs.hypotheses, outputs.references)
    found = [_units(text, language) for text in segments.hypotheses]
    expected = [_units(text, language) for text in segments.references]
    for id_, text, original in zip(segments.ids, expected, segments.references, strict=True):
        if not text:
            raise UsageError(f"{id_}: the reference {original!r} has no words to recognise; leave its utterance out")
    measured = jiwer.process_words(expected, found)
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
    return ratio(values, outputs.clusters, signature, scale=100, cell=outputs.cell)


def detection_errors(outputs: SystemOutputs) -> Statistics:
    """Utterances with a wrongly detected language, in per cent; a missing detection counts as wrong."""
    segments = join(outputs.hypotheses, outputs.references)
    pairs = zip(segments.ids, segments.hypotheses, segments.references, strict=True)
    wrong = {i: (float(a != b), 1.0) for i, a, b in pairs}
    return ratio(wrong, outputs.clusters, "language-error", scale=100, cell=outputs.cell)


def _units(text: str, language: str) -> str:
    # The counted units, spaced: words, or characters as words of one letter.
    words = _normaliser(language == "en")(text).split()
    return " ".join("".join(words) if language in UNSPACED_LANGUAGES else words)


@cache
def _normaliser(english: bool) -> Callable[[str], str]:
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

    normaliser: Callable[[str], str] = EnglishTextNormalizer({}) if english else BasicTextNormalizer()
    return normaliser
