"""Near-duplicate meanings, found by a stated rule and kept together in splits and resampling."""

import re
from collections.abc import Mapping, Sequence

NEAR_DUPLICATE_SIMILARITY = 2 / 3  # word edit similarity from which two texts count as near-duplicates


def words_of(text: str) -> list[str]:
    """Lower-case words and numbers of a text, punctuation dropped."""
    return re.findall(r"[^\W_]+(?:'[^\W_]+)?", text.lower())


def edit_similarity(a: Sequence[str], b: Sequence[str]) -> float:
    """1 − (word edit distance / length of the longer text), in [0, 1]; 1 for two empty texts."""
    if not a and not b:
        return 1.0
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return 1 - row[-1] / max(len(a), len(b))


def cluster_meanings(
    texts: Mapping[str, Mapping[str, str]], similarity: float = NEAR_DUPLICATE_SIMILARITY
) -> dict[str, str]:
    """Cluster near-duplicate meanings: meaning -> cluster (named after its first meaning).

    The rule: two meanings are linked if, in any one language, their texts have the same words or a
    word edit similarity of at least ``similarity``; clusters are the connected components (single
    linkage), so that no linked pair can straddle a split.

    Args:
        texts: meaning -> language -> text.
        similarity: the threshold, in (0, 1].
    """
    meanings = sorted(texts)
    words = {m: {lang: words_of(text) for lang, text in texts[m].items()} for m in meanings}
    parent = {m: m for m in meanings}

    def root(m: str) -> str:
        while parent[m] != m:
            parent[m] = m = parent[parent[m]]
        return m

    for i, a in enumerate(meanings):
        for b in meanings[i + 1 :]:
            ra, rb = root(a), root(b)
            if ra != rb and _near(words[a], words[b], similarity):
                parent[max(ra, rb)] = min(ra, rb)
    return {m: root(m) for m in meanings}


def _near(a: Mapping[str, list[str]], b: Mapping[str, list[str]], similarity: float) -> bool:
    for language in a.keys() & b.keys():
        x, y = a[language], b[language]
        longer, shorter = max(len(x), len(y)), min(len(x), len(y))
        if longer and shorter >= similarity * longer and edit_similarity(x, y) >= similarity:
            return True
    return False
