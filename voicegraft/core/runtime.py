"""Device, threads and seeds."""

import os
import random
from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np
import torch

from voicegraft.core.errors import VoicegraftError

T = TypeVar("T")


def pick_device(name: str = "auto") -> torch.device:
    """The device by that name; "auto" takes the first of CUDA, MPS and the CPU that is there.

    Of several processes launched together on one machine, each gets a GPU of its own.

    Raises:
        VoicegraftError: no such device, or not on this machine.
    """
    if name in ("auto", "cuda") and torch.cuda.is_available():
        place = os.environ.get("LOCAL_RANK")  # set where several processes are launched: they share out the GPUs
        return torch.device("cuda") if place is None else torch.device("cuda", int(place) % torch.cuda.device_count())
    if name == "auto":
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise VoicegraftError(f"expected a device such as auto, cpu, cuda or cuda:1, got {name!r}") from error
    num_devices = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }
    if (device.index or 0) >= num_devices.get(device.type, 0):
        raise VoicegraftError(f"device {name!r} is not on this machine; use auto or cpu")
    return device


def has_bfloat16(device: torch.device) -> bool:
    """Whether it computes in bfloat16 itself: where that is emulated it takes many times as long as float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


class single_thread:
    """Lets PyTorch compute on one thread: from the call on, or within a `with` block.

    A model of a few megabytes that emits one token at a time loses more to waking threads than it gains.
    """

    def __init__(self) -> None:
        self._before = torch.get_num_threads()
        torch.set_num_threads(1)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self._before)


class OnThreads(Iterator[T]):
    """Draws items while PyTorch computes on so many threads, and gives the program its own number back after each.

    That number is a thread's own, so others that compute meanwhile keep theirs.
    """

    def __init__(self, num_threads: int | None, items: Iterable[T]) -> None:
        """
        Args:
            num_threads: None leaves it as it is.
        """
        self._num_threads, self._items = num_threads, iter(items)

    def __next__(self) -> T:
        before = torch.get_num_threads()
        if self._num_threads in (None, before):
            return next(self._items)
        torch.set_num_threads(self._num_threads)
        try:
            return next(self._items)
        finally:
            torch.set_num_threads(before)


def random_numbers(seed: int) -> np.random.Generator:
    """NumPy's generator of a seed.

    Raises:
        VoicegraftError: it is negative, or of more than 64 bits, which PyTorch does not take.
    """
    if not 0 <= seed < 2**64:
        raise VoicegraftError(f"expected a seed from 0 to {2**64 - 1}, got {seed}")
    return np.random.default_rng(seed)


def seed_all(seed: int) -> None:
    """Seeds Python, NumPy and PyTorch on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
