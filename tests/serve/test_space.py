"""The Hugging Face Space: it needs what the package needs, and its README's steps start the page."""

import os
import re
import socket
import subprocess
import sys
import time
import tomllib
from importlib.metadata import version
from pathlib import Path

import httpx2
import pytest
import yaml

ROOT = Path(__file__).parents[2]
README = (ROOT / "space" / "README.md").read_text(encoding="utf-8")


def test_it_needs_what_the_package_needs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["serve"]]
    assert (ROOT / "space" / "requirements.txt").read_text(encoding="utf-8").split("\n") == [*needed, ""]


def test_its_header_is_what_the_hub_reads():
    header = yaml.safe_load(README.split("---")[1])
    assert header["sdk"] == "gradio"
    assert header["sdk_version"] == version("gradio")  # the tested one
    assert (ROOT / "space" / header["app_file"]).is_file()
    assert len(header["short_description"]) <= 60


@pytest.mark.model
def test_its_steps_start_the_page(tmp_path):
    steps = re.search(r"```\n(.*?)```", README, re.DOTALL)[1]
    (tmp_path / "SPACE").mkdir()
    subprocess.run(["sh", "-e", "-c", steps.replace("SPACE", str(tmp_path / "SPACE"))], cwd=ROOT, check=True)
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    settings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.Popen(
        [sys.executable, "app.py"], cwd=tmp_path / "SPACE", env={**settings, "PORT": str(port)}, stderr=subprocess.PIPE
    )
    try:
        while True:
            assert process.poll() is None, process.stderr.read().decode()
            try:
                found = httpx2.get(f"http://127.0.0.1:{port}/", timeout=30)
                break
            except httpx2.TransportError:
                time.sleep(0.5)
        assert found.status_code == 200
        assert "<title>" in found.text or "gradio_config" in found.text
        assert "Translate" in found.text
    finally:
        process.terminate()
        process.communicate(timeout=60)
