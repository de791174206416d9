"""Folders that are made once in a process, to be copied."""

import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any


def copy_of(make: Callable[..., object], folder: Path, *arguments: Any) -> Path:
    """What ``make(some folder, *arguments)`` writes, in this folder."""
    return Path(shutil.copytree(_made(make, *arguments).name, folder, dirs_exist_ok=True))


@cache
def _made(make: Callable[..., object], *arguments: Any) -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory()
    make(Path(folder.name), *arguments)
    return folder
