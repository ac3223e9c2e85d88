"""Distances between languages, by URIEL (Littell et al., EACL 2017): Glottolog, WALS, SSWL and PHOIBLE compiled.

``benchmarks/uriel.py`` writes the table ``data/uriel.json``.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal, get_args

import numpy as np

from interlingua.languages import normalise_language

DistanceKind = Literal["typological", "genealogical"]
"""Of grammar and sounds, or of descent; see `language_distance`."""
KINDS: tuple[DistanceKind, ...] = get_args(DistanceKind)


@dataclass(frozen=True, eq=False)
class _Language:
    """``family``: groups of Glottolog's tree from the family down (None: constructed). ``features``: 0 or 1, (289,)."""

    family: list[str] | None
    features: np.ndarray


def language_distance(a: str, b: str, kind: DistanceKind = "typological") -> float | None:
    """Distance of two languages: 0 (the same) to 1; symmetric. None if URIEL lacks one; UsageError for an unknown code.

    ``typological``: cosine distance of 289 features of grammar, phonology and sound inventory. Missing features are
    URIEL's guess from the k nearest neighbours.
    ``genealogical``: 1 - 2 s / (d + e) for languages d and e levels below the root of Glottolog's tree that share s
    groups, families counted (Wu and Palmer, 1994). It is 1 between families; constructed languages have none.

    >>> [round(language_distance("de", other), 2) for other in ("nl", "es", "ja")]
    [0.08, 0.32, 0.37]
    >>> [round(language_distance("es", other, "genealogical"), 2) for other in ("ast", "ru", "ja")]
    [0.12, 0.89, 1.0]
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
    """The family by Glottolog; None if URIEL lacks the language or it is constructed. UsageError for an unknown code.

    >>> language_family("wo"), language_family("kea_cv"), language_family("eo")
    ('Atlantic-Congo', 'Indo-European', None)
    """
    found = _table().get(normalise_language(code))
    return found.family[0] if found and found.family else None


@cache
def _table() -> dict[str, _Language]:
    held = json.loads((files("interlingua.corpora") / "data" / "uriel.json").read_text(encoding="utf-8"))
    n = held["n_features"]
    return {
        row["code"]: _Language(
            row["family"],
            np.unpackbits(np.frombuffer(bytes.fromhex(row["features"]), np.uint8))[:n].astype(np.float64),
        )
        for row in held["languages"]
    }
