"""SeqSim: its specification by hand, the fast version against it, and the baselines."""

import inspect
import sys
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jaxtyping import TypeCheckError

from interlingua.errors import UsageError
from interlingua.retrieval.features import duration_similarity, mean_pool_cosine, with_position
from interlingua.retrieval.reference import seqsim_pair
from interlingua.retrieval.seqsim import alignment_matrix, pack, reduce_directions, seqsim, seqsim_both

MODULE = sys.modules["interlingua.retrieval.seqsim"]
REDUCTIONS = ("precision", "recall", "mean", "f1")
TOLERANCE = 1e-4  # what seqsim.py promises


def array(*rows, dtype=np.float32):
    return np.array(rows, dtype=dtype)


def ragged(*lengths: int, dim: int = 5, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng([seed, dim, *lengths])
    return [rng.normal(size=(n, dim)).astype(np.float32) for n in lengths]


def by_reference(queries, candidates, reduction) -> np.ndarray:
    return np.array([[seqsim_pair(q, c)[reduction] for c in candidates] for q in queries])


def small_tiles(patch, rows: int, columns: int, long: int = 8192) -> None:
    """Cut tiles of ``rows`` x ``columns`` float32 similarities; utterances over ``long`` frames go piece by piece."""
    patch.setattr(MODULE, "TILE_ROWS", rows)
    patch.setattr(MODULE, "TILE_BYTES", rows * columns * 4)
    patch.setattr(MODULE, "LONG_FRAMES", long)


# ---------------------------------------------------------------- shapes


def test_shapes_and_types():
    queries, candidates = ragged(3, 1, 4), ragged(2, 6)
    for reduction in REDUCTIONS:
        scores = seqsim(queries, candidates, reduction=reduction)
        assert (scores.shape, scores.dtype) == ((3, 2), np.float32)
    assert [m.shape for m in seqsim_both(queries, candidates)] == [(3, 2), (3, 2)]
    assert mean_pool_cosine(queries, candidates).shape == (3, 2)
    assert duration_similarity([1.0, 2.0, 3.0], [0.5, 4.0]).shape == (3, 2)
    assert duration_similarity([1.0, 2.0, 3.0], [0.5, 4.0]).dtype == np.float32
    assert alignment_matrix(queries[0], candidates[1]).shape == (3, 6)


def test_no_queries_or_no_candidates_give_an_empty_matrix():
    assert seqsim([], ragged(2, 3)).shape == (0, 2)
    assert seqsim(ragged(2, 3), []).shape == (2, 0)


# ---------------------------------------------------------------- by hand

# q1 = (1, 0), q2 = (0, 1); c1 = (3, 4) / 5 = (.6, .8)
QUERY, CANDIDATE = array([2, 0], [0, 7]), array([3, 4])


@pytest.mark.parametrize("score", [lambda q, c, r: seqsim_pair(q, c)[r], lambda q, c, r: seqsim([q], [c], reduction=r)])
def test_by_hand(score):
    precision, recall = (0.6 + 0.8) / 2, 0.8
    expected = {
        "precision": precision,
        "recall": recall,
        "mean": (precision + recall) / 2,
        "f1": 2 * precision * recall / (precision + recall),
    }
    for reduction, value in expected.items():
        assert float(np.squeeze(score(QUERY, CANDIDATE, reduction))) == pytest.approx(value, abs=1e-6)


def test_identical_utterances_score_one_and_the_order_of_frames_is_ignored():
    (u,) = ragged(9)
    assert seqsim([u], [u, u[::-1]]) == pytest.approx(1, abs=1e-6)


def test_opposite_utterances_score_zero_f1_although_their_mean_is_minus_one():
    u = array([1, 0])
    assert seqsim([u], [-u], reduction="mean") == pytest.approx(-1)
    assert seqsim([u], [-u]).item() == 0
    assert seqsim_pair(u, -u)["f1"] == 0


def test_f1_is_zero_wherever_the_directions_sum_to_zero_or_less():
    precision, recall = array([0.5, 0.5, -0.2, 0.0]), array([-0.5, -0.6, 0.1, 0.0])
    f1 = reduce_directions(precision, recall, "f1")
    assert f1.tolist() == [[0, 0, 0, 0]]
    assert np.isfinite(f1).all()


def test_f1_is_zero_where_one_direction_is_not_above_zero():
    precision, recall = array([-0.9, 0.95, 0.0, 0.5, 1e-3]), array([0.95, -0.9, 0.5, 0.0, 0.5])
    expected = [0, 0, 0, 0, 2 * 1e-3 * 0.5 / 0.501]
    assert reduce_directions(precision, recall, "f1")[0] == pytest.approx(expected)
    query, candidate = array([1, 0], [-1, -0.2]), array([0.9, 0.1])  # P just below 0, R near 1
    slow = seqsim_pair(query, candidate)
    assert (slow["precision"] < 0) != (slow["precision"] + slow["recall"] < 0)
    assert slow["f1"] == seqsim([query], [candidate]).item() == 0


@pytest.mark.parametrize("size", [1e30, 3e38, 1e-30, 1e-44])
@pytest.mark.parametrize("compute", ["float32", "bfloat16", "int8"])
def test_frames_of_any_size_score_alike(size, compute):
    rows = np.sign(ragged(7, 4, seed=3)[0]), np.sign(ragged(5, seed=4)[0])
    plain, sized = list(rows), [(r * np.float32(size)).astype(np.float32) for r in rows]
    mixed = [sized[0].copy(), plain[1]]
    mixed[0][::2] = plain[0][::2]
    for frames in (sized, mixed):
        found = seqsim(frames, frames, compute=compute)
        np.testing.assert_allclose(found, seqsim(plain, plain, compute=compute), atol=1e-6)
        slow = [[seqsim_pair(q, c)["f1"] for c in frames] for q in frames]
        np.testing.assert_allclose(slow, by_reference(plain, plain, "f1"), atol=1e-6)
    np.testing.assert_allclose(mean_pool_cosine(sized, sized), mean_pool_cosine(plain, plain), atol=1e-6)
    np.testing.assert_allclose(with_position(sized[0], 0.5), with_position(plain[0], 0.5), atol=1e-6)


@pytest.mark.parametrize("score", [seqsim, mean_pool_cosine])
def test_mean_pooling_and_seqsim_have_the_same_answer_to_odd_frames(score):
    good, zero = array([1, 0]), array([0, 0])
    odd = [array([np.inf, 1]), array([-np.inf, np.inf]), array([np.nan, 1])]
    found = score([good, *odd, zero], [*odd, good, zero])
    assert np.isnan(found[:, :3]).all()
    assert np.isnan(found[1:4]).all()
    assert found[[0, 4], 3:].tolist() == [[1, 0], [0, 0]]
    assert score([], [good]).shape == (0, 1)
    assert score([good], []).shape == (1, 0)
    assert score([], []).shape == (0, 0)
    with pytest.raises(ValueError, match="frames are"):
        score([good, np.zeros((0, 2), np.float32)], [good])


@pytest.mark.parametrize("weights", [[1, -0.5], [-1, -1], [0, 0], [np.nan, 1], [np.inf, 1], [1]])
def test_weights_that_weigh_nothing_or_less_are_refused(weights):
    with pytest.raises(ValueError, match="weight"):
        pack([array([1, 0], [0, 1])], weights=[np.array(weights, np.float32)])


def test_a_duration_of_zero_is_none():
    found = duration_similarity([0.0, 2.0], [2.0, -1.0, np.inf, np.nan, 4.0])
    assert np.isnan(found[0]).all()
    assert found[1] == pytest.approx([0, np.nan, np.nan, np.nan, -np.log(2)], nan_ok=True)


def test_frames_that_are_not_numbers_give_a_score_that_is_none():
    scores = seqsim([array([1, 0])], [array([np.nan, 1]), array([1, 0])])
    assert np.isnan(scores[0, 0])
    assert scores[0, 1] == pytest.approx(1)


def test_all_negative_similarities_are_not_lifted_to_zero():
    """Padding with zeros would: the best of the padded frames would be 0."""
    query, candidates = array([1, 0]), [array([-1, 0]), array([-1, 1], [-1, -1], [-2, 0])]
    precision, recall = seqsim_both([query], candidates)
    assert precision[0] == pytest.approx([-1, -np.sqrt(0.5)])
    assert recall[0] == pytest.approx([-1, (-2 * np.sqrt(0.5) - 1) / 3])


def test_a_zero_frame_stays_zero():
    scores = seqsim_both([array([0, 0], [1, 0])], [array([1, 0]), array([0, 0])])
    assert scores[0].tolist() == [[0.5, 0]]
    assert scores[1].tolist() == [[1, 0]]
    assert seqsim([array([0, 0])], [array([0, 0])]).tolist() == [[0]]


# ---------------------------------------------------------------- fast equals reference

lengths = st.lists(st.integers(1, 6), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(
    lengths,
    lengths,
    st.integers(1, 8),
    st.integers(0, 10**6),
    st.sampled_from(REDUCTIONS),
    st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12)),
)
def test_fast_equals_reference(n, m, dim, seed, reduction, sizes):
    queries, candidates = ragged(*n, dim=dim, seed=seed), ragged(*m, dim=dim, seed=seed + 1)
    with pytest.MonkeyPatch.context() as patch:
        small_tiles(patch, *sizes)
        found = seqsim(queries, candidates, reduction=reduction)
    expected = by_reference(queries, candidates, reduction)
    if reduction == "f1":  # 2PR / (P + R) magnifies rounding without limit as P + R nears zero: judged elsewhere
        steady = np.abs(by_reference(queries, candidates, "mean")) > 0.05
        found, expected = np.where(steady, found, 0), np.where(steady, expected, 0)
    assert found == pytest.approx(expected, abs=TOLERANCE, rel=1e-5)


