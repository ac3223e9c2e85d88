"""Writes src/interlingua/corpora/data/uriel.json: what `interlingua.corpora.distance` reads, out of URIEL.

URIEL comes in the Python package lang2vec, which is fetched as a file and checked by SHA-256: nothing of it is run (it
imports a module that setuptools no longer has).
"""

import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import langcodes
import numpy as np

from interlingua.errors import FetchError
from interlingua.fetch import download_wheel
from interlingua.files import sha256_file, write_text
from interlingua.languages import UNSEEN_LANGUAGES, WHISPER_LANGUAGES

PACKAGE = "lang2vec==1.1.2"
SHA256 = "bc43eddce15175ee1561c8a0566f56e42019d5987ea6c2890770a1b5d1f48fa4"
OUT = Path(__file__).resolve().parent.parent / "src" / "interlingua" / "corpora" / "data" / "uriel.json"
FORMS = {  # the ISO 639-3 code by which URIEL knows a language best, where it isn't our code's own
    "ar": "arb", "az": "azj", "bo": "bod", "fa": "pes", "ff": "fuc", "jw": "jav", "mg": "plt", "mn": "khk", "ms": "zsm",
    "ne": "npi", "nn": "nor", "om": "gaz", "or": "ory", "ps": "pbt", "sq": "als", "sw": "swh", "tl": "tgl", "uz": "uzn",
    "yi": "ydd", "zh": "cmn",
}  # fmt: skip
ISOLATES = {"eu": "Basque"}
CONSTRUCTED = "Artificial Language"


def main() -> None:
    """Fetch and write."""
    with tempfile.TemporaryDirectory() as work:
        wheel = download_wheel(PACKAGE, Path(work))
        if sha256_file(wheel) != SHA256:
            raise FetchError(f"{wheel.name}: not the package that was reviewed (SHA-256 differs)")
        families, features = (arrays(wheel, name) for name in ("family_features", "feature_predictions"))
    rows = []
    for code in WHISPER_LANGUAGES | UNSEEN_LANGUAGES:
        iso = FORMS.get(code) or langcodes.Language.get(code).to_alpha3()
        path = [ISOLATES[code]] if code in ISOLATES else sorted_path(families, iso)
        bits = np.packbits(values(features, iso) > 0.5).tobytes().hex()
        known = path and path != [CONSTRUCTED]
        rows.append(json.dumps({"code": code, "iso": iso, "family": path if known else None, "features": bits}))
    names = [str(name) for name in features["feats"]]
    head = {"source": f"URIEL (Littell et al., 2017), {PACKAGE}", "licence": "CC BY-SA 4.0", "n_features": len(names)}
    body = ",\n".join(rows)
    write_text(OUT, json.dumps(head)[:-1] + ', "languages": [\n' + body + "\n]}\n")
    print(f"{OUT}: {len(rows)} languages")


def arrays(wheel: Path, name: str) -> dict[str, Any]:
    """One of the package's npz files."""
    with zipfile.ZipFile(wheel) as archive:
        return dict(np.load(io.BytesIO(archive.read(f"lang2vec/data/{name}.npz"))))


def values(held: dict[str, Any], iso: str) -> np.ndarray:
    """A language's row."""
    (row,) = np.flatnonzero(held["langs"] == iso)
    return np.asarray(held["data"][row, :, 0])


def sorted_path(families: dict[str, Any], iso: str) -> list[str]:
    """The groups of Glottolog's tree that a language is in, as URIEL lists them: the family first."""
    groups = families["feats"][values(families, iso) > 0]
    return [str(group).removeprefix("F_") for group in groups]


if __name__ == "__main__":
    main()
