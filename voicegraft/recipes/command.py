"""What every training recipe shares: the command line ``[CONFIG.yaml] [key=value ...]``, and what it says of itself."""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path
from typing import TypeVar

from voicegraft.core.config import load_config

T = TypeVar("T")


def recipe_config(cls: type[T], doc: str | None, argv: list[str] | None) -> T:
    """Parses the arguments into the recipe's config: an optional YAML file, then overrides such as ``loop.steps=10``."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arguments", nargs="*", metavar="CONFIG.yaml | key=value")
    arguments = parser.parse_args(argv).arguments
    files = [a for a in arguments if "=" not in a]
    if len(files) > 1:
        parser.error(f"expected at most one config file, got {', '.join(files)}")
    return load_config(cls, Path(files[0]) if files else None, [a for a in arguments if "=" in a])


def commit() -> dict[str, str]:
    """``{"commit": ...}`` of the recipes, where they lie in a git checkout; nothing elsewhere."""
    try:
        asked = ["git", "rev-parse", "HEAD"]
        head = subprocess.run(asked, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"commit": head.stdout.strip()}
