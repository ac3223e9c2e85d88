"""How fast corpora are read, and in how much memory: 100,000 synthetic rows, and recordings inside archives.

Each reading runs in a process of its own, so that the memory it adds is seen. The yardstick is Python's own reading of the
same file's lines. Recordings: 2,000 WAV files of real prompts in a folder, tar, tar.gz, zip and parquet file, read in order
and at random. Writes docs/corpora.md, in a few minutes.
"""

import datetime
import json
import multiprocessing
import random
import tarfile
import tempfile
import time
import wave
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from interlingua.audio import load_audio
from interlingua.audio.archives import row_member
from interlingua.corpora import prepare_prompts, read_any
from interlingua.corpora.base import read_corpus
from interlingua.corpora.prepare import prepare_manifest
from interlingua.files import write_text
from interlingua.results import Provenance, provenance
from interlingua.types import SAMPLE_RATE, AudioRef

ROWS = 100_000
CLIPS = 2000
TABLES = {  # corpus -> what is read
    "fleurs": "one tsv, recordings unpacked",
    "covost": "a table of translations joined with `validated.tsv`",
    "common-voice": "one tsv, with its clips' durations",
    "plain": "a CSV",
    "pairs": "a CSV of two recordings a row: half the rows",
    "manifest": "a manifest of ours; its recordings aren't looked for",
    "nemo": "a NeMo manifest",
    "lhotse": "cuts of Lhotse's, one supervision each",
    "prepare": "a CSV written as a manifest by `corpus prepare`",
}
OWN = {
    "prepare": "all.csv",
    "plain": "all.csv",
    "pairs": "all.csv",
    "manifest": "all.jsonl",
    "nemo": "all.json",
    "lhotse": "cuts.jsonl",
}
PAGE = Path(__file__).resolve().parent.parent / "docs" / "corpora.md"


def main() -> None:
    """Measure and write the page."""
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    with tempfile.TemporaryDirectory() as work:
        tables = [measure_table(Path(work), name) for name in TABLES]
        archives = measure_archives(Path(work) / "clips")
    made = provenance("float32", "cpu", time.monotonic() - clock, started)
    write_text(PAGE, page(tables, archives, made))


# --- tables ----------------------------------------------------------------------------------------------


