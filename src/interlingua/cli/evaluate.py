"""``interlingua evaluate``: measure retrieval, translation and any system's outputs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import cyclopts

from interlingua.cli.output import emit, note, say
from interlingua.experiments.config import Device, Task
from interlingua.retrieval.methods import DEFAULT_METHOD, SimilarityFormat

if TYPE_CHECKING:
    from interlingua.experiments.run import Run

_UNTRAINED = "interlingua: frames without silence behind the speech make an untrained decoder loop (docs/encoding.md)"

app = cyclopts.App(name="evaluate", help="Measure retrieval, translation and any system's outputs.")


@app.command
def retrieval(
    manifest: Path,
    store: str,
    *,
    method: tuple[str, ...] = (),
    languages: tuple[str, ...] | None = None,
    compute: SimilarityFormat = "float32",
    device: Device = "auto",
    drop_quiet: float | None = None,
    concatenate: tuple[str, ...] = (),
    texts: Path | None = None,
    head: Path | None = None,
    model: str = "base",
    trec: Path | None = None,
    out: Path | None = None,
    json: bool = False,
) -> int:
    """R@1, R@5, R@10 and MRR of every ordered language pair, with intervals and chance.

    Args:
        manifest: utterances with meanings: a manifest, or a table or pairs of your own.
        store: their frames, from `interlingua encode`.
        method: methods to score; default: whitened-position-csls (the best without labels) and seqsim (the paper's).
            Others are named by entry point (`interlingua.methods`) or module:attribute.
        languages: compare these languages only.
        compute: number format of SeqSim's products; auto = bfloat16 where the device has it.
        device: where to score.
        drop_quiet: drop frames that are this many decibels quieter than the utterance's loudest, such as 40.
        concatenate: stores of the same utterances at other layers, whose frames, each made unit, are joined to these.
        texts: for the cascade: file of its English texts (JSON lines), written where it is absent.
        head: for the method head: the file of `interlingua index train`; default: the one beside the store.
        model: for the cascade: the model that made the frames.
        trec: folder for the rankings in TREC's form, a qrels file a pair and a run file a method (docs/retrieval.md).
        out: result folder for results.json, arrays.npz and report.html; those of an earlier evaluation are replaced.
        json: print the results as JSON.
    """
    from interlingua.corpora import read_manifest
    from interlingua.encoding import resolve_device
    from interlingua.encoding.store import FrameStore
    from interlingua.errors import UsageError
    from interlingua.experiments.retrieval import (
        SEEDS,
        Corpus,
        EnglishTexts,
        concatenate_layers,
        measure,
        usable_methods,
        without_quiet,
    )
    from interlingua.experiments.run import Run
    from interlingua.experiments.translation import english_texts
    from interlingua.experiments.utterances import UtteranceLog
    from interlingua.models import load_sentence_encoder, load_whisper
    from interlingua.report.retrieval import near_chance
    from interlingua.results import Results
    from interlingua.retrieval.head import Head, head_path, sentence
    from interlingua.retrieval.methods import get_method

    cascade = "cascade" in [get_method(name).score for name in method]
    if cascade and not texts:
        raise UsageError("--method cascade compares English texts; name the file to keep them in with --texts")
    for folder in filter(None, (out, trec)):
        folder.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    run = Run(out or Path(), log=note)
    utterances = read_manifest(manifest, languages, log=note)
    frames = FrameStore.open(store)
    missing = [u.id for u in utterances if u.id not in frames]
    for name in missing:
        note(f"interlingua: {name} is not in {store}: it counts as a miss; run `interlingua encode` on {manifest}")
    where, how = resolve_device(device, compute)
    run.compute, run.device = frames.spec.compute, where
    corpus = Corpus.of(utterances, frames)
    if concatenate:
        corpus = concatenate_layers([corpus, *(Corpus.of(utterances, FrameStore.open(path)) for path in concatenate)])
    if drop_quiet is not None:
        corpus = without_quiet(corpus, utterances, drop_quiet, frames.spec.rate, frames.spec.pooling)
    english = None
    if cascade and texts:
        if frames.spec.context == "speech":
            note(_UNTRAINED)
        said = english_texts(utterances, frames, load_whisper(model, device=where), texts)
        english = EnglishTexts(said, load_sentence_encoder(device=where))
    trained = None
    if "headed" in [get_method(name).frames for name in method]:
        if concatenate:
            raise UsageError("--concatenate: a head is for the frames of one layer")
        trained = Head.load(head or head_path(frames.path), frames.dim)
        if known := sum(sentence(u.group) in trained.groups for u in utterances):
            note(
                f"interlingua: the head was trained on sentences of {known} of {len(utterances)} utterances: "
                "R@1 on others is lower"
            )
    elif head:
        raise UsageError("--head is for --method head")
    methods = list(dict.fromkeys(method)) or usable_methods(
        (DEFAULT_METHOD, "seqsim"), corpus.n_clusters, lambda line: note(f"interlingua: {line}")
    )
    log = UtteranceLog(utterances)
    found = measure(corpus, methods, compute=how, device=where, texts=english, head=trained, log=log, trec=trec)
    results = Results(
        title="Cross-lingual speech retrieval",
        retrieval=found.rows,
        similarity=found.similarity,
        skipped=found.skipped,
        settings={
            **vars(frames.spec),
            "manifest": str(manifest),
            "store": str(store),
            "similarity_compute": how,
            "methods": methods,
            "drop_quiet": drop_quiet,
            "concatenate": list(concatenate),
            **({"head": trained.digest, "head_trained_on": trained.about} if trained else {}),
        },
        failures=[f"{name}: not in the store" for name in missing],
    )
    for line in found.skipped:
        note(f"interlingua: {line}")
    for query, candidate, n, count in dict.fromkeys(
        (r.query, r.candidate, r.n_unanswerable, r.n) for r in found.rows if r.n_unanswerable
    ):
        note(
            f"interlingua: {query}-{candidate}: {n} of {n + (count or 0)} queries are skipped, whose sentence nobody "
            f"recorded in {candidate}"
        )
    _finish(run, results, log, out, json, SEEDS, found.arrays)
    for line in near_chance(results):
        note(f"interlingua: near chance: {line}")
    if not json:
        width = max(len(r.method) for r in found.rows)
        say(f"{'pair':8} {'method':{width}} {'n':>4}  R@1 [95% CI]         R@5   R@10  MRR   chance")
        for r in found.rows:
            low, high = r.r1_ci or (r.r1, r.r1)
            say(
                f"{r.query + '-' + r.candidate:8} {r.method:{width}} {r.n:4d}  {r.r1:.3f} [{low:.3f}, {high:.3f}]  "
                f"{r.r5:.3f} {r.r10:.3f} {r.mrr:.3f} {r.chance:.4f}"
            )
    return 1 if missing else 0


@app.command
def translation(
    manifest: Path,
    store: str,
    *,
    model: str = "base",
    languages: tuple[str, ...] | None = None,
    device: Device = "auto",
    out: Path | None = None,
    json: bool = False,
) -> int:
    """BLEU and chrF of speech translated into English, greedily, from a store with decoding context.

    Args:
        manifest: utterances with English references: a manifest or a table of your own.
        store: their frames, from `interlingua encode --context full` (or speech+N).
        model: the model that made the frames.
        languages: source languages; default: all but English.
        device: where to decode.
        out: result folder for results.json and report.html; those of an earlier evaluation are replaced.
        json: print the results as JSON.
    """
    from interlingua.corpora import read_manifest
    from interlingua.encoding import resolve_device
    from interlingua.encoding.store import FrameStore
    from interlingua.errors import CorpusError
    from interlingua.experiments.run import Run
    from interlingua.experiments.translation import TARGET, translation_baseline
    from interlingua.experiments.utterances import UtteranceLog
    from interlingua.models import load_whisper
    from interlingua.resampling import BOOTSTRAP_SEED
    from interlingua.results import Results
    from interlingua.translation import require_decodable

    if out:
        out.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    run = Run(out or Path(), log=note)
    utterances = [u for u in read_manifest(manifest, languages, log=note) if u.language != TARGET]
    if not utterances:
        raise CorpusError(f"{manifest}: nothing to translate; every utterance requested is in English")
    frames = FrameStore.open(store)
    where, _ = resolve_device(device)
    whisper = load_whisper(model, device=where)
    require_decodable(frames, whisper)
    if frames.spec.context == "speech":
        note(_UNTRAINED)
    missing = [u.id for u in utterances if u.id not in frames]
    for name in missing:
        note(f"interlingua: {name} is not in {store}: it counts as an empty hypothesis")
    log = UtteranceLog(utterances)
    rows, samples = translation_baseline(utterances, frames, whisper, system=model, log=log)
    results = Results(
        title="Speech translation into English",
        translation=rows,
        samples=samples,
        settings={**vars(frames.spec), "manifest": str(manifest), "store": str(store)},
        failures=[f"{name}: not in the store" for name in missing],
    )
    seeds = {"bootstrap": BOOTSTRAP_SEED}
    run.compute, run.device = frames.spec.compute, where
    _finish(run, results, log, out, json, seeds)
    if not json:
        for r in rows:
            for metric, score in (("bleu", r.bleu), ("chrf", r.chrf)):
                assert score is not None
                low, high = score.ci or (score.value, score.value)
                say(
                    f"{r.source}-{r.target} n={r.n} {metric} {score.value:.1f} [{low:.1f}, {high:.1f}] "
                    f"{score.signature}"
                )
    return 1 if missing else 0


@app.command
def outputs(
    manifest: Path,
    outputs: tuple[str, ...],
    *,
    to: tuple[str, ...] = (),
    task: Task | None = None,
    languages: tuple[str, ...] | None = None,
    metric: tuple[str, ...] = (),
    comet: bool = False,
    comet_model: str | None = None,
    worst: int = 10,
    out: Path | None = None,
    json: bool = False,
) -> int:
    """Score systems' outputs: BLEU, chrF++, chrF, off-target rate and COMET, or WER and CER of transcripts.

    By source language and pooled, by duration, with the worst outputs; further systems are compared with the first.

    Args:
        manifest: the translated utterances, with references: a manifest or a table of your own.
        outputs: a file a system (JSON lines with `id`, `text` and, where there are several, `target`), or NAME=FILE.
        to: score outputs in these languages only; a single one also serves lines without a `target`.
        task: score only translations, or only transcripts (outputs in the source language).
        languages: source languages; default: all of the manifest.
        metric: further metrics of translations: a name that an installed package registers, or module:attribute.
        comet: also score by COMET, in its own environment (made by `interlingua doctor --comet`).
        comet_model: COMET's model: hub id or local checkpoint in the hub's layout. Default: Unbabel/wmt22-comet-da.
        worst: how many of each system's worst outputs to list, by target.
        out: result folder for results.json and report.html; those of an earlier evaluation are replaced.
        json: print the results as JSON.
    """
    import msgspec

    from interlingua.corpora import read_manifest
    from interlingua.errors import UsageError
    from interlingua.experiments.outputs import evaluate_outputs, groups_of, missing_ids, read_systems, unscored
    from interlingua.experiments.run import Run
    from interlingua.experiments.utterances import UtteranceLog
    from interlingua.finetuning.evaluate import left_out
    from interlingua.languages import normalise_languages
    from interlingua.metrics import COMET_MODEL
    from interlingua.report import outputs as page
    from interlingua.report.tables import as_text
    from interlingua.resampling import BOOTSTRAP_SEED

    if worst < 0:
        raise UsageError(f"--worst {worst} is below 0; 0 lists none")
    if out:
        out.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    run = Run(out or Path(), compute="none: texts only", log=note)
    targets = normalise_languages(to)
    everything = {u.id: u for u in read_manifest(manifest, log=note)}
    systems = read_systems(outputs, everything, manifest=manifest, to=targets, task=task)
    spoken = normalise_languages(languages) if languages else None
    utterances = list(everything.values()) if spoken is None else read_manifest(manifest, spoken)
    groups = groups_of(utterances, systems, to=targets, task=task)
    for line in left_out(utterances, [(g.source, g.target) for g in groups]):
        note(f"interlingua: {line}")
    missing = 0
    for system in systems:
        for group in groups:
            if absent := missing_ids(system, [group]):
                missing += len(absent)
                note(
                    f"interlingua: {system.name}, {group.source}-{group.target}: {len(absent)} of "
                    f"{len(group.references)} outputs are missing, e.g. of {absent[0]!r}: they count as empty"
                )
        if left := unscored(system, utterances, groups):
            note(f"interlingua: {system.name}: {left} outputs are skipped: the manifest has no reference for them")
    model = comet_model or COMET_MODEL if comet or comet_model else None
    log = UtteranceLog(utterances)
    found = evaluate_outputs(utterances, systems, groups, metrics=metric, comet_model=model, worst=worst, log=log)
    settings = {
        "manifest": str(manifest),
        "outputs": list(outputs),
        "to": list(targets),
        "task": task,
        "languages": None if spoken is None else list(spoken),
        "comet": model,
    }
    found = msgspec.structs.replace(found, title=f"Outputs of {', '.join(s.name for s in systems)}", settings=settings)
    seeds = {"bootstrap and randomisation": BOOTSTRAP_SEED}
    _finish(run, found, log, out, json, seeds)
    if not json:
        for section in (page.systems, page.compared, page.by_duration, page.worst):
            say(as_text(section(found)))
    return 1 if missing else 0


def _finish(run: "Run", results: Any, log: Any, out: Path | None, json: bool, seeds: Any, arrays: Any = None) -> None:
    from interlingua.report import write_report
    from interlingua.results import as_json

    on = [r.utterance for r in log.results]
    results = run.save(
        results, measured_on=on, seeds=seeds, arrays=arrays, utterances=log.results, write=out is not None
    )
    if out:
        note(f"report: {write_report(out)}")
    if json:
        emit(as_json(results))
