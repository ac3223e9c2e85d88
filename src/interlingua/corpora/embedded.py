"""Audio that a data set holds as bytes: written to a folder of the caller's, since an utterance's audio is a file."""

import hashlib
import posixpath
import re
from pathlib import Path

from interlingua.files import atomic_file

_MAGIC = {b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".ogg", b"ID3": ".mp3", b"\xff\xfb": ".mp3", b"\xff\xf3": ".mp3"}
_RAW = (".g722", ".gsm")  # formats that only a name tells


def write_audio(folder: Path, name: str, data: bytes, original: str | None = None) -> Path:
    """Write a recording unless it is there already, and return its path.

    Args:
        folder: it lies right below.
        name: ours, such as ``train-17``; letters that a file name can't safely have become hyphens, and a hash of the
            name is added then, for another name may become the same.
        data: the file's bytes.
        original: what the data set calls the file; only its ending is used, and only where the bytes don't tell.
    """
    ending = next((e for magic, e in _MAGIC.items() if data.startswith(magic)), "")
    if not ending and original:
        said = posixpath.splitext(original)[1].lower()
        ending = said if said in _RAW or re.fullmatch(r"\.[a-z0-9]{1,5}", said) else ""
    safe = re.sub(r"[^\w.-]+", "-", name).lstrip(".-")[:100]
    if safe != name:
        safe = f"{safe}-{hashlib.blake2b(name.encode(), digest_size=6).hexdigest()}"
    path = folder / (safe + (ending or ".audio"))
    if not (path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data):
        with atomic_file(path) as temporary:
            temporary.write_bytes(data)
    return path
