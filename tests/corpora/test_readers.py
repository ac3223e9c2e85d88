"""Readers of FLEURS, CoVoST 2, Common Voice and MaSS: each trap of their formats on a tiny tree in the real layout."""

import doctest
import gzip
import importlib
import io
import json
import shutil
import tarfile
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest

from helpers import sweep, utterance, write_wav
from interlingua.audio import load_audio
from interlingua.corpora import fleurs, read_any, read_manifest, write_manifest
from interlingua.corpora.base import CORPORA, Skipped, get_corpus, read_corpus
from interlingua.corpora.delimited import read_table, sentence_key
from interlingua.corpora.mass import BOOKS, verse_of
from interlingua.errors import CorpusError, FetchError, ManifestError, UsageError
from interlingua.languages import UNSEEN_LANGUAGES, WHISPER_LANGUAGES, language_name, normalise_language
from interlingua.types import AudioRef
from trees import common_voice_tree, covost_tree, fleurs_tree, mass_stem, mass_tree

TEXTS = {
    ("en", "cat"): 'He said: "The cat, sat.',  # the quote is never closed
    ("en", "na"): "NA",
    ("en", "null"): "null",
    ("fr", "cat"): "Il a dit : « Le chat s'est assis. »",
    ("fr", "na"): "N'importe quoi.",
    ("ru", "cat"): "Он сказал: кот сел.",
}


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """Six sentences, one of which two people read in French."""
    folder = tmp_path_factory.mktemp("spoken")
    made = []
    for n, ((language, meaning), text) in enumerate([*TEXTS.items(), (("fr", "cat"), TEXTS["fr", "cat"])]):
        path = write_wav(folder / f"{n}.wav", sweep(0.5 + 0.1 * n, pitch=200 + 60 * n, seed=n))
        others = {code: said for (code, same), said in TEXTS.items() if same == meaning and code != language}
        made.append(
            utterance(
                language,
                meaning,
                id=f"{language}/{n}",
                audio=AudioRef(str(path)),
                text=text,
                translations=others,
                speaker=f"s{n}",
                gender="female" if n % 2 else "male",
                duration=0.5 + 0.1 * n,
            )
        )
    return made


def read(name, root, **options):
    """(utterances, log)"""
    log: list[str] = []
    return list(read_corpus(name, root, log=log.append, **options)), log


def texts_of(utterances):
    return {(u.language, u.text) for u in utterances}


# ---------------------------------------------------------------- FLEURS


@pytest.mark.parametrize("layout", ["tar.gz", "tar", "unpacked", "parquet"])
@pytest.mark.parametrize("floats", [False, True])
def test_fleurs_in_every_layout(tmp_path, spoken, layout, floats):
    found, log = read("fleurs", fleurs_tree(tmp_path, spoken, layout=layout, floats=floats))
    assert texts_of(found) == texts_of(spoken)
    assert len({u.id for u in found}) == len(spoken)
    by_text = {(u.text, u.duration): u for u in found}
    for u in spoken:
        same = by_text[u.text, u.duration]
        assert (same.language, same.gender, same.split, same.speaker) == (u.language, u.gender, "test", None)
        assert same.translations == u.translations
        assert len(load_audio(same.audio)) == round(u.duration * 16_000)
        assert abs(load_audio(same.audio) - load_audio(u.audio)).max() < 1e-4
    assert not [line for line in log if "in place" not in line]


def test_a_sentence_with_several_recordings_is_one_meaning(tmp_path, spoken):
    found, _ = read("fleurs", fleurs_tree(tmp_path, spoken, layout="unpacked"))
    cats = [u for u in found if u.meaning == next(v.meaning for v in found if v.language == "ru")]
    assert sorted(u.language for u in cats) == ["en", "fr", "fr", "ru"]
    assert len({u.id for u in cats}) == 4


def fleurs_row(id="91", name="1.wav", raw="The cat, sat.", plain="the cat sat", samples="51200", gender="FEMALE"):
    return "\t".join([id, name, raw, plain, "t h e |", samples, gender])


