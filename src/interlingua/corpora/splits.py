"""Train, dev and test by cluster: near-duplicates never straddle a split."""

from collections.abc import Sequence

import msgspec
import numpy as np

from interlingua.errors import UsageError
from interlingua.types import Utterance

FOLDS = 5
SEED = 12345


def split_by_cluster(utterances: Sequence[Utterance], rotation: int = 0) -> list[Utterance]:
    """Give each utterance a split: of five folds of clusters one is test, the next dev, the others train.

    Args:
        utterances: their clusters (or meanings, or ids, where they have none) are dealt out in one random order.
        rotation: which fold is test, 0 to 4; over all rotations everything is tested once.

    Raises:
        UsageError: another rotation, or fewer clusters than folds.
    """
    check_rotation(rotation)
    names = sorted({_cluster(u) for u in utterances})
    if len(names) < FOLDS:
        raise UsageError(f"{len(names)} clusters can't be split into {FOLDS} folds; read more, or leave --rotation out")
    fold = {names[c]: place % FOLDS for place, c in enumerate(np.random.default_rng(SEED).permutation(len(names)))}
    roles = {rotation: "test", (rotation + 1) % FOLDS: "dev"}
    return [msgspec.structs.replace(u, split=roles.get(fold[_cluster(u)], "train")) for u in utterances]


def check_rotation(rotation: int) -> None:
    """Raise UsageError if there is no such rotation."""
    if not 0 <= rotation < FOLDS:
        raise UsageError(f"rotation {rotation}: use 0 to {FOLDS - 1}")


def refuse_split(corpus: str, split: str | None) -> None:
    """Raise UsageError if a split is asked of a corpus that has none."""
    if split is not None:
        raise UsageError(f"--split {split}: the {corpus} corpus has no splits; leave it out, or make some (--rotation)")


def _cluster(utterance: Utterance) -> str:
    return utterance.cluster or utterance.meaning or utterance.id
