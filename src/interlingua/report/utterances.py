"""Single utterances on the page: every query, translation and transcript, with recordings to hear."""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

import av
import numpy as np

from interlingua.audio import load_audio
from interlingua.errors import AudioError
from interlingua.report.tables import Block, Cell, Folded, Number, Table, Text, count
from interlingua.results import Pair, Ranked, Results, Transcribed, Translated, UtteranceResult, name_of
from interlingua.retrieval.methods import method_label
from interlingua.types import SAMPLE_RATE, AudioRef, Samples, Utterance

Arrays = Mapping[str, np.ndarray]

PAGE_ROWS = 2000  # of a table; its files hold all
HEARD_ROWS = 40  # of a table, with players
PLAYER_CHARACTERS = 1_500_000  # that a table's recordings take in the page
CLIP_SECONDS = 15  # of a longer recording the beginning is heard
_BIT_RATE = 24_000  # bits a second: speech of 8 kHz bandwidth stays clear


@dataclass(frozen=True)
class Row:
    """A row, and the recordings that belong to its cells.

    Attributes:
        cells: the recorded ones are `Text`.
        recordings: column -> what is heard there.
    """

    cells: list[Cell]
    recordings: dict[int, AudioRef] = field(default_factory=dict)


def queries(results: Results, arrays: Arrays, kept: Sequence[UtteranceResult]) -> list[Block]:
    """Where each query's answer was ranked under the main method, and what was found first; the worst first."""
    method = results.main_method or ""
    utterances = {r.utterance.id: r.utterance for r in kept}
    by_pair: dict[Pair, list[tuple[Utterance, Ranked]]] = {}
    for r in kept:
        for candidate, found in r.retrieval.get(method, {}).items():
            by_pair.setdefault((r.utterance.language, candidate), []).append((r.utterance, found))
    bodies = []
    order = {code: i for i, code in enumerate(results.languages)}
    for pair in sorted(by_pair, key=lambda pair: [order.get(code, len(order)) for code in pair]):
        members = sorted(by_pair[pair], key=lambda m: (-(m[1].rank or float("inf")), m[0].id))
        bodies.append([_query(pair, query, found, utterances.get(found.first or "")) for query, found in members])
    head = ["Query", "Languages", "First", "Text", "Found first", "Rank"]
    caption = (
        f"{method_label(method)}; the worst first. Rank: that of the right utterance; – where it isn't found at all."
    )
    return _searchable("queries", "Every query", head, bodies, caption, ["Languages", "First"])


def translations(results: Results, arrays: Arrays, kept: Sequence[UtteranceResult]) -> list[Block]:
    """Every translation and its reference; the worst first."""
    groups: dict[tuple[str, str, str], list[tuple[Utterance, Translated]]] = {}
    for r in kept:
        for made in r.translations:
            groups.setdefault((r.utterance.language, made.target, made.system), []).append((r.utterance, made))
    bodies = [
        [_translation(said, made) for said, made in sorted(members, key=lambda m: (m[1].chrf, m[0].id))]
        for members in groups.values()
    ]
    head = ["Utterance", "Languages", "System", "Source", "Reference", "Translation", "chrF"]
    caption = "chrF: sacreBLEU's sentence score, 0 to 100; the worst first."
    filters = ["Languages", "System"]
    return _searchable("translations", "Every translation", head, bodies, caption, filters)


def transcripts(results: Results, arrays: Arrays, kept: Sequence[UtteranceResult]) -> list[Block]:
    """Every transcript and its reference; the worst first."""
    groups: dict[tuple[str, str], list[tuple[Utterance, Transcribed]]] = {}
    for r in kept:
        for heard in r.transcripts:
            groups.setdefault((r.utterance.language, heard.system), []).append((r.utterance, heard))
    bodies = [
        [_transcript(said, heard) for said, heard in sorted(members, key=lambda m: (-m[1].error, m[0].id))]
        for members in groups.values()
    ]
    head = ["Utterance", "Language", "System", "Reference", "Transcript", "Unit", "Errors, %"]
    caption = "Errors in normalised words (WER) or characters (CER), in per cent of the reference; the worst first."
    filters = ["Language", "System"]
    return _searchable("transcripts", "Every transcript", head, bodies, caption, filters)


def _query(pair: Pair, query: Utterance, found: Ranked, first: Utterance | None) -> Row:
    recordings = {3: query.audio}
    answer = Text(found.first or "nothing")
    if first is not None:
        recordings[4] = first.audio
        answer = Text(first.text or "", first.id, language=first.language)
    cells: list[Cell] = [
        query.id,
        f"{name_of(pair[0])} → {name_of(pair[1])}",
        "right" if found.rank == 1 else "wrong",
        Text(query.text or "", language=query.language),
        answer,
        count(found.rank),
    ]
    return Row(cells, recordings)


