"""Layouts where one file lists the recordings: LJSpeech, tables with a header, JSON lines, lhotse's cuts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

from voicegraft.audio.io import SUFFIXES
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.text_input import file_lines
from voicegraft.data.manifest import TEXT
from voicegraft.data.sources.delimited import QUOTED, BarForm, bar_rows, quoted_rows, texts_agree
from voicegraft.data.sources.record import Place, Record
from voicegraft.data.splits import split_of

# Names of columns, and of keys in JSON, that say the same; the first one that is there counts.
AUDIO = ("audio", "audio_filepath", "audio_file", "audio_path", "file", "file_name", "filename", "path", "wav")
SPEAKER = ("speaker", "speaker_id", "speaker_name", "client_id")
ID = ("id", "utterance_id", "utt_id", "segment_id")
START = ("offset", "start", "start_sec")
DURATION = ("duration", "duration_sec")
_FOLDERS = ("wavs", "wav", "clips", "audio")  # where the files of a table are looked for, besides its own


def pick(row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """The value of the first of these keys that the row has; None without any."""
    return next((row[name] for name in names if row.get(name) is not None), None)


def read_ljspeech(place: Place) -> Iterator[Record]:
    """``metadata.csv`` with lines ``name|text``, ``name|text|text in words`` or ``name|speaker|text`` beside ``wavs/``."""
    path, folders = _table(place), _audio_folders(place)
    form = BarForm.of(path)
    return _some_good(_bar_record(place, folders, form, number, cells, path) for number, cells in bar_rows(path))


def read_table(place: Place) -> Iterator[Record]:
    """A table with commas, semicolons, tabs or bars between its columns and a header that names an audio and a text column."""
    path, folders = _table(place), _audio_folders(place)
    header = table_header(path)
    if header is None:
        raise VoicegraftError(
            f"{path}: expected a first line that names an audio column ({', '.join(AUDIO)}) and a text column "
            f"({', '.join(TEXT)}), got {_first_line(path).strip()!r:.80}"
        )

    def records() -> Iterator[Record]:
        names: list[str] = []
        for number, cells in quoted_rows(path, header):
            origin = f"{path}:{number}"
            if isinstance(cells, str):
                yield _bad(origin, cells)
            elif not names:
                names = [cell.strip().lower() for cell in cells]
            elif any(cell.strip() for cell in cells[len(names) :]):
                advice = "; a text that holds one stands between quotes" if header in QUOTED else ""
                yield _bad(origin, f"expected {len(names)} columns, got {len(cells)}{advice}")
            elif any(cell.strip() for cell in cells):  # spreadsheets end in rows of nothing
                yield _record(place, folders, dict(zip(names, cells, strict=False)), origin)

    return _some_good(records())


def read_manifest_lines(place: Place) -> Iterator[Record]:
    """JSON lines: ours (audio, text, speaker, split) or NeMo's (audio_filepath, text, offset, duration)."""
    path, folders = _lines_file(place, "manifest.jsonl"), _audio_folders(place)
    return _some_good(
        _bad(origin, row) if isinstance(row, str) else _record(place, folders, row, origin)
        for origin, row in _json_lines(path)
    )


def read_cuts(place: Place) -> Iterator[Record]:
    """lhotse's cuts, also LibriHeavy's: one record for every supervision of a cut.

    Recordings must be files: a manifest may also say that a command is to be run, which nothing here does.
    """
    lines = _json_lines(_lines_file(place, "cuts"))
    return _some_good(record for origin, cut in lines for record in _cut_records(place, cut, origin))


def _cut_records(place: Place, cut: dict[str, Any] | str, origin: str) -> list[Record]:
    if isinstance(cut, str):
        return [_bad(origin, cut)]
    records = []
    try:
        recording = cut["recording"]
        kinds = {source["type"] for source in recording["sources"]}
        if kinds != {"file"} or len(recording["sources"]) != 1 or recording.get("transforms"):
            raise VoicegraftError(
                f"{origin}: expected a cut of one audio file as it is, got {', '.join(sorted(map(str, kinds)))} with "
                f"transforms {recording.get('transforms')}; store the audio as files first (lhotse: save_audios)"
            )
        spoken = cut["supervisions"]
        for supervision in spoken:
            texts = (supervision.get("custom") or {}).get("texts") or (None,)  # LibriHeavy: as printed, in capitals
            text = supervision.get("text")
            begin = max(0.0, float(supervision.get("start", 0.0)))
            length = min(float(supervision.get("duration", cut["duration"])), float(cut["duration"]) - begin)
            channel = cut.get("channel")
            start_sec, duration_sec = _stretch(float(cut["start"]) + begin, length)
            record = Record(
                id=str(cut["id"] if len(spoken) == 1 else supervision["id"]),
                audio=place.named(recording["sources"][0]["source"]),
                text=_said(texts[0] if text is None else text),
                speaker=str(supervision.get("speaker") or ""),
                split=split_of(str((cut.get("custom") or {}).get("split", ""))),
                start_sec=start_sec,
                duration_sec=duration_sec,
                channel=channel if isinstance(channel, int) and channel >= 0 else None,
            )
            records.append(record)
    except (AttributeError, IndexError, KeyError, OSError, OverflowError, TypeError, ValueError) as error:
        fault = f"not a cut of lhotse ({error!r}); expected a JSON object with recording and supervisions"
        return [_bad(origin, fault)]
    return records


