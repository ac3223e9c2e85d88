"""Readers of Europarl-ST, MuST-C, VoxPopuli S2S, SpeechMatrix, Hugging Face, Lhotse, NeMo and people's own tables.

Each trap of a format is a test on a tiny tree in the real layout.
"""

import base64
import gzip
import json
import sys
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from helpers import sweep, write_wav
from interlingua.audio import load_audio
from interlingua.corpora import read_any, write_manifest
from interlingua.corpora.base import get_corpus, read_corpus
from interlingua.corpora.delimited import read_rows
from interlingua.corpora.tables import read_own_table
from interlingua.errors import CorpusError, FetchError, ManifestError, UsageError
from interlingua.types import AudioRef, Utterance


def read(name, root, **options):
    """(utterances, log)"""
    log: list[str] = []
    return list(read_corpus(name, root, log=log.append, **options)), log


def put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def clip(path: Path, seconds: float = 0.2) -> Path:
    return write_wav(path, sweep(seconds, pitch=300))


def jsonl(path: Path, *rows: dict) -> Path:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return put(path, gzip.compress(text.encode()) if path.suffix == ".gz" else text)


@pytest.fixture
def clips(tmp_path):
    for name in ("a.wav", "b.wav", "sub/c.wav"):
        clip(tmp_path / name)
    return tmp_path


# ---------------------------------------------------------------- own tables


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


def test_quotes_are_letters_in_tsv(clips):
    found = table(clips, 'audio\tlanguage\ttext\na.wav\ten\t"He said\nb.wav\ten\tIt\'s 5" wide\n', "t.tsv")
    assert [u.text for u in found] == ['"He said', "It's 5\" wide"]


def test_quotes_are_csvs_in_csv(clips):
    found = table(clips, 'audio,language,text\na.wav,en,"He said ""no"",\nthen left"\nb.wav,en,5" wide\n')
    assert [u.text for u in found] == ['He said "no",\nthen left', '5" wide']


def test_a_quote_that_is_never_closed_is_named_by_its_line(clips):
    with pytest.raises(ManifestError, match=r"t.csv:3: quotes don't add up"):
        table(clips, 'audio,language,text\na.wav,en,fine\nb.wav,en,"never closed\nsub/c.wav,en,swallowed\n')


def test_two_unbalanced_quotes_dont_swallow_the_rows_between(clips):
    with pytest.raises(ManifestError, match=r"t.csv:2: quotes don't add up"):
        table(clips, 'audio,language,text\na.wav,en,"one\nb.wav,en,two\nsub/c.wav,en,say "three" now\n')


def test_lines_are_counted_over_cells_with_line_ends(clips):
    with pytest.raises(ManifestError, match=r"t.csv:5: unknown language 'elvish'"):
        table(clips, 'audio,language,text\na.wav,en,"one\n\ntwo"\nb.wav,elvish,x\n')


@pytest.mark.parametrize("end", ["\r\n", "\n"])
@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b""])
@pytest.mark.parametrize("delimiter", [",", ";", "|", "\t", "  ", "     "])
def test_bom_line_ends_and_delimiters(clips, end, mark, delimiter):
    lines = [["audio", "language", "text"], ["a.wav", "en", "one two"], ["b.wav", "fr", "NA"]]
    text = end.join(delimiter.join(line) for line in lines) + end + end
    found = table(clips, mark + text.encode())
    assert [(u.id, u.language, u.text) for u in found] == [("a.wav", "en", "one two"), ("b.wav", "fr", "NA")]


def test_a_semicolon_table_may_hold_commas(clips):
    (found,) = table(clips, "audio;language;text\na.wav;en;Well, yes, no\n")
    assert found.text == "Well, yes, no"


def test_only_newlines_end_a_line(clips):
    text = "audio\tlanguage\ttext\na.wav\ten\tone\u2028two\x85three\x0bfour\nb.wav\ten\tfive\n"
    assert [u.text for u in table(clips, text, "t.tsv")] == ["one\u2028two\x85three\x0bfour", "five"]


def test_a_row_that_ends_early_has_empty_cells_and_a_long_one_is_named(clips):
    (found,) = table(clips, "audio\tlanguage\ttext\tspeaker\na.wav\ten\tone\n", "t.tsv")
    assert (found.text, found.speaker) == ("one", None)
    with pytest.raises(ManifestError, match=r"t.tsv:2: 4 cells, but the header names 3 columns; take the extra tab"):
        table(clips, "audio\tlanguage\ttext\na.wav\ten\tone\ttwo\n", "t.tsv")
    with pytest.raises(ManifestError, match=r"t.csv:2: 4 cells.*; quote cells"):
        table(clips, "audio,language,text\na.wav,en,one, two\n")


def test_gzip_is_known_by_its_content(clips):
    for name in ("t.csv.gz", "t.csv"):
        assert len(table(clips, gzip.compress(b"audio,language\na.wav,en\n"), name)) == 1
    with pytest.raises(ManifestError, match="can't be read"):
        table(clips, gzip.compress(b"audio,language\na.wav,en\n")[:-9])


