import threading
import time

import ctranslate2
import numpy as np
import pytest

from helpers import sweep
from interlingua.errors import BusyError, StoppedError
from interlingua.serve.batcher import BATCH_ROWS, Batcher, Session
from interlingua.translation import CTranslate2Engine, Decoded, Decoding, Segmentation, TranslationOptions, Translator

UNCUT = TranslationOptions(segmentation=Segmentation(vad=False, longest=2), temperatures=())


class Slow:
    """An engine that writes down its calls, and begins none before ``gate`` opens."""

    whisper = targets = None
    workers, name = 1, "slow"

    def __init__(self):
        self.gate, self.calls, self.faulty = threading.Event(), [], None
        self.gate.set()

    def encode(self, features):
        return ctranslate2.StorageView.from_array(features[:, :, ::2].transpose(0, 2, 1).copy().astype(np.float32))

    def load(self, rows):
        return np.stack(rows)

    def detect(self, states):
        self.gate.wait(10)
        self.calls.append([int(row[0, 0]) for row in states])
        if self.faulty in self.calls[-1]:
            raise ValueError("a faulty row")
        return [{"en": float(row[0, 0])} for row in states]

    def generate(self, states, prompts, how):
        return [Decoded([int(row[0, 0]), *prompt], 0.0, 0.0, True) for row, prompt in zip(states, prompts, strict=True)]


def features(number, frames=4):
    return np.full((1, 2, 2 * frames), number, np.float32)


@pytest.fixture
def engine():
    return Slow()


@pytest.fixture
def batcher(engine):
    found = Batcher(engine)
    yield found
    engine.gate.set()
    found.close()


def ask(batcher, number, *, client="", frames=4, times=1, found=None, given_up=lambda: None):
    """A thread that asks for a row so many times; its answers, or its error, go into ``found``."""
    found = [] if found is None else found

    def run():
        try:
            with Session(batcher, client, given_up) as session:
                for _ in range(times):
                    found.extend(session.detect(session.encode(features(number, frames))))
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, found


def waiting(batcher, rows):
    deadline = time.monotonic() + 10
    while batcher.waiting != rows and time.monotonic() < deadline:
        time.sleep(0.002)
    assert batcher.waiting == rows


def blocked(engine, batcher):
    """Keep the engine busy with a row of its own length."""
    engine.gate.clear()
    thread, _ = ask(batcher, 99, client="blocks", frames=7)
    waiting(batcher, 0)
    return thread


def test_rows_of_all_requests_share_a_call_and_each_gets_its_own(engine, batcher):
    threads = [blocked(engine, batcher), *(ask(batcher, n, client=f"{n}") for n in range(5))]
    waiting(batcher, 5)
    engine.gate.set()
    for thread, _ in threads[1:]:
        thread.join()
    assert [found for _, found in threads[1:]] == [[{"en": float(n)}] for n in range(5)]
    assert sorted(engine.calls[1]) == [0, 1, 2, 3, 4]


def test_a_call_takes_rows_of_one_length_and_not_too_many(engine, batcher):
    blocked(engine, batcher)
    asked = [ask(batcher, n, client=f"{n}", frames=4 + n % 2) for n in range(2 * BATCH_ROWS + 4)]
    waiting(batcher, len(asked))
    engine.gate.set()
    for n, (thread, found) in enumerate(asked):
        thread.join()
        assert found == [{"en": float(n)}]
    assert all(len(call) <= BATCH_ROWS and len({n % 2 for n in call}) == 1 for call in engine.calls[1:])


def test_clients_take_turns(engine, batcher):
    """A client with a dozen requests of different lengths doesn't keep one who comes later waiting for all of them."""
    blocked(engine, batcher)
    asked = [ask(batcher, n, client="many", frames=10 + n) for n in range(12)]
    waiting(batcher, 12)
    asked.append(ask(batcher, 50, client="one"))
    waiting(batcher, 13)
    engine.gate.set()
    for thread, _ in asked:
        thread.join()
    assert [50] in engine.calls[1:3]


