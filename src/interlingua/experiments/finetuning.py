"""One fine-tuning from manifest to result folder: train, keep, measure before and after."""

import datetime
import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from accelerate import PartialState

from interlingua.corpora import read_manifest
from interlingua.encoding import (
    WhisperEncoder,
    best_compute,
    encode_manifest,
    estimate_bytes,
    free_bytes,
    resolve_device,
)
from interlingua.encoding.store import FrameStore
from interlingua.errors import CorpusError, ResultsError
from interlingua.experiments.config import Device
from interlingua.experiments.run import to_encode, with_durations
from interlingua.experiments.transfer import (
    Outputs,
    Question,
    answered,
    answers,
    each_answer,
    new_questions,
    old_questions,
    other_questions,
    pooled_rows,
    references,
    transfer_rows,
)
from interlingua.files import sha256_file, write_text
from interlingua.finetuning.config import FinetuneConfig
from interlingua.finetuning.data import (
    MOST_TOKENS,
    Example,
    LiveStates,
    States,
    rehearsal_examples,
    translation_examples,
)
from interlingua.finetuning.model import merged_copy
from interlingua.finetuning.trainer import Evaluate, train
from interlingua.languages import PromptKind
from interlingua.metrics import score_translations
from interlingua.models import Whisper, load_whisper
from interlingua.models.targets import Base, Target, Targets, assign_slot, read_targets
from interlingua.models.whisper import save_whisper
from interlingua.resampling import BOOTSTRAP_SEED
from interlingua.results import provenance, save_results
from interlingua.translation import require_decodable
from interlingua.types import Utterance

_FREE = ("manifest", "out", "log")  # paths and logging may change between runs that go on
MOST_OF_DISK = 0.8  # of what is free, that states may take
WAIT = datetime.timedelta(days=7)  # processes wait for the first one as long as it takes


