"""Lhotse's manifests: ``.jsonl`` or ``.jsonl.gz`` of cuts, or of recordings with their supervisions.

Read without Lhotse, which runs ``command`` sources (shell commands) and fetches URLs: such manifests are refused. A
supervision's start counts from its cut's beginning inside a cut, else from the recording's. What isn't one stretch of
one file is skipped: mixed cuts (but for appended silence), augmented recordings, one channel of several.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from interlingua.corpora.base import Corpus, Log, Names, Skipped, silent, split_name
from interlingua.corpora.delimited import Row, is_json, read_json_rows, seconds
from interlingua.corpora.layout import NO_FILE, clip_path, is_file, write_audio
from interlingua.errors import CorpusError, ManifestError, UsageError
from interlingua.languages import normalise_language, normalise_languages
from interlingua.types import AudioRef, Utterance

FETCH = (
    "ROOT is a manifest (.jsonl or .jsonl.gz) or a folder of them; supervisions are read with the recordings "
    "beside them (corpus_supervisions_dev.jsonl.gz, corpus_recordings_dev.jsonl.gz)"
)
_SPLITS = ("train", "dev", "test", "valid", "validation")
_CUTS = ("MonoCut", "MultiCut", "MixedCut", "Cut", "PaddingCut")
_NO_LANGUAGE = "no supervision says the language; give the option language"


def read_lhotse(
    root: Path,
    *,
    languages: Names = None,
    split: str | None = None,
    language: str | None = None,
    audio_root: str | None = None,
    audio_folder: str | None = None,
    keep_missing: bool = False,
    log: Log = silent,
) -> Iterator[Utterance]:
    """One utterance a supervision; with ``language`` also one for each cut or recording without any.

    Cuts are read in constant memory but for ids; for separate recordings the paths are held.

    Args:
        root: a manifest, or a folder of manifests (cuts are preferred).
        split: selects manifests by name (``..._dev.jsonl.gz``).
        language: the source language, where no supervision has it.
        audio_root: what relative paths are relative to (Lhotse: the folder it ran in); None: the manifest's folder.
        audio_folder: receives recordings that the manifest itself holds (``memory``).
        keep_missing: keep recordings whose file doesn't exist.
    """
    wanted = None if languages is None else normalise_languages(languages)
    spoken = normalise_language(language) if language else None
    manifests = [m for m in _manifests(root, log) if split is None or _split(m[0]) == split]
    if not manifests:
        requested = f" whose name says {split}" if split else ""
        raise CorpusError(f"{root}: no manifest of cuts, recordings or supervisions{requested} is here. {FETCH}")
    seen: set[str] = set()
    for path, recordings in manifests:
        skipped = Skipped(path.name, log)
        base = path.parent if audio_root is None else Path(audio_root)
        reading = _Reading(base, audio_folder, keep_missing, spoken, _split(path), skipped)
        for cut, where in _cuts(path, recordings, skipped):
            for utterance in reading.utterances(cut, where):
                if wanted is not None and utterance.language not in wanted:
                    continue
                if utterance.id in seen:
                    skipped.add("its id stands already before", utterance.id)
                    continue
                seen.add(utterance.id)
                yield utterance
        skipped.report()


CORPUS = Corpus(
    name="lhotse",
    title="Lhotse's manifests: cuts, or recordings and supervisions",
    read=read_lhotse,
    licence="yours",
    fetch=FETCH,
)


def kind_of(row: Row) -> str | None:
    """What a line of a manifest is: ``cuts``, ``recordings`` or ``supervisions``; None: none of Lhotse's."""
    if row.get("type") in _CUTS:
        return "cuts"
    if isinstance(row.get("sources"), list):
        return "recordings"
    return "supervisions" if "recording_id" in row and "num_features" not in row else None


# --- which files -----------------------------------------------------------------------------------------


def _split(path: Path) -> str | None:
    words = [w for w in re.split(r"[._-]", path.name) if w in _SPLITS]
    return split_name(words[-1]) if words else None


