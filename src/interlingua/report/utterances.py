"""Single utterances on the page: every query, translation and transcript, with recordings."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate

import av
import numpy as np

from interlingua.audio import load_audio
from interlingua.errors import AudioError
from interlingua.report.tables import Block, Cell, Folded, Number, Table, Text, count
from interlingua.results import Pair, Ranked, Results, UtteranceResult, name_of
from interlingua.retrieval.methods import method_label
from interlingua.types import SAMPLE_RATE, AudioRef, Samples, Utterance

Arrays = Mapping[str, np.ndarray]

PAGE_ROWS = 2000  # of a table; its files hold all
PLAYER_ROWS = 40  # of a table, with players
PLAYER_CHARACTERS = 1_500_000  # of a table's recordings in the page
CLIP_SECONDS = 15  # longer recordings are cut
_BIT_RATE = 24_000  # bits a second: enough for speech of 8 kHz bandwidth


def queries(results: Results, arrays: Arrays, kept: Sequence[UtteranceResult]) -> list[Block]:
    """The rank of each query's relevant candidate under the main method, and the first candidate."""
    method = results.main_method or ""
    utterances = {r.utterance.id: r.utterance for r in kept}
    by_pair: dict[Pair, list[tuple[Utterance, Ranked]]] = {}
    for r in kept:
        for candidate, found in r.retrieval.get(method, {}).items():
            by_pair.setdefault((r.utterance.language, candidate), []).append((r.utterance, found))
    order = {code: i for i, code in enumerate(results.languages)}
    bodies: list[list[list[Cell]]] = []
    for pair in sorted(by_pair, key=lambda pair: [order.get(code, len(order)) for code in pair]):
        languages = f"{name_of(pair[0])} → {name_of(pair[1])}"
        body: list[list[Cell]] = []
        for query, found in sorted(by_pair[pair], key=lambda m: (-(m[1].rank or float("inf")), m[0].id)):
            first = utterances.get(found.first or "")
            first_candidate = replace(_text(first), note=first.id) if first else Text(found.first or "nothing")
            right = "right" if found.rank == 1 else "wrong"
            body.append([query.id, languages, right, _text(query), first_candidate, count(found.rank)])
        bodies.append(body)
    head = ["Query", "Languages", "First", "Text", "Found first", "Rank"]
    caption = (
        f"{method_label(method)}; the worst first. Rank: that of the right utterance; – where it isn't found at all."
    )
    return _searchable("queries", "Every query", head, bodies, caption, ["Languages", "First"])


def translations(results: Results, arrays: Arrays, kept: Sequence[UtteranceResult]) -> list[Block]:
    """Every translation and its reference; the worst first."""
    pairs = [(r.utterance, t) for r in kept for t in r.translations]
    groups: dict[tuple[str, str, str], list[list[Cell]]] = {(u.language, t.target, t.system): [] for u, t in pairs}
    for spoken, t in sorted(pairs, key=lambda pair: (pair[1].chrf, pair[0].id)):
        languages = f"{name_of(spoken.language)} → {name_of(t.target)}"
        texts = (Text(text, language=t.target) for text in (t.reference, t.hypothesis or "(empty)"))
        row: list[Cell] = [spoken.id, languages, t.system, _text(spoken), *texts, Number(t.chrf)]
        groups[spoken.language, t.target, t.system].append(row)
    head = ["Utterance", "Languages", "System", "Source", "Reference", "Translation", "chrF"]
    caption = "chrF: sacreBLEU's sentence score, 0 to 100; the worst first."
    bodies = list(groups.values())
    return _searchable("translations", "Every translation", head, bodies, caption, ["Languages", "System"])


def transcripts(results: Results, arrays: Arrays, kept: Sequence[UtteranceResult]) -> list[Block]:
    """Every transcript and its reference; the worst first."""
    pairs = [(r.utterance, t) for r in kept for t in r.transcripts]
    groups: dict[tuple[str, str], list[list[Cell]]] = {(u.language, t.system): [] for u, t in pairs}
    for spoken, t in sorted(pairs, key=lambda pair: (-pair[1].error, pair[0].id)):
        hypothesis = Text(t.hypothesis or "(empty)", language=spoken.language)
        row: list[Cell] = [spoken.id, name_of(spoken.language), t.system, _text(spoken), hypothesis, t.unit.upper()]
        groups[spoken.language, t.system].append([*row, Number(t.error)])
    head = ["Utterance", "Language", "System", "Reference", "Transcript", "Unit", "Errors, %"]
    caption = "Errors in normalised words (WER) or characters (CER), in per cent of the reference; the worst first."
    bodies = list(groups.values())
    return _searchable("transcripts", "Every transcript", head, bodies, caption, ["Language", "System"])


def _text(spoken: Utterance) -> Text:
    return Text(spoken.text or "", language=spoken.language, audio=spoken.audio)


def _searchable(
    name: str, title: str, head: list[str], bodies: list[list[list[Cell]]], caption: str, filters: list[str]
) -> list[Block]:
    total = sum(len(body) for body in bodies)
    if not total:
        return []
    shown = [evenly(len(body), PAGE_ROWS * len(body) // total) for body in bodies]
    n_shown = sum(len(positions) for positions in shown)
    players = _add_players(bodies, shown)
    begins = accumulate((len(body) for body in bodies), initial=0)
    if n_shown < total:
        caption += f" Here: {n_shown} of {total} rows, evenly from the worst to the best of each pair of languages."
    if players:
        caption += f" A few rows, from the worst to the best, have recordings to hear: their first {CLIP_SECONDS} s."
    table = Table(
        name=name,
        title=title,
        head=head,
        bodies=bodies,
        caption=caption,
        text_columns=len(head) - 1,
        filters=filters,
        page_rows=frozenset(b + i for b, positions in zip(begins, shown, strict=False) for i in positions),
    )
    return [Folded(f"{total} rows to search{' and hear' if players else ''}", [table])]


def _add_players(bodies: list[list[list[Cell]]], shown: Sequence[Sequence[int]]) -> bool:
    """Adds players to a few rows of each body, in turns because of the limit; False: no audio is readable."""
    left = PLAYER_CHARACTERS
    each = max(2, PLAYER_ROWS // len(bodies))
    chosen = [
        [body[positions[i]] for i in evenly(len(positions), each)]
        for body, positions in zip(bodies, shown, strict=True)
    ]
    for row in (rows[turn] for turn in range(each) for rows in chosen if turn < len(rows)):
        for column, cell in enumerate(row):
            if left > 0 and isinstance(cell, Text) and cell.audio and (address := clip(cell.audio)):
                row[column] = replace(cell, player=address)
                left -= len(address)
    return left < PLAYER_CHARACTERS


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
    """The recording's first seconds as a ``data:`` address; None if it can't be read."""
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