def test_requests_of_one_client_take_turns(engine, batcher):
    blocked(engine, batcher)
    long, _ = ask(batcher, 1, frames=5, times=20)
    waiting(batcher, 1)
    short, _ = ask(batcher, 2, frames=6)
    waiting(batcher, 2)
    engine.gate.set()
    short.join()
    assert len(engine.calls) <= 4
    long.join()


def test_who_gave_up_leaves_the_queue(engine, batcher):
    blocked(engine, batcher)
    gone = threading.Event()
    first, found = ask(batcher, 1, given_up=lambda: StoppedError("gone", cancelled=True) if gone.is_set() else None)
    second, others = ask(batcher, 2)
    waiting(batcher, 2)
    gone.set()
    first.join()
    assert isinstance(found[0], StoppedError)
    waiting(batcher, 1)
    engine.gate.set()
    second.join()
    assert others == [{"en": 2.0}]
    assert engine.calls[1:] == [[2]]


def test_a_fault_is_its_own_rows_alone(engine, batcher):
    blocked(engine, batcher)
    engine.faulty = 1
    asked = [ask(batcher, n) for n in range(3)]
    waiting(batcher, 3)
    engine.gate.set()
    for thread, _ in asked:
        thread.join()
    assert isinstance(asked[1][1][0], ValueError)
    assert [asked[0][1], asked[2][1]] == [[{"en": 0.0}], [{"en": 2.0}]]


def test_alone_nobody_waits(engine, batcher):
    thread, _ = ask(batcher, 1, times=50)
    begun = time.monotonic()
    thread.join()
    assert time.monotonic() - begun < 50 * 0.005 + 2


def test_closing_finishes_what_waits(engine):
    batcher = Batcher(engine)
    blocked(engine, batcher)
    thread, found = ask(batcher, 1)
    waiting(batcher, 1)
    threading.Timer(0.1, engine.gate.set).start()
    batcher.close()
    thread.join()
    assert found == [{"en": 1.0}]
    late, refused = ask(batcher, 2)
    late.join()
    assert isinstance(refused[0], BusyError)


def test_prompts_and_settings_stay_with_their_rows(engine, batcher):
    def generate(number, prompt, beam):
        with Session(batcher) as session:
            (row,) = session.encode(features(number))
            return session.generate([row], [prompt], Decoding(beam=beam))[0].tokens

    blocked(engine, batcher)
    found = {}
    cases = [(1, (7, 8), 1), (2, (9, 8), 1), (3, (7,), 1), (4, (7, 8), 2)]
    threads = [threading.Thread(target=lambda c=c: found.update({c: generate(*c)})) for c in cases]
    for thread in threads:
        thread.start()
    waiting(batcher, 4)
    engine.gate.set()
    for thread in threads:
        thread.join()
    assert found == {c: [c[0], *c[1]] for c in cases}


def test_translations_are_those_without_others(tiny_whisper_folder):
    """Many at once give what each gives alone, token for token."""
    engine = CTranslate2Engine(tiny_whisper_folder, workers=2)
    recordings = [sweep(0.6 + 0.45 * n, pitch=100 + 40 * n, seed=n) for n in range(10)]
    alone = [Translator(engine, UNCUT).translate(r, "en", source="fr") for r in recordings]
    sizes, found = [], {}
    batcher = Batcher(engine, observe=sizes.append)

    def run(n):
        with Session(batcher, f"{n % 3}") as session:
            found[n] = Translator(session, UNCUT).translate(recordings[n], "en", source="fr")

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(recordings))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    batcher.close()
    for n, one in enumerate(alone):
        assert [s.tokens for s in found[n].segments] == [s.tokens for s in one.segments]
        assert [s.log_probability for s in found[n].segments] == pytest.approx(
            [s.log_probability for s in one.segments], abs=1e-4
        )
    assert sum(sizes) > len(sizes)
