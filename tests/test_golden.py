"""Golden results: what the command line makes of fixed input, beside what it made of it before (tests/golden/*.json).

Everything goes through the command line and the files that it writes; of interlingua only the entry is imported, so
that its inside may be rearranged. A change that is meant to change figures writes them anew, and shows them in a diff:

    INTERLINGUA_GOLDEN=write python -m pytest tests/test_golden.py

Compared are figures, ranks, texts and records, not titles, labels, signatures or provenance (tests/golden/compare.py,
which also is the one place that knows the keys of results.json).
"""

import json
import shutil
from pathlib import Path

import pytest

from golden import layouts
from golden.compare import (
    check,
    differences,
    manifest_records,
    rank_agreement,
    read_golden,
    tables,
    texts_of,
)
from interlingua.cli import run

HERE = Path(__file__).parent / "golden"

EXACT = 0.0
"""Texts, counts, and floats of numpy and pure Python: two runs agree bit by bit, whatever the number of threads."""


def call(*arguments: object, code: int = 0) -> None:
    """Run a command."""
    assert run([str(a) for a in arguments]) == code, arguments


@pytest.fixture
def printed(capsys):
    """Run a command that prints JSON."""

    def printed(*arguments: object, code: int = 0):
        capsys.readouterr()
        call(*arguments, "--json", code=code)
        return json.loads(capsys.readouterr().out)

    return printed


# ---------------------------------------------------------------- corpora

COLUMNS = "columns=meaning=id,text=raw_transcription"
CORPORA = {  # case -> (corpus, what makes its files, arguments); TMP is the folder of the case
    "fleurs-tar.gz": ("fleurs", layouts.fleurs, ()),
    "fleurs-tar": ("fleurs", lambda f: layouts.fleurs(f, "tar"), ("--positives", "first")),
    "fleurs-unpacked": ("fleurs", lambda f: layouts.fleurs(f, "unpacked"), ("--max-utterances", "2")),
    "fleurs-parquet": ("fleurs", lambda f: layouts.fleurs(f, "parquet", "dev"), ("--split", "validation")),
    "fleurs-options": (
        "fleurs",
        lambda f: layouts.fleurs(f, "unpacked"),
        ("--languages", "en", "fr_fr", "--option", "references=ru_ru", "text=normalised"),
    ),
    "fleurs-rotation-0": ("fleurs", layouts.fleurs_many, ("--rotation", "0")),
    "fleurs-rotation-3": ("fleurs", layouts.fleurs_many, ("--rotation", "3", "--max-utterances", "9")),
    "common-voice-4": ("common-voice", layouts.common_voice, ()),
    "common-voice-11": ("common-voice", lambda f: layouts.common_voice(f, 11), ("--languages", "fr,ru")),
    "common-voice-17": ("common-voice", lambda f: layouts.common_voice(f, 17, durations=True), ("--split", "train")),
    "covost": ("covost", layouts.covost, ()),
    "covost-prepared": (
        "covost",
        lambda f: layouts.covost(f, prepared=True),
        ("--option", "targets=ru", "--languages", "en"),
    ),
    "mass": ("mass", layouts.mass, ()),
    "mass-titles": ("mass", layouts.mass, ("--option", "titles=yes", "references=fr")),
    "europarl-st": ("europarl-st", layouts.europarl, ()),
    "europarl-st-options": ("europarl-st", layouts.europarl, ("--split", "train-noisy", "--option", "targets=de")),
    "mustc": ("mustc", layouts.mustc, ()),
    "mustc-options": ("mustc", layouts.mustc, ("--split", "test", "--option", "targets=fr")),
    "voxpopuli-s2s": ("voxpopuli-s2s", layouts.voxpopuli, ()),
    "speechmatrix": ("speechmatrix", layouts.speechmatrix, ()),
    "speechmatrix-options": ("speechmatrix", layouts.speechmatrix, ("--option", "least_score=1.0")),
    "huggingface-folder": ("huggingface", layouts.audio_folder, ()),
    "huggingface-folder-of-pairs": ("huggingface", layouts.audio_folder_of_pairs, ()),
    "huggingface-without-texts": ("huggingface", layouts.audio_without_texts, ("--option", "language=fr")),
    "huggingface-parquet": ("huggingface", layouts.parquet, ("--option", COLUMNS)),
    "huggingface-parquet-of-pairs": ("huggingface", layouts.parquet_of_pairs, ("--option", "language=en,fr")),
    "huggingface-saved": ("huggingface", layouts.saved_data_set, ("--option", "audio_folder=TMP/audio")),
    "lhotse-cuts": ("lhotse", layouts.lhotse_cuts, ()),
    "lhotse-recordings": ("lhotse", layouts.lhotse_recordings, ()),
    "lhotse-memory": ("lhotse", layouts.lhotse_memory, ("--option", "audio_folder=TMP/audio")),
    "lhotse-bare": ("lhotse", layouts.lhotse_bare, ("--option", "language=fr")),
    "nemo": ("nemo", layouts.nemo, ()),
    "plain-csv": ("plain", lambda f: layouts.table(f, layouts.EVERY_COLUMN), ()),
    "plain-csv-french": ("plain", lambda f: layouts.table(f, layouts.EVERY_COLUMN), ("--languages", "French")),
    "plain-tsv": ("plain", lambda f: layouts.table(f, layouts.TSV, "t.tsv"), ()),
    "plain-jsonl": ("plain", lambda f: layouts.table(f, layouts.JSON_LINES, "t.jsonl"), ()),
    "plain-stretches": ("plain", lambda f: layouts.table(f, layouts.STRETCHES), ()),
    "plain-named-otherwise": (
        "plain",
        lambda f: layouts.table(f, layouts.NAMED_OTHERWISE),
        ("--option", "columns=audio=clip,text=said,translation_en=english,speaker=who", "language=fr"),
    ),
    **{name: ("pairs", lambda f, name=name: layouts.pairs(f, name), ()) for name in layouts.PAIRS},
}
SUMMARY = ("utterances", "meanings", "clusters", "seconds", "without_duration", "languages")


