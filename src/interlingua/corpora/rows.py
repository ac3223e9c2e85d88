"""Utterances from the rows of a table, whatever its columns are called, with one recording a row or several.

Columns, of which only the first is needed (aliases in `ALIASES`)::

    audio             a path, relative to the table's folder
    text, language, speaker, gender
    translation_<language>, or translation with the option ``target``
    id, meaning, split
    offset (or start), end, duration    seconds: a stretch of a longer file

Several recordings of one meaning stand in columns ``audio_<x>``, ``<x>_audio`` or ``<x>_file_name``; their texts,
languages and speakers in ``text_<x>`` or ``<x>_text``, and so on. ``<x>`` may be the language itself.
"""

import errno
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interlingua.corpora.leftovers import LeftOut
from interlingua.errors import ManifestError, UsageError
from interlingua.languages import UNSEEN_LANGUAGES, WHISPER_LANGUAGES, normalise_language, normalise_languages
from interlingua.types import AudioRef, Utterance

Locate = Callable[[Any, str], AudioRef | str]
"""Where the audio of a cell lies (cell, place in the table), or the reason for which it can't be used."""

Columns = Mapping[str, str] | tuple[str, ...]
"""Our name of a column -> the table's, or ``ours=theirs`` each."""

ALIASES = {
    "audio": ("path", "audio_path", "audio_file", "audio_filepath", "file_name", "filename", "file", "wav"),
    "text": ("sentence", "transcription", "transcript"),
    "language": ("lang", "locale"),
    "speaker": ("speaker_id",),
    "gender": (),
    "offset": ("start",),
    "end": (),
    "duration": (),
    "id": (),
    "meaning": (),
    "split": (),
    "translation": (),
    "translations": (),
}
"""Our name of a column -> what else it may be called."""

NO_FILE = "no audio file"

_OF_AUDIO = ("audio", "text", "language", "speaker", "gender", "offset", "end", "duration")
_SPLITS = {"validation": "dev", "valid": "dev", "val": "dev"}
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


@dataclass(frozen=True)
class Track:
    """One recording of a row: what sets its columns apart (empty where it is the only one), and field -> column."""

    name: str
    columns: Mapping[str, str]


@dataclass(frozen=True)
class Layout:
    """Which column holds what.

    Attributes:
        tracks: the recordings of a row.
        columns: field -> column, of what the row has in common.
        translations: target language -> column.
    """

    tracks: tuple[Track, ...]
    columns: Mapping[str, str]
    translations: Mapping[str, str]


def split_name(name: str) -> str:
    """A split by our name: Hugging Face's ``validation`` is ``dev``."""
    return _SPLITS.get(name, name)


def in_folder(folder: Path, keep_missing: bool = False) -> Locate:
    """Finds audio files by their paths, absolute or relative to a folder, which they may not climb out of.

    ``keep_missing`` takes the path of a file that isn't there for its audio, all the same.
    """

    def locate(cell: Any, where: str) -> AudioRef | str:
        if isinstance(cell, Mapping):
            cell = cell.get("path")
        if not isinstance(cell, str) or not cell.strip():
            return NO_FILE
        path = clip_path(folder, cell.strip(), where)
        return AudioRef(str(path)) if keep_missing or is_file(path) else NO_FILE

    return locate


def is_file(path: Path) -> bool:
    """Whether a file is there; a name may be too long to be one, such as a sentence in the wrong column.

    Raises:
        OSError: its folder can't be looked into.
    """
    try:
        return path.is_file()
    except OSError as e:
        if e.errno == errno.ENAMETOOLONG:
            return False
        raise


def clip_path(folder: Path, name: str, where: str) -> Path:
    """An audio file by the name that a manifest gives it.

    Args:
        folder: what relative names are relative to.
        name: absolute, or relative.
        where: the place in the manifest, for the message.

    Returns:
        Its absolute path, whether it is there or not.

    Raises:
        ManifestError: a URL, a shell command, or a relative name that leads out of the folder.
    """
    if _SCHEME.match(name):
        raise ManifestError(
            f"{where}: {name[:80]} is a URL, which isn't fetched; download it and write the file's path"
        )
    if name.rstrip().endswith("|"):
        raise ManifestError(
            f"{where}: {name[:80]!r} is a shell command, which is never run; write its output to a file"
        )
    if Path(name).is_absolute():
        return Path(name)
    if "\0" in name or Path(os.path.normpath(name)).parts[:1] == (os.pardir,):
        raise ManifestError(f"{where}: {name[:80]!r} leads out of {folder}; write the absolute path if that is meant")
    return Path(os.path.abspath(folder)) / name  # noqa: PTH100  # links are kept: resolve() would follow them