def table_header(path: Path) -> str | None:
    """The delimiter of a table whose first line names an audio and a text column; None if it does not."""
    line = _first_line(path)
    for delimiter in ",;\t|":
        names = {name.strip().strip('"').lower() for name in line.split(delimiter)}
        if names & set(AUDIO) and names & set(TEXT):
            return delimiter
    return None


def has_bars(path: Path) -> bool:
    """Whether the first line has a bar between its columns."""
    return "|" in _first_line(path)


def holds_cuts(path: Path) -> bool:
    """Whether the first JSON object of a file of lines is a cut."""
    first = next((row for _, row in _json_lines(path) if not isinstance(row, str)), {})
    return "supervisions" in first


def why_no_table(folder: Path) -> str:
    """What a folder or file lacks to be a table, where it nearly is one; empty where there is no table at all."""
    tables = _named(folder, (".csv", ".tsv", ".txt")) if folder.is_dir() else [folder]
    tables = [path for path in tables if path.suffix.lower() != ".txt" or "|" in _first_line(path)]
    if len(tables) > 1:
        return (
            f"there are several tables ({', '.join(path.name for path in tables[:5])}): name the one that is to be read"
        )
    if not tables or tables[0].suffix.lower() not in (".csv", ".tsv", ".txt"):
        return ""
    if tables[0].suffix.lower() == ".txt":
        return f"{tables[0].name} looks like a table of name|text: call it metadata.csv"
    return f"{tables[0].name} begins with {_first_line(tables[0]).strip()!r:.80}, which names no audio and text column"


def find_table(path: Path) -> Path | None:
    """The file itself, or the metadata.csv, metadata.tsv or only table of the folder."""
    return _find(path, ("metadata.csv", "metadata.tsv"), (".csv", ".tsv"))


def find_lines(path: Path) -> Path | None:
    """The file itself, or the manifest.jsonl or only file of JSON lines of the folder."""
    return _find(path, ("manifest.jsonl",), (".jsonl", ".jsonl.gz", ".json"))


def _find(path: Path, names: tuple[str, ...], endings: tuple[str, ...]) -> Path | None:
    if path.is_file():
        return path if path.name.lower().endswith(endings) else None
    found = _named(path, endings[:2])
    best = [child for name in names for child in found if child.name.lower() == name]
    return best[0] if best else found[0] if len(found) == 1 else None


