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
    b: str | None = None,
    *,
    document: bool = False,
    out: Path | None = None,
    languages: tuple[str, str] | None = None,
    threshold: float | None = None,
    neighbours: int | None = None,
    one_way: bool = False,
    manifest: Path | None = None,
    encoder: str = "whisper",
    model: str | None = None,
    compute: Literal["auto", "float32", "bfloat16"] = "auto",
    device: Device = "auto",
    json: bool = False,
) -> int:
    """Mine the utterances of A and B that mean the same; or align two recordings of one talk.

    Prints a table, tab-separated, unless OUT or JSON is named.

    Args:
        a: an index; or recordings, a folder, a manifest, which are indexed first. With --document: a recording.
        b: likewise, in another language; none where A is an index that holds both languages.
        document: A and B are two recordings of one talk, of at most four hours each.
        out: write the pairs to this file: .tsv, .parquet, .json; of a document also .TextGrid for Praat.
        languages: of A and of B: what is mined of an index; what recordings without a manifest speak.
        threshold: least CSLS of a pair; default: all pairs that are best both ways.
        neighbours: of each utterance, whose mean score the margins take off; default: 4.
        one_way: also pairs that are best one way only.
        manifest: also write the pairs' utterances, with the other side's texts, as a manifest to fine-tune on.
        encoder: speech encoder: whisper, one that an installed package registers, or module:attribute.
        model: model spec: alias, hub id or folder; default: the encoder's own (whisper: base).
        compute: of a document: number format of encoder and SeqSim; auto = bfloat16 where the device has it.
        device: where to encode, and to compare a document.
        json: print the result as JSON.
    """
    from interlingua.errors import UsageError

    given = [
        f"--{name}"
        for name, value in [
            ("threshold", threshold),
            ("neighbours", neighbours),
            ("one-way", one_way or None),
            ("manifest", manifest),
        ]
        if value is not None
    ]
    if document and given:
        raise UsageError(f"{', '.join(given)}: for collections, not for --document")
    if document and b is None:
        raise UsageError("--document: name two recordings, A and B")
    if document:
        _documents(a, str(b), out, languages, encoder, model, compute, device, json)
        return 0
    return _collections(a, b, out, languages, threshold, neighbours, one_way, manifest, encoder, model, device, json)


def _collections(
    a: str,
    b: str | None,
    out: Path | None,
    languages: tuple[str, str] | None,
    threshold: float | None,
    neighbours: int | None,
    one_way: bool,
    manifest: Path | None,
    encoder: str,
    model: str | None,
    device: Device,
    json: bool,
) -> int:
    import msgspec

    from interlingua.index.mine import NEIGHBOURS, MinedPair, mine, sides, write_mined_manifest
    from interlingua.index.pairs import as_tsv, check_suffix, write_pairs

    if out:
        check_suffix(out)
    options = {"encoder": encoder, "model": model, "device": device}
    with sides(a, b, languages, beside=out, log=lambda line: note(f"interlingua: {line}"), **options) as (
        first,
        second,
        failed,
    ):
        for name, why in failed.items():
            note(f"interlingua: {name}: {why}")
        found = mine(first, second, neighbours=NEIGHBOURS if neighbours is None else neighbours)
        chosen = found.chosen(threshold=-float("inf") if threshold is None else threshold, one_way=one_way)
        pairs = found.table(chosen)
        if manifest:
            n = write_mined_manifest(manifest, found, pairs)
            note(f"interlingua: {manifest}: {n} pairs")
        if out:
            write_pairs(out, pairs, MinedPair)
        if json:
            emit({"pairs": [msgspec.structs.asdict(p) for p in pairs], "out": str(out) if out else None})
        elif out:
            print(f"{out}: {len(pairs)} pairs of {len(first)} and {len(second)} utterances")
        else:
            print(as_tsv(pairs, MinedPair), end="")
    return 1 if failed else 0


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
