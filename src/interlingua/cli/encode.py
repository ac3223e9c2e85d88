"""``interlingua encode``: a manifest's utterances into a frame store."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import cyclopts

from interlingua.cli.output import emit, note, say
from interlingua.experiments.config import Device

WORTH_SAYING = 1e9  # bytes of frames that are announced before they are made

app = cyclopts.App(name="encode", help="Encode a manifest into a frame store.")


@app.default
def encode(
    manifest: Path,
    store: str,
    *,
    encoder: str = "whisper",
    model: str | None = None,
    languages: tuple[str, ...] | None = None,
    context: str = "speech",
    layer: int | None = None,
    pool: int = 1,
    dtype: Literal["float16", "float32", "int8"] = "float16",
    compute: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    device: Device = "auto",
    shard: str | None = None,
    engine: Literal["here", "ray"] = "here",
    address: str | None = None,
    json: bool = False,
) -> int:
    """Encode the utterances that the store lacks; interrupted, the same command continues.

    Args:
        manifest: utterances: a manifest, or a table or pairs of your own (docs/data-more.md).
        store: the store's folder or object-store URI; created if absent.
        encoder: speech encoder: whisper, transformers (w2v-BERT, XLS-R, Canary and others), one that an
            installed package registers, or module:attribute (docs/extend.md).
        model: model spec: alias, hub id or folder; default: the encoder's own (whisper: base).
        languages: encode these languages only.
        context: speech (retrieval), full (30 s window) or speech+N (N seconds of silence behind; decoding).
        layer: encoder layer, 1-based; default: the last.
        pool: encoder frames averaged into one; 1 = none.
        dtype: of the stored frames; int8 takes half the disk of float16.
        compute: number format of the encoder; auto = bfloat16 where the device has it.
        device: where to encode.
        shard: i/n: the i-th of n parts of the manifest (0/4 to 3/4), for job arrays (docs/cluster.md).
        engine: here (this process) or ray (every worker of a Ray cluster; docs/cluster.md).
        address: of the Ray cluster; default: RAY_ADDRESS, else one that is started on this machine.
        json: print the result as JSON.
    """
    from functools import partial

    from interlingua.corpora import read_manifest
    from interlingua.encoding import (
        RayEngine,
        encode_here,
        encode_manifest,
        estimate_bytes,
        load_encoder,
        parse_shard,
        resolve_device,
        shard_of,
    )
    from interlingua.errors import UsageError

    utterances = read_manifest(manifest, languages, log=note)
    part = parse_shard(shard) if shard else (0, 1)
    chosen = shard_of(utterances, *part)
    where, how = resolve_device(device, compute)
    if address and engine != "ray":
        raise UsageError("--address is the Ray cluster's; add --engine ray")
    load = partial(load_encoder, encoder, model, context=context, layer=layer, compute=how)
    made = load(device=where)
    run = RayEngine(partial(load, device=device), address, on_gpus=device != "cpu") if engine == "ray" else encode_here
    need = estimate_bytes(chosen, replace(made.spec, pooling=pool, dtype=dtype, rate=made.rate), made.dim)
    if need > WORTH_SAYING:
        note(f"interlingua: {len(chosen)} utterances will take about {need / 1e9:,.1f} GB of frames")
    frames, report = encode_manifest(utterances, made, store, pooling=pool, dtype=dtype, shard=part, engine=run)
    for failed, why in report.failed.items():
        note(f"interlingua: {failed}: {why}")
    summary = {
        "store": str(store),
        "encoded": report.encoded,
        "present": report.present,
        "failed": report.failed,
        "total": len(frames),
        "device": where,
        "compute": how,
    } | ({"missing_shards": report.missing} if shard else {})
    if json:
        emit(summary)
    else:
        say(
            f"{store}: {report.encoded} encoded now, {report.present} held already, {len(report.failed)} failed; "
            f"{len(frames)} utterances in all"
        )
        if shard:
            rest = ", ".join(f"{i}/{part[1]}" for i in report.missing)
            say(f"shard {shard} has completed; " + (f"not yet: {rest}" if rest else "all others have, too"))
    return 1 if report.failed else 0
