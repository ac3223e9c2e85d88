"""One fine-tuning from manifest to result folder: train, keep, measure before and after."""

import dataclasses
import datetime
import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from accelerate import PartialState

from interlingua.corpora import read_manifest
from interlingua.corpora.base import CORPORA, get_corpus, read_corpus
from interlingua.corpora.prepare import prepare_manifest
from interlingua.encoding import (
    FrameStore,
    WhisperEncoder,
    best_compute,
    encode_manifest,
    estimate_bytes,
    free_bytes,
    resolve_device,
)
from interlingua.errors import CorpusError, ResultsError, UsageError
from interlingua.experiments.config import Device
from interlingua.experiments.run import Run, claim, kept, kept_by_id, to_encode, with_durations
from interlingua.experiments.utterances import UtteranceLog
from interlingua.files import sha256_file, shown_size
from interlingua.finetuning.config import FinetuneConfig
from interlingua.finetuning.data import (
    MOST_TOKENS,
    NONE,
    Example,
    LiveStates,
    States,
    named,
    rehearsal_examples,
    translation_examples,
    unfit,
)
from interlingua.finetuning.evaluate import (
    Outputs,
    Task,
    by_task,
    dev_scores,
    left_out,
    new_tasks,
    old_tasks,
    other_tasks,
    outputs_by_chunk,
    parts_of,
    pooled_rows,
    summary_rows,
    system_outputs,
    transfer_rows,
)
from interlingua.finetuning.model import UpperStates
from interlingua.finetuning.presets import ALL, heard_in
from interlingua.finetuning.trainer import steps_of, train, training_curve
from interlingua.languages import PromptKind
from interlingua.models import Whisper, load_whisper, save_whisper
from interlingua.models.targets import Base, Target, Targets, assign_slot, read_targets
from interlingua.resampling import BOOTSTRAP_SEED
from interlingua.results import Results, UtteranceResult
from interlingua.translation import decode_frames, detect_frames, fast_engine, require_decodable
from interlingua.translation.unseen import proxy_language
from interlingua.types import Frames, Hypothesis, Utterance

_FREE = ("data", "out", "log", "strict")  # paths and logging may change when a run resumes
MOST_REHEARSED = 5_000  # utterances, drawn: each is decoded once or twice a language
PROBED = 16  # utterances of a language without a token, to choose a proxy language
MOST_OF_DISK = 0.8  # proportion of the free disk that states may take
WAIT = datetime.timedelta(days=7)  # processes wait for the first one as long as it takes