def run_finetune(
    config: FinetuneConfig, *, device: Device = "auto", dry_run: bool = False, log: Callable[[str], None] = print
) -> Path:
    """Train what the config says, measure before and after on the test split, and return the result folder.

    With ``dry_run`` only the manifest is read, and what the rest will need is told.

    The folder holds ``model/`` (Hugging Face's layout), ``checkpoints/``, ``results.json`` and what was answered before
    and after. Interrupted, the same call goes on.

    Raises:
        ResultsError: the folder is of another config, manifest or store.
        InterlinguaError: see the stages.
    """
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    where, compute = resolve_device(device, config.compute)
    processes = PartialState(cpu=where == "cpu", timeout=WAIT)  # those of torchrun; else this one alone
    if not processes.is_main_process:
        log = _silent
    utterances = read_manifest(config.manifest, log=log)
    whisper = load_whisper(config.model, device=where)
    whisper.require_translation()
    languages = sorted({u.language for u in utterances if u.language in whisper.languages})
    new, dev, test = split(utterances, config)
    if dry_run:
        log(f"{len(new)} utterances to train on, {len(dev)} to choose by, {len(test)} to measure on")
        if not config.store:
            spec = WhisperEncoder(load_whisper(config.model), context=config.context).spec
            log(f"to encode: {to_encode([*new, *dev, *test], spec, whisper.dim, config.out / 'frames.lance')}")
        return config.out
    heard: list[Utterance] = []
    if config.fisher and not config.fisher.exists():
        raise ResultsError(f"--fisher {config.fisher}: no such file; leave it out, and it is estimated")
    if config.rehearses or (config.ewc and not config.fisher):
        heard = [u for u in utterances if u.split == new[0].split and u.language in (config.rehearse or languages)]
    used = list({u.id: u for u in [*new, *heard, *dev, *test]}.values())
    opened = [FrameStore.open(path) for path in config.store]
    for held in opened:
        require_decodable(held, whisper)
    with processes.main_process_first():  # it makes what the others then read
        claim(config, opened, {"device": where, "compute": compute, "revision": whisper.revision})
        stores: list[States] = [*opened]
        if not stores:
            fast = load_whisper(config.model, dtype=best_compute(where), device=where)
            encoder = WhisperEncoder(fast, context=config.context)
            stores = [made_states(config.out / "frames.lance", used, encoder, config.epochs, log)[0]]
    states, *contexts = stores
    absent = [u.id for u in new if u.id not in states]
    new = [u for u in new if u.id in states]
    if not new:
        raise CorpusError(f"{', '.join(config.store)}: nothing to train on is encoded; run `interlingua encode` first")
    unheard = [u.id for u in [*dev, *test] if u.id not in states]
    if unheard:
        log(f"{len(unheard)} of dev and test have no states and count as empty answers, the first is {unheard[0]!r}")
    if absent:
        log(f"{len(absent)} utterances to train on have no states and are left out, the first is {absent[0]!r}")
    taught = read_targets(whisper.source.path)
    token = slot_of(whisper, config.target, languages, taught)
    examples = translation_examples(new, whisper, config.target, config.prompt, token=token)
    log(f"{len(examples)} examples of {', '.join(config.source)} into {config.target}; training in {compute}")
    fisher = config.fisher or (config.out / "fisher.safetensors" if config.ewc else None)
    questions = new_questions(whisper, languages, config.target, config.prompt, token)
    questions += old_questions(whisper, languages)
    for other in config.others:
        questions += other_questions(whisper, languages, other, config.prompt)
    with processes.main_process_first():
        if heard:
            path = config.out / "rehearsal.json"
            examples += kept_examples(
                path, lambda: rehearsal_examples(whisper, heard, states, languages=config.rehearse_as)
            )
        before = kept(
            config.out / "before.json", lambda: answers(whisper, questions, test, states, "before"), test, states
        )
    transfer_rows(before, before, test, config.source)  # what can't be scored is said before training, not after
    change = train(
        whisper,
        examples,
        states,
        config,
        folder=config.out / "checkpoints",
        dev=dev_scores(whisper, [q for q in questions if q.kind == "new" and q.source in config.source], dev, states),
        contexts=contexts,
        fisher=fisher,
        compute=compute,
        device=where,
    )
    if not processes.is_main_process:
        processes.wait_for_everyone()
        return config.out
    change.apply(whisper, config.interpolate)
    named = named_targets(whisper, config.target, token, config.prompt, config.source)
    log(f"model: {save_whisper(whisper, config.out / 'model', named)}")
    after = kept(config.out / "after.json", lambda: answers(whisper, questions, test, states, "after"), test, states)
    pools = pooled_rows(before, after, test, config.source) if test else []
    for i, store in enumerate(contexts if test else [], 1):
        again = partial(answers, whisper, questions, test, store, "after")
        said = kept(config.out / f"after-{i}.json", again, test, store)
        for row in pooled_rows(before, said, test, config.source):
            pools.append({**row, "pool": f"{row['pool']}, read from {config.store[i]}"})
    results: dict[str, Any] = {
        "title": f"Fine-tuned on {', '.join(config.source)} into {config.target}",
        "settings": {name: _plain(value) for name, value in vars(config).items()},
        "transfer": transfer_rows(before, after, test, config.source) if test else [],
        "transfer_pooled": pools,
        "provenance": provenance(
            compute,
            where,
            time.monotonic() - clock,
            started,
            utterances=[*new, *dev, *test],
            seeds={"training": config.seed, "bootstrap and randomisation": BOOTSTRAP_SEED},
        ),
    }
    save_results(config.out, results, utterances=each_answer({"before": before, "after": after}, test))
    processes.wait_for_everyone()
    return config.out


def is_main_process() -> bool:
    """Whether this process speaks for all, where ``torchrun`` began several."""
    return bool(PartialState().is_main_process)


def _silent(_: str) -> None:
    """The log of the processes that don't speak."""


def slot_of(whisper: Whisper, target: str, languages: Sequence[str], taught: Targets | None) -> str:
    """The language token that stands for a target: the one that it was taught with, or one that is free."""
    known = taught.targets if taught else {}
    if target in known and (token := known[target].token):
        return token
    return assign_slot(whisper, target, [*languages, *(how.token for how in known.values() if how.token)])


def made_states(
    path: Path, utterances: Sequence[Utterance], encoder: WhisperEncoder, reads: int, log: Callable[[str], None]
) -> tuple[States, dict[str, str]]:
    """States of a run that was given no store: kept in one where that fits and pays, else made on the fly.

    Args:
        path: of the store.
        utterances: what is heard.
        encoder: makes the states.
        reads: how often they will be read.
        log: is told how much disk they take, before anything is encoded.

    Returns:
        The states, and those that there are none of: id -> why.
    """
    need, free = estimate_bytes(with_durations(utterances), encoder.spec, encoder.dim), free_bytes(path) or 0
    begun = path.exists()  # by this run, before an interruption, or by the first of several processes
    fits = begun or need < free * MOST_OF_DISK
    log(f"states of {len(utterances)} utterances take about {need / 1e9:.2f} GB; {free / 1e9:.0f} GB are free")
    if begun or (fits and reads > 1):
        store, report = encode_manifest(utterances, encoder, path)
        return store, report.failed
    log(
        "encoding on the fly: " + ("for one reading that is cheaper" if fits else "they don't fit; every epoch encodes")
    )
    live = LiveStates(utterances, encoder)
    return live, {u.id: "no audio, or longer than the window" for u in utterances if u.id not in live}


