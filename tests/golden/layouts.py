"""Small corpora as their publishers hand them out, one function a layout: (folder to fill) -> ROOT.

Nothing of interlingua is imported here, so that its inside may change: what is given to the readers stays the same.
"""

import base64
import gzip
import json
import zipfile
from pathlib import Path

from helpers import sweep, utterance, write_wav
from trees import common_voice_tree, covost_tree, fleurs_tree, mass_tree

TEXTS = {
    ("en", "cat"): 'He said: "The cat, sat.',  # the quote is never closed
    ("en", "na"): "NA",
    ("en", "null"): "null",
    ("fr", "cat"): "Il a dit : « Le chat s'est assis. »",
    ("fr", "na"): "N'importe quoi.",
    ("ru", "cat"): "Он сказал: кот сел.",
}


def put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def clip(path: Path, seconds: float = 0.2) -> Path:
    return write_wav(path, sweep(seconds, pitch=300))


def jsonl(path: Path, *rows: dict) -> Path:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return put(path, gzip.compress(text.encode()) if path.suffix == ".gz" else text)


def spoken(folder: Path) -> list:
    """Six sentences, one of which two people read in French."""
    made = []
    for n, ((language, meaning), text) in enumerate([*TEXTS.items(), (("fr", "cat"), TEXTS["fr", "cat"])]):
        path = write_wav(folder / "spoken" / f"{n}.wav", sweep(0.5 + 0.1 * n, pitch=200 + 60 * n, seed=n))
        others = {code: said for (code, same), said in TEXTS.items() if same == meaning and code != language}
        made.append(
            utterance(
                language,
                meaning,
                id=str(path.with_suffix("")),  # helpers.utterance takes it for the recording's place, too
                text=text,
                translations=others,
                speaker=f"s{n}",
                gender="female" if n % 2 else "male",
                duration=0.5 + 0.1 * n,
            )
        )
    return made


def many(folder: Path) -> list:
    """Twelve sentences in English and Spanish, two of them near-duplicates."""
    made = []
    for n in range(12):
        for language, said in (("en", "sentence about matter"), ("es", "frase sobre asunto")):
            path = write_wav(folder / "many" / f"{language}{n}.wav", sweep(0.2 + 0.01 * n, 300, seed=n))
            text = f"{said} {min(n, 10)} {'abcdefghijk'[min(n, 10)] * 5}"
            made.append(utterance(language, f"m{n:02}", id=str(path.with_suffix("")), text=text))
    return made


# ---------------------------------------------------------------- corpora of trees.py


def fleurs(folder: Path, layout: str = "tar.gz", split: str = "test") -> Path:
    return fleurs_tree(folder / "root", spoken(folder), layout=layout, split=split)


def fleurs_many(folder: Path) -> Path:
    return fleurs_tree(folder / "root", many(folder), layout="unpacked")


def common_voice(folder: Path, release: int = 4, *, durations: bool = False) -> Path:
    return common_voice_tree(folder / "root", spoken(folder), release=release, durations=durations)


def covost(folder: Path, *, prepared: bool = False) -> Path:
    return covost_tree(folder / "root", spoken(folder), prepared=prepared)


def mass(folder: Path) -> Path:
    return mass_tree(folder / "root", spoken(folder))


# ---------------------------------------------------------------- speeches and talks


def europarl(folder: Path) -> Path:
    root = folder / "root"
    clip(root / "en" / "audios" / "en.20080901.1.m4a", 3.0)
    for target, texts in (("fr", ("Il a dit « non ».", "S.O.")), ("de", ("Er sagte nein.", ""))):
        files = {
            "segments.lst": "en.20080901.1 0.0 1.5\nen.20080901.1 1.50 2.75\n",
            "segments.en": 'He said "no.\nNA\n',
            f"segments.{target}": "\n".join(texts) + "\n",
            "speeches.lst": "en.20080901.1\nen.20080901.2\n",
            "speakers.lst": "Some_Member_28112\nOther_Member_4\n",
        }
        for split in ("test", "train-noisy"):
            for name, text in files.items():
                put(root / "en" / target / split / name, text)
    return root