def fleurs_folder(root, *rows, split="dev", code="en_us", end="\n", start="", wavs=("1.wav", "2.wav", "3.wav")):
    folder = root / "data" / code
    for name in wavs:
        write_wav(folder / "audio" / split / name, sweep(0.3, 300))
    (folder / f"{split}.tsv").write_bytes((start + "".join(row + end for row in rows)).encode())
    return root


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\N{BYTE ORDER MARK}"])
def test_line_ends_and_a_byte_order_mark_are_no_part_of_a_row(tmp_path, end, start):
    (found,), _ = read("fleurs", fleurs_folder(tmp_path, fleurs_row(), end=end, start=start))
    assert (found.meaning, found.text, found.gender) == ("91", "The cat, sat.", "female")
    assert (found.id, found.split, found.duration) == ("en_us/dev/1", "dev", 3.2)


def test_an_empty_last_field_and_one_that_is_not_there(tmp_path):
    rows = (fleurs_row(gender=""), fleurs_row(name="2.wav").rpartition("\t")[0], fleurs_row(name="3.wav", samples="x"))
    found, log = read("fleurs", fleurs_folder(tmp_path, *rows))
    assert [(u.gender, u.duration) for u in found] == [(None, 3.2), (None, 3.2), ("female", None)]
    assert log == []


def test_quotes_separators_and_words_like_na_are_letters(tmp_path):
    odd = ('"', 'a "b', "NA", "null", "x\u2028y\x85z\x0b\x1c", "back\\slash", " spaced ")
    rows = [fleurs_row(id=str(n), raw=text) for n, text in enumerate(odd)]
    found, log = read("fleurs", fleurs_folder(tmp_path, *rows))
    assert [u.text for u in found] == list(odd)
    assert log == []


def test_rows_that_can_t_be_used_are_counted_and_named(tmp_path):
    rows = (
        fleurs_row(),
        fleurs_row(name="lost.wav"),
        fleurs_row(raw="a tab\tinside"),
        "92\t2.wav",
        fleurs_row(id=""),
        "",
        fleurs_row(name="../../../en_us/audio/dev/1.wav"),
    )
    found, log = read("fleurs", fleurs_folder(tmp_path, *rows))
    assert len(found) == 1
    assert sorted(log) == [
        "fleurs en_us/dev: skipped 1 (fewer than 7 columns): dev.tsv:4",
        "fleurs en_us/dev: skipped 1 (more than 7 columns): dev.tsv:3",
        "fleurs en_us/dev: skipped 1 (no id or file name): dev.tsv:5",
        "fleurs en_us/dev: skipped 2 (recording missing): lost.wav, ../../../en_us/audio/dev/1.wav",
    ]


def test_many_missing_recordings_are_one_line(tmp_path):
    rows = [fleurs_row(name=f"lost{n}.wav") for n in range(25)]
    found, (line,) = read("fleurs", fleurs_folder(tmp_path, *rows))
    assert found == []
    assert line.startswith("fleurs en_us/dev: skipped 25 (recording missing): lost0.wav, lost1.wav, ")
    assert line.endswith("lost9.wav and 15 more")


def test_normalised_text_and_the_references_asked_for(tmp_path, spoken):
    root = fleurs_tree(tmp_path, spoken, layout="unpacked")
    found, _ = read("fleurs", root, languages=("en",), references=("ru_ru",), text="normalised")
    assert {u.text for u in found} == {"he said the cat sat", "na", "null"}
    assert [u.translations for u in found] == [{"ru": "он сказал кот сел"}, {}, {}]
    alone, _ = read("fleurs", root, languages=("en",))
    assert [u.translations for u in alone] == [{}, {}, {}]


def test_a_tar_gz_is_read_in_its_own_order(tmp_path, spoken):
    root = fleurs_tree(tmp_path, [u for u in spoken if u.language == "en"])
    table = root / "data" / "en_us" / "test.tsv"
    rows = table.read_text().splitlines()
    table.write_text("".join(f"{row}\n" for row in [fleurs_row(name="lost.wav"), *reversed(rows)]))
    found, log = read("fleurs", root)
    assert [u.text for u in found] == [row.split("\t")[2] for row in rows]
    assert log[0].endswith("test.tar.gz: read in place, in its own order; unpack it where speed matters")
    assert log[1:] == ["fleurs en_us/test: skipped 1 (recording missing): lost.wav"]


