"""Damages what users give, and looks whether it is read or refused in one line: no traceback, no hang, nothing made up.

    python -m tools.fuzz --count 2000 --seed 0 --kinds texts recordings tables adapters packs

Every case has a random generator of its own, so that a failure is found again by its kind, seed and number. Exit status 1 where
there is one.
"""

from __future__ import annotations

import copy
import io
import json
import logging
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from tests import tiny
from voicegraft.audio.io import read_audio
from voicegraft.core.command_line import read_options
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.text_input import decode
from voicegraft.data.checks import Limits, examine
from voicegraft.data.sources.detect import open_source
from voicegraft.data.sources.record import Record
from voicegraft.fusion.experts import Belongs, Expert
from voicegraft.inference.pack import open_pack
from voicegraft.inference.speaker import Speaker

LIMIT_SEC = 60  # of one case
RATE = 24_000  # Hz
TEXTS = ("Now the owl sees.", "We go home, now.", 'She said "Grüße" twice.', "It’s 5 € — or 6?", "Short.")
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2.5, 1e308, float("nan"), 10**30, -(2**63), "", "x", "x" * 5000, "../../x", "\ud800", [], [[]], {},
)  # fmt: skip


@dataclass(frozen=True)
class FuzzConfig:
    count: int = 100  # cases of each kind
    seed: int = 0
    kinds: tuple[str, ...] = ()  # texts, recordings, tables, adapters, packs (default: all)


@dataclass
class Outcome:
    read: int = 0
    refused: int = 0
    slowest_sec: float = 0.0
    failures: list[str] = field(default_factory=list)


def damaged(data: bytes, draw: random.Random) -> bytes:
    """Bytes with one to four faults of storage or transport."""
    for _ in range(draw.randint(1, 4)):
        begin = draw.randrange(len(data) + 1) if draw.random() < 0.6 else draw.randrange(min(len(data), 64) + 1)
        end = min(len(data), begin + draw.choice((1, 2, 4, 16, 300)))
        put = draw.choice(
            (b"", b"\0" * (end - begin), b"\xff" * (end - begin), draw.randbytes(end - begin), 2 * data[begin:end])
        )
        data = data[:begin] if draw.random() < 0.2 else data[:begin] + put + data[end:]
    return data


def damaged_json(text: str, draw: random.Random) -> str:
    """A JSON text with one to three other values, or one key less."""
    document = json.loads(text)
    for _ in range(draw.randint(1, 3)):
        places = list(_places(document))
        if not places:
            break
        holder, key = draw.choice(places)
        if isinstance(holder, dict) and draw.random() < 0.2:
            del holder[key]
        else:
            holder[key] = copy.deepcopy(draw.choice(ODD))
    return json.dumps(document)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from _places(value[key])


def texts(folder: Path) -> Callable[[random.Random], object]:
    """Text in some encoding."""

    def case(draw: random.Random) -> object:
        data = "\n".join(draw.choices(TEXTS, k=9)).encode(draw.choice(("utf-8", "cp1252", "utf-16", "utf-8-sig")))
        text = decode(damaged(data, draw), "a text")
        assert "\0" not in text
        return text

    return case


def recordings(folder: Path) -> Callable[[random.Random], object]:
    """Audio files, as they are examined for training and read for scores."""
    time_sec = np.arange(RATE) / RATE
    tone = (0.2 * np.sin(900 * time_sec) * (1 + np.sin(30 * time_sec))).astype(np.float32)
    files = []
    for kind, subtype, channels in (
        ("WAV", "PCM_16", 1),
        ("WAV", "FLOAT", 2),
        ("FLAC", "PCM_16", 1),
        ("OGG", "OPUS", 1),
    ):
        file = io.BytesIO()
        soundfile.write(file, np.stack([tone] * channels, 1), RATE, format=kind, subtype=subtype)
        files.append((kind.lower(), file.getvalue()))

    def case(draw: random.Random) -> object:
        suffix, data = draw.choice(files[:1] + files)
        path = folder / f"case.{suffix}"
        path.write_bytes(damaged(data, draw))
        record = Record("case", path, "Now the owl sees.")
        if draw.random() < 0.3:
            record = replace(record, start_sec=0.25, duration_sec=0.7)
        audio = path if draw.random() < 0.5 else path.read_bytes()
        found = examine(record, audio, False, RATE, Limits(min_letters_per_sec=0.1))
        json.dumps(found.facts)
        assert (found.samples is None) == ("reason" in found.facts)
        if found.samples is not None:
            assert len(found.samples) / RATE <= 30.1 and found.samples.any()
        elif found.facts["reason"] in ("unreadable", "cut_short"):
            raise VoicegraftError(found.facts["reason"])
        if found.facts["read_sec"] < 30:
            assert np.isfinite(read_audio(path, RATE).samples).all()
        return found

    return case


