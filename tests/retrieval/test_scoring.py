"""Scores of whole languages: the protocol against plain loops, what the estimates may not see, and every option."""

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest
from msgspec import to_builtins

from helpers import utterance
from interlingua.encoding.store import FrameStore
from interlingua.errors import CorpusError
from interlingua.experiments.retrieval import Corpus, measure, score_pairs
from interlingua.retrieval import evaluate
from interlingua.retrieval.evaluate import Items, Scorer, Speech
from interlingua.retrieval.methods import METHODS, Method
from interlingua.retrieval.reference import seqsim_pair
from interlingua.retrieval.seqsim import seqsim
from interlingua.types import Frames, FrameSpec

FOLDS, SEED, N_CLUSTERS, DIM = 3, 12345, 12, 4
AROUND = 40
CLUSTERS = [f"c{i:02}" for i in range(N_CLUSTERS)]
SCORED = [m for m in METHODS if m not in ("cascade", "head")]
ESTIMATING = [m for m in SCORED if METHODS[m].estimates]
KINDS = ["whitened-position-csls", "centred", "whitened-rare-csls", "whitened-duration-csls"]  # of estimates
FOUR_DECIMALS = {"rtol": 0, "atol": 1e-4}


def spoken(language: str, clusters: Sequence[str]) -> Speech:
    """What is said follows the cluster, how it sounds follows the language; durations are unequal.

    As Whisper's, all frames share a large mean.
    """
    rng = np.random.default_rng([*language.encode()])
    accent, mean = np.eye(DIM) + 0.4 * rng.normal(size=(DIM, DIM)), 2 + rng.normal(size=DIM)
    frames = []
    for cluster in clusters:
        words = np.random.default_rng([*cluster.encode()]).normal(size=(6, DIM))[: rng.integers(3, 6)]
        frames.append(((words + 0.4 * rng.normal(size=words.shape)) @ accent + mean).astype(np.float32))
    return Speech(frames, np.exp(rng.normal(size=len(clusters))).tolist(), list(clusters))


def three_languages() -> dict[str, Speech]:
    """12 clusters: English has two recordings of some, French lacks one, and no two languages have the same order."""
    shuffled = [CLUSTERS[i] for i in np.random.default_rng(0).permutation(N_CLUSTERS)]
    return {
        "en": spoken("en", [*CLUSTERS, "c02", "c07"]),
        "fr": spoken("fr", [c for c in shuffled if c != "c03"]),
        "sw": spoken("sw", [*reversed(CLUSTERS), "c05"]),
    }


def score(speech: dict[str, Speech], method: Method, a: str = "en", b: str = "fr", **options):
    return Scorer(speech, method, **options).score([(a, b)])[0]


# ---------------------------------------------------------------- the protocol in plain loops


def slow_places(speech: dict[str, Speech]) -> dict[str, int]:
    """The clusters in a random order: three neighbours go to three folds."""
    clusters = sorted({c for side in speech.values() for c in side.clusters})
    order = np.random.default_rng(SEED).permutation(len(clusters))
    return {clusters[c]: place for place, c in enumerate(order)}


def in_fold(speech: dict[str, Speech], language: str, fold: int) -> list[int]:
    place = slow_places(speech)
    return [i for i, c in enumerate(speech[language].clusters) if place[c] % FOLDS == fold]


def slow_background(speech, language: str, fold: int, side: int, limit: int | None = None) -> list[int]:
    """The fold after the tested one for the first language of a pair, side 0, and the one before for the second."""
    place, clusters = slow_places(speech), speech[language].clusters
    known = [i for i, c in enumerate(clusters) if (place[c] - fold) % FOLDS == (1, 2)[side]]
    return sorted(known, key=lambda i: place[clusters[i]])[:limit]


def slow_inverse_root(matrix: np.ndarray) -> np.ndarray:
    """matrix^(-1/2) by the iteration of Denman and Beavers."""
    y, z = matrix, np.eye(len(matrix))
    for _ in range(40):
        y, z = (y + np.linalg.inv(z)) / 2, (z + np.linalg.inv(y)) / 2
    return z


