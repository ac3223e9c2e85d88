"""Corpora of talks and field recordings: each trap of a format on a tiny tree in the real layout."""

from pathlib import Path

import pytest

from interlingua.audio import load_audio
from interlingua.corpora.base import read_corpus
from interlingua.errors import CorpusError, UsageError
from interlingua.types import AudioRef, Utterance
from trees import clip, europarl_part, mboshi, mustc_part, put, read, speechmatrix, voxpopuli

# ---------------------------------------------------------------- Europarl-ST


def test_europarl_st(tmp_path):
    europarl_part(tmp_path, texts=("Il a dit « non ».", "S.O."))
    europarl_part(tmp_path, target="de", texts=("Er sagte nein.", ""))
    one, two = read("europarl-st", tmp_path)[0]
    assert one == Utterance(
        id="en/test/en.20080901.1_0.0_1.5",
        audio=AudioRef(str(tmp_path / "en" / "audios" / "en.20080901.1.m4a"), 0.0, 1.5),
        language="en",
        text='He said "no.',
        translations={"de": "Er sagte nein.", "fr": "Il a dit « non »."},
        meaning="en/en.20080901.1_0.0_1.5",
        split="test",
        speaker="Some_Member_28112",  # of the speech: there are two speakers and two segments of the first speech
        duration=1.5,
    )
    assert (two.text, two.translations, two.speaker) == ("NA", {"fr": "S.O."}, "Some_Member_28112")
    assert read("europarl-st", tmp_path, targets=("de",))[0][1].translations == {}


def test_europarl_st_a_separator_in_a_sentence_is_no_line_end(tmp_path):
    europarl_part(tmp_path, texts=("un\u2028deux", "trois\x85quatre"))
    assert [u.translations["fr"] for u in read("europarl-st", tmp_path)[0]] == ["un\u2028deux", "trois\x85quatre"]


def test_europarl_st_texts_that_dont_run_parallel(tmp_path):
    europarl_part(tmp_path, texts=("one",))
    with pytest.raises(CorpusError, match=r"segments.fr ends before line 2 of the others"):
        read("europarl-st", tmp_path)
    europarl_part(tmp_path, **{"segments.lst": "en.20080901.1 0.0\n" * 2})
    with pytest.raises(CorpusError, match=r"segments.lst:1: 'en.20080901.1 0.0' isn't a speech, a start and an end"):
        read("europarl-st", tmp_path)


def test_europarl_st_what_isnt_there(tmp_path):
    europarl_part(tmp_path, **{"segments.lst": "gone 0 1\nen.20080901.1 2 2\n", "speeches.lst": None})
    found, log = read("europarl-st", tmp_path)
    assert found == []
    assert "skipped 1 (no audio file): gone (fr/test/segments.lst:1)" in log[0]
    assert "skipped 1 (it ends before it begins)" in log[1]
    for options in ({"split": "dev"}, {"targets": ("es",)}, {"languages": ("de",)}):
        with pytest.raises(CorpusError, match=r"fetch v1\.1\.tar\.gz"):
            read("europarl-st", tmp_path, **options)


def test_europarl_st_noisy_is_read_only_if_asked_for(tmp_path):
    europarl_part(europarl_part(tmp_path), split="train-noisy")
    found, log = read("europarl-st", tmp_path)
    assert {u.split for u in found} == {"test"}
    assert "skipped train-noisy" in log[0]
    assert {u.split for u in read("europarl-st", tmp_path, split="train-noisy")[0]} == {"train-noisy"}


# ---------------------------------------------------------------- MuST-C


def test_mustc(tmp_path):
    mustc_part(mustc_part(tmp_path), "fr", texts=("Bonjour.", ""))
    one, two = read("mustc", tmp_path)[0]
    assert one == Utterance(
        id="en/tst-COMMON/ted_767_0.25_1.5",
        audio=AudioRef(str(tmp_path / "en-de" / "data" / "tst-COMMON" / "wav" / "ted_767.wav"), 0.25, 1.5),
        language="en",
        text='He said "hello.',
        translations={"de": "Hallo.", "fr": "Bonjour."},
        meaning="en/ted_767_0.25_1.5",
        split="tst-COMMON",
        speaker="spk.767",
        duration=1.5,
    )
    assert (two.audio.offset, two.text, two.translations) == (1e-05, "NA", {"de": "NA"})
    assert len(load_audio(one.audio)) == 24000


