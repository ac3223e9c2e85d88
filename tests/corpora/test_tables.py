"""People's own tables and pairs, each trap of spreadsheets and editors."""

import gzip
import json
import tracemalloc
from pathlib import Path

import pytest

from interlingua.audio import load_audio
from interlingua.corpora.base import Skipped, get_corpus
from interlingua.corpora.delimited import read_rows, read_table
from interlingua.corpora.tables import read_own_table
from interlingua.errors import ManifestError, UsageError
from interlingua.types import AudioRef, Utterance
from trees import clip, jsonl, put, read


def table(folder: Path, text: str | bytes, name: str = "t.csv", **options) -> list[Utterance]:
    return list(read_own_table(put(folder / name, text), **options))


def test_every_column_of_a_table(clips):
    (found,) = table(
        clips,
        "id,audio,text,language,translation_fr,translation_zh-CN,meaning,speaker,gender,split,start,duration\n"
        "x,sub/c.wav,Hello,en_us,Bonjour,你好,greeting,s1,FEMALE,dev,0.05,0.1\n",
    )
    assert found == Utterance(
        id="x",
        audio=AudioRef(str(clips / "sub" / "c.wav"), 0.05, 0.1),
        language="en",
        text="Hello",
        translations={"fr": "Bonjour", "zh": "你好"},
        meaning="greeting",
        split="dev",
        speaker="s1",
        gender="female",
        duration=0.1,
    )


def test_columns_of_one_s_own_are_kept_as_text(clips):
    found = table(clips, "audio,language,room,take,note\na.wav,fr,hall,2,\nb.wav,fr,,3,loud\n")
    assert [u.extra for u in found] == [{"room": "hall", "take": "2"}, {"take": "3", "note": "loud"}]
    (found,) = table(clips, '{"audio": "a.wav", "language": "fr", "take": 2, "list": [1]}\n', "t.jsonl")
    assert found.extra == {"take": "2"}


def test_what_a_table_doesnt_say_is_unknown(clips):
    (found,) = table(clips, "audio,language\na.wav,fr\n")
    assert found == Utterance(id="a.wav", audio=AudioRef(str(clips / "a.wav")), language="fr")


@pytest.mark.parametrize("sentence", ["NA", "null", "None", "nan", "-", "0", "TRUE"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl"])
def test_a_sentence_that_looks_like_a_missing_value(clips, sentence, name):
    text = {
        "t.csv": f"audio,language,text\na.wav,en,{sentence}\n",
        "t.tsv": f"audio\tlanguage\ttext\na.wav\ten\t{sentence}\n",
        "t.jsonl": json.dumps({"audio": "a.wav", "language": "en", "text": sentence}),
    }[name]
    assert [u.text for u in table(clips, text, name)] == [sentence]


def test_an_empty_cell_and_null_are_unknown(clips):
    assert table(clips, "audio,language,text,speaker\na.wav,en,, \n")[0].text is None
    row = {"audio": "a.wav", "language": "en", "text": None, "speaker": None, "duration": None}
    (found,) = list(read_own_table(jsonl(clips / "t.jsonl", row)))
    assert (found.text, found.speaker, found.duration) == (None, None, None)


@pytest.mark.parametrize(
    ("name", "text", "read"),
    [
        ("t.tsv", 'audio\tlanguage\ttext\na.wav\ten\t"He said\nb.wav\ten\t5" wide\n', ['"He said', '5" wide']),
        (
            "t.csv",
            'audio,language,text\na.wav,en,"He said ""no"",\nthen left"\nb.wav,en,5" wide\n',
            ['He said "no",\nthen left', '5" wide'],
        ),
        ("t.csv", "audio;language;text\na.wav;en;Well, yes, no\n", ["Well, yes, no"]),
        ("t.tsv", "audio\tlanguage\ttext\na.wav\ten\tone\u2028two\x85\x0bthree\n", ["one\u2028two\x85\x0bthree"]),
    ],
)
def test_quotes_are_letters_in_tsv_and_csvs_in_csv_and_only_newlines_end_a_line(clips, name, text, read):
    assert [u.text for u in table(clips, text, name)] == read


@pytest.mark.parametrize("end", ["\r\n", "\n"])
@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b""])
@pytest.mark.parametrize("delimiter", [",", ";", "|", "\t", "  ", "     "])
def test_bom_line_ends_and_delimiters(clips, end, mark, delimiter):
    lines = [["audio", "language", "text"], ["a.wav", "en", "one two"], ["b.wav", "fr", "NA"]]
    text = end.join(delimiter.join(line) for line in lines) + end + end
    found = table(clips, mark + text.encode())
    assert [(u.id, u.language, u.text) for u in found] == [("a.wav", "en", "one two"), ("b.wav", "fr", "NA")]


