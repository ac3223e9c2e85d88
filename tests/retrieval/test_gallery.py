"""The benchmarks' gallery: what its perturbations do to a recording, and that it can be made in pieces."""

import importlib.util
import sys

import numpy as np
import pytest

from helpers import ROOT, sweep, utterance, write_wav
from interlingua.audio import load_audio
from interlingua.encoding import WhisperEncoder
from interlingua.retrieval.seqsim import seqsim
from interlingua.types import SAMPLE_RATE, AudioRef


def load_gallery():
    path = ROOT / "benchmarks" / "gallery.py"
    spec = importlib.util.spec_from_file_location("gallery", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["gallery"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


gallery = load_gallery()


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE).astype(np.float32)


def rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.square(samples).mean()))


@pytest.fixture
def prompts(tmp_path):
    """Six recordings of different pitch; the last two are near-duplicates."""
    return [
        utterance(
            "en",
            f"m{i}",
            audio=AudioRef(str(write_wav(tmp_path / f"{i}.wav", sweep(0.5 + 0.1 * i, pitch=200.0 + 150 * i, seed=i)))),
            cluster=f"c{min(i, 4)}",
        )
        for i in range(6)
    ]


def test_the_seed_decides_everything_and_a_larger_gallery_begins_with_the_smaller(prompts):
    items = gallery.perturbed(prompts, 60, 0)
    again, larger, other = (gallery.perturbed(prompts, n, seed) for n, seed in ((60, 0), (80, 0), (60, 1)))
    assert [i.id for i in items] == [i.id for i in again] == [i.id for i in larger[:60]]
    for a, b, c in zip(items, again, larger, strict=False):
        np.testing.assert_array_equal(a.samples(), b.samples())
        np.testing.assert_array_equal(a.samples(), c.samples())
    copies = [(a.samples(), b.samples()) for a, b in zip(items[6:], other[6:], strict=True) if a.kind != "spliced"]
    assert not any(len(a) == len(b) and np.array_equal(a, b) for a, b in copies)
    assert not {i.recipe for i in items} & {i.recipe for i in other}


def test_a_gallery_has_the_originals_and_every_kind_of_copy(prompts):
    items = gallery.perturbed(prompts, 60, 0)
    assert len(items) == len({i.id for i in items}) == 60
    for u, item in zip(prompts, items, strict=False):
        assert (item.id, item.kind, item.meaning, item.cluster) == (u.id, "original", u.meaning, u.cluster)
        np.testing.assert_array_equal(item.samples(), load_audio(u.audio))
    assert {i.kind for i in items[6:]} == set(gallery.KINDS)
    assert {i.kind for i in items if i.id.startswith("en/m3~")} == set(gallery.KINDS)  # of each prompt, not only of all
    for item in items:
        samples = item.samples()
        assert samples.dtype == np.float32
        assert np.isfinite(samples).all()
        assert 0 < np.abs(samples).max() <= 1
    assert len({item.samples().tobytes() for item in items}) == 60  # no copy twice


def test_a_spliced_item_means_what_no_prompt_means(prompts):
    items = gallery.perturbed(prompts, 60, 0)
    source = {u.id: u for u in prompts}
    for item in items:
        prompt = source[item.id.split("~")[0]]
        if "spliced" in item.kind:
            assert item.meaning == item.cluster == item.id
        else:
            assert (item.meaning, item.cluster) == (prompt.meaning, prompt.cluster)


def test_a_splice_never_takes_its_end_from_a_near_duplicate(prompts, monkeypatch):
    ends = []
    monkeypatch.setattr(gallery, "splice", lambda head, tail: ends.append(len(tail)) or head)
    near = {len(load_audio(u.audio)) for u in prompts[4:]}
    for item in gallery.perturbed(prompts, 200, 0):
        if "spliced" in item.kind and item.id.startswith(("en/m4~", "en/m5~")):
            item.samples()
    assert len(ends) > 10
    assert not near & set(ends)


def test_galleries_that_cannot_be_made_are_refused(prompts):
    with pytest.raises(ValueError, match="5 can't hold 6"):
        gallery.perturbed(prompts, 5, 0)
    with pytest.raises(ValueError, match="two clusters"):
        gallery.perturbed(prompts[4:], 10, 0)


@pytest.mark.parametrize("snr", [5.0, 20.0])
def test_noise_is_as_loud_as_was_asked(snr):
    rng = np.random.default_rng(0)
    clean = tone(440)
    added = gallery.add_noise(clean, gallery.pink_noise(len(clean), rng), snr) - clean
    assert 20 * np.log10(rms(clean) / rms(added)) == pytest.approx(snr, abs=0.01)


def test_pink_noise_has_equal_power_in_every_octave():
    power = np.square(np.abs(np.fft.rfft(gallery.pink_noise(1 << 18, np.random.default_rng(0)))))
    octaves = [power[1 << k : 2 << k].sum() for k in range(8, 16)]
    assert max(octaves) / min(octaves) < 1.3