def _manifests(root: Path, log: Log) -> list[tuple[Path, Path | None]]:
    """Manifests to read, each with that of its recordings: None for cuts, itself for recordings alone."""
    folder = root if root.is_dir() else root.parent
    files = [p for p in sorted(folder.iterdir()) if p.is_file() and (is_json(p) or p == root)]
    kinds = {p: kind for p in files if (kind := _kind(p, root, log))}
    if root == folder and files and not kinds:
        names = ", ".join(p.name for p in files[:5])
        raise CorpusError(f"{root}: no cut, recording or supervision is the first line of {names}. {FETCH}")
    if root != folder:
        if root not in kinds:
            raise ManifestError(f"{root}: its first line is no cut, recording or supervision of Lhotse's")
        tables = [root]
    else:
        tables = [p for p, kind in kinds.items() if kind == "cuts"]
        others = len(kinds) - len(tables)
        if tables and others:
            log(f"{root}: cuts are here; {others} manifests of recordings and supervisions aren't read")
        tables = tables or [p for p, kind in kinds.items() if kind == "supervisions"] or list(kinds)
    made = []
    for path in tables:
        kind = kinds[path]
        if kind == "recordings" and (partner := _partner(path, "recordings", "supervisions", kinds)):
            path, kind = partner, "supervisions"
        recordings = _partner(path, "supervisions", "recordings", kinds) if kind == "supervisions" else None
        if kind == "supervisions" and recordings is None:
            raise CorpusError(f"{path}: no recordings belong to these supervisions. {FETCH}")
        made.append((path, path if kind == "recordings" else recordings))
    return made


def _kind(path: Path, root: Path, log: Log) -> str | None:
    """A broken manifest is skipped and logged, unless it is ``root`` itself."""
    try:
        return next((kind_of(row) for _, row in read_json_rows(path)), None)
    except ManifestError as e:
        if path == root:
            raise
        if root.is_dir():
            log(f"skipped: {e}")
        return None


def _partner(path: Path, kind: str, other: str, kinds: Mapping[Path, str]) -> Path | None:
    partner = path.with_name(path.name.replace(kind, other))
    for candidate in (
        partner,
        partner.with_name(partner.name.removesuffix(".gz")),
        partner.with_name(f"{partner.name}.gz"),
    ):
        if kinds.get(candidate) == other:
            return candidate
    same = [p for p, k in kinds.items() if k == other]
    return same[0] if len(same) == 1 and list(kinds.values()).count(kind) == 1 else None


# --- lines -----------------------------------------------------------------------------------------------


class _Source(msgspec.Struct):
    type: str
    source: str
    channels: list[int] | None = None


class _Recording(msgspec.Struct):
    id: Any = None
    sources: list[_Source] | None = None
    duration: float | None = None
    transforms: Any = None


class _Supervision(msgspec.Struct):
    id: Any = None
    recording_id: Any = None
    start: float | None = None
    duration: float | None = None
    text: str | None = None
    language: str | None = None
    speaker: str | int | None = None
    gender: str | None = None
    channel: int | list[int] | None = None
    custom: Any = None


class _Cut(msgspec.Struct):
    id: Any = None
    type: Any = None
    start: float | None = None
    duration: float | None = None
    channel: int | list[int] | None = None
    supervisions: list[_Supervision] | None = None
    recording: _Recording | None = None
    tracks: "list[_Track] | None" = None
    transforms: Any = None


class _Track(msgspec.Struct):
    cut: _Cut
    type: Any = None


L = TypeVar("L", _Cut, _Recording, _Supervision)


def _lines(path: Path, kind: type[L]) -> Iterator[tuple[L, str]]:
    for number, row in read_json_rows(path):
        where = f"{path}:{number}"
        try:
            yield msgspec.convert(row, kind), where
        except msgspec.ValidationError as e:
            raise ManifestError(f"{where}: no line of Lhotse's ({e}); write the manifest again") from e


def _cuts(path: Path, recordings: Path | None, skipped: Skipped) -> Iterator[tuple[_Cut, str]]:
    """Cuts and their lines; a recording, or a supervision with its recording, is a cut of all of it."""
    if recordings is None:
        yield from _lines(path, _Cut)
        return
    held: dict[str, _Recording] = {}
    for recording, where in _lines(recordings, _Recording):
        refuse(recording, where)
        if recordings == path:
            yield _Cut(id=recording.id, duration=recording.duration, recording=recording), where
        else:
            held[str(recording.id)] = recording
    if recordings == path:
        return
    unused = set(held)
    for line, where in _lines(path, _Supervision):
        if (found := held.get(str(line.recording_id))) is None:
            skipped.add("its recording isn't in the other manifest", f"{line.id} ({line.recording_id})")
            continue
        unused.discard(str(line.recording_id))
        yield _Cut(id=line.id, channel=line.channel, supervisions=[line], recording=found), where
    for name in sorted(unused):
        skipped.add("a recording without supervision", name)


def refuse(recording: _Recording, where: str) -> None:
    """Raise ManifestError for sources that aren't files: commands are never run, URLs never fetched."""
    for source in recording.sources or []:
        if source.type == "command":
            raise ManifestError(
                f"{where}: a source is a shell command ({source.source[:60]!r}), which is never run; save the audio "
                "with Lhotse (`CutSet.save_audios`) if you trust it, and use that manifest"
            )
        if source.type == "url":
            raise ManifestError(
                f"{where}: a source is a URL ({source.source[:60]}), which isn't fetched; download it and write the "
                "file's path with type file"
            )


