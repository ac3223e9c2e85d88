"""Users' own tables and pairs: which column holds what, and the utterances of a row.

Columns, of which only the first is needed (aliases in `ALIASES`)::

    audio             a path, relative to the table's folder
    text, language, speaker, gender
    translation_<language>, or translation with the option ``target``
    id, meaning, split
    offset (or start), end, duration    seconds: a stretch of a longer file

Several recordings of one meaning have columns ``audio_<x>``, ``<x>_audio`` or ``<x>_file_name``, and texts, languages
and speakers ``text_<x>`` or ``<x>_text``, and so on. ``<x>`` may be the language itself.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interlingua.corpora.base import Corpus, Log, Names, Skipped, silent, split_name
from interlingua.corpora.delimited import Row, read_rows, seconds
from interlingua.corpora.layout import NO_FILE, clip_path, is_file
from interlingua.errors import ManifestError, UsageError
from interlingua.languages import UNSEEN_LANGUAGES, WHISPER_LANGUAGES, normalise_language, normalise_languages
from interlingua.types import AudioRef, Utterance

Locate = Callable[[Any, str], AudioRef | str]
"""(cell, position in the table) -> the audio, or the reason why it can't be used."""

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
"""Our name of a column -> its other names."""

_FETCH = "ROOT is the table itself: .csv, .tsv or .jsonl with"
_OF_AUDIO = ("audio", "text", "language", "speaker", "gender", "offset", "end", "duration")


def read_own_table(
    root: Path,
    *,
    languages: Names = None,
    split: str | None = None,
    columns: Columns | None = None,
    language: Names = None,
    target: str | None = None,
    keep_missing: bool = False,
    repeated: bool = False,
    log: Log = silent,
) -> Iterator[Utterance]:
    """Utterances of a table or of JSON lines, in its order and in constant memory but for ids.

    ``audio_en,audio_fr``, or ``audio,audio`` with ``language,language``, are two utterances a row that share a meaning,
    which is named after the line unless a column names it.

    Args:
        columns: our name of a column -> the table's, where they differ (``text=sentence``).
        language: the source language, where no column has it; one code, or one for each recording of a row.
        target: the language of the column ``translation``.
        keep_missing: keep recordings whose file doesn't exist.
        repeated: allow repeated ids.
    """
    skipped = Skipped(root.name, log)

    def locate(cell: Any, where: str) -> AudioRef | str:
        if isinstance(cell, Mapping):
            cell = cell.get("path")
        if not isinstance(cell, str) or not cell.strip():
            return NO_FILE
        path = clip_path(root.parent, cell.strip(), where)
        return AudioRef(str(path)) if keep_missing or is_file(path) else NO_FILE

    rows = Rows(
        table=str(root),
        locate=locate,
        skipped=skipped,
        columns=columns,
        language=language,
        target=target,
        languages=languages,
        split=split,
        repeated=repeated,
        own=True,
    )
    empty = True
    for number, row in read_rows(root):
        empty = False
        yield from rows.utterances(row, f"{root}:{number}", f"{root.name}:{number}")
    skipped.report()
    if empty:
        raise ManifestError(f"{root}: no rows below the header; write one a recording")


PLAIN = Corpus(
    name="plain",
    title="your own table: CSV, TSV or JSON lines",
    read=read_own_table,
    licence="yours",
    fetch=f"{_FETCH} the columns audio, language, text, translation_<language>",
)
PAIRS = Corpus(
    name="pairs",
    title="your own table of pairs: a recording and a text, or two recordings",
    read=read_own_table,
    licence="yours",
    fetch=f"{_FETCH} audio,text,language or audio_<language>,audio_<language>",
)


# --- which column holds what -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Track:
    """One recording of a row: the part of the names that sets its columns apart (or empty), and field -> column."""

    name: str
    columns: Mapping[str, str]


@dataclass(frozen=True)
class Layout:
    """Which column holds what: recordings, field -> shared column, target language -> translation column."""

    tracks: tuple[Track, ...]
    columns: Mapping[str, str]
    translations: Mapping[str, str]

    @property
    def known(self) -> set[str]:
        """The table's columns that hold something of ours."""
        tracks = (column for track in self.tracks for column in track.columns.values())
        return {*tracks, *self.columns.values(), *self.translations.values()}


def parse_columns(columns: Columns | None) -> dict[str, str]:
    """Our name of a column -> the table's; UsageError if not ``ours=theirs``, or an unknown name of ours."""
    if not isinstance(columns, Mapping):
        columns = dict(_halves(text) for text in columns or ())
    for ours in columns:
        if not any(ours == f or ours.startswith(f"{f}_") for f in ALIASES):
            raise UsageError(f"columns: {ours!r} is no column; use {', '.join(ALIASES)}, or translation_<language>")
    return dict(columns)


