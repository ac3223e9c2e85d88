"""``interlingua mine``: pairs of recordings, or of their stretches, that mean the same in two languages."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cyclopts

from interlingua.cli.output import emit, note, say
from interlingua.experiments.config import Device

if TYPE_CHECKING:
    from interlingua.index.calibration import Calibration

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
    precision: float | None = None,
    known: Path | None = None,
    marks: Path | None = None,
    neighbours: int | None = None,
    one_way: bool = False,
    manifest: Path | None = None,
    page: Path | None = None,
    encoder: str = "whisper",
    model: str | None = None,
    compute: Literal["auto", "float32", "bfloat16"] = "auto",
    device: Device = "auto",
    engine: Literal["here", "ray"] = "here",
    address: str | None = None,
    json: bool = False,
) -> int:
    """Mine the utterances of A and B that mean the same; or align two recordings of one talk.

    Prints a table, tab-separated, unless OUT or JSON is named. Interrupted, the same command with OUT continues.

    Args:
        a: an index; or recordings, a folder, a manifest, which are indexed first. With --document: a recording.
        b: likewise, in another language; none where A is an index that holds both languages.
        document: A and B are two recordings of one talk, of at most four hours each.
        out: write the pairs to this file: .tsv, .parquet, .json; of a document also .TextGrid for Praat.
        languages: of A and of B: what is mined of an index; what recordings without a manifest speak.
        threshold: least CSLS of a pair; default: all pairs that are best both ways.
        precision: in place of a threshold: wanted share of right pairs, by KNOWN or MARKS.
        known: table of pairs that are known to be right, id_a and id_b: they estimate precision and recall.
        marks: table of pairs of an earlier run with a column right, yes or no: they estimate precision.
        neighbours: of each utterance, whose mean score the margins take off; default: 4.
        one_way: also pairs that are best one way only.
        manifest: also write the pairs' utterances, with the other side's texts, as a manifest to fine-tune on.
        page: also write a page to hear pairs around the threshold, and to mark them for MARKS.
        encoder: speech encoder: whisper, transformers (w2v-BERT, XLS-R, Canary and others), one that an
            installed package registers, or module:attribute (docs/extend.md).
        model: model spec: alias, hub id or folder; default: the encoder's own (whisper: base).
        compute: of a document: number format of encoder and SeqSim; auto = bfloat16 where the device has it.
        device: where to encode, and to compare a document.
        engine: here (this process) or ray (every worker of a Ray cluster; docs/cluster.md).
        address: of the Ray cluster; default: RAY_ADDRESS, else one that is started on this machine.
        json: print the result as JSON.
    """
    from interlingua.errors import UsageError

    given = [
        f"--{name}"
        for name, value in [
            ("threshold", threshold),
            ("precision", precision),
            ("known", known),
            ("marks", marks),
            ("neighbours", neighbours),
            ("one-way", one_way or None),
            ("manifest", manifest),
            ("page", page),
            ("engine", None if engine == "here" else engine),
        ]
        if value is not None
    ]
    if document and given:
        raise UsageError(f"{', '.join(given)}: for collections, not for --document")
    if address and engine != "ray":
        raise UsageError("--address is the Ray cluster's; add --engine ray")
    if not document and compute != "auto":
        raise UsageError("--compute: for --document; collections are compared in float32")
    if document and b is None:
        raise UsageError("--document: name two recordings, A and B")
    if document:
        _documents(a, str(b), out, languages, encoder, model, compute, device, json)
        return 0
    if threshold is not None and precision is not None:
        raise UsageError("--threshold and --precision: name one of them")
    return _collections(
        a,
        b,
        out,
        languages,
        threshold=threshold,
        precision=precision,
        known=known,
        marks=marks,
        neighbours=neighbours,
        one_way=one_way,
        manifest=manifest,
        page=page,
        json=json,
        options={"encoder": encoder, "model": model, "device": device, "engine": engine, "address": address},
    )


def _collections(
    a: str,
    b: str | None,
    out: Path | None,
    languages: tuple[str, str] | None,
    *,
    threshold: float | None,
    precision: float | None,
    known: Path | None,
    marks: Path | None,
    neighbours: int | None,
    one_way: bool,
    manifest: Path | None,
    page: Path | None,
    json: bool,
    options: dict[str, Any],
) -> int:
    from contextlib import ExitStack

    import msgspec

    from interlingua.experiments.run import work_folder
    from interlingua.files import write_text
    from interlingua.index.calibration import calibrate, read_judged
    from interlingua.index.mine import (
        NEIGHBOURS,
        MinedPair,
        RayMining,
        mine,
        mine_here,
        sides,
        write_mined_manifest,
    )
    from interlingua.index.pairs import as_tsv, check_suffix, write_pairs
    from interlingua.report.marks import PAIRS, write_marks_page

    if out:
        check_suffix(out)
    engine = RayMining(options["address"]) if options["engine"] == "ray" else mine_here
    with ExitStack() as stack:
        kept = stack.enter_context(work_folder(out)) if out else None
        first, second, failed = stack.enter_context(sides(a, b, languages, beside=out, log=_log, **options))
        for name, why in failed.items():
            _log(f"{name}: {why}")
        found = mine(
            first, second, neighbours=NEIGHBOURS if neighbours is None else neighbours, kept=kept, engine=engine
        )
        planted = read_judged(known, "--known", found) if known else None
        marked = read_judged(marks, "--marks", found) if marks else None
        curve = calibrate(found, planted, marked, precision=precision)
        least = curve.chosen.threshold if curve.chosen else -float("inf") if threshold is None else threshold
        pairs = found.table(found.chosen(threshold=least, one_way=one_way))
        if manifest:
            _log(f"{manifest}: {write_mined_manifest(manifest, found, pairs)} pairs")
        if page:
            around = found.around(least, PAIRS)
            sides_of = [(found.a.utterances[found.i[p]].audio, found.b.utterances[found.j[p]].audio) for p in around]
            rows_of = zip(found.table(around), sides_of, strict=True)
            write_marks_page(
                page, f"Pairs of {a} and {b}" if b else f"Pairs of {a}", [(row, *audio) for row, audio in rows_of]
            )
            _log(f"{page}: {len(around)} pairs to mark")
        if out:
            write_pairs(out, pairs, MinedPair)
            write_text(out.with_suffix(".curve.json"), msgspec.json.format(msgspec.json.encode(curve)).decode() + "\n")
        if json:
            rows = [msgspec.structs.asdict(p) for p in pairs]
            emit({"pairs": rows, "curve": msgspec.to_builtins(curve), "out": str(out) if out else None})
        elif out:
            say(f"{out}: {len(pairs)} pairs of {len(first)} and {len(second)} utterances")
            say("\n".join(_curve(curve)))
        else:
            say(as_tsv(pairs, MinedPair), end="")
    return 1 if failed else 0


def _log(line: str) -> None:
    note(f"interlingua: {line}")


def _curve(curve: "Calibration") -> list[str]:
    """About ten points of a curve, then those that were chosen and tested."""
    step = max(1, len(curve.points) // 10)
    named = [("", p) for p in curve.points[step - 1 :: step]]
    named += [(name, p) for name, p in (("chosen", curve.chosen), ("test half", curve.test)) if p]

    def share(value: float | None) -> str:
        return f"{'-':>9}" if value is None else f"{value:9.2f}"

    head = f"{'':9} {'threshold':>9} {'pairs':>7} {'precision':>9} {'recall':>9}"
    rows = [f"{name:9} {p.threshold:9.3f} {p.pairs:7} {share(p.precision)} {share(p.recall)}" for name, p in named]
    return [head, *rows]


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
        log=_log,
    )
    if out:
        write_documents(out, pairs)
    if json:
        emit({"pairs": [msgspec.structs.asdict(p) for p in pairs], "out": str(out) if out else None})
    elif out:
        say(f"{out}: {len(pairs)} pairs")
    else:
        say(as_tsv(pairs, DocumentPair), end="")
