"""Translation of any audio: cutting, engines, guards, tries, formats, live speech, and the job around them."""

import contextlib
import copy
import dataclasses
import gzip
import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import zlib
from difflib import SequenceMatcher
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest

from helpers import sweep, write_wav
from interlingua.audio import load_audio
from interlingua.cli import run
from interlingua.encoding import WhisperEncoder
from interlingua.errors import (
    AudioError,
    EnglishOnlyModelError,
    ResultsError,
    TooLongAudioError,
    UntrainedTaskError,
    UsageError,
)
from interlingua.experiments.translating import Recording, find_recordings, translate_recordings
from interlingua.metrics import score_translations
from interlingua.models import save_whisper
from interlingua.models.targets import Base, Target, Targets
from interlingua.translation import (
    Decoded,
    LiveTranslator,
    Segment,
    Segmentation,
    Translation,
    TranslationOptions,
    Translator,
    Word,
    guards,
    translate_frames,
)
from interlingua.translation.formats import Phrase, as_json, as_srt, as_text, as_tsv, as_vtt, clock
from interlingua.translation.segments import Span, chunks_of, join_regions, speech_regions, timed_pieces
from interlingua.types import SAMPLE_RATE, Frames

UNCUT = Segmentation(vad=False, longest=30)


# ---------------------------------------------------------------- cutting


def test_regions_are_joined_over_short_gaps_only():
    regions = [Span(0, 10), Span(12, 20), Span(30, 40), Span(41, 95)]
    assert join_regions(regions, longest=50, gap=5) == [Span(0, 20), Span(30, 40), Span(41, 95)]
    assert join_regions(regions, longest=100, gap=10) == [Span(0, 95)]
    assert join_regions(regions, longest=20, gap=10) == [Span(0, 20), Span(30, 40), Span(41, 95)]
    assert join_regions([], longest=20, gap=10) == []


@pytest.mark.parametrize("seconds", [0.1, 2.0, 2.5, 7.3])
def test_without_vad_chunks_are_all_of_it(seconds):
    samples = sweep(seconds, 300)
    spans = chunks_of(samples, Segmentation(vad=False, longest=2))
    assert np.array_equal(np.concatenate([samples[s.start : s.end] for s in spans]), samples)
    assert all(0 < s.end - s.start <= 2 * SAMPLE_RATE for s in spans)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Segmentation, {"longest": 31}),
        (Segmentation, {"longest": 0.5}),
        (Segmentation, {"threshold": 1.0}),
        (Segmentation, {"pause": -1}),
        (Segmentation, {"gap": -0.1}),
        (TranslationOptions, {"beam": 0}),
        (TranslationOptions, {"temperatures": (0.0,)}),
        (TranslationOptions, {"context": "speech+0"}),
    ],
)
def test_senseless_options_are_refused(kind, fields):
    with pytest.raises(UsageError):
        kind(**fields)


def test_no_speech_in_silence_or_noise():
    noise = np.random.default_rng(0).normal(0, 0.02, 5 * SAMPLE_RATE).astype(np.float32)
    for samples in (np.zeros(5 * SAMPLE_RATE, np.float32), noise):
        assert chunks_of(samples, Segmentation()) == []


@pytest.mark.model
def test_speech_is_found_where_it_is(prompts_manifest):
    speech = load_audio(next(u for u in prompts_manifest if u.id == "fr/agent-alreadyon").audio)
    silence = np.zeros(4 * SAMPLE_RATE, np.float32)
    how = Segmentation()
    regions = speech_regions(np.concatenate([silence, speech, silence]), how)
    assert regions[0].start >= len(silence) - (how.pad + 0.1) * SAMPLE_RATE
    assert regions[-1].end <= len(silence) + len(speech) + (how.pad + 0.1) * SAMPLE_RATE
    assert sum(r.end - r.start for r in regions) > 0.6 * len(speech)
    short = Segmentation(longest=2, gap=0)
    assert all(s.end - s.start <= 2 * SAMPLE_RATE for s in chunks_of(np.concatenate([speech] * 3), short))


# ---------------------------------------------------------------- guards


def test_compression_ratio_is_zlibs():
    text = "you you you you you you you you you you you"
    assert guards.compression_ratio(text) == len(text) / len(zlib.compress(text.encode()))
    assert guards.compression_ratio("") == 0


@pytest.mark.parametrize(
    ("text", "loops"),
    [
        ("press one, press one, press one, press one, press one", True),
        ("按1发送或按1发送或按1发送或按1发送或按1发送", True),
        ("Thank you. Thank you. Thank you. Thank you.", True),
        ("Please enter your password followed by the pound key.", False),
        ("one, two, three, four, five, six", False),
        ("1 1 1 1 1", False),  # a number may be read out
        ("555 555 555 555", False),
        ("no, no, no, no. I have told you again and again that I won't come to that place with you.", False),
        ("", False),
    ],
)
def test_loops(text, loops):
    assert ("loop" in guards.flags_of(text, target="zh" if "按" in text else "en", source=None)) is loops


def test_the_language_of_the_output():
    french = "Bonjour, je voudrais parler avec le directeur de cette maison, s'il vous plaît."
    assert guards.flags_of(french, target="en", source="fr") == ("wrong-language",)
    assert guards.flags_of(french, target="fr", source="fr") == ()
    assert guards.flags_of("Пожалуйста, введите ваш пароль ещё раз", target="en", source="ru") == ("wrong-language",)
    assert guards.flags_of("Oui, merci.", target="en", source="fr") == ()  # too short to tell
    assert guards.flags_of("Please tell me when the train to Paris leaves.", target="en", source="fr") == ()


def test_doubt_and_silence():
    words = {"text": "You", "target": "en", "source": "fr"}
    assert guards.flags_of(**words, log_probability=-0.9, no_speech_probability=0.9) == ()
    assert guards.flags_of(**words, log_probability=-1.1, no_speech_probability=0.5) == ("unsure",)
    assert guards.flags_of(**words, log_probability=-1.1, no_speech_probability=0.7) == ("no-speech",)
    assert guards.flags_of(**words, ended=False) == ("cut-off",)


def test_few_letters_for_much_speech():
    once = "Your call can't be completed."
    assert guards.flags_of(once, target="en", source="fr", speech=17) == ("sparse",)
    assert guards.flags_of(once, target="en", source="fr", speech=4) == ()
    assert guards.flags_of(once * 6, target="en", source="fr", speech=17) == ("loop",)
    assert guards.flags_of("", target="en", source="fr", speech=6) == ("sparse",)
    assert guards.flags_of("M I S D N", target="en", source="es", speech=3.5) == ()  # short speech isn't judged
    chinese = "请您输入您的密码然后按井字键谢谢您的来电"  # 20 signs: some five seconds
    assert not guards.is_sparse(chinese, 6)
    assert guards.is_sparse(chinese, 18)
    assert not guards.is_sparse("555 0123 4567", 8)  # digits are words


def test_doubled_borders():
    assert guards.shared_words("The house is old.", "We bought the house. It is old") == 0
    assert guards.shared_words("the house is old and small", "We know that the house is old.") == 4
    assert not guards.begins_doubled("the house is", "that is the house")
    assert not guards.begins_doubled("anything", "")


# ---------------------------------------------------------------- timestamps, formats


