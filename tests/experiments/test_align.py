"""`interlingua align`: two recordings compared frame by frame, word by word, and drawn."""

import json
import shutil

import numpy as np
import pytest
import torch

from helpers import detect_language, records, sweep, utterance, write_wav
from interlingua.audio import load_audio
from interlingua.cli import run
from interlingua.corpora import write_manifest
from interlingua.encoding import WhisperEncoder
from interlingua.errors import ModelFormatError, TooLongAudioError
from interlingua.experiments.alignment import align, directions, listen, load_utterance, match_words, rounded
from interlingua.models import quiet
from interlingua.report import alignment_heatmap
from interlingua.results import Word
from interlingua.retrieval.reference import seqsim_pair
from interlingua.retrieval.seqsim import alignment_matrix
from interlingua.types import SAMPLE_RATE, AudioRef


@pytest.fixture
def call(capsys, tmp_path, monkeypatch):
    """Run `interlingua align` in an empty folder; return (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(["align", *(str(a) for a in arguments)])
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def converted(monkeypatch, tmp_path):
    """A cache of its own for the tiny model's CTranslate2 engine."""
    monkeypatch.setenv("INTERLINGUA_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def two_wavs(tmp_path):
    return [write_wav(tmp_path / f"{n}.wav", sweep(0.6 + 0.4 * i, 220.0 * (i + 1), i)) for i, n in enumerate("ab")]


RATE = 50.0  # frames per second


def frames(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 8)).astype(np.float32)


def words_of(lengths: list[int]) -> list[Word]:
    """Adjoining words of so many frames each."""
    ends = np.cumsum(lengths) / RATE
    return [
        Word(word=f"w{i}", start=end - n / RATE, end=end) for i, (n, end) in enumerate(zip(lengths, ends, strict=True))
    ]


# ---------------------------------------------------------------- scores and words


@pytest.mark.parametrize(("n", "m"), [(1, 1), (7, 5), (3, 40)])
def test_the_scores_are_the_reference_s(n, m):
    q, c = frames(n, 1), frames(m, 2)
    reference = seqsim_pair(q, c)
    found = dict(zip(("precision", "recall", "mean", "f1"), directions(alignment_matrix(q, c)), strict=True))
    assert found == pytest.approx(reference, abs=1e-5)


def test_words_are_matched_by_the_reference_score_of_their_frames():
    lengths, others = [3, 1, 5, 2], [2, 4, 3]
    q, c = frames(sum(lengths), 3), frames(sum(others), 4)
    matches = match_words(alignment_matrix(q, c), words_of(lengths), words_of(others), RATE)
    q_words, c_words = np.split(q, np.cumsum(lengths)[:-1]), np.split(c, np.cumsum(others)[:-1])
    for i, (match, part) in enumerate(zip(matches, q_words, strict=True)):
        scores = [seqsim_pair(part, other)["f1"] for other in c_words]
        assert match.query.word == f"w{i}"
        assert match.candidate.word == f"w{int(np.argmax(scores))}"
        assert match.similarity == pytest.approx(max(scores), abs=1e-5)


def test_swapped_words_find_each_other():
    one, two = frames(6, 5), frames(9, 6)
    similarity = alignment_matrix(np.concatenate([one, two]), np.concatenate([two, one]))
    matches = match_words(similarity, words_of([6, 9]), words_of([9, 6]), RATE)
    assert [(m.query.word, m.candidate.word) for m in matches] == [("w0", "w1"), ("w1", "w0")]
    assert [m.similarity for m in matches] == pytest.approx([1, 1], abs=1e-5)


def test_a_word_without_duration_or_past_the_last_frame_has_one_frame():
    similarity = np.array([[0.1, 0.2], [0.9, 0.3]], dtype=np.float32)
    start, end = (Word(word=n, start=t, end=t) for n, t in (("start", 0.0), ("end", 0.05)))
    (first, last) = match_words(similarity, [start, end], [start, end], RATE)
    assert (first.candidate, last.candidate) == (end, start)
    assert (first.similarity, last.similarity) == pytest.approx((0.2, 0.9))


