"""Lhotse's manifests: ``.jsonl`` or ``.jsonl.gz`` of cuts, or of recordings with their supervisions.

Read without Lhotse. A supervision's start counts from its cut's beginning inside a cut, from the recording's outside.
What can't be one stretch of one file is left out: mixed cuts (but for silence appended), augmented recordings, one
channel of several. ``command`` sources are shell commands: a manifest that has one is refused.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from interlingua.corpora.delimited import is_json, read_json_rows
from interlingua.corpora.embedded import write_audio
from interlingua.corpora.leftovers import LeftOut
from interlingua.corpora.rows import NO_FILE, clip_path, is_file, split_name
from interlingua.errors import CorpusError, ManifestError, UsageError
from interlingua.languages import normalise_language, normalise_languages
from interlingua.types import AudioRef, Utterance

FETCH = (
    "ROOT is a manifest (.jsonl or .jsonl.gz) or a folder of them; supervisions are read with the recordings "
    "beside them (corpus_supervisions_dev.jsonl.gz, corpus_recordings_dev.jsonl.gz)"
)
LICENCE = "yours"
_SPLITS = ("train", "dev", "test", "valid", "validation")
_CUTS = ("MonoCut", "MultiCut", "MixedCut", "Cut", "PaddingCut")

Row = Mapping[str, Any]


def read_lhotse(
    root: Path,
    *,
    languages: tuple[str, ...] | None = None,
    split: str | None = None,
    language: str | None = None,
    audio_root: str | None = None,
    audio_folder: str | None = None,
    keep_missing: bool = False,
    log: Callable[[str], None] = lambda line: None,
) -> Iterator[Utterance]:
    """One utterance a supervision; a cut or recording without any is one, too, if ``language`` is given.

    Cuts are read in constant memory but for the ids; of separate recordings the paths are held.

    Args:
        root: a manifest, or a folder of manifests (then cuts are preferred).
        languages: which to keep; None: all.
        split: which manifests to read, by their names (``..._dev.jsonl.gz``); None: all.
        language: what is spoken, where no supervision says it.
        audio_root: what relative paths are relative to (Lhotse: the folder it ran in); None: the manifest's folder.
        audio_folder: where recordings that the manifest holds itself (``memory``) are written.
        keep_missing: keep recordings whose file isn't there.
        log: receives a line on whatever was left out, and how much.

    Raises:
        ManifestError: a line is wrong, or a source is a command or a URL.
        CorpusError: no manifest is here, or supervisions have no recordings.
        UsageError: an unknown language.
    """
    wanted = None if languages is None else normalise_languages(languages)
    spoken = normalise_language(language) if language else None
    manifests = [m for m in _manifests(root, log) if split is None or m.split == split_name(split)]
    if not manifests:
        asked = f" whose name says {split}" if split else ""
        raise CorpusError(f"{root}: no manifest of cuts, recordings or supervisions{asked} is here. {FETCH}")
    seen: set[str] = set()
    for manifest in manifests:
        left = LeftOut(manifest.path.name)
        base = manifest.path.parent if audio_root is None else Path(audio_root)
        sources = _Sources(base, None if audio_folder is None else Path(audio_folder), keep_missing)
        for utterance in _READ[manifest.kind](manifest, sources, spoken, left):
            if wanted is not None and utterance.language not in wanted:
                continue
            if utterance.id in seen:
                left.add("its id stands already before", utterance.id)
                continue
            seen.add(utterance.id)
            yield utterance
        left.report(log)


def kind_of(row: Row) -> str | None:
    """What a line of a manifest is: ``cuts``, ``recordings`` or ``supervisions``; None: nothing of Lhotse's."""
    if row.get("type") in _CUTS:
        return "cuts"
    if isinstance(row.get("sources"), list):
        return "recordings"
    return "supervisions" if "recording_id" in row and "num_features" not in row else None


# --- which files -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Manifest:
    path: Path
    kind: str
    recordings: Path | None = None

    @property
    def split(self) -> str | None:
        words = [w for w in re.split(r"[._-]", self.path.name) if w in _SPLITS]
        return split_name(words[-1]) if words else None


