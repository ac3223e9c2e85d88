"""What people bring to `interlingua corpus prepare`: the smallest tree of each corpus, and what goes wrong with it.

Whatever is wrong with a tree is one line that names the position and the fix; the exit code is 2, nothing is written.
"""

import base64
import gzip
import io
import json
import os
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers import as_an_ordinary_user, sweep
from interlingua.audio import load_audio
from interlingua.cli import run
from interlingua.corpora import read_manifest
from interlingua.corpora.base import CORPORA, read_corpus
from trees import wav_bytes

WAV = wav_bytes(sweep(0.3, 300))
OTHER = wav_bytes(sweep(0.5, 500))


def tar_gz(**files: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def stored_zip(name: str, data: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(name, data)
    return packed.getvalue()


def parquet(columns: dict) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def broken(data: bytes, at: int = 40) -> bytes:
    """With some bytes in the middle overwritten."""
    return data[:at] + b"\xff" * 30 + data[at + 30 :]


BROKEN = gzip.compress(b"")[:10] + b"\x07" * 20  # no deflate block begins so
AUDIO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
FLEURS_ROWS = {
    "id": [91, 92],
    "num_samples": [4800, 8000],
    "path": ["1.wav", "2.wav"],
    "audio": pa.array([{"bytes": WAV, "path": "1.wav"}, {"bytes": OTHER, "path": "2.wav"}], AUDIO),
    "transcription": ["le chat", "na"],
    "raw_transcription": ["Le chat.", "NA"],
    "gender": [1, 0],
}
CUT = {
    "id": "c",
    "type": "MonoCut",
    "start": 0,
    "duration": 0.3,
    "channel": 0,
    "supervisions": [{"id": "s", "start": 0, "duration": 0.3, "text": "NA", "language": "en"}],
    "recording": {"id": "r", "sources": [{"type": "file", "channels": [0], "source": "a.wav"}], "duration": 0.3},
}
TRANSLATIONS = "path\ttranslation\tsplit\na.mp3\tNA\ttrain\nb.mp3\tYes\ttest\nc.mp3\tNo\tdev\n"
SEGMENT = "- {duration: 0.1, offset: 0.1, rW: 9, uW: 0, speaker_id: spk.1, wav: ted_1.wav}\n"
SPEECHES = "src_id\tsrc_text\tsrc_speaker_id\ttgt_id\ttgt_text\n2013-en\tNA\t7\t2013-fr\t\n"
PAIRS = "score\tlt_audio\tsl_audio\n1.1\tlt_aud.zip:{0}:{1}\tsl_aud.zip:{0}:{1}\n".format(30 + len("a.ogg"), len(WAV))
VERSE = "B20___01_Santiago____SPNBDAN1DA_verse_5"
# The smallest tree of each corpus: file -> content. ROOT is the folder, or the file named "".
TREES: dict[str, dict[str, str | bytes]] = {
    "fleurs": {
        "data/fr_fr/dev.tsv": "91\t1.wav\tLe chat.\tle chat\tl e |\t4800\tFEMALE\n",
        "data/fr_fr/audio/dev.tar.gz": tar_gz(**{"dev/1.wav": WAV}),
        "data/en_us/dev.tsv": "91\t2.wav\tThe cat.\tthe cat\tt h e |\t8000\tMALE\n",
        "data/en_us/audio/dev/2.wav": OTHER,
    },
    "common-voice": {
        **{f"fr/{name}.tsv": f"client_id\tpath\tsentence\nc\t{name}.mp3\tNA\n" for name in ("train", "dev", "test")},
        **{f"fr/clips/{name}.mp3": WAV for name in ("train", "dev", "test")},
    },
    "covost": {
        "zh-CN/covost_v2.zh-CN_en.tsv": TRANSLATIONS,
        "zh-CN/validated.tsv": "client_id\tpath\tsentence\ns\ta.mp3\t不\ns\tb.mp3\t是\ns\tc.mp3\t否\n",
        **{f"zh-CN/clips/{name}.mp3": WAV for name in "abc"},
    },
    "mass": {f"dataset/spanish/txt/{VERSE}.txt": "Si alguno\n", f"dataset/spanish/wav/{VERSE}.wav": WAV},
    "mboshi": {
        "full_corpus_newsplit/dev/abiayi_1.wav": WAV,
        "full_corpus_newsplit/dev/abiayi_1.mb": "NA\n",
        "full_corpus_newsplit/dev/abiayi_1.fr": "Il dort.\n",
    },
    "europarl-st": {
        "en/audios/en.1.m4a": WAV,
        "en/fr/dev/segments.lst": "en.1 0.0 0.1\nen.1 0.1 0.3\n",
        "en/fr/dev/segments.en": 'He said "no\nNA\n',
        "en/fr/dev/segments.fr": "Non\nS.O.\n",
        "en/fr/dev/speeches.lst": "en.1\n",
        "en/fr/dev/speakers.lst": "A_1\n",
    },
    "mustc": {
        "en-de/data/dev/wav/ted_1.wav": WAV,
        "en-de/data/dev/txt/dev.yaml": SEGMENT,
        "en-de/data/dev/txt/dev.en": "NA\n",
        "en-de/data/dev/txt/dev.de": "null\n",
    },
    "voxpopuli-s2s": {
        "transcribed_data/en/fr/s2s.tsv": SPEECHES,
        "transcribed_data/en/2013/2013-en.ogg": WAV,
        "transcribed_data/en/fr/2013/2013-fr.ogg": OTHER,
    },
    "speechmatrix": {
        "aligned_speech/lt-sl.tsv.gz": gzip.compress(PAIRS.encode()),
        "audios/lt_aud.zip": stored_zip("a.ogg", WAV),
        "audios/sl_aud.zip": stored_zip("a.ogg", WAV),
    },
    "gcompris": {"ca/intro/money.ogg": WAV, "en/intro/money.ogg": OTHER},
    "huggingface": {"metadata.csv": "file_name,transcription,language\na.wav,NA,en\n", "a.wav": WAV},
    "lhotse": {"cuts.jsonl.gz": gzip.compress((json.dumps(CUT) + "\n").encode()), "a.wav": WAV},
    "nemo": {"": '{"audio_filepath": "a.wav", "duration": 0.3, "text": "NA", "lang": "en"}\n', "a.wav": WAV},
    "plain": {"": "audio,language,text\na.wav,en,NA\n", "a.wav": WAV},
    "pairs": {"": "audio_en,audio_fr\na.wav,b.wav\n", "a.wav": WAV, "b.wav": OTHER},
}
MISSING = b"(this file isn't there)"


@pytest.fixture
def prepare(tmp_path, capsys):
    """Lay out a corpus's tree with changes and prepare it: (exit code, lines on stderr, utterances)."""

    def prepare(name, changes=None, *arguments):
        root = tmp_path / "root"
        for path, content in (TREES[name] | (changes or {})).items():
            place = root / (path or "table")
            if content is MISSING:
                place.unlink(missing_ok=True)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content if isinstance(content, bytes) else content.encode())
        given = root / "table" if "" in TREES[name] else root
        out = tmp_path / "out" / "m.jsonl"
        out.unlink(missing_ok=True)
        code = run(["corpus", "prepare", name, "--root", str(given), "--out", str(out), *arguments])
        return code, capsys.readouterr().err.splitlines(), read_manifest(out) if out.exists() else None

    return prepare


@pytest.mark.parametrize("name", TREES)
def test_the_smallest_tree_of_each_corpus(prepare, name):
    code, lines, found = prepare(name)
    assert code == 0, lines
    assert found
    assert not [line for line in lines if "skipped" in line]


def test_every_corpus_that_doesnt_fetch_itself_has_a_tree():
    alone = {name for name, corpus in CORPORA.items() if not corpus.self_fetching}
    assert TREES.keys() == alone - {"asterisk"}  # which reads the prompts corpus


def cuts(**changes) -> dict[str, bytes]:
    return {"cuts.jsonl.gz": gzip.compress((json.dumps(CUT) + "\n" + json.dumps(CUT | changes) + "\n").encode())}


def supervised(**changes) -> dict[str, bytes]:
    return cuts(supervisions=[CUT["supervisions"][0] | changes])


def a_parquet(**changes) -> dict[str, bytes]:
    """FLEURS in parquet, in the place of the tables; without a column that is None, cut off if one is MISSING."""
    if any(cells is MISSING for cells in changes.values()):
        return {"data/fr_fr/dev.tsv": MISSING, "data/fr_fr/validation/0000.parquet": parquet(FLEURS_ROWS)[:-50]}
    rows = {name: cells for name, cells in (FLEURS_ROWS | changes).items() if cells is not None}
    return {"data/fr_fr/dev.tsv": MISSING, "data/fr_fr/validation/0000.parquet": parquet(rows)}


WRONG = [
    ("fleurs", {"data/fr_fr/dev.tsv": ""}, (), "data/fr_fr/dev.tsv: the file is empty; fetch it again"),
    ("fleurs", {"data/fr_fr/dev.tsv": b"91\t1.wav\ta\ta\n\xe9"}, (), "dev.tsv:2: not UTF-8 (byte 0xe9); save it"),
    ("fleurs", {"data/fr_fr/audio/dev.tar.gz": tar_gz(**{"dev/1.wav": WAV})[:-20]}, (), "dev.tar.gz: the archive ends"),
    ("fleurs", {"data/fr_fr/audio/dev.tar.gz": "<html>"}, (), "dev.tar.gz: no tar, tar.gz, zip or parquet file, or a"),
    ("fleurs", {"data/fr_fr/audio/dev.tar.gz": MISSING}, (), "dev.tsv is here, its recordings (audio/dev.tar.gz or"),
    ("fleurs", a_parquet(raw_transcription=None), (), "0000.parquet: no parquet file of FLEURS (without a column raw_"),
    ("fleurs", a_parquet(audio=None), (), "0000.parquet: no parquet file of FLEURS (without a column audio); fetch it"),
    ("fleurs", a_parquet(audio=MISSING), (), "0000.parquet: no parquet file of FLEURS ("),
    ("fleurs", {}, ("--split", "train"), "no train of en_us, fr_fr is here. fetch data/<lang>/"),
    ("fleurs", {}, ("--split", "tests"), "--split tests: the fleurs corpus has train, dev, test"),
    ("fleurs", {}, ("--languages", "de"), "no 'de' is here, only en_us, fr_fr. fetch data/<lang>/"),
    ("fleurs", {}, ("--languages", "xx"), "unknown language 'xx'"),
    ("fleurs", {}, ("--option", "text=upper"), "--option text=upper: write raw or normalised"),
    ("fleurs", {}, ("--fold", "0"), "1 clusters can't be split into 5 folds; read more, or omit --fold"),
    ("common-voice", {"fr/train.tsv": ""}, (), "fr/train.tsv: the file is empty; fetch it again"),
    ("common-voice", {"fr/dev.tsv": "a\tb\n"}, (), "fr/dev.tsv:1: no column 'path' among a, b; is it the file"),
    ("common-voice", {f"fr/clips/{n}.mp3": MISSING for n in ("train", "dev", "test")}, (), "not its recordings"),
    ("covost", {"zh-CN/validated.tsv": MISSING}, (), "zh-CN: no validated.tsv to join the translations with. fetch"),
    ("covost", {"zh-CN/covost_v2.zh-CN_qq.tsv": "x"}, (), "covost_v2.zh-CN_qq.tsv: unknown language 'qq'"),
    ("covost", {}, ("--option", "targets=de"), "no translations into de are here. fetch Common Voice 4"),
    ("mass", {f"dataset/spanish/txt/{VERSE}.txt": b"a\xf1o"}, (), f"{VERSE}.txt: can't be read ('utf-8' codec"),
    ("mass", {}, ("--split", "test"), "--split test: the mass corpus has no splits; omit it"),
    ("voxpopuli-s2s", {}, ("--split", "dev"), "--split dev: the voxpopuli-s2s corpus has no splits"),
    ("mass", {}, ("--option", "titles=maybe"), "--option titles=maybe: write yes or no"),
    ("europarl-st", {"en/fr/dev/segments.lst": "en.1 0 nan\nen.1 0 1\n"}, (), "segments.lst:1: end is 'nan'; write"),
    ("europarl-st", {"en/fr/dev/segments.lst": "en.1 -1 1\nen.1 0 1\n"}, (), "segments.lst:1: start is '-1'; write"),
    ("europarl-st", {"en/fr/dev/segments.fr": MISSING}, (), "segments.fr: can't be read (No such file or directory)"),
    ("europarl-st", {}, ("--option", "targets=it"), "en: no target it is here, only fr. fetch v1.1.tar.gz"),
    ("mustc", {"en-de/data/dev/txt/dev.yaml": "- {duration: inf, offset: 0, wav: a}\n"}, (), "1: duration is 'inf'"),
    ("mustc", {"en-de/data/dev/txt/dev.yaml": "- {duration: 1, offset: -2, wav: a}\n"}, (), "l:1: offset is '-2'"),
    ("mustc", {"en-de/data/dev/txt/dev.yaml": MISSING}, (), "no split is here. fetch MUSTC"),
    ("voxpopuli-s2s", {"transcribed_data/en/fr/s2s.tsv": ""}, (), "fr/s2s.tsv: the file is empty"),
    ("speechmatrix", {"aligned_speech/lt-sl.tsv.gz": BROKEN}, (), "lt-sl.tsv.gz: can't be read (Error -3"),
    ("speechmatrix", {"aligned_speech/lt-sl.tsv.gz": "<html>"}, (), "lt-sl.tsv.gz:1: no column 'score' among <html>"),
    ("speechmatrix", {"audios/lt_aud.zip": stored_zip("a.ogg", WAV)[:-30]}, (), "lt_aud.zip: no zip file, or it"),
    (
        "speechmatrix",
        {"aligned_speech/lt-sl.tsv.gz": gzip.compress(PAIRS.replace("1.1", "nan").encode())},
        (),
        "lt-sl.tsv.gz:2: the score is 'nan'",
    ),
    ("huggingface", {}, ("--option", "config=a.wav"), "root/a.wav: a file, not a folder. --option hub=OWNER/NAME"),
    ("huggingface", {"metadata.csv": "file_name,lang\n../secret.wav,en\n"}, (), "leads out of"),
    ("huggingface", {"metadata.csv": ""}, (), "metadata.csv: the file is empty; its first line must name the columns"),
    ("huggingface", {"metadata.csv": MISSING, "metadata.parquet": b"PAR1"}, (), "metadata.parquet: can't be read ("),
    (
        "huggingface",
        {"metadata.csv": MISSING, "x.parquet": broken(parquet({k: v * 900 for k, v in {"t": ["a b c"], "audio": [
            {"bytes": b"12345678", "path": "x"}]}.items()}))},
        ("--option", "language=en"),
        "x.parquet: can't be read (",
    ),
    ("lhotse", {"cuts.jsonl.gz": BROKEN}, (), "cuts.jsonl.gz: can't be read (Error -3"),
    ("lhotse", {"cuts.jsonl.gz": ""}, (), "no cut, recording or supervision is the first line of cuts.jsonl.gz."),
    ("lhotse", cuts(supervisions=["x"]), (), "cuts.jsonl.gz:2: no line of Lhotse's (Expected `object`, got `str`"),
    ("lhotse", cuts(start="0.5"), (), "cuts.jsonl.gz:2: no line of Lhotse's (Expected `float | null`, got `str`"),
    ("lhotse", cuts(type="MixedCut", tracks=[{"type": "MonoCut"}]), (), "cuts.jsonl.gz:2: no line of Lhotse's (Object"),
    ("lhotse", cuts(start=-1), (), "cuts.jsonl.gz:2: start is -1.0; write seconds"),
    ("lhotse", supervised(text=5), (), "Expected `str | null`, got `int` - at `$.supervisions[0].text`"),
    ("lhotse", supervised(language=5), (), "got `int` - at `$.supervisions[0].language`"),
    ("lhotse", supervised(custom={"translated_text": {"elvish": "x"}}), (), "cuts.jsonl.gz:2: supervision s: unknown"),
    ("nemo", {"": "[\n"}, (), "table:1: no JSON ("),
    ("nemo", {"": '{"audio_filepath": "../a.wav", "lang": "en"}\n'}, (), "table:1: '../a.wav' leads out of"),
    ("plain", {"": BROKEN}, (), "table: can't be read (Error -3"),
    ("plain", {"": gzip.compress(b"audio,language\na.wav,en\n")[:-9]}, (), "table: can't be read (Compressed"),
    ("pairs", {"": "audio,audio\na.wav,b.wav\n"}, (), "table:2: nothing says the language of audio_1"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "changes", "arguments", "said"), WRONG)
def test_what_is_wrong_is_one_line_and_nothing_is_written(prepare, tmp_path, name, changes, arguments, said):
    code, lines, found = prepare(name, changes, *arguments)
    assert (code, found) == (2, None)
    assert [line for line in lines if line.startswith("interlingua: ")] == lines[-1:]
    assert said in "\n".join(lines)
    assert not list(tmp_path.glob("out/*"))


def from_windows(content: str | bytes, name: str) -> str | bytes:
    """A text with a byte order mark and Windows' line ends, gzipped or not; anything else as it is."""
    if isinstance(content, str):
        return b"\xef\xbb\xbf" + content.replace("\n", "\r\n").encode()
    if name.endswith((".tsv.gz", ".jsonl.gz")):
        return gzip.compress(from_windows(gzip.decompress(content).decode(), ""))
    return content


@pytest.mark.parametrize("name", TREES)
def test_a_byte_order_mark_and_windows_line_ends_change_nothing(prepare, name):
    plain = prepare(name)
    assert prepare(name, {path: from_windows(content, path) for path, content in TREES[name].items()}) == plain


@pytest.mark.parametrize("member", ["1.wav", "./dev/1.wav", "dev/1.wav", "data/fr_fr/audio/dev/1.wav"])
def test_members_of_fleurs_s_archives_are_known_by_their_last_part(prepare, member):
    code, lines, found = prepare("fleurs", {"data/fr_fr/audio/dev.tar.gz": tar_gz(**{member: WAV})})
    assert code == 0, lines
    assert [u.audio.member for u in found if u.language == "fr"] == [member.removeprefix("./")]
    assert len(load_audio(found[-1].audio)) == 4800


def test_a_table_whose_tabs_an_editor_replaced_has_no_usable_row(prepare):
    rows = TREES["fleurs"]["data/fr_fr/dev.tsv"].replace("\t", "  ")
    code, lines, _ = prepare("fleurs", {"data/fr_fr/dev.tsv": rows}, "--languages", "fr")
    assert code == 2
    assert "fleurs fr_fr/dev: skipped 1 (fewer than 7 columns): dev.tsv:1" in lines
    assert "every row was skipped, as the lines above say" in lines[-1]


def test_a_recording_that_breaks_off_is_found_by_the_check(prepare, tmp_path, capsys):
    short = wav_bytes(sweep(0.84, 300))  # the shortest of FLEURS
    row = TREES["fleurs"]["data/fr_fr/dev.tsv"].replace("4800", "96000")
    prepare("fleurs", {"data/fr_fr/dev.tsv": row, "data/fr_fr/audio/dev.tar.gz": tar_gz(**{"dev/1.wav": short})})
    assert run(["corpus", "check", str(tmp_path / "out" / "m.jsonl")]) == 1
    assert capsys.readouterr().out == "fr_fr/dev/1: duration: 0.84 s, the manifest says 6.00 s\n"


def test_a_sentence_that_one_language_lacks_is_not_shared(prepare, tmp_path, capsys):
    rows = TREES["fleurs"]["data/en_us/dev.tsv"]
    more = {"data/en_us/dev.tsv": rows + rows.replace("91", "92").replace("2.wav", "3.wav")}
    code, lines, _ = prepare("fleurs", more | {"data/en_us/audio/dev/3.wav": WAV})
    assert code == 0, lines
    run(["corpus", "stats", str(tmp_path / "out" / "m.jsonl"), "--json"])
    counted = json.loads(capsys.readouterr().out)
    assert (counted["overlap"], counted["languages"]["en"]["sentences"]) == ({"en-fr": 1}, 2)


def test_rows_of_a_parquet_file_without_id_or_audio_are_left_out_and_named(prepare):
    lacking = {"id": [91, None], "audio": pa.array([{"bytes": WAV, "path": "1.wav"}, None], AUDIO)}
    code, lines, found = prepare("fleurs", a_parquet(**lacking), "--languages", "fr")
    assert (code, [u.text for u in found]) == (0, ["Le chat."])
    assert lines == ["fleurs fr_fr/dev: skipped 1 (no id or recording): 0000.parquet, row 1"]


def test_a_parquet_file_that_holds_the_audio_s_bytes_alone(prepare):
    audio = [{"bytes": WAV}, {"bytes": OTHER}]
    code, lines, found = prepare("fleurs", a_parquet(audio=audio, path=None), "--languages", "fr")
    assert (code, lines, [u.id for u in found]) == (0, [], ["fr_fr/dev/0000-0", "fr_fr/dev/0000-1"])
    assert [len(load_audio(u.audio)) for u in found] == [4800, 8000]


def test_a_link_s_name_says_the_language(prepare, tmp_path):
    prepare("common-voice")
    (tmp_path / "root" / "fr").rename(tmp_path / "release-17")
    (tmp_path / "root" / "sv-SE").symlink_to(tmp_path / "release-17")
    found = list(read_corpus("common-voice", tmp_path / "root"))
    assert [(u.id, u.language) for u in found] == [(f"sv-SE/{name}", "sv") for name in ("train", "dev", "test")]


@pytest.mark.parametrize(("name", "table"), [("common-voice", "fr/train.tsv"), ("covost", "zh-CN/validated.tsv")])
def test_recordings_without_a_sentence_mean_nothing_in_common(prepare, name, table):
    header, *rows = TREES[name][table].splitlines()
    emptied = "\n".join([header, *(row.rpartition("\t")[0] + "\t" for row in rows), ""])
    code, lines, found = prepare(name, {table: emptied})
    assert code == 0, lines
    assert [u.meaning for u in found if u.text == ""] == [None] * len(rows)


def test_a_table_of_common_voice_that_is_missing_is_told(prepare):
    code, lines, found = prepare("common-voice", {"fr/dev.tsv": MISSING})
    assert (code, [u.split for u in found]) == (0, ["train", "test"])
    assert lines == ["common-voice fr: no dev.tsv is here"]


def test_legacy_codes_are_the_languages_of_today(prepare):
    old = {"": "audio,language\na.wav,iw\nb.wav,in\n", "b.wav": OTHER}
    assert [u.language for u in prepare("plain", old)[2]] == ["he", "id"]


def test_covost_s_codes_are_common_voice_s(prepare):
    code, lines, found = prepare("covost")
    assert code == 0, lines
    assert [(u.id, u.language, u.text, u.translations, u.split) for u in found] == [
        ("zh-CN/a", "zh", "不", {"en": "NA"}, "train"),
        ("zh-CN/b", "zh", "是", {"en": "Yes"}, "test"),
        ("zh-CN/c", "zh", "否", {"en": "No"}, "dev"),
    ]
    targets = ["de", "tr", "fa", "sv-SE", "mn", "zh-CN", "cy", "ca", "sl", "et", "id", "ar", "ta", "lv", "ja"]
    tree = {"zh-CN/covost_v2.zh-CN_en.tsv": MISSING}
    tree |= {path.replace("zh-CN", "en"): c for path, c in TREES["covost"].items() if not path.endswith("_en.tsv")}
    tree |= {f"en/covost_v2.en_{target}.tsv": TRANSLATIONS for target in targets}
    found = prepare("covost", tree, "--languages", "en")[2]
    assert set(found[0].translations) == {target.partition("-")[0] for target in targets}


def test_prepared_files_of_covost_stand_in_for_their_splits_alone(prepare):
    dev = {"zh-CN/covost_v2.zh-CN_en.dev.tsv": "path\tsentence\ttranslation\tclient_id\nc.mp3\t否\tWrong\ts\n"}
    found = prepare("covost", dev)[2]
    assert {(u.text, u.translations["en"], u.split) for u in found} == {
        ("不", "NA", "train"),
        ("是", "Yes", "test"),
        ("否", "Wrong", "dev"),
    }
    code, lines, found = prepare("covost", dev | {"zh-CN/covost_v2.zh-CN_en.tsv": MISSING})
    assert (code, len(found)) == (0, 1)
    assert lines == [f"covost zh-CN: no {s} with translations into en is here" for s in ("train", "test")]


def test_verses_without_a_text_are_told(prepare):
    code, lines, (found,) = prepare("mass", {f"dataset/spanish/txt/{VERSE}.txt": MISSING, "dataset/spanish/txt/x": ""})
    assert (code, found.text) == (0, None)
    assert lines == [f"mass spanish: 1 recordings have no text in txt/, such as {VERSE}"]


def test_what_nemo_repeats_is_counted(prepare):
    row = TREES["nemo"][""]
    into = row.replace('"lang"', '"answer": "Oui", "target_lang": "fr", "source_lang"')
    code, lines, (found,) = prepare("nemo", {"": row + into + row + into.replace("Oui", "Non")})
    assert (code, found.text, found.translations) == (0, "NA", {"fr": "Oui"})
    assert lines == [
        "table: skipped 1 (another row says nothing more): table:3",
        "table: skipped 1 (another row says another language, transcript or translation): table:4",
    ]


@pytest.mark.parametrize("cell", [".", "a sentence in the wrong column " * 20])
def test_a_cell_that_names_no_file_is_left_out_and_named(prepare, cell):
    code, lines, found = prepare("plain", {"": f"audio,language\n{cell},en\na.wav,en\n"})
    assert (code, len(found)) == (0, 1)
    assert lines == [f"table: skipped 1 (no audio file): {lines[0].partition('file): ')[2]}"]
    assert f"table:2 ({cell.strip()[:80]}" in lines[0]


def test_a_speaker_s_number_is_a_name(prepare, tmp_path):
    changed = {"supervisions": [CUT["supervisions"][0] | {"speaker": 0}]}
    (found,) = prepare("lhotse", {"cuts.jsonl.gz": gzip.compress((json.dumps(CUT | changed) + "\n").encode())})[2]
    assert found.speaker == "0"


def test_recordings_that_a_manifest_holds_don_t_take_each_other_s_place(prepare, tmp_path):
    def holding(name, data):
        source = {"type": "memory", "channels": [0], "source": base64.b64encode(data).decode()}
        recording = {"id": name, "sources": [source], "duration": 0.2}
        said = CUT["supervisions"][0] | {"id": name, "duration": 0.2}
        return json.dumps(CUT | {"id": name, "supervisions": [said], "recording": recording}) + "\n"

    held = {"a/b": WAV, "a b": OTHER, "a-b": wav_bytes(sweep(0.2, 900)), "é" * 300: WAV}
    manifest = "".join(holding(name, data) for name, data in held.items())
    folder = tmp_path / "held"
    given = ("--option", f"audio_folder={folder}")
    code, lines, found = prepare("lhotse", {"cuts.jsonl.gz": gzip.compress(manifest.encode())}, *given)
    assert code == 0, lines
    assert {u.id: Path(u.audio.path).read_bytes() for u in found} == held
    assert len(list(folder.iterdir())) == 4


def test_audio_beside_a_parquet_file_is_read_and_one_outside_refused(prepare):
    def shard(*paths):
        audio = pa.array([{"bytes": None, "path": path} for path in paths], AUDIO)
        columns = {"text": ["NA"] * len(paths), "language": ["en"] * len(paths), "audio": audio}
        return {"metadata.csv": MISSING, "train.parquet": parquet(columns), "clips/a.wav": WAV}

    code, lines, (found,) = prepare("huggingface", shard("clips/a.wav", "clips/gone.wav", None))
    assert code == 0
    assert (found.text, found.split, len(load_audio(found.audio))) == ("NA", "train", 4800)
    assert "skipped 2 (no audio file)" in lines[0]
    code, lines, _ = prepare("huggingface", shard("../root/clips/a.wav"))
    assert code == 2
    assert "train.parquet, row 0: '../root/clips/a.wav' leads out of" in lines[0]


def test_what_is_no_manifest_is_never_overwritten(prepare, tmp_path, capsys):
    assert prepare("plain")[0] == 0
    assert prepare("plain")[0] == 0  # a manifest is
    table, pipe = tmp_path / "root" / "table", tmp_path / "pipe"
    os.mkfifo(pipe)
    for out in (table, pipe):
        assert run(["corpus", "prepare", "plain", "--root", str(table), "--out", str(out)]) == 2
        assert (
            f"--out {out}: is there and is no manifest; it would be lost: name another file" in capsys.readouterr().err
        )
    assert table.read_text() == TREES["plain"][""]
    assert pipe.is_fifo()


def test_ids_that_come_again_are_named(prepare):
    rows = TREES["fleurs"]["data/en_us/dev.tsv"]
    code, lines, found = prepare("fleurs", {"data/en_us/dev.tsv": rows * 3}, "--languages", "en")
    assert (code, len(found)) == (0, 1)
    assert lines == ["m.jsonl: skipped 2 (its id stands already before): en_us/dev/2, en_us/dev/2"]


def test_a_large_archive_is_announced(prepare, monkeypatch):
    monkeypatch.setattr("interlingua.corpora.layout._LARGE", 100)
    code, lines, _ = prepare("fleurs", None, "--languages", "fr")
    assert code == 0
    assert [line.partition(": ")[2] for line in lines] == [
        "reading what 0.0 GB hold",
        "read in place, in its own order; unpack it where speed matters",
    ]


def test_genders_of_fleurs_in_words_and_in_numbers(prepare):
    genders = [None, "female", "male", "other"]
    row = TREES["fleurs"]["data/fr_fr/dev.tsv"]
    rows = "".join(row.replace("1.wav", f"{n}.wav").replace("FEMALE", (g or "").upper()) for n, g in enumerate(genders))
    packed = tar_gz(**{f"dev/{n}.wav": wav_bytes(sweep(0.2, 200 + 50 * n)) for n in range(4)})
    tree = {"data/fr_fr/dev.tsv": rows, "data/fr_fr/audio/dev.tar.gz": packed}
    assert [u.gender for u in prepare("fleurs", tree, "--languages", "fr")[2]] == genders
    numbers = pa.array([None, 1, 0, 2], pa.int64())
    columns = {
        name: (cells if isinstance(cells, list) else cells.to_pylist())[:1] * 4 for name, cells in FLEURS_ROWS.items()
    }
    columns |= {"path": list("abcd"), "audio": pa.array([{"bytes": WAV, "path": f"{n}.wav"} for n in range(4)], AUDIO)}
    found = prepare("fleurs", a_parquet(**columns | {"gender": numbers}), "--languages", "fr")[2]
    assert [u.gender for u in found] == genders


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("fleurs", "data/fr_fr"),
        ("fleurs", "data/fr_fr/dev.tsv"),
        ("common-voice", "fr/clips"),
        ("covost", "zh-CN/validated.tsv"),
        ("mass", "dataset/spanish/txt"),
        ("mass", "dataset/spanish/wav"),
        ("mboshi", "full_corpus_newsplit/dev"),
        ("europarl-st", "en/audios"),
        ("mustc", "en-de/data/dev/wav"),
        ("voxpopuli-s2s", "transcribed_data/en/fr/s2s.tsv"),
        ("speechmatrix", "audios/lt_aud.zip"),
        ("huggingface", "metadata.csv"),
        ("lhotse", ""),
        ("nemo", "table"),
        ("plain", "table"),
    ],
)
def test_what_may_not_be_read_is_named(prepare, tmp_path, capsys, name, path):
    prepare(name)
    closed = tmp_path / "root" / path
    mode = closed.stat().st_mode
    closed.chmod(0)
    try:
        root, out = tmp_path / "root" / ("table" if "" in TREES[name] else ""), tmp_path / "new.jsonl"
        with as_an_ordinary_user():
            assert run(["corpus", "prepare", name, "--root", str(root), "--out", str(out)]) == 2
    finally:
        closed.chmod(mode)
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith(f"interlingua: {closed}")
    assert "ermission" in told
    assert not out.exists()