def test_unsafe_members_of_a_corpus_s_archive_are_told(tmp_path, spoken):
    root = fleurs_tree(tmp_path, [u for u in spoken if u.language == "en"], layout="tar")
    with tarfile.open(root / "data" / "en_us" / "audio" / "test.tar", "a") as tar:
        for name in ("../evil.wav", "/evil.wav"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    found, (line,) = read("fleurs", root)
    assert len(found) == 3
    assert line.endswith("test.tar: 2 links or unsafe names in it are not read")


def test_the_language_s_folder_itself_is_a_root(tmp_path, spoken):
    root = fleurs_tree(tmp_path, spoken, layout="unpacked")
    assert {u.language for u in read("fleurs", root / "data" / "fr_fr")[0]} == {"fr"}
    assert {u.language for u in read("fleurs", root / "data")[0]} == {"en", "fr", "ru"}


def test_wavs_beside_their_table(tmp_path):
    folder = fleurs_folder(tmp_path, fleurs_row()) / "data" / "en_us"
    (folder / "audio" / "dev").rename(folder / "dev")
    assert len(read("fleurs", tmp_path)[0]) == 1
    (folder / "dev.tsv").rename(folder / "dev" / "dev.tsv")
    assert len(read("fleurs", tmp_path)[0]) == 1


def test_the_split_has_two_names(tmp_path, spoken):
    root = fleurs_tree(tmp_path, spoken, layout="parquet", split="dev")
    assert (root / "fr_fr" / "validation" / "0000.parquet").is_file()
    assert [u.split for u in read("fleurs", root, split="validation")[0]] == ["dev"] * 7


def test_a_split_that_only_some_languages_have_is_told(tmp_path, spoken):
    root = fleurs_tree(tmp_path, [u for u in spoken if u.language != "ru"], layout="unpacked")
    fleurs_tree(tmp_path, [u for u in spoken if u.language == "ru"], layout="unpacked", split="dev")
    found, log = read("fleurs", root)
    assert [u.split for u in found] == ["dev"] + ["test"] * 6
    assert log == ["fleurs: no dev of en_us, fr_fr is here", "fleurs: no test of ru_ru is here"]


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"languages": ("de",)}, CorpusError, r"no 'de' is here, only en_us, fr_fr, ru_ru. fetch data/<lang>/"),
        ({"split": "train"}, CorpusError, r"no train of en_us, fr_fr, ru_ru is here. fetch data/<lang>/"),
        ({"split": "all"}, UsageError, r"--split all: FLEURS has train, dev, test"),
        ({"languages": ("elvish",)}, UsageError, r"unknown language 'elvish'"),
    ],
)
def test_what_fleurs_lacks_is_said_with_what_to_fetch(tmp_path, spoken, options, error, said):
    root = fleurs_tree(tmp_path, spoken, layout="unpacked")
    with pytest.raises(error, match=said) as caught:
        read("fleurs", root, **options)
    assert "\n" not in str(caught.value)


def test_a_table_without_its_recordings(tmp_path):
    root = fleurs_folder(tmp_path, fleurs_row())
    shutil.rmtree(root / "data" / "en_us" / "audio")
    with pytest.raises(CorpusError, match=r"dev.tsv is here, its recordings .* not. fetch"):
        read("fleurs", root)


def test_bytes_that_are_no_utf8_name_file_and_line(tmp_path):
    root = fleurs_folder(tmp_path, fleurs_row())
    with (root / "data" / "en_us" / "dev.tsv").open("ab") as out:
        out.write(b"9\t1.wav\tcaf\xe9\tcafe\tc\t1\tMALE\n")
    with pytest.raises(CorpusError, match=r"dev.tsv:2: not UTF-8 \(byte 0xe9\)"):
        read("fleurs", root)


def test_a_broken_parquet_file(tmp_path, spoken):
    root = fleurs_tree(tmp_path, spoken, layout="parquet")
    path = root / "en_us" / "test" / "0000.parquet"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(CorpusError, match=r"0000.parquet: no parquet file of FLEURS") as caught:
        read("fleurs", root)
    assert "\n" not in str(caught.value)


def test_fleurs_codes_become_ours():
    codes = {code: normalise_language(code) for code in fleurs.LANGUAGES}
    assert len(codes) == len(set(codes.values())) == 102
    named = {"cmn_hans_cn": "zh", "yue_hant_hk": "yue", "fil_ph": "tl", "jv_id": "jw", "nb_no": "no", "es_419": "es"}
    assert named.items() <= codes.items()
    without = {code for code in codes.values() if code not in WHISPER_LANGUAGES}
    assert " ".join(sorted(without)) == "ast ceb ckb ff ga ig kam kea ky lg luo nso ny om or umb wo xh zu"
    assert without <= UNSEEN_LANGUAGES.keys()
    assert {fleurs.fleurs_code(code) for code in codes.values()} == set(fleurs.LANGUAGES)


