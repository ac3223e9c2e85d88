"""Claiming a folder, and what is kept in it across interruptions."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from interlingua.errors import ResultsError
from interlingua.experiments.run import Run, claim, kept, kept_by_id, work_folder
from interlingua.results import Results, load_results


def test_a_folder_belongs_to_one_configuration(tmp_path):
    claim(tmp_path, {"model": "base", "path": Path("a"), "languages": ("en", "fr")})
    claim(tmp_path, {"model": "base", "languages": ("en", "fr"), "seed": 1})
    with pytest.raises(ResultsError, match="begun with seed 1, not 2; name another --out"):
        claim(tmp_path, {"seed": 2})
    (tmp_path / "begun.json").write_text("{")
    with pytest.raises(ResultsError, match=r"begun.json: not readable .* delete"):
        claim(tmp_path, {"seed": 1})


def test_a_value_is_made_once(tmp_path):
    made = []
    path = tmp_path / "a" / "value.json"
    for _ in range(2):
        assert kept(path, lambda: made.append(1) or {"x": (1, 2)}, dict[str, tuple[int, int]]) == {"x": (1, 2)}
    assert made == [1]
    with pytest.raises(ResultsError, match=r"value.json: not readable"):
        kept(path, dict, list[int])


def test_values_by_id_survive_a_killed_run_and_follow_their_origin(tmp_path):
    path, asked = tmp_path / "texts.jsonl", []

    def make(ids):
        asked.append(list(ids))
        for i in ids:
            if i == "c" and len(asked) == 1:
                raise KeyboardInterrupt
            yield {i: i.upper()}

    origins = {"a": "1", "b": "1", "c": "1"}
    with pytest.raises(KeyboardInterrupt):
        kept_by_id(path, origins, make, str)
    path.write_bytes(path.read_bytes() + b'{"id": "c", "ori')  # half a line
    assert kept_by_id(path, origins, make, str) == {"a": "A", "b": "B", "c": "C"}
    assert asked == [["a", "b", "c"], ["c"]]
    assert kept_by_id(path, {"a": "1", "b": "2"}, make, str) == {"a": "A", "b": "B"}
    assert asked[-1] == ["b"]  # its audio changed
    assert kept_by_id(path, origins | {"b": "2"}, make, str) == {"a": "A", "b": "B", "c": "C"}
    assert len(asked) == 3
    kept_ids = [json.loads(line)["id"] for line in path.read_text().splitlines()]
    assert sorted(kept_ids) == ["a", "b", "c"]  # the line of the former audio is gone
    path.write_text("nothing of ours\n")
    with pytest.raises(ResultsError, match=r"texts.jsonl:1: not a kept value"):
        kept_by_id(path, origins, make, str)


def test_an_utterance_may_have_no_value(tmp_path):
    assert kept_by_id(tmp_path / "a.jsonl", {"a": "", "b": ""}, lambda ids: [{"a": 1}], int) == {"a": 1}
    assert kept_by_id(tmp_path / "a.jsonl", {"b": ""}, lambda ids: [{"b": 2}], int) == {"b": 2}


def test_results_are_saved_with_their_provenance(tmp_path):
    run = Run(tmp_path / "out", compute="float32")
    run.save(Results(title="a run"), write=False)
    assert not (tmp_path / "out").exists()
    made = run.save(Results(title="a run"), seeds={"bootstrap": 1})
    saved, _ = load_results(tmp_path / "out")
    assert saved == made
    assert saved.title == "a run"
    assert saved.provenance.seeds == {"bootstrap": 1}
    assert saved.provenance.seconds >= 0


def test_a_work_folder_stays_only_with_what_an_interrupted_run_kept(tmp_path):
    out = tmp_path / "new" / "pairs.tsv"

    def interrupted(name):
        with work_folder(out) as folder:
            if name:
                (folder / name).write_text("done")
            with pytest.raises(ResultsError, match=r"pairs.tsv: another process is writing it"), work_folder(out):
                pass
            raise KeyboardInterrupt

    for name in ("", "half"):
        with pytest.raises(KeyboardInterrupt):
            interrupted(name)
        assert [p.name for p in out.parent.iterdir()] == [".pairs.tsv.begun"] * bool(name)
    with work_folder(out) as folder:
        assert (folder / "half").read_text() == "done"
    assert list(out.parent.iterdir()) == []


def test_one_process_at_a_time_has_a_run(tmp_path):
    script = f"""
import subprocess
import sys
from pathlib import Path
from interlingua.experiments.run import Run
run = Run(Path({str(tmp_path)!r}))
run.claim({{"a": 1}})
print("held", flush=True)
input()
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ResultsError, match=r"another process is writing it; wait for it, or name another --out$"):
            Run(tmp_path).claim({"a": 1})
        process.kill()
    first, second = Run(tmp_path), Run(tmp_path)
    first.claim({"a": 1})
    second.claim({"a": 1})  # one process may have several
    assert [p.name for p in tmp_path.iterdir()] == ["begun.json"]