values = st.floats(-10, 10, width=16).filter(lambda x: x == 0 or abs(x) > 1e-3)
utterances = st.lists(
    hnp.arrays(np.float16, st.tuples(st.integers(1, 4), st.just(3)), elements=values), min_size=1, max_size=3
)


@settings(max_examples=60, deadline=None)
@given(utterances, utterances)
def test_fast_equals_reference_on_awkward_values(queries, candidates):
    """Zero rows, repeated rows, opposite rows, float16."""
    precision, recall = seqsim_both(queries, candidates)
    assert precision == pytest.approx(by_reference(queries, candidates, "precision"), abs=TOLERANCE)
    assert recall == pytest.approx(by_reference(queries, candidates, "recall"), abs=TOLERANCE)


def test_all_negative_random_input():
    queries = [np.abs(u) for u in ragged(3, 5, 1)]
    candidates = [-np.abs(u) for u in ragged(2, 7, seed=1)]
    for reduction in REDUCTIONS:
        expected = by_reference(queries, candidates, reduction)
        assert (expected <= 0).all()
        assert seqsim(queries, candidates, reduction=reduction) == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize("wrong", ["precision", "recall", "mean"])
def test_a_wrong_formula_would_be_noticed(wrong):
    """The comparison above can fail: another reduction is further away than the tolerance."""
    queries, candidates = ragged(3, 5, 1), ragged(2, 6, seed=1)
    right = by_reference(queries, candidates, "f1")
    assert np.abs(by_reference(queries, candidates, wrong) - right).max() > 100 * TOLERANCE


