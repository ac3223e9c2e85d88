"""Manifests of Lhotse's and NeMo's."""

import base64
from pathlib import Path

import pytest

from interlingua.audio import load_audio
from interlingua.errors import CorpusError, ManifestError, UsageError
from interlingua.types import AudioRef, Utterance
from trees import clip, jsonl, lhotse_cut, lhotse_recording, lhotse_supervision, read

# ---------------------------------------------------------------- NeMo


def test_nemo_null_durations_offsets_and_relative_paths(clips, monkeypatch):
    clip(clips / "elsewhere" / "a.wav")
    monkeypatch.chdir(clips / "elsewhere")  # the manifest's folder counts, not this one
    path = jsonl(
        clips / "m.json",
        {"audio_filepath": "a.wav", "duration": None, "text": "NA", "lang": "en"},
        {"audio_filepath": "b.wav", "duration": 0.1, "offset": 0.05, "text": 'He said "no', "lang": "fr-FR"},
        {"audio_filepath": str(clips / "sub" / "c.wav"), "duration": 0.2, "offset": None, "text": "", "lang": "en"},
    )
    one, two, three = read("nemo", path)[0]
    assert (one.audio, one.duration, one.text) == (AudioRef(str(clips / "a.wav")), None, "NA")
    assert (two.audio, two.language) == (AudioRef(str(clips / "b.wav"), 0.05, 0.1), "fr")
    assert len(load_audio(two.audio)) == 1600
    assert (three.audio, three.duration, three.text) == (AudioRef(str(clips / "sub" / "c.wav")), 0.2, None)


def test_nemo_targets_of_a_recording_are_one_utterance(clips):
    shared = {"audio_filepath": "a.wav", "duration": 0.2, "source_lang": "en", "pnc": "yes"}
    path = jsonl(
        clips / "m.json",
        {**shared, "target_lang": "en", "text": "Hello", "taskname": "asr"},
        {**shared, "target_lang": "de", "text": "Hallo", "taskname": "ast"},  # text is the translation
        {**shared, "target_lang": "fr", "text": "Hello", "answer": "Bonjour", "taskname": "ast"},
        {"audio_filepath": "b.wav", "duration": 0.2, "source_lang": "en", "target_lang": "en", "answer": "na"},
    )
    two, one = read("nemo", path)[0]
    assert (one.id, one.text, one.translations) == ("a.wav", "Hello", {"de": "Hallo", "fr": "Bonjour"})
    assert (two.id, two.text, two.translations) == ("b.wav", None, {})


def test_nemo_leaves_out_and_names(clips):
    path = jsonl(
        clips / "m.json",
        {"audio_filepath": "gone.wav", "lang": "en"},
        {"audio_filepath": ["a.wav", "b.wav"], "lang": "en"},
        {"audio_filepath": "a.wav", "text": "one", "lang": "en"},
        {"audio_filepath": "a.wav", "text": "two", "lang": "en"},
    )
    found, log = read("nemo", path)
    assert [u.text for u in found] == ["one"]
    assert [line.split("(")[1].split(")")[0].split(";")[0] for line in log] == [
        "no audio file",
        "several audio files in a row",
        "another row says another language, transcript or translation",
    ]
    with pytest.raises(ManifestError, match=r"m.json:1: duration is 'long'"):
        read("nemo", jsonl(path, {"audio_filepath": "a.wav", "duration": "long", "lang": "en"}))
    with pytest.raises(ManifestError, match="no source_lang or lang; prepare a manifest with --option language=CODE"):
        read("nemo", jsonl(path, {"audio_filepath": "a.wav"}))
    with pytest.raises(UsageError, match="the nemo corpus has no splits"):
        read("nemo", path, split="dev")


# ---------------------------------------------------------------- Lhotse


@pytest.fixture
def second(tmp_path):
    """a.wav lasts a second."""
    clip(tmp_path / "a.wav", 1.0)
    return tmp_path


@pytest.mark.parametrize("name", ["corpus_cuts_dev.jsonl", "corpus_cuts_dev.jsonl.gz"])
def test_lhotse_a_supervisions_start_is_relative_to_its_cut(second, name):
    custom = {"translated_text": {"fra": "salut"}}
    supervision = lhotse_supervision(start=0.1, speaker="spk", gender="F", custom=custom)
    (found,) = read("lhotse", jsonl(second / name, lhotse_cut(supervisions=[supervision])))[0]
    assert found == Utterance(
        id="s",
        audio=AudioRef(str(second / "a.wav"), 0.6, 0.3),
        language="en",
        text="hi",
        translations={"fr": "salut"},
        split="dev",
        speaker="spk",
        gender="F",
        duration=0.3,
    )


def test_lhotse_a_supervision_outside_a_cut_counts_from_the_recording(second):
    jsonl(second / "x_recordings_train.jsonl.gz", lhotse_recording(), lhotse_recording(id="alone"))
    path = jsonl(
        second / "x_supervisions_train.jsonl.gz",
        lhotse_supervision(start=0.1),
        lhotse_supervision(id="t", recording_id="nowhere"),
    )
    for root in (path, second, second / "x_recordings_train.jsonl.gz"):
        (found,), log = read("lhotse", root)
        assert (found.id, found.audio, found.split) == ("s", AudioRef(str(second / "a.wav"), 0.1, 0.3), "train")
        assert [line.partition("(")[2] for line in log] == [
            "its recording isn't in the other manifest): t (nowhere)",
            "a recording without supervision): alone",
        ]
    assert len(read("lhotse", second, split="train")[0]) == 1
    with pytest.raises(CorpusError, match="whose name says dev"):
        read("lhotse", second, split="dev")