def tables(folder: Path) -> Callable[[random.Random], object]:
    """Tables of recordings, and texts beside them."""
    names = [f"c{number}" for number in range(len(TEXTS))]
    quoted = [(name, '"' + text.replace('"', '""') + '"') for name, text in zip(names, TEXTS, strict=True)]
    written = {
        "a.csv": "file,text\n" + "\n".join(f"{name}.wav,{text}" for name, text in quoted),
        "b.csv": "file;speaker;text\n" + "\n".join(f"{name}.wav;ann;{text}" for name, text in quoted),
        "c.tsv": "path\tsentence\n" + "\n".join(f"{name}.wav\t{text}" for name, text in zip(names, TEXTS, strict=True)),
        "metadata.csv": "\n".join(f"{name}|{text}" for name, text in zip(names, TEXTS, strict=True)),
        "triple.csv": "\n".join(f"{name}|ann|{text}" for name, text in zip(names, TEXTS, strict=True)),
        "m.jsonl": "\n".join(
            json.dumps({"audio": f"{name}.wav", "text": text, "offset": 0.0, "duration": 1.0}, ensure_ascii=False)
            for name, text in zip(names, TEXTS, strict=True)
        ),
        "cuts.jsonl": "\n".join(
            json.dumps({
                "id": name, "start": 0.0, "duration": 1.0, "channel": 0, "supervisions": [{"id": name, "text": text}],
                "recording": {"id": name, "sources": [{"type": "file", "channels": [0], "source": f"{name}.wav"}]},
            }, ensure_ascii=False)
            for name, text in zip(names, TEXTS, strict=True)
        ),
    }  # fmt: skip

    def case(draw: random.Random) -> object:
        place = folder / "corpus"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        for name in names:
            (place / f"{name}.wav").touch()
        if draw.random() < 0.2:
            data = damaged(draw.choice(TEXTS).encode(draw.choice(("utf-8", "cp1252"))), draw)
            (place / "c0.TXT").write_bytes(data)
            location = place
        else:
            kind = draw.choice([*written])
            text = written[kind]
            if kind.endswith("jsonl") and draw.random() < 0.5:
                lines = text.splitlines()
                text = "\n".join([*lines[:2], damaged_json(lines[2], draw), *lines[3:]])
                data = text.encode()
            else:
                data = damaged(text.encode(draw.choice(("utf-8", "utf-8", "utf-16", "cp1252"))), draw)
            location = place / kind
            location.write_bytes(data)
        records = list(open_source(str(location)).records())
        seen = _letters(_decoded(data))
        for record in records:
            json.dumps([record.id, record.text, record.fault])
            if record.fault:
                continue
            assert isinstance(record.audio, Path) and record.audio.resolve().is_relative_to(place.resolve())
            assert record.text == "\ufffd" or _letters(record.text or "") in seen, record
        return records

    return case


def _decoded(data: bytes) -> str:
    """The text of a damaged file, with what stands for JSON's escapes, too."""
    try:
        text = decode(data, "x")
    except VoicegraftError:
        text = data.decode("utf-8", "replace")
    return text + re.sub(r"\\u([0-9a-f]{4})", lambda found: chr(int(found[1], 16)), text)


def _letters(text: str) -> str:
    return "".join(char for char in text if char.isalnum())