def test_other_encodings_are_named(clips):
    with pytest.raises(ManifestError, match=r"t.csv:2: not UTF-8 \(byte 0xe9\)"):
        table(clips, "audio,language,text\na.wav,fr,été\n".encode("latin-1"))
    with pytest.raises(ManifestError, match="UTF-16; save it as UTF-8"):
        table(clips, "audio,language\na.wav,fr\n".encode("utf-16"))


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


def test_a_language_must_be_said(clips):
    with pytest.raises(ManifestError, match=r"t.csv:2: nothing says the language; add a column language"):
        table(clips, "audio,text\na.wav,x\n")


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


def test_src_and_tgt_are_no_languages(clips):
    with pytest.raises(ManifestError, match="nothing says the language of audio_src"):
        list(read_own_table(put(clips / "pairs.csv", "audio_src,audio_tgt\na.wav,b.wav\n")))


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


# ---------------------------------------------------------------- any file


def test_any_file_is_told_by_its_content(clips):
    ours = clips / "ours.jsonl"
    write_manifest(ours, [Utterance(id="o", audio=AudioRef(str(clips / "a.wav")), language="en", split="dev")])
    recording = {"id": "r", "sources": [{"type": "file", "channels": [0], "source": "a.wav"}], "duration": 0.2}
    supervision = {"id": "s", "recording_id": "r", "start": 0, "duration": 0.2, "channel": 0, "language": "en"}
    cut = {"id": "c", "type": "MonoCut", "start": 0, "duration": 0.2, "channel": 0, "recording": recording}
    files = {
        "o": ours,
        "a.wav": jsonl(clips / "nemo.json", {"audio_filepath": "a.wav", "duration": 0.2, "lang": "en"}),
        "s": jsonl(clips / "cuts.jsonl.gz", {**cut, "supervisions": [supervision]}),
        "t": put(clips / "t.tsv", "id\taudio\tlanguage\nt\ta.wav\ten\n"),
        "j": jsonl(clips / "rows.jsonl", {"id": "j", "audio": "a.wav", "language": "en"}),
        "h": jsonl(clips / "hf.jsonl", {"id": "h", "audio": {"path": "a.wav", "bytes": None}, "language": "en"}),
        "p": put(clips / "pairs.csv", "id,audio,language\np,a.wav,en\n"),
    }
    for id_, path in files.items():
        (found,) = read_any(path)
        assert (found.id, found.language, Path(found.audio.path).name) == (id_, "en", "a.wav"), path


def test_paths_come_back_absolute(clips, monkeypatch):
    put(clips / "t.csv", "audio,language\na.wav,en\n")
    monkeypatch.chdir(clips)
    assert [u.audio.path for u in read_any("t.csv")] == [str(clips / "a.wav")]


def test_any_file_with_nothing_usable_is_an_error(clips):
    with pytest.raises(ManifestError, match="no usable recording is in it"):
        list(read_any(put(clips / "t.csv", "audio,text,language\n,Hello,en\n")))
    with pytest.raises(ManifestError, match="a folder; name the manifest"):
        list(read_any(clips))
    with pytest.raises(ManifestError, match="no readable manifest file"):
        list(read_any(clips / "none.csv"))


# ---------------------------------------------------------------- NeMo


def test_nemo_null_durations_offsets_and_relative_paths(clips, monkeypatch):
    clip(clips / "elsewhere" / "a.wav")
    monkeypatch.chdir(clips / "elsewhere")  # the manifest's folder counts, not this one
    path = jsonl(
        clips / "m.json",
        {"audio_filepath": "a.wav", "duration": None, "text": "NA", "lang": "en"},
        {"audio_filepath": "b.wav", "duration": 0.1, "offset": 0.05, "text": 'He said "no', "lang": "fr-FR"},
        {"audio_filepath": str(clips / "sub" / "c.wav"), "duration": 0.2, "offset": None, "text": "", "lang": "en"},
    )
    one, two, three = read("nemo", path)[0]
    assert (one.audio, one.duration, one.text) == (AudioRef(str(clips / "a.wav")), None, "NA")
    assert (two.audio, two.language) == (AudioRef(str(clips / "b.wav"), 0.05, 0.1), "fr")
    assert len(load_audio(two.audio)) == 1600
    assert (three.audio, three.duration, three.text) == (AudioRef(str(clips / "sub" / "c.wav")), 0.2, None)


def test_nemo_targets_of_a_recording_are_one_utterance(clips):
    shared = {"audio_filepath": "a.wav", "duration": 0.2, "source_lang": "en", "pnc": "yes"}
    path = jsonl(
        clips / "m.json",
        {**shared, "target_lang": "en", "text": "Hello", "taskname": "asr"},
        {**shared, "target_lang": "de", "text": "Hallo", "taskname": "ast"},  # text is the translation
        {**shared, "target_lang": "fr", "text": "Hello", "answer": "Bonjour", "taskname": "ast"},
        {"audio_filepath": "b.wav", "duration": 0.2, "source_lang": "en", "target_lang": "en", "answer": "na"},
    )
    two, one = read("nemo", path)[0]
    assert (one.id, one.text, one.translations) == ("a.wav", "Hello", {"de": "Hallo", "fr": "Bonjour"})
    assert (two.id, two.text, two.translations) == ("b.wav", None, {})


