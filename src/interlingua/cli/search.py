"""``interlingua search``: the gallery's utterances that mean what a query means."""

import cyclopts

from interlingua.cli.output import emit, note
from interlingua.experiments.config import Device
from interlingua.retrieval.methods import DEFAULT_METHOD, SimilarityFormat

app = cyclopts.App(name="search", help="Find the utterances of a gallery that mean the same.")


@app.default
def search(
    queries: str,
    gallery: str,
    *,
    top: int = 10,
    coarse: tuple[str, ...] = ("8:300", "4:60"),
    exhaustive: bool = False,
    method: str = DEFAULT_METHOD,
    plain: bool = False,
    background: str | None = None,
    compute: SimilarityFormat = "float32",
    device: Device = "auto",
    check: int = 0,
    json: bool = False,
) -> int:
    """Rank a gallery for every query: pooled frames choose candidates, exact scores rank them.

    Prints a line a candidate: query id, rank, candidate id, score, separated by tabs.

    Args:
        queries: frame store of the queries (`interlingua encode`), unpooled.
        gallery: frame store of the candidates, made with the same settings; it is read into memory.
        top: candidates to show for each query.
        coarse: passes before the exact one as pooling:keep, coarsest first; the default is two.
        exhaustive: score every candidate exactly.
        method: a SeqSim method. The default whitens each side (each of one language) and demotes hubs by CSLS.
        plain: the same as --method seqsim: frames as they are.
        background: store of unlabelled utterances in the queries' language, to whiten and to find hubs by; default: the
            queries.
        compute: number format of SeqSim's products; auto = bfloat16 where the device has it.
        device: where to search.
        check: also search this many queries exhaustively, and report how far the rankings agree.
        json: print the result as JSON.
    """
    import msgspec

    from interlingua.encoding import resolve_device
    from interlingua.encoding.store import FrameStore
    from interlingua.errors import UsageError
    from interlingua.progress import track
    from interlingua.retrieval.methods import PAPER_METHOD, get_method
    from interlingua.retrieval.search import Stage, search_stores

    if top < 1 or check < 0:
        raise UsageError(f"--top {top} --check {check}: use 1 or more, and 0 or more")
    chosen = get_method(PAPER_METHOD if plain else method)
    stages = () if exhaustive else tuple(Stage.parse(text) for text in coarse)
    query_store, gallery_store = FrameStore.open(queries), FrameStore.open(gallery)
    unlabelled = FrameStore.open(background) if background else None
    where, how = resolve_device(device, compute)
    with track(len(query_store), "searching") as advance:
        found, agreed = search_stores(
            query_store,
            gallery_store,
            chosen,
            top=top,
            background=unlabelled,
            stages=stages,
            compute=how,
            device=where,
            check=check,
            advance=advance,
        )
    if agreed is not None:
        best, checked = min(top, len(gallery_store)), min(check, len(query_store))
        note(f"interlingua: {agreed:.1%} of the exhaustive ranking's {best} best were found ({checked} queries)")
    if json:
        rows = [msgspec.structs.asdict(row) for row in found]
        emit({"results": rows, "agreement": agreed, "queries": len(query_store), "gallery": len(gallery_store)})
    else:
        for row in found:
            print(f"{row.query}\t{row.rank}\t{row.candidate}\t{row.score:.4f}")
    return 0