def _manifests(root: Path, log: Callable[[str], None]) -> list[_Manifest]:
    folder = root if root.is_dir() else root.parent
    files = [p for p in sorted(folder.iterdir()) if p.is_file() and (is_json(p) or p == root)]
    kinds = {p: kind for p in files if (kind := _kind(p, root, log))}
    if root == folder and files and not kinds:
        names = ", ".join(p.name for p in files[:5])
        raise CorpusError(f"{root}: no cut, recording or supervision is the first line of {names}. {FETCH}")
    if root != folder:
        if root not in kinds:
            raise ManifestError(f"{root}: its first line is no cut, recording or supervision of Lhotse's")
        asked = [root]
    else:
        asked = [p for p, kind in kinds.items() if kind == "cuts"]
        if asked and len(asked) < len(kinds):
            log(
                f"{root}: cuts are here; {len(kinds) - len(asked)} manifests of recordings and supervisions aren't read"
            )
        asked = asked or [p for p, kind in kinds.items() if kind == "supervisions"] or list(kinds)
    made = []
    for path in asked:
        kind = kinds[path]
        if kind == "recordings" and (partner := _partner(path, "recordings", "supervisions", kinds)):
            path, kind = partner, "supervisions"
        recordings = _partner(path, "supervisions", "recordings", kinds) if kind == "supervisions" else None
        if kind == "supervisions" and recordings is None:
            raise CorpusError(f"{path}: no recordings lie beside these supervisions. {FETCH}")
        made.append(_Manifest(path, kind, recordings))
    return made


def _kind(path: Path, root: Path, log: Callable[[str], None]) -> str | None:
    """The kind of a manifest; a broken one is passed over, and told, unless it was asked for."""
    try:
        return next((kind_of(row) for _, row in read_json_rows(path)), None)
    except ManifestError as e:
        if path == root:
            raise
        if root.is_dir():
            log(f"passed over: {e}")
        return None


def _partner(path: Path, kind: str, other: str, kinds: Mapping[Path, str]) -> Path | None:
    beside = path.with_name(path.name.replace(kind, other))
    for candidate in (beside, beside.with_name(beside.name.removesuffix(".gz")), beside.with_name(f"{beside.name}.gz")):
        if kinds.get(candidate) == other:
            return candidate
    same = [p for p, k in kinds.items() if k == other]
    return same[0] if len(same) == 1 and list(kinds.values()).count(kind) == 1 else None


# --- where the audio is ----------------------------------------------------------------------------------


class _Sources:
    """Finds the file of a recording."""

    def __init__(self, base: Path, folder: Path | None, keep_missing: bool) -> None:
        self._base = base
        self._folder = folder
        self._keep_missing = keep_missing

    def find(self, recording: Any, channels: Any, where: str) -> Path | str:
        """The file that holds these channels (None: all) and no others, or the reason why there is none."""
        if not isinstance(recording, Mapping) or not isinstance(recording.get("sources"), list):
            return "no recording"
        for source in recording["sources"]:
            self.refuse(source, where)
        if recording.get("transforms"):
            return "augmented (transforms): save the manifest before augmentation"
        asked = {channels} if isinstance(channels, int) else set(channels) if channels is not None else None
        for source in recording["sources"]:
            held = set(source.get("channels") or [0])
            if asked is None and len(recording["sources"]) == 1:
                asked = held
            if asked == held:
                return self._file(recording, source, where)
        return "one channel of several, or several files: write each channel to a file"

    def refuse(self, source: Row, where: str) -> None:
        """Raise ManifestError for what isn't a file: a command is never run, a URL never fetched."""
        if source.get("type") == "command":
            raise ManifestError(
                f"{where}: a source is a shell command ({source['source'][:60]!r}), which is never run; save the audio "
                "with Lhotse (`CutSet.save_audios`) if you trust it, and use that manifest"
            )
        if source.get("type") == "url":
            raise ManifestError(
                f"{where}: a source is a URL ({source['source'][:60]}), which isn't fetched; download it and write the "
                "file's path with type file"
            )

    def _file(self, recording: Row, source: Row, where: str) -> Path | str:
        if source.get("type") == "memory":
            if self._folder is None:
                raise ManifestError(
                    f"{where}: the manifest holds audio itself; give the option audio_folder to write it to"
                )
            try:
                data = base64.b64decode(source["source"], validate=True)
            except (binascii.Error, ValueError):
                return "audio in the manifest that isn't base64"
            return write_audio(self._folder, str(recording.get("id")), data)
        if source.get("type") != "file":
            return f"a source of type {source.get('type')!r}"
        path = clip_path(self._base, source["source"], where)
        if self._keep_missing or is_file(path):
            return path
        return (
            NO_FILE
            if path == Path(source["source"])
            else (f"{NO_FILE}; relative paths are taken from {self._base}, the option audio_root names another folder")
        )


