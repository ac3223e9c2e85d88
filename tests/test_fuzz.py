"""A few damaged inputs of every kind; `make fuzz` tries many."""

import os
import subprocess
import sys

from helpers import ROOT

PROOF = """
import os, time
from pathlib import Path
import fuzz
fuzz.SECONDS = 1
WRONG = {
    "raises": lambda folder: 1 / 0,
    "hangs": lambda folder: time.sleep(60),
    "dies": lambda folder: os._exit(3),
    "fine": lambda folder: (folder / "a").read_bytes(),
}
for name, read in WRONG.items():
    found = [said for _, said in fuzz.batch(fuzz.Kind(name, {"a": b"abc"}, read), ["1", "2"], Path("work"))]
    print(name, found)
"""


def python(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, **options)


def test_damaged_input_of_every_kind(tmp_path):
    done = python(str(ROOT / "tests" / "fuzz.py"), "500", "short", cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_what_is_wrong_is_found(tmp_path):
    done = python("-c", PROOF, cwd=tmp_path)
    assert done.stdout.splitlines() == [
        "raises ['ZeroDivisionError: division by zero', 'ZeroDivisionError: division by zero']",
        "hangs ['hangs over 1 s', 'hangs over 1 s']",
        "dies ['ends the process (3)', 'ends the process (3)']",
        "fine []",
    ], done.stderr[-2000:]