def mustc(folder: Path) -> Path:
    root = folder / "root"
    for target, split, texts in (
        ("de", "tst-COMMON", ("Hallo.", "NA")),
        ("de", "dev", ("Guten Tag.", "null")),
        ("fr", "tst-COMMON", ("Bonjour.", "")),
    ):
        place = root / f"en-{target}" / "data" / split
        clip(place / "wav" / "ted_767.wav", 3.0)
        segments = "".join(
            f"- {{duration: {seconds}, offset: {offset}, rW: 9, uW: 0, speaker_id: spk.767, wav: ted_767.wav}}\n"
            for seconds, offset in (("1.5", "0.25"), ("1.0", "1e-05"))
        )
        put(place / "txt" / f"{split}.yaml", segments)
        put(place / "txt" / f"{split}.en", 'He said "hello.\nNA\n')
        put(place / "txt" / f"{split}.{target}", "\n".join(texts) + "\n")
    return root


def voxpopuli(folder: Path) -> Path:
    root, session = folder / "root", "20131007-0900-PLENARY-19"
    base = root / "transcribed_data" / "en"
    clip(base / "2013" / f"{session}-en_a.ogg")
    clip(base / "fr" / "2013" / f"{session}-fr_a.ogg")
    clip(base / "de" / "2013" / f"{session}-de_a.ogg")
    head = "src_id\tsrc_text\tsrc_speaker_id\ttgt_id\ttgt_text\n"
    put(
        base / "fr" / "s2s.tsv",
        f'{head}{session}-en_a\t"NA\t\t{session}-fr_a\t\n{session}-en_b\tx\t7\t{session}-fr_b\t\n',
    )
    put(base / "fr" / "s2s_ref.tsv", f'{head}{session}-en_a\t"NA\t\t{session}-fr_a\tS.O.\n')
    put(base / "de" / "s2s.tsv", f'{head}{session}-en_a\t"NA\t\t{session}-de_a\t\n')
    return root


def speechmatrix(folder: Path) -> Path:
    """Pairs that name a recording by its place in a zip; the third is below the least score, the fourth repeats."""
    root, cells = folder / "root", {}
    (root / "audios").mkdir(parents=True)
    for code in ("lt", "sl"):
        path = root / "audios" / f"{code}_aud.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for n in range(3):
                archive.write(clip(folder / "clips" / f"{code}{n}.ogg", 0.2 + 0.1 * n), f"{code}_{n}_10_20.ogg")
        with zipfile.ZipFile(path) as archive:
            for n, info in enumerate(archive.infolist()):
                start = info.header_offset + 30 + len(info.filename)
                cells[f"{code}{n}"] = f"{path.name}:{start}:{info.compress_size}"
    rows = [(1.12, "lt1", "sl2"), (1.10, "lt2", "sl0"), (1.01, "lt0", "sl1"), (1.09, "lt1", "sl1")]
    lines = "".join(f"{score}\t{cells[a]}\t{cells[b]}\n" for score, a, b in rows)
    put(root / "aligned_speech" / "lt-sl.tsv.gz", gzip.compress(f"score\tlt_audio\tsl_audio\n{lines}".encode()))
    return root


# ---------------------------------------------------------------- Hugging Face


def audio_folder(folder: Path) -> Path:
    root = folder / "root"
    for name in ("train/a.wav", "train/b.wav", "test/a.wav"):
        clip(root / name)
    rows = 'a.wav,NA,en\nb.wav,"Yes, no",en\ngone.wav,x,en\n'
    put(root / "train" / "metadata.csv", f"file_name,transcription,lang\n{rows}")
    put(root / "test" / "metadata.csv", "file_name,transcription,lang\na.wav,null,fr\n")
    return root


def audio_folder_of_pairs(folder: Path) -> Path:
    root = folder / "root"
    for name in ("en/1.wav", "fr/1.wav"):
        clip(root / name)
    row = {"en_file_name": "en/1.wav", "fr_file_name": "fr/1.wav", "en_text": "NA", "fr_text": "S.O."}
    jsonl(root / "metadata.jsonl", row)
    return root


def audio_without_texts(folder: Path) -> Path:
    clip(folder / "root" / "train" / "a.wav")
    return folder / "root"