def test_nemo_leaves_out_and_names(clips):
    path = jsonl(
        clips / "m.json",
        {"audio_filepath": "gone.wav", "lang": "en"},
        {"audio_filepath": ["a.wav", "b.wav"], "lang": "en"},
        {"audio_filepath": "a.wav", "text": "one", "lang": "en"},
        {"audio_filepath": "a.wav", "text": "two", "lang": "en"},
    )
    found, log = read("nemo", path)
    assert [u.text for u in found] == ["one"]
    assert [line.split("(")[1].split(")")[0].split(";")[0] for line in log] == [
        "no audio file",
        "several audio files in a row",
        "another row says another language, transcript or translation",
    ]
    with pytest.raises(ManifestError, match=r"m.json:1: duration is 'long'"):
        read("nemo", jsonl(path, {"audio_filepath": "a.wav", "duration": "long", "lang": "en"}))
    with pytest.raises(ManifestError, match="no source_lang or lang; prepare a manifest with --option language=CODE"):
        read("nemo", jsonl(path, {"audio_filepath": "a.wav"}))
    with pytest.raises(UsageError, match="a NeMo manifest is one split"):
        read("nemo", path, split="dev")


# ---------------------------------------------------------------- Lhotse


def lhotse_recording(source="a.wav", kind="file", channels=(0,), **more) -> dict:
    return {
        "id": more.pop("id", "r"),
        "sources": [{"type": kind, "channels": list(channels), "source": source}],
        "sampling_rate": 16000,
        "num_samples": 16000,
        "duration": 1.0,
        "channel_ids": list(channels),
        **more,
    }


def lhotse_supervision(**more) -> dict:
    defaults = {
        "id": "s",
        "recording_id": "r",
        "start": 0.0,
        "duration": 0.3,
        "channel": 0,
        "text": "hi",
        "language": "en",
    }
    return {**defaults, **more}


def lhotse_cut(recording=None, supervisions=(), **more) -> dict:
    defaults = {"id": "c", "start": 0.5, "duration": 0.5, "channel": 0, "type": "MonoCut"}
    return {**defaults, "supervisions": list(supervisions), "recording": recording or lhotse_recording(), **more}


@pytest.fixture
def second(tmp_path):
    """a.wav lasts a second."""
    clip(tmp_path / "a.wav", 1.0)
    return tmp_path


@pytest.mark.parametrize("name", ["corpus_cuts_dev.jsonl", "corpus_cuts_dev.jsonl.gz"])
def test_lhotse_a_supervisions_start_is_relative_to_its_cut(second, name):
    custom = {"translated_text": {"fra": "salut"}}
    supervision = lhotse_supervision(start=0.1, speaker="spk", gender="F", custom=custom)
    (found,) = read("lhotse", jsonl(second / name, lhotse_cut(supervisions=[supervision])))[0]
    assert found == Utterance(
        id="s",
        audio=AudioRef(str(second / "a.wav"), 0.6, 0.3),
        language="en",
        text="hi",
        translations={"fr": "salut"},
        split="dev",
        speaker="spk",
        gender="F",
        duration=0.3,
    )


def test_lhotse_a_supervision_outside_a_cut_counts_from_the_recording(second):
    jsonl(second / "x_recordings_train.jsonl.gz", lhotse_recording(), lhotse_recording(id="alone"))
    path = jsonl(
        second / "x_supervisions_train.jsonl.gz",
        lhotse_supervision(start=0.1),
        lhotse_supervision(id="t", recording_id="nowhere"),
    )
    for root in (path, second, second / "x_recordings_train.jsonl.gz"):
        (found,), log = read("lhotse", root)
        assert (found.id, found.audio, found.split) == ("s", AudioRef(str(second / "a.wav"), 0.1, 0.3), "train")
        assert [line.partition("(")[2] for line in log] == [
            "its recording isn't in the other manifest): t (nowhere)",
            "a recording without supervision): alone",
        ]
    assert len(read("lhotse", second, split="train")[0]) == 1
    with pytest.raises(CorpusError, match="whose name says dev"):
        read("lhotse", second, split="dev")


def test_lhotse_supervisions_without_recordings(second):
    with pytest.raises(CorpusError, match="no recordings lie beside these supervisions"):
        read("lhotse", jsonl(second / "s.jsonl", lhotse_supervision()))


@pytest.mark.parametrize("layout", ["cuts", "recordings"])
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("command", "is a shell command .*, which is never run"),
        ("url", "is a URL .*, which isn't fetched; download it"),
    ],
)
def test_lhotse_commands_and_urls_are_refused(second, layout, kind, said, monkeypatch):
    monkeypatch.chdir(second)
    source = "touch pwned; cat a.wav" if kind == "command" else "https://example.org/a.wav"
    recording = lhotse_recording(source, kind)
    if layout == "cuts":
        path = jsonl(second / "cuts.jsonl", lhotse_cut(recording, [lhotse_supervision()]))
    else:
        jsonl(second / "recordings.jsonl", recording)
        path = jsonl(second / "supervisions.jsonl", lhotse_supervision())
    with pytest.raises(ManifestError, match=said) as caught:
        read("lhotse", path)
    assert ".jsonl:1: " in str(caught.value)
    assert not (second / "pwned").exists()


