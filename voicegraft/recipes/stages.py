"""A recipe of several stages: each is skipped when it is done, goes on where it was interrupted, and its cost is kept."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.files import write_text
from voicegraft.core.processes import is_main_process
from voicegraft.train.engine import main_first


@dataclass(frozen=True)
class Stage:
    name: str
    run: Callable[[], object]
    result: str = ""  # file or folder, in the work folder, that is there when the stage is done; empty: its name
    about: str = ""  # a few words for the plan
    minutes: float | None = None  # estimated
    megabytes: float | None = None  # of disk, estimated
    always: bool = False  # is quick, and done again each time
    together: bool = False  # all processes that were launched work on it; else the main one does while the others wait


def costs(work: Path) -> dict[str, Any]:
    """Stage -> minutes so far, and whether it is done."""
    path = work / "cost.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def run_stages(work: Path, stages: Sequence[Stage]) -> None:
    """Runs what is not done yet, in order.

    Raises:
        VoicegraftError: a stage was interrupted, or what a finished one made has gone.
    """
    for stage in stages:
        with nullcontext() if stage.together else main_first():
            _run(work, stage)


def is_done(work: Path, stage: Stage) -> bool:
    return bool(costs(work).get(stage.name, {}).get("done"))


def _run(work: Path, stage: Stage) -> None:
    result = work / (stage.result or stage.name)
    if is_done(work, stage) and not (stage.always and is_main_process()):
        if not result.exists():
            raise VoicegraftError(
                f"stage {stage.name} was done, but {result} is gone: restore it, or take {stage.name!r} and what follows "
                f"out of {work / 'cost.json'} to do them again"
            )
        return
    entry = costs(work).get(stage.name, {"minutes": 0.0, "done": False})
    started = time.monotonic()
    try:
        stage.run()
        entry["done"] = result.exists()
        if not entry["done"]:
            raise VoicegraftError(f"stage {stage.name} stopped before its end; the same command goes on from there")
    finally:
        entry["minutes"] = round(entry["minutes"] + (time.monotonic() - started) / 60, 1)
        if is_main_process():
            write_text(work / "cost.json", json.dumps({**costs(work), stage.name: entry}, indent=2))