def slow_frames(side: Speech, background: list[int], method: Method) -> list[np.ndarray]:
    frames = [f.astype(np.float64) for f in side.frames]
    if method.frames == "plain":
        return frames
    known = np.concatenate([frames[i] for i in background])
    matrix = np.eye(DIM)
    if method.frames == "whitened":
        covariance = sum(np.outer(x, x) for x in known - known.mean(axis=0)) / len(known)
        matrix = slow_inverse_root(covariance + method.shrinkage * np.trace(covariance) / DIM * np.eye(DIM))
    return [(f - known.mean(axis=0)) @ matrix for f in frames]


def cosine(x: np.ndarray, y: np.ndarray) -> float:
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def slow_weights(frames, background, clusters, method: Method) -> list[list[float]]:
    weights = []
    for f, cluster in zip(frames, clusters, strict=True):
        if method.weights == "equal":
            weights.append([1.0] * len(f))
            continue
        others = [frames[i] for i in background if clusters[i] != cluster]
        commonness = [np.mean([max(cosine(x, y) for y in other) for other in others]) for x in f]
        weights.append([max(1 - float(c), 0.05) ** 2 for c in commonness])
    return weights


def slow_seqsim(q, c, q_weights, c_weights, method: Method) -> float:
    if method.weights == "equal" and method.position == 0:
        return seqsim_pair(q, c)[method.reduction]
    apart = [[i / max(len(q) - 1, 1) - j / max(len(c) - 1, 1) for j in range(len(c))] for i in range(len(q))]
    w = method.position
    s = [
        [(cosine(x, y) + w * math.cos(math.pi * apart[i][j])) / (1 + w) for j, y in enumerate(c)]
        for i, x in enumerate(q)
    ]
    precision = sum(weight * max(row) for weight, row in zip(q_weights, s, strict=True)) / sum(q_weights)
    recall = sum(weight * max(col) for weight, col in zip(c_weights, zip(*s, strict=True), strict=True))
    recall /= sum(c_weights)
    total = precision + recall
    f1 = 2 * precision * recall / total if min(precision, recall) > 0 else 0.0
    return {"precision": precision, "recall": recall, "mean": total / 2, "f1": f1}[method.reduction]


def slow_dtw(q, c) -> float:
    best: dict[tuple[int, int], float] = {}
    for i, x in enumerate(q):
        for j, y in enumerate(c):
            s = cosine(x, y)
            ways = [best.get((i - 1, j), -math.inf) + s, best.get((i, j - 1), -math.inf) + s]
            ways.append((best.get((i - 1, j - 1), -math.inf) if i or j else 0) + 2 * s)
            best[i, j] = max(ways)
    return best[len(q) - 1, len(c) - 1] / (len(q) + len(c))


def slow_nearness(scores: list[float], k: int) -> float:
    nearest = sorted(scores, reverse=True)[:k]
    return sum(nearest) / len(nearest)


def slow_direction(
    speech, method: Method, query: str, candidate: str, sides: dict[str, int], limit=None, around=AROUND
) -> np.ndarray:
    """Scores of all queries of one language against all candidates of another, query by query."""
    side, other = speech[query], speech[candidate]
    scores: list[list[float] | None] = [None] * len(side.frames)
    for fold in range(FOLDS):
        background = {x: slow_background(speech, x, fold, sides[x], limit) for x in (query, candidate)}
        frames = {x: slow_frames(speech[x], background[x], method) for x in (query, candidate)}
        weights = {x: slow_weights(frames[x], background[x], speech[x].clusters, method) for x in (query, candidate)}

        @cache
        def raw(i: int, j: int, frames=frames, weights=weights) -> float:
            q, c = frames[query][i], frames[candidate][j]
            if method.score == "duration":
                return -abs(math.log(side.seconds[i] / other.seconds[j]))
            if method.score == "mean-pool":
                return cosine(q.mean(axis=0), c.mean(axis=0))
            if method.score == "dtw":
                return slow_dtw(q, c)
            return slow_seqsim(q, c, weights[query][i], weights[candidate][j], method)

        def longer(x: str, i: int, background=background) -> float:
            usual = [math.log(speech[x].seconds[k]) for k in background[x]]
            return math.log(speech[x].seconds[i]) - sum(usual) / len(usual)

        for i in in_fold(speech, query, fold):
            row = []
            for j, cluster in enumerate(other.clusters):
                value = raw(i, j)
                if method.hubness != "none":
                    r_query = slow_nearness([raw(i, k) for k in background[candidate][:around]], method.neighbours)
                    apart = [k for k in background[query][:around] if side.clusters[k] != cluster]
                    r_candidate = slow_nearness([raw(k, j) for k in apart], method.neighbours)
                    csls = method.hubness == "csls"
                    value = 2 * value - r_query - r_candidate if csls else value / ((r_query + r_candidate) / 2)
                if method.duration:
                    value -= method.duration * abs(longer(query, i) - longer(candidate, j))
                row.append(value)
            assert scores[i] is None
            scores[i] = row
    return np.array(scores, dtype=np.float32)


