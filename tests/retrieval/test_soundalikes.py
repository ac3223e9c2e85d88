"""Sound-alikes: spellings and shares by hand, the split, the rows, and the real transcripts."""

import math
import sys
import unicodedata
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import ROOT
from interlingua.corpora.prepare import edit_similarity
from interlingua.retrieval.evaluate import Items, evaluate_scores

sys.path.append(str(ROOT / "benchmarks"))
from soundalikes import ALIKE, control_rows, soundalike_share, sounds, split_by_soundalikes


def alike(a: str, b: str) -> bool:
    return edit_similarity(sounds(a), sounds(b)) >= ALIKE


def items(*meanings: str, clusters=()) -> Items:
    return Items([f"{m}-{i}" for i, m in enumerate(meanings)], meanings, clusters)


# ---------------------------------------------------------------- spellings


@pytest.mark.parametrize(
    ("word", "spelling"),
    [
        ("nation", "nasion"),
        ("nación", "nasion"),
        ("Telephone", "telefone"),
        ("телефон", "telefon"),
        ("conférence", "konferense"),
        ("конференция", "konferensia"),
        ("quick", "kuik"),
        ("pizza", "pisa"),
        ("match", "mas"),
        ("schön", "son"),
        ("checking", "seking"),
        ("taxi", "taksi"),
        ("Вы", "vi"),
        ("major", "maior"),
        ("ещё", "ese"),
        ("объём", "ovem"),
        ("œuvre", "euvre"),
        ("Straße", "strase"),
        ("nouveau", "nuveau"),
        ("web", "vev"),
    ],
)
def test_spellings_by_hand(word, spelling):
    assert sounds(word) == spelling


RUSSIAN = "абвгдеёжзийклмнопрстуфхцчшщъыьэюя"


def test_every_russian_letter_has_a_spelling():
    assert all(sounds(letter).isascii() for letter in RUSSIAN + RUSSIAN.upper())
    assert [letter for letter in RUSSIAN if not sounds(letter)] == ["ъ", "ь"]


@pytest.mark.parametrize(
    ("word", "bare"), [("número", "numero"), ("contraseña", "contrasena"), ("déjà", "deja"), ("Più", "piu")]
)
def test_accents_dont_matter_however_they_are_coded(word, bare):
    for form in ("NFC", "NFD"):
        assert sounds(unicodedata.normalize(form, word)) == sounds(bare)


@given(st.text("abcehinostuxyzñéß тшжяй", max_size=12))
def test_capitals_dont_matter_and_nothing_is_doubled(word):
    assert sounds(word) == sounds(word.upper())
    assert all(a != b for a, b in pairwise(sounds(word)))


@pytest.mark.parametrize(
    "words",
    [
        ("nation", "nación", "nazione"),
        ("nation", "nación", "нация"),  # but not nazione and нация: 3 of 7 letters
        ("telephone", "telefono", "téléphone", "телефон"),
        ("conference", "conferencia", "conférence", "conferenza", "конференции"),
        ("number", "numero", "numéro", "numero", "номер"),
        ("information", "informacion", "information", "informazione", "информацию"),
    ],
)
def test_relatives_sound_alike_in_every_pair(words):
    assert [(a, b) for a, b in combinations(words, 2) if not alike(a, b)] == []


@pytest.mark.parametrize(
    ("a", "b"), [("hound", "chien"), ("dogs", "chien"), ("please", "пожалуйста"), ("password", "contrasena")]
)
def test_strangers_dont_sound_alike(a, b):
    assert not alike(a, b)


# ---------------------------------------------------------------- shares


def test_shares_by_hand():
    # message~mensaje and telephone~telefono; "from" has no partner: (2/3 + 2/2) / 2
    assert soundalike_share("Message from the telephone!", "mensaje del telefono") == pytest.approx(5 / 6)
    assert soundalike_share("the nation", "la nación") == 1
    assert soundalike_share("these dogs", "le chien") == 0


def test_each_occurrence_counts():
    # left 2 of 3, right 1 of 1
    assert soundalike_share("nation nation please", "nación") == pytest.approx((2 / 3 + 1) / 2)


def test_accents_and_sides_dont_matter():
    a, b = "Marque el número de teléfono", "dial the telephone number"
    assert soundalike_share(a, b) == soundalike_share(b, a)
    assert soundalike_share("Marque el numero de telefono", b) == soundalike_share(a, b)


def test_content_words_are_letters_only_and_four_or_more():
    for text in ("", "to be or not", "1234 5678", "l'eau d'un", "a_b_c"):
        assert soundalike_share(text, "nation") is soundalike_share("nation", text) is None
    assert soundalike_share("dog", "chien") is None
    assert soundalike_share("l'agent2nation", "agent nation") == 1
    assert soundalike_share("n\u0303in\u0303o", "niño") == 1  # four letters in either coding


def test_a_threshold_of_edits():
    """Spellings of five letters may differ in two, of four in one."""
    assert soundalike_share("latin", "latus") == 1
    assert soundalike_share("latin", "lepus") == 0
    assert soundalike_share("lati", "lato") == 1
    assert soundalike_share("lati", "lepi") == 0


