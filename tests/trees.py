"""Corpora in the exact layout of their originals, small; golden results and the tests of readers use the same.

FLEURS, Common Voice, CoVoST 2 and MaSS are made from any utterances with audio, the others have fixed content.

Every function takes utterances (their recordings are decoded and written anew) and the folder to fill, which is ROOT of
`interlingua corpus prepare`. What a corpus can't say (MaSS: a speaker) is lost; meanings become the corpus's own keys.
"""

import base64
import gzip
import io
import json
import shutil
import tarfile
import tracemalloc
import wave
import zipfile
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from helpers import sweep, utterance, write_wav
from interlingua.audio import load_audio
from interlingua.cli import run
from interlingua.corpora.base import read_corpus
from interlingua.corpora.fleurs import fleurs_code
from interlingua.corpora.mass import BOOKS, VERSIONS
from interlingua.languages import language_name
from interlingua.types import SAMPLE_RATE, Samples, Utterance

MASS_VERSIONS = {language: version for version, language in VERSIONS.items()}
_SPANISH_NAMES, _FRENCH_NAMES = ("es", "eu"), ("fr",)
_CATHOLIC = range(19, 26)  # James to Jude, which Russian puts behind Acts
COMMON_VOICE_HEADERS = {
    4: "client_id path sentence up_votes down_votes age gender accent",
    11: "client_id path sentence up_votes down_votes age gender accents locale segment",
    17: "client_id path sentence_id sentence sentence_domain up_votes down_votes age gender accents variant locale "
    "segment",
}


TEXTS = {
    ("en", "cat"): 'He said: "The cat, sat.',  # the quote is never closed
    ("en", "na"): "NA",
    ("en", "null"): "null",
    ("fr", "cat"): "Il a dit : « Le chat s'est assis. »",
    ("fr", "na"): "N'importe quoi.",
    ("ru", "cat"): "Он сказал: кот сел.",
}


def read(name, root, **options):
    """(utterances, log)"""
    log: list[str] = []
    return list(read_corpus(name, root, log=log.append, **options)), log


