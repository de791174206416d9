"""What every engine gives to the loop and to a checkpoint: a model's optimizers behind one contract, and full tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


class CheckpointTensor:
    """A live tensor that a checkpoint saves and restores: replicated, or sharded by PyTorch.

    Every process calls the same methods in the same order.
    """

    def __init__(self, tensor: Tensor, shape: torch.Size | None = None):
        self._tensor, self.shape = tensor, tensor.shape if shape is None else shape  # of the full tensor

    def full(self) -> Tensor:
        """The full value, gathered where it is sharded."""
        return self._tensor.full_tensor().cpu() if isinstance(self._tensor, DTensor) else self._tensor

    def load(self, value: Tensor) -> None:
        """Takes over a full value, which every process gives."""
        own = self._tensor
        if isinstance(own, DTensor):
            # Every process has read the full value: each takes its part, nothing is sent.
            value = distribute_tensor(value.to(own.device), own.device_mesh, own.placements, src_data_rank=None)
        own.copy_(value)


class OptimizerWrapper(Protocol):
    """The optimizers of one model, and how its gradients come together.

    Every process calls the same methods in the same order.
    """

    def backward(self, loss: Tensor, retain_graph: bool) -> None:
        """Adds the loss's gradients to those of the model's trainable parameters, and to no other's."""

    def step(self, lr: float) -> Tensor:
        """Takes a step along the mean gradient of all processes, clipped, and clears it: its norm before clipping."""

    def weights(self, parameter: nn.Parameter) -> CheckpointTensor:
        """A trainable parameter, for a checkpoint."""

    def moments(self) -> Iterator[tuple[str, nn.Parameter, str, CheckpointTensor]]:
        """What the optimizers remember: (optimizer, parameter, name, value)."""

    def release(self) -> None:
        """Removes the hooks from the model, at the end of a run."""
