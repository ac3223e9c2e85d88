"""MuST-C (English TED talks, segmented, translated into 8 to 14 languages), and what has its layout.

``ROOT/en-<t>/data/<split>/`` with ``wav/ted_<n>.wav`` and the parallel ``txt/<split>.{en,<t>,yaml}``; the yaml holds a
segment a line (``{duration: 3.5, offset: 16.08, rW: 9, uW: 0, speaker_id: spk.767, wav: ted_767.wav}``). IWSLT's
low-resource tasks have it of other pairs, and without some of the folders above ``<split>`` (``que-spa/train/txt``).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interlingua.audio.archives import refusal
from interlingua.corpora.base import Corpus, Log, Names, Skipped, silent, split_name
from interlingua.corpora.delimited import parallel_lines, seconds
from interlingua.corpora.europarl_st import merged
from interlingua.corpora.layout import folder_name, is_file
from interlingua.errors import CorpusError, UsageError
from interlingua.languages import normalise_language, normalise_languages
from interlingua.types import AudioRef, Utterance

FETCH = (
    "fetch MUSTC_v*_en-<t>.tar.gz after asking at https://mt.fbk.eu/must-c-releases/ and unpack it; ROOT is the folder "
    "that holds en-<t>/data/{train,dev,tst-COMMON,tst-HE}. Of an IWSLT low-resource pair: the folder that holds "
    "<split>/txt/<split>.{yaml,<s>,<t>} and <split>/wav"
)
_TEST = "tst-COMMON"
MOST_FOR_C = 1000  # characters of a line that libyaml reads: a bracket each would do it no harm
_PAIR = re.compile(r"([a-z]{2,3})[-_]([a-z]{2,3})(?![a-z])")


@dataclass(frozen=True)
class _Part:
    """One split of a pair: its folder, and the endings of its texts."""

    folder: Path
    source: str
    target: str

    @property
    def spoken(self) -> str:
        """Our code of the language that is heard."""
        return normalise_language(self.source)

    @property
    def written(self) -> str:
        """Our code of the target."""
        return normalise_language(self.target)

    @property
    def split(self) -> str:
        """Our name of the split."""
        return split_name(self.folder.name)

    def text(self, ending: str) -> Path:
        """One of the parallel files."""
        return self.folder / "txt" / f"{self.folder.name}.{ending}"


def read_mustc(
    root: Path, *, languages: Names = None, split: str | None = None, targets: Names = None, log: Log = silent
) -> Iterator[Utterance]:
    """One utterance a segment, with its translations into ``targets`` (None: all that are there).

    ``root`` may also be one pair's folder. One target is read in constant memory; of several a split's segments are
    held. Which language of a pair is spoken is read from a folder's name (``que-spa``), or is the one in ``languages``.
    """
    spoken = None if languages is None else normalise_languages(languages)
    there = [part for folder in _splits(root) if (part := _part(folder, root, spoken))]
    heard = sorted({part.spoken for part in there})
    if spoken is not None and there and (strange := [code for code in spoken if code not in heard]):
        raise UsageError(
            f"--languages {','.join(strange)}: {root} has speech in {', '.join(heard)}; --option targets= names targets"
        )
    wanted = None if targets is None else normalise_languages(targets)
    chosen = [p for p in there if (spoken is None or p.spoken in spoken) and (wanted is None or p.written in wanted)]
    if not chosen:
        pairs = ", ".join(sorted({f"{p.source}-{p.target}" for p in there}))
        lacking = f"no target {', '.join(targets)} is here, only {pairs}" if targets and there else "no split is here"
        raise CorpusError(f"{root}: {lacking}. {FETCH}")
    names = sorted({part.split for part in chosen})
    requested = _TEST if split == "test" and _TEST in names else split
    if requested is not None and requested not in names:
        raise CorpusError(f"{root}: no split {split} is here, only {', '.join(names)}. {FETCH}")
    for name in names if requested is None else [requested]:
        for code in heard:
            parts = [part for part in chosen if (part.split, part.spoken) == (name, code)]
            skipped = Skipped(f"mustc {code} {name}", log)
            yield from merged([_segments(part, skipped) for part in parts], skipped)
            skipped.report()


CORPUS = Corpus(
    name="mustc",
    title="MuST-C: English TED talks with translations (texts); IWSLT's low-resource pairs, which have its layout",
    read=read_mustc,
    licence="CC-BY-NC-ND 4.0; IWSLT's pairs: each has its own",
    fetch=FETCH,
)


def _splits(root: Path) -> list[Path]:
    """Folders of splits: below ROOT, ``<pair>/`` and ``data/`` in any combination."""
    found = [
        p for level in ("", "*/", "*/*/") for p in root.glob(f"{level}*/txt/*.yaml") if p.stem == p.parent.parent.name
    ]
    return [path.parent.parent for path in sorted(found)]


def _part(folder: Path, root: Path, spoken: tuple[str, ...] | None) -> _Part | None:
    """A split's pair, by a folder's name, else by its two texts; None where it has fewer.

    Raises:
        UsageError: neither a name nor ``spoken`` says which of the two is heard.
    """
    for name in (folder_name(p) for p in (folder.parent, folder.parent.parent, root)):
        if (pair := _PAIR.match(name)) and all(map(_is_language, pair.groups())):
            return _Part(folder, *pair.groups())
    paths = sorted((folder / "txt").glob(f"{folder.name}.*"))
    endings = [path.suffix[1:] for path in paths if _is_language(path.suffix[1:])]
    heard = [ending for ending in endings if normalise_language(ending) in (spoken or ())]
    if len(endings) < 2:
        return None
    if len(endings) > 2 or len(heard) != 1:
        raise UsageError(
            f"{folder}: has texts in {', '.join(endings)}; say which of two is spoken, --languages {endings[0]}"
        )
    return _Part(folder, heard[0], next(ending for ending in endings if ending not in heard))


def _is_language(code: str) -> bool:
    try:
        normalise_language(code)
    except UsageError:
        return False
    return True


def _segments(part: _Part, skipped: Skipped) -> Iterator[Utterance]:
    table, spoken, written = part.text("yaml"), part.spoken, part.written
    there: dict[str, bool] = {}
    texts = parallel_lines(table, part.text(part.source), part.text(part.target))
    for number, (line, text, translation) in enumerate(texts, start=1):
        wav, offset, duration, speaker = _segment(line, f"{table}:{number}")
        audio = part.folder / "wav" / wav
        if wav not in there:
            there[wav] = not refusal(wav) and is_file(audio)
        if not there[wav] or duration <= 0:
            reason = "no audio file" if duration > 0 else "no duration"
            skipped.add(reason, f"{wav} ({part.target} {table.name}:{number})")
            continue
        name = f"{wav.rpartition('.')[0] or wav}_{offset:g}_{duration:g}"
        yield Utterance(
            id=f"{spoken}/{part.split}/{name}",
            audio=AudioRef(str(audio), offset, duration),
            language=spoken,
            text=text or None,
            translations={written: translation} if translation else {},
            meaning=f"{spoken}/{name}",
            split=part.split,
            speaker=speaker,
            duration=duration,
        )


def _segment(line: str, where: str) -> tuple[str, float, float, str | None]:
    """Audio file, offset, duration and speaker of a line of yaml, which is a list of one mapping."""
    import yaml

    try:
        # Strings alone: YAML's own numbers would make 1e-05 a string and 1_0 a ten. C is 8 times as fast; nested deeply
        # it ends the process.
        loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader) if len(line) < MOST_FOR_C else yaml.BaseLoader
        (segment,) = yaml.load(line, Loader=loader)
        wav, offset, duration, speaker = *(segment[k] for k in ("wav", "offset", "duration")), segment.get("speaker_id")
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:
        reason: Any = f"no {e}" if isinstance(e, KeyError) else " ".join(str(e).split())[:100]
        raise CorpusError(f"{where}: {line[:60]!r} is no segment ({reason}); unpack the corpus again") from e
    return wav, seconds(offset, f"{where}: offset"), seconds(duration, f"{where}: duration"), speaker or None
