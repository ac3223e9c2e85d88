"""Centring, whitening, the clock of positions and rarity: against plain loops, and what must not matter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlingua.retrieval.features import FrameTransform, fit_centring, fit_whitening, rarity_weights, with_position
from interlingua.retrieval.seqsim import alignment_matrix, pack, seqsim


def ragged(*lengths: int, dim: int = 5, seed: int = 0, dtype=np.float32) -> list[np.ndarray]:
    """Correlated frames of unequal variance around a mean far from zero."""
    rng = np.random.default_rng([seed, dim, *lengths])
    mix = np.linspace(0.5, 3, dim)[:, None] * np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    return [(rng.normal(size=(n, dim)) @ mix + 5).astype(dtype) for n in lengths]


def centred(*lengths: int, seed: int = 0) -> list[np.ndarray]:
    return [u - np.float32(5) for u in ragged(*lengths, seed=seed)]


def frozen(utterances: list[np.ndarray]) -> list[np.ndarray]:
    """As a store hands them out."""
    for u in utterances:
        u.setflags(write=False)
    return utterances


def covariance(utterances) -> np.ndarray:
    return np.cov(np.concatenate(utterances).T, bias=True)


def cosines(utterances) -> np.ndarray:
    frames = np.concatenate(list(utterances))
    return alignment_matrix(frames, frames)


def random_rotation(dim: int, seed: int = 0) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0].astype(np.float32)


def slow_inverse_root(matrix: np.ndarray) -> np.ndarray:
    """matrix^(-1/2) by the iteration of Denman and Beavers, which knows no eigenvectors."""
    y, z = matrix.astype(np.float64), np.eye(len(matrix))
    for _ in range(60):
        y, z = (y + np.linalg.inv(z)) / 2, (z + np.linalg.inv(y)) / 2
    return z


# ---------------------------------------------------------------- centring


def test_a_transform_is_its_formula():
    mean, matrix = np.array([1, 2], np.float32), np.array([[0, 1], [2, 0]], np.float32)
    frames = np.array([[1, 2], [2, 4]], np.float32)
    assert FrameTransform(mean)(frames).tolist() == [[0, 0], [1, 2]]
    assert FrameTransform(mean, matrix)(frames).tolist() == [[0, 0], [4, 1]]


def test_the_centred_background_has_zero_mean():
    background = frozen(ragged(20, 3, 40))
    centre = fit_centring(background)
    assert np.concatenate([centre(u) for u in background]).mean(axis=0) == pytest.approx(0, abs=1e-5)


def test_every_frame_counts_alike_in_the_mean_not_every_utterance():
    background = [np.zeros((3, 2), np.float32), np.full((1, 2), 4, np.float32)]
    assert fit_centring(background).mean.tolist() == [1, 1]


def test_float16_frames_are_summed_and_moved_in_more_digits():
    background = frozen([np.full((5000, 3), 60_000, np.float16), np.full((5000, 3), 60_032, np.float16)])
    centre = fit_centring(background)
    assert centre.mean == pytest.approx(60_016, abs=0.5)
    assert centre(background[1]).dtype == np.float32
    assert centre(background[1]) == pytest.approx(16, abs=0.5)


def test_a_shift_of_the_language_is_undone():
    background = ragged(9, 12)
    shifted = [u + np.float32(7) for u in background]
    there, here = fit_centring(shifted), fit_centring(background)
    np.testing.assert_allclose(there(shifted[0]), here(background[0]), atol=1e-5)


# ---------------------------------------------------------------- whitening


@pytest.mark.parametrize("shrinkage", [0.01, 0.1, 2.0])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_whitening_equals_the_slow_formula(shrinkage, dtype):
    background = frozen(ragged(30, 10, 50, dtype=dtype))
    c = covariance([u.astype(np.float64) for u in background])
    expected = slow_inverse_root(c + shrinkage * np.trace(c) / len(c) * np.eye(len(c)))
    fitted = fit_whitening(background, shrinkage)
    np.testing.assert_allclose(fitted.matrix, expected, atol=1e-4)
    np.testing.assert_allclose(fitted.mean, np.concatenate(background).mean(axis=0, dtype=np.float64), atol=1e-5)


def test_little_shrinkage_makes_the_covariance_the_identity():
    background = ragged(300, 200)
    white = fit_whitening(background, 1e-6)
    moved = [white(u) for u in background]
    assert covariance(moved) == pytest.approx(np.eye(5), abs=1e-3)
    assert np.concatenate(moved).mean(axis=0) == pytest.approx(0, abs=1e-4)


def test_directions_of_little_variance_stay_small_with_shrinkage():
    """One direction in five carries variance 4, so v = 0.8; the noise of the others is not blown up to 1."""
    frames = np.random.default_rng(0).normal(size=(2000, 5)) * [2, 0.01, 0.01, 0.01, 0.01]
    white = fit_whitening([frames.astype(np.float32)], 0.1)
    deviations = white(frames.astype(np.float32)).std(axis=0)
    assert deviations[0] == pytest.approx(np.sqrt(4 / (4 + 0.1 * 0.8)), rel=0.02)
    assert deviations[1:] == pytest.approx(0.01 / np.sqrt(0.1 * 0.8), rel=0.1)


def test_fewer_frames_than_dimensions_are_enough():
    background = ragged(3, 4, dim=12)
    white = fit_whitening(background)
    assert np.isfinite(white.matrix).all()
    values = np.linalg.eigvalsh(covariance(background))
    assert np.linalg.eigvalsh(white.matrix).max() == pytest.approx(1 / np.sqrt(0.1 * values.mean()), rel=1e-3)


def test_the_matrix_is_symmetric_and_positive():
    """That is what makes it ZCA rather than another root: no axis is exchanged or turned more than needed."""
    matrix = fit_whitening(ragged(50, 60)).matrix
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-6)
    assert np.linalg.eigvalsh(matrix).min() > 0


def test_much_shrinkage_is_centring():
    background = ragged(20, 30)
    white, centre = fit_whitening(background, 1e5), fit_centring(background)
    np.testing.assert_allclose(cosines(map(white, background)), cosines(map(centre, background)), atol=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_cosines_dont_depend_on_an_affine_map_of_the_language(seed):
    """Scaling every dimension, mixing them and shifting all: with little shrinkage nothing of it is left."""
    background = ragged(100, 80, seed=seed)
    rng = np.random.default_rng(seed)
    affine = (random_rotation(5, seed) * rng.uniform(0.5, 4, 5)) @ random_rotation(5, seed + 100)
    shift = rng.normal(size=5)
    moved = [(u @ affine + shift).astype(np.float32) for u in background]
    assert np.abs(cosines(moved) - cosines(background)).max() > 0.1
    here, there = fit_whitening(background, 1e-7), fit_whitening(moved, 1e-7)
    np.testing.assert_allclose(cosines(map(there, moved)), cosines(map(here, background)), atol=2e-3)


@pytest.mark.parametrize("shrinkage", [0.01, 0.1, 1.0])
def test_rotation_scale_and_shift_never_matter(shrinkage):
    background = ragged(40, 30)
    moved = [(3 * u @ random_rotation(5) - 2).astype(np.float32) for u in background]
    here, there = fit_whitening(background, shrinkage), fit_whitening(moved, shrinkage)
    np.testing.assert_allclose(cosines(map(there, moved)), cosines(map(here, background)), atol=1e-4)


def test_frames_that_were_not_in_the_background_are_moved_as_the_others():
    background, (other,) = ragged(40, 30), ragged(4, seed=1)
    white = fit_whitening(background)
    np.testing.assert_allclose(white(other), (other - white.mean) @ white.matrix, atol=1e-6)
    assert other.tolist() == ragged(4, seed=1)[0].tolist()  # a copy is moved


@pytest.mark.parametrize("shrinkage", [0.0, -0.1, float("nan")])
def test_shrinkage_must_be_above_zero(shrinkage):
    with pytest.raises(ValueError, match="must be above 0"):
        fit_whitening(ragged(4), shrinkage)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_equal_frames_are_refused(dtype):
    with pytest.raises(ValueError, match="all equal"):
        fit_whitening([np.full((700, 3), 0.1, dtype), np.full((5, 3), 0.1, dtype)])
    with pytest.raises(ValueError, match="all equal"):
        fit_whitening([np.ones((1, 3), dtype)])


# ---------------------------------------------------------------- position


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 7), st.integers(1, 7), st.floats(0, 3), st.integers(0, 99))
def test_position_is_its_formula(n, m, weight, seed):
    query, candidate = ragged(n, seed=seed)[0], ragged(m, seed=seed + 1)[0]
    moved = alignment_matrix(with_position(query, weight), with_position(candidate, weight))
    plain = alignment_matrix(query, candidate)
    for i in range(n):
        for j in range(m):
            apart = i / max(n - 1, 1) - j / max(m - 1, 1)
            expected = (plain[i, j] + weight * np.cos(np.pi * apart)) / (1 + weight)
            assert moved[i, j] == pytest.approx(expected, abs=1e-5)


def test_position_appends_two_values_and_keeps_the_rows_unit_otherwise():
    (frames,) = frozen(ragged(6, dtype=np.float16))
    moved = with_position(frames, 0.25)
    assert (moved.shape, moved.dtype) == ((6, 7), np.float32)
    assert np.linalg.norm(moved[:, :5], axis=1) == pytest.approx(1)
    assert np.linalg.norm(moved[:, 5:], axis=1) == pytest.approx(0.5)
    np.testing.assert_allclose(with_position(frames.astype(np.float32) * 8, 0.25), moved, atol=1e-6)


def test_position_attracts_the_same_order_of_the_same_frames():
    (frames,) = centred(8)
    backwards = frames[::-1]
    assert seqsim([frames], [backwards]).item() == pytest.approx(1, abs=1e-6)
    straight, backwards = (seqsim([with_position(frames, 0.5)], [with_position(f, 0.5)]) for f in (frames, backwards))
    assert straight.item() == pytest.approx(1, abs=1e-6)
    assert backwards.item() < 0.95


def test_a_place_in_time_makes_no_number_of_frames_that_have_none():
    frames, bad = ragged(4, 4)
    bad[2, 1] = np.nan
    assert np.isnan(seqsim([frames], [bad])).all()
    assert np.isnan(seqsim([with_position(frames, 0.1)], [with_position(bad, 0.1)])).all()


# ---------------------------------------------------------------- rarity


def slow_rarity(frames, background, cluster, background_clusters) -> list[float]:
    """For each frame: the best match in each utterance of another cluster, their mean, its distance from 1 squared."""
    weights = []
    for x in frames.astype(np.float64):
        best = []
        for other, name in zip(background, background_clusters, strict=True):
            if name != cluster:
                best.append(max(float(x @ y / np.linalg.norm(x) / np.linalg.norm(y)) for y in other.astype(float)))
        mean = sum(best) / len(best) if best else 0
        weights.append(max(1 - mean, 0.05) ** 2)
    return weights


def test_rarity_equals_the_slow_loop():
    utterances, background = centred(3, 1, 6, 2), centred(4, 2, 5, 1, 3, seed=1)
    clusters, background_clusters = ["a", "b", "c", "z"], ["b", "a", "b", "d", "a"]
    weights = rarity_weights(utterances, background, clusters, background_clusters)
    assert [len(w) for w in weights] == [3, 1, 6, 2]
    for frames, cluster, found in zip(utterances, clusters, weights, strict=True):
        np.testing.assert_allclose(found, slow_rarity(frames, background, cluster, background_clusters), atol=1e-5)


def test_an_utterances_own_cluster_is_left_out():
    """Its own words in the background would make them look common; so would a second recording of them."""
    own, *others = centred(5, 4, 6)
    without = rarity_weights([own], others, ["a"], ["b", "c"])[0]
    within = rarity_weights([own], [own, *others, own[::-1]], ["a"], ["a", "b", "c", "a"])[0]
    assert within == pytest.approx(without, abs=1e-6)
    another = rarity_weights([own], [own, *others, own[::-1]], ["z"], ["a", "b", "c", "a"])[0]
    assert (another < without).all()


def test_all_count_alike_where_no_other_cluster_is_known():
    own, other = centred(5, 4)
    assert rarity_weights([own], [own, other], ["a"], ["a", "a"])[0].tolist() == [1] * 5


def test_a_frame_found_everywhere_counts_little_but_not_nothing():
    """The silence in the middle; an utterance of silence alone must still have a mean."""
    silence, words = np.eye(6, dtype=np.float32)[5:], np.eye(6, dtype=np.float32)
    background = [np.concatenate([words[i : i + 1], silence]) for i in range(3)]
    utterances = [np.concatenate([words[3:4], silence, words[4:5]]), silence]
    spoken, silent = rarity_weights(utterances, background, ["x", "y"], ["a", "b", "c"])
    assert spoken == pytest.approx([1, 0.05**2, 1])
    assert silent == pytest.approx([0.05**2])
    packed = pack(utterances, weights=[spoken, silent])
    assert packed.weights.tolist() == pytest.approx([1 / 2.0025, 0.0025 / 2.0025, 1 / 2.0025, 1])


@pytest.mark.parametrize("size", [1e-30, 1e-12, 1e12, 1e30])
def test_frames_of_any_size_are_whitened_alike(size):
    frames = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32) * np.arange(1, 9, dtype=np.float32)
    expected = fit_whitening([frames])(frames)
    scaled = (frames * np.float64(size)).astype(np.float32)
    np.testing.assert_allclose(fit_whitening([scaled])(scaled), expected, rtol=1e-3, atol=1e-4)
