"""Text files that are whole or not there."""

import os
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Writes a text file in one move, ended by a line break; parents are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text + "\n" * (not text.endswith("\n")), encoding="utf-8")
    os.replace(part, path)
