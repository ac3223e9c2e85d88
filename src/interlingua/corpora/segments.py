"""Speech translation corpora that lay out a talk's segments once for each target language: their lines, and merging."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from interlingua.corpora.leftovers import LeftOut
from interlingua.errors import CorpusError
from interlingua.types import Utterance


def seconds(written: str) -> float:
    """A place in a recording.

    Raises:
        ValueError: no number, a negative one, or none that a clock shows (``nan``, ``inf``).
    """
    value = float(written)
    if not 0 <= value < math.inf:
        raise ValueError(f"{written} is no place in a recording")
    return value


def text_lines(path: Path) -> Iterator[str]:
    r"""Lines of a text that runs parallel to others: only \n and \r\n end a line (U+2028 within one doesn't).

    Raises:
        CorpusError: the file isn't there or isn't UTF-8.
    """
    number = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                yield line.decode("utf-8").removesuffix("\n").removesuffix("\r").strip()
    except UnicodeDecodeError as e:
        raise CorpusError(f"{path}:{number}: not UTF-8; unpack the corpus again") from e
    except OSError as e:
        raise CorpusError(f"{path}: can't be read ({e.strerror}); unpack the corpus again") from e


def parallel_lines(*paths: Path) -> Iterator[tuple[str, ...]]:
    """Lines of texts that run parallel, in constant memory; empty lines are lines, but not at a text's end.

    Raises:
        CorpusError: one of them is longer than another, so that no line can be trusted.
    """
    texts = [text_lines(path) for path in paths]
    number = 0
    while True:
        lines = [next(text, None) for text in texts]
        held = [line for line in lines if line is not None]
        number += 1
        if len(held) == len(lines):
            yield tuple(held)
            continue
        for text, line in zip(texts, lines, strict=True):
            if line or any(text):
                short = next(p.name for p, other in zip(paths, lines, strict=True) if other is None)
                raise CorpusError(
                    f"{paths[0].parent}: {short} ends before line {number} of the others; unpack it again"
                )
        return


def merged(parts: Iterable[Iterator[Utterance]], left: LeftOut) -> Iterator[Utterance]:
    """One utterance a segment, with the translations of all its targets; the first target's order comes first.

    One part passes through in constant memory; of several all are held.

    Args:
        parts: the segments of each target.
        left: counts transcripts that differ from the first target's, which is kept.
    """
    parts = list(parts)
    if len(parts) == 1:
        yield from parts[0]
        return
    held: dict[str, Utterance] = {}
    for part in parts:
        for utterance in part:
            first = held.setdefault(utterance.id, utterance)
            if first is utterance:
                continue
            if first.text and utterance.text and first.text != utterance.text:
                left.add("another target's transcript, which differs from the first's", utterance.id)
            held[utterance.id] = msgspec.structs.replace(
                first,
                text=first.text or utterance.text,
                translations=utterance.translations | first.translations,
                speaker=first.speaker or utterance.speaker,
            )
    yield from held.values()
