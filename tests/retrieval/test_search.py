"""Coarse-to-fine search: against plain loops, what a coarse pass loses and keeps, ties and frames that are none."""

import numpy as np
import pytest

from interlingua.errors import UsageError
from interlingua.retrieval.features import fit_whitening, with_position
from interlingua.retrieval.hubness import csls, neighbourhood
from interlingua.retrieval.methods import METHODS, Method
from interlingua.retrieval.reference import seqsim_pair
from interlingua.retrieval.search import STAGES, Gallery, Ranking, Stage, agreement
from interlingua.retrieval.seqsim import pack, seqsim

REDUCTIONS = ("precision", "recall", "mean", "f1")
TOLERANCE = 1e-4  # of SeqSim


def plain(frames, *, reduction="f1", **options):
    """A gallery that compares frames as they are."""
    return Gallery(frames, Method(reduction=reduction), **options)


def speech(n: int, dim: int = 6, seed: int = 0, shortest: int = 1, longest: int = 30) -> list[np.ndarray]:
    """Frames that change slowly, so that pooling leaves something, with a mean that all utterances share."""
    rng = np.random.default_rng([seed, n, dim])
    lengths = rng.integers(shortest, longest, size=n, endpoint=True)
    return [(np.cumsum(rng.normal(size=(t, dim)), axis=0) + 2).astype(np.float32) for t in lengths]


def answered(gallery: list[np.ndarray], n: int, noise: float = 2.0, seed: int = 9) -> list[np.ndarray]:
    """Queries of which number i answers to candidate i, without being equal to it."""
    rng = np.random.default_rng(seed)
    return [(u + rng.normal(scale=noise, size=u.shape)).astype(np.float32) for u in gallery[:n]]


def one_hot(*places: int, dim: int = 4) -> np.ndarray:
    """Unit frames: their products are exact, so that equal scores are equal to the last bit."""
    return np.eye(dim, dtype=np.float32)[list(places)]


def lists(ranking: Ranking) -> list[list[int]]:
    return ranking.candidates.tolist()


# ---------------------------------------------------------------- plain loops


def slow_pool(frames: np.ndarray, pooling: int) -> np.ndarray:
    return np.array([frames[i : i + pooling].mean(axis=0) for i in range(0, len(frames), pooling)])


def slow_search(queries, gallery, stages, top, reduction="f1") -> list[list[tuple[int, float]]]:
    """Candidates and scores of each query; every pass sorts what the one before kept, NaN last."""
    found = []
    for query in queries:
        kept = list(range(len(gallery)))
        scores: dict[int, float] = {}
        for pooling, keep in [*((s.pooling, max(s.keep, top)) for s in stages), (1, top)]:
            q = slow_pool(query, pooling)
            scores = {j: seqsim_pair(q, slow_pool(gallery[j], pooling))[reduction] for j in kept}
            kept = sorted(sorted(kept), key=lambda j: -scores[j])[:keep]
        found.append([(j, scores[j]) for j in kept])
    return found


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    "stages", [(), (Stage(4, 5),), (Stage(8, 9), Stage(2, 4)), (Stage(3, 2),)], ids=["none", "one", "two", "narrow"]
)
def test_the_search_equals_the_slow_loop(stages, reduction):
    gallery = speech(14, dim=4, longest=12)
    queries = answered(gallery, 4)
    expected = slow_search(queries, gallery, stages, 3, reduction)
    found = plain(gallery, stages=stages, reduction=reduction).search(queries, top=3)
    assert lists(found) == [[j for j, _ in row] for row in expected]
    np.testing.assert_allclose(found.scores, [[s for _, s in row] for row in expected], atol=TOLERANCE)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_exhaustive_search_sorts_seqsim(reduction):
    gallery = speech(50)
    queries = answered(gallery, 20)
    scores = seqsim(queries, gallery, reduction=reduction)
    found = plain(gallery, stages=(), reduction=reduction).search(queries, top=7)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :7]
    np.testing.assert_array_equal(found.candidates, order)
    np.testing.assert_allclose(found.scores, np.take_along_axis(scores, order, axis=1), atol=1e-6)


@pytest.mark.parametrize("stages", [(Stage(8, 40),), (Stage(8, 1000),), (Stage(8, 40), Stage(4, 40), Stage(2, 40))])
def test_a_coarse_pass_that_keeps_all_loses_nothing(stages):
    gallery = speech(40)
    queries = answered(gallery, 12)
    exhaustive = plain(gallery, stages=()).search(queries, top=40)
    found = plain(gallery, stages=stages).search(queries, top=40)
    np.testing.assert_array_equal(found.candidates, exhaustive.candidates)
    np.testing.assert_allclose(found.scores, exhaustive.scores, atol=1e-6)
    assert agreement(found, exhaustive) == 1


