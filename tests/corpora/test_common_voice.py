"""Common Voice, and CoVoST 2 which is made of it: each trap on a tiny tree."""

import shutil
import tarfile

import pytest

from interlingua.audio import load_audio
from interlingua.corpora.base import read_corpus
from interlingua.corpora.common_voice import gender_of
from interlingua.corpora.delimited import sentence_key
from interlingua.errors import CorpusError, UsageError
from trees import TEXTS, common_voice_tree, covost_tree, grown, read


@pytest.mark.parametrize("release", [4, 11, 17])
def test_any_release_of_common_voice(tmp_path, spoken, release):
    found, log = read(
        "common-voice", common_voice_tree(tmp_path, spoken, release=release, durations=True), split="train"
    )
    assert log == []
    assert [(u.language, u.text, u.speaker, u.gender, u.split) for u in found] == [
        (u.language, u.text, u.speaker, u.gender, "train") for u in spoken_by_locale(spoken)
    ]
    assert [u.duration for u in found] == pytest.approx([u.duration for u in spoken_by_locale(spoken)], abs=0.002)
    french = [u for u in found if u.text == TEXTS["fr", "cat"]]
    assert len({u.id for u in french}) == 2
    assert {u.meaning for u in french} == {"scat" if release == 17 else sentence_key("fr", TEXTS["fr", "cat"])}
    assert len(load_audio(found[0].audio)) == pytest.approx(found[0].duration * 16_000, abs=3000)


def spoken_by_locale(spoken):
    return sorted(spoken, key=lambda u: u.language)


def test_train_dev_and_test_are_read_and_validated_is_not(tmp_path, spoken):
    root = common_voice_tree(tmp_path, spoken)
    assert len(read("common-voice", root)[0]) == 7
    assert [u.split for u in read("common-voice", root, split="validated")[0]] == ["validated"] * 7
    with pytest.raises(CorpusError, match=r"no dev.tsv is here"):
        read("common-voice", root, split="dev")
    with pytest.raises(UsageError, match=r"--split reported: the common-voice corpus has train, dev, test, validated"):
        read("common-voice", root, split="reported")


def test_a_clip_that_is_missing_is_named(tmp_path, spoken):
    root = common_voice_tree(tmp_path, spoken)
    (root / "fr" / "clips" / "common_voice_fr_1003.mp3").unlink()
    found, log = read("common-voice", root, split="train")
    assert len(found) == 6
    assert log == ["common-voice fr/train: skipped 1 (recording missing): common_voice_fr_1003.mp3"]


def test_the_folder_above_the_release_is_a_root_unless_there_are_two(tmp_path, spoken):
    common_voice_tree(tmp_path / "cv-corpus-4-2019-12-10", spoken)
    assert len(read("common-voice", tmp_path)[0]) == 7
    (tmp_path / "cv-corpus-17.0-2024-03-15").mkdir()
    with pytest.raises(UsageError, match=r"several releases \(cv-corpus-17.0-2024-03-15, cv-corpus-4-2019-12-10\)"):
        read("common-voice", tmp_path)


def locales(root, spoken, *names):
    common_voice_tree(root, spoken[:1])
    for name in names:
        shutil.copytree(root / "en", root / name)
    shutil.rmtree(root / "en")
    return root


def test_locales_become_our_codes(tmp_path, spoken):
    root = locales(tmp_path, spoken, "zh-CN", "zh-TW", "zh-HK", "sv-SE", "ga-IE", "nan-tw", "tok", "notes")
    found, log = read("common-voice", root)
    assert {u.id.partition("/")[0]: u.language for u in found} == {
        "zh-CN": "zh",
        "zh-TW": "zh",
        "zh-HK": "yue",
        "sv-SE": "sv",
        "ga-IE": "ga",
        "nan-tw": "nan",
    }
    assert f"{tmp_path / 'tok'}: skipped, for 'tok' is no language code that is known here" in log


@pytest.mark.parametrize(
    ("asked", "folders"),
    [
        (("zh",), ["zh-CN", "zh-TW"]),
        (("zh-TW",), ["zh-TW"]),
        (("zh_tw", "zh-cn"), ["zh-TW", "zh-CN"]),
        (("sv",), ["sv-SE"]),
    ],
)
def test_a_locale_means_itself_and_a_language_all_its_locales(tmp_path, spoken, asked, folders):
    root = locales(tmp_path, spoken, "zh-CN", "zh-TW", "sv-SE")
    found, _ = read("common-voice", root, languages=asked)
    assert [u.id.partition("/")[0] for u in found] == folders


def test_genders_of_older_and_newer_releases():
    written = ["male", "female_feminine", "male_masculine", "other", "non-binary", "", "do_not_wish_to_say", "intersex"]
    assert [gender_of(w) for w in written] == ["male", "female", "male", "other", "other", None, None, "other"]


@pytest.mark.parametrize("prepared", [False, True])
def test_covost_joined_and_prepared(tmp_path, spoken, prepared):
    found, log = read("covost", covost_tree(tmp_path, spoken, prepared=prepared), split="train")
    translated = [u for u in spoken_by_locale(spoken) if u.translations]
    assert [(u.language, u.text, u.translations, u.speaker, u.split) for u in found] == [
        (u.language, u.text, u.translations, u.speaker, "train") for u in translated
    ]
    assert log == []
    french = [u for u in found if u.text == TEXTS["fr", "cat"]]
    assert len({u.meaning for u in french}) == 1
    assert len({u.id for u in french}) == 2


def covost(root, spoken, rows, *, name="covost_v2.en_de.tsv"):
    """An English tree (clips 1000 to 1002) with the rows given."""
    common_voice_tree(root, spoken[:3])
    (root / "en" / name).write_text("path\ttranslation\tsplit\n" + "".join(f"{row}\n" for row in rows), newline="")
    return root


