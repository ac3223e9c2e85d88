"""``interlingua translate``: any recording into any language that the model writes."""

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import cyclopts

from interlingua.cli.output import emit, note, say
from interlingua.experiments.config import Device

if TYPE_CHECKING:
    from interlingua.translation import Segment, Translation

_HELP = """Translate or transcribe recordings of any kind and length.

INPUTS are audio or video files, folders, patterns ("talks/*.mp3"), manifests (.jsonl), or - for standard input.
"""

app = cyclopts.App(name="translate", help=_HELP)


@app.default
def translate(
    *inputs: str,
    to: tuple[str, ...] = ("en",),
    from_: Annotated[str, cyclopts.Parameter(name="--from")] = "auto",
    as_: Annotated[str | None, cyclopts.Parameter(name="--as")] = None,
    model: str = "base",
    out: Path | None = None,
    format: tuple[Literal["text", "json", "srt", "vtt", "tsv"], ...] = ("text",),
    timestamps: Annotated[bool | None, cyclopts.Parameter(negative="--no-timestamps")] = None,
    words: bool = False,
    beam: int = 1,
    temperatures: tuple[float, ...] = (0.4, 0.8),
    context: str = "speech+4",
    phrases: str | None = None,
    phrase_margin: float | None = None,
    no_guards: bool = False,
    no_vad: bool = False,
    longest: float = 20.0,
    backend: Literal["auto", "ctranslate2", "transformers"] = "auto",
    compute: str = "auto",
    device: Device = "auto",
    json: bool = False,
) -> int:
    """Print the text as it comes, or write it with --out; interrupted, the same command continues.

    Args:
        inputs: what to translate.
        to: target languages: en, those the model was trained for, or the source language (a transcript).
        from_: source language; auto detects it in each recording, each in every stretch. One without a Whisper
            token is decoded as the related language whose translations agree most with the other relatives'.
        as_: proxy language to put into the prompt instead of the source language.
        model: alias, hub id, model folder, or a folder with a LoRA adapter.
        out: folder for a file per recording, target and format; NAME.jsonl, which `interlingua evaluate outputs`
            reads; or a file such as NAME.srt for one recording.
        format: of the files, or of what is printed.
        timestamps: let the model time its segments; default: for srt, vtt and tsv. Otherwise a segment is a stretch of
            speech. Trained targets have no timestamps.
        words: also time every word (in JSON).
        beam: beam size; 1 is greedy.
        temperatures: to try in turn where a guard objects.
        context: what surrounds the speech: speech+N (N seconds of silence behind it), or full.
        phrases: index (`interlingua index build`) of phrases with texts: where the decoder is unsure and the nearest
            phrase is a sure match, its text is the output, marked as such.
        phrase_margin: least margin of a sure match; default: calibrated on the languages of the index.
        no_guards: don't look for loops, wrong languages and inventions, and don't try again.
        no_vad: don't look for speech first; cut every --longest seconds.
        longest: seconds of the longest stretch that is decoded at a time.
        backend: which engine runs the model.
        compute: number format, such as int8_float32 or float32; see docs/translate.md.
        device: where to run.
        json: print a JSON object for each recording and target, a line each, as they come.
    """
    from interlingua.errors import UsageError
    from interlingua.experiments.translating import find_recordings, output_formats, translate_recordings
    from interlingua.translation import Segmentation, TranslationOptions, Translator
    from interlingua.translation.formats import render

    formats = output_formats(out, format)
    timed = timestamps if timestamps is not None else bool({"srt", "vtt", "tsv"} & set(formats))
    options = TranslationOptions(
        context=context,
        beam=beam,
        temperatures=temperatures,
        timestamps=timed,
        words=words,
        guards=not no_guards,
        segmentation=Segmentation(vad=not no_vad, longest=longest),
    )
    if phrase_margin is not None and phrases is None:
        raise UsageError("--phrase-margin is of --phrases; name an index there")
    recordings = find_recordings(inputs, note)
    book = None
    if phrases:
        from interlingua.index import Phrases

        book = Phrases.open(phrases, to, phrase_margin)
    translator = Translator(model, options, backend=backend, compute=compute, device=device, phrases=book)
    clock = time.monotonic()
    several = len(recordings) > 1 or len(to) > 1
    live = out is None and not json and format == ("text",)  # segments are shown before their recording is done
    last: tuple[str, str] | None = None

    def show(name: str, target: str, segments: "list[Segment]") -> None:
        nonlocal last
        if live and segments:
            if several and last != (name, target):
                say(f"# {name} ({target})")
            last = (name, target)
            for s in segments:
                say(s.shown, flush=True)

    def done(translation: "Translation") -> None:
        if json:
            emit(translation.as_dict(), lines=True)
        elif out is None and not live:
            for kind in format:
                say(render(translation, kind), end="", flush=True)
        if not translation.segments:
            note(f"interlingua: {translation.id}: nobody speaks in it")

    report = translate_recordings(
        translator,
        recordings,
        to,
        source=from_,
        spoken_as=as_,
        out=out,
        formats=formats,
        done=done,
        news=show,
        log=lambda line: note(f"interlingua: {line}"),
    )
    took = time.monotonic() - clock
    for name, why in report.failed.items():
        note(f"interlingua: skipped: {why if name in why else f'{name}: {why}'}")
    if report.present:
        note(f"interlingua: {report.present} of {report.recordings} recordings were done before")
    pace = f", {took / report.seconds:.3f} of real time" if report.seconds else ""
    note(f"interlingua: {report.seconds:.0f} s of audio in {took:.0f} s{pace}; {report.segments} segments")
    if book and (report.phrases or report.flagged):
        from interlingua.languages import normalise_language

        spoken = "" if from_ == "auto" else normalise_language(from_)
        margins = {t: book.margin(t, spoken) for t in book.targets}
        least = ", ".join(f"{m:.3f} into {t}" for t, m in margins.items() if math.isfinite(m)) or "none"
        note(f"interlingua: {report.phrases} segments are phrases of {phrases} (least margin: {least})")
        for target in (t for t, m in margins.items() if math.isinf(m)):
            note(
                f"interlingua: into {target} no phrase counts as sure: {phrases} doesn't find its own languages' texts "
                "surely enough; add phrases of more languages, or set --phrase-margin"
            )
        if spoken and not book.knows(spoken):
            from interlingua.retrieval.features import LEAST_UTTERANCES

            note(
                f"interlingua: {phrases} finds more with {LEAST_UTTERANCES} recordings of {spoken} in it, texts aren't "
                f"needed: `interlingua index add {phrases} FOLDER --language {spoken}`"
            )
    if report.flagged:
        named = ", ".join(f"{n} {flag}" for flag, n in sorted(report.flagged.items()))
        note(f"interlingua: look at what is flagged in the JSON: {named} (docs/translate.md says what that means)")
    if out and (report.segments or report.present):
        note(f"interlingua: written to {out}")
    return 1 if report.failed else 0
