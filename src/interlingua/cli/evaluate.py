"""``interlingua evaluate``: measure retrieval, translation and any system's outputs."""

import datetime
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cyclopts

from interlingua.cli.output import emit, note
from interlingua.experiments.config import Device
from interlingua.experiments.output_files import Task
from interlingua.retrieval.methods import DEFAULT_METHOD, Method, SimilarityFormat

app = cyclopts.App(name="evaluate", help="Measure retrieval, translation and any system's outputs.")


@app.command
def retrieval(
    manifest: Path,
    store: str,
    *,
    method: tuple[Method, ...] = (),
    languages: tuple[str, ...] | None = None,
    compute: SimilarityFormat = "float32",
    device: Device = "auto",
    drop_quiet: float | None = None,
    beside: tuple[str, ...] = (),
    texts: Path | None = None,
    model: str = "base",
    out: Path | None = None,
    json: bool = False,
) -> int:
    """R@1, R@5, R@10 and MRR of every ordered language pair, with intervals and chance.

    Args:
        manifest: utterances with meanings: a manifest, or a table or pairs of your own.
        store: their frames, from `interlingua encode`.
        method: how to score; several may be named. Default: whitened-position-csls, the best without labels, and
            seqsim, the paper's. Methods that estimate on unlabelled audio do so outside each query's fold.
        languages: compare these languages only.
        compute: number format of SeqSim's products; auto = bfloat16 where the device has it.
        device: where to score.
        drop_quiet: leave out frames that are so many decibels quieter than the utterance's loudest, such as 40.
        beside: stores of the same utterances at other layers, whose frames are put beside these, each made unit.
        texts: for the cascade: file that keeps its English texts (JSON lines), made where it is absent.
        model: for the cascade: the model that made the frames.
        out: result folder for results.json, arrays.npz and report.html.
        json: print the results as JSON.
    """
    from interlingua.corpora import read_manifest
    from interlingua.encoding import best_compute, best_device
    from interlingua.encoding.store import FrameStore
    from interlingua.errors import UsageError
    from interlingua.experiments.frames import side_by_side, without_quiet
    from interlingua.experiments.retrieval import Corpus, evaluate_retrieval
    from interlingua.experiments.utterances import UtteranceLog
    from interlingua.resampling import BOOTSTRAP_SEED
    from interlingua.retrieval.scoring import FOLD_SEED, LEAST_CLUSTERS

    if "cascade" in method and not texts:
        raise UsageError("--method cascade compares English texts; name the file to keep them in with --texts")
    if out:
        out.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    utterances = read_manifest(manifest, languages, log=note)
    frames = FrameStore.open(store)
    missing = [u.id for u in utterances if u.id not in frames]
    for name in missing:
        note(f"interlingua: {name} is not in {store}: it counts as a miss; run `interlingua encode` on {manifest}")
    where = best_device() if device == "auto" else device
    how = best_compute(where) if compute == "auto" else compute
    corpus = Corpus.of(utterances, frames)
    if beside:
        corpus = side_by_side([corpus, *(Corpus.of(utterances, FrameStore.open(path)) for path in beside)])
    if drop_quiet is not None:
        corpus = without_quiet(corpus, utterances, drop_quiet, frames.spec.rate, frames.spec.pooling)
    english = _english_texts(utterances, frames, model, where, texts) if "cascade" in method and texts else None
    log = UtteranceLog(utterances)
    rows: list[dict[str, Any]] = []
    results: dict[str, Any] = {"title": "Cross-lingual speech retrieval"}
    arrays: dict[str, Any] = {}
    left_out = ""
    if not method:
        method = (DEFAULT_METHOD, "seqsim")
        if len({u.cluster or u.meaning for u in utterances if u.id in frames}) < LEAST_CLUSTERS:
            left_out = f"interlingua: left out {DEFAULT_METHOD}, which takes {LEAST_CLUSTERS} clusters of meanings"
            method = ("seqsim",)
    for name in dict.fromkeys(method):
        measured, matrices = evaluate_retrieval(
            utterances,
            frames,
            name,
            compute=how,
            device=where,
            texts=english if name == "cascade" else None,
            corpus=corpus,
            log=log,
        )
        rows += measured
        if not arrays:
            (query, candidate), matrix = next(iter(matrices.items()))
            arrays["similarity"] = matrix
            results["similarity"] = {"query": query, "candidate": candidate, "method": name}
    if left_out:
        note(left_out)
    settings = {**vars(frames.spec), "manifest": str(manifest), "store": str(store), "similarity_compute": how}
    settings |= {"methods": list(method), "drop_quiet": drop_quiet, "beside": list(beside)}
    failures = [f"{name}: not in the store" for name in missing]
    results |= {"retrieval": rows, "settings": settings, "failures": failures}
    seeds = {"bootstrap": BOOTSTRAP_SEED, "folds": FOLD_SEED}
    _finish(results, arrays, log, out, json, _Origin(frames.spec.compute, where, started, clock, seeds))
    _warn_near_chance(results)
    if not json:
        width = max(len(r["method"]) for r in rows)
        print(f"{'pair':8} {'method':{width}} {'n':>4}  R@1 [95% CI]         R@5   R@10  MRR   chance")
        for r in rows:
            low, high = r["r1_ci"]
            print(
                f"{r['query'] + '-' + r['candidate']:8} {r['method']:{width}} {r['n']:4d}  {r['r1']:.3f} "
                f"[{low:.3f}, {high:.3f}]  {r['r5']:.3f} {r['r10']:.3f} {r['mrr']:.3f} {r['chance']:.4f}"
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
        out: result folder for results.json and report.html.
        json: print the results as JSON.
    """
    from interlingua.corpora import read_manifest
    from interlingua.encoding import best_device
    from interlingua.encoding.store import FrameStore
    from interlingua.errors import CorpusError
    from interlingua.experiments.translation import TARGET, translation_baseline
    from interlingua.experiments.utterances import UtteranceLog
    from interlingua.models import load_whisper
    from interlingua.resampling import BOOTSTRAP_SEED
    from interlingua.translation import require_decodable

    if out:
        out.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    utterances = [u for u in read_manifest(manifest, languages, log=note) if u.language != TARGET]
    if not utterances:
        raise CorpusError(f"{manifest}: nothing to translate; every utterance that was asked for is in English")
    frames = FrameStore.open(store)
    where = best_device() if device == "auto" else device
    whisper = load_whisper(model, device=where)
    require_decodable(frames, whisper)
    if frames.spec.context == "speech":
        note("interlingua: frames without silence behind the speech make an untrained decoder loop (docs/encoding.md)")
    missing = [u.id for u in utterances if u.id not in frames]
    for name in missing:
        note(f"interlingua: {name} is not in {store}: it counts as an empty hypothesis")
    log = UtteranceLog(utterances)
    rows, samples = translation_baseline(utterances, frames, whisper, system=model, log=log)
    results = {
        "title": "Speech translation into English",
        "translation": rows,
        "samples": samples,
        "settings": {**vars(frames.spec), "manifest": str(manifest), "store": str(store)},
        "failures": [f"{name}: not in the store" for name in missing],
    }
    seeds = {"bootstrap": BOOTSTRAP_SEED}
    _finish(results, {}, log, out, json, _Origin(frames.spec.compute, where, started, clock, seeds))
    if not json:
        for r in rows:
            for metric in ("bleu", "chrf"):
                score = r[metric]
                low, high = score["ci"]
                print(
                    f"{r['source']}-{r['target']} n={r['n']} {metric} {score['value']:.1f} [{low:.1f}, {high:.1f}] "
                    f"{score['signature']}"
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
    comet: bool = False,
    comet_model: str | None = None,
    worst: int = 10,
    out: Path | None = None,
    json: bool = False,
) -> int:
    """Score systems' outputs: BLEU, chrF++, chrF, off-target rate and COMET, or WER and CER of transcripts.

    Per language spoken and pooled, by duration, with the worst outputs; further systems are compared with the first.

    Args:
        manifest: the utterances that were translated, with references: a manifest or a table of your own.
        outputs: a file a system (JSON lines with `id`, `text` and, where there are several, `target`), or NAME=FILE.
        to: score outputs in these languages only; one alone is also that of lines without a `target`.
        task: score translations, or transcripts (outputs in the language spoken), only.
        languages: languages spoken; default: all of the manifest.
        comet: also score by COMET, in its own environment (made by `interlingua doctor --comet`).
        comet_model: COMET's model, a hub id or a local checkpoint in the hub's layout.
            Default: Unbabel/wmt22-comet-da.
        worst: how many of each system's worst outputs to list, by target.
        out: result folder for results.json and report.html.
        json: print the results as JSON.
    """
    from interlingua.cli.outputs import print_outputs
    from interlingua.corpora import read_manifest
    from interlingua.errors import UsageError
    from interlingua.experiments.output_files import read_systems
    from interlingua.experiments.outputs import evaluate_outputs, groups_of, missing_ids, unscored
    from interlingua.experiments.utterances import UtteranceLog
    from interlingua.languages import normalise_languages
    from interlingua.metrics import COMET_MODEL
    from interlingua.resampling import BOOTSTRAP_SEED

    if worst < 0:
        raise UsageError(f"--worst {worst} is below 0; 0 lists none")
    if out:
        out.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    targets = normalise_languages(to)
    everything = {u.id: u for u in read_manifest(manifest, log=note)}
    systems = read_systems(outputs, everything, manifest=manifest, to=targets, task=task)
    spoken = normalise_languages(languages) if languages else None
    utterances = list(everything.values()) if spoken is None else read_manifest(manifest, spoken)
    groups = groups_of(utterances, systems, to=targets, task=task)
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
            note(f"interlingua: {system.name}: {left} outputs are left out, which the manifest has no reference for")
    results: dict[str, Any] = {"title": f"Outputs of {', '.join(s.name for s in systems)}"}
    model = comet_model or COMET_MODEL if comet or comet_model else None
    log = UtteranceLog(utterances)
    results |= evaluate_outputs(utterances, systems, groups, comet_model=model, worst=worst, log=log)
    results["settings"] = {
        "manifest": str(manifest),
        "outputs": list(outputs),
        "to": list(targets),
        "task": task,
        "languages": None if spoken is None else list(spoken),
        "comet": model,
    }
    seeds = {"bootstrap and randomisation": BOOTSTRAP_SEED}
    _finish(results, {}, log, out, json, _Origin("none: texts only", "cpu", started, clock, seeds))
    if not json:
        print_outputs(results)
    return 1 if missing else 0


def _english_texts(utterances: Any, frames: Any, model: str, device: str, path: Path) -> Any:
    from interlingua.experiments.cascade import english_texts
    from interlingua.experiments.retrieval import EnglishTexts
    from interlingua.models import load_sentence_encoder, load_whisper

    if frames.spec.context == "speech":
        note("interlingua: frames without silence behind the speech make an untrained decoder loop (docs/encoding.md)")
    texts = english_texts(utterances, frames, load_whisper(model, device=device), path)
    return EnglishTexts(texts, load_sentence_encoder(device=device))


def _warn_near_chance(results: dict[str, Any]) -> None:
    import msgspec

    from interlingua.report.retrieval import summarise
    from interlingua.results import Results

    for line in summarise(msgspec.convert(results, Results)).near_chance:
        note(f"interlingua: near chance: {line}")


@dataclass(frozen=True)
class _Origin:
    """What provenance needs: number format of the frames, device, when the work began (by both clocks), seeds."""

    compute: str
    device: str
    started: datetime.datetime
    clock: float
    seeds: dict[str, int]


def _finish(
    results: dict[str, Any], arrays: dict[str, Any], log: Any, out: Path | None, json: bool, origin: _Origin
) -> None:
    import msgspec

    from interlingua.report import write_report
    from interlingua.results import Results, as_json, provenance, save_results

    seconds = time.monotonic() - origin.clock
    results["provenance"] = provenance(
        origin.compute,
        origin.device,
        seconds,
        origin.started,
        utterances=(r.utterance for r in log.results),
        seeds=origin.seeds,
    )
    if out:
        save_results(out, results, arrays, log.results)
        note(f"report: {write_report(out)}")
    if json:
        emit(as_json(msgspec.convert(results, Results)))