def test_scores_are_those_of_unpooled_frames_best_first():
    gallery = speech(40)
    queries = answered(gallery, 10)
    found = plain(gallery, stages=(Stage(8, 6), Stage(4, 5))).search(queries, top=4)
    exact = seqsim(queries, gallery)
    np.testing.assert_allclose(found.scores, np.take_along_axis(exact, found.candidates, axis=1), atol=1e-6)
    assert (np.diff(found.scores, axis=1) <= 0).all()
    assert (found.candidates.dtype, found.scores.dtype) == (np.int64, np.float32)
    assert all(len(set(row)) == 4 for row in lists(found))


def test_the_usual_stage_keeps_the_answer():
    """Pooling by 8 and a shortlist of a tenth find nearly what the exhaustive search finds."""
    gallery = speech(200, shortest=40, longest=60)
    queries = answered(gallery, 15, noise=1.0)
    exhaustive = plain(gallery, stages=()).search(queries, top=1)
    found = plain(gallery, stages=(Stage(8, 20),)).search(queries, top=1)
    assert lists(exhaustive) == [[i] for i in range(15)]
    assert agreement(found, exhaustive) >= 0.8


# ---------------------------------------------------------------- methods


@pytest.mark.parametrize("given", [False, True])
def test_the_default_is_that_of_an_evaluation_without_folds(given):
    """Each side whitened by its own, positions, and neighbourhoods among the gallery and the background."""
    gallery, other = speech(30, shortest=8), answered(speech(25, seed=3, shortest=8), 25)
    queries = answered(gallery, 22)
    background = other if given else queries
    whiten = fit_whitening(background)
    asked, known = ([with_position(whiten(f), 0.1) for f in side] for side in (queries, background))
    whiten = fit_whitening(gallery)
    candidates = [with_position(whiten(f), 0.1) for f in gallery]
    scores = seqsim(asked, candidates)
    scores = csls(scores, neighbourhood(scores, 5), neighbourhood(seqsim(known, candidates).T, 5))
    found = Gallery(gallery, stages=()).search(queries, top=30, background=other if given else None)
    order = np.argsort(-scores, axis=1, kind="stable")
    np.testing.assert_allclose(found.scores, np.take_along_axis(scores, order, axis=1), atol=1e-5)
    assert (found.candidates == order).mean() > 0.99
    kept = Gallery(gallery, stages=(Stage(2, 15),)).search(queries, top=3, background=other if given else None)
    assert agreement(kept, Ranking(found.candidates[:, :3], found.scores[:, :3])) > 0.8


@pytest.mark.parametrize("name", ["whitened", "centred-csls", "whitened-margin", "csls"])
def test_every_seqsim_method_can_be_searched_by(name):
    gallery = speech(30, shortest=8)
    queries = answered(gallery, 20, noise=0.5)
    found = Gallery(gallery, METHODS[name], stages=(Stage(4, 20),)).search(queries, top=1)
    assert np.mean([[i] == row for i, row in enumerate(lists(found))]) > 0.7


@pytest.mark.parametrize("name", ["dtw", "mean-pool", "duration", "cascade", "whitened-rare-csls"])
def test_methods_of_another_kind_are_refused(name):
    with pytest.raises(UsageError, match="searched by SeqSim of whole frames alone"):
        Gallery(speech(3), METHODS[name])


def test_frames_that_are_no_numbers_spoil_no_estimate():
    gallery = speech(30, shortest=8)
    gallery[3][0, 0] = np.nan
    found = Gallery(gallery, stages=(Stage(2, 20),)).search(answered(gallery, 20, noise=0.5)[4:], top=5)
    assert np.isfinite(found.scores).all()
    assert 3 not in found.candidates


# ---------------------------------------------------------------- what a coarse pass does


def test_a_candidate_that_pooling_hides_is_lost_unless_enough_are_kept():
    """The first candidate equals the query but for the order of frames; pooled by 2 it looks like something else."""
    query = one_hot(0, 0, 1, 1)
    gallery = [one_hot(0, 1, 0, 1), one_hot(0, 0, 0, 0), one_hot(2, 2, 3, 3)]
    assert lists(plain(gallery, stages=()).search([query], top=1)) == [[0]]
    coarse = seqsim([one_hot(0, 1)], [np.full((2, 4), [0.5, 0.5, 0, 0], np.float32), one_hot(0, 0), one_hot(2, 3)])
    assert coarse[0].argsort().tolist() == [2, 1, 0]  # 0.71, 0.67 and 0
    assert lists(plain(gallery, stages=(Stage(2, 1),)).search([query], top=1)) == [[0]]
    gallery[1] = one_hot(0, 0, 0, 0, 1, 1)  # now the coarse pass prefers it
    assert lists(plain(gallery, stages=(Stage(2, 1),)).search([query], top=1)) == [[1]]
    assert lists(plain(gallery, stages=(Stage(2, 2),)).search([query], top=1)) == [[0]]


