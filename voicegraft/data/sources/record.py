"""What every reader yields: where a recording is, what is said in it, who says it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.text_input import decode
from voicegraft.data.manifest import inside


@dataclass(frozen=True)
class Record:
    """One utterance as a corpus describes it; nothing of it is checked yet."""

    id: str
    audio: Path | Callable[[], bytes]  # a file, or what fetches the bytes of one
    text: str | None  # None: the corpus has none
    speaker: str = ""  # "": not said
    split: str = ""  # train | val | test; "": not said
    start_sec: float = 0.0  # seconds into the file
    duration_sec: float | None = None  # seconds from there; None: to the end
    channel: int | None = None  # None: all of them, mixed
    fault: str = ""  # why what describes it cannot be read, with its place


@dataclass(frozen=True)
class Place:
    """Where a corpus lies, and where the files that it names must lie."""

    path: Path  # folder, or the one file that describes the corpus
    audio_root: Path | None = None  # the user's word that named files may lie there and not beside the corpus

    @property
    def folder(self) -> Path:
        return self.path if self.path.is_dir() else self.path.parent

    @property
    def root(self) -> Path:
        return self.audio_root or self.folder

    def named(self, name: str) -> Path:
        """The file that the corpus names, relative to the root or absolute.

        Raises:
            VoicegraftError: it lies outside of the root.
        """
        return self.root / inside(self.root, name, "; if it may, name the folder with --audio-root")


def walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """All folders below ``root`` with the names of their files, both sorted; hidden ones are left out."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Path(folder), sorted(name for name in names if not name.startswith("."))


def read_text(path: Path) -> str | None:
    """A small text file, None where there is none; what is no text becomes U+FFFD, which checks find."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        return None
    except OSError as error:
        raise VoicegraftError(f"cannot read {path}: {error.strerror}") from error
    try:
        return decode(data, f"a text in {path.parent}")
    except VoicegraftError:
        return "\ufffd"