# ---------------------------------------------------------------- FLEURS: the hub


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that serves two files of French dev; `asked` names what was downloaded, `files` may be altered."""
    made = SimpleNamespace(asked=[], files={}, served={})
    for name in ("data/fr_fr/dev.tsv", "data/fr_fr/audio/dev.tar.gz"):
        made.files[name] = name.encode()
    made.served.update(made.files)

    def get_paths_info(self, repository, paths, *, repo_type, revision):
        import hashlib

        assert (repository, repo_type) == ("google/fleurs", "dataset")
        large = {name: SimpleNamespace(sha256=hashlib.sha256(data).hexdigest()) for name, data in made.files.items()}
        return [
            SimpleNamespace(path=n, size=len(made.files[n]), lfs=large[n] if n.endswith("gz") else None)
            for n in paths
            if n in made.files
        ]

    def hf_hub_download(repository, name, *, repo_type, revision, local_dir):
        made.asked.append(name)
        path = Path(local_dir) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made.served[name])

    monkeypatch.setattr(huggingface_hub.HfApi, "get_paths_info", get_paths_info)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    return made


def test_the_files_asked_for_are_fetched_once(hub, tmp_path):
    log: list[str] = []
    fleurs.download_fleurs(tmp_path, ("fr",), "validation", log.append)
    assert hub.asked == list(hub.files)
    fleurs.download_fleurs(tmp_path, ("fr_fr",), "dev", log.append)
    assert hub.asked == list(hub.files)
    assert log[-1] == "data/fr_fr/audio/dev.tar.gz: is there already"


def test_a_damaged_file_is_fetched_again(hub, tmp_path):
    fleurs.download_fleurs(tmp_path, ("fr",), "dev", print)
    path = tmp_path / "data" / "fr_fr" / "audio" / "dev.tar.gz"
    path.write_bytes(b"x" * path.stat().st_size)
    fleurs.download_fleurs(tmp_path, ("fr",), "dev", print)
    assert path.read_bytes() == hub.files["data/fr_fr/audio/dev.tar.gz"]


@pytest.mark.parametrize("served", [b"short", b"data/fr_fr/audio/dev.tar.xx"])
def test_what_comes_otherwise_than_the_hub_says_is_not_kept(hub, tmp_path, served):
    hub.served["data/fr_fr/audio/dev.tar.gz"] = served
    with pytest.raises(FetchError, match=r"came with another size or SHA-256; try again. By hand: fetch data/<lang>/"):
        fleurs.download_fleurs(tmp_path, ("fr",), "dev", print)
    assert not (tmp_path / "data" / "fr_fr" / "audio" / "dev.tar.gz").exists()


def test_a_file_that_the_hub_lacks(hub, tmp_path):
    with pytest.raises(FetchError, match=r"google/fleurs has no data/fr_fr/train.tsv at main. By hand: "):
        fleurs.download_fleurs(tmp_path, ("fr",), "train", print)


def test_a_hub_that_can_t_be_reached(tmp_path):
    with pytest.raises(
        FetchError, match=r"google/fleurs can't be fetched \(.*\). By hand: fetch data/<lang>/"
    ) as caught:
        fleurs.download_fleurs(tmp_path, ("fr",), "dev", print)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("languages", "said"), [(None, r"needs --languages; all 102"), (("eo",), r"FLEURS has no 'eo'; it has af_za")]
)
def test_a_download_that_makes_no_sense(hub, tmp_path, languages, said):
    with pytest.raises(UsageError, match=said):
        fleurs.download_fleurs(tmp_path, languages, "dev", print)
    assert hub.asked == []


# ---------------------------------------------------------------- Common Voice


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
    with pytest.raises(UsageError, match=r"--split reported: Common Voice has train, dev, test, validated"):
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
    root = locales(tmp_path, spoken, "zh-CN", "zh-TW", "zh-HK", "sv-SE", "ga-IE", "nan-tw", "notes")
    found, _ = read("common-voice", root)
    assert {u.id.partition("/")[0]: u.language for u in found} == {
        "zh-CN": "zh",
        "zh-TW": "zh",
        "zh-HK": "yue",
        "sv-SE": "sv",
        "ga-IE": "ga",
        "nan-tw": "nan",
    }


def test_a_folder_whose_language_is_unknown_is_told(tmp_path, spoken):
    found, log = read("common-voice", locales(tmp_path, spoken, "sv-SE", "tok"), split="train")
    assert {u.language for u in found} == {"sv"}
    assert log == [f"{tmp_path / 'tok'}: skipped, for 'tok' is no language code that is known here"]


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
    from interlingua.corpora.common_voice import gender_of

    written = ["male", "female_feminine", "male_masculine", "other", "non-binary", "", "do_not_wish_to_say", "intersex"]
    assert [gender_of(w) for w in written] == ["male", "female", "male", "other", "other", None, None, "other"]


def test_a_table_without_the_columns_is_named(tmp_path, spoken):
    root = common_voice_tree(tmp_path, spoken[:1])
    (root / "en" / "train.tsv").write_text("client_id\tfile\tsentence\n")
    with pytest.raises(CorpusError, match=r"train.tsv:1: no column 'path' among client_id, file, sentence"):
        read("common-voice", root)
    (root / "en" / "train.tsv").write_text("")
    with pytest.raises(CorpusError, match=r"train.tsv: the file is empty"):
        read("common-voice", root)


# ---------------------------------------------------------------- CoVoST 2


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
    with pytest.raises(UsageError, match=r"--split all: CoVoST has train, dev, test"):
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
    with pytest.raises(CorpusError, match=r"no translations into de are here. fetch Common Voice 4"):
        read("covost", root, languages=("en",), targets=("ru", "de"))


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


def test_no_table_to_join_with(tmp_path, spoken):
    root = covost(tmp_path, spoken, [f"{CLIP(1000)}\tHallo\ttrain"])
    (root / "en" / "validated.tsv").unlink()
    with pytest.raises(CorpusError, match=r"no validated.tsv to join the translations with. fetch"):
        read("covost", root)


# ---------------------------------------------------------------- MaSS


def test_verses_pair_across_orders_and_names_of_books(tmp_path):
    texts = {}
    for language in ("en", "es", "fr", "ru", "fi", "eu"):
        for n in range(27):
            texts[language, f"{n:02}"] = f"{language} {n}"
    audio = AudioRef(str(write_wav(tmp_path / "a.wav", sweep(0.6, 300))))
    made = [utterance(code, meaning, audio=audio, text=text) for (code, meaning), text in texts.items()]
    found, log = read("mass", mass_tree(tmp_path / "root", made))
    assert len(found) == 6 * 27
    verses: dict[str, set[str]] = {}
    for u in found:
        verses.setdefault(u.meaning, set()).add(u.text.split()[1])
        assert set(u.translations) == {"en", "es", "fr", "ru", "fi", "eu"} - {u.language}
        assert {text.split()[1] for text in u.translations.values()} == verses[u.meaning]
    assert len(verses) == 27
    assert all(len(numbers) == 1 for numbers in verses.values())
    assert "James 1:1" in verses
    assert len(log) == 6  # each language's titles
    assert log[0].startswith("mass basque: skipped 27 (a chapter's title; --option titles=yes keeps it): B01___01_San_")


def test_the_order_of_books_differs():
    assert verse_of("B06___01_James_______RUSS76N2DA_verse_5") == ("James", 1, 5)
    assert verse_of("B20___01_Santiago____EUSEABN1DA_verse_5_one_channel") == ("James", 1, 5)
    assert verse_of("B13___02_1Tes________SPNBDAN1DA_verse_0") == ("1Thess", 2, 0)
    assert verse_of("B26___01_Judas_______SPNBDAN1DA_verse_1") == ("Jude", 1, 1)
    assert verse_of("B07___01_1CorinthiansENGESVN1DA_verse_1") == ("1Corinthians", 1, 1)
    for name in ("B06___01_Genesis_____ENGESVN1DA_verse_5", "B06___01_James_______RUSS76N2DA", "notes"):
        assert verse_of(name) is None
    assert len(BOOKS) == 27
    assert len({mass_stem("ru", b, 1, 1) for b in range(27)}) == 27


@pytest.mark.parametrize("one_channel", [True, False])
def test_titles_are_left_out_unless_asked_for(tmp_path, spoken, one_channel):
    root = mass_tree(tmp_path, spoken[:4], one_channel=one_channel)
    assert {u.meaning for u in read("mass", root)[0]} == {"Matthew 1:1", "Mark 1:1", "Luke 1:1"}
    with_titles, log = read("mass", root / "dataset", titles=True)
    assert {u.meaning for u in with_titles if u.text == "Chapter 1"} == {"Matthew 1:0", "Mark 1:0", "Luke 1:0"}
    assert log == []


def test_verses_without_audio_and_audio_without_text(tmp_path, spoken):
    root = mass_tree(tmp_path, spoken[:4])
    english = root / "dataset" / "english"
    stem = mass_stem("en", 0, 1, 1)
    (english / "wav" / f"{stem}_one_channel.wav").rename(english / "wav" / f"{mass_stem('en', 0, 1, 9)}.wav")
    shutil.copy(english / "wav" / f"{mass_stem('en', 1, 1, 1)}_one_channel.wav", english / "wav" / "noise.wav")
    found, log = read("mass", root, languages=("en",), references=("fr",))
    assert [(u.meaning, u.text) for u in found] == [("Matthew 1:9", None), ("Mark 1:1", "NA"), ("Luke 1:1", "null")]
    assert f"mass english: skipped 1 (recording missing): {stem}.wav" in log
    assert "mass english: skipped 1 (its name is no verse's): noise" in log


def mass_corpora(root, spoken):
    """What MaSS's scripts leave: ``data/<language>_corpus/{txt,wav}``, and the table of what there is."""
    mass_tree(root, spoken)
    found, _ = read("mass", root, titles=True)
    verses: dict[str, dict[str, str]] = {}
    for u in found:
        name = u.meaning.replace(" ", "_").replace(":", "_verse_")
        verses.setdefault(name, {})[language_name(u.language).lower()] = u.id.partition("/")[2]
    languages = sorted({language for row in verses.values() for language in row})
    for language in languages:
        (root / "data").mkdir(exist_ok=True)
        (root / "dataset" / language).rename(root / "data" / f"{language}_corpus")
    rows = [["ID", "Label", *languages], ["", "Path", *(f"./data/{name}_corpus/wav/" for name in languages)]]
    rows += [
        ["", "Available", *("9" for _ in languages), "Intersection"],
        ["", "Missing", *("0" for _ in languages), "2"],
    ]
    for n, (name, row) in enumerate(sorted(verses.items())):
        rows.append([str(n), name, *(row.get(language, "Not Available") for language in languages)])
    table = root / "data" / "recap_verses-anName-True.csv"
    table.write_text("".join(",".join(row) + "\n" for row in rows), encoding="utf-8")
    return table


