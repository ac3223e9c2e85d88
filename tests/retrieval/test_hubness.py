"""Corrections against hubs: against plain loops, and a hub that they must bring down."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from interlingua.retrieval.hubness import csls, neighbourhood, ratio_margin

NAN = np.nan


def matrix(*rows) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


def slow_neighbourhood(row, k) -> float:
    known = sorted((float(x) for x in row if not math.isnan(x)), reverse=True)[:k]
    return sum(known) / len(known) if known else NAN


shapes = st.tuples(st.integers(1, 6), st.integers(1, 9))
values = st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.5, 1.0, NAN])


# ---------------------------------------------------------------- neighbourhood


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(np.float32, shapes, elements=values), st.integers(1, 7))
def test_the_neighbourhood_equals_the_slow_loop(scores, k):
    before = scores.copy()
    found = neighbourhood(scores, k)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [slow_neighbourhood(row, k) for row in scores], atol=1e-6)
    np.testing.assert_array_equal(scores, before)


def test_by_hand():
    scores = matrix([0.1, 0.9, 0.3, 0.5], [NAN, 0.2, NAN, 0.4], [NAN] * 4)
    assert neighbourhood(scores, 1) == pytest.approx([0.9, 0.4, NAN], nan_ok=True)
    assert neighbourhood(scores, 2) == pytest.approx([0.7, 0.3, NAN], nan_ok=True)
    assert neighbourhood(scores, 3) == pytest.approx([1.7 / 3, 0.3, NAN], nan_ok=True)


def test_missing_neighbours_dont_count_as_zero():
    assert neighbourhood(matrix([0.5, 0.7]), 5) == pytest.approx([0.6])
    assert neighbourhood(matrix([0.5, 0.7])) == pytest.approx([0.6])
    assert neighbourhood(matrix([-0.5, NAN]), 5) == pytest.approx([-0.5])


def test_five_neighbours_unless_told():
    assert neighbourhood(np.arange(9, dtype=np.float32)[None]) == pytest.approx([6])


# ---------------------------------------------------------------- corrections


def random_case(seed: int = 0):
    rng = np.random.default_rng(seed)
    return [rng.uniform(0.1, 1, size=shape).astype(np.float32) for shape in ((4, 6), (4,), (6,))]


def test_corrections_equal_the_slow_loops():
    scores, queries, candidates = random_case()
    local, ratio = csls(scores, queries, candidates), ratio_margin(scores, queries, candidates)
    assert local.dtype == ratio.dtype == np.float32
    for i in range(4):
        for j in range(6):
            s, q, c = float(scores[i, j]), float(queries[i]), float(candidates[j])
            assert local[i, j] == pytest.approx(2 * s - q - c, abs=1e-5)
            assert ratio[i, j] == pytest.approx(s / ((q + c) / 2), abs=1e-5)


@pytest.mark.parametrize("correct", [csls, ratio_margin])
def test_a_score_that_is_none_stays_none(correct):
    scores, queries, candidates = random_case()
    scores[1, 2] = NAN
    corrected = correct(scores, queries, candidates)
    assert np.argwhere(np.isnan(corrected)).tolist() == [[1, 2]]


@pytest.mark.parametrize("correct", [csls, ratio_margin])
def test_a_hub_is_demoted(correct):
    """The last candidate is near to all queries and answers none; each query's own answer is near to it alone."""
    n = 6
    scores = np.full((n, n + 1), 0.2, np.float32)
    np.fill_diagonal(scores, 0.7)
    scores[:, n] = 0.8
    assert (scores.argmax(axis=1) == n).all()
    corrected = correct(scores, neighbourhood(scores), neighbourhood(scores.T.copy()))
    assert corrected.argmax(axis=1).tolist() == list(range(n))


def test_csls_keeps_the_order_of_candidates_that_are_equally_near_to_all():
    scores, queries, _ = random_case()
    corrected = csls(scores, queries, np.full(6, 0.3, np.float32))
    assert corrected.argsort(axis=1).tolist() == scores.argsort(axis=1).tolist()


@pytest.mark.parametrize("correct", [csls, ratio_margin])
def test_swapping_the_sides_swaps_the_scores(correct):
    scores, queries, candidates = random_case()
    swapped = correct(scores.T.copy(), candidates, queries)
    np.testing.assert_allclose(swapped.T, correct(scores, queries, candidates), atol=1e-6)