def test_lhotse_supervisions_without_recordings(second):
    with pytest.raises(CorpusError, match="no recordings belong to these supervisions"):
        read("lhotse", jsonl(second / "s.jsonl", lhotse_supervision()))


@pytest.mark.parametrize("layout", ["cuts", "recordings"])
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("command", "is a shell command .*, which is never run"),
        ("url", "is a URL .*, which isn't fetched; download it"),
    ],
)
def test_lhotse_commands_and_urls_are_refused(second, layout, kind, said, monkeypatch):
    monkeypatch.chdir(second)
    source = "touch pwned; cat a.wav" if kind == "command" else "https://example.org/a.wav"
    recording = lhotse_recording(source, kind)
    if layout == "cuts":
        path = jsonl(second / "cuts.jsonl", lhotse_cut(recording, [lhotse_supervision()]))
    else:
        jsonl(second / "recordings.jsonl", recording)
        path = jsonl(second / "supervisions.jsonl", lhotse_supervision())
    with pytest.raises(ManifestError, match=said) as caught:
        read("lhotse", path)
    assert ".jsonl:1: " in str(caught.value)
    assert not (second / "pwned").exists()


def test_lhotse_memory_is_written_to_the_named_folder(second):
    data = base64.b64encode((second / "a.wav").read_bytes()).decode()
    path = jsonl(second / "cuts.jsonl", lhotse_cut(lhotse_recording(data, "memory", id="../r"), [lhotse_supervision()]))
    with pytest.raises(ManifestError, match="give the option audio_folder"):
        read("lhotse", path)
    (found,) = read("lhotse", path, audio_folder=str(second / "out"))[0]
    assert Path(found.audio.path).parent == second / "out"
    assert len(load_audio(found.audio)) == 4800


@pytest.mark.parametrize(
    ("cut", "said"),
    [
        (lhotse_cut(lhotse_recording(channels=(0, 1)), channel=1), "one channel of several"),
        (lhotse_cut(lhotse_recording(transforms=[{"name": "Speed", "kwargs": {"factor": 0.9}}])), "augmented"),
        (
            {
                "id": "m",
                "type": "MixedCut",
                "tracks": [
                    {"type": "MonoCut", "cut": lhotse_cut(), "offset": 0.0},
                    {"type": "MonoCut", "cut": lhotse_cut(), "offset": 0.1, "snr": 10},
                ],
            },
            "a mixed cut",
        ),
        (lhotse_cut(lhotse_recording("gone.wav")), "no audio file; relative paths are taken from"),
        (lhotse_cut(lhotse_recording("placeholder", "shar")), "a source of type 'shar'"),
        (lhotse_cut(), "no supervision says the language"),
        ({k: v for k, v in lhotse_cut().items() if k != "recording"}, "no recording"),
    ],
)
def test_lhotse_what_isnt_one_stretch_of_one_file_is_left_out(second, cut, said):
    found, log = read("lhotse", jsonl(second / "cuts.jsonl", cut))
    assert found == []
    assert len(log) == 1
    assert f"skipped 1 ({said}" in log[0]


def test_lhotse_multicuts_of_all_channels_and_padded_cuts_are_read(second):
    multi = lhotse_cut(
        lhotse_recording(channels=(0, 1)), [lhotse_supervision(channel=[0, 1])], type="MultiCut", channel=[0, 1]
    )
    padded = {
        "id": "p",
        "type": "MixedCut",
        "tracks": [
            {"type": "MonoCut", "cut": lhotse_cut(None, [lhotse_supervision(id="t")])},
            {"type": "PaddingCut", "cut": {"id": "pad", "duration": 1.0}, "offset": 0.5},
        ],
    }
    found, log = read("lhotse", jsonl(second / "cuts.jsonl", multi, padded))
    assert ([u.id for u in found], log) == (["s", "t"], [])


def test_lhotse_bare_cuts_and_recordings_need_a_language(second):
    (found,) = read("lhotse", jsonl(second / "cuts.jsonl", lhotse_cut()), language="fr")[0]
    assert (found.id, found.language, found.audio) == ("c", "fr", AudioRef(str(second / "a.wav"), 0.5, 0.5))
    (second / "cuts.jsonl").unlink()
    (found,) = read("lhotse", jsonl(second / "r.jsonl", lhotse_recording()), language="fr")[0]
    assert (found.id, found.duration, found.audio) == ("r", 1.0, AudioRef(str(second / "a.wav")))


def test_lhotse_a_supervision_in_two_windows_is_one_utterance(second):
    cuts = [
        lhotse_cut(id="c1", start=0.0, supervisions=[lhotse_supervision(start=0.4)]),
        lhotse_cut(id="c2", start=0.5, supervisions=[lhotse_supervision(start=-0.1)]),
    ]
    found, log = read("lhotse", jsonl(second / "cuts.jsonl", *cuts))
    assert [u.audio.offset for u in found] == [0.4]
    assert log == ["cuts.jsonl: skipped 1 (its id stands already before): s"]


def test_lhotse_relative_paths_from_another_folder(second):
    path = jsonl(second / "manifests" / "cuts.jsonl", lhotse_cut(supervisions=[lhotse_supervision()]))
    assert len(read("lhotse", path, audio_root=str(second))[0]) == 1
