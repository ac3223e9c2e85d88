"""A head for indexes: trained on their utterances that mean the same, and kept beside their frames."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import msgspec
import numpy as np

from interlingua.errors import UsageError
from interlingua.index import statistics as stats
from interlingua.index.index import Index, ids_by_language
from interlingua.index.pairs import read_pairs
from interlingua.progress import track
from interlingua.retrieval.features import LEAST_UTTERANCES
from interlingua.retrieval.head import DEFAULT_SETTINGS, Head, HeadSettings, head_path, train_head
from interlingua.types import Utterance

SUREST = 0.5  # of mined pairs are learnt from (docs/head.md)
Ids = tuple[str, str]


class KnownPair(msgspec.Struct, frozen=True):
    """A line of a table of pairs: of `mine`, of someone who marked them, or of one's own."""

    id_a: str
    id_b: str
    right: str = ""  # nobody has said
    one_to_one: bool = True
    near_copy: bool = False
    csls: float | None = None  # of mined pairs


def train(indexes: Sequence[Index], pairs: Path | None = None, settings: HeadSettings = DEFAULT_SETTINGS) -> Head:
    """Train one head for these indexes, write it beside each one's frames, and place their utterances anew.

    It learns from utterances of one ``meaning``, or from the ``pairs`` of a table with ``id_a`` and ``id_b``, as `mine`
    writes it: of these, pairs that are best one way only, near copies, and pairs that aren't ``right`` are skipped; of
    mined pairs of two languages the surer half is taken, by CSLS, unless someone marked them.
    Killed, the same call, or `Index.refresh`, completes what was written.

    Raises:
        UsageError: an index in an object store, of too few utterances, or that shares another's statistics; too few
            pairs; an id that no index has, or two have.
        StoreMismatchError: frames of two kinds.
    """
    for index in indexes:
        index.store.require(indexes[0].store.spec, indexes[0].store.dim)
        if "://" in index.uri:
            raise UsageError(f"{index.uri}: a head is kept on a local disk; copy the index to one")
        if index.shared:
            raise UsageError(f"{index.uri}: shares another index's statistics; train that one, and build this one anew")
    held: dict[str, tuple[Index, Utterance]] = {}
    for index in indexes:
        for u in index.utterances():
            if u.id in held:
                raise UsageError(f"{index.uri} and {held[u.id][0].uri} both hold {u.id!r}; index one under other ids")
            held[u.id] = index, u
    utterances = {i: u for i, (_, u) in held.items()}
    known = list(_of_meanings(utterances) if pairs is None else _of_table(pairs, utterances))
    most = settings.steps * settings.batch
    if len(known) > most:
        known = [known[n] for n in np.random.default_rng(settings.seed).permutation(len(known))[:most]]
    ids = sorted({i for pair in known for i in pair})
    frames = {}
    for index in indexes:
        whitening = stats.fit(ids_by_language(index.utterances()), index.store.read)
        if not whitening.languages:
            raise UsageError(f"{index.uri}: {len(index)} utterances; {LEAST_UTTERANCES} are needed to train")
        for f in index.store.read([i for i in ids if held[i][0] is index]):
            frames[f.id] = whitening.transform(utterances[f.id].language, f.speech)
    place = {i: n for n, i in enumerate(ids)}
    try:
        with track(settings.steps, "training") as advance:
            head = train_head(
                [frames[i] for i in ids],
                [utterances[i].language for i in ids],
                [utterances[i].group for i in ids],
                np.array([(place[i], place[j]) for i, j in known], dtype=int).reshape(-1, 2),
                settings,
                advance=advance,
            )
    except UsageError as e:
        raise UsageError(f"{f'--pairs {pairs}' if pairs else ', '.join(i.uri for i in indexes)}: {e}") from e
    about = {"frames": msgspec.to_builtins(indexes[0].store.spec), "from": str(pairs) if pairs else "meanings"}
    head = replace(head, about=head.about | about)
    for index in indexes:
        head.save(head_path(index.store.path))
    for index in indexes:
        index.refresh()
    return head


def _of_meanings(utterances: Mapping[str, Utterance]) -> Iterator[Ids]:
    """Every two utterances of one meaning."""
    members: dict[str, list[str]] = {}
    for i, u in sorted(utterances.items()):
        if u.meaning is not None:
            members.setdefault(u.meaning, []).append(i)
    if not any(len(some) > 1 for some in members.values()):
        raise UsageError(
            "no two utterances have one `meaning`; name pairs with --pairs, as `interlingua mine` writes them"
        )
    for some in members.values():
        yield from combinations(some, 2)


def _of_table(path: Path, utterances: Mapping[str, Utterance]) -> Iterator[Ids]:
    """The pairs of a file that are right, or likely to be."""
    mined: dict[tuple[str, ...], list[tuple[float, Ids]]] = {}
    flat = {" ".join(i.split()): i for i in utterances}  # as tables write them
    for pair in read_pairs(path, KnownPair):
        ids = [flat.get(" ".join(i.split())) for i in (pair.id_a, pair.id_b)]
        for name, i in zip((pair.id_a, pair.id_b), ids, strict=True):
            if i is None:
                raise UsageError(f"--pairs {path}: {name!r} isn't in the index; name all indexes that were mined")
        if pair.one_to_one and not pair.near_copy and pair.right.lower() in ("", "yes", "true", "1"):
            found = str(ids[0]), str(ids[1])
            if pair.csls is None or pair.right:
                yield found
            else:
                languages = tuple(sorted(utterances[i].language for i in found))
                mined.setdefault(languages, []).append((pair.csls, found))
    for some in mined.values():
        some.sort(key=lambda row: -row[0])
        yield from (found for _, found in some[: round(SUREST * len(some))])
