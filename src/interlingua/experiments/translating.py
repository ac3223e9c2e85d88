"""`interlingua translate`: recordings of every kind in, text or files out, resumable."""

import errno
import json
import mimetypes
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from itertools import chain, count
from pathlib import Path

import msgspec

from interlingua.audio import AudioSource, audio_hash, declared_duration
from interlingua.corpora import read_any
from interlingua.corpora.recordings import audio_files, is_table
from interlingua.errors import AudioError, ResultsError, UsageError
from interlingua.experiments.run import Claim, Origin
from interlingua.files import atomic_file, decode_json, shown, write_text, writing
from interlingua.languages import normalise_languages
from interlingua.progress import track
from interlingua.translation import AUTO, Segment, Translation, Translator
from interlingua.translation.formats import SUFFIXES, Format, render
from interlingua.types import AudioRef

STDIN = "/dev/stdin"
MOST_MEASURED = 200  # recordings whose lengths are looked up for the progress bar
_ROW = b'{"id": "'  # what a line of ours begins with
NAME_BYTES = 240  # of a file name: file systems take 255, of which a temporary file needs 10
NAME_FAULTS = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.ENOTDIR, errno.EISDIR, errno.EEXIST}


@dataclass(frozen=True)
class Recording:
    """One recording; ``name``: of its output files, without suffix, may hold folders; ``id``: in outputs."""

    id: str
    audio: AudioSource
    language: str | None = None
    name: str = ""
    seconds: float | None = None


@dataclass(frozen=True)
class TranslateReport:
    """Counts; ``present``: had their output already; ``failed``: name -> why; ``seconds``: of audio translated now.

    ``phrases``: segments whose text is a phrase's; ``flagged`` counts the others.
    """

    recordings: int
    present: int
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    segments: int = 0
    flagged: dict[str, int] = field(default_factory=dict)
    phrases: int = 0


def find_recordings(inputs: Sequence[str], log: Callable[[str], None] = lambda line: None) -> list[Recording]:
    """The recordings that the command line names.

    ``inputs``: audio files, folders (searched recursively), patterns such as ``talks/*.mp3``, manifests and tables
    (`is_table`, read by `corpora.read_any`), or `STDIN`.

    Raises:
        UsageError: nothing to translate, or two recordings of one id.
        AudioNotFoundError, ManifestError: a missing file, a malformed manifest.
    """
    found: list[Recording] = []
    for given in inputs:
        if given == STDIN:
            found.append(Recording("stdin", sys.stdin.buffer.read(), name="stdin"))
        elif is_table(given):
            found += [Recording(u.id, u.audio, u.language, u.id, u.duration) for u in read_any(given, log=log)]
        else:
            found += [Recording(shown(path), path, name=shown(name)) for path, name in audio_files(given, log)]
    if not found:
        raise UsageError(
            f"{', '.join(inputs) or 'no input'}: no recording in it; name audio files, folders or manifests"
        )
    seen: dict[str, str] = {}
    for r in found:
        where = _where(r.audio) or r.id
        if r.id in seen:
            raise UsageError(f"{where} and {seen[r.id]} would be written to one file, as {r.id}; translate them apart")
        seen[r.id] = where
    return found


def output_formats(out: Path | None, formats: Sequence[Format]) -> Sequence[Format]:
    """The formats to write: that of ``out`` where it is one file, such as ``talk.srt``.

    Raises:
        UsageError: a file of no format of ours, or one beside other formats.
    """
    one = _format(out)
    if one is None or list(formats) == [one]:
        return formats
    if list(formats) != ["text"]:
        raise UsageError(f"{out}: is one file, not {' and '.join(formats)}; name a folder, or leave --format out")
    return [one]


