"""What pages and figures read from rows and summaries of speech; what is missing there is None here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from voicegraft.evaluation.metrics.measures import Measure
from voicegraft.evaluation.speech.items import STAGES

Row = Mapping[str, Any]
RECORDINGS, SPEECH = STAGES[0], STAGES[-1]


def number(value: Any) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def value_of(measure: Measure, row: Row) -> float | None:
    """A measure of one row."""
    try:
        parts = measure.parts(row)
    except (KeyError, TypeError, AttributeError):  # the row lacks what the measure reads
        return None
    return number(parts[0] / parts[1]) if parts and parts[1] else None


def group_of(row: Row) -> tuple[str, str]:
    """Stage and voice."""
    return str(row.get("stage") or ""), str(row.get("voice") or "")


def stages_of(rows: Sequence[Row]) -> list[str]:
    """Stages of rows or summaries, those of STAGES first and in its order."""
    found = list(dict.fromkeys(group_of(row)[0] for row in rows))
    return [stage for stage in STAGES if stage in found] + [stage for stage in found if stage not in STAGES]


def faults_of(row: Row) -> list[str]:
    """Kinds of faults of a row, and its status where that is not ok."""
    faults = [str(kind) for kind in row.get("faults") or ()]
    if (status := str(row.get("status") or "ok")) != "ok":
        faults.append(status)
    elif row.get("ran_away") and "runaway" not in faults:
        faults.append("runaway")
    return faults
