"""What the benchmarks share: engines that take turns in one run, ratios of what their turns took, tables, reports.

Engines that take turns meet the same load of the machine, whatever else runs on it; a ratio is the median over the turns.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Turns = Mapping[str, Sequence[float]]  # engine -> seconds of each of its turns


def cpu_seconds(call: Callable[[], object]) -> float:
    """CPU time of this process."""
    begun = time.process_time()
    call()
    return time.process_time() - begun


def take_turns(engines: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 0) -> dict[str, list[float]]:
    """Calls every engine once a round, beginning with another one each time -> its CPU seconds.

    Args:
        warmup: rounds before the first that counts.
    """
    names = list(engines)
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-warmup, rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            took = cpu_seconds(engines[name])
            if number >= 0:
                found[name].append(took)
    return found


def ratio(turns: Turns, name: str, reference: str) -> float:
    """How many times as long as the reference: the median over the turns."""
    return round(statistics.median(a / b for a, b in zip(turns[name], turns[reference], strict=True)), 3)


def compared(turns: Turns, reference: str) -> dict[str, Any]:
    """Milliseconds and the ratio to the reference, each the median over the turns."""
    return {
        name: {"ms": round(1000 * statistics.median(took), 3), "ratio": ratio(turns, name, reference)}
        for name, took in turns.items()
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of named cells in columns; what a row lacks is empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names] + [["" if row.get(n) is None else str(row[n]) for n in names] for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def report(results: Any, out: str, rows: Sequence[Mapping[str, Any]] = ()) -> None:
    """Prints the results, the rows as a table below them, and writes the results to a JSON file unless ``out`` is empty."""
    text = json.dumps(results, indent=2)
    print(text)
    if rows:
        print(table(rows))
    if out:
        Path(out).write_text(text + "\n", encoding="utf-8")
