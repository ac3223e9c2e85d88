"""A trained head: its scores against the reference, what it learns, what it is refused, its file; its evaluation."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_scoring import CLUSTERS, slow_inverse_root, slow_nearness, three_languages

from interlingua.errors import StoreError, UsageError
from interlingua.retrieval.evaluate import FOLDS, Scorer, fold_order
from interlingua.retrieval.features import FrameTransform, fit_whitening, with_position
from interlingua.retrieval.head import Head, HeadSettings, batch_scores, head_path, sentence, start, train_head
from interlingua.retrieval.methods import METHODS
from interlingua.retrieval.reference import seqsim_pair

DIM = 12
QUICK = HeadSettings(steps=30, batch=16, pooling=1, drop=0.1, rate=1e-2)


def utterances(languages=("en", "fr"), n: int = 40, seed: int = 0):
    """The first values of a frame follow the sentence, the others the recording alone, and are louder."""
    rng = np.random.default_rng(seed)
    frames, spoken, groups = [], [], []
    for m in range(n):
        sense = rng.normal(size=(4 + m % 3, DIM // 3))
        for language in languages:
            noise = 1.5 * rng.normal(size=(len(sense), DIM - DIM // 3))
            heard = sense + 0.2 * rng.normal(size=sense.shape)
            frames.append(np.concatenate([heard, noise], axis=1).astype(np.float32))
            spoken.append(language)
            groups.append(f"sentence {m}")
    pairs = [(i, j) for i in range(len(groups)) for j in range(i) if groups[i] == groups[j]]
    return frames, spoken, groups, np.array(pairs)


def found_first(frames, groups) -> float:
    """The share of English utterances whose French one scores highest."""
    scores = [[seqsim_pair(x, y)["f1"] for y in frames[1::2]] for x in frames[::2]]
    return float(np.mean(np.argmax(scores, axis=1) == np.arange(len(groups) // 2)))


# ---------------------------------------------------------------- scores


def test_few_pairs_take_few_steps():
    """At most so many passes over them; without any, the matrix is the start."""
    frames, spoken, groups, pairs = utterances()
    done: list[int] = []
    settings = replace(QUICK, steps=10**4, passes=1)
    head = train_head(frames, spoken, groups, pairs, settings, advance=done.append)
    assert sum(done) == settings.steps
    assert len(done) - 1 == -(-len(pairs) // settings.batch)
    alone = train_head(frames, spoken, groups, pairs, replace(QUICK, passes=0))
    first = start(dict(enumerate(frames)), [tuple(sorted(p, key=lambda n: spoken[n])) for p in pairs.tolist()], QUICK)
    np.testing.assert_allclose(alone.matrix, first, rtol=1e-4, atol=1e-5)
    assert not np.allclose(head.matrix, first, atol=1e-4)


def test_scores_of_a_batch_equal_the_reference():
    rng = np.random.default_rng(0)
    sides = [[rng.normal(size=(n, 5)).astype(np.float32) + 0.3 for n in lengths] for lengths in ((1, 4, 7), (3, 2))]
    sides[1].append(-sides[0][0])  # no similarity is positive
    unit = [torch.nn.functional.normalize(torch.from_numpy(np.concatenate(side)), dim=1) for side in sides]
    found = batch_scores(unit[0], [len(x) for x in sides[0]], unit[1], [len(y) for y in sides[1]])
    expected = [[seqsim_pair(x, y)["f1"] for y in sides[1]] for x in sides[0]]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    assert expected[0][2] == 0


def test_scores_have_gradients_where_none_is_positive():
    x = torch.tensor([[1.0, 0.0]], requires_grad=True)
    batch_scores(x, [1], torch.tensor([[-1.0, 0.0], [0.6, 0.8]]), [1, 1]).sum().backward()
    assert torch.isfinite(x.grad).all()


# ---------------------------------------------------------------- training


def test_a_head_finds_what_translations_share():
    """Of other sentences, too, and in another language's recordings of them."""
    head = train_head(*utterances(), QUICK)
    frames, _, groups, _ = utterances(("fr", "ru"), seed=1)
    before, after = found_first(frames, groups), found_first([f @ head.matrix for f in frames], groups)
    assert after > before + 0.2
    first, last = head.about["loss"]
    assert last < first
    assert head.about["pairs"] == {"en-fr": 40}


def test_the_same_seed_makes_the_same_head_and_another_another():
    made = [train_head(*utterances(), replace(QUICK, steps=5, seed=seed)).digest for seed in (0, 0, 1)]
    assert made[0] == made[1] != made[2]


def test_near_duplicates_are_no_negatives():
    """All of one group: nothing is left to learn from, and the start stays."""
    frames, spoken, groups, pairs = utterances()
    head = train_head(frames, spoken, ["one"] * len(groups), pairs, QUICK)
    expected = start(dict(enumerate(frames)), [(i, j) for i, j in pairs.tolist()], QUICK)
    np.testing.assert_allclose(head.matrix, expected, atol=1e-6)
    assert head.about["loss"] == [0, 0]


def test_pairs_of_one_language_and_frames_that_are_not_finite_are_skipped():
    frames, spoken, groups, pairs = utterances()
    frames[0] = np.full_like(frames[0], np.nan)
    same = [(0, 2), (2, 4)]
    head = train_head(frames, spoken, groups, np.array([*pairs.tolist(), *same]), replace(QUICK, steps=3))
    assert head.about["pairs"] == {"en-fr": 39}
    assert np.isfinite(head.matrix).all()
    assert sentence("sentence 0") not in head.groups
    assert sentence("sentence 1") in head.groups