def test_no_words_no_matches():
    similarity = np.ones((2, 2), dtype=np.float32)
    word = Word(word="a", start=0.0, end=0.04)
    assert match_words(similarity, [word], [], RATE) == match_words(similarity, [], [word], RATE) == []


# ---------------------------------------------------------------- listening


def test_what_is_longer_than_the_window_is_refused(tmp_path):
    path = write_wav(tmp_path / "long.wav", sweep(30.02, 200.0))
    with pytest.raises(TooLongAudioError, match=r"long\.wav: longer than Whisper's window of 30 s; cut out"):
        load_utterance(AudioRef(str(path)))
    assert len(load_utterance(AudioRef(str(path), duration=30.0))) == 30 * SAMPLE_RATE


def test_words_in_a_language_without_a_token_stay_out(tiny_whisper):
    spoken = listen(tiny_whisper, "u", sweep(0.4, 200.0), language="kea")
    side = spoken.side
    assert (side.language, side.text, side.words, side.transcribed) == ("kea", "", [], False)
    assert "no language 'kea'" in spoken.lacking


def test_a_transcript_that_the_decoder_can_t_hold_gives_no_words(tiny_whisper, converted):
    samples = sweep(0.4, 200.0)
    fits = listen(tiny_whisper, "u", samples, language="en", text="a" * 17)  # a byte a token, and a space before
    assert [w.word for w in fits.side.words] == ["a" * 17]
    assert fits.lacking == ""
    long = listen(tiny_whisper, "u", samples, language="en", text="a" * 18)
    assert long.side.words == []
    assert "19 tokens, and the decoder takes 18" in long.lacking


def test_a_model_that_can_t_be_converted_gives_no_words(tiny_whisper, monkeypatch):
    def refuse(*arguments):
        raise ModelFormatError("can't convert it")

    monkeypatch.setattr("interlingua.translation.engines.ctranslate2_folder", refuse)
    a, b = (listen(tiny_whisper, n, sweep(0.4, 200.0), language="en", text="a b") for n in "ab")
    assert (a.side.words, a.lacking) == ([], "can't convert it")
    found, _ = align(tiny_whisper, a, b)
    assert found.matches == []
    assert found.f1 == pytest.approx(1, abs=1e-5)


def test_given_words_are_kept_and_the_frames_are_those_of_retrieval(tiny_whisper, converted):
    audio = [sweep(0.4, 200.0), sweep(0.7, 300.0)]
    spoken = [listen(tiny_whisper, n, s, language="en", text=f" {n} b ") for n, s in zip("ab", audio, strict=True)]
    assert [[w.word for w in s.side.words] for s in spoken] == [["a", "b"], ["b", "b"]]
    assert [(s.side.probability, s.side.transcribed, s.lacking) for s in spoken] == [(None, False, "")] * 2
    found, similarity = align(tiny_whisper, *spoken)
    (q, _), (c, _) = WhisperEncoder(tiny_whisper).encode(audio)
    np.testing.assert_array_equal(similarity, alignment_matrix(q, c))
    assert similarity.shape == (20, 35)
    assert found.f1 == pytest.approx(seqsim_pair(q, c)["f1"], abs=1e-5)
    assert rounded(found).f1 == round(found.f1, 4)
    assert [(side.id, side.seconds) for side in (found.query, found.candidate)] == [("a", 0.4), ("b", 0.7)]


def detected_by_transformers(whisper, samples) -> tuple[str, float]:
    """The slow way: transformers' own forward pass, and a look at every language token."""
    features = whisper.feature_extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
    start = torch.tensor([[whisper.model.generation_config.decoder_start_token_id]])
    with quiet(), torch.inference_mode():
        logits = whisper.model(features, decoder_input_ids=start).logits[0, -1]
        assert whisper.model.detect_language(features).item() == max(
            whisper.model.generation_config.lang_to_id.values(), key=lambda token: logits[token]
        )
    scores = {code: logits[whisper.language_token(code)].exp().item() for code in whisper.languages}
    best = max(scores, key=lambda code: scores[code])
    return best, scores[best] / sum(scores.values())