# --- lines -----------------------------------------------------------------------------------------------


class _Source(msgspec.Struct):
    """A line's own types: they only check it, the readers below use the mapping."""

    type: str
    source: str
    channels: list[int] | None = None


class _Recording(msgspec.Struct):
    sources: list[_Source] | None = None
    duration: float | None = None


class _Supervision(msgspec.Struct):
    start: float | None = None
    duration: float | None = None
    text: str | None = None
    language: str | None = None
    speaker: str | int | None = None
    gender: str | None = None
    channel: int | list[int] | None = None


class _Cut(msgspec.Struct):
    start: float | None = None
    duration: float | None = None
    channel: int | list[int] | None = None
    supervisions: list[_Supervision] | None = None
    recording: _Recording | None = None
    tracks: "list[_Track] | None" = None


class _Track(msgspec.Struct):
    cut: _Cut


def _lines(path: Path, kind: type[msgspec.Struct]) -> Iterator[tuple[Row, str]]:
    """(line, place) of a manifest.

    Raises:
        ManifestError: a line isn't what Lhotse writes.
    """
    for number, row in read_json_rows(path):
        where = f"{path}:{number}"
        try:
            msgspec.convert(row, kind)
        except msgspec.ValidationError as e:
            raise ManifestError(f"{where}: no line of Lhotse's ({e}); write the manifest again") from e
        yield row, where


# --- utterances ------------------------------------------------------------------------------------------


def _cuts(manifest: _Manifest, sources: _Sources, language: str | None, left: LeftOut) -> Iterator[Utterance]:
    for row, where in _lines(manifest.path, _Cut):
        cut = _sole_track(row)
        if isinstance(cut, str):
            left.add(cut, str(row.get("id")))
            continue
        path = sources.find(cut.get("recording"), cut.get("channel"), where)
        if isinstance(path, str):
            left.add(path, f"{where} ({row.get('id')})")
            continue
        start, duration = _seconds(cut, "start", where) or 0.0, _seconds(cut, "duration", where)
        supervisions = cut.get("supervisions") or []
        if not supervisions:
            yield from _bare(str(row.get("id")), AudioRef(str(path), start, duration), manifest, language, left)
        whole = _seconds(cut["recording"], "duration", where)
        for supervision in supervisions:
            begin = start + _seconds(supervision, "start", where, negative=True)  # cut-relative
            yield from _supervised(supervision, path, begin, whole, manifest, where, language, left)


def _sole_track(cut: Row) -> Row | str:
    """A cut that is one stretch of one recording, or the reason why it isn't."""
    if cut.get("type") != "MixedCut":
        return cut if cut.get("type") != "PaddingCut" else "a padding cut is silence"
    tracks = cut.get("tracks") or []
    speech = [t for t in tracks if isinstance(t, Mapping) and t.get("type") != "PaddingCut"]
    if len(speech) != 1 or cut.get("transforms"):
        return "a mixed cut (MixedCut) has several recordings at once: save the cuts before mixing"
    sole: Row = speech[0]["cut"]
    return sole