def parse_columns(columns: Columns | None) -> dict[str, str]:
    """Our name of a column -> the table's.

    Raises:
        UsageError: not ``ours=theirs``, or no column of ours.
    """
    if not isinstance(columns, Mapping):
        columns = dict(_halves(text) for text in columns or ())
    for ours in columns:
        field = next((f for f in ALIASES if ours == f or ours.startswith(f"{f}_")), None)
        if field is None:
            raise UsageError(f"columns: {ours!r} is no column; use {', '.join(ALIASES)}, or translation_<language>")
    return dict(columns)


def layout_of(names: Sequence[str], columns: Mapping[str, str], where: str) -> Layout:
    """Find out which column holds what.

    Args:
        names: of the table's columns; case doesn't matter.
        columns: what the caller says; see `parse_columns`.
        where: the table, for messages.

    Raises:
        UsageError: a column that the caller named isn't there.
        ManifestError: no column with audio, or an unknown language in a column's name.
    """
    held = {name.strip().lower(): name for name in names}
    said: dict[str, str] = {}
    for ours, theirs in columns.items():
        if theirs.strip().lower() not in held:
            raise UsageError(f"{where}: no column {theirs!r} (for {ours}); it has {', '.join(names)[:200]}")
        said[ours] = held[theirs.strip().lower()]
    free = {key: name for key, name in held.items() if name not in said.values()}

    def find(*fields: str) -> str | None:
        return next((said[f] for f in fields if f in said), None) or next((free[f] for f in fields if f in free), None)

    shared = {field: column for field, also in ALIASES.items() if (column := find(field, *also))}
    tracks = [Track(name, _track(name, find)) for name in _suffixes(shared, said, free)]
    sole = Track("", {f: shared[f] for f in _OF_AUDIO if f in shared})
    if "audio" in shared:
        tracks = [Track("1", sole.columns), *tracks] if tracks else [sole]
    if not tracks:
        raise ManifestError(f"{where}: no column with audio among {', '.join(names)[:200]}; call it audio, or name it")
    translations: dict[str, str] = {}
    for name in [*said, *free]:
        if name.startswith("translation_"):
            translations[_code(name.removeprefix("translation_"), where)] = said.get(name) or free[name]
    common = {f: c for f, c in shared.items() if len(tracks) == 1 or f not in _OF_AUDIO or f in ("language", "speaker")}
    return Layout(tuple(tracks), common, translations)


