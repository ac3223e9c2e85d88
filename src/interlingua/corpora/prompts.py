"""The prompts corpus: real human speech, n-way parallel in en, es, fr, it and ru, with transcripts.

Recordings: Asterisk core sounds 1.6.1 (16 kHz G.722; CC-BY-SA 3.0, ru and it CC-BY 3.0), from the Debian packages
``asterisk-core-sounds-<l>-g722`` (audio) and ``asterisk-core-sounds-<l>`` (transcripts) where apt exists, else from the
upstream archives; each file is verified against the committed ``data/prompts_sha256.txt``.

`RULES` selects the prompts. Silences are skipped: ten prompts are plain silence of the same length in every language,
and would count as perfect retrieval. Near-duplicate transcripts in any language share ``Utterance.cluster``.
"""

import gzip
import http.client
import re
import shutil
import tarfile
import tempfile
import urllib.request
import zlib
from importlib.resources import files
from pathlib import Path

import msgspec

from interlingua.corpora.base import Corpus, Log, Names, silent
from interlingua.corpora.prepare import cluster_meanings
from interlingua.errors import CorpusError, FetchError, HashMismatchError
from interlingua.fetch import run
from interlingua.files import atomic_folder, cache_dir, sha256_file
from interlingua.languages import normalise_languages
from interlingua.types import AudioRef, Utterance

VERSION = "1.6.1"
LANGUAGES = ("en", "es", "fr", "it", "ru")
CREDITS: dict[str, dict[str, str]] = {
    "en": {"voice": "Allison Smith", "gender": "female", "licence": "CC-BY-SA 3.0", "variety": "en-US"},
    "es": {"voice": "Allison Smith", "gender": "female", "licence": "CC-BY-SA 3.0", "variety": "es-MX"},
    "fr": {"voice": "June Wallack", "gender": "female", "licence": "CC-BY-SA 3.0", "variety": "fr-CA"},
    "it": {"voice": "Carlo Flora", "gender": "male", "licence": "CC-BY 3.0", "variety": "it-IT"},
    "ru": {"voice": "IvrvoiceRU (Maxim Topal)", "gender": "female", "licence": "CC-BY 3.0", "variety": "ru-RU"},
}  # fmt: skip
RULES = (
    "a prompt is used if it is recorded in all five languages and its English transcript has enough words",
    "silences, beeps and other sounds without speech are skipped",
    "stage directions in brackets and leading or trailing ellipses are cut from transcripts",
    "two prompts are near-duplicates if their transcripts in any one language have a word edit similarity of "
    "2/3 or more; clusters (single linkage) are split and resampled whole",
)
TITLE = f"Asterisk core sounds {VERSION} (Digium and contributors)"

_VOICE_FOLDERS = {  # the packages' folder of each language
    "en": "en_US_f_Allison",
    "es": "es_MX_f_Allison",
    "fr": "fr_CA_f_June",
    "it": "it_IT_m_Carlo",
    "ru": "ru_RU_f_IvrvoiceRU",
}
_UPSTREAM = "https://downloads.asterisk.org/pub/telephony/sounds/releases"
_NON_SPEECH = re.compile(
    r"silence/|(?:beep|beeperr|tt-monkeys|ascending-2tone|descending-2tone|confbridge-join|confbridge-leave)$"
)
_LOST_BREAK = re.compile(r" ([a-z]+(?:-[a-z0-9]+)+): ")
_STAGE_DIRECTION = re.compile(
    r"\[[^\]]*\]|<[^>]*>|^\([^)]*\)$|\((?:note|nota|simple tone|produrre|enfatico|You are now|emme)[^)]*\)"
)


def default_root() -> Path:
    """The corpus's folder by default."""
    return cache_dir() / "corpora" / f"prompts-{VERSION}"


