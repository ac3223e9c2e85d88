"""`interlingua translate`: recordings of every kind in, text or files out, resumable."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from interlingua.audio import AudioSource, declared_duration
from interlingua.corpora import read_any
from interlingua.corpora.recordings import TABLES, audio_files
from interlingua.errors import AudioError, UsageError
from interlingua.experiments.run import claim, whole_lines
from interlingua.files import write_text
from interlingua.languages import normalise_languages
from interlingua.progress import track
from interlingua.translation import AUTO, Segment, Translation, Translator
from interlingua.translation.formats import SUFFIXES, Format, render

STDIN = "/dev/stdin"
MOST_MEASURED = 200  # recordings whose lengths are looked up for the progress bar


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
    """Counts; ``present``: had their output already; ``failed``: name -> why; ``seconds``: of audio translated now."""

    recordings: int
    present: int
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    segments: int = 0
    flagged: dict[str, int] = field(default_factory=dict)


def find_recordings(inputs: Sequence[str], log: Callable[[str], None] = lambda line: None) -> list[Recording]:
    """The recordings that the command line names.

    ``inputs``: audio files, folders (searched recursively), patterns such as ``talks/*.mp3``, manifests and tables
    (`TABLES`; see `corpora.read_any`), or `STDIN`.

    Raises:
        UsageError: nothing to translate, or two recordings of one name.
        AudioNotFoundError, ManifestError: a missing file, a malformed manifest.
    """
    found: list[Recording] = []
    for given in inputs:
        if given == STDIN:
            found.append(Recording("stdin", sys.stdin.buffer.read(), name="stdin"))
        elif given.endswith(TABLES):
            found += [Recording(u.id, u.audio, u.language, u.id, u.duration) for u in read_any(given, log=log)]
        else:
            found += [Recording(str(path), path, name=name) for path, name in audio_files(given)]
    if not found:
        raise UsageError(
            f"{', '.join(inputs) or 'no input'}: no recording in it; name audio files, folders or manifests"
        )
    seen: dict[str, str] = {}
    for r in found:
        if r.name in seen:
            raise UsageError(f"{r.id} and {seen[r.name]} would be written to one file; translate them apart")
        seen[r.name] = r.id
    return found


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
        out: ``NAME.jsonl``: a line for each recording and target, which `interlingua evaluate outputs` reads; another
            name: a folder with a file for each recording, target and format. None: nothing is written.
        done: called with each translation.
        news: called with a recording's name, a target and its next segments.

    Raises:
        ResultsError: ``out`` was begun with other settings.
    """
    targets = list(normalise_languages(to))
    writer = _writer(out, formats, targets)
    if writer and out:
        whisper = translator.engine.whisper
        settings = {
            "model": whisper.model_name,
            "revision": whisper.revision,
            "backend": translator.engine.name,
            "options": repr(translator.options),
            "to": targets,
            "from": source,
            "as": spoken_as,
            "formats": list(formats),
        }
        claim(out, settings)
    todo = [r for r in recordings if not (writer and writer.has(r))]
    by_id = {r.id: r for r in todo}
    sources = {r.id: source if r.language is None or source != AUTO else r.language for r in todo}
    failed: dict[str, str] = {}
    flagged: Counter[str] = Counter()
    seconds, segments = 0.0, 0
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
            [(r.id, r.audio) for r in todo],
            targets,
            source=sources,
            spoken_as=spoken_as,
            advance=moved,
            news=news,
            failed=lambda name, error: failed.__setitem__(name, str(error)),
            log=log,
        ):
            if writer:
                writer.write(by_id[translation.id], translation)
            done(translation)
            segments += len(translation.segments)
            flagged.update(flag for s in translation.segments for flag in s.flags)
            if translation.target == targets[0]:
                seconds += translation.duration
                if not by_length:
                    advance(1)
    return TranslateReport(len(recordings), len(recordings) - len(todo), failed, seconds, segments, flagged)


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


def _writer(out: Path | None, formats: Sequence[Format], targets: Sequence[str]) -> "_Lines | _Folder | None":
    if out is None:
        return None
    if out.suffix == ".jsonl":
        if out.is_dir():
            raise UsageError(f"{out}: is a folder; name a file, or a folder that doesn't end in .jsonl")
        return _Lines(out, targets)
    if out.is_file():
        raise UsageError(f"{out}: is a file; name a folder, or a file that ends in .jsonl")
    return _Folder(out, formats, targets)


class _Lines:
    """A growing JSON-lines file; half a line of a killed run is dropped."""

    def __init__(self, path: Path, targets: Sequence[str]) -> None:
        self._path, self._targets = path, targets
        self._held: set[tuple[str, str]] = set()
        if path.exists():
            for number, line in enumerate(whole_lines(path), 1):
                try:
                    row = json.loads(line)
                    self._held.add((row["id"], row["target"]))
                except (ValueError, KeyError, TypeError) as error:
                    raise UsageError(f"{path}:{number}: no translation of ours; name another --out") from error

    def has(self, recording: Recording) -> bool:
        return all((recording.id, target) in self._held for target in self._targets)

    def write(self, recording: Recording, translation: Translation) -> None:
        if (translation.id, translation.target) in self._held:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(translation.as_dict(), ensure_ascii=False) + "\n")


class _Folder:
    """A file for each recording, target and format: ``NAME.TARGET.SUFFIX``."""

    def __init__(self, folder: Path, formats: Sequence[Format], targets: Sequence[str]) -> None:
        self._folder, self._formats, self._targets = folder, formats, targets

    def has(self, recording: Recording) -> bool:
        return all(self._path(recording, t, f).exists() for t in self._targets for f in self._formats)

    def write(self, recording: Recording, translation: Translation) -> None:
        for format in self._formats:
            write_text(self._path(recording, translation.target, format), render(translation, format))

    def _path(self, recording: Recording, target: str, format: Format) -> Path:
        path = self._folder / f"{recording.name}.{target}.{SUFFIXES[format]}"
        if not path.resolve().is_relative_to(self._folder.resolve()):
            raise UsageError(f"{recording.id}: its name leads out of {self._folder}; write a .jsonl instead")
        return path