def test_lhotse_memory_is_written_to_the_named_folder(second):
    data = base64.b64encode((second / "a.wav").read_bytes()).decode()
    path = jsonl(second / "cuts.jsonl", lhotse_cut(lhotse_recording(data, "memory", id="../r"), [lhotse_supervision()]))
    with pytest.raises(ManifestError, match="give the option audio_folder"):
        read("lhotse", path)
    (found,) = read("lhotse", path, audio_folder=str(second / "out"))[0]
    assert Path(found.audio.path).parent == second / "out"
    assert len(load_audio(found.audio)) == 4800


@pytest.mark.parametrize(
    ("cut", "said"),
    [
        (lhotse_cut(lhotse_recording(channels=(0, 1)), channel=1), "one channel of several"),
        (lhotse_cut(lhotse_recording(transforms=[{"name": "Speed", "kwargs": {"factor": 0.9}}])), "augmented"),
        (
            {
                "id": "m",
                "type": "MixedCut",
                "tracks": [
                    {"type": "MonoCut", "cut": lhotse_cut(), "offset": 0.0},
                    {"type": "MonoCut", "cut": lhotse_cut(), "offset": 0.1, "snr": 10},
                ],
            },
            "a mixed cut",
        ),
        (lhotse_cut(lhotse_recording("gone.wav")), "no audio file; relative paths are taken from"),
        (lhotse_cut(lhotse_recording("placeholder", "shar")), "a source of type 'shar'"),
        (lhotse_cut(), "no supervision says the language"),
        ({k: v for k, v in lhotse_cut().items() if k != "recording"}, "no recording"),
    ],
)
def test_lhotse_what_isnt_one_stretch_of_one_file_is_left_out(second, cut, said):
    found, log = read("lhotse", jsonl(second / "cuts.jsonl", cut))
    assert found == []
    assert len(log) == 1
    assert f"skipped 1 ({said}" in log[0]


def test_lhotse_multicuts_of_all_channels_and_padded_cuts_are_read(second):
    multi = lhotse_cut(
        lhotse_recording(channels=(0, 1)), [lhotse_supervision(channel=[0, 1])], type="MultiCut", channel=[0, 1]
    )
    padded = {
        "id": "p",
        "type": "MixedCut",
        "tracks": [
            {"type": "MonoCut", "cut": lhotse_cut(None, [lhotse_supervision(id="t")])},
            {"type": "PaddingCut", "cut": {"id": "pad", "duration": 1.0}, "offset": 0.5},
        ],
    }
    found, log = read("lhotse", jsonl(second / "cuts.jsonl", multi, padded))
    assert ([u.id for u in found], log) == (["s", "t"], [])


def test_lhotse_bare_cuts_and_recordings_need_a_language(second):
    (found,) = read("lhotse", jsonl(second / "cuts.jsonl", lhotse_cut()), language="fr")[0]
    assert (found.id, found.language, found.audio) == ("c", "fr", AudioRef(str(second / "a.wav"), 0.5, 0.5))
    (second / "cuts.jsonl").unlink()
    (found,) = read("lhotse", jsonl(second / "r.jsonl", lhotse_recording()), language="fr")[0]
    assert (found.id, found.duration, found.audio) == ("r", 1.0, AudioRef(str(second / "a.wav")))


def test_lhotse_a_supervision_in_two_windows_is_one_utterance(second):
    cuts = [
        lhotse_cut(id="c1", start=0.0, supervisions=[lhotse_supervision(start=0.4)]),
        lhotse_cut(id="c2", start=0.5, supervisions=[lhotse_supervision(start=-0.1)]),
    ]
    found, log = read("lhotse", jsonl(second / "cuts.jsonl", *cuts))
    assert [u.audio.offset for u in found] == [0.4]
    assert log == ["cuts.jsonl: skipped 1 (its id stands already before): s"]


def test_lhotse_relative_paths_from_another_folder(second):
    path = jsonl(second / "manifests" / "cuts.jsonl", lhotse_cut(supervisions=[lhotse_supervision()]))
    assert len(read("lhotse", path, audio_root=str(second))[0]) == 1


# ---------------------------------------------------------------- Europarl-ST


def europarl(root: Path, *, split: str = "test", target: str = "fr", texts=("Hello.", "NA"), **files) -> Path:
    clip(root / "en" / "audios" / "en.20080901.1.m4a", 3.0)
    folder = root / "en" / target / split
    defaults = {
        "segments.lst": "en.20080901.1 0.0 1.5\nen.20080901.1 1.50 2.75\n",
        "segments.en": 'He said "no.\nNA\n',
        f"segments.{target}": "\n".join(texts) + "\n",
        "speeches.lst": "en.20080901.1\nen.20080901.2\n",
        "speakers.lst": "Some_Member_28112\nOther_Member_4\n",
    }
    for name, text in (defaults | files).items():
        if text is not None:
            put(folder / name, text)
    return root