def slow_scores(speech, method: Method, a: str, b: str, limit=None, around=AROUND) -> tuple[np.ndarray, np.ndarray]:
    sides = {a: 0, b: 1}  # in both directions
    return (
        slow_direction(speech, method, a, b, sides, limit, around),
        slow_direction(speech, method, b, a, sides, limit, around),
    )


def assert_alike(found, expected) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, **FOUR_DECIMALS)


OTHERS = {
    "everything": Method(
        frames="whitened",
        shrinkage=0.5,
        weights="rare",
        position=0.2,
        reduction="mean",
        hubness="csls",
        neighbours=2,
        duration=0.3,
    ),
    "rare-alone": Method(weights="rare"),
    "position-alone": Method(position=0.3),
    "duration-alone": Method(duration=0.5),
    "margin-of-means": Method(reduction="mean", hubness="margin"),
    "precision-csls": Method(reduction="precision", hubness="csls"),
    "dtw-csls": Method(score="dtw", frames="centred", hubness="csls", duration=0.1),
    "mean-pool-csls": Method(score="mean-pool", frames="whitened", hubness="csls", neighbours=3),
    "duration-csls": Method(score="duration", hubness="csls"),
}


@pytest.mark.parametrize(("name", "limit"), [*((m, None) for m in [*SCORED, *OTHERS]), *((m, 3) for m in KINDS)])
def test_scores_equal_the_slow_protocol(name, limit):
    """Of our methods and of steps that none of them combines; with all of the background, and with some."""
    speech, method = three_languages(), OTHERS.get(name) or METHODS[name]
    assert_alike(score(speech, method, background=limit), slow_scores(speech, method, "en", "fr", limit))


@pytest.mark.parametrize("method", [m for m in ESTIMATING if METHODS[m].hubness != "none"])
def test_neighbourhoods_of_a_large_background_come_from_its_first_utterances(monkeypatch, method):
    speech = three_languages()
    everything = score(speech, METHODS[method])
    monkeypatch.setattr(evaluate, "AROUND", 3)
    found = score(speech, METHODS[method])
    assert_alike(found, slow_scores(speech, METHODS[method], "en", "fr", around=3))
    assert np.abs(found[0] - everything[0]).max() > 0.01


def test_pairs_dont_disturb_each_other():
    """English is scored as the first and as the second of a pair, with estimates from another fold."""
    speech, method = three_languages(), METHODS["whitened-csls"]
    pairs = [("en", "fr"), ("fr", "sw"), ("sw", "en"), ("en", "sw")]
    for (a, b), found in zip(pairs, Scorer(speech, method).score(pairs), strict=True):
        assert_alike(found, slow_scores(speech, method, a, b))


class EveryScore(Scorer):
    """The obvious way: every fold scores all queries of both languages against all candidates."""

    def _compared(self, a, b, rows, columns):
        return super()._compared(a, b, a.everything, b.everything)


