"""Work by name over a Ray cluster, by Ray Data: a pool of actors, where any of them may die at any time."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from voicegraft.core.errors import VoicegraftError

MAX_ATTEMPTS = 3  # at one name whose actors die
OBJECT_STORE_BYTES = 100 << 20  # only names travel


def in_ray(
    work: Callable[[str], None], names: Sequence[str], num_workers: int, num_gpus: float, address: str
) -> Iterator[str]:
    """Calls ``work`` once per name, in actors that each have a copy of it; yields a name when it is done.

    A name whose actor was killed is given to another one, so doing a name twice must do no harm.

    Args:
        num_gpus: what each actor asks for.
        address: of a running cluster; "": start one on this machine for this call, or use the one that the process is in.

    Raises:
        VoicegraftError: Ray is not installed, no cluster at the address, what ``work`` raised, or actors that keep dying.
    """
    with ray_session(num_workers, address) as ray:
        attempts = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Attempts).remote()
        rows = ray.data.from_items([{"name": name} for name in names], override_num_blocks=len(names))
        # Ray Data starts actors anew and gives their work away without limit: machines of a long run may come and go.
        results = rows.map_batches(
            Actor,
            batch_size=1,
            fn_constructor_args=(work, attempts),
            compute=ray.data.ActorPoolStrategy(size=num_workers, max_tasks_in_flight_per_actor=1),
            num_cpus=1,
            num_gpus=num_gpus,
        )
        for result in results.iter_rows():
            if result["error"]:
                raise VoicegraftError(result["error"])
            yield result["name"]


class Attempts:
    """How often each name was begun: the one that kills whoever touches it must come to light."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def begin(self, name: str) -> int:
        self._counts[name] += 1
        return self._counts[name]


class Actor:
    """A user's mistake travels as a value: an exception would arrive wrapped in Ray's own, with a stack trace."""

    def __init__(self, work: Callable[[str], None], attempts: Any):
        self.work, self.attempts = work, attempts

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        import ray

        name, error = str(batch["name"][0]), ""
        try:
            attempt = ray.get(self.attempts.begin.remote(name))
            if attempt > MAX_ATTEMPTS:
                raise VoicegraftError(
                    f"{MAX_ATTEMPTS} workers were killed over {name}: memory may be short, so give the machines fewer "
                    "workers; what is done is kept"
                )
            self.work(name)
        except VoicegraftError as mistake:
            error = str(mistake)
        return {"name": [name], "error": [error]}


@contextmanager
def ray_session(num_cpus: int, address: str = "") -> Iterator[Any]:
    """Yields the module ``ray`` within a session: the process's own, one of a running cluster, or of a local one.

    Nothing is reported to anybody, and no dashboard listens.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # the reasons of deaths are in Ray's own log files
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise VoicegraftError("engine=ray needs Ray: pip install voicegraft[ray]") from error
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what it logs it also raises
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    if ray.is_initialized():
        yield ray
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address:
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, ValueError) as error:
            raise VoicegraftError(f"no Ray cluster at {address}: start one with `ray start --head`") from error
    else:
        ray.init("local", num_cpus=num_cpus, include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **quiet)
    try:
        yield ray
    finally:
        ray.shutdown()