def test_the_table_of_mass_s_scripts_holds_what_its_folders_hold(tmp_path, spoken):
    before, _ = read("mass", mass_tree(tmp_path / "tree", spoken))
    table = mass_corpora(tmp_path / "scripts", spoken)
    found, log = read("mass", table)
    assert {(u.id, u.text, u.meaning) for u in found} == {(u.id, u.text, u.meaning) for u in before}
    assert all(u.translations == next(v.translations for v in before if v.id == u.id) for u in found)
    assert all(load_audio(u.audio).shape == load_audio(v.audio).shape for u in found for v in before if v.id == u.id)
    assert len(log) == 1
    assert log[0].startswith("mass recap_verses-anName-True.csv: skipped 3 (a chapter's title")
    assert {u.meaning for u in read("mass", table, titles=True)[0]} == {u.meaning for u in before} | {
        "Matthew 1:0", "Mark 1:0", "Luke 1:0",
    }  # fmt: skip
    assert list(read_any(table)) == found
    french = read("mass", table, languages=("fr",), references=("ru",))[0]
    assert {(u.language, *u.translations) for u in french} == {("fr", "ru"), ("fr",)}


def test_a_text_beside_mass_s_table_that_is_no_utf_8_is_named(tmp_path, spoken):
    table = mass_corpora(tmp_path, spoken)
    text = next((tmp_path / "data" / "french_corpus" / "txt").glob("*verse_1.txt"))
    text.write_bytes("voilà".encode("latin-1"))
    with pytest.raises(CorpusError, match=text.name):
        read("mass", table)