def run_finetune(
    config: FinetuneConfig, *, device: Device = "auto", dry_run: bool = False, log: Callable[[str], None] = print
) -> Path:
    """Train, measure before and after on the test split, return the result folder; interrupted, the same call resumes.

    The folder holds ``model/`` (Hugging Face's layout), ``checkpoints/``, ``results.json`` and the outputs before and
    after. ``dry_run``: only read the manifest, and print the plan.

    Raises:
        ResultsError: the folder is of another config, manifest or store.
    """
    where, compute = resolve_device(device, config.compute)
    processes = PartialState(cpu=where == "cpu", timeout=WAIT)  # of torchrun; else this one alone
    if not processes.is_main_process:
        log = _silent
    run = Run(config.out, compute=compute, device=where, log=log)
    with processes.main_process_first():
        manifest, utterances = read_data(config, log)
    whisper = load_whisper(config.model, device=where)
    whisper.require_translation()
    languages = sorted({u.language for u in utterances if u.language in whisper.languages})
    strange = [s for s in config.source if s not in whisper.languages]
    if config.spoken_as:
        whisper.language_token(config.spoken_as)
        if not strange:
            raise UsageError(
                f"--as {config.spoken_as}: {', '.join(config.source)} have tokens of their own; leave it out"
            )
    new, dev, test = split(utterances, config)
    new = fit_to_train(new, [*dev, *test], whisper, config, log)
    if config.rehearse_as == (ALL,):
        config = dataclasses.replace(config, rehearse_as=heard_in(tuple(languages), frozenset(whisper.languages)))
    below = whisper.n_layers - config.train_encoder_layers
    if below < 1:
        raise UsageError(
            f"--train-encoder-layers {config.train_encoder_layers}: {whisper.model_name} has {whisper.n_layers} "
            "encoder layers, and the lowest stays frozen"
        )
    steps = steps_of(config, len(new))
    passes = steps * config.batch_size * config.accumulation * processes.num_processes / len(new)
    if dry_run:
        log(f"method {config.method}: {steps} steps, {passes:.1f} passes")
        log(f"{len(new)} utterances to train on, {len(dev)} to choose by, {len(test)} to measure on")
        if not config.store:
            spec = WhisperEncoder(whisper, context=config.context, layer=below).spec
            log(f"to encode: {to_encode([*new, *dev, *test], spec, whisper.dim, config.out / 'frames.lance')}")
        return config.out
    if config.fisher and not config.fisher.exists():
        raise ResultsError(f"--fisher {config.fisher}: no such file; leave it out, and it is estimated")
    rehearsed: list[Utterance] = []
    if config.rehearses or (config.ewc and not config.fisher):
        rehearsed = [u for u in utterances if u.split == new[0].split and u.language in (config.rehearse or languages)]
        order = np.random.default_rng(config.seed).permutation(len(rehearsed))[:MOST_REHEARSED]
        rehearsed = [rehearsed[i] for i in sorted(order)]

    opened = [FrameStore.open(path) for path in config.store]
    for held in opened:
        require_decodable(held, whisper, below=config.train_encoder_layers)
    with processes.main_process_first():  # it makes what the others then read
        settings = {name: value for name, value in plain(config).items() if name not in _FREE}
        made_by = {"device": where, "compute": compute, "revision": whisper.revision}
        made_by |= {"manifest_sha256": sha256_file(manifest)}
        run.claim({**settings, **made_by, "store_version": [s.version for s in opened]})
        stores: list[States] = [*opened]
        if not stores:
            used = list({u.id: u for u in [*new, *rehearsed, *dev, *test]}.values())
            fast = load_whisper(config.model, dtype=best_compute(where), device=where)
            encoder = WhisperEncoder(fast, context=config.context, layer=below)
            reads = math.ceil(passes) + bool(rehearsed)
            stores = [made_states(config.out / "frames.lance", used, encoder, reads, log)[0]]
    trained_on = stores
    if config.train_encoder_layers:
        stores = [UpperStates(s, whisper, config.train_encoder_layers) for s in stores]
    states, *contexts = stores
    new = _with_states(new, [*dev, *test], states, config, log)

    taught = read_targets(whisper.source.path)
    proxies = dict(taught.proxies) if taught else {}
    with processes.main_process_first():
        for source in strange:
            if config.spoken_as or source not in proxies:
                heard = [u.id for u in new if u.language == source][:PROBED]
                proxies[source] = config.spoken_as or proxy_of(whisper, source, states.read(heard), log)
    token = slot_of(whisper, config.target, [*languages, *proxies.values()], taught)
    examples = translation_examples(new, whisper, config.target, config.prompt, token=token, proxies=proxies)
    log(f"{len(examples)} examples of {', '.join(config.source)} into {config.target}; training in {compute}")
    log(f"method {config.method}: {steps} steps of {config.batch_size * config.accumulation}, {passes:.1f} passes")
    tasks = new_tasks(whisper, [*languages, *strange], config.target, config.prompt, token, proxies)
    tasks += old_tasks(whisper, languages)
    for other in config.others:
        tasks += other_tasks(whisper, languages, other, config.prompt)
    for line in left_out([*dev, *test], dict.fromkeys((t.source, t.target) for t in tasks if t.kind != "detect")):
        log(line)
    with processes.main_process_first():
        if rehearsed:

            def rehearsal() -> list[Example]:
                return rehearsal_examples(whisper, rehearsed, states, languages=config.rehearse_as)

            examples += kept(config.out / "rehearsal.json", rehearsal, list[Example])
        before = kept_outputs(config.out / "before.jsonl", lambda: whisper, tasks, test, states, "before")
    transfer_rows(before, before, test, config.source)  # what can't be scored fails before training, not after
    update = train(
        whisper,
        examples,
        trained_on[0],
        config,
        folder=config.out / "checkpoints",
        dev=dev_scores(whisper, [t for t in tasks if t.kind == "new" and t.source in config.source], dev, states),
        contexts=trained_on[1:],
        fisher=config.fisher or (config.out / "fisher.safetensors" if config.ewc else None),
        compute=compute,
        device=where,
    )
    if not processes.is_main_process:
        processes.wait_for_everyone()
        return config.out
    update.apply(whisper, config.interpolate, config.interpolate_cross_attention)
    taught = named_targets(whisper, config.target, token, config.prompt, config.source, proxies)
    log(f"model: {save_whisper(whisper, config.out / 'model', taught)}")

    curve = training_curve(config.out / "checkpoints")
    after = kept_outputs(config.out / "after.jsonl", lambda: whisper, tasks, test, states, "after")
    pools = pooled_rows(before, after, test, config.source) if test else []
    for i, store in enumerate(contexts if test else [], 1):
        found = kept_outputs(config.out / f"after-{i}.jsonl", lambda: whisper, tasks, test, store, "after")
        for row in pooled_rows(before, found, test, config.source):
            pools.append(msgspec.structs.replace(row, pool=f"{row.pool}, read from {config.store[i]}"))
    run.save(
        Results(
            title=f"Fine-tuned on {', '.join(config.source)} into {config.target}",
            settings=plain(config),
            training=curve,
            transfer=transfer_rows(before, after, test, config.source) if test else [],
            transfer_pooled=pools,
            transfer_summary=summary_rows(before, after, test, config.source) if test else [],
        ),
        measured_on=[*new, *dev, *test],
        seeds={"training": config.seed, "bootstrap and randomisation": BOOTSTRAP_SEED},
        utterances=each_output({"before": before, "after": after}, test),
    )
    processes.wait_for_everyone()
    return config.out