@given(st.text("abn ñж", max_size=30), st.text("abn ñж", max_size=30))
def test_a_share_is_symmetric_and_within_bounds(a, b):
    share = soundalike_share(a, b)
    assert share == soundalike_share(b, a)
    assert share is None or 0 <= share <= 1
    assert soundalike_share(a, a) in (None, 1)


# ---------------------------------------------------------------- the split


def test_the_split_is_at_the_median_and_ties_go_to_the_few():
    few, many = split_by_soundalikes([0.5, 0.1, None, 0.3, 0.3, 0.9])
    assert few.tolist() == [False, True, False, True, True, False]
    assert many.tolist() == [True, False, False, False, False, True]


def test_between_two_middle_shares_both_halves_are_equal():
    few, many = split_by_soundalikes([0.4, 0.1, 0.3, 0.2])
    assert few.tolist() == [False, True, False, True]
    assert many.tolist() == [True, False, True, False]


@pytest.mark.parametrize("shares", [[], [None, None], [0.2, None, 0.2]])
def test_without_differing_shares_there_are_no_many(shares):
    few, many = split_by_soundalikes(shares)
    assert few.tolist() == [s is not None for s in shares]
    assert not many.any()


# ---------------------------------------------------------------- rows


def test_rows_by_hand():
    """Both of the few find their answer; of the many one prefers a candidate that answers one of the few."""
    scores = np.eye(5, dtype=np.float32)
    scores[3, 0] = 2
    few, many = control_rows(scores, items(*"abcde"), items(*"abcde"), [0.0, 0.1, None, 0.5, 0.7])
    assert (few["soundalikes"], few["n"], few["n_clusters"], few["r1"], few["r1_ci"]) == ("few", 2, 2, 1, (1, 1))
    assert (many["soundalikes"], many["n"], many["n_clusters"], many["r1"]) == ("many", 2, 2, 0.5)
    assert (few["share"], many["share"]) == pytest.approx((0.05, 0.6))
    assert few["chance"] == many["chance"] == pytest.approx(1 / 5)  # the whole gallery, not the half


def test_rows_equal_the_evaluation_of_the_halves_with_their_clusters():
    rng = np.random.default_rng(0)
    n = 60
    meanings = [f"m{i}" for i in range(n)]
    clusters = [f"c{i // 4}" for i in range(n)]
    queries = candidates = items(*meanings, clusters=clusters)
    scores = (rng.normal(size=(n, n)) + 2 * np.eye(n)).astype(np.float32)
    shares = [*rng.random(n)]
    for row, mask in zip(control_rows(scores, queries, candidates, shares), split_by_soundalikes(shares), strict=True):
        pick = [i for i in range(n) if mask[i]]
        subset = items(*(meanings[i] for i in pick), clusters=[clusters[i] for i in pick])
        expected = evaluate_scores(scores[pick], subset, candidates)
        assert (row["n"], row["r1"], row["r1_ci"]) == (30, expected.r1, expected.r1_ci)
        assert (row["r1_cluster"], row["chance_cluster"]) == (expected.r1_cluster, expected.chance_cluster)
        assert row["r1"] < row["r1_cluster"]
        assert row["n_clusters"] == len({clusters[i] for i in pick}) < 30
        assert row["r1_ci"][0] < row["r1"] < row["r1_ci"][1]


def test_a_half_without_queries_has_no_row():
    scores = np.eye(2, dtype=np.float32)
    assert [r["soundalikes"] for r in control_rows(scores, items(*"ab"), items(*"ab"), [0.5, 0.5])] == ["few"]
    assert control_rows(scores, items(*"ab"), items(*"ab"), [None, None]) == []


@pytest.mark.parametrize(("n", "m", "shares"), [(3, 2, 3), (2, 2, 2), (2, 3, 3), (3, 3, 2)])
def test_what_doesnt_fit_is_refused(n, m, shares):
    with pytest.raises(ValueError, match=f"with {shares} shares"):
        control_rows(np.eye(2, 3, dtype=np.float32), items(*"abc"[:n]), items(*"abc"[:m]), [0.5] * shares)


# ---------------------------------------------------------------- the real transcripts


@pytest.mark.model
@pytest.mark.parametrize(("a", "b", "least"), [("en", "fr", 3), ("en", "ru", 3), ("es", "it", 4)])
def test_translations_sound_more_alike_than_other_pairs_do_and_length_explains_little(prompts_manifest, a, b, least):
    texts = {u.id: u.text for u in prompts_manifest if u.text}
    meanings = [u.meaning for u in prompts_manifest if {f"{a}/{u.meaning}", f"{b}/{u.meaning}"} <= texts.keys()]
    meanings = sorted(set(meanings))
    left, right = ([texts[f"{lang}/{m}"] for m in meanings] for lang in (a, b))
    right_shares = [soundalike_share(x, y) for x, y in zip(left, right, strict=True)]
    other = [soundalike_share(x, y) for x, y in zip(left, right[100:] + right[:100], strict=True)]
    known = [(s, math.log(len(x) + len(y))) for s, x, y in zip(right_shares, left, right, strict=True) if s is not None]
    assert len(known) > 200
    assert np.mean([s for s, _ in known]) > least * np.mean([s for s in other if s is not None])
    assert abs(np.corrcoef(np.array(known).T)[0, 1]) < 0.25
    few, many = split_by_soundalikes(right_shares)
    assert few.sum() + many.sum() == len(known)
    assert many.sum() > 80
