"""Hugging Face data sets: AudioFolder, parquet shards and saved sets on disk, and any data set of the hub.

Disk is read without the package ``datasets``, which takes ``NA`` in a metadata.csv for a missing value and needs
torchcodec for AudioFolder. From the hub rows are streamed through ``datasets`` without decoding (audio as bytes is
written below ROOT), or the repository's files are downloaded to ROOT and read there. `interlingua.corpora.tables` finds
the columns. Class labels are read by name, not number.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interlingua.audio.archives import row_member
from interlingua.corpora.base import Corpus, Log, Names, Skipped, silent, split_name
from interlingua.corpora.delimited import read_rows
from interlingua.corpora.layout import NO_FILE, clip_path, is_file, write_audio
from interlingua.corpora.recordings import folder_recordings
from interlingua.corpora.tables import Columns, Locate, Rows, parse_columns
from interlingua.errors import CorpusError, FetchError, InterlinguaError, UsageError
from interlingua.fetch import download_folder
from interlingua.files import shown
from interlingua.types import AudioRef, Utterance

FETCH = (
    "--option hub=OWNER/NAME streams it; with --option streaming=no its files come to ROOT first, as `hf download "
    "OWNER/NAME --repo-type dataset --local-dir ROOT` puts them there; ROOT may "
    "hold metadata.{csv,jsonl,parquet} with audio files, parquet files with audio in them, or what `save_to_disk` wrote"
)
_SPLITS = dict.fromkeys(("train", "training"), "train") | dict.fromkeys(("dev", "val", "valid", "validation"), "dev")
_SPLITS |= dict.fromkeys(("test", "testing", "eval", "evaluation"), "test")
_METADATA = ("metadata.csv", "metadata.tsv", "metadata.jsonl", "metadata.parquet")
_AUDIO = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".webm")
_BATCH = 256  # rows at a time


@dataclass(frozen=True)
class _Item:
    """A row: its position (for messages), unique name, split, and the folder that audio paths are relative to."""

    row: Mapping[str, Any]
    where: str
    name: str
    split: str | None
    folder: Path
    prefix: str = ""


def read_huggingface(
    root: Path,
    *,
    languages: Names = None,
    split: str | None = None,
    hub: str | None = None,
    config: str | None = None,
    revision: str | None = None,
    streaming: bool = True,
    columns: Columns | None = None,
    language: Names = None,
    target: str | None = None,
    audio_folder: str | None = None,
    log: Log = silent,
) -> Iterator[Utterance]:
    """Utterances of a data set, row by row; several audio columns are several utterances that share a meaning.

    Args:
        root: the data set's folder; with ``hub`` the folder that receives its audio, created if need be.
        hub: OWNER/NAME of a data set on the hub.
        config: of the data set (on disk: a folder below root).
        revision: on the hub; a data set that has only a script is at ``refs/convert/parquet``.
        streaming: from the hub row by row; no: download its files below root first, checked; existing ones stay.
        columns, language, target: see `read_own_table`; one language for each audio column.
        audio_folder: receives audio that comes as bytes; None: root, for a data set of the hub.
    """
    if hub and not streaming:
        by_hand = f"`hf download {hub} --repo-type dataset --local-dir {root}`, then omit hub"
        wanted = _is_data(split)
        download_folder(hub, root, under=config, wanted=wanted, by_hand=by_hand, log=log, revision=revision or "main")
        hub = None
    out = Path(audio_folder) if audio_folder else root if hub else None
    items = _from_hub(hub, config, revision, split) if hub else _from_disk(root, config, log)
    skipped = Skipped(hub or root.name, log)
    made: dict[tuple[str | None, Path, tuple[str, ...]], Rows] = {}
    ids: dict[str, str] = {}
    count = 0
    for item in items:
        if split is not None and item.split is not None and split != split_name(item.split):
            continue
        key = (item.split, item.folder, tuple(c for c, v in item.row.items() if _is_audio(v)))
        if key not in made:
            made[key] = Rows(
                table=hub or str(root),
                locate=_locate(item.folder, out, hub is None),
                skipped=skipped,
                columns=_with_audio(parse_columns(columns), key[2], item.row),
                language=language,
                target=target,
                languages=languages,
                split=split,
                default_split=item.split,
                prefix=item.prefix,
                ids=ids,
            )
        count += 1
        yield from made[key].utterances(_named(item), item.where, item.name)
    skipped.report()
    if not count:
        raise CorpusError(f"{hub or root}: no rows{f' of the split {split}' if split else ''} are here. {FETCH}")


CORPUS = Corpus(
    name="huggingface",
    title="any Hugging Face data set with audio: a folder of it, or the hub",
    read=read_huggingface,
    licence="the data set's; see its card",
    fetch=FETCH,
    makes_root="hub",
)


# --- on disk ---------------------------------------------------------------------------------------------


def _from_disk(root: Path, config: str | None, log: Log) -> Iterator[_Item]:
    base = root / config if config else root
    if not base.is_dir():
        raise CorpusError(f"{base}: {'a file, not a folder' if base.exists() else 'no such folder'}. {FETCH}")
    tables = sorted(p for name in _METADATA for p in base.rglob(name))
    if tables:
        for table in tables:
            yield from _audio_folder(base, table)
    elif saved := sorted(base.rglob("state.json")):
        for state in saved:
            yield from _saved(base, state)
    elif shards := sorted(base.rglob("*.parquet")):
        for shard in shards:
            yield from _parquet(base, shard)
    else:
        files = folder_recordings(base, log)
        if not files:
            raise CorpusError(f"{base}: no metadata file, parquet file, saved data set or audio file is here. {FETCH}")
        log(f"{base}: no metadata.csv, .jsonl or .parquet is here; audio files are read without texts")
        for path in files:
            name = path.relative_to(base).as_posix()
            if shown(name) != name:
                log(f"{shown(path)}: skipped: its name isn't UTF-8; rename it")
                continue
            yield _Item({"file_name": name}, str(path), name, _split(name), base)


def _audio_folder(base: Path, table: Path) -> Iterator[_Item]:
    folder = table.parent
    inside = table.relative_to(base).as_posix()
    prefix = inside.removesuffix(table.name)
    rows = _plain_parquet(table) if table.suffix == ".parquet" else read_rows(table)
    for number, row in rows:
        first = next((str(v) for c, v in row.items() if v and c.lower().endswith("file_name")), "")
        yield _Item(row, f"{table}:{number}", f"{inside}:{number}", _split(inside) or _split(first), folder, prefix)


@contextmanager
def _readable(path: Path, fix: str) -> Iterator[None]:
    """Turns Arrow's errors inside the block into a CorpusError that names the file."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as e:
        raise CorpusError(f"{path}: can't be read ({' '.join(str(e).split())}); {fix}") from e