def test_a_row_that_ends_early_has_empty_cells_and_a_long_one_is_named(clips):
    (found,) = table(clips, "audio\tlanguage\ttext\tspeaker\na.wav\ten\tone\n", "t.tsv")
    assert (found.text, found.speaker) == ("one", None)
    with pytest.raises(ManifestError, match=r"t.tsv:2: 4 cells, but the header names 3 columns; take the extra tab"):
        table(clips, "audio\tlanguage\ttext\na.wav\ten\tone\ttwo\n", "t.tsv")


def test_gzip_is_known_by_its_content(clips):
    for name in ("t.csv.gz", "t.csv"):
        assert len(table(clips, gzip.compress(b"audio,language\na.wav,en\n"), name)) == 1


def test_a_gzipped_table(tmp_path):
    (tmp_path / "a.tsv.gz").write_bytes(gzip.compress(b"path\tsentence\nx\ty\n"))
    assert [row for _, row in read_table(tmp_path / "a.tsv.gz", required=("path",), skipped=Skipped("a"))] == [
        {"path": "x", "sentence": "y"}
    ]


def test_missing_clips_are_counted_and_named(clips):
    log: list[str] = []
    rows = "".join(f"gone{n}.wav,en\n" for n in range(12))
    found = table(clips, f"audio,language\na.wav,en\n{rows},en\n", log=log.append)
    assert [u.id for u in found] == ["a.wav"]
    assert len(log) == 1
    assert log[0].startswith("t.csv: skipped 13 (no audio file): ")
    assert "t.csv:3 (gone0.wav)" in log[0]
    assert log[0].endswith("and 3 more")


def test_a_column_map(clips):
    text = "clip,said,english,who\na.wav,Bonjour,Hello,7\n"
    expected = ("Bonjour", {"en": "Hello"}, "7")
    for columns in (
        {"audio": "clip", "text": "said", "translation_en": "english", "speaker": "who"},
        ("audio=clip", "text=said", "translation_en=english", "speaker=WHO"),
    ):
        (found,) = table(clips, text, columns=columns, language=("fr",))
        assert (found.text, found.translations, found.speaker) == expected
    with pytest.raises(UsageError, match=r"no column 'clap' \(for audio\); it has clip, said, english, who"):
        table(clips, text, columns={"audio": "clap"})
    with pytest.raises(UsageError, match="'sound' is no column"):
        table(clips, text, columns={"sound": "clip"})
    with pytest.raises(UsageError, match="'clip' is not OURS=THEIRS"):
        table(clips, text, columns=("clip",))


def test_a_column_map_on_the_command_line(clips):
    options = get_corpus("plain").parse_options(["columns=audio=clip,text=said", "language=fr"])
    found, _ = read("plain", put(clips / "t.csv", "clip,said\na.wav,Oui\n"), **options)
    assert [(u.text, u.language) for u in found] == [("Oui", "fr")]


def test_a_translation_needs_its_language(clips):
    text = "audio,language,text,translation\na.wav,fr,Oui,Yes\n"
    assert table(clips, text, target="English")[0].translations == {"en": "Yes"}
    with pytest.raises(UsageError, match="call it translation_<language>"):
        table(clips, text)