# --- utterances ------------------------------------------------------------------------------------------


def _positive(duration: float | None, where: str) -> float | None:
    return None if duration is None else seconds(duration, f"{where}: duration")


@dataclass
class _Reading:
    base: Path
    audio_folder: str | None
    keep_missing: bool
    language: str | None
    split: str | None
    skipped: Skipped

    def utterances(self, row: _Cut, where: str) -> Iterator[Utterance]:
        cut = _sole_track(row)
        if isinstance(cut, str):
            self.skipped.add(cut, str(row.id))
            return
        path = self._file(cut.recording, cut.channel, where)
        if isinstance(path, str):
            self.skipped.add(path, f"{where} ({row.id})")
            return
        duration = _positive(cut.duration, where)
        whole = None if cut.recording is None else _positive(cut.recording.duration, where)
        start = None if cut.start is None else seconds(cut.start, f"{where}: start")
        for supervision in cut.supervisions or []:
            yield from self._supervised(supervision, path, (start or 0.0) + (supervision.start or 0.0), whole, where)
        if cut.supervisions:
            return
        if self.language is None:
            self.skipped.add(_NO_LANGUAGE, str(row.id))
            return
        audio = AudioRef(str(path), start, None if start is None else duration)
        yield Utterance(
            id=str(row.id), audio=audio, language=self.language, split=self.split, duration=duration or None
        )

    def _file(self, recording: _Recording | None, channels: int | list[int] | None, where: str) -> Path | str:
        """The file that holds exactly these channels (None: all), or the reason why there is none."""
        if recording is None or recording.sources is None:
            return "no recording"
        refuse(recording, where)
        if recording.transforms:
            return "augmented (transforms): save the manifest before augmentation"
        requested = {channels} if isinstance(channels, int) else set(channels) if channels is not None else None
        if requested is None and len(recording.sources) == 1:
            requested = set(recording.sources[0].channels or [0])
        source = next((s for s in recording.sources if set(s.channels or [0]) == requested), None)
        if source is None:
            return "one channel of several, or several files: write each channel to a file"
        if source.type == "memory":
            if self.audio_folder is None:
                raise ManifestError(
                    f"{where}: the manifest holds audio itself; give the option audio_folder to write it to"
                )
            try:
                data = base64.b64decode(source.source, validate=True)
            except (binascii.Error, ValueError):
                return "audio in the manifest that isn't base64"
            return write_audio(Path(self.audio_folder), str(recording.id), data)
        if source.type != "file":
            return f"a source of type {source.type!r}"
        path = clip_path(self.base, source.source, where)
        if self.keep_missing or is_file(path):
            return path
        if path == Path(source.source):
            return NO_FILE
        return f"{NO_FILE}; relative paths are taken from {self.base}, the option audio_root names another folder"

    def _supervised(
        self, supervision: _Supervision, path: Path, begin: float, whole: float | None, where: str
    ) -> Iterator[Utterance]:
        name = str(supervision.id)
        duration = _positive(supervision.duration, where)
        if not duration:
            self.skipped.add("a supervision without duration", name)
            return
        end = begin + duration if whole is None else min(begin + duration, whole)
        begin = max(0.0, begin)
        if end <= begin:
            self.skipped.add("a supervision outside its recording", name)
            return
        translations: dict[str, str] = {}
        custom = supervision.custom
        translated = custom.get("translated_text") if isinstance(custom, Mapping) else None
        try:
            spoken = normalise_language(supervision.language) if supervision.language else self.language
            if isinstance(translated, Mapping):
                translations = {
                    normalise_language(c): t for c, t in translated.items() if isinstance(t, str) and t.strip()
                }
        except UsageError as e:
            raise ManifestError(f"{where}: supervision {name}: {e}") from e
        if spoken is None:
            self.skipped.add(_NO_LANGUAGE, name)
            return
        speaker = supervision.speaker
        begin, duration = round(begin, 8), round(end - begin, 8)
        yield Utterance(
            id=name,
            audio=AudioRef(str(path), begin, duration),
            language=spoken,
            text=(supervision.text or "").strip() or None,
            translations=translations,
            split=self.split,
            speaker=None if speaker in (None, "") else str(speaker),
            gender=supervision.gender or None,
            duration=duration,
        )


def _sole_track(cut: _Cut) -> _Cut | str:
    """The cut as one stretch of one recording, or the reason why it isn't."""
    if cut.type != "MixedCut":
        return cut if cut.type != "PaddingCut" else "a padding cut is silence"
    speech = [t for t in cut.tracks or [] if t.type != "PaddingCut"]
    if len(speech) != 1 or cut.transforms:
        return "a mixed cut (MixedCut) has several recordings at once: save the cuts before mixing"
    return speech[0].cut
