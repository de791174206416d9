"""The console script ``voicegraft``."""

from voicegraft.cli.verbs import main

__all__ = ["main"]