def measure_table(root: Path, name: str) -> dict[str, Any]:
    """Time and memory of corpora of a tenth of ROWS rows and of all, and those of the latter's lines alone."""
    few, every = root / f"{name}-few", root / name
    lay_out(few, name, ROWS // 10)
    lay_out(every, name, ROWS)
    tables = [p for p in sorted(every.rglob("*")) if p.suffix in (".tsv", ".csv", ".json", ".jsonl")]
    row = {
        "name": name,
        "lines": in_a_process(lines, tables),
        "few": in_a_process(rows, name, few),
        "all": in_a_process(rows, name, every),
    }
    print(row, flush=True)
    return row


def lay_out(root: Path, name: str, n_rows: int) -> None:
    """Tables of so many rows in the corpus's layout; the recordings are empty, for they aren't read."""
    sentence = "The cat, which had been asleep on the roof since the morning, sat up and looked at number {}."
    numbers = range(n_rows)
    clips = "clips" if name in OWN else {"fleurs": "data/en_us/audio/train"}.get(name, "en/clips")
    ending = "wav" if name == "fleurs" or name in OWN else "mp3"
    (root / clips).mkdir(parents=True)
    for n in numbers:
        (root / clips / f"{n}.{ending}").touch()

    def write(path: str, header: str, row: Callable[[int], str]) -> None:
        text = (f"{header}\n" if header else "") + "".join(f"{row(n)}\n" for n in numbers)
        (root / path).write_text(text, encoding="utf-8")

    def said(n: int) -> str:
        return sentence.format(n)

    if name == "fleurs":
        write(
            "data/en_us/train.tsv",
            "",
            lambda n: "\t".join(
                [str(n // 3), f"{n}.wav", said(n), said(n).lower(), "|".join(said(n)), "51200", "MALE"]
            ),
        )
    elif name in ("plain", "prepare"):
        write("all.csv", "path,text,language,duration", lambda n: f'clips/{n}.wav,"{said(n)}",en,3.2')
    elif name == "pairs":
        numbers = range(0, n_rows, 2)
        write(
            "all.csv",
            "audio_en,audio_fr,text_en,text_fr",
            lambda n: f'clips/{n}.wav,clips/{n + 1}.wav,"{said(n)}","{said(n)}"',
        )
    elif name in OWN:
        write(OWN[name], "", lambda n: json.dumps(json_row(name, n, said(n))))
    else:
        table = "validated.tsv" if name == "covost" else "train.tsv"
        header = "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccent"
        write(f"en/{table}", header, lambda n: f"{n % 997:064x}\t{n}.mp3\t{said(n)}\t2\t0\t\tmale\t")
    if name == "covost":
        write("en/covost_v2.en_de.tsv", "path\ttranslation\tsplit", lambda n: f"{n}.mp3\t{said(n)}\ttrain")
    if name == "common-voice":
        write("en/clip_durations.tsv", "clip\tduration[ms]", lambda n: f"{n}.mp3\t3200")


def json_row(name: str, n: int, text: str) -> dict[str, Any]:
    """One line of a manifest of ours, NeMo's or Lhotse's."""
    path = f"clips/{n}.wav"
    if name == "manifest":
        return {"id": str(n), "audio": {"path": path}, "language": "en", "text": text, "duration": 3.2}
    if name == "nemo":
        return {"audio_filepath": path, "duration": 3.2, "text": text, "source_lang": "en", "target_lang": "en"}
    source = {"type": "file", "channels": [0], "source": path}
    recording = {"id": str(n), "sources": [source], "sampling_rate": 16000, "num_samples": 51200, "duration": 3.2}
    said = {"id": f"s{n}", "recording_id": str(n), "start": 0, "duration": 3.2, "text": text, "language": "en"}
    cut = {"id": f"c{n}", "start": 0, "duration": 3.2, "channel": 0, "type": "MonoCut"}
    return {**cut, "supervisions": [said], "recording": recording}


def rows(name: str, root: Path) -> int:
    """Read a corpus, or write its manifest."""
    path = root / OWN[name] if name in OWN else root
    if name == "prepare":
        return prepare_manifest(lambda _: read_corpus("plain", path), root / "manifest.jsonl").utterances
    return sum(1 for _ in (read_any(path) if name == "manifest" else read_corpus(name, path)))


def lines(paths: list[Path]) -> int:
    """Read files' lines as text, split at tabs."""
    count = 0
    for path in paths:
        with path.open(encoding="utf-8") as file:
            count += sum(bool(line.split("\t")) for line in file)
    return count


def in_a_process(function: Callable[..., int], *arguments: Any) -> dict[str, float]:
    """Seconds of CPU and the megabytes that it adds."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (function, *arguments))


def _measured(function: Callable[..., int], *arguments: Any) -> dict[str, float]:
    import pyarrow.parquet  # noqa: F401  # what readers import isn't their rows' memory

    before = peak()
    start = time.process_time()
    count = function(*arguments)
    seconds = time.process_time() - start
    return {"rows": count, "s": seconds, "MB": peak() - before}


def peak() -> float:
    """The most memory that this process has held, MB; getrusage counts the process that started it, too."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return float(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024


# --- archives --------------------------------------------------------------------------------------------


def measure_archives(folder: Path) -> list[dict[str, Any]]:
    """CPU time of decoding CLIPS recordings, in order and at random, from each kind of archive."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    (folder / "clips").mkdir(parents=True)
    utterances = prepare_prompts()
    names = [f"clips/{n}.wav" for n in range(CLIPS)]
    for n, name in enumerate(names):
        with wave.open(str(folder / name), "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(SAMPLE_RATE)
            out.writeframes((load_audio(utterances[n % len(utterances)].audio) * 32767).astype("<i2").tobytes())
    modes: dict[str, Literal["w", "w:gz"]] = {"tar": "w", "tar.gz": "w:gz"}
    for kind, mode in modes.items():
        with tarfile.open(folder / f"a.{kind}", mode) as tar:
            for name in names:
                tar.add(folder / name, name)
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in names:
            packed.write(folder / name, name)
    table = pa.table({"audio": [{"bytes": (folder / name).read_bytes(), "path": name} for name in names]})
    pq.write_table(table, folder / "a.parquet", row_group_size=100)
    found = []
    for kind in ("folder", "tar", "zip", "parquet", "tar.gz"):
        if kind == "folder":
            refs = [AudioRef(str(folder / name)) for name in names]
        else:
            members = [row_member(n) for n in range(CLIPS)] if kind == "parquet" else names
            refs = [AudioRef(str(folder / f"a.{kind}"), member=member) for member in members]
        shuffled = random.Random(0).sample(refs, len(refs))
        few = shuffled[: CLIPS // 10] if kind == "parquet" else shuffled
        row = {"kind": kind, "order": in_a_process(decode, refs), "random": in_a_process(decode, few)}
        print(row, flush=True)
        found.append(row)
    return found


def decode(refs: list[AudioRef]) -> int:
    """Decode recordings."""
    return sum(len(load_audio(ref)) > 0 for ref in refs)


# --- the page --------------------------------------------------------------------------------------------


def page(tables: list[dict[str, Any]], archives: list[dict[str, Any]], made: Provenance) -> str:
    """docs/corpora.md."""
    plain = next(row for row in archives if row["kind"] == "folder")

    def each(measured: dict[str, float]) -> float:
        return 1000 * measured["s"] / measured["rows"]

    lines_of_tables = [
        f"| `{r['name']}` | {TABLES[r['name']]} | {r['all']['s']:.1f} | {r['lines']['s']:.1f} | "
        f"{r['all']['s'] / r['lines']['s']:.1f}x | {r['few']['MB']:.0f} | {r['all']['MB']:.0f} |"
        for r in tables
    ]
    lines_of_archives = [
        f"| {r['kind']} | {each(r['order']):.1f} | {each(r['order']) / each(plain['order']):.1f}x | "
        f"{each(r['random']):.1f} | {each(r['random']) / each(plain['order']):.1f}x | {r['order']['MB']:.0f} |"
        for r in archives
    ]
    return f"""# How fast corpora are read

Written by `make bench-corpora` (`benchmarks/corpora.py`), not by hand: {str(made.started)[:10]}, {made.device["name"]},
Python {made.python}. Seconds are the process's own (CPU time): the machine had other work.

## {ROWS:,} rows

Synthetic tables in the layout of the originals; every row's recording is looked for on the disk, none is opened. With it,
what Python takes to read the same files' lines and split them, nothing else. Memory is what the process grew by over a corpus
of {ROWS // 10:,} rows and over one of {ROWS:,}.

| corpus | what is read | s | lines alone, s | ratio | MB, {ROWS // 10:,} rows | MB, {ROWS:,} rows |
| --- | --- | --- | --- | --- | --- | --- |
{chr(10).join(lines_of_tables)}

CoVoST's translations and Common Voice's durations lie in files of their own, in another order: they are held in memory, one language at
a time. Tables and manifests of one's own remember their ids. Tests hold the bounds (`tests/corpora`).

Not constant, and not measured here: FLEURS from a tar.gz (a split's rows, to read them in the archive's order) and its translations (a sentence
each), MaSS (all texts), Europarl-ST and MuST-C with several targets (a split's segments), VoxPopuli (a source's ids and texts), SpeechMatrix
(recordings that stand in a pair), Lhotse's recordings apart from supervisions. `corpus prepare` remembers ids and meanings, too.

## Recordings inside archives

{CLIPS:,} recordings of the prompts corpus, {plain["order"]["s"]:.0f} s to decode from a folder; milliseconds each, the making of the index included.

| where | in order, ms | ratio | at random, ms | ratio | MB |
| --- | --- | --- | --- | --- | --- |
{chr(10).join(lines_of_archives)}

A parquet file is read by row groups (100 rows here), of which one is held: at random (a tenth of the recordings here) each recording costs its
group. A tar.gz is decompressed from its start, once for the index and once for its recordings; at random from the nearest of the states
that are kept every 8 MB.
"""


if __name__ == "__main__":
    main()