def _plain_parquet(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    import pyarrow.parquet as pq

    with _readable(path, "fetch it again"):
        batches = pq.ParquetFile(path).iter_batches(batch_size=_BATCH)
        yield from enumerate(row for batch in batches for row in batch.to_pylist())


def _parquet(base: Path, path: Path) -> Iterator[_Item]:
    """Rows of a shard; audio is loaded only if rows without audio can't be found otherwise."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    inside = path.relative_to(base).as_posix()
    with _readable(path, "fetch it again"):
        file = pq.ParquetFile(path)
        schema, number = file.schema_arrow, 0
        labels = _labels(schema.metadata)
        audio = [f.name for f in schema if pa.types.is_struct(f.type) and {"bytes", "path"} <= {g.name for g in f.type}]
        if not audio:
            raise CorpusError(f"{path}: no column holds audio, only {', '.join(schema.names)[:200]}. {FETCH}")
        rest = [name for name in schema.names if name not in audio]
        for group in range(file.num_row_groups):
            first, lacking = number, {name: _without_bytes(file, group, name) for name in audio}
            columns = [*rest, *(f"{a}.path" for a in audio)]
            for batch in file.iter_batches(batch_size=_BATCH, row_groups=[group], columns=columns):
                for row in batch.to_pylist():
                    cells = {name: _name(row[name], labels.get(name)) for name in rest}
                    for name in audio:
                        cells[name] = (
                            {"path": (row.get(name) or {}).get("path"), "bytes": None}
                            if number - first in lacking[name]
                            else AudioRef(str(path), member=row_member(number, name))
                        )
                    yield _Item(cells, f"{path}, row {number}", f"{inside}/{number}", _split(inside), path.parent)
                    number += 1


def _without_bytes(file: Any, group: int, name: str) -> set[int]:
    """Rows of a group without audio bytes, by the group's statistics where it has them."""
    metadata = file.metadata.row_group(group)
    for n in range(metadata.num_columns):
        column = metadata.column(n)
        if column.path_in_schema == f"{name}.bytes":
            known = column.statistics
            if known is not None and known.has_null_count and known.null_count == 0:
                return set()
    cells = file.read_row_group(group, columns=[f"{name}.bytes"])[name].to_pylist()
    return {n for n, cell in enumerate(cells) if not cell or not cell.get("bytes")}


def _saved(base: Path, state: Path) -> Iterator[_Item]:
    import pyarrow as pa

    folder = state.parent
    inside = folder.relative_to(base).as_posix()
    try:
        names = [file["filename"] for file in json.loads(state.read_text(encoding="utf-8"))["_data_files"]]
    except (ValueError, KeyError, TypeError) as e:
        raise CorpusError(f"{state}: no state of a saved data set ({e}); save it again") from e
    number = 0
    for name in names:
        path = clip_path(folder, str(name), str(state))
        with (
            _readable(path, "save the data set again"),
            pa.memory_map(str(path)) as source,
            pa.ipc.open_stream(source) as stream,
        ):
            labels = _labels(stream.schema.metadata)
            for batch in stream:
                for row in batch.to_pylist():
                    cells = {c: _name(v, labels.get(c)) for c, v in row.items()}
                    yield _Item(cells, f"{folder}, row {number}", f"{inside}/{number}", _split(inside), folder)
                    number += 1


# --- the hub ---------------------------------------------------------------------------------------------


def _is_data(split: str | None) -> Callable[[str], bool]:
    def wanted(name: str) -> bool:
        base = name.rpartition("/")[2]
        if not (base in (*_METADATA, "state.json") or base.lower().endswith((*_AUDIO, ".parquet", ".arrow"))):
            return False
        return split is None or base in _METADATA or _split(name) in (None, split)

    return wanted


def _from_hub(hub: str, config: str | None, revision: str | None, split: str | None) -> Iterator[_Item]:
    datasets = _datasets()
    try:
        loaded = datasets.load_dataset(hub, config, revision=revision, streaming=True)
    except Exception as e:
        raise _explained(hub, e) from e
    names = [name for name in loaded if split is None or split == split_name(name)]
    if not names:
        raise UsageError(f"--split {split}: {hub} has {', '.join(loaded)}")
    for name in names:
        part = loaded[name]
        features = part.features or {}
        labels = {c: f.names for c, f in features.items() if type(f).__name__ == "ClassLabel"}
        for column, feature in features.items():
            if type(feature).__name__ == "Audio":
                part = part.cast_column(column, datasets.Audio(decode=False))
        rows = iter(part)
        number = 0
        while True:
            try:
                row = next(rows)
            except StopIteration:
                break
            except Exception as e:
                raise _explained(hub, e) from e
            cells = {c: _name(v, labels.get(c)) for c, v in row.items()}
            yield _Item(cells, f"{hub} {name}, row {number}", f"{name}/{number}", split_name(name), Path())
            number += 1


def _datasets() -> Any:
    try:
        import datasets
    except ImportError as e:
        raise UsageError(
            "hub: the package `datasets` isn't here; install it (`pip install 'interlingua[hub]'`), or give the option "
            "streaming=no, which fetches the files"
        ) from e
    return datasets


def _explained(hub: str, error: Exception) -> InterlinguaError:
    text = (str(error).splitlines() or [type(error).__name__])[0][:200]
    by_hand = "give the option streaming=no, which fetches its files"
    if "scripts are no longer supported" in text:
        return CorpusError(f"{hub}: it has a script, which is never run; give the option revision=refs/convert/parquet")
    if "torchcodec" in text:
        return CorpusError(f"{hub}: `datasets` can't pass its audio on without torchcodec; {by_hand}")
    if "Config name is missing" in text or ("BuilderConfig" in text and "not found" in text):
        return UsageError(f"{hub}: {text}; give the option config")
    return FetchError(f"{hub}: can't be read from the hub ({text}); check the name and the network, or {by_hand}")


# --- cells -----------------------------------------------------------------------------------------------


def _locate(folder: Path, out: Path | None, paths_allowed: bool) -> Locate:
    def locate(cell: Any, where: str) -> AudioRef | str:
        if isinstance(cell, AudioRef):
            return cell
        if isinstance(cell, Mapping) and cell.get("bytes"):
            if out is None:
                raise UsageError(
                    f"{where}: its audio is in no file; give the option audio_folder, which it is written to"
                )
            return AudioRef(str(write_audio(out, str(cell["name"]), cell["bytes"], cell.get("path"))))
        path = cell.get("path") if isinstance(cell, Mapping) else cell
        if not isinstance(path, str) or not path.strip():
            return NO_FILE
        if not paths_allowed and not Path(path).is_absolute():
            return "neither bytes nor a file"
        found = clip_path(folder, path.strip(), where)
        return AudioRef(str(found)) if is_file(found) else NO_FILE

    return locate


def _named(item: _Item) -> dict[str, Any]:
    return {
        c: {**v, "name": f"{item.name.replace('/', '-')}-{c}"} if _is_audio(v) and isinstance(v, Mapping) else v
        for c, v in item.row.items()
    }


def _is_audio(cell: Any) -> bool:
    return isinstance(cell, AudioRef) or (isinstance(cell, Mapping) and {"bytes", "path"} <= set(cell))


def _with_audio(columns: dict[str, str], audio: tuple[str, ...], row: Mapping[str, Any]) -> dict[str, str]:
    if any(ours == "audio" or ours.startswith("audio_") for ours in columns) or "audio" in audio:
        return columns
    if len(audio) == 1:
        return columns | {"audio": audio[0]}
    return columns | {f"audio_{re.sub('(^audio_|_audio$)', '', name)}": name for name in audio}


def _labels(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return {c: f["names"] for c, f in features.items() if isinstance(f, dict) and f.get("_type") == "ClassLabel"}
    except (KeyError, TypeError, ValueError):
        return {}


def _name(value: Any, labels: list[str] | None) -> Any:
    """-1 is no label."""
    if labels is None or not isinstance(value, int):
        return value
    return labels[value] if 0 <= value < len(labels) else None


def _split(name: str) -> str | None:
    words = re.split(r"[/._-]", name.lower())
    return next((_SPLITS[word] for word in words if word in _SPLITS), None)