def prepare_prompts(
    root: Path | None = None,
    *,
    languages: Names = None,
    split: str | None = None,
    min_words: int = 4,
    include_non_speech: bool = False,
    log: Log = silent,
) -> list[Utterance]:
    """Fetch the corpus unless it is there, verify it, and return its utterances.

    ``min_words`` counts English; ``include_non_speech`` only reproduces figures that counted silences and beeps.

    Raises:
        FetchError: neither apt nor the upstream archives could be used.
        HashMismatchError: a file in the caller's ``root`` differs from the hash list (the default folder is refetched).
        CorpusError: an unknown language, a missing file, or no prompt left.
    """
    languages = normalise_languages(languages or LANGUAGES)
    for language in languages:
        if language not in LANGUAGES:
            raise CorpusError(f"the prompts corpus has no {language!r}; it has {', '.join(LANGUAGES)}")
    hashes = _hashes()
    root = _present(root, log)
    names = sorted(n.removeprefix("en/").removesuffix(".g722") for n in hashes if n.startswith("en/"))
    utterances = _utterances(root, names, languages, min_words, include_non_speech)
    if not utterances:
        raise CorpusError(f"no prompt has {min_words} words or more; lower --min-words")
    return utterances


CORPUS = Corpus(
    name="prompts",
    title="real human speech, parallel in en, es, fr, it and ru (Asterisk core sounds)",
    read=prepare_prompts,
    licence="CC-BY-SA 3.0 (it, ru: CC-BY 3.0)",
    fetch="fetched from Debian packages or upstream's archives (55 MB)",
    self_fetching=True,
    splits=False,
    units=("prompts", "clusters of near-duplicates"),
)


def verify(root: Path) -> None:
    """Check every file of the hash list below ``root``: CorpusError if missing, HashMismatchError if different."""
    fix = "run `interlingua doctor --fetch`" if root == default_root() else f"delete {root} and prepare it again"
    for name, expected in _hashes().items():
        path = root / name
        if not path.is_file():
            raise CorpusError(f"{path} is missing from the prompts corpus; {fix}")
        if sha256_file(path) != expected:
            raise HashMismatchError(f"{path} is not the published file (SHA-256 differs); {fix}")


def chinese_references() -> dict[str, str]:
    """Our own Simplified Chinese translations: prompt id -> text."""
    data = files("interlingua.corpora") / "data" / "prompts_zh.json"
    return msgspec.json.decode(data.read_bytes(), type=dict[str, str])


def read_transcripts(path: Path) -> dict[str, str]:
    """Read ``core-sounds-<l>.txt``: lines ``name: text``, ``;`` comments; of two equal names the first.

    Where a line break was lost, ``name: text another-name: text``, hyphens identify the names.
    """
    transcripts: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not line.strip() or line.startswith(";"):
            continue
        name, colon, text = line.partition(":")
        if not colon:
            raise CorpusError(f"{path}:{number}: expected `name: text`")
        first, *lost = _LOST_BREAK.split(text)
        if first.strip():
            transcripts.setdefault(name.strip(), first.strip())
        for other, text in zip(lost[::2], lost[1::2], strict=True):
            transcripts.setdefault(other, text.strip())
    return transcripts


def clean_transcript(text: str) -> str:
    """Cut what is not spoken: bracketed stage directions, leading and trailing ellipses, spare spaces.

    >>> clean_transcript("at [@]"), clean_transcript("...has joined  the conference.")
    ('at', 'has joined the conference.')
    """
    spoken = " ".join(_STAGE_DIRECTION.sub(" ", text).split())
    return spoken.removeprefix("...").removesuffix("...").strip()


def _utterances(
    root: Path, prompts: list[str], languages: tuple[str, ...], min_words: int, include_non_speech: bool
) -> list[Utterance]:
    transcripts = {lang: read_transcripts(root / f"core-sounds-{lang}.txt") for lang in LANGUAGES}
    kept = [
        p
        for p in prompts
        if len(transcripts["en"].get(p, "").split()) >= min_words and (include_non_speech or not _NON_SPEECH.match(p))
    ]
    texts: dict[str, dict[str, str]] = {}
    for prompt in kept:
        spoken = {lang: clean_transcript(transcripts[lang].get(prompt, "")) for lang in LANGUAGES}
        texts[prompt] = {lang: text for lang, text in spoken.items() if text}
    clusters = cluster_meanings(texts)
    chinese = chinese_references()
    result = []
    for language in languages:
        credit = CREDITS[language]
        for prompt in kept:
            references = {k: v for k, v in texts[prompt].items() if k != language}
            if prompt in chinese:
                references["zh"] = chinese[prompt]
            path = root / language / f"{prompt}.g722"
            result.append(
                Utterance(
                    id=f"{language}/{prompt}",
                    audio=AudioRef(str(path)),
                    language=language,
                    text=texts[prompt].get(language),
                    translations=references,
                    meaning=prompt,
                    cluster=clusters[prompt],
                    speaker=credit["voice"],
                    gender=credit["gender"],
                    duration=path.stat().st_size * 2 / 16_000,  # G.722 at 64 kbit/s: a byte codes 2 samples
                )
            )
    return result