@pytest.mark.parametrize("method", KINDS)
def test_rows_that_are_not_needed_change_nothing(method):
    speech, pairs = three_languages(), [("en", "fr"), ("sw", "en")]
    for found, expected in zip(
        Scorer(speech, METHODS[method]).score(pairs), EveryScore(speech, METHODS[method]).score(pairs), strict=True
    ):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("method", "most"), [("seqsim", 1), ("whitened", 1.7), ("whitened-position-csls", 2.4)])
def test_folds_score_only_the_rows_that_they_read(monkeypatch, method, most):
    """A fold and 40 utterances on both sides; without hubs the fold alone, 1 - (2/3)^2 of all pairs; three times."""
    clusters = [f"c{i:03}" for i in range(215)]
    speech = {x: spoken(x, clusters) for x in ("en", "fr")}
    done = []
    real = evaluate.seqsim_both
    monkeypatch.setattr(
        evaluate, "seqsim_both", lambda a, b: (done.append(sum(a.lengths) * sum(b.lengths)), real(a, b))[1]
    )
    score(speech, METHODS[method])
    whole = np.prod([sum(map(len, side.frames)) for side in speech.values()])
    assert sum(done) / whole <= most


# ---------------------------------------------------------------- what the estimates may not see


def disturbed(side: Speech, kept: Sequence[int]) -> Speech:
    """Other frames and durations for all utterances but some."""
    rng = np.random.default_rng(99)
    frames, seconds = [], []
    for i, f in enumerate(side.frames):
        other = rng.normal(scale=3, size=(rng.integers(2, 7), DIM)).astype(np.float32) - 2
        frames.append(f if i in kept else other)
        seconds.append(side.seconds[i] if i in kept else float(rng.uniform(5, 9)))
    return Speech(frames, seconds, side.clusters)


@pytest.mark.parametrize("method", KINDS)
def test_nothing_is_estimated_on_the_test_fold_or_on_parallel_speech(method):
    """A query keeps its scores although all is replaced but itself, the answers, and the two languages' backgrounds.

    What is replaced: the rest of the fold in both languages, what the other language's estimates come from.
    """
    speech, method = three_languages(), METHODS[method]
    before = score(speech, method)
    for fold in range(FOLDS):
        known = {x: slow_background(speech, x, fold, side) for x, side in (("en", 0), ("fr", 1))}
        assert not {speech["en"].clusters[i] for i in known["en"]} & {speech["fr"].clusters[i] for i in known["fr"]}
        for direction, (query, candidate) in enumerate((("en", "fr"), ("fr", "en"))):
            i = in_fold(speech, query, fold)[0]
            cluster = speech[query].clusters[i]
            answers = [j for j, c in enumerate(speech[candidate].clusters) if c == cluster]
            kept = {query: [i, *known[query]], candidate: [*answers, *known[candidate]]}
            others = {x: disturbed(speech[x], kept[x]) for x in kept}
            after = score(speech | others, method)
            row, column = [i], kept[candidate]
            np.testing.assert_allclose(after[direction][row, column], before[direction][row, column], **FOUR_DECIMALS)
            elsewhere = [j for j in range(len(speech[candidate].frames)) if j not in column]
            assert np.abs(after[direction][i, elsewhere] - before[direction][i, elsewhere]).max() > 0.01


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("method", KINDS)
def test_the_background_of_each_language_does_reach_the_scores(method, language):
    """Or else the test above could not fail."""
    speech, method = three_languages(), METHODS[method]
    before = score(speech, method)
    for fold, a, b in ((0, "en", "fr"), (2, "fr", "en")):  # the other way round their folds are exchanged
        before = score(speech, method, a, b)
        dropped = slow_background(speech, language, fold, 0 if language == a else 1)
        kept = [i for i in range(len(speech[language].frames)) if i not in dropped]
        after = score(speech | {language: disturbed(speech[language], kept)}, method, a, b)
        i = in_fold(speech, a, fold)[0]
        answer = speech[b].clusters.index(speech[a].clusters[i])
        assert abs(after[0][i, answer] - before[0][i, answer]) > 1e-3


