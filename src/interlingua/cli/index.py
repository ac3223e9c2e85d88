"""``interlingua index``: an index of spoken utterances on disk."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import cyclopts

from interlingua.cli.output import emit, note, say
from interlingua.experiments.config import Device

app = cyclopts.App(name="index", help="Index spoken utterances, to search and to mine them.")


@app.command
def build(
    recordings: tuple[str, ...],
    *,
    out: str,
    language: str | None = None,
    encoder: str | None = None,
    model: str | None = None,
    dtype: Literal["float16", "float32", "int8"] = "float16",
    like: str | None = None,
    device: Device = "auto",
    shard: str | None = None,
    engine: Literal["here", "ray"] = "here",
    address: str | None = None,
    json: bool = False,
) -> int:
    """Make an index of these recordings, or update one: encode what is new, drop what is gone.

    Interrupted, the same command continues.

    Args:
        recordings: audio files, folders, patterns, manifests, tables, corpora as NAME or NAME=FOLDER, or frame stores
            (.lance).
        out: the index: a folder, or an object-store URI.
        language: of recordings without a manifest; default: detected for each.
        encoder: speech encoder: whisper (the default), transformers (w2v-BERT, XLS-R, Canary and others), one that an
            installed package registers, or module:attribute (docs/extend.md).
        model: model spec: alias, hub id or folder; default: the index's, or the encoder's own (whisper: base).
        dtype: of the stored frames; int8 takes half the disk of float16.
        like: an index whose statistics a new one shares, so that both can be searched at once.
        device: where to encode.
        shard: i/n: only encode the i-th of n parts; once all are, the command without it completes the index.
        engine: here (this process) or ray (every worker of a Ray cluster; docs/cluster.md).
        address: of the Ray cluster; default: RAY_ADDRESS, else one that is started on this machine.
        json: print the result as JSON.
    """
    from interlingua.encoding import parse_shard
    from interlingua.errors import UsageError

    if address and engine != "ray":
        raise UsageError("--address is the Ray cluster's; add --engine ray")
    options = {"encoder": encoder, "model": model, "dtype": dtype, "device": device, "engine": engine}
    part = parse_shard(shard) if shard else (0, 1)
    return _built(recordings, out, language, json, like=like, shard=part, address=address, **options)


@app.command
def add(
    index: str,
    recordings: tuple[str, ...],
    *,
    language: str | None = None,
    device: Device = "auto",
    json: bool = False,
) -> int:
    """Add recordings to an index; those that are there stay.

    Args:
        index: the index.
        recordings: as for `index build`.
        language: of recordings without a manifest; default: detected for each.
        device: where to encode.
        json: print the result as JSON.
    """
    from interlingua.index import Index

    held = Index.open(index)
    options: dict[str, Any] = {"encoder": held.encoder[0], "dtype": held.store.spec.dtype, "device": device}
    return _built(recordings, index, language, json, keep=True, **options)


@app.command
def remove(index: str, ids: tuple[str, ...] = (), *, where: str | None = None, json: bool = False) -> int:
    """Remove utterances from an index.

    Args:
        index: the index.
        ids: utterances by id.
        where: SQL condition on the index's columns, such as "language = 'fr'".
        json: print the result as JSON.
    """
    from interlingua.errors import UsageError
    from interlingua.index import Index

    held = Index.open(index)
    if not ids and not where:
        raise UsageError("index remove: name ids, or a condition with --where")
    chosen = [*ids, *(held.ids(where) if where else ())]
    removed = held.remove(chosen)
    lacking = len(set(chosen)) - removed
    if lacking:
        note(f"interlingua: {lacking} of {len(set(chosen))} are not in the index")
    if json:
        emit({"index": index, "removed": removed, "total": len(held)})
    else:
        say(f"{index}: {removed} removed; {len(held)} utterances remain")
    return 1 if lacking else 0


@app.command
def train(indexes: tuple[str, ...], *, pairs: Path | None = None, seed: int = 0, json: bool = False) -> None:
    """Train a head for an index on utterances that mean the same in two languages; search and mine then use it.

    Minutes on two cores (docs/head.md). It is written beside the frames, as frames.head.safetensors; to undo it, delete
    the file and build again.

    Args:
        indexes: the index; several, to mine them together, share one head.
        pairs: table of pairs to learn from, id_a and id_b, such as `interlingua mine --out` writes, whose surer half
            is learnt from; default: utterances of one meaning.
        seed: of the training.
        json: print the result as JSON.
    """
    from interlingua.errors import UsageError
    from interlingua.index import Index
    from interlingua.index.train import train as train_indexes
    from interlingua.retrieval.head import HeadSettings, head_path

    if len(set(indexes)) < len(indexes):
        raise UsageError("index train: an index is named twice")
    opened = [Index.open(uri) for uri in indexes]
    head = train_indexes(opened, pairs, HeadSettings(seed=seed))
    files = [str(head_path(index.store.path)) for index in opened]
    if json:
        emit({"heads": files, "head": head.digest, **head.about})
        return
    counts: Mapping[str, int] = head.about["pairs"]
    first, last = head.about["loss"]
    say(f"trained on {sum(counts.values())} pairs ({', '.join(f'{p} {n}' for p, n in counts.items())})")
    say(f"loss:       {first:.2f} at first, {last:.2f} at last")
    for file in files:
        say(f"head:       {file}")


@app.command
def info(index: str, *, json: bool = False) -> None:
    """Show what an index holds.

    Args:
        index: the index.
        json: print the result as JSON.
    """
    from interlingua.index import Index

    found = Index.open(index).info()
    if json:
        emit(found)
        return
    languages = ", ".join(f"{code} {n}" for code, n in sorted(found["languages"].items()))
    frames: Mapping[str, object] = found["frames"]
    say(f"{index}: {found['utterances']} utterances, {found['hours']:.2f} h ({languages or 'empty'})")
    say(
        f"frames:     {frames['model']}, layer {frames['layer']}, pooled by {frames['pooling']}, {frames['dtype']}, "
        f"{found['dim']} wide"
    )
    say(f"estimated:  {', '.join(found['statistics']) or 'nothing: fewer than 20 utterances'}")
    say(f"head:       {found['head'] or 'none; `interlingua index train` makes one'}")
    say(f"columns:    {', '.join(found['columns'])}")


def _built(
    recordings: tuple[str, ...],
    out: str,
    language: str | None,
    json: bool,
    *,
    like: str | None = None,
    shard: tuple[int, int] = (0, 1),
    **options: Any,
) -> int:
    from interlingua.encoding import FrameStore
    from interlingua.encoding.store import opened
    from interlingua.index import Index, build, collect
    from interlingua.types import Utterance

    stores = [FrameStore.open(r) for r in recordings if r.rstrip("/").endswith(".lance")]
    others = [r for r in recordings if not r.rstrip("/").endswith(".lance")]
    held = Index.open(out) if opened(f"{out.rstrip('/')}/catalogue.lance") is not None else None
    known = {u.id: u for u in held.utterances()} if held else {}
    encoder, model = held.encoder if held else (options["encoder"] or "whisper", options.get("model") or "")
    listener = model if model and encoder == "whisper" else "base"
    utterances, failed, names = list[Utterance](), dict[str, str](), list[str]()
    if others or not stores:
        utterances, failed, names = collect(
            others, language=language, model=listener, held=known, shard=shard, log=note
        )
    other = Index.open(like) if like else None
    index, report = build(
        utterances, out, stores=stores, unread=list(failed), like=other, shard=shard, names=names, **options
    )
    failed |= report.failed
    for name, why in failed.items():
        note(f"interlingua: {name}: {why}")
    if json:
        emit(
            {
                "index": index.uri,
                "encoded": report.encoded,
                "present": report.present,
                "failed": failed,
                "total": len(index),
                "languages": index.languages(),
            }
            | ({"missing_shards": report.missing} if shard != (0, 1) else {})
        )
    else:
        say(
            f"{out}: {report.encoded} encoded now, {report.present} held already, {len(failed)} failed; "
            f"{len(index)} utterances in all"
        )
        if shard != (0, 1):
            rest = ", ".join(f"{i}/{shard[1]}" for i in report.missing)
            say(
                f"shard {shard[0]}/{shard[1]} has completed; "
                + (
                    f"not yet: {rest}"
                    if rest
                    else "all others have, too: the command without --shard completes the index"
                )
            )
    return 1 if failed else 0
