"""Muon (Jordan et al. 2024) as torch has it, with all matrices of one shape in one call.

LoRA makes hundreds of small matrices. One after the other their Newton-Schulz iterations are thousands of kernels a step, which
take longer on a GPU than the model itself.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim._muon import _adjust_lr

from voicegraft.core.runtime import has_bfloat16


class Muon(torch.optim.Muon):
    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        if any(isinstance(p, DTensor) for group in self.param_groups for p in group["params"]):
            return super().step(closure)  # sharded matrices cannot be stacked
        for group in self.param_groups:
            shapes: dict[tuple[torch.Size, torch.dtype], list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter.grad))
                    shapes[parameter.shape, parameter.dtype].append(parameter)
            for (shape, _), parameters in shapes.items():
                grads = [p.grad for p in parameters if p.grad is not None]
                buffers = [self.state[p]["momentum_buffer"] for p in parameters]
                torch._foreach_lerp_(buffers, grads, 1 - group["momentum"])
                if group["nesterov"]:
                    buffers = list(torch._foreach_lerp(grads, buffers, group["momentum"]))
                stacked = torch.stack(buffers)
                updates = orthogonal(stacked, group["ns_coefficients"], group["ns_steps"], group["eps"])
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                rate = _adjust_lr(group["lr"], group["adjust_lr_fn"], shape)
                torch._foreach_add_(parameters, list(updates.to(parameters[0].dtype).unbind()), alpha=-rate)
        return None


def orthogonal(matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """Newton-Schulz iteration on ``[N, R, C]``: about the nearest matrices with orthonormal rows or columns.

    In bfloat16, as torch has it, where the device computes in it: where that is emulated it takes many times as long.
    """
    a, b, c = coefficients
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.bfloat16() if has_bfloat16(matrices.device) else matrices.float()
    x = x.mT if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
