"""Dynamic time warping: the fast version against a double loop and against every path, and what must not matter."""

import sys
from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interlingua.retrieval.dtw import dtw_similarity
from interlingua.retrieval.seqsim import alignment_matrix

MODULE = sys.modules["interlingua.retrieval.dtw"]
STEPS = (((1, 0), 1), ((0, 1), 1), ((1, 1), 2))
EXACT = {"rtol": 0, "atol": 1e-5}


def ragged(*lengths: int, dim: int = 5, seed: int = 0, zeros: bool = False) -> list[np.ndarray]:
    """Random utterances; with ``zeros`` about a third of the frames are zero."""
    rng = np.random.default_rng([seed, dim, *lengths])
    utterances = [rng.normal(size=(n, dim)).astype(np.float32) for n in lengths]
    if zeros:
        for u in utterances:
            u[rng.random(len(u)) < 0.3] = 0
    return utterances


def by_loop(query: np.ndarray, candidate: np.ndarray) -> float:
    """The recursion as the module's docstring states it."""
    s = alignment_matrix(query, candidate).astype(np.float64)
    g = np.full(s.shape, -np.inf)
    for i in range(len(query)):
        for j in range(len(candidate)):
            if i == j == 0:
                g[i, j] = 2 * s[i, j]
                continue
            for (di, dj), weight in STEPS:
                if i >= di and j >= dj:
                    g[i, j] = max(g[i, j], g[i - di, j - dj] + weight * s[i, j])
    return g[-1, -1] / sum(s.shape)


def by_every_path(query: np.ndarray, candidate: np.ndarray) -> float:
    """The best weighted mean among all warping paths, each walked to its end."""
    s = alignment_matrix(query, candidate).astype(np.float64)

    def walk(i, j, total, weight):
        if (i + 1, j + 1) == s.shape:
            assert weight == sum(s.shape)
            return total / weight
        onward = [(i + di, j + dj, w) for (di, dj), w in STEPS if i + di < s.shape[0] and j + dj < s.shape[1]]
        return max(walk(a, b, total + w * s[a, b], weight + w) for a, b, w in onward)

    return walk(0, 0, 2 * s[0, 0], 2)


def table(queries, candidates, score=by_loop) -> np.ndarray:
    return np.array([[score(q, c) for c in candidates] for q in queries])


@lru_cache
def some() -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    queries, candidates = ragged(3, 1, 8, 20), ragged(1, 14, 2, 9, 1, 31, seed=1)
    return queries, candidates, table(queries, candidates)


# ---------------------------------------------------------------- equals its definition


def test_by_hand():
    """Right angles but for one cell of 0.6 in the corner that a path must pass, and one of 1 that it may pass."""
    query = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    candidate = np.array([[0.6, 0, 0.8], [0, 1, 0], [0, 0, 1]], np.float32)
    # (1,1) weighs 2 x 0.6; then diagonally into (2,2), 2 x 1; then (2,3), 0
    assert dtw_similarity([query], [candidate]).item() == pytest.approx((2 * 0.6 + 2 * 1) / 5)


def test_the_loop_finds_the_best_of_every_path():
    queries, candidates = ragged(1, 3, 4), ragged(1, 2, 5, seed=1)
    np.testing.assert_allclose(table(queries, candidates), table(queries, candidates, by_every_path), rtol=1e-12)


lengths = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@settings(max_examples=50, deadline=None)
@given(lengths, lengths, st.integers(1, 8), st.integers(0, 10**6), st.booleans(), st.integers(1, 30))
def test_fast_equals_the_loop(n, m, dim, seed, zeros, block):
    queries, candidates = ragged(*n, dim=dim, seed=seed, zeros=zeros), ragged(*m, dim=dim, seed=seed + 1, zeros=zeros)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MODULE, "BLOCK_FRAMES", block)
        np.testing.assert_allclose(dtw_similarity(queries, candidates), table(queries, candidates), **EXACT)


def test_shapes_and_types():
    queries, candidates, _ = some()
    scores = dtw_similarity(queries, candidates)
    assert (scores.shape, scores.dtype) == ((4, 6), np.float32)
    assert dtw_similarity([], candidates).shape == (0, 6)
    assert dtw_similarity(queries, []).shape == (4, 0)


def test_all_negative_similarities_are_not_lifted_to_zero():
    """Padding that reached a score would lift it."""
    one = np.ones((1, 3), np.float32)
    candidates = [-one, -one.repeat(2, axis=0), -one.repeat(7, axis=0)]
    np.testing.assert_allclose(dtw_similarity([one, one.repeat(4, axis=0)], candidates), -1, rtol=1e-6)


# ---------------------------------------------------------------- what must not matter


@pytest.mark.parametrize("frames", [1, 2, 3, 13, 14, 15, 58, 10**6])
def test_blocks_and_padding_change_nothing(monkeypatch, frames):
    queries, candidates, expected = some()
    monkeypatch.setattr(MODULE, "BLOCK_FRAMES", frames)
    np.testing.assert_allclose(dtw_similarity(queries, candidates), expected, **EXACT)