class Rows:
    """Makes the utterances of one table.

    Args:
        table: its name, for messages.
        locate: finds the audio of a cell.
        left: counts what can't be used.
        columns: see `parse_columns`.
        language: spoken, where no column says it; one for each recording of a row.
        target: the language of the column ``translation``.
        languages: of the utterances to keep; None: all.
        split: to keep; None: all.
        default_split: the split of all rows, where no column says it.
        prefix: of the ids that are made from audio paths.
        ids: those that are taken, and where; shared between the tables of one data set.
        repeated: let an id stand twice.
    """

    def __init__(
        self,
        table: str,
        locate: Locate,
        left: LeftOut,
        *,
        columns: Columns | None = None,
        language: tuple[str, ...] | None = None,
        target: str | None = None,
        languages: tuple[str, ...] | None = None,
        split: str | None = None,
        default_split: str | None = None,
        prefix: str = "",
        ids: dict[str, str] | None = None,
        repeated: bool = False,
    ) -> None:
        self.table = table
        self.left = left
        self._locate = locate
        self._columns = parse_columns(columns)
        self._spoken = tuple(normalise_language(code) for code in language or ())
        self._target = normalise_language(target) if target else None
        self._languages = None if languages is None else normalise_languages(languages)
        self._split = split
        self._default_split = default_split
        self._layouts: dict[tuple[str, ...], Layout] = {}
        self._prefix = prefix
        self._ids: dict[str, str] = {} if ids is None else ids
        self._repeated = repeated

    def utterances(self, row: Mapping[str, Any], where: str, name: str) -> list[Utterance]:
        """The utterances of a row: one a recording that is there and wanted.

        Args:
            row: column -> cell.
            where: file and line, for messages.
            name: of the row, unique in the table; ids and meanings come from it where nothing better is there.

        Raises:
            ManifestError: a cell is wrong; it is named.
            UsageError: something that the table doesn't say and the caller didn't either.
        """
        layout = self._layout(row, where)
        split = _text(row, layout.columns.get("split"), where) or self._default_split
        if self._split is not None and split_name(self._split) != split_name(split or ""):
            return []
        given = _text(row, layout.columns.get("id"), where)
        meaning = _text(row, layout.columns.get("meaning"), where)
        if meaning is None and len(layout.tracks) > 1:
            meaning = given or name
        texts = [_text(row, track.columns.get("text"), where) for track in layout.tracks]
        spoken = [self._language(row, layout, n, where) for n in range(len(layout.tracks))]
        made = []
        for n, track in enumerate(layout.tracks):
            cell = row.get(track.columns["audio"])
            id_ = f"{given}/{track.name}" if given and track.name else given
            offset, duration = _stretch(row, track.columns, where)
            if id_ is None:
                id_ = _id(self._prefix, cell, offset, f"{name}/{track.name}" if track.name else name)
            if self._languages is not None and spoken[n] not in self._languages:
                continue
            audio = self._locate(cell, where)
            if isinstance(audio, str):
                self.left.add(audio, f"{where} ({_shown(cell)})")
                continue
            if id_ in self._ids and not self._repeated:
                raise ManifestError(
                    f"{where}: the id {id_!r} stands already in {self._ids[id_]}; give every recording "
                    "an id of its own, in a column id"
                )
            self._ids[id_] = where
            stretch = offset is not None
            made.append(
                Utterance(
                    id=id_,
                    audio=AudioRef(audio.path, offset, duration if stretch else None, audio.member),
                    language=spoken[n],
                    text=texts[n],
                    translations=self._translations(row, layout, where)
                    | {spoken[m]: t for m, t in enumerate(texts) if t is not None and spoken[m] != spoken[n]},
                    meaning=meaning,
                    split=split,
                    speaker=_text(row, track.columns.get("speaker") or layout.columns.get("speaker"), where),
                    gender=(_text(row, track.columns.get("gender"), where) or "").lower() or None,
                    duration=duration,
                )
            )
        return made

    def _layout(self, row: Mapping[str, Any], where: str) -> Layout:
        names = tuple(row)
        if names not in self._layouts:
            layout = self._layouts[names] = layout_of(names, self._columns, where)
            if len(self._spoken) not in (0, 1, len(layout.tracks)):
                raise UsageError(
                    f"language: {len(self._spoken)} for {len(layout.tracks)} recordings a row; give as many"
                )
            if self._split is not None and "split" not in layout.columns and self._default_split is None:
                raise UsageError(f"--split {self._split}: {self.table} has no column split; leave --split out")
        return self._layouts[names]

    def _language(self, row: Mapping[str, Any], layout: Layout, n: int, where: str) -> str:
        track = layout.tracks[n]
        said = _text(row, track.columns.get("language"), where)
        if said is not None:
            return _code(said, where)
        if len(layout.tracks) > 1 and (code := _is_language(track.name)):
            return code
        if self._spoken and len(self._spoken) == len(layout.tracks):
            return self._spoken[n]
        said = _text(row, layout.columns.get("language"), where)
        if said is not None:
            return _code(said, where)
        if self._spoken:
            return self._spoken[0]
        of = f" of audio_{track.name}" if track.name else ""
        raise ManifestError(
            f"{where}: nothing says the language{of}; add a column language, or prepare a manifest with "
            "--option language=CODE (`interlingua corpus prepare`)"
        )

    def _translations(self, row: Mapping[str, Any], layout: Layout, where: str) -> dict[str, str]:
        found = {code: _text(row, column, where) for code, column in layout.translations.items()}
        alone = _text(row, layout.columns.get("translation"), where)
        if alone is not None:
            if self._target is None:
                raise UsageError(
                    f"{where}: the column translation doesn't say its language; call it translation_<language>, or "
                    "prepare a manifest with --option target=CODE (`interlingua corpus prepare`)"
                )
            found[self._target] = alone
        several = row.get(layout.columns.get("translations", ""))
        if isinstance(several, str) and several.strip():
            raise ManifestError(
                f"{where}: translations is no object of languages and texts; call a column translation_<language>"
            )
        if isinstance(several, Mapping):
            found |= {_code(str(code), where): _text(several, code, where) for code in several}
        return {code: text for code, text in found.items() if text is not None}


