"""MaSS: verses pair across books' names and orders; its scripts' tables, and BibleNet's."""

import json
import shutil
from pathlib import Path

import pytest

from helpers import sweep, utterance, write_wav
from interlingua.audio import load_audio
from interlingua.corpora import read_any
from interlingua.corpora.mass import BOOKS, verse_of
from interlingua.errors import CorpusError, ManifestError, UsageError
from interlingua.types import AudioRef
from trees import mass_stem, mass_table, mass_tree, read


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


def test_the_table_of_mass_s_scripts_holds_what_its_folders_hold(tmp_path, spoken):
    before, _ = read("mass", mass_tree(tmp_path / "tree", spoken))
    table = mass_table(tmp_path / "scripts", spoken)
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
    table = mass_table(tmp_path, spoken)
    text = next((tmp_path / "data" / "french_corpus" / "txt").glob("*verse_1.txt"))
    text.write_bytes("voilà".encode("latin-1"))
    with pytest.raises(CorpusError, match=text.name):
        read("mass", table)


def test_a_table_of_mass_whose_recordings_are_elsewhere(tmp_path, spoken):
    table = mass_table(tmp_path, spoken)
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
    table = mass_table(tmp_path, spoken)
    text = table.read_text(encoding="utf-8")
    assert change[0] in text
    table.write_text(text.replace(*change), encoding="utf-8")
    with pytest.raises((ManifestError, UsageError), match=said):
        read("mass", table)


@pytest.mark.parametrize("indent", [None, 1])
def test_biblenet_s_json(tmp_path, spoken, indent):
    table = mass_table(tmp_path, spoken)
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
