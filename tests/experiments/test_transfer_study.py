"""What the study's figures are: each rotation's dev chooses, and shares of plain's gain are what they say."""

import json
from dataclasses import replace

import pytest

from helpers import utterance
from interlingua.experiments.transfer_study import TransferStudy
from interlingua.experiments.transfer_study import data as transfer_data
from interlingua.experiments.transfer_study.data import study_data
from interlingua.experiments.transfer_study.measuring import Measuring
from interlingua.experiments.transfer_study.work import Work
from interlingua.metrics import score_translations

WORDS = (
    "ala",
    "barco",
    "casa",
    "dedo",
    "este",
    "faro",
    "gato",
    "hielo",
    "isla",
    "jefe",
    "luz",
    "mar",
    "nube",
    "ojo",
    "pan",
)
CELLS = [(0, 0), (1, 0)]


@pytest.fixture
def spoken():
    """Fifteen sentences in English, French and Spanish, each a cluster."""
    made = []
    for i, word in enumerate(WORDS):
        texts = {"en": f"number {i} is {word} in english", "es": f"el numero {i} es {word}", "fr": f"chiffre {i}"}
        for lang, text in texts.items():
            others = {k: v for k, v in texts.items() if k != lang}
            made.append(utterance(lang, f"m{i}", text=text, translations=others, cluster=f"c{i}"))
    return made


@pytest.fixture
def measuring(spoken, tmp_path, monkeypatch):
    study = TransferStudy(
        out=tmp_path, rotations=(0, 1), variants={"plain": {}, "wise-ft": {"shares": [1.0, 0.5]}}, targets=("es",)
    )
    monkeypatch.setattr(transfer_data, "prepare_prompts", lambda **_: spoken)
    return Measuring(Work(study, study_data(study, [], print), None, None, "float32", "cpu"))


def answered(measuring, rotation, new=1.0, translate=1.0):
    """Answers whose first part is right and whose rest is empty."""
    said = {}
    for part in ("dev", "test"):
        for kind, source, target, share in (
            ("new", "en", "es", new),
            ("new", "fr", "es", new),
            ("translate", "es", "en", translate),
            ("translate", "fr", "en", translate),
        ):
            heard = [u for u in measuring.work.data.part(rotation, part) if u.language == source]
            right = round(share * len(heard))
            texts = {u.id: u.translations[target] if i < right else "" for i, u in enumerate(heard)}
            said.setdefault(f"{kind} {source}-{target}", {}).update(texts)
    return said


def write(measuring, run, said):
    for part in ("dev", "test"):
        path = measuring.work.answer_file(run, part)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(said))


def test_dev_chooses_what_gains_most_among_those_that_lose_little(measuring):
    runs = measuring.candidates("wise-ft", "es")
    whole, half = runs
    assert (whole[1], half[1]) == (1.0, 0.5)
    write(measuring, runs[whole][0, 0], answered(measuring, 0, new=1.0, translate=0.4))  # loses: the half is chosen
    write(measuring, runs[half][0, 0], answered(measuring, 0, new=0.7, translate=1.0))
    write(measuring, runs[whole][1, 0], answered(measuring, 1, new=1.0, translate=1.0))  # loses nothing: the whole
    write(measuring, runs[half][1, 0], answered(measuring, 1, new=0.7, translate=1.0))
    assert measuring.choice("es", 0, runs, answered(measuring, 0)) == half
    assert measuring.choice("es", 1, runs, answered(measuring, 1)) == whole


def test_the_curve_goes_from_none_to_all(measuring):
    runs = measuring.candidates("wise-ft", "es")
    whole, half = runs
    for c in CELLS:
        write(measuring, runs[whole][c], answered(measuring, c[0], new=1.0, translate=0.0))
        write(measuring, runs[half][c], answered(measuring, c[0], new=0.7, translate=1.0))
    start = {r: answered(measuring, r, new=0.0, translate=1.0) for r in (0, 1)}
    none, some, all_ = measuring.curve("es", ["en"], runs, start, "test")
    assert none == [0, 0]
    assert 0 < some[0] < all_[0] == pytest.approx(100)
    assert some[1] == 0
    assert all_[1] == pytest.approx(-100)


