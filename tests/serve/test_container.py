"""The Dockerfile, as far as it can be checked without Docker: its steps in a plain shell, its command as a process."""

import fnmatch
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from serving import wav

from interlingua.audio import load_audio

ROOT = Path(__file__).resolve().parents[2]
KNOWN = ("ARG", "FROM", "ENV", "WORKDIR", "COPY", "RUN", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD")


def steps():
    """(instruction, the rest) of each step."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]


def command(name):
    """The arguments of ENTRYPOINT, CMD or HEALTHCHECK."""
    rest = dict(steps())[name]
    return json.loads(rest[rest.index("[") :])


def test_its_instructions_are_known_and_in_order():
    names = [name for name, _ in steps()]
    assert set(names) <= set(KNOWN)
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert "RUN" not in names[names.index("USER") :]
    assert dict(steps())["USER"] != "root"


def test_what_is_copied_is_here_and_not_ignored():
    allowed = [line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")]
    for name, rest in steps():
        if name == "COPY":
            for source in shlex.split(rest)[:-1]:
                assert (ROOT / source).exists()
                assert any(fnmatch.fnmatch(source, pattern) for pattern in allowed)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("index", ["", "https://example.org/cpu"])
def test_its_steps_run_in_a_plain_shell(tmp_path, device, index):
    """With stand-ins for what would install or write outside: which commands are run, and that each ends well."""
    for program in ("python", "useradd", "chown", "mkdir"):
        path = tmp_path / program
        path.write_text(f'#!/bin/sh\necho {program} "$@" >> {tmp_path}/log\n')
        path.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "DEVICE": device, "TORCH_INDEX": index}
    for name, rest in steps():
        if name == "RUN":
            subprocess.run(["sh", "-euc", rest], env=environment, check=True)
    log = (tmp_path / "log").read_text()
    assert log.startswith("python -m pip install --no-deps --requirement requirements.lock\n")
    assert "python -m pip install --requirement torch.lock" in log
    assert ("--extra-index-url https://example.org/cpu" in log) is bool(index)
    assert ("nvidia-cudnn-cu12==9.*" in log) is (device == "cuda")
    assert "python -m pip install --no-deps .\n" in log


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.mark.model
def test_its_command_answers_is_healthy_and_finishes_what_it_took(tiny_whisper_folder, prompts_manifest, tmp_path):
    import urllib.request

    spoken = [load_audio(u.audio) for u in prompts_manifest if u.language == "fr"][:5]
    speech = np.concatenate(spoken)
    port = str(free_port())
    changed = {"0.0.0.0": "127.0.0.1", "8000": port, "/models/own": str(tiny_whisper_folder.parent)}
    arguments = [changed.get(a, a) for a in (*command("ENTRYPOINT"), *command("CMD"))]
    program = [sys.executable, "-c", "from interlingua.cli import main; main()", *arguments[1:]]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "INTERLINGUA_API_KEY": "secret",
        "OMP_NUM_THREADS": "1",
    }
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(program, env=environment, stderr=log)
    healthy = [sys.executable, *(a.replace("8000", port) for a in command("HEALTHCHECK")[1:])]
    try:
        for _ in range(120):
            time.sleep(0.5)
            assert process.poll() is None, (tmp_path / "log").read_text()
            if subprocess.run(healthy, stderr=subprocess.DEVNULL).returncode == 0:
                break
        else:
            pytest.fail((tmp_path / "log").read_text())

        body = b"".join(
            f'--x\r\nContent-Disposition: form-data; name="{n}"{f}\r\n\r\n'.encode() + v + b"\r\n"
            for n, f, v in (
                ("model", "", b"base"),
                ("file", '; filename="a.wav"', wav(speech)),
            )
        )
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/audio/translations",
            body + b"--x--\r\n",
            {"Content-Type": "multipart/form-data; boundary=x", "Authorization": "Bearer secret"},
        )
        found = []
        asked = threading.Thread(target=lambda: found.append(urllib.request.urlopen(request, timeout=300).read()))
        asked.start()
        going = f"http://127.0.0.1:{port}/metrics"
        while (
            "interlingua_requests_going 1.0" not in urllib.request.urlopen(going).read().decode() and asked.is_alive()
        ):
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        asked.join()
        assert json.loads(found[0])["text"]
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    written = (tmp_path / "log").read_text()
    assert "secret" not in written
    assert "Traceback" not in written
