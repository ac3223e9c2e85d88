"""Coordinates by SeqSim to anchors: against a slow reference, and as estimates of SeqSim."""

import numpy as np
import pytest

from interlingua.index.vectors import RIDGE, AnchorVectors
from interlingua.retrieval.reference import seqsim_pair
from interlingua.retrieval.seqsim import pack, seqsim


def speech(n: int, seed: int = 0, dim: int = 8) -> list[np.ndarray]:
    """Utterances of three of six words, four frames each."""
    rng, words = np.random.default_rng(seed), np.random.default_rng(7).standard_normal((6, dim))
    sentences = [words[rng.choice(6, 3)].repeat(4, axis=0) for _ in range(n)]
    return [(s + 0.3 * rng.standard_normal(s.shape)).astype(np.float32) for s in sentences]


def slow_vectors(utterances: list[np.ndarray], anchors: list[np.ndarray]) -> np.ndarray:
    """Scores pair by pair; the inverse root by diagonals."""
    among = np.array([[seqsim_pair(a, b)["f1"] for b in anchors] for a in anchors])
    values, directions = np.linalg.eigh(among)
    scores = np.array([[seqsim_pair(u, a)["f1"] for a in anchors] for u in utterances])
    columns = []
    for value, direction in sorted(zip(values, directions.T, strict=True), key=lambda pair: -pair[0]):
        columns.append(scores @ direction * np.sqrt(max(value, 0)) / (max(value, 0) + RIDGE * values.mean()))
    return np.stack(columns, axis=1)


def test_vectors_equal_the_slow_reference():
    utterances, anchors = speech(9), speech(5, seed=1)
    found, expected = AnchorVectors(anchors)(utterances), slow_vectors(utterances, anchors)
    assert found.dtype == np.float32
    assert found.shape == (9, 5)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-4)  # a direction's sign is free
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-4)


def test_inner_products_are_the_scores_to_the_anchors():
    utterances, anchors = speech(30), speech(12, seed=1)
    vectors = AnchorVectors(anchors)
    found = vectors(utterances) @ vectors(anchors).T
    assert np.abs(found - seqsim(utterances, anchors)).max() < 0.05


def test_inner_products_estimate_seqsim_of_other_utterances():
    queries, gallery = speech(40, seed=2), speech(80, seed=3)
    vectors = AnchorVectors(speech(60, seed=4))
    estimated, exact = vectors(queries) @ vectors(gallery).T, seqsim(queries, gallery)
    assert np.corrcoef(estimated.ravel(), exact.ravel())[0, 1] > 0.9


def test_a_vector_does_not_depend_on_the_others():
    utterances, vectors = speech(7), AnchorVectors(speech(5, seed=1))
    np.testing.assert_allclose(vectors(utterances)[3:4], vectors(utterances[3:4]), atol=1e-5)


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_packed_utterances_give_the_same(compute):
    utterances, vectors = speech(7), AnchorVectors(speech(5, seed=1), compute)
    np.testing.assert_array_equal(vectors(pack(utterances, compute=compute)), vectors(utterances))


def test_equal_anchors_do_no_harm():
    anchors = speech(4, seed=1)
    assert np.isfinite(AnchorVectors([*anchors, *anchors])(speech(3))).all()


def test_an_utterance_of_broken_frames_has_no_vector():
    broken = [np.full((3, 8), np.nan, np.float32), *speech(1)]
    found = AnchorVectors(speech(5, seed=1))(broken)
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1]).all()