def test_timestamps_cut_the_tokens():
    t0 = 1000
    tokens = [t0 + 50, 1, 2, t0 + 100, t0 + 100, 3, t0 + 200]
    assert timed_pieces(tokens, t0, 10.0) == [(1.0, 2.0, [1, 2]), (2.0, 4.0, [3])]
    assert timed_pieces([t0, 1, 2], t0, 3.0) == [(0.0, 3.0, [1, 2])]  # the end was never written
    assert timed_pieces([t0, 1, t0 + 500], t0, 3.0) == [(0.0, 3.0, [1])]  # nothing ends behind the chunk
    assert timed_pieces([t0 + 100, 1, t0 + 50], t0, 3.0) == [(2.0, 2.0, [1])]  # time doesn't run backwards


def translation(*texts, target="en", **fields) -> Translation:
    segments = [Segment(1.5 * i, 1.5 * i + 1.25, text, "fr", -0.5, 0.01, 1.0, **fields) for i, text in enumerate(texts)]
    return Translation("talk.wav", target, "fr", 0.9, None, 60.0, 20.0, segments)


def test_formats():
    said = translation("Good morning.", "A & B <i> --> C")
    assert as_text(said) == "Good morning.\nA & B <i> --> C\n"
    assert as_srt(said) == (
        "1\n00:00:00,000 --> 00:00:01,250\nGood morning.\n\n2\n00:00:01,500 --> 00:00:02,750\nA & B <i> --> C\n"
    )
    assert as_vtt(said) == (
        "WEBVTT\nLanguage: en\n\n00:00:00.000 --> 00:00:01.250\nGood morning.\n\n"
        "00:00:01.500 --> 00:00:02.750\nA &amp; B &lt;i> --&gt; C\n"
    )
    assert as_tsv(said).splitlines()[1:] == ["0\t1250\t\tGood morning.", "1500\t2750\t\tA & B <i> --> C"]
    row = json.loads(as_json(said))
    assert row["text"] == "Good morning. A & B <i> --> C"
    assert "words" not in row["segments"][0]
    assert translation("你好", "再见", target="zh").text == "你好再见"
    assert as_srt(translation()) == ""
    assert as_text(translation()) == ""


def test_formats_say_what_is_a_phrase():
    made = translation("Good morning.", phrase=Phrase("ca/a", 0.5123, 0.25, "Goomor"), flags=("unsure",))
    note = "[phrase ca/a, score 0.51, margin 0.25]"
    assert as_text(made) == f"Good morning. {note}\n"
    assert as_srt(made).splitlines()[2:] == ["Good morning. [phrase ca/a, score 0.51,", "margin 0.25]"]
    assert as_vtt(made).splitlines()[-2:] == ["Good morning. [phrase ca/a, score 0.51,", "margin 0.25]"]
    assert as_tsv(made).splitlines()[1] == f"0\t1250\tunsure\tGood morning. {note}"
    row = json.loads(as_json(made))
    assert row["text"] == "Good morning."
    assert row["segments"][0]["phrase"] == {"id": "ca/a", "score": 0.5123, "margin": 0.25, "decoded": "Goomor"}
    assert "phrase" not in json.loads(as_json(translation("Good morning.")))["segments"][0]


def test_subtitle_lines_are_short():
    lines = as_srt(translation("one two three four five " * 6)).splitlines()[2:]
    assert max(map(len, lines)) <= 42
    chinese = as_srt(translation("请按一" * 20, target="zh")).splitlines()[2:]
    assert max(map(len, chinese)) <= 20
    assert "".join(chinese) == "请按一" * 20


def test_the_clock_carries_over():
    assert clock(59.9996, ".") == "00:01:00.000"
    assert clock(36000, ",") == "10:00:00,000"


# ---------------------------------------------------------------- the translator, with a scripted engine


class Scripted:
    """Gives all chunks the same output, one a try; remembers its calls."""

    def __init__(self, whisper, *outputs, language="fr", targets=None):
        self.whisper, self.targets, self.workers, self.name = whisper, targets, 1, "scripted"
        self.outputs, self.language, self.calls, self.encoded = list(outputs), language, [], []

    ragged = False

    def encode(self, features):
        self.encoded.append(features.shape)
        return features

    load = encode

    def detect(self, states):
        return [{self.language: 0.75, "en": 0.25}] * len(states)

    def generate(self, states, prompts, how):
        self.calls.append((states.shape[-1], how, [tuple(p) for p in prompts]))
        text, log_probability = self.outputs.pop(0) if len(self.outputs) > 1 else self.outputs[0]
        tokens = self.whisper.tokenizer.encode(text, add_special_tokens=False)
        return [Decoded(tokens, log_probability, 0.01, True)] * len(prompts)

    def place(self, states, row, prompt, tokens, seconds):
        return [(i, 2 * i) for i in range(len(tokens))]


LOOP = ("press one, press one, press one, press one, press one, press one", -0.2)
WORSE = ("Vous avez un nouveau message, un nouveau message, un nouveau message, un nouveau message, ", -1.5)
GOOD = ("Please tell me when the train to Paris leaves.", -0.4)


def test_the_prompt_says_what_is_asked_for(tiny_whisper):
    engine = Scripted(tiny_whisper, GOOD)
    translator = Translator(engine, TranslationOptions(segmentation=UNCUT, guards=False))
    audio = sweep(2, 300)
    found = list(translator.translate_all([("a", audio)], ["en", "fr", "de"]))
    assert [t.target for t in found] == ["en", "fr", "de"]
    assert {t.language for t in found} == {"fr"}
    assert found[0].language_probability == 0.75
    prompts = [call[2][0] for call in engine.calls]
    assert prompts == [
        tuple(tiny_whisper.prompt(*p)) for p in [("fr", "translate"), ("fr", "transcribe"), ("de", "transcribe")]
    ]
    assert len(engine.encoded) == 1  # for detection and all three
    engine.calls.clear()
    said = translator.translate(audio, "en", source="de", spoken_as="es")
    assert engine.calls[0][2][0] == tuple(tiny_whisper.prompt("es", "translate"))
    assert (said.language, said.token, said.language_probability) == ("de", "es", None)
    timed = Translator(engine, TranslationOptions(segmentation=UNCUT, timestamps=True))
    timed.translate(audio, "en", source="fr")
    assert engine.calls[-1][2][0] == tuple(tiny_whisper.prompt("fr", "translate")[:-1])


def test_a_trained_target_is_asked_for_as_it_was_trained(tiny_whisper):
    taught = Targets(targets={"kea": Target("haw", "target-transcribe")}, base=Base("base", "0"), sources=("en",))
    engine = Scripted(tiny_whisper, GOOD, targets=taught)
    options = TranslationOptions(segmentation=UNCUT, timestamps=True)
    Translator(engine, options).translate(sweep(2, 300), "kea")
    assert engine.calls[0][2][0] == tuple(tiny_whisper.prompt("haw", "transcribe"))  # without timestamps all the same
    assert not engine.calls[0][1].timestamps
    assert Translator(engine).targets == ["kea", "en"]


@pytest.mark.parametrize(
    ("outputs", "guards", "expected"),
    [
        ((LOOP, LOOP, GOOD), True, (GOOD[0], (), 3)),  # until nothing is wrong
        ((WORSE, LOOP, WORSE, WORSE), True, (LOOP[0], ("loop",), 4)),  # the least bad one is kept, and flagged
        (((GOOD[0], -1.2),), True, (GOOD[0], ("unsure",), 1)),  # doubt alone is not worth another try
        ((LOOP,), False, (LOOP[0], (), 1)),
    ],
)
def test_what_a_guard_objects_to_is_tried_again(tiny_whisper, outputs, guards, expected):
    engine = Scripted(tiny_whisper, *outputs)
    options = TranslationOptions(context="speech+4", segmentation=UNCUT, guards=guards)
    (segment,) = Translator(engine, options).translate(sweep(2, 300), source="fr").segments
    assert (segment.text, segment.flags, segment.tries) == expected
    ladder = [(600, 0.0), (3000, 0.0), (3000, 0.4), (3000, 0.8)]  # feature frames, temperature
    assert [(width, how.temperature) for width, how, _ in engine.calls] == ladder[: segment.tries]