@pytest.mark.parametrize("method", [Method(frames="whitened"), Method(frames="centred"), Method(weights="rare")])
def test_what_is_estimated_on_holds_no_cluster_twice_and_leaves_one_fold_out(monkeypatch, method):
    """Seen from inside: the clusters that each estimate is made from, call by call."""
    speech = three_languages()
    owners = {f.tobytes(): (x, side.clusters[i]) for x, side in speech.items() for i, f in enumerate(side.frames)}
    seen: list[set[tuple[str, str]]] = []

    def spy(name: str) -> None:
        real = getattr(evaluate, name)

        def watched(*args):
            background = args[1] if name == "rarity_weights" else args[0]
            seen.append({owners[f.tobytes()] for f in background})
            return real(*args)

        monkeypatch.setattr(evaluate, name, watched)

    for name in ("fit_transform", "rarity_weights"):
        spy(name)
    score(speech, method)
    assert len(seen) == 2 * FOLDS
    left_out = []
    for english, french in zip(seen[::2], seen[1::2], strict=True):
        assert {x for x, _ in english} == {"en"}
        assert {x for x, _ in french} == {"fr"}
        used_english, used_french = ({c for _, c in used} for used in (english, french))
        assert not used_english & used_french
        left_out.append(set(CLUSTERS) - used_english - used_french - {"c03"})  # French has none of c03
    assert set().union(*left_out) == set(CLUSTERS) - {"c03"}
    place = slow_places(speech)
    for fold, clusters in enumerate(left_out):
        assert {c for c in CLUSTERS if place[c] % FOLDS == fold} - {"c03"} <= clusters
        assert {place[c] % FOLDS for c in clusters} == {fold}


def test_every_row_is_that_of_its_own_fold(monkeypatch):
    """Every correction returns its number instead of scores: two of each fold, one a direction."""
    speech, calls = three_languages(), iter(range(2 * FOLDS))
    monkeypatch.setattr(Scorer, "_corrected", lambda self, scores, queries, _: scores[queries.tested] * 0 + next(calls))
    directions = score(speech, METHODS["whitened-csls"])
    for direction, (language, scores) in enumerate(zip(("en", "fr"), directions, strict=True)):
        for fold in range(FOLDS):
            assert np.unique(scores[in_fold(speech, language, fold)]).tolist() == [2 * fold + direction]


def test_the_order_of_utterances_doesnt_matter():
    speech, method = three_languages(), METHODS["whitened-rare-csls"]
    shuffled = {}
    orders = {x: np.random.default_rng(3).permutation(len(side.frames)) for x, side in speech.items()}
    for x, side in speech.items():
        columns = (side.frames, side.seconds, side.clusters)
        shuffled[x] = Speech(*([column[i] for i in orders[x]] for column in columns))
    forward, backward = score(speech, method)
    expected = forward[np.ix_(orders["en"], orders["fr"])], backward[np.ix_(orders["fr"], orders["en"])]
    assert_alike(score(shuffled, method), expected)


def test_scores_are_the_same_in_every_run_and_others_with_another_seed():
    speech, method = three_languages(), METHODS["whitened-csls"]
    once, again, other = (score(speech, method, seed=seed)[0] for seed in (SEED, SEED, 7))
    np.testing.assert_array_equal(once, again)
    assert np.abs(once - other).max() > 0.01


def test_methods_that_estimate_nothing_dont_depend_on_other_utterances():
    speech = three_languages()
    few = {x: Speech(side.frames[2:5], side.seconds[2:5], side.clusters[2:5]) for x, side in speech.items()}
    for method in SCORED:
        if method not in ESTIMATING:
            expected = tuple(scores[2:5, 2:5] for scores in score(speech, METHODS[method]))
            assert_alike(score(few, METHODS[method]), expected)
    plain = {"seqsim", "seqsim-precision", "seqsim-recall", "seqsim-mean", "mean-pool", "duration", "dtw"}
    assert plain == set(SCORED) - set(ESTIMATING)