def _halves(text: str) -> tuple[str, str]:
    ours, sign, theirs = text.partition("=")
    if not sign or not ours.strip() or not theirs.strip():
        raise UsageError(f"columns: {text!r} is not OURS=THEIRS, such as text=sentence")
    return ours.strip(), theirs.strip()


def layout_of(names: Sequence[str], columns: Mapping[str, str], where: str) -> Layout:
    """The layout of a table by its columns' names, case ignored; ``where`` names the table in messages.

    UsageError if a column in ``columns`` is missing; ManifestError without audio or with an unknown language.
    """
    held = {name.strip().lower(): name for name in names}
    given: dict[str, str] = {}
    for ours, theirs in columns.items():
        if theirs.strip().lower() not in held:
            raise UsageError(f"{where}: no column {theirs!r} (for {ours}); it has {', '.join(names)[:200]}")
        given[ours] = held[theirs.strip().lower()]
    free = {key: name for key, name in held.items() if name not in given.values()}

    def find(*fields: str) -> str | None:
        return next((given[f] for f in fields if f in given), None) or next(
            (free[f] for f in fields if f in free), None
        )

    shared = {ours: column for ours, also in ALIASES.items() if (column := find(ours, *also))}
    tracks = [Track(name, _track(name, find)) for name in _suffixes(shared, given, free)]
    sole = Track("", {f: shared[f] for f in _OF_AUDIO if f in shared})
    if "audio" in shared:
        tracks = [Track("1", sole.columns), *tracks] if tracks else [sole]
    if not tracks:
        raise ManifestError(f"{where}: no column with audio among {', '.join(names)[:200]}; call it audio, or name it")
    translations: dict[str, str] = {}
    for name in [*given, *free]:
        if name.startswith("translation_"):
            translations[_code(name.removeprefix("translation_"), where)] = given.get(name) or free[name]
    common = {f: c for f, c in shared.items() if len(tracks) == 1 or f not in _OF_AUDIO or f in ("language", "speaker")}
    return Layout(tuple(tracks), common, translations)


def _suffixes(shared: Mapping[str, str], given: Mapping[str, str], free: Mapping[str, str]) -> list[str]:
    always, doubtful = [], []
    for key in [*given, *free]:
        if key in ALIASES or key in ALIASES["audio"] or (key in free and free[key] == shared.get("audio")):
            continue
        if key.endswith("_file_name") or re.fullmatch(r"audio_\d+", key):
            always.append(key.removesuffix("_file_name").removeprefix("audio_"))
        elif key.startswith("audio_") or key.endswith("_audio"):
            doubtful.append(key.removeprefix("audio_").removesuffix("_audio"))
    several = [] if "audio" in shared or len(doubtful) < 2 else doubtful
    return list(dict.fromkeys([*always, *several]))


def _track(name: str, find: Callable[..., str | None]) -> dict[str, str]:
    found = {}
    for of in _OF_AUDIO:
        also = (of, *ALIASES[of])
        if column := find(*(c for f in also for c in (f"{f}_{name}", f"{name}_{f}"))):
            found[of] = column
    return found


# --- the utterances of a row -----------------------------------------------------------------------------