def translate_recordings(
    translator: Translator,
    recordings: Sequence[Recording],
    to: Sequence[str] = ("en",),
    *,
    source: str = AUTO,
    spoken_as: str | None = None,
    out: Path | None = None,
    formats: Sequence[Format] = ("text",),
    done: Callable[[Translation], None] = lambda translation: None,
    news: Callable[[str, str, list[Segment]], None] = lambda name, target, segments: None,
    log: Callable[[str], None] = lambda line: None,
) -> TranslateReport:
    """Translate and write recordings one by one; those with an output are skipped, so an interrupted run resumes.

    Args:
        source: source language; ``auto``: the manifest's, or detected where there is none.
        out: ``NAME.jsonl``: a line for each recording and target, which `interlingua evaluate outputs` reads;
            ``NAME.srt`` and the like: one recording in one target; another name: a folder with a file for each
            recording, target and format. None: nothing is written.
        done: called with each translation.
        news: called with a recording's name, a target and its next segments.

    Raises:
        ResultsError: ``out`` was begun with other settings or recordings, isn't ours, or is being written by another
            process.
    """
    targets = list(normalise_languages(to))
    formats = output_formats(out, formats)
    sources = {r.id: source if r.language is None or source != AUTO else r.language for r in recordings}
    with ExitStack() as stack:
        output = None
        if out is not None:
            writer = _writer(out, formats, targets, len(recordings))
            whisper = translator.engine.whisper
            settings = {
                "model": whisper.model_name,
                "revision": whisper.revision,
                "backend": translator.engine.name,
                **asdict(translator.options),
                "to": targets,
                "from": source,
                "as": spoken_as,
                "formats": list(formats),
                "phrases": translator.phrases.about if translator.phrases else None,
            }
            claimed = stack.enter_context(Claim(out, settings, folder=isinstance(writer, _Folder)))
            output = _Output(out, writer, claimed, recordings, sources, log)
        return _translate(translator, recordings, targets, sources, spoken_as, output, done, news, log)


def _translate(
    translator: Translator,
    recordings: Sequence[Recording],
    targets: Sequence[str],
    sources: Mapping[str, str],
    spoken_as: str | None,
    output: "_Output | None",
    done: Callable[[Translation], None],
    news: Callable[[str, str, list[Segment]], None],
    log: Callable[[str], None],
) -> TranslateReport:
    todo = [r for r in recordings if not (output and output.has(r))]
    failed: dict[str, str] = {}
    flagged: Counter[str] = Counter()
    seconds, segments, phrases = 0.0, 0, 0
    length = _length(todo)
    by_length = length is not None
    with track(len(todo) if length is None else length, f"translating{', seconds' if by_length else ''}") as advance:
        carried = 0.0

        def moved(more: float) -> None:
            nonlocal carried
            carried += more
            if by_length and carried >= 1:
                advance(int(carried))
                carried -= int(carried)

        for translation in translator.translate_all(
            ((r.id, r.audio) for r in (output.hashed(todo) if output else todo)),
            targets,
            source={r.id: sources[r.id] for r in todo},
            spoken_as=spoken_as,
            advance=moved,
            news=news,
            failed=lambda name, error: failed.__setitem__(name, str(error)),
            log=log,
        ):
            try:
                if output:
                    output.write(translation)
            except OSError as error:
                if error.errno not in NAME_FAULTS:
                    raise
                failed[translation.id] = f"{error.filename}: {error.strerror}; write a .jsonl instead"
                continue
            done(translation)
            segments += len(translation.segments)
            phrases += sum(s.phrase is not None for s in translation.segments)
            flagged.update(flag for s in translation.segments if not s.phrase for flag in s.flags)
            if translation.target == targets[0]:
                seconds += translation.duration
                if not by_length:
                    advance(1)
    return TranslateReport(len(recordings), len(recordings) - len(todo), failed, seconds, segments, flagged, phrases)


def _length(recordings: Sequence[Recording]) -> int | None:
    """Seconds of all recordings, from manifest and headers; None if unknown, or too many to look up."""
    if len(recordings) > MOST_MEASURED:
        return None
    total = 0.0
    for r in recordings:
        try:
            seconds = r.seconds if r.seconds is not None else declared_duration(r.audio)  # type: ignore[arg-type]
        except (AudioError, UsageError):  # an array, or an error to be reported at its turn
            seconds = None
        if seconds is None:
            return None
        total += seconds
    return max(1, round(total))


def _where(audio: AudioSource) -> str:
    """The absolute path of a recording's file; "" for bytes and arrays."""
    if isinstance(audio, AudioRef):
        return _where(audio.path) + (f"::{audio.member}" if audio.member else "")
    return shown(os.path.abspath(audio)) if isinstance(audio, str | os.PathLike) else ""  # noqa: PTH100  # not its link's


