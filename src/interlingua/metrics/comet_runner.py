"""COMET's runner, in its own environment, without interlingua: ``python -I comet_runner.py IN.json OUT.json``.

IN holds ``model`` (a hub id, or the path of a checkpoint), ``batch_size`` and ``segments`` ([source, output,
reference] each). OUT gets ``scores`` in the same order and ``revision``, or ``error``. A line ``done N`` on stdout
counts the segments scored since the last one.
"""

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

_CHUNK = 64  # segments between two lines of progress


def main(request: Path, response: Path) -> None:
    """Score ``request`` and write ``response``, also after an error."""
    settings = json.loads(request.read_text(encoding="utf-8"))
    try:
        found = _score(**settings)
    except Exception as e:  # the caller reads why; a traceback would tell its user nothing
        found = {"error": f"{type(e).__name__}: {' '.join(str(e).split())}"}
    response.write_text(json.dumps(found), encoding="utf-8")


def _score(model: str, segments: list[list[str]], batch_size: int) -> dict[str, Any]:
    warnings.simplefilter("ignore")
    import torch
    from comet import load_from_checkpoint  # type: ignore[import-not-found]

    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    checkpoint, revision = _checkpoint(model)
    scorer = load_from_checkpoint(str(checkpoint))
    order = sorted(range(len(segments)), key=lambda i: len(segments[i][0]))  # similar lengths together: less padding
    scores = [0.0] * len(segments)
    for start in range(0, len(order), _CHUNK):
        chunk = order[start : start + _CHUNK]
        samples = [dict(zip(("src", "mt", "ref"), segments[i], strict=True)) for i in chunk]
        gpus = int(torch.cuda.is_available())
        found = scorer.predict(samples, batch_size=batch_size, gpus=gpus, num_workers=0, progress_bar=False)
        for i, score in zip(chunk, found.scores, strict=True):
            scores[i] = float(score)
        print(f"done {len(chunk)}", flush=True)
    return {"scores": scores, "revision": revision}


def _checkpoint(model: str) -> tuple[Path, str]:
    """The checkpoint's file and the revision of its weights: the hub's commit, or the start of its SHA-256."""
    if Path(model).is_file():
        import hashlib

        with Path(model).open("rb") as file:
            return Path(model), hashlib.file_digest(file, "sha256").hexdigest()[:12]
    from huggingface_hub import snapshot_download

    folder = Path(snapshot_download(model))
    return folder / "checkpoints" / "model.ckpt", folder.name[:12]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