def is_main_process() -> bool:
    """Whether this is the main process of ``torchrun``."""
    return bool(PartialState().is_main_process)


def _silent(_: str) -> None:
    """The log of the processes that don't speak."""


def plain(settings: Any) -> dict[str, object]:
    """Settings as plain JSON values, defaults included."""
    return dict(msgspec.to_builtins(dataclasses.asdict(settings), enc_hook=str))


def _with_states(
    new: Sequence[Utterance],
    measured: Sequence[Utterance],
    states: States,
    config: FinetuneConfig,
    log: Callable[[str], None],
) -> list[Utterance]:
    """The training utterances that have states; logs the others."""
    absent = [u.id for u in new if u.id not in states]
    if len(absent) == len(new):
        raise CorpusError(f"{', '.join(config.store)}: nothing to train on is encoded; run `interlingua encode` first")
    without = [u.id for u in measured if u.id not in states]
    if without:
        log(f"{len(without)} of dev and test have no states and count as empty outputs, the first is {without[0]!r}")
    if absent:
        log(f"{len(absent)} utterances to train on have no states and are skipped: {named(absent)}")
    return [u for u in new if u.id in states]


def read_data(config: FinetuneConfig, log: Callable[[str], None]) -> tuple[Path, list[Utterance]]:
    """The manifest's path and its utterances; a corpus becomes one in the result folder, split if it has no splits.

    Raises:
        CorpusError: no such file or corpus.
        ResultsError: the folder was begun with another corpus.
    """
    name, _, root = config.data.partition("=")
    if name not in CORPORA or Path(config.data).exists():
        return Path(config.data), read_manifest(config.data, log=log)
    claim(config.out, {"data": config.data})
    path = config.out / f"{name}.jsonl"
    prepare_manifest(
        lambda line: read_corpus(name, Path(root) if root else None, log=line),
        path,
        fold=0 if get_corpus(name).splits is False else None,
        log=log,
    )
    return path, read_manifest(path)


def split(
    utterances: Sequence[Utterance], config: FinetuneConfig
) -> tuple[list[Utterance], list[Utterance], list[Utterance]]:
    """Training, dev and test utterances; without splits in the manifest all are trained on and none measured."""
    splits = {u.split for u in utterances}
    train_split = config.train_split if splits != {None} else None
    new = [u for u in utterances if u.split == train_split and u.language in config.source]
    new = [u for u in new if config.target in u.translations]
    if not new:
        raise CorpusError(
            f"{config.data}: no utterance of {', '.join(config.source)} in split {train_split!r} has a reference "
            f"in {config.target!r}; its splits are {', '.join(sorted(str(s) for s in splits))}"
        )
    dev = [u for u in utterances if u.split == config.dev_split]
    test = [u for u in utterances if u.split == "test"]
    return new, dev, test


def fit_to_train(
    new: Sequence[Utterance],
    measured: Sequence[Utterance],
    whisper: Whisper,
    config: FinetuneConfig,
    log: Callable[[str], None],
) -> list[Utterance]:
    """The training utterances that aren't `unfit`; the others are logged.

    Raises:
        CorpusError: none is left, or one is unfit and the config is strict.
    """
    reasons = unfit(new, measured, whisper, config.target, config.prompt)
    lines = [f"{why}: {len(ids)} of {len(new)}: {named(ids)}" for why, ids in reasons.items()]
    gone = {i for ids in reasons.values() for i in ids}
    if len(gone) == len(new):
        raise CorpusError(f"{config.data}: nothing to train on is left: {'; '.join(lines)}")
    if gone and config.strict:
        raise CorpusError(f"{config.data}: --strict: {'; '.join(lines)}; mend them, or omit --strict")
    for line in lines:
        log(f"left out of training: {line}")
    return [u for u in new if u.id not in gone]


# ---------------------------------------------------------------- what the transfer study does, too


def slot_of(whisper: Whisper, target: str, languages: Sequence[str], taught: Targets | None) -> str:
    """The language token of a target: that of its earlier fine-tuning, or a free one."""
    known = taught.targets if taught else {}
    if target in known and (token := known[target].token):
        return token
    return assign_slot(whisper, target, [*languages, *(how.token for how in known.values() if how.token)])