def test_the_language_is_the_one_that_transformers_detects(tiny_whisper):
    for seed in range(3):
        samples = sweep(0.5 + seed, 150.0 * (seed + 1), seed)
        ((states, _),) = WhisperEncoder(tiny_whisper, context="full").encode([samples])
        code, probability = detect_language(tiny_whisper, states)
        expected, p = detected_by_transformers(tiny_whisper, samples)
        assert (code, probability) == (expected, pytest.approx(p, abs=1e-3))


# ---------------------------------------------------------------- the command


def test_files_with_given_words(call, two_wavs, tiny_whisper_folder, converted, tmp_path):
    options = ("--from", "en", "--to", "French", "--text-a", "one two", "--text-b", "un deux")
    code, out, err = call("a.wav", "b.wav", *options, "--model", tiny_whisper_folder)
    assert (code, err) == (0, "")
    query, candidate, scores, _, head, one, two, _, picture = out.splitlines()
    assert query == 'query:     a.wav, English, 0.60 s: "one two"'
    assert candidate == 'candidate: b.wav, French, 1.00 s: "un deux"'
    assert scores.startswith("SeqSim:    precision 0.")
    assert head.split() == ["word", "start-end", "word", "start-end", "similarity"]
    assert (one.split()[0], two.split()[0]) == ("one", "two")
    assert "->" in one
    assert picture == "picture: alignment.png"
    assert (tmp_path / "alignment.png").read_bytes().startswith(b"\x89PNG")


def test_json_alone_on_stdout_and_whisper_fills_the_gaps(call, two_wavs, tiny_whisper_folder, converted, tmp_path):
    code, out, _ = call(
        *two_wavs, "--to", "fr", "--text-b", "un", "--out", "new/p.png", "--json", "--model", tiny_whisper_folder
    )
    assert code == 0
    result = json.loads(out)
    query, candidate = result["query"], result["candidate"]
    assert 0 < query["probability"] <= 1
    assert query["transcribed"]
    assert (candidate["probability"], candidate["transcribed"], candidate["language"]) == (None, False, "fr")
    assert [w["word"] for w in candidate["words"]] == ["un"]
    assert 0 < result["f1"] <= 1
    assert result["mean"] == pytest.approx((result["precision"] + result["recall"]) / 2, abs=1e-4)
    assert (result["method"], result["model"], result["picture"]) == ("seqsim", "tiny-random", "new/p.png")
    assert [m["query"] for m in result["matches"]] == query["words"]
    assert (tmp_path / "new" / "p.png").stat().st_size > 10_000


def test_a_manifest_brings_languages_and_transcripts(call, two_wavs, tiny_whisper_folder, converted, tmp_path):
    members = [
        utterance(language, "x", text=text, audio=AudioRef(str(path)))
        for language, text, path in zip(("en", "fr"), ("one two", "un"), two_wavs, strict=True)
    ]
    write_manifest(tmp_path / "m.jsonl", members)
    arguments = ("en/x", "fr/x", "--manifest", "m.jsonl", "--model", tiny_whisper_folder)
    code, out, _ = call(*arguments, "--json")
    assert code == 0
    result = json.loads(out)
    assert [(result[s]["id"], result[s]["language"], result[s]["text"]) for s in ("query", "candidate")] == [
        ("en/x", "en", "one two"),
        ("fr/x", "fr", "un"),
    ]
    code, out, _ = call(*arguments, "--to", "it", "--text-b", "uno", "--json")
    assert code == 0
    assert (json.loads(out)["candidate"]["language"], json.loads(out)["candidate"]["text"]) == ("it", "uno")
    code, out, err = call("en/x", "fr/y", "--manifest", "m.jsonl")
    assert (code, out) == (2, "")
    assert err == "interlingua: m.jsonl holds no utterance 'fr/y'; did you mean fr/x?\n"


def test_missing_words_are_named_and_the_picture_is_drawn(call, two_wavs, tiny_whisper_folder, tmp_path):
    code, out, err = call(*two_wavs, "--from", "kea", "--to", "ast", "--model", tiny_whisper_folder)
    assert code == 0
    assert "SeqSim:" in out
    assert "->" not in out
    assert [line.split("no words: ")[1].split(",")[0] for line in err.splitlines()] == [
        "tiny-random has no language 'kea'",
        "tiny-random has no language 'ast'",
    ]
    assert (tmp_path / "alignment.png").exists()