def test_mustc_splits_targets_and_languages(tmp_path):
    mustc_part(mustc_part(tmp_path), split="dev")
    assert {u.split for u in read("mustc", tmp_path)[0]} == {"dev", "tst-COMMON"}
    assert {u.split for u in read("mustc", tmp_path / "en-de", split="test")[0]} == {"tst-COMMON"}
    with pytest.raises(CorpusError, match="no split train is here, only dev, tst-COMMON"):
        read("mustc", tmp_path, split="train")
    with pytest.raises(CorpusError, match="no target ja is here, only en-de"):
        read("mustc", tmp_path, targets=("ja",))
    with pytest.raises(UsageError, match=r"--languages de: .* has speech in en; --option targets="):
        read("mustc", tmp_path, languages=("de",))


def iwslt_part(place: Path, split="train", texts=("que", "spa")) -> Path:
    clip(place / split / "wav" / "a.wav", 3.0)
    put(place / split / "txt" / f"{split}.yaml", "- {duration: 1.5, offset: 0.25, speaker_id: s, wav: a.wav}\n")
    for code, text in zip(texts, ("Wasi", "Casa"), strict=True):
        put(place / split / "txt" / f"{split}.{code}", text + "\n")
    return place


@pytest.mark.parametrize("place", ["que-spa", "que_spa_clean", "que-spa/data", "."])
def test_iwslts_layout_of_low_resource_pairs(tmp_path, place):
    iwslt_part(iwslt_part(tmp_path / place), split="valid")
    named = place != "."
    found, _ = read("mustc", tmp_path, languages=None if named else ("que",))
    assert [(u.id, u.split) for u in found] == [("qu/dev/a_0.25_1.5", "dev"), ("qu/train/a_0.25_1.5", "train")]
    assert (found[0].language, found[0].text, found[0].translations) == ("qu", "Wasi", {"es": "Casa"})
    assert len(load_audio(found[0].audio)) == 24000
    if not named:
        with pytest.raises(UsageError, match=r"has texts in que, spa; say which of two is spoken, --languages que"):
            read("mustc", tmp_path)


# ---------------------------------------------------------------- Mboshi-French


def test_mboshi(tmp_path):
    (first, second), log = read("mboshi", mboshi(tmp_path))
    assert first == Utterance(
        id="mdw/abiayi_1",
        audio=AudioRef(str(tmp_path / "full_corpus_newsplit" / "train" / "abiayi_1.wav")),
        language="mdw",
        text="Wa ámitúúngá",
        translations={"fr": "Il dort"},
        meaning="abiayi_1",
        split="train",
        speaker="abiayi",
    )
    assert second.split == "dev"
    assert log == ["mboshi dev: skipped 1 (no audio file): kouarata_3.wav"]
    assert len(read("mboshi", tmp_path / "full_corpus_newsplit", split="dev")[0]) == 1
    with pytest.raises(UsageError, match="has speech in mdw alone"):
        read("mboshi", tmp_path, languages=("fr",))
    with pytest.raises(CorpusError, match=r"no train or dev/<name>\.fr is here\. clone https://github\.com/besacier"):
        read("mboshi", tmp_path / "full_corpus_newsplit" / "dev")


def test_mustc_what_cant_be_used(tmp_path):
    mustc_part(tmp_path, wav="gone.wav")
    found, log = read("mustc", tmp_path)
    assert found == []
    assert "skipped 2 (no audio file): gone.wav (de tst-COMMON.yaml:1)" in log[0]
    clip(tmp_path / "secret.wav", 3.0)
    mustc_part(tmp_path, wav="../../../../secret.wav")
    assert read("mustc", tmp_path)[0] == []
    mustc_part(tmp_path, texts=("one", "two", "three"))
    with pytest.raises(CorpusError, match=r"tst-COMMON\.yaml ends before line 3"):
        read("mustc", tmp_path)
    mustc_part(tmp_path, yaml="- {duration: 1.5, offset: 0.25}\n- !!python/object/apply:os.system ['touch pwned']\n")
    with pytest.raises(CorpusError, match=r"tst-COMMON.yaml:1: .* is no segment \(no 'wav'\)"):
        read("mustc", tmp_path)
    for deep in ("[", "- ", "{a: "):  # libyaml would end the process
        mustc_part(tmp_path, yaml=f"- {{duration: 1.5, offset: 0.25, wav: {deep * 100_000}\n- {{}}\n")
        with pytest.raises(CorpusError, match=r"tst-COMMON.yaml:1: .* is no segment"):
            read("mustc", tmp_path)


