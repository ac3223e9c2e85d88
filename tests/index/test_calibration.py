"""Calibration: estimates against the truth of planted pairs, marks, what is refused."""

import csv
import json

import numpy as np
import pytest

from interlingua import cli
from interlingua.errors import UsageError
from interlingua.index.calibration import calibrate, hidden, isotonic, read_judged
from interlingua.index.mine import Side, ranked
from interlingua.types import AudioRef, Utterance


class Named(Side):
    """A side without frames."""

    def __init__(self, language: str, n: int) -> None:
        audio = AudioRef("a.wav")
        self.utterances = [Utterance(id=f"{language}/{k}", audio=audio, language=language) for k in range(n)]


N, PAIRS = 300, 120  # utterances a side; those of equal number below PAIRS are pairs


def collection(seed: int, strength: float = 4.0, n: int = N, pairs: int = PAIRS):
    rng = np.random.default_rng(seed)
    score = rng.normal(0, 1, (n, n)) + rng.normal(0, 0.3, (n, 1)) + rng.normal(0, 0.3, n)
    score[np.arange(pairs), np.arange(pairs)] += rng.normal(strength, 1.0, pairs)
    score = (0.5 + 0.05 * score).astype(np.float32)
    i, j = np.repeat(np.arange(n), n), np.tile(np.arange(n), n)
    return ranked(Named("en", n), Named("fr", n), i, j, score.ravel(), 4)


def true_right(scored) -> np.ndarray:
    mined = scored.chosen()
    return (scored.i[mined] == scored.j[mined]) & (scored.i[mined] < PAIRS)


def test_precision_and_recall_of_planted_pairs_are_those_of_all():
    """Three of five utterances have no partner. Mean error over ten collections."""
    errors, naive = [], []
    for seed in range(10):
        scored = collection(seed)
        known = {(f"en/{k}", f"fr/{k}"): True for k in range(PAIRS)}
        found = calibrate(scored, known)
        right, mined = true_right(scored), scored.chosen()
        ours, theirs = scored.i[mined] < PAIRS, scored.j[mined] < PAIRS
        for p in (p for p in found.points if p.pairs in range(40, 141)):
            truth = right[: p.pairs].mean()
            errors.append([p.precision - truth, p.recall - right[: p.pairs].sum() / PAIRS])
            judged = (ours | theirs)[: p.pairs]
            naive.append((right & ours)[: p.pairs].sum() / judged.sum() - truth)
    assert abs(np.mean(errors, axis=0)).max() < 0.04
    assert np.mean(naive) > 0.1  # what is estimated among known pairs alone


def test_a_wanted_precision_chooses_the_threshold():
    scored = collection(3)
    known = {(f"en/{k}", f"fr/{k}"): True for k in range(PAIRS)}
    found = calibrate(scored, known, precision=0.8)
    assert found.chosen.precision >= 0.8
    mined = scored.chosen(threshold=found.chosen.threshold)
    assert len(mined) == found.chosen.pairs
    assert true_right(scored)[: len(mined)].mean() == pytest.approx(0.8, abs=0.15)
    assert (found.known, found.test.pairs) == (120, found.chosen.pairs)
    both = sorted([found.chosen.recall, found.test.recall])  # of either half of all pairs
    assert both[0] <= true_right(scored)[: len(mined)].sum() / PAIRS <= both[1]
    less = calibrate(scored, known, precision=0.6)
    assert less.chosen.pairs > found.chosen.pairs


def slow_hidden(scored, pair: tuple[int, int], k: int) -> float:
    """CSLS of what A's utterance of a pair is mined with, if B's is not there."""
    n, m = len(scored.a), len(scored.b)
    table = np.full((n, m), -np.inf)
    table[scored.i, scored.j] = scored.score
    a, b = pair
    own = {j: table[a, j] for j in range(m) if j != b}
    around = {j: np.mean(np.sort(table[:, j])[-k:]) for j in range(m)}
    here = np.mean(sorted(own.values())[-k:])
    best = max(own, key=lambda j: 2 * own[j] - here - around[j])
    value = 2 * own[best] - here - around[best]
    rival = max(2 * table[i, best] - np.mean(np.sort(table[i])[-k:]) - around[best] for i in range(n) if i != a)
    return value if value > rival else -np.inf


def test_a_hidden_partner_is_not_there():
    scored = collection(5, n=30, pairs=15)
    right = {(k, k) for k in range(15)}
    first, second = hidden(scored, right)
    assert first == pytest.approx([slow_hidden(scored, (k, k), 4) for k in range(15)], abs=1e-4)
    turned = collection(5, n=30, pairs=15)
    order = np.lexsort((turned.i, turned.j))
    turned = ranked(turned.b, turned.a, turned.j[order], turned.i[order], turned.score[order], 4)
    assert hidden(turned, right)[0] == pytest.approx(second, abs=1e-4)