def test_where_all_lose_the_least_loss_is_chosen(measuring):
    runs = measuring.candidates("wise-ft", "es")
    whole, half = runs
    write(measuring, runs[whole][0, 0], answered(measuring, 0, new=1.0, translate=0.0))
    write(measuring, runs[half][0, 0], answered(measuring, 0, new=0.7, translate=0.4))
    assert measuring.choice("es", 0, runs, answered(measuring, 0)) == half


def test_the_share_of_plains_gain_by_hand(measuring):
    spoken = ["en", "fr"]
    sides = [{c: answered(measuring, c[0], new=share) for c in CELLS} for share in (0.5, 1.0, 0.0)]
    found = measuring.share_of_plain("es", spoken, *sides, "test")

    def mean(side):
        scores = []
        for c in CELLS:
            for s in spoken:
                expected = {
                    u.id: u.translations["es"] for u in measuring.work.data.part(c[0], "test") if u.language == s
                }
                said = {i: t for i, t in side[c][f"new {s}-es"].items() if i in expected}
                scores.append(score_translations(said, expected, target="es", metric="chrf").value)
        return sum(scores) / len(scores)

    mine, plain, untrained = map(mean, sides)
    assert found["value"] == pytest.approx((mine - untrained) / (plain - untrained))
    low, high = found["ci"]
    assert low < found["value"] < high
    same = measuring.share_of_plain("es", spoken, sides[1], sides[1], sides[2], "test")
    assert (same["value"], same["ci"]) == (1.0, [1.0, 1.0])


def test_seeds_are_drawn_anew_as_clusters_are(measuring):
    """One training has all of plain's gain, the other none: half of it in every draw of the clusters alone."""
    two = Measuring(replace(measuring.work, study=replace(measuring.work.study, rotations=(0,), seeds=(0, 1))))
    mine = {(0, 0): answered(two, 0, new=1.0), (0, 1): answered(two, 0, new=0.0)}
    plain, untrained = ({c: answered(two, 0, new=n) for c in two.cells} for n in (1.0, 0.0))
    found = two.share_of_plain("es", ["fr"], mine, plain, untrained, "test")
    assert (found["value"], found["ci"]) == (pytest.approx(0.5), [0.0, 1.0])


def test_there_is_no_share_of_no_gain(measuring):
    half, whole = ({c: answered(measuring, c[0], new=share) for c in CELLS} for share in (0.5, 1.0))
    nothing = {"value": None, "ci": None}
    assert measuring.share_of_plain("es", ["en", "fr"], whole, half, half, "test") == nothing
    assert (
        measuring.share_of_plain("es", ["en", "fr"], half, half, whole, "test") == nothing
    )  # loss over loss is no gain
    assert measuring.share_of_plain("es", [], half, whole, half, "test") == nothing


def test_the_table_has_every_rotations_test_once(measuring, spoken):
    right = {c: answered(measuring, c[0]) for c in CELLS}
    rows = {(r["task"], r["source"]): r for r in measuring.table(right, right, ["en"], "test")}
    tested = {u.meaning for r in (0, 1) for u in measuring.work.data.part(r, "test")}
    assert rows["new", "fr"]["n"] == len(tested) == 6
    assert rows["new", "fr"]["chrf"]["after"]["value"] == pytest.approx(100)
    assert rows["new", "en"]["trained"]


def test_trainings_are_told_apart_by_all_that_they_depend_on(tmp_path):
    def names(variants, **settings):
        return [r.name for r in TransferStudy(out=tmp_path, variants=variants, **settings).runs()]

    (plain,) = names({"plain": {}})
    assert names({"plain": {}, "same": {"shares": [0.5]}}) == [plain, plain]
    for other in (
        names({"plain": {}}, settings={"epochs": 9}),
        names({"plain": {}}, model="tiny"),
        names({"plain": {}}, source="fr"),
        names({"plain": {}}, targets=("zh",)),
        names({"plain": {}}, seeds=(1,)),
        names({"plain": {}}, rotations=(3,)),
        names({"plain": {}, "permuted": {}})[1:],
        names({"plain": {}, "some": {"utterances": 5}})[1:],
    ):
        assert other != [plain]


def test_a_study_counts_trainings_not_shares(measuring):
    assert measuring.work.study.plan().startswith("2 trainings (plain, wise-ft;")
    assert replace(measuring.work.study, rotations=(0,)).plan().startswith("1 trainings")