def _format(out: Path | None) -> Format | None:
    """The format of an ``out`` that is a single file; UsageError if it is none of ours."""
    if out is None or out.is_dir() or out.suffix.lower() == ".jsonl":
        return None
    found = next((f for f, suffix in SUFFIXES.items() if out.suffix.lower() == f".{suffix}"), None)
    if found is None and out.exists():
        raise UsageError(
            f"{out}: is a file; name a folder, or a file that ends in .jsonl, .{', .'.join(SUFFIXES.values())}"
        )
    if found is None and any(mimetypes.MimeTypes().guess_type(out.name)):
        raise UsageError(
            f"{out}: its ending is none of .jsonl, .{', .'.join(SUFFIXES.values())}; name such a file, or a folder"
        )
    return found


def _writer(out: Path, formats: Sequence[Format], targets: Sequence[str], n: int) -> "_Lines | _File | _Folder":
    if _format(out) is not None:
        if n > 1 or len(targets) > 1:
            raise UsageError(
                f"{out}: is one file, for {n} recordings in {', '.join(targets)}; name a folder, or a .jsonl"
            )
        return _File(out, formats[0])
    if out.suffix.lower() == ".jsonl":
        if out.is_dir():
            raise UsageError(f"{out}: is a folder; name a file, or a folder that doesn't end in .jsonl")
        return _Lines(out, targets)
    return _Folder(out, formats, targets)


class _Output:
    """What a writer has written, and for which recordings: a name in it belongs to one, by path and content.

    A recording that was replaced under its path is done anew. Another one of the same name gets another name where the
    writer has one to give.
    """

    def __init__(
        self,
        out: Path,
        writer: "_Lines | _File | _Folder",
        claimed: Claim,
        recordings: Sequence[Recording],
        languages: Mapping[str, str],
        log: Callable[[str], None],
    ) -> None:
        self._out, self._writer, self._claim, self._log = out, writer, claimed, log
        self._languages = languages
        self._recordings = {r.id: r for r in recordings}
        self._paths = {_where(r.audio) for r in recordings}
        self._names: dict[str, str] = {}  # by id
        self._taken: set[str] = set()
        self._origins: dict[str, Origin] = {}  # by id
        writer.begin()

    def has(self, recording: Recording) -> bool:
        """Whether all outputs of the recording as it is now are there; gives it its name.

        Raises:
            ResultsError: another recording has the name.
        """
        where, language = _where(recording.audio), self._languages[recording.id]

        @cache
        def digest() -> str:
            with suppress(AudioError):  # reported when it is translated
                return audio_hash(recording.audio)
            return ""

        held = None
        for name in self._writer.names(recording):
            held = self._claim.made.get(name)
            free = name not in self._taken and not self._writer.any(name) if held is None else False
            if held and name not in self._taken:
                same = held.language == language and held.hash == digest()
                free = bool(where and where == held.audio) or (same and held.audio not in self._paths)
            if free:
                break
        else:
            owner = held.audio if held and held.audio else "another recording"
            raise ResultsError(
                f"{self._out}: its {name} is of {owner}, not of {where or recording.id}; name another --out, or "
                f"delete {self._out}"
            )
        self._taken.add(name)
        self._names[recording.id] = name
        if held is None or not same or not self._writer.all(name):
            return False
        if held.audio != where:  # it was moved
            self._claim.add(msgspec.structs.replace(held, audio=where))
        return True

    def hashed(self, recordings: Sequence[Recording]) -> Iterator[Recording]:
        """The same, each hashed before it is taken."""
        for r in recordings:
            with suppress(AudioError):  # raised again when it is read
                found = audio_hash(r.audio)
                self._origins[r.id] = Origin(self._names[r.id], _where(r.audio), found, self._languages[r.id])
            yield r

    def write(self, translation: Translation) -> None:
        """Write one; what was there of an earlier recording goes first."""
        origin = self._origins[translation.id]
        if self._claim.made.get(origin.name) != origin:
            self._writer.discard(origin.name)
            self._claim.add(origin)
            if isinstance(self._writer, _Folder) and origin.name != self._recordings[translation.id].name:
                self._log(f"{translation.id}: written as {origin.name}: its own name is taken, or too long")
        self._writer.put(origin.name, translation)