def test_marks_estimate_precision():
    scored = collection(7)
    mined, right = scored.chosen(), true_right(scored)
    marks = {(f"en/{scored.i[p]}", f"fr/{scored.j[p]}"): bool(right[n]) for n, p in enumerate(mined) if n % 2 == 0}
    found = calibrate(scored, None, marks, precision=0.7)
    assert found.marks == len(marks)
    assert found.chosen.recall is None
    assert right[: found.chosen.pairs].mean() == pytest.approx(0.7, abs=0.08)
    both = calibrate(scored, {(f"en/{k}", f"fr/{k}"): True for k in range(PAIRS)}, marks, precision=0.7)
    assert both.chosen.threshold == found.chosen.threshold
    assert both.chosen.recall == pytest.approx(right[: both.chosen.pairs].sum() / PAIRS, abs=0.1)


def test_a_curve_alone_counts_pairs():
    found = calibrate(collection(1))
    assert [p.pairs for p in found.points] == sorted(p.pairs for p in found.points)
    assert [p.threshold for p in found.points] == sorted((p.threshold for p in found.points), reverse=True)
    assert all(p.precision is None and p.recall is None for p in found.points)
    assert calibrate(collection(1, n=0, pairs=0)).points == []


def test_isotonic_regression_is_the_nearest_that_rises():
    rng = np.random.default_rng(0)
    values = rng.normal(size=7)
    found = isotonic(values)
    assert (np.diff(found) >= 0).all()
    assert found.sum() == pytest.approx(values.sum())
    for _ in range(500):
        other = np.sort(found + rng.normal(0, 0.3, 7))
        assert ((found - values) ** 2).sum() <= ((other - values) ** 2).sum()


def write(path, *rows) -> None:
    path.write_text("".join("\t".join(row) + "\n" for row in rows))


def test_tables_are_read(tmp_path):
    scored, path = collection(1), tmp_path / "marks.tsv"
    write(path, ["id_a", "note", "id_b", "right"], ["en/1", "x", "fr/1", "yes"], ["en/2", "", "fr/1", "No"])
    assert read_judged(path, "--marks", scored) == {("en/1", "fr/1"): True, ("en/2", "fr/1"): False}
    write(path, ["id_a", "id_b"], ["en/1", "fr/1"])
    assert read_judged(path, "--known", scored) == {("en/1", "fr/1"): True}


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([["id", "other"]], "the first line must name columns id_a and id_b"),
        ([["id_a", "id_b"], ["en/1", "fr/1"], ["en/1", "fr/x"]], "known.tsv:3: id_b 'fr/x' isn't among"),
        ([["id_a", "id_b"], ["en/1"]], "known.tsv:2: id_b None isn't among"),
        ([["id_a", "id_b", "right"], ["en/1", "fr/1", "maybe"]], "known.tsv:2: right is 'maybe'; write yes or no"),
    ],
)
def test_wrong_tables_are_named(tmp_path, rows, reason):
    write(tmp_path / "known.tsv", *rows)
    with pytest.raises(UsageError, match=reason):
        read_judged(tmp_path / "known.tsv", "--known", collection(1))


def test_what_cannot_be_estimated_is_refused(tmp_path):
    scored = collection(1)
    pairs = {(f"en/{k}", f"fr/{k}"): True for k in range(PAIRS)}
    few = dict(list(pairs.items())[:5])
    for arguments, wanted, reason in (
        ((), 0.9, "name pairs to estimate it on"),
        ((pairs,), 1.5, "a share above 0"),
        ((few,), 0.9, "5 right pairs; about 30"),
        ((None, few), 0.9, "5 pairs; 10"),
        ((None, dict.fromkeys(pairs, False)), 0.9, "no threshold reaches it; the best has 0.00"),
    ):
        with pytest.raises(UsageError, match=reason):
            calibrate(scored, *arguments, precision=wanted)
    with pytest.raises(UsageError, match="can't be read"):
        read_judged(tmp_path / "none.tsv", "--known", scored)


def test_the_command_calibrates(tmp_path, capsys):
    from test_index import frames, made

    uri, known = f"{tmp_path}/speech.lance", tmp_path / "known.tsv"
    made(uri, [*(frames("en", m) for m in range(60)), *(frames("fr", m) for m in range(20, 80))])
    write(known, ["id_a", "id_b"], *([f"en/{m}", f"fr/{m}"] for m in range(20, 60)))
    out = tmp_path / "pairs.tsv"
    command = ["mine", uri, "--languages", "en", "fr", "--known", str(known), "--out", str(out)]
    assert cli.run([*command, "--precision", "0.9"]) == 0
    said = capsys.readouterr().out
    assert "test half" in said
    curve = json.loads((tmp_path / "pairs.curve.json").read_text())
    with out.open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(rows) == curve["chosen"]["pairs"]
    assert min(float(r["csls"]) for r in rows) == pytest.approx(curve["chosen"]["threshold"], abs=1e-3)
    assert np.mean([r["id_a"][3:] == r["id_b"][3:] for r in rows]) > 0.8
    before = out.read_bytes()
    assert cli.run([*command, "--precision", "0.9", "--threshold", "1"]) == 2
    assert "name one of them" in capsys.readouterr().err
    assert out.read_bytes() == before
