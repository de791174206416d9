"""The forgetting report as pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from voicegraft.evaluation.reports.document import COLOURS, Figure, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

    from voicegraft.evaluation.tasks.forgetting import Compared, ForgettingReport

_BEFORE, _AFTER, _CHANCE, _LOST = "#9aa5b1", COLOURS[0], "#222222", COLOURS[1]


def figures(report: ForgettingReport) -> list[Figure]:
    """Scores before and after, and what the router chose."""
    return [_scores(report), _router(report.router)]


def _scores(report: ForgettingReport) -> Figure:
    groups = [
        ("share of right answers", [row for row in report.rows if row.kind != "perplexity"]),
        ("perplexity per token (less is better)", [row for row in report.rows if row.kind == "perplexity"]),
    ]
    groups = [(label, rows) for label, rows in groups if rows]
    heights = [len(rows) + 1.2 for _, rows in groups]

    def drawing(canvas: Canvas) -> None:
        panels = canvas.subplots(len(groups), 1, height_ratios=heights, squeeze=False)[:, 0]
        for axes, (label, rows) in zip(panels, groups, strict=True):
            _bars(axes, label, rows, report.threshold)
        handles, labels = panels[0].get_legend_handles_labels()
        canvas.legend(handles, labels, loc="outside lower center", ncols=3)
        told = "cannot be told" if report.retention is None else f"{report.retention:.4f}"
        colour = "black" if report.passed else _LOST
        canvas.suptitle(f"Retention in text mode {told} (threshold {report.threshold})", color=colour)

    return draw("scores", "scores before and after", drawing, 1.4 + 0.48 * sum(heights), 8.5)


def _bars(axes: Axes, label: str, rows: Sequence[Compared], threshold: float) -> None:
    shares = rows[0].kind != "perplexity"
    places = range(len(rows))
    axes.barh([p - 0.19 for p in places], [r.before for r in rows], 0.36, color=_BEFORE, label="before")
    axes.barh([p + 0.19 for p in places], [r.after for r in rows], 0.36, color=_AFTER, label="after")
    if shares:
        begins, ends = [p - 0.4 for p in places], [p + 0.4 for p in places]
        axes.vlines([r.chance for r in rows], begins, ends, color=_CHANCE, linewidth=1.5, label="chance")
        axes.set_xlim(0, 1.0)
    else:
        axes.set_xscale("log")
        axes.set_xlim(1, 1.15 * max(score for r in rows for score in (r.before, r.after) if math.isfinite(score)))
    for place, row in zip(places, rows, strict=True):
        told = "at chance" if not row.above_chance else f"retains {row.retained:.3f}"
        lost = row.above_chance and row.retained is not None and row.retained < threshold
        axes.text(
            1.01, place, told, transform=axes.get_yaxis_transform(), va="center", color=_LOST if lost else "black"
        )
    axes.set_yticks(list(places), [row.task for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel(label)


def _router(router: Any) -> Figure:
    experts, tasks = router["experts"], list(router["counts"])
    counts = [[router["counts"][task][name] for name in experts] for task in tasks]
    shares = [[count / max(1, sum(row)) for count in row] for row in counts]

    def drawing(canvas: Canvas) -> None:
        axes = canvas.subplots()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for i, row in enumerate(counts):
            for j, count in enumerate(row):
                colour = "white" if shares[i][j] > 0.5 else "black"
                axes.text(j, i, f"{count}\n{100 * shares[i][j]:.1f} %", ha="center", va="center", color=colour)
        axes.set_xticks(range(len(experts)), experts)
        axes.set_yticks(range(len(tasks)), tasks)
        axes.set_xlabel("expert chosen")
        axes.set_ylabel("task")
        by = {"router": "the router", "task": "the task (no router)", "fixed gates": "fixed gates"}
        axes.set_title(f"Decided by {by[router['decided_by']]}")

    return draw("router", "which expert was chosen", drawing, 3.4, 2.4 + 1.3 * len(experts))
