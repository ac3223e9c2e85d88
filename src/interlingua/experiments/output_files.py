"""Files of systems' outputs: JSON lines with an utterance's id, the text and, where there are several, the target."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from interlingua.errors import OutputsError, UsageError
from interlingua.languages import normalise_language

if TYPE_CHECKING:  # the command line takes `Task` from here, and numpy is slow to import
    from interlingua.types import Utterance

Task = Literal["translate", "transcribe"]


class _Line(msgspec.Struct):
    # Other keys (language, flags, …) are of no concern here.
    id: str
    text: str
    target: str | None = None


@dataclass(frozen=True)
class System:
    """One system: target language -> utterance id -> text. Its outputs in the language spoken are transcripts."""

    name: str
    outputs: Mapping[str, Mapping[str, str]]


def read_systems(
    named: Sequence[str],
    utterances: Mapping[str, "Utterance"],
    *,
    manifest: str | Path,
    to: Sequence[str] = (),
    task: Task | None = None,
) -> list[System]:
    """Read systems' outputs, one file each.

    Args:
        named: paths, or NAME=path; without a name a system is called by its file's stem.
        utterances: by id, all that the manifest holds.
        manifest: for messages.
        to: targets that count, all if empty; a single one is that of lines without a target.
        task: keep transcripts, or translations, only; lines without a target are transcripts if those are asked for.

    Raises:
        UsageError: two systems of one name.
        OutputsError: no such file, no output in it, or a line that is malformed, has an unknown id, repeats an id of
            the same target or needs a target; file and line are named.
    """
    systems: dict[str, System] = {}
    for given in named:
        name, path = _named(given)
        if name in systems:
            raise UsageError(f"two systems are called {name!r}; name one otherwise: NAME={path}")
        systems[name] = _read(name, path, utterances, manifest, to, task)
    return list(systems.values())


def _named(given: str) -> tuple[str, Path]:
    name, separator, path = given.partition("=")
    if separator and name and path and not Path(given).exists():
        return name, Path(path)
    return Path(given).stem, Path(given)


def _read(
    name: str,
    path: Path,
    utterances: Mapping[str, "Utterance"],
    manifest: str | Path,
    to: Sequence[str],
    task: Task | None,
) -> System:
    outputs: dict[str, dict[str, str]] = {}
    seen: dict[tuple[str, str], int] = {}
    try:
        with path.open("rb") as lines:
            for number, raw in enumerate(lines, start=1):
                content = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
                if not content.strip():
                    continue
                where = f"{path}:{number}"
                line = _decode(content, where)
                if line.id not in utterances:
                    raise OutputsError(
                        f"{where}: no utterance {line.id!r} in {manifest}; score outputs against the manifest that "
                        "they were made from"
                    )
                spoken = utterances[line.id].language
                target = _target(line, spoken, where, to, task)
                if (line.id, target) in seen:
                    raise OutputsError(
                        f"{where}: {line.id!r} into {target!r} stands already in line {seen[line.id, target]}; "
                        "leave one of the two"
                    )
                seen[line.id, target] = number
                if (not to or target in to) and (task is None or (task == "transcribe") == (target == spoken)):
                    outputs.setdefault(target, {})[line.id] = line.text
    except OSError as e:
        raise OutputsError(
            f"{path}: no readable file of outputs ({e.strerror}); `interlingua translate --out` writes one"
        ) from e
    if not seen:
        raise OutputsError(f"{path}: holds no outputs; `interlingua translate --out` writes them, one a line")
    return System(name, outputs)


def _decode(content: bytes, where: str) -> _Line:
    try:
        return msgspec.json.decode(content, type=_Line)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise OutputsError(
            f'{where}: {e}; a line is {{"id": …, "text": …}}, with "target" where there are several'
        ) from e


def _target(line: _Line, spoken: str, where: str, to: Sequence[str], task: Task | None) -> str:
    if line.target is not None:
        try:
            return normalise_language(line.target)
        except UsageError as e:
            raise OutputsError(f"{where}: {e}") from e
    if task == "transcribe":
        return spoken
    if len(to) == 1:
        return to[0]
    raise OutputsError(f"{where}: no `target`; name the language of the outputs with --to")