def _shard(path: Path, columns: dict, features: dict) -> None:
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


def parquet(folder: Path) -> Path:
    """As the hub has FLEURS: `id` is the sentence, genders are numbers, one row has no audio."""
    root, data = folder / "root", clip(folder / "x.wav").read_bytes()
    columns = {
        "id": [7, 7, 8],
        "audio": [{"bytes": data, "path": "1.wav"}, {"bytes": data, "path": "2.wav"}, {"bytes": None, "path": None}],
        "path": ["1.wav", "2.wav", "3.wav"],
        "raw_transcription": ["NA", "Yes", "No"],
        "gender": [1, 0, -1],
        "language": ["French"] * 3,
    }
    features = {
        "audio": {"sampling_rate": 16000, "_type": "Audio"},
        "gender": {"names": ["male", "female"], "_type": "ClassLabel"},
    }
    _shard(root / "data" / "validation-00000-of-00001.parquet", columns, features)
    return root


def parquet_of_pairs(folder: Path) -> Path:
    cell = [{"bytes": clip(folder / "x.wav").read_bytes(), "path": None}]
    features = {name: {"_type": "Audio"} for name in ("source", "target")}
    _shard(folder / "root" / "train.parquet", {"source": cell, "target": cell}, features)
    return folder / "root"


def saved_data_set(folder: Path) -> Path:
    import pyarrow as pa

    data = clip(folder / "x.wav").read_bytes()
    audio = pa.array([{"bytes": data, "path": "x.wav"}], pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    saved = pa.table({"audio": audio, "text": ["NA"], "language": ["en"]})
    root = folder / "root"
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}
    put(root / "train" / "state.json", json.dumps(state))
    with (
        pa.OSFile(str(root / "train" / "data-00000-of-00001.arrow"), "wb") as out,
        pa.ipc.new_stream(out, saved.schema) as stream,
    ):
        stream.write_table(saved)
    return root


# ---------------------------------------------------------------- Lhotse and NeMo


def _recording(source: str = "a.wav", kind: str = "file", channels: tuple[int, ...] = (0,), **more) -> dict:
    return {
        "id": more.pop("id", "r"),
        "sources": [{"type": kind, "channels": list(channels), "source": source}],
        "sampling_rate": 16000,
        "num_samples": 16000,
        "duration": 1.0,
        "channel_ids": list(channels),
        **more,
    }


def _supervision(**more) -> dict:
    given = {"id": "s", "recording_id": "r", "start": 0.0, "duration": 0.3, "channel": 0, "text": "hi"}
    return {**given, "language": "en", **more}


def _cut(recording: dict | None = None, supervisions: tuple[dict, ...] = (), **more) -> dict:
    given = {"id": "c", "start": 0.5, "duration": 0.5, "channel": 0, "type": "MonoCut"}
    return {**given, "supervisions": list(supervisions), "recording": recording or _recording(), **more}


def lhotse_cuts(folder: Path) -> Path:
    """A cut with all that it may say, one of two channels, a padded one, one seen twice, one that can't be read."""
    clip(folder / "a.wav", 1.0)
    said = _supervision(
        start=0.1, speaker="spk", gender="F", custom={"translated_text": {"fra": "salut", "de": "Hallo"}}
    )
    padded = {
        "id": "p",
        "type": "MixedCut",
        "tracks": [
            {"type": "MonoCut", "cut": _cut(None, (_supervision(id="t"),))},
            {"type": "PaddingCut", "cut": {"id": "pad", "duration": 1.0}, "offset": 0.5},
        ],
    }
    channels = _recording(channels=(0, 1))
    return jsonl(
        folder / "corpus_cuts_dev.jsonl.gz",
        _cut(supervisions=(said,)),
        _cut(channels, (_supervision(id="m", channel=[0, 1]),), id="m", type="MultiCut", channel=[0, 1]),
        padded,
        _cut(id="c1", start=0.0, supervisions=(_supervision(id="w", start=0.4),)),
        _cut(id="c2", start=0.5, supervisions=(_supervision(id="w", start=-0.1),)),
        _cut(channels, (_supervision(id="one"),), id="o", channel=1),
    )