def test_europarl_st(tmp_path):
    europarl(tmp_path, texts=("Il a dit « non ».", "S.O."))
    europarl(tmp_path, target="de", texts=("Er sagte nein.", ""))
    one, two = read("europarl-st", tmp_path)[0]
    assert one == Utterance(
        id="en/test/en.20080901.1_0.0_1.5",
        audio=AudioRef(str(tmp_path / "en" / "audios" / "en.20080901.1.m4a"), 0.0, 1.5),
        language="en",
        text='He said "no.',
        translations={"de": "Er sagte nein.", "fr": "Il a dit « non »."},
        meaning="en/en.20080901.1_0.0_1.5",
        split="test",
        speaker="Some_Member_28112",  # of the speech: there are two speakers and two segments of the first speech
        duration=1.5,
    )
    assert (two.text, two.translations, two.speaker) == ("NA", {"fr": "S.O."}, "Some_Member_28112")
    assert read("europarl-st", tmp_path, targets=("de",))[0][1].translations == {}


def test_europarl_st_a_separator_in_a_sentence_is_no_line_end(tmp_path):
    europarl(tmp_path, texts=("un\u2028deux", "trois\x85quatre"))
    assert [u.translations["fr"] for u in read("europarl-st", tmp_path)[0]] == ["un\u2028deux", "trois\x85quatre"]


def test_europarl_st_texts_that_dont_run_parallel(tmp_path):
    europarl(tmp_path, texts=("one",))
    with pytest.raises(CorpusError, match=r"segments.fr ends before line 2 of the others"):
        read("europarl-st", tmp_path)
    europarl(tmp_path, **{"segments.lst": "en.20080901.1 0.0\n" * 2})
    with pytest.raises(CorpusError, match=r"segments.lst:1: 'en.20080901.1 0.0' isn't a speech, a start and an end"):
        read("europarl-st", tmp_path)


def test_europarl_st_what_isnt_there(tmp_path):
    europarl(tmp_path, **{"segments.lst": "gone 0 1\nen.20080901.1 2 2\n", "speeches.lst": None})
    found, log = read("europarl-st", tmp_path)
    assert found == []
    assert "skipped 1 (no audio file): gone (fr/test/segments.lst:1)" in log[0]
    assert "skipped 1 (it ends before it begins)" in log[1]
    for options in ({"split": "dev"}, {"targets": ("es",)}, {"languages": ("de",)}):
        with pytest.raises(CorpusError, match=r"fetch v1\.1\.tar\.gz"):
            read("europarl-st", tmp_path, **options)


def test_europarl_st_noisy_is_read_only_if_asked_for(tmp_path):
    europarl(europarl(tmp_path), split="train-noisy")
    found, log = read("europarl-st", tmp_path)
    assert {u.split for u in found} == {"test"}
    assert "skipped train-noisy" in log[0]
    assert {u.split for u in read("europarl-st", tmp_path, split="train-noisy")[0]} == {"train-noisy"}


# ---------------------------------------------------------------- MuST-C


def mustc(
    root: Path, target="de", split="tst-COMMON", translations=("Hallo.", "NA"), yaml=None, wav="ted_767.wav"
) -> Path:
    folder = root / f"en-{target}" / "data" / split
    clip(folder / "wav" / "ted_767.wav", 3.0)
    put(
        folder / "txt" / f"{split}.yaml",
        yaml
        or f"- {{duration: 1.5, offset: 0.25, rW: 9, uW: 0, speaker_id: spk.767, wav: {wav}}}\n"
        f"- {{duration: 1.0, offset: 1e-05, rW: 9, uW: 0, speaker_id: spk.767, wav: {wav}}}\n",
    )
    put(folder / "txt" / f"{split}.en", 'He said "hello.\nNA\n')
    put(folder / "txt" / f"{split}.{target}", "\n".join(translations) + "\n")
    return root


def test_mustc(tmp_path):
    mustc(mustc(tmp_path), "fr", translations=("Bonjour.", ""))
    one, two = read("mustc", tmp_path)[0]
    assert one == Utterance(
        id="en/tst-COMMON/ted_767_0.25_1.5",
        audio=AudioRef(str(tmp_path / "en-de" / "data" / "tst-COMMON" / "wav" / "ted_767.wav"), 0.25, 1.5),
        language="en",
        text='He said "hello.',
        translations={"de": "Hallo.", "fr": "Bonjour."},
        meaning="en/ted_767_0.25_1.5",
        split="tst-COMMON",
        speaker="spk.767",
        duration=1.5,
    )
    assert (two.audio.offset, two.text, two.translations) == (1e-05, "NA", {"de": "NA"})
    assert len(load_audio(one.audio)) == 24000


def test_mustc_splits_targets_and_languages(tmp_path):
    mustc(mustc(tmp_path), split="dev")
    assert {u.split for u in read("mustc", tmp_path)[0]} == {"dev", "tst-COMMON"}
    assert {u.split for u in read("mustc", tmp_path / "en-de", split="test")[0]} == {"tst-COMMON"}
    with pytest.raises(CorpusError, match="no split train is here, only dev, tst-COMMON"):
        read("mustc", tmp_path, split="train")
    with pytest.raises(CorpusError, match="no target ja is here, only en-de"):
        read("mustc", tmp_path, targets=("ja",))
    with pytest.raises(UsageError, match="MuST-C's speech is English"):
        read("mustc", tmp_path, languages=("de",))


