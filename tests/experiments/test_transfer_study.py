"""What the study's figures are: each fold's dev chooses, and parts of plain's gain are what they say."""

from dataclasses import replace
from functools import cached_property

import pytest

from helpers import utterance
from interlingua.experiments import transfer_settings
from interlingua.experiments.transfer import Scores, TransferStudy, Work
from interlingua.experiments.transfer_settings import study_data
from interlingua.metrics import score_translations
from interlingua.results import Part

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


class Held(Work):
    """Outputs that a test has written, for any part."""

    @cached_property
    def held(self):
        return {}

    def outputs(self, model, part, whisper=None):
        return self.held[model]


@pytest.fixture
def scores(spoken, tmp_path, monkeypatch):
    study = TransferStudy(
        out=tmp_path, folds=(0, 1), variants={"plain": {}, "wise-ft": {"alphas": [1.0, 0.5]}}, targets=("es",)
    )
    monkeypatch.setattr(transfer_settings, "prepare_prompts", lambda **_: spoken)
    return Scores(Held(study, study_data(study, [], print), None, None, None, "float32", "cpu"))


def outputs(scores, fold, new=1.0, translate=1.0):
    """Outputs whose first part is right and whose rest is empty."""
    said = {}
    for part in ("dev", "test"):
        for kind, source, target, share in (
            ("new", "en", "es", new),
            ("new", "fr", "es", new),
            ("translate", "es", "en", translate),
            ("translate", "fr", "en", translate),
        ):
            heard = [u for u in scores.work.data.part(fold, part) if u.language == source]
            right = round(share * len(heard))
            texts = {u.id: u.translations[target] if i < right else "" for i, u in enumerate(heard)}
            said.setdefault(f"{kind} {source}-{target}", {}).update(texts)
    return said


def write(scores, model, found):
    scores.work.held[model] = found


def keys_of(sources):
    return [f"new {s}-es" for s in sources]


def test_dev_chooses_what_gains_most_among_those_that_lose_little(scores):
    runs = scores.candidates("wise-ft", "es")
    whole, half = runs
    assert (whole[1], half[1]) == (1.0, 0.5)
    write(scores, runs[whole][0, 0], outputs(scores, 0, new=1.0, translate=0.4))  # loses: the half is chosen
    write(scores, runs[half][0, 0], outputs(scores, 0, new=0.7, translate=1.0))
    write(scores, runs[whole][1, 0], outputs(scores, 1, new=1.0, translate=1.0))  # loses nothing: the whole
    write(scores, runs[half][1, 0], outputs(scores, 1, new=0.7, translate=1.0))
    assert scores.choice("es", 0, runs, outputs(scores, 0)) == half
    assert scores.choice("es", 1, runs, outputs(scores, 1)) == whole


def test_the_curve_goes_from_none_to_all(scores):
    runs = scores.candidates("wise-ft", "es")
    whole, half = runs
    for c in CELLS:
        write(scores, runs[whole][c], outputs(scores, c[0], new=1.0, translate=0.0))
        write(scores, runs[half][c], outputs(scores, c[0], new=0.7, translate=1.0))
    start = {c: outputs(scores, c[0], new=0.0, translate=1.0) for c in CELLS}
    none, some, all_ = scores.curve("es", ["en"], runs, start, "test")
    assert none == (0, 0)
    assert 0 < some[0] < all_[0] == pytest.approx(100)
    assert some[1] == 0
    assert all_[1] == pytest.approx(-100)


def test_where_all_lose_the_least_loss_is_chosen(scores):
    runs = scores.candidates("wise-ft", "es")
    whole, half = runs
    write(scores, runs[whole][0, 0], outputs(scores, 0, new=1.0, translate=0.0))
    write(scores, runs[half][0, 0], outputs(scores, 0, new=0.7, translate=0.4))
    assert scores.choice("es", 0, runs, outputs(scores, 0)) == half


def test_the_gain_relative_to_plains_by_hand(scores):
    spoken = ["en", "fr"]
    sides = [{c: outputs(scores, c[0], new=share) for c in CELLS} for share in (0.5, 1.0, 0.0)]
    found = scores.relative_gain(keys_of(spoken), *sides, "test")

    def mean(side):
        values = []
        for c in CELLS:
            for s in spoken:
                expected = {u.id: u.translations["es"] for u in scores.work.data.part(c[0], "test") if u.language == s}
                said = {i: t for i, t in side[c][f"new {s}-es"].items() if i in expected}
                values.append(score_translations(said, expected, target="es", metric="chrf").value)
        return sum(values) / len(values)

    mine, plain, untrained = map(mean, sides)
    assert found.value == pytest.approx((mine - untrained) / (plain - untrained))
    low, high = found.ci
    assert low < found.value < high
    same = scores.relative_gain(keys_of(spoken), sides[1], sides[1], sides[2], "test")
    assert (same.value, same.ci) == (1.0, (1.0, 1.0))


def test_seeds_are_drawn_anew_as_clusters_are(scores):
    """One training has all of plain's gain, the other none: half of it in every draw of the clusters alone."""
    two = Scores(replace(scores.work, study=replace(scores.work.study, folds=(0,), seeds=(0, 1))))
    mine = {(0, 0): outputs(two, 0, new=1.0), (0, 1): outputs(two, 0, new=0.0)}
    plain, untrained = ({c: outputs(two, 0, new=n) for c in two.cells} for n in (1.0, 0.0))
    found = two.relative_gain(keys_of(["fr"]), mine, plain, untrained, "test")
    assert (found.value, found.ci) == (pytest.approx(0.5), (0.0, 1.0))


def test_there_is_no_part_of_no_gain(scores):
    half, whole = ({c: outputs(scores, c[0], new=share) for c in CELLS} for share in (0.5, 1.0))
    nothing = Part()
    assert scores.relative_gain(keys_of(["en", "fr"]), whole, half, half, "test") == nothing
    assert (
        scores.relative_gain(keys_of(["en", "fr"]), half, half, whole, "test") == nothing
    )  # loss over loss is no gain
    assert scores.relative_gain([], half, whole, half, "test") == nothing


def test_the_table_has_every_folds_test_once(scores, spoken):
    right = {c: outputs(scores, c[0]) for c in CELLS}
    rows = {(r.task, r.source): r for r in scores.table(right, right, ["en"], "test")}
    tested = {u.meaning for r in (0, 1) for u in scores.work.data.part(r, "test")}
    assert rows["new", "fr"].n == len(tested) == 6
    assert rows["new", "fr"].chrf.after.value == pytest.approx(100)
    assert rows["new", "en"].trained


def test_trainings_are_told_apart_by_all_that_they_depend_on(tmp_path):
    def names(variants, **settings):
        return [r.name for r in TransferStudy(out=tmp_path, variants=variants, **settings).models()]

    (plain,) = names({"plain": {}})
    assert names({"plain": {}, "same": {"alphas": [0.5]}}) == [plain, plain]
    for other in (
        names({"plain": {}}, settings={"epochs": 9}),
        names({"plain": {}}, model="tiny"),
        names({"plain": {}}, source="fr"),
        names({"plain": {}}, targets=("zh",)),
        names({"plain": {}}, seeds=(1,)),
        names({"plain": {}}, folds=(3,)),
        names({"plain": {}, "permuted": {}})[1:],
        names({"plain": {}, "some": {"utterances": 5}})[1:],
    ):
        assert other != [plain]


def test_a_study_counts_trainings_not_alphas(scores):
    assert scores.work.study.plan().startswith("2 trainings (plain, wise-ft;")
    assert replace(scores.work.study, folds=(0,)).plan().startswith("1 trainings")
