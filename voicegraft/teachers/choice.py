"""The teachers by their names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.parts import find_part
from voicegraft.teachers.base import Teacher
from voicegraft.teachers.flite import FliteTeacher
from voicegraft.teachers.kokoro import KokoroTeacher, Mixture


def open_teacher(name: str, folder: Path | None, mixtures: Mapping[str, Mixture]) -> Teacher:
    """
    Args:
        name: kokoro, flite or pack.
        folder: where it lies, if not where parts are kept (Kokoro) or in the package (the pack).
        mixtures: more voices, of Kokoro.

    Raises:
        VoicegraftError: another name, or the teacher is not there.
    """
    if mixtures and name != "kokoro":
        raise VoicegraftError(f"voices can be mixed of Kokoro only, not of {name}; leave mixtures out")
    if name == "kokoro":
        return KokoroTeacher(folder or find_part("kokoro"), mixtures)
    if name == "flite":
        return FliteTeacher()
    if name == "pack":
        from voicegraft.teachers.pack import PackTeacher  # torch: a second that others need not wait

        return PackTeacher(folder)
    raise VoicegraftError(f"expected a teacher of kokoro, flite, pack, got {name!r}")