CLIP = "common_voice_en_{}.mp3".format


def test_na_unbalanced_quotes_and_escapes(tmp_path, spoken):
    rows = [f'{CLIP(1000)}\tEr "sagte\ttrain', f"{CLIP(1001)}\tNA\ttrain", f'{CLIP(1002)}\ta\\\tb \\\\ \\"\ttrain']
    found, log = read("covost", covost(tmp_path, spoken, rows))
    assert [u.translations["de"] for u in found] == ['Er "sagte', "NA", 'a\tb \\ "']
    assert [u.text for u in found] == [TEXTS["en", "cat"], "NA", "null"]
    assert log == []


def test_the_splits_of_covost(tmp_path, spoken):
    rows = [f"{CLIP(1000 + n)}\tx\t{split}" for n, split in enumerate(("train_covost", "dev", "dev_covost"))]
    root = covost(tmp_path, spoken, rows)
    found, log = read("covost", root)
    assert [u.split for u in found] == ["train", "dev"]
    assert log == [f"covost en: skipped 1 (split 'dev_covost', which CoVoST 2 doesn't use): {CLIP(1002)}"]
    assert [u.split for u in read("covost", root, split="dev")[0]] == ["dev"]
    with pytest.raises(UsageError, match=r"--split all: the covost corpus has train, dev, test"):
        read("covost", root, split="all")


def test_rows_that_a_newer_common_voice_has_lost_are_counted(tmp_path, spoken):
    rows = [f"{CLIP(n)}\tx\ttrain" for n in (1000, 7, 8)]
    root = covost(tmp_path, spoken, rows)
    (root / "en" / "clips" / CLIP(1000)).unlink()
    found, log = read("covost", root)
    assert found == []
    assert (
        log
        == [
            "covost en: skipped 2 (not in this Common Voice's validated.tsv; CoVoST 2 was made from release 4): "
            f"{CLIP(7)}, {CLIP(8)}",
            f"covost en: skipped 1 (recording missing): {CLIP(1000)}",
        ]
        or log[::-1]
    )


def test_a_second_translation_of_a_recording_is_counted(tmp_path, spoken):
    root = covost(tmp_path, spoken, [f"{CLIP(1000)}\t{text}\ttrain" for text in ("eins", "zwei")])
    (found,), log = read("covost", root)
    assert found.translations == {"de": "eins"}
    assert log == [f"covost en: skipped 1 (a second translation into de of a recording): {CLIP(1000)}"]


def test_a_table_in_a_tar_gz_and_one_in_the_root(tmp_path, spoken):
    root = covost(tmp_path, spoken, [f"{CLIP(1000)}\tHallo\ttrain"])
    with tarfile.open(root / "en" / "covost_v2.en_ca.tsv.tar.gz", "w:gz") as tar:
        tar.add(root / "en" / "covost_v2.en_de.tsv", "covost_v2.en_ca.tsv")
    shutil.copy(root / "en" / "covost_v2.en_de.tsv", root / "covost_v2.en_sv-SE.tsv")
    (found,), _ = read("covost", root)
    assert found.translations == {"ca": "Hallo", "de": "Hallo", "sv": "Hallo"}


def test_the_targets_asked_for(tmp_path, spoken):
    root = covost_tree(tmp_path, spoken)
    found, _ = read("covost", root, languages=("en",), targets=("ru",))
    assert [u.translations for u in found] == [{"ru": TEXTS["ru", "cat"]}]


def test_a_split_that_only_some_targets_have(tmp_path, spoken):
    root = covost(tmp_path, spoken, [f"{CLIP(1000)}\tHallo\ttest"])
    prepared = root / "en" / "covost_v2.en_ca.dev.tsv"
    prepared.write_text(f"path\tsentence\ttranslation\tclient_id\n{CLIP(1001)}\ta\tHola\ts\n")
    (found,), log = read("covost", root, split="test")
    assert found.translations == {"de": "Hallo"}
    assert log == ["covost en: no test with translations into ca is here"]
    lacking = r"no test with translations into ca is here. fetch"
    with pytest.raises(CorpusError, match=lacking):
        read("covost", root, split="test", targets=("ca", "de"))
    (root / "en" / "covost_v2.en_de.tsv").unlink()
    with pytest.raises(CorpusError, match=lacking):
        read("covost", root, split="test")


def test_a_hundred_thousand_rows_of_common_voice_take_no_memory(tmp_path, spoken):
    def make(rows):
        root = common_voice_tree(tmp_path / str(rows), spoken[:1])
        row = (root / "en" / "train.tsv").read_text().splitlines()[1]
        with (root / "en" / "train.tsv").open("a") as out:
            out.writelines(f"{row}\n" for _ in range(rows - 1))
        return root

    few, many = grown(make, lambda root: read_corpus("common-voice", root))
    assert many < few + 200_000


def test_a_hundred_thousand_rows_of_covost_take_their_join_only(tmp_path, spoken, monkeypatch):
    monkeypatch.setattr("interlingua.corpora.layout.os.path.isfile", lambda path: True)  # 100,000 clips take a minute

    def make(rows):
        root = covost(tmp_path / str(rows), spoken, [f"{n}.mp3\tHallo {n}\ttrain" for n in range(rows)])
        table = "client_id\tpath\tsentence\n" + "".join(f"s{n}\t{n}.mp3\tHello {n}\n" for n in range(rows))
        (root / "en" / "validated.tsv").write_text(table)
        return root

    few, many = grown(make, lambda root: read_corpus("covost", root))
    assert many < few + 100_000 * 700  # bytes a row: path, split and translation
