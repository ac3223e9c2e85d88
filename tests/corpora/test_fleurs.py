"""FLEURS: each trap of its layouts on a tiny tree."""

import io
import tarfile

import pytest

from helpers import sweep, write_wav
from interlingua.audio import load_audio
from interlingua.corpora import fleurs
from interlingua.corpora.base import read_corpus
from interlingua.errors import FetchError, UsageError
from interlingua.languages import UNSEEN_LANGUAGES, WHISPER_LANGUAGES, normalise_language
from trees import fleurs_tree, grown, read


@pytest.mark.parametrize("layout", ["tar.gz", "tar", "unpacked", "parquet"])
@pytest.mark.parametrize("floats", [False, True])
def test_fleurs_in_every_layout(tmp_path, spoken, layout, floats):
    found, log = read("fleurs", fleurs_tree(tmp_path, spoken, layout=layout, floats=floats))
    assert {(u.language, u.text) for u in found} == {(u.language, u.text) for u in spoken}
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


def fleurs_folder(root, *rows, split="dev", code="en_us", wavs=("1.wav", "2.wav", "3.wav")):
    folder = root / "data" / code
    for name in wavs:
        write_wav(folder / "audio" / split / name, sweep(0.3, 300))
    (folder / f"{split}.tsv").write_bytes("".join(f"{row}\n" for row in rows).encode())
    return root


def test_an_empty_last_field_and_one_that_is_not_there(tmp_path):
    rows = (fleurs_row(gender=""), fleurs_row(name="2.wav").rpartition("\t")[0], fleurs_row(name="3.wav", samples="x"))
    found, log = read("fleurs", fleurs_folder(tmp_path, *rows))
    assert [(u.gender, u.duration) for u in found] == [(None, 3.2), (None, 3.2), ("female", None)]
    assert (found[2].id, found[2].meaning, found[2].text, found[2].split) == (
        "en_us/dev/3",
        "91",
        "The cat, sat.",
        "dev",
    )
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


def test_fleurs_codes_become_ours():
    codes = {code: normalise_language(code) for code in fleurs.LANGUAGES}
    assert len(codes) == len(set(codes.values())) == 102
    named = {"cmn_hans_cn": "zh", "yue_hant_hk": "yue", "fil_ph": "tl", "jv_id": "jw", "nb_no": "no", "es_419": "es"}
    assert named.items() <= codes.items()
    without = {code for code in codes.values() if code not in WHISPER_LANGUAGES}
    assert " ".join(sorted(without)) == "ast ceb ckb ff ga ig kam kea ky lg luo nso ny om or umb wo xh zu"
    assert without <= UNSEEN_LANGUAGES.keys()
    assert {fleurs.fleurs_code(code) for code in codes.values()} == set(fleurs.LANGUAGES)


def test_a_hub_that_can_t_be_reached(tmp_path):
    with pytest.raises(
        FetchError, match=r"google/fleurs can't be fetched \(.*\). By hand: fetch data/<lang>/"
    ) as caught:
        fleurs.download_fleurs(tmp_path, ("fr",), "dev", print)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("languages", "said"), [(None, r"needs --languages; all 102"), (("eo",), r"FLEURS has no 'eo'; it has af_za")]
)
def test_a_download_that_makes_no_sense(tmp_path, languages, said):
    with pytest.raises(UsageError, match=said):
        fleurs.download_fleurs(tmp_path, languages, "dev", print)


def test_a_hundred_thousand_rows_of_fleurs_take_no_memory(tmp_path):
    def make(rows):
        lines = [fleurs_row(id=str(n // 3), name=f"{n % 3 + 1}.wav") for n in range(rows)]
        return fleurs_folder(tmp_path / str(rows), *lines)

    few, many = grown(make, lambda root: read_corpus("fleurs", root))
    assert many < few + 200_000