def test_the_picture_frames_the_matched_words(tmp_path):
    side = {"language": "en", "seconds": 0.4, "words": []}
    word, other = {"word": "a", "start": 0.0, "end": 0.1}, {"word": "b", "start": 0.2, "end": 0.4}
    arrays = {"alignment": alignment_matrix(frames(20, 1), frames(20, 2))}
    pictures = []
    for matches in ([], [{"query": word, "candidate": other}], [{"query": other, "candidate": word}]):
        results = {"alignment": {"query": side, "candidate": side, "f1": 0.5, "matches": matches}}
        pictures.append(alignment_heatmap(records(results), arrays, tmp_path / "p.png").read_bytes())
    assert len(set(pictures)) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("a.wav", "none.wav"), "none.wav: no such file"),
        (("a.wav", "long.wav"), "long.wav: longer than Whisper's window of 30 s"),
        (("a.wav", "empty.wav"), "empty.wav: no samples"),
        (("a.wav", "text.wav"), "text.wav: FFmpeg finds no audio"),
        (("a.wav", "b.wav", "--from", "elvish"), "unknown language 'elvish'"),
        (("a.wav", "b.wav", "--to", "elvish"), "unknown language 'elvish'"),
        (("a.wav", "b.wav", "--method", "duration"), "--method"),
        (("a.wav", "b.wav", "--out", "p.pdf"), "--out p.pdf"),
        (("a.wav", "b.wav", "--out", "."), "--out ."),
        (("a.wav", "b.wav", "--model", "base.en"), "base.en knows English only"),
        (("a", "b", "--manifest", "none.jsonl"), "none.jsonl: no readable manifest file"),
        (("a.wav",), "--b"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_2(call, two_wavs, tmp_path, arguments, said):
    write_wav(tmp_path / "long.wav", sweep(30.5, 200.0))
    write_wav(tmp_path / "empty.wav", np.zeros(0, dtype=np.float32))
    (tmp_path / "text.wav").write_text("this is no sound")
    code, out, err = call(*arguments)
    (line,) = err.splitlines()
    assert (code, out) == (2, "")
    assert line.startswith("interlingua: ")
    assert said in line
    assert not (tmp_path / "alignment.png").exists()


# ---------------------------------------------------------------- real speech


@pytest.mark.model
def test_a_real_language_is_detected_as_transformers_does(base_whisper, prompts_manifest):
    (u,) = [u for u in prompts_manifest if u.id == "ru/agent-alreadyon"]
    samples = load_audio(u.audio)
    ((states, _),) = WhisperEncoder(base_whisper, context="full").encode([samples])
    code, probability = detect_language(base_whisper, states)
    expected, p = detected_by_transformers(base_whisper, samples)
    assert (code, probability) == (expected, pytest.approx(p, abs=2e-3))
    assert code == "ru"


@pytest.mark.model
def test_real_words_find_their_translations(call, prompts_manifest, tmp_path):
    """Two files with nothing told: Whisper names the languages, writes down both, and reordered words still meet."""
    paths = {u.language: u.audio.path for u in prompts_manifest if u.meaning == "agent-alreadyon"}
    for language in ("en", "fr"):
        shutil.copy(paths[language], tmp_path / f"{language}.g722")
    code, out, err = call("en.g722", "fr.g722", "--json")
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert (result["query"]["language"], result["candidate"]["language"]) == ("en", "fr")
    assert result["query"]["probability"] > 0.9
    assert result["query"]["text"].startswith("That agent is already logged on.")
    assert result["f1"] == pytest.approx(0.623, abs=0.01)
    found = {m["query"]["word"]: m["candidate"]["word"] for m in result["matches"]}
    assert found["number"] == "numéro"  # "agent number", "numéro d'agent"
    assert found["agent"].startswith("d'ag")  # the second agent; Whisper hears "agence"
    assert found["your"] == "votre"
    assert (tmp_path / "alignment.png").stat().st_size > 50_000
