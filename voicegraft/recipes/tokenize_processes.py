"""Work by name, and how far it is: in this process, or over a pool of which any process may be killed at any time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any

from tqdm import tqdm

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.runtime import single_thread
from voicegraft.core.worker_process import end_with_parent

MAX_DEATHS = 3  # in a row, with nothing done between them

_work: Callable[[str], None] | None = None  # of a worker process


def with_progress(what: str, hours: Mapping[str, float], left: Sequence[str], done: Iterable[str]) -> None:
    """Draws the names of shards that become done, tells of the hours of sound in them, and sums up.

    Args:
        hours: of all shards, those that were there before too.
        left: those that are still to be done.
    """
    started = time.monotonic()
    total = sum(hours[name] for name in left)
    layout = "{desc}: {percentage:3.0f}%|{bar}| {n:.2f}/{total:.2f} h [{elapsed}<{remaining}{postfix}]"
    with tqdm(total=total, desc=what, bar_format=layout) as bar:
        for name in done:
            bar.update(min(hours[name], total - bar.n))  # sums of floats in two orders differ a little
            bar.set_postfix_str(f"{_rate(bar.n, started):.1f} h/h")
    speed = f", {_rate(total, started):.1f} hours/hour" if left else ""
    kept = f"; {len(hours) - len(left)} shards were there" if len(left) < len(hours) else ""
    print(f"{what}: {total:.2f} hours in {len(left)} shards{speed}{kept}")


def _rate(hours: float, started: float) -> float:
    return hours * 3600 / (time.monotonic() - started)


def in_this_process(work: Callable[[str], None], names: Sequence[str]) -> Iterator[str]:
    """One after the other, on one thread; yields a name when it is done."""
    with single_thread():  # gives the threads back
        for name in names:
            work(name)
            yield name


def in_processes(work: Callable[[str], None], names: Sequence[str], num_workers: int) -> Generator[str, None, None]:
    """Calls ``work`` once per name, in processes that each have a copy of it; yields a name when it is done.

    A name whose process was killed is given to another one, so doing a name twice must do no harm.

    Raises:
        VoicegraftError: what ``work`` raised, or processes that keep dying.
    """
    left = list(names)
    deaths = 0
    while left:
        try:
            for name in _in_pool(work, tuple(left), min(num_workers, len(left))):
                left.remove(name)
                deaths = 0
                yield name
        except BrokenProcessPool as error:
            deaths += 1
            if deaths == MAX_DEATHS:
                suspects = ", ".join(left[:num_workers])
                raise VoicegraftError(
                    f"a worker process was killed {deaths} times while none of {suspects} got done: "
                    "memory may be short, so try fewer workers; what is done is kept"
                ) from error


def _in_pool(work: Callable[[str], None], names: Sequence[str], num_workers: int) -> Iterator[str]:
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks of PyTorch
    with ProcessPoolExecutor(num_workers, context, _begin, (work, context.Value("i", 0))) as pool:
        waiting = iter(names)
        running = {pool.submit(_do, name) for name in islice(waiting, num_workers)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                name = future.result()
                running |= {pool.submit(_do, name) for name in islice(waiting, 1)}
                yield name


def _begin(work: Callable[[str], None], number: Any) -> None:
    global _work
    _work = work
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends a worker without a word; the parent tells
    end_with_parent()
    with number.get_lock():
        os.environ["LOCAL_RANK"], number.value = str(number.value), number.value + 1  # which GPU is its own


def _do(name: str) -> str:
    assert _work is not None
    _work(name)
    return name
