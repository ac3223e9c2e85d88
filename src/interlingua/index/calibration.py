"""How many mined pairs are right: estimated from known pairs that were mixed in, or from pairs that someone marked.

**Known pairs.** At a threshold, r of the known pairs are mined, and g of their utterances are mined with another one.
A known utterance whose partner is hidden is one without a partner: f of these are mined. Of N utterances with T pairs
among them, n = r T + g T + f (N - T) are mined. Summed over all thresholds and both sides, the stricter thresholds
weighing more, this gives T: each of K known pairs that is mined stands for T / K right ones. Half of the known pairs,
by hash, calibrate, the others test. What is right among known pairs alone would promise too much: it misses the wrong
pairs of all utterances that have no partner (docs/mine.md).

**Marks.** Each stands for itself.

Either way, the chance that a pair is right rises with its CSLS: isotonic regression gives it, and precision is its mean
over the pairs mined.
"""

import csv
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import numpy as np
from jaxtyping import Float

from interlingua.errors import UsageError
from interlingua.index.mine import Places, Scored, neighbourhoods

LEAST = 10  # known pairs in each half, or marks: fewer estimate nothing
POINTS = 100  # of a curve

Judged = Mapping[tuple[str, str], bool]
"""By the ids in A and B: whether the pair is right."""


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """What is mined at a threshold; None where nothing tells."""

    threshold: float
    pairs: int
    precision: float | None = None
    recall: float | None = None


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """A curve from the highest threshold to the lowest; ``chosen`` reaches the precision that was asked for.

    ``test``: the same threshold by the other half of the known pairs.
    """

    points: list[Point]
    known: int = 0
    marks: int = 0
    wanted: float | None = None
    chosen: Point | None = None
    test: Point | None = None


