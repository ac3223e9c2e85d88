"""Commands that fetch: they fail with one line, and never wait for ever."""

import os
import subprocess
from pathlib import Path

from interlingua.errors import FetchError

MOST_SECONDS = 600


class CommandError(FetchError):
    """The command itself failed; nothing came that could be wrong."""


def run(command: list[str], folder: Path) -> None:
    """Run a command in a folder.

    Raises:
        CommandError: it isn't there, fails, or takes more than `MOST_SECONDS`.
    """
    environment = os.environ | {"LC_ALL": "C"}
    name = " ".join(command[:2])
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=MOST_SECONDS
        )
    except subprocess.TimeoutExpired as e:
        raise CommandError(f"`{name}` took more than {MOST_SECONDS} s") from e
    except OSError as e:
        raise CommandError(f"`{name}` can't be run ({e.strerror})") from e
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise CommandError(f"`{name}` failed: {lines[-1]}")