def test_languages_and_splits_are_filters(clips):
    text = "audio,language,split\na.wav,en,train\nb.wav,fr,validation\nsub/c.wav,fr,test\n"
    assert [u.id for u in table(clips, text, languages=("French",))] == ["b.wav", "sub/c.wav"]
    assert [u.id for u in table(clips, text, split="dev")] == ["b.wav"]
    with pytest.raises(UsageError, match="has no column split"):
        table(clips, "audio,language\na.wav,en\n", split="dev")


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("../outside.wav", "leads out of"),
        ("sub/../../outside.wav", "leads out of"),
        ("https://example.org/a.wav", "is a URL, which isn't fetched; download it"),
        ("s3://bucket/a.wav", "is a URL"),
        ("touch pwned; cat a.wav |", "is a shell command, which is never run"),
    ],
)
@pytest.mark.parametrize("name", ["plain", "nemo"])
def test_paths_that_arent_files_of_the_table_are_refused(clips, cell, said, name, monkeypatch):
    clip(clips.parent / "outside.wav")
    monkeypatch.chdir(clips)
    if name == "plain":
        path = put(clips / "t.tsv", f"audio\tlanguage\n{cell}\ten\n")
    else:
        path = jsonl(clips / "m.json", {"audio_filepath": cell, "lang": "en"})
    with pytest.raises(ManifestError, match=said) as caught:
        read(name, path)
    assert "\n" not in str(caught.value)
    assert not (clips / "pwned").exists()


def test_absolute_paths_are_taken_as_they_are(clips, tmp_path_factory):
    outside = clip(tmp_path_factory.mktemp("else") / "o.wav")
    (found,) = table(clips, f"audio,language\n{outside},en\n")
    assert found.audio.path == str(outside)
    (found,) = table(clips, "audio,language\nsub/../a.wav,en\n")
    assert Path(found.audio.path).samefile(clips / "a.wav")


def test_ids_are_unique(clips):
    found = table(clips, "audio,language,start,end\na.wav,en,0,0.1\na.wav,en,0.1,0.2\n")
    assert [u.id for u in found] == ["a.wav@0", "a.wav@0.1"]
    assert found[1].audio == AudioRef(str(clips / "a.wav"), 0.1, 0.1)
    assert len(load_audio(found[1].audio)) == 1600
    with pytest.raises(ManifestError, match=r"t.csv:3: the id 'x' stands already in .*t.csv:2"):
        table(clips, "id,audio,language\nx,a.wav,en\nx,b.wav,en\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        ('audio,language,text\na.wav,en,fine\nb.wav,en,"never closed\nsub/c.wav,en,x\n', ":3: quotes don't add up"),
        ('audio,language,text\na.wav,en,"one\nb.wav,en,two\nb.wav,en,say "three" now\n', ":2: quotes don't add up"),
        ('audio,language,text\na.wav,en,"one\n\ntwo"\nb.wav,elvish,x\n', ":5: unknown language 'elvish'"),
        ("audio,language,text\na.wav,en,one, two\n", ":2: 4 cells, but the header names 3 columns; quote cells"),
        ("audio,language,text\na.wav,fr,été\n".encode("latin-1"), ":2: not UTF-8 (byte 0xe9)"),
        ("audio,language\na.wav,fr\n".encode("utf-16"), "UTF-16; save it as UTF-8"),
        ("audio,text\na.wav,x\n", ":2: nothing says the language; add a column language"),
        ("audio,language\na.wav,NaN\n", "; the cell nan counts as empty, Min Nan is nan-TW"),  # pandas' empty cell
        ("audio_src,audio_tgt\na.wav,b.wav\n", "nothing says the language of audio_src"),  # ISO 639 has both
        ("audio,language\n", "no rows below the header"),
        ("text,language\nx,en\n", "no column with audio among text, language"),
        ("audio,language,start\na.wav,en,soon\n", "start is 'soon'; write seconds"),
        ("audio,language,duration\na.wav,en,-1\n", "duration is '-1'; write seconds"),
        ("audio,language,duration\na.wav,en,inf\n", "duration is 'inf'; write seconds"),
        ("audio,language,start,end\na.wav,en,2,1\n", "end 1.0 s isn't behind 2.0 s"),
        ("audio,language,id,id\na.wav,en,1,2\n", "two columns are called 'id'"),
        ("audio,language,translation_elvish\na.wav,en,x\n", "unknown language 'elvish'"),
        ("audio,language\ra.wav,en\r", "lines end with carriage returns alone"),
    ],
)
def test_a_wrong_table_is_named_in_one_line(clips, text, said):
    with pytest.raises(ManifestError) as caught:
        table(clips, text)
    assert said in str(caught.value)
    assert str(caught.value).startswith(str(clips / "t.csv"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[1]", "a list; write one object a line"),
        ('{"audio": ', "no JSON"),
        ("7", "no JSON object"),
        ('{"audio": "a.wav", "language": "en", "translations": "Oui"}', "translations is no object of languages"),
    ],
)
def test_a_wrong_line_of_json(clips, line, said):
    with pytest.raises(ManifestError, match=rf"t.jsonl:1: {said}"):
        table(clips, line, "t.jsonl")


