"""``interlingua mine``: pairs of recordings, or of their stretches, that mean the same in two languages."""

from pathlib import Path
from typing import Literal

import cyclopts

from interlingua.cli.output import emit, note
from interlingua.experiments.config import Device

app = cyclopts.App(name="mine", help="Mine parallel speech: stretches that mean the same in two languages.")


@app.default
def mine(
    a: str,
    b: str,
    *,
    document: bool = False,
    out: Path | None = None,
    languages: tuple[str, str] | None = None,
    encoder: str = "whisper",
    model: str | None = None,
    compute: Literal["auto", "float32", "bfloat16"] = "auto",
    device: Device = "auto",
    json: bool = False,
) -> None:
    """Align two recordings of one talk, interpreted or dubbed.

    Prints a table, tab-separated: both stretches' times, score, margin, kind.

    Args:
        a: a recording of at most four hours.
        b: the same talk in another language.
        document: A and B are two recordings of one talk.
        out: write the pairs to this file: .tsv, .parquet, .json, or .TextGrid for Praat.
        languages: of A and of B, for the table.
        encoder: speech encoder: whisper, one that an installed package registers, or module:attribute.
        model: model spec: alias, hub id or folder; default: the encoder's own (whisper: base).
        compute: number format of encoder and SeqSim; auto = bfloat16 where the device has it.
        device: where to encode and compare.
        json: print the result as JSON.
    """
    from interlingua.errors import UsageError

    if not document:
        raise UsageError("mine: name --document, for two recordings of one talk")
    _documents(a, b, out, languages, encoder, model, compute, device, json)


def _documents(
    a: str,
    b: str,
    out: Path | None,
    languages: tuple[str, str] | None,
    encoder: str,
    model: str | None,
    compute: str,
    device: str,
    json: bool,
) -> None:
    import msgspec

    from interlingua.encoding import ENCODERS, resolve_device
    from interlingua.index.documents import DocumentPair, align_documents, write_documents
    from interlingua.index.pairs import as_tsv, check_suffix
    from interlingua.languages import normalise_language

    if out:
        check_suffix(out, (".TextGrid",))
    first, second = (normalise_language(code) for code in languages) if languages else ("", "")
    where, how = resolve_device(device, compute)
    made = ENCODERS[encoder](model, context="speech", layer=None, device=where, compute=how)
    pairs = align_documents(
        a,
        b,
        made,
        languages=(first, second),
        compute=how,  # type: ignore[arg-type]  # one of the option's
        device=where,
        log=lambda line: note(f"interlingua: {line}"),
    )
    if out:
        write_documents(out, pairs)
    if json:
        emit({"pairs": [msgspec.structs.asdict(p) for p in pairs], "out": str(out) if out else None})
    elif out:
        print(f"{out}: {len(pairs)} pairs")
    else:
        print(as_tsv(pairs, DocumentPair), end="")