def test_mustc_what_cant_be_used(tmp_path):
    mustc(tmp_path, wav="gone.wav")
    found, log = read("mustc", tmp_path)
    assert found == []
    assert "skipped 2 (no audio file): gone.wav (de tst-COMMON.yaml:1)" in log[0]
    clip(tmp_path / "secret.wav", 3.0)
    mustc(tmp_path, wav="../../../../secret.wav")
    assert read("mustc", tmp_path)[0] == []
    mustc(tmp_path, translations=("one", "two", "three"))
    with pytest.raises(CorpusError, match=r"tst-COMMON\.yaml ends before line 3"):
        read("mustc", tmp_path)
    mustc(tmp_path, yaml="- {duration: 1.5, offset: 0.25}\n- !!python/object/apply:os.system ['touch pwned']\n")
    with pytest.raises(CorpusError, match=r"tst-COMMON.yaml:1: .* is no segment \(no 'wav'\)"):
        read("mustc", tmp_path)


def test_mustc_one_target_is_streamed(tmp_path):
    folder = mustc(tmp_path) / "en-de" / "data" / "tst-COMMON" / "txt"
    segments = read_corpus("mustc", tmp_path)
    assert next(segments).text == 'He said "hello.'
    put(folder / "tst-COMMON.de", "")  # what was read already stays read
    segments.close()


# ---------------------------------------------------------------- VoxPopuli S2S


def voxpopuli(root: Path, rows: str, target: str = "fr", name: str = "s2s.tsv") -> Path:
    put(
        root / "transcribed_data" / "en" / target / name,
        f"src_id\tsrc_text\tsrc_speaker_id\ttgt_id\ttgt_text\n{rows}",
    )
    return root


def test_voxpopuli_s2s(tmp_path):
    session = "20131007-0900-PLENARY-19"
    base = tmp_path / "transcribed_data" / "en"
    clip(base / "2013" / f"{session}-en_a.ogg")
    clip(base / "fr" / "2013" / f"{session}-fr_a.ogg")
    clip(base / "de" / "2013" / f"{session}-de_a.ogg")
    voxpopuli(tmp_path, f'{session}-en_a\t"NA\t\t{session}-fr_a\t\n{session}-en_b\tx\t7\t{session}-fr_b\t\n')
    voxpopuli(tmp_path, f'{session}-en_a\t"NA\t\t{session}-fr_a\tS.O.\n', name="s2s_ref.tsv")
    voxpopuli(tmp_path, f'{session}-en_a\t"NA\t\t{session}-de_a\t\n', target="de")
    found, log = read("voxpopuli-s2s", tmp_path)
    by_language = {u.language: u for u in found}
    assert len(found) == len({u.id for u in found}) == 3
    assert {u.meaning for u in found} == {f"{session}-en_a"}
    source = by_language["en"]
    assert (source.text, source.translations, source.speaker) == ('"NA', {"fr": "S.O."}, None)
    assert (by_language["fr"].text, by_language["fr"].translations) == ("S.O.", {"en": '"NA'})
    assert (by_language["de"].text, by_language["de"].speaker) == (None, None)
    assert log == [f"voxpopuli_s2s en-fr: skipped 2 (no audio file): {session}-en_b, {session}-fr_b"]
    assert {u.language for u in read("voxpopuli-s2s", tmp_path, languages=("en", "de"))[0]} == {"en", "de"}
    with pytest.raises(UsageError, match="has no splits; omit it"):
        read("voxpopuli-s2s", tmp_path, split="dev")


# ---------------------------------------------------------------- SpeechMatrix


def speechmatrix(root: Path, rows: list[tuple[float, str, str]], compressed: bool = False) -> dict[str, str]:
    """Lay out two archives and their pairs; returns name -> cell."""
    cells = {}
    (root / "audios").mkdir(parents=True)
    method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    for code in ("lt", "sl"):
        path = root / "audios" / f"{code}_aud.zip"
        with zipfile.ZipFile(path, "w", method) as archive:
            for n in range(3):
                archive.write(clip(root.parent / "clips" / f"{code}{n}.ogg", 0.2 + 0.1 * n), f"{code}_{n}_10_20.ogg")
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                start = info.header_offset + 30 + len(info.filename)
                cells[info.filename.removesuffix("_10_20.ogg").replace("_", "")] = (
                    f"{path.name}:{start}:{info.compress_size}"
                )
    lines = "".join(f"{score}\t{cells.get(a, a)}\t{cells.get(b, b)}\n" for score, a, b in rows)
    put(root / "aligned_speech" / "lt-sl.tsv.gz", gzip.compress(f"score\tlt_audio\tsl_audio\n{lines}".encode()))
    return cells


def test_speechmatrix_members_are_found_by_their_place_in_the_zip(tmp_path):
    speechmatrix(tmp_path / "sm", [(1.12, "lt1", "sl2"), (1.10, "lt2", "sl0")])
    found, log = read("speechmatrix", tmp_path / "sm")
    assert [(u.id, u.meaning) for u in found] == [
        ("lt/lt_1_10_20.ogg", "lt-sl/2"),
        ("sl/sl_2_10_20.ogg", "lt-sl/2"),
        ("lt/lt_2_10_20.ogg", "lt-sl/3"),
        ("sl/sl_0_10_20.ogg", "lt-sl/3"),
    ]
    assert log == []
    assert found[0].audio == AudioRef(str(tmp_path / "sm" / "audios" / "lt_aud.zip"), member="lt_1_10_20.ogg")
    assert [round(len(load_audio(u.audio)) / 16000, 1) for u in found] == [0.3, 0.4, 0.4, 0.2]
    assert (found[0].text, found[0].duration, found[0].speaker) == (None, None, None)