def _translation(said: Utterance, made: Translated) -> Row:
    cells: list[Cell] = [
        said.id,
        f"{name_of(said.language)} → {name_of(made.target)}",
        made.system,
        Text(said.text or "", language=said.language),
        Text(made.reference, language=made.target),
        Text(made.hypothesis or "(empty)", language=made.target),
        Number(made.chrf),
    ]
    return Row(cells, {3: said.audio})


def _transcript(said: Utterance, heard: Transcribed) -> Row:
    cells: list[Cell] = [
        said.id,
        name_of(said.language),
        heard.system,
        Text(said.text or "", language=said.language),
        Text(heard.hypothesis or "(empty)", language=said.language),
        heard.unit.upper(),
        Number(heard.error),
    ]
    return Row(cells, {3: said.audio})


def _searchable(
    name: str, title: str, head: list[str], bodies: list[list[Row]], caption: str, filters: list[str]
) -> list[Block]:
    """A table to search: of each body an even share of rows on the page, a few of them with players."""
    total = sum(len(body) for body in bodies)
    if not total:
        return []
    shown = [evenly(len(body), PAGE_ROWS * len(body) // total) for body in bodies]
    n_shown = sum(len(positions) for positions in shown)
    heard = _give_voice(bodies, shown)
    begins = accumulate((len(body) for body in bodies), initial=0)
    if n_shown < total:
        caption += f" Here: {n_shown} of {total} rows, evenly from the worst to the best of each pair of languages."
    if heard:
        caption += f" A few rows, from the worst to the best, have recordings to hear: their first {CLIP_SECONDS} s."
    table = Table(
        name=name,
        title=title,
        head=head,
        bodies=[[row.cells for row in body] for body in bodies],
        caption=caption,
        text_columns=len(head) - 1,
        filters=filters,
        page_rows=frozenset(b + i for b, positions in zip(begins, shown, strict=False) for i in positions),
    )
    return [Folded(f"{total} rows to search{' and hear' if heard else ''}", [table])]


def _give_voice(bodies: list[list[Row]], shown: Sequence[Sequence[int]]) -> bool:
    """Put players into a few rows of each body, from the worst to the best; whether any recording can be read."""
    left = PLAYER_CHARACTERS
    for row in _in_turn(bodies, shown):
        for column, audio in row.recordings.items():
            address = clip(audio) if left > 0 else None
            cell = row.cells[column]
            if address is not None and isinstance(cell, Text):
                row.cells[column] = replace(cell, player=address)
                left -= len(address)
    return left < PLAYER_CHARACTERS


def _in_turn(bodies: list[list[Row]], shown: Sequence[Sequence[int]]) -> Iterator[Row]:
    """The rows to hear: of each body the worst, then of each the next, so that a limit falls on all alike."""
    each = max(2, HEARD_ROWS // len(bodies))
    chosen = [
        [body[positions[i]] for i in evenly(len(positions), each)]
        for body, positions in zip(bodies, shown, strict=True)
    ]
    for turn in range(each):
        yield from (rows[turn] for rows in chosen if turn < len(rows))


def evenly(n: int, k: int) -> list[int]:
    """About ``k``, and at least two, of ``n`` positions, evenly from the first to the last.

    >>> evenly(10, 4)
    [0, 3, 6, 9]
    >>> evenly(3, 4)
    [0, 1, 2]
    """
    k = min(n, max(2, k))
    return [0] * n if k < 2 else [round(i * (n - 1) / (k - 1)) for i in range(k)]


def clip(audio: AudioRef) -> str | None:
    """The recording's first seconds as a ``data:`` address; None where it can't be read (any more)."""
    if not audio.path:
        return None
    try:
        samples = load_audio(audio)[: CLIP_SECONDS * SAMPLE_RATE]
    except AudioError:
        return None
    return f"data:audio/mpeg;base64,{base64.b64encode(mp3(samples)).decode()}"


def mp3(samples: Samples) -> bytes:
    """Mono MP3 at 16 kHz; the same samples give the same bytes."""
    frame = av.AudioFrame.from_ndarray(
        (np.clip(samples, -1, 1) * 32767).astype(np.int16)[None], format="s16p", layout="mono"
    )
    frame.sample_rate = SAMPLE_RATE
    out = io.BytesIO()
    with av.open(out, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=SAMPLE_RATE, layout="mono", bit_rate=_BIT_RATE)
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return out.getvalue()
