"""MuST-C: English TED talks, segmented, translated into 8 (v1) to 14 languages.

``ROOT/en-<t>/data/<split>/`` with ``wav/ted_<n>.wav`` and the parallel ``txt/<split>.{en,<t>,yaml}``; the yaml holds a
segment a line (``{duration: 3.5, offset: 16.08, rW: 9, uW: 0, speaker_id: spk.767, wav: ted_767.wav}``).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from interlingua.audio.archives import refusal
from interlingua.corpora.base import Corpus, Log, Names, Skipped, silent
from interlingua.corpora.delimited import parallel_lines, seconds
from interlingua.corpora.europarl_st import merged
from interlingua.errors import CorpusError, UsageError
from interlingua.languages import normalise_language, normalise_languages
from interlingua.types import AudioRef, Utterance

FETCH = (
    "fetch MUSTC_v*_en-<t>.tar.gz after asking at https://mt.fbk.eu/must-c-releases/ and unpack it; ROOT is the folder "
    "that holds en-<t>/data/{train,dev,tst-COMMON,tst-HE}"
)


def read_mustc(
    root: Path, *, languages: Names = None, split: str | None = None, targets: Names = None, log: Log = silent
) -> Iterator[Utterance]:
    """One utterance a segment, with its translations into ``targets`` (None: all that are there).

    ``root`` may also be one ``en-<t>``. One target is read in constant memory; of several a split's segments are held.
    """
    if languages is not None and normalise_languages(languages) != ("en",):
        raise UsageError(f"--languages {','.join(languages)}: MuST-C's speech is English; its targets are an option")
    wanted = None if targets is None else normalise_languages(targets)
    folders = [root] if root.name.startswith("en-") else sorted(root.glob("en-*"))
    there = {p: normalise_language(p.name.removeprefix("en-")) for p in folders if (p / "data").is_dir()}
    chosen = {p: code for p, code in there.items() if wanted is None or code in wanted}
    if not chosen:
        has = f"only {', '.join(p.name for p in there)}" if there else "not one en-<t>/data"
        lacking = f"target {', '.join(targets)}" if targets and there else "folder of a target"
        raise CorpusError(f"{root}: no {lacking} is here, {has}. {FETCH}")
    names = sorted({p.name for folder in chosen for p in (folder / "data").iterdir() if _tables(p)})
    requested = None if split is None else "tst-COMMON" if split == "test" else split
    if not names or (requested is not None and requested not in names):
        has = f", only {', '.join(names)}" if names else ""
        raise CorpusError(f"{root}: no split{f' {split}' if split else ''} is here{has}. {FETCH}")
    for name in names if requested is None else [requested]:
        skipped = Skipped(f"mustc {name}", log)
        parts = [
            _segments(folder / "data" / name, folder.name.removeprefix("en-"), code, skipped)
            for folder, code in chosen.items()
            if _tables(folder / "data" / name)
        ]
        yield from merged(parts, skipped)
        skipped.report()


CORPUS = Corpus(
    name="mustc",
    title="MuST-C: English TED talks with translations (texts)",
    read=read_mustc,
    licence="CC-BY-NC-ND 4.0",
    fetch=FETCH,
)


def _tables(folder: Path) -> bool:
    return (folder / "txt" / f"{folder.name}.yaml").is_file()


def _segments(folder: Path, target: str, code: str, skipped: Skipped) -> Iterator[Utterance]:
    split = folder.name
    table = folder / "txt" / f"{split}.yaml"
    there: dict[str, bool] = {}
    texts = parallel_lines(table, folder / "txt" / f"{split}.en", folder / "txt" / f"{split}.{target}")
    for number, (line, text, translation) in enumerate(texts, start=1):
        wav, offset, duration, speaker = _segment(line, f"{table}:{number}")
        if wav not in there:
            there[wav] = not refusal(wav) and (folder / "wav" / wav).is_file()
        if not there[wav] or duration <= 0:
            skipped.add("no audio file" if duration > 0 else "no duration", f"{wav} ({target} {table.name}:{number})")
            continue
        name = f"{wav.rpartition('.')[0] or wav}_{offset:g}_{duration:g}"
        yield Utterance(
            id=f"en/{split}/{name}",
            audio=AudioRef(str(folder / "wav" / wav), offset, duration),
            language="en",
            text=text or None,
            translations={code: translation} if translation else {},
            meaning=f"en/{name}",
            split=split,
            speaker=speaker,
            duration=duration,
        )


def _segment(line: str, where: str) -> tuple[str, float, float, str | None]:
    """Audio file, offset, duration and speaker of a line of yaml, which is a list of one mapping."""
    import yaml

    try:
        # Strings alone: YAML's own numbers would make 1e-05 a string and 1_0 a ten.
        (segment,) = yaml.load(line, Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader))  # C: 8 times as fast
        wav, offset, duration, speaker = *(segment[k] for k in ("wav", "offset", "duration")), segment.get("speaker_id")
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError) as e:
        reason: Any = f"no {e}" if isinstance(e, KeyError) else " ".join(str(e).split())[:100]
        raise CorpusError(f"{where}: {line[:60]!r} is no segment ({reason}); unpack the corpus again") from e
    return wav, seconds(offset, f"{where}: offset"), seconds(duration, f"{where}: duration"), speaker or None
