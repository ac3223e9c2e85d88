"""What a transfer study still needs, said before it starts."""

from collections import Counter
from collections.abc import Callable

from interlingua.encoding import WhisperEncoder
from interlingua.encoding.store import FrameStore
from interlingua.experiments.needs import (
    answer_seconds,
    encoding_needs,
    say_room,
    spent,
    time_of_each,
    training_seconds,
)
from interlingua.experiments.transfer_study.data import StudyData, learnable
from interlingua.experiments.transfer_study.settings import DEV, TRAIN, TransferStudy
from interlingua.experiments.transfer_study.work import Work, some_of
from interlingua.finetuning.states import LiveStates
from interlingua.models import load_whisper


def say_needs(
    study: TransferStudy,
    data: StudyData,
    encoder: WhisperEncoder,
    compute: str,
    device: str,
    log: Callable[[str], None],
) -> None:
    """Tell hours of audio, disk, and how long encoding, training and decoding take here, of what isn't done yet.

    One step of training is timed on noise, and a few of the utterances are really decoded.
    """
    nothing = LiveStates([], encoder)
    work = Work(study, data, nothing, nothing, compute, device)
    held = {i for path in study.folder.glob("*.lance") for i in FrameStore.open(path).n_speech()}
    new = [u for u in data.every if u.id not in held]
    log(f"to encode: {encoding_needs(new, encoder)}")
    say_room(study.folder, log)
    undone = [run for run in study.runs() if not work.is_done(run)]
    if not undone:
        log("to train: nothing")
        return
    trainings = {run.name: run for run in undone}.values()
    seconds, n = 0.0, 0
    paces: dict[tuple[str, str], float] = {}  # seconds of a training for each of its utterances
    for run in trainings:
        able = learnable(data.part(run.rotation, TRAIN), run)
        learnt = some_of(able, run.training.settings.get("utterances"), run.seed)
        config = run.training.config(run.target, run.seed, study.out)
        texts = [u.translations[run.target] for u in learnt]
        kind = run.target, run.training.digest
        if kind not in paces:
            spoilt = load_whisper(study.model, device=device)
            taken = training_seconds(spoilt, config, learnt, texts, study.context, compute, device)
            del spoilt  # its gradients and moments
            paces[kind] = taken / len(learnt)
        seconds += paces[kind] * len(learnt)
        n += config.epochs * len(learnable(data.part(run.rotation, DEV), run))
    log(f"to train: {len(trainings)} trainings, about {spent(seconds)}, by the time of one step on noise")
    whisper = load_whisper(study.model, device=device)
    for run in undone:
        for part in work.parts(run):
            spoken = Counter(u.language for u in data.part(run.rotation, part))
            n += sum(spoken[q.source] for q in work.questions(whisper, run, part))
    asked = [u for name in data.tests for u in data.part(study.rotations[0], name)]
    each = answer_seconds(whisper, asked, encoder)
    about = time_of_each(each) if each is None else f"about {spent(n * each)}, by {time_of_each(each)}"
    log(f"to decode: {n} answers of models being trained and trained, {about}")
    log("not estimated: answers before training, rehearsal, scoring, COMET")
