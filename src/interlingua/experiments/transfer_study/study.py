"""The study from its settings to its results."""

import datetime
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from interlingua.encoding import WhisperEncoder, best_compute, best_device, encode_manifest
from interlingua.experiments.finetuning import begun_with, made_states
from interlingua.experiments.run import to_encode
from interlingua.experiments.transfer_study.data import StudyData, digest_of, study_data
from interlingua.experiments.transfer_study.measuring import Measuring, published_scores
from interlingua.experiments.transfer_study.settings import DEV, TRAIN, TransferStudy
from interlingua.experiments.transfer_study.work import MOST_TOKENS_OF_CORPORA, Work
from interlingua.finetuning.data import LiveStates, States
from interlingua.metrics import score_translations
from interlingua.models import Whisper, load_whisper
from interlingua.resampling import BOOTSTRAP_SEED
from interlingua.results import provenance, save_results

ANSWERS = 1  # raise it where code changes what a training gives: kept answers are refused then
OFTEN = 2  # readings of the states of dev and tests, at least


def run_transfer_study(
    study: TransferStudy, *, train: bool = True, dry_run: bool = False, log: Callable[[str], None] = print
) -> Path:
    """Run what isn't done yet, and write ``results.json``.

    Args:
        study: the settings.
        train: False: train nothing; variants that aren't done are left out of the results. (What the model says
            before training is asked, if it isn't kept yet.)
        dry_run: only read the corpora, and say what the rest will need.
        log: takes a line of news.

    Raises:
        ResultsError: the shared folder was begun with another model or corpus.
        InterlinguaError: see the stages.
    """
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    device = best_device()
    compute = best_compute(device)
    whisper = load_whisper(study.model, dtype=compute, device=device)
    data = study_data(study, whisper.languages, log)
    published_scores(study.published)  # what can't be read or scored is said before training, not after
    for target in study.targets:
        score_translations({}, {"": "1"}, target=target, metric="bleu")
    encoder = WhisperEncoder(whisper, context=study.context)
    if not dry_run:
        begun_with(study.folder / "shared.json", _begun(study, data, whisper) | {"device": device, "compute": compute})
    if dry_run:
        stores = (study.folder / "frames.lance", study.folder / "train.lance")
        log(f"to encode: {to_encode(data.every, encoder.spec, encoder.dim, *stores)}")
        nothing = LiveStates([], encoder)
        work = Work(study, data, nothing, nothing, compute, device)
        log(f"to train: {len({run.name for run in study.runs() if not work.is_done(run)})} trainings")
        return study.out
    learnt, heard, failures = _states(study, data, encoder, log)
    work = Work(study, data, learnt, heard, compute, device, log)
    runs = list({run.name: run for run in study.runs()}.values())
    for done, run in enumerate(runs if train else []):
        minutes = (time.monotonic() - clock) / 60
        log(f"training {done + 1} of {len(runs)} into {run.target}: {run.training.settings} ({minutes:.0f} min so far)")
        work.do(run)
    measuring = Measuring(work)
    test = ", ".join(study.tests) or "all rotations pooled, clusters resampled"
    results = {
        "title": f"Transfer: {study.source} speech into {', '.join(study.targets)}",
        "settings": {**msgspec.to_builtins(study, enc_hook=str), "test": test},
        **({"corpus": {"rules": list(data.rules)}} if data.rules else {}),
        **measuring.results(),
        "failures": failures,
        "provenance": provenance(
            compute,
            device,
            time.monotonic() - clock,
            started,
            utterances=data.every,
            seeds={"bootstrap": BOOTSTRAP_SEED, **{f"training {n}": s for n, s in enumerate(study.seeds, 1)}},
        ),
    }
    save_results(study.out, results, utterances=measuring.utterances())
    return study.out


def _begun(study: TransferStudy, data: StudyData, whisper: Whisper) -> dict[str, object]:
    """What every answer in the shared folder depends on."""
    begun: dict[str, object] = {"answers": ANSWERS, "model": study.model, "context": study.context}
    if not study.corpora:
        return begun | {"corpus": digest_of(data.every)}
    chosen = digest_of([*data.part(0, TRAIN), *data.part(0, DEV)])
    tests = {f"test {name}": digest_of(data.part(0, name)) for name in data.tests}
    return begun | {
        "revision": whisper.revision, "most_tokens": MOST_TOKENS_OF_CORPORA, "corpus": chosen, **tests
    }  # fmt: skip


def _states(
    study: TransferStudy, data: StudyData, encoder: WhisperEncoder, log: Callable[[str], None]
) -> tuple[States, States, list[str]]:
    """States of what is trained on, and of what is asked about, and which of the latter there are none of."""
    if not study.corpora:
        store, report = encode_manifest(data.every, encoder, study.folder / "frames.lance")
        n = len(report.failed)
        log(f"{len(store)} utterances encoded; {n} are longer than the window and count as empty answers")
        return store, store, []
    asked = [u for name in (DEV, *data.tests) for u in data.part(0, name)]
    heard, deaf = made_states(study.folder / "frames.lance", asked, encoder, OFTEN, log)
    configs = [run.training.config(run.target, run.seed, study.out) for run in study.runs()]
    reads = sum(c.epochs + (c.rehearses or c.ewc > 0) for c in configs)
    learnt, lost = made_states(study.folder / "train.lance", data.part(0, TRAIN), encoder, reads, log)
    if lost:
        log(f"{len(lost)} utterances to train on have no states and are left out, e.g. {next(iter(lost.items()))}")
    return learnt, heard, [f"{i}: {why}" for i, why in deaf.items()]
