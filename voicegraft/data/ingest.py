"""A user's corpus -> shards of levelled audio: streamed, in parallel, shard by shard.

A record belongs to a shard by its place in the corpus, so shards are the same however often the work was stopped and
however many processes did it. ``work/prepare/NAME/000.jsonl`` says what became of every record of a shard; it is written
last, and a shard that has it is done.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import signal
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from voicegraft.core.artifacts import atomic_folder
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.files import write_text
from voicegraft.core.worker_process import end_with_parent
from voicegraft.data.checks import Examined, Limits, examine, well_formed
from voicegraft.data.manifest import Utterance
from voicegraft.data.recordings import write_pairs
from voicegraft.data.sources.detect import Source
from voicegraft.data.sources.record import Record
from voicegraft.data.splits import Splits

_AHEAD = 4  # recordings under way per process


@dataclass(frozen=True)
class Survey:
    """What a first pass over a corpus finds out, before any audio is read."""

    num_records: int
    digest: str  # over ids, texts, splits, times and file sizes: the same for a corpus that was moved
    splits: Splits


@dataclass(frozen=True)
class Ingest:
    """One corpus on its way into a work folder."""

    source: Source
    work: Path
    name: str  # of the shards: NAME-000, NAME-001 ...
    sample_rate: int  # Hz
    limits: Limits
    speaker: str | None  # of all recordings; None: as the corpus says
    shard_size: int  # records

    def shard(self, number: int) -> Path:
        return self.work / "speech" / f"{self.name}-{number:03d}"

    def outcome(self, number: int) -> Path:
        return self.work / "prepare" / self.name / f"{number:03d}.jsonl"


def survey(source: Source, splits: Splits) -> Survey:
    """Reads all records once, and shows them to the splits.

    Raises:
        VoicegraftError: there is no record, or the corpus cannot be read.
    """
    digest, num_records = hashlib.sha256(), 0
    for record in tqdm(source.records(), desc=f"listing {source.name}", unit="clip", delay=1):
        size = _file_size(record.audio) if isinstance(record.audio, Path) else None
        about = (record.id, record.text, record.speaker, record.split, record.start_sec, record.duration_sec, size)
        digest.update(json.dumps(about).encode())
        num_records += 1
        splits.see(record.text, record.split)
    if not num_records:
        raise VoicegraftError(f"{source.location} holds no recordings (read as {source.layout})")
    return Survey(num_records, digest.hexdigest()[:16], splits)


def write_shards(ingest: Ingest, found: Survey, num_workers: int) -> None:
    """Writes the shards that are not there yet; memory does not grow with the corpus."""
    seen = _SeenIds()
    records = (replace(record, id=well_formed(record.id)) for record in ingest.source.records())
    numbered = ((record, seen.again(record.id)) for record in records)
    with (
        _examiner(num_workers) as examine_all,
        tqdm(total=found.num_records, desc=ingest.name, unit="clip") as bar,
    ):
        number = 0
        while batch := list(islice(numbered, ingest.shard_size)):
            if not _is_done(ingest, number):
                tasks = (
                    (_portable(record), _audio(record), again, ingest.sample_rate, ingest.limits)
                    for record, again in batch
                )
                _write_shard(ingest, found, number, [record for record, _ in batch], examine_all(tasks), bar)
            else:
                bar.update(len(batch))
            number += 1


def outcomes(work: Path, name: str) -> Iterator[dict[str, Any]]:
    """What became of every record of a corpus, shard by shard."""
    for path in sorted((work / "prepare" / name).glob("*.jsonl"), key=lambda path: int(path.stem)):
        with path.open(encoding="utf-8") as file:
            yield from (json.loads(line) for line in file)


def _write_shard(
    ingest: Ingest, found: Survey, number: int, records: list[Record], examined: Iterator[Examined], bar: tqdm[Any]
) -> None:
    rows: list[dict[str, Any]] = []

    def kept() -> Iterator[tuple[Utterance, np.ndarray]]:
        for record, result in zip(records, examined, strict=True):
            speaker = well_formed(ingest.speaker or record.speaker or ingest.name)
            rows.append({**result.facts, "speaker": speaker, "split": found.splits(record.text, record.split)})
            bar.update()
            if result.samples is not None:
                seconds = len(result.samples) / ingest.sample_rate
                row = rows[-1]
                yield Utterance(row["id"], "", row["text"], speaker, row["split"], seconds), result.samples

    pairs = kept()
    first = next(pairs, None)
    if first is not None:
        with atomic_folder(ingest.shard(number), marker="manifest.jsonl") as draft:
            write_pairs(draft, chain([first], pairs), ingest.sample_rate)
    write_text(ingest.outcome(number), "\n".join(json.dumps(row, ensure_ascii=False) for row in rows))


def _is_done(ingest: Ingest, number: int) -> bool:
    path = ingest.outcome(number)
    if not path.is_file():
        return False
    with path.open(encoding="utf-8") as file:
        empty = all("reason" in json.loads(line) for line in file)
    return empty or (ingest.shard(number) / "audio" / "index.json").is_file()


def _audio(record: Record) -> Path | bytes:
    return record.audio if isinstance(record.audio, Path) else record.audio()


def _portable(record: Record) -> Record:
    """For another process: without the data set that the audio is fetched from."""
    return record if isinstance(record.audio, Path) else replace(record, audio=Path())


def _file_size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


class _SeenIds:
    """The ids so far, in a temporary file that SQLite keeps and deletes: memory does not hold millions of them."""

    def __init__(self) -> None:
        self._ids = sqlite3.connect("")
        self._ids.execute("PRAGMA journal_mode = OFF")
        self._ids.execute("CREATE TABLE seen (id TEXT PRIMARY KEY) WITHOUT ROWID")

    def again(self, name: str) -> bool:
        """Whether the id was there before; from now on it was."""
        return self._ids.execute("INSERT OR IGNORE INTO seen VALUES (?)", (name,)).rowcount == 0


Task = tuple[Record, Path | bytes, bool, int, Limits]


@contextmanager
def _examiner(num_workers: int) -> Iterator[Callable[[Iterable[Task]], Iterator[Examined]]]:
    """What examines recordings one after another, in this process or in several ahead of the one who asks."""
    if num_workers == 1:
        yield lambda tasks: (examine(*task) for task in tasks)
        return
    pool = ProcessPoolExecutor(num_workers, multiprocessing.get_context("spawn"), initializer=_follow_parent)

    def in_order(tasks: Iterable[Task]) -> Iterator[Examined]:
        pending: deque[Future[Examined]] = deque()
        for task in tasks:
            pending.append(pool.submit(examine, *task))
            if len(pending) >= _AHEAD * num_workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

    try:
        yield in_order
    except BrokenProcessPool as error:
        raise VoicegraftError(
            "a worker process died, of too little memory or of a file that the decoder cannot bear: run the same again, "
            "and if it stays, with --workers 1"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _follow_parent() -> None:
    """In a worker: Ctrl-C is the parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
