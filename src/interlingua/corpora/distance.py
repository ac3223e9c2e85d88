"""How far apart two languages are, by URIEL (Littell et al., EACL 2017): Glottolog, WALS, SSWL and PHOIBLE compiled.

The table ``data/uriel.json`` is written by ``benchmarks/uriel.py``. It holds every language that has a Whisper token or
is in FLEURS.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal, get_args

import numpy as np

from interlingua.languages import normalise_language

DistanceKind = Literal["typological", "genealogical"]
"""Of sounds and grammar, or of descent; see `language_distance`."""
KINDS: tuple[DistanceKind, ...] = get_args(DistanceKind)


@dataclass(frozen=True, eq=False)
class _Language:
    """What URIEL says: groups of Glottolog's tree from the family down (None: constructed), and features, 0 or 1."""

    family: list[str] | None
    features: np.ndarray


def language_distance(a: str, b: str, kind: DistanceKind = "typological") -> float | None:
    """How far apart two languages are: 0 (the same) to 1; symmetric. None where URIEL hasn't one of them.

    ``typological``: the cosine distance of the languages' 289 features of grammar, phonology and sound inventory. What
    was never described of a language is URIEL's guess from its neighbours (k nearest).
    ``genealogical``: 1 - 2 s / (d + e), where the languages lie d and e levels below the root of Glottolog's tree and
    share s groups, families counted (Wu and Palmer, 1994). It is 1 between families, so it says nothing among most of
    the world's languages, and trees are cut finer for some families; constructed languages have none.

    >>> [round(language_distance("de", other), 2) for other in ("nl", "es", "ja")]
    [0.08, 0.32, 0.37]
    >>> [round(language_distance("es", other, "genealogical"), 2) for other in ("ast", "ru", "ja")]
    [0.12, 0.89, 1.0]

    Raises:
        UsageError: no language has this code.
    """
    one, other = (_table().get(normalise_language(code)) for code in (a, b))
    if one is None or other is None:
        return None
    if one is other:
        return 0.0
    if kind == "typological":
        lengths = np.linalg.norm(one.features) * np.linalg.norm(other.features)
        return float(1 - one.features @ other.features / lengths)
    if one.family is None or other.family is None:
        return None
    shared = len(set(one.family) & set(other.family))
    return 1 - 2 * shared / (len(one.family) + 1 + len(other.family) + 1)


def language_family(code: str) -> str | None:
    """The family that a language belongs to, by Glottolog; None where URIEL hasn't the language, or it is constructed.

    >>> language_family("wo"), language_family("kea_cv"), language_family("eo")
    ('Atlantic-Congo', 'Indo-European', None)

    Raises:
        UsageError: no language has this code.
    """
    found = _table().get(normalise_language(code))
    return found.family[0] if found and found.family else None


@cache
def _table() -> dict[str, _Language]:
    held = json.loads((files("interlingua.corpora") / "data" / "uriel.json").read_text(encoding="utf-8"))
    n = held["n_features"]
    return {
        row["code"]: _Language(row["family"], _bits(row["features"])[:n].astype(np.float64))
        for row in held["languages"]
    }


def _bits(text: str) -> np.ndarray:
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))
