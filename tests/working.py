"""Work by name that worker processes do, or die of; without torch, so that they start at once."""

import os
import signal
import time
from pathlib import Path

from voicegraft.core.errors import VoicegraftError


def die(name: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail(name: str) -> None:
    raise VoicegraftError(f"{name} is not speech; drop it")


def sleep(name: str) -> None:
    """Leaves the process's number in a file and stays."""
    Path(name).write_text(str(os.getpid()))
    time.sleep(600)


def sign(folder: Path, name: str) -> None:
    """Writes which process did it."""
    (folder / name).write_text(str(os.getpid()))