def test_speechmatrix_leaves_out_and_names(tmp_path):
    rows = [(1.2, "lt0", "sl0"), (1.19, "lt0", "sl1"), (1.15, "lt_aud.zip:7:9", "sl1"), (1.01, "lt1", "sl1")]
    speechmatrix(tmp_path / "sm", rows)
    found, log = read("speechmatrix", tmp_path / "sm")
    assert [u.id for u in found] == ["lt/lt_0_10_20.ogg", "sl/sl_0_10_20.ogg"]
    assert [line.partition("skipped ")[2] for line in log] == [
        "1 (a recording of it stands in an earlier pair): lt-sl.tsv.gz:3",
        "1 (no audio in the zip, or no zip): lt_aud.zip:7:9",
        "1 (a score below 1.06): lt-sl.tsv.gz:5",
    ]
    assert len(read("speechmatrix", tmp_path / "sm", least_score=1.0)[0]) == 4
    with pytest.raises(CorpusError, match="no pair of lt, fr"):
        read("speechmatrix", tmp_path / "sm", languages=("lt", "fr"))


def test_speechmatrix_compressed_members_and_foreign_cells(tmp_path):
    speechmatrix(tmp_path / "sm", [(1.2, "lt0", "sl0")], compressed=True)
    assert read("speechmatrix", tmp_path / "sm")[0] == []
    speechmatrix(tmp_path / "other", [(1.2, "../../x.zip:1:2", "sl0")])
    with pytest.raises(CorpusError, match="is no place in a zip"):
        read("speechmatrix", tmp_path / "other")


# ---------------------------------------------------------------- Hugging Face


def audio_folder(root: Path) -> Path:
    for name in ("train/a.wav", "train/b.wav", "test/a.wav"):
        clip(root / name)
    put(
        root / "train" / "metadata.csv",
        'file_name,transcription,lang\na.wav,NA,en\nb.wav,"Yes, no",en\ngone.wav,x,en\n',
    )
    put(root / "test" / "metadata.csv", "file_name,transcription,lang\na.wav,null,fr\n")
    return root


def test_audiofolder(tmp_path):
    found, log = read("huggingface", audio_folder(tmp_path / "d"))
    assert {(u.id, u.text, u.language, u.split) for u in found} == {
        ("train/a.wav", "NA", "en", "train"),
        ("train/b.wav", "Yes, no", "en", "train"),
        ("test/a.wav", "null", "fr", "test"),
    }
    assert len(log) == 1
    assert "skipped 1 (no audio file)" in log[0]
    assert [u.text for u in read("huggingface", tmp_path / "d", split="test")[0]] == ["null"]
    with pytest.raises(CorpusError, match="no rows of the split dev"):
        read("huggingface", tmp_path / "d", split="dev")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_audiofolder_several_audios_a_row(tmp_path, kind):
    for name in ("en/1.wav", "fr/1.wav"):
        clip(tmp_path / name)
    row = {"en_file_name": "en/1.wav", "fr_file_name": "fr/1.wav", "en_text": "NA", "fr_text": "S.O."}
    if kind == "csv":
        put(tmp_path / "metadata.csv", ",".join(row) + "\n" + ",".join(row.values()) + "\n")
    elif kind == "jsonl":
        jsonl(tmp_path / "metadata.jsonl", row)
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist([row]), tmp_path / "metadata.parquet")
    one, two = read("huggingface", tmp_path)[0]
    assert one.meaning == two.meaning is not None
    assert [(u.language, u.text, u.translations) for u in (one, two)] == [
        ("en", "NA", {"fr": "S.O."}),
        ("fr", "S.O.", {"en": "NA"}),
    ]


def test_audiofolder_paths_stay_inside(tmp_path):
    clip(tmp_path / "secret.wav")
    put(tmp_path / "d" / "metadata.csv", "file_name,lang\n../secret.wav,en\n")
    with pytest.raises(ManifestError, match="leads out of"):
        read("huggingface", tmp_path / "d")


def test_audio_without_metadata_has_no_text(tmp_path):
    clip(tmp_path / "d" / "train" / "a.wav")
    found, log = read("huggingface", tmp_path / "d", language=("fr",))
    assert [(u.id, u.text, u.language, u.split) for u in found] == [("train/a.wav", None, "fr", "train")]
    assert "without texts" in log[0]