def test_padding_with_zeros_would_be_noticed():
    query, candidate = ragged(4)[0], -np.abs(ragged(3, seed=1)[0])
    padded = np.vstack([candidate, np.zeros((2, 5), np.float32)])
    for reduction in ("precision", "recall"):
        difference = seqsim_pair(np.abs(query), padded)[reduction] - seqsim_pair(np.abs(query), candidate)[reduction]
        assert abs(difference) > 100 * TOLERANCE


# ---------------------------------------------------------------- invariances


@pytest.mark.parametrize("compute", ["float32", "bfloat16", "int8"])
def test_the_size_of_tiles_changes_nothing(monkeypatch, compute):
    queries, candidates = ragged(3, 1, 8), ragged(1, 4, 2, 9, 1, 1)
    whole = seqsim_both(queries, candidates, compute=compute)
    for rows, columns, long in product((1, 2, 5, 19), (1, 3, 9, 19), (1, 4, 100)):
        small_tiles(monkeypatch, rows, columns, long)
        for found, expected in zip(seqsim_both(queries, candidates, compute=compute), whole, strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-6 if compute == "float32" else 1e-2)


@pytest.mark.parametrize("compute", ["float32", "bfloat16", "int8"])
def test_turning_the_tiles_changes_nothing(monkeypatch, compute):
    queries, candidates = ragged(3, 1, 8), ragged(1, 4, 2, 9, 1, 1)
    scores = []
    for short in (0, 10**6):
        monkeypatch.setattr(MODULE, "SHORT_FRAMES", short)
        scores.append(seqsim_both(queries, candidates, compute=compute))
    for never, always in zip(*scores, strict=True):
        np.testing.assert_allclose(never, always, atol=1e-6)


