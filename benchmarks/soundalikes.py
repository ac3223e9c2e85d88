"""Is the alignment phonetic or semantic? R@1 apart for translations with few and with many words that sound alike.

Two words sound alike if the normalised edit similarity of their rough phonetic spellings (`sounds`) is `ALIKE` or
more. The spelling is meant for European languages in Latin and Russian letters. It doesn't know which language it
reads, so that Italian "chi" is spelt as French "chi", and it never learns how digits are spoken. Some words sound alike
by accident: compare the shares of texts that don't mean the same.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from interlingua.corpora.prepare import edit_similarity
from interlingua.retrieval.evaluate import Items, evaluate_scores
from interlingua.types import Matrix

ALIKE = 0.6  # edit similarity from which two phonetic spellings sound alike
CONTENT_LETTERS = 4  # letters from which a word counts as a content word

_LETTERS = str.maketrans(
    dict(zip("абвгдезиклмнопрстуфыэ", "abvgdeziklmnoprstufie", strict=True))
    | {"ж": "j", "х": "k", "ц": "ts", "ч": "ch", "ш": "sh", "щ": "sh", "ю": "iu", "я": "ia", "ъ": "", "ь": ""}
    | {"œ": "e", "æ": "e"}
)
_FOLDS = tuple(
    (re.compile(pattern), sound)
    for pattern, sound in (
        ("ti(?=on)", "si"),  # nation, nación
        ("c(?=[eiy])", "s"),  # the soft c
        ("ph", "f"),
        ("t?ch|t[sz]|z", "s"),  # one hiss for all
        ("h", ""),  # silent, or part of sh, th, gh
        ("[cq]", "k"),
        ("x", "ks"),
        ("o[uo]", "u"),  # French ou, English oo
        ("[yj]", "i"),
        ("[bw]", "v"),
        (r"(.)\1+", r"\1"),  # double letters
    )
)


def sounds(word: str) -> str:
    """A rough phonetic spelling: no accents, Cyrillic in Latin letters, and one letter for similar sounds.

    >>> sounds("nación"), sounds("nazione"), sounds("Telephone"), sounds("телефон")
    ('nasion', 'nasione', 'telefone', 'telefon')
    """
    spelling = "".join(c for c in unicodedata.normalize("NFKD", word.casefold()) if not unicodedata.combining(c))
    spelling = spelling.translate(_LETTERS)
    for pattern, sound in _FOLDS:
        spelling = pattern.sub(sound, spelling)
    return spelling


def soundalike_share(text_a: str, text_b: str) -> float | None:
    """Share of content words that sound like a word of the other text, in 0-1: the mean of both sides' shares.

    A content word has letters only, four or more; each occurrence counts. None where a side has no such word.

    >>> soundalike_share("message from the telephone", "Mensaje del teléfono")
    0.8333333333333333
    """
    a, b = ([sounds(word) for word in _content_words(text)] for text in (text_a, text_b))
    if not a or not b:
        return None
    alike = np.array([[edit_similarity(x, y) >= ALIKE for y in b] for x in a])
    return float(alike.any(axis=1).mean() + alike.any(axis=0).mean()) / 2


def split_by_soundalikes(shares: Sequence[float | None]) -> tuple[Bool[np.ndarray, "N"], Bool[np.ndarray, "N"]]:
    """Masks of the pairs with few and with many sound-alikes, split at the median of the shares of one language pair.

    Shares equal to the median go to the few, so that the many may be fewer, or none; None goes to neither.
    """
    values = np.array(shares, dtype=float)
    known = ~np.isnan(values)
    median = np.median(values[known]) if known.any() else 0.0
    return known & (values <= median), known & (values > median)


def control_rows(
    scores: Matrix, queries: Items, candidates: Items, shares: Sequence[float | None]
) -> list[dict[str, Any]]:
    """R@1 of the queries with few and with many sound-alikes, each searched in the whole gallery.

    Args:
        scores: (N, M), higher is better.
        queries: the N queries.
        candidates: the M candidates.
        shares: `soundalike_share` of each query and its translation.

    Returns:
        A row for ``few`` and one for ``many`` (a half without queries has none): ``soundalikes``, ``share`` (the
        half's mean), and ``n``, ``n_clusters``, ``r1``, ``r1_ci`` (cluster bootstrap, 95%), ``chance``, ``r1_cluster``
        and ``chance_cluster`` of `RetrievalResult`. Read R@1 with ``r1_cluster``: where a sound-alike is common
        to many prompts ("conference"), it leads to a near-duplicate of the answer as well as to the answer.

    Raises:
        ValueError: scores, items and shares don't fit together.
    """
    if scores.shape != (len(shares), len(candidates)) or len(queries) != len(shares):
        raise ValueError(
            f"scores are {scores.shape}, the items are ({len(queries)}, {len(candidates)}), with {len(shares)} shares"
        )
    rows = []
    for name, mask in zip(("few", "many"), split_by_soundalikes(shares), strict=True):
        chosen = np.flatnonzero(mask)
        if not len(chosen):
            continue
        result = evaluate_scores(scores[chosen], _subset(queries, chosen), candidates)
        rows.append(
            {
                "soundalikes": name,
                "share": float(np.array(shares, dtype=float)[chosen].mean()),
                "n": result.n,
                "n_clusters": result.n_clusters,
                "r1": result.r1,
                "r1_ci": result.r1_ci,
                "chance": result.chance,
                "r1_cluster": result.r1_cluster,
                "chance_cluster": result.chance_cluster,
            }
        )
    return rows


def _content_words(text: str) -> list[str]:
    return [w for w in re.findall(r"[^\W\d_]+", unicodedata.normalize("NFC", text)) if len(w) >= CONTENT_LETTERS]


def _subset(items: Items, chosen: np.ndarray) -> Items:
    return Items(*([values[i] for i in chosen] for values in (items.ids, items.meanings, items.clusters)))