def test_a_long_table_takes_no_memory(tmp_path):
    path = tmp_path / "t.tsv"
    with path.open("w") as out:
        out.write("audio\tlanguage\ttext\n")
        for n in range(50_000):
            out.write(f"{n}.wav\ten\t{'word ' * 30}\n")
    tracemalloc.start()
    count = sum(1 for _ in read_rows(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 50_000
    assert peak < 1_000_000 < path.stat().st_size


# ---------------------------------------------------------------- pairs


@pytest.mark.parametrize(
    ("header", "rows", "options"),
    [
        ("audio_en,audio_fr,text_en,text_fr", "a.wav,b.wav,Hello,Bonjour", {}),
        ("en_audio,fr_audio,en_text,fr_text", "a.wav,b.wav,Hello,Bonjour", {}),
        ("audio,audio,text,text,language,language", "a.wav,b.wav,Hello,Bonjour,en,fr", {}),
        ("audio,audio,text,text", "a.wav,b.wav,Hello,Bonjour", {"language": ("en", "fr")}),
        ("audio_1,audio_2,text_1,text_2,language_1,language_2", "a.wav,b.wav,Hello,Bonjour,en,fr", {}),
        ("audio_src,audio_tgt,text_src,text_tgt", "a.wav,b.wav,Hello,Bonjour", {"language": ("en", "fr")}),
    ],
)
def test_a_pair_of_recordings_shares_a_meaning(clips, header, rows, options):
    one, two = read_own_table(put(clips / "pairs.csv", f"{header}\n{rows}\n"), **options)
    assert one.meaning == two.meaning == "pairs.csv:2"
    assert (one.id, one.language, one.text, one.translations) == ("a.wav", "en", "Hello", {"fr": "Bonjour"})
    assert (two.id, two.language, two.text, two.translations) == ("b.wav", "fr", "Bonjour", {"en": "Hello"})


def test_an_audio_id_is_no_indonesian_recording(clips):
    (found,) = read_own_table(put(clips / "pairs.csv", "audio,audio_id,text,language\na.wav,17,Hello,en\n"))
    assert (found.language, found.meaning) == ("en", None)


def test_a_pair_whose_other_half_is_missing(clips):
    log: list[str] = []
    path = put(clips / "pairs.csv", "audio_en,audio_fr\na.wav,gone.wav\n")
    assert [u.language for u in read_own_table(path, log=log.append)] == ["en"]
    assert log == [f"pairs.csv: skipped 1 (no audio file): {path}:2 (gone.wav)"]


def test_an_audio_and_a_text(clips):
    path = put(clips / "pairs.csv", "audio,text\na.wav,Hello\nb.wav,NA\n")
    assert [u.text for u in read_own_table(path, language=("en",))] == ["Hello", "NA"]
