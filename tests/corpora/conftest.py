"""Recordings that several corpora's tests lay out."""

import pytest

from helpers import sweep, utterance, write_wav
from interlingua.types import AudioRef
from trees import TEXTS, clip


@pytest.fixture(scope="package")
def spoken(tmp_path_factory):
    """Six sentences, one of which two people read in French."""
    folder = tmp_path_factory.mktemp("spoken")
    made = []
    for n, ((language, meaning), text) in enumerate([*TEXTS.items(), (("fr", "cat"), TEXTS["fr", "cat"])]):
        path = write_wav(folder / f"{n}.wav", sweep(0.5 + 0.1 * n, pitch=200 + 60 * n, seed=n))
        others = {code: said for (code, same), said in TEXTS.items() if same == meaning and code != language}
        made.append(
            utterance(
                language,
                meaning,
                id=f"{language}/{n}",
                audio=AudioRef(str(path)),
                text=text,
                translations=others,
                speaker=f"s{n}",
                gender="female" if n % 2 else "male",
                duration=0.5 + 0.1 * n,
            )
        )
    return made


@pytest.fixture
def clips(tmp_path):
    for name in ("a.wav", "b.wav", "sub/c.wav"):
        clip(tmp_path / name)
    return tmp_path
