"""What `voicegraft prepare` kept and what it put aside: counted shard by shard, as Markdown, JSON and a picture."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.files import write_text
from voicegraft.data.checks import REASONS
from voicegraft.data.ingest import outcomes
from voicegraft.evaluation.reports.corpus_plots import draw_clips

# What is measured of a recording -> its title, and the edges of the bins it is counted in: memory stays small that way.
MEASURES = {
    "kept_sec": ("seconds", np.arange(0.0, 60.25, 0.25)),
    "letters_per_sec": ("letters per second", np.arange(0.0, 51.0, 1.0)),
    "level_db": ("level before levelling, dBFS", np.arange(-120.0, 1.0, 1.0)),
    "silence": ("share of silence before trimming", np.arange(0.0, 1.02, 0.02)),
    "clipped": ("share of clipped samples", np.array([0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0])),
}
_NUM_ROWS = 20  # of a table that could be as long as the corpus


@dataclass
class Histogram:
    """Counts per bin, of what was kept and of what was put aside."""

    edges: np.ndarray
    kept: np.ndarray
    aside: np.ndarray

    def add(self, value: float, kept: bool) -> None:
        place = int(np.clip(np.searchsorted(self.edges, value, "right") - 1, 0, len(self.edges) - 2))
        (self.kept if kept else self.aside)[place] += 1

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
    examples: dict[str, dict[str, Any]] = field(default_factory=dict)  # reason -> the first put aside for it
    histograms: dict[str, Histogram] = field(
        default_factory=lambda: {
            name: Histogram(edges, np.zeros(len(edges) - 1, int), np.zeros(len(edges) - 1, int))
            for name, (_, edges) in MEASURES.items()
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
        """Why recordings were put aside, the commonest reason first."""
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
        aside = ", ".join(f"{counts.clips} {reason}" for reason, counts in self.reasons([corpus]))
        train = self.totals[corpus].get("train", Counts()).clips
        return (
            f"{corpus}: {kept.clips} of {total.clips} recordings kept, {_length(kept)}; {train} to train on, "
            f"{kept.clips - train} held back" + (f"; put aside: {aside}" if aside else "")
        )

    def need_something(self, corpus: str, quarantine: Path) -> None:
        """Raises VoicegraftError when nothing can be trained on."""
        total = self.totals[corpus]["all"]
        if "kept" not in self.totals[corpus]:
            (reason, counts), *_ = self.reasons([corpus])
            raise VoicegraftError(
                f"nothing of {corpus} can be used: {counts.clips} of {total.clips} recordings were put aside because "
                f"{REASONS[reason]} ({reason}); see {quarantine}"
            )
        if "train" not in self.totals[corpus]:
            raise VoicegraftError(f"all that was kept of {corpus} is held back; nothing is left to train on")

    def to_dict(self) -> dict[str, Any]:
        def plain(counts: dict[str, Counts]) -> dict[str, Any]:
            return {key: {"clips": c.clips, "seconds": round(c.seconds, 3)} for key, c in sorted(counts.items())}

        return {
            "corpora": {name: {"job": job, **plain(self.totals[name])} for name, job in self.jobs.items()},
            "speakers": plain(self.speakers),
            "file_rates": {str(rate): count for rate, count in sorted(self.file_rates.items())},
            "characters": dict(sorted(self.characters.items())),
            "measures": {
                name: {"edges": h.edges.round(6).tolist(), "kept": h.kept.tolist(), "put_aside": h.aside.tolist()}
                for name, h in self.histograms.items()
            },
        }


def write_report(work: Path) -> CorpusReport:
    """Writes ``quarantine.jsonl`` and ``prepare/report.{md,json}`` with its picture for all corpora of a work folder."""
    paths = sorted((work / "prepare").glob("*/job.json"))
    report = CorpusReport({path.parent.name: json.loads(path.read_text()) for path in paths})
    part = work / ".quarantine.jsonl.part"
    with part.open("w", encoding="utf-8") as file:
        for corpus in report.jobs:
            report.totals.setdefault(corpus, {})
            for row in outcomes(work, corpus):
                report.add(corpus, row)
                if "reason" in row:
                    kept = {key: row[key] for key in ("id", "path", "reason", "value", "limit", "text")}
                    file.write(json.dumps({"corpus": corpus, **kept}, ensure_ascii=False) + "\n")
    os.replace(part, work / "quarantine.jsonl")
    folder = work / "prepare"
    write_text(folder / "report.json", json.dumps(report.to_dict(), indent=1, ensure_ascii=False))
    try:
        draw_clips(folder / "clips.png", report)
        picture = "![what was kept and what was put aside](clips.png)"
    except VoicegraftError as error:
        picture = f"No picture: {error}"
    write_text(folder / "report.md", _markdown(report, picture))
    return report


def _markdown(report: CorpusReport, picture: str) -> str:
    corpora = list(report.jobs)
    lines = ["# Prepared recordings", ""]
    rows = []
    for name, job in report.jobs.items():
        sums = {key: report.totals[name].get(key, Counts()) for key in ("all", "kept", "train", "val", "test")}
        aside = sums["all"].clips - sums["kept"].clips
        splits = (f"{sums[key].clips} ({_length(sums[key])})" for key in ("train", "val", "test"))
        whole = f"{sums['all'].clips} ({_length(sums['all'])})"
        kept = f"{sums['kept'].clips} ({_length(sums['kept'])})"
        rows.append((name, job["layout"], f"{job['rate']}", whole, kept, f"{aside}", *splits))
    head = ("corpus", "layout", "rate, Hz", "recordings", "kept", "put aside", "train", "val", "test")
    lines += [
        *_table(head, rows),
        "",
        "What was kept is counted after the silence at both ends is cut off.",
        "",
    ]
    reasons = report.reasons(corpora)
    lines += ["## Put aside", ""]
    if reasons:
        lines += _table(
            ("reason", "what it means", "recordings", "length", "for example"),
            [(r, REASONS[r], f"{c.clips}", _length(c), _example(report.examples[r])) for r, c in reasons],
        )
        lines += ["", "Each one, with what was measured and the limit: `quarantine.jsonl` in the work folder.", ""]
        lines += ["A file that was not opened, as its text was enough to put it aside, counts as 0 s."]
    else:
        lines += ["Nothing."]
    lines += ["", "## Kept", "", picture, ""]
    quantiles = [
        (title, *(_number(report.histograms[name].quantile(share)) for share in (0.05, 0.5, 0.95)))
        for name, (title, _) in MEASURES.items()
        if name != "clipped"
    ]
    clipped = int(report.histograms["clipped"].kept[1:].sum())
    lines += [*_table(("", "5 %", "median", "95 %"), quantiles), ""]
    rates = ", ".join(f"{rate} Hz ({count})" for rate, count in sorted(report.file_rates.items()))
    lines += [
        f"Sample rates of the files: {rates or 'none'}. Recordings with a sample at full scale: {clipped}.",
        "",
        "## Speakers",
        "",
    ]
    most = sorted(report.speakers.items(), key=lambda item: (-item[1].seconds, item[0]))
    lines += _table(("speaker", "recordings", "length"), [(n, f"{c.clips}", _length(c)) for n, c in most[:_NUM_ROWS]])
    if len(most) > _NUM_ROWS:
        lines += ["", f"And {len(most) - _NUM_ROWS} more (report.json)."]
    used = sorted(report.characters.items(), key=lambda item: (-item[1], item[0]))
    shown = " ".join(f"`{char}` {count}" for char, count in used if char != " ")
    lines += ["", "## Characters", "", f"{len(used)} different ones, the commonest first: {shown}", ""]
    return "\n".join(lines)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *cells)]


def _example(row: dict[str, Any]) -> str:
    value, limit = row["value"], row["limit"]
    told = "" if value is None else f": {value}" if limit is None else f": {_number(value)}, limit {_number(limit)}"
    return f"{row['id']}{told}"


def _length(counts: Counts) -> str:
    if counts.seconds >= 360:
        return f"{counts.seconds / 3600:.2f} h"
    return f"{counts.seconds / 60:.1f} min" if counts.seconds >= 60 else f"{counts.seconds:.0f} s"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
