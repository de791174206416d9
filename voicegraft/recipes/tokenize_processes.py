"""A process pool with retries: work by name over processes of one machine, where any may be killed at any time."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.worker_process import end_with_parent

MAX_DEATHS = 3  # in a row, with nothing done between them

_work: Callable[[str], None] | None = None  # of a worker process


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