def test_mustc_one_target_is_streamed(tmp_path):
    folder = mustc_part(tmp_path) / "en-de" / "data" / "tst-COMMON" / "txt"
    segments = read_corpus("mustc", tmp_path)
    assert next(segments).text == 'He said "hello.'
    put(folder / "tst-COMMON.de", "")  # what was read already stays read
    segments.close()


# ---------------------------------------------------------------- VoxPopuli S2S


def test_voxpopuli_s2s(tmp_path):
    session = "20131007-0900-PLENARY-19"
    voxpopuli(tmp_path)
    found, log = read("voxpopuli-s2s", tmp_path)
    by_language = {u.language: u for u in found}
    assert len(found) == len({u.id for u in found}) == 3
    assert {u.meaning for u in found} == {f"{session}-en_a"}
    source = by_language["en"]
    assert (source.text, source.translations, source.speaker) == ('"NA', {"fr": "S.O."}, None)
    assert (by_language["fr"].text, by_language["fr"].translations) == ("S.O.", {"en": '"NA'})
    assert (by_language["de"].text, by_language["de"].speaker) == (None, None)
    assert log == [f"voxpopuli_s2s en-fr: skipped 2 (no audio file): {session}-en_b, {session}-fr_b"]
    assert {u.language for u in read("voxpopuli-s2s", tmp_path, languages=("en", "de"))[0]} == {"en", "de"}


# ---------------------------------------------------------------- SpeechMatrix


def test_speechmatrix_members_are_found_by_their_place_in_the_zip(tmp_path):
    speechmatrix(tmp_path / "sm", [(1.12, "lt1", "sl2"), (1.10, "lt2", "sl0")])
    found, log = read("speechmatrix", tmp_path / "sm")
    assert [(u.id, u.meaning) for u in found] == [
        ("lt/lt_1_10_20.ogg", "lt-sl/2"),
        ("sl/sl_2_10_20.ogg", "lt-sl/2"),
        ("lt/lt_2_10_20.ogg", "lt-sl/3"),
        ("sl/sl_0_10_20.ogg", "lt-sl/3"),
    ]
    assert log == []
    assert found[0].audio == AudioRef(str(tmp_path / "sm" / "audios" / "lt_aud.zip"), member="lt_1_10_20.ogg")
    assert [round(len(load_audio(u.audio)) / 16000, 1) for u in found] == [0.3, 0.4, 0.4, 0.2]
    assert (found[0].text, found[0].duration, found[0].speaker) == (None, None, None)


def test_speechmatrix_leaves_out_and_names(tmp_path):
    rows = [(1.2, "lt0", "sl0"), (1.19, "lt0", "sl1"), (1.15, "lt_aud.zip:7:9", "sl1"), (1.01, "lt1", "sl1")]
    speechmatrix(tmp_path / "sm", rows)
    found, log = read("speechmatrix", tmp_path / "sm")
    assert [u.id for u in found] == ["lt/lt_0_10_20.ogg", "sl/sl_0_10_20.ogg"]
    assert [line.partition("skipped ")[2] for line in log] == [
        "1 (a recording of it stands in an earlier pair): lt-sl.tsv.gz:3",
        "1 (no audio in the zip, or no zip): lt_aud.zip:7:9",
        "1 (a score below 1.06): lt-sl.tsv.gz:5",
    ]
    assert len(read("speechmatrix", tmp_path / "sm", least_score=1.0)[0]) == 4
    with pytest.raises(CorpusError, match="no pair of lt, fr"):
        read("speechmatrix", tmp_path / "sm", languages=("lt", "fr"))


def test_speechmatrix_compressed_members_and_foreign_cells(tmp_path):
    speechmatrix(tmp_path / "sm", [(1.2, "lt0", "sl0")], compressed=True)
    assert read("speechmatrix", tmp_path / "sm")[0] == []
    speechmatrix(tmp_path / "other", [(1.2, "../../x.zip:1:2", "sl0")])
    with pytest.raises(CorpusError, match="is no position in a zip"):
        read("speechmatrix", tmp_path / "other")
