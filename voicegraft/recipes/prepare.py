"""Your own recordings -> shards that the training recipes read, with a report of what was kept and what was rejected.

    voicegraft prepare CORPUS ... --out runs/mine

CORPUS is a folder, the file that describes one, or hf:OWNER/NAME[/CONFIG][:SPLIT]. The layout is found out: lhotse, jsonl,
huggingface, csv, ljspeech, librispeech, libritts or pairs (NAME.txt beside NAME.wav). Stop it with Ctrl-C; the same command
goes on.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from voicegraft.audio.mel import MelConfig
from voicegraft.core.command_line import read_options
from voicegraft.core.config import to_dict
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.files import write_text
from voicegraft.core.ledger import differences
from voicegraft.data.checks import Limits
from voicegraft.data.ingest import Ingest, Survey, survey, write_shards
from voicegraft.data.recordings import add_features
from voicegraft.data.sources.detect import Source, open_source
from voicegraft.data.splits import Splits
from voicegraft.evaluation.reports.corpus import write_report

FORMAT = 1  # raised when shards of an older program would differ from what this one writes
OPTIONS = {"work": "out", "sample_rate": "rate", "num_workers": "workers"}  # field -> option


@dataclass(frozen=True)
class PrepareConfig:
    corpora: tuple[str, ...]  # paths or hf:NAME
    work: Path  # receives speech/, quarantine.jsonl and prepare/report.md
    layout: str | None = None  # None: found out
    audio_root: Path | None = None  # where files that a manifest names may lie; None: beside the manifest
    name: str | None = None  # of the shards; None: the folder's name
    speaker: str | None = None  # of all recordings; None: as the corpus says, else the name
    sample_rate: int = 24_000  # Hz, of the shards
    val_share: float = 0.02  # of the texts that are held back, where the corpus holds none back itself
    shard_size: int = 1000  # recordings
    num_workers: int = 2  # processes
    features: bool = False  # mel and pitch too, for voicegraft's own tokenizers
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.sample_rate <= 0 or self.sample_rate % 50:
            raise VoicegraftError(f"expected a --rate in Hz that is a multiple of 50, got {self.sample_rate}")
        if self.features and self.sample_rate % 100:
            raise VoicegraftError(f"--features needs a --rate that is a multiple of 100, got {self.sample_rate}")
        if not 0 <= self.val_share < 1:
            raise VoicegraftError(f"expected a --val-share from 0 to less than 1, got {self.val_share:g}")
        if self.shard_size < 1 or self.num_workers < 1:
            raise VoicegraftError("expected a --shard-size and --workers of at least 1")
        if self.name is not None and len(self.corpora) > 1:
            raise VoicegraftError("--name is for one corpus; prepare them one by one, into the same --out")


def main(argv: list[str] | None = None) -> None:
    prepare(read_options(PrepareConfig, argv, __doc__, "voicegraft prepare", ("corpora",), OPTIONS))


def prepare(config: PrepareConfig) -> None:
    """Prepares every corpus, writes the report, and prints what it says in short.

    Raises:
        VoicegraftError: a corpus cannot be read, was prepared otherwise before, or nothing of it can be kept.
    """
    sources = [open_source(corpus, config.layout, config.audio_root) for corpus in config.corpora]
    for source in sources:
        if source.holds(config.work):
            raise VoicegraftError(
                f"--out {config.work} lies among the recordings of {source.location}: name another folder"
            )
    names = [_shard_name(config.name or source.name) for source in sources]
    if len(set(names)) < len(names):
        raise VoicegraftError(
            f"two corpora would be called the same: {', '.join(names)}; prepare them one by one with --name"
        )
    splits = Splits(config.val_share)
    surveys = [survey(source, splits.part() if len(sources) > 1 else splits) for source in sources]
    for source, name, found in zip(sources, names, surveys, strict=True):
        _begin(config, source, name, found, [other.digest for other in surveys if other is not found])
        write_shards(
            Ingest(source, config.work, name, config.sample_rate, config.limits, config.speaker, config.shard_size),
            found,
            config.num_workers,
        )
    report = write_report(config.work)
    if config.features:
        mel = MelConfig(sample_rate=config.sample_rate, hop=config.sample_rate // 100)
        add_features(config.work, mel, config.num_workers)
    for name in names:
        print(report.in_short(name))
    print(f"report: {config.work / 'prepare' / 'report.md'}; rejected: {config.work / 'quarantine.jsonl'}")
    for name in names:
        report.need_something(name, config.work / "quarantine.jsonl")


def _begin(config: PrepareConfig, source: Source, name: str, found: Survey, others: list[str]) -> None:
    """Notes what is about to be done; refuses a work folder where something else was done under that name."""
    job: dict[str, Any] = {
        "format": FORMAT,
        "corpus": found.digest,
        "layout": source.layout,
        "records": found.num_records,
        "rate": config.sample_rate,
        "val-share": config.val_share,
        "shard-size": config.shard_size,
        "speaker": config.speaker,
        "limits": to_dict(config.limits),
    }
    if others:  # what they hold back counts here too
        job["together with"] = sorted(others)
    path = config.work / "prepare" / name / "job.json"
    for other in sorted((config.work / "prepare").glob("*/job.json")):
        rate = json.loads(other.read_text())["rate"]
        if other != path and rate != config.sample_rate:
            raise VoicegraftError(
                f"{config.work} holds {other.parent.name} at {rate} Hz and cannot take {name} at {config.sample_rate} Hz: "
                f"use --rate {rate} or another --out"
            )
    shards = f"{config.work / 'speech' / name}-*"
    if path.is_file():
        before = json.loads(path.read_text())
        changed = differences({**before, "corpus": None}, {**job, "corpus": None})
        if before.get("corpus") != job["corpus"]:
            changed.insert(0, "the corpus itself changed")
        if changed:
            raise VoicegraftError(
                f"{name} in {config.work} was prepared otherwise ({'; '.join(changed)}): use another --out or --name, or "
                f"delete {shards} and {path.parent} to begin anew"
            )
    elif any((config.work / "speech").glob(f"{name}-[0-9]*")):
        raise VoicegraftError(
            f"{shards} is there but not how it was made ({path}): use another --out or --name, or delete it"
        )
    else:
        write_text(path, json.dumps(job, indent=2))


def _shard_name(name: str) -> str:
    """A name that a folder may have anywhere, and that no report of ours has."""
    if not (clean := re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")):
        raise VoicegraftError(f"cannot name shards {name!r}: expected letters and digits; give another --name")
    return clean


if __name__ == "__main__":
    main()
