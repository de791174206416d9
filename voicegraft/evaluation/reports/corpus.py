"""The report of `voicegraft prepare`: what it kept of all corpora, what it rejected and why."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voicegraft.core.errors import VoicegraftError
from voicegraft.data.checks import REASONS
from voicegraft.data.ingest import outcomes
from voicegraft.evaluation.reports.corpus_counts import MEASURES, CorpusReport, Counts, Histogram, length
from voicegraft.evaluation.reports.document import COLOURS, Document, Figure, Section, Table, draw, write_document

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

_NUM_ROWS = 20  # of a table that could be as long as the corpus
_KEPT, _REJECTED, _LIMIT = COLOURS[0], COLOURS[4], "#222222"
_DASHED: dict[str, Any] = {"linestyle": "--", "linewidth": 1}


def write_report(work: Path) -> CorpusReport:
    """Writes ``quarantine.jsonl`` and ``prepare/report.{md,json,html}`` for all corpora of a work folder."""
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
    picture: Figure | str
    try:
        picture = draw("clips", "what was kept and what was rejected", lambda canvas: _draw(canvas, report), 6, 11)
    except VoicegraftError as error:
        picture = f"No picture: {error}"
    write_document(work / "prepare", "report", _document(report, picture), report.to_dict())
    return report


def _document(report: CorpusReport, picture: Figure | str) -> Document:
    rows = []
    for name, job in report.jobs.items():
        sums = {key: report.totals[name].get(key, Counts()) for key in ("all", "kept", "train", "val", "test")}
        whole, kept, *splits = (f"{counts.clips} ({length(counts)})" for counts in sums.values())
        rejected = str(sums["all"].clips - sums["kept"].clips)
        rows.append((name, job["layout"], f"{job['rate']}", whole, kept, rejected, *splits))
    head = ("corpus", "layout", "rate, Hz", "recordings", "kept", "rejected", "train", "val", "test")
    reasons = [
        (r, REASONS[r], f"{c.clips}", length(c), _example(report.examples[r])) for r, c in report.reasons(report.jobs)
    ]
    notes = [
        "Each one, with what was measured and the limit: `quarantine.jsonl` in the work folder.",
        "A file that was not opened, as its text was enough to reject it, counts as 0 s.",
    ]
    quantiles = [
        (title, *(_number(report.histograms[name].quantile(share)) for share in (0.05, 0.5, 0.95)))
        for name, (title, _, _) in MEASURES.items()
        if name != "clipped"
    ]
    clipped = int(report.histograms["clipped"].kept[1:].sum())
    rates = ", ".join(f"{rate} Hz ({count})" for rate, count in sorted(report.file_rates.items()))
    most = sorted(report.speakers.items(), key=lambda item: (-item[1].seconds, item[0]))
    speakers = [(n, f"{c.clips}", length(c)) for n, c in most[:_NUM_ROWS]]
    used = sorted(report.characters.items(), key=lambda item: (-item[1], item[0]))
    shown = " ".join(f"`{char}` {count}" for char, count in used if char != " ")
    return Document(
        "Prepared recordings",
        [
            Section("", [Table(head, rows), "What was kept is counted after the silence at both ends is cut off."]),
            Section(
                "Rejected",
                [
                    Table(("reason", "what it means", "recordings", "length", "for example"), reasons, "Nothing."),
                    *(notes if reasons else ()),
                ],
            ),
            Section(
                "Kept",
                [
                    picture,
                    Table(("", "5 %", "median", "95 %"), quantiles),
                    f"Sample rates of the files: {rates or 'none'}. Recordings with a sample at full scale: {clipped}.",
                ],
            ),
            Section(
                "Speakers",
                [
                    Table(("speaker", "recordings", "length"), speakers),
                    *([f"And {len(most) - _NUM_ROWS} more (report.json)."] if len(most) > _NUM_ROWS else ()),
                ],
            ),
            Section("Characters", [f"{len(used)} different ones, the commonest first: {shown}"]),
        ],
    )


def _example(row: dict[str, Any]) -> str:
    value, limit = row["value"], row["limit"]
    told = "" if value is None else f": {value}" if limit is None else f": {_number(value)}, limit {_number(limit)}"
    return f"{row['id']}{told}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _draw(canvas: Canvas, report: CorpusReport) -> None:
    """What was measured, what was kept, where the limits lie; in the last panel the reasons."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    *panels, last = canvas.subplots(2, 3).ravel()
    for axes, (name, (title, _, limits)) in zip(panels, MEASURES.items(), strict=True):
        if name == "clipped":
            _steps(axes, report.histograms[name])
        else:
            _bars(
                axes,
                report.histograms[name],
                {job["limits"][limit] for job in report.jobs.values() for limit in limits},
            )
        axes.set_xlabel(title)
        axes.set_ylabel("recordings")
    found = report.reasons(report.jobs)
    last.bar_label(
        last.barh([r for r, _ in found], [c.clips for _, c in found], color=_REJECTED), padding=3, fontsize=8
    )
    last.invert_yaxis()
    last.set_xlabel("recordings rejected")
    handles = [Patch(color=_KEPT), Patch(color=_REJECTED), Line2D([], [], color=_LIMIT, **_DASHED)]
    canvas.legend(handles, ["kept", "rejected", "limit"], loc="outside upper center", ncols=3)


def _bars(axes: Axes, histogram: Histogram, marks: set[float]) -> None:
    """The bins that hold something, and the limits that lie near them."""
    both = histogram.kept + histogram.rejected
    used = np.flatnonzero(both) if both.any() else np.array([0, len(both) - 1])
    first, last = max(0, used[0] - 1), min(len(both), used[-1] + 2)
    starts, widths = histogram.edges[first:last], np.diff(histogram.edges)[first:last]
    axes.bar(starts, histogram.kept[first:last], widths, align="edge", color=_KEPT)
    axes.bar(starts, histogram.rejected[first:last], widths, histogram.kept[first:last], align="edge", color=_REJECTED)
    low, high = histogram.edges[first], histogram.edges[last]
    axes.set_xlim(low, high)
    for mark in sorted(marks):
        if low <= mark <= high:
            axes.axvline(mark, color=_LIMIT, **_DASHED)


def _steps(axes: Axes, histogram: Histogram) -> None:
    """Shares over many orders of magnitude: one bar for each."""
    names = ["none", *(f"< {edge:g}" for edge in histogram.edges[2:])]
    places = np.arange(len(names))
    axes.bar(places, histogram.kept, 0.8, color=_KEPT)
    axes.bar(places, histogram.rejected, 0.8, histogram.kept, color=_REJECTED)
    axes.set_xticks(places, names, rotation=45, ha="right", fontsize=8)