def prepared(name: str, root: Path, folder: Path, printed, *arguments: str) -> dict:
    """What ``corpus prepare`` writes and counts."""
    given = [a.replace("TMP", str(folder)) for a in arguments]
    said = printed("corpus", "prepare", name, "--root", root, "--out", folder / "m.jsonl", *given)
    several = {key: said["several_recordings"][key] for key in ("sentences", "most", "left_out")}
    counts = {key: said[key] for key in SUMMARY} | several
    return {"counts": counts, "records": manifest_records(folder / "m.jsonl", folder)}


def test_every_corpus_as_its_publishers_hand_it_out(tmp_path, printed):
    found = {}
    for case, (name, make, arguments) in CORPORA.items():
        folder = tmp_path / case
        folder.mkdir()
        found[case] = prepared(name, make(folder), folder, printed, *arguments)
    table = mass_table(tmp_path / "mass-titles")
    found["mass-table"] = prepared("mass", table, tmp_path / "mass-titles", printed)
    every = json.loads(json.dumps(printed("corpus", "list")))
    covered = {name for name, _, _ in CORPORA.values()}
    assert {name for name in every if name not in covered} == {"prompts", "udhr"}  # fetch themselves: see below
    check("corpora", found, tolerance=EXACT)


def mass_table(folder: Path) -> Path:
    """MaSS as its scripts leave it, out of its folders: ``data/<language>_corpus``, and the table of what there is."""
    root, verses = folder / "scripts" / "data", {}
    for record in manifest_records(folder / "m.jsonl", folder):
        language, _, stem = record["id"].partition("/")
        name = record["meaning"].replace(" ", "_").replace(":", "_verse_")
        verses.setdefault(name, {})[Path(record["audio"]["path"]).parts[-3]] = stem
        assert language
    languages = sorted({language for row in verses.values() for language in row})
    root.mkdir(parents=True)
    for language in languages:
        shutil.move(folder / "root" / "dataset" / language, root / f"{language}_corpus")
    lines = [["ID", "Label", *languages], ["", "Path", *(f"./data/{name}_corpus/wav/" for name in languages)]]
    lines += [
        ["", "Available", *("9" for _ in languages), "Intersection"],
        ["", "Missing", *("0" for _ in languages), "2"],
    ]
    for n, (name, row) in enumerate(sorted(verses.items())):
        lines.append([str(n), name, *(row.get(language, "Not Available") for language in languages)])
    table = root / "recap_verses-anName-True.csv"
    table.write_text("".join(",".join(line) + "\n" for line in lines), encoding="utf-8")
    return table