def _named(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    return [child for child in sorted(folder.iterdir()) if child.name.lower().endswith(endings) and child.is_file()]


def _table(place: Place) -> Path:
    path = find_table(place.path)
    if path is None:
        why = why_no_table(place.path)
        raise VoicegraftError(
            f"expected metadata.csv or one .csv or .tsv file in {place.path}; {why or 'name the file itself'}"
        )
    return path


def _lines_file(place: Place, what: str) -> Path:
    path = find_lines(place.path)
    if path is None:
        raise VoicegraftError(f"expected {what} as one .jsonl or .jsonl.gz file in {place.path}; name the file itself")
    return path


# Rows that cannot be read become records with a fault, which are rejected with their place; the others count.


def _bad(origin: str, why: str) -> Record:
    return Record(id=origin, audio=Path(), text=None, fault=f"{origin}: {why}")


def _some_good(records: Iterable[Record]) -> Iterator[Record]:
    """The same records.

    Raises:
        VoicegraftError: at their end, where none can be read: then it is no such table.
    """
    first, good = "", False
    for record in records:
        good |= not record.fault
        first = first or record.fault
        yield record
    if first and not good:
        raise VoicegraftError(first)


def _bar_record(
    place: Place, folders: Sequence[str], form: BarForm, number: int, cells: list[str], path: Path
) -> Record:
    origin, width = f"{path}:{number}", len(cells)
    name, *texts = (cell.strip() for cell in cells)
    if not texts:
        return _bad(origin, f"expected name|text or name|text|text in words, got {name!r:.80}")
    if width > form.num_columns or (form.speaker is not None and width < 3):
        return _bad(origin, f"expected {form.num_columns} columns as in most lines, got {width}: is a bar in the text?")
    text = texts[min(form.text, len(texts)) - 1]
    if width == 3 and form.speaker is None:
        # A bar between spaces is one of the text, where the other has none.
        spaced = [before.endswith(" ") and after.startswith(" ") for before, after in pairwise(cells)]
        if all(texts) and (spaced == [False, True] or (form.agrees and not texts_agree(*texts))):
            return _bad(origin, "the two texts do not say the same: is a bar in the text?")
        text = text or texts[0]
    try:
        speaker = "" if form.speaker is None else texts[form.speaker - 1]
        return Record(_stem(name), _audio_file(place, folders, name), text, speaker)
    except (OSError, ValueError) as error:
        return _bad(origin, f"no name of a file: {name!r:.80} ({error})")


def _record(place: Place, folders: Sequence[str], row: Mapping[str, Any], origin: str) -> Record:
    name, text, start = pick(row, AUDIO), pick(row, TEXT), pick(row, START)
    if not isinstance(name, str) or not name:
        return _bad(origin, f"expected the audio's file in one of {', '.join(AUDIO)}, got {name!r:.80}")
    try:
        start_sec, duration_sec = (0.0, None) if start is None or start == "" else _stretch(start, pick(row, DURATION))
        text = _said(text)
    except (OverflowError, TypeError, ValueError) as error:
        return _bad(origin, f"expected a text, and a start and a duration in seconds ({error})")
    try:
        path = _audio_file(place, folders, name)
        own = _stem(path.relative_to(place.root).as_posix() if path.is_relative_to(place.root) else name)
    except (OSError, ValueError) as error:
        return _bad(origin, f"no name of a file: {name!r:.80} ({error})")
    if start_sec:
        own += f"-{start_sec:.3f}"
    return Record(
        id=str(pick(row, ID) or own),
        audio=path,
        text=text,
        speaker=str(pick(row, SPEAKER) or ""),
        split=split_of(str(row.get("split") or "")),
        start_sec=start_sec,
        duration_sec=duration_sec,
    )


def _stretch(start: Any, duration: Any) -> tuple[float, float]:
    """Seconds; raises ValueError or TypeError where they are none."""
    start_sec, duration_sec = float(start), float(duration)
    if not (0 <= start_sec < float("inf") and 0 < duration_sec < float("inf")):
        raise ValueError(f"got {start_sec:g} and {duration_sec:g}")
    return start_sec, duration_sec


def _said(text: Any) -> str | None:
    """Raises ValueError where it is no text."""
    if text is None or isinstance(text, str) or type(text) is int:
        return None if text is None else str(text)
    raise ValueError(f"got {text!r:.80}")


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix("")) if name.lower().endswith(SUFFIXES) else name


def _audio_folders(place: Place) -> list[str]:
    """Where the files of a table are looked for: beside it, and in the usual folders, however they are spelt."""
    found = [child.name for child in sorted(place.root.iterdir()) if child.name.lower() in _FOLDERS and child.is_dir()]
    return ["", *found]


def _audio_file(place: Place, folders: Sequence[str], name: str) -> Path:
    """The file of that name, with or without its suffix, in one of the folders; the first guess if there is none."""
    endings = ("",) if name.lower().endswith(SUFFIXES) else (*SUFFIXES, *map(str.upper, SUFFIXES))
    names = [name, name.replace("\\", "/")] if "\\" in name else [name]
    guesses = [str(PurePosixPath(f, n)) + e for n in names for f in folders for e in endings]
    parts = PurePosixPath(names[-1]).parts  # a folder that the table spells otherwise
    guesses += [str(PurePosixPath(f, *parts[1:])) for f in folders if len(parts) > 1 and f.lower() == parts[0].lower()]
    return place.named(next((guess for guess in guesses if (place.root / guess).is_file()), guesses[0]))


def _json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """The place of each line and its object, or what is wrong with it."""
    for number, line in enumerate(file_lines(path, replaces=True), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            found = row if isinstance(row, dict) else f"expected a JSON object, got {type(row).__name__}"
        except (ValueError, RecursionError) as error:
            found = f"not JSON ({error}); expected one object a line"
        yield f"{path}:{number}", found


def _first_line(path: Path) -> str:
    return next(file_lines(path, replaces=True), "")
