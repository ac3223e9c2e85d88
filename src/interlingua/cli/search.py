"""``interlingua search``: the utterances of an index that mean what a recording means."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import cyclopts

from interlingua.cli.output import emit, note, say

if TYPE_CHECKING:
    from interlingua.audio import AudioSource
    from interlingua.index import Hit, Index

app = cyclopts.App(name="search", help="Find the utterances of an index that mean what a recording means.")


@app.default
def search(
    index: str,
    queries: tuple[str, ...],
    *,
    k: Annotated[int, cyclopts.Parameter(name=("-k", "--top"))] = 10,
    also: tuple[str, ...] = (),
    where: str | None = None,
    language: str | None = None,
    exhaustive: bool = False,
    align: Path | None = None,
    tsv: bool = False,
    json: bool = False,
) -> int:
    """Rank the utterances of an index for each spoken query, whatever its language.

    Args:
        index: the index (`interlingua index build`).
        queries: audio files, folders, patterns or manifests; - is a recording on standard input.
        k: utterances to show for each query.
        also: further indexes to search at once, built with --like.
        where: SQL condition on the index's columns, such as "language = 'fr' and duration < 5"; names with
            spaces stand in backticks.
        language: of the queries; default: the manifest's, else detected.
        exhaustive: score every utterance, not only the candidates that one vector each chooses.
        align: also draw how the first query and its best match align, frame by frame, into this PNG.
        tsv: print tab-separated columns with a header.
        json: print the result as JSON.
    """
    import msgspec

    from interlingua.errors import AudioError, UsageError
    from interlingua.experiments.translating import find_recordings
    from interlingua.index import Index, search_shards
    from interlingua.languages import normalise_language

    if align and align.suffix.lower() != ".png":
        raise UsageError(f"--align {align}: the picture is a PNG; name a file that ends in .png")
    shards = [Index.open(uri) for uri in (index, *also)]
    given = normalise_language(language) if language else None
    found: list[tuple[str, Hit]] = []
    failed: dict[str, str] = {}
    if tsv:
        say("query", "rank", "score", "id", "language", "start", "end", "path", "text", sep="\t")
    for query in find_recordings(queries, log=note):
        try:
            spoken = given or query.language
            hits = search_shards(shards, query.audio, k, language=spoken, where=where, exhaustive=exhaustive)
        except AudioError as e:
            failed[query.id] = str(e)
            note(f"interlingua: {query.id}: {e}")
            continue
        for hit in () if json else hits:
            say(_line(query.id, hit, tsv=tsv), flush=True)
        if align and hits and not found:
            _draw(shards[0], query.id, query.audio, hits[0], align)
        found += [(query.id, hit) for hit in hits]
    if json:
        emit({"results": [{"query": name, **msgspec.to_builtins(hit)} for name, hit in found], "failed": failed})
    elif align and found:
        say(f"picture: {align}")
    return 1 if failed else 0


def _line(query: str, hit: "Hit", *, tsv: bool) -> str:
    u = hit.utterance
    start = u.audio.offset or 0.0
    end = None if u.duration is None else start + u.duration
    text = " ".join((u.text or "").split())
    if tsv:
        times = [f"{start:.2f}", "" if end is None else f"{end:.2f}"]
        return "\t".join([query, str(hit.rank), f"{hit.score:.4f}", u.id, u.language, *times, u.audio.path, text])
    span = "" if end is None else f"  {start:.2f}-{end:.2f} s"
    return f"{query}  {hit.rank:>3}  {hit.score:7.4f}  {u.language}  {u.id}{span}  {text}".rstrip()


def _draw(index: "Index", name: str, audio: "AudioSource", hit: "Hit", out: Path) -> None:
    """The alignment of a query and its match, as `interlingua align` draws it."""
    from interlingua.experiments import alignment
    from interlingua.report import alignment_heatmap
    from interlingua.results import Results

    whisper, match = index.listener, hit.utterance
    query = alignment.listen(whisper, name, alignment.load_utterance(audio))
    candidate = alignment.listen(
        whisper, match.id, alignment.load_utterance(match.audio), language=match.language, text=match.text
    )
    found, similarity = alignment.align(whisper, query, candidate)
    alignment_heatmap(Results(alignment=alignment.rounded(found)), {"alignment": similarity}, out)