def _halves(text: str) -> tuple[str, str]:
    ours, sign, theirs = text.partition("=")
    if not sign or not ours.strip() or not theirs.strip():
        raise UsageError(f"columns: {text!r} is not OURS=THEIRS, such as text=sentence")
    return ours.strip(), theirs.strip()


def _suffixes(shared: Mapping[str, str], said: Mapping[str, str], free: Mapping[str, str]) -> list[str]:
    """What tells the recordings of a row apart; none where there is one."""
    always, beside = [], []
    for key in [*said, *free]:
        if key in ALIASES or key in ALIASES["audio"] or (key in free and free[key] == shared.get("audio")):
            continue
        if key.endswith("_file_name") or re.fullmatch(r"audio_\d+", key):
            always.append(key.removesuffix("_file_name").removeprefix("audio_"))
        elif key.startswith("audio_") or key.endswith("_audio"):
            beside.append(key.removeprefix("audio_").removesuffix("_audio"))
    several = [] if "audio" in shared or len(beside) < 2 else beside
    return list(dict.fromkeys([*always, *several]))


def _track(name: str, find: Callable[..., str | None]) -> dict[str, str]:
    found = {}
    for field in _OF_AUDIO:
        also = (field, *ALIASES[field])
        if column := find(*(c for f in also for c in (f"{f}_{name}", f"{name}_{f}"))):
            found[field] = column
    return found


def _is_language(name: str) -> str | None:
    """The language that a column's name says; not ``src`` and ``tgt``, which ISO 639 has, too."""
    try:
        code = normalise_language(name)
    except UsageError:
        return None
    return code if code in WHISPER_LANGUAGES or code in UNSEEN_LANGUAGES else None


def _code(name: str, where: str) -> str:
    try:
        return normalise_language(name)
    except UsageError as e:
        raise ManifestError(f"{where}: {e}") from e


def _text(row: Mapping[str, Any], column: str | None, where: str) -> str | None:
    value = None if column is None else row.get(column)
    if isinstance(value, float) and math.isnan(value):
        return None
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ManifestError(f"{where}: {column} is {type(value).__name__}, not text")
    return str(value)


def _seconds(row: Mapping[str, Any], column: str | None, where: str) -> float | None:
    text = _text(row, column, where)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ManifestError(f"{where}: {column} is {text[:20]!r}; write seconds, such as 1.5")
    return value


def _stretch(row: Mapping[str, Any], columns: Mapping[str, str], where: str) -> tuple[float | None, float | None]:
    """Offset and duration; an offset says that the recording is a stretch of its file."""
    offset, end, duration = (_seconds(row, columns.get(f), where) for f in ("offset", "end", "duration"))
    if end is not None:
        offset = offset or 0.0
        if end <= offset:
            raise ManifestError(
                f"{where}: end {end} s isn't behind {offset} s; write seconds from the file's beginning"
            )
        duration = round(end - offset, 6)
    return offset, duration


def _id(prefix: str, cell: Any, offset: float | None, name: str) -> str:
    path = cell.get("path") if isinstance(cell, Mapping) else cell
    if not isinstance(path, str) or not path.strip() or (isinstance(cell, Mapping) and cell.get("bytes")):
        return name
    return prefix + path.strip() + ("" if offset is None else f"@{offset:g}")


def _shown(cell: Any) -> str:
    shown = cell.get("path") if isinstance(cell, Mapping) else cell
    return str(shown)[:80] if shown else "empty"