def named_targets(
    whisper: Whisper,
    target: str,
    token: str,
    prompt: PromptKind,
    sources: Sequence[str],
    proxies: Mapping[str, str] = NONE,
) -> Targets:
    """The targets of a fine-tuned model: the new one, and those before."""
    taught = read_targets(whisper.source.path)
    new = {target: Target(None if prompt == "source-translate" else token, prompt)}
    return Targets(
        targets={**new, **{t: how for t, how in (taught.targets if taught else {}).items() if t != target}},
        base=taught.base if taught else Base(whisper.model_name, whisper.revision),
        sources=tuple(dict.fromkeys([*(taught.sources if taught else ()), *sources])),
        proxies=dict(proxies),
    )


def proxy_of(whisper: Whisper, language: str, frames: Sequence[Frames], log: Callable[[str], None]) -> str:
    """See `proxy_language`; from encoder states of some of its speech."""
    engine = fast_engine(whisper)

    def translate(candidates: Sequence[str]) -> dict[str, dict[str, Hypothesis]]:
        return {
            code: {
                found.id: found
                for found in decode_frames(engine, frames, whisper.prompt(code, "translate"), most_tokens=MOST_TOKENS)
            }
            for code in candidates
        }

    return proxy_language(whisper, language, lambda: detect_frames(engine, frames), translate, log)


def made_states(
    path: Path, utterances: Sequence[Utterance], encoder: WhisperEncoder, reads: int, log: Callable[[str], None]
) -> tuple[States, dict[str, str]]:
    """States of a run without a store: kept in one at ``path`` where that fits and pays, else made on the fly.

    ``reads``: how often they will be read. Also returns the utterances without states: id -> why.
    """
    need, free = estimate_bytes(with_durations(utterances), encoder.spec, encoder.dim), free_bytes(path) or 0
    begun = path.exists()  # by this run before an interruption, or by the main process
    fits = begun or need < free * MOST_OF_DISK
    log(f"states of {len(utterances)} utterances take about {shown_size(need)}; {shown_size(free)} are free")
    if begun or (fits and reads > 1):
        store, report = encode_manifest(utterances, encoder, path)
        return store, report.failed
    log(
        "encoding on the fly: " + ("for one reading that is cheaper" if fits else "they don't fit; every epoch encodes")
    )
    live = LiveStates(utterances, encoder)
    return live, {u.id: "no audio, or longer than the window" for u in utterances if u.id not in live}


def kept_outputs(
    path: Path,
    whisper: Callable[[], Whisper],
    tasks: Sequence[Task],
    utterances: Sequence[Utterance],
    states: States,
    label: str,
    *,
    most_tokens: int = MOST_TOKENS,
) -> Outputs:
    """A model's outputs, from the file ``path`` (`kept_by_id`) or made where it lacks them.

    ``whisper``: called when the model is needed; utterances without states are skipped.
    """

    def make(ids: Sequence[str]) -> Iterable[Mapping[str, dict[str, str]]]:
        lacking = [u for u in utterances if u.id in set(ids)]
        return outputs_by_chunk(whisper(), tasks, lacking, states, label, most_tokens=most_tokens)

    origins = output_origins(tasks, utterances, states, most_tokens)
    by_source = [t.key for s in dict.fromkeys(t.source for t in tasks) for t in tasks if t.source == s]
    return by_task(by_source, kept_by_id(path, origins, make, dict[str, str]))


def output_origins(
    tasks: Sequence[Task], utterances: Sequence[Utterance], states: States, most_tokens: int
) -> dict[str, str]:
    """Utterance id -> key of what its outputs depend on besides the model, of those with states and tasks."""
    by_source: dict[str, list[Task]] = {}
    for task in tasks:
        by_source.setdefault(task.source, []).append(task)
    made = ["on the fly"] if isinstance(states, LiveStates) else []  # in other batches than a store's
    digests = {
        source: hashlib.sha256(msgspec.json.encode([some, most_tokens, *made])).hexdigest()[:16]
        for source, some in by_source.items()
    }
    return {u.id: digests[u.language] for u in utterances if u.language in digests and u.id in states}


def each_output(systems: Mapping[str, Outputs], utterances: Sequence[Utterance]) -> list[UtteranceResult]:
    """Every translation and transcript of the utterances, by system."""
    log = UtteranceLog(utterances)
    for system, outputs in systems.items():
        for key in outputs:
            kind, source, target = parts_of(key)
            found = system_outputs(key, outputs, utterances)
            if found.references and kind == "transcribe":
                log.transcribed(system, source, found.hypotheses, found.references)
            elif found.references and kind != "detect":
                log.translated(system, target, found.hypotheses, found.references)
    return log.results
