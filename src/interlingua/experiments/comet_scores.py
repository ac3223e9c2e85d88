"""COMET's scores of a study's translations, cached in a file."""

import hashlib
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import msgspec

from interlingua.errors import CometError
from interlingua.files import write_text
from interlingua.finetuning.evaluate import pooled_change
from interlingua.metrics import CometScores, SystemOutputs, score_comet
from interlingua.metrics.comet import Segment
from interlingua.results import Change


def kept_comet(path: Path, segments: Collection[Segment], model: str) -> CometScores | CometError:
    """COMET's scores of segments, those in ``path`` reused; or why there are none."""
    names = {segment: _name(segment) for segment in segments}
    held: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if held.get("model") != model:
        held = {"model": model, "signature": None, "scores": {}}
    missing = [segment for segment, name in names.items() if name not in held["scores"]]
    if missing:
        try:
            found = score_comet(missing, model=model)
            if held["signature"] not in (None, found.signature):  # scores of other versions can't be mixed in
                found = score_comet(names, model=model)
                held["scores"] = {}
        except CometError as e:
            return e
        held["scores"] |= {names[segment]: score for segment, score in found.scores.items()}
        held["signature"] = found.signature
        write_text(path, json.dumps(held) + "\n")
    return CometScores({segment: held["scores"][name] for segment, name in names.items()}, held["signature"] or "comet")


def comet_change(
    comet: CometScores | CometError, after: Sequence[SystemOutputs], before: Sequence[SystemOutputs]
) -> Change:
    """Means over groups of scores before and after, and their difference; or why there are none."""
    if isinstance(comet, CometError):
        return Change(reason=str(comet))
    try:
        return pooled_change(*([comet.statistics(g) for g in side] for side in (after, before)))
    except CometError as e:  # an utterance without a transcript
        return Change(reason=str(e))


def _name(segment: Segment) -> str:
    return hashlib.sha256(msgspec.json.encode(segment)).hexdigest()[:20]