def test_a_table_of_mass_whose_recordings_are_elsewhere(tmp_path, spoken):
    table = mass_corpora(tmp_path, spoken)
    shutil.rmtree(tmp_path / "data" / "russian_corpus")
    log: list[str] = []
    assert {u.language for u in read_any(table, log=log.append)} == {"en", "fr"}
    assert "russian is skipped, for its recordings (./data/russian_corpus/wav/) aren't here" in log[0]
    with pytest.raises(CorpusError, match=r"the recordings of russian aren't here; it says ./data/russian_corpus/wav/"):
        read("mass", table, languages=("ru",))
    stem = next((tmp_path / "data" / "french_corpus" / "wav").glob("*verse_1_one_channel.wav"))
    stem.unlink()
    name = stem.name.replace("_one_channel", "")
    assert next(line for line in read("mass", table)[1] if "recording missing" in line).endswith(f": {name}")
    assert name in {Path(u.audio.path).name for u in read_any(table)}  # a miss, where it stands for a manifest


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("B01___01_Matthew_____ENGESVN1DA_verse_1", "1"), r"csv:10: it says whether a verse is there, not its name"),
        (("B01___01_Matthew_____ENGESVN1DA_verse_1", "../../x"), r"csv:10: '../../x' leads out of"),
        ((",Available,", ",Avail,"), r"no table of MaSS's check-verses.py"),
        (("Matthew_1_verse_1,", "Matthew_1,verse_1,"), r"csv:\d+: 6 cells, not 5; make the table again"),
        (("ID,Label,english", "ID,Label,Englisch"), r"csv:1: unknown language 'Englisch'"),
    ],
)
def test_a_wrong_table_of_mass_is_named(tmp_path, spoken, change, said):
    table = mass_corpora(tmp_path, spoken)
    text = table.read_text(encoding="utf-8")
    assert change[0] in text
    table.write_text(text.replace(*change), encoding="utf-8")
    with pytest.raises((ManifestError, UsageError), match=said):
        read("mass", table)


