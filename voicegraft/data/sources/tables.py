"""Layouts where one file lists the recordings: LJSpeech, tables with a header, JSON lines, lhotse's cuts."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any

from voicegraft.audio.io import SUFFIXES
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.manifest import TEXT
from voicegraft.data.sources.record import Place, Record
from voicegraft.data.splits import split_of

# Names of columns, and of keys in JSON, that say the same; the first one that is there counts.
AUDIO = ("audio", "audio_filepath", "audio_file", "audio_path", "file", "file_name", "filename", "path", "wav")
SPEAKER = ("speaker", "speaker_id", "speaker_name", "client_id")
ID = ("id", "utterance_id", "utt_id", "segment_id")
START = ("offset", "start", "start_sec")
DURATION = ("duration", "duration_sec")
_FOLDERS = ("", "wavs", "wav", "clips", "audio")  # where the files of a table are looked for


def pick(row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """The value of the first of these keys that the row has; None without any."""
    return next((row[name] for name in names if row.get(name) is not None), None)


def read_ljspeech(place: Place) -> Iterator[Record]:
    """``metadata.csv`` with lines ``name|text`` or ``name|text|text in words`` beside ``wavs/``."""
    path = _table(place)
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            name, *texts = (column.strip() for column in line.rstrip("\n").split("|"))
            if not name and not texts:
                continue
            if not texts:
                raise VoicegraftError(f"{path}:{number}: expected name|text or name|text|text in words, got {line!r}")
            text = next((text for text in reversed(texts) if text), "")
            yield Record(_stem(name), _audio_file(place, name), text)


def read_table(place: Place) -> Iterator[Record]:
    """A table with commas, tabs or bars between its columns and a header that names an audio and a text column."""
    path = _table(place)
    header = table_header(path)
    if header is None:
        raise VoicegraftError(
            f"{path}: expected a first line that names an audio column ({', '.join(AUDIO)}) and a text column "
            f"({', '.join(TEXT)})"
        )
    with _open(path) as file:
        # Quotes are quotes between commas; between tabs and bars they belong to the text.
        rows = csv.DictReader(file, delimiter=header, quoting=csv.QUOTE_MINIMAL if header == "," else csv.QUOTE_NONE)
        for row in rows:
            values = {(key or "").strip().lower(): value for key, value in row.items() if isinstance(value, str)}
            yield _record(place, values, f"{path}:{rows.line_num}")


def read_manifest_lines(place: Place) -> Iterator[Record]:
    """JSON lines: ours (audio, text, speaker, split) or NeMo's (audio_filepath, text, offset, duration)."""
    path = _lines_file(place, "manifest.jsonl")
    for origin, row in _json_lines(path):
        yield _record(place, row, origin)


def read_cuts(place: Place) -> Iterator[Record]:
    """lhotse's cuts, also LibriHeavy's: one record for every supervision of a cut.

    Recordings must be files: a manifest may also say that a command is to be run, which nothing here does.
    """
    for origin, cut in _json_lines(_lines_file(place, "cuts")):
        try:
            recording = cut["recording"]
            kinds = {source["type"] for source in recording["sources"]}
            if kinds != {"file"} or len(recording["sources"]) != 1 or recording.get("transforms"):
                raise VoicegraftError(
                    f"{origin}: expected a cut of one audio file as it is, got {', '.join(sorted(kinds))} with "
                    f"transforms {recording.get('transforms')}; store the audio as files first (lhotse: save_audios)"
                )
            spoken = cut["supervisions"]
            for supervision in spoken:
                texts = (supervision.get("custom") or {}).get("texts") or (None,)  # LibriHeavy: as printed, in capitals
                text = supervision.get("text")
                begin = max(0.0, float(supervision.get("start", 0.0)))
                length = min(float(supervision.get("duration", cut["duration"])), float(cut["duration"]) - begin)
                channel = cut.get("channel")
                yield Record(
                    id=str(cut["id"] if len(spoken) == 1 else supervision["id"]),
                    audio=place.named(recording["sources"][0]["source"]),
                    text=texts[0] if text is None else text,
                    speaker=str(supervision.get("speaker") or ""),
                    split=split_of(str((cut.get("custom") or {}).get("split", ""))),
                    start_sec=float(cut["start"]) + begin,
                    duration_sec=length,
                    channel=channel if isinstance(channel, int) else None,
                )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise VoicegraftError(
                f"{origin}: not a cut of lhotse ({error!r}); expected a JSON object with recording and supervisions"
            ) from error


