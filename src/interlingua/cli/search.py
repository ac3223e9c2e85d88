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
        method: how to score, a SeqSim method. The default is that of `evaluate retrieval`: each side is whitened, so
            each should be of one language, and hubs are demoted by CSLS.
        plain: the same as --method seqsim: frames as they are.
        background: store of unlabelled utterances in the queries' language, to whiten queries by and to tell which
            candidates are hubs; default: the queries themselves.
        compute: number format of SeqSim's products; auto = bfloat16 where the device has it.
        device: where to search.
        check: also search this many queries exhaustively, and report how far the rankings agree.
        json: print the result as JSON.
    """
    from interlingua.encoding import resolve_device
    from interlingua.encoding.store import FrameStore
    from interlingua.errors import UsageError
    from interlingua.progress import track
    from interlingua.retrieval.features import LEAST_UTTERANCES
    from interlingua.retrieval.methods import PAPER_METHOD, get_method
    from interlingua.retrieval.search import Gallery, Stage, agreement

    if top < 1 or check < 0:
        raise UsageError(f"--top {top} --check {check}: use 1 or more, and 0 or more")
    chosen = get_method(PAPER_METHOD if plain else method)
    stages = () if exhaustive else tuple(Stage.parse(text) for text in coarse)
    asked, held = FrameStore.open(queries), FrameStore.open(gallery)
    held.require(asked.spec, asked.dim)
    unlabelled = FrameStore.open(background) if background else asked
    unlabelled.require(asked.spec, asked.dim)
    for store in (asked, held):
        if not len(store):
            raise UsageError(f"{store.path}: the store is empty; run `interlingua encode`")
    for store in (unlabelled, held) if chosen.estimates else ():
        if len(store) < LEAST_UTTERANCES:
            raise UsageError(
                f"{store.path}: {len(store)} utterances are too few to estimate on, {LEAST_UTTERANCES} are needed; "
                "use --method seqsim, or --background for the queries"
            )
    (query_ids, query_frames), (ids, candidates) = (
        ([f.id for f in read], [f.speech for f in read]) for read in ([*asked], [*held])
    )
    known = [f.speech for f in unlabelled] if background else None
    where, how = resolve_device(device, compute)
    index = Gallery(candidates, chosen, stages=stages, compute=how, device=where)
    with track(len(query_ids), "searching") as advance:
        ranking = index.search(query_frames, top, background=known, advance=advance)
    found = [
        {"query": query, "rank": rank, "candidate": ids[position], "score": float(score)}
        for query, found_here, scores in zip(query_ids, ranking.candidates, ranking.scores, strict=True)
        for rank, (position, score) in enumerate(zip(found_here, scores, strict=True), 1)
    ]
    agreed = None
    if check > 0:
        some = query_frames[:check]
        whole = Gallery(candidates, chosen, stages=(), compute=how, device=where)
        slow = whole.search(some, top, background=known or query_frames)
        agreed = agreement(ranking.first(len(some)), slow)
        best = slow.scores.shape[1]
        note(f"interlingua: {agreed:.1%} of the exhaustive ranking's {best} best were found ({len(some)} queries)")
    if json:
        emit({"results": found, "agreement": agreed, "queries": len(query_ids), "gallery": len(ids)})
    else:
        for row in found:
            print(f"{row['query']}\t{row['rank']}\t{row['candidate']}\t{row['score']:.4f}")
    return 0