def test_a_query_looks_for_its_frames_in_both_directions():
    """Precision is the mean over the query's frames; French queries are French."""
    speech = three_languages()
    for reduction in ("precision", "recall"):
        forward, backward = score(speech, Method(reduction=reduction))
        english, french = speech["en"].frames, speech["fr"].frames
        np.testing.assert_allclose(forward, seqsim(english, french, reduction=reduction), **FOUR_DECIMALS)
        np.testing.assert_allclose(backward, seqsim(french, english, reduction=reduction), **FOUR_DECIMALS)


# ---------------------------------------------------------------- how much there is to estimate on


@pytest.mark.parametrize("limit", [1, 3, 4, None, 1000])
def test_the_background_limits_the_utterances(monkeypatch, limit):
    speech, sizes = three_languages(), []
    real = evaluate.fit_transform

    def watched(background, *how):
        sizes.append(len(background))
        return real(background, *how)

    monkeypatch.setattr(evaluate, "fit_transform", watched)
    score(speech, METHODS["whitened"], background=limit)
    sides = [(fold, x, side) for fold in range(FOLDS) for x, side in (("en", 0), ("fr", 1))]
    available = [len(slow_background(speech, x, fold, side)) for fold, x, side in sides]
    assert sizes == [min(limit or 1000, n) for n in available]
    assert min(available) >= 3


@pytest.mark.parametrize("method", [m for m in ESTIMATING if METHODS[m].hubness != "none"])
@pytest.mark.parametrize("limit", [1, 2])  # two recordings of one cluster in the second
def test_a_small_background_leaves_no_candidate_without_a_score(method, limit):
    """One that can't be scored can't win: the fewer wrong ones can, the better the recall would look."""
    speech = three_languages()
    for scores in score(speech, METHODS[method], background=limit):
        assert np.isfinite(scores).all()


def reduced(speech: dict[str, Speech], clusters: Sequence[str]) -> dict[str, Speech]:
    small = {}
    for x, side in speech.items():
        kept = [i for i, c in enumerate(side.clusters) if c in clusters]
        small[x] = Speech(*([column[i] for i in kept] for column in (side.frames, side.seconds, side.clusters)))
    return small


def test_too_few_clusters_are_refused_where_something_is_estimated():
    speech = three_languages()
    nine = reduced(speech, CLUSTERS[:9])
    for method in ESTIMATING:
        with pytest.raises(CorpusError, match=r"^9 clusters of meanings are too few .* takes 10: use --method seqsim$"):
            Scorer(nine, METHODS[method])
    for method in set(SCORED) - set(ESTIMATING):
        assert np.isfinite(score(nine, METHODS[method])[0]).all()
    ten = score(reduced(speech, CLUSTERS[:10]), METHODS["whitened-csls"])
    assert all(np.isfinite(scores).all() for scores in ten)


def test_a_language_with_nothing_outside_a_fold_is_named():
    speech = three_languages()
    speech["fr"] = reduced(speech, ["c05"])["fr"]
    with pytest.raises(CorpusError, match="no utterances of fr in fold 1 of 3 to estimate on"):
        score(speech, METHODS["centred"])


# ---------------------------------------------------------------- frames that are none


@pytest.mark.parametrize("method", [*KINDS, "seqsim", "dtw", "mean-pool"])
def test_an_utterance_with_frames_that_are_no_numbers_harms_only_itself(method):
    speech = three_languages()
    bad = [f.copy() for f in speech["en"].frames]
    bad[4][1, 2] = np.nan
    speech["en"] = replace(speech["en"], frames=bad)
    forward, backward = score(speech, METHODS[method])
    assert np.isnan(forward[4]).all()
    assert np.isnan(backward[:, 4]).all()
    assert np.isfinite(np.delete(forward, 4, axis=0)).all()
    assert np.isfinite(np.delete(backward, 4, axis=1)).all()


# ---------------------------------------------------------------- options