def _joined(manifest: _Manifest, sources: _Sources, language: str | None, left: LeftOut) -> Iterator[Utterance]:
    """Supervisions and the recordings that they name."""
    assert manifest.recordings is not None
    recordings: dict[str, Row] = {}
    for row, where in _lines(manifest.recordings, _Recording):
        for source in row.get("sources") or []:
            sources.refuse(source, where)
        recordings[str(row.get("id"))] = {k: row[k] for k in ("id", "sources", "duration", "transforms") if k in row}
    unused = set(recordings)
    for row, where in _lines(manifest.path, _Supervision):
        recording = recordings.get(str(row.get("recording_id")))
        if recording is None:
            left.add("its recording isn't in the other manifest", f"{row.get('id')} ({row.get('recording_id')})")
            continue
        unused.discard(str(row.get("recording_id")))
        path = sources.find(recording, row.get("channel"), where)
        if isinstance(path, str):
            left.add(path, f"{where} ({row.get('id')})")
            continue
        begin = _seconds(row, "start", where, negative=True)
        whole = _seconds(recording, "duration", where)
        yield from _supervised(row, path, begin, whole, manifest, where, language, left)
    for name in sorted(unused):
        left.add("a recording without supervision", name)


def _recordings(manifest: _Manifest, sources: _Sources, language: str | None, left: LeftOut) -> Iterator[Utterance]:
    for row, where in _lines(manifest.path, _Recording):
        path = sources.find(row, None, where)
        if isinstance(path, str):
            left.add(path, f"{where} ({row.get('id')})")
            continue
        audio = AudioRef(str(path))
        yield from _bare(str(row.get("id")), audio, manifest, language, left, _seconds(row, "duration", where))


_READ = {"cuts": _cuts, "supervisions": _joined, "recordings": _recordings}


def _bare(
    name: str,
    audio: AudioRef,
    manifest: _Manifest,
    language: str | None,
    left: LeftOut,
    seconds: float | None = None,
) -> Iterator[Utterance]:
    """An utterance of which only the audio is known."""
    if language is None:
        left.add("no supervision says the language; give the option language", name)
        return
    yield Utterance(id=name, audio=audio, language=language, split=manifest.split, duration=audio.duration or seconds)


def _supervised(
    supervision: Row,
    path: Path,
    begin: float,
    whole: float | None,
    manifest: _Manifest,
    where: str,
    language: str | None,
    left: LeftOut,
) -> Iterator[Utterance]:
    """The utterance of a supervision that begins at a second of its recording."""
    name = str(supervision.get("id"))
    seconds = _seconds(supervision, "duration", where)
    if seconds is None or seconds <= 0:
        left.add("a supervision without duration", name)
        return
    end = begin + seconds if whole is None else min(begin + seconds, whole)
    begin = max(0.0, begin)
    if end <= begin:
        left.add("a supervision outside its recording", name)
        return
    said, translations = supervision.get("language"), {}
    custom = supervision.get("custom") or {}
    translated = custom.get("translated_text") if isinstance(custom, Mapping) else None
    try:
        spoken = normalise_language(said) if said else language
        if isinstance(translated, Mapping):
            translations = {normalise_language(c): t for c, t in translated.items() if isinstance(t, str) and t.strip()}
    except UsageError as e:
        raise ManifestError(f"{where}: supervision {name}: {e}") from e
    if spoken is None:
        left.add("no supervision says the language; give the option language", name)
        return
    speaker = supervision.get("speaker")
    begin, seconds = round(begin, 8), round(end - begin, 8)
    yield Utterance(
        id=name,
        audio=AudioRef(str(path), begin, seconds),
        language=spoken,
        text=(supervision.get("text") or "").strip() or None,
        translations=translations,
        split=manifest.split,
        speaker=None if speaker in (None, "") else str(speaker),
        gender=supervision.get("gender") or None,
        duration=seconds,
    )


def _seconds(row: Row, key: str, where: str, *, negative: bool = False) -> Any:
    value = row.get(key)
    if value is None:
        return 0.0 if negative else None
    if not (negative or value >= 0):
        raise ManifestError(f"{where}: {key} is {value!r:.40}, not seconds")
    return float(value)
