"""Manifests of our own: JSON lines of utterances, audio paths relative to the manifest's folder."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from interlingua.audio.archives import refusal
from interlingua.corpora.delimited import read_lines
from interlingua.errors import ManifestError, UsageError
from interlingua.files import atomic_file
from interlingua.languages import normalise_language
from interlingua.types import AudioRef, Utterance

_decoder = msgspec.json.Decoder(Utterance)
_encoder = msgspec.json.Encoder()


def iter_manifest(path: str | Path, *, repeated: bool = False) -> Iterator[Utterance]:
    """Yield the utterances of a manifest one by one, in constant memory but for the ids.

    Audio paths come back absolute: relative ones are taken from the manifest's folder.

    Args:
        path: the manifest.
        repeated: let an id stand twice, for those who look for what is wrong.

    Raises:
        ManifestError: no such file, or a line that is not an utterance; file and line are named.
    """
    path = Path(path)
    folder = path.parent.resolve()
    seen: dict[str, int] = {}
    for number, line in read_lines(path):
        if not line.strip():
            continue
        utterance = _decode(line, f"{path}:{number}")
        if utterance.id in seen and not repeated:
            raise ManifestError(
                f"{path}:{number}: id {utterance.id!r} stands already in line {seen[utterance.id]}; "
                "give every recording an id of its own"
            )
        seen[utterance.id] = number
        yield msgspec.structs.replace(utterance, audio=_absolute(utterance.audio, folder))
    if not seen:
        raise ManifestError(f"{path}: the manifest is empty")


def write_manifest(path: str | Path, utterances: Iterable[Utterance]) -> int:
    """Write a manifest (temporary file, then rename) and return the number of lines.

    Audio paths below the manifest's folder are stored relative to it, others absolute.
    """
    path = Path(path)
    folder = Path(os.path.abspath(path.parent))  # noqa: PTH100  # links are kept: resolve() would follow them
    count = 0
    with atomic_file(path) as temporary, temporary.open("wb") as out:
        for utterance in utterances:
            out.write(_encoder.encode(msgspec.structs.replace(utterance, audio=_relative(utterance.audio, folder))))
            out.write(b"\n")
            count += 1
    return count


def _decode(line: str, where: str) -> Utterance:
    try:
        utterance = _decoder.decode(line)
        language = normalise_language(utterance.language)
        translations = {normalise_language(code): text for code, text in utterance.translations.items()}
    except (msgspec.DecodeError, UsageError) as e:
        raise ManifestError(f"{where}: {e}") from e
    for field, value in (("id", utterance.id), ("audio.path", utterance.audio.path)):
        if not value:
            raise ManifestError(f"{where}: `{field}` is empty")
    problem = None if utterance.audio.member is None else refusal(utterance.audio.member)
    if problem:
        raise ManifestError(f"{where}: `audio.member` {utterance.audio.member!r} {problem}")
    audio = utterance.audio
    for field, seconds in (
        ("audio.offset", audio.offset),
        ("audio.duration", audio.duration),
        ("duration", utterance.duration),
    ):
        if seconds is not None and seconds < 0:
            raise ManifestError(f"{where}: `{field}` is {seconds} s; it can't be negative")
    return msgspec.structs.replace(utterance, language=language, translations=translations)


def _absolute(audio: AudioRef, folder: Path) -> AudioRef:
    return msgspec.structs.replace(audio, path=str(folder / audio.path))


def _relative(audio: AudioRef, folder: Path) -> AudioRef:
    absolute = Path(os.path.abspath(audio.path))  # noqa: PTH100
    for base in (folder, folder.resolve()):
        if absolute.is_relative_to(base):
            return msgspec.structs.replace(audio, path=str(absolute.relative_to(base)))
    return msgspec.structs.replace(audio, path=str(absolute))
