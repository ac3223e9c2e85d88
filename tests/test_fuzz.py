"""A few damaged inputs of every kind; `make fuzz` tries many."""

import os
import subprocess
import sys

from helpers import ROOT


def test_damaged_input_of_every_kind(tmp_path):
    command = [sys.executable, str(ROOT / "tests" / "fuzz.py"), "500", "short"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