def test_a_shortlist_is_never_shorter_than_what_is_asked_for():
    gallery = speech(12)
    found = plain(gallery, stages=(Stage(8, 1), Stage(2, 1))).search(gallery[:2], top=5)
    assert found.candidates.shape == found.scores.shape == (2, 5)


def test_queries_dont_disturb_each_other():
    gallery = speech(30)
    queries = answered(gallery, 6)
    searched = plain(gallery, stages=(Stage(8, 10), Stage(2, 5)))
    together = searched.search(queries, top=3)
    for n, query in enumerate(queries):
        alone = searched.search([query], top=3)
        assert lists(alone)[0] == lists(together)[n]
        np.testing.assert_allclose(alone.scores[0], together.scores[n], atol=1e-6)


# ---------------------------------------------------------------- ties


@pytest.mark.parametrize("stages", [(), (Stage(2, 2),), (Stage(4, 3), Stage(2, 2))])
def test_ties_go_to_the_earlier_candidate(stages):
    query = one_hot(0, 0, 1, 1)
    other = one_hot(2, 2, 3, 3)
    gallery = [other, query, query, other, query, query]
    found = plain(gallery, stages=stages).search([query, other], top=2)
    assert lists(found) == [[1, 2], [0, 3]]


def test_many_ties_stay_in_order():
    query, other = one_hot(0, 0, 1, 1), one_hot(2, 2, 3, 3)
    gallery = [other, query] * 200
    for stages in ((), (Stage(2, 90),)):
        assert lists(plain(gallery, stages=stages).search([query], top=80)) == [list(range(1, 160, 2))]


def test_ties_of_exact_scores_go_to_the_earlier_even_where_the_coarse_ones_differ():
    query = one_hot(0, 0, 1, 1)
    shuffled = one_hot(0, 1, 0, 1)  # the same score exactly, a lower one pooled
    for stages in ((), (Stage(2, 2),), (Stage(4, 2), Stage(2, 2))):
        found = plain([shuffled, query], stages=stages).search([query], top=2)
        assert lists(found) == [[0, 1]]
        assert found.scores.tolist() == [[1, 1]]


# ---------------------------------------------------------------- frames that are none


@pytest.mark.parametrize("stages", [(), (Stage(4, 4),), (Stage(8, 5), Stage(2, 4))])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_candidates_with_frames_that_are_no_numbers_never_win(stages, value):
    gallery = speech(8, shortest=8)
    queries = answered(gallery, 8)
    for i in (0, 3):
        gallery[i][5, 2] = value
    found = plain(gallery, stages=stages).search(queries, top=4)
    assert not np.isin(found.candidates, [0, 3]).any()
    assert np.isfinite(found.scores).all()
    everything = plain(gallery, stages=stages).search(queries, top=8)
    assert np.sort(everything.candidates[:, 6:], axis=1).tolist() == [[0, 3]] * 8
    assert np.isnan(everything.scores[:, 6:]).all()
    assert np.isfinite(everything.scores[:, :6]).all()


@pytest.mark.parametrize("stages", [(), (Stage(2, 2),)])
def test_no_number_is_behind_the_worst_of_scores(stages):
    query, bad = one_hot(0, 0), np.full((2, 4), np.nan, np.float32)
    found = plain([bad, -query, -one_hot(0, 1)], stages=stages, reduction="mean").search([query], top=2)
    assert lists(found) == [[2, 1]]
    assert found.scores[0] == pytest.approx([-0.25, -1])


def test_a_query_with_frames_that_are_no_numbers_finds_nothing_that_has_a_score():
    gallery = speech(5)
    bad = gallery[0].copy()
    bad[0, 0] = np.nan
    for stages in ((), (Stage(2, 3),)):
        found = plain(gallery, stages=stages).search([bad, gallery[1]], top=2)
        assert np.isnan(found.scores[0]).all()
        assert lists(found)[1][0] == 1


# ---------------------------------------------------------------- sizes and options


def test_more_than_there_are_gives_all():
    gallery = speech(3)
    for stages in ((), STAGES):
        found = plain(gallery, stages=stages).search(gallery, top=10)
        assert found.candidates.shape == found.scores.shape == (3, 3)
        assert np.sort(found.candidates, axis=1).tolist() == [[0, 1, 2]] * 3
        assert found.candidates[:, 0].tolist() == [0, 1, 2]
    assert len(plain(gallery)) == 3


def test_no_queries_give_an_empty_ranking():
    found = plain(speech(4)).search([], top=2)
    assert found.candidates.shape == found.scores.shape == (0, 2)


