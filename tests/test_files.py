"""Writes that leave nothing half-written behind, and clear what a killed process left."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from interlingua import files
from interlingua.files import atomic_file, atomic_folder, write_text

KILLED = """
import os, signal, sys
from pathlib import Path
from interlingua.files import atomic_file, atomic_folder
path = Path(sys.argv[2])
with (atomic_file if sys.argv[1] == "file" else atomic_folder)(path) as temporary:
    (temporary if sys.argv[1] == "file" else temporary / "part").write_text("half")
    if sys.argv[1] == "swap":
        Path.replace = lambda self, target: (os.rename(self, target), os.kill(os.getpid(), signal.SIGKILL))
    else:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def _new_process():
    """What a process looks at once, it looks at again in each test."""
    files._remove_leftovers.cache_clear()


def killed(kind: str, path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, kind, str(path)], check=False)
    assert done.returncode == -9
    assert [p.name for p in path.parent.iterdir() if p.name.startswith(".interlingua-")]


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path):
    killed("file", tmp_path / "a")
    killed("folder", tmp_path / "b")
    write_text(tmp_path / "c", "whole")
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_a_folder_that_was_being_replaced_stays_until_there_is_another(tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    (target / "part").write_text("old")
    killed("swap", target)
    assert not target.exists()
    write_text(tmp_path / "c", "whole")
    (kept,) = (p for p in tmp_path.iterdir() if p.name != "c")
    assert (kept / "part").read_text() == "old"
    with atomic_folder(target) as temporary:
        (temporary / "part").write_text("new")
    files._remove_leftovers.cache_clear()
    write_text(tmp_path / "c", "whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c", "model"]
    assert (target / "part").read_text() == "new"


def test_what_others_write_stays(tmp_path):
    mine = f".interlingua-{files._machine()}-{os.getpid()}-0"
    elsewhere = ".interlingua-00000000-999999999-0"
    for name in (mine, elsewhere, ".interlingua-notes", ".hidden"):
        (tmp_path / name).write_text("")
    with atomic_file(tmp_path / "a") as temporary:
        files._remove_leftovers.cache_clear()
        write_text(tmp_path / "b", "whole")
        temporary.write_text("whole")
    assert {p.name for p in tmp_path.iterdir()} == {mine, elsewhere, ".interlingua-notes", ".hidden", "a", "b"}


def test_a_name_of_255_bytes_can_be_written(tmp_path):
    write_text(tmp_path / ("n" * 255), "whole")
    assert (tmp_path / ("n" * 255)).read_text() == "whole"


def test_a_failed_block_leaves_the_old_and_nothing_else(tmp_path):
    write_text(tmp_path / "a", "old")
    for write, name in ((atomic_file, "a"), (atomic_folder, "f")):
        with pytest.raises(ZeroDivisionError), write(tmp_path / name) as temporary:
            (temporary if name == "a" else temporary / "part").write_text(str(1 / 0))
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a", "old")]
