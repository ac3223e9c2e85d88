"""``interlingua align``: explain one match."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import cyclopts

from interlingua.cli.output import emit, note, say
from interlingua.experiments.config import Device

if TYPE_CHECKING:
    from interlingua.results import Alignment
    from interlingua.types import Utterance

SCORES = ("precision", "recall", "mean", "F1")

app = cyclopts.App(name="align", help="Explain a match: compare two recordings frame by frame and word by word.")


@app.default
def align(
    a: str,
    b: str,
    *,
    from_: Annotated[str | None, cyclopts.Parameter(name="--from")] = None,
    to: str | None = None,
    text_a: str | None = None,
    text_b: str | None = None,
    manifest: Path | None = None,
    out: Path = Path("alignment.png"),
    model: str = "base",
    method: Literal["seqsim"] = "seqsim",
    device: Device = "auto",
    json: bool = False,
) -> None:
    """Score two recordings, find each word's counterpart, and draw how the frames align.

    Args:
        a: query: an audio file of at most 30 s, or an utterance's id with --manifest.
        b: candidate, likewise.
        from_: language of A; default: the manifest's, else Whisper detects it.
        to: language of B, likewise.
        text_a: transcript of A; default: the manifest's, else Whisper transcribes it.
        text_b: transcript of B, likewise.
        manifest: manifest, table or pairs of your own with the utterances A and B.
        out: the picture to write, a PNG.
        model: model spec: alias, hub id or folder.
        method: how to compare frames; methods that learn from a collection need more than two recordings.
        device: where to encode.
        json: print the result as JSON.
    """
    import msgspec

    from interlingua.encoding import resolve_device
    from interlingua.errors import UsageError
    from interlingua.experiments import alignment
    from interlingua.languages import normalise_language
    from interlingua.models import load_whisper
    from interlingua.report import alignment_heatmap
    from interlingua.results import Results
    from interlingua.types import AudioRef, Utterance

    if out.suffix.lower() != ".png":  # what can be wrong is found before the model is loaded, perhaps downloaded
        raise UsageError(f"--out {out}: the picture is a PNG; name a file that ends in .png")
    given = [(normalise_language(code) if code else "", text) for code, text in ((from_, text_a), (to, text_b))]
    if manifest:
        chosen = _find(manifest, (a, b))
    else:
        chosen = [Utterance(id=path, audio=AudioRef(path), language="") for path in (a, b)]
    audio = [alignment.load_utterance(u.audio) for u in chosen]
    whisper = load_whisper(model, device=resolve_device(device)[0])
    spoken = [
        alignment.listen(whisper, u.id, samples, language=language or u.language, text=text or u.text)
        for u, samples, (language, text) in zip(chosen, audio, given, strict=True)
    ]
    found, similarity = alignment.align(whisper, *spoken)
    found = alignment.rounded(found)
    alignment_heatmap(Results(alignment=found), {"alignment": similarity}, out)
    for side in spoken:
        if side.lacking:
            note(f"interlingua: {side.side.id}: no words: {side.lacking}")
    if json:
        summary = {"matches": [], **msgspec.to_builtins(found)}
        for name, one in (("query", found.query), ("candidate", found.candidate)):
            summary[name] |= {"probability": one.probability, "transcribed": one.transcribed}
        emit({**summary, "method": method, "model": whisper.model_name, "picture": str(out)})
    else:
        _print(found)
        say(f"picture: {out}")


def _find(manifest: Path, ids: Sequence[str]) -> "list[Utterance]":
    import difflib

    from interlingua.corpora import read_manifest
    from interlingua.errors import UsageError

    utterances = {u.id: u for u in read_manifest(manifest, log=note)}
    for name in ids:
        if name not in utterances:
            near = difflib.get_close_matches(name, utterances, n=3)
            hint = f"did you mean {', '.join(near)}?" if near else f"its first id is {next(iter(utterances))}"
            raise UsageError(f"{manifest} holds no utterance {name!r}; {hint}")
    return [utterances[name] for name in ids]


def _print(found: "Alignment") -> None:
    from interlingua.languages import language_name

    for name, side in (("query", found.query), ("candidate", found.candidate)):
        detected = f" (detected, {side.probability:.2f})" if side.probability is not None else ""
        text = f': "{side.text}"' if side.text else ""
        origin = " (transcribed by Whisper)" if side.transcribed else ""
        say(f"{name + ':':10} {side.id}, {language_name(side.language)}{detected}, {side.seconds:.2f} s{text}{origin}")
    say(f"SeqSim:    {', '.join(f'{name} {getattr(found, name.lower()):.3f}' for name in SCORES)}")
    if not found.matches:
        return
    left, right = (
        max(4, *(len(word.word) for word in words))
        for words in ([m.query for m in found.matches], [m.candidate for m in found.matches])
    )
    say(f"\n{'word':{left}}  start-end      {'word':{right}}  start-end    similarity")
    for m in found.matches:
        sides = (
            f"{w.word:{width}}  {w.times[0]:5.2f}-{w.times[1]:5.2f}"
            for w, width in ((m.query, left), (m.candidate, right))
        )
        say(f"{'  ->  '.join(sides)}  {m.similarity:.3f}")
    say()
