"""Europarl-ST 1.1: speeches of the European Parliament in nine languages, segmented, translated into the eight others.

``ROOT/<src>/audios/<speech>.m4a`` and ``ROOT/<src>/<tgt>/<split>/`` with ``segments.lst`` (speech, start and end in
seconds), the parallel ``segments.<src>`` and ``segments.<tgt>``, and ``speeches.lst`` with the parallel
``speakers.lst``, whose lines are SPEECHES, not segments.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from interlingua.corpora.base import Corpus, Log, Names, Skipped, silent
from interlingua.corpora.delimited import parallel_lines, read_lines, seconds
from interlingua.corpora.layout import NO_FILE, folder_name, language_folders, with_ending
from interlingua.errors import CorpusError, UsageError
from interlingua.languages import normalise_language, normalise_languages
from interlingua.types import AudioRef, Utterance

FETCH = (
    "fetch v1.1.tar.gz (20 GB) from https://www.mllp.upv.es/europarl-st/ and unpack it; ROOT is the folder that holds "
    "<src>/audios and <src>/<tgt>/{train,dev,test}"
)
NOISY = "train-noisy"
_ENDINGS = (".m4a", ".wav", ".flac")  # other tools need converted audio


def read_europarl_st(
    root: Path, *, languages: Names = None, split: str | None = None, targets: Names = None, log: Log = silent
) -> Iterator[Utterance]:
    """One utterance a segment with translations into ``targets`` (None: all); ``split`` None: all but train-noisy."""
    wanted = None if targets is None else normalise_languages(targets)
    found = 0
    for folder, spoken in language_folders(root, languages, lambda p: (p / "audios").is_dir(), FETCH):
        below = {p: normalise_language(p.name) for p in sorted(folder.iterdir()) if _is_target(p)}
        chosen = {p: code for p, code in below.items() if wanted is None or code in wanted}
        if not chosen:
            has = ", ".join(p.name for p in below)
            requested = f"target {', '.join(targets)} is here, only {has}" if targets and has else "target is here"
            raise CorpusError(f"{folder}: no {requested}. {FETCH}")
        there = sorted({p.parent.name for target in chosen for p in target.glob("*/segments.lst")})
        if split is None and NOISY in there:
            log(f"europarl_st {spoken}: skipped {NOISY}, whose translations were judged bad; --split {NOISY} reads it")
        for name in [s for s in there if s == split or (split is None and s != NOISY)]:
            found += 1
            skipped = Skipped(f"europarl_st {spoken} {name}", log)
            parts = [
                _segments(folder, target, code, spoken, name, skipped)
                for target, code in chosen.items()
                if (target / name / "segments.lst").is_file()
            ]
            yield from merged(parts, skipped)
            skipped.report()
    if not found:
        raise CorpusError(f"{root}: no split{f' {split}' if split else ''} with a segments.lst is here. {FETCH}")


CORPUS = Corpus(
    name="europarl-st",
    title="Europarl-ST: speeches of the European Parliament in nine languages, with translations (texts)",
    read=read_europarl_st,
    licence="CC-BY-NC 4.0",
    fetch=FETCH,
)


def _is_target(folder: Path) -> bool:
    if not any(folder.glob("*/segments.lst")):
        return False
    try:
        normalise_language(folder.name)
    except UsageError:
        return False
    return True


def _segments(source: Path, target: Path, code: str, spoken: str, split: str, skipped: Skipped) -> Iterator[Utterance]:
    folder = target / split
    speakers = _speakers(folder)
    files: dict[str, Path | None] = {}
    texts = parallel_lines(
        folder / "segments.lst", folder / f"segments.{folder_name(source)}", folder / f"segments.{target.name}"
    )
    for number, (segment, text, translation) in enumerate(texts, start=1):
        where = f"{folder / 'segments.lst'}:{number}"
        try:
            speech, start_text, end_text = segment.split()
        except ValueError:
            raise CorpusError(
                f"{where}: {segment[:80]!r} isn't a speech, a start and an end; unpack it again"
            ) from None
        start, end = seconds(start_text, f"{where}: start"), seconds(end_text, f"{where}: end")
        if end <= start:
            skipped.add("it ends before it begins", f"{target.name}/{split}/segments.lst:{number}")
            continue
        if speech not in files:
            files[speech] = with_ending(source / "audios", speech, _ENDINGS)
        path = files[speech]
        if path is None:
            skipped.add(NO_FILE, f"{speech} ({target.name}/{split}/segments.lst:{number})")
            continue
        name = "_".join(segment.split())
        duration = round(end - start, 6)
        yield Utterance(
            id=f"{spoken}/{split}/{name}",
            audio=AudioRef(str(path), start, duration),
            language=spoken,
            text=text or None,
            translations={code: translation} if translation else {},
            meaning=f"{spoken}/{name}",
            split=split,
            speaker=speakers.get(speech),
            duration=duration,
        )


def _speakers(folder: Path) -> dict[str, str]:
    speeches, speakers = folder / "speeches.lst", folder / "speakers.lst"
    if not (speeches.is_file() and speakers.is_file()):
        return {}
    lines = [[line.strip() for _, line in read_lines(path)] for path in (speeches, speakers)]
    if len(lines[0]) != len(lines[1]):
        raise CorpusError(
            f"{folder}: speeches.lst has {len(lines[0])} lines, speakers.lst {len(lines[1])}; unpack it again"
        )
    return {speech: speaker for speech, speaker in zip(*lines, strict=True) if speaker}


def merged(parts: Iterable[Iterator[Utterance]], skipped: Skipped) -> Iterator[Utterance]:
    """One utterance a segment, with the translations of all targets; the first target's order comes first.

    One part is read in constant memory; several are held. Transcripts that differ from the first target's are counted.
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
                skipped.add("another target's transcript, which differs from the first's", utterance.id)
            held[utterance.id] = msgspec.structs.replace(
                first,
                text=first.text or utterance.text,
                translations=utterance.translations | first.translations,
                speaker=first.speaker or utterance.speaker,
            )
    yield from held.values()