def adapters(folder: Path) -> Callable[[random.Random], object]:
    """PEFT adapters that write."""
    pack = _tiny_pack(folder)
    lm = open_pack(pack).lm
    belongs = Belongs.to(lm.backbone, lm.tokenizer)

    def case(draw: random.Random) -> object:
        adapter = folder / "adapter"
        _damaged_copy(pack / "expert" / "speech", adapter, draw)
        Expert.load(adapter, belongs)  # refuses most of them before a backbone is loaded
        return open_pack(pack, text_expert=adapter)

    return case


def packs(folder: Path) -> Callable[[random.Random], object]:
    """Whole packs, which speak if they load."""
    pack = _tiny_pack(folder)

    def case(draw: random.Random) -> object:
        damaged_pack = folder / "copy"
        _damaged_copy(pack, damaged_pack, draw)
        speech = Speaker.load(damaged_pack).say("We see.")
        assert np.isfinite(speech.samples).all() and speech.duration_sec < 30
        return speech

    return case


def _tiny_pack(folder: Path) -> Path:
    if not (folder / "pack").is_dir():
        tiny.write_tiny_pack(folder / "pack", folder / "work")
    return folder / "pack"


def _damaged_copy(source: Path, target: Path, draw: random.Random) -> None:
    """A copy of a folder, one of whose files is damaged or missing."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, copy_function=os.link)
    path = draw.choice(sorted(path for path in target.rglob("*") if path.is_file() and path.suffix != ".md"))
    data = path.read_bytes()
    path.unlink()  # the link: what it names stays as it is
    if draw.random() < 0.05:
        return
    if path.suffix == ".json" and draw.random() < 0.7:
        path.write_text(damaged_json(data.decode(), draw))
    else:
        path.write_bytes(damaged(data, draw))


KINDS: dict[str, Callable[[Path], Callable[[random.Random], object]]] = {
    "texts": texts,
    "recordings": recordings,
    "tables": tables,
    "adapters": adapters,
    "packs": packs,
}


@contextmanager
def _limited() -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError(f"more than {LIMIT_SEC} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT_SEC)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def fuzz(kind: str, count: int, seed: int) -> Outcome:
    """Tries so many cases of a kind."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries, about what they are given
        case = KINDS[kind](Path(folder))
        for number in range(count):
            began = time.monotonic()
            try:
                with _limited():
                    case(random.Random(f"{kind} {seed} {number}"))
                outcome.read += 1
            except VoicegraftError as error:
                outcome.refused += "\n" not in str(error)
                if "\n" in str(error):
                    outcome.failures.append(f"{kind} {seed} {number}: several lines: {error!s:.300}")
            except Exception as error:  # what the fuzzer is for
                where = traceback.extract_tb(error.__traceback__)
                ours = [f"{Path(f.filename).name}:{f.lineno}" for f in where if "voicegraft" in f.filename]
                outcome.failures.append(
                    f"{kind} {seed} {number}: {type(error).__name__} at {ours[-3:]}: {error!s:.300}"
                )
            outcome.slowest_sec = max(outcome.slowest_sec, time.monotonic() - began)
    return outcome


def main(argv: Sequence[str] | None = None) -> int:
    config = read_options(FuzzConfig, argv, __doc__, "python -m tools.fuzz")
    failed = 0
    logging.disable(logging.WARNING)
    for kind in config.kinds or KINDS:
        if kind not in KINDS:
            raise VoicegraftError(f"expected kinds of {', '.join(KINDS)}, got {kind!r}")
        outcome = fuzz(kind, config.count, config.seed)
        print(
            f"{kind}: {config.count} cases, {outcome.read} read, {outcome.refused} refused, {len(outcome.failures)} failures, "
            f"slowest {outcome.slowest_sec:.1f} s",
            flush=True,
        )
        kinds = Counter(failure.partition(": ")[2] for failure in outcome.failures)
        first = {failure.partition(": ")[2]: failure for failure in reversed(outcome.failures)}
        for text, number in kinds.most_common():
            print(f"  {number}x {first[text]}", flush=True)
        failed += len(outcome.failures)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
