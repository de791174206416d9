"""Packages that only evaluations need."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from voicegraft.core.errors import VoicegraftError


def need(module: str, package: str | None = None) -> ModuleType:
    """An optional package, or a VoicegraftError that names it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise VoicegraftError(
            f"evaluating needs the package {package or module}, which cannot be imported ({error}); "
            "run: pip install voicegraft[evaluate]"
        ) from error
