"""Corpora in the exact layout of their originals, from any utterances with audio: FLEURS, Common Voice, CoVoST 2, MaSS.

Every function takes utterances (their recordings are decoded and written anew) and the folder to fill, which is ROOT of
`interlingua corpus prepare`. What a corpus can't say (MaSS: a speaker) is lost; meanings become the corpus's own keys.
"""

import gzip
import io
import json
import tarfile
import tracemalloc
import wave
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np

from helpers import sweep, write_wav
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
    import pyarrow as pa
    import pyarrow.parquet as pq

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