def shard(path: Path, columns: dict, features: dict) -> Path:
    """A parquet file as `datasets` writes it: audio as bytes and path, features in the schema's metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    audio = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    arrays = {
        name: pa.array(cells, audio) if isinstance(cells[0], dict) else pa.array(cells)
        for name, cells in columns.items()
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(arrays).replace_schema_metadata(metadata), path, row_group_size=2)
    return path


def hub_like(root: Path) -> Path:
    """FLEURS in parquet: `id` is the sentence, genders are numbers, one row has no audio."""
    data = clip(root.parent / "x.wav").read_bytes()
    columns = {
        "id": [7, 7, 8],
        "audio": [
            {"bytes": data, "path": "../../1.wav"},
            {"bytes": data, "path": "2.wav"},
            {"bytes": None, "path": None},
        ],
        "path": ["1.wav", "2.wav", "3.wav"],
        "raw_transcription": ["NA", "Yes", "No"],
        "gender": [1, 0, -1],
        "language": ["French"] * 3,
    }
    features = {
        "audio": {"sampling_rate": 16000, "_type": "Audio"},
        "gender": {"names": ["male", "female"], "_type": "ClassLabel"},
    }
    shard(root / "data" / "validation-00000-of-00001.parquet", columns, features)
    return root


HUB_COLUMNS = ("meaning=id", "text=raw_transcription")


def test_parquet_audio_stays_where_it_is(tmp_path):
    found, log = read("huggingface", hub_like(tmp_path / "d"), columns=HUB_COLUMNS)
    path = str(tmp_path / "d" / "data" / "validation-00000-of-00001.parquet")
    assert [(u.audio, u.text, u.meaning, u.gender, u.language, u.split) for u in found] == [
        (AudioRef(path, member="row=0"), "NA", "7", "female", "fr", "dev"),
        (AudioRef(path, member="row=1"), "Yes", "7", "male", "fr", "dev"),
    ]
    assert len({u.id for u in found}) == 2
    assert len(load_audio(found[1].audio)) == 3200
    assert len(log) == 1
    assert "skipped 1 (no audio file)" in log[0]


def test_parquet_with_an_audio_column_of_another_name_and_with_two(tmp_path):
    data = clip(tmp_path / "x.wav").read_bytes()
    cell = [{"bytes": data, "path": None}]
    features = {name: {"_type": "Audio"} for name in ("speech", "source", "target")}
    shard(tmp_path / "one" / "train.parquet", {"speech": cell, "path": ["x"]}, features)
    (found,) = read("huggingface", tmp_path / "one", language=("en",))[0]
    assert found.audio.member == "row=0/column=speech"
    assert len(load_audio(found.audio)) == 3200
    shard(tmp_path / "two" / "train.parquet", {"source": cell, "target": cell}, features)
    one, two = read("huggingface", tmp_path / "two", language=("en", "fr"))[0]
    assert (one.meaning, one.language, one.audio.member) == (two.meaning, "en", "row=0/column=source")
    assert (two.language, two.audio.member) == ("fr", "row=0/column=target")


def test_a_saved_data_set(tmp_path):
    import pyarrow as pa

    data = clip(tmp_path / "x.wav").read_bytes()
    audio = pa.array([{"bytes": data, "path": "x.wav"}], pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    saved = pa.table({"audio": audio, "text": ["NA"], "language": ["en"]})
    folder = tmp_path / "d" / "train"
    put(folder / "state.json", json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    with (
        pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as out,
        pa.ipc.new_stream(out, saved.schema) as stream,
    ):
        stream.write_table(saved)
    with pytest.raises(UsageError, match="give the option audio_folder"):
        read("huggingface", tmp_path / "d")
    (found,) = read("huggingface", tmp_path / "d", audio_folder=str(tmp_path / "out"))[0]
    assert (found.text, found.split, found.audio.path) == ("NA", "train", str(tmp_path / "out" / "train-0-audio.wav"))
    assert len(load_audio(found.audio)) == 3200


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    """The package, kept from the network and from the user's cache."""
    package = pytest.importorskip("datasets")
    monkeypatch.setattr(package.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(package.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return package


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_the_hubs_audio_is_written_where_it_was_asked_for(tmp_path, datasets):
    out = tmp_path / "out"  # which isn't there yet
    hub = str(hub_like(tmp_path / "d"))  # `datasets` takes a folder's path for a data set's name, too
    found, log = read("huggingface", out, hub=hub, columns=HUB_COLUMNS, split="dev")
    assert [(u.text, u.meaning, u.gender, u.language, u.split) for u in found] == [
        ("NA", "7", "female", "fr", "dev"),
        ("Yes", "7", "male", "fr", "dev"),
    ]
    assert [u.audio.path for u in found] == [str(out / f"validation-{n}-audio.wav") for n in (0, 1)]
    assert sorted(p.name for p in out.iterdir()) == ["validation-0-audio.wav", "validation-1-audio.wav"]
    assert len(load_audio(found[0].audio)) == 3200
    assert "neither bytes nor a file" in log[0] or "no audio file" in log[0]


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_the_hubs_failures_are_one_line(tmp_path, datasets):
    with pytest.raises(FetchError, match="nobody/nothing: can't be read from the hub") as caught:
        read("huggingface", tmp_path, hub="nobody/nothing")
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=r"--split test: .* has validation"):
        read("huggingface", tmp_path, hub=str(hub_like(tmp_path / "d")), split="test")


def test_a_script_on_the_hub_is_never_run(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("Dataset scripts are no longer supported, but found x.py")

    monkeypatch.setattr(pytest.importorskip("datasets"), "load_dataset", refuse)
    with pytest.raises(CorpusError, match="give the option revision=refs/convert/parquet"):
        read("huggingface", tmp_path, hub="owner/x")


def test_without_datasets_the_mend_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"`datasets` isn't here; install it \(`pip install 'interlingua\[hub\]'`\)"):
        read("huggingface", tmp_path, hub="owner/x")
    assert len(read("huggingface", audio_folder(tmp_path / "d"))[0]) == 3
