"""What is told of synthetic speech: the plan before it is made, and the card in its folder."""

from __future__ import annotations

import json
import math
import shlex
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from voicegraft import __version__
from voicegraft.core.config import to_dict
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.files import write_text
from voicegraft.recipes.synthesis_clips import REASONS, ClipMaker, Row
from voicegraft.text.spoken_form import num_letters

_PROBES = 3  # clips that are said to know how long the others take


def hours_of(rows: Sequence[Row]) -> float:
    """Hours of speech that is kept."""
    return sum(row.get("duration", 0.0) for row in rows) / 3600


def counts_of(rejected: Sequence[Row]) -> list[str]:
    """``reason: number``, the most frequent first."""
    return [f"{reason}: {count}" for reason, count in Counter(row["reason"] for row in rejected).most_common()]


def in_short(kept: Sequence[Row], rejected: Sequence[Row]) -> str:
    voices = len({row["speaker"] for row in kept})
    left_out = f"; rejected {len(rejected)} ({', '.join(counts_of(rejected))})" if rejected else ""
    hours = hours_of(kept)
    length = f"{hours:.2f} hours" if hours >= 0.1 else f"{hours * 3600:.0f} s"
    return f"{len(kept)} clips, {length}, {voices} voices{left_out}"


def show_plan(maker: ClipMaker, hours: float, workers: int) -> None:
    """Makes a few clips in a folder that is thrown away, and says what all of them would take.

    Raises:
        VoicegraftError: none of them could be kept.
    """
    with tempfile.TemporaryDirectory() as folder:
        probe = replace(maker, out=Path(folder))
        (probe.out / "audio").mkdir()
        rows = [probe.make(probe.draw(0))]  # loads what is needed
        started = time.perf_counter()
        rows += [probe.make(probe.draw(number)) for number in range(1, min(1 + _PROBES, probe.num_clips))]
        took_sec = (time.perf_counter() - started) / max(1, len(rows) - 1)
        kept = [row for row in rows if "audio" in row]
        num_bytes = sum((probe.out / row["audio"]).stat().st_size for row in kept)
    if not kept:
        raise VoicegraftError(f"none of the first {len(rows)} clips could be kept ({', '.join(counts_of(rows))})")
    letter_sec = hours_of(kept) * 3600 / sum(num_letters(row["normalized_text"]) for row in kept)
    # What is said of a text is about as long as what is written of it.
    clip_sec = letter_sec * sum(map(num_letters, maker.texts)) / len(maker.texts) * len(kept) / len(rows)
    num_clips = min(math.ceil(hours * 3600 / clip_sec), maker.num_clips)
    megabytes = num_clips * clip_sec * num_bytes / hours_of(kept) / 3600 / 1e6
    there = next(path for path in (maker.out, *maker.out.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(there).free / 1e6
    print(f"Plan for {maker.out}, by {len(rows)} clips that were made to try; all numbers are estimates.")
    print(
        f"texts    {len(maker.texts)}, of which {math.ceil(num_clips / maker.num_clips * len(maker.texts))} are needed"
    )
    print(f"voices   {len(maker.voices)}, of which {len(maker.mixtures)} mixed")
    print(f"clips    {num_clips}")
    print(f"hours    {num_clips * clip_sec / 3600:.2f} of {hours:g}")
    print(
        f"work     {num_clips * took_sec / 3600:.2f} hours of one core, {took_sec / clip_sec:.2f} s per second of speech; "
        f"by {workers} workers on as many free cores {num_clips * took_sec / 3600 / workers:.2f} hours"
    )
    print(f"disk     {megabytes:.0f} MB; {free:.0f} MB are free")
    if megabytes > free:
        print("warning: there may not be enough room on the disk")


def write_card(
    out: Path, command: str, teacher: str, licence: str, kept: Sequence[Row], rejected: Sequence[Row]
) -> None:
    """README.md of the folder."""
    speakers = Counter(row["speaker"] for row in kept)
    mixed = {row["speaker"] for row in kept if "mixture" in row}
    lines = [
        f"# {out.resolve().name}: synthetic speech",
        "",
        f"No human spoke this. {in_short(kept, rejected)}.",
        "",
        f"- Teacher: {teacher}",
        f"- Licence of the teacher: {licence}",
        "- Licence of the texts: that of where they come from",
        f"- Made by voicegraft {__version__}: `{command}`",
        *(
            [f"- {len(mixed)} of the {len(speakers)} voices are mixtures of the teacher's; see mixtures.json"]
            if mixed
            else []
        ),
        "",
        "| file | what |",
        "|---|---|",
        "| manifest.jsonl | a clip a line: audio, text (as written), normalized_text (as said), speaker, and how it was made |",
        "| rejected.jsonl | what was not kept, with its text and the reason |",
        "| audio/ | FLAC, 24 kHz, 16 bit, one channel |",
        "",
        "| voice | clips |",
        "|---|---|",
        *(f"| {voice} | {count} |" for voice, count in sorted(speakers.items())),
    ]
    counts = Counter(row["reason"] for row in rejected)
    if counts:
        lines += ["", "| rejected because | clips |", "|---|---|"]
        lines += [f"| {REASONS[reason]} ({reason}) | {count} |" for reason, count in counts.most_common()]
    write_text(out / "README.md", "\n".join(lines))


def command_of(config: Any, verb: str) -> str:
    """The command line that means a config: what differs from its defaults."""
    return " ".join([verb, *map(shlex.quote, _given(config))])


def _given(config: Any, prefix: str = "") -> Iterator[str]:
    for field in fields(config):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        value = getattr(config, field.name)
        if value == default:
            continue
        if is_dataclass(value):
            yield from _given(value, f"{prefix}{field.name}.")
        else:
            plain = to_dict(value)
            yield f"{prefix}{field.name}={plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)}"