def command(capsys, *arguments):
    """(exit code, stdout, stderr) of ``interlingua corpus``."""
    code = run(["corpus", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def clip(path: Path, seconds: float = 0.2) -> Path:
    return write_wav(path, sweep(seconds, pitch=300))


def jsonl(path: Path, *rows: dict) -> Path:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return put(path, gzip.compress(text.encode()) if path.suffix == ".gz" else text)


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


# ---------------------------------------------------------------- audio


def wav_bytes(samples: Samples, *, floats: bool = False) -> bytes:
    """A WAV file at 16 kHz: 16-bit, or 32-bit float as FLEURS has it."""
    file = io.BytesIO()
    if floats:
        with av.open(file, "w", format="wav") as out:
            _encode(out, "pcm_f32le", SAMPLE_RATE, samples)
        return file.getvalue()
    with wave.open(file, "wb") as plain:
        plain.setnchannels(1)
        plain.setsampwidth(2)
        plain.setframerate(SAMPLE_RATE)
        plain.writeframes((np.clip(samples, -1, 1) * 32767).round().astype("<i2").tobytes())
    return file.getvalue()


def mp3_bytes(samples: Samples) -> bytes:
    """An MP3 file at 16 kHz, as Common Voice's clips are MP3 files."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as out:
        _encode(out, "libmp3lame", SAMPLE_RATE, samples)
    return file.getvalue()


def _encode(out, codec: str, rate: int, samples: Samples) -> None:
    stream = out.add_stream(codec, rate=rate, layout="mono")
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None], np.float32), "fltp", "mono")
    frame.sample_rate, frame.pts = rate, 0
    fit = av.AudioResampler(stream.format, "mono", rate, frame_size=stream.codec_context.frame_size or None)
    for piece in [*fit.resample(frame), *fit.resample(None)]:
        if piece is not None:
            out.mux(stream.encode(piece))
    out.mux(stream.encode(None))


def pack(archive: Path, files: dict[str, bytes]) -> Path:
    """A tar or, by its name, a tar.gz of files."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz" if archive.name.endswith("gz") else "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return archive


def _numbers(utterances: Sequence[Utterance]) -> dict[str, int]:
    """Meaning -> a number, the same for every language."""
    return {meaning: n for n, meaning in enumerate(sorted({u.meaning or u.id for u in utterances}), start=1)}


def _tsv(path: Path, rows: Sequence[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows), encoding="utf-8", newline="")


# ---------------------------------------------------------------- FLEURS


def fleurs_tree(
    root: Path, utterances: Sequence[Utterance], *, layout: str = "tar.gz", split: str = "test", floats: bool = False
) -> Path:
    """FLEURS as ``tar.gz`` (the original), ``tar``, ``unpacked`` or ``parquet``; utterances without a split get one.

    Utterances of one language and meaning are recordings of one sentence, as in the original.
    """
    numbers = _numbers(utterances)
    parts: dict[tuple[str, str], list[tuple[Utterance, str, Samples]]] = {}
    for n, u in enumerate(utterances):
        key = (fleurs_code(u.language), u.split or split)
        parts.setdefault(key, []).append((u, f"{10_000_000 + 7919 * n}.wav", load_audio(u.audio)))
    for (code, part), members in parts.items():
        audio = {name: wav_bytes(samples, floats=floats) for _, name, samples in members}
        if layout == "parquet":
            _fleurs_parquet(
                root / code / {"dev": "validation"}.get(part, part) / "0000.parquet", members, audio, numbers
            )
            continue
        folder = root / "data" / code
        _tsv(folder / f"{part}.tsv", [_fleurs_row(u, name, samples, numbers) for u, name, samples in members])
        if layout == "unpacked":
            for name, data in audio.items():
                (folder / "audio" / part).mkdir(parents=True, exist_ok=True)
                (folder / "audio" / part / name).write_bytes(data)
        else:
            pack(folder / "audio" / f"{part}.{layout}", {f"{part}/{name}": data for name, data in audio.items()})
    return root


def _fleurs_row(u: Utterance, name: str, samples: Samples, numbers: dict[str, int]) -> list[object]:
    raw = u.text or ""
    plain = " ".join("".join(c for c in raw.lower() if c.isalnum() or c in " '").split())
    characters = " ".join(plain.replace(" ", "|")) + " |"
    return [numbers[u.meaning or u.id], name, raw, plain, characters, len(samples), (u.gender or "OTHER").upper()]


def _fleurs_parquet(path, members, audio: dict[str, bytes], numbers: dict[str, int]) -> None:
    rows = [_fleurs_row(u, name, samples, numbers) for u, name, samples in members]
    genders = {"MALE": 0, "FEMALE": 1, "OTHER": 2}
    table = pa.table(
        {
            "id": pa.array([row[0] for row in rows], pa.int32()),
            "num_samples": pa.array([row[5] for row in rows], pa.int32()),
            "path": [f"/root/.cache/downloads/extracted/0/{row[1]}" for row in rows],
            "audio": [{"bytes": audio[row[1]], "path": f"test/{row[1]}"} for row in rows],
            "transcription": [row[3] for row in rows],
            "raw_transcription": [row[2] for row in rows],
            "gender": pa.array([genders[row[6]] for row in rows], pa.int64()),
            "lang_id": pa.array([0] * len(rows), pa.int64()),
            "language": [language_name(u.language) for u, _, _ in members],
            "lang_group_id": pa.array([0] * len(rows), pa.int64()),
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=2)


# ---------------------------------------------------------------- Common Voice and CoVoST 2


def common_voice_tree(
    root: Path, utterances: Sequence[Utterance], *, release: int = 4, split: str = "train", durations: bool = False
) -> Path:
    """A Common Voice release below ``root/<locale>``: validated.tsv, a table a split, and MP3 clips."""
    header = COMMON_VOICE_HEADERS[release].split()
    tables: dict[tuple[str, str], list[list[str]]] = {}
    seconds: dict[str, list[list[object]]] = {}
    for n, u in enumerate(utterances):
        name, samples = f"common_voice_{u.language}_{1000 + n}.mp3", load_audio(u.audio)
        place = root / u.language / "clips" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(mp3_bytes(samples))
        said = {
            "client_id": u.speaker or "",
            "path": name,
            "sentence": u.text or "",
            "sentence_id": f"s{u.meaning}",
            "up_votes": "2",
            "down_votes": "0",
            "gender": u.gender or "",
            "locale": u.language,
        }
        row = [said.get(column, "") for column in header]
        for table in (u.split or split, "validated"):
            tables.setdefault((u.language, table), [header]).append(row)
        seconds.setdefault(u.language, [["clip", "duration[ms]"]]).append([name, 1000 * len(samples) // SAMPLE_RATE])
    for (locale, table), rows in tables.items():
        _tsv(root / locale / f"{table}.tsv", rows)
    for locale, clips in seconds.items() if durations else ():
        _tsv(root / locale / "clip_durations.tsv", clips)
    return root


def covost_tree(root: Path, utterances: Sequence[Utterance], *, prepared: bool = False, split: str = "train") -> Path:
    """CoVoST 2 on a Common Voice 4 tree: a table for each target that an utterance has a translation into."""
    common_voice_tree(root, utterances, split=split)
    tables: dict[Path, list[list[str]]] = {}
    for n, u in enumerate(utterances):
        name, part = f"common_voice_{u.language}_{1000 + n}.mp3", u.split or split
        for target, text in u.translations.items():
            pair = f"covost_v2.{u.language}_{target}"
            if prepared:
                rows = tables.setdefault(
                    root / u.language / f"{pair}.{part}.tsv", [["path", "sentence", "translation", "client_id"]]
                )
                rows.append([name, u.text or "", text, u.speaker or ""])
            else:
                rows = tables.setdefault(root / u.language / f"{pair}.tsv", [["path", "translation", "split"]])
                rows.append([name, text, part])
    for path, rows in tables.items():
        _tsv(path, rows)
    return root


# ---------------------------------------------------------------- MaSS


def mass_stem(language: str, book: int, chapter: int, verse: int) -> str:
    """A verse's file name without its ending; ``book`` is its place in English, from 0.

    >>> mass_stem("es", 19, 1, 5), mass_stem("ru", 19, 1, 5)
    ('B20___01_Santiago____SPNBDAN1DA_verse_5', 'B06___01_James_______RUSS76N2DA_verse_5')
    """
    names = BOOKS[book].split()
    name = names[1] if language in _SPANISH_NAMES else names[2] if language in _FRENCH_NAMES else names[0]
    order = list(range(27))
    if language in ("ru", "fi"):
        order = [*order[:5], *_CATHOLIC, *(b for b in order[5:] if b not in _CATHOLIC)]
    return f"B{order.index(book) + 1:02}___{chapter:02}_{name.ljust(12, '_')}{MASS_VERSIONS[language]}_verse_{verse}"


def mass_tree(root: Path, utterances: Sequence[Utterance], *, one_channel: bool = True) -> Path:
    """MaSS with each meaning as a verse, dealt out over all 27 books; each chapter has its title (verse 0)."""
    numbers = _numbers(utterances)
    for u in utterances:
        verse, book = divmod(numbers[u.meaning or u.id] - 1, 27)
        folder = root / "dataset" / language_name(u.language).lower()
        for place in ("txt", "wav"):
            (folder / place).mkdir(parents=True, exist_ok=True)
        samples = load_audio(u.audio)
        for number, text, said in ((verse + 1, u.text or "", samples), (0, "Chapter 1", samples[: SAMPLE_RATE // 2])):
            stem = mass_stem(u.language, book, 1, number)
            (folder / "txt" / f"{stem}.txt").write_text(text + "\n", encoding="utf-8")
            ending = "_one_channel.wav" if one_channel else ".wav"
            (folder / "wav" / f"{stem}{ending}").write_bytes(wav_bytes(said))
    return root


def mass_table(root: Path, utterances: Sequence[Utterance]) -> Path:
    """What MaSS's scripts leave: ``data/<language>_corpus/{txt,wav}``, and the table of what there is."""
    mass_tree(root, utterances)
    verses: dict[str, dict[str, str]] = {}
    for u in read("mass", root, titles=True)[0]:
        name = u.meaning.replace(" ", "_").replace(":", "_verse_")
        verses.setdefault(name, {})[language_name(u.language).lower()] = u.id.partition("/")[2]
    languages = sorted({language for row in verses.values() for language in row})
    for language in languages:
        (root / "data").mkdir(exist_ok=True)
        shutil.move(root / "dataset" / language, root / "data" / f"{language}_corpus")
    rows = [["ID", "Label", *languages], ["", "Path", *(f"./data/{name}_corpus/wav/" for name in languages)]]
    rows += [["", "Available", *("9" for _ in languages), "Intersection"]]
    rows += [["", "Missing", *("0" for _ in languages), "2"]]
    for n, (name, row) in enumerate(sorted(verses.items())):
        rows.append([str(n), name, *(row.get(language, "Not Available") for language in languages)])
    text = "".join(",".join(row) + "\n" for row in rows)
    return put(root / "data" / "recap_verses-anName-True.csv", text)


# ---------------------------------------------------------------- speeches and talks


def europarl_part(root: Path, *, split="test", target="fr", texts=("Hello.", "NA"), **files: str | None) -> Path:
    """A split of a target; ``files`` are other contents, or None for no file."""
    clip(root / "en" / "audios" / "en.20080901.1.m4a", 3.0)
    defaults = {
        "segments.lst": "en.20080901.1 0.0 1.5\nen.20080901.1 1.50 2.75\n",
        "segments.en": 'He said "no.\nNA\n',
        f"segments.{target}": "\n".join(texts) + "\n",
        "speeches.lst": "en.20080901.1\nen.20080901.2\n",
        "speakers.lst": "Some_Member_28112\nOther_Member_4\n",
    }
    for name, text in (defaults | files).items():
        if text is not None:
            put(root / "en" / target / split / name, text)
    return root


def europarl(root: Path) -> Path:
    for target, texts in (("fr", ("Il a dit « non ».", "S.O.")), ("de", ("Er sagte nein.", ""))):
        for split in ("test", "train-noisy"):
            europarl_part(root, split=split, target=target, texts=texts)
    return root


def mustc_part(root: Path, target="de", split="tst-COMMON", texts=("Hallo.", "NA"), yaml="", wav="ted_767.wav") -> Path:
    place = root / f"en-{target}" / "data" / split
    clip(place / "wav" / "ted_767.wav", 3.0)
    segments = "".join(
        f"- {{duration: {seconds}, offset: {offset}, rW: 9, uW: 0, speaker_id: spk.767, wav: {wav}}}\n"
        for seconds, offset in (("1.5", "0.25"), ("1.0", "1e-05"))
    )
    put(place / "txt" / f"{split}.yaml", yaml or segments)
    put(place / "txt" / f"{split}.en", 'He said "hello.\nNA\n')
    put(place / "txt" / f"{split}.{target}", "\n".join(texts) + "\n")
    return root


def mustc(root: Path) -> Path:
    mustc_part(root)
    mustc_part(root, split="dev", texts=("Guten Tag.", "null"))
    return mustc_part(root, "fr", texts=("Bonjour.", ""))


def mboshi(root: Path) -> Path:
    for split, name in (("train", "abiayi_1"), ("dev", "kouarata_2"), ("dev", "kouarata_3")):
        place = root / "full_corpus_newsplit" / split
        put(place / f"{name}.fr", "Il  dort\n")
        put(place / f"{name}.mb", "Wa ámitúúngá\n")
        if name != "kouarata_3":
            clip(place / f"{name}.wav", 1.0)
    return root


def gcompris(root: Path) -> Path:
    for name in ("money", "money_cents", "2clic"):
        clip(root / "ca" / "intro" / f"{name}.ogg")
    put(root / "ca" / "intro" / "README", "money.oog   Antoni Bella Pérez 2015 / GPL\nnote: x\n")
    clip(root / "en" / "intro" / "money.ogg")
    return root


def voxpopuli(root: Path) -> Path:
    session = "20131007-0900-PLENARY-19"
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


PAIRS_MINED = ((1.12, "lt1", "sl2"), (1.10, "lt2", "sl0"), (1.01, "lt0", "sl1"), (1.09, "lt1", "sl1"))


def speechmatrix(root: Path, rows=PAIRS_MINED, *, compressed: bool = False) -> Path:
    """Pairs that name a recording by its place in a zip: lt0 to lt2, sl0 to sl2, or any other cell."""
    cells: dict[str, str] = {}
    (root / "audios").mkdir(parents=True)
    for code in ("lt", "sl"):
        path = root / "audios" / f"{code}_aud.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
            for n in range(3):
                archive.write(clip(root.parent / "clips" / f"{code}{n}.ogg", 0.2 + 0.1 * n), f"{code}_{n}_10_20.ogg")
        with zipfile.ZipFile(path) as archive:
            for n, info in enumerate(archive.infolist()):
                start = info.header_offset + 30 + len(info.filename)
                cells[f"{code}{n}"] = f"{path.name}:{start}:{info.compress_size}"
    lines = "".join(f"{score}\t{cells.get(a, a)}\t{cells.get(b, b)}\n" for score, a, b in rows)
    put(root / "aligned_speech" / "lt-sl.tsv.gz", gzip.compress(f"score\tlt_audio\tsl_audio\n{lines}".encode()))
    return root


# ---------------------------------------------------------------- Hugging Face


def audio_folder(root: Path) -> Path:
    for name in ("train/a.wav", "train/b.wav", "test/a.wav"):
        clip(root / name)
    rows = 'a.wav,NA,en\nb.wav,"Yes, no",en\ngone.wav,x,en\n'
    put(root / "train" / "metadata.csv", f"file_name,transcription,lang\n{rows}")
    put(root / "test" / "metadata.csv", "file_name,transcription,lang\na.wav,null,fr\n")
    return root


def audio_folder_of_pairs(root: Path) -> Path:
    for name in ("en/1.wav", "fr/1.wav"):
        clip(root / name)
    row = {"en_file_name": "en/1.wav", "fr_file_name": "fr/1.wav", "en_text": "NA", "fr_text": "S.O."}
    jsonl(root / "metadata.jsonl", row)
    return root


def audio_without_texts(root: Path) -> Path:
    clip(root / "train" / "a.wav")
    return root


def shard(path: Path, columns: dict, features: dict) -> None:
    """A parquet file as `datasets` writes it: audio as bytes and path, features in the schema's metadata."""
    audio = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    arrays = {
        name: pa.array(cells, audio) if isinstance(cells[0], dict) else pa.array(cells)
        for name, cells in columns.items()
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(arrays).replace_schema_metadata(metadata), path, row_group_size=2)


def parquet(root: Path) -> Path:
    """As the hub has FLEURS: `id` is the sentence, genders are numbers, one row has no audio."""
    data = clip(root.parent / "x.wav").read_bytes()
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
    shard(root / "data" / "validation-00000-of-00001.parquet", columns, features)
    return root


def parquet_of_pairs(root: Path) -> Path:
    cell = [{"bytes": clip(root.parent / "x.wav").read_bytes(), "path": None}]
    features = {name: {"_type": "Audio"} for name in ("source", "target")}
    shard(root / "train.parquet", {"source": cell, "target": cell}, features)
    return root


def saved_data_set(root: Path) -> Path:
    data = clip(root.parent / "x.wav").read_bytes()
    audio = pa.array([{"bytes": data, "path": "x.wav"}], pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    saved = pa.table({"audio": audio, "text": ["NA"], "language": ["en"]})
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}
    put(root / "train" / "state.json", json.dumps(state))
    with (
        pa.OSFile(str(root / "train" / "data-00000-of-00001.arrow"), "wb") as out,
        pa.ipc.new_stream(out, saved.schema) as stream,
    ):
        stream.write_table(saved)
    return root


# ---------------------------------------------------------------- Lhotse and NeMo


def lhotse_recording(source: str = "a.wav", kind: str = "file", channels: tuple[int, ...] = (0,), **more) -> dict:
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
    given = {"id": "s", "recording_id": "r", "start": 0.0, "duration": 0.3, "channel": 0, "text": "hi"}
    return {**given, "language": "en", **more}


def lhotse_cut(recording: dict | None = None, supervisions: tuple[dict, ...] = (), **more) -> dict:
    given = {"id": "c", "start": 0.5, "duration": 0.5, "channel": 0, "type": "MonoCut"}
    return {**given, "supervisions": list(supervisions), "recording": recording or lhotse_recording(), **more}


def lhotse_cuts(folder: Path) -> Path:
    """A cut with all that it may say, one of two channels, a padded one, one seen twice, one that can't be read."""
    clip(folder / "a.wav", 1.0)
    said = lhotse_supervision(
        start=0.1, speaker="spk", gender="F", custom={"translated_text": {"fra": "salut", "de": "Hallo"}}
    )
    padded = {
        "id": "p",
        "type": "MixedCut",
        "tracks": [
            {"type": "MonoCut", "cut": lhotse_cut(None, (lhotse_supervision(id="t"),))},
            {"type": "PaddingCut", "cut": {"id": "pad", "duration": 1.0}, "offset": 0.5},
        ],
    }
    channels = lhotse_recording(channels=(0, 1))
    return jsonl(
        folder / "corpus_cuts_dev.jsonl.gz",
        lhotse_cut(supervisions=(said,)),
        lhotse_cut(channels, (lhotse_supervision(id="m", channel=[0, 1]),), id="m", type="MultiCut", channel=[0, 1]),
        padded,
        lhotse_cut(id="c1", start=0.0, supervisions=(lhotse_supervision(id="w", start=0.4),)),
        lhotse_cut(id="c2", start=0.5, supervisions=(lhotse_supervision(id="w", start=-0.1),)),
        lhotse_cut(channels, (lhotse_supervision(id="one"),), id="o", channel=1),
    )


def lhotse_recordings(root: Path) -> Path:
    clip(root / "a.wav", 1.0)
    jsonl(root / "x_recordings_train.jsonl.gz", lhotse_recording(), lhotse_recording(id="alone"))
    lost = lhotse_supervision(id="t", recording_id="nowhere")
    jsonl(root / "x_supervisions_train.jsonl.gz", lhotse_supervision(start=0.1), lost)
    return root


def lhotse_memory(folder: Path) -> Path:
    data = base64.b64encode(clip(folder / "a.wav", 1.0).read_bytes()).decode()
    return jsonl(
        folder / "cuts.jsonl", lhotse_cut(lhotse_recording(data, "memory", id="../r"), (lhotse_supervision(),))
    )


def lhotse_bare(folder: Path) -> Path:
    clip(folder / "a.wav", 1.0)
    return jsonl(folder / "r.jsonl", lhotse_recording())


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