@dataclass(kw_only=True)
class Rows:
    """Makes the utterances of one table; options as in `read_own_table`.

    ``prefix`` begins ids made from audio paths; ``own``: other columns become the utterance's ``extra``; ``ids``
    (id -> position) is shared by the tables of one data set.
    """

    table: str
    locate: Locate
    skipped: Skipped
    columns: Columns | None = None
    language: Names = None
    target: str | None = None
    languages: Names = None
    split: str | None = None
    default_split: str | None = None
    prefix: str = ""
    own: bool = False
    ids: dict[str, str] = field(default_factory=dict)
    repeated: bool = False

    def __post_init__(self) -> None:
        self._columns = parse_columns(self.columns)
        self._spoken = tuple(normalise_language(code) for code in self.language or ())
        self._target = normalise_language(self.target) if self.target else None
        self._languages = None if self.languages is None else normalise_languages(self.languages)
        self._layouts: dict[tuple[str, ...], Layout] = {}

    def utterances(self, row: Row, where: str, name: str) -> list[Utterance]:
        """The utterances of a row: one for each recording that exists and is wanted.

        ``where`` is file and line, for messages; the unique ``name`` is the source of ids and meanings without columns.
        """
        layout = self._layout(row, where)
        split = _text(row, layout.columns.get("split"), where) or self.default_split
        if self.split is not None and self.split != split_name(split or ""):
            return []
        given = _text(row, layout.columns.get("id"), where)
        meaning = _text(row, layout.columns.get("meaning"), where)
        if meaning is None and len(layout.tracks) > 1:
            meaning = given or name
        texts = [_text(row, track.columns.get("text"), where) for track in layout.tracks]
        spoken = [self._language(row, layout, n, where) for n in range(len(layout.tracks))]
        extra = {}
        if self.own:
            known = layout.known
            cells = {c: row[c] for c in row if c not in known and isinstance(row[c], str | int | float)}
            extra = {c: str(cell).strip() for c, cell in cells.items() if str(cell).strip()}
        made = []
        for n, track in enumerate(layout.tracks):
            cell = row.get(track.columns["audio"])
            offset, duration = _stretch(row, track.columns, where)
            if given:
                id_ = f"{given}/{track.name}" if track.name else given
            else:
                id_ = _id(self.prefix, cell, offset, f"{name}/{track.name}" if track.name else name)
            if self._languages is not None and spoken[n] not in self._languages:
                continue
            audio = self.locate(cell, where)
            if isinstance(audio, str):
                self.skipped.add(audio, f"{where} ({_shown(cell)})")
                continue
            if id_ in self.ids and not self.repeated:
                raise ManifestError(
                    f"{where}: the id {id_!r} stands already in {self.ids[id_]}; give every recording "
                    "an id of its own, in a column id"
                )
            self.ids[id_] = where
            made.append(
                Utterance(
                    id=id_,
                    audio=AudioRef(audio.path, offset, None if offset is None else duration, audio.member),
                    language=spoken[n],
                    text=texts[n],
                    translations=self._translations(row, layout, where)
                    | {spoken[m]: t for m, t in enumerate(texts) if t is not None and spoken[m] != spoken[n]},
                    meaning=meaning,
                    split=split,
                    speaker=_text(row, track.columns.get("speaker") or layout.columns.get("speaker"), where),
                    gender=(_text(row, track.columns.get("gender"), where) or "").lower() or None,
                    duration=duration,
                    extra=extra,
                )
            )
        return made

    def _layout(self, row: Row, where: str) -> Layout:
        names = tuple(row)
        if names not in self._layouts:
            layout = self._layouts[names] = layout_of(names, self._columns, where)
            if len(self._spoken) not in (0, 1, len(layout.tracks)):
                raise UsageError(
                    f"language: {len(self._spoken)} for {len(layout.tracks)} recordings a row; give as many"
                )
            if self.split is not None and "split" not in layout.columns and self.default_split is None:
                raise UsageError(f"--split {self.split}: {self.table} has no column split; omit --split")
        return self._layouts[names]

    def _language(self, row: Row, layout: Layout, n: int, where: str) -> str:
        track = layout.tracks[n]
        written = _spoken(row, track.columns.get("language"), where)
        if written is not None:
            return _code(written, where)
        if len(layout.tracks) > 1 and (code := _is_language(track.name)):
            return code
        if self._spoken and len(self._spoken) == len(layout.tracks):
            return self._spoken[n]
        written = _spoken(row, layout.columns.get("language"), where)
        if written is not None:
            return _code(written, where)
        if self._spoken:
            return self._spoken[0]
        of = f" of audio_{track.name}" if track.name else ""
        raise ManifestError(
            f"{where}: nothing says the language{of}; add a column language, or prepare a manifest with "
            "--option language=CODE (`interlingua corpus prepare`)"
            + ("; the cell nan counts as empty, Min Nan is nan-TW" if "nan" in map(_lower, row.values()) else "")
        )

    def _translations(self, row: Row, layout: Layout, where: str) -> dict[str, str]:
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


def _is_language(name: str) -> str | None:
    """The language of a column's name; not ``src`` and ``tgt``, which are also codes of ISO 639."""
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


def _text(row: Row, column: str | None, where: str) -> str | None:
    value = None if column is None else row.get(column)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ManifestError(f"{where}: {column} is {type(value).__name__}, not text")
    return str(value)


def _spoken(row: Row, column: str | None, where: str) -> str | None:
    """A cell that names a language; ``nan`` is what empty cells become in pandas."""
    written = _text(row, column, where)
    return None if _lower(written) == "nan" else written


def _lower(cell: object) -> str:
    return str(cell).strip().lower()


def _stretch(row: Row, columns: Mapping[str, str], where: str) -> tuple[float | None, float | None]:
    """Offset and duration; with an offset the recording is a stretch of its file."""

    def of(ours: str) -> float | None:
        text = _text(row, columns.get(ours), where)
        return None if text is None else seconds(text, f"{where}: {columns[ours]}")

    offset, end, duration = of("offset"), of("end"), of("duration")
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
