"""Audio that any system made, and what it was to say: how other systems come under the same judges."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from voicegraft.audio.io import SUFFIXES, read_audio
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.manifest import read_manifest
from voicegraft.evaluation.metrics.rates import normalize_transcript
from voicegraft.evaluation.speech.items import Clip, Item
from voicegraft.evaluation.speech.test_sets import Prompt
from voicegraft.text.english.normalize import Normalizer


@dataclass(frozen=True)
class SpokenFile:
    """One file of a folder and what it was to say."""

    prompt: Prompt
    path: Path | None  # None: there is no such file, which counts as a clip with every word wrong
    spoken_text: str  # the text with digits written as words


def read_folder(folder: Path, prompts: Sequence[Prompt] = ()) -> list[SpokenFile]:
    """Files of a folder with their texts.

    With prompts (a file of prompts, or a test set) each prompt's audio is the file, at any depth, that is called by its id.
    Without them the texts come from the folder: manifest.jsonl, else metadata.csv as in LJSpeech (id|text or
    id|text|text in words), else NAME.txt beside each NAME.wav.
    Raises VoicegraftError if there is no audio, a text is missing or has no word, or two files have one name.
    """
    if not folder.is_dir():
        raise VoicegraftError(f"expected a folder with audio, {folder} is none")
    rows: list[tuple[str, str, str, Path | None]]
    if not prompts and (folder / "manifest.jsonl").is_file():
        rows = [(row.id, row.text, row.text, folder / row.audio) for row in read_manifest(folder)]
    else:
        files = _audio_files(folder)
        if prompts:
            rows = [(p.id, p.text, p.text, files.get(p.id)) for p in prompts]
            if not any(path for *_, path in rows):
                raise VoicegraftError(
                    f"{folder} has no file that is named for a prompt, such as {prompts[0].id}.wav; it has "
                    f"{next(iter(files.values())).name}"
                )
        elif (folder / "metadata.csv").is_file():
            rows = list(_read_metadata(folder / "metadata.csv", files))
        else:
            rows = [(name, text := _read_text(path), text, path) for name, path in files.items()]
    voices = {prompt.id: prompt.voice for prompt in prompts}
    found = []
    normalizer = Normalizer()
    for name, text, in_words, path in rows:
        if not normalize_transcript(text):
            raise VoicegraftError(f"{folder}: the text of {name} is {text!r}, in which there is no word")
        if any(char.isdigit() for char in in_words):
            in_words = normalizer.normalize(in_words)
        found.append(SpokenFile(Prompt(name, text, voices.get(name)), path, in_words))
    return found


def items_of(stage: str, voice: str, folder: Path, files: Sequence[SpokenFile], sample_rate: int) -> Iterator[Item]:
    """Items to judge: the files as they are, at a common rate."""
    for file in files:
        produce = partial(_read, folder, file, sample_rate)
        yield Item(stage, voice, file.prompt.id, file.prompt.text, produce, file.prompt.voice)


def digest(files: Sequence[SpokenFile]) -> str:
    """16 hex digits over names, texts and bytes."""
    found = hashlib.sha256()
    for file in files:
        found.update(f"{file.prompt.id}|{file.prompt.text}|".encode())
        found.update(file.path.read_bytes() if file.path and file.path.is_file() else b"")
    return found.hexdigest()[:16]


def _read(folder: Path, file: SpokenFile, sample_rate: int) -> Clip:
    if file.path is None:
        raise VoicegraftError(f"no audio called {file.prompt.id} in {folder.name}")
    return Clip(read_audio(file.path, sample_rate).samples, sample_rate, spoken_text=file.spoken_text)


def _audio_files(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES):
        if path.stem in files:
            raise VoicegraftError(f"{folder} has two files called {path.stem}: {files[path.stem]} and {path}")
        files[path.stem] = path
    if not files:
        raise VoicegraftError(f"expected audio ({', '.join(SUFFIXES)}) in {folder}, found none")
    return files


def _read_metadata(path: Path, files: dict[str, Path]) -> Iterator[tuple[str, str, str, Path]]:
    texts = {}
    for number, line in enumerate(_read_file(path).splitlines(), start=1):
        name, *columns = line.split("|")
        if not columns:
            raise VoicegraftError(f"{path}:{number}: expected id|text or id|text|text in words, got {line!r}")
        texts[Path(name).stem if Path(name).suffix.lower() in SUFFIXES else name] = (columns[0], columns[-1])
    for name, audio in files.items():
        if name not in texts:
            raise VoicegraftError(f"{path} has no line for {audio.name}; expected {name}|its text")
        yield (name, *texts[name], audio)


def _read_text(audio: Path) -> str:
    path = audio.with_suffix(".txt")
    if not path.is_file():
        raise VoicegraftError(
            f"there is no text for {audio}: expected {path.name} beside it, or metadata.csv or manifest.jsonl in the "
            "folder, or --prompts FILE with files called 0001.wav for its first line and so on"
        )
    return " ".join(_read_file(path).split())


def _read_file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise VoicegraftError(f"cannot read {path}: {error}; expected a UTF-8 text file") from error