def test_recordings_come_in_order_however_they_are_batched(tiny_whisper, monkeypatch):
    monkeypatch.setattr("interlingua.translation.translator.FIRST_WINDOW", 3)
    monkeypatch.setattr("interlingua.translation.translator.BATCH_CHUNKS", 2)
    engine = Scripted(tiny_whisper, GOOD)
    recordings = [(str(i), sweep(1 + 3.7 * (i % 3), 200 + i)) for i in range(9)]
    recordings.insert(4, ("none", np.zeros(1600, np.float32)))
    heard, seconds = [], []
    translator = Translator(engine, TranslationOptions(segmentation=Segmentation(vad=False, longest=2)))
    found = list(
        translator.translate_all(
            recordings, ["en", "fr"], source="fr", advance=seconds.append, news=lambda n, t, s: heard.append((n, t, s))
        )
    )
    assert [(t.id, t.target) for t in found] == [(name, t) for name, _ in recordings for t in ("en", "fr")]
    for t in found:
        assert t.segments == [s for name, target, new in heard if (name, target) == (t.id, t.target) for s in new]
        assert [s.start for s in t.segments] == sorted(s.start for s in t.segments)
        assert len(t.segments) == -(-round(t.duration * 100) // 200)
    assert sum(seconds) == pytest.approx(sum(len(a) for _, a in recordings) / SAMPLE_RATE)


def test_an_unreadable_recording_is_left_out_or_raises(tiny_whisper, tmp_path):
    translator = Translator(Scripted(tiny_whisper, GOOD), TranslationOptions(segmentation=UNCUT))
    recordings = [("gone", tmp_path / "gone.wav"), ("here", sweep(1, 300))]
    with pytest.raises(AudioError, match="gone"):
        list(translator.translate_all(recordings))
    failed = {}
    found = list(translator.translate_all(recordings, failed=failed.__setitem__))
    assert [t.id for t in found] == ["here"]
    assert list(failed) == ["gone"]


def test_each_chunk_may_have_its_own_language(tiny_whisper):
    engine = Scripted(tiny_whisper, GOOD)
    answers = iter([[{"fr": 0.9, "it": 0.1}], [{"it": 0.8, "fr": 0.2}]] * 2)
    engine.detect = lambda states: next(answers)
    audio = np.concatenate([sweep(3, 300), sweep(2, 400)])
    options = TranslationOptions(segmentation=Segmentation(vad=False, longest=3))
    each = Translator(engine, options).translate(audio, source="each")
    assert [s.language for s in each.segments] == ["fr", "it"]
    both = Translator(engine, options).translate(audio, source="auto")
    assert [s.language for s in both.segments] == ["fr", "fr"]  # 0.9 * 3 s + 0.2 * 2 s
    assert both.language_probability == pytest.approx((0.9 * 3 + 0.2 * 2) / 5)


def test_languages_that_the_model_lacks_are_refused(tiny_whisper):
    translator = Translator(Scripted(tiny_whisper, GOOD), TranslationOptions(segmentation=UNCUT))
    for arguments in ({"to": "kea"}, {"to": "kea", "source": "ast"}, {"spoken_as": "kea"}):
        with pytest.raises(UsageError, match="kea"):
            translator.translate(sweep(1, 300), **arguments)
    with pytest.raises(UsageError, match="no target"):
        list(translator.translate_all([("a", sweep(1, 300))], []))


def test_a_language_without_a_token_has_a_related_proxy(tiny_whisper):
    class Relatives(Scripted):
        """Under Galician it says what it says under Spanish; under the others, something else each."""

        def generate(self, states, prompts, how):
            code = next(c for c in self.whisper.languages if self.whisper.language_token(c) == prompts[0][1])
            said = {"es": "the cat sleeps", "gl": "the cat sleeps", "pt": "all quiet", "ca": "one two"}
            self.outputs = [(said.get(code, "?"), -0.1)]
            return super().generate(states, prompts, how)

    engine, lines = Relatives(tiny_whisper, GOOD), []
    translator = Translator(engine, TranslationOptions(segmentation=UNCUT, guards=False))
    recordings = [("a", sweep(1, 300)), ("b", sweep(2, 300))]
    english, asturian, *_ = translator.translate_all(recordings, ["en", "ast"], source="ast", log=lines.append)
    assert (english.language, english.token, english.text) == ("ast", "es", "the cat sleeps")
    assert engine.calls[-1][2][0] == tuple(tiny_whisper.prompt("es", "transcribe"))
    assert (asturian.target, asturian.token) == ("ast", "es")
    assert len(lines) == 1
    assert "Asturian has no token" in lines[0]
    assert "proxy language Spanish" in lines[0]
    chosen = translator.translate(sweep(1, 300), source="ast", spoken_as="ca")
    assert (chosen.language, chosen.token, chosen.text) == ("ast", "ca", "one two")


def test_a_language_that_nobody_knows_relatives_of_has_the_detected_proxy(tiny_whisper):
    engine, lines = Scripted(tiny_whisper, GOOD), []
    translator = Translator(engine, TranslationOptions(segmentation=UNCUT, guards=False))
    (said,) = translator.translate_all([("a", sweep(1, 300))], source="nah", log=lines.append)
    assert said.token == "fr"  # of French and English, which the script hears; they say the same
    assert "fr, en" in lines[0]


def test_a_model_that_only_transcribes_is_asked_for_nothing_else(tiny_whisper):
    turbo = dataclasses.replace(
        tiny_whisper.without_weights(), source=dataclasses.replace(tiny_whisper.source, name="tiny-turbo")
    )
    turbo.model.config = copy.deepcopy(turbo.model.config)
    turbo.model.config.decoder_layers = 1
    engine = Scripted(turbo, GOOD, language="en")
    translator = Translator(engine, TranslationOptions(segmentation=UNCUT))
    with pytest.raises(UntrainedTaskError, match="turbo"):
        translator.translate(sweep(1, 300), "en", source="fr")
    assert translator.translate(sweep(1, 300), "en", source="en").text == GOOD[0]
    assert engine.calls[-1][2][0] == tuple(turbo.prompt("en", "transcribe"))


def test_an_english_only_model_transcribes_english(tiny_whisper, monkeypatch):
    monkeypatch.setattr(type(tiny_whisper), "is_multilingual", property(lambda self: False))
    engine = Scripted(tiny_whisper, GOOD, language="en")
    translator = Translator(engine, TranslationOptions(segmentation=UNCUT))
    assert translator.translate(sweep(1, 300)).language == "en"
    settings = tiny_whisper.model.generation_config
    assert engine.calls[-1][2][0] == (settings.decoder_start_token_id, settings.no_timestamps_token_id)
    with pytest.raises(EnglishOnlyModelError):
        translator.translate(sweep(1, 300), "fr")


class Timed(Scripted):
    """Gives pieces of text, each between two timestamps."""

    def generate(self, states, prompts, how):
        first = self.whisper.model.generation_config.no_timestamps_token_id + 1
        tokens = []
        for start, end, text in self.outputs:
            tokens += [first + round(start * 50), *self.whisper.tokenizer.encode(text, add_special_tokens=False)]
            tokens.append(first + round(end * 50))
        return [Decoded(tokens, -0.1, 0.01, True)] * len(prompts)

    def place(self, states, row, prompt, tokens, seconds):
        return [(i, i) for i in range(len(tokens))]  # all of them early: before the first segment's end


@pytest.mark.parametrize("target", ["en", "zh"])
def test_words_belong_to_the_segment_of_their_tokens(tiny_whisper, target):
    pieces = [(0.0, 1.0, " the first words"), (1.0, 1.2, " "), (1.5, 2.5, " and the second"), (2.5, 3.0, "third")]
    options = TranslationOptions(segmentation=UNCUT, timestamps=True, words=True, guards=False)
    said = Translator(Timed(tiny_whisper, *pieces), options).translate(sweep(4, 300), target, source="fr")
    assert [s.text for s in said.segments] == ["the first words", "and the second", "third"]
    for s in said.segments:
        assert "".join(w.word for w in s.words) == s.text.replace(" ", "")
    assert [w.start for s in said.segments for w in s.words] == sorted(w.start for s in said.segments for w in s.words)


class Repeating(Scripted):
    """Says once what it hears, however often it is repeated: a text for each chunk of ``seconds`` or more."""

    def __init__(self, whisper, text, seconds=0.0):
        super().__init__(whisper, (text, -0.1))
        self.seconds = seconds

    def encode(self, features):
        self.loud = (features.max(axis=1) > features.min() + 0.5).sum(axis=1) / 100  # seconds that aren't silent
        return super().encode(features)

    def generate(self, states, prompts, how):
        found = super().generate(states, prompts, how)
        return [
            f if s >= self.seconds else Decoded([], -0.1, 0.01, True) for f, s in zip(found, self.loud, strict=True)
        ]


@pytest.fixture
def two_second_regions(monkeypatch):
    """Stands in for Silero: all is speech, in regions of two seconds."""

    def regions(samples, how):
        step = round(min(2.0, how.longest) * SAMPLE_RATE)
        return [Span(i, min(len(samples), i + step)) for i in range(0, len(samples), step)]

    monkeypatch.setattr("interlingua.translation.segments.speech_regions", regions)


def test_a_text_with_few_letters_is_tried_again_in_shorter_stretches(tiny_whisper, two_second_regions):
    engine = Repeating(tiny_whisper, "please wait for the next agent")
    options = TranslationOptions(segmentation=Segmentation(vad=False, longest=16))
    said = Translator(engine, options).translate(sweep(16, 300), source="fr")
    assert [(s.start, s.end) for s in said.segments] == [(2.0 * i, 2.0 * i + 2) for i in range(8)]
    assert said.text.count("please wait") == 8
    assert not {"sparse", "loop"} & set(said.flags)
    assert {s.tries for s in said.segments} == {2}
    whole = Translator(engine, dataclasses.replace(options, guards=False)).translate(sweep(16, 300), source="fr")
    assert whole.text == "please wait for the next agent"


def test_a_text_that_stays_sparse_is_flagged(tiny_whisper, two_second_regions):
    options = TranslationOptions(segmentation=Segmentation(vad=False, longest=16))
    for seconds, text, flags in ((10, "please wait", ["sparse"]), (0, "yes", ["sparse"]), (17, "", [])):
        engine = Repeating(tiny_whisper, text, seconds)
        said = Translator(engine, options).translate(sweep(16, 300), source="fr")
        assert set(said.flags) - {"doubled"} == set(flags)
    fluent = Repeating(
        tiny_whisper, "Please wait for the next agent, who will be with you as soon as the others are done."
    )
    Translator(fluent, options).translate(sweep(10, 300), source="fr")
    assert {len(prompts) for _, _, prompts in fluent.calls} == {1}


def test_holes_are_named(tiny_whisper, tmp_path):
    samples, path = sweep(6, 300), tmp_path / "a.wav"
    write_wav(path, samples)
    with av.open(str(tmp_path / "a.mp3"), "w") as out:
        stream = out.add_stream("libmp3lame", rate=SAMPLE_RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, 0
        for piece in [*av.AudioResampler(stream.format, "mono", SAMPLE_RATE, frame_size=576).resample(frame), None]:
            out.mux(stream.encode(piece))
    data = bytearray((tmp_path / "a.mp3").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 600] = np.random.default_rng(1).bytes(600)
    (tmp_path / "a.mp3").write_bytes(data)
    translator = Translator(Scripted(tiny_whisper, GOOD), TranslationOptions(segmentation=UNCUT))
    lines = []
    whole, broken = translator.translate_all([("whole", path), ("broken", tmp_path / "a.mp3")], log=lines.append)
    assert whole.holes == ()
    assert "holes" not in whole.as_dict()
    (hole,) = broken.holes
    assert 2 < hole.start < hole.end < 4
    assert json.loads(as_json(broken))["holes"] == [{"start": hole.start, "end": hole.end}]
    assert lines == [
        f"broken: nothing can be decoded at {clock(hole.start, '.')}-{clock(hole.end, '.')} "
        f"({hole.end - hole.start:.1f} s in all): silence was taken for it"
    ]
    assert broken.duration == pytest.approx(6, abs=0.1)


def test_borders_that_are_doubled_are_flagged(tiny_whisper):
    engine = Scripted(tiny_whisper, ("we come to the old house", -0.1), ("the old house is for sale", -0.1))
    options = TranslationOptions(segmentation=Segmentation(vad=False, longest=1))
    first, second = Translator(engine, options).translate(sweep(1.5, 300), source="fr").segments
    assert (first.flags, second.flags) == ((), ("doubled",))


# ---------------------------------------------------------------- speech that is still going on


def test_live_speech_is_cut_where_it_pauses(tiny_whisper, monkeypatch):
    def loud(samples, how):  # stands in for Silero
        on = np.flatnonzero(np.diff(np.concatenate([[0], (np.abs(samples) > 0.1).astype(int), [0]])))
        spans = [Span(int(a), int(b)) for a, b in zip(on[::2], on[1::2], strict=True)]
        return join_regions(spans, round(how.longest * SAMPLE_RATE), round(how.pause * SAMPLE_RATE))

    monkeypatch.setattr("interlingua.translation.translator.speech_regions", loud)
    heard = []

    class Counting(Translator):
        def translate(self, samples, to, *, source, spoken_as):
            heard.append(samples)
            seconds, word = len(samples) / SAMPLE_RATE, Word("x", 0.1, 0.2)
            segment = Segment(0.0, seconds, "x", "fr", -0.1, 0.0, 1.0, words=(word,))
            return Translation("x", to, source, None, None, seconds, seconds, [segment])

    translator = Counting(Scripted(tiny_whisper, GOOD))
    tone = np.full(2 * SAMPLE_RATE, 0.5, np.float32)
    quiet = np.zeros(3 * SAMPLE_RATE, np.float32)
    stream = np.concatenate([quiet, tone, quiet, tone[: SAMPLE_RATE // 2], quiet, tone])
    for block in (160, 4000, 40000):
        heard.clear()
        live = LiveTranslator(translator, to="en", source="fr")
        said = list(live.stream(stream[i : i + block] for i in range(0, len(stream), block)))
        times = [(s.start, s.end) for s in said]
        assert times == [(3.0, 5.0), (8.0, 8.5), (11.5, 13.5)]
        assert [s.words[0].start for s in said] == [3.1, 8.1, 11.6]
        assert sum(len(h) for h in heard) == np.count_nonzero(stream)  # nothing twice, nothing lost
        assert live.finish() == []


def held_by_live(tiny_whisper, block):
    live = LiveTranslator(Translator(Scripted(tiny_whisper, GOOD)), to="en", source="fr")
    assert live.feed(block) == []
    return live._held


@pytest.mark.parametrize("kind", ["int16", "int32", "float64"])
@pytest.mark.parametrize("shape", [(1600,), (1600, 1), (1, 1), (0,), (0, 1)])
def test_a_live_block_is_scaled_and_may_be_a_column(tiny_whisper, kind, shape):
    wave = np.sin(np.arange(np.prod(shape))).reshape(shape)
    full = 1 if kind == "float64" else np.iinfo(kind).max
    held = held_by_live(tiny_whisper, (wave * full).astype(kind))
    np.testing.assert_allclose(held, wave.ravel(), atol=1e-4)


@pytest.mark.parametrize("block", [np.zeros((160, 2)), np.zeros((1, 160)), np.zeros(()), np.zeros((1, 1, 1))])
def test_another_shape_of_a_live_block_is_named(tiny_whisper, block):
    with pytest.raises(UsageError, match=r"block: of shape .*; give the samples of one channel, \(N,\) or \(N, 1\)$"):
        held_by_live(tiny_whisper, block)
    with pytest.raises(UsageError, match="of type uint8"):
        held_by_live(tiny_whisper, np.zeros(160, np.uint8))


# ---------------------------------------------------------------- the job


class Book:
    """Answers everything in English; remembers what it was asked."""

    targets, about = ("en",), {"margin": 0.1}

    def __init__(self):
        self.asked = []

    def answers(self, audio, languages):
        self.asked += [(len(samples), language) for samples, language in zip(audio, languages, strict=True)]
        return [{"en": ("Draw a line.", Phrase("ca/draw", 0.5, 0.2))} for _ in audio]


@pytest.mark.parametrize(
    ("output", "source", "answered"),
    [
        (LOOP, "fr", True),
        ((GOOD[0], -1.2), "fr", True),  # unsure
        (("", -0.2), "fr", True),
        (GOOD, "fr", False),
        (GOOD, "gd", True),  # no token: what is written under another one can't be trusted
    ],
)
def test_phrases_answer_where_the_decoder_is_unsure(tiny_whisper, output, source, answered):
    book = Book()
    options = TranslationOptions(segmentation=UNCUT, words=True)
    translator = Translator(Scripted(tiny_whisper, output), options, phrases=book)
    found = list(translator.translate_all([("a", sweep(2, 300))], ["en", "fr"], source=source, spoken_as="cy"))
    (segment,) = found[0].segments
    assert book.asked == ([(2 * SAMPLE_RATE, source)] if answered else [])  # once for both targets
    if answered:
        assert (segment.text, segment.phrase) == ("Draw a line.", Phrase("ca/draw", 0.5, 0.2, output[0]))
        assert (segment.tokens, segment.words) == ((), ())
        assert segment.log_probability == output[1]
    else:
        assert (segment.text, segment.phrase) == (GOOD[0], None)
    assert all(s.phrase is None for s in found[1].segments)  # the book has no French


def test_phrases_need_the_guards(tiny_whisper):
    with pytest.raises(UsageError, match="--no-guards"):
        Translator(Scripted(tiny_whisper, GOOD), TranslationOptions(guards=False), phrases=Book())


@pytest.fixture
def folder(tmp_path):
    for name in ("a.wav", "sub/b.wav", "sub/c.flac.wav"):
        write_wav(tmp_path / "in" / name, sweep(1, 300))
    (tmp_path / "in" / "notes.txt").write_text("no audio")
    return tmp_path / "in"


@pytest.fixture
def scripted(tiny_whisper):
    return Translator(Scripted(tiny_whisper, GOOD), TranslationOptions(segmentation=UNCUT))


def test_what_can_be_named(folder, wav_manifest, tmp_path):
    assert [r.name for r in find_recordings([str(folder)])] == ["a", "sub/b", "sub/c.flac"]
    assert [r.name for r in find_recordings([f"{folder}/sub/*.wav"])] == ["b", "c.flac"]
    found = find_recordings([str(wav_manifest)])
    assert len(found) == 9
    assert {r.language for r in found} == {"en", "fr", "de"}
    table = tmp_path / "table.csv"
    table.write_text("audio,text,language\nin/a.wav,hello,fr\nin/sub/b.wav,bye,it\n")
    assert [r.language for r in find_recordings([str(table)])] == ["fr", "it"]
    write_wav(folder / "a.mp3", sweep(1, 300))
    assert [r.name for r in find_recordings([str(folder)])][:2] == ["a.mp3", "a.wav"]
    for inputs, message in [
        ([], "no recording"),
        ([str(folder / "*.ogg")], "no file has such a name"),
        ([str(folder / "a.wav"), str(folder / "a.wav")], "one file"),
    ]:
        with pytest.raises(UsageError, match=message):
            find_recordings(inputs)


def test_a_folder_of_files_is_written_and_not_made_twice(folder, scripted, tmp_path):
    out, recordings = tmp_path / "out", find_recordings([str(folder)])
    first = translate_recordings(scripted, recordings, ["en", "fr"], source="fr", out=out, formats=["srt", "json"])
    assert (first.recordings, first.present, first.segments) == (3, 0, 6)
    names = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    files = {f"{n}.{t}.{f}" for n in ("a", "sub/b", "sub/c.flac") for t in ("en", "fr") for f in ("srt", "json")}
    assert names == {*files, "begun.json"}
    (out / "sub/b.fr.json").unlink()  # as if the run had been killed there
    again = translate_recordings(scripted, recordings, ["en", "fr"], source="fr", out=out, formats=["srt", "json"])
    assert (again.present, again.segments) == (2, 2)
    assert (out / "sub/b.fr.json").exists()
    with pytest.raises(ResultsError, match="begun with"):
        translate_recordings(scripted, recordings, ["en"], source="fr", out=out, formats=["srt", "json"])


def test_lines_go_on_where_a_killed_run_was(folder, scripted, tmp_path):
    out, recordings = tmp_path / "out.jsonl", find_recordings([str(folder)])
    translate_recordings(scripted, recordings[:2], ["en"], source="fr", out=out)
    whole = out.read_text()
    out.write_text(whole[:-20])  # half a line is left
    report = translate_recordings(scripted, recordings, ["en"], source="fr", out=out)
    assert report.present == 1
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [r["id"] for r in rows] == [r.id for r in recordings]
    with pytest.raises(ResultsError, match=r"out\.jsonl: begun with to \['en'\], not \['fr'\]"):
        translate_recordings(scripted, recordings, ["fr"], source="fr", out=out)
    assert {(r["target"], r["text"]) for r in rows} == {("en", GOOD[0])}
    out.write_text('{"id": 1}\n')
    with pytest.raises(UsageError, match=r"out\.jsonl:1"):
        translate_recordings(scripted, recordings, ["en"], source="fr", out=out)


def test_arrays_are_recordings_too(scripted, tmp_path):
    found = [Recording("a", sweep(1, 300), "fr", "a")]
    assert translate_recordings(scripted, found, out=tmp_path / "x.jsonl").segments == 1


@pytest.fixture
def spoken(tiny_whisper):
    """A translator whose text says how many seconds it heard: recordings of other lengths have other texts."""

    class Listening(Scripted):
        def generate(self, states, prompts, how):
            self.outputs = [(f"{states.shape[-1]} frames", -0.1)]
            return super().generate(states, prompts, how)

    return Translator(Listening(tiny_whisper, GOOD), TranslationOptions(segmentation=UNCUT, guards=False))


DAYS = ("day1", "day2")


@pytest.fixture
def days(tmp_path):
    """Two recordings of one name."""
    return [str(write_wav(tmp_path / day / "talk.wav", sweep(n, 300))) for n, day in enumerate(DAYS, 1)]


def texts_in(out):
    if out.is_file():
        return {row["id"]: row["text"] for row in map(json.loads, out.read_text().splitlines())}
    return {str(p.relative_to(out)): p.read_text().strip() for p in sorted(out.rglob("*.txt"))}


def test_a_file_belongs_to_one_recording(spoken, days, tmp_path):
    out, lines = tmp_path / "o", []

    def translate(*inputs):
        return translate_recordings(spoken, find_recordings(inputs), source="fr", out=out, log=lines.append)

    assert translate(days[0]).present == 0
    assert translate(days[1]).present == 0
    both = {"talk.en.txt": "500 frames", "talk-2.en.txt": "600 frames"}
    assert texts_in(out) == both
    assert lines == [f"{days[1]}: written as talk-2: its own name is taken, or too long"]
    assert translate(*days).present == 2
    assert translate(days[1]).present == 1
    write_wav(tmp_path / "day2/talk.wav", sweep(3, 300))  # replaced under its name
    assert translate(*days).present == 1
    assert texts_in(out) == both | {"talk-2.en.txt": "700 frames"}
    (tmp_path / "day1").rename(tmp_path / "day3")
    assert translate(str(tmp_path / "day3/talk.wav")).present == 1  # moved
    (tmp_path / "day3/talk.wav").unlink()
    assert list(translate(str(tmp_path / "day3/talk.wav")).failed) == [str(tmp_path / "day3/talk.wav")]
    assert texts_in(out)["talk.en.txt"] == "500 frames"


def test_two_recordings_of_one_name_have_a_file_each(spoken, days, tmp_path):
    found = find_recordings(days)
    assert translate_recordings(spoken, found, source="fr").segments == 2  # printed
    translate_recordings(spoken, found, source="fr", out=tmp_path / "o")
    assert texts_in(tmp_path / "o") == {"talk.en.txt": "500 frames", "talk-2.en.txt": "600 frames"}


@pytest.mark.parametrize("name", ["o.jsonl", "o"])
def test_two_manifests_may_have_the_same_ids(spoken, days, tmp_path, name):
    out = tmp_path / name

    def translate(day):
        manifest = tmp_path / day / "m.jsonl"
        manifest.write_text('{"id": "x", "audio": {"path": "talk.wav"}, "language": "fr"}\n')
        return translate_recordings(spoken, find_recordings([str(manifest)]), out=out)

    translate("day1")
    if name == "o":
        translate("day2")
        assert texts_in(out) == {"x.en.txt": "500 frames", "x-2.en.txt": "600 frames"}
        return
    with pytest.raises(
        ResultsError, match=r"its x is of .*day1/talk\.wav, not of .*day2/talk\.wav; name another --out"
    ):
        translate("day2")
    assert texts_in(out) == {"x": "500 frames"}
    out.unlink()  # as the message says
    translate("day2")
    write_wav(tmp_path / "day2/talk.wav", sweep(3, 300))
    translate("day2")
    assert texts_in(out) == {"x": "700 frames"}
    assert len(out.read_text().splitlines()) == 1


def test_one_file_is_of_one_recording(spoken, days, tmp_path):
    out = tmp_path / "talk.srt"

    def translate(*inputs, **options):
        return translate_recordings(spoken, find_recordings(inputs), source="fr", out=out, **options)

    for arguments in ((days, {}), (days[:1], {"to": ["en", "fr"]}), (days[:1], {"formats": ["json"]})):
        with pytest.raises(UsageError, match="is one file"):
            translate(*arguments[0], **arguments[1])
    assert not out.exists()
    assert translate(days[0]).segments == 1
    assert "500 frames" in out.read_text()
    assert out.read_text().startswith("1\n00:00:00,000 -->")
    assert translate(days[0]).present == 1
    with pytest.raises(ResultsError, match=r"day1/talk\.wav, not of .*day2/talk\.wav; name another"):
        translate(days[1])
    assert sorted(p.name for p in tmp_path.iterdir()) == [".talk.srt.begun.json", "day1", "day2", "talk.srt"]
    for name in ("talk.csv", "talk.mp3", "out.jsonl.gz"):
        with pytest.raises(UsageError, match="its ending is none of"):
            translate_recordings(spoken, find_recordings(days), source="fr", out=tmp_path / name)


@pytest.mark.parametrize("name", ["x.jsonl", "x.txt", "o"])
@pytest.mark.parametrize("text", ["my notes", "my notes\nsecond line", '{"id": "mine"}\n'])
def test_files_that_are_not_ours_are_left_alone(spoken, days, tmp_path, name, text):
    out = tmp_path / name
    foreign = out / "talk.en.txt" if name == "o" else out
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text(text)
    if name == "o":
        translate_recordings(spoken, find_recordings(days[:1]), source="fr", out=out)
        assert texts_in(out) == {"talk.en.txt": text.strip(), "talk-2.en.txt": "500 frames"}
    else:
        for _ in range(2):
            with pytest.raises(ResultsError, match="wasn't written by this command; name another --out"):
                translate_recordings(spoken, find_recordings(days[:1]), source="fr", out=out)
        assert not list(tmp_path.glob(".*"))
    assert foreign.read_text() == text


@pytest.mark.parametrize("text", ["my notes", '{"id": "a", "target": "en"}\nmy notes'])
def test_a_file_that_was_ours_is_not_cut_either(spoken, days, tmp_path, text):
    out = tmp_path / "x.jsonl"
    translate_recordings(spoken, find_recordings(days[:1]), source="fr", out=out)
    out.write_text(text)
    with pytest.raises(UsageError, match=r"x\.jsonl:\d: no translation of ours"):
        translate_recordings(spoken, find_recordings(days[:1]), source="fr", out=out)
    assert out.read_text() == text


@pytest.mark.parametrize("name", ["x.jsonl", "x.srt", "o"])
def test_one_process_at_a_time_writes(spoken, days, tmp_path, name):
    out, found = tmp_path / name, find_recordings(days[:1])

    def second(translation):
        with pytest.raises(ResultsError, match=f"{name}: another process is writing it; wait for it, or name another"):
            translate_recordings(spoken, found, source="fr", out=out)
        assert not half or out.read_bytes().endswith(half)

    half = b'{"id": "' if name == "x.jsonl" else b""  # of a row that the first is writing

    def during(translation):
        with out.open("ab") if half else contextlib.nullcontext(io.BytesIO()) as file:
            file.write(half)
        second(translation)

    assert translate_recordings(spoken, found, source="fr", out=out, done=during).segments == 1
    script = f"""
import os, signal
from interlingua.experiments.run import Claim
from difflib import SequenceMatcher
from functools import partial
from pathlib import Path
claim = Claim(Path({str(tmp_path / ("killed" + name))!r}), {{}}, folder={name == "o"})
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9
    assert translate_recordings(spoken, found, source="fr", out=tmp_path / ("killed" + name)).segments == 1


@pytest.mark.parametrize("name", ["x.jsonl", "x.srt", "o"])
def test_what_the_message_says_to_delete_helps(spoken, days, tmp_path, name):
    out, found = tmp_path / name, find_recordings(days[:1])
    translate_recordings(spoken, found, source="fr", out=out)
    with pytest.raises(ResultsError, match=r"begun with from 'fr', not 'de'; name another --out, or delete (.*)") as e:
        translate_recordings(spoken, found, source="de", out=out)
    named = Path(str(e.value).rpartition("delete ")[2])
    assert named == out
    shutil.rmtree(named) if named.is_dir() else named.unlink()
    assert translate_recordings(spoken, found, source="de", out=out).segments == 1


def test_a_run_without_outputs_leaves_nothing(spoken, tmp_path):
    for name in ("x.jsonl", "x.srt", "o"):
        report = translate_recordings(spoken, find_recordings([str(tmp_path / "no.wav")]), out=tmp_path / name)
        assert len(report.failed) == 1
    assert not list(tmp_path.iterdir())


def test_names_that_no_file_can_have(spoken, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "o"
    names = [b"n" * 251 + b".wav", b"n" * 250 + b"m.wav", "é".encode("latin-1") + b".wav", b"plain.wav"]
    write_wav(folder / "plain.wav", sweep(1, 300))
    for n, name in enumerate(names[:3], 2):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(
            write_wav(tmp_path / f"{n}.wav", sweep(n, 300)).read_bytes()
        )
    report = translate_recordings(spoken, find_recordings([str(folder)]), source="fr", out=out)
    assert (report.segments, report.failed) == (4, {})
    assert sorted(texts_in(out).values()) == ["500 frames", "600 frames", "700 frames", "800 frames"]
    assert {"plain.en.txt", r"\xe9.en.txt"} < set(texts_in(out))
    translate_recordings(spoken, find_recordings([str(folder)]), source="fr", out=tmp_path / "o.jsonl")
    assert rf"{folder}/\xe9.wav" in texts_in(tmp_path / "o.jsonl")
    ids = [Recording(name, sweep(1, 300), "fr", name) for name in ("a\0b", "c" * 300, "d/" + "e" * 300, "ü" * 200)]
    assert translate_recordings(spoken, ids, out=tmp_path / "ids").segments == 4
    (tmp_path / "ids2").mkdir()
    (tmp_path / "ids2" / "d").touch()  # a file where a folder should be
    report = translate_recordings(spoken, ids, out=tmp_path / "ids2")
    assert (report.segments, list(report.failed)) == (3, [ids[2].id])


def test_manifests_of_any_name_are_recognised(days, tmp_path):
    row = '{"id": "x", "audio": {"path": "talk.wav"}, "language": "fr"}\n'
    table = "audio,language,text\ntalk.wav,fr,hello\n"
    files = {
        "a.txt": row.encode(),
        "b.JSONL": b"\xef\xbb\xbf" + row.encode(),
        "c.jsonl.gz": gzip.compress(row.encode()),
        "d.CSV": table.encode(),
        "e.txt": table.replace(",", "\t").encode(),
        "f": table.encode(),
        "g.csv.gz": gzip.compress(table.encode()),
        "h.txt": b'{"audio_filepath": "talk.wav", "lang": "fr"}\n',
    }
    for name, data in files.items():
        path = tmp_path / "day1" / name
        path.write_bytes(data)
        (found,) = find_recordings([str(path)])
        assert (found.language, Path(found.audio.path).name) == ("fr", "talk.wav"), name
    (tmp_path / "notes.txt").write_text("Audio of the day, in French:\nnone\n")
    for path in (days[0], str(tmp_path / "notes.txt")):  # the second fails alone, when it is read
        assert [r.id for r in find_recordings([path])] == [path]


def test_an_output_can_not_leave_its_folder(scripted, tmp_path):
    with pytest.raises(UsageError, match="leads out"):
        translate_recordings(scripted, [Recording("x", sweep(1, 300), "fr", "../x")], out=tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file"):
        translate_recordings(scripted, [], out=tmp_path / "file")


def test_the_manifests_languages_are_used(wav_manifest, scripted):
    calls = scripted.engine.calls
    translate_recordings(scripted, find_recordings([str(wav_manifest)]), ["en"])
    spoken = {prompt[1] for _, _, prompts in calls for prompt in prompts}
    whisper = scripted.engine.whisper
    assert spoken == {whisper.language_token(code) for code in ("en", "fr", "de")}


# ---------------------------------------------------------------- the command


def test_the_command(tiny_whisper_folder, folder, tmp_path, capsys):
    arguments = ["translate", str(folder / "a.wav"), "--model", str(tiny_whisper_folder), "--no-vad", "--from", "fr"]
    assert run([*arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    row = json.loads(out)
    assert (row["id"], row["target"], row["language"]) == (str(folder / "a.wav"), "en", "fr")
    assert "s of audio in" in err
    assert run([*arguments, "--out", str(tmp_path / "o"), "--format", "vtt", "srt"]) == 0
    assert (tmp_path / "o" / "a.en.vtt").read_text().startswith("WEBVTT")
    capsys.readouterr()
    (folder / "broken.wav").write_bytes(b"RIFF....")
    assert run(["translate", str(folder), *arguments[2:]]) == 1
    assert "skipped" in capsys.readouterr().err
    for wrong in (["--to", "xx"], ["--longest", "60"], ["--backend", "transformers", "--compute", "int3"]):
        assert run([*arguments, *wrong]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_of_any_encoding(tiny_whisper_folder, folder, monkeypatch, encoding):
    named = folder / "да.wav"
    (folder / "a.wav").rename(named)
    for arguments in (["--json"], [], ["--format", "json"]):
        written = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
        command = ["translate", str(named), "--model", str(tiny_whisper_folder), "--no-vad", "--from", "ru"]
        assert run([*command, *arguments]) == 0
        if arguments == ["--json"]:
            assert json.loads(written.getvalue().decode(encoding))["id"] == str(named)


# ---------------------------------------------------------------- the real model


@pytest.fixture(scope="module")
def french(prompts_manifest):
    return [u for u in prompts_manifest if u.language == "fr"][:6]


@pytest.mark.model
def test_real_speech_equals_the_reference_path(base_whisper, french):
    options = TranslationOptions(segmentation=UNCUT, guards=False)
    translator = Translator("base", options, compute="float32")
    found = {t.id: t.text for t in translator.translate_all([(u.id, u.audio) for u in french], source="fr")}
    encoder = WhisperEncoder(base_whisper, context="speech+4")
    states = encoder.encode([load_audio(u.audio) for u in french])
    frames = [Frames(u.id, values, n) for u, (values, n) in zip(french, states, strict=True)]
    expected = {h.id: h.text for h in translate_frames(base_whisper, frames, "fr")}
    assert found == expected


@pytest.mark.model
def test_both_engines_find_much_the_same_by_beams(french):
    texts = []
    for name in ("ctranslate2", "transformers"):
        translator = Translator("base", TranslationOptions(beam=5, guards=False), backend=name, compute="float32")
        texts.append({t.id: t.text for t in translator.translate_all([(u.id, u.audio) for u in french], source="fr")})
    assert score_translations(*texts, target="en", metric="chrf").value > 95


@pytest.mark.model
def test_both_engines_detect_the_same_language(french):
    heard = []
    for name in ("ctranslate2", "transformers"):
        translator = Translator("base", backend=name, compute="float32")
        said = [translator.translate(u.audio, "en") for u in french[:2]]
        heard.append([(t.language, t.language_probability) for t in said])
    assert [code for code, _ in heard[0]] == ["fr", "fr"]
    for (a, p), (b, q) in zip(*heard, strict=True):
        assert a == b
        assert p == pytest.approx(q, abs=0.001)


@pytest.mark.model
def test_real_long_audio_with_times_and_words(french):
    pause = np.zeros(2 * SAMPLE_RATE, np.float32)
    pieces = [load_audio(u.audio) for u in french]
    audio = np.concatenate([x for p in pieces for x in (p, pause)] + [np.zeros(10 * SAMPLE_RATE, np.float32)])
    translator = Translator("base", TranslationOptions(timestamps=True, words=True))
    said = translator.translate(audio, "fr")
    assert said.language == "fr"
    ends = np.cumsum([len(p) + len(pause) for p in pieces]) / SAMPLE_RATE
    assert len(said.segments) >= len(pieces)
    assert max(s.end for s in said.segments) < ends[-1]  # nothing is invented in the silence at the end
    for s in said.segments:
        assert s.start < s.end
        assert not any(s.start + 0.5 < end - 1 < s.end - 0.5 for end in ends)  # none runs over a pause of 2 s
        assert " ".join(w.word for w in s.words).split() == s.text.split()
        assert all(a.start <= b.start for a, b in zip(s.words, s.words[1:], strict=False))
        assert all(abs(w.start - s.start) < 1 or w.start > s.start for w in s.words)
    spoken = " ".join(u.text.lower() for u in french)
    known = [w.strip(".,") in spoken for w in said.text.lower().split()]
    assert np.mean(known) > 0.5


@pytest.mark.model
def test_a_real_sentence_that_is_repeated_is_written_as_often(prompts_manifest):
    translator = Translator("base")
    pause = np.zeros(SAMPLE_RATE // 4, np.float32)
    for name, words in (("fr/vm-toreply", "answer"), ("es/demo-echodone", "completed"), ("en/dir-nomatch", "match")):
        u = next(u for u in prompts_manifest if u.id == name)
        said = translator.translate(np.concatenate([load_audio(u.audio), pause] * 6), "en", source=u.language)
        assert said.text.lower().count(words) >= 5  # not once
        assert len(said.segments) == 6
        assert "sparse" not in said.flags


@pytest.mark.model
def test_real_speech_around_a_hole_and_behind_a_late_start(french, tmp_path):
    pieces = [load_audio(u.audio) for u in french]
    pause = np.zeros(2 * SAMPLE_RATE, np.float32)
    audio = np.concatenate([x for p in pieces for x in (p, pause)])
    translator = Translator("base")
    whole = translator.translate(audio, "fr", source="fr")
    path, late = tmp_path / "talk.mp3", tmp_path / "talk.mka"
    for target, codec, start in ((path, "libmp3lame", 0), (late, "flac", 96)):
        with av.open(str(target), "w", format="matroska" if start else None) as out:
            stream = out.add_stream(codec, rate=SAMPLE_RATE, layout="mono")
            frame = av.AudioFrame.from_ndarray(audio[None], "fltp", "mono")
            frame.sample_rate, frame.pts = SAMPLE_RATE, 0
            stream.codec_context.open()
            fit = av.AudioResampler(stream.format, "mono", SAMPLE_RATE, frame_size=stream.codec_context.frame_size)
            for piece in [*fit.resample(frame), *fit.resample(None), None]:
                for packet in stream.encode(piece):
                    packet.pts = packet.dts = packet.pts + round(start / packet.time_base)
                    out.mux(packet)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 6000] = np.random.default_rng(1).bytes(6000)
    path.write_bytes(data)
    said = translator.translate(path, "fr", source="fr")
    hole = said.holes[0]
    assert hole.start == pytest.approx(len(audio) / SAMPLE_RATE / 2, abs=1)
    assert 0.5 < hole.end - hole.start < 4
    moved = translator.translate(late, "fr", source="fr")
    for s, t in zip(whole.segments, moved.segments, strict=True):
        assert t.start - s.start == pytest.approx(96, abs=0.1)
    for segments in (whole.segments[:2], whole.segments[-2:]):
        for s in segments:
            assert min(abs(s.start - t.start) for t in said.segments) < 0.15


@pytest.mark.model
def test_real_live_speech(french):
    pause = np.zeros(SAMPLE_RATE, np.float32)
    audio = np.concatenate([x for u in french[:2] for x in (pause, load_audio(u.audio))])
    live = LiveTranslator(Translator("base"), to="en", source="fr")
    said = list(live.stream(audio[i : i + 1600] for i in range(0, len(audio), 1600)))
    whole = Translator("base").translate(audio, "en", source="fr")
    assert len(said) >= 2
    assert abs(said[0].start - whole.segments[0].start) < 0.5
    assert abs(said[-1].end - whole.segments[-1].end) < 0.5


@pytest.mark.model
def test_a_real_fine_tuned_folder_is_used_by_both_engines(base_whisper, tmp_path, french):
    taught = Targets(targets={"es": Target("es", "target-transcribe")}, base=Base("base", "0"), sources=("en",))
    folder = save_whisper(base_whisper, tmp_path / "model", taught)
    texts = []
    for backend in ("ctranslate2", "transformers"):
        options = TranslationOptions(segmentation=UNCUT, guards=False)
        translator = Translator(folder, options, backend=backend, compute="float32")
        assert translator.targets == ["es", "en"]
        texts.append([t.text for t in translator.translate_all([(u.id, u.audio) for u in french[:3]], ["es"])])
    assert texts[0] == texts[1]


def test_pieces_of_a_long_recording_keep_its_times(tiny_whisper, tmp_path, monkeypatch):
    from interlingua.translation import translator as module

    path = write_wav(tmp_path / "long.wav", sweep(7.5, 300))
    cuts = Segmentation(vad=False, longest=2.0)
    translator = Translator(Scripted(tiny_whisper, GOOD, language="fr"), TranslationOptions(segmentation=cuts))
    whole = translator.translate(path, "fr", source="fr")
    assert len(whole.segments) >= 3
    monkeypatch.setattr(module, "load_audio", partial(load_audio, max_seconds=5.0))
    monkeypatch.setattr(module, "PIECE_SECONDS", 4.5)
    cut = translator.translate(path, "fr", source="fr")
    assert (cut.duration, cut.speech) == pytest.approx((whole.duration, whole.speech))
    assert cut.segments[0].start == 0
    assert cut.segments[-1].end == whole.segments[-1].end
    assert all(a.end <= b.start + 0.01 for a, b in itertools.pairwise(cut.segments))
    with pytest.raises(TooLongAudioError, match="longer than 5 s; save it as a file, which may be longer"):
        translator.translate(path.read_bytes(), "fr", source="fr")


@pytest.mark.model
def test_a_recording_too_long_to_be_held_is_translated_in_pieces(tmp_path, monkeypatch, prompts_manifest):
    """The pieces end between two stretches of speech, so that no word is cut."""
    from interlingua.translation import translator as module

    spoken = [u for u in prompts_manifest if u.language == "fr" and u.text][:14]
    pause = np.zeros(8000, np.float32)
    path = write_wav(tmp_path / "long.wav", np.concatenate([x for u in spoken for x in (load_audio(u.audio), pause)]))
    translator = Translator("base")
    whole = translator.translate(path, "fr", source="fr")
    assert whole.duration > 45
    monkeypatch.setattr(module, "load_audio", partial(load_audio, max_seconds=30.0))
    monkeypatch.setattr(module, "PIECE_SECONDS", 25.0)
    cut = translator.translate(path, "fr", source="fr")
    assert cut.duration == pytest.approx(whole.duration)
    assert len(cut.segments) >= 2
    assert cut.segments[-1].end == pytest.approx(whole.segments[-1].end, abs=0.1)
    words = [[w.strip(".,!").lower() for w in t.text.split()] for t in (whole, cut)]
    assert SequenceMatcher(None, *words, autojunk=False).ratio() > 0.8