def test_tiles_hold_every_utterance_once():
    tiles = list(MODULE._tiles(pack(ragged(1, 4, 2, 9, 1, 1)), 5))
    assert [tile.lengths for tile in tiles] == [[1, 4], [2], [9], [1, 1]]
    assert [(tile.first, tile.last) for tile in tiles] == [(0, 2), (2, 3), (3, 4), (4, 6)]
    assert [tile.n for tile in tiles] == [5, 2, 9, 2]
    for tile, own in zip(tiles, torch.split(pack(ragged(1, 4, 2, 9, 1, 1)).frames, [5, 2, 9, 2]), strict=True):
        assert torch.equal(tile.frames[: tile.n], own)
        assert len(tile.frames) % 32 == 0  # shapes of products repeat


def test_memory_is_bounded_by_the_tile_and_not_by_the_utterances(monkeypatch):
    """A product larger than the tile allows must never be asked for."""
    small_tiles(monkeypatch, 16, 16, 32)
    sizes = []
    matmul, mm = torch.Tensor.__matmul__, torch.mm

    def spy(product):
        def watched(*args, **kwargs):
            result = product(*args, **kwargs)
            sizes.append(result.numel())
            return result

        return watched

    monkeypatch.setattr(torch.Tensor, "__matmul__", spy(matmul))
    monkeypatch.setattr(torch, "mm", spy(mm))
    seqsim(ragged(1000, 3, 3), ragged(2000, 5))
    assert max(sizes) <= 32 * 32


@pytest.mark.parametrize("compute", ["bfloat16", "int8"])
def test_rounded_products_are_close_negative_similarities_included(compute):
    queries, candidates = ragged(30, 7, 64, dim=3), ragged(1, 17, 33, dim=3, seed=1)
    queries.append(np.float32([[1, 0, 0]]))
    candidates.append(np.float32([[-1, 0, 0], [-1, 0.1, 0]]))  # with the last query: nothing but negative values
    exact = seqsim_both(queries, candidates)
    for found, expected in zip(seqsim_both(queries, candidates, compute=compute), exact, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-2)
    assert exact[0][-1, -1] < -0.9
    assert seqsim(queries, candidates, compute=compute).dtype == np.float32


def test_int8_survives_a_dimension_of_large_values():
    """One dimension in hundreds dominates Whisper's frames; a unit of its size would leave the others a few steps."""
    queries, candidates = ragged(30, 20, dim=256), ragged(40, 10, dim=256, seed=1)
    for frames in (*queries, *candidates):
        frames[:, 7] = 30
    exact = seqsim(queries, candidates)
    np.testing.assert_allclose(seqsim(queries, candidates, compute="int8"), exact, atol=1e-3)


def test_int8_keeps_the_corners():
    zero, broken, whole = np.zeros((3, 8), np.float32), np.full((2, 8), np.nan, np.float32), ragged(4, dim=8)[0]
    scores = seqsim([zero, broken, whole], [whole], compute="int8")[:, 0]
    assert scores[0] == 0
    assert np.isnan(scores[1])
    assert scores[2] == pytest.approx(1, abs=1e-2)
    assert seqsim([zero], [zero], compute="int8")[0, 0] == 0
    with pytest.raises(UsageError, match="int8 products run on the cpu only"):
        pack([whole], compute="int8", device="cuda")


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.float32, (5, 7), elements=st.floats(-2, 2, width=16)))
def test_maxima_of_bfloat16_by_their_bits_equal_maxima_by_value(values):
    block = torch.from_numpy(values).bfloat16()
    for dim in (0, 1):
        assert torch.equal(MODULE._best([block], dim)[0], block.float().amax(dim))


