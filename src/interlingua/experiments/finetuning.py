"""One fine-tuning from manifest to result folder: train, keep, measure before and after."""

import datetime
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from interlingua.corpora import read_manifest
from interlingua.encode import best_compute, best_device
from interlingua.errors import CorpusError, ResultsError
from interlingua.experiments.config import Device
from interlingua.experiments.transfer import (
    Outputs,
    Question,
    answers,
    new_questions,
    old_questions,
    pooled_rows,
    references,
    transfer_rows,
)
from interlingua.files import sha256_file, write_text
from interlingua.metrics import score_translations
from interlingua.models import Whisper, load_whisper
from interlingua.models.saving import save_whisper
from interlingua.results import provenance, save_results
from interlingua.store import FrameStore
from interlingua.transfer.config import FinetuneConfig
from interlingua.transfer.examples import translation_examples
from interlingua.transfer.finetune import rehearsal_examples, train
from interlingua.transfer.targets import Base, Target, Targets, assign_slot
from interlingua.transfer.trainer import Evaluate
from interlingua.translation import require_decodable
from interlingua.types import Utterance

_FREE = ("manifest", "out", "log")  # paths and logging may change between runs that go on


def run_finetune(config: FinetuneConfig, *, device: Device = "auto", log: Callable[[str], None] = print) -> Path:
    """Train what the config says, measure before and after on the test split, and return the result folder.

    The folder holds ``model/`` (Hugging Face's layout), ``checkpoints/``, ``results.json`` and what was answered before
    and after. Interrupted, the same call goes on.

    Raises:
        ResultsError: the folder is of another config, manifest or store.
        InterlinguaError: see the stages.
    """
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    where = best_device() if device == "auto" else device
    compute = best_compute(where) if config.compute == "auto" else config.compute
    utterances, store = read_manifest(config.manifest), FrameStore.open(config.store)
    whisper = load_whisper(config.model, device=where)
    whisper.require_translation()
    require_decodable(store, whisper)
    claim(config, store)
    new, dev, test = split(utterances, config)
    absent = [u.id for u in new if u.id not in store]
    new = [u for u in new if u.id in store]
    if not new:
        raise CorpusError(f"{config.store}: nothing to train on is encoded; run `interlingua encode` first")
    if absent:
        log(f"{len(absent)} utterances to train on are not in {config.store} and left out, the first is {absent[0]!r}")
    languages = sorted({u.language for u in utterances if u.language in whisper.languages})
    token = assign_slot(whisper, config.target, languages)
    examples = translation_examples(new, whisper, config.target, config.prompt, token=token)
    log(f"{len(examples)} examples of {', '.join(config.source)} into {config.target}; training in {compute}")
    if config.rehearses or config.ewc:
        train_split = new[0].split
        heard = [u for u in utterances if u.split == train_split and u.language in (config.rehearse or languages)]
        examples += rehearsal_examples(whisper, heard, store)
    questions = new_questions(whisper, languages, config.target, config.prompt, token)
    questions += old_questions(whisper, languages)
    before = kept(config.out / "before.json", lambda: answers(whisper, questions, test, store, "before"))
    change = train(
        whisper,
        examples,
        store,
        config,
        folder=config.out / "checkpoints",
        dev=dev_scores(whisper, [q for q in questions if q.kind == "new" and q.source in config.source], dev, store),
        compute=compute,
        device=where,
    )
    change.apply(whisper, config.interpolate)
    named = Targets(
        targets={config.target: Target(None if config.prompt == "source-translate" else token, config.prompt)},
        base=Base(whisper.model_name, whisper.revision),
        sources=tuple(config.source),
    )
    log(f"model: {save_whisper(whisper, config.out / 'model', named)}")
    after = kept(config.out / "after.json", lambda: answers(whisper, questions, test, store, "after"))
    results: dict[str, Any] = {
        "title": f"Fine-tuned on {', '.join(config.source)} into {config.target}",
        "settings": {name: _plain(value) for name, value in vars(config).items()},
        "transfer": transfer_rows(before, after, test, config.source) if test else [],
        "transfer_pooled": pooled_rows(before, after, test, config.source) if test else [],
        "provenance": provenance(compute, where, time.monotonic() - clock, started),
    }
    save_results(config.out, results)
    return config.out


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
    whisper: Whisper, questions: Sequence[Question], dev: Sequence[Utterance], store: FrameStore
) -> Evaluate | None:
    """chrF and BLEU of the decoder as it is on the dev set, mean over questions; None where it has no references."""
    asked = [(q, references(dev, q.source, q.target)) for q in questions]
    asked = [(q, expected) for q, expected in asked if expected]
    if not asked:
        return None

    def scores() -> dict[str, float]:
        said = answers(whisper, [q for q, _ in asked], dev, store, "dev")
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


def claim(config: FinetuneConfig, store: FrameStore) -> None:
    """Write what a folder is of, or raise ResultsError if it is of something else."""
    mine = {name: _plain(value) for name, value in vars(config).items() if name not in _FREE}
    mine |= {"manifest_sha256": sha256_file(config.manifest), "store_version": store.version}
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


def kept(path: Path, make: Callable[[], Outputs]) -> Outputs:
    """Answers from a file, or made and written there."""
    if path.exists():
        return dict(json.loads(path.read_text(encoding="utf-8")))
    said = make()
    write_text(path, json.dumps(said, ensure_ascii=False, indent=0) + "\n")
    return said


def _plain(value: Any) -> Any:
    """A setting as JSON has it."""
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
