"""What every recipe shares: the command line ``[CONFIG.yaml] [key=value ...]``, and what it says of itself."""

from __future__ import annotations

import subprocess
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from voicegraft.core.command_line import read_keys
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.runtime import single_thread

T = TypeVar("T")
CONFIGS = Path(__file__).parent / "configs"


def recipe_config(cls: type[T], doc: str | None, argv: Sequence[str] | None, prog: str = "") -> T:
    """Parses the arguments into the recipe's config: an optional YAML file, then overrides such as ``loop.steps=10``."""
    return read_keys(cls, argv, doc, find_config, prog)


def recipe_main(
    recipe: Callable[[T], object], doc: str | None, one_thread: bool = True, prog: str = ""
) -> Callable[..., None]:
    """What ``voicegraft recipe NAME`` calls: reads the recipe's only argument from the command line and runs it.

    Args:
        prog: the verb, where it is called otherwise.
    """

    def main(argv: Sequence[str] | None = None) -> None:
        if one_thread:
            single_thread()
        config = next(iter(typing.get_type_hints(recipe).values()))
        recipe(recipe_config(config, doc, argv, prog or f"voicegraft recipe {recipe.__name__}"))

    return main


def find_config(name: str) -> Path:
    """A file of the user's, else the one in the package: ``pocket/speech`` is ``configs/pocket/speech.yaml``.

    Raises:
        VoicegraftError: neither is there.
    """
    for path in (Path(name), CONFIGS / name, CONFIGS / f"{name}.yaml"):
        if path.is_file():
            return path
    packaged = sorted(str(path.relative_to(CONFIGS).with_suffix("")) for path in CONFIGS.glob("*/*.yaml"))
    raise VoicegraftError(f"cannot read config {name}: no such file; those of the package are {', '.join(packaged)}")


def commit() -> dict[str, str]:
    """``{"commit": ...}`` of the recipes, where they lie in a git checkout; nothing elsewhere."""
    try:
        asked = ["git", "rev-parse", "HEAD"]
        head = subprocess.run(asked, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"commit": head.stdout.strip()}