FULL = Method(frames="whitened", weights="rare", position=0.2, hubness="csls", duration=0.1)
CHANGES = {
    "score": [(Method(), "dtw"), (Method(), "mean-pool"), (Method(), "duration")],
    "frames": [(Method(), "centred"), (Method(frames="centred"), "whitened"), (Method(score="mean-pool"), "whitened")],
    "shrinkage": [(Method(frames="whitened"), 1.0), (FULL, 0.01)],
    "weights": [(Method(), "rare"), (replace(FULL, weights="equal"), "rare")],
    "position": [(Method(), 0.1), (FULL, 0.4)],
    "reduction": [(Method(), "mean"), (Method(), "precision"), (Method(), "recall"), (FULL, "mean")],
    "hubness": [(Method(), "csls"), (Method(), "margin"), (FULL, "margin"), (Method(score="dtw"), "csls")],
    "neighbours": [(Method(hubness="csls"), 1), (Method(hubness="margin"), 2), (FULL, 2)],
    "duration": [(Method(), 0.05), (FULL, 0.5)],
}


@pytest.mark.parametrize("field", [*CHANGES])
def test_every_field_of_a_method_changes_the_scores(field):
    speech = three_languages()
    assert {"label", "note", *CHANGES} == {f.name for f in fields(Method)}
    for method, value in CHANGES[field]:
        before, after = (score(speech, r) for r in (method, replace(method, **{field: value})))
        for one, other in zip(before, after, strict=True):
            assert np.abs(one - other).max() > 1e-3


def test_no_two_methods_score_alike():
    speech = three_languages()
    scores = [score(speech, METHODS[m])[0] for m in SCORED]
    for i, one in enumerate(scores):
        for other in scores[:i]:
            assert np.abs(one - other).max() > 1e-3


def test_what_learns_from_unlabelled_audio_says_so():
    learning = {"frames": "centred", "weights": "rare", "hubness": "csls", "duration": 0.1}
    for field in fields(Method):
        if field.name in learning:
            assert replace(Method(), **{field.name: learning[field.name]}).estimates
    for method in (Method(), Method(position=0.1), Method(score="dtw", shrinkage=1.0)):
        assert not method.estimates


def test_the_number_format_reaches_the_products():
    speech, method = three_languages(), METHODS["whitened-csls"]
    exact, coarse = (score(speech, method, compute=compute)[0] for compute in ("float32", "bfloat16"))
    assert 1e-5 < np.abs(exact - coarse).max() < 0.05


@pytest.mark.parametrize("method", ["whitened-csls", "seqsim"])
def test_progress_counts_pairs_and_folds(method):
    done: list[int] = []
    Scorer(three_languages(), METHODS[method]).score([("en", "fr"), ("fr", "sw")], done.append)
    assert sum(done) == 2 * FOLDS


# ---------------------------------------------------------------- utterances without frames


def corpus(speech: dict[str, Speech], without: dict[str, Sequence[int]]) -> Corpus:
    items = {
        x: Items([f"{x}/{i}" for i in range(len(side.clusters))], side.clusters, side.clusters)
        for x, side in speech.items()
    }
    lacking = {x: set(without.get(x, ())) for x in speech}
    frames = {x: [None if i in lacking[x] else f for i, f in enumerate(side.frames)] for x, side in speech.items()}
    seconds = {x: [None if i in lacking[x] else s for i, s in enumerate(side.seconds)] for x, side in speech.items()}
    return Corpus(items, frames, seconds)


def without_some(speech: dict[str, Speech], without: dict[str, Sequence[int]]) -> dict[str, Speech]:
    held = {}
    for x, side in speech.items():
        kept = [i for i in range(len(side.frames)) if i not in without.get(x, ())]
        held[x] = Speech(*([column[i] for i in kept] for column in (side.frames, side.seconds, side.clusters)))
    return held


