"""Values that the processes of one training share; with a single process nothing happens."""

from __future__ import annotations

from collections.abc import Iterable

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
    if num_processes() > 1:
        for bucket in _buckets(tensors):
            flat = torch.cat([t.flatten() for t in bucket])
            dist.all_reduce(flat)
            _unpack(flat, bucket)


def take_from_main(tensors: Iterable[Tensor]) -> None:
    """Replaces each tensor by the main process's; every process gives the same shapes in the same order."""
    if num_processes() > 1:
        for bucket in _buckets(tensors):
            flat = torch.cat([t.flatten() for t in bucket])
            dist.broadcast(flat, src=0)
            _unpack(flat, bucket)


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


@torch.no_grad()
def _unpack(flat: Tensor, tensors: list[Tensor]) -> None:
    for tensor, piece in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(piece.view_as(tensor))