def test_weights_say_how_much_a_frame_counts():
    queries, candidates = ragged(4, 3), ragged(5)
    weights = [np.float32([2, 2, 2, 2]), np.float32([0, 1, 0])]
    precision, recall = seqsim_both(pack(queries, weights=weights), pack(candidates))
    plain, _ = seqsim_both([queries[0], queries[1][1:2]], candidates)
    np.testing.assert_allclose(precision, plain, atol=1e-6)  # equal weights; all weight on the second frame
    np.testing.assert_allclose(recall, seqsim_both(queries, candidates)[1], atol=1e-6)  # the candidate's own weights
    for wrong in ([np.ones(4), np.ones(2)], [np.ones(4), np.zeros(3)]):
        with pytest.raises(ValueError, match="don't fit"):
            pack(queries, weights=wrong)


def test_packed_utterances_serve_as_they_are():
    queries, candidates = ragged(3, 1, 8), ragged(1, 4)
    packed = pack(candidates)
    np.testing.assert_array_equal(seqsim(pack(queries), packed), seqsim(queries, candidates))
    assert [len(u) for u in packed.utterances()] == packed.lengths == [1, 4]
    with pytest.raises(ValueError, match="no utterances"):
        pack([])


def test_one_pair_equals_its_cell():
    queries, candidates = ragged(3, 5, 1), ragged(2, 6, 4, seed=1)
    scores = seqsim(queries, candidates)
    for i, query in enumerate(queries):
        for j, candidate in enumerate(candidates):
            assert seqsim([query], [candidate]).item() == pytest.approx(scores[i, j], abs=1e-6)


def test_reordering_utterances_reorders_scores():
    queries, candidates = ragged(3, 5, 1, 7), ragged(2, 6, 4, seed=1)
    rows, columns = [2, 0, 3, 1], [1, 2, 0]
    found = seqsim([queries[i] for i in rows], [candidates[j] for j in columns])
    np.testing.assert_allclose(found, seqsim(queries, candidates)[np.ix_(rows, columns)], atol=1e-6)


def test_swapping_sides_swaps_the_directions():
    a, b = ragged(3, 5, 1), ragged(2, 6, seed=1)
    precision, recall = seqsim_both(a, b)
    swapped_precision, swapped_recall = seqsim_both(b, a)
    np.testing.assert_allclose(swapped_precision, recall.T, atol=1e-6)
    np.testing.assert_allclose(swapped_recall, precision.T, atol=1e-6)
    for reduction in ("f1", "mean"):
        np.testing.assert_allclose(seqsim(a, b, reduction=reduction), seqsim(b, a, reduction=reduction).T, atol=1e-6)


def test_the_length_of_frames_is_ignored():
    queries, candidates = ragged(3, 5), ragged(2, 6, seed=1)
    rng = np.random.default_rng(0)
    scaled = [u * rng.uniform(0.01, 100, size=(len(u), 1)).astype(np.float32) for u in queries]
    np.testing.assert_allclose(seqsim(scaled, candidates), seqsim(queries, candidates), atol=1e-5)


def test_tensors_arrays_and_half_precision_agree():
    queries, candidates = ragged(3, 5), ragged(2, 6, seed=1)
    expected = seqsim(queries, candidates)
    tensors = [torch.from_numpy(u) for u in queries]
    np.testing.assert_array_equal(seqsim(tensors, candidates), expected)
    np.testing.assert_array_equal(seqsim(queries, [torch.from_numpy(u) for u in candidates]), expected)
    half = seqsim([u.astype(np.float16) for u in queries], [u.astype(np.float16) for u in candidates])
    np.testing.assert_allclose(half, expected, atol=2e-3)
    assert half.dtype == np.float32
    bfloat = seqsim([t.to(torch.bfloat16) for t in tensors], candidates)
    np.testing.assert_allclose(bfloat, expected, atol=2e-2)


def test_inputs_stay_as_they_were():
    queries, candidates = ragged(3), ragged(2, seed=1)
    before = queries[0].copy(), candidates[0].copy()
    for u in (*queries, *candidates):
        u.flags.writeable = False  # as a store hands them out
    seqsim(queries, candidates)
    tensor = torch.from_numpy(before[0].copy())
    seqsim([tensor], candidates)
    np.testing.assert_array_equal(queries[0], before[0])
    np.testing.assert_array_equal(candidates[0], before[1])
    np.testing.assert_array_equal(tensor.numpy(), before[0])


def test_large_float16_frames_dont_overflow():
    u = np.full((2, 512), 6e4, np.float16)
    assert seqsim([u], [u]).item() == pytest.approx(1, abs=1e-5)