def test_blocks_hold_every_candidate_once_and_stay_small(monkeypatch):
    monkeypatch.setattr(MODULE, "BLOCK_FRAMES", 16)
    blocks = list(MODULE._blocks(MODULE.pack(ragged(1, 14, 2, 9, 1, 31))))
    assert [block.columns for block in blocks] == [[0, 4, 2], [3], [1], [5]]
    assert all(np.prod(block.frames.shape[:2]) <= max(16, max(block.lengths)) for block in blocks)


def test_one_pair_equals_its_cell():
    queries, candidates, _ = some()
    scores = dtw_similarity(queries, candidates)
    for i, query in enumerate(queries):
        for j, candidate in enumerate(candidates):
            assert dtw_similarity([query], [candidate]).item() == pytest.approx(scores[i, j], abs=1e-6)


def test_swapping_sides_transposes():
    queries, candidates, expected = some()
    np.testing.assert_allclose(dtw_similarity(candidates, queries), expected.T, **EXACT)


def test_reordering_candidates_reorders_scores():
    queries, candidates, expected = some()
    order = [5, 0, 3, 1, 4, 2]
    np.testing.assert_allclose(dtw_similarity(queries, [candidates[j] for j in order]), expected[:, order], **EXACT)


def test_order_counts():
    queries, candidates, expected = some()
    backwards = dtw_similarity(queries, [u[::-1] for u in candidates])
    assert (np.abs(expected - backwards)[2:, [1, 3, 5]] > 1e-3).all()  # where both have several frames


def test_the_length_of_frames_is_ignored():
    queries, candidates, expected = some()
    rng = np.random.default_rng(0)
    scaled = [u * rng.uniform(0.01, 100, size=(len(u), 1)).astype(np.float32) for u in queries]
    np.testing.assert_allclose(dtw_similarity(scaled, candidates), expected, **EXACT)


def test_tensors_and_half_precision_are_read_and_left_alone():
    queries, candidates, expected = some()
    half = [torch.from_numpy(u).half() for u in queries]
    kept = [u.clone() for u in half]
    np.testing.assert_allclose(dtw_similarity(half, candidates), expected, atol=2e-3)
    assert all(torch.equal(a, b) for a, b in zip(half, kept, strict=True))


# ---------------------------------------------------------------- what warping means


def test_an_utterance_with_itself_scores_one_and_nothing_scores_more():
    queries, _, _ = some()
    scores = dtw_similarity(queries, queries)
    np.testing.assert_allclose(np.diag(scores), 1, rtol=1e-6)
    assert (scores[~np.eye(len(queries), dtype=bool)] < 0.99).all()


@pytest.mark.parametrize("stretch", [2, 3, 7])
def test_a_copy_stretched_in_time_scores_one(stretch):
    queries, _, _ = some()
    slow = [u.repeat(stretch, axis=0) for u in queries]
    np.testing.assert_allclose(np.diag(dtw_similarity(queries, slow)), 1, rtol=1e-6)
    np.testing.assert_allclose(np.diag(dtw_similarity(slow, queries)), 1, rtol=1e-6)


def test_an_unevenly_stretched_copy_scores_one_but_not_when_its_order_is_broken():
    (u,) = ragged(12)
    uneven = u.repeat(np.random.default_rng(0).integers(1, 5, size=12), axis=0)
    one, broken = dtw_similarity([u], [uneven, np.random.default_rng(1).permutation(uneven)])[0]
    assert one == pytest.approx(1, abs=1e-6)
    assert broken < 0.7


def test_zero_frames_score_zero():
    zero, one = np.zeros((2, 3), np.float32), np.ones((1, 3), np.float32)
    assert dtw_similarity([zero, one], [zero]).tolist() == [[0], [0]]


# ---------------------------------------------------------------- progress and errors


def test_progress_counts_queries():
    done: list[int] = []
    dtw_similarity(ragged(3, 5, 1), ragged(2), advance=done.append)
    assert done == [1, 1, 1]


def test_frames_that_are_not_numbers_spoil_their_own_scores_only():
    bad = np.array([[np.nan, 1], [1, 0]], np.float32)
    good = np.array([[1, 0], [1, 0], [1, 0]], np.float32)
    scores = dtw_similarity([good, bad], [bad, good])
    assert np.isnan([scores[0, 0], scores[1, 0], scores[1, 1]]).all()
    assert scores[0, 1] == pytest.approx(1)


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("shape", [(0, 5), (5,), (1, 2, 5)])
def test_utterances_without_frames_are_refused(side, shape):
    sides = [[torch.ones(2, 5)], [torch.ones(3, 5)]]
    sides[side].append(torch.ones(shape))
    with pytest.raises(ValueError, match=r"frames are \(T, D\) with T >= 1"):
        dtw_similarity(*sides)


def test_different_widths_are_refused():
    for candidates in ([torch.ones(2, 4)], [torch.ones(2, 5), torch.ones(2, 4)]):
        with pytest.raises(ValueError, match="frames are 5 and 4 wide"):
            dtw_similarity([torch.ones(2, 5)], candidates)
