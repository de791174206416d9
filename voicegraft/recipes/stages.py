"""A recipe of several stages: each is skipped when it is done, goes on where it was interrupted, and its cost is kept.

A stage says all of itself: what it does, what it makes, which part of the configuration that depends on, and what it will take.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from voicegraft.core.config import from_dict
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.files import write_text
from voicegraft.core.processes import is_main_process
from voicegraft.train.engine import main_first

T = TypeVar("T")


@dataclass(frozen=True)
class Stage:
    name: str
    run: Callable[[], object]
    about: str = ""  # a few words for the plan
    result: str = ""  # file or folder, in the work folder, that is there when the stage is done; empty: its name
    depends: tuple[str, ...] = ()  # keys of the configuration without which it would have come out otherwise
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


def show_plan(name: str, work: Path, stages: Sequence[Stage]) -> None:
    """Prints the stages with their estimated time and disk, and what is done already."""
    spent = costs(work)
    print(f"Plan for {name}, in {work}; minutes and megabytes are estimates.")
    print(f"{'stage':<11}{'':<38}{'minutes':>9}{'MB':>9}  state")
    minutes = megabytes = 0.0
    for stage in stages:
        done = is_done(work, stage)
        state = f"done in {spent[stage.name]['minutes']:g} min" if done else "begun" if stage.name in spent else "to do"
        left = 0.0 if done else stage.minutes or 0.0
        minutes, megabytes = minutes + left, megabytes + (0.0 if done else stage.megabytes or 0.0)
        took = "" if stage.minutes is None else f"{stage.minutes:.1f}"
        size = "" if stage.megabytes is None else f"{stage.megabytes:.0f}"
        print(f"{stage.name:<11}{stage.about:<38}{took:>9}{size:>9}  {state}")
    there = next(folder for folder in (work, *work.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(there).free / 1e6
    print(f"{'to do':<49}{minutes:>9.1f}{megabytes:>9.0f}  {free:.0f} MB free")
    if megabytes > free:
        print("warning: there may not be enough room on the disk")


def remember(
    work: Path, stages: Sequence[Stage], config: T, settings: Callable[[T], Mapping[str, Any]], writes: bool = True
) -> None:
    """Notes the configuration; refuses one with which a stage that is done would have come out otherwise.

    Args:
        settings: key -> what of the configuration counts; the other keys may change between two runs in one work folder.
        writes: False only checks.

    Raises:
        VoicegraftError: as said, with the key and the stages.
    """
    path, now = work / "graft.json", settings(config)
    if path.is_file():
        before = settings(from_dict(type(config), json.loads(path.read_text(encoding="utf-8")), origin=str(path)))
        for key in now:
            spoilt = [stage.name for stage in stages if key in stage.depends and is_done(work, stage)]
            if spoilt and before[key] != now[key]:
                raise VoicegraftError(
                    f"{work} was begun with another {key} and has done {', '.join(spoilt)} with it: use another work folder, "
                    f"or restore {key} (the old one is in {path})"
                )
    if writes:
        write_text(path, json.dumps(now, indent=2))


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
