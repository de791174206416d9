"""Layouts where file names say what belongs together: pairs of audio and text, LibriSpeech, LibriTTS."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from voicegraft.audio.io import SUFFIXES
from voicegraft.data.sources.record import Place, Record, read_text, walk
from voicegraft.data.splits import split_of


def read_pairs(place: Place) -> Iterator[Record]:
    """``NAME.txt`` beside ``NAME.wav`` (or .flac, .opus, .ogg, .mp3), in one folder or many.

    Where several folders hold audio, each is a speaker. The id is the path below the corpus folder without its suffix.
    """
    root = place.folder
    holding = (folder for folder, names in walk(root) if any(_is_audio(name) for name in names))
    several = len(list(islice(holding, 2))) > 1
    for folder, names in walk(root):
        files = [name for name in names if _is_audio(name)]
        if not files:
            continue  # a read-me at the top is not a text without audio
        texts = {Path(name).stem: name for name in names if name.lower().endswith(".txt")}
        files += [f"{stem}.wav" for stem in texts.keys() - {Path(name).stem for name in files}]
        for name in sorted(files):
            path = folder / name
            yield Record(
                id=path.relative_to(root).with_suffix("").as_posix(),
                audio=path,
                text=read_text(folder / texts[path.stem]) if path.stem in texts else None,
                speaker=folder.name if several else "",
            )


def read_librispeech(place: Place) -> Iterator[Record]:
    """``SPEAKER-CHAPTER.trans.txt`` with a line ``ID TEXT`` for each ``ID.flac`` beside it.

    The texts of LibriSpeech are in capitals; they become sentences in lower case with a first capital.
    """
    for folder, names in walk(place.folder):
        tables = [name for name in names if name.endswith(".trans.txt")]
        if not tables:
            continue
        lines = [line for name in tables for line in (read_text(folder / name) or "").splitlines() if line.strip()]
        texts = {name: text.strip() for name, _, text in (line.partition(" ") for line in lines)}
        stems = {Path(name).stem for name in names if _is_audio(name)}
        for name in sorted(stems | texts.keys()):
            text = texts.get(name)
            yield Record(
                id=name,
                audio=folder / f"{name}.flac",
                text=text.capitalize() if text and text.isupper() else text,
                speaker=name.split("-")[0],
                split=_split_in(place.folder, folder),
            )


def read_libritts(place: Place) -> Iterator[Record]:
    """``ID.normalized.txt`` (else ``ID.original.txt``) beside ``ID.wav``, in folders ``SPEAKER/CHAPTER``."""
    for folder, names in walk(place.folder):
        texts = {name.split(".")[0] for name in names if name.endswith((".normalized.txt", ".original.txt"))}
        files = {Path(name).stem: name for name in names if _is_audio(name)}
        for name in sorted(files.keys() | texts):
            text = read_text(folder / f"{name}.normalized.txt")
            yield Record(
                id=name,
                audio=folder / files.get(name, f"{name}.wav"),
                text=read_text(folder / f"{name}.original.txt") if text is None else text,
                speaker=folder.parent.name,
                split=_split_in(place.folder, folder),
            )


def has_pairs(folder: Path) -> bool:
    """Whether an audio file with a text beside it is anywhere below."""
    for _, names in walk(folder):
        texts = {Path(name).stem for name in names if name.lower().endswith(".txt")}
        if any(_is_audio(name) and Path(name).stem in texts for name in names):
            return True
    return False


def holds_audio(folder: Path) -> bool:
    """Whether an audio file is right in the folder."""
    return any(_is_audio(child.name) for child in folder.iterdir())


def has_file(folder: Path, *endings: str) -> bool:
    """Whether a file whose name ends so is anywhere below."""
    return any(name.endswith(endings) for _, names in walk(folder) for name in names)


def _is_audio(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _split_in(root: Path, folder: Path) -> str:
    parts = (root.name, *folder.relative_to(root).parts)
    return next((split for part in parts if (split := split_of(part))), "")