@pytest.mark.parametrize("method", [*KINDS, "seqsim", "dtw", "duration"])
def test_utterances_without_frames_have_no_scores_and_change_no_others(method):
    speech, without = three_languages(), {"en": [0, 5], "fr": [10]}
    pairs = [("en", "fr"), ("sw", "fr")]
    found = score_pairs(corpus(speech, without), METHODS[method], pairs, label="test")
    expected = Scorer(without_some(speech, without), METHODS[method]).score(pairs)
    for (a, b), directions, alone in zip(pairs, found, expected, strict=True):
        for (query, candidate), scores, held in zip(((a, b), (b, a)), directions, alone, strict=True):
            assert scores.shape == (len(speech[query].frames), len(speech[candidate].frames))
            rows, columns = without.get(query, []), without.get(candidate, [])
            assert np.isnan(scores[rows]).all()
            assert np.isnan(scores[:, columns]).all()
            rest = np.delete(np.delete(scores, rows, axis=0), columns, axis=1)
            np.testing.assert_allclose(rest, held, atol=1e-6)
            assert np.isfinite(rest).all()


@pytest.mark.parametrize("method", ["seqsim", "whitened-csls"])
def test_a_language_without_any_frames_has_no_scores_and_the_others_have(method):
    speech, pairs = three_languages(), [("en", "fr"), ("sw", "en"), ("sw", "fr")]
    found = score_pairs(corpus(speech, {"fr": range(11)}), METHODS[method], pairs, label="test")
    assert [[np.isnan(s).all() for s in directions] for directions in found] == [[True] * 2, [False] * 2, [True] * 2]
    assert [forward.shape for forward, _ in found] == [(14, 11), (13, 14), (13, 11)]


def test_the_background_of_score_pairs_is_the_scorers():
    speech, method = three_languages(), METHODS["whitened-csls"]
    found = score_pairs(corpus(speech, {}), method, [("en", "fr")], label="test", background=3)[0]
    assert_alike(found, score(speech, method, background=3))


@pytest.fixture
def stored(tmp_path):
    """The same speech in a store, less one utterance, and its manifest; behind the speech lies what would mislead."""
    speech = three_languages()
    store = FrameStore.create(tmp_path / "s", FrameSpec("tiny", "r", 1, "speech", 1, "float32", "float32"), DIM)
    utterances, frames = [], []
    for x, side in speech.items():
        for i, cluster in enumerate(side.clusters):
            fields = {"id": f"{x}/{i}", "cluster": cluster, "duration": side.seconds[i]}
            utterances.append(utterance(x, cluster, **fields))
            if (x, i) != ("fr", 2):
                values = np.vstack([side.frames[i], np.full((2, DIM), 50, np.float32)])
                frames.append(Frames(f"{x}/{i}", values, len(side.frames[i])))
    store.write(frames)
    return utterances, store


@pytest.mark.parametrize("method", ["whitened-csls", "whitened-duration-csls"])
def test_an_evaluation_reads_the_scorers_numbers_from_a_store(stored, method):
    utterances, store = stored
    found = measure(Corpus.of(utterances, store), [method])
    rows, matrices = [to_builtins(row) for row in found.rows], found.matrices
    pairs = [("en", "fr"), ("en", "sw"), ("fr", "sw")]
    expected = Scorer(without_some(three_languages(), {"fr": [2]}), METHODS[method]).score(pairs)
    assert list(matrices) == pairs
    assert np.isnan(matrices["en", "fr"][:, 2]).all()
    np.testing.assert_allclose(np.delete(matrices["en", "fr"], 2, axis=1), expected[0][0], atol=1e-5)
    np.testing.assert_allclose(matrices["en", "sw"], expected[1][0], atol=1e-5)
    np.testing.assert_allclose(np.delete(matrices["fr", "sw"], 2, axis=0), expected[2][0], atol=1e-5)
    assert {r["method"] for r in rows} == {method}
    clusters = {x: np.array(side.clusters) for x, side in without_some(three_languages(), {"fr": [2]}).items()}
    for (a, b), directions in zip(pairs, expected, strict=True):
        for (query, candidate), scores in zip(((a, b), (b, a)), directions, strict=True):
            (row,) = [r for r in rows if (r["query"], r["candidate"]) == (query, candidate)]
            hits = (clusters[candidate][scores.argmax(axis=1)] == clusters[query]).sum()
            assert row["r1"] == pytest.approx(hits / row["n"])  # the one without frames is a miss
            assert row["n"] + row.get("n_unanswerable", 0) == len(three_languages()[query].frames)