def table_header(path: Path) -> str | None:
    """The delimiter of a table whose first line names an audio and a text column; None if it does not."""
    with _open(path) as file:
        line = file.readline(100_000)
    for delimiter in ",\t|":
        names = {name.strip().strip('"').lower() for name in line.split(delimiter)}
        if names & set(AUDIO) and names & set(TEXT):
            return delimiter
    return None


def has_bars(path: Path) -> bool:
    """Whether the first line has a bar between its columns."""
    with _open(path) as file:
        return "|" in file.readline(100_000)


def holds_cuts(path: Path) -> bool:
    """Whether the first line of a file of JSON lines is a cut."""
    first = next((row for _, row in _json_lines(path)), {})
    return "supervisions" in first


def find_table(path: Path) -> Path | None:
    """The file itself, or the metadata.csv, metadata.tsv or only table of the folder."""
    return _find(path, ("metadata.csv", "metadata.tsv"), (".csv", ".tsv"))


def find_lines(path: Path) -> Path | None:
    """The file itself, or the manifest.jsonl or only file of JSON lines of the folder."""
    return _find(path, ("manifest.jsonl",), (".jsonl", ".jsonl.gz", ".json"))


def _find(path: Path, names: tuple[str, ...], endings: tuple[str, ...]) -> Path | None:
    if path.is_file():
        return path if path.name.endswith(endings) else None
    for name in names:
        if (path / name).is_file():
            return path / name
    found = [child for child in sorted(path.iterdir()) if child.name.endswith(endings[:2]) and child.is_file()]
    return found[0] if len(found) == 1 else None


def _table(place: Place) -> Path:
    path = find_table(place.path)
    if path is None:
        raise VoicegraftError(f"expected metadata.csv or one .csv or .tsv file in {place.path}; name the file itself")
    return path


def _lines_file(place: Place, what: str) -> Path:
    path = find_lines(place.path)
    if path is None:
        raise VoicegraftError(f"expected {what} as one .jsonl or .jsonl.gz file in {place.path}; name the file itself")
    return path


def _record(place: Place, row: Mapping[str, Any], origin: str) -> Record:
    name, text, start = pick(row, AUDIO), pick(row, TEXT), pick(row, START)
    if not isinstance(name, str) or not name:
        raise VoicegraftError(f"{origin}: expected the audio's file in one of {', '.join(AUDIO)}, got {name!r}")
    try:
        start_sec = None if start is None or start == "" else float(start)
        duration_sec = None if start_sec is None else float(pick(row, DURATION))
    except (TypeError, ValueError) as error:
        raise VoicegraftError(f"{origin}: expected a start and a duration in seconds ({error})") from error
    path = _audio_file(place, name)
    own = _stem(path.relative_to(place.root).as_posix() if path.is_relative_to(place.root) else name)
    if start_sec:
        own += f"-{start_sec:.3f}"
    return Record(
        id=str(pick(row, ID) or own),
        audio=path,
        text=None if text is None else str(text),
        speaker=str(pick(row, SPEAKER) or ""),
        split=split_of(str(row.get("split") or "")),
        start_sec=start_sec or 0.0,
        duration_sec=duration_sec,
    )


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix("")) if name.lower().endswith(SUFFIXES) else name


def _audio_file(place: Place, name: str) -> Path:
    """The file of that name, with or without its suffix, in one of the usual folders; the first guess if there is none."""
    endings = ("",) if name.lower().endswith(SUFFIXES) else SUFFIXES
    guesses = [str(PurePosixPath(folder, name)) + ending for folder in _FOLDERS for ending in endings]
    return place.named(next((guess for guess in guesses if (place.root / guess).is_file()), guesses[0]))


def _json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise VoicegraftError(f"{path}:{number}: not JSON ({error}); expected one object a line") from error
            if not isinstance(row, dict):
                raise VoicegraftError(f"{path}:{number}: expected a JSON object, got {type(row).__name__}")
            yield f"{path}:{number}", row


def _open(path: Path) -> IO[str]:
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        return opened(path, "rt", encoding="utf-8-sig", errors="replace", newline=None)
    except OSError as error:
        raise VoicegraftError(f"cannot read {path}: {error.strerror}") from error