@pytest.mark.parametrize("indent", [None, 1])
def test_biblenet_s_json(tmp_path, spoken, indent):
    table = mass_corpora(tmp_path, spoken)
    rows = [line.split(",") for line in table.read_text(encoding="utf-8").splitlines()[4:]]
    data = [
        {
            "uttid": int(row[0]),
            **{f"text-{side}": f"{side} {row[0]}" for side in ("langA", "langB")},
            **{f"wav-{side}": f"{row[column]}.wav" for side, column in (("langA", 2), ("langB", 3))},
        }
        for row in rows
        if "Not Available" not in row[2:4]
    ]
    base = {
        f"audio_{side}_base_path": f"./data/{name}_corpus/wav/"
        for side, name in (("langA", "english"), ("langB", "french"))
    }
    path = tmp_path / "data" / "english-french" / "val-english-french-seed325.json"
    path.parent.mkdir()
    path.write_text(json.dumps({**base, "data": data}, indent=indent), encoding="utf-8")
    found = list(read_any(path))
    csv_found = {u.id: u for u in read("mass", table)[0]}
    assert [(u.id, u.audio, u.meaning) for u in found] == [
        (u.id, csv_found[u.id].audio, csv_found[u.id].meaning) for u in found
    ]
    assert {u.language for u in found} == {"en", "fr"}
    assert len(found) == 2 * sum(not str(row["wav-langA"]).endswith("verse_0.wav") for row in data) > 0
    one, two = found[:2]
    assert (one.split, one.text[:5], one.translations) == ("dev", "langA", {"fr": two.text})
    assert read("mass", path, split="dev")[0] == found
    assert read("mass", path, split="train")[0] == []
    lacking = data[0].pop("text-langB")
    path.write_text(json.dumps({**base, "data": data}), encoding="utf-8")
    with pytest.raises(ManifestError, match=r"data\[0\]: no text-langB and wav-langB; is it a JSON of BibleNet's"):
        list(read_any(path))
    data[0]["text-langB"] = lacking
    path.write_text(json.dumps({**base, "data": data}), encoding="utf-8")
    shutil.rmtree(tmp_path / "data" / "french_corpus")
    with pytest.raises(CorpusError, match=r"the recordings of langB aren't here; it says ./data/french_corpus"):
        list(read_any(path))


def test_a_json_that_only_looks_like_biblenet_s_is_told(tmp_path):
    base = {f"audio_{side}_base_path": "." for side in ("langA", "langB")}
    (tmp_path / "x.json").write_text(json.dumps({**base, "data": 5}))
    with pytest.raises(ManifestError, match=r"x.json:1: nothing says the language of"):
        list(read_any(tmp_path / "x.json"))


