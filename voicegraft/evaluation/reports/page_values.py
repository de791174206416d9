"""What the evaluation page reads from rows and summaries; what is missing there is None here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from voicegraft.evaluation.metrics.measures import MEASURES, Measure
from voicegraft.evaluation.speech.items import STAGES

Row = Mapping[str, Any]
RECORDINGS, SPEECH = STAGES[0], STAGES[-1]


@dataclass(frozen=True)
class Span:
    """A value and its interval; all three are equal where there is no interval."""

    value: float
    low: float
    high: float


def number(value: Any) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def span_of(estimate: Any) -> Span | None:
    """A number, or a mapping with value, low and high, as Span."""
    found = estimate if isinstance(estimate, Mapping) else {"value": estimate}
    if (value := number(found.get("value"))) is None:
        return None
    low, high = number(found.get("low")), number(found.get("high"))
    return Span(value, value if low is None else low, value if high is None else high)


def estimate_of(summary: Mapping[str, Any], name: str) -> Span | None:
    """A measure of `measures.MEASURES` in a summary."""
    return span_of((summary.get("estimates") or {}).get(name, summary.get(name)))


def value_of(measure: Measure, row: Row) -> float | None:
    """A measure of one row."""
    try:
        parts = measure.parts(row)
    except (KeyError, TypeError, AttributeError):  # the row lacks what the measure reads
        return None
    return number(parts[0] / parts[1]) if parts and parts[1] else None


def measured(rows: Sequence[Row]) -> list[Measure]:
    """The measures that at least one row has, without those that differ in their means only."""
    return [
        one for one in MEASURES if one.name != "wer_per_item" and any(value_of(one, row) is not None for row in rows)
    ]


def stage_of(row: Row) -> str:
    return str(row.get("stage") or "")


def voice_of(row: Row) -> str:
    return str(row.get("voice") or "")


def stages_of(rows: Sequence[Row]) -> list[str]:
    """Stages of rows or summaries, those of STAGES first and in its order."""
    found = list(dict.fromkeys(map(stage_of, rows)))
    return [stage for stage in STAGES if stage in found] + [stage for stage in found if stage not in STAGES]


def faults_of(row: Row) -> list[str]:
    """Kinds of faults of a row, and its status where that is not ok."""
    faults = [str(kind) for kind in row.get("faults") or ()]
    if (status := str(row.get("status") or "ok")) != "ok":
        faults.append(status)
    elif row.get("ran_away") and "runaway" not in faults:
        faults.append("runaway")
    return faults