def test_babble_is_other_prompts_at_once():
    voices = [tone(f, 0.5) for f in (200, 400, 600, 800)]
    mixed = gallery.babble(SAMPLE_RATE, lambda m: voices[m], [1, 2, 3], np.random.default_rng(0))
    spectrum = np.abs(np.fft.rfft(mixed)) / len(mixed)  # a bin a hertz
    np.testing.assert_allclose(spectrum[[400, 600, 800]], np.sqrt(0.5), rtol=1e-3)
    assert spectrum[200] < 1e-3


@pytest.mark.parametrize("speed", [0.85, 1.15])
def test_a_faster_tone_is_shorter_and_higher(speed):
    faster = gallery.resample(tone(400), speed)
    assert len(faster) == round(SAMPLE_RATE / speed)
    time = np.arange(len(faster)) / len(faster)  # of the whole
    np.testing.assert_allclose(faster, np.sin(2 * np.pi * 400 * time), atol=1e-4)  # 400 periods, as before


@pytest.mark.parametrize(
    ("low", "high", "passes", "stops"),
    [(300.0, 3400.0, (301, 1000, 3399), (199, 3501, 6000)), (0.0, 2000.0, (1, 60, 1999), (2101, 7999))],
)
def test_a_band_passes_what_lies_in_it(low, high, passes, stops):
    inside, outside = sum(tone(f) for f in passes), sum(tone(f) for f in stops)
    np.testing.assert_allclose(gallery.band_pass(inside + outside, low, high), inside, atol=1e-3)


def test_a_cut_lies_in_the_pause_or_in_the_middle():
    paused = np.concatenate([tone(300, 0.7), np.zeros(3200, np.float32), tone(300, 0.5)])
    cut = gallery.cut_point(paused)
    assert not paused[cut - 480 : cut + 480].any()
    steady = tone(300, 0.9)
    assert gallery.cut_point(steady) == len(steady) // 2
    short = tone(300, 0.05)
    assert gallery.cut_point(short) == len(short) // 2
    late = np.concatenate([tone(300, 0.9), np.zeros(1600, np.float32)])  # a pause, but at the end
    assert gallery.cut_point(late) == len(late) // 2


def test_a_splice_is_one_beginning_and_another_end_equally_loud():
    head, tail = tone(300, 1.0), 0.1 * tone(700, 0.6)
    spliced = gallery.splice(head, tail)
    assert len(spliced) == len(head) // 2 + len(tail) // 2 - gallery.FADE
    begin, end = 8000 - gallery.FADE, len(spliced) - 4800 + gallery.FADE
    np.testing.assert_array_equal(spliced[:begin], head[:begin])
    np.testing.assert_allclose(spliced[end:], 10 * tail[4800 + gallery.FADE :], atol=1e-4)


class Counting(WhisperEncoder):
    """Counts the recordings that were encoded, and dies when there were too many."""

    seen, limit = 0, 1000

    def encode(self, batch):
        if self.seen + len(batch) > self.limit:
            raise KeyboardInterrupt
        self.seen += len(batch)
        return super().encode(batch)


def test_a_killed_run_continues_and_a_larger_gallery_adds_to_the_store(tiny_whisper, prompts, tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "CHUNK_UTTERANCES", 4)
    items = gallery.perturbed(prompts, 20, 0)
    dying = Counting(tiny_whisper)
    dying.limit = 10
    with pytest.raises(KeyboardInterrupt):
        gallery.encode_items(items, dying, tmp_path / "g.lance")
    encoder = Counting(tiny_whisper)
    store = gallery.encode_items(items, encoder, tmp_path / "g.lance")
    assert (dying.seen, encoder.seen, len(store)) == (8, 12, 20)
    larger = gallery.perturbed(prompts, 22, 0)
    assert len(gallery.encode_items(larger, encoder, tmp_path / "g.lance")) == 22
    assert encoder.seen == 14
    plain = WhisperEncoder(tiny_whisper)
    for item, frames in zip(items, store.read([i.id for i in items]), strict=True):
        ((alone, n),) = plain.encode([item.samples()])
        assert (frames.n_speech, str(frames.values.dtype)) == (n, "float16")
        np.testing.assert_allclose(frames.values, alone, atol=4e-3)


def test_another_seed_makes_the_frames_anew(tiny_whisper, prompts, tmp_path):
    encoder = Counting(tiny_whisper)
    gallery.encode_items(gallery.perturbed(prompts, 10, 0), encoder, tmp_path / "g.lance")
    store = gallery.encode_items(gallery.perturbed(prompts, 10, 1), encoder, tmp_path / "g.lance")
    assert (encoder.seen, len(store)) == (20, 10)


@pytest.mark.model
def test_copies_of_real_prompts_are_nearest_to_their_prompt(base_whisper, prompts_manifest, tmp_path):
    english = [u for u in prompts_manifest if u.language == "en" and u.duration < 4][:7]
    items = gallery.perturbed(english, 21, 0)
    store = gallery.encode_items(items, WhisperEncoder(base_whisper), tmp_path / "g.lance")
    frames = [f.values for f in store.read([i.id for i in items])]
    best = seqsim(frames[7:], frames[:7]).argmax(axis=1)
    copies = [(i.meaning, items[b].meaning) for i, b in zip(items[7:], best, strict=True) if "spliced" not in i.kind]
    assert len(copies) > 7
    assert sum(meaning == found for meaning, found in copies) >= 0.9 * len(copies)
