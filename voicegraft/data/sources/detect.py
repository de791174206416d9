"""Finds out in which layout recordings lie, and reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from voicegraft.core.errors import VoicegraftError
from voicegraft.data.sources import folders, huggingface, tables
from voicegraft.data.sources.record import Place, Record, walk


@dataclass(frozen=True)
class Layout:
    sign: str  # by what it is recognised, for people
    found: Callable[[Path], bool]  # at a folder or a file
    read: Callable[[Place], Iterator[Record]]


def _lines(path: Path, cuts: bool) -> bool:
    lines = tables.find_lines(path)
    with suppress(VoicegraftError):  # it is no text
        return lines is not None and tables.holds_cuts(lines) == cuts
    return False


def _table(path: Path, fits: Callable[[Path], object]) -> bool:
    table = tables.find_table(path)
    with suppress(VoicegraftError):
        return table is not None and bool(fits(table))
    return False


# In the order in which they are looked for: what says most comes first.
LAYOUTS = {
    "lhotse": Layout("cuts in one .jsonl(.gz)", lambda p: _lines(p, True), tables.read_cuts),
    "jsonl": Layout("manifest.jsonl", lambda p: _lines(p, False), tables.read_manifest_lines),
    "huggingface": Layout(
        "a folder of save_to_disk or .parquet files",
        lambda p: huggingface.is_saved(p) or any(huggingface.parquet_files(p)),
        huggingface.read_huggingface,
    ),
    "csv": Layout("a .csv or .tsv with a header", lambda p: _table(p, tables.table_header), tables.read_table),
    "ljspeech": Layout("metadata.csv with name|text", lambda p: _table(p, tables.has_bars), tables.read_ljspeech),
    "librispeech": Layout("*.trans.txt", lambda p: folders.has_file(p, ".trans.txt"), folders.read_librispeech),
    "libritts": Layout(
        "*.normalized.txt", lambda p: folders.has_file(p, ".normalized.txt", ".original.txt"), folders.read_libritts
    ),
    "pairs": Layout("NAME.txt beside NAME.wav", folders.has_pairs, folders.read_pairs),
}


@dataclass(frozen=True)
class Source:
    """A corpus whose layout is known."""

    location: str  # path, or hf:NAME
    layout: str
    audio_root: Path | None = None

    @property
    def name(self) -> str:
        """What the corpus may be called: the folder's name, or the file's where a file describes it."""
        if self.location.startswith(huggingface.HUB):
            return self.location.removeprefix(huggingface.HUB).partition(":")[0].rpartition("/")[2]
        path = Path(self.location).resolve()
        return path.name.split(".")[0] if path.is_file() else path.name

    def holds(self, folder: Path) -> bool:
        """Whether a folder is the corpus's own, or one of its folders with recordings in it."""
        if self.location.startswith(huggingface.HUB):
            return False
        path, asked = Path(self.location).resolve(), folder.resolve()
        own = path if path.is_dir() else path.parent
        return asked == own or (asked.is_relative_to(own) and asked.is_dir() and folders.holds_audio(asked))

    def records(self) -> Iterator[Record]:
        """All records, each time in the same order, one by one."""
        if self.location.startswith(huggingface.HUB):
            return huggingface.read_hub(self.location)
        return LAYOUTS[self.layout].read(Place(Path(self.location), self.audio_root))


def open_source(location: str, layout: str | None = None, audio_root: Path | None = None) -> Source:
    """The corpus at a path or ``hf:NAME``, its layout found out unless it is given.

    Raises:
        VoicegraftError: there is nothing, or nothing in a layout that is known.
    """
    if layout is not None and layout not in LAYOUTS:
        raise VoicegraftError(f"expected a layout of {', '.join(LAYOUTS)}, got {layout!r}")
    if audio_root is not None and not audio_root.is_dir():
        raise VoicegraftError(f"expected a folder as audio root, found none at {audio_root}")
    if location.startswith(huggingface.HUB):
        return Source(location, "huggingface")
    path = Path(location)
    if not path.exists():
        raise VoicegraftError(
            f"expected a corpus at {location}, found nothing; a data set of the Hugging Face Hub is hf:OWNER/NAME"
        )
    if layout is None:
        layout = next((name for name, kind in LAYOUTS.items() if kind.found(path)), None)
    if layout is None:
        looked = "looked for " + "; ".join(f"{kind.sign} ({name})" for name, kind in LAYOUTS.items())
        why = f"{nearly}. " if (nearly := tables.why_no_table(path)) else ""
        raise VoicegraftError(
            f"cannot tell the layout of {location}: {why}{looked}; found {_contents(path)}. "
            "If it is one of these, name it with --layout"
        )
    return Source(location, layout, audio_root)


def _contents(path: Path) -> str:
    if path.is_file():
        return "a file of another kind"
    endings: dict[str, int] = {}
    for _, names in walk(path):
        for name in names:
            ending = Path(name).suffix.lower() or "without suffix"
            endings[ending] = endings.get(ending, 0) + 1
    most = sorted(endings.items(), key=lambda item: -item[1])[:5]
    return ", ".join(f"{count} {ending}" for ending, count in most) or "no file at all"