def named_targets(whisper: Whisper, target: str, token: str, prompt: PromptKind, sources: Sequence[str]) -> Targets:
    """What a model folder says of a target just learnt, beside those that the model knew."""
    taught = read_targets(whisper.source.path)
    mine = {target: Target(None if prompt == "source-translate" else token, prompt)}
    return Targets(
        targets={**mine, **{t: how for t, how in (taught.targets if taught else {}).items() if t != target}},
        base=taught.base if taught else Base(whisper.model_name, whisper.revision),
        sources=tuple(dict.fromkeys([*(taught.sources if taught else ()), *sources])),
    )


def split(
    utterances: Sequence[Utterance], config: FinetuneConfig
) -> tuple[list[Utterance], list[Utterance], list[Utterance]]:
    """What is trained on, what chooses the epoch, and what is measured.

    Without splits in the manifest everything is trained on and nothing measured.

    Raises:
        CorpusError: no utterance of the source languages to train on.
    """
    splits = {u.split for u in utterances}
    train_split = config.train_split if splits != {None} else None
    new = [u for u in utterances if u.split == train_split and u.language in config.source]
    new = [u for u in new if config.target in u.translations]
    if not new:
        raise CorpusError(
            f"{config.manifest}: no utterance of {', '.join(config.source)} in split {train_split!r} has a reference "
            f"in {config.target!r}; its splits are {', '.join(sorted(str(s) for s in splits))}"
        )
    dev = [u for u in utterances if u.split == config.dev_split]
    test = [u for u in utterances if u.split == "test"]
    return new, dev, test


def dev_scores(
    whisper: Whisper,
    questions: Sequence[Question],
    dev: Sequence[Utterance],
    store: States,
    most_tokens: int = MOST_TOKENS,
) -> Evaluate | None:
    """chrF and BLEU of the decoder as it is on the dev set, mean over questions; None where it has no references."""
    asked = [(q, references(dev, q.source, q.target)) for q in questions]
    asked = [(q, expected) for q, expected in asked if expected]
    if not asked:
        return None

    def scores() -> dict[str, float]:
        said = answers(merged_copy(whisper), [q for q, _ in asked], dev, store, "dev", most_tokens=most_tokens)
        return {
            metric: sum(
                score_translations(
                    {i: t for i, t in said[q.key].items() if i in expected}, expected, target=q.target, metric=metric
                ).value
                for q, expected in asked
            )
            / len(asked)
            for metric in ("chrf", "bleu")
        }

    return scores


def claim(config: FinetuneConfig, stores: Sequence[FrameStore], made_by: Mapping[str, str]) -> None:
    """Write what a folder is of, or raise ResultsError if it is of something else."""
    mine = {name: _plain(value) for name, value in vars(config).items() if name not in _FREE}
    mine |= {**made_by, "manifest_sha256": sha256_file(config.manifest), "store_version": [s.version for s in stores]}
    begun_with(config.out / "finetune.json", mine)


def begun_with(path: Path, settings: dict[str, Any]) -> None:
    """Write what results beside ``path`` are of, or raise ResultsError if they are of something else.

    Settings that the file doesn't have yet are added to it.
    """
    held = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name, value in settings.items():
        if name in held and held[name] != value:
            raise ResultsError(
                f"{path.parent}: begun with {name} {held[name]!r}, not {value!r}; name another --out, or delete it"
            )
    write_text(path, json.dumps({**held, **settings}, indent=1) + "\n")


def kept(path: Path, make: Callable[[], Outputs], utterances: Sequence[Utterance], states: States) -> Outputs:
    """Answers from a file, or made and written there; made again where utterances have states by now that had none."""
    if path.exists():
        said = dict(json.loads(path.read_text(encoding="utf-8")))
        if answered(said, utterances, states):
            return said
    said = make()
    write_text(path, json.dumps(said, ensure_ascii=False, indent=0) + "\n")
    return said


def kept_examples(path: Path, make: Callable[[], list[Example]]) -> list[Example]:
    """Examples from a file, or made and written there."""
    if not path.exists():
        write_text(path, msgspec.json.encode(make()).decode() + "\n")
    return msgspec.json.decode(path.read_bytes(), type=list[Example])


def _plain(value: Any) -> Any:
    """A setting as JSON has it."""
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
