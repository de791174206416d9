"""What `voicegraft prepare` kept and what it rejected, counted recording by recording."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from voicegraft.core.errors import VoicegraftError
from voicegraft.data.checks import REASONS

# What is measured of a recording -> its title, the edges of the bins it is counted in (memory stays small that way), and the
# names of its limits.
MEASURES: dict[str, tuple[str, np.ndarray, tuple[str, ...]]] = {
    "kept_sec": ("seconds after trimming", np.arange(0.0, 60.25, 0.25), ("min_sec", "max_sec")),
    "letters_per_sec": (
        "letters per second", np.arange(0.0, 51.0, 1.0), ("min_letters_per_sec", "max_letters_per_sec"),
    ),
    "level_db": ("level before levelling, dBFS", np.arange(-120.0, 1.0, 1.0), ("min_level_db",)),
    "silence": ("share of silence before trimming", np.arange(0.0, 1.02, 0.02), ()),
    "clipped": ("share of clipped samples", np.array([0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]), ("max_clipped",)),
}  # fmt: skip


@dataclass
class Histogram:
    """Counts per bin, of what was kept and of what was rejected."""

    edges: np.ndarray
    kept: np.ndarray
    rejected: np.ndarray

    def add(self, value: float, kept: bool) -> None:
        place = int(np.clip(np.searchsorted(self.edges, value, "right") - 1, 0, len(self.edges) - 2))
        (self.kept if kept else self.rejected)[place] += 1

    def quantile(self, share: float) -> float | None:
        """Of what was kept, to the width of a bin; None when nothing was."""
        sums = np.cumsum(self.kept)
        if not sums[-1]:
            return None
        return float(np.interp(share * sums[-1], np.concatenate([[0], sums]), self.edges))


@dataclass
class Counts:
    """Recordings and their seconds."""

    clips: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        self.clips += 1
        self.seconds += seconds


@dataclass
class CorpusReport:
    """Sums over all corpora of a work folder."""

    jobs: dict[str, dict[str, Any]]
    totals: dict[str, dict[str, Counts]] = field(
        default_factory=dict
    )  # corpus -> all, kept, train, val, test or a reason
    speakers: dict[str, Counts] = field(default_factory=dict)
    file_rates: Counter[int] = field(default_factory=Counter)  # Hz -> kept recordings
    characters: Counter[str] = field(default_factory=Counter)  # of the texts of kept recordings
    examples: dict[str, dict[str, Any]] = field(default_factory=dict)  # reason -> the first rejected for it
    histograms: dict[str, Histogram] = field(
        default_factory=lambda: {
            name: Histogram(edges, np.zeros(len(edges) - 1, int), np.zeros(len(edges) - 1, int))
            for name, (_, edges, _) in MEASURES.items()
        }
    )

    def add(self, corpus: str, row: dict[str, Any]) -> None:
        sums = self.totals.setdefault(corpus, {})
        reason = row.get("reason")
        seconds = row.get("read_sec", 0.0)
        sums.setdefault("all", Counts()).add(seconds)
        for name, histogram in self.histograms.items():
            if name in row:
                histogram.add(row[name], reason is None)
        if reason is not None:
            sums.setdefault(reason, Counts()).add(seconds)
            self.examples.setdefault(reason, row)
            return
        for key in ("kept", row["split"]):
            sums.setdefault(key, Counts()).add(row["kept_sec"])
        self.speakers.setdefault(row["speaker"], Counts()).add(row["kept_sec"])
        self.file_rates[row["file_rate"]] += 1
        self.characters.update(row["text"])

    def reasons(self, corpora: Iterable[str]) -> list[tuple[str, Counts]]:
        """Why recordings were rejected, the commonest reason first."""
        found = {reason: Counts() for reason in REASONS}
        for corpus in corpora:
            for reason in REASONS:
                part = self.totals[corpus].get(reason, Counts())
                found[reason].clips += part.clips
                found[reason].seconds += part.seconds
        return sorted(((r, c) for r, c in found.items() if c.clips), key=lambda item: -item[1].clips)

    def in_short(self, corpus: str) -> str:
        """A line about a corpus, for the terminal."""
        total, kept = self.totals[corpus]["all"], self.totals[corpus].get("kept", Counts())
        rejected = ", ".join(f"{counts.clips} {reason}" for reason, counts in self.reasons([corpus]))
        train = self.totals[corpus].get("train", Counts()).clips
        return (
            f"{corpus}: {kept.clips} of {total.clips} recordings kept, {length(kept)}; {train} to train on, "
            f"{kept.clips - train} held back" + (f"; rejected: {rejected}" if rejected else "")
        )

    def need_something(self, corpus: str, quarantine: Path) -> None:
        """Raises VoicegraftError when nothing can be trained on."""
        total = self.totals[corpus]["all"]
        if "kept" not in self.totals[corpus]:
            (reason, counts), *_ = self.reasons([corpus])
            raise VoicegraftError(
                f"nothing of {corpus} can be used: {counts.clips} of {total.clips} recordings were rejected because "
                f"{REASONS[reason]} ({reason}); see {quarantine}"
            )
        if "train" not in self.totals[corpus]:
            raise VoicegraftError(f"all that was kept of {corpus} is held back; nothing is left to train on")

    def to_dict(self) -> dict[str, Any]:
        def as_json(counts: dict[str, Counts]) -> dict[str, Any]:
            return {key: {"clips": c.clips, "seconds": round(c.seconds, 3)} for key, c in sorted(counts.items())}

        return {
            "corpora": {name: {"job": job, **as_json(self.totals[name])} for name, job in self.jobs.items()},
            "speakers": as_json(self.speakers),
            "file_rates": {str(rate): count for rate, count in sorted(self.file_rates.items())},
            "characters": dict(sorted(self.characters.items())),
            "measures": {
                name: {"edges": h.edges.round(6).tolist(), "kept": h.kept.tolist(), "rejected": h.rejected.tolist()}
                for name, h in self.histograms.items()
            },
        }


def length(counts: Counts) -> str:
    if counts.seconds >= 360:
        return f"{counts.seconds / 3600:.2f} h"
    return f"{counts.seconds / 60:.1f} min" if counts.seconds >= 60 else f"{counts.seconds:.0f} s"