def _hashes() -> dict[str, str]:
    data = files("interlingua.corpora") / "data" / "prompts_sha256.txt"
    pairs = (line.split("  ", 1) for line in data.read_text(encoding="utf-8").splitlines())
    return {name: digest for digest, name in pairs}


def _present(root: Path | None, log: Log) -> Path:
    folder = root or default_root()
    if folder.exists():
        try:
            verify(folder)
            return folder
        except (CorpusError, HashMismatchError) as e:
            if root is not None:
                raise
            log(f"{e}; fetching it anew")
    problems = []
    for name, fetch in (("Debian packages", _fetch_debian), ("upstream archives", _fetch_upstream)):
        log(f"fetching the prompts corpus (55 MB) from {name}")
        try:
            with atomic_folder(folder) as target, tempfile.TemporaryDirectory() as work:
                fetch(target, Path(work))
                _require_published(target)
            return folder
        except (FetchError, OSError) as e:
            problems.append(f"{name}: {e}")
    raise FetchError(
        "the prompts corpus can't be fetched (" + "; ".join(problems) + "); `apt-get update` may fix the first. By "
        "hand: unpack the five -g722 archives as ROOT/en, ROOT/es, …, move each core-sounds-*.txt up into ROOT, and "
        "pass --root ROOT"
    )


def _require_published(target: Path) -> None:
    try:
        verify(target)
    except (CorpusError, HashMismatchError) as e:
        reason = str(e).split(";")[0].replace(f"{target}/", "")
        raise FetchError(f"another version: {reason}") from e


def _fetch_debian(root: Path, work: Path) -> None:
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise FetchError("no apt-get here")
    packages = [f"asterisk-core-sounds-{lang}{kind}" for lang in LANGUAGES for kind in ("", "-g722")]
    try:
        run(["apt-get", "download", *packages], work)
    except FetchError:
        # No package lists yet: read them into a folder of our own, which needs no root and changes nothing.
        (work / "lists" / "partial").mkdir(parents=True)
        (work / "archives" / "partial").mkdir(parents=True)
        private = ["-o", f"Dir::State::Lists={work / 'lists'}", "-o", f"Dir::Cache={work}"]
        run(["apt-get", "update", *private], work)
        run(["apt-get", "download", *private, *packages], work)
    for package in sorted(work.glob("*.deb")):
        run(["dpkg", "-x", str(package), str(work / "tree")], work)
    share = work / "tree" / "usr" / "share"
    for lang, voice in _VOICE_FOLDERS.items():
        shutil.copytree(share / "asterisk" / "sounds" / voice, root / lang)
        doc = share / "doc" / f"asterisk-core-sounds-{lang}"
        (root / f"core-sounds-{lang}.txt").write_bytes(
            gzip.decompress((doc / f"core-sounds-{lang}.txt.gz").read_bytes())
        )


def _fetch_upstream(root: Path, work: Path) -> None:
    for lang in LANGUAGES:
        url = f"{_UPSTREAM}/asterisk-core-sounds-{lang}-g722-{VERSION}.tar.gz"
        archive = work / f"{lang}.tar.gz"
        try:
            with urllib.request.urlopen(url, timeout=60) as response, archive.open("wb") as out:
                shutil.copyfileobj(response, out)
            with tarfile.open(archive) as tar:
                tar.extractall(root / lang, filter="data")
            (root / lang / f"core-sounds-{lang}.txt").replace(root / f"core-sounds-{lang}.txt")
        except (OSError, EOFError, zlib.error, tarfile.TarError, http.client.HTTPException) as e:
            raise FetchError(f"{url}: {e}") from e