class _Lines:
    """A growing JSON-lines file; half a line of a killed run is dropped."""

    def __init__(self, path: Path, targets: Sequence[str]) -> None:
        self._path, self._targets = path, targets
        self._held: set[tuple[str, str]] = set()

    def begin(self) -> None:
        """Read what is there; the file must be claimed."""
        path = self._path
        data = path.read_bytes() if path.exists() else b""
        whole, _, half = data.rpartition(b"\n")
        for number, line in enumerate([*whole.splitlines(), *([half] if half else [])], 1):
            try:
                if line is half and _ROW[: len(half)] == half[: len(_ROW)]:
                    os.truncate(path, len(data) - len(half))
                    continue
                row = decode_json(line)
                self._held.add((row["id"], row["target"]))
            except (msgspec.DecodeError, KeyError, TypeError) as error:
                raise UsageError(f"{path}:{number}: no translation of ours; name another --out") from error

    def names(self, recording: Recording) -> Sequence[str]:
        return [recording.id]

    def any(self, name: str) -> bool:
        return any((name, target) in self._held for target in self._targets)

    def all(self, name: str) -> bool:
        return all((name, target) in self._held for target in self._targets)

    def discard(self, name: str) -> None:
        if self.any(name):
            with atomic_file(self._path) as temporary:
                lines = self._path.read_bytes().splitlines(keepends=True)
                temporary.write_bytes(b"".join(line for line in lines if json.loads(line)["id"] != name))
            self._held -= {(name, target) for target in self._targets}

    def put(self, name: str, translation: Translation) -> None:
        if (name, translation.target) in self._held:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with writing(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(translation.as_dict(), ensure_ascii=False) + "\n")
        self._held.add((name, translation.target))


class _File:
    """One file for one recording, target and format."""

    def __init__(self, path: Path, format: Format) -> None:
        self._path, self._format = path, format

    def begin(self) -> None:
        pass

    def names(self, recording: Recording) -> Sequence[str]:
        return ["text"]

    def any(self, name: str) -> bool:
        return self._path.exists()

    all = any

    def discard(self, name: str) -> None:
        self._path.unlink(missing_ok=True)

    def put(self, name: str, translation: Translation) -> None:
        write_text(self._path, render(translation, self._format))


class _Folder:
    """A file for each recording, target and format: ``NAME.TARGET.SUFFIX``."""

    def __init__(self, folder: Path, formats: Sequence[Format], targets: Sequence[str]) -> None:
        self._folder, self._formats, self._targets = folder, formats, targets
        self._room = NAME_BYTES - max(len(f"-99.{t}.{SUFFIXES[f]}") for t in targets for f in formats)

    def begin(self) -> None:
        pass

    def names(self, recording: Recording) -> Iterator[str]:
        name = "/".join(_cut(part, self._room) for part in recording.name.split("/"))
        for path in self._paths(name):
            if not path.resolve().is_relative_to(self._folder.resolve()):
                raise UsageError(f"{recording.id}: its name leads out of {self._folder}; write a .jsonl instead")
        return chain([name], (f"{name}-{n}" for n in count(2)))

    def any(self, name: str) -> bool:
        return any(path.exists() for path in self._paths(name))

    def all(self, name: str) -> bool:
        return all(path.exists() for path in self._paths(name))

    def discard(self, name: str) -> None:
        for path in self._paths(name):
            path.unlink(missing_ok=True)

    def put(self, name: str, translation: Translation) -> None:
        for format in self._formats:
            write_text(self._path(name, translation.target, format), render(translation, format))

    def _paths(self, name: str) -> list[Path]:
        return [self._path(name, t, f) for t in self._targets for f in self._formats]

    def _path(self, name: str, target: str, format: Format) -> Path:
        return self._folder / f"{name}.{target}.{SUFFIXES[format]}"


def _cut(part: str, size: int) -> str:
    """Part of a path, of at most so many bytes and without what no file may be called."""
    return part.replace("\0", "_").encode("utf-8", "replace")[:size].decode("utf-8", "ignore")