def lhotse_recordings(folder: Path) -> Path:
    clip(folder / "root" / "a.wav", 1.0)
    jsonl(folder / "root" / "x_recordings_train.jsonl.gz", _recording(), _recording(id="alone"))
    lost = _supervision(id="t", recording_id="nowhere")
    jsonl(folder / "root" / "x_supervisions_train.jsonl.gz", _supervision(start=0.1), lost)
    return folder / "root"


def lhotse_memory(folder: Path) -> Path:
    data = base64.b64encode(clip(folder / "a.wav", 1.0).read_bytes()).decode()
    return jsonl(folder / "cuts.jsonl", _cut(_recording(data, "memory", id="../r"), (_supervision(),)))


def lhotse_bare(folder: Path) -> Path:
    clip(folder / "a.wav", 1.0)
    return jsonl(folder / "r.jsonl", _recording())


def nemo(folder: Path) -> Path:
    for name in ("a.wav", "b.wav", "sub/c.wav", "d.wav"):
        clip(folder / name)
    shared = {"audio_filepath": "d.wav", "duration": 0.2, "source_lang": "en", "pnc": "yes"}
    return jsonl(
        folder / "m.json",
        {"audio_filepath": "a.wav", "duration": None, "text": "NA", "lang": "en"},
        {"audio_filepath": "b.wav", "duration": 0.1, "offset": 0.05, "text": 'He said "no', "lang": "fr-FR"},
        {"audio_filepath": str(folder / "sub" / "c.wav"), "duration": 0.2, "offset": None, "text": "", "lang": "en"},
        {**shared, "target_lang": "en", "text": "Hello", "taskname": "asr"},
        {**shared, "target_lang": "de", "text": "Hallo", "taskname": "ast"},
        {**shared, "target_lang": "fr", "text": "Hello", "answer": "Bonjour", "taskname": "ast"},
        {"audio_filepath": "gone.wav", "lang": "en"},
    )


# ---------------------------------------------------------------- tables of one's own


def table(folder: Path, text: str | bytes, name: str = "t.csv") -> Path:
    for wav in ("a.wav", "b.wav", "sub/c.wav"):
        clip(folder / wav)
    return put(folder / name, text)


EVERY_COLUMN = (
    "id,audio,text,language,translation_fr,translation_zh-CN,meaning,speaker,gender,split,start,duration\n"
    'x,sub/c.wav,"Hello, ""you""",en_us,Bonjour,你好,greeting,s1,FEMALE,dev,0.05,0.1\n'
    "y,a.wav,NA,en_us,,,other,,,train,,\n"
    "z,b.wav,Salut,fr,,你好,greeting,s2,male,validation,,\n"
)
TSV = 'path\tlang\tsentence\ttranslation_en\na.wav\tfr\t"Il dit\tHe says\nb.wav\tfr\tnull\n'
ROWS = [
    {"id": "j", "audio": "a.wav", "language": "en", "text": "None", "translations": {"fr": "Rien"}},
    {"id": "h", "audio": {"path": "b.wav", "bytes": None}, "language": "en", "speaker": None},
]
JSON_LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
STRETCHES = "audio;language;text;start;end\na.wav;en;one, two;0;0.1\na.wav;en;three;0.1;0.2\n"
NAMED_OTHERWISE = "clip,said,english,who\na.wav,Bonjour,Hello,7\n"
PAIRS = {
    "pairs-languages-behind": ("audio_en,audio_fr,text_en,text_fr\n", "a.wav,b.wav,Hello,Bonjour\n"),
    "pairs-languages-before": ("en_audio,fr_audio,en_text,fr_text\n", "a.wav,b.wav,Hello,Bonjour\n"),
    "pairs-numbered": (
        "audio_1,audio_2,text_1,text_2,language_1,language_2\n",
        "a.wav,b.wav,Hello,Bonjour,en,fr\nsub/c.wav,gone.wav,NA,S.O.,en,fr\n",
    ),
}


def pairs(folder: Path, name: str) -> Path:
    return table(folder, "".join(PAIRS[name]), "pairs.csv")