def read_judged(path: Path, option: str, scored: Scored) -> dict[tuple[str, str], bool]:
    """Pairs of a tab-separated table with the columns ``id_a``, ``id_b`` and, where some are wrong, ``right``.

    Raises:
        UsageError: no such file or column, a ``right`` that is neither yes nor no, or an id that isn't mined.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"{option} {path}: can't be read ({e})") from e
    rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    if not {"id_a", "id_b"} <= set(rows.fieldnames or ()):
        raise UsageError(f"{option} {path}: the first line must name columns id_a and id_b, with tabs between")
    verdicts = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
    found = {}
    flat = {
        name: {" ".join(i.split()): i for i in side.rows} for name, side in (("id_a", scored.a), ("id_b", scored.b))
    }
    for row in rows:
        where = f"{option} {path}:{rows.line_num}"
        verdict = verdicts.get((row.get("right") or "yes").lower())
        if verdict is None:
            raise UsageError(f"{where}: right is {row['right']!r}; write yes or no")
        ids = [flat[name].get(" ".join((row[name] or "").split())) for name in ("id_a", "id_b")]  # as tables write them
        for name, held in zip(("id_a", "id_b"), ids, strict=True):
            if held is None:
                raise UsageError(f"{where}: {name} {row[name]!r} isn't among the utterances that are mined")
        found[str(ids[0]), str(ids[1])] = verdict
    return found


def calibrate(
    scored: Scored, known: Judged | None = None, marks: Judged | None = None, *, precision: float | None = None
) -> Calibration:
    """The curve of the pairs that are best both ways, and the least threshold of the wanted precision.

    Marks, where there are any, estimate the precision, and known pairs the recall.

    Raises:
        UsageError: too few pairs to estimate on, a precision that isn't above 0 and at most 1, or never reached.
    """
    if precision is not None and not 0 < precision <= 1:
        raise UsageError(f"--precision {precision}: a share above 0, at most 1, such as 0.9")
    if precision is not None and not known and not marks:
        raise UsageError("--precision: name pairs to estimate it on, with --known or --marks")
    if marks and len(marks) < LEAST:
        raise UsageError(f"--marks: {len(marks)} pairs; {LEAST} are needed at least")
    halves = _halves(scored, known or {})
    if known and min(map(len, halves)) < LEAST:
        n = sum(map(len, halves))
        raise UsageError(f"--known: {n} right pairs; about {3 * LEAST} are needed: half calibrate, half test")
    points, testing = (_estimates(scored, half, marks) for half in halves)
    chosen = test = None
    if precision is not None:
        reached = [n for n, p in enumerate(points) if p.precision is not None and p.precision >= precision]
        if not reached:
            best = max((p.precision or 0.0 for p in points), default=0.0)
            raise UsageError(f"--precision {precision}: no threshold reaches it; the best has {best:.2f}")
        chosen = points[reached[-1]]
        test = testing[reached[-1]] if known else None
    some = np.unique(np.linspace(0, len(points) - 1, POINTS).round().astype(int)) if points else ()
    return Calibration(
        points=[points[n] for n in some],
        known=sum(map(len, halves)),
        marks=len(marks or {}),
        wanted=precision,
        chosen=chosen,
        test=test,
    )


def _halves(scored: Scored, judged: Judged) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """Places of the right pairs, by hash."""
    halves: tuple[set[tuple[int, int]], set[tuple[int, int]]] = (set(), set())
    for (i, j), right in judged.items():
        if right:
            halves[hashlib.sha256(f"{i}\0{j}".encode()).digest()[0] % 2].add((scored.a.rows[i], scored.b.rows[j]))
    return halves


def _estimates(scored: Scored, right: set[tuple[int, int]], marks: Judged | None) -> list[Point]:
    """The figures with each of the pairs that are best both ways as the last one mined."""
    mined = scored.chosen()
    thresholds = scored.csls[mined]
    n = np.arange(1, len(mined) + 1)
    found = np.array([p in right for p in zip(scored.i[mined].tolist(), scored.j[mined].tolist(), strict=True)], bool)
    recall = np.cumsum(found) / len(right) if right else None
    precision = None
    if marks:
        precision = np.cumsum(_chances(scored, marks, thresholds)) / n
    elif recall is not None:
        chances = isotonic(found[::-1] * pairs_there(scored, right, found, recall) / len(right))[::-1]
        precision = np.cumsum(np.minimum(chances, 1)) / n
    return [
        Point(
            threshold=float(t),
            pairs=k + 1,
            precision=None if precision is None else float(precision[k]),
            recall=None if recall is None else float(recall[k]),
        )
        for k, t in enumerate(thresholds)
    ]


def pairs_there(scored: Scored, right: set[tuple[int, int]], found: np.ndarray, recall: np.ndarray) -> float:
    """T, the number of pairs among all utterances; ``found``: which of the pairs mined are known."""
    mined = scored.chosen()
    n, thresholds = np.arange(1, len(mined) + 1), scored.csls[mined]
    above = below = 0.0
    weights = 1 - np.arange(len(mined)) / max(len(mined), 1)
    for side, own, hid, total in zip((0, 1), (scored.i, scored.j), hidden(scored, right), _sizes(scored), strict=True):
        ours = np.isin(own[mined], [pair[side] for pair in right])
        alone = (hid[:, None] >= thresholds).mean(axis=0)
        rate = recall + np.cumsum(ours & ~found) / len(right) - alone
        above += float(weights @ (n - alone * total))
        below += float(weights @ rate)
    return float(np.clip(above / below, 0, min(_sizes(scored)))) if below > 0 else 0.0


def _sizes(scored: Scored) -> tuple[int, int]:
    return len(scored.a), len(scored.b)


def hidden(scored: Scored, right: set[tuple[int, int]]) -> list[Float[np.ndarray, "_K"]]:
    """For A and for B: CSLS of what would be mined for each known utterance without its partner.

    -inf where nothing would be: what is nearest to it is nearer to another.
    """
    sides = []
    for own, other, n, m, turn in (
        (scored.i, scored.j, len(scored.a), len(scored.b), 1),
        (scored.j, scored.i, len(scored.b), len(scored.a), -1),
    ):
        partners: dict[int, set[int]] = {}
        for pair in right:
            first, second = pair[::turn]
            partners.setdefault(first, set()).add(second)
        mine, theirs = _by_utterance(own, n), _by_utterance(other, m)
        around = neighbourhoods(other, scored.score, m, scored.neighbours)
        found = []
        for row, apart in sorted(partners.items()):
            pairs = mine(row)
            pairs = pairs[~np.isin(other[pairs], list(apart))]
            if not len(pairs):
                found.append(-np.inf)
                continue
            score = scored.score[pairs]
            around_it = np.sort(score)[-scored.neighbours :].mean()
            csls = 2 * score - around_it - around[other[pairs]]
            best = int(csls.argmax())
            rivals = theirs(int(other[pairs[best]]))
            rivals = rivals[own[rivals] != row]
            wins = not len(rivals) or csls[best] > scored.csls[rivals].max()
            found.append(float(csls[best]) if wins else -np.inf)
        sides.append(np.array(found))
    return sides


def _by_utterance(side: Places, n: int) -> Callable[[int], Places]:
    """Gives the pairs of an utterance, whose places in the pairs are ``side``."""
    order = np.argsort(side, kind="stable")
    starts = np.searchsorted(side[order], np.arange(n + 1))
    return lambda row: order[starts[row] : starts[row + 1]]


def _chances(scored: Scored, marks: Judged, thresholds: np.ndarray) -> np.ndarray:
    """The chance that a pair of each CSLS is right, by marked pairs."""
    verdicts = {(scored.a.rows[i], scored.b.rows[j]): right for (i, j), right in marks.items()}
    found = [
        (float(csls), verdicts[pair])
        for *pair_, csls in zip(scored.i.tolist(), scored.j.tolist(), scored.csls, strict=True)
        if (pair := tuple(pair_)) in verdicts
    ]
    if len(found) < LEAST:
        raise UsageError(f"--marks: {len(found)} of {len(marks)} pairs were candidates; {LEAST} are needed at least")
    csls, right = np.array(sorted(found)).T
    return np.asarray(np.interp(thresholds, csls, isotonic(right)))


def isotonic(values: Float[np.ndarray, "K"]) -> Float[np.ndarray, "K"]:
    """The nearest sequence, by least squares, that never falls (pool adjacent violators).

    >>> isotonic(np.array([0.0, 1.0, 0.0, 1.0])).tolist()
    [0.0, 0.5, 0.5, 1.0]
    """
    blocks: list[tuple[float, int]] = []
    for value in values:
        total, count = float(value), 1
        while blocks and blocks[-1][0] * count >= total * blocks[-1][1]:
            before, many = blocks.pop()
            total, count = total + before, count + many
        blocks.append((total, count))
    return np.concatenate([np.full(count, total / count) for total, count in blocks])
