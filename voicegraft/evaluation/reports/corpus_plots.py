"""Prepared recordings as one picture: what was measured, what was kept, where the limits lie."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voicegraft.evaluation.reports.plots import need_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from voicegraft.evaluation.reports.corpus import CorpusReport, Histogram

_KEPT, _ASIDE, _LIMIT = "#2563a8", "#e08a1e", "#222222"
_DASHED: dict[str, Any] = {"linestyle": "--", "linewidth": 1}
_PANELS = {  # measure -> what its axis says, and the names of its limits
    "kept_sec": ("seconds after trimming", ("min_sec", "max_sec")),
    "letters_per_sec": ("letters per second", ("min_letters_per_sec", "max_letters_per_sec")),
    "level_db": ("level before levelling, dBFS", ("min_level_db",)),
    "silence": ("share of silence before trimming", ()),
    "clipped": ("share of clipped samples", ("max_clipped",)),
}


def draw_clips(path: Path, report: CorpusReport) -> None:
    """Raises VoicegraftError where matplotlib is missing."""
    need_matplotlib()
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    figure = Figure(figsize=(11, 6), layout="constrained")
    panels = figure.subplots(2, 3).ravel()
    for axes, (name, (title, limits)) in zip(panels, _PANELS.items(), strict=False):
        histogram = report.histograms[name]
        marks = {job["limits"][limit] for job in report.jobs.values() for limit in limits}
        if name == "clipped":
            _steps(axes, histogram)
        else:
            _bars(axes, histogram, marks)
        axes.set_xlabel(title)
        axes.set_ylabel("recordings")
        axes.spines[["top", "right"]].set_visible(False)
    _reasons(panels[-1], report)
    handles = [Patch(color=_KEPT), Patch(color=_ASIDE), Line2D([], [], color=_LIMIT, **_DASHED)]
    figure.legend(handles, ["kept", "put aside", "limit"], loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(path, dpi=110)


def _bars(axes: Axes, histogram: Histogram, marks: set[float]) -> None:
    """The bins that hold something, and the limits that lie near them."""
    both = histogram.kept + histogram.aside
    used = np.flatnonzero(both) if both.any() else np.array([0, len(both) - 1])
    first, last = max(0, used[0] - 1), min(len(both), used[-1] + 2)
    starts, widths = histogram.edges[first:last], np.diff(histogram.edges)[first:last]
    axes.bar(starts, histogram.kept[first:last], widths, align="edge", color=_KEPT)
    axes.bar(starts, histogram.aside[first:last], widths, histogram.kept[first:last], align="edge", color=_ASIDE)
    low, high = histogram.edges[first], histogram.edges[last]
    axes.set_xlim(low, high)
    axes.set_ylim(0, 1.05 * max(1, both.max()))
    for mark in sorted(marks):
        if low <= mark <= high:
            axes.axvline(mark, color=_LIMIT, **_DASHED)


def _steps(axes: Axes, histogram: Histogram) -> None:
    """Shares over many orders of magnitude: one bar for each."""
    names = ["none", *(f"< {edge:g}" for edge in histogram.edges[2:])]
    places = np.arange(len(names))
    axes.bar(places, histogram.kept, 0.8, color=_KEPT)
    axes.bar(places, histogram.aside, 0.8, histogram.kept, color=_ASIDE)
    axes.set_ylim(0, 1.05 * max(1, (histogram.kept + histogram.aside).max()))
    axes.set_xticks(places, names, rotation=45, ha="right", fontsize=8)


def _reasons(axes: Axes, report: CorpusReport) -> None:
    found = report.reasons(report.jobs)
    if not found:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "nothing was put aside", ha="center", va="center", transform=axes.transAxes)
        return
    bars = axes.barh(range(len(found)), [counts.clips for _, counts in found], color=_ASIDE)
    axes.bar_label(bars, padding=3, fontsize=8)
    axes.set_yticks(range(len(found)), [reason for reason, _ in found])
    axes.invert_yaxis()
    axes.set_xlabel("recordings put aside")
    axes.spines[["top", "right"]].set_visible(False)