def test_progress_counts_queries():
    done = []
    seqsim(ragged(900, 500, 100), ragged(2), advance=done.append)
    assert done == [1, 2]  # whole tiles


# ---------------------------------------------------------------- errors (tensors: arrays' shapes are checked by type)


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("shape", [(0, 5), (5,), (1, 2, 5)])
def test_utterances_without_frames_are_refused(side, shape):
    sides = [[torch.ones(2, 5)], [torch.ones(3, 5)]]
    sides[side].append(torch.ones(shape))
    with pytest.raises(ValueError, match=r"frames are \(T, D\) with T >= 1"):
        seqsim(*sides)


def test_different_widths_are_refused():
    with pytest.raises(ValueError, match="frames are 5 and 4 wide"):
        seqsim([torch.ones(2, 5)], [torch.ones(2, 4)])
    with pytest.raises(ValueError, match="wide"):
        inspect.unwrap(seqsim_pair)(np.ones((2, 5), np.float32), np.ones((2, 4), np.float32))


def test_different_widths_among_the_candidates_are_a_clear_error():
    with pytest.raises(ValueError, match="wide"):
        seqsim([torch.ones(2, 5)], [torch.ones(2, 5), torch.ones(2, 4)])


def test_shapes_are_checked_where_tests_run():
    with pytest.raises(TypeCheckError):
        seqsim_pair(np.ones(3, np.float32), np.ones((2, 3), np.float32))


def test_the_reference_refuses_utterances_without_frames():
    for n, m in ((0, 2), (2, 0)):
        with pytest.raises(ValueError, match="at least one frame"):
            seqsim_pair(np.ones((n, 3), np.float32), np.ones((m, 3), np.float32))


def test_an_unknown_reduction_is_refused():
    one = array([1])
    with pytest.raises(ValueError, match="unknown reduction 'median'"):
        inspect.unwrap(reduce_directions)(one, one, "median")


# ---------------------------------------------------------------- baselines and pictures


def test_mean_pooling_by_hand():
    queries = [array([1, 0], [0, 1]), array([0, 0])]
    candidates = [array([5, 5]), array([1, 0]), array([-1, -1], [-3, -3])]
    expected = [[1, np.sqrt(0.5), -1], [0, 0, 0]]
    assert mean_pool_cosine(queries, candidates) == pytest.approx(np.array(expected), abs=1e-6)


def test_mean_pooling_reads_half_precision_without_overflow():
    u = np.full((100, 3), 6e4, np.float16)
    assert mean_pool_cosine([u], [u]).item() == pytest.approx(1)


def test_duration_by_hand():
    expected = -np.log(2) * np.array([[1, 0, 2], [2, 1, 1]])
    assert duration_similarity([1.0, 2.0], [0.5, 1.0, 4.0]) == pytest.approx(expected)


def test_the_alignment_matrix_is_what_seqsim_takes_its_maxima_from():
    query, candidate = ragged(4)[0], ragged(6, seed=1)[0]
    cosines = alignment_matrix(query, candidate)
    expected = seqsim_pair(query, candidate)
    assert cosines.max(axis=1).mean() == pytest.approx(expected["precision"], abs=1e-6)
    assert cosines.max(axis=0).mean() == pytest.approx(expected["recall"], abs=1e-6)


def test_threads_take_tiles_of_their_own(monkeypatch):
    """As on one thread, whoever takes which tile; the number of threads and errors are as before."""
    rng = np.random.default_rng(0)
    sides = [[rng.standard_normal((int(n), 32)).astype(np.float32) for n in rng.integers(5, 90, 60)] for _ in "ab"]
    monkeypatch.setattr(f"{seqsim.__module__}.TILE_ROWS", 200)
    monkeypatch.setattr(f"{seqsim.__module__}.TILE_BYTES", 200 * 4 * 300)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = seqsim_both(*sides)
        torch.set_num_threads(3)
        done = []
        for found, one in zip(seqsim_both(*sides, advance=done.append), expected, strict=True):
            np.testing.assert_allclose(found, one, atol=1e-6)
        assert (sum(done), torch.get_num_threads()) == (60, 3)

        def stop(n):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            seqsim_both(*sides, advance=stop)
        monkeypatch.setattr(f"{seqsim.__module__}._tile", lambda *tile: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            seqsim_both(*sides)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
