"""Manifests: one JSON object a line, one utterance an object."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from io import StringIO
from pathlib import Path

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.files import write_text
from voicegraft.data.splits import SMALLEST, Splits, split_of

# Where a row of any table has what is said, best first.
TEXT = ("normalized_text", "text_normalized", "text", "sentence", "transcript", "transcription")


@dataclass(frozen=True)
class Utterance:
    """A recording and what is said in it.

    ``units`` and ``unit_ends_sec`` hold the time-aligned pronunciation where it is known (see ``data.pronunciation``).
    """

    id: str
    audio: str  # path relative to the manifest's folder; "" when the samples live in a shard
    text: str
    speaker: str
    split: str  # train | val | test
    duration_sec: float  # seconds
    units: tuple[str, ...] = ()
    unit_ends_sec: tuple[float, ...] = field(default=())  # seconds from the start, one per unit
    synthetic: bool = False  # no human spoke it


def read_manifest(folder: Path) -> list[Utterance]:
    """Reads ``folder/manifest.jsonl``: the fields of ``Utterance``; ``duration`` is accepted for ``duration_sec``.

    Where nothing says whether an utterance is synthetic, an id that begins with ``flite-`` does, as ids once did.
    """
    path = folder / "manifest.jsonl"
    if not path.is_file():
        raise VoicegraftError(
            f"expected a recordings folder with manifest.jsonl, found none in {folder}: "
            "write one JSON object a line with the fields audio, text, speaker, duration"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise VoicegraftError(f"cannot read {path}: {error}; expected a UTF-8 text file") from error
    rows = []
    for number, line in enumerate(StringIO(text), start=1):  # str.splitlines would split inside of JSON strings
        try:
            raw = json.loads(line)
            rows.append(
                Utterance(
                    id=(name := str(raw.get("id") or Path(raw["audio"]).stem)),
                    audio=inside(folder, str(raw.get("audio", ""))),
                    text=str(next(raw[key] for key in TEXT if raw.get(key) is not None)),
                    speaker=str(raw.get("speaker", folder.name)),
                    split=split_of(str(raw.get("split", ""))) or "train",
                    duration_sec=float(raw.get("duration_sec", raw.get("duration", 0.0))),
                    units=tuple(raw.get("units", ())),
                    unit_ends_sec=tuple(raw.get("unit_ends_sec", ())),
                    synthetic=bool(raw.get("synthetic", name.startswith("flite-"))),
                )
            )
        except (AttributeError, KeyError, StopIteration, TypeError, ValueError) as error:
            raise VoicegraftError(
                f"{path}:{number}: not a manifest line ({error!r}); expected a JSON object with audio, text, "
                "speaker, duration"
            ) from error
    if not rows:
        raise VoicegraftError(f"{path} is empty: expected at least one utterance")
    return rows


def write_manifest(folder: Path, utterances: Iterable[Utterance]) -> None:
    lines = (json.dumps(asdict(u), ensure_ascii=False) for u in utterances)
    write_text(folder / "manifest.jsonl", "\n".join(lines))


def read_corpus(folder: Path) -> list[Utterance]:
    """The manifest of a whole corpus; held back is what ``voicegraft prepare`` holds back with any ``--val-share`` but 0."""
    utterances, splits = read_manifest(folder), Splits(SMALLEST)
    for utterance in utterances:
        splits.see(utterance.text, utterance.split)
    return [replace(u, split=splits(u.text, u.split)) for u in utterances]


def inside(folder: Path, name: str, advice: str = "") -> str:
    """Refuses a path that leaves the folder: a manifest is a file from somewhere else."""
    if "\0" in name:
        raise ValueError(f"a zero in the name {name!r}")
    if name and not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise VoicegraftError(f"the manifest in {folder} names {name!r}, which lies outside that folder{advice}")
    return name
