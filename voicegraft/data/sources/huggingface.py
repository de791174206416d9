"""Data sets of Hugging Face with an audio column: a saved folder, parquet files, or a name on the Hub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from voicegraft.core.errors import VoicegraftError
from voicegraft.data.manifest import TEXT
from voicegraft.data.sources.record import Place, Record, walk
from voicegraft.data.sources.tables import AUDIO, ID, SPEAKER, pick
from voicegraft.data.splits import split_of

HUB = "hf:"  # hf:NAME, hf:OWNER/NAME, hf:OWNER/NAME/CONFIG, each with :SPLIT behind it or not


def is_saved(path: Path) -> bool:
    """Whether ``save_to_disk`` wrote the folder."""
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def parquet_files(path: Path) -> Iterator[Path]:
    """The file itself, or all below the folder."""
    if path.is_file():
        yield from [path] if path.suffix == ".parquet" else []
    for folder, names in walk(path):  # of a file: none
        yield from (folder / name for name in names if name.endswith(".parquet"))


def read_huggingface(place: Place) -> Iterator[Record]:
    """Records of a folder that ``save_to_disk`` wrote, or of parquet files named for their splits."""
    datasets = _datasets()
    if is_saved(place.path):
        with _told(place.path):
            found = datasets.load_from_disk(str(place.path))
    else:
        files: dict[str, list[str]] = {}
        for path in parquet_files(place.path):
            files.setdefault(split_of(path.name) or "train", []).append(str(path))
        if not files:
            raise VoicegraftError(f"expected a folder of save_to_disk or .parquet files in {place.path}")
        with _told(place.path):
            found = datasets.load_dataset("parquet", data_files=files)
    yield from _records(found, place)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the library raises whatever its parts raise
        raise VoicegraftError(f"cannot read {path}: {' '.join(str(error).split())}; get it anew") from error


def read_hub(name: str) -> Iterator[Record]:
    """Records of a data set on the Hub, which is downloaded to Hugging Face's cache."""
    datasets = _datasets()
    where, _, split = name.removeprefix(HUB).partition(":")
    repository, config = "/".join(where.split("/")[:2]), "/".join(where.split("/")[2:])
    try:
        found = datasets.load_dataset(repository, config or None, split=split or None)
    except Exception as error:  # the library raises whatever its parts raise
        reason = " ".join(str(error).split())
        raise VoicegraftError(f"cannot load {name}: {reason}; expected hf:OWNER/NAME[/CONFIG][:SPLIT]") from error
    yield from _records(found if isinstance(found, Mapping) else {split: found}, None)


def _datasets() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise VoicegraftError(
            "reading data sets of Hugging Face needs a package: pip install voicegraft[datasets]"
        ) from error
    return datasets


def _records(found: Any, place: Place | None) -> Iterator[Record]:
    parts = found if isinstance(found, Mapping) else {"": found}
    for split, part in parts.items():
        column = _audio_column(part.features)
        part = part.cast_column(column, _datasets().Audio(decode=False))  # bytes as they are: soundfile decodes
        audio = part.select_columns([column])
        for number, row in enumerate(part.remove_columns([column])):
            text = pick(row, TEXT)
            yield Record(
                id=str(pick(row, ID) or f"{split or 'row'}-{number:08d}"),
                audio=partial(_fetch, audio, number, column, place),
                text=None if text is None else str(text),
                speaker=str(pick(row, SPEAKER) or ""),
                split=split_of(str(split)) or split_of(str(row.get("split") or "")),
            )


def _audio_column(features: Mapping[str, Any]) -> str:
    typed = [name for name, feature in features.items() if type(feature).__name__ == "Audio"]
    named = [name for name in AUDIO if name in features]
    if not typed and not named:
        raise VoicegraftError(f"expected a data set with an audio column, this one has {', '.join(features)}")
    return (typed or named)[0]


def _fetch(audio: Any, number: int, column: str, place: Place | None) -> bytes:
    """The bytes of one row; a row may also name a file, which must lie where the corpus lies."""
    value = audio[number][column]
    if value["bytes"] is not None:
        return bytes(value["bytes"])
    if place is None:
        raise VoicegraftError(f"row {number} holds no audio but the name {value['path']!r}")
    return place.named(str(value["path"])).read_bytes()