def test_mass_has_no_splits(tmp_path, spoken):
    with pytest.raises(UsageError, match=r"--split test: the mass corpus has no splits"):
        read("mass", mass_tree(tmp_path, spoken[:1]), split="test")


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize("name", ["fleurs", "covost", "common-voice", "mass"])
def test_an_empty_folder_says_what_to_fetch(tmp_path, name):
    with pytest.raises(CorpusError, match=r"(?i)fetch .*") as caught:
        read(name, tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(
        CorpusError, match=rf"no such file or folder. {name}: .*; then `interlingua corpus prepare {name} --root"
    ):
        read(name, tmp_path / "none")
    with pytest.raises(UsageError, match=r"--root is missing"):
        read(name, None)


@pytest.mark.parametrize("tree", [fleurs_tree, covost_tree, common_voice_tree, mass_tree])
def test_what_is_read_can_be_written_as_a_manifest(tmp_path, spoken, tree):
    name = {fleurs_tree: "fleurs", covost_tree: "covost", common_voice_tree: "common-voice", mass_tree: "mass"}[tree]
    found, _ = read(name, tree(tmp_path / "root", spoken))
    write_manifest(tmp_path / "m.jsonl", found)
    assert read_manifest(tmp_path / "m.jsonl") == found


def test_a_manifest_s_unsafe_member_is_refused(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"id": "a", "audio": {"path": "a.tar", "member": "../b"}, "language": "en"}\n')
    with pytest.raises(ManifestError, match=r"m.jsonl:1: `audio.member` '../b' climbs out of the archive"):
        read_manifest(tmp_path / "m.jsonl")


def test_every_corpus_in_the_registry_is_complete():
    for name, corpus in CORPORA.items():
        assert corpus.name == name
        assert all((corpus.title, corpus.licence, corpus.fetch))
        assert "\n" not in corpus.fetch_hint()
        assert isinstance(corpus.options, dict)


@pytest.mark.parametrize(
    ("name", "given", "parsed"),
    [
        ("mass", ["titles=yes"], {"titles": True}),
        ("mass", ["titles=false", "references=fr, es"], {"titles": False, "references": ("fr", "es")}),
        ("prompts", ["min-words=6"], {"min_words": 6}),
        ("fleurs", ["text=normalised"], {"text": "normalised"}),
    ],
)
def test_options_are_typed_by_the_reader(name, given, parsed):
    assert get_corpus(name).parse_options(given) == parsed


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("mass", "titles", "write it as NAME=VALUE"),
        ("mass", "titles=perhaps", "--option titles=perhaps: "),
        ("prompts", "min_words=many", "--option min_words=many: "),
        ("fleurs", "text=upper", "--option text=upper: "),
        ("common-voice", "titles=yes", "no option 'titles'; it has none"),
        ("covost", "titles=yes", "no option 'titles'; it has targets"),
    ],
)
def test_wrong_options_are_named(name, given, said):
    with pytest.raises(UsageError, match=r"--option") as caught:
        get_corpus(name).parse_options([given])
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["audio.archives", *(f"corpora.{m}" for m in ("delimited", "layout", "common_voice", "mass", "fleurs", "base"))],
)
def test_examples_in_docstrings(name):
    tried = doctest.testmod(importlib.import_module(f"interlingua.{name}"))
    assert tried.attempted
    assert not tried.failed


def test_a_gzipped_table(tmp_path):
    (tmp_path / "a.tsv.gz").write_bytes(gzip.compress(b"path\tsentence\nx\ty\n"))
    assert [row for _, row in read_table(tmp_path / "a.tsv.gz", required=("path",), skipped=Skipped("a"))] == [
        {"path": "x", "sentence": "y"}
    ]


# ---------------------------------------------------------------- size


def grown(make, read_all):
    """Bytes that the reader holds at most, for 1,000 and 100,000 rows."""
    peaks = []
    for rows in (1000, 100_000):
        root = make(rows)
        tracemalloc.start()
        assert sum(1 for _ in read_all(root)) == rows
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    return peaks


def test_a_hundred_thousand_rows_of_fleurs_take_no_memory(tmp_path):
    def make(rows):
        lines = [fleurs_row(id=str(n // 3), name=f"{n % 3 + 1}.wav") for n in range(rows)]
        return fleurs_folder(tmp_path / str(rows), *lines)

    few, many = grown(make, lambda root: read_corpus("fleurs", root))
    assert many < few + 200_000


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