def test_decay_keeps_a_head_near_its_start():
    frames, _, _, pairs = utterances()
    first = start(dict(enumerate(frames)), [(i, j) for i, j in pairs.tolist()], QUICK)
    free, held = (train_head(*utterances(), replace(QUICK, decay=decay)) for decay in (0.0, 10.0))
    assert np.linalg.norm(held.matrix - first) < 0.5 * np.linalg.norm(free.matrix - first)


def test_the_start_equals_plain_loops():
    """Each frame with its best match in the translation, both ways; directions of large differences count little."""
    frames, _, _, pairs = utterances(n=6)
    differences = []
    for pair in pairs.tolist():
        for own, other in (pair, pair[::-1]):
            x, y = with_position(frames[own], 0.1), with_position(frames[other], 0.1)
            for i, row in enumerate(x):
                best = max(range(len(y)), key=lambda j, row=row, y=y: float(row @ y[j]))
                u, v = (
                    f / np.linalg.norm(f) for f in (frames[own][i].astype(float), frames[other][best].astype(float))
                )
                differences.append(u - v)
    covariance = np.mean([np.outer(d, d) for d in differences], axis=0)
    expected = np.linalg.inv(covariance + 0.3 * np.trace(covariance) / DIM * np.eye(DIM))
    expected /= np.sqrt(np.square(np.linalg.eigvalsh(expected)).mean())
    np.testing.assert_allclose(
        start(dict(enumerate(frames)), [(i, j) for i, j in pairs.tolist()], QUICK), expected, atol=1e-4
    )


def test_too_few_pairs_are_refused():
    with pytest.raises(UsageError, match=r"19 pairs .* 20 are needed"):
        train_head(*utterances(n=19), QUICK)


# ---------------------------------------------------------------- its file


def test_a_head_is_read_as_it_was_written(tmp_path):
    head = train_head(*utterances(), replace(QUICK, steps=2))
    head.save(tmp_path / "a.head.safetensors")
    again = Head.load(tmp_path / "a.head.safetensors", DIM)
    np.testing.assert_array_equal(again.matrix, head.matrix)
    assert (again.groups, again.about, again.digest) == (head.groups, head.about, head.digest)
    with pytest.raises(StoreError, match="12 wide, and these are 8"):
        Head.load(tmp_path / "a.head.safetensors", 8)


@pytest.mark.parametrize("content", [None, b"", b"no tensors at all", "other"])
def test_what_is_no_head_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "a.head.safetensors"
    if content == "other":
        from safetensors.numpy import save_file

        save_file({"matrix": np.eye(2, dtype=np.float32)}, path)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(StoreError, match=r"a\.head\.safetensors: .*interlingua index train") as raised:
        Head.load(path, 2)
    assert "\n" not in str(raised.value)


def test_a_head_lies_beside_its_store():
    assert str(head_path("/data/speech.lance/frames.lance/")) == "/data/speech.lance/frames.head.safetensors"


def test_whitening_and_head_are_one_transform():
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(30, 4)).astype(np.float32)
    head, whitening = Head(rng.normal(size=(4, 4)).astype(np.float32)), fit_whitening([frames])
    np.testing.assert_allclose(head.after(whitening)(frames), whitening(frames) @ head.matrix, atol=1e-5)
    assert isinstance(head.after(whitening), FrameTransform)


# ---------------------------------------------------------------- evaluation


@pytest.mark.parametrize("folds", [FOLDS, 4])
def test_scores_of_a_language_equal_plain_loops(folds):
    """Each fold by its own head; whitening and neighbourhoods from all clusters outside the fold."""
    speech, method = three_languages(), METHODS["head"]
    rng = np.random.default_rng(0)
    heads = [Head((np.eye(4) + 0.5 * rng.normal(size=(4, 4))).astype(np.float32)) for _ in range(folds)]
    (found, back) = Scorer(speech, method, heads=heads).score([("en", "fr")])[0]
    order = fold_order(CLUSTERS)
    for query, candidate, scores in (("en", "fr", found), ("fr", "en", back)):
        side, other = speech[query], speech[candidate]
        for i, cluster in enumerate(side.clusters):
            fold = order[cluster] % folds
            known, changed = {}, {}
            for name in (query, candidate):
                members = speech[name].clusters
                known[name] = [n for n, c in enumerate(members) if order[c] % folds != fold]
                background = np.concatenate([speech[name].frames[n] for n in known[name]]).astype(np.float64)
                mean = background.mean(axis=0)
                covariance = (background - mean).T @ (background - mean) / len(background)
                matrix = slow_inverse_root(covariance + 0.1 * np.trace(covariance) / 4 * np.eye(4)) @ heads[fold].matrix
                changed[name] = [with_position((f - mean) @ matrix, 0.1) for f in speech[name].frames]

            def score(q: int, c: int, changed=changed, query=query, candidate=candidate) -> float:
                return seqsim_pair(changed[query][q], changed[candidate][c])["f1"]

            around_query = slow_nearness([score(i, n) for n in known[candidate]], 5)
            for j in range(len(other.clusters)):
                apart = [n for n in known[query] if side.clusters[n] != other.clusters[j]]
                expected = 2 * score(i, j) - around_query - slow_nearness([score(n, j) for n in apart], 5)
                assert scores[i, j] == pytest.approx(expected, abs=1e-3)


def test_the_method_is_refused_without_a_head():
    with pytest.raises(UsageError, match=r"--method head: .*interlingua index train"):
        Scorer(three_languages(), METHODS["head"])