def test_frames_shorter_than_the_pooling_are_one_frame():
    gallery = speech(6, longest=3)
    assert lists(plain(gallery, stages=(Stage(8, 6),)).search(gallery, top=1)) == [[i] for i in range(6)]


def test_the_first_rows_of_a_ranking():
    gallery = speech(6)
    found = plain(gallery).search(gallery, top=3)
    first = found.first(2)
    assert lists(first) == lists(found)[:2]
    assert first.scores.tolist() == found.scores[:2].tolist()
    assert agreement(first, plain(gallery).search(gallery[:2], top=3)) == 1


def test_progress_counts_queries():
    done: list[int] = []
    for stages in ((), (Stage(4, 3),)):
        plain(speech(6), stages=stages).search(speech(4, seed=1), advance=done.append)
    assert sum(done) == 8


def test_stored_frames_are_read_only_and_half_as_wide():
    gallery = speech(20, shortest=10)
    stored = [u.astype(np.float16) for u in gallery]
    for u in stored:
        u.setflags(write=False)
    queries = answered(gallery, 5)
    expected = plain([u.astype(np.float32) for u in stored], stages=(Stage(8, 8),)).search(queries, top=3)
    found = plain(stored, stages=(Stage(8, 8),)).search(queries, top=3)
    assert lists(found) == lists(expected)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)


def test_bfloat16_products_are_coarser_and_find_the_same():
    gallery = speech(30, shortest=10)
    queries = answered(gallery, 10, noise=1.0)
    exact = plain(gallery, stages=()).search(queries, top=1)
    found = plain(gallery, stages=(), compute="bfloat16").search(queries, top=1)
    assert lists(found) == lists(exact) == [[i] for i in range(10)]
    assert 0 < np.abs(found.scores - exact.scores).max() < 0.02


@pytest.mark.parametrize("poolings", [(2, 8), (8, 2, 4), (1,), (8, 1), (0,), (8, 8)])
def test_stages_that_dont_get_finer_are_refused(poolings):
    with pytest.raises(UsageError, match=r"--coarse pools by \[.*\]; name the coarsest pass first"):
        plain(speech(3), stages=[Stage(p, 9) for p in poolings])


def test_a_stage_is_read_from_its_text():
    assert Stage.parse("8:200") == Stage(8, 200)
    assert Stage.parse("2:1") == Stage(2, 1)


@pytest.mark.parametrize("text", ["", "8", "8:", ":200", "1:200", "8:0", "-8:200", "8:-1", "8:200:3", "8.0:2", "8:2\n"])
def test_a_text_that_is_no_stage_is_refused(text):
    with pytest.raises(UsageError, match=r"--coarse '.*': use pooling:keep, such as 8:300"):
        Stage.parse(text)


def test_an_empty_gallery_is_refused():
    with pytest.raises(ValueError, match="no utterances"):
        plain([])


# ---------------------------------------------------------------- agreement


def ranking(*rows) -> Ranking:
    candidates = np.array(rows)
    return Ranking(candidates, np.zeros(candidates.shape, np.float32))


def test_agreement_by_hand():
    exhaustive = ranking([0, 1, 2, 3], [4, 5, 6, 7])
    assert agreement(exhaustive, exhaustive) == 1
    assert agreement(ranking([3, 2, 1, 0], [7, 6, 5, 4]), exhaustive) == 1  # the order doesn't matter
    assert agreement(ranking([0, 1, 2, 9], [4, 9, 8, 0]), exhaustive) == pytest.approx((3 / 4 + 1 / 4) / 2)
    assert agreement(ranking([4, 5, 6, 7], [0, 1, 2, 3]), exhaustive) == 0  # rows are compared with their own


def test_rankings_that_dont_compare_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 2\) and \(1, 3\) don't compare"):
        agreement(ranking([0, 1]), ranking([0, 1, 2]))
    with pytest.raises(ValueError, match="don't compare"):
        agreement(ranking([0, 1]), ranking([0, 1], [2, 3]))
    nothing = plain(speech(4)).search([], top=2)
    with pytest.raises(ValueError, match="don't compare"):
        agreement(nothing, nothing)


# ---------------------------------------------------------------- Packed.take


def test_taking_utterances_is_packing_them():
    utterances = speech(5)
    utterances[3][0, 0] = np.nan
    weights = [np.arange(1, len(u) + 1, dtype=np.float32) for u in utterances]
    for chosen in ([3, 0, 4], [2], [1, 1], np.array([4, 3])):
        taken = pack(utterances, weights=weights).take(chosen)
        packed = pack([utterances[i] for i in chosen], weights=[weights[i] for i in chosen])
        assert taken.lengths == packed.lengths
        for name in ("frames", "weights", "finite"):
            assert getattr(taken, name).tolist() == getattr(packed, name).tolist()
