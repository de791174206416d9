"""Values that the processes of one training share; with a single process nothing happens."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor

_BUCKET = 1 << 24  # values sent at once: enough to be fast, little beside a model


def num_processes() -> int:
    """How many processes train together; 1 where none was launched beside this one."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def is_main_process() -> bool:
    """Whether this is the process that writes."""
    return num_processes() == 1 or dist.get_rank() == 0


def wait_for_all() -> None:
    """Returns when every process has come here."""
    if num_processes() > 1:
        dist.barrier()


def sum_over_processes(tensors: Iterable[Tensor]) -> None:
    """Replaces each tensor by its sum over all processes; every process gives the same shapes in the same order."""
    _together(dist.all_reduce, tensors)


def take_from_main(tensors: Iterable[Tensor]) -> None:
    """Replaces each tensor by the main process's; every process gives the same shapes in the same order."""
    _together(partial(dist.broadcast, src=0), tensors)


@torch.no_grad()
def _together(operation: Callable[[Tensor], object], tensors: Iterable[Tensor]) -> None:
    for bucket in _buckets(tensors) if num_processes() > 1 else ():
        flat = torch.cat([t.flatten() for t in bucket])
        operation(flat)
        for tensor, piece in zip(bucket, flat.split([t.numel() for t in bucket]), strict=True):
            tensor.copy_(piece.view_as(tensor))


def _buckets(tensors: Iterable[Tensor]) -> Iterable[list[Tensor]]:
    """Runs of tensors of one type, up to ``_BUCKET`` values each (a larger tensor goes alone)."""
    by_type: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        waiting = by_type.setdefault(tensor.dtype, [])
        if waiting and sum(t.numel() for t in waiting) + tensor.numel() > _BUCKET:
            yield waiting
            waiting = by_type[tensor.dtype] = []
        waiting.append(tensor)
    yield from (waiting for waiting in by_type.values() if waiting)