def test_what_is_wrong_with_a_manifest_and_what_it_holds(tmp_path, printed, capsys):
    root = layouts.fleurs(tmp_path, "unpacked")
    call("corpus", "prepare", "fleurs", "--root", root, "--out", tmp_path / "m.jsonl")
    lines = (tmp_path / "m.jsonl").read_text(encoding="utf-8").splitlines()
    first = json.loads(lines[0])
    lines += [lines[1], json.dumps({**first, "id": "gone", "audio": {"path": "gone.wav"}})]
    lines += [json.dumps({**first, "id": "other", "text": "Это по-русски, а не по-английски."})]
    (tmp_path / "wrong.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    capsys.readouterr()
    call("corpus", "check", tmp_path / "wrong.jsonl", "--json", code=1)
    findings = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    found = {
        "stats": printed("corpus", "stats", tmp_path / "m.jsonl"),
        "stats of a table": printed("corpus", "stats", layouts.table(tmp_path / "table", layouts.EVERY_COLUMN)),
        "findings": sorted([f["id"], f["problem"]] for f in findings),
    }
    check("corpus-counts", found, tolerance=EXACT)


# ---------------------------------------------------------------- systems' outputs

OUTPUTS = {  # case -> (systems, arguments, exit code: whether an output is missing)
    "everything": ("base tuned cascade", (), 1),
    "into-chinese": (
        "untold tuned",
        ("--to", "zh", "--task", "translate", "--languages", "fr", "en", "--worst", "3"),
        1,
    ),
    "transcripts": ("tuned base", ("--task", "transcribe", "--worst", "4"), 0),
}


def test_scores_of_systems_outputs(tmp_path):
    found = {}
    for name, (systems, arguments, code) in OUTPUTS.items():
        files = [HERE / "outputs" / f"{system}.jsonl" for system in systems.split()]
        out = tmp_path / name
        call("evaluate", "outputs", HERE / "outputs" / "manifest.jsonl", *files, *arguments, "--out", out, code=code)
        parts = ("outputs", "outputs_compared", "outputs_by_duration", "worst")
        found |= {f"{name}: {part}": values for part, values in tables(out, *parts).items()}
        if name != "everything":
            found[f"{name}: texts"] = texts_of(out)
    check("outputs", found, tolerance=EXACT)


# ---------------------------------------------------------------- the comparison itself


def test_the_comparison_can_fail():
    golden = read_golden("outputs")
    assert differences(golden, golden) == []
    more = json.loads(json.dumps(golden))
    more["everything: outputs"]["another row"] = more["everything: worst"]["0"]["another key"] = 1
    assert differences(golden, more) == []  # what is new doesn't matter
    row = next(iter(golden["everything: outputs"]))
    wrong = json.loads(json.dumps(golden))
    wrong["everything: outputs"][row]["bleu"]["value"] *= 1 + 1e-12
    assert differences(golden, wrong)[0].startswith(f"everything: outputs > {row} > bleu > value: ")
    assert differences(golden, wrong, tolerance=1e-9) == []
    for change in ({"n": 11}, {"n": "10"}, {"n": None}, {"bleu": None}):
        assert len(differences(golden, {**golden, "everything: outputs": {**more["everything: outputs"], row: {
            **golden["everything: outputs"][row], **change}}})) == 1  # fmt: skip
    del wrong["everything: worst"]["7"]
    assert len(differences(golden, wrong)) == 2
    assert differences([1, True, "a"], [1, 1, "b"]) == ["[1]: 1, not true", '[2]: "b", not "a"']
    assert rank_agreement({"a": "1 2 0"}, {"a": "1 3 0", "b": "1"}) == (2, 3)
